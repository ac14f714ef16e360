"""How roster and policy come to be: drafts, which coordinators pass round until enough of them have signed.

A draft is one file: new documents, and the metadata that lists them, byte for byte as it will be published.

    >>> draft = edit(files, {"policy.json": policy}, now)
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from securesystemslib.signer._key import Key
from tuf.api._payload import DelegatedRole, Delegations, Role, Root, TargetFile, Targets
from tuf.api.metadata import Metadata

from .cards import CoordinatorCard
from .encoding import b64u, canonical, loads, unb64u
from .errors import Malformed, Refused
from .fields import is_version
from .metadata import (
    LIST,
    MAX_DRAFT,
    ROOT,
    SNAPSHOT,
    TIMESTAMP,
    Files,
    bad_draft,
    coordinator_of,
    lists,
    metadata_path,
    metadata_version,
    newest,
    public_key,
    signed_part,
    target_path,
    until,
    versions,
)
from .orders import RECALLS
from .regional import FLOORS, area_of, check_room, delegated, path_of, paths, revision, role_of
from .trusted import CONNECTIONS

ROOT_LIFE: Final = timedelta(days=365)
TARGETS_LIFE: Final = timedelta(days=14)
_BLOCKS: Final = {CONNECTIONS: 64 * 1024, RECALLS: 4 * 1024}
"""Bytes; some five hundred members, some forty recalls."""


@dataclass(frozen=True)
class Draft:
    """A new version on its way to being signed.

    ``roles`` are metadata files by TUF role, with the signatures so far; ``documents`` the new ones by path; ``root``
    and ``targets`` the metadata by which the signatures count; ``version`` the number of the state that it makes of the
    one it was drafted upon.
    """

    roles: Mapping[str, bytes]
    documents: Mapping[str, bytes]
    root: bytes = field(repr=False)
    targets: bytes = field(repr=False)
    version: int

    def encode(self) -> bytes:
        """The draft as a file."""
        texts = {
            "roles": {name: b64u(data) for name, data in self.roles.items()},
            "documents": {path: data.decode("utf-8") for path, data in self.documents.items()},
            "root": b64u(self.root),
            "targets": b64u(self.targets),
        }
        head = {"v": 1, "kind": "draft", "version": self.version}
        return (json.dumps({**head, **texts}, indent=1, ensure_ascii=False) + "\n").encode("utf-8")

    @classmethod
    def decode(cls, data: bytes) -> Draft:
        """Raises Malformed, ``bad-draft``."""
        try:
            found = loads(data, max_bytes=MAX_DRAFT)
            if not is_version(found["v"], 1) or found["kind"] != "draft":
                raise bad_draft()
            draft = cls(
                {str(name): unb64u(text) for name, text in found["roles"].items()},
                {str(path): text.encode("utf-8") for path, text in found["documents"].items()},
                unb64u(found["root"]),
                unb64u(found["targets"]),
                int(found["version"]),
            )
            for metadata in (*draft.roles.values(), draft.root, draft.targets):
                metadata_version(metadata)
        except (Malformed, KeyError, TypeError, ValueError, AttributeError):
            raise bad_draft() from None
        return draft

    @property
    def founding(self) -> bool:
        """Whether it is a network's first version, which is drafted upon nothing."""
        return ROOT in self.roles and LIST in self.roles and metadata_version(self.roles[LIST]) == 1

    @property
    def area(self) -> str:
        """The area for which it is alone; empty if the coordinators' own list is in it, or nothing is."""
        names = {area_of(path_of(role))[1] for role in self.roles if role not in (ROOT, LIST)}
        return min(names, default="") if LIST not in self.roles and len(names) == 1 else ""

    def including(self, role: str, metadata: bytes) -> Draft:
        """This draft with one more role to sign."""
        return replace(self, roles={role: metadata, **self.roles})

    def files(self) -> dict[str, bytes]:
        """What is sent to the hub."""
        files = {metadata_path(role, data): data for role, data in self.roles.items()}
        return files | {target_path(path, data): data for path, data in self.documents.items()}


def found(
    documents: Mapping[str, Any],
    coordinators: Sequence[CoordinatorCard],
    threshold: int,
    snapshot_key: str,
    timestamp_key: str,
    now: datetime,
) -> Draft:
    """The draft of a network's first version.

    Args:
        documents: JSON values by path, all of them.
        coordinators: whose signatures will count.
        threshold: how many of them are needed.
        snapshot_key, timestamp_key: the hub's public keys, from its card.
        now: UTC.

    Raises:
        Malformed: ``bad-threshold``.
    """
    ids = {card.id for card in coordinators}
    if len(ids) != len(coordinators) or not 1 <= threshold <= len(ids):
        raise Malformed(
            "bad-threshold", "So many signatures cannot be had from these coordinators.", "Name each coordinator once."
        )
    keys = [public_key(unb64u(card.key)) for card in coordinators]
    hub = {SNAPSHOT: public_key(unb64u(snapshot_key)), TIMESTAMP: public_key(unb64u(timestamp_key))}
    keyids = [key.keyid for key in keys]
    roles = {
        ROOT: Role(keyids, threshold),
        LIST: Role(keyids, threshold),
        **{name: Role([key.keyid], 1) for name, key in hub.items()},
    }
    known: dict[str, Key] = {key.keyid: key for key in (*keys, *hub.values())}
    root = Metadata(Root(version=1, expires=until(now, ROOT_LIFE), keys=known, roles=roles)).to_bytes()
    return relisted(root, Targets(version=1), {}, documents, now).including(ROOT, root)


