"""A hub, a coordinator or a courier who stands between a newcomer and the coordinator who invited her.

All words go through the attacker, who may change, swap or make up any; neither end is told by anybody else.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from nacl.signing import SigningKey

from kengele_node import joining
from kengele_node.coordinator import lobby
from kengele_node.joining import Newcomer
from kengele_node.member import Member, Session
from kengele_node.vault import make_key_file
from kengele_schemas import invitations
from kengele_schemas.cards import JoinRequest, NetworkCard, coordinator_id
from kengele_schemas.encoding import b64u, unb64u
from kengele_schemas.errors import Refused, Untrusted
from kengele_schemas.fields import read
from kengele_schemas.invitations import Answer, Commitment, Invitation, Link, Reveal, Terms
from kengele_schemas.keys import new_signing_key
from kengele_schemas.nkeys import KeyPair
from kengele_testing.trust import ROOT, Paper

PAPER = Paper()
FILES = PAPER.founded()
INVITER, OTHER = PAPER.coordinators[:2]
NETWORK = read(
    NetworkCard,
    {
        "name": "Bell",
        "urls": ["nats://127.0.0.1:1"],
        "join": {"jwt": "header.claims.signature", "seed": KeyPair.generate("user").seed},
        "root": b64u(FILES[ROOT]),
        "root_digest": b64u(hashlib.sha256(FILES[ROOT]).digest()),
    },
)
TOKEN = invitations.new_token()


def document(card: Any) -> dict[str, Any]:
    found: dict[str, Any] = card.model_dump(mode="json", exclude_none=True)
    return found


def terms(by: SigningKey = INVITER, **changes: Any) -> Terms:
    said = {
        "key": b64u(bytes(invitations.key_of(TOKEN).verify_key)),
        "role": "monitor",
        "areas": ["KG-O"],
        "inviter": coordinator_id(bytes(by.verify_key)),
        "root_digest": NETWORK.root_digest,
        "at": 4_000_000_000,
        "expires": 4_000_000_100,
        **changes,
    }
    return Terms.sign(said, by)


def invitation(offered: Terms | None = None) -> Invitation:
    return Invitation(network=NETWORK, terms=offered or terms(), token=TOKEN)


@dataclass
class Between:
    """A coordinator's home, whose hub shows what it likes and is told what the coordinator says."""

    key: SigningKey = INVITER
    words: dict[str, Any] = field(default_factory=dict)
    told: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        secrets: dict[str, bytes] = {}
        self.member = SimpleNamespace(
            key=self.key,
            card=NETWORK,
            nkey=KeyPair.generate("user"),
            vault=SimpleNamespace(secrets=secrets),
            remember=secrets.__setitem__,
        )

    async def ask(self, _: str, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["do"] != "list":
            self.told.append(asked)
        return {"code": "listed", "invitations": [self.words]}

    @property
    def session(self) -> Session:
        return cast(Session, self)

    def shows(self, **cards: Any) -> None:
        self.words = {"terms": document(terms()), **{name: document(card) for name, card in cards.items()}}

    def guests(self) -> list[lobby.Guest]:
        return asyncio.run(lobby.guests(self.session, FILES))


@pytest.fixture
def newcomer(tmp_path: Path) -> Newcomer:
    return Newcomer.begin(home(tmp_path / "node"), invitation())


def home(path: Path) -> Member:
    lock = make_key_file(path.with_suffix(".key"))
    return Member.create(path, lock, "monitor", {"areas": ["KG-O"]}, (), card=NETWORK)


def untrusted(act: Callable[[], object], code: str) -> None:
    with pytest.raises(Untrusted) as caught:
        act()
    assert caught.value.code == code


def a_request(areas: tuple[str, ...] = ("KG-O",)) -> JoinRequest:
    return JoinRequest.for_monitor(new_signing_key(), KeyPair.generate("user"), areas)


def forged_answers(commitment: Commitment) -> dict[str, Answer]:
    """Answers that are not the inviter's."""
    inviter = coordinator_id(bytes(INVITER.verify_key))
    others = Answer.to(commitment, bytes(32), OTHER)
    named = {name: value for name, value in document(others).items() if name != "signature"}
    return {
        "another coordinator's": others,
        "another's, named the inviter": Answer.sign({**named, "coordinator": inviter}, OTHER),
        "the inviter's key, signed by another": Answer.sign(
            {**named, "coordinator": inviter, "key": b64u(bytes(INVITER.verify_key))}, OTHER
        ),
        "the inviter's, to another request": Answer.to(
            Commitment.of(TOKEN, a_request(), bytes(32)), bytes(32), INVITER
        ),
        "the inviter's own, with other random bytes": Answer.to(commitment, bytes(32), INVITER).model_copy(
            update={"nonce": b64u(bytes([1] * 32))}
        ),
    }


KINDS = tuple(forged_answers(Commitment.of(TOKEN, a_request(), bytes(32))))


@pytest.mark.parametrize("kind", KINDS)
def test_a_newcomer_takes_no_answer_but_her_inviters(newcomer: Newcomer, kind: str) -> None:
    told: list[str] = []
    answer = document(forged_answers(newcomer.commitment)[kind])

    async def hub(asked: dict[str, Any]) -> dict[str, Any]:
        told.append(asked["do"])
        return {"code": "answered", "answer": answer}

    untrusted(lambda: asyncio.run(joining._step(newcomer, hub)), "another-answer")
    assert told == ["look"], "her request was shown"
    with pytest.raises(Refused):
        _ = newcomer.digits


@pytest.mark.parametrize("kind", KINDS)
def test_a_courier_brings_a_newcomer_no_answer_but_her_inviters(tmp_path: Path, kind: str) -> None:
    given, where = tmp_path / "invitation.json", tmp_path / "far"
    given.write_bytes(invitation().encode())
    lock = {"key_file": None, "passphrase_file": None, "new_key_file": tmp_path / "key"}
    words = SimpleNamespace(home=where, invitation=str(given), joins="monitor", json=True, offline=True, answer=None)
    assert joining.run(cast(Any, SimpleNamespace(**vars(words), **lock))) == 0
    commitment = read(Commitment, json.loads((where / "commitment.json").read_text()))
    words.invitation, words.offline, words.answer = None, False, tmp_path / "answer.json"
    words.answer.write_bytes(forged_answers(commitment)[kind].encode())
    lock["key_file"] = tmp_path / "key"
    untrusted(lambda: joining.run(cast(Any, SimpleNamespace(**vars(words), **lock))), "another-answer")
    assert not (where / "reveal.json").exists()


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(lambda: terms(OTHER), id="another inviter"),
        pytest.param(lambda: terms(new_signing_key()), id="a made-up inviter"),
        pytest.param(lambda: terms(expires=4_000_000_099), id="another day"),
    ],
)
def test_a_hub_cannot_put_another_inviter_behind_a_link_unnoticed(tmp_path: Path, changed: Callable[[], Terms]) -> None:
    """A link's other half comes from the hub. Even with that inviter's help, and the same bytes, digits differ."""
    made = changed()
    by = next((key for key in (INVITER, OTHER) if coordinator_id(bytes(key.verify_key)) == made.inviter), None)
    link = Link.parse(invitation().link())
    shown = link.invitation("Bell", NETWORK.root, document(made))
    victim = Newcomer.begin(home(tmp_path / "node"), shown)
    between = Between()
    between.shows(commitment=victim.commitment)
    (guest,) = between.guests()
    guest = asyncio.run(lobby.answer(between.session, guest))
    assert guest.answer is not None
    nonce = unb64u(guest.answer.nonce)
    if by is None:
        untrusted(lambda: victim.take(Answer.to(victim.commitment, nonce, OTHER)), "another-answer")
        return
    victim.take(Answer.to(victim.commitment, nonce, by))
    between.shows(commitment=victim.commitment, answer=guest.answer, reveal=victim.reveal)
    (guest,) = between.guests()
    with pytest.raises(Refused) as caught:
        lobby.compare(cast(Member, between.member), guest, victim.digits)
    assert caught.value.code == "digits-differ"


