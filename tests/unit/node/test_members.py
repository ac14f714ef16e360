"""Members: nobody is admitted before the digits that she reads out are those of her request."""

from __future__ import annotations

import argparse
import io

import pytest

from kengele_node import terminal
from kengele_node.coordinator.members import _compare
from kengele_schemas.cards import JoinRequest
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.keys import new_signing_key
from kengele_schemas.nkeys import KeyPair


def newcomer() -> JoinRequest:
    return JoinRequest.for_monitor(new_signing_key(), KeyPair.generate("user"), ["KG-O"])


def test_digits_that_are_mistyped_are_asked_for_again_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = newcomer(), newcomer()
    typed = ["0000 0000 0000 0000", first.digits(), second.digits().replace(" ", "")]
    monkeypatch.setattr(terminal, "interactive", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in typed)))
    _compare(argparse.Namespace(digits=[]), [first, second])
    shown = capsys.readouterr().err
    assert shown.index("These are not the digits") < shown.index(second.member)
    assert shown.count(f"The digits that {first.member} reads out") == 2


def test_digits_that_are_given_and_differ_admit_nobody() -> None:
    one = newcomer()
    _compare(argparse.Namespace(digits=[one.digits()]), [one])
    with pytest.raises(Refused) as caught:
        _compare(argparse.Namespace(digits=["0000 0000"]), [one])
    assert caught.value.code == "digits-differ"
    with pytest.raises(Malformed):
        _compare(argparse.Namespace(digits=[one.digits(), one.digits()]), [one])
