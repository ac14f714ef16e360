"""Rules being drafted on this machine, kept at every step: a browser that is closed half-way loses nothing.

Each draft has a revision. Who saves names the one she began with, so that the console opened twice overwrites nothing
unseen.

    >>> drafts = Drafts(member.home / "drafts.db", member.vault.rows("drafts"))
    >>> kept = drafts.save("policy.json", Working(4, rules, rules), revision=0)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from kengele_node.rows import RowCipher, Store
from kengele_schemas.encoding import dumps, loads
from kengele_schemas.errors import Refused
from kengele_schemas.fields import read
from kengele_schemas.policy import Rule

_SCHEMA: Final = (
    "CREATE TABLE drafts (name TEXT PRIMARY KEY, revision INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID"
)
_MAX: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Working:
    """Rules as they would be.

    ``base`` is the policy version they were begun on, with the rules ``began``; ``revision`` counts the savings.
    """

    base: int
    began: tuple[Rule, ...]
    rules: tuple[Rule, ...]
    revision: int = 0

    def without(self, rule_id: str) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if rule.id != rule_id)

    def find(self, rule_id: str) -> Rule | None:
        return next((rule for rule in self.rules if rule.id == rule_id), None)


class Drafts:
    """The drafts of one coordinator. Raises as :class:`~kengele_node.rows.Store`, here and from every method."""

    def __init__(self, path: Path, rows: RowCipher) -> None:
        self._store = Store(path, _SCHEMA)
        self._rows = rows

    def close(self) -> None:
        self._store.close()

    def get(self, name: str) -> Working | None:
        """The draft of this name. Raises Damaged if it cannot be read back."""
        with self._store.reading() as connection:
            row = connection.execute("SELECT revision, body FROM drafts WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        body: dict[str, Any] = loads(self._rows.open(name, row[1]), max_bytes=_MAX, max_depth=12)
        began, rules = (tuple(read(Rule, rule) for rule in body[part]) for part in ("began", "rules"))
        return Working(body["base"], began, rules, row[0])

    def seen(self, name: str, revision: int) -> Working | None:
        """The draft of this name, which still stands as it did at ``revision``. Raises Refused as :meth:`save`."""
        working = self.get(name)
        if working is not None and working.revision != revision:
            raise _changed()
        return working

    def save(self, name: str, working: Working, *, revision: int) -> Working:
        """Keeps ``working`` as the revision after ``revision``, 0 for a new draft; it is on the disk when this returns.

        Raises:
            Refused: ``changed-meanwhile``: somebody, or another window, saved since that revision.
        """
        body = {"base": working.base, "began": _plain(working.began), "rules": _plain(working.rules)}
        sealed = self._rows.seal(name, dumps(body))
        with self._store.transaction() as connection:
            found = connection.execute("SELECT revision FROM drafts WHERE name = ?", (name,)).fetchone()
            if (found[0] if found else 0) != revision:
                raise _changed()
            connection.execute("INSERT OR REPLACE INTO drafts VALUES (?, ?, ?)", (name, revision + 1, sealed))
        return replace(working, revision=revision + 1)

    def discard(self, name: str, *, revision: int) -> None:
        """Deletes the draft. Raises Refused as :meth:`save`."""
        with self._store.transaction() as connection:
            gone = connection.execute("DELETE FROM drafts WHERE name = ? AND revision = ?", (name, revision)).rowcount
            if not gone and connection.execute("SELECT 1 FROM drafts WHERE name = ?", (name,)).fetchone():
                raise _changed()


def rebased(working: Working, after: tuple[Rule, ...], version: int) -> tuple[Working, list[str]]:
    """``working`` put upon the rules ``after``, in force since as ``version``, and the ids of rules both have changed.

    What only one side changed is taken from that side; where both changed a rule, the draft's own stays, and is told.
    """
    old, new, mine = ({rule.id: rule for rule in rules} for rules in (working.began, after, working.rules))
    merged, both = [], []
    for rule_id in dict.fromkeys([*new, *mine]):
        ours, theirs, was = mine.get(rule_id), new.get(rule_id), old.get(rule_id)
        if ours != was and theirs not in (was, ours):
            both.append(rule_id)
        kept = theirs if ours == was else ours
        if kept is not None:
            merged.append(kept)
    return Working(version, after, tuple(merged), working.revision), both


def _plain(rules: tuple[Rule, ...]) -> list[dict[str, Any]]:
    return [rule.model_dump(mode="json", exclude_unset=True) for rule in rules]


def _changed() -> Refused:
    return Refused(
        "changed-meanwhile",
        "This draft was changed meanwhile, in another window perhaps; nothing was overwritten.",
        "Load the page anew and do it once more.",
    )
