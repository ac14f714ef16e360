"""The desk: what the feed delivers is stored once, then acknowledged, and nothing that anyone sends stops it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from kengele_node.bus import Delivery
from kengele_node.errors import NotAdmitted
from kengele_node.office import asides, markers
from kengele_node.office import desk as desk_module
from kengele_node.office.arrivals import MAX_COUNTER, Arrival, Aside, Gaps, Item, Lost, Marker, Notice
from kengele_node.office.desk import Desk, Received, receive
from kengele_node.office.inbox import Inbox
from kengele_node.rows import RowCipher
from kengele_schemas import orders, subjects
from kengele_schemas.compartments import ALL_BITS, names
from kengele_schemas.encoding import b64u
from kengele_schemas.envelope import TENSION_REPORT, Envelope, parse, strip
from kengele_schemas.errors import Damaged, KengeleError, Malformed, Unreachable, Untrusted
from kengele_schemas.keys import X25519, OpeningKey, monitor_id
from kengele_schemas.marker import sign_marker
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.orders import Order, mark_of, sign_notice
from kengele_schemas.report import parse_draft
from kengele_schemas.rotation import Epoch, Lineage
from kengele_schemas.sealing import Reader, reassemble, seal
from kengele_schemas.sharing import join, make_share, open_held, split
from kengele_schemas.trusted import Trusted
from kengele_testing.values import (
    CANARY,
    EVERYTHING,
    HUB,
    KEYS,
    KID,
    LOG,
    MONITOR,
    NOW,
    TODAY,
    canaried,
    grant,
    monitor,
    network,
    report,
    sealed,
)

NKEY = KeyPair.generate("user").public
NEWCOMER = SigningKey(b"n" * 32)
FORGER = SigningKey(b"f" * 32)
RULES = network(grant(grant=list(EVERYTHING)))
GROWN = network(grant(grant=list(EVERYTHING)), monitors=[monitor(), monitor(NEWCOMER)], version=2)


def sent(number: int | None = None, *, key: SigningKey = MONITOR, **changes: Any) -> bytes:
    """A report that UNRCCA may read all of."""
    return sealed(report(**changes), RULES, {"unrcca": number} if number else {}, key=key)


SENT = sent(1)


def crafted(
    contents: dict[str, Any], *, number: int | None = None, kid: str = KID, key: SigningKey = MONITOR, **claims: Any
) -> bytes:
    """What a program of the author's own could send."""
    header = parse(sent()).claims | {"kid": kid} | claims
    reader = Reader("unrcca", KEYS["unrcca"].public, ALL_BITS, number)
    return seal(TENSION_REPORT, header, contents, [reader], key)


def received(data: bytes, trusted: Trusted = RULES, **options: Any) -> Arrival | Marker | Notice:
    settled: dict[str, Any] = {"office": "unrcca", "keys": [KEYS["unrcca"]], "today": TODAY, **options}
    return receive(data, trusted, **settled)


class TestReceive:
    def test_opens_what_was_sealed_for_this_office(self) -> None:
        data = sealed(parse_draft(canaried()), RULES, {"unrcca": 7})
        found = received(data)
        assert isinstance(found, Arrival)
        assert (found.data, found.digest, found.counter) == (data, parse(data).digest, 7)
        assert (found.flags, found.withheld) == ((), ())
        assert found.header.claims() == parse(data).claims
        assert found.contents == {part: getattr(parse_draft(canaried()), part) for part in ("handling", *EVERYTHING)}

    def test_says_what_the_hub_held_back(self) -> None:
        found = received(strip(parse(sent()), "unrcca", ["summary"]))
        assert isinstance(found, Arrival)
        assert (list(found.contents), found.withheld) == (["summary"], ("account",))

    def test_opens_with_a_key_that_was_the_offices_before(self) -> None:
        keys = [OpeningKey.generate(), OpeningKey.generate(X25519), KEYS["unrcca"]]
        assert isinstance(received(sent(), keys=keys), Arrival)

    @pytest.mark.parametrize(
        ("entry", "flags"),
        [
            ({}, ()),
            ({"status": "suspended"}, ("monitor-suspended",)),
            ({"status": "revoked"}, ("monitor-revoked",)),
            ({"not_after": (TODAY - timedelta(days=1)).isoformat()}, ("key-expired",)),
            ({"not_before": (TODAY + timedelta(days=1)).isoformat()}, ("key-expired",)),
        ],
    )
    def test_keeps_what_a_monitor_sent_before_she_left_and_says_so(
        self, entry: dict[str, Any], flags: tuple[str, ...]
    ) -> None:
        found = received(sent(), network(grant(), monitors=[monitor(**entry)]))
        assert isinstance(found, Arrival)
        assert found.flags == flags

    def test_takes_the_hubs_word_that_it_withholds(self) -> None:
        data = sign_marker("unrcca", KID, policy=1, at=1, key=HUB)
        assert received(data) == Marker(data, KID, policy=1)

    @pytest.mark.parametrize(
        ("what", "data", "code"),
        [
            ("nothing", b"", "malformed"),
            ("garbage", b"\xff\x00", "malformed"),
            ("JSON of no kind", b"{}", "malformed"),
            ("an envelope cut short", sent()[:-1], "malformed"),
            ("an envelope with a blank", sent().replace(b'","header":', b'", "header":'), "malformed"),
            ("a type that is not known", sent().replace(parse(sent()).protected.encode(), b"e30"), "unknown-type"),
            ("a monitor who is not on the roster", sent(key=NEWCOMER), "unknown-monitor"),
            ("another's name", crafted(report().contents(), key=NEWCOMER), "bad-signature"),
            ("an area the monitor does not report from", crafted(report().contents(), area="SD-KH"), "out-of-scope"),
            ("an area that nobody knows", crafted(report().contents(), area="XX"), "out-of-scope"),
            ("a number that no author reaches", crafted(report().contents(), number=MAX_COUNTER + 1), "malformed"),
            ("a compartment not as its model", crafted({"summary": {"text": CANARY}}), "bad-field"),
            ("a compartment of another shape", crafted({"summary": [CANARY]}), "bad-field"),
            ("a text longer than may be", crafted({"summary": {"text": CANARY * 99, "lang": "en"}}), "bad-field"),
            ("a text that steers the terminal", crafted({"summary": {"text": "\x1b[2J", "lang": "en"}}), "bad-field"),
            ("a claim that is not known", crafted(report().contents(), note=CANARY), "bad-field"),
            ("a severity that is none", crafted(report().contents(), severity=9), "bad-field"),
            ("a marker of a forger", sign_marker("unrcca", KID, policy=1, at=1, key=FORGER), "bad-signature"),
            ("a marker for another office", sign_marker("cso", KID, policy=1, at=1, key=HUB), "not-for-us"),
            (
                "a marker in another spelling",
                sign_marker("unrcca", KID, policy=1, at=1, key=HUB).replace(b",", b", "),
                "malformed",
            ),
        ],
    )
    def test_refuses(self, what: str, data: bytes, code: str) -> None:
        with pytest.raises(KengeleError) as caught:
            received(data)
        assert caught.value.code == code
        assert CANARY not in repr(caught.value) + caught.value.diagnostics()

    def test_opens_nothing_with_anothers_key_or_for_another_office(self) -> None:
        wrong: list[dict[str, Any]] = [{"keys": [KEYS["cso"]]}, {"keys": []}, {"office": "cso", "keys": [KEYS["cso"]]}]
        for options in wrong:
            with pytest.raises(KengeleError) as caught:
                received(sent(), **options)
            assert caught.value.code == "cannot-open"

    @settings(max_examples=150, deadline=None)
    @given(st.binary(max_size=300), st.booleans())
    def test_raises_nothing_but_our_errors(self, data: bytes, begun: bool) -> None:
        with pytest.raises(KengeleError):
            received(b'{"protected":' + data if begun else data)

    @settings(max_examples=150, deadline=None)
    @given(st.integers(0, len(SENT) - 1), st.integers(1, 127))
    def test_takes_no_report_of_which_a_byte_was_changed(self, position: int, by: int) -> None:
        data = bytearray(SENT)
        data[position] ^= by
        try:
            found = received(bytes(data))
        except KengeleError:
            return
        # An ASCII letter of a ciphertext not granted is all that is neither signed nor looked at.
        assert isinstance(found, Arrival)
        whole = received(SENT)
        assert isinstance(whole, Arrival)
        assert (found.digest, found.contents, found.counter) == (whole.digest, whole.contents, whole.counter)


