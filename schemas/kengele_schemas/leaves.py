"""The other leaves of the audit log: what was narrowed afterwards, and each change of membership and policy.

A ``trust`` leaf says which documents a version consists of, by their digests, and what has changed in who belongs to
the network and in its rules, by ids. Whoever replays all of them has the members and rules in force. Where more changed
than fits one entry of the log, the leaf has further parts.

    >>> leaves = trust_leaves(files, before, after, at=now, salt=secrets.token_bytes)
    >>> read_entry(leaves[0].canonical()).kind
    'trust'
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import Field

from .encoding import b64u, canonical, loads
from .errors import Malformed
from .fields import Bytes32, Exactly1, Items, Model, OfficeId, read
from .receipt import MAX_RECEIPT, Decisions, Leaf, Moment, Salt

_Octets = bytes  # a leaf has a field of that name
_SALT: Final = 16
_FIRST: Final = 100
_FURTHER: Final = 500
"""Changes in the first part, which names the documents, and in each further one: an entry has 65,535 bytes at most."""
_PARTS: Final = 400

Version = Annotated[int, Field(ge=1, le=2**53)]
What = Literal["office", "monitor", "coordinator", "region", "group", "rule"]
How = Literal["added", "removed", "changed", "active", "suspended", "revoked"]
Change = Annotated[
    tuple[What, Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")], How],
    Items,
]
"""Whom or what, by its id, and what became of it; a status says that it was another before."""
REGIONS: Final = "regions"
"""Stands among the documents for what is no document: which areas sign for themselves, by whom."""
_Path = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,127}$")]


class NarrowedLeaf(Model):
    """That offices were given less of a report than its leaf says, by a policy that came in between."""

    v: Exactly1 = 1
    kind: Literal["narrowed"] = "narrowed"
    salt: Salt
    digest: Bytes32
    policy: Annotated[int, Field(ge=0, le=2**53)]
    at: Moment
    decisions: Decisions

    def canonical(self) -> bytes:
        """The leaf's one byte string."""
        return canonical(self.model_dump(mode="json"))


class TrustLeaf(Model):
    """One state of roster and policy. ``root`` and ``documents`` are SHA-256, ``lists`` the versions of the lists that
    coordinators sign, by TUF role; a further part names neither lists nor documents.
    """

    v: Exactly1 = 1
    kind: Literal["trust"] = "trust"
    salt: Salt
    version: Version
    policy: Version
    at: Moment
    part: Annotated[int, Field(ge=1, le=_PARTS)]
    parts: Annotated[int, Field(ge=1, le=_PARTS)]
    root: Bytes32
    lists: Annotated[dict[_Path, Version], Field(max_length=600)]
    documents: Annotated[dict[_Path, Bytes32], Field(max_length=600)]
    changes: Annotated[tuple[Change, ...], Items, Field(max_length=_FURTHER)]

    def canonical(self) -> bytes:
        """The leaf's one byte string."""
        return canonical(self.model_dump(mode="json"))


class ConfirmedLeaf(Model):
    """That an office confirmed that it obeyed a recall; ``digest`` is the recall's, ``bytes`` that of its statement."""

    v: Exactly1 = 1
    kind: Literal["confirmed"] = "confirmed"
    salt: Salt
    digest: Bytes32
    bytes: Bytes32
    office: OfficeId
    at: Moment

    def canonical(self) -> _Octets:
        """The leaf's one byte string."""
        return canonical(self.model_dump(mode="json"))


class SharedLeaf(Model):
    """That a report was shared with an office that it had not been sealed for; ``bytes`` is SHA-256 of the share."""

    v: Exactly1 = 1
    kind: Literal["shared"] = "shared"
    salt: Salt
    digest: Bytes32
    bytes: Bytes32
    policy: Annotated[int, Field(ge=0, le=2**53)]
    at: Moment
    by: Literal["author", "custodian"]
    decisions: Annotated[Decisions, Field(min_length=1, max_length=1)]

    def canonical(self) -> _Octets:
        """The leaf's one byte string."""
        return canonical(self.model_dump(mode="json"))


Entry = Leaf | NarrowedLeaf | TrustLeaf | ConfirmedLeaf | SharedLeaf
_KINDS: Final[Mapping[str, type[Entry]]] = {
    "report": Leaf,
    "recall": Leaf,
    "narrowed": NarrowedLeaf,
    "trust": TrustLeaf,
    "confirmed": ConfirmedLeaf,
    "shared": SharedLeaf,
}


def read_entry(data: bytes) -> Entry:
    """The leaf in ``data``, of whichever kind.

    Raises:
        Malformed: ``unknown-kind``; or it does not follow its model, or is not in its one spelling.
    """
    value = loads(data, max_bytes=MAX_RECEIPT)
    kind = value.get("kind") if isinstance(value, dict) else None
    model = _KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise Malformed("unknown-kind", "An entry of the log is of no kind that is known.", "Update this program.")
    leaf = read(model, value)
    if leaf.canonical() != data:
        raise Malformed("malformed", "An entry of the log is not in its one spelling.")
    return leaf