def test_a_hub_cannot_change_what_was_offered_and_have_the_inviters_answer_taken(tmp_path: Path) -> None:
    said = {name: value for name, value in document(terms()).items() if name != "signature"}
    inviter = terms().inviter
    for offered, by in (
        # Another signs in the inviter's name, and answers so: the digits would be the same.
        (Terms.sign(said, OTHER), OTHER),
        (terms().model_copy(update={"areas": ("KG-B",)}), INVITER),
    ):
        shown = Link.parse(invitation().link()).invitation("Bell", NETWORK.root, document(offered))
        victim = Newcomer.begin(home(tmp_path / by.encode().hex()[:8]), shown)
        answer = document(Answer.to(victim.commitment, bytes(32), by))
        named = {**{name: value for name, value in answer.items() if name != "signature"}, "coordinator": inviter}
        with pytest.raises(Untrusted) as caught:
            victim.take(Answer.sign(named, by))
        assert caught.value.code == "another-answer"


def test_a_coordinator_answers_nobody_whom_another_has_invited(newcomer: Newcomer) -> None:
    """Not even where the hub asks for it, nor by a file that a newcomer brings."""
    between = Between(OTHER)
    between.shows(commitment=newcomer.commitment)
    (guest,) = between.guests()
    with pytest.raises(Refused) as caught:
        asyncio.run(lobby.answer(between.session, guest))
    assert caught.value.code == "not-yours"
    assert between.told == []
    assert not between.member.vault.secrets


