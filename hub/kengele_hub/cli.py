"""``kengele hub``: init, run, status, doctor, export, backup, restore."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import hashlib
import http.client
import json
import os
import secrets
import ssl
import sys
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import structlog

from kengele_schemas import disk, foreign
from kengele_schemas.cards import HubCard, Joiner
from kengele_schemas.encoding import b64u
from kengele_schemas.errors import Locked, Malformed, Refused
from kengele_schemas.fields import read
from kengele_schemas.findings import FOUND, told
from kengele_schemas.nkeys import KeyPair

from . import logs
from .access import Access
from .backup import identity, restore, take
from .broker import pinned
from .doctor import examine
from .errors import Unavailable
from .home import HubKeys, not_yours
from .sealed import Lock, make_key_file
from .service import Running, origin, run
from .settings import Settings
from .status import words
from .symptoms import MACHINE, RUNNING, gathered, machine, running_in, tls_of

HELP: Final = "run the hub: the part in the middle, which routes what it cannot read"


def command(parser: argparse.ArgumentParser) -> None:
    """Adds the hub's sub-commands to ``parser``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    _init(actions)
    runner = _action(actions, "run", "run the hub until it is told to stop", "kengele hub run --home hub")
    runner.add_argument(
        "--external",
        metavar="URL",
        help="a NATS server, or those of a cluster with commas between, instead of the embedded one",
    )
    runner.add_argument("--tls-certificate", type=Path, help="PEM file, in place of the one in hub.json")
    runner.add_argument("--tls-key", type=Path, help="likewise")
    runner.set_defaults(run=_run)
    status = _action(actions, "status", "say how the hub on this machine is", "kengele hub status --home hub --json")
    status.add_argument("--json", action="store_true", help="one JSON object on stdout")
    status.set_defaults(run=_status)
    doctor = _action(
        actions,
        "doctor",
        "look for what is wrong with the deployment, and say the mend",
        "kengele hub doctor --home hub",
    )
    doctor.add_argument("--json", action="store_true", help="one JSON object on stdout")
    doctor.set_defaults(run=_doctor)
    paused = _action(
        actions,
        "paused",
        "list the keys that are kept out for a time, because far too much came under them",
        "kengele hub paused --home hub",
    )
    paused.set_defaults(run=_paused)
    export = _action(
        actions, "export", "write what an external broker's operator needs", "kengele hub export --home hub nats/"
    )
    export.add_argument("directory", type=Path)
    export.add_argument("--backup", type=Path, metavar="FILE", help="of the hub in this backup, before it is restored")
    _opened_by(export)
    export.set_defaults(run=_export)
    _copies(actions)


def _copies(actions: Any) -> None:
    taking = _action(
        actions,
        "backup",
        "write a sealed copy of the hub, which may run meanwhile",
        "kengele hub backup --home hub hub-2026-11-30.backup",
    )
    taking.add_argument("file", type=Path)
    taking.set_defaults(run=_backup)
    making = _action(
        actions,
        "restore",
        "make a hub of such a copy; it waits until coordinators have signed anew",
        "kengele hub restore --home hub hub-2026-11-30.backup",
    )
    making.add_argument("file", type=Path)
    making.add_argument("--external", default="", metavar="URL", help="a NATS server or cluster to put it on")
    making.add_argument("--replicas", type=int, choices=(1, 3, 5), help="copies in that cluster (default: as before)")
    making.set_defaults(run=_restore)
    _opened_by(making)
    _opened_by(taking).add_argument("--new-key-file", type=Path, metavar="FILE", help="make a key file and use it")


def _opened_by(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    locks = parser.add_mutually_exclusive_group()
    locks.add_argument(
        "--key-file", type=Path, metavar="FILE", help="a file of 32 random bytes, in a passphrase's stead"
    )
    locks.add_argument("--passphrase-file", type=Path, metavar="FILE", help="read it from the first line of this file")
    return locks


def _action(actions: Any, name: str, what: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=f"Example:  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--home", type=Path, default=Path("hub"), help="the hub's directory (default: ./hub)")
    return parser


def _init(actions: Any) -> None:
    parser = _action(
        actions,
        "init",
        "make a hub's keys and settings, and the card that coordinators need to found a network on it",
        "kengele hub init --home hub --port 4222",
    )
    parser.add_argument("--url", action="append", default=[], help="where members reach it; several if there are")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=4222, help="port to listen on (default: 4222)")
    parser.add_argument("--websocket-port", type=int, help="port for WebSocket besides, for who gets through no other")
    parser.add_argument("--tls-certificate", type=Path, help="PEM file; members then come by tls: and wss:")
    parser.add_argument("--tls-key", type=Path, help="PEM file")
    parser.add_argument(
        "--tls-ca", type=Path, help="PEM file of its authority if not a public one; goes into the cards"
    )
    parser.add_argument(
        "--external", default="", metavar="URL", help="a NATS server to use, or those of a cluster, with commas between"
    )
    parser.add_argument("--replicas", type=int, default=1, choices=(1, 3, 5), help="copies in a cluster (default: 1)")
    parser.add_argument(
        "--ops-port", type=int, default=-1, help="port for health and figures on loopback; 0: none (default: any)"
    )
    parser.set_defaults(run=_make)


