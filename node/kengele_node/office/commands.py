"""``kengele office``: init, join, follow, show, share, witness, keys, rules."""

from __future__ import annotations

import argparse
import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from kengele_node import joining, rules, terminal
from kengele_node.member import Member, Session, now
from kengele_node.vault import occupied
from kengele_schemas import tlp
from kengele_schemas.cards import JoinRequest, NetworkCard, read_card
from kengele_schemas.encoding import unb64u
from kengele_schemas.envelope import parse
from kengele_schemas.errors import Damaged, Malformed, Refused, Unreachable
from kengele_schemas.keys import HYBRID, X25519, OpeningKey, fingerprint
from kengele_schemas.roster import OfficeKey
from kengele_schemas.rotation import OfficeKeys, warning
from kengele_schemas.sealing import Opened, reassemble
from kengele_schemas.sharing import open_held, split
from kengele_schemas.trusted import Trusted

from .arrivals import COORDINATORS, Arrival, Aside, Item, Lost, Marker, Notice, Tombstone
from .confirmer import Confirmer
from .desk import NEW_KEY, Desk, Received
from .inbox import Inbox
from .keyring import WEEKS, Keyring
from .rotation import Rotation, hand_in
from .sharing import add_share
from .witness import PACE, Memory, Seen, Witness, open_memory

_STORE: Final = "inbox.db"
_BREAK: Final = re.compile("[\n\u2028\u2029]")
_MARGIN: Final = "\n    | "
"""Before each further line of a text, so that none passes for a field."""
_STALE: Final = 7 * 24 * 3600.0
"""Seconds after which it is told that a witness has not been heard of."""
_WHY: Final = {
    "consent": "Someone of whom it speaks wants it gone.",
    "error": "It is wrong.",
    "safety": "It endangers someone.",
}
"""What the coordinators' reasons say."""
_NEW_KEY: Final = (
    "ATTENTION: this monitor lost her key. Coordinators vouch for the new one; she herself could not sign."
)
_MOST_WEEKS: Final = 12
_OFFICE: Final = re.compile(r"[a-z][a-z0-9-]{1,31}", re.ASCII)
_action = partial(terminal.action, home="desk")


def build(parser: argparse.ArgumentParser) -> None:
    """Adds the office's sub-commands to ``parser``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    init = _action(
        actions,
        "init",
        "make an office's desk and the request that a coordinator needs to admit it",
        'kengele office init --home desk --network network.json --id unrcca --name "UNRCCA" --area KG --area TJ',
        _init,
    )
    init.add_argument("--network", type=Path, required=True, metavar="CARD", help="the network's card")
    init.add_argument("--id", required=True, help="the office's id: small letters, digits, hyphens")
    init.add_argument("--name", help="the office's name (default: its id)")
    init.add_argument("--area", action="append", required=True, help="an area it follows; may be repeated")
    init.add_argument(
        "--suite",
        choices=(HYBRID, X25519),
        default=HYBRID,
        help=f"how reports are sealed for it; {X25519} for very thin lines (default: {HYBRID})",
    )
    init.add_argument(
        "--new-key-file", type=Path, metavar="FILE", help="lock the desk with a key file, made here, not a passphrase"
    )
    join = _action(
        actions,
        "join",
        "join a network by invitation: make keys, read out digits, wait until coordinators have signed",
        "kengele office join invite.json --home desk",
        _join,
    )
    joining.add_join(join, "office")
    join.add_argument(
        "--suite",
        choices=(HYBRID, X25519),
        default=HYBRID,
        help=f"how reports are sealed for it; {X25519} for very thin lines (default: {HYBRID})",
    )
    follow = _action(
        actions,
        "follow",
        "take what the feed delivers: verify it, open it, keep it, show it",
        "kengele office follow --home desk --json | jq .summary.text",
        _follow,
    )
    follow.add_argument("--once", action="store_true", help="end when the feed is empty")
    show = _action(
        actions,
        "show",
        "show what the desk holds",
        "kengele office show --id 6wCkK0dMs0G9eJxZ1mW2xQ",
        _show,
    )
    show.add_argument("--id", help="one report in full; without it, a list")
    show.add_argument(
        "--limit", type=terminal.number, default=50, help="reports in the list, newest first (default: 50)"
    )
    show.add_argument("--sd-jwt", action="store_true", help="with --id: as a plain SD-JWT that others can verify")
    show.add_argument("--problems", action="store_true", help="what was set aside, and numbers that are missing")
    add_share(actions, _open, open_inbox)
    watch = _action(
        actions,
        "witness",
        "check that the hub has taken nothing out of its log since this desk last looked, and sign that",
        "kengele office witness --once",
        _witness,
    )
    watch.add_argument("--once", action="store_true", help="look once; ends with 6 if the log does not hold")
    keys = _action(
        actions,
        "keys",
        "make opening keys for the coming weeks and hand them in; the desk does it by itself while it follows",
        "kengele office keys --ahead 6",
        _keys,
    )
    keys.add_argument(
        "--ahead", type=terminal.number, default=WEEKS, metavar="N", help=f"weeks for which to have keys ({WEEKS})"
    )
    keys.add_argument("--at-once", action="store_true", help="the first from today on: the old ones may be known")
    keys.add_argument("--out", type=Path, metavar="FILE", help="write them as a file for a coordinator, without a line")
    shown = _action(
        actions,
        "rules",
        "show the network's rules as this desk holds them, or take them in from a stick",
        "kengele office rules --from /media/stick",
        _show,
    )
    rules.add_show(shown, _open, _obey)


def _open(args: argparse.Namespace) -> Member:
    return Member.open(args.home, terminal.lock_of(args), "office")


def open_inbox(member: Member) -> Inbox:
    """The inbox of the office at home in ``member``."""
    return Inbox(member.home / _STORE, member.vault.rows("inbox"))


def _obey(member: Member, trusted: Trusted) -> None:
    """Obeys the coordinators' recalls in rules that came on a stick; confirmed when there is a line."""
    with closing(open_inbox(member)) as inbox:
        inbox.order(trusted.orders.values(), now=now().timestamp())
        inbox.scrub()


