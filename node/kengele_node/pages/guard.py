"""Guard before every page: who may ask, and what a browser may do with the answer.

The pages act with a member's key, so they answer only a browser that came in by a ticket, and that by everything at
once: its user of this machine, the Host header, a secret in the path, a cookie, and in each form a token of its own.

* Another user of the machine is turned away by the system's own list of sockets (:mod:`~kengele_node.pages.peer`).
* A server of his at another port is the same *site*: browsers send it the cookies of 127.0.0.1, SameSite or not. Ours
  is for a path that he does not know. What his page makes a browser send here says so in ``Sec-Fetch-Site``.
* A name of another site that is made to mean 127.0.0.1 is turned away by its Host header.

All that is refused is refused in the same words, whatever was asked for. What goes wrong in a handler is told by its
kind alone: neither the answer nor the terminal repeats what was sent.
Sources: RFC 6265bis §4.1.2.7, §8.8.2; W3C Content Security Policy 3, Fetch Metadata Request Headers; OWASP
"Cross-Site Request Forgery Prevention".
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from kengele_schemas import local_pages
from kengele_schemas.errors import KengeleError

from . import peer
from .sessions import Session, Sessions, Ticket

FORM_TOKEN: Final = "form"  # noqa: S105
SESSION: Final = web.RequestKey("session", Session)
"""Under this name the request holds its session."""
MAX_BODY: Final = 1024 * 1024
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {**local_pages.HEADERS, "Content-Security-Policy": _POLICY}
_OWN_NAME: Final = "127.0.0.1"
_COOKIE: Final = "kengele"
_BELOW: Final = "/s/"
_STRANGER: Final = "Open this page with a new address: press Enter where the console was started."
_OVER: Final = "This address let somebody in already, or it is too old. " + _STRANGER
# Meta refresh, because a redirect would still count as the file's own navigation: no strict cookie goes along with it.
_ENTERED: Final = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Kengele</title>'
    '<link rel="icon" href="data:,"><meta http-equiv="refresh" content="0;url={url}"><p><a href="{url}">Kengele</a></p>'
)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Told = Callable[[web.Request, KengeleError], web.Response]


def silent() -> logging.Logger:
    """The log of the web server, which keeps nothing: it would repeat what anybody sends, with a traceback."""
    logger = logging.getLogger("kengele.pages")
    logger.handlers, logger.propagate = [logging.NullHandler()], False
    return logger


def below(name: str) -> str:
    """The route of the page ``name`` in anybody's session. Links between pages are relative and never name it."""
    return f"{_BELOW}{{session}}/{name}"


def name_of(request: web.Request) -> str:
    """The page's name: what stands behind the session in the path."""
    return _parts(request)[1]


def _parts(request: web.Request) -> tuple[str, str]:
    """The session's place and the page's name in the path; both empty where the path is none of a session.

    As it was sent, which is how routes are found: a slash that is written %2F parts nothing.
    """
    path = request.rel_url.raw_path
    place, _, name = path.removeprefix(_BELOW).partition("/") if path.startswith(_BELOW) else ("", "", "")
    return place, name


class Guard:
    """Lets in who comes with a ticket.

    Args:
        told: makes the page that says what went wrong.
        noted: says a line to the person at the terminal.
        let_in: whether the user at the other end of a connection may ask at all.
    """

    def __init__(
        self,
        told: Told,
        noted: Callable[[str], None],
        sessions: Sessions | None = None,
        let_in: Callable[[web.Request], bool] = lambda request: peer.let_in(request.transport),
    ) -> None:
        self.sessions = sessions or Sessions()
        self._told = told
        self._noted = noted
        self._let_in = let_in
        self._port = 0
        self._hosts: frozenset[str] = frozenset()

    def bind(self, port: int) -> None:
        """Answers to the name of ``port`` from now on."""
        self._port, self._hosts = port, local_pages.hosts(port, [_OWN_NAME])

    def address(self, ticket: Ticket) -> str:
        """The address by which ``ticket`` lets a browser in."""
        return f"http://{_OWN_NAME}:{self._port}/start?token={ticket.token}"

    @web.middleware
    async def middleware(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Checks all that stands in the module's docstring; adds the headers."""
        try:
            response = await self._answer(request, handler)
        except web.HTTPException as answer:
            answer.headers.update(_HEADERS)
            raise
        except Exception as error:
            self._noted(f"A page failed ({type(error).__name__}).")
            response = web.Response(status=500, text="That did not work.")
        response.headers.update(_HEADERS)
        return response

    async def _answer(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if not self._let_in(request):
            return web.Response(status=403, text=_STRANGER)
        if request.host not in self._hosts:
            return web.Response(status=421, text="Not here.")
        if request.rel_url.raw_path == "/start":
            return self._started(request)
        session = self._session(request)
        if session is None:
            return web.Response(status=403, text=_STRANGER)
        request[SESSION] = session
        if request.method not in ("GET", "HEAD") and not await _of_this_page(request, session):
            return web.Response(status=403, text="This form is not of this page. Go back, load it anew, try again.")
        try:
            return await handler(request)
        except KengeleError as error:
            return self._told(request, error)

    def _session(self, request: web.Request) -> Session | None:
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return None
        session = self.sessions.find(_parts(request)[0])
        if session is None or not local_pages.same(request.cookies.get(_COOKIE, ""), session.cookie):
            return None
        return session

    def _started(self, request: web.Request) -> web.Response:
        # A look ahead must not use the ticket up: a HEAD, or what a browser fetches before the person asks for it.
        wanted = request.method == "GET" and "prefetch" not in request.headers.get("Sec-Purpose", "")
        session = self.sessions.redeem(request.query.get("token", "")) if wanted else None
        if session is None:
            return web.Response(status=403, text=_OVER)
        place = f"{_BELOW}{session.place}"
        response = web.Response(text=_ENTERED.format(url=f"{place}/"), content_type="text/html")
        response.set_cookie(_COOKIE, session.cookie, httponly=True, samesite="Strict", path=place)
        return response


async def _of_this_page(request: web.Request, session: Session) -> bool:
    """Whether the form that is sent holds the session's token; no form at all is none."""
    try:
        form = await request.post()
    except (ValueError, LookupError, AssertionError):
        return False
    return local_pages.same(str(form.get(FORM_TOKEN, "")), session.form_token)
