"""The hub's part of the metadata: it takes a version that coordinators signed and says that there is none newer.

It can sign no document: only TUF's snapshot and timestamp.

    >>> files = accept(files, draft.files(), snapshot_key, timestamp_key, now)
"""

from __future__ import annotations

import tempfile
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from nacl.signing import SigningKey
from tuf.api._payload import MetaFile, Root, Snapshot, Targets, Timestamp
from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata

from . import assertions, seats, widening
from .drafts import TARGETS_LIFE
from .errors import Malformed, Refused, Untrusted
from .lines import check_own
from .metadata import (
    LIST,
    METADATA,
    ROOT,
    SNAPSHOT,
    Files,
    check_next,
    document_of,
    document_paths,
    documents_of,
    hashed,
    lists,
    metadata_version,
    newest,
    signed_part,
    signer_of,
    state,
    until,
    versions,
)
from .nkeys import decode_public
from .orders import check_follows
from .regional import POLICY, check_room, delegated, role_of
from .trust import TrustStore
from .trusted import Trusted

SNAPSHOT_LIFE: Final = timedelta(days=7)
TIMESTAMP_LIFE: Final = timedelta(days=1)
MAX_REVOKED: Final = 6000
"""Keys in all lists together; the broker takes them in one message."""


def accept(
    current: Files | None, incoming: Files, snapshot_key: SigningKey, timestamp_key: SigningKey, now: datetime
) -> dict[str, bytes]:
    """All files of the version that ``incoming`` makes of ``current``, with the hub's part of the metadata.

    They are read as any client would read them before they are given back.

    Raises:
        Refused: ``old-version``, ``not-needed``: not the next version, or it holds files that are not of it;
            ``assertion-broken``; ``too-few-signatures``: for a widening the network asks for more; ``gives-back``:
            it leaves a recall out, or less of one, or a revoked key; ``too-many-revoked``.
        Untrusted, Malformed: as :meth:`~kengele_schemas.trust.TrustStore.refresh`; too few signatures above all.
    """
    try:
        files = {**(current or {}), **incoming}
        if current is None:
            root = incoming["metadata/1.root.json"]
            if [name for _, name in versions(incoming)].count(ROOT) != 1:
                raise Refused("not-needed", "A network's first version has one root.", "Found it anew.")
            if {number for number, _ in versions(incoming)} != {1}:
                raise Refused("old-version", "A network's first version is number 1.", "Found it anew.")
            Metadata[Root].from_bytes(root).verify_delegate(ROOT, Metadata[Any].from_bytes(root))
        else:
            check_next(current, incoming)
            root = current["metadata/1.root.json"]
        files = current_of(files)
        if not set(incoming) <= set(files):
            raise Refused("not-needed", "Files were sent that are not of this version.", "Make the draft anew.")
        if current is not None:
            _check_delegations(current, files)
        elif state(files) != 1:
            raise Refused("old-version", "A network's first version is number 1.", "Found it anew.")
        last = metadata_version(current[newest(current, SNAPSHOT)]) if current else 0
        stamp = metadata_version(current["metadata/timestamp.json"]) if current else 0
        made = current_of(vouched(files, snapshot_key, timestamp_key, now, last + 1, stamp + 1))
    except UnsignedMetadataError:
        raise Untrusted("too-few-signatures", "Too few coordinators have signed.", "Get one more signature.") from None
    except (RepositoryError, ValueError, TypeError, AttributeError):
        raise Untrusted(
            "bad-signature", "These files are not signed as they must be.", "Make the draft anew."
        ) from None
    except KeyError:
        raise Malformed("bad-draft", "A file is missing from this version.", "Make the draft anew.") from None
    _check_made(current, made, root, now)
    return made


