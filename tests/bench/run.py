"""``make bench``: what things cost, side by side in one run; a table, or with ``--json`` one JSON object.

Medians of alternating rounds: what is compared runs in turn, so a ratio between two does not depend on the hour.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from nacl.signing import SigningKey

from bench import flow, growth, member, policies
from kengele_schemas.compartments import bitmap
from kengele_schemas.envelope import TENSION_REPORT, check_whole, parse, strip, verify
from kengele_schemas.keys import HYBRID, X25519, OpeningKey, monitor_id
from kengele_schemas.sealing import Reader, open_envelope, seal
from kengele_schemas.trusted import UNNAMED
from kengele_testing.base import installed_bytes

ROUNDS = 5
AUTHOR = SigningKey.generate()
PUBLIC = bytes(AUTHOR.verify_key)
PARTS = bitmap(("handling", "summary", "account"))
CLAIMS = {
    "v": 2,
    "net": UNNAMED,
    "id": "A" * 22,
    "kid": monitor_id(PUBLIC),
    "kind": "report",
    "area": "KG-O",
    "categories": ["rumour"],
    "severity": 2,
    "day": "2026-11-01",
    "day_precision": 1,
    "tlp": "AMBER",
    "pol": 3,
}
CONTENTS = {
    "summary": {"text": "s" * 120, "lang": "en"},
    "account": {"text": "a" * 600, "lang": "en"},
    "place": {"name": "p" * 40},
}


def rate(work: Callable[[], Any], seconds: float = 0.3) -> float:
    """Calls of ``work`` a second."""
    count, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        work()
        count += 1
    return count / passed


def sealing() -> dict[str, Any]:
    jobs: dict[str, Callable[[], Any]] = {}
    sizes: dict[str, int] = {}
    for suite in (X25519, HYBRID):
        keys = [OpeningKey.generate(suite) for _ in range(8)]
        readers = [Reader(f"office-{n}", key.public, PARTS, 1) for n, key in enumerate(keys)]
        data = seal(TENSION_REPORT, CLAIMS, CONTENTS, readers, AUTHOR)
        given = strip(parse(data), "office-3", ("handling", "summary", "account"))
        sizes[f"bytes_whole_{suite}"], sizes[f"bytes_one_office_{suite}"] = len(data), len(given)

        def check(data: bytes = data) -> None:
            envelope = parse(data)
            verify(envelope, PUBLIC)
            check_whole(envelope)

        jobs[f"seal_{suite}"] = lambda readers=readers: seal(TENSION_REPORT, CLAIMS, CONTENTS, readers, AUTHOR)
        jobs[f"verify_{suite}"] = check
        jobs[f"open_{suite}"] = lambda given=given, key=keys[3]: open_envelope(parse(given), "office-3", [key], PUBLIC)
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            found[name].append(rate(job))
    return {**{name: round(statistics.median(rates)) for name, rates in found.items()}, **sizes}


def node() -> dict[str, Any]:
    """Start and memory of a node's process, beside an empty Python; memory as Linux counts it."""
    script = (
        "import re, time; t = time.perf_counter(); {}; "
        "print(time.perf_counter() - t, re.search(r'VmRSS:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )

    def measured(what: str) -> tuple[float, float]:
        runs = [
            subprocess.run([sys.executable, "-c", script.format(what)], capture_output=True, text=True, check=True)
            for _ in range(ROUNDS)
        ]
        pairs = [tuple(map(float, run.stdout.split())) for run in runs]
        return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs)

    seconds, kilobytes = measured("import kengele_node.monitor.commands")
    _, bare = measured("pass")
    sizes = installed_bytes()
    return {
        "node_import_ms": round(1000 * seconds),
        "node_resident_mb": round(kilobytes / 1024),
        "bare_python_mb": round(bare / 1024),
        "node_installed_mb": round(sum(sizes.values()) / 1e6, 1),
        **{f"installed_mb_{name}": round(size / 1e6, 1) for name, size in sorted(sizes.items()) if size > 2e6},
    }


PARTS: dict[str, tuple[str, Callable[[argparse.Namespace], dict[str, Any]]]] = {
    "flow": ("reports through a running hub, beside a bare relay and a naive build", lambda _: flow.measured()),
    "growth": ("what a report costs as the network grows", lambda args: growth.measured(long=args.long)),
    "member": ("what a node costs its machine and its line", lambda args: member.measured(idle=args.idle)),
    "sealing": ("seal, verify, open", lambda _: sealing()),
    "policies": ("the policy, beside Cedar", lambda _: policies.measured()),
    "node": ("start, memory and size of a node", lambda _: node()),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure, side by side, and print a table.")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--only", action="append", choices=sorted(PARTS), help="this part; repeat")
    parser.add_argument("--idle", type=int, default=member.IDLE, metavar="SECONDS", help="how long a node rests")
    parser.add_argument("--long", action="store_true", help="a log of a million entries; takes minutes")
    args = parser.parse_args()
    found: dict[str, Any] = {}
    for name, (what, measured) in PARTS.items():
        if name in (args.only or PARTS):
            print(f"{name}: {what} …", file=sys.stderr, flush=True)
            found |= measured(args)
    if f"seal_{HYBRID}" in found:
        found["ratio_seal_hybrid_to_x25519"] = round(found[f"seal_{HYBRID}"] / found[f"seal_{X25519}"], 2)
    if args.json:
        print(json.dumps(found))
        return
    rows = {**found, **{f"growth_{name}": value for name, value in found.get("growth", {}).items()}}
    rows.pop("growth", None)
    for name, value in rows.items():
        print(f"{name:44}{value:>14,}")


if __name__ == "__main__":
    main()
