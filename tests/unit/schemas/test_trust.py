"""The trust store: only a whole, fresh, signed set is taken, and what was taken last outlives all that goes wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tuf.api.metadata import Metadata

from kengele_schemas import drafts, metadata, publication
from kengele_schemas.encoding import canonical
from kengele_schemas.errors import Malformed, Untrusted
from kengele_schemas.trust import TrustStore
from kengele_testing import countries
from kengele_testing.countries import KIDS, RULE, listed, policy
from kengele_testing.trust import DAY, NOW, ROOT, Files, Paper, resigned


@pytest.fixture(scope="module")
def first(paper: Paper) -> Files:
    return countries.founded(paper)


@pytest.fixture(scope="module")
def second(paper: Paper, first: Files) -> Files:
    return countries.changed(paper, first)


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for the disk: only one test here is about that."""
    if "on_the_disk" not in request.node.name:
        monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def store(tmp_path: Path, first: Files) -> TrustStore:
    """A store that has seen the first version."""
    store = TrustStore(tmp_path, first[ROOT])
    store.refresh(first.get, "office", NOW, "unrcca")
    return store


def kept(store: TrustStore, now: datetime = NOW) -> int:
    """The version of the rules that are kept, read again from the disk."""
    return store.offline("office", now, "unrcca").policy.version


def vouched(paper: Paper, files: Mapping[str, bytes], now: datetime = NOW, number: int = 50) -> Files:
    return publication.vouched(dict(files), paper.snapshot, paper.timestamp, now, number, number)


def sets(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("set-*"))


def test_what_was_refreshed_is_there_offline(store: TrustStore, first: Files) -> None:
    online = store.refresh(first.get, "office", NOW, "unrcca")
    offline = store.offline("office", NOW + 30 * DAY, "unrcca")
    assert (online.fresh, offline.fresh) == (True, False)
    assert (online.version, offline.version) == (1, 1)
    assert online.targets_expire == offline.targets_expire == NOW + drafts.TARGETS_LIFE
    for part in ("network", "policy", "regional", "monitors", "connections"):
        assert getattr(online, part) == getattr(offline, part), part
    assert online.offices.document == offline.offices.document
    assert offline.network.name == "Test"


def test_who_never_was_online_has_no_rules(tmp_path: Path, first: Files) -> None:
    for directory in (tmp_path / "missing", tmp_path):
        with pytest.raises(Untrusted) as caught:
            TrustStore(directory, first[ROOT]).offline("monitor", NOW)
        assert caught.value.code == "no-trust"
    with pytest.raises(Untrusted):
        TrustStore(tmp_path, first[ROOT]).refresh({}.get, "monitor", NOW)
    assert sets(tmp_path) == []


@pytest.mark.parametrize("root", [b"", b"{}", b"null", b"[" * 5000, b"\xff"])
def test_a_root_that_is_none_trusts_nothing(tmp_path: Path, first: Files, root: bytes) -> None:
    with pytest.raises(Untrusted) as caught:
        TrustStore(tmp_path, root).refresh(first.get, "monitor", NOW)
    assert caught.value.code == "bad-signature"


def test_rules_come_from_a_plain_directory_as_well(tmp_path: Path, first: Files) -> None:
    stick = tmp_path / "stick"
    for path, data in first.items():
        (stick / path).parent.mkdir(parents=True, exist_ok=True)
        (stick / path).write_bytes(data)

    def fetch(path: str) -> bytes | None:
        return (stick / path).read_bytes() if (stick / path).exists() else None

    trusted = TrustStore(tmp_path / "trust", first[ROOT]).refresh(fetch, "coordinator", NOW)
    assert trusted.monitors.keys() == set(KIDS.values())
    assert trusted.connections is not None


SCOPES: list[tuple[str, str, set[str], set[str]]] = [
    # scope, office, whose monitors it has, which lists it asks for
    ("monitor", "", set(), set()),
    ("monitor", "unrcca", set(), set()),
    ("office", "unrcca", {"KG-O"}, {"KG"}),
    ("office", "unmis", {"SD-KH"}, {"SD"}),
    ("office", "desk", {"KZ"}, {"KZ"}),
    ("office", "nobody", set(), set()),
    ("office", "unknown", set(), set()),
    ("coordinator", "", set(KIDS), {"KG", "SD", "KZ"}),
    ("hub", "", set(KIDS), {"KG", "SD", "KZ"}),
]


