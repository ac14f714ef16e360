"""The effect of a draft, as coordinators are shown it: who gains, who loses, and whether more have to sign."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from kengele_schemas import metadata, seats
from kengele_schemas.diff import SENSITIVE, Change, diff
from kengele_schemas.drafts import Draft
from kengele_schemas.metadata import Files
from kengele_schemas.trusted import Trusted
from kengele_schemas.widening import Ground, side
from kengele_schemas.widening import told as asks


@dataclass(frozen=True)
class Effect:
    """What changes, in which ways it widens, and how many signatures the network asks for by that: 0 if no more than
    always. Those are counted as the hub counts them, of ``files``, which are in force."""

    changes: tuple[Change, ...]
    grounds: tuple[Ground, ...]
    asked: int
    files: Files = field(repr=False)

    def lacking(self, draft: Draft) -> int:
        """How many signatures ``draft`` still lacks of what is asked for; whom it seats is no voice for it."""
        signed = seats.signers(self.files, {**self.files, **draft.files()})
        return max(0, self.asked - min(map(len, signed), default=0))

    def document(self) -> dict[str, Any]:
        """As JSON."""
        why = [{"code": ground.code, "what": ground.what} for ground in self.grounds]
        return {**document(self.changes), "widening": bool(why), "grounds": why, "signatures": self.asked or None}

    def lines(self) -> list[str]:
        """For a person."""
        return [*lines(self.changes), *self.warnings()]

    def warnings(self) -> list[str]:
        """The ways by which it widens that no change of the rules shows, and how many have to sign by that."""
        told = [f"WIDER: {ground}." for ground in self.grounds if ground.code != "rules"]
        return [*told, asks(self.asked)] if self.asked else told


def effect(files: Files, after: Trusted, draft: Draft, network: str, today: date) -> Effect:
    """Of ``draft``, which makes ``after``, in the place of ``files``; ``network`` is the digest of its first root."""
    before = metadata.documents_of(files)
    found = diff(side(before), side(after), today, progress)
    why = tuple(seats.grounds(files, {**files, **draft.files()}, before, after, network, today))
    return Effect(tuple(found), why, (before.network.widening_threshold or 0) if why else 0, files)


def document(changes: Iterable[Change]) -> dict[str, Any]:
    """Changes as JSON: what is gained and what is lost, each by office and compartment."""
    found = list(changes)
    return {
        "gained": [change.document() for change in found if change.gained],
        "lost": [change.document() for change in found if not change.gained],
        "widening": any(change.gained for change in found),
    }


def lines(changes: Sequence[Change]) -> list[str]:
    """Changes for a person: offices with the same gains and losses through the same rules together."""
    if not changes:
        return ["Nobody gains or loses anything."]
    parts: dict[tuple[Any, ...], list[str]] = {}
    for change in changes:
        key = change.gained, change.rules, change.example, change.office
        parts.setdefault(key, []).append(change.compartment)
    offices: dict[tuple[Any, ...], list[str]] = {}
    for (*rest, office), opened in parts.items():
        offices.setdefault((*rest, tuple(opened)), []).append(office)
    told = []
    for (gained, rules, example, opened), some in sorted(offices.items(), key=lambda item: not item[0][0]):
        sensitive = "; it can give a person away" if gained and {*SENSITIVE} & {*opened} else ""
        verb = "WIDER: {} gains" if gained else "Narrower: {} loses"
        told.append(f"{verb.format(', '.join(some))} {', '.join(opened)}{sensitive}.")
        told.append(f"    By {', '.join(rules)}; for one, {example}.")
    return told


def progress(done: int, of: int) -> None:
    """Shows a person how far it is; a program is told nothing."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K" if done == of else f"\rComparing: {done} of {of} offices")
        sys.stderr.flush()


def touches_readers(paths: Mapping[str, Any]) -> bool:
    """Whether any of these documents decides who reads what."""
    return any(path in ("offices.json", "areas.json", "network.json") or path.startswith("policy") for path in paths)
