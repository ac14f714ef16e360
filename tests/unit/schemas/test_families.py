"""Families: what is said of every set of categories is what counting them one by one would say."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_schemas import families, taxonomy
from kengele_schemas.report import MAX_CATEGORIES

FEW = 9
MASKS = st.integers(0, 2**FEW - 1)
SETS = st.lists(MASKS, max_size=6)


def let_through(grants: list[int], forbidden: int) -> set[int]:
    """Every set of one to five categories, one by one."""
    sets = (
        sum(1 << place for place in chosen)
        for count in range(1, MAX_CATEGORIES + 1)
        for chosen in itertools.combinations(range(FEW), count)
    )
    return {one for one in sets if not one & forbidden and any(not one & ~grant for grant in grants)}


@given(SETS, MASKS)
@settings(deadline=None)
def test_a_family_lets_through_what_its_rules_do(grants: list[int], forbidden: int) -> None:
    family = families.of(grants, forbidden)
    expected = let_through(grants, forbidden)
    assert {one for one in range(1, 2**FEW) if one.bit_count() <= 5 and families.within(one, family)} == expected
    assert families.size(family) == len(expected)
    assert families.join(family) == families.join(one for one in expected if one.bit_count() == 1)
    assert not any(a != b and not a & ~b for a, b in itertools.product(family, repeat=2))


@given(SETS, MASKS, SETS, MASKS)
@settings(deadline=None)
def test_what_one_lets_through_beyond_another_is_found_and_is_smallest(
    some: list[int], less: int, others: list[int], fewer: int
) -> None:
    wide, narrow = families.of(some, less), families.of(others, fewer)
    differing = let_through(some, less) - let_through(others, fewer)
    found = families.beyond(wide, narrow)
    assert (found in differing) if differing else found == 0
    assert found.bit_count() == min((one.bit_count() for one in differing), default=0)
    assert families.size(families.meet(wide, narrow)) == len(let_through(some, less) & let_through(others, fewer))


@pytest.mark.parametrize("count", range(2, 8))
def test_a_difference_may_lie_in_a_set_of_many_only_and_in_none_of_more_than_five(count: int) -> None:
    """All but one of ``count`` categories, each left out once: only the whole set is in none of them."""
    whole = (1 << count) - 1
    parts = families.of((whole & ~(1 << place) for place in range(count)), 0)
    assert families.beyond((whole,), parts) == (whole if count <= MAX_CATEGORIES else 0)
    assert families.size((whole,)) - families.size(parts) == (1 if count <= MAX_CATEGORIES else 0)


def test_codes_and_sets_are_translated_as_the_taxonomy_says() -> None:
    for code in (*taxonomy.codes(), "*"):
        assert set(families.names(families.covered(code))) == set(taxonomy.leaves(code))
    assert families.names(families.union(["rumour", "peace"])) == tuple(sorted({"rumour", *taxonomy.leaves("peace")}))
    assert families.names(families.covered("no-such-code")) == ()
