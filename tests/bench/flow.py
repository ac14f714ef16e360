"""The flow: reports that are submitted, stored, routed, fetched and acknowledged, through a hub that runs by itself.

*Delivered* means fetched and acknowledged by all offices' clients. Submitting, receiving and the hub share the machine,
as they would in no deployment; what is said of one kind of hub next to another holds all the same.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.serve import PLAN
from bench.town import PARTS, SETTLED, Town
from kengele_hub import credentials
from kengele_hub.home import HubKeys
from kengele_node.link import Link
from kengele_node.member import now
from kengele_node.office.arrivals import Arrival
from kengele_node.office.desk import receive
from kengele_schemas import subjects
from kengele_schemas.envelope import parse, strip
from kengele_schemas.keys import HYBRID, X25519, new_signing_key
from kengele_schemas.nkeys import KeyPair

RECEIPT: Final = 2400
"""Bytes with which relay and naive answer: about a receipt."""
FETCH: Final = 200
SIEGE: Final = 6
"""How many times longer than other runs one beside a hostile member is."""
SHARED: Final = ("keys.json", SETTLED)
"""What a second worker has of the first one's home."""
_PATIENCE: Final = 60.0


@dataclass
class Served:
    """A hub that runs, and lines of all members to it."""

    town: Town
    senders: dict[str, Link]
    desks: dict[str, Link]
    pid: int
    url: str


def plan_for(town: Town, sample: bytes) -> dict[str, Any]:
    """What relay and naive need to know."""
    office = next(iter(town.opening))
    return {
        "parcel": len(strip(parse(sample), office, PARTS)),
        "receipt": RECEIPT,
        "feeds": [town.nkeys[office] for office in town.opening],
        "offices": list(town.opening),
        "authors": {town.kid(name): bytes(key.verify_key).hex() for name, key in town.authors.items()},
        "parts": list(PARTS),
    }


@contextmanager
def process(kind: str, home: Path, broker: str = "") -> Iterator[tuple[str, int]]:
    """A hub of this kind on ``home``: its broker's address and its process id. With ``broker``, it uses that one."""
    words = [sys.executable, "-m", "bench.serve", kind, str(home), *([broker] if broker else [])]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        url = running.stdout.readline().strip()
        if not url:
            raise RuntimeError(f"the {kind} did not start")
        yield url, running.pid
    finally:
        running.terminate()
        running.wait(30)


@asynccontextmanager
async def served(kind: str, home: Path, town: Town, sample: bytes) -> AsyncIterator[Served]:
    """``town`` on a hub of this kind, everybody connected."""
    keys = town.settle(home)
    (home / PLAN).write_text(json.dumps(plan_for(town, sample)))
    with process(kind, home) as (url, pid):
        senders = {name: _link(keys, town, name, "monitor", url) for name in town.authors}
        desks = {name: _link(keys, town, name, "office", url) for name in town.opening}
        links = [*senders.values(), *desks.values()]
        for link in links:
            await link.__aenter__()
        try:
            for link in links:
                await link.wait_connected(30)
            yield Served(town, senders, desks, pid, url)
        finally:
            for link in links:
                await link.__aexit__(None, None, None)


def _link(keys: HubKeys, town: Town, name: str, role: credentials.Role, url: str) -> Link:
    pair = town.pairs[name]
    jwt = credentials.member(keys.accounts, pair.public, role, now=int(time.time()))
    return Link([url], jwt, pair)


async def flow(hub: Served, load: Sequence[tuple[str, bytes]], in_flight: int) -> tuple[float, float]:
    """Reports a second, with receipts and with all deliveries, for ``load`` sent with ``in_flight`` at a time."""
    started = time.perf_counter()
    waiting = iter(load)

    async def submit() -> None:
        for name, data in waiting:
            subject = subjects.reports_submit(hub.town.nkeys[name])
            await hub.senders[name].request(subject, data, timeout=_PATIENCE)

    async def receive(office: str) -> None:
        nkey, left = hub.town.nkeys[office], len(load)
        link = hub.desks[office]
        while left > 0:
            found = await link.fetch(subjects.feed_stream(nkey), subjects.feed_consumer(nkey), FETCH, 5)
            for number, one in enumerate(found, 1):
                await link.acknowledge(one, confirm=number == len(found))
            left -= len(found)

    desks = [asyncio.create_task(receive(office)) for office in hub.desks]
    await asyncio.gather(*(submit() for _ in range(in_flight)))
    receipts = time.perf_counter() - started
    async with asyncio.timeout(_PATIENCE):
        await asyncio.gather(*desks)
    return len(load) / receipts, len(load) / (time.perf_counter() - started)


