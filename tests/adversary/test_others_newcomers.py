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
from kengele_schemas import invitations, subjects
from kengele_schemas.cards import JoinRequest, coordinator_id
from kengele_schemas.encoding import b64u, dumps
from kengele_schemas.errors import Refused, Untrusted
from kengele_schemas.invitations import Answer, Commitment, Reveal, Terms
from kengele_schemas.keys import new_signing_key
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

    async def enter(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """As somebody who has no place yet."""
        nkey, network = KeyPair.generate("user").public, {"name": "Test", "root": ""}
        return await self.lobby.enter(nkey, dumps(document), network, self.counting, lambda *_: "", lambda _: False)

    async def open(self, who: SigningKey, area: str, token: str) -> Terms:
        """An invitation that stands open at the hub."""
        now = int(time.time())
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
        return terms

    async def invite(
        self, who: SigningKey, area: str = "KG", request: JoinRequest | None = None
    ) -> tuple[Terms, Commitment]:
        """An invitation, and the commitment of somebody who came with it, to ``request`` and 32 zeros."""
        token = invitations.new_token()
        terms = await self.open(who, area, token)
        commitment = Commitment.of(token, request or a_request(area), bytes(32))
        await self.enter({"do": "commit", "card": document(commitment)})
        if request is not None:
            await self.ask(who, {"do": "answer", "card": document(Answer.to(commitment, bytes(32), who))})
            await self.enter({"do": "reveal", "card": document(Reveal.of(token, request, bytes(32)))})
        return terms, commitment


def a_request(area: str = "KG") -> JoinRequest:
    return JoinRequest.for_monitor(new_signing_key(), KeyPair.generate("user"), (area,))


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

    run(tmp_path, claim)


def test_nobody_answers_in_the_place_of_an_inviter_who_is_no_coordinator_any_more(tmp_path: Path) -> None:
    """Whom she invited is told so, and can be invited anew by somebody who knows her."""

    async def claim(hub: Hub) -> None:
        desk = Desk(hub)
        inviter, other = desk.keys[:2]
        terms, commitment = await desk.invite(inviter)
        look = {"do": "look", "invitation": terms.id, "digest": commitment.digest}
        assert (await desk.enter(look))["code"] == "waiting"
        del desk.counting[of(inviter)]
        for request in (
            {"do": "answer", "card": document(Answer.to(commitment, bytes(32), other))},
            {"do": "decide", "invitation": terms.id, "decision": "approved"},
        ):
            with pytest.raises(Refused) as caught:
                await desk.ask(other, request)
            assert caught.value.code == "not-yours"
        assert (await desk.enter(look))["code"] == "denied"
        (listed,) = (await desk.ask(other, {"do": "list"}))["invitations"]
        assert listed["decision"]["decision"] == "denied"

    run(tmp_path, claim)


def test_a_coordinator_carries_no_newcomers_files_but_her_own_guests(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        desk, token = Desk(hub), invitations.new_token()
        terms, request = await desk.open(desk.keys[0], "KG", token), a_request()
        commitment, reveal = Commitment.of(token, request, bytes(32)), Reveal.of(token, request, bytes(32))
        commit, show = {"do": "commit", "card": document(commitment)}, {"do": "reveal", "card": document(reveal)}

        async def refused(asked: Mapping[str, Any]) -> None:
            with pytest.raises(Refused) as caught:
                await desk.ask(desk.keys[1], asked)
            assert caught.value.code == "not-yours"

        await refused(commit)
        await desk.ask(desk.keys[0], commit)
        await desk.ask(desk.keys[0], {"do": "answer", "card": document(Answer.to(commitment, bytes(32), desk.keys[0]))})
        await refused(show)
        await desk.ask(desk.keys[0], show)
        assert terms.id == commitment.invitation

    run(tmp_path, claim)


@pytest.mark.parametrize("what", ["nkey", "kid"])
def test_an_invited_stranger_cannot_show_the_hub_anothers_keys(tmp_path: Path, what: str) -> None:
    async def claim(hub: Hub) -> None:
        desk, own, victim = Desk(hub), a_request(), a_request()
        stolen = {"nkey": victim.nkey} if what == "nkey" else {"monitor": victim.monitor}
        with pytest.raises(Untrusted) as caught:
            await desk.invite(desk.keys[0], request=own.model_copy(update=stolen))
        assert caught.value.code == "bad-card"

    run(tmp_path, claim)


def test_a_coordinator_cannot_turn_a_newcomer_to_another_area_by_an_invitation_that_she_makes_up(
    tmp_path: Path,
) -> None:
    """Every coordinator sees a newcomer's request, and could show it again under terms of her own."""

    async def claim(hub: Hub) -> None:
        desk, request = Desk(hub), a_request("KG")
        await desk.invite(desk.keys[0], "KG", request)
        await desk.invite(desk.keys[1], "SD", request)
        found = await desk.lobby.invited(desk.counting, lambda _: False)
        assert found == {request.nkey: ("KG",), request.member: ("KG",)}

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


@pytest.mark.parametrize(("name", "most"), [("MAX_KEPT", 3), ("MAX_BYTES", 2000)])
def test_one_coordinator_cannot_push_others_invitations_out_with_her_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    monkeypatch.setattr(hub_lobby, name, most)

    async def claim(hub: Hub) -> None:
        desk = Desk(hub)
        theirs = await desk.open(desk.keys[1], "KG", invitations.new_token())
        waits = await desk.open(desk.keys[0], "KG", invitations.new_token())
        first: Commitment | None = None
        for _ in range(9):
            mine, commitment = await desk.invite(desk.keys[0])
            first = first or commitment
            await desk.ask(desk.keys[0], {"do": "decide", "invitation": mine.id, "decision": "denied"})
        listed = (await desk.ask(desk.keys[1], {"do": "list"}))["invitations"]
        names = [invitations.read_signed(one["terms"], Terms).id for one in listed]
        # What is over goes first, the oldest of it; what is open stays, whosesoever it is.
        assert {theirs.id, waits.id, mine.id} <= {*names}
        assert len(names) <= 5
        # One that was forgotten lets nobody in.
        assert len(await hub.stored(subjects.LOBBY)) <= 2 + 3 * 3
        assert first is not None
        with pytest.raises(Refused) as caught:
            await desk.enter({"do": "commit", "card": document(first)})
        assert caught.value.code == "no-such-invitation"

    run(tmp_path, claim)


def test_who_has_not_the_token_cannot_use_an_invitation_up(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        desk = Desk(hub)
        _, commitment = await desk.invite(desk.keys[0])
        forged = Commitment.sign({**document(commitment), "digest": b64u(bytes([1] * 32))}, new_signing_key())
        for card in (forged, commitment.model_copy(update={"signature": forged.signature})):
            with pytest.raises(Exception, match="signature does not hold") as caught:
                await desk.enter({"do": "commit", "card": document(card)})
            assert getattr(caught.value, "code", "") == "bad-card"

    run(tmp_path, claim)


def test_a_region_cannot_list_or_keep_out_who_was_invited_for_another(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        desk, roster = Desk(hub), hub.roster
        request = a_request("KG")
        await desk.invite(desk.keys[0], "KG", request)

        async def publish(area: str, *monitors: Any, **lists: Any) -> None:
            documents = {
                f"monitors/{area}.json": {"v": 1, "area": area, "monitors": [*monitors]},
                f"connections/{area}.json": {"v": 1, "area": area, "connections": [], **lists},
            }
            changed = {path: value for path, value in documents.items() if not path.endswith("monitors/KG.json")}
            files = {path: b64u(data) for path, data in roster.next(hub.authority.files, changed).items()}
            await hub.worker.reception.answer_publish(roster.nkeys["aigul"], dumps(files))

        assert request.monitor is not None
        monitor = roster.documents()["monitors/KG.json"]["monitors"][0]
        hers = {**monitor, **request.monitor.model_dump(mode="json"), "areas": ["SD"]}
        with pytest.raises(Refused) as caught:
            await publish("SD", hers)
        assert caught.value.code == "another-invitation"
        row = {"nkey": request.nkey, "role": "monitor", "member": request.member, "asked": request.nkey_signature}
        for lists in ({"connections": [row]}, {"revoked": [{"nkey": request.nkey, "at": 1}]}):
            with pytest.raises(Refused) as caught:
                await publish("SD", hers, **lists)
            assert caught.value.code == "not-theirs"
        for nkey in (request.nkey, KeyPair.generate("user").public):
            with pytest.raises(Refused) as caught:
                await publish("KG", revoked=[{"nkey": nkey, "at": 1}])
            assert caught.value.code == "not-theirs"

    run(tmp_path, claim)
