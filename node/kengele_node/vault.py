"""The vault: a node's secrets in one file, opened by a passphrase or by a key file kept elsewhere.

The passphrase goes through Argon2id (RFC 9106) and opens a random master key; under that stand the secrets and, by
purpose, the rows of every store in the same home. A new passphrase therefore changes this file only.

    >>> vault = Vault.create(home, Lock("correct horse battery"), {"signing": seed})
    >>> Vault.open(home, Lock("correct horse battery")).secrets["signing"] == seed
    True

Python cannot wipe memory: while the process runs, its memory holds the secrets. Who seizes the machine switched off
has the file, and the passphrase to guess.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets as random
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import nacl.bindings as sodium
import nacl.exceptions

from kengele_schemas.disk import disk_error, kept, make_directory, present, read, read_secret, write
from kengele_schemas.encoding import b64u, canonical, loads, unb64u
from kengele_schemas.errors import Damaged, Locked, Malformed, Refused
from kengele_schemas.fields import is_version

from .rows import KEY, RowCipher, sync_directory

_FILE: Final = "vault.json"
_VERSION: Final = 1
_IN_USE: Final = "in-use"
_SALT: Final = 16
_MAX_FILE: Final = 1 << 20
_MAX_OPS: Final = 32
_MAX_MEMORY: Final = 1 << 29
SHORTEST_PASSPHRASE: Final = 8
"""Characters; only new ones are held to it."""


class Cost(NamedTuple):
    """What one guess at the passphrase costs: passes over ``memory`` bytes."""

    passes: int
    memory: int


MODERATE: Final = Cost(4, 128 << 20)
"""Above the second recommended setting of RFC 9106 §4, and within the means of a machine with 512 MB."""
LIGHT: Final = Cost(1, 8 << 10)
"""For tests: protects nothing."""


@dataclass(frozen=True)
class Lock:
    """What opens a vault: a passphrase, or a file of 32 random bytes. One of the two."""

    passphrase: str | None = field(default=None, repr=False)
    key_file: Path | None = None

    def __post_init__(self) -> None:
        if (self.passphrase is None) == (self.key_file is None):
            raise Locked("no-lock", "A vault is opened by a passphrase or by a key file.", "Give one of the two.")


def make_key_file(path: Path) -> Lock:
    """A new key file at ``path``. Raises Refused, ``exists``: a key file is never overwritten."""
    write(path, random.token_bytes(KEY), new=True)
    return Lock(key_file=path)


class Vault:
    """An open vault. Made by :meth:`create` and :meth:`open`."""

    def __init__(self, home: Path, lock: Mapping[str, Any], sealed_key: str, key: bytes) -> None:
        self._home = home
        self._lock = lock
        self._sealed_key = sealed_key
        self._key = key
        self._secrets: Mapping[str, bytes] = {}

    @classmethod
    def create(cls, home: Path, lock: Lock, secrets: Mapping[str, bytes], *, cost: Cost = MODERATE) -> Vault:
        """A new vault in ``home``, which is made if missing; on the disk when this returns.

        Raises:
            Refused: ``exists``, ``weak-passphrase`` or ``not-writable``.
            Locked: the key file cannot be used.
            Damaged: ``storage-full``.
        """
        try:
            make_directory(home)
            sync_directory(home.parent)
        except OSError as error:
            raise disk_error(error) from None
        if present(home / _FILE):
            raise Refused("exists", "This directory holds a vault already.", "Choose an empty directory.")
        key = random.token_bytes(KEY)
        vault = cls(home, *_seal_key(lock, key, cost), key)
        vault.replace(secrets)
        return vault

    @classmethod
    def open(cls, home: Path, lock: Lock) -> Vault:
        """The vault in ``home``.

        Raises:
            Locked: ``wrong-passphrase``, ``wrong-key-file``, or the key file cannot be used.
            Damaged: ``no-vault`` or ``damaged-vault``.
        """
        try:
            data = read(home / _FILE, _MAX_FILE)
        except OSError:
            raise Damaged(
                "no-vault", f"There is no home of a member in {home}.", "Name the right one with --home, or set one up."
            ) from None
        try:
            document = loads(data, max_bytes=_MAX_FILE)
            checksum = document.pop("checksum")
            if isinstance(document["v"], int) and document["v"] > _VERSION:
                raise Damaged("newer-home", "A newer Kengele wrote this home.", "Install that version, or a later one.")
            # Against accidents only: it tells a failing disk from a mistyped passphrase.
            if not is_version(document["v"], _VERSION) or checksum != _checksum(document):
                raise _damaged()
            how, sealed_key, sealed = document["lock"], document["key"], unb64u(document["secrets"])
            wrapped = unb64u(sealed_key)
            unlocking = _unlocking_key(lock, how)
        except (Malformed, KeyError, TypeError, AttributeError, ValueError):
            raise _damaged() from None
        try:
            key = RowCipher(unlocking, "vault-key").open(_lock_text(how), wrapped)
        except Damaged:
            raise _wrong(lock) from None
        vault = cls(home, how, sealed_key, key)
        vault._secrets = _read_secrets(RowCipher(key, "vault"), sealed)
        return vault

    @property
    def secrets(self) -> Mapping[str, bytes]:
        return MappingProxyType(dict(self._secrets))

    def replace(self, secrets: Mapping[str, bytes]) -> None:
        """Puts ``secrets`` in the place of all that were there: a crash leaves the old ones or the new ones.

        Raises:
            Damaged: ``storage-full``; the old ones stand.
        """
        text = canonical({name: b64u(value) for name, value in secrets.items()})
        self._write(self._lock, self._sealed_key, RowCipher(self._key, "vault").seal("secrets", text))
        self._secrets = dict(secrets)

    def relock(self, lock: Lock, *, cost: Cost = MODERATE) -> None:
        """From now on ``lock`` opens this vault, and the old one does not. Old copies of the file keep the old lock."""
        how, sealed_key = _seal_key(lock, self._key, cost)
        text = canonical({name: b64u(value) for name, value in self._secrets.items()})
        self._write(how, sealed_key, RowCipher(self._key, "vault").seal("secrets", text))
        self._lock, self._sealed_key = how, sealed_key

    @property
    def by_key_file(self) -> bool:
        """Whether a key file opens this vault, and not a passphrase."""
        return bool(self._lock["kind"] == "key-file")

    def opened_by(self, given: str | bytes) -> bool:
        """Whether ``given`` opens this vault: the passphrase, or what stands in the key file.

        Raises:
            Locked: ``no-memory``.
        """
        if isinstance(given, bytes) is not self.by_key_file:
            return False
        key = _of_key_file(given) if isinstance(given, bytes) else _of_passphrase(given, self._lock)
        try:
            return RowCipher(key, "vault-key").open(_lock_text(self._lock), unb64u(self._sealed_key)) == self._key
        except Damaged:
            return False

    def rows(self, purpose: str) -> RowCipher:
        """The cipher of one store's rows. Another home's rows, or another purpose's, do not open."""
        return RowCipher(self._key, f"rows/{purpose}")

    def _write(self, lock: Mapping[str, Any], sealed_key: str, sealed: bytes) -> None:
        document = {"v": _VERSION, "lock": lock, "key": sealed_key, "secrets": b64u(sealed)}
        write(self._home / _FILE, canonical({**document, "checksum": _checksum(document)}))


