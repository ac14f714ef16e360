"""Who can see: every office and compartment for some reports, and all that one office can see.

>>> matrix(domain, offices.active, Asked(areas={"KG-O"}, categories=("rumour",)))["unrcca"]["summary"].share
'all'
>>> [sight.areas for sight in all_of(domain, "unrcca", areas)]
[('KG',)]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from . import families, taxonomy
from .areas import EVERYWHERE, Areas
from .compartments import GRANTABLE
from .domain import ALL_LEVELS, Domain, Level, Row
from .families import Family
from .tlp import LEVELS

Share = Literal["all", "some", "none"]


class Asked(NamedTuple):
    """Reports that are asked about; what is None is left open. All of ``categories`` stand in one report."""

    areas: frozenset[str] | None = None
    categories: tuple[str, ...] | None = None
    severity: int | None = None
    tlp: str | None = None

    def levels(self) -> list[Level]:
        """The severities and markings asked about."""
        return [one for one in ALL_LEVELS if self.severity in (None, one[0]) and self.tlp in (None, one[1])]


class Seen(NamedTuple):
    """How many headers of all that are asked about an office may open, and by which rules."""

    opened: int
    asked: int
    rules: tuple[str, ...]

    @property
    def share(self) -> Share:
        return "none" if not self.opened else "all" if self.opened == self.asked else "some"


def matrix(domain: Domain, offices: Iterable[str], asked: Asked) -> dict[str, dict[str, Seen]]:
    """For each office and compartment how many of the headers asked about it may open on the domain's first day.

    Where categories are left open, a header of each single one counts.
    """
    return {
        office: {name: _seen(domain, domain.about(office, name), asked) for name in GRANTABLE} for office in offices
    }


def _seen(domain: Domain, about: int, asked: Asked) -> Seen:
    levels = frozenset(asked.levels())
    named = families.union(asked.categories or ())
    areas = domain.areas if asked.areas is None else asked.areas & domain.areas
    count, rules = 0, set[str]()
    for place in domain.places(about):
        inside = len(areas.intersection(place.areas))
        for point in domain.points(place.rows) if inside else ():
            family = domain.through(point.rows)
            opened = families.within(named, family) if named else families.join(family).bit_count()
            if opened and (chosen := len(levels.intersection(point.levels))):
                count += inside * chosen * opened
                rules |= _giving(domain.of(point.rows), family, named)
    each = 1 if named else len(taxonomy.leaves())
    return Seen(count, len(areas) * len(levels) * each, tuple(sorted(rules)))


def _giving(rows: Iterable[Row], family: Family, named: int = 0) -> set[str]:
    """The grants by which ``family`` is let through, or of it the set that is named."""
    joined = families.join(family)
    grants = (row for row in rows if row.grant)
    return {row.id for row in grants if (not named & ~row.categories if named else row.categories & joined)}


@dataclass(frozen=True)
class Sight:
    """What an office can see: a compartment of reports from ``areas`` (with all below) and from ``only`` these.

    Nothing of it from ``but`` (with all below) and ``but_only``, which are named where that is shorter. A report's
    categories must all stand in one of ``categories``; groups stand for all their leaves.
    """

    compartment: str
    areas: tuple[str, ...]
    only: tuple[str, ...]
    but: tuple[str, ...]
    but_only: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]
    severities: tuple[int, ...]
    tlp: tuple[str, ...]
    rules: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "compartment": self.compartment,
            "areas": list(self.areas),
            "only": list(self.only),
            "but": list(self.but),
            "but_only": list(self.but_only),
            "categories": [list(codes) for codes in self.categories],
            "severities": list(self.severities),
            "tlp": list(self.tlp),
            "rules": list(self.rules),
        }


def all_of(domain: Domain, office: str, areas: Areas) -> list[Sight]:
    """All that ``office`` can see on the domain's first day."""
    return [sight for name in GRANTABLE for sight in _sights(domain, domain.about(office, name), name, areas)]


def _sights(domain: Domain, about: int, compartment: str, areas: Areas) -> Iterator[Sight]:
    found: dict[tuple[Family, tuple[Level, ...]], tuple[set[str], set[str]]] = {}
    for place in domain.places(about):
        levels: dict[Family, tuple[set[Level], set[str]]] = {}
        for point in domain.points(place.rows):
            if family := domain.through(point.rows):
                held = levels.setdefault(family, (set(), set()))
                held[0].update(point.levels)
                held[1].update(_giving(domain.of(point.rows), family))
        for family, (some, rules) in levels.items():
            codes, ids = found.setdefault((family, tuple(sorted(some))), (set(), set()))
            codes.update(place.areas)
            ids.update(rules)
    for (family, some_levels), (codes, ids) in found.items():
        named = compact(codes, areas)
        left = compact(domain.areas - codes, areas)
        if sum(map(len, left)) < sum(map(len, named)):
            named = (EVERYWHERE,), ()
        else:
            left = (), ()
        categories = tuple(_codes(facet) for facet in family)
        for severities, marks in _boxes(some_levels):
            yield Sight(compartment, *named, *left, categories, severities, marks, tuple(sorted(ids)))


def compact(codes: AbstractSet[str], areas: Areas) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """``codes`` as areas that stand for all below them, and those that stand for themselves only."""
    if len(areas) and all(row.code in codes for row in areas):
        return (EVERYWHERE,), ()
    whole = {code for code in codes if code in areas and areas.below(code) <= codes}
    tops = {code for code in whole if not any(_above(other, code, areas) for other in areas.ancestors(code) & whole)}
    covered = frozenset[str]().union(*(areas.below(code) for code in tops))
    return tuple(sorted(tops)), tuple(sorted(codes - covered))


def _above(other: str, code: str, areas: Areas) -> bool:
    # Where one code took another's place each lies in the other; the first by name stands for both.
    return other != code and (not areas.covers(code, other) or other < code)


def _codes(categories: int) -> tuple[str, ...]:
    if categories == families.covered(EVERYWHERE):
        return (EVERYWHERE,)
    whole = [code for code in taxonomy.codes() if not families.covered(code) & ~categories]
    return tuple(code for code in whole if taxonomy.parent(code) not in whole)


def _boxes(levels: Iterable[Level]) -> Iterator[tuple[tuple[int, ...], tuple[str, ...]]]:
    """Severities and markings as few products of both."""
    by_mark: dict[str, list[int]] = {}
    for severity, mark in levels:
        by_mark.setdefault(mark, []).append(severity)
    boxes: dict[tuple[int, ...], list[str]] = {}
    for mark in LEVELS:
        if mark in by_mark:
            boxes.setdefault(tuple(sorted(by_mark[mark])), []).append(mark)
    return ((severities, tuple(marks)) for severities, marks in boxes.items())
