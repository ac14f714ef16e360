"""Field types that all documents share, and how a wrong field is told without repeating what stood in it.

>>> read(Header, claims)
Traceback (most recent call last):
kengele_schemas.fields.BadField: The field 'severity' is missing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Final, Literal, TypeVar

from annotated_types import GroupedMetadata
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from .errors import Malformed


class Model(BaseModel):
    """A value: immutable, no unknown members, no conversion of types, nothing of its content in error texts."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
        revalidate_instances="never",
    )

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Nothing: what a debugger or a traceback shows of a value goes into logs."""
        return ()


class BadField(Malformed):
    """A document does not follow its model; ``paths`` names every wrong field (``account.local_terms[0].lang``)."""

    def __init__(self, sentence: str, mend: str, paths: tuple[str, ...]) -> None:
        super().__init__("bad-field", sentence, mend)
        self.paths = paths


def bad(problem: str, mend: str) -> PydanticCustomError:
    """What a validator raises. ``problem`` completes "The field '…' …"; neither text may hold any of the input."""
    return PydanticCustomError("bad", "{problem}", {"problem": problem, "mend": mend})


# Controls other than newline and tab have no place in a text and steer terminals; the two bidirectional overrides
# (U+202D, U+202E) make a text read otherwise than it is stored. Marks and isolates, which Arabic needs, are left.
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202d\u202e\ud800-\udfff]")
_BREAK: Final = re.compile("[\n\t\u2028\u2029]")


def _clean(text: str) -> str:
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n"))
    if _CONTROL.search(text):
        raise bad("holds a control character or half a surrogate pair", "Remove it; newline and tab are permitted.")
    if not text.strip():
        raise bad("is blank", "Write something or leave the field out.")
    return text


def _line(text: str) -> str:
    if _BREAK.search(text):
        raise bad("holds a line break or a tab", "Write it on one line.")
    return text


@dataclass(frozen=True)
class Prose(GroupedMetadata):
    """``Annotated[str, Prose(280)]``: up to ``limit`` code points, normalized to NFC, lines ending in ``\\n``."""

    limit: int

    def __iter__(self) -> Iterator[Any]:
        yield Field(min_length=1, max_length=self.limit)
        yield AfterValidator(_clean)
        yield AfterValidator(self._short)

    def _short(self, text: str) -> str:
        # NFC can lengthen a text, so the length is looked at once more.
        if len(text) > self.limit:
            raise bad(f"is longer than {self.limit} characters", "Shorten it.")
        return text


@dataclass(frozen=True)
class Line(Prose):
    """As :class:`Prose`, on one line."""

    def __iter__(self) -> Iterator[Any]:
        yield from super().__iter__()
        yield AfterValidator(_line)


_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def _day(value: object) -> object:
    if isinstance(value, str):
        try:
            return date.fromisoformat(value) if _DAY.fullmatch(value) else None
        except ValueError:
            return None
    return value


Items = Strict(False)
"""Marks a tuple field, so that it takes JSON's arrays; what stands in them stays strict."""


def _integer(value: object) -> object:
    # A literal takes what equals it: 1.0 and true equal 1.
    if type(value) is not int:
        raise bad("is no version", "Write it as an integer.")
    return value


def is_version(value: object, number: int) -> bool:
    """Whether ``value`` is just this integer: 1.0 and true equal 1."""
    return type(value) is int and value == number


Exactly1 = Annotated[Literal[1], BeforeValidator(_integer)]
"""The integer 1, spelt so, and nothing that equals it."""
Exactly2 = Annotated[Literal[2], BeforeValidator(_integer)]

Day = Annotated[date, BeforeValidator(_day)]
"""A day as ``YYYY-MM-DD``."""

_MENDS: Final[dict[str, str]] = {}


def spelled(pattern: str, mend: str, max_length: int | None = None) -> Any:
    """A text of this pattern; who misses it is told ``mend``, as patterns speak to nobody."""
    _MENDS[pattern] = mend
    return Field(pattern=pattern, max_length=max_length)


