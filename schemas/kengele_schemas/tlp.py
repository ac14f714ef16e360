"""Traffic Light Protocol 2.0 (FIRST): five levels in one order, RED the most restrictive.

>>> parse("TLP:White")
'CLEAR'
>>> strictest(["GREEN", "AMBER"])
'AMBER'
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, get_args

from .errors import Malformed

Level = Literal["RED", "AMBER+STRICT", "AMBER", "GREEN", "CLEAR"]

LEVELS: Final[tuple[Level, ...]] = get_args(Level)
"""Most restrictive first."""

UNMARKED: Final[Level] = "AMBER+STRICT"
"""What holds where nobody marked anything."""

_RANK: Final[dict[str, int]] = {level: rank for rank, level in enumerate(reversed(LEVELS))}
_BY_NAME: Final[dict[str, Level]] = {level: level for level in LEVELS} | {"WHITE": "CLEAR"}


def rank(level: str) -> int:
    """0 for CLEAR up to 4 for RED. Raises KeyError on anything that is not a level."""
    return _RANK[level]


def at_most(level: str, ceiling: str) -> bool:
    """Whether ``level`` is no more restrictive than ``ceiling``."""
    return _RANK[level] <= _RANK[ceiling]


def strictest(levels: Iterable[Level]) -> Level:
    """The most restrictive of ``levels``; of none, :data:`UNMARKED`."""
    return max(levels, key=rank, default=UNMARKED)


def parse(text: str) -> Level:
    """The level a person or another system wrote: any case, with or without ``TLP:``, 1.0's WHITE as CLEAR.

    Raises:
        Malformed: ``bad-tlp``.
    """
    name = text.strip().upper().removeprefix("TLP:").strip()
    # str.upper() maps some non-ASCII letters onto ASCII ones; a label that only looks like one is not read as one.
    level = _BY_NAME.get(name) if text.isascii() else None
    if level is None:
        raise Malformed("bad-tlp", "A marking is not a level of TLP 2.0.", f"Use one of: {', '.join(LEVELS)}.")
    return level


def label(level: Level) -> str:
    """The level as TLP 2.0 writes it in full: ``TLP:AMBER+STRICT``. Never translated."""
    return f"TLP:{level}"
