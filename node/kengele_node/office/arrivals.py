"""What comes to a desk, and what its inbox gives back: reports, markers, notices, what was set aside, what is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pydantic import BaseModel

from kengele_schemas.report import Header

MAX_COUNTER: Final = 2**53
AUTHOR: Final = "author"
COORDINATORS: Final = "coordinators"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A report that was verified and opened; ``data`` is the envelope as delivered, ``digest`` of what was signed."""

    data: bytes = field(repr=False)
    digest: bytes
    header: Header = field(repr=False)
    contents: Mapping[str, BaseModel] = field(repr=False)
    counter: int | None = None
    withheld: tuple[str, ...] = ()
    """Compartments that the author gave this office and the hub, by a newer policy, held back."""
    flags: tuple[str, ...] = ()
    """What a reader has to be told: ``monitor-suspended``, ``monitor-revoked``, ``key-expired``,
    ``shared-later-by-author``, ``shared-later-by-custodian``, ``new-key``."""
    disclosures: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What proves the contents to others, by compartment: the keys that opened them will be destroyed one day."""
    bare: bool = False
    """Of a recall: its author has no wrap in it for this office. It takes what came by a share, and nothing else."""
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The keys of the contents, by compartment: the custodian may share them when its own are destroyed."""
    first: str = ""
    """The author's first name, where her keys followed each other since: her numbers go on under all of them."""


@dataclass(frozen=True, slots=True)
class Marker:
    """The hub's signed word that it withholds a report of ``kid`` from this office by version ``policy`` of the rules,
    and nothing more."""

    data: bytes
    kid: str
    first: str = ""
    policy: int = 0


@dataclass(frozen=True, slots=True)
class Notice:
    """That the coordinators recalled a report of ``kid``: the hub's word in ``data``, or empty if it was found here."""

    data: bytes
    report: str
    kid: str
    keep: tuple[str, ...] | None = None
    numbered: bool = True
    """Whether the report had a number of its author's for this office."""
    first: str = ""


@dataclass(frozen=True, slots=True)
class Aside:
    """What did not hold up, kept as it came with the code that says why; ``number`` is given by the inbox."""

    data: bytes = field(repr=False)
    code: str
    number: int = 0
    received: float = 0


@dataclass(frozen=True, slots=True)
class Item:
    """A stored arrival; ``received`` in Unix seconds.

    Further flags: ``id-twice``, ``number-twice`` (another report with the same id, or the same number of the same
    author, came before) and ``narrowed`` (its author took a part of it back).
    """

    number: int
    received: float
    arrival: Arrival
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What is left of a report that was recalled ``by`` its author or the coordinators.

    ``recalled`` (Unix seconds) is when the recall came.
    """

    number: int
    recalled: float
    id: str
    author: str
    reason: str | None = field(default=None, repr=False)
    by: str = AUTHOR


class Unconfirmed(NamedTuple):
    """A recall that was obeyed and of which the hub has not got the confirmation yet; ``name`` is the inbox's own."""

    name: bytes
    report: str
    recall: bytes


class Lost(NamedTuple):
    """The number of a stored report that cannot be read back."""

    number: int


@dataclass(frozen=True, slots=True)
class Gaps:
    """The numbers of an author's reports to this office that never came, as ranges, both ends included."""

    missing: tuple[tuple[int, int], ...]
    withheld: int
    """How many of them the hub says it withholds by policy."""

    @property
    def unexplained(self) -> int:
        """How many were dropped somewhere, or are still under way."""
        return max(0, sum(last - first + 1 for first, last in self.missing) - self.withheld)
