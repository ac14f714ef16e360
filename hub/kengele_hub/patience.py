"""Patience with a broker that is not ready yet: servers that have just begun, and streams new to them, elect first.

names = await patiently(streams.names, nc)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from .errors import Unavailable

PATIENCE: Final = 30.0
"""Seconds."""
_PAUSE: Final = 0.5
_T = TypeVar("_T")


async def patiently(ask: Callable[..., Awaitable[_T]], *given: Any) -> _T:
    """Asks for what may be asked twice, until the broker does it. Raises as ``ask``; Unavailable after half a minute's
    asking."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await ask(*given)
        except Unavailable:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(_PAUSE)
