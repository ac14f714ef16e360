"""All headers there can be, on all days from today on, in classes that no rule tells apart.

Areas are the codes of a table, categories sets of up to five, severities five, markings five, and a day differs from
the one before only after some rule's last. What one office may open of one compartment depends on a handful of rules;
areas under the same of these are one class, severities and markings that the same of them speak of another. That leaves
few enough cases to look at each of them, and for each the sets of categories let through are a
:mod:`family <kengele_schemas.families>`.

    >>> domain = Domain([Side.of(rules, offices, areas)], today)
    >>> for place in domain.places(domain.about("unrcca", "summary")):
    ...     for point in domain.points(place.rows):
    ...         domain.through(point.rows)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from typing import Final, NamedTuple

from . import families
from .areas import EVERYWHERE, Areas
from .compartments import GRANTABLE, bitmap
from .families import Family, bits
from .policy import Rule
from .roster import Offices
from .tlp import LEVELS, rank

Level = tuple[int, str]
"""Severity and marking."""

ALL_LEVELS: Final[tuple[Level, ...]] = tuple((severity, tlp) for tlp in reversed(LEVELS) for severity in range(1, 6))
_DAY: Final = timedelta(days=1)


class Header(NamedTuple):
    """One header as rules see it, and the day on which it is decided."""

    area: str
    categories: tuple[str, ...]
    severity: int
    tlp: str
    day: date

    def __str__(self) -> str:
        categories = ", ".join(self.categories)
        return f"a report from {self.area} ({categories}, severity {self.severity}, {self.tlp}) on {self.day}"

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {**self._asdict(), "categories": list(self.categories), "day": self.day.isoformat()}


class Row(NamedTuple):
    """A rule with its names resolved: compartments and categories as bits, ``offices`` active ones by id."""

    id: str
    grant: bool
    compartments: int
    offices: frozenset[str]
    categories: int
    severities: tuple[int, int]
    ranks: tuple[int, int]
    areas: tuple[str, ...]
    expires: date


class Place(NamedTuple):
    """Areas that lie under the same rows, and these rows, bit ``i`` for the ``i``-th."""

    rows: int
    areas: tuple[str, ...]


class Point(NamedTuple):
    """Severities and markings that the same rows speak of."""

    rows: int
    levels: tuple[Level, ...]


class Span(NamedTuple):
    """Days on which the same rows hold; without ``until``, for ever."""

    rows: int
    since: date
    until: date | None


class Side(NamedTuple):
    """Rules and the table of areas by which they are read."""

    rows: tuple[Row, ...]
    areas: Areas

    @classmethod
    def of(cls, rules: Iterable[Rule], offices: Offices, areas: Areas) -> Side:
        """``rules`` with their names resolved. Raises KeyError if there is no such office or group."""
        return cls(tuple(_row(rule, offices) for rule in rules), areas)


def in_custody(custodian: str) -> Rule:
    """The grant that stands for the custodian's place: once the rules have run out it reads whatever none forbids."""
    return Rule(
        id="once-the-rules-have-run-out",
        grant=GRANTABLE,
        to=(f"office:{custodian}",),
        areas=(EVERYWHERE,),
        categories=(EVERYWHERE,),
        tlp_up_to="RED",
        expires=date.max,
        reason="The custodian is sealed for once the rules have run out.",
    )


def _row(rule: Rule, offices: Offices) -> Row:
    return Row(
        rule.id,
        rule.grant is not None,
        bitmap(rule.compartments),
        frozenset[str]().union(*map(offices.members, rule.to)) & frozenset(offices.active),
        families.union(rule.categories),
        (rule.min_severity, rule.max_severity),
        (rank(rule.tlp_from or "CLEAR"), rank(rule.tlp_up_to or "RED")),
        tuple(sorted(rule.areas)),
        rule.expires or date.max,
    )


