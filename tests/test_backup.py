"""A hub is copied while it runs, lost, and restored elsewhere: one identity, no replays, and who was out is out."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from kengele_hub import backup, feeds, jetstream, patience, snapshot, streams
from kengele_hub.broker import Broker
from kengele_hub.broker import Settings as BrokerSettings
from kengele_hub.errors import Unavailable
from kengele_hub.home import HubKeys
from kengele_hub.sealed import Lock, make_key_file
from kengele_hub.settings import Settings
from kengele_node.coordinator import standing
from kengele_node.demo.network import Network
from kengele_node.link import Link
from kengele_node.member import CARD
from kengele_schemas import subjects
from kengele_schemas.encoding import canonical
from kengele_schemas.errors import Damaged, KengeleError, Refused, Unreachable, Untrusted
from kengele_schemas.fields import read
from kengele_schemas.nkeys import KeyPair
from kengele_testing import forked
from kengele_testing.cluster import Cluster, ClusterHub
from kengele_testing.network import draft, fetch_all, sealed, until

pytestmark = pytest.mark.full


def kengele(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "KENGELE_PASSPHRASE"}
    return forked.run(words, cwd=Path.cwd(), env=environment)


async def send(network: Network, name: str, data: bytes) -> dict[str, Any]:
    member = network.monitors[name]
    async with member.session() as session:
        return dict(json.loads(await session.link.request(subjects.reports_submit(member.nkey.public), data)))


def coordinate(network: Network, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    home = network.home / "coordinators" / name
    return kengele("coordinator", *words, "--home", str(home), "--key-file", str(network.home / "key"))


@asynccontextmanager
async def lost_and_replaced(tmp_path: Path, servers: int) -> AsyncIterator[tuple[Network, Callable[[], Any]]]:
    """A network on so many servers or on its own, and what takes them and the hub away and gives where to restore."""
    old, new = (Cluster(tmp_path / name, servers) for name in ("old", "new"))
    network = Network.at(tmp_path / "network")
    if servers:
        network.hub = ClusterHub(network.hub.home, old)

    async def lose() -> list[str]:
        network.hub.kill()
        network.hub.home.rename(tmp_path / "lost")
        if not servers:
            return []
        await old.stop()
        await new.start(tmp_path / "network" / "exported")
        for member in (*network.offices.values(), *network.coordinators.values(), *network.monitors.values()):
            card = {**json.loads((member.home / CARD).read_bytes()), "urls": new.url.split(",")}
            (member.home / CARD).write_bytes(canonical(card))
        return ["--external", new.url]

    try:
        await network.found()
        await network.admit(("osh", "batken"))
        yield network, lose
    finally:
        network.close()
        await old.stop()
        await new.stop()


@pytest.mark.parametrize("servers", [0, 3], ids=["its-own-broker", "three-new-servers"])
@pytest.mark.timeout(300)
def test_a_hub_that_was_lost_goes_on_elsewhere_and_lets_nobody_back_in(tmp_path: Path, servers: int) -> None:
    async def run() -> None:
        async with lost_and_replaced(tmp_path, servers) as (network, lose):
            hub, copy, key = network.hub, tmp_path / "hub.backup", tmp_path / "backup-key"
            async with network.monitors["osh"].session() as session:
                rules = await session.refresh()
            early = sealed(network.monitors["osh"], draft(), rules)
            first = await send(network, "osh", early)
            assert first["code"] == "accepted"
            await fetch_all(network.offices["unrcca"])
            waiting = sealed(network.monitors["osh"], draft(summary={"text": "Second.", "lang": "en"}), rules)
            assert (await send(network, "osh", waiting))["code"] == "accepted"
            await asyncio.to_thread(until_delivered, network)

            taken = await asyncio.to_thread(
                kengele, "hub", "backup", str(copy), "--home", str(hub.home), "--new-key-file", str(key)
            )
            assert taken.returncode == 0, taken.stderr
            late = sealed(network.monitors["osh"], draft(summary={"text": "Third.", "lang": "en"}), rules)
            assert (await send(network, "osh", late))["code"] == "accepted"
            gone = network.monitors["batken"]
            await network.publish(lambda before: standing.remove(before, gone.kid, 1), ("aigul", "moussa"))
            await network.files("aigul")
            with pytest.raises(KengeleError):
                await send(network, "batken", early)

            identity = HubKeys.load(hub.home).hub_key
            where = await lose()
            wrong = await asyncio.to_thread(
                kengele, "hub", "restore", str(copy), "--home", str(hub.home), "--key-file", str(network.home / "key")
            )
            assert (wrong.returncode, hub.home.exists()) == (5, False)
            words = ("restore", str(copy), "--home", str(hub.home), "--key-file", str(key), *where)
            made = await asyncio.to_thread(kengele, "hub", *words)
            assert made.returncode == 0, made.stderr
            assert HubKeys.load(hub.home).hub_key == identity
            await hub.start()
            assert (hub.state() or {})["not_ready"] == ["hub-restored"]

            # Nothing is taken and nobody served under what the copy knows.
            assert (await send(network, "osh", early))["code"] == "hub-unavailable"
            async with network.monitors["osh"].session() as session:
                with pytest.raises(Untrusted):
                    await session.refresh()
            paper = tmp_path / "renewed.json"
            renewed = await asyncio.to_thread(coordinate, network, "aigul", "renew", "--draft", str(paper))
            assert renewed.returncode == 0, renewed.stderr
            alone = await asyncio.to_thread(coordinate, network, "aigul", "publish", str(paper))
            assert alone.returncode == 3
            # The other was not on the line since: what is in force she is brought.
            stick = str(tmp_path / "stick")
            brought = await asyncio.to_thread(coordinate, network, "aigul", "export", "--all", stick)
            assert brought.returncode == 0, brought.stderr
            signing = ("sign", "--yes", str(paper), "--from", stick)
            signed = await asyncio.to_thread(coordinate, network, "nyambura", *signing)
            assert signed.returncode == 0, signed.stderr
            published = await asyncio.to_thread(coordinate, network, "aigul", "publish", str(paper))
            assert published.returncode == 0, published.stderr

            await asyncio.to_thread(until_ready, network)
            again = await send(network, "osh", early)
            assert (again["code"], again["leaf"]) == ("accepted", first["leaf"])
            with pytest.raises((KengeleError, TimeoutError)):
                await send(network, "batken", early)
            for member in (*network.offices.values(), *network.coordinators.values(), network.monitors["osh"]):
                async with member.session() as session:
                    assert (await session.refresh()).fresh
            # What waited in the feed when the copy was made is there; the one fetched before does not come twice.
            items = await fetch_all(network.offices["unrcca"], 2)
            assert len(items) == 2
            fresh = sealed(network.monitors["osh"], draft(summary={"text": "Fourth.", "lang": "en"}), rules)
            assert (await send(network, "osh", fresh))["code"] == "accepted"
            assert len(await fetch_all(network.offices["unrcca"], 3)) == 3

    asyncio.run(run())


def until_delivered(network: Network) -> None:
    asyncio.run(until(lambda: (network.hub.state() or {}).get("undelivered") == 0, 40))


def until_ready(network: Network) -> None:
    asyncio.run(until(lambda: bool((network.hub.state() or {}).get("ready")), 40))


def test_a_hub_that_stands_still_is_copied_and_what_is_no_backup_is_not_restored(tmp_path: Path, home: Path) -> None:
    lock = make_key_file(tmp_path / "key")
    copy = tmp_path / "copy"
    asyncio.run(made_streams(home))
    copied = asyncio.run(backup.take(copy, lock, home))
    assert copied.entries == 0
    with pytest.raises(Refused) as there:
        backup.restore(copy, lock, home)
    assert there.value.code == "exists"
    (tmp_path / "half").write_bytes(copy.read_bytes()[:-40])
    with pytest.raises(Damaged):
        backup.restore(tmp_path / "half", lock, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises((Unreachable, KengeleError)):
        backup.restore(copy, lock, tmp_path / "new", external="nats://127.0.0.1:9")
    assert not (tmp_path / "new").exists()
    assert backup.restore(copy, lock, tmp_path / "new").streams == copied.streams
    assert (tmp_path / "new" / "keys.json").read_bytes() == (home / "keys.json").read_bytes()
    words = Lock(passphrase="correct horse battery")
    with pytest.raises(KengeleError):
        backup.restore(copy, words, tmp_path / "other")


@asynccontextmanager
async def on_broker(home: Path) -> AsyncIterator[tuple[Broker, Client]]:
    """A hub's broker without the hub, and a connection to it."""
    async with Broker(HubKeys.load(home), BrokerSettings(port=-1)) as broker:
        nc = await broker.access.connect()
        try:
            yield broker, nc
        finally:
            await nc.close()


