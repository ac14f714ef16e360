"""Lines: of which keys on the bus an area's list may speak.

Who is named in one list can stand in no other. So an area may let in only a key whose owner asked to report from
there, and keep out only a key that it had itself. Both are judged by signed documents alone.

>>> check_own(current, made)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from .cards import JoinRequest
from .errors import Malformed, Refused
from .fields import read
from .metadata import Files, document_of, document_paths
from .regional import LINES, MONITORS, area_of
from .trusted import CONNECTIONS


def check_own(current: Files, made: Files) -> None:
    """Checks each key that an area's list in ``made`` newly speaks of.

    Its monitor asked for it, or the network's coordinators give it away in the same version.

    Raises:
        Refused: ``not-theirs``.
    """
    # A key that two lists name is refused before: what comes from the network's list has gone from there.
    given = _keys(document_of(current, CONNECTIONS), ("connections",))
    for path in (path for path in document_paths(made) if path.startswith(f"{LINES}/")):
        new = document_of(made, path) or {}
        theirs = _keys(document_of(current, path)) | given
        monitors = (document_of(made, f"{MONITORS}/{area_of(path)[1]}.json") or {}).get("monitors", ())
        entries = {entry["kid"]: entry for entry in monitors}
        if _keys(new, ("revoked",)) - theirs:
            raise Refused(
                "not-theirs",
                "An area's list keeps out a key that it never had.",
                "Leave it out: only those who let a key in can keep it out.",
            )
        if not all(row["nkey"] in theirs or _asked(row, entries) for row in new.get("connections", ())):
            raise Refused(
                "not-theirs",
                "An area's list lets in a key whose owner did not ask for it.",
                "Leave it out, and admit its owner by her own join request.",
            )


def _keys(document: Any, kinds: Collection[str] = ("connections", "revoked")) -> set[str]:
    return {row["nkey"] for kind in kinds for row in (document or {}).get(kind, ())}


def _asked(row: Mapping[str, Any], entries: Mapping[str, Any]) -> bool:
    """Whether the key in ``row`` signed the request by which its monitor asked to be let in."""
    entry = entries.get(row["member"])
    if entry is None or "asked" not in row:
        return False
    said = {
        "role": "monitor",
        "nkey": row["nkey"],
        "areas": entry["areas"],
        "monitor": {"kid": entry["kid"], "key": entry["key"]},
        "nkey_signature": row["asked"],
    }
    try:
        return read(JoinRequest, said).by_nkey()
    except Malformed:
        return False
