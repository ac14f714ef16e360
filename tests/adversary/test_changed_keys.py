"""Keys that follow others: nobody puts in another key than the member's own, and nobody does it twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kengele_node.coordinator import letters, rotating
from kengele_node.coordinator.documents import describe
from kengele_node.coordinator.drafting import network_of
from kengele_node.demo.network import Network
from kengele_node.member import now
from kengele_schemas import metadata
from kengele_schemas.errors import KengeleError, Refused, Untrusted
from kengele_schemas.fields import read
from kengele_schemas.keys import OpeningKey, new_signing_key
from kengele_schemas.roster import Office
from kengele_schemas.rotation import OfficeKeys, coming, followed
from kengele_testing.network import small_network

pytestmark = pytest.mark.full


def staged(tmp_path: Path, play: Any) -> None:
    async def main() -> None:
        async with small_network(tmp_path, ("osh", "batken")) as network:
            await play(network)

    asyncio.run(main())


async def in_force(network: Network) -> tuple[dict[str, Any], str]:
    files = await network.files("aigul")
    return {path: metadata.document_of(files, path) for path in metadata.document_paths(files)}, network_of(files)


def statement(documents: dict[str, Any], network: str, key: Any, id: str = "unrcca") -> OfficeKeys:
    office = next(read(Office, row) for row in documents["offices.json"]["offices"] if row["id"] == id)
    today = now().date()
    fresh = [(day, OpeningKey.generate().public) for day in coming(office.keys, today, 1)]
    return OfficeKeys.of(office, followed(office.keys, fresh, today), network, key)


class LyingSession:
    """A session with a hub that gives letters of its own making."""

    def __init__(self, network: Network, card: OfficeKeys) -> None:
        self.member = network.coordinators["aigul"]
        self._card = card

    async def ask(self, _: str, document: dict[str, Any]) -> dict[str, Any]:
        if document["do"] == "list":
            return {"code": "listed", "letters": [{"role": "office", "member": self._card.office, "at": "now"}]}
        return {"code": "found", "card": self._card.model_dump(mode="json", exclude_none=True)}


def test_the_hub_cannot_put_in_its_own_key_for_an_office(tmp_path: Path) -> None:
    async def play(network: Network) -> None:
        documents, root = await in_force(network)
        forged = statement(documents, root, new_signing_key())
        files = await network.files("aigul")
        (letter,) = await letters.read(LyingSession(network, forged), files)  # type: ignore[arg-type]
        assert (letter.card, letter.code) == (None, "bad-card")
        # Nor another office's word, nor what this one has said in another network.
        unrcca = network.offices["unrcca"]
        for said in (statement(documents, root, unrcca.key, "un-hq"), statement(documents, "A" * 43, unrcca.key)):
            (letter,) = await letters.read(LyingSession(network, said), files)  # type: ignore[arg-type]
            assert letter.card is None

    staged(tmp_path, play)


def test_one_coordinator_alone_cannot_replace_an_offices_key_and_the_second_is_told(tmp_path: Path) -> None:
    async def play(network: Network) -> None:
        documents, root = await in_force(network)
        said = statement(documents, root, new_signing_key())

        def change(before: dict[str, Any]) -> dict[str, Any]:
            offices = before["offices.json"]
            keys = [key.model_dump(mode="json", exclude_none=True) for key in said.keys]
            rows = [
                row | ({"keys": keys, "vouched": said.signature} if row["id"] == "unrcca" else {})
                for row in offices["offices"]
            ]
            return {"offices.json": {**offices, "offices": rows}}

        with pytest.raises(Refused) as caught:
            await network.publish(change, ("aigul",))
        assert caught.value.code == "too-few-signatures"
        shown = "\n".join(describe(documents, change(documents), root))
        assert "unrcca: ITS KEYS CHANGE, AND IT HAS NOT SIGNED THAT" in shown

    staged(tmp_path, play)


def test_a_replayed_statement_does_nothing(tmp_path: Path) -> None:
    async def play(network: Network) -> None:
        documents, root = await in_force(network)
        first = statement(documents, root, network.offices["unrcca"].key)
        await network.publish(lambda before: rotating.take_keys(before, first, root), ("aigul", "moussa"))
        documents, _ = await in_force(network)
        second = statement(documents, root, network.offices["unrcca"].key)
        after = {**documents, **rotating.take_keys(documents, second, root)}
        for held in (documents, after):
            with pytest.raises(Refused) as caught:
                rotating.take_keys(held, first, root)
            assert caught.value.code == "overtaken"
        unrcca = network.offices["unrcca"]
        async with unrcca.session() as session:
            put = {"do": "put", "card": first.model_dump(mode="json", exclude_none=True)}
            with pytest.raises(KengeleError, match="not those"):
                await session.ask(f"letters.{unrcca.nkey.public}.ask", put)

    staged(tmp_path, play)


def test_another_member_cannot_change_an_offices_keys(tmp_path: Path) -> None:
    async def play(network: Network) -> None:
        documents, root = await in_force(network)
        other = network.offices["un-hq"]
        said = statement(documents, root, other.key)
        with pytest.raises(Untrusted):
            rotating.take_keys(documents, said, root)
        async with other.session() as session:
            put = {"do": "put", "card": said.model_dump(mode="json", exclude_none=True)}
            with pytest.raises(Refused):
                await session.ask(f"letters.{other.nkey.public}.ask", put)
            theirs = f"letters.{network.offices['unrcca'].nkey.public}.ask"
            with pytest.raises(KengeleError):
                await session.link.request(theirs, b"{}", timeout=1)

    staged(tmp_path, play)