async def made_streams(home: Path, *nkeys: str) -> list[str]:
    async with on_broker(home) as (_, nc):
        await streams.ensure_streams(nc)
        for nkey in nkeys:
            await feeds.ensure_feed(nc, nkey)
            await jetstream.publish_batch(nc, [(subjects.feed_subject(nkey, "waits"), b"sealed", jetstream.ONCE)])
        await jetstream.publish_batch(nc, [(subjects.trust_file("metadata/1.root.json"), b"{}", {})])
        return await streams.names(nc)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "hub"
    assert kengele("hub", "init", "--home", str(made), "--port", "14999").returncode == 0
    return made


def test_every_stream_of_a_hub_is_in_its_copy(tmp_path: Path, home: Path) -> None:
    names = asyncio.run(made_streams(home, KeyPair.generate("user").public))
    copied = asyncio.run(backup.take(tmp_path / "copy", make_key_file(tmp_path / "key"), home))
    assert set(copied.streams) == set(names)


@pytest.mark.parametrize("external", [False, True], ids=["its-own-broker", "another-broker"])
def test_a_restored_hub_gives_nothing_of_what_waits_in_a_feed_before_the_coordinators_have_signed(
    tmp_path: Path, home: Path, external: bool
) -> None:
    office, lock, new = KeyPair.generate("user"), make_key_file(tmp_path / "key"), tmp_path / "new"
    asyncio.run(made_streams(home, office.public))
    asyncio.run(backup.take(tmp_path / "copy", lock, home))
    broker_home = new
    if external:
        broker_home = tmp_path / "other"
        broker_home.mkdir()
        shutil.copy(home / "keys.json", broker_home)
    else:
        backup.restore(tmp_path / "copy", lock, new)

    async def fetched(broker: Broker) -> list[bytes]:
        """What the office gets, which may have been revoked after the copy was made: nobody here can know."""
        jwt = broker.access.member_jwt(office.public, "office")
        async with Link([broker.access.url], jwt, office) as link:
            await link.wait_connected(60)
            client, _ = link._current()
            inbox = await client.subscribe(f"_INBOX_{office.public}.feed")
            ask = b'{"batch":1,"expires":1000000000}'
            await client.publish(subjects.feed_next(office.public), ask, reply=inbox.subject)
            answer = await inbox.next_msg(30)
            return [] if answer.headers and "Status" in answer.headers else [answer.data]

    async def claim() -> None:
        async with on_broker(broker_home) as (broker, nc):
            if external:
                await asyncio.to_thread(backup.restore, tmp_path / "copy", lock, new, external=broker.access.url)
            assert await fetched(broker) == []
            # Once the roster names the office.
            await feeds.ensure_feed(nc, office.public)
            assert await fetched(broker) == [b"sealed"]

    asyncio.run(claim())


