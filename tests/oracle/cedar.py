"""Cedar as the judge of Kengele's policy: rules become Cedar policies, offices, groups and areas become entities.

Nothing of Kengele's evaluation is used: groups, the graph of areas and the tree of categories are walked by Cedar,
dates are compared by Cedar, and "a forbid beats every grant" is Cedar's own rule. The rules that decided are Cedar's
"determining policies", told apart by an ``@id`` annotation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import date

import cedarpy

from kengele_schemas import taxonomy
from kengele_schemas.areas import AreaRow
from kengele_schemas.compartments import GRANTABLE
from kengele_schemas.policy import Rule
from kengele_schemas.release import Facts, Verdict
from kengele_schemas.roster import OfficesFile

_RANK = {"CLEAR": 0, "GREEN": 1, "AMBER": 2, "AMBER+STRICT": 3, "RED": 4}
_SLOTS = 5


class Cedar:
    """Decides as :meth:`kengele_schemas.release.Compiled.explain` does, by Cedar."""

    def __init__(self, rules: Iterable[Rule], offices: OfficesFile, areas: Sequence[AreaRow]) -> None:
        self._policies = cedarpy.PolicySet.from_str("\n".join(_policy(rule) for rule in rules))
        self._fixed = cedarpy.Entities.from_json_str(json.dumps(_entities(offices, areas)))
        self._active = [office.id for office in offices.offices if office.status == "active"]

    def explain(self, header: Facts, today: date) -> dict[str, dict[str, Verdict]]:
        entities = self._fixed.with_added_json_str(json.dumps([_report(header)]))
        asked = [(office, name) for office in self._active for name in GRANTABLE]
        requests = [
            {
                "principal": f'Office::"{office}"',
                "action": f'Action::"{name}"',
                "resource": 'Report::"report"',
                "context": {"today": today.toordinal()},
            }
            for office, name in asked
        ]
        found: dict[str, dict[str, Verdict]] = {office: {} for office in self._active}
        for (office, name), answer in zip(
            asked, cedarpy.is_authorized_batch(requests, self._policies, entities), strict=True
        ):
            assert not answer.diagnostics.errors
            ids = answer.diagnostics.id_annotations_by_reason.values()
            found[office][name] = Verdict(answer.allowed, tuple(sorted(ids)))
        return found


def _policy(rule: Rule) -> str:
    conditions = [
        _any(f"principal in {_uid(audience)}" for audience in rule.to),
        f"resource.severity >= {rule.min_severity} && resource.severity <= {rule.max_severity}",
    ]
    if "*" not in rule.areas:
        conditions.append(_any(f'resource in Area::"{area}"' for area in rule.areas))
    if "*" not in rule.categories:
        conditions.append(_categories(rule))
    if rule.tlp_up_to is not None:
        conditions.append(f"resource.tlp <= {_RANK[rule.tlp_up_to]}")
    if rule.tlp_from is not None:
        conditions.append(f"resource.tlp >= {_RANK[rule.tlp_from]}")
    if rule.expires is not None:
        conditions.append(f"context.today <= {rule.expires.toordinal()}")
    actions = ", ".join(f'Action::"{name}"' for name in rule.compartments)
    effect = "permit" if rule.grant is not None else "forbid"
    return (
        f'@id("{rule.id}") {effect} (principal, action in [{actions}], resource) when {{ {" && ".join(conditions)} }};'
    )


def _categories(rule: Rule) -> str:
    def covered(slot: str) -> str:
        return _any(f'resource.{slot} in Category::"{code}"' for code in rule.categories)

    slots = [f"c{i}" for i in range(_SLOTS)]
    if rule.grant is not None:
        return " && ".join(f"(!(resource has {slot}) || {covered(slot)})" for slot in slots)
    return _any(f"(resource has {slot} && {covered(slot)})" for slot in slots)


def _any(conditions: Iterable[str]) -> str:
    return f"({' || '.join(conditions)})"


def _uid(audience: str) -> str:
    kind, _, name = audience.partition(":")
    return f'{kind.capitalize()}::"{name}"'


def _entities(offices: OfficesFile, areas: Sequence[AreaRow]) -> list[dict[str, object]]:
    groups = {f"group:{group}": set(parts) for group, parts in offices.groups.items()}
    entities = [
        _entity(*name.split(":"), parents=[parent.split(":") for parent, parts in groups.items() if name in parts])
        for name in [*(f"office:{office.id}" for office in offices.offices), *groups]
    ]
    entities += [_entity("Area", row.code, parents=[["Area", parent] for parent in row.parents]) for row in areas]
    for code in taxonomy.codes():
        above = taxonomy.parent(code)
        entities.append(_entity("Category", code, parents=[["Category", above]] if above else []))
    return entities


def _report(header: Facts) -> dict[str, object]:
    attributes: dict[str, object] = {"severity": header.severity, "tlp": _RANK[header.tlp]}
    for i, code in enumerate(header.categories):
        attributes[f"c{i}"] = {"__entity": {"type": "Category", "id": code}}
    return _entity("Report", "report", parents=[["Area", header.area]], attributes=attributes)


def _entity(
    kind: str, name: str, *, parents: Iterable[Sequence[str]] = (), attributes: dict[str, object] | None = None
) -> dict[str, object]:
    return {
        "uid": {"type": kind.capitalize(), "id": name},
        "attrs": attributes or {},
        "parents": [{"type": parent[0].capitalize(), "id": parent[1]} for parent in parents],
    }
