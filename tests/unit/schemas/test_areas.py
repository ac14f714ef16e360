"""Areas: a rule covers what lies in its area, however codes change, and no name leads to the wrong place."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_schemas.areas import EVERYWHERE, Areas, AreasFile, unpack
from kengele_schemas.errors import Malformed
from kengele_schemas.fields import BadField, read

WORLD = Areas.world()
CODES = [row.code for row in WORLD]
LEVELS = {"country": 0, "admin1": 1, "admin2": 2}


def graph(parents: Mapping[str, str], replaced: Mapping[str, str] | None = None, **kinds: str) -> Areas:
    """Areas by code and the codes they lie in, separated by spaces; ``replaced`` likewise."""
    replaced = replaced or {}
    rows = [
        {
            "code": code,
            "name": code,
            "kind": kinds.get(code, "office-area"),
            "parents": above.split(),
            "replaced_by": replaced.get(code, "").split(),
        }
        for code, above in parents.items()
    ]
    return Areas(read(AreasFile, {"areas": rows}))


NODES = [f"N{number}" for number in range(7)]
EDGES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.booleans()), max_size=10)


def of_edges(edges: list[tuple[int, int, bool]]) -> Areas:
    """Node *a* lies in node *b*, or took the place of it."""
    parents: dict[str, set[str]] = {node: set() for node in NODES}
    replaced: dict[str, set[str]] = {node: set() for node in NODES}
    for low, high, replaces in edges:
        if replaces:
            replaced[NODES[high]].add(NODES[low])
        else:
            parents[NODES[low]].add(NODES[high])
    joined = [{node: " ".join(sorted(found)) for node, found in table.items()} for table in (parents, replaced)]
    return graph(*joined)


def circular(edges: list[tuple[int, int, bool]]) -> bool:
    left = {(low, high) for low, high, _ in edges}
    while ends := {edge for edge in left if edge[1] not in {low for low, _ in left}}:
        left -= ends
    return bool(left)


@settings(max_examples=150, deadline=None)
@given(EDGES)
def test_a_circle_of_parents_and_replacements_is_refused_and_nothing_else_is(
    edges: list[tuple[int, int, bool]],
) -> None:
    if not circular(edges):
        of_edges(edges)
        return
    with pytest.raises(Malformed) as caught:
        of_edges(edges)
    assert caught.value.code == "bad-areas"


@settings(max_examples=150, deadline=None)
@given(EDGES.map(lambda edges: [(max(a, b), min(a, b), kind) for a, b, kind in edges if a != b]))
def test_what_covers_an_area_covers_all_that_lies_in_it_and_all_that_took_its_place(
    edges: list[tuple[int, int, bool]],
) -> None:
    areas = of_edges(edges)
    for low, high, _ in edges:
        assert areas.ancestors(NODES[high]) <= areas.ancestors(NODES[low])
    for node in NODES:
        assert areas.covers(node, node)
        assert areas.below(node) == {code for code in NODES if areas.covers(node, code)}
    if not any(replaces for *_, replaces in edges):
        for node in NODES:
            above = {node}
            for _ in NODES:
                above |= {NODES[high] for low, high, _ in edges if NODES[low] in above}
            assert areas.ancestors(node) == above


@pytest.mark.parametrize(
    ("said", "replaced", "rule", "code", "covered"),
    [
        ("a new code under a rule on the old one", {"OLD": "NEW"}, "OLD", "NEW", True),
        ("an old code under a rule on the new one", {"OLD": "NEW"}, "NEW", "OLD", True),
        ("a new code under what the old one lay in", {"OLD": "NEW"}, "TOP", "NEW", True),
        ("an old code under what the new one lies in", {"OLD": "NEW"}, "OTHER", "OLD", True),
        ("what lies in the new one under a rule on the old", {"OLD": "NEW"}, "OLD", "LOW", True),
        ("the newest code under a rule on the oldest", {"OLD": "NEW", "NEW": "TWO"}, "OLD", "TWO", True),
        ("the oldest code under a rule on the newest", {"OLD": "NEW", "NEW": "TWO"}, "TWO", "OLD", True),
        ("a part under a rule on the whole", {"OLD": "NEW TWO"}, "OLD", "NEW", True),
        ("the whole under a rule on a part", {"OLD": "NEW TWO"}, "NEW", "OLD", False),
        ("a part under a rule on another", {"OLD": "NEW TWO"}, "TWO", "NEW", False),
        ("the merged under a rule on one of them", {"OLD": "NEW", "TWO": "NEW"}, "TWO", "NEW", True),
        ("one of them under a rule on the merged", {"OLD": "NEW", "TWO": "NEW"}, "NEW", "OLD", True),
        ("one of them under a rule on another", {"OLD": "NEW", "TWO": "NEW"}, "TWO", "OLD", False),
        ("an area under a rule on one below it", {}, "LOW", "NEW", False),
        ("a neighbour", {}, "TWO", "NEW", False),
    ],
)
def test_a_rule_goes_on_working_when_codes_change(
    said: str, replaced: dict[str, str], rule: str, code: str, covered: bool
) -> None:
    areas = graph({"TOP": "", "OTHER": "", "OLD": "TOP", "NEW": "OTHER", "TWO": "", "LOW": "NEW"}, replaced)
    assert areas.covers(rule, code) is covered, said


def test_of_an_unknown_code_only_a_rule_on_everywhere_speaks() -> None:
    areas = graph({"TOP": "", "LOW": "TOP"})
    assert areas.covers(EVERYWHERE, "NOWHERE")
    for rule in ("TOP", "NOWHERE", "", "top"):
        assert not areas.covers(rule, "NOWHERE"), rule
    assert not areas.covers("NOWHERE", "LOW")
    assert "NOWHERE" not in areas
    for lookup in (areas.row, areas.ancestors, areas.below, areas.country_of):
        with pytest.raises(KeyError):
            lookup("NOWHERE")


@pytest.mark.parametrize(
    ("said", "rows"),
    [
        ("a code twice", [{"code": "AA"}, {"code": "AA"}]),
        ("a parent that is not there", [{"code": "AA", "parents": ["BB"]}]),
        ("a replacement that is not there", [{"code": "AA", "replaced_by": ["BB"]}]),
        ("an area in itself", [{"code": "AA", "parents": ["AA"]}]),
        ("an area in place of itself", [{"code": "AA", "replaced_by": ["AA"]}]),
        ("a circle", [{"code": "AA", "parents": ["BB"]}, {"code": "BB", "parents": ["AA"]}]),
        (
            "a circle by replacement",
            [
                {"code": "AA", "parents": ["BB"]},
                {"code": "BB", "replaced_by": ["AA"]},
                {"code": "CC", "parents": ["AA"]},
                {"code": "DD", "replaced_by": ["DD"]},
            ],
        ),
    ],
)
def test_a_table_that_leads_nowhere_or_round_is_refused(said: str, rows: list[dict[str, Any]]) -> None:
    document = read(AreasFile, {"areas": [{"name": "x", "kind": "region", **row} for row in rows]})
    with pytest.raises(Malformed) as caught:
        Areas(document)
    assert caught.value.code == "bad-areas", said
    assert caught.value.mend


def test_a_long_chain_of_areas_is_followed_to_its_end() -> None:
    chain = {f"A{number}": f"A{number - 1}" if number else "" for number in range(3000)}
    assert len(graph(chain).ancestors("A2999")) == 3000


def test_a_code_is_in_use_from_its_first_day_to_its_last() -> None:
    row = {"code": "AA", "name": "x", "kind": "region", "valid_from": "2020-01-01", "valid_to": "2020-12-31"}
    areas = Areas(read(AreasFile, {"areas": [row, {"code": "BB", "name": "x", "kind": "region"}]}))
    days = [date(2019, 12, 31), date(2020, 1, 1), date(2020, 12, 31), date(2021, 1, 1)]
    assert [areas.current("AA", day) for day in days] == [False, True, True, False]
    assert [areas.current("BB", day) for day in days] == [True] * 4
    assert not areas.current("CC", days[1])
    with pytest.raises(BadField):
        read(AreasFile, {"areas": [{**row, "valid_to": "2020"}]})


FINE = graph(
    {"CO": "", "C2": "", "GR": "", "A1": "CO GR", "B1": "CO GR", "S1": "A1", "D2": "A1", "E2": "A1 B1", "VA": "A1 B1"}
    | {"XX": "A1 C2"},
    **{"CO": "country", "C2": "country", "GR": "cluster", "VA": "cluster", "XX": "cluster"},
    **{"A1": "admin1", "B1": "admin1", "S1": "admin1", "D2": "admin2", "E2": "admin2"},
)


@pytest.mark.parametrize(
    ("said", "code", "coarse"),
    [
        ("a country stays", "CO", ("CO", "CO", "CO")),
        ("a unit goes to its country", "A1", ("CO", "A1", "A1")),
        ("a unit within a unit is no finer than a unit", "S1", ("CO", "S1", "S1")),
        ("a district goes to its unit", "D2", ("CO", "A1", "D2")),
        ("a district in two units goes to their country", "E2", ("CO", "CO", "E2")),
        ("a valley in two units goes to their country", "VA", ("CO", "CO", "CO")),
        ("a group of units stays", "GR", ("GR", "GR", "GR")),
    ],
)
def test_the_hub_is_told_no_finer_area_than_the_network_says(said: str, code: str, coarse: tuple[str, ...]) -> None:
    assert tuple(FINE.coarsen(code, level) for level in (0, 1, 2)) == coarse, said


def test_an_area_of_two_countries_is_of_neither() -> None:
    assert [FINE.country_of(code) for code in ("CO", "D2", "GR", "XX")] == ["CO", "CO", None, None]


def test_coarser_areas_of_the_whole_world_cover_and_are_no_finer() -> None:
    for row in WORLD:
        for level in (0, 1, 2):
            found = WORLD.coarsen(row.code, level)
            assert WORLD.covers(found, row.code), row.code
            assert row.kind not in LEVELS or LEVELS[WORLD.row(found).kind] <= level, row.code


def test_the_packaged_world_is_whole() -> None:
    assert len(WORLD) == len(set(CODES)) > 5000
    kinds = {kind: sum(row.kind == kind for row in WORLD) for kind in ("country", "admin1", "world")}
    assert kinds["world"] == 1
    assert kinds["country"] > 240
    for row in WORLD:
        assert row.kind not in ("admin1", "admin2") or WORLD.country_of(row.code), row.code
        assert row.kind != "country" or WORLD.covers("001", row.code), row.code
    assert Areas.world() is WORLD


@pytest.mark.parametrize(
    ("group", "countries"),
    [
        ("OA-UNRCCA", "KG KZ TJ TM UZ"),
        ("OA-UNOCA", "AO BI CD CF CG CM GA GQ RW ST TD"),
        ("OA-UNOWAS", "BF BJ CI CV GH GM GN GW LR ML MR NE NG SL SN TG"),
        ("REC-ECOWAS", "BF BJ CI CV GH GM GN GW LR ML NE NG SL SN TG"),
        ("REC-ECOWAS-I", "CV GM GW SN"),
        ("REC-ECOWAS-II", "BF CI ML NE"),
        ("REC-ECOWAS-III", "GH GN LR SL"),
        ("REC-ECOWAS-IV", "BJ NG TG"),
        ("REC-IGAD", "DJ ER ET KE SD SO SS UG"),
        ("XB-KARAMOJA", ""),
        ("XB-FERGANA", ""),
    ],
)
def test_an_office_watches_the_countries_of_its_mandate(group: str, countries: str) -> None:
    found = {code for code in WORLD.below(group) if WORLD.row(code).kind == "country"}
    assert found == set(countries.split())


def test_a_cluster_over_borders_holds_units_of_each_country_and_is_none_of_them() -> None:
    for cluster, countries in (("XB-KARAMOJA", "ET KE SS UG"), ("XB-FERGANA", "KG TJ UZ")):
        units = WORLD.below(cluster) - {cluster}
        assert {WORLD.country_of(code) for code in units} == set(countries.split())
        assert WORLD.country_of(cluster) is None
        assert WORLD.coarsen(cluster, 0) == cluster


@pytest.mark.parametrize(
    ("country", "unit", "code"),
    [
        ("Sudan", "North Darfur state", "SD-DN"),
        ("SUDAN", "north  darfur", "SD-DN"),
        ("Nigeria", "Borno State", "NG-BO"),
        ("Ivory Coast", "", "CI"),
        ("Cote d’Ivoire", "", "CI"),
        ("Kyrgyzstan", "Osh City", "KG-GO"),
        ("Kyrgyzstan", "Osh", None),
        ("Sudan", "North Darfu", None),
        ("Sudan", "Borno", None),
        ("Atlantis", "Borno", None),
        ("Atlantis", "", None),
        ("", "", None),
        ("", "Borno", None),
        ("Africa", "", None),
    ],
)
def test_a_name_finds_its_area_or_none_and_never_the_nearest(country: str, unit: str, code: str | None) -> None:
    assert WORLD.find(country, unit) == code


def test_a_name_that_two_units_bear_finds_neither_and_an_old_one_stands_back() -> None:
    twice = graph({"CO": "", "A1": "CO", "B1": "CO"}, CO="country", A1="admin1", B1="admin1")
    rows = [row.model_copy(update={"name": "Same"}) if row.kind == "admin1" else row for row in twice]
    assert Areas(AreasFile(areas=tuple(rows))).find("CO", "Same") is None
    rows[1] = rows[1].model_copy(update={"replaced_by": ("B1",)})
    assert Areas(AreasFile(areas=tuple(rows))).find("CO", "Same") == "B1"


@settings(max_examples=20, deadline=None)
@given(st.text(max_size=80), st.text(max_size=80))
def test_no_name_however_odd_stops_the_search(country: str, unit: str) -> None:
    assert WORLD.find(country, unit) in {None, *CODES}
    assert set(WORLD.suggest(unit)) <= set(CODES)
    assert len(WORLD.suggest(unit, 2)) <= 2


@pytest.mark.parametrize(("written", "code"), [("KG-0", "KG-O"), ("kg-o", "KG-O"), ("Karamoja", "XB-KARAMOJA")])
def test_a_near_miss_of_a_code_or_a_name_is_told_what_was_meant(written: str, code: str) -> None:
    assert code in WORLD.suggest(written)
    assert WORLD.suggest(written.ljust(64) + "x" * 100_000) == WORLD.suggest(written)


def test_what_is_like_no_area_is_told_what_a_known_one_looks_like() -> None:
    few = Areas(WORLD.subset(["KG-O"]))
    assert "KG-O (" in few.hint("KG-0")
    said = few.hint("Nowhere at all")
    assert "KG (Kyrgyzstan)" in said
    assert not said.startswith("Perhaps")


SPLIT = [row.code for row in WORLD if len(row.replaced_by) > 1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(CODES) | st.sampled_from(SPLIT), min_size=1, max_size=4))
def test_a_network_with_a_part_of_the_world_decides_as_with_the_whole(codes: list[str]) -> None:
    part = Areas(WORLD.subset(codes))
    for row in part:
        assert part.ancestors(row.code) == WORLD.ancestors(row.code), row.code
    for code in codes:
        assert part.row(code) == WORLD.row(code)


def test_a_part_of_a_code_that_was_split_does_not_pass_for_the_whole_where_the_others_were_left_out() -> None:
    whole = next(code for code in SPLIT if WORLD.country_of(code) == "LU")
    part = WORLD.row(whole).replaced_by[0]
    assert not WORLD.covers(part, whole)
    assert not Areas(WORLD.subset([part])).covers(part, whole)


def test_what_the_table_leaves_out_because_it_repeats_is_put_back() -> None:
    packed = {
        "v": 1,
        "areas": [{"code": "CO", "name": "Country", "kind": "country"}, {"code": "XX", "name": "X", "kind": "cluster"}],
        "units": {"admin1": {"CO": {"A1": "Unit", "B1": "Other"}}},
        "also": {"XX": ["A1"]},
        "names": {"A1": ["Old name"]},
        "replaced": {"Z1": ["A1"]},
    }
    areas = Areas(unpack(packed))
    assert areas.ancestors("A1") == {"A1", "Z1", "CO", "XX"}
    assert (areas.row("A1").names, areas.row("B1").parents) == (("Old name",), ("CO",))
    assert areas.find("Country", "Old name") == areas.find("country", "unit") == "A1"
