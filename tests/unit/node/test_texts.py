"""The pages' words: catalogues hold what the templates say and no more, and a browser is answered in its language."""

from __future__ import annotations

import re
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from kengele_node.coordinator.console.pages import PLACES
from kengele_node.pages import marked, texts
from kengele_schemas.compartments import REPORT_COMPARTMENTS

ROOT = Path(__file__).parents[3]
LOCALE = ROOT / "node" / "kengele_node" / "pages" / "locale"
TRANSLATED = [code for code in texts.LANGUAGES if code != "en"]
SAME_WORD = {("fr", "Code"), ("fr", "Invitations"), ("fr", "Pages"), ("fr", "version"), ("es", "error"), ("es", "no")}
METHODS = [("kengele_node/pages/marked.py", "python"), ("**/templates/**.html", "jinja2")]
OPTIONS = {"**/templates/**.html": {"trim_blocks": "true", "lstrip_blocks": "true", "silent": "false"}}


@lru_cache(maxsize=1)
def said() -> frozenset[str]:
    """Every message of the templates and of the words that are marked."""
    found = extract_from_dir(str(ROOT / "node"), METHODS, OPTIONS)
    return frozenset(str(message) for _, _, message, _, _ in found)


def catalogue(language: str) -> Catalog:
    with (LOCALE / language / "LC_MESSAGES" / "kengele.po").open("rb") as file:
        return read_po(file, locale=language)


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_catalogue_has_every_message_of_the_pages_and_no_stale_one(language: str) -> None:
    held = {str(message.id) for message in catalogue(language) if message.id}
    wanted = said()
    assert len(wanted) > 100
    assert (wanted - held, held - wanted) == (frozenset(), set()), "run make translations, then translate what is new"


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_translation_is_there_says_something_else_and_holds_no_markup(language: str) -> None:
    for message in catalogue(language):
        if not message.id:
            continue
        english, text = str(message.id), str(message.string)
        assert text.strip(), english
        assert not message.fuzzy, english
        assert text != english or (language, english) in SAME_WORD, english
        assert not re.search(r"[<>%{}]|&\w+;", english + text), english
        assert english.endswith(":") == text.endswith(":"), english


@pytest.mark.parametrize("language", TRANSLATED)
def test_the_compiled_catalogue_is_made_from_the_one_people_edit(language: str) -> None:
    made = BytesIO()
    write_mo(made, catalogue(language))
    assert (LOCALE / language / "LC_MESSAGES" / "kengele.mo").read_bytes() == made.getvalue()


@pytest.mark.parametrize("language", TRANSLATED)
def test_the_pages_read_the_catalogue_at_run_time(language: str) -> None:
    for message in catalogue(language):
        if message.id:
            assert texts.words(language).gettext(str(message.id)) == message.string


def test_words_that_templates_name_by_a_variable_are_marked() -> None:
    assert {name for _, name in PLACES} <= marked.WORDS
    assert set(REPORT_COMPARTMENTS) <= marked.WORDS
    assert {"monitor", "office", "coordinator", "active", "suspended", "revoked"} <= marked.WORDS
    assert {"error", "warning", "note"} <= marked.WORDS


@pytest.mark.parametrize(
    ("sentence", "asked", "accepted", "language"),
    [
        ("nothing is asked for", None, "", "en"),
        ("the browser's language", None, "ar", "ar"),
        ("a country's variety of it", None, "fr-CD,fr;q=0.9", "fr"),
        ("the first of the list that there is", None, "ky,ru;q=0.8,en;q=0.5", "ru"),
        ("what was asked for comes first", "sw", "ar", "sw"),
        ("what was asked for in other letters", "ES", "ar", "es"),
        ("a language asked for that there is not", "tlh", "ar", "ar"),
        ("languages that there are not", None, "ky,am", "en"),
        ("no language at all", "../../etc", "*;q=0.1,,;", "en"),
        ("far down a list without end", None, "xx," * 20 + "ar", "en"),
    ],
)
def test_the_language_of_a_browser(sentence: str, asked: str | None, accepted: str, language: str) -> None:
    assert texts.chosen(asked, accepted) == language, sentence


def test_arabic_alone_is_written_from_the_right_and_english_alone_is_no_draft() -> None:
    assert [code for code, one in texts.LANGUAGES.items() if one.direction == "rtl"] == ["ar"]
    assert [code for code, one in texts.LANGUAGES.items() if one.reviewed] == ["en"]
