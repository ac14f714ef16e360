"""``kengele node``: init, join, report, outbox, categories, recall, recalls, share, run, rotate, status, rules."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from kengele_node import joining, rules, terminal
from kengele_node.link import State
from kengele_node.member import Member, Session, now
from kengele_node.vault import occupied
from kengele_schemas import subjects, taxonomy
from kengele_schemas.cards import JoinRequest, NetworkCard, read_card
from kengele_schemas.encoding import loads
from kengele_schemas.errors import KengeleError, Malformed, Refused, Unreachable
from kengele_schemas.receipt import CODES
from kengele_schemas.report import parse_draft
from kengele_schemas.trusted import Trusted

from . import rotating
from .compose import Plan, new_report_id, plan_report, seal_report
from .outbox import Entry, Outbox
from .questions import ask_draft, categories, draft_of, find_area
from .recalling import confirmations, plan_recall
from .sender import Sender
from .sharing import add_share, shared_with

_STORE: Final = "outbox.db"
_WRITING: Final = (
    *("area", "category", "severity", "day", "tlp", "lang"),
    *("summary", "account", "place", "source", "basis", "not_to"),
)
"""Options that write a report."""
_MAX_DRAFT: Final = 256 * 1024
_CATEGORIES: Final = "list what a report can be about, each with the code to type"
_QUICK: Final = 5.0
"""Seconds that a single command waits for a line; what it could not send stays in the outbox."""
_action = partial(terminal.action, home="node")


def build(parser: argparse.ArgumentParser) -> None:
    """Adds the node's sub-commands to ``parser``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    init = _action(
        actions,
        "init",
        "make a monitor's node and the request that a coordinator needs to admit it",
        "kengele node init --home node --network network.json --area KG-O",
        _init,
    )
    init.add_argument("--network", type=Path, required=True, metavar="CARD", help="the network's card")
    init.add_argument("--area", action="append", required=True, help="where this monitor reports from; may be repeated")
    init.add_argument(
        "--new-key-file", type=Path, metavar="FILE", help="lock the node with a key file, made here, not a passphrase"
    )
    join = _action(
        actions,
        "join",
        "join a network by invitation: make keys, read out digits, wait until coordinators have signed",
        "kengele node join invite.json --home node",
        joining.run,
    )
    joining.add_join(join, "monitor")
    report = _action(
        actions,
        "report",
        "write a report, see who will read what, and put it into the outbox; what no option says is asked",
        'kengele node report --area KG-O --category rumour --severity 2 --summary "Talk of a fight at the bazaar."\n'
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
    report.add_argument("--summary", help="what happened in a sentence or two, naming nobody")
    report.add_argument("--account", help="the full account")
    report.add_argument("--place", help="the place's name")
    report.add_argument("--source", help="how it is known")
    report.add_argument(
        "--basis", help="who knows it: direct, witness, community-leader, media, social-media, rumour, official"
    )
    report.add_argument(
        "--not-to", action="append", default=[], metavar="WHO", help="keep it from office:ID or group:NAME; repeat"
    )
    report.add_argument("--preview", action="store_true", help="only say who would read what; nothing is kept or sent")
    report.add_argument("--yes", action="store_true", help="do not ask before it is sealed")
    report.add_argument("--later", action="store_true", help="do not try to send it now")
    report.add_argument("--replaces", metavar="N", help="number or id of the refused report that this corrects")
    report.add_argument("--keep-text", action="store_true", help="keep the text in the vault after it was accepted")
    report.add_argument(
        "--keep-keys", action="store_true", help="keep its keys and no text: it can be shared later (node share)"
    )
    outbox = _action(
        actions, "outbox", "list what waits, what was accepted and what was refused", "kengele node outbox", _outbox
    )
    outbox.add_argument("--receipt", metavar="N", help="number or id: write its receipt, for: kengele verify")
    outbox.add_argument("--draft", metavar="N", help="number or id: write its draft as JSON, to correct it")
    outbox.add_argument("--limit", type=terminal.number, default=100, help="entries, newest first (default: 100)")
    listed = actions.add_parser(
        "categories",
        help=_CATEGORIES,
        description=f"{_CATEGORIES.capitalize()}.",
        epilog="Example:  kengele node categories",
    )
    listed.add_argument("--json", action="store_true", help="one JSON object on stdout")
    listed.set_defaults(run=_categories)
    recall = _action(
        actions,
        "recall",
        "take back an accepted report, or a part of it, from the offices that were given it",
        'kengele node recall 12\n          kengele node recall 12 --keep summary --reason "The source is in danger."',
        _recall,
    )
    recall.add_argument("report", metavar="N", help="the report's number in the outbox, or its id")
    recall.add_argument("--keep", action="append", default=[], metavar="PART", help="this part may stay; repeat")
    recall.add_argument("--office", action="append", default=[], metavar="ID", help="only from this office; repeat")
    recall.add_argument("--reason", default="", help="told to those offices, and to nobody else")
    recall.add_argument("--later", action="store_true", help="do not try to send it now")
    recall.add_argument("--yes", action="store_true", help="do not ask")
    recalls = _action(
        actions,
        "recalls",
        "say which offices have confirmed what was recalled, and which have not",
        "kengele node recalls --json",
        _recalls,
    )
    recalls.add_argument("--limit", type=int, default=100, help="of the outbox's newest entries (default: 100)")
    add_share(actions, _open, open_outbox)
    _action(actions, "run", "keep the line up and send what is in the outbox", "kengele node run --home node", _run)
    rotating.add(actions, _open)
    _action(
        actions,
        "status",
        "say whether this node is in the network, how old its rules are, and what waits",
        "kengele node status --json",
        _status,
    )
    shown = _action(
        actions,
        "rules",
        "show the network's rules as this node holds them, or take them in from a stick",
        "kengele node rules --from /media/stick",
        _rules,
    )
    rules.add_source(shown)


def _categories(args: argparse.Namespace) -> int:
    if args.json:
        terminal.emit({"categories": {code: taxonomy.label(code) for code in taxonomy.leaves()}})
    else:
        terminal.say("\n".join(categories()).lstrip())
    return 0


def _open(args: argparse.Namespace) -> Member:
    member = Member.open(args.home, terminal.lock_of(args), "monitor")
    member.slow = terminal.tell_slow
    return member


def _rules(args: argparse.Namespace) -> int:
    return rules.show(args, _open(args))


def open_outbox(member: Member) -> Outbox:
    """The outbox of the monitor at home in ``member``."""
    return Outbox(member.home / _STORE, member.vault.rows("outbox"), member.first_kid)


def _init(args: argparse.Namespace) -> int:
    card = read_card(args.network.read_bytes(), NetworkCard)
    lock = terminal.new_lock(args)
    member = Member.create(args.home, lock, "monitor", {"areas": args.area}, card=card)
    request = JoinRequest.for_monitor(member.key, member.nkey, tuple(args.area))
    path = args.home / "join-request.json"
    path.write_bytes(request.encode())
    if args.json:
        terminal.emit({"monitor": member.kid, "request": str(path), "digits": request.digits()})
        return 0
    terminal.say(f"This node's name in the network is {member.kid}.")
    terminal.say(f"Give {path} to a coordinator, and read out these digits when asked:  {request.digits()}")
    terminal.say(f"When you are admitted:  kengele node report --home {args.home}")
    return 0


def _draft(args: argparse.Namespace, trusted: Trusted, own: Sequence[str]) -> Any:
    if args.draft is not None:
        data = sys.stdin.buffer.read(_MAX_DRAFT + 1) if args.draft == "-" else Path(args.draft).read_bytes()
        return loads(data, max_bytes=_MAX_DRAFT)
    draft = draft_of(args)
    if "area" in draft:
        draft["area"] = find_area(draft["area"], trusted, own)
    return ask_draft(draft, trusted, own, args.lang) if terminal.interactive() else draft


def _check_alone(args: argparse.Namespace) -> None:
    """A file is the whole report. An option beside it would be left out, and with --not-to a reader left in."""
    given = [name for name in _WRITING if getattr(args, name)]
    if given:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise Malformed(
            "malformed", f"A report in a file does not go together with {named}.", "Write it into the file."
        )


def _report(args: argparse.Namespace) -> int:
    if args.draft is not None:
        _check_alone(args)
    member = _open(args)
    try:
        agreed = _agreed(args, member)
    except KeyboardInterrupt:
        terminal.note("Nothing was kept.")
        raise
    if agreed is None:
        return 1
    if args.preview:
        if args.json:
            told = {"readers": _readers(agreed), "without": agreed.without, "mode": agreed.mode}
            terminal.emit({**told, "new_keys": {name: day.isoformat() for name, day in agreed.renewed}})
        return 0
    return _put(args, member, agreed)


def _agreed(args: argparse.Namespace, member: Member) -> Plan | None:
    """What is to be sealed, after its author has seen who will read what; None if she does not want it so."""
    # The questions stand outside of any event loop: within one, Ctrl-C would wait for the next answer.
    trusted = asyncio.run(rules.in_force(member))
    own = list(member.profile.get("areas", ()))
    report = parse_draft(_draft(args, trusted, own))
    plan = plan_report(report, trusted, kid=member.kid, report_id=new_report_id(), now=now())
    if not args.json:
        for line in plan.lines():
            terminal.say(line)
    if own and not any(trusted.areas.covers(area, report.area) for area in own):
        terminal.note(f"You are to report from {', '.join(own)}; from elsewhere the hub takes nothing of yours.")
    # What nobody may read is refused when it is to be sealed, so there is nothing to agree to.
    asks = bool(plan.readers) and not (args.preview or args.yes) and terminal.interactive()
    if asks and not terminal.confirm("Seal and send it so?"):
        terminal.note("Nothing was kept.")
        return None
    return plan


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
            replaces=_refused(outbox, args.replaces) if args.replaces else None,
        )
        if not args.later:
            asyncio.run(_send_now(member, outbox, entry))
        current = outbox.get(entry.name) or entry
    finally:
        outbox.close()
    if args.json:
        terminal.emit({"id": entry.report_id, **_row(current), "readers": _readers(plan)})
    elif current.state in ("accepted", "kept"):
        terminal.say(f"Accepted: the hub has report {entry.number} on disk and in its log.")
    elif current.state == "refused":
        terminal.say(
            f"Refused ({current.code}): {CODES[current.code].sentence if current.code in CODES else ''}".rstrip(": ")
        )
        terminal.say(f"It is kept. To correct it:  kengele node outbox --draft {current.report_id} > draft.json, then")
        terminal.say(f"  kengele node report draft.json --replaces {current.report_id}")
    else:
        terminal.say(f"Report {entry.number} is safe in the outbox. {_sent_by(args)}")
    return Refused.exit_code if current.state == "refused" else 0


