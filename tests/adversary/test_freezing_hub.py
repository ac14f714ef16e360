"""A hub that holds members at old rules: it signs itself, again and again, that there are none newer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kengele_node import newest
from kengele_node.cli import main
from kengele_node.coordinator import publishing
from kengele_node.demo.network import COORDINATORS, Network
from kengele_node.member import Member
from kengele_node.monitor.home import open_outbox
from kengele_node.monitor.log_memory import LogMemory
from kengele_node.monitor.running import _sender
from kengele_schemas.compartments import GRANTABLE
from kengele_schemas.errors import Refused
from kengele_testing.lying import lie, lying_hubs
from kengele_testing.network import small_network

pytestmark = pytest.mark.full

REPORT = ("--area", "KG-O", "--category", "rumour", "--severity", "2", "--tlp", "AMBER", "--lang", "en")
TEXT = ("--summary", "Talk of a fight.", "--yes")
SIGNERS = ("aigul", "moussa")


@pytest.fixture(autouse=True)
def _lying(monkeypatch: pytest.MonkeyPatch) -> None:
    lying_hubs(monkeypatch)
    monkeypatch.setattr(newest, "MOMENT", 0.0)
    monkeypatch.setattr(publishing, "_MOMENT", 0.0)


async def kengele(network: Network, member: Member, *words: str, code: int = 0) -> None:
    line = [*words, "--home", str(member.home), "--key-file", str(network.home / "key")]
    assert await asyncio.to_thread(main, line) == code


async def raised(network: Network, **changes: Any) -> int:
    """Coordinators put the same rules in force under the next number; gives that."""
    number = 0

    def change(before: Mapping[str, Any]) -> Any:
        nonlocal number
        number = before["policy.json"]["version"] + 1
        return {"policy.json": {**before["policy.json"], "version": number, **changes}}

    await network.publish(change, SIGNERS)
    return number


def test_a_hub_cannot_hold_a_desk_at_old_rules_that_an_author_no_longer_uses_unnoticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, unrcca = network.monitors["osh"], network.offices["unrcca"]
            lie(network.hub, frozen=[unrcca.nkey.public])
            number = await raised(network)
            await kengele(network, osh, "node", "report", *REPORT, *TEXT)
            capsys.readouterr()
            await kengele(network, unrcca, "office", "rules", "--json")
            before = json.loads(capsys.readouterr().out)
            assert (before["policy"], before["older_rules"], before["confirmed"]) == (number - 1, None, None)
            await kengele(network, unrcca, "office", "follow", "--once")
            shown = capsys.readouterr()
            told = f"ATTENTION (older-rules): The hub shows us older rules than it uses: version {number - 1}."
            assert told in shown.err
            assert "Talk of a fight." in shown.out
            for words in (("show", "--problems"), ("rules",)):
                await kengele(network, unrcca, "office", *words)
                assert f"a report of {osh.kid} named version {number}" in capsys.readouterr().out
                await kengele(network, unrcca, "office", *words, "--json")
                finding = json.loads(capsys.readouterr().out)["older_rules"]
                assert (finding["code"], finding["used"], finding["by"]) == ("older-rules", number, osh.kid)
            lie(network.hub)
            await kengele(network, unrcca, "office", "rules", "--json")
            after = json.loads(capsys.readouterr().out)
            assert (after["policy"], after["older_rules"]) == (number, None)
            assert (after["confirmed"]["policy"], after["confirmed"]["by"]) == (number, osh.kid)

    asyncio.run(run())


def test_a_hub_cannot_have_a_node_seal_by_rules_that_are_older_than_those_in_its_receipts_unsaid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh = network.monitors["osh"]
            await kengele(network, osh, "node", "report", *REPORT, *TEXT, "--later")
            held = await raised(network)
            lie(network.hub, frozen=[osh.nkey.public])
            number = await raised(network)
            assert number == held + 1
            capsys.readouterr()
            await kengele(network, osh, "node", "report", *REPORT, *TEXT)
            told = f"ATTENTION (older-rules): The hub shows us older rules than it uses: version {held}."
            shown = capsys.readouterr()
            assert told in shown.err
            assert "Accepted" in shown.out
            for words in (("rules",), ("status",), ("report", *REPORT, *TEXT, "--preview")):
                await kengele(network, osh, "node", *words)
                assert told in capsys.readouterr().out
                await kengele(network, osh, "node", *words, "--json")
                finding = json.loads(capsys.readouterr().out)["older_rules"]
                assert (finding["code"], finding["shown"], finding["used"]) == ("older-rules", held, number)
            # What waits is not sealed anew by them: she is asked.
            await raised(network, refuse_below=number + 1)
            outbox, memory = open_outbox(osh), LogMemory(osh.home, osh.vault.rows("log"))
            async with osh.session() as session, asyncio.timeout(30):
                await _sender(session, outbox, memory).run(until_empty=True)
            assert outbox.counts() == {"held": 1, "accepted": 1}
            assert [entry.code for entry in outbox.held()] == ["older-rules"]
            outbox.close()
            await kengele(network, osh, "node", "held", "1", code=1)
            assert told in capsys.readouterr().out
            lie(network.hub)
            await kengele(network, osh, "node", "held", "1", "--yes")
            assert "accepted" in capsys.readouterr().out

    asyncio.run(run())


@pytest.mark.parametrize("lies", ["frozen", "swallow"])
def test_a_hub_that_says_in_force_and_serves_old_rules_is_not_believed_by_who_publishes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lies: str
) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ()) as network:
            aigul, moussa = (network.coordinators[name] for name in SIGNERS)
            file = str(tmp_path / "draft.json")
            await kengele(network, aigul, "coordinator", "renew", "--draft", file)
            await kengele(network, moussa, "coordinator", "sign", file, "--yes")
            lie(network.hub, **{lies: [aigul.nkey.public]})
            capsys.readouterr()
            await kengele(network, aigul, "coordinator", "publish", file, code=Refused.exit_code)
            shown = capsys.readouterr()
            assert "is in force." not in shown.out
            assert "it serves members version" in shown.err
            lie(network.hub)
            await kengele(network, aigul, "coordinator", "publish", file)
            assert "is in force." in capsys.readouterr().out

    asyncio.run(run())


def test_a_node_that_is_shown_only_what_came_after_a_widening_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def asks_three(before: Mapping[str, Any]) -> Any:
        return {"network.json": {**before["network.json"], "widening_threshold": 3}}

    def widened(before: Mapping[str, Any]) -> Any:
        policy = before["policy.json"]
        last = [{**rule, "grant": [*GRANTABLE]} if "grant" in rule else rule for rule in policy["rules"]]
        return {"policy.json": {**policy, "version": policy["version"] + 1, "rules": last, "assertions": []}}

    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh = network.monitors["osh"]
            await network.publish(asks_three, COORDINATORS)
            await kengele(network, osh, "node", "rules", "--json")
            assert json.loads(capsys.readouterr().out)["unseen"] == {}
            lie(network.hub, frozen=[osh.nkey.public])
            await network.publish(widened, COORDINATORS)
            await raised(network)
            lie(network.hub)
            await kengele(network, osh, "node", "rules")
            shown = capsys.readouterr()
            for told in (shown.out, shown.err):
                assert "ATTENTION (unseen-widening): By versions that this home missed" in told
                assert "the rules let somebody read more." in told
            await kengele(network, osh, "node", "rules", "--json")
            assert "the rules let somebody read more" in json.loads(capsys.readouterr().out)["unseen"]

    asyncio.run(run())
