"""Rows at rest: small records under authenticated encryption, in a SQLite file that loses nothing it has taken.

Whoever holds the disk sees how many rows there are, their state and their size in blocks: no text, no name, no area. A
row is tied to its purpose and its name, so that one copied over another, or brought from elsewhere, does not open.

    >>> rows = vault.rows("outbox")
    >>> rows.open("7", rows.seal("7", b"text"))
    b'text'
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import nacl.bindings as sodium
import nacl.exceptions

from kengele_schemas.disk import disk_error, kept, make_directory, not_writable, storage_full
from kengele_schemas.encoding import length_prefixed
from kengele_schemas.errors import Damaged, KengeleError, Refused

KEY: Final = 32
_BLOCK: Final = 256
_LENGTH: Final = 4
_NONCE: Final = sodium.crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
_BUSY: Final = 10.0
"""Seconds to wait for another process that is writing."""


class RowCipher:
    """XChaCha20-Poly1305 under a sub-key of one purpose; random nonces, data padded to whole blocks of 256 bytes."""

    __slots__ = ("_blinding", "_key", "_purpose")

    def __init__(self, key: bytes, purpose: str) -> None:
        self._purpose = purpose.encode()
        self._key = self._derive(key, b"kengele-rows-v1")
        self._blinding = self._derive(key, b"kengele-blind-v1")

    def seal(self, name: str, data: bytes) -> bytes:
        """``data`` so that only :meth:`open` with the same purpose and ``name`` gives it back."""
        length = len(data).to_bytes(_LENGTH, "big")
        padded = length + data + bytes(-(_LENGTH + len(data)) % _BLOCK)
        nonce = os.urandom(_NONCE)
        return nonce + sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(padded, self._aad(name), nonce, self._key)

    def open(self, name: str, sealed: bytes) -> bytes:
        """Raises Damaged, ``damaged-row``: changed, cut, or sealed under another key, purpose or name."""
        try:
            padded = sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(
                sealed[_NONCE:], self._aad(name), sealed[:_NONCE], self._key
            )
        except (nacl.exceptions.CryptoError, ValueError, TypeError):
            raise Damaged("damaged-row", "A stored record cannot be read back; it is left as it is.") from None
        length = int.from_bytes(padded[:_LENGTH], "big")
        return padded[_LENGTH : _LENGTH + length]

    def blind(self, text: str) -> bytes:
        """A keyed hash by which a row is found without its name standing on the disk."""
        return hashlib.blake2b(text.encode(), key=self._blinding, digest_size=32).digest()

    def _derive(self, key: bytes, use: bytes) -> bytes:
        return hashlib.blake2b(length_prefixed(use, self._purpose), key=key, digest_size=KEY).digest()

    def _aad(self, name: str) -> bytes:
        return length_prefixed(self._purpose, name.encode())


class Store:
    """One SQLite file: write-ahead log, every commit on the disk before it returns, deleted rows overwritten.

    Args:
        path: made, if missing, for this user's eyes only.
        schema: the statements that make an empty file into one of the newest version.
        later: the statements that bring a file of one version to the next, from the first version on.

    Raises:
        Damaged: ``storage-full``, ``storage-damaged`` or ``newer-store``.
        Refused: ``storage-busy`` or ``not-writable``.
    """

    def __init__(self, path: Path, schema: str, *later: str) -> None:
        version = 1 + len(later)
        with _told():
            make_directory(path.parent)
            # SQLite gives its log the file's own mode, and does not make the file's name durable by itself.
            os.close(kept(path))
            sync_directory(path.parent)
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY)
            # A rotten bit makes a blob a text. What it is worth is for the cipher to say, of that row alone.
            self._connection.text_factory = _lenient
            try:
                for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "temp_store=MEMORY"):
                    self._connection.execute(f"PRAGMA {pragma}")
            except sqlite3.Error:
                self._connection.close()
                raise
        try:
            with self.transaction() as connection:
                (found,) = connection.execute("PRAGMA user_version").fetchone()
                scripts = later[found - 1 :] if found else (schema,)
                for statement in (one for script in scripts for one in script.split(";")):
                    connection.execute(statement)
                if found < version:
                    connection.execute(f"PRAGMA user_version={version}")
        except KengeleError:
            self._connection.close()
            raise
        if found > version:
            self._connection.close()
            raise Damaged("newer-store", "A newer Kengele wrote this store.", "Install that version, or a later one.")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing: on the disk when the block ends, as if never begun when it raises."""
        with _told():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        with _told():
            yield self._connection

    def scrub(self) -> None:
        """Leaves nothing in the log of what was deleted; the file itself has it overwritten already."""
        with _told():
            busy, _, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise Refused("storage-busy", "Another program is reading this store.", "Try again.")

    def close(self) -> None:
        self._connection.close()


def _lenient(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def sync_directory(directory: Path) -> None:
    """Makes names made or changed in ``directory`` outlast a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _told() -> Iterator[None]:
    """Says in a person's words what the disk or SQLite reports; their own texts may hold values."""
    try:
        yield
    except sqlite3.Error as error:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise storage_full() from None
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise Refused("storage-busy", "Another program is writing to this store.", "Try again.") from None
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            raise not_writable() from None
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR):
            raise Damaged(
                "storage-damaged",
                "The store cannot be read; the disk may be failing.",
                "Copy the whole directory to another disk first, then ask for help.",
            ) from None
        raise
    except OSError as error:
        raise disk_error(error) from None
