"""Keys that follow others: nobody puts in another key than the member's own, and nobody does it twice."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from kengele_node.coordinator import letters, rotating, standing
from kengele_node.coordinator.describing import describe
from kengele_node.coordinator.drafting import network_of
from kengele_node.demo.network import Network
from kengele_node.member import now
from kengele_schemas import metadata
from kengele_schemas.errors import KengeleError, Refused, Untrusted
from kengele_schemas.fields import read
from kengele_schemas.keys import OpeningKey, new_signing_key
from kengele_schemas.roster import Office
from kengele_schemas.rotation import Epoch, Lineage, OfficeKeys, coming, followed
from kengele_schemas.trusted import assemble
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

    def __init__(self, network: Network, card: letters.Statement) -> None:
        self.member = network.coordinators["aigul"]
        self._card = card

    async def ask(self, _: str, document: dict[str, Any]) -> dict[str, Any]:
        if document["do"] == "list":
            role, member = letters.whose(self._card)
            return {"code": "listed", "letters": [{"role": role, "member": member, "at": "now"}]}
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


def with_epoch(said: Epoch, root: str) -> Any:
    return lambda before: rotating.take_epoch(before, said, root, now().date())


def test_the_hub_cannot_give_a_monitor_another_key(tmp_path: Path) -> None:
    async def play(network: Network) -> None:
        _, root = await in_force(network)
        osh, batken = network.monitors["osh"], network.monitors["batken"]
        files = await network.files("aigul")
        forged = Epoch.of(osh.key, new_signing_key(), root).model_copy(update={"after": batken.kid})
        for said in (forged, Epoch.of(osh.key, new_signing_key(), "A" * 43)):
            (letter,) = await letters.read(LyingSession(network, said), files)  # type: ignore[arg-type]
            assert letter.card is None

    staged(tmp_path, play)


def test_another_member_cannot_rotate_mine(tmp_path: Path) -> None:
    async def play(network: Network) -> None:
        documents, root = await in_force(network)
        osh, batken = network.monitors["osh"], network.monitors["batken"]
        mine = new_signing_key()
        stolen = Epoch.of(batken.key, mine, root).model_copy(update={"after": osh.kid})
        with pytest.raises(Untrusted):
            rotating.take_epoch(documents, stolen, root, now().date())
        async with batken.session() as session:
            for card in (stolen, Epoch.of(osh.key, mine, root)):
                put = {"do": "put", "card": card.model_dump(mode="json", exclude_none=True)}
                with pytest.raises(KengeleError):
                    await session.ask(f"letters.{batken.nkey.public}.ask", put)

    staged(tmp_path, play)


def test_a_stolen_old_key_cannot_rotate_a_revoked_monitor_back_in(tmp_path: Path) -> None:
    async def play(network: Network) -> None:
        _, root = await in_force(network)
        osh, following = network.monitors["osh"], new_signing_key()
        both = ("aigul", "moussa")
        await network.publish(with_epoch(Epoch.of(osh.key, following, root), root), both)
        await network.publish(lambda before: standing.remove(before, osh.kid, 7), both)
        documents, _ = await in_force(network)
        for stolen in (osh.key, following):
            with pytest.raises(Refused):
                rotating.take_epoch(documents, Epoch.of(stolen, new_signing_key(), root), root, now().date())
        # Nor do two careless coordinators: every member refuses such a list.
        path, listed = next((path, value) for path, value in documents.items() if path.startswith("monitors/"))
        said = Epoch.of(following, new_signing_key(), root)
        row = {**listed["monitors"][-1], "kid": said.kid, "key": said.key, "after": said.after}
        back = {**row, "handover": said.signature, "status": "active"}
        with pytest.raises(KengeleError) as caught:
            await network.publish(lambda _: {path: {**listed, "monitors": [*listed["monitors"], back]}}, both)
        assert caught.value.code == "bad-monitor"

    staged(tmp_path, play)


def test_coordinators_cannot_pass_off_a_replaced_key_as_a_rotated_one(tmp_path: Path) -> None:
    async def play(network: Network) -> None:
        _, root = await in_force(network)
        osh, batken, mine = network.monitors["osh"], network.monitors["batken"], new_signing_key()
        real = Epoch.of(osh.key, mine, root)
        # All that they have signed by her: a word in another network, and what another monitor's key says.
        for made in (Epoch.of(osh.key, mine, "A" * 43), Epoch.of(batken.key, mine, root)):

            def change(before: dict[str, Any], made: Epoch = made) -> dict[str, Any]:
                after = rotating.take_epoch(before, real, root, now().date())
                path = next(path for path in after if path.startswith("monitors/"))
                rows = [
                    row | ({"handover": made.signature} if row["kid"] == real.kid else {})
                    for row in after[path]["monitors"]
                ]
                return {**after, path: {**after[path], "monitors": rows}}

            documents, _ = await in_force(network)
            assert "WHICH HAS NOT SIGNED THAT" in "\n".join(describe(documents, change(documents), root))
            made_of = {path: json.dumps(value).encode() for path, value in {**documents, **change(documents)}.items()}
            trusted = assemble(made_of, version=1, fresh=True, expires=now())
            lineage = Lineage(trusted.monitors, root)
            assert lineage.first(real.kid) == real.kid
            assert lineage.vouched_by_coordinators(real.kid, now().date())

    staged(tmp_path, play)