def reinstate(
    held: Files, incoming: Files, since: datetime, snapshot_key: SigningKey, timestamp_key: SigningKey, now: datetime
) -> dict[str, bytes]:
    """All files of a version that coordinators signed for a hub that was restored from a copy and knows only ``held``.

    What was signed before ``since`` does not count, though enough have signed it: something newer may have revoked
    whom it admits. The hub's own part is numbered by the clock, beyond all that it signed after the copy was made.

    Args:
        incoming: a whole set, every list in it that the network's coordinators sign signed since.
        since: when the hub was restored.

    Raises:
        Refused: ``old-version``, ``assertion-broken``, ``too-few-signatures``, as :func:`accept`.
        Untrusted, Malformed: as :func:`accept`.
    """
    try:
        files = current_of({**held, **incoming})
        _check_delegations(held, files)
        signed = min(signed_part(files[path], Targets).expires for path in _coordinators_lists(files)) - TARGETS_LIFE
        number, last = (metadata_version(one[newest(one, LIST)]) for one in (files, held))
        if number <= last or signed < since:
            raise Refused(
                "old-version",
                "This was signed before the hub was restored from a copy.",
                "Sign the newest version anew: kengele coordinator renew. Clocks must be right.",
            )
        marks = (metadata_version(held[newest(held, SNAPSHOT)]), metadata_version(held["metadata/timestamp.json"]))
        beyond = (max(mark + 1, int(now.timestamp())) for mark in marks)
        made = current_of(vouched(files, snapshot_key, timestamp_key, now, *beyond))
    except (RepositoryError, ValueError, TypeError, AttributeError):
        raise Untrusted("bad-signature", "These files are not signed as they must be.", "Make it anew.") from None
    except KeyError:
        raise Malformed("bad-draft", "A file is missing from this version.", "Send the whole set.") from None
    _check_made(held, made, held["metadata/1.root.json"], now)
    return made


def _coordinators_lists(files: Files) -> list[str]:
    """The lists that the network's coordinators sign; a region's own are signed by others, in their own time."""
    root = signed_part(files[newest(files, ROOT)], Root)
    targets = signed_part(files[newest(files, LIST)], Targets)
    own = {*root.roles[LIST].keyids}
    return [
        newest(files, LIST),
        *(newest(files, name) for name, role in delegated(targets).items() if own == {*role.keyids}),
    ]


def _check_made(current: Files | None, made: Files, root: bytes, now: datetime) -> None:
    """Reads ``made`` as any client would, and holds it against what must stay true and against ``current``."""
    with tempfile.TemporaryDirectory() as directory:
        trusted = TrustStore(Path(directory), root).refresh(made.get, "hub", now)
    check_room(lists(made).keys() - {LIST})
    before = documents_of(current) if current is not None else None
    assertions.require_all(before, trusted, now.date())
    _check_widening(current, made, before, trusted, now.date())
    check_follows(trusted.orders, before.orders if before is not None else {})
    _check_lines(before, trusted)
    _check_revoked(before, trusted)
    if current is not None:
        check_own(current, made)
    for path in document_paths(made):
        if path == "policy.json" or path.startswith(f"{POLICY}/"):
            listed = metadata_version(made[newest(made, LIST if "/" not in path else role_of(path))])
            _check_number(document_of(current, path) if current else None, document_of(made, path), listed)


def _check_number(before: Any, after: Any, listed: int) -> None:
    """Checks that rules which changed have a higher number: what was sealed under older ones is told by it. And none
    beyond the version of their list, or with one leap an area could use up the numbers of all."""
    if before is not None and before != after and after["version"] <= before["version"]:
        raise Refused("old-version", "The policy changed and its version did not go up.", "Raise it by one.")
    if after["version"] > listed:
        raise Refused("old-version", "The policy's version leaves numbers out.", "Raise it by one.")


def _check_lines(before: Trusted | None, after: Trusted) -> None:
    """Checks that what is new among the connections are keys: of one that is none the broker would take no list."""
    old, new = (
        {row.nkey for row in one.connections.connections} | {row.nkey for row in one.connections.revoked}
        if one is not None and one.connections is not None
        else set()
        for one in (before, after)
    )
    for nkey in sorted(new - old):
        decode_public(nkey, "user")