def _sent_by(args: argparse.Namespace) -> str:
    """What sends it: nothing goes out of an outbox by itself."""
    return f"It goes out when there is a line, by:  kengele node run --home {args.home}"


def _recall(args: argparse.Namespace) -> int:
    member = _open(args)
    # Outside of the event loop, as within it Ctrl-C would wait for the answer.
    if not (args.yes or args.json) and terminal.interactive() and not _means_it(args, member):
        terminal.note("Nothing was recalled.")
        return 1
    return asyncio.run(_take_back(args, member))


async def _take_back(args: argparse.Namespace, member: Member) -> int:
    trusted = await rules.in_force(member)
    moment = now()
    outbox = open_outbox(member)
    try:
        reported = _found(outbox, args.report)
        if reported is None:
            raise Refused("not-accepted", "There is no such report in the outbox.", "See: kengele node outbox")
        intent = plan_recall(
            reported,
            keep=args.keep,
            offices=args.office,
            reason=args.reason.strip(),
            shared=shared_with(member, reported.report_id),
        )
        readers, recall_id = intent.readers(trusted, moment.date()), new_report_id()
        key = member.signing_keys[str(intent.header["kid"])]
        entry = outbox.add(
            recall_id,
            intent._asdict(),
            intent.numbered(readers),
            lambda counters: intent.seal(recall_id, readers, trusted, key, counters),
            now=moment.timestamp(),
        )
        if not args.later:
            await _send_now(member, outbox, entry)
        current = outbox.get(entry.name) or entry
    finally:
        outbox.close()
    if args.json:
        terminal.emit({"id": recall_id, "recalls": intent.recalls, "offices": sorted(readers), **_row(current)})
    elif current.state == "accepted":
        terminal.say(f"Accepted: the hub gives the recall to {', '.join(sorted(readers))}.")
        terminal.say(f"Who has confirmed:  kengele node recalls --home {args.home}")
    elif current.state == "refused":
        terminal.say(f"Refused ({current.code}): {CODES[current.code].sentence if current.code in CODES else ''}")
    else:
        terminal.say(f"The recall is safe in the outbox. {_sent_by(args)}")
    return Refused.exit_code if current.state == "refused" else 0


