"""What all tests share."""

from __future__ import annotations

import re

import pytest

_KEY = re.compile(r"[A-Za-z0-9_-]{26,}")


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """A name without keys that were made for this run: two processes that share the tests must call them the same."""
    return argname if isinstance(val, str) and _KEY.search(val) else None
