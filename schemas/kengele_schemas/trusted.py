"""What the coordinators signed, as one verified set of documents that fit each other, and what follows from them.

An area's rules whose date is past hold no longer; what stands in for them releases nothing (:mod:`.regional`).

    >>> trusted = assemble(documents, version=1, fresh=True, expires=expires)
    >>> trusted.compiled.release(header, now.date())
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Final, TypeVar

from pydantic import BaseModel

from .areas import Areas, AreasFile
from .encoding import b64u, loads
from .errors import Malformed, Refused
from .fields import read
from .orders import RECALLS, Order, RecallsFile
from .policy import PolicyFile
from .regional import LINES, MONITORS, POLICY, area_of, check_reserved, standing_in
from .release import Compiled
from .roster import (
    AreaConnectionsFile,
    ConnectionsFile,
    Monitor,
    MonitorsFile,
    Network,
    Office,
    Offices,
    OfficesFile,
    check_monitors,
    check_regional_policy,
    with_area,
)
from .rotation import NEWS, unvouched

COMMON: Final = ("network.json", "offices.json", "policy.json", "areas.json")
CONNECTIONS: Final = "connections.json"
MAX_DOCUMENT: Final = 4 * 1024 * 1024
UNNAMED: Final = b64u(bytes(32))
"""The identity of documents that stand below no root, such as a draft's: no network has it."""
_M = TypeVar("_M", bound=BaseModel)


@dataclass(frozen=True)
class Trusted:
    """A verified set of documents. A monitor has no ``monitors`` and no ``orders``; ``connections`` are for hub and
    coordinator only.

    ``identity`` is SHA-256 of the network's first root: what is signed for this network names it. ``orders`` are the
    coordinators' recalls by their marks. ``version`` is the number of this state of roster and
    policy (:func:`~kengele_schemas.regional.revision`); ``fresh`` whether the hub vouched just now that there is
    none newer; ``targets_expire`` until when the coordinators' signatures hold (UTC), and ``ends`` the same for
    each regional document, by its path. ``lapsed`` are those whose date was past when this was read, and ``idle``
    the monitors in such a list. ``regional`` are an area's rules as they were signed; ``in_force`` has what holds
    in their place. ``unvouched`` are the offices whose keys the ones that this reader knew before do not vouch for,
    whatever the documents say, and the day on which it saw that. ``unseen`` are the ways in which versions that it
    missed widened, each with that day, where it saw fewer signatures than the network asks for then.
    """

    identity: str
    network: Network
    offices: Offices
    areas: Areas
    policy: PolicyFile
    regional: Mapping[str, PolicyFile]
    compiled: Compiled
    monitors: Mapping[str, Monitor]
    connections: ConnectionsFile | None
    orders: Mapping[str, Order]
    version: int
    fresh: bool
    targets_expire: datetime
    ends: Mapping[str, datetime]
    lapsed: frozenset[str]
    idle: frozenset[str]
    unvouched: Mapping[str, date] = field(default_factory=dict)
    unseen: Mapping[str, date] = field(default_factory=dict)

    @property
    def rules_version(self) -> int:
        """The number of the rules, as reports and the log name it: the versions of all files of rules together."""
        return self.policy.version + sum(policy.version for policy in self.regional.values())

    @property
    def in_force(self) -> tuple[PolicyFile, ...]:
        """The rules that hold: the network's, and each area's or what stands in for them."""
        custodian = self.network.custodian
        return (
            self.policy,
            *(
                standing_in(area, policy, self.offices, custodian) if _path(POLICY, area) in self.lapsed else policy
                for area, policy in self.regional.items()
            ),
        )

    def rules_end(self, area: str) -> datetime:
        """Until when the signatures hold on all rules that may speak of ``area``."""
        own = (
            end for path, end in self.ends.items() if area_of(path)[0] == POLICY and self._over(area_of(path)[1], area)
        )
        return min((self.targets_expire, *own))

    def check_author(self, monitor: Monitor, area: str, today: date) -> None:
        """Returns if ``monitor`` may report from ``area`` today.

        Raises:
            Refused: ``list-expired``; or as :meth:`~kengele_schemas.roster.Monitor.standing`.
        """
        monitor.standing(area, today, self.areas)
        if monitor.kid in self.idle:
            raise Refused("list-expired", "This monitor's list is past its date.", "It waits for its coordinators.")

    def replaced_since(self, office: Office, today: date) -> date | None:
        """The day since which an office has keys that its old one does not vouch for, while people are to be told: as
        the documents say it, or as this reader saw it though they do not."""
        seen = self.unvouched.get(office.id)
        days = [unvouched(office, today), seen if seen is not None and today <= seen + NEWS else None]
        return min((day for day in days if day is not None), default=None)

    def _over(self, own: str, area: str) -> bool:
        return self.areas.known(area) and self.areas.covers(own, area)


