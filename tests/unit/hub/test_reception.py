"""The reception: each member is given what is for it, and nobody publishes who may not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from kengele_hub.credentials import MAX_PAYLOAD
from kengele_hub.versions import MAX_UNPACKED
from kengele_schemas.encoding import b64u, dumps
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.packing import pack
from kengele_testing.hub import Hub, running_hub

pytestmark = pytest.mark.full
ROOT = "metadata/1.root.json"
TIMESTAMP = "metadata/timestamp.json"
Files = Mapping[str, bytes]


def run(tmp_path: Path, claim: Callable[[Hub], Awaitable[None]], **options: Any) -> None:
    """Holds ``claim`` against a hub, founded unless it is said otherwise."""

    async def against_a_hub() -> None:
        async with running_hub(tmp_path, **options) as hub, asyncio.timeout(60):
            await claim(hub)

    asyncio.run(against_a_hub())


def encoded(files: Files) -> bytes:
    """``files`` as a coordinator sends them."""
    return dumps({path: b64u(data) for path, data in files.items()})


def test_only_a_coordinators_connection_publishes(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        draft = encoded(hub.roster.next(hub.authority.files, hub.roster.with_rules()))
        hub.roster.nkeys["stranger"] = KeyPair.generate("user").public
        for name in ("osh", "unrcca", "stranger"):
            with pytest.raises(Refused) as caught:
                await hub.worker.reception.answer_publish(hub.roster.nkeys[name], draft)
            assert caught.value.code == "not-admitted"
        answer = await hub.worker.reception.answer_publish(hub.roster.nkeys["aigul"], draft)
        assert answer == {"code": "published", "version": 2}
        revoked = [{"nkey": hub.roster.nkeys["aigul"], "at": 1}]
        await hub.publish(hub.roster.changed("connections.json", revoked=revoked))
        draft = encoded(hub.roster.next(hub.authority.files, hub.roster.with_rules(version=3)))
        with pytest.raises(Refused):
            await hub.worker.reception.answer_publish(hub.roster.nkeys["aigul"], draft)

    run(tmp_path, claim)


def test_what_is_no_list_of_files_is_refused_as_malformed(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        aigul = hub.roster.nkeys["aigul"]
        for data in (b"", b"{", b"[]", b"null", b'{"a":1}', b'{"../a":""}', b'{"a":"!"}', b'{"a":"","a":""}'):
            with pytest.raises(Malformed):
                await hub.worker.reception.answer_publish(aigul, data)
        with pytest.raises(Malformed) as caught:
            await hub.worker.reception.answer_publish(aigul, b" " * (MAX_UNPACKED + 1))
        assert caught.value.code == "oversized"
        # A request of a few hundred kilobytes that would fill a hub's memory: packed files, packed once more.
        bomb = b64u(pack(bytes(MAX_UNPACKED)))
        packed = pack(dumps({f"targets/{number}.json": bomb for number in range(300)}))
        assert len(packed) < MAX_PAYLOAD
        with pytest.raises(Malformed) as caught:
            await hub.worker.reception.answer_publish(aigul, packed)
        assert caught.value.code == "oversized"

    run(tmp_path, claim)


def test_each_role_is_served_what_it_may_see_and_nobody_else_anything(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        elsewhere = {"monitors/SD-KH.json": {"v": 1, "area": "SD-KH", "monitors": []}}
        await hub.publish(elsewhere)
        hub.roster.nkeys["stranger"] = KeyPair.generate("user").public
        everyone = {"osh", "unrcca", "aigul"}
        kinds: list[tuple[Callable[[str], bool], set[str]]] = [
            (lambda path: path.endswith(".connections.json"), {"aigul"}),
            (
                lambda path: "monitors-KG." in path or ("monitors/" in path and path.endswith(".KG.json")),
                {"unrcca", "aigul"},
            ),
            (lambda path: "monitors-SD-KH." in path or path.endswith(".SD-KH.json"), {"aigul"}),
            (lambda path: True, everyone),
        ]
        counted = [0] * len(kinds)
        for path, data in hub.authority.files.items():
            kind = next(number for number, (holds, _) in enumerate(kinds) if holds(path))
            counted[kind] += 1
            request = dumps({"path": path})
            served = {
                name for name in (*everyone, "stranger") if hub.worker.reception.serve(hub.roster.nkeys[name], request)
            }
            assert served == kinds[kind][1], path
            assert hub.worker.reception.serve(hub.roster.nkeys["aigul"], request) == data
        assert counted[:3] == [1, 2, 2]
        revoked = [{"nkey": hub.roster.nkeys["unrcca"], "at": 1}]
        await hub.publish(hub.roster.changed("connections.json", revoked=revoked))
        assert hub.worker.reception.serve(hub.roster.nkeys["unrcca"], dumps({"path": ROOT})) == b""

    run(tmp_path, claim)


def test_a_request_that_names_no_file_of_the_networks_gets_nothing(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        aigul = hub.roster.nkeys["aigul"]
        for path in (
            "",
            "metadata/9.root.json",
            "../keys.json",
            "keys.json",
            "metadata/../metadata/1.root.json",
            "x" * 900,
        ):
            assert hub.worker.reception.serve(aigul, dumps({"path": path})) == b""
        for data in (b"", b"{", b"[]", b"7", b'"path"', b'{"path":7}', b'{"path":null}', b"{}", b" " * 2000):
            assert hub.worker.reception.serve(aigul, data) == b""
        assert hub.worker.reception.serve(aigul, dumps({"path": ROOT}))

    run(tmp_path, claim)


def test_asking_for_files_that_are_not_there_fills_nothing(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        reception, aigul = hub.worker.reception, hub.roster.nkeys["aigul"]
        for number in range(1000):
            assert reception.serve(aigul, dumps({"path": f"targets/{number}.{'x' * 900}"})) == b""
        assert reception._packed == {}
        # Nor do versions that come and go: only what is served now is held.
        for version in range(2, 5):
            for path in hub.authority.files:
                reception.serve(aigul, dumps({"path": path}))
            await hub.publish(hub.roster.with_rules(version=version))
        for path in hub.authority.files:
            assert reception.serve(aigul, dumps({"path": path}))
        assert set(reception._packed) <= set(hub.authority.files)

    run(tmp_path, claim)
