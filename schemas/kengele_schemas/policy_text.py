"""Rules as coordinators write them: a list in YAML, read strictly, with the line of every mistake.

Among them may stand sentences that must stay true: ``- always: no group:government may open source``.

Only the plain part of YAML is read (:mod:`kengele_schemas.plain_yaml`).

    >>> from_yaml("- {id: a, forbid: [sumary], to: [office:unrcca], reason: example}")
    Traceback (most recent call last):
    kengele_schemas.policy_text.BadText: Line 1, column 19: the field 'forbid[0]' is not one of the permitted values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, Final, NamedTuple, cast

import yaml

from . import plain_yaml, taxonomy
from .areas import Areas
from .assertions import BadAssertion, check_assertion
from .compartments import GRANTABLE
from .fields import BadField, read
from .policy import MAX_RULES, Assertion, Rule
from .release import BadRule, check_rule
from .roster import Offices
from .tlp import LEVELS

_MAX_DEPTH: Final = 4
_LISTS: Final = ("grant", "forbid", "to", "areas", "categories")
_NUMBERS: Final = ("min_severity", "max_severity")
_DIGITS: Final = frozenset("0123456789")
_WORDS: Final[dict[str, Sequence[str]]] = {
    "grant": GRANTABLE,
    "forbid": GRANTABLE,
    "tlp_up_to": LEVELS,
    "tlp_from": LEVELS,
    "categories": taxonomy.codes(),
}


class BadText(plain_yaml.BadText):
    """What was written is no policy."""

    named = "bad-rule"


class Written(NamedTuple):
    """What a text says: its rules, its assertions, and where each rule's fields stand, by its id and the field's path.

    A place is a line and a column, from 1; the path of the rule itself is empty.
    """

    rules: tuple[Rule, ...]
    assertions: tuple[Assertion, ...]
    places: dict[tuple[str, str], tuple[int, int]]


def from_yaml(text: str, offices: Offices | None = None, areas: Areas | None = None) -> tuple[Rule, ...]:
    """The rules in ``text``, which has no assertions. As :func:`policy_from_yaml` in all else."""
    written = policy_from_yaml(text, offices, areas)
    if written.assertions:
        raise BadText(plain_yaml.mark(), "there are assertions, and here only rules are read", "Take out 'always'.")
    return written.rules


def policy_from_yaml(text: str, offices: Offices | None = None, areas: Areas | None = None) -> Written:
    """What stands in ``text``; with ``offices`` and ``areas`` also checked for names that do not exist.

    Raises:
        Malformed: ``oversized``.
        BadText: ``bad-rule``: not the plain part of YAML, not a rule, or an id twice; with the nearest name that fits.
    """
    node = plain_yaml.compose(text, BadText, depth=_MAX_DEPTH)
    if not isinstance(node, yaml.SequenceNode):
        raise BadText(node.start_mark, "a policy is a list of rules", "Begin each rule with '- id:'.")
    if len(node.value) > MAX_RULES:
        raise BadText(node.start_mark, f"there are more than {MAX_RULES} rules", "Split the policy by area.")
    rules: dict[str, Rule] = {}
    assertions: list[Assertion] = []
    places: dict[tuple[str, str], tuple[int, int]] = {}
    for entry in node.value:
        found, marks = _entry(entry)
        if isinstance(found, Assertion):
            assertions.append(found)
        elif found.id in rules:
            raise BadText(marks["id"], "another rule has this id", "Give each rule an id of its own.")
        else:
            rules[found.id] = found
            places |= {(found.id, path): (mark.line + 1, mark.column + 1) for path, mark in marks.items()}
        if offices is not None and areas is not None:
            _check(found, marks, offices, areas)
    return Written(tuple(rules.values()), tuple(assertions), places)


def _check(found: Rule | Assertion, marks: dict[str, yaml.Mark], offices: Offices, areas: Areas) -> None:
    try:
        if isinstance(found, Rule):
            check_rule(found, offices, areas)
        else:
            check_assertion(found, offices, areas)
    except BadRule as error:
        raise BadText(marks[error.path], f"the rule '{error.rule}' {error.problem}", error.mend) from None
    except BadAssertion as error:
        raise BadText(marks[error.path], f"the assertion {error.problem}", error.mend) from None


def to_yaml(rules: Iterable[Rule], assertions: Iterable[Assertion] = ()) -> str:
    """Text that :func:`policy_from_yaml` reads back to the same. Comments of an earlier text are not kept."""
    listed: list[Rule | Assertion] = [*rules, *assertions]
    entries = [
        yaml.dump([_plain(entry)], Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=4096) for entry in listed
    ]
    return "\n".join(entries) or "[]\n"


class _Flow(list[str]):
    """A list written on one line."""


class _Dumper(yaml.SafeDumper):
    def flow(self, items: _Flow) -> yaml.Node:
        return self.represent_sequence(yaml.resolver.BaseResolver.DEFAULT_SEQUENCE_TAG, items, flow_style=True)


_Dumper.add_representer(_Flow, _Dumper.flow)


def _plain(entry: Rule | Assertion) -> dict[str, Any]:
    grants = isinstance(entry, Rule) and entry.grant is not None
    written = {}
    for name, field in type(entry).model_fields.items():
        value = getattr(entry, name)
        if value != field.default or (grants and name in ("areas", "categories")):
            written[name] = _Flow(value) if isinstance(value, tuple) else value
    return written


def _entry(entry: yaml.Node) -> tuple[Rule | Assertion, dict[str, yaml.Mark]]:
    """The rule or assertion, and where each of its fields stands by the path that errors give."""
    if not isinstance(entry, yaml.MappingNode):
        raise BadText(entry.start_mark, "a rule is a list of 'name: value'", "Begin each rule with '- id:'.")
    names = [key.value if isinstance(key, yaml.ScalarNode) else "" for key, _ in entry.value]
    model: type[Rule] | type[Assertion] = Assertion if "always" in names else Rule
    what = "a rule" if model is Rule else "an assertion"
    value: dict[str, Any] = {}
    marks: dict[str, yaml.Mark] = {"": entry.start_mark}
    for name, (key, node) in zip(names, entry.value, strict=True):
        if name not in model.model_fields:
            raise BadText(key.start_mark, f"{what} has no field of this name", _nearest(name, model.model_fields))
        if name in value:
            raise BadText(key.start_mark, f"the field '{name}' stands twice in one rule", "Take one out.")
        value[name] = _value(name, node, marks)
    try:
        return read(model, value), marks
    except BadField as error:
        path = error.paths[0]
        field, _, rest = path.partition("[")
        mend = error.mend
        if field in _WORDS and isinstance(written := value.get(field), str | list) and path in marks:
            word = written[int(rest.rstrip("]"))] if rest and isinstance(written, list) else written
            mend = _nearest(word, _WORDS[field]) if isinstance(word, str) else mend
        if path in _LISTS and isinstance(value.get(path), str):
            mend = "Write it in brackets: [one, another]."
        sentence = error.sentence.removesuffix(".").replace("The field", "the field")
        sentence = sentence.replace("The document", "the rule" if model is Rule else "the assertion")
        raise BadText(marks.get(path, entry.start_mark), sentence, mend) from None


def _value(path: str, node: yaml.Node, marks: dict[str, yaml.Mark]) -> object:
    marks[path] = node.start_mark
    if isinstance(node, yaml.SequenceNode):
        return [_value(f"{path}[{i}]", item, marks) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode):
        if path in _NUMBERS and node.style is None and len(node.value) == 1 and node.value in _DIGITS:
            return int(node.value)
        return cast(str, node.value)
    raise BadText(node.start_mark, f"the field '{path}' holds names and values", "Write a value or a list of values.")


def _nearest(word: str, words: Iterable[str]) -> str:
    known = list(words)
    near = get_close_matches(word[:64], known, 3) or get_close_matches(word[:64].upper(), known, 3)
    return f"Perhaps: {', '.join(near)}." if near else f"Use one of: {', '.join(known[:20])}."
