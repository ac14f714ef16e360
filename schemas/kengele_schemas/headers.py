"""Reports of the past by what their headers say, and how many of a day say the same.

No row speaks of one report: neither id nor author nor digest stands in it, and rows are sorted by what they say, which
tells nothing of who came first. A day is given when it is over, so that who asks again and again sees none come in.

    {"day": "2026-11-02", "area": "KG-O", "categories": ["rumour"], "severity": 2, "tlp": "AMBER", "count": 3}

    >>> tally = Tallies()
    >>> tally.add(date(2026, 11, 2), facts)
    >>> tally.page(date(2026, 8, 4), date(2026, 11, 25), skip=0, limit=1000)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any, NamedTuple

from pydantic import ConfigDict, Field

from .fields import AreaCode, CategoryCode, Day, Items, Model
from .report import MAX_CATEGORIES
from .tlp import Level

Count = Annotated[int, Field(ge=1, le=2**53)]


class Facts(Model):
    """What of a header decides; its other members are passed over."""

    model_config = ConfigDict(extra="ignore")

    area: AreaCode
    categories: Annotated[tuple[CategoryCode, ...], Items, Field(min_length=1, max_length=MAX_CATEGORIES)]
    severity: Annotated[int, Field(ge=1, le=5)]
    tlp: Level


class Alike(Facts):
    """Reports taken on one day whose headers decide alike."""

    day: Day
    count: Count

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return self.model_dump(mode="json")


class Place(NamedTuple):
    """Where a further page begins: behind ``skip`` rows of ``since`` and the days after it."""

    since: date
    skip: int


class Page(NamedTuple):
    """Rows as JSON, and where the next begin; None at the end."""

    rows: Sequence[dict[str, Any]]
    following: Place | None


_Key = tuple[str, tuple[str, ...], int, str]


class Tallies:
    """Reports counted as they are read, in whichever order."""

    def __init__(self) -> None:
        self._days: dict[date, Counter[_Key]] = {}
        self._sorted: dict[date, Sequence[tuple[_Key, int]]] = {}

    def add(self, day: date, facts: Facts) -> None:
        """Counts one report that was taken on ``day``."""
        key = (facts.area, facts.categories, facts.severity, facts.tlp)
        self._days.setdefault(day, Counter())[key] += 1
        self._sorted.pop(day, None)

    def forget_before(self, day: date) -> None:
        """Forgets what is no longer given."""
        for old in [one for one in self._days if one < day]:
            del self._days[old]
            self._sorted.pop(old, None)

    def page(self, since: date, before: date, *, skip: int = 0, limit: int = 1000) -> Page:
        """Up to ``limit`` rows of the days from ``since`` on and before ``before``, behind ``skip`` of them."""
        rows: list[dict[str, Any]] = []
        for day in sorted(one for one in self._days if since <= one < before):
            found = self._of(day)
            for number in range(skip, len(found)):
                if len(rows) == limit:
                    return Page(rows, Place(day, number))
                (area, categories, severity, tlp), count = found[number]
                told = {"area": area, "categories": list(categories), "severity": severity, "tlp": tlp}
                rows.append({"day": day.isoformat(), **told, "count": count})
            skip = max(0, skip - len(found))
        return Page(rows, None)

    def _of(self, day: date) -> Sequence[tuple[_Key, int]]:
        if day not in self._sorted:
            self._sorted[day] = sorted(self._days[day].items())
        return self._sorted[day]
