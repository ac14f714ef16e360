"""New rules hold at the hub and on every member that is online within seconds, and nothing is routed by a mixture."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from kengele_node import member as member_module
from kengele_node.coordinator import documents as papers
from kengele_node.demo.network import Network
from kengele_node.errors import NotAdmitted
from kengele_node.link import Link
from kengele_node.member import Member, Session
from kengele_schemas import metadata, subjects
from kengele_schemas.errors import Unreachable
from kengele_schemas.fields import read
from kengele_schemas.policy import PolicyFile, Rule
from kengele_schemas.trusted import Trusted
from kengele_testing.network import small_network, until
from kengele_testing.server import member_credentials, running_broker

pytestmark = pytest.mark.full
WITHIN = 5.0
"""Seconds in which a new version is in force on members that are online; it is a promise to coordinators."""


async def in_force(network: Network) -> tuple[Rule, ...]:
    files = await network.files("aigul")
    return read(PolicyFile, metadata.document_of(files, "policy.json")).rules


def test_a_new_version_is_in_force_on_online_members_within_five_seconds(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path) as network, AsyncExitStack() as stack:
            seen: dict[str, int] = {}

            async def follow(name: str, member: Member) -> None:
                session = await stack.enter_async_context(member.session())

                def took(trusted: Trusted) -> None:
                    seen[name] = trusted.policy.version

                await stack.enter_async_context(session.kept_current(took))

            for name, member in {**network.monitors, **network.offices}.items():
                await follow(name, member)
            await until(lambda: len(seen) == len(network.monitors) + len(network.offices))
            before = max(seen.values())
            rules = (await in_force(network))[:3]
            await network.publish(lambda files: papers.adopt(files, rules), ("aigul", "moussa"))
            published = time.monotonic()
            await until(lambda: set(seen.values()) == {before + 1})
            assert time.monotonic() - published < WITHIN

    asyncio.run(run())


def test_who_was_away_when_the_rules_changed_has_them_when_the_line_is_back(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            seen: list[int] = []
            async with (
                network.monitors["osh"].session() as session,
                session.kept_current(lambda trusted: seen.append(trusted.policy.version)),
            ):
                await until(lambda: bool(seen))
                network.hub.kill()
                await until(lambda: not session.link.connected)
                await network.hub.start()
                rules = (await in_force(network))[:3]
                await network.publish(lambda files: papers.adopt(files, rules), ("aigul", "moussa"))
                await until(lambda: seen[-1] == seen[0] + 1, 60)

    asyncio.run(run())


def test_nobody_but_the_hub_tells_news_and_a_joiner_hears_none(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path) as network:
            osh, batken = network.monitors["osh"], network.monitors["batken"]
            heard: list[int] = []
            async with (
                osh.session() as one,
                batken.session() as other,
                other.kept_current(lambda trusted: heard.append(trusted.version)),
            ):
                await until(lambda: len(heard) == 1)
                with pytest.raises((Unreachable, NotAdmitted)):
                    await one.link.request(subjects.NEWS, b"99", timeout=1)
                await other.refresh()
                assert len(heard) == 1

    asyncio.run(run())


def listening(monkeypatch: pytest.MonkeyPatch, versions: Callable[[], int]) -> list[int]:
    """Has members spread their asking over a twentieth of a second; gives the list of what each asking finds."""
    looked: list[int] = []

    async def refresh(_: Session) -> Any:
        looked.append(versions())
        return SimpleNamespace(version=looked[-1])

    monkeypatch.setattr(member_module, "_SPREAD", 0.05)
    monkeypatch.setattr(Session, "refresh", refresh)
    return looked


@asynccontextmanager
async def following(tmp_path: Path) -> AsyncIterator[tuple[Client, Link]]:
    """The hub's line and a member's; the member keeps its rules current."""
    async with running_broker(tmp_path) as (broker, keys), member_credentials(keys, "monitor").link(broker.url) as link:
        hub = await broker.access.connect()
        async with Session(cast(Any, None), link).kept_current(lambda _: None):
            await link.wait_connected(60)
            yield hub, link
        await hub.close()


def test_only_a_bare_number_above_the_known_one_is_news(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Link._heard
    woke: list[tuple[bytes, bool]] = []

    async def noted(link: Link, message: Msg) -> None:
        await heard(link, message)
        # Each by itself: what a member looks for together would hide which of it woke the member.
        woke.append((message.data, link._news.is_set()))
        link._news.clear()

    monkeypatch.setattr(Link, "_heard", noted)
    none = [
        b"",
        b"7",
        b"6",
        b"-9",
        b"9.5",
        b"1e9",
        b'"9"',
        b"[9]",
        b" 9",
        b"9\n",
        b"true",
        b"9" * 16,
        "\u0669".encode(),
    ]

    async def run() -> None:
        async with (
            running_broker(tmp_path) as (broker, keys),
            member_credentials(keys, "monitor").link(broker.url) as link,
        ):
            await link.wait_connected(60)
            link._news.clear()
            link.known = 7
            hub = await broker.access.connect()
            for news in (*none, b"8"):
                await hub.publish(subjects.NEWS, news)
            await until(lambda: len(woke) == len(none) + 1)
            assert woke == [*((news, False) for news in none), (b"8", True)]
            await hub.close()

    asyncio.run(run())


def test_a_hub_that_tells_of_ever_higher_versions_makes_a_member_look_ever_more_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = listening(monkeypatch, lambda: 7)

    async def run() -> None:
        async with following(tmp_path) as (hub, _):
            await until(lambda: bool(looked))
            began = time.monotonic()
            number = 8
            while time.monotonic() - began < 3:
                await hub.publish(subjects.NEWS, str(number := number + 1).encode())
                await asyncio.sleep(0.01)
            assert 2 <= len(looked) <= 7

    asyncio.run(run())
