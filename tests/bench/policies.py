"""What deciding by rules costs: headers a second, beside Cedar in the same run, in seconds of one core's time.

The network has 40 offices, some of them in groups. A rule names one office or group, one to three of the first 40
countries of the packaged world or, rarely, everywhere, and categories, severities, markings and last days at random; a
header any area of the packaged world, any category, severity and marking, each header once, so that nothing that is
remembered of a whole header could help. "Elsewhere": each rule names an area of its own, and headers are from ten.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from datetime import date
from typing import Any, Final

from kengele_schemas import taxonomy
from kengele_schemas.areas import Areas
from kengele_schemas.compartments import GRANTABLE
from kengele_schemas.diff import diff
from kengele_schemas.domain import Side
from kengele_schemas.policy import PolicyFile, Rule
from kengele_schemas.release import Compiled
from kengele_schemas.roster import Offices
from kengele_schemas.tlp import LEVELS
from oracle.cedar import Cedar
from oracle.worlds import Facts, offices_file

TODAY: Final = date(2026, 11, 24)
WORLD: Final = Areas.world()
OFFICES: Final = tuple(f"office-{number}" for number in range(40))
GROUPS: Final = {
    "government": [f"office:{office}" for office in OFFICES[:8]],
    "regional": [f"office:{office}" for office in OFFICES[8:20]],
    "un": ["group:regional", "office:office-20", "office:office-21"],
}
OFFICES_FILE: Final = offices_file(dict.fromkeys(OFFICES, "active"), GROUPS)
ROSTER: Final = Offices(OFFICES_FILE)
COUNTRIES: Final = tuple(row.code for row in WORLD if row.kind == "country")[:40]
UNITS: Final = tuple(row.code for row in WORLD if row.kind == "admin1" and not row.replaced_by)
ROUNDS: Final = 3


def rule(rng: random.Random, name: str, areas: Sequence[str]) -> Rule:
    """A rule of this network for ``areas``."""
    grants = rng.random() < 0.8
    audience = rng.choice(list(GROUPS)) if rng.random() < 0.1 else ""
    document: dict[str, Any] = {
        "id": name,
        "grant" if grants else "forbid": tuple(rng.sample(GRANTABLE, rng.randint(1, 4))),
        "to": (f"group:{audience}" if audience else f"office:{rng.choice(OFFICES)}",),
        "areas": tuple(areas),
        "categories": tuple(rng.choice([["*"], ["conflict"], ["peace"], rng.sample(taxonomy.codes(), 4)])),
        "min_severity": rng.choice([1, 1, 2, 3]),
        "tlp_up_to": rng.choice(LEVELS[:3]),
        "expires": date(2027, rng.randint(1, 12), rng.choice([14, 28])),
        "reason": "bench",
    }
    return Rule.model_validate(document)


def rules(count: int, seed: int = 1) -> tuple[Rule, ...]:
    """That many rules over the countries; the same seed gives the same."""
    rng = random.Random(seed)
    return tuple(
        rule(rng, f"r{number}", ["*"] if rng.random() < 0.02 else rng.sample(COUNTRIES, rng.randint(1, 3)))
        for number in range(count)
    )


def headers(count: int, areas: Sequence[str], seed: int = 2) -> list[Facts]:
    """That many headers, no two alike, in no order."""
    rng = random.Random(seed)
    leaves = taxonomy.leaves()
    numbers = rng.sample(range(len(areas) * len(leaves) * 25), count)
    return [
        Facts(areas[n // 25 // len(leaves)], (leaves[n // 25 % len(leaves)],), n % 5 + 1, LEVELS[n // 5 % 5])
        for n in numbers
    ]


def pace(compiled: Compiled, asked: Sequence[Facts]) -> float:
    """Headers decided in a second of one core's time."""
    started = time.process_time()
    for header in asked:
        compiled.release(header, TODAY)
    return len(asked) / (time.process_time() - started)


def cold(listed: Sequence[Rule], asked: Sequence[Facts]) -> float:
    """As :func:`pace`, by rules that were compiled just now and remember nothing."""
    return statistics.median(
        pace(Compiled([PolicyFile(version=1, rules=tuple(listed))], ROSTER, WORLD), asked) for _ in range(ROUNDS)
    )


def cedar_pace(listed: Sequence[Rule], asked: Sequence[Facts], seconds: float = 1.0) -> float:
    """Headers that Cedar decides in a second, for all offices and compartments; policies parsed beforehand."""
    judge = Cedar(listed, OFFICES_FILE, tuple(WORLD))
    started, count = time.process_time(), 0
    while (passed := time.process_time() - started) < seconds:
        judge.explain(asked[count], TODAY)
        count += 1
    return count / passed


def measured() -> dict[str, Any]:
    """Every figure by its name."""
    found: dict[str, Any] = {}
    everywhere = [row.code for row in WORLD]
    asked = headers(200_000, everywhere)
    for count in (100, 1_000, 10_000):
        listed = rules(count)
        found[f"release_{count}"] = round(cold(listed, asked))
        found[f"release_cedar_{count}"] = round(cedar_pace(listed, asked), 2)
    rng = random.Random(3)
    apart = [rule(rng, f"r{number}", [UNITS[number % len(UNITS)]]) for number in range(10_000)]
    few = headers(18_000, UNITS[:10])
    for count in (10, 100, 1_000, 10_000):
        found[f"release_elsewhere_{count}"] = round(cold(apart[:count], few))
    some = list(rules(1_000))
    for number in rng.sample(range(len(some)), 50):
        some[number] = rule(rng, f"changed-{number}", rng.sample(COUNTRIES, 2))
    found["diff_50_of_1000_seconds"] = seconds(rules(1_000), some)
    found["diff_all_of_1000_seconds"] = seconds(rules(1_000), rules(1_000, seed=4))
    return found


def seconds(old: Sequence[Rule], new: Sequence[Rule]) -> float:
    """What the exact difference takes, with all names still to be resolved."""
    started = time.process_time()
    diff(Side.of(old, ROSTER, WORLD), Side.of(new, ROSTER, WORLD), TODAY)
    return round(time.process_time() - started, 2)
