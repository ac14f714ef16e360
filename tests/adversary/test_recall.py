"""What a recall does, and what nobody can do with one: hub, broker and members are real, each with its own keys."""

from __future__ import annotations

import asyncio
import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kengele_node import terminal
from kengele_node.cli import main
from kengele_node.member import now
from kengele_node.monitor.compose import new_report_id
from kengele_node.monitor.recalling import leaf_of, plan_recall
from kengele_node.office.arrivals import Arrival, Item, Tombstone
from kengele_node.office.desk import Desk
from kengele_node.office.home import open_inbox
from kengele_schemas import subjects
from kengele_schemas.encoding import b64u, loads, unb64u
from kengele_schemas.envelope import parse
from kengele_schemas.errors import Refused, Untrusted
from kengele_schemas.keys import new_signing_key
from kengele_schemas.recall import sign_confirmation
from kengele_testing.network import draft, small_network
from kengele_testing.recalls import confirmed, followed, recalled, reported, until_held

pytestmark = pytest.mark.full
CANARY = "Zq7CANARYx9"


def canary() -> Any:
    return draft(
        summary={"text": f"{CANARY} in the summary.", "lang": "en"},
        account={"text": f"{CANARY} in the account.", "lang": "en"},
    )


def test_who_recalls_a_report_sees_it_gone_and_who_has_confirmed(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, unrcca = network.monitors["osh"], network.offices["unrcca"]
            entry, other = await reported(osh, canary()), await reported(osh, draft())
            await until_held(unrcca, 2)
            recall = await recalled(osh, entry, reason="Her house is watched.")
            assert recall.state == "accepted"
            assert not any((await confirmed(osh, recall)).values())
            (stone,) = await until_held(unrcca, 1, Tombstone)
            assert (stone.id, stone.author, stone.reason) == (entry.report_id, osh.kid, "Her house is watched.")
            found = await confirmed(osh, recall)
            assert found["unrcca"]
            # The other desks have not been on yet, and the author sees which.
            assert sum(found.values()) == 1 < len(found)
            (item,) = await until_held(unrcca, 1)
            assert item.arrival.header.id == other.report_id
            inbox = open_inbox(unrcca)
            assert inbox.gaps(osh.kid).unexplained == 0
            inbox.close()

    asyncio.run(run())


def test_nothing_of_a_recalled_text_is_left_at_a_desk(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, unrcca = network.monitors["osh"], network.offices["unrcca"]
            entry = await reported(osh, canary())
            (item,) = await until_held(unrcca, 1)
            rows = _rows(unrcca)
            assert CANARY.encode() in b"".join(rows)
            sealed = parse(item.arrival.data)
            with closing(sqlite3.connect(unrcca.home / "inbox.db")) as connection:
                ((raw,),) = connection.execute("SELECT body FROM reports")
            await recalled(osh, entry)
            await until_held(unrcca, 1, Tombstone)
            rows = _rows(unrcca)
            assert rows
            for text in (CANARY, sealed.payload, *sealed.ciphertexts.values(), *(wrap.text for wrap in sealed.wraps)):
                assert text.encode() not in b"".join(rows)
            files = b"".join(file.read_bytes() for file in unrcca.home.glob("inbox.db*"))
            assert not any(raw[at : at + 32] in files for at in range(0, len(raw) - 32, 256))

    asyncio.run(run())


def _rows(member: Any) -> list[bytes]:
    """Every row of the desk's inbox, decrypted."""
    cipher, found = member.vault.rows("inbox"), []
    with closing(sqlite3.connect(member.home / "inbox.db")) as connection:
        for table, under in (("reports", "report"), ("asides", "aside"), ("recalls", "recall")):
            for name, body in connection.execute(f"SELECT name, body FROM {table}"):
                found.append(cipher.open(f"{under}/{b64u(name)}", body))
    return found


def test_a_desk_that_was_off_obeys_when_it_returns_and_never_sees_the_report(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, unrcca = network.monitors["osh"], network.offices["unrcca"]
            entry = await reported(osh, canary())
            recall = await recalled(osh, entry)
            (stone,) = await until_held(unrcca, 1, Tombstone)
            assert stone.id == entry.report_id
            assert not any(isinstance(one, Item) for one in await followed(unrcca))
            assert (await confirmed(osh, recall))["unrcca"]
            inbox = open_inbox(unrcca)
            assert inbox.gaps(osh.kid).unexplained == 0
            inbox.close()

    asyncio.run(run())


def test_a_recall_reaches_an_office_from_which_the_rules_now_withhold_everything(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, unrcca = network.monitors["osh"], network.offices["unrcca"]
            entry = await reported(osh, canary())
            await until_held(unrcca, 1)
            await network.publish(_nothing_for("unrcca"), ("aigul", "moussa"))
            await recalled(osh, entry)
            (stone,) = await until_held(unrcca, 1, Tombstone)
            assert stone.id == entry.report_id

    asyncio.run(run())


def _nothing_for(office: str) -> Any:
    def change(before: Any) -> Any:
        policy = before["policy.json"]
        forbid = {
            "id": "forbid-all",
            "forbid": ["summary", "account", "place", "people", "source", "media"],
            "to": [f"office:{office}"],
            "areas": ["*"],
            "categories": ["*"],
            "reason": "test",
        }
        return {"policy.json": {**policy, "version": policy["version"] + 1, "rules": [*policy["rules"], forbid]}}

    return change


def test_a_part_can_be_taken_back_and_a_later_recall_gives_nothing_again(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, unrcca, hq = network.monitors["osh"], network.offices["unrcca"], network.offices["un-hq"]
            entry = await reported(osh, canary())
            (item,) = await until_held(unrcca, 1)
            assert {"summary", "account"} <= set(item.arrival.contents)
            await recalled(osh, entry, keep=["summary"])
            await recalled(osh, entry, keep=["account", "summary"])
            # The one had it before, the other was off all the while: both hold the summary alone.
            for desk in (unrcca, hq):
                await until_held(desk, 1)
                (item,) = [one for one in await followed(desk) if isinstance(one, Item)]
                assert set(item.arrival.contents) - {"handling"} == {"summary"}
                assert set(parse(item.arrival.data).ciphertexts) - {"handling"} == {"summary"}

    asyncio.run(run())


def test_nobody_recalls_what_is_not_his_and_is_not_told_whether_it_exists(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path) as network:
            osh, batken, unrcca = network.monitors["osh"], network.monitors["batken"], network.offices["unrcca"]
            entry, own = await reported(osh, canary()), await reported(batken, draft(area="KG-B"))
            await until_held(unrcca, 2)
            recall = await recalled(osh, entry)
            await until_held(unrcca, 1, Tombstone)
            answers = []
            for target in (entry.report_id, "A" * 22, recall.report_id):
                answers.append(await _recall_as(batken, own, target))
            assert {answer["code"] for answer in answers} == {"nothing-to-recall"}
            own_words = ("id", "digest", "bytes", "signature")
            said = [{name: value for name, value in one.items() if name not in own_words} for one in answers]
            assert said[0] == said[1] == said[2]
            async with batken.session() as session:
                subject = subjects.recalls_status(batken.nkey.public)
                with pytest.raises(Refused) as caught:
                    await session.ask(subject, {"recall": recall.report_id})
            assert caught.value.code == "nothing-to-recall"

    asyncio.run(run())


async def _recall_as(member: Any, entry: Any, target: str, **changes: Any) -> Any:
    """What the hub answers to a recall of ``target`` by ``member``, made from a report of his own."""
    async with member.session() as session:
        trusted = await session.refresh()
        data = _forged(member, entry, target, trusted)
        return json.loads(await session.link.request(subjects.reports_submit(member.nkey.public), data))


def _forged(member: Any, entry: Any, target: str, trusted: Any, key: Any = None) -> bytes:
    intent = plan_recall(entry, keep=(), offices=(), reason="")._replace(recalls=target)
    readers = intent.readers(trusted, now().date())
    return intent.seal(new_report_id(), readers, trusted, key or member.key, {})


def test_a_desk_takes_no_recall_that_its_author_did_not_sign_for_that_report(tmp_path: Path) -> None:
    # All of this is what a hub could put into the feed, alone or with another monitor.
    async def run() -> None:
        async with small_network(tmp_path) as network:
            osh, batken, unrcca = network.monitors["osh"], network.monitors["batken"], network.offices["unrcca"]
            entry, second = await reported(osh, canary()), await reported(osh, draft())
            own = await reported(batken, draft(area="KG-B"))
            await until_held(unrcca, 3)
            async with unrcca.session() as session:
                trusted = await session.refresh()
            inbox = open_inbox(unrcca)
            desk = _judging(unrcca, inbox)
            true = _forged(osh, entry, entry.report_id, trusted)
            moved = json.loads(true)
            claims = loads(unb64u(moved["payload"]), max_bytes=1 << 16)
            claims["recalls"] = second.report_id
            moved["payload"] = b64u(json.dumps(claims, separators=(",", ":")).encode())
            cases = {
                "bad-signature": [
                    _forged(osh, entry, entry.report_id, trusted, new_signing_key()),
                    _forged(osh, entry, entry.report_id, trusted, unrcca.key),
                    json.dumps(moved, separators=(",", ":")).encode(),
                ],
                "not-the-author": [_forged(batken, own, entry.report_id, trusted)],
            }
            for code, items in cases.items():
                for data in items:
                    assert desk._judge(data, trusted).code == code
            # Set aside, they take nothing; the author's own does, and again it changes nothing.
            assert isinstance(desk._judge(true, trusted), Arrival)
            inbox.keep([desk._judge(data, trusted) for items in cases.values() for data in items], now=1.0)
            assert len([one for one in inbox.items() if isinstance(one, Item)]) == 3
            for expected in (True, False):
                assert inbox.keep([desk._judge(true, trusted)], now=2.0) == [expected]
                assert {one.id for one in inbox.items() if isinstance(one, Tombstone)} == {entry.report_id}
                assert len([one for one in inbox.items() if isinstance(one, Item)]) == 2
            inbox.close()

    asyncio.run(run())


def _judging(member: Any, inbox: Any) -> Any:
    return Desk(None, inbox, member.id, member.opening_keys, member.nkey.public)  # type: ignore[arg-type]


def test_no_one_confirms_for_an_office_but_the_office(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, unrcca, hq = network.monitors["osh"], network.offices["unrcca"], network.offices["un-hq"]
            recall = await recalled(osh, entry := await reported(osh, canary()))
            digest = unb64u(leaf_of(recall.receipt or b"").digest)
            async with hq.session() as session:
                for office, key in (("unrcca", hq.key), ("un-hq", unrcca.key), ("unrcca", unrcca.key)):
                    said = sign_confirmation(
                        office, entry.report_id, digest, network=hq.card.root_digest, at=now(), key=key
                    )
                    with pytest.raises((Refused, Untrusted)):
                        await session.ask(subjects.recalls_confirm(hq.nkey.public), json.loads(said))
                said = sign_confirmation(
                    "un-hq", entry.report_id, b"x" * 32, network=hq.card.root_digest, at=now(), key=hq.key
                )
                with pytest.raises(Refused):
                    await session.ask(subjects.recalls_confirm(hq.nkey.public), json.loads(said))
            assert not any((await confirmed(osh, recall)).values())

    asyncio.run(run())


def test_a_hub_killed_at_any_moment_loses_no_recall_and_no_confirmation(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, unrcca, hq = network.monitors["osh"], network.offices["unrcca"], network.offices["un-hq"]
            entry = await reported(osh, canary())
            await until_held(unrcca, 1)
            recall = await recalled(osh, entry)
            network.hub.kill()  # accepted, and perhaps not in a feed yet
            await network.hub.start()
            await until_held(unrcca, 1, Tombstone)
            async with asyncio.timeout(30):
                while not (await confirmed(osh, recall))["unrcca"]:
                    await followed(unrcca)
            network.hub.kill()
            # A start without its cache knows from the ledger what is recalled.
            for cache in network.hub.home.rglob("*cache*"):
                if cache.is_file():
                    cache.unlink()
            await network.hub.start()
            assert (await confirmed(osh, recall))["unrcca"]
            await until_held(hq, 1, Tombstone)
            assert not any(isinstance(one, Item) for one in await followed(hq))

    asyncio.run(run())


def test_the_commands_take_back_show_and_tell_and_nothing_is_taken_back_that_the_person_did_not_mean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def kengele(*words: str) -> str:
        capsys.readouterr()
        assert main([*words]) == 0
        return capsys.readouterr().out

    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, unrcca = network.monitors["osh"], network.offices["unrcca"]
            entry = await reported(osh, canary())
            node = ["--home", str(osh.home), "--key-file", str(network.home / "key")]
            desk = ["--home", str(unrcca.home), "--key-file", str(network.home / "key")]
            with monkeypatch.context() as person:
                person.setattr(terminal, "interactive", lambda: True)
                for answer in ("no", ""):
                    person.setattr("sys.stdin", io.StringIO(f"{answer}\n"))
                    assert await asyncio.to_thread(main, ["node", "recall", "1", *node]) == 1
                    shown = capsys.readouterr()
                    assert entry.report_id in shown.out
                    assert "Have it destroyed there?" in shown.err
                    assert "Nothing was recalled." in shown.err
                assert await asyncio.to_thread(kengele, "node", "recalls", *node) == "Nothing was recalled.\n"
                person.setattr("sys.stdin", io.StringIO("yes\n"))
                said = await asyncio.to_thread(kengele, "node", "recall", "1", "--reason", "Unsafe.", *node)
                assert "They will read your reason." in said
            assert "\nAccepted:" in said
            lines = (await asyncio.to_thread(kengele, "node", "outbox", *node)).splitlines()
            listed = [line for line in lines if not line.startswith("        ")]
            assert listed[0].endswith(f"  accepted  recall of {entry.report_id}")
            assert listed[1].endswith(f"  accepted  {entry.header['area']}  {entry.header['categories'][0]}")
            assert "unrcca: has not confirmed" in await asyncio.to_thread(kengele, "node", "recalls", *node)
            async with asyncio.timeout(30):
                while "unrcca: confirmed, " not in await asyncio.to_thread(kengele, "node", "recalls", *node):
                    told = await asyncio.to_thread(kengele, "office", "follow", "--once", *desk)
                    assert CANARY not in told
            found = json.loads(await asyncio.to_thread(kengele, "node", "recalls", "--json", *node))
            (recall,) = found["recalls"]
            assert recall["recalls"] == entry.report_id
            assert recall["offices"]["unrcca"].endswith("Z")
            for words in (["office", "show"], ["office", "show", "--id", entry.report_id]):
                shown = await asyncio.to_thread(kengele, *words, *desk)
                assert f"{entry.report_id}  recalled by its author\n    | Unsafe.\n" in shown

    asyncio.run(run())
