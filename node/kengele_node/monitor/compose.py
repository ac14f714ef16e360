"""Composing: who will read what of a report, told before it is sealed, and then sealed for exactly those.

The same :class:`Plan` is shown and sealed, so what the author saw is what holds.

    >>> plan = plan_report(report, trusted, kid=kid, report_id=new_report_id(), now=now)
    >>> print(plan.lines()[0])
    UNRCCA will read: summary, account (rule unrcca-central-asia)
    >>> data = seal_report(plan, signing_key, {"unrcca": 7})
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final, Literal

from nacl.signing import SigningKey

from kengele_schemas.compartments import GRANTABLE, HANDLING, HANDLING_BIT, bitmap, names
from kengele_schemas.encoding import b64u
from kengele_schemas.envelope import MAX_ENVELOPE, MAX_READERS, TENSION_REPORT, parse
from kengele_schemas.errors import Refused
from kengele_schemas.keys import OpeningPublic
from kengele_schemas.release import Decision, narrow
from kengele_schemas.report import Header, Place, Report
from kengele_schemas.roster import Office
from kengele_schemas.sealing import Reader, seal
from kengele_schemas.trusted import Trusted

Mode = Literal["policy", "custodian-only"]
_ID: Final = 16


@dataclass(frozen=True, slots=True)
class Reading:
    """What one office will read, and the ids of the rules by which it does."""

    office: str
    name: str
    key: OpeningPublic
    bits: int
    rules: tuple[str, ...]
    row: Office | None = field(default=None, repr=False, compare=False)
    """The office as the roster had it: what is shown of its keys is kept with what is sealed."""
    renewed: date | None = field(default=None, compare=False)
    """The day since which it has keys that its old one does not vouch for, while people are to be told."""

    @property
    def compartments(self) -> tuple[str, ...]:
        """Those that the author filled in and this office will open; ``handling`` goes with them and is not named."""
        return tuple(name for name in names(self.bits) if name != HANDLING)

    def line(self, by: str = "") -> str:
        """For a terminal; ``by`` in place of the rules."""
        return f"{self.name} will read: {', '.join(self.compartments)} ({by or _by(self.rules)})"


@dataclass(frozen=True, slots=True)
class Plan:
    """One report as it would be sealed now. Offices are sorted by id."""

    report: Report = field(repr=False)
    header: Header = field(repr=False)
    mode: Mode
    expired: date
    """The day the rules used here run out, or ran out."""
    readers: tuple[Reading, ...]
    without: tuple[str, ...]
    """Names of the active offices that will read nothing."""
    keyless: tuple[str, ...]
    """Names of those among them that would read, had they a valid opening key."""
    renewed: tuple[tuple[str, date], ...] = ()
    """Names of those that read by keys for which only coordinators vouch, and since when."""

    @property
    def offices(self) -> tuple[str, ...]:
        return tuple(reading.office for reading in self.readers)

    @property
    def unread(self) -> tuple[str, ...]:
        """The compartments that the author filled in and no office will open."""
        read = {name for reading in self.readers for name in reading.compartments}
        written = self.report.contents()
        return tuple(name for name in GRANTABLE if name in written and name not in read)

    def lines(self) -> list[str]:
        """The plan for a terminal, one line an office that reads, then who does not and what is to be known."""
        told = [reading.line("" if self.mode == "policy" else "as custodian") for reading in self.readers]
        if not self.readers:
            told.append("Nobody will read this report.")
        elif self.unread:
            told.append(f"Nobody will read: {', '.join(self.unread)}")
        if self.without:
            told.append(f"Will not read any of it: {', '.join(self.without)}")
        told += [
            f"ATTENTION: {name} has new keys since {day.isoformat()}, and its old key has not vouched for them. If that"
            " surprises you, ask before you send."
            for name, day in self.renewed
        ]
        told += [f"{name} has no valid key, so nothing can be sealed for it." for name in self.keyless]
        if self.mode == "custodian-only":
            told.append(
                f"The rules known here ran out on {self.expired.isoformat()}. Until there is a line again, only the"
                " network's custodian can read what is sent, and may pass it on by the rules of that day."
            )
        return told


def new_report_id() -> str:
    """A fresh id. Random, so that ids tell neither time nor order."""
    return b64u(os.urandom(_ID))


def plan_report(
    report: Report, trusted: Trusted, *, kid: str, report_id: str, now: datetime, custodian_only: bool = False
) -> Plan:
    """Who would read what of ``report`` if it were sealed now.

    Each office gets what the policy releases, less what the author's caveats take away, less what she left empty. Once
    the rules have run out nobody knows what holds, so only the custodian is sealed for: whatever no rule forbids it.

    Args:
        now: aware, UTC.
        custodian_only: for the custodian alone, though the rules hold: so it was agreed to before they were known.

    Raises:
        Refused: ``unknown-area`` or ``future-dated``.
        Malformed: ``unknown-reader``: a caveat names nobody that there is, and so would not protect.
    """
    today = now.date()
    report, area = _placed(report, trusted)
    if report.day > today + timedelta(days=trusted.network.max_future_days):
        raise Refused(
            "future-dated", "The report's day lies in the future.", "Check the day, and this machine's clock."
        )
    header = report.header(net=trusted.identity, id=report_id, kid=kid, pol=trusted.rules_version, area=area)
    end = trusted.rules_end(area)
    mode: Mode = "policy" if now <= end and not custodian_only else "custodian-only"
    released = trusted.compiled.release(header, today) if mode == "policy" else _custodian(header, trusted, today)
    if report.handling is not None:
        released = narrow(released, report.handling.caveats, trusted.offices)
    written = bitmap(report.contents())
    readers, keyless = [], []
    renewed: list[tuple[str, date]] = []
    for office_id, (bits, rules) in sorted(released.items()):
        office = trusted.offices.get(office_id)
        if office is None or not bits & written & ~HANDLING_BIT:
            continue
        key = trusted.offices.public(office_id, today)
        if key is None:
            keyless.append(office.name)
        else:
            since = trusted.replaced_since(office, today)
            if since is not None:
                renewed.append((office.name, since))
            known = (bits | HANDLING_BIT) & written, tuple(rules), office, since
            readers.append(Reading(office_id, office.name, key, *known))
    reading = {reader.office for reader in readers}
    without = [office for office in map(trusted.offices.get, trusted.offices.active) if office is not None]
    return Plan(
        report,
        header,
        mode,
        end.date(),
        tuple(readers),
        tuple(office.name for office in without if office.id not in reading),
        tuple(keyless),
        tuple(renewed),
    )


def seal_report(
    plan: Plan, key: SigningKey, counters: Mapping[str, int], spare: MutableMapping[str, Any] | None = None
) -> bytes:
    """The envelope of ``plan``.

    Args:
        counters: by office, the number that its wrap carries; an office without one gets a wrap that carries none.
        spare: takes up, as JSON values, what it takes to share the report later: keys and caveats, and no text.

    Raises:
        Refused: ``no-reader``, ``too-many-readers`` or ``oversized``.
    """
    if not plan.readers:
        raise Refused(
            "no-reader",
            "By the rules nobody may read this report.",
            "Look at its caveats and its marking, or ask a coordinator for a rule.",
        )
    if len(plan.readers) > MAX_READERS:
        raise Refused("too-many-readers", f"The rules give this report to more than {MAX_READERS} offices.")
    readers = [Reader(one.office, one.key, one.bits, counters.get(one.office)) for one in plan.readers]
    keys: dict[str, bytes] = {}
    envelope = seal(TENSION_REPORT, plan.header.claims(), plan.report.contents(), readers, key, spare=keys)
    if spare is not None:
        caveats = plan.report.handling.caveats if plan.report.handling else ()
        spare["core"] = b64u(parse(envelope).core)
        spare["keys"] = {name: b64u(one) for name, one in keys.items()}
        spare["caveats"] = [caveat.model_dump(mode="json") for caveat in caveats]
    if len(envelope) > MAX_ENVELOPE:
        raise Refused("oversized", "The report is larger than the hub takes.", "Shorten it or send it in parts.")
    return envelope


def _placed(report: Report, trusted: Trusted) -> tuple[Report, str]:
    """The report with its exact area kept among what is sealed, and the coarser one that the hub may see."""
    if not trusted.areas.known(report.area):
        hint = trusted.areas.hint(report.area)
        raise Refused("unknown-area", "The network does not know the report's area.", hint)
    area = trusted.areas.coarsen(report.area, trusted.network.header_level)
    if area == report.area or (report.place is not None and report.place.area is not None):
        return report, area
    place = report.place.model_copy(update={"area": report.area}) if report.place else Place(area=report.area)
    return report.model_copy(update={"place": place}), area


def _custodian(header: Header, trusted: Trusted, today: date) -> dict[str, Decision]:
    custodian = trusted.network.custodian
    verdicts = trusted.compiled.explain(header, today).get(custodian)
    if verdicts is None:
        return {}
    # A verdict that is no grant and yet names rules was decided by a forbid.
    open_to = [name for name in GRANTABLE if verdicts[name].allowed or not verdicts[name].rules]
    return {custodian: Decision(bitmap(open_to) | HANDLING_BIT, ())} if open_to else {}


def _by(rules: tuple[str, ...]) -> str:
    return f"{'rule' if len(rules) == 1 else 'rules'} {', '.join(rules)}"
