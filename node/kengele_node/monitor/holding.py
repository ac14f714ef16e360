"""``kengele node held``: a report that would be read otherwise than its author was promised, for her to decide."""

from __future__ import annotations

import argparse
import asyncio
from contextlib import closing
from typing import Any

from kengele_node import rules, terminal
from kengele_node.member import Member
from kengele_schemas.errors import Refused
from kengele_schemas.report import parse_draft
from kengele_schemas.trusted import Trusted

from . import consent
from .asking import asked, told
from .compose import Plan, plan_report, seal_report
from .entries import entry_of, held, row
from .home import action, open_outbox, opened
from .outbox import Entry, Outbox
from .running import send_now, sent_by


def add(actions: Any) -> None:
    """Adds ``held``."""
    parser = action(
        actions,
        "held",
        "look at a report that would be read otherwise than you were promised, and send or discard it",
        "kengele node held\n          kengele node held 12\n          kengele node held 12 --discard",
        _held,
    )
    parser.add_argument(
        "report", nargs="?", metavar="N", help="its number in the outbox, or its id (default: list all)"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask: send it to those who would read it now")
    parser.add_argument("--discard", action="store_true", help="delete it, unsent")
    parser.add_argument("--later", action="store_true", help="do not try to send it now")


def _held(args: argparse.Namespace) -> int:
    member = opened(args)
    with closing(open_outbox(member)) as outbox:
        if args.report is None:
            return _list(args, outbox)
        entry = entry_of(outbox, args.report)
        if entry is None or entry.state != "held":
            raise Refused("not-held", "No such report is held.", "See: kengele node held")
        if args.discard:
            return _discard(args, outbox, entry)
        return _look(args, member, outbox, entry)


def _list(args: argparse.Namespace, outbox: Outbox) -> int:
    entries = outbox.held()
    if args.json:
        terminal.emit({"held": [row(entry) | {"id": entry.report_id} for entry in entries]})
        return 0
    if not entries:
        terminal.say("Nothing is held.")
    for entry in entries:
        terminal.say(f"{entry.number:>6}  {entry.report_id}")
        terminal.say(held(entry, args.home))
    return 0


def _discard(args: argparse.Namespace, outbox: Outbox, entry: Entry) -> int:
    if not (args.yes or args.json) and terminal.interactive() and not terminal.confirm("Delete it, unsent?"):
        terminal.note("It is held as before.")
        return 1
    outbox.forget(entry.name)
    if args.json:
        terminal.emit({"id": entry.report_id, "state": "discarded"})
    else:
        terminal.say(f"Report {entry.number} is deleted. Nobody was sent it.")
    return 0


def _look(args: argparse.Namespace, member: Member, outbox: Outbox, entry: Entry) -> int:
    report = parse_draft(entry.draft)

    def make(known: Trusted) -> Plan:
        return plan_report(report, known, kid=member.kid, report_id=entry.report_id, now=member.now())

    trusted = asyncio.run(rules.in_force(member))
    first = make(trusted)
    _, changes = consent.judged(entry.agreed, first, member.card.root_digest, trusted.areas)
    if args.json:
        found = {"promised": consent.promises(entry.agreed), "changes": [one.sentence for one in changes]}
        terminal.emit({"id": entry.report_id, **found, **told(first, member.newest.older(trusted))})
    else:
        terminal.say("You were promised:")
        for line in consent.promises(entry.agreed):
            terminal.say(f"  {line}")
        for one in changes:
            terminal.say(f"ATTENTION: {one.sentence}")
        terminal.say("By the rules of now:")
    plan = asked(args, member, trusted, make)
    if plan is None or not plan.readers or not (args.yes or terminal.interactive()):
        terminal.note("It is held as before, and nothing of it is sent.")
        terminal.note(f"To send it so: --yes. To delete it: --discard. To change it: {_corrected(entry)}")
        return 1
    spare: dict[str, Any] | None = None if entry.spare is None else {}
    renewed = outbox.reseal(
        entry.name,
        plan.offices,
        lambda counters: seal_report(plan, member.key, counters, spare),
        spare,
        agreed=consent.agreed_to(plan),
        state="held",
    )
    if renewed is None:
        raise Refused("not-held", "Another command has decided about it meanwhile.", "See: kengele node outbox")
    if not args.later:
        asyncio.run(send_now(member, outbox, renewed))
    current = outbox.get(entry.name) or renewed
    if args.json:
        terminal.emit({"id": entry.report_id, **row(current)})
    elif current.state == "waiting":
        terminal.say(f"Report {entry.number} is in the outbox again. {sent_by(args)}")
    else:
        terminal.say(f"Report {entry.number}: {current.state}{f' ({current.code})' if current.code else ''}")
    return Refused.exit_code if current.state in ("refused", "held") else 0


def _corrected(entry: Entry) -> str:
    return f"kengele node outbox --draft {entry.number} > draft.json, then: report draft.json --replaces {entry.number}"
