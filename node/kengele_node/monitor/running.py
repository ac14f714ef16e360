"""``kengele node run``: a node that keeps its line up; and the short line over which a single command sends."""

from __future__ import annotations

import argparse
import asyncio
import time
from contextlib import suppress
from functools import partial
from typing import Any, Final

from kengele_node import rules, terminal
from kengele_node.link import State
from kengele_node.member import Member, Session
from kengele_node.vault import occupied
from kengele_schemas.errors import Damaged, KengeleError, Unreachable, Untrusted

from .entries import held, row, without_reason
from .heartbeats import beating
from .home import action, open_outbox, opened
from .log_memory import MEND, SENTENCE, TWO_LOGS, LogMemory
from .log_watch import LogWatch, watching
from .outbox import Entry, Outbox
from .recalling import strangers_of
from .rotating import kept_current
from .sender import Sender

_QUICK: Final = 5.0
"""Seconds that a single command waits for a line; what it could not send stays in the outbox."""

_MOMENT: Final = 900.0
"""Seconds for which the hub shows all witnesses one checkpoint: an office can confirm nothing sooner."""


def add(actions: Any) -> None:
    """Adds ``run``."""
    action(actions, "run", "keep the line up and send what is in the outbox", "kengele node run --home node", _run)


def _run(args: argparse.Namespace) -> int:
    member = opened(args)
    with occupied(args.home, "kengele node run"):
        return asyncio.run(_serve(args, member))


async def _serve(args: argparse.Namespace, member: Member) -> int:
    outbox = open_outbox(member)
    try:
        while True:
            try:
                async with member.session(0 if "jwt" in member.vault.secrets else 15) as session:
                    memory = LogMemory(member.home, member.vault.rows("log"))
                    sender = _sender(session, outbox, memory)
                    sender.told = lambda entry: _told(args, entry)
                    terminal.note("The node runs; Ctrl-C ends it.")
                    with suppress(Untrusted, Damaged):
                        for line in rules.warnings(member, member.offline()):
                            terminal.note(line)
                    if count := outbox.counts().get("held"):
                        terminal.note(f"{count} held until you look: kengele node outbox --home {args.home}")
                    session.link.told = partial(_line, sender)
                    async with (
                        kept_current(session, sender),
                        beating(session, outbox, sender),
                        watching(session, memory, partial(getattr, sender, "trusted"), _tell_log),
                    ):
                        await sender.run()
            except KengeleError as error:
                terminal.note(f"{error.sentence} Trying again in 15 s.")
                await asyncio.sleep(15)
    finally:
        outbox.close()


async def send_now(member: Member, outbox: Outbox, entry: Entry) -> None:
    """Sends one entry if there is a line; if there is none, it stays in the outbox."""
    try:
        async with member.session(_QUICK) as session:
            memory = LogMemory(member.home, member.vault.rows("log"))
            memory.expire(time.time())
            sender = _sender(session, outbox, memory)
            async with asyncio.timeout(4 * _QUICK):
                await sender.send(entry)
                await _look(session, memory, sender)
    except (Unreachable, TimeoutError):
        return


async def _look(session: Session, memory: LogMemory, sender: Sender) -> None:
    """Asks whether an office has confirmed what was sent long enough ago: who uses single commands learns it so."""
    if sender.trusted is None or not memory.unconfirmed_since(time.time() - _MOMENT):
        return
    try:
        await LogWatch(session, memory, session.member.nkey.public).look(sender.trusted)
    except Unreachable:
        raise
    except KengeleError as error:
        _tell_log(error)


def _tell_log(error: KengeleError) -> None:
    terminal.note(f"ATTENTION: the hub's log could not be checked ({error.code}). {error.sentence} {error.mend}")


def sent_by(args: argparse.Namespace) -> str:
    """What sends it: nothing goes out of an outbox by itself."""
    return f"It goes out when there is a line, by:  kengele node run --home {args.home}"


def _sender(session: Session, outbox: Outbox, memory: LogMemory) -> Sender:
    member = session.member
    sender = Sender(
        session,
        outbox,
        member.key,
        member.nkey.public,
        earlier=member.signing_keys,
        network=member.card.root_digest,
        memory=memory,
        newest=member.newest,
        moment=member.now,
    )
    sender.shown_older = lambda older: terminal.note(older.line())
    sender.saw = member.clock.told
    return sender


def _line(sender: Sender, state: State) -> None:
    terminal.tell_line(state)
    if state == "up":
        sender.wake()


def _told(args: argparse.Namespace, entry: Entry) -> None:
    if args.json:
        terminal.emit({"id": entry.report_id, **row(entry)})
    else:
        code = f" ({entry.code})" if entry.code not in ("", entry.state) else ""
        terminal.say(f"Report {entry.number}: {entry.state}{code}")
        if entry.code == TWO_LOGS:
            terminal.say(f"ATTENTION: {SENTENCE} {MEND}")
        if entry.state == "held":
            terminal.say(held(entry, args.home))
        if strangers_of(entry):
            terminal.say(without_reason(entry, args.home))
