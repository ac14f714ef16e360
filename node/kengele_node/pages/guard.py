"""What stands before every page: who may ask, and what a browser may do with the answer.

The pages act with a member's key, so they answer only a browser that came in by the start address. Its token becomes a
cookie that no other site's page can send along (SameSite=Strict); a page of another site whose name is made to mean
127.0.0.1 is turned away by its Host header; a form carries a token of its own.
Sources: RFC 6265bis §4.1.2.7, W3C Content Security Policy 3, OWASP "Cross-Site Request Forgery Prevention".
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from kengele_schemas.errors import KengeleError

FORM_TOKEN: Final = "form"  # noqa: S105
MAX_BODY: Final = 1024 * 1024
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Told = Callable[[web.Request, KengeleError], web.Response]


class Guard:
    """Lets in whoever knows the start address.

    Args:
        told: makes the page that says what went wrong.
    """

    def __init__(self, told: Told) -> None:
        self._told = told
        self._start = secrets.token_urlsafe(24)
        self._session = secrets.token_urlsafe(24)
        # Cookies know no ports: under one name, two consoles on a machine would put each other out.
        self._cookie = f"kengele-{secrets.token_hex(4)}"
        self._hosts: frozenset[str] = frozenset()
        self.form_token = secrets.token_urlsafe(24)

    def start_url(self, port: int) -> str:
        """The address by which a browser comes in, as long as this process runs."""
        self._hosts = frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]"))
        return f"http://127.0.0.1:{port}/start?token={self._start}"

    @web.middleware
    async def middleware(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Checks host, cookie and form token; adds the headers."""
        response = await self._answer(request, handler)
        response.headers.update(_HEADERS)
        if not request.path.startswith("/static/"):
            response.headers["Cache-Control"] = "no-store"
        return response

    async def _answer(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.host not in self._hosts:
            return web.Response(status=421, text="Not here.")
        if request.path == "/start":
            return self._started(request)
        if not _same(request.cookies.get(self._cookie, ""), self._session):
            return web.Response(status=403, text="Open this page with the address that the command printed.")
        if request.method not in ("GET", "HEAD"):
            form = await request.post()
            if not _same(str(form.get(FORM_TOKEN, "")), self.form_token):
                return web.Response(status=403, text="This form is not of this page. Go back, load it anew, try again.")
        try:
            return await handler(request)
        except KengeleError as error:
            return self._told(request, error)

    def _started(self, request: web.Request) -> web.Response:
        if not _same(request.query.get("token", ""), self._start):
            return web.Response(status=403, text="This address is of another console. Use the one printed last.")
        response = web.Response(status=303, headers={"Location": "/"})
        response.set_cookie(self._cookie, self._session, httponly=True, samesite="Strict", path="/")
        return response


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())
