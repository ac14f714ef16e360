"""Intake: whether a report is taken, decided from its bytes, its sender and the rules in force. Pure.

The checks stand in the order of what they cost, and none before the sender's membership says anything about anyone but
the sender: a report of another author is ``replayed`` whether that author exists or not.

    >>> found = examine(data, nkey, standing, quota, now)
    >>> found.code
    'accepted'
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal

from kengele_schemas.compartments import ALL_BITS, HANDLING_BIT
from kengele_schemas.concern import concern
from kengele_schemas.encoding import b64u, unb64u
from kengele_schemas.envelope import Envelope, check_whole, parse, verify
from kengele_schemas.errors import KengeleError
from kengele_schemas.receipt import MAX_DECISIONS, Decisions, Leaf
from kengele_schemas.report import Header, parse_header
from kengele_schemas.roster import Monitor, earlier
from kengele_schemas.trusted import Trusted

ACCEPTED: Final = "accepted"
ONE_REPORT: Final = 32 * 1024
"""Bytes that count as one report of a sender's quota; a report for eight offices has 20 kB."""
_SALT: Final = 16


@dataclass(frozen=True)
class Standing:
    """The members' list as the hub needs it at each report: who speaks through which connection."""

    trusted: Trusted
    roles: Mapping[str, tuple[str, str]]
    """Role and member id by nkey."""
    desks: Mapping[str, tuple[str, ...]]
    """Nkeys by office id."""
    concerns: Mapping[str, tuple[str, ...]]
    """By office id, the areas from which it may be sent something."""
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By a monitor's name, all that it has had, where there is more than one: what waited may come under an old one."""

    @classmethod
    def of(cls, trusted: Trusted) -> Standing:
        """What follows from verified roster and policy."""
        connections = trusted.connections.connections if trusted.connections else ()
        revoked = {row.nkey for row in trusted.connections.revoked} if trusted.connections else set()
        roles = {row.nkey: (row.role, row.member) for row in connections if row.nkey not in revoked}
        desks: dict[str, list[str]] = {}
        for nkey, (role, member) in roles.items():
            if role == "office":
                desks.setdefault(member, []).append(nkey)
        policies = (trusted.policy, *trusted.regional.values())
        concerns = {one.id: concern(one, policies, trusted.offices) for one in trusted.offices.document.offices}
        known = {member: earlier(member, trusted.monitors) for role, member in roles.values() if role == "monitor"}
        names = {member: found for member, found in known.items() if len(found) > 1}
        return cls(trusted, roles, {office: tuple(sorted(nkeys)) for office, nkeys in desks.items()}, concerns, names)

    def names_of(self, member: str) -> tuple[str, ...]:
        """The names under which a monitor may send, today's first."""
        return self.names.get(member, (member,))


