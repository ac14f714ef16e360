"""The tormented network as it is set up: broker, hub workers, homes, and a process for each.

The broker stands alone, as in an installation with a NATS of its own, and two hub workers share it under one identity.
Nodes and desks are the programs that people run: ``kengele node run`` and ``kengele office follow``.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from nats.aio.client import Client

from kengele_hub.access import Access
from kengele_hub.home import HubKeys
from kengele_node.coordinator import admission, standing
from kengele_node.coordinator import documents as papers
from kengele_node.demo.network import Hub, Network
from kengele_node.member import Member, now
from kengele_schemas import metadata
from kengele_schemas.areas import Areas
from kengele_schemas.cards import HubCard, JoinRequest, NetworkCard, read_card
from kengele_schemas.errors import KengeleError
from kengele_schemas.keys import OpeningKey
from kengele_testing.certificates import make_certificate
from torture import world
from torture.journal import Journal
from torture.processes import Process
from torture.site import Site

HUBS: Final = 2
WRITERS: Final = 2
SIGNERS: Final = ("aigul", "moussa")
_KENGELE: Final = (sys.executable, "-m", "kengele_node.cli")
_AT_ONCE: Final = 8
_START: Final = 90.0
_BETWEEN: Final = 0.5
_YEARS: Final = timedelta(days=400)
_EARLIER: Final = timedelta(days=3)
"""Members' keys hold from so long ago, whatever day a moved clock says."""
_ID: Final = re.compile(rb'"id": ?"([A-Za-z0-9_-]{22})"')
_STATE: Final = re.compile(rb'"state": ?"(accepted|kept)"')


class _Outside(Hub):
    """A hub with a broker of its own beside it; its workers are processes of the town."""

    def __init__(self, home: Path, url: str, start: Callable[[], None]) -> None:
        super().__init__(home)
        self._url, self._start = url, start

    def init(self) -> HubCard:
        command = [*_KENGELE, "hub", "init", "--home", str(self.home), "--external", self._url]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return read_card((self.home / "hub-card.json").read_bytes(), HubCard)

    async def start(self) -> None:
        self._start()
        async with asyncio.timeout(_START):
            # A worker that starts has the broker take the accounts anew, and an answer under way may be lost by that.
            while len([*self.home.parent.glob("hub-*/running.json")]) < HUBS:
                await asyncio.sleep(0.05)

    def stop(self) -> None:
        pass


_TESTS: Final = Path(__file__).parents[1]
"""From where a writer finds its modules, whoever starts it."""


