"""What the coordinators signed, verified: roster and policy as TUF targets (theupdateframework.io, specification 1.0).

The hub only passes files on. Whatever it leaves out, changes, mixes or serves late is noticed here, by python-tuf for
signatures, thresholds, versions and dates, and by this module for what TUF does not know: that a regional list may
speak of its own area only, and that all documents together make sense. An area's lists whose date is past stop that
area and nothing else, so TUF is not asked about their dates.

    >>> store = TrustStore(Path("trust"), root)
    >>> trusted = store.refresh(fetch, "office", now, "unrcca")
    >>> trusted.compiled.release(header, now.date())
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast
from urllib.parse import quote, unquote

from pydantic import BaseModel
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

from .areas import EVERYWHERE, Areas, AreasFile
from .encoding import loads
from .errors import Damaged, KengeleError, Malformed, Refused, Unreachable, Untrusted
from .fields import read
from .orders import RECALLS, Order, RecallsFile
from .policy import PolicyFile
from .regional import (
    LINES,
    MONITORS,
    POLICY,
    area_of,
    check_delegations,
    check_keys,
    check_list,
    check_reserved,
    delegated,
    delegated_paths,
    revision,
    role_of,
    standing_in,
)
from .release import Compiled
from .roster import (
    AreaConnectionsFile,
    ConnectionsFile,
    Monitor,
    MonitorsFile,
    Network,
    Office,
    Offices,
    OfficesFile,
    check_monitors,
    check_regional_policy,
    with_area,
)

Scope = Literal["monitor", "office", "coordinator", "hub"]
Fetch = Callable[[str], bytes | None]
"""Gives the bytes under a path, None if there are none. May raise Unreachable."""

METADATA: Final = "metadata/"
TARGETS: Final = "targets/"
COMMON: Final = ("network.json", "offices.json", "policy.json", "areas.json")
CONNECTIONS: Final = "connections.json"
_MAX_DOCUMENT: Final = 4 * 1024 * 1024
_SEEN: Final = "seen"
_FOLDERS: Final = (METADATA.rstrip("/"), f"{METADATA}root_history", TARGETS.rstrip("/"))
_MOMENT: Final = timedelta(seconds=1)
_LEFT_OVER: Final = 60.0
"""Seconds after which a set that is not current is nobody's any more: another process may just be reading it."""
_CONFIG: Final = UpdaterConfig(
    max_root_rotations=64,
    max_delegations=512,
    root_max_length=128 * 1024,
    snapshot_max_length=256 * 1024,
    targets_max_length=512 * 1024,
)
_M = TypeVar("_M", bound=BaseModel)


@dataclass(frozen=True)
class Trusted:
    """A verified set of documents. A monitor has no ``monitors`` and no ``orders``; ``connections`` are for hub and
    coordinator only.

    ``orders`` are the coordinators' recalls by their marks. ``version`` is the number of this state of roster and
    policy (:func:`~kengele_schemas.regional.revision`); ``fresh`` whether the hub vouched just now that there is
    none newer; ``targets_expire`` until when the coordinators' signatures hold (UTC), and ``ends`` the same for
    each regional document, by its path. ``lapsed`` are those whose date was past when this was read, and ``idle``
    the monitors in such a list. ``regional`` are an area's rules as they were signed; ``in_force`` has what holds
    in their place.
    """

    network: Network
    offices: Offices
    areas: Areas
    policy: PolicyFile
    regional: Mapping[str, PolicyFile]
    compiled: Compiled
    monitors: Mapping[str, Monitor]
    connections: ConnectionsFile | None
    orders: Mapping[str, Order]
    version: int
    fresh: bool
    targets_expire: datetime
    ends: Mapping[str, datetime]
    lapsed: frozenset[str]
    idle: frozenset[str]

    @property
    def rules_version(self) -> int:
        """The number of the rules, as reports and the log name it: the versions of all files of rules together."""
        return self.policy.version + sum(policy.version for policy in self.regional.values())

    @property
    def in_force(self) -> tuple[PolicyFile, ...]:
        """The rules that hold: the network's, and each area's or what stands in for them."""
        custodian = self.network.custodian
        return (
            self.policy,
            *(
                standing_in(area, policy, self.offices, custodian) if _path(POLICY, area) in self.lapsed else policy
                for area, policy in self.regional.items()
            ),
        )

    def rules_end(self, area: str) -> datetime:
        """Until when the signatures hold on all rules that may speak of ``area``."""
        own = (
            end for path, end in self.ends.items() if area_of(path)[0] == POLICY and self._over(area_of(path)[1], area)
        )
        return min((self.targets_expire, *own))

    def check_author(self, monitor: Monitor, area: str, today: date) -> None:
        """Returns if ``monitor`` may report from ``area`` today.

        Raises:
            Refused: ``list-expired``; or as :meth:`~kengele_schemas.roster.Monitor.standing`.
        """
        monitor.standing(area, today, self.areas)
        if monitor.kid in self.idle:
            raise Refused("list-expired", "This monitor's list is past its date.", "It waits for its coordinators.")

    def _over(self, own: str, area: str) -> bool:
        return self.areas.known(area) and self.areas.covers(own, area)


