"""A newcomer: chooses once, goes on where it stopped, takes one answer, and shows nothing before there is one."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from kengele_node import joining
from kengele_node.joining import Newcomer, opened
from kengele_node.member import Member
from kengele_node.vault import Lock, make_key_file
from kengele_schemas import invitations
from kengele_schemas.cards import NetworkCard, coordinator_id
from kengele_schemas.encoding import b64u
from kengele_schemas.errors import Damaged, KengeleError, Malformed, Refused, Unreachable, Untrusted
from kengele_schemas.fields import read
from kengele_schemas.invitations import Answer, Commitment, Invitation, Terms
from kengele_schemas.nkeys import KeyPair

COORDINATOR = SigningKey(bytes(32))
ROOT = b'{"signed":{}}'
NETWORK = read(
    NetworkCard,
    {
        "name": "Bell",
        "urls": ["nats://127.0.0.1:1"],
        "join": {"jwt": "header.claims.signature", "seed": KeyPair.generate("user").seed},
        "root": b64u(ROOT),
        "root_digest": b64u(hashlib.sha256(ROOT).digest()),
    },
)


def invitation(token: int = 1, **changes: Any) -> Invitation:
    held = b64u(bytes([token] * 16))
    said = {
        "key": b64u(bytes(invitations.key_of(held).verify_key)),
        "role": "monitor",
        "areas": ["KG-O"],
        "inviter": coordinator_id(bytes(COORDINATOR.verify_key)),
        "root_digest": NETWORK.root_digest,
        "at": 4_000_000_000,
        "expires": 4_000_000_100,
        **changes,
    }
    return Invitation(network=NETWORK, terms=Terms.sign(said, COORDINATOR), token=held)


@pytest.fixture
def member(tmp_path: Path) -> Member:
    lock = make_key_file(tmp_path / "key")
    return Member.create(tmp_path / "node", lock, "monitor", {"areas": ["KG-O"]}, (), card=NETWORK)


def reopened(member: Member, tmp_path: Path) -> Member:
    return Member.open(member.home, Lock(passphrase=None, key_file=tmp_path / "key"), "monitor")


def answer_to(commitment: Commitment, nonce: int = 9) -> Answer:
    return Answer.to(commitment, bytes([nonce] * 32), COORDINATOR)


def test_what_was_begun_goes_on_with_the_same_words(member: Member, tmp_path: Path) -> None:
    first = Newcomer.begin(member, invitation())
    again = Newcomer(reopened(member, tmp_path))
    assert again.commitment == first.commitment
    assert Newcomer.begin(reopened(member, tmp_path), invitation()).commitment == first.commitment
    again.take(answer_to(first.commitment))
    assert Newcomer(reopened(member, tmp_path)).digits == again.digits


def test_a_home_that_has_begun_takes_no_other_invitation(member: Member) -> None:
    Newcomer.begin(member, invitation())
    with pytest.raises(Refused) as caught:
        Newcomer.begin(member, invitation(2))
    assert caught.value.code == "another-invitation"


def test_nothing_is_shown_before_there_is_an_answer(member: Member) -> None:
    newcomer = Newcomer.begin(member, invitation())
    for show in (lambda: newcomer.reveal, lambda: newcomer.digits):
        with pytest.raises(Refused) as caught:
            show()
        assert caught.value.code == "too-early"
    newcomer.take(answer_to(newcomer.commitment))
    newcomer.reveal.check(newcomer.invitation.terms, newcomer.commitment)
    assert newcomer.digits.replace(" ", "").isdecimal()


def test_one_answer_is_taken_and_the_same_again_but_no_second(member: Member) -> None:
    newcomer = Newcomer.begin(member, invitation())
    newcomer.take(answer_to(newcomer.commitment))
    shown = newcomer.digits
    newcomer.take(answer_to(newcomer.commitment))
    with pytest.raises(Untrusted) as caught:
        newcomer.take(answer_to(newcomer.commitment, 8))
    assert caught.value.code == "another-answer"
    assert newcomer.digits == shown


def test_an_answer_to_another_request_is_not_taken(member: Member, tmp_path: Path) -> None:
    newcomer = Newcomer.begin(member, invitation())
    other = Member.create(tmp_path / "other", make_key_file(tmp_path / "k2"), "monitor", {"areas": ["KG-O"]}, ())
    for commitment in (
        Newcomer.begin(other, invitation()).commitment,
        Commitment.of(invitation(2).token, newcomer.request, bytes(32)),
    ):
        with pytest.raises(Untrusted):
            newcomer.take(answer_to(commitment))
    assert newcomer.answer is None


def test_who_is_in_has_forgotten_what_was_said_and_what_cannot_be_read_is_told(member: Member) -> None:
    Newcomer.begin(member, invitation()).end()
    with pytest.raises(Refused) as caught:
        Newcomer(member)
    assert caught.value.code == "not-joining"
    for held in (b"", b"[]", b"{}", b'{"invitation":{},"nonce":"","answer":null}'):
        member.remember("joining", held)
        with pytest.raises(Damaged):
            Newcomer(member)


class Lobby:
    """A hub that gives these states one after the other, and keeps what it is told."""

    def __init__(self, *states: dict[str, Any]) -> None:
        self.states, self.told = list(states), list[dict[str, Any]]()

    async def __call__(self, document: dict[str, Any]) -> dict[str, Any]:
        self.told.append(document)
        return self.states.pop(0) if document["do"] == "look" else {"code": "kept"}


def step(newcomer: Newcomer, lobby: Lobby) -> str:
    return asyncio.run(joining._step(newcomer, lobby))


def test_the_request_is_shown_once_it_is_answered_and_not_before(member: Member) -> None:
    newcomer = Newcomer.begin(member, invitation())
    answer = answer_to(newcomer.commitment).model_dump(mode="json")
    lobby = Lobby({"code": "waiting"}, {"code": "answered", "answer": answer}, {"code": "revealed", "answer": answer})
    assert [step(newcomer, lobby) for _ in range(3)] == ["waiting", "answered", "answered"]
    shown = [said for said in lobby.told if said["do"] == "reveal"]
    assert len(shown) == 1
    assert json.dumps(newcomer.member.nkey.public) in json.dumps(shown[0]["card"])


def test_an_answer_that_is_none_or_another_shows_nothing(member: Member, tmp_path: Path) -> None:
    newcomer = Newcomer.begin(member, invitation())
    other = Commitment.of(newcomer.invitation.token, newcomer.request, bytes(32))
    for answer in ({"invitation": 1}, {"v": 1}, "yes", answer_to(other).model_dump(mode="json")):
        lobby = Lobby({"code": "answered", "answer": answer})
        with pytest.raises(KengeleError):
            step(newcomer, lobby)
        assert [said["do"] for said in lobby.told] == ["look"]


def test_a_denial_ends_it(member: Member) -> None:
    with pytest.raises(Refused) as caught:
        step(Newcomer.begin(member, invitation()), Lobby({"code": "denied"}))
    assert caught.value.code == "denied"


def test_an_invitation_comes_as_a_file_whose_parts_belong_together(tmp_path: Path) -> None:
    path = tmp_path / "invitation.json"
    path.write_bytes(invitation().encode())
    assert asyncio.run(opened(str(path))) == invitation()
    swapped = invitation().model_copy(update={"token": invitation(2).token})
    path.write_bytes(swapped.encode())
    with pytest.raises(Untrusted):
        asyncio.run(opened(str(path)))


def test_a_link_that_is_cut_is_refused_and_one_to_nobody_finds_no_line() -> None:
    link = invitation().link()
    with pytest.raises(Malformed) as caught:
        asyncio.run(opened(link[:-9]))
    assert caught.value.code == "bad-invitation"
    with pytest.raises(Unreachable):
        asyncio.run(opened(link, wait=0.1))


def joined(home: Path, given: Path | None, role: str = "monitor", **options: Any) -> argparse.Namespace:
    base = {"key_file": None, "passphrase_file": None, "new_key_file": home.parent / "new-key", "json": True}
    source = None if given is None else str(given)
    return argparse.Namespace(
        home=home, invitation=source, joins=role, **{"offline": True, "answer": None, **base, **options}
    )


def test_by_files_alone_the_newcomer_comes_to_its_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, home = tmp_path / "invitation.json", tmp_path / "far"
    given.write_bytes(invitation().encode())
    assert joining.run(joined(home, given)) == 0
    commitment = read(Commitment, json.loads((home / "commitment.json").read_text()))
    (tmp_path / "answer.json").write_bytes(answer_to(commitment).encode())
    capsys.readouterr()
    back = {"offline": False, "answer": tmp_path / "answer.json", "key_file": tmp_path / "new-key"}
    assert joining.run(joined(home, None, **back)) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], len(told["digits"])) == ("answered", 9)
    assert (home / "reveal.json").exists()


@pytest.mark.parametrize(
    ("changes", "role", "code"),
    [
        ({}, "office", "another-role"),
        ({"at": 1000, "expires": 2000}, "monitor", "invitation-expired"),
        ({"role": "office", "office": {"id": "unrcca", "name": "UNRCCA"}}, "monitor", "another-role"),
    ],
)
def test_an_invitation_for_somebody_else_makes_no_home(
    tmp_path: Path, changes: dict[str, Any], role: str, code: str
) -> None:
    given = tmp_path / "invitation.json"
    given.write_bytes(invitation(**changes).encode())
    with pytest.raises(Refused) as caught:
        joining.run(joined(tmp_path / "far", given, role))
    assert caught.value.code == code
    assert not (tmp_path / "far").exists()


def test_without_an_invitation_and_a_home_there_is_nothing_to_go_on_with(tmp_path: Path) -> None:
    with pytest.raises(Malformed) as caught:
        joining.run(joined(tmp_path / "far", None))
    assert caught.value.code == "no-invitation"
