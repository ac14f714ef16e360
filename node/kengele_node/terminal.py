"""How the node's commands speak with a person or a program: questions, data on stdout, remarks on stderr."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, TypeVar

from kengele_schemas import disk, foreign
from kengele_schemas.errors import KengeleError, Locked, Malformed

from .errors import NotAdmitted, Paused
from .vault import Lock, make_key_file

if TYPE_CHECKING:
    from .link import State

_T = TypeVar("_T")
MIN_PASSPHRASE: Final = 12
"""Characters: what Argon2id leaves to be guessed."""
_MAX_PASSPHRASE: Final = 65536
_MOST: Final = 2000
"""Characters of an error's sentence."""


def interactive() -> bool:
    """Whether a person sits at the terminal and can answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def say(*texts: str) -> None:
    """Lines on stdout, one for each text: what was asked for.

    A text may hold words of others. They end with its line: what breaks it goes behind a margin, whoever wrote it.
    """
    _put(sys.stdout, texts)


def note(*texts: str) -> None:
    """Likewise on stderr: what happens meanwhile."""
    _put(sys.stderr, texts)


def give(text: str) -> None:
    """What is to be copied whole, on stdout: a link, a code, a token; a narrow terminal may wrap it."""
    sys.stdout.write("\n".join(map(foreign.plain, text.split("\n"))) + "\n")
    sys.stdout.flush()


def complain(error: KengeleError) -> None:
    """What went wrong and what to do, on stderr."""
    note(
        f"kengele: {foreign.within(error.sentence, _MOST)}",
        *([f"  What to do: {foreign.within(error.mend, _MOST)}"] if error.mend else []),
        f"  (code: {foreign.code(error.code)})",
    )


def _put(stream: TextIO, texts: Sequence[str]) -> None:
    # What a terminal wraps by itself would begin at its edge, as a line of ours does.
    width = shutil.get_terminal_size((0, 0)).columns if stream.isatty() else 0
    for line in (line for text in texts or ("",) for line in foreign.lines(text)):
        for piece in foreign.folded(line, width) if width else (line,):
            stream.write(f"{piece}\n")
    stream.flush()


def tell_line(state: State) -> None:
    """A line on stderr when the line to the hub comes or goes."""
    told = {"up": "The line is up.", "away": "The hub does not answer; it is tried again and again."}
    error = Paused() if state == "paused" else NotAdmitted()
    note(told.get(state, f"{error.sentence} {error.mend}"))


def tell_slow() -> None:
    """A line on stderr when the hub lets a command wait."""
    note("The hub has not answered yet; it is given a few seconds more.")


def tell_clock(seen: datetime | None) -> None:
    """A line on stderr where this machine's clock is behind what was ``seen`` here."""
    if seen is not None:
        note(
            f"This machine's clock is behind: {seen:%Y-%m-%d %H:%M} UTC was seen here already. Set it. Until then"
            " that is taken for the time, so that rules which ran out are not used."
        )


def emit(value: Any, *, indent: int | None = None) -> None:
    """A JSON value on stdout, on one line if there is no ``indent``."""
    sys.stdout.write(foreign.escaped(json.dumps(value, ensure_ascii=False, indent=indent)) + "\n")
    sys.stdout.flush()


def ask(question: str, read: Callable[[str], _T], default: str = "") -> _T:
    """What the person answers, read by ``read``; asked again as long as it raises one of our errors.

    Raises:
        Malformed: ``no-answer``: the input ended.
    """
    while True:
        asked = f"{question} [{default}]: " if default else f"{question}: "
        sys.stderr.write(foreign.plain(" ".join(asked.splitlines())))
        sys.stderr.flush()
        line = _interruptible(sys.stdin.readline)
        if not line:
            raise Malformed("no-answer", "The input ended before all was answered.", "Start again.")
        try:
            return read(line.strip() or default)
        except KengeleError as error:
            note(f"  {error.sentence} {error.mend}".rstrip())


def _interruptible(read: Callable[[], str]) -> str:
    """What is read; after Ctrl-C the cursor is left at the start of a line."""
    try:
        return read()
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        raise


