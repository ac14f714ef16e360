"""How roster and policy come to be signed: drafts that coordinators pass round, and the hub's part of the metadata.

A draft is one file: new documents, and the metadata that lists them, byte for byte as it will be published. Signing
adds signatures beside those bytes and changes none of them. The hub adds only what says that this is the newest
version there is (TUF's snapshot and timestamp); it can sign no document.

    >>> draft = sign(found(documents, cards, 2, hub.snapshot_key, hub.timestamp_key, now), key)
    >>> missing(draft)
    {'root': 1, 'targets': 1, 'monitors-KG': 1}
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from nacl.signing import SigningKey
from securesystemslib.signer._crypto_signer import CryptoSigner
from securesystemslib.signer._key import Key, SSlibKey
from tuf.api._payload import DelegatedRole, Delegations, MetaFile, Role, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata

from . import assertions, widening
from .areas import Areas
from .cards import CoordinatorCard, coordinator_id
from .encoding import b64u, canonical, loads, unb64u
from .errors import Malformed, Refused, Untrusted
from .trust import (
    CONNECTIONS,
    METADATA,
    MONITORS,
    TARGETS,
    Trusted,
    TrustStore,
    area_of,
    assemble,
    metadata_version,
    overlap,
)

Files = Mapping[str, bytes]
"""Trust files by the paths under which they are served."""

ROOT_LIFE: Final = timedelta(days=365)
TARGETS_LIFE: Final = timedelta(days=14)
SNAPSHOT_LIFE: Final = timedelta(days=7)
TIMESTAMP_LIFE: Final = timedelta(days=1)
_CONNECTIONS_BLOCK: Final = 64 * 1024
"""Bytes; some five hundred members."""
_CLOCKS: Final = timedelta(hours=1)
"""By how much two coordinators' clocks may differ."""
MAX_DRAFT: Final = 8 * 1024 * 1024
_ROOT, _TARGETS, _SNAPSHOT, _TIMESTAMP = "root", "targets", "snapshot", "timestamp"


@dataclass(frozen=True)
class Draft:
    """A new version on its way to being signed.

    ``roles`` are metadata files by TUF role, with the signatures so far; ``documents`` the new ones by path; ``root``
    and ``targets`` the metadata by which the signatures count.
    """

    roles: Mapping[str, bytes]
    documents: Mapping[str, bytes]
    root: bytes = field(repr=False)
    targets: bytes = field(repr=False)

    def encode(self) -> bytes:
        """The draft as a file."""
        texts = {
            "roles": {name: b64u(data) for name, data in self.roles.items()},
            "documents": {path: data.decode("utf-8") for path, data in self.documents.items()},
            "root": b64u(self.root),
            "targets": b64u(self.targets),
        }
        return (json.dumps({"v": 1, "kind": "draft", **texts}, indent=1, ensure_ascii=False) + "\n").encode("utf-8")

    @classmethod
    def decode(cls, data: bytes) -> Draft:
        """Raises Malformed, ``bad-draft``."""
        try:
            found = loads(data, max_bytes=MAX_DRAFT)
            if found["v"] != 1 or found["kind"] != "draft":
                raise _bad_draft()
            draft = cls(
                {str(name): unb64u(text) for name, text in found["roles"].items()},
                {str(path): text.encode("utf-8") for path, text in found["documents"].items()},
                unb64u(found["root"]),
                unb64u(found["targets"]),
            )
            for metadata in (*draft.roles.values(), draft.root, draft.targets):
                metadata_version(metadata)
        except (Malformed, KeyError, TypeError, AttributeError):
            raise _bad_draft() from None
        return draft

    @property
    def version(self) -> int:
        """Of the list of documents that this draft makes or rests on."""
        return metadata_version(self.roles.get(_TARGETS, self.targets))

    def including(self, role: str, metadata: bytes) -> Draft:
        """This draft with one more role to sign."""
        return replace(self, roles={role: metadata, **self.roles})

    def files(self) -> dict[str, bytes]:
        """What is sent to the hub."""
        files = {_metadata_path(role, data): data for role, data in self.roles.items()}
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
    keys = [_public(unb64u(card.key)) for card in coordinators]
    hub = {_SNAPSHOT: _public(unb64u(snapshot_key)), _TIMESTAMP: _public(unb64u(timestamp_key))}
    keyids = [key.keyid for key in keys]
    roles = {
        _ROOT: Role(keyids, threshold),
        _TARGETS: Role(keyids, threshold),
        **{name: Role([key.keyid], 1) for name, key in hub.items()},
    }
    known: dict[str, Key] = {key.keyid: key for key in (*keys, *hub.values())}
    root = Metadata(Root(version=1, expires=_until(now, ROOT_LIFE), keys=known, roles=roles)).to_bytes()
    return _changed(root, Targets(version=1), {}, documents, now).including(_ROOT, root)