class TrustStore:
    """A directory with what was verified, which never goes back behind it.

    Args:
        directory: made if missing; only this store writes there.
        root: the first root metadata, from the network's card.
    """

    def __init__(self, directory: Path, root: bytes) -> None:
        self._directory = directory
        self._root = root

    def refresh(self, fetch: Fetch, scope: Scope, now: datetime, office: str = "") -> Trusted:
        """The documents as they stand at the hub.

        Args:
            fetch: how files are got.
            scope: whose documents are wanted.
            now: aware, UTC; what has expired by then is refused.
            office: with scope ``office``, its id: it gets the monitors whose reports may come to it.

        Raises:
            Untrusted: ``rolled-back``, ``frozen`` (expired), ``too-few-signatures``, ``mix-and-match``,
                ``not-served`` or ``bad-signature``; what was verified before stays.
            Malformed: a signed document does not follow its model, or they do not fit each other.
            Unreachable: as ``fetch`` raises it.
            Damaged: ``not-kept``: the directory cannot be written to.
        """
        return self._take(_Fetcher(fetch), scope, now, office, fresh=True, until=now)

    def carried(self, fetch: Fetch, scope: Scope, now: datetime, office: str = "") -> Trusted:
        """The documents as somebody carried them here, on a stick or in a directory, days after they left the hub.

        The hub's word that there is none newer has run out on the way and is not asked for. All else is as in
        :meth:`refresh`: signatures, versions, and that the coordinators' own signatures have not run out.

        Raises:
            As :meth:`refresh`.
        """
        fetcher = _Fetcher(fetch)
        vouched = min(now, fetcher.vouched_until() - _MOMENT)
        return self._take(fetcher, scope, vouched, office, fresh=False, until=now)

    def _take(
        self, fetcher: _Fetcher, scope: Scope, now: datetime, office: str, *, fresh: bool, until: datetime
    ) -> Trusted:
        # TUF keeps each file as soon as it has verified it. What a hub serves in part must not spoil the last whole
        # set, so a refresh works on a copy, which takes the set's place only when all of it holds.
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            while True:
                before = self._named()
                copy = Path(tempfile.mkdtemp(prefix="set-", dir=self._directory))
                try:
                    self._copy_to(copy)
                    trusted = self._verified(copy, fetcher, scope, now, office, fresh=fresh, until=until)
                    if trusted.targets_expire <= until:
                        raise Untrusted(
                            "frozen", "These rules are past their date.", "Ask a coordinator for newer ones."
                        )
                    (copy / _SEEN).write_text(now.isoformat(), "ascii")
                    _sync(copy)
                    adopted = self._adopt(copy, before)
                except BaseException:
                    if self._named() != copy.name:
                        shutil.rmtree(copy, ignore_errors=True)
                    raise
                if adopted:
                    self._tidy(copy)
                    return trusted
                # Another process was faster. What it took may be newer, so it is judged by that, from the start.
                shutil.rmtree(copy, ignore_errors=True)
        except OSError:
            raise Damaged(
                "not-kept",
                "The rules cannot be kept here.",
                "Look at this disk's space and the directory's permissions.",
            ) from None

    def offline(self, scope: Scope, now: datetime, office: str = "") -> Trusted:
        """The documents as they were verified last, their signatures checked again; whether they still hold is for
        the caller to judge by ``targets_expire``.

        Raises:
            Untrusted: ``no-trust``: nothing was ever verified here.
            Damaged: what is on the disk is not what was verified.
        """
        current = self._set()
        if not current.is_dir():
            raise Untrusted(
                "no-trust", "This member has never seen the network's rules.", "Go online once; they are kept then."
            )
        try:
            judged = min(now, datetime.fromisoformat((current / _SEEN).read_text("ascii")))
            fetcher = _Fetcher(lambda path: _local(current, path))
            return self._verified(current, fetcher, scope, judged, office, fresh=False, until=now)
        except (KengeleError, OSError, ValueError, TypeError) as error:
            code = error.code if isinstance(error, KengeleError) else "unreadable"
            raise Damaged(
                "damaged", f"The rules kept here cannot be used ({code}).", "Go online; they are fetched anew."
            ) from None

    def files(self) -> dict[str, bytes]:
        """What was verified last, under the paths by which the hub serves it; for who drafts the next version."""
        current = self._set()
        folder = current / METADATA
        found = {f"{METADATA}{path.name}": path.read_bytes() for path in (folder / "root_history").glob("*.root.json")}
        for path in folder.glob("*.json"):
            data = path.read_bytes()
            if path.name == "timestamp.json":
                found[f"{METADATA}{path.name}"] = data
            elif path.name != "root.json":
                found[f"{METADATA}{metadata_version(data)}.{path.name}"] = data
        for path in (current / TARGETS).iterdir():
            data = path.read_bytes()
            folder_name, slash, name = unquote(path.name).rpartition("/")
            found[f"{TARGETS}{folder_name}{slash}{hashlib.sha256(data).hexdigest()}.{name}"] = data
        return found

    @property
    def _current(self) -> Path:
        return self._directory / "current"

    def _named(self) -> str:
        """The name of the set that is current; empty if none is, or if links were lost on the way from elsewhere."""
        try:
            return self._current.readlink().name
        except OSError:
            return ""

    def _set(self) -> Path:
        """The current set's own directory: who reads in it reads one set, whatever takes its place meanwhile."""
        name = self._named()
        return self._directory / name if name else self._current

    def _copy_to(self, copy: Path) -> None:
        """The files of the current set; whatever else stands there would only be in the way."""
        current = self._set()
        for name in _FOLDERS:
            (copy / name).mkdir(mode=0o700)
            for path in (current / name).glob("*.json"):
                if path.is_file() and not path.is_symlink():
                    shutil.copyfile(path, copy / name / path.name)

    def _adopt(self, copy: Path, before: str) -> bool:
        """Makes ``copy`` the current set if that is still ``before``: at once or, after a crash, not at all."""
        with (self._directory / ".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self._named() != before:
                return False
            if before:
                with suppress(OSError):
                    os.utime(self._directory / before)
            elif self._current.is_dir():
                self._current.rename(self._directory / f"{copy.name}-before")
            link = self._directory / f".{copy.name}"
            link.symlink_to(copy.name)
            link.replace(self._current)
            with suppress(OSError):
                _sync(self._directory, deep=False)
            return True

    def _tidy(self, current: Path) -> None:
        """Removes sets that nobody can be reading any more."""
        for old in self._directory.glob("set-*"):
            with suppress(OSError):
                if old != current and old.stat().st_mtime < time.time() - _LEFT_OVER:
                    shutil.rmtree(old)

    def _verified(
        self,
        directory: Path,
        fetcher: _Fetcher,
        scope: Scope,
        now: datetime,
        office: str,
        *,
        fresh: bool,
        until: datetime,
    ) -> Trusted:
        folders = [directory / name for name in (METADATA, TARGETS)]
        for folder in folders:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            updater = Updater(
                *(str(folders[0]), METADATA, str(folders[1]), TARGETS, fetcher, _CONFIG), bootstrap=self._root
            )
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
            for path in _lists(regional, scope, office, documents):
                documents[path] = _regional(updater, path)
            lists = (held.targets.type, *delegated(held.targets))
            version = revision(held.snapshot.meta[f"{name}.json"].version for name in lists)
            ends = {path: _aware(held[role_of(path)].expires) for path in regional if path in documents}
        except (RepositoryError, DownloadError) as error:
            if fetcher.failure is not None:
                raise fetcher.failure from None
            raise _told(error) from None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise Untrusted("bad-signature", "A file of the network's rules is not one.", _MEND) from None
        expires = _aware(held.targets.expires)
        # Where the coordinators' own signatures have run out, what they said last holds, and all that held then; their
        # lists of members with it, which were signed a little before and widen nothing.
        judged = min(until, expires - _MOMENT)
        own = set(held.root.roles[held.targets.type].keyids) if judged < until else set()
        spared = {
            path
            for path in ends
            if area_of(path)[0] != POLICY and set(delegated(held.targets)[role_of(path)].keyids) == own
        }
        lapsed = frozenset(path for path, end in ends.items() if end <= judged and path not in spared)
        return _assembled(
            tuple(sorted(documents.items())), version, fresh, expires, tuple(sorted(ends.items())), lapsed
        )


_MEND: Final = "Nothing was changed here. Tell the coordinators if it stays so."


class _Fetcher(FetcherInterface):
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


def _local(current: Path, path: str) -> bytes | None:
    """A file of the set in ``current`` under the name the hub would serve it by."""
    folder, _, name = path.partition("/")
    if folder == TARGETS.rstrip("/"):
        head, slash, last = name.rpartition("/")
        local = current / folder / quote(f"{head}{slash}{last.partition('.')[2]}", "")
    elif name.endswith(".root.json"):
        local = current / folder / "root_history" / name
    else:
        role = name if name == "timestamp.json" else name.partition(".")[2]
        local = current / folder / quote(role, "")
    try:
        return local.read_bytes()
    except OSError:
        return None


def _sync(folder: Path, *, deep: bool = True) -> None:
    """Has ``folder`` on the disk, by default with all that is in it."""
    for path in (*(folder.rglob("*") if deep else ()), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _target(updater: Updater, path: str) -> bytes:
    info = updater.get_targetinfo(path)
    if info is None:
        raise Untrusted("not-served", "The coordinators' list lacks a document.", _MEND)
    if info.length > _MAX_DOCUMENT:
        raise Untrusted("bad-signature", "A document of the network's rules is too large.", _MEND)
    found = updater.find_cached_target(info)
    return Path(found or updater.download_target(info)).read_bytes()


def _regional(updater: Updater, path: str) -> bytes:
    found = _target(updater, path)
    check_list(role_of(path), cast(Targets, updater._trusted_set[role_of(path)]))
    return found


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _path(folder: str, area: str) -> str:
    return f"{folder}/{area}.json"


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


def concern(office: Office, policies: Iterable[PolicyFile], offices: Offices) -> tuple[str, ...]:
    """The areas whose reports may come to ``office``: its own, and those for which a rule grants it anything."""
    found = set(office.areas)
    for rule in (rule for policy in policies for rule in policy.rules if rule.grant is not None):
        if any(office.id in offices.members(audience) for audience in rule.to):
            found.update(rule.areas)
    return tuple(sorted(found))


def overlap(area: str, own: Iterable[str], areas: Areas) -> bool:
    """Whether what happens in ``area`` may lie in one of ``own``, or the other way round."""
    if not areas.known(area):
        return False
    within = areas.below(area)
    return any(code == EVERYWHERE or (areas.known(code) and within & areas.below(code)) for code in own)


def _lists(paths: Iterable[str], scope: Scope, office: str, documents: Mapping[str, bytes]) -> list[str]:
    """The regional lists of members that a member needs: all for hub and coordinators, none for a monitor."""
    lists = [path for path in paths if area_of(path)[0] == MONITORS]
    if scope in ("hub", "coordinator"):
        return [*lists, *(path for path in paths if area_of(path)[0] == LINES)]
    offices = Offices(_document(documents["offices.json"], OfficesFile))
    found = offices.get(office) if scope == "office" else None
    if found is None:
        return []
    policies = [_document(data, PolicyFile) for path, data in documents.items() if path.startswith(POLICY)]
    areas = _areas(documents["areas.json"])
    try:
        own = concern(found, policies, offices)
    except KeyError:
        return []  # a rule is for nobody there is, and as such it is refused when all are put together
    return [path for path in lists if overlap(area_of(path)[1], own, areas)]


def _document(data: bytes, model: type[_M]) -> _M:
    return read(model, loads(data, max_bytes=_MAX_DOCUMENT, max_depth=12))


@lru_cache(maxsize=8)
def _areas(data: bytes) -> Areas:
    return Areas(_document(data, AreasFile))


@lru_cache(maxsize=8)
def _assembled(
    documents: tuple[tuple[str, bytes], ...],
    version: int,
    fresh: bool,
    expires: datetime,
    ends: tuple[tuple[str, datetime], ...],
    lapsed: frozenset[str],
) -> Trusted:
    return assemble(dict(documents), version=version, fresh=fresh, expires=expires, ends=dict(ends), lapsed=lapsed)


def assemble(
    documents: Mapping[str, bytes],
    *,
    version: int,
    fresh: bool,
    expires: datetime,
    ends: Mapping[str, datetime] | None = None,
    lapsed: frozenset[str] = frozenset(),
) -> Trusted:
    """The documents by path as one set, checked against each other; no signature is looked at here.

    Raises:
        Malformed: ``bad-field``, ``bad-areas``, ``bad-offices``, ``bad-rule``, ``foreign-area``, ``bad-monitor``,
            ``another-lists``.
    """
    areas = _areas(documents["areas.json"])
    offices = Offices(_document(documents["offices.json"], OfficesFile))
    policy = _document(documents["policy.json"], PolicyFile)
    regional: dict[str, PolicyFile] = {}
    monitors: dict[str, Monitor] = {}
    stand: dict[str, str] = {}
    lines: dict[str, AreaConnectionsFile] = {}
    for path, data in documents.items():
        if "/" not in path:
            continue
        folder, area = area_of(path)
        if folder == MONITORS:
            listed = _document(data, MonitorsFile)
            check_monitors(listed, area, areas)
            for monitor in listed.monitors:
                if monitor.kid in monitors:
                    raise Malformed("bad-monitor", "A monitor stands in two lists.", "Keep each in one.")
                monitors[monitor.kid], stand[monitor.kid] = monitor, area
        elif folder == POLICY:
            regional[area] = _document(data, PolicyFile)
            check_regional_policy(regional[area], area, areas)
        else:
            lines[area] = _document(data, AreaConnectionsFile)
    network = _document(documents["network.json"], Network)
    if offices.get(network.custodian) is None and offices.document.offices:
        raise Malformed("bad-offices", "The custodian is not among the offices.", "Name one that is.")
    connections = _document(documents[CONNECTIONS], ConnectionsFile) if CONNECTIONS in documents else None
    for area, own in lines.items():
        connections = with_area(connections or ConnectionsFile(connections=()), own, area, stand)
    check_reserved(rule for file in (policy, *regional.values()) for rule in file.rules)
    idle = frozenset(kid for kid, area in stand.items() if lapsed & {_path(MONITORS, area), _path(LINES, area)})
    orders = _document(documents[RECALLS], RecallsFile).by_mark() if RECALLS in documents else {}
    trusted = Trusted(
        network,
        offices,
        areas,
        policy,
        regional,
        Compiled([policy, *regional.values()], offices, areas),
        monitors,
        connections,
        orders,
        version,
        fresh,
        _aware(expires),
        ends or {},
        lapsed,
        idle,
    )
    if policy.refuse_below > trusted.rules_version:
        raise Malformed("bad-field", "The rules refuse even their own version.", "Name an earlier one.")
    return replace(trusted, compiled=Compiled(trusted.in_force, offices, areas)) if lapsed else trusted


def metadata_version(data: bytes) -> int:
    """The version of a metadata file. Raises Malformed."""
    try:
        return int(Metadata[Any].from_bytes(data).signed.version)
    except (RepositoryError, ValueError, KeyError, TypeError, json.JSONDecodeError):
        raise Malformed("malformed", "A metadata file is not one.") from None
