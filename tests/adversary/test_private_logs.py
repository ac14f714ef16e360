"""A hub that gives each report a log of its own; and one that makes up what offices confirmed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nacl.signing import SigningKey

from kengele_node.monitor.log_memory import TWO_LOGS, LogMemory
from kengele_node.monitor.outbox import Outbox
from kengele_node.monitor.recalling import confirmations
from kengele_node.rows import RowCipher
from kengele_schemas.checkpoint import sign_checkpoint, write_proof
from kengele_schemas.encoding import b64u
from kengele_schemas.envelope import parse
from kengele_schemas.errors import Untrusted
from kengele_schemas.merkle import leaf_hash
from kengele_schemas.recall import sign_confirmation
from kengele_schemas.receipt import Leaf, accepted
from kengele_schemas.trusted import UNNAMED
from kengele_testing.values import HUB, LOG, MONITOR, NOW, grant, network
from unit.node.test_sender import KID, ROWS, Clock, Hub, add, receipt, run, sender

OFFICE = HUB
"""In these values an office signs with the same key as the hub."""


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    box = Outbox(tmp_path / "outbox.db", ROWS, KID)
    yield box
    box.close()


def memory(tmp_path: Path) -> LogMemory:
    return LogMemory(tmp_path, RowCipher(b"k" * 32, "log"))


def test_a_hub_cannot_give_two_reports_one_place_in_two_private_logs(outbox: Outbox, tmp_path: Path) -> None:
    first, second, hub = add(outbox), add(outbox), Hub(receipt)
    run(sender(hub, outbox, Clock(), memory=memory(tmp_path)).send(first))
    # Another process: what was remembered is on the disk.
    other = sender(hub, outbox, Clock(), memory=memory(tmp_path))
    with pytest.raises(Untrusted) as caught:
        run(other.send(second))
    assert caught.value.code == TWO_LOGS
    left = outbox.get(second.name)
    assert left is not None
    assert (left.state, left.envelope, left.receipt) == ("waiting", second.envelope, None)
    (evidence,) = memory(tmp_path).evidence()
    assert evidence.before["leaf"] != evidence.after["leaf"]


def test_a_hub_cannot_show_one_size_with_two_roots(tmp_path: Path, outbox: Outbox) -> None:
    one, two = (parse(add(outbox).envelope or b"") for _ in range(2))
    kept = memory(tmp_path)
    kept.take(_placed(one, 0), LOG, bytes(HUB.verify_key))
    with pytest.raises(Untrusted) as caught:
        kept.take(_placed(two, 1), LOG, bytes(HUB.verify_key))
    assert caught.value.code == TWO_LOGS
    assert len(kept.evidence()) == 1
    with kept._store() as store, store.reading() as connection:
        # The place of the refused one stands against nobody.
        assert connection.execute("SELECT count(*) FROM said").fetchone() == (2,)


def test_a_hub_cannot_give_one_place_twice_in_logs_of_two_sizes(tmp_path: Path, outbox: Outbox) -> None:
    one = parse(add(outbox).envelope or b"")
    kept = memory(tmp_path)
    kept.take(_placed(one, 0), LOG, bytes(HUB.verify_key))
    alone = receipt(add(outbox).envelope or b"")
    with pytest.raises(Untrusted) as caught:
        kept.take(alone, LOG, bytes(HUB.verify_key))
    assert caught.value.code == TWO_LOGS


def test_a_hub_that_was_restored_is_taken_again_once_a_person_says_so_and_the_evidence_stays(
    outbox: Outbox, tmp_path: Path
) -> None:
    first, second, hub = add(outbox), add(outbox), Hub(receipt)
    run(sender(hub, outbox, Clock(), memory=memory(tmp_path)).send(first))
    with pytest.raises(Untrusted, match="contradicts") as caught:
        run(sender(hub, outbox, Clock(), memory=memory(tmp_path)).send(second))
    assert "kengele node outbox --log-restored" in caught.value.mend
    memory(tmp_path).begin_anew()
    run(sender(hub, outbox, Clock(), memory=memory(tmp_path)).send(second))
    left = outbox.get(second.name)
    assert left is not None
    assert left.state == "accepted"
    assert len(memory(tmp_path).evidence()) == 1


def test_one_receipt_twice_and_a_larger_log_contradict_nothing(tmp_path: Path, outbox: Outbox) -> None:
    entry, hub = add(outbox), Hub()
    kept = memory(tmp_path)
    answer = receipt(entry.envelope or b"")
    for _ in range(2):
        kept.take(answer, LOG, bytes(HUB.verify_key))
    run(sender(hub, outbox, Clock(), memory=kept).send(entry))
    found = outbox.get(entry.name)
    assert found is not None
    assert found.state == "accepted"
    assert kept.evidence() == []


def _placed(envelope: Any, index: int) -> bytes:
    """A receipt in a log of two entries, of which this is the one at ``index``."""
    sent = hashlib.sha256(b"sent").digest()
    leaf = Leaf(
        salt=b64u(bytes(16)),
        digest=b64u(envelope.digest),
        bytes=b64u(sent),
        policy=1,
        at="2026-11-24T12:00:00Z",
        decisions=(),
    ).canonical()
    beside = bytes(32)
    pair = (leaf_hash(leaf), beside) if index == 0 else (beside, leaf_hash(leaf))
    root = hashlib.sha256(b"\x01" + b"".join(pair)).digest()
    proof = write_proof(index, [beside], sign_checkpoint(LOG, 2, root, HUB))
    return accepted(envelope.claims["id"], envelope.digest, sent, leaf, proof, repeat=False)


ID, OTHER = b64u(b"1" * 16), b64u(b"2" * 16)
RULES = network(grant())
SIGNS = {"unrcca": OFFICE}


def _told(said: bytes) -> bool:
    """Whether the author's node counts ``said`` as unrcca's word that it obeyed the recall of ID."""
    leaf = Leaf(
        kind="recall",
        salt=b64u(bytes(16)),
        digest=b64u(b"d" * 32),
        bytes=b64u(b"b" * 32),
        policy=1,
        at="2026-11-24T12:00:00Z",
        decisions=(("unrcca", 1, 0, ()),),
        recalls=b64u(b"r" * 32),
    ).canonical()
    proof = write_proof(0, [], sign_checkpoint(LOG, 1, leaf_hash(leaf), HUB))
    entry = SimpleNamespace(
        receipt=accepted(ID, b"d" * 32, b"b" * 32, leaf, proof, repeat=False), header={"recalls": ID}
    )
    found = confirmations({"confirmations": [b64u(said)]}, entry, RULES)  # type: ignore[arg-type]
    assert set(found) == {"unrcca"}
    return found["unrcca"] is not None


def _said(key: SigningKey = OFFICE, report: str = ID, recall: bytes = b"d" * 32, net: str = UNNAMED) -> bytes:
    return sign_confirmation("unrcca", report, recall, network=net, at=NOW, key=key)


def test_an_author_counts_an_offices_own_word() -> None:
    assert _told(_said())


@pytest.mark.parametrize(
    "said",
    [
        _said(key=MONITOR),
        _said(report=OTHER),
        _said(recall=b"e" * 32),
        _said(net=b64u(b"n" * 32)),
    ],
    ids=["not the office's signature", "of another report", "of another recall", "of another network"],
)
def test_a_dishonest_hub_cannot_tell_an_author_that_an_office_obeyed(said: bytes) -> None:
    assert not _told(said)
