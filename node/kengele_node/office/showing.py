"""``kengele office show``: what the desk holds, as a list, in full, or as a proof for others."""

from __future__ import annotations

import argparse
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from kengele_node import terminal
from kengele_node.member import Member
from kengele_node.private import report
from kengele_schemas.encoding import unb64u
from kengele_schemas.envelope import parse
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.sealing import Opened, reassemble
from kengele_schemas.sharing import open_held, split

from .arrivals import Arrival, Item, Lost, Tombstone
from .home import action, open_inbox, opened
from .problems import problems
from .telling import document, listed, tell_full, tell_gone


def add(actions: Any) -> None:
    """Adds ``show``."""
    show = action(
        actions,
        "show",
        "show what the desk holds",
        "kengele office show\n          kengele office show --id -",
        _show,
    )
    show.add_argument("--id", type=report(), help="one report in full, - asks for its id; without it, a list")
    show.add_argument(
        "--limit", type=terminal.number, default=50, help="reports in the list, newest first (default: 50)"
    )
    show.add_argument("--sd-jwt", action="store_true", help="with --id: as a plain SD-JWT that others can verify")
    show.add_argument("--problems", action="store_true", help="what was set aside, and numbers that are missing")


def _show(args: argparse.Namespace) -> int:
    member = opened(args)
    if args.sd_jwt and not args.id:
        raise Malformed("malformed", "Only one report can be given on.", "Name it with --id: kengele office show")
    inbox = open_inbox(member)
    try:
        if args.problems:
            return problems(args, inbox, member)
        found = inbox.find(args.id) if args.id else inbox.items(args.limit)
        if args.id and not found:
            raise Refused("not-here", "This desk does not hold that report.", "See: kengele office show")
        for item in found:
            if isinstance(item, Lost):
                terminal.note(f"Item {item.number} of the inbox is damaged and cannot be read.")
            elif isinstance(item, Tombstone):
                tell_gone(args, item)
            elif args.sd_jwt and args.id:
                terminal.give(_sd_jwt(item, member))
            elif args.json:
                received = datetime.fromtimestamp(item.received, UTC).isoformat(timespec="seconds")
                terminal.emit({**document(_flagged(item)), "received": received})
            elif args.id:
                tell_full(_flagged(item))
            else:
                terminal.say(*listed(_flagged(item)))
        if not found and not args.json:
            terminal.say("The desk is empty.")
    finally:
        inbox.close()
    return 0


def _flagged(item: Item) -> Arrival:
    """The report with all that a reader has to be told of it, what came to light since it arrived included."""
    return replace(item.arrival, flags=item.flags)


def _sd_jwt(item: Item, member: Member) -> str:
    if item.arrival.disclosures.keys() >= item.arrival.contents.keys():
        whole = parse(split(item.arrival.data)[1])
        return reassemble(whole, Opened(whole.claims, {}, dict(item.arrival.disclosures), None, ()))
    author = member.offline().monitors[item.arrival.header.kid]
    envelope, held = open_held(item.arrival.data, member.id, member.opening_keys, unb64u(author.key))
    return reassemble(envelope, held)
