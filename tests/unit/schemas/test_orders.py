"""Orders: what recalls.json says, that nothing in it gives back, and the hub's notices."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kengele_schemas.compartments import GRANTABLE
from kengele_schemas.encoding import b64u, canonical, loads
from kengele_schemas.errors import KengeleError, Malformed, Refused, Untrusted
from kengele_schemas.fields import BadField, read
from kengele_schemas.keys import new_signing_key
from kengele_schemas.orders import (
    MAX_ORDERS,
    Notice,
    Order,
    RecallsFile,
    check_follows,
    is_notice,
    mark_of,
    narrows,
    read_notice,
    sign_notice,
)
from kengele_schemas.recall import left

ID, OTHER = b64u(bytes(16)), b64u(b"b" * 16)
KID = "m-" + "a" * 26
KEY = new_signing_key()
KEEPS = [None, *(tuple(sorted(some)) for size in range(1, 7) for some in combinations(GRANTABLE, size))]


def order(report_id: str = ID, keep: Any = None, **more: Any) -> Order:
    return Order(mark=mark_of(report_id), keep=keep, **more)


def test_a_mark_is_the_reports_and_says_nothing_of_its_id() -> None:
    assert mark_of(ID) == mark_of(ID) != mark_of(OTHER)
    assert ID not in mark_of(ID)


def test_what_is_confirmed_differs_with_all_that_an_order_says() -> None:
    said = [order(), order(OTHER), order(keep=("summary",)), order(keep=("account",)), order(reason="safety")]
    assert len({one.digest for one in said}) == len(said)


def test_recalls_stand_by_their_marks_each_once() -> None:
    one, two = sorted((order(), order(OTHER)), key=lambda one: one.mark)
    rows = [one.model_dump(exclude_none=True) for one in (one, two)]
    assert read(RecallsFile, {"v": 1, "recalls": rows}).by_mark() == {one.mark: one, two.mark: two}
    for wrong in (rows[::-1], [rows[0], rows[0]]):
        with pytest.raises(BadField):
            read(RecallsFile, {"v": 1, "recalls": wrong})


def test_a_list_of_recalls_is_bounded() -> None:
    rows = sorted(({"mark": mark_of(str(number))} for number in range(MAX_ORDERS + 1)), key=lambda row: row["mark"])
    assert len(read(RecallsFile, {"v": 1, "recalls": rows[:-1]}).by_mark()) == MAX_ORDERS
    with pytest.raises(BadField):
        read(RecallsFile, {"v": 1, "recalls": rows})


@pytest.mark.parametrize("keep", [(), ("handling",), ("summary", "account"), ("summary", "summary")])
def test_what_stays_is_named_in_one_way(keep: tuple[str, ...]) -> None:
    with pytest.raises(BadField):
        read(RecallsFile, {"v": 1, "recalls": [{"mark": mark_of(ID), "keep": list(keep)}]})


def test_an_order_can_only_be_made_stricter() -> None:
    for old in KEEPS:
        for new in KEEPS:
            before, after = order(keep=old), order(keep=new)
            stricter = not left([new]) & ~left([old]) and new != old
            assert narrows(after, before) == stricter
            if new == old or stricter:
                check_follows({after.mark: after}, {before.mark: before})
            else:
                with pytest.raises(Refused, match="less than before"):
                    check_follows({after.mark: after}, {before.mark: before})


def test_no_order_is_left_out_and_any_may_come() -> None:
    one, two = order(), order(OTHER)
    check_follows({one.mark: one, two.mark: two}, {one.mark: one})
    with pytest.raises(Refused) as caught:
        check_follows({two.mark: two}, {one.mark: one})
    assert caught.value.code == "gives-back"


def notice() -> bytes:
    return sign_notice(Notice(id=OTHER, report=ID, kid=KID, keep=("summary",)), KEY)


def test_a_notice_says_what_the_hub_signed() -> None:
    said = read_notice(notice(), bytes(KEY.verify_key))
    assert (said.id, said.report, said.kid, said.keep) == (OTHER, ID, KID, ("summary",))
    assert is_notice(notice())


def test_a_notice_is_the_hubs() -> None:
    with pytest.raises(Untrusted):
        read_notice(notice(), bytes(new_signing_key().verify_key))
    changed = {**loads(notice(), max_bytes=4096), "notice": loads(notice(), max_bytes=4096)["notice"][::-1]}
    with pytest.raises(KengeleError):
        read_notice(canonical(changed), bytes(KEY.verify_key))


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"notice":1,"signature":1}', notice() + b" ", b" " + notice()])
def test_a_notice_has_one_spelling(data: bytes) -> None:
    with pytest.raises(Malformed):
        read_notice(data, bytes(KEY.verify_key))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8) | st.sampled_from([ID, KID]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
SAID = {"id": ID, "report": OTHER, "kid": KID}


@given(
    st.binary(max_size=400)
    # Past the reader of JSON, past the one spelling, and into the notice itself.
    | st.fixed_dictionaries({"notice": VALUES, "signature": VALUES}).map(canonical)
    | st.builds(
        lambda name, value: canonical({"notice": b64u(canonical({**SAID, name: value})), "signature": ""}),
        st.sampled_from(sorted(SAID)) | st.text(max_size=8),
        VALUES.filter(lambda value: not isinstance(value, str)),
    )
    | st.binary(max_size=200).map(lambda inner: canonical({"notice": b64u(inner), "signature": ""}))
)
@example(canonical({"notice": b64u(canonical({**SAID, "kid": 7})), "signature": ""}))
@settings(deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
def test_garbage_is_no_notice(data: bytes) -> None:
    with pytest.raises(KengeleError):
        read_notice(data)


def test_what_the_garbage_is_made_of_is_a_notice() -> None:
    assert read_notice(canonical({"notice": b64u(canonical(SAID)), "signature": ""})) == Notice(**SAID)
