"""Reports: what a person may write, what the header says of it, and that no error repeats a word of it."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_schemas import taxonomy
from kengele_schemas.compartments import REPORT_COMPARTMENTS
from kengele_schemas.encoding import b64u, dumps, loads
from kengele_schemas.fields import BadField
from kengele_schemas.keys import monitor_id
from kengele_schemas.report import (
    COMPARTMENT_MODELS,
    MAX_ACCOUNT,
    MAX_SUMMARY,
    Count,
    parse_compartment,
    parse_draft,
    parse_header,
)
from kengele_schemas.sealing import MAX_DISCLOSURE, disclosure
from kengele_schemas.tlp import LEVELS, strictest
from kengele_schemas.trusted import UNNAMED

KID = monitor_id(bytes(32))
ID, OTHER = b64u(bytes(16)), b64u(b"x" * 16)
DIGEST = b64u(bytes(32))
TEXT = {"text": "Talk of a fight.", "lang": "en"}
SMALL: dict[str, Any] = {"area": "KG-O", "categories": ["rumour"], "severity": 2, "day": "2026-03-01", "summary": TEXT}
FULL: dict[str, Any] = {
    **SMALL,
    "day_precision": 2,
    "tlp": "GREEN",
    "handling": {
        "caveats": [{"not_to": ["group:government", "office:un"], "compartments": ["people", "source"]}],
        "wishes": TEXT,
        "references": [{"rel": "disputes", "id": OTHER}],
    },
    "account": {**TEXT, "local_terms": [{"code": "rumour", "text": "ушак", "lang": "ky"}]},
    "place": {"area": "KG-O", "name": "Kara-Suu", "lat": 40.7, "lon": 72, "precision": 1},
    "people": {
        "actors": [{"name": "Young men", "role": "initiator", "group": "of the quarter"}],
        "affected": {"injured": {"best": 2, "low": 1, "high": 4}, "livestock": {"best": 0}},
    },
    "source": {"basis": "witness", "description": "A neighbour", "reliability": "B", "credibility": 2},
    "media": {"items": [{"digest": DIGEST, "key": DIGEST, "type": "image/jpeg", "size": 1, "caption": "The bazaar"}]},
}
HEADER: dict[str, Any] = {
    "v": 2,
    "net": UNNAMED,
    "id": ID,
    "kid": KID,
    "kind": "report",
    "area": "KG-O",
    "categories": ["rumour"],
    "severity": 2,
    "day": "2026-03-01",
    "day_precision": 1,
    "tlp": "AMBER+STRICT",
    "pol": 3,
}


def refused(value: object) -> BadField:
    with pytest.raises(BadField) as caught:
        parse_draft(value)
    return caught.value


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in ``value``, at every depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, part in items for found in [(*path, key), *places(part, (*path, key))]]


def with_put(value: Any, path: tuple[Any, ...], put: Any) -> Any:
    """A copy of ``value`` with ``put`` at ``path``."""
    if not path:
        return put
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = with_put(value[path[0]], path[1:], put)
    return copy


def test_a_short_report_is_marked_for_the_organisation_alone_and_says_nothing_it_does_not_know() -> None:
    report = parse_draft(SMALL)
    assert (report.tlp, report.day_precision) == ("AMBER+STRICT", 1)
    assert report.contents() == {"summary": TEXT}
    source = parse_compartment("source", {"basis": "rumour"}).model_dump()
    assert (source["reliability"], source["credibility"]) == ("F", 6)


def test_the_header_holds_what_routing_needs_in_the_order_of_the_wire_and_no_word_of_hers() -> None:
    claims = parse_draft(SMALL).header(net=UNNAMED, id=ID, kid=KID, pol=3).claims()
    assert list(claims.items()) == list(HEADER.items())
    full = parse_draft(FULL).header(net=UNNAMED, id=ID, kid=KID, pol=3, area="KG")
    assert full.claims() == {**HEADER, "area": "KG", "day_precision": 2, "tlp": "GREEN"}
    assert parse_header(full.claims()) == full


def test_every_compartment_is_read_back_as_it_was_written() -> None:
    report = parse_draft(FULL)
    contents = report.contents()
    assert tuple(contents) == REPORT_COMPARTMENTS
    for name, value in contents.items():
        assert value == FULL[name], name
        read = loads(dumps(value), max_bytes=MAX_DISCLOSURE, max_depth=9)
        assert parse_compartment(name, read) == getattr(report, name), name


@pytest.mark.parametrize(
    ("said", "changes", "path"),
    [
        ("no area", {"area": None}, "area"),
        ("an area that is a path", {"area": "../KG"}, "area"),
        ("no category", {"categories": []}, "categories"),
        ("six categories", {"categories": list(taxonomy.leaves()[:6])}, "categories"),
        ("a group of categories", {"categories": ["environmental-pressure"]}, "categories[0]"),
        ("every category", {"categories": ["*"]}, "categories[0]"),
        ("a category nobody knows", {"categories": ["rumour", "unrest"]}, "categories[1]"),
        ("one category as a text", {"categories": "rumour"}, "categories"),
        ("a category that is a number", {"categories": [1]}, "categories[0]"),
        ("no harm at all", {"severity": 0}, "severity"),
        ("more than the worst", {"severity": 6}, "severity"),
        ("a severity in words", {"severity": "2"}, "severity"),
        ("a severity that is true", {"severity": True}, "severity"),
        ("a day that there is not", {"day": "2026-02-30"}, "day"),
        ("a day to the second", {"day": "2026-03-01T10:00"}, "day"),
        ("a marking of another system", {"tlp": "SECRET"}, "tlp"),
        ("one good marking and one bad", {"tlp": ["RED", "PINK"]}, "tlp"),
        ("a marking that is a number", {"tlp": 5}, "tlp"),
        ("a marking that is nothing", {"tlp": None}, "tlp"),
        ("a name that is not known", {"names": ["x"]}, ""),
        ("an id of her own", {"id": ID}, ""),
        ("nothing that could be read", {"summary": None}, ""),
        ("handling and nothing else", {"summary": None, "handling": {"wishes": TEXT}}, ""),
    ],
)
def test_what_an_office_could_not_rest_on_is_refused_by_its_field(
    said: str, changes: dict[str, Any], path: str
) -> None:
    value = {name: part for name, part in (SMALL | changes).items() if part is not None or name == "tlp"}
    error = refused(value)
    assert error.paths == (path,), said
    assert error.mend, said


CAVEAT, ITEM = "handling.caveats[0]", "media.items[0]"
AGAINST = {"not_to": ["office:un"]}


@pytest.mark.parametrize(
    ("said", "path", "put"),
    [
        ("a summary of 281", "summary.text", "x" * 281),
        ("a summary in no language", "summary.lang", "english"),
        ("an account of 8001", "account.text", "x" * 8001),
        ("a local term over two lines", "account.local_terms[0].text", "a\nb"),
        ("a local term for a group", "account.local_terms[0].code", "peace"),
        ("a caveat against nobody", f"{CAVEAT}.not_to", []),
        ("a caveat against a monitor", f"{CAVEAT}.not_to[0]", "monitor:x"),
        ("a caveat that would take handling away", f"{CAVEAT}.compartments[0]", "handling"),
        ("a caveat on nothing", f"{CAVEAT}.compartments", []),
        ("a caveat that gives", CAVEAT, AGAINST | {"also_to": ["office:x"]}),
        ("a reference that recalls", "handling.references[0].rel", "recalls"),
        ("a place that is nowhere", "place", {}),
        ("a place that is a precision alone", "place", {"precision": 1}),
        ("one coordinate", "place", {"lat": 1.0, "precision": 1}),
        ("coordinates nobody can weigh", "place", {"lat": 1.0, "lon": 1.0}),
        ("beyond the pole", "place.lat", 90.1),
        ("beyond the date line", "place.lon", -180.1),
        ("a coordinate that is none", "place.lat", float("nan")),
        ("a precision of no grade", "place.precision", 8),
        ("fewer than none hurt", "people.affected.injured.best", -1),
        ("half a person", "people.affected.injured.best", 0.5),
        ("a range without a best guess", "people.affected.injured.best", None),
        ("a role nobody has", "people.actors[0].role", "suspect"),
        ("a source graded G", "source.reliability", "G"),
        ("a source graded 7", "source.credibility", 7),
        ("a source nobody tells", "source.basis", ""),
        ("media without an item", "media.items", []),
        ("a type that is markup", f"{ITEM}.type", "text/<b>"),
        ("a file of no bytes", f"{ITEM}.size", 0),
        ("a key of 31 bytes", f"{ITEM}.key", b64u(bytes(31))),
    ],
)
def test_what_a_reader_could_not_rest_on_is_refused_by_its_field(said: str, path: str, put: object) -> None:
    steps = [int(step) if step.isdigit() else step for step in path.replace("[", ".").replace("]", "").split(".")]
    error = refused(with_put(FULL, tuple(steps), put))
    assert error.paths == (path,), said
    assert error.mend, said


def test_a_near_miss_is_told_the_category_that_was_meant() -> None:
    assert "rumour" in refused(SMALL | {"categories": ["rumor"]}).mend
    assert refused(SMALL | {"categories": ["xyzzy"]}).mend == "Choose one of the taxonomy's leaves."


@settings(deadline=None)
@given(st.lists(st.sampled_from(taxonomy.leaves()), min_size=1, max_size=5))
def test_she_may_name_categories_in_any_order_and_twice(named: list[str]) -> None:
    header = parse_draft(SMALL | {"categories": named}).header(net=UNNAMED, id=ID, kid=KID, pol=0)
    assert header.categories == tuple(sorted(set(named)))


@settings(deadline=None)
@given(st.lists(st.sampled_from(LEVELS), min_size=1, max_size=4), st.sampled_from(["", "TLP:", "tlp:"]))
def test_of_her_markings_the_most_restrictive_holds(levels: list[Any], prefix: str) -> None:
    assert parse_draft(SMALL | {"tlp": [prefix + level for level in levels]}).tlp == strictest(levels)


@pytest.mark.parametrize(
    ("said", "changes", "path"),
    [
        ("another version", {"v": 1}, "v"),
        ("an id of 15 bytes", {"id": b64u(bytes(15))}, "id"),
        ("an id in a second spelling", {"id": ID[:-1] + "B"}, "id"),
        ("a name for an author", {"kid": "Aigul"}, "kid"),
        ("another kind", {"kind": "assessment"}, "kind"),
        ("categories out of order", {"categories": ["rumour", "arson"]}, "categories"),
        ("a category twice", {"categories": ["rumour", "rumour"]}, "categories"),
        ("a marking with its prefix", {"tlp": "TLP:AMBER"}, "tlp"),
        ("a marking of version 1", {"tlp": "WHITE"}, "tlp"),
        ("several markings", {"tlp": ["AMBER", "RED"]}, "tlp"),
        ("a day of no precision", {"day_precision": 0}, "day_precision"),
        ("a policy before the first", {"pol": -1}, "pol"),
        ("a policy that is a fraction", {"pol": 3.0}, "pol"),
        ("a policy that is true", {"pol": True}, "pol"),
        ("a policy beyond what two parsers agree on", {"pol": 2**53 + 1}, "pol"),
        ("whom she fears", {"caveats": []}, ""),
        ("what it refers to", {"references": []}, ""),
        ("a recall of nothing", {"kind": "recall"}, ""),
        ("a report that recalls", {"recalls": OTHER}, ""),
    ],
)
def test_a_header_has_one_form_and_no_other_claim(said: str, changes: dict[str, Any], path: str) -> None:
    assert parse_header(HEADER).claims() == HEADER
    with pytest.raises(BadField) as caught:
        parse_header(HEADER | changes)
    assert caught.value.paths == (path,), said


@pytest.mark.parametrize("name", HEADER)
def test_a_header_tells_all_that_the_hub_decides_by(name: str) -> None:
    left = {key: value for key, value in HEADER.items() if key != name}
    if name in ("v", "kind"):
        assert parse_header(left).claims() == HEADER
        return
    with pytest.raises(BadField) as caught:
        parse_header(left)
    assert caught.value.paths == (name,)


def test_a_recall_names_what_it_recalls() -> None:
    claims = HEADER | {"kind": "recall", "recalls": OTHER}
    assert parse_header(claims).claims() == claims


@pytest.mark.parametrize(
    ("best", "low", "high", "consistent"),
    [
        (2, None, None, True),
        (2, 2, 2, True),
        (2, 1, None, True),
        (2, None, 1, False),
        (2, 3, None, False),
        (2, 3, 4, False),
        (0, 0, 0, True),
    ],
)
def test_an_estimate_that_contradicts_itself_is_kept_and_can_be_told(
    best: int, low: int | None, high: int | None, consistent: bool
) -> None:
    assert Count(best=best, low=low, high=high).consistent is consistent


def longest() -> dict[str, Any]:
    """Each field as long as it may be, of letters that take the most bytes."""
    letter = "😀"
    text = {"text": letter * 1000, "lang": "abc-abcdefgh-abcdefgh-abcdefgh"}
    audience = "office:" + "x" * 32
    term = {"code": "campaign-tension", "text": letter * 80, "lang": text["lang"]}
    caveat = {"not_to": [audience] * 32, "compartments": ["summary"] * 6}
    count = {"best": 1_000_000_000, "low": 1_000_000_000, "high": 1_000_000_000}
    kinds = ("killed", "injured", "abducted", "displaced", "missing", "detained", "livestock")
    media = {"digest": DIGEST, "key": DIGEST, "type": "a/" + "b" * 63, "size": 2**31, "caption": letter * 280}
    actor = {"name": letter * 200, "role": "initiator", "group": letter * 200}
    return SMALL | {
        "handling": {"caveats": [caveat] * 16, "wishes": text, "references": [{"rel": "corroborates", "id": ID}] * 16},
        "summary": text | {"text": letter * MAX_SUMMARY},
        "account": text | {"text": letter * MAX_ACCOUNT, "local_terms": [term] * 20},
        "place": {"area": "KG-O", "name": letter * 200, "lat": -89.12345678901234, "lon": 1e-9, "precision": 1},
        "people": {"actors": [actor] * 30, "affected": dict.fromkeys(kinds, count)},
        "source": {"basis": "community-leader", "description": letter * 1000},
        "media": {"items": [media] * 20},
    }


def test_the_longest_report_that_may_be_written_can_be_sealed() -> None:
    for name, value in parse_draft(longest()).contents().items():
        assert len(disclosure(bytes(16), name, value)) <= MAX_DISCLOSURE, name


CANARY = "canary-7f3a"


WRONG = [
    f"{CANARY}\0",
    f"{CANARY}\ud800",
    CANARY * 1000,
    {CANARY: CANARY},
    [CANARY],
    [[CANARY]],
    {"text": {CANARY: 1}},
    {"best": CANARY},
]


@pytest.mark.parametrize("path", places(FULL), ids=lambda path: ".".join(map(str, path)))
def test_no_error_repeats_a_word_of_the_report(path: tuple[Any, ...]) -> None:
    for put in WRONG:
        error = refused(with_put(FULL, path, put))
        told = "".join(traceback.format_exception(error)) + repr((error.diagnostics(), error.paths, error.args))
        assert CANARY not in told, put


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([(), *places(FULL)]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    ),
)
def test_whatever_stands_anywhere_a_draft_is_read_or_refused_with_our_error(path: tuple[Any, ...], put: Any) -> None:
    try:
        report = parse_draft(with_put(FULL, path, put))
    except BadField:
        return
    for name, value in report.contents().items():
        assert parse_compartment(name, loads(dumps(value), max_bytes=MAX_DISCLOSURE)) == getattr(report, name)


def test_a_compartment_nobody_knows_has_no_model() -> None:
    assert tuple(COMPARTMENT_MODELS) == REPORT_COMPARTMENTS
    with pytest.raises(KeyError):
        parse_compartment("names", {})


@pytest.mark.parametrize("name", REPORT_COMPARTMENTS)
def test_a_value_with_digests_of_its_own_is_refused_by_its_model(name: str) -> None:
    for claim in ({"_sd": [DIGEST]}, {"...": DIGEST}):
        with pytest.raises(BadField):
            parse_compartment(name, {**FULL[name], **claim})
