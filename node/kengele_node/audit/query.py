"""Who was given what, under which rule and version, and when; who came, went or changed. Pure, and without content.

>>> query = Query(office="unrcca", since=date(2026, 11, 1))
>>> query.answer(17, leaf)
{'entry': 17, 'kind': 'report', 'at': '2026-11-24T12:00:00Z', 'report': …, 'policy': 3, 'given': […]}
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from kengele_schemas.compartments import names
from kengele_schemas.leaves import ConfirmedLeaf, Entry, SharedLeaf, TrustLeaf
from kengele_schemas.receipt import Leaf

_SHARED: Final = {"author": " shared by its author", "custodian": " shared by the custodian"}


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for; what is empty or None asks for nothing in particular.

    Args:
        report: b64u of what is signed in a report: ``digest`` in its receipt.
        office: its id.
        rule: its id.
        member: the id of a monitor or coordinator, who stand in changes only.
        policy: the version of the rules.
        since, until: days, both included.
    """

    report: str = ""
    office: str = ""
    rule: str = ""
    member: str = ""
    policy: int | None = None
    since: date | None = None
    until: date | None = None

    def answer(self, index: int, leaf: Entry) -> dict[str, Any] | None:
        """What the entry at ``index`` says to it; None if that is nothing."""
        day = leaf.at[:10]
        if (self.since and day < self.since.isoformat()) or (self.until and day > self.until.isoformat()):
            return None
        told: dict[str, Any] = {"entry": index, "kind": leaf.kind, "at": leaf.at}
        if isinstance(leaf, ConfirmedLeaf):
            others = self.rule or self.member or self.policy is not None or self.office not in ("", leaf.office)
            if others or self.report not in ("", leaf.digest):
                return None
            return {**told, "recall": leaf.digest, "office": leaf.office}
        if self.policy is not None and leaf.policy != self.policy:
            return None
        if isinstance(leaf, TrustLeaf):
            changes = [dict(zip(("what", "id", "how"), one, strict=True)) for one in leaf.changes if self._of(*one[:2])]
            if self.report or (not changes and self._particular):
                return None
            return {**told, "version": leaf.version, "policy": leaf.policy, "changes": changes}
        given = [
            {
                "office": office,
                "released": list(names(released)),
                "withheld": list(names(withheld)),
                "rules": list(rules),
            }
            for office, released, withheld, rules in leaf.decisions
            if self.office in ("", office) and (not self.rule or self.rule in rules)
        ]
        recalled = leaf.recalls if isinstance(leaf, Leaf) else None
        if (
            (self.report and self.report not in (leaf.digest, recalled))
            or self.member
            or (not given and self._particular)
        ):
            return None
        more = {"recalls": recalled} if recalled else {}
        if isinstance(leaf, SharedLeaf):
            more = {"by": leaf.by}
        return {**told, "report": leaf.digest, **more, "policy": leaf.policy, "given": given}

    @property
    def _particular(self) -> bool:
        return bool(self.office or self.rule or self.member)

    def _of(self, what: str, name: str) -> bool:
        if not self._particular:
            return True
        wanted = {("office", self.office), ("rule", self.rule), ("monitor", self.member), ("coordinator", self.member)}
        return (what, name) in wanted


def lines(told: dict[str, Any]) -> list[str]:
    """An answer as a person reads it."""
    if told["kind"] == "trust":
        first = f"#{told['entry']}  {told['at']}  version {told['version']} of roster and policy {told['policy']}"
        return [first, *(f"    {one['what']} {one['id']}: {one['how']}" for one in told["changes"])]
    if told["kind"] == "confirmed":
        return [f"#{told['entry']}  {told['at']}  {told['office']} confirmed the recall {told['recall']}"]
    if told["kind"] == "recall":
        first = f"#{told['entry']}  {told['at']}  recall {told['report']} of report {told['recalls']}"
        return [first, *(f"    told to {one['office']}" for one in told["given"] if one["released"])]
    more = {"narrowed": " narrowed", "shared": _SHARED.get(told.get("by", ""), "")}.get(told["kind"], "")
    first = f"#{told['entry']}  {told['at']}  report {told['report']}{more} under policy {told['policy']}"
    return [first, *(f"    {_given(one)}" for one in told["given"])]


def _given(one: dict[str, Any]) -> str:
    rules = f" (rules: {', '.join(one['rules'])})" if one["rules"] else " (no rule)"
    return f"{one['office']}: {', '.join(one['released']) or 'nothing'}{rules}"
