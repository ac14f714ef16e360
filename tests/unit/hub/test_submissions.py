"""Submissions: every report that comes in gets one answer, and what was answered holds. Against a real broker."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from kengele_hub import jetstream
from kengele_hub import submissions as submissions_module
from kengele_hub.errors import Unavailable
from kengele_hub.intake import Examined, examine
from kengele_schemas import subjects
from kengele_schemas.encoding import b64u, dumps
from kengele_schemas.envelope import parse
from kengele_schemas.errors import Refused
from kengele_schemas.receipt import CODES, Receipt, read_receipt
from kengele_testing.hub import LOG, TOKEN, Hub, running_hub

pytestmark = pytest.mark.full
CANARY = "Zq7CANARYx9"


def run(tmp_path: Path, claim: Callable[[Hub], Awaitable[None]], **options: Any) -> None:
    """Holds ``claim`` against a founded hub."""

    async def against_a_hub() -> None:
        async with running_hub(tmp_path, **options) as hub, asyncio.timeout(60):
            await claim(hub)

    asyncio.run(against_a_hub())


def checked(hub: Hub, answer: dict[str, Any], data: bytes) -> Receipt:
    """The receipt as the node that sent ``data`` reads it; fails where it does not hold."""
    key = bytes(hub.keys.hub_key.verify_key)
    return read_receipt(dumps(answer), key, LOG, hashlib.sha256(data).digest())


def codes(answers: list[dict[str, Any]]) -> list[str]:
    return [answer["code"] for answer in answers]


def test_a_report_is_on_disk_with_its_leaf_before_its_receipt_and_the_receipt_proves_it(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        data = hub.roster.sealed()
        async with hub.running("worker"):
            answer = await hub.send("osh", data)
        receipt = checked(hub, answer, data)
        assert receipt.accepted
        assert receipt.leaf is not None
        assert receipt.index is not None
        placed = await hub.ledger.read(receipt.index)
        assert (placed.body, placed.leaf) == (data, answer["leaf"].encode())
        assert answer["id"] == parse(data).claims["id"]
        assert [row[0] for row in receipt.leaf.decisions] == ["council", "unrcca"]

    run(tmp_path, claim)


def test_in_a_batch_each_gets_its_own_answer_and_the_good_ones_share_a_checkpoint(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        roster = hub.roster
        sent = [
            ("osh", roster.sealed()),
            ("osh", b"garbage"),
            ("osh", roster.sealed("batken")),
            ("batken", roster.sealed("batken")),
            ("unrcca", roster.sealed()),
            ("osh", roster.sealed(pol=9)),
        ]
        answers = await hub.take(*sent)
        assert codes(answers) == ["accepted", "malformed", "replayed", "accepted", "unknown-monitor", "policy-unknown"]
        receipts = [checked(hub, answer, data) for answer, (_, data) in zip(answers, sent, strict=True)]
        assert [receipt.index for receipt in receipts] == [1, None, None, 2, None, None]
        proofs = [answer["proof"].partition("\n\n")[2] for answer in answers if "proof" in answer]
        assert len(set(proofs)) == 1
        assert hub.worker.submissions.counts.receipts == {code: codes(answers).count(code) for code in codes(answers)}

    run(tmp_path, claim)


def test_the_same_bytes_again_get_the_same_leaf_and_are_stored_once(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        data = hub.roster.sealed()
        (first,) = await hub.take(("osh", data))
        (second,) = await hub.take(("osh", data))
        assert (first["repeat"], second["repeat"]) == (False, True)
        assert second["leaf"] == first["leaf"]
        assert checked(hub, second, data).index == checked(hub, first, data).index
        assert len(await hub.stored(subjects.LEDGER)) == 2

    run(tmp_path, claim)


def test_the_same_id_with_other_bytes_is_a_conflict_whoever_sends_it(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        data = hub.roster.sealed()
        taken = parse(data).claims["id"]
        other, foreign = hub.roster.sealed(id=taken), hub.roster.sealed("batken", id=taken)
        assert codes(await hub.take(("osh", data))) == ["accepted"]
        answers = await hub.take(("osh", other), ("batken", foreign))
        assert codes(answers) == ["id-conflict"] * 2
        assert not checked(hub, answers[0], other).retryable
        assert "leaf" not in answers[1]
        assert len(await hub.stored(subjects.LEDGER)) == 2

    run(tmp_path, claim)


def test_within_one_batch_a_repeat_is_a_repeat_and_a_conflict_a_conflict(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        data = hub.roster.sealed()
        taken = parse(data).claims["id"]
        other, foreign = hub.roster.sealed(id=taken), hub.roster.sealed("batken", id=taken)
        answers = await hub.take(("osh", data), ("osh", data), ("osh", other), ("batken", foreign), ("osh", data))
        assert codes(answers) == ["accepted", "accepted", "id-conflict", "id-conflict", "accepted"]
        assert [answers[number]["repeat"] for number in (0, 1, 4)] == [False, True, True]
        assert len({answers[number]["leaf"] for number in (0, 1, 4)}) == 1
        assert len(await hub.stored(subjects.LEDGER)) == 2

    run(tmp_path, claim)


def test_a_report_whose_confirmation_was_lost_is_called_a_repeat_and_stands_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(hub: Hub) -> None:
        publish = jetstream.publish_batch

        async def unconfirmed(*args: Any, **options: Any) -> int:
            await publish(*args, **options)
            raise Unavailable("broker-unavailable", "The broker did not confirm.")

        lost, new = hub.roster.sealed(), hub.roster.sealed()
        monkeypatch.setattr(jetstream, "publish_batch", unconfirmed)
        (answer,) = await hub.take(("osh", lost))
        assert (answer["code"], checked(hub, answer, lost).retryable) == ("hub-unavailable", True)
        monkeypatch.undo()
        answers = await hub.take(("osh", new), ("osh", lost))
        assert codes(answers) == ["accepted"] * 2
        assert [answer["repeat"] for answer in answers] == [False, True]
        assert [checked(hub, *pair).index for pair in zip(answers, (new, lost), strict=True)] == [2, 1]
        assert len(await hub.stored(subjects.LEDGER)) == 3

    run(tmp_path, claim)


def test_two_workers_on_one_stream_give_one_place_to_one_report(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        async with hub.another() as other:
            same = [hub.roster.sealed() for _ in range(4)]
            mine = await hub.take(*(("osh", data) for data in same[:3]))
            theirs = await other.take(*(("osh", data) for data in same[1:]), ("osh", hub.roster.sealed()))
            assert codes(mine) + codes(theirs) == ["accepted"] * 7
            assert [answer["repeat"] for answer in theirs] == [True, True, False, False]
            assert [answer["leaf"] for answer in theirs[:2]] == [answer["leaf"] for answer in mine[1:]]
            (late,) = await hub.take(("osh", same[3]))
            assert (late["repeat"], late["leaf"]) == (True, theirs[2]["leaf"])
            taken = parse(same[0]).claims["id"]
            assert codes(await other.take(("osh", hub.roster.sealed(id=taken)))) == ["id-conflict"]
            assert len(await hub.stored(subjects.LEDGER)) == 1 + 5

    run(tmp_path, claim)


def test_a_full_queue_says_come_later_and_loses_nothing_that_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submissions_module, "MAX_WAITING", 5)

    async def claim(hub: Hub) -> None:
        sent = [hub.roster.sealed() for _ in range(8)]
        await hub.worker.listen()
        await hub.nc.flush()
        waiting = [asyncio.create_task(hub.send("osh", data)) for data in sent]
        while hub.worker.submissions.counts.receipts.get("hub-unavailable", 0) < 3:
            await asyncio.sleep(0.01)
        running = asyncio.create_task(hub.worker.submissions.run())
        answers = await asyncio.gather(*waiting)
        running.cancel()
        assert sorted(codes(list(answers))) == ["accepted"] * 5 + ["hub-unavailable"] * 3
        for data, answer in zip(sent, answers, strict=True):
            assert checked(hub, answer, data).retry_after == (5 if answer["code"] == "hub-unavailable" else None)
        assert len(await hub.stored(subjects.LEDGER)) == 1 + 5
        assert await hub.stored(subjects.REFUSED) == []

    run(tmp_path, claim)


def test_what_waits_is_taken_in_batches_that_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def claim(hub: Hub) -> None:
        sizes: list[int] = []
        whole = asyncio.Event()

        async def take(batch: list[Any]) -> None:
            sizes.append(len(batch))
            if sum(sizes) == 600:
                whole.set()

        monkeypatch.setattr(hub.worker.submissions, "take", take)
        monkeypatch.setattr(submissions_module, "MAX_EACH", 600)
        for _ in range(600):
            await hub.worker.submissions.come(hub.message("osh", b"x"))
        running = asyncio.create_task(hub.worker.submissions.run())
        await whole.wait()
        assert sizes == [250, 250, 100]
        sizes[:] = [594]
        whole.clear()
        for _ in range(6):
            await hub.worker.submissions.come(hub.message("osh", bytes(3 * 1024 * 1024)))
        await whole.wait()
        assert sizes == [594, 3, 3]
        running.cancel()

    run(tmp_path, claim)


def test_a_full_store_says_so_and_trust_is_still_served(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        async with hub.running("worker"):
            small = hub.roster.sealed()
            assert (await hub.send("osh", small))["code"] == "accepted"
            large = hub.roster.sealed(contents={"account": {"text": "x" * 8000, "lang": "en"}})
            answer = await hub.send("osh", large)
            receipt = checked(hub, answer, large)
            assert (receipt.code, receipt.retryable, receipt.retry_after) == ("storage-full", True, 60)
            again = await hub.send("osh", small)
            assert (again["code"], again["repeat"]) == ("accepted", True)
            subject = subjects.trust_get(hub.roster.nkeys["osh"])
            served = await hub.nc.request(subject, dumps({"path": "metadata/1.root.json"}), timeout=10)
            assert served.data == hub.authority.files["metadata/1.root.json"]
        assert len(await hub.stored(subjects.LEDGER)) == 2
        assert await hub.stored(subjects.REFUSED) == []

    run(tmp_path, claim, ledger_max_bytes=12_000)


def test_before_the_network_is_founded_every_report_is_asked_to_come_later(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        first = hub.roster.first()
        data = hub.roster.sealed()
        async with hub.running("worker"):
            for sent in (data, b"garbage"):
                assert checked(hub, await hub.send("osh", sent), sent).code == "hub-unavailable"
            await hub.authority.found(b64u(TOKEN), first)
            assert (await hub.send("osh", data))["code"] == "accepted"

    run(tmp_path, claim, found=False)


def test_an_error_that_nobody_foresaw_costs_one_message_and_not_its_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(hub: Hub) -> None:
        poison = hub.roster.sealed()

        def examined(data: bytes, *args: Any) -> Examined:
            if data == poison:
                raise RuntimeError(CANARY)
            return examine(data, *args)

        monkeypatch.setattr(submissions_module, "examine", examined)
        sent = [hub.roster.sealed(), poison, hub.roster.sealed("batken"), b"garbage"]
        with capture_logs() as logs:
            answers = await hub.take(*zip(("osh", "osh", "batken", "osh"), sent, strict=True))
        assert codes(answers) == ["accepted", "hub-unavailable", "accepted", "malformed"]
        assert checked(hub, answers[1], poison).retryable
        assert {entry.get("error") for entry in logs} == {"RuntimeError"}
        assert CANARY not in str(logs) + str(answers)
        assert hub.worker.submissions.counts.receipts == {"accepted": 2, "hub-unavailable": 1, "malformed": 1}

    run(tmp_path, claim)


def test_a_batch_that_fails_as_a_whole_is_answered_and_the_worker_lives_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(hub: Hub) -> None:
        async def failing(_: Any) -> list[int]:
            raise RuntimeError(CANARY)

        data = hub.roster.sealed()
        async with hub.running("worker"):
            with capture_logs() as logs, monkeypatch.context() as patched:
                patched.setattr(hub.ledger, "append", failing)
                assert (await hub.send("osh", data))["code"] == "hub-unavailable"
            assert (await hub.send("osh", data))["code"] == "accepted"
        assert CANARY not in str(logs)
        assert [entry["error"] for entry in logs if entry["event"] == "intake-failed"] == ["RuntimeError"]

    run(tmp_path, claim)


def test_what_was_refused_for_good_is_kept_aside_with_its_code_and_what_comes_again_is_not(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        sent = [("osh", b"garbage"), ("batken", hub.roster.sealed()), ("osh", hub.roster.sealed(pol=9))]
        await hub.take(*sent)
        kept = await hub.stored(subjects.REFUSED)
        rows = [(subjects.refused(hub.roster.nkeys[name]), data) for name, data in sent[:2]]
        assert [(one.subject, one.data) for one in kept] == rows
        for number, code in ((1, "malformed"), (2, "replayed")):
            found = await hub.nc.jetstream().get_msg(subjects.REFUSED, number)
            assert (found.headers or {})["Kengele-Code"] == code

    run(tmp_path, claim)


def test_a_sender_over_its_quota_is_told_when_to_come_back_and_the_others_are_served(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        await hub.publish(hub.roster.changed("network.json", reports_per_hour=3))
        sent = [("osh", hub.roster.sealed()) for _ in range(5)]
        answers = await hub.take(*sent, ("batken", hub.roster.sealed("batken")))
        assert codes(answers) == ["accepted"] * 3 + ["over-quota"] * 2 + ["accepted"]
        assert 1195 <= answers[3]["retry_after"] <= 1201
        assert codes(await hub.take(*sent[4:])) == ["over-quota"]
        assert await hub.stored(subjects.REFUSED) == []
        await hub.publish(hub.roster.changed("network.json", reports_per_hour=4))
        assert codes(await hub.take(*sent[3:])) == ["accepted"] * 2

    run(tmp_path, claim)


def test_a_report_that_the_ledger_never_takes_gets_a_code_that_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(hub: Hub) -> None:
        async def refusing(_: Any) -> list[int]:
            raise Refused("broker-refused", "The broker does not do this.")

        data = hub.roster.sealed()
        monkeypatch.setattr(hub.ledger, "append", refusing)
        async with hub.running("worker"):
            answer = await hub.send("osh", data)
        assert answer["code"] in CODES
        assert checked(hub, answer, data).retryable

    run(tmp_path, claim)


def test_two_workers_share_what_comes_in_and_answer_all_of_it_once(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        async with hub.another() as other, hub.running("worker"), other.running("worker"):
            sent = [hub.roster.sealed() for _ in range(40)]
            tries = 0
            waiting = sent
            accepted: list[bytes] = []
            while waiting:
                answers = await asyncio.gather(*(hub.send("osh", data) for data in waiting))
                accepted += [
                    data for data, answer in zip(waiting, answers, strict=True) if answer["code"] == "accepted"
                ]
                # Whoever always came second says so, and the node sends again.
                assert set(codes(list(answers))) <= {"accepted", "hub-unavailable"}
                waiting = [data for data, one in zip(waiting, answers, strict=True) if one["code"] != "accepted"]
                tries += 1
                assert tries < 20
            assert sorted(accepted) == sorted(sent)
            bodies = [(await hub.ledger.read(index)).body for index in range(1, 41)]
            assert sorted(bodies) == sorted(sent)
            assert all(one.worker.submissions.counts.receipts.get("accepted") for one in (hub, other))

    run(tmp_path, claim)
