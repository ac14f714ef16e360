"""Writes the test vectors anew; with ``--check`` writes nothing and says which differ.

    PYTHONPATH=tests .venv/bin/python -m vectors.generate [--check]

Needs Node.js for the envelopes, whose wraps only the programs in ``tests/interop`` can make from given randomness.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from . import good, hostile, plain

HERE: Final = Path(__file__).parent
FILES: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    **plain.FILES,
    "envelopes.json": good.envelopes,
    "bad-envelopes.json": hostile.bad_envelopes,
}


def written(content: object) -> bytes:
    """A file's bytes: for people to look at, and the same wherever it is written."""
    return json.dumps(content, ensure_ascii=False, indent=1).encode() + b"\n"


def main(words: list[str]) -> int:
    differing = []
    for name, build in FILES.items():
        path, data = HERE / name, written(build())
        if not path.is_file() or path.read_bytes() != data:
            differing.append(name)
            if "--check" not in words:
                path.write_bytes(data)
    print(f"{'Differ' if '--check' in words else 'Written'}: {', '.join(differing) or 'none'}")
    return int("--check" in words and bool(differing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