def test_a_hub_without_the_token_cannot_have_its_own_request_answered(newcomer: Newcomer) -> None:
    """An inviter answers once: who made up what is answered would have used the invitation up."""
    said = {name: value for name, value in document(newcomer.commitment).items() if name != "signature"}
    between = Between()
    elsewhere = document(Commitment.of(invitations.new_token(), a_request(), bytes(32)))
    for made in (
        Commitment.sign({**said, "digest": b64u(bytes(32))}, new_signing_key()),
        newcomer.commitment.model_copy(update={"digest": b64u(bytes(32))}),
        read(Commitment, {**elsewhere, "invitation": terms().id}),
        read(Commitment, elsewhere),
    ):
        between.shows(commitment=made)
        assert between.guests() == []
    between.shows(commitment=newcomer.commitment)
    assert len(between.guests()) == 1


def test_a_hub_cannot_swap_the_request_once_it_has_seen_the_answer(newcomer: Newcomer) -> None:
    """Even one that has the token: it would try requests until the digits are those that the newcomer reads out."""
    between = Between()
    between.shows(commitment=newcomer.commitment)
    (guest,) = between.guests()
    guest = asyncio.run(lobby.answer(between.session, guest))
    assert guest.answer is not None
    newcomer.take(guest.answer)
    forged, nonce = a_request(), bytes([1] * 32)
    between.shows(
        commitment=Commitment.of(TOKEN, forged, nonce), answer=guest.answer, reveal=Reveal.of(TOKEN, forged, nonce)
    )
    untrusted(lambda: asyncio.run(lobby.revealed(between.session, guest, FILES, 5)), "not-as-committed")
    # Nor by showing its own from the start: what was committed to first is the only one that is answered.
    (late,) = between.guests()
    untrusted(lambda: asyncio.run(lobby.answer(between.session, late)), "another-request")
    between.shows(commitment=newcomer.commitment, answer=guest.answer, reveal=newcomer.reveal)
    shown = asyncio.run(lobby.revealed(between.session, guest, FILES, 5))
    assert lobby.compare(cast(Member, between.member), shown, newcomer.digits) == newcomer.request


def test_a_hub_cannot_invite_in_a_coordinators_name(newcomer: Newcomer) -> None:
    """What waits is answered by itself, and listed as hers."""
    between = Between()
    said = {name: value for name, value in document(terms()).items() if name != "signature"}
    for made in (Terms.sign(said, new_signing_key()), Terms.sign(said, OTHER), terms(new_signing_key())):
        between.shows(commitment=newcomer.commitment)
        between.words["terms"] = document(made)
        assert between.guests() == []


