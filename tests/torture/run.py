"""``make torture``: thousands of reports through a network that is killed, frozen, cut off and filled up meanwhile.

The driver sets the network up, torments it, lets it come to rest, and writes down what the desks hold. What that is
worth says the judge, a program of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

from torture import world
from torture.faults import schedule
from torture.harvest import dump, judged, under_way, waiting_at
from torture.site import Site
from torture.torment import Torment
from torture.town import Town

KEYS: Final = (
    *("seed", "kills", "reports", "acknowledged", "missing", "doubled", "wrongly_delivered"),
    *("delivered_after_revocation", "forged_accepted", "seconds"),
)
_REST: Final = 150.0
"""Seconds without a report that moves, though nothing is in the way any more, after which it is given up."""
_STILL: Final = 3
"""Looks at which nothing must be under way."""
_ROOM: Final = 4 << 30
"""Bytes of a disk at least: the hub reserves some gigabytes for what it keeps besides reports."""
_ROOM_EACH: Final = 48 << 10
_MOST: Final = {"kills": 2000, "reports": 1_000_000, "nodes": 100}


async def torture(run: Path, seed: int, kills: int, reports: int, nodes: int) -> dict[str, Any]:
    """One run in an empty directory; what the judge finds, and what the driver saw."""
    started = time.monotonic()
    with Site(run, _ROOM + reports * _ROOM_EACH) as site:
        for sentence in site.lacks.values():
            say(f"LEFT OUT: {sentence}")
        town = Town(site, seed, nodes, reports)
        torment = Torment(town, seed, lambda what: say(_line(town, started, what)))
        try:
            say(f"seed {seed}; founding a network of {nodes} nodes and {len(world.OFFICES)} offices")
            await town.found()
            town.start()
            await torment.carry_out(schedule(seed, kills, nodes, site.lacks), reports)
            say(_line(town, started, "the faults are over"))
            waiting = await _rest(town, torment, started)
            await dump(town)
        finally:
            await town.end()
        ends = {process.name: process.ends for process in town.processes.values() if process.ends}
    found = judged(run)
    return {
        **found,
        "seed": seed,
        "reports": found["submitted"],
        "seconds": round(time.monotonic() - started, 1),
        "faults": dict(torment.done),
        "forgeries": torment.forger.thrown,
        "revoked": len(torment.gone),
        "flipped": len(torment.rotten),
        "waiting": waiting,
        "ended": ends,
        "left_out": sorted(site.lacks),
    }


async def _rest(town: Town, torment: Torment, started: float) -> int:
    """Returns when nothing waits any more, or gives how much still does."""
    still, before = 0, (0, 0)
    moved = told = time.monotonic()
    while time.monotonic() - moved < _REST and still < _STILL:
        left = sum(waiting_at(town, node) for node in town.nodes if node not in torment.gone)
        moving = await under_way(town)
        writing = any(not process.finished for process in town.of("writer"))
        still = 0 if left or moving or writing else still + 1
        now = (len(town.acknowledged), town.seen)
        before, moved = now, moved if now == before else time.monotonic()
        if time.monotonic() - told > 5:
            told = time.monotonic()
            say(_line(town, started, f"coming to rest: {left} wait, {moving} under way"))
        await asyncio.sleep(0.5)
    return sum(waiting_at(town, node) for node in town.nodes if node not in torment.gone)


def _line(town: Town, started: float, what: str) -> str:
    passed = time.monotonic() - started
    return f"{passed:6.0f} s  {len(town.acknowledged):6} acknowledged  {town.seen:6} on desks  {what}"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def table(found: dict[str, Any]) -> str:
    """What came of it, for people."""
    rows = [(key.replace("_", " "), found[key]) for key in KEYS]
    rows += [
        ("on desks", found["delivered"]),
        ("decided by more than one version", found["loose"]),
        ("excused by a revocation", found["excused"]),
        ("forgeries thrown", found["forgeries"]),
        ("still waiting", found["waiting"]),
        ("faults", ", ".join(f"{count} {kind}" for kind, count in sorted(found["faults"].items()))),
        ("left out", ", ".join(found["left_out"]) or "nothing"),
    ]
    return "\n".join(f"{name:34} {value}" for name, value in rows)


def number(name: str, least: int) -> Any:
    """A reader of the option ``name``: a number from ``least`` to the most that is taken."""

    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= _MOST[name]:
            raise argparse.ArgumentTypeError(f"not a number from {least} to {_MOST[name]}")
        return int(text)

    return read


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make torture ARGS=…",
        description="Torment a whole network, and compare what it acknowledged with its desks.",
    )
    parser.add_argument("--kills", type=number("kills", 0), default=25, help="SIGKILLs (default: 25)")
    parser.add_argument("--reports", type=number("reports", 20), default=10_000, help="reports (default: 10000)")
    parser.add_argument("--nodes", type=number("nodes", 4), default=24, help="monitors' nodes (default: 24)")
    parser.add_argument("--seed", type=_seed, help="repeats a schedule of faults (default: drawn, and printed)")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end of stdout")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave journal, dumps and logs in this new directory")
    args = parser.parse_args(argv)
    if args.reports < args.nodes:
        parser.error("argument --reports: less than one for each node")
    if args.keep is not None and args.keep.exists() and (not args.keep.is_dir() or any(args.keep.iterdir())):
        parser.error("argument --keep: that directory is not empty")
    if args.seed is None:
        args.seed = secrets.randbelow(1 << 32)
    return args


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("not a number from 0 on")
    return int(text)


async def _until_told(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """``work``, given up in order on SIGTERM: hosts and disks are not left behind."""
    doing = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, doing.cancel)
    return await doing


def main() -> int:
    args = arguments()
    run = args.keep or Path(tempfile.mkdtemp(prefix="torture-"))
    run.mkdir(parents=True, exist_ok=True)
    try:
        found = asyncio.run(_until_told(torture(run.resolve(), args.seed, args.kills, args.reports, args.nodes)))
    except asyncio.CancelledError:
        say("Ended before its time; nothing was judged.")
        return 130
    good = found["clean"] and not found["waiting"] and found["acknowledged"] > 0
    for sentence in found["told"]:
        say(sentence)
    if args.keep is None and good:
        shutil.rmtree(run, ignore_errors=True)
    else:
        say(f"Journal, dumps and logs are in {run}.")
    print(json.dumps({key: found[key] for key in KEYS}) if args.json else table(found))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