_KILLED = """
import os, signal, sys
from pathlib import Path
from kengele_hub import backup, feeds, jetstream, streams
from kengele_hub.sealed import Lock
from kengele_node.link import Link
from kengele_schemas import subjects

stored = jetstream.publish_batch

async def publish_batch(nc, messages):
    if messages[0][0] == subjects.TRUST_HELD:
        os.kill(os.getpid(), signal.SIGKILL)
    return await stored(nc, messages)

jetstream.publish_batch = publish_batch
copy, key, home = map(Path, sys.argv[1:])
backup.restore(copy, Lock(key_file=key), home)
"""


def test_a_restoration_that_is_killed_half_way_leaves_nothing_that_runs_as_a_hub(tmp_path: Path, home: Path) -> None:
    key, copy, new = tmp_path / "key", tmp_path / "copy", tmp_path / "new"
    lock = make_key_file(key)
    asyncio.run(made_streams(home))
    asyncio.run(backup.take(copy, lock, home))
    ended = subprocess.run([sys.executable, "-c", _KILLED, copy, key, new], timeout=90, check=False)
    assert ended.returncode == -signal.SIGKILL
    ran = kengele("hub", "run", "--home", str(new))
    assert (ran.returncode, "no-hub" in ran.stderr) == (7, True)
    with pytest.raises(Refused):
        backup.restore(copy, lock, new)


