"""The vault: opened by what locked it and nothing else, whole after every crash, plain about what is wrong."""

from __future__ import annotations

import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_node import vault as vault_module
from kengele_node.rows import RowCipher, Store
from kengele_node.vault import LIGHT, Cost, Lock, Vault, make_key_file, occupied
from kengele_schemas.disk import write
from kengele_schemas.encoding import b64u, canonical
from kengele_schemas.errors import Damaged, Locked, Refused

PASSPHRASE = "correct horse battery"
SECRETS = {"signing": b"\x01" * 32, "nkey": b"SU-secret"}


def made(home: Path, **options: Any) -> Vault:
    return Vault.create(home, Lock(PASSPHRASE), SECRETS, cost=LIGHT, **options)


def test_secrets_come_back_with_the_passphrase(tmp_path: Path) -> None:
    made(tmp_path / "home")
    assert Vault.open(tmp_path / "home", Lock(PASSPHRASE)).secrets == SECRETS


def test_the_home_and_its_file_are_for_this_user_only(tmp_path: Path) -> None:
    made(tmp_path / "home")
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    assert [file.stat().st_mode & 0o777 for file in (tmp_path / "home").iterdir()] == [0o600]


def test_one_passphrase_typed_on_two_keyboards_is_one(tmp_path: Path) -> None:
    Vault.create(tmp_path, Lock("caf\u00e9 au lait"), SECRETS, cost=LIGHT)
    assert Vault.open(tmp_path, Lock("cafe\u0301 au lait")).secrets == SECRETS


def test_a_wrong_passphrase_is_told_from_a_damaged_file(tmp_path: Path) -> None:
    made(tmp_path)
    with pytest.raises(Locked) as locked:
        Vault.open(tmp_path, Lock(PASSPHRASE + " "))
    assert locked.value.code == "wrong-passphrase"
    file = tmp_path / "vault.json"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(Damaged) as damaged:
        Vault.open(tmp_path, Lock(PASSPHRASE))
    assert damaged.value.code == "damaged-vault"
    assert "backup" in damaged.value.mend


def test_any_one_changed_byte_is_noticed(tmp_path: Path) -> None:
    made(tmp_path)
    file = tmp_path / "vault.json"
    whole = file.read_bytes()

    @settings(max_examples=100, deadline=None)
    @given(st.integers(0, len(whole) - 1), st.integers(1, 255))
    def changed(position: int, by: int) -> None:
        data = bytearray(whole)
        data[position] ^= by
        file.write_bytes(data)
        with pytest.raises(Damaged):
            Vault.open(tmp_path, Lock(PASSPHRASE))

    changed()


def rewritten(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """A change by someone who sets the checksum right again."""

    def apply(data: bytes) -> bytes:
        document = json.loads(data)
        document.pop("checksum")
        change(document)
        document["checksum"] = vault_module._checksum(document)
        return canonical(document)

    return apply


@pytest.mark.parametrize(
    ("change", "error", "code"),
    [
        (lambda d: d["lock"].update(passes=2), Locked, "wrong-passphrase"),
        (lambda d: d["lock"].update(memory=16384), Locked, "wrong-passphrase"),
        (lambda d: d["lock"].update(salt=b64u(bytes(16))), Locked, "wrong-passphrase"),
        (lambda d: d["lock"].update(note="x"), Locked, "wrong-passphrase"),
        (lambda d: d.update(key=d["secrets"]), Locked, "wrong-passphrase"),
        (lambda d: d.update(secrets=d["key"]), Damaged, "damaged-vault"),
        (lambda d: d["lock"].update(memory=1 << 40), Damaged, "damaged-vault"),
        (lambda d: d["lock"].update(memory=1), Damaged, "damaged-vault"),
        (lambda d: d["lock"].update(memory=True), Damaged, "damaged-vault"),
        (lambda d: d["lock"].update(passes=10**6), Damaged, "damaged-vault"),
        (lambda d: d["lock"].update(passes=0), Damaged, "damaged-vault"),
        (lambda d: d["lock"].update(kind="none"), Damaged, "damaged-vault"),
        (lambda d: d["lock"].update(salt=""), Damaged, "damaged-vault"),
        (lambda d: d.update(lock=[]), Damaged, "damaged-vault"),
        (lambda d: d.pop("key"), Damaged, "damaged-vault"),
        (lambda d: d.update(v=2), Damaged, "newer-home"),
    ],
)
def test_a_file_altered_on_purpose_neither_opens_nor_costs_what_its_author_likes(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], error: type[Exception], code: str
) -> None:
    made(tmp_path)
    file = tmp_path / "vault.json"
    file.write_bytes(rewritten(change)(file.read_bytes()))
    with pytest.raises(error) as caught:
        Vault.open(tmp_path, Lock(PASSPHRASE))
    assert getattr(caught.value, "code", None) == code


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b'{"v":1}', b"\xff" * 100])
def test_what_is_no_vault_is_damaged(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "vault.json").write_bytes(data)
    with pytest.raises(Damaged):
        Vault.open(tmp_path, Lock(PASSPHRASE))


