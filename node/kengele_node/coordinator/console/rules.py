"""Rules in force: one row a rule, what ends soon, and the way into a draft."""

from __future__ import annotations

from aiohttp import web

from kengele_node.pages.guard import below
from kengele_schemas.lint import VERY_SOON

from .pages import PAGES, VIEW
from .view import POLICY


def add_routes(app: web.Application) -> None:
    """Adds ``/rules``."""
    app.router.add_get(below("rules"), _rules)


async def _rules(request: web.Request) -> web.Response:
    view = request.app[VIEW]
    held = await view.in_force()
    moment = view.now()
    return request.app[PAGES].show(
        request,
        "rules",
        held=held,
        today=moment.date(),
        expiring=held.expiring(moment.date()),
        ending=held.signatures_end_soon(moment),
        very_soon=moment.date() + VERY_SOON,
        areas_ending=held.areas_end_soon(moment),
        working=view.drafts.get(POLICY),
    )
