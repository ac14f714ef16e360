"""How inputs are bent: a byte here, a piece there, a piece of another one, and what parsers stumble over."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

_STUMBLES: Final = (
    # Bytes that are no text, signs that turn its direction, and what JSON and YAML are made of.
    *(b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xe2\x80\x94", b"\xe2\x80\xae"),
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"=", b"-", b"_", b"A", b"0", b"../", b"%2e%2e"),
    *(b"\\u0000", b"\\ud800", b"NaN", b"-Infinity", b"1e999", b"-0", b"9007199254740993", b"1" * 400, b"null"),
    *(b"[" * 200, b'{"a":' * 50, b'"_sd":[]', b'"...":', b'"kid":', b"&a [*a]", b"<<: *a", b"!!python/name:os"),
)


def _flip(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _replace(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    data[rng.randrange(len(data))] = rng.randrange(256)


def _cut(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.choice((1, 2, 16, len(data)))]


def _twice(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    start = rng.randrange(len(data))
    data[start:start] = data[start : start + rng.choice((1, 8, 64, 512))]


def _stumble(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    start = rng.randrange(len(data) + 1)
    data[start : start + rng.choice((0, 1, 4))] = rng.choice(_STUMBLES)


def _graft(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    other = rng.choice(others)
    start, source = rng.randrange(len(data) + 1), rng.randrange(len(other) + 1)
    length = rng.choice((1, 16, 256, len(other)))
    data[start : start + length] = other[source : source + length]


def _swap(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    parts = bytes(data).split(b",")
    if len(parts) > 1:
        one, two = rng.sample(range(len(parts)), 2)
        parts[one], parts[two] = parts[two], parts[one]
        data[:] = b",".join(parts)


_WAYS: Final[tuple[Callable[[bytearray, random.Random, Sequence[bytes]], None], ...]] = (
    *(_flip, _replace, _cut, _twice, _stumble, _graft, _swap),
)


def bent(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """``data`` changed in one to four ways; ``others`` lend pieces."""
    found = bytearray(data or b"\x00")
    for _ in range(rng.choice((1, 1, 1, 2, 2, 4))):
        if found:
            rng.choice(_WAYS)(found, rng, others)
    return bytes(found)
