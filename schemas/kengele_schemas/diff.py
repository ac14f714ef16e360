"""What changes if other rules hold: who gains and who loses what, exactly, over every header there can be.

Nothing is sampled: the cases of a :class:`~kengele_schemas.domain.Domain` are gone through one by one, today and on
each later day that is decided otherwise because a rule has run out.

    >>> for change in diff(Side.of(old, offices, areas), Side.of(new, offices, areas), today):
    ...     change.gained, change.office, change.compartment, change.rules, change.example
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Final, NamedTuple

from . import families
from .compartments import GRANTABLE
from .domain import Domain, Header, Level, Place, Side, Span, shortest
from .families import Family

SENSITIVE: Final = ("people", "source")
"""Compartments that can give a person away."""

_DAY: Final = timedelta(days=1)


class Period(NamedTuple):
    """Days on which ``single`` headers of one category and ``several`` of two to five are decided otherwise."""

    since: date
    until: date | None
    single: int
    several: int

    def document(self) -> dict[str, object]:
        """As JSON."""
        until = None if self.until is None else self.until.isoformat()
        return {"since": self.since.isoformat(), "until": until, "single": self.single, "several": self.several}


@dataclass(frozen=True)
class Change:
    """What one office gains or loses of one compartment. What is gained is a widening.

    ``rules`` are all through which it comes: for a gain the new grants, and forbids that no longer stop them; for a
    loss the new forbids, and old grants that no longer hold. ``before`` and ``after`` decide on the ``example``.
    """

    office: str
    compartment: str
    gained: bool
    rules: tuple[str, ...]
    example: Header
    before: tuple[str, ...]
    after: tuple[str, ...]
    periods: tuple[Period, ...]

    @property
    def sensitive(self) -> bool:
        """Whether it widens what can give a person away."""
        return self.gained and self.compartment in SENSITIVE

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "office": self.office,
            "compartment": self.compartment,
            "rules": list(self.rules),
            "example": self.example.document(),
            "widening": self.gained,
            "sensitive": self.sensitive,
            "before": list(self.before),
            "after": list(self.after),
            "headers": max(period.single + period.several for period in self.periods),
            "periods": [period.document() for period in self.periods],
        }


class _Turn(NamedTuple):
    """What rows that speak of one case come to: a smallest set gained or lost, how many, and through which rules."""

    smallest: int
    single: int
    several: int
    rules: frozenset[str]


def diff(old: Side, new: Side, today: date, progress: Callable[[int, int], None] | None = None) -> list[Change]:
    """Every gain and loss, by office and compartment.

    Args:
        old: what is in force.
        new: what would be.
        today: the first day that is looked at.
        progress: told again and again how many of how many offices are done.
    """
    return [*_changes(old, new, today, progress)]


def widens(old: Side, new: Side, today: date) -> bool:
    """Whether anybody gains anything."""
    return any(change.gained for change in _changes(old, new, today))


def _changes(old: Side, new: Side, today: date, progress: Callable[[int, int], None] | None = None) -> Iterator[Change]:
    comparison = _Comparison(Domain([old, new], today))
    offices = comparison.domain.offices
    for done, office in enumerate(offices, 1):
        for compartment in GRANTABLE:
            found = comparison.of(comparison.domain.about(office, compartment))
            yield from (replace(change, office=office, compartment=compartment) for change in found)
        if progress is not None:
            progress(done, len(offices))


class _Comparison:
    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self._old, self._new = domain.held
        self._differing = self._old ^ self._new
        self._turns: dict[int, tuple[_Turn | None, _Turn | None]] = {}
        self._sizes: dict[tuple[Family, Family], tuple[_Turn | None, _Turn | None]] = {}
        self._known: dict[int, list[Change]] = {}

    def of(self, about: int) -> list[Change]:
        """The gain and the loss, where there are any, of whoever the rows ``about`` speak of."""
        if not about & self._differing:
            return []
        # Members of a group that are in no other rule share everything.
        if about not in self._known:
            tallies = _Tally(), _Tally()
            for place in self.domain.places(about):
                if place.rows & self._differing:
                    self._place(place, tallies)
            found = [tally.change(self, gained) for gained, tally in zip((True, False), tallies, strict=True)]
            self._known[about] = [change for change in found if change is not None]
        return self._known[about]

    def _place(self, place: Place, tallies: tuple[_Tally, _Tally]) -> None:
        for point in self.domain.points(place.rows):
            if not point.rows & self._differing:
                continue
            for span in self.domain.spans(point.rows):
                if span.rows & self._differing:
                    for turn, tally in zip(self._turn(span.rows), tallies, strict=True):
                        if turn is not None:
                            tally.add(turn, span, place.areas, point.levels)

    def _turn(self, alive: int) -> tuple[_Turn | None, _Turn | None]:
        found = self._turns.get(alive)
        if found is None:
            before, after = alive & self._old, alive & self._new
            was, becomes = self.domain.through(before), self.domain.through(after)
            gained, lost = self._between(was, becomes)
            found = self._turns[alive] = (
                gained and gained._replace(rules=self._opening(before, was, after, becomes)),
                lost and lost._replace(rules=self._closing(before, was, after, becomes)),
            )
        return found

    def _between(self, was: Family, becomes: Family) -> tuple[_Turn | None, _Turn | None]:
        found = self._sizes.get((was, becomes))
        if found is None:
            both = families.size(families.meet(was, becomes))
            found = self._sizes[was, becomes] = _beyond(becomes, was, both), _beyond(was, becomes, both)
        return found

    def _opening(self, before: int, was: Family, after: int, becomes: Family) -> frozenset[str]:
        return self._grants(after, self._forbidden(after), was) | self._forbids(before, becomes)

    def _closing(self, before: int, was: Family, after: int, becomes: Family) -> frozenset[str]:
        # What no grant covers any longer is lost with its grant, whatever forbids it besides.
        stopped = self._forbidden(before) | self._forbidden(after) & self._granted(after)
        return self._grants(before, stopped, becomes) | self._forbids(after, was)

    def _granted(self, alive: int) -> int:
        return families.join(row.categories for row in self.domain.of(alive) if row.grant)

    def _forbidden(self, alive: int) -> int:
        return families.join(row.categories for row in self.domain.of(alive) if not row.grant)

    def _grants(self, alive: int, stopped: int, family: Family) -> frozenset[str]:
        """The grants in ``alive`` that cover, less what is ``stopped``, sets that ``family`` does not let through."""
        rows = (row for row in self.domain.of(alive) if row.grant)
        return frozenset(row.id for row in rows if families.beyond((row.categories & ~stopped,), family))

    def _forbids(self, alive: int, family: Family) -> frozenset[str]:
        """The forbids in ``alive`` that take something that grants in ``alive`` cover and ``family`` lets through."""
        taken = self._granted(alive) & families.join(family)
        return frozenset(row.id for row in self.domain.of(alive) if not row.grant and row.categories & taken)


def _beyond(wide: Family, narrow: Family, both: int) -> _Turn | None:
    """What ``wide`` lets through and ``narrow`` does not; ``both`` let through that many."""
    smallest = families.beyond(wide, narrow)
    if not smallest:
        return None
    single = (families.join(wide) & ~families.join(narrow)).bit_count()
    return _Turn(smallest, single, families.size(wide) - both - single, frozenset())


class _Tally:
    """Turns of one way, added up."""

    def __init__(self) -> None:
        self._rules: set[str] = set()
        self._steps: dict[date, list[int]] = {}
        self._best: tuple[date, int, tuple[str, ...], Level, int, int] | None = None

    def add(self, turn: _Turn, span: Span, areas: tuple[str, ...], levels: tuple[Level, ...]) -> None:
        self._rules |= turn.rules
        times = len(areas) * len(levels)
        for day, sign in ((span.since, 1), (span.until, -1)):
            if day is not None:
                step = self._steps.setdefault(day if sign > 0 else day + _DAY, [0, 0])
                step[0] += sign * times * turn.single
                step[1] += sign * times * turn.several
        key = span.since, turn.smallest.bit_count()
        if self._best is None or key < self._best[:2]:
            self._best = (*key, areas, levels[0], turn.smallest, span.rows)

    def change(self, comparison: _Comparison, gained: bool) -> Change | None:
        if self._best is None:
            return None
        day, _, areas, (severity, tlp), smallest, alive = self._best
        old, new = comparison.domain.held
        before, after = (comparison.domain.deciding(alive & side, smallest) for side in (old, new))
        example = Header(shortest(areas), families.names(smallest), severity, tlp, day)
        return Change("", "", gained, tuple(sorted(self._rules)), example, before, after, tuple(self._periods()))

    def _periods(self) -> Iterator[Period]:
        single = several = 0
        days = sorted(self._steps)
        for day, following in zip(days, [*days[1:], None], strict=True):
            single, several = single + self._steps[day][0], several + self._steps[day][1]
            if single or several:
                yield Period(day, following - _DAY if following else None, single, several)