def assemble(
    documents: Mapping[str, bytes],
    *,
    version: int,
    fresh: bool,
    expires: datetime,
    ends: Mapping[str, datetime] | None = None,
    lapsed: frozenset[str] = frozenset(),
    identity: str = UNNAMED,
) -> Trusted:
    """The documents by path as one set, checked against each other; no signature is looked at here.

    Raises:
        Malformed: ``bad-field``, ``bad-areas``, ``bad-offices``, ``bad-rule``, ``foreign-area``, ``bad-monitor``,
            ``another-lists``.
    """
    areas = areas_in(documents["areas.json"])
    offices = Offices(document_in(documents["offices.json"], OfficesFile))
    policy = document_in(documents["policy.json"], PolicyFile)
    regional: dict[str, PolicyFile] = {}
    monitors: dict[str, Monitor] = {}
    stand: dict[str, str] = {}
    lines: dict[str, AreaConnectionsFile] = {}
    for path, data in documents.items():
        if "/" not in path:
            continue
        folder, area = area_of(path)
        if folder == MONITORS:
            listed = document_in(data, MonitorsFile)
            check_monitors(listed, area, areas)
            for monitor in listed.monitors:
                if monitor.kid in monitors:
                    raise Malformed("bad-monitor", "A monitor stands in two lists.", "Keep each in one.")
                monitors[monitor.kid], stand[monitor.kid] = monitor, area
        elif folder == POLICY:
            regional[area] = document_in(data, PolicyFile)
            check_regional_policy(regional[area], area, areas)
        else:
            lines[area] = document_in(data, AreaConnectionsFile)
    network = document_in(documents["network.json"], Network)
    if offices.get(network.custodian) is None and offices.document.offices:
        raise Malformed("bad-offices", "The custodian is not among the offices.", "Name one that is.")
    connections = document_in(documents[CONNECTIONS], ConnectionsFile) if CONNECTIONS in documents else None
    for area, own in lines.items():
        connections = with_area(connections or ConnectionsFile(connections=()), own, area, stand)
    check_reserved(rule for file in (policy, *regional.values()) for rule in file.rules)
    idle = frozenset(kid for kid, area in stand.items() if lapsed & {_path(MONITORS, area), _path(LINES, area)})
    orders = document_in(documents[RECALLS], RecallsFile).by_mark() if RECALLS in documents else {}
    trusted = Trusted(
        identity,
        network,
        offices,
        areas,
        policy,
        regional,
        Compiled([policy, *regional.values()], offices, areas),
        monitors,
        connections,
        orders,
        version,
        fresh,
        aware(expires),
        ends or {},
        lapsed,
        idle,
    )
    if policy.refuse_below > trusted.rules_version:
        raise Malformed("bad-field", "The rules refuse even their own version.", "Name an earlier one.")
    return replace(trusted, compiled=Compiled(trusted.in_force, offices, areas)) if lapsed else trusted


def document_in(data: bytes, model: type[_M]) -> _M:
    """The document in a signed file. Raises Malformed."""
    return read(model, loads(data, max_bytes=MAX_DOCUMENT, max_depth=12))


@lru_cache(maxsize=8)
def areas_in(data: bytes) -> Areas:
    """The areas in ``areas.json``. Raises Malformed."""
    return Areas(document_in(data, AreasFile))


def aware(moment: datetime) -> datetime:
    """A date of TUF's, which is UTC and may not say so."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _path(folder: str, area: str) -> str:
    return f"{folder}/{area}.json"
