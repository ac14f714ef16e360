"""``kengele office keys``: opening keys for the coming weeks, handed in or written into a file."""

from __future__ import annotations

import argparse
import asyncio
from datetime import date
from pathlib import Path
from typing import Any, Final

from kengele_node import terminal
from kengele_node.member import Member
from kengele_node.vault import occupied
from kengele_schemas import disk
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.keys import fingerprint
from kengele_schemas.roster import OfficeKey
from kengele_schemas.rotation import OfficeKeys, warning
from kengele_schemas.trusted import Trusted

from .home import action, opened
from .keyring import WEEKS, Keyring
from .rotation import hand_in

_MOST_WEEKS: Final = 12


def add(actions: Any) -> None:
    """Adds ``keys``."""
    keys = action(
        actions,
        "keys",
        "make opening keys for the coming weeks and hand them in; the desk does it by itself while it follows",
        "kengele office keys --ahead 6",
        _keys,
    )
    keys.add_argument(
        "--ahead", type=terminal.number, default=WEEKS, metavar="N", help=f"weeks for which to have keys ({WEEKS})"
    )
    keys.add_argument("--at-once", action="store_true", help="the first from today on: the old ones may be known")
    keys.add_argument("--out", type=Path, metavar="FILE", help="write them as a file for a coordinator, without a line")


def _keys(args: argparse.Namespace) -> int:
    if not 1 <= args.ahead <= _MOST_WEEKS:
        raise Malformed("malformed", "Keys are not made for that many weeks.", f"Give 1 to {_MOST_WEEKS}.")
    member = opened(args)
    with occupied(args.home, "kengele office keys"):
        return asyncio.run(_keys_ahead(args, member))


async def _keys_ahead(args: argparse.Namespace, member: Member) -> int:
    today = member.now().date()
    if args.out is not None:
        trusted = member.offline()
        statement = _statement(args, member, trusted, today)
        if statement is not None:
            disk.write(args.out, statement.encode())
    else:
        async with member.session(15) as session:
            trusted = await session.refresh()
            statement = _statement(args, member, trusted, today)
            if statement is not None:
                await hand_in(session, statement)
    office = trusted.offices.get(member.id)
    listed = office.keys if office is not None else ()
    wanted = statement.keys if statement is not None else ()
    said = warning(office, today) if office is not None else ""
    if args.json:
        rows = {"listed": [key.model_dump(mode="json", exclude_none=True) for key in listed]}
        rows["handed_in"] = [key.model_dump(mode="json", exclude_none=True) for key in wanted]
        terminal.emit(
            {"office": member.id, **rows, "file": str(args.out) if args.out else None, "warning": said or None}
        )
        return 0
    for key in listed:
        terminal.say(f"{fingerprint(key.public().raw)}  {_span(key)}{'  in use' if key.holds(today) else ''}")
    if statement is None:
        terminal.say("There are keys for all of these weeks.")
    elif args.out is not None:
        terminal.say(f"{args.out} names all keys from now on. A coordinator:  kengele coordinator members keys FILE")
    else:
        terminal.say(f"Handed in: {len(wanted)} keys. They hold once coordinators have signed:  members keys, or renew")
    if said:
        terminal.note(said)
    return 0


def _statement(args: argparse.Namespace, member: Member, trusted: Trusted, today: date) -> OfficeKeys | None:
    office = trusted.offices.get(member.id)
    if office is None:
        raise Refused("not-admitted", "The roster does not name this office.", "Ask a coordinator; then try again.")
    ring = Keyring(member)
    ring.learn(office, today)
    return ring.statement(office, today, args.ahead, at_once=args.at_once)


def _span(key: OfficeKey) -> str:
    begins, ends = (day.isoformat() if day else "-" for day in (key.not_before, key.not_after))
    return f"{begins:10} to {ends:10}"
