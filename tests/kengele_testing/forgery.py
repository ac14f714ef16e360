"""Envelopes of a member who knows its own keys and keeps to no rule: properly signed, and wrong where a test wants it.

Written from ``docs/wire-format.md`` and not with ``sealing``, which would refuse to make most of them. What is not
changed is right, so that only the rule under test can refuse the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl.signing import SigningKey

from kengele_schemas.encoding import b64u
from kengele_schemas.keys import X25519, OpeningKey, monitor_id
from kengele_schemas.trusted import UNNAMED

AUTHOR: Final = SigningKey(bytes(range(32)))
PUBLIC: Final = bytes(AUTHOR.verify_key)
OFFICE: Final = "alpha"
KEY: Final = OpeningKey(X25519, bytes(range(32)))
PROTECTED: Final = b64u(b'{"alg":"Ed25519","typ":"tension-report+sd-jwt"}')
FLOORS: Final = {
    "handling": 256,
    "summary": 512,
    "account": 1024,
    "place": 256,
    "people": 512,
    "source": 256,
    "media": 256,
}
CLAIMS: Final[dict[str, Any]] = {
    "v": 2,
    "net": UNNAMED,
    "id": "A" * 22,
    "kid": monitor_id(PUBLIC),
    "kind": "report",
    "area": "KG-O",
    "categories": ["rumour"],
    "severity": 2,
    "day": "2026-03-01",
    "day_precision": 1,
    "tlp": "AMBER",
    "pol": 3,
}


def lp(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def digest(disclosed: bytes) -> str:
    return b64u(hashlib.sha256(b64u(disclosed).encode()).digest())


def absent() -> str:
    """The digest of a compartment that is not there."""
    return b64u(os.urandom(32))


def disclosed(name: str, value: Any = "calm", salt: Any = "s" * 21 + "A") -> bytes:
    return json.dumps([salt, name, value], separators=(",", ":")).encode()


def padded(data: bytes, floor: int = 256) -> bytes:
    size = max(floor, -(-(4 + len(data)) // 256) * 256)
    return (len(data).to_bytes(4, "big") + data).ljust(size, b"\0")


def core_of(claims: Mapping[str, Any], sd: Sequence[Any]) -> bytes:
    head = ("kengele-core-v2", "tension-report+sd-jwt", claims["net"], claims["kid"], claims["id"], str(claims["pol"]))
    return hashlib.sha256(lp(*(str(part).encode() for part in (*head, *sd)))).digest()


def ctr_of(ct: Mapping[str, Any], w: Sequence[Sequence[Any]]) -> str:
    parts = [part for item in ct.items() for part in item] + [part for wrap in w for part in wrap]
    return b64u(hashlib.sha256(lp(*(str(part).encode() for part in parts))).digest())


def wrapped(core: bytes, keys: Mapping[str, bytes], granted: Collection[str]) -> list[str]:
    """The office's wrap, with the seventh number."""
    bits = sum(1 << number for number, name in enumerate(FLOORS) if name in granted)
    slots = b"".join(keys[name] if name in granted else bytes(32) for name in FLOORS)
    plain = bytes([bits]) + (7).to_bytes(8, "big") + slots
    return [OFFICE, X25519, b64u(KEY.public.seal(plain, lp(b"kengele-wrap-v1", OFFICE.encode(), core)))]


def envelope(
    disclosures: Mapping[str, bytes],
    *,
    claims: Mapping[str, Any] = CLAIMS,
    sd: Sequence[Any] | None = None,
    plain: Mapping[str, bytes] | None = None,
    granted: Collection[str] | None = None,
    parts: Callable[[dict[str, Any], list[Any]], None] = lambda _ct, _w: None,
    payload: Callable[[bytes], bytes] = bytes,
) -> bytes:
    """One envelope, signed.

    Args:
        disclosures: by compartment, the bytes that stand for ``[salt, name, value]``; the others are absent.
        sd: the digests in place of the right ones.
        plain: by compartment, the padded text in place of the right one.
        granted: what the wrap gives in place of all that is there.
        parts: changes ciphertexts and wraps before they are signed.
        payload: gives the payload that is signed for the right one.
    """
    right = sorted(digest(disclosures[name]) if name in disclosures else absent() for name in FLOORS)
    digests = right if sd is None else list(sd)
    core = core_of(claims, digests)
    keys = {name: os.urandom(32) for name in FLOORS}
    texts = {name: padded(disclosures.get(name, b""), floor) for name, floor in FLOORS.items()} | dict(plain or {})
    ct: dict[str, Any] = {
        name: b64u(ChaCha20Poly1305(keys[name]).encrypt(bytes(12), text, lp(b"kengele-ct-v1", name.encode(), core)))
        for name, text in texts.items()
    }
    w: list[Any] = [wrapped(core, keys, disclosures.keys() if granted is None else granted)]
    parts(ct, w)
    body = {**claims, "_sd": digests, "_sd_alg": "sha-256", "ctr": ctr_of(ct, w)}
    return signed(b64u(payload(json.dumps(body, separators=(",", ":")).encode())), ct, w)


def signed(
    payload: str,
    ct: Mapping[str, Any],
    w: Sequence[Any],
    protected: str = PROTECTED,
    author: SigningKey = AUTHOR,
) -> bytes:
    """The envelope of these parts, under ``author``'s signature."""
    signature = b64u(author.sign(f"{protected}.{payload}".encode()).signature)
    outer = {"protected": protected, "payload": payload, "signature": signature, "header": {"ct": ct, "w": w}}
    return json.dumps(outer, separators=(",", ":")).encode()
