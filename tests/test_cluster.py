"""Three nats-servers as one broker: whichever is killed, paused or cut off, no acknowledged report is lost."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kengele_node.demo.network import Network
from kengele_node.demo.run import oracle
from kengele_node.member import CARD, Member, now
from kengele_node.monitor.compose import new_report_id, plan_report, seal_report
from kengele_node.monitor.consent import agreed_to
from kengele_node.monitor.home import open_outbox
from kengele_node.monitor.sender import Sender
from kengele_node.office.desk import Desk
from kengele_node.office.home import open_inbox
from kengele_schemas.encoding import canonical
from kengele_testing.cluster import Cluster, ClusterHub, Relay
from kengele_testing.network import draft, fetch_all, small_network, until

pytestmark = pytest.mark.full
EACH = 60
"""Reports that are under way while one server is out."""


@asynccontextmanager
async def clustered(tmp_path: Path) -> AsyncIterator[tuple[Network, Cluster]]:
    """A network with one monitor on a cluster of three."""
    cluster = Cluster(tmp_path / "nats")
    network = Network.at(tmp_path / "network")
    network.hub = ClusterHub(tmp_path / "network" / "hub", cluster)
    try:
        await network.found()
        await network.admit(("osh",))
        yield network, cluster
    finally:
        network.close()
        await cluster.stop()


async def fill(member: Member, count: int) -> dict[str, dict[str, object]]:
    """Seals ``count`` reports into a node's outbox; gives the drafts by id."""
    trusted = member.offline()
    written = {}
    box = open_outbox(member)
    for number in range(count):
        report = draft(severity=1 + number % 5, summary={"text": f"{number}", "lang": "en"})
        plan = plan_report(report, trusted, kid=member.kid, report_id=new_report_id(), now=datetime.now(UTC))
        value = report.model_dump(mode="json", exclude_none=True)
        box.add(
            plan.header.id,
            value,
            plan.offices,
            lambda counters, plan=plan: seal_report(plan, member.key, counters),
            now=datetime.now(UTC).timestamp(),
            agreed=agreed_to(plan),
        )
        written[plan.header.id] = value
    box.close()
    return written


def accepted(member: Member) -> int:
    box = open_outbox(member)
    try:
        counts = box.counts()
    finally:
        box.close()
    assert set(counts) <= {"waiting", "accepted"}
    return counts.get("accepted", 0)


