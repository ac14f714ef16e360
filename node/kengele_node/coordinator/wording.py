"""Wording: the fields of the network's documents in plain words, and their values as two people can compare them. Pure.

Keys and signatures are told by their fingerprints, and what somebody made up stands in quotes, so that no name ends a
sentence and begins one of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from kengele_schemas.areas import AreaRow
from kengele_schemas.encoding import unb64u
from kengele_schemas.errors import Malformed
from kengele_schemas.fields import Model
from kengele_schemas.keys import fingerprint
from kengele_schemas.policy import Rule
from kengele_schemas.roster import Monitor, Network, Office

WORDS: Final[Mapping[type[Model], Mapping[str, str]]] = {
    Network: {
        "name": "name",
        "hub_key": "hub's signing key",
        "log": "hub's log",
        "custodian": "custodian",
        "header_level": "level of areas that the hub sees",
        "max_future_days": "number of days that a report may lie ahead",
        "reports_per_hour": "number of reports an hour",
        "widening_threshold": "number of signatures for a widening",
    },
    Office: {
        "name": "name",
        "areas": "areas",
        "keys": "opening keys",
        "sign": "signing key",
        "vouched": "own signature under its keys",
        "replaced": "day on which lost keys were replaced",
    },
    Monitor: {
        "key": "signing key",
        "areas": "areas",
        "not_before": "first day",
        "not_after": "last day",
        "after": "name before",
        "handover": "former key's signature under this one",
    },
    AreaRow: {
        "name": "name",
        "kind": "level",
        "parents": "parents",
        "valid_from": "first day",
        "valid_to": "last day",
        "replaced_by": "list of what replaces it",
        "names": "further names",
    },
    # Who signs rules writes rules, by these names.
    Rule: {name: name for name in Rule.model_fields if name != "to"} | {"to": "list of those it is for"},
}
"""By model, each field's word. A member's ``status`` has sentences of its own; ids are told as such."""
_BY_DIGEST: Final = ("hub_key", "sign", "key", "vouched", "handover")
_MADE_UP: Final = ("name", "names", "reason", "log")
_PLURAL: Final = ("areas", "categories", "keys", "names", "parents")
_STATUS: Final = {"active": "is restored to active", "suspended": "is suspended", "revoked": "is revoked for good"}


def changes(model: type[Model], was: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[str]:
    """What changes from ``was`` to ``row``, a phrase for each field, with its value before and after."""
    known = [name for name in model.model_fields if name in was or name in row]
    for field in [*known, *sorted({*was, *row} - {*known})]:
        before, after = (_value(model, field, side) for side in (was, row))
        if before == after:
            continue
        if field == "status":
            yield f"{_STATUS.get(after, f'is {after}')}; before, it was {before}"
            continue
        word = WORDS[model].get(field, field)
        verb = "change" if field in _PLURAL else "changes"
        yield f"{word} {verb} from {shown(field, before)} to {shown(field, after)}"


def whole(model: type[Model], row: Mapping[str, Any], *but: str, by: str = " ") -> Iterator[str]:
    """All that ``row`` says besides ``but`` and what is so anyway, a phrase for each field."""
    for field in [*(name for name in model.model_fields if name in row), *sorted({*row} - {*model.model_fields})]:
        value = row[field]
        if field not in but and value != _value(model, field, {}):
            yield f"{WORDS[model].get(field, field)}{by}{shown(field, value)}"


def shown(field: str, value: Any) -> str:
    """A field's value."""
    if value is None:
        return "none"
    if field in _BY_DIGEST:
        return digest(value)
    if field == "keys":
        return ", ".join(opening(key) for key in value) or "none"
    if field in _MADE_UP:
        return ", ".join(quoted(one) for one in value) or "none" if isinstance(value, list) else quoted(value)
    if isinstance(value, list | tuple):
        return " ".join(str(one) for one in value) or "none"
    return str(value)


def opening(key: Mapping[str, Any]) -> str:
    """An office's opening key, by its fingerprint, its suite and its days."""
    days = (f" {word} {key[name]}" for word, name in (("from", "not_before"), ("to", "not_after")) if key.get(name))
    return f"{digest(key['key'])} ({key['suite']}){''.join(days)}"


def digest(value: Any) -> str:
    """The fingerprint of a key or signature in base64url; what is none is told as it stands."""
    try:
        return fingerprint(unb64u(value)) if isinstance(value, str) else quoted(value)
    except Malformed:
        return quoted(value)


def quoted(value: Any) -> str:
    """What somebody made up, in quotes that it cannot end."""
    return json.dumps(value, ensure_ascii=False)


def moment(at: Any) -> str:
    """A moment in Unix seconds."""
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (TypeError, ValueError, OverflowError, OSError):
        return f"second {at}"


def _value(model: type[Model], field: str, row: Mapping[str, Any]) -> Any:
    """What holds of ``field``, said or not."""
    known = model.model_fields.get(field)
    value = row.get(field)
    if value is None and known is not None and not known.is_required():
        value = known.get_default(call_default_factory=True)
    if field in ("areas", "categories") and value == "*":
        return ["*"]
    return list(value) if isinstance(value, tuple) else value
