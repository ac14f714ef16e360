"""Who carries a join request to the coordinator may put another in its place: only the digits stand against it.

The attacker has no clock against him and tries keys of his own until the digits are those of the request that he took.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from kengele_schemas.cards import JoinRequest
from kengele_schemas.keys import new_signing_key
from kengele_schemas.nkeys import KeyPair


def request() -> JoinRequest:
    return JoinRequest.for_monitor(new_signing_key(), KeyPair.generate("user"), ("KG-O",))


def test_looking_for_a_request_with_given_digits_takes_more_machines_than_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, Any]] = []
    scrypt = hashlib.scrypt

    def counted(said: bytes, **cost: Any) -> bytes:
        asked.append(cost)
        return scrypt(said, **cost)

    monkeypatch.setattr(hashlib, "scrypt", counted)
    digits = request().digits().replace(" ", "")
    attempts = 10 ** len(digits)
    (cost,) = asked
    memory = 128 * cost["n"] * cost["r"]
    assert memory >= 64 * 1024 * 1024
    # Each attempt moves that memory twice. A billion machines at 10 GB/s would need more than a day.
    assert attempts * 2 * memory / 10**10 / 10**9 > 24 * 3600
    assert attempts >= 10**16


def test_nothing_in_a_request_can_be_changed_without_other_digits() -> None:
    own = request()
    changed = [own.model_copy(update={"areas": ("KG-O", "KG-O")}), own.model_copy(update={"nkey": request().nkey})]
    assert len({one.digits() for one in (own, *changed, request())}) == 4
