"""The hub's streams: made once, changed without harm, and each forgets no more than it should."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from nats.aio.client import Client

from kengele_hub import jetstream, streams
from kengele_hub.jetstream import ONCE, publish_batch
from kengele_schemas import subjects
from kengele_schemas.encoding import dumps, loads
from kengele_schemas.nkeys import KeyPair
from kengele_testing.server import running_broker
from kengele_testing.streams import count, info, run

pytestmark = pytest.mark.full
REPORT = subjects.ledger_report


def test_streams_are_made_again_without_harm_and_can_be_changed(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        await publish_batch(nc, [(REPORT("a"), b"", ONCE)])
        await streams.ensure_streams(nc)
        await streams.ensure_streams(nc, ledger_max_bytes=10_000_000)
        assert (await info(nc, "STREAM.INFO.LEDGER"))["config"]["max_bytes"] == 10_000_000
        assert await count(nc, subjects.LEDGER) == 1

    run(tmp_path, claim)


def test_a_hub_comes_up_again_where_there_is_no_room_for_a_second_of_its_streams(tmp_path: Path) -> None:
    async def against_a_small_disk() -> None:
        # What the streams may grow to is reserved: about 2.5 GB, and the largest of them a second time is too much.
        async with running_broker(tmp_path, max_store=3_000_000_000) as (broker, _):
            first, second = await broker.access.connect(), await broker.access.connect()
            try:
                await streams.ensure_streams(first)
                await asyncio.gather(streams.ensure_streams(first), streams.ensure_streams(second))
            finally:
                await first.close()
                await second.close()

    asyncio.run(against_a_small_disk())


def test_nobody_deletes_from_the_ledger(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        await publish_batch(nc, [(REPORT("a"), b"", ONCE)])
        for call, document in (("STREAM.MSG.DELETE.LEDGER", {"seq": 1}), ("STREAM.PURGE.LEDGER", {})):
            reply = await nc.request(f"$JS.API.{call}", dumps(document), timeout=30)
            assert "error" in loads(reply.data, max_bytes=4096)
        assert await count(nc, subjects.LEDGER) == 1

    run(tmp_path, claim)


def test_a_trust_file_is_kept_in_its_last_version_only(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        subject = subjects.trust_file("timestamp.json")
        await publish_batch(nc, [(subject, b"1", {}), (subjects.trust_file("1.root.json"), b"root", {})])
        await publish_batch(nc, [(subject, b"2", {})])
        assert (await jetstream.last(nc, subjects.TRUST, subject) or ())[:2] == (3, b"2")
        assert await count(nc, subjects.TRUST) == 2

    run(tmp_path, claim)


def test_one_senders_refusals_do_not_wash_out_anothers(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        quiet, loud = (subjects.refused(KeyPair.generate("user").public) for _ in range(2))
        await publish_batch(nc, [(quiet, b"kept", {})])
        await publish_batch(nc, [(loud, b"", {}) for _ in range(150)])
        assert await count(nc, subjects.REFUSED) == 101
        assert (await jetstream.last(nc, subjects.REFUSED, quiet) or ())[:2] == (1, b"kept")

    run(tmp_path, claim)
