"""Offices by name only, for judging rules where no signed roster is at hand.

>>> listed(yaml_document).members("group:un")
frozenset({'unrcca', 'unowas'})
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from .fields import Audience, Items, Model, OfficeId, read
from .plain_yaml import BadText
from .roster import Office, Offices, OfficesFile, Status


class BadOffices(BadText):
    """What was written is no list of offices and groups."""

    named = "bad-offices"


class _Entry(Model):
    model_config = ConfigDict(extra="ignore")

    id: OfficeId
    status: Status = "active"


class _Listing(Model):
    offices: Annotated[tuple[_Entry, ...], Items, Field(max_length=200)]
    groups: Annotated[
        dict[OfficeId, Annotated[tuple[Audience, ...], Items, Field(max_length=200)]], Field(max_length=200)
    ] = Field(default_factory=dict)


def listed(document: Any) -> Offices:
    """The offices and groups of a list: ``offices`` with an ``id`` each, and ``groups`` of them, as in offices.json.

    Raises:
        BadField: the document is no such list.
        Malformed: ``bad-offices``, as :class:`~kengele_schemas.roster.Offices`.
    """
    found = read(_Listing, document)
    return _bare([(entry.id, entry.status) for entry in found.offices], found.groups)


def named(audiences: Iterable[str]) -> Offices:
    """Offices such that each of ``audiences`` stands for itself: a group for one office that bears its name."""
    every = set(audiences)
    groups = {name for name in every if name.startswith("group:")}
    offices: list[tuple[str, Status]] = [(name.removeprefix("office:"), "active") for name in sorted(every)]
    return _bare(offices, {name.removeprefix("group:"): (f"office:{name}",) for name in groups})


def _bare(statuses: Iterable[tuple[str, Status]], groups: Mapping[str, tuple[str, ...]]) -> Offices:
    # Keys and names of offices decide nothing; that they are sound is for the roster that is signed.
    offices = tuple(
        Office.model_construct(id=office, name=office, areas=(), keys=(), sign="", status=status)
        for office, status in statuses
    )
    return Offices(OfficesFile.model_construct(offices=offices, groups=dict(groups)))
