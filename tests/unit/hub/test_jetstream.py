"""Streams and atomic batches, against a real broker."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from kengele_hub import jetstream
from kengele_hub.broker import Broker
from kengele_hub.errors import Conflict, StorageFull, Unavailable
from kengele_hub.jetstream import ONCE, publish_batch
from kengele_schemas import subjects
from kengele_schemas.encoding import dumps, loads
from kengele_schemas.errors import Refused
from kengele_schemas.nkeys import KeyPair
from kengele_testing.server import running_broker

pytestmark = pytest.mark.full
REPORT = subjects.ledger_report


@asynccontextmanager
async def streams(tmp_path: Path, **options: Any) -> AsyncIterator[tuple[Broker, Client]]:
    """A broker with the hub's streams, and the hub's connection to it."""
    async with running_broker(tmp_path) as (broker, _):
        nc = await broker.access.connect()
        try:
            await jetstream.ensure_streams(nc, **options)
            yield broker, nc
        finally:
            await nc.close()


def run(tmp_path: Path, claim: Callable[[Client], Awaitable[None]], **options: Any) -> None:
    """Holds ``claim`` against a fresh broker."""

    async def against_a_broker() -> None:
        async with streams(tmp_path, **options) as (_, nc):
            await claim(nc)

    asyncio.run(against_a_broker())


async def info(nc: Client, what: str) -> dict[str, Any]:
    return dict(loads((await nc.request(f"$JS.API.{what}", b"")).data, max_bytes=1 << 20, max_depth=16))


async def count(nc: Client, stream: str) -> int:
    return int((await info(nc, f"STREAM.INFO.{stream}"))["state"]["messages"])


def test_a_batch_is_stored_in_order_and_its_last_place_returned(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        assert await publish_batch(nc, [(REPORT(f"r{i}"), b"%d" % i, ONCE) for i in range(5)]) == 5
        assert await publish_batch(nc, [(REPORT("x"), b"", ONCE)]) == 6
        assert (await jetstream.last(nc, subjects.LEDGER, REPORT("r2")) or ())[:2] == (3, b"2")
        assert (await jetstream.last(nc, subjects.LEDGER, REPORT("x")) or ())[:2] == (6, b"")
        assert await jetstream.last(nc, subjects.LEDGER, REPORT("none")) is None

    run(tmp_path, claim)


def test_a_report_id_is_taken_once_and_nothing_beside_it_is_stored(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        await publish_batch(nc, [(REPORT("taken"), b"first", ONCE)])
        with pytest.raises(Conflict):
            await publish_batch(nc, [(REPORT(name), b"second", ONCE) for name in ("new", "taken", "newer")])
        with pytest.raises(Conflict):
            await publish_batch(nc, [(REPORT("twice"), b"", ONCE), (REPORT("twice"), b"", ONCE)])
        assert await count(nc, subjects.LEDGER) == 1
        assert (await jetstream.last(nc, subjects.LEDGER, REPORT("taken")) or ())[:2] == (1, b"first")

    run(tmp_path, claim)


def test_of_workers_that_take_one_id_at_once_a_single_one_gets_it(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        batches = [
            [(REPORT(f"w{worker}-{i}"), b"", ONCE) for i in range(20)] + [(REPORT("same"), b"%d" % worker, ONCE)]
            for worker in range(6)
        ]
        results = await asyncio.gather(*(publish_batch(nc, batch) for batch in batches), return_exceptions=True)

        assert sum(isinstance(result, int) for result in results) == 1
        assert sum(isinstance(result, Conflict) for result in results) == 5
        assert await count(nc, subjects.LEDGER) == 21

    run(tmp_path, claim)


def test_a_part_of_a_stream_is_read_by_its_subjects_and_no_further_than_asked(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        await publish_batch(
            nc, [(subjects.ledger_entry("odd" if i % 2 else "even", str(i)), b"", ONCE) for i in range(9)]
        )

        async def read(start: int = 1, **options: Any) -> list[int]:
            return [one.sequence async for one in jetstream.read_all(nc, subjects.LEDGER, start, **options)]

        assert await read(only="ledger.odd.*") == [2, 4, 6, 8]
        assert await read(3, limit=4) == [3, 4, 5, 6]
        assert await read(3, only="ledger.even.*", limit=2) == [3, 5]
        assert await read(8, limit=100) == [8, 9]
        assert await read(only="ledger.none.*") == []

    run(tmp_path, claim)


def test_a_message_id_seen_before_refuses_the_whole_batch(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        def message(number: int) -> jetstream.Message:
            return subjects.ledger_entry("note", "n"), b"", {"Nats-Msg-Id": str(number)}

        await publish_batch(nc, [message(1), message(2)])
        for again in ([message(3), message(2)], [message(4), message(4)]):
            with pytest.raises(Conflict):
                await publish_batch(nc, again)
        assert await count(nc, subjects.LEDGER) == 2

    run(tmp_path, claim)


def test_an_expected_last_sequence_holds_within_a_batch(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        def after(sequence: int) -> list[jetstream.Message]:
            first = (subjects.ledger_entry("leaf", "a"), b"", {"Nats-Expected-Last-Sequence": str(sequence)})
            return [first, (subjects.ledger_entry("leaf", "b"), b"", {})]

        assert await publish_batch(nc, after(0)) == 2
        with pytest.raises(Conflict):
            await publish_batch(nc, after(1))
        assert await publish_batch(nc, after(2)) == 4

    run(tmp_path, claim)


def test_a_full_ledger_takes_no_part_of_a_batch_and_says_so(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        await publish_batch(nc, [(REPORT("a"), bytes(4000), ONCE)])
        with pytest.raises(StorageFull):
            await publish_batch(nc, [(REPORT(name), bytes(4000), ONCE) for name in ("b", "c")])
        assert await count(nc, subjects.LEDGER) == 1

    run(tmp_path, claim, ledger_max_bytes=10_000)


def test_the_largest_batch_passes_and_a_larger_one_is_a_mistake(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        messages = [(REPORT(f"r{i}"), bytes(100), ONCE) for i in range(jetstream.MAX_BATCH + 1)]
        assert await publish_batch(nc, messages[:-1]) == jetstream.MAX_BATCH
        for wrong in (messages, []):
            with pytest.raises(ValueError, match="1 to 1,000"):
                await publish_batch(nc, wrong)

    run(tmp_path, claim)


def test_what_can_never_be_stored_is_not_called_unavailable(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        for subject, payload, headers in (
            (REPORT("big"), bytes(1024 * 1024 + 1), ONCE),
            (REPORT("elsewhere"), b"", {"Nats-Expected-Stream": "OTHER"}),
        ):
            with pytest.raises(Refused):
                await publish_batch(nc, [(subject, payload, headers)])
        with pytest.raises(Unavailable):  # no stream listens there
            await publish_batch(nc, [("nobody.listens", b"", {})], timeout=2)

    run(tmp_path, claim)


def test_a_broker_that_is_down_is_unavailable_at_once_and_nothing_is_sent_later(tmp_path: Path) -> None:
    async def claims() -> None:
        async with streams(tmp_path) as (broker, nc):
            pid = broker.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            with pytest.raises(Unavailable):
                await publish_batch(nc, [(REPORT("unconfirmed"), b"", ONCE)], timeout=0.3)
            os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(10):
                while nc.is_connected:
                    await asyncio.sleep(0.005)
                with pytest.raises(Unavailable):
                    await publish_batch(nc, [(REPORT("refused"), b"", ONCE)])
                with pytest.raises(Unavailable):
                    await jetstream.last(nc, subjects.LEDGER, REPORT("refused"))
                while not nc.is_connected:
                    await asyncio.sleep(0.005)
            await publish_batch(nc, [(REPORT("after"), b"", ONCE)])
            assert await jetstream.last(nc, subjects.LEDGER, REPORT("refused")) is None

    asyncio.run(claims())


def test_who_waits_for_messages_is_told_at_once_that_the_line_broke(tmp_path: Path) -> None:
    async def claims() -> None:
        async with streams(tmp_path) as (broker, nc):
            await jetstream.ensure_consumer(nc, subjects.LEDGER, "router")
            waiting = asyncio.create_task(jetstream.pull(nc, subjects.LEDGER, "router", 10, 600))
            while not (await info(nc, "CONSUMER.INFO.LEDGER.router"))["num_waiting"]:
                await asyncio.sleep(0.01)
            pid = broker.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(20):
                with pytest.raises(Unavailable):
                    await waiting

    asyncio.run(claims())


def test_streams_are_made_again_without_harm_and_can_be_changed(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        await publish_batch(nc, [(REPORT("a"), b"", ONCE)])
        await jetstream.ensure_streams(nc)
        await jetstream.ensure_streams(nc, ledger_max_bytes=10_000_000)
        assert (await info(nc, "STREAM.INFO.LEDGER"))["config"]["max_bytes"] == 10_000_000
        assert await count(nc, subjects.LEDGER) == 1

    run(tmp_path, claim)


def test_a_hub_comes_up_again_where_there_is_no_room_for_a_second_of_its_streams(tmp_path: Path) -> None:
    async def against_a_small_disk() -> None:
        # What the streams may grow to is reserved: about 2.5 GB, and the largest of them a second time is too much.
        async with running_broker(tmp_path, max_store=3_000_000_000) as (broker, _):
            first, second = await broker.access.connect(), await broker.access.connect()
            try:
                await jetstream.ensure_streams(first)
                await asyncio.gather(jetstream.ensure_streams(first), jetstream.ensure_streams(second))
            finally:
                await first.close()
                await second.close()

    asyncio.run(against_a_small_disk())


def test_nobody_deletes_from_the_ledger(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        await publish_batch(nc, [(REPORT("a"), b"", ONCE)])
        for call, document in (("STREAM.MSG.DELETE.LEDGER", {"seq": 1}), ("STREAM.PURGE.LEDGER", {})):
            reply = await nc.request(f"$JS.API.{call}", dumps(document))
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


def test_a_feed_has_one_durable_consumer_and_can_be_removed(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        nkey = KeyPair.generate("user").public
        for _ in range(2):
            await jetstream.ensure_feed(nc, nkey)
        name = subjects.feed_stream(nkey)
        await publish_batch(
            nc, [(subjects.feed_subject(nkey), b"", {}), (subjects.feed_subject(nkey, "id"), b"", ONCE)]
        )
        config = (await info(nc, f"CONSUMER.INFO.{name}.{subjects.feed_consumer(nkey)}"))["config"]
        assert config["ack_policy"] == "explicit"
        assert config["max_ack_pending"] >= 1000
        assert (await info(nc, f"STREAM.INFO.{name}"))["config"]["duplicate_window"] == 3600 * 10**9
        assert await count(nc, name) == 2
        for _ in range(2):
            await jetstream.remove_feed(nc, nkey)
        assert "error" in await info(nc, f"STREAM.INFO.{name}")

    run(tmp_path, claim)


def test_an_answer_that_is_no_answer_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        jetstream._answer(b"not json")
    with pytest.raises(Unavailable):
        jetstream._checked({"error": {"code": 503, "err_code": 10008}})
