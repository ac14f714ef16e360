"""The network's lists: what it is called and by whom it is run, its offices and monitors, and their connections.

Each is a document that the coordinators sign. No real name of a person stands in any of them.

    >>> offices = Offices(read(OfficesFile, document))
    >>> offices.members("group:government")
    frozenset({'kg-peace-council'})
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from difflib import get_close_matches
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from .areas import Areas
from .encoding import unb64u
from .errors import Malformed, Refused
from .fields import AreaCode, Audience, Bytes32, Day, Exactly1, Items, Line, Model, MonitorId, OfficeId, bad
from .keys import OpeningPublic, check_verify_key, monitor_id
from .policy import PolicyFile

Status = Literal["active", "suspended", "revoked"]
AreaCodes = Annotated[tuple[AreaCode, ...], Items, Field(min_length=1, max_length=500)]
Nkey = Annotated[str, Field(pattern=r"^U[A-Z2-7]{55}$")]
_OFFICE: Final = "office:"
_GROUP: Final = "group:"


def _signing(text: str) -> str:
    try:
        check_verify_key(unb64u(text))
    except Malformed as error:
        raise bad("is not a signing key", error.mend) from None
    return text


SigningPublic = Annotated[Bytes32, AfterValidator(_signing)]
Signature = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{85}[AQgw]$")]
MAX_KEYS: Final = 16
"""Opening keys of one office."""


class Network(Model):
    """``network.json``: what holds for all.

    ``log`` is the origin of the hub's log; ``custodian`` the office that is sealed for when the rules known to a node
    have run out; ``header_level`` how fine an area the hub may see (0 country, 1 admin-1); ``widening_threshold`` how
    many coordinators have to sign rules by which anybody gains anything, where that is more than sign the others.
    """

    v: Exactly1 = 1
    name: Annotated[str, Line(120)]
    hub_key: SigningPublic
    log: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9./-]{0,63}$")]
    custodian: OfficeId
    header_level: Annotated[int, Field(ge=0, le=2)] = 1
    max_future_days: Annotated[int, Field(ge=0, le=14)] = 1
    reports_per_hour: Annotated[int, Field(ge=1, le=1_000_000)] = 600
    widening_threshold: Annotated[int, Field(ge=1, le=64)] | None = None


class OfficeKey(Model):
    """A public opening key; ``not_before`` is the first day on which anyone seals for it, ``not_after`` the last."""

    suite: str
    key: Annotated[str, Field(max_length=2048)]
    not_before: Day | None = None
    not_after: Day | None = None

    def public(self) -> OpeningPublic:
        """Raises Malformed if it is none."""
        return OpeningPublic.from_document(self.suite, self.key)

    def holds(self, day: date) -> bool:
        """Whether it is sealed for on ``day``."""
        begun = self.not_before is None or self.not_before <= day
        return begun and (self.not_after is None or day <= self.not_after)


def is_opening(key: OfficeKey) -> OfficeKey:
    """``key`` if it is one; for a model's field."""
    try:
        key.public()
    except Malformed:
        raise bad("is not an opening key", "Take it from the office's join request.") from None
    return key


class Office(Model):
    """An office: ``keys`` are its opening keys, newest first; ``sign`` verifies what it signs.

    ``vouched`` is the office's own signature under its keys, once they have followed others; ``replaced`` the day on
    which all of its keys took the place of lost ones, by the coordinators' word alone.
    """

    id: OfficeId
    name: Annotated[str, Line(120)]
    areas: AreaCodes
    keys: Annotated[
        tuple[Annotated[OfficeKey, AfterValidator(is_opening)], ...], Items, Field(min_length=1, max_length=MAX_KEYS)
    ]
    sign: SigningPublic
    status: Status = "active"
    vouched: Signature | None = None
    replaced: Day | None = None


class OfficesFile(Model):
    """``offices.json``."""

    v: Exactly1 = 1
    offices: Annotated[tuple[Office, ...], Items, Field(max_length=200)]
    groups: Annotated[
        dict[OfficeId, Annotated[tuple[Audience, ...], Items, Field(max_length=200)]], Field(max_length=200)
    ] = Field(default_factory=dict)


