"""A key that changes between a person's yes and the sealing: she is asked again, or told what was left out."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kengele_hub.home import HubKeys
from kengele_node import terminal
from kengele_node.cli import main
from kengele_node.coordinator import documents as papers
from kengele_node.demo.network import Network
from kengele_node.link import Link
from kengele_node.member import Member
from kengele_node.monitor.home import open_outbox
from kengele_node.monitor.log_memory import LogMemory
from kengele_node.monitor.running import _sender
from kengele_schemas.envelope import parse
from kengele_schemas.fields import read
from kengele_schemas.keys import HYBRID, OpeningKey
from kengele_schemas.policy import Rule
from kengele_schemas.policy_text import from_yaml
from kengele_schemas.receipt import refused
from kengele_testing.network import draft, small_network
from kengele_testing.recalls import reported, until_held

pytestmark = [pytest.mark.full, pytest.mark.timeout(240)]
SIGNERS = ("aigul", "moussa")
GRANT = """
- id: later
  grant: [summary]
  to: [office:cewarn]
  areas: [KG]
  categories: ["*"]
  tlp_up_to: AMBER
  expires: 2199-12-31
  reason: test
"""


async def replaced(network: Network, id: str) -> None:
    """Coordinators put another key in for the office, for which it has not vouched, and newer rules."""
    keys = [OpeningKey.generate(HYBRID).public.document()]

    def change(before: Any) -> Any:
        listed = before["offices.json"]
        rows = [row | ({"keys": keys} if row["id"] == id else {}) for row in listed["offices"]]
        return {"offices.json": {**listed, "offices": rows}, **papers.adopt(before, _rules(before))}

    await network.publish(change, SIGNERS)


def refusing_first(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that says of the first thing it is sent that it does not know its rules."""
    ask, left = Link.request, [True]

    async def request(link: Link, subject: str, data: bytes, timeout: float = 10) -> bytes:
        if not left or not subject.endswith(".submit"):
            return await ask(link, subject, data, timeout)
        left.clear()
        envelope, key = parse(data), HubKeys.load(network.hub.home).hub_key
        sent = hashlib.sha256(data).digest()
        return refused("policy-unknown", envelope.claims["id"], envelope.digest, sent, retry_after=None, key=key)

    monkeypatch.setattr(Link, "request", request)


async def kengele(network: Network, member: Member, *words: str, code: int = 0) -> None:
    where = ["--home", str(member.home), "--key-file", str(network.home / "key")]
    assert await asyncio.to_thread(main, [*words, *where]) == code


def a_person(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], meanwhile: Callable[[], Any]
) -> list[Any]:
    """Somebody at the terminal: ``meanwhile`` happens before her first answer, which is yes; then she says no. Gives
    all that she was shown before each answer."""
    loop, asks = asyncio.get_running_loop(), list[Any]()

    def confirm(_: str) -> bool:
        asks.append(capsys.readouterr())
        if len(asks) == 1:
            asyncio.run_coroutine_threadsafe(meanwhile(), loop).result(60)
        return len(asks) == 1

    monkeypatch.setattr(terminal, "interactive", lambda: True)
    monkeypatch.setattr(terminal, "confirm", confirm)
    return asks


def test_a_recall_is_not_sealed_for_a_key_that_changed_while_its_author_read_the_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh = network.monitors["osh"]
            entry = await reported(osh, draft())

            async def meanwhile() -> None:
                await replaced(network, "unrcca")
                async with osh.session() as session:
                    await session.refresh()

            asks = a_person(monkeypatch, capsys, meanwhile)
            monkeypatch.setattr("sys.stdin", io.StringIO("Her house is watched.\n"))
            words = ["node", "recall", entry.report_id, "--office", "unrcca", "--reason", "-"]
            await kengele(network, osh, *words, code=1)
            first, second = asks
            assert "has new keys since" not in first.out
            assert "Meanwhile the offices or their keys have changed" in second.err
            assert "has new keys since" in second.out
            box = open_outbox(osh)
            assert box.counts() == {"accepted": 1}
            box.close()

    asyncio.run(run())


def test_a_report_is_not_shared_for_a_key_that_changed_while_its_author_read_the_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh = network.monitors["osh"]
            words = ["--area", "KG-O", "--category", "rumour", "--severity", "2", "--tlp", "AMBER", "--lang", "en"]
            await kengele(network, osh, "node", "report", *words, "--summary", "Talk.", "--keep-keys", "--yes")
            rules = from_yaml(GRANT)
            await network.publish(lambda before: papers.adopt(before, [*_rules(before), *rules]), SIGNERS)

            async def meanwhile() -> None:
                await replaced(network, "cewarn")
                async with osh.session() as session:
                    await session.refresh()

            asks = a_person(monkeypatch, capsys, meanwhile)
            await kengele(network, osh, "node", "share", code=1)
            first, second = asks
            assert "has new keys since" not in first.out
            assert "Meanwhile the rules or an office's keys have changed" in second.err
            assert "has new keys since" in second.out
            monkeypatch.setattr(terminal, "interactive", lambda: False)
            capsys.readouterr()
            await kengele(network, osh, "node", "share", "--json", code=1)
            assert json.loads(capsys.readouterr().out)["shares"] == []

    asyncio.run(run())


def _rules(before: Any) -> Any:
    return [read(Rule, row) for row in before["policy.json"]["rules"]]


def test_an_author_is_told_that_her_recall_went_without_its_reason_and_how_to_tell_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, unrcca = network.monitors["osh"], network.offices["unrcca"]
            entry = await reported(osh, draft())
            await until_held(unrcca, 1)
            reason = ("--reason", "Her house is watched.", "--office", "unrcca")
            await kengele(network, osh, "node", "recall", entry.report_id, *reason, "--yes", "--later")
            await replaced(network, "unrcca")
            refusing_first(network, monkeypatch)
            box, memory = open_outbox(osh), LogMemory(osh.home, osh.vault.rows("log"))
            try:
                async with osh.session() as session, asyncio.timeout(30):
                    await _sender(session, box, memory).run(until_empty=True)
                assert box.counts() == {"accepted": 2}
            finally:
                box.close()
            for command in ("outbox", "recalls"):
                capsys.readouterr()
                await kengele(network, osh, "node", command)
                told = capsys.readouterr().out
                assert "Without your reason: the keys of unrcca are not those you were shown" in told
                assert f"kengele node recall {entry.report_id} --reason -" in told
            await kengele(network, osh, "node", "outbox", "--json")
            rows = json.loads(capsys.readouterr().out)["entries"]
            assert [one["without_reason_for"] for one in rows] == [["unrcca"], []]
            # She has asked there, and tells it: it is said to the key that she is shown.
            await kengele(network, osh, "node", "recall", entry.report_id, *reason, "--yes")
            assert "Without your reason" not in capsys.readouterr().out.split("Accepted")[1]

    asyncio.run(run())
