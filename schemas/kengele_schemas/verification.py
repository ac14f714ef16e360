"""Trust files verified, as they come, whole: by python-tuf for signatures, thresholds, versions and dates.

This module adds what TUF does not know: that a regional list may speak of its own area only, and that all documents
together make sense. An area's lists whose date is past stop that area and nothing else, so TUF is not asked about
their dates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, cast

from tuf.api._payload import Targets
from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from .concern import Scope, needed
from .encoding import network_of
from .errors import KengeleError, Unreachable, Untrusted
from .metadata import METADATA, TARGETS
from .orders import RECALLS
from .regional import (
    POLICY,
    area_of,
    check_delegations,
    check_floors,
    check_keys,
    check_list,
    delegated,
    delegated_paths,
    revision,
    role_of,
)
from .trusted import COMMON, CONNECTIONS, MAX_DOCUMENT, Trusted, assemble, aware

Fetch = Callable[[str], bytes | None]
"""Gives the bytes under a path, None if there are none. May raise Unreachable."""

MOMENT: Final = timedelta(seconds=1)
"""How long before its end a signature still holds, at the latest."""
_CONFIG: Final = UpdaterConfig(
    max_root_rotations=64,
    max_delegations=512,
    root_max_length=128 * 1024,
    snapshot_max_length=256 * 1024,
    targets_max_length=512 * 1024,
)
_MEND: Final = "Nothing was changed here. Tell the coordinators if it stays so."


class Fetcher(FetcherInterface):
    """TUF's downloads through a :data:`Fetch`; ``failure`` is what the line raised."""

    def __init__(self, fetch: Fetch) -> None:
        self._get = fetch
        self.failure: KengeleError | None = None

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            data = self._get(url)
        except KengeleError as error:
            self.failure = error
            raise DownloadError("the line failed") from None
        except TimeoutError:
            self.failure = Unreachable("unreachable", "The hub does not answer.", "Try again when there is a line.")
            raise DownloadError("the line failed") from None
        if data is None:
            raise DownloadHTTPError("not served", 404)
        return iter((data,))

    def vouched_until(self) -> datetime:
        """Until when the hub vouched for these files, by their own word; nothing rests on it but what is looked at."""
        try:
            timestamp = Metadata[Any].from_bytes(self._get(f"{METADATA}timestamp.json") or b"").signed
            version = timestamp.snapshot_meta.version
            snapshot = Metadata[Any].from_bytes(self._get(f"{METADATA}{version}.snapshot.json") or b"").signed
            until: datetime = min(timestamp.expires, snapshot.expires)
        except (RepositoryError, ValueError, KeyError, TypeError, AttributeError):
            raise Untrusted("not-served", "There is no whole set of the network's rules here.", _MEND) from None
        return until if until.tzinfo else until.replace(tzinfo=UTC)


