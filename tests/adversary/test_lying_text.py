"""A report whose texts are written to be taken for something else: another report, another field, another grading."""

from __future__ import annotations

import pytest

from kengele_node.office.arrivals import Arrival
from kengele_node.office.telling import line, tell_full
from kengele_schemas.report import parse_compartment, parse_header

LYING = "Calm.\n2026-03-01  UZ-FA     violence  severity 5  TLP:RED\n  AAAAAAAAAAAAAAAAAAAAAA  (summary)\n  They flee."
FIELD = "x\n\n  source\n    reliability: A\u2028    basis: official"


def lying() -> Arrival:
    header = parse_header(
        {
            "v": 1,
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
    texts = {"summary": LYING, "account": FIELD}
    contents = {name: parse_compartment(name, {"text": text, "lang": "en"}) for name, text in texts.items()}
    return Arrival(b"", b"", header, contents)


def test_a_summary_cannot_pass_for_another_report_in_the_list() -> None:
    lines = line(lying()).split("\n")
    assert len(lines) == 3
    assert lines[2].startswith("  Calm. 2026-03-01 UZ-FA violence")


def test_a_text_cannot_pass_for_another_field(capsys: pytest.CaptureFixture[str]) -> None:
    tell_full(lying())
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.strip().startswith(("source", "reliability", "basis"))]
    assert "    |     reliability: A" in lines
