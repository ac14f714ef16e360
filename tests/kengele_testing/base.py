"""What an installation without extras is made of."""

from __future__ import annotations

from importlib.metadata import PackagePath, distribution

from packaging.requirements import Requirement


def base_files(extra: str = "") -> dict[str, list[PackagePath]]:
    """The files of Kengele's base dependencies, those of ``extra`` besides, and of theirs, by distribution."""
    found: dict[str, list[PackagePath]] = {}
    wanted = [*(distribution("kengele").requires or ())]
    while wanted:
        requirement = Requirement(wanted.pop())
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = requirement.name.lower().replace("_", "-")
        if name not in found:
            dist = distribution(name)
            found[name] = list(dist.files or ())
            wanted += dist.requires or ()
    return found


def installed_bytes() -> dict[str, int]:
    """Bytes on the disk by distribution, compiled Python not counted."""
    return {
        name: sum(file.size or 0 for file in files if file.suffix != ".pyc") for name, files in base_files().items()
    }
