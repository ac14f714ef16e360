"""A hub that drops reports and calls them withheld: its key is good for markers, and no rule stands behind its word."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from kengele_hub import jetstream
from kengele_hub.access import Access
from kengele_hub.home import HubKeys
from kengele_node.cli import main
from kengele_node.demo.network import Network
from kengele_node.member import now
from kengele_node.monitor.compose import new_report_id, plan_report, seal_report
from kengele_schemas import subjects
from kengele_schemas.marker import sign_marker
from kengele_testing.network import draft, fetch_all, small_network

pytestmark = pytest.mark.full


async def numbered(network: Network, *numbers: int) -> None:
    """Reports from Osh that carry ``numbers``."""
    osh = network.monitors["osh"]
    async with osh.session() as session:
        trusted = await session.refresh()
        for number in numbers:
            plan = plan_report(draft(), trusted, kid=osh.kid, report_id=new_report_id(), now=now())
            data = seal_report(plan, osh.key, dict.fromkeys(plan.offices, number))
            await session.link.request(subjects.reports_submit(osh.nkey.public), data)


async def called_withheld(network: Network) -> None:
    """A marker in UNRCCA's feed for a report from Osh, signed with the hub's own key."""
    keys, nkey = HubKeys.load(network.hub.home), network.offices["unrcca"].nkey.public
    marker = sign_marker("unrcca", network.monitors["osh"].kid, policy=1, at=int(time.time()), key=keys.hub_key)
    nc = await Access(keys, network.offices["unrcca"].card.urls[0]).connect()
    await jetstream.publish_batch(nc, [(subjects.feed_subject(nkey, "dropped"), marker, jetstream.ONCE)])
    await nc.close()


def test_a_report_that_is_dropped_and_called_withheld_is_told_to_the_office(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run() -> Network:
        async with small_network(tmp_path, ("osh",)) as network:
            await numbered(network, 1, 3)
            await fetch_all(network.offices["unrcca"], 2)
            await called_withheld(network)
            options = ["--home", str(network.offices["unrcca"].home), "--key-file", str(network.home / "key")]
            assert await asyncio.to_thread(main, ["office", "follow", "--once", *options]) == 0
            assert f"withholds a report of {network.monitors['osh'].kid}" in capsys.readouterr().err
            return network

    network = asyncio.run(run())
    kid = network.monitors["osh"].kid
    options = ["--home", str(network.offices["unrcca"].home), "--key-file", str(network.home / "key")]
    assert main(["office", "show", "--problems", *options]) == 0
    told = capsys.readouterr().out
    assert f"From {kid}: the hub says that it withholds 1 reports" in told
    assert main(["office", "show", "--problems", "--json", *options]) == 0
    gaps = json.loads(capsys.readouterr().out)["gaps"]
    assert gaps == {kid: {"missing": [[2, 2]], "unexplained": 0, "withheld": 1}}
