"""Sending shares: only a proof that holds ends one, and the same is sent again until it is there."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kengele_node.rows import RowCipher
from kengele_node.sharing.journal import Journal
from kengele_node.sharing.sending import Outcome, send
from kengele_schemas.checkpoint import sign_checkpoint, write_proof
from kengele_schemas.compartments import bitmap
from kengele_schemas.encoding import b64u, canonical
from kengele_schemas.errors import KengeleError, Refused, Unreachable
from kengele_schemas.merkle import Tree, leaf_hash
from kengele_schemas.nkeys import KeyPair
from kengele_testing.log import digest, report, shared
from kengele_testing.values import HUB, LOG, MONITOR, grant, network

NKEY = KeyPair.generate("user").public
RULES = network(grant())
DATA = canonical({"by": "someone"})
BYTES = b64u(hashlib.sha256(DATA).digest())


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "shares.db", RowCipher(b"k" * 32, "shares"))
    made.add("A" * 22, "council", bitmap(["summary"]), digest(1), DATA)
    yield made
    made.close()


def answer(leaf: bytes, key: Any = HUB, **changes: Any) -> dict[str, Any]:
    """The hub's, with a proof that ``leaf`` is in its log."""
    tree = Tree()
    for entry in (report(1), leaf):
        tree.append(leaf_hash(entry))
    proof = write_proof(1, tree.inclusion(1, 2), sign_checkpoint(LOG, 2, tree.root(2), key))
    return {"code": "shared", "leaf": leaf.decode(), "proof": proof, "repeat": False, **changes}


GOOD = answer(shared(1, bytes=BYTES))


class Line:
    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), list[tuple[str, Any]]()

    async def ask(self, subject: str, document: Any) -> dict[str, Any]:
        self.asked.append((subject, document))
        found = self.answers.pop(0)
        if isinstance(found, KengeleError):
            raise found
        return dict(found)


def sent(journal: Journal, *answers: Any) -> tuple[list[Outcome], Line]:
    line = Line(*answers)
    return asyncio.run(send(line, journal, RULES, NKEY)), line


def test_a_proof_that_holds_ends_it(journal: Journal) -> None:
    (one,), line = sent(journal, GOOD)
    assert (one.code, one.bits) == ("shared", bitmap(["summary"]))
    assert line.asked == [(f"shares.{NKEY}.ask", {"by": "someone"})]
    assert sent(journal)[0] == []


def test_without_an_answer_it_waits_and_the_same_is_sent_again(journal: Journal) -> None:
    with pytest.raises(Unreachable):
        sent(journal, Unreachable("unreachable", "No line."))
    (one,), _ = sent(journal, answer(shared(1, bytes=digest(7)), repeat=True))
    assert one.code == "shared"


def test_a_refusal_is_told_and_ends_it(journal: Journal) -> None:
    (one,), _ = sent(journal, Refused("not-granted", "No.", "Look."))
    assert (one.code, one.sentence, one.mend) == ("not-granted", "No.", "Look.")
    assert journal.waiting() == []
    assert journal.had("A" * 22) == {}


@pytest.mark.parametrize(
    ("sentence", "lie"),
    [
        ("nothing", {"code": "shared"}),
        ("of another report", answer(shared(2, bytes=BYTES))),
        ("for another office", answer(shared(1, bytes=BYTES, decisions=(("cso", 3, 124, ("grant",)),)))),
        ("of other bytes", answer(shared(1))),
        ("a report's leaf", answer(report(1))),
        ("no leaf", {**GOOD, "leaf": "{}"}),
        ("a leaf that is not in the log", {**GOOD, "leaf": shared(1, bytes=BYTES, policy=2).decode()}),
        ("a log that another signed", answer(shared(1, bytes=BYTES), MONITOR)),
        ("no proof", {**GOOD, "proof": ""}),
        ("a number", {**GOOD, "proof": 7}),
    ],
)
def test_a_lie_is_no_answer(journal: Journal, sentence: str, lie: dict[str, Any]) -> None:
    (one,), _ = sent(journal, lie)
    assert one.code == "bad-receipt"
    assert [kept.data for kept in journal.waiting()] == [DATA]
