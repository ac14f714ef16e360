"""A sealed file: records of any number, under a passphrase or a key file, written and read front to back.

Argon2id (RFC 9106) or a file of 32 random bytes gives the key; libsodium's secretstream (XChaCha20-Poly1305) seals the
records. One that was changed, left out, moved or cut off at the end does not open. The hub's own home has no
passphrase, as it has to start alone; what leaves the machine has one.

    >>> with Sealer(path, Lock(passphrase="correct horse battery")) as sealer:
    ...     sealer.put(b"record")
    >>> list(records(path, Lock(passphrase="correct horse battery")))
    [b'record']
"""

from __future__ import annotations

import hashlib
import secrets
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import nacl.bindings as sodium
import nacl.exceptions

from kengele_schemas import disk
from kengele_schemas.encoding import b64u, canonical, loads, unb64u
from kengele_schemas.errors import Damaged, Locked, Malformed, Refused

KEY: Final = 32
MAX_RECORD: Final = 2 * 1024 * 1024
MIN_PASSPHRASE: Final = 12
_VERSION: Final = 1
_SALT: Final = 16
_PASSES, _MEMORY = 4, 128 << 20
"""Above the second recommended setting of RFC 9106 §4."""
_MAX_PASSES, _MIN_MEMORY, _MAX_MEMORY = 32, 8 << 10, 1 << 29
_LENGTH: Final = 4
_MAX_HEAD: Final = 4096
_MESSAGE: Final = sodium.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
_FINAL: Final = sodium.crypto_secretstream_xchacha20poly1305_TAG_FINAL


@dataclass(frozen=True)
class Lock:
    """What opens a sealed file: a passphrase, or a file of 32 random bytes. One of the two."""

    passphrase: str | None = field(default=None, repr=False)
    key_file: Path | None = None

    def __post_init__(self) -> None:
        if (self.passphrase is None) == (self.key_file is None):
            raise Locked("no-lock", "A backup is sealed with a passphrase or with a key file.", "Give one of the two.")


class Sealer:
    """Writes a sealed file, which stands under its name only when all of it is on the disk.

    Args:
        path: of the file; it must not exist.
        lock: what will open it.

    Raises:
        Refused: ``exists``, ``weak-passphrase``. Locked: the key file cannot be used.
    """

    def __init__(self, path: Path, lock: Lock, *, passes: int = _PASSES, memory: int = _MEMORY) -> None:
        if lock.passphrase is not None and len(lock.passphrase) < MIN_PASSPHRASE:
            raise Refused(
                "weak-passphrase",
                f"The passphrase of a backup has at least {MIN_PASSPHRASE} characters.",
                "Take five or six words that do not belong together.",
            )
        how: dict[str, Any] = {"kind": "key-file"}
        if lock.passphrase is not None:
            how = {"kind": "argon2id", "passes": passes, "memory": memory, "salt": b64u(secrets.token_bytes(_SALT))}
        self._state = sodium.crypto_secretstream_xchacha20poly1305_state()
        start = sodium.crypto_secretstream_xchacha20poly1305_init_push(self._state, _key(lock, how))
        self._head = canonical({"kengele-sealed": _VERSION, "lock": how, "start": b64u(start)}) + b"\n"
        self._ending = ExitStack()
        self._file = self._ending.enter_context(disk.writing(path.parent, path.name, new=True))
        self._file.write(self._head)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._ending.__exit__(kind, error, trace)
            return
        with self._ending:
            self._push(b"", _FINAL)

    def put(self, record: bytes) -> None:
        """One more record, of :data:`MAX_RECORD` bytes at most."""
        self._push(record, _MESSAGE)

    def _push(self, record: bytes, tag: int) -> None:
        sealed = sodium.crypto_secretstream_xchacha20poly1305_push(self._state, record, self._head, tag)
        self._file.write(len(sealed).to_bytes(_LENGTH, "big") + sealed)


