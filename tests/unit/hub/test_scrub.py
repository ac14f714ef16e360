"""The broker's log: it tells what went wrong, and never from where or under which key somebody came."""

from __future__ import annotations

import asyncio
import base64
import io
import re
import time
from contextlib import suppress
from pathlib import Path

import nats.errors
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from kengele_hub import scrub
from kengele_hub.scrub import main, scrubbed
from kengele_testing.server import Member, member_credentials, running_broker

WHEN = "[7] 2026/01/01 00:00:00.000000 "


@given(st.ip_addresses(), st.integers(1, 65535), st.sampled_from(["{}", "{}:{}", "[{}]", "[{}]:{}", "x/{}:{}", "({})"]))
def test_no_address_stays_in_a_line(address: object, port: int, how: str) -> None:
    where = str(address)
    line = scrubbed(f"{WHEN}[ERR] {how.format(where, port)} - cid:10 - read tcp 1.2.3.4:4222->{where}: reset")
    assert where not in line
    assert "1.2.3.4" not in line
    assert line.startswith(f"{WHEN}[ERR] ")
    assert "cid:10 - read tcp" in line


@pytest.mark.parametrize(
    "line",
    [
        "[INF] Server is ready",
        "[INF]   Issued  : 2026-12-01 01:47:54 +0000 UTC",
        "[INF] Listening for client connections on 127.0.0.1:39243",
        "[WRN] JetStream stream 'HUB > LEDGER' is slow: 00:01:02",
    ],
)
def test_what_names_nobody_stays_as_it_is(line: str) -> None:
    assert scrubbed(WHEN + line) == WHEN + line


def test_the_log_is_bounded_and_a_file_that_cannot_be_written_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrub, "MAX", 1000)
    lines = b"".join(b"%06d\n" % number for number in range(10_000))
    main(io.BytesIO(lines), tmp_path / "server.log")
    kept = [(tmp_path / name).read_bytes() for name in ("server.log.1", "server.log")]
    assert all(len(part) <= 1000 for part in kept)
    assert lines.endswith(b"".join(kept))
    assert {path.name for path in tmp_path.iterdir()} == {"server.log", "server.log.1"}
    (tmp_path / "directory").mkdir()
    rest = io.BytesIO(lines)
    main(rest, tmp_path / "directory")
    assert rest.read() == b""


@pytest.mark.full
def test_the_brokers_log_keeps_no_address_of_who_is_turned_away_or_dropped(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_broker(tmp_path) as (broker, keys):
            soon = member_credentials(keys, "joiner", expires=int(time.time()) + 2)
            thief = member_credentials(keys, "monitor")
            newcomer = await come(broker.url, soon)
            with suppress(nats.errors.Error):
                await come(broker.url, Member(thief.key, soon.jwt))
            host, port = broker.url.rsplit("/", 1)[1].rsplit(":", 1)
            _, rude = await asyncio.open_connection(host, int(port))
            rude.write(b"GET / HTTP/1.1\r\n\r\n" * 10)
            async with asyncio.timeout(30):
                while not newcomer.is_closed:
                    await asyncio.sleep(0.02)
            rude.close()
        log = (tmp_path / "hub" / "broker" / "server.log").read_text()
        told = [line for line in log.splitlines() if "cid:" in line]
        assert len(told) >= 2
        assert any("authentication error" in line for line in told)
        assert not [line for line in told if "127.0.0.1" in line]
        assert not re.search(r"\bU[A-Z2-7]{55}\b", log)
        assert "Server Exiting" in log
        assert sorted(path.name for path in (tmp_path / "hub" / "broker").glob("*.log*")) == ["server.log"]

    asyncio.run(run())


async def come(url: str, member: Member) -> Client:
    client = Client()

    async def ignore(_: Exception) -> None:
        pass

    try:
        await client.connect(
            url,
            user_jwt_cb=member.jwt.encode,
            signature_cb=lambda nonce: base64.b64encode(member.key.sign(nonce.encode())),
            allow_reconnect=False,
            error_cb=ignore,
        )
    except nats.errors.Error:
        await client.close()
        raise
    return client
