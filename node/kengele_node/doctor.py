"""``kengele doctor``: the likeliest faults of a home's deployment, each with its mend. A hub's home is the hub's.

Looks from outside, without the passphrase; with it, also at what only the vault can tell. Changes nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tuf.api.metadata import Metadata

from kengele_schemas import disk
from kengele_schemas.cards import NetworkCard, read_card
from kengele_schemas.errors import KengeleError
from kengele_schemas.findings import (
    FOUND,
    Finding,
    Resolved,
    of_authorities,
    of_clock,
    of_disk,
    of_modes,
    of_names,
    told,
)
from kengele_schemas.publication import TIMESTAMP_LIFE

from . import terminal
from .member import CARD, Member, now
from .vault import Lock, Vault

_HUB: Final = ("hub.json", "keys.json")
_VAULT: Final = "vault.json"
_PRIVATE: Final = (_VAULT, CARD, "outbox.db", "inbox.db", "log.db", "trust")
_PORTS: Final = {"nats": 4222, "tls": 4222, "ws": 80, "wss": 443}
_SECURE: Final = ("tls", "wss")
_SOON: Final = timedelta(days=3)
_WAIT: Final = 10.0
# OpenSSL's X509_V_ERR codes (x509_vfy.h)
_UNTIMELY: Final = {9: "does not hold yet", 10: "has run out"}
_OTHER_HOST: Final = (62, 64)


def build(parser: argparse.ArgumentParser) -> None:
    """Adds the doctor's options to ``parser``."""
    parser.add_argument("--home", type=Path, required=True, metavar="DIR", help="whose: of a hub, a node, a desk, …")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    terminal.lock_options(parser)
    parser.epilog = f"Ends with 0 if nothing is found, {FOUND} if something is.\nExample:  kengele doctor --home node"
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if any((args.home / name).exists() for name in _HUB):
        from .cli import main

        return main(["hub", "doctor", "--home", str(args.home), *(["--json"] if args.json else [])])
    findings = [*_locks(args), *examine(args.home, _lock(args))]
    for line in told(findings, json=args.json):
        if args.json:
            terminal.emit(line)
        else:
            terminal.say(line)
    return FOUND if findings else 0


def _lock(args: argparse.Namespace) -> Lock | None:
    """What opens the home, if it was given; nobody is asked."""
    given = args.key_file is not None or args.passphrase_file is not None or "KENGELE_PASSPHRASE" in os.environ
    with suppress(KengeleError):
        return terminal.lock_of(args) if given else None
    return None


def _locks(args: argparse.Namespace) -> Iterator[Finding]:
    for path, code, what in (
        (args.passphrase_file, "passphrase-exposed", "passphrase file"),
        (args.key_file, "key-exposed", "key file"),
    ):
        if path is None:
            continue
        try:
            exposed = path.stat().st_mode & 0o077
        except OSError:
            yield Finding("no-lock", f"The {what} is not there or cannot be read.", "Check its path and its owner.")
            continue
        if exposed:
            yield Finding(
                code,
                f"Others on this machine can read the {what}.",
                "chmod 600 on it, and change what it opens: somebody may have a copy.",
            )


def examine(home: Path, lock: Lock | None = None, *, wait: float = _WAIT) -> list[Finding]:
    """The faults of the member's home ``home``; ``wait`` is for each address of the hub, in seconds."""
    if not (home / _VAULT).is_file():
        return [
            Finding(
                "no-vault",
                "This is nobody's home: it holds neither a vault nor a hub's keys.",
                "Give the right --home, or make one: kengele node init, office init, coordinator init, hub init.",
            )
        ]
    findings = [*_disk(home), *of_modes(*_modes(home)), *of_authorities(_missing(os.environ))]
    if lock is not None:
        findings += _vault(home, lock)
    try:
        card = read_card(disk.read(home / CARD), NetworkCard)
    except OSError:
        mend = "Join with the card or the link that a coordinator gives."
        return [*findings, Finding("no-network", "This home has joined no network yet.", mend)]
    except KengeleError as error:
        return [*findings, Finding.of(error)]
    findings += _trust(home)
    hosts = {urlsplit(url).hostname or "" for url in card.urls}
    resolved = {host: _resolution(host) for host in hosts}
    findings += of_names(resolved, ipv6=_routes_ipv6())
    # Any one address that works is enough, so one that fails is told only if none does.
    lines = [list(_line(url, card, wait)) for url in card.urls if resolved[urlsplit(url).hostname or ""] != "none"]
    if all(lines):
        findings += dict.fromkeys(finding for faults in lines for finding in faults)
    return findings


def _vault(home: Path, lock: Lock) -> Iterator[Finding]:
    try:
        member = Member(home, Vault.open(home, lock))
        if (home / CARD).exists():
            _ = member.card
    except KengeleError as error:
        yield Finding.of(error)


