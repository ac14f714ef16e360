"""A witness takes what continues the log it saw, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_schemas.checkpoint import Checkpoint
from kengele_schemas.errors import Untrusted
from kengele_schemas.merkle import Tree, leaf_hash
from kengele_schemas.witness import witness

LOG = "kengele/test"


def tree_of(*entries: bytes) -> Tree:
    tree = Tree()
    for entry in entries:
        tree.append(leaf_hash(entry))
    return tree


ENTRIES = [b"%d" % number for number in range(40)]
TREE = tree_of(*ENTRIES)
REWRITTEN = tree_of(b"other", *ENTRIES[1:])
DROPPED = tree_of(*ENTRIES[:3], *ENTRIES[4:], b"40")
REORDERED = tree_of(ENTRIES[1], ENTRIES[0], *ENTRIES[2:])


def at(size: int, tree: Tree = TREE, origin: str = LOG) -> Checkpoint:
    return Checkpoint(origin, size, tree.root(size))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_the_same_log_is_taken_however_far_it_grew(one: int, other: int) -> None:
    old, new = sorted((one, other))
    witness(at(old), at(new), TREE.consistency(old, new))


def test_whoever_has_seen_nothing_takes_the_first_that_comes() -> None:
    witness(None, at(9), [])


@settings(max_examples=100, deadline=None)
@given(st.integers(5, 40), st.integers(5, 40), st.sampled_from([REWRITTEN, DROPPED, REORDERED]))
def test_another_log_is_refused_with_whatever_proof(one: int, other: int, tree: Tree) -> None:
    old, new = sorted((one, other))
    for proof in (tree.consistency(old, new), TREE.consistency(old, new), []):
        with pytest.raises(Untrusted) as caught:
            witness(at(old), at(new, tree), proof)
        assert caught.value.code == "log-forked"


@pytest.mark.parametrize(
    ("sentence", "last", "new", "proof", "code"),
    [
        ("fewer entries", at(9), at(8), TREE.consistency(8, 9), "log-rolled-back"),
        ("none at all", at(9), at(0), [], "log-rolled-back"),
        ("fewer of another log", at(9), at(8, REWRITTEN), [], "log-rolled-back"),
        ("as many, but others", at(9), at(9, REWRITTEN), [], "log-forked"),
        ("another log's name", at(9), at(9, origin="kengele/other"), [], "log-forked"),
        ("no proof", at(8), at(9), [], "log-forked"),
        ("a proof of other sizes", at(8), at(9), TREE.consistency(7, 9), "log-forked"),
        ("a proof with a hash too many", at(8), at(9), [*TREE.consistency(8, 9), bytes(32)], "log-forked"),
        ("a proof where none is needed", at(9), at(9), [bytes(32)], "log-forked"),
    ],
)
def test_refused(sentence: str, last: Checkpoint, new: Checkpoint, proof: list[bytes], code: str) -> None:
    with pytest.raises(Untrusted) as caught:
        witness(last, new, proof)
    assert caught.value.code == code
