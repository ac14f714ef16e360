"""The newest rules that were named: kept over restarts, and no word of anybody's keeps a home alarmed for good."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from kengele_node import newest as module
from kengele_node.newest import HUB, Named, Newest, Older
from kengele_node.rows import RowCipher
from kengele_schemas.drafts import TARGETS_LIFE
from kengele_schemas.errors import Unreachable
from kengele_schemas.trusted import Trusted
from kengele_testing.values import NOW, grant, network

ROWS = RowCipher(b"k" * 32, "newest")
DAY = timedelta(days=1)
KID = "m-osh"


def rules(version: int, signed: datetime = NOW - DAY) -> Trusted:
    """Rules of this version, in a list that coordinators signed then."""
    known = network(grant(), expires=signed + TARGETS_LIFE)
    return replace(known, policy=known.policy.model_copy(update={"version": version}))


def memory(home: Path, at: datetime = NOW) -> Newest:
    """As each command opens it anew."""
    return Newest(home, ROWS, lambda: at)


def test_rules_below_what_was_named_are_older_until_newer_ones_come(tmp_path: Path) -> None:
    assert memory(tmp_path).older(rules(1)) is None
    assert memory(tmp_path).saw(3, HUB)
    found = memory(tmp_path).older(rules(2))
    assert found is not None
    assert (found.code, found.shown, found.named) == ("older-rules", 2, (3, HUB, NOW))
    assert "version 2" in found.line()
    assert "the hub itself named version 3" in found.line()
    assert memory(tmp_path).older(rules(3)) is None


def test_a_smaller_number_takes_nothing_back_and_one_that_was_named_before_is_no_news(tmp_path: Path) -> None:
    known = memory(tmp_path)
    assert known.saw(3, KID)
    assert not known.saw(2, HUB)
    assert not memory(tmp_path, NOW + 2 * DAY).saw(3, KID)
    found = memory(tmp_path).older(rules(2))
    assert found is not None
    assert found.named == (3, KID, NOW + 2 * DAY)


def test_only_an_author_confirms_what_the_hub_says(tmp_path: Path) -> None:
    known = memory(tmp_path)
    known.saw(3, HUB)
    assert known.confirmed(rules(3)) is None
    assert not known.saw(3, KID)
    for held in (known, memory(tmp_path)):
        assert held.confirmed(rules(3)) == (3, KID, NOW)
        assert held.confirmed(rules(4)) is None
    known.saw(3, HUB)
    assert known.confirmed(rules(3)) == (3, KID, NOW)


def test_a_number_that_was_made_up_ends_with_the_next_list_that_coordinators_sign(tmp_path: Path) -> None:
    known = memory(tmp_path)
    known.saw(2**53, HUB)
    assert known.older(rules(3, signed=NOW + DAY)) is not None
    assert known.older(rules(3, signed=NOW + 2 * DAY)) is None
    later = memory(tmp_path, NOW + TARGETS_LIFE + 2 * DAY)
    assert later.saw(4, KID)
    assert later.older(rules(3, signed=NOW + 5 * DAY)) == Older(3, Named(4, KID, NOW + TARGETS_LIFE + 2 * DAY))


def test_a_file_that_another_wrote_counts_for_nothing(tmp_path: Path) -> None:
    memory(tmp_path).saw(3, HUB)
    (tmp_path / "newest").write_bytes(b"garbage")
    assert memory(tmp_path).older(rules(2)) is None


class Server:
    """Serves these versions one after the other, the last for good."""

    def __init__(self, *versions: int) -> None:
        self.versions, self.asked = list(versions), 0

    async def __call__(self) -> Trusted:
        self.asked += 1
        version = self.versions.pop(0) if len(self.versions) > 1 else self.versions[0]
        if not version:
            raise Unreachable("no-line", "No line.")
        return rules(version)


def learnt(home: Path, named: int, server: Server) -> tuple[int, list[Older]]:
    """By which version a member that held the first goes on, and of what it was told."""
    said = list[Older]()
    found = asyncio.run(memory(home).learn(named, HUB, rules(1), server, said.append))
    return found.rules_version, said


@pytest.mark.parametrize(
    ("named", "serves", "goes_by", "asked"), [(1, (1,), 1, 0), (2, (2,), 2, 1), (2, (1, 1, 3), 3, 3), (2, (0,), 1, 1)]
)
def test_who_is_named_newer_rules_asks_for_them_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: int, serves: tuple[int, ...], goes_by: int, asked: int
) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0)
    server = Server(*serves)
    assert learnt(tmp_path, named, server) == (goes_by, [])
    assert server.asked == asked


def test_a_hub_that_goes_on_to_serve_less_is_told_of_and_not_asked_again_for_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOMENT", 0)
    server = Server(1)
    assert learnt(tmp_path, 2, server) == (1, [Older(1, Named(2, HUB, NOW))])
    assert learnt(tmp_path, 2, server) == (1, [])
    assert server.asked == 1