def verified(
    directory: Path,
    root: bytes,
    fetcher: Fetcher,
    scope: Scope,
    now: datetime,
    office: str,
    *,
    fresh: bool,
    until: datetime,
) -> Trusted:
    """What ``fetcher`` gives, held against the set of files in ``directory``, where all of it is put.

    Args:
        directory: with the set that was verified last, or empty; spoiled if this raises.
        root: the first root metadata.
        fetcher: how files are got.
        scope: whose documents are wanted.
        now: aware, UTC; what TUF has dates for and has expired by then is refused.
        office: with scope ``office``, its id.
        fresh: whether the hub vouches just now for what comes.
        until: aware, UTC; whether an area's lists have lapsed is judged by this, and by nothing later than the
            coordinators' own signatures hold.

    Raises:
        Untrusted, Malformed, Unreachable: as :meth:`~kengele_schemas.trust.TrustStore.refresh`.
    """
    folders = [directory / name for name in (METADATA, TARGETS)]
    for folder in folders:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        updater = Updater(*(str(folders[0]), METADATA, str(folders[1]), TARGETS, fetcher, _CONFIG), bootstrap=root)
        held = updater._trusted_set
        # The one clock is the caller's: a store is judged by the day it was last seen, too.
        held.reference_time = now
        updater.refresh()
        held.reference_time = datetime.min.replace(tzinfo=UTC)
        check_keys(held.root.keys)
        check_delegations(held.targets)
        documents = {path: _target(updater, path) for path in COMMON}
        if scope in ("hub", "coordinator"):
            documents[CONNECTIONS] = _target(updater, CONNECTIONS)
        if scope != "monitor" and RECALLS in held.targets.targets:
            documents[RECALLS] = _target(updater, RECALLS)
        regional = delegated_paths(held.targets)
        for path in (path for path in regional if area_of(path)[0] == POLICY):
            documents[path] = _regional(updater, path)
        for path in needed(regional, scope, office, documents):
            documents[path] = _regional(updater, path)
        listed = {name: held.snapshot.meta[f"{name}.json"].version for name in delegated(held.targets)}
        check_floors(held.targets, listed)
        version = revision((held.targets.version, *listed.values()))
        ends = {path: aware(held[role_of(path)].expires) for path in regional if path in documents}
    except (RepositoryError, DownloadError) as error:
        if fetcher.failure is not None:
            raise fetcher.failure from None
        raise _told(error) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Untrusted("bad-signature", "A file of the network's rules is not one.", _MEND) from None
    expires = aware(held.targets.expires)
    # Where the coordinators' own signatures have run out, what they said last holds, and all that held then; their
    # lists of members with it, which were signed a little before and widen nothing.
    judged = min(until, expires - MOMENT)
    own = set(held.root.roles[held.targets.type].keyids) if judged < until else set()
    spared = {
        path
        for path in ends
        if area_of(path)[0] != POLICY and set(delegated(held.targets)[role_of(path)].keyids) == own
    }
    lapsed = frozenset(path for path, end in ends.items() if end <= judged and path not in spared)
    identity = network_of(root)
    stood = tuple(sorted(ends.items()))
    return _assembled(tuple(sorted(documents.items())), version, fresh, expires, stood, lapsed, identity)


def _target(updater: Updater, path: str) -> bytes:
    info = updater.get_targetinfo(path)
    if info is None:
        raise Untrusted("not-served", "The coordinators' list lacks a document.", _MEND)
    if info.length > MAX_DOCUMENT:
        raise Untrusted("bad-signature", "A document of the network's rules is too large.", _MEND)
    found = updater.find_cached_target(info)
    return Path(found or updater.download_target(info)).read_bytes()


def _regional(updater: Updater, path: str) -> bytes:
    found = _target(updater, path)
    check_list(role_of(path), cast(Targets, updater._trusted_set[role_of(path)]))
    return found


def _told(error: Exception) -> Untrusted:
    if isinstance(error, ExpiredMetadataError):
        return Untrusted("frozen", "The hub serves rules that are past their date.", _MEND)
    if isinstance(error, BadVersionNumberError):
        return Untrusted("rolled-back", "The hub serves rules older than those seen here.", _MEND)
    if isinstance(error, UnsignedMetadataError):
        return Untrusted("too-few-signatures", "Too few coordinators have signed these rules.", _MEND)
    if isinstance(error, LengthOrHashMismatchError | DownloadLengthMismatchError):
        return Untrusted("mix-and-match", "The hub serves files that do not belong together.", _MEND)
    if isinstance(error, DownloadError):
        return Untrusted("not-served", "The hub does not serve a file of the network's rules.", _MEND)
    return Untrusted("bad-signature", "A file of the network's rules is not as it was signed.", _MEND)


@lru_cache(maxsize=8)
def _assembled(
    documents: tuple[tuple[str, bytes], ...],
    version: int,
    fresh: bool,
    expires: datetime,
    ends: tuple[tuple[str, datetime], ...],
    lapsed: frozenset[str],
    identity: str,
) -> Trusted:
    return assemble(
        dict(documents),
        version=version,
        fresh=fresh,
        expires=expires,
        ends=dict(ends),
        lapsed=lapsed,
        identity=identity,
    )