class Feed:
    """A session over a feed in memory: what it is not known to have heard of comes again with the next fetch."""

    def __init__(self, *messages: bytes, trusted: Sequence[Trusted | Exception] = (RULES,)) -> None:
        self.waiting = dict(enumerate(messages, 1))
        self.rules = list(trusted)
        self.refreshed = 0
        self.fetched = 0
        self.attempts: dict[int, int] = {}
        self.said: list[int] = []
        """Acknowledged, and the hub may not have heard it yet."""
        self.fetches: list[tuple[str, str, int, float]] = []
        self.failures: list[Exception] = []
        self.before_acknowledge: Callable[[Delivery], Awaitable[object]] | None = None

    @property
    def link(self) -> Feed:
        return self

    async def refresh(self) -> Trusted:
        self.refreshed += 1
        await asyncio.sleep(0)
        rules = self.rules.pop(0) if len(self.rules) > 1 else self.rules[0]
        if isinstance(rules, Exception):
            raise rules
        return rules

    async def request(self, subject: str, data: bytes, timeout: float = 10) -> bytes:
        raise AssertionError("a desk asks for nothing")

    async def fetch(self, stream: str, consumer: str, batch: int, timeout: float) -> list[Delivery]:
        self.fetches.append((stream, consumer, batch, timeout))
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        found = []
        for number, data in sorted(self.waiting.items())[:batch]:
            self.attempts[number] = self.attempts.get(number, 0) + 1
            found.append(Delivery(data, number, self.attempts[number], f"ack.{number}"))
        return found

    async def acknowledge(self, delivery: Delivery, *, confirm: bool = False) -> None:
        if self.before_acknowledge is not None:
            await self.before_acknowledge(delivery)
        await asyncio.sleep(0)
        self.said.append(delivery.sequence)
        if confirm:
            for sequence in self.said:
                self.waiting.pop(sequence, None)
            self.said.clear()

    def deliver(self, *messages: bytes) -> None:
        for data in messages:
            self.waiting[max(self.waiting, default=len(self.attempts)) + 1] = data


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    box = Inbox(tmp_path / "inbox.db", RowCipher(b"k" * 32, "inbox"))
    yield box
    box.close()


def desk(feed: Feed, inbox: Inbox, **options: Any) -> tuple[Desk, list[Received]]:
    """A desk, and what it tells of."""
    settled: dict[str, Any] = {"clock": NOW.timestamp, "jitter": lambda *_: 0.0, **options}
    made = Desk(feed, inbox, "unrcca", [KEYS["unrcca"]], NKEY, **settled)
    told: list[Received] = []
    made.told = told.append
    return made, told


