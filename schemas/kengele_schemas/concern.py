"""What concerns whom: the areas from which reports may come to an office, and the lists that a member needs for them.

Whoever is concerned by an area is served the list of its monitors; nobody else learns who reports there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from .areas import EVERYWHERE, Areas
from .policy import PolicyFile
from .regional import LINES, MONITORS, POLICY, area_of
from .roster import Office, Offices, OfficesFile
from .trusted import areas_in, document_in

Scope = Literal["monitor", "office", "coordinator", "hub"]


def concern(office: Office, policies: Iterable[PolicyFile], offices: Offices) -> tuple[str, ...]:
    """The areas whose reports may come to ``office``: its own, and those for which a rule grants it anything."""
    found = set(office.areas)
    for rule in (rule for policy in policies for rule in policy.rules if rule.grant is not None):
        if any(office.id in offices.members(audience) for audience in rule.to):
            found.update(rule.areas)
    return tuple(sorted(found))


def overlap(area: str, own: Iterable[str], areas: Areas) -> bool:
    """Whether what happens in ``area`` may lie in one of ``own``, or the other way round."""
    if not areas.known(area):
        return False
    within = areas.below(area)
    return any(code == EVERYWHERE or (areas.known(code) and within & areas.below(code)) for code in own)


def needed(paths: Iterable[str], scope: Scope, office: str, documents: Mapping[str, bytes]) -> list[str]:
    """The regional lists of members that a member needs: all for hub and coordinators, none for a monitor."""
    lists = [path for path in paths if area_of(path)[0] == MONITORS]
    if scope in ("hub", "coordinator"):
        return [*lists, *(path for path in paths if area_of(path)[0] == LINES)]
    offices = Offices(document_in(documents["offices.json"], OfficesFile))
    found = offices.get(office) if scope == "office" else None
    if found is None:
        return []
    policies = [document_in(data, PolicyFile) for path, data in documents.items() if path.startswith(POLICY)]
    areas = areas_in(documents["areas.json"])
    try:
        own = concern(found, policies, offices)
    except KeyError:
        return []  # a rule is for nobody there is, and as such it is refused when all are put together
    return [path for path in lists if overlap(area_of(path)[1], own, areas)]