class Monitor(Model):
    """A monitor under its pseudonym. Its ``kid`` follows from its key; both days are included.

    ``after`` is the pseudonym that the same monitor had before, ``handover`` the old key's signature that it is so;
    where that is missing the old key was lost, and the coordinators alone say so.
    """

    kid: MonitorId
    key: SigningPublic
    areas: AreaCodes
    not_before: Day
    not_after: Day
    status: Status = "active"
    after: MonitorId | None = None
    handover: Signature | None = None

    def standing(self, area: str, today: date, areas: Areas) -> None:
        """Returns if this monitor may report from ``area`` today.

        Raises:
            Refused: ``monitor-suspended``, ``monitor-revoked``, ``key-expired`` or ``out-of-scope``.
        """
        if self.status != "active":
            raise Refused(f"monitor-{self.status}", f"This monitor is {self.status}.", "Ask a coordinator.")
        if not self.not_before <= today <= self.not_after:
            raise Refused("key-expired", "This monitor's key is not valid today.", "Ask a coordinator to renew it.")
        if not areas.known(area) or not any(areas.covers(own, area) for own in self.areas):
            raise Refused("out-of-scope", "This monitor does not report from that area.", "Ask a coordinator.")


class MonitorsFile(Model):
    """``monitors/<area>.json``."""

    v: Exactly1 = 1
    area: AreaCode
    monitors: Annotated[tuple[Monitor, ...], Items, Field(max_length=20_000)]


class Connection(Model):
    """Who speaks through which key on the bus."""

    nkey: Nkey
    role: Literal["monitor", "office", "coordinator"]
    member: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,40}$")]


class Revoked(Model):
    """A key that is kept out since ``at`` (Unix seconds)."""

    nkey: Nkey
    at: Annotated[int, Field(ge=0, le=2**53)]


class ConnectionsFile(Model):
    """``connections.json``; only the hub fetches it."""

    v: Exactly1 = 1
    connections: Annotated[tuple[Connection, ...], Items, Field(max_length=50_000)]
    revoked: Annotated[tuple[Revoked, ...], Items, Field(max_length=50_000)] = ()


class AreaConnection(Connection):
    """The same in an area's own list, which lets in monitors only.

    ``asked`` is the key's signature under the join request by which its monitor came.
    """

    role: Literal["monitor"]
    asked: Signature | None = None


class AreaConnectionsFile(Model):
    """``connections/<area>.json``: who of the area's monitors may connect; hub and coordinators only fetch it."""

    v: Exactly1 = 1
    area: AreaCode
    connections: Annotated[tuple[AreaConnection, ...], Items, Field(max_length=20_000)]
    revoked: Annotated[tuple[Revoked, ...], Items, Field(max_length=1000)] = ()


class Offices:
    """The offices and groups of an :class:`OfficesFile`."""

    def __init__(self, document: OfficesFile) -> None:
        """Raises Malformed, ``bad-offices``: an id twice, an unknown name in a group, or a group in itself."""
        self.document = document
        self._offices = {office.id: office for office in document.offices}
        if len(self._offices) != len(document.offices):
            raise _refuse("An office's id occurs twice.", "Give each office one entry.")
        self._members: dict[str, frozenset[str]] = {_OFFICE + office: frozenset((office,)) for office in self._offices}
        for group in document.groups:
            self._resolve(_GROUP + group, ())
        self.active = tuple(sorted(office.id for office in document.offices if office.status == "active"))
        """Ids of the offices that are given reports."""

    def get(self, office_id: str) -> Office | None:
        return self._offices.get(office_id)

    def members(self, audience: str) -> frozenset[str]:
        """The ids of the offices in ``audience``. Raises KeyError if there is no such office or group."""
        return self._members[audience]

    @property
    def audiences(self) -> tuple[str, ...]:
        """All that a rule may name."""
        return tuple(sorted(self._members))

    def suggest(self, unknown: str) -> tuple[str, ...]:
        """The audiences nearest to a mistyped one."""
        return tuple(get_close_matches(unknown, self.audiences, 3))

    def public(self, office_id: str, today: date) -> OpeningPublic | None:
        """The key to seal for ``office_id`` with: its first that holds today, None if all have ended.

        Where none has begun, as by a clock that is slow, it is the one that begins first.
        """
        office = self._offices.get(office_id)
        keys = [key for key in (office.keys if office else ()) if key.not_after is None or today <= key.not_after]
        begun = next((key for key in keys if key.holds(today)), None)
        found = begun or min(keys, key=lambda key: key.not_before or date.max, default=None)
        return found.public() if found is not None else None

    def _resolve(self, audience: str, above: tuple[str, ...]) -> frozenset[str]:
        if audience in self._members:
            return self._members[audience]
        parts = self.document.groups.get(audience.removeprefix(_GROUP)) if audience.startswith(_GROUP) else None
        if parts is None:
            names = [
                *(_OFFICE + office for office in self._offices),
                *(_GROUP + group for group in self.document.groups),
            ]
            near = ", ".join(get_close_matches(audience, names, 3))
            raise _refuse("A group names an office or group that does not exist.", f"Perhaps: {near}." if near else "")
        if audience in above:
            raise _refuse("A group holds itself.", "Take one of the groups out of the other.")
        found = frozenset[str]().union(*(self._resolve(part, (*above, audience)) for part in parts))
        self._members[audience] = found
        return found


