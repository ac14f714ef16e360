"""The programs in ``tests/interop``, which share nothing with Kengele but the written format, called from Python.

opened([{"envelope": …, "author": …, "office": …, "suite": …, "key": …}])
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

NODE: Final = shutil.which("node")
WHERE: Final = Path(__file__).parents[1] / "interop"
_BOUND: Final = 60
"""Seconds."""


def run(*arguments: str, said: object = None) -> Any:
    """What a program answers; it must say nothing on its standard error."""
    done = subprocess.run(
        [str(NODE), *arguments],
        cwd=WHERE,
        input=json.dumps(said).encode(),
        capture_output=True,
        timeout=_BOUND,
        check=False,
    )
    assert not done.stderr, done.stderr.decode()
    return json.loads(done.stdout)


def opened(reports: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the stranger's desk makes of each, ``{"error": code}`` where it refuses."""
    found: list[dict[str, Any]] = run("opener.mjs", said=reports)
    return found


def sealed(reports: Sequence[dict[str, Any]]) -> list[Any]:
    """The envelopes that the stranger's node makes, as texts; ``{"error": code}`` where it refuses."""
    found: list[Any] = run("sealer.mjs", said=reports)
    return found


def wrapped(wraps: Sequence[dict[str, str]]) -> list[str]:
    """HPKE's output for each, from the randomness that it names."""
    found: list[str] = run("wrapper.mjs", said=wraps)
    return found


def log(directory: Path, said: dict[str, Any]) -> dict[str, Any]:
    """What the stranger's auditor makes of an exported log; ``{"error": what}`` for the first thing that fails."""
    found: dict[str, Any] = run("log.mjs", str(directory), said=said)
    return found
