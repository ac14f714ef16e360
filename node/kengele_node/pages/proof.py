"""Gate before the key signs: the passphrase, or the key file, is asked for again when it was last given long ago.

A session can be stolen, or a laptop left open. What such a thief can do is look; to sign he needs what opens the home.
Every form is held to it but those that the application names as its own affair, so a form that is added later is
asked about unless somebody says otherwise. Who is asked loses nothing: the page that asks carries the form along.

Five wrong answers end the session. A new one takes a ticket from the terminal, so nobody guesses at a passphrase here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from multidict import MultiMapping

from .guard import FORM_TOKEN, SESSION, Guard, name_of
from .sessions import Session

PROOF_HOLDS: Final = 600.0
"""Seconds from typing the passphrase during which the key signs without it; the same in the page's words."""
TRIES: Final = 5
PASSPHRASE: Final = "passphrase"  # noqa: S105
KEY_FILE: Final = "key_file"
_MAX_KEY: Final = 4096
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Opens = Callable[[str | bytes], bool]
Asking = Callable[[web.Request, list[tuple[str, str]], int | None], web.Response]
"""Makes the page that asks: of the request, the form's fields, and how many tries are left after a wrong one."""
Own = Callable[[str, MultiMapping[object]], bool]


class Proof:
    """Asks who signs for what opens the home.

    Args:
        guard: whose sessions these are.
        opens: whether a passphrase, or what stands in a key file, opens the home.
        asking: makes the page that asks.
        own: whether a form, by the page's name and its fields, needs no key.
        noted: says a line to the person at the terminal.
    """

    def __init__(self, guard: Guard, opens: Opens, asking: Asking, own: Own, noted: Callable[[str], None]) -> None:
        self._sessions = guard.sessions
        self._opens = opens
        self._asking = asking
        self._own = own
        self._noted = noted
        # One at a time: each takes as much memory as opening the home does.
        self._one = asyncio.Lock()

    @web.middleware
    async def middleware(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Lets a form through that needs no key, or whose session has proved itself."""
        if request.method in ("GET", "HEAD"):
            return await handler(request)
        form = await request.post()
        session = request[SESSION]
        if self._own(name_of(request), form) or self._proved(session):
            return await handler(request)
        fields = [
            (name, value)
            for name, value in form.items()
            if isinstance(value, str) and name not in (FORM_TOKEN, PASSPHRASE, KEY_FILE)
        ]
        given = _given(form)
        if not given:
            return self._asking(request, fields, None)
        async with self._one:
            # Of several that were sent at once, those behind the last wrong one find the session ended.
            if self._sessions.find(session.place) is not session:
                return web.Response(status=403, text="This session is ended.")
            if not await asyncio.to_thread(self._opens, given):
                return self._wrong(request, fields, session)
            session.proved, session.wrong = self._sessions.clock(), 0
        return await handler(request)

    def _proved(self, session: Session) -> bool:
        return session.proved is not None and self._sessions.clock() - session.proved <= PROOF_HOLDS

    def _wrong(self, request: web.Request, fields: list[tuple[str, str]], session: Session) -> web.Response:
        session.wrong += 1
        if session.wrong < TRIES:
            return self._asking(request, fields, TRIES - session.wrong)
        self._sessions.end(session)
        self._noted(f"{TRIES} wrong passphrases in the browser: that session is ended. Press Enter for a new address.")
        return web.Response(status=403, text="This session is ended.")


def _given(form: MultiMapping[object]) -> str | bytes:
    """What the form holds to prove it by; empty if nothing."""
    typed, file = form.get(PASSPHRASE, ""), form.get(KEY_FILE)
    if isinstance(file, web.FileField):
        return file.file.read(_MAX_KEY)
    return typed if isinstance(typed, str) else ""
