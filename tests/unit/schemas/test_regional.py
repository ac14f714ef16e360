"""Regional lists: who signs for an area signs alone, for that area only, and what runs out there stops nobody else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kengele_schemas import drafts, metadata, regional, signatures
from kengele_schemas.areas import AreaRow, Areas, AreasFile
from kengele_schemas.cards import CoordinatorCard, coordinator_id
from kengele_schemas.compartments import names
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.keys import monitor_id, new_signing_key
from kengele_schemas.leaves import Issue, changes, members, read_entry, trust_leaves
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.policy import PolicyFile
from kengele_schemas.regional import LAPSED, area_of, check_room, path_of, paths, revision, role_of, standing_in
from kengele_schemas.release import Compiled
from kengele_schemas.tiles import MAX_ENTRY
from kengele_schemas.trust import TrustStore
from kengele_schemas.trusted import Trusted
from kengele_testing.region import Region, rule
from kengele_testing.trust import DAY, NOW, ROOT, Files

OWN = ("network.json", "offices.json", "policy.json", "areas.json", "connections.json", "recalls.json", "reasons.json")
FORTNIGHT = 14 * DAY


@pytest.fixture(scope="module")
def region() -> Region:
    return Region()


@pytest.fixture(scope="module")
def files(region: Region) -> Files:
    return region.handed()


def suppressed(check: Callable[[], None]) -> bool:
    """Whether ``check`` refuses nothing."""
    try:
        check()
    except Refused:
        return False
    return True


def read(tmp_path: Path, files: Files, now: Any = NOW, scope: Any = "hub", store: str = "trust") -> Trusted:
    return TrustStore(tmp_path / store, files[ROOT]).refresh(files.get, scope, now, "unrcca")


class About(NamedTuple):
    """What of a header decides."""

    area: str
    categories: tuple[str, ...] = ("rumour",)
    severity: int = 2
    tlp: str = "AMBER"


def released(trusted: Trusted, area: str, office: str = "unrcca") -> set[str]:
    found = trusted.compiled.release(About(area), NOW.date()).get(office)
    return set(names(found.bits)) - {"handling"} if found else set()


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("monitors/KG.json", ("monitors", "KG")),
        ("policy/KG-O.json", ("policy", "KG-O")),
        ("policy.json", None),
        ("people/KG.json", None),
        ("monitors/.json", None),
        ("monitors/KG", None),
        ("monitors/KG.json.txt", None),
        ("", None),
    ],
)
def test_a_regional_documents_path_says_what_it_is(path: str, found: tuple[str, str] | None) -> None:
    if found is not None:
        assert area_of(path) == found
    else:
        with pytest.raises(Malformed):
            area_of(path)


def test_roles_and_paths_of_an_area_follow_from_each_other() -> None:
    for path in (*paths("KG"), *paths("XB-FERGANA")):
        assert path_of(role_of(path)) == path
        assert path in paths(area_of(path)[1])


@pytest.mark.parametrize("path", ["policy.json", "people/KG.json", "policy/.json", "policy/KG.yaml"])
def test_what_is_no_areas_document_has_no_role(path: str) -> None:
    with pytest.raises(Malformed):
        role_of(path)


def test_the_number_of_a_state_is_one_at_first_and_rises_with_every_list_that_is_signed() -> None:
    assert revision([1]) == revision([1, 1, 1]) == 1
    assert revision([2, 1, 1]) == revision([1, 1, 2]) == 2
    assert revision([4, 2, 3]) == 7


def test_regional_coordinators_publish_for_their_area_alone(region: Region, files: Files, tmp_path: Path) -> None:
    draft = region.drafted(files, region.rules(files, rule("ours")))
    assert set(draft.roles) == {"policy-KG"}
    assert (draft.area, draft.version, draft.founding) == ("KG", metadata.state(files) + 1, False)
    signatures.check(draft, files, NOW)
    assert signatures.missing(draft) == {"policy-KG": 2}
    after = region.publish(draft, files)
    assert (metadata.state(after), metadata.lists(after)["targets"]) == (
        draft.version,
        metadata.lists(files)["targets"],
    )
    trusted = read(tmp_path, after)
    assert trusted.version == draft.version
    assert trusted.rules_version == read(tmp_path, files, store="before").rules_version + 1
    assert (released(trusted, "KG-O"), released(trusted, "SD-KH")) == ({"summary", "account"}, set())


def test_every_publication_has_a_number_of_its_own_and_can_be_told_from_all_that_is_kept(
    region: Region, files: Files
) -> None:
    states, stored, current = [metadata.state(files)], dict(files), files
    for number in range(3):
        current = region.publish(region.drafted(current, region.rules(current, rule(f"rule-{number}"))), current)
        stored |= current
        states.append(metadata.state(current))
        top = {"network.json": metadata.document_of(current, "network.json") | {"name": f"Bell {number}"}}
        current = region.paper.accept(region.paper.signed(drafts.edit(current, top, NOW)), current)
        stored |= current
        states.append(metadata.state(current))
    assert states == sorted(set(states))
    assert set(states) <= set(metadata.states(stored))
    told = metadata.as_of(stored, states[-2])
    assert metadata.document_digests(told)["policy/KG.json"] == metadata.document_digests(current)["policy/KG.json"]
    assert metadata.document_of(told, "network.json")["name"] == "Bell 1"


def test_who_takes_over_an_area_has_to_sign_and_is_told_of(region: Region) -> None:
    first = region.founded()
    draft = region.handing(first, region.keys)
    signatures.check(draft, first, NOW)
    ids = sorted(coordinator_id(bytes(key.verify_key)) for key in region.keys)
    assert signatures.handed(draft, first) == [("KG", ids, 2)]
    lacking = {"policy-KG": 2, "monitors-KG": 2, "connections-KG": 2}
    assert signatures.missing(region.paper.signed(draft)) == lacking
    assert signatures.missing(region.signed(draft)) == {"targets": 2}


def test_the_log_tells_who_signs_for_an_area_from_when_on(region: Region, files: Files) -> None:
    first = region.founded()
    told = [change for change in changes(metadata.told(first), metadata.told(files)) if change[0] == "region"]
    assert told == [("region", "kg", "added")]
    assert members(metadata.told(files))["region", "kg"] == "active"
    back = drafts.hand_over(files, {}, "KG", {}, 0, NOW)
    after = region.paper.accept(region.paper.signed(back), files)
    assert ("region", "kg", "removed") in changes(metadata.told(files), metadata.told(after))
    fewer = region.handing(files, region.keys, threshold=1)
    after = region.paper.accept(region.signed(region.paper.signed(fewer)), files)
    assert ("region", "kg", "changed") in changes(metadata.told(files), metadata.told(after))


def test_an_area_can_be_taken_back(region: Region, files: Files, tmp_path: Path) -> None:
    files = region.publish(region.drafted(files, region.rules(files, rule("ours"))), files)
    rows = {"connections.json": {"v": 1, "connections": region.seat(region.paper.coordinators), "revoked": []}}
    draft = drafts.hand_over(files, rows, "KG", {}, 0, NOW)
    signatures.check(draft, files, NOW)
    assert [area for area, _, _ in signatures.handed(draft, files)] == ["KG"]
    back = region.paper.accept(region.paper.signed(draft), files)
    assert released(read(tmp_path, back), "KG-O") == {"summary", "account"}
    with pytest.raises(Refused) as caught:
        region.signed(region.drafted(back, region.rules(back)), (0,))
    assert caught.value.code == "not-a-coordinator"


def test_other_coordinators_of_the_network_leave_an_areas_own_as_they_are(region: Region, files: Files) -> None:
    new = new_signing_key()
    gone = region.paper.coordinators[2]
    rows = region.seat([*region.paper.coordinators[:2], new, *region.keys])
    card = CoordinatorCard.of(new, KeyPair.generate("user"))
    changed = {"connections.json": {"v": 1, "connections": rows, "revoked": []}}
    draft = drafts.reseat(files, changed, [card], [coordinator_id(bytes(gone.verify_key))], None, NOW)
    assert set(draft.roles) == {"root", "targets"}
    signatures.check(draft, files, NOW)
    assert signatures.handed(draft, files) == []


def test_coordinators_renew_their_own_lists_and_regional_ones_theirs(region: Region, files: Files) -> None:
    assert set(drafts.edit(files, {}, NOW).roles) == {"targets"}
    draft = region.drafted(files, {})
    assert set(draft.roles) == {"policy-KG", "monitors-KG", "connections-KG"}
    signatures.check(draft, files, NOW)
    later = region.publish(draft, files, NOW + DAY)
    assert metadata.state(later) == metadata.state(files) + 3


def test_what_is_not_an_areas_own_is_not_drafted_for_it(region: Region, files: Files) -> None:
    for changed in ({"network.json": {}}, {"policy/KZ.json": {}}, {**region.rules(files), "offices.json": {}}):
        with pytest.raises(Malformed) as caught:
            region.drafted(files, changed)
        assert caught.value.code == "foreign-area"
    with pytest.raises(Refused) as refused:
        drafts.edit(files, {}, NOW, area="KZ")
    assert refused.value.code == "not-delegated"


def later(region: Region, files: Files, *roles: str) -> tuple[Files, datetime]:
    """A fortnight on: the network's lists were renewed, and of the area's those in ``roles``."""
    at, now = NOW + FORTNIGHT - DAY, NOW + FORTNIGHT + DAY
    files = region.paper.accept(region.paper.signed(drafts.edit(files, {}, at)), files, at)
    draft = region.drafted(files, {}, at)
    kept = {role: data for role, data in draft.roles.items() if role in roles}
    files = region.publish(replace(draft, roles=kept), files, at)
    return region.paper.accept(region.paper.signed(drafts.edit(files, {}, now)), files, now), now


def test_an_areas_rules_past_their_date_close_that_area_and_nothing_else(region: Region, tmp_path: Path) -> None:
    sudan = rule("sudan", areas=["SD"])
    policy = region.paper.documents()["policy.json"]
    offices = region.paper.documents()["offices.json"]
    other = {**offices["offices"][0], "id": "council"}
    rules = [*policy["rules"], sudan, rule("council-too", to=["office:council"])]
    founded = region.founded(
        **{
            "policy.json": {**policy, "rules": rules},
            "offices.json": {**offices, "offices": [*offices["offices"], other]},
        }
    )
    files = region.handed(founded)
    ours = rule("ours", grant=["place"])
    nothing = {"id": "not-batken", "forbid": ["summary"], "areas": ["KG-B"], "to": ["office:unrcca"], "reason": "test"}
    files = region.publish(region.drafted(files, region.rules(files, ours, nothing)), files)
    assert released(read(tmp_path, files), "KG-O") == {"summary", "place"}
    assert released(read(tmp_path, files), "KG-O", "council") == {"account"}
    files, now = later(region, files, "monitors-KG", "connections-KG")
    trusted = read(tmp_path, files, now)
    assert trusted.lapsed == {"policy/KG.json"}
    assert released(trusted, "KG-O", "council") == released(trusted, "KG", "council") == set()
    assert released(trusted, "SD-KH") == {"account"}
    verdict = trusted.compiled.explain(About("KG-O"), NOW.date())["council"]["account"]
    assert verdict.rules == (f"{LAPSED}kg",)
    # The custodian is given what the network's own rules grant, and nothing that the area forbids.
    assert released(trusted, "KG-O") == {"summary"}
    assert released(trusted, "KG-B") == set()
    assert trusted.rules_end("KG-O") <= now < trusted.rules_end("SD-KH") == trusted.targets_expire
    renewed = region.publish(region.drafted(files, {}, now), files, now)
    assert released(read(tmp_path, renewed, now), "KG-O", "council") == {"account"}


def test_an_area_of_the_longest_name_there_is_closes_as_well(region: Region, files: Files, tmp_path: Path) -> None:
    trusted = read(tmp_path, files)
    (office,) = trusted.offices.active
    longest = "KG-ABCDEFGHIJKL-ABCDEFGHIJKL-ABC"
    areas = Areas(AreasFile(areas=[AreaRow(code=longest, name="Osh", kind="country", parents=[])]))

    closed = standing_in(longest, PolicyFile(version=1, rules=()), trusted.offices, custodian="another")

    assert [rule.id for rule in closed.rules] == [LAPSED + longest.lower()]
    verdict = Compiled([closed], trusted.offices, areas).explain(About(longest), NOW.date())[office]["summary"]
    assert verdict == (False, (LAPSED + longest.lower(),))


def areas_of(count: int, length: int) -> dict[str, Any]:
    """The documents of so many areas, each with a name of this length and all the lists it may have."""
    codes = [f"{number:03}{'X' * (length - 3)}" for number in range(count)]
    return {path: {} for code in codes for path in paths(code)}


@pytest.mark.parametrize("length", [3, 12, 32])
def test_the_most_lists_that_may_be_drafted_fit_an_entry_of_the_log_and_one_more_is_refused(length: int) -> None:
    most = next(
        count
        for count in range(250, 0, -1)
        if suppressed(lambda count=count: check_room([role_of(path) for path in areas_of(count, length)]))
    )
    roles = {role_of(path): 9_999_999 for path in areas_of(most, length)}
    digests = dict.fromkeys([*areas_of(most, length), *OWN], bytes(32))
    changed = {"v": 1, "version": 2**31, "rules": [{"id": f"{number:0>32}"} for number in range(100)]}
    issue = Issue(2**53, bytes(32), {"targets": 9_999_999, **roles}, digests)

    leaf, *_ = trust_leaves(issue, {}, {"policy.json": changed}, at=NOW, salt=bytes)

    assert len(leaf.canonical()) <= MAX_ENTRY
    assert read_entry(leaf.canonical()) == leaf


def test_coordinators_cannot_publish_more_lists_than_the_log_takes(region: Region, monkeypatch: Any) -> None:
    files = region.founded()
    listed = {f"policy/{area}.json": {"v": 1, "version": 1, "rules": []} for area in ("KG-O", "KG-B")}
    draft = region.paper.signed(drafts.edit(files, listed, NOW))
    monkeypatch.setattr(regional, "_MAX_LISTS", len(metadata.lists(files)))
    for door in (
        lambda: drafts.edit(files, listed, NOW),
        lambda: signatures.check(draft, files, NOW),
        lambda: region.paper.accept(draft, files, NOW),
    ):
        with pytest.raises(Refused) as caught:
            door()
        assert caught.value.code == "too-many-lists"


def test_a_list_of_monitors_past_its_date_stops_its_monitors_and_nobody_else(region: Region, tmp_path: Path) -> None:
    files, now = later(region, region.handed(), "policy-KG", "connections-KG")
    trusted = read(tmp_path, files, now)
    (monitor,) = trusted.monitors.values()
    assert (trusted.lapsed, trusted.idle) == ({"monitors/KG.json"}, {monitor.kid})
    assert monitor.kid == monitor_id(bytes(region.paper.monitor.verify_key))
    with pytest.raises(Refused) as caught:
        trusted.check_author(monitor, "KG-O", now.date())
    assert caught.value.code == "list-expired"
    renewed = region.publish(region.drafted(files, {}, now), files, now)
    trusted = read(tmp_path, renewed, now)
    trusted.check_author(monitor, "KG-O", now.date())


def test_what_runs_out_offline_is_noticed_there(region: Region, files: Files, tmp_path: Path) -> None:
    read(tmp_path, files, scope="monitor")
    store = TrustStore(tmp_path / "trust", files[ROOT])
    assert store.offline("monitor", NOW + FORTNIGHT).lapsed == frozenset()
    files = region.paper.accept(region.paper.signed(drafts.edit(files, {}, NOW + DAY)), files, NOW + DAY)
    read(tmp_path, files, NOW + DAY, scope="monitor")
    assert store.offline("monitor", NOW + FORTNIGHT - timedelta(minutes=1)).lapsed == frozenset()
    assert store.offline("monitor", NOW + FORTNIGHT).lapsed == {"policy/KG.json"}


def test_a_rule_cannot_be_called_like_the_one_that_closes_an_area(region: Region, files: Files) -> None:
    draft = region.drafted(files, region.rules(files, rule(f"{LAPSED}kz")))
    with pytest.raises(Malformed) as caught:
        region.publish(draft, files)
    assert caught.value.code == "bad-rule"


def test_an_area_lets_in_its_own_monitors(region: Region, files: Files, tmp_path: Path) -> None:
    path = "connections/KG.json"
    row = region.row()
    after = region.publish(
        region.drafted(files, {path: {**metadata.document_of(files, path), "connections": [row]}}), files
    )
    trusted = read(tmp_path, after)
    assert trusted.connections is not None
    assert row in [one.model_dump() for one in trusted.connections.connections]
    assert read(tmp_path, after, scope="monitor", store="node").connections is None
