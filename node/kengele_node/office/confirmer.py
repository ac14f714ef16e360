"""The office's word that it obeyed a recall: signed once nothing is left, and sent until the hub has it in its log.

>>> desk.confirm = Confirmer(session, inbox, member.id, member.key, member.nkey.public, network=root_digest).confirm
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from nacl.signing import SigningKey

from kengele_schemas import subjects
from kengele_schemas.encoding import loads
from kengele_schemas.errors import KengeleError, Malformed, Refused, Untrusted
from kengele_schemas.recall import MAX_CONFIRMATION, sign_confirmation

from .inbox import Inbox

PACE: Final = 60.0
"""Seconds until what the hub refused is sent again."""


class Session(Protocol):
    """What it needs of a :class:`~kengele_node.member.Session`."""

    async def ask(self, subject: str, document: Any) -> dict[str, Any]: ...


class Confirmer:
    """Confirms for one office.

    Args:
        session: the line.
        inbox: where the recalls stand.
        office: the office's id.
        key: its signing key.
        nkey: the office's.
        network: the digest of the network's first root.
        clock: Unix seconds.
    """

    told: Callable[[KengeleError], None]
    """Called with what keeps a confirmation from being taken."""

    def __init__(
        self,
        session: Session,
        inbox: Inbox,
        office: str,
        key: SigningKey,
        nkey: str,
        *,
        network: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.told = lambda _: None
        self._session, self._inbox, self._office, self._key, self._nkey = session, inbox, office, key, nkey
        self._clock, self._network = clock, network
        self._rests_until = float("-inf")

    async def confirm(self) -> None:
        """Sends what is still to be confirmed. A refusal is told, and stops nobody's reading.

        Raises:
            Unreachable: no line; the confirmations stay in the inbox.
            Damaged, Refused: the inbox's own trouble.
        """
        if self._clock() < self._rests_until:
            return
        waiting = self._inbox.unconfirmed()
        if not waiting:
            return
        self._inbox.scrub()
        for one in waiting:
            at = datetime.fromtimestamp(self._clock(), UTC)
            said = sign_confirmation(self._office, one.report, one.recall, network=self._network, at=at, key=self._key)
            try:
                document = loads(said, max_bytes=MAX_CONFIRMATION)
                answer = await self._session.ask(subjects.recalls_confirm(self._nkey), document)
            except (Refused, Malformed, Untrusted) as error:
                self._rests_until = self._clock() + PACE
                self.told(error)
                continue
            if answer.get("code") == "confirmed":
                self._inbox.confirmed(one.name)
