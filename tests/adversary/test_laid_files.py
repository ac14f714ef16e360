"""Links, pipes and the like that somebody laid where a command writes or reads, each met through the command."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kengele_node.rules import write
from kengele_schemas import disk
from kengele_schemas.errors import Malformed
from kengele_testing import forked
from kengele_testing.network import small_network

_PATIENCE = 60


class Victim:
    """A file and a directory of the user's that an attacker wants written to, emptied or read."""

    def __init__(self, directory: Path) -> None:
        self.folder = directory / "victim"
        self.folder.mkdir()
        self.file = self.folder / "letters"
        self.file.write_text("mine")

    def whole(self) -> bool:
        return [path.name for path in self.folder.iterdir()] == ["letters"] and self.file.read_text() == "mine"


def _link(path: Path, victim: Victim) -> None:
    path.symlink_to(victim.file)


def _dangling(path: Path, victim: Victim) -> None:
    path.symlink_to(victim.folder / "new")


def _folder_link(path: Path, victim: Victim) -> None:
    path.symlink_to(victim.folder, target_is_directory=True)


def _pipe(path: Path, _: Victim) -> None:
    os.mkfifo(path)


def _socket(path: Path, _: Victim) -> None:
    # The name of a socket may be no longer than 107 bytes.
    here = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


def _device(path: Path, _: Victim) -> None:
    try:
        os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root may make a device")


def _directory(path: Path, _: Victim) -> None:
    path.mkdir()


LAID = [_link, _dangling, _folder_link, _pipe, _socket, _device, _directory]
LAID_FOR_A_DIRECTORY = [_link, _dangling, _folder_link, _pipe]
Lay = Callable[[Path, Victim], None]