def records(path: Path, lock: Lock) -> Iterator[bytes]:
    """The records of a sealed file.

    Raises:
        Locked: ``wrong-key``: ``lock`` does not open it, or it was changed at its very beginning.
        Damaged: ``damaged-backup``: changed, or not whole; ``newer-backup``.
    """
    with disk.opened(path) as file:
        head = file.readline(_MAX_HEAD)
        try:
            document = loads(head, max_bytes=_MAX_HEAD)
            if isinstance(document["kengele-sealed"], int) and document["kengele-sealed"] > _VERSION:
                raise Damaged(
                    "newer-backup", "A newer Kengele wrote this file.", "Install that version, or a later one."
                )
            state = sodium.crypto_secretstream_xchacha20poly1305_state()
            key = _key(lock, document["lock"])
            sodium.crypto_secretstream_xchacha20poly1305_init_pull(state, unb64u(document["start"]), key)
        except (Malformed, KeyError, TypeError, ValueError, nacl.exceptions.CryptoError):
            raise _damaged() from None
        first = True
        while True:
            length = int.from_bytes(file.read(_LENGTH), "big")
            sealed = file.read(min(length, MAX_RECORD + 64))
            try:
                record, tag = sodium.crypto_secretstream_xchacha20poly1305_pull(state, sealed, head)
            except (nacl.exceptions.CryptoError, ValueError, TypeError):
                if first and len(sealed) == length > 0:
                    raise Locked(
                        "wrong-key", "This does not open the backup.", "Give the one it was made with."
                    ) from None
                raise _damaged() from None
            first = False
            if tag == _FINAL:
                if file.read(1):
                    raise _damaged()
                return
            yield record


def make_key_file(path: Path) -> Lock:
    """A new key file at ``path``. Raises Refused, ``exists``."""
    disk.write(path, secrets.token_bytes(KEY), new=True)
    return Lock(key_file=path)


def _key(lock: Lock, how: Mapping[str, Any]) -> bytes:
    """Raises Locked, or ValueError and the like where ``how`` is not a lock that this program writes."""
    if how["kind"] == "key-file":
        if lock.key_file is None:
            raise Locked("wrong-key", "This backup is opened by a key file.", "Name it with --key-file.")
        return hashlib.blake2b(_read_key_file(lock.key_file), person=b"kengele-backup", digest_size=KEY).digest()
    if how["kind"] != "argon2id":
        raise ValueError
    if lock.passphrase is None:
        raise Locked("wrong-key", "This backup is opened by a passphrase.", "Leave the key file out.")
    passes, memory, salt = how["passes"], how["memory"], unb64u(how["salt"])
    # Bounds first: the file may come from anywhere, and must not take all memory there is.
    if type(passes) is not int or not 1 <= passes <= _MAX_PASSES or len(salt) != _SALT:
        raise ValueError
    if type(memory) is not int or not _MIN_MEMORY <= memory <= _MAX_MEMORY:
        raise ValueError
    passphrase = unicodedata.normalize("NFC", lock.passphrase).encode()
    try:
        return sodium.crypto_pwhash_alg(KEY, passphrase, salt, passes, memory, sodium.crypto_pwhash_ALG_ARGON2ID13)
    except (nacl.exceptions.RuntimeError, MemoryError):
        raise Locked("no-memory", f"This takes {memory >> 20} MB of memory.", "Close other programs.") from None


def _read_key_file(path: Path) -> bytes:
    try:
        key, exposed = disk.read_secret(path, KEY + 1)
    except OSError:
        raise Locked("no-key-file", "The key file cannot be read.", "Check its name, or put its disk in.") from None
    if exposed:
        raise Locked("key-exposed", "Others on this machine can read the key file.", "Run chmod 600 on it.")
    if len(key) != KEY:
        raise Locked("wrong-key", "The key file is not one.", "Use the file that was made with this backup.")
    return key


def _damaged() -> Damaged:
    return Damaged("damaged-backup", "This is not a whole backup as it was written.", "Take another copy of it.")
