"""Offices by name only: a list gives its groups their members, and without one each name stands for itself."""

from __future__ import annotations

from typing import Any

import pytest

from kengele_schemas.errors import Malformed
from kengele_schemas.listing import listed, named


def test_a_list_gives_groups_their_active_members() -> None:
    offices = listed(
        {
            "offices": [{"id": "aa", "name": "A", "areas": ["KG"]}, {"id": "bb", "status": "suspended"}],
            "groups": {"un": ["office:aa", "office:bb"], "all": ["group:un"]},
        }
    )
    assert offices.members("group:all") == {"aa", "bb"}
    assert offices.active == ("aa",)


def test_without_a_list_each_name_stands_for_itself_alone() -> None:
    offices = named(["office:un", "group:un", "group:gov"])
    assert offices.active == ("group:gov", "group:un", "un")
    assert offices.members("group:un") == {"group:un"}
    assert offices.members("office:un") == {"un"}


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"groups": {}},
        {"offices": [{"name": "A"}]},
        {"offices": [{"id": "A"}]},
        {"offices": [{"id": "aa"}, {"id": "aa"}]},
        {"offices": [{"id": "aa"}], "groups": {"gg": ["office:bb"]}},
        {"offices": [{"id": "aa"}], "groups": {"gg": ["group:gg"]}},
    ],
)
def test_what_is_no_list_is_refused(document: Any) -> None:
    with pytest.raises(Malformed):
        listed(document)
