"""Errors of the node. Codes are stable; sentences speak to the person at the node and hold no content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kengele_schemas import foreign
from kengele_schemas.errors import Refused, Unreachable


class NotAdmitted(Refused):
    """The hub does not let this node's key in: not enrolled yet, expired, or revoked."""

    def __init__(self) -> None:
        super().__init__(
            "not-admitted", "The hub does not admit this node's key.", "Ask a coordinator whether you are enrolled."
        )


class Paused(NotAdmitted):
    """The hub admits this node's key, but not just now."""

    def __init__(self) -> None:
        Refused.__init__(
            self,
            "paused",
            "The hub keeps this node out for a while, because far too much came from it.",
            "It comes back by itself, and sends then what waits. If it goes on, tell a coordinator.",
        )


def said_by_hub(answer: Mapping[str, Any]) -> Refused:
    """What the hub refused, in its own words: a sentence of one line and of some length, whatever it sent."""
    sentence, mend = (foreign.within(str(answer.get(name, ""))) for name in ("sentence", "mend"))
    return Refused(foreign.code(answer.get("code", "")), sentence, mend)


def unreachable() -> Unreachable:
    """What is raised where the hub does not answer."""
    return Unreachable(
        "unreachable",
        "The hub does not answer.",
        "Look at the line, then try again. What a node's outbox holds is sent by: kengele node run",
    )
