"""Every line of ``docs/threat-model.md`` is held by a test that exists: a name that no test bears any more fails here.

The page abbreviates. ``…`` stands for anything within a name, and for the file named last where it begins one; a file
may be named without its directory.
"""

from __future__ import annotations

import ast
import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/threat-model.md"
FILES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py"))


@cache
def borne_in(file: str) -> frozenset[str]:
    """The tests in ``file``: their names, those of a class behind the class's, and the class's alone."""
    found = set()
    for node in ast.parse((ROOT / file).read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            found.add(node.name)
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            inner = [one.name for one in node.body if isinstance(one, ast.FunctionDef) and one.name.startswith("test_")]
            found.update((node.name, *inner, *(f"{node.name}::{name}" for name in inner)))
    return frozenset(found)


def rows(text: str) -> Iterator[tuple[str, str, str]]:
    """Who, what he cannot do, and the cell of its tests."""
    who = ""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("| ") else []
        if len(cells) == 3 and cells[0] not in ("who", "---"):
            who = cells[0] or who
            yield who, cells[1], cells[2]


def named(cell: str, last: Sequence[str]) -> tuple[list[tuple[str, str, Sequence[str]]], Sequence[str]]:
    """What a cell names: the words as they stand, the pattern of the test's name, and the files that may have it.

    ``last`` are the files of the name before; those of the last name in this cell are given back.
    """
    found = []
    for word in re.findall(r"`([^`]+)`", cell):
        if word.startswith("make "):
            continue
        parts = word.split("::")
        path = parts.pop(0) if parts[0] == "…" or parts[0].endswith(".py") else ""
        if path.endswith(".py"):
            nearest = [file for file in last if file.endswith(f"/{path}")]
            last = nearest or [file for file in FILES if file == path or file.endswith(f"/{path}")]
        pattern = re.sub(r"\[.*$", "", "::".join(parts)).replace("…", "*")
        found.append((word, pattern or ("*" if path.endswith(".py") else word), last))
    return found, last


def held(pattern: str, files: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(test, pattern) for file in files for test in borne_in(file))


def objections(text: str) -> Mapping[str, str]:
    """By the line's sentence, what is wrong with what it names."""
    wrong: dict[str, str] = {}
    last: Sequence[str] = ()
    for who, cannot, cell in rows(text):
        found, last = named(cell, last)
        missing = [word for word, pattern, files in found if not held(pattern, files)]
        if not found or missing:
            wrong[f"{who}: {cannot}"] = ", ".join(missing) or "names no test"
    return wrong


def test_every_line_of_the_threat_model_names_tests_that_exist() -> None:
    text = PAGE.read_text("utf-8")
    assert len(list(rows(text))) > 90
    assert objections(text) == {}


@pytest.mark.parametrize(
    ("cell", "wrong"),
    [
        ("`tests/unit/test_threat_model.py::test_every_line_…`", ""),
        ("`test_threat_model.py`", ""),
        ("`tests/unit/node/test_inbox.py::TestRecalls`, `…::TestRecalls::test_explain_no_…`, `…_no_number_…`", ""),
        ("`make fuzz`", "names no test"),
        ("by its nature", "names no test"),
        ("`test_threat_model.py`, `…`", "…"),
        ("`tests/unit/test_threat_model.py::test_that_was_renamed`", "test_that_was_renamed"),
        ("`test_threat_model.py`, `…::test_that_was_renamed_…`", "…::test_that_was_renamed_…"),
        ("`tests/unit/test_that_was_moved.py`", "test_that_was_moved.py"),
        ("`test_inbox.py::TestRecalls::test_that_was_renamed`", "TestRecalls::test_that_was_renamed"),
        ("`tests/unit/node/test_inbox.py::TestGone`", "TestGone"),
    ],
)
def test_a_name_that_no_test_bears_is_found(cell: str, wrong: str) -> None:
    found = objections(f"| who | cannot | test |\n| --- | --- | --- |\n| thief | take it | {cell} |\n")
    assert [one.rpartition("/")[2].endswith(wrong) for one in found.values()] == ([True] if wrong else [])


def test_no_claim_stands_twice() -> None:
    # Tests alone do not tell two claims apart: one may hold several. The same actor with the same first words does.
    claims = [(who, " ".join(claim.split()[:6])) for who, claim, _ in rows(PAGE.read_text("utf-8"))]
    assert sorted(one for one in set(claims) if claims.count(one) > 1) == []
