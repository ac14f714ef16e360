"""What both doctors judge alike, at its bounds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kengele_schemas.errors import Refused
from kengele_schemas.findings import (
    MEBI,
    Certificate,
    Finding,
    of_certificate,
    of_clock,
    of_disk,
    of_modes,
    of_names,
    told,
)

NOW = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("free", "size", "codes"),
    [
        (256 * MEBI, 1024 * MEBI, []),
        (256 * MEBI - 1, 1024 * MEBI, ["disk-full"]),
        (50 * MEBI * 1000, 1000 * MEBI * 1000, []),
        (49 * MEBI * 1000, 1000 * MEBI * 1000, ["disk-full"]),
        (None, None, []),
    ],
)
def test_a_disk_is_full_by_its_share_and_by_what_is_left(free: int | None, size: int | None, codes: list[str]) -> None:
    assert [finding.code for finding in of_disk(free, size, writable=True)] == codes


def test_a_clock_is_told_which_way_it_is_off() -> None:
    assert list(of_clock(5.0)) == list(of_clock(-5.0)) == list(of_clock(None)) == []
    assert "ahead of" in next(iter(of_clock(6))).what
    assert "behind" in next(iter(of_clock(-6))).what


@pytest.mark.parametrize(
    ("name", "host", "covers"),
    [
        ("hub.example.org", "hub.example.org", True),
        ("HUB.example.org.", "hub.EXAMPLE.org", True),
        ("*.example.org", "hub.example.org", True),
        ("*.example.org", "a.hub.example.org", False),
        ("*.example.org", "example.org", False),
        ("*", "localhost", False),
        ("10.0.0.7", "10.0.0.7", True),
        ("::1", "0:0:0:0:0:0:0:1", True),
        ("10.0.0.7", "10.0.0.8", False),
        ("example.org", "hub.example.org", False),
    ],
)
def test_a_name_covers_a_host_as_clients_hold_it(name: str, host: str, covers: bool) -> None:
    given = Certificate(True, NOW - timedelta(days=1), NOW + timedelta(days=90), (name,))
    assert [finding.code for finding in of_certificate(given, (host,), NOW)] == ([] if covers else ["certificate-host"])


def test_files_are_named_and_in_one_order() -> None:
    first, second = of_modes(["b", "a"], ["d", "c"])
    assert "a, b" in first.what
    assert "c, d" in second.what


def test_an_ipv6_name_is_no_fault_where_there_is_a_way() -> None:
    assert list(of_names({"hub": "ipv6"}, ipv6=True)) == []


def test_findings_are_told_to_people_and_to_programs() -> None:
    finding = Finding.of(Refused("keys-exposed", "Others can read it."))
    *text, count = told([finding], json=False)
    assert text == [
        "! Others can read it.",
        "  What to do: See docs/operations.md.",
        "  (code: keys-exposed)",
    ]
    assert count == "1 found."
    assert list(told([finding], json=True)) == [{"findings": [finding.document()]}]
    assert list(told([], json=False)) == ["Nothing found."]
