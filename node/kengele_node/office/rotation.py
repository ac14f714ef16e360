"""Rotation at the desk: new opening keys are made ahead and handed in, and those whose grace is over are destroyed.

>>> rotation = Rotation(session, desk)
>>> await rotation.look(trusted)
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from kengele_node.member import Session, now
from kengele_schemas import subjects
from kengele_schemas.errors import KengeleError
from kengele_schemas.roster import Office
from kengele_schemas.rotation import OfficeKeys, ahead, warning
from kengele_schemas.trusted import Trusted

from .desk import Desk
from .keyring import FEWEST, Keyring


class Rotation:
    """The keys of the office whose desk is ``desk``."""

    told: Callable[[str], None]
    """Called with a sentence that the office has to know."""
    failed: Callable[[KengeleError], None]
    """Called where keys could not be handed in; they are handed in again."""

    def __init__(self, session: Session, desk: Desk, *, today: Callable[[], date] = lambda: now().date()) -> None:
        self.told = lambda _: None
        self.failed = lambda _: None
        self._session = session
        self._desk = desk
        self._today = today
        self._ring = Keyring(session.member)
        self._handed_in: tuple[OfficeKeys, date] | None = None
        self._said = ""
        self._learnt: date | None = None

    async def look(self, trusted: Trusted) -> None:
        """Goes by the roster in ``trusted``: which keys open, and whether more are needed. Raises Damaged."""
        office = trusted.offices.get(self._session.member.id)
        if office is None:
            return
        today = self._today()
        self._ring.learn(office, today)
        self._learnt = today if trusted.fresh else None
        if ahead(office.keys, today) < FEWEST or self._ring.hurried(office, today):
            await self._hand_in(office, today)
        self._desk.keys = self._ring.opening(today)
        self._warn(office, today)

    async def rest(self) -> None:
        """Destroys the keys whose grace is over: the feed is empty, so none of them is waited for there.

        Only on a day on which the hub's word was fresh: a clock that runs ahead would cost reports.
        """
        today = self._today()
        if self._learnt == today and (gone := self._ring.destroy(today)):
            self._desk.keys = self._ring.opening(today)
            self.told(f"{gone} opening keys were destroyed: what was sealed under them opens no more.")

    async def _hand_in(self, office: Office, today: date) -> None:
        statement = self._ring.statement(office, today)
        # Once a day again: the hub may have lost it.
        if statement is None or (statement, today) == self._handed_in:
            return
        try:
            await hand_in(self._session, statement)
        except KengeleError as error:
            self.failed(error)
        else:
            self._handed_in = statement, today

    def _warn(self, office: Office, today: date) -> None:
        said = warning(office, today)
        if said and said != self._said:
            self.told(said)
        self._said = said


async def hand_in(session: Session, statement: OfficeKeys) -> None:
    """Leaves ``statement`` for the coordinators. Raises Refused, Unreachable."""
    card = statement.model_dump(mode="json", exclude_none=True)
    await session.ask(subjects.letters_ask(session.member.nkey.public), {"do": "put", "card": card})
