"""The journal: what is about to be done is written down first, one JSON line each, in a file of this process alone.

A process that is killed loses nothing that it wrote: the system has it. The machine itself is not torn down here.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any


class Journal:
    """One process's part of the run's journal."""

    def __init__(self, run: Path, name: str) -> None:
        directory = run / "journal"
        directory.mkdir(parents=True, exist_ok=True)
        self._file = (directory / f"{name}.jsonl").open("ab", buffering=0)
        # Whoever wrote here before may have been killed within a line.
        self._file.write(b"\n")

    def write(self, what: str, **facts: Any) -> None:
        line = {"what": what, "t": time.monotonic(), **facts}
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        self._file.close()
