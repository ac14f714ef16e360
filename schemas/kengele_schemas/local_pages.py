"""Checks that every page on a member's or an operator's own machine shares: which names it answers to, and headers.

Another site can make its own name mean 127.0.0.1 and then read what a page there answers. The Host header still says
the other name, so a page answers to names of its own alone.

    >>> "127.0.0.1:9090" in hosts(9090)
    True
    >>> "evil.example.org:9090" in hosts(9090)
    False

Sources: RFC 9110 §7.2, W3C Content Security Policy 3, the Fetch standard ("Cross-Origin-Resource-Policy").
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import Final

HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    # A cache on the disk would keep the address by which a session is known.
    "Cache-Control": "no-store",
}
_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")


def hosts(port: int, names: Iterable[str] = _LOOPBACK) -> frozenset[str]:
    """The Host headers of whoever asks for ``port`` by one of ``names``."""
    return frozenset(f"{name}:{port}" for name in names)


def same(given: str, wanted: str) -> bool:
    """Whether both are one, in a time that does not depend on where they differ.

    A header may hold bytes that are no text; they stand in ``given`` as surrogates.
    """
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode("utf-8", "surrogatepass"))
