"""The node's line: honest when away, back by itself, and never a queue behind the caller's back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from kengele_hub import credentials, feeds, jetstream
from kengele_hub.broker import Broker
from kengele_hub.home import HubKeys
from kengele_node import link as link_module
from kengele_node.bus import Bus, Delivery
from kengele_node.errors import NotAdmitted, Paused
from kengele_node.link import Link
from kengele_schemas import subjects
from kengele_schemas.errors import Malformed, Refused, Unreachable
from kengele_schemas.nkeys import KeyPair
from kengele_testing.server import Member, member_credentials, running_broker

KEY = KeyPair.generate("user")
SUBMIT = subjects.reports_submit(KEY.public)
NOWHERE = "nats://127.0.0.1:1"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    "urls",
    [
        [],
        [""],
        ["hub.example.org"],
        ["http://hub.example.org"],
        ["tls://"],
        ["tls://hub.example.org:99999"],
        ["tls://hub.example.org:x"],
        ["tls://user:secret@hub.example.org"],
        ["tls://hüb.example.org"],
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_sent(urls: list[str]) -> None:
    with pytest.raises(Malformed):
        Link(urls, "", KEY)


@pytest.mark.parametrize("url", ["nats://hub.example.org", "ws://192.0.2.1", "nats://localhost.example.org"])
def test_nothing_leaves_this_machine_unencrypted_unless_asked_for(url: str) -> None:
    with pytest.raises(Malformed) as caught:
        Link([url], "", KEY)
    assert caught.value.code == "plain-connection"
    Link([url], "", KEY, allow_plain=True)
    for local in ("nats://127.0.0.1:4222", "ws://localhost:8080", "nats://[::1]:4222"):
        Link([local], "", KEY)


def test_a_line_that_is_away_says_so_at_once() -> None:
    async def run() -> None:
        async with Link([NOWHERE], "", KEY) as link:
            started = time.monotonic()
            bus: Bus = link
            for work in (
                bus.request(SUBMIT, b"", 30),
                bus.fetch(subjects.feed_stream(KEY.public), subjects.feed_consumer(KEY.public), 10, 30),
                bus.acknowledge(Delivery(b"", 1, 1, "$JS.ACK.x"), confirm=True),
            ):
                with pytest.raises(Unreachable):
                    await work
            assert time.monotonic() - started < 15
            with pytest.raises(Unreachable):
                await link.wait_connected(0.05)
            assert not link.connected

    asyncio.run(run())


def test_a_line_leaves_no_task_behind() -> None:
    async def run() -> None:
        async with Link([NOWHERE], "", KEY) as link:
            with pytest.raises(Unreachable):
                await link.wait_connected(0.05)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_the_waits_double_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[float] = []

    def shortest(_: float, bound: float) -> float:
        bounds.append(bound)
        return 0.0

    monkeypatch.setattr(link_module.random, "uniform", shortest)

    async def run() -> None:
        async with Link([NOWHERE], "", KEY, first_wait=1, longest_wait=5), asyncio.timeout(60):
            while len(bounds) < 5:
                await asyncio.sleep(0.001)

    asyncio.run(run())
    assert bounds[:5] == [2, 4, 5, 5, 5]


def test_a_tls_address_is_never_talked_to_without_tls() -> None:
    """Who sits on the line can send a greeting that does not ask for TLS; nothing may follow but a TLS handshake."""
    received = bytearray()

    async def imposter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.15.1","max_payload":1048576,"nonce":"abc"}\r\n')
        received.extend(await reader.read(65536))
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(imposter, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with Link([f"tls://127.0.0.1:{port}"], "jwt", KEY) as link:
            with pytest.raises(Unreachable):
                await link.wait_connected(0.5)
        server.close()
        await server.wait_closed()

    asyncio.run(run())
    assert received[:1] == b"\x16"  # a TLS handshake record
    assert b"CONNECT" not in received
    assert b"jwt" not in received


@pytest.mark.parametrize(
    "greeting",
    [
        b"",
        b"\r\n",
        b"INFO\r\n",
        b"INFO {\r\n",
        b"INFO []\r\n",
        b'INFO {"connect_urls":7}\r\n',
        b'INFO {"max_payload":"x","nonce":7}\r\n',
        b"INFO {}\r\n\xff\xfe",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
def test_no_greeting_ends_the_supervision(greeting: bytes) -> None:
    connections = 0

    async def imposter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(greeting)
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(imposter, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with Link([f"nats://127.0.0.1:{port}"], "jwt", KEY, first_wait=0.001, longest_wait=0.01) as link:
            await until(lambda: connections >= 3)
            with pytest.raises(Unreachable):
                await link.request(SUBMIT, b"")
        server.close()
        await server.wait_closed()

    asyncio.run(run())


Handler = Callable[[Msg], Awaitable[None]]


async def echo(message: Msg) -> None:
    await message.respond(message.data + b"!")


@asynccontextmanager
async def hub_and_link(
    tmp_path: Path, handler: Handler = echo
) -> AsyncIterator[tuple[Broker, Client, Member, Link, list[bytes]]]:
    """A broker, a hub that notes and handles reports, and an office's line with a feed."""
    heard: list[bytes] = []

    async def note(message: Msg) -> None:
        heard.append(message.data)
        await handler(message)

    async with running_broker(tmp_path) as (broker, keys):
        nc = await broker.access.connect()
        await nc.subscribe(subjects.SUBMISSIONS, cb=note)
        member = member_credentials(keys, "office")
        await feeds.ensure_feed(nc, member.nkey, ack_wait=1)
        async with member.link(broker.url) as link:
            await link.wait_connected(60)
            yield broker, nc, member, link, heard
        await nc.close()


