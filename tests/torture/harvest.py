"""What is there to see of a town: what waits, what is under way, and in the end what everybody holds, for the judge."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from kengele_hub import consumers
from kengele_hub.delivery import CONSUMER
from kengele_schemas import subjects
from kengele_schemas.errors import KengeleError
from torture import world
from torture.town import Town


def waiting_at(town: Town, node: str) -> int:
    """Reports that wait in a node's outbox; 0 for one that a flipped byte has made unreadable."""
    path = town.run / "members" / "monitors" / node / "outbox.db"
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as store:
            return int(store.execute("SELECT count(*) FROM entries WHERE state = 'waiting'").fetchone()[0])
    except sqlite3.Error:
        return 0


async def under_way(town: Town) -> int:
    """Entries of the log that are not in every feed yet, and items of feeds that are on no desk yet."""
    nkeys = [member.nkey.public for member in town.network.offices.values()]
    readers = [(subjects.LEDGER, CONSUMER)]
    readers += [(subjects.feed_stream(nkey), subjects.feed_consumer(nkey)) for nkey in nkeys]
    try:
        states = [await consumers.consumer(town.nc, *one) for one in readers]
    except KengeleError:
        return 1
    return sum(int(state["num_pending"]) + int(state["num_ack_pending"]) for state in states if state)


async def dump(town: Town) -> None:
    """Writes down, for the judge, what desks, outboxes and feeds hold; desks and nodes say so themselves."""
    members = town.run / "members"
    await asyncio.gather(*(process.stop() for process in (*town.of("desk"), *town.of("node"))))
    key = ("--key-file", str(members / "key"), "--json", "--limit", "100000000")
    for office in world.OFFICES:
        command = ("office", "show", "--home", str(members / "offices" / office), *key)
        await asyncio.to_thread(_said, command, town.run / "desks" / f"{office}.jsonl", must=True)
    for node in town.nodes:
        command = ("node", "outbox", "--home", str(members / "monitors" / node), *key)
        await asyncio.to_thread(_said, command, town.run / "outboxes" / f"{node}.json")
    for office, member in town.network.offices.items():
        path = town.run / "feeds" / f"{office}.jsonl"
        path.parent.mkdir(exist_ok=True)
        with path.open("w") as file:
            async for stored in consumers.read_all(town.nc, subjects.feed_stream(member.nkey.public)):
                item = stored.subject.rpartition(".")[2]
                file.write(json.dumps({"sequence": stored.sequence, "item": item}) + "\n")


def _said(command: Sequence[str], path: Path, *, must: bool = False) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        subprocess.run(
            [sys.executable, "-m", "kengele_node.cli", *command], stdout=file, stderr=subprocess.DEVNULL, check=must
        )


def judged(run: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "torture.judge", str(run.resolve())]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1]).stdout
    found: dict[str, Any] = json.loads(said)
    return found
