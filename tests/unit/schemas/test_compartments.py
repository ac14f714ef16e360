"""Compartments: names and bits are one thing written in two ways, and their order is the wire's."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_schemas.compartments import ALL_BITS, GRANTABLE, HANDLING_BIT, REPORT_COMPARTMENTS, bitmap, names
from kengele_schemas.envelope import TENSION_REPORT
from kengele_schemas.report import COMPARTMENT_MODELS, Report


def test_the_order_on_the_wire_never_changes() -> None:
    assert REPORT_COMPARTMENTS == ("handling", "summary", "account", "place", "people", "source", "media")
    assert [bitmap([name]) for name in REPORT_COMPARTMENTS] == [1, 2, 4, 8, 16, 32, 64]
    assert (HANDLING_BIT, ALL_BITS) == (1, 127)


def test_a_rule_names_every_compartment_but_handling() -> None:
    assert set(GRANTABLE) == set(REPORT_COMPARTMENTS) - {"handling"}


def test_what_is_sealed_what_is_modelled_and_what_is_written_are_the_same_compartments() -> None:
    assert TENSION_REPORT.compartments == tuple(COMPARTMENT_MODELS) == REPORT_COMPARTMENTS
    assert set(REPORT_COMPARTMENTS) <= set(Report.model_fields)


@settings(deadline=None)
@given(st.integers(0, ALL_BITS))
def test_bits_come_back_from_names(bits: int) -> None:
    assert bitmap(names(bits)) == bits
    assert names(bits) == tuple(name for name in REPORT_COMPARTMENTS if name in names(bits))


@settings(deadline=None)
@given(st.lists(st.sampled_from(REPORT_COMPARTMENTS)))
def test_names_may_come_in_any_order_and_more_than_once(given_names: list[str]) -> None:
    assert set(names(bitmap(given_names))) == set(given_names)


def test_bits_beyond_the_last_compartment_name_nothing() -> None:
    assert names(ALL_BITS + 1) == ()


@pytest.mark.parametrize("name", ["", "*", "Summary", "_sd", "summary "])
def test_a_name_that_is_none_has_no_bit(name: str) -> None:
    with pytest.raises(KeyError):
        bitmap([name])
