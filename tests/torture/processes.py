"""The network's processes: started, watched, started again when they end, and tormented."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from kengele_hub import tether

_REST: Final = 0.3
"""Seconds until what ended by itself is started again, as a service manager would."""
_LINE: Final = 1 << 20
_PATIENCE: Final = 30.0


class Process:
    """One process that is to run. ``heard`` is given each line of its output."""

    def __init__(
        self,
        name: str,
        role: str,
        command: Sequence[str],
        env: Mapping[str, str],
        log: Path,
        heard: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self.name, self.role = name, role
        self.finished = False
        """Whether it has ended well and is not to be started again."""
        self.kills = 0
        self.ends: dict[int, int] = {}
        """How often it ended with which code, without being told to."""
        self._command, self._env, self._log, self._heard = command, env, log, heard
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._may_run = asyncio.Event()
        self._may_run.set()
        self._told = False

    def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep())

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def running(self) -> int:
        """Its process id, as soon as it has one."""
        async with asyncio.timeout(_PATIENCE):
            while (pid := self.pid) is None:
                await asyncio.sleep(0.02)
        return pid

    async def kill(self, away: float) -> bool:
        """SIGKILL, and no new start for ``away`` seconds. Whether it hit a process that lived."""
        return await self._end(signal.SIGKILL, away)

    async def restart(self, away: float) -> None:
        """SIGTERM, and likewise; who does not end in time is left to it."""
        await self._end(signal.SIGTERM, away)

    async def pause(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after ``seconds``."""
        pid = await self.running()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        with suppress(ProcessLookupError):
            if self.pid == pid:
                os.kill(pid, signal.SIGCONT)

    def hold(self) -> None:
        """Does not start it again until :meth:`let`."""
        self._may_run.clear()

    def let(self) -> None:
        self._may_run.set()

    async def stop(self) -> None:
        """Ends it for good."""
        self.finished = True
        await self._end(signal.SIGTERM, 0)
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _end(self, how: signal.Signals, away: float) -> bool:
        process = self._process
        if process is None or process.returncode is not None:
            return False
        held = self._may_run.is_set()
        self._told = True
        if away and held:
            self._may_run.clear()
        with suppress(ProcessLookupError):
            process.send_signal(how)
        if how is not signal.SIGKILL:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await process.wait()
        hit = process.returncode == -signal.SIGKILL and how is signal.SIGKILL
        self.kills += hit
        if away and held:
            await asyncio.sleep(away)
            self._may_run.set()
        return hit

    async def _keep(self) -> None:
        while not self.finished:
            await self._may_run.wait()
            self._told = False
            with self._log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", tether.__file__, str(os.getpid())),
                    *self._command,
                    env={**os.environ, **self._env},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                    limit=_LINE,
                )
            assert self._process.stdout is not None
            with suppress(ValueError):  # a line of a megabyte
                while line := await self._process.stdout.readline():
                    self._heard(line)
            code = await self._process.wait()
            if self._told:
                continue
            self.ends[code] = self.ends.get(code, 0) + 1
            if code == 0 and self.role == "writer":
                self.finished = True
                return
            await asyncio.sleep(_REST)