def _refuse(sentence: str, mend: str) -> Malformed:
    return Malformed("bad-offices", sentence, mend)


def _under(area: str, named: Iterable[str], areas: Areas) -> None:
    for code in named:
        if not areas.known(code) or not areas.covers(area, code):
            raise Malformed(
                "foreign-area",
                f"A list for the area {area} speaks of another area.",
                "Each regional list may only name areas at or below its own.",
            )


def earlier(kid: str, monitors: Mapping[str, Monitor]) -> tuple[str, ...]:
    """``kid`` and, the latest first, the pseudonyms whose keys were handed over to it; no signature is looked at."""
    found = [kid]
    while (one := monitors.get(found[-1])) is not None and one.handover is not None and one.after is not None:
        found.append(one.after)
    return tuple(found)


def check_monitors(document: MonitorsFile, area: str, areas: Areas) -> None:
    """Checks that a delegated list of monitors keeps to its ``area``, that each name follows from its key, and that
    keys follow each other one by one: a monitor has one status under all its names, and a key that was lost is revoked.

    Raises:
        Malformed: ``foreign-area`` or ``bad-monitor``.
    """
    if document.area != area or not areas.known(area):
        raise Malformed("foreign-area", "A list of monitors stands under another area's name.")
    for monitor in document.monitors:
        _under(area, monitor.areas, areas)
        if monitor_id(unb64u(monitor.key)) != monitor.kid:
            raise Malformed("bad-monitor", "A monitor's name does not follow from its key.")
    _check_following({monitor.kid: monitor for monitor in document.monitors})


def _check_following(monitors: Mapping[str, Monitor]) -> None:
    following: dict[str, str] = {}
    for monitor in monitors.values():
        if monitor.after is None:
            if monitor.handover is not None:
                raise Malformed("bad-monitor", "A monitor's key was handed over by nobody.")
            continue
        before = monitors.get(monitor.after)
        if before is None or monitor.after in following or monitor.kid == monitor.after:
            raise Malformed("bad-monitor", "A monitor's key does not follow one that is in the same list, and alone.")
        following[monitor.after] = monitor.kid
        if before.status != (monitor.status if monitor.handover is not None else "revoked"):
            raise Malformed(
                "bad-monitor",
                "A monitor is not of one status under all its names.",
                "Suspend, restore or revoke it by any of them: all change. A key that was lost stays revoked.",
            )
    # Each has one before it and one behind it at most, so whoever is not behind a first one stands in a ring.
    reached = 0
    for monitor in monitors.values():
        kid: str | None = monitor.kid if monitor.after is None else None
        while kid is not None:
            reached += 1
            kid = following.get(kid)
    if reached != len(monitors):
        raise Malformed("bad-monitor", "A monitor's keys follow each other in a ring.")


def check_regional_policy(policy: PolicyFile, area: str, areas: Areas) -> None:
    """Checks that a delegated policy keeps to its ``area`` in each rule and says nothing that holds for all.

    Raises:
        Malformed: ``foreign-area``.
    """
    for named in (*(rule.areas for rule in policy.rules), *(one.areas for one in policy.assertions)):
        _under(area, named, areas)
    if policy.refuse_below:
        raise Malformed(
            "foreign-area",
            f"The rules for {area} say which reports are refused everywhere.",
            "Leave refuse_below to the network's own rules.",
        )


def with_area(
    connections: ConnectionsFile, own: AreaConnectionsFile, area: str, stand: Mapping[str, str]
) -> ConnectionsFile:
    """``connections`` with those of an area beside them.

    Args:
        connections: the network's, and those of other areas.
        own: the area's.
        stand: by monitor, the area in whose list it stands.

    Raises:
        Malformed: ``foreign-area``: it lets in who does not stand in the area's list of monitors; ``another-lists``:
            it names a key or a member that is named elsewhere.
    """
    if own.area != area or any(stand.get(row.member) != area for row in own.connections):
        raise Malformed(
            "foreign-area",
            f"The connections for {area} name who is none of its monitors.",
            "Each regional list may only let in monitors of its own area.",
        )
    if _named(connections) & _named(own):
        raise Malformed(
            "another-lists", f"The connections for {area} name a key or member of another list.", "Keep each in one."
        )
    return connections.model_copy(
        update={
            "connections": (*connections.connections, *own.connections),
            "revoked": (*connections.revoked, *own.revoked),
        }
    )


def _named(listed: ConnectionsFile | AreaConnectionsFile) -> set[str]:
    """All keys and members that a list of connections speaks of."""
    named = {name for row in listed.connections for name in (row.nkey, row.member)}
    return named | {row.nkey for row in listed.revoked}
