"""Each version field takes the integer that it names and nothing that equals it: two readers must not differ."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

import kengele_hub.settings
import kengele_schemas
from kengele_schemas.drafts import Draft
from kengele_schemas.encoding import dumps
from kengele_schemas.errors import Malformed
from kengele_schemas.fields import Model, is_version

for _module in pkgutil.iter_modules(kengele_schemas.__path__):
    importlib.import_module(f"kengele_schemas.{_module.name}")


def _below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for one in model.__subclasses__():
        yield one
        yield from _below(one)


VERSIONED = sorted({one for one in _below(Model) if "v" in one.model_fields}, key=lambda one: one.__name__)


def refused(model: type[BaseModel], value: Any) -> bool:
    """Whether it is the version at which ``model`` takes offence, whatever else is missing."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate({"v": value, "": ""})
    return ("v",) in [error["loc"] for error in caught.value.errors()]


def test_all_kinds_are_here() -> None:
    names = {model.__name__ for model in VERSIONED}
    assert names >= {"Header", "Leaf", "Share", "Withheld", "Notice", "JoinRequest", "Network", "PolicyFile"}
    assert kengele_hub.settings.Settings in VERSIONED


@pytest.mark.parametrize("model", VERSIONED, ids=lambda model: model.__name__)
def test_a_version_is_one_integer_and_nothing_that_equals_it(model: type[BaseModel]) -> None:
    right = model.model_fields["v"].annotation.__args__[0]  # type: ignore[union-attr]
    assert not refused(model, right)
    wrong = (float(right), bool(right), str(right), right + 1, right - 1, None, [right], {})
    assert [value for value in wrong if not refused(model, value)] == []


@pytest.mark.parametrize("value", [1.0, True, "1", 2, None])
def test_a_draft_and_what_stands_outside_all_models_are_read_by_the_same_rule(value: Any) -> None:
    assert not is_version(value, 1)
    with pytest.raises(Malformed):
        Draft.decode(dumps({"v": value, "kind": "draft", "version": 1, "roles": {}, "documents": {}}))
