"""Field types: what people may write, what codes look like, and how a wrong field is told without repeating it."""

from __future__ import annotations

import traceback
import unicodedata
from datetime import date
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError

from kengele_schemas.encoding import b64u
from kengele_schemas.fields import (
    AreaCode,
    Audience,
    BadField,
    Bytes32,
    CategoryCode,
    Day,
    Items,
    Lang,
    Line,
    Model,
    MonitorId,
    OfficeId,
    Prose,
    ReportId,
    read,
)
from kengele_schemas.keys import monitor_id


class Entry(Model):
    name: Annotated[str, Line(20)]
    kind: Literal["one", "two"] = "one"


class Document(Model):
    text: Annotated[str, Prose(40)] = "text"
    day: Day | None = None
    number: Annotated[int, Field(ge=1, le=5)] = 1
    share: float = 0.0
    entries: Annotated[tuple[Entry, ...], Items, Field(min_length=1, max_length=3)] = (Entry(name="x"),)
    groups: dict[OfficeId, Annotated[tuple[Audience, ...], Items]] = Field(default={})


def refused(value: object) -> BadField:
    with pytest.raises(BadField) as caught:
        read(Document, value)
    assert caught.value.code == "bad-field"
    return caught.value


PROSE = TypeAdapter(Annotated[str, Prose(10)])
LINE = TypeAdapter(Annotated[str, Line(10)])


@pytest.mark.parametrize(
    ("said", "written", "kept"),
    [
        ("letters and their marks become one", "e\u0301", "é"),
        ("a jamo sequence becomes a syllable", "\u1100\u1161", "가"),
        ("letters that only resemble others stay", "ﬁ²Ⅳ", "ﬁ²Ⅳ"),
        ("lines end in one way", "a\r\nb\n", "a\nb\n"),
        ("a tab stays", "a\tb", "a\tb"),
        ("spaces around stay", "  a ", "  a "),
        ("marks of direction stay", "\u200fa\u2067b\u2069", "\u200fa\u2067b\u2069"),
        ("joiners stay", "ن\u200cه", "ن\u200cه"),
        ("letters beyond the first plane count as one", "😀" * 10, "😀" * 10),
        ("ten letters of two parts are ten", "e\u0301" * 5, "é" * 5),
    ],
)
def test_a_text_is_kept_as_it_was_meant(said: str, written: str, kept: str) -> None:
    assert PROSE.validate_python(written) == kept, said


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("nothing", ""),
        ("spaces alone", "   "),
        ("lines alone", "\n\r\n"),
        ("white space of all scripts", "\u2003\u3000"),
        ("a null", "a\0"),
        ("a terminal's escape", "\x1b[2J"),
        ("a bell", "\x07a"),
        ("a backspace", "a\x08b"),
        ("a carriage return alone", "a\rb"),
        ("a delete", "a\x7f"),
        ("a control of eight bits", "a\x9b1m"),
        ("a text that reads backwards", "a\u202egpj.exe"),
        ("a text forced forwards", "a\u202db"),
        ("half a surrogate pair", "a\ud800"),
        ("one letter too many", "x" * 11),
        ("too long once it is normalized", "\u0958" * 6),
    ],
)
def test_a_text_that_steers_deceives_or_says_nothing_is_refused(said: str, written: str) -> None:
    for kind in (PROSE, LINE):
        with pytest.raises(ValidationError):
            kind.validate_python(written)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\t", "\u2028", "\u2029", "\x85", "\x0b", "\x0c"])
def test_a_line_is_one_line(ending: str) -> None:
    with pytest.raises(ValidationError):
        LINE.validate_python(f"a{ending}b")


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=12))
def test_a_text_that_was_taken_is_taken_again_unchanged(written: str) -> None:
    try:
        kept = PROSE.validate_python(written)
    except ValidationError:
        return
    assert kept == PROSE.validate_python(kept) == unicodedata.normalize("NFC", kept)
    assert 0 < len(kept) <= 10
    assert not any(unicodedata.category(char) == "Cc" and char not in "\n\t" for char in kept)


@pytest.mark.parametrize(
    ("written", "day"),
    [
        ("2026-03-01", date(2026, 3, 1)),
        ("2024-02-29", date(2024, 2, 29)),
        ("2026-02-29", None),
        ("2026-13-01", None),
        ("0000-01-01", None),
        ("2026-3-1", None),
        ("20260301", None),
        ("2026-W09-7", None),
        ("2026-03-01T00:00:00", None),
        ("2026-03-01\n", None),
        ("+2026-03-01", None),
        ("٢٠٢٦-٠٣-٠١", None),
        ("", None),
        (1772323200, None),
        (True, None),
    ],
)
def test_a_day_is_written_in_one_way(written: object, day: date | None) -> None:
    if day is not None:
        assert read(Document, {"day": written}).day == day
        return
    error = refused({"day": written})
    assert (error.paths, error.sentence) == (("day",), "The field 'day' is not a day.")
    assert error.mend == "Write it as YYYY-MM-DD."


