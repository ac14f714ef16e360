"""Routing: the leaf's promise and today's rules, and the stricter of the two."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_hub.intake import leaf_of
from kengele_hub.routing import decide, marker_item, parcel
from kengele_schemas.compartments import ALL_BITS, HANDLING_BIT, bitmap, names
from kengele_schemas.encoding import b64u
from kengele_schemas.envelope import parse, verify
from kengele_schemas.keys import new_signing_key
from kengele_schemas.receipt import Leaf
from kengele_schemas.release import Compiled
from kengele_schemas.report import parse_header
from kengele_schemas.sealing import open_envelope
from kengele_schemas.subjects import token
from kengele_testing.hub import Roster
from oracle.worlds import AREAS, OFFICES, TODAY, policy, random_header, random_rule

ROSTER = Roster()
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
DAY = NOW.date()
SUMMARY = bitmap(["handling", "summary"])
ACCOUNT = bitmap(["handling", "summary", "account"])
DATA = ROSTER.sealed(day=DAY.isoformat())
ENVELOPE = parse(DATA)
HEADER = parse_header(ENVELOPE.claims)
TRUSTED = ROSTER.trusted()
PROMISED = leaf_of(ENVELOPE, HEADER, bytes(32), TRUSTED, NOW)


def leaf(*decisions: tuple[str, int]) -> Leaf:
    """What was promised on arrival: bits by office."""
    rows = tuple((office, bits, ALL_BITS & ~bits, ("then",)) for office, bits in decisions)
    return PROMISED.model_copy(update={"decisions": rows})


def routed(changed: dict[str, Any] | None = None, promised: Leaf = PROMISED, today: date = DAY) -> dict[str, int]:
    return dict(decide(HEADER, promised, ROSTER.trusted(changed), today).bits)


def test_under_the_same_rules_all_that_was_promised_is_given_and_nothing_is_to_be_logged() -> None:
    outcome = decide(HEADER, PROMISED, TRUSTED, DAY)

    assert outcome.bits == {"unrcca": ACCOUNT, "council": SUMMARY}
    assert outcome.narrowed == ()


@pytest.mark.parametrize(
    ("status", "bits"), [("active", (ACCOUNT, SUMMARY)), ("suspended", (ACCOUNT, SUMMARY)), ("revoked", (0, 0))]
)
def test_what_still_waits_of_a_revoked_monitor_goes_out_as_markers(status: str, bits: tuple[int, int]) -> None:
    outcome = decide(HEADER, PROMISED, ROSTER.trusted(ROSTER.with_monitor("osh", status=status)), DAY)

    assert outcome.bits == dict(zip(("unrcca", "council"), bits, strict=True))
    assert len(outcome.narrowed) == (2 if status == "revoked" else 0)


def test_what_came_while_an_office_was_suspended_is_not_made_up_for() -> None:
    suspended = decide(HEADER, PROMISED, ROSTER.trusted(ROSTER.with_office("council", status="suspended")), DAY)

    assert suspended.bits == {"unrcca": ACCOUNT}
    assert [row[0] for row in suspended.narrowed] == ["council"]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, ALL_BITS), min_size=8, max_size=8))
def test_whatever_was_promised_and_whatever_holds_today_the_stricter_is_given(seed: int, promises: list[int]) -> None:
    rng = random.Random(seed)
    compiled = Compiled([policy(*(random_rule(rng, f"r{number}") for number in range(8)))], OFFICES, AREAS)
    trusted = replace(TRUSTED, compiled=compiled, offices=OFFICES)
    facts = random_header(rng)
    header = HEADER.model_copy(update=facts._asdict())
    everybody = (*(office.id for office in OFFICES.document.offices), "nobody")
    # As a leaf promises: handling never alone.
    promised = {office: 0 if bits == HANDLING_BIT else bits for office, bits in zip(everybody, promises, strict=True)}
    release = compiled.release(header, TODAY)

    outcome = decide(header, leaf(*promised.items()), trusted, TODAY)

    assert set(outcome.bits) == set(OFFICES.active)
    for office, bits in outcome.bits.items():
        allowed = release[office].bits if office in release else 0
        assert bits & ~promised[office] == 0
        assert bits & ~allowed == 0
        assert bits != HANDLING_BIT
        assert bits or (promised[office] & allowed) in (0, HANDLING_BIT)
    less = {office for office, bits in promised.items() if outcome.bits.get(office, 0) != bits}
    assert {office for office, *_ in outcome.narrowed} == less
    for office, given_bits, withheld, _ in outcome.narrowed:
        assert given_bits == outcome.bits.get(office, 0)
        assert (given_bits | withheld, given_bits & withheld) == (ALL_BITS, 0)


def test_a_rule_that_was_withdrawn_gives_nothing_more() -> None:
    assert routed(ROSTER.with_rules(without="to-unrcca")) == {"unrcca": 0, "council": SUMMARY}


def test_a_rule_that_was_added_does_not_reach_back() -> None:
    rule = ROSTER.documents()["policy.json"]["rules"][0] | {"id": "more", "grant": ["source"], "to": ["office:council"]}
    more = ROSTER.with_rules(rules=[*ROSTER.documents()["policy.json"]["rules"], rule])

    assert routed(more)["council"] == SUMMARY
    assert routed(more, leaf(("council", 0)))["council"] == 0


def test_a_forbid_takes_its_compartment_and_leaves_the_others() -> None:
    forbid = {"id": "no", "forbid": ["account"], "to": ["office:unrcca"], "reason": "test"}
    rules = [*ROSTER.documents()["policy.json"]["rules"], forbid]
    outcome = decide(HEADER, PROMISED, ROSTER.trusted(ROSTER.with_rules(rules=rules)), DAY)

    assert outcome.bits["unrcca"] == SUMMARY
    assert outcome.narrowed == (("unrcca", SUMMARY, ALL_BITS & ~SUMMARY, ("no", "to-unrcca")),)


@pytest.mark.parametrize(("days", "bits"), [(0, ACCOUNT), (1, 0)])
def test_the_day_of_delivery_decides_whether_a_grant_has_ended(days: int, bits: int) -> None:
    rules = [rule | {"expires": DAY.isoformat()} for rule in ROSTER.documents()["policy.json"]["rules"]]
    assert routed(ROSTER.with_rules(rules=rules), today=DAY + timedelta(days=days))["unrcca"] == bits


@pytest.mark.parametrize("status", ["suspended", "revoked"])
def test_an_office_out_of_office_gets_neither_report_nor_marker(status: str) -> None:
    outcome = decide(HEADER, PROMISED, ROSTER.trusted(ROSTER.with_office("unrcca", status=status)), DAY)

    assert outcome.bits == {"council": SUMMARY}
    assert outcome.narrowed == (("unrcca", 0, ALL_BITS, ("to-unrcca",)),)


def test_handling_alone_is_nothing() -> None:
    forbid = {"id": "no", "forbid": ["summary", "account"], "to": ["office:unrcca"], "reason": "test"}
    rules = [*ROSTER.documents()["policy.json"]["rules"], forbid]
    assert routed(ROSTER.with_rules(rules=rules))["unrcca"] == 0
    assert routed(promised=leaf(("council", ACCOUNT & ~SUMMARY | HANDLING_BIT)))["council"] == 0


def test_who_was_promised_nothing_and_gets_nothing_is_not_logged_again() -> None:
    outcome = decide(HEADER, leaf(("unrcca", 0), ("nobody", 0)), TRUSTED, DAY)

    assert outcome.bits == {"unrcca": 0}
    assert outcome.narrowed == ()


def test_an_office_that_was_not_sealed_for_is_not_spoken_of() -> None:
    outcome = decide(HEADER, leaf(("council", SUMMARY)), TRUSTED, DAY)
    assert (set(outcome.bits), outcome.narrowed) == ({"council"}, ())


# --- what goes out ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [SUMMARY, ACCOUNT, bitmap(["handling", "account"])])
def test_a_parcel_holds_what_is_given_and_one_wrap_and_opens(bits: int) -> None:
    author = bytes(ROSTER.authors["osh"].verify_key)
    envelope = parse(parcel(ENVELOPE, "unrcca", bits))

    verify(envelope, author)
    assert tuple(envelope.ciphertexts) == names(bits)
    assert [wrap.office for wrap in envelope.wraps] == ["unrcca"]
    opened = open_envelope(envelope, "unrcca", [ROSTER.opening["unrcca"]], author)
    assert set(opened.contents) == set(names(bits)) - {"handling"}


def test_a_parcel_for_who_has_no_wrap_opens_to_nobody() -> None:
    assert parse(parcel(ENVELOPE, "nobody", ACCOUNT)).wraps == ()


def test_a_markers_item_is_always_the_same_for_one_report_and_hub() -> None:
    key = new_signing_key()

    assert marker_item(HEADER.id, key) == marker_item(HEADER.id, key)
    assert marker_item(HEADER.id, key) != marker_item(HEADER.id, new_signing_key())
    assert token(marker_item(HEADER.id, key))


KEY = new_signing_key()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(min_size=16, max_size=16), min_size=2, max_size=8, unique=True))
def test_no_two_reports_have_one_markers_item_and_none_is_a_reports_id(raw: list[bytes]) -> None:
    ids = [b64u(one) for one in raw]
    items = [marker_item(one, KEY) for one in ids]
    assert len(set(items)) == len(items)
    assert not set(items) & set(ids)


def test_who_knows_the_id_but_not_the_hubs_secret_cannot_make_a_markers_item() -> None:
    public = new_signing_key()
    guesses = {marker_item(HEADER.id, public), marker_item(HEADER.id, type(public)(bytes(public.verify_key)))}
    assert marker_item(HEADER.id, KEY) not in guesses
