"""What the flow is measured against, each as a process of its own: ``python -m bench.serve KIND HOME [BROKER]``.

``kengele`` is the hub as ``kengele hub run`` starts it; with BROKER, one more worker beside the first. ``relay`` moves
the same bytes over the same streams, in the same batches and with the same fsync, and does nothing else: no signature,
no policy, no log, no stripping. ``naive`` is what one would write first: a model, one signature check, and one publish
after the other.

Prints the broker's address when it serves, and ends on SIGTERM.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import BaseModel

from bench.town import SETTLED, token_of
from kengele_hub import consumers, feeds, jetstream, service, streams
from kengele_hub.broker import Broker, Settings
from kengele_hub.delivery import BATCH, CONSUMER
from kengele_hub.errors import Conflict
from kengele_hub.home import HubKeys
from kengele_hub.settings import Settings as HubSettings
from kengele_hub.submissions import MAX_BATCH
from kengele_schemas import subjects
from kengele_schemas.encoding import b64u, unb64u

PLAN: Final = "plan.json"
"""For relay and naive: the feeds' nkeys, the monitors' keys, and how many bytes each office and sender is given."""


def say(url: str) -> None:
    print(url, flush=True)


async def kengele(home: Path, broker: str = "") -> None:
    settled = json.loads((home / SETTLED).read_text())
    token, files = token_of(settled)
    token_hash = b64u(hashlib.sha256(unb64u(token)).digest())
    settings = HubSettings(port=-1, external=broker, token_hash=token_hash, ops_port=0)
    founding: set[asyncio.Task[None]] = set()

    def started(running: service.Running) -> None:
        async def found() -> None:
            if running.authority.standing is None:
                await running.authority.found(token, files)
            say(running.url)

        founding.add(asyncio.create_task(found()))

    await service.run(HubKeys.load(home), settings, started)


async def relay(home: Path) -> None:
    plan = json.loads((home / PLAN).read_text())
    parcel, receipt, nkeys = plan["parcel"], plan["receipt"], plan["feeds"]
    async with _bus(home, nkeys) as (nc, url):
        waiting: asyncio.Queue[Msg] = asyncio.Queue()

        async def take(message: Msg) -> None:
            waiting.put_nowait(message)

        async def store() -> None:
            number = 0
            while True:
                batch = [await waiting.get()]
                while len(batch) < MAX_BATCH and not waiting.empty():
                    batch.append(waiting.get_nowait())
                entries = []
                for message in batch:
                    number += 1
                    entries.append((subjects.ledger_report(f"r{number}"), message.data, jetstream.ONCE))
                await jetstream.publish_batch(nc, entries)
                for message in batch:
                    await nc.publish(message.reply, message.data[:receipt])

        async def deliver() -> None:
            await consumers.ensure_consumer(
                nc, subjects.LEDGER, CONSUMER, only=["ledger.report.>"], max_pending=100_000
            )
            while True:
                messages = await consumers.pull(nc, subjects.LEDGER, CONSUMER, BATCH, 5)
                shares: dict[str, list[jetstream.Message]] = defaultdict(list)
                for message in messages:
                    item = message.subject.rpartition(".")[2]
                    for nkey in nkeys:
                        shares[nkey].append((subjects.feed_subject(nkey, item), message.data[:parcel], jetstream.ONCE))
                await asyncio.gather(*(jetstream.publish_batch(nc, items) for items in shares.values()))
                for message in messages:
                    await message.ack()

        await nc.subscribe(subjects.SUBMISSIONS, queue="hub", cb=take)
        await nc.flush()
        say(url)
        await asyncio.gather(store(), deliver())


class _Header(BaseModel):
    ct: dict[str, str]
    w: list[tuple[str, str, str]]


class _Envelope(BaseModel):
    protected: str
    payload: str
    signature: str
    header: _Header


async def naive(home: Path) -> None:
    plan = json.loads((home / PLAN).read_text())
    authors = {kid: Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)) for kid, key in plan["authors"].items()}
    offices = dict(zip(plan["offices"], plan["feeds"], strict=True))
    async with _bus(home, plan["feeds"]) as (nc, url):
        js = nc.jetstream()

        async def take(message: Msg) -> None:
            envelope = _Envelope.model_validate_json(message.data)
            claims = json.loads(_decoded(envelope.payload))
            signed = f"{envelope.protected}.{envelope.payload}".encode()
            authors[claims["kid"]].verify(_decoded(envelope.signature), signed)
            await js.publish(subjects.ledger_report(claims["id"]), message.data)
            for office, nkey in offices.items():
                wraps = [wrap for wrap in envelope.header.w if wrap[0] == office]
                ct = {name: text for name, text in envelope.header.ct.items() if name in plan["parts"]}
                given = envelope.model_copy(update={"header": _Header(ct=ct, w=wraps)})
                await js.publish(subjects.feed_subject(nkey, claims["id"]), given.model_dump_json().encode())
            await nc.publish(message.reply, message.data[: plan["receipt"]])

        await nc.subscribe(subjects.SUBMISSIONS, queue="hub", cb=take)
        await nc.flush()
        say(url)
        await asyncio.Event().wait()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@asynccontextmanager
async def _bus(home: Path, nkeys: list[str]) -> AsyncIterator[tuple[Client, str]]:
    """The broker that the hub runs, its streams and the offices' feeds."""
    async with Broker(HubKeys.load(home), Settings(port=-1)) as broker:
        nc = await broker.access.connect()
        await streams.ensure_streams(nc)
        for nkey in nkeys:
            await feeds.ensure_feed(nc, nkey)
        yield nc, broker.url


async def _until_told(home: Path, kind: str, *broker: str) -> None:
    hubs: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {"relay": relay, "naive": naive, "kengele": kengele}
    work = asyncio.create_task(hubs[kind](home, *broker))
    if kind != "kengele":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    with suppress(asyncio.CancelledError, Conflict):
        await work


if __name__ == "__main__":
    uvloop.run(_until_told(Path(sys.argv[2]), sys.argv[1], *sys.argv[3:]))