def edit(current: Files, changed: Mapping[str, Any], now: datetime) -> Draft:
    """The draft of a next version: ``changed`` documents in the place of those they follow, the others as they are.

    The signatures' life begins anew in what is touched and in what is past half of it; with nothing changed, in all
    but the root, which lasts longer.
    """
    targets = _signed(current[newest(current, _TARGETS)], Targets)
    targets.version += 1
    root = current[newest(current, _ROOT)]
    draft = _changed(root, targets, current, changed, now)
    counting = _signed(root, Root)
    if counting.expires > now + ROOT_LIFE / 2:
        return draft
    # Without a root nothing else counts, and nobody would think of it once a year.
    counting.version += 1
    counting.expires = _until(now, ROOT_LIFE)
    return draft.including(_ROOT, Metadata(counting).to_bytes())


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
    root = _signed(current[newest(current, _ROOT)], Root)
    role = root.roles[_TARGETS]
    keys = {keyid: root.keys[keyid] for keyid in role.keyids if _coordinator(root.keys[keyid]) not in going}
    keys |= {key.keyid: key for key in (_public(unb64u(card.key)) for card in coming)}
    return _reseated(current, changed, keys, role.threshold if threshold is None else threshold, now)


def _reseated(
    current: Files, changed: Mapping[str, Any], keys: Mapping[str, Key], threshold: int, now: datetime
) -> Draft:
    before = current[newest(current, _ROOT)]
    root, was = _signed(before, Root), _signed(before, Root).roles[_TARGETS]
    if not 1 <= threshold <= len(keys):
        raise Malformed(
            "bad-threshold", "So many signatures cannot be had from these coordinators.", "Name another threshold."
        )
    keyids = sorted(keys)
    root.keys = {**{keyid: key for keyid, key in root.keys.items() if keyid not in was.keyids}, **keys}
    for name in (_ROOT, _TARGETS):
        root.roles[name] = Role(keyids, threshold)
    root.version += 1
    root.expires = _until(now, ROOT_LIFE)
    targets = _signed(current[newest(current, _TARGETS)], Targets)
    targets.version += 1
    delegated = targets.delegations.roles if targets.delegations and targets.delegations.roles else {}
    for one in delegated.values():
        if set(one.keyids) == set(was.keyids):
            one.keyids, one.threshold = list(keyids), threshold
    if targets.delegations:
        targets.delegations.keys |= keys
    made = Metadata(root).to_bytes()
    draft = _changed(made, targets, current, changed, now, anew=True)
    return replace(draft, root=before).including(_ROOT, made)


def _coordinator(key: Key) -> str:
    return coordinator_id(bytes.fromhex(key.keyval["public"]))


