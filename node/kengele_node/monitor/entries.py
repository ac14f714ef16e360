"""``kengele node outbox``: the outbox's entries, listed or one by one: a receipt, a draft to correct."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kengele_node import terminal
from kengele_node.private import report
from kengele_schemas.errors import Refused

from .consent import HELD
from .home import action, open_outbox, opened
from .log_memory import LogMemory
from .outbox import Entry, Outbox


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
        "--evidence",
        action="store_true",
        help="write what shows that the hub keeps two logs, as JSON: for coordinators and auditors",
    )
    outbox.add_argument(
        "--log-restored",
        action="store_true",
        help="coordinators told you, by another way than the hub, that it was restored from an older copy:"
        " compare its receipts from now on only",
    )
    outbox.add_argument("--limit", type=terminal.number, default=100, help="entries, newest first (default: 100)")


def _outbox(args: argparse.Namespace) -> int:
    member = opened(args)
    if args.evidence or args.log_restored:
        return _log(LogMemory(member.home, member.vault.rows("log")), args)
    outbox = open_outbox(member)
    try:
        if args.receipt:
            return _receipt(outbox, args.receipt)
        if args.draft:
            return _kept_draft(outbox, args.draft)
        entries = outbox.entries(args.limit)
    finally:
        outbox.close()
    rows = [row(entry) | {"id": entry.report_id or None} for entry in entries]
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
    return 0


def _log(memory: LogMemory, args: argparse.Namespace) -> int:
    if args.evidence:
        terminal.emit({"evidence": [one._asdict() for one in memory.evidence()]}, indent=2)
    if args.log_restored:
        memory.begin_anew()
        terminal.note("Receipts are compared from now on only. What waits is sent again: kengele node run")
    return 0


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
        "written": datetime.fromtimestamp(entry.added, UTC).isoformat(timespec="seconds") if entry.added else None,
    }


def subject(entry: Entry) -> str:
    """By what she finds the one she means when its text is gone: no more than the hub sees of it, too."""
    header = entry.header
    if "recalls" in header:
        return f"recall of {header['recalls']}"
    return f"{header.get('area', '-')}  {', '.join(header.get('categories', ()))}"
