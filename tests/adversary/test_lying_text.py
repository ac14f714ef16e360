"""Texts written to be taken for something else: another report, another field, a line of this program's own.

Every field of every kind is filled with one; what is printed of it is looked at as a terminal shows it.
"""

from __future__ import annotations

import argparse
import ast
import json
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from kengele_node import cli, rules, terminal
from kengele_node.coordinator import describing
from kengele_node.errors import said_by_hub
from kengele_node.office.arrivals import COORDINATORS, Arrival, Aside, Marker, Notice, Tombstone
from kengele_node.office.telling import listed, tell, tell_full, tell_gone
from kengele_schemas import findings, foreign
from kengele_schemas.errors import Malformed, Refused, Unreachable
from kengele_schemas.foreign import MARGIN
from kengele_schemas.policy import Rule
from kengele_schemas.report import COMPARTMENT_MODELS, Header, parse_compartment, parse_header
from kengele_schemas.trusted import UNNAMED

ROOT = Path(__file__).parents[2]
LYING = "Calm.\n2026-03-01  UZ-FA     violence  severity 5  TLP:RED\n  AAAAAAAAAAAAAAAAAAAAAA  (summary)\n  They flee."
FIELD = "x\n\n  source\n    reliability: A\u2028    basis: official"
NAME, EVIL = "NAME", "EVIL"
BREAKS = ("\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")
JOINERS = ("\u200d", "\u200c", "\u200e", "\u200f")
STEERING = (
    *("\x1b[2K", "\x1b]0;title\x07", "\x9b1A", "\x00", "\x08", "\x7f"),
    *("\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068", "\u2069"),
    *("\u200b", "\u2060", "\ufeff", "\u00ad", "\U000e0041", "\U000e007f", "\u3164", "\ud800", "\u034f", "\ufff9"),
    *(f"a{one}b" for one in JOINERS),
)
HOSTILE = NAME + "".join(f"{one}{EVIL}" for one in (*BREAKS, *STEERING, "e" + "\u0301" * 200))
UNSEEN = {char for one in (*BREAKS, *STEERING) for char in one if not char.isprintable()}


def lying(**contents: str) -> Arrival:
    header = parse_header(
        {
            "v": 2,
            "net": UNNAMED,
            "id": "A" * 22,
            "kid": "m-" + "a" * 26,
            "kind": "report",
            "area": "KG-O",
            "categories": ["rumour"],
            "severity": 1,
            "day": "2026-03-01",
            "day_precision": 1,
            "tlp": "AMBER",
            "pol": 1,
        }
    )
    texts = contents or {"summary": LYING, "account": FIELD}
    opened = {name: parse_compartment(name, {"text": text, "lang": "en"}) for name, text in texts.items()}
    return Arrival(b"", b"", header, opened)