@asynccontextmanager
async def node(network: Network, name: str) -> AsyncIterator[None]:
    """A monitor's node, running in a process of its own."""
    home = network.home / "monitors" / name
    command = [sys.executable, "-m", "kengele_node.cli", "node", "run", "--home", str(home)]
    process = subprocess.Popen(
        [*command, "--key-file", str(network.home / "key")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def until_accepted(member: Member, count: int, seconds: float = 90) -> None:
    async with asyncio.timeout(seconds):
        while await asyncio.to_thread(accepted, member) < count:
            await asyncio.sleep(0.1)


@pytest.mark.timeout(500)
def test_no_acknowledged_report_is_lost_whichever_server_is_killed_paused_or_cut_off(tmp_path: Path) -> None:
    async def run() -> None:
        async with clustered(tmp_path) as (network, cluster):
            member = network.monitors["osh"]
            async with member.session() as session:
                await session.refresh()
            inboxes, follows, sessions = {}, [], []
            for office, one in network.offices.items():
                opening = one.session()
                session = await opening.__aenter__()
                sessions.append(opening)
                inboxes[office] = open_inbox(one)
                desk = Desk(session, inboxes[office], one.id, one.opening_keys, one.nkey.public)
                follows.append(asyncio.create_task(desk.follow()))
            written: dict[str, dict[str, object]] = {}
            try:
                async with node(network, "osh"):
                    for fault in ("kill", "pause", "cut"):
                        written |= await fill(member, EACH)
                        await until_accepted(member, len(written) - EACH + EACH // 5)
                        state = await asyncio.to_thread(network.hub.state) or {}
                        number = cluster.server_of(state["pid"])
                        server = cluster.servers[number]
                        if fault == "kill":
                            server.kill()
                        elif fault == "pause":
                            server.send(signal.SIGSTOP)
                        else:
                            await cluster.cut_off(number)
                        written |= await fill(member, EACH)
                        # While it is out: the other two go on.
                        await until_accepted(member, len(written))
                        if fault == "kill":
                            server.start()
                        elif fault == "pause":
                            server.send(signal.SIGCONT)
                        else:
                            await cluster.let_back(number)
                judge = oracle()
                today = datetime.now(UTC).date()
                wanted = {one: judge.expected(value, today) for one, value in written.items()}
                async with asyncio.timeout(90):
                    while sum(inbox.count() for inbox in inboxes.values()) < sum(map(len, wanted.values())):
                        await asyncio.sleep(0.1)
            finally:
                for follow in follows:
                    follow.cancel()
                await asyncio.gather(*follows, return_exceptions=True)
                for opening in sessions:
                    with suppress(Exception):
                        await opening.__aexit__(None, None, None)
            for office, inbox in inboxes.items():
                seen = [item.arrival.header.id for item in inbox.items(10_000)]
                assert sorted(seen) == sorted(one for one, offices in wanted.items() if office in offices)
                assert not inbox.asides()
                inbox.close()

    asyncio.run(run())


@pytest.mark.timeout(300)
def test_what_a_killed_worker_had_under_way_is_done_by_the_other(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            second = tmp_path / "second"
            second.mkdir(mode=0o700)
            for name in ("keys.json", "hub.json"):
                shutil.copy(network.hub.home / name, second / name)
            url = json.loads((network.hub.home / "running.json").read_bytes())["url"]
            command = [sys.executable, "-m", "kengele_node.cli", "hub", "run", "--home", str(second)]
            worker = subprocess.Popen([*command, "--external", url], stderr=subprocess.DEVNULL)
            try:
                await until(lambda: (second / "running.json").exists(), 40)
                member = network.monitors["osh"]
                async with member.session() as session:
                    await session.refresh()
                written = await fill(member, 4 * EACH)
                async with node(network, "osh"):
                    await until_accepted(member, EACH)
                    state = await asyncio.to_thread(worker_state, second)
                    worker.kill()
                    worker.wait()
                    await until_accepted(member, len(written))
            finally:
                worker.kill()
                worker.wait()
            assert state["receipts"].get("accepted", 0) > 0, "both workers took reports"
            judge = oracle()
            today = datetime.now(UTC).date()
            wanted = {one: judge.expected(value, today) for one, value in written.items()}
            for office, one in network.offices.items():
                own = sorted(report for report, offices in wanted.items() if office in offices)
                items = await fetch_all(one, len(own))
                assert sorted(item.arrival.header.id for item in items) == own

    asyncio.run(run())


def worker_state(home: Path) -> dict[str, Any]:
    """What a worker's own page says."""
    ops = json.loads((home / "running.json").read_bytes())["ops"]
    with urllib.request.urlopen(f"{ops}/status", timeout=30) as answer:
        return dict(json.loads(answer.read()))


@pytest.mark.timeout(240)
def test_a_region_whose_uplink_is_down_past_every_patience_loses_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, uplink = network.monitors["osh"], Relay(network.hub.port)
            card = json.loads((osh.home / CARD).read_bytes())
            (osh.home / CARD).write_bytes(canonical({**card, "urls": [f"nats://127.0.0.1:{uplink.port}"]}))
            await uplink.mend()
            async with osh.session() as session:
                trusted, outbox = await session.refresh(), open_outbox(osh)
                sending = asyncio.create_task(Sender(session, outbox, osh.key, osh.nkey.public).run())
                await uplink.cut()
                ids = []
                for _ in range(8):
                    report_id = new_report_id()
                    plan = plan_report(draft(), trusted, kid=osh.kid, report_id=report_id, now=now())
                    outbox.add(
                        report_id,
                        draft().model_dump(mode="json", exclude_none=True),
                        plan.offices,
                        lambda numbers, plan=plan: seal_report(plan, osh.key, numbers),
                        now=now().timestamp(),
                        agreed=agreed_to(plan),
                    )
                    ids.append(report_id)
                # Down until the node has tried in vain again and again, and its waits have grown.
                tried = asyncio.Semaphore(0)

                async def turned_away(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                    writer.close()
                    tried.release()

                async with await asyncio.start_server(turned_away, "127.0.0.1", uplink.port), asyncio.timeout(90):
                    for _ in range(4):
                        await tried.acquire()
                assert outbox.counts() == {"waiting": 8}
                await uplink.mend()
                async with asyncio.timeout(90):
                    while outbox.counts() != {"accepted": 8}:
                        await asyncio.sleep(0.1)
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
                outbox.close()
            await uplink.cut()
            items = await fetch_all(network.offices["unrcca"], 8)
            assert sorted(item.arrival.header.id for item in items) == sorted(ids)

    asyncio.run(scenario())
