"""The hub as a whole: broker, streams, trust, intake, delivery and operators' page, started and stopped together."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog
from nats.aio.client import Client

from kengele_schemas import subjects
from kengele_schemas.encoding import unb64u
from kengele_schemas.errors import KengeleError

from . import ops, streams
from .access import Access
from .authority import Authority
from .broker import Broker, Tls
from .broker import Settings as BrokerSettings
from .delivery import Delivery
from .errors import StorageFull, Unavailable
from .home import HubKeys
from .ledger import Ledger
from .settings import Settings
from .storing import Storing
from .tasks import end
from .watch import LEAST_ROOM, Holds, Watch, disk_of
from .worker import Worker

_log = structlog.get_logger(__name__)
_RETRY: Final = 2.0
_LOOK: Final = 1.0
_ENDING: Final = 20.0
"""Seconds that a hub is given to end in order before it is told once more."""
_ANSWER: Final = 3.0
_SILENT: Final = 12.0
"""Seconds without an answer after which another server of the cluster is tried; a new leader is found in less."""
_AWAY: Final = 60.0
"""Seconds after which a line that does not come back is made anew."""
_STUCK: Final = 20.0
"""Seconds; twice as long as one batch waits to be confirmed."""


@dataclass(frozen=True, slots=True)
class Running:
    """The parts of a hub that runs; ``report`` is what the operator sees of them."""

    url: str
    websocket_url: str
    ops_url: str
    worker: Worker
    authority: Authority
    ledger: Ledger
    delivery: Delivery


def origin(keys: HubKeys) -> str:
    """The name of this hub's log: unique, and without a word about where it is (C2SP tlog-checkpoint, "origin")."""
    return f"kengele/{hashlib.sha256(bytes(keys.hub_key.verify_key)).hexdigest()[:16]}"


