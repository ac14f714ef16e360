"""Threads: what takes long to read is read beside the loop, one after the other, so that the loop goes on.

Threads of Python share one interpreter: two that read keep the loop waiting twice as long.

>>> one_by_one = OneByOne()
>>> files = await one_by_one(read_files, request)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class OneByOne:
    """A queue of work for threads: one at a time, in the order of the calls."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def __call__(self, work: Callable[_P, _T], *args: _P.args, **named: _P.kwargs) -> _T:
        """Runs ``work`` in a thread and returns its result. Raises as ``work`` does."""
        async with self._turn:
            return await asyncio.to_thread(work, *args, **named)
