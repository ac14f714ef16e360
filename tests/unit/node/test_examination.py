"""A log is examined from its first entry on, and the first thing that does not hold is told with its place."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_node.audit.examination import Examination
from kengele_node.audit.query import Query, lines
from kengele_schemas.checkpoint import Checkpoint, verify_checkpoint
from kengele_schemas.encoding import canonical, loads
from kengele_schemas.errors import Untrusted
from kengele_schemas.leaves import ConfirmedLeaf, members, read_entry
from kengele_schemas.receipt import Leaf
from kengele_testing.log import DOCUMENTS, LOG, Log, digest, narrowed, report, shared, version
from kengele_testing.values import HUB, grant

WITHOUT = {**DOCUMENTS, "policy.json": {"v": 1, "version": 2, "rules": []}}
OTHER = {**WITHOUT, "policy.json": {"v": 1, "version": 3, "rules": [grant("other")]}}
MANY = {**WITHOUT, "policy.json": {"v": 1, "version": 2, "rules": [{"id": f"rule-{n}"} for n in range(700)]}}
GOOD = [
    *version(1),
    report(1),
    report(2),
    *version(2, WITHOUT, DOCUMENTS),
    narrowed(1, policy=2),
    report(3, policy=1),
    report(4, policy=2, decisions=(("unrcca", 0, 127, ()),)),
    *version(3, OTHER, WITHOUT),
    report(5, policy=3, decisions=(("unrcca", 6, 121, ("other",)),)),
]


def signed(log: Log) -> Checkpoint:
    return verify_checkpoint(log.note(), LOG, bytes(HUB.verify_key))


def examined(*leaves: bytes, version: int = 0) -> Examination:
    found = Examination(version)
    for leaf in leaves:
        found.take(leaf)
    return found


def test_a_log_that_makes_sense_holds_and_is_counted() -> None:
    log = Log.holding(GOOD)
    found = examined(*log.leaves)
    found.complete(signed(log))
    assert found.counts == {"trust": 3, "report": 5, "narrowed": 1}
    assert found.last == 3


def recall(number: int) -> bytes:
    """The leaf of a recall of report ``number``."""
    return report(100 + number, kind="recall", recalls=digest(number), decisions=(("unrcca", 1, 126, ()),))


def confirmed(number: int, **changes: Any) -> bytes:
    """The leaf of UNRCCA's word that it obeyed the recall of report ``number``."""
    said = {"salt": "A" * 22, "digest": digest(100 + number), "bytes": digest(0), "office": "unrcca", **changes}
    return ConfirmedLeaf(at="2026-11-24T12:00:00Z", **said).canonical()


def test_recalls_and_what_offices_confirmed_belong_to_the_log() -> None:
    log = Log.holding([*GOOD, recall(1), confirmed(1)])
    found = examined(*log.leaves)
    found.complete(signed(log))
    assert (found.counts["recall"], found.counts["confirmed"]) == (1, 1)
    told = [Query(report=digest(1)).answer(at, read_entry(leaf)) for at, leaf in enumerate(log.leaves)]
    (last,) = [one for one in told if one and one["kind"] == "recall"]
    assert (last["recalls"], lines(last)[1:]) == (digest(1), ["    told to unrcca"])
    answer = Query(office="unrcca").answer(len(GOOD) + 1, read_entry(log.leaves[-1]))
    assert answer is not None
    assert "unrcca confirmed the recall" in lines(answer)[0]
    for other in (Query(office="cso"), Query(rule="grant"), Query(policy=1), Query(report=digest(1))):
        assert other.answer(0, read_entry(log.leaves[-1])) is None


@pytest.mark.parametrize(("number", "documents"), [(1, DOCUMENTS), (2, WITHOUT), (3, OTHER)])
def test_who_belonged_to_the_network_at_a_version_follows_from_the_log(number: int, documents: Any) -> None:
    assert examined(*GOOD, version=number).standing == members(documents)


def test_a_version_in_parts_counts_once_they_are_all_there() -> None:
    parts = version(2, MANY, DOCUMENTS)
    assert len(parts) == 3
    whole = examined(*version(1), *parts, version=2)
    assert whole.standing == members(MANY)
    log = Log.holding([*version(1), *parts[:2]])
    with pytest.raises(Untrusted) as caught:
        examined(*log.leaves).complete(signed(log))
    assert caught.value.code == "out-of-sequence"


def changed(leaf: bytes, **members_: Any) -> bytes:
    return canonical({**loads(leaf, max_bytes=1 << 20), **members_})


