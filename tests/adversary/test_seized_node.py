"""What a node yields to whoever has taken it, switched off: its disk and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from kengele_node.monitor.outbox import Outbox
from kengele_node.vault import LIGHT, Lock, Vault
from kengele_schemas.errors import Damaged, Locked

CANARY = "Zq7CANARYx9"
LOCK = Lock(passphrase="a long passphrase")


def test_a_seized_node_yields_no_text_and_no_key_without_the_passphrase(tmp_path: Path) -> None:
    secrets = {"sign": b"S" * 32, "nkey": CANARY.encode()}
    vault = Vault.create(tmp_path, LOCK, secrets, cost=LIGHT)
    box = Outbox(tmp_path / "outbox.db", vault.rows("outbox"), "m-" + "a" * 26)
    for number in range(5):
        draft = {"summary": {"text": CANARY}, "people": {"actors": [CANARY]}, "area": CANARY}
        report_id = f"{number}".rjust(21, "A") + "A"
        entry = box.add(report_id, draft, [CANARY.lower()], lambda _: b"sealed", now=1.0, keep_text=True)
        if number == 2:
            box.refused(entry.name, "out-of-scope", CANARY.encode())
        if number == 3:
            box.accepted(entry.name, CANARY.encode())
    # Not closed: the write-ahead log is there as after a power cut.
    for path in tmp_path.rglob("*"):
        if path.is_file():
            content = path.read_bytes().lower()
            for secret in (CANARY.encode(), b"S" * 32, b"AAAAAAAAAAAA"):
                assert secret.lower() not in content, path.name
    box.close()
    with pytest.raises(Locked) as caught:
        Vault.open(tmp_path, Lock(passphrase="a long passphrasf"))
    assert caught.value.code == "wrong-passphrase"
    assert Vault.open(tmp_path, LOCK).secrets == secrets


def test_rows_of_another_home_or_another_name_do_not_open(tmp_path: Path) -> None:
    one, two = (Vault.create(tmp_path / name, LOCK, {}, cost=LIGHT) for name in ("one", "two"))
    sealed = one.rows("outbox").seal("waiting/a", b"text")
    assert one.rows("outbox").open("waiting/a", sealed) == b"text"
    for cipher, name in (
        (two.rows("outbox"), "waiting/a"),
        (one.rows("inbox"), "waiting/a"),
        (one.rows("outbox"), "b"),
    ):
        with pytest.raises(Damaged):
            cipher.open(name, sealed)
