"""Where the network stands: hosts of its own, disks that can be filled, clocks that can be moved.

Each role is a host, a network namespace on a common bridge, so that a link goes down as a link does; the broker's store
and the members' homes are small file systems. Where this machine does not permit the one or the other (it takes root,
iproute2, a C compiler), what cannot be had is told in ``lacks`` and left out of the run.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from torture.faults import Kind

ROLES: Final = ("broker", "hub", "node", "desk")
_PREFIX: Final = "kt"
_SLACK: Final = 64 * 1024
_DISCIPLINES: Final[dict[Kind, tuple[str, ...]]] = {
    "thin": ("tbf", "rate", "2mbit", "burst", "16kb", "latency", "400ms"),
    "loss": ("netem", "loss", "5%", "delay", "60ms", "30ms"),
}
_SAID: Final[dict[Kind, str]] = {"thin": "thin", "loss": "lossy and slow"}
_CLOCK: Final = Path(__file__).with_name("clock.c")


class Site:
    """The place of one run; ``with`` it, or what it made stays on the machine."""

    def __init__(self, run: Path, size: int) -> None:
        """``size``: bytes of each of the two disks."""
        self.run = run
        self.lacks: dict[Kind, str] = {}
        self._size = size
        self._number = os.getpid()
        self._shim: Path | None = None
        self.disks = {"broker": run / "broker", "node": run / "members"}

    def __enter__(self) -> Self:
        _sweep()
        try:
            self._mount()
        except (OSError, subprocess.CalledProcessError):
            self.lacks["disk"] = "disks are not filled: this user may not mount a file system"
        try:
            self._connect()
        except (OSError, subprocess.CalledProcessError):
            self._disconnect()
            self.lacks["cut"] = "links are not cut: this user may not make network namespaces"
        for kind, discipline in _DISCIPLINES.items():
            try:
                self.shape("broker", kind, on=True)
                self.shape("broker", kind, on=False)
            except (OSError, subprocess.CalledProcessError):
                self.lacks[kind] = (
                    f"no line is made {_SAID[kind]}: this kernel has no {discipline[0]}, or no link of ours"
                )
        try:
            self._shim = self._compile()
        except (OSError, subprocess.CalledProcessError):
            self.lacks["clock"] = "clocks are not moved: there is no C compiler, or this is not Linux"
        return self

    def __exit__(self, *_: object) -> None:
        self._disconnect()
        for path in self.disks.values():
            if path.is_mount():
                with suppress(subprocess.CalledProcessError):
                    _do("umount", "-l", str(path))

    @property
    def address(self) -> str:
        """Where the broker listens."""
        return "127.0.0.1" if "cut" in self.lacks else self._ip(ROLES.index("broker") + 1)

    def prefix(self, role: str) -> list[str]:
        """What to put before a command that is to run on this role's host."""
        if "cut" in self.lacks or role not in ROLES:
            return []
        return [str(shutil.which("ip")), "netns", "exec", self._space(role)]

    def clock(self, name: str) -> dict[str, str]:
        """The environment of a process whose clock can be moved, by its name."""
        if self._shim is None:
            return {}
        self.move(name, 0)
        return {"LD_PRELOAD": str(self._shim), "TORTURE_CLOCK": str(self._clock(name))}

    def move(self, name: str, seconds: int) -> None:
        """Moves that clock to so many seconds from the true time."""
        path = self._clock(name)
        path.parent.mkdir(exist_ok=True)
        # In place: the process looks at this very page.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.pwrite(descriptor, struct.pack("=q", seconds), 0)
        os.close(descriptor)

    def cut(self, role: str, *, down: bool) -> None:
        """Takes this role's link down, or up again."""
        _do("ip", "link", "set", self._wire(role), "down" if down else "up")

    def shape(self, role: str, kind: Kind, *, on: bool) -> None:
        """Makes this role's link thin or lossy, or as it was."""
        if on:
            _do("tc", "qdisc", "add", "dev", self._wire(role), "root", *_DISCIPLINES[kind])
        else:
            _do("tc", "qdisc", "del", "dev", self._wire(role), "root")

    def fill(self, disk: str, slack: int = _SLACK) -> None:
        """Leaves next to no room on a disk: ``slack`` bytes."""
        while True:
            try:
                self._resize(disk, shutil.disk_usage(self.disks[disk]).used + slack)
                return
            except subprocess.CalledProcessError:
                slack *= 2  # more was written meanwhile than there was to be room for

    def free(self, disk: str) -> None:
        self._resize(disk, self._size)

    def _resize(self, disk: str, size: int) -> None:
        _do("mount", "-o", f"remount,size={size}", str(self.disks[disk]))

    def _mount(self) -> None:
        for path in self.disks.values():
            path.mkdir(parents=True, exist_ok=True)
        for path in self.disks.values():
            _do("mount", "-t", "tmpfs", "-o", f"size={self._size},mode=700", "tmpfs", str(path))

    def _connect(self) -> None:
        bridge = f"{_PREFIX}{self._number}"
        _do("ip", "link", "add", bridge, "type", "bridge")
        _do("ip", "addr", "add", f"{self._ip(254)}/24", "dev", bridge)
        _do("ip", "link", "set", bridge, "up")
        for number, role in enumerate(ROLES, 1):
            space, wire = self._space(role), self._wire(role)
            _do("ip", "netns", "add", space)
            _do("ip", "link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", space)
            _do("ip", "link", "set", wire, "master", bridge, "up")
            for command in (
                ("addr", "add", f"{self._ip(number)}/24", "dev", "eth0"),
                ("link", "set", "eth0", "up"),
                ("link", "set", "lo", "up"),
            ):
                _do("ip", "-n", space, *command)

    def _disconnect(self) -> None:
        _remove(self._number)

    def _compile(self) -> Path:
        shim = self.run / "clock.so"
        _do("cc", "-shared", "-fPIC", "-O2", "-o", str(shim), str(_CLOCK), "-ldl")
        return shim

    def _ip(self, host: int) -> str:
        return f"10.{64 + self._number // 250 % 64}.{self._number % 250}.{host}"

    def _space(self, role: str) -> str:
        return f"{_PREFIX}{self._number}-{role}"

    def _wire(self, role: str) -> str:
        return f"{_PREFIX}{self._number}{role[0]}"

    def _clock(self, name: str) -> Path:
        return self.run / "clocks" / name


def _do(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _spaces() -> list[str]:
    try:
        listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [line.split()[0] for line in listed.splitlines() if line.startswith(_PREFIX)]


def _remove(number: int) -> None:
    """Takes away the hosts and the bridge of the run with this process id."""
    for space in _spaces():
        if space.startswith(f"{_PREFIX}{number}-"):
            with suppress(subprocess.CalledProcessError):
                _do("ip", "netns", "del", space)
    # A host stays as long as a process of it does; its link need not.
    for link in (*(f"{_PREFIX}{number}{role[0]}" for role in ROLES), f"{_PREFIX}{number}"):
        with suppress(OSError, subprocess.CalledProcessError):
            _do("ip", "link", "del", link)


def _sweep() -> None:
    """Takes away what a killed run left behind."""
    for number in {space.removeprefix(_PREFIX).partition("-")[0] for space in _spaces()}:
        if number.isdecimal() and not Path(f"/proc/{number}").exists():
            _remove(int(number))
