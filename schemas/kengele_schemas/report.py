"""A tension report: the header that routes it, the compartments that are sealed, and the draft a person writes.

    >>> report = parse_draft({"area": "KG-O", "categories": ["rumour"], "severity": 2, "day": "2026-03-01",
    ...                       "summary": {"text": "Talk of a fight at the bazaar.", "lang": "en"}})
    >>> report.tlp
    'AMBER+STRICT'

Severity: 1 tension or a sign of peace, nobody harmed; 2 minor incident or loss; 3 violence, or a credible threat of it;
4 deaths, abductions or displacement; 5 many deaths or mass displacement.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from . import taxonomy
from .compartments import GRANTABLE, REPORT_COMPARTMENTS
from .errors import Malformed
from .fields import (
    AreaCode,
    Audience,
    Bytes32,
    CategoryCode,
    Day,
    Exactly2,
    Items,
    Lang,
    Line,
    Model,
    MonitorId,
    Prose,
    ReportId,
    bad,
    read,
)
from .tlp import UNMARKED, Level, parse, strictest

MAX_SUMMARY: Final = 280
MAX_ACCOUNT: Final = 8000
MAX_CATEGORIES: Final = 5
_MAX_INTEGER: Final = 2**53

Severity = Annotated[int, Field(ge=1, le=5)]
DayPrecision = Annotated[int, Field(ge=1, le=5)]
"""As UCDP GED's ``date_prec``: 1 the exact day, 2 within 2–6 days, 3 a week, 4 a month, 5 more than a month."""


def _reportable(code: str) -> str:
    if not taxonomy.reportable(code):
        near = taxonomy.suggest(code)
        raise bad(
            "is not a category", f"Perhaps: {', '.join(near)}." if near else "Choose one of the taxonomy's leaves."
        )
    return code


def _sorted_unique(codes: tuple[str, ...]) -> tuple[str, ...]:
    if list(codes) != sorted(set(codes)):
        raise bad("is not sorted or names one twice", "Sort the categories and name each once.")
    return codes


def _sorted_parts(parts: tuple[str, ...]) -> tuple[str, ...]:
    if list(parts) != sorted(set(parts)):
        raise bad("is not sorted or names one twice", "Sort the compartments and name each once.")
    return parts


def _sort(value: object) -> object:
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(sorted(set(value)))
    return value


Category = Annotated[CategoryCode, AfterValidator(_reportable)]
Categories = Annotated[
    tuple[Category, ...], Items, Field(min_length=1, max_length=MAX_CATEGORIES), AfterValidator(_sorted_unique)
]


Keep = Annotated[
    tuple[Literal["summary", "account", "place", "people", "source", "media"], ...],
    Items,
    Field(min_length=1, max_length=len(GRANTABLE)),
    AfterValidator(_sorted_parts),
]
"""The compartments of a recalled report that may stay where they are."""


class Header(Model):
    """What the hub may read: claims at the top of the signed payload, in wire order.

    ``net`` is the identity of the one network that it is for: SHA-256 of its first root, which no other network has,
    whatever keys and names the two share. ``recalls`` stands in a recall only, and ``keep`` in one that narrows:
    without it all of the report goes.
    """

    v: Exactly2 = 2
    net: Bytes32
    id: ReportId
    kid: MonitorId
    kind: Literal["report", "recall"] = "report"
    area: AreaCode
    categories: Categories
    severity: Severity
    day: Day
    day_precision: DayPrecision
    tlp: Level
    pol: Annotated[int, Field(ge=0, le=_MAX_INTEGER)]
    recalls: ReportId | None = None
    keep: Keep | None = None

    @model_validator(mode="after")
    def _recalls_one(self) -> Self:
        if (self.recalls is not None) != (self.kind == "recall"):
            raise bad(
                "names a recalled report without being a recall, or the reverse", "Set 'recalls' in a recall only."
            )
        if self.keep is not None and self.kind != "recall":
            raise bad("says what may stay without being a recall", "Set 'keep' in a recall only.")
        return self

    def claims(self) -> dict[str, Any]:
        """The header as JSON values, members in wire order, absent ones left out."""
        return self.model_dump(mode="json", exclude_none=True)


