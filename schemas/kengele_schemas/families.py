"""Which sets of categories rules let through, told by the largest ones.

A grant holds for a report if it covers all of its categories, a forbid stops it if it covers any one. So whatever set
is let through, each part of it is as well, and all that is let through lies within a few largest sets: each grant's
categories less all that are forbidden. Questions about all sets of up to five categories become questions about these.

A set is an integer, bit ``i`` for the ``i``-th of :func:`~kengele_schemas.taxonomy.leaves`; a family the tuple of its
facets, none of which lies within another.

    >>> families.beyond(families.of([rumour | abduction], 0), families.of([rumour, abduction], 0)) == rumour | abduction
    True
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from math import comb
from typing import Final

from . import taxonomy
from .report import MAX_CATEGORIES

Family = tuple[int, ...]
NOTHING: Final[Family] = ()


@lru_cache(maxsize=1)
def _bit() -> dict[str, int]:
    return {code: 1 << place for place, code in enumerate(taxonomy.leaves())}


@lru_cache(maxsize=4096)
def covered(code: str) -> int:
    """The categories that a rule on ``code`` (a code or ``*``) covers."""
    return sum(_bit()[leaf] for leaf in taxonomy.leaves(code))


def union(codes: Iterable[str]) -> int:
    """The categories that a rule on all of ``codes`` covers."""
    return join(covered(code) for code in codes)


def names(categories: int) -> tuple[str, ...]:
    """The codes in a set, sorted as a header has them."""
    return tuple(sorted(code for code, bit in _bit().items() if categories & bit))


def bits(number: int) -> Iterator[int]:
    """The bits of ``number``, lowest first, each as the place it has."""
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest


def of(grants: Iterable[int], forbidden: int) -> Family:
    """What is let through by ``grants``, each the categories that it covers, less those ``forbidden``."""
    found: list[int] = []
    for facet in sorted({grant & ~forbidden for grant in grants}, key=int.bit_count, reverse=True):
        if facet and not any(facet & ~larger == 0 for larger in found):
            found.append(facet)
    return tuple(sorted(found))


def meet(one: Family, other: Family) -> Family:
    """What both let through."""
    return of((a & b for a in one for b in other), 0)


def within(categories: int, family: Family) -> bool:
    """Whether the set is let through."""
    return any(categories & ~facet == 0 for facet in family)


def join(sets: Iterable[int]) -> int:
    """All categories in any of ``sets``; of a family, those that are let through alone."""
    found = 0
    for one in sets:
        found |= one
    return found


def size(family: Family) -> int:
    """How many sets of one to five categories are let through."""
    # By inclusion and exclusion: what facets share is counted once. Equal intersections are kept as one.
    counted: dict[int, int] = {}
    for facet in family:
        for shared, times in [*counted.items()]:
            if both := shared & facet:
                counted[both] = counted.get(both, 0) - times
        counted[facet] = counted.get(facet, 0) + 1
    return sum(times * _sets(facet.bit_count()) for facet, times in counted.items())


@lru_cache(maxsize=256)
def _sets(categories: int) -> int:
    return sum(comb(categories, chosen) for chosen in range(1, MAX_CATEGORIES + 1))


def beyond(family: Family, other: Family) -> int:
    """A smallest set, of at most five categories, that ``family`` lets through and ``other`` does not; 0 if none."""
    best = 0
    for facet in family:
        gaps = [facet & ~one for one in other]
        if all(gaps):
            # Such a set must have a category in each gap, or it would lie within that facet of the other family.
            limit = best.bit_count() - 1 if best else MAX_CATEGORIES
            best = _hitting(facet, gaps, limit) or best
    return best


def _hitting(facet: int, gaps: list[int], limit: int) -> int:
    """A smallest set of at most ``limit`` categories of ``facet`` that has one in each gap; 0 if none."""
    if not gaps:
        return facet & -facet if limit else 0
    for most in range(1, limit + 1):
        if found := _chosen(gaps, most):
            return found
    return 0


def _chosen(gaps: list[int], most: int) -> int:
    common = gaps[0]
    for gap in gaps:
        common &= gap
    if common:
        return common & -common
    if most == 1:
        return 0
    # Of categories that lie in the same gaps one will do.
    tried = set()
    for place in bits(min(gaps, key=int.bit_count)):
        bit = 1 << place
        left = [gap for gap in gaps if not gap & bit]
        if (key := tuple(left)) not in tried:
            tried.add(key)
            if found := _chosen(left, most - 1):
                return bit | found
    return 0
