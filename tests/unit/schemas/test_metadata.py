"""Trust files read: every document is found, and each member is served what is for it and no more."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_schemas import metadata
from kengele_schemas.areas import Areas
from kengele_schemas.encoding import dumps
from kengele_schemas.errors import Malformed
from kengele_schemas.trust import TrustStore
from kengele_testing.trust import NOW, ROOT, Files

AREAS = Areas.world()


def test_documents_are_found_by_their_paths(first: Files) -> None:
    assert metadata.document_paths(first) == [
        "areas.json",
        "connections.json",
        "monitors/KG.json",
        "network.json",
        "offices.json",
        "policy.json",
    ]
    for path in metadata.document_paths(first):
        assert metadata.document_of(first, path)["v"] == 1
    assert metadata.document_of(first, "nothing.json") is None
    assert metadata.document_of(first, "monitors/KZ.json") is None


def test_the_newest_is_the_one_with_the_greatest_number() -> None:
    files = {f"metadata/{number}.targets.json": b"" for number in (9, 10, 2)}
    assert metadata.newest(files, "targets") == "metadata/10.targets.json"
    with pytest.raises(KeyError):
        metadata.newest(files, "target")


SEEN: list[tuple[str, Sequence[str], Sequence[str], Sequence[str]]] = [
    # path, who sees it: of the offices, those with these areas do and those with those do not
    ("metadata/1.root.json", ["monitor", "coordinator"], ["KG", "SD"], []),
    ("metadata/timestamp.json", ["monitor", "coordinator"], ["KG", "SD"], []),
    ("metadata/12.snapshot.json", ["monitor", "coordinator"], ["KG", "SD"], []),
    ("metadata/12.targets.json", ["monitor", "coordinator"], ["KG", "SD"], []),
    ("metadata/12.policy-KG.json", ["monitor", "coordinator"], ["KG", "SD"], []),
    ("metadata/12.monitors-KG.json", ["coordinator"], ["KG", "KG-O", "XB-FERGANA", "*"], ["SD", "KZ", "nowhere", ""]),
    ("metadata/12.monitors-KG-O.json", ["coordinator"], ["KG", "KG-O", "*"], ["KG-B", "SD"]),
    ("metadata/12.monitors-QQ.json", ["coordinator"], [], ["KG", "QQ", "*"]),
    ("targets/abc.policy.json", ["monitor", "coordinator"], ["KG", "SD"], []),
    ("targets/abc.offices.json", ["monitor", "coordinator"], ["KG", "SD"], []),
    ("targets/policy/abc.KG.json", ["monitor", "coordinator"], ["KG", "SD"], []),
    ("targets/abc.connections.json", ["coordinator"], [], ["KG", "*"]),
    ("targets/monitors/abc.KG.json", ["coordinator"], ["KG", "KG-O", "*"], ["SD", "nowhere"]),
    ("targets/monitors/abc.QQ.json", ["coordinator"], [], ["KG", "QQ", "*"]),
]


@pytest.mark.parametrize(("path", "roles", "offices", "blind"), SEEN, ids=[row[0] for row in SEEN])
def test_who_may_be_served_what(path: str, roles: Sequence[str], offices: Sequence[str], blind: Sequence[str]) -> None:
    for role in ("monitor", "coordinator", "joiner", "hub", ""):
        assert metadata.visible(path, role, ("KG", "*"), AREAS) == (role in roles), role
    for area in offices:
        assert metadata.visible(path, "office", (area,), AREAS), area
    for area in blind:
        assert not metadata.visible(path, "office", (area,), AREAS), area
    assert metadata.visible(path, "office", (), AREAS) == (set(offices) == {"KG", "SD"})


def test_a_monitor_is_served_all_it_needs_and_no_monitors_list(first: Files, tmp_path: Path) -> None:
    served = {path: data for path, data in first.items() if metadata.visible(path, "monitor", (), AREAS)}
    assert {path for path in first if path not in served} == {
        path for path in first if "monitors" in path or "connections" in path
    }
    assert TrustStore(tmp_path, first[ROOT]).refresh(served.get, "monitor", NOW).version == 1


def test_the_digests_told_are_those_of_the_documents_in_force(first: Files, second: Files) -> None:
    for files in (first, second):
        for path, digest in metadata.document_digests(files).items():
            folder, slash, name = path.rpartition("/")
            data = files[f"targets/{folder}{slash}{digest.hex()}.{name}"]
            assert hashlib.sha256(data).digest() == digest
            assert json.loads(data) == metadata.document_of(files, path)


def test_what_a_version_was_made_of_is_found_among_files_of_several(first: Files, second: Files) -> None:
    stored = {**first, **second}
    for version, files in ((1, first), (2, second)):
        found = metadata.as_of(stored, version)
        assert metadata.document_digests(found) == metadata.document_digests(files)
        assert metadata.document_of(found, "policy.json")["version"] == version
    assert metadata.as_of(stored, 3) == {}
    lists = [path for path in first if path.endswith("1.targets.json")]
    assert metadata.as_of({path: data for path, data in stored.items() if path not in lists}, 1) == {}


NESTED = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(["signed", "signatures", "_type", "version"]), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=100) | NESTED.map(dumps))
def test_garbage_has_no_version(data: bytes) -> None:
    with pytest.raises(Malformed):
        metadata.metadata_version(data)


def test_metadata_has_the_version_that_stands_in_it(second: Files) -> None:
    assert metadata.metadata_version(second["metadata/2.targets.json"]) == 2
    assert metadata.metadata_version(second[ROOT]) == 1
