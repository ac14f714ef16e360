"""The hub's worker: hears all that is asked over the bus, and has each answered by whose it is.

Nothing that comes in ends it. A request that cannot be understood gets an answer that says so; an error that nobody
foresaw is logged by its type alone, because its text could hold what was sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from kengele_schemas import subjects
from kengele_schemas.encoding import dumps
from kengele_schemas.errors import KengeleError
from kengele_schemas.packing import pack

from . import door
from .audit import Audit
from .authority import Authority
from .headers import Headers
from .home import HubKeys
from .ledger import Ledger
from .lines import Lines
from .pauses import Pauses, Tally
from .recalls import Recalls
from .reception import Reception
from .senders import WEIGHT, Senders
from .shares import Shares
from .submissions import Submissions

MAX_REQUESTS: Final = 4
"""Requests that one sender may have under way, besides reports; more get no answer, either."""
MAX_ASKED: Final = 1000
"""Trust files that one sender is given within a window of :mod:`~kengele_hub.pauses`; a long one counts for several."""
_QUEUE: Final = "hub"
_log = structlog.get_logger(__name__)


class Worker:
    """Intake and the small services, over one connection."""

    def __init__(self, keys: HubKeys, nc: Client, ledger: Ledger, authority: Authority) -> None:
        self._nc, self._ledger, self._authority = nc, ledger, authority
        self._tasks: set[asyncio.Task[None]] = set()
        self.reception = Reception(authority)
        self.audit = Audit(nc, ledger, lambda: authority.standing)
        self.recalls = Recalls(nc, ledger, authority.orders, lambda: authority.standing)
        self.shares = Shares(nc, ledger, self.recalls, lambda: authority.standing)
        self.headers = Headers(nc, ledger, lambda: authority.standing)
        self.senders = Senders(nc, Pauses(authority.access, lambda: authority.revoked))
        self.submissions = Submissions(
            nc, ledger, keys.hub_key, lambda: authority.standing, self.senders, self.recalls, self.shares
        )
        self.lines = Lines(authority.access, self.senders.pauses)
        self._asked = Tally()

    async def listen(self) -> None:
        """Subscribes to all requests. What is submitted waits until ``submissions`` run."""
        await self._nc.subscribe(subjects.SUBMISSIONS, queue=_QUEUE, cb=self.submissions.come)
        await self._nc.subscribe(subjects.TRUST_REQUESTS, queue=_QUEUE, cb=self._trust_asked)
        await self._nc.subscribe(subjects.NEWS, cb=self._heard)
        await self._nc.subscribe(subjects.LEDGER_GROWN, cb=self._grown)
        await self._nc.subscribe(subjects.LEDGER_WAITED, cb=self._waited)
        await self._nc.subscribe(subjects.TRUST_STORED, cb=self._stored)
        for subject, answer in (
            (subjects.METADATA_REQUESTS, self.reception.answer_publish),
            (subjects.BOARD_REQUESTS, self.reception.answer_board),
            (subjects.LOBBY_REQUESTS, self.reception.answer_lobby),
            (subjects.LETTER_REQUESTS, self.reception.answer_letters),
            (subjects.AUDIT_REQUESTS, self.audit.answer_get),
            (subjects.COSIGN_REQUESTS, self.audit.answer_cosign),
            (subjects.CONFIRMATIONS, self.recalls.answer_confirm),
            (subjects.STATUS_REQUESTS, self.recalls.answer_status),
            (subjects.SHARE_REQUESTS, self.shares.answer),
            (subjects.HEADER_REQUESTS, self.headers.answer),
        ):
            await self._nc.subscribe(subject, queue=_QUEUE, cb=self._service(answer))
        for subject, answer in (
            (subjects.CREDENTIAL_REQUESTS, self.reception.answer_join),
            (subjects.ENTRY_REQUESTS, self.reception.answer_enter),
        ):
            opened = await door.opened(self._nc, subject, _QUEUE)
            self._doing(door.keep(opened, self._nc, self._service(answer)))

    async def _heard(self, message: Msg) -> None:
        try:
            await self._authority.heard(message.data)
        except KengeleError as error:
            _log.warning("trust-not-taken-over", code=error.code)

    async def _stored(self, _: Msg) -> None:
        try:
            await self._authority.look_again()
        except KengeleError as error:
            _log.warning("trust-not-taken-over", code=error.code)

    async def _grown(self, message: Msg) -> None:
        with suppress(KengeleError):
            self._ledger.heard(message.data)

    async def _waited(self, message: Msg) -> None:
        with suppress(KengeleError):
            self._ledger.heard_waiting(message.data)

    async def _trust_asked(self, message: Msg) -> None:
        try:
            sender = subjects.sender(message.subject)
            if self._asked.add(sender, 1, time.monotonic()) > MAX_ASKED:
                self.senders.too_much(message)
                return
            answer = self.reception.serve(sender, message.data)
            self._asked.add(sender, len(answer) // WEIGHT, time.monotonic())
            await self.senders.answer(message, answer)
        except KengeleError:
            await self.senders.answer(message, b"")

    def _service(
        self, answer: Callable[[str, bytes], Coroutine[Any, Any, dict[str, Any]]]
    ) -> Callable[[Msg], Awaitable[None]]:
        """A handler that lets a long request not hold up the others."""

        async def handle(message: Msg) -> None:
            try:
                reply = await answer(subjects.sender(message.subject), message.data)
            except KengeleError as error:
                reply = {"code": error.code, "sentence": error.sentence, "mend": error.mend}
            except Exception as error:
                _log.error("request-failed", error=type(error).__name__)
                reply = {"code": "hub-unavailable", "sentence": "The hub could not do this.", "mend": "Try again."}
            await self.senders.answer(message, pack(dumps(reply)))

        async def start(message: Msg) -> None:
            if self.senders.enter(message, MAX_REQUESTS):
                self._doing(handle(message)).add_done_callback(lambda _: self.senders.leave(message))

        return start

    def _doing(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
