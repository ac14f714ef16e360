"""The numbers of an author's reports: in whatever order they come, what never came is known; nothing counts twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kengele_node.office import numbering
from kengele_node.office.arrivals import Gaps
from kengele_node.office.bodies import Bodies
from kengele_node.office.inbox import _SCHEMA
from kengele_node.rows import RowCipher
from kengele_testing.values import KID

BODIES = Bodies(RowCipher(b"k" * 32, "inbox"))
OTHER = "m-" + "b" * 26


def opened() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.executescript(_SCHEMA)
    return connection


@pytest.fixture
def rows() -> Iterator[sqlite3.Connection]:
    connection = opened()
    yield connection
    connection.close()


@given(st.lists(st.integers(1, 40), max_size=60))
def test_what_never_came_is_all_below_the_highest_that_did_not_come(numbers: list[int]) -> None:
    connection = opened()
    author, came = numbering.author_row(connection, BODIES, KID), set[int]()
    for number in numbers:
        assert numbering.count(connection, author, number) is (number not in came)
        came.add(number)
    missing = numbering.gaps(connection, author).missing
    assert [n for low, high in missing for n in range(low, high + 1)] == sorted(
        set(range(1, max(came, default=0) + 1)) - came
    )
    assert all(after[0] > before[1] + 1 for before, after in pairwise(missing))
    connection.close()


def test_one_authors_numbers_are_none_of_anothers(rows: sqlite3.Connection) -> None:
    mine, others = (numbering.author_row(rows, BODIES, kid) for kid in (KID, OTHER))
    numbering.count(rows, mine, 3)
    assert numbering.gaps(rows, mine) == Gaps(((1, 2),), 0)
    assert numbering.gaps(rows, others) == Gaps((), 0)


def test_an_author_who_is_met_again_keeps_her_row(rows: sqlite3.Connection) -> None:
    author = numbering.author_row(rows, BODIES, KID)
    numbering.count(rows, author, 2)
    assert numbering.author_row(rows, BODIES, KID) == author
    assert numbering.gaps(rows, author).missing == ((1, 1),)


def test_what_is_explained_is_missing_all_the_same_but_no_riddle(rows: sqlite3.Connection) -> None:
    author = numbering.author_row(rows, BODIES, KID)
    numbering.count(rows, author, 4)
    numbering.explain(rows, author, 2)
    found = numbering.gaps(rows, author)
    assert (found.missing, found.unexplained) == (((1, 3),), 1)
    numbering.explain(rows, author, -2)
    assert numbering.gaps(rows, author).unexplained == 3


def test_an_authors_name_is_not_on_the_disk(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "inbox.db")
    connection.executescript(_SCHEMA)
    numbering.author_row(connection, BODIES, KID)
    connection.commit()
    connection.close()
    assert KID.encode() not in (tmp_path / "inbox.db").read_bytes()
