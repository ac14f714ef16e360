"""The draft: rules as they would be, one form a rule, and their effect beside it before anything is signed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date
from typing import Any, Final

from aiohttp import web
from multidict import MultiMapping

from kengele_node.coordinator import documents as papers
from kengele_node.coordinator.drafts import Working, rebased
from kengele_node.pages.guard import below
from kengele_schemas import taxonomy, tlp
from kengele_schemas.areas import EVERYWHERE, Areas
from kengele_schemas.compartments import GRANTABLE
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.fields import BadField, read
from kengele_schemas.policy import Rule
from kengele_schemas.release import BadRule, check_rule

from . import effect
from .pages import LANGUAGE, PAGES, VIEW
from .view import POLICY, InForce

_NEW: Final = "new"
UNSIGNED: Final = ("begin", "discard", "remove", "rebase", "save")
"""Acts upon the draft that stay on this machine."""
_KINDS_OF_PLACES: Final = ("admin1", "admin2")


def add_routes(app: web.Application) -> None:
    """Adds ``/draft`` and its effect."""
    app.router.add_get(below("draft"), _draft)
    app.router.add_post(below("draft"), _change)
    app.router.add_post(below("draft/effect"), _effect)


async def _draft(request: web.Request) -> web.Response:
    view = request.app[VIEW]
    held = await view.in_force()
    working = view.drafts.get(POLICY)
    if working is None:
        return request.app[PAGES].show(request, "draft_none", held=held)
    editing = request.query.get("edit", "")
    rule = working.find(editing)
    form = _values(rule) if rule else _values(None) if editing == _NEW else None
    whole = await asyncio.to_thread(effect.whole, held, working.rules, view.now().date()) if form is None else None
    return _shown(request, held, working, form, rule, original=editing if rule else "", whole=whole)


def _shown(
    request: web.Request,
    held: InForce,
    working: Working,
    form: dict[str, Any] | None,
    rule: Rule | None,
    *,
    original: str = "",
    error: Malformed | None = None,
    whole: effect.Whole | None = None,
) -> web.Response:
    shown = _measured(request.query, held, working.rules, rule, request.app[VIEW].now().date())
    return request.app[PAGES].show(
        request,
        "draft",
        status=400 if error else 200,
        held=held,
        working=working,
        before={one.id: one for one in held.rules},
        form=form,
        original=original,
        error=error,
        whole=whole,
        wrong=set(error.paths)
        if isinstance(error, BadField)
        else {error.path}
        if isinstance(error, BadRule)
        else set(),
        **shown,
        **_choices(held, request.get(LANGUAGE, "en")),
    )


def _choices(held: InForce, language: str) -> dict[str, Any]:
    """What the form offers, with the labels of categories in ``language``."""
    areas = held.trusted.areas
    named = {code for rule in held.rules for code in rule.areas}
    return {
        "audiences": [(name, _audience(name, held)) for name in held.trusted.offices.audiences],
        "places": [(row.code, row.name) for row in areas if row.kind not in _KINDS_OF_PLACES or row.code in named],
        "groups_of_categories": [
            (code, [(leaf, taxonomy.label(leaf, language)) for leaf in taxonomy.leaves(code)])
            for code in _category_groups()
        ],
        "category_labels": {code: taxonomy.label(code, language) for code in taxonomy.codes()},
        "levels": tlp.LEVELS,
        "compartments": GRANTABLE,
    }


def _category_groups() -> list[str]:
    return [code for code in taxonomy.codes() if not taxonomy.reportable(code) and taxonomy.parent(code)]


def _audience(name: str, held: InForce) -> str:
    kind, _, one = name.partition(":")
    office = held.trusted.offices.get(one) if kind == "office" else None
    return office.name if office else ", ".join(sorted(held.trusted.offices.members(name)))


def _measured(asked: Any, held: InForce, rules: tuple[Rule, ...], rule: Rule | None, today: date) -> dict[str, Any]:
    """The effect of ``rules`` on the kind of report that was asked for."""
    values: dict[str, Any] = {"matrix": {}, "changes": [], "facts": None, "trouble": None}
    try:
        facts = effect.facts_of(asked, rule, held.trusted.areas)
        shown = effect.matrix(effect.compiled(held, held.rules), effect.compiled(held, rules), facts, today)
        values |= {"facts": facts, "matrix": shown, "changes": effect.changes(shown)}
    except Malformed as error:
        values["trouble"] = error
    return values


def _values(rule: Rule | None) -> dict[str, Any]:
    """The form's fields for ``rule``, or for a new one."""
    if rule is None:
        return {
            "id": "",
            "kind": "grant",
            "compartments": [],
            "to": [],
            "areas": "",
            "categories": [EVERYWHERE],
            "min_severity": "1",
            "max_severity": "5",
            "tlp_up_to": "AMBER",
            "tlp_from": "",
            "expires": "",
            "reason": "",
        }
    return {
        "id": rule.id,
        "kind": "grant" if rule.grant is not None else "forbid",
        "compartments": list(rule.compartments),
        "to": list(rule.to),
        "areas": ", ".join(rule.areas),
        "categories": list(rule.categories),
        "min_severity": str(rule.min_severity),
        "max_severity": str(rule.max_severity),
        "tlp_up_to": rule.tlp_up_to or "",
        "tlp_from": rule.tlp_from or "",
        "expires": rule.expires.isoformat() if rule.expires else "",
        "reason": rule.reason,
    }


