"""The relay for a region, run by its unit's own line: members come through it, and it sees no more than TLS."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from kengele_schemas import subjects
from kengele_testing.certificates import make_certificate
from kengele_testing.nats import free_port
from kengele_testing.server import member_credentials, running_broker
from kengele_testing.units import Unit

RELAY = Unit("kengele-relay@.service")
PROGRAM = shlex.split(RELAY.setting("ExecStart"))[0]
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        shutil.which("systemd-socket-activate") is None or not Path(PROGRAM).exists(),
        reason="SYSTEMD IS NOT INSTALLED: no relay was run",
    ),
]


@contextmanager
def relayed(to: int) -> Iterator[int]:
    """A port of this machine behind which the unit's command runs."""
    port = free_port()
    line = RELAY.setting("ExecStart").replace("${KENGELE_HUB}:%i", f"127.0.0.1:{to}")
    command = ["systemd-socket-activate", "-l", f"127.0.0.1:{port}", *shlex.split(line)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + 20
            while True:
                assert time.monotonic() < end
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.02)
            yield port
        finally:
            process.kill()


def test_members_come_through_a_relay_that_opens_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        tls, context = make_certificate(tmp_path)
        async with running_broker(tmp_path, tls=tls) as (broker, keys):
            hub = await broker.access.connect()

            async def hear(message: Msg) -> None:
                await message.respond(b'"heard"')

            await hub.subscribe(subjects.SUBMISSIONS, cb=hear)
            await hub.flush()
            with relayed(int(broker.url.rpartition(":")[2])) as port:
                member = member_credentials(keys, "monitor")
                async with member.link(f"tls://127.0.0.1:{port}", tls=context) as link:
                    await link.wait_connected(60)
                    assert json.loads(await link.request(subjects.reports_submit(member.nkey), b"x")) == "heard"
            await hub.close()

    asyncio.run(scenario())


def test_a_relay_has_no_certificate_no_key_and_no_home() -> None:
    assert RELAY.settings("LoadCredential") == RELAY.settings("StateDirectory") == []
    assert RELAY.setting("DynamicUser") == "yes"
