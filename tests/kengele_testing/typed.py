"""What a page of the manual tells a person to type, and whether the programs would take it; nothing is run.

for typed in told(Path("README.md").read_text()):
    assert objection(typed) == ""
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from kengele_node.cli import parser_for
from kengele_schemas.errors import KengeleError

ROOT = Path(__file__).parents[2]
_INDENT = "    "
_TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)
_INLINE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\]\(([^)#\s]+)")
_SAID = re.compile(r"(?<![\w/.-])kengele (?=[a-z])[^;`(]*")
_OURS = re.compile(r"(?<![\w/.-])(?:deploy|docs|tests|schemas|tools)/[\w./-]*\w")
_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


class Typed(NamedTuple):
    """A command and where it stands; what is only ``mentioned`` may leave off its arguments."""

    line: int
    words: tuple[str, ...]
    mentioned: bool = False

    def __str__(self) -> str:
        return f"line {self.line}: {shlex.join(self.words)}"


def told(text: str) -> list[Typed]:
    """Every ``kengele …`` and ``make …`` in ``text``, a page in Markdown."""
    return [*_blocks(text), *_mentions(text)]


def links(text: str) -> list[str]:
    """The files of this repository that ``text`` links to or names."""
    paths = [path for path in _LINK.findall(text) if "://" not in path]
    return [*paths, *_OURS.findall(_LINK.sub("", text))]


def flags(text: str) -> set[str]:
    """The options that ``text`` names by themselves, as in ``--json``."""
    return {
        found for said in _INLINE.findall(" ".join(text.split())) if said[0] == "-" for found in _FLAG.findall(said)
    }


def _blocks(text: str) -> Iterator[Typed]:
    """The commands in indented blocks: joined where a line goes on, parted where one follows another."""
    whole, first = "", 0
    for number, line in enumerate(text.split("\n"), 1):
        if not whole:
            first = number
        if not line.startswith(_INDENT):
            whole = ""
            continue
        whole += line[len(_INDENT) :]
        if whole.endswith("\\"):
            whole = whole[:-1]
            continue
        yield from (Typed(first, words) for words in _commands(whole))
        _, _, comment = whole.partition("# ")
        yield from (Typed(first, tuple(_split(said)), mentioned=True) for said in _SAID.findall(comment))
        whole = ""


def _commands(line: str) -> Iterator[tuple[str, ...]]:
    words: list[str] = []
    for word in [*_split(line), ";"]:
        if word in (";", "&&", "|", "||"):
            if found := _program(words):
                yield found
            words = []
        else:
            words.append(word)


def _split(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|<>")
    lexer.commenters, lexer.whitespace_split = "#", True
    try:
        return list(lexer)
    except ValueError:
        return []  # no command: a drawing, YAML, prose


def _program(words: list[str]) -> tuple[str, ...]:
    """``words`` from the program on, without what is said before it (``runuser …``), and without redirections."""
    if not words or words[0].endswith(":"):
        return ()
    cut = next((place for place, word in enumerate(words) if word in ("<", ">", ">>")), len(words))
    words = words[:cut]
    if words[0] == "runuser" and "--" in words:
        words = words[words.index("--") + 1 :]
    if not words or Path(words[0]).name not in ("kengele", "make"):
        return ()
    return (Path(words[0]).name, *words[1:])


def _mentions(text: str) -> Iterator[Typed]:
    """The commands between back-quotes in prose, which may stand over two lines."""
    prose = "\n".join("" if line.startswith(_INDENT) else line for line in text.split("\n"))
    for found in _INLINE.finditer(prose):
        words = _split(" ".join(found[1].split()))
        if len(words) > 1 and words[0] in ("kengele", "make"):
            yield Typed(prose.count("\n", 0, found.start()) + 1, tuple(words), mentioned=True)


def objection(typed: Typed) -> str:
    """What the program has against this command; empty if it takes it."""
    if typed.words[0] == "make":
        return _of_make(typed)
    words = list(typed.words[1:])
    if typed.mentioned and _names(words):
        return ""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            parser_for(words).parse_args(words)
    except KengeleError as error:
        return f"{typed}: {error.sentence}"
    except SystemExit as ended:
        return "" if ended.code == 0 else f"{typed}: {said.getvalue().strip().splitlines()[-1]}"
    return ""


def _of_make(typed: Typed) -> str:
    options = [word for word in typed.words[1:] if word.startswith("-")]
    values = dict(word.split("=", 1) for word in typed.words[1:] if "=" in word)
    targets = [word for word in typed.words[1:] if not word.startswith("-") and "=" not in word]
    known = set(_TARGET.findall((ROOT / "Makefile").read_text("utf-8")))
    if not targets or set(targets) - known or set(options) - {"-s"} or values.keys() - {"ARGS"}:
        return f"{typed}: there is no such target or option"
    if targets == ["demo"] and "ARGS" in values:
        return objection(Typed(typed.line, ("kengele", "demo", *shlex.split(values["ARGS"]))))
    return ""


def _names(words: list[str]) -> bool:
    """Whether ``words`` name a command, without anything for it to do."""
    parser: argparse.ArgumentParser | None = parser_for(words)
    for word in words:
        parser = _below(parser).get(word) if parser is not None else None
    return parser is not None


def _below(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0].choices) if found else {}


@lru_cache(maxsize=1)
def every_flag() -> frozenset[str]:
    """All options of all commands."""

    def of(parser: argparse.ArgumentParser) -> Iterator[str]:
        for action in parser._actions:
            yield from action.option_strings
        for below in _below(parser).values():
            yield from of(below)

    roles = _below(parser_for([]))
    return frozenset(flag for role in roles for flag in of(parser_for([role])))


def helps(words: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Each command below ``words`` that does something, and what its ``--help`` says."""
    parser: argparse.ArgumentParser = parser_for(words)
    for word in words:
        parser = _below(parser)[word]
    if not _below(parser):
        yield " ".join(("kengele", *words)), parser.format_help()
    for name in _below(parser):
        yield from helps((*words, name))


def examples(text: str) -> list[Typed]:
    """The commands that a ``--help`` gives as examples."""
    _, _, after = text.partition("Example:")
    lines = [line.strip() for line in after.split("\n")]
    return [Typed(0, words) for line in lines if line.startswith("kengele ") for words in _commands(line)]
