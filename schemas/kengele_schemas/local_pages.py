"""Checks that every page on a member's or an operator's own machine shares: names it answers to, headers, connections.

Another site can make its own name mean 127.0.0.1 and then read what a page there answers. The Host header still says
the other name, so a page answers to names of its own alone.

    >>> "127.0.0.1:9090" in hosts(9090)
    True
    >>> "evil.example.org:9090" in hosts(9090)
    False

Sources: RFC 9110 §7.2, W3C Content Security Policy 3, the Fetch standard ("Cross-Origin-Resource-Policy").
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    # A cache on the disk would keep the address by which a session is known.
    "Cache-Control": "no-store",
}
MOST: Final = 64
"""Connections that one page holds: any user of the machine may open them, and each takes one of the process's files."""
_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")


class Server(Protocol):
    """What is needed of aiohttp's."""

    @property
    def connections(self) -> Sequence[Any]: ...

    def __call__(self) -> asyncio.BaseProtocol: ...


async def listening(server: Server | None, port: int) -> tuple[asyncio.Server, int]:
    """Serves at ``port`` of 127.0.0.1; gives what listens, and the port. 0 lets the system choose.

    Of more connections than :data:`MOST` the oldest end. Raises OSError: as the system has it.
    """
    if server is None:
        raise ValueError("this server was not set up")

    def one_more() -> asyncio.BaseProtocol:
        held = [one.transport for one in server.connections if one.transport is not None]
        for transport in held[: len(held) + 1 - MOST]:
            transport.abort()
        return server()

    found = await asyncio.get_running_loop().create_server(one_more, "127.0.0.1", port)
    return found, found.sockets[0].getsockname()[1]


def hosts(port: int, names: Iterable[str] = _LOOPBACK) -> frozenset[str]:
    """The Host headers of whoever asks for ``port`` by one of ``names``."""
    return frozenset(f"{name}:{port}" for name in names)


def same(given: str, wanted: str) -> bool:
    """Whether both are one, in a time that does not depend on where they differ.

    A header may hold bytes that are no text; they stand in ``given`` as surrogates.
    """
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode("utf-8", "surrogatepass"))
