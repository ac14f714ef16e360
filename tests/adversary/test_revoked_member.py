"""What a revoked member cannot have taken, whatever connection it finds: here it is past the broker, which lets it in
no more (``test_whole_network.py``, ``test_node_permissions.py``), and speaks to a hub's parts themselves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kengele_schemas import subjects
from kengele_schemas.encoding import loads
from kengele_schemas.envelope import parse
from kengele_testing.hub import Hub, running_hub

pytestmark = pytest.mark.full


async def delivered(hub: Hub, office: str, count: int) -> list[str]:
    """Whose reports the office has in its feed once there are ``count``, by their ids."""
    async with asyncio.timeout(60):
        while len(found := await hub.feed(office)) < count:
            await asyncio.sleep(0.02)
    return [str(parse(one.data).claims["id"]) for one in found]


def test_a_revoked_member_cannot_have_new_reports_accepted_or_delivered(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_hub(tmp_path) as hub, hub.running("worker", "delivery"):
            roster = hub.roster
            before, waited = roster.sealed(), roster.sealed()
            assert (await hub.send("osh", before))["code"] == "accepted"
            assert len(await delivered(hub, "unrcca", 1)) == 1

            await hub.publish(roster.with_monitor("osh", status="revoked"))
            later = roster.sealed()
            recall = roster.sealed(kind="recall", recalls=parse(before).claims["id"], contents={})
            for sender, data, code in (
                ("osh", waited, "monitor-revoked"),
                ("osh", later, "monitor-revoked"),
                ("osh", roster.sealed("batken"), "replayed"),
                ("batken", later, "replayed"),
                ("unrcca", later, "unknown-monitor"),
                ("osh", recall, "monitor-revoked"),
            ):
                assert (await hub.send(sender, data))["code"] == code

            revoked = roster.changed("connections.json", revoked=[{"nkey": roster.nkeys["osh"], "at": 1}])
            await hub.publish(roster.with_monitor("osh", status="revoked") | revoked)
            assert (await hub.send("osh", later))["code"] == "unknown-monitor"

            # The same hub takes and delivers what another sends, and of hers there is what there was before.
            others = roster.sealed("batken")
            assert (await hub.send("batken", others))["code"] == "accepted"
            ids = [str(parse(data).claims["id"]) for data in (before, others)]
            assert await delivered(hub, "unrcca", 2) == ids
            assert await delivered(hub, "council", 2) == ids
            kept = b"".join(one.data for one in await hub.stored(subjects.LEDGER))
            for data in (waited, later, recall):
                assert loads(data, max_bytes=1 << 20)["payload"].encode() not in kept
            assert loads(before, max_bytes=1 << 20)["payload"].encode() in kept

    asyncio.run(run())
