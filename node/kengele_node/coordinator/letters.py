"""Letters: members' word that other keys follow theirs, as coordinators find it at the hub or are given it as a file.

Nothing that the hub says of a letter is believed: whose it is, and whether it holds, follows from its signature.

    >>> waiting = await read(session, files)
    >>> taken = take(documents, [letter.card for letter in waiting], network)
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kengele_node import terminal
from kengele_node.member import Member, Session, now
from kengele_schemas import disk, metadata, subjects
from kengele_schemas.cards import MAX_CARD, read_card
from kengele_schemas.encoding import loads
from kengele_schemas.errors import KengeleError, Malformed, Refused
from kengele_schemas.invitations import read_signed
from kengele_schemas.metadata import Files
from kengele_schemas.rotation import Epoch, OfficeKeys

from . import rotating
from .drafting import action, add_draft, network_of, opened, propose, refreshed

_GONE: Final = ("overtaken",)


Statement = OfficeKeys | Epoch


@dataclass(frozen=True, slots=True)
class Letter:
    """One member's letter; ``code`` is what is wrong with it, empty if it can be taken in."""

    role: str
    member: str
    at: str
    card: Statement | None
    code: str = ""

    def says(self) -> str:
        """What it asks for."""
        if self.card is None:
            return "what cannot be taken in"
        if isinstance(self.card, Epoch):
            return f"its next key, {self.card.kid}"
        coming = [key.not_before.isoformat() for key in reversed(self.card.keys) if key.not_before is not None]
        return f"opening keys from {', '.join(coming)} on"

    def document(self) -> dict[str, Any]:
        """The same for a program."""
        return {
            "role": self.role,
            "member": self.member,
            "at": self.at,
            "says": self.says(),
            "trouble": self.code or None,
        }


async def read(session: Session, files: Files) -> list[Letter]:
    """The letters at the hub, but for those that were taken in."""
    documents = {path: metadata.document_of(files, path) for path in metadata.document_paths(files)}
    network = network_of(files)
    found = []
    for row in (await _ask(session, {"do": "list"})).get("letters", []):
        role, member, at = str(row.get("role")), str(row.get("member")), str(row.get("at"))
        with suppress(Refused):  # it was replaced or has gone since it was listed
            answer = await _ask(session, {"do": "get", "role": role, "member": member})
            letter = judged(role, member, at, answer.get("card"), documents, network)
            if letter.code not in _GONE:
                found.append(letter)
    return found


def judged(role: str, member: str, at: str, card: Any, documents: Mapping[str, Any], network: str) -> Letter:
    """A letter by what it holds, whatever the hub says of it."""
    try:
        statement: Statement = read_signed(card, Epoch) if role == "monitor" else read_signed(card, OfficeKeys)
        take(documents, [statement], network)
        if (role, member) != whose(statement):
            raise Malformed("bad-card", "The hub gives another member's letter.")
    except KengeleError as error:
        return Letter(role, member, at, None, error.code)
    return Letter(role, member, at, statement)


def take(documents: Mapping[str, Any], cards: Sequence[Statement], network: str) -> dict[str, Any]:
    """The documents that change by ``cards``. Raises what is wrong with the first that does not hold."""
    changed: dict[str, Any] = {}
    for card in cards:
        before = {**documents, **changed}
        if isinstance(card, Epoch):
            changed |= rotating.take_epoch(before, card, network, now().date())
        else:
            changed |= rotating.take_keys(before, card, network)
    return changed


def whose(card: Statement) -> tuple[str, str]:
    """Role and id of the member whose word ``card`` is."""
    return ("monitor", card.after) if isinstance(card, Epoch) else ("office", card.office)


def _read_file(path: Path) -> Statement:
    data = disk.read(path)
    found = loads(data, max_bytes=MAX_CARD)
    return read_card(data, Epoch) if isinstance(found, dict) and "own" in found else read_card(data, OfficeKeys)


def add(rooms: Any) -> None:
    """Adds ``keys`` to the actions of ``members``."""
    keys = action(
        rooms,
        "keys",
        "draft what members say of their own keys: those that follow the ones in the roster",
        "kengele coordinator members keys unrcca",
        _keys,
    )
    keys.add_argument("letters", nargs="*", metavar="MEMBER", help="whose, or a file (default: all that wait)")
    add_draft(keys)


def _keys(args: argparse.Namespace) -> int:
    member = opened(args)
    named = [Path(name) for name in args.letters if disk.present(Path(name))]
    cards = [_read_file(path) for path in named]
    wanted = {name for name in args.letters if not disk.present(Path(name))}
    if wanted or not args.letters:
        waiting = [letter for letter in asyncio.run(_waiting(member)) if not wanted or letter.member in wanted]
        if missing := wanted - {letter.member for letter in waiting}:
            raise Refused(
                "no-such-letter", f"No letter of {min(missing)} waits.", "See: kengele coordinator members pending"
            )
        bad = [letter for letter in waiting if letter.card is None]
        for letter in bad:
            terminal.note(f"The letter of {letter.member} does not hold ({letter.code}) and is left out.")
        cards += [letter.card for letter in waiting if letter.card is not None]
    if not cards:
        raise Refused(
            "nothing-changed", "No member's keys are to follow others.", "See: kengele coordinator members pending"
        )
    return propose(args, lambda before: take(before, cards, member.card.root_digest))


async def _waiting(member: Member) -> list[Letter]:
    async with member.session() as session:
        return await read(session, await refreshed(session))


def waiting(member: Member) -> list[Letter]:
    """The letters at the hub that hold; without a hub that gives any, none."""
    try:
        return [letter for letter in asyncio.run(_waiting(member)) if letter.card is not None]
    except Refused as error:
        terminal.note(f"The members' letters cannot be read ({error.code}).")
        return []


def renewed(before: Mapping[str, Any], found: Sequence[Letter], network: str) -> dict[str, Any]:
    """What changes by the letters that were ``found``; one that does not hold any more is left out and told."""
    changed: dict[str, Any] = {}
    for letter in found:
        try:
            taken = take({**before, **changed}, [letter.card] if letter.card else [], network)
            if any(path.startswith("connections/") for path in taken):
                terminal.note(f"The letter of {letter.member} is for its region's coordinators: members keys")
                continue
            changed |= taken
        except KengeleError as error:
            terminal.note(f"The letter of {letter.member} is left out ({error.code}).")
    return changed


async def _ask(session: Session, document: dict[str, Any]) -> dict[str, Any]:
    return await session.ask(subjects.letters_ask(session.member.nkey.public), document)