def _make(args: argparse.Namespace) -> int:
    urls = args.url or (args.external.split(",") if args.external else _own_urls(args))
    token = secrets.token_bytes(16)
    # Before the keys, which are never made twice. Links stay links: who renews certificates points them elsewhere.
    settings = read(
        Settings,
        {
            "urls": urls,
            "host": args.host,
            "port": args.port,
            "websocket_port": args.websocket_port,
            "tls_certificate": args.tls_certificate.absolute() if args.tls_certificate else None,
            "tls_key": args.tls_key.absolute() if args.tls_key else None,
            "external": args.external,
            "replicas": args.replicas,
            "ops_port": args.ops_port,
            "token_hash": b64u(hashlib.sha256(token).digest()),
        },
    )
    if settings.tls_certificate is not None:
        _check_pair(settings)
    ca = _authority(args.tls_ca) if args.tls_ca else None
    keys = HubKeys.create(args.home)
    settings.save(args.home)
    joiner = KeyPair.generate("user")
    card = HubCard(
        urls=tuple(urls),
        hub_key=b64u(bytes(keys.hub_key.verify_key)),
        snapshot_key=b64u(bytes(keys.snapshot_key.verify_key)),
        timestamp_key=b64u(bytes(keys.timestamp_key.verify_key)),
        log=origin(keys),
        join=Joiner(jwt=Access(keys, urls[0]).member_jwt(joiner.public, "joiner"), seed=joiner.seed),
        token=b64u(token),
        ca=ca,
    )
    path = args.home / "hub-card.json"
    disk.write(path, card.encode())
    _say(f"The hub's keys are in {args.home}; keep a copy of that directory in a safe place.")
    _say(f"Give {path} to the coordinators who found the network; it lets them do so, once.")
    if any(_in_the_clear(url) for url in urls):
        _say("Members on other machines refuse addresses without TLS; give --tls-certificate.")
    _say(f"Next:  kengele hub run --home {args.home}")
    return 0


def _check_pair(settings: Settings) -> None:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # The password keeps OpenSSL from asking for one; nats-server cannot use a locked key either.
        context.load_cert_chain(str(settings.tls_certificate), str(settings.tls_key), password="")
    except (OSError, ValueError):
        raise Malformed(
            "bad-certificate",
            f"The certificate {settings.tls_certificate} and its key {settings.tls_key} cannot be used.",
            "Give PEM files that are there, can be read by this user, belong together and have no passphrase.",
        ) from None


def _authority(path: Path) -> str:
    text = disk.read_own(path).decode()
    try:
        ssl.create_default_context(cadata=text)
    except (ssl.SSLError, ValueError):
        raise Malformed(
            "bad-certificate", "The authority's certificate cannot be read.", "Give a PEM file of certificates alone."
        ) from None
    return text


