"""``kengele node recall`` and ``recalls``: a report is taken back, and which offices have confirmed it is told."""

from __future__ import annotations

import argparse
import asyncio
from contextlib import closing
from typing import Any

from kengele_node import rules, terminal
from kengele_node.member import Member, now
from kengele_node.private import private, report
from kengele_schemas import subjects
from kengele_schemas.errors import Refused
from kengele_schemas.receipt import CODES
from kengele_schemas.trusted import Trusted

from .compose import new_report_id
from .entries import entry_of, row, subject, without_reason
from .home import action, open_outbox, opened
from .outbox import Entry
from .recalling import Intent, confirmations, plan_recall, strangers_of
from .running import send_now, sent_by
from .sharing import shared_with


def add(actions: Any) -> None:
    """Adds ``recall`` and ``recalls``."""
    recall = action(
        actions,
        "recall",
        "take back an accepted report, or a part of it, from the offices that were given it",
        "kengele node recall 12\n          kengele node recall 12 --keep summary --reason -",
        _recall,
    )
    recall.add_argument(
        "report",
        type=report("The report's number, or its id"),
        metavar="N",
        help="the report's number in the outbox, or its id; - asks",
    )
    recall.add_argument("--keep", action="append", default=[], metavar="PART", help="this part may stay; repeat")
    recall.add_argument("--office", action="append", default=[], metavar="ID", help="only from this office; repeat")
    recall.add_argument(
        "--reason",
        type=private("The reason", "--reason"),
        default="",
        help="told to those offices, and to nobody else; - asks",
    )
    recall.add_argument("--later", action="store_true", help="do not try to send it now")
    recall.add_argument("--yes", action="store_true", help="do not ask")
    recalls = action(
        actions,
        "recalls",
        "say which offices have confirmed what was recalled, and which have not",
        "kengele node recalls --json",
        _recalls,
    )
    recalls.add_argument("--limit", type=int, default=100, help="of the outbox's newest entries (default: 100)")


def _recall(args: argparse.Namespace) -> int:
    member = opened(args)
    trusted = asyncio.run(rules.in_force(member))
    with closing(open_outbox(member)) as outbox:
        reported = entry_of(outbox, args.report)
    if reported is None:
        raise Refused("not-accepted", "There is no such report in the outbox.", "See: kengele node outbox")
    intent = plan_recall(
        reported,
        keep=args.keep,
        offices=args.office,
        reason=args.reason.strip(),
        shared=shared_with(member, reported.report_id),
    )
    agreed = _asked(args, member, reported, intent, trusted)
    if agreed is None:
        terminal.note("Nothing was recalled.")
        return 1
    return asyncio.run(_take_back(args, member, intent, agreed))


def _asked(
    args: argparse.Namespace, member: Member, reported: Entry, intent: Intent, trusted: Trusted
) -> Trusted | None:
    """The rules by which it is sealed once its author has seen from whom it is recalled; None if she does not want it.

    Time passes while she reads. Where the offices or their keys changed meanwhile, she is shown what holds now.
    """
    while True:
        if not args.json:
            _show(member, reported, intent, trusted)
        # Outside of the event loop, as within it Ctrl-C would wait for the answer.
        if args.yes or args.json or not terminal.interactive():
            return trusted
        if not terminal.confirm("Have it destroyed there?"):
            return None
        now, today = member.offline(), member.now().date()
        if (intent.agreed(now), intent.readers(now, today)) == (intent.agreed(trusted), intent.readers(trusted, today)):
            return now
        terminal.note("Meanwhile the offices or their keys have changed. By the rules of now:")
        trusted = now


def _show(member: Member, reported: Entry, intent: Intent, trusted: Trusted) -> None:
    """Which report and from whom: a number is soon mistyped, and what was destroyed does not come back."""
    terminal.say(f"{reported.report_id}  {reported.header['day']}  {subject(reported)}")
    what = f"all of it but {', '.join(intent.keep)}" if intent.keep else "all of it"
    found = {id_: trusted.offices.get(id_) for id_ in intent.offices}
    terminal.say(f"Recalled, {what}, from: {', '.join(row.name for row in found.values() if row) or 'nobody'}")
    gone = [id_ for id_, row in found.items() if row is None]
    if gone:
        terminal.say(f"No longer in the network, and told nothing: {', '.join(gone)}")
    if intent.reason:
        terminal.say("They will read your reason.")
        for row in found.values():
            if row is not None and (since := trusted.replaced_since(row, member.now().date())):
                terminal.say(
                    f"ATTENTION: {row.name} has new keys since {since.isoformat()}, and its old key has not vouched"
                    " for them."
                )


async def _take_back(args: argparse.Namespace, member: Member, intent: Intent, trusted: Trusted) -> int:
    moment = now()
    outbox = open_outbox(member)
    try:
        readers, recall_id = intent.readers(trusted, member.now().date()), new_report_id()
        key = member.signing_keys[str(intent.header["kid"])]
        entry = outbox.add(
            recall_id,
            intent._asdict(),
            intent.numbered(readers),
            lambda counters: intent.seal(recall_id, readers, trusted, key, counters),
            now=moment.timestamp(),
            agreed=intent.agreed(trusted),
        )
        if not args.later:
            await send_now(member, outbox, entry)
        current = outbox.get(entry.name) or entry
    finally:
        outbox.close()
    if args.json:
        terminal.emit({"id": recall_id, "recalls": intent.recalls, "offices": sorted(readers), **row(current)})
    elif current.state == "accepted":
        terminal.say(f"Accepted: the hub gives the recall to {', '.join(sorted(readers))}.")
        if strangers_of(current):
            terminal.say(without_reason(current, args.home))
        terminal.say(f"Who has confirmed:  kengele node recalls --home {args.home}")
    elif current.state == "refused":
        terminal.say(f"Refused ({current.code}): {CODES[current.code].sentence if current.code in CODES else ''}")
    else:
        terminal.say(f"The recall is safe in the outbox. {sent_by(args)}")
    return Refused.exit_code if current.state == "refused" else 0


def _recalls(args: argparse.Namespace) -> int:
    return asyncio.run(_confirmed(args, opened(args)))


async def _confirmed(args: argparse.Namespace, member: Member) -> int:
    outbox = open_outbox(member)
    try:
        sent = [entry for entry in outbox.entries(args.limit) if entry.header.get("recalls")]
    finally:
        outbox.close()
    found = []
    if sent:
        async with member.session() as session:
            trusted = await session.refresh()
            for entry in sent:
                answer = await session.ask(subjects.recalls_status(member.nkey.public), {"recall": entry.report_id})
                found.append((entry, confirmations(answer, entry, trusted)))
    if args.json:
        told = [
            {
                "id": entry.report_id,
                "recalls": entry.header["recalls"],
                "keep": entry.header.get("keep", []),
                "offices": {office: said.at if said else None for office, said in offices.items()},
            }
            for entry, offices in found
        ]
        terminal.emit({"recalls": told})
        return 0
    if not found:
        terminal.say("Nothing was recalled.")
    for entry, offices in found:
        keep = f", all but {', '.join(entry.header['keep'])}" if entry.header.get("keep") else ""
        terminal.say(f"Recall of report {entry.header['recalls']}{keep}")
        if strangers_of(entry):
            terminal.say(without_reason(entry, args.home))
        for office, said in offices.items():
            terminal.say(f"  {office}: {f'confirmed, {said.at}' if said else 'has not confirmed'}")
    return 0
