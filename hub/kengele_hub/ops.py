"""The operator's page: ``/livez``, ``/readyz``, ``/metrics`` and ``/status``, on loopback only.

No figure has a label that says who, where or what; the counts are of codes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from .broker import port_taken

State = Callable[[], dict[str, Any]]


class Page:
    """Serves what ``state`` gives."""

    def __init__(self, state: State) -> None:
        self._state = state

    @asynccontextmanager
    async def serving(self, port: int) -> AsyncIterator[str]:
        """Serves while the block runs; gives the address, empty if ``port`` is 0. -1 lets the system choose."""
        if port == 0:
            yield ""
            return
        app = web.Application()
        app.router.add_get("/livez", self._live)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/status", self._status)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, "127.0.0.1", max(port, 0)).start()
            except OSError:
                raise port_taken(port) from None
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _live(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        ready = bool(self._state()["ready"])
        return web.Response(text="ok\n" if ready else "not ready\n", status=200 if ready else 503)

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response(self._state())

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(text=metrics(self._state()), content_type="text/plain", charset="utf-8")


def metrics(state: dict[str, Any]) -> str:
    """``state`` in the Prometheus text format (version 0.0.4)."""
    lines = [
        "# HELP kengele_ready Whether reports are taken in.",
        "# TYPE kengele_ready gauge",
        f"kengele_ready {int(bool(state['ready']))}",
        "# HELP kengele_log_entries Leaves in the audit log.",
        "# TYPE kengele_log_entries gauge",
        f"kengele_log_entries {state['log_size']}",
        "# HELP kengele_delivered_total Messages put into feeds since the start.",
        "# TYPE kengele_delivered_total counter",
        f"kengele_delivered_total {state['delivered']}",
        "# HELP kengele_receipts_total Receipts given since the start, by code.",
        "# TYPE kengele_receipts_total counter",
        *(f'kengele_receipts_total{{code="{code}"}} {count}' for code, count in state["receipts"].items()),
    ]
    return "\n".join((*lines, ""))
