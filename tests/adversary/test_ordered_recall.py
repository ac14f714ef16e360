"""What a recall by the coordinators does, and what nobody can do with one: hub, broker and members are real."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kengele_hub.access import Access
from kengele_hub.home import HubKeys
from kengele_node.cli import main
from kengele_node.demo.network import Network
from kengele_node.member import Member
from kengele_node.monitor.recalling import leaf_of
from kengele_node.office.arrivals import Aside, Item, Tombstone
from kengele_node.office.home import open_inbox
from kengele_node.rules import visible_to, write
from kengele_schemas import subjects
from kengele_schemas.encoding import b64u, dumps
from kengele_schemas.envelope import parse
from kengele_schemas.errors import Refused
from kengele_schemas.keys import new_signing_key
from kengele_schemas.orders import RECALLS, Notice, mark_of, sign_notice
from kengele_testing.network import draft, small_network, until
from kengele_testing.recalls import confirmed, followed, obeyed, ordered, recalled, reported, until_held

pytestmark = pytest.mark.full
CANARY = "Zq7CANARYx9"


def canary() -> Any:
    return draft(
        summary={"text": f"{CANARY} in the summary.", "lang": "en"},
        account={"text": f"{CANARY} in the account.", "lang": "en"},
    )


def kengele(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main([*words]) == code
    return capsys.readouterr().out


def key_of(network: Network, member: Member) -> list[str]:
    return ["--home", str(member.home), "--key-file", str(network.home / "key")]


@asynccontextmanager
async def following(network: Network, member: Member, told: Path) -> AsyncIterator[None]:
    """A desk in a process of its own, which says into ``told`` what comes."""
    command = [sys.executable, "-m", "kengele_node.cli", "office", "follow", *key_of(network, member)]
    with told.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_two_coordinators_recall_a_report_and_see_who_obeyed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, unrcca = network.monitors["osh"], network.offices["unrcca"]
            gone, part, told = await reported(osh, canary()), await reported(osh, canary()), tmp_path / "told"
            home = {name: key_of(network, member) for name, member in network.coordinators.items()}

            async def said(*words: str, code: int = 0) -> str:
                return await asyncio.to_thread(kengele, capsys, "coordinator", *words, code=code)

            async def together(report_id: str, *words: str) -> None:
                file = str(tmp_path / "draft.json")
                made = await said("recall", report_id, *words, "--draft", file, *home["aigul"])
                shown = await said("recall", report_id, "--check", file, *home["moussa"])
                assert mark_of(report_id) in made
                assert mark_of(report_id) in shown
                await said("recall", "A" * 22, "--check", file, *home["moussa"], code=3)
                assert mark_of(report_id) in await said("sign", file, *home["moussa"])
                await said("publish", file, *home["moussa"])

            async with following(network, unrcca, told):
                await until(lambda: part.report_id in told.read_text())
                await together(gone.report_id, "--reason", "safety")
                sentence = f"Report {gone.report_id} was recalled by the network's coordinators; its text and keys"
                await until(lambda: sentence in told.read_text())
                await together(part.report_id, "--keep", "summary")
                await until(lambda: f"{part.report_id} was recalled" in told.read_text())
                async with asyncio.timeout(30):
                    for report_id in (gone.report_id, part.report_id):
                        while not (await obeyed(network, report_id))["unrcca"]:
                            await asyncio.sleep(0.1)
            found = await obeyed(network, gone.report_id)
            # The other desks have not been on yet, and the coordinators see which.
            assert sum(found.values()) == 1 < len(found)
            assert "un-hq: has not confirmed" in await said("recalls", gone.report_id, *home["nyambura"])
            for name in found:
                async with asyncio.timeout(30):
                    while not all([(await obeyed(network, one.report_id)).get(name, True) for one in (gone, part)]):
                        await followed(network.offices[name])
            for name in found:
                held = await followed(network.offices[name])
                (stone,) = [one for one in held if isinstance(one, Tombstone)]
                assert (stone.id, stone.author, stone.reason) == (gone.report_id, osh.kid, "safety")
                (item,) = [one for one in held if isinstance(one, Item)]
                assert set(item.arrival.contents) - {"handling"} == {"summary"}
                assert set(parse(item.arrival.data).ciphertexts) - {"handling"} == {"summary"}
                inbox = open_inbox(network.offices[name])
                assert inbox.gaps(osh.kid).unexplained == 0
                inbox.close()
            status = json.loads(await said("recalls", gone.report_id, "--json", *home["aigul"]))["recalls"][0]
            assert set(status["offices"]) == set(found)
            assert all(status["offices"].values())
            desk = key_of(network, unrcca)
            shown = await asyncio.to_thread(kengele, capsys, "office", "show", *desk)
            assert f"{gone.report_id}  recalled by the network's coordinators\n  It endangers someone.\n" in shown
            # The log tells the same, and holds.
            audit = ["audit", "search", "--report", status["report"], *home["aigul"]]
            assert " recall " in await asyncio.to_thread(kengele, capsys, *audit)
            verified = ["audit", "verify", "--witnesses", "0", *home["aigul"]]
            assert "It holds." in await asyncio.to_thread(kengele, capsys, *verified)

    asyncio.run(run())


def test_one_coordinator_alone_cannot_recall(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, unrcca = network.monitors["osh"], network.offices["unrcca"]
            entry = await reported(osh, canary())
            with pytest.raises(Refused) as caught:
                await ordered(network, entry.report_id, by=("aigul",))
            assert caught.value.code == "too-few-signatures"
            await until_held(unrcca, 1)

    asyncio.run(run())


def test_the_hub_cannot_make_up_a_recall_by_the_coordinators(tmp_path: Path) -> None:
    # All of this is what a hub could put into the feed with its own key, or another's.
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, unrcca = network.monitors["osh"], network.offices["unrcca"]
            entry, other = await reported(osh, canary()), await reported(osh, draft())
            await until_held(unrcca, 2)
            await ordered(network, other.report_id)
            await until_held(unrcca, 1, Tombstone)
            key = HubKeys.load(network.hub.home).hub_key
            forged = [
                sign_notice(Notice(id=b64u(bytes(16)), report=entry.report_id, kid=osh.kid), key),
                sign_notice(Notice(id=b64u(bytes(16)), report=entry.report_id, kid=osh.kid, keep=("summary",)), key),
                sign_notice(Notice(id=b64u(bytes(16)), report=other.report_id, kid=osh.kid), new_signing_key()),
            ]
            await _into_feed(network, unrcca, forged)
            held = await followed(unrcca)
            assert len([one for one in held if isinstance(one, Item)]) == 1
            inbox = open_inbox(unrcca)
            codes = [one.code for one in inbox.asides() if isinstance(one, Aside)]
            inbox.close()
            assert codes == ["not-recalled", "not-recalled", "bad-signature"]

    asyncio.run(run())


async def _into_feed(network: Network, member: Member, items: list[bytes]) -> None:
    nc = await Access(HubKeys.load(network.hub.home), f"nats://127.0.0.1:{network.hub.port}").connect()
    for number, data in enumerate(items):
        await nc.request(subjects.feed_subject(member.nkey.public, f"forged-{number}"), data, timeout=10)
    await nc.close()


def test_a_desk_killed_between_obeying_and_confirming_confirms_when_it_returns(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, unrcca = network.monitors["osh"], network.offices["unrcca"]
            by_author, by_coordinators = await reported(osh, canary()), await reported(osh, canary())
            await until_held(unrcca, 2)
            recall = await recalled(osh, by_author)
            await ordered(network, by_coordinators.report_id)
            async with asyncio.timeout(60):
                while len(await asyncio.to_thread(_stones_after_a_kill, network, unrcca)) < 2:
                    pass
            assert not (await confirmed(osh, recall))["unrcca"]
            assert not (await obeyed(network, by_coordinators.report_id))["unrcca"]
            await followed(unrcca)
            assert (await confirmed(osh, recall))["unrcca"]
            assert (await obeyed(network, by_coordinators.report_id))["unrcca"]

    asyncio.run(run())


_KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from kengele_node.member import Member
from kengele_node.office import following, home
from kengele_node.vault import Lock

async def dies():
    os.kill(os.getpid(), signal.SIGKILL)

async def run(member):
    async with member.session() as session:
        desk = following.open_desk(session, home.open_inbox(member))
        desk.confirm = dies
        await desk.follow(until_empty=True)

asyncio.run(run(Member.open(Path(sys.argv[1]), Lock(key_file=Path(sys.argv[2])), "office")))
"""


