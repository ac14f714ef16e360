"""The board's room: what one coordinator puts there costs nobody else the hub. Against a real broker."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kengele_hub import board
from kengele_schemas import drafts, signatures
from kengele_schemas.drafts import Draft
from kengele_schemas.encoding import dumps
from kengele_schemas.errors import Refused
from kengele_testing.hub import Hub, running_hub

pytestmark = pytest.mark.full


def proposal(hub: Hub, without: str) -> Draft:
    changed = hub.roster.with_rules(without=without)
    draft = drafts.edit(hub.authority.files, changed, datetime.now(UTC))
    return signatures.sign(draft, hub.roster.coordinators[0])


async def put(hub: Hub, draft: Draft) -> str:
    request = dumps({"do": "put", "draft": draft.encode().decode()})
    answer = await hub.worker.reception.answer_board(hub.roster.nkeys["aigul"], request)
    return str(answer["name"])


def test_what_one_coordinator_puts_there_does_not_fill_the_hubs_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def against_a_hub() -> None:
        async with running_hub(tmp_path) as hub, asyncio.timeout(60):
            one, other = proposal(hub, "to-council"), proposal(hub, "to-unrcca")
            monkeypatch.setattr(board, "MAX_HELD", len(one.encode()) + len(other.encode()) - 1)
            name = await put(hub, one)
            assert await put(hub, one) == name
            with pytest.raises(Refused) as caught:
                await put(hub, other)
            assert caught.value.code == "board-full"
            await hub.worker.reception.answer_board(hub.roster.nkeys["aigul"], dumps({"do": "drop", "name": name}))
            await put(hub, other)

    asyncio.run(against_a_hub())


def test_a_list_costs_the_loop_no_reading_and_each_proposal_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def against_a_hub() -> None:
        async with running_hub(tmp_path) as hub, asyncio.timeout(60):
            read: list[int] = []
            decode = board._draft

            def counted(text: object) -> Draft:
                read.append(threading.get_ident())
                return decode(text)

            names = {await put(hub, proposal(hub, without)) for without in ("to-council", "to-unrcca")}
            monkeypatch.setattr(board, "_draft", counted)
            hub.worker.reception.board = board.Board(hub.nc)

            async def listed(_: int) -> set[str]:
                request = dumps({"do": "list"})
                answer = await hub.worker.reception.answer_board(hub.roster.nkeys["aigul"], request)
                return {item["name"] for item in answer["proposals"]}

            assert await asyncio.gather(*map(listed, range(20))) == [names] * 20
            assert len(read) == 2
            gone, stays = sorted(names)
            await hub.worker.reception.answer_board(hub.roster.nkeys["aigul"], dumps({"do": "drop", "name": gone}))
            assert await listed(0) == {stays}
            assert len(hub.worker.reception.board._read) == 1
            await put(hub, proposal(hub, "to-council"))
            assert await listed(0) >= {stays}
            assert threading.get_ident() not in read

    asyncio.run(against_a_hub())
