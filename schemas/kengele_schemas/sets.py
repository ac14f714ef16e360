"""The sets of trust files in a directory: one is current, another takes its place whole or not at all.

A set has its own directory, and a link says which one is current. Several processes may use them at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from .metadata import METADATA, TARGETS, metadata_version

_FOLDERS: Final = (METADATA.rstrip("/"), f"{METADATA}root_history", TARGETS.rstrip("/"))
_HUBS: Final = {"snapshot.json", "timestamp.json"}
_LEFT_OVER: Final = 60.0
"""Seconds after which a set that is not current is nobody's any more: another process may just be reading it."""


class Sets:
    """The sets in ``directory``, by that link."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def _link(self) -> Path:
        return self._directory / "current"

    def named(self) -> str:
        """The name of the set that is current; empty if none is, or if links were lost on the way from elsewhere."""
        try:
            return self._link.readlink().name
        except OSError:
            return ""

    def current(self) -> Path:
        """The current set's own directory: who reads in it reads one set, whatever takes its place meanwhile."""
        name = self.named()
        return self._directory / name if name else self._link

    def copy_to(self, copy: Path) -> None:
        """The files of the current set; whatever else stands there would only be in the way."""
        current = self.current()
        for name in _FOLDERS:
            (copy / name).mkdir(mode=0o700)
            for path in (current / name).glob("*.json"):
                if path.is_file() and not path.is_symlink():
                    shutil.copyfile(path, copy / name / path.name)

    def adopt(self, copy: Path, before: str) -> bool:
        """Makes ``copy`` the current set if that is still ``before``: at once or, after a crash, not at all."""
        with (self._directory / ".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.named() != before:
                return False
            if before:
                with suppress(OSError):
                    os.utime(self._directory / before)
            elif self._link.is_dir():
                self._link.rename(self._directory / f"{copy.name}-before")
            link = self._directory / f".{copy.name}"
            link.symlink_to(copy.name)
            link.replace(self._link)
            with suppress(OSError):
                sync(self._directory, deep=False)
            return True

    def tidy(self, current: Path) -> None:
        """Removes sets that nobody can be reading any more."""
        for old in self._directory.glob("set-*"):
            with suppress(OSError):
                if old != current and old.stat().st_mtime < time.time() - _LEFT_OVER:
                    shutil.rmtree(old)


def served(current: Path, path: str) -> bytes | None:
    """A file of the set in ``current`` under the name the hub would serve it by."""
    folder, _, name = path.partition("/")
    if folder == TARGETS.rstrip("/"):
        head, slash, last = name.rpartition("/")
        local = current / folder / quote(f"{head}{slash}{last.partition('.')[2]}", "")
    elif name.endswith(".root.json"):
        local = current / folder / "root_history" / name
    else:
        role = name if name == "timestamp.json" else name.partition(".")[2]
        local = current / folder / quote(role, "")
    try:
        return local.read_bytes()
    except OSError:
        return None


def files_of(current: Path) -> dict[str, bytes]:
    """The files of the set in ``current``, under the paths by which the hub serves them."""
    folder = current / METADATA
    found = {f"{METADATA}{path.name}": path.read_bytes() for path in (folder / "root_history").glob("*.root.json")}
    for path in folder.glob("*.json"):
        data = path.read_bytes()
        if path.name == "timestamp.json":
            found[f"{METADATA}{path.name}"] = data
        elif path.name != "root.json":
            found[f"{METADATA}{metadata_version(data)}.{path.name}"] = data
    for path in (current / TARGETS).iterdir():
        data = path.read_bytes()
        folder_name, slash, name = unquote(path.name).rpartition("/")
        found[f"{TARGETS}{folder_name}{slash}{hashlib.sha256(data).hexdigest()}.{name}"] = data
    return found


def same_lists(one: Path, other: Path) -> bool:
    """Whether two sets have the same lists, whatever the hub signed since."""
    names = [{path.name for path in (some / METADATA).glob("*.json")} - _HUBS for some in (one, other)]
    return names[0] == names[1] and all(
        (one / METADATA / name).read_bytes() == (other / METADATA / name).read_bytes() for name in names[0]
    )


def sync(folder: Path, *, deep: bool = True) -> None:
    """Has ``folder`` on the disk, by default with all that is in it."""
    for path in (*(folder.rglob("*") if deep else ()), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
