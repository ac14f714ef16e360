"""What whoever sits on the line between members and hub learns: that there is TLS, how much, and when.

The line is a relay that keeps every byte. Hub, nats-server, monitor and desk are real, and all that they say goes
through it: joining, the rules, a report, its receipt, its delivery.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kengele_node.demo.network import Hub, Network
from kengele_node.vault import make_key_file
from kengele_schemas import subjects
from kengele_schemas.cards import HubCard, read_card
from kengele_schemas.envelope import TENSION_REPORT, parse
from kengele_schemas.sealing import ciphertext_size, disclosure
from kengele_testing.canary import CANARY, canary, spellings
from kengele_testing.certificates import make_certificate
from kengele_testing.network import draft, fetch_all, sealed

pytestmark = pytest.mark.full

_RECORD = struct.Struct("!BHH")
_APPLICATION = 23
_OVERHEAD = 17
"""RFC 8446 §5.2: the type within and the tag."""


def records(stream: bytes) -> Iterator[tuple[int, int]]:
    """Type and length of each TLS record; fails where there is a byte that is part of none."""
    at = 0
    while at + _RECORD.size <= len(stream):
        kind, version, length = _RECORD.unpack_from(stream, at)
        assert 20 <= kind <= 23, f"no TLS at {at}: {stream[at : at + 16]!r}"
        assert version in (0x0301, 0x0303)
        assert length <= (1 << 14) + 256
        at += _RECORD.size + length
        yield kind, length


@dataclass
class Conversation:
    """What went over one connection, up to the hub and down from it."""

    up: bytearray = field(default_factory=bytearray)
    down: bytearray = field(default_factory=bytearray)


@dataclass
class Observer:
    """A relay on the line to ``port`` of this machine; hears everything, changes nothing."""

    port: int
    heard: list[Conversation] = field(default_factory=list)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = Conversation()
        self.heard.append(said)
        with suppress(OSError):
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.port)
            ways = [(reader, to_writer, said.up), (to_reader, writer, said.down)]
            passing = [asyncio.create_task(_pass(*way)) for way in ways]
            try:
                await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in passing:
                    task.cancel()
                to_writer.close()
        writer.close()

    @asynccontextmanager
    async def listening(self, on: int) -> AsyncIterator[None]:
        carrying: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            carrying.add(asyncio.create_task(self.carry(reader, writer)))

        server = await asyncio.start_server(accept, "127.0.0.1", on)
        try:
            yield
        finally:
            server.close()
            for task in carrying:
                task.cancel()
            await asyncio.gather(*carrying, return_exceptions=True)

    @property
    def everything(self) -> list[bytes]:
        return [bytes(stream) for said in self.heard for stream in (said.up, said.down)]


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
    with suppress(OSError):
        while piece := await reader.read(65536):
            kept += piece
            writer.write(piece)
            await writer.drain()


class Observed(Hub):
    """A hub whose card names the observer's port, so that every member comes through there."""

    def __init__(self, home: Path, *, secure: bool) -> None:
        super().__init__(home)
        self.secure = secure
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.line = int(probe.getsockname()[1])

    def init(self) -> HubCard:
        options = ["--url", f"{'tls' if self.secure else 'nats'}://127.0.0.1:{self.line}"]
        if self.secure:
            tls, _ = make_certificate(self.home.parent)
            options += ["--tls-certificate", str(tls.certificate), "--tls-key", str(tls.key)]
        command = ["hub", "init", "--home", str(self.home), "--port", str(self.port), *options]
        program = [*_program(), *command]
        subprocess.run(program, check=True, stdout=subprocess.DEVNULL)
        return read_card((self.home / "hub-card.json").read_bytes(), HubCard)


def _program() -> list[str]:
    from kengele_node.demo import network

    return network._kengele()


@asynccontextmanager
async def observed(
    home: Path, monkeypatch: pytest.MonkeyPatch, *, secure: bool = True
) -> AsyncIterator[tuple[Network, Observer]]:
    """A founded network with the monitor ``osh``, and who hears all that its members say."""
    home.mkdir()
    hub = Observed(home / "hub", secure=secure)
    if secure:
        monkeypatch.setenv("SSL_CERT_FILE", str(home / "certificate.pem"))
    network = Network(home, hub, make_key_file(home / "key"))
    observer = Observer(hub.port)
    try:
        async with observer.listening(hub.line):
            await network.found()
            await network.admit(["osh"])
            yield network, observer
    finally:
        network.close()


