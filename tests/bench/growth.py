"""What a report costs as the network grows: the exponent of a straight line through both logarithms.

0 means that it costs the same, 1 that it costs in proportion. Offices may be 1, because each is given its own copy;
nothing else should cost what it does not need.
"""

from __future__ import annotations

import math
import secrets
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.flow import cpu_seconds, flow, served
from bench.town import Town
from kengele_hub import streams
from kengele_hub.ledger import Entry, Ledger
from kengele_node.monitor.outbox import Outbox
from kengele_node.rows import RowCipher
from kengele_schemas import subjects
from kengele_schemas.encoding import b64u
from kengele_schemas.keys import X25519, new_signing_key
from kengele_testing.server import running_broker

REPORTS: Final = 600
OFFICES: Final = (1, 4, 16, 64)
RULES: Final = (10, 100, 1_000, 10_000)
MEMBERS: Final = (100, 1_000, 10_000)
LOG: Final = (1_000, 10_000, 100_000)
LONG_LOG: Final = (*LOG, 1_000_000)
OUTBOX: Final = (1, 100, 1_000, 10_000, 100_000)
_BATCH: Final = 250
_FILL: Final = 1000


def exponent(costs: dict[int, float]) -> float:
    """The slope of the least-squares line through the logarithms."""
    points = [(math.log(size), math.log(cost)) for size, cost in costs.items()]
    x, y = (statistics.fmean(values) for values in zip(*points, strict=True))
    return round(sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points), 3)


async def _report_cost(home: Path, town: Town) -> float:
    """Seconds of hub and broker for one report, from submission to the last acknowledgement."""
    load = town.load(REPORTS)
    async with served("kengele", home, town, load[0][1]) as hub:
        await flow(hub, load[: REPORTS // 6], 64)
        before = cpu_seconds(hub.pid)
        rest = load[REPORTS // 6 :]
        await flow(hub, rest, 64)
        return (cpu_seconds(hub.pid) - before) / len(rest)


async def _log_cost(home: Path, lengths: Sequence[int]) -> dict[int, float]:
    """Seconds of this process and the broker to append one entry, with its proof, behind so many others."""
    found: dict[int, float] = {}
    leaf, body = b"x" * 500, b"y" * 500

    def entries(count: int) -> list[Entry]:
        return [Entry(subjects.ledger_report(b64u(secrets.token_bytes(16))), leaf, body) for _ in range(count)]

    async with running_broker(home) as (broker, _):
        nc = await broker.access.connect()
        await streams.ensure_streams(nc)
        ledger = Ledger(nc, new_signing_key(), "kengele/bench", home / "ledger.cache")
        await ledger.load()
        for length in lengths:
            while ledger.size < length:
                await ledger.append(entries(min(_FILL, length - ledger.size)))
            costs = []
            for _ in range(8):
                batch = entries(_BATCH)
                started = time.process_time(), _broker_seconds(broker.pid)
                ledger.proofs(await ledger.append(batch))
                spent = time.process_time() - started[0] + _broker_seconds(broker.pid) - started[1]
                costs.append(spent / _BATCH)
            found[length] = statistics.fmean(costs)
        await nc.close()
    return found


def _broker_seconds(pid: int | None) -> float:
    return cpu_seconds(pid) if pid is not None else 0.0


def _outbox_cost(home: Path) -> dict[int, float]:
    """Seconds of this process to put one report in, take it up and take it out, with so many waiting behind it."""
    path, rows = home / "outbox.db", RowCipher(secrets.token_bytes(32), "outbox")
    outbox = Outbox(path, rows, "m-bench")
    envelope, now = secrets.token_bytes(8_000), datetime.now(UTC).timestamp()
    outbox.add(b64u(secrets.token_bytes(16)), {}, ["a", "b"], lambda _: envelope, now=now + 1e6)
    found: dict[int, float] = {}
    for depth in OUTBOX:
        with sqlite3.connect(path) as filling:
            (held,) = filling.execute("SELECT count(*) FROM entries").fetchone()
            new = ((b64u(secrets.token_bytes(16)), now + 1e6 + n) for n in range(depth - held))
            filling.executemany(
                "INSERT INTO entries (name, state, next_try, body) "
                "SELECT ?, state, ?, substr(body, 1) FROM entries WHERE number = 1",
                new,
            )
        filling.close()
        costs = []
        for _ in range(100):
            started = time.process_time()
            entry = outbox.add(b64u(secrets.token_bytes(16)), {}, ["a", "b"], lambda _: envelope, now=now)
            (due,) = outbox.due(now, 1)
            outbox.accepted(due.name, b"{}")
            outbox.next_due()
            costs.append(time.process_time() - started)
            outbox.forget(entry.name)
        found[depth] = statistics.median(costs)
    outbox.close()
    return found


def measured(*, long: bool = False) -> dict[str, Any]:
    """Costs in microseconds by size, and ``growth``: the exponents."""
    costs: dict[str, dict[int, float]] = {}
    with tempfile.TemporaryDirectory(prefix="kengele-bench-") as folder:
        home = Path(folder)
        towns: tuple[tuple[str, Sequence[int], Callable[[int], Town]], ...] = (
            ("offices", OFFICES, lambda size: Town.of(size, suite=X25519)),
            ("rules", RULES, lambda size: Town.of(suite=X25519, rules=size)),
            ("members", MEMBERS, lambda size: Town.of(suite=X25519, idle=size)),
        )
        for name, sizes, town in towns:
            costs[name] = {size: uvloop.run(_report_cost(home / f"{name}-{size}", town(size))) for size in sizes}
        costs["log"] = uvloop.run(_log_cost(home / "log", LONG_LOG if long else LOG))
        costs["outbox"] = _outbox_cost(home)
    spelt = {
        f"cost_{name}_{size}_us": round(1e6 * cost) for name, found in costs.items() for size, cost in found.items()
    }
    return {**spelt, "growth": {name: exponent(found) for name, found in costs.items()}}
