"""Seats: whose signatures count for which list, and who has signed what is new. Signatures were verified before.

>>> newly_counting(current, made)
['the network']
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any, Final

from tuf.api._payload import Root, Targets
from tuf.api.metadata import Metadata

from . import widening
from .metadata import LIST, ROOT, SNAPSHOT, TIMESTAMP, Files, newest, signed_part, versions
from .regional import area_of, delegated, path_of
from .trusted import Trusted

_HUBS: Final = (SNAPSHOT, TIMESTAMP, ROOT)


def newly_counting(current: Files, made: Files) -> list[str]:
    """The lists for which somebody signs who did not before: ``the network``, or an area."""
    found = []
    old, new = (seats(files) for files in (current, made))
    for name, keyids in new.items():
        # Those who sign for all gain nothing where they sign for an area too.
        if keyids - old.get(name, set()) - (new[LIST] if name != LIST else set()):
            found.append("the network" if name == LIST else area_of(path_of(name))[1])
    return sorted(set(found))


def seats(files: Files) -> dict[str, set[str]]:
    """The TUF key ids that count for each list."""
    root, targets = signed_part(files[newest(files, ROOT)], Root), signed_part(files[newest(files, LIST)], Targets)
    return {LIST: {*root.roles[LIST].keyids}} | {name: {*role.keyids} for name, role in delegated(targets).items()}


def signers(current: Files, made: Files) -> list[set[str]]:
    """Who has signed each list that is new in ``made``.

    Only those are named who counted before: whom a version seats is no further voice for it. A list that comes to
    other people is left out, as those who sign the coordinators' list with it answer for that.
    """
    before, after = seats(current), seats(made)
    root, targets = signed_part(made[newest(made, ROOT)], Root), signed_part(made[newest(made, LIST)], Targets)
    found = []
    for name in after:
        path = newest(made, name) if any(role == name for _, role in versions(made)) else ""
        if path in current or not path or (name != LIST and after[name] != before.get(name, before[LIST])):
            continue
        listing = Metadata[Any].from_bytes(made[path])
        by = (root if name == LIST else targets).get_verification_result
        found.append(before.get(name, before[LIST]) & set(by(name, listing.signed_bytes, listing.signatures).signed))
    return found


def consecutive(current: Files, made: Files) -> bool:
    """Whether each list in ``made`` is the one in ``current`` or follows it at once."""
    old = {name: version for version, name in versions(current)}
    return all(version - old.get(name, 0) <= 1 for version, name in versions(made) if name not in _HUBS)


def grounds(
    current: Files, made: Files, before: Trusted, after: Trusted, network: str, today: date
) -> Iterator[widening.Ground]:
    """All ways by which ``made`` widens ``current``.

    Args:
        before, after: the documents of both.
        network: the digest of the network's first root.
    """
    yield from (widening.Ground("coordinators", name) for name in newly_counting(current, made))
    yield from widening.grounds(before, after, network, today)