def cpu_seconds(pid: int) -> float:
    """What a hub's process and its broker have used."""
    return _ticks(pid) + sum(_ticks(child) for child in _children(pid))


def _ticks(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def compared(suite: str, home: Path, *, reports: int, rounds: int = 5) -> dict[str, Any]:
    """Delivered reports a second by hub, bare relay and naive build, in turn; medians, and medians of the ratios."""
    town = Town.of(suite=suite)
    few = max(50, reports // 10)
    load = town.load(reports * rounds)
    rates: dict[str, list[float]] = {kind: [] for kind in ("kengele", "relay", "naive")}
    receipts: list[float] = []
    async with AsyncExitStack() as stack:
        hubs = {
            kind: await stack.enter_async_context(served(kind, home / f"{kind}-{suite}", town, load[0][1]))
            for kind in rates
        }
        for number in range(rounds):
            part = load[number * reports : (number + 1) * reports]
            for kind in sorted(rates, reverse=bool(number % 2)):
                accepted, delivered = await flow(hubs[kind], part if kind != "naive" else part[:few], 256)
                rates[kind].append(delivered)
                if kind == "kengele":
                    receipts.append(accepted)
    return {
        **{f"delivered_{kind}_{suite}": round(statistics.median(found)) for kind, found in rates.items()},
        f"receipts_meanwhile_{suite}": round(statistics.median(receipts)),
        **{
            f"ratio_to_{name}_{suite}": round(
                statistics.median(ours / theirs for ours, theirs in zip(rates["kengele"], rates[kind], strict=True)), 2
            )
            for kind, name in (("relay", "bare_relay"), ("naive", "naive"))
        },
    }


async def workers(home: Path, *, reports: int, rounds: int = 5) -> dict[str, Any]:
    """What a second worker process on the same broker brings, in turn with one alone."""
    town = Town.of()
    load = town.load(reports * 2 * rounds)
    rates: dict[str, list[float]] = {"one": [], "two": []}
    async with served("kengele", home / "one", town, load[0][1]) as hub:
        other = home / "two"
        shutil.copytree(
            home / "one", other, ignore=lambda folder, names: [name for name in names if name not in SHARED]
        )
        for number in range(rounds):
            for kind in sorted(rates, reverse=bool(number % 2)):
                part, load = load[:reports], load[reports:]
                with ExitStack() as stack:
                    if kind == "two":
                        await asyncio.to_thread(stack.enter_context, process("kengele", other, hub.url))
                    rates[kind].append((await flow(hub, part, 256))[1])
    ratios = [two / one for two, one in zip(rates["two"], rates["one"], strict=True)]
    return {
        **{
            f"delivered_{kind}_worker{'s' if kind == 'two' else ''}": round(statistics.median(found))
            for kind, found in rates.items()
        },
        "ratio_two_workers_to_one": round(statistics.median(ratios), 2),
    }


async def besieged(home: Path, *, reports: int, rounds: int = 5) -> dict[str, Any]:
    """What a member that sends all it can costs the others, each round another one, from its first message on.

    It is cut off after a moment, so the share depends on how long one looks, and the seconds do not.
    """
    hostile = [f"hostile-{number}" for number in range(rounds)]
    town = Town.of(monitors=16)
    load = town.load(reports * 2 * rounds)
    for name in hostile:
        town.authors[name], town.pairs[name] = new_signing_key(), KeyPair.generate("user")
        town.nkeys[name] = town.pairs[name].public
    rates: dict[str, list[float]] = {"quiet": [], "besieged": []}
    async with served("kengele", home, town, load[0][1]) as hub:
        keys = HubKeys.load(home)
        for number, name in enumerate(hostile):
            for kind in sorted(rates, reverse=bool(number % 2)):
                part, load = load[:reports], load[reports:]
                async with AsyncExitStack() as stack:
                    if kind == "besieged":
                        await stack.enter_async_context(_flooding(hub, keys, name))
                    rates[kind].append((await flow(hub, part, 64))[1])
    pairs = list(zip(rates["besieged"], rates["quiet"], strict=True))
    return {
        "delivered_beside_hostile": round(statistics.median(rates["besieged"])),
        "hostile_cost_percent": round(100 * (1 - statistics.median(beside / alone for beside, alone in pairs)), 1),
        "hostile_cost_seconds": round(
            statistics.median(reports / beside - reports / alone for beside, alone in pairs), 2
        ),
        "hostile_run_seconds": round(statistics.median(reports / alone for _, alone in pairs), 1),
    }


@asynccontextmanager
async def _flooding(hub: Served, keys: HubKeys, name: str) -> AsyncIterator[None]:
    pair = hub.town.pairs[name]
    jwt = credentials.member(keys.accounts, pair.public, "monitor", now=int(time.time()))
    command = [sys.executable, "-m", "bench.hostile", hub.url, pair.seed, jwt]
    running = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        assert running.stdout is not None
        await running.stdout.readline()
        yield
    finally:
        running.terminate()
        await running.wait()


async def receipts(home: Path, *, reports: int = 2000) -> dict[str, Any]:
    """Durable receipts a second and what each took, with 1, 16 and 256 reports under way; nobody fetches meanwhile."""
    town = Town.of()
    load = iter(town.load(reports * 3))
    found: dict[str, Any] = {}
    async with served("kengele", home, town, town.load(1)[0][1]) as hub:
        for in_flight, count in ((1, reports // 10), (16, reports), (256, reports)):
            part, took = iter([next(load) for _ in range(count)]), []
            started = time.perf_counter()

            async def submit(part: Iterator[tuple[str, bytes]] = part, took: list[float] = took) -> None:
                for name, data in part:
                    begun = time.perf_counter()
                    subject = subjects.reports_submit(hub.town.nkeys[name])
                    await hub.senders[name].request(subject, data, timeout=_PATIENCE)
                    took.append(time.perf_counter() - begun)

            await asyncio.gather(*(submit() for _ in range(in_flight)))
            found[f"receipts_{in_flight}"] = round(count / (time.perf_counter() - started))
            found |= _percentiles(f"receipt_{in_flight}", took)
    return found


async def readable(home: Path, *, rate: int, count: int) -> dict[str, Any]:
    """From submission to the moment at which a desk has verified and opened it, at ``rate`` reports a second.

    One report goes ahead: at a hub that has this moment begun it would wait for what the hub does once, and so, at a
    high rate, would those behind it.
    """
    town = Town.of()
    first, *load = town.load(count + 1)
    sent: dict[str, float] = {}
    took: list[float] = []
    office, key = next(iter(town.opening.items()))
    rules = town.trusted()
    async with served("kengele", home, town, first[1]) as hub:
        nkey, link = town.nkeys[office], hub.desks[office]

        async def read(wanted: int) -> None:
            while len(took) < wanted:
                found = await link.fetch(subjects.feed_stream(nkey), subjects.feed_consumer(nkey), FETCH, 5)
                for one in found:
                    arrival = receive(one.data, rules, office=office, keys=[key], today=now().date())
                    if isinstance(arrival, Arrival):
                        took.append(time.perf_counter() - sent[arrival.header.id])
                    await link.acknowledge(one)

        async def submit(name: str, data: bytes) -> None:
            sent[parse(data).claims["id"]] = time.perf_counter()
            await hub.senders[name].request(subjects.reports_submit(town.nkeys[name]), data, timeout=_PATIENCE)

        await submit(*first)
        async with asyncio.timeout(_PATIENCE):
            await read(1)
        took.clear()
        reading = asyncio.create_task(read(count))
        begun = time.perf_counter()
        submitting = []
        for number, one in enumerate(load):
            # By the clock and not by the last one's end, or a slow hub would slow down what it is asked.
            await asyncio.sleep(max(0.0, begun + number / rate - time.perf_counter()))
            submitting.append(asyncio.create_task(submit(*one)))
        await asyncio.gather(*submitting)
        async with asyncio.timeout(_PATIENCE):
            await reading
    return _percentiles(f"readable_{rate}_a_second", took)


def _percentiles(name: str, took: Sequence[float]) -> dict[str, float]:
    ordered = sorted(took)
    return {
        f"{name}_p{part}_ms": round(1000 * ordered[min(len(ordered) - 1, len(ordered) * part // 100)], 1)
        for part in (50, 99)
    }


def measured(*, reports: int = 1500, rounds: int = 5) -> dict[str, Any]:
    """Every figure of the flow by its name."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="kengele-bench-") as folder:
        home = Path(folder)
        for suite in (HYBRID, X25519):
            found |= uvloop.run(compared(suite, home, reports=reports, rounds=rounds))
        found["ratio_to_bare_relay"] = found[f"ratio_to_bare_relay_{HYBRID}"]
        found["ratio_to_naive"] = found[f"ratio_to_naive_{HYBRID}"]
        found |= uvloop.run(receipts(home / "receipts"))
        found |= uvloop.run(workers(home / "workers", reports=reports, rounds=rounds))
        found |= uvloop.run(besieged(home / "besieged", reports=SIEGE * reports, rounds=max(1, rounds - 2)))
        found |= uvloop.run(readable(home / "slow", rate=1, count=60))
        found |= uvloop.run(readable(home / "quick", rate=100, count=1000))
    return found
