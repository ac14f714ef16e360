"""Questions about rules as a whole, which change nothing: lint, diff, replay, assert."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from kengele_node import terminal
from kengele_node.member import now
from kengele_schemas.assertions import broken, check_assertion
from kengele_schemas.diff import diff
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.fields import read
from kengele_schemas.lint import Finding, lint
from kengele_schemas.policy import Assertion
from kengele_schemas.policy_text import Written

from . import dates, effect, past, readers
from .ground import day_of, given, ground_of, question, read_rules


def add(actions: Any) -> None:
    """Adds these questions, and those about readers, to the actions of ``policy``."""
    command = question(actions, "lint", "look for what is odd about rules", "lint rules.yaml --home alice", _lint)
    command.epilog += (
        "\nExit codes: 0 nothing wrong, 1 something to look at with --strict, 2 it names what does not exist."
    )
    command.add_argument("--strict", action="store_true", help="fail on warnings too")
    readers.add(actions)
    command = question(
        actions,
        "diff",
        "tell exactly who gains and who loses what",
        "diff old.yaml new.yaml --json",
        _diff,
        files=False,
    )
    command.epilog += "\nWith one file it is compared to what is in force. Exit code 0 whether or not anything differs."
    command.add_argument("files", nargs="+", type=Path, metavar="FILE", help="OLD and NEW, or a draft alone")
    past.add(actions)
    command = question(
        actions,
        "assert",
        "check sentences that must stay true",
        'assert rules.yaml --always "no group:government may open source" --offices offices.yaml',
        _assert,
    )
    command.epilog += "\nExit codes: 0 all hold, 3 one is broken. Those in the rules' own file are checked as well."
    command.add_argument("--always", action="append", default=[], metavar="SENTENCE", help="one more to check")


def _lint(args: argparse.Namespace) -> int:
    if args.rules is None:
        text, ground = given(args)
    else:
        # Names are not looked at here: each that does not exist is a finding.
        text = read_rules(args.rules)
        ground = ground_of(args, [text])
    trusted = ground.trusted
    level = trusted.network.header_level if trusted is not None else None
    held = ground.side(trusted.policy.rules) if trusted is not None and args.rules is not None else None
    for assertion in text.assertions:
        check_assertion(assertion, ground.offices, ground.areas)
    listed = [*text.rules, *ground.regional]
    found = lint(listed, ground.offices, ground.areas, day_of(args), in_force=held, header_level=level)
    if not ground.resolved:
        # Who is in a group is not known here, and so not what a forbid takes from whom.
        found = [finding for finding in found if finding.code != "forbid-without-effect"]
    if args.json:
        rows = [finding.document() | _place(finding, text) for finding in found]
        terminal.emit({"findings": rows, **ground.about()})
    else:
        ground.note()
        for finding in found:
            place = _place(finding, text)
            where = f"{args.rules}:{place['line']}:{place['column']}: " if place["line"] else ""
            terminal.say(f"{where}{finding.weight}: {finding.rule}: {finding.sentence} [{finding.code}]")
            if finding.mend:
                terminal.say(f"    {finding.mend}")
        for ending in dates.signatures(trusted, now()) if trusted is not None and args.rules is None else ():
            terminal.note(str(ending))
        if not found:
            terminal.say("Nothing to say.")
    weights = {finding.weight for finding in found}
    return 2 if "error" in weights else 1 if args.strict and "warning" in weights else 0


def _place(finding: Finding, text: Written) -> dict[str, int | None]:
    line, column = text.places.get((finding.rule, finding.path)) or text.places.get((finding.rule, "")) or (None, None)
    return {"line": line, "column": column}


def _diff(args: argparse.Namespace) -> int:
    if len(args.files) > 2:
        raise Malformed("malformed", "Two sets of rules are compared.", "Name OLD and NEW.")
    texts = [read_rules(path) for path in args.files]
    ground = ground_of(args, texts, default_home=len(texts) == 1)
    texts = [read_rules(path, ground) for path in args.files]
    if len(texts) == 1:
        if ground.trusted is None:
            raise Malformed("no-rules", "There is nothing to compare with.", "Name OLD and NEW, or a --home.")
        texts.insert(0, Written(ground.trusted.policy.rules, (), {}))
    old, new = (ground.side(text.rules) for text in texts)
    found = diff(old, new, day_of(args), effect.progress)
    if args.json:
        about = {"day": day_of(args).isoformat(), **ground.about()}
        terminal.emit({**effect.document(found), **about})
        return 0
    ground.note()
    for line in effect.lines(found):
        terminal.say(line)
    return 0


def _assert(args: argparse.Namespace) -> int:
    asked = tuple(read(Assertion, {"always": sentence}) for sentence in args.always)
    if args.rules is None:
        text, ground = given(args)
    else:
        ground = ground_of(args, [read_rules(args.rules), Written((), asked, {})])
        text = read_rules(args.rules, ground)
    assertions = (*text.assertions, *asked)
    for assertion in assertions:
        check_assertion(assertion, ground.offices, ground.areas)
    if not assertions:
        raise Malformed("no-assertions", "There is nothing to check.", "Write some into the rules, or give --always.")
    found = broken(assertions, ground.side(text.rules), ground.offices, day_of(args))
    if args.json:
        rows = [one.document() for one in found]
        terminal.emit({"assertions": len(assertions), "broken": rows, **ground.about()})
    else:
        ground.note()
        for one in found:
            terminal.say(f"BROKEN: {one.assertion.always}")
            terminal.say(f"    {one.sentence()}.")
        if not found:
            terminal.say(f"All {len(assertions)} hold." if len(assertions) > 1 else "It holds.")
    return Refused.exit_code if found else 0
