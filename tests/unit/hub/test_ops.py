"""The operator's page: what a scraper can read, and that nothing on it says who or where."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_hub.ops import Page, metrics
from kengele_schemas import local_pages
from kengele_schemas.receipt import CODES

STATE: dict[str, Any] = {
    "pid": 7,
    "connected": True,
    "founded": True,
    "ready": True,
    "not_ready": [],
    "signatures_hold_until": "2026-12-09T00:00:00+00:00",
    "last_cosigned": None,
    "undelivered": 0,
    "log_size": 12,
    "delivered": 30,
    "paused": 2,
    "receipts": {"accepted": 10, "id-conflict": 1},
}
# github.com/prometheus/docs, "Text-based format"
_NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*"
HELP = re.compile(rf"# HELP ({_NAME}) \S.*")
TYPE = re.compile(rf"# TYPE ({_NAME}) (counter|gauge)")
SAMPLE = re.compile(rf'({_NAME})(?:\{{([a-z_]+)="([^"\\\n]*)"\}})? ([0-9]+)')


def parsed(text: str) -> dict[str, dict[str, int]]:
    """The samples by name and label's value; fails where the text is not of the format."""
    found: dict[str, dict[str, int]] = {}
    helped: list[str] = []
    kinds: dict[str, str] = {}
    assert text.endswith("\n")
    for line in text.splitlines():
        if match := HELP.fullmatch(line):
            helped.append(match[1])
        elif match := TYPE.fullmatch(line):
            kinds[match[1]] = match[2]
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] in kinds
            assert match[2] in (None, "code")
            rows = found.setdefault(match[1], {})
            assert (match[3] or "") not in rows
            rows[match[3] or ""] = int(match[4])
    assert helped == list(kinds)
    for name, kind in kinds.items():
        assert name.startswith("kengele_")
        assert name.endswith("_total") is (kind == "counter")
    return found


def test_the_figures_are_those_of_the_state() -> None:
    assert parsed(metrics(STATE)) == {
        "kengele_ready": {"": 1},
        "kengele_broker_connected": {"": 1},
        "kengele_founded": {"": 1},
        "kengele_signatures_end_timestamp_seconds": {"": 1796774400},
        "kengele_undelivered": {"": 0},
        "kengele_log_entries": {"": 12},
        "kengele_delivered_total": {"": 30},
        "kengele_pauses_total": {"": 2},
        "kengele_receipts_total": {"accepted": 10, "id-conflict": 1},
    }


def test_before_anything_happened_the_figures_are_zero_or_absent() -> None:
    empty = {"ready": False, "log_size": 0, "delivered": 0, "receipts": {}}
    assert parsed(metrics(empty)) == {
        "kengele_ready": {"": 0},
        "kengele_log_entries": {"": 0},
        "kengele_delivered_total": {"": 0},
    }


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from(sorted(CODES)), st.integers(0, 2**53)), st.integers(0, 2**53), st.integers(0, 2**53)
)
def test_whatever_was_counted_can_be_scraped(receipts: dict[str, int], size: int, delivered: int) -> None:
    found = parsed(metrics({"ready": True, "log_size": size, "delivered": delivered, "receipts": receipts}))
    assert found.get("kengele_receipts_total", {}) == receipts


def test_only_a_code_is_a_label_and_no_other_part_of_the_state_is_shown() -> None:
    text = metrics({**STATE, "pid": "CANARY", "url": "CANARY", "who": ["CANARY"]})
    assert "CANARY" not in text
    assert re.findall(r"\{([a-z_]+)=", text) == ["code"] * 2


def served(state: dict[str, Any], claim: Callable[[aiohttp.ClientSession, str], Awaitable[None]]) -> None:
    """Holds ``claim`` against a page that serves ``state``."""

    async def run() -> None:
        async with Page(lambda: state).serving(-1) as url, aiohttp.ClientSession() as session, asyncio.timeout(60):
            await claim(session, url)

    asyncio.run(run())


def test_the_hub_lives_before_it_is_founded_and_is_ready_after() -> None:
    state = {**STATE, "ready": False, "not_ready": ["not-founded"]}

    async def claim(session: aiohttp.ClientSession, url: str) -> None:
        for ready, status in ((False, 503), (True, 200), (False, 503)):
            state["ready"] = ready
            async with session.get(f"{url}/readyz") as answer:
                assert (answer.status, "not-founded" in await answer.text()) == (status, not ready)
            async with session.get(f"{url}/livez") as answer:
                assert answer.status == 200

    served(state, claim)


def test_the_page_gives_the_state_as_json_and_the_figures_as_text() -> None:
    async def claim(session: aiohttp.ClientSession, url: str) -> None:
        async with session.get(f"{url}/status") as answer:
            assert await answer.json() == STATE
        async with session.get(f"{url}/metrics") as answer:
            assert answer.content_type == "text/plain"
            assert await answer.text() == metrics(STATE)

    served(STATE, claim)


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/", 404), ("GET", "/status/x", 404), ("POST", "/status", 405)]
)
def test_there_is_nothing_else_on_it_and_nothing_to_be_changed(method: str, path: str, status: int) -> None:
    async def claim(session: aiohttp.ClientSession, url: str) -> None:
        async with session.request(method, f"{url}{path}") as answer:
            assert answer.status == status

    served(STATE, claim)


