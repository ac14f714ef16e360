"""NATS nkeys: Ed25519 keys as text, with a prefix that says what they are for and a checksum against slips of the pen.

A public key is one prefix byte, 32 bytes and a CRC-16, in base32: ``O…`` operator, ``A…`` account, ``U…`` user. A seed
has two prefix bytes, ``SO…``, ``SA…``, ``SU…``. Source: github.com/nats-io/nkeys, "Encoding"; the CRC is CCITT's with
initial value 0 (XMODEM), least significant byte first.

    >>> key = KeyPair.generate("user")
    >>> KeyPair.from_seed(key.seed).public == key.public
    True
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Final, Literal

from nacl.signing import SigningKey

from .errors import Malformed
from .keys import check_verify_key, verify_signature

Kind = Literal["operator", "account", "user"]

_PREFIX: Final[dict[Kind, int]] = {"operator": 14 << 3, "account": 0, "user": 20 << 3}
_KINDS: Final = {prefix: kind for kind, prefix in _PREFIX.items()}
_SEED: Final = 18 << 3
_PUBLIC_TEXT: Final = re.compile(r"[OAU][A-Z2-7]{55}", re.ASCII)
_SEED_TEXT: Final = re.compile(r"S[OAU][A-Z2-7]{56}", re.ASCII)


def _encode(data: bytes) -> str:
    checked = data + binascii.crc_hqx(data, 0).to_bytes(2, "little")
    return base64.b32encode(checked).decode("ascii").rstrip("=")


def _decode(text: str, shape: re.Pattern[str]) -> bytes:
    if shape.fullmatch(text) is None:
        raise Malformed("malformed", "A NATS key does not look like one.")
    data = base64.b32decode(text + "=" * (-len(text) % 8))
    if _encode(data[:-2]) != text:
        raise Malformed("malformed", "A NATS key's checksum is wrong.", "Copy it again, wholly.")
    return data[:-2]


def encode_public(kind: Kind, key: bytes) -> str:
    """The text of a 32-byte public ``key``: 56 characters."""
    return _encode(bytes((_PREFIX[kind],)) + key)


def decode_public(text: str, kind: Kind | None = None) -> bytes:
    """The 32 bytes of a public key.

    Args:
        text: 56 characters of base32.
        kind: what the key must be for, if that matters.

    Raises:
        Malformed: another length, alphabet or kind, a wrong checksum, or a point that is no key.
    """
    data = _decode(text, _PUBLIC_TEXT)
    found = _KINDS.get(data[0])
    if found is None or kind not in (None, found):
        raise Malformed("malformed", "A NATS key is of another kind.")
    return check_verify_key(data[1:])


def verify(public: str, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is that of the key with text ``public`` over ``message``. Raises Malformed on a bad key."""
    return verify_signature(decode_public(public), message, signature)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A seed and its public key, both as text. The seed stays out of the representation."""

    seed: str = field(repr=False)
    public: str

    @classmethod
    def generate(cls, kind: Kind) -> KeyPair:
        return cls._from_signing_key(kind, SigningKey.generate())

    @classmethod
    def from_seed(cls, seed: str) -> KeyPair:
        """The pair of a seed of any of the three kinds.

        Raises:
            Malformed: another length, alphabet or kind, or a wrong checksum.
        """
        data = _decode(seed, _SEED_TEXT)
        kind = _KINDS.get((data[0] & 7) << 5 | data[1] >> 3)
        if data[0] & 0xF8 != _SEED or data[1] & 7 or kind is None:
            raise Malformed("malformed", "A NATS seed is of another kind.")
        return cls._from_signing_key(kind, SigningKey(data[2:]))

    @classmethod
    def _from_signing_key(cls, kind: Kind, key: SigningKey) -> KeyPair:
        prefix = _PREFIX[kind]
        seed = _encode(bytes((_SEED | prefix >> 5, (prefix & 31) << 3)) + bytes(key))
        return cls(seed, encode_public(kind, bytes(key.verify_key)))

    @classmethod
    def from_key(cls, kind: Kind, key: bytes) -> KeyPair:
        """The pair of a 32-byte secret ``key``. Raises ValueError if it has another length."""
        return cls._from_signing_key(kind, SigningKey(key))

    @property
    def key(self) -> bytes:
        """The 32-byte secret key."""
        return _decode(self.seed, _SEED_TEXT)[2:]

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature over ``message``."""
        return SigningKey(self.key).sign(message).signature
