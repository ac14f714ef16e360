"""Rotation: how a member's keys follow each other, by the member's own word.

A monitor's signing key is its name; a new one begins an epoch under another name, which the old key and the new one
announce together. Offices that read her see that the two are one; nobody else is shown.

An office's opening keys each have their days, a week by custom, and the last of them has no end, so that an office
whose coordinators are late goes on with it. A statement names all of the office's keys, is bound to the network and to
the keys that it follows, and is signed by the office: nobody else can make one, and none counts a second time.

    >>> keys = followed(office.keys, [(monday(today) + WEEK, fresh.public)], today)
    >>> OfficeKeys.of(office, keys, network, signing_key).check(office, network)
    >>> Epoch.of(old_key, new_key, network).check(monitor, network)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Annotated, ClassVar, Final

from nacl.signing import SigningKey
from pydantic import AfterValidator, Field

from .encoding import b64u, canonical, unb64u
from .errors import Malformed, Refused, Untrusted
from .fields import Bytes32, Items, MonitorId, OfficeId
from .invitations import Signed
from .keys import OpeningPublic, monitor_id, verify_signature
from .roster import MAX_KEYS, Monitor, Office, OfficeKey, Signature, SigningPublic, earlier, is_opening

WEEK: Final = timedelta(days=7)
GRACE: Final = timedelta(days=60)
"""For how long what was sealed or signed under an old key may still be on its way: nodes with old rules use a key for
up to a fortnight more than its office does, an outbox may wait a month for a line, and a fortnight is left over."""
NEWS: Final = timedelta(days=90)
"""For how long readers are told that a key follows another without the old one's word."""
SOON: Final = timedelta(days=14)
VERY_SOON: Final = timedelta(days=3)
"""Before an office's last key is in use this is told: loudly, and more loudly."""
_KEYS: Final = b"kengele-office-keys-v1\0"


class OfficeKeys(Signed):
    """From an office to the coordinators: its opening keys from now on, in the place of those in the roster.

    ``network`` is the digest of the network's first root, ``after`` that of the keys which these follow.
    """

    wanted: ClassVar[str] = "an office's opening keys (keys.json)"
    network: Bytes32
    office: OfficeId
    after: Bytes32
    keys: Annotated[
        tuple[Annotated[OfficeKey, AfterValidator(is_opening)], ...], Items, Field(min_length=1, max_length=MAX_KEYS)
    ]

    @classmethod
    def of(cls, office: Office, keys: Sequence[OfficeKey], network: str, key: SigningKey) -> OfficeKeys:
        """The statement by which ``keys`` take the place of those in ``office``, signed with the office's ``key``."""
        said = {"network": network, "office": office.id, "after": keys_digest(office.keys), "keys": _listed(keys)}
        return cls.sign(said, key)

    def signed_by(self, office: Office, network: str) -> None:
        """Checks that it is ``office``'s word in this network.

        Raises:
            Untrusted: ``bad-card``.
            Malformed: ``bad-card``: there would come a day on which nobody can seal for this office.
        """
        if (self.office, self.network) != (office.id, network):
            raise Untrusted("bad-card", "These keys are another office's, or for another network.", "Ask for it again.")
        self.verify(unb64u(office.sign))
        if all(key.not_after is not None for key in self.keys):
            raise Malformed("bad-card", "All of these keys have an end.", "The last one goes on until another follows.")

    def check(self, office: Office, network: str) -> None:
        """As :meth:`signed_by`, and that it follows the keys that ``office`` has in the roster.

        Raises:
            Refused: ``overtaken``: it follows other keys: it was taken in before, or others were.
        """
        self.signed_by(office, network)
        if self.after != keys_digest(office.keys):
            raise Refused(
                "overtaken",
                "The office's keys in the roster are not those that these follow.",
                "The office makes it anew: kengele office keys",
            )


class Epoch(Signed):
    """From a monitor to the coordinators: from now on it is called after another key.

    ``signature`` is the old key's and ``own`` the new one's, over the same words.
    """

    wanted: ClassVar[str] = "a monitor's next key (epoch.json)"
    unsigned: ClassVar[frozenset[str]] = frozenset(("signature", "own"))
    network: Bytes32
    after: MonitorId
    key: SigningPublic
    own: Signature = ""

    @classmethod
    def of(cls, old: SigningKey, new: SigningKey, network: str) -> Epoch:
        """The statement by which ``new`` follows ``old``."""
        after, key = monitor_id(bytes(old.verify_key)), b64u(bytes(new.verify_key))
        said = cls(network=network, after=after, key=key)
        message = said._message()
        signatures = {"signature": b64u(old.sign(message).signature), "own": b64u(new.sign(message).signature)}
        return said.model_copy(update=signatures)

    @property
    def kid(self) -> str:
        """The monitor's name from then on."""
        return monitor_id(unb64u(self.key))

    def check(self, monitor: Monitor, network: str) -> None:
        """Checks that it is ``monitor``'s word in this network, and that it has the new key.

        Raises:
            Untrusted: ``bad-card``.
        """
        if (self.after, self.network) != (monitor.kid, network) or self.kid == self.after:
            raise Untrusted("bad-card", "This key follows another's, or in another network.", "Ask for it again.")
        self.verify(unb64u(monitor.key))
        if not verify_signature(unb64u(self.key), self._message(), unb64u(self.own)):
            raise Untrusted("bad-card", "Whoever hands in this key has not got it.", "Ask for it again.")


