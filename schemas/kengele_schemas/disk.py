"""Disk: the one place that writes them, and that reads those a stranger may have prepared.

A stick, a shared folder or a directory that others write to is hostile. Of a path, the directory is what the user
named; below it no link is followed, nothing but a plain file is read or replaced, and nothing is deleted. A file is for
this user's eyes only, and a crash leaves the old one or the new one, never half of it.

    >>> write_below(Path("/media/stick"), "metadata/timestamp.json", data)
    >>> read_below(Path("/media/stick"), "metadata/timestamp.json", 65536)
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from .errors import Damaged, KengeleError, Malformed, Refused

MAX: Final = 16 * 1024 * 1024
"""Bytes of a document that a command reads."""
STDIN: Final = Path("-")
_MAX_NAMES: Final = 4096
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_BELOW: Final = _FOLDER | os.O_NOFOLLOW
# Without O_NONBLOCK a named pipe that nobody writes to would hold the command for ever.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_STRANGE: Final = (errno.ELOOP, errno.ENOTDIR, errno.EMLINK, errno.EISDIR, errno.ENXIO)
"""Errors that a link, a pipe, a device or a directory gives where a plain file is wanted, or a link for a directory."""


def write(path: Path, data: bytes, *, new: bool = False) -> None:
    """Writes the file ``path``; its directory must be there.

    Args:
        new: there must be no such file.

    Raises:
        Damaged: ``storage-full``; the old file stands.
        Refused: ``not-writable``, ``in-the-way``: a link, a pipe or the like stands there; ``exists``.
    """
    write_below(path.parent, path.name, data, new=new)


def write_below(directory: Path, name: str, data: bytes, *, new: bool = False) -> None:
    """Writes the file ``name``, which may hold slashes, below ``directory``. Raises as :func:`write`."""
    with _told(), writing(directory, name, new=new) as file:
        file.write(data)


@contextmanager
def writing(directory: Path, name: str, *, new: bool = False) -> Iterator[BinaryIO]:
    """A file to write to, which stands under its name when the block has ended and all of it is on the disk.

    Raises:
        Refused: ``in-the-way``, ``exists``. OSError: as the system has it.
    """
    *steps, last = _parts(name)
    with _folder(directory, steps, make=True) as folder:
        _check_free(folder, name, last, new)
        draft = f".{last[:48]}.{secrets.token_hex(8)}"
        descriptor = os.open(draft, _NEW, 0o600, dir_fd=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(descriptor)
            # A link that was laid meanwhile is replaced, not followed.
            os.rename(draft, last, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(draft, dir_fd=folder)
            raise
        _sync(folder)


def kept(path: Path, *, append: bool = False) -> int:
    """A descriptor of the file ``path``, made if missing, that stays where it is: a lock, a log, a store.

    Raises:
        Refused: ``in-the-way``. OSError: as the system has it.
    """
    with _folder(path.parent, (), make=False) as folder:
        flags = _KEPT | (os.O_APPEND if append else 0)
        try:
            descriptor = os.open(path.name, flags, 0o600, dir_fd=folder)
        except OSError as error:
            if error.errno in _STRANGE:
                raise _in_the_way(path.name) from None
            raise _named(error, path) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _in_the_way(path.name)
    return descriptor


def make_directory(path: Path) -> None:
    """Makes ``path`` and the directories above it that are missing, for this user's eyes only.

    Raises:
        Refused: ``in-the-way``. OSError: as the system has it.
    """
    missing = [one for one in (path, *path.parents) if not one.exists()]
    for one in reversed(missing):
        with suppress(FileExistsError):
            one.mkdir(mode=0o700)
    if not path.is_dir():
        raise _in_the_way(path.name)


def remove(path: Path) -> None:
    """Deletes a file that this program wrote into a home of its own, if it is there."""
    path.unlink(missing_ok=True)


def remove_made(directory: Path, files: Iterable[str], folders: Iterable[str] = ()) -> None:
    """Deletes what this program wrote into ``directory``, and the directory, if nothing else is in it.

    Args:
        directory: in which others may have put something meanwhile; that stays.
        files: names of files; what is no plain file, or not there, is passed over.
        folders: names of directories that this program made for itself; links in one go, where they lead to stays.
    """
    for name in folders:
        shutil.rmtree(directory / name, ignore_errors=True)
    with suppress(OSError, Refused), _folder(directory, (), make=False) as folder:
        for name in files:
            with suppress(OSError):
                if stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    os.unlink(name, dir_fd=folder)
    with suppress(OSError):
        directory.rmdir()


def read(path: Path, most: int = MAX) -> bytes:
    """The file ``path``, or with ``-`` what comes on stdin.

    Raises:
        Malformed: ``no-plain-file``: a link, a pipe, a device or a directory; ``too-large``: more than ``most`` bytes.
        OSError: as the system has it.
    """
    if path == STDIN:
        return _bounded(sys.stdin.buffer, path, most)
    return read_below(path.parent, path.name, most)


def read_below(directory: Path, name: str, most: int = MAX) -> bytes:
    """The file ``name`` below ``directory``. Raises as :func:`read`."""
    with _opened(directory, name) as file:
        return _bounded(file, directory / name, most)


def opened(path: Path) -> BinaryIO:
    """The file ``path``, open for reading, however large it is. Raises as :func:`read`."""
    return _opened(path.parent, path.name)


def _opened(directory: Path, name: str) -> BinaryIO:
    *steps, last = _parts(name)
    path = directory / name
    try:
        with _folder(directory, steps, make=False) as folder:
            descriptor = os.open(last, _READ, dir_fd=folder)
    except Refused:
        raise _no_plain_file(name) from None
    except OSError as error:
        raise (_no_plain_file(name) if error.errno in _STRANGE else _named(error, path)) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_plain_file(name)
    return os.fdopen(descriptor, "rb")


def read_own(path: Path, most: int = MAX) -> bytes:
    """A file of the user's own, such as a key, a passphrase or a certificate: a link is followed, a pipe is read.

    Raises:
        Malformed: ``too-large``. OSError: as the system has it.
    """
    with path.open("rb") as file:
        return _bounded(file, path, most)


def read_secret(path: Path, most: int) -> tuple[bytes, bool]:
    """Up to ``most`` bytes of a file of the user's own, and whether others on this machine can read it.

    Raises:
        OSError: as the system has it.
    """
    with path.open("rb") as file:
        return file.read(most), bool(os.fstat(file.fileno()).st_mode & 0o077)


def read_text(path: Path, most: int = MAX) -> str:
    """The file ``path`` as UTF-8. Raises as :func:`read`, and UnicodeDecodeError."""
    return read(path, most).decode("utf-8")


def present(path: Path) -> bool:
    """Whether something of this name stands there, though it be a link that leads nowhere."""
    return os.path.lexists(path)


def empty(path: Path) -> bool:
    """Whether ``path`` is an empty directory, or nothing yet. Raises OSError: as the system has it."""
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is None
    except FileNotFoundError:
        return not present(path)


def names_below(directory: Path, name: str, most: int = _MAX_NAMES) -> list[str]:
    """The names in the directory ``name`` below ``directory``, sorted; none if there is no such directory.

    Raises:
        Malformed: ``too-many-files``: more than ``most``, and no more are looked at; ``same-name``; ``no-plain-file``.
    """
    found: list[str] = []
    try:
        with _folder(directory, _parts(name), make=False) as folder, os.scandir(folder) as entries:
            for entry in entries:
                found.append(entry.name)
                if len(found) > most:
                    raise Malformed(
                        "too-many-files", f"The directory {name} holds more files than belong there.", "Take another."
                    )
    except FileNotFoundError:
        return []
    except Refused:
        raise _no_plain_file(name) from None
    check_names(found)
    return sorted(found)


def check_names(names: Iterable[str]) -> None:
    """Refuses names of which two are one where case or the way of writing an accent does not count (sticks, macOS).

    Raises:
        Malformed: ``same-name``.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()), name)
        if other != name:
            raise Malformed(
                "same-name",
                "Two files have names that are one where capitals do not count, as on a stick.",
                "One would take the other's place. Rename one of them.",
            )