def sign(draft: Draft, key: SigningKey) -> Draft:
    """``draft`` with one coordinator's signature beside those it has.

    Raises:
        Refused: ``not-a-coordinator``: the key counts for nothing in this draft.
    """
    signer = CryptoSigner(Ed25519PrivateKey.from_private_bytes(bytes(key)), _public(bytes(key.verify_key)))
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
        drafted = _signed(draft.roles[_TARGETS], Targets).expires - TARGETS_LIFE
        documents = {path: loads(data, max_bytes=MAX_DRAFT, max_depth=12) for path, data in draft.documents.items()}
        if current is None:
            _check_founders(_signed(draft.roles[_ROOT], Root), documents, now)
            made = _changed(draft.roles[_ROOT], Targets(version=1), {}, documents, drafted)
            made = made.including(_ROOT, draft.roles[_ROOT])
        else:
            _check_next(current, draft.files())
            made = _made(current, draft, documents, drafted)
        same = made.documents == draft.documents and _said(made) == _said(draft)
    except (Malformed, KeyError, ValueError, TypeError, RepositoryError):
        same = False
    if not same or drafted > now + _CLOCKS:
        raise _not_as_shown()


def _made(current: Files, draft: Draft, documents: Mapping[str, Any], drafted: datetime) -> Draft:
    """The draft that these documents make of what is in force; with other coordinators, if it seats those they name."""
    held = _signed(current[newest(current, _ROOT)], Root).roles[_TARGETS]
    root = _signed(draft.roles[_ROOT], Root) if _ROOT in draft.roles else None
    if root is None or root.roles[_TARGETS] == held:
        return edit(current, documents, drafted)
    role = root.roles[_TARGETS]
    rows = documents[CONNECTIONS]["connections"]
    if {row["member"] for row in rows if row["role"] == "coordinator"} != {
        _coordinator(root.keys[keyid]) for keyid in role.keyids
    }:
        raise _not_as_shown()
    return _reseated(current, documents, {keyid: root.keys[keyid] for keyid in role.keyids}, role.threshold, drafted)


def _said(draft: Draft) -> dict[str, Any]:
    """What the roles of ``draft`` would have its signers say, and the root by which they count."""
    said = {role: Metadata[Any].from_bytes(data).signed.to_dict() for role, data in draft.roles.items()}
    return {**said, "": Metadata[Any].from_bytes(draft.root).signed.to_dict()}


def _check_founders(root: Root, documents: Mapping[str, Any], now: datetime) -> None:
    """Checks that those who will count are those whom the documents name as coordinators, for root and lists alike."""
    listed = {row["member"] for row in documents[CONNECTIONS]["connections"] if row["role"] == "coordinator"}
    counting = root.roles[_TARGETS]
    named = {_coordinator(root.keys[keyid]) for keyid in counting.keyids}
    lasts = root.expires <= now + ROOT_LIFE + _CLOCKS
    if named != listed or root.roles[_ROOT] != counting or root.version != 1 or not lasts:
        raise _not_as_shown()


def _not_as_shown() -> Untrusted:
    return Untrusted(
        "not-as-shown",
        "This draft would bring something into force that it does not show.",
        "Do not sign it. Ask the other coordinators who made it.",
    )


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
    return sorted(_coordinator(keys[one]) for one in signers(draft) & keys.keys())


def seats(draft: Draft) -> tuple[list[str], int] | None:
    """The ids of those who count once ``draft`` holds, and how many it takes; None where that stays as it is."""
    old, new = (_signed(data, Root) for data in (draft.root, draft.roles.get(_ROOT, draft.root)))
    role = new.roles[_TARGETS]
    if role == old.roles[_TARGETS] and draft.version > 1:
        return None
    return sorted(_coordinator(new.keys[keyid]) for keyid in role.keyids), role.threshold


def coordinators(files: Files) -> dict[str, bytes]:
    """The keys that count now for roster and policy, by their coordinators' ids."""
    root = _signed(files[newest(files, _ROOT)], Root)
    keys = (bytes.fromhex(root.keys[one].keyval["public"]) for one in root.roles[_TARGETS].keyids)
    return {coordinator_id(key): key for key in keys}


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


