"""Standing: who is suspended comes back, who is removed does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from kengele_node.coordinator.describing import describe
from kengele_node.coordinator.documents import adopt
from kengele_node.coordinator.standing import remove, restore, suspend
from kengele_schemas.errors import Refused
from kengele_schemas.nkeys import KeyPair
from kengele_testing.values import forbid, grant
from unit.node.test_documents import COORDINATORS, founded, gone, let_in, monitor, office, rules, trusted


class TestRemoval:
    def test_keeps_a_monitors_keys_out_and_her_entry_readable(self) -> None:
        one, other = monitor(), monitor()
        before = let_in(founded("KG"), office(), one, other)
        after = gone(before, one.member)
        found = trusted(after)
        assert {kid: entry.status for kid, entry in found.monitors.items()} == {
            one.member: "revoked",
            other.member: "active",
        }
        assert after["connections.json"]["revoked"] == [{"nkey": one.nkey, "at": 1_780_000_000}]
        assert [row["member"] for row in after["connections.json"]["connections"]] == [
            row["member"] for row in before["connections.json"]["connections"] if row["member"] != one.member
        ]

    def test_gives_an_office_nothing_more(self) -> None:
        before = let_in(founded("KG"), office(), office("cso"), groups={"unrcca": ["un"]})
        before |= adopt(before, rules(grant(to=["office:unrcca", "office:cso"]), forbid(to=["group:un"])))
        found = trusted(gone(before, "unrcca"))
        assert found.offices.active == ("cso",)
        assert found.offices.get("unrcca") is not None

    def test_takes_a_coordinators_connection(self) -> None:
        after = gone(founded("KG"), COORDINATORS[0].id)
        assert after["connections.json"]["revoked"] == [{"nkey": COORDINATORS[0].nkey, "at": 1_780_000_000}]
        assert len(after["connections.json"]["connections"]) == 2

    def test_takes_every_key_of_a_member(self) -> None:
        before = let_in(founded("KG"), office())
        second = {"nkey": KeyPair.generate("user").public, "role": "office", "member": "unrcca"}
        before["connections.json"]["connections"].append(second)
        after = gone(before, "unrcca")
        assert len(after["connections.json"]["revoked"]) == 2
        assert not any(row["member"] == "unrcca" for row in after["connections.json"]["connections"])

    def test_adds_to_who_was_removed_before(self) -> None:
        one, other = monitor(), monitor()
        after = gone(gone(let_in(founded("KG"), one, other), one.member), other.member)
        assert [row["nkey"] for row in after["connections.json"]["revoked"]] == [one.nkey, other.nkey]

    def test_touches_only_the_documents_it_changes(self) -> None:
        one = monitor("KG-O")
        before = let_in(founded("KG", "SD"), office(), one, monitor("SD-KH"))
        assert set(remove(before, one.member, 1)) == {"connections.json", "monitors/KG.json"}
        assert set(remove(before, "unrcca", 1)) == {"connections.json", "offices.json"}

    @pytest.mark.parametrize("member", ["", "m-nobody", "office:unrcca", "un"])
    def test_of_nobody_is_refused(self, member: str) -> None:
        with pytest.raises(Refused) as caught:
            remove(let_in(founded("KG"), office()), member, 1)
        assert caught.value.code == "no-such-member"

    def test_is_done_once(self) -> None:
        after = gone(let_in(founded("KG"), office()), "unrcca")
        with pytest.raises(Refused):
            remove(after, "unrcca", 1)


class TestSuspension:
    def test_keeps_a_member_in_and_gives_it_nothing_until_it_is_restored(self) -> None:
        one = monitor()
        before = let_in(founded("KG"), office(), office("cso"), one)
        for member, path in ((one.member, "monitors/KG.json"), ("cso", "offices.json")):
            assert set(suspend(before, member)) == {path}
            after = {**before, **suspend(before, member)}
            found = trusted(after)
            assert found.offices.active == (("cso", "unrcca") if member != "cso" else ("unrcca",))
            assert found.monitors[one.member].status == ("suspended" if member == one.member else "active")
            back = {**after, **restore(after, member)}
            assert trusted(back).offices.active == ("cso", "unrcca")
            assert trusted(back).monitors[one.member].status == "active"

    def test_is_told_before_it_is_signed(self) -> None:
        one = monitor()
        before = let_in(founded("KG"), office(), one)
        held = {**before, **suspend(before, "unrcca"), **suspend(before, one.member)}
        # Three acts that differ in what becomes of people: none may pass for another, nor one member for another.
        for who, name in (("Office unrcca", "unrcca"), (f"Monitor in KG {one.member}", one.member)):
            suspended, restored = (describe(was, work(was, name)) for was, work in ((before, suspend), (held, restore)))
            removed, removed_later = (describe(was, gone(was, name)) for was in (before, held))
            assert suspended == [f"{who}: is suspended; before, it was active."]
            assert restored == [f"{who}: is restored to active; before, it was suspended."]
            assert f"{who}: is revoked for good; before, it was active." in removed
            assert f"{who}: is revoked for good; before, it was suspended." in removed_later

    @pytest.mark.parametrize("work", [suspend, restore])
    def test_does_not_bring_back_who_was_removed_nor_find_who_is_not_there(
        self, work: Callable[[Mapping[str, Any], str], dict[str, Any]]
    ) -> None:
        one = monitor()
        after = gone(gone(let_in(founded("KG"), office(), one), one.member), "unrcca")
        for member in (one.member, "unrcca", "nobody", COORDINATORS[0].id):
            with pytest.raises(Refused) as caught:
                work(after, member)
            assert caught.value.code == "no-such-member"

    def test_is_not_undone_where_there_is_none(self) -> None:
        before = let_in(founded("KG"), office())
        with pytest.raises(Refused):
            restore(before, "unrcca")
        with pytest.raises(Refused):
            suspend({**before, **suspend(before, "unrcca")}, "unrcca")
