"""What the hub may log: one JSON line an event, and of each only the fields that are named here.

An allow-list and not a filter for secrets: what nobody thought of is left out.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

import structlog

ALLOWED: Final = frozenset(
    {"event", "level", "timestamp", "code", "error", "sequence", "version", "count", "url", "ops", "pid"}
)
_WORD: Final = 120


def only_allowed(_: Any, __: str, event: Any) -> dict[str, Any]:
    """Drops every field but :data:`ALLOWED`, and any value that is not short and plain."""
    return {
        name: value
        for name, value in event.items()
        if name in ALLOWED and (isinstance(value, int) or (isinstance(value, str) and len(value) <= _WORD))
    }


def configure() -> None:
    """Sends the hub's log to stderr. Other libraries' logging is silenced: it could print what was received."""
    logging.disable(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            only_allowed,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