def accept(
    current: Files | None, incoming: Files, snapshot_key: SigningKey, timestamp_key: SigningKey, now: datetime
) -> dict[str, bytes]:
    """All files of the version that ``incoming`` makes of ``current``, with the hub's part of the metadata.

    They are read as any client would read them before they are given back.

    Raises:
        Refused: ``old-version``, ``not-needed``: not the next version, or it holds files that are not of it;
            ``assertion-broken``; ``too-few-signatures``: for a widening the network asks for more.
        Untrusted, Malformed: as :meth:`~kengele_schemas.trust.TrustStore.refresh`; too few signatures above all.
    """
    try:
        files = {**(current or {}), **incoming}
        if current is None:
            root = incoming["metadata/1.root.json"]
            if [name for _, name in _versions(incoming)].count(_ROOT) != 1:
                raise Refused("not-needed", "A network's first version has one root.", "Found it anew.")
            Metadata[Root].from_bytes(root).verify_delegate(_ROOT, Metadata[Any].from_bytes(root))
        else:
            _check_next(current, incoming)
            root = current["metadata/1.root.json"]
        files = _current(files)
        if not set(incoming) <= set(files):
            raise Refused("not-needed", "Files were sent that are not of this version.", "Make the draft anew.")
        if current is None and (metadata_version(files[newest(files, _TARGETS)]) != 1):
            raise Refused("old-version", "A network's first version is number 1.", "Found it anew.")
        last = metadata_version(current[newest(current, _SNAPSHOT)]) if current else 0
        stamp = metadata_version(current["metadata/timestamp.json"]) if current else 0
        made = _current(vouched(files, snapshot_key, timestamp_key, now, last + 1, stamp + 1))
    except UnsignedMetadataError:
        raise Untrusted("too-few-signatures", "Too few coordinators have signed.", "Get one more signature.") from None
    except (RepositoryError, ValueError, TypeError, AttributeError):
        raise Untrusted(
            "bad-signature", "These files are not signed as they must be.", "Make the draft anew."
        ) from None
    except KeyError:
        raise Malformed("bad-draft", "A file is missing from this version.", "Make the draft anew.") from None
    before, after = document_of(current, "policy.json") if current else None, document_of(made, "policy.json")
    with tempfile.TemporaryDirectory() as directory:
        trusted = TrustStore(Path(directory), root).refresh(made.get, "hub", now)
    assertions.require([trusted.policy, *trusted.regional.values()], trusted.offices, trusted.areas, now.date())
    _check_widening(current, made, trusted, now.date())
    if before is not None and before != after and after["version"] <= before["version"]:
        raise Refused("old-version", "The policy changed and its version did not go up.", "Raise it by one.")
    return made


def _check_widening(current: Files | None, made: Files, trusted: Trusted, today: date) -> None:
    asked = widening.signatures(documents_of(current), trusted, today) if current is not None else 0
    listing = Metadata[Any].from_bytes(made[newest(made, _TARGETS)])
    root = _signed(made[newest(made, _ROOT)], Root)
    signed = root.get_verification_result(_TARGETS, listing.signed_bytes, listing.signatures).signed
    if len(signed) < asked:
        raise Refused(
            "too-few-signatures",
            f"Somebody gains by this, and the network asks for {asked} signatures then.",
            "Give the draft to one more coordinator: kengele coordinator sign FILE",
        )


def documents_of(files: Files) -> Trusted:
    """The documents in ``files`` as one set. They were verified when they came; no signature is looked at here."""
    documents = {path: canonical(document_of(files, path)) for path in document_paths(files)}
    expires = _signed(files[newest(files, _TARGETS)], Targets).expires
    version = metadata_version(files[newest(files, _TARGETS)])
    return assemble(documents, version=version, fresh=False, expires=expires)