ID = b64u(bytes(range(16)))
DIGEST = b64u(bytes(range(32)))
KID = monitor_id(bytes(32))


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (Lang, ["ky", "ru-KG", "ar-Latn", "zh-Hant-TW", "und"], ["k", "kyrg", "ky_KG", "ky-", "ky-a-b-c-d", "кы"]),
        (AreaCode, ["KG", "KG-O", "001", "XB-FERGANA", "AZ91100002"], ["kg", "K", "KG-", "-KG", "KG/O", "KG-O-1-2-3"]),
        (CategoryCode, ["rumour", "other-peace"], ["Rumour", "rumour-", "-rumour", "a--b", "a1", "x" * 33, "*"]),
        (OfficeId, ["unrcca", "a1", "un-rcca"], ["a", "1a", "UNRCCA", "un.rcca", "un*", "un>", "x" * 33, "un rcca"]),
        (Audience, ["office:unrcca", "group:un"], ["unrcca", "monitor:aa", "office:", "group:UN", "office:a.b"]),
        (MonitorId, [KID], [KID[2:], KID.upper(), KID + "a", KID[:-1] + "1", "c" + KID[1:]]),
        (ReportId, [ID], [ID[:-1], ID + "A", ID[:-1] + "B", ID + "==", "+" + ID[1:], "." + ID[1:]]),
        (Bytes32, [DIGEST], [DIGEST[:-1], DIGEST + "A", DIGEST[:-1] + "B", DIGEST + "=", "/" + DIGEST[1:]]),
    ],
)
def test_a_code_has_its_form_to_the_last_letter(kind: Any, right: list[str], wrong: list[str]) -> None:
    adapter = TypeAdapter(kind)
    for code in right:
        assert adapter.validate_python(code) == code
    more = [f"{code}{end}" for code in right for end in ("\n", " ", "\0")] + [f" {code}" for code in right]
    for code in (*wrong, *more, "", "٣" * len(right[0])):
        with pytest.raises(ValidationError):
            adapter.validate_python(code)


@pytest.mark.parametrize(
    ("value", "paths", "sentence", "mend"),
    [
        ([], ("",), "The document has the wrong type", "JSON Schema"),
        ({"number": 0}, ("number",), "'number' is too small", "at least 1"),
        ({"number": 6}, ("number",), "'number' is too large", "at most 5"),
        ({"number": "3"}, ("number",), "wrong type", "JSON Schema"),
        ({"number": 3.0}, ("number",), "wrong type", "JSON Schema"),
        ({"number": True}, ("number",), "wrong type", "JSON Schema"),
        ({"share": True}, ("share",), "wrong type", "JSON Schema"),
        ({"share": float("nan")}, ("share",), "wrong type", "JSON Schema"),
        ({"text": None}, ("text",), "wrong type", "JSON Schema"),
        ({"text": "x" * 41}, ("text",), "longer than 40 characters", "Shorten"),
        ({"text": ""}, ("text",), "is empty", "leave the field out"),
        ({"text": " "}, ("text",), "is blank", "leave the field out"),
        ({"entries": []}, ("entries",), "too few entries", "at least 1"),
        ({"entries": [{"name": "a"}] * 4}, ("entries",), "more than 3 entries", "Leave some out"),
        ({"entries": {"name": "a"}}, ("entries",), "wrong type", "JSON Schema"),
        ({"entries": [{}]}, ("entries[0].name",), "'entries[0].name' is missing", "Fill it in"),
        ({"entries": [{"name": "a"}, {"name": "b", "kind": "3"}]}, ("entries[1].kind",), "permitted values", "'one'"),
        ({"number": 9, "text": "", "more": 1}, ("text", "number", ""), "'text' is empty", ""),
        ({"more": 1}, ("",), "The document holds a member that is not known", "Remove"),
        ({"entries": [{"name": "a", "more": 1}]}, ("entries[0]",), "'entries[0]' holds a member", "Remove"),
        ({"groups": {"un": ["x"]}}, ("groups.un[0]",), "'groups.un[0]' is not in its format", "as in office:unrcca"),
    ],
)
def test_a_person_is_told_which_field_is_wrong_and_what_to_do(
    value: object, paths: tuple[str, ...], sentence: str, mend: str
) -> None:
    error = refused(value)
    assert error.paths == paths
    assert sentence in error.sentence
    assert mend in error.mend


CANARY = "canary-7f3a"


@pytest.mark.parametrize(
    "value",
    [
        CANARY,
        {CANARY: 1},
        {"text": CANARY * 9},
        {"text": f"{CANARY}\0"},
        {"text": f"{CANARY}\ud800"},
        {"day": CANARY},
        {"number": CANARY},
        {"share": CANARY},
        {"entries": CANARY},
        {"entries": [CANARY]},
        {"entries": [{"name": f"{CANARY}\n"}]},
        {"entries": [{"name": "a", "kind": CANARY}]},
        {"entries": [{"name": "a", CANARY: 1}]},
        {"groups": {f"{CANARY} ": []}},
        {"groups": {f"{CANARY} ": ["x", 5], "un": [CANARY]}},
        {"groups": {f"{CANARY} ": 5}},
        {"groups": {"un": [CANARY]}},
    ],
)
def test_no_error_repeats_what_stood_there(value: object) -> None:
    error = refused(value)
    told = "".join(traceback.format_exception(error)) + repr((error.diagnostics(), error.paths, error.args))
    assert CANARY not in told


def test_not_even_an_error_that_was_not_told_as_ours_repeats_it() -> None:
    with pytest.raises(ValidationError) as caught:
        Document.model_validate({"text": f"{CANARY}\0", "number": CANARY, "entries": [CANARY]})
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_nesting_without_end_is_a_wrong_field_like_any_other() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for value in (endless, {"entries": endless}, {"groups": {"un": endless}}):
        refused(value)


def test_a_value_does_not_change_once_it_was_read() -> None:
    found = read(Document, {"number": 2})
    for name in ("number", "more"):
        with pytest.raises(ValidationError):
            setattr(found, name, 3)
    assert found.number == 2


def test_what_is_left_out_is_filled_in_and_nothing_else_is() -> None:
    assert read(Document, {}) == Document()
    assert read(Document, {"entries": [{"name": "a"}]}).entries == (Entry(name="a", kind="one"),)
