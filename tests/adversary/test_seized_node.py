"""What a node yields to whoever has taken it, switched off: its disk and nothing else."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from kengele_node.member import Member
from kengele_node.monitor.outbox import Outbox
from kengele_node.vault import LIGHT, Lock, Vault, make_key_file
from kengele_schemas.cards import Joiner, NetworkCard
from kengele_schemas.disk import write
from kengele_schemas.encoding import b64u
from kengele_schemas.errors import Damaged, Locked, Untrusted
from kengele_schemas.nkeys import KeyPair
from kengele_testing.trust import Paper

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


def card(paper: Paper) -> NetworkCard:
    root = paper.founded()["metadata/1.root.json"]
    return NetworkCard(
        name="Bell",
        urls=("tls://hub.example.org:4222",),
        join=Joiner(jwt="e30", seed=KeyPair.generate("user").seed),
        root=b64u(root),
        root_digest=b64u(hashlib.sha256(root).digest()),
    )


def test_a_home_given_back_with_another_networks_card_seals_nothing_for_it(tmp_path: Path) -> None:
    """Whoever has had the disk in hand wants the node to seal for offices of their own from now on."""
    own, other = card(Paper()), card(Paper())
    lock = make_key_file(tmp_path / "key")
    member = Member.create(tmp_path / "home", lock, "monitor", {}, card=own)
    path = tmp_path / "home" / "network.json"
    path.write_bytes(other.encode())
    back = Member.open(tmp_path / "home", lock, "monitor")
    for use in (lambda: back.card, lambda: back.trust, back.offline):
        with pytest.raises(Untrusted) as caught:
            use()
        assert caught.value.code == "another-network"
    path.write_bytes(own.encode())
    assert back.card == member.card == own
    # Who knows the passphrase may move to another network.
    back.join(other)
    assert Member.open(tmp_path / "home", lock, "monitor").card == other


def test_a_file_put_in_the_way_of_a_secret_reads_nothing_of_it(tmp_path: Path) -> None:
    trap = tmp_path / "key"
    trap.touch()
    trap.chmod(0o666)
    with trap.open("rb") as ear:
        write(tmp_path / "key", b"secret")
        assert ear.read() == b""
    assert (tmp_path / "key").read_bytes() == b"secret"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


_ASKED = """
import contextlib, ctypes, resource, sys
from kengele_node.cli import main
sys.argv = ["kengele", "--version"]
with contextlib.suppress(SystemExit):
    main()
print(*resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_command_leaves_no_core_file_and_lets_no_other_process_look_into_its_memory() -> None:
    told = subprocess.run([sys.executable, "-c", _ASKED], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.splitlines()[-1] == "0 0 0"
