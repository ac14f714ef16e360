"""The one function that says who may read what: in the monitor's preview, the node's sealing, the hub's routing.

    >>> compiled = Compiled([policy], offices, areas)
    >>> compiled.release(header, today)["unrcca"]
    Decision(bits=7, rules=('unrcca-central-asia',))

For each area the rules over it are numbered, and integers say bit by bit which of them speak of a category, a severity
or a marking. A header is decided by a few ANDs, and what the rules that are left release is remembered by their bits:
the cost of a decision does not grow with rules for elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

from . import taxonomy
from .areas import EVERYWHERE, Areas
from .compartments import GRANTABLE, HANDLING_BIT, bitmap
from .errors import Malformed
from .policy import PolicyFile, Rule
from .report import Caveat
from .roster import Offices
from .tlp import rank

_MEMO: Final = 50_000
_NAMED: Final = 12
"""Releases remembered; different ones are few, however many headers there are."""


class Facts(Protocol):
    """What of a header decides."""

    @property
    def area(self) -> str: ...
    @property
    def categories(self) -> tuple[str, ...]: ...
    @property
    def severity(self) -> int: ...
    @property
    def tlp(self) -> str: ...


class Decision(NamedTuple):
    """What is released to one office: compartments as bits, ``handling`` with them, and the rules that decided.

    For each compartment that is released one grant is named, for each that was granted and taken away one forbid: of
    several the first by id. So a decision names six rules at most, however many speak of a report.
    """

    bits: int
    rules: tuple[str, ...]


class Verdict(NamedTuple):
    """On one office and compartment: allowed or not, by which rules; by none if nothing spoke of it."""

    allowed: bool
    rules: tuple[str, ...]


class _Rule(NamedTuple):
    id: str
    grant: bool
    bits: int
    to: frozenset[str]
    categories: frozenset[str] | None
    severities: tuple[int, int]
    ranks: tuple[int, int]
    expires: date


class _Cell:
    """The rules over one area on one day. In all integers here bit ``i`` stands for the ``i``-th of them."""

    def __init__(self, rules: Sequence[_Rule]) -> None:
        self.rules = rules
        self.released: dict[int, dict[str, Decision]] = {}
        self._grants = _bits(rule.grant for rule in rules)
        self._forbids = _bits(not rule.grant for rule in rules)
        # Tuples, and one table of places in them for all cells: they fit the processor's cache where dicts would not.
        self._slots = _slots()
        self._by_category = tuple(
            _bits(rule.categories is None or code in rule.categories for rule in rules) for code in (*self._slots, "")
        )
        self._by_severity = tuple(
            _bits(rule.severities[0] <= severity <= rule.severities[1] for rule in rules) for severity in range(6)
        )
        self._by_rank = tuple(_bits(rule.ranks[0] <= level <= rule.ranks[1] for rule in rules) for level in range(5))
        named = frozenset[str]().union(*(rule.to for rule in rules))
        self._by_office = [(office, _bits(office in rule.to for rule in rules)) for office in sorted(named)]
        self._decisions: dict[tuple[str, int], Decision | None] = {}

    def speaking(self, header: Facts) -> int:
        """The rules that speak of ``header``. A grant must cover all its categories, a forbid any one."""
        by_category, slots, categories = self._by_category, self._slots, header.categories
        if len(categories) == 1:
            found = by_category[slots.get(categories[0], -1)]
        else:
            every, some = self._grants, by_category[-1]
            for category in categories:
                covering = by_category[slots.get(category, -1)]
                every &= covering
                some |= covering
            found = every | some & self._forbids
        return found & self._by_severity[header.severity] & self._by_rank[rank(header.tlp)]

    def release(self, speaking: int) -> dict[str, Decision]:
        """What the rules in ``speaking`` release together."""
        released = {}
        for office, own in self._by_office:
            if bits := speaking & own:
                key = office, bits
                if key not in self._decisions:
                    self._decisions[key] = _decision(self.of(bits))
                if decision := self._decisions[key]:
                    released[office] = decision
        return released

    def of(self, bits: int) -> list[_Rule]:
        """The rules in ``bits``."""
        return [self.rules[number] for number in _numbers(bits)]


class Compiled:
    """Policies made ready. All rules of all files hold together; only active offices are given anything."""

    def __init__(self, policies: Sequence[PolicyFile], offices: Offices, areas: Areas) -> None:
        """Raises BadRule: a rule names what does not exist, or two have one id, in whichever files."""
        self._areas = areas
        self._active = offices.active
        active = frozenset(offices.active)
        self._rules: list[_Rule] = []
        self._by_area: dict[str, list[int]] = {}
        seen: set[str] = set()
        for rule in (rule for policy in policies for rule in policy.rules):
            if rule.id in seen:
                raise BadRule(rule.id, "id", "has the id of another rule", "Give each rule an id of its own.")
            seen.add(rule.id)
            check_rule(rule, offices, areas)
            for area in rule.areas:
                self._by_area.setdefault(area, []).append(len(self._rules))
            self._rules.append(_compile(rule, offices, active))
        self._forget(date.min)

    def release(self, header: Facts, today: date) -> dict[str, Decision]:
        """What each office may read of a report with this ``header``; offices that may read nothing are left out.

        The result is shared: do not change it.
        """
        cell = self._over(header.area, today)
        speaking = cell.speaking(header)
        found = cell.released.get(speaking)
        if found is None:
            self._held += 1
            if self._held > _MEMO:
                self._forget(today)
            found = cell.released[speaking] = cell.release(speaking)
        return found

    def explain(self, header: Facts, today: date) -> dict[str, dict[str, Verdict]]:
        """For every active office and every compartment, whether it is released and which rules decided."""
        cell = self._over(header.area, today)
        matching = cell.of(cell.speaking(header))
        return {office: {name: _verdict(matching, office, name) for name in GRANTABLE} for office in self._active}

    def _forget(self, day: date) -> None:
        self._day = day
        self._held = 0
        self._cells: dict[str, _Cell] = {}
        self._alike: dict[tuple[int, ...], _Cell] = {}

    def _over(self, area: str, today: date) -> _Cell:
        """The rules over ``area``; over one that is not known, those for everywhere."""
        if today != self._day:
            self._forget(today)
        cell = self._cells.get(area)
        if cell is not None:
            return cell
        known = self._areas.known(area)
        named = (EVERYWHERE, *self._areas.ancestors(area)) if known else (EVERYWHERE,)
        numbers = {number for code in named for number in self._by_area.get(code, ())}
        alive = tuple(sorted(number for number in numbers if self._rules[number].expires >= today))
        # Most areas have no rule of their own: they share the cell, and what it remembers.
        cell = self._alike.get(alive)
        if cell is None:
            cell = self._alike[alive] = _Cell([self._rules[number] for number in alive])
        if known:
            self._cells[area] = cell
        return cell


@lru_cache(maxsize=1)
def _slots() -> dict[str, int]:
    """The place of each category that a report may name; one that is not known has the last."""
    return {code: place for place, code in enumerate(taxonomy.leaves())}


def _bits(truths: Iterable[bool]) -> int:
    return sum(1 << number for number, true in enumerate(truths) if true)


def _numbers(bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def _decision(rules: Sequence[_Rule]) -> Decision | None:
    """What ``rules``, which all speak of one header and one office, come to."""
    # By compartment; of several rules the first by id.
    grants: dict[int, str] = {}
    forbids: dict[int, str] = {}
    for rule in sorted(rules, key=lambda rule: rule.id):
        for place in _numbers(rule.bits):
            (grants if rule.grant else forbids).setdefault(place, rule.id)
    released = {place for place in grants if place not in forbids}
    if not released:
        return None
    deciding = {forbids.get(place, name) for place, name in grants.items()}
    return Decision(sum(1 << place for place in released) | HANDLING_BIT, tuple(sorted(deciding)))


def _verdict(matching: Iterable[_Rule], office: str, compartment: str) -> Verdict:
    bit = bitmap((compartment,))
    speaking = [rule for rule in matching if rule.bits & bit and office in rule.to]
    forbids = sorted(rule.id for rule in speaking if not rule.grant)
    grants = sorted(rule.id for rule in speaking if rule.grant)
    return Verdict(bool(grants) and not forbids, tuple(forbids or grants))


def narrow(release: Mapping[str, Decision], caveats: Iterable[Caveat], offices: Offices) -> dict[str, Decision]:
    """``release`` less what the author's caveats take away; an author narrows, and never widens.

    Raises:
        Malformed: ``unknown-reader``: a caveat names an office or group that does not exist, and so would not protect.
    """
    taken: dict[str, int] = {}
    for caveat in caveats:
        bits = bitmap(GRANTABLE if "*" in caveat.compartments else caveat.compartments)
        for audience in caveat.not_to:
            try:
                members = offices.members(audience)
            except KeyError:
                near = ", ".join(offices.suggest(audience))
                known = ", ".join(offices.audiences[:_NAMED]) or "none yet"
                raise Malformed(
                    "unknown-reader",
                    "A caveat names an office or group that does not exist.",
                    f"Perhaps: {near}." if near else f"There are: {known}.",
                ) from None
            for office in members:
                taken[office] = taken.get(office, 0) | bits
    narrowed = {}
    for office, (bits, rules) in release.items():
        kept = bits & ~taken.get(office, 0)
        if kept & ~HANDLING_BIT:
            narrowed[office] = Decision(kept, rules)
    return narrowed


class BadRule(Malformed):
    """A rule that cannot hold. ``path`` is the field at fault (``areas[1]``), ``problem`` the sentence without it."""

    def __init__(self, rule: str, path: str, problem: str, mend: str) -> None:
        super().__init__("bad-rule", f"The rule '{rule}' {problem}.", mend)
        self.rule = rule
        self.path = path
        self.problem = problem


def check_rule(rule: Rule, offices: Offices, areas: Areas) -> None:
    """Checks that all a rule names exists. Raises BadRule, with the nearest names that do."""
    for error in unknown_names(rule, offices, areas):
        raise error


def unknown_names(rule: Rule, offices: Offices, areas: Areas) -> Iterator[BadRule]:
    """An error for each name in ``rule`` that does not exist."""
    for i, audience in enumerate(rule.to):
        try:
            offices.members(audience)
        except KeyError:
            near = offices.suggest(audience)
            some = ", ".join(offices.audiences[:_NAMED])
            there = f"There are: {some}." if some else "There are no offices yet."
            yield _bad(rule, f"to[{i}]", "is for an office or group that does not exist", near, there)
    for i, area in enumerate(rule.areas):
        if area != EVERYWHERE and not areas.known(area):
            yield _bad(rule, f"areas[{i}]", "names an area that does not exist", areas.suggest(area))
    for i, code in enumerate(rule.categories):
        if code != EVERYWHERE and not taxonomy.known(code):
            yield _bad(
                rule,
                f"categories[{i}]",
                "names a category that does not exist",
                get_close_matches(code, taxonomy.codes(), 3),
            )


def _bad(
    rule: Rule, path: str, problem: str, near: Sequence[str], otherwise: str = "Look for a typing error."
) -> BadRule:
    return BadRule(rule.id, path, problem, f"Perhaps: {', '.join(near)}." if near else otherwise)


def _compile(rule: Rule, offices: Offices, active: frozenset[str]) -> _Rule:
    categories = None
    if EVERYWHERE not in rule.categories:
        categories = frozenset(leaf for code in rule.categories for leaf in taxonomy.leaves(code))
    lowest = rank(rule.tlp_from) if rule.tlp_from else 0
    highest = rank(rule.tlp_up_to) if rule.tlp_up_to else rank("RED")
    return _Rule(
        rule.id,
        rule.grant is not None,
        bitmap(rule.compartments),
        frozenset[str]().union(*map(offices.members, rule.to)) & active,
        categories,
        (rule.min_severity, rule.max_severity),
        (lowest, highest),
        rule.expires or date.max,
    )
