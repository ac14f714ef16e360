"""Where reports of the past would have gone under other rules.

A record is one line of JSON: a report's header, when the hub took it (``at``), and its decisions as they stand in the
audit log: offices, compartments released to each, those withheld, the rules that decided.

    {"header": {"area": "KG-O", "categories": ["rumour"], "severity": 2, "tlp": "AMBER"},
     "at": "2026-11-02T08:15:00Z", "decisions": [["unrcca", 7, 120, ["unrcca-central-asia"]]]}

What a desk shows of its reports (``kengele office show --json``) will do as well: it says what this one office had,
and is decided on the day of the report. Of its content nothing is kept.

What an author kept from an office is in no header. An office that had nothing, though the rules in force would have
given it, was left out by the author: it is not told as one that would gain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple

from pydantic import ConfigDict, Field

from .compartments import GRANTABLE, HANDLING_BIT, bitmap, names
from .encoding import loads
from .errors import Malformed
from .fields import AreaCode, CategoryCode, Items, Model, read
from .receipt import Decisions, Moment
from .release import Compiled
from .report import MAX_CATEGORIES
from .tlp import Level

REMEMBERED: Final = timedelta(days=90)
MAX_LINE: Final = 256 * 1024


class Facts(Model):
    """What of a header decides; its other members are passed over."""

    model_config = ConfigDict(extra="ignore")

    area: AreaCode
    categories: Annotated[tuple[CategoryCode, ...], Items, Field(min_length=1, max_length=MAX_CATEGORIES)]
    severity: Annotated[int, Field(ge=1, le=5)]
    tlp: Level


class Record(Model):
    """One report of the past."""

    model_config = ConfigDict(extra="ignore")

    header: Facts
    at: Moment
    decisions: Decisions

    @property
    def day(self) -> date:
        return datetime.fromisoformat(self.at).date()


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
    # An entry of the audit log has its decisions in its leaf.
    return {**value, **value.get("leaf", {})} if isinstance(value, dict) else value


def replay(
    past: Iterable[tuple[int, Record]], draft: Compiled, in_force: Compiled | None = None, *, only: str = ""
) -> Iterator[Moved]:
    """Each office that would have had more or less of a report, had ``draft`` been in force on the day it was taken.

    Args:
        in_force: by which an author's narrowing is told from what the rules withheld.
        only: the one office of which the records speak, if they do not speak of all.
    """
    for line, record in past:
        had = {office: bits & ~HANDLING_BIT for office, bits, _, _ in record.decisions}
        would = draft.release(record.header, record.day)
        held = in_force.release(record.header, record.day) if in_force is not None else {}
        for office in sorted({*had, *would} if not only else {only}):
            before = had.get(office, 0)
            decision = would.get(office)
            after = decision.bits & ~HANDLING_BIT if decision else 0
            kept_back = held[office].bits & ~before if office in held else 0
            gained, lost = after & ~before & ~kept_back, before & ~after
            if gained or lost:
                yield Moved(line, record, office, names(gained), names(lost), decision.rules if decision else ())
