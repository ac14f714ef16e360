"""The rows of an inbox: each opens as what it is, in its own place, and nowhere else."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kengele_node.office.bodies import Bodies, insert
from kengele_node.rows import RowCipher
from kengele_schemas.errors import Damaged

BODIES = Bodies(RowCipher(b"k" * 32, "inbox"))
DOCUMENTS = st.dictionaries(
    st.text(max_size=8), st.text(max_size=40) | st.integers(-(2**53) + 1, 2**53 - 1), max_size=4
)


@given(DOCUMENTS, st.binary(min_size=1, max_size=32))
def test_what_is_sealed_comes_back(body: dict[str, Any], name: bytes) -> None:
    assert BODIES.open("report", name, BODIES.seal("report", name, body)) == body


@pytest.mark.parametrize(
    ("what", "name"), [("recall", b"one"), ("report", b"another"), ("report", ""), ("report", 1), ("report", None)]
)
def test_a_row_does_not_open_as_another_in_another_place_or_where_its_name_rotted(what: str, name: object) -> None:
    sealed = BODIES.seal("report", b"one", {"text": "t"})
    with pytest.raises(Damaged):
        BODIES.open(what, name, sealed)


def test_another_homes_key_opens_nothing() -> None:
    sealed = Bodies(RowCipher(b"o" * 32, "inbox")).seal("report", b"one", {})
    with pytest.raises(Damaged):
        BODIES.open("report", b"one", sealed)


@given(st.data())
def test_a_changed_row_does_not_open(data: st.DataObject) -> None:
    sealed = bytearray(BODIES.seal_text("author", b"one", b"name"))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Damaged):
        BODIES.open_text("author", b"one", bytes(sealed))


def test_it_is_told_whether_a_row_is_new() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE markers (name BLOB PRIMARY KEY)")
    statement = "INSERT OR IGNORE INTO markers VALUES (?)"
    assert [insert(connection, statement, name) for name in (b"a", b"b", b"a")] == [True, True, False]
    connection.close()
