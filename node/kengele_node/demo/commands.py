"""``kengele demo``: the whole network on one machine, its progress, and what came of it."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from kengele_node import terminal
from kengele_schemas.areas import Areas
from kengele_schemas.compartments import GRANTABLE

from . import story
from .network import Network
from .run import Demonstration, Outcome, oracle, sample_path, table

_FAILED = 1
_ENDED = 130
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def build(parser: argparse.ArgumentParser) -> None:
    """Adds the demonstration's options to ``parser``."""
    parser.epilog = "Example:  kengele demo --once --json --reports 500 --data ged.csv"
    parser.add_argument("--once", action="store_true", help="end when it is done, instead of staying up")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout and nothing else")
    parser.add_argument("--reports", type=int, default=400, metavar="N", help="events to replay at most (default: 400)")
    parser.add_argument("--data", type=Path, metavar="FILE", help="a CSV file in the format of UCDP's GED")
    parser.add_argument("--home", type=Path, metavar="DIR", help="a new directory to keep (default: a temporary one)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    with nullcontext(str(args.home)) if args.home else tempfile.TemporaryDirectory(prefix="kengele-demo-") as home:
        try:
            return asyncio.run(_demonstrate(args, Path(home)))
        except asyncio.CancelledError:
            return _ENDED


async def _demonstrate(args: argparse.Namespace, home: Path) -> int:
    areas = Areas.world()
    told, unknown = story.events(sample_path(args.data), max(args.reports, 0), areas)
    told = _mixed(story.examples(), told)
    network = Network.at(home)
    task = asyncio.current_task()
    if task is not None:
        # However it is ended, it leaves no hub behind.
        _on_ending(task.cancel)
    progress = Progress()
    try:
        outcome = await Demonstration(network, progress).run(told)
        progress.end()
        if args.json:
            terminal.emit(outcome.document())
        else:
            _show(outcome, unknown)
        if not args.once:
            await _stay(args, network)
    finally:
        network.close()
    return 0 if all(outcome.checks.values()) else _FAILED


def _mixed(few: list[Any], many: list[Any]) -> list[Any]:
    """``few`` dealt evenly among ``many``."""
    if not many:
        return few
    step = max(1, len(many) // max(1, len(few)))
    mixed: list[Any] = []
    rest = iter(few)
    for number, one in enumerate(many):
        if number % step == 0:
            mixed += [extra for extra in (next(rest, None),) if extra is not None]
        mixed.append(one)
    return [*mixed, *rest]


class Progress:
    """A line on stderr that says what goes on: rewritten on a terminal, one line a step elsewhere."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, what: str, done: int, of: int) -> None:
        if sys.stderr.isatty():
            width = 24
            filled = width * done // of if of else 0
            bar = "█" * filled + "░" * (width - filled)
            end = "\n" if what != self._last and self._last else ""
            sys.stderr.write(f"{end}\r\x1b[2K{bar} {done:>5}/{of:<5} {what}")
        elif what != self._last:
            sys.stderr.write(f"{what} …\n")
        sys.stderr.flush()
        self._last = what

    def end(self) -> None:
        """Leaves the line."""
        if sys.stderr.isatty():
            sys.stderr.write("\n")


def _show(outcome: Outcome, unknown: int) -> None:
    say = terminal.say
    say("", "What each desk opened (reports, then compartments)")
    for office, parts in outcome.opened.items():
        opened = "  ".join(f"{name} {parts[name]}" for name in GRANTABLE if parts[name])
        say(f"  {office:18}{parts['reports']:>5}   {opened}")
    judge = oracle()
    for told, header in outcome.samples:
        say("", f"Who may read a report from {header.area}: {', '.join(header.categories)},")
        say(f"severity {header.severity}, TLP:{header.tlp}. Rules in brackets withhold.")
        rows = table(told.report, judge, list(outcome.opened))
        for office, cells in rows:
            say(f"  {office}")
            for name, cell in zip(GRANTABLE, cells, strict=True):
                if cell not in ("-", "[no rule]"):
                    say(f"      {name:9}{cell}")
            nothing = [name for name, cell in zip(GRANTABLE, cells, strict=True) if cell == "[no rule]"]
            if nothing:
                say(f"      [no rule grants: {', '.join(nothing)}]")
    say("", "What was tried and refused")
    for what, code in outcome.attempts.items():
        say(f"  {what:40}{code}")
    say("", "The result")
    for name, value in outcome.document().items():
        if name not in ("refused", "checks"):
            say(f"  {name.replace('_', ' '):24}{value}")
    if unknown:
        say(f"  {unknown} rows of the data speak of no area that is known, and were left out.")
    say("", "Its claims, checked")
    for name, holds in outcome.checks.items():
        say(f"  {'holds ' if holds else 'FAILS '}  {name.replace('_', ' ')}")


async def _stay(args: argparse.Namespace, network: Network) -> None:
    home = network.home
    note = terminal.note if args.json else terminal.say
    note("", "The network stays up; Ctrl-C ends it. In other terminals:")
    note(f"  .venv/bin/kengele office follow --home {home}/offices/unrcca --key-file {home}/key")
    note(
        f"  .venv/bin/kengele node report --home {home}/monitors/osh --key-file {home}/key --area KG-O"
        " --category rumour \\",
        '      --severity 2 --tlp AMBER --lang en --summary "Talk of a fight at the bazaar."',
    )
    note(f"  .venv/bin/kengele hub status --home {home}/hub")
    stop = asyncio.Event()
    _on_ending(stop.set)
    await stop.wait()


def _on_ending(call: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    for number in _ENDINGS:
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, call)
