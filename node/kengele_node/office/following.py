"""``kengele office follow``: what the feed delivers is taken and told; keys and the hub's log are seen to."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from kengele_node import rules, terminal
from kengele_node.member import Member, Session
from kengele_node.vault import occupied
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.trusted import Trusted

from .confirmer import Confirmer
from .desk import Desk
from .heartbeats import listen
from .home import action, open_inbox, opened
from .inbox import Inbox
from .rotation import Rotation
from .telling import tell
from .witness import Memory
from .witnessing import memory_of, witness_of


def add(actions: Any) -> None:
    """Adds ``follow``."""
    follow = action(
        actions,
        "follow",
        "take what the feed delivers: verify it, open it, keep it, show it",
        "kengele office follow --home desk --json | jq .summary.text",
        _follow,
    )
    follow.add_argument("--once", action="store_true", help="end when the feed is empty")


def _follow(args: argparse.Namespace) -> int:
    member = opened(args)
    with occupied(args.home, "kengele office follow"):
        return asyncio.run(_serve(args, member))


async def _serve(args: argparse.Namespace, member: Member) -> int:
    inbox, memory = open_inbox(member), memory_of(member)
    try:
        async with member.session(15) as session:
            desk = open_desk(session, inbox)
            desk.told = lambda item: tell(args, item)
            desk.watch = _watching(session, desk, inbox, memory)
            if not args.once:
                terminal.note("The desk follows its feed; Ctrl-C ends it.")
                session.link.told = terminal.tell_line
            async with session.kept_current(desk.take_over):
                await desk.follow(until_empty=args.once)
    finally:
        inbox.close()
        if memory is not None:
            memory.close()
    return 0


def open_desk(session: Session, inbox: Inbox) -> Desk:
    """The desk of the office whose line ``session`` is, which confirms what it obeys."""
    member = session.member
    network = member.card.root_digest
    desk = Desk(session, inbox, member.id, member.opening_keys, member.nkey.public, network=network)
    confirmer = Confirmer(session, inbox, member.id, member.key, member.nkey.public, network=network)
    confirmer.told = lambda error: terminal.note(
        f"A recall could not be confirmed ({error.code}). {error.sentence} {error.mend}"
    )
    desk.confirm = confirmer.confirm
    newest = member.newest

    async def learn(policy: int, by: str, known: Trusted) -> Trusted:
        return await newest.learn(policy, by, known, session.refresh, lambda older: terminal.note(older.line()))

    desk.learn = learn
    return desk


def _watching(
    session: Session, desk: Desk, inbox: Inbox, memory: Memory | None
) -> Callable[[Trusted], Awaitable[None]]:
    """What a desk does whenever it has looked at the rules: it sees to its keys, and to the hub's log."""
    rotation = Rotation(session, desk)
    rotation.told = terminal.note
    rotation.failed = lambda error: terminal.note(f"New keys could not be handed in ({error.code}). {error.sentence}")
    desk.rest = rotation.rest
    witness = witness_of(session, memory) if memory is not None else None

    async def watch(trusted: Trusted) -> None:
        for line in rules.warnings(session.member, trusted):
            terminal.note(line)
        await rotation.look(trusted)
        await _listening(session, desk, inbox, trusted)
        if witness is not None:
            await witness.watch(trusted)

    return watch


async def _listening(session: Session, desk: Desk, inbox: Inbox, trusted: Trusted) -> None:
    """Takes authors' heartbeats. That the hub gives none, or knows of none, shows in when they were heard last."""
    member = session.member
    with suppress(Refused, Malformed):
        await listen(session, inbox, trusted, office=member.id, keys=desk.keys, nkey=member.nkey.public)
