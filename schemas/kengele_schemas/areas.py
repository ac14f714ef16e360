"""Where: areas as a graph in which each may lie in several others, and what a rule on one of them covers.

A code's text says nothing; only the table of parents does, because P-codes and ISO 3166-2 codes follow no one scheme.
Codes change, so a row may name what replaced it, and a rule on the old code goes on covering what took its place.

    >>> world = Areas.world()
    >>> world.covers("XB-FERGANA", "KG-B")
    True
    >>> world.find("Sudan", "North Darfur state")
    'SD-DN'
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import date
from difflib import get_close_matches
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from .errors import Malformed
from .fields import AreaCode, Day, Exactly1, Items, Line, Model

EVERYWHERE: Final = "*"
Kind = Literal["world", "region", "country", "admin1", "admin2", "rec", "cluster", "office-area"]
_LEVEL: Final[dict[str, int]] = {"country": 0, "admin1": 1, "admin2": 2}


class AreaRow(Model):
    """One area; ``names`` are further names by which people and data sets call it."""

    code: AreaCode
    name: Annotated[str, Line(120)]
    kind: Kind
    parents: Annotated[tuple[AreaCode, ...], Items, Field(max_length=16)] = ()
    valid_from: Day | None = None
    valid_to: Day | None = None
    replaced_by: Annotated[tuple[AreaCode, ...], Items, Field(max_length=64)] = ()
    names: Annotated[tuple[Annotated[str, Line(120)], ...], Items, Field(max_length=16)] = ()


class AreasFile(Model):
    """The document ``areas.json``: what a network uses of the world, and groups of its own."""

    v: Exactly1 = 1
    areas: Annotated[tuple[AreaRow, ...], Items, Field(max_length=20_000)]


def _refuse(sentence: str, mend: str) -> Malformed:
    return Malformed("bad-areas", sentence, mend)


class Areas:
    """The graph of an :class:`AreasFile`. Lookups of an unknown code raise KeyError unless they say otherwise."""

    def __init__(self, document: AreasFile) -> None:
        """Raises Malformed, ``bad-areas``: a code twice, a parent or replacement that is not there, or a cycle."""
        self._rows = {row.code: row for row in document.areas}
        if len(self._rows) != len(document.areas):
            raise _refuse("An area's code occurs twice.", "Give each area one row.")
        self._replaces: dict[str, list[str]] = {}
        for row in document.areas:
            for other in (*row.parents, *row.replaced_by):
                if other not in self._rows:
                    raise _refuse(f"The area {row.code} names {other}, which is not in the table.", "Add a row for it.")
            for new in row.replaced_by:
                self._replaces.setdefault(new, []).append(row.code)
        self._check_acyclic()
        self._ancestors: dict[str, frozenset[str]] = {}

    @classmethod
    def world(cls) -> Areas:
        """The packaged table: M49 regions, countries, ISO 3166-2 units, and seeds of regional groups. Read once."""
        return _world()

    def __contains__(self, code: object) -> bool:
        return code in self._rows

    def __iter__(self) -> Iterator[AreaRow]:
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, code: str) -> AreaRow:
        return self._rows[code]

    def known(self, code: str) -> bool:
        return code in self._rows

    def current(self, code: str, day: date) -> bool:
        """Whether ``code`` is known and in use on ``day``, its first and last day included."""
        row = self._rows.get(code)
        return row is not None and (row.valid_from or day) <= day <= (row.valid_to or day)

    def ancestors(self, code: str) -> frozenset[str]:
        """``code``, all areas that it lies in, and the old codes that any of these replaced.

        Where one area took another's place, each counts as lying in the other; where an area was split, the parts lie
        in the old one only; where areas were merged, a rule on any of the old ones covers the whole of the new one.
        """
        found = self._ancestors.get(code)
        if found is None:
            found = self._ancestors[code] = frozenset(self._climb(code))
        return found

    def covers(self, parent: str, code: str) -> bool:
        """Whether a rule on ``parent`` (a code or ``*``) speaks of ``code``. Of an unknown one only ``*`` does."""
        return parent == EVERYWHERE or (code in self._rows and parent in self.ancestors(code))

    def below(self, code: str) -> frozenset[str]:
        """``code`` and all that a rule on it covers."""
        return self._below[code]

    def coarsen(self, code: str, level: int) -> str:
        """The area to put into a header whose precision is ``level``: 0 country, 1 admin-1, 2 admin-2.

        An area that is no finer stays, as do groups of countries or units. One that lies in several units of that level
        is coarsened further, to the first level where it lies in only one.
        """
        if _LEVEL.get(self._rows[code].kind, level + 1) <= level:
            return code
        for candidate in range(level, -1, -1):
            units = [area for area in self._upward(code) if _LEVEL.get(self._rows[area].kind) == candidate]
            if len(units) == 1:
                return units[0]
        return code

    def country_of(self, code: str) -> str | None:
        """The one country that ``code`` is or lies in, None for groups and for areas that lie in several."""
        countries = [area for area in self._upward(code) if self._rows[area].kind == "country"]
        return countries[0] if len(countries) == 1 else None

    def find(self, country_name: str, adm1_name: str = "") -> str | None:
        """The one area that a data set calls so, whatever its accents and type words ("Borno state"); else None.

        With an empty ``adm1_name`` the country. Names are matched exactly, never by likeness: a wrong area would lead a
        report to the wrong office.
        """
        country = self._one(self._country_names, _spellings(country_name))
        if country is None or not adm1_name:
            return country
        return self._one(self._unit_names.get(country, {}), _spellings(adm1_name))

    def called(self, name: str, within: Iterable[str]) -> tuple[str, ...]:
        """Of the areas in use at or below ``within`` those that people call so, accents and type words aside."""
        below = frozenset[str]().union(*(self.below(code) for code in within if code in self._rows))
        index = self._index(row for row in self._rows.values() if row.code in below and not row.replaced_by)
        return next((tuple(sorted(index[spelling])) for spelling in _spellings(name) if spelling in index), ())

    def suggest(self, unknown: str, count: int = 3) -> tuple[str, ...]:
        """The codes nearest to ``unknown``, by code or by name, best first."""
        wanted = unknown[:64].strip()
        by_code = get_close_matches(wanted.upper(), self._rows, count, 0.7)
        by_name = get_close_matches(_fold(wanted), self._folded, count, 0.7)
        return tuple(dict.fromkeys([*by_code, *(self._folded[name] for name in by_name)]))[:count]

    def hint(self, unknown: str) -> str:
        """What to do about an area that is not known: the nearest, or what a known one looks like."""
        near = self.suggest(unknown)
        few = near or tuple(row.code for row in self if not row.replaced_by)[:5]
        named = ", ".join(f"{code} ({self.row(code).name})" for code in few)
        return f"Perhaps: {named}." if near else f"Give the code of one that is known, such as {named}."

    def subset(self, codes: Iterable[str]) -> AreasFile:
        """The document that holds ``codes`` and all that they lie in, replaced codes included.

        All parts of a code that was split come along: with one part left, that part would seem to be the whole.
        """
        kept = frozenset[str]()
        wanted = frozenset(codes)
        while not wanted <= kept:
            kept |= frozenset[str]().union(*(self.ancestors(code) for code in wanted))
            wanted = frozenset(new for code in kept for new in self._rows[code].replaced_by)
        return AreasFile(areas=tuple(row for row in self._rows.values() if row.code in kept))

    def _upward(self, code: str) -> set[str]:
        """``code`` and what it lies in by the table of parents alone."""
        seen: set[str] = set()
        stack = [code]
        while stack:
            area = stack.pop()
            if area not in seen:
                seen.add(area)
                stack.extend(self._rows[area].parents)
        return seen

    def _climb(self, code: str) -> set[str]:
        seen: set[tuple[str, bool]] = set()
        stack = [(code, True)]
        while stack:
            area, backward = state = stack.pop()
            if state in seen:
                continue
            seen.add(state)
            row = self._rows[area]
            stack.extend((above, backward) for above in row.parents)
            if backward:
                stack.extend((old, True) for old in self._replaces.get(area, ()))
            if len(row.replaced_by) == 1:
                # From an old code to the new one only: going back from there would reach the others that were merged.
                stack.append((row.replaced_by[0], False))
        return {area for area, _ in seen}

    def _check_acyclic(self) -> None:
        done: set[str] = set()
        for start in self._rows:
            path: list[str] = []
            open_: set[str] = set()
            stack: list[tuple[str, bool]] = [(start, True)]
            while stack:
                area, entering = stack.pop()
                if not entering:
                    open_.discard(path.pop())
                    done.add(area)
                elif area in open_:
                    raise _refuse(
                        f"The area {area} lies in itself.", "Look for a circle among parents and replacements."
                    )
                elif area not in done:
                    path.append(area)
                    open_.add(area)
                    stack.append((area, False))
                    above = (*self._rows[area].parents, *self._replaces.get(area, ()))
                    stack.extend((other, True) for other in above)

    @cached_property
    def _below(self) -> dict[str, frozenset[str]]:
        below: dict[str, set[str]] = {code: set() for code in self._rows}
        for code in self._rows:
            for above in self.ancestors(code):
                below[above].add(code)
        return {code: frozenset(found) for code, found in below.items()}

    @cached_property
    def _folded(self) -> dict[str, str]:
        return {_fold(name): row.code for row in reversed(self._rows.values()) for name in (*row.names, row.name)}

    @cached_property
    def _country_names(self) -> dict[str, set[str]]:
        return self._index(row for row in self._rows.values() if row.kind == "country")

    @cached_property
    def _unit_names(self) -> dict[str, dict[str, set[str]]]:
        units: dict[str, list[AreaRow]] = {}
        for row in self._rows.values():
            if row.kind in ("admin1", "admin2", "region") and (country := self.country_of(row.code)):
                units.setdefault(country, []).append(row)
        return {country: self._index(rows) for country, rows in units.items()}

    @staticmethod
    def _index(rows: Iterable[AreaRow]) -> dict[str, set[str]]:
        index: dict[str, set[str]] = {}
        for row in rows:
            for name in (row.name, *row.names):
                for spelling in _spellings(name):
                    index.setdefault(spelling, set()).add(row.code)
        return index

    def _one(self, index: dict[str, set[str]], spellings: tuple[str, ...]) -> str | None:
        for spelling in spellings:
            found = [code for code in index.get(spelling, ()) if not self._rows[code].replaced_by]
            first = [code for code in found if self._rows[code].kind == "admin1"]
            for choice in (found, first):
                if len(choice) == 1:
                    return choice[0]
        return None


_TYPE_WORDS: Final = re.compile(
    r"\b(autonomous|independent|capital|federal|city|cercle|commune|county|department|departement|district|division|emirate"
    r"|governorate|municipality|oblast|oblysy|parish|prefecture|province|region|regional|republic|state|territory|velayat|viloyat"
    r"|wilaya|wilayat|zone|of|the)\b"
)
_BRACKETS: Final = re.compile(r"\([^()]*\)")


def _fold(name: str) -> str:
    letters = (char for char in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(char))
    plain = re.sub(r"['’‘ʻʼ`´]", "", "".join(letters)).replace("&", " and ")
    return " ".join(plain.replace("-", " ").replace(",", " ").split())


@lru_cache(maxsize=4096)
def _spellings(name: str) -> tuple[str, ...]:
    """``name`` folded, without brackets, and without type words: the surest first."""
    folded = _fold(name)
    short = " ".join(_BRACKETS.sub(" ", folded).split())
    bare = " ".join(_TYPE_WORDS.sub(" ", short).split())
    return tuple(dict.fromkeys(spelling for spelling in (folded, short, bare) if spelling))


@lru_cache(maxsize=1)
def _world() -> Areas:
    packed = json.loads((files(__package__) / "data" / "areas.json").read_text("utf-8"))
    return Areas(unpack(packed))


def unpack(packed: dict[str, Any]) -> AreasFile:
    """The rows of the packaged table.

    It is kept small by leaving out what repeats: ``areas`` are rows as they are; ``units`` name the units of one kind
    in one parent; ``also`` adds parents to rows, ``names`` further names, ``replaced`` the codes no longer in use.
    """
    rows: dict[str, dict[str, Any]] = {row["code"]: dict(row) for row in packed["areas"]}
    for kind, parents in packed["units"].items():
        for parent, units in parents.items():
            for code, name in units.items():
                rows[code] = {"code": code, "name": name, "kind": kind, "parents": [parent]}
    for code, new in packed["replaced"].items():
        first = rows[new[0]]
        rows[code] = {**first, "code": code, "replaced_by": new}
    for parent, members in packed["also"].items():
        for code in members:
            rows[code]["parents"] = [*rows[code].get("parents", ()), parent]
    for code, names in packed["names"].items():
        rows[code]["names"] = names
    return AreasFile.model_validate({"v": packed["v"], "areas": list(rows.values())})