async def silence(_: Msg) -> None:
    """A hub that does not answer."""


def kill(broker: Broker) -> None:
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGKILL)


async def deliver(nc: Client, nkey: str, *payloads: bytes) -> None:
    await jetstream.publish_batch(nc, [(subjects.feed_subject(nkey), payload, {}) for payload in payloads])


async def fetch(link: Link, nkey: str, timeout: float = 5) -> list[Delivery]:
    return await link.fetch(subjects.feed_stream(nkey), subjects.feed_consumer(nkey), 10, timeout)


@pytest.mark.full
def test_a_request_is_answered(tmp_path: Path) -> None:
    async def run() -> None:
        async with hub_and_link(tmp_path) as (_, _, member, link, _):
            answers = await asyncio.gather(
                *(link.request(subjects.reports_submit(member.nkey), b"%d" % i) for i in range(20))
            )
            assert answers == [b"%d!" % i for i in range(20)]

    asyncio.run(run())


@pytest.mark.full
def test_a_request_that_nobody_serves_or_answers_is_unreachable(tmp_path: Path) -> None:
    async def run() -> None:
        async with hub_and_link(tmp_path, silence) as (_, _, member, link, heard):
            with pytest.raises(Unreachable):
                await link.request(subjects.trust_get(member.nkey), b"", 30)
            with pytest.raises(Unreachable):
                await link.request(subjects.reports_submit(member.nkey), b"unanswered", 0.2)
            assert heard == [b"unanswered"]

    asyncio.run(run())


@pytest.mark.full
def test_what_is_too_large_is_refused_and_not_tried_again(tmp_path: Path) -> None:
    async def run() -> None:
        async with hub_and_link(tmp_path) as (_, _, member, link, heard):
            with pytest.raises(Refused) as caught:
                await link.request(subjects.reports_submit(member.nkey), bytes(1024 * 1024 + 1))
            assert caught.value.code == "oversized"
            assert await link.request(subjects.reports_submit(member.nkey), b"small") == b"small!"
            assert heard == [b"small"]

    asyncio.run(run())


@pytest.mark.full
def test_a_lost_line_ends_what_waits_on_it_and_sends_nothing_later(tmp_path: Path) -> None:
    async def run() -> None:
        async with hub_and_link(tmp_path, silence) as (broker, nc, member, link, heard):
            submit = subjects.reports_submit(member.nkey)
            waiting = [
                asyncio.create_task(link.request(submit, b"before", 60)),
                asyncio.create_task(fetch(link, member.nkey, 60)),
            ]
            await until(lambda: heard == [b"before"])
            kill(broker)
            async with asyncio.timeout(60):
                assert [type(error) for error in await asyncio.gather(*waiting, return_exceptions=True)] == [
                    Unreachable,
                    Unreachable,
                ]
            with pytest.raises(Unreachable):
                await link.request(submit, b"while away")
            await link.wait_connected(60)
            await until(lambda: nc.is_connected)
            with pytest.raises(Unreachable):
                await link.request(submit, b"after", 0.5)
            assert heard == [b"before", b"after"]

    asyncio.run(run())


