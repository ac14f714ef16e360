"""``kengele coordinator console``: the pages, served on 127.0.0.1 to the browser that was opened with its address."""

from __future__ import annotations

import argparse
import asyncio
import signal
import webbrowser
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from aiohttp import web

from kengele_node import terminal
from kengele_node.coordinator.drafting import action, opened
from kengele_node.coordinator.drafts import Drafts
from kengele_node.member import Member
from kengele_node.pages import texts
from kengele_node.pages.guard import MAX_BODY, Guard
from kengele_schemas.errors import KengeleError

from . import approvals, audit, draft, invitations, members, rules
from .pages import PAGES, VIEW, Pages
from .view import View


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
    console.add_argument("--no-browser", action="store_true", help="only print the address")


def application(view: View) -> tuple[web.Application, Guard]:
    """The console as an application, and what guards it."""

    def told(request: web.Request, error: KengeleError) -> web.Response:
        status = 409 if error.code == "changed-meanwhile" else 400
        return app[PAGES].show(request, "trouble", status=status, error=error)

    guard = Guard(told)
    app = web.Application(middlewares=[guard.middleware, _language], client_max_size=MAX_BODY)
    app[VIEW], app[PAGES] = view, Pages(guard.form_token)
    for room in (rules, draft, approvals, members, invitations, audit):
        room.add_routes(app)
    app.router.add_get("/", _first)
    app.router.add_static("/static", Path(str(files("kengele_node.pages") / "static")))
    return app, guard


async def _first(_: web.Request) -> web.Response:
    raise web.HTTPSeeOther("/rules")


@web.middleware
async def _language(request: web.Request, handler: Any) -> web.StreamResponse:
    asked = request.query.get("lang") or request.cookies.get("lang")
    language = texts.chosen(asked, request.headers.get("Accept-Language", ""))
    request["language"] = language
    response: web.StreamResponse = await handler(request)
    if "lang" in request.query:
        response.set_cookie("lang", language, httponly=True, samesite="Strict", path="/", max_age=365 * 86400)
    return response


def _console(args: argparse.Namespace) -> int:
    member = opened(args)
    return asyncio.run(serve(member, args))


async def serve(member: Member, args: argparse.Namespace) -> int:
    """Serves until it is told to end."""
    drafts = Drafts(member.home / "drafts.db", member.vault.rows("drafts"))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    try:
        async with member.session(0 if "jwt" in member.vault.secrets else 15) as session:
            app, guard = application(View(member, session, drafts))
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
            await runner.setup()
            try:
                await web.TCPSite(runner, "127.0.0.1", args.port).start()
                await _tell(args, guard.start_url(runner.addresses[0][1]))
                await stop.wait()
            finally:
                await runner.cleanup()
    finally:
        drafts.close()
    return 0


async def _tell(args: argparse.Namespace, url: str) -> None:
    if args.json:
        terminal.emit({"url": url})
        return
    terminal.say(f"The console is at {url}")
    terminal.note("The address lets in whoever has it. Ctrl-C ends the console; drafts are kept.")
    if not args.no_browser:
        await asyncio.to_thread(webbrowser.open, url)
