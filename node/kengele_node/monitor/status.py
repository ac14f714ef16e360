"""``kengele node status`` and ``rules``: where this node stands, and by which rules."""

from __future__ import annotations

import argparse
from typing import Any

from kengele_node import rules, terminal
from kengele_node.newest import Older
from kengele_schemas.errors import KengeleError

from .home import action, open_outbox, opened
from .log_memory import LogMemory


def add(actions: Any) -> None:
    """Adds ``status`` and ``rules``."""
    action(
        actions,
        "status",
        "say whether this node is in the network, how old its rules are, and what waits",
        "kengele node status --json",
        _status,
    )
    shown = action(
        actions,
        "rules",
        "show the network's rules as this node holds them, or take them in from a stick",
        "kengele node rules --from /media/stick",
        _rules,
    )
    rules.add_source(shown)


def _status(args: argparse.Namespace) -> int:
    member = opened(args)
    outbox = open_outbox(member)
    try:
        counts = outbox.counts()
    finally:
        outbox.close()
    unconfirmed = LogMemory(member.home, member.vault.rows("log")).waiting()
    state: dict[str, Any] = {
        "monitor": member.kid,
        "outbox": counts,
        "unconfirmed": unconfirmed,
        "admitted": "jwt" in member.vault.secrets,
    }
    older: Older | None = None
    try:
        trusted = member.offline()
        state |= {
            "network": trusted.network.name,
            "policy": trusted.rules_version,
            "rules_hold_until": trusted.targets_expire.isoformat(),
        }
        older = member.newest.older(trusted)
    except KengeleError:
        state |= {"network": None, "policy": None, "rules_hold_until": None}
    state["older_rules"] = older.document() if older else None
    if args.json:
        terminal.emit(state)
        return 0
    terminal.say(f"Monitor:           {state['monitor']}")
    terminal.say(f"Network:           {state['network'] or 'no rules verified yet'}")
    terminal.say(f"Rules hold until:  {state['rules_hold_until'] or '-'}")
    terminal.say(f"Outbox:            {', '.join(f'{n} {s}' for s, n in counts.items()) or 'empty'}")
    if unconfirmed:
        terminal.say(f"Not confirmed yet: {unconfirmed} that the hub accepted and no office has confirmed")
    if older is not None:
        terminal.say(older.line())
    return 0


def _rules(args: argparse.Namespace) -> int:
    return rules.show(args, opened(args))
