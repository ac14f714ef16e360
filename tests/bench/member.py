"""What a monitor's node costs its machine and its line: start, rest, and bytes."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from bench.flow import cpu_seconds
from kengele_node.demo.network import Network
from kengele_node.link import Link
from kengele_node.monitor.compose import new_report_id
from kengele_schemas import subjects
from kengele_testing.network import draft, sealed, small_network

ROUNDS: Final = 5
IDLE: Final = 60
"""Seconds of rest that are looked at; what is said of an hour is sixty of these."""
_REPORTS: Final = 20
_LINE: Final = 64 * 1024


class Counter:
    """Bytes that went through, both ways."""

    def __init__(self) -> None:
        self.bytes = 0

    async def pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(_LINE):
                self.bytes += len(data)
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()


@asynccontextmanager
async def counted(url: str) -> AsyncIterator[tuple[str, Counter]]:
    """Another address for the broker at ``url``, and what goes through it."""
    parts, counter = urlsplit(url), Counter()

    async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(parts.hostname, parts.port)
        await asyncio.gather(counter.pass_on(reader, back), counter.pass_on(there, writer))

    async with await asyncio.start_server(joined, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"nats://{host}:{port}", counter


async def line(network: Network, idle: int) -> dict[str, Any]:
    """Bytes a report and an idle hour, as they go over the line without TLS; headers of IP and TCP are not in it."""
    member = network.monitors["osh"]
    async with member.session() as session:
        trusted = await session.refresh()
    jwt = member.vault.secrets["jwt"].decode("ascii")
    async with counted(member.card.urls[0]) as (detour, counter), Link([detour], jwt, member.nkey) as link:
        await link.wait_connected(15)
        before = counter.bytes
        size = 0
        for _ in range(_REPORTS):
            data = sealed(member, draft(), trusted, report_id=new_report_id())
            size += len(data)
            await link.request(subjects.reports_submit(member.nkey.public), data, timeout=30)
        report = (counter.bytes - before) / _REPORTS
        before = counter.bytes
        await asyncio.sleep(idle)
        rest = (counter.bytes - before) * 3600 / idle
    return {
        "line_bytes_a_report": round(report),
        "line_bytes_of_it_envelope": round(size / _REPORTS),
        "line_bytes_an_idle_hour": round(rest),
    }


async def resting(network: Network, idle: int) -> dict[str, Any]:
    """A node that runs and has nothing to do."""
    command = _command(network, "run")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            await asyncio.sleep(5)
            before = cpu_seconds(running.pid)
            await asyncio.sleep(idle)
            used = cpu_seconds(running.pid) - before
            status = Path(f"/proc/{running.pid}/status").read_text()
        finally:
            running.terminate()
    kilobytes = int(status.partition("VmRSS:")[2].split()[0])
    return {"node_idle_cpu_percent": round(100 * used / idle, 2), "node_running_mb": round(kilobytes / 1024)}


def _command(network: Network, verb: str, *words: str) -> list[str]:
    home = network.monitors["osh"].home
    key = network.lock.key_file
    return [sys.executable, "-m", "kengele_node.cli", "node", verb, "--home", str(home), "--key-file", str(key), *words]


def durable(network: Network, home: Path) -> dict[str, Any]:
    """From the command's start to a report that is sealed and on the disk."""
    file = home / "draft.json"
    file.write_text(json.dumps(draft().model_dump(mode="json", exclude_none=True)))
    took = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        subprocess.run(
            _command(network, "report", str(file), "--yes", "--later"),
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        took.append(time.perf_counter() - started)
    return {"node_cold_start_to_durable_ms": round(1000 * statistics.median(took))}


def measured(*, idle: int = IDLE) -> dict[str, Any]:
    """Every figure of the node by its name."""

    async def all_of_it(home: Path) -> dict[str, Any]:
        async with small_network(home, ("osh",)) as network:
            found = await asyncio.to_thread(durable, network, home)
            return {**found, **await line(network, idle), **await resting(network, idle)}

    with tempfile.TemporaryDirectory(prefix="kengele-bench-") as folder:
        return asyncio.run(all_of_it(Path(folder)))
