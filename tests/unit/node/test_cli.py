"""The command ``kengele``: one role is loaded, and how it ended is told by one number and one sentence."""

from __future__ import annotations

import argparse
import errno
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from kengele_node import cli
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

CANARY = "canary-7f3a"
ROLES = ("node", "office", "coordinator", "audit", "verify", "demo", "hub")
Run = Callable[..., int]


@pytest.fixture
def kengele(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``kengele node`` with a command of the test's own in the node's place."""

    def command(run: Callable[[argparse.Namespace], int], *words: str) -> int:
        def build(parser: argparse.ArgumentParser) -> None:
            parser.add_argument("--flag")
            parser.set_defaults(run=run)

        monkeypatch.setattr(cli, "_load", lambda _: build)
        return cli.main(["node", *words])

    return command


def raising(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def run(_: argparse.Namespace) -> int:
        raise error

    return run


@pytest.mark.parametrize("option", [("--not-to", "group:government"), ("--tlp", "RED"), ("--lang", "ky")])
def test_a_report_in_a_file_takes_no_option_that_would_be_left_out(
    capsys: pytest.CaptureFixture[str], option: tuple[str, str]
) -> None:
    assert cli.main(["node", "report", "report.json", *option]) == Malformed.exit_code
    assert f"does not go together with {option[0]}." in capsys.readouterr().err


@pytest.mark.parametrize("code", [0, 1, 3])
def test_a_command_ends_with_the_number_it_gives(kengele: Run, capsys: pytest.CaptureFixture[str], code: int) -> None:
    given: list[Any] = []

    def run(args: argparse.Namespace) -> int:
        given.append(args.flag)
        return code

    assert kengele(run, "--flag", "value") == code
    assert given == ["value"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KengeleError("failed", "It failed."), 1),
        (Malformed("malformed", "Not of the format."), 2),
        (Refused("no-reader", "Nobody may read it."), 3),
        (Unreachable("unreachable", "No line."), 4),
        (Locked("no-passphrase", "Locked."), 5),
        (CannotOpen(), 5),
        (Untrusted("bad-signature", "Does not hold."), 6),
        (Damaged("storage-full", "Full."), 7),
    ],
)
def test_an_error_ends_it_with_its_number_its_sentence_and_its_code(
    kengele: Run, capsys: pytest.CaptureFixture[str], error: KengeleError, code: int
) -> None:
    assert kengele(raising(error)) == code
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"kengele: {error.sentence}\n  (code: {error.code})\n")


def test_what_to_do_stands_between_sentence_and_code(kengele: Run, capsys: pytest.CaptureFixture[str]) -> None:
    kengele(raising(Refused("no-reader", "Nobody may read it.", "Ask for a rule.")))
    assert capsys.readouterr().err == (
        "kengele: Nobody may read it.\n  What to do: Ask for a rule.\n  (code: no-reader)\n"
    )


def test_a_hubs_words_steer_no_terminal(kengele: Run, capsys: pytest.CaptureFixture[str]) -> None:
    kengele(raising(Refused("old\x1b[2J", "Too\x1b]0;x\x07 old.", "Wipe \x9b2J.")))
    assert not set(capsys.readouterr().err) & set("\x1b\x07\x9b")


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (FileNotFoundError(errno.ENOENT, CANARY, "rules.yaml"), 1, "The file rules.yaml could not be"),
        (FileNotFoundError(errno.ENOENT, CANARY, Path("rules.yaml")), 1, "No such file or directory"),
        (FileNotFoundError(errno.ENOENT, CANARY, "rules.yaml"), 1, "What to do: Check the path."),
        (PermissionError(errno.EACCES, CANARY), 1, "A file could not be read or written: Permission denied"),
        (PermissionError(errno.EACCES, CANARY), 1, "What to do: Work as the user whose it is"),
        (OSError(CANARY), 1, "input or output failed"),
        (UnicodeDecodeError("utf-8", CANARY.encode(), 0, 1, CANARY), 2, "not text in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_without_what_stands_in_it(
    kengele: Run, capsys: pytest.CaptureFixture[str], error: Exception, code: int, told: str
) -> None:
    assert kengele(raising(error)) == code
    shown = capsys.readouterr()
    assert told in shown.err
    assert CANARY not in shown.err + shown.out
    assert "Traceback" not in shown.err


def test_an_interruption_is_no_failure_to_be_explained(kengele: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert kengele(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == ""


def test_a_fault_of_the_program_is_not_passed_off_as_anything_else(kengele: Run) -> None:
    with pytest.raises(ZeroDivisionError):
        kengele(lambda _: 1 // 0)


def in_a_process(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)


def test_a_reader_that_leaves_ends_it_in_silence() -> None:
    script = """
import sys
from kengele_node import cli

def build(parser):
    parser.set_defaults(run=lambda _: [print("x" * 1000) for _ in range(10_000)] and 0)

cli._load = lambda _: build
sys.exit(cli.main(["node"]))
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(60) == 1
    assert said == b""


@pytest.mark.parametrize("words", [[], ["nod"], ["--home", "x"], [""], ["Node"]])
def test_an_unknown_role_is_bad_input_and_the_known_ones_are_named(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "usage: kengele" in shown.err


def test_bad_flags_of_a_role_are_bad_input(kengele: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        kengele(lambda _: 0, "--no-such-flag")
    assert caught.value.code == 2


def test_help_names_every_role_and_loads_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_load", lambda _: pytest.fail("loaded"))
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert all(role in shown for role in ROLES)
    assert "Exit codes: 0 done" in shown


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"kengele {version('kengele')}\n"


@pytest.mark.parametrize("role", ROLES)
def test_every_role_explains_itself(role: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([role, "--help"])
    assert caught.value.code == 0
    assert f"usage: kengele {role}" in capsys.readouterr().out


@pytest.mark.parametrize("role", ROLES)
def test_only_the_role_that_is_named_is_loaded(monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    loaded: list[str] = []

    def load(target: str) -> Callable[[argparse.ArgumentParser], None]:
        loaded.append(target.partition(":")[0])
        return lambda _: None

    monkeypatch.setattr(cli, "_load", load)
    cli.parser_for([role, "office", "--home", "hub"])
    assert len(loaded) == 1
    assert import_module(loaded[0]).__name__ == loaded[0]


def test_a_node_loads_neither_desk_nor_coordinator_nor_hub() -> None:
    done = in_a_process(
        "import sys\n"
        "from kengele_node import cli\n"
        "cli.parser_for(['node'])\n"
        "print([name for name in sys.modules if name.startswith('kengele_hub')"
        " or name.startswith(('kengele_node.office', 'kengele_node.coordinator', 'kengele_node.demo'))])"
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


class TestAPartThatIsNotInstalled:
    @pytest.fixture(autouse=True)
    def _without(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cli, "_plugins", lambda: {"hub": "no_such_package.cli:command"})

    def test_is_named_with_the_way_to_get_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["hub", "run"]) == 4
        shown = capsys.readouterr()
        assert "needs no_such_package, which is not installed" in shown.err
        assert "kengele[hub]" in shown.err
        assert "(code: not-installed)" in shown.err

    def test_keeps_no_other_part_from_running(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            cli.main(["node", "--help"])
        assert caught.value.code == 0


def test_without_the_hub_there_is_no_such_role(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_plugins", dict)
    with pytest.raises(SystemExit) as caught:
        cli.main(["hub", "run"])
    assert caught.value.code == 2
    assert "invalid choice: 'hub'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["-MSW0FYHy61nZmN-W0ZyAg", "--SW0FYHy61nZmN-W0ZyAg", "-" + "b" * 41 + "A", "plain"])
def test_an_id_that_begins_with_a_hyphen_is_an_id_and_no_option(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    seen: list[object] = []

    def run(args: argparse.Namespace) -> int:
        seen.extend((args.name, args.more, args.flag, args.file))
        return 0

    def build(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("more", nargs="*")
        parser.add_argument("--flag")
        parser.add_argument("--file", type=Path)
        parser.set_defaults(run=run)

    monkeypatch.setattr(cli, "_load", lambda _: build)
    assert cli.main(["node", name, name, "two", "--flag", name, "--file", name]) == 0
    assert seen == [name, [name, "two"], name, Path(name)]


@pytest.mark.parametrize("word", ["--keep-nothing-of-it-w", "-MSW0FYHy61nZmN-W0ZyA", "--flak"])
def test_a_mistyped_option_is_not_taken_for_an_id(kengele: Run, word: str) -> None:
    with pytest.raises(SystemExit) as caught:
        kengele(lambda _: 0, word)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("words", "next"), [((), "office"), (("office",), "follow"), (("coordinator", "policy"), "propose")]
)
def test_half_a_command_is_answered_with_what_could_come_next(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], next: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(words))
    said = capsys.readouterr().err
    assert ended.value.code == Malformed.exit_code
    assert f"\n    {next} " in said
    assert said.endswith(f"  See: {' '.join(('kengele', *words))} --help\n")


def test_a_mistyped_command_is_told_in_short_and_where_its_help_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["office", "folow"])
    said = capsys.readouterr().err
    assert ended.value.code == Malformed.exit_code
    assert "'folow'" in said
    assert said.endswith("  See: kengele office --help\n")
    assert len(said.splitlines()) < 6


def test_a_report_that_was_pasted_without_quotes_is_not_said_again_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["node", "report", "draft.json", *["word"] * 100, CANARY])
    said = capsys.readouterr().err
    assert CANARY not in said
    assert "unrecognized arguments: word" in said
