"""An office's home: made by ``kengele office init`` or ``join``, opened for each of its commands."""

from __future__ import annotations

import argparse
import re
from functools import partial
from pathlib import Path
from typing import Any, Final

from kengele_node import joining, terminal
from kengele_node.member import Member
from kengele_schemas import disk
from kengele_schemas.cards import JoinRequest, NetworkCard, read_card
from kengele_schemas.errors import Malformed
from kengele_schemas.keys import HYBRID, X25519, OpeningKey

from .inbox import Inbox

_STORE: Final = "inbox.db"
_OFFICE: Final = re.compile(r"[a-z][a-z0-9-]{1,31}", re.ASCII)
action = partial(terminal.action, home="desk")
"""A sub-command of ``kengele office``, with what all of them take."""


def add(actions: Any) -> None:
    """Adds ``init`` and ``join``."""
    init = action(
        actions,
        "init",
        "make an office's desk and the request that a coordinator needs to admit it",
        'kengele office init --home desk --network network.json --id unrcca --name "UNRCCA" --area KG --area TJ',
        _init,
    )
    init.add_argument("--network", type=Path, required=True, metavar="CARD", help="the network's card")
    init.add_argument("--id", required=True, help="the office's id: small letters, digits, hyphens")
    init.add_argument("--name", help="the office's name (default: its id)")
    init.add_argument("--area", action="append", required=True, help="an area it follows; may be repeated")
    init.add_argument(
        "--suite",
        choices=(HYBRID, X25519),
        default=HYBRID,
        help=f"how reports are sealed for it; {X25519} for very thin lines (default: {HYBRID})",
    )
    init.add_argument(
        "--new-key-file", type=Path, metavar="FILE", help="lock the desk with a key file, made here, not a passphrase"
    )
    join = action(
        actions,
        "join",
        "join a network by invitation: make keys, read out digits, wait until coordinators have signed",
        "kengele office join invite.json --home desk",
        _join,
    )
    joining.add_join(join, "office")
    join.add_argument(
        "--suite",
        choices=(HYBRID, X25519),
        default=HYBRID,
        help=f"how reports are sealed for it; {X25519} for very thin lines (default: {HYBRID})",
    )


def opened(args: argparse.Namespace) -> Member:
    """The office at home in ``--home``."""
    member = Member.open(args.home, terminal.lock_of(args), "office")
    member.slow = terminal.tell_slow
    terminal.tell_clock(member.clock.behind())
    return member


def open_inbox(member: Member) -> Inbox:
    """The inbox of the office at home in ``member``."""
    return Inbox(member.home / _STORE, member.vault.rows("inbox"))


def _init(args: argparse.Namespace) -> int:
    if _OFFICE.fullmatch(args.id) is None:
        raise Malformed("malformed", "This is not an office's id.", "Use 2 to 32 small letters, digits, hyphens.")
    card = read_card(disk.read(args.network), NetworkCard)
    key = OpeningKey.generate(args.suite)
    profile = {"id": args.id, "name": args.name or args.id, "areas": args.area}
    member = Member.create(args.home, terminal.new_lock(args), "office", profile, (key,), card=card)
    request = JoinRequest.for_office(
        member.key, member.nkey, id=args.id, name=args.name or args.id, areas=tuple(args.area), keys=(key.public,)
    )
    path = args.home / "join-request.json"
    disk.write(path, request.encode())
    if args.json:
        terminal.emit({"office": args.id, "request": str(path), "digits": request.digits()})
        return 0
    terminal.say(f"The desk of {args.id} is in {args.home}.")
    terminal.say(f"Give {path} to a coordinator, and read out these digits when asked:  {request.digits()}")
    terminal.say(f"When you are admitted:  kengele office follow --home {args.home}")
    return 0


def _join(args: argparse.Namespace) -> int:
    return joining.run(args, lambda: (OpeningKey.generate(args.suite),))
