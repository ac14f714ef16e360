"""Who has obeyed the coordinators' recall: an office's own signature counts, and no word of the hub's."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from kengele_node.coordinator.recalls import Status, status_of
from kengele_schemas.encoding import b64u
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.orders import Order, mark_of
from kengele_schemas.recall import sign_confirmation
from kengele_schemas.trusted import UNNAMED
from kengele_testing.values import HUB, MONITOR, NOW, grant, network

TRUSTED = network(grant())
ID, OTHER = b64u(b"1" * 16), b64u(b"2" * 16)
ORDER = Order(mark=mark_of(ID))
DIGEST = b64u(b"d" * 32)


def told(*confirmations: object, **answer: Any) -> Status:
    """What is made of the hub's answer."""

    class Session:
        member = SimpleNamespace(nkey=KeyPair.generate("user"))

        async def ask(self, _: str, document: Any) -> dict[str, Any]:
            assert document == {"order": ORDER.mark}
            offices = ["unrcca", "council"]
            said = {"code": "status", "report": DIGEST, "offices": offices, "confirmations": list(confirmations)}
            return {**said, **answer}

    return asyncio.run(status_of(Session(), ORDER, TRUSTED))  # type: ignore[arg-type]


def said(office: str = "unrcca", report_id: str = ID, order: Order = ORDER, key: Any = HUB) -> str:
    return b64u(sign_confirmation(office, report_id, order.digest, network=UNNAMED, at=NOW, key=key))


def test_a_confirmation_that_holds_is_told_with_its_time() -> None:
    found = told(said())
    assert found.report == DIGEST
    assert found.offices["council"] is None
    assert found.offices["unrcca"] is not None
    assert found.offices["unrcca"].at == "2026-11-24T12:00:00Z"


@pytest.mark.parametrize(
    "text",
    [
        said(key=MONITOR),
        said(report_id=OTHER),
        said(order=Order(mark=ORDER.mark, keep=("summary",))),
        said(order=Order(mark=mark_of(OTHER))),
        said(office="nobody"),
        b64u(b"{}"),
        "!",
        7,
        None,
    ],
)
def test_what_the_hub_makes_up_counts_for_nothing(text: object) -> None:
    assert told(text).offices == {"unrcca": None, "council": None}


@pytest.mark.parametrize("answer", [{"offices": 7}, {"confirmations": {}}, {"report": 7}, {"offices": None}])
def test_an_answer_of_another_shape_tells_nothing(answer: dict[str, Any]) -> None:
    assert not any(told(**answer).offices.values())
