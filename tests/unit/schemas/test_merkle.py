"""The log's tree against RFC 9162 read literally: every true proof holds, and nothing else is taken for one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_schemas.errors import Untrusted
from kengele_schemas.merkle import EMPTY, MAX_PROOF, Tree, leaf_hash, verify_consistency, verify_inclusion

# The eight entries that Certificate Transparency's implementations test with, and the root after each.
ENTRIES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
SMALL = 40
LARGE = 600


def split(count: int) -> int:
    power = 1
    while power * 2 < count:
        power *= 2
    return power


def tree_hash(entries: Sequence[bytes]) -> bytes:
    """MTH of RFC 9162 §2.1.1."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\0" + entries[0]).digest()
    k = split(len(entries))
    return hashlib.sha256(b"\1" + tree_hash(entries[:k]) + tree_hash(entries[k:])).digest()


def audit_path(m: int, entries: Sequence[bytes]) -> list[bytes]:
    """PATH of §2.1.3.1."""
    if len(entries) == 1:
        return []
    k = split(len(entries))
    if m < k:
        return [*audit_path(m, entries[:k]), tree_hash(entries[k:])]
    return [*audit_path(m - k, entries[k:]), tree_hash(entries[:k])]


def subproof(m: int, entries: Sequence[bytes], whole: bool = True) -> list[bytes]:
    """SUBPROOF of §2.1.4.1; with ``whole`` it is PROOF."""
    if m == len(entries):
        return [] if whole else [tree_hash(entries)]
    k = split(len(entries))
    if m <= k:
        return [*subproof(m, entries[:k], whole), tree_hash(entries[k:])]
    return [*subproof(m - k, entries[k:], False), tree_hash(entries[:k])]


def entries_of(count: int, seed: bytes = b"") -> list[bytes]:
    return [seed + number.to_bytes(4, "big") for number in range(count)]


def grown(entries: Sequence[bytes]) -> Tree:
    tree = Tree()
    for entry in entries:
        tree.append(leaf_hash(entry))
    return tree


BIG_ENTRIES = entries_of(LARGE)
BIG = grown(BIG_ENTRIES)
ROOT_AT = [BIG.root(size) for size in range(LARGE + 1)]


def included(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    try:
        verify_inclusion(leaf, index, size, path, root)
    except Untrusted:
        return False
    return True


def consistent(old: int, new: int, path: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    try:
        verify_consistency(old, new, path, old_root, new_root)
    except Untrusted:
        return False
    return True


def flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def test_the_roots_are_those_that_are_published() -> None:
    tree = Tree()
    assert tree.root().hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for number, (entry, root) in enumerate(zip(ENTRIES, ROOTS, strict=True)):
        assert tree.append(leaf_hash(bytes.fromhex(entry))) == number
        assert tree.root().hex() == root
    assert tree.size == 8


def test_a_grown_tree_still_knows_its_earlier_roots() -> None:
    tree = grown([bytes.fromhex(entry) for entry in ENTRIES])
    assert [tree.root(size).hex() for size in range(1, 9)] == ROOTS
    assert tree.root(0) == EMPTY


@pytest.mark.parametrize("size", range(1, SMALL + 1))
def test_roots_and_proofs_are_those_of_the_rfc_read_literally(size: int) -> None:
    entries = BIG_ENTRIES[:size]
    assert BIG.root(size) == tree_hash(entries)
    for index in range(size):
        assert BIG.inclusion(index, size) == audit_path(index, entries)
    for old in range(1, size + 1):
        assert BIG.consistency(old, size) == subproof(old, entries)
    assert BIG.consistency(0, size) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=130), st.data())
def test_every_true_proof_of_any_tree_holds(entries: list[bytes], data: st.DataObject) -> None:
    tree = grown(entries)
    size = data.draw(st.integers(1, len(entries)))
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(0, size))
    path, proof = audit_path(index, entries[:size]), subproof(old, entries[:size]) if old else []
    assert (tree.inclusion(index, size), tree.consistency(old, size)) == (path, proof)
    verify_inclusion(leaf_hash(entries[index]), index, size, path, tree_hash(entries[:size]))
    verify_consistency(old, size, proof, tree_hash(entries[:old]), tree_hash(entries[:size]))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, LARGE), st.data())
