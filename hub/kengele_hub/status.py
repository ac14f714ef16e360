"""The hub's state in words: first whether it does its work, then what will want doing, then the figures."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

_HINDRANCES: Final = {
    "broker-away": (
        "the broker is away",
        "See that nats-server runs and is reached; kengele doctor looks for the cause.",
    ),
    "hub-restored": (
        "the hub was restored from a copy and waits for the coordinators",
        "Two of them sign anew: kengele coordinator renew, sign, publish.",
    ),
    "not-founded": ("nobody has founded the network", "Give hub-card.json to the coordinators: they found it, once."),
    "signatures-expired": (
        "the coordinators' signatures are past their date",
        "Nodes seal for the custodian alone until coordinators renew: kengele coordinator renew.",
    ),
    "storage-full": (
        "there is no room",
        "Give the disk or max_store more room; nodes keep what they have and try again.",
    ),
}
_SOON: Final = (
    ("signatures_hold_until", 3, "The coordinators' signatures run out", "kengele coordinator renew"),
    ("areas_hold_until", 3, "The signatures for an area run out", "Its coordinators run: kengele coordinator renew"),
    ("root_holds_until", 30, "The root runs out", "kengele coordinator renew"),
    ("certificate_holds_until", 14, "The TLS certificate runs out", "Renew it, then restart the hub."),
    ("next_rule_ends", 14, "A grant ends", "See kengele coordinator policy lint."),
)
_UNWITNESSED: Final = timedelta(days=7)


def words(state: dict[str, Any], now: datetime) -> Iterator[str]:
    """``state`` in lines for a person.

    Args:
        state: as ``/status`` gives it.
        now: in UTC.
    """
    codes = state["not_ready"]
    yield "The hub takes reports." if not codes else "The hub is not ready."
    for code in codes:
        what, mend = _HINDRANCES[code]
        yield f"  ! {what[0].upper()}{what[1:]}. {mend}"
    for member, days, what, mend in _SOON:
        until = _read(state[member])
        if until is not None and until - now < timedelta(days=days) and not (until <= now and codes):
            yield f"  ! {what} {_far(until, now)}. {mend}"
    cosigned = _read(state["last_cosigned"])
    if state["founded"] and state["log_size"] and (cosigned is None or now - cosigned > _UNWITNESSED):
        since = "yet" if cosigned is None else "for a week"
        yield f"  ! No office has cosigned the log {since}. Have one run: kengele office follow"
    yield ""
    rows = {
        "Broker": "connected" if state["connected"] else "away",
        "Roster": f"version {state['roster_version']}, policy {state['policy_version']}"
        if state["founded"]
        else "none",
        "Signatures hold until": _day(state["signatures_hold_until"], now),
        "Root holds until": _day(state["root_holds_until"], now),
        "Certificate holds until": _day(state["certificate_holds_until"], now),
        "Log": f"{state['log_size']:,} entries, {_cosigned(state['last_cosigned'], now)}",
        "Receipts since start": ", ".join(f"{code} {count:,}" for code, count in state["receipts"].items()) or "none",
        "Pauses since start": f"{state['paused']:,}",
        "Deliveries since start": f"{state['delivered']:,}" + _waiting(state["undelivered"]),
        "Streams": _size(state["storage_bytes"]) + _of(state["storage_limit_bytes"]),
        "Disk": f"{_size(state['disk_free_bytes'])} free{_of(state['disk_size_bytes'])}",
    }
    for name, value in rows.items():
        yield f"{name + ':':25}{value}"


def _read(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _day(text: str | None, now: datetime) -> str:
    moment = _read(text)
    return f"{moment:%Y-%m-%d %H:%M} UTC ({_far(moment, now)})" if moment else "-"


def _cosigned(text: str | None, now: datetime) -> str:
    return f"last cosigned {_day(text, now)}" if text else "never cosigned"


def _far(moment: datetime, now: datetime) -> str:
    seconds = int(abs((moment - now).total_seconds()))
    size, unit = next(
        ((size, unit) for size, unit in ((86400, "day"), (3600, "hour")) if seconds >= size), (60, "minute")
    )
    count = seconds // size
    text = f"{count} {unit}{'' if count == 1 else 's'}"
    return f"in {text}" if moment > now else f"{text} ago"


def _waiting(count: int | None) -> str:
    return f"; {count:,} entries wait" if count else ""


def _size(count: int | None) -> str:
    if count is None:
        return "-"
    size, unit = next(
        ((1000**n, unit) for n, unit in ((4, "TB"), (3, "GB"), (2, "MB")) if count >= 1000**n), (1000, "kB")
    )
    return f"{count / size:.1f} {unit}"


def _of(count: int | None) -> str:
    return "" if count is None else f" of {_size(count)}"
