"""A hub in one sealed file, and a hub made of it: identity and streams, taken while it runs.

The ledger is taken first, and the feeds after it: an entry that the ledger's router had done with is in the feeds'
copies, too. What came in meanwhile may stand in a feed and not in the ledger; nothing is lost by that.

What is restored holds until the coordinators have signed anew (:mod:`.authority`): a copy cannot know who was revoked
after it was made.

    >>> await take(Path("hub.backup"), lock, home)
    >>> restore(Path("hub.backup"), lock, Path("new"))
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from nats.aio.client import Client

from kengele_schemas import disk, subjects
from kengele_schemas.encoding import canonical, loads
from kengele_schemas.errors import Damaged, Malformed, Refused
from kengele_schemas.fields import read

from . import consumers, feeds, jetstream, snapshot, streams
from .access import Access
from .broker import Broker, pinned
from .broker import Settings as BrokerSettings
from .errors import Unavailable
from .home import FILE as KEYS
from .home import HubKeys
from .patience import patiently
from .sealed import Lock, Sealer, records
from .settings import FILE as SETTINGS
from .settings import Settings
from .snapshot import Shape
from .symptoms import running_in, tls_of

_FILES: Final = (KEYS, SETTINGS, "hub-card.json")
_KINDS: Final = {
    *(subjects.LEDGER, subjects.TRUST, subjects.BOARD, subjects.LOBBY),
    *(subjects.LETTERS, subjects.AUDIT, subjects.REFUSED),
}
_DRAFT: Final = "restoring"
"""In the home: where its files are until all else is there."""
_BROKER: Final = "broker"
"""In the home: where the embedded broker has all of its own."""
_MAX_SAID: Final = 65536
_SAID, _PIECE = b"S", b"P"


@dataclass(frozen=True, slots=True)
class Copied:
    """What a backup holds: when it was begun, and by stream its messages and the last one's sequence."""

    at: datetime
    streams: dict[str, tuple[int, int]]

    @property
    def entries(self) -> int:
        """The ledger's length."""
        return self.streams.get(subjects.LEDGER, (0, 0))[1]


async def take(path: Path, lock: Lock, home: Path) -> Copied:
    """Writes a backup of the hub in ``home``, which may run meanwhile.

    Raises:
        Refused: ``exists``, ``weak-passphrase``. Locked: the key file cannot be used.
        Unavailable: the broker does not answer, or not to the end; there is no backup then.
        Damaged: ``no-keys``, ``no-hub``.
    """
    keys, settings = HubKeys.load(home), Settings.load(home)
    async with _reached(home, keys, settings) as nc:
        copied = Copied(datetime.now(UTC), {})
        with Sealer(path, lock) as sealer:
            _say(sealer, {"backup": 1, "at": copied.at.isoformat(timespec="seconds")})
            for name in _FILES:
                if disk.present(home / name):
                    _say(sealer, {"file": name})
                    sealer.put(_PIECE + disk.read_own(home / name))
            for name in sorted(await streams.names(nc), key=_order):
                if name not in _KINDS and not name.startswith(feeds.FEED):
                    continue
                taken = await snapshot.taken(nc, name)
                if taken is None:
                    continue  # a feed that went meanwhile
                shape, pieces = taken
                _say(sealer, {"stream": {"config": shape.config, "state": shape.state}})
                async for piece in pieces:
                    sealer.put(_PIECE + piece)
                copied.streams[name] = (int(shape.state["messages"]), int(shape.state["last_seq"]))
    return copied


def identity(path: Path, lock: Lock) -> tuple[HubKeys, Settings]:
    """The keys and the settings in a backup, without a home: a broker has to know whose it is before it is given one.

    Raises:
        Locked, Damaged, Malformed: the file is not opened, or of a newer version.
    """
    files: dict[str, bytes] = {}
    for said, pieces in _read(path, lock):
        if "stream" in said:
            break
        if "file" in said:
            files[said["file"]] = b"".join(pieces)
    if KEYS not in files or SETTINGS not in files:
        raise _strange()
    return HubKeys.parse(Path(), files[KEYS]), read(Settings, loads(files[SETTINGS], max_bytes=_MAX_SAID))