def test_a_restoration_that_fails_deletes_no_stream_that_a_hub_has_made_meanwhile(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, place = make_key_file(tmp_path / "key"), subjects.ledger_report("A" * 22)
    asyncio.run(made_streams(home))
    asyncio.run(backup.take(tmp_path / "copy", lock, home))
    put_back = snapshot.put_back

    async def late(nc: Client, *shape: Any, **replicas: Any) -> None:
        await streams.ensure_streams(nc)
        await jetstream.publish_batch(nc, [(place, b"a report", jetstream.ONCE)])
        await put_back(nc, *shape, **replicas)

    monkeypatch.setattr(snapshot, "put_back", late)

    async def claim() -> None:
        other = tmp_path / "other"
        other.mkdir()
        shutil.copy(home / "keys.json", other)
        async with on_broker(other) as (broker, nc):
            with pytest.raises(Refused):
                await asyncio.to_thread(
                    backup.restore, tmp_path / "copy", lock, tmp_path / "new", external=broker.access.url
                )
            stored = await jetstream.last(nc, subjects.LEDGER, place)
            assert stored is not None
            assert stored.data == b"a report"
        assert not (tmp_path / "new").exists()

    asyncio.run(claim())


@pytest.mark.parametrize("name", ["theirs", "keys.json"])
def test_a_restoration_that_fails_deletes_nothing_that_others_put_there_meanwhile(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    lock, new = make_key_file(tmp_path / "key"), tmp_path / "new"
    asyncio.run(made_streams(home))
    asyncio.run(backup.take(tmp_path / "copy", lock, home))
    put_back = snapshot.put_back

    async def late(*given: Any, **replicas: Any) -> None:
        (new / name).write_text("theirs")
        await put_back(*given, **replicas)
        if name != "keys.json":
            raise Unavailable("broker-unavailable", "It went away.")

    monkeypatch.setattr(snapshot, "put_back", late)
    with pytest.raises(Refused if name == "keys.json" else Unavailable):
        backup.restore(tmp_path / "copy", lock, new)
    assert [path.name for path in new.iterdir()] == [name]
    assert (new / name).read_text() == "theirs"


def test_three_copies_are_not_restored_onto_one_server_unless_that_is_said(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, other = make_key_file(tmp_path / "key"), tmp_path / "other"
    other.mkdir()
    shutil.copy(home / "keys.json", other)
    monkeypatch.setattr(patience, "PATIENCE", 0.0)

    async def claim() -> None:
        async with on_broker(home) as (broker, nc):
            await streams.ensure_streams(nc)
            settings = Settings.load(home).model_dump(mode="json")
            read(Settings, {**settings, "external": broker.access.url, "replicas": 3}).save(home)
            await backup.take(tmp_path / "copy", lock, home)
        async with on_broker(other) as (broker, nc):

            async def restored(name: str, **replicas: int) -> None:
                words = (tmp_path / "copy", lock, tmp_path / name)
                await asyncio.to_thread(backup.restore, *words, external=broker.access.url, **replicas)

            with pytest.raises(Unavailable) as refused:
                await restored("three")
            assert refused.value.code == "too-few-servers"
            assert "--replicas 1" in refused.value.mend
            assert not (tmp_path / "three").exists()
            assert await streams.names(nc) == []
            await restored("one", replicas=1)
            assert Settings.load(tmp_path / "one").replicas == 1

    asyncio.run(claim())
