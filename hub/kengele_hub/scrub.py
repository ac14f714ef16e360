"""The broker's log without addresses: a program between nats-server and its file, ``python -m kengele_hub.scrub FILE``.

NATS names the address of whoever it turns away or drops, and all newcomers are dropped in the end, as their lines run
out. A program of its own and not a task of the hub: nats-server stands still where nobody reads its log, and it has
still something to say when the hub is gone. It reads until there is no more, whatever becomes of the file.

    >>> scrubbed("[7] 2026/01/01 00:00:00.000000 [ERR] 203.0.113.9:50112 - cid:10 - authentication error")
    '[7] 2026/01/01 00:00:00.000000 [ERR] - - cid:10 - authentication error'
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from kengele_schemas import disk
from kengele_schemas.errors import KengeleError

MAX: Final = 5 * 1024 * 1024
"""Bytes of the log; as much again is kept of what came before."""
_LINE: Final = 4096
_OWN: Final = re.compile(r"^\[\d+\] \S+ \S+ \[INF\] Listening for ")
"""Only the broker itself is named in these."""
_SAID: Final = re.compile(
    r"(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?"
    r"|\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%\w+)?\](?::\d+)?"
    r"|(?<![\w.])(?:[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{1,4})*)?::(?:[0-9A-Fa-f]{1,4}[:.]?)*(?:%\w+)?"
    r"|(?<![\w.])(?:[0-9A-Fa-f]{1,4}:){5,8}[0-9A-Fa-f]{1,5}(?:%\w+)?"
    r"|\bU[A-Z2-7]{55}\b"
)
"""Addresses, with a port or none, and members' keys."""


def scrubbed(line: str) -> str:
    """``line`` without addresses and keys."""
    return line if _OWN.match(line) else _SAID.sub("-", line)


def main(source: BinaryIO, path: Path) -> None:
    """Writes to ``path`` what comes from ``source``, until it ends. What finds no room is left out."""
    log, size = -1, 0
    while line := source.readline(_LINE):
        text = scrubbed(line.decode("utf-8", "replace")).encode()
        with suppress(OSError, KengeleError):
            if log < 0:
                log = disk.kept(path, append=True)
                size = os.fstat(log).st_size
            if size + len(text) > MAX:
                disk.write(path.with_name(f"{path.name}.1"), os.pread(log, MAX, 0))
                os.ftruncate(log, 0)
                size = 0
            size += os.write(log, text)


if __name__ == "__main__":
    main(sys.stdin.buffer, Path(sys.argv[1]))
