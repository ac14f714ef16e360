"""The embedded broker: it comes up, comes back, goes down, and never runs twice on one store."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kengele_hub import broker as broker_module
from kengele_hub import credentials, jetstream, streams
from kengele_hub.broker import Broker, HubKeys, Settings, Tls, configuration
from kengele_hub.errors import Unavailable
from kengele_schemas import subjects
from kengele_schemas.encoding import b64u, unb64u
from kengele_schemas.errors import Unreachable
from kengele_testing.certificates import make_certificate
from kengele_testing.seeds import seeds
from kengele_testing.server import member_credentials, running_broker


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Polls a condition that no event announces."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# nats-py passes aiohttp a number of seconds where it now wants an object.
websockets = pytest.mark.filterwarnings("ignore:parameter 'timeout' of type 'float':DeprecationWarning")


def test_the_configuration_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    config = configuration(HubKeys.create(tmp_path), Settings(max_store=1000), tmp_path)

    assert config["jetstream"]["sync_interval"] == "always"
    assert config["jetstream"]["max_file_store"] == 1000
    assert config["max_payload"] == 1024 * 1024


def test_the_configuration_preloads_no_account_that_revocations_stand_in(tmp_path: Path) -> None:
    keys = HubKeys.create(tmp_path)
    config = configuration(keys, Settings(), tmp_path)

    assert set(config["resolver_preload"]) == {keys.accounts.system.public}
    assert config["resolver"]["type"] == "full"


def test_the_configuration_opens_no_port_that_was_not_asked_for(tmp_path: Path) -> None:
    config = configuration(HubKeys.create(tmp_path), Settings(), tmp_path)

    assert config["host"] == "127.0.0.1"
    assert not {
        "http",
        "http_port",
        "https",
        "https_port",
        "websocket",
        "mqtt",
        "leafnodes",
        "cluster",
        "gateway",
    } & set(config)


def test_the_configuration_holds_no_seed(tmp_path: Path) -> None:
    keys = HubKeys.create(tmp_path)
    text = str(configuration(keys, Settings(), tmp_path))

    # The configuration on the disk is this document; the accounts that are pushed hold none either.
    accounts = keys.accounts
    text += credentials.hub_account(accounts, now=1) + credentials.nodes_account(accounts, {}, now=1)
    text += "".join(unb64u(jwt.split(".")[1]).decode() for jwt in re.findall(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", text))
    everything = seeds(tmp_path)
    pairs = (
        *(accounts.operator, accounts.system, accounts.hub, accounts.nodes),
        *accounts.signing.values(),
        keys.hub_user,
        keys.system_user,
    )
    assert {pair.seed for pair in pairs} <= set(everything)
    assert {b64u(bytes(key)) for key in (keys.hub_key, keys.snapshot_key, keys.timestamp_key)} <= set(everything)
    assert [seed for seed in everything if seed in text] == []


def test_with_tls_the_handshake_comes_before_anything_else(tmp_path: Path) -> None:
    tls = Tls(tmp_path / "c.pem", tmp_path / "k.pem")
    config = configuration(HubKeys.create(tmp_path), Settings(tls=tls, websocket_port=-1), tmp_path)

    assert config["tls"]["handshake_first"] is True
    assert config["tls"]["min_version"] == config["websocket"]["tls"]["min_version"] == "1.3"
    assert config["websocket"]["no_tls"] is False


@pytest.mark.full
def test_a_program_that_is_no_broker_is_reported_and_leaves_nothing_behind(tmp_path: Path) -> None:
    keys = HubKeys.create(tmp_path)

    async def run() -> None:
        for program in ("/bin/false", str(tmp_path / "none")):
            broker = Broker(keys, Settings(port=-1, program=program))
            with pytest.raises(Unavailable) as caught:
                await broker.start()
            assert caught.value.code == "broker-failed"
            assert broker.pid is None

    asyncio.run(run())


@pytest.mark.full
def test_only_the_hub_has_storage(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_broker(tmp_path) as (broker, _):
            nc = await broker.access.connect()
            info = await nc.jetstream().account_info()
            assert info.limits.max_storage == -1
            await nc.close()

    asyncio.run(run())


@pytest.mark.full
def test_a_stopped_broker_is_gone_and_its_home_free(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_broker(tmp_path) as (broker, keys):
            pid = broker.pid
            assert pid is not None
            assert alive(pid)
        assert not alive(pid)
        assert broker.pid is None
        async with Broker(keys, Settings(port=-1)) as again:
            assert again.pid not in (None, pid)

    asyncio.run(run())


@pytest.mark.full
def test_a_second_broker_on_one_home_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with running_broker(tmp_path) as (broker, keys):
            monkeypatch.setattr(broker_module, "_GONE", 0.2)
            with pytest.raises(Unavailable) as caught:
                await Broker(keys, Settings(port=-1)).start()
            assert caught.value.code == "broker-locked"
            assert str(broker.pid) in caught.value.mend
            monkeypatch.undo()

    asyncio.run(run())


@pytest.mark.full
def test_a_broker_that_outlives_its_hub_still_keeps_the_next_one_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the kernel cannot end it: the hub's descriptor is gone, the broker's own copy holds the lock."""

    async def run() -> None:
        async with running_broker(tmp_path) as (broker, keys):
            assert broker._lock is not None
            os.close(broker._lock)
            broker._lock = None
            monkeypatch.setattr(broker_module, "_GONE", 0.2)
            with pytest.raises(Unavailable) as caught:
                await Broker(keys, Settings(port=-1)).start()
            assert caught.value.code == "broker-locked"
            monkeypatch.undo()

    asyncio.run(run())


