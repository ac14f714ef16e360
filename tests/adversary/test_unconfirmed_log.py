"""A hub that takes a report out of the log after its receipt, or shows the author a log that no office sees."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from kengele_node.demo.network import Network
from kengele_testing.commands import asked, run, running, says
from kengele_testing.network import draft, fetch_all, small_network
from kengele_testing.recalls import reported

pytestmark = pytest.mark.full


def _report(network: Network) -> Any:
    """A report from Osh by command; its row in the outbox."""
    path = network.home / "draft.json"
    path.write_text(json.dumps(draft().model_dump(mode="json", exclude_none=True)))
    home = network.monitors["osh"].home
    run(network, "node", "report", str(path), "--yes", home=home)
    row = _row(network)
    assert row["state"] == "accepted"
    return row


def _row(network: Network) -> Any:
    """Osh's newest report in the outbox."""
    return asked(network, "node", "outbox", home=network.monitors["osh"].home)["entries"][0]


async def _exchanged(network: Network, there: Path, here: Path) -> None:
    """Moves the hub's home away to ``there`` and puts the one that is ``here`` in its place, as only the hub can."""
    network.hub.stop()
    network.hub.home.rename(there)
    shutil.copytree(here, network.hub.home, symlinks=True)
    await network.hub.start()


def test_a_report_that_an_office_sees_in_the_log_is_confirmed_and_its_envelope_goes(tmp_path: Path) -> None:
    async def claim() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, unrcca = network.monitors["osh"].home, network.offices["unrcca"].home

            def tell() -> None:
                row = _report(network)
                assert (row["confirmed_by"], row["log_doubted"]) == ([], False)
                assert row["kept_until"] is not None
                assert "No office has confirmed this report yet" in run(network, "node", "outbox", home=osh)
                assert asked(network, "node", "status", home=osh)["unconfirmed"] == 1
                run(network, "office", "witness", "--once", home=unrcca)
                looked = asked(network, "node", "outbox", "--check-log", home=osh)
                assert (looked["confirmed"], looked["waiting"]) == (1, 0)
                row = _row(network)
                assert (row["confirmed_by"], row["kept_until"]) == (["unrcca"], None)
                said = run(network, "node", "outbox", "--again", str(row["number"]), home=osh, fails=3)
                assert "confirmed-already" in said
                assert "Confirmed by: unrcca." in run(network, "node", "outbox", home=osh)

            await asyncio.to_thread(tell)

    asyncio.run(claim())


def test_a_hub_cannot_take_an_accepted_report_out_of_its_log_and_have_the_node_forget_it(tmp_path: Path) -> None:
    async def claim() -> None:
        async with small_network(tmp_path, ("osh", "batken")) as network:
            osh, unrcca = network.monitors["osh"].home, network.offices["unrcca"].home
            network.hub.stop()
            shutil.copytree(network.hub.home, tmp_path / "before", symlinks=True)
            await network.hub.start()
            first = await asyncio.to_thread(_report, network)
            # From here on there is a log without it, and another report stands in its place.
            await _exchanged(network, tmp_path / "private", tmp_path / "before")
            await reported(network.monitors["batken"], draft(area="KG-B"))

            def tell() -> None:
                run(network, "office", "witness", "--once", home=unrcca)
                assert "two-logs" in run(network, "node", "outbox", "--check-log", home=osh, fails=6)
                row = _row(network)
                assert (row["id"], row["log_doubted"], row["confirmed_by"]) == (first["id"], True, [])
                assert row["kept_until"] is None, "until a person decides"
                assert "ATTENTION" in run(network, "node", "outbox", home=osh)
                (evidence,) = json.loads(run(network, "node", "outbox", "--evidence", home=osh))["evidence"]
                assert set(evidence["before"]) == {"leaf", "proof"}
                assert set(evidence["after"]) == {"checkpoint"}
                # It was restored, say the coordinators: what no office confirmed goes out again, as it was sealed.
                run(network, "node", "outbox", "--log-restored", home=osh)
                assert _row(network)["state"] == "waiting"
                with running(network, "node", "run", home=osh) as node:
                    assert says(node)["state"] == "accepted"
                assert _row(network)["log_doubted"] is False

            await asyncio.to_thread(tell)
            assert first["id"] in {item.arrival.header.id for item in await fetch_all(network.offices["unrcca"], 2)}

    asyncio.run(claim())
