"""Keys: Ed25519 for signing, HPKE key pairs for opening. All raw bytes, base64url in documents.

Signatures are made and checked by libsodium, whose rule refuses small-order points that others accept (RFC 8032 leaves
it open). Opening keys are of one of two suites (RFC 9180): ``X25519`` or the hybrid ``MLKEM768_X25519``.
"""

from __future__ import annotations

import hashlib
import secrets
from base64 import b32encode
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import nacl.bindings
import nacl.exceptions
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from nacl.signing import SigningKey

from .encoding import b64u, unb64u
from .errors import CannotOpen, Malformed

X25519: Final = "X25519"
HYBRID: Final = "MLKEM768_X25519"
SUITES: Final = (HYBRID, X25519)

_MLKEM_PUBLIC: Final = 1184
_MLKEM_SEED: Final = 64
_X25519: Final = 32
_ANY: Final = X25519PrivateKey.generate()
_KEMS: Final = {X25519: hpke.KEM.X25519, HYBRID: hpke.KEM.MLKEM768_X25519}
_HPKE: Final = {name: hpke.Suite(kem, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305) for name, kem in _KEMS.items()}
ENC_LENGTH: Final = {X25519: 32, HYBRID: 1120}
"""Bytes of the encapsulated key at the head of a wrap, per suite."""


def check_verify_key(key: bytes) -> bytes:
    """``key`` if it is a point of the prime-order group (libsodium refuses small-order and mixed-order points here).

    Raises:
        Malformed: ``weak-key``; such a key verifies signatures nobody made.
    """
    if len(key) != 32 or not nacl.bindings.crypto_core_ed25519_is_valid_point(key):
        raise Malformed("weak-key", "A signing key is not a valid Ed25519 key.", "Make a new key.")
    return key


def verify_signature(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` (64 bytes) is ``key``'s Ed25519 signature over ``message``."""
    if len(signature) != 64 or len(key) != 32:
        return False
    try:
        nacl.bindings.crypto_sign_open(signature + message, key)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class OpeningPublic:
    """The public half of an opening key: suite and raw bytes (32, or 1216: ML-KEM-768 then X25519)."""

    suite: str
    raw: bytes

    def seal(self, plaintext: bytes, info: bytes) -> bytes:
        """HPKE single-shot (RFC 9180 §6.1, base mode): encapsulated key ‖ ciphertext."""
        return _HPKE[self.suite].encrypt(plaintext, _public(self.suite, self.raw), info)

    def document(self) -> dict[str, str]:
        return {"suite": self.suite, "key": b64u(self.raw)}

    @classmethod
    def from_document(cls, suite: str, key: str) -> OpeningPublic:
        """Raises Malformed on an unknown suite or a key that is not one."""
        if suite not in SUITES:
            raise Malformed("unknown-suite", "An opening key names a suite that is not known.")
        public = cls(suite, unb64u(key))
        _public(public.suite, public.raw)
        return public


def _curve_point(raw: bytes) -> X25519PublicKey:
    """Raises ValueError for a point of small order too: with one in the roster, nobody could seal for that office."""
    point = X25519PublicKey.from_public_bytes(raw)
    _ANY.exchange(point)
    return point


@lru_cache(maxsize=1024)
def _public(suite: str, raw: bytes) -> X25519PublicKey | hpke.MLKEM768X25519PublicKey:
    try:
        if suite == X25519:
            return _curve_point(raw)
        if len(raw) != _MLKEM_PUBLIC + _X25519:
            raise ValueError
        return hpke.MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_PUBLIC]), _curve_point(raw[_MLKEM_PUBLIC:])
        )
    except (ValueError, UnsupportedAlgorithm):
        raise Malformed("malformed", "An opening key is not a valid key of its suite.") from None


class OpeningKey:
    """A private opening key, made from a raw seed (32 bytes, or 96: ML-KEM seed then X25519)."""

    __slots__ = ("_private", "public", "raw", "suite")

    def __init__(self, suite: str, raw: bytes) -> None:
        if suite not in SUITES or len(raw) != (_X25519 if suite == X25519 else _MLKEM_SEED + _X25519):
            raise Malformed("malformed", "A private opening key is not a valid key of its suite.")
        self.suite = suite
        self.raw = raw
        self._private: X25519PrivateKey | hpke.MLKEM768X25519PrivateKey
        if suite == X25519:
            self._private = X25519PrivateKey.from_private_bytes(raw)
            public = self._private.public_key().public_bytes_raw()
        else:
            mlkem = MLKEM768PrivateKey.from_seed_bytes(raw[:_MLKEM_SEED])
            curve = X25519PrivateKey.from_private_bytes(raw[_MLKEM_SEED:])
            self._private = hpke.MLKEM768X25519PrivateKey(mlkem, curve)
            public = mlkem.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
        self.public = OpeningPublic(suite, public)

    @classmethod
    def generate(cls, suite: str = HYBRID) -> OpeningKey:
        return cls(suite, secrets.token_bytes(_X25519 if suite == X25519 else _MLKEM_SEED + _X25519))

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """The plaintext of :meth:`OpeningPublic.seal`.

        Raises:
            CannotOpen: whatever the reason.
        """
        try:
            return _HPKE[self.suite].decrypt(sealed, self._private, info)
        except (InvalidTag, ValueError):
            raise CannotOpen from None


def new_signing_key() -> SigningKey:
    """A fresh Ed25519 key."""
    return SigningKey.generate()


def monitor_id(verify_key: bytes) -> str:
    """The pseudonym (``kid``) of a monitor's verify key: ``m-`` and 26 base32 characters of its SHA-256."""
    return "m-" + fingerprint(verify_key)


def fingerprint(key: bytes) -> str:
    """26 base32 characters (128 bits) of the SHA-256 of ``key``, lower case."""
    return b32encode(hashlib.sha256(b"kengele-key-v1" + key).digest()[:16]).decode("ascii").rstrip("=").lower()
