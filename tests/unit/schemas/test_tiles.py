"""Tiles and bundles as c2sp.org/tlog-tiles names and fills them, held against the RFC's own tree."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kengele_schemas.errors import Malformed
from kengele_schemas.merkle import HASH, Tree, leaf_hash
from kengele_schemas.tiles import (
    ENTRIES,
    MAX_ENTRY,
    WIDTH,
    Tile,
    bundle,
    bundles,
    hashes,
    needed,
    read_bundle,
    read_tile,
    split_hashes,
)


def entry(number: int) -> bytes:
    return b"entry %d" % number


def tree_of(size: int) -> Tree:
    tree = Tree()
    for number in range(size):
        tree.append(leaf_hash(entry(number)))
    return tree


def root(leaves: list[bytes]) -> bytes:
    """The RFC's definition, read literally."""
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\1" + root(leaves[:split]) + root(leaves[split:])).digest()


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 999, 1), "tile/0/999.p/1"),
        (Tile(0, 1000), "tile/0/x001/000"),
        (Tile(1, 1234067), "tile/1/x001/x234/067"),
        (Tile(7, 5, 255), "tile/7/005.p/255"),
        (Tile(ENTRIES, 1234067, 112), "tile/entries/x001/x234/067.p/112"),
    ],
)
def test_a_tile_has_the_path_that_the_specification_gives_it(tile: Tile, path: str) -> None:
    assert str(tile) == path
    assert read_tile(path) == tile


@settings(max_examples=200, deadline=None)
@given(st.integers(-1, 7), st.integers(0, 10**15), st.integers(1, WIDTH))
def test_every_path_is_read_back(level: int, number: int, width: int) -> None:
    assert read_tile(str(Tile(level, number, width))) == Tile(level, number, width)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile",
        "tile/0",
        "tile/0/0",
        "tile/0/0000",
        "tile/00/000",
        "tile/-1/000",
        "tile/8/000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001/x002",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/٠٠٠",
        "tile/0/000\n",
        "tile/data/000",
        "tile/0/../000",
        "tile/0/" + "x001/" * 20 + "000",
    ],
)
def test_no_other_text_is_a_tiles_path(path: str) -> None:
    with pytest.raises(Malformed):
        read_tile(path)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="tile/0123456789entrsx.p-", max_size=40))
def test_a_path_has_one_spelling(path: str) -> None:
    try:
        tile = read_tile(path)
    except Malformed:
        return
    assert str(tile) == path


def test_a_tree_of_70000_has_the_tiles_of_the_specifications_example() -> None:
    tiles = list(needed(70_000))
    assert [tile for tile in tiles if tile.width < WIDTH] == [Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert sum(tile.level == 0 for tile in tiles) == 274
    assert sum(tile.level == 1 for tile in tiles) == 2
    assert list(needed(256)) == [Tile(0, 0), Tile(1, 0, 1)]
    assert not list(needed(0))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 70_000), st.integers(0, 70_000), st.booleans())
@example(256, 257, False)
@example(255, 256, False)
def test_what_a_grown_log_needs_is_what_it_had_and_what_is_new(one: int, other: int, entries: bool) -> None:
    old, new = sorted((one, other))
    whole = set(needed(new, entries=entries))
    grown = set(needed(new, old, entries=entries))
    assert grown <= whole
    assert whole - grown <= set(needed(old, entries=entries))
    assert not grown & {tile for tile in needed(old, entries=entries) if tile.width == WIDTH}


@pytest.mark.parametrize("size", [1, 255, 256, 257, 600, 70_000])
def test_each_hash_in_a_tile_is_that_of_its_leaves(size: int) -> None:
    tree = tree_of(size)
    for tile in needed(size):
        found = split_hashes(hashes(tree, tile))
        assert len(found) == tile.width
        for place in {0, tile.width - 1}:
            span = WIDTH**tile.level
            start = (tile.number * WIDTH + place) * span
            assert found[place] == root([entry(number) for number in range(start, start + span)])


@pytest.mark.parametrize("tile", [Tile(0, 1, 45), Tile(0, 2, 1), Tile(1, 0, 2), Tile(2, 0, 1), Tile(ENTRIES, 0)])
def test_no_tile_holds_what_is_not_in_the_tree(tile: Tile) -> None:
    with pytest.raises(Malformed):
        hashes(tree_of(300), tile)


def test_entries_stand_in_bundles_of_256_each_behind_its_length() -> None:
    entries = [entry(number) for number in range(300)]
    made = dict(bundles(entries))
    assert list(made) == [Tile(ENTRIES, 0), Tile(ENTRIES, 1, 44)]
    assert made[Tile(ENTRIES, 0)].startswith(b"\x00\x07entry 0\x00\x07entry 1")
    assert [one for data in made.values() for one in read_bundle(data)] == entries


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=400), min_size=1, max_size=WIDTH))
def test_a_bundle_is_read_back_as_it_was_written(entries: list[bytes]) -> None:
    assert read_bundle(bundle(entries)) == entries


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
@example(b"")
@example(b"\0")
@example(b"\0\2a")
@example(b"\0\1a\0")
@example(b"\0\0" * 257)
def test_a_bundle_has_one_spelling_and_anything_else_is_refused(data: bytes) -> None:
    try:
        entries = read_bundle(data)
    except Malformed:
        return
    assert 1 <= len(entries) <= WIDTH
    assert bundle(entries) == data


def test_an_entry_that_does_not_fit_is_refused() -> None:
    assert len(bundle([bytes(MAX_ENTRY)])) == MAX_ENTRY + 2
    with pytest.raises(Malformed) as caught:
        bundle([bytes(MAX_ENTRY + 1)])
    assert caught.value.code == "oversized"


@pytest.mark.parametrize("data", [b"", bytes(HASH - 1), bytes(HASH + 1), bytes((WIDTH + 1) * HASH)])
def test_what_is_no_whole_number_of_hashes_is_no_tile(data: bytes) -> None:
    with pytest.raises(Malformed):
        split_hashes(data)