class Text(Model):
    """A longer text and its language."""

    text: Annotated[str, Prose(1000)]
    lang: Lang


class Caveat(Model):
    """The author's "not to X": takes compartments away from offices that policy would give them. It never gives any."""

    not_to: Annotated[tuple[Audience, ...], Items, Field(min_length=1, max_length=32)]
    compartments: Annotated[
        tuple[Literal["*", "summary", "account", "place", "people", "source", "media"], ...],
        Items,
        Field(min_length=1, max_length=len(GRANTABLE)),
    ] = ("*",)


class Reference(Model):
    """How this report stands to an earlier one. Sealed: an id in clear would tell of a report one may not have."""

    rel: Literal["updates", "corroborates", "disputes"]
    id: ReportId


class Handling(Model):
    """What every reader is told beside the content: caveats, wishes, and which reports this one refers to."""

    caveats: Annotated[tuple[Caveat, ...], Items, Field(max_length=16)] = ()
    wishes: Text | None = None
    references: Annotated[tuple[Reference, ...], Items, Field(max_length=16)] = ()


class Summary(Model):
    """What happened, in a sentence or two, naming nobody."""

    text: Annotated[str, Prose(MAX_SUMMARY)]
    lang: Lang


class LocalTerm(Model):
    """What people on the spot call a category: the word itself, in its own language, beside the code."""

    code: Category
    text: Annotated[str, Line(80)]
    lang: Lang


class Account(Model):
    """The full account."""

    text: Annotated[str, Prose(MAX_ACCOUNT)]
    lang: Lang
    local_terms: Annotated[tuple[LocalTerm, ...], Items, Field(max_length=20)] = ()


class Place(Model):
    """The exact place.

    ``lat`` and ``lon`` are WGS 84 degrees; ``precision`` is UCDP GED's ``where_prec``: 1 exact, 2 within 25 km,
    3 admin-2, 4 admin-1, 5 a line or fuzzy area, 6 country, 7 international waters or airspace. From 3 on the point
    stands in for the area.
    """

    area: AreaCode | None = None
    name: Annotated[str, Line(200)] | None = None
    lat: Annotated[float, Field(ge=-90, le=90)] | None = None
    lon: Annotated[float, Field(ge=-180, le=180)] | None = None
    precision: Annotated[int, Field(ge=1, le=7)] | None = None

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if (self.lat is None) != (self.lon is None):
            raise bad("has one coordinate without the other", "Give both 'lat' and 'lon', or neither.")
        if self.lat is not None and self.precision is None:
            raise bad("has coordinates of unknown precision", "Give 'precision', 1 (exact) to 7.")
        if self.area is None and self.name is None and self.lat is None:
            raise bad("names no place", "Give an area, a name or coordinates.")
        return self


class Actor(Model):
    """Who took part; ``group`` is what they belong to, in the author's words."""

    name: Annotated[str, Line(200)]
    role: Literal["initiator", "target", "mediator", "witness", "other"]
    group: Annotated[str, Line(200)] | None = None


_Number = Annotated[int, Field(ge=0, le=1_000_000_000)]


class Count(Model):
    """An estimate. Imported data breaks ``low <= best <= high`` at times: it is kept as delivered, and flagged."""

    best: _Number
    low: _Number | None = None
    high: _Number | None = None

    @property
    def consistent(self) -> bool:
        """Whether ``low <= best <= high`` holds, as far as they are given."""
        bounds = [value for value in (self.low, self.best, self.high) if value is not None]
        return bounds == sorted(bounds)


class Affected(Model):
    """How many, by what befell them: people, and head of ``livestock`` lost. Absent means unknown, not none."""

    killed: Count | None = None
    injured: Count | None = None
    abducted: Count | None = None
    displaced: Count | None = None
    missing: Count | None = None
    detained: Count | None = None
    livestock: Count | None = None


