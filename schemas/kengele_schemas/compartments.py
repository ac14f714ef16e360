"""The compartments of a tension report, their order and their bits. The order is part of the wire format."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

HANDLING: Final = "handling"
REPORT_COMPARTMENTS: Final = (HANDLING, "summary", "account", "place", "people", "source", "media")
"""Fixed order; bit ``i`` of a compartment bitmap stands for the ``i``-th name."""

GRANTABLE: Final = REPORT_COMPARTMENTS[1:]
"""What a rule may name. ``handling`` is never named: it goes along with any other compartment."""

_BIT: Final = {name: 1 << i for i, name in enumerate(REPORT_COMPARTMENTS)}
HANDLING_BIT: Final = _BIT[HANDLING]
ALL_BITS: Final = (1 << len(REPORT_COMPARTMENTS)) - 1


def bitmap(names: Iterable[str]) -> int:
    """The bitmap of compartment ``names``. Raises KeyError on an unknown name."""
    bits = 0
    for name in names:
        bits |= _BIT[name]
    return bits


def names(bits: int) -> tuple[str, ...]:
    """The compartment names in ``bits``, in wire order."""
    return tuple(name for i, name in enumerate(REPORT_COMPARTMENTS) if bits >> i & 1)
