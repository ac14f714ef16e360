"""The sets of trust files on the disk: whatever breaks off, fails or comes in between, one whole set is current."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from kengele_schemas import trust
from kengele_schemas.errors import Damaged, Refused, Unreachable, Untrusted
from kengele_schemas.sets import Sets
from kengele_schemas.trust import TrustStore
from kengele_schemas.trusted import Trusted
from kengele_schemas.verification import Fetch
from kengele_testing import countries
from kengele_testing.trust import NOW, ROOT, Files, Paper


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


def sets(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("set-*"))


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
    adopt = Sets.adopt

    def interrupted(self: Sets, *args: Any) -> bool:
        adopt(self, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(Sets, "adopt", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.refresh(second.get, "office", NOW, "unrcca")
    assert kept(store) == 2


def test_who_reads_offline_reads_one_set_though_another_takes_its_place(
    store: TrustStore, tmp_path: Path, second: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = TrustStore(tmp_path, second[ROOT])
    verified = trust.verified
    reading = [True]

    def slow(*args: Any, fresh: bool, **how: Any) -> Trusted:
        if not fresh and reading:
            reading.pop()
            other.refresh(second.get, "office", NOW, "unrcca")
        return verified(*args, fresh=fresh, **how)

    monkeypatch.setattr(trust, "verified", slow)
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
