"""Rules: drafting new ones, showing those in force, renewing signatures, and carrying them where there is no line."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from kengele_node import rules, terminal
from kengele_schemas import metadata
from kengele_schemas.policy_text import from_yaml

from . import documents as papers
from .drafting import action, add_draft, current, opened, propose


def add(actions: Any) -> None:
    """Adds ``policy``, ``renew`` and ``export``."""
    policy = action(
        actions,
        "policy",
        "draft new rules, or show those in force",
        "kengele coordinator policy rules.yaml",
        _policy,
    )
    policy.add_argument("rules", nargs="?", type=Path, help="rules as YAML; without it those in force are shown")
    policy.add_argument("--refuse-below", type=int, help="take no report sealed under an older version than this")
    add_draft(policy)
    renew = action(actions, "renew", "draft the same again, for another fortnight", "kengele coordinator renew", _renew)
    add_draft(renew)
    export = action(
        actions,
        "export",
        "write the rules in force into a directory, for a node or a desk without a line",
        "kengele coordinator export /media/stick",
        _export,
    )
    export.add_argument("directory", type=Path)
    export.add_argument("--office", default="", metavar="ID", help="what this office may see (default: a monitor)")


def _policy(args: argparse.Namespace) -> int:
    if args.rules is None:
        member = opened(args)
        files = asyncio.run(current(member))
        terminal.say(json.dumps(metadata.document_of(files, "policy.json"), indent=None if args.json else 2))
        return 0
    wanted = from_yaml(args.rules.read_text("utf-8"))
    return propose(args, lambda before: papers.adopt(before, wanted, refuse_below=args.refuse_below))


def _renew(args: argparse.Namespace) -> int:
    return propose(args, lambda _: {})


def _export(args: argparse.Namespace) -> int:
    member = opened(args)
    trusted = asyncio.run(rules.in_force(member))
    files = rules.visible_to(member.trust.files(), trusted, office=args.office)
    rules.write(args.directory, files)
    if args.json:
        terminal.emit({"directory": str(args.directory), "version": trusted.version, "files": len(files)})
    else:
        terminal.say(f"Version {trusted.version} is in {args.directory}; there it is taken in with")
        terminal.say(f"  kengele {'office' if args.office else 'node'} rules --from {args.directory}")
    return 0
