"""``kengele node outbox``: the outbox's entries, listed or one by one: a receipt, a draft to correct."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kengele_node import terminal
from kengele_node.member import Member
from kengele_node.private import report
from kengele_schemas.encoding import unb64u
from kengele_schemas.errors import Refused

from .consent import HELD
from .home import action, open_outbox, opened
from .log_memory import KEPT, MEND, SENTENCE, LogMemory, Place
from .log_watch import LogWatch
from .outbox import Entry, Outbox
from .recalling import strangers_of


def add(actions: Any) -> None:
    """Adds ``outbox``."""
    outbox = action(
        actions, "outbox", "list what waits, what was accepted, refused or is held", "kengele node outbox", _outbox
    )
    outbox.add_argument(
        "--receipt", type=report(), metavar="N", help="number or id: write its receipt, for: kengele verify"
    )
    outbox.add_argument(
        "--draft", type=report(), metavar="N", help="number or id: write its draft as JSON, to correct it"
    )
    outbox.add_argument(
        "--again", type=report(), metavar="N", help="number or id: send an accepted report again, as it was sealed"
    )
    outbox.add_argument(
        "--check-log",
        action="store_true",
        help="ask the hub now whether an office has confirmed that it sees your reports in the log; ends with 6 if the"
        " hub's log does not hold",
    )
    outbox.add_argument(
        "--evidence",
        action="store_true",
        help="write what shows that the hub keeps two logs, as JSON, for coordinators and auditors. It names places in"
        " the log: whoever can read the log learns that these reports are from one node",
    )
    outbox.add_argument(
        "--log-restored",
        action="store_true",
        help="coordinators told you, by another way than the hub, that it was restored from an older copy:"
        " compare its receipts from now on only, and send again what no office has confirmed",
    )
    outbox.add_argument("--limit", type=terminal.number, default=100, help="entries, newest first (default: 100)")


def _outbox(args: argparse.Namespace) -> int:
    member = opened(args)
    memory = LogMemory(member.home, member.vault.rows("log"))
    if args.evidence:
        terminal.emit({"evidence": [one._asdict() for one in memory.evidence()]}, indent=2)
        return 0
    if args.check_log:
        return asyncio.run(_check_log(args, member, memory))
    # Its time is over, whether the hub was asked in between or not.
    memory.expire(time.time())
    outbox = open_outbox(member)
    try:
        if args.receipt:
            return _receipt(outbox, args.receipt)
        if args.draft:
            return _kept_draft(outbox, args.draft)
        if args.again:
            return _again(outbox, memory, args.again)
        if args.log_restored:
            return _log_restored(outbox, memory)
        entries = outbox.entries(args.limit)
    finally:
        outbox.close()
    places = memory.places(entry.name for entry in entries if entry.state in ("accepted", "kept"))
    rows = [row(entry) | {"id": entry.report_id or None} | placed(places.get(entry.name)) for entry in entries]
    if args.json:
        terminal.emit({"entries": rows})
        return 0
    if not rows:
        terminal.say("The outbox is empty.")
    for one, entry in zip(rows, entries, strict=True):
        code = f" ({one['code']})" if one["code"] else ""
        again = f", {one['attempts']} attempts" if one["attempts"] else ""
        name = one["id"] or "-"
        about = f"  {subject(entry)}" if entry.header else ""
        terminal.say(f"{one['number']:>6}  {name:22}  {one['written'] or '-':25}  {one['state']}{code}{again}{about}")
        if entry.state == "held":
            terminal.say(held(entry, args.home))
        if place := places.get(entry.name):
            _tell_place(place)
        if strangers_of(entry):
            terminal.say(without_reason(entry, args.home))
    return 0


def _tell_place(place: Place) -> None:
    if place.doubted:
        terminal.say(f"        ATTENTION: {SENTENCE} {MEND}")
    elif place.until is not None:
        until = datetime.fromtimestamp(place.until, UTC).date().isoformat()
        terminal.say(f"        No office has confirmed this report yet. This node keeps its sealed copy until {until}.")
    elif place.by:
        terminal.say(f"        Confirmed by: {', '.join(place.by)}.")
    else:
        terminal.say(
            f"        No office confirmed within {int(KEPT / 86400)} days that the log it sees holds this. Ask"
            " an office, by another way, whether it has this id."
        )


def placed(place: Place | None) -> dict[str, Any]:
    """The place of an accepted entry in the log, as JSON."""
    if place is None:
        return {"confirmed_by": None, "kept_until": None, "log_doubted": None}
    until = None if place.doubted else place.until
    return {
        "confirmed_by": list(place.by),
        "kept_until": None if until is None else datetime.fromtimestamp(until, UTC).isoformat(timespec="seconds"),
        "log_doubted": place.doubted,
    }


async def _check_log(args: argparse.Namespace, member: Member, memory: LogMemory) -> int:
    async with member.session(15) as session:
        looked = await LogWatch(session, memory, member.nkey.public).look(await session.refresh())
    if args.json:
        terminal.emit(looked._asdict())
        return 0
    terminal.say(f"The log, as the hub shows it, has {looked.size} entries and continues what this node saw before.")
    if looked.confirmed:
        terminal.say(f"Offices confirmed {looked.confirmed} of your reports now.")
    if looked.waiting:
        terminal.say(
            f"{looked.waiting} of your reports wait for it. The hub shows a newer log every quarter of an hour, and an"
            " office has to look at it first. Try again later."
        )
    elif not looked.confirmed:
        terminal.say("No report of yours waits to be confirmed.")
    return 0


def _again(outbox: Outbox, memory: LogMemory, which: str) -> int:
    entry = entry_of(outbox, which)
    if entry is None:
        raise Refused("no-such-report", "There is no such report in the outbox.", "See: kengele node outbox")
    if entry.state == "waiting":
        raise Refused("waits-already", f"Report {entry.number} already waits.", "It is sent by: kengele node run")
    if entry.state not in ("accepted", "kept"):
        raise Refused(
            "not-accepted",
            f"Report {entry.number} was never accepted ({entry.state}).",
            "Correct it: kengele node outbox --draft N; or look: kengele node held N",
        )
    place = memory.place(entry.name)
    if place is not None and place.by:
        raise Refused(
            "confirmed-already",
            f"Report {entry.number} is confirmed by: {', '.join(place.by)}.",
            "You need not send it again.",
        )
    if place is None or place.envelope is None or not _waits_again(outbox, place):
        raise Refused(
            "nothing-to-send-again",
            f"The sealed copy of report {entry.number} is not here any more.",
            "It is kept for at most 14 days. Ask an office, by another way, whether it has this id. If not, report it.",
        )
    terminal.note("It waits again. It is sent by:  kengele node run")
    return 0


def _log_restored(outbox: Outbox, memory: LogMemory) -> int:
    count = sum(_waits_again(outbox, place) for place in memory.begin_anew())
    terminal.note("This node no longer compares receipts with those from before.")
    if count:
        terminal.note(f"{count} reports that no office had confirmed will be sent again. Run: kengele node run")
    else:
        terminal.note("No report has to be sent again.")
    return 0


def _waits_again(outbox: Outbox, place: Place) -> bool:
    return place.envelope is not None and outbox.again(place.name, unb64u(place.envelope), now=time.time())


def _receipt(outbox: Outbox, which: str) -> int:
    entry = entry_of(outbox, which)
    if entry is None or entry.receipt is None:
        raise Refused("no-receipt", "There is no receipt of such a report here.", "See: kengele node outbox")
    sys.stdout.buffer.write(entry.receipt + b"\n")
    return 0


def _kept_draft(outbox: Outbox, which: str) -> int:
    entry = entry_of(outbox, which)
    if entry is None or entry.draft is None:
        raise Refused(
            "no-draft",
            "There is no draft of such a report here.",
            "The text of an accepted report is kept only if that was asked for: --keep-text",
        )
    terminal.emit(entry.draft, indent=2)
    return 0


def held(entry: Entry, home: Path) -> str:
    """Why an entry is held, and what to do."""
    why = HELD.get(entry.code, "It would be read otherwise than you were promised.")
    return f"        Not sent. {why} Look, then decide:  kengele node held {entry.number} --home {home}"


def without_reason(entry: Entry, home: Path) -> str:
    """That a recall goes, or went, without its reason; and how the reason can still be told."""
    recalled = entry.header.get("recalls") or entry.draft["recalls"]
    return (
        f"        Without your reason: the keys of {', '.join(strangers_of(entry))} are not those you were shown,"
        " and the old ones have not vouched for them. Ask there, then tell it by another recall:"
        f"  kengele node recall {recalled} --reason - --home {home}"
    )


def entry_of(outbox: Outbox, which: str) -> Entry | None:
    """The entry with the number in the author's own list, or the report's id, that ``which`` gives."""
    if not which.isdecimal():
        return outbox.find(which)
    nearest = outbox.entries(1, before=int(which) + 1)
    return nearest[0] if nearest and nearest[0].number == int(which) else None


def row(entry: Entry) -> dict[str, Any]:
    """An entry as JSON."""
    return {
        "number": entry.number,
        "state": entry.state,
        "attempts": entry.attempts,
        "code": entry.code or None,
        "without_reason_for": strangers_of(entry),
        "written": datetime.fromtimestamp(entry.added, UTC).isoformat(timespec="seconds") if entry.added else None,
    }


def subject(entry: Entry) -> str:
    """By what she finds the one she means when its text is gone: no more than the hub sees of it, too."""
    header = entry.header
    if "recalls" in header:
        return f"recall of {header['recalls']}"
    return f"{header.get('area', '-')}  {', '.join(header.get('categories', ()))}"
