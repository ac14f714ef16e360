"""Markers: the hub's word to one office about one author, in one spelling, and not a word more."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from kengele_schemas.encoding import b64u, canonical, loads, unb64u
from kengele_schemas.errors import KengeleError, Malformed, Untrusted
from kengele_schemas.fields import BadField
from kengele_schemas.keys import monitor_id
from kengele_schemas.marker import Withheld, read_marker, sign_marker

HUB = SigningKey(bytes(range(32)))
PUBLIC = bytes(HUB.verify_key)
STRANGER = SigningKey(bytes(range(1, 33)))
KID = monitor_id(bytes(STRANGER.verify_key))
AT = 1_780_000_000
MARKER = sign_marker("unrcca", KID, policy=1, at=AT, key=HUB)
SAID: dict[str, Any] = {"v": 1, "office": "unrcca", "kid": KID, "policy": 1, "at": AT, "nonce": "A" * 22}


def signed(payload: bytes, key: SigningKey = HUB, context: bytes = b"kengele-marker-v1.") -> bytes:
    """A marker around any payload, as docs/wire-format.md §7 puts it together."""
    text = b64u(payload)
    return canonical({"payload": text, "signature": b64u(key.sign(context + text.encode()).signature)})


def changed(**parts: Any) -> bytes:
    return canonical({**json.loads(MARKER), **parts})


def test_a_marker_comes_back_as_it_was_signed() -> None:
    said = read_marker(MARKER, "unrcca", PUBLIC)
    assert said == Withheld(office="unrcca", kid=KID, policy=1, at=AT, nonce=said.nonce)
    assert len(unb64u(said.nonce)) == 16


def test_a_marker_says_office_author_and_time_and_nothing_of_the_report() -> None:
    outer = loads(MARKER, max_bytes=2048)
    payload = loads(unb64u(outer["payload"]), max_bytes=2048)
    assert payload == {**SAID, "nonce": payload["nonce"]}
    assert unb64u(outer["payload"]) == canonical(payload)
    assert canonical(outer) == MARKER


def test_two_markers_about_one_author_are_two() -> None:
    again = sign_marker("unrcca", KID, policy=1, at=AT, key=HUB)
    assert read_marker(again, "unrcca", PUBLIC).nonce != read_marker(MARKER, "unrcca", PUBLIC).nonce


def test_a_marker_put_together_by_hand_is_read() -> None:
    assert read_marker(signed(canonical(SAID)), "unrcca", PUBLIC) == Withheld(**SAID)


REFUSED: list[tuple[str, bytes, str]] = [
    ("signed by another key", sign_marker("unrcca", KID, policy=1, at=AT, key=STRANGER), "bad-signature"),
    ("signed for another use", signed(canonical(SAID), context=b""), "bad-signature"),
    ("another payload under the signature", changed(payload=b64u(canonical({**SAID, "at": 1}))), "bad-signature"),
    ("no signature", changed(signature=""), "bad-signature"),
    ("a signature cut short", changed(signature=json.loads(MARKER)["signature"][:-2]), "bad-signature"),
    ("a signature that is no base64url", changed(signature="é"), "malformed"),
    ("a signature that is no text", changed(signature=None), "malformed"),
    ("a payload that is no text", changed(payload={}), "malformed"),
    ("a payload beyond ASCII", changed(payload="é"), "malformed"),
    ("a member more", changed(x=1), "malformed"),
    ("a member less", canonical({"payload": json.loads(MARKER)["payload"]}), "malformed"),
    ("a space in it", MARKER.replace(b":", b": ", 1), "malformed"),
    ("a newline after it", MARKER + b"\n", "malformed"),
    ("a member twice", MARKER.replace(b"{", b'{"payload":"",', 1), "duplicate-key"),
    ("a report's shape", b'{"protected":"","payload":"","signature":"","header":{}}', "malformed"),
    ("a list", b"[]", "malformed"),
    ("nothing", b"", "malformed"),
    ("no UTF-8", b"\xff", "malformed"),
    ("too much", changed(payload="A" * 2048), "oversized"),
    ("a signed nothing", signed(b""), "malformed"),
    ("a signed list", signed(b"[]"), "bad-field"),
    ("a signed member more", signed(canonical({**SAID, "area": "KG"})), "bad-field"),
    ("another version", signed(canonical({**SAID, "v": 2})), "bad-field"),
    ("no author", signed(canonical({name: SAID[name] for name in SAID if name != "kid"})), "bad-field"),
    ("an author that cannot be", signed(canonical({**SAID, "kid": "alice"})), "bad-field"),
    ("a time before time", signed(canonical({**SAID, "at": -1})), "bad-field"),
    ("a nonce of spare bits", signed(canonical({**SAID, "nonce": "B" * 22})), "bad-field"),
    ("another office's", sign_marker("unowas", KID, policy=1, at=AT, key=HUB), "not-for-us"),
]


@pytest.mark.parametrize(("_sentence", "data", "code"), REFUSED, ids=[sentence for sentence, _, _ in REFUSED])
def test_no_other_bytes_are_a_marker(_sentence: str, data: bytes, code: str) -> None:
    with pytest.raises((Malformed, Untrusted)) as caught:
        read_marker(data, "unrcca", PUBLIC)
    assert caught.value.code == code


def test_a_marker_is_believed_of_its_own_hub_only() -> None:
    for key in (bytes(STRANGER.verify_key), b""):
        with pytest.raises(Untrusted) as caught:
            read_marker(MARKER, "unrcca", key)
        assert caught.value.code == "bad-signature"


@pytest.mark.parametrize(
    ("office", "kid", "at"), [("UNRCCA", KID, AT), ("", KID, AT), ("unrcca", "alice", AT), ("unrcca", KID, -1)]
)
def test_no_marker_is_signed_that_could_not_be_read(office: str, kid: str, at: int) -> None:
    with pytest.raises(ValueError, match="validation error"):
        sign_marker(office, kid, policy=1, at=at, key=HUB)


def test_no_byte_of_a_marker_can_be_changed() -> None:
    for at in range(len(MARKER)):
        for other in b'A"9 \xff':
            data = MARKER[:at] + bytes([other]) + MARKER[at + 1 :]
            if data != MARKER:
                with pytest.raises(KengeleError):
                    read_marker(data, "unrcca", PUBLIC)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300))
@example(b'{"payload":"\\ud800","signature":"\\udfff"}', b'{"office":"\\ud800"}')
@example(b'{"payload":-0.0,"signature":1e999}', b"[" * 2000)
def test_garbage_raises_nothing_but_our_errors(data: bytes, payload: bytes) -> None:
    for text in (data, signed(payload)):
        with pytest.raises(KengeleError):
            read_marker(text, "unrcca", PUBLIC)


def test_what_stood_in_a_wrong_marker_is_not_repeated() -> None:
    with pytest.raises(BadField) as caught:
        read_marker(signed(canonical({**SAID, "kid": "alice-at-the-market"})), "unrcca", PUBLIC)
    assert "alice" not in caught.value.diagnostics()
