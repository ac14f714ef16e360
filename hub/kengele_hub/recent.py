"""What intake has just read and stored, for the delivery that follows at once: nothing is read twice for nothing.

>>> recent.put(sequence, body, stood)
>>> recent.take(sequence, body) or read_again(body)
"""

from __future__ import annotations

from typing import Final

from .recalls import Stood

_MAX_BYTES: Final = 24 * 1024 * 1024


class Recent:
    """Reports as they were read at intake, by their sequence in the ledger.

    Bounded. What is in is not pushed out by what comes after it: delivery takes the oldest first. A sequence that is
    written anew, as where a broker lost its store, does not pass for what stood there before: the bytes are compared.

    Args:
        max_bytes: of reports as they were sent; what was read of them takes about twice as much besides.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._held: dict[int, tuple[bytes, Stood]] = {}

    def put(self, sequence: int, body: bytes, stood: Stood) -> None:
        """Keeps ``stood``, which was read from ``body``, if there is room."""
        if sequence not in self._held and self._bytes + len(body) <= self._max_bytes:
            self._held[sequence] = (body, stood)
            self._bytes += len(body)

    def take(self, sequence: int, body: bytes) -> Stood | None:
        """What was read from ``body``, once; None if that is not known here."""
        held = self._held.pop(sequence, None)
        if held is not None:
            self._bytes -= len(held[0])
        return held[1] if held is not None and held[0] == body else None

    def forget_before(self, sequence: int) -> None:
        """Makes room: what stands before ``sequence`` was delivered, perhaps by another worker."""
        for old in [number for number in self._held if number < sequence]:
            self._bytes -= len(self._held.pop(old)[0])
