"""The trust store: only a whole, fresh, signed set is taken, and what was taken last outlives all that goes wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey
from tuf.api.metadata import Metadata

from kengele_schemas import drafts, metadata, publication
from kengele_schemas.areas import Areas
from kengele_schemas.encoding import b64u, canonical, dumps
from kengele_schemas.errors import Damaged, Malformed, Refused, Unreachable, Untrusted
from kengele_schemas.fields import read as read_model
from kengele_schemas.keys import X25519, OpeningKey, monitor_id
from kengele_schemas.policy import PolicyFile
from kengele_schemas.roster import Offices, OfficesFile
from kengele_schemas.trust import Fetch, Trusted, TrustStore, area_of, assemble, concern, metadata_version, overlap
from kengele_testing.trust import NOW, Paper

Files = dict[str, bytes]
DAY = timedelta(days=1)
ROOT = "metadata/1.root.json"
WORLD = Areas.world()
KEYS = {name: SigningKey(bytes([number]) * 32) for number, name in enumerate(("KG-O", "SD-KH", "KZ"), 1)}
KIDS = {area: monitor_id(bytes(key.verify_key)) for area, key in KEYS.items()}
RULE = {
    "id": "one",
    "grant": ["summary"],
    "to": ["office:unrcca"],
    "areas": ["KG"],
    "categories": ["*"],
    "tlp_up_to": "AMBER",
    "expires": "2027-12-31",
    "reason": "test",
}


def office(name: str, *areas: str) -> dict[str, Any]:
    return {
        "id": name,
        "name": name.upper(),
        "areas": list(areas),
        "keys": [OpeningKey.generate(X25519).public.document()],
        "sign": b64u(bytes(SigningKey.generate().verify_key)),
    }


def listed(area: str, *monitors: str) -> dict[str, Any]:
    """The list of an area with a monitor in each of the areas named."""
    entries = [
        {
            "kid": KIDS[own],
            "key": b64u(bytes(KEYS[own].verify_key)),
            "areas": [own],
            "not_before": "2026-01-01",
            "not_after": "2027-12-31",
        }
        for own in monitors
    ]
    return {"v": 1, "area": area, "monitors": entries}


def policy(*rules: dict[str, Any], version: int = 1) -> dict[str, Any]:
    return {"v": 1, "version": version, "rules": list(rules)}


def documents(paper: Paper) -> dict[str, Any]:
    """Three countries, each with its list; an office in each of two, and one that lives by what it is granted."""
    offices = [office("unrcca", "KG"), office("unmis", "SD"), office("desk", "UZ"), office("nobody", "UZ")]
    granted = {**RULE, "id": "two", "to": ["group:desks"], "areas": ["KZ"]}
    forbidden = {"id": "three", "forbid": ["summary"], "to": ["office:nobody"], "areas": ["KG"], "reason": "test"}
    return {
        **paper.documents(),
        "offices.json": {"v": 1, "offices": offices, "groups": {"desks": ["office:desk"]}},
        "areas.json": WORLD.subset(["KG-O", "KG-B", "SD-KH", "KZ", "UZ"]).model_dump(mode="json", exclude_none=True),
        "policy.json": policy(RULE, granted, forbidden),
        "policy/SD.json": policy({**RULE, "id": "four", "to": ["office:unmis"], "areas": ["SD-KH"]}),
        "monitors/KG.json": listed("KG", "KG-O"),
        "monitors/SD.json": listed("SD", "SD-KH"),
        "monitors/KZ.json": listed("KZ", "KZ"),
    }


@pytest.fixture(scope="module")
def paper() -> Paper:
    return Paper()


@pytest.fixture(scope="module")
def first(paper: Paper) -> Files:
    return paper.accept(paper.signed(paper.drafted(documents(paper))))


@pytest.fixture(scope="module")
def second(paper: Paper, first: Files) -> Files:
    """The next version: other rules, and KG's list empty."""
    rules = metadata.document_of(first, "policy.json")
    changed = {"policy.json": {**rules, "version": 2}, "monitors/KG.json": listed("KG")}
    return paper.accept(paper.signed(drafts.edit(first, changed, NOW)), first)


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


def failing(files: Files, at: int, error: BaseException) -> Fetch:
    """Serves ``files`` and raises ``error`` at the request with this number."""
    count = 0

    def fetch(path: str) -> bytes | None:
        nonlocal count
        count += 1
        if count == at:
            raise error
        return files.get(path)

    return fetch