def _checksum(document: Mapping[str, Any]) -> str:
    return b64u(hashlib.sha256(canonical(document)).digest())


def _lock_text(how: Mapping[str, Any]) -> str:
    return canonical(how).decode()


def _seal_key(lock: Lock, key: bytes, cost: Cost) -> tuple[dict[str, Any], str]:
    how: dict[str, Any]
    if lock.passphrase is None:
        how = {"kind": "key-file"}
    else:
        if len(lock.passphrase) < SHORTEST_PASSPHRASE:
            raise Refused(
                "weak-passphrase",
                f"A passphrase has at least {SHORTEST_PASSPHRASE} characters.",
                "Take five or six words that do not belong together.",
            )
        salt = b64u(random.token_bytes(_SALT))
        how = {"kind": "argon2id", "passes": cost.passes, "memory": cost.memory, "salt": salt}
    return how, b64u(RowCipher(_unlocking_key(lock, how), "vault-key").seal(_lock_text(how), key))


def _unlocking_key(lock: Lock, how: Mapping[str, Any]) -> bytes:
    """Raises Locked, or ValueError and the like where ``how`` is not a lock that this program writes."""
    if how["kind"] == "key-file":
        if lock.key_file is None:
            raise Locked("wrong-passphrase", "This vault is opened by a key file.", "Name it with --key-file.")
        return _of_key_file(_read_key_file(lock.key_file))
    if how["kind"] != "argon2id":
        raise ValueError
    if lock.passphrase is None:
        raise Locked("wrong-key-file", "This vault is opened by a passphrase.", "Leave the key file out.")
    return _of_passphrase(lock.passphrase, how)


