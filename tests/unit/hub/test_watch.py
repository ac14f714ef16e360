"""What the hub watches of itself: dates, room, and whether the last reports could be stored."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kengele_hub import watch
from kengele_hub.watch import Holds, Room, Watch, certificate_end, disk_of
from kengele_testing.certificates import make_certificate
from kengele_testing.hub import Roster, running_hub


def test_what_is_signed_holds_until_the_dates_in_it() -> None:
    roster = Roster()
    now = datetime.now(UTC)
    files = roster.first()
    holds = Holds.of(files, roster.trusted(), now)
    assert holds.root is not None
    assert timedelta(days=364) < holds.root - now <= timedelta(days=366)
    assert holds.vouched is None
    assert holds.rules == datetime.combine(datetime(2199, 12, 31), datetime.max.time(), UTC)
    assert Holds.of(files, roster.trusted(), datetime(2200, 1, 1, tzinfo=UTC)).rules is None


def test_before_the_founding_nothing_is_known() -> None:
    assert Holds.of({}, None, datetime.now(UTC)) == Holds()


def test_a_file_that_is_none_of_the_metadata_has_no_date() -> None:
    roster = Roster()
    files = {**roster.first(), "metadata/timestamp.json": b"garbage"}
    assert Holds.of(files, roster.trusted(), datetime.now(UTC)).vouched is None


def test_storage_is_full_from_a_report_that_was_not_stored_until_one_is() -> None:
    clock = SimpleNamespace(now=0.0)
    room = Room(lambda: clock.now)
    assert not room.full({})
    assert not room.full({"accepted": 5})
    assert room.full({"accepted": 5, "storage-full": 1})
    assert room.full({"accepted": 5, "storage-full": 1})
    assert room.full({"accepted": 6, "storage-full": 2})
    assert not room.full({"accepted": 7, "storage-full": 2})


def test_where_nobody_tries_any_more_a_refusal_is_forgotten() -> None:
    clock = SimpleNamespace(now=0.0)
    room = Room(lambda: clock.now)
    assert room.full({"storage-full": 1})
    clock.now = watch._REMEMBERED - 1
    assert room.full({"storage-full": 1})
    clock.now = watch._REMEMBERED
    assert not room.full({"storage-full": 1})


def test_the_first_certificate_to_end_is_what_counts(tmp_path: Path) -> None:
    tls, _ = make_certificate(tmp_path)
    end = certificate_end(tls.certificate)
    assert end is not None
    assert timedelta(0) < end - datetime.now(UTC) <= timedelta(hours=1)
    assert certificate_end(None) is certificate_end(tls.key) is certificate_end(tmp_path / "none") is None


def test_a_disk_without_room_and_one_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    free, size, writable = disk_of(tmp_path)
    assert free is not None
    assert size is not None
    assert 0 < free <= size
    assert writable
    assert disk_of(tmp_path / "none") == (None, None, False)

    sight: Any = Watch(None, tmp_path, Holds)  # type: ignore[arg-type]
    sight.disk_free = watch.LEAST_ROOM
    assert not sight.cramped
    sight.disk_free -= 1
    assert sight.cramped
    sight.embedded = False
    assert not sight.cramped
    sight.writable = False
    assert sight.cramped


@pytest.mark.full
def test_figures_are_the_brokers_and_stay_while_it_is_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_hub(tmp_path) as hub:
            trusted = hub.roster.trusted()
            sight = Watch(hub.nc, hub.home, lambda: Holds.of(hub.authority.files, trusted, datetime.now(UTC)))
            await sight.look()
            assert sight.stored is not None
            assert (sight.limit, sight.waiting, sight.cosigned) == (None, None, None)
            assert sight.signed.vouched is not None
            await hub.take(("osh", hub.roster.sealed()), ("osh", hub.roster.sealed()))
            async with hub.running("delivery"), asyncio.timeout(60):
                while hub.delivery.delivered < 4 or sight.waiting != 0:
                    await sight.look()
            await hub.take(("osh", hub.roster.sealed()))
            await sight.look()
            assert sight.waiting == 1
            before = sight.stored
            await hub.nc.close()
            await sight.look()
            assert (sight.stored, sight.waiting) == (before, 1)

    asyncio.run(scenario())