def test_who_has_the_token_cannot_come_under_another_invitation(newcomer: Newcomer) -> None:
    between = Between()
    said = {name: value for name, value in document(newcomer.commitment).items() if name != "signature"}
    between.shows(commitment=Commitment.sign({**said, "invitation": "i-" + "a" * 26}, invitations.key_of(TOKEN)))
    assert between.guests() == []


def test_who_has_the_token_cannot_show_a_request_under_another_invitation(newcomer: Newcomer) -> None:
    between, key = Between(), invitations.key_of(TOKEN)
    answer = Answer.to(newcomer.commitment, bytes(32), INVITER)
    newcomer.take(answer)
    said = {name: value for name, value in document(newcomer.reveal).items() if name != "signature"}
    between.shows(
        commitment=newcomer.commitment,
        answer=answer,
        reveal=Reveal.sign({**said, "invitation": "i-" + "a" * 26}, key),
    )
    assert between.guests() == []
    between.shows(commitment=newcomer.commitment, answer=answer, reveal=newcomer.reveal)
    assert len(between.guests()) == 1


@pytest.mark.parametrize("areas", [("KG",), ("KG-B",), ("KG-O", "KG-B")])
def test_who_is_invited_cannot_ask_for_more_than_was_offered(areas: tuple[str, ...]) -> None:
    """Though her digits are right: she has the token, and reads out what both ends compute."""
    request, between = a_request(areas), Between()
    commitment = Commitment.of(TOKEN, request, bytes(32))
    between.shows(commitment=commitment)
    (guest,) = between.guests()
    answer = asyncio.run(lobby.answer(between.session, guest)).answer
    assert answer is not None
    between.shows(commitment=commitment, answer=answer, reveal=Reveal.of(TOKEN, request, bytes(32)))
    (guest,) = between.guests()
    digits = invitations.digits(guest.terms, request, bytes(32), unb64u(answer.nonce), NETWORK.root_digest)
    with pytest.raises(Refused) as caught:
        lobby.compare(cast(Member, between.member), guest, digits)
    assert caught.value.code == "another-request"


def of_anothers_keys(what: str) -> JoinRequest:
    """A request that names a key whose owner did not sign it."""
    own, key, nkey = a_request(), new_signing_key(), KeyPair.generate("user")
    victim = JoinRequest.for_monitor(key, nkey, ("KG-O",))
    if what == "nkey":
        return own.model_copy(update={"nkey": victim.nkey})
    if what == "kid":
        return own.model_copy(update={"monitor": victim.monitor})
    return victim.model_copy(update={"areas": ("KG-B",)})


@pytest.mark.parametrize("what", ["nkey", "kid", "areas"])
def test_an_invited_stranger_cannot_come_with_anothers_keys(what: str) -> None:
    """Who could name a key that is not hers would have it listed, and keep its owner out."""
    request, between = of_anothers_keys(what), Between()
    commitment = Commitment.of(TOKEN, request, bytes(32))
    between.shows(
        commitment=commitment,
        answer=Answer.to(commitment, bytes(32), INVITER),
        reveal=Reveal.of(TOKEN, request, bytes(32)),
    )
    assert between.guests() == []


def test_what_waits_in_the_lobby_names_no_key_before_its_owner_shows_it(newcomer: Newcomer) -> None:
    """Else any region could list that key first, or keep it out, before anybody knows for which area it comes."""
    told = newcomer.commitment.encode().decode()
    for name in (newcomer.request.nkey, newcomer.request.member):
        assert name not in told


def test_a_hub_cannot_show_a_request_that_nobody_announced(newcomer: Newcomer) -> None:
    between = Between()
    newcomer.take(Answer.to(newcomer.commitment, bytes(32), INVITER))
    between.shows(reveal=newcomer.reveal)
    assert between.guests() == []
