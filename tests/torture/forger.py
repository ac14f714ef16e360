"""Throws what must be refused, at the hub by members' own lines and at desks from the hub's own account.

Each forgery is in the journal, with the id and the text by which it would be known on a desk, before it is thrown. Of
one genuine report, sent several times at once, one must arrive.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence

import nats.errors

from kengele_node.member import Member, Session, now
from kengele_node.monitor.compose import new_report_id, plan_report, seal_report
from kengele_schemas import subjects
from kengele_schemas.errors import KengeleError
from kengele_schemas.keys import new_signing_key
from kengele_schemas.report import parse_draft
from kengele_schemas.trusted import Trusted
from torture import world
from torture.town import Town

_PATIENCE = 20.0
_ATTEMPTS = 10
_BETWEEN = 1.0


class Forger:
    """Throws one volley after the other."""

    def __init__(self, town: Town) -> None:
        self.thrown = 0
        self._town = town

    async def volley(self, dice: random.Random, gone: Sequence[str]) -> None:
        """Throws one of each kind over the line of a member who is in; ``gone`` are nodes whose members are not."""
        for _ in range(_ATTEMPTS):
            try:
                await self._volley(dice, gone)
                return
            except (KengeleError, nats.errors.Error):
                await asyncio.sleep(_BETWEEN)  # the line was away, as lines are here

    async def _volley(self, dice: random.Random, gone: Sequence[str]) -> None:
        nodes = [node for node in self._town.nodes if node not in gone]
        own, other = dice.sample(nodes, 2)
        member = self._town.network.monitors[own]
        victim = self._town.network.monitors[dice.choice([*gone, other])]
        async with member.session(_PATIENCE) as session:
            trusted = await session.refresh()
            honest = self._sealed(dice, own, member, trusted, forged=False)
            taken = next(iter(self._town.by_node[own]), None)
            foreign = world.node_names(len(world.AREAS))[(world.AREAS.index(world.area_of(own)) + 1) % 6]
            tampered = self._sealed(dice, own, member, trusted)
            at = tampered.index(b'"account":"') + dice.randint(20, 200)
            changed = b"A" if tampered[at : at + 1] != b"A" else b"B"
            thrown = [
                tampered[:at] + changed + tampered[at + 1 :],
                self._sealed(dice, own, member, trusted, key=new_signing_key()),
                self._sealed(dice, foreign, member, trusted),
                self._sealed(dice, own, victim, trusted),
                dice.randbytes(dice.randint(1, 4000)),
                honest[: dice.randint(1, len(honest) - 1)],
            ]
            if taken is not None:  # under a free id it would be the member's own and genuine
                thrown.append(self._sealed(dice, own, member, trusted, report_id=taken))
            await asyncio.gather(*(self._throw(session, member, data) for data in thrown))
            self.thrown += len(thrown)
            await asyncio.gather(*(self._repeat(session, member, honest) for _ in range(3)))
        await self._into_feeds(dice, own, member, trusted)

    def _sealed(
        self,
        dice: random.Random,
        node: str,
        member: Member,
        trusted: Trusted,
        *,
        key: object = None,
        report_id: str = "",
        forged: bool = True,
    ) -> bytes:
        """A report as a monitor at ``node`` would write it, by ``member``, signed with ``key``; in the journal."""
        value = world.draft(dice, node, dice.getrandbits(30), now().date().isoformat())
        # Everybody in the area may read it: a forgery that only went to nobody would prove nothing.
        value |= {"severity": 5, "tlp": "GREEN"}
        value.pop("handling", None)
        report = parse_draft(value)
        plan = plan_report(report, trusted, kid=member.kid, report_id=report_id or new_report_id(), now=now())
        journal = self._town.journal
        if forged:
            journal.write("forged", id=plan.header.id, text=value["summary"]["text"])
        else:
            written = report.model_dump(mode="json", exclude_none=True)
            pol = plan.header.pol
            journal.write("submit", id=plan.header.id, node=node, kid=member.kid, pol=pol, draft=written)
        return seal_report(plan, key or member.key, {})  # type: ignore[arg-type]

    async def _throw(self, session: Session, member: Member, data: bytes) -> None:
        if await self._answer(session, member, data) == "accepted":
            self._town.journal.write("forged-taken")

    async def _repeat(self, session: Session, member: Member, data: bytes) -> None:
        """A report of the member's own, sent once more: taken each time, and stored once."""
        await self._answer(session, member, data)

    async def _answer(self, session: Session, member: Member, data: bytes) -> str:
        try:
            answer = await session.link.request(subjects.reports_submit(member.nkey.public), data, timeout=_PATIENCE)
            return str(json.loads(answer)["code"])
        except KengeleError as error:
            return error.code

    async def _into_feeds(self, dice: random.Random, node: str, member: Member, trusted: Trusted) -> None:
        """What a hostile hub would do: puts a stranger's report under a member's name straight into every feed."""
        for office in self._town.network.offices.values():
            data = self._sealed(dice, node, member, trusted, key=new_signing_key())
            subject = subjects.feed_subject(office.nkey.public, new_report_id())
            await self._town.nc.publish(subject, data)
            self.thrown += 1
