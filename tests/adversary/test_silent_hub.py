"""A hub that gives an office nothing more of an author: no later number comes that would leave a gap."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from kengele_hub import jetstream
from kengele_hub.access import Access
from kengele_hub.home import HubKeys
from kengele_node.cli import main
from kengele_node.demo.network import Network
from kengele_node.member import now
from kengele_node.monitor.heartbeats import beat, beats
from kengele_node.monitor.home import open_outbox
from kengele_node.office import numbering, problems
from kengele_schemas import subjects
from kengele_testing.network import draft, fetch_all, small_network
from kengele_testing.recalls import reported

pytestmark = pytest.mark.full


def options(network: Network) -> list[str]:
    return ["--home", str(network.offices["unrcca"].home), "--key-file", str(network.home / "key")]


def test_a_hub_that_gives_nothing_more_of_an_author_is_noticed_without_a_later_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> Network:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, unrcca = network.monitors["osh"], network.offices["unrcca"]
            await reported(osh, draft())
            await fetch_all(unrcca, 1)
            entry = await reported(osh, draft())
            await dropped(network, entry.report_id)
            outbox = open_outbox(osh)
            async with osh.session() as session:
                await beat(session, beats(session, outbox, await session.refresh(), now()))
            outbox.close()
            assert await asyncio.to_thread(main, ["office", "follow", "--once", *options(network)]) == 0
            monkeypatch.setattr(numbering, "_GRACE", 0.0)
            assert await asyncio.to_thread(main, ["office", "follow", "--once", *options(network)]) == 0
            return network

    network = asyncio.run(run())
    kid = network.monitors["osh"].kid
    capsys.readouterr()
    assert main(["office", "show", "--problems", *options(network)]) == 0
    assert f"From {kid}: 1 reports are missing that were numbered for this office." in capsys.readouterr().out
    monkeypatch.setattr(problems, "_STALE", -60.0)
    assert main(["office", "show", "--problems", *options(network)]) == 0
    assert f"From {kid}: last heard on {now().date().isoformat()}" in capsys.readouterr().out
    assert main(["office", "show", "--problems", "--json", *options(network)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["gaps"][kid]["missing"] == [[2, 2]]
    assert told["heard"][kid] > 0


async def dropped(network: Network, item: str) -> None:
    """Takes ``item`` out of UNRCCA's feed, as only the hub can."""
    nkey = network.offices["unrcca"].nkey.public
    nc = await Access(HubKeys.load(network.hub.home), network.offices["unrcca"].card.urls[0]).connect()
    stream, subject = subjects.feed_stream(nkey), subjects.feed_subject(nkey, item)
    async with asyncio.timeout(30):
        while await jetstream.last(nc, stream, subject) is None:
            await asyncio.sleep(0.02)
    await jetstream.erase_last(nc, stream, subject)
    await nc.close()
