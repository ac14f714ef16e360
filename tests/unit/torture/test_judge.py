"""The judge can fail: a run that is doctored in one place is found out in that place, and an honest one is clean."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from torture import judge
from torture.judge import GRACE, Judge, Verdict, granted

Run = dict[str, Any]
OFFICES = ("council", "unrcca")
EVERYTHING = {"office": "unrcca", "parts": ["summary", "account"], "areas": ["KG-O"]} | {
    "min_severity": 1,
    "tlp_up_to": "RED",
}
SUMMARIES = {**EVERYTHING, "office": "council", "parts": ["summary"]}


def draft(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "area": "KG-O",
        "categories": ["rumour"],
        "severity": 2,
        "day": "2026-11-01",
        "tlp": "AMBER",
        "summary": {"text": f"summary {number}", "lang": "en"},
        "account": {"text": f"account {number}", "lang": "en"},
        **changes,
    }


def item(number: int, *parts: str, pol: int = 2) -> dict[str, Any]:
    """Report ``number`` as a desk shows it."""
    written = draft(number)
    clear = {name: value for name, value in written.items() if name not in judge.PARTS}
    return {"id": f"r{number}", "kid": "m-1", "pol": pol, **clear, **{part: written[part] for part in parts}}


def honest() -> Run:
    """Five reports under one version of the rules, all acknowledged, all where they ought to be."""
    numbers = range(5)
    return {
        "journal": [
            {"what": "world", "t": 0, "offices": list(OFFICES), "monitors": {"node-0": "m-1"}},
            {"what": "publishing", "t": 1, "version": 2, "grants": [EVERYTHING, SUMMARIES]},
            {"what": "published", "t": 2, "version": 2},
            *(
                {"what": "submit", "t": 10 + n, "id": f"r{n}", "node": "node-0", "kid": "m-1", "pol": 2}
                | {"draft": draft(n)}
                for n in numbers
            ),
            *({"what": "ack", "t": 20 + n, "id": f"r{n}"} for n in numbers),
            {"what": "kill", "t": 21, "name": "hub-0"},
        ],
        "desks": {
            "unrcca": [item(n, "summary", "account") for n in numbers],
            "council": [item(n, "summary") for n in numbers],
        },
        "outboxes": {"node-0": [{"id": f"r{n}", "state": "accepted"} for n in numbers]},
        "feeds": {office: [{"sequence": 1 + n, "item": f"r{n}"} for n in numbers] for office in OFFICES},
    }


def judged(run: Run, home: Path) -> Verdict:
    write(run, home)
    return Judge(home).judge()


def write(run: Run, home: Path) -> None:
    for folder in ("journal", "desks", "outboxes", "feeds"):
        (home / folder).mkdir()
    lines(home / "journal" / "driver.jsonl", run["journal"])
    for office in OFFICES:
        lines(home / "desks" / f"{office}.jsonl", run["desks"][office])
        lines(home / "feeds" / f"{office}.jsonl", run["feeds"][office])
    for node, entries in run["outboxes"].items():
        lines(home / "outboxes" / f"{node}.json", [{"entries": entries}])


def lines(path: Path, values: list[Any]) -> None:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))


def counts(verdict: Verdict) -> dict[str, int]:
    """What ought to be nothing and is not."""
    names = ("missing", "doubled", "wrongly_delivered", "delivered_after_revocation", "forged_accepted")
    return {name: count for name in names if (count := getattr(verdict, name))}


def test_an_honest_run_is_clean(tmp_path: Path) -> None:
    verdict = judged(honest(), tmp_path)
    assert counts(verdict) == {}
    assert verdict.clean
    assert (verdict.acknowledged, verdict.delivered, verdict.loose) == (5, 10, 0)


def remove_one(run: Run) -> None:
    del run["desks"]["council"][3]


def remove_a_part(run: Run) -> None:
    del run["desks"]["unrcca"][3]["account"]


def double_one(run: Run) -> None:
    run["desks"]["unrcca"].append(copy.deepcopy(run["desks"]["unrcca"][0]))


def give_a_part_too_much(run: Run) -> None:
    run["desks"]["council"][1] = item(1, "summary", "account")


def give_it_to_who_is_denied(run: Run) -> None:
    run["journal"][4]["draft"]["handling"] = {"caveats": [{"not_to": ["office:council"]}]}
    run["desks"]["unrcca"][1]["handling"] = run["journal"][4]["draft"]["handling"]


def change_a_text(run: Run) -> None:
    run["desks"]["unrcca"][2]["account"] = {"text": "another", "lang": "en"}


def change_the_severity(run: Run) -> None:
    run["desks"]["unrcca"][2]["severity"] = 5


def invent_one(run: Run) -> None:
    run["desks"]["unrcca"].append(item(99, "summary", "account"))


def acknowledge_what_was_not_submitted(run: Run) -> None:
    run["outboxes"]["node-0"].append({"id": "r99", "state": "accepted"})


def put_it_under_another_author(run: Run) -> None:
    run["desks"]["unrcca"][2]["kid"] = "m-2"


def take_from_who_was_revoked(run: Run) -> None:
    """All was submitted after it: five acknowledged, each on two desks."""
    run["journal"] += [{"what": "revoking", "t": 3, "kid": "m-1"}, {"what": "revoked", "t": 4, "kid": "m-1"}]


def deliver_what_waited_of_who_was_revoked(run: Run) -> None:
    run["journal"] += [{"what": "revoking", "t": 30, "kid": "m-1"}, {"what": "revoked", "t": 31, "kid": "m-1"}]
    run["journal"] += [{"what": "fence", "t": 41, "kid": "m-1", "office": "unrcca", "sequence": 4}]


def put_a_forged_one_on_a_desk(run: Run) -> None:
    run["journal"].append({"what": "forged", "t": 3, "id": "f1", "text": "forged"})
    run["desks"]["unrcca"].append({**item(98, "summary"), "id": "f1", "summary": {"text": "forged", "lang": "en"}})


def put_a_forged_one_under_a_taken_id(run: Run) -> None:
    run["journal"].append({"what": "forged", "t": 3, "id": "r1", "text": "forged"})
    run["desks"]["unrcca"][1]["summary"] = {"text": "forged", "lang": "en"}


def take_a_forged_one(run: Run) -> None:
    run["journal"].append({"what": "forged-taken", "t": 3})


@pytest.mark.parametrize(
    ("doctor", "found"),
    [
        (remove_one, {"missing": 1}),
        (remove_a_part, {"missing": 1}),
        (double_one, {"doubled": 1}),
        (give_a_part_too_much, {"wrongly_delivered": 1}),
        (give_it_to_who_is_denied, {"wrongly_delivered": 1}),
        (change_a_text, {"wrongly_delivered": 1}),
        (change_the_severity, {"wrongly_delivered": 1}),
        (invent_one, {"wrongly_delivered": 1}),
        (acknowledge_what_was_not_submitted, {"wrongly_delivered": 1}),
        (put_it_under_another_author, {"wrongly_delivered": 1}),
        (take_from_who_was_revoked, {"delivered_after_revocation": 15}),
        (deliver_what_waited_of_who_was_revoked, {"delivered_after_revocation": 1}),
        (put_a_forged_one_on_a_desk, {"forged_accepted": 1}),
        (put_a_forged_one_under_a_taken_id, {"forged_accepted": 1}),
        (take_a_forged_one, {"forged_accepted": 1}),
    ],
)
def test_what_is_doctored_is_counted(doctor: Callable[[Run], None], found: dict[str, int], tmp_path: Path) -> None:
    run = honest()
    doctor(run)
    verdict = judged(run, tmp_path)
    assert counts(verdict) == found
    assert not verdict.clean


def changed_rules(at: float) -> list[dict[str, Any]]:
    """The next version, by which ``council`` reads nothing."""
    return [
        {"what": "publishing", "t": at, "version": 3, "grants": [EVERYTHING]},
        {"what": "published", "t": at + 1, "version": 3},
    ]


def test_a_desk_may_be_without_what_newer_rules_withhold_and_only_as_long_as_they_may_hold(tmp_path: Path) -> None:
    run = honest()
    run["journal"] += changed_rules(30)
    run["desks"]["council"] = []
    assert counts(judged(run, tmp_path)) == {}


def test_a_desk_may_hold_what_older_rules_gave_until_they_can_hold_no_more(tmp_path: Path) -> None:
    run = honest()
    run["journal"] += changed_rules(8 - GRACE)
    # Sealed under the old rules, all submitted when they could not hold any more: the node was behind.
    verdict = judged(run, tmp_path)
    assert counts(verdict) == {"wrongly_delivered": 5}


def test_within_the_grace_either_version_may_have_decided(tmp_path: Path) -> None:
    run = honest()
    run["journal"] += changed_rules(14)
    run["desks"]["council"] = run["desks"]["council"][:3]
    verdict = judged(run, tmp_path)
    assert counts(verdict) == {}
    assert verdict.loose == 3


def test_what_was_seen_on_a_desk_before_newer_rules_was_decided_by_the_older(tmp_path: Path) -> None:
    run = honest()
    run["journal"] += [{"what": "seen", "t": 25, "office": "council", "id": f"r{n}"} for n in range(5)]
    run["journal"] += changed_rules(30)
    assert judged(run, tmp_path).loose == 0


def test_what_a_revoked_member_had_sent_may_be_withheld_and_is_told(tmp_path: Path) -> None:
    run = honest()
    run["journal"] += [{"what": "revoking", "t": 30, "kid": "m-1"}, {"what": "revoked", "t": 31, "kid": "m-1"}]
    run["journal"] += [{"what": "fence", "t": 41, "kid": "m-1", "office": office, "sequence": 9} for office in OFFICES]
    remove_one(run)
    verdict = judged(run, tmp_path)
    assert counts(verdict) == {}
    assert verdict.excused == 1


def test_what_nobody_acknowledged_may_be_missing(tmp_path: Path) -> None:
    run = honest()
    remove_one(run)
    run["journal"] = [line for line in run["journal"] if line["what"] != "ack"]
    run["outboxes"] = {"node-0": [{"id": "r3", "state": "waiting"}]}
    assert counts(judged(run, tmp_path)) == {}


def test_a_line_that_a_killed_writer_left_unfinished_hides_no_other(tmp_path: Path) -> None:
    run = honest()
    write(run, tmp_path)
    path = tmp_path / "journal" / "driver.jsonl"
    text = path.read_text()
    path.write_text('{"what":"submit","id":"r7","dra\n' + text)
    assert Judge(tmp_path).judge().clean


def test_a_grant_gives_what_it_says_and_no_more() -> None:
    report = draft(1)
    assert granted([EVERYTHING], "unrcca", report) == {"summary", "account"}
    assert granted([EVERYTHING], "council", report) == set()
    assert granted([{**EVERYTHING, "min_severity": 3}], "unrcca", report) == set()
    assert granted([{**EVERYTHING, "tlp_up_to": "GREEN"}], "unrcca", report) == set()
    assert granted([{**EVERYTHING, "areas": ["KG-B"]}], "unrcca", report) == set()
    assert granted([EVERYTHING], "unrcca", {**report, "handling": {}}) == {"summary", "account", "handling"}


def test_the_judge_is_a_program_that_takes_nothing_from_kengele_or_the_driver(tmp_path: Path) -> None:
    write(honest(), tmp_path)
    alone = ["-I", "-S", judge.__file__, str(tmp_path)]
    said = subprocess.run([sys.executable, *alone], capture_output=True, text=True, check=True).stdout
    found = json.loads(said)
    assert (found["clean"], found["kills"], found["submitted"]) == (True, 1, 5)
