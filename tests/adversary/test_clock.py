"""A machine whose clock was set back, through the commands: it seals for nobody whom rules that ran out let read, and a
coordinator's drafts and page go by the latest moment that her home has seen."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from kengele_node import member as member_module
from kengele_node.cli import main
from kengele_node.coordinator import board, standing
from kengele_node.coordinator.console.view import View
from kengele_node.coordinator.drafts import Drafts
from kengele_schemas import metadata
from kengele_schemas.drafts import TARGETS_LIFE, Draft
from kengele_testing.network import small_network

_KEPT = timedelta(hours=1)
"""A home writes down what it saw each minute, and a busy machine is slow."""


def test_a_clock_set_back_cannot_bring_back_rules_that_this_node_saw_run_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh = network.monitors["osh"]
            async with osh.session() as session:
                trusted = await session.refresh()
            network.hub.stop()
            today = member_module.now()
            words = ["--area", "KG-O", "--category", "rumour", "--severity", "2", "--tlp", "AMBER", "--lang", "en"]
            line = ["node", "report", *words, "--summary", "Talk.", "--day", today.date().isoformat(), "--preview"]
            line += ["--json", "--home", str(osh.home), "--key-file", str(network.home / "key")]

            async def mode(at: datetime) -> tuple[str, str]:
                monkeypatch.setattr(member_module, "now", lambda: at)
                capsys.readouterr()
                assert await asyncio.to_thread(main, line) == 0
                shown = capsys.readouterr()
                return json.loads(shown.out)["mode"], shown.err

            found, said = await mode(today)
            assert found == "policy"
            assert "clock" not in said
            assert (await mode(trusted.targets_expire + timedelta(hours=1)))[0] == "custodian-only"
            found, said = await mode(today)
            assert found == "custodian-only"
            assert "This machine's clock is behind" in said

    asyncio.run(run())


@pytest.mark.parametrize("by", ["command", "console"])
def test_a_coordinators_clock_set_back_dates_no_draft_back(
    tmp_path: Path, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A removal that is dated back leaves the removed member the lines that it opened since."""

    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            aigul, osh = network.coordinators["aigul"], network.monitors["osh"]
            async with aigul.session() as session:
                await session.refresh()
            today = member_module.now()
            monkeypatch.setattr(member_module, "now", lambda: today - timedelta(days=10))
            if by == "command":
                home = ["--home", str(aigul.home), "--key-file", str(network.home / "key")]
                draft = ["--draft", str(tmp_path / "draft.json")]
                line = ["coordinator", "members", "revoke", osh.kid, *draft, *home]
                assert await asyncio.to_thread(main, line) == 0
                made = Draft.decode((tmp_path / "draft.json").read_bytes())
                revoked = json.loads(made.documents["connections.json"])["revoked"]
                assert [one["at"] >= (today - _KEPT).timestamp() for one in revoked] == [True]
            else:
                async with aigul.session() as session:
                    drafts = Drafts(tmp_path / "drafts.db", aigul.vault.rows("drafts"))
                    view = View(aigul, session, drafts)
                    held = await view.in_force()
                    name = await view.propose(standing.suspend(held.documents, osh.kid))
                    made = await board.get(session, name)
            listed = metadata.signed_part(made.roles["targets"], metadata.Targets)
            assert listed.expires >= today + TARGETS_LIFE - _KEPT

    asyncio.run(run())


def test_no_part_of_a_coordinators_commands_and_page_judges_by_the_machines_own_clock() -> None:
    """But where no home is opened, and so no clock of its own is known."""
    folder = Path(member_module.__file__).parent / "coordinator"
    own = re.compile(r"(?<![\w.])now\(\)|time\.time\(\)|datetime\.now\(|date\.today\(")
    found = {path.name: len(own.findall(path.read_text("utf-8"))) for path in folder.rglob("*.py")}
    assert {name: count for name, count in found.items() if count} == {
        "dates.py": 1,
        "ground.py": 2,
        "letters.py": 1,
        "questions.py": 1,
    }
