"""``kengele node share``: an author gives earlier reports to offices that the rules have come to name.

It takes the keys that she kept; where she kept none, the network's custodian may share.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

from kengele_node.member import Member
from kengele_node.private import report
from kengele_node.sharing.dialogue import open_journal, share
from kengele_node.sharing.journal import Journal
from kengele_node.sharing.plan import Source
from kengele_schemas.encoding import unb64u
from kengele_schemas.errors import Refused
from kengele_schemas.fields import read
from kengele_schemas.recall import left
from kengele_schemas.report import Caveat, parse_header
from kengele_schemas.trusted import Trusted

from .home import action, open_outbox, opened
from .log_memory import LogMemory
from .outbox import Entry, Outbox
from .recalling import leaf_of

_PAGE: Final = 500


def add(actions: Any) -> None:
    """Adds ``share``."""
    parser = action(
        actions,
        "share",
        "give reports that were sent with --keep-keys or --keep-text to offices that the rules have come to name",
        "kengele node share\n          kengele node share 12 --yes",
        _share,
    )
    parser.add_argument(
        "report", type=report(), nargs="*", metavar="N", help="number in the outbox, or id (default: all)"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask before it is shared")


def shared_with(member: Member, report_id: str) -> list[str]:
    """The offices to which the author gave this report later."""
    with closing(open_journal(member)) as journal:
        return sorted(journal.had(report_id))


def _share(args: argparse.Namespace) -> int:
    member = opened(args)

    def sources(_: Trusted, journal: Journal) -> list[Source]:
        with closing(open_outbox(member)) as outbox:
            entries = list(_entries(outbox))
        return _chosen(args.report, list(_sources(entries, journal)))

    return share(args, member, sources, LogMemory(member.home, member.vault.rows("log")).compare)


def _chosen(wanted: list[str], found: list[Source]) -> list[Source]:
    named = {name: source for source in found for name in (source.header.id, str(source.number))}
    for name in wanted:
        if name not in named:
            raise Refused(
                "no-keys",
                "There are no keys to such a report here, or it was recalled.",
                "Keys are kept if that was asked for: --keep-keys. Else the network's custodian shares.",
            )
    return [named[name] for name in dict.fromkeys(wanted)] if wanted else found


def _entries(outbox: Outbox) -> Iterator[Entry]:
    before = None
    while page := outbox.entries(_PAGE, before=before):
        yield from page
        before = page[-1].number


def _sources(entries: list[Entry], journal: Journal) -> Iterator[Source]:
    """The accepted reports whose keys are here and of which something is left, the oldest first."""
    keeps: dict[str, list[list[str]]] = {}
    for entry in entries:
        # One that waits counts as well: its author has said it.
        recall = entry.header or (entry.draft if isinstance(entry.draft, dict) else {})
        if "recalls" in recall and entry.state != "refused":
            keeps.setdefault(recall["recalls"], []).append(recall.get("keep", []))
    for entry in reversed(entries):
        stays = left(keeps.get(entry.report_id, []))
        if entry.spare is None or entry.receipt is None or entry.state not in ("accepted", "kept") or not stays:
            continue
        leaf = leaf_of(entry.receipt)
        had = {office: bits for office, bits, _, _ in leaf.decisions}
        for office, bits in journal.had(entry.report_id).items():
            had[office] = had.get(office, 0) | bits
        yield Source(
            parse_header(dict(entry.header)),
            unb64u(entry.spare["core"]),
            leaf.digest,
            {name: unb64u(key) for name, key in entry.spare["keys"].items()},
            tuple(read(Caveat, caveat) for caveat in entry.spare["caveats"]),
            had,
            stays,
            entry.number,
        )