def open_desk(session: Session, inbox: Inbox) -> Desk:
    """The desk of the office whose line ``session`` is, which confirms what it obeys."""
    member = session.member
    network = member.card.root_digest
    desk = Desk(session, inbox, member.id, member.opening_keys, member.nkey.public, network=network)
    confirmer = Confirmer(session, inbox, member.id, member.key, member.nkey.public)
    confirmer.told = lambda error: terminal.note(
        f"A recall could not be confirmed ({error.code}). {error.sentence} {error.mend}"
    )
    desk.confirm = confirmer.confirm
    return desk


def _init(args: argparse.Namespace) -> int:
    if _OFFICE.fullmatch(args.id) is None:
        raise Malformed("malformed", "This is not an office's id.", "Use small letters, digits and hyphens.")
    card = read_card(args.network.read_bytes(), NetworkCard)
    key = OpeningKey.generate(args.suite)
    profile = {"id": args.id, "name": args.name or args.id, "areas": args.area}
    member = Member.create(args.home, terminal.new_lock(args), "office", profile, (key,), card=card)
    request = JoinRequest.for_office(
        member.key, member.nkey, id=args.id, name=args.name or args.id, areas=tuple(args.area), keys=(key.public,)
    )
    path = args.home / "join-request.json"
    path.write_bytes(request.encode())
    if args.json:
        terminal.emit({"office": args.id, "request": str(path), "digits": request.digits()})
        return 0
    terminal.say(f"The desk of {args.id} is in {args.home}.")
    terminal.say(f"Give {path} to a coordinator, and read out these digits when asked:  {request.digits()}")
    terminal.say(f"When you are admitted:  kengele office follow --home {args.home}")
    return 0


def _join(args: argparse.Namespace) -> int:
    return joining.run(args, lambda: (OpeningKey.generate(args.suite),))


def _follow(args: argparse.Namespace) -> int:
    member = _open(args)
    with occupied(args.home, "kengele office follow"):
        return asyncio.run(_serve(args, member))


