"""A disk that is really full, under a hub with its own nats-server: nothing is acknowledged, nothing is to be repaired.

The disk is a file system in memory that is made smaller: that takes root. Where it cannot be made, this is skipped.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from kengele_hub import consumers
from kengele_hub.access import Access
from kengele_hub.delivery import CONSUMER
from kengele_hub.home import HubKeys
from kengele_node.demo.network import Network
from kengele_node.member import Session
from kengele_schemas import subjects
from kengele_schemas.errors import KengeleError
from kengele_testing.network import draft, sealed, small_network
from torture.site import Site

pytestmark = [pytest.mark.full, pytest.mark.timeout(240)]
_ROOM = 5 << 30
_PATIENCE = 150.0
_AT_ONCE = 12


async def answers(network: Network, session: Session, reports: Sequence[bytes]) -> set[str]:
    """The hub's codes, or those of the line, for reports of the monitor in Osh that come at once."""

    async def one(data: bytes) -> str:
        try:
            subject = subjects.reports_submit(network.monitors["osh"].nkey.public)
            return str(json.loads(await session.link.request(subject, data, timeout=20))["code"])
        except KengeleError as error:
            return error.code

    return set(await asyncio.gather(*map(one, reports)))


async def undelivered(network: Network) -> int:
    """Entries of the log that are not in every feed."""
    access = Access(HubKeys.load(network.hub.home), f"nats://127.0.0.1:{network.hub.port}")
    try:
        nc = await access.connect()
    except KengeleError:
        return 1  # the broker begins anew
    try:
        found = await consumers.consumer(nc, subjects.LEDGER, CONSUMER)
        return int(found["num_pending"]) + int(found["num_ack_pending"]) if found else 1
    except KengeleError:
        return 1
    finally:
        await nc.close()


def test_a_hub_whose_disk_was_full_takes_reports_again_by_itself_once_there_is_room(tmp_path: Path) -> None:
    async def claims(site: Site) -> None:
        async with small_network(site.disks["broker"]) as network, network.monitors["osh"].session() as session:
            trusted = await session.refresh()

            def some() -> list[bytes]:
                return [sealed(network.monitors["osh"], draft(), trusted) for _ in range(_AT_ONCE)]

            assert await answers(network, session, some()) == {"accepted"}
            # Room for a batch in a file of its own, and not for its way from there into the ledger.
            site.fill("broker", sum(map(len, some())) * 3 // 2)
            async with asyncio.timeout(_PATIENCE):
                while (codes := await answers(network, session, last := some())) == {"accepted"}:
                    pass
            assert codes <= {"accepted", "hub-unavailable", "storage-full", "unreachable"}
            site.free("broker")
            async with asyncio.timeout(_PATIENCE):
                while await answers(network, session, last) != {"accepted"} or await undelivered(network):
                    await asyncio.sleep(0.5)

    with Site(tmp_path, _ROOM) as site:
        if "disk" in site.lacks:
            pytest.skip(f"NOT TESTED: {site.lacks['disk']}")
        asyncio.run(claims(site))