def edit(current: Files, changed: Mapping[str, Any], now: datetime, *, area: str = "") -> Draft:
    """The draft of a next version: ``changed`` documents in the place of those they follow, the others as they are.

    The signatures' life begins anew in what is touched and in what is past half of it; with nothing changed, in all
    but the root, which lasts longer, and the lists that others sign.

    Args:
        area: whose regional coordinators are to sign it, alone; nothing else is in it then.

    Raises:
        Refused: ``not-delegated``: the area has no lists.
        Malformed: ``foreign-area``: what is not the area's own is changed.
    """
    if area:
        return _regional(current, changed, area, now)
    targets = signed_part(current[newest(current, LIST)], Targets)
    targets.version += 1
    root = current[newest(current, ROOT)]
    draft = relisted(root, targets, current, changed, now)
    counting = signed_part(root, Root)
    if counting.expires > now + ROOT_LIFE / 2:
        return draft
    # Without a root nothing else counts, and nobody would think of it once a year.
    counting.version += 1
    counting.expires = until(now, ROOT_LIFE)
    return draft.including(ROOT, Metadata(counting).to_bytes())


def reseat(
    current: Files,
    changed: Mapping[str, Any],
    coming: Sequence[CoordinatorCard],
    going: Collection[str],
    threshold: int | None,
    now: datetime,
) -> Draft:
    """The draft by which other coordinators count from then on: a new root, and all lists to be signed under it.

    It takes as many signatures of those who count now as of those who will, so nobody is put in their place unasked
    (TUF 1.0 §5.3.4, §6.1).

    Args:
        changed: the documents with the coordinators' new connections, and whatever else changes.
        coming: cards of those who come in.
        going: ids of those who go.
        threshold: how many signatures count then; as now if None.

    Raises:
        Malformed: ``bad-threshold``.
    """
    root = signed_part(current[newest(current, ROOT)], Root)
    role = root.roles[LIST]
    keys = {keyid: root.keys[keyid] for keyid in role.keyids if coordinator_of(root.keys[keyid]) not in going}
    keys |= {key.keyid: key for key in (public_key(unb64u(card.key)) for card in coming)}
    return reseated(current, changed, keys, role.threshold if threshold is None else threshold, now)


def reseated(
    current: Files, changed: Mapping[str, Any], keys: Mapping[str, Key], threshold: int, now: datetime
) -> Draft:
    before = current[newest(current, ROOT)]
    root, was = signed_part(before, Root), signed_part(before, Root).roles[LIST]
    if not 1 <= threshold <= len(keys):
        raise Malformed(
            "bad-threshold", "So many signatures cannot be had from these coordinators.", "Name another threshold."
        )
    keyids = sorted(keys)
    root.keys = {**{keyid: key for keyid, key in root.keys.items() if keyid not in was.keyids}, **keys}
    for name in (ROOT, LIST):
        root.roles[name] = Role(keyids, threshold)
    root.version += 1
    root.expires = until(now, ROOT_LIFE)
    targets = signed_part(current[newest(current, LIST)], Targets)
    targets.version += 1
    theirs = {name: one for name, one in delegated(targets).items() if set(one.keyids) == set(was.keyids)}
    for one in theirs.values():
        one.keyids, one.threshold = list(keyids), threshold
    if targets.delegations:
        targets.delegations.keys |= keys
    made = Metadata(root).to_bytes()
    draft = relisted(made, targets, current, changed, now, anew=theirs)
    return replace(draft, root=before).including(ROOT, made)