def _check_revoked(before: Trusted | None, after: Trusted) -> None:
    """Checks that who was revoked stays so, and that the broker can hold the keys of all lists together: it forgets
    none, and one area alone could bring it to where nobody can be revoked any more."""
    old, new = (
        {row.nkey for row in one.connections.revoked} if one is not None and one.connections is not None else set()
        for one in (before, after)
    )
    if not old <= new:
        raise Refused("gives-back", "A key that was revoked would be left out.", "Keep it in the list.")
    if len(new) > MAX_REVOKED:
        raise Refused(
            "too-many-revoked",
            f"More than {MAX_REVOKED} keys would be revoked in all lists together.",
            "Revoke those that matter most; take an area back that revokes keys without need.",
        )


def _check_delegations(current: Files, files: Files) -> None:
    """Checks that no regional list is dropped: it is emptied, lest what it forbade be forgotten unseen."""
    old, new = ({*delegated(signed_part(some[newest(some, LIST)], Targets))} for some in (current, files))
    if not old <= new:
        raise Refused("old-version", "A region's lists would be gone.", "Empty them instead.")


def refresh_timestamp(
    current: Files, snapshot_key: SigningKey, timestamp_key: SigningKey, now: datetime, *, before: datetime
) -> dict[str, bytes]:
    """``current`` with the hub's part signed anew if any of it expires before ``before``; unchanged if none does."""
    snapshot = signed_part(current[newest(current, SNAPSHOT)], Snapshot)
    timestamp = signed_part(current["metadata/timestamp.json"], Timestamp)
    if min(snapshot.expires, timestamp.expires) >= before:
        return dict(current)
    stale = snapshot.expires < before + SNAPSHOT_LIFE / 2
    return current_of(
        vouched(dict(current), snapshot_key, timestamp_key, now, snapshot.version + stale, timestamp.version + 1)
    )


def vouched(
    files: dict[str, bytes], snapshot_key: SigningKey, timestamp_key: SigningKey, now: datetime, last: int, stamp: int
) -> dict[str, bytes]:
    """``files`` with snapshot number ``last`` and timestamp number ``stamp``."""
    names = {name for _, name in versions(files)} - {ROOT, SNAPSHOT}
    meta = {f"{name}.json": MetaFile(metadata_version(files[newest(files, name)])) for name in sorted(names)}
    snapshot = Metadata(Snapshot(version=last, expires=until(now, SNAPSHOT_LIFE), meta=meta))
    snapshot.sign(signer_of(snapshot_key))
    timestamp = Metadata(Timestamp(version=stamp, expires=until(now, TIMESTAMP_LIFE), snapshot_meta=MetaFile(last)))
    timestamp.sign(signer_of(timestamp_key))
    path = f"{METADATA}{last}.{SNAPSHOT}.json"
    return {**files, path: snapshot.to_bytes(), "metadata/timestamp.json": timestamp.to_bytes()}


def _check_widening(current: Files | None, made: Files, before: Trusted | None, trusted: Trusted, today: date) -> None:
    asked = before.network.widening_threshold or 0 if before is not None else 0
    if current is None or before is None or min(map(len, seats.signers(current, made)), default=0) >= asked:
        return
    why = next(seats.grounds(current, made, before, trusted, trusted.identity, today), None)
    if why is not None:
        raise Refused(
            "too-few-signatures",
            widening.told(asked, why),
            "Give the draft to one more coordinator: kengele coordinator sign FILE",
        )


def current_of(files: Files) -> dict[str, bytes]:
    """What of ``files`` is needed by who comes now: every root, the newest of the other roles, the documents listed."""
    targets = signed_part(files[newest(files, LIST)], Targets)
    wanted = {newest(files, LIST)} | {path for path in files if path.endswith(f".{ROOT}.json")}
    lists = [targets]
    for name in delegated(targets):
        path = newest(files, name)
        wanted.add(path)
        lists.append(signed_part(files[path], Targets))
    wanted |= {hashed(path, info.hashes["sha256"]) for one in lists for path, info in one.targets.items()}
    wanted |= {path for path in files if path == "metadata/timestamp.json"}
    if any(name == SNAPSHOT for _, name in versions(files)):
        wanted.add(newest(files, SNAPSHOT))
    return {path: files[path] for path in sorted(wanted)}
