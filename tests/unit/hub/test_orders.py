"""The coordinators' recalls at the hub: they go the way of an author's, once, whoever enters them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg

from kengele_hub import consumers
from kengele_hub.delivery import CONSUMER
from kengele_hub.ledger import split
from kengele_schemas import subjects
from kengele_schemas.compartments import HANDLING_BIT
from kengele_schemas.encoding import b64u, dumps, unb64u
from kengele_schemas.envelope import parse
from kengele_schemas.errors import Refused
from kengele_schemas.orders import Order, is_notice, mark_of, read_notice
from kengele_schemas.recall import sign_confirmation
from kengele_schemas.receipt import read_leaf
from kengele_schemas.sealing import open_envelope
from kengele_testing.hub import Hub, running_hub
from kengele_testing.values import NOW

pytestmark = pytest.mark.full


def run(tmp_path: Path, claim: Callable[[Hub], Awaitable[None]]) -> None:
    async def against_a_hub() -> None:
        async with running_hub(tmp_path) as hub, asyncio.timeout(60):
            await claim(hub)

    asyncio.run(against_a_hub())


async def accepted(hub: Hub, **claims: Any) -> str:
    data = hub.roster.sealed(**claims)
    (answer,) = await hub.take(("osh", data))
    assert answer["code"] == "accepted"
    return str(parse(data).claims["id"])


async def pulled(hub: Hub) -> list[Msg]:
    await consumers.ensure_consumer(hub.nc, subjects.LEDGER, CONSUMER)
    found = await consumers.pull(hub.nc, subjects.LEDGER, CONSUMER, 200, 1)
    return [one for one in found if one.subject.startswith(("ledger.report.", "ledger.recall."))]


async def deliver(hub: Hub, messages: Sequence[Msg]) -> None:
    assert hub.authority.standing is not None
    done, _ = await hub.delivery.deliver(messages, hub.authority.standing)
    assert done == list(messages)


def ordered(*orders: Order) -> dict[str, Any]:
    rows = [order.model_dump(mode="json", exclude_none=True) for order in sorted(orders, key=lambda one: one.mark)]
    return {"recalls.json": {"v": 1, "recalls": rows}}


def order(report_id: str, keep: Any = None) -> Order:
    return Order(mark=mark_of(report_id), keep=keep)


async def shown(hub: Hub, office: str) -> list[tuple[str, frozenset[str]]]:
    """What stands in a feed: of each report its id and what opens, of each notice the report's id."""
    author = bytes(hub.roster.authors["osh"].verify_key)
    found = []
    for item in await hub.feed(office):
        if is_notice(item.data):
            said = read_notice(item.data, bytes(hub.keys.hub_key.verify_key))
            found.append((f"recalled {said.report}", frozenset[str]()))
        else:
            envelope = parse(item.data)
            opened = open_envelope(envelope, office, [hub.roster.opening[office]], author)
            found.append((str(envelope.claims["id"]), frozenset(opened.contents)))
    return sorted(found, key=lambda one: one[0])


async def recalls(hub: Hub) -> list[bytes]:
    """Recalls in the ledger."""
    return [one.data for one in await hub.stored(subjects.LEDGER) if subjects.recall_of(one.subject)]


