"""What can be seen of a hub's deployment from its machine, gathered for the doctor to judge; changes nothing."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sysconfig
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography import x509

from kengele_schemas import disk, subjects
from kengele_schemas.cards import HubCard, read_card
from kengele_schemas.encoding import b64u
from kengele_schemas.errors import KengeleError, Malformed
from kengele_schemas.findings import Certificate, Finding, Resolved

from . import consumers, feeds, jetstream, streams
from .access import Access
from .broker import Tls, is_free, pinned
from .home import HubKeys
from .settings import Settings
from .watch import disk_of

RUNNING: Final = "running.json"
MACHINE: Final = "machine"
_CARD: Final = "hub-card.json"
_PRIVATE: Final = (_CARD, "hub.json", "broker", "trust", "ledger.cache")
_IDENTITIES: Final = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


@dataclass
class Symptoms:
    """What was seen; ``None`` is what could not be looked at.

    ``servers`` are the broker's, each with what it says of itself; ``skew`` is how many seconds this machine's clock is
    ahead of theirs; ``state`` is what the hub's own page says.
    """

    broken: list[Finding] = field(default_factory=list)
    exposed: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    free: int | None = None
    size: int | None = None
    writable: bool = True
    external: bool = False
    replicas: int = 1
    urls: tuple[str, ...] = ()
    max_store: int | None = None
    """What the embedded broker may use, by the settings."""
    taken: list[int] = field(default_factory=list)
    version: str | None = None
    program: bool = True
    answers: bool = True
    """Whether the hub runs: its own page answers."""
    held: bool = False
    """Whether a broker holds the home's lock."""
    elsewhere: bool = False
    """Whether the hub last ran on another machine."""
    certificate: Certificate | None = None
    resolved: Mapping[str, Resolved] = field(default_factory=dict)
    ipv6: bool = True
    no_authorities: list[str] = field(default_factory=list)
    reached: bool | None = None
    servers: list[dict[str, Any]] = field(default_factory=list)
    accounts: bool | None = None
    skew: float | None = None
    state: dict[str, Any] | None = None
    feeds_full: int = 0
    feeds_waiting: int = 0
    own_card: bool = True


async def gathered(home: Path) -> Symptoms:
    """What is to be seen of the hub in ``home``."""
    seen = Symptoms()
    seen.free, seen.size, seen.writable = disk_of(home)
    seen.exposed, seen.foreign = _modes(home)
    seen.no_authorities = authorities_missing(os.environ)
    try:
        settings = Settings.load(home)
    except KengeleError as error:
        seen.broken.append(Finding.of(error))
        return seen
    seen.external, seen.replicas, seen.urls = bool(settings.external), settings.replicas, settings.urls
    hosts = {urlsplit(url).hostname or "" for url in (*settings.urls, *settings.external.split(",")) if url}
    seen.resolved, seen.ipv6 = {host: resolution(host) for host in hosts}, routes_ipv6()
    if not seen.external:
        seen.version, seen.program = _version()
        seen.max_store = settings.max_store
    running = running_in(home)
    tls = tls_of(settings, running)
    if tls is not None and not seen.external:
        seen.certificate = certificate(tls)
        with suppress(OSError):
            if tls.key.stat().st_mode & 0o077:
                seen.exposed.append(tls.key.name)
    seen.state = _state(running)
    seen.answers = seen.state is not None
    seen.held = _held(home / "broker" / "lock")
    if not seen.answers and not seen.held and not seen.external:
        # Ports that this user may not try say nothing; the hub's unit may have them.
        least = 1 if os.geteuid() == 0 else 1024
        ports = (settings.port, settings.websocket_port)
        seen.taken = [port for port in ports if port and port >= least and not is_free(settings.host, port)]
    try:
        keys = HubKeys.load(home)
    except KengeleError as error:
        seen.broken.append(Finding.of(error))
        return seen
    seen.elsewhere = _elsewhere(home, keys)
    seen.own_card = _own_card(home, keys)
    url = settings.external or str(running.get("url", "")) if seen.answers or seen.external else ""
    if url:
        await _ask_broker(seen, Access(keys, url, tls=None if seen.external else pinned(tls)))
    return seen


async def _ask_broker(seen: Symptoms, access: Access) -> None:
    try:
        before = datetime.now(UTC)
        seen.servers = await access.servers()
        after = datetime.now(UTC)
        seen.accounts = await access.holds_accounts()
    except (KengeleError, ValueError):
        seen.reached = False
        return
    seen.reached = True
    # Their answers were made in between.
    skews = [max((before - at).total_seconds(), min(0.0, (after - at).total_seconds())) for at in _times(seen.servers)]
    seen.skew = max(skews, key=abs, default=None)
    if not seen.accounts:
        return
    with suppress(KengeleError):
        nc = await access.connect("doctor")
        try:
            await _look_at_feeds(seen, nc)
        finally:
            await nc.close()


def _times(servers: list[dict[str, Any]]) -> list[datetime]:
    found = []
    for one in servers:
        with suppress(KeyError, ValueError, TypeError):
            found.append(jetstream.moment(one["now"]))
    return found


