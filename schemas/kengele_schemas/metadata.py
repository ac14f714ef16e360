"""Trust files read: which lists and documents there are in a set of them, and who may be served which.

The files were verified when they came; no signature is looked at here.

    >>> document_of(files, "policy.json")["version"]
    4
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from nacl.signing import SigningKey
from securesystemslib.signer._crypto_signer import CryptoSigner
from securesystemslib.signer._key import Key, SSlibKey
from tuf.api._payload import Root, Snapshot, Targets
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata

from .areas import Areas
from .cards import coordinator_id
from .concern import overlap
from .encoding import canonical, loads
from .errors import Malformed, Refused
from .leaves import REGIONS
from .orders import RECALLS
from .regional import LINES, MONITORS, area_of, delegated, delegated_paths, path_of, revision, role_of
from .trusted import CONNECTIONS, Trusted, assemble

Files = Mapping[str, bytes]
"""Trust files by the paths under which they are served."""

METADATA: Final = "metadata/"
TARGETS: Final = "targets/"
MAX_DRAFT: Final = 8 * 1024 * 1024
ROOT, LIST, SNAPSHOT, TIMESTAMP = "root", "targets", "snapshot", "timestamp"


def newest(files: Files, role: str) -> str:
    """The path of the newest metadata file of ``role``. Raises KeyError if there is none."""
    if role == TIMESTAMP:
        return "metadata/timestamp.json"
    found = [version for version, name in versions(files) if name == role]
    if not found:
        raise KeyError(role)
    return f"{METADATA}{max(found)}.{role}.json"


def document_of(files: Files, path: str) -> Any:
    """The JSON value of the document at ``path`` in its newest version, None if there is none."""
    try:
        info = _listing(files, path).targets[path]
        return loads(files[hashed(path, info.hashes["sha256"])], max_bytes=MAX_DRAFT, max_depth=12)
    except KeyError:
        return None


def document_digests(files: Files) -> dict[str, bytes]:
    """SHA-256 of each document there is, by its path, as its signers listed it."""
    return {path: bytes.fromhex(_listing(files, path).targets[path].hashes["sha256"]) for path in document_paths(files)}


def document_paths(files: Files) -> list[str]:
    """The paths of all documents there are."""
    targets = signed_part(files[newest(files, LIST)], Targets)
    return sorted([*targets.targets, *delegated_paths(targets)])


def lists(files: Files) -> dict[str, int]:
    """The version of each list of documents, the coordinators' and the regional ones."""
    names = (LIST, *delegated(signed_part(files[newest(files, LIST)], Targets)))
    return {name: metadata_version(files[newest(files, name)]) for name in names}


def state(files: Files) -> int:
    """The number of the state of roster and policy that ``files`` are."""
    return revision(lists(files).values())


def documents_of(files: Files) -> Trusted:
    """The documents in ``files`` as one set. They were verified when they came; no signature is looked at here."""
    documents = {path: canonical(document_of(files, path)) for path in document_paths(files)}
    expires = signed_part(files[newest(files, LIST)], Targets).expires
    return assemble(documents, version=state(files), fresh=False, expires=expires)


def states(files: Files) -> list[int]:
    """The numbers of the states that ``files``, which may be of several, tell of."""
    return sorted({_told(files[path]) for path in _snapshots(files).values()})


def as_of(files: Files, version: int) -> dict[str, bytes]:
    """What of ``files`` made up the state ``version``; empty if that cannot be told any more.

    A state's last snapshot names the lists that belong to it; with them come all roots and all documents.
    """
    for _, path in sorted(_snapshots(files).items(), reverse=True):
        if _told(files[path]) == version:
            meta = signed_part(files[path], Snapshot).meta
            listed = {f"{METADATA}{info.version}.{name}" for name, info in meta.items()}
            kept = listed | {path for path in files if path.startswith(TARGETS) or path.endswith(f".{ROOT}.json")}
            return {path: files[path] for path in sorted(kept)} if listed <= files.keys() else {}
    return {}


def _snapshots(files: Files) -> dict[int, str]:
    return {number: path for path in files for number, name in versions([path]) if name == SNAPSHOT}


def _told(snapshot: bytes) -> int:
    return revision(info.version for info in signed_part(snapshot, Snapshot).meta.values())


def coordinators(files: Files) -> dict[str, bytes]:
    """The keys of all coordinators, the network's and the regional ones, by their ids."""
    root, targets = signed_part(files[newest(files, ROOT)], Root), signed_part(files[newest(files, LIST)], Targets)
    known = [root.keys[one] for one in root.roles[LIST].keyids]
    known += targets.delegations.keys.values() if targets.delegations else ()
    keys = (bytes.fromhex(key.keyval["public"]) for key in known)
    return {coordinator_id(key): key for key in keys}


def regions(files: Files) -> dict[str, tuple[list[str], int]]:
    """The areas that have lists: the ids of those who sign them, and how many of them it takes."""
    targets = signed_part(files[newest(files, LIST)], Targets)
    found = {}
    for name, role in delegated(targets).items():
        ids = sorted(coordinator_of(targets.delegations.keys[keyid]) for keyid in role.keyids)
        found[area_of(path_of(name))[1]] = (ids, role.threshold)
    return found


