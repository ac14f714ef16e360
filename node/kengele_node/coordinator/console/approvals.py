"""Approvals: proposals that wait for signatures, each with what it changes, to be signed and brought into force."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Any

from aiohttp import web

from kengele_node.coordinator import board, drafting
from kengele_node.coordinator.publishing import publish
from kengele_node.pages.guard import below
from kengele_schemas import signatures
from kengele_schemas.drafts import Draft
from kengele_schemas.errors import KengeleError, Malformed

from .pages import PAGES, VIEW
from .view import InForce, View


def add_routes(app: web.Application) -> None:
    """Adds ``/approvals``."""
    app.router.add_get(below("approvals"), _approvals)
    app.router.add_post(below("approvals"), _decide)


async def _approvals(request: web.Request) -> web.Response:
    view = request.app[VIEW]
    held = await view.in_force(anew=True)
    found = [await _shown(view, held, row) for row in await board.proposals(view.session, held.files)]
    return request.app[PAGES].show(
        request,
        "approvals",
        proposals=found[::-1],
        own=view.own,
        held=held,
        made=request.query.get("made", ""),
        published="published" in request.query,
        dropped=board.STILL_VALID if "dropped" in request.query else "",
    )


async def _shown(view: View, held: InForce, row: dict[str, Any]) -> dict[str, Any]:
    """``row`` of the board with the changes it would make; a draft that does not hold shows none, and why."""
    if row["state"] not in ("open", "overtaken"):
        return {**row, "changes": [], "effect": ()}
    draft = await board.get(view.session, row["name"])
    return {**row, **await asyncio.to_thread(checked, draft, held, row["state"], view.now())}


def checked(draft: Draft, held: InForce, state: str, moment: datetime) -> dict[str, Any]:
    """The changes of ``draft`` in plain sentences, after it was made anew from its documents and came out the same."""
    if state == "open":
        try:
            found = drafting.reviewed(draft, held.files, moment)
        except KengeleError as error:
            return {"state": error.code, "changes": [], "effect": ()}
        seen = found.effect
        changes = [*found.changes, *(seen.warnings() if seen else ())]
        return {"changes": changes, "effect": seen.changes if seen else (), "needed": found.needed(draft)}
    after = {path: json.loads(data) for path, data in draft.documents.items()}
    return {"changes": drafting.what_changes(draft, held.documents, after, held.files), "effect": ()}


async def _decide(request: web.Request) -> web.Response:
    view, form = request.app[VIEW], await request.post()
    name, what = str(form.get("name", "")), str(form.get("what", ""))
    if what == "drop":
        still = await board.withdraw(view.session, name)
        raise web.HTTPSeeOther("approvals?dropped=1" if still else "approvals")
    draft = await board.get(view.session, name)
    held = await view.in_force(anew=True)
    await asyncio.to_thread(drafting.reviewed, draft, held.files, view.now())
    if what == "sign":
        await board.put(view.session, signatures.sign(draft, view.member.key))
        raise web.HTTPSeeOther("approvals")
    if what == "publish":
        await publish(view.session, draft)
        await board.drop(view.session, name)
        await view.in_force(anew=True)
        raise web.HTTPSeeOther("approvals?published=1")
    raise Malformed("malformed", "The form does not say what is to be done.", "Load the page anew.")
