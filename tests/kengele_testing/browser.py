"""Debian's Chromium, driven by Playwright, and what every page has to hold: axe-core's rules, no sideways scrolling."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MISSING = "CHROMIUM IS NOT INSTALLED (.ci/browser installs it): the pages were not tested"
_QUIET = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync")


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless browser."""
    options = [*_QUIET, "--disable-component-update", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        try:
            yield started
        finally:
            started.close()


def opened(driven: Browser, url: str, *, width: int = 1280, language: str = "en", **options: Any) -> Page:
    """A fresh browser's page at ``url``; an error in a script fails the test."""
    context = driven.new_context(viewport={"width": width, "height": 900}, locale=language, **options)
    context.set_default_timeout(20_000)
    page = context.new_page()
    page.on("pageerror", _raise)
    page.goto(url)
    return page


def _raise(error: Any) -> None:
    raise AssertionError(str(error))


def hold(page: Page, shots: Path, name: str) -> None:
    """Checks the page as it stands by axe-core's rules (WCAG 2.2 AA among them), and keeps its picture."""
    page.screenshot(path=shots / f"{name}.png", full_page=True)
    found = Axe().run(page)
    assert not found.violations_count, (name, [row["id"] for row in found.response["violations"]])
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), name