@pytest.fixture(scope="module")
def founder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a hub's card and a coordinator's home, from which a network can be founded."""
    home = tmp_path_factory.mktemp("founder")
    assert kengele(home, "hub", "init", "--home", "hub", "--port", "4222").returncode == 0
    for name in ("aigul", "bakyt"):
        done = kengele(home, "coordinator", "init", "--home", name, "--new-key-file", f"{name}.key", "--name", name)
        assert done.returncode == 0, done.stderr
    return home


def kengele(where: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return forked.run(tuple(map(str, words)), cwd=where, timeout=_PATIENCE)


def found(founder: Path, where: Path, *words: object) -> subprocess.CompletedProcess[str]:
    card, hub = founder / "bakyt/card.json", founder / "hub/hub-card.json"
    named = (card, "--home", founder / "aigul", "--key-file", founder / "aigul.key", "--hub", hub)
    return kengele(where, "coordinator", "found", "--name", "Bell", "--custodian", "unrcca", *named, *words)


@pytest.mark.full
@pytest.mark.parametrize("lay", LAID)
def test_nobody_makes_a_command_write_through_what_was_laid_under_the_name_of_a_draft(
    tmp_path: Path, founder: Path, lay: Lay
) -> None:
    victim, here = Victim(tmp_path), tmp_path / "here"
    here.mkdir()
    lay(here / "draft.json", victim)
    done = found(founder, here)
    assert (done.returncode, "(code: in-the-way)" in done.stderr) == (3, True), done.stderr
    assert victim.whole()
    assert [path.name for path in here.iterdir()] == ["draft.json"]


@pytest.mark.full
def test_nor_into_a_file_of_the_users_that_was_given_that_name_as_well(tmp_path: Path, founder: Path) -> None:
    victim, here = Victim(tmp_path), tmp_path / "here"
    here.mkdir()
    (here / "draft.json").hardlink_to(victim.file)
    assert found(founder, here).returncode == 0
    assert victim.whole()


@pytest.mark.full
@pytest.mark.parametrize("lay", LAID)
def test_nobody_makes_the_hubs_commands_write_through_what_was_laid(tmp_path: Path, founder: Path, lay: Lay) -> None:
    victim, here = Victim(tmp_path), tmp_path / "here"
    here.mkdir()
    (here / "key").write_bytes(bytes(32))
    (here / "key").chmod(0o600)
    lay(here / "copy", victim)
    hub = founder / "hub"
    given = ("--key-file", here / "key")
    for words in (
        ("backup", here / "copy", "--home", hub, *given),
        ("backup", here / "x", "--home", hub, "--new-key-file", here / "copy"),
    ):
        done = kengele(here, "hub", *words)
        assert done.returncode in (2, 3), done.stderr
        assert "(code: in-the-way)" in done.stderr, done.stderr
        assert victim.whole()
    done = kengele(here, "hub", "restore", here / "copy", "--home", here / "new", *given)
    assert (done.returncode, "(code: no-plain-file)" in done.stderr) == (2, True), done.stderr
    assert sorted(path.name for path in here.iterdir()) == ["copy", "key"]


@pytest.mark.full
def test_what_a_command_writes_is_for_its_user_alone(tmp_path: Path, founder: Path) -> None:
    done = found(founder, tmp_path)
    assert done.returncode == 0, done.stderr
    for path in (tmp_path / "draft.json", founder / "aigul" / "card.json", founder / "hub" / "hub-card.json"):
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.full
@pytest.mark.parametrize("lay", LAID)
@pytest.mark.parametrize(
    "words",
    [
        ("verify",),
        ("coordinator", "policy", "lint"),
        ("audit", "verify", ".", "--hub-card"),
        ("coordinator", "join", "--key-file", "aigul.key", "--home", "aigul"),
        ("node", "init", "--home", "new", "--area", "KG-O", "--new-key-file", "k", "--network"),
        ("node", "join", "--home", "new", "--new-key-file", "k"),
        ("demo", "--once", "--home", "new", "--data"),
    ],
)
def test_nobody_makes_a_command_read_or_wait_for_what_is_no_plain_file(
    tmp_path: Path, founder: Path, lay: Lay, words: tuple[str, ...]
) -> None:
    victim = Victim(tmp_path)
    lay(tmp_path / "given.json", victim)
    done = kengele(founder, *words, tmp_path / "given.json")
    assert (done.returncode, "(code: no-plain-file)" in done.stderr) == (2, True), done.stderr
    assert "mine" not in done.stdout + done.stderr


@pytest.mark.full
def test_a_file_that_is_larger_than_any_of_its_kind_is_not_read_into_memory(tmp_path: Path) -> None:
    with (tmp_path / "given.json").open("wb") as file:
        file.truncate(1 << 40)
    done = kengele(tmp_path, "verify", "given.json")
    assert (done.returncode, "(code: too-large)" in done.stderr) == (2, True), done.stderr


def on_a_network(tmp_path: Path, claim: Callable[[Callable[..., subprocess.CompletedProcess[str]]], None]) -> None:
    async def run() -> None:
        async with small_network(tmp_path / "network", ("osh",)) as network:

            def command(role: str, *words: object) -> subprocess.CompletedProcess[str]:
                home = {"audit": "coordinators/aigul", "coordinator": "coordinators/aigul", "node": "monitors/osh"}[
                    role
                ]
                where = ("--home", network.home / home, "--key-file", network.home / "key")
                return kengele(tmp_path, role, *words, *where)

            await asyncio.to_thread(claim, command)

    asyncio.run(run())


@pytest.mark.full
@pytest.mark.timeout(600)
def test_nobody_makes_an_export_write_or_delete_behind_what_was_laid_in_its_directory(tmp_path: Path) -> None:
    """Each component below the directory that was named, and each thing that could be laid there."""

    def claim(command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
        number = 0
        places: dict[str, tuple[tuple[Any, ...], list[str], list[str]]] = {
            "log": (
                ("audit", "export"),
                ["tile", "tile/entries", "tile/entries/000.p", "tile/0", "tile/0/000.p"],
                ["checkpoint", "witnessed"],
            ),
            "rules": (("coordinator", "export", "--all"), ["metadata", "targets"], ["metadata/timestamp.json"]),
        }
        for what, (words, folders, plain) in places.items():
            for place in (*folders, *plain):
                for lay in LAID_FOR_A_DIRECTORY if place in folders else LAID:
                    number += 1
                    room = tmp_path / f"{what}{number}"
                    (room / "out").joinpath(place).parent.mkdir(parents=True)
                    victim = Victim(room)
                    lay(room / "out" / place, victim)
                    done = command(*words, room / "out")
                    case = f"{lay.__name__} at {place} of {what}: {done.stderr}"
                    assert done.returncode in (2, 3), case
                    assert "(code: in-the-way)" in done.stderr or "(code: no-plain-file)" in done.stderr, case
                    assert victim.whole(), case
        # Once more into a directory that holds what is not ours: it stays.
        mixed = tmp_path / "mixed"
        (mixed / "tile/entries/000.p").mkdir(parents=True)
        for name in ("notes", "1"):
            (mixed / "tile/entries/000.p" / name).write_text("mine")
        (mixed / "tile/entries/000.p/1").unlink()
        for words in (("audit", "export"), ("coordinator", "export", "--all")):
            assert command(*words, mixed).returncode == 0
        assert (mixed / "tile/entries/000.p/notes").read_text() == "mine"

    on_a_network(tmp_path, claim)


@pytest.mark.full
@pytest.mark.timeout(300)
def test_a_stick_with_pipes_links_or_a_million_names_neither_holds_a_command_nor_is_believed(tmp_path: Path) -> None:
    def claim(command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
        assert command("coordinator", "export", "--all", tmp_path / "stick").returncode == 0
        assert command("node", "rules", "--from", tmp_path / "stick").returncode == 0
        stamp = tmp_path / "stick/metadata/timestamp.json"
        victim = Victim(tmp_path)
        for lay in LAID:
            stamp.rmdir() if stamp.is_dir() and not stamp.is_symlink() else stamp.unlink()
            lay(stamp, victim)
            done = command("node", "rules", "--from", tmp_path / "stick")
            assert (done.returncode, "(code: no-plain-file)" in done.stderr) == (2, True), done.stderr
        full = tmp_path / "log/tile/entries/000.p"
        full.mkdir(parents=True)
        for number in range(5000):
            (full / f"{number}x").touch()
        done = command("audit", "verify", tmp_path / "log")
        assert done.returncode == 2, done.stderr
        done = command("audit", "export", tmp_path / "log")
        assert (done.returncode, "(code: too-many-files)" in done.stderr) == (2, True), done.stderr

    on_a_network(tmp_path, claim)


def test_of_a_directory_without_end_only_the_beginning_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0

    class Endless:
        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            return self.entries()

        def __exit__(self, *_: object) -> None:
            pass

        def entries(self) -> Iterator[Any]:
            nonlocal looked
            while True:
                looked += 1
                yield type("Entry", (), {"name": str(looked)})

    monkeypatch.setattr(os, "scandir", lambda _: Endless())
    (tmp_path / "x").mkdir()
    with pytest.raises(Malformed) as caught:
        disk.names_below(tmp_path, "x", 100)
    assert (caught.value.code, looked) == ("too-many-files", 101)


@pytest.mark.parametrize(
    ("one", "other"), [("monitors/KG.json", "monitors/kg.json"), ("caf\u00e9", "cafe\u0301"), ("straße", "STRASSE")]
)
def test_two_names_that_are_one_on_a_stick_are_refused_and_nothing_is_written(
    tmp_path: Path, one: str, other: str
) -> None:
    with pytest.raises(Malformed) as caught:
        write(tmp_path / "stick", {one: b"1", other: b"2"})
    assert caught.value.code == "same-name"
    assert list(tmp_path.iterdir()) == []
    for name in (one, other):
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).touch()
    with pytest.raises(Malformed) as caught:
        disk.names_below(tmp_path / "folder", "monitors" if "/" in one else "")
    assert caught.value.code in ("same-name", "no-plain-file")


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/passwd", "a//b", ".", "..", "", "a\0b"])
def test_no_name_leads_out_of_the_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    for use in (lambda: disk.write_below(tmp_path / "in", name, b"x"), lambda: disk.read_below(tmp_path / "in", name)):
        with pytest.raises(Malformed):
            use()
    assert [path.name for path in tmp_path.rglob("*")] == ["in"]


def test_a_link_laid_between_the_look_and_the_writing_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = Victim(tmp_path)
    (tmp_path / "out").mkdir()
    with disk.writing(tmp_path / "out", "card.json") as file:
        (tmp_path / "out" / "card.json").symlink_to(victim.file)
        file.write(b"{}")
    assert victim.whole()
    assert not (tmp_path / "out/card.json").is_symlink()
    # Nor is a directory of the path that is changed for a link meanwhile.
    with disk.writing(tmp_path / "out", "a/card.json") as file:
        (tmp_path / "out/a").rename(tmp_path / "out/b")
        (tmp_path / "out/a").symlink_to(victim.folder, target_is_directory=True)
        file.write(b"{}")
    assert victim.whole()
    assert (tmp_path / "out/b/card.json").read_bytes() == b"{}"
