"""What is odd about rules: those that do nothing, that end soon or very late, that say something twice.

What a finding says of a rule's effect is meant exactly: a shadowed rule can be taken out, and no header on any day is
decided otherwise.

    >>> [finding.code for finding in lint(rules, offices, areas, today)]
    ['shadowed', 'expires-soon']
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any, Final, Literal

from . import families, taxonomy
from .areas import EVERYWHERE, Areas
from .compartments import GRANTABLE
from .diff import diff
from .domain import Domain, Row, Side
from .policy import Rule
from .release import unknown_names
from .roster import Offices

SOON: Final = timedelta(days=14)
VERY_SOON: Final = timedelta(days=3)
LATE: Final = timedelta(days=366)
Weight = Literal["error", "warning", "note"]

SENTENCES: Final[dict[str, tuple[Weight, str]]] = {
    "unknown-name": ("error", "It {detail}."),
    "expired": ("warning", "It ended on {detail} and does nothing any more."),
    "expires-soon": ("warning", "It ends on {detail}; nobody reads by it from the day after."),
    "expires-now": ("error", "It ends on {detail}, within three days; nobody reads by it from the day after."),
    "expires-late": ("note", "It lasts until {detail}, more than a year from now."),
    "empty-group": ("warning", "There is no active office in {detail}."),
    "for-nobody": ("warning", "None of those it is for is an active office."),
    "no-such-header": ("warning", "Headers name no area as small as those it is for."),
    "forbidden-wholly": ("warning", "All that it grants is forbidden, by {detail}."),
    "shadowed": ("warning", "All that it grants is granted without it, by {detail}."),
    "forbid-without-effect": ("warning", "All that it forbids is granted by nobody, or forbidden without it{detail}."),
    "named-twice": ("note", "It names {detail}."),
    "widens-sensitive": ("warning", "By it {detail}."),
}
"""What each code means; ``detail`` is what the rule itself adds."""


@dataclass(frozen=True)
class Finding:
    """One thing to look at. ``path`` is the field of the rule, where it is about one."""

    code: str
    weight: Weight
    rule: str
    path: str
    sentence: str
    mend: str = ""

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def _finding(code: str, rule: str, detail: str = "", path: str = "", mend: str = "") -> Finding:
    weight, sentence = SENTENCES[code]
    return Finding(code, weight, rule, path, sentence.format(detail=detail), mend)


def lint(
    rules: Sequence[Rule],
    offices: Offices,
    areas: Areas,
    today: date,
    *,
    in_force: Side | None = None,
    header_level: int | None = None,
) -> list[Finding]:
    """All findings, in the order of the rules.

    Args:
        in_force: what holds now, to tell who gains what can give a person away.
        header_level: how fine an area a header may name (:meth:`~kengele_schemas.areas.Areas.coarsen`).
    """
    found = [finding for rule in rules for finding in _names(rule, offices, areas)]
    unknown = {finding.rule for finding in found}
    known = [rule for rule in rules if rule.id not in unknown]
    found += _nobody(known, offices)
    if header_level is not None:
        found += _too_small(known, areas, header_level)
    idle = {finding.rule for finding in found if finding.code in ("for-nobody", "no-such-header")}
    for rule in known:
        found += _ending(rule, today)
        found += _twice(rule, offices, areas)
    side = Side.of(known, offices, areas)
    found += (finding for finding in _effects(Domain([side], today)) if finding.rule not in idle)
    if in_force is not None:
        found += _widening(in_force, side, today)
    order = {rule.id: at for at, rule in enumerate(rules)}
    return sorted(found, key=lambda finding: order.get(finding.rule, len(order)))


def _names(rule: Rule, offices: Offices, areas: Areas) -> Iterator[Finding]:
    for error in unknown_names(rule, offices, areas):
        yield _finding("unknown-name", rule.id, error.problem, error.path, error.mend)


def _nobody(rules: Iterable[Rule], offices: Offices) -> Iterator[Finding]:
    active = frozenset(offices.active)
    for rule in rules:
        empty = [name for name in rule.to if not offices.members(name) & active]
        if len(empty) == len(rule.to):
            yield _finding("for-nobody", rule.id, mend="Take it out, or name an office that is active.")
        for name in empty:
            yield _finding("empty-group", rule.id, name, f"to[{rule.to.index(name)}]")


def _too_small(rules: Iterable[Rule], areas: Areas, level: int) -> Iterator[Finding]:
    named = {areas.coarsen(row.code, level) for row in areas}
    for rule in rules:
        if EVERYWHERE not in rule.areas and not any(areas.below(area) & named for area in rule.areas):
            yield _finding("no-such-header", rule.id, path="areas", mend="Name the area that they lie in.")


def _ending(rule: Rule, today: date) -> Iterator[Finding]:
    end = rule.expires
    if end is None:
        return
    if end < today:
        yield _finding("expired", rule.id, str(end), "expires", "Take it out, or give it a new last day.")
    elif end <= today + VERY_SOON:
        yield _finding("expires-now", rule.id, str(end), "expires", "Give it a new last day now if it is to go on.")
    elif end <= today + SOON:
        yield _finding("expires-soon", rule.id, str(end), "expires", "Give it a new last day if it is to go on.")
    elif rule.grant is not None and end > today + LATE:
        yield _finding("expires-late", rule.id, str(end), "expires", "Look at it again within a year.")


def _twice(rule: Rule, offices: Offices, areas: Areas) -> Iterator[Finding]:
    def narrower(less: str, more: str) -> bool:
        few, many = offices.members(less), offices.members(more)
        return bool(few) and (few < many or (few == many and more.startswith("group:")))

    for field, names, holds in (
        ("areas", rule.areas, lambda more, less: areas.covers(more, less) and not areas.covers(less, more)),
        ("categories", rule.categories, taxonomy.covers),
        ("to", rule.to, lambda more, less: narrower(less, more)),
    ):
        for at, less in enumerate(names):
            more = next((other for other in names if other != less and holds(other, less)), None)
            if more is not None:
                detail = f"{less}, which {more} holds already"
                yield _finding("named-twice", rule.id, detail, f"{field}[{at}]", f"Take out {less}.")


class _Effect:
    """What each row does anywhere, as bits, and which others do it in its stead, or stop it."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self.matters = self.opens = 0
        self.instead: dict[int, set[str]] = {}
        self.stopping: dict[int, set[str]] = {}
        seen: set[int] = set()
        for office in domain.offices:
            for compartment in GRANTABLE:
                for alive in self._cases(domain.about(office, compartment)):
                    if alive not in seen:
                        seen.add(alive)
                        self._case(alive)

    def _cases(self, about: int) -> Iterator[int]:
        for place in self._domain.places(about):
            for point in self._domain.points(place.rows):
                # Where all rules are known to matter somewhere, nothing new is to be learnt.
                if point.rows & ~self.matters:
                    for span in self._domain.spans(point.rows):
                        yield span.rows

    def _case(self, alive: int) -> None:
        rows = {at: self._domain.rows[at] for at in families.bits(alive)}
        grants = {at: row for at, row in rows.items() if row.grant}
        forbids = {at: row for at, row in rows.items() if not row.grant}
        granted, forbidden = (families.join(row.categories for row in some.values()) for some in (grants, forbids))
        for at, row in grants.items():
            own, others = row.categories & ~forbidden, _without(grants, at)
            if not own:
                self._add(self.stopping, at, forbids.values(), row.categories)
                continue
            self.opens |= 1 << at
            if families.beyond((own,), families.of((other.categories for other in others), forbidden)):
                self.matters |= 1 << at
            else:
                self._add(self.instead, at, others, own)
        for at, row in forbids.items():
            taken, others = row.categories & granted, _without(forbids, at)
            if taken & ~families.join(other.categories for other in others):
                self.matters |= 1 << at
            else:
                self._add(self.instead, at, others, taken)

    @staticmethod
    def _add(into: dict[int, set[str]], at: int, others: Iterable[Row], categories: int) -> None:
        into.setdefault(at, set()).update(other.id for other in others if other.categories & categories)