def run(work: Awaitable[Any]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await work
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(bounded())


def follow(feed: Feed, inbox: Inbox, **options: Any) -> list[Received]:
    """What a desk tells of until its feed is empty."""
    made, told = desk(feed, inbox, **options)
    run(made.follow(until_empty=True))
    return told


def kept(inbox: Inbox) -> list[bytes]:
    return [item.arrival.data for item in reversed(inbox.items(1000)) if isinstance(item, Item)]


def codes(inbox: Inbox) -> list[str]:
    return [aside.code for aside in inbox.asides() if isinstance(aside, Aside)]


def test_all_that_the_feed_has_is_taken_told_and_acknowledged(inbox: Inbox) -> None:
    messages = [sent(number) for number in range(1, 8)]
    feed = Feed(*messages)
    told = follow(feed, inbox, batch=3)
    assert kept(inbox) == messages == [item.data for item in told]
    assert feed.waiting == {}
    names = (subjects.feed_stream(NKEY), subjects.feed_consumer(NKEY))
    assert feed.fetches == [(*names, 3, 0)] * 4
    assert inbox.gaps(KID).missing == ()


def test_nothing_is_acknowledged_before_it_is_stored(tmp_path: Path, inbox: Inbox) -> None:
    messages = [sent(), b"garbage", sign_marker("unrcca", KID, policy=1, at=1, key=HUB), sent()]
    feed = Feed(*messages)
    seen: list[tuple[int, int, int]] = []

    async def look(_: Delivery) -> None:
        # Another reader sees only what was committed.
        other = Inbox(tmp_path / "inbox.db", RowCipher(b"k" * 32, "inbox"))
        seen.append((other.count(), len(other.asides()), other.gaps(KID).withheld))
        other.close()

    feed.before_acknowledge = look
    follow(feed, inbox)
    assert seen == [(2, 1, 1)] * 4


def test_a_full_disk_acknowledges_nothing_and_loses_nothing(inbox: Inbox) -> None:
    feed = Feed(*(sent(number) for number in range(1, 30)))
    messages = list(feed.waiting.values())
    with inbox._store.reading() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 8}")
    made, told = desk(feed, inbox)
    with pytest.raises(Damaged) as caught:
        run(made.follow(until_empty=True))
    assert caught.value.code == "storage-full"
    assert (told, kept(inbox), list(feed.waiting.values())) == ([], [], messages)
    with inbox._store.reading() as connection:
        connection.execute("PRAGMA max_page_count = 100000")
    assert len(follow(feed, inbox)) == 29
    assert kept(inbox) == messages
    assert feed.waiting == {}


def test_what_comes_again_changes_nothing(inbox: Inbox) -> None:
    messages = [sent(1), b"garbage", sign_marker("unrcca", KID, policy=1, at=1, key=HUB), sent(2)]
    assert len(follow(Feed(*messages), inbox)) == 4
    before = (inbox.items(), inbox.asides(), inbox.gaps(KID))
    feed = Feed(*messages, *messages)
    assert follow(feed, inbox, clock=lambda: NOW.timestamp() + 60) == []
    assert (inbox.items(), inbox.asides(), inbox.gaps(KID)) == before
    assert feed.waiting == {}


def test_an_acknowledgement_that_was_lost_is_made_good_when_it_comes_again(inbox: Inbox) -> None:
    feed = Feed(sent(1), sent(2))
    lost = [True, True]

    async def breaks(delivery: Delivery) -> None:
        if delivery.sequence == 1 and lost:
            lost.pop()
            raise Unreachable("unreachable", "")

    feed.before_acknowledge = breaks
    made, told = desk(feed, inbox)
    for _ in range(2):
        with pytest.raises(Unreachable):
            run(made.follow(until_empty=True))
    run(made.follow(until_empty=True))
    assert (len(told), inbox.count(), feed.waiting, feed.attempts) == (2, 2, {}, {1: 3, 2: 3})


def test_a_desk_that_ends_between_storing_and_acknowledging_stores_once(inbox: Inbox) -> None:
    feed = Feed(sent(1), sent(2))

    async def work() -> None:
        made, _ = desk(feed, inbox)
        running = asyncio.create_task(made.follow())

        async def ends(_: Delivery) -> None:
            running.cancel()

        feed.before_acknowledge = ends
        with pytest.raises(asyncio.CancelledError):
            await running

    run(work())
    assert (inbox.count(), len(feed.waiting)) == (2, 2)
    feed.before_acknowledge = None
    assert follow(feed, inbox) == []
    assert (inbox.count(), feed.waiting) == (2, {})


def test_what_does_not_hold_up_is_set_aside_and_stops_no_other(inbox: Inbox) -> None:
    bad = [
        b"",
        b"garbage",
        crafted({"summary": []}),
        crafted({}, key=FORGER),
        sign_marker("cso", KID, policy=1, at=1, key=HUB),
    ]
    good = [sent(number) for number in range(1, 4)]
    feed = Feed(*bad[:3], *good, *bad[3:])
    told = follow(feed, inbox, batch=2)
    assert kept(inbox) == good
    assert codes(inbox) == ["malformed", "malformed", "bad-field", "bad-signature", "not-for-us"]
    assert [aside.data for aside in inbox.asides() if isinstance(aside, Aside)] == bad
    assert len(told) == 8
    assert feed.waiting == {}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=200), st.integers(1, 9)), max_size=12))
def test_nothing_that_anyone_sends_stops_the_feed(
    tmp_path_factory: pytest.TempPathFactory, messages: list[bytes | int]
) -> None:
    box = Inbox(tmp_path_factory.mktemp("inbox") / "inbox.db", RowCipher(b"k" * 32, "inbox"))
    data = [sent(one) if isinstance(one, int) else one for one in messages]
    feed = Feed(*data)
    follow(feed, box, batch=4)
    assert feed.waiting == {}
    assert kept(box) == [one for one, what in zip(data, messages, strict=True) if isinstance(what, int)]
    assert len(box.asides()) == len({one for one in messages if isinstance(one, bytes)})
    box.close()


