"""The network's documents: who comes in, who goes, what rules hold, and how all of it is told before it is signed."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import pytest
from nacl.signing import SigningKey

from kengele_node.coordinator import documents as documents_module
from kengele_node.coordinator.documents import (
    YEAR,
    admit,
    adopt,
    describe,
    first,
    hand_over,
    list_area,
    recall,
    remove,
    restore,
    suspend,
)
from kengele_schemas.areas import Areas, AreasFile
from kengele_schemas.cards import CoordinatorCard, HubCard, Joiner, JoinRequest
from kengele_schemas.encoding import b64u, unb64u
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.fields import read
from kengele_schemas.keys import fingerprint, new_signing_key
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.orders import mark_of
from kengele_schemas.policy import Assertion, Rule
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

SWAPPED = KeyPair.generate("user").public


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
        assert set(admit(after, [monitor("KG-O")], WORLD, TODAY)) == own
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
        before = let_in(founded("KG"), office())
        assert describe(before, suspend(before, "unrcca")) == ["Office unrcca: changes in status."]

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


class TestWhatIsTold:
    def change(self, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
        return describe(before, {path: value for path, value in after.items() if before.get(path) != value})

    def test_of_a_new_network_is_all_of_it(self) -> None:
        made = founded("KG")
        network = made["network.json"]
        assert describe({}, made) == [
            f"areas.json is new, with {len(made['areas.json']['areas'])} areas.",
            *(f"Key {card.nkey} of coordinator {card.id}: is new." for card in COORDINATORS),
            *(f"network.json: {field} is {network[field]}." for field in network if field != "v"),
            "policy.json: version 0 becomes 1.",
        ]

    def test_of_an_admission_is_who_comes_in_with_which_key(self) -> None:
        before, one, other = founded("KG"), office(), monitor()
        assert one.office is not None
        opening, signing = (fingerprint(unb64u(key)) for key in (one.office.keys[0].key, one.office.sign))
        assert self.change(before, let_in(before, one, other, groups={"unrcca": ["un"]})) == [
            f"Key {one.nkey} of office unrcca: is new.",
            f"Key {other.nkey} of monitor {other.member}: is new.",
            f"Monitor in KG {other.member}: is new. Reports from KG-O, {TODAY} to {TODAY + YEAR}.",
            f"Office unrcca: is new. Called UNRCCA; for KG; opens with {opening}; signs with {signing}.",
            "Group un: is now office:unrcca.",
        ]

    def test_of_a_removal_is_who_goes(self) -> None:
        one, other = office(), monitor()
        before = let_in(founded("KG"), one, other)
        assert self.change(before, gone(before, other.member)) == [
            f"Key {other.nkey} of monitor {other.member}: goes.",
            f"Key {other.nkey}: is kept out for good.",
            f"Monitor in KG {other.member}: changes in status.",
        ]
        assert self.change(before, gone(before, "unrcca"))[2:] == ["Office unrcca: changes in status."]

    def test_of_rules_is_each_that_comes_goes_or_changes_and_what_it_says_now(self) -> None:
        before = founded("KG")
        before |= adopt(before, rules(grant("stays"), grant("goes"), grant("changes"), grant("turns")))
        after = adopt(
            before,
            rules(
                grant("stays"),
                grant("changes", tlp_up_to="GREEN", to=["office:cso"]),
                forbid("turns", forbid=["people"]),
                grant("comes", areas=["KG", "TJ"], min_severity=3),
            ),
        )
        always = "categories *; min_severity 1; max_severity 5"
        assert describe(before, after) == [
            "policy.json: version 2 becomes 3.",
            "Rule comes: is new. Grants summary, account to office:unrcca; areas KG TJ; categories *; min_severity 3;"
            " max_severity 5; tlp_up_to RED; expires 2027-01-01.",
            "Rule goes: goes.",
            f"Rule changes: changes in tlp_up_to, to. Grants summary, account to office:cso; areas *; {always};"
            " tlp_up_to GREEN; expires 2027-01-01.",
            "Rule turns: changes in expires, forbid, grant, tlp_up_to. Forbids people to office:unrcca; areas *;"
            f" {always}.",
        ]

    def test_of_regional_rules_names_the_region(self) -> None:
        after = {"policy/KG.json": {"v": 1, "version": 4, "rules": [forbid("regional", areas=["KG"])]}}
        told = describe({}, after)
        assert told[0] == "policy/KG.json: version 0 becomes 4."
        assert told[1].startswith("Rule regional: is new. Forbids summary")

    def test_of_no_change_is_that_too(self) -> None:
        assert describe(founded("KG"), {}) == ["Nothing changes; the signatures' life begins anew."]

    @pytest.mark.parametrize(
        ("path", "change", "told"),
        [
            (
                "network.json",
                lambda document: document.update(custodian="cso"),
                "network.json: custodian changes from unrcca to cso.",
            ),
            (
                "network.json",
                lambda document: document.update(header_level=2),
                "network.json: header_level changes from None to 2.",
            ),
            (
                "policy.json",
                lambda document: document.update(refuse_below=1),
                "policy.json: reports sealed under a version below 1 are refused.",
            ),
            (
                "offices.json",
                lambda document: document["groups"].update(un=[]),
                "Group un: is now empty.",
            ),
            ("offices.json", lambda document: document["groups"].clear(), "Group un: goes."),
            (
                "offices.json",
                lambda document: document["groups"]["un"].append("office:cso"),
                "Group un: is now office:unrcca, office:cso.",
            ),
            (
                "offices.json",
                lambda document: document["offices"][0].update(keys=[KEYS["cso"].public.document()]),
                "Office unrcca: changes in keys.",
            ),
            ("areas.json", lambda document: document["areas"].pop(), "Area"),
            ("areas.json", lambda document: document["areas"][-1].update(parents=[]), "changes in parents."),
            (
                "connections.json",
                lambda document: document["connections"][-1].update(role="coordinator"),
                "is now that of coordinator unrcca.",
            ),
            (
                "connections.json",
                lambda document: document["connections"][-1].update(nkey=SWAPPED),
                f"Key {SWAPPED} of office unrcca: is new.",
            ),
            ("connections.json", lambda document: document["revoked"].clear(), "is kept out no longer."),
            ("connections.json", lambda document: document["revoked"][0].update(at=1), "from another time on."),
        ],
    )
    def test_leaves_no_change_out(self, path: str, change: Callable[[Any], object], told: str) -> None:
        """A second coordinator signs by what she is told: what is not told would be one coordinator's alone."""
        other = monitor()
        before = gone(let_in(founded("KG"), office(), other, groups={"unrcca": ["un"]}), other.member)
        connections = before["connections.json"]["connections"]
        assert connections[-1]["member"] == "unrcca"
        changed = copy.deepcopy(before[path])
        change(changed)
        assert any(told in line for line in describe(before, {path: changed}))


def test_what_must_stay_true_stays_until_it_is_taken_out_and_either_is_told() -> None:
    before = founded("KG")
    sentence = read(Assertion, {"always": "no office:unrcca may open source", "areas": ["KG"]})
    first_step = {**before, **adopt(before, [], assertions=[sentence])}
    assert "It must stay so from now on that no office:unrcca may open source; areas KG." in describe(
        before, first_step
    )
    kept = adopt(first_step, [read(Rule, grant())])
    assert kept["policy.json"]["assertions"] == first_step["policy.json"]["assertions"]
    assert not any("stay so" in line or "no longer" in line for line in describe(first_step, kept))
    dropped = adopt(first_step, [], assertions=[])
    assert "It need no longer be that no office:unrcca may open source; areas KG." in describe(first_step, dropped)


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
                " Reason: consent.",
                f"Report with mark {other}: is recalled, at every office that has it; nothing of it stays.",
            ]
        )
        assert f"Report with mark {other}: its recall is taken back." in describe(two, one)
