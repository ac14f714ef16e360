"""What one coordinator, or one region, cannot do to those whom others have invited. The hub is real."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from kengele_hub import lobby as hub_lobby
from kengele_hub.lobby import Lobby
from kengele_schemas import invitations
from kengele_schemas.cards import coordinator_id
from kengele_schemas.encoding import b64u, dumps
from kengele_schemas.errors import Refused
from kengele_schemas.invitations import Answer, Commitment, Terms
from kengele_schemas.keys import monitor_id, new_signing_key
from kengele_schemas.nkeys import KeyPair
from kengele_testing.hub import Hub, running_hub

pytestmark = pytest.mark.full


def run(tmp_path: Path, claim: Callable[[Hub], Awaitable[None]]) -> None:
    async def against_a_hub() -> None:
        async with running_hub(tmp_path) as hub, asyncio.timeout(120):
            await claim(hub)

    asyncio.run(against_a_hub())


def of(key: SigningKey) -> str:
    return coordinator_id(bytes(key.verify_key))


class Desk:
    """Two coordinators at one hub's lobby, and whom they invite."""

    def __init__(self, hub: Hub) -> None:
        self.lobby = Lobby(hub.nc)
        self.keys = hub.roster.coordinators
        self.counting = {of(key): bytes(key.verify_key) for key in self.keys}

    async def ask(self, who: SigningKey, document: Mapping[str, Any]) -> dict[str, Any]:
        return await self.lobby.answer(of(who), dumps(document), self.counting, lambda _: False)

    async def invite(self, who: SigningKey, area: str = "KG") -> tuple[Terms, Commitment]:
        """An invitation, and the commitment of somebody who came with it."""
        token, now = invitations.new_token(), int(time.time())
        said = {
            "key": b64u(bytes(invitations.key_of(token).verify_key)),
            "role": "monitor",
            "areas": [area],
            "inviter": of(who),
            "root_digest": b64u(bytes(32)),
            "at": now,
            "expires": now + 3600,
        }
        terms = Terms.sign(said, who)
        await self.ask(who, {"do": "invite", "card": document(terms)})
        nkey = KeyPair.generate("user").public
        came = {"invitation": terms.id, "digest": b64u(bytes(32)), "nkey": nkey}
        commitment = Commitment.sign(came, invitations.key_of(token))
        await self.ask(who, {"do": "commit", "card": document(commitment)})
        return terms, commitment


def document(card: Any) -> dict[str, Any]:
    found: dict[str, Any] = card.model_dump(mode="json", exclude_none=True)
    return found


def test_one_coordinator_cannot_answer_nor_deny_whom_another_has_invited(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        desk = Desk(hub)
        inviter, other = desk.keys[:2]
        terms, commitment = await desk.invite(inviter)
        answer = document(Answer.to(commitment, bytes(32), other))
        denial = {"do": "decide", "invitation": terms.id, "decision": "denied"}
        for request in ({"do": "answer", "card": answer}, denial, {**denial, "decision": "approved"}):
            with pytest.raises(Refused) as caught:
                await desk.ask(other, request)
            assert caught.value.code == "not-yours"
        await desk.ask(inviter, {"do": "answer", "card": document(Answer.to(commitment, bytes(32), inviter))})
        # Whose inviter counts no more is nobody's, and must not stand in the lobby for ever.
        del desk.counting[of(inviter)]
        await desk.ask(other, denial)

    run(tmp_path, claim)


def test_one_coordinator_cannot_fill_the_lobby_for_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_lobby, "MAX_OPEN", 2)

    async def claim(hub: Hub) -> None:
        desk = Desk(hub)
        for _ in range(2):
            await desk.invite(desk.keys[0])
        with pytest.raises(Refused) as caught:
            await desk.invite(desk.keys[0])
        assert caught.value.code == "lobby-full"
        await desk.invite(desk.keys[1])

    run(tmp_path, claim)


def test_who_has_not_the_token_cannot_use_an_invitation_up(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        desk = Desk(hub)
        _, commitment = await desk.invite(desk.keys[0])
        forged = Commitment.sign({**document(commitment), "digest": b64u(bytes([1] * 32))}, new_signing_key())
        network, nkey = {"name": "Test", "root": ""}, KeyPair.generate("user").public
        for card in (forged, commitment.model_copy(update={"signature": forged.signature})):
            request = dumps({"do": "commit", "card": document(card)})
            with pytest.raises(Exception, match="signature does not hold") as caught:
                await desk.lobby.enter(nkey, request, network, lambda *_: "", lambda _: False)
            assert getattr(caught.value, "code", "") == "bad-card"

    run(tmp_path, claim)


def test_a_region_cannot_list_or_keep_out_who_was_invited_for_another(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        desk, roster = Desk(hub), hub.roster
        _, commitment = await desk.invite(desk.keys[0], "KG")

        async def publish(area: str, *monitors: Any, **lists: Any) -> None:
            documents = {
                f"monitors/{area}.json": {"v": 1, "area": area, "monitors": [*monitors]},
                f"connections/{area}.json": {"v": 1, "area": area, "connections": [], **lists},
            }
            changed = {path: value for path, value in documents.items() if not path.endswith("monitors/KG.json")}
            files = {path: b64u(data) for path, data in roster.next(hub.authority.files, changed).items()}
            await hub.worker.reception.answer_publish(roster.nkeys["aigul"], dumps(files))

        key = bytes(new_signing_key().verify_key)
        monitor = roster.documents()["monitors/KG.json"]["monitors"][0]
        monitor |= {"kid": monitor_id(key), "key": b64u(key), "areas": ["SD"]}
        row = {"nkey": commitment.nkey, "role": "monitor", "member": monitor["kid"]}
        with pytest.raises(Refused) as caught:
            await publish("SD", monitor, connections=[row])
        assert caught.value.code == "another-invitation"
        with pytest.raises(Refused) as caught:
            await publish("SD", revoked=[{"nkey": commitment.nkey, "at": 1}])
        assert caught.value.code == "not-theirs"
        for nkey in (commitment.nkey, KeyPair.generate("user").public):
            with pytest.raises(Refused) as caught:
                await publish("KG", revoked=[{"nkey": nkey, "at": 1}])
            assert caught.value.code == "not-theirs"

    run(tmp_path, claim)
