"""Carries the schedule of faults out on a town, while its members write and send."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from kengele_hub import streams
from kengele_schemas import subjects
from torture.faults import Fault
from torture.forger import Forger
from torture.judge import GRACE
from torture.processes import Process
from torture.town import Town, insist

_STALL: Final = 12.0
"""Seconds without another fault after which the next comes, however little was acknowledged meanwhile."""
FENCE: Final = 10.0
"""Seconds after an answered revocation until nothing more of that member may come into any feed."""
_POLL: Final = 0.05


class Calm:
    """Keeps faults that freeze the hub or its broker apart from publications.

    A worker that is frozen within a delivery completes it when it thaws, by the rules of before: there is no moment
    then from which the newer ones can be said to hold. Workers may be killed at any time.
    """

    def __init__(self) -> None:
        self._troubles = 0
        self._publishing = False
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def trouble(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._publishing)
            self._troubles += 1
        try:
            yield
        finally:
            async with self._changed:
                self._troubles -= 1
                self._changed.notify_all()

    @asynccontextmanager
    async def publication(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._publishing and not self._troubles)
            self._publishing = True
        try:
            yield
        finally:
            async with self._changed:
                self._publishing = False
                self._changed.notify_all()


class Torment:
    """``done`` counts faults by kind; ``gone`` are the revoked nodes, ``rotten`` those with a flipped byte."""

    def __init__(self, town: Town, seed: int, progress: Callable[[str], None]) -> None:
        self.done: Counter[str] = Counter()
        self.gone: list[str] = []
        self.rotten: list[str] = []
        self.forger = Forger(town)
        self._town, self._progress = town, progress
        self._dice = random.Random(f"torment/{seed}")
        self._calm = Calm()
        self._shaping = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    async def carry_out(self, faults: list[Fault], reports: int) -> None:
        """All of ``faults``, each when its share of the reports is acknowledged, or after a time of stillness."""
        last = time.monotonic()
        for fault in faults:
            while len(self._town.acknowledged) < fault.at * reports and time.monotonic() - last < _STALL:
                await asyncio.sleep(_POLL)
            last = time.monotonic()
            self._progress(f"{fault.kind} {fault.role}")
            self._tasks.append(asyncio.create_task(self._apply(fault, random.Random(self._dice.random()))))
        await asyncio.gather(*self._tasks)

    async def _apply(self, fault: Fault, dice: random.Random) -> None:
        await {
            "kill": self._kill,
            "restart": self._restart,
            "pause": self._pause,
            "cut": self._cut,
            "thin": self._shape,
            "loss": self._shape,
            "clock": self._clock,
            "disk": self._disk,
            "byte": self._byte,
            "rules": self._rules,
            "revoke": self._revoke,
        }.get(fault.kind, lambda _: self.forger.volley(dice, self.gone))(fault)
        self.done[fault.kind] += 1

    def _chosen(self, fault: Fault) -> Process:
        there = [process for process in self._town.of(fault.role) if not process.finished]
        there = there or self._town.of("node")
        return there[int(fault.pick * len(there))]

    @asynccontextmanager
    async def _if_central(self, role: str) -> AsyncIterator[None]:
        """Trouble, if it is the broker that is struck, or the hub that is frozen."""
        if role in ("broker", "hub"):
            async with self._calm.trouble():
                yield
        else:
            yield

    async def _kill(self, fault: Fault) -> None:
        while True:
            chosen = self._chosen(fault)
            with suppress(TimeoutError):
                async with self._if_central("broker" if chosen.role == "broker" else ""):
                    await chosen.running()
                    if await chosen.kill(fault.seconds):
                        self._town.journal.write("kill", name=chosen.name)
                        return
            await asyncio.sleep(_POLL)

    async def _restart(self, fault: Fault) -> None:
        chosen = self._chosen(fault)
        async with self._if_central(fault.role):
            await chosen.restart(fault.seconds)

    async def _pause(self, fault: Fault) -> None:
        with suppress(TimeoutError):  # a writer that has written all
            async with self._if_central(fault.role):
                await self._chosen(fault).pause(fault.seconds)

    async def _cut(self, fault: Fault) -> None:
        async with self._if_central(fault.role):
            self._town.site.cut(fault.role, down=True)
            await asyncio.sleep(fault.seconds)
            self._town.site.cut(fault.role, down=False)

    async def _shape(self, fault: Fault) -> None:
        # A link has one shape at a time.
        async with self._shaping, self._if_central(fault.role):
            self._town.site.shape(fault.role, fault.kind, on=True)
            await asyncio.sleep(fault.seconds)
            self._town.site.shape(fault.role, fault.kind, on=False)

    async def _clock(self, fault: Fault) -> None:
        name = self._chosen(fault).name
        self._town.site.move(name, fault.number)
        await asyncio.sleep(fault.seconds)
        self._town.site.move(name, 0)

    async def _disk(self, fault: Fault) -> None:
        async with self._if_central(fault.role):
            self._town.site.fill(fault.role)
            await asyncio.sleep(fault.seconds)
            self._town.site.free(fault.role)
            if fault.role == "broker":
                # As docs/operations.md says: nats-server does not write again where a write has failed.
                await self._town.processes["broker"].restart(0)

    async def _byte(self, fault: Fault) -> None:
        """Flips a byte of a node's outbox while the node is off."""
        left = [process for process in self._town.of("node") if process.name not in (*self.rotten, *self.gone)]
        chosen = left[int(fault.pick * len(left))]
        self.rotten.append(chosen.name)
        chosen.hold()
        await chosen.restart(0)
        home = self._town.run / "members" / "monitors" / chosen.name
        path = home / ("outbox.db" if fault.number % 3 else "outbox.db-wal")
        with suppress(OSError):
            _flip(path if path.exists() and path.stat().st_size else home / "outbox.db", abs(fault.number))
        chosen.let()

    async def _rules(self, _: Fault) -> None:
        async with self._calm.publication():
            await insist(lambda: self._town.publish_rules(self._town.turn + 1))
            await asyncio.sleep(GRACE)

    async def _revoke(self, fault: Fault) -> None:
        town = self._town
        left = [node for node in town.nodes if node not in (*self.gone, *self.rotten)]
        node = left[int(fault.pick * len(left))]
        self.gone.append(node)
        async with self._calm.publication():
            await insist(lambda: town.revoke(node))
            await asyncio.sleep(FENCE)
            await insist(lambda: self._fence(town.network.monitors[node].kid))

    async def _fence(self, kid: str) -> None:
        for office, member in self._town.network.offices.items():
            found = await streams.stream(self._town.nc, subjects.feed_stream(member.nkey.public))
            assert found is not None
            self._town.journal.write("fence", office=office, kid=kid, sequence=found["state"]["last_seq"])


def _flip(path: Path, number: int) -> None:
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(number % size)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ (1 << number % 8)]))
