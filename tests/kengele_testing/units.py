"""systemd's units, read and run without systemd: what of a unit can be done by one process to itself is done."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

UNITS = Path(__file__).parents[2] / "deploy/systemd"
CONFINED = Path(__file__).with_name("confined.py")
_NUMBERS = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")


class Unit:
    """One unit file. ``setting`` is the last value of a setting, ``settings`` all of them since it was last emptied."""

    def __init__(self, name: str, *dropins: str) -> None:
        self.name = name
        self._values: dict[str, list[str]] = defaultdict(list)
        for path in (UNITS / name, *(UNITS / dropin for dropin in dropins)):
            for line in path.read_text().splitlines():
                if not line or line[0] in "#[":
                    continue
                key, value = line.split("=", 1)
                if value or key.endswith(("Set", "Capabilities")):
                    self._values[key].append(value)
                else:
                    self._values[key].clear()

    def settings(self, name: str) -> list[str]:
        return self._values[name]

    def setting(self, name: str) -> str:
        return self._values[name][-1]


@dataclass(frozen=True)
class Machine:
    """Where units are run: ``root`` holds what is /opt, /etc, /var and /run there; with ``chroot`` it is /."""

    root: Path
    chroot: bool = False

    def mapped(self, text: str) -> str:
        """``text`` with its paths where they are in this test."""
        return text if self.chroot else re.sub(r"(?<![\w/])/(opt|etc|var|run)/", rf"{self.root}/\1/", text)

    def outer(self, path: str) -> Path:
        """Where ``path`` of the machine is for the test."""
        return self.root / path.lstrip("/")

    def command(self, words: Iterable[str], user: str = "") -> list[str]:
        """``words`` as they are run there; as ``user`` where users can be had."""
        words = list(words)
        if not self.chroot:
            return words
        who = [f"--userspec={user}:{user}"] if user else []
        return ["/usr/sbin/chroot", *who, str(self.root), *words]

    def expanded(self, unit: Unit, text: str) -> str:
        """``text`` with the specifiers that the units use (systemd.unit(5))."""
        text = text.replace("%S", "/var/lib").replace("%d", f"/run/credentials/{unit.name}")
        assert not re.search(r"%[a-zA-Z]", text), text
        return self.mapped(text)

    def start(self, unit: Unit, **options: Any) -> subprocess.Popen[str]:
        """Runs ``ExecStart`` with the unit's directories, credentials, environment, and of its sandbox what can be."""
        user = unit.setting("User") if self.chroot else ""
        state = self.outer(f"/var/lib/{unit.setting('StateDirectory')}")
        state.mkdir(mode=int(unit.setting("StateDirectoryMode"), 8), parents=True, exist_ok=True)
        credentials = self.outer(f"/run/credentials/{unit.name}")
        shutil.rmtree(credentials, ignore_errors=True)
        credentials.mkdir(parents=True, mode=0o755)
        for credential in unit.settings("LoadCredential"):
            name, _, source = credential.partition(":")
            (credentials / name).write_bytes(self.outer(source).read_bytes())
            (credentials / name).chmod(0o400)
        if user:
            number, group = self.ids(user)
            for path in (credentials, *credentials.iterdir(), state):
                os.chown(path, number, group)
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG": "C.UTF-8"}
        environment |= dict(self.expanded(unit, line).split("=", 1) for line in unit.settings("Environment"))
        calls = self.outer("/opt/calls")
        calls.write_text(" ".join(map(str, sorted(allowed(unit)))))
        shutil.copy(CONFINED, self.outer("/opt/confined.py"))
        python = "/usr/bin/python3" if self.chroot else sys.executable
        words = shlex.split(self.expanded(unit, unit.setting("ExecStart")))
        launcher = [python, "-I", "-S", self.mapped("/opt/confined.py"), self.mapped("/opt/calls"), *words]
        return subprocess.Popen(
            self.command(launcher, user),
            env=environment,
            umask=int(unit.setting("UMask"), 8),
            stdin=subprocess.DEVNULL,
            text=True,
            **{"cwd": None if self.chroot else state, **options},
        )

    def ids(self, user: str) -> tuple[int, int]:
        """A user's numbers on that machine."""
        line = next(one for one in self.outer("/etc/passwd").read_text().splitlines() if one.startswith(f"{user}:"))
        fields = line.split(":")
        return int(fields[2]), int(fields[3])


@cache
def _set(name: str) -> frozenset[str]:
    """The names in one of systemd's sets of system calls."""
    said = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, timeout=30, check=True
    ).stdout
    found: set[str] = set()
    for line in said.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            found |= _set(word)
        elif word and not word.startswith("#"):
            found.add(word)
    return frozenset(found)


def allowed(unit: Unit) -> set[int]:
    """The numbers of the system calls that ``unit`` lets through (systemd.exec(5), SystemCallFilter=)."""
    names: set[str] = set(_set("@default"))
    for line in unit.settings("SystemCallFilter"):
        words = {call for word in line.lstrip("~").split() for call in (_set(word) if word[0] == "@" else {word})}
        names = names - words if line.startswith("~") else names | words
    numbers = dict(re.findall(r"#define __NR_(\w+) (\d+)", _NUMBERS.read_text()))
    return {int(numbers[name]) for name in names if name in numbers}


def missing() -> str:
    """Why units cannot be run here as they are meant; empty if they can."""
    if shutil.which("systemd-analyze") is None:
        return "systemd-analyze is not installed (Debian's package systemd)"
    if not _NUMBERS.exists():
        return "the numbers of the system calls are not known (x86-64 headers of Linux)"
    return ""
