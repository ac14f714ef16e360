"""Where reports of the past would have gone under other rules.

A record is one line of JSON: a report's header, when the hub took it (``at``), and its decisions as they stand in the
audit log: offices, compartments released to each, those withheld, the rules that decided.

    {"header": {"area": "KG-O", "categories": ["rumour"], "severity": 2, "tlp": "AMBER"},
     "at": "2026-11-02T08:15:00Z", "decisions": [["unrcca", 7, 120, ["unrcca-central-asia"]]]}

What a desk shows of its reports (``kengele office show --json``) will do as well: it says what this one office had,
and is decided on the day of the report. Of its content nothing is kept. So will headers as the hub gives them
(:mod:`kengele_schemas.headers`): what went where is then taken to be what the rules in force grant.

What an author kept from an office is in no header. An office that had nothing, though the rules in force would have
given it, was left out by the author: it is not told as one that would gain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final, NamedTuple

from pydantic import ConfigDict

from .compartments import GRANTABLE, HANDLING_BIT, bitmap, names
from .encoding import loads
from .errors import Malformed
from .fields import Model, read
from .headers import Alike, Count, Facts
from .receipt import Decisions, Moment
from .release import Compiled, Decision, Verdict

REMEMBERED: Final = timedelta(days=90)
MAX_LINE: Final = 256 * 1024


class Record(Model):
    """One report of the past, or several that were alike; without decisions it is not known what went where."""

    model_config = ConfigDict(extra="ignore")

    header: Facts
    at: Moment
    decisions: Decisions | None = None
    count: Count = 1

    @property
    def day(self) -> date:
        return datetime.fromisoformat(self.at).date()

    @classmethod
    def of(cls, alike: Alike) -> Record:
        """What the hub gave as a record."""
        header = Facts(area=alike.area, categories=alike.categories, severity=alike.severity, tlp=alike.tlp)
        return cls(header=header, at=f"{alike.day.isoformat()}T00:00:00Z", count=alike.count)


class Moved(NamedTuple):
    """What an office would have had more and less of one report, and the rules that would have decided."""

    line: int
    record: Record
    office: str
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    rules: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "line": self.line,
            "at": self.record.at,
            "header": self.record.header.model_dump(mode="json"),
            "office": self.office,
            "gained": list(self.gained),
            "lost": list(self.lost),
            "rules": list(self.rules),
        }


class Sum(NamedTuple):
    """Of how many reports an office would have had a compartment in addition, or no longer, by the same rules.

    For a gain these are the draft's grants; for a loss its forbids, or where none speaks the grants that are missing.
    The ``example`` is the one taken last.
    """

    office: str
    compartment: str
    gained: bool
    rules: tuple[str, ...]
    reports: int
    example: Record

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "office": self.office,
            "compartment": self.compartment,
            "change": "gained" if self.gained else "lost",
            "rules": list(self.rules),
            "reports": self.reports,
            "example": {**self.example.header.model_dump(mode="json"), "day": self.example.day.isoformat()},
        }


def records(lines: Iterable[bytes], today: date, office: str = "") -> Iterator[tuple[int, Record]]:
    """The records of the last 90 days, with the number of the line each stands on.

    Args:
        office: whose desk shows them, where they come from one.

    Raises:
        Malformed: ``bad-record``: a line is none; which one, and which field.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = read(Record, _record(loads(line.strip(), max_bytes=MAX_LINE, max_depth=12), office))
            day = record.day
        except (Malformed, ValueError, TypeError) as error:
            what = error.sentence if isinstance(error, Malformed) else "It is not a record."
            raise Malformed("bad-record", f"Line {number}: {what}", "Give one JSON object a line.") from None
        if today - REMEMBERED <= day <= today:
            yield number, record


