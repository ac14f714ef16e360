"""A policy's text means what it shows; every mistake is told with its line, and with the word that was meant."""

from __future__ import annotations

import random
from contextlib import suppress
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_schemas.errors import Malformed
from kengele_schemas.fields import read
from kengele_schemas.plain_yaml import MAX_TEXT
from kengele_schemas.policy import Assertion, Rule
from kengele_schemas.policy_text import BadText, from_yaml, policy_from_yaml, to_yaml
from oracle.worlds import AREAS, OFFICES, random_rule

GOOD = """\
# Central Asia
- id: unrcca-central-asia
  grant: [summary, account]
  to: [office:hq]
  areas: [AA, BB]
  categories: ["*"]
  min_severity: 2
  tlp_up_to: AMBER
  expires: 2027-03-31
  reason: MoU 2026/14
- id: sources-never-to-governments
  forbid:
    - source
    - people
  to: [group:government]
  reason: "Do no harm: decided by all"
"""


def test_rules_are_read_in_order() -> None:
    first, second = from_yaml(GOOD, OFFICES, AREAS)
    assert (first.id, first.min_severity, first.areas) == ("unrcca-central-asia", 2, ("AA", "BB"))
    assert (second.forbid, second.reason) == (("source", "people"), "Do no harm: decided by all")


def test_an_empty_policy_is_written_as_such() -> None:
    assert from_yaml("[]\n") == ()
    assert from_yaml(to_yaml(())) == ()


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "sentence", "mend"),
    [
        ("[summary, account]", "[summary, acount]", 3, 20, "'grant[1]' is not one of the permitted", "account"),
        ("    - people", "    - peple", 14, 7, "'forbid[1]'", "people"),
        ("grant:", "grants:", 3, 3, "no field of this name", "grant"),
        ("AMBER", "amber", 8, 14, "'tlp_up_to'", "AMBER"),
        ("2027-03-31", "2027-31-03", 9, 12, "'expires' is not a day", "YYYY-MM-DD"),
        ("2027-03-31", "", 9, 11, "'expires' is not a day", "YYYY-MM-DD"),
        ("  expires: 2027-03-31\n", "", 2, 3, "grants without end", "expires"),
        ("min_severity: 2", "min_severity: 7", 7, 17, "'min_severity' is too large", "at most 5"),
        ("min_severity: 2", 'min_severity: "2"', 7, 17, "'min_severity'", ""),
        ("[office:hq]", "office:hq", 4, 7, "'to'", "brackets"),
        ("[office:hq]", "{office: hq}", 4, 7, "'to' holds names and values", "list"),
        ("[office:hq]", "[office:hqs]", 4, 8, "office or group that does not exist", "office:hq"),
        ("[group:government]", "[group:goverment]", 15, 8, "office or group that does not exist", "group:government"),
        ("[AA, BB]", "[AA, NORHT]", 5, 15, "area that does not exist", "NORTH"),
        ('["*"]', "[peace, rumor]", 6, 23, "category that does not exist", "rumour"),
        ("id: sources-never-to-governments", "id: unrcca-central-asia", 11, 7, "another rule has this id", "its own"),
        ("  min_severity: 2\n", "  to: [office:cso]\n", 7, 3, "stands twice", "Take one out"),
        ("  reason: MoU", "\treason: MoU", 10, 1, "not YAML", "here and above"),
        ("[office:hq]", "[office:hq", 5, 8, "not YAML", "brackets"),
        ("# Central Asia\n", "# \x07\n", 1, 3, "character", "Remove"),
        ("[office:hq]", "&a [office:hq]", 4, 7, "anchors", "out"),
        ("[group:government]", "*a", 15, 7, "anchors", "out"),
        ("  min_severity: 2\n", "  <<: {min_severity: 2}\n", 7, 3, "no field of this name", ""),
        ("MoU 2026/14", "!!python/name:os.system x", 10, 11, "tags", "!"),
        ("MoU 2026/14", "!!str x", 10, 11, "tags", "!"),
        ("[AA, BB]", "[[[AA]]]", 5, 12, "too deep", "bracket"),
        ("# Central Asia\n", "--- []\n---\n", 2, 1, "not YAML", ""),
        ("- id: sources", "- sources", 11, 3, "a rule is a list", "- id:"),
    ],
)
def test_a_mistake_is_told_where_it_stands(
    old: str, new: str, line: int, column: int, sentence: str, mend: str
) -> None:
    assert GOOD.count(old) >= 1
    text = GOOD.replace(old, new, 1)
    if old == "- id: sources":
        text = GOOD[: GOOD.index("- id: sources")] + "- sources\n"
    with pytest.raises(BadText) as caught:
        from_yaml(text, OFFICES, AREAS)
    assert caught.value.code == "bad-rule"
    assert (caught.value.line, caught.value.column) == (line, column)
    assert caught.value.sentence.startswith(f"Line {line}, column {column}: ")
    assert sentence in caught.value.sentence
    assert mend in caught.value.mend


