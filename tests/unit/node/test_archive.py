"""An exported log: static files that grow with it, are taken up where they stopped, and are never made to agree."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kengele_node.audit.archive import Archive
from kengele_schemas.errors import Damaged, KengeleError, Malformed, Unreachable, Untrusted
from kengele_schemas.merkle import Tree
from kengele_schemas.tiles import needed
from kengele_testing.log import Log, report
from kengele_testing.values import HUB, LOG

KEY = bytes(HUB.verify_key)
LONG = Log.of(1100)


def first(size: int) -> Log:
    return Log.holding(LONG.leaves[:size])


def filled(directory: Path, log: Log) -> Tree:
    return asyncio.run(Archive(directory).fill(log, LOG, KEY, lambda done, total: None))


def names(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def expected(size: int) -> set[str]:
    tiles = [*needed(size), *needed(size, entries=True)]
    return {"checkpoint", "witnessed", *map(str, tiles)}


@pytest.mark.parametrize("sizes", [(1,), (255, 256), (256, 257), (300, 301, 1100), (513, 513)])
def test_what_grows_is_what_one_export_would_have_written(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    for size in sizes:
        tree = filled(tmp_path / "grown", first(size))
        assert (tree.size, tree.root()) == (size, LONG.tree.root(size))
    filled(tmp_path / "once", first(sizes[-1]))
    assert names(tmp_path / "once") == expected(sizes[-1]) <= names(tmp_path / "grown")
    # Nothing is deleted: what an earlier export wrote of tiles that were not full yet stays, and is read no more.
    narrower = {name for size in sizes for name in expected(size)}
    assert names(tmp_path / "grown") <= narrower
    for name in names(tmp_path / "once"):
        assert (tmp_path / "grown" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()
    archive = Archive(tmp_path / "grown")
    assert list(archive.kept()) == LONG.leaves[: sizes[-1]]
    assert archive.check_tiles(LONG.tree if sizes[-1] == 1100 else first(sizes[-1]).tree) == len(
        list(needed(sizes[-1]))
    )


def test_it_says_how_far_it_is(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    asyncio.run(Archive(tmp_path).fill(first(600), LOG, KEY, lambda done, total: told.append((done, total))))
    assert told == [(0, 600), (256, 600), (512, 600), (600, 600)]


class Broken(Log):
    """A log whose line breaks after so many entries."""

    after = 0
    asked = -1

    async def entries(self, start: int, end: int) -> AsyncIterator[bytes]:
        self.asked = start
        for number, leaf in enumerate(self.leaves[start:end]):
            if number == self.after:
                raise Unreachable("unreachable", "No line.")
            yield leaf


def test_an_export_that_was_cut_off_goes_on_where_it_stopped(tmp_path: Path) -> None:
    broken = Broken()
    broken.add(*LONG.leaves)
    broken.after = 700
    with pytest.raises(Unreachable):
        filled(tmp_path, broken)
    assert not (tmp_path / "checkpoint").exists()
    broken.after = 10_000
    filled(tmp_path, broken)
    assert broken.asked == 512
    assert names(tmp_path) >= expected(1100)


@pytest.mark.parametrize(
    ("sentence", "log", "code"),
    [
        ("fewer entries", first(500), "log-rolled-back"),
        (
            "an entry rewritten",
            Log.holding([*LONG.leaves[:5], report(5, salt="A" * 22), *LONG.leaves[6:]]),
            "log-forked",
        ),
        ("an entry dropped", Log.holding([*LONG.leaves[:5], *LONG.leaves[6:], report(2000)]), "log-forked"),
    ],
)
def test_a_log_that_does_not_continue_the_copy_is_refused_and_the_copy_stays_signed(
    tmp_path: Path, sentence: str, log: Log, code: str
) -> None:
    filled(tmp_path, first(600))
    before = (tmp_path / "checkpoint").read_bytes()
    with pytest.raises(Untrusted) as caught:
        filled(tmp_path, log)
    assert caught.value.code == code
    assert (tmp_path / "checkpoint").read_bytes() == before


def test_a_source_that_gives_less_or_other_than_it_signed_is_refused(tmp_path: Path) -> None:
    for number, leaves in enumerate(([*LONG.leaves[:-1]], [*LONG.leaves[:-1], report(2000)])):
        log = Log.holding(LONG.leaves)
        log.leaves = list(leaves)
        with pytest.raises(Untrusted) as caught:
            filled(tmp_path / str(number), log)
        assert caught.value.code == "log-forked"
        assert not (tmp_path / str(number) / "checkpoint").exists()


def test_a_witnessed_checkpoint_of_more_or_other_than_there_is_is_refused(tmp_path: Path) -> None:
    class Beyond(Log):
        async def witnessed(self) -> str:
            return LONG.note(10)

    log = Beyond()
    log.add(*LONG.leaves[:9])
    with pytest.raises(Untrusted) as caught:
        filled(tmp_path, log)
    assert caught.value.code == "log-forked"


def test_a_checkpoint_of_another_key_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(Untrusted):
        asyncio.run(Archive(tmp_path).fill(first(9), LOG, bytes(32), lambda done, total: None))
    assert not names(tmp_path)


def test_a_file_that_rotted_is_told_by_its_name(tmp_path: Path) -> None:
    filled(tmp_path, first(600))
    path = tmp_path / "tile/entries/001"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Damaged) as caught:
        list(Archive(tmp_path).kept())
    assert "tile/entries/001" in caught.value.sentence
    for name in ("tile/0/000", "tile/1/000.p/2"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(bytes([data[0] ^ 1]) + data[1:])
        with pytest.raises(Untrusted) as refused:
            Archive(tmp_path).check_tiles(first(600).tree)
        assert (refused.value.code, name in refused.value.sentence) == ("tile-differs", True)
        (tmp_path / name).unlink()
        with pytest.raises(Untrusted):
            Archive(tmp_path).check_tiles(first(600).tree)
        (tmp_path / name).write_bytes(data)


def test_entries_end_at_the_first_gap(tmp_path: Path) -> None:
    filled(tmp_path, LONG)
    (tmp_path / "tile/entries/002").unlink()
    assert list(Archive(tmp_path).kept()) == LONG.leaves[:512]


def test_a_directory_without_a_log_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(Malformed) as caught:
        asyncio.run(Archive(tmp_path).checkpoint())
    assert caught.value.code == "no-log"


def test_a_log_that_others_exported_needs_no_file_of_ours(tmp_path: Path) -> None:
    filled(tmp_path, first(9))
    (tmp_path / "witnessed").unlink()
    assert asyncio.run(Archive(tmp_path).witnessed()) == first(9).note()


def test_nobody_else_on_this_machine_reads_it(tmp_path: Path) -> None:
    filled(tmp_path, first(300))
    for path in (tmp_path / name for name in names(tmp_path)):
        assert path.stat().st_mode & 0o077 == 0


def test_strange_files_in_it_raise_nothing_but_our_errors(tmp_path: Path) -> None:
    filled(tmp_path, first(9))
    for data in (b"", b"\0", b"\xff" * 70_000, b"\0\0" * 257):
        (tmp_path / "tile/entries/000.p/9").write_bytes(data)
        with pytest.raises(KengeleError):
            list(Archive(tmp_path).kept())
        (tmp_path / "checkpoint").write_bytes(b"\xff" + data)
        with pytest.raises(KengeleError):
            asyncio.run(Archive(tmp_path).checkpoint())
