"""Atomic batches and the messages they leave, against a real broker."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from nats.aio.client import Client

from kengele_hub import jetstream
from kengele_hub.errors import Conflict, StorageFull, Unavailable
from kengele_hub.jetstream import ONCE, publish_batch
from kengele_schemas import subjects
from kengele_schemas.errors import Refused
from kengele_testing.streams import count, made_streams, run

pytestmark = pytest.mark.full
REPORT = subjects.ledger_report


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
        async with made_streams(tmp_path) as (broker, nc):
            pid = broker.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            with pytest.raises(Unavailable):
                await publish_batch(nc, [(REPORT("unconfirmed"), b"", ONCE)], timeout=0.3)
            os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(60):
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


def test_an_answer_that_is_no_answer_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        jetstream._answer(b"not json")
    with pytest.raises(Unavailable):
        jetstream._checked({"error": {"code": 503, "err_code": 10008}})
