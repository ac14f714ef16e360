"""Runs a command as a unit's sandbox would, as far as one process can do it to itself: ``confined.py CALLS COMMAND…``.

``CALLS`` is a file with the numbers of the system calls that are let through, all others fail with EPERM; and no memory
is both written and executed (prctl(2): PR_SET_MDWE, Linux 6.3). A script of its own, of the standard library alone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from pathlib import Path

_NO_NEW_PRIVS, _SECCOMP, _MDWE = 38, 22, 65
_LOAD_NR, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def _step(code: int, true: int, false: int, value: int) -> bytes:
    """One instruction of classic BPF (linux/filter.h)."""
    return struct.pack("=HBBI", code, true, false, value)


def confine(calls: list[int]) -> None:
    """Confines this process for good."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    steps = [_step(_LOAD_NR, 0, 0, 0)]
    for number in calls:
        steps += [_step(_EQUAL, 0, 1, number), _step(_RETURN, 0, 0, _ALLOW)]
    steps.append(_step(_RETURN, 0, 0, _ERRNO | errno.EPERM))
    program = ctypes.create_string_buffer(b"".join(steps))
    filtered = struct.pack("@HP", len(steps), ctypes.addressof(program))
    for call in ((_NO_NEW_PRIVS, 1, 0, 0, 0), (_MDWE, 1, 0, 0, 0), (_SECCOMP, 2, filtered, 0, 0)):
        if prctl(*call) != 0 and call[0] != _MDWE:
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    confine([int(word) for word in Path(sys.argv[1]).read_text().split()])
    os.execv(sys.argv[2], sys.argv[2:])
