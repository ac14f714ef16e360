"""A node's home: made by ``kengele node init`` or ``join``, opened for each of its commands."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any, Final

from kengele_node import joining, terminal
from kengele_node.member import Member
from kengele_schemas import disk
from kengele_schemas.cards import JoinRequest, NetworkCard, read_card

from .outbox import Outbox

_STORE: Final = "outbox.db"
action = partial(terminal.action, home="node")
"""A sub-command of ``kengele node``, with what all of them take."""


def add(actions: Any) -> None:
    """Adds ``init`` and ``join``."""
    init = action(
        actions,
        "init",
        "make a monitor's node and the request that a coordinator needs to admit it",
        "kengele node init --home node --network network.json --area KG-O",
        _init,
    )
    init.add_argument("--network", type=Path, required=True, metavar="CARD", help="the network's card")
    init.add_argument("--area", action="append", required=True, help="where this monitor reports from; may be repeated")
    init.add_argument(
        "--new-key-file", type=Path, metavar="FILE", help="lock the node with a key file, made here, not a passphrase"
    )
    join = action(
        actions,
        "join",
        "join a network by invitation: make keys, read out digits, wait until coordinators have signed",
        "kengele node join invite.json --home node",
        joining.run,
    )
    joining.add_join(join, "monitor")


def opened(args: argparse.Namespace) -> Member:
    """The monitor at home in ``--home``."""
    member = Member.open(args.home, terminal.lock_of(args), "monitor")
    member.slow = terminal.tell_slow
    terminal.tell_clock(member.clock.behind())
    return member


def open_outbox(member: Member) -> Outbox:
    """The outbox of the monitor at home in ``member``."""
    return Outbox(member.home / _STORE, member.vault.rows("outbox"), member.first_kid)


def _init(args: argparse.Namespace) -> int:
    card = read_card(disk.read(args.network), NetworkCard)
    lock = terminal.new_lock(args)
    member = Member.create(args.home, lock, "monitor", {"areas": args.area}, card=card)
    request = JoinRequest.for_monitor(member.key, member.nkey, tuple(args.area))
    path = args.home / "join-request.json"
    disk.write(path, request.encode())
    if args.json:
        terminal.emit({"monitor": member.kid, "request": str(path), "digits": request.digits()})
        return 0
    terminal.say(f"This node's name in the network is {member.kid}.")
    terminal.say(f"Give {path} to a coordinator, and read out these digits when asked:  {request.digits()}")
    terminal.say(f"When you are admitted:  kengele node report --home {args.home}")
    return 0
