"""The keyring: an office's private opening keys, from the day one is made to the day it is destroyed.

A key is made some weeks before the roster names it, opens from its first day on, and is kept for a grace after its
last one, while reports may still be on their way. Then it is gone: whoever seizes the desk later, and had recorded what
went over the line before, does not open it any more.

    >>> ring = Keyring(member)
    >>> statement = ring.statement(office, today, weeks=4)
    >>> ring.learn(trusted.offices.get(member.id), today)
    >>> ring.destroy(today)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from kengele_node.member import OPENING, Member
from kengele_schemas.encoding import dumps, loads
from kengele_schemas.errors import Damaged, Malformed
from kengele_schemas.keys import OpeningKey, OpeningPublic, fingerprint
from kengele_schemas.roster import Office
from kengele_schemas.rotation import GRACE, OfficeKeys, coming, followed

WEEKS: Final = 4
"""Weeks for which keys are made ahead. Signatures are renewed every fortnight: so two renewals may fail."""
FEWEST: Final = 3
"""With fewer weeks ahead new ones are made."""
_DAYS: Final = "opening"
_HURRY: Final = "opening-at-once"
_MAX_DAYS: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Days:
    """From when on a key is meant to be used, and when its last day is known to be; ``listed`` is its place."""

    begins: date | None = None
    ends: date | None = None
    listed: bool = False

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> _Days:
        begins, ends = (date.fromisoformat(row[name]) if row[name] else None for name in ("begins", "ends"))
        return cls(begins, ends, bool(row["listed"]))

    def row(self) -> dict[str, Any]:
        begins, ends = (day.isoformat() if day else None for day in (self.begins, self.ends))
        return {"begins": begins, "ends": ends, "listed": self.listed}


class Keyring:
    """The private opening keys of the office at home in ``member``. Raises Damaged where their days cannot be read."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._keys = {name: (key, fingerprint(key.public.raw)) for name, key in member.opening_by_name.items()}
        text = member.vault.secrets.get(_DAYS)
        try:
            rows = loads(text, max_bytes=_MAX_DAYS) if text else {}
            self._days = {mark: _Days.read(row) for mark, row in rows.items()}
        except (Malformed, KeyError, TypeError, ValueError, AttributeError):
            raise Damaged(
                "damaged", "The days of this office's keys cannot be read.", "Restore the vault from a copy."
            ) from None

    def opening(self, today: date) -> tuple[OpeningKey, ...]:
        """All of them: those that may be in use today first, then those that were, then those to come."""

        def order(item: tuple[OpeningKey, str]) -> tuple[int, int]:
            days = self._days.get(item[1], _Days())
            begins = days.begins.toordinal() if days.begins else 0
            if begins > today.toordinal():
                return 2, begins
            return int(days.ends is not None and days.ends < today), -begins

        return tuple(key for key, _ in sorted(self._keys.values(), key=order))

    def learn(self, office: Office, today: date) -> None:
        """Takes over what the roster says of the keys' days.

        An end counts from the day on which it is first seen, if that is later: until then others had no way to know it.
        """
        listed = {fingerprint(key.public().raw): key for key in office.keys}
        found = dict(self._days)
        for _, mark in self._keys.values():
            days = found.get(mark, _Days())
            if mark in listed:
                key = listed[mark]
                ends = days.ends
                if key.not_after is None:
                    ends = None
                elif ends is None or key.not_after > ends:
                    ends = max(key.not_after, today)
                found[mark] = _Days(key.not_before or days.begins, ends, listed=True)
            elif days.listed and days.ends is None:
                found[mark] = _Days(days.begins, today, listed=True)
        self._keep(found)

    def hurried(self, office: Office, today: date) -> bool:
        """Whether the office wanted other keys at once, and still has the old ones."""
        wished = self._member.vault.secrets.get(_HURRY, b"").decode("ascii")
        used = [key for key in office.keys if key.holds(today)]
        return bool(wished) and all(key.not_before is None or key.not_before.isoformat() < wished for key in used)

    def statement(self, office: Office, today: date, weeks: int = WEEKS, *, at_once: bool = False) -> OfficeKeys | None:
        """The office's word that more keys follow those that ``office`` has in the roster; None if there is no need.

        A key that was made before and that the roster does not name yet is taken before a new one is made, so that the
        same is said until it is taken in.

        Args:
            weeks: for how many weeks to come there are to be keys.
            at_once: the first of them holds from today on, and none that was made before goes on.
        """
        if at_once:
            self._member.remember(_HURRY, today.isoformat().encode("ascii"))
        hurry = at_once or self.hurried(office, today)
        days = (today, *coming((), today, weeks)) if hurry else coming(office.keys, today, weeks)
        if not days:
            return None
        suite = office.keys[0].suite
        spare = self._spare(office, suite)
        fresh = [(day, spare.pop(0) if spare else OpeningKey.generate(suite)) for day in days]
        self._add(fresh)
        publics: list[tuple[date, OpeningPublic]] = [(day, key.public) for day, key in fresh]
        member = self._member
        keys = followed(office.keys, publics, today)
        return OfficeKeys.of(office, keys, member.card.root_digest, member.key)

    def destroy(self, today: date) -> int:
        """Destroys the keys whose grace is over; how many those were."""
        over = {
            name: mark
            for name, (_, mark) in self._keys.items()
            if (ends := self._days.get(mark, _Days()).ends) is not None and ends + GRACE < today
        }
        if over:
            vault = self._member.vault
            days = {mark: one for mark, one in self._days.items() if mark not in over.values()}
            kept = {name: secret for name, secret in vault.secrets.items() if name not in over}
            vault.replace({**kept, _DAYS: _text(days)})
            self._days = days
            self._keys = {name: key for name, key in self._keys.items() if name not in over}
        return len(over)

    def _spare(self, office: Office, suite: str) -> list[OpeningKey]:
        """The keys that were made and never listed, in the order of the days that they were made for."""
        listed = {fingerprint(key.public().raw) for key in office.keys}
        unused = [
            (days.begins or date.min, mark, key)
            for key, mark in self._keys.values()
            if key.suite == suite
            and mark not in listed
            and not (days := self._days.get(mark, _Days(listed=True))).listed
        ]
        return [key for _, _, key in sorted(unused, key=lambda one: one[:2])]

    def _add(self, keys: list[tuple[date, OpeningKey]]) -> None:
        """Keeps ``keys``, each for its day, on the disk before anybody hears of them."""
        secrets, days = dict(self._member.vault.secrets), dict(self._days)
        held = {mark for _, mark in self._keys.values()}
        for day, key in keys:
            mark = fingerprint(key.public.raw)
            days[mark] = _Days(day)
            if mark not in held:
                name = f"{OPENING}{key.suite}.{mark}"
                secrets[name] = key.raw
                self._keys[name] = (key, mark)
        if days != self._days or secrets.keys() != self._member.vault.secrets.keys():
            self._member.vault.replace({**secrets, _DAYS: _text(days)})
            self._days = days

    def _keep(self, days: dict[str, _Days]) -> None:
        if days != self._days:
            self._member.remember(_DAYS, _text(days))
            self._days = days


def _text(days: Mapping[str, _Days]) -> bytes:
    return dumps({mark: one.row() for mark, one in days.items()})
