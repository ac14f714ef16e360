"""``kengele hub doctor``: the likeliest faults of a hub's deployment, each with its mend.

What was seen goes in, findings come out, the gravest first. Nothing that is told names a member or a key, or holds what
was sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from kengele_schemas.findings import (
    Finding,
    of_authorities,
    of_certificate,
    of_clock,
    of_disk,
    of_modes,
    of_names,
)

from .symptoms import Symptoms

OLDEST: Final = (2, 15, 1)
"""The first nats-server that does all that the hub rests on."""
RESERVED: Final = 3 * 1024**3
"""Bytes that a server must be allowed: the small streams alone reserve 2.4 GB."""
_BEHIND: Final = 1000
_SIGNATURES: Final = timedelta(days=3)
_ROOT: Final = timedelta(days=30)
_RULES: Final = timedelta(days=14)
_UNWITNESSED: Final = timedelta(days=7)


def examine(seen: Symptoms, now: datetime | None = None) -> list[Finding]:
    """The faults that ``seen`` shows, at ``now`` (UTC)."""
    now = now or datetime.now(UTC)
    return [
        *seen.broken,
        *of_disk(seen.free, seen.size, writable=seen.writable),
        *of_modes(seen.exposed, seen.foreign),
        *of_clock(seen.skew),
        *of_authorities(seen.no_authorities),
        *_home(seen),
        *_process(seen),
        *of_names(seen.resolved, ipv6=seen.ipv6),
        *_addresses(seen),
        *of_certificate(seen.certificate, (urlsplit(url).hostname or "" for url in seen.urls if _secure(url)), now),
        *_broker(seen),
        *_network(seen, now),
    ]


def _secure(url: str) -> bool:
    return urlsplit(url).scheme in ("tls", "wss")


def _home(seen: Symptoms) -> Iterator[Finding]:
    if seen.elsewhere:
        yield Finding(
            "another-machine",
            "This hub last ran on another machine.",
            "Make sure that it is off there for good: two of one identity spoil each other's log. Then start it.",
        )
    if not seen.own_card:
        yield Finding(
            "another-network",
            "hub-card.json is another hub's.",
            "Look where it comes from; give nobody that card. This hub's own was made by kengele hub init.",
        )


def _process(seen: Symptoms) -> Iterator[Finding]:
    if not seen.program:
        yield Finding("no-broker", "There is no nats-server.", "Install it with: pip install 'kengele[hub]'")
    if seen.version is not None and not new_enough(seen.version):
        yield _old(seen.version)
    for port in seen.taken:
        yield Finding(
            "port-taken",
            f"Port {port} is not free for the hub.",
            f"See who holds it: ss -ltnp 'sport = :{port}'. End that, or choose another port in hub.json.",
        )
    if not seen.reached and seen.max_store is not None and seen.max_store < RESERVED:
        yield _small(seen.max_store)
    if seen.held and not seen.answers:
        yield Finding(
            "broker-left-over",
            "A nats-server of this home runs without its hub.",
            "The number of its process stands in broker/lock: kill it, then start the hub.",
        )
    elif not seen.answers and not seen.broken:
        yield Finding(
            "hub-away",
            "The hub does not run on this machine, or its page is switched off.",
            "systemctl start kengele-hub, or: kengele hub run. See its log: journalctl -u kengele-hub",
        )


def _addresses(seen: Symptoms) -> Iterator[Finding]:
    clear = [url for url in seen.urls if not _secure(url) and urlsplit(url).hostname not in _LOOPBACK]
    if clear:
        yield Finding(
            "plain-address",
            "The cards give members an address without TLS, which they refuse.",
            "Give hub.json a certificate and urls that begin with tls: or wss:, and hand out new cards.",
        )


_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


def new_enough(version: str) -> bool:
    """Whether a nats-server of ``version`` does all that the hub rests on."""
    numbers = tuple(int(part) for part in version.partition("-")[0].split(".") if part.isdecimal())
    return numbers >= OLDEST


def _old(version: str) -> Finding:
    return Finding(
        "nats-old",
        f"nats-server {version} is too old.",
        f"Take {'.'.join(map(str, OLDEST))} or newer: older ones know no atomic batch, or lose what they acknowledged.",
    )


def _small(most: int) -> Finding:
    return Finding(
        "jetstream-small",
        f"A server's streams may take {most // 1024**2:,} MB, and the small ones alone reserve 2,400.",
        "Raise max_file_store (max_store in hub.json), or give it a disk with more room.",
    )


def _broker(seen: Symptoms) -> Iterator[Finding]:
    if seen.reached is False:
        yield Finding(
            "broker-away",
            "The broker does not answer, or does not admit this hub.",
            "See that it runs with this hub's export, whether the address is right, and which certificate it shows.",
        )
    if not seen.reached:
        return
    if seen.accounts is False:
        yield Finding(
            "accounts-missing",
            "The broker does not know the hub's accounts.",
            "Run it in the directory that kengele hub export wrote; then restart the hub, which sends them.",
        )
    if seen.replicas > len(seen.servers):
        yield Finding(
            "too-few-servers",
            f"The hub wants {seen.replicas} copies and {len(seen.servers)} servers answer.",
            "Start the others and look at their routes; until then one more that fails stops everything.",
        )
    yield from dict.fromkeys(finding for one in seen.servers for finding in _server(one))


def _server(one: dict[str, Any]) -> Iterator[Finding]:
    version = str(one.get("version", ""))
    if version and not new_enough(version):
        yield _old(version)
    stream = one.get("jetstream") or {}
    config = stream.get("config")
    if not config:
        yield Finding(
            "jetstream-off",
            "A server runs without JetStream.",
            "Include kengele.conf of kengele hub export in its configuration.",
        )
        return
    if config.get("sync_always") is not True:
        yield Finding(
            "sync-off",
            "A server acknowledges before it has written to the disk: sync_interval is not always.",
            "Set sync_interval: always in its jetstream block. As it is, a power cut loses acknowledged reports.",
        )
    most, used = int(config.get("max_storage", 0)), int((stream.get("stats") or {}).get("storage", 0))
    if most < RESERVED:
        yield _small(most)
    elif used > 0.9 * most:
        yield Finding(
            "jetstream-full",
            f"A server's streams take {used // 1024**2:,} of {most // 1024**2:,} MB.",
            "Raise max_file_store before it is full: then nothing more is accepted.",
        )


def _network(seen: Symptoms, now: datetime) -> Iterator[Finding]:
    if seen.feeds_full:
        yield Finding(
            "feed-full",
            f"{seen.feeds_full} feeds are full; what is for them waits.",
            "See that those offices' desks run: kengele office follow. Raise the feeds' bound if they are only behind.",
        )
    if seen.feeds_waiting:
        yield Finding(
            "feed-waits",
            f"{seen.feeds_waiting} offices have not fetched for long.",
            "Ask the coordinators whose desk is silent; the hub cannot tell, and need not.",
        )
    if seen.state is None:
        return
    state = seen.state
    if "hub-restored" in state["not_ready"]:
        yield Finding(
            "hub-restored",
            "This hub was restored from a copy, and takes and gives nothing until coordinators have signed anew.",
            "Have two of them do so: kengele coordinator renew, sign, publish. Nobody founds anything again.",
        )
        return
    if not state["founded"]:
        yield Finding(
            "not-founded",
            "Nobody has founded a network on this hub.",
            "Give hub-card.json to the coordinators: kengele coordinator found --hub hub-card.json",
        )
        return
    renew = "Ask the coordinators: kengele coordinator renew, a second signature, publish."
    yield from _runs_out(
        "signatures-end", "The coordinators' signatures", state["signatures_hold_until"], _SIGNATURES, renew, now
    )
    yield from _runs_out("root-ends", "The root", state["root_holds_until"], _ROOT, renew, now)
    yield from _runs_out(
        "rules-end",
        "A grant",
        state["next_rule_ends"],
        _RULES,
        "Tell the coordinators: kengele coordinator policy lint names it.",
        now,
    )
    yield from _runs_out(
        "vouched-ended",
        "The hub's own signature under the roster",
        state["vouched_until"],
        timedelta(0),
        "The hub signs anew by itself when it reaches the broker; see its log for trust-not-renewed, then restart it.",
        now,
    )
    cosigned = _read(state["last_cosigned"])
    if state["log_size"] and (cosigned is None or now - cosigned > _UNWITNESSED):
        yield Finding(
            "not-witnessed",
            "No office has cosigned the log yet." if cosigned is None else "No office has cosigned the log for a week.",
            "Have two offices' desks run: kengele office follow. A log without witnesses can be split unnoticed.",
        )
    if (state["undelivered"] or 0) > _BEHIND:
        yield Finding(
            "delivery-behind",
            f"{state['undelivered']:,} entries of the log wait to be delivered.",
            "See the hub's log for delivery-waits; a full feed holds up its own only, a slow disk all.",
        )
    if "storage-full" in state["not_ready"]:
        yield Finding(
            "storage-full",
            "The hub turns reports away for want of room.",
            "Give the disk, max_store or ledger_max_bytes more; nodes keep what they have and try again.",
        )


def _runs_out(
    code: str, what: str, until: str | None, before: timedelta, mend: str, now: datetime
) -> Iterator[Finding]:
    moment = _read(until)
    if moment is not None and moment - now < before:
        when = "ended" if moment <= now else "ends"
        yield Finding(code, f"{what} {when} on {moment:%Y-%m-%d at %H:%M} UTC.", mend)


def _read(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
