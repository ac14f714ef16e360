"""Members: letting in, suspending, letting return, removing, listing; each but the last makes a draft."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kengele_node import terminal
from kengele_node.member import now
from kengele_schemas import metadata
from kengele_schemas.areas import Areas, AreasFile
from kengele_schemas.cards import JoinRequest, read_card
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.fields import read
from kengele_schemas.policy_text import policy_from_yaml

from . import documents as papers
from .drafting import action, add_draft, current, opened, propose


def add(actions: Any) -> None:
    """Adds ``admit``, ``suspend``, ``restore``, ``revoke`` and ``members``."""
    admit = action(
        actions,
        "admit",
        "draft the admission of those whose join requests are named",
        "kengele coordinator admit join-request.json",
        _admit,
    )
    admit.add_argument("requests", nargs="+", type=Path, metavar="REQUEST")
    admit.add_argument("--digits", action="append", default=[], help="what the newcomer read out; one for each request")
    add_settling(admit)
    add_draft(admit)
    revoke = action(
        actions, "revoke", "draft the removal of a member", "kengele coordinator revoke m-4jc5xq2f…", _revoke
    )
    revoke.add_argument("member", help="a monitor's or office's id")
    add_draft(revoke)
    suspend = action(
        actions, "suspend", "draft a member's suspension", "kengele coordinator suspend m-4jc5xq2f…", _suspend
    )
    suspend.add_argument("member", help="a monitor's or office's id")
    add_draft(suspend)
    restore = action(
        actions, "restore", "draft a suspended member's return", "kengele coordinator restore m-4jc5xq2f…", _restore
    )
    restore.add_argument("member", help="a monitor's or office's id")
    add_draft(restore)
    action(actions, "members", "list who is in the network", "kengele coordinator members --json", _members)


def add_settling(parser: argparse.ArgumentParser) -> None:
    """Adds groups and rules that newcomers come with."""
    parser.add_argument("--group", action="append", default=[], metavar="OFFICE=GROUP", help="put an office in a group")
    parser.add_argument("--groups", type=Path, help="all groups of offices, as YAML: {groups: {un: [office:unrcca]}}")
    parser.add_argument("--policy", type=Path, help="rules as YAML")


def groups_of(args: argparse.Namespace) -> dict[str, list[str]]:
    """The groups that each office joins, by --group."""
    groups: dict[str, list[str]] = {}
    for text in args.group:
        office, found, group = text.partition("=")
        if not found:
            raise Malformed("malformed", "A group is given as OFFICE=GROUP.", "For example: --group unrcca=un")
        groups.setdefault(office, []).append(group)
    return groups


def settled(args: argparse.Namespace, made: Mapping[str, Any]) -> dict[str, Any]:
    """The documents that change by --groups and --policy."""
    changed: dict[str, Any] = {}
    if args.groups:
        changed["offices.json"] = {**made["offices.json"], "groups": read_groups(args.groups.read_bytes())}
    if args.policy:
        written = policy_from_yaml(args.policy.read_text("utf-8"))
        changed |= papers.adopt(made, written.rules, assertions=written.assertions)
    return changed


def read_groups(data: bytes) -> dict[str, list[str]]:
    """The groups in a YAML file. Raises Malformed, ``bad-offices``."""
    try:
        found = yaml.safe_load(data)["groups"]
        return {str(name): [str(member) for member in members] for name, members in found.items()}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError):
        raise Malformed(
            "bad-offices", "This is not a file of groups.", "Write {groups: {un: [office:unrcca]}}"
        ) from None


def _admit(args: argparse.Namespace) -> int:
    requests = [read_card(path.read_bytes(), JoinRequest) for path in args.requests]
    for request, typed in zip(requests, _digits(args, requests), strict=True):
        if typed.replace(" ", "") != request.digits().replace(" ", ""):
            raise Refused(
                "digits-differ",
                "These are not the digits of this join request.",
                "Do not admit: compare again, by voice, with the one who asks.",
            )

    def change(before: dict[str, Any]) -> dict[str, Any]:
        areas = Areas(read(AreasFile, before["areas.json"]))
        changed = papers.admit(before, requests, areas, now().date(), groups=groups_of(args))
        return {**changed, **settled(args, {**before, **changed})}

    return propose(args, change)


def _digits(args: argparse.Namespace, requests: Sequence[JoinRequest]) -> list[str]:
    if args.digits or not terminal.interactive():
        if len(args.digits) != len(requests):
            raise Malformed("no-digits", "Each newcomer's digits are needed.", "Give --digits once for each request.")
        return list(args.digits)
    return [terminal.ask(f"The digits that {request.member} reads out", str) for request in requests]


def _revoke(args: argparse.Namespace) -> int:
    return propose(args, lambda before: papers.remove(before, args.member, int(time.time())))


def _suspend(args: argparse.Namespace) -> int:
    return propose(args, lambda before: papers.suspend(before, args.member))


def _restore(args: argparse.Namespace) -> int:
    return propose(args, lambda before: papers.restore(before, args.member))


def _members(args: argparse.Namespace) -> int:
    member = opened(args)
    files = asyncio.run(current(member))
    rows: list[dict[str, Any]] = []
    for path in metadata.document_paths(files):
        document = metadata.document_of(files, path)
        if path == "offices.json":
            rows += [
                {"role": "office", "id": one["id"], "areas": one["areas"], "status": one.get("status", "active")}
                for one in document["offices"]
            ]
        elif path.startswith("monitors/"):
            rows += [
                {"role": "monitor", "id": one["kid"], "areas": one["areas"], "status": one.get("status", "active")}
                for one in document["monitors"]
            ]
    if args.json:
        terminal.emit({"members": rows})
        return 0
    for row in rows:
        terminal.say(f"{row['role']:8}  {row['id']:30}  {row['status']:9}  {' '.join(row['areas'])}")
    return 0
