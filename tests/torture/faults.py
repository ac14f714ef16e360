"""The schedule of faults: a pure function of the seed and of how much is asked for."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["kill", "restart", "pause", "cut", "thin", "loss", "clock", "disk", "byte", "rules", "revoke", "forge"]
Role = Literal["broker", "hub", "node", "desk", "writer"]
_KILLED: Final[dict[Role, int]] = {"node": 8, "hub": 4, "desk": 4, "broker": 3, "writer": 1}
_STOPPED: Final[dict[Role, int]] = {"node": 4, "hub": 3, "desk": 2, "broker": 1}
_CUT: Final[dict[Role, int]] = {"node": 2, "desk": 2, "hub": 1}
_HOURS: Final = 20


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: when (as a share of the acknowledged reports), what, to whom, for how long."""

    at: float
    kind: Kind
    role: Role
    pick: float
    """Which of the role's processes, as a share of their number."""
    seconds: float
    number: int
    """How far a clock is moved, in seconds, or whatever else of chance the fault needs."""


def schedule(seed: int, kills: int, nodes: int, lacking: Collection[Kind] = ()) -> list[Fault]:
    """The faults in their order. What is ``lacking`` is left out, and the others stay as they are."""
    dice = random.Random(f"faults/{seed}")
    wanted: list[tuple[Kind, int, dict[Role, int]]] = [
        ("kill", kills, _KILLED),
        ("restart", kills // 5, _STOPPED),
        ("pause", kills // 3, _STOPPED),
        ("cut", kills // 5, _CUT),
        ("thin", kills // 10, _CUT),
        ("loss", kills // 8, _CUT),
        ("clock", kills // 4, {"node": 2, "hub": 2, "desk": 1}),
        ("disk", max(1, kills // 15), {"broker": 1, "node": 1}),
        ("byte", max(1, min(kills // 12, nodes // 4)), {"node": 1}),
        ("rules", max(1, kills // 8), {"hub": 1}),
        ("revoke", max(1, min(kills // 16, nodes // 6)), {"node": 1}),
        ("forge", max(2, kills // 5), {"node": 1}),
    ]
    found: list[Fault] = []
    for kind, count, roles in wanted:
        for _ in range(count):
            role = dice.choices(list(roles), list(roles.values()))[0]
            move = dice.choice((-1, 1)) * dice.randint(60, _HOURS * 3600)
            found.append(Fault(dice.uniform(0.02, 0.9), kind, role, dice.random(), dice.uniform(*_lasting(kind)), move))
    return sorted((fault for fault in found if fault.kind not in lacking), key=lambda fault: fault.at)


def _lasting(kind: Kind) -> tuple[float, float]:
    return {"kill": (0.0, 1.5), "restart": (0.0, 1.5), "disk": (2.0, 5.0)}.get(kind, (1.0, 8.0))