class Lineage:
    """Which of the names in one roster are one monitor's, by the word of each key to the next.

    Args:
        monitors: by ``kid``.
        network: the digest of the network's first root.
    """

    def __init__(self, monitors: Mapping[str, Monitor], network: str) -> None:
        self._monitors, self._network = monitors, network
        self._first: dict[str, str] = {}

    def first(self, kid: str) -> str:
        """The name from which keys were handed over, one to the next, until they came to ``kid``."""
        if kid not in self._first:
            found = kid
            for after in earlier(kid, self._monitors)[1:]:
                if not handed_over(self._monitors[found], self._monitors.get(after), self._network):
                    break
                found = after
            self._first[kid] = found
        return self._first[kid]

    def vouched_by_coordinators(self, kid: str, today: date) -> bool:
        """Whether ``kid`` is said to be one who had another name, that one has not said so, and it is still new."""
        monitor = self._monitors.get(self.first(kid))
        return monitor is not None and monitor.after is not None and today <= monitor.not_before + NEWS


def handed_over(monitor: Monitor, before: Monitor | None, network: str) -> bool:
    """Whether the key ``before`` says itself that ``monitor`` follows it."""
    if before is None or monitor.after != before.kid or monitor.handover is None:
        return False
    try:
        said = Epoch(network=network, after=before.kid, key=monitor.key, signature=monitor.handover)
        said.verify(unb64u(before.key))
    except (ValueError, Malformed, Untrusted):
        return False
    return True


def unvouched(office: Office, today: date) -> date | None:
    """The day on which an office's keys were replaced without its own word, as long as people are to be told."""
    return office.replaced if office.replaced is not None and today <= office.replaced + NEWS else None


def keys_digest(keys: Sequence[OfficeKey]) -> str:
    """The digest of an office's keys as they stand in the roster."""
    return b64u(hashlib.sha256(_KEYS + canonical(_listed(keys))).digest())


def vouched(office: Office, before: Office | None, network: str) -> bool:
    """Whether the office itself says that its keys follow those ``before``."""
    if before is None or office.vouched is None:
        return False
    try:
        statement = OfficeKeys(
            network=network,
            office=office.id,
            after=keys_digest(before.keys),
            keys=office.keys,
            signature=office.vouched,
        )
        statement.signed_by(before, network)
    except (ValueError, Untrusted, Malformed):
        return False
    return office.sign == before.sign


def monday(day: date) -> date:
    """The first day of the week in which ``day`` lies."""
    return day - timedelta(days=day.weekday())


def coming(keys: Sequence[OfficeKey], today: date, weeks: int) -> tuple[date, ...]:
    """Of the next ``weeks`` weeks, the first days of those for which there is no key yet."""
    last = max((key.not_before for key in keys if key.not_before is not None), default=today)
    days = (monday(today) + number * WEEK for number in range(1, weeks + 1))
    return tuple(day for day in days if day > last)


def ahead(keys: Sequence[OfficeKey], today: date) -> int:
    """How many of ``keys`` are for days to come."""
    return sum(key.not_before is not None and key.not_before > today for key in keys)


def stands_still(office: Office, today: date) -> date | None:
    """From when on the last of an office's keys is used until others follow; None if its keys never changed."""
    last = max((key.not_before for key in office.keys if key.not_before is not None), default=None)
    return max(last, today) if last is not None else None


def warning(office: Office, today: date) -> str:
    """What is to be said where an office will soon be left with its last key; empty if there is time."""
    still = stands_still(office, today)
    if office.status == "revoked" or still is None or still - today > SOON:
        return ""
    if still <= today:
        return f"{office.id} uses the last of its opening keys, until coordinators take in new ones: members pending."
    weight = "only " if still - today <= VERY_SOON else ""
    days = (still - today).days
    return (
        f"{office.id} has {weight}{days} days until the last of its opening keys. It goes on with that one until"
        " coordinators take in new ones: members pending."
    )


def followed(
    keys: Sequence[OfficeKey], fresh: Sequence[tuple[date, OpeningPublic]], today: date
) -> tuple[OfficeKey, ...]:
    """``keys`` and ``fresh`` ones, each from its day on in the place of all before it, newest first.

    What has ended before ``today`` is left out, and what would have begun after a fresh one did.
    """
    lasting = [key for key in keys if key.not_after is None or key.not_after >= today]
    for day, public in sorted(fresh, key=lambda one: one[0]):
        before = [key for key in lasting if key.not_before is None or key.not_before < day]
        lasting = [OfficeKey(suite=public.suite, key=b64u(public.raw), not_before=day)]
        lasting += [_ended(key, day - timedelta(days=1)) for key in before]
    return tuple(lasting[:MAX_KEYS])


def _ended(key: OfficeKey, day: date) -> OfficeKey:
    return key if key.not_after is not None and key.not_after <= day else key.model_copy(update={"not_after": day})


def _listed(keys: Sequence[OfficeKey]) -> list[dict[str, object]]:
    return [key.model_dump(mode="json", exclude_none=True) for key in keys]
