"""Past reports under other rules: ``replay`` of a draft, and ``headers``, which keeps for later what it asks the hub.

The hub gives what headers said and how many said the same, and of no report who wrote it, which it is, or who was given
it: so it is compared with what the rules in force grant. Records of a desk or of the log say what went where.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any, Final

from kengele_node import terminal
from kengele_node.member import Member, Session
from kengele_schemas import disk, subjects
from kengele_schemas.errors import KengeleError, Malformed, Unreachable, Untrusted
from kengele_schemas.fields import read
from kengele_schemas.headers import Alike
from kengele_schemas.policy import PolicyFile, Rule
from kengele_schemas.release import Compiled
from kengele_schemas.replay import MAX_LINE, Record, Sum, records, replay, summed

from .drafting import action, opened
from .ground import HOME, Ground, day_of, given, question

_PATIENCE: Final = 200
"""Answers without progress after which a hub is not asked any more."""
_MAX_ROWS: Final = 2_000_000


def add(actions: Any) -> None:
    """Adds ``replay`` and ``headers`` to the actions of ``policy``."""
    command = question(
        actions,
        "replay",
        "tell how many reports of the last 90 days would have gone elsewhere, to whom and by which rule",
        "replay rules.yaml --home alice --since 2026-11-01",
        _replay,
        files=False,
    )
    command.epilog += (
        "\n          kengele coordinator policy replay rules.yaml --home alice --records headers.jsonl"
        "\nWithout --records the hub is asked: it tells what headers said, and of no report whose it is."
    )
    command.add_argument("rules", type=Path, metavar="FILE", help="rules as YAML")
    command.add_argument(
        "--records",
        type=Path,
        metavar="FILE",
        help="headers from this file instead, or with their decisions, one a line",
    )
    command.add_argument("--desk", default="", metavar="ID", help="the records are what this office's desk shows")
    _add_since(command)
    command.add_argument("--export", type=Path, metavar="FILE", help="keep what the hub gives in this file")
    command = action(
        actions,
        "headers",
        "keep in a file what past reports' headers said, to replay drafts without a line",
        "kengele coordinator policy headers headers.jsonl --home alice",
        _headers,
    )
    command.add_argument("file", type=Path, metavar="FILE", help="is written, one JSON object a line")
    _add_since(command)


def _add_since(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--since", type=_since, metavar="YYYY-MM-DD", help="reports taken on this day or later (default: 90 days ago)"
    )


def _since(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("a day is written as YYYY-MM-DD") from None


def _headers(args: argparse.Namespace) -> int:
    found = asyncio.run(_asked(opened(args), args.since))
    _write(args.file, found)
    reports = sum(one.count for one in found)
    if args.json:
        terminal.emit({"file": str(args.file), "reports": reports, "rows": len(found)})
    else:
        terminal.say(f"What the headers of {reports} reports said is in {args.file}. Put a draft to it with")
        terminal.say(f"  kengele coordinator policy replay rules.yaml --home {args.home} --records {args.file}")
    return 0


def _replay(args: argparse.Namespace) -> int:
    if args.records is not None and args.export is not None:
        raise Malformed("malformed", "What is read from a file is in that file.", "Leave out --export or --records.")
    if args.records is None:
        args.home = args.home or HOME
        opened(args)
    text, ground = given(args)
    draft = compiled(text.rules, ground)
    in_force = compiled(ground.trusted.policy.rules, ground) if ground.trusted is not None else None
    past = _past(args)
    silent = any(record.decisions is None for _, record in past)
    if silent and in_force is None:
        raise Malformed("no-rules", "Headers alone do not say what went where.", "Name a --home, to compare with.")
    moved = list(replay(past, draft, in_force, only=args.desk))
    counted = {one.line: one.record.count for one in moved}
    reports, elsewhere = sum(record.count for _, record in past), sum(counted.values())
    sums = summed(moved, draft, in_force)
    if args.json:
        told: dict[str, Any] = {"reports": reports, "elsewhere": elsewhere}
        told["changes"] = [one.document() for one in sums]
        if args.records is not None:
            told["moved"] = [one.document() for one in moved]
        terminal.emit({**told, **ground.about()})
        return 0
    ground.note()
    if silent:
        terminal.note(
            "Compared with what the rules in force grant; what an author kept from an office is in no header."
        )
    for line in lines(sums):
        terminal.say(line)
    terminal.say(f"Of {reports} reports {elsewhere} would have gone elsewhere.")
    if not reports and args.records is None:
        terminal.note("A day's reports are given when it is over (UTC).")
    return 0


def _past(args: argparse.Namespace) -> Sequence[tuple[int, Record]]:
    if args.records is not None:
        since = args.since or date.min
        with disk.opened(args.records) as file:
            lines = iter(lambda: file.readline(MAX_LINE + 1), b"")
            return [(line, one) for line, one in records(lines, day_of(args), args.desk) if one.day >= since]
    found = asyncio.run(_asked(opened(args), args.since))
    if args.export is not None:
        _write(args.export, found)
    return list(enumerate(map(Record.of, found), 1))


def compiled(rules: Sequence[Rule], ground: Ground) -> Compiled:
    """``rules`` and those for single areas beside them, ready to decide."""
    regional = ground.trusted.in_force[1:] if ground.trusted is not None else ()
    return Compiled([PolicyFile(version=1, rules=tuple(rules)), *regional], ground.offices, ground.areas)


def lines(sums: Iterable[Sum]) -> list[str]:
    """What would have moved, for a person: a line an office and compartment, and below it by which rules."""
    told: list[str] = []
    for one in sums:
        verb = "in addition" if one.gained else "no longer"
        many = "report" if one.reports == 1 else "reports"
        told.append(f"{one.office}: {one.compartment} of {one.reports} {many} {verb}.")
        facts = one.example.header
        about = f"{facts.area}, {', '.join(facts.categories)}, severity {facts.severity}, {facts.tlp}"
        told.append(f"    By {', '.join(one.rules) or 'no rule'}; for one, {about} on {one.example.day}.")
    return told


async def _asked(member: Member, since: date | None) -> list[Alike]:
    async with member.session() as session:
        await session.refresh()
        return await ask(session, since, _progress)


async def ask(session: Session, since: date | None, progress: Callable[[int, int], None]) -> list[Alike]:
    """What the headers of reports said that the hub took since this day, or for as long as it gives them.

    Args:
        session: a coordinator's.
        since: the first day; None for the earliest that the hub gives.
        progress: told how much of how much the hub has read.

    Raises:
        Refused: ``too-far-back``.
        Untrusted: ``bad-headers``: the hub gives something else, or no end of it.
        Unreachable: no line, or the hub comes no further.
    """
    subject = subjects.headers_get(session.member.nkey.public)
    place: Any = {"since": since.isoformat() if since else None, "skip": 0}
    found: list[Alike] = []
    furthest = waited = 0
    while place is not None:
        answer = await session.ask(subject, place)
        if answer["code"] == "reading":
            read_on, of = answer.get("read"), answer.get("of")
            if not isinstance(read_on, int) or not isinstance(of, int):
                raise _no_headers()
            waited = 0 if read_on > furthest else waited + 1
            furthest = max(furthest, read_on)
            progress(furthest, of)
            if waited > _PATIENCE:
                raise Unreachable("no-answer", "The hub does not come to an end with its reports.", "Try again later.")
            continue
        rows, following = answer.get("rows"), answer.get("next")
        with suppress(KengeleError):
            found += [read(Alike, row) for row in (rows if isinstance(rows, list) else [None])]
            if len(found) <= _MAX_ROWS and (following is None or (rows and following != place)):
                place = following
                continue
        raise _no_headers()
    progress(1, 1)
    return found


def _no_headers() -> Untrusted:
    return Untrusted("bad-headers", "The hub gives no headers, or no end of them.", "Update this program, or the hub.")


def _write(path: Path, found: Iterable[Alike]) -> None:
    disk.write(path, "".join(json.dumps(one.document()) + "\n" for one in found).encode())


def _progress(done: int, of: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K" if done >= of else f"\rThe hub reads its reports: {done} of {of}")
        sys.stderr.flush()
