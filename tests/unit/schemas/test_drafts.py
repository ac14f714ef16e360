"""Drafts: what is published is what was drafted, and no more is touched than changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tuf.api.metadata import Metadata, Root, Targets

from kengele_schemas import drafts, metadata, signatures
from kengele_schemas.cards import CoordinatorCard
from kengele_schemas.drafts import Draft
from kengele_schemas.encoding import b64u, dumps
from kengele_schemas.errors import KengeleError, Malformed
from kengele_schemas.keys import monitor_id
from kengele_schemas.nkeys import KeyPair
from kengele_testing.trust import DAY, NOW, ROOT, Files, Paper, keyid, raised, read, versions


def test_a_draft_comes_back_from_its_file_byte_for_byte(paper: Paper, draft: Draft) -> None:
    for one in (draft, paper.signed(draft), drafts.edit(paper.founded(), {}, NOW)):
        assert Draft.decode(one.encode()) == one
        assert Draft.decode(one.encode()).encode() == one.encode()


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
            signatures.missing(found)
            signatures.signers(found)
            signatures.sign(found, paper.coordinators[1])
        except KengeleError:
            continue


@pytest.mark.parametrize(("count", "threshold"), [(3, 0), (3, 4), (0, 0), (0, 1), (2, -1)])
def test_a_threshold_that_cannot_be_met_founds_nothing(paper: Paper, count: int, threshold: int) -> None:
    cards = [CoordinatorCard.of(key, KeyPair.generate("user")) for key in paper.coordinators[:count]]
    hub = b64u(bytes(paper.snapshot.verify_key))
    with pytest.raises(Malformed) as caught:
        drafts.found({}, cards, threshold, hub, hub, NOW)
    assert caught.value.code == "bad-threshold"


@pytest.mark.parametrize("threshold", [1, 2])
def test_a_coordinator_cannot_be_counted_twice_among_the_founders(paper: Paper, threshold: int) -> None:
    cards = [CoordinatorCard.of(paper.coordinators[0], KeyPair.generate("user")) for _ in range(2)]
    hub = b64u(bytes(paper.snapshot.verify_key))
    with pytest.raises(Malformed) as caught:
        drafts.found({}, cards, threshold, hub, hub, NOW)
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
    edited = drafts.edit(first, raised(first), NOW)
    assert set(edited.roles) == {"targets"}
    assert set(edited.documents) == {"policy.json"}
    assert edited.version == 2
    for path in metadata.document_paths(first):
        if path != "policy.json":
            assert metadata.document_of(second, path) == metadata.document_of(first, path)
    assert metadata.document_of(second, "policy.json")["version"] == 2


def test_an_edit_of_a_regional_list_touches_it_and_what_lists_it(paper: Paper, first: Files) -> None:
    monitors = metadata.document_of(first, "monitors/KG.json")
    edited = drafts.edit(first, {"monitors/KG.json": {**monitors, "monitors": []}}, NOW)
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
    edited = drafts.edit(first, {"policy/KG.json": policy}, NOW)
    assert set(edited.roles) == {"targets", "policy-KG"}
    assert signatures.missing(edited) == {"targets": 2, "policy-KG": 2}
    files = paper.accept(paper.signed(edited), first)
    assert metadata.document_paths(files)[-1] == "policy/KG.json"
    assert set(read(tmp_path, files, first[ROOT]).regional) == {"KG"}


def test_nothing_changed_is_all_signed_anew(paper: Paper, first: Files, tmp_path: Path) -> None:
    later = NOW + 13 * DAY
    renewed = drafts.edit(first, {}, later)
    assert set(renewed.roles) == set(drafts.edit(first, {}, NOW + DAY).roles) == {"targets", "monitors-KG"}
    assert renewed.documents == {}
    files = paper.accept(paper.signed(renewed), first, later)
    trusted = read(tmp_path, files, first[ROOT], later + DAY / 2)
    assert trusted.targets_expire == later + drafts.TARGETS_LIFE
    assert trusted.monitors.keys() == {monitor_id(bytes(paper.monitor.verify_key))}


def test_a_root_past_half_its_life_is_renewed_with_whatever_else_is_signed(
    paper: Paper, first: Files, tmp_path: Path
) -> None:
    files = first
    for days, root in ((180, 1), (200, 2), (220, 2), (370, 2), (390, 3)):
        now = NOW + days * DAY
        edited = drafts.edit(files, {}, now)
        assert ("root" in edited.roles) == (metadata.metadata_version(files[metadata.newest(files, "root")]) < root)
        files = paper.accept(paper.signed(edited), files, now)
        assert versions(files)["root"] == root
        # Who was there all along, and who comes with the network's first card.
        assert read(tmp_path / "old", files, first[ROOT], now).fresh
        assert read(tmp_path / str(days), files, first[ROOT], now).fresh


@pytest.mark.parametrize("path", ["monitors/.json", "people/KG.json", "monitors/KG.yaml", "/policy.json"])
def test_a_document_of_an_unknown_kind_is_not_drafted(first: Files, path: str) -> None:
    with pytest.raises(Malformed):
        drafts.edit(first, {path: {}}, NOW)
