"""A founded network with a hub in a process of its own, for tests that need the whole.

async with small_network(tmp_path) as network:
    sent = await submit(network, "osh", draft())
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kengele_node.demo.network import Network
from kengele_node.member import Member, now
from kengele_node.monitor.compose import new_report_id, plan_report, seal_report
from kengele_node.office.desk import Desk
from kengele_node.office.home import open_inbox
from kengele_schemas.report import Report, parse_draft


@asynccontextmanager
async def small_network(tmp_path: Path, monitors: Sequence[str] = ("osh", "batken")) -> AsyncIterator[Network]:
    """The demonstration's hub, coordinators and offices, and ``monitors``; the hub ends with the block."""
    network = Network.at(tmp_path / "network")
    try:
        await network.found()
        await network.admit(monitors)
        yield network
    finally:
        network.close()


def draft(**changes: Any) -> Report:
    """A small report from Osh that UNRCCA may read."""
    value = {
        "area": "KG-O",
        "categories": ["rumour"],
        "severity": 2,
        "day": now().date().isoformat(),
        "tlp": "AMBER",
        "summary": {"text": "Talk of a fight.", "lang": "en"},
        "account": {"text": "At the bazaar.", "lang": "en"},
    }
    return parse_draft({**value, **changes})


def sealed(member: Member, report: Report, trusted: Any, *, key: Any = None, report_id: str = "") -> bytes:
    """``report`` as ``member`` would send it; ``key`` signs in place of the member's own."""
    plan = plan_report(report, trusted, kid=member.kid, report_id=report_id or new_report_id(), now=now())
    return seal_report(plan, key or member.key, {})


async def fetch_all(member: Member, count: int = 1) -> list[Any]:
    """What ``member``'s desk holds once it has ``count`` reports and its feed is empty."""
    inbox = open_inbox(member)
    try:
        async with member.session() as session:
            network = member.card.root_digest
            desk = Desk(session, inbox, member.id, member.opening_keys, member.nkey.public, network=network)
            async with asyncio.timeout(30):
                await desk.follow(until_empty=True)
                while inbox.count() < count:
                    await asyncio.sleep(0.02)
                    await desk.follow(until_empty=True)
        return list(inbox.items(100_000))
    finally:
        inbox.close()


async def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Returns as soon as ``holds``; fails the test if it does not in time."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.02)