def disk_error(error: OSError) -> KengeleError:
    """``error`` as a person can act on it."""
    return storage_full() if error.errno in (errno.ENOSPC, errno.EDQUOT) else not_writable()


def storage_full() -> Damaged:
    return Damaged(
        "storage-full",
        "The disk takes no more; this was not stored. What was stored before is safe.",
        "Free some space and do it again.",
    )


def not_writable() -> Refused:
    return Refused("not-writable", "This directory cannot be written to.", "Check who owns it, and its permissions.")


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise disk_error(error) from None


@contextmanager
def _folder(directory: Path, steps: Iterable[str], *, make: bool) -> Iterator[int]:
    """A descriptor of the directory ``steps`` below ``directory``; no step is a link. Raises Refused."""
    descriptor = os.open(directory, _FOLDER)
    try:
        for step in steps:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(step, 0o700, dir_fd=descriptor)
                    _sync(descriptor)
            try:
                below = os.open(step, _BELOW, dir_fd=descriptor)
            except OSError as error:
                raise (_in_the_way(step) if error.errno in _STRANGE else _named(error, directory / step)) from None
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _check_free(folder: int, name: str, last: str, new: bool) -> None:
    try:
        found = os.stat(last, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode):
        raise _in_the_way(name)
    if new:
        raise Refused("exists", "There is a file of this name already.", "Choose another name.")


def _bounded(file: BinaryIO, path: Path, most: int) -> bytes:
    try:
        data = file.read(most + 1)
    except OSError as error:
        raise _named(error, path) from None
    if len(data) > most:
        raise Malformed("too-large", f"The file {path.name} is larger than any of its kind.", "Check the path.")
    return data


def _parts(name: str) -> list[str]:
    parts = name.split("/")
    if "" in parts or "." in parts or ".." in parts or "\0" in name:
        raise Malformed("no-plain-file", "This is no name of a file below the directory.", "Check the path.")
    return parts


def _sync(folder: int) -> None:
    """Makes names in ``folder`` outlast a power cut, where the file system can do that."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def _named(error: OSError, path: Path) -> OSError:
    """``error`` with the whole path; beside a directory's descriptor the system names the last part alone."""
    return OSError(error.errno, error.strerror, str(path))


def _in_the_way(name: str) -> Refused:
    return Refused(
        "in-the-way",
        f"Something else stands at {name}, such as a link or a pipe. Nothing was written there.",
        "Somebody may have laid it there. Look at it, and choose another directory.",
    )


def _no_plain_file(name: str) -> Malformed:
    return Malformed(
        "no-plain-file",
        f"{name} is a link, a pipe, a device or a directory, and is not read.",
        "Name the file itself; on a stick or in a shared folder ask who put this there.",
    )
