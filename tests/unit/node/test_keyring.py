"""The keyring: keys are made ahead, kept while reports may be on their way, and then gone."""

from __future__ import annotations

import hashlib
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from kengele_node.member import Member
from kengele_node.office.keyring import Keyring
from kengele_node.vault import make_key_file
from kengele_schemas.cards import NetworkCard
from kengele_schemas.encoding import b64u, unb64u
from kengele_schemas.envelope import TENSION_REPORT, parse
from kengele_schemas.errors import CannotOpen, Damaged
from kengele_schemas.fields import read
from kengele_schemas.keys import X25519, OpeningKey
from kengele_schemas.roster import Office, OfficeKey
from kengele_schemas.rotation import GRACE, WEEK, OfficeKeys
from kengele_schemas.sealing import Reader, open_envelope, seal
from kengele_testing.values import KID, MONITOR

TODAY = date(2026, 11, 25)
MONDAY = date(2026, 11, 30)


class Home:
    """An office at home, and its entry in the roster."""

    def __init__(self, directory: Path) -> None:
        self.lock = make_key_file(directory / "key")
        self.first = OpeningKey.generate(X25519)
        self.member = Member.create(
            directory / "desk", self.lock, "office", {"id": "unrcca"}, (self.first,), card=_card()
        )
        sign = b64u(bytes(self.member.key.verify_key))
        keys = (_listed(self.first),)
        self.office = Office(id="unrcca", name="UNRCCA", areas=("KG",), keys=keys, sign=sign)

    def ring(self) -> Keyring:
        """As it is found on the disk."""
        self.member = Member.open(self.member.home, self.lock, "office")
        return Keyring(self.member)

    def says(self, today: date, weeks: int = 4, **how: Any) -> OfficeKeys:
        said = self.ring().statement(self.office, today, weeks, **how)
        assert said is not None
        said.check(self.office, self.member.card.root_digest)
        return said

    def signed(self, said: OfficeKeys, today: date) -> None:
        """The coordinators have taken it in, and the desk has seen it."""
        self.office = self.office.model_copy(update={"keys": said.keys, "vouched": said.signature})
        self.ring().learn(self.office, today)

    def sealed(self, day: date) -> bytes:
        """A report that somebody seals on ``day``."""
        key = next(key for key in self.office.keys if key.holds(day)).public()
        claims = {"kid": KID, "id": "0" * 22, "pol": 1}
        return seal(TENSION_REPORT, claims, {"summary": "x"}, [Reader("unrcca", key, 2)], MONITOR)

    def opens(self, data: bytes, today: date) -> bool:
        try:
            open_envelope(parse(data), "unrcca", self.ring().opening(today), bytes(MONITOR.verify_key))
        except CannotOpen:
            return False
        return True


def _card() -> NetworkCard:
    root = b64u(b"{}")
    join = {"jwt": "x", "seed": "SU" + "A" * 56}
    digest = b64u(hashlib.sha256(unb64u(root)).digest())
    return read(
        NetworkCard,
        {"name": "Test", "urls": ["tls://x.example"], "join": join, "root": root, "root_digest": digest},
    )


def _listed(key: OpeningKey) -> Any:
    return OfficeKey(**key.public.document())


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_keys_are_made_for_the_weeks_to_come_and_the_last_has_no_end(home: Home) -> None:
    said = home.says(TODAY)
    assert [key.not_before for key in said.keys] == [MONDAY + n * WEEK for n in (3, 2, 1, 0)] + [None]
    assert [key.not_after is None for key in said.keys] == [True, False, False, False, False]
    assert {key.suite for key in said.keys} == {X25519}
    assert len(home.ring().opening(TODAY)) == 5


def test_the_same_is_said_until_it_is_taken_in_and_then_nothing(home: Home) -> None:
    said = home.says(TODAY)
    assert home.says(TODAY) == said
    assert len(home.says(TODAY, 2).keys) == 3
    assert len(home.ring().opening(TODAY)) == 5, "a shorter statement makes no keys of its own"
    home.signed(said, TODAY)
    assert home.ring().statement(home.office, TODAY) is None
    assert home.says(MONDAY).keys[0].not_before == MONDAY + 4 * WEEK


