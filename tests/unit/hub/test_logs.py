"""The hub's log: what is named in the list, and nothing else, whatever is handed to it."""

from __future__ import annotations

import ast
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

import kengele_hub
from kengele_hub import logs
from kengele_hub.logs import ALLOWED, only_allowed

CANARY = "Zq7CANARYx9"


class Call(NamedTuple):
    """One place in the hub's source at which something is logged."""

    where: str
    call: ast.Call

    @property
    def event(self) -> Any:
        return getattr(self.call.args[0], "value", None) if self.call.args else None


def is_log(node: ast.AST) -> bool:
    function = node.func if isinstance(node, ast.Call) else None
    return isinstance(function, ast.Attribute) and getattr(function.value, "id", "") in ("_log", "log")


def calls() -> list[Call]:
    trees = {path.name: ast.parse(path.read_text("utf-8")) for path in Path(kengele_hub.__file__).parent.glob("*.py")}
    return [
        Call(f"{name}:{node.lineno}", node)
        for name, tree in sorted(trees.items())
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and is_log(node)
    ]


CALLS = calls()


@contextmanager
def configured() -> Iterator[Any]:
    """The log as the hub sets it up; it writes to stderr as that is now."""
    logs.configure()
    try:
        yield structlog.get_logger("kengele_hub")
    finally:
        logging.disable(logging.NOTSET)
        structlog.reset_defaults()


def test_the_calls_that_log_are_found() -> None:
    assert len(CALLS) > 15


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.where)
def test_every_event_is_a_plain_word_and_names_only_fields_that_may_be_logged(call: Call) -> None:
    assert len(call.call.args) == 1
    assert isinstance(call.event, str)
    assert call.event.replace("-", "").isalpha()
    assert {keyword.arg for keyword in call.call.keywords} <= ALLOWED


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.where)
def test_no_event_is_given_an_errors_text_or_what_was_received(call: Call) -> None:
    for keyword in call.call.keywords:
        for node in ast.walk(keyword.value):
            assert not isinstance(node, ast.JoinedStr)
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("data", "sentence", "mend", "args", "subject", "headers", "claims", "kid")
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("str", "repr", "format", "vars")


@pytest.mark.parametrize("event", sorted({call.event for call in CALLS}))
def test_a_canary_in_every_other_field_of_an_event_never_reaches_the_log(
    event: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = dict.fromkeys(("data", "text", "body", "message", "sentence", "mend", "exception", "stack", "kid"), CANARY)
    held = {"code": [CANARY], "error": ValueError(CANARY), "url": {CANARY: 1}, "version": CANARY.encode(), "ops": None}
    with configured() as log:
        try:
            raise ValueError(CANARY)
        except ValueError as error:
            log.error(event, exc_info=error, stack_info=True, **{CANARY: CANARY}, **fields, **held)
        log.bind(**fields).warning(event, sequence=3)
        with structlog.contextvars.bound_contextvars(**fields):
            log.info(event)

    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["event"] for line in lines] == [event] * 3
    assert not any(CANARY in line for line in lines)
    assert set().union(*(json.loads(line) for line in lines)) == {"event", "level", "timestamp", "sequence"}


def test_what_other_libraries_log_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    with configured():
        for name in ("nats", "asyncio", "aiohttp.server", ""):
            logging.getLogger(name).critical("%s", CANARY)
            logging.getLogger(name).error("", exc_info=ValueError(CANARY))

    assert caplog.records == []


def test_a_line_is_one_json_object_with_its_time_in_utc(capsys: pytest.CaptureFixture[str]) -> None:
    with configured() as log:
        log.warning("broker-away", code="broker-unavailable")

    (line,) = capsys.readouterr().err.splitlines()
    found = json.loads(line)
    assert found.pop("timestamp").endswith("Z")
    assert found == {"event": "broker-away", "level": "warning", "code": "broker-unavailable"}


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*sorted(ALLOWED), "data", "exc_info", "kid"]) | st.text(max_size=8),
        st.text(max_size=200) | st.integers() | st.floats() | st.binary() | st.lists(st.text()) | st.none(),
        max_size=12,
    )
)
def test_what_is_left_is_named_in_the_list_and_short_and_plain(event: dict[str, Any]) -> None:
    left = only_allowed(None, "", event)

    assert left.items() <= event.items()
    for name, value in left.items():
        assert name in ALLOWED
        assert isinstance(value, int) or (isinstance(value, str) and len(value) <= 120)
    assert {name for name in ALLOWED & set(event) if isinstance(event[name], int)} <= set(left)


@pytest.mark.parametrize(("length", "kept"), [(120, True), (121, False)])
def test_a_long_text_is_left_out_even_where_a_short_one_may_stand(length: int, kept: bool) -> None:
    assert ("url" in only_allowed(None, "", {"url": "x" * length})) is kept