def _means_it(args: argparse.Namespace, member: Member) -> bool:
    """Whether the person means this report: a number is soon mistyped, and what was destroyed does not come back."""
    with closing(open_outbox(member)) as outbox:
        reported = _found(outbox, args.report)
    if reported is None or reported.header.get("kind") != "report":
        return True  # It is refused, and why is said there.
    terminal.say(f"{reported.report_id}  {reported.header['day']}  {_about(reported)}")
    what = f"all of it but {', '.join(args.keep)}" if args.keep else "all of it"
    where = ", ".join(args.office) if args.office else "every office that was given it"
    return terminal.confirm(f"Have {what} destroyed at {where}?")


def _recalls(args: argparse.Namespace) -> int:
    return asyncio.run(_confirmed(args, _open(args)))


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
        for office, said in offices.items():
            terminal.say(f"  {office}: {f'confirmed, {said.at}' if said else 'has not confirmed'}")
    return 0


async def _send_now(member: Member, outbox: Outbox, entry: Entry) -> None:
    try:
        async with member.session(_QUICK) as session:
            sender = _sender(session, outbox)
            async with asyncio.timeout(4 * _QUICK):
                await sender.send(entry)
    except (Unreachable, TimeoutError):
        return


def _found(outbox: Outbox, which: str) -> Entry | None:
    """The entry with the number in the author's own list, or the report's id, that ``which`` gives."""
    if not which.isdecimal():
        return outbox.find(which)
    nearest = outbox.entries(1, before=int(which) + 1)
    return nearest[0] if nearest and nearest[0].number == int(which) else None