def test_a_proof_of_inclusion_with_anything_changed_does_not_hold(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    leaf, path, root = leaf_hash(BIG_ENTRIES[index]), BIG.inclusion(index, size), ROOT_AT[size]
    assert included(leaf, index, size, path, root)
    at, bit = data.draw(st.integers(0, 31)), data.draw(st.integers(0, 7))
    assert not included(flipped(leaf, at, bit), index, size, path, root)
    assert not included(leaf, index, size, path, flipped(root, at, bit))
    assert not included(leaf, index, size, [*path, root], root)
    other = data.draw(st.integers(-2, LARGE).filter(lambda number: number != index))
    assert not included(leaf, other, size, path, root)
    if path:
        step = data.draw(st.integers(0, len(path) - 1))
        changed = [*path]
        changed[step] = flipped(path[step], at, bit)
        assert not included(leaf, index, size, changed, root)
        changed[step] = path[step][:at]
        assert not included(leaf, index, size, changed, root)
        assert not included(leaf, index, size, path[:step] + path[step + 1 :], root)
        assert not included(leaf, index, size, [*path[:step], root, *path[step:]], root)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, LARGE), st.integers(1, LARGE), st.data())
def test_a_proof_of_inclusion_holds_under_the_root_of_its_own_size_only(
    size: int, other: int, data: st.DataObject
) -> None:
    # A size alone is not bound by a path: sizes 3 and 4 have paths of one shape. Size and root come signed together.
    index = data.draw(st.integers(0, size - 1))
    leaf, path = leaf_hash(BIG_ENTRIES[index]), BIG.inclusion(index, size)
    assert included(leaf, index, other, path, ROOT_AT[other]) == (other == size)


@pytest.mark.parametrize("size", [2, 3, 5, 8, 13, 64, 65])
@pytest.mark.parametrize("other", [1, 2, 3, 5, 8, 13, 64, 65])
def test_a_path_has_as_many_steps_as_its_size_asks_for(size: int, other: int) -> None:
    steps = {number: (number - 1).bit_length() for number in (size, other)}
    path, proof = BIG.inclusion(0, size), BIG.consistency(1, size)
    same = steps[size] == steps[other]
    assert included(leaf_hash(BIG_ENTRIES[0]), 0, other, path, ROOT_AT[size]) == same
    assert consistent(1, other, proof, ROOT_AT[1], ROOT_AT[size]) == same


def test_what_stands_above_the_root_is_not_climbed_to() -> None:
    above = hashlib.sha256(b"\1" + ROOT_AT[4] + ROOT_AT[3]).digest()
    assert not included(leaf_hash(BIG_ENTRIES[2]), 2, 3, [*BIG.inclusion(2, 3), ROOT_AT[4]], above)
    higher = hashlib.sha256(b"\1" + ROOT_AT[4] + ROOT_AT[5]).digest()
    assert not consistent(3, 5, [*BIG.consistency(3, 5), ROOT_AT[4]], above, higher)


def test_a_proof_that_does_not_hold_is_called_so() -> None:
    with pytest.raises(Untrusted) as caught:
        verify_inclusion(ROOT_AT[1], 0, 2, [], ROOT_AT[2])
    assert caught.value.code == "bad-proof"
    with pytest.raises(Untrusted) as caught:
        verify_consistency(1, 2, [], ROOT_AT[1], ROOT_AT[2])
    assert caught.value.code == "bad-proof"


@settings(max_examples=200, deadline=None)
@given(st.integers(2, LARGE), st.data())
def test_a_proof_of_consistency_with_anything_changed_does_not_hold(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, new - 1))
    path = BIG.consistency(old, new)
    assert consistent(old, new, path, ROOT_AT[old], ROOT_AT[new])
    at, bit = data.draw(st.integers(0, 31)), data.draw(st.integers(0, 7))
    assert not consistent(old, new, path, flipped(ROOT_AT[old], at, bit), ROOT_AT[new])
    assert not consistent(old, new, path, ROOT_AT[old], flipped(ROOT_AT[new], at, bit))
    assert not consistent(old, new, [*path, ROOT_AT[new]], ROOT_AT[old], ROOT_AT[new])
    step = data.draw(st.integers(0, len(path) - 1))
    changed = [*path]
    changed[step] = flipped(path[step], at, bit)
    assert not consistent(old, new, changed, ROOT_AT[old], ROOT_AT[new])
    assert not consistent(old, new, path[:step] + path[step + 1 :], ROOT_AT[old], ROOT_AT[new])
    assert not consistent(old, new, [*path[:step], path[step], *path[step:]], ROOT_AT[old], ROOT_AT[new])
    other = data.draw(st.integers(1, new).filter(lambda number: number != old))
    assert not consistent(other, new, path, ROOT_AT[other], ROOT_AT[new])
    later = data.draw(st.integers(old, LARGE).filter(lambda number: number != new))
    assert not consistent(old, later, path, ROOT_AT[old], ROOT_AT[later])


