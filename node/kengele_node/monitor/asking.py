"""Asking: an author is shown who will read what, and what she says yes to is what is sealed.

>>> plan = asked(args, member, trusted, lambda rules: plan_report(report, rules, kid=kid, report_id=id, now=now()))
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from kengele_node import terminal
from kengele_node.member import Member
from kengele_node.newest import Older
from kengele_schemas.trusted import Trusted

from .compose import Plan
from .consent import same


def asked(args: argparse.Namespace, member: Member, trusted: Trusted, make: Callable[[Trusted], Plan]) -> Plan | None:
    """What is to be sealed, after its author has seen who will read what; None if she does not want it so.

    Time passes while she reads. Where rules ran out meanwhile, or others were taken in, she is shown what holds now.

    Args:
        make: the plan by some rules, as of the moment in which it is called.
    """
    plan, older = make(trusted), member.newest.older(trusted)
    while True:
        if not args.json:
            for line in (*plan.lines(), *([older.line()] if older else ())):
                terminal.say(line)
        # What nobody may read is refused when it is to be sealed, so there is nothing to agree to.
        if not plan.readers or getattr(args, "preview", False) or args.yes or not terminal.interactive():
            return plan
        if not terminal.confirm("Seal and send it so?"):
            return None
        trusted = member.offline()
        now, shown, older = make(trusted), older, member.newest.older(trusted)
        if same(plan, now) and (older is None or shown is not None):
            return now
        terminal.note("Meanwhile the rules have changed. By those of now:")
        plan = now


def readers(plan: Plan) -> list[dict[str, Any]]:
    """Who reads what, as JSON."""
    return [
        {"office": one.office, "compartments": list(one.compartments), "rules": list(one.rules)} for one in plan.readers
    ]


def told(plan: Plan, older: Older | None) -> dict[str, Any]:
    """A plan as JSON, and whether the hub is known to use newer rules."""
    new_keys = {name: day.isoformat() for name, day in plan.renewed}
    return {"readers": readers(plan), "without": plan.without, "mode": plan.mode, "new_keys": new_keys, **_older(older)}


def _older(older: Older | None) -> dict[str, Any]:
    return {"older_rules": older.document()} if older else {}