@pytest.mark.full
def test_what_is_delivered_comes_again_until_it_is_acknowledged(tmp_path: Path) -> None:
    async def run() -> None:
        async with hub_and_link(tmp_path) as (_, nc, member, link, _):
            assert await fetch(link, member.nkey, 0) == []
            await deliver(nc, member.nkey, b"one", b"two", b"three")
            first = await fetch(link, member.nkey)
            assert [(d.data, d.sequence, d.attempt) for d in first] == [
                (b"one", 1, 1),
                (b"two", 2, 1),
                (b"three", 3, 1),
            ]
            await link.acknowledge(first[0], confirm=True)
            await link.acknowledge(first[2])
            (again,) = await fetch(link, member.nkey)
            assert (again.data, again.attempt) == (b"two", 2)
            await link.acknowledge(again, confirm=True)
            await link.acknowledge(again, confirm=True)
            assert await fetch(link, member.nkey, 1.5) == []

    asyncio.run(run())


@pytest.mark.full
def test_a_fetch_waits_for_the_first_message_and_no_longer(tmp_path: Path) -> None:
    async def run() -> None:
        async with hub_and_link(tmp_path) as (_, nc, member, link, _):
            started = time.monotonic()
            assert await fetch(link, member.nkey, 0.2) == []
            assert time.monotonic() - started < 15
            waiting = asyncio.create_task(fetch(link, member.nkey, 30))
            await asyncio.sleep(0.1)
            await deliver(nc, member.nkey, b"late")
            async with asyncio.timeout(60):
                assert [d.data for d in await waiting] == [b"late"]

    asyncio.run(run())


@pytest.mark.full
def test_a_fetch_given_up_does_not_swallow_the_next_message(tmp_path: Path) -> None:
    async def run() -> None:
        async with hub_and_link(tmp_path) as (_, nc, member, link, _):
            waiting = asyncio.create_task(fetch(link, member.nkey, 30))
            await asyncio.sleep(0.1)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await deliver(nc, member.nkey, b"next")
            (delivery,) = await fetch(link, member.nkey)
            assert (delivery.data, delivery.attempt) == (b"next", 1)

    asyncio.run(run())


@pytest.mark.full
def test_many_fetches_leave_no_subscription_behind(tmp_path: Path) -> None:
    async def run() -> None:
        async with hub_and_link(tmp_path) as (_, _, member, link, _):
            for _ in range(50):  # more than the broker allows at once
                assert await fetch(link, member.nkey, 0) == []
            assert await link.request(subjects.reports_submit(member.nkey), b"x") == b"x!"

    asyncio.run(run())


@pytest.mark.full
def test_a_revoked_node_learns_that_it_is_not_admitted_and_keeps_asking(tmp_path: Path) -> None:
    async def run() -> None:
        async with hub_and_link(tmp_path) as (broker, _, member, link, _):
            await broker.access.revoke([member.nkey])
            await until(lambda: not link.connected)
            with pytest.raises(NotAdmitted):
                await link.wait_connected(1)
            with pytest.raises(NotAdmitted):
                await link.request(subjects.reports_submit(member.nkey), b"")

    asyncio.run(run())


def renewing(keys: HubKeys, member: Member) -> Callable[[], Awaitable[str]]:
    """How the hub issues another JWT for ``member``."""

    async def renew() -> str:
        return credentials.member(keys.accounts, member.nkey, "monitor", now=int(time.time()))

    return renew


