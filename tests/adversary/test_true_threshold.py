"""Coordinators are shown how many have to sign as the hub counts them, by the commands, when others come to sign."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from kengele_node.cli import main
from kengele_node.demo.network import COORDINATORS, Network
from kengele_node.member import Member
from kengele_schemas import signatures
from kengele_schemas.cards import CoordinatorCard
from kengele_schemas.drafts import Draft
from kengele_testing.network import small_network

pytestmark = pytest.mark.full


def asks_three(before: Any) -> Any:
    return {"network.json": {**before["network.json"], "widening_threshold": 3}}


async def kengele(network: Network, member: Member, *words: str) -> None:
    line = ["coordinator", *words, "--home", str(member.home), "--key-file", str(network.home / "key")]
    assert await asyncio.to_thread(main, line) == 0


def test_who_seats_another_is_shown_that_as_many_have_to_sign_as_for_any_widening(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ()) as network:
            await network.publish(asks_three, COORDINATORS)
            aigul, moussa, nyambura = network.coordinators.values()
            new = Member.create(tmp_path / "new", network.lock, "coordinator", {})
            card, file = tmp_path / "card.json", tmp_path / "draft.json"
            card.write_bytes(CoordinatorCard.of(new.key, new.nkey).encode())
            capsys.readouterr()
            await kengele(network, aigul, "seats", "--add", str(card), "--draft", str(file), "--json")
            proposed = json.loads(capsys.readouterr().out)
            assert (proposed["needs"], proposed["effect"]["signatures"]) == (2, 3)
            assert {"code": "coordinators", "what": "the network"} in proposed["effect"]["grounds"]
            # Whom a version seats is no voice for it.
            file.write_bytes(signatures.sign(Draft.decode(file.read_bytes()), new.key).encode())
            await kengele(network, moussa, "sign", str(file), "--yes")
            shown = capsys.readouterr().out
            assert "WIDER: other people sign for the network." in shown
            assert "The network asks for 3 signatures" in shown
            assert "It needs 1 more" in shown
            await kengele(network, nyambura, "sign", str(file), "--yes", "--json")
            assert json.loads(capsys.readouterr().out)["needs"] == 0
            await kengele(network, aigul, "publish", str(file))

    asyncio.run(run())