def _stones_after_a_kill(network: Network, member: Member) -> list[Tombstone]:
    """What a desk holds that obeys, and is killed before it confirms."""
    words = [sys.executable, "-c", _KILLED, str(member.home), str(network.home / "key")]
    assert subprocess.run(words, timeout=30, check=False).returncode == -signal.SIGKILL
    inbox = open_inbox(member)
    try:
        return [one for one in inbox.items() if isinstance(one, Tombstone)]
    finally:
        inbox.close()


def test_a_desk_without_a_line_obeys_what_comes_on_a_stick(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, unrcca = network.monitors["osh"], network.offices["unrcca"]
            entry = await reported(osh, canary())
            await until_held(unrcca, 1)
            await ordered(network, entry.report_id)
            aigul = network.coordinators["aigul"]
            async with aigul.session() as session:
                trusted = await session.refresh()
            write(tmp_path / "stick", visible_to(aigul.trust.files(), trusted, office="unrcca"))
            network.hub.kill()
            desk = key_of(network, unrcca)
            await asyncio.to_thread(kengele, capsys, "office", "rules", "--from", str(tmp_path / "stick"), *desk)
            shown = await asyncio.to_thread(kengele, capsys, "office", "show", "--id", entry.report_id, *desk)
            assert "recalled by the network's coordinators" in shown
            assert CANARY not in shown
            await network.hub.start()
            await followed(unrcca)
            assert (await obeyed(network, entry.report_id))["unrcca"]

    asyncio.run(run())


def test_who_does_not_know_the_id_cannot_tell_which_report_was_recalled(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh", "batken")) as network:
            osh, batken = network.monitors["osh"], network.monitors["batken"]
            entry = await reported(osh, canary())
            had = set(await _given(network, entry.report_id))
            others = set(network.offices) - had
            assert had
            assert others
            (document,) = [data for path, data in (await network.files("aigul")).items() if path.endswith(RECALLS)]
            for text in (entry.report_id, osh.kid, leaf_of(entry.receipt or b"").digest):
                assert text.encode() not in document
            # An office that had nothing of it is sent nothing, and a monitor not even the list.
            for name in others:
                assert await followed(network.offices[name]) == []
            async with batken.session() as session:
                names = [path for path in await network.files("aigul") if path.endswith(RECALLS)]
                subject = subjects.trust_get(batken.nkey.public)
                assert await session.link.request(subject, dumps({"path": names[0]})) == b""

    asyncio.run(run())


async def _given(network: Network, report_id: str) -> dict[str, bool]:
    await ordered(network, report_id)
    return await obeyed(network, report_id)


def test_a_hub_killed_at_any_moment_loses_no_recall_by_the_coordinators(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, unrcca, hq = network.monitors["osh"], network.offices["unrcca"], network.offices["un-hq"]
            entry = await reported(osh, canary())
            await until_held(unrcca, 1)
            await ordered(network, entry.report_id)
            network.hub.kill()  # in force, and perhaps not in a feed yet
            for cache in network.hub.home.rglob("*cache*"):
                if cache.is_file():
                    cache.unlink()
            await network.hub.start()
            for desk in (unrcca, hq):
                await until_held(desk, 1, Tombstone)
                assert not any(isinstance(one, Item) for one in await followed(desk))
            async with asyncio.timeout(30):
                while not (found := await obeyed(network, entry.report_id))["unrcca"] or not found["un-hq"]:
                    await followed(unrcca)

    asyncio.run(run())
