"""Whether the broker writes what it is given, stream by stream.

nats-server does not write to a stream again where a write to a full disk has failed, not even when there is room: it
answers, serves what it has, and confirms nothing until it begins anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from kengele_schemas.errors import KengeleError

from .errors import StorageFull


class Storing:
    """Which streams take nothing, and for how long. ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failing: dict[str, tuple[float, float]] = {}
        """By stream, when the first and the last of its failures in a row were."""

    def note(self, stream: str, error: KengeleError | None) -> None:
        """What became of the last batch for ``stream``; a broker that says that a bound is reached is well."""
        if error is None or isinstance(error, StorageFull):
            self._failing.pop(stream, None)
        else:
            now = self._clock()
            self._failing[stream] = (self._failing.get(stream, (now, now))[0], now)

    @property
    def stuck(self) -> float:
        """Seconds over which the worst of the streams has failed again and again; one failure is none at all."""
        return max((last - first for first, last in self._failing.values()), default=0.0)

    def begin_anew(self) -> None:
        self._failing.clear()
