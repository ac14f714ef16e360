"""What ends soon, as coordinators are told daily: rules and signatures, and louder in the last three days.

>>> [str(ending) for ending in endings(trusted, now())]
['The rule unrcca-all ends on 2026-12-01.']
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from kengele_schemas.lint import SOON, VERY_SOON
from kengele_schemas.trusted import Trusted

_SIGNATURES: Final = timedelta(days=3)


class Ending(NamedTuple):
    """One thing that ends; ``loud`` if within three days, or already."""

    what: str
    day: str
    loud: bool

    def __str__(self) -> str:
        return f"{'NOW: ' if self.loud else ''}{self.what} on {self.day}."

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return self._asdict()


def endings(trusted: Trusted, moment: datetime) -> list[Ending]:
    """What of ``trusted`` ends within a fortnight, and signatures that do within three days; the first to end first."""
    today = moment.date()
    found = [
        Ending(f"The rule {rule.id} ends", str(rule.expires), rule.expires <= today + VERY_SOON)
        for policy in (trusted.policy, *trusted.regional.values())
        for rule in policy.rules
        if rule.expires is not None and today <= rule.expires <= today + SOON
    ]
    return sorted([*found, *signatures(trusted, moment)], key=lambda ending: (ending.day, ending.what))


def signatures(trusted: Trusted, moment: datetime) -> list[Ending]:
    """The signatures that run out within three days or did, the network's and each area's."""
    signed = {"The coordinators' signatures": trusted.targets_expire}
    signed |= {f"The signatures on {path}": end for path, end in trusted.ends.items()}
    return [
        Ending(f"{what} {'run' if end > moment else 'ran'} out", str(end.date()), loud=True)
        for what, end in sorted(signed.items(), key=lambda item: item[1])
        if end <= moment + _SIGNATURES
    ]