def _refused(outbox: Outbox, which: str) -> str:
    entry = _found(outbox, which)
    if entry is None or entry.state != "refused":
        raise Refused("not-refused", "No such report was refused.", "See: kengele node outbox")
    return entry.name


def _readers(plan: Plan) -> list[dict[str, Any]]:
    return [
        {"office": one.office, "compartments": list(one.compartments), "rules": list(one.rules)} for one in plan.readers
    ]


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "number": entry.number,
        "state": entry.state,
        "attempts": entry.attempts,
        "code": entry.code or None,
        "written": datetime.fromtimestamp(entry.added, UTC).isoformat(timespec="seconds") if entry.added else None,
    }


def _about(entry: Entry) -> str:
    """By what she finds the one she means when its text is gone: no more than the hub sees of it, too."""
    header = entry.header
    if "recalls" in header:
        return f"recall of {header['recalls']}"
    return f"{header.get('area', '-')}  {', '.join(header.get('categories', ()))}"


def _outbox(args: argparse.Namespace) -> int:
    outbox = open_outbox(_open(args))
    try:
        if args.receipt:
            return _receipt(outbox, args.receipt)
        if args.draft:
            return _kept_draft(outbox, args.draft)
        entries = outbox.entries(args.limit)
    finally:
        outbox.close()
    rows = [_row(entry) | {"id": entry.report_id or None} for entry in entries]
    if args.json:
        terminal.emit({"entries": rows})
        return 0
    if not rows:
        terminal.say("The outbox is empty.")
    for row, entry in zip(rows, entries, strict=True):
        code = f" ({row['code']})" if row["code"] else ""
        again = f", {row['attempts']} attempts" if row["attempts"] else ""
        name = row["id"] or "-"
        about = f"  {_about(entry)}" if entry.header else ""
        terminal.say(f"{row['number']:>6}  {name:22}  {row['written'] or '-':25}  {row['state']}{code}{again}{about}")
    return 0


