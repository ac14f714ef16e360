"""The hub as a whole: what ends for good is begun anew, and requests are answered again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from kengele_hub.home import HubKeys
from kengele_hub.service import Running, run
from kengele_hub.settings import Settings
from kengele_schemas import subjects
from kengele_testing.server import member_credentials

pytestmark = pytest.mark.full


def test_a_line_that_was_closed_for_good_is_made_anew_and_requests_are_answered_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        keys = HubKeys.create(tmp_path / "hub")
        settings = Settings(port=-1, ops_port=0, token_hash="A" * 43)
        begun: asyncio.Queue[Running] = asyncio.Queue()
        hub = asyncio.create_task(run(keys, settings, begun.put_nowait))
        try:
            async with asyncio.timeout(30):
                first = await begun.get()
                member = member_credentials(keys, "monitor")
                async with member.link(first.url) as link:
                    await link.wait_connected(10)
                    subject = subjects.reports_submit(member.nkey)
                    assert json.loads(await link.request(subject, b"x"))["code"] == "hub-unavailable"
                    await first.worker._nc.close()
                    assert await begun.get() is not first
                    assert json.loads(await link.request(subject, b"x"))["code"] == "hub-unavailable"
        finally:
            hub.cancel()
            await asyncio.gather(hub, return_exceptions=True)

    asyncio.run(scenario())
