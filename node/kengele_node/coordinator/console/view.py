"""What is in force, as the console's pages look at it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from kengele_node.coordinator import board, drafting
from kengele_node.coordinator.drafts import Drafts
from kengele_node.member import Member, Session
from kengele_schemas import drafts, metadata, signatures
from kengele_schemas.cards import coordinator_id
from kengele_schemas.errors import Unreachable
from kengele_schemas.lint import SOON, VERY_SOON
from kengele_schemas.policy import Rule
from kengele_schemas.trusted import Trusted

POLICY: Final = "policy.json"
_AGE: Final = 2.0
"""Seconds for which what was fetched is not fetched again."""


@dataclass(frozen=True)
class InForce:
    """Roster and rules, verified; ``online`` says whether the hub was asked just now."""

    files: Mapping[str, bytes]
    documents: Mapping[str, Any]
    trusted: Trusted
    online: bool

    @property
    def rules(self) -> tuple[Rule, ...]:
        return self.trusted.policy.rules

    def expiring(self, today: date) -> list[Rule]:
        """Rules that end within a fortnight, the first to end first."""
        policies = (self.trusted.policy, *self.trusted.regional.values())
        rules = [rule for policy in policies for rule in policy.rules]
        ending = [rule for rule in rules if rule.expires and today <= rule.expires <= today + SOON]
        return sorted(ending, key=lambda rule: (rule.expires or today, rule.id))

    def signatures_end_soon(self, moment: datetime) -> bool:
        """Whether the coordinators' signatures run out within three days."""
        return self.trusted.targets_expire < moment + VERY_SOON

    def areas_end_soon(self, moment: datetime) -> list[tuple[str, date]]:
        """The areas' documents on which the signatures run out within three days, or did."""
        ends = sorted(self.trusted.ends.items(), key=lambda item: item[1])
        return [(path, end.date()) for path, end in ends if end < moment + VERY_SOON]


class View:
    """One coordinator's console: the line to the hub, her drafts, and what is in force."""

    def __init__(self, member: Member, session: Session, drafts: Drafts) -> None:
        self.member, self.session, self.drafts = member, session, drafts
        self._seen: tuple[float, InForce] | None = None
        self._looking = asyncio.Lock()
        self.own = coordinator_id(bytes(member.key.verify_key))

    def now(self) -> datetime:
        """The home's time, by which all is judged and drafted: no earlier than what it has seen."""
        return self.member.now()

    async def in_force(self, *, anew: bool = False) -> InForce:
        """What is in force; without a line, what was last verified here.

        Raises:
            Untrusted: the hub serves what does not hold.
        """
        loop = asyncio.get_running_loop()
        async with self._looking:
            if self._seen is not None and not anew and loop.time() - self._seen[0] < _AGE:
                return self._seen[1]
            try:
                trusted, online = await self.session.refresh(), True
            except Unreachable:
                trusted, online = await asyncio.to_thread(self.member.offline), False
            found = await asyncio.to_thread(self._read, trusted, online)
            self._seen = (loop.time(), found)
            return found

    def _read(self, trusted: Trusted, online: bool) -> InForce:
        files = self.member.trust.files()
        documents = {path: metadata.document_of(files, path) for path in metadata.document_paths(files)}
        return InForce(files, documents, trusted, online)

    async def propose(self, changed: Mapping[str, Any]) -> str:
        """Drafts ``changed`` documents upon those in force, signs the draft and puts it on the board; gives its name.

        Raises:
            Malformed: the documents do not hold together.
            Unreachable: the hub does not answer; nothing was put anywhere.
        """
        held = await self.in_force(anew=True)
        drafting.check(held.trusted, {**held.documents, **changed}, self.now())
        draft = signatures.sign(drafts.edit(held.files, changed, self.now()), self.member.key)
        return await board.put(self.session, draft)
