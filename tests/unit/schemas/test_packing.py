"""Packing: what comes out is what went in, and nobody makes a reader unpack more than it wants."""

from __future__ import annotations

import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kengele_schemas.errors import Malformed
from kengele_schemas.packing import LONG, pack, unpack


@given(st.binary(max_size=64) | st.binary(max_size=8).map(lambda part: part * LONG))
def test_what_is_unpacked_is_what_was_packed(data: bytes) -> None:
    assert unpack(pack(data), max_bytes=8 * LONG + 1) == data


def test_a_short_file_travels_as_it_is() -> None:
    assert pack(b'{"v":1}') == b'{"v":1}'


def test_a_long_file_of_rows_becomes_much_shorter() -> None:
    assert len(pack(b'{"nkey":"U"},' * LONG)) < LONG // 10


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (zlib.compress(bytes(1 << 20)), "oversized"),
        (zlib.compress(b"a")[:-1], "malformed"),
        (zlib.compress(b"a") + b"b", "malformed"),
        (b"x not zlib", "malformed"),
        (zlib.compress(b"a" * 100)[:-4] + bytes(4), "malformed"),
    ],
)
def test_what_is_no_packed_file_or_too_large_a_one_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(Malformed) as error:
        unpack(data, max_bytes=1000)
    assert error.value.code == code


@given(st.binary(max_size=200))
def test_no_bytes_break_it(data: bytes) -> None:
    with suppress(Malformed):
        assert len(unpack(b"\x78" + data, max_bytes=1000)) <= 1000
