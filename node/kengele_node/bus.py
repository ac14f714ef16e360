"""The bus: what the node needs of a line to the hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message of a feed. ``attempt`` counts from 1; ``receipt`` is where its acknowledgement goes."""

    data: bytes
    sequence: int
    attempt: int
    receipt: str


class Bus(Protocol):
    """What the node needs of a line; tests stand a fake in its place."""

    async def request(self, subject: str, data: bytes, timeout: float = 10) -> bytes:
        """The answer to ``data``. Raises Unreachable; what was sent may have arrived all the same."""
        ...

    async def fetch(self, stream: str, consumer: str, batch: int, timeout: float) -> list[Delivery]:
        """Up to ``batch`` messages: those there at once, or the first to come within ``timeout`` seconds, or none."""
        ...

    async def acknowledge(self, delivery: Delivery, *, confirm: bool = False) -> None:
        """Tells the hub not to deliver again. Only with ``confirm`` it is certain, when this returns, that it knows."""
        ...