@pytest.mark.full
def test_a_broker_that_dies_comes_back_on_its_port_with_its_streams_and_members(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_broker(tmp_path) as (broker, keys):
            nc = await broker.access.connect()
            await streams.ensure_streams(nc)
            await jetstream.publish_batch(nc, [(subjects.ledger_report("a"), b"kept", {})])
            monitor, url, pid = member_credentials(keys, "monitor"), broker.url, broker.pid
            assert pid is not None
            async with monitor.link(url) as link:
                await link.wait_connected(60)
                os.kill(pid, signal.SIGKILL)
                await until(lambda: broker.pid not in (None, pid))
                assert broker.url == url
                await until(lambda: nc.is_connected)
                kept = await jetstream.last(nc, subjects.LEDGER, subjects.ledger_report("a"))
                assert kept is not None
                assert kept[:2] == (1, b"kept")
                await link.wait_connected(60)
            await nc.close()

    asyncio.run(run())


HUB = """
import asyncio, sys
from pathlib import Path
from kengele_hub.broker import Broker, HubKeys, Settings

async def run():
    async with Broker(HubKeys.load(Path(sys.argv[1])), Settings(port=-1)) as broker:
        print(broker.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(run())
"""


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")
def test_a_killed_hub_leaves_no_broker_and_the_next_hub_starts(tmp_path: Path) -> None:
    keys = HubKeys.create(tmp_path)

    async def run(pid: int) -> None:
        await until(lambda: not alive(pid))
        async with Broker(keys, Settings(port=-1)) as broker:
            assert broker.pid is not None

    with subprocess.Popen([sys.executable, "-c", HUB, str(tmp_path)], stdout=subprocess.PIPE, text=True) as hub:
        assert hub.stdout is not None
        pid = int(hub.stdout.readline())
        assert alive(pid)
        hub.kill()
    asyncio.run(run(pid))


@pytest.mark.full
@websockets
def test_a_member_connects_by_tls_and_by_websocket_over_tls(tmp_path: Path) -> None:
    tls, context = make_certificate(tmp_path)

    async def run() -> None:
        async with running_broker(tmp_path, tls=tls, websocket_port=-1) as (broker, keys):
            assert broker.url.startswith("tls://")
            assert broker.websocket_url.startswith("wss://")
            for url in (broker.url, broker.websocket_url):
                async with member_credentials(keys, "monitor").link(url, tls=context) as link:
                    await link.wait_connected(60)

    asyncio.run(run())


@pytest.mark.full
def test_a_broker_with_tls_talks_to_nobody_without(tmp_path: Path) -> None:
    tls, _ = make_certificate(tmp_path)

    async def run() -> None:
        async with running_broker(tmp_path, tls=tls) as (broker, keys):
            plain = broker.url.replace("tls:", "nats:")
            async with member_credentials(keys, "monitor").link(plain) as link:
                with pytest.raises(Unreachable):
                    await link.wait_connected(1)

    asyncio.run(run())


@pytest.mark.full
@websockets
def test_a_member_does_not_trust_another_certificate(tmp_path: Path) -> None:
    tls, _ = make_certificate(tmp_path)
    (tmp_path / "other").mkdir()
    _, stranger = make_certificate(tmp_path / "other")

    async def run() -> None:
        async with running_broker(tmp_path, tls=tls, websocket_port=-1) as (broker, keys):
            for url in (broker.url, broker.websocket_url):
                async with member_credentials(keys, "monitor").link(url, tls=stranger) as link:
                    with pytest.raises(Unreachable):
                        await link.wait_connected(1)

    asyncio.run(run())
