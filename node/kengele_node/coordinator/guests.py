"""``kengele coordinator members``: invite, pending, answer, approve, deny."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from kengele_node import qr, terminal
from kengele_node.member import Member
from kengele_node.private import private
from kengele_schemas import disk
from kengele_schemas.areas import Areas, AreasFile
from kengele_schemas.cards import read_card
from kengele_schemas.errors import KengeleError, Malformed, Refused
from kengele_schemas.fields import read
from kengele_schemas.invitations import LONGEST, Commitment, OfficeName, Reveal
from kengele_schemas.trusted import Trusted, assemble

from . import letters, lobby, replacing
from .drafting import action, add_draft, opened, propose
from .letters import Letter
from .lobby import Guest
from .settling import add_settling, groups_of, settled

_SPAN: Final = re.compile(r"([1-9][0-9]{0,3})(h|d)", re.ASCII)
_HOURS: Final = {"h": 1, "d": 24}
_OVER: Final = ("denied", "in", "expired")


def add(rooms: Any) -> None:
    """Adds what concerns newcomers to the actions of ``members``."""
    invite = action(
        rooms,
        "invite",
        "invite one newcomer",
        "kengele coordinator members invite --role monitor --area KG-O --qr",
        _invite,
    )
    invite.add_argument("--role", choices=("monitor", "office"))
    invite.add_argument("--area", action="append", default=[], help="where it reports from, or follows; repeat")
    invite.add_argument(
        "--replaces", metavar="MEMBER", help="whose keys are lost: the newcomer takes its place, and readers are told"
    )
    invite.add_argument("--office-id", metavar="ID", help="an office's id: small letters, digits, hyphens")
    invite.add_argument("--name", help="an office's name (default: its id)")
    invite.add_argument(
        "--expires", default="72h", metavar="TIME", help="hours or days: 72h (default), 7d; 14d at most"
    )
    invite.add_argument("--out", type=Path, metavar="FILE", help="write it as a file besides")
    invite.add_argument("--qr", action="store_true", help="show it as a QR code here")
    invite.add_argument("--image", type=Path, metavar="FILE", help="write the QR code, as .svg or .png")
    pending = action(
        rooms,
        "pending",
        "list who is invited, answer who came, and list members' letters about their keys",
        "kengele coordinator members pending --json",
        _pending,
    )
    pending.add_argument("--all", action="store_true", help="those denied, expired and let in besides")
    answer = action(
        rooms,
        "answer",
        "answer a newcomer without a line, by files",
        "kengele coordinator members answer commitment.json --out answer.json",
        _answer,
    )
    answer.add_argument("commitment", type=Path)
    answer.add_argument("--out", type=Path, default=Path("answer.json"), help="default: answer.json")
    approve = action(
        rooms,
        "approve",
        "compare a newcomer's digits and draft the admission",
        "kengele coordinator members approve i-4jc5xq2f…",
        _approve,
    )
    approve.add_argument("name", help="its invitation, or its id in the network; the beginning is enough")
    approve.add_argument(
        "--digits",
        type=private("The digits that the newcomer reads out", "--digits"),
        help="what the newcomer reads out, by voice; - asks (default: asked for)",
    )
    approve.add_argument("--reveal", type=Path, metavar="FILE", help="what a newcomer without a line has sent")
    approve.add_argument("--wait", type=float, default=60, help="seconds to wait for the newcomer (default: 60)")
    add_settling(approve)
    add_draft(approve)
    deny = action(
        rooms,
        "deny",
        "deny a newcomer, or withdraw an invitation",
        "kengele coordinator members deny i-4jc5xq2f…",
        _deny,
    )
    deny.add_argument("name", help="its invitation, or its id in the network; the beginning is enough")


def seconds(text: str) -> int:
    """How long an invitation stands open. Raises Malformed."""
    found = _SPAN.fullmatch(text)
    span = int(found[1]) * _HOURS[found[2]] * 3600 if found else 0
    if not 0 < span <= LONGEST:
        raise Malformed("malformed", "This is no time that an invitation may stand open.", "Give 72h, or up to 14d.")
    return span


def _invite(args: argparse.Namespace) -> int:
    if args.replaces and (args.role or args.area or args.office_id or args.name):
        raise Malformed("malformed", "Who replaces a member has its role and areas.", "Give --replaces alone.")
    if not args.replaces and not (args.role and args.area):
        raise Malformed("malformed", "An invitation names a role and an area.", "Give --role and --area.")
    if (args.role == "office") != (args.office_id is not None):
        raise Malformed(
            "malformed", "An office, and nobody else, is invited by its id.", "Give --office-id, or leave it."
        )
    office = read(OfficeName, {"id": args.office_id, "name": args.name or args.office_id}) if args.office_id else None
    span, member = seconds(args.expires), opened(args)
    at = int(member.now().timestamp())

    async def make() -> Any:
        async with member.session() as session:
            trusted = await session.refresh()
            if args.replaces:
                role, areas, named = replacing.offered(trusted, args.replaces)
                how = {"office": named, "at": at, "expires": at + span, "replaces": args.replaces}
                return await lobby.invite(session, role, list(areas), **how)
            for area in args.area:
                if not trusted.areas.known(area):
                    raise Refused("unknown-area", f"There is no area {area}.", trusted.areas.hint(area))
            if office is not None and office.id in {one.id for one in trusted.offices.document.offices}:
                raise Refused("already-admitted", "There is an office of this id.", "Choose another id.")
            return await lobby.invite(session, args.role, args.area, office=office, at=at, expires=at + span)

    invitation = asyncio.run(make())
    link = invitation.link()
    if args.out is not None:
        disk.write(args.out, invitation.encode())
    if args.image is not None:
        qr.write(link, args.image)
    if args.json:
        expires = _moment(invitation.terms.expires)
        terminal.emit({"invitation": invitation.terms.id, "link": link, "expires": expires, "qr": qr.size(link)})
        return 0
    if args.qr:
        terminal.give(qr.drawn(link))
    terminal.give(link)
    terminal.note(f"Whoever has this can ask to be let in, once, until {_moment(invitation.terms.expires)}.")
    program = "office" if invitation.terms.office else "node"
    terminal.note(
        f"The newcomer runs, in a new home:  kengele {program} join FILE, or join - and gives the link when asked"
    )
    terminal.note(f"When it waits:  kengele coordinator members approve {invitation.terms.id[:8]}")
    return 0


def _pending(args: argparse.Namespace) -> int:
    member = opened(args)

    async def look() -> tuple[list[dict[str, Any]], list[Letter]]:
        async with member.session() as session:
            trusted = await session.refresh()
            files, rows = member.trust.files(), []
            for guest in await lobby.guests(session, files):
                found, trouble = guest, ""
                if guest.terms.inviter == lobby.own_id(member) and guest.state(member.now().timestamp()) == "waiting":
                    found = await lobby.answer(session, guest)
                elif guest.answer is not None and guest.answer.coordinator == lobby.own_id(member):
                    try:
                        await lobby.answer(session, guest)
                    except KengeleError as error:
                        trouble = error.code
                if args.all or found.state(member.now().timestamp()) not in _OVER:
                    rows.append(_row(found, trusted, trouble, member.now()))
            return rows, await letters.read(session, files)

    rows, waiting = asyncio.run(look())
    if args.json:
        terminal.emit({"pending": rows, "letters": [letter.document() for letter in waiting]})
        return 0
    if not rows:
        terminal.say("Nobody is invited.")
    for row in rows:
        if row["replaces"]:
            terminal.say(
                f"In the place of {row['replaces']}, WHOSE KEYS ARE LOST: be sure that it is the same who comes."
            )
        until = f", until {row['expires']}" if row["state"] == "open" else ""
        terminal.say(f"{row['invitation'][:12]}  {row['state']:9}  {row['role']:8}  {row['member'] or '-'}{until}")
        terminal.say(f"    {' '.join(row['areas'])}; invited {row['age_hours']} h ago by {row['inviter']}")
        for line in row["effect"]:
            terminal.say(f"    {line}")
        if row["trouble"]:
            terminal.say(f"    Do not approve: {row['trouble']}. Deny it, and invite anew.")
    for letter in waiting:
        trouble = f"; does not hold: {letter.code}" if letter.code else ""
        terminal.say(f"{letter.member}  has handed in {letter.says()}{trouble}")
    if waiting:
        terminal.note("The next renewal takes them in, or at once:  kengele coordinator members keys")
    return 0


def _row(guest: Guest, trusted: Trusted, trouble: str, moment: datetime) -> dict[str, Any]:
    terms = guest.terms
    return {
        "invitation": terms.id,
        "state": guest.state(moment.timestamp()),
        "role": terms.role,
        "member": guest.member or None,
        "areas": list(terms.areas),
        "replaces": terms.replaces,
        "inviter": terms.inviter,
        "answered_by": guest.answer.coordinator if guest.answer else None,
        "age_hours": int((moment.timestamp() - terms.at) // 3600),
        "expires": _moment(terms.expires),
        "effect": lobby.effect(trusted, terms, moment.date()),
        "trouble": trouble or None,
    }


def _answer(args: argparse.Namespace) -> int:
    member = opened(args)
    commitment = read_card(disk.read(args.commitment), Commitment)

    async def carried() -> Guest:
        async with member.session() as session:
            await session.refresh()
            await lobby.carry(session, commitment)
            found = lobby.find(await lobby.guests(session, member.trust.files()), commitment.invitation)
            return await lobby.answer(session, found)

    guest = asyncio.run(carried())
    if guest.answer is not None:
        disk.write(args.out, guest.answer.encode())
    if args.json:
        terminal.emit({"invitation": guest.terms.id, "answer": str(args.out)})
    else:
        terminal.say(f"Give {args.out} to the newcomer, who runs:  join --answer {args.out.name}")
    return 0


def _approve(args: argparse.Namespace) -> int:
    member = opened(args)
    reveal = read_card(disk.read(args.reveal), Reveal) if args.reveal is not None else None
    guest, trusted = asyncio.run(_ready(member, args, reveal))
    moment = member.now()
    typed = args.digits
    if typed is None:
        if not terminal.interactive():
            raise Malformed("no-digits", "The digits that the newcomer reads out are needed.", "Give --digits.")
        for line in lobby.effect(trusted, guest.terms, moment.date()):
            terminal.note(f"  {guest.member}: {line}")
        typed = terminal.ask(f"The digits that {guest.member} reads out", str)
    request = lobby.compare(member, guest, typed)

    def change(before: dict[str, Any]) -> dict[str, Any]:
        areas = Areas(read(AreasFile, before["areas.json"]))
        groups = groups_of(args)
        when = moment.date(), int(moment.timestamp())
        changed = replacing.let_in(before, guest.terms, request, areas, *when, groups=groups)
        changed |= settled(args, {**before, **changed})
        if not args.json:
            documents = {path: json.dumps(value).encode() for path, value in {**before, **changed}.items()}
            after = assemble(documents, version=1, fresh=True, expires=moment)
            for line in lobby.effect(after, guest.terms, moment.date()):
                terminal.note(f"  {guest.member}: {line}")
        return changed

    done = propose(args, change)
    asyncio.run(_decided(member, guest, "approved"))
    return done


async def _ready(member: Member, args: argparse.Namespace, reveal: Reveal | None) -> tuple[Guest, Trusted]:
    """Who is meant, answered and with its request shown."""
    async with member.session() as session:
        trusted = await session.refresh()
        files = member.trust.files()
        guest = lobby.find(await lobby.guests(session, files), args.name)
        if (state := guest.state(member.now().timestamp())) in (*_OVER, "approved"):
            raise Refused("decided", f"This invitation is {state}.", "Invite anew.")
        guest = await lobby.answer(session, guest)
        if reveal is not None:
            await lobby.carry(session, reveal)
        return await lobby.revealed(session, guest, files, args.wait), trusted


def _deny(args: argparse.Namespace) -> int:
    member = opened(args)

    async def found() -> Guest:
        async with member.session() as session:
            await session.refresh()
            return lobby.find(await lobby.guests(session, member.trust.files()), args.name)

    guest = asyncio.run(found())
    asyncio.run(_decided(member, guest, "denied"))
    if args.json:
        terminal.emit({"invitation": guest.terms.id, "state": "denied"})
    else:
        terminal.say("Nobody can come in by this invitation any more.")
    return 0


async def _decided(member: Member, guest: Guest, decision: str) -> None:
    async with member.session() as session:
        await lobby.decide(session, guest, decision)


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="minutes").removesuffix("+00:00") + "Z"
