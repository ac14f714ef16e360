"""Admission: who comes in, under which keys, and in which list."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from kengele_node.coordinator.admission import admit, list_area
from kengele_node.coordinator.documents import first
from kengele_schemas.areas import Areas, AreasFile
from kengele_schemas.cards import CoordinatorCard
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.fields import read
from kengele_schemas.keys import new_signing_key
from kengele_schemas.nkeys import KeyPair
from kengele_testing.values import KEYS, TODAY
from unit.node.test_documents import HUB_CARD, WORLD, founded, gone, let_in, monitor, office, trusted


class TestAdmission:
    def test_lets_a_monitor_in_for_a_year(self) -> None:
        request = monitor("KG-O", "KG-B")
        after = let_in(founded("KG"), request)
        entry = trusted(after).monitors[request.member]
        assert (entry.areas, entry.status) == (("KG-O", "KG-B"), "active")
        assert (entry.not_before, entry.not_after) == (TODAY, date(2027, 11, 24))
        assert after["connections.json"]["connections"][-1] == {
            "nkey": request.nkey,
            "role": "monitor",
            "member": request.member,
        }
        assert after["offices.json"] == founded("KG")["offices.json"]

    def test_lets_an_office_in_with_its_keys(self) -> None:
        request = office("unrcca", "KG", "TJ")
        found = trusted(let_in(founded("KG", "TJ"), request))
        entry = found.offices.get("unrcca")
        assert entry is not None
        assert (entry.name, entry.areas, entry.status) == ("UNRCCA", ("KG", "TJ"), "active")
        assert found.offices.public("unrcca", TODAY) == KEYS["unrcca"].public
        assert found.monitors == {}

    def test_touches_only_the_documents_it_changes(self) -> None:
        before = let_in(founded("KG", "SD"), office(), monitor("SD-KH"))
        assert set(admit(before, [monitor("KG-O")], WORLD, TODAY)) == {"connections.json", "monitors/KG.json"}
        assert set(admit(before, [office("cso")], WORLD, TODAY)) == {"connections.json", "offices.json"}
        assert admit(before, [], WORLD, TODAY) == {}

    def test_adds_to_the_list_that_there_is(self) -> None:
        one, two = monitor("KG-O"), monitor("KG-B")
        after = let_in(let_in(founded("KG"), one), two)
        assert [entry["kid"] for entry in after["monitors/KG.json"]["monitors"]] == [one.member, two.member]
        assert len(trusted(after).monitors) == 2

    def test_lets_several_in_at_once(self) -> None:
        after = let_in(founded("KG"), office(), monitor(), office("cso"), monitor())
        found = trusted(after)
        assert (len(found.monitors), found.offices.active) == (2, ("cso", "unrcca"))

    def test_puts_an_office_into_its_groups_and_makes_those_that_are_new(self) -> None:
        after = let_in(founded("KG"), office(), office("cso"), groups={"unrcca": ["un"], "cso": ["un", "civil"]})
        members = trusted(after).offices.members
        assert members("group:un") == {"unrcca", "cso"}
        assert members("group:civil") == {"cso"}
        after = let_in(after, office("unoca"), groups={"unoca": ["un"]})
        assert trusted(after).offices.members("group:un") == {"unrcca", "cso", "unoca"}

    def test_refuses_a_group_for_who_does_not_join(self) -> None:
        before = let_in(founded("KG"), office())
        with pytest.raises(Malformed) as caught:
            admit(before, [office("cso")], WORLD, TODAY, groups={"cso": ["un"], "cos": ["un"]})
        assert caught.value.sentence.startswith("cos is to be in a group")

    def test_refuses_who_is_in_already_by_key_or_by_name(self) -> None:
        key, nkey = new_signing_key(), KeyPair.generate("user")
        before = let_in(founded("KG"), office(), monitor(key=key, nkey=nkey))
        for request in (office(), monitor(key=key), monitor(nkey=nkey), office("cso", nkey=nkey)):
            with pytest.raises(Refused) as caught:
                admit(before, [request], WORLD, TODAY)
            assert caught.value.code == "already-admitted"
            assert caught.value.mend

    def test_refuses_one_who_asks_twice_at_once(self) -> None:
        nkey = KeyPair.generate("user")
        for requests in ([office(), office()], [monitor(nkey=nkey), monitor(nkey=nkey)]):
            with pytest.raises(Refused):
                admit(founded("KG"), requests, WORLD, TODAY)

    def test_refuses_a_coordinators_key_for_a_member(self) -> None:
        nkey = KeyPair.generate("user")
        before = first("Bell", HUB_CARD, [CoordinatorCard.of(new_signing_key(), nkey)], "unrcca", ["KG"])
        with pytest.raises(Refused):
            admit(before, [monitor(nkey=nkey)], WORLD, TODAY)

    def test_refuses_who_was_removed(self) -> None:
        """The hub keeps a removed key out for ever: who is admitted with it would be a member and never get in."""
        key, nkey, other = new_signing_key(), KeyPair.generate("user"), KeyPair.generate("user")
        monitors, offices = monitor(key=key, nkey=nkey), office(nkey=other)
        before = let_in(founded("KG"), monitors, offices)
        before = gone(gone(before, monitors.member), "unrcca")
        for request in (monitors, monitor(key=key), monitor(nkey=nkey), offices, office(), office("cso", nkey=other)):
            with pytest.raises(Refused) as caught:
                admit(before, [request], WORLD, TODAY)
            assert caught.value.code == "already-admitted"
        assert trusted(let_in(before, monitor(), office("unrcca-2"))).offices.active == ("unrcca-2",)

    def test_refuses_an_area_that_the_network_does_not_know_and_names_the_nearest(self) -> None:
        for request in (monitor("KG-O", "KG-OO"), office("unrcca", "KG-OO")):
            with pytest.raises(Refused) as caught:
                admit(founded("KG"), [request], WORLD, TODAY)
            assert caught.value.code == "unknown-area"
            assert "KG-O" in caught.value.mend


@pytest.mark.parametrize(
    ("areas", "listed"),
    [
        (("KG-O",), "KG"),
        (("KG",), "KG"),
        (("KG-O", "KG-B"), "KG"),
        (("SD-KH",), "SD"),
        (("KG-B", "TJ-SU"), "XB-FERGANA"),
        (("KG-B", "UZ-FA", "TJ-SU"), "XB-FERGANA"),
        (("XB-FERGANA",), "XB-FERGANA"),
    ],
)
def test_a_monitor_stands_in_the_smallest_list_that_covers_her(areas: tuple[str, ...], listed: str) -> None:
    assert list_area(areas, WORLD) == listed
    request = monitor(*areas)
    after = let_in(founded(), request)
    assert after[f"monitors/{listed}.json"]["area"] == listed
    assert request.member in trusted(after).monitors


def test_a_monitor_whom_no_one_area_covers_is_not_listed() -> None:
    rows: list[dict[str, Any]] = [
        {"code": code, "name": code, "kind": "country", "parents": []} for code in ("AA", "BB")
    ]
    areas = Areas(read(AreasFile, {"areas": rows}))
    with pytest.raises(Refused) as caught:
        list_area(("AA", "BB"), areas)
    assert caught.value.code == "no-common-area"
