"""``kengele office``: an office's desk, from its making to what it shares; each activity adds its own actions."""

from __future__ import annotations

import argparse
from contextlib import closing

from kengele_node import rules
from kengele_node.member import Member, now
from kengele_schemas.trusted import Trusted

from . import following, home, keys, sharing, showing, witnessing
from .home import action, open_inbox, opened


def build(parser: argparse.ArgumentParser) -> None:
    """Adds the office's sub-commands to ``parser``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for activity in (home, following, showing, sharing, witnessing, keys):
        activity.add(actions)
    shown = action(
        actions,
        "rules",
        "show the network's rules as this desk holds them, or take them in from a stick",
        "kengele office rules --from /media/stick",
        _rules,
    )
    rules.add_source(shown)


def _rules(args: argparse.Namespace) -> int:
    return rules.show(args, opened(args), _obey)


def _obey(member: Member, trusted: Trusted) -> None:
    """Obeys the coordinators' recalls in rules that came on a stick; confirmed when there is a line."""
    with closing(open_inbox(member)) as inbox:
        inbox.order(trusted.orders.values(), now=now().timestamp())
        inbox.scrub()