PATHS = ("/livez", "/readyz", "/metrics", "/status", "/", "/no-such-page")


@pytest.mark.parametrize(
    "name",
    [
        "evil.example.org",
        "evil.example.org:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1.evil.org:{port}",
        "\xff",
        "",
    ],
)
def test_a_site_whose_name_is_made_to_mean_this_machine_reads_no_figure(name: str) -> None:
    """DNS rebinding: the browser takes the answer for the other site's own."""

    async def claim(session: aiohttp.ClientSession, url: str) -> None:
        port = int(url.rpartition(":")[2])
        for path in PATHS:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            asked = f"GET {path} HTTP/1.1\r\nHost: {name.format(port=port)}\r\nConnection: close\r\n\r\n"
            writer.write(asked.encode("latin-1"))
            answer = await reader.read()
            writer.close()
            assert answer.startswith(b"HTTP/1.1 421 "), path
            assert answer.endswith(b"\r\n\r\nNot here.\n")

    served(STATE, claim)


def test_a_proxy_asks_by_a_name_that_the_settings_give() -> None:
    async def run() -> None:
        names = ("Figures.example.org", "10.0.0.7:9464")
        async with Page(lambda: STATE, names).serving(-1) as url, aiohttp.ClientSession() as session:
            own = url.removeprefix("http://")
            asked = {
                "figures.example.org": 200,
                "10.0.0.7:9464": 200,
                own: 200,
                own.replace("127.0.0.1", "localhost"): 200,
                own.replace("127.0.0.1", "[::1]"): 200,
                "figures.example.org:9464": 421,
                "10.0.0.7": 421,
            }
            for name, status in asked.items():
                async with session.get(f"{url}/metrics", headers={"Host": name}) as answer:
                    assert answer.status == status, name

    asyncio.run(run())


def test_no_page_of_another_site_frames_or_embeds_it() -> None:
    async def claim(session: aiohttp.ClientSession, url: str) -> None:
        for path in PATHS:
            for headers in ({}, {"Host": "evil.example.org"}):
                async with session.get(f"{url}{path}", headers=headers) as answer:
                    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
                    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
                    assert answer.headers["X-Content-Type-Options"] == "nosniff"
                    assert answer.headers["Cache-Control"] == "no-store"

    served(STATE, claim)


@pytest.mark.parametrize(
    "garbage",
    [
        b"CANARY\xff\r\n\r\n",
        b"GET /\xffCANARY HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: {host}\r\nCookie: CANARY\xff=\xff\r\n\r\n",
        b"CANARY /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: {host}\r\nContent-Length: CANARY\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n" + b"CANARY: \xff\r\n" * 400 + b"\r\n",
    ],
)
def test_garbage_is_answered_and_logged_nowhere(garbage: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    async def claim(session: aiohttp.ClientSession, url: str) -> None:
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(garbage.replace(b"{host}", f"127.0.0.1:{port}".encode()))
        answer = await reader.read(1 << 16)
        writer.close()
        assert re.match(rb"HTTP/1\.[01] (200|400|404|405|421) ", answer), answer[:100]
        async with session.get(f"{url}/metrics") as still:
            assert still.status == 200

    served(STATE, claim)
    printed = "".join(capfd.readouterr())
    assert "Traceback" not in printed
    assert "CANARY" not in printed


def connected(stack: ExitStack, port: int) -> socket.socket:
    return stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))


def over(line: socket.socket) -> bool:
    """Whether the other end has ended ``line``; fails where it does not within the socket's time."""
    try:
        return line.recv(1) == b""
    except ConnectionError:
        return True


def test_others_on_the_machine_cannot_hold_the_hubs_files_with_idle_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local_pages, "MOST", 8)

    async def claim(session: aiohttp.ClientSession, url: str) -> None:
        port = int(url.rpartition(":")[2])
        with ExitStack() as stack:
            lines = [await asyncio.to_thread(connected, stack, port) for _ in range(40)]
            async with session.get(f"{url}/livez") as still:
                assert still.status == 200
            ended = [await asyncio.to_thread(over, line) for line in lines[: 40 - 7]]
            assert ended == [True] * (40 - 7)

    served(STATE, claim)


def test_it_is_served_on_loopback_only_on_the_port_asked_for_and_ends_with_the_block() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def run() -> None:
        async with Page(lambda: STATE).serving(port) as url:
            assert url == f"http://127.0.0.1:{port}"
            with socket.socket() as other, pytest.raises(OSError):
                other.bind(("127.0.0.1", port))
            with socket.socket() as other:
                other.bind(("127.0.0.2", port))
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", port))

    asyncio.run(run())


def test_no_port_is_no_page() -> None:
    async def run() -> None:
        async with Page(lambda: STATE).serving(0) as url:
            assert url == ""

    asyncio.run(run())
