"""Signatures under drafts. Signing adds them beside the bytes that are signed, and changes none of those.

>>> draft = sign(found(documents, cards, 2, hub.snapshot_key, hub.timestamp_key, now), key)
>>> missing(draft)
{'root': 1, 'targets': 1, 'monitors-KG': 1}
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from nacl.signing import SigningKey
from tuf.api._payload import Role, Root, Targets
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata

from .drafts import ROOT_LIFE, TARGETS_LIFE, Draft, edit, hand_over, relisted, reseated
from .encoding import b64u, canonical, loads
from .errors import Malformed, Refused, Untrusted
from .metadata import (
    LIST,
    MAX_DRAFT,
    ROOT,
    Files,
    bad_draft,
    check_next,
    coordinator_of,
    document_of,
    newest,
    signed_part,
    signer_of,
)
from .regional import area_of, check_delegations, check_keys, delegated, path_of, paths, role_of
from .trusted import CONNECTIONS

_CLOCKS: Final = timedelta(hours=1)
"""By how much two coordinators' clocks may differ."""


def sign(draft: Draft, key: SigningKey) -> Draft:
    """``draft`` with one coordinator's signature beside those it has.

    Raises:
        Refused: ``not-a-coordinator``: the key counts for nothing in this draft.
    """
    signer = signer_of(key)
    roles, signed = dict(draft.roles), False
    for role, data in draft.roles.items():
        if any(signer.public_key.keyid in one.keyids for one in _authorities(draft, role)):
            metadata = Metadata[Any].from_bytes(data)
            metadata.sign(signer, append=True)
            roles[role] = metadata.to_bytes()
            signed = True
    if not signed:
        raise Refused("not-a-coordinator", "This key does not count in this draft.", "Sign with a coordinator's key.")
    return replace(draft, roles=roles)


def check(draft: Draft, current: Files | None, now: datetime) -> None:
    """Checks that ``draft`` brings into force what its documents say and nothing besides: to be done before signing.

    What is signed is the metadata, what people look at are the documents, and a draft could show one rule and list
    another. So it is made anew from what is in force and its documents, and has to come out the same.

    Args:
        current: the files in force, as whoever is to sign has verified them; None for a network's first version.
        now: UTC; a draft may not outlast one that is made now.

    Raises:
        Untrusted: ``not-as-shown``.
        Refused: ``old-version``: the draft does not follow what is in force.
    """
    try:
        if ROOT in draft.roles:
            check_keys(signed_part(draft.roles[ROOT], Root).keys)
        if LIST in draft.roles:
            check_delegations(signed_part(draft.roles[LIST], Targets))
        lists = [signed_part(data, Targets) for role, data in draft.roles.items() if role != ROOT]
        drafted = max(one.expires for one in lists) - TARGETS_LIFE
        documents = {path: loads(data, max_bytes=MAX_DRAFT, max_depth=12) for path, data in draft.documents.items()}
        if current is None:
            _check_founders(signed_part(draft.roles[ROOT], Root), documents, now)
            made = relisted(draft.roles[ROOT], Targets(version=1), {}, documents, drafted)
            made = made.including(ROOT, draft.roles[ROOT])
        else:
            check_next(current, draft.files())
            made = _made(current, draft, documents, drafted)
        same = (made.documents, made.version) == (draft.documents, draft.version) and _said(made) == _said(draft)
    except (Malformed, KeyError, ValueError, TypeError, RepositoryError):
        same = False
    if not same or drafted > now + _CLOCKS:
        raise _not_as_shown()


def missing(draft: Draft) -> dict[str, int]:
    """How many signatures each role still lacks; empty when the draft can be published.

    Raises:
        Untrusted: ``bad-signature``: one that is there does not hold.
    """
    lacking = {}
    keys = _keys(draft)
    for role, data in draft.roles.items():
        authorities = _authorities(draft, role)
        metadata = Metadata[Any].from_bytes(data)
        good = set()
        for keyid, signature in metadata.signatures.items():
            if not any(keyid in one.keyids for one in authorities):
                continue
            try:
                keys[keyid].verify_signature(signature, metadata.signed_bytes)
            except Exception:
                raise Untrusted("bad-signature", "A signature in this draft does not hold.", "Sign again.") from None
            good.add(keyid)
        lacks = max(one.threshold - len(good & set(one.keyids)) for one in authorities)
        if lacks > 0:
            lacking[role] = lacks
    return lacking


def signers(draft: Draft) -> set[str]:
    """The TUF key ids that have signed every role they may sign."""
    sets = [set(Metadata[Any].from_bytes(data).signatures) for data in draft.roles.values()]
    return set.intersection(*sets) if sets else set()


def signed_by(draft: Draft) -> list[str]:
    """The ids of the coordinators who have signed all of ``draft``; :func:`missing` says whether that is enough."""
    keys = _keys(draft)
    return sorted(coordinator_of(keys[one]) for one in signers(draft) & keys.keys())


def seats(draft: Draft) -> tuple[list[str], int] | None:
    """The ids of those who count once ``draft`` holds, and how many it takes; None where that stays as it is."""
    old, new = (signed_part(data, Root) for data in (draft.root, draft.roles.get(ROOT, draft.root)))
    role = new.roles[LIST]
    if role == old.roles[LIST] and not draft.founding:
        return None
    return sorted(coordinator_of(new.keys[keyid]) for keyid in role.keyids), role.threshold


