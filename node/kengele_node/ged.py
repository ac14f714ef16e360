"""Read the UCDP Georeferenced Event Dataset (GED, CSV) into drafts, so that a network can be tried with real events.

    >>> for row in read_ged(Path("ged.csv")):
    ...     draft = to_draft(row, Areas.world())

What goes where: the type of violence becomes the category; ``source_headline`` the account, as headlines name people;
``source_office`` the source; both sides and the deaths ``people``; coordinates the place. The header's area is admin-1
where its name is known, else the country. Sources stay ungraded (F, 6): GED does not judge them.

Columns: UCDP GED codebook, versions 22 to 25. Of its columns only :data:`COLUMNS` are needed.
"""

from __future__ import annotations

import csv
import io
import math
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any, Final

from kengele_schemas import disk
from kengele_schemas.areas import Areas
from kengele_schemas.errors import Malformed
from kengele_schemas.report import MAX_ACCOUNT, MAX_SUMMARY, Report, parse_draft
from kengele_schemas.taxonomy import from_ged
from kengele_schemas.tlp import Level


@dataclass(frozen=True, slots=True, repr=False)
class GedRow:
    """One event, as delivered: ``low <= best <= high`` may fail, ``adm_1`` and the source may be empty.

    ``number`` counts the records of the file from 1; coordinates are WGS 84 degrees.
    """

    number: int
    id: int
    type_of_violence: int
    conflict_name: str
    side_a: str
    side_b: str
    source_office: str
    source_date: str
    source_headline: str
    where_prec: int
    where_coordinates: str
    where_description: str
    adm_1: str
    adm_2: str
    latitude: float
    longitude: float
    country: str
    date_prec: int
    date_start: date
    date_end: date
    best: int
    high: int
    low: int

    def __repr__(self) -> str:
        return f"GedRow({self.number})"


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


# Annotations are text here, so each column's reader is found by the name of its type.
_READERS: Final[dict[str, Callable[[str], Any]]] = {
    "int": int,
    "str": str.strip,
    "float": _number,
    "date": lambda text: date.fromisoformat(text[:10]),
}
COLUMNS: Final = {field.name: str(field.type) for field in fields(GedRow) if field.name != "number"}
"""The columns that are read, and their types."""


def _row(number: int, record: dict[str, str | None]) -> GedRow:
    values: dict[str, Any] = {}
    for column, kind in COLUMNS.items():
        text = record[column]
        if text is None:
            raise Malformed("bad-row", f"Record {number} has too few columns.", "Look for a quote that is not closed.")
        try:
            values[column] = _READERS[kind](text)
        except ValueError:
            raise Malformed(
                "bad-row",
                f"Record {number}: the column '{column}' does not hold a value of type {kind}.",
                "Correct it.",
            ) from None
    return GedRow(number=number, **values)


def read_ged(path: Path) -> Iterator[GedRow]:
    """The rows of the CSV file at ``path``, one at a time.

    Raises:
        Malformed: ``missing-column`` names the column; ``bad-row`` the record and the column; ``not-csv`` otherwise.
        OSError: the file cannot be read.
    """
    with disk.opened(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        try:
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                names = ", ".join(missing)
                raise Malformed(
                    "missing-column", f"The file lacks GED's column: {names}.", "Use UCDP's CSV as published."
                )
            for number, record in enumerate(reader, 1):
                yield _row(number, record)
        except (csv.Error, UnicodeDecodeError):
            raise Malformed("not-csv", "The file is not CSV in UTF-8.", "Use UCDP's CSV as published.") from None


def severity_of(best: int) -> int:
    """The severity of an event with ``best`` deaths: 2 for none, 3 up to two, 4 up to 24, 5 from 25.

    25 deaths in a year are UCDP's threshold of an armed conflict; here one event reaches them.
    """
    return 2 if best < 1 else 3 if best < 3 else 4 if best < 25 else 5


_KINDS: Final = {
    1: "State-based violence",
    2: "Violence between non-state groups",
    3: "One-sided violence against civilians",
}


def _text(raw: str, limit: int) -> str:
    """``raw`` without control characters, shortened to ``limit``."""
    kept = "".join(
        " " if (unicodedata.category(char) in ("Cc", "Cs") and char != "\n") or char in "\u202d\u202e" else char
        for char in unicodedata.normalize("NFC", raw.replace("\r\n", "\n"))
    ).strip()
    return kept if len(kept) <= limit else kept[: limit - 1] + "…"


def _line(raw: str, limit: int) -> str:
    return _text(" ".join(raw.split()), limit)


def _summary(row: GedRow) -> str:
    # Of non-state and one-sided violence GED names the conflict after its parties; they belong to `people`.
    names_parties = row.side_a in row.conflict_name or row.side_b in row.conflict_name
    about = "" if names_parties else f" ({row.conflict_name})"
    where = ", ".join(part for part in (row.adm_1, row.country) if part)
    return _line(f"{_KINDS[row.type_of_violence]}{about}, {where}. Reported deaths: {row.best}.", MAX_SUMMARY)


def _account(row: GedRow) -> str:
    span = "" if row.date_start == row.date_end else f"\n\nFrom {row.date_start} to {row.date_end}."
    return _text(row.source_headline, MAX_ACCOUNT - len(span)) + span


def _place(row: GedRow, areas: Areas) -> dict[str, Any]:
    name = _line(": ".join(dict.fromkeys(part for part in (row.where_coordinates, row.where_description) if part)), 200)
    finer = areas.find(row.country, row.adm_2) if row.adm_2 else None
    return {
        **({"area": finer} if finer and areas.row(finer).kind == "admin2" else {}),
        **({"name": name} if name else {}),
        "lat": row.latitude,
        "lon": row.longitude,
        "precision": row.where_prec,
    }


def to_draft(row: GedRow, areas: Areas, *, tlp: Level = "CLEAR") -> Report:
    """The draft of a report on the event in ``row``; the data are published, hence ``CLEAR`` unless told otherwise.

    Raises:
        Malformed: ``unknown-area``, the country is not in ``areas``; ``bad-row``; ``bad-field``.
    """
    area = areas.find(row.country, row.adm_1) or areas.find(row.country)
    if area is None:
        raise Malformed(
            "unknown-area",
            f"Record {row.number}: the country is not in the table of areas.",
            "Add its name to the table.",
        )
    if row.type_of_violence not in _KINDS:
        raise Malformed(
            "bad-row", f"Record {row.number}: the column 'type_of_violence' is not 1, 2 or 3.", "Correct it."
        )
    roles = ("initiator", "target") if row.type_of_violence == 3 else ("other", "other")
    sides = [(_line(side, 200), role) for side, role in zip((row.side_a, row.side_b), roles, strict=True)]
    draft: dict[str, Any] = {
        "area": area,
        "categories": list(from_ged(row.type_of_violence)),
        "severity": severity_of(row.best),
        "day": row.date_start.isoformat(),
        "day_precision": row.date_prec,
        "tlp": tlp,
        "summary": {"text": _summary(row), "lang": "en"},
        "place": _place(row, areas),
        "people": {
            "actors": [{"name": name, "role": role} for name, role in sides if name],
            "affected": {"killed": {"best": row.best, "low": row.low, "high": row.high}},
        },
    }
    if account := _account(row).strip():
        # Headlines stand in the language of their source, which GED does not record.
        draft["account"] = {"text": account, "lang": "und"}
    if office := _text(row.source_office, 1000):
        published = f", {row.source_date}" if row.source_date else ""
        draft["source"] = {"basis": "media", "description": _text(office + published, 1000)}
    return parse_draft(draft)
