"""What is wrong at a desk: what was set aside, what is missing, and what is odd about the hub's log."""

from __future__ import annotations

import argparse
from contextlib import closing
from typing import Final

from kengele_node import terminal
from kengele_node.member import Member, now
from kengele_schemas import foreign

from .arrivals import Lost
from .asides import MAX_EACH
from .inbox import Inbox
from .witness import Seen, open_memory
from .witnessing import moment, shared_line

_LACKING: Final = ("unknown-monitor", "not-recalled")
_STALE: Final = 7 * 24 * 3600.0
"""Seconds after which it is told that a witness has not been heard of."""


def problems(args: argparse.Namespace, inbox: Inbox, member: Member) -> int:
    """Tells them; gives the exit code."""
    with closing(open_memory(member.home, member.vault.rows("witness"))) as memory:
        evidence, seen = memory.evidence(), memory.last()
    asides = [
        {"number": aside.number, "code": "damaged" if isinstance(aside, Lost) else aside.code}
        for aside in inbox.asides()
    ]
    older = member.newest.older(member.offline()) if member.trust.files() else None
    gaps = {author: gap for author in inbox.authors() if (gap := inbox.gaps(author)).missing or gap.withheld}
    if args.json:
        missing = {
            author: {
                "missing": [list(span) for span in gap.missing],
                "unexplained": gap.unexplained,
                "withheld": gap.withheld,
            }
            for author, gap in gaps.items()
        }
        log = {
            "evidence": [one._asdict() for one in evidence],
            "witnessed": seen.at or None,
            "shared": seen.shared,
        }
        last = {author: inbox.heard(author) for author in inbox.authors()}
        told = {"set_aside": asides, "crowded": inbox.crowded(), "gaps": missing, "log": log, "heard": last}
        terminal.emit({**told, "older_rules": older.document() if older else None})
        return 0
    if older is not None:
        terminal.say(older.line())
    for one in evidence:
        terminal.say(f"On {moment(one.at)} the hub showed a log that does not hold: {one.code}. Both checkpoints:")
        terminal.say(*foreign.block(one.before), "", *foreign.block(one.after))
    if seen.at and seen.at < now().timestamp() - _STALE:
        terminal.say(f"The hub's log was last witnessed on {moment(seen.at)}.")
    strangers = _apart(member, seen)
    for office in strangers:
        terminal.say(shared_line(office, seen))
    for aside in asides:
        terminal.say(f"Set aside as item {aside['number']}: {aside['code']}")
    if any(aside["code"] in _LACKING for aside in asides):
        terminal.say("  An honest hub delivers nothing that its lists do not know: it may show this desk older lists.")
    if inbox.crowded():
        terminal.say(f"Of one author {MAX_EACH} items are set aside, which is all that is kept: older ones are gone.")
    for author, gap in gaps.items():
        if gap.unexplained:
            terminal.say(f"From {author}: {gap.unexplained} reports are missing that were numbered for this office.")
        if gap.withheld:
            terminal.say(f"From {author}: the hub says that it withholds {gap.withheld} reports by newer rules.")
            terminal.say("  This is its word alone: ask a coordinator whether a rule was withdrawn.")
    silent = _silent(inbox)
    for author, at in silent.items():
        terminal.say(f"From {author}: last heard on {moment(at)}. Its node is off, or the hub gives nothing of it.")
    if not asides and not gaps and not evidence and not strangers and not silent and not older:
        terminal.say("Nothing was set aside and nothing is missing.")
    return 0


def _apart(member: Member, seen: Seen) -> list[str]:
    """Offices that have cosigned nothing of what this desk sees for long: they may be off, or shown another log."""
    since = now().timestamp() - _STALE
    if not 0 < seen.since < since:
        return []
    return [id for id in member.offline().offices.active if id != member.id and seen.shared.get(id, 0) < since]


def _silent(inbox: Inbox) -> dict[str, float]:
    """Authors whose nodes say on a schedule that they are there, and have not for long; and when they did last."""
    since = now().timestamp() - _STALE
    return {author: at for author in inbox.authors() if (at := inbox.heard(author)) is not None and at < since}
