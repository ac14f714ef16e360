"""The inbox: each report once, what did not come is known, and no row that rotted stops another."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_node.office.arrivals import MAX_COUNTER, Arrival, Aside, Gaps, Item, Lost, Marker, Notice, Tombstone
from kengele_node.office.desk import receive
from kengele_node.office.inbox import _SCHEMA, Inbox
from kengele_node.rows import RowCipher, Store
from kengele_schemas.encoding import b64u
from kengele_schemas.envelope import parse
from kengele_schemas.errors import Damaged
from kengele_schemas.orders import Order, mark_of
from kengele_schemas.report import Header, parse_compartment, parse_draft
from kengele_schemas.trusted import UNNAMED
from kengele_testing.values import CANARY, KEYS, KID, TODAY, canaried, grant, network, report, sealed

ROWS = RowCipher(b"k" * 32, "inbox")
OTHER = "m-" + "b" * 26
NOW = 1_780_000_000.0
LATER = ("recalls", "orders", "(mark)", "(author)")
OLD = ";".join(
    statement.replace(",\n  mark BLOB", "").replace(",\n  author BLOB", "")
    for statement in _SCHEMA.split(";")
    if not any(word in statement for word in LATER)
)
CONTENTS = parse_draft(canaried()).contents()


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    box = Inbox(tmp_path / "inbox.db", ROWS)
    yield box
    box.close()


def an_id(name: object) -> str:
    return b64u(hashlib.sha256(str(name).encode()).digest()[:16])


def arrival(
    name: object,
    counter: int | None = None,
    *,
    kid: str = KID,
    report_id: str = "",
    recalls: str | None = None,
    keep: tuple[Any, ...] | None = None,
    withheld: tuple[str, ...] = (),
    flags: tuple[str, ...] = (),
) -> Arrival:
    """A report that is like no other whose ``name`` differs."""
    header = Header(
        net=UNNAMED,
        id=report_id or an_id(name),
        kid=kid,
        kind="report" if recalls is None else "recall",
        area="KG-O",
        categories=("rumour",),
        severity=2,
        day="2026-11-24",  # type: ignore[arg-type]
        day_precision=1,
        tlp="AMBER",
        pol=1,
        recalls=recalls,
        keep=keep,
    )
    data = f"{CANARY} {name}".encode()
    contents = {part: parse_compartment(part, value) for part, value in CONTENTS.items()}
    return Arrival(data, hashlib.sha256(data).digest(), header, contents, counter, withheld, flags)


def keep(inbox: Inbox, *items: Arrival | Marker | Notice | Aside) -> list[bool]:
    return inbox.keep(items, now=NOW)


def stored(inbox: Inbox) -> list[Item]:
    return [item for item in inbox.items(1000) if isinstance(item, Item)]


def again(inbox: Inbox, tmp_path: Path) -> Inbox:
    inbox.close()
    return Inbox(tmp_path / "inbox.db", ROWS)


def tamper(inbox: Inbox, statement: str, *values: object) -> None:
    with inbox._store.transaction() as connection:
        assert connection.execute(statement, values).rowcount


def numbered(inbox: Inbox, *numbers: int, kid: str = KID) -> Gaps:
    for number in numbers:
        keep(inbox, arrival(f"{kid}/{number}", number, kid=kid))
    return inbox.gaps(kid)


def test_what_was_kept_comes_back_word_for_word(tmp_path: Path, inbox: Inbox) -> None:
    first = arrival("r1", 1, withheld=("people",), flags=("key-expired",))
    assert keep(inbox, first) == [True]
    box = again(inbox, tmp_path)
    (item,) = box.items()
    assert item == Item(1, NOW, first, ("key-expired",))
    assert box.find(first.header.id) == [item]
    assert box.find(an_id("another")) == []
    assert (box.count(), box.authors()) == (1, [KID])
    box.close()


def test_a_report_is_kept_once_by_what_was_signed(tmp_path: Path, inbox: Inbox) -> None:
    first = arrival("r1", 1)
    stripped = Arrival(b"other bytes", first.digest, first.header, {}, 1)
    assert keep(inbox, first, first, arrival("r2", 2)) == [True, False, True]
    assert keep(inbox, first, stripped) == [False, False]
    box = again(inbox, tmp_path)
    assert box.keep([first], now=NOW + 9) == [False]
    assert [item.arrival.data for item in stored(box)] == [arrival("r2").data, first.data]
    assert all(item.flags == () and item.received == NOW for item in stored(box))
    box.close()


def test_the_list_is_paged_the_latest_first(inbox: Inbox) -> None:
    keep(inbox, *(arrival(f"r{i}") for i in range(5)))
    assert [item.number for item in inbox.items(2)] == [5, 4]
    assert [item.number for item in inbox.items(9, before=4)] == [3, 2, 1]


def test_an_id_given_twice_shows_and_neither_hides_the_other(inbox: Inbox) -> None:
    id_ = an_id("shared")
    keep(inbox, arrival("r1", 1, report_id=id_), arrival("r2", 1, kid=OTHER, report_id=id_), arrival("r3", 2))
    assert [item.flags for item in inbox.find(id_) if isinstance(item, Item)] == [(), ("id-twice",)]
    assert [item.flags for item in stored(inbox)] == [(), ("id-twice",), ()]


def test_a_number_given_twice_shows(inbox: Inbox) -> None:
    keep(inbox, arrival("r1", 1), arrival("r2", 3), arrival("r3", 3), arrival("r4", 1), arrival("r5", 2))
    assert [item.flags for item in stored(inbox)] == [(), ("number-twice",), ("number-twice",), (), ()]
    assert keep(inbox, arrival("r6", 1, kid=OTHER)) == [True]
    assert stored(inbox)[0].flags == ()


def test_what_the_desk_noted_stands_before_what_the_inbox_found(inbox: Inbox) -> None:
    keep(inbox, arrival("r1", 1), arrival("r2", 1, report_id=an_id("r1"), flags=("monitor-revoked",)))
    assert stored(inbox)[0].flags == ("monitor-revoked", "id-twice", "number-twice")


def recall(name: object, of: object, counter: int | None = None, **changes: Any) -> Arrival:
    """A recall of the report called ``of``, with a reason and nothing else in it."""
    made = arrival(name, counter, recalls=an_id(of), **changes)
    contents = {"handling": parse_compartment("handling", {"wishes": {"text": "Unsafe.", "lang": "en"}})}
    return replace(made, contents=contents)


def gone(inbox: Inbox) -> list[Tombstone]:
    return [item for item in inbox.items(1000) if isinstance(item, Tombstone)]


class TestRecalls:
    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    def test_leave_a_tombstone_whichever_comes_first(self, inbox: Inbox, order: tuple[int, int]) -> None:
        both = (arrival("r1", 1), recall("r2", "r1", 2))
        for one in order:
            keep(inbox, both[one])
        assert stored(inbox) == []
        (stone,) = gone(inbox)
        assert (stone.id, stone.author, stone.recalled, stone.reason) == (an_id("r1"), KID, NOW, "Unsafe.")
        assert inbox.find(an_id("r1")) == [stone]
        assert inbox.gaps(KID) == Gaps((), 0)

    def test_destroy_the_text_and_not_only_the_way_to_it(self, tmp_path: Path, inbox: Inbox) -> None:
        keep(inbox, arrival("r1"), arrival("r2"))
        with inbox._store.reading() as connection:
            before = [bytes(row[0]) for row in connection.execute("SELECT body FROM reports ORDER BY number")]
        keep(inbox, recall("r3", "r1"))
        inbox.scrub()
        files = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        pieces = [before[0][at : at + 32] for at in range(0, len(before[0]) - 32, 256)]
        assert not any(piece in files for piece in pieces)
        assert any(before[1][at : at + 32] in files for at in range(0, len(before[1]) - 32, 256))

    def test_of_another_author_take_nothing(self, inbox: Inbox) -> None:
        keep(inbox, arrival("r1"), recall("r2", "r1", kid=OTHER))
        assert [item.arrival.header.id for item in stored(inbox)] == [an_id("r1")]

    def test_change_nothing_the_second_time(self, inbox: Inbox) -> None:
        assert keep(inbox, arrival("r1", 1), recall("r2", "r1", 2), recall("r2", "r1", 2)) == [True, True, False]
        before = inbox.items()
        keep(inbox, recall("r3", "r1", 3), arrival("r1", 1))
        assert inbox.items() == before

    def test_explain_a_number_that_never_came(self, inbox: Inbox) -> None:
        keep(inbox, recall("r2", "r1", 2))
        assert (inbox.gaps(KID).missing, inbox.gaps(KID).unexplained) == (((1, 1),), 0)
        keep(inbox, arrival("r4", 4))
        assert inbox.gaps(KID).unexplained == 1
        keep(inbox, arrival("r1", 1))
        assert inbox.gaps(KID) == Gaps(((3, 3),), 0)

    def test_explain_no_number_that_a_marker_explains_already(self, inbox: Inbox) -> None:
        keep(inbox, arrival("r1", 1), Marker(b"of r2", KID), arrival("c", 3, recalls=an_id("r2")))
        assert inbox.gaps(KID) == Gaps(((2, 2),), 1)
        keep(inbox, arrival("r5", 5))
        assert inbox.gaps(KID).unexplained == 1

    def test_are_confirmed_each_until_it_is_known(self, inbox: Inbox) -> None:
        first = recall("r2", "r1")
        keep(inbox, arrival("r1"), first, recall("r3", "r1"))
        waiting = {one.recall: one for one in inbox.unconfirmed()}
        assert waiting[first.digest].report == an_id("r1")
        assert len(waiting) == 2
        inbox.confirmed(waiting[first.digest].name)
        assert [one.recall for one in inbox.unconfirmed()] == [recall("r3", "r1").digest]

    def test_take_what_was_set_aside_as_well(self, inbox: Inbox) -> None:
        trusted = network(grant())
        envelopes = {name: sealed(report(), trusted, report_id=an_id(name)) for name in ("r1", "r2")}
        keep(inbox, *(Aside(data, "cannot-open") for data in envelopes.values()), recall("r3", "r1"))
        assert [one.data for one in inbox.asides() if isinstance(one, Aside)] == [envelopes["r2"]]

    def test_that_rotted_still_hold(self, inbox: Inbox) -> None:
        keep(inbox, recall("r2", "r1"))
        tamper(inbox, "UPDATE recalls SET body = x'00'")
        keep(inbox, arrival("r1"))
        assert stored(inbox) == []

    def test_take_a_report_that_rotted(self, inbox: Inbox) -> None:
        keep(inbox, arrival("r1"))
        tamper(inbox, "UPDATE reports SET body = zeroblob(5000)")
        keep(inbox, recall("r2", "r1"))
        assert [stone.id for stone in gone(inbox)] == [an_id("r1")]

    @pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0)])
    def test_of_parts_leave_what_all_of_them_leave(self, inbox: Inbox, order: tuple[int, ...]) -> None:
        trusted = network(grant(grant=["summary", "account", "place"]))
        written = report(place={"name": CANARY})
        opened = receive(
            sealed(written, trusted, report_id=an_id("r1")),
            trusted,
            office="unrcca",
            keys=[KEYS["unrcca"]],
            today=TODAY,
        )
        assert isinstance(opened, Arrival)
        items = (
            opened,
            recall("r2", "r1", keep=("account", "summary")),
            recall("r3", "r1", keep=("place", "summary")),
        )
        for one in order:
            keep(inbox, items[one])
        (item,) = stored(inbox)
        assert (tuple(item.arrival.contents), item.flags) == (("summary",), ("narrowed",))
        assert tuple(parse(item.arrival.data).ciphertexts) == ("handling", "summary")
        keep(inbox, recall("r4", "r1", keep=("account",)))
        assert [stone.id for stone in gone(inbox)] == [an_id("r1")]

    def test_are_taken_by_an_inbox_of_the_version_before(self, tmp_path: Path) -> None:
        old = Store(tmp_path / "old.db", "CREATE TABLE recalls (id BLOB PRIMARY KEY) WITHOUT ROWID;" + OLD)
        old.close()
        box = Inbox(tmp_path / "old.db", ROWS)
        keep(box, arrival("r1"), recall("r2", "r1"))
        assert len(gone(box)) == 1
        box.close()


def order(inbox: Inbox, *names: str, keep: Any = None, reason: Any = None) -> list[str]:
    """The ids of what is found and obeyed."""
    orders = [Order(mark=mark_of(an_id(name)), keep=keep, reason=reason) for name in names]
    return [notice.report for notice in inbox.order(orders, now=NOW)]


def notice(name: str, kid: str = KID) -> Notice:
    return Notice(b"notice " + name.encode(), an_id(name), kid)


class TestOrders:
    @pytest.mark.parametrize("first", ["report", "order"])
    def test_leave_a_tombstone_whichever_comes_first(self, inbox: Inbox, first: str) -> None:
        if first == "report":
            keep(inbox, arrival("r1", 1), arrival("r2", 2))
        order(inbox, "r1", reason="safety")
        if first == "order":
            assert keep(inbox, arrival("r1", 1), arrival("r2", 2)) == [False, True]
        (stone,) = gone(inbox)
        assert (stone.id, stone.author, stone.recalled) == (an_id("r1"), KID, NOW)
        assert (stone.reason, stone.by) == ("safety", "coordinators")
        assert [item.arrival.header.id for item in stored(inbox)] == [an_id("r2")]
        assert inbox.gaps(KID) == Gaps((), 0)

    def test_are_obeyed_once_and_tell_what_they_found(self, inbox: Inbox) -> None:
        keep(inbox, arrival("r1"), arrival("r2"))
        assert order(inbox, "r1", "elsewhere") == [an_id("r1")]
        assert order(inbox, "r1", "elsewhere", "r2") == [an_id("r2")]
        assert keep(inbox, notice("r1"), notice("r1")) == [False, False]

    def test_destroy_the_text_and_not_only_the_way_to_it(self, tmp_path: Path, inbox: Inbox) -> None:
        keep(inbox, arrival("r1"))
        with inbox._store.reading() as connection:
            ((before,),) = connection.execute("SELECT body FROM reports").fetchall()
        order(inbox, "r1")
        inbox.scrub()
        files = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        assert not any(before[at : at + 32] in files for at in range(0, len(before) - 32, 256))

    def test_are_on_the_disk_for_nobody_who_knows_an_id(self, tmp_path: Path, inbox: Inbox) -> None:
        order(inbox, "r1")
        inbox.scrub()
        files = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        assert mark_of(an_id("r1")).encode() not in files
        assert hashlib.sha256(b"kengele-recall-v1\0" + an_id("r1").encode()).digest() not in files

    def test_are_confirmed_once_something_was_there_or_a_notice_says_it_was_to_be(self, inbox: Inbox) -> None:
        keep(inbox, arrival("r1"))
        order(inbox, "r1", "r2", "r3")
        assert [one.report for one in inbox.unconfirmed()] == [an_id("r1")]
        assert keep(inbox, notice("r2"), notice("r2")) == [True, False]
        waiting = {one.report: one for one in inbox.unconfirmed()}
        assert set(waiting) == {an_id("r1"), an_id("r2")}
        assert waiting[an_id("r2")].recall == Order(mark=mark_of(an_id("r2"))).digest
        assert {stone.id for stone in gone(inbox)} == {an_id("r1"), an_id("r2")}

    def test_explain_a_number_that_never_came(self, inbox: Inbox) -> None:
        order(inbox, "r1")
        keep(inbox, arrival("r2", 2), notice("r1"))
        assert (inbox.gaps(KID).missing, inbox.gaps(KID).unexplained) == (((1, 1),), 0)
        keep(inbox, arrival("r1", 1))
        assert inbox.gaps(KID) == Gaps((), 0)

    def test_explain_no_number_where_the_report_was_shared_alone(self, inbox: Inbox) -> None:
        order(inbox, "r1")
        keep(inbox, arrival("r2", 2), replace(notice("r1"), numbered=False))
        assert inbox.gaps(KID).unexplained == 1
        assert len(inbox.unconfirmed()) == 1

    def test_explain_nothing_where_the_report_came(self, inbox: Inbox) -> None:
        # Else a hub that dropped another one could hide it behind the notice.
        order(inbox, "r1")
        keep(inbox, arrival("r1", 1), arrival("r3", 3), notice("r1"), notice("r1", OTHER))
        assert inbox.gaps(KID).unexplained == 1
        assert inbox.gaps(OTHER).withheld == 0

    def test_are_not_made_by_a_notice(self, inbox: Inbox) -> None:
        keep(inbox, arrival("r1"))
        assert keep(inbox, notice("r1"), notice("r2")) == [False, False]
        assert len(stored(inbox)) == 1
        assert gone(inbox) == []

    def test_leave_of_parts_what_all_who_recalled_leave(self, inbox: Inbox) -> None:
        trusted = network(grant(grant=["summary", "account", "place"]))
        written = sealed(report(place={"name": CANARY}), trusted, report_id=an_id("r1"))
        opened = receive(written, trusted, office="unrcca", keys=[KEYS["unrcca"]], today=TODAY)
        assert isinstance(opened, Arrival)
        keep(inbox, opened)
        order(inbox, "r1", keep=("account", "summary"))
        keep(inbox, recall("r2", "r1", keep=("place", "summary")))
        (item,) = stored(inbox)
        assert (tuple(item.arrival.contents), item.flags) == (("summary",), ("narrowed",))
        order(inbox, "r1", keep=("account",))
        assert [stone.id for stone in gone(inbox)] == [an_id("r1")]
        assert len(inbox.unconfirmed()) == 3

    def test_take_what_was_set_aside_and_what_is_to_be(self, inbox: Inbox) -> None:
        trusted = network(grant())
        envelopes = {name: sealed(report(), trusted, report_id=an_id(name)) for name in ("r1", "r2", "r3")}
        keep(inbox, *(Aside(envelopes[name], "cannot-open") for name in ("r1", "r2")))
        order(inbox, "r1", "r3")
        assert keep(inbox, Aside(envelopes["r3"], "cannot-open"), Aside(b"garbage", "malformed")) == [False, True]
        assert [one.data for one in inbox.asides() if isinstance(one, Aside)] == [envelopes["r2"], b"garbage"]

    def test_hold_when_the_list_of_them_is_lost(self, tmp_path: Path, inbox: Inbox) -> None:
        order(inbox, "r1")
        box = again(inbox, tmp_path)
        assert order(box) == []
        keep(box, arrival("r1"))
        assert stored(box) == []
        box.close()

    def test_that_rotted_still_hold_and_are_not_confirmed(self, inbox: Inbox) -> None:
        order(inbox, "r1", keep=("summary",))
        tamper(inbox, "UPDATE orders SET body = x'00'")
        keep(inbox, arrival("r1"), notice("r1"))
        assert (stored(inbox), inbox.unconfirmed()) == ([], [])

    def test_take_a_report_that_rotted_once_the_hub_names_it(self, inbox: Inbox) -> None:
        keep(inbox, arrival("r1"), arrival("r2"))
        tamper(inbox, "UPDATE reports SET body = zeroblob(5000) WHERE number = 1")
        order(inbox, "r1")
        keep(inbox, notice("r1"))
        assert [stone.id for stone in gone(inbox)] == [an_id("r1")]
        assert len(stored(inbox)) == 1

    def test_find_what_an_inbox_of_the_version_before_holds(self, tmp_path: Path) -> None:
        old = Inbox(tmp_path / "old.db", ROWS)
        keep(old, arrival("r1"), arrival("r2"), recall("r3", "r2"))
        for statement in (
            *("DROP TABLE heard", "DROP INDEX marks", "DROP TABLE orders", "ALTER TABLE reports DROP COLUMN mark"),
            *("DROP INDEX aside_authors", "ALTER TABLE asides DROP COLUMN author"),
        ):
            tamper(old, statement)
        tamper(old, "PRAGMA user_version=2")
        old.close()
        box = Inbox(tmp_path / "old.db", ROWS)
        assert order(box, "r1", "r2") == [an_id("r1"), an_id("r2")]
        assert [(stone.id, stone.by) for stone in gone(box)] == [(an_id("r2"), "author"), (an_id("r1"), "coordinators")]
        box.close()


class TestGaps:
    def test_open_with_a_number_that_was_skipped(self, inbox: Inbox) -> None:
        assert numbered(inbox, 1, 2, 5) == Gaps(((3, 4),), 0)
        assert inbox.gaps(KID).unexplained == 2

    def test_open_before_the_first_that_came(self, inbox: Inbox) -> None:
        assert numbered(inbox, 3).missing == ((1, 2),)

    @pytest.mark.parametrize(
        ("late", "left"),
        [(2, ((3, 5),)), (5, ((2, 4),)), (3, ((2, 2), (4, 5))), (4, ((2, 3), (5, 5)))],
    )
    def test_close_by_what_comes_late(self, inbox: Inbox, late: int, left: tuple[tuple[int, int], ...]) -> None:
        numbered(inbox, 1, 6)
        assert numbered(inbox, late).missing == left

    def test_close_for_good_when_all_came(self, tmp_path: Path, inbox: Inbox) -> None:
        assert numbered(inbox, 6, 1, 3, 5, 2, 4) == Gaps((), 0)
        box = again(inbox, tmp_path)
        assert numbered(box, 7) == Gaps((), 0)
        box.close()

    def test_are_each_authors_own(self, inbox: Inbox) -> None:
        numbered(inbox, 4)
        assert numbered(inbox, 1, kid=OTHER).missing == ()
        assert inbox.gaps(KID).missing == ((1, 3),)
        assert inbox.gaps("m-" + "c" * 26) == Gaps((), 0)

    def test_are_not_told_by_a_wrap_without_a_number(self, inbox: Inbox) -> None:
        keep(inbox, arrival("r1", None), arrival("r2", None))
        assert inbox.gaps(KID) == Gaps((), 0)
        assert [item.flags for item in stored(inbox)] == [(), ()]

    def test_are_kept_as_ranges_however_wide(self, inbox: Inbox) -> None:
        assert numbered(inbox, 1, MAX_COUNTER, 1_000_000).missing == ((2, 999_999), (1_000_001, MAX_COUNTER - 1))

    def test_do_not_close_by_a_repetition(self, inbox: Inbox) -> None:
        numbered(inbox, 1, 3)
        keep(inbox, arrival(f"{KID}/3", 3), arrival("another", 3))
        assert inbox.gaps(KID).missing == ((2, 2),)

    def test_are_explained_by_markers(self, inbox: Inbox) -> None:
        numbered(inbox, 1, 5)
        assert keep(inbox, Marker(b"m1", KID), Marker(b"m2", KID), Marker(b"m3", OTHER)) == [True] * 3
        gaps = inbox.gaps(KID)
        assert (gaps.missing, gaps.withheld, gaps.unexplained) == (((2, 4),), 2, 1)

    def test_are_explained_once_by_a_marker_that_comes_twice(self, inbox: Inbox) -> None:
        numbered(inbox, 1, 5)
        assert keep(inbox, Marker(b"m1", KID), Marker(b"m1", KID)) == [True, False]
        assert keep(inbox, Marker(b"m1", KID)) == [False]
        assert inbox.gaps(KID).unexplained == 2

    def test_are_never_fewer_than_none(self, inbox: Inbox) -> None:
        keep(inbox, *(Marker(b"m%d" % i, KID) for i in range(5)))
        assert inbox.gaps(KID).unexplained == 0
        assert numbered(inbox, 3).unexplained == 0
        assert inbox.authors() == [KID]


_happenings = st.lists(
    st.tuples(st.sampled_from([KID, OTHER]), st.one_of(st.integers(1, 14), st.just("marker"), st.just("start anew"))),
    max_size=50,
)


@settings(max_examples=40, deadline=None)
@given(_happenings)
def test_gaps_are_what_a_naive_list_of_numbers_says(
    tmp_path_factory: pytest.TempPathFactory, happenings: Sequence[tuple[str, Any]]
) -> None:
    directory = tmp_path_factory.mktemp("inbox")
    inbox = Inbox(directory / "inbox.db", ROWS)
    came: dict[str, list[int]] = {KID: [], OTHER: []}
    markers: dict[str, int] = {KID: 0, OTHER: 0}
    for at, (kid, what) in enumerate(happenings):
        if what == "start anew":
            inbox = again(inbox, directory)
        elif what == "marker":
            keep(inbox, Marker(b"marker %d" % at, kid))
            markers[kid] += 1
        else:
            keep(inbox, arrival(at, what, kid=kid))
            assert stored(inbox)[0].flags == (("number-twice",) if what in came[kid] else ())
            came[kid].append(what)
    for kid, numbers in came.items():
        missing = sorted(set(range(1, max(numbers, default=0))) - set(numbers))
        gaps = inbox.gaps(kid)
        assert [number for first, last in gaps.missing for number in range(first, last + 1)] == missing
        assert all(second[0] > first[1] + 1 for first, second in zip(gaps.missing, gaps.missing[1:], strict=False))
        assert gaps.unexplained == max(0, len(missing) - markers[kid])
    inbox.close()


class TestWhatWasSetAside:
    def test_is_kept_as_it_came_with_the_reason(self, tmp_path: Path, inbox: Inbox) -> None:
        assert keep(inbox, Aside(b"one", "malformed"), Aside(b"two", "cannot-open")) == [True, True]
        box = again(inbox, tmp_path)
        assert box.asides() == [Aside(b"one", "malformed", 1, NOW), Aside(b"two", "cannot-open", 2, NOW)]
        assert (box.count(), box.authors()) == (0, [])
        box.close()

    def test_is_kept_once(self, inbox: Inbox) -> None:
        assert keep(inbox, Aside(b"one", "malformed"), Aside(b"one", "cannot-open")) == [True, False]
        assert keep(inbox, Aside(b"one", "malformed")) == [False]
        assert len(inbox.asides()) == 1

    def test_moves_to_the_reports_when_it_holds_up(self, inbox: Inbox) -> None:
        keep(inbox, arrival("r1", 1), arrival("r3", 3), Aside(b"two", "unknown-monitor"))
        (aside,) = inbox.asides()
        assert isinstance(aside, Aside)
        assert inbox.settle(aside, arrival("r2", 2))
        assert inbox.asides() == []
        assert stored(inbox)[0] == Item(3, NOW, arrival("r2", 2), ())
        assert inbox.gaps(KID).missing == ()

    def test_is_no_second_report_where_it_came_again_and_held_up(self, inbox: Inbox) -> None:
        keep(inbox, Aside(b"one", "unknown-monitor"), arrival("r1", 1))
        (aside,) = inbox.asides()
        assert isinstance(aside, Aside)
        assert not inbox.settle(aside, arrival("r1", 1))
        assert (inbox.asides(), inbox.count()) == ([], 1)

    def test_goes_when_someone_has_looked_at_it(self, inbox: Inbox) -> None:
        keep(inbox, Aside(b"one", "malformed"), Aside(b"two", "malformed"))
        inbox.discard(1)
        assert [aside.number for aside in inbox.asides()] == [2]

    def test_is_listed_page_by_page(self, inbox: Inbox) -> None:
        keep(inbox, *(Aside(b"%d" % i, "malformed") for i in range(5)))
        assert [aside.number for aside in inbox.asides(2)] == [1, 2]
        assert [aside.number for aside in inbox.asides(2, after=2)] == [3, 4]
        assert [aside.number for aside in inbox.asides(2, after=4)] == [5]


DAMAGE = [
    "body = x'00'",
    "body = 'text'",
    "body = CAST(body AS TEXT)",
    "body = substr(body, 1, 60)",
    "body = (SELECT body FROM {table} WHERE number = 3)",
    "name = x'00'",
    "name = 'text'",
    "name = CAST(name AS TEXT)",
    "name = 7",
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_report_that_cannot_be_read_back_is_lost_and_stops_no_other(inbox: Inbox, damage: str) -> None:
    keep(inbox, *(arrival(f"r{i}", i) for i in (1, 2, 3)))
    tamper(inbox, f"UPDATE reports SET {damage.format(table='reports')} WHERE number = 2")
    assert inbox.items()[1] == Lost(2)
    assert [item.arrival.header.id for item in stored(inbox)] == [an_id("r3"), an_id("r1")]
    assert inbox.find(an_id("r2")) == [Lost(2)]
    assert keep(inbox, arrival("r4", 4)) == [True]
    assert inbox.count() == 4


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_row_set_aside_that_cannot_be_read_back_stops_no_other(inbox: Inbox, damage: str) -> None:
    keep(inbox, *(Aside(b"%d" % i, "malformed") for i in (1, 2, 3)))
    tamper(inbox, f"UPDATE asides SET {damage.format(table='asides')} WHERE number = 2")
    first, second, third = inbox.asides()
    assert (second, type(first), type(third)) == (Lost(2), Aside, Aside)
    inbox.discard(2)
    assert [aside.number for aside in inbox.asides()] == [1, 3]


@pytest.mark.parametrize("damage", ["body = x'00'", "body = 'text'", "name = 'text'", "name = 7"])
def test_an_author_whose_row_rotted_hides_no_other(inbox: Inbox, damage: str) -> None:
    numbered(inbox, 1, kid=KID)
    numbered(inbox, 1, 3, kid=OTHER)
    tamper(inbox, f"UPDATE authors SET {damage} WHERE name = ?", ROWS.blind(f"author/{KID}"))
    assert inbox.authors() == [OTHER]
    assert inbox.gaps(OTHER).missing == ((2, 2),)
    assert keep(inbox, arrival("r9", 9, kid=KID)) == [True]


def test_a_row_of_another_home_does_not_open(tmp_path: Path, inbox: Inbox) -> None:
    keep(inbox, arrival("r1"))
    inbox.close()
    box = Inbox(tmp_path / "inbox.db", RowCipher(b"x" * 32, "inbox"))
    assert box.items() == [Lost(1)]
    box.close()


def room(inbox: Inbox, pages: int) -> None:
    """How many pages more the disk takes."""
    with inbox._store.reading() as connection:
        (used,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {used + pages}")


def held(inbox: Inbox) -> tuple[Any, ...]:
    return (inbox.items(1000), inbox.asides(), inbox.authors(), inbox.gaps(KID), inbox.gaps(OTHER))


def test_a_full_disk_keeps_nothing_half(inbox: Inbox) -> None:
    keep(inbox, arrival("r1", 1), Marker(b"m1", KID), Aside(b"a1", "malformed"))
    before = held(inbox)
    batch: list[Arrival | Marker | Aside] = [
        Marker(b"m2", OTHER),
        arrival("r5", 5),
        *(arrival(f"s{i}", i, kid=OTHER) for i in range(1, 9)),
        Aside(bytes(50_000), "malformed"),
    ]
    room(inbox, 4)
    with pytest.raises(Damaged) as caught:
        keep(inbox, *batch)
    assert caught.value.code == "storage-full"
    assert held(inbox) == before
    room(inbox, 1000)
    assert keep(inbox, *batch) == [True] * len(batch)
    assert inbox.gaps(KID).missing == ((2, 4),)


@pytest.mark.parametrize("at", range(4))
def test_a_crash_within_a_batch_keeps_nothing_of_it(inbox: Inbox, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    keep(inbox, arrival("r1", 1))
    before = held(inbox)
    batch = (arrival("r4", 4), Marker(b"m", KID), Aside(b"a", "malformed"), arrival("r6", 6))
    honest: Callable[..., bool] = inbox._keep

    def crashing(connection: Any, item: Any, now: float) -> bool:
        done = honest(connection, item, now)
        if item is batch[at]:
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(inbox, "_keep", crashing)
    with pytest.raises(KeyboardInterrupt):
        keep(inbox, *batch)
    monkeypatch.setattr(inbox, "_keep", honest)
    assert held(inbox) == before
    assert keep(inbox, *batch) == [True] * 4


def test_a_full_disk_leaves_what_was_set_aside_where_it_was(inbox: Inbox) -> None:
    keep(inbox, Aside(b"one", "unknown-monitor"))
    (aside,) = inbox.asides()
    assert isinstance(aside, Aside)
    large = arrival("r1", 1)
    large = Arrival(bytes(100_000), large.digest, large.header, large.contents, 1)
    room(inbox, 2)
    with pytest.raises(Damaged):
        inbox.settle(aside, large)
    assert (inbox.asides(), inbox.count(), inbox.authors()) == ([aside], 0, [])


def test_two_processes_keep_a_report_once(tmp_path: Path, inbox: Inbox) -> None:
    other = Inbox(tmp_path / "inbox.db", ROWS)
    assert [keep(box, arrival("r1", 1)) for box in (inbox, other, inbox)] == [[True], [False], [False]]
    assert keep(other, arrival("r3", 3)) == [True]
    assert inbox.gaps(KID).missing == ((2, 2),)
    other.close()


def test_the_disk_tells_neither_what_nor_who_nor_where(tmp_path: Path, inbox: Inbox) -> None:
    keep(inbox, arrival("r1", 1, recalls=an_id("r0")), Marker(b"marker", OTHER), Aside(CANARY.encode(), "cannot-open"))
    data = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    inbox.close()
    data += b"".join(file.read_bytes() for file in tmp_path.iterdir())
    for word in (CANARY, KID, OTHER, "KG-O", "rumour", an_id("r1"), an_id("r0"), "cannot-open"):
        assert word.encode() not in data, word
    assert arrival("r1").digest not in data
    assert hashlib.sha256(CANARY.encode()).digest() not in data


def test_nothing_of_a_report_shows_when_printed(inbox: Inbox) -> None:
    keep(inbox, arrival("r1", 1), Aside(CANARY.encode(), "malformed"))
    shown = [repr(one) for one in (*inbox.items(), *inbox.asides(), inbox, arrival("r1"))]
    tamper(inbox, "UPDATE reports SET body = x'00'")
    shown += [repr(inbox.items())]
    assert CANARY not in " ".join(shown)
    assert KID not in " ".join(shown)
