"""Every table, cache, queue and list that others fill stands in docs/operations.md, with its bound and its test.

Found are the tables of stores, the streams, and what an object of hub, desk, node or page holds by key or in a row. A
new one fails here until it has its line there, or is named below as nobody else's.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/operations.md"
OWN = {
    # Of one command's, or what its member makes itself.
    *("outbox.entries", "counters.counters", "journal.shares", "drafts.drafts", "vault._secrets", "link._options"),
    *("sender._keys", "sender._under_way", "sender._held"),
    *("symptoms.broken", "symptoms.exposed", "symptoms.foreign", "symptoms.taken", "symptoms.no_authorities"),
    "symptoms.servers",
}
_MODULES = ("hub/kengele_hub", *(f"node/kengele_node/{part}" for part in ("office", "monitor", "sharing", "pages")))
_SINGLE = ("node/kengele_node/vault.py", "node/kengele_node/link.py", "node/kengele_node/coordinator/drafts.py")
_HELD = r"(?:dict|list|set|deque|Counter|defaultdict|OrderedDict|asyncio\.Queue)\b"
_EMPTY = r"(?:\{\}|\[\]|set\(|dict\(|asyncio\.Queue\(|deque\(|Counter\(|defaultdict\(|OrderedDict\(|Tally\()"
_PLACES = (
    re.compile(r"CREATE TABLE (\w+)"),
    re.compile(rf"^ +self\.(\w+)(?:: [^=\n]+)? = {_EMPTY}", re.M),
    re.compile(rf"^ +self\.(\w+): {_HELD}", re.M),
    re.compile(rf"^    (\w+): {_HELD}.*= field\(default_factory", re.M),
)
_spec = importlib.util.spec_from_file_location("threat_model", Path(__file__).with_name("test_threat_model.py"))
assert _spec is not None
assert _spec.loader is not None
names = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(names)


def rows(text: str) -> Iterator[list[str]]:
    """What, by whom, how far, the tests, and where; as strings."""
    part = text.partition("\n## What others fill")[2].partition("\n## ")[0]
    for line in part.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("| ") else []
        if cells and cells[0] not in ("what", "---"):
            yield cells


def places() -> set[str]:
    files = [file for part in _MODULES for file in (ROOT / part).glob("*.py")] + [ROOT / file for file in _SINGLE]
    found = {
        f"{file.stem}.{name}" for file in files for how in _PLACES for name in how.findall(file.read_text("utf-8"))
    }
    made = re.findall(r"nc,\s+subjects\.([A-Z]+),\s+\[", (ROOT / "hub/kengele_hub/streams.py").read_text("utf-8"))
    return found | set(made)


def objections(text: str) -> dict[str, str]:
    """By what is filled, what is wrong with its line."""
    wrong, last = {}, ()
    for cells in rows(text):
        if len(cells) != 5 or not all(cells[:4]):
            wrong[cells[0]] = "a cell is missing"
            continue
        found, last = names.named(cells[3], last)
        missing = [word for word, pattern, files in found if not names.held(pattern, files)]
        if not found or missing:
            wrong[cells[0]] = ", ".join(missing) or "names no test"
    return wrong


def test_whatever_others_fill_has_a_bound_and_names_a_test_that_exists() -> None:
    text = PAGE.read_text("utf-8")
    assert len(list(rows(text))) > 35
    assert objections(text) == {}


def test_nothing_that_others_fill_is_missing_on_the_page() -> None:
    told = {place for cells in rows(PAGE.read_text("utf-8")) for place in re.findall(r"`([^`]+)`", cells[4])}
    assert len(places()) > 40
    assert (places() - told - OWN, told - places(), OWN - places()) == (set(), set(), set())


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("| x | y | 3 | `tests/unit/test_filled.py` | |", {}),
        ("| x | y | 3 | `tests/unit/test_gone.py` | |", {"x": "tests/unit/test_gone.py"}),
        ("| x | y | 3 | by its nature | |", {"x": "names no test"}),
        ("| x | y | | `tests/unit/test_filled.py` | |", {"x": "a cell is missing"}),
        ("| x | y | 3 |", {"x": "a cell is missing"}),
    ],
)
def test_a_line_without_a_bound_or_a_test_is_found(line: str, wrong: dict[str, str]) -> None:
    assert objections(f"\n## What others fill\n\n{line}\n\n## Audit\n") == wrong
