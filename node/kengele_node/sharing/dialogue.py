"""What both commands do alike: show who would be given what, ask, put it into the journal, send it and say how it went.

>>> share(args, member, key, lambda trusted, journal: sources)
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import date
from typing import Any, Final

from kengele_node import terminal
from kengele_node.member import Member
from kengele_node.monitor.compose import Reading
from kengele_schemas.compartments import HANDLING, names
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.trusted import Trusted

from .journal import FILE, Journal
from .plan import Source, gains, made
from .sending import SHARED, Compare, Outcome, send

Sources = Callable[[Trusted, Journal], Iterable[Source]]
_WAIT: Final = 15.0


def open_journal(member: Member) -> Journal:
    """The journal of the member at home in ``member``."""
    return Journal(member.home / FILE, member.vault.rows("shares"))


def share(args: argparse.Namespace, member: Member, sources: Sources, compare: Compare | None = None) -> int:
    """Shares what of ``sources`` the rules of today give to whom it was not given; gives the exit code.

    Raises:
        Unreachable: no line: by rules that may be old nothing is shared.
    """
    with closing(open_journal(member)) as journal:
        # The questions stand outside of any event loop: within one, Ctrl-C would wait for the next answer.
        trusted, before = asyncio.run(_sent(member, journal, compare))
        plan, unsure = _planned(args, member, trusted, sources(trusted, journal))
        older = member.newest.older(trusted)
        if not args.json:
            _show(before, plan, unsure)
        if older is not None:
            terminal.note(older.line())
        while (agreed := bool(plan) and _agreed(args)) and not args.yes:
            # Time passes while she reads: what she said yes to is what is shared, by the keys of now.
            trusted, shown = member.offline(), plan
            plan, unsure = _planned(args, member, trusted, sources(trusted, journal))
            if _same(shown, plan):
                break
            terminal.note("Meanwhile the rules or an office's keys have changed. By those of now:")
            if not args.json:
                _show([], plan, unsure)
        after: list[Outcome] = []
        if agreed:
            today = member.now().date()
            for source, reading in plan:
                # A monitor shares under the name under which she reported.
                own = source.header.kid in member.signing_keys
                by, key = (
                    (source.header.kid, member.signing_keys[source.header.kid]) if own else (member.id, member.key)
                )
                data = made(source, reading, trusted, today, by=by, key=key)
                journal.add(source.header.id, reading.office, reading.bits, source.digest, data)
            _, after = asyncio.run(_sent(member, journal, compare))
    if args.json:
        rows = [_row(source, reading) for source, reading in plan]
        new_keys = {name: since.isoformat() for name, since in _renewed(plan).items()}
        shares = [_told(one) for one in (*before, *after)]
        finding = {"older_rules": older.document()} if older else {}
        terminal.emit({"plan": rows, "new_keys": new_keys, "shares": shares, **finding})
    else:
        for one in after:
            terminal.say(_line(one))
    refused = any(one.code != SHARED for one in (*before, *after))
    return Refused.exit_code if refused else 0 if agreed or not plan else 1


async def _sent(member: Member, journal: Journal, compare: Compare | None) -> tuple[Trusted, list[Outcome]]:
    """The rules as they stand at the hub, and what became of all that waited."""
    async with member.session(_WAIT) as session:
        trusted = await session.refresh()
        return trusted, await send(session, journal, trusted, member.nkey.public, compare)


def _planned(
    args: argparse.Namespace, member: Member, trusted: Trusted, sources: Iterable[Source]
) -> tuple[list[tuple[Source, Reading]], list[Source]]:
    """Who would be given what, and the reports whose author's caveats name somebody who is not there any more."""
    today, only = member.now().date(), tuple(getattr(args, "to", ()))
    if unknown := sorted(set(only) - set(trusted.offices.active)):
        raise Refused("no-such-office", f"There is no active office '{unknown[0]}'.", "Look at the rules.")
    plan: list[tuple[Source, Reading]] = []
    unsure = []
    for source in sources:
        try:
            plan += [(source, one) for one in gains(source, trusted, today, by=member.id, only=only)]
        except Malformed:
            unsure.append(source)
    return plan, unsure


def _show(before: list[Outcome], plan: list[tuple[Source, Reading]], unsure: list[Source]) -> None:
    for one in before:
        terminal.say(_line(one))
    shown = ""
    for source, reading in plan:
        if source.header.id != shown:
            shown = source.header.id
            number = f"{source.number}, " if source.number else ""
            terminal.say(f"Report {number}{shown}  ({source.header.day}  {source.header.area})")
        terminal.say(f"  {reading.line()}")
    for name, since in _renewed(plan).items():
        terminal.say(
            f"ATTENTION: {name} has new keys since {since.isoformat()}, and its old key has not vouched for them. If"
            " that surprises you, ask before you share."
        )
    for source in unsure:
        terminal.note(f"Report {source.header.id} is not shared: a caveat names who is not in the network any more.")
    if not plan:
        terminal.say("There is nothing to share: by the rules of today nobody is given more than before.")


def _renewed(plan: list[tuple[Source, Reading]]) -> dict[str, date]:
    """The offices whose keys only coordinators vouch for, by name, and since when."""
    return {reading.name: reading.renewed for _, reading in plan if reading.renewed is not None}


def _same(shown: list[tuple[Source, Reading]], now: list[tuple[Source, Reading]]) -> bool:
    """Whether the same offices are given the same parts of the same reports under the same keys by both."""

    def about(plan: list[tuple[Source, Reading]]) -> list[tuple[Any, ...]]:
        return [(source.header.id, one.office, one.bits, one.key, one.renewed) for source, one in plan]

    return about(shown) == about(now)


def _agreed(args: argparse.Namespace) -> bool:
    if args.yes:
        return True
    if terminal.interactive() and terminal.confirm("Share it so?"):
        return True
    terminal.note("Nothing was shared." + ("" if terminal.interactive() else " To share it so: --yes"))
    return False


def _row(source: Source, reading: Reading) -> dict[str, Any]:
    return {
        "report": source.header.id,
        "office": reading.office,
        "compartments": list(reading.compartments),
        "rules": list(reading.rules),
    }


def _told(one: Outcome) -> dict[str, Any]:
    given = [name for name in names(one.bits) if name != HANDLING]
    return {"report": one.share.report, "office": one.share.office, "code": one.code, "compartments": given}


def _line(one: Outcome) -> str:
    about = f"report {one.share.report} with {one.share.office}"
    if one.code == SHARED:
        given = ", ".join(name for name in names(one.bits) if name != HANDLING)
        return f"Shared {about}: {given}. The hub's log has it."
    return f"Not shared, {about} ({one.code}). {one.sentence} {one.mend}".rstrip()
