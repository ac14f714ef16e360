"""Who ought to receive what, worked out naively from the tables as written.

Nothing of the code that decides in earnest is used here: rules are read from the YAML file as plain values, areas and
categories are climbed parent by parent, and every office, compartment and rule is looked at for every report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final

_LEVELS: Final = ("CLEAR", "GREEN", "AMBER", "AMBER+STRICT", "RED")
_PARTS: Final = ("summary", "account", "place", "people", "source", "media")


class Oracle:
    """The tables, as read from their files.

    Args:
        rules: the policy's, as mappings.
        offices: ids.
        groups: members by group, as written.
        areas: rows of the areas' table.
        categories: parent by category.
    """

    def __init__(
        self,
        rules: Sequence[Mapping[str, Any]],
        offices: Sequence[str],
        groups: Mapping[str, Sequence[str]],
        areas: Sequence[Mapping[str, Any]],
        categories: Mapping[str, str | None],
    ) -> None:
        self._rules, self._offices, self._groups, self._categories = rules, offices, groups, categories
        self._above: dict[str, set[str]] = {}
        for row in areas:
            self._above.setdefault(row["code"], set()).update(row.get("parents", ()))
            for new in row.get("replaced_by", ()):
                self._above.setdefault(new, set()).add(row["code"])
                if len(row["replaced_by"]) == 1:
                    self._above.setdefault(row["code"], set()).add(new)

    def expected(self, draft: Mapping[str, Any], today: date) -> dict[str, set[str]]:
        """Compartments by office of a report with this ``draft``; offices that receive nothing are left out."""
        found = {}
        for office in self._offices:
            parts = {part for part in _PARTS if part in draft and self._reads(office, part, draft, today)}
            if parts:
                found[office] = parts | ({"handling"} if "handling" in draft else set())
        return found

    def deciding(self, office: str, part: str, draft: Mapping[str, Any], today: date) -> list[str]:
        """The ids of the rules that speak of this office and compartment: forbids if there are any, else grants."""
        speaking = [rule for rule in self._rules if self._speaks(rule, office, part, draft, today)]
        forbids = [rule["id"] for rule in speaking if "forbid" in rule]
        return sorted(forbids or [rule["id"] for rule in speaking])

    def _reads(self, office: str, part: str, draft: Mapping[str, Any], today: date) -> bool:
        for caveat in draft.get("handling", {}).get("caveats", ()):
            parts = caveat.get("compartments", ["*"])
            if ("*" in parts or part in parts) and any(self._is(office, audience) for audience in caveat["not_to"]):
                return False
        speaking = [rule for rule in self._rules if self._speaks(rule, office, part, draft, today)]
        return bool(speaking) and all("grant" in rule for rule in speaking)

    def _speaks(self, rule: Mapping[str, Any], office: str, part: str, draft: Mapping[str, Any], today: date) -> bool:
        if part not in rule.get("grant", rule.get("forbid", ())):
            return False
        if not any(self._is(office, audience) for audience in rule["to"]):
            return False
        if "expires" in rule and date.fromisoformat(str(rule["expires"])) < today:
            return False
        areas = rule.get("areas", "*")
        if "*" not in areas and not any(self._under(draft["area"], str(area)) for area in areas):
            return False
        covered = [self._about(category, rule.get("categories", "*")) for category in draft["categories"]]
        if not (all(covered) if "grant" in rule else any(covered)):
            return False
        if not int(rule.get("min_severity", 1)) <= draft["severity"] <= int(rule.get("max_severity", 5)):
            return False
        level = _LEVELS.index(draft["tlp"])
        lowest = _LEVELS.index(rule["tlp_from"]) if "tlp_from" in rule else 0
        highest = _LEVELS.index(rule["tlp_up_to"]) if "tlp_up_to" in rule else len(_LEVELS)
        return lowest <= level <= highest

    def _is(self, office: str, audience: str) -> bool:
        kind, _, name = audience.partition(":")
        if kind == "office":
            return name == office
        return any(self._is(office, member) for member in self._groups[name])

    def _under(self, area: str, above: str, seen: tuple[str, ...] = ()) -> bool:
        if area == above:
            return True
        return any(
            self._under(parent, above, (*seen, area)) for parent in self._above.get(area, ()) if parent not in seen
        )

    def _about(self, category: str, wanted: Any) -> bool:
        if "*" in wanted or category in wanted:
            return True
        parent = self._categories.get(category)
        return parent is not None and self._about(parent, wanted)
