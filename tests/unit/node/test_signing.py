"""Signing: who is not in the network yet is told how she signs all the same."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from kengele_node.coordinator import signing
from kengele_node.errors import NotAdmitted, Paused
from kengele_schemas.errors import Refused


@pytest.mark.parametrize(("error", "told"), [(NotAdmitted, "--from DIR"), (Paused, "")])
def test_who_is_to_sign_and_is_not_in_the_network_yet_is_told_how(
    monkeypatch: pytest.MonkeyPatch, error: type[NotAdmitted], told: str
) -> None:
    async def turned_away(_: Any) -> dict[str, bytes]:
        raise error

    monkeypatch.setattr(signing, "current", turned_away)
    member: Any = object()
    with pytest.raises(Refused) as caught:
        signing._in_force(argparse.Namespace(source=None), member)
    assert caught.value.code == error().code
    assert ("--from DIR" in caught.value.mend) == bool(told)
