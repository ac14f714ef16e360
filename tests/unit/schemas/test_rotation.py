"""Rotation: an office's keys follow each other by its own word, one network's, and once."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from kengele_schemas.cards import read_card
from kengele_schemas.encoding import b64u
from kengele_schemas.errors import KengeleError, Malformed
from kengele_schemas.fields import read
from kengele_schemas.keys import X25519, OpeningKey, monitor_id
from kengele_schemas.roster import Monitor, MonitorsFile, Office, OfficeKey, Offices, OfficesFile, check_monitors
from kengele_schemas.rotation import (
    NEWS,
    WEEK,
    Epoch,
    Lineage,
    OfficeKeys,
    ahead,
    coming,
    followed,
    keys_digest,
    monday,
    stands_still,
    vouched,
    warning,
)
from oracle.worlds import AREAS, TODAY

SIGN = SigningKey(b"s" * 32)
NETWORK = b64u(b"n" * 32)
WEDNESDAY = date(2026, 11, 25)
NEXT = date(2026, 11, 30)
PUBLIC = [OpeningKey(X25519, bytes([number]) * 32).public for number in range(1, 12)]


def office(*keys: dict[str, Any], **changes: Any) -> Office:
    listed = [PUBLIC[0].document() | row for row in keys] or [PUBLIC[0].document()]
    row = {"id": "unrcca", "name": "UNRCCA", "areas": ["KG"], "keys": listed, "sign": b64u(bytes(SIGN.verify_key))}
    return read(Office, row | changes)


def weeks(number: int, start: date = NEXT) -> list[tuple[date, Any]]:
    return [(start + at * WEEK, PUBLIC[1 + at]) for at in range(number)]


def statement(of: Office | None = None, network: str = NETWORK, key: SigningKey = SIGN) -> OfficeKeys:
    was = of or office()
    return OfficeKeys.of(was, followed(was.keys, weeks(2), WEDNESDAY), network, key)


def taken(of: Office, said: OfficeKeys) -> Office:
    return of.model_copy(update={"keys": said.keys, "vouched": said.signature})


class TestFollowed:
    def test_each_key_ends_on_the_day_before_the_next_begins(self) -> None:
        keys = followed(office().keys, weeks(2), WEDNESDAY)
        assert [(key.not_before, key.not_after) for key in keys] == [
            (NEXT + WEEK, None),
            (NEXT, NEXT + timedelta(days=6)),
            (None, NEXT - timedelta(days=1)),
        ]

    def test_what_has_ended_is_left_out_and_what_ends_today_is_not(self) -> None:
        keys = followed(followed(office().keys, weeks(2), WEDNESDAY), [], NEXT + timedelta(days=6))
        assert [key.not_before for key in keys] == [NEXT + WEEK, NEXT]
        assert [key.not_before for key in followed(keys, [], NEXT + WEEK)] == [NEXT + WEEK]

    def test_one_that_holds_at_once_takes_the_place_of_those_to_come(self) -> None:
        was = followed(office().keys, weeks(2), WEDNESDAY)
        keys = followed(was, [(WEDNESDAY, PUBLIC[5])], WEDNESDAY)
        assert [(key.not_before, key.not_after) for key in keys] == [
            (WEDNESDAY, None),
            (None, WEDNESDAY - timedelta(days=1)),
        ]

    @settings(deadline=None, max_examples=60)
    @given(st.lists(st.integers(1, 8), min_size=1, max_size=5), st.integers(0, 13))
    def test_there_is_one_key_for_every_day_whenever_the_coordinators_sign(self, made: list[int], late: int) -> None:
        today, keys = WEDNESDAY, office().keys
        for number in made:
            days = coming(keys, today, number)
            keys = followed(keys, [(day, PUBLIC[at + 1]) for at, day in enumerate(days)], today)
            today += timedelta(days=late)
        for offset in range(120):
            day = today + timedelta(days=offset)
            assert sum(key.holds(day) for key in keys) == 1, day

    def test_nodes_with_old_and_new_rosters_seal_for_keys_that_the_office_has_around_midnight(self) -> None:
        old = office()
        middle = taken(old, statement(old))
        new = taken(
            middle, OfficeKeys.of(middle, followed(middle.keys, weeks(2, NEXT + 2 * WEEK), NEXT), NETWORK, SIGN)
        )
        held = {key.raw for key in PUBLIC}
        for roster in (old, middle, new):
            offices = Offices(read(OfficesFile, {"offices": [roster.model_dump(mode="json", exclude_none=True)]}))
            for day in (NEXT - timedelta(days=1), NEXT, NEXT + WEEK):
                public = offices.public("unrcca", day)
                assert public is not None
                assert public.raw in held


class TestComing:
    def test_weeks_begin_on_mondays_and_only_those_without_a_key_are_named(self) -> None:
        assert monday(WEDNESDAY) == date(2026, 11, 23)
        assert coming(office().keys, WEDNESDAY, 3) == (NEXT, NEXT + WEEK, NEXT + 2 * WEEK)
        keys = followed(office().keys, weeks(2), WEDNESDAY)
        assert coming(keys, WEDNESDAY, 3) == (NEXT + 2 * WEEK,)
        assert coming(keys, WEDNESDAY, 2) == ()
        assert coming(keys, NEXT + 10 * WEEK, 1) == (NEXT + 11 * WEEK,)

    def test_counts_the_keys_for_days_to_come(self) -> None:
        keys = followed(office().keys, weeks(2), WEDNESDAY)
        assert [ahead(keys, day) for day in (WEDNESDAY, NEXT, NEXT + WEEK)] == [2, 1, 0]


class TestStatement:
    def test_it_holds_for_this_office_in_this_network_after_these_keys(self) -> None:
        said = statement()
        said.check(office(), NETWORK)
        assert read_card(said.encode(), OfficeKeys) == said
        assert said.after == keys_digest(office().keys)

    @pytest.mark.parametrize(
        ("what", "said", "of", "code"),
        [
            ("of another network", statement(network=b64u(b"x" * 32)), office(), "bad-card"),
            ("of another office", statement(), office(id="unoca"), "bad-card"),
            ("signed by another", statement(key=SigningKey(b"x" * 32)), office(), "bad-card"),
            ("taken in before", statement(), taken(office(), statement()), "overtaken"),
            ("of other keys", statement(), office({"not_after": "2027-01-01"}), "overtaken"),
            ("changed", statement().model_copy(update={"keys": office().keys}), office(), "bad-card"),
        ],
    )
    def test_it_counts_for_nothing_if_it_is(self, what: str, said: OfficeKeys, of: Office, code: str) -> None:
        with pytest.raises(KengeleError) as caught:
            said.check(of, NETWORK)
        assert caught.value.code == code, what

    def test_an_office_cannot_name_keys_that_all_end(self) -> None:
        keys = [key.model_copy(update={"not_after": NEXT}) for key in office().keys]
        with pytest.raises(Malformed, match="have an end"):
            OfficeKeys.of(office(), keys, NETWORK, SIGN).check(office(), NETWORK)


class TestVouched:
    def test_by_the_office_for_exactly_these_keys(self) -> None:
        was, said = office(), statement()
        new = taken(was, said)
        assert vouched(new, was, NETWORK)
        assert not vouched(new, was, b64u(b"x" * 32))
        assert not vouched(new, None, NETWORK)
        assert not vouched(new.model_copy(update={"vouched": None}), was, NETWORK)
        other = OfficeKey(**PUBLIC[9].document())
        assert not vouched(new.model_copy(update={"keys": (other, *new.keys)}), was, NETWORK)
        assert not vouched(new.model_copy(update={"sign": b64u(bytes(SigningKey(b"x" * 32).verify_key))}), was, NETWORK)


OLD, NEW, THIRD = (SigningKey(letter * 32) for letter in (b"o", b"w", b"t"))
KIDS = [monitor_id(bytes(key.verify_key)) for key in (OLD, NEW, THIRD)]


def epoch(old: SigningKey = OLD, new: SigningKey = NEW, network: str = NETWORK) -> Epoch:
    return Epoch.of(old, new, network)


def row(key: SigningKey, **changes: Any) -> dict[str, Any]:
    public = bytes(key.verify_key)
    days = {"not_before": "2026-01-01", "not_after": "2027-12-31"}
    return {"kid": monitor_id(public), "key": b64u(public), "areas": ["NORTH"], **days, **changes}


def follows(old: SigningKey, new: SigningKey, **changes: Any) -> dict[str, Any]:
    said = epoch(old, new)
    return row(new, after=said.after, handover=said.signature, **changes)


def listed(*rows: dict[str, Any]) -> dict[str, Monitor]:
    document = read(MonitorsFile, {"area": "NORTH", "monitors": list(rows)})
    check_monitors(document, "NORTH", AREAS)
    return {monitor.kid: monitor for monitor in document.monitors}


class TestEpoch:
    def test_it_holds_for_this_monitor_in_this_network(self) -> None:
        epoch().check(read(Monitor, row(OLD)), NETWORK)
        assert (epoch().after, epoch().kid) == (KIDS[0], KIDS[1])
        assert read_card(epoch().encode(), Epoch) == epoch()

    @pytest.mark.parametrize(
        ("what", "said"),
        [
            ("of another network", epoch(network=b64u(b"x" * 32))),
            ("of another monitor", epoch(THIRD)),
            ("to the same key", epoch(OLD, OLD)),
            ("changed", epoch().model_copy(update={"key": b64u(bytes(THIRD.verify_key))})),
            ("not by the old key", epoch().model_copy(update={"signature": epoch(THIRD).signature})),
            ("not by the new key", epoch().model_copy(update={"own": epoch(OLD, THIRD).own})),
            ("by nobody", epoch().model_copy(update={"own": "", "signature": ""})),
        ],
    )
    def test_it_counts_for_nothing_if_it_is(self, what: str, said: Epoch) -> None:
        with pytest.raises(KengeleError) as caught:
            said.check(read(Monitor, row(OLD)), NETWORK)
        assert caught.value.code in ("bad-card", "malformed"), what


class TestLineage:
    def test_a_monitor_is_known_by_her_first_name_as_long_as_each_key_handed_over_to_the_next(self) -> None:
        lineage = Lineage(listed(row(OLD), follows(OLD, NEW), follows(NEW, THIRD)), NETWORK)
        assert [lineage.first(kid) for kid in KIDS] == [KIDS[0]] * 3
        assert not any(lineage.vouched_by_coordinators(kid, TODAY) for kid in KIDS)
        assert lineage.first("m-unknown") == "m-unknown"

    def test_a_key_that_was_lost_begins_anew_and_readers_are_told_for_a_while(self) -> None:
        monitors = listed(row(OLD, status="revoked"), row(NEW, after=KIDS[0]), follows(NEW, THIRD))
        lineage = Lineage(monitors, NETWORK)
        assert [lineage.first(kid) for kid in KIDS] == [KIDS[0], KIDS[1], KIDS[1]]
        begun = monitors[KIDS[1]].not_before
        for day, told in ((begun, True), (begun + NEWS, True), (begun + NEWS + timedelta(days=1), False)):
            # Another epoch does not hide it.
            assert [lineage.vouched_by_coordinators(kid, day) for kid in KIDS] == [False, told, told]

    @pytest.mark.parametrize("network", [b64u(b"x" * 32), ""])
    def test_a_handover_in_another_network_is_none(self, network: str) -> None:
        lineage = Lineage(listed(row(OLD), follows(OLD, NEW)), network)
        assert lineage.first(KIDS[1]) == KIDS[1]
        assert lineage.vouched_by_coordinators(KIDS[1], date(2026, 1, 2))

    def test_coordinators_cannot_make_one_up(self) -> None:
        for made in (epoch(THIRD, NEW).signature, epoch(OLD, THIRD).signature, "A" * 86):
            lineage = Lineage(listed(row(OLD), row(NEW, after=KIDS[0], handover=made)), NETWORK)
            assert lineage.first(KIDS[1]) == KIDS[1]
            assert lineage.vouched_by_coordinators(KIDS[1], date(2026, 1, 2))


class TestList:
    @pytest.mark.parametrize(
        ("what", "rows"),
        [
            ("names nobody", [row(NEW, after=KIDS[0])]),
            ("is followed by two", [row(OLD), follows(OLD, NEW), follows(OLD, THIRD)]),
            ("follows itself", [row(OLD, after=KIDS[0])]),
            ("stands in a ring", [follows(OLD, NEW), follows(NEW, OLD)]),
            ("stands in a ring beside others", [row(THIRD), follows(OLD, NEW), follows(NEW, OLD)]),
            ("was handed over by nobody", [row(NEW, handover=epoch().signature)]),
            ("goes on though the old name is revoked", [row(OLD, status="revoked"), follows(OLD, NEW)]),
            ("is revoked though the old name goes on", [row(OLD), follows(OLD, NEW, status="revoked")]),
            ("was lost and is not revoked", [row(OLD), row(NEW, after=KIDS[0])]),
        ],
    )
    def test_a_list_is_refused_in_which_a_monitor(self, what: str, rows: list[dict[str, Any]]) -> None:
        with pytest.raises(Malformed) as caught:
            listed(*rows)
        assert caught.value.code == "bad-monitor", what


class TestWarning:
    def test_an_office_that_is_soon_left_with_its_last_key_is_told_a_fortnight_and_three_days_before(self) -> None:
        new = taken(office(), statement())
        last = NEXT + WEEK
        assert stands_still(new, WEDNESDAY) == last
        assert warning(new, last - timedelta(days=15)) == ""
        assert "has 14 days" in warning(new, last - timedelta(days=14))
        assert "has only 3 days" in warning(new, last - timedelta(days=3))
        assert "uses the last" in warning(new, last + 9 * WEEK)

    def test_one_that_never_changed_keys_or_is_out_is_not(self) -> None:
        assert warning(office(), WEDNESDAY) == ""
        assert warning(taken(office(status="revoked"), statement()), NEXT + WEEK) == ""
