"""The ledger: places, proofs and the cache, against a real broker."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.aio.client import Client

from kengele_hub import consumers, jetstream, streams
from kengele_hub import ledger as ledger_module
from kengele_hub.errors import Conflict, StorageFull, Unavailable
from kengele_hub.ledger import Entry, Ledger, join, split
from kengele_schemas import subjects
from kengele_schemas.checkpoint import verify_checkpoint, verify_proof
from kengele_schemas.encoding import b64u, dumps
from kengele_schemas.errors import Damaged, Malformed, Untrusted
from kengele_schemas.keys import new_signing_key
from kengele_schemas.merkle import EMPTY, leaf_hash
from kengele_testing.server import running_broker

KEY = new_signing_key()
PUBLIC = bytes(KEY.verify_key)
LOG = "kengele/test"
RECORD = 68
"""Bytes of a row of the cache: id, leaf's hash, check."""


def report(leaf: bytes | None = None, body: bytes = b"body") -> Entry:
    """A new report's entry."""
    return Entry(subjects.ledger_report(new_id()), leaf or secrets.token_bytes(20), body)


def note(name: str = "") -> Entry:
    """An entry that is no report's."""
    return Entry(subjects.ledger_entry("note", name or secrets.token_hex(8)), secrets.token_bytes(20))


def new_id() -> str:
    return b64u(secrets.token_bytes(16))


def id_of(entry: Entry) -> str:
    return entry.subject.rpartition(".")[2]


@asynccontextmanager
async def stream(tmp_path: Path, **options: Any) -> AsyncIterator[Client]:
    """The hub's connection to a broker with its streams."""
    async with running_broker(tmp_path) as (broker, _):
        nc = await broker.access.connect()
        try:
            await streams.ensure_streams(nc, **options)
            yield nc
        finally:
            await nc.close()


async def ledger(nc: Client, cache: Path) -> Ledger:
    """A ledger as a new process has it."""
    made = Ledger(nc, KEY, LOG, cache)
    await made.load()
    return made


def run(tmp_path: Path, claim: Callable[[Client], Awaitable[None]], **options: Any) -> None:
    """Holds ``claim`` against a fresh broker."""

    async def against_a_broker() -> None:
        async with stream(tmp_path, **options) as nc:
            await claim(nc)

    asyncio.run(against_a_broker())


def root(made: Ledger) -> bytes:
    return verify_checkpoint(made.checkpoint(), LOG, PUBLIC).root


async def appended(made: Ledger, entries: Sequence[Entry]) -> list[int]:
    """Writes ``entries``, however often others come first."""
    while True:
        try:
            return await made.append(entries)
        except Unavailable:
            continue


# --- an entry as it is stored -----------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=300), st.binary(max_size=300))
def test_leaf_and_body_are_read_back_as_they_were_written(leaf: bytes, body: bytes) -> None:
    assert split(join(Entry("ledger.report.x", leaf, body))) == (leaf, body)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40))
def test_what_is_no_entry_is_damage_and_nothing_else(data: bytes) -> None:
    try:
        leaf, body = split(data)
    except Damaged:
        return
    assert join(Entry("", leaf, body)) == data


@pytest.mark.parametrize("data", [b"", b"\0\0\0", b"\0\0\0\0", b"\0\0\0\x02a", b"\xff\xff\xff\xffleaf"])
def test_an_entry_cut_short_is_damage(data: bytes) -> None:
    with pytest.raises(Damaged):
        split(data)


# --- places and proofs ------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_entries_get_consecutive_places_and_are_found_and_read_there(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        made = await ledger(nc, tmp_path / "cache")
        assert (made.size, root(made)) == (0, EMPTY)
        first, second = [report(), note(), report()], [report()]
        assert await made.append(first) == [0, 1, 2]
        assert await made.append(second) == [3]
        for index, entry in enumerate([*first, *second]):
            placed = await made.read(index)
            assert (placed.index, placed.leaf, placed.body) == (index, entry.leaf, entry.body)
        assert [made.place_of(id_of(entry)) for entry in (first[0], first[2], second[0])] == [0, 2, 3]
        assert made.place_of(new_id()) is None
        assert made.size == 4

    run(tmp_path, claim)