@dataclass(slots=True)
class Quota:
    """Reports an hour and sender: a bucket that refills evenly, so that no hostile node crowds out the others.

    The ledger never forgets, so it counts what a report takes there: a long one is several.
    """

    per_hour: int
    _left: dict[str, tuple[float, float]] = field(default_factory=dict)

    def take(self, sender: str, now: float, size: int = 0) -> int:
        """0 if ``sender`` may send one more of ``size`` bytes at ``now`` (seconds), else the seconds until it may."""
        rate = self.per_hour / 3600
        # However small the quota is, a full bucket holds the longest report.
        cost = min(1 + size // ONE_REPORT, self.per_hour)
        left, seen = self._left.get(sender, (float(self.per_hour), now))
        # A clock that was set back gives nothing, and takes nothing away.
        left = min(float(self.per_hour), left + max(0.0, now - seen) * rate)
        taken = left >= cost
        self._left[sender] = (left - cost * taken, now)
        return 0 if taken else int((cost - left) / rate) + 1


@dataclass(frozen=True, slots=True)
class Examined:
    """The outcome: ``accepted`` with the leaf to be stored, or a refusal's code.

    A recall has no leaf yet: that follows from what it recalls, see :func:`recall_leaf`. ``promised`` is the leaf
    before it was written.
    """

    code: str
    bytes_digest: bytes
    envelope: Envelope | None = None
    header: Header | None = None
    leaf: bytes = b""
    retry_after: int | None = None
    promised: Leaf | None = None


def examine(data: bytes, nkey: str, standing: Standing, quota: Quota, now: datetime) -> Examined:
    """What becomes of ``data`` that came in over ``nkey``'s connection. Never raises on anything sent."""
    whole = hashlib.sha256(data).digest()
    role, member = standing.roles.get(nkey, ("", ""))
    if role != "monitor":
        return Examined("unknown-monitor", whole)
    wait = quota.take(nkey, now.timestamp(), len(data))
    if wait:
        return Examined("over-quota", whole, retry_after=wait)
    try:
        envelope = parse(data)
    except KengeleError as error:
        return Examined(error.code if error.code in ("oversized", "unknown-type") else "malformed", whole)
    kid = envelope.claims.get("kid")
    if kid not in standing.names_of(member):
        return Examined("replayed", whole)
    monitor = standing.trusted.monitors.get(str(kid))
    current = standing.trusted.monitors.get(member)
    if monitor is None or current is None:
        return Examined("unknown-monitor", whole)
    try:
        verify(envelope, unb64u(monitor.key))
        check_whole(envelope)
        header = parse_header(envelope.claims)
    except KengeleError as error:
        return Examined(error.code if error.code in ("bad-signature", "not-whole") else "malformed", whole)
    if header.net != standing.trusted.identity:
        return Examined("other-network", whole, envelope, header)
    # A recall may come long after its author's name changed.
    code = _admissible(header, current if header.kind == "recall" else monitor, standing.trusted, now.date())
    if code != ACCEPTED:
        return Examined(code, whole, envelope, header)
    if header.kind != "report":
        return Examined(ACCEPTED, whole, envelope, header)
    promised = leaf_of(envelope, header, whole, standing.trusted, now)
    return Examined(ACCEPTED, whole, envelope, header, promised.canonical(), promised=promised)


def _admissible(header: Header, monitor: Monitor, trusted: Trusted, today: date) -> str:
    try:
        trusted.check_author(monitor, header.area, today)
    except KengeleError as error:
        # A recall takes away only: whoever may have reported from there once may recall it.
        if error.code != "out-of-scope" or header.kind != "recall":
            return error.code
    fine = trusted.areas.coarsen(header.area, trusted.network.header_level) != header.area
    if fine and header.kind != "recall":
        return "area-too-fine"
    if header.day > today + timedelta(days=trusted.network.max_future_days):
        return "future-dated"
    if header.pol < trusted.policy.refuse_below and header.kind != "recall":
        return "stale-policy"
    if header.pol > trusted.rules_version:
        return "policy-unknown"
    return ACCEPTED


def leaf_of(envelope: Envelope, header: Header, whole: bytes, trusted: Trusted, now: datetime) -> Leaf:
    """The leaf that says who is to be given what, for the readers the author sealed to and no one else."""
    release = trusted.compiled.release(header, now.date())
    decisions: list[tuple[str, int, int, tuple[str, ...]]] = []
    for wrap in envelope.wraps:
        decision = release.get(wrap.office)
        bits, rules = (decision.bits, decision.rules) if decision else (0, ())
        decisions.append((wrap.office, bits, ALL_BITS & ~bits, tuple(rules)))
    return _leaf("report", envelope, whole, trusted, now, decisions)


def reached(envelope: Envelope, recalled: Leaf, shared: Collection[str]) -> list[str]:
    """The offices with which the report that ``recalled`` speaks of was ``shared`` and which its recall reaches though
    it has no wrap for them.

    An author does not know with whom the custodian shared. Who recalls from all that she gave it to means those, too.
    """
    wrapped = {wrap.office for wrap in envelope.wraps}
    whole = all(office in wrapped for office, bits, _, _ in recalled.decisions if bits)
    return sorted(set(shared) - wrapped) if whole else []


def recall_leaf(
    found: Examined, author: str, recalled: Leaf, trusted: Trusted, now: datetime, shared: Collection[str] = ()
) -> bytes | None:
    """The leaf of a recall of the report that ``recalled`` speaks of, which ``author`` wrote; None if it is no recall
    of hers, or of no report.

    It reaches every office that was released anything of the report, or with which it was ``shared``, whatever the
    rules are today.
    """
    envelope, header = found.envelope, found.header
    if envelope is None or header is None or header.kid != author or recalled.kind != "report":
        return None
    had = {office for office, bits, _, _ in recalled.decisions if bits} | set(shared)
    decisions: list[tuple[str, int, int, tuple[str, ...]]] = []
    for wrap in envelope.wraps:
        bits = HANDLING_BIT if wrap.office in had else 0
        decisions.append((wrap.office, bits, ALL_BITS & ~bits, ()))
    told = reached(envelope, recalled, shared)
    decisions += [(office, HANDLING_BIT, ALL_BITS & ~HANDLING_BIT, ()) for office in told]
    leaf = _leaf("recall", envelope, found.bytes_digest, trusted, now, fitting(decisions, trusted), recalled.digest)
    return leaf.canonical()


def fitting(decisions: list[tuple[str, int, int, tuple[str, ...]]], trusted: Trusted) -> Decisions:
    """A recall's decisions, no more than a leaf takes: those go first that give nothing, then offices that are gone.

    A monitor may wrap a recall for 200 names that are nobody's, and have it reach others by shares.
    """
    there = {office.id for office in trusted.offices.document.offices}
    kept = sorted(decisions, key=lambda one: (one[0] not in there, not one[1]))[:MAX_DECISIONS]
    return tuple(one for one in decisions if one in kept)


def _leaf(
    kind: Literal["report", "recall"],
    envelope: Envelope,
    whole: bytes,
    trusted: Trusted,
    now: datetime,
    decisions: Iterable[tuple[str, int, int, tuple[str, ...]]],
    recalls: str | None = None,
) -> Leaf:
    return Leaf(
        v=1,
        kind=kind,
        salt=b64u(secrets.token_bytes(_SALT)),
        digest=b64u(envelope.digest),
        bytes=b64u(whole),
        policy=trusted.rules_version,
        at=now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        decisions=tuple(decisions),
        recalls=recalls,
    )