async def run(keys: HubKeys, settings: Settings, started: Callable[[Running], Any] | None = None) -> None:
    """Runs a hub until SIGTERM or SIGINT, or until it is cancelled.

    Args:
        keys: from the hub's home.
        settings: likewise.
        started: is called when requests are answered, and again where they are answered anew.

    Raises:
        Unavailable: the broker does not start, or an external one does not answer.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError, RuntimeError):
            loop.add_signal_handler(number, stop.set)
    living = asyncio.create_task(_live(keys, settings, started))
    told = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((living, told), return_when=asyncio.FIRST_COMPLETED)
    finally:
        told.cancel()
        # Again and again: asyncio.wait_for may lose a cancellation that comes with what it waits for.
        while not living.done():
            living.cancel()
            await asyncio.wait((living,), timeout=_ENDING)
    if not living.cancelled():
        living.result()


async def _live(keys: HubKeys, settings: Settings, started: Callable[[Running], Any] | None) -> None:
    async with AsyncExitStack() as stack:
        access, broker = await _broker(stack, keys, settings)
        # Of an external broker's servers some may still be on their way up.
        patient = bool(settings.external)
        while True:
            try:
                await _serve(keys, settings, access, broker, started)
                _log.warning("hub-begins-anew")
            except Unavailable as error:
                if not patient or error.code == "port-taken":
                    raise
                _log.warning("broker-away", code=error.code)
            patient = True
            await asyncio.sleep(_RETRY)


async def _serve(
    keys: HubKeys, settings: Settings, access: Access, broker: Broker | None, started: Callable[[Running], Any] | None
) -> None:
    """Answers requests until the line to the broker or one of the parts has ended for good."""
    async with AsyncExitStack() as stack:
        nc = await access.connect("hub-worker")
        stack.push_async_callback(_close, nc)
        try:
            await streams.ensure_streams(nc, replicas=settings.replicas, ledger_max_bytes=settings.ledger_max_bytes)
        except StorageFull:
            raise StorageFull(
                "storage-full",
                "The broker has no room for the hub's streams: the small ones alone reserve 2.4 GB.",
                "Raise max_store in hub.json (max_file_store of a broker of your own) to 3 GB at least, or free room.",
            ) from None
        ledger = Ledger(nc, keys.hub_key, origin(keys), keys.home / "ledger.cache")
        await ledger.load()
        authority = Authority(keys, nc, access, ledger, unb64u(settings.token_hash), settings.replicas)
        await authority.load()
        worker = Worker(keys, nc, ledger, authority)
        taken = worker.submissions
        delivery = Delivery(nc, ledger, keys.hub_key, lambda: authority.standing, taken.recent, taken.storing)
        await worker.listen()
        await nc.flush()
        watch = Watch(
            nc, keys.home, lambda: _holds(authority), settings.tls_certificate, embedded=not settings.external
        )
        await watch.look()
        works = [
            taken.run(),
            worker.senders.pauses.run(),
            worker.lines.run(),
            delivery.run(),
            authority.keep_fresh(),
            authority.keep_current(),
            watch.run(),
            _lost(nc),
        ]
        if broker is not None:
            works.append(_renewed(broker, taken.storing, keys.home))
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(work) for work in works]
        page = ops.Page(lambda: _state(nc.is_connected, authority, ledger, worker, delivery, watch), settings.ops_hosts)
        ops_url = await stack.enter_async_context(page.serving(settings.ops_port))
        if started is not None:
            websocket = broker.websocket_url if broker else ""
            started(Running(access.url, websocket, ops_url, worker, authority, ledger, delivery))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done() and not task.cancelled() and task.exception() is not None:
                    _log.error("hub-task-ended", error=type(task.exception()).__name__)
        finally:
            await end(tasks)
            await asyncio.gather(*tasks, return_exceptions=True)


async def _lost(nc: Client) -> None:
    """Returns when the line is closed, or has not come back for :data:`_AWAY` seconds.

    nats-py reconnects by itself, but not after its credentials were refused, nor when its own task for it has failed;
    who waits for it then waits for ever. Nor does it know that a server was cut off from its cluster: that one answers,
    and stores nothing. Then another server is gone to.
    """
    away = silent = 0.0
    while not nc.is_closed and away < _AWAY:
        await asyncio.sleep(_LOOK)
        away = 0.0 if nc.is_connected else away + _LOOK
        if not nc.is_connected or len(nc.servers) < 2 or await _stores(nc):
            silent = 0.0
            continue
        silent += _LOOK + _ANSWER
        if silent >= _SILENT:
            silent = 0.0
            _log.warning("broker-left")
            await nc.force_reconnect()


async def _stores(nc: Client) -> bool:
    """Whether the server at the other end reaches one that leads the ledger, and that one enough of the others."""
    try:
        found = await streams.stream(nc, subjects.LEDGER, timeout=_ANSWER)
    except KengeleError:
        return False
    return found is not None and led(found.get("cluster"))


def led(cluster: dict[str, Any] | None) -> bool:
    """Whether a stream's servers, as one of them tells of them, have a leader that hears more than half of them.

    None stands for a server that is alone. A server that was cut off does not say so. One that led leads on, over
    nobody; one that followed answers without a leader, itself among the replicas, and has heard of the others
    0 nanoseconds ago, which means never (nats-server 2.15, ``STREAM.INFO``).
    """
    if cluster is None:
        return True
    if not cluster.get("leader"):
        return False
    replicas = cluster.get("replicas") or ()
    heard = [one for one in replicas if not one.get("offline") and 0 < one.get("active", 0) < _SILENT * 1e9]
    return 2 * (1 + len(heard)) > 1 + len(replicas)


async def _renewed(broker: Broker, storing: Storing, home: Path) -> None:
    """Has the broker begin anew where it stores nothing for :data:`_STUCK` seconds though its disk has room."""
    while True:
        await asyncio.sleep(_LOOK)
        free, _, writable = disk_of(home)
        if storing.stuck >= _STUCK and writable and (free or 0) >= LEAST_ROOM:
            _log.warning("broker-stuck")
            broker.renew()
            storing.begin_anew()


async def _broker(stack: AsyncExitStack, keys: HubKeys, settings: Settings) -> tuple[Access, Broker | None]:
    if settings.external:
        access = Access(keys, settings.external)
        while True:
            try:
                await access.push_accounts()
            except Unavailable as error:
                _log.warning("broker-away", code=error.code)
                await asyncio.sleep(_RETRY)
            else:
                return access, None
    tls = Tls(settings.tls_certificate, settings.tls_key) if settings.tls_certificate and settings.tls_key else None
    broker = await stack.enter_async_context(
        Broker(
            keys,
            BrokerSettings(
                host=settings.host,
                port=settings.port,
                websocket_port=settings.websocket_port,
                tls=tls,
                max_store=settings.max_store,
            ),
        )
    )
    return broker.access, broker


async def _close(nc: Any) -> None:
    with suppress(Exception):
        await asyncio.wait_for(nc.close(), 3)


def _state(
    connected: bool, authority: Authority, ledger: Ledger, worker: Worker, delivery: Delivery, watch: Watch
) -> dict[str, Any]:
    standing = authority.standing
    trusted = standing.trusted if standing else None
    receipts = dict(sorted(worker.submissions.counts.receipts.items()))
    now = datetime.now(UTC)
    root = watch.signed.root
    hindrances = {
        "broker-away": not connected,
        "hub-restored": authority.held is not None,
        "not-founded": trusted is None and authority.held is None,
        "signatures-expired": trusted is not None and (trusted.targets_expire <= now or (root or now) < now),
        "storage-full": watch.room.full(receipts) or watch.cramped,
    }
    return {
        "pid": os.getpid(),
        "connected": connected,
        "founded": trusted is not None,
        "ready": not any(hindrances.values()),
        "not_ready": [code for code, holds in hindrances.items() if holds],
        "roster_version": trusted.version if trusted else None,
        "policy_version": trusted.rules_version if trusted else None,
        "signatures_hold_until": _iso(trusted.targets_expire if trusted else None),
        "areas_hold_until": _iso(min(trusted.ends.values(), default=None) if trusted else None),
        "areas_past_their_date": sorted(trusted.lapsed) if trusted else [],
        "root_holds_until": _iso(root),
        "vouched_until": _iso(watch.signed.vouched),
        "next_rule_ends": _iso(watch.signed.rules),
        "certificate_holds_until": _iso(watch.certificate_until),
        "last_cosigned": _iso(watch.cosigned),
        "log_size": ledger.size,
        "receipts": receipts,
        "paused": worker.senders.pauses.count,
        "delivered": delivery.delivered,
        "undelivered": watch.waiting,
        "storage_bytes": watch.stored,
        "storage_limit_bytes": watch.limit,
        "disk_free_bytes": watch.disk_free,
        "disk_size_bytes": watch.disk_size,
    }


def _holds(authority: Authority) -> Holds:
    standing = authority.standing
    return Holds.of(authority.files, standing.trusted if standing else None, datetime.now(UTC))


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None
