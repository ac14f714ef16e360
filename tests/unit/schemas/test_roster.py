"""The roster: groups name offices that exist, keys and standings end, and a regional list keeps to its region."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from nacl.signing import SigningKey

from kengele_schemas.encoding import b64u
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.fields import BadField, read
from kengele_schemas.keys import HYBRID, X25519, OpeningKey, monitor_id
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.policy import PolicyFile, Rule
from kengele_schemas.roster import (
    ConnectionsFile,
    Monitor,
    MonitorsFile,
    Network,
    Offices,
    OfficesFile,
    check_monitors,
    check_regional_policy,
)
from oracle.worlds import AREAS, TODAY, offices_file

KEY = bytes(SigningKey.generate().verify_key)
SMALL_ORDER = b64u(bytes.fromhex("0100000000000000000000000000000000000000000000000000000000000000"))


def offices(groups: dict[str, list[str]]) -> Offices:
    return Offices(offices_file({"aa": "active", "bb": "suspended", "cc": "revoked", "dd": "active"}, groups))


def monitor(**fields: object) -> Monitor:
    document: dict[str, object] = {
        "kid": monitor_id(KEY),
        "key": b64u(KEY),
        "areas": ["NORTH"],
        "not_before": "2026-01-01",
        "not_after": "2026-12-31",
    }
    return read(Monitor, document | fields)


def test_groups_may_hold_groups() -> None:
    found = offices({"one": ["office:aa", "group:two"], "two": ["office:bb", "group:three"], "three": ["office:dd"]})
    assert found.members("group:one") == {"aa", "bb", "dd"}
    assert found.members("office:cc") == {"cc"}


def test_a_group_may_be_held_twice() -> None:
    found = offices({"top": ["group:left", "group:right"], "left": ["group:low"], "right": ["group:low"], "low": []})
    assert found.members("group:top") == frozenset()


@pytest.mark.parametrize(
    ("groups", "sentence", "mend"),
    [
        ({"one": ["group:two"], "two": ["group:three"], "three": ["group:one"]}, "holds itself", ""),
        ({"one": ["group:one"]}, "holds itself", ""),
        ({"one": ["office:ab"]}, "does not exist", "office:aa"),
        ({"regional": [], "one": ["group:regionall"]}, "does not exist", "group:regional"),
        ({"one": ["group:zzz"], "zz": []}, "does not exist", "group:zz"),
    ],
)
def test_groups_that_cannot_be_told_are_refused(groups: dict[str, list[str]], sentence: str, mend: str) -> None:
    with pytest.raises(Malformed, match=sentence) as caught:
        offices(groups)
    assert caught.value.code == "bad-offices"
    assert mend in caught.value.mend


def test_an_office_has_one_entry() -> None:
    document = offices_file({"aa": "active"}, {})
    with pytest.raises(Malformed, match="occurs twice"):
        Offices(document.model_copy(update={"offices": document.offices * 2}))


def test_only_active_offices_are_given_reports() -> None:
    found = offices({})
    assert found.active == ("aa", "dd")
    assert found.get("bb") is not None
    assert found.get("zz") is None
    with pytest.raises(KeyError):
        found.members("office:zz")


def test_the_first_key_that_still_holds_is_sealed_for() -> None:
    keys = [OpeningKey.generate(HYBRID).public, OpeningKey.generate(X25519).public]
    document = offices_file({"aa": "active"}, {}).model_dump(mode="json", exclude_none=True)
    document["offices"][0]["keys"] = [
        keys[0].document() | {"not_after": "2026-11-30"},
        keys[1].document() | {"not_after": "2027-01-31"},
    ]
    found = Offices(read(OfficesFile, document))
    assert found.public("aa", date(2026, 11, 30)) == keys[0]
    assert found.public("aa", date(2026, 12, 1)) == keys[1]
    assert found.public("aa", date(2027, 2, 1)) is None
    assert found.public("zz", TODAY) is None


def test_a_key_is_sealed_for_from_its_first_day_to_its_last() -> None:
    keys = [OpeningKey.generate(X25519).public for _ in range(3)]
    document = offices_file({"aa": "active"}, {}).model_dump(mode="json", exclude_none=True)
    document["offices"][0]["keys"] = [
        keys[2].document() | {"not_before": "2026-12-07"},
        keys[1].document() | {"not_before": "2026-11-30", "not_after": "2026-12-06"},
        keys[0].document() | {"not_before": "2026-11-23", "not_after": "2026-11-29"},
    ]
    found = Offices(read(OfficesFile, document))
    for day, key in (("11-23", 0), ("11-29", 0), ("11-30", 1), ("12-06", 1), ("12-07", 2)):
        assert found.public("aa", date.fromisoformat(f"2026-{day}")) == keys[key], day
    assert found.public("aa", date(2036, 1, 1)) == keys[2], "the last goes on until another follows"
    assert found.public("aa", date(2026, 1, 1)) == keys[0], "a clock that is slow keeps no report in"


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ({"suite": "X448", "key": b64u(bytes(32))}, "offices[0].keys[0]"),
        ({"suite": "X25519", "key": b64u(bytes(31))}, "offices[0].keys[0]"),
        ({"suite": "X25519", "key": "x" * 2049}, "offices[0].keys[0].key"),
    ],
)
def test_a_key_that_is_none_is_refused(key: dict[str, Any], path: str) -> None:
    document = offices_file({"aa": "active"}, {}).model_dump(mode="json", exclude_none=True)
    document["offices"][0]["keys"] = [key]
    with pytest.raises(BadField) as caught:
        read(OfficesFile, document)
    assert caught.value.paths[0] == path


def test_a_key_that_verifies_what_nobody_signed_is_refused() -> None:
    with pytest.raises(BadField, match="'key' is not a signing key"):
        monitor(key=SMALL_ORDER)
    with pytest.raises(BadField, match="'hub_key' is not a signing key"):
        read(Network, {"name": "N", "hub_key": SMALL_ORDER, "log": "log.example/1", "custodian": "aa"})


@pytest.mark.parametrize(
    ("fields", "area", "today", "code"),
    [
        ({}, "AA-1", TODAY, None),
        ({}, "NORTH", date(2026, 1, 1), None),
        ({}, "NORTH", date(2026, 12, 31), None),
        ({}, "NORTH", date(2025, 12, 31), "key-expired"),
        ({}, "NORTH", date(2027, 1, 1), "key-expired"),
        ({}, "CC-1", TODAY, "out-of-scope"),
        ({}, "WORLD", TODAY, "out-of-scope"),
        ({}, "ELSEWHERE", TODAY, "out-of-scope"),
        ({"areas": ["SOUTH", "RIVER"]}, "AA-2", TODAY, None),
        ({"status": "suspended"}, "AA-1", TODAY, "monitor-suspended"),
        ({"status": "revoked"}, "CC-1", date(2027, 1, 1), "monitor-revoked"),
    ],
)
def test_a_monitor_reports_from_her_areas_in_her_time(
    fields: dict[str, object], area: str, today: date, code: str | None
) -> None:
    if code is None:
        monitor(**fields).standing(area, today, AREAS)
        return
    with pytest.raises(Refused) as caught:
        monitor(**fields).standing(area, today, AREAS)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("listed", "area", "own", "code"),
    [
        ("NORTH", "NORTH", ["NORTH"], None),
        ("NORTH", "NORTH", ["AA-1", "CC-2-X"], None),
        ("NORTH", "NORTH", ["AA-1", "CC-1"], "foreign-area"),
        ("NORTH", "NORTH", ["WORLD"], "foreign-area"),
        ("NORTH", "NORTH", ["NOWHERE"], "foreign-area"),
        ("SOUTH", "NORTH", ["AA-1"], "foreign-area"),
        ("NOWHERE", "NOWHERE", ["NOWHERE"], "foreign-area"),
    ],
)
def test_a_regional_list_of_monitors_keeps_to_its_area(
    listed: str, area: str, own: list[str], code: str | None
) -> None:
    document = MonitorsFile(area=listed, monitors=(monitor(areas=own),))
    if code is None:
        check_monitors(document, area, AREAS)
        return
    with pytest.raises(Malformed) as caught:
        check_monitors(document, area, AREAS)
    assert caught.value.code == code


def test_a_monitor_is_called_after_her_key() -> None:
    other = monitor_id(bytes(SigningKey.generate().verify_key))
    with pytest.raises(Malformed) as caught:
        check_monitors(MonitorsFile(area="NORTH", monitors=(monitor(kid=other),)), "NORTH", AREAS)
    assert caught.value.code == "bad-monitor"


@pytest.mark.parametrize(
    ("own", "foreign"),
    [(["NORTH"], False), (["AA", "CC-2-X"], False), (["CC"], True), (["AA", "WORLD"], True), (["*"], True)],
)
def test_a_regional_policy_keeps_to_its_area(own: list[str], foreign: bool) -> None:
    rule = read(Rule, {"id": "f", "forbid": ["place"], "to": ["office:aa"], "areas": own, "reason": "test"})
    policy = PolicyFile(version=1, rules=(rule,))
    if not foreign:
        check_regional_policy(policy, "NORTH", AREAS)
        return
    with pytest.raises(Malformed) as caught:
        check_regional_policy(policy, "NORTH", AREAS)
    assert caught.value.code == "foreign-area"


def test_connections_are_keys_of_users() -> None:
    user, account = KeyPair.generate("user").public, KeyPair.generate("account").public
    entry = {"nkey": user, "role": "monitor", "member": monitor_id(KEY)}
    assert read(ConnectionsFile, {"connections": [entry]}).connections[0].nkey == user
    with pytest.raises(BadField) as caught:
        read(ConnectionsFile, {"connections": [entry | {"nkey": account}]})
    assert caught.value.paths == ("connections[0].nkey",)
