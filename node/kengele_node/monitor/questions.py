"""A draft from a command's flags, and the questions for what they left open."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from kengele_node import terminal
from kengele_schemas import taxonomy, tlp
from kengele_schemas.errors import Malformed
from kengele_schemas.report import MAX_CATEGORIES, parse_compartment
from kengele_schemas.trust import Trusted


def draft_of(args: argparse.Namespace) -> dict[str, Any]:
    """The draft that the flags of ``kengele node report`` make, as JSON values; what was not given is left out."""
    lang = args.lang
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
    if args.not_to:
        draft["handling"] = {"caveats": [{"not_to": args.not_to}]}
    draft.setdefault("day", terminal.today())
    return draft


def ask_draft(draft: dict[str, Any], trusted: Trusted) -> dict[str, Any]:
    """``draft`` with what is missing asked of the person at the terminal."""
    draft = dict(draft)
    if "area" not in draft:
        draft["area"] = terminal.ask("Area (code or name)", lambda text: _area(text, trusted))
    if "categories" not in draft:
        draft["categories"] = terminal.ask("What kind (one or more codes, such as rumour)", _categories)
    if "severity" not in draft:
        draft["severity"] = terminal.ask("How grave, 1 (a sign) to 5 (many deaths)", _severity)
    if "tlp" not in draft:
        draft["tlp"] = terminal.ask("Marking: RED, AMBER+STRICT, AMBER, GREEN or CLEAR", tlp.parse, tlp.UNMARKED)
    lang = terminal.ask("Language you write in (such as ky, fr, en)", _lang, "und")
    asked = (("summary", "What happened, in a sentence or two, naming nobody"), ("account", "The full account"))
    for name, question in asked:
        if name not in draft:
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


def _area(text: str, trusted: Trusted) -> str:
    areas = trusted.areas
    if areas.known(text.upper()):
        return text.upper()
    found = areas.find(text)
    if found is not None:
        return found
    near = ", ".join(f"{code} ({areas.row(code).name})" for code in areas.suggest(text))
    raise Malformed("unknown-area", "The network does not know this area.", f"Perhaps: {near}." if near else "")


def _categories(text: str) -> list[str]:
    codes = [code for code in text.replace(",", " ").lower().split() if code]
    for code in codes:
        if not taxonomy.reportable(code):
            near = ", ".join(taxonomy.suggest(code))
            raise Malformed("bad-field", "One of these is not a category.", f"Perhaps: {near}." if near else "")
    if len(set(codes)) > MAX_CATEGORIES:
        raise Malformed("bad-field", f"A report has at most {MAX_CATEGORIES} categories.")
    if not codes:
        raise Malformed("bad-field", "A report needs a category.", f"Some are: {', '.join(taxonomy.leaves()[:12])}.")
    return codes


def _severity(text: str) -> int:
    if text not in ("1", "2", "3", "4", "5"):
        raise Malformed("bad-field", "This is not a number from 1 to 5.")
    return int(text)
