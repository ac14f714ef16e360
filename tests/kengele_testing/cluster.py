"""Three nats-servers on this machine in one cluster, and lines between them that can be cut.

cluster = Cluster(tmp_path / "nats", 3)
hub = ClusterHub(tmp_path / "hub", cluster)          # a hub on it, in a process of its own
cluster.cut_off(1)                                   # it lives, and the others do not reach it
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from kengele_node.demo.network import Hub
from kengele_schemas.cards import HubCard, read_card


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Relay:
    """A port of this machine from which everything is passed on to another, until the line is cut."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._server: asyncio.Server | None = None
        self._lines: set[asyncio.StreamWriter] = set()

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)

    async def cut(self) -> None:
        """Ends all lines; new ones are refused."""
        if self._server is not None:
            self._server.close()
        for line in list(self._lines):
            line.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Known from the start: one that is cut while the way on is still being made must go as well.
        self._lines.add(writer)
        try:
            with suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", self._target)
                self._lines.add(back)
                try:
                    await asyncio.gather(_pump(reader, back), _pump(there, writer))
                finally:
                    self._lines.discard(back)
        finally:
            self._lines.discard(writer)
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


class NatsServer:
    """One nats-server in ``home``, whose ``server.conf`` stands there."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or "nats-server"
        with (self.home / "out.log").open("ab") as log:
            self.process = subprocess.Popen([program, "-c", "server.conf"], cwd=self.home, stdout=log, stderr=log)

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Cluster:
    """``servers`` of one cluster. Each reaches each of the others over a line of its own."""

    def __init__(self, home: Path, count: int = 3) -> None:
        self.servers = [NatsServer(home / f"n{number}") for number in range(count)]
        self.ports = [free_port() for _ in range(count)]
        routes = [free_port() for _ in range(count)]
        self._routes = routes
        self.relays = {(a, b): Relay(routes[b]) for a in range(count) for b in range(count) if a != b}

    @property
    def url(self) -> str:
        return ",".join(f"nats://127.0.0.1:{port}" for port in self.ports)

    async def start(self, exported: Path) -> None:
        """Starts all servers on what ``kengele hub export`` wrote."""
        for number, server in enumerate(self.servers):
            shutil.copytree(exported, server.home)
            solicited = [f"nats://127.0.0.1:{relay.port}" for (a, _), relay in self.relays.items() if a == number]
            cluster = {
                "name": "kengele",
                "listen": f"127.0.0.1:{self._routes[number]}",
                "routes": solicited,
                # What a server that says nothing had subscribed to is given to others only when its route is given up.
                "ping_interval": "3s",
                "ping_max": 2,
                # Else they would tell each other ways round the lines that are cut here.
                "advertise": "127.0.0.1:1",
                "no_advertise": True,
            }
            lines = [
                f"server_name: n{number}",
                f"listen: 127.0.0.1:{self.ports[number]}",
                f"cluster: {json.dumps(cluster)}",
                "include kengele.conf",
            ]
            (server.home / "server.conf").write_text("\n".join(lines) + "\n")
        for relay in self.relays.values():
            await relay.mend()
        for server in self.servers:
            server.start()

    def server_of(self, pid: int) -> int:
        """The server to which this process is connected."""
        own = {link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
        for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]:
            fields = line.split()
            port = int(fields[2].rpartition(":")[2], 16)
            if f"socket:[{fields[9]}]" in own and fields[3] == "01" and port in self.ports:
                return self.ports.index(port)
        raise AssertionError("not connected")

    async def cut_off(self, number: int) -> None:
        """Leaves this server alive, without a line to the others."""
        for pair, relay in self.relays.items():
            if number in pair:
                await relay.cut()

    async def let_back(self, number: int) -> None:
        for pair, relay in self.relays.items():
            if number in pair:
                await relay.mend()

    async def stop(self) -> None:
        for server in self.servers:
            server.kill()
        for relay in self.relays.values():
            await relay.cut()


class ClusterHub(Hub):
    """A hub that uses a cluster; starting it starts the cluster, if it does not run yet."""

    def __init__(self, home: Path, cluster: Cluster) -> None:
        super().__init__(home)
        self.cluster = cluster

    def init(self) -> HubCard:
        kengele = [sys.executable, "-m", "kengele_node.cli", "hub"]
        own = ["--home", str(self.home)]
        replicas = str(len(self.cluster.servers))
        subprocess.run(
            [*kengele, "init", *own, "--external", self.cluster.url, "--replicas", replicas],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        exported = self.home.parent / "exported"
        subprocess.run([*kengele, "export", *own, str(exported)], check=True, stdout=subprocess.DEVNULL)
        return read_card((self.home / "hub-card.json").read_bytes(), HubCard)

    async def start(self) -> None:
        if self.cluster.servers[0].process is None:
            await self.cluster.start(self.home.parent / "exported")
        await super().start()
