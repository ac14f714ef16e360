"""Joining by invitation: real processes, a real hub, and those who would come in the newcomer's place."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kengele_node import joining
from kengele_node.coordinator import lobby
from kengele_node.demo.network import Network
from kengele_node.joining import Newcomer
from kengele_node.member import Member, now
from kengele_schemas import metadata, subjects
from kengele_schemas.cards import JoinRequest
from kengele_schemas.encoding import b64u, unb64u
from kengele_schemas.errors import KengeleError, Refused, Untrusted
from kengele_schemas.invitations import Answer, Commitment, Invitation, Reveal, Terms
from kengele_schemas.keys import new_signing_key
from kengele_schemas.nkeys import KeyPair
from kengele_testing import forked
from kengele_testing.network import small_network

pytestmark = [pytest.mark.full, pytest.mark.timeout(240)]


def run(network: Network, *words: str, home: str = "", fails: int = 0) -> str:
    """One command; ``home`` is a coordinator's."""
    where = ("--home", str(network.home / "coordinators" / home)) if home else ()
    key = ("--key-file", str(network.home / "key")) if home or "join" in words else ()
    environment = {**os.environ, "KENGELE_PASSPHRASE": "seven goats and a bell"}
    done = forked.run((*words, *where, *key), cwd=network.home, env=environment)
    assert done.returncode == fails, done.stdout + done.stderr
    return done.stdout if not fails else done.stderr


