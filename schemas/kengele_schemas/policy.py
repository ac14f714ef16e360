"""Rules: who may read which compartments of which reports, until when, and why.

A rule grants or forbids. Nothing is read without a grant, a forbid beats every grant, and every grant expires.

    - id: unrcca-central-asia
      grant: [summary, account]
      to: [office:unrcca]
      areas: [KZ, KG, TJ, TM, UZ]
      categories: ["*"]
      tlp_up_to: AMBER
      expires: 2027-03-31
      reason: MoU 2026/14
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from .areas import EVERYWHERE
from .compartments import GRANTABLE
from .fields import AREA_MEND, CATEGORY_MEND, Audience, Day, Exactly1, Items, Line, Model, RuleId, bad, spelled
from .tlp import Level, at_most

MAX_RULES: Final = 20_000

Compartment = Literal["summary", "account", "place", "people", "source", "media"]
Severity = Annotated[int, Field(ge=1, le=5)]


def _once(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) != len(values):
        raise bad("names something twice", "Name each once.")
    return values


def _every(value: object) -> object:
    return (EVERYWHERE,) if value == EVERYWHERE else value


Compartments = Annotated[
    tuple[Compartment, ...], Items, Field(min_length=1, max_length=len(GRANTABLE)), AfterValidator(_once)
]
# "*" stands in the pattern: a union would give an error a path that no document has.
_AreaOrAll = Annotated[str, spelled(r"^(\*|[A-Z0-9]{2,12}(-[A-Z0-9]{1,12}){0,3})$", AREA_MEND, max_length=32)]
_CategoryOrAll = Annotated[str, spelled(r"^(\*|[a-z]+(-[a-z]+)*)$", CATEGORY_MEND, max_length=32)]

Scope = Annotated[
    tuple[_AreaOrAll, ...],
    Items,
    BeforeValidator(_every),
    Field(min_length=1, max_length=500),
    AfterValidator(_once),
]
Categories = Annotated[
    tuple[_CategoryOrAll, ...],
    Items,
    BeforeValidator(_every),
    Field(min_length=1, max_length=200),
    AfterValidator(_once),
]


class Rule(Model):
    """One rule. An area means everything below it, a group of categories its leaves, ``*`` all there are.

    A grant holds for a report only if it covers all of its categories, a forbid if it covers any one of them: a report
    of a rumour and of abductions goes to nobody who may read of rumours only. A grant says in full where, of what and
    up to which marking it holds; a forbid that leaves one of these out holds for all.

    ``tlp_up_to`` is the most restrictive marking it holds for, ``tlp_from`` the least; ``expires`` the last day.
    """

    id: RuleId
    grant: Compartments | None = None
    forbid: Compartments | None = None
    to: Annotated[tuple[Audience, ...], Items, Field(min_length=1, max_length=200), AfterValidator(_once)]
    areas: Scope = (EVERYWHERE,)
    categories: Categories = (EVERYWHERE,)
    min_severity: Severity = 1
    max_severity: Severity = 5
    tlp_up_to: Level | None = None
    tlp_from: Level | None = None
    expires: Day | None = None
    reason: Annotated[str, Line(500)]

    @model_validator(mode="after")
    def _grants_or_forbids(self) -> Self:
        if (self.grant is None) == (self.forbid is None):
            raise bad("neither grants nor forbids, or does both", "Give a rule either 'grant' or 'forbid'.")
        if self.grant is not None and not {"areas", "categories"} <= self.model_fields_set:
            raise bad("grants without saying where or of what", "Give it 'areas' and 'categories'; [\"*\"] means all.")
        if self.grant is not None and self.expires is None:
            raise bad("grants without end", "Give it a last day: expires: YYYY-MM-DD.")
        if self.grant is not None and self.tlp_up_to is None:
            raise bad("grants without a bound on the marking", "Give it one, such as: tlp_up_to: AMBER.")
        if self.min_severity > self.max_severity:
            raise bad("holds for no severity", "min_severity must not be above max_severity.")
        if self.tlp_up_to and self.tlp_from and not at_most(self.tlp_from, self.tlp_up_to):
            raise bad("holds for no marking", "tlp_from must not be more restrictive than tlp_up_to.")
        return self

    @property
    def compartments(self) -> tuple[Compartment, ...]:
        return self.grant if self.grant is not None else self.forbid or ()


_SENTENCE: Final = re.compile(
    r"no ((?:office|group):[a-z][a-z0-9-]{1,31}(?:, (?:office|group):[a-z][a-z0-9-]{1,31}){0,19})"
    r" may open (anything|[a-z]+(?:, [a-z]+){0,5})"
)


def _sentence(text: str) -> str:
    found = _SENTENCE.fullmatch(text)
    if found is None or (found[2] != "anything" and not {*found[2].split(", ")} <= {*GRANTABLE}):
        raise bad(
            "is not a sentence that can be checked",
            f"Write: no group:government may open source. Compartments are {', '.join(GRANTABLE)}, or anything.",
        )
    return text


class Assertion(Model):
    """A sentence that must stay true whatever the rules become: ``no group:government may open source``.

    It speaks of every report of these areas, these markings, and any one of these categories, from the day on which
    it is checked. A version of the rules that breaks it is refused, on which day ever it would come to be broken.
    """

    always: Annotated[str, Field(max_length=1000), AfterValidator(_sentence)]
    areas: Scope = (EVERYWHERE,)
    categories: Categories = (EVERYWHERE,)
    tlp_up_to: Level | None = None
    tlp_from: Level | None = None

    @model_validator(mode="after")
    def _some_marking(self) -> Self:
        if self.tlp_up_to and self.tlp_from and not at_most(self.tlp_from, self.tlp_up_to):
            raise bad("speaks of no marking", "tlp_from must not be more restrictive than tlp_up_to.")
        return self

    @property
    def to(self) -> tuple[str, ...]:
        """The offices and groups it is about."""
        return tuple(self.always.removeprefix("no ").partition(" may open ")[0].split(", "))

    @property
    def compartments(self) -> tuple[str, ...]:
        """What they may not open."""
        named = self.always.partition(" may open ")[2]
        return GRANTABLE if named == "anything" else tuple(named.split(", "))


class PolicyFile(Model):
    """``policy.json`` or ``policy/<area>.json``: the rules in force.

    ``refuse_below``: the hub takes no report sealed under older rules than this; counted as
    :attr:`~kengele_schemas.trusted.Trusted.rules_version`, and in ``policy.json`` only. ``assertions`` hold for all
    rules of all files together; whoever publishes a version that breaks one is refused.
    """

    v: Exactly1 = 1
    version: Annotated[int, Field(ge=1, le=2**53)]
    refuse_below: Annotated[int, Field(ge=0, le=2**53)] = 0
    rules: Annotated[tuple[Rule, ...], Items, Field(max_length=MAX_RULES)]
    assertions: Annotated[tuple[Assertion, ...], Items, Field(max_length=200)] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len({rule.id for rule in self.rules}) != len(self.rules):
            raise bad("has two rules of one id", "Give each rule an id of its own.")
        return self
