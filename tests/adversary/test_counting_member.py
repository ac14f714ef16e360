"""A member that wants to know how many others there are, from what the hub may serve it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kengele_node.coordinator import documents as papers
from kengele_schemas import drafts, metadata
from kengele_schemas.cards import CoordinatorCard
from kengele_schemas.encoding import b64u
from kengele_schemas.metadata import document_of
from kengele_schemas.nkeys import KeyPair
from kengele_testing.hub import Roster


def served(monitors: int, recalls: int = 1) -> dict[str, Any]:
    """What of a network with so many monitors more, and recalls, is listed for everyone: each document's length."""
    roster = Roster()
    listed = roster.documents()["connections.json"]
    more = [{"nkey": KeyPair.generate("user").public, "role": "monitor", "member": "m-" + "a" * 26}] * monitors
    cards = [CoordinatorCard.of(key, KeyPair.generate("user")) for key in roster.coordinators]
    keys = (b64u(bytes(key.verify_key)) for key in (roster.snapshot, roster.timestamp))
    documents = {
        **roster.documents(),
        "connections.json": {**listed, "connections": [*listed["connections"], *more]},
    }
    for number in range(recalls):
        documents |= papers.recall(documents, b64u(number.to_bytes(16, "big")), keep=["summary"] * (number % 2))
    files = drafts.found(documents, cards, 2, *keys, datetime.now(UTC)).files()
    assert document_of(files, "connections.json") == documents["connections.json"]
    signed = metadata.signed_part(files[metadata.newest(files, "targets")], metadata.Targets)
    return {path: target.length for path, target in signed.targets.items()}


def test_a_monitor_cannot_count_the_others_by_the_length_of_the_list_it_is_not_served() -> None:
    assert served(0) == served(1) == served(400)


def test_a_monitor_cannot_count_the_recalls_by_the_length_of_the_list_it_is_not_served() -> None:
    assert served(0, 1) == served(0, 2) == served(0, 40)
