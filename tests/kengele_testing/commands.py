"""``kengele`` as people run it, each command in a process of its own, in the homes of a small network.

told = asked(network, "office", "keys", home=network.offices["unrcca"].home)
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kengele_node.demo.network import Network

from . import forked


def run(network: Network, *words: str, home: Path, fails: int = 0) -> str:
    """What one command says on stdout; on both where it ``fails`` with that code."""
    done = forked.run((*words, *_where(network, home)), cwd=network.home)
    assert done.returncode == fails, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if not fails else done.stdout + done.stderr


def asked(network: Network, *words: str, home: Path) -> Any:
    """What one command says as JSON."""
    return json.loads(run(network, *words, "--json", home=home))


def lines(network: Network, *words: str, home: Path) -> list[Any]:
    """Likewise, of one that says one JSON object a line."""
    return [json.loads(line) for line in run(network, *words, "--json", home=home).splitlines()]


@contextmanager
def running(network: Network, *words: str, home: Path) -> Iterator[subprocess.Popen[str]]:
    """A command that runs as long as the block does."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kengele_node.cli", *words, "--json", *_where(network, home)],
        cwd=network.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def says(process: subprocess.Popen[str]) -> Any:
    """The next line of a command that runs."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "it ended"
    return json.loads(line)


def _where(network: Network, home: Path) -> tuple[str, ...]:
    return ("--home", str(home), "--key-file", str(network.home / "key"))
