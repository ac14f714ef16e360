"""Ending tasks for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

_AGAIN: Final = 1.0


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels ``tasks`` again and again, until each of them has ended.

    Once is not enough: nats-py makes an error of its own out of a cancellation that finds the line closed, and who
    waits out trouble with the line goes on after it; before Python 3.12 ``wait_for`` may lose one altogether.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN)