def _receipt(outbox: Outbox, which: str) -> int:
    entry = _found(outbox, which)
    if entry is None or entry.receipt is None:
        raise Refused("no-receipt", "There is no receipt of such a report here.", "See: kengele node outbox")
    sys.stdout.buffer.write(entry.receipt + b"\n")
    return 0


def _kept_draft(outbox: Outbox, which: str) -> int:
    entry = _found(outbox, which)
    if entry is None or entry.draft is None:
        raise Refused(
            "no-draft",
            "There is no draft of such a report here.",
            "The text of an accepted report is kept only if that was asked for: --keep-text",
        )
    terminal.say(json.dumps(entry.draft, indent=2, ensure_ascii=False))
    return 0


def _run(args: argparse.Namespace) -> int:
    member = _open(args)
    with occupied(args.home, "kengele node run"):
        return asyncio.run(_serve(args, member))


async def _serve(args: argparse.Namespace, member: Member) -> int:
    outbox = open_outbox(member)
    try:
        while True:
            try:
                async with member.session(0 if "jwt" in member.vault.secrets else 15) as session:
                    sender = _sender(session, outbox)
                    sender.told = lambda entry: _told(args, entry)
                    terminal.note("The node runs; Ctrl-C ends it.")
                    session.link.told = partial(_line, sender)
                    async with rotating.kept_current(session, sender):
                        await sender.run()
            except KengeleError as error:
                terminal.note(f"{error.sentence} Trying again in 15 s.")
                await asyncio.sleep(15)
    finally:
        outbox.close()


def _sender(session: Session, outbox: Outbox) -> Sender:
    member = session.member
    return Sender(session, outbox, member.key, member.nkey.public, earlier=member.signing_keys)


def _line(sender: Sender, state: State) -> None:
    terminal.tell_line(state)
    if state == "up":
        sender.wake()


def _told(args: argparse.Namespace, entry: Entry) -> None:
    if args.json:
        terminal.emit({"id": entry.report_id, **_row(entry)})
    else:
        code = f" ({entry.code})" if entry.code not in ("", entry.state) else ""
        terminal.say(f"Report {entry.number}: {entry.state}{code}")


def _status(args: argparse.Namespace) -> int:
    member = _open(args)
    outbox = open_outbox(member)
    try:
        counts = outbox.counts()
    finally:
        outbox.close()
    state: dict[str, Any] = {"monitor": member.kid, "outbox": counts, "admitted": "jwt" in member.vault.secrets}
    try:
        trusted = member.offline()
        state |= {
            "network": trusted.network.name,
            "policy": trusted.rules_version,
            "rules_hold_until": trusted.targets_expire.isoformat(),
        }
    except KengeleError:
        state |= {"network": None, "policy": None, "rules_hold_until": None}
    if args.json:
        sys.stdout.write(json.dumps(state) + "\n")
        return 0
    terminal.say(f"Monitor:           {state['monitor']}")
    terminal.say(f"Network:           {state['network'] or 'no rules verified yet'}")
    terminal.say(f"Rules hold until:  {state['rules_hold_until'] or '-'}")
    terminal.say(f"Outbox:            {', '.join(f'{n} {s}' for s, n in counts.items()) or 'empty'}")
    return 0
