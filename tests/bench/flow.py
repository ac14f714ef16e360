"""The flow: reports that are submitted, stored, routed, fetched and acknowledged, through a hub that runs by itself.

*Delivered* means fetched and acknowledged by all offices' clients. Submitting, receiving and the hub share the machine,
as they would in no deployment; what is said of one kind of hub next to another holds all the same.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.serve import PLAN
from bench.town import PARTS, Town
from kengele_hub import credentials
from kengele_hub.home import HubKeys
from kengele_node.link import Link
from kengele_schemas import subjects
from kengele_schemas.envelope import parse, strip

RECEIPT: Final = 2400
"""Bytes with which relay and naive answer: about a receipt."""
FETCH: Final = 200
_PATIENCE: Final = 60.0


@dataclass
class Served:
    """A hub that runs, and lines of all members to it."""

    town: Town
    senders: dict[str, Link]
    desks: dict[str, Link]
    pid: int
    arrived: dict[str, float] = field(default_factory=dict)
    """When the last office had acknowledged a report, by the digest of the bytes it was given there."""


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
def process(kind: str, home: Path) -> Iterator[tuple[str, int]]:
    """A hub of this kind on ``home``: its broker's address and its process id."""
    running = subprocess.Popen(
        [sys.executable, "-m", "bench.serve", kind, str(home)], stdout=subprocess.PIPE, text=True
    )
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
            yield Served(town, senders, desks, pid)
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