@pytest.mark.parametrize(("scope", "name", "monitors", "lists"), SCOPES, ids=[f"{row[0]} {row[1]}" for row in SCOPES])
def test_each_role_asks_for_its_own_lists_and_no_others(
    tmp_path: Path, first: Files, scope: Any, name: str, monitors: set[str], lists: set[str]
) -> None:
    asked: list[str] = []

    def fetch(path: str) -> bytes | None:
        asked.append(path)
        return first.get(path)

    trusted = TrustStore(tmp_path, first[ROOT]).refresh(fetch, scope, NOW, name)
    assert trusted.monitors.keys() == {KIDS[area] for area in monitors}
    for kind in ("targets/monitors/", "metadata/1.monitors-"):
        found = {path.removesuffix(".json")[-2:] for path in asked if path.startswith(kind)}
        assert found == lists
    central = scope in ("coordinator", "hub")
    assert (trusted.connections is not None) == central
    assert any("connections" in path for path in asked) == central
    assert set(trusted.regional) == {"SD"}


def test_an_office_is_told_of_a_new_area_as_soon_as_a_rule_grants_it_something(
    tmp_path: Path, paper: Paper, first: Files
) -> None:
    rules = metadata.document_of(first, "policy.json")
    wider = {**RULE, "id": "wider", "to": ["office:nobody"], "areas": ["*"]}
    changed = {"policy.json": {**rules, "version": 2, "rules": [*rules["rules"], wider]}}
    files = paper.accept(paper.signed(drafts.edit(first, changed, NOW)), first)
    store = TrustStore(tmp_path, first[ROOT])
    assert store.refresh(first.get, "office", NOW, "nobody").monitors == {}
    assert store.refresh(files.get, "office", NOW, "nobody").monitors.keys() == set(KIDS.values())


def resigned_timestamp(paper: Paper, files: Files, now: datetime) -> Files:
    fresh = vouched(paper, files, now, number=1)
    number = metadata.metadata_version(files["metadata/timestamp.json"]) + 1
    stamp = Metadata[Any].from_bytes(fresh["metadata/timestamp.json"])
    stamp.signed.version = number
    stamp.sign(metadata.signer_of(paper.timestamp))
    return {**files, "metadata/timestamp.json": stamp.to_bytes()}


def renewed(paper: Paper, files: Files, now: datetime, *roles: str) -> Files:
    """``files`` with these roles signed anew, and the hub's part."""
    draft = paper.signed(drafts.edit(files, {}, now)).files()
    anew = {path: data for path, data in draft.items() if path.partition(".")[2].removesuffix(".json") in roles}
    if "targets" in roles:
        path = next(path for path in anew if path.endswith(".targets.json"))
        anew[path] = resigned(anew[path], *paper.coordinators[:2], unrecognized_fields={})
    return vouched(paper, {**files, **anew}, now)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "root"])
def test_each_part_past_its_date_is_noticed(store: TrustStore, paper: Paper, first: Files, role: str) -> None:
    served: dict[str, tuple[Files, timedelta]] = {
        "timestamp": (first, DAY),
        "snapshot": (resigned_timestamp(paper, first, NOW + 7 * DAY), 7 * DAY),
        "targets": (renewed(paper, first, NOW + 14 * DAY, "monitors-KG"), 14 * DAY),
        "root": (renewed(paper, first, NOW + 365 * DAY, "targets", "policy-SD", "monitors-KG"), 365 * DAY),
    }
    files, later = served[role]
    with pytest.raises(Untrusted) as caught:
        store.refresh(files.get, "office", NOW + later, "unrcca")
    assert caught.value.code == "frozen"
    assert kept(store, NOW + later) == 1
    if role == "monitors-KG":
        assert store.refresh(files.get, "monitor", NOW + later).fresh