async def _serve(args: argparse.Namespace, member: Member) -> int:
    inbox, memory = open_inbox(member), _memory(member)
    try:
        async with member.session(15) as session:
            desk = open_desk(session, inbox)
            desk.told = lambda item: _told(args, item)
            desk.watch = _watching(session, desk, memory)
            if not args.once:
                terminal.note("The desk follows its feed; Ctrl-C ends it.")
                session.link.told = terminal.tell_line
            async with session.kept_current(desk.take_over):
                await desk.follow(until_empty=args.once)
    finally:
        inbox.close()
        if memory is not None:
            memory.close()
    return 0


def _watching(session: Session, desk: Desk, memory: Memory | None) -> Callable[[Trusted], Awaitable[None]]:
    """What a desk does whenever it has looked at the rules: it sees to its keys, and to the hub's log."""
    rotation = Rotation(session, desk)
    rotation.told = terminal.note
    rotation.failed = lambda error: terminal.note(f"New keys could not be handed in ({error.code}). {error.sentence}")
    desk.rest = rotation.rest
    witness = _witness_of(session, memory) if memory is not None else None

    async def watch(trusted: Trusted) -> None:
        await rotation.look(trusted)
        if witness is not None:
            await witness.watch(trusted)

    return watch


def _keys(args: argparse.Namespace) -> int:
    if not 1 <= args.ahead <= _MOST_WEEKS:
        raise Malformed("malformed", "Keys are not made for that many weeks.", f"Give 1 to {_MOST_WEEKS}.")
    member = _open(args)
    with occupied(args.home, "kengele office keys"):
        return asyncio.run(_keys_ahead(args, member))


async def _keys_ahead(args: argparse.Namespace, member: Member) -> int:
    today = now().date()
    if args.out is not None:
        trusted = member.offline()
        statement = _statement(args, member, trusted, today)
        if statement is not None:
            args.out.write_bytes(statement.encode())
    else:
        async with member.session(15) as session:
            trusted = await session.refresh()
            statement = _statement(args, member, trusted, today)
            if statement is not None:
                await hand_in(session, statement)
    office = trusted.offices.get(member.id)
    listed = office.keys if office is not None else ()
    wanted = statement.keys if statement is not None else ()
    said = warning(office, today) if office is not None else ""
    if args.json:
        rows = {"listed": [key.model_dump(mode="json", exclude_none=True) for key in listed]}
        rows["handed_in"] = [key.model_dump(mode="json", exclude_none=True) for key in wanted]
        terminal.emit(
            {"office": member.id, **rows, "file": str(args.out) if args.out else None, "warning": said or None}
        )
        return 0
    for key in listed:
        terminal.say(f"{fingerprint(key.public().raw)}  {_span(key)}{'  in use' if key.holds(today) else ''}")
    if statement is None:
        terminal.say("There are keys for all of these weeks.")
    elif args.out is not None:
        terminal.say(f"{args.out} names all keys from now on. A coordinator:  kengele coordinator members keys FILE")
    else:
        terminal.say(f"Handed in: {len(wanted)} keys. They hold once coordinators have signed:  members keys, or renew")
    if said:
        terminal.note(said)
    return 0


def _statement(args: argparse.Namespace, member: Member, trusted: Trusted, today: date) -> OfficeKeys | None:
    office = trusted.offices.get(member.id)
    if office is None:
        raise Refused("not-admitted", "The roster does not name this office.", "Ask a coordinator; then try again.")
    ring = Keyring(member)
    ring.learn(office, today)
    return ring.statement(office, today, args.ahead, at_once=args.at_once)


def _span(key: OfficeKey) -> str:
    begins, ends = (day.isoformat() if day else "-" for day in (key.not_before, key.not_after))
    return f"{begins:10} to {ends:10}"


def _memory(member: Member) -> Memory | None:
    """What the office saw of the hub's log. Without it reports are read all the same, and nothing is cosigned."""
    try:
        return open_memory(member.home, member.vault.rows("witness"))
    except Damaged as error:
        terminal.note(f"The hub's log is not witnessed ({error.code}). {error.sentence}")
        return None


def _witness(args: argparse.Namespace) -> int:
    member = _open(args)
    with occupied(args.home, "kengele office witness"):
        return asyncio.run(_watch(args, member))


