"""The browser is handed a private file; where that does not go, and for each Enter, an address is told."""

from __future__ import annotations

import asyncio
import os
import re
import webbrowser
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from kengele_node.pages import opening
from kengele_node.pages.guard import Guard
from kengele_node.pages.sessions import Sessions

ADDRESS = re.compile(r"http://127\.0\.0\.1:8080/start\?token=([\w-]{32})")


class Terminal:
    """A person's terminal: what is said there, and a line that she can press Enter on."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.noted: list[str] = []
        self.changed = asyncio.Event()

    def tell(self, url: str) -> None:
        self.told.append(url)
        self.changed.set()

    async def until(self, number: int) -> None:
        while len(self.told) < number:
            self.changed.clear()
            await self.changed.wait()


Claim = Callable[[Guard, Terminal], Awaitable[None]]


def held(home: Path, claim: Claim, *, browser: bool) -> None:
    async def run() -> None:
        guard, terminal = Guard(lambda *_: pytest.fail("told"), pytest.fail, Sessions()), Terminal()
        guard.bind(8080)
        async with asyncio.timeout(60):
            async with opening.offered(guard, home, terminal.tell, terminal.noted.append, browser=browser):
                await claim(guard, terminal)

    asyncio.run(run())


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[IO[bytes]]:
    """What is written to it is typed."""
    read, write = os.pipe()
    with os.fdopen(read, "rb") as typed, os.fdopen(write, "wb", 0) as keys:
        monkeypatch.setattr("sys.stdin", typed)
        yield keys


def test_each_enter_gives_another_address_until_the_input_ends(keys: IO[bytes], tmp_path: Path) -> None:
    async def claim(guard: Guard, terminal: Terminal) -> None:
        await terminal.until(1)
        for number in (2, 3):
            keys.write(b"\n")
            await terminal.until(number)
        keys.close()
        tokens = [found[1] for found in map(ADDRESS.fullmatch, terminal.told) if found]
        assert len(set(tokens)) == 3
        assert all(guard.sessions.redeem(token) for token in tokens)
        assert list(tmp_path.iterdir()) == []

    held(tmp_path, claim, browser=False)


@pytest.mark.parametrize("stdin", [None, "closed", "/dev/null"])
def test_without_an_input_it_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stdin: str | None) -> None:
    file = Path("/dev/null").open("rb") if stdin else None  # noqa: SIM115
    monkeypatch.setattr("sys.stdin", file)
    if stdin == "closed" and file is not None:
        file.close()

    async def claim(_: Guard, terminal: Terminal) -> None:
        assert len(terminal.told) == 1

    held(tmp_path, claim, browser=False)
    if file is not None:
        file.close()


def test_the_file_goes_once_its_address_was_used(
    keys: IO[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened: list[str] = []

    def browse(uri: str) -> bool:
        opened.append(Path(uri.removeprefix("file://")).read_text())
        return True

    monkeypatch.setattr(webbrowser, "open", browse)

    async def claim(guard: Guard, terminal: Terminal) -> None:
        while not terminal.noted:
            await asyncio.sleep(0.01)
        assert len(list(tmp_path.rglob("*.html"))) == 1
        (token,) = set(ADDRESS.findall(opened[0]))
        assert guard.sessions.redeem(token) is not None
        while list(tmp_path.iterdir()):
            await asyncio.sleep(0.01)
        # The address was for the browser, and nobody else is told it.
        assert terminal.told == []

    held(tmp_path, claim, browser=True)


def test_a_file_that_was_not_used_goes_with_the_console(
    keys: IO[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda _: True)

    async def claim(_: Guard, terminal: Terminal) -> None:
        while not terminal.noted:
            await asyncio.sleep(0.01)
        assert len(list(tmp_path.iterdir())) == 1

    held(tmp_path, claim, browser=True)
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_browser_the_address_is_told(
    keys: IO[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda _: False)

    async def claim(guard: Guard, terminal: Terminal) -> None:
        await terminal.until(1)
        assert list(tmp_path.iterdir()) == []
        assert guard.sessions.redeem(terminal.told[0].partition("token=")[2]) is not None

    held(tmp_path, claim, browser=True)


def test_where_the_home_cannot_be_written_to_the_address_is_told(
    keys: IO[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda _: pytest.fail("opened"))

    async def claim(_: Guard, terminal: Terminal) -> None:
        await terminal.until(1)

    held(tmp_path / "there-is-none", claim, browser=True)


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701])
def test_on_a_disk_that_hides_nothing_from_others_no_file_is_written(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    assert opening.written(tmp_path, "http://127.0.0.1:8080/start?token=x") is None
    assert list(tmp_path.iterdir()) == []
    tmp_path.chmod(0o700)
    file = opening.written(tmp_path, "http://127.0.0.1:8080/start?token=x")
    assert file is not None
    assert file.stat().st_mode & 0o777 == 0o600