FAILURES: list[tuple[BaseException, type[BaseException], str]] = [
    (Unreachable("unreachable", "No line."), Unreachable, "unreachable"),
    (KeyboardInterrupt(), KeyboardInterrupt, ""),
    (TimeoutError(), Unreachable, "unreachable"),
    (RuntimeError("broken"), Untrusted, "not-served"),
    (Refused("not-admitted", "No."), Refused, "not-admitted"),
    (OSError(5, "the stick"), Untrusted, "not-served"),
]


def test_a_refresh_that_breaks_off_anywhere_leaves_no_half_set(
    store: TrustStore, tmp_path: Path, second: Files
) -> None:
    before = sets(tmp_path)
    for number, (error, told, code) in enumerate(FAILURES):
        for at in range(1 + number % 2, 8, 2):
            with pytest.raises(told) as caught:
                store.refresh(failing(second, at, error), "office", NOW, "unrcca")
            assert getattr(caught.value, "code", "") == code, at
            assert sets(tmp_path) == before
            assert kept(store) == 1
    # There are seven requests, so none breaks off at the eighth.
    assert store.refresh(failing(second, 8, FAILURES[0][0]), "office", NOW, "unrcca").policy.version == 2


def places(directory: Path) -> list[Path]:
    """Every file and folder of the current set, and what points to it; relative to ``directory``."""
    made = directory / (directory / "current").readlink()
    return [Path("current"), *(Path("current") / path.relative_to(made) for path in sorted(made.rglob("*")))]


def removed(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def as_a_file(data: bytes) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        removed(path)
        path.write_bytes(data)

    return damage


def as_a_folder(path: Path) -> None:
    removed(path)
    path.mkdir()


def as_a_dead_link(path: Path) -> None:
    removed(path)
    path.symlink_to("nowhere")


def as_a_link_to_itself(path: Path) -> None:
    removed(path)
    path.symlink_to(path.name)


DAMAGES: list[tuple[str, Callable[[Path], None]]] = [
    ("gone", removed),
    ("a folder", as_a_folder),
    ("a dead link", as_a_dead_link),
    ("a link to itself", as_a_link_to_itself),
    ("empty", as_a_file(b"")),
    ("other JSON", as_a_file(b"{}")),
    ("a time without its zone", as_a_file(b"2026-11-01T12:00:00")),
]


@pytest.mark.parametrize(("_what", "damage"), DAMAGES, ids=[what for what, _ in DAMAGES])
def test_whatever_becomes_of_the_files_here_is_told_or_does_no_harm_and_is_mended_online(
    tmp_path: Path, first: Files, _what: str, damage: Callable[[Path], None]
) -> None:
    whole = TrustStore(tmp_path / "whole", first[ROOT])
    expected = whole.refresh(first.get, "office", NOW, "unrcca")
    names = places(tmp_path / "whole")
    assert len(names) > 15
    for name in names:
        directory = tmp_path / "damaged"
        shutil.copytree(tmp_path / "whole", directory, symlinks=True)
        store = TrustStore(directory, first[ROOT])
        damage(directory / name)
        found: Trusted | None = None
        with suppress(Damaged) if name != Path("current") else suppress(Damaged, Untrusted):
            found = store.offline("office", NOW, "unrcca")
        if found is not None:
            assert (found.policy, found.monitors) == (expected.policy, expected.monitors), name
        assert store.refresh(first.get, "office", NOW, "unrcca").fresh, name
        assert places(directory) == names
        shutil.rmtree(directory)


def test_a_store_copied_by_what_knows_no_links_is_used_and_renewed(
    store: TrustStore, tmp_path: Path, second: Files
) -> None:
    copied = tmp_path / "restored"
    (copied / "current").mkdir(parents=True)
    shutil.copytree(tmp_path / "current", copied / "current", dirs_exist_ok=True)
    restored = TrustStore(copied, second[ROOT])
    assert kept(restored) == 1
    assert restored.refresh(second.get, "office", NOW, "unrcca").policy.version == 2
    assert kept(restored) == 2


def test_where_nothing_can_be_kept_that_is_said(tmp_path: Path, first: Files) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Damaged) as caught:
        TrustStore(tmp_path / "file" / "trust", first[ROOT]).refresh(first.get, "monitor", NOW)
    assert caught.value.code == "not-kept"


def aged(directory: Path) -> None:
    """Makes all sets look an hour old."""
    for name in sets(directory):
        then = (directory / name).stat().st_mtime - 3600
        os.utime(directory / name, (then, then))