def _record(value: Any, office: str) -> Any:
    if isinstance(value, dict) and "withheld" in value and office:
        bits = HANDLING_BIT | bitmap(name for name in GRANTABLE if name in value)
        return {"header": value, "at": f"{value.get('day')}T00:00:00Z", "decisions": [[office, bits, 0, []]]}
    if isinstance(value, dict) and "count" in value:
        return {"header": value, "at": f"{value.get('day')}T00:00:00Z", "count": value["count"]}
    # An entry of the audit log has its decisions in its leaf.
    return {**value, **value.get("leaf", {})} if isinstance(value, dict) else value


def replay(
    past: Iterable[tuple[int, Record]], draft: Compiled, in_force: Compiled | None = None, *, only: str = ""
) -> Iterator[Moved]:
    """Each office that would have had more or less of a report, had ``draft`` been in force on the day it was taken.

    Args:
        in_force: by which an author's narrowing is told from what the rules withheld, and from which is taken what went
            where if a record does not say it.
        only: the one office of which the records speak, if they do not speak of all.
    """
    for line, record in past:
        would = draft.release(record.header, record.day)
        held = in_force.release(record.header, record.day) if in_force is not None else {}
        had = {office: bits & ~HANDLING_BIT for office, bits, *_ in _decided(record, held)}
        for office in sorted({*had, *would} if not only else {only}):
            before = had.get(office, 0)
            decision = would.get(office)
            after = decision.bits & ~HANDLING_BIT if decision else 0
            kept_back = held[office].bits & ~before if office in held else 0
            gained, lost = after & ~before & ~kept_back, before & ~after
            if gained or lost:
                yield Moved(line, record, office, names(gained), names(lost), decision.rules if decision else ())


def _decided(record: Record, held: Mapping[str, Decision]) -> Iterable[tuple[str, int, Any, Any]]:
    if record.decisions is not None:
        return record.decisions
    return [(office, decision.bits, 0, decision.rules) for office, decision in held.items()]


def summed(found: Iterable[Moved], draft: Compiled, in_force: Compiled | None = None) -> list[Sum]:
    """What :func:`replay` found, by office, compartment and rules; the most reports first."""
    why = _Why(draft, in_force)
    counts: dict[tuple[str, str, bool, tuple[str, ...]], tuple[int, Record]] = {}
    for one in found:
        for gained, parts in ((True, one.gained), (False, one.lost)):
            for part in parts:
                key = (one.office, part, gained, why.rules(one, part, gained=gained))
                count, example = counts.get(key, (0, one.record))
                latest = max(example, one.record, key=lambda record: record.at)
                counts[key] = count + one.record.count, latest
    sums = [Sum(*key, count, example) for key, (count, example) in counts.items()]
    places = {name: place for place, name in enumerate(GRANTABLE)}
    return sorted(sums, key=lambda one: (not one.gained, -one.reports, one.office, places[one.compartment], one.rules))


class _Why:
    """Which rules moved a compartment; remembered, because past reports are much alike."""

    def __init__(self, draft: Compiled, in_force: Compiled | None) -> None:
        self._draft, self._in_force = draft, in_force
        self._known: dict[tuple[Any, ...], dict[str, dict[str, Verdict]]] = {}

    def rules(self, moved: Moved, compartment: str, *, gained: bool) -> tuple[str, ...]:
        verdict = self._of(self._draft, moved).get(moved.office, {}).get(compartment)
        if gained or (verdict is not None and verdict.rules):
            return verdict.rules if verdict is not None else ()
        if self._in_force is not None:
            before = self._of(self._in_force, moved).get(moved.office, {}).get(compartment)
            if before is not None and before.rules:
                return before.rules
        decided = moved.record.decisions or ()
        return next((rules for office, _, _, rules in decided if office == moved.office), ())

    def _of(self, side: Compiled, moved: Moved) -> dict[str, dict[str, Verdict]]:
        facts, day = moved.record.header, moved.record.day
        key = (side is self._draft, day, facts.area, facts.categories, facts.severity, facts.tlp)
        if key not in self._known:
            self._known[key] = side.explain(facts, day)
        return self._known[key]
