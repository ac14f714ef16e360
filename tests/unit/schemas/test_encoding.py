"""Strict readings: what two parsers could read differently, or a careless one at all, is read by none."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kengele_schemas.encoding import MAX_INTEGER, b64u, canonical, dumps, length_prefixed, loads, unb64u
from kengele_schemas.errors import Malformed

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-MAX_INTEGER, MAX_INTEGER),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)
PIECES = st.sampled_from(
    ["{", "}", "[", ",", ":", '"', "\\", "\\ud83d", "\\ude00", "-", "9007199254740993", "NaN", "\ufeff", " ", "0"]
)


def mangled(value: Any, at: int, cut: int, piece: str) -> str:
    """The text of ``value``, with ``piece`` in place of a few of its letters."""
    text = json.dumps(value)
    at %= len(text) + 1
    return text[:at] + piece + text[at + cut :]


MANGLED = st.builds(mangled, VALUES, st.integers(0, 200), st.integers(0, 2), PIECES | st.just(""))


def refused(data: bytes | str, **bounds: int) -> Malformed:
    with pytest.raises(Malformed) as caught:
        loads(data, **{"max_bytes": 1_000_000, **bounds})
    return caught.value


@settings(deadline=None)
@given(st.binary())
def test_bytes_come_back_from_base64url(data: bytes) -> None:
    assert b64u(data) == base64.urlsafe_b64encode(data).decode().rstrip("=")
    assert unb64u(b64u(data)) == data


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="AQgwBCz019-_+/= \n", max_size=9) | st.text(max_size=6))
def test_two_texts_never_stand_for_the_same_bytes(text: str) -> None:
    with suppress(Malformed):
        assert b64u(unb64u(text)) == text


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("padding", "AA=="),
        ("one letter", "A"),
        ("five letters", "AAAAA"),
        ("base64's own letters", "+/+/"),
        ("a space", "AA AA"),
        ("a line's end", "AAAA\n"),
        ("spare bits after one byte", "AB"),
        ("spare bits after two bytes", "AAB"),
        ("digits of another script", "٠٠٠٠"),
        ("letters that look like ASCII", "ＡＡＡＡ"),
        ("half a surrogate pair", "AAA\ud800"),
    ],
)
def test_base64url_has_one_spelling(said: str, text: str) -> None:
    with pytest.raises(Malformed) as caught:
        unb64u(text)
    assert caught.value.code == "malformed", said


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_what_is_written_is_read_back_in_both_writings(value: Any) -> None:
    for written in (dumps(value), canonical(value)):
        assert repr(loads(written, max_bytes=len(written), max_depth=20)) == repr(json.loads(written))
        assert json.loads(written) == value


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(), VALUES, max_size=5), st.randoms())
def test_the_canonical_writing_does_not_know_in_which_order_members_came(value: dict[str, Any], dice: Any) -> None:
    items = list(value.items())
    dice.shuffle(items)
    assert canonical(dict(items)) == canonical(value)


def test_writing_refuses_what_is_not_json() -> None:
    for number in (float("nan"), float("inf"), float("-inf")):
        for write in (dumps, canonical):
            with pytest.raises(ValueError, match="JSON compliant"):
                write([number])


@settings(max_examples=200, deadline=None)
@given(MANGLED)
@example('{"a":1,"\\u0061":2}')
@example('"\ud800"')
def test_what_is_accepted_means_what_any_parser_reads(text: str) -> None:
    try:
        value = loads(text, max_bytes=1000)
    except Malformed:
        return
    assert value == json.loads(text)
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("said", "data", "code"),
    [
        ("a name twice", b'{"a":1,"a":1}', "duplicate-key"),
        ("a name twice in two spellings", b'{"a":1,"\\u0061":2}', "duplicate-key"),
        ("a name twice further down", b'[{"b":{"a":1,"c":[],"a":2}}]', "duplicate-key"),
        ("an empty name twice", b'{"":1,"":2}', "duplicate-key"),
        ("NaN", b"[NaN]", "malformed"),
        ("infinity", b"[Infinity]", "malformed"),
        ("minus infinity", b"[-Infinity]", "malformed"),
        ("a number that becomes infinity", b"[1e309]", "malformed"),
        ("a number that becomes minus infinity", b"[-1e309]", "malformed"),
        ("one beyond 2^53", b"9007199254740993", "malformed"),
        ("one beyond -2^53", b"-9007199254740993", "malformed"),
        ("an integer of a million digits", b"1" * 999_999, "malformed"),
        ("a byte order mark", b"\xef\xbb\xbf{}", "malformed"),
        ("UTF-16", '{"a":1}'.encode("utf-16"), "malformed"),
        ("a surrogate in UTF-8", b'"\xed\xa0\x80"', "malformed"),
        ("an overlong slash", b'"\xc0\xaf"', "malformed"),
        ("half a pair", b'"\\ud83d"', "malformed"),
        ("the other half", b'"\\ude00"', "malformed"),
        ("a pair the wrong way round", b'"\\ude00\\ud83d"', "malformed"),
        ("half a pair in a name", b'{"\\ud83d":1}', "malformed"),
        ("half a pair far down", b'[[{"a":["\\ud83d"]}]]', "malformed"),
        ("a raw tab in a text", b'"\t"', "malformed"),
        ("a null byte", b'"\x00"', "malformed"),
        ("two values", b"{} {}", "malformed"),
        ("a comma at the end", b"[1,]", "malformed"),
        ("a leading zero", b"01", "malformed"),
        ("a plus sign", b"+1", "malformed"),
        ("single quotes", b"{'a':1}", "malformed"),
        ("a comment", b"{}/**/", "malformed"),
        ("white space of another kind", "\u00a0{}".encode(), "malformed"),
        ("nothing", b"", "malformed"),
        ("half a value", b'{"a":', "malformed"),
    ],
)
def test_what_json_leaves_open_is_refused(said: str, data: bytes, code: str) -> None:
    assert refused(data).code == code, said


def test_a_text_that_was_decoded_elsewhere_is_read_no_less_strictly() -> None:
    assert refused('"\ud800"').code == "malformed"
    assert refused('{"\udfff":1}').code == "malformed"
    assert refused("\ufeff{}").code == "malformed"
    assert loads('"\\ud83d\\ude00 😀"', max_bytes=100) == "😀 😀"


def test_integers_are_exact_to_the_last_one_that_is_permitted() -> None:
    for number in (2**53, -(2**53), 0):
        assert loads(str(number), max_bytes=100) == number


def test_the_bound_of_size_is_the_last_byte_that_is_read() -> None:
    assert loads(b'"' + b"x" * 98 + b'"', max_bytes=100) == "x" * 98
    assert refused(b'"' + b"x" * 99 + b'"', max_bytes=100).code == "oversized"
    assert refused(b"[" * 101, max_bytes=100).code == "oversized"


@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_the_bound_of_depth_holds_for_arrays_and_objects_alike(brackets: tuple[str, str]) -> None:
    levels = brackets[1].count("}") + brackets[1].count("]")
    for deep in (0, 1, 2, 3):
        text = brackets[0] * deep + "1" + brackets[1] * deep
        loads(text, max_bytes=1000, max_depth=deep * levels)
        if deep:
            assert refused(text, max_depth=deep * levels - 1).code == "malformed"


def test_depth_is_found_wherever_it_hides() -> None:
    for text in ("[1,2,[3,[[]]]]", '{"a":1,"b":{"c":{"d":[]}}}', '[{},[],{"a":[[]]}]'):
        loads(text, max_bytes=1000, max_depth=4)
        assert refused(text, max_depth=3).code == "malformed"


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"":'])
def test_nesting_without_end_stops_no_parser(opening: bytes) -> None:
    assert refused(opening * (900_000 // len(opening))).code == "malformed"


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["{%s", '{"%s":1,"%s":2}', '"%s\\ud800"', "[%s]", '["%s",NaN]', '["%s",[[[[[[[[[]]]]]]]]]]']))
def test_no_error_repeats_what_was_sent(shape: str) -> None:
    error = refused(shape.replace("%s", "canary-7f3a"))
    assert "canary" not in f"{error.sentence}{error.mend}{error!r}{error.__cause__!r}"
    assert error.__suppress_context__ or error.__context__ is None


def test_parts_are_joined_behind_their_lengths() -> None:
    assert length_prefixed() == b""
    assert length_prefixed(b"", b"ab") == b"\0\0\0\0\0\0\0\2ab"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([b"", b"\0", b"\0\0\0\1", b"a", b"ab", b"b"]), max_size=4), st.data())
def test_no_two_lists_of_parts_are_joined_to_the_same_bytes(parts: list[bytes], data: st.DataObject) -> None:
    other = data.draw(st.permutations(parts)) if data.draw(st.booleans()) else [b"".join(parts)]
    assert (length_prefixed(*parts) == length_prefixed(*other)) == (parts == other)