def _of_key_file(content: bytes) -> bytes:
    return hashlib.blake2b(content, person=b"kengele-key-file", digest_size=KEY).digest()


def _of_passphrase(typed: str, how: Mapping[str, Any]) -> bytes:
    """Raises Locked, ``no-memory``; ValueError and the like where ``how`` is not a lock that this program writes."""
    passes, memory, salt = how["passes"], how["memory"], unb64u(how["salt"])
    # Bounds first: the file may come from anywhere, and must not make the node take all memory there is.
    if type(passes) is not int or not 1 <= passes <= _MAX_OPS or len(salt) != _SALT:
        raise ValueError
    if type(memory) is not int or not LIGHT.memory <= memory <= _MAX_MEMORY:
        raise ValueError
    # RFC 8265 §4.2 (OpaqueString): two keyboards may write one letter in two ways.
    passphrase = unicodedata.normalize("NFC", typed).encode()
    try:
        return sodium.crypto_pwhash_alg(KEY, passphrase, salt, passes, memory, sodium.crypto_pwhash_ALG_ARGON2ID13)
    except (nacl.exceptions.RuntimeError, MemoryError):
        raise Locked(
            "no-memory",
            f"Opening the vault takes {memory >> 20} MB of memory, which are not free.",
            "Close other programs.",
        ) from None


def _read_key_file(path: Path) -> bytes:
    try:
        key, exposed = read_secret(path, KEY + 1)
    except OSError:
        raise Locked("no-key-file", "The key file cannot be read.", "Check its name, or put its disk in.") from None
    if exposed:
        raise Locked("key-exposed", "Others on this machine can read the key file.", "Run chmod 600 on it.")
    if len(key) != KEY:
        raise Locked("wrong-key-file", "The key file is not one.", "Use the file that was made with this vault.")
    return key


def _read_secrets(cipher: RowCipher, sealed: bytes) -> dict[str, bytes]:
    try:
        document = loads(cipher.open("secrets", sealed), max_bytes=_MAX_FILE)
        return {name: unb64u(value) for name, value in document.items()}
    except (Damaged, Malformed):
        raise _damaged() from None


def _wrong(lock: Lock) -> Locked:
    if lock.key_file is not None:
        return Locked("wrong-key-file", "The key file does not open this vault.", "Use the one that was made with it.")
    return Locked("wrong-passphrase", "The passphrase does not open this vault.", "Type it again.")


def _damaged() -> Damaged:
    return Damaged(
        "damaged-vault",
        "The vault cannot be read as it was written; the passphrase is not at fault.",
        "Restore vault.json from a backup. Without one, enrol this node anew.",
    )


@contextmanager
def occupied(home: Path, who: str) -> Iterator[None]:
    """Keeps other processes out of ``home`` while the block runs; the kernel lets go if this process dies.

    Args:
        who: what this process is, for whom it keeps out: ``kengele monitor run``.

    Raises:
        Refused: ``in-use``; says who is in.
    """
    try:
        descriptor = kept(home / _IN_USE)
    except OSError as error:
        raise disk_error(error) from None
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            other = file.read(256).strip() or "another program"
            raise Refused("in-use", f"This home is in use by {other}.", "End that one first.") from None
        # The file stays: were it removed, two processes could each hold a lock on a file of this name.
        file.truncate(0)
        file.write(f"{who} (process {os.getpid()})\n")
        file.flush()
        yield
