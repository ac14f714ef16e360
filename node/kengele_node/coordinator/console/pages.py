"""The console's pages, made from templates in the browser's language."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import jinja2
from aiohttp import web

from kengele_node.pages import texts
from kengele_node.pages.guard import FORM_TOKEN, SESSION, name_of

from .view import View

PLACES: Final = (
    ("rules", "Rules"),
    ("draft", "Draft"),
    ("approvals", "Approvals"),
    ("members", "Members"),
    ("invitations", "Invitations"),
    ("audit", "Audit"),
)
"""The pages, in the order of the menu, by what stands last in their address."""


class Pages:
    """Makes pages from templates, in the browser's language."""

    def __init__(self) -> None:
        folders = [Path(str(files(package) / "templates")) for package in ("kengele_node.pages", __package__)]
        self._templates = {code: self._environment(folders, code) for code in texts.LANGUAGES}

    def _environment(self, folders: list[Path], language: str) -> jinja2.Environment:
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(folders),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.i18n"],
        )
        environment.install_gettext_translations(texts.words(language), newstyle=True)  # type: ignore[attr-defined]
        return environment

    def show(self, request: web.Request, name: str, *, status: int = 200, **values: Any) -> web.Response:
        """The page ``name`` with ``values``; ``notes`` among them are pairs of kind and text."""
        language = request.get(LANGUAGE, "en")
        text = (
            self._templates[language]
            .get_template(f"{name}.html")
            .render(
                {
                    "language": language,
                    "direction": texts.LANGUAGES[language].direction,
                    "languages": texts.LANGUAGES,
                    "menu": PLACES,
                    "here": name_of(request),
                    "form_field": FORM_TOKEN,
                    "form_token": request[SESSION].form_token,
                    "notes": [],
                    **values,
                }
            )
        )
        return web.Response(text=text, content_type="text/html", status=status)


LANGUAGE: Final = web.RequestKey("language", str)
VIEW: Final = web.AppKey("view", View)
PAGES: Final = web.AppKey("pages", Pages)
