"""An invitation's link: what must not come from the hub, as short as it can be, in capitals that keep a QR code small.

Most of a joiner's credential, a NATS JWT, says what is known or said twice. So a link holds its keys, its time and its
signature, and the text is made anew from them; where that does not give the same text, or a certificate goes along, the
link holds all as it stands.

    >>> pack({"urls": ["tls://hub.example.org:4222"], "join": {"jwt": …, "seed": …}, "token": …, "root": …})
    'KENGELE:AJSG…'
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from base64 import b32decode, b32encode
from collections.abc import Mapping
from typing import Any, Final

from .encoding import b64u, canonical, dumps, loads, unb64u
from .errors import Malformed
from .fields import is_version
from .nkeys import KeyPair, decode_public, encode_public

LINK: Final = "kengele:"
MAX_LINK: Final = 16 * 1024
MAX_OPENED: Final = 64 * 1024
_SHORT: Final = 2
"""The first byte of a short link; a long one begins with a zlib stream's."""
_CHECK: Final = 4
"""Bytes by which a link that was cut, or mistyped, is told from one that leads elsewhere."""
_PARTS: Final = struct.Struct(">B16s32s32s32s32sQ64s")
_HEADER: Final = b64u(dumps({"typ": "JWT", "alg": "ed25519-nkey"}))


def pack(said: Mapping[str, Any]) -> str:
    """``urls``, ``join``, ``token``, ``root`` and perhaps ``ca``, as JSON values, as a link."""
    body = _short(said)
    if body is None or _long_of(body) != said:
        body = zlib.compress(canonical({"v": 1, **said}), 9)
    return (LINK + b32encode(body).decode("ascii").rstrip("=")).upper()


def unpack(text: str) -> dict[str, Any]:
    """What a link says; neither its values nor their names have been looked at.

    Raises:
        Malformed: ``bad-invitation``.
    """
    body = "".join(text.split())
    if len(body) > MAX_LINK or not body.lower().startswith(LINK):
        raise bad_link()
    body = body[len(LINK) :].upper()
    try:
        data = b32decode(body + "=" * (-len(body) % 8))
        if data[:1] == bytes((_SHORT,)):
            return _long_of(data)
        inflating = zlib.decompressobj()
        opened = inflating.decompress(data, MAX_OPENED)
        if not inflating.eof or inflating.unused_data:
            raise bad_link()
        found = loads(opened, max_bytes=MAX_OPENED)
    except (ValueError, struct.error, zlib.error, Malformed):
        raise bad_link() from None
    if not isinstance(found, dict) or not is_version(found.pop("v", None), 1):
        raise bad_link()
    return found


def bad_link() -> Malformed:
    """What is said of whatever is no link."""
    return Malformed("bad-invitation", "This is not an invitation's link.", "Copy all of it, from 'kengele:' on.")


def _short(said: Mapping[str, Any]) -> bytes | None:
    """The short form; None where the credential or something else is not as it is in most links."""
    if said.keys() != {"urls", "join", "token", "root"}:
        return None
    try:
        _, claims, signature = said["join"]["jwt"].split(".")
        found = loads(unb64u(claims), max_bytes=MAX_OPENED)
        keys = (decode_public(found["iss"], "account"), decode_public(found["nats"]["issuer_account"], "account"))
        parts = (unb64u(said["token"]), unb64u(said["root"]), KeyPair.from_seed(said["join"]["seed"]).key, *keys)
        head = _PARTS.pack(_SHORT, *parts, found["iat"], unb64u(signature))
    except (ValueError, KeyError, TypeError, struct.error, Malformed):
        return None
    body = head + "\n".join(said["urls"]).encode("utf-8")
    return body + zlib.crc32(body).to_bytes(_CHECK, "big")


def _long_of(data: bytes) -> dict[str, Any]:
    """What the short form says. Raises ValueError, struct.error, Malformed."""
    data, check = data[:-_CHECK], data[-_CHECK:]
    if zlib.crc32(data).to_bytes(_CHECK, "big") != check:
        raise bad_link()
    _, token, root, seed, issuer, account, issued, signature = _PARTS.unpack_from(data)
    pair = KeyPair.from_key("user", seed)
    claims: dict[str, Any] = {
        "sub": pair.public,
        "name": pair.public,
        "iat": issued,
        "nats": {"type": "user", "issuer_account": encode_public("account", account), "version": 2},
        "iss": encode_public("account", issuer),
        "jti": "",
    }
    digest = hashlib.new("sha512_256", canonical(claims)).digest()
    claims["jti"] = b32encode(digest).decode("ascii").rstrip("=")
    jwt = f"{_HEADER}.{b64u(canonical(claims))}.{b64u(signature)}"
    urls = data[_PARTS.size :].decode("utf-8").split("\n")
    return {"urls": urls, "join": {"jwt": jwt, "seed": pair.seed}, "token": b64u(token), "root": b64u(root)}
