"""Another user of the machine, who reads the process table while commands run."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kengele_node import cli, private
from kengele_schemas.errors import Malformed

CANARY = "Zq7CANARYx9"
ID = "6wCkK0dMs0G9eJxZ1mW2xQ"
DIGEST = "A" * 43
LINK = "kengele:join#abc"
TEXTS = ("--summary", "--account", "--place", "--source", "--not-to")
PRIVATE: dict[tuple[str, ...], tuple[str, ...]] = {
    ("node", "report"): (*TEXTS, "--replaces"),
    ("node", "recall"): ("report", "--reason"),
    ("node", "share"): ("report",),
    ("node", "outbox"): ("--receipt", "--draft"),
    ("node", "join"): ("invitation",),
    ("office", "join"): ("invitation",),
    ("office", "show"): ("--id",),
    ("office", "share"): ("report",),
    ("coordinator", "recall"): ("report",),
    ("coordinator", "recalls"): ("report",),
    ("coordinator", "admit"): ("--digits",),
    ("coordinator", "members", "approve"): ("--digits",),
    ("audit", "search"): ("--report",),
}
"""All that is private on a command line."""


def actions(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {(one.option_strings or [one.dest])[0]: one for one in parser._actions}


def parser(words: tuple[str, ...]) -> argparse.ArgumentParser:
    found = cli.parser_for(words)
    for word in words:
        inner = next(one for one in found._actions if isinstance(one, argparse._SubParsersAction))
        found = inner.choices[word]
    return found


def every(words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    found = parser(words)
    inner = [one for one in found._actions if isinstance(one, argparse._SubParsersAction)]
    if not inner:
        yield words
    for one in inner:
        for word in one.choices:
            if words or word in ("node", "office", "coordinator", "audit", "verify"):
                yield from every((*words, word))


ALL = [(words, name) for words, names in PRIVATE.items() for name in names]


@pytest.fixture(autouse=True)
def _nothing_given() -> Iterator[None]:
    private._given.clear()
    yield
    private._given.clear()


@pytest.mark.parametrize(("words", "name"), ALL)
def test_a_private_word_that_is_given_is_warned_of_and_one_that_is_asked_for_is_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], name: str
) -> None:
    read: Any = actions(parser(words))[name].type
    named = {"invitation": LINK, **dict.fromkeys(("report", "--id", "--receipt", "--draft", "--replaces"), ID)}
    given = named.get(name, DIGEST if name == "--report" else "Talk of a fight.")
    assert read(given) == given
    private.warn()
    told = capsys.readouterr().err
    assert told.startswith("Other users of this machine may have read ")
    assert given not in told
    private.warn()
    assert capsys.readouterr().err == ""
    lines = iter(["  typed\n", "again\n"])
    monkeypatch.setattr("sys.stdin", type("In", (), {"readline": lambda _: next(lines)})())
    args = argparse.Namespace(word=read("-"), words=[read("-"), "x"])
    private.answer(args)
    assert (args.word, args.words) == ("typed", ["again", "x"])
    private.warn()
    assert "Other users" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "name", "given"),
    [
        (("node", "recall"), "report", "12"),
        (("node", "outbox"), "--draft", "3"),
        (("node", "join"), "invitation", "invite.json"),
        (("audit", "search"), "--report", "receipt.json"),
        (("node", "recall"), "--reason", ""),
    ],
)
def test_what_tells_nobody_anything_is_not_warned_of(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], name: str, given: str
) -> None:
    read: Any = actions(parser(words))[name].type
    assert read(given) == given
    private.warn()
    assert capsys.readouterr().err == ""


def test_no_command_takes_a_text_a_link_or_a_reports_id_that_is_not_known_for_private() -> None:
    """By what the help says: a new option of the kind stands in the list above, or is no such thing."""
    speaks = re.compile(r"report's id|its id, |link|account|happened|digits|reason|place's name|known|keep it from")
    known = {(words, name) for words, names in PRIVATE.items() for name in names}
    public = {
        # One of three words, which every office reads; an invitation or a member, which is in the roster.
        (("coordinator", "recall"), "--reason"),
        (("coordinator", "members", "approve"), "name"),
        (("coordinator", "members", "deny"), "name"),
        # Names of offices, which are in the roster.
        (("office", "init"), "--id"),
        (("coordinator", "members", "invite"), "--office-id"),
    }
    found = {
        (words, name)
        for words in every()
        for name, action in actions(parser(words)).items()
        if action.help and action.nargs != 0 and speaks.search(action.help) and action.type is not Path
    }
    assert found - known - public == set()
    assert all(callable(actions(parser(words))[name].type) for words, name in known)


def arguments(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="the process table of Linux")
@pytest.mark.parametrize(
    "words",
    [
        ("node", "report", "--summary", CANARY, f"--source={CANARY}", "--category", CANARY),
        ("node", "join", f"kengele:{CANARY}"),
        ("node", "recall", ID, "--reason", CANARY),
        ("coordinator", "recall", CANARY),
        ("audit", "search", "--report", CANARY),
        ("verify", CANARY),
    ],
)
def test_another_user_cannot_read_what_a_command_was_told_once_it_has_begun(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    """The command stands still at the question for its passphrase, on a pipe that gives nothing."""
    pipe = tmp_path / "passphrase"
    os.mkfifo(pipe)
    more = ("--passphrase-file", str(pipe), "--home", str(tmp_path / "home"))
    if words[0] == "verify":
        more = ("--author", CANARY)
        (tmp_path / CANARY).write_bytes(b"{")
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "kengele_node.cli", *words, *more],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        begun = time.monotonic()
        # At its very beginning it shows nothing yet.
        while CANARY in (last := arguments(process.pid)) or not last:
            assert time.monotonic() - begun < 60, last
            assert process.poll() is None, "it ended with its arguments to be read"
            time.sleep(0.001)
        assert words[0] in last
        assert ID not in last
    finally:
        process.kill()
        process.communicate()


def test_a_long_running_command_keeps_its_words_for_who_looks_after_the_machine() -> None:
    assert {"run", "follow", "console"} <= private._LONG
    for role in ("node", "office", "coordinator"):
        for words in every((role,)):
            if set(words) & private._LONG:
                assert words not in PRIVATE


def test_the_input_that_ends_before_all_is_answered_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", type("In", (), {"readline": lambda _: ""})())
    read: Any = actions(parser(("node", "report")))["--summary"].type
    with pytest.raises(Malformed) as caught:
        private.answer(argparse.Namespace(summary=read("-")))
    assert caught.value.code == "no-answer"
