"""The taxonomy: a tree of three levels in which a rule covers what lies below, and codes that other systems share."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_schemas.fields import CategoryCode, Model
from kengele_schemas.taxonomy import (
    ACLED,
    EVERY,
    LANGUAGES,
    ancestors,
    children,
    codes,
    covers,
    from_acled,
    from_ged,
    is_draft,
    known,
    label,
    leaves,
    parent,
    reportable,
    suggest,
    to_acled,
    to_ged,
)

CEWARN = {
    "peace": ["alliance-formation", "exchange-behaviour", "mitigating-behaviour", "peace-initiative"],
    "conflict": ["armed-intervention", "aggravating-behaviour", "provocative-behaviour", "environmental-pressure"],
}
PUBLISHED = (
    "conflict", "armed-intervention", "armed-clash", "communal-clash", "territory-seized", "territory-regained",
    "chemical-weapon", "air-strike", "shelling", "explosion", "armed-movement", "armed-base",
    "territory-handed-over", "aggravating-behaviour", "attack-on-civilians", "sexual-violence", "abduction",
    "cattle-raid", "looting", "arson", "displacement", "arrest", "threat", "arms-flow", "recruitment",
    "aid-blocked", "provocative-behaviour", "force-against-protest", "riot", "mob-violence",
    "protest-dispersed", "protest", "hate-speech", "rumour", "checkpoint", "road-blocked", "border-closed",
    "market-closed", "sacred-site-harmed", "campaign-tension", "other-incident", "environmental-pressure",
    "land-dispute", "water-dispute", "pasture-dispute", "crop-damage", "herd-movement", "livestock-disease",
    "drought", "flood", "price-shock", "food-shortage", "peace", "alliance-formation", "joint-patrol",
    "joint-committee", "local-alliance", "exchange-behaviour", "joint-market", "shared-grazing",
    "shared-celebration", "information-shared", "mitigating-behaviour", "hostages-released", "cattle-returned",
    "weapons-seized", "weapons-handed-in", "displaced-return", "road-reopened", "rumour-refuted", "protection",
    "de-escalation", "calm", "peace-initiative", "peace-agreement", "ceasefire", "dialogue-meeting",
    "mediation", "compensation-paid", "reconciliation", "women-youth-action", "other-peace",
)  # fmt: skip
EXPLODING = ("Suicide bomb", "Remote explosive/landmine/IED", "Grenade")
CODES = st.sampled_from(codes())
LEAVES = st.sampled_from(leaves())


class Named(Model):
    code: CategoryCode


def test_conflict_and_peace_have_cewarns_four_groups_each_and_leaves_below() -> None:
    assert [code for code in codes() if parent(code) is None] == ["conflict", "peace"]
    for top, groups in CEWARN.items():
        assert sorted(children(top)) == sorted(groups)
        for group in groups:
            assert children(group), group
            assert all(reportable(leaf) for leaf in children(group)), group


def test_a_code_that_was_published_is_never_taken_back() -> None:
    assert set(PUBLISHED) <= set(codes())


def test_parents_come_before_children_and_no_code_twice() -> None:
    seen: set[str] = set()
    for code in codes():
        assert code not in seen
        assert parent(code) is None or parent(code) in seen, code
        assert Named(code=code).code == code
        seen.add(code)


def test_a_report_names_leaves_lest_a_rule_on_a_leaf_be_dodged() -> None:
    for code in codes():
        assert reportable(code) == (not children(code)), code
    assert not any(reportable(code) or known(code) for code in (EVERY, "", "Rumour", "rumour ", "unrest"))


@settings(deadline=None)
@given(CODES, CODES)
def test_a_rule_covers_a_code_and_all_that_lies_below_it(rule: str, category: str) -> None:
    above: str | None = category
    path = []
    while above is not None:
        path.append(above)
        above = parent(above)
    assert covers(rule, category) == (rule in path) == (rule in ancestors(category))


@pytest.mark.parametrize(
    ("rule", "category", "covered"),
    [
        (EVERY, "rumour", True),
        (EVERY, "of-a-newer-taxonomy", True),
        ("conflict", "rumour", True),
        ("conflict", "ceasefire", False),
        ("peace", "ceasefire", True),
        ("rumour", "provocative-behaviour", False),
        ("conflict", "of-a-newer-taxonomy", False),
        ("of-a-newer-taxonomy", "of-a-newer-taxonomy", False),
        ("of-a-newer-taxonomy", "rumour", False),
        ("rumour", EVERY, False),
        ("", "rumour", False),
    ],
)
def test_of_what_nobody_knows_only_a_rule_on_everything_speaks(rule: str, category: str, covered: bool) -> None:
    assert covers(rule, category) is covered


def test_leaves_are_those_below_in_the_taxonomys_order() -> None:
    assert set(leaves("conflict")) | set(leaves("peace")) == set(leaves())
    assert not set(leaves("conflict")) & set(leaves("peace"))
    assert leaves("rumour") == ("rumour",)
    assert leaves("of-a-newer-taxonomy") == ()
    assert list(leaves()) == [code for code in codes() if reportable(code)]


def test_every_code_is_labelled_in_every_language_and_no_label_stands_for_two() -> None:
    for lang in LANGUAGES:
        labels = [label(code, lang) for code in codes()]
        assert all(text.strip() == text and text for text in labels), lang
        assert len(set(labels)) == len(labels), lang


def test_a_label_that_no_speaker_reviewed_is_a_draft_in_all_its_regions() -> None:
    assert [is_draft(lang) for lang in ("en", "en-KE", "EN", "fr", "ar-SD", "ky", "xx", "")] == [False] * 3 + [True] * 5


def test_a_language_of_a_region_is_labelled_in_its_own_and_an_unknown_one_in_english() -> None:
    assert label("rumour", "ru-KG") == label("rumour", "RU") == label("rumour", "ru") != label("rumour")
    assert label("rumour", "xx") == label("rumour", "") == label("rumour", "en")
    for call in (label, parent, ancestors):
        with pytest.raises(KeyError):
            call("unrest")


@pytest.mark.parametrize(
    ("written", "meant"),
    [("rumor", "rumour"), ("Cease Fire", "ceasefire"), ("cattle_raid", "cattle-raid"), ("  RIOTS ", "riot")],
)
def test_a_near_miss_finds_what_was_meant(written: str, meant: str) -> None:
    assert suggest(written)[0] == meant


def test_a_code_is_found_however_its_words_are_parted_and_a_group_is_never_suggested() -> None:
    for code in codes():
        found = suggest(code)
        assert found == suggest(code.replace("-", " ")) == suggest(code.replace("-", "_").upper())
        assert all(map(reportable, found)), code
        assert not reportable(code) or found[0] == code


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=200), st.integers(1, 3))
def test_only_what_a_report_may_name_is_suggested(written: str, count: int) -> None:
    found = suggest(written, count)
    assert len(found) <= count
    assert all(reportable(code) for code in found)


def test_a_text_without_end_is_compared_by_its_beginning() -> None:
    assert suggest("rumour" + " " * 58 + "x" * 1_000_000) == suggest("rumour")


def test_acled_has_six_event_types_and_twenty_five_sub_event_types_each_with_a_leaf() -> None:
    assert (len(ACLED), sum(map(len, ACLED.values()))) == (6, 25)
    assert len({code for subs in ACLED.values() for code in subs.values()}) == 25 - len(EXPLODING) + 1
    assert {from_acled("Explosions/Remote violence", sub) for sub in EXPLODING} == {("explosion",)}
    for event, subs in ACLED.items():
        for sub in subs:
            (code,) = from_acled(event, sub)
            assert reportable(code), (event, sub)
            back = to_acled([code])
            assert back is not None
            assert from_acled(*back) == (code,), (event, sub)


@settings(deadline=None)
@given(st.sets(LEAVES, max_size=5))
def test_whatever_a_report_names_acled_is_given_a_pair_it_has(named: set[str]) -> None:
    found = to_acled(named)
    assert found is None or found[1] in ACLED[found[0]]
    assert found in {to_acled([code]) for code in named} | {None}
    assert (found is None) == all(to_acled([code]) is None for code in named)


def test_of_several_acts_acled_is_told_the_gravest() -> None:
    assert to_acled(["protest", "attack-on-civilians", "armed-clash"]) == ("Battles", "Armed clash")
    assert to_acled(["rumour", "protest"]) == ("Protests", "Peaceful protest")
    assert to_acled(["rumour", "drought"]) is None


@pytest.mark.parametrize(("event", "sub"), [("Battles", "Attack"), ("", ""), ("Riots", "")])
def test_a_pair_that_acled_has_not_is_not_guessed(event: str, sub: str) -> None:
    with pytest.raises(KeyError):
        from_acled(event, sub)


def test_ged_has_three_types_of_violence_and_they_come_back() -> None:
    for number in (1, 2, 3):
        assert to_ged(from_ged(number)) == number
        assert all(reportable(code) for code in from_ged(number))
    for number in (0, 4):
        with pytest.raises(KeyError):
            from_ged(number)


@pytest.mark.parametrize(
    ("named", "number"),
    [
        (["armed-clash", "rumour"], 1),
        (["armed-clash", "communal-clash"], None),
        (["rumour"], None),
        (["of-a-newer-taxonomy", "attack-on-civilians"], 3),
        ([], None),
    ],
)
def test_a_report_of_two_types_of_violence_is_not_forced_into_one(named: list[str], number: int | None) -> None:
    assert to_ged(named) == number
