"""A coordinator's console as a process, and the way in that a person has: a new address for each Enter."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from playwright.sync_api import Browser, Page

from kengele_testing.browser import opened

COMMAND = (sys.executable, "-m", "kengele_node.cli", "coordinator", "console")


@dataclass
class Console:
    """One coordinator's console."""

    home: Path
    key: Path
    process: subprocess.Popen[str]
    first: str

    @property
    def base(self) -> str:
        """Its address without what lets anybody in."""
        return self.first.partition("/start")[0]

    @property
    def port(self) -> int:
        return int(self.base.rpartition(":")[2])

    def address(self) -> str:
        """A new address, good once."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write("\n")
        stdin.flush()
        return str(json.loads(stdout.readline())["url"])


@contextmanager
def running(home: Path, key: Path, *, lock: str = "--key-file", errors: IO[str] | None = None) -> Iterator[Console]:
    """A console of the coordinator at ``home``, whom the file ``key`` unlocks; ended with the block.

    Args:
        lock: the option that takes the file.
        errors: what stands for its terminal.
    """
    with subprocess.Popen(
        [*COMMAND, "--home", str(home), "--json", lock, str(key)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield Console(home, key, process, json.loads(process.stdout.readline())["url"])
        finally:
            process.terminate()


def entered(driven: Browser, console: Console, **options: Any) -> Page:
    """A fresh browser's page in a session of its own."""
    page = opened(driven, console.address(), **options)
    page.wait_for_url("**/s/*/rules")
    return page


def inside(page: Page, name: str) -> str:
    """The address of the page ``name`` in the session in which ``page`` is."""
    base, _, rest = page.url.partition("/s/")
    return f"{base}/s/{rest.partition('/')[0]}/{name}"


def unlock(page: Page, key: Path) -> None:
    """Gives the key file that the page asks for."""
    page.get_by_label("Key file of this home").set_input_files(key)
    page.get_by_role("button", name="Unlock and go on").click()
