"""A log examined from its first entry on: that its entries make the tree that was signed, and that they make sense.

Pure. The first thing that does not hold is raised, with the number of the entry.

    >>> examined = Examination()
    >>> for entry in entries:
    ...     examined.take(entry)
    >>> examined.complete(checkpoint)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from kengele_schemas.checkpoint import Checkpoint
from kengele_schemas.encoding import unb64u
from kengele_schemas.errors import KengeleError, Untrusted
from kengele_schemas.leaves import ConfirmedLeaf, Entry, NarrowedLeaf, SharedLeaf, TrustLeaf, What, read_entry, replay
from kengele_schemas.merkle import Tree, leaf_hash
from kengele_schemas.receipt import Leaf
from kengele_schemas.regional import revision
from kengele_schemas.witness import FORKED, ROLLED_BACK

_MEND: Final = "Keep a copy of the log. Tell the other coordinators, by another way than this hub."
_LATE: Final = timedelta(days=1)
"""By how much a worker of the hub, or its clock, may be behind."""


@dataclass(slots=True)
class Examination:
    """What was found so far.

    Args:
        version: of roster and policy; who belongs to the network and which rules hold then is remembered as
            ``standing``.
    """

    version: int = 0
    tree: Tree = field(default_factory=Tree)
    counts: dict[str, int] = field(default_factory=dict)
    """Entries by kind."""
    issues: dict[int, TrustLeaf] = field(default_factory=dict)
    """The first leaf of each version."""
    standing: dict[tuple[What, str], str] = field(default_factory=dict)
    _now: dict[tuple[What, str], str] = field(default_factory=dict)
    _ever: set[tuple[str, str]] = field(default_factory=set)
    _policies: set[int] = field(default_factory=set)
    _newest: tuple[int, str] = (0, "")
    """The newest rules, and when they came."""
    _reports: set[bytes] = field(default_factory=set)
    _recalls: set[bytes] = field(default_factory=set)
    _lists: dict[str, int] = field(default_factory=dict)
    """The versions of the lists that coordinators sign."""
    _part: tuple[int, int] = (0, 0)
    """Part and parts of a version that is not all there yet."""

    @property
    def last(self) -> int:
        """The last version in the log."""
        return max(self.issues, default=0)

    def take(self, data: bytes) -> Entry:
        """The next entry.

        Raises:
            Untrusted: ``not-a-leaf``, ``out-of-sequence``, ``report-twice``, ``unknown-report``, ``unknown-policy``,
                ``old-policy``, ``unknown-rule``, ``unknown-office``.
        """
        try:
            leaf = read_entry(data)
        except KengeleError:
            raise self._wrong("not-a-leaf", "is no leaf of a known kind in its one spelling") from None
        if self._part != (0, 0) and not isinstance(leaf, TrustLeaf):
            raise self._wrong("out-of-sequence", "stands within a version of which parts are missing")
        if isinstance(leaf, TrustLeaf):
            self._take_version(leaf)
        elif isinstance(leaf, ConfirmedLeaf):
            self._take_confirmation(leaf)
        else:
            self._take_decisions(leaf)
        self.counts[leaf.kind] = self.counts.get(leaf.kind, 0) + 1
        self.tree.append(leaf_hash(data))
        return leaf

    def complete(self, checkpoint: Checkpoint) -> None:
        """Checks that what was taken is all of the log, and nothing besides.

        Raises:
            Untrusted: ``log-short``, ``log-forked``, ``out-of-sequence``.
        """
        if self.tree.size != checkpoint.size:
            raise Untrusted(
                "log-short",
                f"The checkpoint is over {checkpoint.size} entries, and there are {self.tree.size}.",
                "Export the log anew; if that does not help, tell the other coordinators.",
            )
        self.agree(checkpoint)
        if self._part != (0, 0):
            raise Untrusted("out-of-sequence", "The log ends within a version of which parts are missing.", _MEND)

    def agree(self, checkpoint: Checkpoint) -> None:
        """Checks that a ``checkpoint`` is of this log. Raises Untrusted: ``log-forked``, ``log-rolled-back``."""
        if checkpoint.size > self.tree.size:
            raise Untrusted(ROLLED_BACK, f"The log had {checkpoint.size} entries; now it has {self.tree.size}.", _MEND)
        if self.tree.root(checkpoint.size) != checkpoint.root:
            raise Untrusted(
                FORKED, f"The entries do not make the tree of {checkpoint.size} entries that the hub signed.", _MEND
            )

    def _take_version(self, leaf: TrustLeaf) -> None:
        part, parts = self._part
        expected = (self.last, part + 1, parts) if parts else (self._next(leaf), 1, leaf.parts)
        named = {bool(leaf.documents), bool(leaf.lists)}
        if (leaf.version, leaf.part, leaf.parts) != expected or named != {leaf.part == 1}:
            raise self._wrong(
                "out-of-sequence", f"says it is version {leaf.version} of roster and policy, which it is not"
            )
        try:
            replay(self._now, leaf)
        except KengeleError:
            raise self._wrong("out-of-sequence", "tells a change that does not follow from those before it") from None
        self._ever |= {(what, name) for what, name, how in leaf.changes if how == "added"}
        if leaf.part == 1:
            self.issues[leaf.version], self._lists = leaf, leaf.lists
        self._part = (leaf.part, leaf.parts) if leaf.part < leaf.parts else (0, 0)
        if self._part == (0, 0):
            self._newest = max(self._newest, (leaf.policy, leaf.at), key=lambda one: one[0])
            self._policies.add(leaf.policy)
            if leaf.version == self.version:
                self.standing = dict(self._now)

    def _next(self, leaf: TrustLeaf) -> int:
        """The number of a state whose lists follow those before it, each its last version or the next; else 0."""
        steps = {version - self._lists.get(name, 0) for name, version in leaf.lists.items()}
        follows = steps in ({0, 1}, {1}) and self._lists.keys() <= leaf.lists.keys()
        return revision(leaf.lists.values()) if follows else 0

    def _take_decisions(self, leaf: Leaf | NarrowedLeaf | SharedLeaf) -> None:
        digest = unb64u(leaf.digest)
        if isinstance(leaf, Leaf) and digest in self._reports:
            raise self._wrong("report-twice", "is of a report that has one")
        if not isinstance(leaf, Leaf) and digest not in self._reports:
            raise self._wrong("unknown-report", f"is {leaf.kind}, and of a report that is not in the log before it")
        if isinstance(leaf, SharedLeaf) and digest in self._recalls:
            raise self._wrong("unknown-report", "shares what is a recall and no report")
        if isinstance(leaf, Leaf) and leaf.recalls is not None:
            if unb64u(leaf.recalls) not in self._reports:
                raise self._wrong("unknown-report", "recalls a report that is not in the log before it")
            self._recalls.add(digest)
        self._reports.add(digest)
        if leaf.policy not in self._policies:
            raise self._wrong(
                "unknown-policy", f"names version {leaf.policy} of the rules, which was not in force before"
            )
        newest, since = self._newest
        if leaf.policy < newest and _moment(leaf.at) > _moment(since) + _LATE:
            raise self._wrong(
                "old-policy",
                f"was decided by version {leaf.policy} of the rules, which was replaced over a day before",
            )
        for office, released, _, rules in leaf.decisions:
            if released and ("office", office) not in self._ever:
                raise self._wrong("unknown-office", "gives something to an office that was never admitted")
            if any(("rule", rule) not in self._ever for rule in rules):
                raise self._wrong("unknown-rule", "names a rule that no version had before")

    def _take_confirmation(self, leaf: ConfirmedLeaf) -> None:
        if unb64u(leaf.digest) not in self._recalls:
            raise self._wrong("unknown-report", "confirms a recall that is not in the log before it")
        if ("office", leaf.office) not in self._ever:
            raise self._wrong("unknown-office", "is the word of an office that was never admitted")

    def _wrong(self, code: str, what: str) -> Untrusted:
        return Untrusted(code, f"Entry {self.tree.size} of the log {what}.", _MEND)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
