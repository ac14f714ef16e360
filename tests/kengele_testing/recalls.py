"""Reports and recalls as a monitor's node sends them, outbox and all, coordinators' recalls, desks that confirm.

entry = await reported(osh, draft())
recall = await recalled(osh, entry, reason="Unsafe.")
await ordered(network, entry.report_id)
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from kengele_node.coordinator import documents as papers
from kengele_node.coordinator.recalls import status_of
from kengele_node.demo.network import Network
from kengele_node.member import Member, now
from kengele_node.monitor.compose import new_report_id, plan_report, seal_report
from kengele_node.monitor.consent import agreed_to
from kengele_node.monitor.home import open_outbox
from kengele_node.monitor.outbox import Entry
from kengele_node.monitor.recalling import confirmations, plan_recall
from kengele_node.monitor.sender import Sender
from kengele_node.office.arrivals import Item, Lost, Tombstone
from kengele_node.office.following import open_desk
from kengele_node.office.home import open_inbox
from kengele_schemas import subjects
from kengele_schemas.orders import mark_of
from kengele_schemas.report import Report

SIGNERS = ("aigul", "moussa")


async def reported(member: Member, report: Report) -> Entry:
    """``report`` sent from ``member``'s outbox and accepted."""
    outbox = open_outbox(member)
    try:
        async with member.session() as session:
            trusted = await session.refresh()
            plan = plan_report(report, trusted, kid=member.kid, report_id=new_report_id(), now=now())
            written = report.model_dump(mode="json", exclude_none=True)
            entry = outbox.add(
                plan.header.id,
                written,
                plan.offices,
                lambda counters: seal_report(plan, member.key, counters),
                now=now().timestamp(),
                agreed=agreed_to(plan),
            )
            return await _sent(session, outbox, member, entry)
    finally:
        outbox.close()


async def recalled(
    member: Member, entry: Entry, *, keep: Sequence[str] = (), offices: Sequence[str] = (), reason: str = ""
) -> Entry:
    """The recall of ``entry``'s report, sent; accepted or refused."""
    outbox = open_outbox(member)
    try:
        async with member.session() as session:
            trusted = await session.refresh()
            intent = plan_recall(entry, keep=keep, offices=offices, reason=reason)
            readers, recall_id = intent.readers(trusted, now().date()), new_report_id()
            recall = outbox.add(
                recall_id,
                intent._asdict(),
                readers,
                lambda counters: intent.seal(recall_id, readers, trusted, member.key, counters),
                now=now().timestamp(),
                agreed=intent.agreed(trusted),
            )
            return await _sent(session, outbox, member, recall)
    finally:
        outbox.close()


async def _sent(session: Any, outbox: Any, member: Member, entry: Entry) -> Entry:
    async with asyncio.timeout(30):
        await Sender(session, outbox, member.key, member.nkey.public, network=member.card.root_digest).send(entry)
    current: Entry = outbox.get(entry.name)
    return current


async def confirmed(member: Member, recall: Entry) -> dict[str, bool]:
    """By office, whether its confirmation of ``recall`` reached the author."""
    async with member.session() as session:
        trusted = await session.refresh()
        answer = await session.ask(subjects.recalls_status(member.nkey.public), {"recall": recall.report_id})
        return {office: said is not None for office, said in confirmations(answer, recall, trusted).items()}


async def followed(member: Member) -> list[Item | Tombstone | Lost]:
    """What ``member``'s desk holds once its feed is empty and what it obeyed is confirmed."""
    inbox = open_inbox(member)
    try:
        async with member.session() as session, asyncio.timeout(30):
            await open_desk(session, inbox).follow(until_empty=True)
        return inbox.items(1000)
    finally:
        inbox.close()


async def until_held(member: Member, count: int, kind: type[Item] | type[Tombstone] = Item) -> list[Any]:
    """Follows until there are ``count`` of ``kind`` at ``member``'s desk; gives those."""
    async with asyncio.timeout(30):
        while len(found := [one for one in await followed(member) if isinstance(one, kind)]) < count:
            await asyncio.sleep(0.02)
    return found


async def ordered(network: Network, report_id: str, keep: Sequence[str] = (), by: Sequence[str] = SIGNERS) -> int:
    """The coordinators ``by`` recall the report with this id; gives the version by which they did."""
    return await network.publish(lambda before: papers.recall(before, report_id, keep=keep), by)


async def obeyed(network: Network, report_id: str) -> dict[str, bool]:
    """By office, whether its confirmation of the coordinators' recall reached them."""
    async with network.coordinators[SIGNERS[0]].session() as session:
        trusted = await session.refresh()
        status = await status_of(session, trusted.orders[mark_of(report_id)], trusted)
        return {office: said is not None for office, said in status.offices.items()}
