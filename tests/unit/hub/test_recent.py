"""What delivery takes over from intake: the same report, once, and never more than there is room for."""

from __future__ import annotations

from datetime import UTC, datetime

from kengele_hub.intake import leaf_of
from kengele_hub.recalls import Stood
from kengele_hub.recent import Recent
from kengele_schemas.envelope import parse
from kengele_schemas.report import parse_header
from kengele_testing.hub import Roster

ROSTER = Roster()
BODY = ROSTER.sealed()
ENVELOPE = parse(BODY)
HEADER = parse_header(ENVELOPE.claims)
STOOD = Stood(HEADER, leaf_of(ENVELOPE, HEADER, bytes(32), ROSTER.trusted(), datetime.now(UTC)), ENVELOPE)


def test_what_intake_read_is_taken_once() -> None:
    recent = Recent()
    recent.put(7, BODY, STOOD)
    assert recent.take(7, BODY) is STOOD
    assert recent.take(7, BODY) is None


def test_other_bytes_under_the_same_sequence_are_read_anew() -> None:
    recent = Recent()
    recent.put(7, BODY, STOOD)
    assert recent.take(7, BODY[:-1] + b" ") is None


def test_what_is_held_is_not_pushed_out_and_leaves_room_when_it_goes() -> None:
    recent = Recent(max_bytes=2 * len(BODY))
    for sequence in (1, 2, 3):
        recent.put(sequence, BODY, STOOD)
    assert recent.take(3, BODY) is None
    assert recent.take(1, BODY) is STOOD
    recent.put(4, BODY, STOOD)
    assert recent.take(4, BODY) is STOOD


def test_what_another_worker_delivered_makes_room() -> None:
    recent = Recent(max_bytes=2 * len(BODY))
    recent.put(1, BODY, STOOD)
    recent.put(2, BODY, STOOD)
    recent.forget_before(2)
    recent.put(3, BODY, STOOD)
    assert [recent.take(sequence, BODY) for sequence in (1, 2, 3)] == [None, STOOD, STOOD]