def refresh_timestamp(
    current: Files, snapshot_key: SigningKey, timestamp_key: SigningKey, now: datetime, *, before: datetime
) -> dict[str, bytes]:
    """``current`` with the hub's part signed anew if any of it expires before ``before``; unchanged if none does."""
    snapshot = _signed(current[newest(current, _SNAPSHOT)], Snapshot)
    timestamp = _signed(current["metadata/timestamp.json"], Timestamp)
    if min(snapshot.expires, timestamp.expires) >= before:
        return dict(current)
    stale = snapshot.expires < before + SNAPSHOT_LIFE / 2
    return _current(
        vouched(dict(current), snapshot_key, timestamp_key, now, snapshot.version + stale, timestamp.version + 1)
    )


def newest(files: Files, role: str) -> str:
    """The path of the newest metadata file of ``role``. Raises KeyError if there is none."""
    if role == _TIMESTAMP:
        return "metadata/timestamp.json"
    found = [version for version, name in _versions(files) if name == role]
    if not found:
        raise KeyError(role)
    return f"{METADATA}{max(found)}.{role}.json"


def document_of(files: Files, path: str) -> Any:
    """The JSON value of the document at ``path`` in its newest version, None if there is none."""
    try:
        info = _listing(files, path).targets[path]
        return loads(files[_hashed(path, info.hashes["sha256"])], max_bytes=MAX_DRAFT, max_depth=12)
    except KeyError:
        return None


def document_digests(files: Files) -> dict[str, bytes]:
    """SHA-256 of each document there is, by its path, as its signers listed it."""
    return {path: bytes.fromhex(_listing(files, path).targets[path].hashes["sha256"]) for path in document_paths(files)}


def as_of(files: Files, version: int) -> dict[str, bytes]:
    """What of ``files``, which may be of several versions, made up ``version``; empty if that cannot be told any more.

    A version's last snapshot names the lists that belong to it; with them come all roots and all documents.
    """
    snapshots = {number: path for path in files for number, name in _versions([path]) if name == _SNAPSHOT}
    for number in sorted(snapshots, reverse=True):
        meta = _signed(files[snapshots[number]], Snapshot).meta
        if meta[f"{_TARGETS}.json"].version == version:
            listed = {f"{METADATA}{info.version}.{name}" for name, info in meta.items()}
            kept = listed | {path for path in files if path.startswith(TARGETS) or path.endswith(f".{_ROOT}.json")}
            return {path: files[path] for path in sorted(kept)} if listed <= files.keys() else {}
    return {}


def document_paths(files: Files) -> list[str]:
    """The paths of all documents there are."""
    targets = _signed(files[newest(files, _TARGETS)], Targets)
    roles = targets.delegations.roles if targets.delegations and targets.delegations.roles else {}
    return sorted([*targets.targets, *(path for role in roles.values() for path in role.paths or ())])


def _listing(files: Files, path: str) -> Targets:
    """The newest list that names the document at ``path``. Raises KeyError."""
    listed: Targets = _signed(files[newest(files, _TARGETS if "/" not in path else _role_of(path))], Targets)
    return listed


def target_path(path: str, data: bytes) -> str:
    """Where the document at ``path`` with these bytes is served (TUF 1.0 §5.7, consistent snapshots)."""
    return _hashed(path, hashlib.sha256(data).hexdigest())


def _hashed(path: str, digest: str) -> str:
    folder, slash, name = path.rpartition("/")
    return f"{TARGETS}{folder}{slash}{digest}.{name}"


def _role_of(path: str) -> str:
    return "-".join(area_of(path))


def _metadata_path(role: str, data: bytes) -> str:
    return f"{METADATA}{metadata_version(data)}.{role}.json"


def _versions(files: Iterable[str]) -> Iterable[tuple[int, str]]:
    for path in files:
        number, _, name = path.removeprefix(METADATA).partition(".")
        if path.startswith(METADATA) and number.isdecimal() and name.endswith(".json"):
            yield int(number), name.removesuffix(".json")


