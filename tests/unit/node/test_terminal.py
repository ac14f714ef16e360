"""The terminal: what is asked, how a home is unlocked, and that nobody but its owner steers it."""

from __future__ import annotations

import argparse
import io
import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from kengele_node import terminal
from kengele_node.terminal import MIN_PASSPHRASE, ask, confirm, emit, lock_of, lock_options, new_lock, note, say
from kengele_schemas.errors import Locked, Malformed, Refused

CANARY = "canary-7f3a correct horse"


@pytest.fixture(autouse=True)
def _no_passphrase_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KENGELE_PASSPHRASE", raising=False)


class Stream(io.StringIO):
    def __init__(self, text: str = "", *, tty: bool = False) -> None:
        super().__init__(text)
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


def at(monkeypatch: pytest.MonkeyPatch, *, stdin: bool, stderr: bool) -> None:
    monkeypatch.setattr("sys.stdin", Stream(tty=stdin))
    monkeypatch.setattr("sys.stderr", Stream(tty=stderr))


Person = Callable[..., list[str]]


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> Person:
    """Someone at the terminal who types these answers; gives the questions she is asked."""

    def sits_down(*answers: str) -> list[str]:
        at(monkeypatch, stdin=True, stderr=True)
        left, asked = list(answers), list[str]()

        def typed(question: str, _: object) -> str:
            asked.append(question)
            if not left:
                raise EOFError
            return left.pop(0)

        monkeypatch.setattr("getpass.getpass", typed)
        return asked

    return sits_down


def given(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--new-key-file", type=Path)
    lock_options(parser)
    return parser.parse_args(words)


def locked(*words: str, new: bool = False) -> Locked:
    with pytest.raises(Locked) as caught:
        lock_of(given(*words), new=new)
    assert caught.value.exit_code == 5
    assert caught.value.mend
    assert CANARY not in repr(caught.value) + caught.value.diagnostics()
    return caught.value


class TestTheLock:
    def test_is_the_key_file_that_is_named(self, tmp_path: Path) -> None:
        lock = lock_of(given("--key-file", str(tmp_path / "key")))
        assert (lock.key_file, lock.passphrase) == (tmp_path / "key", None)

    @pytest.mark.parametrize(
        ("text", "passphrase"),
        [
            (b"correct horse", "correct horse"),
            (b"correct horse\n", "correct horse"),
            (b"correct horse\r\n", "correct horse"),
            (b"correct horse\nsecond line\n", "correct horse"),
            (b" blanks count \n", " blanks count "),
            ("кириллица\n".encode(), "кириллица"),
            (b"", ""),
        ],
    )
    def test_is_the_first_line_of_a_passphrase_file(self, tmp_path: Path, text: bytes, passphrase: str) -> None:
        (tmp_path / "file").write_bytes(text)
        assert lock_of(given("--passphrase-file", str(tmp_path / "file"))).passphrase == passphrase

    def test_is_not_guessed_from_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "latin").write_bytes(b"caf\xe9 au lait et plus")
        for path in (tmp_path / "missing", tmp_path, tmp_path / "latin"):
            assert locked("--passphrase-file", str(path)).code == "no-passphrase"

    def test_is_what_the_environment_holds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KENGELE_PASSPHRASE", "correct horse")
        assert lock_of(given()).passphrase == "correct horse"

    def test_is_what_the_person_types_and_once_is_enough(self, person: Person) -> None:
        asked = person("correct horse")
        assert lock_of(given()).passphrase == "correct horse"
        assert asked == ["Passphrase: "]

    def test_of_a_new_home_is_typed_twice(self, person: Person) -> None:
        asked = person("correct horse", "correct horse")
        assert lock_of(given(), new=True).passphrase == "correct horse"
        assert asked == ["New passphrase, 12 characters or more: ", "The same again: "]

    def test_is_asked_for_by_the_homes_name(self, person: Person) -> None:
        asked = person("correct horse", "correct horse", "correct horse")
        args = argparse.Namespace(**{**vars(given()), "home": Path("alice")})
        lock_of(args)
        lock_of(args, new=True)
        assert asked[:2] == ["Passphrase of alice: ", "New passphrase of alice, 12 characters or more: "]

    def test_that_is_too_short_is_not_asked_for_twice(self, person: Person) -> None:
        asked = person("short")
        assert locked(new=True).code == "short-passphrase"
        assert len(asked) == 1

    def test_of_a_new_home_is_not_made_of_two_that_differ(self, person: Person) -> None:
        person(CANARY, CANARY + "!")
        assert "differ" in locked(new=True).sentence

    @pytest.mark.parametrize("answers", [(), (CANARY,)])
    def test_is_not_made_of_an_input_that_ends(self, person: Person, answers: tuple[str, ...]) -> None:
        person(*answers)
        assert locked(new=True).code == "no-passphrase"

    @pytest.mark.parametrize(("stdin", "stderr"), [(False, False), (True, False), (False, True)])
    def test_is_not_asked_for_where_nobody_can_answer(
        self, monkeypatch: pytest.MonkeyPatch, stdin: bool, stderr: bool
    ) -> None:
        at(monkeypatch, stdin=stdin, stderr=stderr)
        monkeypatch.setattr("getpass.getpass", lambda *_: pytest.fail("asked"))
        assert not terminal.interactive()
        error = locked()
        assert error.code == "no-passphrase"
        assert "KENGELE_PASSPHRASE" in error.mend

    def test_prefers_what_was_said_on_the_command_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, person: Person
    ) -> None:
        (tmp_path / "file").write_text("from the file")
        monkeypatch.setenv("KENGELE_PASSPHRASE", "from the environment")
        asked = person("from the person")
        assert lock_of(given("--passphrase-file", str(tmp_path / "file"))).passphrase == "from the file"
        assert lock_of(given("--key-file", "key")).key_file == Path("key")
        assert lock_of(given()).passphrase == "from the environment"
        assert asked == []

    def test_is_one_of_the_two(self) -> None:
        with pytest.raises(argparse.ArgumentError):
            given("--key-file", "a", "--passphrase-file", "b")

    @pytest.mark.parametrize(("length", "passes"), [(0, False), (MIN_PASSPHRASE - 1, False), (MIN_PASSPHRASE, True)])
    def test_of_a_new_home_is_long_enough_wherever_it_comes_from(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        person: Person,
        length: int,
        passes: bool,
    ) -> None:
        passphrase = "é" * length
        (tmp_path / "file").write_text(passphrase, "utf-8")
        person(passphrase, passphrase)

        def from_the_environment() -> Any:
            monkeypatch.setenv("KENGELE_PASSPHRASE", passphrase)
            return lock_of(given(), new=True)

        for work in (
            lambda: lock_of(given("--passphrase-file", str(tmp_path / "file")), new=True),
            lambda: lock_of(given(), new=True),
            from_the_environment,
        ):
            if passes:
                assert work().passphrase == passphrase
                continue
            with pytest.raises(Locked) as caught:
                work()
            assert caught.value.code == "short-passphrase"

    def test_of_a_home_that_there_is_may_be_short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KENGELE_PASSPHRASE", "short")
        assert lock_of(given()).passphrase == "short"

    @pytest.mark.parametrize("new", [True, False])
    def test_that_is_not_in_utf_8_is_said_to_be_so(self, monkeypatch: pytest.MonkeyPatch, new: bool) -> None:
        monkeypatch.setattr("os.environ", {**os.environ, "KENGELE_PASSPHRASE": f"{CANARY} caf\udce9"})
        error = locked(new=new)
        assert error.code == "no-passphrase"
        assert "UTF-8" in error.sentence

    def test_does_not_show_when_printed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KENGELE_PASSPHRASE", CANARY)
        assert CANARY not in repr(lock_of(given()))