def test_what_the_coordinators_recall_leaves_every_feed_and_a_notice_stands_there(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        gone, other = await accepted(hub), await accepted(hub)
        before = await pulled(hub)
        await deliver(hub, before)
        await hub.publish(ordered(order(gone)))
        after = await pulled(hub)
        assert len(after) == 1
        # A crash brings everything again: the report, too.
        for again in (after, [*before, *after]):
            await deliver(hub, again)
            for office, had in (("unrcca", {"summary", "account"}), ("council", {"summary"})):
                assert await shown(hub, office) == sorted([(other, had), (f"recalled {gone}", frozenset())])
        (entry,) = await recalls(hub)
        leaf = read_leaf(split(entry)[0])
        assert (leaf.kind, leaf.digest) == ("recall", b64u(order(gone).digest))
        assert {(office, bits) for office, bits, _, _ in leaf.decisions} == {
            ("unrcca", HANDLING_BIT),
            ("council", HANDLING_BIT),
        }

    run(tmp_path, claim)


def test_a_number_that_a_marker_explains_is_not_explained_again_by_a_notice(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        gone = await accepted(hub)
        await hub.publish(hub.roster.with_rules(without="to-council"))
        await deliver(hub, await pulled(hub))
        await hub.publish(ordered(order(gone)))
        await deliver(hub, await pulled(hub))
        key = bytes(hub.keys.hub_key.verify_key)
        for office, numbered in (("unrcca", True), ("council", False)):
            (notice,) = [read_notice(one.data, key) for one in await hub.feed(office) if is_notice(one.data)]
            assert notice.numbered is numbered

    run(tmp_path, claim)


def test_what_comes_after_its_recall_is_never_put_into_a_feed(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        report_id = b64u(b"r" * 16)
        await hub.publish(ordered(order(report_id)))
        assert await recalls(hub) == []
        await accepted(hub, id=report_id)
        for _ in range(2):
            await deliver(hub, await pulled(hub))
        assert await shown(hub, "unrcca") == [(f"recalled {report_id}", frozenset())]

    run(tmp_path, claim)


def test_of_a_narrowed_report_stays_what_both_the_author_and_the_coordinators_leave(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        report_id = await accepted(hub)
        before = await pulled(hub)
        await deliver(hub, before)
        await hub.publish(ordered(order(report_id, ("account", "place", "summary"))))
        wishes = {"handling": {"wishes": {"text": "Unsafe.", "lang": "en"}}}
        await accepted(hub, kind="recall", recalls=report_id, keep=["account"], contents=wishes)
        after = await pulled(hub)
        for again in (after, [*after[::-1], *before]):
            await deliver(hub, again)
            assert (report_id, frozenset({"account"})) in await shown(hub, "unrcca")
        await hub.publish(ordered(order(report_id, ("summary",))))
        await deliver(hub, await pulled(hub))
        assert report_id not in dict(await shown(hub, "unrcca"))
        assert len(await recalls(hub)) == 3

    run(tmp_path, claim)


def test_a_crash_before_it_is_in_the_ledger_is_made_up_for_at_the_next_start(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        report_id = await accepted(hub)

        async def ends(_: Any) -> None:
            raise asyncio.CancelledError

        hub.authority.orders.enter = ends  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await hub.publish(ordered(order(report_id)))
        assert await recalls(hub) == []
        async with hub.another():
            assert len(await recalls(hub)) == 1

    run(tmp_path, claim)


def test_several_workers_enter_it_once(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        report_id = await accepted(hub)
        async with hub.another() as second, hub.another("third") as third:
            await hub.publish(ordered(order(report_id)))
            await asyncio.gather(*(one.authority.heard(dumps(9)) for one in (second, third)))
            for one in (second, third):
                await one.authority.orders.enter_for(report_id, one.authority.standing.trusted)  # type: ignore[union-attr]
        assert len(await recalls(hub)) == 1

    run(tmp_path, claim)


def test_no_coordinators_take_a_recall_back_or_give_again(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        one, two = await accepted(hub), await accepted(hub)
        await hub.publish(ordered(order(one), order(two, ("summary",))))
        for changed in (
            ordered(order(one)),
            ordered(order(one, ("summary",)), order(two, ("summary",))),
            ordered(order(one), order(two, ("account", "summary"))),
        ):
            with pytest.raises(Refused) as caught:
                await hub.publish(changed)
            assert caught.value.code == "gives-back"
        await hub.publish(ordered(order(one), order(two)))

    run(tmp_path, claim)


def test_coordinators_are_told_who_had_it_and_who_confirmed(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        report_id = await accepted(hub, readers=("unrcca",))
        nkeys, wanted = hub.roster.nkeys, order(report_id)
        strange = order(b64u(b"s" * 16))
        await hub.publish(ordered(wanted, strange))

        async def status(mark: str, who: str = "aigul") -> dict[str, Any]:
            return await hub.worker.recalls.answer_status(nkeys[who], dumps({"order": mark}))

        found = await status(wanted.mark)
        assert (found["offices"], found["confirmations"]) == (["unrcca"], [])
        assert (await status(strange.mark))["report"] is None
        said = sign_confirmation(
            "unrcca", report_id, wanted.digest, network=hub.roster.identity, at=NOW, key=hub.roster.monitor
        )
        for _ in range(2):
            assert await hub.worker.recalls.answer_confirm(nkeys["unrcca"], said) == {"code": "confirmed"}
        assert [unb64u(one) for one in (await status(wanted.mark))["confirmations"]] == [said]
        with pytest.raises(Refused):
            await status(mark_of("A" * 22))
        with pytest.raises(Refused):
            await status(wanted.mark, "unrcca")
        # The council was not given the report: what it says counts for nothing.
        forged = sign_confirmation(
            "council", report_id, wanted.digest, network=hub.roster.identity, at=NOW, key=hub.roster.monitor
        )
        with pytest.raises(Refused):
            await hub.worker.recalls.answer_confirm(nkeys["council"], forged)

    run(tmp_path, claim)


def test_an_author_cannot_take_the_place_of_a_recall_or_recall_what_is_one(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        report_id = await accepted(hub)
        digest = order(report_id).digest
        wishes = {"handling": {"wishes": {"text": "Unsafe.", "lang": "en"}}}
        # The best guess of who does not have the hub's key.
        await accepted(hub, id=b64u(digest[:16]), kind="recall", recalls=report_id, keep=["account"], contents=wishes)
        await hub.publish(ordered(order(report_id)))
        assert len(await recalls(hub)) == 2
        place = hub.authority.orders.id_of(order(report_id))
        data = hub.roster.sealed(kind="recall", recalls=place, contents=wishes)
        (answer,) = await hub.take(("osh", data))
        assert answer["code"] == "nothing-to-recall"

    run(tmp_path, claim)
