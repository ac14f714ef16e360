"""The senders: how much each has under way, their answers, and who has sent more than is borne."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from kengele_schemas import subjects
from kengele_schemas.errors import KengeleError

from .pauses import Pauses

WEIGHT: Final = 8192
"""Bytes that count for one message more, where it is counted what a sender sends too much."""
DOOR: Final = "join."
"""How the subjects begin under which those ask who are not in yet."""


class Senders:
    """Those who ask one worker for something, each by the subject that is its own.

    Args:
        nc: the line over which they are answered.
        pauses: are told who sends too much.
    """

    def __init__(self, nc: Client, pauses: Pauses) -> None:
        self.pauses = pauses
        self._nc = nc
        self._under_way: dict[str, int] = {}

    @property
    def busy(self) -> int:
        """How many have anything under way."""
        return len(self._under_way)

    def enter(self, message: Msg, most: int) -> bool:
        """Whether ``message`` may be dealt with, as fewer than ``most`` of its subject are; what may not is noted.

        Call :meth:`leave` when it is done with.
        """
        if self._under_way.get(message.subject, 0) >= most:
            self.too_much(message)
            return False
        self._under_way[message.subject] = self._under_way.get(message.subject, 0) + 1
        return True

    def leave(self, message: Msg) -> None:
        """Says that ``message`` is done with."""
        left = self._under_way.get(message.subject, 1) - 1
        if left:
            self._under_way[message.subject] = left
        else:
            self._under_way.pop(message.subject, None)

    def too_much(self, message: Msg) -> None:
        """Notes that whoever sent ``message`` sends more than is asked for."""
        # Whom a request at the door is about is not who sent it.
        with suppress(KengeleError):
            if not message.subject.startswith(DOOR):
                self.pauses.note(subjects.sender(message.subject), 1 + len(message.data) // WEIGHT)

    async def answer(self, message: Msg, data: bytes) -> None:
        """Answers ``message``, if it asks for that and the line stands."""
        if message.reply:
            with suppress(nats.errors.Error):
                await self._nc.publish(message.reply, data)
