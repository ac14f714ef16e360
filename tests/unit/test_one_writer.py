"""One module writes files and reads what strangers may have prepared; nothing else in the product does so by itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = ("node/kengele_node", "hub/kengele_hub", "schemas/kengele_schemas")
THE_ONE = "schemas/kengele_schemas/disk.py"
_WRITES = {
    *(
        "write_text",
        "write_bytes",
        "mkdir",
        "makedirs",
        "mkfifo",
        "mknod",
        "touch",
        "unlink",
        "rmdir",
        "remove",
        "rename",
    ),
    *(
        "renames",
        "symlink_to",
        "symlink",
        "hardlink_to",
        "link",
        "chmod",
        "lchmod",
        "chown",
        "truncate",
        "rmtree",
        "move",
    ),
    *("copy", "copy2", "copyfile", "copytree", "copyfileobj", "mkstemp", "mkdtemp", "mktemp", "savetxt"),
    *("TemporaryFile", "NamedTemporaryFile", "TemporaryDirectory", "SpooledTemporaryFile"),
}
_READS = {"read_bytes", "read_text", "iterdir", "listdir", "scandir", "glob", "rglob", "walk"}
_MODE = re.compile(r"[rwaxbt+U]+")
_SYSTEM = {"os", "shutil", "tempfile", "io"}
_AMBIGUOUS = {"remove", "copy", "link", "truncate", "move"}
"""Words that lists, models and files have, too."""

ALLOWED = {
    # The trust store writes into a directory of a home, which is its user's alone; python-tuf writes beside it.
    "schemas/kengele_schemas/trust.py": {
        "mkdir",
        "mkdtemp",
        "write_text",
        "write_bytes",
        "rmtree",
        "read_text",
        "read_bytes",
    },
    "schemas/kengele_schemas/sets.py": {
        *(
            "mkdir",
            "glob",
            "copyfile",
            "open",
            "rename",
            "symlink_to",
            "replace",
            "rmtree",
            "read_bytes",
            "rglob",
            "iterdir",
        ),
    },
    "schemas/kengele_schemas/verification.py": {"mkdir", "read_bytes"},
    # A new directory of a random name, for this user alone, in the system's place for such.
    "schemas/kengele_schemas/publication.py": {"TemporaryDirectory"},
    "node/kengele_node/demo/commands.py": {"TemporaryDirectory"},
    # The same in the user's own home, because some browsers see no other place.
    "node/kengele_node/pages/opening.py": {"TemporaryDirectory"},
    # The kernel's list of sockets.
    "node/kengele_node/pages/peer.py": {"read_text"},
    # What the package itself brings along.
    "node/kengele_node/coordinator/console/app.py": {"read_bytes"},
    "schemas/kengele_schemas/areas.py": {"read_text"},
    "schemas/kengele_schemas/taxonomy.py": {"read_text"},
    "node/kengele_node/demo/story.py": {"read_text"},
    "node/kengele_node/demo/run.py": {"read_text"},
    # For who builds the program.
    "schemas/kengele_schemas/jsonschema.py": {"mkdir", "write_bytes", "read_bytes"},
    # A directory's own descriptor, to have names in it on the disk; the output that nobody reads any more.
    "node/kengele_node/rows.py": {"open", "connect"},
    "node/kengele_node/cli.py": {"open"},
    # What the hub's own broker leaves in its home; descriptors that the one module gave.
    "node/kengele_node/demo/network.py": {"fdopen", "read_text"},
    "node/kengele_node/doctor.py": {"glob"},
    "node/kengele_node/vault.py": {"fdopen"},
    "hub/kengele_hub/broker.py": {"glob"},
    "hub/kengele_hub/ledger.py": {"fdopen"},
}


def files() -> list[str]:
    found = (path for part in PRODUCT for path in (ROOT / part).rglob("*.py"))
    return sorted(str(path.relative_to(ROOT)) for path in found if str(path.relative_to(ROOT)) != THE_ONE)


def opens(source: str) -> Iterator[tuple[int, str]]:
    """Lines and names of calls by which a file is opened, made, changed or deleted, or a directory is listed."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and (node.func.id == "open" or node.func.id in _WRITES):
            yield node.lineno, node.func.id
        elif isinstance(node.func, ast.Attribute) and _touches(node, node.func.attr, _name(node.func.value)):
            yield node.lineno, node.func.attr


def _touches(node: ast.Call, name: str, whose: str) -> bool:
    if whose == "disk" or (name in _AMBIGUOUS and whose not in _SYSTEM):
        return False
    if name == "open":
        first = node.args[0] if node.args else None
        mode = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
        return whose in _SYSTEM or ((mode is None or bool(_MODE.fullmatch(mode))) and not _of_ours(node))
    if name == "replace":
        return len(node.args) == 1 and not node.keywords and whose != "vault"
    if name == "rename":
        return whose != "member"
    return name in _WRITES | _READS or (name, whose) in (("fdopen", "os"), ("connect", "sqlite3"))


def _name(owner: ast.expr) -> str:
    return owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""


def _of_ours(node: ast.Call) -> bool:
    """``Member.open``, ``Vault.open`` and the opening of sealed rows: they take more than a mode."""
    mode = node.args[0] if node.args else next((one.value for one in node.keywords if one.arg == "mode"), None)
    return mode is not None and not isinstance(mode, ast.Constant)


@pytest.mark.parametrize("path", files())
def test_nothing_but_the_one_module_opens_files(path: str) -> None:
    found = {(line, name) for line, name in opens((ROOT / path).read_text("utf-8"))}
    strange = sorted((line, name) for line, name in found if name not in ALLOWED.get(path, ()))
    assert not strange, f"{path} opens files by itself; use kengele_schemas.disk: {strange}"


def test_what_is_allowed_is_needed() -> None:
    """An exception that nothing uses would let the next one in unseen."""
    for path, names in ALLOWED.items():
        assert names <= {name for _, name in opens((ROOT / path).read_text("utf-8"))}, path


@pytest.mark.parametrize(
    "line",
    [
        *(
            "path.write_text('x')",
            "open('x', 'w')",
            "open('x')",
            "path.open('ab')",
            "path.open()",
            "path.open(mode='w')",
        ),
        *("os.open(path, 1)", "shutil.rmtree(path)", "path.replace(other)", "path.read_bytes()", "path.unlink()"),
        *("tempfile.mkstemp()", "os.fdopen(3, 'w')", "sqlite3.connect(path)", "io.open('x')", "os.remove(path)"),
        *("path.mkdir()", "path.symlink_to(other)", "(a / b).iterdir()"),
    ],
)
def test_the_look_finds_it(line: str) -> None:
    assert list(opens(line))


@pytest.mark.parametrize(
    "line",
    [
        *(
            "text.replace('a', 'b')",
            "moment.replace(tzinfo=UTC)",
            "self._rows.open(name, sealed)",
            "Member.open(home, lock)",
        ),
        *("disk.write(path, data)", "vault.replace(secrets)", "member.vault.replace(secrets)", "names.remove(one)"),
    ],
)
def test_the_look_takes_nothing_else_for_it(line: str) -> None:
    assert not list(opens(line))
