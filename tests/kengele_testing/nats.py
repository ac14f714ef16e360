"""The configurations of ``deploy/nats``, started for real beside what ``kengele hub export`` wrote.

with Site(tmp_path).server("server.conf") as server:
    await Access(keys, server.url).connect()
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kengele_hub.broker import Tls

CONFIGURATIONS = Path(__file__).parents[2] / "deploy/nats"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """One nats-server on a directory of its own; ``exported`` is what the hub wrote for it."""

    directory: Path
    exported: Path
    tls: Tls
    file: str
    values: dict[str, Any]

    def __post_init__(self) -> None:
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(self.exported, self.directory)
        for path in CONFIGURATIONS.glob("*.conf"):
            shutil.copy(path, self.directory)
        site = (CONFIGURATIONS / "site.conf").read_text()
        extra = CONFIGURATIONS / f"site-{self.file}"
        (self.directory / "site.conf").write_text(self._filled(site + (extra.read_text() if extra.exists() else "")))
        self._process: subprocess.Popen[bytes] | None = None

    def _filled(self, text: str) -> str:
        """``text`` with this server's values in place of the example's; every file of it is the test's certificate."""
        values = {"kengele_host": "127.0.0.1", "kengele_port": free_port(), "kengele_websocket_port": free_port()}
        values |= {"kengele_cluster_port": free_port()} | self.values
        self.values = {name: value for name, value in values.items() if f"{name}:" in text}
        for name, value in self.values.items():
            text = re.sub(rf"(?m)^{name}:.*$", lambda _, n=name, v=value: f"{n}: {_written(v)}", text)  # type: ignore[misc]
        return re.sub(
            r'"/etc/kengele/([a-z-]+)\.pem"',
            lambda found: f'"{self.tls.key if found[1].endswith("key") else self.tls.certificate}"',
            text,
        )

    @property
    def url(self) -> str:
        return f"tls://127.0.0.1:{self.values['kengele_port']}"

    @property
    def websocket_url(self) -> str:
        return f"wss://127.0.0.1:{self.values['kengele_websocket_port']}"

    @property
    def log(self) -> str:
        return (self.directory / "out.log").read_text()

    def tested(self) -> subprocess.CompletedProcess[str]:
        """What ``nats-server -t`` says of the configuration."""
        command = [program(), "-t", "-c", self.file]
        return subprocess.run(command, cwd=self.directory, capture_output=True, text=True, timeout=30, check=False)

    def start(self) -> None:
        with (self.directory / "out.log").open("ab") as log:
            self._process = subprocess.Popen([program(), "-c", self.file], cwd=self.directory, stdout=log, stderr=log)

    def wait(self, seconds: float = 30) -> None:
        """Returns when it listens."""
        end = time.monotonic() + seconds
        while True:
            assert self._process is not None
            assert self._process.poll() is None, self.log
            try:
                socket.create_connection(("127.0.0.1", self.values["kengele_port"]), 1).close()
            except OSError:
                assert time.monotonic() < end, self.log
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)


def program() -> str:
    found = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")
    assert found is not None
    return found


def _written(value: Any) -> str:
    return (
        f"[{', '.join(map(_written, value))}]"
        if isinstance(value, list)
        else f'"{value}"'
        if isinstance(value, str)
        else str(value)
    )


@contextmanager
def started(servers: Sequence[Server]) -> Iterator[None]:
    """All of ``servers`` while the block runs."""
    try:
        for server in servers:
            server.start()
        for server in servers:
            server.wait()
        yield
    finally:
        for server in servers:
            server.kill()


def cluster(tmp_path: Path, exported: Path, tls: Tls) -> list[Server]:
    """Three servers that know of each other."""
    ports = [free_port() for _ in range(3)]
    routes = [f"nats-route://127.0.0.1:{port}" for port in ports]
    return [
        Server(
            tmp_path / f"nats-{number}",
            exported,
            tls,
            "cluster.conf",
            {"kengele_name": f"nats-{number}", "kengele_cluster_port": port, "kengele_routes": routes},
        )
        for number, port in enumerate(ports, 1)
    ]
