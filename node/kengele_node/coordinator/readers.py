"""Who may open what: ``explain`` of one report, ``who`` of many, or of all that one office can see."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

from kengele_node import terminal
from kengele_schemas import taxonomy
from kengele_schemas.compartments import GRANTABLE
from kengele_schemas.domain import Domain, Header
from kengele_schemas.errors import Malformed
from kengele_schemas.reasons import reasons
from kengele_schemas.roster import Offices
from kengele_schemas.sight import Asked, Sight, all_of, matrix
from kengele_schemas.tlp import LEVELS, parse

from .ground import Ground, day_of, given, question

_MARKS: Final = {"all": "x", "some": "~", "none": "."}


def add(actions: Any) -> None:
    """Adds ``explain`` and ``who`` to the actions of ``policy``."""
    command = question(
        actions,
        "explain",
        "tell for one report who may open what, why, and what would change it",
        "explain rules.yaml --area KG-O --category rumour --severity 3 --tlp AMBER",
        _explain,
    )
    _add_header(command, required=True)
    command.add_argument("--office", metavar="ID", help="this office only")
    command = question(
        actions,
        "who",
        "show who can see: offices and compartments for some reports, or all that one office can see",
        "who rules.yaml --area KG --tlp AMBER",
        _who,
    )
    _add_header(command, required=False)
    command.add_argument("--office", metavar="ID", help="all that this office can see")


def _add_header(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument("--area", required=required, help="where the report is from")
    parser.add_argument("--category", action="append", required=required, help="what it is about; may be repeated")
    parser.add_argument("--severity", type=int, choices=range(1, 6), required=required)
    parser.add_argument("--tlp", type=parse, choices=LEVELS, required=required, help="its marking")


def _header(args: argparse.Namespace, ground: Ground) -> None:
    """Raises Malformed if what is asked about does not exist, with the nearest that does."""
    if args.area is not None and not ground.areas.known(args.area):
        raise Malformed("unknown-area", "There is no such area.", ground.areas.hint(args.area))
    for code in args.category or ():
        if not taxonomy.reportable(code):
            near = ", ".join(taxonomy.suggest(code) or taxonomy.leaves(code)[:5])
            raise Malformed("bad-field", "A report cannot name this category.", f"Perhaps: {near}." if near else "")


def _office(args: argparse.Namespace, offices: Offices) -> None:
    if args.office is not None and args.office not in offices.active:
        near = ", ".join(name.removeprefix("office:") for name in offices.suggest(f"office:{args.office}"))
        raise Malformed("no-such-office", "There is no such active office.", f"Perhaps: {near}." if near else "")


def _explain(args: argparse.Namespace) -> int:
    text, ground = given(args)
    _header(args, ground)
    _office(args, ground.offices)
    header = Header(args.area, tuple(sorted(set(args.category))), args.severity, args.tlp, day_of(args))
    found = reasons([*text.rules, *ground.regional], ground.offices, ground.areas, header)
    found = {office: row for office, row in found.items() if args.office in (None, office)}
    if args.json:
        offices = {office: {name: reason._asdict() for name, reason in row.items()} for office, row in found.items()}
        terminal.emit({"header": header.document(), "offices": offices, **ground.about()})
        return 0
    ground.note()
    terminal.say(f"Of {header}:")
    for office, row in found.items():
        terminal.say(office)
        for reason, names in groupby(GRANTABLE, row.__getitem__):
            verb = "may open" if reason.allowed else "may not open"
            by = f" by {', '.join(reason.rules)}" if reason.rules else ""
            terminal.say(f"    {verb} {', '.join(names)}{by}")
            for sentence in reason.would:
                terminal.say(f"        {sentence}")
    return 0


def _who(args: argparse.Namespace) -> int:
    text, ground = given(args)
    _header(args, ground)
    _office(args, ground.offices)
    domain = Domain([ground.side(text.rules)], day_of(args))
    if args.office is not None:
        if (args.area, args.category, args.severity, args.tlp) != (None,) * 4:
            raise Malformed(
                "malformed", "All that an office sees is asked for without a report.", "Leave out --office."
            )
        return _all_of(args, all_of(domain, args.office, ground.areas), ground)
    areas = ground.areas.below(args.area) if args.area is not None else None
    categories = tuple(sorted(set(args.category))) if args.category else None
    found = matrix(domain, ground.offices.active, Asked(areas, categories, args.severity, args.tlp))
    if args.json:
        offices = {
            office: {name: {"share": seen.share, **seen._asdict()} for name, seen in row.items()}
            for office, row in found.items()
        }
        terminal.emit({"day": day_of(args).isoformat(), "offices": offices, **ground.about()})
        return 0
    ground.note()
    width = max((len(office) for office in found), default=6)
    terminal.say(f"{'':{width}}  {'  '.join(GRANTABLE)}")
    for office, row in found.items():
        cells = "  ".join(f"{_MARKS[row[name].share]:{len(name)}}" for name in GRANTABLE)
        terminal.say(f"{office:{width}}  {cells}".rstrip())
    terminal.say("x all of these reports, ~ some of them, . none")
    return 0


def _all_of(args: argparse.Namespace, sights: Sequence[Sight], ground: Ground) -> int:
    if args.json:
        sees = [sight.document() for sight in sights]
        terminal.emit({"office": args.office, "sees": sees, **ground.about()})
        return 0
    ground.note()
    for sight in sights:
        areas, but = (_areas(*pair) for pair in ((sight.areas, sight.only), (sight.but, sight.but_only)))
        categories = " or ".join(" ".join(codes) for codes in sight.categories)
        severities = " ".join(map(str, sight.severities))
        where = f"{areas} but {but}" if but else areas
        terminal.say(f"{sight.compartment:8} {where}: {categories}; severity {severities}; {' '.join(sight.tlp)}")
        terminal.say(f"         by {', '.join(sight.rules)}")
    if not sights:
        terminal.say("It sees nothing.")
    return 0


def _areas(whole: Sequence[str], only: Sequence[str]) -> str:
    return " ".join([*whole, *(f"{code} (itself)" for code in only)])