async def _look_at_feeds(seen: Symptoms, nc: Any) -> None:
    for name in await streams.names(nc):
        if not name.startswith(feeds.FEED):
            continue
        stream = await streams.stream(nc, name)
        waits = await consumers.consumer(nc, name, subjects.feed_consumer(name.removeprefix(feeds.FEED)))
        if stream is not None:
            most, size = stream["config"].get("max_bytes", -1), stream["state"]["bytes"]
            seen.feeds_full += most > 0 and size > 0.95 * most
        seen.feeds_waiting += waits is not None and waits["num_pending"] > _MANY


_MANY: Final = 10_000
"""Reports that an office may leave in its feed before that is strange."""


def _modes(home: Path) -> tuple[list[str], list[str]]:
    exposed, foreign = [], []
    with suppress(OSError):
        owner = home.stat().st_uid
        for path in (home / name for name in _PRIVATE):
            with suppress(OSError):
                about = path.stat()
                if about.st_mode & 0o077 and home.stat().st_mode & 0o077:
                    exposed.append(path.name)
                if about.st_uid != owner:
                    foreign.append(path.name)
    return exposed, foreign


def authorities_missing(environment: Mapping[str, str]) -> list[str]:
    """The variables by which OpenSSL is told where authorities are, and where none are."""
    missing = []
    for name, fits in (("SSL_CERT_FILE", Path.is_file), ("SSL_CERT_DIR", Path.is_dir)):
        path = environment.get(name)
        if path and not (fits(Path(path)) and os.access(path, os.R_OK)):
            missing.append(name)
    return missing


def resolution(host: str) -> Resolved:
    """Of which kinds the addresses of ``host`` are."""
    try:
        kinds = {found[0] for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return "none"
    if kinds == {socket.AF_INET6}:
        return "ipv6"
    return "both" if socket.AF_INET6 in kinds else "ipv4"


def routes_ipv6() -> bool:
    """Whether there is an IPv6 route beyond this machine; nothing is sent."""
    with suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.connect(("2001:db8::1", 9))
        return True
    return False


def certificate(tls: Tls) -> Certificate:
    """What matters of the certificate that members are shown."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(str(tls.certificate), str(tls.key), password="")
        first = x509.load_pem_x509_certificates(disk.read_own(tls.certificate))
    except (OSError, ValueError):
        return Certificate(usable=False)
    names: tuple[str, ...] = ()
    with suppress(x509.ExtensionNotFound):
        alternatives = first[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        addresses = map(str, alternatives.get_values_for_type(x509.IPAddress))
        names = (*alternatives.get_values_for_type(x509.DNSName), *addresses)
    ends = min(one.not_valid_after_utc for one in first)
    return Certificate(True, max(one.not_valid_before_utc for one in first), ends, names)


def _version() -> tuple[str | None, bool]:
    path = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)))
    program = shutil.which("nats-server", path=path)
    if program is None:
        return None, False
    try:
        said = subprocess.run([program, "-v"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return None, False
    found = re.search(r"v(\d+\.\d+\.\d+)", said)
    return (found[1] if found else None), True


def running_in(home: Path) -> dict[str, Any]:
    """What the hub that runs on ``home``, or was killed there, said of itself; empty if there is nothing."""
    try:
        found = json.loads(disk.read(home / RUNNING))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def tls_of(settings: Settings, running: Mapping[str, Any]) -> Tls | None:
    """The files that the hub was started with, as a unit gives them, or else those of its settings."""
    files = (running.get("certificate"), running.get("key"))
    if all(isinstance(one, str) and one for one in files):
        return Tls(*(Path(str(one)) for one in files))
    return Tls(settings.tls_certificate, settings.tls_key) if settings.tls_certificate and settings.tls_key else None


def _state(running: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(f"{running['ops']}/status", timeout=5) as answer:  # noqa: S310
            found = json.loads(answer.read())
    except Exception:  # whatever sits on that port now is not the hub
        return None
    return found if isinstance(found, dict) and "not_ready" in found else None


def _held(lock: Path) -> bool:
    try:
        file = disk.opened(lock)
    except (OSError, Malformed):
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def machine(keys: HubKeys) -> str:
    """This machine's mark for this hub: says nothing to who has not both. Empty if the machine has no identity."""
    for path in _IDENTITIES:
        with suppress(OSError):
            identity = disk.read_own(path).strip()
            if identity:
                return hashlib.sha256(b"kengele-machine\0" + identity + bytes(keys.hub_key.verify_key)).hexdigest()[:32]
    return ""


def _elsewhere(home: Path, keys: HubKeys) -> bool:
    here = machine(keys)
    with suppress(OSError):
        return bool(here) and disk.read(home / MACHINE).decode("ascii", "replace").strip() not in ("", here)
    return False


def _own_card(home: Path, keys: HubKeys) -> bool:
    try:
        card = read_card(disk.read(home / _CARD), HubCard)
    except OSError:
        return True
    except KengeleError:
        return False
    return card.hub_key == b64u(bytes(keys.hub_key.verify_key))