@pytest.mark.full
def test_a_paused_node_says_so_and_comes_back_by_itself_after_the_pause(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_broker(tmp_path) as (broker, keys):
            member = member_credentials(keys, "monitor")
            told: list[str] = []
            async with member.link(broker.url, renew=renewing(keys, member)) as link:
                link.told = told.append
                await link.wait_connected(60)
                until_then = int(time.time()) + 3
                await broker.access.pause({member.nkey: until_then})
                await until(lambda: "paused" in told)
                with pytest.raises(Paused):
                    await link.request(subjects.reports_submit(member.nkey), b"")
                await until(lambda: link.connected)
                assert time.time() > until_then
            assert [state for state in told if state != "away"] == ["up", "paused", "up"]

    asyncio.run(run())


@pytest.mark.full
def test_a_node_whose_jwt_has_run_out_or_is_from_before_a_pause_is_given_another_and_nobody_is_alarmed(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        async with running_broker(tmp_path) as (broker, keys):
            late, old = member_credentials(keys, "monitor", expires=1), member_credentials(keys, "monitor")
            await broker.access.pause({old.nkey: int(time.time())})
            for member in (late, old):
                told: list[str] = []
                async with member.link(broker.url, renew=renewing(keys, member)) as link:
                    link.told = told.append
                    await link.wait_connected(60)
                assert "denied" not in told

    asyncio.run(run())


@pytest.mark.full
def test_a_revoked_node_is_not_called_paused_nor_brought_back_by_a_pause(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_broker(tmp_path) as (broker, keys):
            member = member_credentials(keys, "monitor")
            told: list[str] = []
            answers: list[Exception] = [NotAdmitted(), Unreachable("unreachable", "No line."), NotAdmitted()]
            enough = asyncio.Event()

            async def renew() -> str:
                if len(answers) == 1:
                    enough.set()
                raise answers[0] if len(answers) == 1 else answers.pop(0)

            async with member.link(broker.url, renew=renew) as link:
                link.told = told.append
                await link.wait_connected(60)
                await broker.access.revoke([member.nkey])
                await broker.access.pause({member.nkey: int(time.time()) - 1})
                async with asyncio.timeout(60):
                    await enough.wait()
                with pytest.raises(NotAdmitted) as caught:
                    await link.wait_connected(0.1)
            assert caught.value.code == "not-admitted"
            assert [state for state in told if state != "away"] == ["up", "denied"]

    asyncio.run(run())


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:parameter 'timeout' of type 'float':DeprecationWarning")
def test_a_line_over_websocket_comes_back_too(tmp_path: Path) -> None:
    async def run() -> None:
        async with (
            running_broker(tmp_path, websocket_port=-1) as (broker, keys),
            member_credentials(keys, "monitor").link(broker.websocket_url) as link,
        ):
            await link.wait_connected(60)
            kill(broker)
            await until(lambda: not link.connected)
            await link.wait_connected(60)

    asyncio.run(run())


@pytest.mark.full
def test_who_follows_is_told_once_each_time_that_the_line_comes_and_goes(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_broker(tmp_path) as (broker, keys):
            member = member_credentials(keys, "monitor")
            told: list[str] = []
            async with member.link(broker.url) as link:
                link.told = told.append
                await until(lambda: told == ["up"])
                kill(broker)
                await until(lambda: told == ["up", "away", "up"])
                await broker.access.revoke([member.nkey])
                await until(lambda: told[3:] == ["away", "denied"] or told[3:] == ["denied"])
            assert told[-1] == "denied"

    asyncio.run(run())


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:parameter 'timeout' of type 'float':DeprecationWarning")
def test_where_only_one_kind_of_address_gets_through_the_line_finds_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_broker(tmp_path, websocket_port=-1) as (broker, keys):
            member = member_credentials(keys, "monitor")
            for urls in ([NOWHERE, broker.websocket_url], ["ws://127.0.0.1:1", broker.url]):
                async with Link(urls, member.jwt, member.key) as link:
                    await link.wait_connected(60)

    asyncio.run(run())


def test_a_connection_that_breaks_under_unsent_bytes_is_noticed_and_made_anew(tmp_path: Path) -> None:
    """nats-py then fails while it closes and never calls back: its client is closed and nobody is told."""

    async def run() -> None:
        async with (
            running_broker(tmp_path) as (broker, keys),
            member_credentials(keys, "monitor").link(broker.url) as link,
        ):
            await link.wait_connected(60)
            client = link._client
            assert client is not None

            async def broken() -> None:
                raise ConnectionResetError

            client._transport.drain = broken
            client._pending, client._pending_data_size = [b""], 1
            with pytest.raises(ConnectionResetError):
                await client._process_op_err(ConnectionResetError())
            assert client.is_closed
            await until(lambda: link._client is not client)
            await link.wait_connected(60)

    asyncio.run(run())
