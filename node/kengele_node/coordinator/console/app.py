"""``kengele coordinator console``: the pages, served on 127.0.0.1 to the browser that was opened with its address."""

from __future__ import annotations

import argparse
import asyncio
import signal
from contextlib import suppress
from importlib.resources import files
from typing import Any, Final

from aiohttp import web
from multidict import MultiMapping

from kengele_node import terminal
from kengele_node.coordinator.drafting import action, opened
from kengele_node.coordinator.drafts import Drafts
from kengele_node.member import Member
from kengele_node.pages import opening, texts
from kengele_node.pages.guard import MAX_BODY, Guard, below, silent
from kengele_node.pages.proof import Proof
from kengele_node.pages.sessions import Sessions
from kengele_schemas import local_pages
from kengele_schemas.errors import KengeleError

from . import approvals, audit, draft, invitations, members, rules
from .pages import LANGUAGE, PAGES, VIEW, Pages
from .view import View

_STATIC: Final = {
    name: ((files("kengele_node.pages") / "static" / name).read_bytes(), kind)
    for name, kind in (("style.css", "text/css"), ("draft.js", "text/javascript"))
}


def add(actions: Any) -> None:
    """Adds ``console``."""
    console = action(
        actions,
        "console",
        "open the coordinators' console in the browser",
        "kengele coordinator console --home alice",
        _console,
    )
    console.add_argument("--port", type=int, default=0, help="on 127.0.0.1 (default: one that is free)")
    console.add_argument("--no-browser", action="store_true", help="print an address, good once, instead")


def application(view: View, sessions: Sessions | None = None) -> tuple[web.Application, Guard]:
    """The console as an application, and what guards it."""

    def told(request: web.Request, error: KengeleError) -> web.Response:
        status = 409 if error.code == "changed-meanwhile" else 400
        return app[PAGES].show(request, "trouble", status=status, error=error)

    def asking(request: web.Request, fields: list[tuple[str, str]], left: int | None) -> web.Response:
        values = {"fields": fields, "left": left, "by_key_file": view.member.vault.by_key_file}
        return app[PAGES].show(request, "proof", status=403, **values)

    guard = Guard(told, terminal.note, sessions)
    proof = Proof(guard, view.member.vault.opened_by, asking, _own, terminal.note)
    app = web.Application(middlewares=[guard.middleware, _language, proof.middleware], client_max_size=MAX_BODY)
    app[VIEW], app[PAGES] = view, Pages()
    for room in (rules, draft, approvals, members, invitations, audit):
        room.add_routes(app)
    app.router.add_get(below(""), _first)
    app.router.add_get(below("static/{name}"), _static)
    return app, guard


def _own(page: str, form: MultiMapping[object]) -> bool:
    """Whether a form changes nothing but the coordinator's own draft, which nobody else sees: that needs no key."""
    return page == "draft/effect" or (page == "draft" and form.get("what") in draft.UNSIGNED)


async def _first(_: web.Request) -> web.Response:
    raise web.HTTPSeeOther("rules")


async def _static(request: web.Request) -> web.Response:
    try:
        data, kind = _STATIC[request.match_info["name"]]
    except KeyError:
        raise web.HTTPNotFound from None
    return web.Response(body=data, content_type=kind, charset="utf-8")


@web.middleware
async def _language(request: web.Request, handler: Any) -> web.StreamResponse:
    asked = request.query.get("lang") or request.cookies.get("lang")
    language = texts.chosen(asked, request.headers.get("Accept-Language", ""))
    request[LANGUAGE] = language
    response: web.StreamResponse = await handler(request)
    if "lang" in request.query:
        response.set_cookie("lang", language, httponly=True, samesite="Strict", path="/", max_age=365 * 86400)
    return response


def _console(args: argparse.Namespace) -> int:
    member = opened(args)
    return asyncio.run(serve(member, args))


async def serve(member: Member, args: argparse.Namespace) -> int:
    """Serves until it is told to end."""
    opening.in_background()
    drafts = Drafts(member.home / "drafts.db", member.vault.rows("drafts"))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    try:
        async with member.session(0 if "jwt" in member.vault.secrets else 15) as session:
            app, guard = application(View(member, session, drafts))
            runner = web.AppRunner(app, access_log=None, logger=silent(), shutdown_timeout=1)
            await runner.setup()
            listener, port = None, 0
            try:
                listener, port = await local_pages.listening(runner.server, args.port)
                guard.bind(port)
                browser = not args.json and not args.no_browser
                tell = _json if args.json else _text
                async with opening.offered(guard, member.home, tell, terminal.note, browser=browser):
                    if not args.json:
                        terminal.note("Enter gives a new address, Ctrl-C ends the console; drafts are kept.")
                    await stop.wait()
            finally:
                if listener is not None:
                    listener.close()
                await runner.cleanup()
    finally:
        drafts.close()
    return 0


def _json(url: str) -> None:
    terminal.emit({"url": url})


def _text(url: str) -> None:
    terminal.say(f"The console is at {url}")
    terminal.note("That address lets one browser in, once, within two minutes. Tell it to nobody.")