def test_an_empty_directory_says_that_there_is_no_vault(tmp_path: Path) -> None:
    with pytest.raises(Damaged) as caught:
        Vault.open(tmp_path, Lock(PASSPHRASE))
    assert caught.value.code == "no-vault"


def test_a_vault_is_never_overwritten_by_a_new_one(tmp_path: Path) -> None:
    made(tmp_path)
    with pytest.raises(Refused) as caught:
        made(tmp_path)
    assert caught.value.code == "exists"
    assert Vault.open(tmp_path, Lock(PASSPHRASE)).secrets == SECRETS


def test_a_short_passphrase_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        Vault.create(tmp_path, Lock("short"), SECRETS, cost=LIGHT)
    assert caught.value.code == "weak-passphrase"
    assert list(tmp_path.iterdir()) == []


def test_replaced_secrets_are_there_after_opening_again(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault.replace({"signing": b"new"})
    assert vault.secrets == {"signing": b"new"}
    assert Vault.open(tmp_path, Lock(PASSPHRASE)).secrets == {"signing": b"new"}


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_full_disk_leaves_the_old_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    vault = made(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(Damaged) as caught:
            vault.replace({"signing": b"new"})
    assert caught.value.code == "storage-full"
    assert vault.secrets == SECRETS
    assert Vault.open(tmp_path, Lock(PASSPHRASE)).secrets == SECRETS
    assert [file.name for file in tmp_path.iterdir()] == ["vault.json"]


def test_writes_reach_the_disk_in_the_order_that_a_power_cut_forgives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(descriptor: int) -> None:
        steps.append("directory" if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir() else "file")
        fsync(descriptor)

    def noted_rename(source: str, target: str, **folders: int) -> None:
        steps.append("rename")
        rename(source, target, **folders)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    write(tmp_path / "x", b"data")
    assert steps == ["file", "rename", "directory"]


def test_a_new_lock_opens_and_the_old_does_not(tmp_path: Path) -> None:
    vault = made(tmp_path)
    sealed = vault.rows("outbox").seal("1", b"text")
    vault.relock(Lock("another good one"), cost=LIGHT)
    with pytest.raises(Locked):
        Vault.open(tmp_path, Lock(PASSPHRASE))
    again = Vault.open(tmp_path, Lock("another good one"))
    assert again.secrets == SECRETS
    assert again.rows("outbox").open("1", sealed) == b"text"


class TestKeyFile:
    def test_opens_what_it_locked(self, tmp_path: Path) -> None:
        lock = make_key_file(tmp_path / "key")
        assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
        Vault.create(tmp_path / "home", lock, SECRETS)
        assert Vault.open(tmp_path / "home", Lock(key_file=tmp_path / "key")).secrets == SECRETS

    def test_is_never_overwritten(self, tmp_path: Path) -> None:
        make_key_file(tmp_path / "key")
        with pytest.raises(Refused):
            make_key_file(tmp_path / "key")

    @pytest.mark.parametrize(
        ("content", "mode", "code"),
        [
            (b"\x07" * 32, 0o600, "wrong-key-file"),
            (b"\x07" * 31, 0o600, "wrong-key-file"),
            (b"\x07" * 33, 0o600, "wrong-key-file"),
            (None, 0o640, "key-exposed"),
            (None, 0o604, "key-exposed"),
        ],
    )
    def test_another_or_an_exposed_one_does_not_open(
        self, tmp_path: Path, content: bytes | None, mode: int, code: str
    ) -> None:
        lock = make_key_file(tmp_path / "key")
        Vault.create(tmp_path / "home", lock, SECRETS)
        if content is not None:
            (tmp_path / "key").write_bytes(content)
        (tmp_path / "key").chmod(mode)
        with pytest.raises(Locked) as caught:
            Vault.open(tmp_path / "home", lock)
        assert caught.value.code == code

    @pytest.mark.parametrize("length", [0, 1, 31, 33, 4096])
    def test_of_another_length_locks_no_vault(self, tmp_path: Path, length: int) -> None:
        """A file that others may guess, an empty one or a text, would lock nothing."""
        (tmp_path / "key").write_bytes(b"\x07" * length)
        (tmp_path / "key").chmod(0o600)
        with pytest.raises(Locked) as caught:
            Vault.create(tmp_path / "home", Lock(key_file=tmp_path / "key"), SECRETS)
        assert caught.value.code == "wrong-key-file"
        assert not (tmp_path / "home/vault.json").exists()

    def test_that_is_missing_is_said_so(self, tmp_path: Path) -> None:
        with pytest.raises(Locked) as caught:
            Vault.create(tmp_path / "home", Lock(key_file=tmp_path / "key"), SECRETS)
        assert caught.value.code == "no-key-file"

    def test_and_passphrase_do_not_stand_in_for_each_other(self, tmp_path: Path) -> None:
        lock = make_key_file(tmp_path / "key")
        Vault.create(tmp_path / "one", lock, SECRETS)
        made(tmp_path / "two")
        with pytest.raises(Locked):
            Vault.open(tmp_path / "one", Lock(PASSPHRASE))
        with pytest.raises(Locked):
            Vault.open(tmp_path / "two", lock)

    @pytest.mark.parametrize("options", [{}, {"passphrase": PASSPHRASE, "key_file": Path("key")}])
    def test_or_passphrase_exactly_one_is_given(self, options: dict[str, Any]) -> None:
        with pytest.raises(Locked):
            Lock(**options)


def test_no_secret_shows_when_printed(tmp_path: Path) -> None:
    vault = made(tmp_path)
    shown = f"{vault!r} {vault} {Lock(PASSPHRASE)!r} {vault.rows('x')!r}"
    assert PASSPHRASE not in shown
    assert "SU-secret" not in shown


class TestRows:
    @settings(max_examples=50)
    @given(st.binary(max_size=2000))
    def test_come_back_as_sealed(self, data: bytes) -> None:
        rows = RowCipher(b"k" * 32, "outbox")
        assert rows.open("name", rows.seal("name", data)) == data

    def test_open_under_their_own_key_purpose_and_name_only(self) -> None:
        rows = RowCipher(b"k" * 32, "outbox")
        sealed = rows.seal("1", b"text")
        for cipher, name, data in (
            (RowCipher(b"l" * 32, "outbox"), "1", sealed),
            (RowCipher(b"k" * 32, "inbox"), "1", sealed),
            (rows, "2", sealed),
            (rows, "1", sealed[:-1]),
            (rows, "1", sealed[:10]),
            (rows, "1", b""),
            (rows, "1", sealed[:-1] + bytes([sealed[-1] ^ 1])),
        ):
            with pytest.raises(Damaged) as caught:
                cipher.open(name, data)
            assert caught.value.code == "damaged-row"

    def test_tell_their_length_in_blocks_only(self) -> None:
        rows = RowCipher(b"k" * 32, "outbox")
        assert len({len(rows.seal("1", bytes(length))) for length in range(253)}) == 1
        assert len(rows.seal("1", bytes(253))) > len(rows.seal("1", bytes(252)))

    def test_are_sealed_anew_each_time_and_found_by_the_same_hash(self) -> None:
        rows = RowCipher(b"k" * 32, "outbox")
        assert rows.seal("1", b"x") != rows.seal("1", b"x")
        assert rows.blind("unrcca") == rows.blind("unrcca")
        assert rows.blind("unrcca") not in (RowCipher(b"k" * 32, "inbox").blind("unrcca"), rows.blind("unoca"))


class TestStore:
    SCHEMA = "CREATE TABLE t (x BLOB)"

    def test_is_for_this_user_only_log_included(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "s.db", self.SCHEMA)
        with store.transaction() as connection:
            connection.execute("INSERT INTO t VALUES (?)", (b"x",))
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
        store.close()
        assert modes == {"s.db": 0o600, "s.db-wal": 0o600, "s.db-shm": 0o600}

    def test_syncs_every_commit(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "s.db", self.SCHEMA)
        with store.reading() as connection:
            assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert connection.execute("PRAGMA secure_delete").fetchone() == (1,)
        store.close()

    def test_takes_all_of_a_transaction_or_nothing(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "s.db", self.SCHEMA)
        with pytest.raises(ValueError), store.transaction() as connection:  # noqa: PT012
            connection.execute("INSERT INTO t VALUES (?)", (b"x",))
            raise ValueError
        with store.reading() as connection:
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
        store.close()

    def test_of_a_newer_version_is_left_alone(self, tmp_path: Path) -> None:
        Store(tmp_path / "s.db", self.SCHEMA, "CREATE TABLE u (a BLOB)").close()
        with pytest.raises(Damaged) as caught:
            Store(tmp_path / "s.db", self.SCHEMA)
        assert caught.value.code == "newer-store"

    def test_that_is_no_database_is_damaged(self, tmp_path: Path) -> None:
        (tmp_path / "s.db").write_bytes(b"not a database at all " * 100)
        with pytest.raises(Damaged) as caught:
            Store(tmp_path / "s.db", self.SCHEMA)
        assert caught.value.code == "storage-damaged"

    def test_held_by_another_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kengele_node.rows._BUSY", 0.05)
        store = Store(tmp_path / "s.db", self.SCHEMA)
        other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Refused) as caught, store.transaction():
            pass
        assert caught.value.code == "storage-busy"
        other.close()
        store.close()


def test_two_processes_are_not_in_one_home_at_once(tmp_path: Path) -> None:
    with occupied(tmp_path, "kengele monitor run"), pytest.raises(Refused) as caught:  # noqa: SIM117
        with occupied(tmp_path, "kengele desk run"):
            pass
    assert caught.value.code == "in-use"
    assert f"kengele monitor run (process {os.getpid()})" in caught.value.sentence
    with occupied(tmp_path, "kengele desk run"):
        pass


def test_a_killed_process_leaves_the_home_free(tmp_path: Path) -> None:
    program = (
        "import sys, signal\nfrom pathlib import Path\nfrom kengele_node.vault import occupied\n"
        "with occupied(Path(sys.argv[1]), 'first'):\n    print('in', flush=True)\n    signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        with pytest.raises(Refused) as caught, occupied(tmp_path, "second"):
            pass
        assert f"first (process {process.pid})" in caught.value.sentence
        process.send_signal(signal.SIGKILL)
    with occupied(tmp_path, "second"):
        pass


@pytest.mark.full
def test_the_usual_cost_fits_a_machine_with_512_mb(tmp_path: Path) -> None:
    program = (
        "import resource, sys\nfrom pathlib import Path\nfrom kengele_node.vault import Lock, Vault\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (384 << 20, 384 << 20))\n"
        "Vault.create(Path(sys.argv[1]), Lock('correct horse'), {})\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "home")], check=True, timeout=60)


def test_a_lock_that_needs_more_memory_than_there_is_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(vault_module.sodium, "crypto_pwhash_alg", none_left)
    with pytest.raises(Locked) as caught:
        Vault.create(tmp_path, Lock(PASSPHRASE), SECRETS, cost=Cost(1, 64 << 20))
    assert caught.value.code == "no-memory"
    assert "64 MB" in caught.value.sentence
