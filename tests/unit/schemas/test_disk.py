"""Files: written whole or not at all, for their user alone; read within bounds, and through no link in a directory."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kengele_schemas import disk
from kengele_schemas.errors import Damaged, KengeleError, Malformed, Refused

Lay = Callable[[Path, Path], None]
LAID: dict[str, Lay] = {
    "link": lambda path, victim: path.symlink_to(victim),
    "dangling link": lambda path, victim: path.symlink_to(victim.parent / "new"),
    "link to a directory": lambda path, victim: path.symlink_to(victim.parent, target_is_directory=True),
    "pipe": lambda path, _: os.mkfifo(path),
    "directory": lambda path, _: path.mkdir(),
}


def code(use: Callable[[], object]) -> str:
    with pytest.raises(KengeleError) as caught:
        use()
    assert caught.value.mend
    return caught.value.code


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A file that no attack may reach, in a directory where none may make another."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").write_bytes(b"mine")
    (tmp_path / "out").mkdir()
    yield tmp_path / "victim" / "file"
    assert (tmp_path / "victim" / "file").read_bytes() == b"mine"
    assert [path.name for path in (tmp_path / "victim").iterdir()] == ["file"]


@pytest.mark.parametrize("laid", LAID)
@pytest.mark.parametrize(
    ("name", "place"), [("file", "file"), ("a/b/file", "a"), ("a/b/file", "a/b"), ("a/b/file", "a/b/file")]
)
def test_nothing_that_was_laid_is_written_to_or_read(
    tmp_path: Path, victim: Path, laid: str, name: str, place: str
) -> None:
    out = tmp_path / "out"
    (out / place).parent.mkdir(parents=True, exist_ok=True)
    LAID[laid](out / place, victim)
    before = sorted(map(str, out.rglob("*")))
    if laid == "directory" and place != name:
        disk.write_below(out, name, b"x")
        assert (out / name).read_bytes() == b"x"
        return
    assert code(lambda: disk.write_below(out, name, b"x")) == "in-the-way"
    assert code(lambda: disk.read_below(out, name)) == "no-plain-file"
    if place == name:
        assert code(lambda: disk.opened(out / name)) == "no-plain-file"
        assert code(lambda: disk.kept(out / name)) == "in-the-way"
        assert code(lambda: disk.kept(out / name, append=True)) == "in-the-way"
    else:
        assert code(lambda: disk.names_below(out, place)) == "no-plain-file"
    assert sorted(map(str, out.rglob("*"))) == before


def test_a_file_and_the_directories_made_for_it_are_for_their_user_alone(tmp_path: Path) -> None:
    disk.write_below(tmp_path, "a/b", b"x")
    disk.make_directory(tmp_path / "c/d")
    os.close(disk.kept(tmp_path / "lock"))
    modes = {str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {"a": 0o700, "a/b": 0o600, "c": 0o700, "c/d": 0o700, "lock": 0o600}


def test_a_file_that_others_could_read_is_replaced_by_one_that_they_cannot(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")
    (tmp_path / "x").chmod(0o666)
    with (tmp_path / "x").open("rb") as ear:
        disk.write(tmp_path / "x", b"new")
        assert ear.read() == b"old"
    assert (stat.S_IMODE((tmp_path / "x").stat().st_mode), (tmp_path / "x").read_bytes()) == (0o600, b"new")


def test_what_ends_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    disk.write(tmp_path / "x", b"old")
    with pytest.raises(KeyboardInterrupt), disk.writing(tmp_path, "x") as file:  # noqa: PT012
        file.write(b"half")
        raise KeyboardInterrupt
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"x": b"old"}


@pytest.mark.parametrize(
    ("number", "error", "told"),
    [
        (errno.ENOSPC, Damaged, "storage-full"),
        (errno.EDQUOT, Damaged, "storage-full"),
        (errno.EROFS, Refused, "not-writable"),
        (errno.EACCES, Refused, "not-writable"),
    ],
)
@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_disk_that_takes_no_more_is_told_and_the_old_file_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[KengeleError], told: str, step: str
) -> None:
    disk.write(tmp_path / "x", b"old")

    def fails(*_: object, **__: object) -> None:
        raise OSError(number, "canary")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fails)
        with pytest.raises(error) as caught:
            disk.write(tmp_path / "x", b"new")
    assert caught.value.code == told
    assert "canary" not in caught.value.diagnostics()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"x": b"old"}


def test_a_stick_whose_directories_cannot_be_synced_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def only_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no such thing here")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    disk.write_below(tmp_path, "a/b", b"x")
    assert (tmp_path / "a/b").read_bytes() == b"x"


def test_a_new_file_takes_no_others_place(tmp_path: Path) -> None:
    disk.write(tmp_path / "x", b"old", new=True)
    assert code(lambda: disk.write(tmp_path / "x", b"new", new=True)) == "exists"
    assert (tmp_path / "x").read_bytes() == b"old"


def test_a_file_is_read_up_to_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert disk.read(tmp_path / "x", 5) == b"12345"
    assert code(lambda: disk.read(tmp_path / "x", 4)) == "too-large"
    assert code(lambda: disk.read_own(tmp_path / "x", 4)) == "too-large"
    assert disk.read_secret(tmp_path / "x", 4)[0] == b"1234"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"12345")))
    assert code(lambda: disk.read(disk.STDIN, 4)) == "too-large"


def test_what_comes_on_stdin_is_read_where_a_dash_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"{}")))
    assert disk.read(disk.STDIN) == b"{}"


def test_a_file_that_is_missing_or_closed_to_the_user_is_told_with_its_path(tmp_path: Path) -> None:
    for use in (disk.read, disk.opened, disk.read_own):
        with pytest.raises(FileNotFoundError) as caught:
            use(tmp_path / "a/x")
        assert str(tmp_path) in str(caught.value.filename)


def test_a_file_of_the_users_own_may_be_a_link_or_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"key")
    (tmp_path / "x").chmod(0o644)
    (tmp_path / "link").symlink_to("x")
    assert disk.read_own(tmp_path / "link") == b"key"
    assert disk.read_secret(tmp_path / "link", 9) == (b"key", True)
    (tmp_path / "x").chmod(0o600)
    assert disk.read_secret(tmp_path / "link", 9) == (b"key", False)


def test_names_are_listed_in_order_and_none_where_there_is_no_directory(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / name).touch()
    assert disk.names_below(tmp_path.parent, tmp_path.name) == ["a", "b", "c"]
    assert disk.names_below(tmp_path, "none") == []
    assert code(lambda: disk.names_below(tmp_path.parent, tmp_path.name, 2)) == "too-many-files"


def test_a_directory_is_empty_when_nothing_is_in_it(tmp_path: Path) -> None:
    assert disk.empty(tmp_path)
    assert disk.empty(tmp_path / "new")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert not disk.empty(tmp_path)
    assert not disk.empty(tmp_path / "dangling")


def test_what_is_removed_is_the_link_and_not_where_it_leads(tmp_path: Path, victim: Path) -> None:
    home = tmp_path / "home"
    (home / "own").mkdir(parents=True)
    (home / "own/x").symlink_to(victim.parent, target_is_directory=True)
    disk.remove_made(home, (), ("own",))
    assert not home.exists()
    home.symlink_to(victim.parent, target_is_directory=True)
    disk.remove_made(tmp_path, (), ("home",))
    assert home.is_symlink()


def test_what_others_put_there_stays_when_what_was_written_is_removed(tmp_path: Path, victim: Path) -> None:
    home = tmp_path / "home"
    disk.make_directory(home / "own")
    for name in ("keys.json", "own/deep", "theirs"):
        disk.write(home / name, b"x")
    (home / "hub.json").symlink_to(victim)
    disk.remove_made(home, ("keys.json", "hub.json", "none.json"), ("own", "none"))
    assert sorted(path.name for path in home.iterdir()) == ["hub.json", "theirs"]
    (home / "hub.json").unlink()
    (home / "theirs").unlink()
    disk.remove_made(home, ("keys.json",))
    assert not home.exists()


@pytest.mark.parametrize("name", ["../x", "/x", "a/../x", "", ".", "a//b", "x\0y"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    for use in (
        lambda: disk.write_below(tmp_path, name, b""),
        lambda: disk.read_below(tmp_path, name),
        lambda: disk.names_below(tmp_path, name),
    ):
        with pytest.raises(Malformed):
            use()
