"""Questions: flags and answers make one draft, and an answer that will not do is asked again, not lost."""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from kengele_node import terminal
from kengele_node.monitor.questions import ask_draft, draft_of, find_area
from kengele_schemas.areas import Areas
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.report import MAX_SUMMARY, parse_draft
from kengele_schemas.taxonomy import leaves
from kengele_testing.values import CANARY, grant, network

TRUSTED = network(grant())
EVERYWHERE = replace(TRUSTED, areas=Areas.world())
FLAGS = ("area", "category", "severity", "day", "tlp", "summary", "account", "place", "source", "basis", "not_to")
# In the order of the questions.
ANSWERS = {
    "Area": "KG-O",
    "What kind": "rumour",
    "How grave": "2",
    "Marking": "AMBER",
    "Language": "en",
    "What happened": "Talk of a fight.",
    "The full account": "At the bazaar.",
    "The exact place": "By the mill",
    "How it is known": "A neighbour",
}

Typing = Callable[..., dict[str, Any]]


def given(**flags: Any) -> argparse.Namespace:
    nothing: dict[str, Any] = {name: [] if name in ("category", "not_to") else None for name in FLAGS}
    return argparse.Namespace(**nothing | {"lang": "und"} | flags)


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> Typing:
    """The draft that comes of these answers; several to one question, one after the other, are a list."""

    def types(
        draft: dict[str, Any] | None = None, own: Sequence[str] = (), **answers: str | list[str]
    ) -> dict[str, Any]:
        named = {key.replace("_", " "): value for key, value in answers.items()}
        lines = [named.get(question, answer) for question, answer in ANSWERS.items()]
        typed = [line for one in lines for line in (one if isinstance(one, list) else [one])]
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in typed)))
        return ask_draft({"day": "2026-11-24", **(draft or {})}, TRUSTED, own)

    return types


class TestFlags:
    def test_make_a_whole_draft(self) -> None:
        args = given(
            area="KG-O",
            category=["rumour", "threat"],
            severity=2,
            day="2026-11-24",
            tlp="GREEN",
            lang="en",
            summary="Talk of a fight.",
            account="At the bazaar.",
            place="By the mill",
            source="A neighbour",
            basis="witness",
            not_to=["group:government", "office:cso"],
        )
        assert draft_of(args) == {
            "area": "KG-O",
            "categories": ["rumour", "threat"],
            "severity": 2,
            "day": "2026-11-24",
            "tlp": "GREEN",
            "summary": {"text": "Talk of a fight.", "lang": "en"},
            "account": {"text": "At the bazaar.", "lang": "en"},
            "place": {"name": "By the mill"},
            "source": {"basis": "witness", "description": "A neighbour"},
            "handling": {"caveats": [{"not_to": ["group:government", "office:cso"]}]},
        }

    def test_that_are_not_given_leave_their_part_out(self) -> None:
        assert draft_of(given()) == {"day": terminal.today()}
        assert draft_of(given(summary="x"))["summary"] == {"text": "x", "lang": "und"}

    @pytest.mark.parametrize(
        ("flags", "source"),
        [
            ({"source": "A neighbour"}, {"basis": "unknown", "description": "A neighbour"}),
            ({"basis": "media"}, {"basis": "media"}),
        ],
    )
    def test_of_the_source_stand_for_each_other(self, flags: dict[str, str], source: dict[str, str]) -> None:
        assert draft_of(given(**flags))["source"] == source

    def test_that_narrow_the_readers_are_a_caveat_of_the_report(self) -> None:
        handling = parse_draft(
            draft_of(given(area="KG", category=["rumour"], severity=1, summary="x", not_to=["office:cso"]))
        ).handling
        assert handling is not None
        assert [caveat.not_to for caveat in handling.caveats] == [("office:cso",)]