async def _watch(args: argparse.Namespace, member: Member) -> int:
    with closing(open_memory(member.home, member.vault.rows("witness"))) as memory:
        async with member.session(15) as session:
            watching = _witness_of(session, memory)
            if not args.once:
                terminal.note("The desk witnesses the hub's log; Ctrl-C ends it.")
                while True:
                    with suppress(Unreachable):
                        await watching.watch(await session.refresh())
                    await asyncio.sleep(PACE)
            trusted = await session.refresh()
            seen = await watching.look(trusted)
    size = int(seen.note.split("\n")[1])
    if args.json:
        terminal.emit({"size": size, "checkpoint": seen.note, "shared": seen.shared})
        return 0
    terminal.say(f"The log has {size} entries and continues what this desk saw; cosigned.")
    for office in trusted.offices.active:
        if office != member.id:
            terminal.say(_shared(office, seen))
    return 0


def _witness_of(session: Session, memory: Memory) -> Witness:
    member = session.member
    watching = Witness(session, memory, member.id, member.key, member.nkey.public)
    watching.told = lambda error: terminal.note(
        f"The hub's log could not be witnessed ({error.code}). {error.sentence} {error.mend}"
    )
    return watching


def _shared(office: str, seen: Seen) -> str:
    at = seen.shared.get(office)
    if at is None:
        return f"{office} has never cosigned the log that this desk sees."
    return f"{office} cosigned the same log, last on {_moment(at)}."


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="minutes").removesuffix("+00:00") + "Z"


def _told(args: argparse.Namespace, item: Received) -> None:
    if isinstance(item, Arrival):
        if args.json:
            terminal.emit(document(item))
        elif item.header.recalls:
            terminal.say(_recall(item))
        else:
            terminal.say(_line(item))
    elif isinstance(item, Aside):
        terminal.note(f"Something did not hold up and was set aside ({item.code}); see: kengele office show --problems")
    elif isinstance(item, Notice):
        if args.json:
            terminal.emit({"id": item.report, "kid": item.kid, "keep": list(item.keep or ()), "flags": ["recalled"]})
        else:
            terminal.say(f"Report {item.report} was recalled by the network's coordinators; {_stays(item.keep)}.")
    elif isinstance(item, Marker):
        terminal.note(f"The hub withholds a report of {item.kid}, by a newer rule as it says.")


def document(arrival: Arrival) -> dict[str, Any]:
    """An opened report as JSON values: the header's claims, then each compartment that this office may read."""
    contents = {name: model.model_dump(mode="json", exclude_none=True) for name, model in arrival.contents.items()}
    return {**arrival.header.claims(), **contents, "withheld": list(arrival.withheld), "flags": list(arrival.flags)}


def _line(arrival: Arrival) -> str:
    header = arrival.header
    # On one line, as what an author writes below it could pass for another report.
    summary = " ".join(document(arrival).get("summary", {}).get("text", "").split())
    flags = f"  [{', '.join(arrival.flags)}]" if arrival.flags else ""
    first = f"{header.day}  {header.area:8}  {', '.join(header.categories)}  severity {header.severity}"
    opened = ", ".join(name for name in arrival.contents if name != "handling")
    loud = f"\n  {_NEW_KEY}" if NEW_KEY in arrival.flags else ""
    return f"{first}  {tlp.label(header.tlp)}{flags}\n  {header.id}  ({opened}){loud}\n  {summary}"


def _recall(arrival: Arrival) -> str:
    header = arrival.header
    reason = document(arrival).get("handling", {}).get("wishes", {}).get("text", "")
    said = f"Report {header.recalls} was recalled by its author; {_stays(header.keep)}."
    return f"{said}\n  {reason}" if reason else said


def _stays(keep: Sequence[str] | None) -> str:
    return f"of it stay: {', '.join(keep)}" if keep else "its text and keys are destroyed"


def _gone(args: argparse.Namespace, gone: Tombstone) -> None:
    day = datetime.fromtimestamp(gone.recalled, UTC).date().isoformat()
    if args.json:
        told = {"id": gone.id, "kid": gone.author, "recalled": day, "reason": gone.reason, "by": gone.by}
        terminal.emit({**told, "flags": ["recalled"]})
        return
    reason = _WHY.get(gone.reason or "") if gone.by == COORDINATORS else gone.reason
    who = "the network's coordinators" if gone.by == COORDINATORS else "its author"
    terminal.say(f"{day}  {gone.id}  recalled by {who}" + (f"\n  {reason}" if reason else ""))