Lang = Annotated[str, spelled(r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$", "Use a language's code, such as ky or fr.")]
"""A BCP 47 language tag, such as ``ky``, ``ru-KG`` or ``ar-Latn``; ``und`` where unknown."""

AREA_MEND: Final = "Use an area's code, such as KG or KG-O."
CATEGORY_MEND: Final = "Use a category's code, such as rumour."
SMALL_MEND: Final = "Use small letters, digits and hyphens."

AreaCode = Annotated[str, spelled(r"^[A-Z0-9]{2,12}(-[A-Z0-9]{1,12}){0,3}$", AREA_MEND, max_length=32)]
"""An area's code. Its text says nothing: only the parent table does."""

CategoryCode = Annotated[str, spelled(r"^[a-z]+(-[a-z]+)*$", CATEGORY_MEND, max_length=32)]
OfficeId = Annotated[str, spelled(r"^[a-z][a-z0-9-]{1,31}$", SMALL_MEND)]
Audience = Annotated[
    str, spelled(r"^(office|group):[a-z][a-z0-9-]{1,31}$", "Write office: or group: before it, as in office:unrcca.")
]
"""One office or a named group of them."""

RuleId = Annotated[str, spelled(r"^[a-z0-9][a-z0-9-]{0,31}$", "Use small letters, digits and hyphens, 32 at most.")]
"""A rule's name. It is short, because the log names the rules that decided for each of 200 offices."""
MonitorId = Annotated[str, Field(pattern=r"^m-[a-z2-7]{26}$")]
ReportId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{21}[AQgw]$")]
"""16 random bytes in base64url."""

Bytes32 = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$")]
"""32 bytes (a digest or a key) in base64url."""


_PROBLEMS: Final = {
    "missing": ("is missing", "Fill it in."),
    "extra_forbidden": (
        "holds a member that is not known",
        "Remove what the format does not name, or look for a typing error.",
    ),
    "literal_error": ("is not one of the permitted values", "Use {expected}."),
    "string_too_long": ("is longer than {max_length} characters", "Shorten it."),
    "string_too_short": ("is empty", "Write something or leave the field out."),
    "string_pattern_mismatch": ("is not in its format", "Use the pattern {pattern}."),
    "string_unicode": ("holds half a surrogate pair", "Remove it."),
    "too_long": ("has more than {max_length} entries", "Leave some out."),
    "too_short": ("has too few entries", "Name at least {min_length}."),
    "greater_than_equal": ("is too small", "Use at least {ge}."),
    "less_than_equal": ("is too large", "Use at most {le}."),
    "date_type": ("is not a day", "Write it as YYYY-MM-DD."),
    "bad": ("{problem}", "{mend}"),
}


def _path(location: tuple[int | str, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.removeprefix(".")


def _place(error: ErrorDetails, unnamed: set[tuple[int | str, ...]]) -> tuple[int | str, ...]:
    """Where ``error`` stood, up to the first name that is the sender's text: an unknown member or a key ``unnamed``."""
    location = error["loc"][:-1] if error["type"] == "extra_forbidden" else error["loc"]
    ends = (end for end in range(len(location)) if location[: end + 1] in unnamed)
    return location[: next(ends, len(location))]


def _tell(error: ErrorDetails, unnamed: set[tuple[int | str, ...]]) -> tuple[str, str, str]:
    problem, mend = _PROBLEMS.get(
        error["type"], ("has the wrong type or value", "See the JSON Schema of this document.")
    )
    context = error.get("ctx", {})
    if error["type"] == "string_pattern_mismatch":
        mend = _MENDS.get(context["pattern"], mend)
    return _path(_place(error, unnamed)), problem.format_map(context), mend.format_map(context)


_M = TypeVar("_M", bound=BaseModel)


def read(model: type[_M], value: object) -> _M:
    """``value`` (of JSON's types) as a ``model``.

    Raises:
        BadField: the first wrong field's path, what is wrong with it and what to do; never what stood there.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        # A mapping's key that is wrong stands in the places of all errors below it.
        unnamed = {item["loc"][:-1] for item in errors if item["loc"][-1:] == ("[key]",)}
        told = [_tell(item, unnamed) for item in errors]
    except RecursionError:
        told = [("", "nests too deep", "Write it flatter.")]
    paths = {path for path, _, _ in told}
    # A list whose entries are wrong is told as too short besides; the entries say it better.
    told = [item for item in told if not any(path.startswith((f"{item[0]}.", f"{item[0]}[")) for path in paths)]
    path, problem, mend = told[0]
    where = f"The field '{path}'" if path else "The document"
    raise BadField(f"{where} {problem}.", mend, tuple(dict.fromkeys(path for path, _, _ in told)))
