"""The plain part of YAML, for what people write: no anchors, aliases, tags, merges or second document, no name twice.

Aliases can make a few lines mean billions of values, and tags make anything of a word. Nothing is guessed from how a
word looks: in YAML 1.1 the country code NO is a truth value and 011 the number nine; here all are texts.

    >>> load("groups: {un: [office:unrcca, office:unowas]}")
    {'groups': {'un': ['office:unrcca', 'office:unowas']}}
"""

from __future__ import annotations

from typing import Any, Final, cast

import yaml

from .errors import Malformed

MAX_TEXT: Final = 2_000_000
"""Characters that are looked at."""
_DEPTH: Final = 8
_MERGE: Final = "<<"


class BadText(Malformed):
    """What was written is not what it should be; ``line`` and ``column``, from 1, say where."""

    named = "bad-yaml"
    """The error's code."""

    def __init__(self, mark: yaml.Mark, problem: str, mend: str) -> None:
        self.line = mark.line + 1
        self.column = mark.column + 1
        super().__init__(self.named, f"Line {self.line}, column {self.column}: {problem}.", mend)


def load(text: str, bad: type[BadText] = BadText) -> Any:
    """What stands in ``text``: lists, mappings and texts.

    Raises:
        Malformed: ``oversized``.
        BadText, or ``bad`` in its stead: not the plain part of YAML, or a name twice.
    """
    return _value(compose(text, bad), bad)


def compose(text: str, bad: type[BadText] = BadText, *, depth: int = _DEPTH) -> yaml.Node:
    """The nodes of ``text``, which nest no deeper than ``depth``. Raises as :func:`load`."""
    if len(text) > MAX_TEXT:
        raise Malformed("oversized", f"The text is longer than {MAX_TEXT} characters.", "Split it.")
    try:
        node = _Loader(text, bad, depth).get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position)
        column = error.position - (text.rfind("\n", 0, error.position) + 1)
        raise bad(mark(line, column), "there is a character that YAML does not have", "Remove it.") from None
    except yaml.MarkedYAMLError as error:
        where = error.problem_mark or error.context_mark or mark()
        raise bad(where, "this is not YAML", "Look at quotes, brackets, colons and indents, here and above.") from None
    if node is None:
        raise bad(mark(), "there is nothing", "An empty list is written: [].")
    return node


def mark(line: int = 0, column: int = 0) -> yaml.Mark:
    """A place in a text, from 0."""
    return yaml.Mark("", 0, line, column, None, 0)


class _Loader(yaml.BaseLoader):
    """YAML's nodes without what can make a text mean more than it shows, or take more room than it has."""

    def __init__(self, text: str, bad: type[BadText], depth: int) -> None:
        super().__init__(text)
        self._bad, self._left = bad, depth

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise self._bad(event.start_mark, "anchors and aliases are not read", "Write the values out.")
        if getattr(event, "tag", None) is not None:
            raise self._bad(event.start_mark, "tags are not read", "Write the value without its '!'.")
        if not self._left:
            raise self._bad(event.start_mark, "lists nest too deep", "Look for a bracket or an indent too many.")
        self._left -= 1
        node = super().compose_node(parent, index)
        self._left += 1
        return node


def _value(node: yaml.Node, bad: type[BadText]) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return cast(str, node.value)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, bad) for item in node.value]
    found: dict[str, Any] = {}
    for key, item in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise bad(key.start_mark, "a list stands where a name should", "Write 'name: value'.")
        if key.value == _MERGE and key.style is None:
            raise bad(key.start_mark, "merges are not read", "Write the values out.")
        if key.value in found:
            raise bad(key.start_mark, "this name stands twice", "Take one out.")
        found[key.value] = _value(item, bad)
    return found
