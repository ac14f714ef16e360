"""Invitations: somebody is invited, comes, reads digits out, and is let in by a proposal; never by a bare "approve"."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web
from multidict import MultiMapping

from kengele_node import qr
from kengele_node.coordinator import lobby, replacing
from kengele_node.coordinator.lobby import Guest
from kengele_node.pages.guard import below
from kengele_schemas.errors import KengeleError, Malformed, Refused
from kengele_schemas.fields import read
from kengele_schemas.invitations import OfficeName

from .effect import area_code
from .pages import PAGES, VIEW
from .view import InForce, View

_LIFE: Final = 72 * 3600
_PATIENCE: Final = 15.0
"""Seconds for a newcomer who waits to show its request."""
_OVER: Final = ("denied", "in", "expired")


def add_routes(app: web.Application) -> None:
    """Adds ``/invitations``."""
    app.router.add_get(below("invitations"), _invitations)
    app.router.add_post(below("invitations"), _change)


async def _invitations(request: web.Request) -> web.Response:
    return await _shown(request)


async def _shown(request: web.Request, *, link: str = "") -> web.Response:
    view = request.app[VIEW]
    held = await view.in_force()
    moment = view.now()
    found = [await _answered(view, guest) for guest in await lobby.guests(view.session, held.files)]
    rows = [_row(held, guest, moment) for guest in found if guest.state(moment.timestamp()) not in _OVER]
    picture = ""
    with suppress(Refused):
        picture = qr.inline(link) if link else ""
    groups = sorted(name.removeprefix("group:") for name in held.trusted.offices.audiences if name.startswith("group:"))
    return request.app[PAGES].show(
        request, "invitations", rows=rows[::-1], link=link, picture=picture, groups=groups, areas=held.trusted.areas
    )


async def _answered(view: View, guest: Guest) -> Guest:
    """``guest``, answered if it waits and was invited from here: so the digits can be read out at once."""
    if guest.terms.inviter == view.own and guest.state(view.now().timestamp()) == "waiting":
        with suppress(KengeleError):
            return await lobby.answer(view.session, guest)
    return guest


def _row(held: InForce, guest: Guest, moment: datetime) -> dict[str, Any]:
    terms = guest.terms
    return {
        "id": terms.id,
        "state": guest.state(moment.timestamp()),
        "role": terms.role,
        "member": guest.member,
        "areas": terms.areas,
        "inviter": terms.inviter,
        "hours": int((moment.timestamp() - terms.at) // 3600),
        "expires": datetime.fromtimestamp(terms.expires, UTC).isoformat(sep=" ", timespec="minutes"),
        "effect": lobby.effect(held.trusted, terms, moment.date()),
    }


async def _change(request: web.Request) -> web.StreamResponse:
    view, form = request.app[VIEW], await request.post()
    what = str(form.get("what", ""))
    held = await view.in_force(anew=True)
    if what == "invite":
        return await _invited(request, held, form)
    guest = lobby.find(await lobby.guests(view.session, held.files), str(form.get("invitation", "")))
    if what == "deny":
        await lobby.decide(view.session, guest, "denied")
        raise web.HTTPSeeOther("invitations")
    if what != "approve":
        raise Malformed("malformed", "The form does not say what is to be done.", "Load the page anew.")
    guest = await lobby.answer(view.session, guest)
    guest = await lobby.revealed(view.session, guest, held.files, _PATIENCE)
    joining = lobby.compare(view.member, guest, str(form.get("digits", "")))
    chosen = [str(name) for name in form.getall("group", [])]
    groups = {joining.office.id: chosen} if joining.office is not None and chosen else {}
    moment = view.now()
    when = moment.date(), int(moment.timestamp())
    changed = replacing.let_in(held.documents, guest.terms, joining, held.trusted.areas, *when, groups=groups)
    name = await view.propose(changed)
    await lobby.decide(view.session, guest, "approved")
    raise web.HTTPSeeOther(f"approvals?made={name}")


async def _invited(request: web.Request, held: InForce, form: MultiMapping[Any]) -> web.Response:
    role, at = str(form.get("role", "")), int(request.app[VIEW].now().timestamp())
    if role not in ("monitor", "office"):
        raise Malformed("malformed", "A newcomer is a monitor or an office.", "Choose one of the two.")
    areas = [area_code(part, held.trusted.areas) for part in str(form.get("areas", "")).split(",") if part.strip()]
    if not areas:
        raise Malformed("bad-field", "No area is named.", "Name where it reports from, or follows.")
    office = None
    if role == "office":
        wanted = {"id": str(form.get("office", "")).strip(), "name": str(form.get("name", "")).strip()}
        office = read(OfficeName, {**wanted, "name": wanted["name"] or wanted["id"]})
        if held.trusted.offices.get(office.id) is not None:
            raise Refused("already-admitted", "There is an office of this id.", "Choose another id.")
    invitation = await lobby.invite(request.app[VIEW].session, role, areas, office=office, at=at, expires=at + _LIFE)
    return await _shown(request, link=invitation.link())
