"""TLP 2.0: one order, the most restrictive wins, and what only looks like a label is none."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_schemas.errors import Malformed
from kengele_schemas.tlp import LEVELS, UNMARKED, Level, at_most, label, parse, rank, strictest


def test_red_is_above_all_and_clear_below() -> None:
    assert LEVELS == ("RED", "AMBER+STRICT", "AMBER", "GREEN", "CLEAR")
    assert [rank(level) for level in LEVELS] == [4, 3, 2, 1, 0]


def test_a_level_passes_under_itself_and_under_all_that_is_more_restrictive() -> None:
    for level, ceiling in product(LEVELS, LEVELS):
        assert at_most(level, ceiling) == (LEVELS.index(level) >= LEVELS.index(ceiling)), (level, ceiling)


def test_what_nobody_marked_is_not_passed_to_clients_of_an_organisation() -> None:
    assert UNMARKED == "AMBER+STRICT"
    assert strictest([]) == UNMARKED
    assert not at_most(UNMARKED, "AMBER")


@settings(deadline=None)
@given(st.lists(st.sampled_from(LEVELS), min_size=1))
def test_of_several_markings_the_most_restrictive_holds(levels: list[Level]) -> None:
    found = strictest(levels)
    assert found in levels
    assert all(at_most(level, found) for level in levels)


@settings(deadline=None)
@given(st.sampled_from(LEVELS), st.sampled_from(["", "TLP:", "tlp:", "Tlp: "]), st.sampled_from([str.lower, str.title]))
def test_a_level_is_read_however_people_write_it(level: Level, prefix: str, style: Callable[[str], str]) -> None:
    assert parse(f"  {prefix}{style(level)}\n") == level
    assert parse(label(level)) == level


def test_the_white_of_version_1_is_clear() -> None:
    assert parse("TLP:WHITE") == parse("white") == "CLEAR"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("nothing", ""),
        ("a prefix alone", "TLP:"),
        ("a prefix twice", "TLP:TLP:RED"),
        ("a level of no version", "ORANGE"),
        ("two levels", "RED AMBER"),
        ("spaces within", "AMBER + STRICT"),
        ("half of a level", "STRICT"),
        ("a level and more", "RED!"),
        ("Cyrillic letters that look like it", "СLEAR"),
        ("a letter that becomes ASCII in capitals", "ambeR+ſtrict"),
        ("full-width letters", "ＲＥＤ"),
        ("a white space of another script", "\u00a0RED"),
        ("another marking", "UNCLASSIFIED"),
    ],
)
def test_what_only_looks_like_a_level_is_refused(said: str, text: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse(text)
    assert caught.value.code == "bad-tlp", said
    assert all(level in caught.value.mend for level in LEVELS)


@settings(deadline=None)
@given(st.text(max_size=12))
def test_no_error_repeats_what_was_written(text: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse(f"canary{text}")
    assert "canary" not in caught.value.diagnostics()


@pytest.mark.parametrize("level", ["", "red", "TLP:RED", "WHITE"])
def test_a_rank_is_only_given_to_a_level(level: str) -> None:
    with pytest.raises(KeyError):
        rank(level)
    with pytest.raises(KeyError):
        at_most("CLEAR", level)