def handed(draft: Draft, current: Files) -> list[tuple[str, list[str], int]]:
    """The areas whose lists others sign once ``draft`` holds: who, and how many of them it takes."""
    if LIST not in draft.roles:
        return []
    new, old = (signed_part(data, Targets) for data in (draft.roles[LIST], current[newest(current, LIST)]))
    roots = [signed_part(data, Root) for data in (draft.root, draft.roles.get(ROOT, draft.root))]
    own = [(set(root.roles[LIST].keyids), root.roles[LIST].threshold) for root in roots]
    found = set()
    for name, role in delegated(new).items():
        who, before = (set(role.keyids), role.threshold), delegated(old).get(name)
        was = own[0] if before is None else (set(before.keyids), before.threshold)
        # Who signs for all and is followed by others in that is so in each list, and is told once.
        if who != was and not (was == own[0] and who == own[1]):
            ids = sorted(coordinator_of(new.delegations.keys[keyid]) for keyid in role.keyids)
            found.add((area_of(path_of(name))[1], tuple(ids), role.threshold))
    return [(area, list(ids), threshold) for area, ids, threshold in sorted(found)]


def draft_id(draft: Draft) -> str:
    """22 characters for what ``draft`` says: the same whoever has signed it so far."""
    return b64u(hashlib.sha256(canonical(_said(draft))).digest()[:16])


def merge(one: Draft, other: Draft) -> Draft:
    """``one`` with the signatures of ``other`` besides its own: two coordinators may sign at the same time.

    Raises:
        Refused: ``another-draft``: they do not say the same.
    """
    if draft_id(one) != draft_id(other) or one.documents != other.documents:
        raise Refused("another-draft", "These are two drafts, not one.", "Ask for the newest file.")
    roles = {}
    for role, data in one.roles.items():
        metadata = Metadata[Any].from_bytes(data)
        for keyid, signature in Metadata[Any].from_bytes(other.roles[role]).signatures.items():
            metadata.signatures.setdefault(keyid, signature)
        roles[role] = metadata.to_bytes()
    return replace(one, roles=roles)


def _made(current: Files, draft: Draft, documents: Mapping[str, Any], drafted: datetime) -> Draft:
    """The draft that these documents make of what is in force; with other people, if it seats those they name."""
    if draft.area:
        return edit(current, documents, drafted, area=draft.area)
    top = signed_part(current[newest(current, ROOT)], Root)
    held = top.roles[LIST]
    root = signed_part(draft.roles[ROOT], Root) if ROOT in draft.roles else None
    moved = handed(draft, current)
    if (root is None or root.roles[LIST] == held) and not moved:
        return edit(current, documents, drafted)
    rows = (documents.get(CONNECTIONS) or document_of(current, CONNECTIONS))["connections"]
    if {row["member"] for row in rows if row["role"] == "coordinator"} != _counting(root or top, draft):
        raise _not_as_shown()
    if root is not None and root.roles[LIST] != held:
        role = root.roles[LIST]
        return reseated(current, documents, {one: root.keys[one] for one in role.keyids}, role.threshold, drafted)
    (area,) = {area for area, _, _ in moved}
    targets = signed_part(draft.roles[LIST], Targets)
    one = delegated(targets)[role_of(paths(area)[0])]
    keys = {keyid: targets.delegations.keys[keyid] for keyid in one.keyids}
    return hand_over(current, documents, area, keys, one.threshold, drafted)


def _counting(root: Root, draft: Draft) -> set[str]:
    """The ids of all whose signatures count once ``draft`` holds, for whichever lists."""
    targets = signed_part(draft.roles[LIST], Targets)
    known = [*root.roles[LIST].keyids, *(one for role in delegated(targets).values() for one in role.keyids)]
    keys = {**root.keys, **(targets.delegations.keys if targets.delegations else {})}
    return {coordinator_of(keys[keyid]) for keyid in known}


def _said(draft: Draft) -> dict[str, Any]:
    """What the roles of ``draft`` would have its signers say, and the metadata by which they count."""
    by = {"by root": draft.root, "by list": draft.roles.get(LIST, draft.targets)}
    return {role: Metadata[Any].from_bytes(data).signed.to_dict() for role, data in {**draft.roles, **by}.items()}


def _check_founders(root: Root, documents: Mapping[str, Any], now: datetime) -> None:
    """Checks that those who will count are those whom the documents name as coordinators, for root and lists alike."""
    listed = {row["member"] for row in documents[CONNECTIONS]["connections"] if row["role"] == "coordinator"}
    counting = root.roles[LIST]
    named = {coordinator_of(root.keys[keyid]) for keyid in counting.keyids}
    lasts = root.expires <= now + ROOT_LIFE + _CLOCKS
    if named != listed or root.roles[ROOT] != counting or root.version != 1 or not lasts:
        raise _not_as_shown()


def _not_as_shown() -> Untrusted:
    return Untrusted(
        "not-as-shown",
        "This draft would bring something into force that it does not show.",
        "Do not sign it. Ask the other coordinators who made it.",
    )


def _authorities(draft: Draft, role: str) -> list[Role]:
    """Whose signatures ``role`` needs: for a new root those who count before and those who count after it."""
    roots = [signed_part(data, Root) for data in (draft.root, draft.roles.get(ROOT, draft.root))]
    if role == ROOT:
        return [root.roles[ROOT] for root in roots]
    found: Role | None = roots[-1].roles.get(role)
    if found is not None:
        return [found]
    targets = signed_part(draft.roles.get(LIST, draft.targets), Targets)
    regional: Role | None = delegated(targets).get(role)
    if regional is None:
        raise bad_draft()
    return [regional]


def _keys(draft: Draft) -> dict[str, Any]:
    targets = signed_part(draft.roles.get(LIST, draft.targets), Targets)
    regional = targets.delegations.keys if targets.delegations else {}
    return {
        **regional,
        **signed_part(draft.root, Root).keys,
        **signed_part(draft.roles.get(ROOT, draft.root), Root).keys,
    }
