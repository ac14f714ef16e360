"""Delivered reports as bytes: what is left of one is still its author's, and two deliveries of one are one."""

from __future__ import annotations

from itertools import combinations

import pytest

from kengele_node.office import parcels
from kengele_schemas.compartments import REPORT_COMPARTMENTS
from kengele_schemas.envelope import assemble, parse, verify
from kengele_schemas.sharing import join, split
from kengele_testing.values import MONITOR, canaried, grant, network, report, sealed

WHOLE = sealed(report(**canaried()), network(grant()))
PARTS = tuple(parse(WHOLE).ciphertexts)
SHARES = (b'{"by":"one"}', b'{"by":"two"}')
STAYS = [chosen for size in range(len(PARTS) + 1) for chosen in combinations(PARTS, size)]


def parts(data: bytes) -> tuple[str, ...]:
    envelope = parse(split(data)[1])
    verify(envelope, bytes(MONITOR.verify_key))
    return tuple(envelope.ciphertexts)


@pytest.mark.parametrize("stays", STAYS[:: max(1, len(STAYS) // 40)])
def test_what_stays_is_signed_by_its_author_as_before(stays: tuple[str, ...]) -> None:
    assert parts(parcels.stripped(WHOLE, stays)) == stays


def test_shares_stay_with_the_report_they_came_with() -> None:
    assert split(parcels.stripped(join(SHARES, WHOLE), PARTS))[0] == list(SHARES)


def test_two_halves_are_the_whole_however_they_come() -> None:
    first, second = (parcels.stripped(WHOLE, half) for half in (PARTS[:2], PARTS[1:]))
    assert parcels.both(first, second, PARTS) == WHOLE
    assert parcels.both(second, first, PARTS) == WHOLE


def test_what_was_taken_back_does_not_come_again_with_the_second_half() -> None:
    first, second = (parcels.stripped(WHOLE, half) for half in (PARTS[:1], PARTS))
    assert parts(parcels.both(first, second, PARTS[:2])) == PARTS[:2]


def test_a_share_that_comes_twice_is_kept_once() -> None:
    found = split(parcels.both(join(SHARES[:1], WHOLE), join(SHARES, WHOLE), PARTS))[0]
    assert found == list(SHARES)


def test_what_has_no_wrap_of_its_authors_is_told_from_what_has() -> None:
    envelope = parse(WHOLE)
    bare = assemble(envelope.protected, envelope.payload, envelope.signature, envelope.ciphertexts, ())
    assert parcels.wrapped(WHOLE)
    assert not parcels.wrapped(bare)
    assert parcels.wrapped(parcels.both(bare, WHOLE, PARTS))


def test_compartments_stand_in_the_order_of_a_report() -> None:
    assert parcels.in_order(REPORT_COMPARTMENTS[::-1]) == list(REPORT_COMPARTMENTS)