class Issue(NamedTuple):
    """A state's own numbers and digests."""

    version: int
    root: bytes
    lists: Mapping[str, int]
    documents: Mapping[str, bytes]


def trust_leaves(
    issue: Issue,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    *,
    at: datetime,
    salt: Callable[[int], bytes],
) -> list[TrustLeaf]:
    """The leaf of a version, in as many parts as it takes.

    Args:
        issue: the version.
        before: the documents that it replaces, as JSON values by path; empty for the first version.
        after: its documents.
        at: when it came.
        salt: gives so many random bytes.
    """
    found = sorted(changes(before, after))
    cuts = [0, *range(_FIRST, max(len(found), 1), _FURTHER), len(found)]
    pieces = [tuple(found[start:end]) for start, end in pairwise(cuts)]
    return [
        TrustLeaf(
            salt=b64u(salt(_SALT)),
            version=issue.version,
            policy=sum(value["version"] for _, value in _policies(after)),
            at=at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            part=number,
            parts=len(pieces),
            root=b64u(issue.root),
            lists=dict(issue.lists) if number == 1 else {},
            documents={path: b64u(digest) for path, digest in issue.documents.items()} if number == 1 else {},
            changes=piece,
        )
        for number, piece in enumerate(pieces, 1)
    ]


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[What, str, How]]:
    """What changed in members, groups and rules between two sets of documents, JSON values by path."""
    return [
        *_changed("office", _offices(before), _offices(after)),
        *_changed("monitor", _monitors(before), _monitors(after)),
        *_changed("coordinator", _coordinators(before), _coordinators(after)),
        *_changed("region", _regions(before), _regions(after)),
        *_changed("group", _groups(before), _groups(after)),
        *_changed("rule", _rules(before), _rules(after)),
    ]


def members(documents: Mapping[str, Any]) -> dict[tuple[What, str], str]:
    """All that ``trust`` leaves speak of, with its status (``active`` for what has none): what a replay comes to."""
    found: dict[tuple[What, str], str] = {}
    for what, rows in (
        ("office", _offices(documents)),
        ("monitor", _monitors(documents)),
        ("coordinator", _coordinators(documents)),
        ("region", _regions(documents)),
        ("group", _groups(documents)),
        ("rule", _rules(documents)),
    ):
        found |= {(what, name): _status(row) for name, row in rows.items()}  # type: ignore[misc]
    return found


def replay(standing: dict[tuple[What, str], str], leaf: TrustLeaf) -> None:
    """Brings ``standing`` (as of :func:`members`) from one version to the next.

    Raises:
        Malformed: ``not-in-sequence``: what is added was there, or what is removed or changed was not.
    """
    for what, name, how in leaf.changes:
        there = (what, name) in standing
        if there == (how == "added"):
            raise Malformed("not-in-sequence", "A change in the log does not follow from those before it.")
        if how == "removed":
            del standing[what, name]
        elif how != "changed":
            standing[what, name] = "active" if how == "added" else how


def _changed(what: What, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterable[tuple[What, str, How]]:
    for name in before.keys() - after.keys():
        yield what, name, "removed"
    for name, row in after.items():
        old = before.get(name)
        if name not in before:
            yield what, name, "added"
        elif _rest(old) != _rest(row):
            yield what, name, "changed"
        was = _status(old) if name in before else "active"
        if _status(row) != was:
            yield what, name, _status(row)


def _status(row: Any) -> Any:
    return row.get("status", "active") if isinstance(row, dict) else "active"


def _rest(row: Any) -> Any:
    return {name: value for name, value in row.items() if name != "status"} if isinstance(row, dict) else row


def _offices(documents: Mapping[str, Any]) -> dict[str, Any]:
    return {row["id"]: row for row in documents.get("offices.json", {}).get("offices", ())}


def _groups(documents: Mapping[str, Any]) -> dict[str, Any]:
    return dict(documents.get("offices.json", {}).get("groups", {}))


def _monitors(documents: Mapping[str, Any]) -> dict[str, Any]:
    lists = [value for path, value in documents.items() if path.startswith("monitors/") and value]
    return {row["kid"]: {**row, "list": listed["area"]} for listed in lists for row in listed["monitors"]}


def _coordinators(documents: Mapping[str, Any]) -> dict[str, Any]:
    rows = documents.get("connections.json", {}).get("connections", ())
    return {row["member"]: row["nkey"] for row in rows if row["role"] == "coordinator"}


def _regions(documents: Mapping[str, Any]) -> dict[str, Any]:
    """The areas that have coordinators of their own: who, and how many of them have to sign."""
    return {area.lower(): signing for area, signing in documents.get(REGIONS, {}).items()}


def _rules(documents: Mapping[str, Any]) -> dict[str, Any]:
    return {rule["id"]: {**rule, "": path} for path, value in _policies(documents) for rule in value["rules"]}


def _policies(documents: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(path, value) for path, value in documents.items() if value and path.startswith("policy")]