class TestANewLock:
    def test_is_a_new_key_file_where_one_is_asked_for(self, tmp_path: Path) -> None:
        lock = new_lock(given("--new-key-file", str(tmp_path / "key")))
        assert lock.key_file == tmp_path / "key"
        assert len((tmp_path / "key").read_bytes()) == 32
        assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600

    def test_overwrites_no_file(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_bytes(b"there")
        with pytest.raises(Refused) as caught:
            new_lock(given("--new-key-file", str(tmp_path / "key")))
        assert caught.value.code == "exists"
        assert (tmp_path / "key").read_bytes() == b"there"

    def test_is_held_to_the_rules_for_new_passphrases(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KENGELE_PASSPHRASE", "short")
        with pytest.raises(Locked):
            new_lock(given())


class TestQuestions:
    @pytest.fixture
    def answers(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))

    def test_are_answered_by_a_line(self, answers: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
        answers("  KG-O \nnext\n")
        assert ask("Area", str) == "KG-O"
        assert ask("Next", str) == "next"
        shown = capsys.readouterr()
        assert (shown.out, shown.err) == ("", "Area: Next: ")

    def test_have_an_answer_where_nothing_is_typed(
        self, answers: Callable[[str], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        answers("\n")
        assert ask("Marking", str, "AMBER") == "AMBER"
        assert capsys.readouterr().err == "Marking [AMBER]: "

    def test_are_asked_again_until_the_answer_will_do(
        self, answers: Callable[[str], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        def number(text: str) -> int:
            if not text.isdecimal():
                raise Malformed("bad-field", "This is not a number.", "Type one.")
            return int(text)

        answers("x\n\n7\n")
        assert ask("Severity", number) == 7
        assert capsys.readouterr().err.count("This is not a number. Type one.") == 2

    @pytest.mark.parametrize("text", ["", "x\n", "x\n\n"])
    def test_end_with_the_input(self, answers: Callable[[str], None], text: str) -> None:
        def never(_: str) -> str:
            raise Malformed("bad-field", "No.")

        answers(text)
        with pytest.raises(Malformed) as caught:
            ask("Area", never)
        assert caught.value.code == "no-answer"

    @pytest.mark.parametrize(
        ("text", "yes"),
        [
            ("y", True),
            ("yes", True),
            ("YES", True),
            (" y ", True),
            ("", False),
            ("n", False),
            ("no", False),
            ("yep", False),
        ],
    )
    def test_are_a_yes_only_if_yes_is_said(self, answers: Callable[[str], None], text: str, yes: bool) -> None:
        answers(text + "\n")
        assert confirm("Seal it?") is yes


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("up", "The line is up."),
        ("away", "The hub does not answer"),
        ("denied", "Ask a coordinator"),
        ("paused", "comes back by itself"),
    ],
)
def test_whoever_waits_is_told_how_the_line_is(
    capsys: pytest.CaptureFixture[str], state: Literal["up", "away", "denied", "paused"], said: str
) -> None:
    terminal.tell_line(state)
    assert said in capsys.readouterr().err


class TestWhatIsShown:
    def test_goes_out_as_data_or_as_a_remark(self, capsys: pytest.CaptureFixture[str]) -> None:
        say("Ош шаары: 上海\tيوم")
        say()
        note("Meanwhile.")
        shown = capsys.readouterr()
        assert (shown.out, shown.err) == ("Ош шаары: 上海 يوم\n\n", "Meanwhile.\n")

    def test_is_one_line_of_json_in_the_peoples_own_letters(self, capsys: pytest.CaptureFixture[str]) -> None:
        emit({"text": "Ош\n\u2028", "n": [1, None]})
        out = capsys.readouterr().out
        assert out.count("\n") == 1
        assert "Ош" in out
        assert json.loads(out) == {"text": "Ош\n\u2028", "n": [1, None]}

    @pytest.mark.parametrize(
        "steering",
        ["\x1b[2J", "\x1b]0;title\x07", "\x9b2J", "\x08", "\x00", "\x7f", "\u202e", "\u202d", "\udcff"],
    )
    def test_steers_no_terminal_whoever_wrote_it(self, capsys: pytest.CaptureFixture[str], steering: str) -> None:
        """A hub's sentence or another coordinator's draft could else wipe what stands above it."""
        text = f"Rule harmless{steering}: is new."
        say(text)
        note(text)
        emit({"text": text})
        shown = capsys.readouterr()
        first, line = shown.out.splitlines()
        for one in (first, shown.err, line):
            assert not any(char in one for char in steering if not 0x20 <= ord(char) < 0x7F)
        assert first.startswith("Rule harmless\ufffd")
        assert json.loads(line) == {"text": text}

    @pytest.mark.parametrize("ending", ["\n", "\r", "\u2028", "\x85", "\x0b"])
    def test_begins_no_line_but_its_own(self, capsys: pytest.CaptureFixture[str], ending: str) -> None:
        say(f"Rule harmless{ending}Version 9 is in force.", "Next.")
        assert capsys.readouterr().out.split("\n") == ["Rule harmless", "    | Version 9 is in force.", "Next.", ""]

    def test_on_a_narrow_terminal_begins_with_a_mark_where_it_goes_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        out = Stream(tty=True)
        monkeypatch.setattr("sys.stdout", out)
        monkeypatch.setenv("COLUMNS", "30")
        say("Rule harmless, as everybody says, is new.")
        assert out.getvalue() == "Rule harmless, as everybody\n    … says, is new.\n"
        terminal.give("x" * 90)
        assert out.getvalue().endswith("\n" + "x" * 90 + "\n")


@pytest.mark.parametrize("zone", ["Etc/GMT-14", "Etc/GMT+12", "UTC"])
def test_today_is_the_day_where_the_person_is(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    with monkeypatch.context() as there:
        there.setenv("TZ", zone)
        time.tzset()
        hours = {"Etc/GMT-14": 14, "Etc/GMT+12": -12, "UTC": 0}[zone]
        before = datetime.now(UTC) + timedelta(hours=hours)
        day = terminal.today()
        after = datetime.now(UTC) + timedelta(hours=hours)
    time.tzset()
    assert day in {before.date().isoformat(), after.date().isoformat()}
