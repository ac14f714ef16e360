"""Who was given what, under which rule and version, and when."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from kengele_node.audit.query import Query, lines
from kengele_schemas.leaves import read_entry
from kengele_testing.log import DOCUMENTS, digest, narrowed, report, shared, version
from kengele_testing.values import KID, grant

AFTER = {**DOCUMENTS, "policy.json": {"v": 1, "version": 2, "rules": [grant("other")]}}
TWO = (("council", 0, 127, ("never",)), ("unrcca", 6, 121, ("grant", "more")))
LEAVES = [
    *version(1),
    report(1),
    report(2, policy=1, at="2026-12-01T00:00:00Z", decisions=TWO),
    *version(2, AFTER, DOCUMENTS),
    narrowed(2, policy=2, at="2026-12-02T23:59:59Z"),
]


def found(**asked: Any) -> list[dict[str, Any]]:
    query = Query(**asked)
    answers = (query.answer(index, read_entry(leaf)) for index, leaf in enumerate(LEAVES))
    return [answer for answer in answers if answer is not None]


@pytest.mark.parametrize(
    ("sentence", "asked", "entries"),
    [
        ("all", {}, [0, 1, 2, 3, 4]),
        ("one report", {"report": digest(2)}, [2, 4]),
        ("a report that nobody sent", {"report": digest(9)}, []),
        ("an office", {"office": "unrcca"}, [0, 1, 2, 4]),
        ("an office that was refused", {"office": "council"}, [0, 2]),
        ("an office that there is not", {"office": "spy"}, []),
        ("a rule", {"rule": "more"}, [2]),
        ("a rule that came and decided", {"rule": "grant"}, [0, 1, 2, 3]),
        ("a monitor", {"member": KID}, [0]),
        ("a version of the rules", {"policy": 2}, [3, 4]),
        ("from a day on", {"since": date(2026, 12, 1)}, [2, 4]),
        ("up to a day", {"until": date(2026, 12, 1)}, [0, 1, 2, 3]),
        ("one day", {"since": date(2026, 12, 2), "until": date(2026, 12, 2)}, [4]),
        ("an office by a rule", {"office": "council", "rule": "more"}, [0]),
        ("a report to an office", {"report": digest(2), "office": "council"}, [2]),
    ],
)
def test_who_asks_for(sentence: str, asked: dict[str, Any], entries: list[int]) -> None:
    assert [one["entry"] for one in found(**asked)] == entries


def test_an_answer_names_what_was_given_and_by_which_rule() -> None:
    (one,) = found(report=digest(2), rule="more")
    assert one == {
        "entry": 2,
        "kind": "report",
        "at": "2026-12-01T00:00:00Z",
        "report": digest(2),
        "policy": 1,
        "given": [
            {
                "office": "unrcca",
                "released": ["summary", "account"],
                "withheld": ["handling", "place", "people", "source", "media"],
                "rules": ["grant", "more"],
            }
        ],
    }


def test_a_share_is_told_with_whose_word_it_was() -> None:
    for by, said in (("author", "shared by its author"), ("custodian", "shared by the custodian")):
        answer = Query(report=digest(2)).answer(7, read_entry(shared(2, by=by)))
        assert answer is not None
        assert answer["by"] == by
        assert lines(answer) == [
            f"#7  2026-11-24T12:00:00Z  report {digest(2)} {said} under policy 1",
            "    council: handling, summary (rules: grant)",
        ]


def test_a_change_is_told_by_what_became_of_whom() -> None:
    (one,) = found(rule="other")
    assert one["changes"] == [{"what": "rule", "id": "other", "how": "added"}]
    assert (one["version"], one["policy"]) == (2, 2)


def test_a_person_reads_each_answer_on_lines_of_its_own() -> None:
    told = [line for one in found(report=digest(2)) for line in lines(one)]
    assert told == [
        f"#2  2026-12-01T00:00:00Z  report {digest(2)} under policy 1",
        "    council: nothing (rules: never)",
        "    unrcca: summary, account (rules: grant, more)",
        f"#4  2026-12-02T23:59:59Z  report {digest(2)} narrowed under policy 2",
        "    unrcca: nothing (no rule)",
    ]
    assert "    rule other: added" in [line for one in found(rule="other") for line in lines(one)]
