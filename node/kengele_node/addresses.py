"""The hub's addresses: of which kinds they are, and which of them may be used."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from kengele_schemas.errors import Malformed

SECURE: Final = ("tls", "wss")
WEB: Final = ("ws", "wss")
_SCHEMES: Final = {"nats": 4222, "tls": 4222, "ws": 80, "wss": 443}


def checked_scheme(url: str, allow_plain: bool) -> str:
    """The scheme of ``url``. Raises Malformed: it is none, holds credentials or would go out in the clear."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in _SCHEMES and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid or "@" in url or not url.isascii():
        raise Malformed("malformed", "The hub's address is not one.", "It looks like tls://hub.example.org:4222")
    if parts.scheme not in SECURE and not allow_plain and not _loopback(parts.hostname or ""):
        raise Malformed("plain-connection", "The hub's address would go out unencrypted.", "Use tls: or wss: instead.")
    return parts.scheme


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