def test_up_to_their_last_second_rules_hold(store: TrustStore, paper: Paper, first: Files) -> None:
    second = timedelta(seconds=1)
    assert store.refresh(first.get, "office", NOW + DAY - second, "unrcca").fresh
    late = NOW + 14 * DAY - second
    assert store.refresh(vouched(paper, first, late).get, "office", late, "unrcca").fresh


def test_an_office_knows_when_its_signatures_end_and_when_each_areas_do(
    tmp_path: Path, paper: Paper, first: Files
) -> None:
    later = NOW + 5 * DAY
    files = renewed(paper, first, later, "targets")
    store = TrustStore(tmp_path, first[ROOT])
    trusted = store.refresh(files.get, "office", later, "unrcca")
    assert trusted.targets_expire == later + 14 * DAY
    assert set(trusted.ends.values()) == {NOW + 14 * DAY}
    files = renewed(paper, first, later, "targets", "policy-SD")
    assert store.refresh(vouched(paper, files, later, 60).get, "monitor", later).targets_expire == later + 14 * DAY


def test_a_clock_set_back_makes_nothing_valid_again_and_loses_nothing(store: TrustStore, first: Files) -> None:
    assert kept(store, NOW - 300 * DAY) == 1
    assert kept(store, NOW + 300 * DAY) == 1
    with pytest.raises(Untrusted):
        store.refresh(first.get, "office", NOW + 300 * DAY, "unrcca")


def test_no_part_goes_back_behind_what_was_seen(tmp_path: Path, paper: Paper, first: Files, second: Files) -> None:
    regional = "metadata/2.monitors-KG.json"
    without = {path: second[path] for path in second if path != regional}
    older = {
        "the timestamp": {**second, "metadata/timestamp.json": first["metadata/timestamp.json"]},
        "the list of documents": vouched(paper, {**first, regional: second[regional]}),
        "a regional list": vouched(paper, {**first, **without}),
    }
    store = TrustStore(tmp_path, first[ROOT])
    store.refresh(second.get, "office", NOW, "unrcca")
    for sentence, files in older.items():
        with pytest.raises(Untrusted) as caught:
            store.refresh(files.get, "office", NOW, "unrcca")
        assert caught.value.code == "rolled-back", sentence
        assert kept(store) == 2


def test_files_of_two_versions_do_not_mix(store: TrustStore, first: Files, second: Files) -> None:
    swapped = {f"metadata/2.{role}.json": f"metadata/1.{role}.json" for role in ("monitors-KG", "targets", "snapshot")}
    for path in ("policy.json", "monitors/KG.json"):
        new, old = (
            metadata.target_path(path, canonical(metadata.document_of(files, path))) for files in (second, first)
        )
        swapped[new] = old
    for new, old in swapped.items():
        with pytest.raises(Untrusted) as caught:
            store.refresh({**second, new: first[old]}.get, "office", NOW, "unrcca")
        assert caught.value.code in ("mix-and-match", "rolled-back"), new
        assert kept(store) == 1


def needed(files: Files) -> list[str]:
    """What the office fetches of a new version."""
    return [path for path in files if not any(word in path for word in ("connections", "SD", "KZ", "root"))]


def test_a_version_served_in_part_leaves_the_last_whole_one(store: TrustStore, tmp_path: Path, second: Files) -> None:
    new = [path for path in needed(second) if second[path] != store.files().get(path)]
    assert len(new) == 6
    for path in new:
        served = {name: second[name] for name in second if name != path}
        with pytest.raises(Untrusted) as caught:
            store.refresh(served.get, "office", NOW, "unrcca")
        assert caught.value.code == "not-served", path
        assert kept(store) == 1
        assert len(sets(tmp_path)) == 1
    assert store.refresh(second.get, "office", NOW, "unrcca").policy.version == 2
    assert kept(store) == 2


GARBAGE = [
    b"",
    b"null",
    b"\xff",
    b"[" * 5000,
    b'{"signed":{"_type":"targets"},"signatures":[]}',
    b"0" * 600_000,
]


