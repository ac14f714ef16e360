"""The command ``kengele``: finds the role by its first word and loads nothing of the others.

Exit codes: 0 done, 1 failed, 2 bad input, 3 refused by the rules, 4 not reachable (what was to be sent is kept),
5 a key or passphrase does not open, 6 a signature or proof does not hold, 7 damaged data or full disk, 8 the doctor
found something, 130 interrupted or ended from outside.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import re
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import entry_points, version
from pathlib import Path
from textwrap import shorten
from typing import Any, Final, NoReturn

from kengele_schemas.errors import KengeleError, Malformed, Unreachable
from kengele_schemas.foreign import plain

from .private import answer, overwrite, warn

_ROLES: Final = {
    "node": ("kengele_node.monitor.commands:build", "a monitor's node: write reports, keep and send them"),
    "office": ("kengele_node.office.commands:build", "an office's desk: follow its feed, read what it may"),
    "coordinator": ("kengele_node.coordinator.commands:build", "coordinators: members, rules, signatures"),
    "audit": ("kengele_node.audit.commands:build", "auditors: verify the hub's log, search it, export it"),
    "verify": ("kengele_node.verify:build", "check a receipt, a report or a network card offline"),
    "doctor": ("kengele_node.doctor:build", "look for what is wrong with a home's deployment, and say the mend"),
    "demo": ("kengele_node.demo.commands:build", "run a whole network on this machine"),
}
_GROUP: Final = "kengele.commands"
_PR_SET_DUMPABLE: Final = 4
_NAME: Final = re.compile(r"-(?!-[a-z][a-z-]*$)(?:[A-Za-z0-9_-]{20}[AQgw]|[A-Za-z0-9_-]{41}[AEIMQUYcgkosw048])")
"""An id or a digest that begins with a hyphen, as one in 64 does; no option looks like it."""
_SAID: Final = 160
"""Characters of what the parser objects to."""
_FAILED: Final = 1
_INTERRUPTED: Final = 130


class _Parser(argparse.ArgumentParser):
    """A parser that answers half a command with what could come next, and a wrong one with where that stands."""

    def error(self, message: str) -> NoReturn:
        half = re.search(r"required: [A-Z]+$", message)
        said = self.format_help() if half else self.format_usage()
        # A report or an invitation that was pasted without quotes stands here, too: not all of it, again, on a screen.
        message = plain(shorten(message, _SAID, placeholder=" ..."))
        self.exit(Malformed.exit_code, f"{said}\n{self.prog}: {message}\n  See: {self.prog} --help\n")


def _load(target: str) -> Callable[[argparse.ArgumentParser], None]:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)  # type: ignore[no-any-return]


def _plugins() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=_GROUP)}


def parser_for(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser for ``words``; only the role they name is loaded."""
    parser = _Parser(
        prog="kengele",
        description="Kengele carries sealed tension reports from monitors to exactly the offices that may read them.",
        epilog="Exit codes: 0 done, 1 failed, 2 bad input, 3 refused, 4 not reachable, 5 locked, 6 untrusted,\n"
        "7 damaged or full, 8 the doctor found something, 130 interrupted.\nExample:  kengele demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"kengele {version('kengele')}")
    roles = parser.add_subparsers(dest="role", required=True, metavar="ROLE")
    wanted = next((word for word in words if not word.startswith("-")), "")
    plugins = _plugins()
    helps = {name: what for name, (_, what) in _ROLES.items()}
    helps |= dict.fromkeys(plugins, "the hub: routes what it cannot read")
    for name, what in helps.items():
        role = roles.add_parser(
            name,
            help=what,
            description=what[0].upper() + what[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == wanted:
            try:
                _load(_ROLES[name][0] if name in _ROLES else plugins[name])(role)
            except ModuleNotFoundError as error:
                raise Unreachable(
                    "not-installed",
                    f"This part of Kengele needs {error.name}, which is not installed.",
                    "Install it with: pip install 'kengele[hub]'",
                ) from None
    return parser


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    # A word with a blank is no option to argparse, whatever it begins with.
    marked = [f" {word}" if _NAME.fullmatch(word) else word for word in words]
    args = parser_for(words).parse_args(marked)
    warn()
    answer(args)
    for name, value in vars(args).items():
        setattr(args, name, [_bare(one) for one in value] if isinstance(value, list) else _bare(value))
    return args


def _bare(value: Any) -> Any:
    text = str(value) if isinstance(value, str | Path) else ""
    return type(value)(text[1:]) if text.startswith(" ") and _NAME.fullmatch(text[1:]) else value


def _keep_memory() -> None:
    """Passphrases and keys stand in this process's memory and environment: neither a core file gets them nor another
    process of the same user (core(5), prctl(2); the latter on Linux only)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def main(words: Sequence[str] | None = None) -> int:
    """Runs one command. Returns its exit code."""
    if words is None:
        words = sys.argv[1:]
        overwrite(words)
        _keep_memory()
        # What it remarks about sockets and tasks is for who writes programs, and could hold what was received.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        # Who manages services ends them so; what is under way is brought to its end as with Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        args = _parsed(words)
        run: Callable[[Any], int] = args.run
        return run(args)
    except KengeleError as error:
        _complain(error)
        return error.exit_code
    except UnicodeDecodeError:
        _complain(Malformed("not-utf-8", "A file is not text in UTF-8.", "Save it as UTF-8."))
        return Malformed.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has left; nothing more is to be said, not even by the interpreter at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except OSError as error:
        what = os.strerror(error.errno) if error.errno else "input or output failed"
        named = isinstance(error.filename, str | bytes | os.PathLike)
        which = f"The file {os.fsdecode(error.filename)}" if named else "A file"
        # Of most causes the system's own words are all that is known; a mistyped path is the commonest.
        mend = ""
        if isinstance(error, FileNotFoundError):
            mend = "Check the path."
        elif isinstance(error, PermissionError):
            mend = "Work as the user whose it is, or take a directory of your own."
        _complain(KengeleError("system", f"{which} could not be read or written: {what}.", mend))
        return _FAILED


def _complain(error: KengeleError) -> None:
    # Not before it is needed: a command that ends well loads no more than its role.
    from .terminal import complain

    complain(error)


if __name__ == "__main__":
    sys.exit(main())
