"""Shares at the hub: taken from author or custodian alone, by the rules of the day, logged, and delivered once.

Against a real broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg

from kengele_hub import consumers
from kengele_hub.delivery import CONSUMER
from kengele_hub.ledger import split
from kengele_schemas import subjects
from kengele_schemas.checkpoint import verify_proof
from kengele_schemas.compartments import ALL_BITS, bitmap
from kengele_schemas.encoding import b64u, dumps, loads
from kengele_schemas.envelope import TENSION_REPORT, Envelope, parse
from kengele_schemas.errors import KengeleError
from kengele_schemas.keys import X25519, OpeningKey
from kengele_schemas.leaves import NarrowedLeaf, SharedLeaf, read_entry
from kengele_schemas.merkle import leaf_hash
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.orders import Order, is_notice, mark_of, read_notice
from kengele_schemas.sealing import Reader, seal
from kengele_schemas.sharing import is_shared, make_share, open_held
from kengele_schemas.sharing import split as parts
from kengele_testing.hub import LOG, Hub, Roster, running_hub

pytestmark = pytest.mark.full
WIDER = {
    "id": "to-council-account",
    "grant": ["account"],
    "to": ["office:council"],
    "areas": ["KG"],
    "categories": ["*"],
    "tlp_up_to": "AMBER",
    "expires": "2199-12-31",
    "reason": "test",
}
LATER = {**WIDER, "id": "to-later", "grant": ["summary", "account"], "to": ["office:later"]}


class Town(Roster):
    """The roster with a third office, ``later``, which no rule names at first."""

    def __init__(self) -> None:
        super().__init__()
        self.opening["later"] = OpeningKey.generate(X25519)
        self.nkeys["later"] = KeyPair.generate("user").public

    def granting(self, *rules: Any, version: int = 2) -> dict[str, Any]:
        """The policy with ``rules`` besides."""
        return self.with_rules(version, rules=[*self.documents()["policy.json"]["rules"], *rules])


def run(tmp_path: Path, claim: Callable[[Hub], Awaitable[None]]) -> None:
    """Holds ``claim`` against a founded hub."""

    async def against_a_hub() -> None:
        async with running_hub(tmp_path, Town()) as hub, asyncio.timeout(60):
            await claim(hub)

    asyncio.run(against_a_hub())


class Sent:
    """A report that was accepted, with its keys; ``share`` makes a share of it."""

    def __init__(self, hub: Hub, envelope: Envelope, keys: dict[str, bytes]) -> None:
        self.hub, self.envelope, self.keys = hub, envelope, keys
        self.id = str(envelope.claims["id"])

    @classmethod
    async def at(cls, hub: Hub, readers: Sequence[str] = ("unrcca", "council")) -> Sent:
        roster, keys = hub.roster, dict[str, bytes]()
        claims = parse(roster.sealed()).claims
        text = {"text": "Talk of a fight.", "lang": "en"}
        to = [Reader(one, roster.opening[one].public, ALL_BITS, 1) for one in readers]
        data = seal(TENSION_REPORT, claims, {"summary": text, "account": text}, to, roster.authors["osh"], spare=keys)
        (answer,) = await hub.take(("osh", data))
        assert answer["code"] == "accepted"
        return cls(hub, parse(data), keys)

    def share(self, office: str = "later", *, by: str = "", **changes: Any) -> bytes:
        roster = self.hub.roster
        key = changes.pop("key", roster.monitor if by else roster.authors["osh"])
        said = {
            "report": self.id,
            "core": self.envelope.core,
            "by": by or roster.kid("osh"),
            "network": LOG,
            "day": datetime.now(UTC).date(),
            **changes,
        }
        reader = Reader(office, roster.opening[office].public, ALL_BITS)
        return make_share(reader, self.keys, key=key, **said)

    async def shared(self, data: bytes, sender: str = "osh") -> dict[str, Any]:
        return await self.hub.worker.shares.answer(self.hub.roster.nkeys[sender], data)

    async def recalled(self, *readers: str, **claims: Any) -> bytes:
        to = readers or ("unrcca", "council")
        handling = {"handling": {"caveats": [], "references": []}}
        data = self.hub.roster.sealed(contents=handling, kind="recall", recalls=self.id, readers=to, **claims)
        (answer,) = await self.hub.take(("osh", data))
        assert answer["code"] == "accepted", answer
        return data

    def opened(self, office: str, data: bytes) -> set[str]:
        author = bytes(self.hub.roster.authors["osh"].verify_key)
        return set(open_held(data, office, [self.hub.roster.opening[office]], author)[1].contents)


async def code_of(answering: Awaitable[Any]) -> str:
    try:
        return str((await answering)["code"])
    except KengeleError as error:
        return error.code


async def pulled(hub: Hub) -> list[Msg]:
    await consumers.ensure_consumer(hub.nc, subjects.LEDGER, CONSUMER)
    return await consumers.pull(hub.nc, subjects.LEDGER, CONSUMER, 200, 1)


async def deliver(hub: Hub, messages: Sequence[Msg]) -> None:
    assert hub.authority.standing is not None
    done, _ = await hub.delivery.deliver(messages, hub.authority.standing)
    assert len(done) == len(messages)


async def leaves(hub: Hub, kind: type[Any]) -> list[Any]:
    stored = await hub.stored(subjects.LEDGER)
    return [leaf for one in stored if isinstance(leaf := read_entry(split(one.data)[0]), kind)]


def test_who_is_granted_later_is_given_what_was_sent_before_and_the_answer_proves_it(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        sent = await Sent.at(hub)
        assert await code_of(sent.shared(sent.share())) == "not-granted"
        await hub.publish(hub.roster.granting(LATER))
        answer = await sent.shared(sent.share())
        leaf = read_entry(answer["leaf"].encode())
        assert isinstance(leaf, SharedLeaf)
        assert (leaf.by, leaf.policy, leaf.digest) == ("author", 2, b64u(sent.envelope.digest))
        assert leaf.decisions == (("later", bitmap(["handling", "summary", "account"]), 120, ("to-later",)),)
        key = bytes(hub.keys.hub_key.verify_key)
        verify_proof(answer["proof"], leaf_hash(answer["leaf"].encode()), LOG, key)
        await deliver(hub, await pulled(hub))
        (item,) = await hub.feed("later")
        assert is_shared(item.data)
        assert sent.opened("later", item.data) == {"summary", "account"}
        assert parse(parts(item.data)[1]).wraps == ()
        # Nobody else hears of it.
        assert len(await hub.feed("unrcca")) == len(await hub.feed("council")) == 1

    run(tmp_path, claim)


def test_the_same_is_shared_and_delivered_once_whoever_asks_again_and_whatever_crashes(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        sent = await Sent.at(hub)
        await hub.publish(hub.roster.granting(LATER))
        first = sent.share()
        answers = [await sent.shared(data) for data in (first, first, sent.share())]
        assert [answer["repeat"] for answer in answers] == [False, True, True]
        assert len({answer["leaf"] for answer in answers}) == 1
        async with hub.another() as second:
            assert (await second.worker.shares.answer(hub.roster.nkeys["osh"], first))["repeat"]
        messages = await pulled(hub)
        await deliver(hub, messages)
        await deliver(hub, messages)
        assert len(await hub.feed("later")) == 1
        assert len(await leaves(hub, SharedLeaf)) == 1

    run(tmp_path, claim)


def test_two_workers_take_one_share_at_the_same_time_and_write_it_once(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        sent = await Sent.at(hub)
        await hub.publish(hub.roster.granting(LATER))
        async with hub.another() as second:
            nkey, data = hub.roster.nkeys["osh"], sent.share()
            workers = (hub.worker, second.worker) * 3
            answers = await asyncio.gather(*(worker.shares.answer(nkey, data) for worker in workers))
        assert sum(not answer["repeat"] for answer in answers) == 1
        assert len(await leaves(hub, SharedLeaf)) == 1

    run(tmp_path, claim)


def test_an_office_that_has_a_part_is_given_the_whole_and_one_that_has_all_is_given_nothing(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        sent = await Sent.at(hub)
        for office in ("council", "unrcca"):
            # The answer does not tell who has it: it is that of a share which gives something.
            assert (await sent.shared(sent.share(office)))["code"] == "shared"
        await deliver(hub, await pulled(hub))
        assert [len(await hub.feed(office)) for office in ("council", "unrcca")] == [1, 1]
        await hub.publish(hub.roster.granting(WIDER))
        await sent.shared(sent.share("council"))
        await deliver(hub, await pulled(hub))
        _, item = await hub.feed("council")
        assert sent.opened("council", item.data) == {"summary", "account"}

    run(tmp_path, claim)


def test_a_share_is_taken_from_nobody_but_author_and_custodian(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        sent, roster = await Sent.at(hub), hub.roster
        await hub.publish(roster.granting(LATER))
        another = await Sent.at(hub)
        for code, sender, data in (
            ("not-the-custodian", "council", sent.share(by="council")),
            ("not-the-custodian", "council", sent.share()),
            ("not-admitted", "aigul", sent.share()),
            ("not-admitted", "batken", sent.share()),
            ("not-admitted", "unrcca", sent.share()),
            ("not-admitted", "osh", sent.share(by="unrcca")),
            ("nothing-to-share", "batken", sent.share(by=roster.kid("batken"), key=roster.authors["batken"])),
            ("bad-signature", "osh", sent.share(key=roster.authors["batken"])),
            ("bad-signature", "unrcca", sent.share(by="unrcca", key=roster.authors["osh"])),
            ("nothing-to-share", "osh", sent.share(report="A" * 22)),
            ("nothing-to-share", "osh", sent.share(report=another.id)),
            ("nothing-to-share", "osh", sent.share(core=another.envelope.core)),
            ("not-as-shared", "osh", sent.share(network="kengele/other")),
            ("future-dated", "osh", sent.share(day=datetime.now(UTC).date() + timedelta(days=9))),
            ("not-granted", "unrcca", sent.share("unrcca", by="unrcca")),
            ("malformed", "osh", b"[]"),
        ):
            assert await code_of(sent.shared(data, sender)) == code, (code, sender)
        assert await leaves(hub, SharedLeaf) == []

    run(tmp_path, claim)


def test_the_custodian_shares_no_more_than_it_was_given_itself(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        roster = hub.roster
        forbid = {"id": "no-account", "forbid": ["account"], "to": ["office:unrcca"], "reason": "test"}
        await hub.publish(roster.granting(LATER, forbid))
        sent = await Sent.at(hub)
        answer = await sent.shared(sent.share(by="unrcca"), "unrcca")
        (decision,) = loads(answer["leaf"].encode(), max_bytes=9999)["decisions"]
        assert decision[1] == bitmap(["handling", "summary"])
        await deliver(hub, await pulled(hub))
        (item,) = await hub.feed("later")
        assert sent.opened("later", item.data) == {"summary"}
        # Her own share still gives the rest, and a lie of the custodian's does not keep it out.
        await sent.shared(sent.share())
        await deliver(hub, await pulled(hub))
        _, item = await hub.feed("later")
        assert sent.opened("later", item.data) == {"summary", "account"}
        unseen = await Sent.at(hub, ("council",))
        assert await code_of(unseen.shared(unseen.share(by="unrcca"), "unrcca")) == "nothing-to-share"

    run(tmp_path, claim)


def test_what_was_recalled_is_not_shared_and_what_was_narrowed_no_further(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        await hub.publish(hub.roster.granting(LATER))
        whole, narrowed, from_one = [await Sent.at(hub) for _ in range(3)]
        await whole.recalled()
        await from_one.recalled("council")
        await narrowed.recalled(keep=["summary"])
        for sent in (whole, from_one):
            assert await code_of(sent.shared(sent.share())) == "nothing-to-share"
            assert await code_of(sent.shared(sent.share(by="unrcca"), "unrcca")) == "nothing-to-share"
        await narrowed.shared(narrowed.share())
        await deliver(hub, await pulled(hub))
        (item,) = await hub.feed("later")
        assert narrowed.opened("later", item.data) == {"summary"}

    run(tmp_path, claim)


def test_a_recall_wrapped_for_200_names_keeps_nobody_elses_report_out(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        await hub.publish(hub.roster.granting(LATER))
        sent = await Sent.at(hub)
        await sent.shared(sent.share(by="unrcca"), "unrcca")
        to = ("unrcca", "council", *(f"nobody-{number:03}" for number in range(198)))
        handling = {"handling": {"caveats": [], "references": []}}
        recall = hub.roster.sealed(contents=handling, kind="recall", recalls=sent.id, readers=to)
        answers = await hub.take(("osh", recall), ("batken", hub.roster.sealed("batken")))
        assert [answer["code"] for answer in answers] == ["accepted", "accepted"]
        (leaf,) = [leaf for leaf in await _recalls(hub) if leaf.digest == b64u(parse(recall).digest)]
        assert {office for office, bits, _, _ in leaf.decisions if bits} == {"unrcca", "council", "later"}

    run(tmp_path, claim)


@pytest.mark.parametrize("fetched", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_a_recall_reaches_whom_a_report_was_shared_with_whether_its_author_knows_or_not(
    tmp_path: Path, known: bool, fetched: bool
) -> None:
    async def claim(hub: Hub) -> None:
        await hub.publish(hub.roster.granting(LATER))
        sent = await Sent.at(hub)
        await sent.shared(sent.share(by="unrcca"), "unrcca")
        if fetched:
            await deliver(hub, await pulled(hub))
        recall = parse(await sent.recalled("unrcca", "council", *(("later",) if known else ())))
        (leaf,) = [leaf for leaf in await _recalls(hub) if leaf.digest == b64u(recall.digest)]
        assert {office for office, bits, _, _ in leaf.decisions if bits} == {"unrcca", "council", "later"}
        await deliver(hub, await pulled(hub))
        (item,) = await hub.feed("later")  # the share is gone from it
        found = parse(item.data)
        assert found.claims["recalls"] == sent.id
        assert [wrap.office for wrap in found.wraps] == (["later"] if known else [])
        assert found.ciphertexts.keys() == ({"handling"} if known else set())

    run(tmp_path, claim)


async def _recalls(hub: Hub) -> list[Any]:
    stored = await hub.stored(subjects.LEDGER)
    return [read_entry(split(one.data)[0]) for one in stored if subjects.recall_of(one.subject)]


def test_a_recall_from_one_office_leaves_what_was_shared_with_another(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        await hub.publish(hub.roster.granting(LATER))
        sent = await Sent.at(hub)
        await sent.shared(sent.share())
        await deliver(hub, await pulled(hub))
        await sent.recalled("council")
        await deliver(hub, await pulled(hub))
        (item,) = await hub.feed("later")
        assert sent.opened("later", item.data) == {"summary", "account"}

    run(tmp_path, claim)


def test_a_narrowing_recall_leaves_in_the_feed_what_may_stay_of_a_share(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        await hub.publish(hub.roster.granting(LATER))
        sent = await Sent.at(hub)
        await sent.shared(sent.share())
        await deliver(hub, await pulled(hub))
        await sent.recalled("council", "unrcca", "later", keep=["summary"])
        messages = await pulled(hub)
        for _ in range(2):
            await deliver(hub, messages)
            share, recall = sorted(await hub.feed("later"), key=lambda one: not is_shared(one.data))
            assert sent.opened("later", share.data) == {"summary"}
            assert parse(recall.data).claims["recalls"] == sent.id

    run(tmp_path, claim)


def test_a_share_and_a_recall_that_come_together_leave_the_report_recalled(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        await hub.publish(hub.roster.granting(LATER))
        async with hub.another() as second:
            for _ in range(5):
                sent = await Sent.at(hub)
                share = second.worker.shares.answer(hub.roster.nkeys["osh"], sent.share())
                await asyncio.gather(code_of(share), sent.recalled())
        await deliver(hub, await pulled(hub))
        items = [item.data for item in await hub.feed("later")]
        assert not any(is_shared(item) for item in items)
        # As many recalls as there are shares in the log: none was missed.
        assert len(items) == len(await leaves(hub, SharedLeaf))

    run(tmp_path, claim)


def test_by_the_rules_at_delivery_less_is_given_and_the_log_says_so(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        await hub.publish(hub.roster.granting(LATER))
        sent = await Sent.at(hub)
        await sent.shared(sent.share())
        forbid = {"id": "no-account", "forbid": ["account"], "to": ["office:later"], "reason": "test"}
        await hub.publish(hub.roster.granting(LATER, forbid, version=3))
        await deliver(hub, await pulled(hub))
        (item,) = await hub.feed("later")
        assert sent.opened("later", item.data) == {"summary"}
        (leaf,) = await leaves(hub, NarrowedLeaf)
        assert leaf.decisions[0][:2] == ("later", bitmap(["handling", "summary"]))

    run(tmp_path, claim)


def test_what_one_custodian_shared_in_vain_the_next_one_can_share(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        await hub.publish(hub.roster.granting(LATER, WIDER))
        sent = await Sent.at(hub)
        assert await code_of(sent.shared(sent.share(by="unrcca"), "unrcca")) == "shared"
        await hub.publish(hub.roster.changed("network.json", custodian="council"))
        await deliver(hub, await pulled(hub))
        assert await hub.feed("later") == []
        answer = await sent.shared(sent.share(by="council"), "council")
        assert (answer["code"], answer["repeat"]) == ("shared", False)
        await deliver(hub, await pulled(hub))
        (item,) = await hub.feed("later")
        assert sent.opened("later", item.data) == {"summary", "account"}

    run(tmp_path, claim)


def test_a_revoked_authors_report_is_not_shared_by_anyone_nor_delivered(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        roster = hub.roster
        await hub.publish(roster.granting(LATER))
        sent = await Sent.at(hub)
        await sent.shared(sent.share())  # still under way when she is revoked
        second = await Sent.at(hub)
        await hub.publish(roster.with_monitor("osh", status="revoked"))
        assert await code_of(second.shared(second.share())) == "monitor-revoked"
        assert await code_of(second.shared(second.share(by="unrcca"), "unrcca")) == "nothing-to-share"
        await deliver(hub, await pulled(hub))
        assert await hub.feed("later") == []

    run(tmp_path, claim)


def test_a_suspended_custodian_shares_nothing_and_an_expired_key_of_the_authors_does_not_matter(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        roster = hub.roster
        await hub.publish(roster.granting(LATER))
        sent = await Sent.at(hub)
        await hub.publish(roster.with_monitor("osh", not_after="2020-12-31"))
        assert await code_of(sent.shared(sent.share())) == "key-expired"
        assert await code_of(sent.shared(sent.share(by="unrcca"), "unrcca")) == "shared"
        await hub.publish(roster.with_office("unrcca", status="suspended"))
        assert await code_of(sent.shared(sent.share("council", by="unrcca"), "unrcca")) == "not-admitted"

    run(tmp_path, claim)


def ordered(report_id: str, keep: Any = None) -> dict[str, Any]:
    order = Order(mark=mark_of(report_id), keep=keep)
    return {"recalls.json": {"v": 1, "recalls": [order.model_dump(mode="json", exclude_none=True)]}}


def test_a_recall_by_the_coordinators_reaches_whom_a_report_was_shared_with(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        sent = await Sent.at(hub)
        await hub.publish(hub.roster.granting(LATER))  # type: ignore[attr-defined]
        assert (await sent.shared(sent.share()))["code"] == "shared"
        await deliver(hub, await pulled(hub))
        await hub.publish(ordered(sent.id, ("summary",)))
        await deliver(hub, await pulled(hub))
        share, notice = sorted((one.data for one in await hub.feed("later")), key=is_notice)
        assert sent.opened("later", share) == {"summary"}
        # It had a share alone: no number is missing there.
        assert not read_notice(notice).numbered
        assert [read_notice(one.data).numbered for one in await hub.feed("unrcca") if is_notice(one.data)] == [True]
        asked = await hub.worker.recalls.answer_status(hub.roster.nkeys["aigul"], dumps({"order": mark_of(sent.id)}))
        assert asked["offices"] == ["council", "later", "unrcca"]
        await hub.publish(ordered(sent.id))
        await deliver(hub, await pulled(hub))
        assert all(is_notice(one.data) for one in await hub.feed("later"))
        assert await code_of(sent.shared(sent.share())) == "nothing-to-share"

    run(tmp_path, claim)
