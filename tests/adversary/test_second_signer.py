"""What a second coordinator is shown: of each field of each document that changes, the value before and after.

The fields are found in the models themselves, so a field that is added later is not forgotten here: it has to be given
another value below, and a word in which it is told.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, get_args

import pytest
from nacl.signing import SigningKey

from kengele_node.coordinator.describing import describe
from kengele_schemas import areas, orders, policy, roster
from kengele_schemas.areas import AreaRow, AreasFile
from kengele_schemas.encoding import b64u, unb64u
from kengele_schemas.fields import Model, read
from kengele_schemas.keys import fingerprint, monitor_id
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.orders import Order, RecallsFile
from kengele_schemas.policy import Assertion, PolicyFile, Rule
from kengele_schemas.roster import (
    AreaConnection,
    AreaConnectionsFile,
    Connection,
    ConnectionsFile,
    Monitor,
    MonitorsFile,
    Network,
    Office,
    OfficeKey,
    OfficesFile,
    Revoked,
)
from kengele_testing.values import KEYS

ONE, OTHER_KEY, THIRD = (b64u(bytes(SigningKey(letter * 32).verify_key)) for letter in (b"1", b"2", b"3"))
FIRST, SECOND = (monitor_id(unb64u(key)) for key in (ONE, OTHER_KEY))
LINE, OTHER_LINE = (KeyPair.generate("user").public for _ in range(2))
SAID, OTHER_SAID = "s" * 85 + "A", "t" * 85 + "A"
MARK, OTHER_MARK = b64u(b"m" * 32), b64u(b"n" * 32)
OPENS, OPENS_TOO = (KEYS[id].public.document() for id in ("cso", "unoca"))
LINES = [{"nkey": LINE, "role": "monitor", "member": FIRST}]
ASKED = [{**LINES[0], "asked": SAID}]
OUT = [{"nkey": LINE, "at": 1_000_000_000}]
RULE = {
    "id": "one",
    "grant": ["account"],
    "to": ["office:cso"],
    "areas": ["KG-B"],
    "categories": ["rumour"],
    "min_severity": 2,
    "max_severity": 4,
    "tlp_up_to": "AMBER",
    "tlp_from": "GREEN",
    "expires": "2027-01-02",
    "reason": "Memorandum",
}
POLICY = {
    "v": 1,
    "version": 7,
    "refuse_below": 3,
    "rules": [RULE, {"id": "two", "forbid": ["media"], "to": ["group:un"], "reason": "Safeguard"}],
    "assertions": [
        {
            "always": "no office:cso may open source",
            "areas": ["KG-B"],
            "categories": ["rumour"],
            "tlp_up_to": "AMBER",
            "tlp_from": "GREEN",
        }
    ],
}
DOCUMENTS: Final[dict[str, tuple[type[Model], dict[str, Any]]]] = {
    "network.json": (
        Network,
        {
            "v": 1,
            "name": "Bell",
            "hub_key": ONE,
            "log": "bell/log",
            "custodian": "cso",
            "header_level": 2,
            "max_future_days": 3,
            "reports_per_hour": 44,
            "widening_threshold": 5,
        },
    ),
    "offices.json": (
        OfficesFile,
        {
            "v": 1,
            "offices": [
                {
                    "id": "cso",
                    "name": "Council",
                    "areas": ["KG-B"],
                    "keys": [OPENS | {"not_before": "2026-03-01", "not_after": "2027-03-01"}],
                    "sign": ONE,
                    "status": "suspended",
                    "vouched": SAID,
                    "replaced": "2026-05-05",
                }
            ],
            "groups": {"un": ["office:cso"]},
        },
    ),
    "monitors/KG.json": (
        MonitorsFile,
        {
            "v": 1,
            "area": "KG",
            "monitors": [
                {
                    "kid": FIRST,
                    "key": ONE,
                    "areas": ["KG-B"],
                    "not_before": "2026-03-01",
                    "not_after": "2027-03-01",
                    "status": "suspended",
                    "after": SECOND,
                    "handover": SAID,
                }
            ],
        },
    ),
    "connections.json": (ConnectionsFile, {"v": 1, "connections": LINES, "revoked": OUT}),
    "connections/KG.json": (AreaConnectionsFile, {"v": 1, "area": "KG", "connections": ASKED, "revoked": OUT}),
    "recalls.json": (
        RecallsFile,
        {"v": 1, "recalls": [{"mark": MARK, "keep": ["account", "summary"], "reason": "consent"}]},
    ),
    "areas.json": (
        AreasFile,
        {
            "v": 1,
            "areas": [
                {
                    "code": "XB-ONE",
                    "name": "One",
                    "kind": "cluster",
                    "parents": ["KG-B"],
                    "valid_from": "2026-03-01",
                    "valid_to": "2027-03-01",
                    "replaced_by": ["KG-C"],
                    "names": ["Uno"],
                }
            ],
        },
    ),
    "policy.json": (PolicyFile, POLICY),
    "policy/KG.json": (PolicyFile, POLICY),
}

# Another valid value of each field, and the word by which it is told.
OTHERS: Final[dict[tuple[type[Model], str], tuple[Any, str]]] = {
    (Network, "name"): ("Chime", "name"),
    (Network, "hub_key"): (OTHER_KEY, "hub's signing key"),
    (Network, "log"): ("chime/log", "log"),
    (Network, "custodian"): ("unoca", "custodian"),
    (Network, "header_level"): (0, "level of areas"),
    (Network, "max_future_days"): (9, "days"),
    (Network, "reports_per_hour"): (77, "reports an hour"),
    (Network, "widening_threshold"): (8, "signatures for a widening"),
    (Office, "id"): ("unoca", "Office"),
    (Office, "name"): ("Board", "name"),
    (Office, "areas"): (["KG-C", "KG-B"], "areas"),
    (Office, "sign"): (OTHER_KEY, "signing key"),
    (Office, "status"): ("revoked", "is revoked for good"),
    (Office, "vouched"): (OTHER_SAID, "signature under its keys"),
    (Office, "replaced"): ("2026-06-06", "replaced"),
    (OfficeKey, "key"): (OPENS_TOO["key"], "opening keys"),
    (OfficeKey, "suite"): ("other-suite", "opening keys"),
    (OfficeKey, "not_before"): ("2026-04-01", "opening keys"),
    (OfficeKey, "not_after"): ("2027-04-01", "opening keys"),
    (OfficesFile, "groups"): ({"un": ["office:unoca"]}, "Group un"),
    (MonitorsFile, "area"): ("TJ", "area"),
    (Monitor, "kid"): (monitor_id(unb64u(THIRD)), "Monitor"),
    (Monitor, "key"): (THIRD, "signing key"),
    (Monitor, "areas"): (["KG-C"], "areas"),
    (Monitor, "not_before"): ("2026-04-01", "first day"),
    (Monitor, "not_after"): ("2027-04-01", "last day"),
    (Monitor, "status"): ("active", "is restored"),
    (Monitor, "after"): (monitor_id(unb64u(THIRD)), "name before"),
    (Monitor, "handover"): (OTHER_SAID, "former key's signature"),
    (Connection, "nkey"): (OTHER_LINE, "Key"),
    (Connection, "role"): ("coordinator", "is now that of"),
    (Connection, "member"): (SECOND, "is now that of"),
    (AreaConnection, "nkey"): (OTHER_LINE, "Key"),
    (AreaConnection, "member"): (SECOND, "is now that of"),
    (AreaConnection, "asked"): (OTHER_SAID, "who asked by signature"),
    (AreaConnectionsFile, "area"): ("TJ", "area"),
    (Revoked, "nkey"): (OTHER_LINE, "kept out"),
    (Revoked, "at"): (1_100_000_000, "kept out"),
    (Order, "mark"): (OTHER_MARK, "recall"),
    (Order, "keep"): (["place"], "may stay"),
    (Order, "reason"): ("safety", "Reason"),
    (AreaRow, "code"): ("XB-TWO", "Area"),
    (AreaRow, "name"): ("Two", "name"),
    (AreaRow, "kind"): ("region", "level"),
    (AreaRow, "parents"): (["KG-C", "TJ"], "parents"),
    (AreaRow, "valid_from"): ("2026-04-01", "first day"),
    (AreaRow, "valid_to"): ("2027-04-01", "last day"),
    (AreaRow, "replaced_by"): (["KG-D"], "what replaces it"),
    (AreaRow, "names"): (["Dos"], "further names"),
    (PolicyFile, "version"): (8, "version"),
    (PolicyFile, "refuse_below"): (5, "sealed under a version below"),
    (Rule, "id"): ("third", "Rule"),
    (Rule, "grant"): (["people", "account"], "grant"),
    (Rule, "forbid"): (["place"], "forbid"),
    (Rule, "to"): (["office:unoca"], "those it is for"),
    (Rule, "areas"): (["KG-C"], "areas"),
    (Rule, "categories"): (["abduction"], "categories"),
    (Rule, "min_severity"): (3, "min_severity"),
    (Rule, "max_severity"): (5, "max_severity"),
    (Rule, "tlp_up_to"): ("RED", "tlp_up_to"),
    (Rule, "tlp_from"): ("CLEAR", "tlp_from"),
    (Rule, "expires"): ("2027-02-02", "expires"),
    (Rule, "reason"): ("Convenience", "reason"),
    (Assertion, "always"): ("no office:unoca may open people", "It must stay so"),
    (Assertion, "areas"): (["KG-C"], "It must stay so"),
    (Assertion, "categories"): (["abduction"], "It must stay so"),
    (Assertion, "tlp_up_to"): ("RED", "It must stay so"),
    (Assertion, "tlp_from"): ("CLEAR", "It must stay so"),
}
CONSTANT: Final = {(model, "v") for model, _ in DOCUMENTS.values()} | {(AreaConnection, "role")}
"""Fields that have one value."""
APART: Final = {(model, name) for model, name in OTHERS if name in ("id", "kid", "code", "nkey", "mark")} | {
    (Assertion, name) for name in Assertion.model_fields
}
"""What is known by these fields is another once they change: one goes and another comes, each in a line of its own."""
TIMES: Final = {1_000_000_000: "2001-09-09T01:46:40Z", 1_100_000_000: "2004-11-09T11:33:20Z"}


@dataclass(frozen=True)
class Leaf:
    """A field of a document, and the place where it stands."""

    path: str
    model: type[Model]
    place: tuple[str | int, ...]

    def __str__(self) -> str:
        return f"{self.path}:{'.'.join(map(str, self.place))}"

    @property
    def name(self) -> str:
        return str(self.place[-1])

    @property
    def field(self) -> tuple[type[Model], str]:
        return self.model, self.name

    def within(self, document: Any) -> Any:
        at: Any = document
        for step in self.place[:-1]:
            at = at[step]
        return at


def models_in(annotation: Any) -> list[type[Model]]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return [annotation]
    return [found for one in get_args(annotation) for found in models_in(one)]


def leaves(path: str, model: type[Model], value: Any, place: tuple[str | int, ...] = ()) -> Iterator[Leaf]:
    for name, info in model.model_fields.items():
        nested = models_in(info.annotation)
        if nested:
            for at, row in enumerate(value[name]):
                yield from leaves(path, nested[0], row, (*place, name, at))
        elif name in value:
            yield Leaf(path, model, (*place, name))


FOUND: Final = [leaf for path, (model, value) in DOCUMENTS.items() for leaf in leaves(path, model, value)]
CHANGING: Final = [leaf for leaf in FOUND if leaf.field not in CONSTANT]


def atoms(leaf: Leaf, value: Any) -> list[str]:
    """What must stand in the text where ``value`` is told."""
    if isinstance(value, dict):
        return [one for ids in value.values() for one in ids]
    if leaf.name in ("key", "sign", "hub_key", "vouched", "handover"):
        return [fingerprint(unb64u(value))]
    if leaf.name == "at":
        return [TIMES[value]]
    return list(map(str, value)) if isinstance(value, list) else [str(value)]


def tells(line: str, told: list[str]) -> bool:
    return all(re.search(rf"(?<![\w-]){re.escape(one)}(?![\w-])", line) for one in told)


def changed(leaf: Leaf) -> tuple[dict[str, Any], dict[str, Any], Any, Any]:
    model, before = DOCUMENTS[leaf.path]
    after = copy.deepcopy(before)
    was, now = leaf.within(before)[leaf.name], OTHERS[leaf.field][0]
    leaf.within(after)[leaf.name] = now
    assert was != now
    if leaf.field != (OfficeKey, "suite"):  # there are too few whose keys look alike
        read(model, before)
        read(model, after)
    return before, after, was, now


def test_no_document_and_no_field_is_forgotten_here() -> None:
    modules = (areas, orders, policy, roster)
    files = {one for module in modules for name, one in vars(module).items() if re.fullmatch(r"\w+File|Network", name)}
    assert {model for model, _ in DOCUMENTS.values()} == files
    assert {leaf.field for leaf in CHANGING} == set(OTHERS)
    seen = {leaf.field for leaf in FOUND}
    for model in {model for model, _ in seen}:
        missing = {name for name in model.model_fields if (model, name) not in seen}
        assert all(models_in(model.model_fields[name].annotation) for name in missing), model


@pytest.mark.parametrize("leaf", CHANGING, ids=str)
def test_a_coordinator_cannot_change_a_field_that_the_second_is_not_told_with_both_values(leaf: Leaf) -> None:
    before, after, was, now = changed(leaf)
    told = describe({leaf.path: before}, {leaf.path: after})
    word = OTHERS[leaf.field][1]
    if leaf.field in APART:
        text = "\n".join(told)
        assert word in text
        assert any(tells(line, atoms(leaf, was)) for line in told)
        assert any(tells(line, atoms(leaf, now)) for line in told)
    else:
        assert any(word in line and tells(line, [*atoms(leaf, was), *atoms(leaf, now)]) for line in told), told


@pytest.mark.parametrize("leaf", [leaf for leaf in CHANGING if not leaf.model.model_fields[leaf.name].is_required()],
                         ids=str)  # fmt: skip
def test_nor_take_a_field_away(leaf: Leaf) -> None:
    _, before = DOCUMENTS[leaf.path]
    after = copy.deepcopy(before)
    was = leaf.within(after).pop(leaf.name)
    if leaf.field in ((Rule, "grant"), (Rule, "forbid")):  # a rule has just one of the two
        leaf.within(after)["forbid" if leaf.name == "grant" else "grant"] = ["source"]
    for one, other in ((before, after), (after, before)):
        told = describe({leaf.path: one}, {leaf.path: other})
        assert any(tells(line, atoms(leaf, was)) for line in told), told


@pytest.mark.parametrize("leaf", [leaf for leaf in CHANGING if len(leaf.place) > 1 or leaf.model is Network], ids=str)
def test_nor_let_in_or_take_out_what_is_not_told_in_full(leaf: Leaf) -> None:
    _, after, _, now = changed(leaf)
    if now == leaf.model.model_fields[leaf.name].default:
        return  # that is so of whatever says nothing
    without: dict[str, Any] = {}
    if leaf.model is not Network:
        without = {**after, str(leaf.place[0]): []}
        gone = describe({leaf.path: after}, {leaf.path: without})
        assert any(tells(line, atoms(leaf, now)) for line in gone), gone
    comes = describe({leaf.path: without}, {leaf.path: after})
    assert any(tells(line, atoms(leaf, now)) for line in comes), comes


def test_a_founder_cannot_hide_an_area_of_her_own_making_among_the_worlds() -> None:
    rows = areas.Areas.world().subset(["KG-B"]).model_dump(mode="json", exclude_none=True)["areas"]
    assert describe({}, {"areas.json": {"v": 1, "areas": rows}}) == [f"areas.json is new, with {len(rows)} areas."]
    bent = [row | ({"parents": ["TJ"]} if row["code"] == "KG-B" else {}) for row in rows]
    own = {"code": "XB-OWN", "name": "Own", "kind": "cluster", "parents": ["KG-B"]}
    told = describe({}, {"areas.json": {"v": 1, "areas": [*bent, own]}})[1:]
    assert [line.partition(":")[0] for line in told] == ["Area KG-B", "Area XB-OWN"]
    assert "parents TJ" in told[0]


def test_who_comes_into_a_group_and_who_goes_is_told() -> None:
    before, after = ({"offices": [], "groups": {"un": [f"office:{id}" for id in ids]}} for ids in ("ab", "bc"))
    assert describe({"offices.json": before}, {"offices.json": after}) == [
        "Group un: is now office:b, office:c. It was office:a, office:b. Comes: office:c. Goes: office:a."
    ]


def test_no_name_passes_for_the_rest_of_its_sentence() -> None:
    office = DOCUMENTS["offices.json"][1]["offices"][0]
    lying = office | {"name": 'Council"; for KG; opens with nobody. Office unoca: goes'}
    (line,) = describe({"offices.json": {"offices": [office]}}, {"offices.json": {"offices": [lying]}})
    assert line == (
        r'Office cso: name changes from "Council" to "Council\"; for KG; opens with nobody. Office unoca: goes".'
    )
