"""The time by which a home judges what has run out: never earlier than what it has seen, though its clock is set back.

Two moments are kept, sealed, in the file ``clock``. ``seen`` is what this clock said when what the hub served was
verified: hub and coordinators had signed that it holds then. ``used`` is what this clock said when rules were used, and
what the hub's word says. The first goes no further than just behind the rules' end: a clock that was wrong once costs
the rules that it judged, and no others. The second stops short of their end: the hub alone makes no rules run out.

    >>> clock = Clock(home, vault.rows("clock"), now)
    >>> clock.now() >= now()
    True
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tuf.api.metadata import Metadata

from kengele_schemas import disk
from kengele_schemas.encoding import dumps, loads
from kengele_schemas.errors import KengeleError
from kengele_schemas.publication import TIMESTAMP_LIFE
from kengele_schemas.trusted import Trusted

from .rows import RowCipher

_FILE: Final = "clock"
_MAX: Final = 4096
_MOMENT: Final = timedelta(seconds=1)
_STEP: Final = timedelta(minutes=1)
"""Less is not worth a write to the disk, unless rules ran out in it."""
BEHIND: Final = timedelta(minutes=5)
"""A clock is told to be behind from here on."""
_NEVER: Final = datetime.fromtimestamp(0, UTC)


class Clock:
    """A home's time.

    Args:
        home: where the file is.
        rows: the cipher of what is in it.
        read: the machine's clock; aware, UTC.
    """

    def __init__(self, home: Path, rows: RowCipher, read: Callable[[], datetime]) -> None:
        self._home, self._rows, self._read = home, rows, read
        self._seen, self._used = self._kept()

    def now(self) -> datetime:
        """By this is judged which rules hold and for whom is sealed."""
        return max(self._read(), self._seen, self._used)

    def at_the_hub(self) -> datetime:
        """By this is judged what the hub serves. A clock that was wrong, or a hub that lied, shuts out no later hub."""
        return max(self._read(), self._seen)

    def behind(self) -> datetime | None:
        """What was seen here already, where the machine's clock is behind it by more than minutes."""
        latest = max(self._seen, self._used)
        return latest if latest - self._read() > BEHIND else None

    def looked(self, trusted: Trusted, claimed: datetime | None = None) -> None:
        """What the hub serves was verified just now; by its own word it was signed at ``claimed``."""
        last = self._last_moment(trusted)
        self._raise(min(self._read(), last), min(claimed or _NEVER, last))

    def told(self, trusted: Trusted, claimed: datetime) -> None:
        """The hub's log says ``claimed`` in a receipt that holds."""
        self._raise(_NEVER, min(claimed, self._last_moment(trusted)))

    def used(self, trusted: Trusted) -> None:
        """The rules in ``trusted`` are used by this machine's clock."""
        end = trusted.targets_expire + _MOMENT
        self._raise(_NEVER, min(self._read(), end), at_once=end <= self._read())

    def _last_moment(self, trusted: Trusted) -> datetime:
        """The last in which all that the coordinators signed, and that has not run out here, still holds."""
        now = self.now()
        ends = (trusted.targets_expire, *trusted.ends.values())
        return min((end for end in ends if end > now), default=now) - _MOMENT

    def _raise(self, seen: datetime, used: datetime, *, at_once: bool = False) -> None:
        if seen <= self._seen and used <= self._used:
            return
        self._seen, self._used = max(seen, self._seen), max(used, self._used)
        kept_seen, kept_used = self._kept()  # another process may have written more
        if max(self._seen - kept_seen, self._used - kept_used) < _STEP and not at_once:
            return
        self._seen, self._used = max(kept_seen, self._seen), max(kept_used, self._used)
        body = {"seen": self._seen.timestamp(), "used": self._used.timestamp()}
        # A full disk keeps nobody from reporting.
        with suppress(KengeleError, OSError):
            disk.write(self._home / _FILE, self._rows.seal(_FILE, dumps(body)))

    def _kept(self) -> tuple[datetime, datetime]:
        try:
            body: Any = loads(self._rows.open(_FILE, disk.read(self._home / _FILE, _MAX)), max_bytes=_MAX)
            return datetime.fromtimestamp(body["seen"], UTC), datetime.fromtimestamp(body["used"], UTC)
        except (KengeleError, OSError, ValueError, KeyError, TypeError, OverflowError):
            return _NEVER, _NEVER


def signed_at(home: Path) -> datetime | None:
    """When the hub signed what was verified last, by its own word."""
    try:
        data = disk.read_own(home / "trust/current/metadata/timestamp.json")
        stamp: datetime = Metadata[Any].from_bytes(data).signed.expires
    except Exception:  # it was verified a moment ago; whatever is wrong with it since is told by who verifies it
        return None
    return stamp.replace(tzinfo=UTC) - TIMESTAMP_LIFE
