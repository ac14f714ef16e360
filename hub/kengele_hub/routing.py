"""Routing: which desk is given which bytes of a report. Pure.

What the leaf promised on arrival and what the policy says at delivery are both computed, and the stricter holds: a
rule that was withdrawn in between no longer gives anything, and one that was added does not reach back. Of a monitor
that was revoked in between nothing more is given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from nacl.signing import SigningKey

from kengele_schemas.compartments import HANDLING_BIT, names
from kengele_schemas.encoding import b64u
from kengele_schemas.envelope import Envelope, strip
from kengele_schemas.receipt import Leaf
from kengele_schemas.release import Decision
from kengele_schemas.report import Header
from kengele_schemas.trusted import Trusted


@dataclass(frozen=True, slots=True)
class Outcome:
    """What each office is given of one report: released compartments as bits, 0 where all is withheld."""

    bits: Mapping[str, int]
    narrowed: tuple[tuple[str, int, int, tuple[str, ...]], ...]
    """Decisions that differ from the leaf's, in a leaf's form; to be logged before anything goes out."""


def decide(header: Header, leaf: Leaf, trusted: Trusted, today: date) -> Outcome:
    """What goes to whom under ``leaf`` and today's rules, the stricter of the two."""
    author = trusted.monitors.get(header.kid)
    revoked = author is not None and author.status == "revoked"
    release = {} if revoked else trusted.compiled.release(header, today)
    active = set(trusted.offices.active)
    bits: dict[str, int] = {}
    narrowed = []
    for office, promised, withheld, rules in leaf.decisions:
        decision = release.get(office, Decision(0, ()))
        given = promised & decision.bits if office in active else 0
        given = 0 if given == HANDLING_BIT else given
        if office in active:
            bits[office] = given
        if given != promised:
            narrowed.append((office, given, withheld | (promised & ~given), tuple(decision.rules) or rules))
    return Outcome(bits, tuple(narrowed))


def kept(bits: int, left: int) -> int:
    """What stays of released ``bits`` where recalls leave ``left``; nothing goes with ``handling`` alone."""
    found = bits & left
    return 0 if found == HANDLING_BIT else found


def parcel(envelope: Envelope, office: str, bits: int) -> bytes:
    """The envelope as ``office`` is given it."""
    return strip(envelope, office, names(bits))


def marker_item(report_id: str, key: SigningKey) -> str:
    """The feed item of a marker: always the same for one report, and nothing from which its id could be found."""
    return b64u(hashlib.blake2b(report_id.encode("ascii"), key=bytes(key), digest_size=16).digest())
