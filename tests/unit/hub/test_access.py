"""Access to a broker that is somebody else's process, and revocations that add up."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sysconfig
import time
from contextlib import suppress
from pathlib import Path

import pytest

from kengele_hub import access as access_module
from kengele_hub import credentials
from kengele_hub.access import Access
from kengele_hub.broker import Broker, Settings
from kengele_hub.errors import Unavailable
from kengele_hub.home import HubKeys
from kengele_node.errors import NotAdmitted
from kengele_schemas.encoding import loads
from kengele_schemas.errors import Damaged, Malformed
from kengele_schemas.nkeys import KeyPair
from kengele_testing.seeds import seeds
from kengele_testing.server import Member, member_credentials, running_broker


def nkey() -> str:
    return KeyPair.generate("user").public


@pytest.mark.full
def test_revocations_add_up_also_within_one_second(tmp_path: Path) -> None:
    first, second, third = nkey(), nkey(), nkey()

    async def run() -> None:
        async with running_broker(tmp_path) as (broker, _):
            await broker.access.revoke([first])
            await broker.access.revoke([second])
            await broker.access.push_accounts([third])
            await broker.access.revoke([])
            assert await broker.access.revoked() == {first, second, third}

    asyncio.run(run())


@pytest.mark.full
def test_workers_that_revoke_the_same_list_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    everybody = {nkey() for _ in range(5)}

    async def run() -> None:
        async with running_broker(tmp_path) as (broker, _):
            await asyncio.gather(*(broker.access.revoke(everybody) for _ in range(4)))
            assert await broker.access.revoked() == everybody

    asyncio.run(run())


@pytest.mark.full
def test_a_worker_whose_clock_is_late_revokes_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = nkey(), nkey()

    async def run() -> None:
        async with running_broker(tmp_path) as (broker, _):
            await broker.access.revoke([first])
            now = access_module._now()
            monkeypatch.setattr(access_module, "_now", lambda: now - 3600)
            await broker.access.revoke([second])
            assert await broker.access.revoked() == {first, second}

    asyncio.run(run())


@pytest.mark.full
def test_one_bad_nkey_revokes_nobody(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_broker(tmp_path) as (broker, _):
            with pytest.raises(Malformed):
                await broker.access.revoke([nkey(), "*"])
            assert await broker.access.revoked() == set()

    asyncio.run(run())


@pytest.mark.full
def test_a_pause_drops_its_member_alone_and_ends_with_a_jwt_from_after_its_moment(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_broker(tmp_path) as (broker, keys):
            loud, other = member_credentials(keys, "monitor"), member_credentials(keys, "monitor")
            until = int(time.time()) + 3600
            async with loud.link(broker.url) as line, other.link(broker.url) as another:
                await line.wait_connected(60)
                await another.wait_connected(60)
                await broker.access.pause({loud.nkey: until})
                async with asyncio.timeout(60):
                    while line.connected:
                        await asyncio.sleep(0.01)
                assert another.connected
            for issued, admitted in ((until, False), (until + 1, True)):
                jwt = credentials.member(keys.accounts, loud.nkey, "monitor", now=issued)
                async with Member(loud.key, jwt).link(broker.url) as line:
                    if admitted:
                        await line.wait_connected(60)
                    else:
                        with pytest.raises(NotAdmitted):
                            await line.wait_connected(1)

    asyncio.run(run())


@pytest.mark.full
def test_pauses_and_revocations_stand_beside_each_other_and_the_longer_counts(tmp_path: Path) -> None:
    revoked, paused, both = nkey(), nkey(), nkey()
    soon = int(time.time()) + 60

    async def run() -> None:
        async with running_broker(tmp_path) as (broker, _):
            access = broker.access
            await access.pause({paused: soon, both: soon})
            await access.revoke([revoked, both])
            await access.pause({both: soon + 60, revoked: soon + 60})
            await access.pause({paused: soon - 30})
            await access.push_accounts()
            assert await access.revoked() == {revoked, both}
            assert await access.paused() == {paused: soon}
            await access.pause({paused: soon + 60}, [nkey()])
            assert await access.paused() == {paused: soon + 60}
            assert len(await access.revoked()) == 3

    asyncio.run(run())


@pytest.mark.full
def test_pauses_and_a_revocation_at_once_do_not_undo_each_other(tmp_path: Path) -> None:
    revoked, paused = {nkey() for _ in range(3)}, {nkey(): int(time.time()) + 60 for _ in range(6)}

    async def run() -> None:
        async with running_broker(tmp_path) as (broker, _):
            access = broker.access
            pauses = [access.pause({one: until}) for one, until in paused.items()]
            await asyncio.gather(*pauses[:3], *(access.revoke([one]) for one in revoked), *pauses[3:])
            assert await access.revoked() == revoked
            assert await access.paused() == paused

    asyncio.run(run())


@pytest.mark.full
def test_a_pause_outlives_a_restart_of_the_broker_and_of_the_hub(tmp_path: Path) -> None:
    paused, until = nkey(), int(time.time()) + 3600

    async def run() -> None:
        keys = HubKeys.create(tmp_path / "hub")
        for first in (True, False):
            async with Broker(keys, Settings(port=-1)) as broker:
                if first:
                    await broker.access.pause({paused: until})
                assert await broker.access.paused() == {paused: until}
                assert await broker.access.revoked() == set()

    asyncio.run(run())


@pytest.mark.full
def test_a_hub_with_other_keys_is_not_let_in(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_broker(tmp_path) as (broker, _):
            stranger = Access(HubKeys.create(tmp_path / "stranger"), broker.url)
            with pytest.raises(Unavailable):
                await stranger.connect(timeout=1)

    asyncio.run(run())


@pytest.mark.full
def test_an_account_of_another_making_is_reported_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with running_broker(tmp_path) as (broker, _):
            monkeypatch.setattr(credentials, "decode", lambda _: {"iss": "O", "iat": 1, "nats": {}})
            with pytest.raises(Damaged):
                await broker.access.revoke([nkey()])

    asyncio.run(run())


def test_a_broker_that_is_not_there_is_unavailable_within_the_time_given(tmp_path: Path) -> None:
    keys = HubKeys.create(tmp_path)

    async def run() -> None:
        async with asyncio.timeout(60):
            with pytest.raises(Unavailable):
                await Access(keys, "nats://127.0.0.1:1").connect(timeout=0.3)

    asyncio.run(run())


def test_what_is_exported_holds_no_seed(tmp_path: Path) -> None:
    keys = HubKeys.create(tmp_path / "hub")
    accounts = keys.accounts
    revoked = nkey()
    files = Access(keys, "nats://127.0.0.1:1").export(tmp_path / "out", [revoked])

    text = "".join(file.read_text() for file in files)
    assert [seed for seed in seeds(keys.home) if seed in text] == []
    nodes = credentials.decode((tmp_path / "out" / "jwt" / f"{accounts.nodes.public}.jwt").read_text())
    assert set(nodes["nats"]["revocations"]) == {revoked}


@pytest.mark.full
def test_an_external_broker_runs_from_what_was_exported(tmp_path: Path) -> None:
    keys = HubKeys.create(tmp_path / "hub")
    out = tmp_path / "out"
    Access(keys, "").export(out)
    program = shutil.which("nats-server", path=sysconfig.get_path("scripts"))
    assert program is not None
    command = [program, "-c", "kengele.conf", "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", str(tmp_path)]

    async def run(pid: int) -> None:
        ports: dict[str, list[str]] = {}
        async with asyncio.timeout(60):
            while not ports:
                await asyncio.sleep(0.01)
                for path in tmp_path.glob(f"*_{pid}.ports"):
                    with suppress(Malformed):  # not written to its end yet
                        ports = loads(path.read_bytes(), max_bytes=4096)
        access = Access(keys, ports["nats"][0])
        async with member_credentials(keys, "monitor").link(access.url) as link:
            await link.wait_connected(60)
        await access.push_accounts()
        nc = await access.connect()
        assert (await nc.jetstream().account_info()).limits.max_storage == -1
        await nc.close()

    with subprocess.Popen(command, cwd=out, stderr=subprocess.DEVNULL) as server:
        try:
            asyncio.run(run(server.pid))
        finally:
            server.terminate()