@pytest.mark.parametrize("text", ["", "# nothing\n", "rules: []\n", "grant", "--- {}\n"])
def test_what_is_no_list_is_no_policy(text: str) -> None:
    with pytest.raises(BadText, match=r"^Line [12], "):
        from_yaml(text)


def test_codes_are_what_is_written() -> None:
    text = "- {id: a, forbid: [summary], to: [office:hq], areas: [NO, 011, 1E3], reason: yes}"
    (rule,) = from_yaml(text)
    assert (rule.areas, rule.reason) == (("NO", "011", "1E3"), "yes")


def test_a_text_is_read_up_to_a_limit() -> None:
    with pytest.raises(Malformed) as caught:
        from_yaml("#" * (MAX_TEXT + 1))
    assert caught.value.code == "oversized"


@pytest.mark.parametrize("text", ["[" * 10_000, "{" * 10_000, "- " * 10_000, "? " * 10_000])
def test_depth_ends_in_an_error_of_ours(text: str) -> None:
    with pytest.raises(BadText):
        from_yaml(text)


def reasons() -> st.SearchStrategy[str]:
    """Texts that a rule can hold, those that YAML would rather read as something else among them."""
    texts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="\u202d\u202e"))
    odd = [
        "null",
        "~",
        "no",
        "0x10",
        "2027-01-01",
        "- a",
        "a: b",
        "# a",
        "'",
        '"',
        "{",
        "!a",
        "&a",
        "*",
        " a ",
        "\u00a0",
        "é",
    ]
    return (texts | st.sampled_from(odd)).map(lambda text: normalize("NFC", text)[:400]).filter(str.strip)


@given(st.integers(0, 2**32), st.lists(reasons(), max_size=4))
@settings(max_examples=150, deadline=None)
def test_rules_come_back_as_they_were_written(seed: int, given_reasons: list[str]) -> None:
    rng = random.Random(seed)
    plain = [random_rule(rng, f"r{i}").model_dump(mode="json") for i in range(len(given_reasons))]
    rules = tuple(
        read(Rule, document | {"reason": reason}) for document, reason in zip(plain, given_reasons, strict=True)
    )
    assert from_yaml(to_yaml(rules), OFFICES, AREAS) == rules


@given(st.text(max_size=200) | st.text("-:[]{}&*!|>'\"#%@` \n\tidgrant0", max_size=80))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(BadText):
        from_yaml(text)


ASSERTED = GOOD + "- always: no group:government may open source\n  areas: [AA]\n"


def test_assertions_stand_among_rules_and_come_back_from_their_text() -> None:
    written = policy_from_yaml(ASSERTED, OFFICES, AREAS)
    assert written.assertions == (read(Assertion, {"always": "no group:government may open source", "areas": ["AA"]}),)
    assert written.rules == from_yaml(GOOD, OFFICES, AREAS)
    again = policy_from_yaml(to_yaml(written.rules, written.assertions), OFFICES, AREAS)
    assert again[:2] == written[:2]


def test_where_only_rules_are_read_an_assertion_is_refused_rather_than_passed_over() -> None:
    with pytest.raises(BadText, match="there are assertions"):
        from_yaml(ASSERTED)


def test_the_place_of_each_field_is_told() -> None:
    places = policy_from_yaml(GOOD).places
    assert places["unrcca-central-asia", ""] == (2, 3)
    assert places["unrcca-central-asia", "areas[1]"] == (5, 15)
    assert places["sources-never-to-governments", "forbid[1]"] == (14, 7)


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "sentence", "mend"),
    [
        ("may open source", "may open sources", 17, 11, "'always' is not a sentence", "no group:government may open"),
        (
            "no group:government",
            "no group:goverment",
            17,
            11,
            "office or group that does not exist",
            "group:government",
        ),
        ("areas: [AA]", "areas: [AA, NORHT]", 18, 15, "area that does not exist", "NORTH"),
        ("  areas:", "  area:", 18, 3, "an assertion has no field of this name", "areas"),
        ("  areas:", "  reason:", 18, 3, "an assertion has no field of this name", ""),
    ],
)
def test_a_mistake_in_an_assertion_is_told_with_its_line(
    old: str, new: str, line: int, column: int, sentence: str, mend: str
) -> None:
    head, _, tail = ASSERTED.rpartition("- always")
    with pytest.raises(BadText, match=sentence) as caught:
        policy_from_yaml(f"{head}- always{tail.replace(old, new)}", OFFICES, AREAS)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert mend in caught.value.mend
