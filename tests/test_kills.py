"""SIGKILL of hub, nats-server and nodes at random moments: what was acknowledged is on the right desks, once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kengele_node.demo.network import Network
from kengele_node.demo.run import oracle
from kengele_node.monitor.compose import new_report_id, plan_report, seal_report
from kengele_node.monitor.consent import agreed_to
from kengele_node.monitor.home import open_outbox
from kengele_node.office.arrivals import Item
from kengele_node.office.desk import Desk
from kengele_node.office.home import open_inbox
from kengele_testing.network import draft, small_network

REPORTS = 1000
"""For each of two nodes."""
KILLS = 9


def start_node(network: Network, name: str) -> subprocess.Popen[bytes]:
    home = network.home / "monitors" / name
    command = [sys.executable, "-m", "kengele_node.cli", "node", "run", "--home", str(home)]
    return subprocess.Popen(
        [*command, "--key-file", str(network.home / "key")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


async def fill(network: Network, name: str) -> dict[str, dict[str, object]]:
    """Seals reports into a node's outbox; gives the drafts by id."""
    member, area = network.monitors[name], {"osh": "KG-O", "batken": "KG-B"}[name]
    async with member.session() as session:
        trusted = await session.refresh()
    written = {}
    box = open_outbox(member)
    for number in range(REPORTS):
        report = draft(area=area, severity=1 + number % 5, summary={"text": f"{name} {number}", "lang": "en"})
        moment = datetime.now(UTC)
        plan = plan_report(report, trusted, kid=member.kid, report_id=new_report_id(), now=moment)
        value = report.model_dump(mode="json", exclude_none=True)
        box.add(
            plan.header.id,
            value,
            plan.offices,
            lambda counters, plan=plan, member=member: seal_report(plan, member.key, counters),
            now=moment.timestamp(),
            agreed=agreed_to(plan),
        )
        written[plan.header.id] = value
    box.close()
    return written


def accepted(network: Network, name: str) -> int:
    box = open_outbox(network.monitors[name])
    try:
        counts = box.counts()
    finally:
        box.close()
    assert set(counts) <= {"waiting", "accepted"}
    return counts.get("accepted", 0)


@pytest.mark.full
@pytest.mark.timeout(400)
def test_every_acknowledged_report_is_on_the_right_desks_once_whatever_is_killed(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)

    async def run() -> None:
        async with small_network(tmp_path) as network:
            names = ("osh", "batken")
            written = {name: await fill(network, name) for name in names}
            inboxes, tasks = {}, []
            sessions = [(office, member.session()) for office, member in network.offices.items()]
            for office, opening in sessions:
                member = network.offices[office]
                session = await opening.__aenter__()
                inboxes[office] = open_inbox(member)
                desk = Desk(session, inboxes[office], member.id, member.opening_keys, member.nkey.public)
                tasks.append(asyncio.create_task(desk.follow()))
            nodes = {name: start_node(network, name) for name in names}
            try:
                await torment(network, nodes, dice)
                judge = oracle()
                today = datetime.now(UTC).date()
                wanted = {
                    report_id: judge.expected(value, today)
                    for drafts in written.values()
                    for report_id, value in drafts.items()
                }
                expected = sum(map(len, wanted.values()))
                async with asyncio.timeout(120):
                    while sum(inbox.count() for inbox in inboxes.values()) < expected:
                        await asyncio.sleep(0.2)
            finally:
                for node in nodes.values():
                    node.kill()
                    node.wait()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                for _, opening in sessions:
                    await opening.__aexit__(None, None, None)
            assert expected > 2 * REPORTS
            for office, inbox in inboxes.items():
                items = [item for item in inbox.items(100_000) if isinstance(item, Item)]
                seen = Counter(item.arrival.header.id for item in items)
                assert set(seen) == {report_id for report_id, offices in wanted.items() if office in offices}
                assert set(seen.values()) <= {1}
                assert not inbox.asides()
                assert not any(inbox.gaps(author).unexplained for author in inbox.authors())
                inbox.close()

    asyncio.run(run())


async def torment(network: Network, nodes: dict[str, subprocess.Popen[bytes]], dice: random.Random) -> None:
    """Kills something again and again, until all reports are acknowledged."""
    kills = 0
    async with asyncio.timeout(240):
        while (done := sum(accepted(network, name) for name in nodes)) < 2 * REPORTS or kills < KILLS:
            if kills < KILLS and done > kills * 2 * REPORTS // (KILLS + 1):
                what = ("hub", "broker", "node")[kills % 3]
                await asyncio.sleep(dice.uniform(0, 0.3))
                if what == "hub":
                    network.hub.kill()
                    await network.hub.start()
                elif what == "broker":
                    lock = (network.hub.home / "broker" / "lock").read_text("ascii").strip("\0")
                    os.kill(int(lock), signal.SIGKILL)
                else:
                    name = dice.choice(sorted(nodes))
                    nodes[name].kill()
                    nodes[name].wait()
                    nodes[name] = start_node(network, name)
                kills += 1
            await asyncio.sleep(0.05)
