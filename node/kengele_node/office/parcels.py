"""Delivered reports as bytes: what is shared of one and what came by its author's own wrap, taken apart and joined."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from kengele_schemas.compartments import REPORT_COMPARTMENTS
from kengele_schemas.envelope import assemble, parse
from kengele_schemas.sharing import join, split


def stripped(data: bytes, stays: Sequence[str]) -> bytes:
    """The envelope with those ciphertexts only; the author's signature still holds."""
    shares, whole = split(data)
    envelope = parse(whole)
    kept = {name: text for name, text in envelope.ciphertexts.items() if name in stays}
    return join(shares, assemble(envelope.protected, envelope.payload, envelope.signature, kept, envelope.wraps))


def wrapped(data: bytes) -> bool:
    """Whether a report's author has a wrap of her own in it for this office."""
    return bool(parse(split(data)[1]).wraps)


def both(held: bytes, arrived: bytes, stays: Sequence[str]) -> bytes:
    """What was held of a report and what has arrived of it, as one; of both only the compartments that stay."""
    first, second = split(held), split(arrived)
    old, new = parse(first[1]), parse(second[1])
    shares = list(dict.fromkeys((*first[0], *second[0])))
    texts = {**new.ciphertexts, **old.ciphertexts}
    kept = {name: texts[name] for name in in_order(texts) if name in stays}
    return join(shares, assemble(old.protected, old.payload, old.signature, kept, old.wraps or new.wraps))


def in_order(parts: Collection[str]) -> list[str]:
    """Compartments as a report has them one after the other."""
    return [name for name in REPORT_COMPARTMENTS if name in parts]
