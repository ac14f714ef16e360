"""The user of this machine at the other end of a connection from the machine itself, where the system tells it.

A port on 127.0.0.1 is open to every user of the machine. Linux lists each socket with the user who made it
(Documentation/networking/proc_net_tcp.rst); other systems do not tell, and then the other checks stand alone.

Root is let in: it reads this process's memory anyhow, and some relays from outside (WSL's) are root's. The kernel lists
a socket that nobody holds any more as root's, too: only connected ones that somebody holds count.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_ESTABLISHED: Final = "01"
_MAPPED: Final = f"{0:016X}{struct.unpack('=I', bytes((0, 0, 255, 255)))[0]:08X}"
"""::ffff:0:0/96 as the table writes it: an IPv6 socket that speaks IPv4."""
_LOOKS: Final = 3
"""A table that changes while it is read can leave out a row."""


def let_in(transport: asyncio.BaseTransport | None) -> bool:
    """Whether the other end of ``transport`` is this process's user, or root; True where the system does not tell."""
    if transport is None:
        return False
    return permitted(transport.get_extra_info("peername"), transport.get_extra_info("sockname"))


def permitted(peer: Any, own: Any, tables: tuple[Path, ...] = TABLES) -> bool:
    """The same for two addresses of one connection, each a pair of IPv4 address and port."""
    try:
        wanted = (_written(*peer[:2]), _written(*own[:2]))
    except (OSError, TypeError, ValueError):
        return False
    for _ in range(_LOOKS):
        rows = _rows(tables)
        if rows is None:
            return True
        users = _users(wanted, rows)
        if users:
            return users <= {os.geteuid(), 0}
    return False


def _written(address: str, port: int) -> str:
    # The kernel prints the address as a number in the machine's own byte order.
    (number,) = struct.unpack("=I", socket.inet_aton(address))
    return f"{number:08X}:{port:04X}"


def _rows(tables: tuple[Path, ...]) -> list[list[str]] | None:
    """The fields of all sockets; None if the system does not tell."""
    texts = []
    for table in tables:
        with suppress(OSError):
            texts.append(table.read_text("ascii"))
    return [line.split() for text in texts for line in text.splitlines()[1:]] if texts else None


def _users(wanted: tuple[str, str], rows: list[list[str]]) -> set[int]:
    found = set()
    for fields in rows:
        if len(fields) < 10 or tuple(one.removeprefix(_MAPPED) for one in fields[1:3]) != wanted:
            continue
        if fields[3] == _ESTABLISHED and fields[9] != "0":
            found.add(int(fields[7]))
    return found