def test_the_set_just_replaced_stays_for_who_may_be_reading_it_and_older_ones_go(
    store: TrustStore, tmp_path: Path, first: Files
) -> None:
    aged(tmp_path)
    (old,) = sets(tmp_path)
    store.refresh(first.get, "office", NOW, "unrcca")
    assert old in sets(tmp_path)
    assert len(sets(tmp_path)) == 2
    aged(tmp_path)
    store.refresh(first.get, "office", NOW, "unrcca")
    assert old not in sets(tmp_path)
    assert len(sets(tmp_path)) == 2


def test_a_refresh_does_not_tidy_away_one_that_is_under_way(store: TrustStore, tmp_path: Path, first: Files) -> None:
    other = TrustStore(tmp_path, first[ROOT])
    aged(tmp_path)

    def fetch(path: str) -> bytes | None:
        if path == "metadata/timestamp.json":
            fetching.append(path)
            if len(fetching) == 1:
                other.refresh(first.get, "office", NOW, "unrcca")
        return first.get(path)

    fetching: list[str] = []
    assert store.refresh(fetch, "office", NOW, "unrcca").fresh
    assert kept(store) == 1


def test_a_slow_refresh_does_not_undo_a_faster_one(
    store: TrustStore, tmp_path: Path, first: Files, second: Files
) -> None:
    other = TrustStore(tmp_path, first[ROOT])

    def fetch(path: str) -> bytes | None:
        if path == "metadata/timestamp.json" and kept(other) == 1:
            other.refresh(second.get, "office", NOW, "unrcca")
        return first.get(path)

    with pytest.raises(Untrusted) as caught:
        store.refresh(fetch, "office", NOW, "unrcca")
    assert caught.value.code == "rolled-back"
    assert kept(store) == 2
    assert len(sets(tmp_path)) == 2


