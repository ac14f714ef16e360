"""Private words on the command line: other users of the machine must not read them.

While a command runs, every user can read its arguments. In the place of a private one stands ``-``: then it is asked
for, or read from stdin, a line for each, in the order of the help. One that is given all the same is taken, with a
warning; and the program overwrites its arguments as soon as it has begun (:func:`overwrite`).

    >>> parser.add_argument("--summary", type=private("What happened"), help="…")
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from kengele_schemas import disk, foreign

ASKED: Final = "-"
_OURS: Final = {"node", "office", "coordinator", "audit", "verify"}
_LONG: Final = {"run", "follow", "console", "witness"}
"""Commands that run for days and take nothing private: who looks after the machine may see their homes."""
_REPORT: Final = re.compile(r"[A-Za-z0-9_-]{21}[AQgw]|[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")
_LINK: Final = re.compile(r"kengele:", re.IGNORECASE)
_START, _END = 45, 46
"""Of the fields of /proc/PID/stat behind the program's name: where its arguments begin and end in memory (proc(5))."""
_given: list[str] = []


class Asked(str):
    """A private word that is still to be asked for, by this question."""


def private(question: str, name: str = "", *, only: re.Pattern[str] | None = None) -> Callable[[str], str]:
    """The type of an argument that is private: what it is asked by, and what a warning calls it.

    Args:
        only: what is private of what can stand there; all if None.
    """

    def read(text: str) -> str:
        if text == ASKED:
            return Asked(question)
        if text and (only is None or only.match(text.strip())):
            _given.append(name or question)
        return text

    return read


def report(question: str = "The report's id") -> Callable[[str], str]:
    """The type of an argument that names a report: id and digest are private, its number in an outbox is not."""
    return private(question, "a report's id", only=_REPORT)


def link(text: str) -> str:
    """The type of an argument that is an invitation's link, which lets in whoever has it, or a file."""
    return private("The invitation's link, or its file", "an invitation's link", only=_LINK)(text)


def answer(args: argparse.Namespace) -> None:
    """Asks for all private words in whose place a ``-`` stands, each on a line. Raises Malformed, ``no-answer``."""
    from .terminal import ask

    for name, value in vars(args).items():
        if isinstance(value, Asked):
            setattr(args, name, ask(value, str))
        elif isinstance(value, list):
            setattr(args, name, [ask(one, str) if isinstance(one, Asked) else one for one in value])


def warn() -> None:
    """Warns once of all private words that stood on the command line."""
    if not _given:
        return
    from .terminal import note

    told = foreign.within(", ".join(dict.fromkeys(_given)))
    _given.clear()
    note(f"Other users of this machine may have read {told}. Give - in its place: it is asked for, or read from stdin.")


def overwrite(words: Sequence[str]) -> None:
    """Overwrites ``words``, this process's arguments behind its command, where the system shows them to others (Linux).

    What stood there until now may have been read: a program cannot begin without its arguments.
    """
    if words[:1] == [] or words[0] not in _OURS or words[1:2] == [] or words[1] in _LONG:
        return
    with suppress(OSError, ValueError, IndexError):
        fields = disk.read_own(Path("/proc/self/stat"), 4096).rpartition(b")")[2].split()
        start, end = int(fields[_START]), int(fields[_END])
        told = b"".join(os.fsencode(word) + b"\0" for word in words[1 if words[0] == "verify" else 2 :])
        if start and ctypes.string_at(start, end - start).endswith(told):
            ctypes.memset(end - len(told), 0, len(told))