@pytest.mark.full
def test_every_place_is_proved_under_one_signed_checkpoint_now_and_later(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        made = await ledger(nc, tmp_path / "cache")
        entries = [report() for _ in range(13)]
        early = made.proofs(await made.append(entries[:5]))
        await made.append(entries[5:])
        late = made.proofs(range(13))
        assert len({proof.partition("\n\n")[2] for proof in late}) == 1
        for proofs, size in ((early, 5), (late, 13)):
            for index, proof in enumerate(proofs):
                at, checkpoint = verify_proof(proof, leaf_hash(entries[index].leaf), LOG, PUBLIC)
                assert (at, checkpoint.size) == (index, size)
        with pytest.raises(Untrusted):
            verify_proof(late[3], leaf_hash(entries[4].leaf), LOG, PUBLIC)
        with pytest.raises(Untrusted):
            verify_proof(late[3], leaf_hash(entries[3].leaf), LOG, bytes(new_signing_key().verify_key))

    run(tmp_path, claim)


@pytest.mark.full
def test_a_batch_with_one_id_that_is_taken_is_not_written_at_all(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        made = await ledger(nc, tmp_path / "cache")
        taken = report(body=b"first")
        await made.append([taken])
        before = root(made)
        for entries in ([report(), taken._replace(body=b"second")], [note("a"), note("a")]):
            with pytest.raises(Conflict):
                await made.append(entries)
        assert (made.size, root(made)) == (1, before)
        assert (await made.read(0)).body == b"first"
        assert await made.append([report()]) == [1]

    run(tmp_path, claim)


@pytest.mark.full
def test_two_writers_on_one_stream_never_number_a_place_twice(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        writers = [await ledger(nc, tmp_path / f"cache-{number}") for number in range(2)]
        mine = [[[report() for _ in range(1 + turn % 4)] for turn in range(15)] for _ in writers]
        places: dict[int, Entry] = {}

        async def write(made: Ledger, batches: Sequence[Sequence[Entry]]) -> None:
            for entries in batches:
                indices = await appended(made, entries)
                assert not places.keys() & set(indices)
                places.update(zip(indices, entries, strict=True))

        await asyncio.gather(*(write(made, batches) for made, batches in zip(writers, mine, strict=True)))
        whole = await ledger(nc, tmp_path / "cache-third")
        assert sorted(places) == list(range(whole.size))
        for index, entry in places.items():
            assert whole.place_of(id_of(entry)) == index
            assert (await whole.read(index)).leaf == entry.leaf
        for made in writers:
            await appended(made, [report()])
        await writers[0].load()
        await whole.load()
        assert root(writers[0]) == root(writers[1]) == root(whole)

    run(tmp_path, claim)


@pytest.mark.full
def test_of_writers_that_tell_each_other_none_starves(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        writers = [await ledger(nc, tmp_path / f"cache-{number}") for number in range(3)]
        for made in writers:
            await nc.subscribe(subjects.LEDGER_GROWN, cb=told(made.heard))
            await nc.subscribe(subjects.LEDGER_WAITED, cb=told(made.heard_waiting))

        async def write(made: Ledger) -> None:
            for _ in range(30):
                await made.append([report(), report()])

        await asyncio.gather(*(write(made) for made in writers))
        for made in writers:
            await made.refresh()
        assert len({(made.size, root(made)) for made in writers}) == 1
        assert writers[0].size == 180

    run(tmp_path, claim)


@pytest.mark.full
def test_what_a_writer_was_told_it_does_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def claim(nc: Client) -> None:
        made, other = [await ledger(nc, tmp_path / name) for name in ("a", "b")]
        subscription = await nc.subscribe(subjects.LEDGER_GROWN)
        entries = [report(), note()]
        await other.append(entries)
        made.heard((await subscription.next_msg(30)).data)
        assert (made.size, root(made)) == (2, root(other))
        assert made.place_of(id_of(entries[0])) == 0
        monkeypatch.setattr(consumers, "read_all", None)
        assert await made.append([report()]) == [2]
        assert (await ledger_again(nc, tmp_path / "a", monkeypatch)).size == 3

    run(tmp_path, claim)


async def ledger_again(nc: Client, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """The ledger of ``cache`` after a start."""
    monkeypatch.undo()
    return await ledger(nc, cache)


def told(take: Callable[[bytes], None]) -> Callable[[Any], Awaitable[None]]:
    async def hear(message: Any) -> None:
        take(message.data)

    return hear


def said(first: int, leaves: Sequence[bytes]) -> bytes:
    """What another worker says of the entries from ``first`` on."""
    return b"another." + first.to_bytes(8, "big") + b"".join(bytes(16) + leaf[:16] + leaf for leaf in leaves)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_in_whatever_order_it_is_told_the_tree_is_the_same(sizes: list[int], dice: Any) -> None:
    leaves = [leaf_hash(bytes([number])) for number in range(sum(sizes))]
    batches, first = [], 0
    for size in sizes:
        batches.append(said(first, leaves[first : first + size]))
        first += size
    with tempfile.TemporaryDirectory() as home:
        whole, pieces = (Ledger(Client(), KEY, LOG, Path(home) / name) for name in ("one", "many"))
        whole.heard(said(0, leaves))
        mixed = [*batches, *batches]
        dice.shuffle(mixed)
        for batch in mixed:
            pieces.heard(batch)
    assert (pieces.size, root(pieces)) == (whole.size, root(whole)) == (len(leaves), root(whole))


@pytest.mark.parametrize("told", [b"", b"\0" * 15, b"\0" * 17, b"\0" * 79])
def test_what_is_no_word_of_another_worker_is_refused(tmp_path: Path, told: bytes) -> None:
    made = Ledger(Client(), KEY, LOG, tmp_path / "cache")
    for take in (made.heard, made.heard_waiting):
        with pytest.raises(Malformed):
            take(told)
    assert made.size == 0


def test_what_workers_tell_each_other_fills_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Ledger(Client(), KEY, LOG, tmp_path / "cache")
    for number in range(2000):
        writer = number.to_bytes(8, "big")
        made.heard(ledger_module._HEAD.pack(writer, number + 1) + bytes(ledger_module._ROW.size))
        made.heard_waiting(ledger_module._HEAD.pack(writer, number))
    assert len(made._heard) == 1000
    # Whoever waited is forgotten when its time is over: it may have died.
    later = time.monotonic() + 60
    monkeypatch.setattr("time.monotonic", lambda: later)
    assert made._before(None) is False
    assert made._refused == {}


@pytest.mark.full
def test_tasks_of_one_writer_write_one_after_the_other(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        made = await ledger(nc, tmp_path / "cache")
        found = await asyncio.gather(*(made.append([report(), report()]) for _ in range(10)))
        assert sorted(index for indices in found for index in indices) == list(range(20))

    run(tmp_path, claim)


@pytest.mark.full
def test_what_another_writer_has_written_is_a_conflict_and_known_from_then_on(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        made, other = [await ledger(nc, tmp_path / name) for name in ("a", "b")]
        same = report()
        await other.append([report(), same])
        with pytest.raises(Conflict):
            await made.append([report(), same])
        assert made.place_of(id_of(same)) == 1
        assert made.size == 2

    run(tmp_path, claim)


class Lossy:
    """``publish_batch`` whose confirmations get lost on the way, as often as ``times`` says."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.publish = jetstream.publish_batch

    async def __call__(self, nc: Client, messages: Any, timeout: float = 10) -> int:
        last = await self.publish(nc, messages, timeout)
        self.times -= 1
        if self.times >= 0:
            raise Unavailable("broker-unavailable", "The broker did not confirm.")
        return last


@pytest.mark.full
def test_a_batch_whose_confirmation_was_lost_is_there_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def claim(nc: Client) -> None:
        made = await ledger(nc, tmp_path / "cache")
        entries = [report(), report()]
        monkeypatch.setattr(jetstream, "publish_batch", Lossy(1))
        with pytest.raises(Unavailable):
            await made.append(entries)
        assert made.size == 0
        with pytest.raises(Conflict):
            await made.append(entries)
        assert [made.place_of(id_of(entry)) for entry in entries] == [0, 1]
        assert await made.append([report()]) == [2]
        assert (await ledger(nc, tmp_path / "cache")).size == 3

    run(tmp_path, claim)


@pytest.mark.full
def test_after_a_lost_confirmation_other_entries_get_the_places_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(nc: Client) -> None:
        made = await ledger(nc, tmp_path / "cache")
        monkeypatch.setattr(jetstream, "publish_batch", Lossy(1))
        lost, next_one = report(), report()
        with pytest.raises(Unavailable):
            await made.append([lost])
        assert await made.append([next_one]) == [1]
        assert (await made.read(0)).leaf == lost.leaf
        assert (await made.read(1)).leaf == next_one.leaf

    run(tmp_path, claim)


@pytest.mark.full
def test_a_writer_that_others_always_come_before_is_told_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(nc: Client) -> None:
        made = await ledger(nc, tmp_path / "cache")
        publish = jetstream.publish_batch

        async def after_others(nc: Client, messages: Any, timeout: float = 10) -> int:
            rival = note()
            await publish(nc, [(rival.subject, join(rival), {})])
            return await publish(nc, messages, timeout)

        monkeypatch.setattr(jetstream, "publish_batch", after_others)
        entry = report()
        with pytest.raises(Unavailable):
            await made.append([entry])
        monkeypatch.undo()
        assert made.place_of(id_of(entry)) is None
        assert await made.append([entry]) == [made.size - 1]

    run(tmp_path, claim)


@pytest.mark.full
def test_a_full_ledger_takes_nothing_and_still_reads(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        made = await ledger(nc, tmp_path / "cache")
        kept = report(body=bytes(3000))
        await made.append([kept])
        with pytest.raises(StorageFull):
            await made.append([report(body=bytes(30_000))])
        assert made.size == 1
        assert (await made.read(0)).body == kept.body

    run(tmp_path, claim, ledger_max_bytes=10_000)


# --- what was stored and is not as it was -----------------------------------------------------------------------------


@pytest.mark.full
def test_a_gap_in_the_stream_is_damage_and_not_passed_over(tmp_path: Path) -> None:
    async def claims() -> None:
        async with running_broker(tmp_path) as (broker, _):
            nc = await broker.access.connect()
            # The hub's own stream permits no deletion.
            await nc.jetstream().add_stream(name=subjects.LEDGER, subjects=[subjects.LEDGER_ALL], allow_atomic=True)
            made = await ledger(nc, tmp_path / "cache")
            await made.append([report() for _ in range(4)])
            await nc.request("$JS.API.STREAM.MSG.DELETE.LEDGER", dumps({"seq": 2}), timeout=30)
            with pytest.raises(Damaged):
                await made.read(1)
            assert (await made.read(2)).index == 2
            with pytest.raises(Damaged):
                await ledger(nc, tmp_path / "new")
            await nc.close()

    asyncio.run(claims())


@pytest.mark.full
def test_an_entry_that_is_none_is_damage_at_the_start(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        made = await ledger(nc, tmp_path / "cache")
        await made.append([report()])
        await jetstream.publish_batch(nc, [(subjects.ledger_report(new_id()), b"\0", {})])
        with pytest.raises(Damaged):
            await made.read(1)
        with pytest.raises(Damaged):
            await ledger(nc, tmp_path / "new")
        with pytest.raises(Damaged):
            await made.read(7)

    run(tmp_path, claim)


# --- the cache --------------------------------------------------------------------------------------------------------


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sequences that are read from the stream from now on."""
    read: list[int] = []
    read_all = consumers.read_all

    async def counting(*args: Any, **options: Any) -> AsyncIterator[jetstream.Stored]:
        async for stored in read_all(*args, **options):
            read.append(stored.sequence)
            yield stored

    monkeypatch.setattr(consumers, "read_all", counting)
    return read


@pytest.mark.full
def test_ten_thousand_entries_come_from_the_cache_and_only_what_came_since_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(nc: Client) -> None:
        made = await ledger(nc, tmp_path / "cache")
        entries = [report() for _ in range(10_000)]
        for start in range(0, 10_000, 1000):
            await made.append(entries[start : start + 1000])
        (tmp_path / "old").write_bytes((tmp_path / "cache").read_bytes())
        await made.append([report(), report()])
        read = counted(monkeypatch)
        again = await ledger(nc, tmp_path / "old")
        assert read == [10_001, 10_002]
        assert (again.size, root(again)) == (made.size, root(made))
        assert [again.place_of(id_of(entries[index])) for index in (0, 4999, 9999)] == [0, 4999, 9999]
        read.clear()
        without = await ledger(nc, tmp_path / "none")
        assert read == list(range(1, 10_003))
        assert root(without) == root(made)
        assert (tmp_path / "none").read_bytes() == (tmp_path / "old").read_bytes() == (tmp_path / "cache").read_bytes()

    run(tmp_path, claim)


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "cut within its last row": lambda data: data[:-1],
    "cut within its first row": lambda data: data[: RECORD - 1],
    "cut between two rows": lambda data: data[: -2 * RECORD],
    "empty": lambda data: b"",
    "a bit changed in its first row": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "a bit changed in its last row's check": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "noise": lambda data: secrets.token_bytes(len(data)),
    "a row missing in its midst": lambda data: data[:RECORD] + data[2 * RECORD :],
    "a row twice": lambda data: data + data[-RECORD:],
    "two rows exchanged at its end": lambda data: data[: -2 * RECORD] + data[-RECORD:] + data[-2 * RECORD : -RECORD],
    "longer than the stream": lambda data: data + data,
}


@pytest.mark.full
def test_whatever_became_of_the_cache_the_ledger_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def claim(nc: Client) -> None:
        made = await ledger(nc, tmp_path / "cache")
        entries = [report() if number % 3 else note() for number in range(18)]
        recalled = id_of(entries[1])
        entries += [note()._replace(subject=subjects.ledger_recall(recalled, id_of(report()))) for _ in range(2)]
        await made.append(entries)
        good = (tmp_path / "cache").read_bytes()
        assert len(good) == 20 * RECORD
        for what, spoil in SPOILT.items():
            path = tmp_path / what.replace(" ", "-").replace("'", "")
            path.write_bytes(spoil(good))
            again = await ledger(nc, path)
            assert (again.size, root(again)) == (made.size, root(made)), what
            for index, entry in enumerate(entries):
                if entry.subject.startswith("ledger.report."):
                    assert again.place_of(id_of(entry)) == index, what
            assert again.recalls_of(recalled) == (18, 19), what
            assert again.recalls_of(id_of(entries[2])) == (), what
            assert path.read_bytes() == good, what

    run(tmp_path, claim)


@pytest.mark.full
def test_another_hubs_cache_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        made = await ledger(nc, tmp_path / "cache")
        await made.append([report() for _ in range(5)])
        async with stream(tmp_path / "elsewhere") as other_nc:
            other = await ledger(other_nc, tmp_path / "foreign")
            strange = [report() for _ in range(5)]
            await other.append(strange)
        again = await ledger(nc, tmp_path / "foreign")
        assert root(again) == root(made)
        assert again.place_of(id_of(strange[0])) is None

    run(tmp_path, claim)


@pytest.mark.full
def test_a_spoilt_cache_is_written_anew_and_serves_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(nc: Client) -> None:
        cache = tmp_path / "cache"
        made = await ledger(nc, cache)
        await made.append([report() for _ in range(4)])
        cache.write_bytes(cache.read_bytes()[: 2 * RECORD + 7])
        again = await ledger(nc, cache)
        await again.append([report()])
        read = counted(monkeypatch)
        third = await ledger(nc, cache)
        assert read == []
        assert (third.size, root(third)) == (5, root(again))

    run(tmp_path, claim)


@pytest.mark.full
def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        for cache in (tmp_path / "no-such-directory" / "cache", tmp_path):
            made = await ledger(nc, cache)
            first = made.size
            assert await made.append([report(), report()]) == [first, first + 1]
            assert (await ledger(nc, cache)).size == first + 2

    run(tmp_path, claim)


@pytest.mark.full
def test_a_row_that_did_not_get_into_the_cache_is_missed_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(nc: Client) -> None:
        cache = tmp_path / "cache"
        made = await ledger(nc, cache)
        await made.append([report()])
        made._cache = tmp_path / "no-such-directory" / "cache"
        await made.append([report()])
        made._cache = cache
        await made.append([report()])
        assert len(cache.read_bytes()) == 2 * RECORD
        again = await ledger(nc, cache)
        assert (again.size, root(again)) == (3, root(made))
        assert len(cache.read_bytes()) == 3 * RECORD

    run(tmp_path, claim)
