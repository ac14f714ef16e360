"""What is reported in the demonstration: real events of the UCDP data set, and invented examples of what it lacks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any, Final

from kengele_node.ged import read_ged, to_draft
from kengele_schemas.areas import Areas
from kengele_schemas.errors import Malformed
from kengele_schemas.report import Report, parse_draft
from kengele_schemas.tlp import LEVELS

MONITORS: Final[dict[str, tuple[str, ...]]] = {
    "osh": ("KG-O", "KG-GO", "KG-J"),
    "batken": ("KG-B",),
    "khartoum": ("SD-KH",),
    "dori": ("BF-12",),
    "karamoja": ("XB-KARAMOJA",),
}
OFFLINE: Final = "dori"
"""The node that writes without a line and delivers later."""


@dataclass(frozen=True, slots=True)
class Told:
    """One report to be sent, and the monitor's name in the demonstration."""

    monitor: str
    report: Report


def data(name: str) -> Path:
    """The path of a file that comes with the demonstration."""
    return Path(str(files(__package__) / "data" / name))


def examples() -> list[Told]:
    """The invented reports."""
    rows = json.loads(data("examples.json").read_text("utf-8"))
    return [Told(row["monitor"], parse_draft(row["draft"])) for row in rows]


def events(path: Path, count: int, areas: Areas) -> tuple[list[Told], int]:
    """Up to ``count`` reports on the events in a GED file, and how many rows speak of no area that is known.

    Markings are dealt in turn, so that every rule meets every marking; the data themselves are public.
    """
    found: list[Told] = []
    unknown = 0
    for row in islice(_rows(path), count):
        try:
            report = to_draft(row, areas, tlp=LEVELS[row.number % len(LEVELS)])
        except Malformed as error:
            if error.code != "unknown-area":
                raise
            unknown += 1
            continue
        found.append(Told(_monitor(report.area, areas), report))
    return found, unknown


def _rows(path: Path) -> Iterator[Any]:
    yield from read_ged(path)


def _monitor(area: str, areas: Areas) -> str:
    """The monitor who reports from ``area``; one is enrolled for its country where nobody does yet."""
    for name, own in MONITORS.items():
        if any(areas.covers(code, area) for code in own):
            return name
    return (areas.country_of(area) or area).lower()


def areas_of(monitor: str) -> tuple[str, ...]:
    """The areas that a monitor of this name is enrolled for."""
    return MONITORS.get(monitor) or (monitor.upper(),)