def _trust(home: Path) -> Iterator[Finding]:
    current = home / "trust/current/metadata"
    stamp = _expiry(current / "timestamp.json")
    if stamp is None:
        yield Finding(
            "never-online",
            "This home has never seen the network's rules.",
            "Run it once with a line to the hub; or take them in from a stick: kengele node rules --from DIR",
        )
        return
    # It was signed a day before it ends, so the clock is at least as far behind as that day lies ahead.
    behind = ((stamp - TIMESTAMP_LIFE) - now()).total_seconds()
    yield from of_clock(-behind if behind > 0 else None)
    ends = min(filter(None, map(_expiry, current.glob("*targets.json"))), default=None)
    root = _expiry(current / "root.json")
    for code, what, moment, before in (
        ("rules-end", "The network's rules held here", ends, _SOON),
        ("root-ends", "The network's root", root, timedelta(days=30)),
    ):
        if moment is not None and moment - now() < before:
            when = "ended" if moment <= now() else "end"
            yield Finding(
                code,
                f"{what} {when} on {moment:%Y-%m-%d}.",
                "Go online; if they are no newer there, coordinators have to renew them: kengele coordinator renew",
            )


def _expiry(path: Path) -> datetime | None:
    try:
        found: datetime = Metadata[Any].from_bytes(disk.read_own(path)).signed.expires
    except Exception:  # whatever is wrong with it is told by who verifies it
        return None
    return found.replace(tzinfo=now().tzinfo)


def _line(url: str, card: NetworkCard, wait: float) -> Iterator[Finding]:
    """What is wrong with the way to the hub by ``url``."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    if parts.scheme not in _SECURE and host not in ("127.0.0.1", "::1", "localhost"):
        yield Finding(
            "plain-connection",
            "The card gives an address without TLS, which this program refuses.",
            "Ask a coordinator for the network's newest card.",
        )
        return
    try:
        with socket.create_connection((host, port), wait) as line:
            if parts.scheme in _SECURE:
                context = ssl.create_default_context(cadata=card.ca) if card.ca else ssl.create_default_context()
                with context.wrap_socket(line, server_hostname=host):
                    return
            if parts.scheme == "nats" and not line.recv(4).startswith(b"INFO"):
                yield _another_service(port)
    except ssl.SSLCertVerificationError as error:
        yield _certificate(error.verify_code, host)
    except ssl.SSLError:
        yield _another_service(port)
    except OSError:
        yield Finding(
            "hub-unreached",
            f"Nothing answers at {host}, port {port}.",
            "See whether the line is up and lets this port out; ask the hub's operator whether the hub runs.",
        )


def _another_service(port: int) -> Finding:
    return Finding(
        "not-the-hub",
        f"What answers on port {port} is no hub.",
        "Something between may intercept the line, as hotels do; or the hub's operator gave a wrong address.",
    )


def _certificate(code: int, host: str) -> Finding:
    if code in _UNTIMELY:
        return Finding(
            "certificate-ends",
            f"The hub's certificate {_UNTIMELY[code]}.",
            "See this machine's clock first; if it is right, the hub's operator has to renew the certificate.",
        )
    if code in _OTHER_HOST:
        return Finding(
            "certificate-host",
            f"The certificate shown is not {host}'s.",
            "Something between may intercept the line; else the hub's operator has to have it made for this name.",
        )
    return Finding(
        "certificate-untrusted",
        "The hub's certificate is by an authority that this machine does not trust.",
        "Something between may intercept the line. If the hub has an authority of its own, its card must say so.",
    )


def _disk(home: Path) -> Iterator[Finding]:
    disk = shutil.disk_usage(home)
    read_only = bool(os.statvfs(home).f_flag & os.ST_RDONLY)
    yield from of_disk(disk.free, disk.total, writable=not read_only and os.access(home, os.W_OK))


def _modes(home: Path) -> tuple[list[str], list[str]]:
    exposed, foreign = [], []
    about = home.stat()
    for path in (home / name for name in _PRIVATE):
        with suppress(OSError):
            own = path.stat()
            if own.st_mode & 0o077 and about.st_mode & 0o077:
                exposed.append(path.name)
            if own.st_uid != about.st_uid:
                foreign.append(path.name)
    return exposed, foreign


def _missing(environment: Mapping[str, str]) -> list[str]:
    missing = []
    for name, fits in (("SSL_CERT_FILE", Path.is_file), ("SSL_CERT_DIR", Path.is_dir)):
        path = environment.get(name)
        if path and not (fits(Path(path)) and os.access(path, os.R_OK)):
            missing.append(name)
    return missing


def _resolution(host: str) -> Resolved:
    try:
        kinds: Iterable[int] = {found[0] for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return "none"
    if set(kinds) == {socket.AF_INET6}:
        return "ipv6"
    return "both" if socket.AF_INET6 in kinds else "ipv4"


def _routes_ipv6() -> bool:
    with suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.connect(("2001:db8::1", 9))
        return True
    return False