@contextmanager
def joins(network: Network, *words: str) -> Iterator[subprocess.Popen[str]]:
    """``kengele … join`` in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kengele_node.cli", *words, "--json"],
        cwd=network.home,
        env={**os.environ, "KENGELE_PASSPHRASE": "seven goats and a bell"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the newcomer ended"
    return dict(json.loads(line))


def published(network: Network, draft: Path) -> None:
    run(network, "coordinator", "members", "list", home="moussa")
    run(network, "coordinator", "sign", str(draft), home="moussa")
    run(network, "coordinator", "publish", str(draft), home="moussa")


def test_a_monitor_is_invited_reads_out_digits_and_is_in(tmp_path: Path) -> None:
    async def main() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            await asyncio.to_thread(whole_way, network)

    asyncio.run(main())


def whole_way(network: Network) -> None:
    members, draft = ("coordinator", "members"), network.home / "draft.json"
    made = json.loads(run(network, *members, "invite", "--role", "monitor", "--area", "KG-B", "--json", home="aigul"))
    node = ("node", "join", "--home", "newcomer")
    with joins(network, *node, made["link"]) as process:
        assert said(process)["state"] == "waiting"
        (row,) = json.loads(run(network, *members, "pending", "--json", home="aigul"))["pending"]
        assert (row["role"], row["areas"], row["member"]) == ("monitor", ["KG-B"], None)
        assert any(line.startswith("unrcca would read") for line in row["effect"])
        first = said(process)
    # Interrupted, and taken up again: the same digits.
    with joins(network, *node) as process:
        again = said(process)
        assert (again["state"], again["digits"]) == ("answered", first["digits"])
        name = made["invitation"]
        approve = (*members, "approve", name, "--draft", str(draft), "--digits")
        wrong = f"{(int(first['digits'].replace(' ', '')) + 1) % 10**8:08d}"
        assert "digits-differ" in run(network, *approve, wrong, home="aigul", fails=3)
        assert not draft.exists()
        assert json.loads(run(network, "coordinator", "board", "--json", home="aigul"))["proposals"] == []
        assert "not-yours" in run(network, *approve, first["digits"], home="moussa", fails=3)
        run(network, *approve, first["digits"].replace(" ", ""), home="aigul")
        assert said(process)["state"] == "approved"
        published(network, draft)
        last = said(process)
        assert last["state"] == "admitted"
        assert last["version"] > 2
        assert process.wait(60) == 0
    assert "already-in" in run_newcomer(network, *node, fails=3)
    sent = ("--category", "rumour", "--severity", "2", "--tlp", "GREEN", "--summary", "x", "--json")
    told = run_newcomer(network, "node", "report", "--home", "newcomer", "--area", "KG-B", *sent)
    assert json.loads(told)["state"] == "accepted"
    member = last["member"]
    run(network, *members, "revoke", member, "--draft", str(draft), home="aigul")
    published(network, draft)
    assert "revoked" in run(network, *members, "list", home="moussa")
    network.hub.stop()
    asyncio.run(network.hub.start())
    again = ("node", "report", "--home", "newcomer", "--area", "KG-B", *sent)
    assert "not-admitted" in run_newcomer(network, *again, fails=3)


def run_newcomer(network: Network, *words: str, fails: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "kengele_node.cli", *words],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        cwd=network.home,
        env={**os.environ, "KENGELE_PASSPHRASE": "seven goats and a bell"},
    )
    assert done.returncode == fails, done.stdout + done.stderr
    return done.stdout if not fails else done.stderr


def test_an_office_without_a_line_joins_by_three_files(tmp_path: Path) -> None:
    async def main() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            await asyncio.to_thread(by_files, network)

    asyncio.run(main())


def by_files(network: Network) -> None:
    members, draft = ("coordinator", "members"), network.home / "draft.json"
    office = ("--role", "office", "--office-id", "bishkek", "--name", "Бишкек", "--area", "KG")
    run(network, *members, "invite", *office, "--out", "invite.json", "--image", "card.svg", home="aigul")
    assert "<svg" in (network.home / "card.svg").read_text()
    assert (network.home / "invite.json").stat().st_mode & 0o077 == 0
    join = ("office", "join", "--home", "desk")
    assert "another-role" in run_newcomer(network, "node", "join", "invite.json", fails=3)
    run_newcomer(network, *join, "invite.json", "--offline")
    run(network, *members, "answer", "desk/commitment.json", home="aigul")
    told = json.loads(run_newcomer(network, *join, "--answer", "answer.json", "--json"))
    approve = (*members, "approve", "bishkek", "--draft", str(draft), "--reveal", "desk/reveal.json")
    run(network, *approve, "--digits", told["digits"], "--group", "bishkek=un", home="aigul")
    published(network, draft)
    rows = json.loads(run(network, *members, "list", "--json", home="aigul"))["members"]
    assert "bishkek" in {row["id"] for row in rows}


class Scene:
    """A coordinator at the hub, and an invitation that is open."""

    def __init__(self, network: Network, session: Any, invitation: Invitation) -> None:
        self.network, self.session, self.invitation = network, session, invitation

    def newcomer(self, name: str) -> Newcomer:
        areas = {"areas": list(self.invitation.terms.areas)}
        home, card = self.network.home / name, self.invitation.network
        return Newcomer.begin(Member.create(home, self.network.lock, "monitor", areas, card=card), self.invitation)

    async def ask(self, document: dict[str, Any]) -> dict[str, Any]:
        """What a newcomer asks, over a line of its own."""
        card = self.invitation.network
        async with joining._lobby(card.urls, card.join, card.ca, self.invitation.terms.id, 20) as (_, ask):
            return await ask(document)

    async def commit(self, newcomer: Newcomer) -> dict[str, Any]:
        return await self.ask({"do": "commit", "card": newcomer.commitment.model_dump(mode="json")})

    async def guest(self) -> lobby.Guest:
        await self.session.refresh()
        found = await lobby.guests(self.session, self.session.member.trust.files())
        return lobby.find(found, self.invitation.terms.id)


def staged(tmp_path: Path, play: Any, **terms: Any) -> None:
    async def main() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            aigul = network.coordinators["aigul"]
            async with aigul.session() as session:
                await session.refresh()
                at = int(now().timestamp())
                said = {"office": None, "at": at, "expires": at + 3600, **terms}
                invitation = await lobby.invite(session, "monitor", ["KG-O"], **said)
                await play(Scene(network, session, invitation))

    asyncio.run(main())


async def refused(work: Any, code: str) -> None:
    with pytest.raises(KengeleError) as caught:
        await work
    assert caught.value.code == code


def test_a_stolen_invitation_is_used_up_by_the_thief_and_the_digits_differ(tmp_path: Path) -> None:
    async def play(scene: Scene) -> None:
        thief, rightful = scene.newcomer("thief"), scene.newcomer("rightful")
        await scene.commit(thief)
        await refused(scene.commit(rightful), "invitation-used")
        # The thief's hub friend even shows the rightful one an answer: its digits are others.
        guest = await lobby.answer(scene.session, await scene.guest())
        assert guest.answer is not None
        thief.take(guest.answer)
        await scene.ask({"do": "reveal", "card": thief.reveal.model_dump(mode="json", exclude_none=True)})
        nonce = unb64u(guest.answer.nonce)
        with pytest.raises(Untrusted):
            rightful.take(Answer.to(rightful.commitment, nonce, new_signing_key()))
        rightful.take(Answer.to(rightful.commitment, nonce, scene.session.member.key))
        seen = await scene.guest()
        with pytest.raises(Refused) as caught:
            lobby.compare(scene.session.member, seen, rightful.digits)
        assert caught.value.code == "digits-differ"
        assert lobby.compare(scene.session.member, seen, thief.digits).member == thief.member.kid

    staged(tmp_path, play)


def test_an_invitation_is_used_once_until_it_expires_and_not_after_it_was_denied(tmp_path: Path) -> None:
    async def play(scene: Scene) -> None:
        first = scene.newcomer("first")
        for _ in range(2):
            await scene.commit(first)  # the same word again is the same word
        await lobby.decide(scene.session, await scene.guest(), "denied")
        look = {"do": "look", "invitation": first.commitment.invitation, "digest": first.commitment.digest}
        assert (await scene.ask(look))["code"] == "denied"
        with pytest.raises(Refused, match="denied"):
            await joining.wait(first, lambda _: None)
        await refused(lobby.decide(scene.session, await scene.guest(), "approved"), "decided")
        at = int(now().timestamp())
        over = await lobby.invite(scene.session, "monitor", ["KG-O"], office=None, at=at - 3600, expires=at - 1)
        late = Scene(scene.network, scene.session, over)
        await refused(late.commit(late.newcomer("late")), "invitation-expired")
        withdrawn = await lobby.invite(scene.session, "monitor", ["KG-O"], office=None, at=at, expires=at + 3600)
        gone = Scene(scene.network, scene.session, withdrawn)
        await lobby.decide(scene.session, await gone.guest(), "denied")
        await refused(gone.commit(gone.newcomer("gone")), "invitation-used")

    staged(tmp_path, play)


def test_a_hub_that_swaps_the_request_or_the_answers_makes_the_digits_differ(tmp_path: Path) -> None:
    async def play(scene: Scene) -> None:
        newcomer, member = scene.newcomer("newcomer"), scene.session.member
        # A hub that has the token besides: the worst there is.
        token, terms = scene.invitation.token, scene.invitation.terms
        forged = JoinRequest.for_monitor(new_signing_key(), KeyPair.generate("user"), terms.areas)
        commitment = Commitment.of(token, forged, bytes(32))
        shown = lobby.Guest(terms, commitment)
        answer = Answer.to(commitment, lobby._chosen(member, commitment), member.key)
        shown = lobby.Guest(terms, commitment, answer, Reveal.of(token, forged, bytes(32)))
        newcomer.take(Answer.to(newcomer.commitment, unb64u(answer.nonce), member.key))
        with pytest.raises(Refused) as caught:
            lobby.compare(member, shown, newcomer.digits)
        assert caught.value.code == "digits-differ"
        # There is one try: for another commitment this coordinator has no random bytes.
        with pytest.raises(Untrusted) as untrusted:
            lobby._chosen(member, Commitment.of(token, forged, bytes([1] * 32)))
        assert untrusted.value.code == "another-request"
        # Nor does the newcomer take a second answer, nor one to somebody else.
        with pytest.raises(Untrusted):
            newcomer.take(Answer.to(newcomer.commitment, bytes(32), member.key))
        with pytest.raises(Untrusted):
            scene.newcomer("other").take(Answer.to(newcomer.commitment, bytes(32), member.key))

    staged(tmp_path, play)


def test_who_has_no_token_cannot_use_up_an_invitation(tmp_path: Path) -> None:
    """Its id is known to the hub and to all coordinators; the token only to who is invited."""

    async def play(scene: Scene) -> None:
        rightful = scene.newcomer("rightful")
        request = JoinRequest.for_monitor(new_signing_key(), KeyPair.generate("user"), scene.invitation.terms.areas)
        own = Commitment.of(scene.invitation.token, request, bytes(32)).model_dump(mode="json")
        aimed = {name: value for name, value in own.items() if name != "signature"}
        forged = Commitment.sign(aimed, new_signing_key())
        moussa = scene.network.coordinators["moussa"]
        for card in (forged, Commitment.sign(aimed, moussa.key)):
            word = {"do": "commit", "card": card.model_dump(mode="json")}
            await refused(scene.ask(word), "bad-card")
            # Nor through the inviter, who carries the words of who has no line; another coordinator carries none.
            for member, code in ((scene.session.member, "bad-card"), (moussa, "not-yours")):
                async with member.session() as session:
                    await refused(session.ask(subjects.lobby_ask(member.nkey.public), word), code)
        assert (await scene.commit(rightful))["code"] == "kept"

    staged(tmp_path, play)


def test_a_newcomer_sees_nothing_of_others_and_says_nothing_out_of_turn(tmp_path: Path) -> None:
    async def play(scene: Scene) -> None:
        newcomer, stranger = scene.newcomer("newcomer"), scene.network.monitors["osh"]
        await scene.commit(newcomer)
        invitation, digest = newcomer.commitment.invitation, newcomer.commitment.digest
        guessed = b64u(bytes(32))
        for document, code in (
            ({"do": "look", "invitation": invitation, "digest": guessed}, "invitation-used"),
            ({"do": "look", "invitation": invitation}, "invitation-used"),
            ({"do": "look", "invitation": "i-" + "a" * 26, "digest": digest}, "no-such-invitation"),
            ({"do": "list"}, "malformed"),
            ({"do": "look", "invitation": "*", "digest": digest}, "malformed"),
            ({"do": "commit", "card": {}}, "bad-card"),
        ):
            await refused(scene.ask(document), code)
        early = Reveal.of(scene.invitation.token, newcomer.request, bytes(32))
        card = early.model_dump(mode="json", exclude_none=True)
        await refused(scene.ask({"do": "reveal", "card": card}), "too-early")
        await lobby.answer(scene.session, await scene.guest())
        await refused(scene.ask({"do": "reveal", "card": card}), "not-as-committed")
        async with stranger.session() as session:
            with pytest.raises(KengeleError):
                await session.link.request(subjects.lobby_ask(stranger.nkey.public), b'{"do":"list"}', timeout=1)

    staged(tmp_path, play)


def test_a_coordinator_invites_in_nobody_elses_name_and_believes_nothing_unsigned(tmp_path: Path) -> None:
    async def play(scene: Scene) -> None:
        moussa = scene.network.coordinators["moussa"]
        terms = scene.invitation.terms.model_dump(mode="json", exclude_none=True)
        del terms["signature"]
        forged = Terms.sign({**terms, "areas": ["KG"]}, moussa.key)
        async with moussa.session() as session:
            ask = {"do": "invite", "card": forged.model_dump(mode="json", exclude_none=True)}
            await refused(session.ask(subjects.lobby_ask(moussa.nkey.public), ask), "bad-card")
            same = scene.invitation.terms.model_dump(mode="json", exclude_none=True)
            await refused(
                session.ask(subjects.lobby_ask(moussa.nkey.public), {"do": "invite", "card": same}), "not-yours"
            )
        known = metadata.coordinators(scene.session.member.trust.files())
        with pytest.raises(Untrusted):
            lobby.Guest.read({"terms": ask["card"]}, known)

    staged(tmp_path, play)
