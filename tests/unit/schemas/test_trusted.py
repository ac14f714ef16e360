"""Documents as one set: they fit each other, or are no set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from kengele_schemas.encoding import dumps
from kengele_schemas.errors import Malformed
from kengele_schemas.trusted import Trusted, assemble
from kengele_testing.countries import KIDS, RULE, documents, listed, office, policy
from kengele_testing.trust import NOW, Paper


def assembled(changed: Mapping[str, Any], base: Mapping[str, Any]) -> Trusted:
    texts = {path: dumps(value) for path, value in {**base, **changed}.items()}
    return assemble(texts, version=1, fresh=True, expires=NOW)


@pytest.fixture(scope="module")
def base(paper: Paper) -> dict[str, Any]:
    return documents(paper)


UNFIT: list[tuple[str, dict[str, Any], str]] = [
    ("a regional list of another area's name", {"monitors/KG.json": listed("KZ")}, "foreign-area"),
    ("a regional list of a larger area", {"monitors/KG.json": {**listed("KG"), "area": "143"}}, "foreign-area"),
    ("a monitor of a foreign area", {"monitors/KZ.json": listed("KZ", "SD-KH")}, "foreign-area"),
    ("a monitor of an area above", {"monitors/KG-O.json": listed("KG-O", "KZ")}, "foreign-area"),
    ("a list of an area that there is not", {"monitors/QQ.json": listed("QQ")}, "foreign-area"),
    ("a regional rule on a foreign area", {"policy/KZ.json": policy({**RULE, "id": "x"})}, "foreign-area"),
    (
        "a regional rule on all there is",
        {"policy/KG.json": policy({**RULE, "id": "x", "areas": ["*"]})},
        "foreign-area",
    ),
    ("a monitor in two lists", {"monitors/KG-O.json": listed("KG-O", "KG-O")}, "bad-monitor"),
    ("a rule's id in two files", {"policy/KG.json": policy(RULE)}, "bad-rule"),
    ("a rule for an office that is not there", {"policy.json": policy({**RULE, "to": ["office:unrccb"]})}, "bad-rule"),
    ("a rule on an area that is not there", {"policy.json": policy({**RULE, "areas": ["QQ"]})}, "bad-rule"),
    ("a document of an unknown kind", {"people/KG.json": {}}, "malformed"),
    ("a list that is none", {"monitors/KG.json": []}, "bad-field"),
    ("rules that are none", {"policy.json": {"v": 1}}, "bad-field"),
    (
        "areas that hold each other",
        {
            "areas.json": {
                "v": 1,
                "areas": [
                    {"code": "AA", "name": "A", "kind": "country", "parents": ["BB"]},
                    {"code": "BB", "name": "B", "kind": "country", "parents": ["AA"]},
                ],
            }
        },
        "bad-areas",
    ),
    ("an office twice", {"offices.json": {"v": 1, "offices": [office("unrcca", "KG")] * 2}}, "bad-offices"),
    (
        "no custodian",
        {"offices.json": {"v": 1, "offices": [office("desk", "KG")]}, "policy.json": policy()},
        "bad-offices",
    ),
]


@pytest.mark.parametrize(("_sentence", "changed", "code"), UNFIT, ids=[row[0] for row in UNFIT])
def test_documents_that_do_not_fit_each_other_are_refused(
    _sentence: str, changed: dict[str, Any], code: str, base: dict[str, Any]
) -> None:
    assert assembled({}, base).monitors.keys() == set(KIDS.values())
    with pytest.raises(Malformed) as caught:
        assembled(changed, base)
    assert caught.value.code == code


def test_a_network_without_offices_needs_no_custodian_yet(base: dict[str, Any]) -> None:
    bare = {path: base[path] for path in ("network.json", "areas.json")}
    found = assembled({"offices.json": {"v": 1, "offices": []}, "policy.json": policy()}, bare)
    assert found.offices.active == ()
    assert found.connections is None


def test_a_monitor_whose_name_is_not_its_keys_is_refused(base: dict[str, Any]) -> None:
    wrong = listed("KG", "KG-O")
    wrong["monitors"][0]["kid"] = KIDS["KZ"]
    with pytest.raises(Malformed) as caught:
        assembled({"monitors/KG.json": wrong}, base)
    assert caught.value.code == "bad-monitor"
