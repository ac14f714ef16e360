"""``make fuzz``: each reader of what comes from outside, given a million bent inputs in all; bounded and repeatable.

An input that breaks one is written to ``tests/fuzz/corpus/TARGET/`` and from then on tried first. Ends with 1 if there
was one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

from fuzz.mutation import bent
from fuzz.targets import Target, targets
from kengele_schemas.errors import KengeleError

CORPUS: Final = Path(__file__).parent / "corpus"
HANG: Final = 10.0
"""Seconds that no input may take."""
_ROUND: Final = 2000
_KEPT: Final = 64


class Hang(BaseException):
    """An input took longer than :data:`HANG`."""


def _hang(_: int, __: FrameType | None) -> None:
    raise Hang


@contextmanager
def _watched() -> Iterator[None]:
    signal.setitimer(signal.ITIMER_REAL, HANG)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def judged(target: Target, data: bytes) -> str:
    """``refused``, ``taken``, or what is wrong: ``accepted``, ``hang``, the name of an exception."""
    try:
        with _watched():
            good = target.take(data)
    except KengeleError:
        return "refused"
    except Hang:
        return "hang"
    except Exception as error:
        return type(error).__name__
    if good and not target.free and data not in target.seeds:
        return "accepted"
    return "taken" if good else "refused"


def kept(target: Target) -> list[bytes]:
    """Inputs that once broke ``target``."""
    return [path.read_bytes() for path in sorted((CORPUS / target.name).glob("*"))]


def fuzzed(name: str, executions: int, seed: int) -> tuple[int, dict[str, int], list[tuple[str, str, bytes]]]:
    """Runs one target; gives how often, the outcomes, and what broke it."""
    signal.signal(signal.SIGALRM, _hang)
    (target,) = (one for one in targets() if one.name == name)
    rng = random.Random(f"{seed}/{name}")
    pool, outcomes, broken = list(target.seeds), dict[str, int](), list[tuple[str, str, bytes]]()
    for number in range(executions):
        data = bent(rng.choice(pool), rng, pool)
        outcome = judged(target, data)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        if outcome not in ("refused", "taken"):
            broken.append((name, outcome, data))
        elif number % _ROUND == 0 and len(pool) < _KEPT and len(data) < 1 << 16:
            # What is bent already is bent further.
            pool.append(data)
    return executions, outcomes, broken


def main() -> None:
    parser = argparse.ArgumentParser(prog="make fuzz", description="Give every reader bent inputs.")
    parser.add_argument("--executions", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--only", action="append", choices=[one.name for one in targets()], help="this target; repeat")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    args = parser.parse_args()
    chosen = [one for one in targets() if one.name in (args.only or [one.name for one in targets()])]
    shares = sum(one.share for one in chosen)
    print(f"seed {args.seed}", file=sys.stderr, flush=True)
    started, done, rows = time.monotonic(), 0, dict[str, Any]()
    broken: list[tuple[str, str, bytes]] = []
    signal.signal(signal.SIGALRM, _hang)
    for target in chosen:
        for data in kept(target):
            if (outcome := judged(target, data)) not in ("refused", "taken"):
                broken.append((target.name, outcome, data))
    with ProcessPoolExecutor(args.processes) as pool:
        jobs = {
            (one.name, part): pool.submit(
                fuzzed, one.name, -(-args.executions * one.share // shares // args.processes), args.seed + part
            )
            for one in sorted(chosen, key=lambda one: one.share)
            for part in range(args.processes)
        }
        for (name, _), job in jobs.items():
            count, outcomes, bad = job.result()
            done += count
            broken += bad
            row = rows.setdefault(name, {})
            for outcome, times in outcomes.items():
                row[outcome] = row.get(outcome, 0) + times
            print(f"{name}: {row}", file=sys.stderr, flush=True)
    for name, outcome, data in broken:
        path = CORPUS / name / hashlib.sha256(data).hexdigest()[:16]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        print(f"{name}: {outcome}: {path}", file=sys.stderr)
    told = {"seed": args.seed, "executions": done, "broken": len(broken), "seconds": round(time.monotonic() - started)}
    print(json.dumps({**told, "targets": rows}) if args.json else "\n".join(f"{k:12}{v:>14,}" for k, v in told.items()))
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
