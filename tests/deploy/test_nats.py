"""The broker's configurations in deploy/nats, each started for real with what the hub exports, and a hub upon it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kengele_hub import streams
from kengele_hub.access import Access
from kengele_hub.broker import Broker
from kengele_hub.broker import Settings as BrokerSettings
from kengele_hub.home import HubKeys
from kengele_hub.service import Running, run
from kengele_hub.settings import Settings
from kengele_node.cli import main
from kengele_schemas import subjects
from kengele_schemas.encoding import b64u
from kengele_testing.certificates import make_certificate
from kengele_testing.hub import TOKEN, Roster
from kengele_testing.nats import CONFIGURATIONS, Server, cluster, started
from kengele_testing.server import member_credentials

pytestmark = [
    pytest.mark.full,
    pytest.mark.timeout(150),
    # nats-py's WebSocket over TLS calls aiohttp in a way that aiohttp will not know for ever.
    pytest.mark.filterwarnings("ignore:parameter 'timeout' of type 'float':DeprecationWarning"),
]


@asynccontextmanager
async def hub(keys: HubKeys, url: str, replicas: int = 1) -> AsyncIterator[tuple[Running, Roster]]:
    """A founded hub on an external broker."""
    begun: asyncio.Queue[Running] = asyncio.Queue()
    token_hash = b64u(hashlib.sha256(TOKEN).digest())
    settings = Settings(external=url, replicas=replicas, ops_port=0, token_hash=token_hash)  # type: ignore[arg-type]
    living = asyncio.create_task(run(keys, settings, begun.put_nowait))
    try:
        async with asyncio.timeout(60):
            starting = asyncio.create_task(begun.get())
            await asyncio.wait((living, starting), return_when=asyncio.FIRST_COMPLETED)
            if living.done():
                living.result()
            running = await starting
            roster = Roster()
            roster.hub, roster.snapshot, roster.timestamp = keys.hub_key, keys.snapshot_key, keys.timestamp_key
            await running.authority.found(b64u(TOKEN), roster.first())
        yield running, roster
    finally:
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)


async def answered(keys: HubKeys, url: str, context: Any) -> str:
    """The code with which the hub answers a stranger's report sent by ``url``."""
    member = member_credentials(keys, "monitor")
    async with member.link(url, tls=context) as link:
        await link.wait_connected(60)
        return str(json.loads(await link.request(subjects.reports_submit(member.nkey), b"x"))["code"])


def exported(tmp_path: Path, **options: Any) -> tuple[HubKeys, Path]:
    keys = HubKeys.create(tmp_path / "hub")
    Access(keys, "").export(tmp_path / "exported", **options)
    return keys, tmp_path / "exported"


def test_one_server_carries_a_hub_and_members_by_tls_and_by_websocket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        keys, written = exported(tmp_path, max_store=2**32)
        tls, context = make_certificate(tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(tls.certificate))
        server = Server(tmp_path / "nats", written, tls, "server.conf", {})
        assert server.tested().returncode == 0, server.tested().stderr
        with started([server]):
            async with hub(keys, server.url):
                for url in (server.url, server.websocket_url):
                    assert await answered(keys, url, context) == "unknown-monitor"
                (facts,) = await Access(keys, server.url).servers()
                assert facts["jetstream"]["config"]["sync_always"] is True
                assert facts["jetstream"]["config"]["max_storage"] == 2**32

    asyncio.run(scenario())


def test_three_servers_keep_every_stream_and_any_one_may_be_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        keys, written = exported(tmp_path)
        tls, context = make_certificate(tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(tls.certificate))
        three = cluster(tmp_path, written, tls)
        for server in three:
            assert server.tested().returncode == 0, server.tested().stderr
        with started(three):
            async with hub(keys, three[0].url, replicas=3) as (running, roster):
                nc = running.authority.nc
                state = await streams.stream(nc, subjects.LEDGER)
                assert state is not None
                assert state["config"]["num_replicas"] == 3
                assert len(state["cluster"]["replicas"]) == 2
                three[2].kill()
                async with asyncio.timeout(60):
                    code = ""
                    while code != "accepted":
                        answer = await nc.request(subjects.reports_submit(roster.nkeys["osh"]), roster.sealed(), 15)
                        code = json.loads(answer.data)["code"]
                        # As a node does: who sends again and again without a pause is paused.
                        await asyncio.sleep(0.5)
                assert await answered(keys, three[1].url, context) == "unknown-monitor"

    asyncio.run(scenario())


def test_a_server_without_the_clusters_certificate_does_not_join_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, written = exported(tmp_path)
    tls, _ = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.certificate))
    (tmp_path / "other").mkdir()
    foreign, _ = make_certificate(tmp_path / "other")
    first, second, stranger = cluster(tmp_path / "c", written, tls)
    site = stranger.directory / "site.conf"
    text = site.read_text().replace(str(tls.certificate), str(foreign.certificate))
    site.write_text(text.replace(str(tls.key), str(foreign.key)))
    with started([first, second]):
        stranger.start()
        try:
            stranger.wait()
            while "TLS route handshake error" not in stranger.log:
                time.sleep(0.02)
            facts = asyncio.run(Access(keys, first.url).servers())
            assert {one["server_name"] for one in facts} == {"nats-1", "nats-2"}
        finally:
            stranger.kill()


def test_a_hub_of_which_nothing_is_left_but_its_backup_is_restored_onto_a_new_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        home, key, copy = tmp_path / "hub", str(tmp_path / "key"), str(tmp_path / "copy")
        tls, _ = make_certificate(tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(tls.certificate))
        assert main(["hub", "init", "--home", str(home), "--port", "4222"]) == 0
        made = ("hub", "backup", copy, "--home", str(home), "--new-key-file", key)
        async with Broker(HubKeys.load(home), BrokerSettings(port=-1)) as broker:
            settings = json.loads((home / "hub.json").read_bytes())
            changed = {**settings, "external": broker.access.url, "max_store": 2**32}
            (home / "hub.json").write_text(json.dumps(changed))
            nc = await broker.access.connect()
            await streams.ensure_streams(nc)
            await nc.close()
            assert await asyncio.to_thread(main, made) == 0
        shutil.rmtree(home)
        written = tmp_path / "exported"
        exporting = ("hub", "export", str(written), "--home", str(home), "--backup", copy, "--key-file", key)
        assert await asyncio.to_thread(main, exporting) == 0
        assert not home.exists()
        server = Server(tmp_path / "nats", written, tls, "server.conf", {})
        with started([server]):
            restoring = ("hub", "restore", copy, "--home", str(home), "--key-file", key, "--external", server.url)
            assert await asyncio.to_thread(main, restoring) == 0
            (facts,) = await Access(HubKeys.load(home), server.url).servers()
            assert facts["jetstream"]["config"]["max_storage"] == 2**32

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["server.conf", "cluster.conf"])
def test_no_configuration_opens_a_monitoring_port_or_takes_back_the_fsync(name: str) -> None:
    text = (CONFIGURATIONS / name).read_text()
    assert "include kengele.conf" in text
    for word in (
        "http:",
        "http_port",
        "https",
        "monitor_port",
        "jetstream",
        "sync_interval:",
        "no_auth_user",
        "operator:",
    ):
        assert word not in "".join(line.split("#")[0] for line in text.splitlines()), word
    assert text.count('min_version: "1.3"') == 2
    assert "handshake_first: true" in text
