"""Working drafts: kept over a crash, never overwritten unseen, and put upon what came into force meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kengele_node.coordinator.drafts import Drafts, Working, rebased
from kengele_node.rows import KEY, RowCipher
from kengele_schemas.errors import Damaged, Refused
from kengele_schemas.fields import read
from kengele_schemas.policy import Rule


def rule(id: str, reason: str = "test") -> Rule:
    value: dict[str, Any] = {"id": id, "forbid": ["place"], "to": ["group:government"], "reason": reason}
    return read(Rule, value)


ONE, TWO, THREE = (rule(name) for name in ("one", "two", "three"))


def drafts(directory: Path) -> Drafts:
    return Drafts(directory / "drafts.db", RowCipher(bytes(KEY), "drafts"))


def test_a_draft_is_there_again_after_the_process_is_gone(tmp_path: Path) -> None:
    drafts(tmp_path).save("policy.json", Working(4, (ONE,), (ONE, TWO)), revision=0)
    again = drafts(tmp_path).get("policy.json")
    assert again == Working(4, (ONE,), (ONE, TWO), 1)
    assert drafts(tmp_path).get("policy/KG.json") is None
    assert b"government" not in (tmp_path / "drafts.db").read_bytes()


def test_two_windows_overwrite_nothing_of_each_other(tmp_path: Path) -> None:
    store = drafts(tmp_path)
    first = store.save("policy.json", Working(4, (), (ONE,)), revision=0)
    second = store.save("policy.json", Working(4, (), (ONE, TWO)), revision=first.revision)
    for seen in (first.revision, 0):
        with pytest.raises(Refused) as caught:
            store.save("policy.json", first, revision=seen)
        assert caught.value.code == "changed-meanwhile"
    with pytest.raises(Refused):
        store.discard("policy.json", revision=first.revision)
    assert store.get("policy.json") == second
    store.discard("policy.json", revision=second.revision)
    assert store.get("policy.json") is None
    store.discard("policy.json", revision=second.revision)
    assert store.save("policy.json", first, revision=0).revision == 1


def test_a_draft_under_another_key_is_damage_and_no_rules(tmp_path: Path) -> None:
    drafts(tmp_path).save("policy.json", Working(4, (), (ONE,)), revision=0)
    with pytest.raises(Damaged):
        Drafts(tmp_path / "drafts.db", RowCipher(bytes([1]) * KEY, "drafts")).get("policy.json")


def test_what_one_side_changed_is_taken_and_what_both_changed_is_told() -> None:
    working = Working(4, (ONE, TWO, THREE), (ONE, rule("two", "mine"), rule("new")), 7)
    in_force = (rule("one", "theirs"), rule("two", "theirs"), THREE, rule("other"))
    put, both = rebased(working, in_force, 5)
    assert both == ["two"]
    assert put.base == 5
    assert put.began == in_force
    assert put.revision == 7
    assert {one.id: one.reason for one in put.rules} == {"one": "theirs", "two": "mine", "new": "test", "other": "test"}


RULES = st.lists(st.builds(rule, st.sampled_from("abcd"), st.sampled_from("xyz")), unique_by=lambda one: one.id).map(
    tuple
)


@given(RULES, RULES, RULES)
def test_nothing_is_lost_and_nothing_invented_when_a_draft_is_put_upon_newer_rules(
    began: tuple[Rule, ...], mine: tuple[Rule, ...], theirs: tuple[Rule, ...]
) -> None:
    put, both = rebased(Working(1, began, mine), theirs, 2)
    names = [one.id for one in put.rules]
    assert len(names) == len(set(names))
    assert set(put.rules) <= {*mine, *theirs}
    assert rebased(Working(1, began, mine), began, 2)[0].rules == tuple(
        sorted(mine, key=lambda one: [*dict.fromkeys([*(r.id for r in began), *(r.id for r in mine)])].index(one.id))
    )
    assert set(rebased(Working(1, began, began), theirs, 2)[0].rules) == set(theirs)
    for name in both:
        assert {one for one in put.rules if one.id == name} == {one for one in mine if one.id == name}