class TestAnswers:
    def test_make_a_whole_draft(self, answered: Typing) -> None:
        draft = answered()
        assert draft == {
            "area": "KG-O",
            "categories": ["rumour"],
            "severity": 2,
            "day": "2026-11-24",
            "tlp": "AMBER",
            "summary": {"text": "Talk of a fight.", "lang": "en"},
            "account": {"text": "At the bazaar.", "lang": "en"},
            "place": {"name": "By the mill"},
            "source": {"basis": "unknown", "description": "A neighbour"},
        }
        assert parse_draft(draft).area == "KG-O"

    def test_that_are_empty_leave_their_part_out(self, answered: Typing) -> None:
        draft = answered(Marking="", Language="", The_full_account="", The_exact_place="", How_it_is_known="")
        assert set(draft) == {"area", "categories", "severity", "day", "tlp", "summary"}
        assert (draft["tlp"], draft["summary"]["lang"]) == ("AMBER+STRICT", "und")

    def test_are_not_asked_for_what_flags_gave(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO())
        flags = given(
            area="KG-O",
            category=["rumour"],
            severity=2,
            tlp="RED",
            summary="x",
            account="y",
            place="z",
            source="w",
        )
        draft = draft_of(flags)
        assert ask_draft(draft, TRUSTED) == draft
        assert not capsys.readouterr().err

    def test_are_not_asked_for_what_may_be_left_out_where_flags_gave_the_text(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
        draft = ask_draft(draft_of(given(area="KG-O", category=["rumour"], severity=2, summary="x")), TRUSTED)
        assert set(draft) == {"area", "categories", "severity", "day", "tlp", "summary"}

    def test_are_in_the_language_that_a_flag_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lines = [answer for question, answer in ANSWERS.items() if question != "Language"]
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        assert ask_draft({}, TRUSTED, lang="ky")["summary"]["lang"] == "ky"

    def test_list_the_categories_at_a_question_mark(self, answered: Typing, capsys: pytest.CaptureFixture[str]) -> None:
        assert answered(What_kind=["?", "rumour"])["categories"] == ["rumour"]
        shown = capsys.readouterr().err
        assert all(f"\n{code} " in shown for code in leaves())
        assert "\nconflict " not in shown

    def test_leave_the_flags_draft_as_it_was(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{answer}\n" for answer in ANSWERS.values())))
        before: dict[str, Any] = {"day": "2026-11-24"}
        assert len(ask_draft(before, TRUSTED)) == 9
        assert before == {"day": "2026-11-24"}

    @pytest.mark.parametrize(
        ("text", "area"), [("KG-O", "KG-O"), ("kg-o", "KG-O"), ("Kyrgyzstan", "KG"), ("kyrgyz republic", "KG")]
    )
    def test_name_an_area_by_code_or_by_name(self, answered: Typing, text: str, area: str) -> None:
        assert answered(Area=text)["area"] == area

    def test_that_are_empty_mean_the_one_area_that_is_hers(self, answered: Typing) -> None:
        assert answered(own=["KG-B"], Area="")["area"] == "KG-B"

    @pytest.mark.parametrize(
        ("text", "codes"),
        [("rumour", ["rumour"]), ("rumour, threat", ["rumour", "threat"]), ("Rumour  THREAT", ["rumour", "threat"])],
    )
    def test_name_one_category_or_several(self, answered: Typing, text: str, codes: list[str]) -> None:
        assert answered(What_kind=text)["categories"] == codes

    @pytest.mark.parametrize(
        ("question", "wrong", "told"),
        [
            ("Area", "Atlantis", "The network does not know this area."),
            ("Area", "KG-OO", "Perhaps: KG-O"),
            ("Area", "", "The network does not know this area."),
            ("What kind", "rumor", "Perhaps: rumour"),
            ("What kind", "conflict", "not a category"),
            ("What kind", "", "A report needs a category."),
            ("What kind", ",", "A report needs a category."),
            ("What kind", " ".join(leaves()[:6]), "at most 5 categories"),
            ("How grave", "6", "not a number from 1 to 5"),
            ("How grave", "", "not a number from 1 to 5"),
            ("How grave", "²", "not a number from 1 to 5"),
            ("Marking", "ORANGE", "Use one of: RED"),
            ("Marking", "?", "CLEAR         anybody may know"),
            ("Language", "English, please", "not in its format"),
            ("What happened", "x" * (MAX_SUMMARY + 1), "longer than 280 characters"),
            ("What happened", f"{CANARY}\x1b[2J", "control character"),
            ("The full account", "x" * 8001, "longer than 8000 characters"),
            ("The exact place", "x" * 201, "longer than 200 characters"),
            ("How it is known", "x" * 1001, "longer than 1000 characters"),
        ],
    )
    def test_that_will_not_do_are_asked_again_at_once(
        self, answered: Typing, capsys: pytest.CaptureFixture[str], question: str, wrong: str, told: str
    ) -> None:
        draft = answered(**{question.replace(" ", "_"): [wrong, ANSWERS[question]]})
        shown = capsys.readouterr().err
        assert told in shown
        assert CANARY not in shown
        assert draft == answered()
        assert parse_draft(draft).area == "KG-O"

    def test_end_with_the_input(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("KG-O\nrumour\n"))
        with pytest.raises(Malformed) as caught:
            ask_draft({}, TRUSTED)
        assert caught.value.code == "no-answer"


class TestAName:
    @pytest.mark.parametrize(
        ("text", "own", "code"),
        [
            ("Osh", ["KG-O"], "KG-O"),
            ("Osh", ["KG-GO"], "KG-GO"),
            ("osh oblast", ["KG"], "KG-O"),
            ("jalal abad", ["KG"], "KG-J"),
            ("kg-b", ["KG-O"], "KG-B"),
            ("Kyrgyzstan", ["KG-O"], "KG"),
        ],
    )
    def test_of_two_areas_is_that_of_hers(self, text: str, own: list[str], code: str) -> None:
        assert find_area(text, EVERYWHERE, own) == code

    @pytest.mark.parametrize(
        ("text", "own", "told"),
        [
            ("Osh", ["KG"], ("KG-O Osh Region", "KG-GO Osh")),
            ("Osh", ["KG-B"], ("KG-O Osh Region", "KG-GO Osh")),
            ("Osch", ["KG-O"], ("KG-GO Osh",)),
            ("Nowhere at all", ["KG-O"], ("KG-O Osh Region",)),
        ],
    )
    def test_of_none_or_of_several_is_asked_about_and_never_guessed(
        self, text: str, own: list[str], told: tuple[str, ...]
    ) -> None:
        with pytest.raises(Refused) as caught:
            find_area(text, EVERYWHERE, own)
        assert caught.value.code == "unknown-area"
        assert all(area in caught.value.mend for area in told)


def test_an_empty_answer_keeps_the_report_from_nobody() -> None:
    assert "handling" not in draft_of(given(area="KG", category=["rumour"], severity=1, summary="x", not_to=["", " "]))
