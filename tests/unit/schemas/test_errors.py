"""Errors: what a program may rest on, what a person is told, and that nothing more is told to whoever probes."""

from __future__ import annotations

import inspect

import pytest

from kengele_schemas import errors
from kengele_schemas.errors import (
    CannotOpen,
    Damaged,
    KengeleError,
    Locked,
    Malformed,
    Refused,
    Unreachable,
    Untrusted,
)


@pytest.mark.parametrize(
    ("kind", "exit_code"),
    [
        (KengeleError, 1),
        (Malformed, 2),
        (Refused, 3),
        (Unreachable, 4),
        (Locked, 5),
        (CannotOpen, 5),
        (Untrusted, 6),
        (Damaged, 7),
    ],
)
def test_scripts_may_rest_on_the_exit_code_of_each_kind(kind: type[KengeleError], exit_code: int) -> None:
    assert kind.exit_code == exit_code


def test_every_error_is_caught_as_one_of_ours() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]
    assert len(kinds) == 8
    assert all(issubclass(kind, KengeleError) for kind in kinds)


def test_a_person_is_told_what_happened_what_to_do_and_what_to_quote() -> None:
    error = Refused("stale-policy", "The rules are too old.", "Fetch the rules.")
    assert error.diagnostics() == "The rules are too old.\n  What to do: Fetch the rules.\n  (code: stale-policy)"
    assert str(error) == "The rules are too old."


def test_where_there_is_nothing_to_do_nothing_is_promised() -> None:
    assert Damaged("damaged", "A file is damaged.").diagnostics() == "A file is damaged.\n  (code: damaged)"


def test_a_sentence_is_never_taken_for_a_template() -> None:
    error = Malformed("malformed", "{0} %s {sentence}", "{mend} %d")
    assert error.diagnostics() == "{0} %s {sentence}\n  What to do: {mend} %d\n  (code: malformed)"


def test_what_cannot_be_opened_says_the_same_whatever_the_reason() -> None:
    assert list(inspect.signature(CannotOpen).parameters) == []
    assert CannotOpen().code == "cannot-open"