def filled(kind: Any, text: str) -> Any:
    """A value of ``kind`` with ``text`` wherever it holds one; nothing checks it, as a hole in the checks would not."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return filled(inner[0], text)
    if origin is typing.Literal:
        return inner[0]
    if origin in (typing.Union, types.UnionType):
        return filled(next(one for one in inner if one is not type(None)), text)
    if origin is tuple:
        return (filled(inner[0], text),)
    if origin in (list, set, frozenset):
        return origin([filled(inner[0], text)])
    if origin in (dict, Mapping):
        return {text: filled(inner[1], text)}
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind.model_construct(**{name: filled(one.annotation, text) for name, one in kind.model_fields.items()})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(iter(kind))
    values: dict[Any, Any] = {int: 1, float: 1.0, bool: True, date: date(2026, 3, 1), str: text, bytes: b""}
    return values.get(kind, text)


def forged(shown: str, *, whole: bool) -> list[str]:
    """Lines that a reader would take for this program's, and those with what cannot be seen or steers.

    Args:
        whole: no line of its own may begin with what another wrote, either.
    """
    begins = (NAME, EVIL) if whole else (EVIL,)
    return [
        line
        for line in shown.split("\n")
        if UNSEEN & set(line) or (not line.startswith(MARGIN) and line.strip().startswith(begins))
    ]


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    def read() -> str:
        caught = capsys.readouterr()
        return caught.out + caught.err

    return read


def test_a_summary_cannot_pass_for_another_report_in_the_list() -> None:
    lines = listed(lying())
    assert len(lines) == 3
    assert lines[2].startswith(f"{MARGIN}Calm. 2026-03-01 UZ-FA violence")


def test_a_text_cannot_pass_for_another_field(capsys: pytest.CaptureFixture[str]) -> None:
    tell_full(lying())
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.strip().startswith(("source", "reliability", "basis"))]
    assert f"{MARGIN}    reliability: A" in lines


@pytest.mark.parametrize("name", sorted(COMPARTMENT_MODELS))
@pytest.mark.parametrize("full", [False, True])
def test_no_field_of_a_report_passes_for_a_line_of_the_desk(shown: Callable[[], str], name: str, full: bool) -> None:
    model = filled(COMPARTMENT_MODELS[name], HOSTILE)
    arrival = Arrival(b"", b"", lying().header, {name: model}, flags=(HOSTILE,))
    if full:
        tell_full(arrival)
    else:
        tell(argparse.Namespace(json=False), arrival)
    told = shown()
    assert not forged(told, whole=True)
    assert EVIL in told


def test_no_field_of_a_header_passes_for_a_line_of_the_desk(shown: Callable[[], str]) -> None:
    header = filled(Header, HOSTILE).model_copy(update={"tlp": "AMBER", "recalls": None})
    tell_full(Arrival(b"", b"", header, {}))
    assert not forged(shown(), whole=False)


def test_a_recalls_reason_passes_for_nothing_else(shown: Callable[[], str]) -> None:
    header = lying().header.model_copy(update={"recalls": "B" * 22, "keep": ("summary",)})
    handling = filled(COMPARTMENT_MODELS["handling"], HOSTILE)
    tell(argparse.Namespace(json=False), Arrival(b"", b"", header, {"handling": handling}))
    told = shown()
    assert "recalled by its author" in told
    assert not forged(told, whole=True)


@pytest.mark.parametrize("by", ["author", COORDINATORS])
def test_nor_does_it_once_its_report_is_gone(shown: Callable[[], str], by: str) -> None:
    tell_gone(argparse.Namespace(json=False), Tombstone(1, 0.0, HOSTILE, HOSTILE, HOSTILE, by))
    assert not forged(shown(), whole=True)


@pytest.mark.parametrize(
    "item", [Aside(b"", HOSTILE), Marker(b"", HOSTILE), Notice(b"", HOSTILE, HOSTILE, (HOSTILE,))], ids=str
)
def test_nothing_else_that_comes_to_a_desk_does(shown: Callable[[], str], item: Any) -> None:
    tell(argparse.Namespace(json=False), item)
    assert not forged(shown(), whole=True)


def test_no_word_of_a_rule_passes_for_another_rule(shown: Callable[[], str]) -> None:
    terminal.say("", *rules._told(filled(Rule, HOSTILE)))
    terminal.say("", *rules._told(filled(Rule, HOSTILE).model_copy(update={"grant": None})))
    assert not forged(shown(), whole=False)


def test_no_name_of_an_office_an_area_or_a_group_makes_a_line_of_what_is_signed(shown: Callable[[], str]) -> None:
    office = {"id": HOSTILE, "name": HOSTILE, "sign": "A" * 43, "keys": [], "areas": [HOSTILE], "status": "active"}
    before = {"offices.json": {"offices": [], "groups": {}}}
    after = {"offices.json": {"offices": [office], "groups": {HOSTILE: [HOSTILE]}}}
    for line in describing.describe(before, after, ""):
        terminal.say(f"  {line}")
    told = shown()
    assert EVIL in told
    assert not forged(told, whole=False)


ANSWER = {"code": HOSTILE, "sentence": HOSTILE, "mend": HOSTILE * 1000}


@pytest.mark.parametrize(
    "error",
    [said_by_hub(ANSWER), Refused(HOSTILE, HOSTILE, HOSTILE), Unreachable("x", HOSTILE), OSError(2, "x", HOSTILE)],
    ids=str,
)
def test_no_error_makes_lines_of_its_own_whatever_the_hub_says(
    shown: Callable[[], str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def run(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(cli, "_load", lambda _: lambda parser: parser.set_defaults(run=run))
    assert cli.main(["node"])
    told = shown().rstrip("\n").split("\n")
    assert told[0].startswith("kengele: ")
    assert all(line.startswith(("  What to do: ", "  (code: ")) for line in told[1:])
    assert max(map(len, told)) < 2100
    assert not forged("\n".join(told), whole=True)


def test_a_doctors_finding_makes_no_lines_of_its_own(shown: Callable[[], str]) -> None:
    terminal.say(*findings.told([findings.Finding.of(Malformed("x", HOSTILE, HOSTILE))], json=False))
    assert not forged(shown(), whole=True)


def test_a_question_and_its_default_stay_on_their_line(
    shown: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(readline=lambda: "yes\n"))
    assert terminal.ask(f"The digits that {HOSTILE} reads out", str, HOSTILE) == "yes"
    assert not forged(shown(), whole=True)


TEXTS = st.lists(st.one_of(st.sampled_from([*BREAKS, *STEERING, EVIL, " ", "мир", "سلام"]), st.text())).map("".join)


@given(TEXTS)
def test_whatever_is_said_is_one_line_of_ours_and_the_rest_behind_the_margin(text: str) -> None:
    lines = foreign.lines(f"ours: {text}")
    assert lines[0].startswith("ours: ")
    assert all(line.startswith(MARGIN) for line in lines[1:])
    assert all(line.startswith(MARGIN) for line in foreign.block(text))
    for line in (*lines, *foreign.block(text), foreign.within(text)):
        assert len(line.splitlines()) <= 1
        assert not set(line) & (UNSEEN - set(JOINERS))
    for indent in (None, 2):
        told = foreign.escaped(json.dumps([text], ensure_ascii=False, indent=indent))
        assert json.loads(told) == [text]
        assert all(line.lstrip().startswith(("[", "]", '"')) for line in told.split("\n"))


@given(TEXTS, st.integers(20, 90))
def test_what_a_terminal_would_wrap_begins_with_a_mark(text: str, width: int) -> None:
    pieces = list(foreign.folded(foreign.plain(f"ours: {text}"), width))
    assert all(piece.startswith(foreign.FOLD) for piece in pieces[1:])
    assert all(foreign._cells(piece) <= width for piece in pieces)


@pytest.mark.parametrize(
    "text",
    ["می‌خواهم صلح", "क्‍ष", "قال: «سلام»", "👩‍🌾 🏳️‍🌈", "Ош шаары: 上海", "Việt Nam", "שָׁלוֹם", "ประเทศไทย", "ᠮᠣᠩᠭᠣᠯ"],
)
def test_what_people_write_in_their_languages_is_left_as_it_is(text: str) -> None:
    assert foreign.within(text) == text
    assert foreign.block(text) == [MARGIN + text]


@pytest.mark.parametrize("mark", ["\u0301", "\u0e49", "\u0489"])
def test_marks_piled_on_a_letter_do_not_cover_the_lines_above(mark: str) -> None:
    assert foreign.within(f"e{mark * 200}x") == f"e{mark * 5}x"


WRITES_BY_ITSELF = {
    # A bar that shows how far it is: numbers and this program's own words.
    "node/kengele_node/coordinator/effect.py",
    "node/kengele_node/coordinator/past.py",
    "node/kengele_node/demo/commands.py",
    # The bytes of a receipt, for a file.
    "node/kengele_node/monitor/entries.py",
    "node/kengele_node/terminal.py",
    "hub/kengele_hub/cli.py",
}
OTHER_ENDS = {
    # The hub's log, of which a test below; what comes on stdin; the output that nobody reads any more; a tool for who
    # builds the program.
    "hub/kengele_hub/logs.py",
    "schemas/kengele_schemas/disk.py",
    "node/kengele_node/cli.py",
    "schemas/kengele_schemas/jsonschema.py",
}


def prints(path: Path) -> Iterator[int]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield node.lineno
        if isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr") and isinstance(node.value, ast.Name):
            yield from [node.lineno] if node.value.id == "sys" else []


def test_nothing_is_printed_but_by_the_one_way() -> None:
    found = {
        str(path.relative_to(ROOT))
        for part in ("node/kengele_node", "hub/kengele_hub", "schemas/kengele_schemas")
        for path in (ROOT / part).rglob("*.py")
        if list(prints(path))
    }
    allowed = WRITES_BY_ITSELF | OTHER_ENDS
    assert found - allowed == set()


def test_what_the_hub_logs_is_one_line_of_json_whatever_a_member_sends() -> None:
    from kengele_hub.logs import only_allowed

    kept = only_allowed(None, "", {"event": HOSTILE[:100], "code": "x", "text": HOSTILE, "at": datetime.now()})
    assert "text" not in kept
    assert "\n" not in json.dumps(kept)
