"""What a report is about: categories as codes in a tree of three levels, of conflict and of peace.

Below ``conflict`` and ``peace`` stand CEWARN's eight indicator groups, below them the leaves that reports name. A code
is stable; labels are for people, and all but the English ones are drafts until a speaker has reviewed them.

    >>> covers("peace", "ceasefire")
    True
    >>> from_acled("Battles", "Armed clash")
    ('armed-clash',)
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache
from importlib.resources import files
from typing import Final, NamedTuple

EVERY: Final = "*"
LANGUAGES: Final = ("en", "fr", "ar", "ru", "es", "sw", "ky")
REVIEWED: Final = frozenset({"en"})
"""Languages whose labels a speaker has reviewed; the others are to be shown as drafts."""


class Category(NamedTuple):
    """One node of the tree: ``labels`` by language, ACLED's event and sub-event type, GED's type of violence."""

    code: str
    parent: str | None
    labels: dict[str, str]
    acled: tuple[str, str] | None
    ged: int | None


@lru_cache(maxsize=1)
def _table() -> dict[str, Category]:
    rows = json.loads((files(__package__) / "data" / "taxonomy.json").read_text("utf-8"))["categories"]
    table = {}
    for row in rows:
        acled = row.get("acled")
        table[row["code"]] = Category(
            row["code"], row.get("parent"), row["labels"], (acled[0], acled[1]) if acled else None, row.get("ged")
        )
    return table


@lru_cache(maxsize=1)
def _groups() -> frozenset[str]:
    return frozenset(category.parent for category in _table().values() if category.parent)


def codes() -> tuple[str, ...]:
    """Every code, each parent before its children."""
    return tuple(_table())


def known(code: str) -> bool:
    """Whether ``code`` is in the taxonomy, as a leaf or a group."""
    return code in _table()


def reportable(code: str) -> bool:
    """Whether a report may name ``code``: leaves only, lest a rule on a leaf be dodged by naming its group."""
    return code in _table() and code not in _groups()


def leaves(group: str = EVERY) -> tuple[str, ...]:
    """The leaves below ``group``, in the taxonomy's order."""
    return tuple(code for code in _table() if reportable(code) and covers(group, code))


def parent(code: str) -> str | None:
    """The code above, None at the top. Raises KeyError on an unknown code."""
    return _table()[code].parent


def children(code: str) -> tuple[str, ...]:
    """The codes right below."""
    return tuple(category.code for category in _table().values() if category.parent == code)


@lru_cache(maxsize=1024)
def ancestors(code: str) -> frozenset[str]:
    """``code`` and all above it. Raises KeyError on an unknown code."""
    above = parent(code)
    return frozenset({code}) | (ancestors(above) if above else frozenset())


def covers(rule_code: str, category: str) -> bool:
    """Whether a rule on ``rule_code`` (a code or ``*``) speaks of ``category``. Of an unknown one only ``*`` does."""
    return rule_code == EVERY or (known(category) and rule_code in ancestors(category))


def _primary(lang: str) -> str:
    return lang.partition("-")[0].lower()


def label(code: str, lang: str = "en") -> str:
    """The label in the primary language of the tag ``lang``, else in English. Raises KeyError on an unknown code."""
    labels = _table()[code].labels
    return labels.get(_primary(lang), labels["en"])


def is_draft(lang: str) -> bool:
    """Whether labels in ``lang`` still await a speaker's review."""
    return _primary(lang) not in REVIEWED


def suggest(unknown: str, count: int = 3) -> tuple[str, ...]:
    """The reportable codes nearest to ``unknown`` by spelling, best first."""
    wanted = unknown[:64].strip().lower().replace(" ", "-").replace("_", "-")
    return tuple(get_close_matches(wanted, leaves(), count, 0.6))


_GED: Final = {1: "armed-clash", 2: "communal-clash", 3: "attack-on-civilians"}


def from_ged(type_of_violence: int) -> tuple[str, ...]:
    """The codes for UCDP GED's type of violence: 1 state-based, 2 non-state, 3 one-sided. Raises KeyError on others."""
    return (_GED[type_of_violence],)


def to_ged(categories: Iterable[str]) -> int | None:
    """The one type of violence that ``categories`` amount to; None where there is none, or more than one."""
    table = _table()
    types = {table[code].ged for code in categories if code in table} - {None}
    return types.pop() if len(types) == 1 else None


ACLED: Final[dict[str, dict[str, str]]] = {
    "Battles": {
        "Armed clash": "armed-clash",
        "Government regains territory": "territory-regained",
        "Non-state actor overtakes territory": "territory-seized",
    },
    "Explosions/Remote violence": {
        "Chemical weapon": "chemical-weapon",
        "Air/drone strike": "air-strike",
        "Suicide bomb": "explosion",
        "Shelling/artillery/missile attack": "shelling",
        "Remote explosive/landmine/IED": "explosion",
        "Grenade": "explosion",
    },
    "Violence against civilians": {
        "Attack": "attack-on-civilians",
        "Abduction/forced disappearance": "abduction",
        "Sexual violence": "sexual-violence",
    },
    "Protests": {
        "Peaceful protest": "protest",
        "Protest with intervention": "protest-dispersed",
        "Excessive force against protesters": "force-against-protest",
    },
    "Riots": {"Violent demonstration": "riot", "Mob violence": "mob-violence"},
    "Strategic developments": {
        "Agreement": "peace-agreement",
        "Arrests": "arrest",
        "Change to group/activity": "armed-movement",
        "Disrupted weapons use": "weapons-seized",
        "Headquarters or base established": "armed-base",
        "Looting/property destruction": "looting",
        "Non-violent transfer of territory": "territory-handed-over",
        "Other": "other-incident",
    },
}
"""ACLED's six event types and twenty-five sub-event types (codebook of 2023), each with its category here."""


def from_acled(event_type: str, sub_event_type: str) -> tuple[str, ...]:
    """The codes for one of ACLED's sub-event types. Raises KeyError where ACLED has no such pair."""
    return (ACLED[event_type][sub_event_type],)


def to_acled(categories: Iterable[str]) -> tuple[str, str] | None:
    """ACLED's event type and sub-event type for ``categories``: of several the first in this taxonomy's order, as ACLED
    takes an event's gravest act; None where it codes none of them (rumours, disputes, most signs of peace).
    """
    named = set(categories)
    return next((category.acled for code, category in _table().items() if code in named and category.acled), None)
