"""The journal of shares: nothing is forgotten until the log has it, and nothing on the disk tells what it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kengele_node.rows import RowCipher
from kengele_node.sharing.journal import Journal

ROWS = RowCipher(b"k" * 32, "shares")
REPORT = "A" * 22


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "shares.db", ROWS)
    yield made
    made.close()


def test_what_was_added_waits_until_it_is_shared_across_a_restart(tmp_path: Path, journal: Journal) -> None:
    journal.add(REPORT, "council", 6, "digest", b"first")
    journal.close()
    again = Journal(tmp_path / "shares.db", ROWS)
    (one,) = again.waiting()
    assert (one.report, one.office, one.bits, one.digest, one.data) == (REPORT, "council", 6, "digest", b"first")
    again.shared(one.name)
    assert again.waiting() == []
    assert again.had(REPORT) == {"council": 6}
    again.close()


def test_the_same_is_added_once_and_stays_as_it_was(journal: Journal) -> None:
    journal.add(REPORT, "council", 6, "digest", b"first")
    journal.add(REPORT, "council", 6, "digest", b"second")
    assert [one.data for one in journal.waiting()] == [b"first"]
    (one,) = journal.waiting()
    journal.shared(one.name)
    journal.add(REPORT, "council", 6, "digest", b"third")
    assert journal.waiting() == []


def test_what_offices_were_given_adds_up_and_what_was_refused_is_planned_anew(journal: Journal) -> None:
    for office, bits in (("council", 2), ("council", 4), ("cso", 2)):
        journal.add(REPORT, office, bits, "digest", b"share")
    journal.add("B" * 21 + "A", "unoca", 2, "digest", b"share")
    assert journal.had(REPORT) == {"council": 6, "cso": 2}
    for one in journal.waiting():
        journal.drop(one.name)
    assert journal.had(REPORT) == {}
    assert journal.waiting() == []


def test_a_row_that_rotted_stops_no_other_and_the_disk_tells_no_name(tmp_path: Path, journal: Journal) -> None:
    journal.add(REPORT, "council", 2, "digest", b"share")
    journal.add(REPORT, "cso", 2, "digest", b"share")
    first, second = journal.waiting()
    with journal._store.transaction() as connection:
        connection.execute("UPDATE shares SET body = x'00' WHERE name = ?", (first.name,))
    assert journal.waiting() == [second]
    files = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    for text in (REPORT, "council", "cso", "digest"):
        assert text.encode() not in files
