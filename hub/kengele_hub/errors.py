"""Errors of the hub. Codes are stable; sentences speak to the hub's operator and hold no content."""

from __future__ import annotations

from kengele_schemas.errors import Damaged, Refused, Unreachable


class Unavailable(Unreachable):
    """The broker does not run or does not answer; whether the last message was stored is not known: send it again."""


class StorageFull(Damaged):
    """The broker's storage takes no more; nothing of the batch was stored."""


class Conflict(Refused):
    """Something of this name is stored already; nothing of the batch was stored."""


def not_admitted() -> Refused:
    """One refusal for whoever is not let in, whatever the reason."""
    return Refused("not-admitted", "This key is not in the network's roster.", "Ask a coordinator; then try again.")
