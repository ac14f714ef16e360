"""The effect of drafted rules: who would read what of one kind of report, beside who reads it now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from kengele_schemas import taxonomy, tlp
from kengele_schemas.areas import Areas
from kengele_schemas.compartments import GRANTABLE
from kengele_schemas.diff import Change, diff
from kengele_schemas.domain import Side
from kengele_schemas.errors import Malformed
from kengele_schemas.lint import Finding, lint
from kengele_schemas.policy import PolicyFile, Rule
from kengele_schemas.release import Compiled, Verdict

from .view import InForce


@dataclass(frozen=True, slots=True)
class Facts:
    """A kind of report."""

    area: str
    categories: tuple[str, ...]
    severity: int
    tlp: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One office and compartment: read now, read then, and the rules that decide then."""

    before: bool
    after: bool
    rules: tuple[str, ...]

    @property
    def change(self) -> str:
        return "" if self.before == self.after else "gains" if self.after else "loses"


Matrix = dict[str, dict[str, Cell]]


@dataclass(frozen=True, slots=True)
class Whole:
    """All that a draft changes, exactly, and what is odd about its rules."""

    changes: tuple[Change, ...]
    findings: tuple[Finding, ...]


def whole(held: InForce, rules: Sequence[Rule], today: date) -> Whole:
    """Of ``rules`` in the place of the network's own. Raises BadRule.

    What :func:`~kengele_schemas.diff.diff` goes through grows with the rules: call it where it holds nothing up.
    """
    trusted = held.trusted
    regional = [rule for policy in trusted.in_force[1:] for rule in policy.rules]
    before, after = (Side.of([*some, *regional], trusted.offices, trusted.areas) for some in (held.rules, rules))
    level = trusted.network.header_level
    findings = lint(rules, trusted.offices, trusted.areas, today, header_level=level)
    return Whole(tuple(diff(before, after, today)), tuple(findings))


def compiled(held: InForce, rules: Sequence[Rule]) -> Compiled:
    """``rules`` in the place of the network's own; the regional ones stay. Raises BadRule."""
    policy = PolicyFile(version=held.trusted.policy.version + 1, rules=tuple(rules))
    return Compiled([policy, *held.trusted.in_force[1:]], held.trusted.offices, held.trusted.areas)


def matrix(before: Compiled, after: Compiled, facts: Facts, today: date) -> Matrix:
    """For every active office and compartment what is read of such a report, now and then."""
    then = after.explain(facts, today)
    old: Mapping[str, Mapping[str, Verdict]] = before.explain(facts, today)
    return {
        office: {
            name: Cell(old[office][name].allowed, verdict.allowed, verdict.rules) for name, verdict in verdicts.items()
        }
        for office, verdicts in then.items()
    }


def changes(shown: Matrix) -> list[tuple[str, str, tuple[str, ...]]]:
    """Gains and losses in ``shown``, by office: the office, which of both, the compartments."""
    told = []
    for office, cells in shown.items():
        for kind in ("gains", "loses"):
            names = tuple(name for name in GRANTABLE if cells[name].change == kind)
            if names:
                told.append((office, kind, names))
    return told


def facts_of(asked: Mapping[str, Any], rule: Rule | None, areas: Areas) -> Facts:
    """The kind of report that was asked for; where it was left open, one that ``rule`` speaks of.

    Raises:
        Malformed: ``unknown-area``, ``bad-field``.
    """
    area = area_code(str(asked.get("area") or ""), areas) if asked.get("area") else _area_of(rule, areas)
    category = str(asked.get("category") or "") or _category_of(rule)
    level = str(asked.get("tlp") or "") or (rule.tlp_up_to or "AMBER" if rule else "AMBER")
    severity = str(asked.get("severity") or "") or str(rule.max_severity if rule else 3)
    if not taxonomy.reportable(category):
        near = ", ".join(taxonomy.suggest(category))
        raise Malformed("bad-field", "There is no such category.", f"Perhaps: {near}." if near else "")
    if severity not in ("1", "2", "3", "4", "5") or level not in tlp.LEVELS:
        raise Malformed("bad-field", "There is no such severity or marking.")
    return Facts(area, (category,), int(severity), level)


def area_code(text: str, areas: Areas) -> str:
    """The code of the area that ``text`` gives by code or name. Raises Malformed, ``unknown-area``."""
    wanted = text.strip()
    if areas.known(wanted.upper()):
        return wanted.upper()
    found = areas.find(wanted)
    if found is None:
        raise Malformed("unknown-area", "The network does not know this area.", areas.hint(wanted))
    return found


def _area_of(rule: Rule | None, areas: Areas) -> str:
    named = [code for code in (rule.areas if rule else ()) if areas.known(code)]
    within = sorted(areas.below(named[0]), key=lambda code: (areas.row(code).kind != "country", code)) if named else []
    everywhere = (row.code for row in areas if row.kind == "country")
    return within[0] if within else next(everywhere, "")


def _category_of(rule: Rule | None) -> str:
    named = [leaf for code in (rule.categories if rule else ()) for leaf in taxonomy.leaves(code)]
    return named[0] if named else taxonomy.leaves()[0]
