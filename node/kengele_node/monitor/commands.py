"""``kengele node``: a monitor's node, from its making to its next key; each activity adds its own actions."""

from __future__ import annotations

import argparse

from . import entries, holding, home, questions, recalls, reporting, rotating, running, sharing, status


def build(parser: argparse.ArgumentParser) -> None:
    """Adds the node's sub-commands to ``parser``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for activity in (home, reporting, entries, holding, questions, recalls, sharing, running, rotating, status):
        activity.add(actions)
