"""Why an office may open a compartment of one report or may not, and what would change it.

>>> reasons(rules, offices, areas, header)["unrcca"]["people"].would
("'unrcca-people' would grant it from severity 3 on.",)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from . import taxonomy
from .areas import EVERYWHERE, Areas
from .compartments import GRANTABLE
from .domain import Header
from .policy import Rule
from .roster import Offices
from .tlp import label, rank


class Reason(NamedTuple):
    """Whether it may be opened, the rules that decide, and sentences on what would change it."""

    allowed: bool
    rules: tuple[str, ...]
    would: tuple[str, ...]


def reasons(rules: Sequence[Rule], offices: Offices, areas: Areas, header: Header) -> dict[str, dict[str, Reason]]:
    """For every active office and compartment, why."""
    failing = [
        (rule, frozenset[str]().union(*map(offices.members, rule.to)), _failing(rule, areas, header)) for rule in rules
    ]
    return {
        office: {
            name: _reason([(rule, fails) for rule, to, fails in failing if office in to and name in rule.compartments])
            for name in GRANTABLE
        }
        for office in offices.active
    }


def _reason(speaking: Iterable[tuple[Rule, list[str]]]) -> Reason:
    speaking = list(speaking)
    holding = [rule for rule, fails in speaking if not fails]
    forbids = [rule for rule in holding if rule.grant is None]
    grants = [rule for rule in holding if rule.grant is not None]
    nearly = sorted((rule.id, fails[0]) for rule, fails in speaking if rule.grant is not None and len(fails) == 1)
    if forbids:
        then = f"{_ids(grants)} would grant it" if grants else "it would still be granted by nobody"
        return Reason(False, _sorted(forbids), (f"Without {_ids(forbids)} {then}.",))
    if grants:
        last = max(rule.expires for rule in grants if rule.expires)
        return Reason(True, _sorted(grants), (f"It ends after {last}, with {_ids(grants)}.",))
    return Reason(False, (), tuple(f"'{name}' would grant it {fails}." for name, fails in nearly))


def _ids(rules: Iterable[Rule]) -> str:
    return ", ".join(f"'{name}'" for name in _sorted(rules))


def _sorted(rules: Iterable[Rule]) -> tuple[str, ...]:
    return tuple(sorted(rule.id for rule in rules))


def _failing(rule: Rule, areas: Areas, header: Header) -> list[str]:
    """Each condition of ``rule`` that ``header`` does not meet, as what would meet it."""
    fails = []
    if not any(areas.covers(area, header.area) for area in rule.areas):
        fails.append(f"for {_list(rule.areas)}")
    covered = [any(taxonomy.covers(code, leaf) for code in rule.categories) for leaf in header.categories]
    if not (all(covered) if rule.grant is not None else any(covered)) and EVERYWHERE not in rule.categories:
        fails.append(f"of {_list(rule.categories)} alone")
    if header.severity < rule.min_severity:
        fails.append(f"from severity {rule.min_severity} on")
    if header.severity > rule.max_severity:
        fails.append(f"up to severity {rule.max_severity}")
    if rule.tlp_up_to and rank(header.tlp) > rank(rule.tlp_up_to):
        fails.append(f"up to {label(rule.tlp_up_to)}")
    if rule.tlp_from and rank(header.tlp) < rank(rule.tlp_from):
        fails.append(f"from {label(rule.tlp_from)} on")
    if rule.expires and rule.expires < header.day:
        fails.append(f"had it not ended on {rule.expires}")
    return fails


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" and others" if len(names) > 5 else "")
