"""The network's documents: a new network's, an area's own, what rules hold, and what is recalled."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import pytest
from nacl.signing import SigningKey

from kengele_node.coordinator import documents as documents_module
from kengele_node.coordinator.admission import admit
from kengele_node.coordinator.describing import describe
from kengele_node.coordinator.documents import adopt, first, hand_over, recall
from kengele_node.coordinator.standing import remove, suspend
from kengele_schemas.areas import Areas
from kengele_schemas.cards import CoordinatorCard, HubCard, Joiner, JoinRequest
from kengele_schemas.encoding import b64u
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.fields import read
from kengele_schemas.keys import new_signing_key
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.orders import mark_of
from kengele_schemas.policy import Rule
from kengele_schemas.trusted import Trusted, assemble
from kengele_testing.values import HUB, KEYS, NOW, TODAY, forbid, grant

WORLD = Areas.world()
COORDINATORS = [CoordinatorCard.of(new_signing_key(), KeyPair.generate("user")) for _ in range(3)]
KEY = b64u(bytes(HUB.verify_key))
HUB_CARD = HubCard(
    urls=("tls://hub.example.org:4222",),
    hub_key=KEY,
    snapshot_key=KEY,
    timestamp_key=KEY,
    log="kengele/test",
    join=Joiner(jwt="jwt", seed=KeyPair.generate("user").seed),
    token=b64u(bytes(16)),
)


def founded(*areas: str, **settings: Any) -> dict[str, Any]:
    return first("Bell", HUB_CARD, COORDINATORS, "unrcca", areas, **settings)


def monitor(*areas: str, key: SigningKey | None = None, nkey: KeyPair | None = None) -> JoinRequest:
    return JoinRequest.for_monitor(key or new_signing_key(), nkey or KeyPair.generate("user"), areas or ("KG-O",))


def office(id: str = "unrcca", *areas: str, nkey: KeyPair | None = None) -> JoinRequest:
    return JoinRequest.for_office(
        new_signing_key(),
        nkey or KeyPair.generate("user"),
        id=id,
        name=id.upper(),
        areas=areas or ("KG",),
        keys=(KEYS["unrcca"].public,),
    )


def let_in(before: Mapping[str, Any], *requests: JoinRequest, **options: Any) -> dict[str, Any]:
    """All documents after the admission; what was there before is checked to be as it was."""
    untouched = copy.deepcopy(before)
    changed = admit(before, requests, WORLD, TODAY, **options)
    assert before == untouched
    assert all(before.get(path) != document for path, document in changed.items())
    return {**before, **changed}


def gone(before: Mapping[str, Any], member: str) -> dict[str, Any]:
    untouched = copy.deepcopy(before)
    changed = remove(before, member, 1_780_000_000)
    assert before == untouched
    return {**before, **changed}


def trusted(documents: Mapping[str, Any]) -> Trusted:
    """What members make of the documents; raises where they do not fit each other."""
    return assemble(
        {path: json.dumps(value).encode() for path, value in documents.items()}, version=1, fresh=True, expires=NOW
    )


def rules(*documents: dict[str, Any]) -> list[Rule]:
    return [read(Rule, document) for document in documents]


class TestANewNetwork:
    def test_has_its_coordinators_and_nobody_else(self) -> None:
        found = trusted(founded("KG"))
        assert found.connections is not None
        assert [(row.role, row.member, row.nkey) for row in found.connections.connections] == [
            ("coordinator", card.id, card.nkey) for card in COORDINATORS
        ]
        assert (found.monitors, found.offices.active, found.policy.rules, found.policy.version) == ({}, (), (), 1)
        assert (found.network.name, found.network.custodian, found.network.log) == ("Bell", "unrcca", "kengele/test")

    def test_knows_its_areas_and_what_lies_in_and_above_them(self) -> None:
        areas = trusted(founded("KG", "SD-KH")).areas
        assert areas.known("KG-O")
        assert areas.known("SD")
        assert not areas.known("SD-DN")
        assert all(areas.known(code) for code in WORLD.ancestors("KG") | WORLD.below("KG"))

    def test_that_names_no_area_knows_the_world(self) -> None:
        assert {row.code for row in trusted(founded()).areas} == {row.code for row in WORLD}

    def test_takes_further_settings(self) -> None:
        assert trusted(founded("KG", reports_per_hour=7, header_level=0)).network.reports_per_hour == 7

    def test_of_an_area_that_does_not_exist_is_not_made(self) -> None:
        with pytest.raises(KeyError):
            founded("XX")


class TestAnAreaOfItsOwn:
    def handed(self) -> tuple[dict[str, Any], JoinRequest]:
        """Osh has coordinators of its own; a monitor of Kyrgyzstan's and one of Osh's are in the network."""
        before = let_in(founded("KG"), office(), monitor("KG-B"))
        before |= hand_over(before, "KG-O")
        one = monitor("KG-O")
        return let_in(before, one), one

    def test_takes_its_monitors_and_their_connections_over(self) -> None:
        one = monitor("KG-O")
        before = let_in(founded("KG"), office(), one)
        after = {**before, **hand_over(before, "KG")}
        trusted(after)
        assert [row["member"] for row in after["connections/KG.json"]["connections"]] == [one.member]
        assert one.member not in {row["member"] for row in after["connections.json"]["connections"]}
        assert after["policy/KG.json"]["rules"] == []
        assert hand_over(after, "KG")["connections/KG.json"] == after["connections/KG.json"]

    def test_lets_in_suspends_and_removes_by_its_own_documents(self) -> None:
        after, one = self.handed()
        own = {"monitors/KG-O.json", "connections/KG-O.json"}
        trusted(after)
        two = monitor("KG-O")
        admitted = admit(after, [two], WORLD, TODAY)
        assert set(admitted) == own
        assert admitted["connections/KG-O.json"]["connections"][-1]["asked"] == two.nkey_signature
        assert set(suspend(after, one.member)) == {"monitors/KG-O.json"}
        changed = remove(after, one.member, 5)
        assert set(changed) == own
        assert changed["connections/KG-O.json"]["revoked"] == [{"nkey": one.nkey, "at": 5}]
        trusted({**after, **changed})
        assert describe(after, changed)[0].startswith(f"Key {one.nkey} of monitor")

    def test_leaves_others_where_they_stand(self) -> None:
        after, _ = self.handed()
        assert set(admit(after, [monitor("KG-B")], WORLD, TODAY)) == {"monitors/KG.json", "connections.json"}
        assert set(admit(after, [monitor("KG-O", "KG-B")], WORLD, TODAY)) == {"monitors/KG.json", "connections.json"}

    def test_keeps_who_was_removed_there_out_everywhere(self) -> None:
        after, one = self.handed()
        after |= remove(after, one.member, 5)
        again = JoinRequest.for_monitor(new_signing_key(), KeyPair.generate("user"), ["KG-B"])
        with pytest.raises(Refused) as caught:
            admit(after, [again.model_copy(update={"nkey": one.nkey})], WORLD, TODAY)
        assert caught.value.code == "already-admitted"

    def test_has_rules_of_its_own(self) -> None:
        after, _ = self.handed()
        changed = adopt(after, rules(grant("ours", areas=["KG-O"], to=["office:unrcca"])), region="KG-O")
        assert set(changed) == {"policy/KG-O.json"}
        assert changed["policy/KG-O.json"]["version"] == 2
        assert trusted({**after, **changed}).rules_version == trusted(after).rules_version + 1

    def test_is_an_area_of_the_network(self) -> None:
        with pytest.raises(Refused) as caught:
            hand_over(founded("KG"), "SD-KH")
        assert caught.value.code == "unknown-area"


class TestRules:
    def test_take_the_place_of_all_before_as_the_next_version(self) -> None:
        before = let_in(founded("KG"), office(), office("cso"))
        before |= adopt(before, rules(grant("one"), grant("two")))
        changed = adopt(before, rules(grant("two"), forbid("three", to=["office:cso"])))
        assert set(changed) == {"policy.json"}
        found = trusted({**before, **changed}).policy
        assert (found.version, [rule.id for rule in found.rules]) == (3, ["two", "three"])
        assert list(found.rules) == rules(grant("two"), forbid("three", to=["office:cso"]))

    def test_leave_the_oldest_version_that_is_taken_unless_told(self) -> None:
        before = founded("KG")
        before |= adopt(before, [], refuse_below=2)
        assert before["policy.json"]["refuse_below"] == 2
        before |= adopt(before, [])
        assert (before["policy.json"]["refuse_below"], before["policy.json"]["version"]) == (2, 3)
        assert adopt(before, [], refuse_below=0)["policy.json"]["refuse_below"] == 0

    @pytest.mark.parametrize(("below", "passes"), [(2, True), (3, False)])
    def test_are_not_adopted_if_nothing_could_be_sealed_under_them(self, below: int, passes: bool) -> None:
        before = founded("KG")
        if passes:
            assert trusted({**before, **adopt(before, [], refuse_below=below)}).policy.refuse_below == below
            return
        with pytest.raises(Malformed) as caught:
            adopt(before, [], refuse_below=below)
        assert caught.value.code == "bad-field"


class TestRecall:
    ID, OTHER = b64u(b"1" * 16), b64u(b"2" * 16)

    def test_names_a_report_by_its_mark_alone(self) -> None:
        made = recall({}, self.ID, keep=["summary", "account"], reason="safety")
        row = {"mark": mark_of(self.ID), "keep": ["account", "summary"], "reason": "safety"}
        assert made == {"recalls.json": {"v": 1, "recalls": [row]}}

    def test_is_one_more_and_can_be_made_stricter(self) -> None:
        made = recall({}, self.ID, keep=["summary", "account"])
        made = recall(made, self.OTHER)
        made = recall(made, self.ID, keep=["account"])
        rows = sorted([{"mark": mark_of(self.ID), "keep": ["account"]}, {"mark": mark_of(self.OTHER)}], key=str)
        assert sorted(made["recalls.json"]["recalls"], key=str) == rows

    @pytest.mark.parametrize(
        ("before", "after", "code"),
        [
            ([], [], "already-recalled"),
            (["summary"], ["summary"], "already-recalled"),
            (["summary"], ["account", "summary"], "gives-back"),
            (["summary"], ["account"], "gives-back"),
            ([], ["summary"], "gives-back"),
        ],
    )
    def test_gives_nothing_back(self, before: list[str], after: list[str], code: str) -> None:
        with pytest.raises(Refused) as caught:
            recall(recall({}, self.ID, keep=before), self.ID, keep=after, reason="error")
        assert caught.value.code == code
        assert ("Of it may stay: summary." if before else "Nothing of it stays.") in caught.value.sentence

    @pytest.mark.parametrize(
        "report_id", ["", "12", "A" * 21, "A" * 21 + "B", "A" * 43, "Ä" * 22, "../../../../etc/passwd"]
    )
    def test_is_of_an_id_and_nothing_else(self, report_id: str) -> None:
        with pytest.raises(Malformed) as caught:
            recall({}, report_id)
        assert "office show" in caught.value.mend

    def test_leaves_no_part_that_there_is_not(self) -> None:
        for part in ("handling", "sumary"):
            with pytest.raises(Malformed) as caught:
                recall({}, self.ID, keep=[part])
            assert caught.value.code == "unknown-compartment"

    def test_finds_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(documents_module, "MAX_ORDERS", 1)
        made = recall({}, self.ID, keep=["summary"])
        with pytest.raises(Refused) as caught:
            recall(made, self.OTHER)
        assert caught.value.code == "too-many-recalls"
        recall(made, self.ID)

    def test_is_told_with_all_that_it_says(self) -> None:
        one = recall({}, self.ID, keep=["summary"], reason="consent")
        two = recall(recall(one, self.ID), self.OTHER)
        mark, other = mark_of(self.ID), mark_of(self.OTHER)
        said = "is recalled, at every office that has it; only summary may stay. Reason: consent."
        assert describe({}, one) == [f"Report with mark {mark}: {said}"]
        assert sorted(describe(one, two)) == sorted(
            [
                f"Report with mark {mark}: is recalled further, at every office that has it; nothing of it stays."
                " Reason: consent. Before, only summary may stay. Reason: consent.",
                f"Report with mark {other}: is recalled, at every office that has it; nothing of it stays.",
            ]
        )
        assert f"Report with mark {other}: its recall is taken back. Before, nothing of it stays." in describe(two, one)