def test_keys_made_for_weeks_that_have_passed_are_used_for_others(home: Home) -> None:
    made = {key.key for key in home.says(TODAY).keys}
    later = home.says(TODAY + 10 * WEEK)
    assert {key.key for key in later.keys} == made


def test_at_once_holds_from_today_on_and_is_said_until_it_does(home: Home) -> None:
    home.signed(home.says(TODAY), TODAY)
    assert not home.ring().hurried(home.office, TODAY)
    said = home.says(TODAY, 1, at_once=True)
    assert [key.not_before for key in said.keys] == [MONDAY, TODAY, None]
    assert home.ring().hurried(home.office, TODAY)
    assert home.says(TODAY + timedelta(days=1)).keys[-1].not_after == TODAY
    home.signed(said, TODAY)
    assert not home.ring().hurried(home.office, TODAY)


def test_what_was_sealed_for_last_weeks_key_opens_after_the_change_and_until_the_grace_is_over(home: Home) -> None:
    home.signed(home.says(TODAY), TODAY)
    sunday = MONDAY - timedelta(days=1)
    before, after = home.sealed(sunday), home.sealed(MONDAY)
    last = sunday + GRACE
    assert home.ring().destroy(last) == 0
    assert home.opens(before, last)
    assert home.opens(after, last)
    assert home.ring().destroy(last + timedelta(days=1)) == 1
    assert not home.opens(before, last)
    assert home.opens(after, last)


def test_the_private_half_is_gone_from_the_vault(home: Home) -> None:
    home.signed(home.says(TODAY), TODAY)
    assert home.ring().destroy(MONDAY + GRACE) == 1
    found = Member.open(home.member.home, home.lock, "office").vault.secrets
    assert home.first.raw not in found.values()
    assert f"open.{X25519}" not in found


def test_an_end_counts_from_the_day_it_was_seen(home: Home) -> None:
    said = home.says(TODAY)
    seen = MONDAY + 3 * WEEK
    home.signed(said, seen)
    assert home.ring().destroy(seen + GRACE) == 0
    assert home.ring().destroy(seen + GRACE + timedelta(days=1)) == 4
    assert len(home.ring().opening(seen)) == 1


def test_the_last_key_of_the_roster_is_kept_for_good_and_so_are_those_that_wait(home: Home) -> None:
    home.signed(home.says(TODAY), TODAY)
    home.says(MONDAY)
    assert home.ring().destroy(TODAY + timedelta(days=3650)) == 4
    assert len(home.ring().opening(TODAY)) == 2
    home.ring().learn(home.office, TODAY + timedelta(days=3650))
    assert home.opens(home.sealed(TODAY + timedelta(days=3650)), TODAY)


def test_a_key_that_vanished_from_the_roster_ends_when_that_is_seen(home: Home) -> None:
    home.signed(home.says(TODAY), TODAY)
    other = _listed(OpeningKey.generate(X25519))
    home.office = home.office.model_copy(update={"keys": (other,)})
    home.ring().learn(home.office, MONDAY)
    assert home.ring().destroy(MONDAY + GRACE) == 1, "the first, whose last day was known before"
    assert home.ring().destroy(MONDAY + 4 * WEEK + GRACE) == 4


def test_the_key_in_use_is_tried_first(home: Home) -> None:
    said = home.says(TODAY)
    home.signed(said, TODAY)
    order = [b64u(key.public.raw) for key in home.ring().opening(MONDAY + timedelta(days=8))]
    by_day = [key.key for key in reversed(said.keys)]
    assert order == [by_day[2], by_day[1], by_day[0], by_day[3], by_day[4]]


def test_days_that_cannot_be_read_destroy_nothing(home: Home) -> None:
    home.member.remember("opening", b'{"x":1}')
    with pytest.raises(Damaged):
        home.ring()
