"""Recalling: from whom a report is taken back, those included with whom its author shared it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kengele_node.monitor.outbox import Entry
from kengele_node.monitor.recalling import plan_recall, read_intent
from kengele_schemas.encoding import b64u, dumps, loads
from kengele_schemas.envelope import parse
from kengele_schemas.errors import Refused
from kengele_schemas.receipt import accepted
from kengele_schemas.sealing import open_envelope
from kengele_testing.log import report as leaf
from kengele_testing.values import KEYS, MONITOR, TODAY, grant, network, planned, report

RULES = network(grant())
HEADER = planned(report(), RULES).header
RECEIPT = accepted(HEADER.id, bytes(32), bytes(32), leaf(1), "proof", repeat=False)
ENTRY = Entry(1, "name", "accepted", 0, 0.0, HEADER.id, receipt=RECEIPT, header=HEADER.claims())


def planned_from(shared: tuple[str, ...], offices: tuple[str, ...] = ()) -> Any:
    return plan_recall(ENTRY, keep=(), offices=offices, reason="", shared=shared)


def test_who_was_given_it_by_a_share_is_told_and_no_number_is_taken_for_it() -> None:
    intent = planned_from(("council", "unrcca"))
    assert intent.offices == ("unrcca", "council")
    readers = intent.readers(RULES, TODAY)
    assert intent.numbered(readers) == ["unrcca"]
    data = intent.seal(b64u(bytes(16)), readers, RULES, MONITOR, {"unrcca": 4})
    author = bytes(MONITOR.verify_key)
    numbers = {one: open_envelope(parse(data), one, [KEYS[one]], author).counter for one in ("unrcca", "council")}
    assert numbers == {"unrcca": 4, "council": None}


def test_it_may_be_taken_back_from_those_alone() -> None:
    assert planned_from(("council",), ("council",)).offices == ("council",)
    with pytest.raises(Refused) as caught:
        planned_from((), ("council",))
    assert caught.value.code == "not-given"


def test_an_intent_is_read_back_as_it_was_kept() -> None:
    intent = planned_from(("council",))
    kept = loads(dumps(intent._asdict()), max_bytes=9999)
    assert read_intent(kept) == intent
    assert read_intent({name: value for name, value in kept.items() if name != "shared"}).shared == ()


def test_an_office_that_only_the_hubs_leaf_names_is_told_no_reason() -> None:
    """The leaf is the hub's word; what was sealed for whom, the author's node knows itself."""
    agreed = {"mode": "policy", "area": "KG-O", "readers": {"cso": {"name": "CSO", "bits": 3}}}
    with pytest.raises(Refused) as caught:
        plan_recall(replace(ENTRY, agreed=agreed), keep=(), offices=(), reason="The neighbour is in danger.")
    assert caught.value.code == "not-given"
    readers = {**agreed["readers"], "unrcca": {"name": "UNRCCA", "bits": 3}}  # type: ignore[dict-item]
    found = plan_recall(replace(ENTRY, agreed={**agreed, "readers": readers}), keep=(), offices=(), reason="")
    assert found.offices == ("unrcca",)
