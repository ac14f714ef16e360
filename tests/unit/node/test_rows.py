"""Rows at rest: what was taken comes back or says that it is damaged; a failing disk is told in words of a person.

What rows and stores promise in the normal way is tested beside the vault that makes them; here is what goes wrong.
"""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_node.rows import RowCipher, Store, disk_error, sync_directory
from kengele_schemas.errors import Damaged, KengeleError, Refused

ROWS = RowCipher(b"k" * 32, "outbox")
SCHEMA = "CREATE TABLE t (name TEXT, body BLOB); CREATE INDEX names ON t (name)"
TEXT = b"canary-7f3a at the bazaar"
SEALED = ROWS.seal("7", TEXT)


def filled(path: Path, count: int = 1) -> Store:
    store = Store(path, SCHEMA)
    with store.transaction() as connection:
        rows = ((f"n{i}", ROWS.seal(f"n{i}", TEXT)) for i in range(count))
        connection.executemany("INSERT INTO t VALUES (?, ?)", rows)
    return store


def count(store: Store) -> int:
    with store.reading() as connection:
        return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_no_byte_of_a_row_can_be_changed_unnoticed(position: int, by: int) -> None:
    data = bytearray(SEALED)
    data[position] ^= by
    with pytest.raises(Damaged) as caught:
        ROWS.open("7", bytes(data))
    assert caught.value.code == "damaged-row"


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_open_that_were_not_sealed(data: bytes) -> None:
    with pytest.raises(Damaged):
        ROWS.open("7", data)


@pytest.mark.parametrize("value", [None, 7, 1.5, "text", "\ufffd"])
def test_a_row_of_another_type_is_damaged_too(value: object) -> None:
    with pytest.raises(Damaged):
        ROWS.open("7", value)  # type: ignore[arg-type]


def test_a_name_and_a_purpose_cannot_be_shifted_into_each_other() -> None:
    one, other = RowCipher(b"k" * 32, "ab"), RowCipher(b"k" * 32, "a")
    with pytest.raises(Damaged):
        other.open("bc", one.seal("c", TEXT))
    assert one.blind("c") != other.blind("bc")


def test_nothing_that_was_stored_stands_on_the_disk(tmp_path: Path) -> None:
    store = filled(tmp_path / "s.db", 50)
    there = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    store.close()
    there += b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert TEXT not in there
    assert b"canary" not in there


def test_a_blob_that_became_a_text_on_the_disk_stops_no_other(tmp_path: Path) -> None:
    """One bit in a record's head makes a text of a blob, and most blobs are no text in UTF-8."""
    store = filled(tmp_path / "s.db", 3)
    with store.transaction() as connection:
        connection.execute("UPDATE t SET body = CAST(body AS TEXT) WHERE name = 'n1'")
    with store.reading() as connection:
        rows = connection.execute("SELECT name, body FROM t").fetchall()
    store.close()
    opened = []
    for name, sealed in rows:
        try:
            opened.append(ROWS.open(name, sealed))
        except Damaged:
            opened.append(b"damaged")
    assert opened == [TEXT, b"damaged", TEXT]


def test_a_store_whose_making_was_interrupted_is_made_anew(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        Store(tmp_path / "s.db", "CREATE TABLE t (name TEXT, body BLOB); CREATE NONSENSE")
    store = filled(tmp_path / "s.db")
    assert count(store) == 1
    store.close()


def test_a_store_is_opened_again_with_what_it_held(tmp_path: Path) -> None:
    filled(tmp_path / "s.db", 3).close()
    store = Store(tmp_path / "s.db", SCHEMA)
    assert count(store) == 3
    store.close()


def test_a_full_disk_is_said_and_what_was_stored_stays(tmp_path: Path) -> None:
    store = filled(tmp_path / "s.db")
    with store.reading() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Damaged) as caught, store.transaction() as connection:  # noqa: PT012
        connection.execute("INSERT INTO t VALUES ('small', x'00')")
        connection.execute("INSERT INTO t VALUES ('large', ?)", (bytes(100_000),))
    assert (caught.value.code, caught.value.exit_code) == ("storage-full", 7)
    assert count(store) == 1
    store.close()


def test_a_page_that_rotted_is_told_as_a_failing_disk(tmp_path: Path) -> None:
    filled(tmp_path / "s.db", 200).close()
    data = bytearray((tmp_path / "s.db").read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    (tmp_path / "s.db").write_bytes(data)
    store = Store(tmp_path / "s.db", SCHEMA)
    with pytest.raises(Damaged) as caught, store.reading() as connection:
        connection.execute("SELECT * FROM t").fetchall()
    store.close()
    assert caught.value.code == "storage-damaged"
    assert "Copy the whole directory" in caught.value.mend


def test_a_store_is_not_made_through_a_link(tmp_path: Path) -> None:
    """Else whoever may write into the directory chooses where it goes."""
    (tmp_path / "s.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused) as caught:
        Store(tmp_path / "s.db", SCHEMA)
    assert caught.value.code == "in-the-way"
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_in_the_place_of_the_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "home").write_bytes(b"")
    with pytest.raises(Refused) as caught:
        Store(tmp_path / "home" / "s.db", SCHEMA)
    assert caught.value.code == "in-the-way"


@pytest.mark.parametrize(
    ("number", "error", "code"),
    [
        (errno.ENOSPC, Damaged, "storage-full"),
        (errno.EDQUOT, Damaged, "storage-full"),
        (errno.EACCES, Refused, "not-writable"),
        (errno.EROFS, Refused, "not-writable"),
        (errno.ELOOP, Refused, "not-writable"),
    ],
)
def test_what_the_disk_reports_is_told_so_that_a_person_can_act(
    number: int, error: type[KengeleError], code: str
) -> None:
    told = disk_error(OSError(number, "canary-7f3a", "canary-7f3a"))
    assert type(told) is error
    assert told.code == code
    assert told.mend
    assert "canary" not in told.diagnostics()


def test_no_error_repeats_what_was_to_be_stored(tmp_path: Path) -> None:
    store = filled(tmp_path / "s.db")
    told = []
    for number in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR_WRITE):
        with pytest.raises(KengeleError) as caught, store.transaction():  # noqa: PT012
            error = sqlite3.OperationalError("canary-7f3a")
            error.sqlite_errorcode = number
            raise error
        told.append(caught.value)
    store.close()
    assert [error.code for error in told] == ["storage-full", "storage-busy", "storage-damaged", "storage-damaged"]
    assert not any("canary" in repr(error) + error.diagnostics() + str(error.__cause__) for error in told)


def test_a_transaction_that_failed_does_not_hold_up_the_next(tmp_path: Path) -> None:
    store = filled(tmp_path / "s.db")
    with pytest.raises(ZeroDivisionError), store.transaction() as connection:
        connection.execute(f"INSERT INTO t VALUES ('x', {1 / 0})")
    with store.transaction() as connection:
        connection.execute("INSERT INTO t VALUES ('y', x'00')")
    assert count(store) == 2
    store.close()


def test_a_directory_is_synced_through_its_own_descriptor(tmp_path: Path) -> None:
    sync_directory(tmp_path)
    with pytest.raises(OSError):
        sync_directory(tmp_path / "not-there")
