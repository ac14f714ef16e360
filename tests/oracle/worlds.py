"""A small network in which rules overlap often: offices in nested groups, areas in several others, rules at random."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import date, timedelta
from typing import NamedTuple

from nacl.signing import SigningKey

from kengele_schemas import taxonomy
from kengele_schemas.areas import AreaRow, Areas, AreasFile
from kengele_schemas.compartments import GRANTABLE
from kengele_schemas.encoding import b64u
from kengele_schemas.fields import read
from kengele_schemas.keys import X25519, OpeningKey
from kengele_schemas.policy import PolicyFile, Rule
from kengele_schemas.roster import Offices, OfficesFile
from kengele_schemas.tlp import LEVELS, rank

TODAY = date(2026, 11, 24)
_KEY = OpeningKey.generate(X25519).public.document()
_SIGN = b64u(bytes(SigningKey.generate().verify_key))


class Facts(NamedTuple):
    """The part of a header that rules look at."""

    area: str
    categories: tuple[str, ...]
    severity: int
    tlp: str


def offices_file(
    statuses: dict[str, str], groups: dict[str, list[str]], areas: Iterable[str] = ("WORLD",)
) -> OfficesFile:
    """Offices by id and status; all have the same keys, which no rule looks at."""
    offices = [
        {"id": id, "name": id, "areas": list(areas), "keys": [_KEY], "sign": _SIGN, "status": status}
        for id, status in statuses.items()
    ]
    return read(OfficesFile, {"offices": offices, "groups": groups})


OFFICES_FILE = offices_file(
    {"north": "active", "south": "active", "hq": "active", "council": "active", "cso": "active"}
    | {"asleep": "suspended", "gone": "revoked"},
    {
        "regional": ["office:north", "office:south", "office:asleep"],
        "un": ["office:hq", "group:regional"],
        "government": ["office:council"],
        "all": ["group:un", "group:government", "office:cso", "office:gone"],
        "none": [],
    },
)
OFFICES = Offices(OFFICES_FILE)

_PARENTS: dict[str, tuple[str, ...]] = {
    "WORLD": (),
    "NORTH": ("WORLD",),
    "SOUTH": ("WORLD",),
    "AA": ("NORTH",),
    "BB": ("NORTH",),
    "CC": ("SOUTH",),
    "RIVER": (),
    "AA-1": ("AA",),
    "AA-2": ("AA", "RIVER"),
    "BB-1": ("BB", "RIVER"),
    "CC-1": ("CC", "RIVER"),
    "CC-2": ("CC",),
    "CC-2-X": ("CC-2", "NORTH"),
}
AREA_ROWS = tuple(
    AreaRow(code=code, name=code, kind="office-area", parents=parents) for code, parents in _PARENTS.items()
)
AREAS = Areas(AreasFile(areas=AREA_ROWS))


def policy(*rules: Rule) -> PolicyFile:
    return PolicyFile(version=1, rules=rules)


def random_rule(rng: random.Random, id: str) -> Rule:
    """A rule of this world; expiry falls on either side of :data:`TODAY` and on it."""
    low, high = sorted(rng.choices(range(1, 6), k=2))
    loose, strict = sorted(rng.choices(LEVELS, k=2), key=rank)
    grants = rng.random() < 0.65
    some = rng.sample(GRANTABLE, rng.randint(1, 4))
    document: dict[str, object] = {
        "id": id,
        "grant" if grants else "forbid": some,
        "to": rng.sample(OFFICES.audiences, rng.randint(1, 2)),
        "areas": rng.choice([["*"], rng.sample(list(_PARENTS), rng.randint(1, 3))]),
        "categories": rng.choice([["*"], rng.sample(taxonomy.codes(), rng.randint(1, 4)), ["conflict"], ["peace"]]),
        "min_severity": low if rng.random() < 0.5 else 1,
        "max_severity": high if rng.random() < 0.5 else 5,
        "reason": "test",
    }
    if grants or rng.random() < 0.3:
        document["tlp_up_to"] = strict if rng.random() < 0.5 else "RED"
        document["expires"] = (TODAY + timedelta(days=rng.choice([-1, 0, 0, 1, 90]))).isoformat()
    if rng.random() < 0.3:
        document["tlp_from"] = loose if "tlp_up_to" in document else strict
    return read(Rule, document)


def random_header(rng: random.Random) -> Facts:
    area = rng.choice([*_PARENTS, "ELSEWHERE"])
    # Mostly of one group, or hardly any grant would cover all of them.
    group = rng.choice(["*", "peace", "conflict", "peace-initiative", "provocative-behaviour"])
    categories = tuple(sorted(rng.sample(taxonomy.leaves(group), rng.choice([1, 1, 2, 3, 5]))))
    return Facts(area, categories, rng.randint(1, 5), rng.choice(LEVELS))
