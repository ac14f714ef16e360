"""The worker: every request gets one answer, and none stops another. Against a real broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from kengele_hub import credentials
from kengele_schemas import subjects
from kengele_schemas.encoding import loads
from kengele_schemas.nkeys import KeyPair
from kengele_testing.hub import Hub, running_hub

pytestmark = pytest.mark.full
CANARY = "Zq7CANARYx9"


def run(tmp_path: Path, claim: Callable[[Hub], Awaitable[None]], **options: Any) -> None:
    """Holds ``claim`` against a founded hub."""

    async def against_a_hub() -> None:
        async with running_hub(tmp_path, **options) as hub, asyncio.timeout(60):
            await claim(hub)

    asyncio.run(against_a_hub())


def test_a_request_that_fails_unforeseen_is_answered_and_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(hub: Hub) -> None:
        async def failing(*_: Any) -> dict[str, Any]:
            raise RuntimeError(CANARY)

        monkeypatch.setattr(hub.worker.reception, "answer_publish", failing)
        aigul = hub.roster.nkeys["aigul"]
        async with hub.running("worker"):
            with capture_logs() as logs:
                answer = await hub.nc.request(subjects.publish_metadata(aigul), b"{}", timeout=10)
            assert json.loads(answer.data)["code"] == "hub-unavailable"
            assert CANARY not in str(logs) + answer.data.decode()
            answer = await hub.nc.request(subjects.join_credentials(aigul), b"{}", timeout=10)
            assert json.loads(answer.data)["code"] == "admitted"

    run(tmp_path, claim)


def test_a_request_under_a_name_that_is_no_key_is_answered_and_kept_nowhere(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        async with hub.running("worker"):
            for subject in ("reports.nobody.submit", f"reports.{hub.keys.accounts.hub.public}.submit"):
                answer = await hub.nc.request(subject, hub.roster.sealed(), timeout=10)
                assert json.loads(answer.data)["code"] == "malformed"
            assert (await hub.nc.request("trust.nobody.get", b"{}", timeout=10)).data == b""
            for subject in ("join.nobody.credentials", "publish.nobody.metadata"):
                answer = await hub.nc.request(subject, b"{}", timeout=10)
                assert json.loads(answer.data)["code"] == "malformed"
            assert (await hub.send("osh", hub.roster.sealed()))["code"] == "accepted"
        assert await hub.stored(subjects.REFUSED) == []

    run(tmp_path, claim)


def test_a_stranger_is_given_no_credentials_and_a_member_its_own(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        async with hub.running("worker"):
            for name, role in (("osh", "monitor"), ("unrcca", "office"), ("aigul", "coordinator")):
                nkey = hub.roster.nkeys[name]
                answer = await hub.nc.request(subjects.join_credentials(nkey), b"{}", timeout=10)
                claims = credentials.decode(loads(answer.data, max_bytes=8192)["jwt"])
                assert claims["sub"] == nkey
                assert claims["iss"] == hub.keys.accounts.signing[role].public  # type: ignore[index]
            stranger = KeyPair.generate("user").public
            answer = await hub.nc.request(subjects.join_credentials(stranger), b"{}", timeout=10)
            assert loads(answer.data, max_bytes=8192)["code"] == "not-admitted"

    run(tmp_path, claim)
