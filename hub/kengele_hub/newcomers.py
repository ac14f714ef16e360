"""The names in an area's lists that are sent: keys on the bus and monitors, to be held against who is invited where.

>>> named(files)
{'UABC…': {'KG'}, 'm-…': {'KG'}}
"""

from __future__ import annotations

from typing import Any

from kengele_schemas.encoding import loads
from kengele_schemas.errors import Malformed
from kengele_schemas.metadata import TARGETS, Files
from kengele_schemas.regional import LINES, MONITORS
from kengele_schemas.trusted import MAX_DOCUMENT


def named(files: Files) -> dict[str, set[str]]:
    """By name, the areas whose lists among ``files`` speak of it. What is no list of an area is passed over."""
    found: dict[str, set[str]] = {}
    for path, data in files.items():
        folder = path.removeprefix(TARGETS).partition("/")[0]
        if not path.startswith(TARGETS) or folder not in (LINES, MONITORS):
            continue
        try:
            document = loads(data, max_bytes=MAX_DOCUMENT, max_depth=12)
            area, names = str(document["area"]), list(_names(document))
        except (Malformed, KeyError, TypeError, AttributeError):
            continue
        for name in names:
            found.setdefault(name, set()).add(area)
    return found


def _names(document: Any) -> list[str]:
    rows = [*document.get("connections", ()), *document.get("revoked", ()), *document.get("monitors", ())]
    return [str(row[field]) for row in rows for field in ("nkey", "kid") if field in row]
