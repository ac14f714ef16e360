"""``kengele office witness``: the hub's log is held against what this desk saw of it, and cosigned."""

from __future__ import annotations

import argparse
import asyncio
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import Any

from kengele_node import terminal
from kengele_node.member import Member, Session
from kengele_node.vault import occupied
from kengele_schemas.errors import Damaged, Unreachable

from .home import action, opened
from .witness import PACE, Memory, Seen, Witness, open_memory


def add(actions: Any) -> None:
    """Adds ``witness``."""
    watch = action(
        actions,
        "witness",
        "check that the hub has taken nothing out of its log since this desk last looked, and sign that",
        "kengele office witness --once",
        _witness,
    )
    watch.add_argument("--once", action="store_true", help="look once; ends with 6 if the log does not hold")


def _witness(args: argparse.Namespace) -> int:
    member = opened(args)
    with occupied(args.home, "kengele office witness"):
        return asyncio.run(_watch(args, member))


async def _watch(args: argparse.Namespace, member: Member) -> int:
    with closing(open_memory(member.home, member.vault.rows("witness"))) as memory:
        async with member.session(15) as session:
            watching = witness_of(session, memory)
            if not args.once:
                terminal.note("The desk witnesses the hub's log; Ctrl-C ends it.")
                while True:
                    with suppress(Unreachable):
                        await watching.watch(await session.refresh())
                    await asyncio.sleep(PACE)
            trusted = await session.refresh()
            seen = await watching.look(trusted)
    size = int(seen.note.split("\n")[1])
    if args.json:
        terminal.emit({"size": size, "checkpoint": seen.note, "shared": seen.shared})
        return 0
    terminal.say(f"The log has {size} entries and continues what this desk saw; cosigned.")
    for office in trusted.offices.active:
        if office != member.id:
            terminal.say(shared_line(office, seen))
    return 0


def witness_of(session: Session, memory: Memory) -> Witness:
    """The office's witness; what keeps it from witnessing is told."""
    member = session.member
    watching = Witness(session, memory, member.id, member.key, member.nkey.public)
    watching.told = lambda error: terminal.note(
        f"The hub's log could not be witnessed ({error.code}). {error.sentence} {error.mend}"
    )
    return watching


def memory_of(member: Member) -> Memory | None:
    """What the office saw of the hub's log. Without it reports are read all the same, and nothing is cosigned."""
    try:
        return open_memory(member.home, member.vault.rows("witness"))
    except Damaged as error:
        terminal.note(f"The hub's log is not witnessed ({error.code}). {error.sentence}")
        return None


def shared_line(office: str, seen: Seen) -> str:
    """When ``office`` last cosigned the log that this desk sees."""
    at = seen.shared.get(office)
    if at is None:
        return f"{office} has never cosigned the log that this desk sees."
    return f"{office} cosigned the same log, last on {moment(at)}."


def moment(at: float) -> str:
    """Unix seconds as day and minute."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="minutes").removesuffix("+00:00") + "Z"
