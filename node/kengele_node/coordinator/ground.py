"""What a question about rules is asked of: files on this machine, and a network's lists if one is at hand.

No passphrase and no line are needed: what a home has verified of its network is no secret of its member. Where there
are both, the network's newest is asked of.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from kengele_node import rules, terminal
from kengele_node.member import CARD, Member, now
from kengele_schemas import disk, plain_yaml
from kengele_schemas.areas import Areas
from kengele_schemas.cards import NetworkCard, read_card
from kengele_schemas.domain import Side
from kengele_schemas.encoding import unb64u
from kengele_schemas.errors import Damaged, Malformed
from kengele_schemas.listing import BadOffices, listed, named
from kengele_schemas.policy import PolicyFile, Rule
from kengele_schemas.policy_text import Written, policy_from_yaml
from kengele_schemas.roster import Offices
from kengele_schemas.trust import TrustStore
from kengele_schemas.trusted import Trusted

HOME: Final = Path("coordinator")


@dataclass(frozen=True)
class Ground:
    """Offices and areas by which rules are read; ``trusted`` is what a home has verified, where there is one."""

    offices: Offices
    areas: Areas
    trusted: Trusted | None
    resolved: bool

    def side(self, listed: Iterable[Rule]) -> Side:
        """``listed``, and those of regional coordinators beside them."""
        return Side.of([*listed, *self.regional], self.offices, self.areas)

    @property
    def regional(self) -> Sequence[Rule]:
        """The rules that hold for single areas."""
        policies: Iterable[PolicyFile] = self.trusted.in_force[1:] if self.trusted is not None else ()
        return [rule for policy in policies for rule in policy.rules]

    def note(self) -> None:
        """Says on what the answer rests where that may not be all there is."""
        if not self.resolved:
            terminal.note("Offices and groups are as the rules name them; give --offices FILE to have groups resolved.")
        elif self.trusted is not None and not self.trusted.fresh:
            terminal.note(
                f"In force is taken to be version {self.trusted.version}, the last that was verified here."
                " Where KENGELE_PASSPHRASE or --key-file opens the home, the hub is asked."
            )

    def about(self) -> dict[str, Any]:
        """The same for a program."""
        version = self.trusted.version if self.trusted is not None else None
        return {"groups_resolved": self.resolved, "version": version}


def question(
    actions: Any, name: str, what: str, example: str, run: Callable[[argparse.Namespace], int], *, files: bool = True
) -> Any:
    """A verb of ``kengele coordinator policy``, with what all questions take; with ``files`` also one FILE of rules."""
    parser = actions.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=f"Example:  kengele coordinator policy {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if files:
        parser.add_argument(
            "rules", nargs="?", type=Path, metavar="FILE", help="rules as YAML (default: those in force)"
        )
    _add_ground(parser)
    parser.set_defaults(run=run)
    return parser


def _add_ground(parser: argparse.ArgumentParser) -> None:
    """Adds where offices and groups come from, the day, and the form of the answer."""
    parser.add_argument("--home", type=Path, help="a coordinator's home, for its network's offices, groups and areas")
    parser.add_argument("--offices", type=Path, metavar="FILE", help="offices and groups as YAML, in a home's stead")
    parser.add_argument("--day", type=_day, default=None, metavar="YYYY-MM-DD", help="ask as of this day")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    terminal.lock_options(parser)


def _day(text: str) -> date:
    return date.fromisoformat(text)


def day_of(args: argparse.Namespace) -> date:
    """The day that is asked of."""
    given: date | None = args.day
    return given if given is not None else datetime.now(UTC).date()


def read_rules(path: Path, ground: Ground | None = None) -> Written:
    """The rules in a file; with ``ground`` checked for names that do not exist."""
    text = disk.read_text(path)
    if ground is None:
        return policy_from_yaml(text)
    try:
        return policy_from_yaml(text, ground.offices, ground.areas)
    except Malformed:
        # What the file names may have come with a newer version.
        ground.note()
        raise


def ground_of(args: argparse.Namespace, texts: Sequence[Written], *, default_home: bool = True) -> Ground:
    """The network of --home, or of the home that is here; with --offices these; else what the rules themselves name.

    Raises:
        BadOffices: the file of offices is no plain YAML.
        BadField: nor a list of offices.
        Untrusted, Damaged: what the home has verified cannot be used.
    """
    if args.offices is not None:
        return Ground(_offices(args.offices), Areas.world(), None, resolved=True)
    home = args.home if args.home is not None else HOME
    if args.home is not None or (default_home and (home / CARD).is_file()):
        trusted = _in_force(args, home)
        return Ground(trusted.offices, trusted.areas, trusted, resolved=True)
    every = {name for text in texts for rule in text.rules for name in rule.to}
    every |= {name for text in texts for assertion in text.assertions for name in assertion.to}
    return Ground(named(every), Areas.world(), None, resolved=False)


def given(args: argparse.Namespace) -> tuple[Written, Ground]:
    """The rules that are asked about: those in a file, or without one those in force.

    Raises:
        Malformed: ``no-rules``: there is neither. BadText: what stands in the file is no policy.
    """
    if args.rules is not None:
        text = read_rules(args.rules)
        ground = ground_of(args, [text])
        return read_rules(args.rules, ground), ground
    ground = ground_of(args, [])
    if ground.trusted is None:
        raise Malformed("no-rules", "There is no file of rules, and no network here.", "Name a FILE, or a --home.")
    return Written(ground.trusted.policy.rules, ground.trusted.policy.assertions, {}), ground


def _in_force(args: argparse.Namespace, home: Path) -> Trusted:
    member: Member | None = getattr(args, "opened", None)
    if member is None and (args.key_file or args.passphrase_file or "KENGELE_PASSPHRASE" in os.environ):
        member = args.opened = Member.open(home, terminal.lock_of(args), "coordinator")
    if member is not None:
        return asyncio.run(rules.in_force(member))
    try:
        card = read_card(disk.read(home / CARD), NetworkCard)
    except OSError:
        raise Damaged(
            "no-network", "This home does not belong to a network yet.", "Give it the network's card."
        ) from None
    return TrustStore(home / "trust", unb64u(card.root)).offline("coordinator", now())


def _offices(path: Path) -> Offices:
    return listed(plain_yaml.load(disk.read_text(path), BadOffices))