class TestNewerRules:
    def test_are_fetched_before_anything_is_taken(self, inbox: Inbox) -> None:
        feed = Feed(sent())
        follow(feed, inbox)
        assert feed.refreshed == 1

    def test_let_in_a_monitor_who_was_admitted_a_moment_ago(self, inbox: Inbox) -> None:
        data = sent(1, key=NEWCOMER)
        feed = Feed(sent(1), data, trusted=[RULES, GROWN])
        told = follow(feed, inbox)
        assert (kept(inbox)[1], codes(inbox), feed.refreshed) == (data, [], 2)
        assert [type(item) for item in told] == [Arrival, Arrival]

    def test_bring_back_what_was_set_aside(self, inbox: Inbox) -> None:
        data = sent(1, key=NEWCOMER)
        feed = Feed(data, b"garbage")
        follow(feed, inbox)
        assert codes(inbox) == ["unknown-monitor", "malformed"]
        assert feed.waiting == {}
        told = follow(Feed(trusted=[GROWN]), inbox, clock=lambda: NOW.timestamp() + 9)
        assert kept(inbox) == [data]
        assert codes(inbox) == ["malformed"]
        assert [item.data for item in told] == [data]
        (item,) = inbox.items()
        assert isinstance(item, Item)
        assert item.received == NOW.timestamp()
        assert follow(Feed(data, trusted=[GROWN]), inbox) == []

    def test_bring_back_what_another_key_opens(self, inbox: Inbox) -> None:
        lost = Desk(Feed(SENT), inbox, "unrcca", [KEYS["cso"]], NKEY, clock=NOW.timestamp)
        run(lost.follow(until_empty=True))
        assert codes(inbox) == ["cannot-open"]
        follow(Feed(), inbox)
        assert (kept(inbox), codes(inbox)) == ([SENT], [])

    def test_are_not_fetched_for_what_they_cannot_open(self, inbox: Inbox) -> None:
        """Else whoever seals for a key that is nobody's makes the desk judge all that was set aside, each time."""
        feed = Feed(sent(1), sent(2), sent(3))
        desk = Desk(feed, inbox, "unrcca", [KEYS["cso"]], NKEY, clock=NOW.timestamp, batch=1)
        run(desk.follow(until_empty=True))
        assert (codes(inbox), feed.refreshed) == (["cannot-open"] * 3, 1)

    def test_bring_back_what_stands_behind_a_thousand_that_never_hold_up(self, inbox: Inbox) -> None:
        inbox.keep([Aside(b"%d" % number, "cannot-open") for number in range(1005)], now=0)
        inbox.keep([Aside(SENT, "unknown-monitor")], now=0)
        assert [item.data for item in follow(Feed(), inbox)] == [SENT]

    def test_are_looked_for_again_after_a_while(self, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
        feed = Feed(sent(), sent(), sent())
        follow(feed, inbox, batch=1)
        assert feed.refreshed == 1
        monkeypatch.setattr(desk_module, "_RULES_AGE", 0.0)
        feed.deliver(sent(), sent())
        follow(feed, inbox, batch=1)
        assert feed.refreshed == 4

    def test_that_cannot_be_verified_take_nothing(self, inbox: Inbox) -> None:
        feed = Feed(sent(), trusted=[Untrusted("frozen", "")])
        made, told = desk(feed, inbox)
        with pytest.raises(Untrusted):
            run(made.follow())
        assert (told, inbox.count(), feed.fetches) == ([], 0, [])

    @pytest.mark.parametrize("error", [Untrusted("rolled-back", ""), Malformed("bad-rule", "")])
    def test_that_cannot_be_verified_when_they_are_needed_leave_the_feed_as_it_is(
        self, inbox: Inbox, error: Exception
    ) -> None:
        feed = Feed(sent(1), sent(1, key=NEWCOMER), trusted=[RULES, error])
        made, told = desk(feed, inbox)
        with pytest.raises(type(error)):
            run(made.follow())
        assert (told, inbox.count(), inbox.asides(), len(feed.waiting)) == ([], 0, [], 2)

    def test_that_cannot_be_fetched_when_they_are_needed_leave_the_feed_as_it_is(self, inbox: Inbox) -> None:
        feed = Feed(sent(1, key=NEWCOMER), trusted=[RULES, Unreachable("unreachable", ""), GROWN])
        made, told = desk(feed, inbox)
        with pytest.raises(Unreachable):
            run(made.follow(until_empty=True))
        assert (told, inbox.asides(), len(feed.waiting)) == ([], [], 1)
        run(made.follow(until_empty=True))
        assert (inbox.count(), inbox.asides(), feed.waiting) == (1, [], {})

    def test_are_fetched_for_a_newcomers_report_which_waits_for_nothing_else(self, inbox: Inbox) -> None:
        feed = Feed(sent(1, key=NEWCOMER), trusted=[RULES, GROWN])
        made, told = desk(feed, inbox)
        watched: list[int] = []

        async def watch(known: Trusted) -> None:
            watched.append(known.version)
            assert len(watched) == 1 or told

        made.watch = watch
        run(made.follow(until_empty=True))
        assert (len(told), feed.refreshed, watched) == (1, 2, [RULES.version])

    def test_that_the_hub_tells_of_again_and_again_do_not_keep_a_desk_from_watching(self, inbox: Inbox) -> None:
        made, _ = desk(Feed(), inbox)
        watched: list[Trusted] = []

        async def watch(known: Trusted) -> None:
            watched.append(known)

        async def work() -> None:
            made.watch = watch
            made.take_over(RULES)
            await made.follow(until_empty=True)

        run(work())
        assert watched == [RULES]


@pytest.mark.parametrize("error", [Unreachable("unreachable", ""), NotAdmitted()])
def test_a_line_that_is_away_is_waited_for(inbox: Inbox, error: Exception) -> None:
    feed = Feed(sent(1))
    feed.failures = [error] * 8
    bounds: list[tuple[float, float]] = []

    def jitter(low: float, high: float) -> float:
        bounds.append((low, high))
        return 0.0

    async def work() -> None:
        made, _ = desk(feed, inbox, jitter=jitter)
        running = asyncio.create_task(made.follow())
        while feed.waiting:
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(work())
    assert bounds == [(0, high) for high in (1, 2, 4, 8, 16, 32, 60, 60)]
    assert inbox.count() == 1
    assert {timeout for *_, timeout in feed.fetches} == {desk_module._PATIENCE}


@pytest.mark.parametrize("error", [Unreachable("unreachable", ""), NotAdmitted()])
def test_who_takes_what_there_is_and_ends_is_told_that_the_line_is_away(inbox: Inbox, error: Exception) -> None:
    feed = Feed(sent(1))
    feed.failures = [error]
    made, _ = desk(feed, inbox)
    with pytest.raises(type(error)):
        run(made.follow(until_empty=True))
    assert len(feed.waiting) == 1


def test_a_report_dropped_on_the_way_shows_as_a_gap_and_a_marker_explains_it(inbox: Inbox) -> None:
    follow(Feed(sent(1), sent(4)), inbox)
    assert inbox.gaps(KID).unexplained == 2
    follow(Feed(sign_marker("unrcca", KID, policy=1, at=1, key=HUB)), inbox)
    assert inbox.gaps(KID).unexplained == 1
    follow(Feed(sign_marker("unrcca", monitor_id(b"x"), policy=1, at=1, key=HUB), sent(3)), inbox)
    gaps = inbox.gaps(KID)
    assert (gaps.missing, gaps.unexplained) == (((2, 2),), 0)


def test_a_hub_cannot_fill_a_desk_with_markers(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markers, "MAX_MARKERS", 4)
    signed = [sign_marker("unrcca", KID, policy=1, at=number, key=HUB) for number in range(1, 12)]
    assert len(follow(Feed(sent(1), *signed), inbox)) == 12
    with inbox._store.reading() as connection:
        assert connection.execute("SELECT count(*) FROM markers").fetchone() == (4,)
    # What is delivered again is among the latest, and explains no second number.
    follow(Feed(sent(30)), inbox)
    assert inbox.gaps(KID).unexplained == 28 - 11
    assert follow(Feed(*signed[-4:]), inbox) == []
    assert inbox.gaps(KID).unexplained == 28 - 11


def test_a_marker_about_an_author_who_is_known_later_explains_her_number_then(inbox: Inbox) -> None:
    author = monitor_id(bytes(NEWCOMER.verify_key))
    follow(
        Feed(sent(1, key=NEWCOMER), sign_marker("unrcca", author, policy=1, at=1, key=HUB), sent(3, key=NEWCOMER)),
        inbox,
    )
    assert codes(inbox) == ["unknown-monitor"] * 3
    follow(Feed(trusted=[GROWN]), inbox, clock=lambda: NOW.timestamp() + 9)
    assert codes(inbox) == []
    assert inbox.gaps(author) == Gaps(((2, 2),), 1)


def test_nothing_of_a_report_shows_when_what_is_told_is_printed(inbox: Inbox) -> None:
    data = sealed(parse_draft(canaried()), RULES)
    torn = crafted({**parse_draft(canaried()).contents(), "people": {"actors": [{"name": CANARY}]}})
    told = follow(Feed(data, torn), inbox)
    shown = " ".join(repr(one) for one in (*told, *inbox.items(), *inbox.asides()))
    assert [type(one) for one in told] == [Arrival, Aside]
    assert CANARY not in shown
    assert hashlib.sha256(data).hexdigest() not in shown


class TestWhatIsTold:
    """Of a report that somebody takes back while it is taken in."""

    def recall(self, data: bytes, **claims: Any) -> bytes:
        recalls = parse(data).claims["id"]
        return crafted({"handling": {}}, number=2, id=an_id(), kind="recall", recalls=recalls, **claims)

    def test_is_nothing_where_its_recall_comes_with_it(self, inbox: Inbox) -> None:
        told = follow(Feed(SENT, self.recall(SENT)), inbox)
        assert [one.header.kind for one in told if isinstance(one, Arrival)] == ["recall"]

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    def test_is_only_what_the_recall_leaves(self, inbox: Inbox, order: tuple[int, int]) -> None:
        both = (SENT, self.recall(SENT, keep=["summary"]))
        told = [one for one in follow(Feed(*(both[one] for one in order)), inbox) if isinstance(one, Arrival)]
        assert [set(one.contents) for one in told if one.header.kind == "report"] == [{"summary"}]

    def test_is_not_told_again_where_nothing_of_it_may_stay(self, inbox: Inbox) -> None:
        part = strip(parse(SENT), "unrcca", ["handling", "account"])
        follow(Feed(part, self.recall(SENT, keep=["summary"])), inbox)
        assert follow(Feed(part), inbox) == []
        assert inbox.gaps(KID) == Gaps((), 0)


class TestShares:
    """What is shared later: a report of which this office was given nothing, or a part."""

    RULES = network(grant(grant=list(EVERYTHING)), custodian="council")

    def written(
        self, for_office: str = "unrcca", bits: int = ALL_BITS, number: int = 1
    ) -> tuple[Envelope, dict[str, bytes]]:
        """A report sealed for an office, and the keys to it."""
        header = parse(sent()).claims | {"id": an_id()}
        spare: dict[str, bytes] = {}
        readers = [Reader(for_office, KEYS[for_office].public, bits, number)]
        return parse(seal(TENSION_REPORT, header, report().contents(), readers, MONITOR, spare=spare)), spare

    def share(self, envelope: Envelope, keys: dict[str, bytes], bits: int = ALL_BITS, **changes: Any) -> bytes:
        """The feed's item by which the author shares with UNRCCA the compartments in ``bits``."""
        said = {"report": envelope.claims["id"], "core": envelope.core, "by": KID, "network": LOG, "day": TODAY}
        made = {"reader": Reader("unrcca", KEYS["unrcca"].public, bits), "key": MONITOR, **said, **changes}
        return join([make_share(keys=keys, **made)], strip(envelope, "", names(bits)))

    def recall(self, envelope: Envelope, *to: str, number: int | None = None, **claims: Any) -> bytes:
        """A recall by its author, as the hub passes it on to UNRCCA: with a wrap only if it is wrapped for it."""
        said = {**envelope.claims, "id": an_id(), "kind": "recall", "recalls": envelope.claims["id"], **claims}
        readers = [Reader(one, KEYS[one].public, 1, number) for one in to]
        made = parse(seal(TENSION_REPORT, said, {"handling": {}}, readers, MONITOR))
        return strip(made, "unrcca", ["handling"] if "unrcca" in to else [])

    def taken(self, inbox: Inbox, *data: bytes) -> list[bool]:
        made, _ = desk(Feed(), inbox)
        return inbox.keep([made._judge(one, self.RULES) for one in data], now=1.0)

    @pytest.mark.parametrize(("by", "key"), [(KID, MONITOR), ("council", HUB)])
    def test_are_read_and_say_who_shared(self, inbox: Inbox, by: str, key: SigningKey) -> None:
        envelope, keys = self.written("cso")
        data = self.share(envelope, keys, by=by, key=key)
        found = received(data, self.RULES)
        assert isinstance(found, Arrival)
        assert found.flags == (f"shared-later-by-{'author' if by == KID else 'custodian'}",)
        assert (found.digest, found.counter, found.withheld) == (envelope.digest, None, ())
        assert set(found.contents) == {"summary", "account"}
        assert self.taken(inbox, data, data) == [True, False]
        assert inbox.gaps(KID) == Gaps((), 0)

    def test_keep_the_flags_of_an_author_who_left(self) -> None:
        envelope, keys = self.written("cso")
        rules = network(grant(), monitors=[monitor(status="suspended")])
        found = received(self.share(envelope, keys), rules)
        assert isinstance(found, Arrival)
        assert found.flags == ("shared-later-by-author", "monitor-suspended")

    def test_of_others_are_set_aside(self) -> None:
        envelope, keys = self.written("cso")
        other, _ = self.written("cso")
        good = self.share(envelope, keys)
        for data, code in (
            (self.share(envelope, keys, by="cso", key=HUB), "not-the-sharer"),
            (self.share(envelope, keys, by="council", key=FORGER), "bad-signature"),
            (self.share(envelope, keys, key=FORGER), "bad-signature"),
            (self.share(envelope, keys, reader=Reader("cso", KEYS["unrcca"].public, ALL_BITS)), "not-for-us"),
            (self.share(envelope, keys, network="kengele/other"), "not-as-shared"),
            (join(split(good)[0], strip(other, "", names(ALL_BITS))), "not-as-shared"),
            (split(good)[1], "cannot-open"),
            (join(split(good)[0], self.recall(envelope, "unrcca")), "malformed"),
            (good + b"\n", "malformed"),
            (good[:-1], "malformed"),
        ):
            with pytest.raises(KengeleError) as caught:
                received(data, self.RULES)
            assert caught.value.code == code

    @pytest.mark.parametrize(("by", "key"), [(KID, MONITOR), ("council", HUB)])
    def test_of_what_is_no_report_are_set_aside(self, inbox: Inbox, by: str, key: SigningKey) -> None:
        """A recall's reason, which its author told another office, comes down the feed behind a share of it."""
        report, _ = self.written("cso")
        said = {**report.claims, "id": an_id(), "kind": "recall", "recalls": report.claims["id"]}
        reason = {"handling": {"wishes": {"text": "The neighbour is in danger.", "lang": "en"}}}
        keys: dict[str, bytes] = {}
        readers = [Reader("cso", KEYS["cso"].public, 1, 1)]
        recall = parse(seal(TENSION_REPORT, said, reason, readers, MONITOR, spare=keys))
        follow(Feed(self.share(recall, keys, by=by, key=key), trusted=(self.RULES,)), inbox)
        assert codes(inbox) == ["malformed"]
        assert not inbox.items()
        assert not inbox.unconfirmed()

    def test_are_put_to_the_part_that_is_here_and_the_whole_can_still_be_passed_on(self, inbox: Inbox) -> None:
        envelope, keys = self.written(bits=3)
        part = strip(envelope, "unrcca", ["handling", "summary"])
        for order in ((part, self.share(envelope, keys, 5)), (self.share(envelope, keys, 5), part)):
            assert self.taken(inbox, *order) == [True, True]
            (item,) = [one for one in inbox.find(envelope.claims["id"]) if isinstance(one, Item)]
            assert list(item.arrival.contents) == ["summary", "account"]
            assert item.flags == ("shared-later-by-author",)
            assert (item.arrival.counter, inbox.gaps(KID)) == (1, Gaps((), 0))
            # For the day when its own opening keys are gone, a custodian has those of what it may share.
            assert item.arrival.keys == {part: b64u(key) for part, key in keys.items()}
            assert self.taken(inbox, *order) == [False, False]
            author = bytes(MONITOR.verify_key)
            whole, opened = open_held(item.arrival.data, "unrcca", [KEYS["unrcca"]], author)
            assert set(opened.contents) == {"summary", "account"}
            assert reassemble(whole, opened).count("~") == 3
            inbox._store._connection.execute("DELETE FROM reports")
            inbox._store._connection.execute("DELETE FROM authors")

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    @pytest.mark.parametrize("to", [("unrcca",), ("cso",)])
    def test_are_gone_once_their_author_recalls_whether_she_knew_of_them_or_not(
        self, inbox: Inbox, to: tuple[str, ...], order: tuple[int, int]
    ) -> None:
        envelope, keys = self.written("cso")
        both = (self.share(envelope, keys), self.recall(envelope, *to))
        self.taken(inbox, *(both[one] for one in order))
        assert not any(isinstance(one, Item) for one in inbox.items())
        assert len(inbox.unconfirmed()) == 1
        assert inbox.gaps(KID) == Gaps((), 0)
        # What is shared of it after that is not kept.
        assert self.taken(inbox, self.share(envelope, keys)) == [False]

    def test_keep_what_a_recall_leaves(self, inbox: Inbox) -> None:
        envelope, keys = self.written("cso")
        self.taken(inbox, self.share(envelope, keys), self.recall(envelope, "cso", keep=["summary"]))
        self.taken(inbox, self.share(envelope, keys))
        (item,) = [one for one in inbox.items() if isinstance(one, Item)]
        assert set(item.arrival.contents) == set(item.arrival.keys) == {"summary"}
        assert set(parse(split(item.arrival.data)[1]).ciphertexts) - {"handling"} == {"summary"}

    def test_a_recall_for_others_takes_nothing_that_comes_later_by_the_authors_own_wrap(self, inbox: Inbox) -> None:
        envelope, keys = self.written(bits=3)
        part = strip(envelope, "unrcca", ["handling", "summary"])
        self.taken(inbox, self.share(envelope, keys, 5), self.recall(envelope, "cso"))
        assert not any(isinstance(one, Item) for one in inbox.items())
        assert self.taken(inbox, part, self.share(envelope, keys, 5)) == [True, True]
        (item,) = [one for one in inbox.items() if isinstance(one, Item)]
        assert "summary" in item.arrival.contents
        assert inbox.gaps(KID) == Gaps((), 0)
        # What is recalled from this office itself does not come back by being sent in another order.
        self.taken(inbox, self.recall(envelope, "unrcca", number=2), part)
        assert not any(isinstance(one, Item) for one in inbox.items())

    @pytest.mark.parametrize("first", ["recall", "order"])
    def test_what_was_recalled_when_only_a_share_was_here_leaves_no_number_missing_once_it_comes(
        self, inbox: Inbox, first: str
    ) -> None:
        envelope, keys = self.written(bits=3)
        self.taken(inbox, self.share(envelope, keys, 5))
        if first == "order":
            inbox.order([Order(mark=mark_of(envelope.claims["id"]))], now=1.0)
        else:
            self.taken(inbox, self.recall(envelope, "unrcca", number=2))
        assert self.taken(inbox, strip(envelope, "unrcca", ["handling", "summary"])) == [False]
        assert inbox.gaps(KID).missing == ()
        assert inbox.gaps(KID).withheld == 0

    def test_a_recall_for_others_takes_nothing_that_came_by_the_authors_own_wrap(self, inbox: Inbox) -> None:
        envelope, _ = self.written()
        whole, recall = strip(envelope, "unrcca", names(ALL_BITS)), self.recall(envelope, "cso")
        self.taken(inbox, whole, recall)
        assert [one.code for one in inbox.asides() if isinstance(one, Aside)] == ["cannot-open"]
        late, _ = self.written()
        self.taken(inbox, self.recall(late, "cso"), strip(late, "unrcca", names(ALL_BITS)))
        assert len([one for one in inbox.items() if isinstance(one, Item)]) == 2
        # And it explains no number that is missing.
        gone, _ = self.written()
        self.taken(inbox, self.recall(gone, "cso"), strip(self.written(number=3)[0], "unrcca", names(ALL_BITS)))
        assert inbox.gaps(KID).unexplained == 1

    def test_a_bare_recall_is_its_authors_word_or_nothing(self) -> None:
        envelope, _ = self.written("cso")
        claims = {**envelope.claims, "id": an_id(), "kind": "recall", "recalls": envelope.claims["id"]}
        forged = parse(seal(TENSION_REPORT, claims, {}, [], FORGER))
        with pytest.raises(Untrusted) as caught:
            received(strip(forged, "", []), self.RULES)
        assert caught.value.code == "bad-signature"


def an_id() -> str:
    return b64u(os.urandom(16))


ID = str(parse(SENT).claims["id"])
RECALLED = replace(RULES, orders={mark_of(ID): Order(mark=mark_of(ID))})
PROOF = orders.proof_of(parse(SENT))


def notice(key: SigningKey = HUB, **changes: Any) -> bytes:
    said = {"report": ID, "kid": KID, "proof": PROOF, **changes}
    return sign_notice(orders.Notice(id=b64u(b"n" * 16), **said), key)


NOTICE = notice()


def test_a_hub_cannot_fill_a_desk_with_authors_that_are_none(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asides, "MAX_EACH", 5)
    names = [monitor_id(b"%d" % number) for number in range(12)]
    made_up = [notice(kid=kid, numbered=False, proof=None) for kid in names]
    follow(
        Feed(
            SENT, *(sign_marker("unrcca", kid, policy=1, at=1, key=HUB) for kid in names), *made_up, trusted=[RECALLED]
        ),
        inbox,
    )
    assert codes(inbox) == ["unknown-monitor"] * 5
    assert inbox.authors() == [KID]
    with inbox._store.reading() as connection:
        assert connection.execute("SELECT count(*) FROM recalls").fetchone() == (1,)


def test_rules_with_a_recall_are_obeyed_at_once_and_told(inbox: Inbox) -> None:
    made, told = desk(Feed(SENT), inbox)
    run(made.follow(until_empty=True))

    async def take_over() -> None:
        made.take_over(RECALLED)
        made.take_over(RECALLED)

    run(take_over())
    assert told[1:] == [Notice(b"", ID, KID)]
    assert kept(inbox) == []


def test_a_notice_that_came_before_the_rules_has_them_fetched(inbox: Inbox) -> None:
    feed = Feed(NOTICE, trusted=(RULES, RECALLED))
    assert follow(feed, inbox) == [Notice(NOTICE, ID, KID)]
    assert feed.refreshed == 2
    assert [one.report for one in inbox.unconfirmed()] == [ID]
    assert follow(Feed(NOTICE, SENT, trusted=(RECALLED,)), inbox) == []
    assert (kept(inbox), feed.waiting) == ([], {})


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (NOTICE, "not-recalled"),
        (notice(FORGER), "bad-signature"),
        (NOTICE[:-1], "malformed"),
    ],
)
def test_a_notice_of_what_nobody_recalled_is_set_aside_and_takes_nothing(inbox: Inbox, data: bytes, code: str) -> None:
    follow(Feed(SENT, data), inbox)
    assert kept(inbox) == [SENT]
    assert codes(inbox) == [code]


