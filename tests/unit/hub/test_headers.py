"""Past headers over a real ledger: read on a little at a time, given when a day is over, to coordinators only."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from kengele_hub import headers
from kengele_hub.headers import Headers
from kengele_hub.ledger import Entry
from kengele_schemas import subjects
from kengele_schemas.encoding import dumps
from kengele_schemas.errors import Malformed, Refused
from kengele_testing.hub import Hub, running_hub, today

pytestmark = pytest.mark.full
_DAY = 86400


def looked_at(hub: Hub, days: float = 2) -> Headers:
    """The service as it is ``days`` from now."""
    return Headers(hub.nc, hub.ledger, lambda: hub.authority.standing, lambda: time.time() + days * _DAY)


async def ask(hub: Hub, service: Headers, who: str = "aigul", **asked: Any) -> dict[str, Any]:
    return await service.answer(hub.roster.nkeys[who], dumps(asked))


async def took(hub: Hub, *areas: str) -> None:
    await hub.take(*(("osh", hub.roster.sealed(area=area)) for area in areas))


def test_a_coordinator_is_told_what_headers_said_and_nothing_of_whose_they_are(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_hub(tmp_path) as hub:
            report = hub.roster.sealed()
            await hub.take(("osh", report), ("osh", hub.roster.sealed()), ("batken", hub.roster.sealed("batken")))
            answer = await ask(hub, looked_at(hub))
            facts = {"categories": ["rumour"], "severity": 2, "tlp": "AMBER"}
            assert answer == {
                "code": "headers",
                "rows": [
                    {"day": today(), "area": "KG-B", **facts, "count": 1},
                    {"day": today(), "area": "KG-O", **facts, "count": 2},
                ],
                "next": None,
            }
            # What is not over is told by no word: not even that something came in.
            assert await ask(hub, looked_at(hub, 0)) == {"code": "headers", "rows": [], "next": None}

    asyncio.run(run())


def test_the_ledger_is_read_on_a_little_with_each_request_and_never_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headers, "MAX_READ", 2)
    monkeypatch.setattr(headers, "MAX_ROWS", 1)

    async def run() -> None:
        async with running_hub(tmp_path) as hub:
            await took(hub, "KG-O", "KG-O", "KG-O")
            await hub.take(*(("batken", hub.roster.sealed("batken")) for _ in range(2)))
            service = looked_at(hub)
            answers = [await ask(hub, service) for _ in range(3)]
            assert [answer["code"] for answer in answers] == ["reading", "reading", "headers"]
            assert 0 < answers[0]["read"] < answers[1]["read"] <= answers[1]["of"]
            assert [(row["area"], row["count"]) for row in answers[2]["rows"]] == [("KG-B", 2)]
            last = await ask(hub, service, **answers[2]["next"])
            assert [(row["area"], row["count"]) for row in last["rows"]] == [("KG-O", 3)]
            assert last["next"] is None
            # All that is over has been read: what came since is not looked for before the next day is.
            reading = hub.nc.request
            monkeypatch.setattr(hub.nc, "request", None)
            assert (await ask(hub, service))["code"] == "headers"
            monkeypatch.setattr(hub.nc, "request", reading)

    asyncio.run(run())


def test_another_workers_reports_are_told_too_and_one_that_cannot_be_read_stops_no_other(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_hub(tmp_path) as hub, hub.another() as second:
            await took(hub, "KG-O")
            await took(second, "KG-O")
            damaged = Entry(subjects.ledger_report("6wCkK0dMs0G9eJxZ1mW2xQ"), b'{"at":"soon"}', b"not a report")
            await second.ledger.append([damaged])
            await took(hub, "KG-O")
            (row,) = (await ask(second, looked_at(second)))["rows"]
            assert row["count"] == 3

    asyncio.run(run())


def test_only_what_may_be_of_the_last_ninety_days_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with running_hub(tmp_path) as hub:
            await took(hub, "KG-O", "KG-O")
            service = looked_at(hub, 200)
            monkeypatch.setattr(headers, "MAX_READ", 1)
            assert await ask(hub, service) == {"code": "headers", "rows": [], "next": None}
            with pytest.raises(Refused, match="90 days"):
                await ask(hub, service, since=today())

    asyncio.run(run())


def test_what_is_no_request_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_hub(tmp_path) as hub:
            service, aigul = looked_at(hub), hub.roster.nkeys["aigul"]
            for data in (b"", b"[]", b'{"since":"soon"}', b'{"since":20261101}', b'{"skip":-1}', b'{"id":"x"}'):
                with pytest.raises(Malformed):
                    await service.answer(aigul, data)
            far = {"since": "2999-01-01", "skip": 2**53}
            assert (await service.answer(aigul, json.dumps(far).encode()))["rows"] == []

    asyncio.run(run())


@pytest.mark.parametrize("who", ["osh", "unrcca", "batken", "council"])
def test_nobody_but_a_coordinator_is_answered(tmp_path: Path, who: str) -> None:
    async def run() -> None:
        async with running_hub(tmp_path) as hub:
            await took(hub, "KG-O")
            for asked in ({}, {"since": "soon"}):
                with pytest.raises(Refused) as caught:
                    await ask(hub, looked_at(hub), who, **asked)
                assert caught.value.code == "not-admitted"

    asyncio.run(run())
