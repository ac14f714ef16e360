"""``kengele coordinator``: from a network's founding to each change of its members and rules."""

from __future__ import annotations

import argparse

from . import founding, members, recalls, rules, signing
from .console import app as console


def build(parser: argparse.ArgumentParser) -> None:
    """Adds the coordinators' sub-commands to ``parser``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for room in (founding, members, rules, recalls, signing, console):
        room.add(actions)
