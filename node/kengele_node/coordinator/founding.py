"""Founding: a coordinator's keys and card, a network's first version, and the card that makes a home belong to it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from kengele_node import terminal
from kengele_node.member import Member, now
from kengele_node.vault import write_private
from kengele_schemas import drafts, signatures
from kengele_schemas.areas import Areas, AreasFile
from kengele_schemas.cards import CoordinatorCard, HubCard, JoinRequest, NetworkCard, read_card
from kengele_schemas.errors import Malformed
from kengele_schemas.fields import read

from . import documents as papers
from .drafting import action, add_draft, check, opened, propose, what_changes, written
from .settling import add_settling, groups_of, settled

HUB_CARD: Final = "hub-card.json"


def add(actions: Any) -> None:
    """Adds ``init``, ``found``, ``seats`` and ``join``."""
    init = action(
        actions,
        "init",
        "make a coordinator's keys and card",
        "kengele coordinator init --home alice --name Alice",
        _init,
    )
    init.add_argument("--name", help="a name for the card; it does not go into the network")
    init.add_argument("--new-key-file", type=Path, help="make a key file here and lock the home with it")
    found = action(
        actions,
        "found",
        "draft a network's first version, for the coordinators whose cards are named",
        "kengele coordinator found --hub hub-card.json --name Bell --custodian unrcca --threshold 2 bob.json eve.json",
        _found,
    )
    found.add_argument("cards", nargs="*", type=Path, metavar="CARD", help="the other coordinators' cards")
    found.add_argument("--hub", type=Path, required=True, help="the hub's card")
    found.add_argument("--name", required=True, help="the network's name")
    found.add_argument("--custodian", required=True, help="id of the office that is sealed for when rules ran out")
    found.add_argument("--threshold", type=int, default=2, help="signatures that count (default: 2)")
    found.add_argument("--area", action="append", default=[], help="areas the network uses (default: the world)")
    found.add_argument("--admit", action="append", default=[], type=Path, metavar="REQUEST", help="let in at once")
    add_settling(found)
    found.add_argument("--reports-per-hour", type=int, default=600, help="a monitor's quota (default: 600)")
    add_draft(found)
    seats = action(
        actions,
        "seats",
        "draft that other coordinators count, or another number of signatures",
        "kengele coordinator seats --add dora.json --remove c-4jc5xq2f…",
        _seats,
    )
    seats.add_argument("--add", action="append", default=[], type=Path, metavar="CARD", help="who comes; repeat")
    seats.add_argument("--remove", action="append", default=[], metavar="ID", help="who goes; may be repeated")
    seats.add_argument("--threshold", type=int, help="how many signatures count then (default: as now)")
    add_draft(seats)
    join = action(
        actions, "join", "take the network's card into this home", "kengele coordinator join network.json", _join
    )
    join.add_argument("card", type=Path)


def _init(args: argparse.Namespace) -> int:
    member = Member.create(args.home, terminal.new_lock(args), "coordinator", {"name": args.name or ""})
    card = CoordinatorCard.of(member.key, member.nkey, args.name)
    path = args.home / "card.json"
    path.write_bytes(card.encode())
    member.rename(card.id)
    if args.json:
        terminal.emit({"coordinator": card.id, "card": str(path), "digits": card.digits()})
        return 0
    terminal.say(f"Your card is {path}; its digits are {card.digits()}.")
    terminal.say("Give it to the other coordinators, and compare the digits by voice. They see them with")
    terminal.say(f"  kengele verify {path.name}")
    return 0


def _found(args: argparse.Namespace) -> int:
    member = opened(args)
    hub = read_card(args.hub.read_bytes(), HubCard)
    own = CoordinatorCard.of(member.key, member.nkey)
    cards = [own, *(read_card(path.read_bytes(), CoordinatorCard) for path in args.cards)]
    _compare(cards[1:])
    made = papers.first(args.name, hub, cards, args.custodian, args.area, reports_per_hour=args.reports_per_hour)
    requests = [read_card(path.read_bytes(), JoinRequest) for path in args.admit]
    areas = Areas(read(AreasFile, made["areas.json"]))
    made |= papers.admit(made, requests, areas, now().date(), groups=groups_of(args))
    made |= settled(args, made)
    check(made)
    draft = drafts.found(made, cards, args.threshold, hub.snapshot_key, hub.timestamp_key, now())
    write_private(member.home / HUB_CARD, hub.encode())
    return written(args, signatures.sign(draft, member.key), what_changes(draft, {}, made))


def _seats(args: argparse.Namespace) -> int:
    cards = [read_card(path.read_bytes(), CoordinatorCard) for path in args.add]
    if not cards and not args.remove and args.threshold is None:
        raise Malformed("nothing-changed", "Nobody comes and nobody goes.", "Give --add, --remove or --threshold.")
    _compare(cards)
    return propose(
        args,
        lambda before: papers.reseat(before, cards, args.remove, int(time.time())),
        lambda files, after, moment: drafts.reseat(files, after, cards, args.remove, args.threshold, moment),
    )


def _compare(cards: Sequence[CoordinatorCard]) -> None:
    for card in cards:
        terminal.note(f"{card.id} has the digits {card.digits()}: compare them by voice before anybody signs.")


def _join(args: argparse.Namespace) -> int:
    member = opened(args)
    member.join(read_card(args.card.read_bytes(), NetworkCard))
    if not args.json:
        terminal.say("This home belongs to the network now.")
    return 0
