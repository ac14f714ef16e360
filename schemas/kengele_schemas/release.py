"""The one function that says who may read what: in the monitor's preview, the node's sealing, the hub's routing.

    >>> compiled = Compiled([policy], offices, areas)
    >>> compiled.release(header, today)["unrcca"]
    Decision(bits=7, rules=('unrcca-central-asia',))

Rules are kept under the areas they name, so a header meets only those of its own area and of what lies above it: the
cost of a decision does not grow with rules for elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from difflib import get_close_matches
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
"""Decisions remembered; the domain of headers is finite and networks live in a small part of it."""


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

    These are the grants that gave something that no forbid took, and the forbids that took something granted.
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


class Compiled:
    """Policies made ready. All rules of all files hold together; only active offices are given anything."""

    def __init__(self, policies: Sequence[PolicyFile], offices: Offices, areas: Areas) -> None:
        """Raises BadRule: a rule names what does not exist, or two have one id, in whichever files."""
        self._areas = areas
        self._active = offices.active
        active = frozenset(offices.active)
        self._by_area: dict[str, list[_Rule]] = {}
        self._memo: dict[tuple[str, tuple[str, ...], int, str], dict[str, Decision]] = {}
        self._day: date | None = None
        seen: set[str] = set()
        for rule in (rule for policy in policies for rule in policy.rules):
            if rule.id in seen:
                raise BadRule(rule.id, "id", "has the id of another rule", "Give each rule an id of its own.")
            seen.add(rule.id)
            check_rule(rule, offices, areas)
            row = _compile(rule, offices, active)
            for area in rule.areas:
                self._by_area.setdefault(area, []).append(row)

    def release(self, header: Facts, today: date) -> dict[str, Decision]:
        """What each office may read of a report with this ``header``; offices that may read nothing are left out.

        The result is shared: do not change it.
        """
        if today != self._day:
            self._memo.clear()
            self._day = today
        key = (header.area, tuple(header.categories), header.severity, header.tlp)
        found = self._memo.get(key)
        if found is None:
            if len(self._memo) >= _MEMO:
                self._memo.clear()
            found = self._memo[key] = self._release(header, today)
        return found

    def _release(self, header: Facts, today: date) -> dict[str, Decision]:
        granted: dict[str, int] = {}
        forbidden: dict[str, int] = {}
        matching = self._matching(header, today)
        for rule in matching:
            into = granted if rule.grant else forbidden
            for office in rule.to:
                into[office] = into.get(office, 0) | rule.bits
        released = {office: bits & ~forbidden.get(office, 0) for office, bits in granted.items()}
        deciding: dict[str, list[str]] = {office: [] for office in sorted(granted) if released[office]}
        for rule in matching:
            for office in rule.to:
                if office in deciding and rule.bits & (released if rule.grant else granted)[office]:
                    deciding[office].append(rule.id)
        return {
            office: Decision(released[office] | HANDLING_BIT, tuple(sorted(rules)))
            for office, rules in deciding.items()
        }

    def explain(self, header: Facts, today: date) -> dict[str, dict[str, Verdict]]:
        """For every active office and every compartment, whether it is released and which rules decided."""
        matching = self._matching(header, today)
        return {office: {name: _verdict(matching, office, name) for name in GRANTABLE} for office in self._active}

    def _matching(self, header: Facts, today: date) -> list[_Rule]:
        """The rules that speak of ``header``, each once. A grant must cover all its categories, a forbid any one."""
        areas: Iterable[str] = (EVERYWHERE,)
        if self._areas.known(header.area):
            areas = (EVERYWHERE, *self._areas.ancestors(header.area))
        level = rank(header.tlp)
        categories = header.categories
        found: dict[str, _Rule] = {}  # by id, as a rule may name several areas that the header's lies in
        for area in areas:
            for rule in self._by_area.get(area, ()):
                if (
                    rule.expires >= today
                    and rule.severities[0] <= header.severity <= rule.severities[1]
                    and rule.ranks[0] <= level <= rule.ranks[1]
                    and (rule.categories is None or _covers(rule, categories))
                ):
                    found[rule.id] = rule
        return list(found.values())


def _covers(rule: _Rule, categories: Iterable[str]) -> bool:
    covered = (category in (rule.categories or ()) for category in categories)
    return all(covered) if rule.grant else any(covered)


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
                raise Malformed(
                    "unknown-reader",
                    "A caveat names an office or group that does not exist.",
                    f"Perhaps: {near}." if near else "",
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
    for i, audience in enumerate(rule.to):
        try:
            offices.members(audience)
        except KeyError:
            raise _bad(
                rule, f"to[{i}]", "is for an office or group that does not exist", offices.suggest(audience)
            ) from None
    for i, area in enumerate(rule.areas):
        if area != EVERYWHERE and not areas.known(area):
            raise _bad(rule, f"areas[{i}]", "names an area that does not exist", areas.suggest(area))
    for i, code in enumerate(rule.categories):
        if code != EVERYWHERE and not taxonomy.known(code):
            near = get_close_matches(code, taxonomy.codes(), 3)
            raise _bad(rule, f"categories[{i}]", "names a category that does not exist", near)


def _bad(rule: Rule, path: str, problem: str, near: Sequence[str]) -> BadRule:
    return BadRule(rule.id, path, problem, f"Perhaps: {', '.join(near)}." if near else "Look for a typing error.")


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
