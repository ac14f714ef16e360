"""``kengele node rotate``, and the change to the next key in a node that runs."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from kengele_node import terminal
from kengele_node.member import Member, Session
from kengele_node.vault import occupied
from kengele_schemas import disk
from kengele_schemas.errors import KengeleError, Unreachable
from kengele_schemas.trusted import Trusted

from .epochs import Epochs
from .home import action, opened
from .sender import Sender

_AGAIN: Final = 15.0
_DAY: Final = 24 * 3600.0
"""Seconds after which the hub is told once more of a next key: it may have lost it."""


def _take_over(sender: Sender, news: asyncio.Event, trusted: Trusted) -> None:
    sender.take_over(trusted)
    news.set()


@asynccontextmanager
async def kept_current(session: Session, sender: Sender) -> AsyncIterator[None]:
    """While the block runs, ``sender`` goes by the newest rules, and by the next key as soon as the roster has it."""
    news = asyncio.Event()
    work = asyncio.create_task(_change(session, sender, news))
    try:
        async with session.kept_current(partial(_take_over, sender, news)):
            yield
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def _change(session: Session, sender: Sender, news: asyncio.Event) -> None:
    epochs = Epochs(session.member)
    while epochs.under_way:
        news.clear()
        try:
            if await epochs.look(session):
                sender.change_key(session.member.key)
                sender.wake()
                terminal.note(f"From now on this node's name in the network is {session.member.kid}.")
                return
        except Unreachable:
            await asyncio.sleep(_AGAIN)
            continue
        except KengeleError as error:
            terminal.note(f"The next key is not taken ({error.code}). {error.sentence} {error.mend}")
        try:
            async with asyncio.timeout(_DAY):
                await news.wait()
        except TimeoutError:
            continue


def add(actions: Any) -> None:
    """Adds ``rotate``."""
    rotate = action(
        actions,
        "rotate",
        "begin under another name: make the next signing key and hand it in; the same again asks how far it is",
        "kengele node rotate --home node",
        _rotate,
    )
    rotate.add_argument("--out", type=Path, metavar="FILE", help="write it as a file for a coordinator, without a line")


def _rotate(args: argparse.Namespace) -> int:
    member = opened(args)
    with occupied(args.home, "kengele node rotate"):
        epochs = Epochs(member)
        before, said = member.kid, epochs.begin()
        if args.out is not None:
            disk.write(args.out, said.encode())
            taken = False
        else:
            taken = asyncio.run(_looked(member, epochs))
    if args.json:
        file = str(args.out) if args.out else None
        terminal.emit({"monitor": member.kid, "next": None if taken else said.kid, "file": file})
    elif taken:
        terminal.say(f"From now on this node's name in the network is {member.kid}, and no longer {before}.")
    else:
        where = f"{args.out} goes to a coordinator" if args.out else "Handed in"
        terminal.say(f"{where}: {said.kid} is to follow {before}, and does once coordinators have signed.")
        terminal.say(
            "A node that runs changes to it by itself, another with this command once more; no report has to wait."
        )
    return 0


async def _looked(member: Member, epochs: Epochs) -> bool:
    async with member.session() as session:
        return await epochs.look(session)