def confirm(question: str) -> bool:
    """Whether the person says yes."""
    return ask(f"{question} (yes/no)", str, "no").lower() in ("y", "yes")


def action(
    actions: Any,
    name: str,
    what: str,
    example: str,
    run: Callable[[argparse.Namespace], int],
    *,
    home: str,
) -> argparse.ArgumentParser:
    """A sub-command with what all of them take: whose home, how it is unlocked, JSON or text.

    Args:
        what: what it does, in a few words that begin small.
        home: the directory where none is given.
    """
    parser: argparse.ArgumentParser = actions.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=f"Example:  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--home", type=Path, default=Path(home), metavar="DIR", help=f"the home's directory (default: ./{home})"
    )
    parser.add_argument("--json", action="store_true", help="JSON on stdout, one object a line")
    lock_options(parser)
    parser.set_defaults(run=run)
    return parser


def lock_options(parser: argparse.ArgumentParser) -> None:
    """Adds how the home is unlocked. Without an option, KENGELE_PASSPHRASE or a question."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="unlock with this file instead of a passphrase; whoever has it and the home reads all",
    )
    group.add_argument(
        "--passphrase-file", type=Path, metavar="FILE", help="read the passphrase from the first line of this file"
    )


def lock_of(args: argparse.Namespace, *, new: bool = False) -> Lock:
    """How to lock or unlock the home.

    Raises:
        Locked: ``no-passphrase``, ``short-passphrase``.
    """
    if args.key_file is not None:
        return Lock(passphrase=None, key_file=args.key_file)
    if args.passphrase_file is not None:
        try:
            passphrase = disk.read_own(args.passphrase_file, _MAX_PASSPHRASE).decode().partition("\n")[0].rstrip("\r")
        except (OSError, UnicodeDecodeError):
            raise Locked("no-passphrase", "The passphrase file cannot be read.", "Check its path.") from None
    elif "KENGELE_PASSPHRASE" in os.environ:
        passphrase = os.environ["KENGELE_PASSPHRASE"]
    elif interactive():
        passphrase = _asked(getattr(args, "home", None), new)
    else:
        raise Locked(
            "no-passphrase",
            "This home is locked and nobody is here to type its passphrase.",
            "Give --key-file or --passphrase-file, or set KENGELE_PASSPHRASE.",
        )
    try:
        passphrase.encode()
    except UnicodeEncodeError:
        raise Locked(
            "no-passphrase", "The passphrase is not in UTF-8.", "Set the terminal to UTF-8, or use a key file."
        ) from None
    if new and len(passphrase) < MIN_PASSPHRASE:
        raise Locked(
            "short-passphrase",
            "The passphrase is too short.",
            f"Use at least {MIN_PASSPHRASE} characters; four or five random words are good.",
        )
    return Lock(passphrase=passphrase, key_file=None)


def _asked(home: Path | None, new: bool) -> str:
    whose = f" of {home}" if home else ""
    if not new:
        return _typed(f"Passphrase{whose}: ")
    passphrase = _typed(f"New passphrase{whose}, {MIN_PASSPHRASE} characters or more: ")
    # One that is too short is not worth typing again.
    if len(passphrase) >= MIN_PASSPHRASE and _typed("The same again: ") != passphrase:
        raise Locked("no-passphrase", "The two passphrases differ.", "Start again.")
    return passphrase


def _typed(question: str) -> str:
    try:
        return _interruptible(lambda: getpass.getpass(question, sys.stderr))
    except EOFError:
        raise Locked("no-passphrase", "The input ended before a passphrase was typed.", "Start again.") from None


def new_lock(args: argparse.Namespace) -> Lock:
    """The lock of a new home; makes the key file that was asked for."""
    if getattr(args, "new_key_file", None) is not None:
        return make_key_file(args.new_key_file)
    return lock_of(args, new=True)


def number(text: str) -> int:
    """An option's number, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("not a number from 1 on")
    return int(text)


def today() -> str:
    """Today as ``YYYY-MM-DD``, where the person is."""
    return datetime.now().astimezone().date().isoformat()
