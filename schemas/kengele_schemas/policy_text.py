"""Rules as coordinators write them: a list in YAML, read strictly, with the line of every mistake.

Only the plain part of YAML is read: no anchors, aliases, tags, merges or second document. Nothing is guessed from how
a word looks: in YAML 1.1 the country code NO is a truth value and 011 the number nine, here they are what is written.

    >>> from_yaml("- {id: a, forbid: [sumary], to: [office:unrcca], reason: example}")
    Traceback (most recent call last):
    kengele_schemas.policy_text.BadText: Line 1, column 19: the field 'forbid[0]' is not one of the permitted values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, Final, cast

import yaml

from . import taxonomy
from .areas import Areas
from .compartments import GRANTABLE
from .errors import Malformed
from .fields import BadField, read
from .policy import MAX_RULES, Rule
from .release import BadRule, check_rule
from .roster import Offices
from .tlp import LEVELS

MAX_TEXT: Final = 2_000_000
"""Characters of a policy that are looked at."""

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


class BadText(Malformed):
    """What was written is no policy; ``line`` and ``column``, from 1, say where."""

    def __init__(self, mark: yaml.Mark, problem: str, mend: str) -> None:
        self.line = mark.line + 1
        self.column = mark.column + 1
        super().__init__("bad-rule", f"Line {self.line}, column {self.column}: {problem}.", mend)


def from_yaml(text: str, offices: Offices | None = None, areas: Areas | None = None) -> tuple[Rule, ...]:
    """The rules in ``text``; with ``offices`` and ``areas`` also checked for names that do not exist.

    Raises:
        Malformed: ``oversized``.
        BadText: ``bad-rule``: not the plain part of YAML, not a rule, or an id twice; with the nearest name that fits.
    """
    if len(text) > MAX_TEXT:
        raise Malformed("oversized", f"The policy is longer than {MAX_TEXT} characters.", "Split it by area.")
    node = _compose(text)
    if not isinstance(node, yaml.SequenceNode):
        raise BadText(node.start_mark, "a policy is a list of rules", "Begin each rule with '- id:'.")
    if len(node.value) > MAX_RULES:
        raise BadText(node.start_mark, f"there are more than {MAX_RULES} rules", "Split the policy by area.")
    rules: dict[str, Rule] = {}
    for entry in node.value:
        rule, marks = _rule(entry)
        if rule.id in rules:
            raise BadText(marks["id"], "another rule has this id", "Give each rule an id of its own.")
        if offices is not None and areas is not None:
            try:
                check_rule(rule, offices, areas)
            except BadRule as error:
                raise BadText(marks[error.path], f"the rule '{rule.id}' {error.problem}", error.mend) from None
        rules[rule.id] = rule
    return tuple(rules.values())


def to_yaml(rules: Iterable[Rule]) -> str:
    """``rules`` as text that :func:`from_yaml` reads back to the same. Comments of an earlier text are not kept."""
    entries = [
        yaml.dump([_plain(rule)], Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=4096) for rule in rules
    ]
    return "\n".join(entries) or "[]\n"


class _Flow(list[str]):
    """A list written on one line."""


class _Dumper(yaml.SafeDumper):
    def flow(self, items: _Flow) -> yaml.Node:
        return self.represent_sequence(yaml.resolver.BaseResolver.DEFAULT_SEQUENCE_TAG, items, flow_style=True)


_Dumper.add_representer(_Flow, _Dumper.flow)


def _plain(rule: Rule) -> dict[str, Any]:
    written = {}
    for name, field in Rule.model_fields.items():
        value = getattr(rule, name)
        if value != field.default or (rule.grant is not None and name in ("areas", "categories")):
            written[name] = _Flow(value) if isinstance(value, tuple) else value
    return written


class _Loader(yaml.BaseLoader):
    """YAML's nodes without what can make a text mean more than it shows, or take more room than it has."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise BadText(event.start_mark, "anchors and aliases are not read", "Write the values out.")
        if getattr(event, "tag", None) is not None:
            raise BadText(event.start_mark, "tags are not read", "Write the value without its '!'.")
        if self.depth == _MAX_DEPTH:
            raise BadText(event.start_mark, "lists nest too deep", "Look for a bracket or an indent too many.")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _compose(text: str) -> yaml.Node:
    try:
        node = _Loader(text).get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position)
        column = error.position - (text.rfind("\n", 0, error.position) + 1)
        raise BadText(_mark(line, column), "there is a character that YAML does not have", "Remove it.") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark or _mark(0, 0)
        raise BadText(
            mark, "this is not YAML", "Look at quotes, brackets, colons and indents, here and above."
        ) from None
    if node is None:
        raise BadText(_mark(0, 0), "there is nothing", "An empty policy is written: [].")
    return node


def _mark(line: int, column: int) -> yaml.Mark:
    return yaml.Mark("", 0, line, column, None, 0)


def _rule(entry: yaml.Node) -> tuple[Rule, dict[str, yaml.Mark]]:
    """The rule, and where each of its fields stands by the path that errors give."""
    if not isinstance(entry, yaml.MappingNode):
        raise BadText(entry.start_mark, "a rule is a list of 'name: value'", "Begin each rule with '- id:'.")
    value: dict[str, Any] = {}
    marks: dict[str, yaml.Mark] = {"": entry.start_mark}
    for key, node in entry.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else ""
        if name not in Rule.model_fields:
            raise BadText(key.start_mark, "a rule has no field of this name", _nearest(name, Rule.model_fields))
        if name in value:
            raise BadText(key.start_mark, f"the field '{name}' stands twice in one rule", "Take one out.")
        value[name] = _value(name, node, marks)
    try:
        return read(Rule, value), marks
    except BadField as error:
        path = error.paths[0]
        field, _, rest = path.partition("[")
        mend = error.mend
        if field in _WORDS and isinstance(written := value.get(field), str | list) and path in marks:
            word = written[int(rest.rstrip("]"))] if rest and isinstance(written, list) else written
            mend = _nearest(word, _WORDS[field]) if isinstance(word, str) else mend
        if path in _LISTS and isinstance(value.get(path), str):
            mend = "Write it in brackets: [one, another]."
        sentence = (
            error.sentence.removesuffix(".").replace("The field", "the field").replace("The document", "the rule")
        )
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
