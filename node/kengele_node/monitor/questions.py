"""A draft from a command's flags, and the questions for what they left open."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, Final

from kengele_node import terminal
from kengele_schemas import taxonomy, tlp
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.report import MAX_CATEGORIES, parse_compartment
from kengele_schemas.trusted import Trusted

_UNKNOWN: Final = "und"
_MARKINGS: Final[dict[tlp.Level, str]] = {
    "RED": "for those who receive it, and nobody they know",
    "AMBER+STRICT": "they may tell who needs to know within their own office",
    "AMBER": "and whom their office serves, where they need to know",
    "GREEN": "and others of the community, but not the public",
    "CLEAR": "anybody may know",
}
"""What each marking lets its readers do, after TLP 2.0. Which offices are readers is for the rules to say."""
_LISTS: Final = "list what a report can be about, each with the code to type"


def add(actions: Any) -> None:
    """Adds ``categories``."""
    listed = actions.add_parser(
        "categories",
        help=_LISTS,
        description=f"{_LISTS.capitalize()}.",
        epilog="Example:  kengele node categories",
    )
    listed.add_argument("--json", action="store_true", help="one JSON object on stdout")
    listed.set_defaults(run=_list)


def _list(args: argparse.Namespace) -> int:
    if args.json:
        terminal.emit({"categories": {code: taxonomy.label(code) for code in taxonomy.leaves()}})
    else:
        terminal.say(*categories()[1:])
    return 0


def draft_of(args: argparse.Namespace) -> dict[str, Any]:
    """The draft that the flags of ``kengele node report`` make, as JSON values; what was not given is left out."""
    lang = args.lang or _UNKNOWN
    plain = {"area": args.area, "severity": args.severity, "day": args.day, "tlp": args.tlp}
    draft: dict[str, Any] = {name: value for name, value in plain.items() if value is not None}
    if args.category:
        draft["categories"] = args.category
    if args.summary:
        draft["summary"] = {"text": args.summary, "lang": lang}
    if args.account:
        draft["account"] = {"text": args.account, "lang": lang}
    if args.place:
        draft["place"] = {"name": args.place}
    if args.source or args.basis:
        draft["source"] = {"basis": args.basis or "unknown"}
        if args.source:
            draft["source"]["description"] = args.source
    # An empty answer to its question names nobody.
    if kept_out := [name for name in args.not_to or () if name.strip()]:
        draft["handling"] = {"caveats": [{"not_to": kept_out}]}
    draft.setdefault("day", terminal.today())
    return draft


def ask_draft(
    draft: dict[str, Any], trusted: Trusted, own: Sequence[str] = (), lang: str | None = None
) -> dict[str, Any]:
    """``draft`` with what is missing asked of the person at the terminal.

    Args:
        own: the areas that she reports from.
        lang: the language she writes in, if she has said so.
    """
    draft = dict(draft)
    if "area" not in draft:
        yours = ", ".join(_told(code, trusted) for code in own if trusted.areas.known(code))
        question = f"Area, code or name ({yours})" if yours else "Area (code or name)"
        only = own[0] if len(own) == 1 else ""
        draft["area"] = terminal.ask(question, lambda text: find_area(text, trusted, own), only)
    if "categories" not in draft:
        draft["categories"] = terminal.ask("What kind (one or more codes, such as rumour; ? lists them)", _categories)
    if "severity" not in draft:
        draft["severity"] = terminal.ask("How grave, 1 (a sign) to 5 (many deaths)", _severity)
    if "tlp" not in draft:
        draft["tlp"] = terminal.ask(f"Marking: {', '.join(tlp.LEVELS)}; ? says what each means", _marking, tlp.UNMARKED)
    if "summary" in draft or "account" in draft:
        return draft
    lang = lang or terminal.ask("Language you write in (such as ky, fr, en; und: not said)", _lang, _UNKNOWN)
    asked = (("summary", "What happened, in a sentence or two, naming nobody"), ("account", "The full account"))
    for name, question in asked:
        draft |= _ask_part(name, f"{question} (empty: none)", lambda text: {"text": text, "lang": lang})
    if "place" not in draft:
        draft |= _ask_part("place", "The exact place (empty: none)", lambda text: {"name": text})
    if "source" not in draft:
        question = "How it is known (empty: leave out)"
        draft |= _ask_part("source", question, lambda text: {"basis": "unknown", "description": text})
    return draft


def _ask_part(name: str, question: str, part: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """The compartment ``name`` as answered; nothing if the answer is empty.

    What does not follow the compartment's model is asked again at once: after the last question it would all be lost.
    """

    def read(text: str) -> dict[str, Any]:
        if not text:
            return {}
        parse_compartment(name, part(text))
        return {name: part(text)}

    return terminal.ask(question, read)


def _lang(text: str) -> str:
    parse_compartment("summary", {"text": "-", "lang": text})
    return text


def find_area(text: str, trusted: Trusted, own: Sequence[str] = ()) -> str:
    """The area that a monitor with the areas ``own`` means, by its code or by what people call it.

    Raises:
        Refused: ``unknown-area``: none, or several.
    """
    areas = trusted.areas
    if areas.known(text.upper()):
        return text.upper()
    called = areas.called(text, own)
    found = called[0] if len(called) == 1 else areas.find(text)
    if found is not None:
        return found
    # Never the nearest: a wrong area would lead a report to the wrong office.
    called = called or areas.called(text, [row.code for row in areas])
    told = ", ".join(_told(code, trusted) for code in called or areas.suggest(text) or own if areas.known(code))
    sentence = "The network has such an area elsewhere." if called else "The network does not know this area."
    raise Refused("unknown-area", sentence, f"Perhaps: {told}." if told else "")


def _told(code: str, trusted: Trusted) -> str:
    return f"{code} {trusted.areas.row(code).name}"


def categories() -> list[str]:
    """All that a report can be about, a code and its label a line, under the groups they lie in."""
    return [
        line
        for code in taxonomy.codes()
        if taxonomy.parent(code)
        for line in ((f"{code:22}{taxonomy.label(code)}",) if taxonomy.reportable(code) else ("", taxonomy.label(code)))
    ]


def _categories(text: str) -> list[str]:
    if text == "?":
        terminal.note(*categories())
        raise Malformed("bad-field", "Type one or more of these codes.")
    codes = [code for code in text.replace(",", " ").lower().split() if code]
    for code in codes:
        if not taxonomy.reportable(code):
            near = ", ".join(taxonomy.suggest(code))
            raise Malformed("bad-field", "One of these is not a category.", f"Perhaps: {near}." if near else "")
    if len(set(codes)) > MAX_CATEGORIES:
        raise Malformed("bad-field", f"A report has at most {MAX_CATEGORIES} categories.")
    if not codes:
        raise Malformed("bad-field", "A report needs a category.", "Type ? to see them all.")
    return codes


def _marking(text: str) -> tlp.Level:
    if text == "?":
        terminal.note(*(f"  {level:13} {meaning}" for level, meaning in _MARKINGS.items()))
        raise Malformed("bad-tlp", "Type one of these markings.")
    return tlp.parse(text)


def _severity(text: str) -> int:
    if text not in ("1", "2", "3", "4", "5"):
        raise Malformed("bad-field", "This is not a number from 1 to 5.")
    return int(text)
