"""Links: short where a credential is as the hub makes it, whole where it is not, and never another than was meant."""

from __future__ import annotations

import zlib
from base64 import b32encode
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_hub import credentials
from kengele_schemas.encoding import b64u, canonical
from kengele_schemas.errors import Malformed
from kengele_schemas.links import LINK, MAX_LINK, pack, unpack
from kengele_schemas.nkeys import KeyPair

ACCOUNTS = credentials.Accounts.generate()
NKEY = KeyPair.generate("user")


def joiner(**options: Any) -> dict[str, str]:
    return {"jwt": credentials.member(ACCOUNTS, NKEY.public, "joiner", now=1_795_591_936, **options), "seed": NKEY.seed}


SAID: dict[str, Any] = {
    "urls": ["tls://hub.example.org:4222"],
    "join": joiner(),
    "token": b64u(bytes(range(16))),
    "root": b64u(bytes(range(32))),
}
SHORT = 410
"""Characters that the short form stays under with one address."""
WHOLE = LINK.upper() + "PD"
"""How a link begins that holds a zlib stream."""


def test_a_link_says_what_was_said_in_letters_of_one_case() -> None:
    link = pack(SAID)
    assert unpack(link) == SAID
    assert unpack(f" {link[:50].lower()}\n{link[50:]} ") == SAID
    assert link == link.upper()
    assert len(link) < SHORT


@pytest.mark.parametrize(
    "changes",
    [
        {"ca": "-----BEGIN CERTIFICATE-----"},
        {"join": joiner(expires=2_000_000_000)},
        {"join": {"jwt": "header.claims.signature", "seed": NKEY.seed}},
        {"join": {**joiner(), "seed": KeyPair.generate("user").seed}},
        {"join": {"jwt": credentials.member(ACCOUNTS, NKEY.public, "office", now=1) + "x", "seed": NKEY.seed}},
        {"join": {"jwt": "..", "seed": "none"}},
        {"urls": ["tls://a.example:1\ntls://b.example:2"]},
        {"token": "short"},
        {"more": 1},
    ],
)
def test_what_the_short_form_cannot_say_is_said_whole(changes: dict[str, Any]) -> None:
    said = {**SAID, **changes}
    assert unpack(pack(said)) == said
    assert pack(said).startswith(WHOLE)


def test_several_addresses_go_into_the_short_form() -> None:
    said = {**SAID, "urls": ["tls://hub.example.org:4222", "wss://hub.example.org", "wss://بيت.example"]}
    assert unpack(pack(said)) == said
    assert len(pack(said)) < SHORT + 100


def text(data: bytes) -> str:
    return LINK + b32encode(data).decode()


def checked(data: bytes) -> bytes:
    return data + zlib.crc32(data).to_bytes(4, "big")


HEAD = bytes((2,)) + bytes(216)
BAD = [
    "",
    "kengele:",
    "kengele:0",
    "https://hub.example.org",
    LINK + "A" * MAX_LINK,
    text(b""),
    text(HEAD + b"tls://hub.example.org:4222"),
    text(checked(HEAD[:-10])),
    text(checked(bytes((2,)) + b"\xff" * 400)),
    text(checked(HEAD + b"\xff")),
    text(b"\x03" + HEAD[1:]),
    text(zlib.compress(b"[]")),
    text(zlib.compress(canonical({**SAID, "v": 2}))),
    text(zlib.compress(canonical(SAID))),
    text(zlib.compress(canonical({**SAID, "v": 1})) + b"x"),
    text(zlib.compress(b" " * 10_000_000)),
]


@pytest.mark.parametrize("link", BAD)
def test_what_is_no_link_is_refused(link: str) -> None:
    with pytest.raises(Malformed) as caught:
        unpack(link)
    assert caught.value.code == "bad-invitation"


@given(st.binary(max_size=300), st.booleans())
@settings(deadline=None)
def test_garbage_is_refused_or_read_and_nothing_else(data: bytes, short: bool) -> None:
    with suppress(Malformed):
        assert isinstance(unpack(text(checked(bytes((2,)) + data) if short else data)), dict)


@given(st.integers(0, 400), st.integers(1, 31))
@settings(deadline=None)
def test_a_link_with_a_slip_of_the_pen_or_cut_short_is_none(place: int, change: int) -> None:
    link, letters = pack(SAID), "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    place = len(LINK) + place % (len(link) - len(LINK) - 1)
    other = letters[(letters.index(link[place]) + change) % 32]
    for wrong in (link[:place] + other + link[place + 1 :], link[:place]):
        with pytest.raises(Malformed):
            unpack(wrong)
