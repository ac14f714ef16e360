"""Rules brought on a stick: judged by the coordinators' signatures and dates, not by the hub's freshness."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kengele_schemas import drafts, metadata, publication
from kengele_schemas.errors import KengeleError, Untrusted
from kengele_schemas.trust import TrustStore
from kengele_testing.trust import NOW, Paper

WEEK = timedelta(days=7)


@pytest.fixture(scope="module")
def paper() -> Paper:
    return Paper()


@pytest.fixture(scope="module")
def first(paper: Paper) -> dict[str, bytes]:
    return paper.founded()


def next_version(paper: Paper, files: Mapping[str, bytes], now: datetime) -> dict[str, bytes]:
    policy: dict[str, Any] = metadata.document_of(files, "policy.json")
    draft = drafts.edit(files, {"policy.json": {**policy, "version": policy["version"] + 1}}, now)
    return paper.accept(paper.signed(draft), files, now)


def store(directory: Path, files: Mapping[str, bytes]) -> TrustStore:
    return TrustStore(directory, files["metadata/1.root.json"])


def test_rules_that_the_hub_vouched_for_a_week_ago_are_taken_from_a_stick(
    tmp_path: Path, paper: Paper, first: dict[str, bytes]
) -> None:
    kept, later = store(tmp_path, first), NOW + WEEK
    with pytest.raises(Untrusted, match="past their date"):
        kept.refresh(first.get, "monitor", later)
    carried = kept.carried(first.get, "monitor", later)
    assert (carried.version, carried.fresh) == (1, False)
    assert kept.offline("monitor", later).version == 1


def test_a_stick_brings_newer_rules_and_never_older_ones(tmp_path: Path, paper: Paper, first: dict[str, bytes]) -> None:
    kept, second = store(tmp_path, first), next_version(paper, first, NOW + WEEK)
    kept.refresh(first.get, "monitor", NOW)
    assert kept.carried(second.get, "monitor", NOW + WEEK).policy.version == 2
    with pytest.raises(Untrusted) as caught:
        kept.carried(first.get, "monitor", NOW + WEEK)
    assert caught.value.code == "rolled-back"
    assert kept.offline("monitor", NOW + WEEK).policy.version == 2


def test_rules_past_the_coordinators_own_date_are_not_taken_whatever_the_stick_says_of_the_hub(
    tmp_path: Path, paper: Paper, first: dict[str, bytes]
) -> None:
    late = NOW + drafts.TARGETS_LIFE + timedelta(seconds=1)
    vouched = publication.refresh_timestamp(first, paper.snapshot, paper.timestamp, late, before=late + WEEK)
    for files in (first, vouched):
        with pytest.raises(Untrusted) as caught:
            store(tmp_path, first).carried(files.get, "monitor", late)
        assert caught.value.code == "frozen"


def test_a_stick_with_too_few_signatures_or_half_a_set_changes_nothing(
    tmp_path: Path, paper: Paper, first: dict[str, bytes]
) -> None:
    kept = store(tmp_path, first)
    kept.refresh(first.get, "monitor", NOW)
    policy = metadata.document_of(first, "policy.json")
    lone = drafts.edit(first, {"policy.json": {**policy, "version": 2}}, NOW)
    forged = publication.vouched(
        {**first, **paper.signed(lone, (0,)).files()}, paper.snapshot, paper.timestamp, NOW, 9, 9
    )
    for files in (forged, {}, {**first, "metadata/timestamp.json": b"{}"}, dict.fromkeys(first, b"[]")):
        with pytest.raises(KengeleError):
            kept.carried(files.get, "monitor", NOW)
        assert kept.offline("monitor", NOW).policy.version == 1


def test_a_list_past_half_its_life_is_renewed_with_whatever_else_changes(paper: Paper, first: dict[str, bytes]) -> None:
    def listed(files: Mapping[str, bytes]) -> int:
        return int(metadata.metadata_version(files[metadata.newest(files, "monitors-KG")]))

    soon = next_version(paper, first, NOW + timedelta(days=1))
    late = next_version(paper, first, NOW + WEEK + timedelta(days=1))
    assert (listed(first), listed(soon), listed(late)) == (1, 1, 2)
