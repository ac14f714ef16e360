"""An author is told who will read what: no answer of the hub and no later rules change it unasked."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from kengele_node import terminal
from kengele_node.cli import main
from kengele_node.coordinator import documents as papers
from kengele_node.demo.network import Network
from kengele_node.monitor import asking
from kengele_node.monitor.home import open_outbox
from kengele_node.monitor.log_memory import LogMemory
from kengele_node.monitor.running import _sender
from kengele_schemas.policy import Rule
from kengele_testing.network import fetch_all, small_network

WORDS = ("--area", "KG-O", "--category", "rumour", "--severity", "2", "--tlp", "AMBER", "--lang", "en")
TEXT = ("--summary", "Talk of a fight.", "--source", "The neighbour.", "--basis", "witness")
SIGNERS = ("aigul", "moussa")


def rule(id: str, parts: Sequence[str], *offices: str) -> Rule:
    return Rule.model_validate(
        {
            "id": id,
            "grant": list(parts),
            "to": [f"office:{office}" for office in offices],
            "areas": ["*"],
            "categories": ["*"],
            "tlp_up_to": "RED",
            "expires": "2099-01-01",
            "reason": "test",
        }
    )


async def hold(network: Network, *rules: Rule) -> int:
    """Coordinators put ``rules`` in force and have older ones refused; gives their number."""
    number = 0

    def change(before: Mapping[str, Any]) -> Any:
        nonlocal number
        number = before["policy.json"]["version"] + 1
        return papers.adopt(before, rules, refuse_below=number)

    await network.publish(change, SIGNERS)
    return number


async def kengele(network: Network, *words: str, code: int = 0) -> None:
    home = network.monitors["osh"].home
    line = [*words, "--home", str(home), "--key-file", str(network.home / "key")]
    assert await asyncio.to_thread(main, line) == code


async def sent(network: Network) -> dict[str, int]:
    """The node sends what it has to send; gives how much is in each state."""
    osh = network.monitors["osh"]
    outbox, memory = open_outbox(osh), LogMemory(osh.home, osh.vault.rows("log"))
    try:
        async with osh.session() as session, asyncio.timeout(30):
            await _sender(session, outbox, memory).run(until_empty=True)
        return dict(outbox.counts())
    finally:
        outbox.close()


def test_an_honest_hub_cannot_make_a_node_seal_for_a_reader_the_author_was_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            await hold(network, rule("one", ["summary"], "unrcca"))
            capsys.readouterr()
            await kengele(network, "node", "report", *WORDS, *TEXT, "--yes", "--later")
            shown = capsys.readouterr().out
            assert "will read: summary (rule one)" in shown
            assert "Nobody will read: source" in shown
            number = await hold(network, rule("one", ["summary", "source"], "unrcca", "kg-peace-council"))
            assert await sent(network) == {"accepted": 1}
            (item,) = await fetch_all(network.offices["unrcca"])
            assert item.arrival.header.pol == number
            assert set(item.arrival.contents) == {"summary"}
            assert await fetch_all(network.offices["kg-peace-council"], 0) == []

    asyncio.run(run())


def test_a_report_is_held_where_somebody_is_left_out_until_its_author_has_looked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            await hold(network, rule("one", ["summary"], "unrcca"))
            for _ in range(2):
                await kengele(network, "node", "report", *WORDS, *TEXT, "--yes", "--later")
            await hold(network, rule("two", ["summary", "source"], "kg-peace-council"))
            assert await sent(network) == {"held": 2}
            capsys.readouterr()
            await kengele(network, "node", "outbox")
            assert "kengele node held 1" in capsys.readouterr().out
            await kengele(network, "node", "held", "1", code=1)
            shown = capsys.readouterr()
            assert "will read: summary" in shown.out.split("By the rules of now:")[0]
            assert "was to read summary, and would not now" in shown.out
            assert "(rule two)" in shown.out.split("By the rules of now:")[1]
            assert "nothing of it is sent" in shown.err
            assert await sent(network) == {"held": 2}
            with monkeypatch.context() as person:
                person.setattr(terminal, "interactive", lambda: True)
                for answer in ("no\n", "yes\n"):
                    person.setattr("sys.stdin", io.StringIO(answer))
                    await kengele(network, "node", "held", "1", code=int(answer == "no\n"))
            # Neither is decided about again: what was accepted is not deleted, with its receipt, as if it were held.
            for words in (("1", "--discard"), ("1", "--yes"), ("7", "--discard")):
                await kengele(network, "node", "held", *words, code=3)
                assert "(code: not-held)" in capsys.readouterr().err
            await kengele(network, "node", "held", "2", "--discard")
            capsys.readouterr()
            await kengele(network, "node", "outbox", "--json")
            assert [one["state"] for one in json.loads(capsys.readouterr().out)["entries"]] == ["accepted"]
            (item,) = await fetch_all(network.offices["kg-peace-council"])
            assert set(item.arrival.contents) == {"summary", "source"}

    asyncio.run(run())


def test_a_report_is_not_sealed_by_rules_that_changed_while_its_author_read_the_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another command takes new rules in while she looks."""

    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            await hold(network, rule("one", ["summary"], "unrcca"))
            loop, asks = asyncio.get_running_loop(), []

            async def meanwhile() -> None:
                await hold(network, rule("two", ["summary"], "kg-peace-council"))
                async with network.monitors["osh"].session() as session:
                    await session.refresh()

            def confirm(_: str) -> bool:
                asks.append(capsys.readouterr())
                if len(asks) == 1:
                    asyncio.run_coroutine_threadsafe(meanwhile(), loop).result(60)
                return len(asks) == 1

            monkeypatch.setattr(asking.terminal, "interactive", lambda: True)
            monkeypatch.setattr(asking.terminal, "confirm", confirm)
            await kengele(network, "node", "report", *WORDS, *TEXT, "--day", "2026-10-01", "--later", code=1)
            first, second = asks
            assert "(rule one)" in first.out
            assert "Meanwhile the rules have changed" in second.err
            assert "(rule two)" in second.out
            outbox: Any = open_outbox(network.monitors["osh"])
            assert outbox.counts() == {}
            outbox.close()

    asyncio.run(run())
