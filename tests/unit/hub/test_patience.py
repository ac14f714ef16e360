"""Patience: what may be asked twice is asked until it is done, and not for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kengele_hub import patience
from kengele_hub.errors import Unavailable
from kengele_hub.patience import patiently
from kengele_schemas.errors import Refused


class Broker:
    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    async def ask(self, name: str) -> str:
        found = self.answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return f"{name} {found}"


AWAY = Unavailable("broker-unavailable", "The broker did not confirm.")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_PAUSE", 0)


def test_it_is_asked_until_it_is_done() -> None:
    broker = Broker(AWAY, AWAY, "is there")
    assert asyncio.run(patiently(broker.ask, "it")) == "it is there"


def test_a_refusal_is_told_at_once() -> None:
    broker = Broker(Refused("exists", "It exists."), "is there")
    with pytest.raises(Refused):
        asyncio.run(patiently(broker.ask, "it"))
    assert broker.answers == ["is there"]


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0)
    with pytest.raises(Unavailable):
        asyncio.run(patiently(Broker(*[AWAY] * 1_000).ask, "it"))
