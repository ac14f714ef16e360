"""What of a report may be shared now, with whom, by which rules. Pure.

>>> gains(source, trusted, today, by=kid)
[Reading(office='council', …)]
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date

from nacl.signing import SigningKey

from kengele_node.monitor.compose import Reading
from kengele_schemas.compartments import ALL_BITS, HANDLING_BIT, bitmap
from kengele_schemas.release import narrow
from kengele_schemas.report import Caveat, Header
from kengele_schemas.sealing import Reader
from kengele_schemas.sharing import make_share
from kengele_schemas.trusted import Trusted


@dataclass(frozen=True, slots=True)
class Source:
    """A report of which the keys are here.

    ``digest`` is that of what is signed, in base64url; ``had`` what offices are known here to have been given, as bits;
    ``left`` what recalls leave of it.
    """

    header: Header = field(repr=False)
    core: bytes
    digest: str
    keys: Mapping[str, bytes] = field(repr=False)
    caveats: tuple[Caveat, ...] = field(default=(), repr=False)
    had: Mapping[str, int] = field(default_factory=dict, repr=False)
    left: int = ALL_BITS
    number: int | None = None
    """What its author's own list calls it."""


def gains(source: Source, trusted: Trusted, today: date, *, by: str, only: Collection[str] = ()) -> list[Reading]:
    """What offices would read that were not given it, if ``by`` shared it now: by the rules of ``today``, less what the
    author's caveats take away.

    Args:
        only: with these offices; with all if empty.

    Raises:
        Malformed: ``unknown-reader``: a caveat names who is not there any more, and so would not protect.
    """
    released = narrow(trusted.compiled.release(source.header, today), source.caveats, trusted.offices)
    here = bitmap(source.keys) & source.left
    found = []
    for id_, (bits, rules) in sorted(released.items()):
        office, key = trusted.offices.get(id_), trusted.offices.public(id_, today)
        new = bits & here & ~source.had.get(id_, 0) & ~HANDLING_BIT
        if office is None or key is None or not new or id_ == by or (only and id_ not in only):
            continue
        known = (bits | HANDLING_BIT) & here, tuple(rules), office, trusted.replaced_since(office, today)
        found.append(Reading(id_, office.name, key, *known))
    return found


def made(source: Source, reading: Reading, trusted: Trusted, today: date, *, by: str, key: SigningKey) -> bytes:
    """The share that gives it, signed with the ``key`` of ``by``."""
    return make_share(
        Reader(reading.office, reading.key, reading.bits),
        source.keys,
        report=source.header.id,
        core=source.core,
        by=by,
        network=trusted.network.log,
        day=today,
        key=key,
    )