def restore(path: Path, lock: Lock, home: Path, *, external: str = "", replicas: int | None = None) -> Copied:
    """Makes a hub in ``home`` of a backup, which is read to its end before anything is written.

    Its keys come last: killed half-way, it leaves nothing that runs as a hub and does not know that it is held.

    Args:
        home: must be missing or empty.
        external: a broker to use instead of what the backup's settings say; it must hold no hub's streams.
        replicas: servers that hold each message from now on; as many as the backup's settings say if None.

    Raises:
        Refused: ``exists``. Locked, Damaged: the file is not opened, not whole, or of a newer version.
        Unavailable, StorageFull: the broker does not do it; nothing is left behind then.
    """
    if not disk.empty(home):
        raise Refused("exists", "That directory is not empty.", "Choose an empty one, or a new name.")
    for _ in _read(path, lock):
        pass
    disk.make_directory(home)
    written: list[str] = []
    try:
        return asyncio.run(_restored(path, lock, home, external, replicas, written))
    except BaseException:
        disk.remove_made(home / _DRAFT, _FILES)
        disk.remove_made(home, written, (_BROKER,))
        raise


async def _restored(
    path: Path, lock: Lock, home: Path, external: str, replicas: int | None, written: list[str]
) -> Copied:
    found = _read(path, lock)
    first, _ = next(found)
    copied = Copied(datetime.fromisoformat(first["at"]), {})
    nc: Client | None = None
    draft = home / _DRAFT
    disk.make_directory(draft)
    async with AsyncExitStack() as stack:
        undo: list[str] = []
        try:
            for said, pieces in found:
                if "file" in said:
                    if said["file"] not in _FILES:
                        raise _strange()
                    disk.write(draft / said["file"], b"".join(pieces))
                    continue
                if nc is None:
                    settings = Settings.load(draft)
                    given = {"external": external, "replicas": replicas}
                    changed = {name: one for name, one in given.items() if one}
                    if changed:
                        settings = read(Settings, {**settings.model_dump(mode="json"), **changed})
                        settings.save(draft)
                    keys = replace(HubKeys.load(draft), home=home)
                    nc = await stack.enter_async_context(_reached(home, keys, settings, new=True))
                shape = Shape(said["stream"]["config"], said["stream"]["state"])
                name = str(shape.config["name"])
                try:
                    await snapshot.put_back(nc, shape, pieces, replicas=settings.replicas)
                except Refused:
                    raise  # such as one that somebody else has made meanwhile: it is not ours to delete
                except BaseException:
                    undo.append(name)
                    raise
                undo.append(name)
                await patiently(_shut, nc, shape)
                copied.streams[name] = (int(shape.state["messages"]), int(shape.state["last_seq"]))
            if nc is None or subjects.LEDGER not in copied.streams:
                raise _strange()
            await patiently(_completed, nc, settings)
            if copied.streams.get(subjects.TRUST, (0, 0))[0]:
                since = datetime.now(UTC).isoformat(timespec="seconds").encode("ascii")
                await patiently(jetstream.publish_batch, nc, [(subjects.TRUST_HELD, since, {})])
            _settle(draft, home, written)
        except BaseException:
            for name in undo if nc is not None else ():
                await snapshot.remove(nc, name)  # type: ignore[arg-type]
            raise
    return copied


async def _enough(access: Access, replicas: int) -> None:
    """Raises Unavailable while fewer servers answer than are to hold each message."""
    found = len(await access.servers())
    if found < replicas:
        raise Unavailable(
            "too-few-servers",
            f"This hub keeps {replicas} copies of everything, and {found} of the broker's servers answer.",
            "Start the others and look at their routes, or restore with --replicas 1.",
        )


