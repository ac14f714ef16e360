"""The network's rules as a member holds them: shown, and where there is no line, carried in a directory or on a stick.

>>> write(Path("/media/stick"), visible_to(member.trust.files(), trusted, office=""))
>>> member.trust.carried(from_directory(Path("/media/stick")), member.role, member.now(), member.id)
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Final

from kengele_schemas import disk, foreign, metadata, subjects
from kengele_schemas.concern import concern
from kengele_schemas.errors import Refused, Unreachable, Untrusted
from kengele_schemas.policy import Rule
from kengele_schemas.trusted import Trusted
from kengele_schemas.verification import Fetch

from . import terminal
from .member import Member

_MAX_FILE: Final = 8 * 1024 * 1024
_QUICK: Final = 5.0
"""Seconds to wait for a line; without one the rules kept here are shown."""


def from_directory(directory: Path) -> Fetch:
    """How trust files are got from ``directory``, laid out as the hub serves them."""

    def fetch(path: str) -> bytes | None:
        subjects.trust_file(path)  # refuses what would lead out of the directory
        try:
            return disk.read_below(directory, path, _MAX_FILE)
        except OSError:
            return None

    return fetch


def visible_to(found: Mapping[str, bytes], trusted: Trusted, *, office: str = "") -> dict[str, bytes]:
    """What the hub would serve to ``office``, or to a monitor if that is empty.

    Raises:
        Refused: ``no-such-member``.
    """
    own: tuple[str, ...] = ()
    if office:
        listed = trusted.offices.get(office)
        if listed is None:
            raise Refused("no-such-member", "There is no such office.", "See: kengele coordinator members list")
        own = concern(listed, (trusted.policy, *trusted.regional.values()), trusted.offices)
    role = "office" if office else "monitor"
    return {path: data for path, data in found.items() if metadata.visible(path, role, own, trusted.areas)}


def write(directory: Path, found: Mapping[str, bytes]) -> None:
    """Writes what was ``found`` under ``directory``, the timestamp last, as it makes the set whole."""
    disk.check_names(found)
    disk.make_directory(directory)
    for path in sorted(found, key=lambda name: name == "metadata/timestamp.json"):
        disk.write_below(directory, path, found[path])


def add_source(parser: argparse.ArgumentParser) -> None:
    """Adds from where rules are taken in."""
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="DIR", help="take in the rules in this directory (a stick)"
    )


def show(args: argparse.Namespace, member: Member, took: Callable[[Member, Trusted], None] = lambda *_: None) -> int:
    """Shows the rules that ``member`` holds, or was given from a directory. ``took`` is called with those taken in."""
    if args.source is not None:
        trusted = _carried(args.source, member)
        took(member, trusted)
    else:
        trusted = asyncio.run(in_force(member))
    renewed = {
        office.id: since.isoformat()
        for office in trusted.offices.document.offices
        if office.status == "active" and (since := trusted.replaced_since(office, member.now().date()))
    }
    older = member.newest.older(trusted)
    found = {
        "network": trusted.network.name,
        "version": trusted.version,
        "policy": trusted.rules_version,
        "rules": sum(len(policy.rules) for policy in trusted.in_force),
        "offices": len(trusted.offices.active),
        "hold_until": trusted.targets_expire.isoformat(timespec="seconds"),
        "areas_hold_until": {path: end.isoformat(timespec="seconds") for path, end in sorted(trusted.ends.items())},
        "past_their_date": sorted(trusted.lapsed),
        "asked_hub": trusted.fresh,
        "confirmed": _confirmed(member, trusted),
        "older_rules": older.document() if older else None,
        "new_keys": renewed,
        "unseen": {sentence: day.isoformat() for sentence, day in trusted.unseen.items()},
    }
    if args.json:
        terminal.emit(found)
        return 0
    terminal.say(f"Network:     {found['network']}")
    terminal.say(f"Version:     {found['version']}, policy {found['policy']}")
    terminal.say(f"Offices:     {', '.join(trusted.offices.active) or 'none yet'}")
    terminal.say(f"Groups:      {', '.join(sorted(trusted.offices.document.groups)) or 'none'}")
    terminal.say(f"Hold until:  {found['hold_until']}")
    for path, end in sorted(trusted.ends.items()):
        past = ": past their date" if path in trusted.lapsed else ""
        terminal.say(f"  {path} until {end.date()}{past}")
    at_hub = "at the hub just now; by its word alone there is none newer"
    terminal.say(f"Seen:        {at_hub if trusted.fresh else 'here, without asking the hub'}")
    terminal.say(f"Confirmed:   {_by_whom(member, trusted)}")
    if older is not None:
        terminal.say(older.line())
    for office, day in renewed.items():
        terminal.say(f"ATTENTION:   {office} has new keys since {day}, and its old key has not vouched for them")
    for sentence, since in trusted.unseen.items():
        terminal.say(_unseen(sentence, since))
    for policy in trusted.in_force:
        for rule in policy.rules:
            terminal.say("", *_told(rule))
    return 0


def _unseen(sentence: str, day: date) -> str:
    return (
        f"ATTENTION (unseen-widening): By versions that this home missed before {day}, {sentence}. It did not see that"
        " as many coordinators signed as that takes; ask one."
    )


def _confirmed(member: Member, trusted: Trusted) -> dict[str, Any] | None:
    """Who besides the hub named these rules last, as JSON."""
    named = member.newest.confirmed(trusted)
    return {"policy": named.policy, "by": named.by, "at": named.at.isoformat(timespec="seconds")} if named else None


def _by_whom(member: Member, trusted: Trusted) -> str:
    named = member.newest.confirmed(trusted)
    if named is None:
        return "by nobody but the hub"
    return f"policy {named.policy} was named on {named.at.date()} by a report of {named.by}"


def _carried(directory: Path, member: Member) -> Trusted:
    try:
        return member.trust.carried(from_directory(directory), member.role, member.now(), member.id)
    except Untrusted as error:
        if error.code != "not-served":
            raise
        whose = f" --office {member.id}" if member.role == "office" else ""
        raise Untrusted(
            error.code,
            f"The directory {directory} lacks a file of the rules that this home needs. Nothing was changed here.",
            f"Ask for one made for it: kengele coordinator export DIR{whose}",
        ) from None


def _told(rule: Rule) -> list[str]:
    """What a rule says, its reason besides; what it leaves open is left out."""
    what = "forbids" if rule.grant is None else "grants"
    rest = rule.model_dump(
        mode="json", exclude_defaults=True, exclude_none=True, exclude={"id", "grant", "forbid", "to", "reason"}
    )
    bounds = [f"{name} {' '.join(value) if isinstance(value, list) else value}" for name, value in rest.items()]
    said = "; ".join([f"{what} {', '.join(rule.compartments)} to {', '.join(rule.to)}", *bounds])
    return [f"{rule.id} {said}.", *foreign.block(rule.reason)]


async def in_force(member: Member) -> Trusted:
    """The rules as they stand at the hub, or without a line as they were last verified here."""
    try:
        async with member.session(_QUICK) as session:
            trusted = await session.refresh()
    except Unreachable:
        trusted = member.offline()
        terminal.note("There is no line; the rules are those last verified here.")
    for line in warnings(member, trusted):
        terminal.note(line)
    return trusted


def warnings(member: Member, trusted: Trusted) -> list[str]:
    """What whoever goes by ``trusted`` is told at once: that the hub uses newer rules, and what came unseen today."""
    older, today = member.newest.older(trusted), member.now().date()
    unseen = [_unseen(sentence, day) for sentence, day in trusted.unseen.items() if day == today]
    return [*([older.line()] if older else ()), *unseen]