class Town:
    """One run's network. ``processes`` by name."""

    def __init__(self, site: Site, seed: int, nodes: int, reports: int) -> None:
        self.site, self.run, self.seed, self.each = site, site.run, seed, -(-reports // nodes)
        self.nodes = world.node_names(nodes)
        self.processes: dict[str, Process] = {}
        self.journal = Journal(self.run, "driver")
        self.acknowledged: set[str] = set()
        self.by_node: dict[str, set[str]] = {node: set() for node in self.nodes}
        """Of those, what each node's monitor wrote."""
        self.seen = 0
        self.turn = 0
        port = 4222 if "cut" not in site.lacks else _free_port()
        self.url = f"tls://{site.address}:{port}"
        (self.run / "log").mkdir()
        self._tls, _ = make_certificate(self.run, address=site.address, begins=-_YEARS, ends=_YEARS)
        # Everybody here trusts that one certificate, as all trust an authority elsewhere.
        os.environ["SSL_CERT_FILE"] = str(self._tls.certificate)
        members = self.run / "members"
        members.mkdir(exist_ok=True)
        self.network = Network.at(members)
        self.network.hub = _Outside(self.run / "hub-0", self.url, self._start_hub)
        self.nc: Client

    def of(self, role: str) -> list[Process]:
        """The processes in this role."""
        return [process for process in self.processes.values() if process.role == role]

    async def found(self) -> None:
        """Founds the network and admits its members; nothing is written or sent yet."""
        network = self.network
        await network.found()
        self.nc = await Access(HubKeys.load(self.run / "hub-0"), self.url).connect("torture")
        card = read_card((network.home / "network.json").read_bytes(), NetworkCard)
        requests = []
        for office, suite in world.OFFICES.items():
            key = OpeningKey.generate(suite)
            profile = {"id": office, "name": office, "areas": list(world.AREAS)}
            member = Member.create(
                network.home / "offices" / office, network.lock, "office", profile, (key,), card=card
            )
            network.offices[office] = member
            areas = tuple(world.AREAS)
            requests.append(
                JoinRequest.for_office(member.key, member.nkey, id=office, name=office, areas=areas, keys=(key.public,))
            )
        for node in self.nodes:
            areas = (world.area_of(node),)
            member = Member.create(
                network.home / "monitors" / node, network.lock, "monitor", {"areas": list(areas)}, card=card
            )
            network.monitors[node] = member
            requests.append(JoinRequest.for_monitor(member.key, member.nkey, areas))
        kids = {node: member.kid for node, member in network.monitors.items()}
        self.journal.write("world", offices=list(world.OFFICES), monitors=kids)

        def change(before: Mapping[str, Any]) -> dict[str, Any]:
            admitted = admission.admit(before, requests, Areas.world(), (now() - _EARLIER).date())
            return {**admitted, **self._rules(before, 0)}

        await insist(lambda: network.publish(change, SIGNERS))
        self.journal.write("published", version=2)
        await self._let_in()

    async def publish_rules(self, turn: int) -> None:
        """Brings the rules of that turn into force, however often it takes."""
        while True:
            before = await self._documents()
            if before["policy.json"]["rules"][0]["reason"] == f"turn {turn}":
                break
            await self.network.publish(lambda documents: self._rules(documents, turn), SIGNERS)
        self.turn = turn
        self.journal.write("published", version=before["policy.json"]["version"])

    async def revoke(self, node: str) -> None:
        """Takes the monitor at this node out of the network, however often it takes."""
        kid = self.network.monitors[node].kid
        self.journal.write("revoking", kid=kid)
        at = int(time.time())
        while True:
            before = await self._documents()
            if all(row["member"] != kid for row in before["connections.json"]["connections"]):
                break
            await self.network.publish(lambda documents: standing.remove(documents, kid, at), SIGNERS)
        self.journal.write("revoked", kid=kid)

    def start(self) -> None:
        """Starts nodes, desks and writers."""
        members, key = self.run / "members", self.run / "members" / "key"
        for node in self.nodes:
            command = ("node", "run", "--home", str(members / "monitors" / node), "--key-file", str(key), "--json")
            self._add(node, "node", (*_KENGELE, *command), self._node_said(node))
        for office in world.OFFICES:
            command = (
                "office",
                "follow",
                "--home",
                str(members / "offices" / office),
                "--key-file",
                str(key),
                "--json",
            )
            self._add(office, "desk", (*_KENGELE, *command), self._desk_said(office))
        for number in range(WRITERS):
            name = f"writer-{number}"
            own = self.nodes[number::WRITERS]
            command = (
                sys.executable,
                "-m",
                "torture.writer",
                str(self.run),
                name,
                str(self.seed),
                str(self.each),
                *own,
            )
            self._add(name, "writer", command)

    async def end(self) -> None:
        """Ends every process."""
        await asyncio.gather(*(process.stop() for process in self.processes.values()))
        if hasattr(self, "nc"):
            await self.nc.close()
        self.journal.close()

    def _start_hub(self) -> None:
        home, broker = self.run / "hub-0", self.run / "broker"
        broker.mkdir(exist_ok=True)
        subprocess.run([*_KENGELE, "hub", "export", "--home", str(home), str(broker)], check=True, capture_output=True)
        listen = self.url.removeprefix("tls://")
        tls = f'cert_file: "{self._tls.certificate}", key_file: "{self._tls.key}", handshake_first: true'
        (broker / "server.conf").write_text(f"listen: {listen}\ntls {{ {tls} }}\ninclude kengele.conf\n")
        path = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)))
        program = shutil.which("nats-server", path=path)
        self._add("broker", "broker", (str(shutil.which("env")), "-C", str(broker), str(program), "-c", "server.conf"))
        for number in range(HUBS):
            own = self.run / f"hub-{number}"
            if number:
                own.mkdir(mode=0o700)
                for name in ("keys.json", "hub.json"):
                    shutil.copy(home / name, own / name)
            self._add(own.name, "hub", (*_KENGELE, "hub", "run", "--home", str(own)))

    def _add(
        self, name: str, role: str, command: tuple[str, ...], heard: Callable[[bytes], None] = lambda _: None
    ) -> None:
        env = {} if role in ("broker", "writer") else self.site.clock(name)
        if role == "writer":
            env = {"PYTHONPATH": os.pathsep.join((str(_TESTS), os.environ.get("PYTHONPATH", "")))}
        log = self.run / "log" / f"{name}.log"
        process = Process(name, role, (*self.site.prefix(role), *command), env, log, heard)
        self.processes[name] = process
        process.start()

    def _node_said(self, node: str) -> Callable[[bytes], None]:
        def heard(line: bytes) -> None:
            found = _ID.search(line)
            if found and _STATE.search(line):
                report_id = found[1].decode()
                self.acknowledged.add(report_id)
                self.by_node[node].add(report_id)
                self.journal.write("ack", id=report_id)

        return heard

    def _desk_said(self, office: str) -> Callable[[bytes], None]:
        def heard(line: bytes) -> None:
            found = _ID.search(line)
            if found:
                self.seen += 1
                self.journal.write("seen", office=office, id=found[1].decode())

        return heard

    def _rules(self, before: Mapping[str, Any], turn: int) -> dict[str, Any]:
        made = papers.adopt(before, world.rules(turn))
        self.journal.write("publishing", version=made["policy.json"]["version"], grants=world.grants(turn))
        return made

    async def _documents(self) -> dict[str, Any]:
        files = await self.network.files(SIGNERS[0])
        return {path: metadata.document_of(files, path) for path in metadata.document_paths(files)}

    async def _let_in(self) -> None:
        """Every member comes in once and fetches the rules, so that a writer has some to seal by."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def enter(member: Member) -> None:
            async with gate, member.session(60) as session:
                await session.refresh()

        members = [*self.network.monitors.values(), *self.network.offices.values()]
        await asyncio.gather(*(insist(partial(enter, member)) for member in members))


async def insist(work: Callable[[], Awaitable[object]]) -> None:
    """Does it again until it is done: workers may be killed meanwhile, or not have heard yet who is in."""
    while True:
        try:
            await work()
            return
        except KengeleError:
            await asyncio.sleep(_BETWEEN)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
