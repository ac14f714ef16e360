"""What newcomers come with: groups are read as they are written; what is no list of groups is told where it is none."""

from __future__ import annotations

import argparse

import pytest

from kengele_node.coordinator.settling import groups_of, read_groups
from kengele_schemas.errors import Malformed


def test_groups_are_read() -> None:
    text = b"groups:\n  un: [office:unrcca, 'office:unowas']\n  none: []\n"
    assert read_groups(text) == {"un": ["office:unrcca", "office:unowas"], "none": []}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "Line 1, column 1"),
        (b"[]", "not a file of groups"),
        (b"un: [office:unrcca]", "not a file of groups"),
        (b"groups: [un]", "not a file of groups"),
        (b"groups: {un: office:unrcca}", "not a file of groups"),
        (b"groups: {un: [[office:unrcca]]}", "not a file of groups"),
        (b"groups:\n  un: [office:a]\n  un: [office:b]\n", "Line 3, column 3: this name stands twice"),
        (b"groups:\n  a: &a [office:a]\n  b: *a\n", "Line 2, column 6: anchors and aliases"),
    ],
)
def test_what_is_no_file_of_groups_is_told(text: bytes, said: str) -> None:
    with pytest.raises(Malformed, match=said) as caught:
        read_groups(text)
    assert caught.value.code == "bad-offices"


def test_offices_are_put_into_groups_by_name() -> None:
    args = argparse.Namespace(group=["unrcca=un", "unrcca=regional", "council=local"])
    assert groups_of(args) == {"unrcca": ["un", "regional"], "council": ["local"]}
    with pytest.raises(Malformed, match="OFFICE=GROUP"):
        groups_of(argparse.Namespace(group=["unrcca"]))
