"""Opening of the pages in the person's own browser, and new addresses for whoever sits at the terminal.

A program's arguments are read by every user of the machine, so the browser is given the name of a file, and the file,
which only this user can read, holds the address. Whoever wants the address itself presses Enter: it is good once, and
not for long.
"""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
import tempfile
import threading
import webbrowser
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from kengele_schemas import disk
from kengele_schemas.errors import KengeleError

from .guard import Guard
from .sessions import TICKET_LIFE, Ticket

_FILE: Final = "open.html"
_PAGE: Final = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Kengele</title>'
    '<meta name="referrer" content="no-referrer"><meta http-equiv="refresh" content="0;url={url}">'
    '<p><a href="{url}">Kengele</a></p>\n'
)
Say = Callable[[str], None]


@asynccontextmanager
async def offered(guard: Guard, home: Path, tell: Say, note: Say, *, browser: bool) -> AsyncIterator[None]:
    """While the block runs, opens the pages in a browser, and tells a new address for each Enter.

    Args:
        guard: what stands before the pages.
        home: directory for the file that the browser reads.
        tell: says an address.
        note: says a sentence about it.
        browser: whether to open one; otherwise the first address is told at once.
    """
    tasks = {asyncio.create_task(_on_enter(guard, tell))}
    if browser:
        tasks.add(asyncio.create_task(_in_browser(guard, home, tell, note)))
    else:
        tell(guard.address(guard.sessions.ticket()))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _in_browser(guard: Guard, home: Path, tell: Say, note: Say) -> None:
    ticket = guard.sessions.ticket()
    url = guard.address(ticket)
    with suppress(OSError, KengeleError), tempfile.TemporaryDirectory(prefix="opening-", dir=home) as folder:
        file = written(Path(folder), url)
        if file is not None and await _came(file.as_uri(), ticket, note):
            return
    tell(url)


async def _came(uri: str, ticket: Ticket, note: Say) -> bool:
    """Opens a browser at ``uri`` and waits until it came by the ticket, or that is over; False if there is none."""
    # Some browsers end with their window only: the file must not stay for as long.
    opening = asyncio.create_task(asyncio.to_thread(webbrowser.open, uri))
    used = asyncio.create_task(ticket.used.wait())
    try:
        done, _ = await asyncio.wait({opening, used}, timeout=TICKET_LIFE, return_when=asyncio.FIRST_COMPLETED)
        if used not in done and opening in done and not opening.result():
            return False
        note("The browser opens. If it shows nothing, press Enter for an address.")
        await asyncio.wait({used}, timeout=TICKET_LIFE)
        return True
    finally:
        used.cancel()


def written(folder: Path, url: str) -> Path | None:
    """The file that sends a browser to ``url``; None where the disk does not keep others from reading it."""
    if stat.S_IMODE(folder.stat().st_mode) & 0o077:
        return None
    file = folder / _FILE
    disk.write(file, _PAGE.format(url=url).encode())
    return file.resolve()


async def _on_enter(guard: Guard, tell: Say) -> None:
    loop, pressed = asyncio.get_running_loop(), asyncio.Event()
    threading.Thread(target=_listen, args=(lambda: loop.call_soon_threadsafe(pressed.set),), daemon=True).start()
    while True:
        await pressed.wait()
        pressed.clear()
        tell(guard.address(guard.sessions.ticket()))


def _listen(pressed: Callable[[], object]) -> None:
    """Calls ``pressed`` for what is typed, until the input ends.

    Reads the descriptor, not ``sys.stdin``: a thread that holds that one's lock keeps the interpreter from ending.
    """
    with suppress(OSError, ValueError, AttributeError, RuntimeError):
        descriptor = sys.stdin.fileno()
        while os.read(descriptor, 1024):
            pressed()


def in_background() -> None:
    """Lets a console that runs in the background fail to read the terminal, where the system would stop it instead."""
    with suppress(AttributeError, ValueError):
        signal.signal(signal.SIGTTIN, signal.SIG_IGN)
