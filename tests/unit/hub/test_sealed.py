"""Sealed files: whole or not at all, under the right key or not at all."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_hub import sealed
from kengele_hub.sealed import Lock, make_key_file, records
from kengele_schemas.errors import Damaged, KengeleError, Locked, Refused

Sealer = partial(sealed.Sealer, passes=1, memory=8 << 10)
WORDS = Lock(passphrase="correct horse battery")
PIECES = [b"one", b"", b"three" * 1000]


def written(path: Path, lock: Lock = WORDS) -> bytes:
    with Sealer(path, lock) as sealer:
        for piece in PIECES:
            sealer.put(piece)
    return path.read_bytes()


def test_what_was_put_in_comes_out_in_order(tmp_path: Path) -> None:
    data = written(tmp_path / "a")
    assert list(records(tmp_path / "a", WORDS)) == PIECES
    assert b"three" not in data
    key = make_key_file(tmp_path / "key")
    written(tmp_path / "b", key)
    assert list(records(tmp_path / "b", key)) == PIECES


@pytest.mark.parametrize("where", ["passphrase", "key file", "another key"])
def test_nothing_else_opens_it(tmp_path: Path, where: str) -> None:
    key, other = make_key_file(tmp_path / "key"), make_key_file(tmp_path / "other")
    lock, wrong = {
        "passphrase": (WORDS, Lock(passphrase="correct horse batterz")),
        "key file": (WORDS, key),
        "another key": (key, other),
    }[where]
    written(tmp_path / "a", lock)
    with pytest.raises(Locked):
        list(records(tmp_path / "a", wrong))


def test_no_part_of_it_is_taken_for_the_whole(tmp_path: Path) -> None:
    data = written(tmp_path / "a")
    for length in range(0, len(data), 7):
        (tmp_path / "cut").write_bytes(data[:length])
        with pytest.raises(KengeleError):
            list(records(tmp_path / "cut", WORDS))
    (tmp_path / "more").write_bytes(data + b"x")
    with pytest.raises(Damaged):
        list(records(tmp_path / "more", WORDS))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_changed_byte_is_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    directory = tmp_path_factory.mktemp("sealed")
    key = make_key_file(directory / "key")
    whole = bytearray(written(directory / "a", key))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    (directory / "b").write_bytes(whole)
    with pytest.raises(KengeleError):
        list(records(directory / "b", key))


def test_what_was_not_finished_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> None:
        with Sealer(tmp_path / "a", WORDS) as sealer:
            sealer.put(b"one")
            raise OSError("away")

    with pytest.raises(OSError, match="away"):
        failing()
    assert list(tmp_path.iterdir()) == []


def test_a_newer_one_and_a_weak_lock_and_a_taken_name_are_told(tmp_path: Path) -> None:
    data = written(tmp_path / "a").replace(b'"kengele-sealed":1', b'"kengele-sealed":2')
    (tmp_path / "b").write_bytes(data)
    with pytest.raises(Damaged) as newer:
        list(records(tmp_path / "b", WORDS))
    assert newer.value.code == "newer-backup"
    with pytest.raises(Refused) as weak:
        Sealer(tmp_path / "c", Lock(passphrase="short"))
    assert weak.value.code == "weak-passphrase"
    for make in (partial(Sealer, tmp_path / "a", WORDS), partial(make_key_file, tmp_path / "a")):
        with pytest.raises(Refused) as taken:
            make()
        assert taken.value.code == "exists"
    (tmp_path / "key").write_bytes(bytes(32))
    (tmp_path / "key").chmod(0o644)
    for lock in (Lock(key_file=tmp_path / "key"), Lock(key_file=tmp_path / "none")):
        with pytest.raises(Locked):
            Sealer(tmp_path / "d", lock)
