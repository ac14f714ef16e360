"""Rotation at the desk: keys are handed in in time and destroyed only behind an empty feed; no lost line stops it."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from kengele_node.office.desk import Desk
from kengele_node.office.rotation import Rotation
from kengele_schemas.errors import Refused, Unreachable
from kengele_schemas.invitations import read_signed
from kengele_schemas.roster import Offices, OfficesFile
from kengele_schemas.rotation import GRACE, WEEK, OfficeKeys
from kengele_schemas.trusted import Trusted
from kengele_testing.values import network
from unit.node.test_keyring import MONDAY, TODAY, Home


class Session:
    """A line to a hub that keeps what is handed in."""

    def __init__(self, home: Home) -> None:
        self.member = home.member
        self.letters: list[Any] = []
        self.fails: Exception | None = None

    async def ask(self, subject: str, document: dict[str, Any]) -> dict[str, Any]:
        assert subject == f"letters.{self.member.nkey.public}.ask"
        if self.fails is not None:
            raise self.fails
        self.letters.append(document["card"])
        return {"code": "kept"}


class Scene:
    """A desk on a given day."""

    def __init__(self, directory: Path) -> None:
        self.home, self.day = Home(directory), TODAY
        self.session = Session(self.home)
        self.told: list[str] = []
        self.failed: list[str] = []
        self.begin()

    def begin(self) -> None:
        """The desk is started anew."""
        self.home.ring()
        self.session.member = self.home.member
        self.desk = Desk(None, None, "unrcca", [], self.home.member.nkey.public)  # type: ignore[arg-type]
        self.rotation = Rotation(self.session, self.desk, today=lambda: self.day)  # type: ignore[arg-type]
        self.rotation.told = self.told.append
        self.rotation.failed = lambda error: self.failed.append(error.code)

    def looks(self, day: date, *, fresh: bool = True) -> None:
        self.day = day
        asyncio.run(self.rotation.look(self.trusted(fresh)))

    def rests(self) -> None:
        asyncio.run(self.rotation.rest())

    def trusted(self, fresh: bool) -> Trusted:
        base = network()
        offices = Offices(OfficesFile(offices=(self.home.office,)))
        return Trusted(**{**vars(base), "offices": offices, "fresh": fresh})

    @property
    def letter(self) -> OfficeKeys:
        return read_signed(self.session.letters[-1], OfficeKeys)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_the_desk_hands_in_keys_by_itself_when_fewer_than_three_weeks_are_ahead(scene: Scene) -> None:
    scene.looks(TODAY)
    scene.letter.check(scene.home.office, scene.home.member.card.root_digest)
    assert len(scene.letter.keys) == 5
    scene.home.signed(scene.letter, TODAY)
    scene.begin()
    scene.looks(MONDAY)
    assert len(scene.session.letters) == 1, "three are still ahead"
    scene.looks(MONDAY + WEEK)
    assert len(scene.session.letters) == 2


def test_it_opens_with_what_it_has_handed_in_before_anybody_can_seal_for_it(scene: Scene) -> None:
    scene.looks(TODAY)
    assert {key.public for key in scene.desk.keys} == {key.public() for key in scene.letter.keys}


def test_the_same_letter_is_left_once_a_day_and_again_where_the_line_failed(scene: Scene) -> None:
    scene.session.fails = Unreachable("unreachable", "No line.")
    scene.looks(TODAY)
    assert scene.failed == ["unreachable"]
    scene.session.fails = None
    scene.looks(TODAY)
    scene.looks(TODAY)
    assert len(scene.session.letters) == 1
    scene.looks(TODAY + timedelta(days=1))
    assert scene.session.letters[0] == scene.session.letters[1]


def test_a_refusal_stops_no_desk(scene: Scene) -> None:
    scene.session.fails = Refused("overtaken", "Other keys.")
    scene.looks(TODAY)
    assert (scene.failed, len(scene.desk.keys)) == (["overtaken"], 5)


def test_keys_are_destroyed_when_the_feed_is_empty_and_the_hubs_word_is_fresh(scene: Scene) -> None:
    scene.looks(TODAY)
    scene.home.signed(scene.letter, TODAY)
    scene.begin()
    over = MONDAY + GRACE
    scene.rests()
    assert len(scene.home.ring().opening(over)) == 5, "nothing is known yet"
    scene.looks(over, fresh=False)
    scene.rests()
    kept = len(scene.desk.keys)
    scene.looks(over)
    assert len(scene.desk.keys) == kept, "the feed may hold what they open"
    scene.day = over + timedelta(days=1)
    scene.rests()
    assert len(scene.desk.keys) == kept, "the clock went on, and the hub was not asked"
    scene.looks(over)
    scene.rests()
    assert len(scene.desk.keys) == kept - 1
    assert "destroyed" in scene.told[-1]
    assert scene.home.first.raw not in Home.ring(scene.home)._member.vault.secrets.values()


def test_the_office_is_told_before_its_last_key_and_once_each_time(scene: Scene) -> None:
    scene.looks(TODAY)
    scene.home.signed(scene.letter, TODAY)
    scene.begin()
    last = MONDAY + 3 * WEEK
    for day in (last - timedelta(days=15), last - timedelta(days=14), last - timedelta(days=14), last):
        scene.looks(day)
    assert [line.partition(" until")[0] for line in scene.told] == [
        "unrcca has 14 days",
        "unrcca uses the last of its opening keys,",
    ]


def test_who_is_not_in_the_roster_makes_no_keys(scene: Scene) -> None:
    scene.home.office = scene.home.office.model_copy(update={"id": "another"})
    scene.looks(TODAY)
    assert scene.session.letters == []
