"""Recalls by the coordinators: drafting one, making sure which report a draft recalls, and who has obeyed.

A draft names a report by its mark alone. Whoever is asked to sign is told the report's id by another way than the hub's
board, and checks that the mark is that report's.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from kengele_node import terminal
from kengele_node.member import Session
from kengele_node.private import report
from kengele_schemas import subjects
from kengele_schemas.encoding import loads, unb64u
from kengele_schemas.errors import KengeleError, Refused
from kengele_schemas.fields import read
from kengele_schemas.metadata import MAX_DRAFT
from kengele_schemas.orders import REASONS, RECALLS, Order, RecallsFile, mark_of
from kengele_schemas.recall import Confirmation, read_confirmation
from kengele_schemas.trusted import Trusted

from . import documents as papers
from .drafting import action, add_draft, opened, propose
from .signing import taken

_NOTHING: Final = b'{"v":1,"recalls":[]}'


class Status(NamedTuple):
    """Of one recall: the report's digest as the log has it, and by office its confirmation, None where there is none.

    ``report`` is None where the hub has no such report.
    """

    report: str | None
    offices: Mapping[str, Confirmation | None]


def add(actions: Any) -> None:
    """Adds ``recall`` and ``recalls``."""
    recall = action(
        actions,
        "recall",
        "draft the recall of a report, or of a part of it, from every office that has it",
        "kengele coordinator recall - --reason safety\n          kengele coordinator recall - --check draft.json",
        _recall,
    )
    recall.add_argument(
        "report", type=report(), metavar="ID", help="the report's id, as a desk that holds it shows it; - asks"
    )
    recall.add_argument("--keep", action="append", default=[], metavar="PART", help="this part may stay; repeat")
    recall.add_argument("--reason", choices=REASONS, help="every office reads it, also those that had nothing of it")
    recall.add_argument("--check", metavar="DRAFT", help="draft nothing; say whether this draft recalls that report")
    add_draft(recall)
    recalls = action(
        actions,
        "recalls",
        "list what the coordinators recalled, and which offices have confirmed and which have not",
        "kengele coordinator recalls --json",
        _recalls,
    )
    recalls.add_argument(
        "report", type=report(), nargs="?", default="", metavar="ID", help="of this report alone; - asks"
    )


def _recall(args: argparse.Namespace) -> int:
    if args.check is not None:
        return _check(args)
    parts = [part for given in args.keep for part in given.split(",") if part]
    code = propose(args, lambda before: papers.recall(before, args.report, keep=parts, reason=args.reason))
    if not args.json:
        terminal.note("Tell the report's id to who is to sign, by another way than the board; she makes sure by")
        terminal.note(f"  kengele coordinator recall - --check {args.draft}")
    return code


def _check(args: argparse.Namespace) -> int:
    mark = papers.checked_mark(args.report)
    args.draft = args.check
    draft = taken(args, opened(args))
    listed = loads(draft.documents.get(RECALLS, _NOTHING), max_bytes=MAX_DRAFT)
    order = read(RecallsFile, listed).by_mark().get(mark)
    if order is None:
        raise Refused("not-in-draft", "This draft does not recall that report.", "Do not sign it before you know why.")
    if args.json:
        terminal.emit({"mark": mark, "keep": list(order.keep or ()), "reason": order.reason})
    else:
        terminal.say(f"It recalls this report, with mark {mark}; {_stays(order)}.")
    return 0


def _stays(order: Order) -> str:
    return f"only {', '.join(order.keep)} may stay" if order.keep else "nothing of it stays"


def _recalls(args: argparse.Namespace) -> int:
    mark = papers.checked_mark(args.report) if args.report else ""
    found = asyncio.run(_looked_up(args, mark))
    if mark and not found:
        raise Refused(
            "not-recalled", "The coordinators have not recalled that report.", "See: kengele coordinator recalls"
        )
    if args.json:
        terminal.emit({"recalls": [_document(order, status) for order, status in found]})
        return 0
    if not found:
        terminal.say("The coordinators have recalled nothing.")
    for order, status in found:
        why = f" ({order.reason})" if order.reason else ""
        terminal.say(f"{order.mark}  {_stays(order)}{why}")
        if status.report is None:
            terminal.say("  The hub has no such report.")
        else:
            terminal.say(f"  Its digest is {status.report}. Who had it:  kengele audit search --report -")
        for office, said in status.offices.items():
            terminal.say(f"  {office}: {f'confirmed, {said.at}' if said else 'has not confirmed'}")
    return 0


def _document(order: Order, status: Status) -> dict[str, Any]:
    return {
        "mark": order.mark,
        "keep": list(order.keep or ()),
        "reason": order.reason,
        "report": status.report,
        "offices": {office: said.at if said else None for office, said in status.offices.items()},
    }


async def _looked_up(args: argparse.Namespace, mark: str) -> list[tuple[Order, Status]]:
    async with opened(args).session() as session:
        trusted = await session.refresh()
        wanted = [order for order in trusted.orders.values() if mark in ("", order.mark)]
        return [(order, await status_of(session, order, trusted)) for order in wanted]


async def status_of(session: Session, order: Order, trusted: Trusted) -> Status:
    """Who has obeyed ``order``. Which offices had the report is the hub's word, that one obeyed its own signature."""
    answer = await session.ask(subjects.recalls_status(session.member.nkey.public), {"order": order.mark})
    report, names, texts = (answer.get(name) for name in ("report", "offices", "confirmations"))
    found: dict[str, Confirmation | None] = {str(name): None for name in names} if isinstance(names, list) else {}
    for text in texts if isinstance(texts, list) else ():
        said = _confirmed(text, order, trusted)
        if said is not None:
            found[said.office] = said
    return Status(report if isinstance(report, str) else None, found)


def _confirmed(text: object, order: Order, trusted: Trusted) -> Confirmation | None:
    try:
        data = unb64u(text if isinstance(text, str) else "")
        row = trusted.offices.get(read_confirmation(data).office)
        said = read_confirmation(data, unb64u(row.sign), trusted.identity) if row else None
        holds = said is not None and (mark_of(said.report), unb64u(said.recall)) == (order.mark, order.digest)
    except KengeleError:
        return None
    return said if holds else None
