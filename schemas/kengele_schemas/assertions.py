"""Sentences that must stay true, held against all rules together: over every header, today and on each later day.

>>> require([policy], offices, areas, today)
Traceback (most recent call last):
kengele_schemas.errors.Refused: The rules break what must stay true: no group:government may open source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from difflib import get_close_matches
from typing import Any, NamedTuple

from . import families, taxonomy
from .areas import EVERYWHERE, Areas
from .domain import Domain, Header, Side, in_custody, shortest
from .errors import Malformed, Refused
from .policy import Assertion, PolicyFile
from .roster import Offices
from .tlp import rank
from .trusted import Trusted


class Broken(NamedTuple):
    """One office that may open what an assertion says it may not, a header for which it may, and by which rules."""

    assertion: Assertion
    office: str
    compartment: str
    example: Header
    rules: tuple[str, ...]

    def sentence(self) -> str:
        """For a person."""
        return f"{self.office} may open {self.compartment} of {self.example}, by {', '.join(self.rules)}"

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "assertion": self.assertion.always,
            "office": self.office,
            "compartment": self.compartment,
            "example": self.example.document(),
            "rules": list(self.rules),
        }


def check_assertion(assertion: Assertion, offices: Offices, areas: Areas) -> None:
    """Checks that all it names exists, lest it be true of nobody. Raises BadAssertion, with the nearest names."""
    for audience in assertion.to:
        if audience not in offices.audiences:
            raise BadAssertion(assertion, "always", "is about an office or group", offices.suggest(audience))
    for at, area in enumerate(assertion.areas):
        if area != EVERYWHERE and not areas.known(area):
            raise BadAssertion(assertion, f"areas[{at}]", "names an area", areas.suggest(area))
    for at, code in enumerate(assertion.categories):
        if code != EVERYWHERE and not taxonomy.known(code):
            near = get_close_matches(code, taxonomy.codes(), 3)
            raise BadAssertion(assertion, f"categories[{at}]", "names a category", near)


class BadAssertion(Malformed):
    """An assertion that speaks of what does not exist. ``path`` is the field, ``problem`` the sentence without it."""

    def __init__(self, assertion: Assertion, path: str, problem: str, near: Sequence[str]) -> None:
        mend = f"Perhaps: {', '.join(near)}." if near else "Look for a typing error."
        self.path = path
        self.problem = f"{problem} that does not exist"
        super().__init__("bad-assertion", f"The assertion '{assertion.always}' {self.problem}.", mend)


def broken(
    assertions: Iterable[Assertion], side: Side, offices: Offices, today: date, *, all_days: bool = True
) -> list[Broken]:
    """What breaks any of ``assertions``, one counter-example for each office and compartment.

    Args:
        all_days: whether each later day counts on which a forbid ends, or today alone.
    """
    domain = Domain([side], today)
    return [
        Broken(assertion, office, compartment, *found)
        for assertion in assertions
        for office in sorted(frozenset[str]().union(*map(offices.members, assertion.to)))
        for compartment in assertion.compartments
        if (found := _counter(assertion, domain, office, compartment, side.areas, all_days))
    ]


def _counter(
    assertion: Assertion, domain: Domain, office: str, compartment: str, areas: Areas, all_days: bool
) -> tuple[Header, tuple[str, ...]] | None:
    meant = families.union(assertion.categories)
    for place, codes in _places(assertion, domain, domain.about(office, compartment), areas):
        for point in domain.points(place):
            level = next((level for level in point.levels if _marked(assertion, level[1])), None)
            if level is None:
                continue
            for span in domain.spans(point.rows):
                if opened := families.join(domain.through(span.rows)) & meant:
                    one = opened & -opened
                    header = Header(shortest(codes), families.names(one), *level, span.since)
                    return header, domain.deciding(span.rows, one)
                if not all_days:
                    break
    return None


def _places(assertion: Assertion, domain: Domain, about: int, areas: Areas) -> Iterator[tuple[int, Sequence[str]]]:
    meant = None
    if EVERYWHERE not in assertion.areas:
        meant = frozenset[str]().union(*map(areas.below, assertion.areas))
    for place in domain.places(about):
        codes = place.areas if meant is None else [code for code in place.areas if code in meant]
        if codes:
            yield place.rows, codes


def _marked(assertion: Assertion, level: str) -> bool:
    return rank(assertion.tlp_from or "CLEAR") <= rank(level) <= rank(assertion.tlp_up_to or "RED")


def require_all(before: Trusted | None, after: Trusted, today: date) -> None:
    """Returns if all assertions hold for all rules of ``after`` in the place of ``before``. Raises as :func:`require`.

    An office that becomes the custodian is bound by them. One that was it before goes on: its network accepted that
    when it was founded.
    """
    new = before is not None and before.network.custodian != after.network.custodian
    custodian = after.network.custodian if new else ""
    require([after.policy, *after.regional.values()], after.offices, after.areas, custodian, today)


def require(policies: Sequence[PolicyFile], offices: Offices, areas: Areas, custodian: str, today: date) -> None:
    """Returns if all assertions in ``policies`` hold for all rules in them together, today and ever after.

    Args:
        custodian: an office that becomes the custodian, and reads whatever no rule forbids it once the rules have run
            out; empty where that is as it was.

    Raises:
        Refused: ``assertion-broken``, with a counter-example.
        BadAssertion: one speaks of what does not exist.
    """
    assertions = [assertion for policy in policies for assertion in policy.assertions]
    if not assertions:
        return
    for assertion in assertions:
        check_assertion(assertion, offices, areas)
    rules = [rule for policy in policies for rule in policy.rules]
    if offices.get(custodian) is not None:
        rules.append(in_custody(custodian))
    side = Side.of(rules, offices, areas)
    for found in broken(assertions, side, offices, today):
        raise Refused(
            "assertion-broken",
            f"The rules break what must stay true: {found.assertion.always}.",
            f"Change the rules, or the assertion: {found.sentence()}.",
        )