def test_garbage_at_any_path_is_refused_and_changes_nothing(store: TrustStore, tmp_path: Path, second: Files) -> None:
    for path in [*needed(second), "metadata/2.root.json"]:
        if second.get(path) == store.files().get(path) is not None:
            continue
        for garbage in GARBAGE:
            with pytest.raises((Untrusted, Malformed)):
                store.refresh({**second, path: garbage}.get, "office", NOW, "unrcca")
    assert kept(store) == 1
    assert len(sets(tmp_path)) == 1


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_bytes_at_any_path_raise_anything_but_our_errors(
    tmp_path_factory: pytest.TempPathFactory, first: Files, data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from([*needed(first), "metadata/2.root.json"]))
    whole = first.get(path, first[ROOT])
    at, cut = data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, 9))
    piece = data.draw(
        st.binary(max_size=9) | st.sampled_from([b"null", b'""', b"-1", b"1e400", b"{}", b"[]", b"\\ud800"])
    )
    changed = data.draw(st.sampled_from([whole[:at] + piece + whole[at + cut :], piece]))
    directory = tmp_path_factory.mktemp("trust")
    store = TrustStore(directory, first[ROOT])
    try:
        trusted = store.refresh({**first, path: changed}.get, "office", NOW, "unrcca")
    except (Untrusted, Malformed):
        assert sets(directory) == []
    else:
        assert trusted.policy == store.offline("office", NOW, "unrcca").policy
    shutil.rmtree(directory)


def test_a_stick_with_rules_past_their_date_leaves_what_was_kept(
    store: TrustStore, paper: Paper, second: Files
) -> None:
    late = NOW + 14 * DAY
    with pytest.raises(Untrusted) as caught:
        store.carried(second.get, "office", late, "unrcca")
    assert caught.value.code == "frozen"
    assert kept(store, late) == 1


def test_what_is_kept_can_be_served_again_and_drafted_from(tmp_path: Path, paper: Paper, first: Files) -> None:
    store = TrustStore(tmp_path / "one", first[ROOT])
    store.refresh(first.get, "coordinator", NOW)
    assert store.files() == first
    again = TrustStore(tmp_path / "two", first[ROOT])
    assert again.refresh(store.files().get, "coordinator", NOW).version == 1
    draft = paper.signed(drafts.edit(store.files(), {}, NOW))
    assert paper.accept(draft, first)["metadata/2.targets.json"]


def test_the_files_are_those_of_the_newest_version_only(
    tmp_path: Path, paper: Paper, first: Files, second: Files
) -> None:
    store = TrustStore(tmp_path, first[ROOT])
    for files in (first, second):
        store.refresh(files.get, "coordinator", NOW)
    assert store.files() == second


def test_signed_documents_that_do_not_fit_leave_what_was_kept(store: TrustStore, paper: Paper, first: Files) -> None:
    foreign = {"monitors/KG.json": {**listed("KG"), "monitors": listed("SD", "SD-KH")["monitors"]}}
    draft = paper.signed(drafts.edit(first, foreign, NOW))
    served = vouched(paper, {**first, **draft.files()})
    with pytest.raises(Malformed) as caught:
        store.refresh(served.get, "office", NOW, "unrcca")
    assert caught.value.code == "foreign-area"
    assert kept(store) == 1
    assert store.offline("office", NOW, "unrcca").monitors.keys() == {KIDS["KG-O"]}


@pytest.mark.parametrize(("scope", "name"), [("monitor", ""), ("office", "unrcca"), ("hub", "")])
def test_a_rule_for_an_office_that_is_not_there_is_told_to_all_alike(
    tmp_path: Path, paper: Paper, first: Files, scope: Any, name: str
) -> None:
    rules = {"policy.json": policy({**RULE, "to": ["office:unrccb"]}, version=2)}
    served = vouched(paper, {**first, **paper.signed(drafts.edit(first, rules, NOW)).files()})
    with pytest.raises(Malformed) as caught:
        TrustStore(tmp_path, first[ROOT]).refresh(served.get, scope, NOW, name)
    assert caught.value.code == "bad-rule"