def told(files: Files) -> dict[str, Any]:
    """All that the log tells the changes of: the documents by path, and who signs for areas in the network's stead."""
    own = seated(files)
    areas = {area: {"by": ids, "of": needed} for area, (ids, needed) in regions(files).items() if ids != own}
    return {path: document_of(files, path) for path in document_paths(files)} | {REGIONS: areas}


def seated(files: Files) -> list[str]:
    """The ids of the coordinators who sign the network's own lists."""
    root = signed_part(files[newest(files, ROOT)], Root)
    return sorted(coordinator_of(root.keys[one]) for one in root.roles[LIST].keyids)


def signs_for(files: Files, key: SigningKey, area: str) -> bool:
    """Whether a coordinator's signature counts for the network's own lists, or with ``area`` for that area's."""
    own = coordinator_of(public_key(bytes(key.verify_key)))
    return own in (regions(files).get(area, ([], 0))[0] if area else seated(files))


def visible(path: str, role: str, own: tuple[str, ...], areas: Areas) -> bool:
    """Whether a member may be served the file at ``path``: no monitor sees another's entry, an office its areas' only.

    Args:
        role: ``monitor``, ``office`` or ``coordinator``.
        own: the areas from which an office may be sent something (:func:`~kengele_schemas.concern.concern`).
    """
    folder, _, rest = path.partition("/")
    name = rest.rpartition("/")[2].partition(".")[2].removesuffix(".json")
    listing = folder == METADATA.rstrip("/")
    if rest.endswith(f".{CONNECTIONS}") or rest.startswith(f"{LINES}/") or (listing and name.startswith(f"{LINES}-")):
        return role == "coordinator"
    if rest.endswith(f".{RECALLS}"):
        return role in ("office", "coordinator")
    if rest.startswith(f"{MONITORS}/"):
        area = name
    elif listing and name.startswith(f"{MONITORS}-"):
        area = name.removeprefix(f"{MONITORS}-")
    else:
        return role in ("monitor", "office", "coordinator")
    return role == "coordinator" or (role == "office" and overlap(area, own, areas))


def check_next(current: Files, incoming: Files) -> None:
    """Checks that every metadata file in ``incoming`` is its role's next version, and that there is a new list.

    A new root is nothing by itself: whoever counts from then on signs the coordinators' list with it.
    """
    names = {name for _, name in versions(incoming)}
    if not names - {ROOT} or {SNAPSHOT, TIMESTAMP} & names or (ROOT in names and LIST not in names):
        raise Refused("old-version", "There is no new version among these files.", "Make the draft anew.")
    for version, name in versions(incoming):
        try:
            last = metadata_version(current[newest(current, name)])
        except KeyError:
            last = 0
        held = incoming[f"{METADATA}{version}.{name}.json"]
        if version != last + 1 or metadata_version(held) != version:
            raise Refused(
                "old-version",
                "This draft does not follow what is in force now.",
                "If it is in force already, nothing is left to do. Otherwise take the newest and draft again.",
            )


def target_path(path: str, data: bytes) -> str:
    """Where the document at ``path`` with these bytes is served (TUF 1.0 §5.7, consistent snapshots)."""
    return hashed(path, hashlib.sha256(data).hexdigest())


def metadata_path(role: str, data: bytes) -> str:
    return f"{METADATA}{metadata_version(data)}.{role}.json"


def hashed(path: str, digest: str) -> str:
    folder, slash, name = path.rpartition("/")
    return f"{TARGETS}{folder}{slash}{digest}.{name}"


def versions(files: Iterable[str]) -> Iterable[tuple[int, str]]:
    for path in files:
        number, _, name = path.removeprefix(METADATA).partition(".")
        if path.startswith(METADATA) and number.isdecimal() and name.endswith(".json"):
            yield int(number), name.removesuffix(".json")


def _listing(files: Files, path: str) -> Targets:
    """The newest list that names the document at ``path``. Raises KeyError."""
    listed: Targets = signed_part(files[newest(files, LIST if "/" not in path else role_of(path))], Targets)
    return listed


def metadata_version(data: bytes) -> int:
    """The version of a metadata file. Raises Malformed."""
    try:
        return int(Metadata[Any].from_bytes(data).signed.version)
    except (RepositoryError, ValueError, KeyError, TypeError, json.JSONDecodeError):
        raise Malformed("malformed", "A metadata file is not one.") from None


def signed_part(data: bytes, kind: type[Any]) -> Any:
    signed = Metadata[Any].from_bytes(data).signed
    if not isinstance(signed, kind):
        raise bad_draft()
    return signed


def coordinator_of(key: Key) -> str:
    return coordinator_id(bytes.fromhex(key.keyval["public"]))


def public_key(key: bytes) -> SSlibKey:
    return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(key))


def signer_of(key: SigningKey) -> CryptoSigner:
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(bytes(key)), public_key(bytes(key.verify_key)))


def until(now: datetime, life: timedelta) -> datetime:
    return (now + life).replace(microsecond=0)


def bad_draft() -> Malformed:
    return Malformed("bad-draft", "This is not a draft of roster or policy.", "Ask for the file again.")
