"""The fuzzer in short: what once broke a reader does so no more, and a reader that breaks would be noticed."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from fuzz.run import fuzzed, judged, kept
from fuzz.targets import Target, targets
from kengele_schemas.errors import Malformed

NAMES = [target.name for target in targets()]


def target_of(name: str) -> Target:
    return next(target for target in targets() if target.name == name)


@pytest.mark.parametrize("name", NAMES)
def test_good_inputs_are_taken(name: str) -> None:
    assert {judged(target_of(name), seed) for seed in target_of(name).seeds} == {"taken"}


@pytest.mark.parametrize("name", NAMES)
def test_what_once_broke_a_reader_is_refused(name: str) -> None:
    assert {judged(target_of(name), data) for data in kept(target_of(name))} <= {"refused"}


@pytest.mark.parametrize("name", NAMES)
def test_bent_inputs_break_no_reader(name: str) -> None:
    _, outcomes, broken = fuzzed(name, 20 if name == "trust" else 400, seed=7)
    assert not broken
    assert outcomes["refused"] > 0


def test_a_crash_an_acceptance_and_a_hang_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(_: bytes) -> bool:
        raise Malformed("malformed", "")

    def hangs(_: bytes) -> bool:
        while True:
            pass

    monkeypatch.setattr("fuzz.run.HANG", 0.05)
    fuzzed("packed", 1, seed=1)  # sets the alarm's handler
    base = replace(target_of("marker"), seeds=(b"good",))
    for take, data, outcome in (
        (refuses, b"bad", "refused"),
        (lambda data: True, b"good", "taken"),
        (lambda data: True, b"bad", "accepted"),
        (lambda data: bool(1 // 0), b"bad", "ZeroDivisionError"),
        (hangs, b"bad", "hang"),
    ):
        assert judged(replace(base, take=take), data) == outcome
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
