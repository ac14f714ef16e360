"""Rules: questions about them, proposing new ones, renewing signatures, and carrying them where there is no line."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any, Final

from kengele_node import rules, terminal
from kengele_node.member import Member
from kengele_schemas import disk, metadata
from kengele_schemas.areas import Areas, AreasFile
from kengele_schemas.errors import Untrusted
from kengele_schemas.fields import read
from kengele_schemas.policy_text import policy_from_yaml
from kengele_schemas.roster import Offices, OfficesFile
from kengele_schemas.trusted import Trusted

from . import documents as papers
from . import letters, questions, signing
from .drafting import action, add_draft, add_region, current, opened, propose

_POLICY: Final = "kengele coordinator policy"


def add(actions: Any) -> None:
    """Adds ``policy``, ``renew`` and ``export``."""
    policy = actions.add_parser(
        "policy",
        help="the rules: from a draft to what is in force",
        description="The rules: questions about a draft, proposing it, and what is in force.",
        epilog="Example:  kengele coordinator policy propose rules.yaml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = policy.add_subparsers(required=True, metavar="VERB")
    questions.add(verbs)
    proposed = action(
        verbs,
        "propose",
        "draft new rules, sign them, and show what they change",
        f"{_POLICY} propose rules.yaml",
        _propose,
    )
    proposed.add_argument("rules", type=Path, metavar="FILE", help="rules as YAML, all of them")
    add_region(proposed, "for this area, signed by its regional coordinators alone")
    proposed.add_argument("--refuse-below", type=int, help="take no report sealed under an older version than this")
    add_draft(proposed)
    show = action(verbs, "show", "show the rules in force", f"{_POLICY} show --json", _show)
    add_region(show, "those of this area")
    signing.add_signing(verbs, _POLICY)
    renew = action(
        actions,
        "renew",
        "draft the same again, for another fortnight, with the keys that members have handed in",
        "kengele coordinator renew",
        _renew,
    )
    renew.add_argument("--no-keys", action="store_true", help="leave out the keys that members have handed in")
    add_region(renew, "the lists of this area (default: the network's, or a regional coordinator's own)")
    add_draft(renew)
    export = action(
        actions,
        "export",
        "write the rules in force into a directory, for a node or a desk without a line",
        "kengele coordinator export /media/stick",
        _export,
    )
    export.add_argument("directory", type=Path)
    export.add_argument("--all", action="store_true", help="everything, for a coordinator who is not in yet")
    export.add_argument("--office", default="", metavar="ID", help="what this office may see (default: a monitor)")


def _propose(args: argparse.Namespace) -> int:
    wanted = policy_from_yaml(disk.read_text(args.rules))

    def change(before: dict[str, Any]) -> dict[str, Any]:
        offices = Offices(read(OfficesFile, before["offices.json"]))
        areas = Areas(read(AreasFile, before["areas.json"]))
        # Once more, as only now it is known which names exist: a mistake is told with its line.
        policy_from_yaml(disk.read_text(args.rules), offices, areas)
        return papers.adopt(
            before, wanted.rules, assertions=wanted.assertions, refuse_below=args.refuse_below, region=args.region
        )

    return propose(args, change)


def _show(args: argparse.Namespace) -> int:
    member = opened(args)
    files = asyncio.run(current(member))
    path = f"policy/{args.region}.json" if args.region else "policy.json"
    terminal.emit(metadata.document_of(files, path), indent=None if args.json else 2)
    return 0


def _renew(args: argparse.Namespace) -> int:
    member = opened(args)
    # Keys stand in the network's own lists, which regional coordinators do not sign.
    own = not args.region and metadata.signs_for(asyncio.run(current(member)), member.key, "")
    found = letters.waiting(member) if own and not args.no_keys else []
    return propose(args, lambda before: letters.renewed(before, found, member.card.root_digest))


async def _standing(member: Member) -> Trusted:
    """The rules in force; as they were last verified here, if the hub was restored from a copy and waits for them."""
    try:
        return await rules.in_force(member)
    except Untrusted:
        await current(member)
        return member.offline()


def _export(args: argparse.Namespace) -> int:
    member = opened(args)
    trusted = asyncio.run(_standing(member))
    files = member.trust.files()
    if not args.all:
        files = rules.visible_to(files, trusted, office=args.office)
    rules.write(args.directory, files)
    if args.json:
        terminal.emit({"directory": str(args.directory), "version": trusted.version, "files": len(files)})
    else:
        terminal.say(f"Version {trusted.version} is in {args.directory}; there it is taken in with")
        terminal.say(f"  kengele {'office' if args.office else 'node'} rules --from {args.directory}")
    return 0