def forged_proofs() -> dict[str, bytes]:
    """Notices of a report that coordinators did recall, as a hub can sign them, each to explain a number of KID's."""
    other = parse(sealed(report(), GROWN, key=NEWCOMER, report_id=ID))
    again = parse(sent())
    payload, _, signature = PROOF.partition(".")
    return {
        "no word of the author's": notice(proof=None),
        "the word of another author, who has an id of this mark": notice(proof=orders.proof_of(other)),
        "another report of the author's": notice(proof=orders.proof_of(again)),
        "a payload that she did not sign": notice(proof=f"{again.payload}.{signature}"),
        "no signature": notice(proof=payload),
        "no base64url": notice(proof=f"{payload}.ä"),
    }


@pytest.mark.parametrize("sentence", forged_proofs())
def test_a_hub_cannot_explain_a_missing_number_of_an_author_it_names(inbox: Inbox, sentence: str) -> None:
    recalled = replace(GROWN, orders=RECALLED.orders)
    follow(Feed(sent(5), sent(7), forged_proofs()[sentence], trusted=(recalled,)), inbox)
    assert inbox.gaps(KID).unexplained == 5
    assert codes(inbox) in (["bad-signature"], ["malformed"])


def test_a_notice_of_what_was_recalled_in_another_network_explains_nothing() -> None:
    with pytest.raises(Untrusted) as caught:
        received(NOTICE, replace(RECALLED, identity="B" * 42 + "A"))
    assert caught.value.code == "bad-signature"


