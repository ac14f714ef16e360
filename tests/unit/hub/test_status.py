"""The state in words: what hinders the hub comes first with its mend, what will want doing, then the figures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kengele_hub.status import words

NOW = datetime(2026, 12, 1, tzinfo=UTC)
WELL: dict[str, Any] = {
    "connected": True,
    "founded": True,
    "ready": True,
    "not_ready": [],
    "roster_version": 3,
    "policy_version": 2,
    "signatures_hold_until": "2026-12-13T00:00:00+00:00",
    "areas_hold_until": "2027-11-01T00:00:00+00:00",
    "areas_past_their_date": [],
    "root_holds_until": "2027-11-01T00:00:00+00:00",
    "next_rule_ends": "2027-03-31T00:00:00+00:00",
    "certificate_holds_until": None,
    "last_cosigned": "2026-11-30T23:45:00+00:00",
    "log_size": 1200,
    "receipts": {"accepted": 1199, "id-conflict": 1},
    "paused": 2,
    "delivered": 30,
    "undelivered": 0,
    "storage_bytes": 77_220_000,
    "storage_limit_bytes": None,
    "disk_free_bytes": 75_000_000_000,
    "disk_size_bytes": 252_000_000_000,
}


def told(**changes: Any) -> list[str]:
    return list(words({**WELL, **changes}, NOW))


def remarks(**changes: Any) -> list[str]:
    return [line.removeprefix("  ! ") for line in told(**changes) if line.startswith("  ! ")]


def test_a_hub_that_is_well_says_so_and_asks_for_nothing() -> None:
    assert told()[:2] == ["The hub takes reports.", ""]
    rows = {name: value.strip() for name, _, value in (line.partition(":") for line in told()[2:])}
    assert rows == {
        "Broker": "connected",
        "Roster": "version 3, policy 2",
        "Signatures hold until": "2026-12-13 00:00 UTC (in 12 days)",
        "Root holds until": "2027-11-01 00:00 UTC (in 335 days)",
        "Certificate holds until": "-",
        "Log": "1,200 entries, last cosigned 2026-11-30 23:45 UTC (15 minutes ago)",
        "Receipts since start": "accepted 1,199, id-conflict 1",
        "Pauses since start": "2",
        "Deliveries since start": "30",
        "Streams": "77.2 MB",
        "Disk": "75.0 GB free of 252.0 GB",
    }


@pytest.mark.parametrize("code", ["broker-away", "not-founded", "signatures-expired", "storage-full"])
def test_what_hinders_it_is_told_with_what_to_do(code: str) -> None:
    lines = told(ready=False, not_ready=[code])
    assert lines[0] == "The hub is not ready."
    (remark,) = remarks(ready=False, not_ready=[code])
    assert remark.count(". ") >= 1


@pytest.mark.parametrize(
    ("member", "days"),
    [
        ("signatures_hold_until", 3),
        ("areas_hold_until", 3),
        ("root_holds_until", 30),
        ("certificate_holds_until", 14),
        ("next_rule_ends", 14),
    ],
)
def test_what_runs_out_is_told_in_time_and_not_before(member: str, days: int) -> None:
    near, far = NOW + timedelta(days=days, minutes=-1), NOW + timedelta(days=days, minutes=1)
    assert len(remarks(**{member: near.isoformat()})) == 1
    assert remarks(**{member: far.isoformat()}) == []
    assert "1 hour ago" in remarks(**{member: (NOW - timedelta(hours=1)).isoformat()})[0]


def test_signatures_that_have_run_out_are_told_once() -> None:
    past = {"signatures_hold_until": "2026-11-30T00:00:00+00:00"}
    assert len(remarks(ready=False, not_ready=["signatures-expired"], **past)) == 1


def test_a_log_that_nobody_cosigns_is_told_and_an_empty_one_is_not() -> None:
    for cosigned in (None, "2026-11-23T00:00:00+00:00"):
        since = "yet" if cosigned is None else "for a week"
        assert f"No office has cosigned the log {since}." in remarks(last_cosigned=cosigned)[0]
    assert remarks(last_cosigned=None, log_size=0) == []
    assert remarks(last_cosigned=None, founded=False, ready=False, not_ready=["not-founded"])[0].startswith("Nobody")


def test_before_anything_is_known_there_are_dashes_and_no_failure() -> None:
    unknown = {name: None for name in WELL if name.endswith(("_until", "_bytes", "_ends", "_cosigned", "undelivered"))}
    assert "Disk:                    - free" in told(**unknown)


def test_what_waits_to_be_delivered_is_told() -> None:
    assert any(line.endswith("30; 1,500 entries wait") for line in told(undelivered=1500))
