"""The pages' words in several languages: gettext's catalogues, and which language a browser is answered in.

The English text is the key. What no speaker of a language has reviewed yet is shown as a draft.

    >>> words("ar").gettext("Members")
    'الأعضاء'
"""

from __future__ import annotations

import gettext
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple


class Language(NamedTuple):
    """A language of the pages: its own name, the direction it is written in, whether a speaker reviewed the words."""

    name: str
    direction: str = "ltr"
    reviewed: bool = False


LANGUAGES: Final[dict[str, Language]] = {
    "en": Language("English", reviewed=True),
    "fr": Language("Français"),
    "ar": Language("العربية", "rtl"),
    "ru": Language("Русский"),
    "es": Language("Español"),
    "sw": Language("Kiswahili"),
}
_LOCALE: Final = Path(__file__).parent / "locale"
_MOST: Final = 20
"""Languages of a browser's list that are looked at."""


@lru_cache(maxsize=len(LANGUAGES))
def words(language: str) -> gettext.NullTranslations:
    """The catalogue of ``language``; English where there is none."""
    return gettext.translation("kengele", _LOCALE, languages=[language], fallback=True)


def chosen(asked: str | None, accepted: str) -> str:
    """The language for a browser: the one ``asked`` for, else the first of its Accept-Language that there is."""
    wanted = [asked or "", *(part.partition(";")[0] for part in accepted.split(",")[:_MOST])]
    for tag in wanted:
        primary = tag.strip().partition("-")[0].lower()
        if primary in LANGUAGES:
            return primary
    return "en"