async def _shut(nc: Client, shape: Shape) -> None:
    """Has a restored feed hand out nothing. Raises Unavailable while the stream or its consumer is not all there."""
    name, count = str(shape.config["name"]), int(shape.state.get("consumer_count", 0))
    now = await streams.stream(nc, name)
    state = now["state"] if now else {}
    if (state.get("messages"), state.get("consumer_count", 0) >= count) != (shape.state["messages"], True):
        raise Unavailable("broker-unavailable", "The broker did not take a stream whole.", "Try again.")
    await feeds.close_feeds(nc, [name])
    if count and name.startswith(feeds.FEED):
        own = subjects.feed_consumer(name.removeprefix(feeds.FEED))
        if not (await consumers.consumer(nc, name, own) or {}).get("paused"):
            raise Unavailable("broker-unavailable", "The broker did not shut a feed.", "Try again.")


async def _completed(nc: Client, settings: Settings) -> None:
    """Makes the streams that the copy has not got."""
    await streams.ensure_streams(nc, replicas=settings.replicas, ledger_max_bytes=settings.ledger_max_bytes)


def _settle(draft: Path, home: Path, written: list[str]) -> None:
    """Puts the files in their place, the keys last; ``written`` says how far it came. Raises Refused, ``exists``."""
    for name in sorted(_FILES, key=KEYS.__eq__):
        if disk.present(draft / name):
            disk.write(home / name, disk.read(draft / name), new=True)
            written.append(name)
    disk.remove_made(draft, _FILES)


@asynccontextmanager
async def _reached(home: Path, keys: HubKeys, settings: Settings, *, new: bool = False) -> AsyncIterator[Client]:
    """The hub's broker: the one that runs, or the embedded one started for this alone."""
    async with AsyncExitStack() as stack:
        access = Access(keys, settings.external) if settings.external else None
        if access is not None and new:
            await access.push_accounts()
            await patiently(_enough, access, settings.replicas)
        if access is None and not new:
            access = await _running(home, keys, settings)
        if access is None:
            broker = Broker(keys, BrokerSettings(port=-1, max_store=settings.max_store))
            access = (await stack.enter_async_context(broker)).access
        nc = await access.connect("hub-backup")
        stack.push_async_callback(nc.close)
        names = await patiently(streams.names, nc) if new else []
        if any(name in _KINDS or name.startswith(feeds.FEED) for name in names):
            raise Refused("exists", "This broker holds a hub's streams already.", "Use another broker, or empty it.")
        yield nc


async def _running(home: Path, keys: HubKeys, settings: Settings) -> Access | None:
    found = running_in(home)
    url = found.get("url")
    if not isinstance(url, str) or not url:
        return None
    access = Access(keys, url, tls=pinned(tls_of(settings, found)))
    try:
        await (await access.connect("hub-backup")).close()
    except Unavailable:
        return None  # left behind by a hub that was killed
    return access


def _order(name: str) -> tuple[int, str]:
    return {subjects.LEDGER: 0, subjects.TRUST: 2}.get(name, 1), name


def _say(sealer: Sealer, said: dict[str, Any]) -> None:
    sealer.put(_SAID + canonical(said))


def _read(path: Path, lock: Lock) -> Iterator[tuple[dict[str, Any], Iterator[bytes]]]:
    """What the backup says, and with each the pieces that follow upon it, to be read before the next."""
    source = records(path, lock)
    record = next(source, b"")
    begun = False
    while record:
        if record[:1] != _SAID:
            raise _strange()
        try:
            said = loads(record[1:], max_bytes=_MAX_SAID, max_depth=16)
        except Malformed:
            raise _strange() from None
        if not begun and (not isinstance(said, dict) or said.get("backup") != 1):
            raise _strange()
        begun = True
        left: list[bytes] = []

        def pieces(left: list[bytes] = left) -> Iterator[bytes]:
            for one in source:
                if one[:1] != _PIECE:
                    left.append(one)
                    return
                yield one[1:]

        following = pieces()
        yield said, following
        for _ in following:
            pass
        record = left[0] if left else b""


def _strange() -> Damaged:
    return Damaged("damaged-backup", "This file opens, but it is no backup of a hub.", "Take another copy of it.")
