"""Founding: a coordinator's keys and card, a network's first version, and the card that makes a home belong to it."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from kengele_node import terminal
from kengele_node.member import Member
from kengele_schemas import disk, drafts, metadata, signatures
from kengele_schemas.areas import Areas, AreasFile
from kengele_schemas.cards import CoordinatorCard, HubCard, JoinRequest, NetworkCard, read_card
from kengele_schemas.drafts import Draft
from kengele_schemas.encoding import unb64u
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.fields import read
from kengele_schemas.metadata import Files

from . import admission, standing
from . import documents as papers
from .drafting import action, add_draft, add_region, check, current, opened, propose, what_changes, written
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
    init.add_argument(
        "--new-key-file", type=Path, metavar="FILE", help="lock the home with a key file, made here, not a passphrase"
    )
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
        "draft that other coordinators count, for the network or one area, or another number of signatures",
        "kengele coordinator seats --region KG --add dora.json --add emil.json --threshold 2",
        _seats,
    )
    add_region(seats, "whose lists they sign, alone; once all are removed the network's coordinators do")
    seats.add_argument("--add", action="append", default=[], type=Path, metavar="CARD", help="who comes; repeat")
    seats.add_argument("--remove", action="append", default=[], metavar="ID", help="who goes; may be repeated")
    seats.add_argument("--threshold", type=int, help="how many signatures count then (default: as now; an area's: 2)")
    add_draft(seats)
    join = action(
        actions, "join", "take the network's card into this home", "kengele coordinator join network.json", _join
    )
    join.add_argument("card", type=Path)


def _init(args: argparse.Namespace) -> int:
    member = Member.create(args.home, terminal.new_lock(args), "coordinator", {"name": args.name or ""})
    card = CoordinatorCard.of(member.key, member.nkey, args.name)
    path = args.home / "card.json"
    disk.write(path, card.encode())
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
    hub = read_card(disk.read(args.hub), HubCard)
    own = CoordinatorCard.of(member.key, member.nkey)
    cards = [own, *(read_card(disk.read(path), CoordinatorCard) for path in args.cards)]
    _compare(cards[1:])
    made = papers.first(args.name, hub, cards, args.custodian, args.area, reports_per_hour=args.reports_per_hour)
    moment = member.now()
    requests = [read_card(disk.read(path), JoinRequest) for path in args.admit]
    areas = Areas(read(AreasFile, made["areas.json"]))
    made |= admission.admit(made, requests, areas, moment.date(), groups=groups_of(args))
    made |= settled(args, made)
    check(None, made, moment)
    draft = drafts.found(made, cards, args.threshold, hub.snapshot_key, hub.timestamp_key, moment)
    disk.write(member.home / HUB_CARD, hub.encode())
    return written(args, signatures.sign(draft, member.key), what_changes(draft, {}, made))


def _seats(args: argparse.Namespace) -> int:
    cards = [read_card(disk.read(path), CoordinatorCard) for path in args.add]
    if not cards and not args.remove and args.threshold is None:
        raise Malformed("nothing-changed", "Nobody comes and nobody goes.", "Give --add, --remove or --threshold.")
    _compare(cards)
    member = opened(args)
    files = asyncio.run(current(member))
    region, args.region = args.region, ""
    if region:
        return _region(args, member, region, cards, files)
    if not set(args.remove) <= set(metadata.seated(files)):
        raise Refused("no-such-member", "There is no such coordinator of the network.", "For an area give --region.")
    elsewhere = {one for ids, _ in _others(files, "").values() for one in ids}
    new = [card for card in cards if card.id not in elsewhere]
    going = set(args.remove) - elsewhere
    return propose(
        args,
        lambda before: standing.reseat(before, new, going, int(member.now().timestamp())),
        lambda files, after, moment: drafts.reseat(files, after, cards, args.remove, args.threshold, moment),
    )


def _others(files: Files, area: str) -> dict[str, tuple[list[str], int]]:
    """Areas, but for ``area``, whose lists others sign than the network's coordinators."""
    own = metadata.seated(files)
    return {name: found for name, found in metadata.regions(files).items() if name != area and found[0] != own}


def _region(
    args: argparse.Namespace, member: Member, region: str, cards: Sequence[CoordinatorCard], files: Files
) -> int:
    ids, threshold = metadata.regions(files).get(region, ([], 2))
    if ids == metadata.seated(files):
        ids, threshold = [], 2
    if not set(args.remove) <= set(ids):
        raise Refused("no-such-member", f"There is no such coordinator of {region}.", "See the rules' signatures.")
    known = metadata.coordinators(files)
    keys = {one: known[one] for one in ids if one not in args.remove}
    keys |= {card.id: unb64u(card.key) for card in cards}
    counting = {*metadata.seated(files), *keys, *(one for ids, _ in _others(files, region).values() for one in ids)}

    def change(before: dict[str, Any]) -> dict[str, Any]:
        made = papers.hand_over(before, region)
        new = [card for card in cards if card.id not in known]
        going = [one for one in args.remove if one not in counting]
        return made | standing.reseat({**before, **made}, new, going, int(member.now().timestamp()))

    def edit(files: Files, after: Mapping[str, Any], moment: datetime) -> Draft:
        public = [metadata.public_key(key) for key in keys.values()]
        wanted = threshold if args.threshold is None else args.threshold
        return drafts.hand_over(files, after, region, {key.keyid: key for key in public}, wanted, moment)

    return propose(args, change, edit)


def _compare(cards: Sequence[CoordinatorCard]) -> None:
    for card in cards:
        terminal.note(f"{card.id} has the digits {card.digits()}: compare them by voice before anybody signs.")


def _join(args: argparse.Namespace) -> int:
    member = opened(args)
    member.join(read_card(disk.read(args.card), NetworkCard))
    if not args.json:
        terminal.say("This home belongs to the network now.")
    return 0
