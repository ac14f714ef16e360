"""The tormented network: its offices, who reports from where, what is written, and rules plain enough to judge by hand.

A grant is ``{"office", "parts", "areas", "min_severity", "tlp_up_to"}``: areas are listed one by one and have nothing
below them, there is no group and no forbid. The same grants become signed rules for the network and lines of the
journal for the judge.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

from kengele_schemas.fields import read
from kengele_schemas.keys import HYBRID, X25519
from kengele_schemas.policy import Rule

OFFICES: Final = {"unrcca": X25519, "council": X25519, "cewarn": HYBRID, "observer": X25519}
"""Suite by office; ``unrcca`` is the custodian."""
AREAS: Final = ("KG-O", "KG-B", "KG-J", "KE-01", "KE-02", "KE-03")
_KYRGYZ, _KENYAN = AREAS[:3], AREAS[3:]
_CATEGORIES: Final = ("rumour", "armed-clash", "shelling", "explosion")
_LAST_DAY: Final = "2199-12-31"


def node_names(count: int) -> list[str]:
    return [f"node-{number:02}" for number in range(count)]


def area_of(node: str) -> str:
    """Where the monitor at this node reports from."""
    return AREAS[int(node.rpartition("-")[2]) % len(AREAS)]


def grants(turn: int) -> list[dict[str, Any]]:
    """The rules' plain form in their ``turn``-th version: in every other, one office reads less and one nothing."""
    found = [
        _grant("unrcca", ["summary", "account", "source"], _KYRGYZ, 1, "RED"),
        _grant("council", ["summary"], _KYRGYZ, 2, "AMBER"),
        _grant("cewarn", ["summary", "account"], _KENYAN, 1, "RED"),
    ]
    if turn % 2 == 0:
        found += [
            _grant("council", ["account"], _KYRGYZ, 2, "GREEN"),
            _grant("observer", ["summary"], AREAS, 4, "GREEN"),
        ]
    return found


def _grant(office: str, parts: list[str], areas: Sequence[str], severity: int, tlp: str) -> dict[str, Any]:
    return {"office": office, "parts": parts, "areas": list(areas), "min_severity": severity, "tlp_up_to": tlp}


def rules(turn: int) -> list[Rule]:
    """:func:`grants` as coordinators sign them. The reason tells which turn it is."""
    return [
        read(
            Rule,
            {
                "id": f"rule-{number}",
                "grant": sorted(grant["parts"]),
                "to": [f"office:{grant['office']}"],
                "areas": grant["areas"],
                "categories": ["*"],
                "min_severity": grant["min_severity"],
                "tlp_up_to": grant["tlp_up_to"],
                "expires": _LAST_DAY,
                "reason": f"turn {turn}",
            },
        )
        for number, grant in enumerate(grants(turn))
    ]


def draft(dice: random.Random, node: str, number: int, day: str) -> dict[str, Any]:
    """What the monitor at ``node`` writes; each text is another."""
    text = f"{node} {number} {dice.getrandbits(64):016x}"
    value: dict[str, Any] = {
        "area": area_of(node),
        "categories": [dice.choice(_CATEGORIES)],
        "severity": dice.randint(1, 5),
        "day": day,
        "tlp": dice.choice(("GREEN", "AMBER", "RED")),
        "summary": {"text": f"Summary {text}", "lang": "en"},
        "account": {"text": f"Account {text} {'x' * dice.randint(0, 300)}", "lang": "en"},
    }
    if dice.random() < 0.1:
        value["handling"] = {"caveats": [{"not_to": ["office:council"]}]}
    return value