def hand_over(
    current: Files, changed: Mapping[str, Any], area: str, keys: Mapping[str, Key], threshold: int, now: datetime
) -> Draft:
    """The draft by which others sign an area's lists from then on; with no ``keys``, the coordinators themselves.

    It takes the coordinators' signatures and, under the lists, those of the ones who are to count: nobody is put in
    their place unasked.

    Args:
        changed: the documents; the area has to have all of its own, here or in force.
        keys: of those who are to sign, by TUF key id.
        threshold: how many of them have to.

    Raises:
        Malformed: ``bad-threshold``.
    """
    root = current[newest(current, ROOT)]
    top = signed_part(root, Root)
    if not keys:
        keys = {keyid: top.keys[keyid] for keyid in top.roles[LIST].keyids}
        threshold = top.roles[LIST].threshold
    if not 1 <= threshold <= len(keys):
        raise Malformed(
            "bad-threshold", "So many signatures cannot be had from these coordinators.", "Name another threshold."
        )
    targets = signed_part(current[newest(current, LIST)], Targets)
    targets.version += 1
    roles = {**delegated(targets)}
    for path in paths(area):
        roles[role_of(path)] = DelegatedRole(role_of(path), sorted(keys), threshold, terminating=True, paths=[path])
    known = targets.delegations.keys if targets.delegations else {}
    targets.delegations = Delegations({**known, **keys}, roles)
    return relisted(root, targets, current, changed, now, anew={role_of(path) for path in paths(area)})


def _regional(current: Files, changed: Mapping[str, Any], area: str, now: datetime) -> Draft:
    listing = current[newest(current, LIST)]
    own = [path for path in paths(area) if role_of(path) in delegated(signed_part(listing, Targets))]
    if not own:
        raise Refused("not-delegated", f"There are no lists for {area}.", "See: kengele coordinator seats --region")
    strange = sorted(set(changed) - set(own))
    if strange:
        raise Malformed("foreign-area", f"This draft for {area} changes {strange[0]}.", "Draft that without --region.")
    documents = {path: spelt(path, value) for path, value in changed.items()}
    roles = {}
    for path in own:
        listed = signed_part(current[newest(current, role_of(path))], Targets)
        if path in documents or not changed or listed.expires <= now + TARGETS_LIFE / 2:
            roles[role_of(path)] = _list(path, listed, documents, now)
    return Draft(roles, documents, current[newest(current, ROOT)], listing, _number(current, roles))


def _list(path: str, before: Targets | None, documents: Mapping[str, bytes], now: datetime) -> bytes:
    """The next regional list of the document at ``path``."""
    listed = Targets(version=(before.version if before else 0) + 1, expires=until(now, TARGETS_LIFE))
    if path in documents:
        listed.targets[path] = TargetFile.from_data(path, documents[path])
    elif before is not None:
        listed.targets = before.targets
    return Metadata(listed).to_bytes()


def _number(current: Files, roles: Mapping[str, bytes]) -> int:
    """The number of the state that these lists make of ``current``."""
    made = {name: metadata_version(data) for name, data in roles.items() if name != ROOT}
    return revision(((lists(current) if current else {}) | made).values())


def relisted(
    root: bytes,
    targets: Targets,
    current: Files,
    changed: Mapping[str, Any],
    now: datetime,
    *,
    anew: Collection[str] = (),
) -> Draft:
    """The draft that has ``targets`` list what is ``changed``.

    Args:
        anew: regional roles whose list is signed again whatever stands in it, as when other people sign it.
    """
    counting = signed_part(root, Root)
    role = counting.roles[LIST]
    targets.expires = until(now, TARGETS_LIFE)
    documents = {path: spelt(path, value) for path, value in changed.items()}
    roles: dict[str, bytes] = {}
    known = dict(targets.delegations.keys) if targets.delegations else {}
    regions = {**delegated(targets)}
    for path, data in documents.items():
        if "/" not in path:
            targets.targets[path] = TargetFile.from_data(path, data)
            continue
        name = role_of(path)
        if name not in regions:
            regions[name] = DelegatedRole(name, list(role.keyids), role.threshold, terminating=True, paths=[path])
            known |= {keyid: counting.keys[keyid] for keyid in role.keyids}
    check_room(regions)
    held = {name for _, name in versions(current)}
    floors: dict[str, int] = {}
    for name, one in regions.items():
        path = path_of(name)
        listed = signed_part(current[newest(current, name)], Targets) if name in held else None
        # A list that ran out would stop its area; so those that the same people sign are renewed in passing.
        ageing = set(one.keyids) == set(role.keyids) and (
            not changed or (listed is not None and listed.expires <= now + TARGETS_LIFE / 2)
        )
        if path in documents or name in anew or listed is None or ageing:
            roles[name] = _list(path, listed, documents, now)
        floors[name] = metadata_version(roles[name]) if name in roles or listed is None else listed.version
    targets.unrecognized_fields[FLOORS] = floors
    if regions:
        used = {keyid for one in regions.values() for keyid in one.keyids}
        targets.delegations = Delegations({keyid: key for keyid, key in known.items() if keyid in used}, regions)
    listing = Metadata(targets).to_bytes()
    roles[LIST] = listing
    return Draft(roles, documents, root, listing, _number(current, roles))


def spelt(path: str, value: Any) -> bytes:
    """The document at ``path`` as it is published.

    Everyone sees the length of each document that the coordinators list, and that of the connections would tell every
    monitor how many others there are, that of the recalls how many of those; blanks behind it round it up.
    """
    data = canonical(value)
    return data + b" " * (-len(data) % _BLOCKS.get(path, 1))