def _show(args: argparse.Namespace) -> int:
    member = _open(args)
    if args.sd_jwt and not args.id:
        raise Malformed("malformed", "Only one report can be given on.", "Name it with --id: kengele office show")
    inbox = open_inbox(member)
    try:
        if args.problems:
            return _problems(args, inbox, member)
        found = inbox.find(args.id) if args.id else inbox.items(args.limit)
        if args.id and not found:
            raise Refused("not-here", "This desk does not hold that report.", "See: kengele office show")
        for item in found:
            if isinstance(item, Lost):
                terminal.note(f"Item {item.number} of the inbox is damaged and cannot be read.")
            elif isinstance(item, Tombstone):
                _gone(args, item)
            elif args.sd_jwt and args.id:
                terminal.say(_sd_jwt(item, member))
            elif args.json:
                received = datetime.fromtimestamp(item.received, UTC).isoformat(timespec="seconds")
                terminal.emit({**document(_flagged(item)), "received": received})
            elif args.id:
                _full(_flagged(item))
            else:
                terminal.say(_line(_flagged(item)))
        if not found and not args.json:
            terminal.say("The desk is empty.")
    finally:
        inbox.close()
    return 0


def _flagged(item: Item) -> Arrival:
    """The report with all that a reader has to be told of it, what came to light since it arrived included."""
    return replace(item.arrival, flags=item.flags)


def _full(arrival: Arrival) -> None:
    terminal.say(_line(arrival))
    terminal.say(f"  by {arrival.header.kid}")
    for name, content in document(arrival).items():
        if isinstance(content, dict):
            terminal.say(f"\n  {name}")
            for field, value in content.items():
                if value not in ([], {}):
                    terminal.say(f"    {field}: {_BREAK.sub(_MARGIN, str(value))}")


def _sd_jwt(item: Item, member: Member) -> str:
    if item.arrival.disclosures.keys() >= item.arrival.contents.keys():
        whole = parse(split(item.arrival.data)[1])
        return reassemble(whole, Opened(whole.claims, {}, dict(item.arrival.disclosures), None, ()))
    author = member.offline().monitors[item.arrival.header.kid]
    envelope, opened = open_held(item.arrival.data, member.id, member.opening_keys, unb64u(author.key))
    return reassemble(envelope, opened)


def _problems(args: argparse.Namespace, inbox: Inbox, member: Member) -> int:
    with closing(open_memory(member.home, member.vault.rows("witness"))) as memory:
        evidence, seen = memory.evidence(), memory.last()
    asides = [
        {"number": aside.number, "code": "damaged" if isinstance(aside, Lost) else aside.code}
        for aside in inbox.asides()
    ]
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
        terminal.emit({"set_aside": asides, "gaps": missing, "log": log})
        return 0
    for one in evidence:
        terminal.say(f"On {_moment(one.at)} the hub showed a log that does not hold: {one.code}. Both checkpoints:")
        terminal.say(f"{one.before}\n{one.after}")
    if seen.at and seen.at < now().timestamp() - _STALE:
        terminal.say(f"The hub's log was last witnessed on {_moment(seen.at)}.")
    strangers = _apart(member, seen)
    for office in strangers:
        terminal.say(_shared(office, seen))
    for aside in asides:
        terminal.say(f"Set aside as item {aside['number']}: {aside['code']}")
    for author, gap in gaps.items():
        if gap.unexplained:
            terminal.say(f"From {author}: {gap.unexplained} reports are missing that were numbered for this office.")
        if gap.withheld:
            terminal.say(f"From {author}: the hub says that it withholds {gap.withheld} reports by newer rules.")
            terminal.say("  This is its word alone: ask a coordinator whether a rule was withdrawn.")
    if not asides and not gaps and not evidence and not strangers:
        terminal.say("Nothing was set aside and nothing is missing.")
    return 0


def _apart(member: Member, seen: Seen) -> list[str]:
    """Offices that have cosigned nothing of what this desk sees for long: they may be off, or shown another log."""
    since = now().timestamp() - _STALE
    if not 0 < seen.since < since:
        return []
    return [id for id in member.offline().offices.active if id != member.id and seen.shared.get(id, 0) < since]
