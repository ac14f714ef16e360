"""Every secret of a hub, as it stands in its ``keys.json``: also those that are added later."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kengele_schemas.encoding import unb64u
from kengele_schemas.errors import Malformed


def seeds(home: Path) -> list[str]:
    """All seeds of the hub at ``home``, in each of the spellings in which one might stand somewhere."""
    found = [text for text in _texts(json.loads((home / "keys.json").read_text("utf-8"))) if len(text) >= 32]
    return [*found, *(raw.hex() for text in found if (raw := _raw(text)))]


def _texts(document: Any) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, dict):
        for value in document.values():
            yield from _texts(value)


def _raw(text: str) -> bytes:
    try:
        return unb64u(text)
    except Malformed:
        return b""
