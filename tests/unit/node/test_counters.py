"""Counters: no number twice, none left out for long, and a number is taken only with the report that carries it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_node.monitor.counters import COUNTERS_SCHEMA, Counters
from kengele_node.rows import RowCipher, Store
from kengele_schemas.errors import Refused

ROWS = RowCipher(b"k" * 32, "outbox")
KID = "m-" + "a" * 26
OFFICES = ("unrcca", "unoca")


class Numbers:
    """Counters over a store of their own; each call is a transaction."""

    def __init__(self, path: Path, author: str = KID) -> None:
        self.store = Store(path, COUNTERS_SCHEMA)
        self.counters = Counters(ROWS, author)

    def take(self, office: str = "unrcca") -> int | None:
        with self.store.transaction() as connection:
            return self.counters.take(connection, office)

    def give_back(self, number: int, office: str = "unrcca") -> None:
        with self.store.transaction() as connection:
            self.counters.give_back(connection, office, number)

    def lose(self, office: str, given: int | None = None) -> None:
        """Takes a number, or gives one back, in a transaction that fails."""
        with pytest.raises(Refused), self.store.transaction() as connection:  # noqa: PT012
            if given is None:
                self.counters.take(connection, office)
            else:
                self.counters.give_back(connection, office, given)
            raise Refused("no-reader", "")


@pytest.fixture
def numbers(tmp_path: Path) -> Iterator[Numbers]:
    made = Numbers(tmp_path / "n.db")
    yield made
    made.store.close()


def test_numbers_count_from_one_for_each_office(numbers: Numbers) -> None:
    assert [numbers.take("a") for _ in range(3)] == [1, 2, 3]
    assert [numbers.take(office) for office in ("b", "a", "b")] == [1, 4, 2]


def test_each_author_counts_for_itself(tmp_path: Path, numbers: Numbers) -> None:
    numbers.take()
    other = Numbers(tmp_path / "n.db", "m-" + "b" * 26)
    assert other.take() == 1
    other.store.close()
    assert numbers.take() == 2


def test_a_number_given_back_is_the_next_and_the_smallest_first(numbers: Numbers) -> None:
    assert [numbers.take() for _ in range(5)] == [1, 2, 3, 4, 5]
    for number in (4, 2):
        numbers.give_back(number)
    assert [numbers.take() for _ in range(3)] == [2, 4, 6]


def test_the_last_number_given_back_is_used_again(numbers: Numbers) -> None:
    assert numbers.take() == 1
    numbers.give_back(1)
    assert [numbers.take() for _ in range(2)] == [1, 2]


def test_a_number_given_back_twice_is_given_out_once(numbers: Numbers) -> None:
    assert [numbers.take() for _ in range(2)] == [1, 2]
    numbers.give_back(1)
    numbers.give_back(1)
    assert [numbers.take() for _ in range(2)] == [1, 3]


def test_a_number_given_back_to_one_office_is_not_another_offices(numbers: Numbers) -> None:
    for office in OFFICES:
        assert [numbers.take(office) for _ in range(2)] == [1, 2]
    numbers.give_back(1, "unoca")
    assert (numbers.take("unrcca"), numbers.take("unoca")) == (3, 1)


def test_what_a_transaction_took_before_it_failed_is_not_taken(numbers: Numbers) -> None:
    assert [numbers.take() for _ in range(2)] == [1, 2]
    numbers.lose("unrcca")
    numbers.lose("unrcca", given=1)
    assert numbers.take() == 3


def test_a_power_cut_between_number_and_report_takes_no_number(tmp_path: Path, numbers: Numbers) -> None:
    assert numbers.take() == 1
    cut = tmp_path / "cut"
    cut.mkdir()
    with numbers.store.transaction() as connection:
        assert numbers.counters.take(connection, "unrcca") == 2
        for file in tmp_path.glob("n.db*"):
            shutil.copy(file, cut)
    after = Numbers(cut / "n.db")
    assert after.take() == 2
    after.store.close()
    assert numbers.take() == 3


def test_numbers_go_on_after_a_start(tmp_path: Path, numbers: Numbers) -> None:
    assert [numbers.take() for _ in range(3)] == [1, 2, 3]
    numbers.give_back(2)
    numbers.store.close()
    again = Numbers(tmp_path / "n.db")
    assert [again.take() for _ in range(2)] == [2, 4]
    again.store.close()


@pytest.mark.parametrize("body", ["x'00'", "'text'", "CAST(body AS TEXT)", "substr(body, 1, 40)", "7"])
def test_a_damaged_row_costs_its_office_the_numbers_and_no_other(numbers: Numbers, body: str) -> None:
    assert [numbers.take(office) for office in OFFICES] == [1, 1]
    name = ROWS.blind(f"counter/{KID}/unrcca")
    with numbers.store.transaction() as connection:
        connection.execute(f"UPDATE counters SET body = {body} WHERE name = ?", (name,))
    numbers.give_back(1, "unrcca")
    assert [numbers.take(office) for office in OFFICES] == [None, 2]


def test_another_offices_row_in_its_place_is_damage(numbers: Numbers) -> None:
    """Else whoever has the disk could make one office's numbers another's, and dropped reports pass unnoticed."""
    assert [numbers.take("unrcca") for _ in range(9)] == list(range(1, 10))
    assert numbers.take("unoca") == 1
    bodies = [ROWS.blind(f"counter/{KID}/{office}") for office in OFFICES]
    with numbers.store.transaction() as connection:
        connection.execute(
            "UPDATE counters SET body = (SELECT body FROM counters WHERE name = ?) WHERE name = ?", bodies[::-1]
        )
    assert numbers.take("unrcca") is None


def test_the_disk_does_not_tell_which_offices_there_are_nor_how_far_they_count(
    tmp_path: Path, numbers: Numbers
) -> None:
    def size() -> int:
        with numbers.store.reading() as connection:
            return len(connection.execute("SELECT body FROM counters").fetchone()[0])

    numbers.take()
    first = size()
    for _ in range(200):
        numbers.take()
    assert size() == first
    data = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"unrcca" not in data
    assert KID.encode() not in data


_what = st.sampled_from(["take", "give back", "lose a take", "lose a return"])
_steps = st.lists(st.tuples(_what, st.sampled_from(OFFICES), st.integers(0, 99)), max_size=60)


@settings(max_examples=40, deadline=None)
@given(_steps)
def test_whatever_happens_numbers_in_use_are_distinct_and_leave_no_hole_behind(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int]]
) -> None:
    numbers = Numbers(tmp_path_factory.mktemp("numbers") / "n.db")
    used: dict[str, set[int]] = {office: set() for office in OFFICES}
    ever: dict[str, int] = dict.fromkeys(OFFICES, 0)
    for what, office, choice in steps:
        held = sorted(used[office])
        if what == "take":
            number = numbers.take(office)
            # The naive rule: the smallest positive number that no report carries.
            assert number == next(n for n in range(1, 1000) if n not in used[office])
            used[office].add(number)
            ever[office] = max(ever[office], number)
        elif what == "lose a take":
            numbers.lose(office)
        elif held and what == "give back":
            number = held[choice % len(held)]
            numbers.give_back(number, office)
            used[office].remove(number)
        elif held:
            numbers.lose(office, given=held[choice % len(held)])
    for office in OFFICES:
        while len(used[office]) < ever[office]:
            number = numbers.take(office)
            assert number is not None
            assert number not in used[office]
            used[office].add(number)
        assert used[office] == set(range(1, ever[office] + 1))
    numbers.store.close()
