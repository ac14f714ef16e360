"""Drafts: what is signed is what was drafted, each coordinator counts once, and the next version follows the last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey
from tuf.api.metadata import Metadata, Root, Targets

from kengele_schemas import metadata
from kengele_schemas.areas import Areas
from kengele_schemas.cards import CoordinatorCard, coordinator_id
from kengele_schemas.encoding import b64u, canonical, dumps
from kengele_schemas.errors import KengeleError, Malformed, Refused, Untrusted
from kengele_schemas.keys import monitor_id
from kengele_schemas.metadata import Draft
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.trust import TrustStore
from kengele_testing.trust import NOW, Paper, read

Files = dict[str, bytes]
DAY = timedelta(days=1)
ROOT = "metadata/1.root.json"
AREAS = Areas.world()


@pytest.fixture(scope="module")
def paper() -> Paper:
    return Paper()


@pytest.fixture(scope="module")
def draft(paper: Paper) -> Draft:
    return paper.drafted()


@pytest.fixture(scope="module")
def first(paper: Paper, draft: Draft) -> Files:
    return paper.accept(paper.signed(draft))


@pytest.fixture(scope="module")
def second(paper: Paper, first: Files) -> Files:
    return paper.accept(paper.signed(metadata.edit(first, raised(first), NOW)), first)


def raised(files: Mapping[str, bytes], version: int = 2) -> dict[str, Any]:
    policy = metadata.document_of(files, "policy.json")
    return {"policy.json": {**policy, "version": version}}


def keyid(key: SigningKey) -> str:
    return metadata._public(bytes(key.verify_key)).keyid


def versions(files: Mapping[str, bytes]) -> dict[str, int]:
    roles = ("root", "targets", "monitors-KG", "snapshot", "timestamp")
    return {role: metadata.metadata_version(files[metadata.newest(files, role)]) for role in roles}


def resigned(data: bytes, *keys: SigningKey, **fields: Any) -> bytes:
    """Metadata with other fields, signed by ``keys`` only."""
    changed: Metadata[Any] = Metadata.from_bytes(data)
    for name, value in fields.items():
        setattr(changed.signed, name, value)
    changed.signatures.clear()
    for key in keys:
        changed.sign(metadata._signer(key), append=True)
    return changed.to_bytes()


def test_a_draft_comes_back_from_its_file_byte_for_byte(paper: Paper, draft: Draft) -> None:
    for one in (draft, paper.signed(draft), metadata.edit(paper.founded(), {}, NOW)):
        assert Draft.decode(one.encode()) == one
        assert Draft.decode(one.encode()).encode() == one.encode()


def test_each_who_signs_a_networks_founding_is_told_who_counts_from_then_on() -> None:
    paper = Paper()
    ids = sorted(coordinator_id(bytes(key.verify_key)) for key in paper.coordinators)
    for signers in ((), (0,), (0, 1)):
        assert metadata.seats(paper.signed(paper.drafted(), signers)) == (ids, 2)


def test_a_draft_holds_all_that_is_published_and_nothing_signed_by_the_hub(draft: Draft, first: Files) -> None:
    assert set(draft.roles) == {"root", "targets", "monitors-KG"}
    assert draft.version == 1
    added = set(first) - set(draft.files())
    assert added == {"metadata/1.snapshot.json", "metadata/timestamp.json"}
    for path, data in draft.documents.items():
        assert first[metadata.target_path(path, data)] == data


BAD_DRAFTS: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("another version", lambda found: {**found, "v": 2}),
    ("another kind", lambda found: {**found, "kind": "card"}),
    ("no roles", lambda found: {name: found[name] for name in found if name != "roles"}),
    ("roles in a list", lambda found: {**found, "roles": []}),
    ("a role that is no text", lambda found: {**found, "roles": {"targets": 1}}),
    ("a role that is no base64url", lambda found: {**found, "roles": {"targets": "%"}}),
    ("a role that is no metadata", lambda found: {**found, "roles": {"targets": b64u(b"{}")}}),
    ("documents in a list", lambda found: {**found, "documents": []}),
    ("a document that is no text", lambda found: {**found, "documents": {"policy.json": {}}}),
    ("a root that is no metadata", lambda found: {**found, "root": b64u(b"null")}),
    ("a root that is no text", lambda found: {**found, "root": None}),
    ("a list that is no metadata", lambda found: {**found, "targets": ""}),
    ("a list of drafts", lambda found: [found]),
    ("nothing", lambda _: None),
]


@pytest.mark.parametrize(("_sentence", "change"), BAD_DRAFTS, ids=[sentence for sentence, _ in BAD_DRAFTS])
def test_what_is_no_draft_is_refused(_sentence: str, change: Callable[[dict[str, Any]], object], draft: Draft) -> None:
    with pytest.raises(Malformed) as caught:
        Draft.decode(dumps(change(json.loads(draft.encode()))))
    assert caught.value.code == "bad-draft"


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=100), st.integers(0, 20_000), st.binary(max_size=3), st.integers(0, 3))
def test_no_bytes_raise_anything_but_our_errors(
    paper: Paper, draft: Draft, free: bytes, at: int, piece: bytes, cut: int
) -> None:
    data = paper.signed(draft, (0,)).encode()
    at %= len(data)
    for text in (free, data[:at] + piece + data[at + cut :]):
        try:
            found = Draft.decode(text)
            metadata.missing(found)
            metadata.signers(found)
            metadata.sign(found, paper.coordinators[1])
        except KengeleError:
            continue


def test_signing_adds_signatures_and_changes_no_byte_of_what_is_signed(paper: Paper, draft: Draft) -> None:
    signed = paper.signed(draft)
    assert signed.documents == draft.documents
    for role, data in draft.roles.items():
        before, after = json.loads(data), json.loads(signed.roles[role])
        assert after["signed"] == before["signed"]
        assert (len(before["signatures"]), len(after["signatures"])) == (0, 2)


def test_each_signature_that_is_there_is_one_less_that_is_missing(paper: Paper, draft: Draft) -> None:
    assert metadata.missing(draft) == {"root": 2, "targets": 2, "monitors-KG": 2}
    one = metadata.sign(draft, paper.coordinators[0])
    assert metadata.missing(one) == {"root": 1, "targets": 1, "monitors-KG": 1}
    assert metadata.missing(metadata.sign(one, paper.coordinators[2])) == {}


def test_one_coordinator_who_signs_twice_counts_once(paper: Paper, draft: Draft, first: Files) -> None:
    twice = paper.signed(draft, by=(1, 1, 1))
    assert metadata.missing(twice) == {"root": 1, "targets": 1, "monitors-KG": 1}
    assert metadata.signers(twice) == {keyid(paper.coordinators[1])}
    with pytest.raises(Untrusted) as caught:
        paper.accept(twice)
    assert caught.value.code == "too-few-signatures"
    with pytest.raises(Untrusted):
        paper.accept(paper.signed(metadata.edit(first, raised(first), NOW), by=(1, 1)), first)


def test_signers_are_those_who_signed_all_of_it(paper: Paper, draft: Draft) -> None:
    assert metadata.signers(draft) == set()
    assert metadata.signers(paper.signed(draft)) == {keyid(key) for key in paper.coordinators[:2]}
    partly = metadata.sign(draft, paper.coordinators[0])
    partly = Draft({**draft.roles, "root": partly.roles["root"]}, draft.documents, draft.root, draft.targets)
    assert metadata.signers(partly) == set()
    assert metadata.missing(partly)["targets"] == 2


@pytest.mark.parametrize("whose", ["snapshot", "timestamp", "hub", "monitor"])
def test_a_key_that_counts_for_nothing_signs_nothing(paper: Paper, draft: Draft, whose: str) -> None:
    with pytest.raises(Refused) as caught:
        metadata.sign(draft, getattr(paper, whose))
    assert caught.value.code == "not-a-coordinator"


def test_a_foreign_signature_beside_the_true_ones_is_not_counted(paper: Paper, draft: Draft) -> None:
    signed = metadata.sign(draft, paper.coordinators[0])
    foreign = {role: Metadata[Any].from_bytes(data) for role, data in signed.roles.items()}
    for one in foreign.values():
        one.sign(metadata._signer(paper.monitor), append=True)
    padded = Draft(
        {role: one.to_bytes() for role, one in foreign.items()}, signed.documents, signed.root, signed.targets
    )
    assert metadata.missing(padded) == {"root": 1, "targets": 1, "monitors-KG": 1}
    with pytest.raises(Untrusted):
        paper.accept(padded)


def test_a_signature_that_does_not_hold_is_told_and_not_counted(paper: Paper, draft: Draft) -> None:
    signed = paper.signed(draft)
    changed = resigned(signed.roles["targets"], expires=NOW + 3 * DAY)
    document = json.loads(changed)
    document["signatures"] = json.loads(signed.roles["targets"])["signatures"]
    stolen = Draft({**signed.roles, "targets": dumps(document)}, signed.documents, signed.root, signed.targets)
    with pytest.raises(Untrusted) as caught:
        metadata.missing(stolen)
    assert caught.value.code == "bad-signature"
    with pytest.raises(Untrusted):
        paper.accept(stolen)


@pytest.mark.parametrize(("count", "threshold"), [(3, 0), (3, 4), (0, 0), (0, 1), (2, -1)])
def test_a_threshold_that_cannot_be_met_founds_nothing(paper: Paper, count: int, threshold: int) -> None:
    cards = [CoordinatorCard.of(key, KeyPair.generate("user")) for key in paper.coordinators[:count]]
    hub = b64u(bytes(paper.snapshot.verify_key))
    with pytest.raises(Malformed) as caught:
        metadata.found({}, cards, threshold, hub, hub, NOW)
    assert caught.value.code == "bad-threshold"


@pytest.mark.parametrize("threshold", [1, 2])
def test_a_coordinator_cannot_be_counted_twice_among_the_founders(paper: Paper, threshold: int) -> None:
    cards = [CoordinatorCard.of(paper.coordinators[0], KeyPair.generate("user")) for _ in range(2)]
    hub = b64u(bytes(paper.snapshot.verify_key))
    with pytest.raises(Malformed) as caught:
        metadata.found({}, cards, threshold, hub, hub, NOW)
    assert caught.value.code == "bad-threshold"


def test_the_hubs_keys_count_for_the_hubs_part_only(paper: Paper, draft: Draft) -> None:
    root: Root = Metadata[Root].from_bytes(draft.roles["root"]).signed
    coordinators = {keyid(key) for key in paper.coordinators}
    assert {name: (set(role.keyids), role.threshold) for name, role in root.roles.items()} == {
        "root": (coordinators, 2),
        "targets": (coordinators, 2),
        "snapshot": ({keyid(paper.snapshot)}, 1),
        "timestamp": ({keyid(paper.timestamp)}, 1),
    }
    listed: Targets = Metadata[Targets].from_bytes(draft.roles["targets"]).signed
    assert listed.delegations is not None
    regional = (listed.delegations.roles or {})["monitors-KG"]
    assert (set(regional.keyids), regional.threshold, regional.terminating) == (coordinators, 2, True)
    assert regional.paths == ["monitors/KG.json"]


def test_an_edit_touches_only_what_changes(paper: Paper, first: Files, second: Files) -> None:
    assert versions(first) == {"root": 1, "targets": 1, "monitors-KG": 1, "snapshot": 1, "timestamp": 1}
    assert versions(second) == {"root": 1, "targets": 2, "monitors-KG": 1, "snapshot": 2, "timestamp": 2}
    edited = metadata.edit(first, raised(first), NOW)
    assert set(edited.roles) == {"targets"}
    assert set(edited.documents) == {"policy.json"}
    assert edited.version == 2
    for path in metadata.document_paths(first):
        if path != "policy.json":
            assert metadata.document_of(second, path) == metadata.document_of(first, path)
    assert metadata.document_of(second, "policy.json")["version"] == 2


def test_an_edit_of_a_regional_list_touches_it_and_what_lists_it(paper: Paper, first: Files) -> None:
    monitors = metadata.document_of(first, "monitors/KG.json")
    edited = metadata.edit(first, {"monitors/KG.json": {**monitors, "monitors": []}}, NOW)
    assert set(edited.roles) == {"targets", "monitors-KG"}
    files = paper.accept(paper.signed(edited), first)
    assert versions(files) | {"snapshot": 0, "timestamp": 0} == {
        "root": 1,
        "targets": 2,
        "monitors-KG": 2,
        "snapshot": 0,
        "timestamp": 0,
    }
    assert metadata.document_of(files, "monitors/KG.json")["monitors"] == []


def test_a_new_region_gets_a_list_of_its_own_under_the_coordinators_keys(
    paper: Paper, first: Files, tmp_path: Path
) -> None:
    policy = {"v": 1, "version": 1, "rules": [{**metadata.document_of(first, "policy.json")["rules"][0], "id": "two"}]}
    edited = metadata.edit(first, {"policy/KG.json": policy}, NOW)
    assert set(edited.roles) == {"targets", "policy-KG"}
    assert metadata.missing(edited) == {"targets": 2, "policy-KG": 2}
    files = paper.accept(paper.signed(edited), first)
    assert metadata.document_paths(files)[-1] == "policy/KG.json"
    assert set(read(tmp_path, files, first[ROOT]).regional) == {"KG"}


def test_nothing_changed_is_all_signed_anew(paper: Paper, first: Files, tmp_path: Path) -> None:
    later = NOW + 13 * DAY
    renewed = metadata.edit(first, {}, later)
    assert set(renewed.roles) == set(metadata.edit(first, {}, NOW + DAY).roles) == {"targets", "monitors-KG"}
    assert renewed.documents == {}
    files = paper.accept(paper.signed(renewed), first, later)
    trusted = read(tmp_path, files, first[ROOT], later + DAY / 2)
    assert trusted.targets_expire == later + metadata.TARGETS_LIFE
    assert trusted.monitors.keys() == {monitor_id(bytes(paper.monitor.verify_key))}


def test_a_root_past_half_its_life_is_renewed_with_whatever_else_is_signed(
    paper: Paper, first: Files, tmp_path: Path
) -> None:
    files = first
    for days, root in ((180, 1), (200, 2), (220, 2), (370, 2), (390, 3)):
        now = NOW + days * DAY
        edited = metadata.edit(files, {}, now)
        assert ("root" in edited.roles) == (metadata.metadata_version(files[metadata.newest(files, "root")]) < root)
        files = paper.accept(paper.signed(edited), files, now)
        assert versions(files)["root"] == root
        # Who was there all along, and who comes with the network's first card.
        assert read(tmp_path / "old", files, first[ROOT], now).fresh
        assert read(tmp_path / str(days), files, first[ROOT], now).fresh


def test_a_root_that_too_few_renew_is_not_taken(paper: Paper, first: Files) -> None:
    late = NOW + 200 * DAY
    edited = metadata.edit(first, {}, late)
    signed = paper.signed(edited)
    partly = {**signed.roles, "root": metadata.sign(edited, paper.coordinators[0]).roles["root"]}
    with pytest.raises(Untrusted) as caught:
        paper.accept(Draft(partly, {}, signed.root, signed.targets), first, late)
    assert caught.value.code == "too-few-signatures"


@pytest.mark.parametrize("path", ["monitors/.json", "people/KG.json", "monitors/KG.yaml", "/policy.json"])
def test_a_document_of_an_unknown_kind_is_not_drafted(first: Files, path: str) -> None:
    with pytest.raises(Malformed):
        metadata.edit(first, {path: {}}, NOW)


def replaced(data: bytes, files: Mapping[str, bytes], role: str = "targets", version: int = 2) -> Files:
    return {**files, f"metadata/{version}.{role}.json": data}


def test_only_the_very_next_version_is_accepted(paper: Paper, first: Files, second: Files) -> None:
    edited = paper.signed(metadata.edit(second, raised(second, 3), NOW))
    coordinators = paper.coordinators[:2]
    third = metadata.vouched(second, paper.snapshot, paper.timestamp, NOW, 3, 3)
    offered: list[tuple[str, Files]] = [
        ("the same again", paper.signed(metadata.edit(first, raised(first), NOW)).files()),
        ("the first", paper.signed(paper.drafted()).files()),
        (
            "one skipped",
            {"metadata/4.targets.json": resigned(edited.roles["targets"], *coordinators, version=4)},
        ),
        (
            "a number on the outside only",
            {"metadata/3.targets.json": resigned(edited.roles["targets"], *coordinators, version=4)},
        ),
        (
            "a regional list skipped",
            edited.files()
            | {
                "metadata/3.monitors-KG.json": resigned(second["metadata/1.monitors-KG.json"], *coordinators, version=3)
            },
        ),
        (
            "no new list",
            {"metadata/2.monitors-KG.json": resigned(second["metadata/1.monitors-KG.json"], *coordinators, version=2)},
        ),
        ("nothing", {}),
        ("the hub's part", {**edited.files(), "metadata/3.snapshot.json": third["metadata/3.snapshot.json"]}),
    ]
    for sentence, incoming in offered:
        with pytest.raises(Refused) as caught:
            metadata.accept(second, incoming, paper.snapshot, paper.timestamp, NOW)
        assert caught.value.code == "old-version", sentence
    assert versions(paper.accept(edited, second))["targets"] == 3


@pytest.mark.parametrize("version", [1, 2])
def test_a_changed_policy_has_a_higher_version(paper: Paper, second: Files, version: int) -> None:
    policy = metadata.document_of(second, "policy.json")
    edited = metadata.edit(second, {"policy.json": {**policy, "version": version, "rules": []}}, NOW)
    with pytest.raises(Refused) as caught:
        paper.accept(paper.signed(edited), second)
    assert caught.value.code == "old-version"


def test_files_that_are_not_of_the_version_are_not_taken(paper: Paper, first: Files, second: Files) -> None:
    edited = paper.signed(metadata.edit(second, raised(second, 3), NOW)).files()
    stray: list[tuple[str, Files]] = [
        ("an unlisted document", {metadata.target_path("policy.json", b"{}"): b"{}"}),
        (
            "a list that nobody delegated",
            {"metadata/1.monitors-KZ.json": resigned(second["metadata/1.monitors-KG.json"])},
        ),
        ("something else", {"targets/readme.txt": b""}),
    ]
    for sentence, files in stray:
        with pytest.raises(Refused) as caught:
            metadata.accept(second, {**edited, **files}, paper.snapshot, paper.timestamp, NOW)
        assert caught.value.code == "not-needed", sentence


def test_a_version_with_a_file_too_few_is_not_taken(paper: Paper, draft: Draft) -> None:
    files = paper.signed(draft).files()
    for path in files:
        with pytest.raises(Malformed) as caught:
            metadata.accept(
                None, {name: files[name] for name in files if name != path}, paper.snapshot, paper.timestamp, NOW
            )
        assert caught.value.code == "bad-draft", path


def test_garbage_at_any_path_of_a_version_is_refused(paper: Paper, draft: Draft, first: Files) -> None:
    for current, signed in ((None, paper.signed(draft)), (first, paper.signed(metadata.edit(first, {}, NOW)))):
        for path in signed.files():
            for garbage in (b"", b"{}", b"null", b"\xff", b"[" * 5000, b'{"signed":{"_type":"root"},"signatures":[]}'):
                with pytest.raises(KengeleError):
                    metadata.accept(current, {**signed.files(), path: garbage}, paper.snapshot, paper.timestamp, NOW)


def test_a_first_version_is_number_one(paper: Paper, draft: Draft) -> None:
    coordinators = paper.coordinators[:2]
    files = paper.signed(draft).files()
    files["metadata/2.targets.json"] = resigned(files.pop("metadata/1.targets.json"), *coordinators, version=2)
    with pytest.raises(Refused) as caught:
        metadata.accept(None, files, paper.snapshot, paper.timestamp, NOW)
    assert caught.value.code == "old-version"


def test_a_network_is_founded_with_one_root(paper: Paper, draft: Draft) -> None:
    files = paper.signed(draft).files()
    with pytest.raises(Refused) as caught:
        metadata.accept(None, {**files, "metadata/5.root.json": files[ROOT]}, paper.snapshot, paper.timestamp, NOW)
    assert caught.value.code == "not-needed"


def test_a_first_root_that_too_few_have_signed_founds_nothing(paper: Paper, draft: Draft) -> None:
    signed = paper.signed(draft)
    files = {**signed.files(), ROOT: metadata.sign(draft, paper.coordinators[0]).roles["root"]}
    with pytest.raises(Untrusted) as caught:
        metadata.accept(None, files, paper.snapshot, paper.timestamp, NOW)
    assert caught.value.code == "too-few-signatures"


def test_what_is_accepted_holds_what_is_needed_and_nothing_older(first: Files, second: Files) -> None:
    assert set(first) - set(second) == {
        "metadata/1.targets.json",
        "metadata/1.snapshot.json",
        metadata.target_path("policy.json", canonical(metadata.document_of(first, "policy.json"))),
    }


def test_the_hub_signs_anew_what_would_expire_and_nothing_before(paper: Paper, first: Files, tmp_path: Path) -> None:
    keys = (paper.snapshot, paper.timestamp)
    assert metadata.refresh_timestamp(first, *keys, NOW, before=NOW + DAY / 2) == first
    later = NOW + 2 * DAY
    stamped = metadata.refresh_timestamp(first, *keys, later, before=later + DAY / 2)
    assert versions(stamped) == versions(first) | {"timestamp": 2}
    late = NOW + 6 * DAY
    renewed = metadata.refresh_timestamp(stamped, *keys, late, before=late + DAY / 2)
    assert versions(renewed) == versions(first) | {"snapshot": 2, "timestamp": 3}
    for files, now in ((stamped, later), (renewed, late)):
        assert read(tmp_path, files, first[ROOT], now).fresh
        changed = {path for path in files if first.get(path) != files[path]}
        assert all("snapshot" in path or "timestamp" in path for path in changed)


def test_documents_are_found_by_their_paths(first: Files) -> None:
    assert metadata.document_paths(first) == [
        "areas.json",
        "connections.json",
        "monitors/KG.json",
        "network.json",
        "offices.json",
        "policy.json",
    ]
    for path in metadata.document_paths(first):
        assert metadata.document_of(first, path)["v"] == 1
    assert metadata.document_of(first, "nothing.json") is None
    assert metadata.document_of(first, "monitors/KZ.json") is None


def test_the_newest_is_the_one_with_the_greatest_number() -> None:
    files = {f"metadata/{number}.targets.json": b"" for number in (9, 10, 2)}
    assert metadata.newest(files, "targets") == "metadata/10.targets.json"
    with pytest.raises(KeyError):
        metadata.newest(files, "target")


SEEN: list[tuple[str, Sequence[str], Sequence[str], Sequence[str]]] = [
    # path, who sees it: of the offices, those with these areas do and those with those do not
    ("metadata/1.root.json", ["monitor", "coordinator"], ["KG", "SD"], []),
    ("metadata/timestamp.json", ["monitor", "coordinator"], ["KG", "SD"], []),
    ("metadata/12.snapshot.json", ["monitor", "coordinator"], ["KG", "SD"], []),
    ("metadata/12.targets.json", ["monitor", "coordinator"], ["KG", "SD"], []),
    ("metadata/12.policy-KG.json", ["monitor", "coordinator"], ["KG", "SD"], []),
    ("metadata/12.monitors-KG.json", ["coordinator"], ["KG", "KG-O", "XB-FERGANA", "*"], ["SD", "KZ", "nowhere", ""]),
    ("metadata/12.monitors-KG-O.json", ["coordinator"], ["KG", "KG-O", "*"], ["KG-B", "SD"]),
    ("metadata/12.monitors-QQ.json", ["coordinator"], [], ["KG", "QQ", "*"]),
    ("targets/abc.policy.json", ["monitor", "coordinator"], ["KG", "SD"], []),
    ("targets/abc.offices.json", ["monitor", "coordinator"], ["KG", "SD"], []),
    ("targets/policy/abc.KG.json", ["monitor", "coordinator"], ["KG", "SD"], []),
    ("targets/abc.connections.json", ["coordinator"], [], ["KG", "*"]),
    ("targets/monitors/abc.KG.json", ["coordinator"], ["KG", "KG-O", "*"], ["SD", "nowhere"]),
    ("targets/monitors/abc.QQ.json", ["coordinator"], [], ["KG", "QQ", "*"]),
]


@pytest.mark.parametrize(("path", "roles", "offices", "blind"), SEEN, ids=[row[0] for row in SEEN])
def test_who_may_be_served_what(path: str, roles: Sequence[str], offices: Sequence[str], blind: Sequence[str]) -> None:
    for role in ("monitor", "coordinator", "joiner", "hub", ""):
        assert metadata.visible(path, role, ("KG", "*"), AREAS) == (role in roles), role
    for area in offices:
        assert metadata.visible(path, "office", (area,), AREAS), area
    for area in blind:
        assert not metadata.visible(path, "office", (area,), AREAS), area
    assert metadata.visible(path, "office", (), AREAS) == (set(offices) == {"KG", "SD"})


def test_a_monitor_is_served_all_it_needs_and_no_monitors_list(first: Files, tmp_path: Path) -> None:
    served = {path: data for path, data in first.items() if metadata.visible(path, "monitor", (), AREAS)}
    assert {path for path in first if path not in served} == {
        path for path in first if "monitors" in path or "connections" in path
    }
    assert TrustStore(tmp_path, first[ROOT]).refresh(served.get, "monitor", NOW).version == 1


def test_the_digests_told_are_those_of_the_documents_in_force(first: Files, second: Files) -> None:
    for files in (first, second):
        for path, digest in metadata.document_digests(files).items():
            folder, slash, name = path.rpartition("/")
            data = files[f"targets/{folder}{slash}{digest.hex()}.{name}"]
            assert hashlib.sha256(data).digest() == digest
            assert json.loads(data) == metadata.document_of(files, path)


def test_what_a_version_was_made_of_is_found_among_files_of_several(first: Files, second: Files) -> None:
    stored = {**first, **second}
    for version, files in ((1, first), (2, second)):
        found = metadata.as_of(stored, version)
        assert metadata.document_digests(found) == metadata.document_digests(files)
        assert metadata.document_of(found, "policy.json")["version"] == version
    assert metadata.as_of(stored, 3) == {}
    lists = [path for path in first if path.endswith("1.targets.json")]
    assert metadata.as_of({path: data for path, data in stored.items() if path not in lists}, 1) == {}
