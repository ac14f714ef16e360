"""More signatures for rules by which anybody gains anything, in networks that ask for them.

The network says how many coordinators have to sign (``widening_threshold``). Asking for fewer of them from now on
counts as a widening too, or the same two could first lower the number and then widen.
"""

from __future__ import annotations

from datetime import date

from .diff import widens
from .domain import Side
from .trusted import Trusted


def side(trusted: Trusted) -> Side:
    """All rules of a set of documents."""
    rules = (rule for policy in (trusted.policy, *trusted.regional.values()) for rule in policy.rules)
    return Side.of(rules, trusted.offices, trusted.areas)


def signatures(before: Trusted | None, after: Trusted, today: date) -> int:
    """How many coordinators have to sign what makes ``after`` of ``before``, whatever else they have to: 0 if nobody
    gains anything, or the network does not ask.
    """
    asked = before.network.widening_threshold if before is not None else None
    if before is None or asked is None:
        return 0
    lowered = (after.network.widening_threshold or 0) < asked
    return asked if lowered or widens(side(before), side(after), today) else 0
