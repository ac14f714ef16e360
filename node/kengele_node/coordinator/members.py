"""Members: letting in, suspending, letting return, removing, listing; each but the last makes a draft."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from kengele_node import terminal
from kengele_node.private import private
from kengele_schemas import disk, metadata
from kengele_schemas.areas import Areas, AreasFile
from kengele_schemas.cards import JoinRequest, read_card
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.fields import read
from kengele_schemas.roster import OfficesFile
from kengele_schemas.rotation import warning

from . import admission, guests, letters, standing
from .drafting import action, add_draft, current, opened, propose
from .settling import add_settling, groups_of, settled


def add(actions: Any) -> None:
    """Adds ``admit``, and ``members`` with its own actions."""
    admit = action(
        actions,
        "admit",
        "draft the admission of those whose join requests were handed over in person",
        "kengele coordinator admit join-request.json",
        _admit,
    )
    admit.add_argument("requests", nargs="+", type=Path, metavar="REQUEST")
    admit.add_argument(
        "--digits",
        type=private("The digits that the newcomer read out", "--digits"),
        action="append",
        default=[],
        help="what the newcomer read out, one for each request; - asks (default: asked for)",
    )
    add_settling(admit)
    add_draft(admit)
    members = actions.add_parser(
        "members",
        help="invite, let in, suspend, remove and list members",
        description="Invite, let in, suspend, remove and list members.",
        epilog="Example:  kengele coordinator members list",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rooms = members.add_subparsers(required=True, metavar="ACTION")
    action(rooms, "list", "list who is in the network", "kengele coordinator members list --json", _members)
    guests.add(rooms)
    letters.add(rooms)
    for word, what, run in (
        ("suspend", "draft a member's suspension", partial(_changed, standing.suspend)),
        ("restore", "draft a suspended member's return", partial(_changed, standing.restore)),
        ("revoke", "draft the removal of a member", _revoked),
    ):
        parser = action(rooms, word, what, f"kengele coordinator members {word} m-4jc5xq2f…", run)
        parser.add_argument("member", help="a monitor's or office's id")
        add_draft(parser)


def _admit(args: argparse.Namespace) -> int:
    requests = [read_card(disk.read(path), JoinRequest) for path in args.requests]
    _compare(args, requests)

    def change(before: dict[str, Any]) -> dict[str, Any]:
        areas = Areas(read(AreasFile, before["areas.json"]))
        changed = admission.admit(before, requests, areas, opened(args).now().date(), groups=groups_of(args))
        return {**changed, **settled(args, {**before, **changed})}

    return propose(args, change)


def _compare(args: argparse.Namespace, requests: Sequence[JoinRequest]) -> None:
    """Makes sure of each newcomer's digits; whoever is asked for them and mistypes is asked again at once."""
    if args.digits or not terminal.interactive():
        if len(args.digits) != len(requests):
            raise Malformed("no-digits", "Each newcomer's digits are needed.", "Give --digits once for each request.")
        for request, typed in zip(requests, args.digits, strict=True):
            _same(request, typed)
        return
    for request in requests:
        terminal.ask(f"The digits that {request.member} reads out", partial(_same, request))


def _same(request: JoinRequest, typed: str) -> None:
    if typed.replace(" ", "") != request.digits().replace(" ", ""):
        raise Refused(
            "digits-differ",
            f"These are not the digits of {request.member}'s join request.",
            "Type them again. If they still differ, admit nobody: compare by voice with the one who asks.",
        )


def _changed(change: Callable[[Mapping[str, Any], str], dict[str, Any]], args: argparse.Namespace) -> int:
    return propose(args, lambda before: change(before, args.member))


def _revoked(args: argparse.Namespace) -> int:
    at = int(opened(args).now().timestamp())
    return propose(args, lambda before: standing.remove(before, args.member, at))


def _members(args: argparse.Namespace) -> int:
    member = opened(args)
    files = asyncio.run(current(member))
    rows: list[dict[str, Any]] = []
    for path in metadata.document_paths(files):
        document = metadata.document_of(files, path)
        if path == "offices.json":
            rows += [
                {"role": "office", "id": one["id"], "areas": one["areas"], "status": one.get("status", "active")}
                for one in document["offices"]
            ]
        elif path.startswith("monitors/"):
            rows += [
                {"role": "monitor", "id": one["kid"], "areas": one["areas"], "status": one.get("status", "active")}
                for one in document["monitors"]
            ]
    offices = read(OfficesFile, metadata.document_of(files, "offices.json")).offices
    warnings = [said for office in offices if (said := warning(office, member.now().date()))]
    if args.json:
        terminal.emit({"members": rows, "warnings": warnings})
        return 0
    for row in rows:
        terminal.say(f"{row['role']:8}  {row['id']:30}  {row['status']:9}  {' '.join(row['areas'])}")
    for said in warnings:
        terminal.note(said)
    return 0
