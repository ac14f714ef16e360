"""Audit: the hub's whole log proved from its first entry, and then asked who was given what, under which rule, when."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import date
from typing import Any

from aiohttp import web
from multidict import MultiMapping

from kengele_node.audit.proof import Known, examine, remember
from kengele_node.audit.query import Query
from kengele_node.audit.sources import HubLog
from kengele_node.office.witness import open_memory
from kengele_node.pages.guard import below
from kengele_schemas.cosignature import read_cosignatures
from kengele_schemas.encoding import b64u
from kengele_schemas.errors import Malformed
from kengele_schemas.leaves import read_entry

from .pages import PAGES, VIEW
from .view import View

_MOST = 200
"""Answers shown, the newest; all of them are to be had with ``kengele audit search``."""


@dataclass(frozen=True, slots=True)
class Proved:
    """What was proved, and what the log says to what was asked."""

    size: int
    root: str
    cosigned: tuple[str, ...]
    answers: tuple[dict[str, Any], ...]
    found: int


def add_routes(app: web.Application) -> None:
    """Adds ``/audit``."""
    app.router.add_get(below("audit"), _audit)


async def _audit(request: web.Request) -> web.Response:
    asked, view = request.query, request.app[VIEW]
    proved = await _proved(view, _query(asked)) if "ask" in asked else None
    held = await view.in_force()
    offices = [office.id for office in held.trusted.offices.document.offices]
    rules = sorted(rule.id for rule in held.rules)
    return request.app[PAGES].show(
        request, "audit", proved=proved, asked=dict(asked), offices=offices, rules=rules, most=_MOST
    )


def _query(asked: MultiMapping[str]) -> Query:
    return Query(
        report=asked.get("report", "").strip(),
        office=asked.get("office", ""),
        rule=asked.get("rule", ""),
        since=_day(asked.get("since", "")),
        until=_day(asked.get("until", "")),
    )


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise Malformed("bad-field", "A day is not one.", "Write it as YYYY-MM-DD.") from None


async def _proved(view: View, query: Query) -> Proved:
    """Raises Untrusted if the log does not hold: nothing is told of what it says then."""
    held = await view.in_force(anew=True)
    member = view.member
    known = Known.of(held.trusted, member.trust)
    answers: list[dict[str, Any]] = []

    def look(index: int, data: bytes) -> None:
        answer = query.answer(index, read_entry(data))
        if answer is not None:
            answers.append(answer)

    with closing(open_memory(member.home, member.vault.rows("witness"))) as memory:
        log = HubLog(view.session, member.nkey.public)
        examined, notes = await examine(log, known, memory, look, lambda _, __: None)
        remember(memory, notes.whole)
    cosigned = sorted(read_cosignatures(notes.witnessed, known.witnesses()))
    names = tuple(name.removeprefix(f"{known.log}/") for name in cosigned)
    return Proved(
        examined.tree.size, b64u(examined.tree.root()), names, tuple(answers[: -_MOST - 1 : -1]), len(answers)
    )
