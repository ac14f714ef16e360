"""Leaves of every kind: one spelling each, and a replay of all changes comes to what is in force."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_schemas.encoding import b64u, canonical, dumps, loads
from kengele_schemas.errors import KengeleError, Malformed
from kengele_schemas.leaves import (
    Issue,
    NarrowedLeaf,
    SharedLeaf,
    TrustLeaf,
    changes,
    members,
    read_entry,
    replay,
    trust_leaves,
)
from kengele_schemas.receipt import Leaf
from kengele_schemas.tiles import MAX_ENTRY
from kengele_testing.values import documents, grant, monitor, office

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SALT = b64u(bytes(16))
DIGEST = b64u(bytes(32))
ISSUE = Issue(2, bytes(32), {"targets": 2}, {"policy.json": bytes(32)})
BASE = documents(grant())
MONITOR = BASE["monitors/KG.json"]["monitors"][0]["kid"]
DECISIONS = (("unrcca", 6, 121, ("grant",)),)
REPORT = Leaf(salt=SALT, digest=DIGEST, bytes=DIGEST, policy=1, at="2026-11-24T12:00:00Z", decisions=DECISIONS)
NARROWED = NarrowedLeaf(salt=SALT, digest=DIGEST, policy=2, at="2026-11-24T12:00:00Z", decisions=DECISIONS)

SHARED = SharedLeaf(
    salt=SALT, digest=DIGEST, bytes=DIGEST, policy=2, at="2026-11-24T12:00:00Z", by="author", decisions=DECISIONS
)


def made(before: Any, after: Any, issue: Issue = ISSUE) -> list[TrustLeaf]:
    return trust_leaves(issue, before, after, at=NOW, salt=bytes)


TRUST = made({}, BASE)[0]


@pytest.mark.parametrize("leaf", [REPORT, NARROWED, SHARED, TRUST])
def test_a_leaf_of_each_kind_is_read_back(leaf: Any) -> None:
    assert read_entry(leaf.canonical()) == leaf


@pytest.mark.parametrize(
    ("sentence", "data", "code"),
    [
        ("nothing", b"", "malformed"),
        ("no object", b"[]", "unknown-kind"),
        ("no kind", b"{}", "unknown-kind"),
        (
            "a kind that is not known",
            canonical({**loads(REPORT.canonical(), max_bytes=9999), "kind": "x"}),
            "unknown-kind",
        ),
        ("a kind that is no text", b'{"kind":["report"]}', "unknown-kind"),
        ("another order", dumps(dict(reversed(loads(REPORT.canonical(), max_bytes=9999).items()))), "malformed"),
        ("a blank", REPORT.canonical().replace(b",", b", ", 1), "malformed"),
        ("a member too many", canonical({**loads(TRUST.canonical(), max_bytes=9999), "name": "A. B."}), "bad-field"),
        ("a member missing", canonical({"v": 1, "kind": "narrowed"}), "bad-field"),
    ],
)
def test_nothing_else_is_a_leaf(sentence: str, data: bytes, code: str) -> None:
    with pytest.raises(Malformed) as caught:
        read_entry(data)
    assert caught.value.code == code


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    try:
        assert read_entry(data).canonical() == data
    except KengeleError:
        return


def changed(path: str, **fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(BASE), path: {**BASE[path], **fields}}


OFFICES = BASE["offices.json"]["offices"]
CONNECTION = {"nkey": "U" * 56, "role": "coordinator", "member": "c-" + "a" * 26}


@pytest.mark.parametrize(
    ("sentence", "after", "expected"),
    [
        ("nothing", BASE, []),
        (
            "an office comes",
            changed("offices.json", offices=[*OFFICES, {**office("cso"), "id": "new"}]),
            [("office", "new", "added")],
        ),
        ("an office goes", changed("offices.json", offices=OFFICES[1:]), [("office", "council", "removed")]),
        (
            "its keys",
            changed("offices.json", offices=[{**OFFICES[0], "keys": office("cso")["keys"]}, *OFFICES[1:]]),
            [("office", "council", "changed")],
        ),
        (
            "it is suspended",
            changed("offices.json", offices=[{**OFFICES[0], "status": "suspended"}, *OFFICES[1:]]),
            [("office", "council", "suspended")],
        ),
        (
            "a group",
            changed("offices.json", groups={"un": ["office:unoca"]}),
            [("group", "government", "removed"), ("group", "un", "changed")],
        ),
        (
            "a monitor is revoked",
            changed("monitors/KG.json", monitors=[monitor(status="revoked")]),
            [("monitor", MONITOR, "revoked")],
        ),
        (
            "a monitor's areas",
            changed("monitors/KG.json", monitors=[monitor(areas=["KG-O"])]),
            [("monitor", MONITOR, "changed")],
        ),
        (
            "a coordinator",
            changed("connections.json", connections=[CONNECTION]),
            [("coordinator", CONNECTION["member"], "added")],
        ),
        (
            "a rule comes, one goes",
            changed("policy.json", version=2, rules=[grant("other")]),
            [("rule", "grant", "removed"), ("rule", "other", "added")],
        ),
        (
            "a rule's reason",
            changed("policy.json", version=2, rules=[grant(reason="another")]),
            [("rule", "grant", "changed")],
        ),
        (
            "a rule of a region",
            {**BASE, "policy/KG.json": {"v": 1, "version": 1, "rules": [grant("local")]}},
            [("rule", "local", "added")],
        ),
        ("the name of the network", changed("network.json", name="Other"), []),
    ],
)
def test_a_change_is_told_by_ids(sentence: str, after: dict[str, Any], expected: list[tuple[str, str, str]]) -> None:
    assert sorted(changes(BASE, after)) == sorted(expected)
    standing = members(BASE)
    for leaf in made(BASE, after):
        replay(standing, leaf)
    assert standing == members(after)


def test_the_first_version_adds_all_there_is() -> None:
    standing: dict[Any, str] = {}
    replay(standing, TRUST)
    assert standing == members(BASE)
    assert standing["monitor", MONITOR] == "active"
    assert standing["rule", "grant"] == "active"


def test_who_comes_suspended_stands_so_after_a_replay() -> None:
    after = changed("monitors/KG.json", monitors=[monitor(status="suspended")])
    standing: dict[Any, str] = {}
    for leaf in made({}, after):
        replay(standing, leaf)
    assert standing == members(after)


@pytest.mark.parametrize("how", ["added", "removed", "changed", "revoked"])
def test_a_change_that_does_not_follow_is_noticed(how: str) -> None:
    there = how == "added"
    standing: dict[Any, str] = {("office", "x"): "active"} if there else {}
    with pytest.raises(Malformed) as caught:
        replay(standing, TRUST.model_copy(update={"changes": (("office", "x", how),)}))
    assert caught.value.code == "not-in-sequence"


def test_no_name_of_anyone_stands_in_a_trust_leaf() -> None:
    after = changed("offices.json", offices=[{**OFFICES[0], "name": "canary-7f3a"}, *OFFICES[1:]])
    rules = changed("policy.json", rules=[grant(reason="canary-7f3a")])
    for leaf in [*made(BASE, after), *made({}, after), *made(BASE, rules)]:
        assert b"canary" not in leaf.canonical()


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 599, 600, 601, 20_000])
def test_many_changes_stand_in_parts_that_each_fit_an_entry(count: int) -> None:
    rules = [{"id": f"rule-{number:050}"} for number in range(count)]
    after = {**BASE, "policy.json": {**BASE["policy.json"], "rules": rules}}
    empty = {**BASE, "policy.json": {**BASE["policy.json"], "rules": []}}
    paths = {f"monitors/KG-{number:010}.json": bytes(32) for number in range(512)}
    leaves = made(empty, after, Issue(2, bytes(32), {"targets": 2}, paths))
    assert [(leaf.part, leaf.parts) for leaf in leaves] == [(n, len(leaves)) for n in range(1, len(leaves) + 1)]
    assert sum(len(leaf.changes) for leaf in leaves) == count
    assert [len(leaf.documents) for leaf in leaves] == [512] + [0] * (len(leaves) - 1)
    assert all(len(leaf.canonical()) <= MAX_ENTRY for leaf in leaves)
    assert all(read_entry(leaf.canonical()) == leaf for leaf in leaves)