def _changed(
    root: bytes,
    targets: Targets,
    current: Files,
    changed: Mapping[str, Any],
    now: datetime,
    *,
    anew: bool = False,
) -> Draft:
    """With ``anew`` every list that the same people sign is signed again, as when they are other people."""
    counting = _signed(root, Root)
    role = counting.roles[_TARGETS]
    targets.expires = _until(now, TARGETS_LIFE)
    documents = {path: _spelt(path, value) for path, value in changed.items()}
    roles: dict[str, bytes] = {}
    delegations = targets.delegations or Delegations({}, {})
    delegated = dict(delegations.roles or {})
    for path, data in documents.items():
        if "/" not in path:
            targets.targets[path] = TargetFile.from_data(path, data)
            continue
        name = _role_of(path)
        if name not in delegated:
            delegated[name] = DelegatedRole(name, list(role.keyids), role.threshold, terminating=True, paths=[path])
            for keyid in role.keyids:
                delegations.keys[keyid] = counting.keys[keyid]
    held = {name for _, name in _versions(current)}
    for name, one in delegated.items():
        path = (one.paths or [""])[0]
        listed = _signed(current[newest(current, name)], Targets) if name in held else None
        # A list that ran out would stop all who need it; so those that the same people sign are renewed in passing.
        lasting = listed is not None and (
            set(one.keyids) != set(role.keyids) or listed.expires > now + TARGETS_LIFE / 2
        )
        if path not in documents and changed and lasting and not (anew and set(one.keyids) == set(role.keyids)):
            continue
        regional = Targets(version=(listed.version if listed else 0) + 1, expires=_until(now, TARGETS_LIFE))
        if path in documents:
            regional.targets[path] = TargetFile.from_data(path, documents[path])
        elif listed is not None:
            regional.targets = listed.targets
        roles[name] = Metadata(regional).to_bytes()
    if delegated:
        targets.delegations = Delegations(delegations.keys, delegated)
    listing = Metadata(targets).to_bytes()
    roles[_TARGETS] = listing
    return Draft(roles, documents, root, listing)


def _spelt(path: str, value: Any) -> bytes:
    """The document at ``path`` as it is published.

    Everyone sees the length of each document that the coordinators list, and that of the connections would tell every
    monitor how many others there are; blanks behind it round it up.
    """
    data = canonical(value)
    return data + b" " * (-len(data) % _CONNECTIONS_BLOCK) if path == CONNECTIONS else data


def vouched(
    files: dict[str, bytes], snapshot_key: SigningKey, timestamp_key: SigningKey, now: datetime, last: int, stamp: int
) -> dict[str, bytes]:
    """``files`` with snapshot number ``last`` and timestamp number ``stamp``."""
    names = {name for _, name in _versions(files)} - {_ROOT, _SNAPSHOT}
    meta = {f"{name}.json": MetaFile(metadata_version(files[newest(files, name)])) for name in sorted(names)}
    snapshot = Metadata(Snapshot(version=last, expires=_until(now, SNAPSHOT_LIFE), meta=meta))
    snapshot.sign(_signer(snapshot_key))
    timestamp = Metadata(Timestamp(version=stamp, expires=_until(now, TIMESTAMP_LIFE), snapshot_meta=MetaFile(last)))
    timestamp.sign(_signer(timestamp_key))
    path = f"{METADATA}{last}.{_SNAPSHOT}.json"
    return {**files, path: snapshot.to_bytes(), "metadata/timestamp.json": timestamp.to_bytes()}


