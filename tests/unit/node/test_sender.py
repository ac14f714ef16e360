"""The sender: only a receipt that holds ends a report's waiting, whatever hub, line and clock do meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from kengele_node.errors import NotAdmitted
from kengele_node.monitor import sender as sender_module
from kengele_node.monitor.compose import seal_report
from kengele_node.monitor.consent import agreed_to
from kengele_node.monitor.outbox import Entry, Outbox
from kengele_node.monitor.recalling import Intent
from kengele_node.monitor.sender import LONGEST_ASKED, LONGEST_WAIT, Sender
from kengele_node.rows import RowCipher
from kengele_schemas import subjects
from kengele_schemas.areas import Areas
from kengele_schemas.checkpoint import sign_checkpoint, write_proof
from kengele_schemas.encoding import b64u, canonical, dumps, loads
from kengele_schemas.envelope import parse, verify
from kengele_schemas.errors import Damaged, Refused, Unreachable, Untrusted
from kengele_schemas.keys import X25519, OpeningKey, monitor_id
from kengele_schemas.merkle import leaf_hash
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.receipt import CODES, Leaf, accepted, refused
from kengele_schemas.report import parse_draft
from kengele_schemas.rotation import OfficeKeys, followed
from kengele_schemas.sealing import open_envelope
from kengele_schemas.trusted import Trusted
from kengele_testing.values import (
    CANARY,
    HUB,
    KEYS,
    KID,
    LOG,
    MONITOR,
    NOW,
    TODAY,
    canaried,
    draft,
    grant,
    monitor,
    network,
    office,
    planned,
    sealed,
)

NKEY = KeyPair.generate("user").public
ROWS = RowCipher(b"k" * 32, "outbox")
RULES = network(grant(to=["office:unrcca", "office:unoca"]))
NEWER = network(grant(to=["office:unrcca", "office:unoca", "office:cso"]), version=2)
FORGER = SigningKey(b"f" * 32)
START = NOW.timestamp()
FINAL = sorted(code for code, what in CODES.items() if not what.retryable and code != "accepted")
WAITING = sorted(code for code, what in CODES.items() if what.retryable)


def unreachable() -> Unreachable:
    return Unreachable("unreachable", "The hub does not answer.")


def receipt(data: bytes, *, key: SigningKey = HUB, log: str = LOG, repeat: bool = False) -> bytes:
    """A proof that ``data`` is the one entry of the log."""
    envelope = parse(data)
    digest = hashlib.sha256(data).digest()
    leaf = Leaf(
        salt=b64u(bytes(16)),
        digest=b64u(envelope.digest),
        bytes=b64u(digest),
        policy=envelope.claims["pol"],
        at="2026-11-24T12:00:00Z",
        decisions=(),
    ).canonical()
    proof = write_proof(0, [], sign_checkpoint(log, 1, leaf_hash(leaf), key))
    return accepted(envelope.claims["id"], envelope.digest, digest, leaf, proof, repeat=repeat)


def refusal(data: bytes, code: str, retry_after: int | None = None, *, key: SigningKey = HUB) -> bytes:
    envelope = parse(data)
    digest = hashlib.sha256(data).digest()
    return refused(code, envelope.claims["id"], envelope.digest, digest, retry_after=retry_after, key=key)


def unknown(data: bytes, code: str, retry_after: int | None = None) -> bytes:
    """A refusal with a code that only a newer hub knows."""
    body = loads(refusal(data, "malformed"), max_bytes=1 << 16) | {"code": code, "retry_after": retry_after}
    del body["signature"]
    signature = HUB.sign(b"kengele-refusal-v1\0" + canonical(body)).signature
    return dumps({**body, "signature": b64u(signature)})


Answer = bytes | Exception
Answering = Callable[[bytes], Answer]


class Hub:
    """A session over a line that is a function; ``sent`` is what went out, in order."""

    def __init__(self, answer: Answering = receipt, trusted: Trusted | Exception = RULES) -> None:
        self.answer = answer
        self.trusted = trusted
        self.sent: list[bytes] = []
        self.subjects: set[str] = set()
        self.refreshed = 0
        self.before_answer: Callable[[], Awaitable[object]] | None = None
        self.before_refresh: Callable[[], Awaitable[object]] | None = None

    @property
    def link(self) -> Hub:
        return self

    async def request(self, subject: str, data: bytes, timeout: float = 10) -> bytes:
        self.subjects.add(subject)
        self.sent.append(data)
        if self.before_answer is not None:
            await self.before_answer()
        await asyncio.sleep(0)
        answer = self.answer(data)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def refresh(self) -> Trusted:
        self.refreshed += 1
        if self.before_refresh is not None:
            await self.before_refresh()
        await asyncio.sleep(0)
        if isinstance(self.trusted, Exception):
            raise self.trusted
        return self.trusted


def in_turn(*answers: Answering | Exception, then: Answering = receipt) -> Answering:
    """One answer after the other, whatever is sent; after the last always ``then``."""
    left = list(answers)

    def answer(data: bytes) -> Answer:
        now = left.pop(0) if left else then
        return now if isinstance(now, Exception) else now(data)

    return answer


class Clock:
    """The time, and waits of no length whose bounds are noted."""

    def __init__(self) -> None:
        self.now = START
        self.bounds: list[tuple[float, float]] = []
        self.wait = 0.0

    def __call__(self) -> float:
        return self.now

    def jitter(self, low: float, high: float) -> float:
        self.bounds.append((low, high))
        return self.wait


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    box = Outbox(tmp_path / "outbox.db", ROWS, KID)
    yield box
    box.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def add(
    outbox: Outbox,
    value: Mapping[str, Any] | None = None,
    trusted: Trusted = RULES,
    spare: dict[str, Any] | None = None,
    *,
    kept: bool = True,
) -> Entry:
    written = parse_draft(dict(value or draft()))
    plan = planned(written, trusted)
    return outbox.add(
        plan.header.id,
        written.model_dump(mode="json", exclude_none=True),
        plan.offices,
        lambda counters: seal_report(plan, MONITOR, counters, spare),
        now=START,
        spare=spare,
        agreed=agreed_to(plan) if kept else None,
    )


def sender(hub: Hub, outbox: Outbox, clock: Clock, trusted: Trusted | None = RULES, **options: Any) -> Sender:
    return Sender(hub, outbox, MONITOR, NKEY, trusted=trusted, clock=clock, jitter=clock.jitter, **options)


def told_by(one: Sender) -> list[tuple[str, str]]:
    """State and code of each entry that ``one`` tells of, from now on."""
    told: list[tuple[str, str]] = []
    one.told = lambda entry: told.append((entry.state, entry.code))
    return told


def run(work: Awaitable[Any]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await work
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(bounded())


def now(outbox: Outbox, entry: Entry) -> Entry:
    found = outbox.get(entry.name)
    assert found is not None
    return found


def test_a_receipt_that_holds_ends_the_waiting(outbox: Outbox, clock: Clock) -> None:
    entry, hub = add(outbox), Hub()
    one = sender(hub, outbox, clock)
    told = told_by(one)
    run(one.send(entry))
    found = now(outbox, entry)
    assert (found.state, found.draft, found.envelope) == ("accepted", None, None)
    assert found.receipt == receipt(hub.sent[0])
    assert hub.sent == [entry.envelope]
    assert hub.subjects == {subjects.reports_submit(NKEY)}
    assert told == [("accepted", "accepted")]


def test_everything_goes_out_and_the_run_ends(outbox: Outbox, clock: Clock) -> None:
    entries, hub = [add(outbox) for _ in range(40)], Hub()
    run(sender(hub, outbox, clock).run(until_empty=True))
    assert sorted(hub.sent) == sorted(entry.envelope or b"" for entry in entries)
    assert outbox.counts() == {"accepted": 40}


def test_no_more_are_under_way_at_once_than_the_window_takes(outbox: Outbox, clock: Clock) -> None:
    for _ in range(20):
        add(outbox)
    hub = Hub()
    under_way, most = 0, 0

    async def busy() -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(5):
            await asyncio.sleep(0)
        under_way -= 1

    hub.before_answer = busy
    run(sender(hub, outbox, clock, window=3).run(until_empty=True))
    assert most == 3
    assert outbox.counts() == {"accepted": 20}


class TestALineThatIsAway:
    def test_is_tried_again_after_random_waits_that_double(self, outbox: Outbox, clock: Clock) -> None:
        entry = add(outbox)
        hub = Hub(in_turn(*[unreachable()] * 9))
        one = sender(hub, outbox, clock)
        told = told_by(one)
        run(one.run(until_empty=True))
        assert hub.sent == [entry.envelope] * 10
        assert {low for low, _ in clock.bounds} == {0}
        # Each failure makes the report wait, and the line.
        expected = [1, 2, 4, 8, 16, 32, LONGEST_WAIT, LONGEST_WAIT, LONGEST_WAIT]
        assert [high for _, high in clock.bounds] == [wait for wait in expected for _ in range(2)]
        assert told == [("accepted", "accepted")]

    def test_is_one_failure_however_many_were_under_way(self, outbox: Outbox, clock: Clock) -> None:
        for _ in range(8):
            add(outbox)
        run(woken(sender(Hub(in_turn(*[unreachable()] * 8)), outbox, clock), clock, 9))
        assert outbox.counts() == {"accepted": 8}
        assert [high for _, high in clock.bounds] == [1] * 9

    def test_begins_with_short_waits_again_once_it_answered(self, outbox: Outbox, clock: Clock) -> None:
        add(outbox)
        hub = Hub(in_turn(unreachable(), unreachable(), lambda data: refusal(data, "over-quota", 0), unreachable()))
        run(sender(hub, outbox, clock).run(until_empty=True))
        assert [high for _, high in clock.bounds] == [1, 1, 2, 2, 1, 1, 1]

    def test_does_not_wait_out_its_wait_when_it_is_back(self, outbox: Outbox, clock: Clock) -> None:
        entry, hub = add(outbox), Hub(in_turn(unreachable()))
        run(woken(sender(hub, outbox, clock), clock, 2))
        assert len(hub.sent) == 2
        assert now(outbox, entry).state == "accepted"

    def test_that_turns_the_key_away_says_so_once_a_wait_and_keeps_all(self, outbox: Outbox, clock: Clock) -> None:
        for _ in range(5):
            add(outbox)
        one = sender(Hub(in_turn(*[NotAdmitted()] * 5)), outbox, clock)
        told = told_by(one)
        run(woken(one, clock, 6))
        assert told == [("waiting", "not-admitted"), *[("accepted", "accepted")] * 5]


async def woken(one: Sender, clock: Clock, waits: int) -> None:
    """Runs ``one``, whose waits have no end, until it is empty; wakes it when it began so many of them."""
    clock.wait = 3600
    running = asyncio.create_task(one.run(until_empty=True))
    while len(clock.bounds) < waits:
        await asyncio.sleep(0)
    one.wake()
    await running


def swapped(made: bytes, **members: Any) -> bytes:
    return dumps(loads(made, max_bytes=1 << 16) | members)


OTHER = sealed(parse_draft(draft()), RULES)
FORGED: list[tuple[str, Answering]] = [
    ("nothing", lambda _: b""),
    ("no JSON", lambda _: b"\xff\xfe{"),
    ("JSON that is no receipt", lambda _: b"[]"),
    ("a bare word", lambda _: b'{"code":"accepted"}'),
    ("a receipt for another report", lambda _: receipt(OTHER)),
    ("a receipt by a forger", lambda data: receipt(data, key=FORGER)),
    ("a receipt from another log", lambda data: receipt(data, log="kengele/other")),
    ("a receipt without its proof", lambda data: swapped(receipt(data), proof="")),
    (
        "a receipt with another's leaf",
        lambda data: swapped(receipt(data), leaf=loads(receipt(OTHER), max_bytes=1 << 16)["leaf"]),
    ),
    ("a receipt cut short", lambda data: receipt(data)[:-10]),
    ("a receipt with a member twice", lambda data: receipt(data).replace(b'{"v":1', b'{"v":1,"v":1')),
    ("a refusal by a forger", lambda data: refusal(data, "malformed", key=FORGER)),
    ("a refusal of another report", lambda _: refusal(OTHER, "malformed")),
    ("a refusal turned into another", lambda data: swapped(refusal(data, "over-quota"), code="monitor-revoked")),
    ("a refusal turned into an acceptance", lambda data: swapped(refusal(data, "malformed"), code="accepted")),
    ("a refusal without a signature", lambda data: swapped(refusal(data, "malformed"), signature="")),
    ("more than a receipt can be", lambda data: receipt(data) + b" " * 70_000),
]


@pytest.mark.parametrize(("what", "answer"), FORGED, ids=[what for what, _ in FORGED])
def test_an_answer_that_does_not_hold_removes_nothing(
    outbox: Outbox, clock: Clock, what: str, answer: Answering
) -> None:
    entry = add(outbox)
    one = sender(Hub(answer), outbox, clock)
    with pytest.raises(Untrusted) as caught:
        run(one.send(entry))
    assert caught.value.code == "bad-receipt"
    assert now(outbox, entry) == entry
    honest = sender(Hub(in_turn(answer, answer)), outbox, clock)
    told = told_by(honest)
    run(honest.run(until_empty=True))
    assert told == [("waiting", "bad-receipt")] * 2 + [("accepted", "accepted")]
    assert [high for _, high in clock.bounds] == [1, 2]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2000), st.integers(1, 255), st.sampled_from(["malformed", "monitor-revoked", "over-quota"]))
def test_no_byte_of_a_refusal_can_be_changed_to_give_a_report_up(position: int, by: int, code: str) -> None:
    data = bytearray(refusal(OTHER, code))
    data[position % len(data)] ^= by
    with pytest.raises(Untrusted):
        sender_module._read_by(RULES, bytes(data), hashlib.sha256(OTHER).digest())


@pytest.mark.parametrize("code", FINAL)
def test_a_refused_report_stays_with_its_draft_and_gives_its_numbers_back(
    outbox: Outbox, clock: Clock, code: str
) -> None:
    entry, hub = add(outbox), Hub(lambda data: refusal(data, code))
    one = sender(hub, outbox, clock)
    told = told_by(one)
    run(one.run(until_empty=True))
    found = now(outbox, entry)
    assert (found.state, found.code, found.draft) == ("refused", code, entry.draft)
    assert found.receipt == refusal(hub.sent[0], code)
    assert len(hub.sent) == 1
    assert told == [("refused", code)]
    assert add(outbox).counters == entry.counters == {"unrcca": 1, "unoca": 1}


@pytest.mark.parametrize("code", WAITING)
def test_a_report_that_may_pass_later_waits_as_long_as_the_hub_asks(outbox: Outbox, clock: Clock, code: str) -> None:
    entry, hub = add(outbox), Hub(lambda data: refusal(data, code, 30))
    clock.wait = 0.5
    one = sender(hub, outbox, clock)
    told = told_by(one)
    run(one.send(entry))
    found = now(outbox, entry)
    assert (found.state, found.attempts, found.next_try) == ("waiting", 1, START + 30.5)
    assert found.envelope == entry.envelope
    assert told == [("waiting", code)]
    assert outbox.due(START + 30) == []
    assert [one.name for one in outbox.due(START + 31)] == [entry.name]
    clock.now += 31
    hub.answer = receipt
    run(one.run(until_empty=True))
    assert outbox.counts() == {"accepted": 1}


def test_a_report_that_waits_as_asked_holds_up_no_other(outbox: Outbox, clock: Clock) -> None:
    first = add(outbox)
    hub = Hub(lambda data: refusal(data, "list-expired", 3600) if data == first.envelope else receipt(data))
    rest = [add(outbox) for _ in range(5)]

    async def work() -> None:
        one = sender(hub, outbox, clock, window=2)
        done = asyncio.Event()
        one.told = lambda _: done.set() if outbox.counts().get("accepted") == len(rest) else None
        running = asyncio.create_task(one.run())
        await done.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(work())
    assert outbox.counts() == {"accepted": 5, "waiting": 1}
    assert hub.sent.count(first.envelope or b"") == 1


@pytest.mark.parametrize("code", ["over-quota", "storage-full", "hub-unavailable"])
def test_who_is_told_to_send_later_sends_nothing_before_and_then_everything(
    outbox: Outbox, clock: Clock, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setattr(sender_module, "_POLL", 0.001)
    entries = [add(outbox) for _ in range(50)]
    hub = Hub(lambda data: refusal(data, code, 3600))
    asked = 0

    async def work() -> None:
        nonlocal asked
        one = sender(hub, outbox, clock, window=4)
        running = asyncio.create_task(one.run())
        for _ in range(3):  # whoever writes one more meanwhile, or whose line is back, does not change it
            one.wake()
            entries.append(add(outbox))
            for _ in range(100):
                await asyncio.sleep(0)
        asked = len(hub.sent)
        hub.answer = receipt
        clock.now += 3600
        one.wake()
        async with asyncio.timeout(60):
            while outbox.counts() != {"accepted": len(entries)}:
                await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(work())
    assert asked == 4
    assert len(hub.sent) == 4 + len(entries)


def test_a_clock_that_is_set_back_does_not_make_the_wait_longer(outbox: Outbox, clock: Clock) -> None:
    first = add(outbox)
    hub = Hub(lambda data: refusal(data, "over-quota", 3600) if data == first.envelope else receipt(data))
    one = sender(hub, outbox, clock)
    run(one.send(first))
    clock.now -= 2 * LONGEST_ASKED
    hub.answer = receipt
    run(one.run(until_empty=True))
    assert outbox.counts() == {"accepted": 1}


def test_the_hub_cannot_ask_for_more_than_a_day(outbox: Outbox, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = add(outbox)
    monkeypatch.setattr(sender_module, "LONGEST_ASKED", 60.0)
    run(sender(Hub(lambda data: refusal(data, "storage-full", 86_400)), outbox, clock).send(entry))
    assert now(outbox, entry).next_try == START + 60


def test_a_clock_that_was_wrong_holds_nothing_up(outbox: Outbox, clock: Clock) -> None:
    entry = add(outbox)
    outbox.later(entry.name, START + 2 * LONGEST_ASKED)
    run(sender(Hub(), outbox, clock).run(until_empty=True))
    assert now(outbox, entry).state == "accepted"


class TestACodeOfANewerHub:
    @pytest.mark.parametrize("code", ["quarantined", "accepted-later", "\x1b[2J", ""])
    def test_is_no_reason_to_give_a_report_up(self, outbox: Outbox, clock: Clock, code: str) -> None:
        entry = add(outbox)
        one = sender(Hub(lambda data: unknown(data, code, 40)), outbox, clock)
        told = told_by(one)
        run(one.send(entry))
        assert now(outbox, entry).next_try == START + 40
        assert told == [("waiting", code)]
        assert now(outbox, entry).envelope == entry.envelope


class TestRulesThatHoldNoLonger:
    @pytest.mark.parametrize("code", ["stale-policy", "policy-unknown"])
    def test_seal_anew_under_the_same_id_and_numbers(self, outbox: Outbox, clock: Clock, code: str) -> None:
        entry = add(outbox)
        add(outbox)
        hub = Hub(in_turn(lambda data: refusal(data, code)), NEWER)
        run(sender(hub, outbox, clock).send(entry))
        first, second = (parse(data) for data in hub.sent)
        assert first.claims["id"] == second.claims["id"] == entry.report_id
        assert (first.claims["pol"], second.claims["pol"]) == (1, 2)
        # The CSO, which the newer rules name, is none of those whom its author was shown.
        assert [wrap.office for wrap in second.wraps] == ["unoca", "unrcca"]
        numbers = {
            id: open_envelope(second, id, [KEYS[id]], bytes(MONITOR.verify_key)).counter for id in ("unoca", "unrcca")
        }
        assert numbers == {"unrcca": 1, "unoca": 1}
        assert now(outbox, entry).state == "accepted"
        assert now(outbox, entry).sent_digest == hashlib.sha256(hub.sent[1]).digest()
        assert hub.refreshed == 1

    def test_give_a_report_other_keys_and_those_are_the_ones_kept(self, outbox: Outbox, clock: Clock) -> None:
        entry = add(outbox, spare={})
        hub = Hub(in_turn(lambda data: refusal(data, "stale-policy")), NEWER)
        run(sender(hub, outbox, clock).send(entry))
        before, after = entry.spare, now(outbox, entry).spare
        assert before is not None
        assert after is not None
        assert set(after["keys"]) == set(before["keys"])
        assert not set(after["keys"].values()) & set(before["keys"].values())
        sent = parse(hub.sent[1])
        assert after["core"] == b64u(sent.core)
        opened = open_envelope(sent, "unrcca", [KEYS["unrcca"]], bytes(MONITOR.verify_key))
        assert {name: b64u(key) for name, key in opened.keys.items()} == after["keys"]
        # Of the text nothing was to be kept.
        assert now(outbox, entry).draft is None

    def test_are_not_fetched_where_newer_ones_are_known(self, outbox: Outbox, clock: Clock) -> None:
        entry = add(outbox)
        hub = Hub(in_turn(lambda data: refusal(data, "stale-policy")))
        run(sender(hub, outbox, clock, NEWER).send(entry))
        assert hub.refreshed == 0
        assert now(outbox, entry).state == "accepted"

    def test_refuse_what_is_sent_again_if_its_text_is_gone(self, outbox: Outbox, clock: Clock) -> None:
        entry = add(outbox, kept=False)
        run(sender(Hub(), outbox, clock).send(entry))
        assert entry.envelope is not None
        assert outbox.again(entry.name, entry.envelope, now=START)
        hub = Hub(lambda data: refusal(data, "stale-policy"), NEWER)
        run(sender(hub, outbox, clock).send(now(outbox, entry)))
        found = now(outbox, entry)
        assert (found.state, found.code, len(hub.sent)) == ("refused", "text-dropped", 1)

    def test_that_the_hub_does_not_know_yet_make_wait_what_is_sent_again(self, outbox: Outbox, clock: Clock) -> None:
        entry = add(outbox, kept=False)
        run(sender(Hub(), outbox, clock).send(entry))
        assert entry.envelope is not None
        assert outbox.again(entry.name, entry.envelope, now=START)
        hub = Hub(lambda data: refusal(data, "policy-unknown", 5))
        run(sender(hub, outbox, clock).send(now(outbox, entry)))
        found = now(outbox, entry)
        assert (found.state, found.envelope, found.next_try) == ("waiting", entry.envelope, START + 5)

    def test_that_are_the_newest_here_make_the_report_wait(self, outbox: Outbox, clock: Clock) -> None:
        entry = add(outbox)
        hub = Hub(lambda data: refusal(data, "policy-unknown", 5))
        run(sender(hub, outbox, clock).send(entry))
        found = now(outbox, entry)
        assert (found.state, found.envelope, found.next_try) == ("waiting", entry.envelope, START + 5)
        assert hub.sent == [entry.envelope]

    def test_again_and_again_do_not_turn_in_a_circle(self, outbox: Outbox, clock: Clock) -> None:
        entry = add(outbox)
        hub = Hub(lambda data: refusal(data, "stale-policy", 7), NEWER)
        run(sender(hub, outbox, clock).send(entry))
        assert len(hub.sent) == 2
        assert now(outbox, entry).next_try == START + 7
        assert now(outbox, entry).envelope == hub.sent[1]

    def test_seal_many_anew_and_are_fetched_once(self, outbox: Outbox, clock: Clock) -> None:
        for _ in range(10):
            add(outbox)
        hub = Hub(
            lambda data: receipt(data) if parse(data).claims["pol"] == 2 else refusal(data, "stale-policy"), NEWER
        )
        run(sender(hub, outbox, clock).run(until_empty=True))
        assert outbox.counts() == {"accepted": 10}
        assert hub.refreshed == 1

    @pytest.mark.parametrize(
        ("what", "value", "newer", "code"),
        [
            ("its area is gone", draft(), None, "unknown-area"),
            (
                "its caveat names an office that is gone",
                draft(handling={"caveats": [{"not_to": ["office:cso"]}]}),
                network(grant(), version=2, offices=[office("unrcca")]),
                "unknown-reader",
            ),
        ],
    )
    def test_by_which_it_cannot_be_sealed_give_it_back_to_its_author(
        self, outbox: Outbox, clock: Clock, what: str, value: dict[str, Any], newer: Trusted | None, code: str
    ) -> None:
        if newer is None:
            newer = network(grant(), version=2)
            newer = replace(newer, areas=Areas(newer.areas.subset(["KG-B"])))
        entry = add(outbox, value)
        hub = Hub(lambda data: refusal(data, "stale-policy"), newer)
        one = sender(hub, outbox, clock)
        told = told_by(one)
        run(one.run(until_empty=True))
        found = now(outbox, entry)
        assert (found.state, found.code, found.draft) == ("refused", code, entry.draft)
        assert told == [("refused", code)]
        assert len(hub.sent) == 1
        assert add(outbox).counters == entry.counters

    def test_leave_alone_what_was_accepted_meanwhile(self, outbox: Outbox, clock: Clock) -> None:
        entry = add(outbox)
        hub = Hub(lambda data: refusal(data, "stale-policy"), NEWER)

        async def meanwhile() -> None:
            outbox.accepted(entry.name, b"receipt")

        hub.before_refresh = meanwhile
        run(sender(hub, outbox, clock).send(entry))
        assert (now(outbox, entry).state, now(outbox, entry).receipt) == ("accepted", b"receipt")
        assert len(hub.sent) == 1


class TestTheRules:
    def test_are_fetched_when_first_needed_and_once_for_all(self, outbox: Outbox, clock: Clock) -> None:
        for _ in range(10):
            add(outbox)
        hub = Hub()
        run(sender(hub, outbox, clock, trusted=None).run(until_empty=True))
        assert (hub.refreshed, outbox.counts()) == (1, {"accepted": 10})

    def test_are_fetched_anew_where_the_hubs_key_has_changed(self, outbox: Outbox, clock: Clock) -> None:
        entry = add(outbox)
        renewed = network(grant(), hub_key=b64u(bytes(FORGER.verify_key)))
        hub = Hub(lambda data: receipt(data, key=FORGER), renewed)
        run(sender(hub, outbox, clock).send(entry))
        assert (hub.refreshed, now(outbox, entry).state) == (1, "accepted")

    @pytest.mark.parametrize("failure", [unreachable(), Untrusted("frozen", "old"), NotAdmitted()])
    def test_that_cannot_be_fetched_keep_the_report(self, outbox: Outbox, clock: Clock, failure: Exception) -> None:
        entry = add(outbox)
        hub = Hub(trusted=failure)
        with pytest.raises(type(failure)):
            run(sender(hub, outbox, clock, trusted=None).send(entry))
        assert now(outbox, entry) == entry


class TestOnePoisonedReport:
    @pytest.mark.parametrize(
        ("what", "answer"),
        [
            ("gets garbage for an answer", lambda _: b"garbage"),
            ("gets a forged receipt", lambda data: receipt(data, key=FORGER)),
            ("breaks the line", lambda _: unreachable()),
            ("is too large for the line", lambda _: Refused("oversized", "This is more than the hub takes.")),
            ("is refused", lambda data: refusal(data, "malformed")),
        ],
    )
    def test_holds_up_no_other(self, outbox: Outbox, clock: Clock, what: str, answer: Answering) -> None:
        poisoned = add(outbox)
        others = [add(outbox) for _ in range(6)]
        hub = Hub(lambda data: answer(data) if data == poisoned.envelope else receipt(data))
        done = asyncio.Event()

        async def work() -> None:
            one = sender(hub, outbox, clock, window=2)
            one.told = lambda _: done.set() if outbox.counts().get("accepted") == len(others) else None
            running = asyncio.create_task(one.run())
            await done.wait()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        run(work())
        assert {now(outbox, other).state for other in others} == {"accepted"}
        assert now(outbox, poisoned).draft == poisoned.draft
        assert now(outbox, poisoned).state in ("waiting", "refused")

    def test_whose_row_rotted_holds_up_no_other(self, outbox: Outbox, clock: Clock) -> None:
        poisoned = add(outbox)
        for _ in range(3):
            add(outbox)
        with outbox._store.transaction() as connection:
            connection.execute("UPDATE entries SET body = x'00' WHERE name = ?", (poisoned.name,))
        run(sender(Hub(), outbox, clock).run(until_empty=True))
        assert outbox.counts() == {"damaged": 1, "accepted": 3}

    def test_that_the_line_does_not_take_goes_back_to_its_author(self, outbox: Outbox, clock: Clock) -> None:
        entry = add(outbox)
        one = sender(Hub(lambda _: Refused("oversized", "This is more than the hub takes.")), outbox, clock)
        run(one.send(entry))
        found = now(outbox, entry)
        assert (found.state, found.code, found.draft, found.receipt) == ("refused", "oversized", entry.draft, None)


class TestACancellation:
    @pytest.mark.parametrize("where", ["before_answer", "before_refresh"])
    def test_mid_flight_loses_nothing(self, outbox: Outbox, clock: Clock, where: str) -> None:
        entries = [add(outbox) for _ in range(4)]
        hub = Hub()
        under_way = asyncio.Event()

        async def stuck() -> None:
            under_way.set()
            await asyncio.Event().wait()

        setattr(hub, where, stuck)

        async def work() -> None:
            running = asyncio.create_task(sender(hub, outbox, clock, trusted=None).run())
            await under_way.wait()
            running.cancel()
            assert isinstance((await asyncio.gather(running, return_exceptions=True))[0], asyncio.CancelledError)

        run(work())
        assert [now(outbox, entry) for entry in entries] == entries
        setattr(hub, where, None)
        run(sender(hub, outbox, clock).run(until_empty=True))
        assert outbox.counts() == {"accepted": 4}

    def test_that_comes_with_the_receipt_still_ends_the_run(self, outbox: Outbox, clock: Clock) -> None:
        entry, hub = add(outbox), Hub()

        async def work() -> None:
            one = sender(hub, outbox, clock)
            running = asyncio.create_task(one.run())

            def cancel(_: Entry) -> None:
                running.cancel()

            one.told = cancel
            with pytest.raises(asyncio.CancelledError):
                await running

        run(work())
        assert now(outbox, entry).state == "accepted"

    def test_after_the_hub_stored_it_is_answered_by_the_same_bytes_and_a_repeat(
        self, outbox: Outbox, clock: Clock
    ) -> None:
        entry = add(outbox)
        stored: set[bytes] = set()

        def answer(data: bytes) -> Answer:
            repeat = data in stored
            stored.add(data)
            return receipt(data, repeat=True) if repeat else unreachable()

        run(sender(Hub(answer), outbox, clock).run(until_empty=True))
        assert len(stored) == 1
        assert json.loads(now(outbox, entry).receipt or b"")["repeat"] is True


def test_two_receipts_for_one_report_end_its_waiting_once(tmp_path: Path, outbox: Outbox, clock: Clock) -> None:
    """As when two processes send the same outbox, or a first answer was thought lost."""
    entry = add(outbox)
    other = Outbox(tmp_path / "outbox.db", ROWS, KID)
    both = asyncio.Barrier(2)
    hubs = [Hub(receipt), Hub(lambda data: receipt(data, repeat=True))]
    for hub in hubs:
        hub.before_answer = both.wait

    async def work() -> None:
        senders = [sender(hub, box, clock) for hub, box in zip(hubs, (outbox, other), strict=True)]
        await asyncio.gather(*(one.send(entry) for one in senders))

    run(work())
    found = now(outbox, entry)
    assert found.state == "accepted"
    assert found.receipt in (receipt(entry.envelope or b""), receipt(entry.envelope or b"", repeat=True))
    assert add(outbox).counters == {"unrcca": 2, "unoca": 2}
    other.close()


def test_a_refusal_after_the_receipt_changes_nothing(outbox: Outbox, clock: Clock) -> None:
    entry = add(outbox)
    run(sender(Hub(), outbox, clock).send(entry))
    run(sender(Hub(lambda data: refusal(data, "monitor-revoked")), outbox, clock).send(entry))
    run(sender(Hub(lambda data: refusal(data, "over-quota", 9)), outbox, clock).send(entry))
    found = now(outbox, entry)
    assert (found.state, found.receipt, found.attempts) == ("accepted", receipt(entry.envelope or b""), 0)


def test_what_another_process_puts_in_goes_out_too(
    tmp_path: Path, outbox: Outbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "_POLL", 0.01)
    other = Outbox(tmp_path / "outbox.db", ROWS, KID)

    async def work() -> None:
        one = sender(Hub(), outbox, clock)
        done = asyncio.Event()
        one.told = lambda _: done.set()
        running = asyncio.create_task(one.run())
        await asyncio.sleep(0)
        add(other)
        await done.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(work())
    assert other.counts() == {"accepted": 1}
    other.close()


def test_an_outbox_that_cannot_be_read_ends_the_run_and_is_said(
    outbox: Outbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = add(outbox)

    def rotten(*_: object, besides: Collection[str] = ()) -> list[Entry]:
        raise Damaged("storage-damaged", "The store cannot be read.")

    monkeypatch.setattr(outbox, "due", rotten)
    with pytest.raises(Damaged):
        run(sender(Hub(), outbox, clock).run())
    assert now(outbox, entry) == entry


def test_a_receipt_that_cannot_be_stored_is_asked_for_again(
    outbox: Outbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, hub = add(outbox), Hub()
    store, full = outbox.accepted, [True, True]

    def accepted_if_there_is_room(name: str, data: bytes, header: Any) -> None:
        if full:
            full.pop()
            raise Damaged("storage-full", "The disk takes no more.")
        store(name, data, header)

    monkeypatch.setattr(outbox, "accepted", accepted_if_there_is_room)
    one = sender(hub, outbox, clock)
    told = told_by(one)
    run(one.run(until_empty=True))
    assert hub.sent == [entry.envelope] * 3
    assert told == [("waiting", "storage-full")] * 2 + [("accepted", "accepted")]


_MISHAPS: dict[str, Answering | Exception] = {
    "away": unreachable(),
    "not admitted": NotAdmitted(),
    "garbage": lambda _: b"garbage",
    "forged": lambda data: receipt(data, key=FORGER),
    "another's receipt": lambda _: receipt(OTHER),
    "forged refusal": lambda data: refusal(data, "malformed", key=FORGER),
    "quota": lambda data: refusal(data, "over-quota", 0),
    "full": lambda data: refusal(data, "storage-full", 0),
    "stale": lambda data: refusal(data, "stale-policy", 0),
    "newer": lambda data: unknown(data, "quarantined", 0),
}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.lists(st.sampled_from(sorted(_MISHAPS)), max_size=6), st.booleans()), min_size=1, max_size=5),
    st.integers(1, 4),
)
def test_whatever_happens_each_report_ends_by_the_first_answer_that_holds(
    tmp_path_factory: pytest.TempPathFactory, fates: list[tuple[list[str], bool]], window: int
) -> None:
    outbox = Outbox(tmp_path_factory.mktemp("outbox") / "outbox.db", ROWS, KID)
    clock = Clock()
    entries = [add(outbox) for _ in fates]
    answers = {
        entry.report_id: in_turn(
            *(_MISHAPS[mishap] for mishap in mishaps),
            then=receipt if taken else lambda data: refusal(data, "out-of-scope"),
        )
        for entry, (mishaps, taken) in zip(entries, fates, strict=True)
    }
    hub = Hub(lambda data: answers[parse(data).claims["id"]](data), NEWER)
    run(sender(hub, outbox, clock, window=window).run(until_empty=True))
    for entry, (_, taken) in zip(entries, fates, strict=True):
        found = now(outbox, entry)
        assert found.state == ("accepted" if taken else "refused")
        assert found.report_id == entry.report_id
        assert found.draft == (None if taken else entry.draft)
    outbox.close()


def test_nothing_of_a_report_shows_in_what_is_told_or_raised(outbox: Outbox, clock: Clock) -> None:
    entry = add(outbox, canaried())
    assert CANARY in json.dumps(entry.draft)
    shown = [repr(entry)]
    for answer in (receipt, lambda data: refusal(data, "over-quota", 0), lambda _: CANARY.encode()):
        one = sender(Hub(answer), outbox, clock)
        one.told = lambda entry: shown.append(repr(entry))
        try:
            run(one.send(entry))
        except Untrusted as error:
            shown.append(repr(error) + error.diagnostics())
        shown.append(repr(one) + repr(one.__dict__))
    assert len(shown) > 5
    assert CANARY not in " ".join(shown)


class TestNextKey:
    """The monitor has another name since what waits was sealed."""

    NEXT = SigningKey(b"w" * 32)
    NAME = monitor_id(bytes(NEXT.verify_key))
    RULES = network(grant(to=["office:unrcca", "office:unoca"]), monitors=[monitor(), monitor(NEXT)])

    def changed(self, hub: Hub, outbox: Outbox, clock: Clock) -> Sender:
        one = sender(hub, outbox, clock, self.RULES)
        one.change_key(self.NEXT)
        return one

    def test_what_waits_goes_out_under_the_old_name(self, outbox: Outbox, clock: Clock) -> None:
        entry, hub = add(outbox), Hub()
        run(self.changed(hub, outbox, clock).send(entry))
        assert [parse(data).claims["kid"] for data in hub.sent] == [KID]
        assert now(outbox, entry).state == "accepted"

    def test_what_the_old_name_is_too_old_for_is_sealed_anew_with_its_id_and_numbers(
        self, outbox: Outbox, clock: Clock
    ) -> None:
        entry = add(outbox)
        hub = Hub(in_turn(lambda data: refusal(data, "key-expired")), self.RULES)
        run(self.changed(hub, outbox, clock).send(entry))
        first, second = (parse(data).claims for data in hub.sent)
        assert (first["kid"], second["kid"]) == (KID, self.NAME)
        assert first["id"] == second["id"]
        opened = open_envelope(parse(hub.sent[1]), "unrcca", [KEYS["unrcca"]], bytes(self.NEXT.verify_key))
        assert opened.counter == entry.counters["unrcca"]
        assert now(outbox, entry).state == "accepted"

    def test_a_key_of_todays_that_is_too_old_is_told_to_the_author(self, outbox: Outbox, clock: Clock) -> None:
        entry, hub = add(outbox), Hub(lambda data: refusal(data, "key-expired"), self.RULES)
        run(self.changed(hub, outbox, clock).send(entry))
        assert len(hub.sent) == 2
        assert (now(outbox, entry).state, now(outbox, entry).code) == ("refused", "key-expired")

    def test_a_recall_is_sealed_anew_under_the_name_of_what_it_recalls(self, outbox: Outbox, clock: Clock) -> None:
        header = {**planned(parse_draft(draft()), RULES).header.claims(), "kid": KID}
        intent = Intent("A" * 22, header, ("unrcca",), (), "")
        readers = intent.readers(RULES, NOW.date())
        entry = outbox.add(
            "B" * 21 + "A",
            intent._asdict(),
            readers,
            lambda counters: intent.seal("B" * 21 + "A", readers, RULES, MONITOR, counters),
            now=START,
        )
        hub = Hub(in_turn(lambda data: refusal(data, "stale-policy")), NEWER)
        run(self.changed(hub, outbox, clock).send(entry))
        for data in hub.sent:
            assert parse(data).claims["kid"] == KID
            verify(parse(data), bytes(MONITOR.verify_key))
        assert len(hub.sent) == 2
        assert now(outbox, entry).state == "accepted"


def read_in(data: bytes, key: SigningKey = MONITOR) -> dict[str, set[str]]:
    """By office, the parts that it can open of what was sent."""
    envelope = parse(data)
    return {
        wrap.office: set(open_envelope(envelope, wrap.office, [KEYS[wrap.office]], bytes(key.verify_key)).contents)
        for wrap in envelope.wraps
    }


WRITTEN = draft(source={"basis": "witness", "description": "The neighbour."})
SHOWN = network(grant(to=["office:unrcca", "office:unoca"]))
PROMISED = {"unrcca": {"summary", "account"}, "unoca": {"summary", "account"}}


class TestWhatTheAuthorAgreedTo:
    """She was shown that two offices read summary and account, and that nobody reads the source."""

    @pytest.mark.parametrize("code", ["stale-policy", "policy-unknown"])
    @pytest.mark.parametrize(
        "newer",
        [
            network(grant(to=["group:un"]), grant("more", grant=["source"], to=["group:un"]), version=2),
            network(
                grant(to=["group:un", "office:cso"]), grant("all", grant=["source"], to=["office:council"]), version=2
            ),
            network(grant(to=["group:un"], grant=["summary", "account", "source"]), version=2, custodian="council"),
        ],
        ids=["another part", "another office", "another custodian"],
    )
    def test_a_hub_cannot_have_a_report_sealed_for_more_than_its_author_was_shown(
        self, outbox: Outbox, clock: Clock, code: str, newer: Trusted
    ) -> None:
        entry = add(outbox, WRITTEN, SHOWN)
        hub = Hub(in_turn(lambda data: refusal(data, code)), newer)
        run(sender(hub, outbox, clock, SHOWN).send(entry))
        assert now(outbox, entry).state == "accepted"
        assert {parse(data).claims["pol"] for data in hub.sent} == {1, 2}
        assert [read_in(data) for data in hub.sent] == [PROMISED] * len(hub.sent)

    @pytest.mark.parametrize(
        "newer",
        [
            network(grant(to=["office:unrcca", "office:cso"]), version=2),
            network(grant(to=["group:un"], grant=["summary"]), version=2),
            network(version=2),
            network(grant(to=["group:un"]), version=2, offices=[office("unrcca"), office("unoca", status="suspended")]),
            network(grant(to=["group:un"]), version=2, expires=NOW),
        ],
        ids=["an office", "a part", "everybody", "an office that is suspended", "all but the custodian"],
    )
    def test_where_somebody_is_left_out_it_is_held_and_nothing_is_sent(
        self, outbox: Outbox, clock: Clock, newer: Trusted
    ) -> None:
        entry = add(outbox, WRITTEN, SHOWN)
        clock.now += 1
        hub = Hub(lambda data: refusal(data, "stale-policy"), newer)
        one = sender(hub, outbox, clock, SHOWN)
        told = told_by(one)
        run(one.run(until_empty=True))
        found = now(outbox, entry)
        assert (found.state, found.code, found.draft) == ("held", "readers-changed", entry.draft)
        assert found.envelope is None
        assert hub.sent == [entry.envelope]
        assert told == [("held", "readers-changed")]
        # No office waits for the number of what may never come.
        assert add(outbox, WRITTEN, SHOWN).counters == entry.counters

    def test_a_key_for_which_only_coordinators_vouch_holds_it(self, outbox: Outbox, clock: Clock) -> None:
        entry = add(outbox, WRITTEN, SHOWN)
        stranger = OpeningKey(X25519, b"s" * 32).public.document()
        for claims in ({}, {"replaced": "2026-11-24"}):
            changed = [office("unrcca", keys=[stranger], **claims), *(office(id) for id in ("unoca", "cso", "council"))]
            hub = Hub(
                lambda data: refusal(data, "policy-unknown"),
                network(grant(to=["group:un"]), version=2, offices=changed),
            )
            run(sender(hub, outbox, clock, SHOWN).run(until_empty=True))
            assert (now(outbox, entry).state, now(outbox, entry).code) == ("held", "key-replaced")
            assert len(hub.sent) == 1
            entry = add(outbox, WRITTEN, SHOWN)

    def test_a_key_that_the_office_vouches_for_does_not(self, outbox: Outbox, clock: Clock) -> None:
        own, fresh, digest = SigningKey(b"o" * 32), OpeningKey(X25519, b"f" * 32), b64u(bytes(32))
        before = office("unrcca", sign=b64u(bytes(own.verify_key)))
        others = [office(id) for id in ("unoca", "cso", "council")]
        shown = network(grant(), offices=[before, *others])
        row = shown.offices.get("unrcca")
        assert row is not None
        keys = followed(row.keys, [(TODAY, fresh.public)], TODAY)
        for signer, state in ((FORGER, "held"), (own, "accepted")):
            entry = add(outbox, WRITTEN, shown)
            said = OfficeKeys.of(row, keys, digest, signer)
            listed = [key.model_dump(mode="json", exclude_none=True) for key in keys]
            after = {**before, "keys": listed, "vouched": said.signature}
            newer = network(grant(), version=2, offices=[after, *others])
            run(
                sender(
                    Hub(in_turn(lambda data: refusal(data, "stale-policy")), newer),
                    outbox,
                    clock,
                    shown,
                    network=digest,
                ).send(entry)
            )
            assert now(outbox, entry).state == state

    def test_what_was_agreed_for_the_custodian_alone_stays_for_it_when_there_are_rules_again(
        self, outbox: Outbox, clock: Clock
    ) -> None:
        lapsed = network(grant(to=["group:un"]), expires=NOW - timedelta(days=1))
        entry = add(outbox, WRITTEN, lapsed)
        newer = network(grant(to=["group:un", "office:cso"]), version=2)
        hub = Hub(in_turn(lambda data: refusal(data, "stale-policy")), newer)
        run(sender(hub, outbox, clock, lapsed).send(entry))
        assert [read_in(data) for data in hub.sent] == [{"unrcca": {"summary", "account", "source"}}] * 2
        assert now(outbox, entry).state == "accepted"

    def test_another_custodian_is_not_sealed_for_in_the_place_of_the_one_she_was_told(
        self, outbox: Outbox, clock: Clock
    ) -> None:
        lapsed = network(grant(), expires=NOW - timedelta(days=1))
        entry = add(outbox, WRITTEN, lapsed)
        hub = Hub(lambda data: refusal(data, "stale-policy"), network(grant(), version=2, custodian="council"))
        run(sender(hub, outbox, clock, lapsed).run(until_empty=True))
        assert (now(outbox, entry).state, len(hub.sent)) == ("held", 1)

    def test_the_monitors_next_key_seals_for_those_she_was_shown_and_no_more(
        self, outbox: Outbox, clock: Clock
    ) -> None:
        entry = add(outbox, WRITTEN, SHOWN)
        keys = [monitor(), monitor(TestNextKey.NEXT)]
        newer = network(grant(to=["group:un", "office:cso"]), version=2, monitors=keys)
        hub = Hub(in_turn(lambda data: refusal(data, "key-expired")), newer)
        one = sender(hub, outbox, clock, newer)
        one.change_key(TestNextKey.NEXT)
        run(one.send(entry))
        assert parse(hub.sent[1]).claims["kid"] == TestNextKey.NAME
        assert read_in(hub.sent[1], TestNextKey.NEXT) == PROMISED

    def test_the_monitors_next_key_does_not_seal_where_somebody_is_left_out(self, outbox: Outbox, clock: Clock) -> None:
        entry = add(outbox, WRITTEN, SHOWN)
        hub = Hub(in_turn(lambda data: refusal(data, "key-expired")), network(grant(), version=2))
        one = sender(hub, outbox, clock, network(grant(), version=2))
        one.change_key(TestNextKey.NEXT)
        run(one.send(entry))
        assert (now(outbox, entry).state, len(hub.sent)) == ("held", 1)

    def test_an_entry_that_an_older_version_put_in_is_sent_as_it_is_and_held_where_it_must_be_sealed_anew(
        self, outbox: Outbox, clock: Clock
    ) -> None:
        first, second = add(outbox, WRITTEN, SHOWN, kept=False), add(outbox, WRITTEN, SHOWN, kept=False)
        hub = Hub(lambda data: receipt(data) if data == first.envelope else refusal(data, "stale-policy"), NEWER)
        run(sender(hub, outbox, clock, SHOWN).run(until_empty=True))
        assert now(outbox, first).state == "accepted"
        held = now(outbox, second)
        assert (held.state, held.code) == ("held", "readers-not-kept")
        assert set((held.agreed or {})["readers"]) == {"unrcca", "unoca"}
        assert set(hub.sent) == {first.envelope, second.envelope}

    def test_the_hub_is_not_shown_a_finer_area_than_when_she_agreed(self, outbox: Outbox, clock: Clock) -> None:
        entry = add(outbox, {**WRITTEN, "area": "KG-O-7"}, SHOWN)
        newer = network(grant(to=["group:un"]), version=2, header_level=2)
        hub = Hub(lambda data: refusal(data, "stale-policy"), newer)
        run(sender(hub, outbox, clock, SHOWN).run(until_empty=True))
        assert (now(outbox, entry).state, now(outbox, entry).code) == ("held", "area-finer")
        assert {parse(data).claims["area"] for data in hub.sent} == {"KG-O"}

    def test_what_is_held_waits_again_by_what_she_agrees_to_now_and_no_further(
        self, outbox: Outbox, clock: Clock
    ) -> None:
        entry = add(outbox, WRITTEN, SHOWN, spare={})
        second = network(grant(to=["office:unrcca", "office:cso"]), version=2)
        run(sender(Hub(lambda data: refusal(data, "stale-policy"), second), outbox, clock, SHOWN).run(until_empty=True))
        held = now(outbox, entry)
        assert held.state == "held"
        plan = planned(parse_draft(held.draft), second, report_id=entry.report_id)
        spare: dict[str, Any] = {}
        waiting = outbox.reseal(
            entry.name,
            plan.offices,
            lambda counters: seal_report(plan, MONITOR, counters, spare),
            spare,
            agreed=agreed_to(plan),
            state="held",
        )
        assert waiting is not None
        third = network(grant(to=["office:unrcca", "office:cso", "office:unoca"]), version=3)
        hub = Hub(in_turn(lambda data: refusal(data, "stale-policy")), third)
        run(sender(hub, outbox, clock, second).send(waiting))
        assert [set(read_in(data)) for data in hub.sent] == [{"unrcca", "cso"}] * 2
        assert now(outbox, entry).state == "accepted"
        assert (now(outbox, entry).spare or {})["core"] == b64u(parse(hub.sent[1]).core)

    @pytest.mark.parametrize("kept", [True, False], ids=["kept", "of an older version"])
    def test_a_recalls_reason_is_not_sealed_for_a_key_she_was_not_shown_and_the_recall_goes_out(
        self, outbox: Outbox, clock: Clock, kept: bool
    ) -> None:
        header = planned(parse_draft(draft()), RULES).header.claims()
        intent = Intent("A" * 22, header, ("unrcca",), (), "The neighbour is in danger.")
        readers = intent.readers(RULES, TODAY)
        entry = outbox.add(
            "B" * 21 + "A",
            intent._asdict(),
            readers,
            lambda counters: intent.seal("B" * 21 + "A", readers, RULES, MONITOR, counters),
            now=START,
            agreed=intent.agreed(RULES) if kept else None,
        )
        stranger = OpeningKey(X25519, b"s" * 32)
        newer = network(grant(), version=2, offices=[office("unrcca", keys=[stranger.public.document()])])
        hub = Hub(in_turn(lambda data: refusal(data, "policy-unknown")), newer)
        run(sender(hub, outbox, clock).send(entry))
        assert now(outbox, entry).state == "accepted"
        opened = open_envelope(parse(hub.sent[1]), "unrcca", [stranger], bytes(MONITOR.verify_key))
        assert opened.contents["handling"].get("wishes") is None
        assert "neighbour" not in json.dumps(opened.contents)