def _in_the_clear(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("nats", "ws") and parts.hostname not in ("127.0.0.1", "::1", "localhost")


def _own_urls(args: argparse.Namespace) -> list[str]:
    secure = args.tls_certificate is not None
    host = "127.0.0.1" if args.host in ("0.0.0.0", "::") else args.host  # noqa: S104
    host = f"[{host}]" if ":" in host else host
    if args.port < 1:
        raise Malformed("malformed", "The port is not known beforehand.", "Give --port, or --url for the cards.")
    urls = [f"{'tls' if secure else 'nats'}://{host}:{args.port}"]
    if args.websocket_port and args.websocket_port > 0:
        urls.append(f"{'wss' if secure else 'ws'}://{host}:{args.websocket_port}")
    return urls


def _run(args: argparse.Namespace) -> int:
    logs.configure()
    log = structlog.get_logger("kengele_hub")
    settings = Settings.load(args.home)
    given = {name: getattr(args, name) for name in ("external", "tls_certificate", "tls_key")}
    settings = read(Settings, {**settings.model_dump(mode="json"), **{name: one for name, one in given.items() if one}})
    keys = HubKeys.load(args.home)
    if settings.tls_certificate is not None and not settings.external:
        _check_pair(settings)

    def started(running: Running) -> None:
        where = {"ops": running.ops_url, "url": running.url, "certificate": _text(settings.tls_certificate)}
        where["key"] = _text(settings.tls_key)
        disk.write(args.home / MACHINE, machine(keys).encode("ascii"))
        disk.write(args.home / RUNNING, json.dumps(where).encode())
        log.info("hub-started", url=running.url, ops=running.ops_url)

    try:
        import uvloop

        start: Any = uvloop.run
    except ImportError:
        start = asyncio.run
    start(run(keys, settings, started))
    disk.remove(args.home / RUNNING)
    log.info("hub-stopped")
    return 0


def _say(text: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in foreign.lines(text))


def _text(path: Path | None) -> str:
    # Whoever reads it may be at home elsewhere.
    return str(path.absolute()) if path else ""


def _status(args: argparse.Namespace) -> int:
    try:
        ops = json.loads(disk.read(args.home / RUNNING))["ops"]
        with urllib.request.urlopen(f"{ops}/status", timeout=5) as answer:  # noqa: S310
            state = json.loads(answer.read())
    except PermissionError:
        raise not_yours(args.home) from None
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        raise _away(args.home) from None
    if args.json:
        sys.stdout.write(foreign.escaped(json.dumps(state)) + "\n")
        return 0
    for line in words(state, datetime.now(UTC)):
        _say(f"{line}")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    findings = examine(asyncio.run(gathered(args.home)))
    for line in told(findings, json=args.json):
        _say(json.dumps(line) if args.json else line)
    return FOUND if findings else 0


def _paused(args: argparse.Namespace) -> int:
    for nkey, until in sorted(asyncio.run(_access(args.home).paused()).items()):
        end = datetime.fromtimestamp(until, UTC)
        if end > datetime.now(UTC):
            _say(f"{nkey}  until {end:%Y-%m-%d %H:%M:%S} UTC")
    return 0


def _access(home: Path) -> Access:
    """To the broker that this hub runs on. Raises Unavailable if the hub does not run."""
    keys, settings = HubKeys.load(home), Settings.load(home)
    if settings.external:
        return Access(keys, settings.external)
    running = running_in(home)
    url = running.get("url")
    if not isinstance(url, str) or not url:
        raise _away(home)
    return Access(keys, url, tls=pinned(tls_of(settings, running)))


def _away(home: Path) -> Unavailable:
    mend = "Start it: kengele hub run" if home.exists() else "Name its directory, or make one: kengele hub init"
    return Unavailable("hub-away", "The hub does not run on this machine.", f"{mend} --home {home}")


def _export(args: argparse.Namespace) -> int:
    if not disk.empty(args.directory):
        raise Refused("exists", "That directory is not empty.", "Choose another.")
    if args.backup is not None:
        keys, settings = identity(args.backup, _lock(args))
    else:
        keys, settings = HubKeys.load(args.home), Settings.load(args.home)
    for path in Access(keys, "").export(args.directory, max_store=settings.max_store):
        _say(f"{path}")
    return 0


def _backup(args: argparse.Namespace) -> int:
    lock = make_key_file(args.new_key_file) if args.new_key_file else _lock(args, new=True)
    copied = asyncio.run(take(args.file, lock, args.home))
    _say(f"{args.file}: {copied.entries:,} entries of the log, {len(copied.streams)} streams.")
    _say("It holds the hub's keys: keep it, and what opens it, in two places.")
    return 0


def _restore(args: argparse.Namespace) -> int:
    copied = restore(args.file, _lock(args), args.home, external=args.external, replicas=args.replicas)
    sys.stdout.write(
        f"{args.home} is the hub as it was at {copied.at:%Y-%m-%d %H:%M} UTC: {copied.entries:,} entries.\n"
    )
    sys.stdout.write("Never run the old one again. Look through hub.json, then:  ")
    _say(f"kengele hub run --home {args.home}")
    sys.stdout.write(
        "It takes and gives nothing until coordinators sign anew: kengele coordinator renew, sign, publish\n"
    )
    return 0


def _lock(args: argparse.Namespace, *, new: bool = False) -> Lock:
    """What seals or opens a backup; as at the nodes KENGELE_PASSPHRASE or a question without an option."""
    if args.key_file is not None:
        return Lock(key_file=args.key_file)
    if args.passphrase_file is not None:
        return Lock(passphrase=disk.read_own(args.passphrase_file, 65536).decode().partition("\n")[0].rstrip("\r"))
    if "KENGELE_PASSPHRASE" in os.environ:
        return Lock(passphrase=os.environ["KENGELE_PASSPHRASE"])
    if not sys.stdin.isatty():
        raise Locked("no-passphrase", "Nobody is here to type a passphrase.", "Give --key-file or --passphrase-file.")
    passphrase = getpass.getpass("Passphrase of the backup: ", sys.stderr)
    if new and getpass.getpass("The same again: ", sys.stderr) != passphrase:
        raise Locked("no-passphrase", "The two passphrases differ.", "Start again.")
    return Lock(passphrase=passphrase)
