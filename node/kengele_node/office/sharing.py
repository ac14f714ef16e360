"""``kengele office share``: the network's custodian passes reports on to offices that the rules have come to name.

What it may pass on is what its own desk could open, to whom its author did not except. Who has a report already the
custodian does not know, and does not learn.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

from kengele_node import terminal
from kengele_node.private import report
from kengele_node.sharing.dialogue import share
from kengele_node.sharing.journal import Journal
from kengele_node.sharing.plan import Source
from kengele_schemas.compartments import HANDLING
from kengele_schemas.encoding import b64u, unb64u
from kengele_schemas.envelope import parse
from kengele_schemas.errors import Refused
from kengele_schemas.report import Handling
from kengele_schemas.sharing import split
from kengele_schemas.trusted import Trusted

from .arrivals import Item
from .home import action, open_inbox, opened
from .inbox import Inbox

_PAGE: Final = 500


def add(actions: Any) -> None:
    """Adds ``share``."""
    parser = action(
        actions,
        "share",
        "as the network's custodian, pass reports on to offices that the rules have come to name",
        "kengele office share --to kg-peace-council",
        _share,
    )
    parser.add_argument(
        "report", type=report(), nargs="*", metavar="REPORT", help="the report's id; - asks (default: all)"
    )
    parser.add_argument("--to", action="append", default=[], metavar="OFFICE", help="only with this office; repeat")
    parser.add_argument("--yes", action="store_true", help="do not ask before it is shared")


def _share(args: argparse.Namespace) -> int:
    member = opened(args)

    def sources(trusted: Trusted, journal: Journal) -> list[Source]:
        if trusted.network.custodian != member.id:
            raise Refused(
                "not-the-custodian",
                "Only the office that the network names as its custodian shares others' reports.",
                f"It is {trusted.network.custodian}. An author shares with: kengele node share",
            )
        with closing(open_inbox(member)) as inbox:
            items = [item for id_ in args.report for item in inbox.find(id_)] if args.report else list(_all(inbox))
        held = [item for item in items if isinstance(item, Item)]
        if args.report and len({item.arrival.header.id for item in held}) < len(set(args.report)):
            raise Refused("not-here", "This desk does not hold that report.", "See: kengele office show")
        return [source for item in held if (source := _source(item, trusted, journal))]

    return share(args, member, sources)


def _all(inbox: Inbox) -> Iterator[Any]:
    before = None
    while page := inbox.items(_PAGE, before=before):
        yield from page
        before = page[-1].number


def _source(item: Item, trusted: Trusted, journal: Journal) -> Source | None:
    """What of a report may be passed on; None where its author is gone or her caveats cannot be seen."""
    header = item.arrival.header
    author = trusted.monitors.get(header.kid)
    if author is None or author.status == "revoked":
        return None
    if HANDLING in item.arrival.withheld:
        terminal.note(f"Report {header.id} is not shared: what its author asks of its readers was held back.")
        return None
    handling = item.arrival.contents.get(HANDLING)
    caveats = handling.caveats if isinstance(handling, Handling) else ()
    envelope = parse(split(item.arrival.data)[1])
    keys = {name: unb64u(key) for name, key in item.arrival.keys.items() if name in item.arrival.contents}
    return Source(header, envelope.core, b64u(envelope.digest), keys, caveats, journal.had(header.id))