def _entered(form: MultiMapping[Any]) -> dict[str, Any]:
    """The form's fields as they were entered."""
    one = {name: str(form.get(name, "")).strip() for name in _values(None)}
    many = {name: [str(value) for value in form.getall(name, [])] for name in ("compartments", "to", "categories")}
    return {**one, **many}


def _rule(entered: dict[str, Any], areas: Areas) -> Rule:
    """The rule that was entered. Raises Malformed, naming the field."""
    value: dict[str, Any] = {
        "id": entered["id"],
        entered["kind"] if entered["kind"] == "forbid" else "grant": entered["compartments"],
        "to": entered["to"],
        "areas": [
            part.strip() if part.strip() == EVERYWHERE else effect.area_code(part, areas)
            for part in entered["areas"].split(",")
            if part.strip()
        ],
        "categories": [EVERYWHERE] if EVERYWHERE in entered["categories"] else entered["categories"],
        "reason": entered["reason"],
    }
    for name in ("min_severity", "max_severity"):
        value[name] = int(entered[name]) if entered[name].isdecimal() and len(entered[name]) == 1 else entered[name]
    for name in ("tlp_up_to", "tlp_from", "expires"):
        if entered[name]:
            value[name] = entered[name]
    return read(Rule, value)


async def _effect(request: web.Request) -> web.Response:
    """The effect of the draft with the rule that stands in the form, though it is not saved yet."""
    view, form = request.app[VIEW], await request.post()
    held, working = await view.in_force(), view.drafts.get(POLICY)
    if working is None:
        raise _no_draft()
    entered, original = _entered(form), str(form.get("original", ""))
    try:
        rule = _rule(entered, held.trusted.areas)
        check_rule(rule, held.trusted.offices, held.trusted.areas)
        shown = _measured(form, held, _with(working, original, rule), rule, view.now().date())
    except Malformed as error:
        shown = {"matrix": {}, "changes": [], "facts": None, "trouble": error}
    return request.app[PAGES].show(request, "effect", compartments=GRANTABLE, **shown)


def _with(working: Working, original: str, rule: Rule) -> tuple[Rule, ...]:
    """The draft's rules with ``rule`` in the place of the one it was, or at their end."""
    if working.find(original) is None:
        return (*working.rules, rule)
    return tuple(rule if one.id == original else one for one in working.rules)


async def _change(request: web.Request) -> web.StreamResponse:
    view, form = request.app[VIEW], await request.post()
    what = str(form.get("what", ""))
    held = await view.in_force(anew=what in ("begin", "rebase", "propose"))
    if what == "begin":
        if view.drafts.get(POLICY) is None:
            view.drafts.save(POLICY, Working(held.trusted.policy.version, held.rules, held.rules), revision=0)
        raise web.HTTPSeeOther("draft")
    working, revision = view.drafts.get(POLICY), _revision(form)
    if working is None:
        raise _no_draft()
    if what == "discard":
        view.drafts.discard(POLICY, revision=revision)
        raise web.HTTPSeeOther("rules")
    if what == "remove":
        view.drafts.save(POLICY, replace(working, rules=working.without(str(form.get("rule", "")))), revision=revision)
        raise web.HTTPSeeOther("draft")
    if what == "rebase":
        put, _ = rebased(working, held.rules, held.trusted.policy.version)
        view.drafts.save(POLICY, put, revision=revision)
        raise web.HTTPSeeOther("draft")
    if what == "save":
        return _saved(request, held, working, form, revision)
    if what == "propose":
        return await _proposed(request, held, working, revision)
    raise Malformed("malformed", "The form does not say what is to be done.", "Load the page anew.")


def _saved(
    request: web.Request, held: InForce, working: Working, form: MultiMapping[Any], revision: int
) -> web.StreamResponse:
    entered, original = _entered(form), str(form.get("original", ""))
    try:
        rule = _rule(entered, held.trusted.areas)
        check_rule(rule, held.trusted.offices, held.trusted.areas)
        if rule.id != original and working.find(rule.id) is not None:
            raise Malformed("bad-rule", "Another rule has this id.", "Give each rule an id of its own.")
        request.app[VIEW].drafts.save(POLICY, replace(working, rules=_with(working, original, rule)), revision=revision)
    except Malformed as error:
        return _shown(request, held, working, entered, None, original=original, error=error)
    except Refused as error:
        if error.code != "changed-meanwhile":
            raise
        told = Malformed(
            error.code, error.sentence, "What you entered stands below; save it once more if it still fits."
        )
        return _shown(request, held, working, entered, None, original=original, error=told)
    raise web.HTTPSeeOther(f"draft?edit={rule.id}")


async def _proposed(request: web.Request, held: InForce, working: Working, revision: int) -> web.StreamResponse:
    view = request.app[VIEW]
    # Another window, or somebody else in it, may have changed the draft after the page was drawn that she looks at.
    view.drafts.seen(POLICY, revision)
    if working.base != held.trusted.policy.version:
        raise Refused(
            "overtaken",
            "Other rules came into force since this draft was begun.",
            "Put the draft upon them first: the button is on the draft's page.",
        )
    if working.rules == held.rules:
        raise Refused("nothing-changed", "The draft is what is in force already.", "Change a rule first.")
    name = await view.propose(papers.adopt(held.documents, working.rules))
    view.drafts.discard(POLICY, revision=revision)
    raise web.HTTPSeeOther(f"approvals?made={name}")


def _revision(form: MultiMapping[Any]) -> int:
    text = str(form.get("revision", ""))
    return int(text) if text.isdecimal() and len(text) < 12 else -1


def _no_draft() -> Refused:
    return Refused("no-draft", "There is no draft.", "Begin one on the page of rules.")