def _without(rows: dict[int, Row], at: int) -> list[Row]:
    return [row for other, row in rows.items() if other != at]


def _effects(domain: Domain) -> Iterator[Finding]:
    effect = _Effect(domain)
    for at, row in enumerate(domain.rows):
        instead, stopping = (_listed(found.get(at, ())) for found in (effect.instead, effect.stopping))
        if effect.matters >> at & 1:
            continue
        if not row.grant:
            detail = f", by {instead}" if instead else ""
            yield _finding("forbid-without-effect", row.id, detail, mend="It can stay as a safeguard.")
        elif effect.opens >> at & 1:
            yield _finding("shadowed", row.id, instead, mend="Take it out, or one of the others.")
        elif stopping:
            yield _finding("forbidden-wholly", row.id, stopping, mend="Take out the one or the other.")


def _listed(names: Iterable[str]) -> str:
    some = sorted(names)
    return ", ".join(some[:5]) + (" and others" if len(some) > 5 else "")


def _widening(in_force: Side, side: Side, today: date) -> Iterator[Finding]:
    for change in diff(in_force, side, today):
        if change.sensitive:
            for rule in change.rules:
                detail = f"{change.office} gains {change.compartment}, as of a report from {change.example.area}"
                yield _finding("widens-sensitive", rule, detail, mend="See the difference before you sign it.")