async def one_report(network: Network) -> list[bytes]:
    """A report goes out and is read. Gives what must not have been seen of it on the way, by what one would know it."""
    osh, unrcca = network.monitors["osh"], network.offices["unrcca"]
    async with osh.session() as session:
        data = sealed(osh, canary(), await session.refresh())
        answer = json.loads(await session.link.request(subjects.reports_submit(osh.nkey.public), data, timeout=20))
    assert answer["code"] == "accepted"
    (item,) = await fetch_all(unrcca)
    assert CANARY in item.arrival.contents["summary"].text
    names = [osh.kid, osh.nkey.public, unrcca.nkey.public, str(parse(data).claims["id"]), answer["leaf"]]
    jwts = [member.vault.secrets["jwt"].decode() for member in (osh, unrcca)]
    parts = [data[at : at + 60].decode() for at in range(0, len(data) - 60, len(data) // 20)]
    return [*spellings(CANARY).values(), *(one.encode() for one in (*names, *jwts, *parts, "CONNECT", "reports."))]


def test_a_network_observer_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with observed(tmp_path / "network", monkeypatch) as (network, observer):
            wanted = await one_report(network)
            heard = observer.everything
            assert len(observer.heard) > 5
            assert sum(map(len, heard)) > 100_000
            assert [word for word in wanted if any(word in stream for stream in heard)] == []
            # TLS throughout: not one byte on the line, from the first on, is outside of it.
            for stream in heard:
                kinds = [kind for kind, _ in records(stream)]
                assert kinds[0] == 22, kinds
                assert kinds.count(_APPLICATION) > 1, kinds

    asyncio.run(run())


def test_without_tls_the_observer_reads_all_but_what_is_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counterpart: the same search over the same line finds what is there, so above it would have found it."""

    async def run() -> None:
        async with observed(tmp_path / "network", monkeypatch, secure=False) as (network, observer):
            wanted = await one_report(network)
            heard = observer.everything
            canaries = set(spellings(CANARY).values())
            missed = [word for word in wanted if not any(word in stream for stream in heard)]
            assert canaries <= set(missed)
            assert len(missed) <= len(canaries) + 1  # the leaf, which a receipt spells with escapes
            with pytest.raises(AssertionError, match="no TLS at 0"):
                list(records(heard[0]))

    asyncio.run(run())


def seen(stream: bytearray, since: int) -> int:
    """How many bytes TLS carried, as whoever adds up its records knows it; without pings, which come by the clock."""
    lengths = [length - _OVERHEAD for kind, length in records(bytes(stream[since:])) if kind == _APPLICATION]
    return sum(length for length in lengths if length != len(b"PING\r\n"))


LENGTHS = (1, 400, 940, 1000, 1100, 1300, 1400, 1500, 3000)


def test_a_network_observer_cannot_tell_a_reports_length_class_finer_than_the_padding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither on the way to the hub nor on that to the desk. What is written at all, and where, is in no size."""

    def told(length: int) -> dict[str, Any]:
        return {"account": {"text": "x" * length, "lang": "en"}}

    def padded(length: int) -> int:
        plain = len(disclosure(bytes(16), "account", told(length)["account"]))
        return ciphertext_size(plain, dict(TENSION_REPORT.floors)["account"])

    async def run() -> None:
        async with observed(tmp_path / "network", monkeypatch) as (network, observer):
            osh, unrcca = network.monitors["osh"], network.offices["unrcca"]
            feed = subjects.feed_stream(unrcca.nkey.public), subjects.feed_consumer(unrcca.nkey.public)
            submit = subjects.reports_submit(osh.nkey.public)
            async with osh.session() as session:
                trusted = await session.refresh()
                node = observer.heard[-1]
                # The first request on a line subscribes to its answers, too; a report that nobody takes does that.
                await session.link.request(submit, b"x", timeout=20)
                async with unrcca.session() as desk:
                    wire = observer.heard[-1]

                    async def sizes(data: bytes) -> tuple[int, int]:
                        up = len(node.up)
                        answer = json.loads(await session.link.request(submit, data, timeout=20))
                        assert answer["code"] == "accepted"
                        async with asyncio.timeout(60):
                            down = len(wire.down)
                            while not (found := await desk.link.fetch(*feed, 1, 0)):
                                down = len(wire.down)
                        assert re.search(r"\.\d\.\d\.\d\.\d+\.0", found[0].receipt), "counts of one digit"
                        await desk.link.acknowledge(found[0], confirm=True)
                        assert desk.link._client is not None
                        counted = len(str(desk.link._client._sid))  # how often this desk has asked, in what it is given
                        return seen(node.up, up), seen(wire.down, down) - counted

                    found = {length: await sizes(sealed(osh, draft(**told(length)), trusted)) for length in LENGTHS}
            classes = {length: padded(length) for length in found}
            assert len({*classes.values()}) == 5
            for direction in (0, 1):
                by_class: dict[int, set[int]] = {}
                for length, size in found.items():
                    by_class.setdefault(classes[length], set()).add(size[direction])
                assert {len(sizes) for sizes in by_class.values()} == {1}, (direction, found)
                assert len({size for sizes in by_class.values() for size in sizes}) == 5, (direction, found)

    asyncio.run(run())
