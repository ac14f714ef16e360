"""Past headers: counted by what they say, in an order that tells nothing, in pages that lose and double none."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_schemas.errors import Malformed
from kengele_schemas.fields import read
from kengele_schemas.headers import Alike, Facts, Tallies

DAY = date(2026, 11, 20)
CLAIMS = {"area": "KG-O", "categories": ["rumour"], "severity": 2, "tlp": "AMBER"}
AUTHOR = {"id": "6wCkK0dMs0G9eJxZ1mW2xQ", "kid": "m-abc", "day": "2026-11-19", "pol": 3, "v": 1, "kind": "report"}

said = st.builds(
    lambda area, severity, tlp: {**CLAIMS, "area": area, "severity": severity, "tlp": tlp},
    st.sampled_from(["KG", "KG-O", "KZ"]),
    st.integers(1, 5),
    st.sampled_from(["RED", "AMBER", "CLEAR"]),
)
taken = st.lists(st.tuples(st.integers(0, 3), said), max_size=40)


def tallies(reports: list[tuple[int, dict[str, object]]]) -> Tallies:
    found = Tallies()
    for after, claims in reports:
        found.add(DAY + timedelta(days=after), read(Facts, claims))
    return found


def rows(found: Tallies, limit: int = 1000, before: date = DAY + timedelta(days=9)) -> list[dict[str, object]]:
    page = found.page(DAY, before, limit=limit)
    told = list(page.rows)
    while page.following is not None:
        page = found.page(page.following.since, before, skip=page.following.skip, limit=limit)
        assert page.rows
        told += page.rows
    return told


def test_nothing_of_a_header_is_told_but_what_decides() -> None:
    found = Tallies()
    found.add(DAY, read(Facts, {**CLAIMS, **AUTHOR}))
    found.add(DAY, read(Facts, CLAIMS))
    assert rows(found) == [{"day": "2026-11-20", **CLAIMS, "count": 2}]


@given(reports=taken, data=st.data())
@settings(deadline=None)
def test_the_order_in_which_reports_came_cannot_be_told(
    reports: list[tuple[int, dict[str, object]]], data: st.DataObject
) -> None:
    other = data.draw(st.permutations(reports))
    assert rows(tallies(reports)) == rows(tallies(other))


@given(reports=taken, limit=st.integers(1, 7))
@settings(deadline=None)
def test_pages_hold_every_report_once(reports: list[tuple[int, dict[str, object]]], limit: int) -> None:
    found = rows(tallies(reports), limit)
    assert found == rows(tallies(reports))
    assert sum(read(Alike, row).count for row in found) == len(reports)
    assert len({(row["day"], row["area"], row["severity"], row["tlp"]) for row in found}) == len(found)


def test_a_page_ends_before_the_day_that_is_not_over() -> None:
    found = tallies([(0, CLAIMS), (1, CLAIMS), (2, CLAIMS)])
    assert [row["day"] for row in rows(found, before=DAY + timedelta(days=2))] == ["2026-11-20", "2026-11-21"]


def test_what_comes_late_is_counted_and_what_is_old_is_forgotten() -> None:
    found = tallies([(0, CLAIMS), (1, CLAIMS)])
    assert len(rows(found)) == 2
    found.add(DAY, read(Facts, CLAIMS))
    assert [row["count"] for row in rows(found)] == [2, 1]
    found.forget_before(DAY + timedelta(days=1))
    assert [row["day"] for row in rows(found)] == ["2026-11-21"]


@pytest.mark.parametrize("change", [{"count": 0}, {"count": True}, {"severity": 6}, {"day": "soon"}, {"area": "osh"}])
def test_a_row_that_says_something_else_is_none(change: dict[str, object]) -> None:
    row = {"day": "2026-11-20", **CLAIMS, "count": 1}
    assert read(Alike, row).document() == row
    with pytest.raises(Malformed):
        read(Alike, {**row, **change})
