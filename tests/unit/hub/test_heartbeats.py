"""Heartbeats at the hub: the newest of each author and office, given to that office while the author is a monitor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kengele_hub import consumers, heartbeats, pauses, reception
from kengele_hub.jetstream import Stored
from kengele_schemas import subjects
from kengele_schemas.encoding import b64u, dumps
from kengele_schemas.errors import KengeleError
from kengele_schemas.heartbeat import sign_heartbeat
from kengele_testing.hub import Hub, running_hub

pytestmark = pytest.mark.full


def beat(hub: Hub, number: int = 1, *, author: str = "osh", office: str = "unrcca", **changes: Any) -> bytes:
    said = {"network": hub.roster.identity, "at": int(time.time()), "key": hub.roster.authors[author], **changes}
    return sign_heartbeat(office, hub.roster.opening[office].public, number, **said)


async def ask(hub: Hub, member: str, document: Any) -> dict[str, Any]:
    return await hub.worker.reception.answer_letters(hub.roster.nkeys[member], dumps(document))


async def put(hub: Hub, *beats: bytes, by: str = "osh") -> dict[str, Any]:
    return await ask(hub, by, {"do": "beat", "beats": [b64u(one) for one in beats]})


async def heard(hub: Hub, office: str) -> list[bytes]:
    return [one.encode() for one in (await ask(hub, office, {"do": "heard"}))["beats"]]


def played(tmp_path: Path, play: Any) -> None:
    async def main() -> None:
        async with running_hub(tmp_path) as hub:
            await play(hub)

    asyncio.run(main())


def test_an_office_is_given_the_newest_of_each_author_and_none_that_is_for_another(tmp_path: Path) -> None:
    async def play(hub: Hub) -> None:
        first, second, other = beat(hub, 1), beat(hub, 2), beat(hub, 7, author="batken")
        assert await put(hub, first, beat(hub, office="council")) == {"code": "kept"}
        await put(hub, second)
        await put(hub, other, by="batken")
        assert sorted(await heard(hub, "unrcca")) == sorted([second, other])
        assert len(await heard(hub, "council")) == 1
        assert len(await hub.stored(subjects.LETTERS)) == 3
        assert (await ask(hub, "aigul", {"do": "list"}))["letters"] == []

    played(tmp_path, play)


def test_a_monitor_that_has_sent_nothing_asks_like_the_others(tmp_path: Path) -> None:
    async def play(hub: Hub) -> None:
        assert await put(hub) == {"code": "kept"}
        assert await heard(hub, "unrcca") == []

    played(tmp_path, play)


def test_pages_follow_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(hub: Hub) -> None:
        monkeypatch.setattr(heartbeats, "MAX_HEARD", 1)
        await put(hub, beat(hub))
        await put(hub, beat(hub, author="batken"), by="batken")
        first = await ask(hub, "unrcca", {"do": "heard"})
        second = await ask(hub, "unrcca", {"do": "heard", "skip": first["next"]})
        assert (len(first["beats"]), len(second["beats"]), second["next"]) == (1, 1, None)
        assert first["beats"] != second["beats"]

    played(tmp_path, play)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Stored]:
    """All that is read of any stream from now on."""
    read: list[Stored] = []
    whole = consumers.read_all

    async def reading(*args: Any, **options: Any) -> AsyncIterator[Stored]:
        async for one in whole(*args, **options):
            read.append(one)
            yield one

    monkeypatch.setattr(consumers, "read_all", reading)
    return read


def test_a_page_of_heartbeats_costs_no_more_reading_than_what_is_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play(hub: Hub) -> None:
        monkeypatch.setattr(heartbeats, "MAX_HEARD", 1)
        await put(hub, beat(hub), beat(hub, office="council"))
        await put(hub, beat(hub, author="batken"), by="batken")
        read = counted(monkeypatch)
        for skip in (0, 1):
            await ask(hub, "unrcca", {"do": "heard", "skip": skip})
            assert len(read) == skip + 1
        assert (await ask(hub, "unrcca", {"do": "heard", "skip": 2}))["beats"] == []
        assert len(read) == 2
        # Nor do those who look for letters have heartbeats read.
        assert (await ask(hub, "aigul", {"do": "list"}))["letters"] == []
        assert len(read) == 2

    played(tmp_path, play)


def test_one_member_cannot_have_the_hub_check_heartbeats_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play(hub: Hub) -> None:
        monkeypatch.setattr(reception, "MAX_LEFT", 6)
        monkeypatch.setattr(pauses, "WINDOW", 600)
        for _ in range(2):
            await put(hub, beat(hub), beat(hub, office="council"))
        for _ in range(3):
            with pytest.raises(KengeleError) as caught:
                await put(hub, beat(hub))
            assert caught.value.code == "too-often"
        assert await put(hub, beat(hub, author="batken"), by="batken") == {"code": "kept"}
        assert len(await heard(hub, "unrcca")) == 2

    played(tmp_path, play)


def test_a_revoked_monitors_are_not_delivered(tmp_path: Path) -> None:
    async def play(hub: Hub) -> None:
        await put(hub, beat(hub))
        await hub.authority.publish(
            hub.roster.next(dict(hub.authority.files), hub.roster.with_monitor("osh", status="revoked"))
        )
        assert await heard(hub, "unrcca") == []
        with pytest.raises(KengeleError) as caught:
            await put(hub, beat(hub))
        assert caught.value.code == "not-admitted"

    played(tmp_path, play)


def test_another_monitor_cannot_speak_for_her_and_nobody_else_at_all(tmp_path: Path) -> None:
    async def play(hub: Hub) -> None:
        good = beat(hub)
        wrong = [
            ("batken", [good], "malformed"),
            ("osh", [beat(hub, network="B" * 42 + "A")], "other-network"),
            ("osh", [beat(hub).replace(b'"at":', b'"at":1')], "bad-signature"),
            ("osh", [b"{}"], "bad-field"),
            ("osh", [good] * (heartbeats.MAX_BEATS + 1), "malformed"),
            ("unrcca", [good], "malformed"),
        ]
        for by, beats, code in wrong:
            with pytest.raises(KengeleError) as caught:
                await put(hub, *beats, by=by)
            assert caught.value.code == code, by
        for member, document in (
            ("osh", {"do": "heard"}),
            ("aigul", {"do": "heard"}),
            ("unrcca", {"do": "heard", "skip": -1}),
            ("unrcca", {"do": "heard", "skip": True}),
            ("aigul", {"do": "get", "role": "beat-unrcca", "member": hub.roster.kid("osh")}),
        ):
            with pytest.raises(KengeleError):
                await ask(hub, member, document)
        assert await heard(hub, "unrcca") == []

    played(tmp_path, play)
