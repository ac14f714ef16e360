"""The tether: a program becomes another one, and ends when the process that started it is gone."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kengele_hub import tether

linux = pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
SCRIPT = (sys.executable, "-I", "-S", tether.__file__)


def tethered(parent: int, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run((*SCRIPT, str(parent), *command), capture_output=True, text=True, timeout=30, check=False)


def test_it_becomes_the_program_with_its_arguments_and_exit_code() -> None:
    done = tethered(os.getpid(), "/bin/sh", "-c", 'echo "$$ $1"; exit 7', "sh", "a b;$c")
    pid, argument = done.stdout.strip().split(" ", 1)

    assert (argument, done.returncode, done.stderr) == ("a b;$c", 7, "")
    with subprocess.Popen((*SCRIPT, str(os.getpid()), "/bin/sh", "-c", "echo $$"), stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert int(child.stdout.read()) == child.pid
    assert int(pid) != child.pid


def test_without_the_parent_it_was_started_for_it_runs_nothing() -> None:
    done = tethered(1 if os.getppid() != 1 else os.getppid() + 1, "/bin/echo", "ran")
    assert done.stdout == ""


def test_a_program_there_is_not_is_an_error_and_no_silence() -> None:
    assert tethered(os.getpid(), "/nonexistent/program").returncode != 0


PARENT = """
import os, subprocess, sys
child = subprocess.Popen([*sys.argv[1:5], str(os.getpid()), "/bin/sh", "-c", "echo $$; exec sleep 600"])
child.wait()
"""


@linux
@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_when_the_parent_is_killed_the_program_ends(number: signal.Signals) -> None:
    # The child holds the pipe's other end: it is closed when the last of both has gone.
    with subprocess.Popen((sys.executable, "-c", PARENT, *SCRIPT), stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert child != parent.pid
        parent.send_signal(number)
        ended, _, _ = select.select((parent.stdout,), (), (), 20)
        if not ended:
            os.kill(child, signal.SIGKILL)
        assert ended
        assert parent.stdout.read() == b""
        assert parent.wait(60) == -number


def test_it_needs_nothing_but_the_standard_library() -> None:
    # It runs with -I -S: no site directory, where an installed package would have to be found.
    text = Path(tether.__file__).read_text("utf-8")
    imported = {line.split()[1] for line in text.splitlines() if line.strip().startswith(("import ", "from "))}
    assert imported <= {*sys.stdlib_module_names, "__future__"}