@pytest.mark.parametrize("changed", [0, 5, 11, 12, 20])
def test_a_log_that_rewrote_its_past_proves_no_consistency(changed: int) -> None:
    old, new = 12, 21
    entries = BIG_ENTRIES[:new]
    fork = grown([*entries[:changed], b"another", *entries[changed + 1 :]])
    for proof in (fork.consistency(old, new), BIG.consistency(old, new)):
        assert consistent(old, new, proof, ROOT_AT[old], fork.root(new)) == (
            changed >= old and proof == fork.consistency(old, new)
        )


@pytest.mark.parametrize(
    ("old", "new", "path", "old_root", "new_root", "holds"),
    [
        (0, 0, [], EMPTY, EMPTY, True),
        (0, 5, [], EMPTY, ROOT_AT[5], True),
        (5, 5, [], ROOT_AT[5], ROOT_AT[5], True),
        (5, 5, [], ROOT_AT[5], ROOT_AT[6], False),
        (0, 5, [], ROOT_AT[1], ROOT_AT[5], False),
        (0, 5, [ROOT_AT[5]], EMPTY, ROOT_AT[5], False),
        (5, 5, [ROOT_AT[5]], ROOT_AT[5], ROOT_AT[5], False),
        (6, 5, [], ROOT_AT[6], ROOT_AT[5], False),
        (-1, 5, [], EMPTY, ROOT_AT[5], False),
        # Sizes that cannot be, with hashes that would come out right if they were reckoned with.
        (6, 5, [*BIG.consistency(4, 6), ROOT_AT[4]], ROOT_AT[6], ROOT_AT[6], False),
        (-1, 2, [ROOT_AT[1], *BIG.consistency(1, 2)], ROOT_AT[1], ROOT_AT[2], False),
        (3, 5, [], ROOT_AT[3], ROOT_AT[5], False),
        (4, 5, [], ROOT_AT[4], ROOT_AT[5], False),
    ],
)
def test_the_edges_of_consistency(
    old: int, new: int, path: list[bytes], old_root: bytes, new_root: bytes, holds: bool
) -> None:
    assert consistent(old, new, path, old_root, new_root) == holds


def test_the_edges_of_inclusion() -> None:
    leaf = leaf_hash(BIG_ENTRIES[0])
    assert included(leaf, 0, 1, [], leaf)
    for index, size, path in [(0, 0, []), (1, 1, []), (-1, 1, []), (0, 1, [leaf]), (0, 2, []), (0, -1, [])]:
        assert not included(leaf, index, size, path, leaf), (index, size)


@pytest.mark.parametrize("length", [MAX_PROOF, MAX_PROOF + 1, 100_000])
@pytest.mark.parametrize("size", [2, 2**62, 2**200])
def test_a_proof_of_any_length_ends_in_a_refusal(length: int, size: int) -> None:
    path = [bytes(32)] * length
    assert not included(bytes(32), 1, size, path, bytes(32))
    assert not consistent(1, size, path, bytes(32), bytes(32))


def test_a_proof_is_as_long_as_that_of_the_largest_tree_there_can_be_and_no_longer() -> None:
    for length in (MAX_PROOF, MAX_PROOF + 1):
        first = leaf_hash(b"the first of many")
        last, root, path = first, first, [bytes([number]) * 32 for number in range(length)]
        for step in path:
            last = hashlib.sha256(b"\1" + step + last).digest()
            root = hashlib.sha256(b"\1" + root + step).digest()
        size = 2**length
        assert included(first, size - 1, size, path, last) == (length == MAX_PROOF)
        assert included(first, 0, size, path, root) == (length == MAX_PROOF)
        assert consistent(1, size, path, first, root) == (length == MAX_PROOF)


@pytest.mark.parametrize(
    "ask",
    [
        lambda tree: tree.root(6),
        lambda tree: tree.root(-1),
        lambda tree: tree.inclusion(5),
        lambda tree: tree.inclusion(-1),
        lambda tree: tree.inclusion(3, 3),
        lambda tree: tree.inclusion(0, 0),
        lambda tree: tree.inclusion(0, 6),
        lambda tree: tree.consistency(6),
        lambda tree: tree.consistency(-1),
        lambda tree: tree.consistency(4, 3),
        lambda tree: tree.consistency(1, 6),
    ],
)
def test_a_tree_proves_nothing_beyond_its_leaves(ask: Callable[[Tree], object]) -> None:
    with pytest.raises(ValueError, match=r"no such leaf|not that large|older tree"):
        ask(grown(BIG_ENTRIES[:5]))