class People(Model):
    """Who took part and who was affected."""

    actors: Annotated[tuple[Actor, ...], Items, Field(max_length=30)] = ()
    affected: Affected = Affected()


class Source(Model):
    """How it is known, graded in the Admiralty system; F and 6 mean that it cannot be judged, not that it is bad."""

    basis: Literal["direct", "witness", "community-leader", "media", "social-media", "rumour", "official", "unknown"]
    description: Annotated[str, Prose(1000)] | None = None
    reliability: Literal["A", "B", "C", "D", "E", "F"] = "F"
    credibility: Annotated[int, Field(ge=1, le=6)] = 6


class MediaItem(Model):
    """An attachment, which travels apart: SHA-256 of its ciphertext, the key that opens it, type, size in bytes."""

    digest: Bytes32
    key: Bytes32
    type: Annotated[str, Field(pattern=r"^[a-z]+/[a-z0-9][a-z0-9.+-]{0,62}$")]
    size: Annotated[int, Field(ge=1, le=2**31)]
    caption: Annotated[str, Prose(280)] | None = None


class Media(Model):
    """Attachments."""

    items: Annotated[tuple[MediaItem, ...], Items, Field(min_length=1, max_length=20)]


COMPARTMENT_MODELS: Final[dict[str, type[BaseModel]]] = {
    "handling": Handling,
    "summary": Summary,
    "account": Account,
    "place": Place,
    "people": People,
    "source": Source,
    "media": Media,
}


def _marking(value: object) -> object:
    markings = value if isinstance(value, list | tuple) else [value]
    try:
        return strictest([parse(marking if isinstance(marking, str) else "") for marking in markings])
    except Malformed as error:
        raise bad("is not a marking of TLP 2.0", error.mend) from None


class Report(Model):
    """The draft a person writes: what will be the header's facts, and the compartments she filled in.

    ``tlp`` may be one marking or several (the most restrictive holds), with or without ``TLP:``; ``categories`` may
    stand in any order.
    """

    area: AreaCode
    categories: Annotated[Categories, BeforeValidator(_sort)]
    severity: Severity
    day: Day
    day_precision: DayPrecision = 1
    tlp: Annotated[Level, BeforeValidator(_marking)] = UNMARKED
    handling: Handling | None = None
    summary: Summary | None = None
    account: Account | None = None
    place: Place | None = None
    people: People | None = None
    source: Source | None = None
    media: Media | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if all(getattr(self, name) is None for name in GRANTABLE):
            raise bad("says nothing that could be read", f"Fill in at least one of: {', '.join(GRANTABLE)}.")
        return self

    def contents(self) -> dict[str, Any]:
        """The filled compartments as JSON values, in wire order."""
        written = ((name, getattr(self, name)) for name in REPORT_COMPARTMENTS)
        return {name: part.model_dump(mode="json", exclude_none=True) for name, part in written if part is not None}

    def header(self, *, net: str, id: str, kid: str, pol: int, area: str | None = None) -> Header:
        """The header under which this draft is sealed; ``area`` replaces its own where the network wants it coarser."""
        return Header(
            net=net,
            id=id,
            kid=kid,
            area=area or self.area,
            categories=self.categories,
            severity=self.severity,
            day=self.day,
            day_precision=self.day_precision,
            tlp=self.tlp,
            pol=pol,
        )


def parse_draft(value: object) -> Report:
    """The draft in ``value``, a JSON object as read; texts normalized to NFC.

    Raises:
        Malformed: ``bad-field`` (:class:`~kengele_schemas.fields.BadField`); names the field, never its value.
    """
    return read(Report, value)


def parse_header(claims: object) -> Header:
    """The header in an envelope's claims. Raises Malformed, ``bad-field``."""
    return read(Header, claims)


def parse_compartment(name: str, value: object) -> BaseModel:
    """An opened compartment's content as its model. Raises Malformed, ``bad-field``; KeyError on an unknown name."""
    return read(COMPARTMENT_MODELS[name], value)
