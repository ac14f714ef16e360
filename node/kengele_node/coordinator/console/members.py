"""Members: who is in the network, and proposals to suspend, to let return or to remove one."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from kengele_node.coordinator import standing
from kengele_node.pages.guard import below
from kengele_schemas.errors import Malformed

from .pages import PAGES, VIEW
from .view import InForce


def add_routes(app: web.Application) -> None:
    """Adds ``/members``."""
    app.router.add_get(below("members"), _members)
    app.router.add_post(below("members"), _change)


def _rows(held: InForce) -> list[dict[str, Any]]:
    offices = [
        {"role": "office", "id": one.id, "name": one.name, "areas": one.areas, "status": one.status, "until": None}
        for one in held.trusted.offices.document.offices
    ]
    monitors = [
        {"role": "monitor", "id": one.kid, "name": "", "areas": one.areas, "status": one.status, "until": one.not_after}
        for one in held.trusted.monitors.values()
    ]
    connections = held.trusted.connections.connections if held.trusted.connections else ()
    coordinators = [
        {"role": "coordinator", "id": one.member, "name": "", "areas": (), "status": "active", "until": None}
        for one in connections
        if one.role == "coordinator"
    ]
    return [*offices, *monitors, *coordinators]


async def _members(request: web.Request) -> web.Response:
    held = await request.app[VIEW].in_force()
    wanted = request.query.get("find", "").strip().lower()
    rows = [row for row in _rows(held) if wanted in f"{row['id']} {row['name']} {' '.join(row['areas'])}".lower()]
    return request.app[PAGES].show(request, "members", held=held, rows=rows, wanted=wanted)


async def _change(request: web.Request) -> web.Response:
    view, form = request.app[VIEW], await request.post()
    member, what = str(form.get("member", "")), str(form.get("what", ""))
    held = await view.in_force(anew=True)
    if what == "suspend":
        changed = standing.suspend(held.documents, member)
    elif what == "restore":
        changed = standing.restore(held.documents, member)
    elif what == "revoke":
        if str(form.get("typed", "")).strip() != member:
            raise Malformed(
                "not-typed",
                "Removing a member is for good. Its id was not typed as it is.",
                "Go back and type it in full.",
            )
        changed = standing.remove(held.documents, member, int(view.now().timestamp()))
    else:
        raise Malformed("malformed", "The form does not say what is to be done.", "Load the page anew.")
    name = await view.propose(changed)
    raise web.HTTPSeeOther(f"approvals?made={name}")
