"""Runs a program that the kernel ends when the process that started it dies: ``tether.py PARENT-PID PROGRAM [ARG…]``.

A script of its own and not a ``preexec_fn``: between fork and exec a process with threads may only run code that takes
no lock, and Python is not that. It becomes the program, so the process id stays. To the kernel the parent is the thread
that started it: start it in one that lasts. On systems without ``PR_SET_PDEATHSIG`` (prctl(2), Linux) it runs the
program untethered.
"""

from __future__ import annotations

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() == parent:  # else it died before the line above
        os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