def test_a_notice_explains_the_number_of_the_report_that_its_author_signed(inbox: Inbox) -> None:
    follow(Feed(sent(2), NOTICE, trusted=(RECALLED,)), inbox)
    assert inbox.gaps(KID).unexplained == 0
    assert codes(inbox) == []


class TestNames:
    """A monitor's keys follow each other."""

    ROOT = "A" * 43
    OTHER = monitor_id(bytes(NEWCOMER.verify_key))

    def known(self, **changes: Any) -> Trusted:
        said = Epoch.of(MONITOR, NEWCOMER, self.ROOT)
        following = {"after": KID, "handover": said.signature, "not_before": TODAY.isoformat(), **changes}
        old = {"status": "active" if following["handover"] else "revoked"}
        rows = [monitor(**old), monitor(NEWCOMER, **{name: value for name, value in following.items() if value})]
        return network(grant(grant=list(EVERYTHING)), monitors=rows)

    def arrival(self, known: Trusted, root: str = ROOT, number: int = 1) -> Arrival:
        found = received(sent(number, key=NEWCOMER), known, lineage=Lineage(known.monitors, root))
        assert isinstance(found, Arrival)
        return found

    def test_a_key_that_the_old_one_vouches_for_raises_no_alarm(self) -> None:
        found = self.arrival(self.known())
        assert (found.flags, found.first) == ((), KID)
        marker = received(
            sign_marker("unrcca", self.OTHER, policy=1, at=1, key=HUB),
            self.known(),
            lineage=Lineage(self.known().monitors, self.ROOT),
        )
        assert isinstance(marker, Marker)
        assert (marker.kid, marker.first) == (self.OTHER, KID)

    def test_one_that_coordinators_alone_vouch_for_is_told_with_each_report(self) -> None:
        found = self.arrival(self.known(handover=None))
        assert (found.flags, found.first) == (("new-key",), "")
        assert self.arrival(self.known(handover=None, not_before="2026-01-01")).flags == ()

    @pytest.mark.parametrize("root", ["", "B" * 42 + "A"])
    def test_a_word_in_another_network_counts_for_nothing(self, root: str) -> None:
        assert self.arrival(self.known(), root).flags == ("new-key",)

    def test_coordinators_cannot_pass_off_a_replaced_key_as_a_rotated_one(self) -> None:
        forged = Epoch.of(FORGER, NEWCOMER, self.ROOT).signature
        assert self.arrival(self.known(handover=forged)).flags == ("new-key",)

    def test_numbers_go_on_from_one_name_to_the_next_and_a_last_one_that_was_dropped_shows(self, inbox: Inbox) -> None:
        first = received(sent(1), self.known())
        assert isinstance(first, Arrival)
        inbox.keep([first, self.arrival(self.known(), number=3)], now=1)
        assert inbox.authors() == [KID]
        assert inbox.gaps(KID).missing == ((2, 2),)
        inbox.keep([received(sent(2), self.known())], now=2)  # it waited under the old name
        assert inbox.gaps(KID).missing == ()
        marker = Marker(b"m", self.OTHER, KID)
        inbox.keep([self.arrival(self.known(), number=5), marker], now=3)
        assert inbox.gaps(KID).unexplained == 0

    def test_a_desk_that_was_not_told_its_network_is_loud(self) -> None:
        found = received(sent(1, key=NEWCOMER), self.known())
        assert isinstance(found, Arrival)
        assert found.flags == ("new-key",)


