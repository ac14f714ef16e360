"""Rotating: a member's own word changes the member's own keys, and who signs is told whose word it is."""

from __future__ import annotations

from typing import Any

import pytest
from nacl.signing import SigningKey

from kengele_node.coordinator import letters, rotating
from kengele_node.coordinator.documents import describe
from kengele_schemas.encoding import b64u
from kengele_schemas.errors import KengeleError
from kengele_schemas.fields import read
from kengele_schemas.roster import Office
from kengele_schemas.rotation import OfficeKeys, followed
from kengele_testing.values import HUB, TODAY, documents, grant
from unit.schemas.test_rotation import NETWORK, PUBLIC, weeks

BEFORE = documents(grant())
FORGER = SigningKey(b"f" * 32)


def office(made: dict[str, Any], id: str = "unrcca") -> Office:
    return next(read(Office, row) for row in made["offices.json"]["offices"] if row["id"] == id)


def statement(of: dict[str, Any] = BEFORE, *, key: SigningKey = HUB, id: str = "unrcca") -> OfficeKeys:
    was = office(of, id)
    return OfficeKeys.of(was, followed(was.keys, weeks(2), TODAY), NETWORK, key)


def told(after: dict[str, Any], network: str = NETWORK) -> str:
    return "\n".join(describe(BEFORE, after, network))


def test_an_offices_keys_take_the_place_of_its_own_and_of_nobody_elses() -> None:
    after = rotating.take_keys(BEFORE, statement(), NETWORK)
    assert set(after) == {"offices.json"}
    assert office(after).keys == statement().keys
    changed = [row["id"] for row in after["offices.json"]["offices"] if row not in BEFORE["offices.json"]["offices"]]
    assert changed == ["unrcca"]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (statement(key=FORGER), "bad-card"),
        (statement().model_copy(update={"office": "cso"}), "bad-card"),
        (statement().model_copy(update={"office": "nobody"}), "no-such-member"),
        (statement(documents(grant(), offices=None), id="unrcca").model_copy(update={"network": "A" * 43}), "bad-card"),
    ],
)
def test_nobody_elses_word_changes_an_offices_keys(said: OfficeKeys, code: str) -> None:
    with pytest.raises(KengeleError) as caught:
        rotating.take_keys(BEFORE, said, NETWORK)
    assert caught.value.code == code


def test_a_statement_that_was_taken_in_does_nothing_again() -> None:
    after = {**BEFORE, **rotating.take_keys(BEFORE, statement(), NETWORK)}
    with pytest.raises(KengeleError, match="not those") as caught:
        rotating.take_keys(after, statement(), NETWORK)
    assert caught.value.code == "overtaken"


def test_who_signs_is_told_that_the_office_says_so_itself_and_from_when_its_keys_hold() -> None:
    said = told(rotating.take_keys(BEFORE, statement(), NETWORK))
    assert "Office unrcca: its new keys are signed by the office itself." in said
    assert "from 2026-11-30 to 2026-12-06" in said
    assert "NOT SIGNED" not in said


def test_who_signs_is_told_loudly_where_the_office_does_not_say_so() -> None:
    after = rotating.take_keys(BEFORE, statement(), NETWORK)
    rows = after["offices.json"]["offices"]
    (row,) = [row for row in rows if row["id"] == "unrcca"]
    forged = {**row, "keys": [PUBLIC[9].document(), *row["keys"]]}
    for made in (
        {"offices.json": {"v": 1, "offices": [forged if one is row else one for one in rows], "groups": {}}},
        {"offices.json": {"v": 1, "offices": [{**one, "vouched": None} for one in rows], "groups": {}}},
        {"offices.json": {"v": 1, "offices": [{**one, "vouched": "A" * 86} for one in rows], "groups": {}}},
        {"offices.json": {"v": 1, "offices": [{**one, "vouched": 7} for one in rows], "groups": {}}},
    ):
        assert "Office unrcca: ITS KEYS CHANGE, AND IT HAS NOT SIGNED THAT." in told(made)
    assert "NOT SIGNED" in told(after, b64u(b"x" * 32)), "another network's statement"
    assert "NOT SIGNED" in told(after, "")


class TestLetters:
    def test_a_letter_is_judged_by_its_signature_whatever_the_hub_says_of_it(self) -> None:
        card = statement().model_dump(mode="json", exclude_none=True)
        found = letters.judged("office", "unrcca", "now", card, BEFORE, NETWORK)
        assert (found.card, found.code) == (statement(), "")
        assert found.says() == "opening keys from 2026-11-30, 2026-12-07 on"
        for role, member, given, code in (
            ("office", "cso", card, "bad-card"),
            ("monitor", "unrcca", card, "bad-card"),
            ("office", "unrcca", {**card, "network": "A" * 43}, "bad-card"),
            ("office", "unrcca", None, "bad-card"),
            ("office", "unrcca", {}, "bad-card"),
        ):
            judged = letters.judged(role, member, "now", given, BEFORE, NETWORK)
            assert (judged.card, judged.code) == (None, code)
            assert judged.document()["trouble"] == code

    def test_a_renewal_takes_what_holds_and_leaves_out_the_rest(self, capsys: pytest.CaptureFixture[str]) -> None:
        found = [
            letters.Letter("office", "unrcca", "", statement()),
            letters.Letter("office", "unrcca", "", statement()),
        ]
        after = letters.renewed(BEFORE, found, NETWORK)
        assert office(after).keys == statement().keys
        assert "left out (overtaken)" in capsys.readouterr().err

    def test_letters_of_two_offices_go_into_one_draft(self) -> None:
        cards = [statement(), statement(id="cso")]
        after = letters.take(BEFORE, cards, NETWORK)
        assert [office(after, id).keys for id in ("unrcca", "cso")] == [card.keys for card in cards]
