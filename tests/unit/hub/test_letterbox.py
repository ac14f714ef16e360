"""The letterbox: one letter a member, only what that member signed, and only coordinators read it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from kengele_hub import consumers
from kengele_hub.jetstream import Stored
from kengele_node.coordinator import rotating
from kengele_schemas import subjects
from kengele_schemas.encoding import b64u, dumps
from kengele_schemas.errors import KengeleError
from kengele_schemas.fields import read
from kengele_schemas.keys import X25519, OpeningKey
from kengele_schemas.roster import Office
from kengele_schemas.rotation import Epoch, OfficeKeys, coming, followed
from kengele_testing.hub import Hub, running_hub

pytestmark = pytest.mark.full


def network(hub: Hub) -> str:
    return b64u(hashlib.sha256(hub.authority.files["metadata/1.root.json"]).digest())


def letter(hub: Hub, id: str = "unrcca", *, key: SigningKey | None = None, weeks: int = 1) -> dict[str, Any]:
    rows = hub.roster.documents()["offices.json"]["offices"]
    office = read(Office, next(row for row in rows if row["id"] == id))
    today = datetime.now(UTC).date()
    fresh = [(day, OpeningKey.generate(X25519).public) for day in coming(office.keys, today, weeks)]
    said = OfficeKeys.of(office, followed(office.keys, fresh, today), network(hub), key or hub.roster.monitor)
    return {"do": "put", "card": said.model_dump(mode="json", exclude_none=True)}


async def ask(hub: Hub, member: str, document: Any) -> dict[str, Any]:
    request = document if isinstance(document, bytes) else dumps(document)
    return await hub.worker.reception.answer_letters(hub.roster.nkeys[member], request)


async def refused(hub: Hub, member: str, document: Any, code: str) -> None:
    with pytest.raises(KengeleError) as caught:
        await ask(hub, member, document)
    assert caught.value.code == code


def played(tmp_path: Path, play: Any) -> None:
    async def main() -> None:
        async with running_hub(tmp_path) as hub:
            await play(hub)

    asyncio.run(main())


def test_an_offices_latest_letter_waits_for_the_coordinators(tmp_path: Path) -> None:
    async def play(hub: Hub) -> None:
        assert (await ask(hub, "aigul", {"do": "list"}))["letters"] == []
        for weeks in (1, 2):
            last = letter(hub, weeks=weeks)
            assert (await ask(hub, "unrcca", last))["code"] == "kept"
        await ask(hub, "council", letter(hub, "council"))
        listed = (await ask(hub, "aigul", {"do": "list"}))["letters"]
        assert [(row["role"], row["member"]) for row in listed] == [("office", "unrcca"), ("office", "council")]
        found = await ask(hub, "aigul", {"do": "get", "role": "office", "member": "unrcca"})
        assert found["card"] == last["card"]
        assert len([one async for one in consumers.read_all(hub.nc, subjects.LETTERS)]) == 2
        # Who is not in the roster any more has left nothing.
        gone = [row for row in hub.roster.documents()["connections.json"]["connections"] if row["member"] != "council"]
        await hub.publish(hub.roster.changed("connections.json", connections=gone))
        assert [row["member"] for row in (await ask(hub, "aigul", {"do": "list"}))["letters"]] == ["unrcca"]

    played(tmp_path, play)


def test_a_list_of_letters_costs_no_reading_of_what_stands_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play(hub: Hub) -> None:
        await ask(hub, "unrcca", letter(hub))
        whole, read = consumers.read_all, []

        async def reading(*args: Any, **options: Any) -> AsyncIterator[Stored]:
            async for one in whole(*args, **options):
                read.append(len(one.data))
                yield one

        monkeypatch.setattr(consumers, "read_all", reading)
        before = datetime.now(UTC) - timedelta(minutes=5)
        (row,) = (await ask(hub, "aigul", {"do": "list"}))["letters"]
        assert read == [0]
        assert before < datetime.fromisoformat(row["at"]) <= datetime.now(UTC)

    played(tmp_path, play)


def test_nothing_is_kept_but_what_the_member_itself_has_signed(tmp_path: Path) -> None:
    async def play(hub: Hub) -> None:
        own = letter(hub)
        for member, document, code in (
            ("unrcca", letter(hub, key=SigningKey.generate()), "bad-card"),
            ("council", own, "bad-card"),
            ("osh", own, "bad-card"),
            ("unrcca", {"do": "put"}, "bad-card"),
            ("unrcca", {"do": "put", "card": {"v": 1}}, "bad-card"),
            ("unrcca", {"do": "list"}, "malformed"),
            ("unrcca", {"do": "get", "role": "office", "member": "council"}, "malformed"),
            ("unrcca", b"[]", "malformed"),
            ("unrcca", b"\xff", "malformed"),
            ("unrcca", b" " * 70_000, "malformed"),
            ("aigul", own, "malformed"),
            ("aigul", {"do": "get", "role": "office", "member": "nobody"}, "no-such-letter"),
            ("aigul", {"do": "get", "role": "*", "member": ">"}, "malformed"),
            ("aigul", {"do": "get", "role": 1}, "malformed"),
        ):
            with pytest.raises(KengeleError) as caught:
                await ask(hub, member, document)
            assert caught.value.code in (code, "oversized"), document
        assert (await ask(hub, "aigul", {"do": "list"}))["letters"] == []
        with pytest.raises(KengeleError):
            await hub.worker.reception.answer_letters("UA" + "A" * 54, b"{}")

    played(tmp_path, play)


def test_a_monitors_next_key_waits_and_she_is_told_when_the_roster_has_it(tmp_path: Path) -> None:
    async def play(hub: Hub) -> None:
        old, new = hub.roster.authors["osh"], SigningKey.generate()
        said = Epoch.of(old, new, network(hub))
        put = {"do": "put", "card": said.model_dump(mode="json", exclude_none=True)}
        for _ in range(2):
            assert await ask(hub, "osh", put) == {"code": "kept"}
        (row,) = (await ask(hub, "aigul", {"do": "list"}))["letters"]
        assert (row["role"], row["member"]) == ("monitor", said.after)
        for other in (Epoch.of(new, old, network(hub)), Epoch.of(old, new, "A" * 43)):
            card = {"do": "put", "card": other.model_dump(mode="json", exclude_none=True)}
            await refused(hub, "osh", card, "bad-card")
        await refused(hub, "batken", put, "bad-card")
        made = hub.roster.documents()
        await hub.publish(rotating.take_epoch(made, said, network(hub), datetime.now(UTC).date()))
        assert await ask(hub, "osh", put) == {"code": "taken"}
        await refused(hub, "batken", put, "bad-card")
        assert (await ask(hub, "aigul", {"do": "list"}))["letters"] == []

    played(tmp_path, play)


def test_a_letter_that_was_taken_in_is_not_kept_again(tmp_path: Path) -> None:
    async def play(hub: Hub) -> None:
        said = letter(hub)
        rows = hub.roster.documents()["offices.json"]["offices"]
        card = said["card"]
        after = [
            row | ({"keys": card["keys"], "vouched": card["signature"]} if row["id"] == "unrcca" else {})
            for row in rows
        ]
        await hub.publish(hub.roster.changed("offices.json", offices=after))
        await refused(hub, "unrcca", said, "overtaken")

    played(tmp_path, play)
