"""Delivery: from the ledger into the feeds, once, by the rules of the moment. Against a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from nats.aio.msg import Msg
from structlog.testing import capture_logs

from kengele_hub import consumers, feeds, jetstream
from kengele_hub import delivery as delivery_module
from kengele_hub.delivery import CONSUMER, Delivery
from kengele_hub.errors import StorageFull
from kengele_hub.ledger import Entry, join, split
from kengele_hub.tasks import end
from kengele_schemas import subjects
from kengele_schemas.encoding import loads
from kengele_schemas.envelope import parse
from kengele_schemas.errors import Refused
from kengele_schemas.marker import read_marker
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.sealing import open_envelope
from kengele_testing.hub import Hub, running_hub

pytestmark = pytest.mark.full


def run(tmp_path: Path, claim: Callable[[Hub], Awaitable[None]], **options: Any) -> None:
    """Holds ``claim`` against a founded hub."""

    async def against_a_hub() -> None:
        async with running_hub(tmp_path, **options) as hub, asyncio.timeout(60):
            await claim(hub)

    asyncio.run(against_a_hub())


async def accepted(hub: Hub, *reports: bytes) -> list[str]:
    """Takes ``reports`` into the ledger; gives their ids."""
    for answer in await hub.take(*(("osh", data) for data in reports)):
        assert answer["code"] == "accepted"
    return [parse(data).claims["id"] for data in reports]


async def pulled(hub: Hub) -> list[Msg]:
    """The reports and recalls that the router's consumer hands out; they stay unacknowledged."""
    await consumers.ensure_consumer(hub.nc, subjects.LEDGER, CONSUMER)
    messages = await consumers.pull(hub.nc, subjects.LEDGER, CONSUMER, 200, 1)
    return [message for message in messages if message.subject.startswith(("ledger.report.", "ledger.recall."))]


async def deliver(hub: Hub, messages: Sequence[Msg]) -> list[Msg]:
    """Delivers ``messages`` by the rules in force; gives those that may be acknowledged."""
    assert hub.authority.standing is not None
    done, _ = await hub.delivery.deliver(messages, hub.authority.standing)
    return done


async def until_filled(hub: Hub, office: str, count: int) -> list[jetstream.Stored]:
    while len(found := await hub.feed(office)) < count:
        await asyncio.sleep(0.02)
    return found


async def waiting(hub: Hub) -> int:
    """Ledger entries that the router has not done with."""
    answer = await hub.nc.request(f"$JS.API.CONSUMER.INFO.{subjects.LEDGER}.{CONSUMER}", b"", timeout=30)
    found = loads(answer.data, max_bytes=1 << 16, max_depth=16)
    return int(found["num_pending"]) + int(found["num_ack_pending"])


async def until_done(hub: Hub) -> None:
    while await waiting(hub):
        await asyncio.sleep(0.02)


def marker(hub: Hub, office: str, data: bytes) -> Any:
    return read_marker(data, office, bytes(hub.keys.hub_key.verify_key))


