"""What concerns whom: an office is told of the areas from which reports may come to it, and of no others."""

from __future__ import annotations

import pytest

from kengele_schemas.concern import concern, overlap
from kengele_schemas.fields import read as read_model
from kengele_schemas.policy import PolicyFile
from kengele_schemas.roster import Offices, OfficesFile
from kengele_testing.countries import WORLD, documents
from kengele_testing.trust import Paper


@pytest.mark.parametrize(
    ("area", "own", "touches"),
    [
        ("KG", ["KG"], True),
        ("KG", ["KG-O"], True),
        ("KG-O", ["KG"], True),
        ("KG", ["*"], True),
        ("KG", ["SD", "KG-B"], True),
        ("KG", ["XB-FERGANA"], True),
        ("KG-O", ["KG-B"], False),
        ("KG", ["SD"], False),
        ("KG", ["QQ"], False),
        ("KG", [], False),
        ("QQ", ["*"], False),
        ("QQ", ["QQ"], False),
    ],
)
def test_areas_touch_where_one_report_may_lie_in_both(area: str, own: list[str], touches: bool) -> None:
    assert overlap(area, own, WORLD) == touches


def test_an_office_is_concerned_by_its_own_areas_and_by_grants_but_not_by_forbids() -> None:
    base = documents(Paper())
    offices = Offices(read_model(OfficesFile, base["offices.json"]))
    policies = [read_model(PolicyFile, base[path]) for path in ("policy.json", "policy/SD.json")]
    found = {
        name: concern(offices.document.offices[number], policies, offices)
        for number, name in enumerate(("unrcca", "unmis", "desk", "nobody"))
    }
    assert found == {"unrcca": ("KG",), "unmis": ("SD", "SD-KH"), "desk": ("KZ", "UZ"), "nobody": ("UZ",)}
