"""A machine whose clock was set back, through the commands: it seals for nobody whom rules that ran out let read."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from kengele_node import member as member_module
from kengele_node.cli import main
from kengele_testing.network import small_network


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
