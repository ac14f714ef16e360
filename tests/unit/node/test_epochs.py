"""Epochs: the same is said until it is taken in, and the change is there or it is not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kengele_node.member import Member
from kengele_node.monitor.epochs import Epochs
from kengele_node.monitor.home import open_outbox
from kengele_node.vault import Lock, Vault, make_key_file
from kengele_schemas.errors import Damaged, KengeleError, Refused, Unreachable
from kengele_schemas.invitations import read_signed
from kengele_schemas.rotation import Epoch
from unit.node.test_keyring import _card


class Session:
    """A hub that says what it is told to say, or nothing."""

    def __init__(self, member: Member, answer: str | KengeleError) -> None:
        self.member, self._answer = member, answer
        self.said: list[Epoch] = []

    async def ask(self, subject: str, document: dict[str, Any]) -> dict[str, Any]:
        assert subject == f"letters.{self.member.nkey.public}.ask"
        self.said.append(read_signed(document["card"], Epoch))
        if isinstance(self._answer, KengeleError):
            raise self._answer
        return {"code": self._answer}


@pytest.fixture
def lock(tmp_path: Path) -> Lock:
    return make_key_file(tmp_path / "key")


@pytest.fixture
def member(tmp_path: Path, lock: Lock) -> Member:
    return Member.create(tmp_path / "node", lock, "monitor", {"areas": ["KG-O"]}, card=_card())


def look(member: Member, answer: str | KengeleError) -> bool:
    return asyncio.run(Epochs(member).look(Session(member, answer)))  # type: ignore[arg-type]


def test_the_same_next_key_is_announced_until_it_is_taken_whatever_happens_meanwhile(
    member: Member, lock: Lock
) -> None:
    first = Epochs(member).begin()
    assert first.after == member.kid
    for answer in ("kept", Unreachable("unreachable", "No line."), Refused("bad-card", "No."), "anything"):
        member = Member.open(member.home, lock, "monitor")
        session = Session(member, answer)
        try:
            assert not asyncio.run(Epochs(member).look(session))  # type: ignore[arg-type]
        except KengeleError:
            assert isinstance(answer, KengeleError)
        assert session.said == [first]
        assert Epochs(member).begin() == first
        assert member.kid == first.after


def test_it_changes_once_the_hub_says_that_the_roster_has_it(member: Member, lock: Lock) -> None:
    before, said = member.key, Epochs(member).begin()
    assert look(member, "taken")
    for found in (member, Member.open(member.home, lock, "monitor")):
        assert found.kid == said.kid
        assert found.first_kid == said.after
        assert {kid: bytes(key) for kid, key in found.signing_keys.items()} == {
            said.after: bytes(before),
            said.kid: bytes(found.key),
        }
        assert not Epochs(found).under_way


def test_a_third_epoch_still_counts_from_the_first(member: Member, lock: Lock) -> None:
    first = member.kid
    for _ in range(2):
        Epochs(member).begin()
        assert look(member, "taken")
    assert member.first_kid == first
    assert len(member.signing_keys) == 3


def test_numbers_go_on_under_the_next_name(member: Member) -> None:
    def number(report_id: str) -> int:
        outbox = open_outbox(member)
        try:
            return outbox.add(report_id, {}, ["unrcca"], lambda counters: b"x", now=1).counters["unrcca"]
        finally:
            outbox.close()

    assert number("a") == 1
    Epochs(member).begin()
    assert look(member, "taken")
    assert number("b") == 2


def test_a_change_that_cannot_be_written_has_not_happened(
    member: Member, lock: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Epochs(member).begin()

    def full(*_: object) -> None:
        raise Damaged("storage-full", "The disk is full.", "Make room.")

    with monkeypatch.context() as patch:
        patch.setattr(Vault, "replace", full)
        with pytest.raises(Damaged):
            look(member, "taken")
        assert member.kid == said.after
    found = Member.open(member.home, lock, "monitor")
    assert found.kid == said.after
    assert look(found, "taken")
    assert found.kid == said.kid


def test_without_a_next_key_there_is_nothing_to_say(member: Member) -> None:
    with pytest.raises(Refused, match="No other key"):
        look(member, "taken")