def test_each_office_gets_what_it_may_read_and_it_opens(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        (report_id,) = await accepted(hub, hub.roster.sealed())
        async with hub.running("delivery"):
            for office, compartments in (("unrcca", {"summary", "account"}), ("council", {"summary"})):
                (item,) = await until_filled(hub, office, 1)
                assert item.subject == subjects.feed_subject(hub.roster.nkeys[office], report_id)
                author = bytes(hub.roster.authors["osh"].verify_key)
                opened = open_envelope(parse(item.data), office, [hub.roster.opening[office]], author)
                assert set(opened.contents) == compartments
            await until_done(hub)
        assert hub.delivery.delivered == 2

    run(tmp_path, claim)


def test_an_office_that_was_not_sealed_for_gets_nothing_at_all(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        await accepted(hub, hub.roster.sealed(readers=("council",)))
        assert len(await deliver(hub, await pulled(hub))) == 1
        assert len(await hub.feed("council")) == 1
        assert await hub.feed("unrcca") == []

    run(tmp_path, claim)


def test_an_office_with_two_desks_gets_it_on_both(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        hub.roster.nkeys["second"] = KeyPair.generate("user").public
        rows = hub.roster.documents()["connections.json"]["connections"]
        row = {"nkey": hub.roster.nkeys["second"], "role": "office", "member": "council"}
        await hub.publish(hub.roster.changed("connections.json", connections=[*rows, row]))
        await accepted(hub, hub.roster.sealed())
        await deliver(hub, await pulled(hub))
        (first,), (second,) = await hub.feed("council"), await hub.feed("second")
        assert first.data == second.data

    run(tmp_path, claim)


# --- nothing twice, nothing lost --------------------------------------------------------------------------------------


def test_what_was_delivered_and_not_acknowledged_is_delivered_again_and_doubles_nothing(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        await accepted(hub, *(hub.roster.sealed() for _ in range(5)))
        await hub.publish(hub.roster.with_rules(without="to-council"))
        messages = await pulled(hub)
        before: Any = None
        for _ in range(3):
            assert await deliver(hub, messages) == messages
            found = [await hub.feed("unrcca"), await hub.feed("council"), await hub.stored(subjects.LEDGER)]
            assert before in (None, found)
            before = found
        reports, markers, ledger = before
        assert (len(reports), len(markers)) == (5, 5)
        assert sum(item.subject.startswith("ledger.narrowed.") for item in ledger) == 5
        assert hub.delivery.delivered == 10

    run(tmp_path, claim)


def test_a_feed_that_has_some_of_a_batch_gets_the_others(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        ids = await accepted(hub, *(hub.roster.sealed() for _ in range(6)))
        messages = await pulled(hub)
        await deliver(hub, [messages[1], messages[4]])
        await deliver(hub, messages)
        for office in ("unrcca", "council"):
            found = [item.subject.rpartition(".")[2] for item in await hub.feed(office)]
            assert found == [ids[1], ids[4], ids[0], ids[2], ids[3], ids[5]]

    run(tmp_path, claim)


def test_entries_that_are_no_reports_go_by_and_a_consumer_of_reports_alone_becomes_one_of_all(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        only = (subjects.LEDGER_REPORTS, subjects.LEDGER_RECALLS)
        await consumers.ensure_consumer(hub.nc, subjects.LEDGER, CONSUMER, only=only)
        await accepted(hub, hub.roster.sealed())
        async with hub.running("delivery"):
            await until_done(hub)
        held = await pulled(hub)
        assert not held
        assert len(await hub.feed("unrcca")) == 1
        assert hub.ledger.size > 1

    run(tmp_path, claim)


def test_what_a_dead_worker_held_is_delivered_by_another_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "ACK_WAIT", 1)

    async def claim(hub: Hub) -> None:
        await accepted(hub, *(hub.roster.sealed() for _ in range(4)))
        await consumers.ensure_consumer(hub.nc, subjects.LEDGER, CONSUMER, ack_wait=1)
        held = await consumers.pull(hub.nc, subjects.LEDGER, CONSUMER, 200, 1)
        await deliver(hub, held[:2])
        async with hub.another() as other, other.running("delivery"):
            await until_done(hub)
            assert len(await hub.feed("unrcca")) == len(await hub.feed("council")) == 4

    run(tmp_path, claim)


def test_two_workers_that_deliver_the_same_at_once_double_nothing(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        await accepted(hub, *(hub.roster.sealed() for _ in range(20)))
        messages = await pulled(hub)
        async with hub.another() as other:
            for _ in range(2):
                await asyncio.gather(deliver(hub, messages), deliver(other, messages[::-1]), return_exceptions=True)
            assert await deliver(hub, messages) == messages
        for office in ("unrcca", "council"):
            found = await hub.feed(office)
            assert len({item.subject for item in found}) == len(found) == 20

    run(tmp_path, claim)


# --- the rules of the moment ------------------------------------------------------------------------------------------


def test_a_rule_withdrawn_on_the_way_leaves_a_marker_and_a_leaf_before_it(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        (report_id,) = await accepted(hub, hub.roster.sealed())
        await hub.publish(hub.roster.with_rules(without="to-unrcca"))
        await deliver(hub, await pulled(hub))
        (item,) = await hub.feed("unrcca")
        assert marker(hub, "unrcca", item.data).kid == hub.roster.kid("osh")
        assert report_id not in item.subject + item.data.decode()
        assert len(await hub.feed("council")) == 1
        last = (await hub.stored(subjects.LEDGER))[-1]
        assert last.subject == f"ledger.narrowed.{report_id}-2"
        said = loads(split(last.data)[0], max_bytes=4096)
        assert [(row[0], row[1]) for row in said["decisions"]] == [("unrcca", 0)]
        assert said["policy"] == 2

    run(tmp_path, claim)


def test_what_was_given_before_a_crash_is_not_called_withheld_by_newer_rules(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        await hub.take(("osh", hub.roster.sealed()))
        messages = await pulled(hub)
        await deliver(hub, messages)
        before = await hub.feed("council")
        await hub.publish(hub.roster.with_rules(without="to-council"))
        await deliver(hub, messages)
        assert await hub.feed("council") == before

    run(tmp_path, claim)


def test_what_cannot_be_logged_as_narrowed_does_not_go_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def claim(hub: Hub) -> None:
        await accepted(hub, hub.roster.sealed(), hub.roster.sealed(readers=("council",)))
        await hub.publish(hub.roster.with_rules(without="to-unrcca"))
        messages = await pulled(hub)

        async def full(_: Any) -> list[int]:
            raise StorageFull("storage-full", "The hub's storage takes no more.")

        with monkeypatch.context() as patched:
            patched.setattr(hub.ledger, "append", full)
            assert await deliver(hub, messages) == messages[1:]
        assert await hub.feed("unrcca") == []
        assert len(await hub.feed("council")) == 1
        assert await deliver(hub, messages) == messages
        assert len(await hub.feed("council")) == 2

    run(tmp_path, claim)


def test_a_report_taken_under_rules_this_worker_has_not_got_waits_for_them(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        async with hub.another() as behind:
            await hub.publish(hub.roster.with_rules(without="to-council"))
            await accepted(hub, hub.roster.sealed())
            messages = await pulled(hub)
            assert await deliver(behind, messages) == []
            assert await hub.feed("unrcca") == []
            await behind.authority.load()
            assert await deliver(behind, messages) == messages
            assert len(await hub.feed("unrcca")) == 1
            assert marker(hub, "council", (await hub.feed("council"))[0].data)

    run(tmp_path, claim)


def test_the_rules_are_looked_at_after_the_wait_for_something_to_deliver(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        looked: list[int] = []
        asked = asyncio.Event()

        def standing() -> Any:
            looked.append(1)
            asked.set()
            return hub.authority.standing

        running = asyncio.create_task(Delivery(hub.nc, hub.ledger, hub.keys.hub_key, standing).run())
        await asked.wait()
        await hub.publish(hub.roster.with_rules(without="to-council"))
        await accepted(hub, hub.roster.sealed())
        assert marker(hub, "council", (await until_filled(hub, "council", 1))[0].data)
        running.cancel()

    run(tmp_path, claim)


def test_nothing_goes_out_by_rules_that_were_replaced_while_it_was_worked_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(hub: Hub) -> None:
        await accepted(hub, hub.roster.sealed())
        await hub.publish(hub.roster.with_rules(without="to-council"))
        messages, append = await pulled(hub), hub.ledger.append

        async def slowly(entries: Any) -> list[int]:
            # What the older rules withhold is being logged when the monitor is revoked.
            monkeypatch.setattr(hub.ledger, "append", append)
            found = await append(entries)
            await hub.publish(hub.roster.with_rules(3) | hub.roster.with_monitor("osh", status="revoked"))
            return found

        monkeypatch.setattr(hub.ledger, "append", slowly)
        assert await deliver(hub, messages) == messages
        for office in ("unrcca", "council"):
            assert marker(hub, office, (await hub.feed(office))[0].data)

    run(tmp_path, claim)


def test_a_revoked_office_gets_nothing_more_and_the_others_do(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        await accepted(hub, hub.roster.sealed())
        revoked = [{"nkey": hub.roster.nkeys["unrcca"], "at": 1}]
        await hub.publish(
            hub.roster.changed("connections.json", revoked=revoked) | hub.roster.with_office("unrcca", status="revoked")
        )
        async with hub.running("delivery"):
            await accepted(hub, hub.roster.sealed())
            assert len(await until_filled(hub, "council", 2)) == 2
            await until_done(hub)
        with pytest.raises(Refused):  # there is no such stream
            await hub.feed("unrcca")

    run(tmp_path, claim)


def test_a_suspended_office_gets_neither_report_nor_marker(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        await accepted(hub, hub.roster.sealed())
        await hub.publish(hub.roster.with_office("unrcca", status="suspended"))
        messages = await pulled(hub)
        assert await deliver(hub, messages) == messages
        assert await hub.feed("unrcca") == []
        assert len(await hub.feed("council")) == 1

    run(tmp_path, claim)


def test_without_rules_nothing_is_taken_and_with_them_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_module, "_PAUSE", 0.05)

    async def claim(hub: Hub) -> None:
        standing, asked = hub.authority.standing, asyncio.Event()
        await accepted(hub, hub.roster.sealed())
        hub.authority.standing = None

        def none_yet() -> Any:
            asked.set()
            return hub.authority.standing

        running = asyncio.create_task(Delivery(hub.nc, hub.ledger, hub.keys.hub_key, none_yet).run())
        await asked.wait()
        assert await hub.feed("unrcca") == []
        hub.authority.standing = standing
        await until_filled(hub, "unrcca", 1)
        running.cancel()

    run(tmp_path, claim)


# --- what stops nothing -----------------------------------------------------------------------------------------------


def test_an_entry_that_cannot_be_read_is_passed_over_and_told_by_its_place(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        await accepted(hub, hub.roster.sealed())
        good = split((await hub.stored(subjects.LEDGER))[-1].data)
        broken = (
            b"",
            b"\xff\xff\xff\xff",
            join(Entry("", b"leaf", good[1])),
            join(Entry("", good[0], b"body")),
            join(Entry("", good[0] + b" ", good[1])),
        )
        ids = [parse(hub.roster.sealed()).claims["id"] for _ in broken]
        rows = zip(ids, broken, strict=True)
        await jetstream.publish_batch(hub.nc, [(subjects.ledger_report(one), data, {}) for one, data in rows])
        with capture_logs() as logs:
            messages = await pulled(hub)
            assert await deliver(hub, messages) == messages
        assert len(messages) == 6
        assert [entry["sequence"] for entry in logs if entry["event"] == "ledger-entry-unreadable"] == [3, 4, 5, 6, 7]
        assert len(await hub.feed("unrcca")) == 1

    run(tmp_path, claim)


def test_a_full_feed_holds_up_its_own_office_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "_FULL_WAIT", 0.2)
    monkeypatch.setattr(consumers, "MAX_PENDING", 50)
    count = 250

    async def claim(hub: Hub) -> None:
        nkey = hub.roster.nkeys["unrcca"]
        await feeds.ensure_feed(hub.nc, nkey, max_bytes=20_000)
        await hub.publish(hub.roster.changed("network.json", reports_per_hour=100_000))
        await feeds.ensure_feed(hub.nc, nkey, max_bytes=20_000)
        sent = [hub.roster.sealed() for _ in range(count)]
        for start in range(0, count, 200):
            await accepted(hub, *sent[start : start + 200])
        async with hub.running("delivery"):
            assert len(await until_filled(hub, "council", count)) == count
            assert len(await hub.feed("unrcca")) < 20
            await feeds.ensure_feed(hub.nc, nkey)
            await until_done(hub)
        for office in ("unrcca", "council"):
            found = await hub.feed(office)
            assert len({item.subject for item in found}) == len(found) == count

    run(tmp_path, claim)


def test_a_feed_that_is_gone_holds_up_its_own_office_and_no_other(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        nkey = hub.roster.nkeys["unrcca"]
        await feeds.remove_feed(hub.nc, nkey)
        await accepted(hub, hub.roster.sealed(), hub.roster.sealed(readers=("council",)))
        messages = await pulled(hub)
        assert await deliver(hub, messages) == messages[1:]
        assert len(await hub.feed("council")) == 2
        await feeds.ensure_feed(hub.nc, nkey)
        assert await deliver(hub, messages) == messages
        assert (len(await hub.feed("unrcca")), len(await hub.feed("council"))) == (1, 2)

    run(tmp_path, claim)


def test_delivery_ends_though_the_line_makes_an_error_out_of_its_cancellation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(hub: Hub) -> None:
        waiting = asyncio.Semaphore(0)

        async def pull(*_: Any) -> list[Msg]:
            waiting.release()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise nats.errors.ConnectionClosedError from None
            return []

        monkeypatch.setattr(consumers, "pull", pull)
        running = asyncio.create_task(hub.delivery.run())
        for _ in range(2):
            await waiting.acquire()
        async with asyncio.timeout(60):
            await end([running])

    run(tmp_path, claim)


def test_an_error_that_nobody_foresaw_is_not_taken_for_a_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(hub: Hub) -> None:
        await accepted(hub, hub.roster.sealed())

        async def failing(*_: Any) -> None:
            raise RuntimeError

        monkeypatch.setattr(hub.delivery, "_put", failing)
        with pytest.raises(RuntimeError):
            await deliver(hub, await pulled(hub))

    run(tmp_path, claim)


def recall(hub: Hub, report_id: str, **changes: Any) -> bytes:
    handling = {"handling": {"wishes": {"text": "Unsafe.", "lang": "en"}}}
    return hub.roster.sealed(contents=handling, kind="recall", recalls=report_id, **changes)


def opened(hub: Hub, office: str, data: bytes) -> set[str]:
    author = bytes(hub.roster.authors["osh"].verify_key)
    return set(open_envelope(parse(data), office, [hub.roster.opening[office]], author).contents)


def test_a_recall_takes_its_report_out_of_every_feed_and_stands_there_instead(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        report_id, other = await accepted(hub, hub.roster.sealed(), hub.roster.sealed())
        messages = await pulled(hub)
        assert await deliver(hub, messages) == messages
        (recall_id,) = await accepted(hub, recall(hub, report_id))
        after = await pulled(hub)
        # A crash brings everything again: the report, too.
        for again in (after, [*messages, *after]):
            await deliver(hub, again)
            for office in ("unrcca", "council"):
                found = [parse(one.data) for one in await hub.feed(office)]
                assert [one.claims["id"] for one in found] == [other, recall_id], office
                assert tuple(found[1].ciphertexts) == ("handling",)

    run(tmp_path, claim)


def test_a_report_and_the_recall_that_narrows_it_may_come_in_one_batch(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        (report_id,) = await accepted(hub, hub.roster.sealed())
        (recall_id,) = await accepted(hub, recall(hub, report_id, keep=["summary"]))
        assert len(await deliver(hub, await pulled(hub))) == 2
        for office in ("unrcca", "council"):
            first, second = [parse(one.data) for one in await hub.feed(office)]
            assert (first.claims["id"], second.claims["id"]) == (report_id, recall_id)
            assert set(first.ciphertexts) - {"handling"} == {"summary"}

    run(tmp_path, claim)


def test_a_report_that_is_recalled_before_it_was_delivered_is_never_put_into_a_feed(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        (report_id,) = await accepted(hub, hub.roster.sealed())
        (recall_id,) = await accepted(hub, recall(hub, report_id, readers=("unrcca",)))
        await deliver(hub, await pulled(hub))
        assert [parse(one.data).claims["id"] for one in await hub.feed("unrcca")] == [recall_id]
        # From the council it was not recalled.
        assert [parse(one.data).claims["id"] for one in await hub.feed("council")] == [report_id]

    run(tmp_path, claim)


def test_of_a_report_that_is_narrowed_the_feed_holds_what_may_stay_and_then_the_recall(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        (report_id,) = await accepted(hub, hub.roster.sealed())
        await deliver(hub, await pulled(hub))
        (recall_id,) = await accepted(hub, recall(hub, report_id, keep=["account"]))
        after = await pulled(hub)
        for _ in range(2):
            await deliver(hub, after)
            first, second = sorted(await hub.feed("unrcca"), key=lambda one: parse(one.data).claims["kind"] == "recall")
            assert (parse(first.data).claims["id"], opened(hub, "unrcca", first.data)) == (report_id, {"account"})
            assert parse(second.data).claims["id"] == recall_id
            # The council was given the summary alone, and of that nothing stays.
            assert [parse(one.data).claims["id"] for one in await hub.feed("council")] == [recall_id]

    run(tmp_path, claim)
