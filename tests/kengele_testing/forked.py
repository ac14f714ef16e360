"""``kengele`` in a process of its own, forked from one that has everything loaded.

Tests that tell a story give dozens of commands, and most of the time of each would go into importing. The command is a
process like any other, with its own directory, environment, streams and end; only how it began differs.

done = forked.run(("node", "status"), cwd=directory, env=environment)
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

_LOADED = ("monitor.commands", "office.commands", "coordinator.commands", "audit.commands", "verify", "doctor")
_MOST = 1 << 20

_starting = threading.Lock()
_forks: socket.socket | None = None


def run(
    words: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None, stdin: str = "", timeout: float = 90
) -> subprocess.CompletedProcess[str]:
    """What ``kengele`` with ``words`` does, whose thread soever asks. After ``timeout`` seconds it is killed and
    TimeoutError raised."""
    document = {"words": list(words), "cwd": str(cwd), "env": dict(os.environ if env is None else env)}
    answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with answers, tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin.encode())
        given.seek(0)
        with theirs:
            streams = [given.fileno(), out.fileno(), err.fileno(), theirs.fileno()]
            socket.send_fds(_parent(), [json.dumps(document).encode()], streams)
        process = int(answers.recv(_MOST))
        answers.settimeout(timeout)
        try:
            status = int(answers.recv(_MOST))
        except TimeoutError:
            os.kill(process, signal.SIGKILL)
            raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(words, status, out.read().decode(), err.read().decode())


def _parent() -> socket.socket:
    """The line to the process that forks; it is started when first asked for, and ends with this one."""
    global _forks
    with _starting:
        if _forks is None:
            _forks, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            words = (sys.executable, "-P", __file__, str(theirs.fileno()))
            process = subprocess.Popen(words, pass_fds=[theirs.fileno()])
            theirs.close()
            atexit.register(_end, _forks, process)
        return _forks


def _end(forks: socket.socket, process: subprocess.Popen[bytes]) -> None:
    forks.close()
    process.wait(60)


def _serve(asked: socket.socket) -> None:
    for name in _LOADED:
        import_module(f"kengele_node.{name}")
    import_module("kengele_hub.cli")
    # Whoever watches over a command is nobody's concern when it ends.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        data, streams, _, _ = socket.recv_fds(asked, _MOST, 4)
        if not data:
            return
        if not os.fork():
            asked.close()
            _watch(json.loads(data), streams[:3], socket.socket(fileno=streams[3]))
        for stream in streams:
            os.close(stream)


def _watch(document: Mapping[str, Any], streams: Sequence[int], answers: socket.socket) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process = os.fork()
    if not process:
        answers.close()
        _become(document, streams)
    try:
        answers.send(str(process).encode())
        _, status = os.waitpid(process, 0)
        answers.send(str(os.waitstatus_to_exitcode(status)).encode())
    finally:
        os._exit(0)


def _become(document: Mapping[str, Any], streams: Sequence[int]) -> NoReturn:
    status = 70
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.environ.clear()
        os.environ.update(document["env"])
        os.chdir(document["cwd"])
        sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1)  # noqa: SIM115
        sys.argv = ["kengele", *document["words"]]
        main = import_module("kengele_node.cli").main
        try:
            status = main()
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
        sys.stdout.flush()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