class TestWhatNeverOpens:
    def test_is_not_tried_again_before_there_is_another_key(
        self, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inbox.keep([Aside(b"%d" % number, "cannot-open") for number in range(300)], now=0)
        made, _ = desk(Feed(), inbox)
        tried: list[bytes] = []
        monkeypatch.setattr(made, "_judge", lambda data, known: tried.append(data) or Aside(data, "cannot-open"))

        async def refreshes() -> None:
            await made.follow(until_empty=True)
            assert len(tried) == 300
            for number in range(20):
                made.take_over(replace(RULES, version=RULES.version + number))
                await made.follow(until_empty=True)

            assert len(tried) == 300
            made.keys = [*made.keys, KEYS["cso"]]
            made.take_over(RULES)
            # Few at a time: others have their turn in between.
            assert 300 < len(tried) < 350
            await made.follow(until_empty=True)

        run(refreshes())
        assert len(tried) == 600

    def test_is_not_unsealed_all_at_once_when_the_rules_change(
        self, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inbox.keep([Aside(b"%d" % number, "cannot-open") for number in range(300)], now=0)
        made, _ = desk(Feed(), inbox)
        pages = inbox.asides
        unsealed: list[int] = []

        def counted(limit: int, *, after: int = 0) -> list[Aside | Lost]:
            found = pages(limit, after=after)
            unsealed.append(len(found))
            return found

        monkeypatch.setattr(inbox, "asides", counted)
        monkeypatch.setattr(made, "_judge", lambda data, known: Aside(data, "cannot-open"))

        async def refreshes() -> None:
            await made.follow(until_empty=True)
            unsealed.clear()
            made.take_over(replace(RULES, version=RULES.version + 1))
            assert sum(unsealed) < 100
            # What waits behind them has its turn all the same.
            await made.follow(until_empty=True)
            assert sum(unsealed) == 300

        run(refreshes())

    def test_is_kept_to_a_bound_for_each_author_and_takes_nobody_elses_place(
        self, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(asides, "MAX_EACH", 20)
        monkeypatch.setattr(asides, "MAX_ALL", 50)
        inbox.keep([Aside(sent(1, key=NEWCOMER), "unknown-monitor")], now=0)
        assert not inbox.crowded()
        for _ in range(3):
            inbox.keep([Aside(sent(), "cannot-open") for _ in range(20)], now=0)
        assert codes(inbox) == ["unknown-monitor", *["cannot-open"] * 20]
        assert inbox.crowded()
        # Nor has a hub that invents authors: who has the most of them gives way.
        inbox.keep([Aside(sent(1, key=SigningKey.generate()), "unknown-monitor") for _ in range(60)], now=0)
        assert len(codes(inbox)) == 50
