"""One member that sends all it can, a process of its own: ``python -m bench.hostile URL SEED JWT``; ends on SIGTERM.

Says ``up`` whenever it is let in and begins.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

import uvloop

from kengele_node.link import Link
from kengele_schemas import subjects
from kengele_schemas.errors import KengeleError
from kengele_schemas.nkeys import KeyPair

SIZE = 1024


async def flood(url: str, seed: str, jwt: str) -> None:
    key = KeyPair.from_seed(seed)
    subject, garbage = subjects.reports_submit(key.public), bytes(SIZE)
    async with Link([url], jwt, key, first_wait=0.05, longest_wait=0.2) as link:
        while True:
            with suppress(KengeleError, OSError):
                await link.wait_connected(60)
                print("up", flush=True)
                client, _ = link._current()
                while client.is_connected:
                    for _ in range(100):
                        await client.publish(subject, garbage)
                    await client.flush(10)
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    uvloop.run(flood(*sys.argv[1:4]))