@pytest.mark.parametrize(
    ("sentence", "leaves", "code"),
    [
        ("bytes that are no leaf", [*GOOD, b"leaf"], "not-a-leaf"),
        ("a kind that is not known", [*GOOD, changed(report(9), kind="note")], "not-a-leaf"),
        ("another spelling", [*GOOD, report(9) + b" "], "not-a-leaf"),
        ("a report before any version", [report(1)], "unknown-policy"),
        ("a version that was not the next", [*version(2)], "out-of-sequence"),
        ("a version left out", [*version(1), *version(3, OTHER, WITHOUT)], "out-of-sequence"),
        ("a version twice", [*version(1), *version(1)], "out-of-sequence"),
        ("a change that does not follow", [*version(1), *version(2, WITHOUT)], "out-of-sequence"),
        (
            "a part left out",
            [*version(1), version(2, MANY, DOCUMENTS)[0], version(2, MANY, DOCUMENTS)[2]],
            "out-of-sequence",
        ),
        ("a part before the first", [*version(1), version(2, MANY, DOCUMENTS)[1]], "out-of-sequence"),
        ("something between two parts", [*version(1), version(2, MANY, DOCUMENTS)[0], report(1)], "out-of-sequence"),
        ("a first part without documents", [changed(version(1)[0], documents={})], "out-of-sequence"),
        ("a report twice", [*GOOD, report(1, policy=3)], "report-twice"),
        ("narrowing a report that is not there", [*GOOD, narrowed(9)], "unknown-report"),
        ("narrowing before the report", [*version(1), narrowed(1), report(1)], "unknown-report"),
        ("sharing a report that is not there", [*GOOD, shared(9)], "unknown-report"),
        ("sharing a recall", [*GOOD, recall(1), shared(101)], "unknown-report"),
        ("sharing by rules that were not in force", [*GOOD, shared(1, policy=9)], "unknown-policy"),
        (
            "sharing by a rule that nobody signed",
            [*GOOD, shared(1, decisions=(("unrcca", 6, 121, ("mine",)),))],
            "unknown-rule",
        ),
        ("sharing with nobody's office", [*GOOD, shared(1, decisions=(("spy", 6, 121, ()),))], "unknown-office"),
        ("recalling a report that is not there", [*GOOD, recall(9)], "unknown-report"),
        ("confirming a recall that is not there", [*GOOD, confirmed(9)], "unknown-report"),
        ("confirming what is no recall", [*GOOD, confirmed(1, digest=digest(1))], "unknown-report"),
        ("an office's word that was never admitted", [*GOOD, recall(1), confirmed(1, office="x1")], "unknown-office"),
        ("rules that were not in force yet", [*version(1), report(1, policy=2)], "unknown-policy"),
        (
            "rules that were replaced long ago",
            [*GOOD, changed(report(9), policy=2, at="2026-11-25T12:00:01Z")],
            "old-policy",
        ),
        (
            "a rule that nobody signed",
            [*version(1), report(1, decisions=(("unrcca", 6, 121, ("mine",)),))],
            "unknown-rule",
        ),
        (
            "an office that nobody admitted",
            [*version(1), report(1, decisions=(("spy", 6, 121, ("grant",)),))],
            "unknown-office",
        ),
    ],
)
def test_what_makes_no_sense_is_told_by_its_place(sentence: str, leaves: list[bytes], code: str) -> None:
    with pytest.raises(Untrusted) as caught:
        examined(*leaves)
    assert caught.value.code == code
    assert "Entry " in caught.value.sentence


def test_an_office_that_a_report_was_sealed_for_in_vain_is_no_matter() -> None:
    examined(*version(1), report(1, decisions=(("spy", 0, 127, ()),)))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_no_entry_can_be_rewritten_dropped_doubled_or_moved_unnoticed(data: st.DataObject) -> None:
    log = Log.holding(GOOD)
    checkpoint = signed(log)
    leaves = list(GOOD)
    at = data.draw(st.integers(0, len(leaves) - 1))
    what = data.draw(st.sampled_from(["rewrite", "drop", "double", "move"]))
    if what == "rewrite":
        leaves[at] = changed(leaves[at], salt="B" * 21 + "g")
    elif what == "drop":
        del leaves[at]
    elif what == "double":
        leaves.insert(at, leaves[at])
    else:
        other = data.draw(st.integers(0, len(leaves) - 1).filter(lambda place: place != at))
        leaves.insert(other, leaves.pop(at))
    with pytest.raises(Untrusted):
        examined(*leaves).complete(checkpoint)


def test_a_checkpoint_that_was_seen_before_must_be_of_this_log() -> None:
    log, found = Log.holding(GOOD), examined(*GOOD)
    for size in range(len(GOOD) + 1):
        found.agree(Checkpoint(LOG, size, log.tree.root(size)))
        if size:
            with pytest.raises(Untrusted) as caught:
                found.agree(Checkpoint(LOG, size, bytes(32)))
            assert caught.value.code == "log-forked"
    with pytest.raises(Untrusted) as caught:
        found.agree(Checkpoint(LOG, len(GOOD) + 1, bytes(32)))
    assert caught.value.code == "log-rolled-back"


def test_a_leaf_says_nothing_but_digests_ids_and_bits() -> None:
    assert set(Leaf.model_fields) == {"v", "kind", "salt", "digest", "bytes", "policy", "at", "decisions", "recalls"}
