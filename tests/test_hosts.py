"""Broker, hub, nodes and desks on hosts of their own, and what happens when a link between them goes down.

The hosts are network namespaces: that takes root and iproute2. Where they cannot be made, this is skipped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kengele_schemas import subjects
from torture.harvest import dump, judged, under_way, waiting_at
from torture.site import Site
from torture.town import Town

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]
_NODES = 4
_REPORTS = 80
_ROOM = 5 << 30
_PATIENCE = 120.0


@asynccontextmanager
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    """A network on four hosts. Nothing runs yet but broker and hub."""
    with Site(tmp_path, _ROOM) as site:
        if "cut" in site.lacks:
            pytest.skip(f"NOT TESTED: {site.lacks['cut']}")
        made = Town(site, 1, _NODES, _REPORTS)
        try:
            await made.found()
            yield made
        finally:
            await made.end()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(_PATIENCE):
        while not holds():
            await asyncio.sleep(0.1)


def waiting(made: Town) -> int:
    return sum(waiting_at(made, node) for node in made.nodes)


def test_a_link_that_goes_down_between_hosts_keeps_reports_back_and_loses_none(tmp_path: Path) -> None:
    async def claims() -> None:
        async with town(tmp_path) as made:
            site = made.site
            site.cut("node", down=True)
            made.start()
            await until(lambda: waiting(made) == _REPORTS)
            assert not made.acknowledged, "a node took as sent what cannot have left it"
            site.cut("desk", down=True)
            site.cut("node", down=False)
            await until(lambda: len(made.acknowledged) > 0)
            # The workers lose their broker half-way, and desks have no line until all is sent.
            site.cut("hub", down=True)
            in_time = len(made.acknowledged)
            with pytest.raises(TimeoutError):
                await made.nc.request(subjects.trust_get(made.network.monitors[made.nodes[0]].nkey.public), b"", 1)
            site.cut("hub", down=False)
            await until(lambda: waiting(made) == 0)
            assert in_time < _REPORTS, "it was over before the link went down"
            assert not made.seen, "a desk had what cannot have come to it"
            site.cut("desk", down=False)
            async with asyncio.timeout(_PATIENCE):
                while await under_way(made):
                    await asyncio.sleep(0.1)
            await dump(made)
        found = judged(tmp_path)
        assert found["clean"], found["told"]
        assert found["acknowledged"] == _REPORTS
        assert found["delivered"] > _REPORTS

    asyncio.run(claims())
