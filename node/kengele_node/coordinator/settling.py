"""What newcomers come with: groups for offices, and rules."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kengele_schemas import disk, plain_yaml
from kengele_schemas.errors import Malformed
from kengele_schemas.listing import BadOffices
from kengele_schemas.policy_text import policy_from_yaml

from . import documents as papers


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
        changed["offices.json"] = {**made["offices.json"], "groups": read_groups(disk.read(args.groups))}
    if args.policy:
        written = policy_from_yaml(disk.read_text(args.policy))
        changed |= papers.adopt(made, written.rules, assertions=written.assertions)
    return changed


def read_groups(data: bytes) -> dict[str, list[str]]:
    """The groups in a YAML file.

    Raises:
        Malformed: ``bad-offices``.
        BadText: likewise, with line and column: not the plain part of YAML.
    """
    found = plain_yaml.load(data.decode("utf-8"), BadOffices)
    groups = found.get("groups") if isinstance(found, dict) else None
    if not isinstance(groups, dict) or not all(map(_names, groups.values())):
        raise Malformed("bad-offices", "This is not a file of groups.", "Write {groups: {un: [office:unrcca]}}")
    return groups


def _names(members: object) -> bool:
    return isinstance(members, list) and all(isinstance(member, str) for member in members)