def _current(files: Files) -> dict[str, bytes]:
    """What of ``files`` is needed by who comes now: every root, the newest of the other roles, the documents listed."""
    targets = _signed(files[newest(files, _TARGETS)], Targets)
    roles = targets.delegations.roles if targets.delegations and targets.delegations.roles else {}
    wanted = {newest(files, _TARGETS)} | {path for path in files if path.endswith(f".{_ROOT}.json")}
    lists = [targets]
    for name in roles:
        path = newest(files, name)
        wanted.add(path)
        lists.append(_signed(files[path], Targets))
    wanted |= {_hashed(path, info.hashes["sha256"]) for one in lists for path, info in one.targets.items()}
    wanted |= {path for path in files if path == "metadata/timestamp.json"}
    if any(name == _SNAPSHOT for _, name in _versions(files)):
        wanted.add(newest(files, _SNAPSHOT))
    return {path: files[path] for path in sorted(wanted)}


def _check_next(current: Files, incoming: Files) -> None:
    """Checks that every metadata file in ``incoming`` is its role's next version, and that there is a new list."""
    names = [name for _, name in _versions(incoming)]
    if _TARGETS not in names or {_SNAPSHOT, _TIMESTAMP} & set(names):
        raise Refused("old-version", "There is no new version among these files.", "Make the draft anew.")
    for version, name in _versions(incoming):
        try:
            last = metadata_version(current[newest(current, name)])
        except KeyError:
            last = 0
        held = incoming[f"{METADATA}{version}.{name}.json"]
        if version != last + 1 or metadata_version(held) != version:
            raise Refused(
                "old-version", "This draft does not follow what is in force now.", "Take the newest and draft again."
            )


def _authorities(draft: Draft, role: str) -> list[Role]:
    """Whose signatures ``role`` needs: for a new root those who count before and those who count after it."""
    roots = [_signed(data, Root) for data in (draft.root, draft.roles.get(_ROOT, draft.root))]
    if role == _ROOT:
        return [root.roles[_ROOT] for root in roots]
    found: Role | None = roots[-1].roles.get(role)
    if found is not None:
        return [found]
    targets = _signed(draft.roles.get(_TARGETS, draft.targets), Targets)
    delegated = targets.delegations.roles if targets.delegations and targets.delegations.roles else {}
    regional: Role | None = delegated.get(role)
    if regional is None:
        raise _bad_draft()
    return [regional]


def _keys(draft: Draft) -> dict[str, Any]:
    targets = _signed(draft.roles.get(_TARGETS, draft.targets), Targets)
    delegated = targets.delegations.keys if targets.delegations else {}
    return {**delegated, **_signed(draft.root, Root).keys, **_signed(draft.roles.get(_ROOT, draft.root), Root).keys}


def _signed(data: bytes, kind: type[Any]) -> Any:
    signed = Metadata[Any].from_bytes(data).signed
    if not isinstance(signed, kind):
        raise _bad_draft()
    return signed


def _public(key: bytes) -> SSlibKey:
    return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(key))


def _signer(key: SigningKey) -> CryptoSigner:
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(bytes(key)), _public(bytes(key.verify_key)))


def _until(now: datetime, life: timedelta) -> datetime:
    return (now + life).replace(microsecond=0)


def _bad_draft() -> Malformed:
    return Malformed("bad-draft", "This is not a draft of roster or policy.", "Ask for the file again.")


def visible(path: str, role: str, own: tuple[str, ...], areas: Areas) -> bool:
    """Whether a member may be served the file at ``path``: no monitor sees another's entry, an office its areas' only.

    Args:
        role: ``monitor``, ``office`` or ``coordinator``.
        own: the areas from which an office may be sent something (:func:`~kengele_schemas.trust.concern`).
    """
    folder, _, rest = path.partition("/")
    name = rest.rpartition("/")[2].partition(".")[2].removesuffix(".json")
    if rest.endswith(f".{CONNECTIONS}"):
        return role == "coordinator"
    if rest.startswith(f"{MONITORS}/"):
        area = name
    elif folder == METADATA.rstrip("/") and name.startswith(f"{MONITORS}-"):
        area = name.removeprefix(f"{MONITORS}-")
    else:
        return role in ("monitor", "office", "coordinator")
    return role == "coordinator" or (role == "office" and overlap(area, own, areas))
