"""Texts that somebody else wrote, made fit for a terminal: none steers it, none passes for a line of this program.

What a report, a rule, a card or the hub says is printed by these alone. A text that fills lines of its own stands
behind a margin; one within a line of this program ends where that line ends.

    >>> within("Calm.\\nATTENTION: all is lost")
    'Calm. ATTENTION: all is lost'
    >>> block("Calm.\\nATTENTION: all is lost")
    ['    | Calm.', '    | ATTENTION: all is lost']
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

MARGIN: Final = "    | "
"""Before each line that somebody else wrote."""
FOLD: Final = "    … "
"""Before what a narrow terminal does not have room for on the line above."""
_STRANGE: Final = "\ufffd"
_MOST_MARKS: Final = 5
"""Combining marks on one letter; no script in use needs more, and a hundred of them cover the lines above."""
# Controls; surrogates; what embeds, overrides or isolates a direction; what has no width or looks like a blank; tags.
_STEERING: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e"
    "\u200b\u2028\u2029\u2060-\u2065\u206a-\u206f\u2800\u3164\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# Arabic, Indic scripts and emoji need joiners and direction marks; among Latin letters they only hide.
_JOINER: Final = re.compile("[\u061c\u200c-\u200f]")
_LATIN: Final = "\u02ff"
"""The last letter for which a joiner can do nothing."""
_BLANKS: Final = re.compile(r"\s+")


def plain(text: str) -> str:
    """``text`` on one line, with a mark in the place of each character that steers a terminal or cannot be seen."""
    text = _STEERING.sub(_STRANGE, text.replace("\t", " "))
    text = _JOINER.sub(_joined, text)
    return _thinned(text)


def within(text: str, most: int = 300) -> str:
    """``text`` within a line of this program: blanks and breaks as one blank, cut after ``most`` characters."""
    text = _BLANKS.sub(" ", plain(" ".join(text.splitlines()))).strip()
    return text if len(text) <= most else f"{text[: most - 1]}…"


def block(text: str) -> list[str]:
    """``text`` as lines of its own, each behind the margin."""
    return [MARGIN + plain(line) for line in text.splitlines()]


def lines(text: str) -> list[str]:
    """A line of this program; whatever breaks it was written by somebody else and goes behind the margin."""
    first, *more = text.splitlines() or [""]
    return [plain(first), *(MARGIN + plain(line) for line in more)]


def folded(line: str, width: int) -> Iterator[str]:
    """``line`` in pieces that fit a terminal of ``width`` cells: what it would wrap by itself begins at its edge."""
    room = max(width, 20)
    while _cells(line) > room:
        at = _cut(line, room)
        yield line[:at].rstrip(" ")
        line = FOLD + line[at:].lstrip(" ")
    yield line


def code(value: object) -> str:
    """A code that somebody else gave: as it is if it could be one of ours."""
    text = str(value)
    return text if re.fullmatch("[a-z0-9][a-z0-9-]{0,39}", text) else "strange-code"


def escaped(text: str) -> str:
    """JSON with what steers a terminal, or cannot be seen, as escapes; it says the same. Its own line breaks stay."""
    return "\n".join(_JOINER.sub(_escape, _STEERING.sub(_escape, line)) for line in text.split("\n"))


def _escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _joined(found: re.Match[str]) -> str:
    text, at = found.string, found.start()
    beside = [one for one in (*text[max(0, at - 1) : at], *text[at + 1 : at + 2]) if not _JOINER.match(one)]
    fits = any(one > _LATIN for one in beside) and not any(one <= _LATIN and one.isalpha() for one in beside)
    return found[0] if fits else _STRANGE


def _thinned(text: str) -> str:
    if text.isascii():
        return text
    kept, run = [], 0
    for char in text:
        run = run + 1 if unicodedata.category(char) in ("Mn", "Me") else 0
        if run <= _MOST_MARKS:
            kept.append(char)
    return "".join(kept)


def _cells(text: str) -> int:
    return sum(map(_width, text))


def _width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def _cut(line: str, room: int) -> int:
    """The place in ``line`` up to which it fits, behind a blank if there is one not too far back."""
    used = 0
    for at, char in enumerate(line):
        used += _width(char)
        if used > room:
            blank = line.rfind(" ", len(FOLD) + 1, at)
            return blank + 1 if blank > at // 2 else max(at, len(FOLD) + 1)
    return len(line)