def test_a_refresh_that_is_broken_off_at_its_last_step_leaves_the_new_set(
    store: TrustStore, tmp_path: Path, second: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt = TrustStore._adopt

    def interrupted(self: TrustStore, *args: Any) -> bool:
        adopt(self, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(TrustStore, "_adopt", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.refresh(second.get, "office", NOW, "unrcca")
    assert kept(store) == 2


def test_who_reads_offline_reads_one_set_though_another_takes_its_place(
    store: TrustStore, tmp_path: Path, second: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = TrustStore(tmp_path, second[ROOT])
    verified = TrustStore._verified

    def slow(self: TrustStore, *args: Any, **how: Any) -> Trusted:
        if self is store:
            other.refresh(second.get, "office", NOW, "unrcca")
        return verified(self, *args, **how)

    monkeypatch.setattr(TrustStore, "_verified", slow)
    assert store.offline("office", NOW, "unrcca").policy.version == 1
    assert store.offline("office", NOW, "unrcca").policy.version == 2


def test_a_set_is_on_the_disk_before_it_is_the_current_one(
    store: TrustStore, tmp_path: Path, second: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    fsync, replace = os.fsync, Path.replace

    def noting(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def checking(self: Path, target: Path) -> Path:
        if target.name == "current":
            made = self.resolve()
            missing = [path for path in (made, *made.rglob("*")) if path.stat().st_ino not in synced]
            assert missing == []
            assert len(list(made.rglob("*"))) > 15
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noting)
    monkeypatch.setattr(Path, "replace", checking)
    store.refresh(second.get, "office", NOW, "unrcca")
    assert tmp_path.stat().st_ino in synced
    assert kept(store) == 2


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


def assembled(changed: Mapping[str, Any], base: Mapping[str, Any]) -> Trusted:
    texts = {path: dumps(value) for path, value in {**base, **changed}.items()}
    return assemble(texts, version=1, fresh=True, expires=NOW)


@pytest.fixture(scope="module")
def base(paper: Paper) -> dict[str, Any]:
    return documents(paper)


UNFIT: list[tuple[str, dict[str, Any], str]] = [
    ("a regional list of another area's name", {"monitors/KG.json": listed("KZ")}, "foreign-area"),
    ("a regional list of a larger area", {"monitors/KG.json": {**listed("KG"), "area": "143"}}, "foreign-area"),
    ("a monitor of a foreign area", {"monitors/KZ.json": listed("KZ", "SD-KH")}, "foreign-area"),
    ("a monitor of an area above", {"monitors/KG-O.json": listed("KG-O", "KZ")}, "foreign-area"),
    ("a list of an area that there is not", {"monitors/QQ.json": listed("QQ")}, "foreign-area"),
    ("a regional rule on a foreign area", {"policy/KZ.json": policy({**RULE, "id": "x"})}, "foreign-area"),
    (
        "a regional rule on all there is",
        {"policy/KG.json": policy({**RULE, "id": "x", "areas": ["*"]})},
        "foreign-area",
    ),
    ("a monitor in two lists", {"monitors/KG-O.json": listed("KG-O", "KG-O")}, "bad-monitor"),
    ("a rule's id in two files", {"policy/KG.json": policy(RULE)}, "bad-rule"),
    ("a rule for an office that is not there", {"policy.json": policy({**RULE, "to": ["office:unrccb"]})}, "bad-rule"),
    ("a rule on an area that is not there", {"policy.json": policy({**RULE, "areas": ["QQ"]})}, "bad-rule"),
    ("a document of an unknown kind", {"people/KG.json": {}}, "malformed"),
    ("a list that is none", {"monitors/KG.json": []}, "bad-field"),
    ("rules that are none", {"policy.json": {"v": 1}}, "bad-field"),
    (
        "areas that hold each other",
        {
            "areas.json": {
                "v": 1,
                "areas": [
                    {"code": "AA", "name": "A", "kind": "country", "parents": ["BB"]},
                    {"code": "BB", "name": "B", "kind": "country", "parents": ["AA"]},
                ],
            }
        },
        "bad-areas",
    ),
    ("an office twice", {"offices.json": {"v": 1, "offices": [office("unrcca", "KG")] * 2}}, "bad-offices"),
    (
        "no custodian",
        {"offices.json": {"v": 1, "offices": [office("desk", "KG")]}, "policy.json": policy()},
        "bad-offices",
    ),
]


@pytest.mark.parametrize(("_sentence", "changed", "code"), UNFIT, ids=[row[0] for row in UNFIT])
def test_documents_that_do_not_fit_each_other_are_refused(
    _sentence: str, changed: dict[str, Any], code: str, base: dict[str, Any]
) -> None:
    assert assembled({}, base).monitors.keys() == set(KIDS.values())
    with pytest.raises(Malformed) as caught:
        assembled(changed, base)
    assert caught.value.code == code


def test_a_network_without_offices_needs_no_custodian_yet(base: dict[str, Any]) -> None:
    bare = {path: base[path] for path in ("network.json", "areas.json")}
    found = assembled({"offices.json": {"v": 1, "offices": []}, "policy.json": policy()}, bare)
    assert found.offices.active == ()
    assert found.connections is None


def test_a_monitor_whose_name_is_not_its_keys_is_refused(base: dict[str, Any]) -> None:
    wrong = listed("KG", "KG-O")
    wrong["monitors"][0]["kid"] = KIDS["KZ"]
    with pytest.raises(Malformed) as caught:
        assembled({"monitors/KG.json": wrong}, base)
    assert caught.value.code == "bad-monitor"


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


@pytest.mark.parametrize(
    ("area", "own", "touches"),
    [
        ("KG", ["KG"], True),
        ("KG", ["KG-O"], True),
        ("KG-O", ["KG"], True),
        ("KG", ["*"], True),
        ("KG", ["SD", "KG-B"], True),
        ("KG", ["XB-FERGANA"], True),
        ("KG-O", ["KG-B"], False),
        ("KG", ["SD"], False),
        ("KG", ["QQ"], False),
        ("KG", [], False),
        ("QQ", ["*"], False),
        ("QQ", ["QQ"], False),
    ],
)
def test_areas_touch_where_one_report_may_lie_in_both(area: str, own: list[str], touches: bool) -> None:
    assert overlap(area, own, WORLD) == touches


def test_an_office_is_concerned_by_its_own_areas_and_by_grants_but_not_by_forbids(base: dict[str, Any]) -> None:
    offices = Offices(read_model(OfficesFile, base["offices.json"]))
    policies = [read_model(PolicyFile, base[path]) for path in ("policy.json", "policy/SD.json")]
    found = {
        name: concern(offices.document.offices[number], policies, offices)
        for number, name in enumerate(("unrcca", "unmis", "desk", "nobody"))
    }
    assert found == {"unrcca": ("KG",), "unmis": ("SD", "SD-KH"), "desk": ("KZ", "UZ"), "nobody": ("UZ",)}


NESTED = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(["signed", "signatures", "_type", "version"]), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=100) | NESTED.map(dumps))
def test_garbage_has_no_version(data: bytes) -> None:
    with pytest.raises(Malformed):
        metadata_version(data)


def test_metadata_has_the_version_that_stands_in_it(second: Files) -> None:
    assert metadata_version(second["metadata/2.targets.json"]) == 2
    assert metadata_version(second[ROOT]) == 1
