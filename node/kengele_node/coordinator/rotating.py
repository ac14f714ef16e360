"""Rotating: what members' own word about their keys makes of the network's documents. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.fields import read
from kengele_schemas.roster import Office
from kengele_schemas.rotation import OfficeKeys, vouched

Documents = Mapping[str, Any]


def take_keys(documents: Documents, statement: OfficeKeys, network: str) -> dict[str, Any]:
    """The documents with the keys of ``statement`` in the place of those that its office has.

    Args:
        documents: those in force, by path.
        statement: of the office.
        network: the digest of the network's first root.

    Raises:
        Refused: ``no-such-member``; ``overtaken``.
        Untrusted: ``bad-card``: it is not the office's.
    """
    offices = documents["offices.json"]
    row = next((row for row in offices["offices"] if row["id"] == statement.office), None)
    if row is None:
        raise Refused("no-such-member", "There is no such office.", "See: kengele coordinator members list")
    statement.check(read(Office, row), network)
    keys = [key.model_dump(mode="json", exclude_none=True) for key in statement.keys]
    changed = {**row, "keys": keys, "vouched": statement.signature}
    rows = [changed if one is row else one for one in offices["offices"]]
    return {"offices.json": {**offices, "offices": rows}}


def offices_word(old: Sequence[Any], new: Sequence[Any], network: str) -> list[str]:
    """Of each office whose keys change, whether it says so itself."""
    before = {row["id"]: row for row in old}
    told = []
    for row in new:
        was = before.get(row["id"])
        if was is None or (row["keys"], row["sign"]) == (was["keys"], was["sign"]):
            continue
        try:
            own = vouched(read(Office, row), read(Office, was), network)
        except Malformed:
            own = False
        if own:
            told.append(f"Office {row['id']}: its new keys are signed by the office itself.")
        else:
            told.append(
                f"Office {row['id']}: ITS KEYS CHANGE, AND IT HAS NOT SIGNED THAT. Whoever made the new ones reads what"
                " is sealed for it from then on. Ask the office, by voice, before you sign."
            )
    return told
