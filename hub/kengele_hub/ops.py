"""The operator's page: ``/livez``, ``/readyz``, ``/metrics`` and ``/status``, on loopback only.

No figure has a label that says who, where or what; the counts are of codes. Every user of the machine may read them;
pages of other sites may not: it answers to its own names alone, and to those that the settings name for a proxy.
Nothing that is sent is repeated or logged.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

from aiohttp import web

from kengele_schemas import local_pages

from .broker import port_taken

State = Callable[[], dict[str, Any]]
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_HEADERS: Final = {**local_pages.HEADERS, "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"}
_LOG: Final = logging.getLogger("kengele.ops")
_LOG.addHandler(logging.NullHandler())
_LOG.propagate = False


class Page:
    """Serves what ``state`` gives.

    Args:
        state: gives the figures.
        names: further Host headers that it answers, as a proxy sends them.
    """

    def __init__(self, state: State, names: Iterable[str] = ()) -> None:
        self._state = state
        self._hosts = frozenset(name.lower() for name in names)

    @asynccontextmanager
    async def serving(self, port: int) -> AsyncIterator[str]:
        """Serves while the block runs; gives the address, empty if ``port`` is 0. -1 lets the system choose."""
        if port == 0:
            yield ""
            return
        app = web.Application(middlewares=[self._guarded])
        app.router.add_get("/livez", self._live)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/status", self._status)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None, logger=_LOG, shutdown_timeout=1)
        await runner.setup()
        try:
            try:
                listener, port = await local_pages.listening(runner.server, max(port, 0))
            except OSError:
                raise port_taken(port) from None
            self._hosts |= local_pages.hosts(port)
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                listener.close()
        finally:
            await runner.cleanup()

    @web.middleware
    async def _guarded(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Turns away who asks by another name; adds the headers to whatever is answered."""
        if request.host.lower() not in self._hosts:
            return web.Response(status=421, text="Not here.\n", headers=_HEADERS)
        try:
            response = await handler(request)
        except web.HTTPException as answer:
            answer.headers.update(_HEADERS)
            raise
        response.headers.update(_HEADERS)
        return response

    async def _live(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        state = self._state()
        if state["ready"]:
            return web.Response(text="ok\n")
        return web.Response(text="".join(("not ready\n", *(f"{code}\n" for code in state["not_ready"]))), status=503)

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response(self._state())

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(text=metrics(self._state()), content_type="text/plain", charset="utf-8")


_FIGURES: Final = (
    ("ready", "kengele_ready", "Whether reports are taken in and all holds."),
    ("connected", "kengele_broker_connected", "Whether the line to the broker is up."),
    ("founded", "kengele_founded", "Whether there is a roster and a policy."),
    ("log_size", "kengele_log_entries", "Leaves in the audit log."),
    ("delivered", "kengele_delivered_total", "Messages put into feeds since the start."),
    ("paused", "kengele_pauses_total", "Senders kept out for a time since the start, for sending far too much."),
    ("undelivered", "kengele_undelivered", "Entries of the log that are not in every feed yet."),
    ("roster_version", "kengele_roster_version", "Version of the coordinators' signed list."),
    ("policy_version", "kengele_policy_version", "Version of the policy in force."),
    ("signatures_hold_until", "kengele_signatures_end_timestamp_seconds", "When a coordinators' signature runs out."),
    ("root_holds_until", "kengele_root_end_timestamp_seconds", "When the root runs out."),
    ("vouched_until", "kengele_vouched_end_timestamp_seconds", "When the hub's own signature runs out."),
    ("next_rule_ends", "kengele_next_rule_end_timestamp_seconds", "When the first grant ends."),
    ("certificate_holds_until", "kengele_certificate_end_timestamp_seconds", "When the TLS certificate runs out."),
    ("last_cosigned", "kengele_last_cosigned_timestamp_seconds", "When an office last cosigned the log."),
    ("storage_bytes", "kengele_storage_bytes", "Bytes in all streams."),
    ("storage_limit_bytes", "kengele_storage_limit_bytes", "Bytes that all streams may take."),
    ("disk_free_bytes", "kengele_disk_free_bytes", "Bytes free on the disk of the hub's home."),
    ("disk_size_bytes", "kengele_disk_size_bytes", "Size of that disk."),
)
"""Member of the state, name and help; what is not known is left out."""


def metrics(state: dict[str, Any]) -> str:
    """``state`` in the Prometheus text format (version 0.0.4)."""
    lines: list[str] = []
    for member, name, what in _FIGURES:
        value = state.get(member)
        if value is not None:
            number = int(datetime.fromisoformat(value).timestamp()) if isinstance(value, str) else int(value)
            lines += (*_heading(name, what), f"{name} {number}")
    lines += _heading("kengele_receipts_total", "Receipts given since the start, by code.")
    lines += [f'kengele_receipts_total{{code="{code}"}} {count}' for code, count in state["receipts"].items()]
    return "\n".join((*lines, ""))


def _heading(name: str, what: str) -> tuple[str, str]:
    return f"# HELP {name} {what}", f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}"