class Domain:
    """The rules of one side, or of two to be compared, and every header that any of them may tell from another.

    ``held`` has the rows of each side as bits. A row that both have alike is one. What has expired is left out.
    """

    def __init__(self, sides: Sequence[Side], today: date) -> None:
        tables: list[Areas] = []
        places: dict[tuple[Row, int], int] = {}
        self.held: list[int] = []
        for side in sides:
            table = next((at for at, known in enumerate(tables) if _alike(known, side.areas)), len(tables))
            tables[table:] = tables[table:] or [side.areas]
            alive = [(row, table) for row in side.rows if row.expires >= today]
            self.held.append(families.join(1 << places.setdefault(row, len(places)) for row in alive))
        self.rows = [row for row, _ in places]
        self.today = today
        self._offices: dict[str, int] = {}
        self._parts: dict[int, int] = {}
        self._ending: dict[date, int] = {}
        for at, row in enumerate(self.rows):
            self._ending[row.expires] = self._ending.get(row.expires, 0) | 1 << at
            for office in row.offices:
                self._offices[office] = self._offices.get(office, 0) | 1 << at
        self._levels = [(level, self._speaking(*level)) for level in ALL_LEVELS]
        self._places = self._classes([table for _, table in places], tables)
        self._families: dict[int, Family] = {}
        self.areas = frozenset(code for place in self._places for code in place.areas)

    def _speaking(self, severity: int, tlp: str) -> int:
        level = rank(tlp)
        return sum(
            1 << at
            for at, row in enumerate(self.rows)
            if row.severities[0] <= severity <= row.severities[1] and row.ranks[0] <= level <= row.ranks[1]
        )

    def _classes(self, read_by: Sequence[int], tables: Sequence[Areas]) -> list[Place]:
        over: dict[str, int] = dict.fromkeys((row.code for table in tables for row in table), 0)
        everywhere = 0
        for at, table in enumerate(tables):
            named: dict[str, int] = {}
            for place, row in enumerate(self.rows):
                for area in row.areas if read_by[place] == at else ():
                    named[area] = named.get(area, 0) | 1 << place
            everywhere |= named.pop(EVERYWHERE, 0)
            for code in [row.code for row in table] if named else ():
                for above in table.ancestors(code):
                    over[code] |= named.get(above, 0)
        classes: dict[int, list[str]] = {}
        for code, found in over.items():
            classes.setdefault(found | everywhere, []).append(code)
        return [Place(found, tuple(codes)) for found, codes in classes.items()]

    @property
    def offices(self) -> tuple[str, ...]:
        """All to whom a row speaks."""
        return tuple(sorted(self._offices))

    def of(self, alive: int) -> list[Row]:
        """The rows in ``alive``."""
        return [self.rows[at] for at in bits(alive)]

    def about(self, office: str, compartment: str) -> int:
        """The rows that speak of this office and compartment."""
        bit = bitmap((compartment,))
        if bit not in self._parts:
            self._parts[bit] = sum(1 << at for at, row in enumerate(self.rows) if row.compartments & bit)
        return self._offices.get(office, 0) & self._parts[bit]

    def places(self, about: int) -> list[Place]:
        """All areas, in classes under the same rows of ``about``; areas under none of them are left out."""
        found: dict[int, list[tuple[str, ...]]] = {}
        for place in self._places:
            if own := place.rows & about:
                found.setdefault(own, []).append(place.areas)
        return [Place(own, tuple(code for codes in parts for code in codes)) for own, parts in found.items()]

    def points(self, over: int) -> list[Point]:
        """All severities and markings, in classes; those that no row of ``over`` speaks of are left out."""
        found: dict[int, list[Level]] = {}
        for level, speaking in self._levels:
            if own := speaking & over:
                found.setdefault(own, []).append(level)
        return [Point(own, tuple(levels)) for own, levels in found.items()]

    def spans(self, alive: int) -> Iterator[Span]:
        """The days from today on, as long as any row of ``alive`` holds."""
        since = self.today
        for end in sorted({self.rows[at].expires for at in bits(alive)}):
            if end == date.max:
                yield Span(alive, since, None)
            else:
                yield Span(alive, since, end)
                alive &= ~self._ending[end]
                since = end + _DAY

    def through(self, alive: int) -> Family:
        """The sets of categories that the rows in ``alive``, which speak of one case, let through."""
        found = self._families.get(alive)
        if found is None:
            mine = self.of(alive)
            forbidden = families.join(row.categories for row in mine if not row.grant)
            found = self._families[alive] = families.of((row.categories for row in mine if row.grant), forbidden)
        return found

    def deciding(self, alive: int, categories: int) -> tuple[str, ...]:
        """The rules that decide on a report with these categories: the forbids if there are any, else the grants."""
        mine = self.of(alive)
        forbids = [row.id for row in mine if not row.grant and row.categories & categories]
        grants = [row.id for row in mine if row.grant and not categories & ~row.categories]
        return tuple(sorted(forbids or grants))


def _alike(one: Areas, other: Areas) -> bool:
    return one is other or list(one) == list(other)


def shortest(codes: Iterable[str]) -> str:
    """The area to name as an example: the one with the shortest code."""
    return min(codes, key=lambda code: (len(code), code))
