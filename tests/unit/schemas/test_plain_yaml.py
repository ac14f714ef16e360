"""What people write is read as it stands: nothing means more than it shows, and a mistake is told with its place."""

from __future__ import annotations

from contextlib import suppress

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_schemas.errors import Malformed
from kengele_schemas.plain_yaml import MAX_TEXT, BadText, load

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))


def test_lists_names_and_texts_are_what_is_written() -> None:
    text = "groups:\n  un: [office:unrcca, NO, 011, 1e9, ~, 2026-11-24]\n  none: []\n"
    assert load(text) == {"groups": {"un": ["office:unrcca", "NO", "011", "1e9", "~", "2026-11-24"], "none": []}}


def test_a_number_of_any_length_is_a_text() -> None:
    assert load("[" + "9" * 100_000 + "]") == ["9" * 100_000]


@pytest.mark.parametrize(
    ("text", "line", "column", "sentence"),
    [
        (BOMB, 1, 5, "anchors and aliases"),
        ("a: [b]\nc: *a\n", 2, 4, "anchors and aliases"),
        ("- &self [*self]", 1, 3, "anchors and aliases"),
        ("a: 1\nb: 2\na: 3\n", 3, 1, "stands twice"),
        ("a:\n  b: {c: 1, c: 2}\n", 2, 13, "stands twice"),
        ("a: {<<: {b: 1}}", 1, 5, "merges"),
        ("a: !!python/object/apply:os.system [ls]", 1, 4, "tags"),
        ("!!int 7", 1, 1, "tags"),
        ("[a]: b", 1, 1, "a name should"),
        ("[[[[[[[[a]]]]]]]]", 1, 9, "too deep"),
        ("a: b\n---\nc: d\n", 2, 1, "not YAML"),
        ("a: [b", 1, 6, "not YAML"),
        ("a: \x00", 1, 4, "character"),
        ("", 1, 1, "nothing"),
    ],
)
def test_what_is_not_plain_is_told_where_it_stands(text: str, line: int, column: int, sentence: str) -> None:
    with pytest.raises(BadText, match=sentence) as caught:
        load(text)
    assert (caught.value.line, caught.value.column, caught.value.code) == (line, column, "bad-yaml")


def test_a_merge_in_quotes_is_a_name() -> None:
    assert load("'<<': a") == {"<<": "a"}


def test_a_text_is_read_up_to_a_limit() -> None:
    with pytest.raises(Malformed) as caught:
        load("#" * (MAX_TEXT + 1))
    assert caught.value.code == "oversized"


@pytest.mark.parametrize("text", ["[" * 10_000, "{" * 10_000, "- " * 10_000, "? " * 10_000])
def test_depth_ends_in_an_error_of_ours(text: str) -> None:
    with pytest.raises(BadText):
        load(text)


@given(st.text(st.sampled_from("abc:-[]{},&*!<#'\"|> \n\t?%@`\x00é")))
@settings(deadline=None)
def test_nothing_but_errors_of_ours_comes_of_garbage(text: str) -> None:
    with suppress(BadText):
        load(text)


values = st.recursive(
    st.text("abNO01: -'", max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", min_size=1), inner, max_size=3),
    max_leaves=6,
)


@given(values)
@settings(deadline=None)
def test_what_another_program_wrote_is_read_back(value: object) -> None:
    text = yaml.safe_dump({"v": value}, default_style='"')
    with suppress(BadText):  # where it nests too deep
        assert load(text) == {"v": value}
