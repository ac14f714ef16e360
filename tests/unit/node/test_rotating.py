"""Rotating: a member's own word changes the member's own keys, and who signs is told whose word it is."""

from __future__ import annotations

from typing import Any

import pytest
from nacl.signing import SigningKey

from kengele_node.coordinator import letters, rotating
from kengele_node.coordinator.describing import describe
from kengele_node.coordinator.standing import remove, restore, suspend
from kengele_schemas.areas import Areas, AreasFile
from kengele_schemas.encoding import b64u
from kengele_schemas.errors import KengeleError
from kengele_schemas.fields import read
from kengele_schemas.keys import monitor_id
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.roster import Monitor, MonitorsFile, Office, check_monitors
from kengele_schemas.rotation import GRACE, Epoch, Lineage, OfficeKeys, followed
from kengele_testing.values import AREAS, HUB, KID, MONITOR, TODAY, documents, grant, monitor
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


NEW, THIRD = SigningKey(b"w" * 32), SigningKey(b"t" * 32)
NKEY, OTHER = (KeyPair.generate("user").public for _ in range(2))


def with_line(made: dict[str, Any]) -> dict[str, Any]:
    rows = [{"nkey": NKEY, "role": "monitor", "member": KID}, {"nkey": OTHER, "role": "office", "member": "unrcca"}]
    return {**made, "connections.json": {"v": 1, "connections": rows, "revoked": []}}


LINED = with_line(BEFORE)


def rotated(before: dict[str, Any], old: SigningKey = MONITOR, new: SigningKey = NEW) -> dict[str, Any]:
    return {**before, **rotating.take_epoch(before, Epoch.of(old, new, NETWORK), NETWORK, TODAY)}


def monitors(made: dict[str, Any]) -> dict[str, Monitor]:
    check_monitors(read(MonitorsFile, made["monitors/KG.json"]), "KG", Areas(read(AreasFile, AREAS)))
    return {row["kid"]: read(Monitor, row) for row in made["monitors/KG.json"]["monitors"]}


def kid(key: SigningKey) -> str:
    return monitor_id(bytes(key.verify_key))


class TestEpochs:
    def test_the_next_name_takes_over_the_line_and_the_old_one_ends_with_the_grace(self) -> None:
        after = rotated(LINED)
        found = monitors(after)
        assert found[KID].not_after == TODAY + GRACE
        assert (found[kid(NEW)].not_before, found[kid(NEW)].not_after) == (TODAY, TODAY + rotating.YEAR)
        assert found[kid(NEW)].areas == found[KID].areas
        assert Lineage(found, NETWORK).first(kid(NEW)) == KID
        lines = {row["nkey"]: row["member"] for row in after["connections.json"]["connections"]}
        assert lines == {NKEY: kid(NEW), OTHER: "unrcca"}
        both = monitors(rotated(after, NEW, THIRD))
        assert Lineage(both, NETWORK).first(kid(THIRD)) == KID

    def test_the_same_word_does_nothing_again_and_no_second_key_follows(self) -> None:
        after = rotated(LINED)
        for new in (NEW, THIRD):
            with pytest.raises(KengeleError) as caught:
                rotated(after, MONITOR, new)
            assert caught.value.code == "overtaken"

    def test_nobody_elses_word_gives_a_monitor_another_key(self) -> None:
        said = Epoch.of(FORGER, NEW, NETWORK)
        for forged in (said, said.model_copy(update={"after": KID})):
            with pytest.raises(KengeleError) as caught:
                rotating.take_epoch(LINED, forged, NETWORK, TODAY)
            assert caught.value.code in ("bad-card", "no-such-member")

    @pytest.mark.parametrize("status", ["revoked", "suspended"])
    def test_a_monitor_that_is_out_gets_no_other_key(self, status: str) -> None:
        out = with_line(documents(grant(), monitors=[monitor(status=status)]))
        with pytest.raises(KengeleError) as caught:
            rotated(out)
        assert caught.value.code == "not-active"

    @pytest.mark.parametrize("named", [0, 1, 2])
    def test_whoever_is_named_by_any_of_its_names_is_out_under_all(self, named: int) -> None:
        whole = rotated(rotated(LINED), NEW, THIRD)
        name = [KID, kid(NEW), kid(THIRD)][named]
        gone = {**whole, **remove(whole, name, 7)}
        assert {one.status for one in monitors(gone).values()} == {"revoked"}
        assert [row["member"] for row in gone["connections.json"]["connections"]] == ["unrcca"]
        assert [row["nkey"] for row in gone["connections.json"]["revoked"]] == [NKEY]
        held = {**whole, **suspend(whole, name)}
        assert {one.status for one in monitors(held).values()} == {"suspended"}
        assert monitors({**held, **restore(held, name)}) == monitors(whole)

    def test_who_signs_is_told_who_follows_whom_and_whether_that_one_says_so(self) -> None:
        after = rotated(LINED)
        said = "\n".join(describe(LINED, after, NETWORK))
        assert f"Monitor {kid(NEW)}: follows {KID}, as {KID}'s own key has signed." in said
        assert "NOT SIGNED" not in said
        # Nor is it told again of what was so before.
        assert "follows" not in "\n".join(describe(after, suspend(after, KID), NETWORK))
        rows = after["monitors/KG.json"]["monitors"]
        for forged in ({"handover": "A" * 86}, {"handover": None}, {"handover": 7}):
            made = {"monitors/KG.json": {"v": 1, "area": "KG", "monitors": [rows[0], {**rows[1], **forged}]}}
            assert f"TAKES THE PLACE OF {KID}, WHICH HAS NOT SIGNED" in "\n".join(describe(LINED, made, NETWORK))
        assert "NOT SIGNED" in "\n".join(describe(LINED, after, b64u(b"x" * 32)))

    def test_a_letter_of_a_monitor_is_its_next_key(self) -> None:
        card = Epoch.of(MONITOR, NEW, NETWORK).model_dump(mode="json", exclude_none=True)
        found = letters.judged("monitor", KID, "now", card, LINED, NETWORK)
        assert (found.code, found.says()) == ("", f"its next key, {kid(NEW)}")
        assert letters.judged("monitor", kid(THIRD), "now", card, LINED, NETWORK).code == "bad-card"
        assert letters.judged("office", KID, "now", card, LINED, NETWORK).code == "bad-card"


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
