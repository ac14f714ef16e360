"""Replay: past reports under other rules, told by the line they stand on, and nothing of an author's caveats undone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kengele_schemas.compartments import ALL_BITS, bitmap
from kengele_schemas.errors import Malformed
from kengele_schemas.fields import read
from kengele_schemas.policy import Rule
from kengele_schemas.release import Compiled
from kengele_schemas.replay import Moved, Sum, records, replay, summed
from oracle.worlds import AREAS, OFFICES, TODAY, policy


def rule(id: str = "g", **fields: object) -> Rule:
    bounds = {"areas": ["AA"], "categories": ["*"], "tlp_up_to": "AMBER", "expires": "2026-12-01"}
    document = {"id": id, "to": ["office:hq"], "grant": ["summary"], "reason": "test", **bounds, **fields}
    return read(Rule, document)


def line(at: str = "2026-11-20T10:00:00Z", had: dict[str, list[str]] | None = None, **header: object) -> bytes:
    decisions = []
    for office, parts in (had or {}).items():
        bits = bitmap(["handling", *parts])
        decisions.append([office, bits, ALL_BITS & ~bits, ["g"]])
    facts = {"area": "AA-1", "categories": ["rumour"], "severity": 3, "tlp": "AMBER", "id": "x", **header}
    return json.dumps({"header": facts, "at": at, "decisions": decisions}).encode()


def moved(*lines: bytes, draft: list[Rule], held: list[Rule] | None = None) -> list[Moved]:
    in_force = None if held is None else Compiled([policy(*held)], OFFICES, AREAS)
    return list(replay(records(lines, TODAY), Compiled([policy(*draft)], OFFICES, AREAS), in_force))


def told(found: list[Moved]) -> list[tuple[int, str, tuple[str, ...], tuple[str, ...]]]:
    return [(one.line, one.office, one.gained, one.lost) for one in found]


def test_the_same_rules_send_every_report_where_it_went() -> None:
    assert moved(line(had={"hq": ["summary"]}), draft=[rule()]) == []


def test_who_would_have_had_more_and_who_less_is_told() -> None:
    draft = [rule(grant=["account"]), rule("c", to=["office:cso"])]
    found = moved(b"\n", line(had={"hq": ["summary"]}), draft=draft)
    assert told(found) == [(2, "cso", ("summary",), ()), (2, "hq", ("account",), ("summary",))]
    assert [one.rules for one in found] == [("c",), ("g",)]


def test_a_report_is_decided_on_the_day_it_was_taken() -> None:
    past, since = line("2026-11-20T10:00:00Z"), line("2026-11-22T10:00:00Z")
    assert [one.line for one in moved(past, since, draft=[rule(expires="2026-11-21")])] == [1]


def test_what_an_author_kept_back_is_not_told_as_a_gain() -> None:
    withheld = line(had={"cso": ["summary"]})
    assert told(moved(withheld, draft=[rule(), rule("c", to=["office:cso"])], held=[rule()])) == []
    found = moved(withheld, draft=[rule(grant=["summary", "account"])], held=[rule()])
    assert ("hq", ("account",)) in [(one.office, one.gained) for one in found]


def test_reports_older_than_ninety_days_and_of_the_future_are_passed_over() -> None:
    days = ("2026-08-25", "2026-08-26", "2026-11-24", "2026-11-25")
    lines = [line(f"{day}T00:00:00Z") for day in days]
    assert [record.at[:10] for _, record in records(lines, TODAY)] == ["2026-08-26", "2026-11-24"]


def test_an_entry_with_its_leaf_is_a_record_too() -> None:
    value = json.loads(line(had={"hq": ["summary"]}))
    entry = {"header": value["header"], "leaf": {"at": value["at"], "decisions": value["decisions"], "kind": "report"}}
    ((_, record),) = records([json.dumps(entry).encode()], TODAY)
    assert record.decisions[0][0] == "hq"


def test_what_a_desk_shows_is_a_record_of_that_office() -> None:
    shown = {"area": "AA-1", "categories": ["rumour"], "severity": 3, "tlp": "AMBER", "day": "2026-11-20"}
    text = json.dumps({**shown, "summary": {"text": "words", "lang": "en"}, "withheld": ["people"], "flags": []})
    ((_, record),) = records([text.encode()], TODAY, office="hq")
    assert record.decisions[0][:2] == ("hq", bitmap(["handling", "summary"]))
    assert "words" not in repr(record)
    with pytest.raises(Malformed):
        list(records([text.encode()], TODAY))


def alike(day: str = "2026-11-20", count: int = 3, **facts: object) -> bytes:
    row = {"day": day, "area": "AA-1", "categories": ["rumour"], "severity": 3, "tlp": "AMBER", "count": count, **facts}
    return json.dumps(row).encode()


def counted(*lines: bytes, draft: list[Rule], held: list[Rule]) -> list[Sum]:
    sides = [Compiled([policy(*rules)], OFFICES, AREAS) for rules in (draft, held)]
    return summed(replay(records(lines, TODAY), *sides), *sides)


def test_headers_alone_are_compared_with_what_the_rules_in_force_grant() -> None:
    assert counted(alike(), draft=[rule()], held=[rule()]) == []
    (gain, loss) = counted(alike(), draft=[rule("c", to=["office:cso"])], held=[rule()])
    assert (gain.office, gain.compartment, gain.gained, gain.rules, gain.reports) == ("cso", "summary", True, ("c",), 3)
    assert (loss.office, loss.compartment, loss.gained, loss.rules, loss.reports) == ("hq", "summary", False, ("g",), 3)


def test_reports_that_move_by_the_same_rules_are_added_up_with_the_last_as_example() -> None:
    lines = [alike("2026-11-20", 3), alike("2026-11-22", 4, severity=5), alike("2026-11-21", 1), alike(area="AA")]
    (one,) = counted(*lines, draft=[rule(), rule("c", to=["office:cso"], areas=["AA-1"])], held=[rule()])
    assert (one.reports, one.rules, one.example.day.isoformat()) == (8, ("c",), "2026-11-22")
    assert one.document()["example"] == {
        "area": "AA-1",
        "categories": ["rumour"],
        "severity": 5,
        "tlp": "AMBER",
        "day": "2026-11-22",
    }


def test_a_loss_is_told_by_the_forbid_that_takes_it() -> None:
    forbid = read(Rule, {"id": "never", "forbid": ["summary"], "to": ["office:hq"], "reason": "test"})
    (one,) = counted(alike(), draft=[rule(), forbid], held=[rule()])
    assert (one.gained, one.rules) == (False, ("never",))


def test_a_loss_that_only_records_tell_is_told_by_the_rules_in_them() -> None:
    draft = Compiled([policy()], OFFICES, AREAS)
    (one,) = summed(replay(records([line(had={"hq": ["summary"]})], TODAY), draft), draft)
    assert (one.reports, one.rules) == (1, ("g",))


BAD: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
    ("no header", lambda value: {name: value[name] for name in ("at", "decisions")}),
    ("a severity of six", lambda value: {**value, "header": {**value["header"], "severity": 6}}),
    ("no such marking", lambda value: {**value, "header": {**value["header"], "tlp": "PINK"}}),
    ("no such day", lambda value: {**value, "at": "2026-02-30T00:00:00Z"}),
    ("no time", lambda value: {**value, "at": "yesterday"}),
    ("an office that is none", lambda value: {**value, "decisions": [["HQ", 3, 0, []]]}),
    ("a list", lambda value: [value]),
    ("a leaf that is none", lambda value: {**value, "leaf": 3}),
    ("nothing", lambda _: None),
    ("a count of none", lambda _: {**json.loads(alike()), "count": 0}),
    ("a count of a word", lambda _: {**json.loads(alike()), "count": "3"}),
    ("a count on no day", lambda _: {**json.loads(alike()), "day": "soon"}),
]


@pytest.mark.parametrize(("sentence", "change"), BAD, ids=[sentence for sentence, _ in BAD])
def test_a_line_that_is_no_record_is_told_by_its_number(sentence: str, change: Callable[[Any], Any]) -> None:
    with pytest.raises(Malformed, match=r"^Line 2: ") as caught:
        list(records([line(), json.dumps(change(json.loads(line()))).encode()], TODAY))
    assert caught.value.code == "bad-record"
