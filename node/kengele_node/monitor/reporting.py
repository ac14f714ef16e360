"""``kengele node report``: a report is written, its author sees who will read what of it, and it is sealed and kept."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from kengele_node import rules, terminal
from kengele_node.member import Member, now
from kengele_node.private import private
from kengele_node.private import report as report_id
from kengele_schemas import disk
from kengele_schemas.encoding import loads
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.receipt import CODES
from kengele_schemas.report import parse_draft
from kengele_schemas.trusted import Trusted

from .asking import asked, readers, told
from .compose import Plan, new_report_id, plan_report, seal_report
from .consent import agreed_to
from .entries import entry_of, held, row
from .home import action, open_outbox, opened
from .outbox import Outbox
from .questions import ask_draft, draft_of, find_area
from .running import send_now, sent_by

_WRITING: Final = (
    *("area", "category", "severity", "day", "tlp", "lang"),
    *("summary", "account", "place", "source", "basis", "not_to"),
)
"""Options that write a report."""
_MAX_DRAFT: Final = 256 * 1024


def add(actions: Any) -> None:
    """Adds ``report``."""
    report = action(
        actions,
        "report",
        "write a report, see who will read what, and put it into the outbox; what no option says is asked",
        "kengele node report\n          kengele node report --area KG-O --category rumour --severity 2 --summary -\n"
        "          kengele node report draft.json\n          kengele node report - < draft.json",
        _report,
    )
    report.add_argument("draft", nargs="?", metavar="FILE", help="the report as JSON; - reads stdin")
    report.add_argument("--area", help="where: a code or a name")
    report.add_argument(
        "--category", action="append", default=[], help="what it is about; see: kengele node categories; repeat"
    )
    report.add_argument("--severity", type=int, choices=range(1, 6), help="1 (a sign) to 5 (many deaths)")
    report.add_argument("--day", help="YYYY-MM-DD (default: today)")
    report.add_argument("--tlp", help="how far it may go, RED least: RED, AMBER+STRICT (default), AMBER, GREEN, CLEAR")
    report.add_argument("--lang", help="language of the texts, such as ky or fr")
    report.add_argument(
        "--summary",
        type=private("What happened, naming nobody", "--summary"),
        help="what happened in a sentence or two, naming nobody; - asks, so that no other user reads it",
    )
    report.add_argument("--account", type=private("The full account", "--account"), help="the full account; - asks")
    report.add_argument("--place", type=private("The exact place", "--place"), help="the place's name; - asks")
    report.add_argument("--source", type=private("How it is known", "--source"), help="how it is known; - asks")
    report.add_argument(
        "--basis", help="who knows it: direct, witness, community-leader, media, social-media, rumour, official"
    )
    report.add_argument(
        "--not-to",
        type=private("Whom to keep it from (office:ID or group:NAME; leave empty for nobody)", "--not-to"),
        action="append",
        default=[],
        metavar="WHO",
        help="keep it from office:ID or group:NAME; repeat; - asks",
    )
    report.add_argument("--preview", action="store_true", help="only say who would read what; nothing is kept or sent")
    report.add_argument("--yes", action="store_true", help="do not ask before it is sealed")
    report.add_argument("--later", action="store_true", help="do not try to send it now")
    report.add_argument(
        "--replaces", type=report_id(), metavar="N", help="number or id of the refused report that this corrects"
    )
    report.add_argument("--keep-text", action="store_true", help="keep the text in the vault after it was accepted")
    report.add_argument(
        "--keep-keys", action="store_true", help="keep its keys and no text: it can be shared later (node share)"
    )


def _report(args: argparse.Namespace) -> int:
    if args.draft is not None:
        _check_alone(args)
    member = opened(args)
    try:
        agreed = _agreed(args, member)
    except KeyboardInterrupt:
        terminal.note("Nothing was kept.")
        raise
    if agreed is None:
        return 1
    if args.preview:
        if args.json:
            terminal.emit(told(agreed, member.newest.older(member.offline())))
        return 0
    return _put(args, member, agreed)


def _check_alone(args: argparse.Namespace) -> None:
    """A file is the whole report. An option beside it would be left out, and with --not-to a reader left in."""
    given = [name for name in _WRITING if getattr(args, name)]
    if given:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise Malformed(
            "malformed", f"A report in a file does not go together with {named}.", "Write it into the file."
        )


def _agreed(args: argparse.Namespace, member: Member) -> Plan | None:
    """What is to be sealed, after its author has seen who will read what; None if she does not want it so."""
    # The questions stand outside of any event loop: within one, Ctrl-C would wait for the next answer.
    trusted = asyncio.run(rules.in_force(member))
    own = list(member.profile.get("areas", ()))
    report = parse_draft(_draft(args, trusted, own))
    if own and not any(trusted.areas.covers(area, report.area) for area in own):
        terminal.note(f"You are to report from {', '.join(own)}; from elsewhere the hub takes nothing of yours.")
    report_id = new_report_id()
    plan = asked(
        args,
        member,
        trusted,
        lambda known: plan_report(report, known, kid=member.kid, report_id=report_id, now=member.now()),
    )
    if plan is None:
        terminal.note("Nothing was kept.")
    return plan


def _draft(args: argparse.Namespace, trusted: Trusted, own: Sequence[str]) -> Any:
    if args.draft is not None:
        data = disk.read(Path(args.draft), _MAX_DRAFT)
        return loads(data, max_bytes=_MAX_DRAFT)
    draft = draft_of(args)
    if "area" in draft:
        draft["area"] = find_area(draft["area"], trusted, own)
    return ask_draft(draft, trusted, own, args.lang) if terminal.interactive() else draft


def _put(args: argparse.Namespace, member: Member, plan: Plan) -> int:
    spare: dict[str, Any] | None = {} if args.keep_text or args.keep_keys else None
    outbox = open_outbox(member)
    try:
        entry = outbox.add(
            plan.header.id,
            plan.report.model_dump(mode="json", exclude_none=True),
            plan.offices,
            lambda counters: seal_report(plan, member.key, counters, spare),
            now=now().timestamp(),
            keep_text=args.keep_text,
            spare=spare,
            agreed=agreed_to(plan),
            replaces=_refused(outbox, args.replaces) if args.replaces else None,
        )
        if not args.later:
            asyncio.run(send_now(member, outbox, entry))
        current = outbox.get(entry.name) or entry
    finally:
        outbox.close()
    if args.json:
        terminal.emit({"id": entry.report_id, **row(current), "readers": readers(plan)})
    elif current.state in ("accepted", "kept"):
        terminal.say(f"Accepted: the hub has report {entry.number} on disk and in its log.")
    elif current.state == "refused":
        terminal.say(
            f"Refused ({current.code}): {CODES[current.code].sentence if current.code in CODES else ''}".rstrip(": ")
        )
        terminal.say(f"It is kept. To correct it:  kengele node outbox --draft {current.report_id} > draft.json, then")
        terminal.say(f"  kengele node report draft.json --replaces {current.report_id}")
    elif current.state == "held":
        terminal.say(f"Report {entry.number} is safe in the outbox, and held.")
        terminal.say(held(current, args.home))
    else:
        terminal.say(f"Report {entry.number} is safe in the outbox. {sent_by(args)}")
    return Refused.exit_code if current.state in ("refused", "held") else 0


def _refused(outbox: Outbox, which: str) -> str:
    entry = entry_of(outbox, which)
    if entry is None or entry.state not in ("refused", "held"):
        raise Refused("not-refused", "No such report was refused.", "See: kengele node outbox")
    return entry.name
