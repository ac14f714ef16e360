"""Telling: what came to a desk, for a person in lines that no text can forge, for a program as JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from kengele_node import terminal
from kengele_schemas import foreign, tlp

from .arrivals import COORDINATORS, Arrival, Aside, Marker, Notice, Tombstone
from .desk import NEW_KEY, Received

_WHY: Final = {
    "consent": "Someone of whom it speaks wants it gone.",
    "error": "It is wrong.",
    "safety": "It endangers someone.",
}
"""What the coordinators' reasons say."""
_NEW_KEY: Final = (
    "ATTENTION: this monitor lost her key. Coordinators vouch for the new one; she herself could not sign."
)


def tell(args: argparse.Namespace, item: Received) -> None:
    """Tells what has just come."""
    if isinstance(item, Arrival):
        if args.json:
            terminal.emit(document(item))
        elif item.header.recalls:
            terminal.say(*_recall(item))
        else:
            terminal.say(*listed(item))
    elif isinstance(item, Aside):
        terminal.note(f"Something did not hold up and was set aside ({item.code}); see: kengele office show --problems")
    elif isinstance(item, Notice):
        if args.json:
            terminal.emit({"id": item.report, "kid": item.kid, "keep": list(item.keep or ()), "flags": ["recalled"]})
        else:
            terminal.say(f"Report {item.report} was recalled by the network's coordinators; {_stays(item.keep)}.")
    elif isinstance(item, Marker):
        terminal.note(f"The hub withholds a report of {item.kid}, by a newer rule as it says.")


def document(arrival: Arrival) -> dict[str, Any]:
    """An opened report as JSON values: the header's claims, then each compartment that this office may read."""
    contents = {name: model.model_dump(mode="json", exclude_none=True) for name, model in arrival.contents.items()}
    return {**arrival.header.claims(), **contents, "withheld": list(arrival.withheld), "flags": list(arrival.flags)}


def listed(arrival: Arrival) -> list[str]:
    """A report as it stands in a list: lines of this program, and one of the author's behind the margin."""
    header = arrival.header
    summary = foreign.within(document(arrival).get("summary", {}).get("text", ""))
    flags = f"  [{', '.join(arrival.flags)}]" if arrival.flags else ""
    first = f"{header.day}  {header.area:8}  {', '.join(header.categories)}  severity {header.severity}"
    opened = ", ".join(name for name in arrival.contents if name != "handling")
    loud = [f"  {_NEW_KEY}"] if NEW_KEY in arrival.flags else []
    return [f"{first}  {tlp.label(header.tlp)}{flags}", f"  {header.id}  ({opened})", *loud, *foreign.block(summary)]


def tell_full(arrival: Arrival) -> None:
    """Tells all that this office may read of a report."""
    terminal.say(*listed(arrival))
    terminal.say(f"  by {arrival.header.kid}")
    for name, content in document(arrival).items():
        if isinstance(content, dict):
            terminal.say("", f"  {name}")
            for field, value in content.items():
                if value not in ([], {}):
                    terminal.say(f"    {field}:", *foreign.block(_written(value)))


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _recall(arrival: Arrival) -> list[str]:
    header = arrival.header
    reason = document(arrival).get("handling", {}).get("wishes", {}).get("text", "")
    said = f"Report {header.recalls} was recalled by its author; {_stays(header.keep)}."
    return [said, *foreign.block(reason)]


def _stays(keep: Sequence[str] | None) -> str:
    return f"of it stay: {', '.join(keep)}" if keep else "its text and keys are destroyed"


def tell_gone(args: argparse.Namespace, gone: Tombstone) -> None:
    """Tells what is left of a report that was recalled."""
    day = datetime.fromtimestamp(gone.recalled, UTC).date().isoformat()
    if args.json:
        told = {"id": gone.id, "kid": gone.author, "recalled": day, "reason": gone.reason, "by": gone.by}
        terminal.emit({**told, "flags": ["recalled"]})
        return
    ours = _WHY.get(gone.reason or "") if gone.by == COORDINATORS else None
    reason = [f"  {ours}"] if ours else foreign.block(gone.reason or "")
    who = "the network's coordinators" if gone.by == COORDINATORS else "its author"
    terminal.say(f"{day}  {gone.id}  recalled by {who}", *reason)
