"""Heartbeats at node and desk: what an author says that she sent is missing if it does not come."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from kengele_node.monitor.compose import seal_report
from kengele_node.monitor.heartbeats import beats
from kengele_node.monitor.outbox import Outbox
from kengele_node.office import heartbeats
from kengele_node.office.arrivals import Arrival, Marker
from kengele_node.office.desk import receive
from kengele_node.office.inbox import Inbox
from kengele_node.rows import RowCipher
from kengele_schemas.encoding import b64u, canonical, loads
from kengele_schemas.errors import CannotOpen, Malformed
from kengele_schemas.heartbeat import read_heartbeat, sign_heartbeat
from kengele_schemas.keys import HYBRID, X25519, OpeningKey
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.rotation import Lineage
from kengele_schemas.trusted import UNNAMED
from kengele_testing.values import KEYS, KID, MONITOR, NOW, TODAY, grant, monitor, network, planned, report, sealed

OTHER = SigningKey(b"o" * 32)
RULES = network(grant(), monitors=[monitor(), monitor(OTHER)])
AT = int(NOW.timestamp())
DAY = 24 * 3600.0
NKEY = KeyPair.generate("user")


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    box = Inbox(tmp_path / "inbox.db", RowCipher(b"k" * 32, "inbox"))
    yield box
    box.close()


def said(
    number: int = 3, *, office: str = "unrcca", key: SigningKey = MONITOR, net: str = UNNAMED, at: int = AT
) -> bytes:
    return sign_heartbeat(office, KEYS[office].public, number, network=net, at=at, key=key)


def take(inbox: Inbox, data: bytes, now: float = AT, trusted: Any = RULES) -> None:
    lineage = Lineage(trusted.monitors, trusted.identity)
    heartbeats.take(data, inbox, trusted, lineage, office="unrcca", keys=[KEYS["unrcca"]], now=now)


def came(inbox: Inbox, *numbers: int) -> None:
    for number in numbers:
        data = sealed(report(), RULES, {"unrcca": number})
        inbox.keep([receive(data, RULES, office="unrcca", keys=[KEYS["unrcca"]], today=TODAY)], now=AT)


def test_a_hub_that_always_has_more_heartbeats_neither_fills_a_desk_nor_holds_it(inbox: Inbox) -> None:
    asked: list[int] = []
    strangers = [SigningKey(bytes([number]) * 32) for number in range(3)]

    class Hub:
        async def ask(self, subject: str, document: Any) -> dict[str, Any]:
            asked.append(document["skip"])
            beats = [said(len(asked)), *(said(key=key) for key in strangers)]
            return {"code": "heard", "beats": [one.decode() for one in beats], "next": document["skip"] + 100}

    asyncio.run(
        heartbeats.listen(
            Hub(), inbox, RULES, office="unrcca", keys=[KEYS["unrcca"]], nkey=NKEY.public, clock=lambda: AT
        )
    )
    assert len(asked) == 200
    assert inbox.authors() == [KID]


def test_the_last_reports_that_never_came_are_missing_after_a_day_and_may_still_come(inbox: Inbox) -> None:
    came(inbox, 1)
    take(inbox, said(3))
    inbox.settle_heard(AT + DAY - 1)
    assert inbox.gaps(KID).missing == ()
    inbox.settle_heard(AT + DAY)
    assert (inbox.gaps(KID).missing, inbox.gaps(KID).unexplained) == (((2, 3),), 2)
    assert inbox.heard(KID) == AT
    came(inbox, 3)
    assert inbox.gaps(KID).missing == ((2, 2),)
    inbox.keep([Marker(b"m", KID)], now=AT)
    assert inbox.gaps(KID).unexplained == 0


def test_one_of_whom_nothing_ever_came_is_known_by_her_heartbeat(inbox: Inbox) -> None:
    take(inbox, said(1))
    inbox.settle_heard(AT + DAY)
    assert inbox.authors() == [KID]
    assert inbox.gaps(KID).unexplained == 1


def test_a_hub_that_drops_all_she_sends_does_not_begin_the_time_of_grace_anew(inbox: Inbox) -> None:
    came(inbox, 1)
    for hour in range(0, 30, 6):
        take(inbox, said(2 + hour, at=AT + hour * 3600), now=AT + hour * 3600)
    inbox.settle_heard(AT + DAY)
    assert inbox.gaps(KID).unexplained == 25


def test_what_comes_in_time_is_never_missing(inbox: Inbox) -> None:
    take(inbox, said(1))
    came(inbox, 1)
    take(inbox, said(2, at=AT + 1), now=AT + 2 * DAY)
    inbox.settle_heard(AT + 2 * DAY + 1)
    assert inbox.gaps(KID).missing == ()


def test_an_older_heartbeat_hides_no_gap(inbox: Inbox) -> None:
    take(inbox, said(3))
    take(inbox, said(1, at=AT - 5))
    take(inbox, said(1, at=AT + 5))
    inbox.settle_heard(AT + DAY)
    assert inbox.gaps(KID).unexplained == 3
    assert inbox.heard(KID) == AT


def test_a_clock_that_runs_ahead_makes_nobody_heard_in_days_to_come(inbox: Inbox) -> None:
    take(inbox, said(at=AT + 99999))
    assert inbox.heard(KID) == AT


@pytest.mark.parametrize(
    ("sentence", "data", "trusted"),
    [
        ("of another network", said(net="B" * 42 + "A"), RULES),
        ("for another office", said(office="council"), RULES),
        ("of nobody in the roster", said(key=SigningKey(b"x" * 32)), RULES),
        ("of one who was revoked", said(), network(grant(), monitors=[monitor(status="revoked")])),
        ("no heartbeat", b"{}", RULES),
        ("with a later moment than she signed", said().replace(str(AT).encode(), str(AT + 1).encode()), RULES),
    ],
)
def test_nobody_speaks_for_an_author(inbox: Inbox, sentence: str, data: bytes, trusted: Any) -> None:
    take(inbox, data, trusted=trusted)
    assert (inbox.authors(), inbox.heard(KID)) == ([], None), sentence


def test_another_monitor_cannot_sign_in_her_name(inbox: Inbox) -> None:
    mine, hers = said(key=OTHER), said()
    forged = mine.replace(read_heartbeat(mine, None, UNNAMED).kid.encode(), KID.encode())
    take(inbox, forged)
    assert inbox.heard(KID) is None
    take(inbox, hers)
    assert inbox.heard(KID) == AT


@pytest.mark.parametrize("suite", [X25519, HYBRID])
def test_it_says_its_number_to_its_office_alone_in_one_length(suite: str) -> None:
    key = OpeningKey.generate(suite)
    made = [sign_heartbeat("unrcca", key.public, n, network=UNNAMED, at=AT, key=MONITOR) for n in (1, 2**40)]
    assert len({len(one) for one in made}) == 1
    one = read_heartbeat(made[1], bytes(MONITOR.verify_key), UNNAMED)
    assert one.open([OpeningKey.generate(), key]) == 2**40
    with pytest.raises(CannotOpen):
        one.open([OpeningKey.generate(suite)])
    moved = replace_at(one)
    with pytest.raises(CannotOpen):
        moved.open([key])
    with pytest.raises(Malformed):
        read_heartbeat(made[0] + b" ", None, UNNAMED)


@pytest.mark.parametrize("signature", [None, 5, [], True])
def test_one_whose_signature_is_no_text_or_that_leaves_out_what_is_signed_is_none(signature: Any) -> None:
    data = loads(said(), max_bytes=4096)
    changed = {name: value for name, value in data.items() if name != "signature"}
    with pytest.raises(Malformed):
        read_heartbeat(canonical(changed | ({} if signature is None else {"signature": signature})), None, UNNAMED)
    short = {name: value for name, value in data.items() if name not in ("v", "signature")}
    signed = b64u(MONITOR.sign(b"kengele-heartbeat-v1\0" + canonical(short)).signature)
    with pytest.raises(Malformed):
        read_heartbeat(canonical({**short, "signature": signed}), bytes(MONITOR.verify_key), UNNAMED)


def replace_at(one: Any) -> Any:
    return one.model_copy(update={"at": one.at + 1})


class Line:
    """A session that sends nothing."""

    class member:
        key = MONITOR


def test_a_node_tells_each_office_what_the_hub_accepted_and_not_what_waits(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db", RowCipher(b"k" * 32, "outbox"), KID)
    assert beats(Line(), outbox, RULES, NOW) == []  # type: ignore[arg-type]
    names = []
    for _ in range(3):
        plan = planned(report(), RULES)
        draft = plan.report.model_dump(mode="json", exclude_none=True)
        entry = outbox.add(
            plan.header.id, draft, plan.offices, lambda n, plan=plan: seal_report(plan, MONITOR, n), now=0
        )
        names.append(entry.name)
    assert outbox.reached(["unrcca"]) == {}
    outbox.accepted(names[0], b"receipt")
    outbox.accepted(names[1], b"receipt")
    assert outbox.reached(["unrcca", "nobody"]) == {"unrcca": 2}
    found = [read_heartbeat(one, bytes(MONITOR.verify_key), UNNAMED) for one in beats(Line(), outbox, RULES, NOW)]  # type: ignore[arg-type]
    assert {one.office: one.open([KEYS[one.office]]) for one in found}["unrcca"] == 2
    outbox.refused(names[2], "malformed")
    assert outbox.reached(["unrcca"]) == {"unrcca": 2}
    outbox.close()


def test_arrivals_are_still_counted_where_a_heartbeat_came_first(inbox: Inbox) -> None:
    take(inbox, said(1))
    data = sealed(report(), RULES, {"unrcca": 1})
    found = receive(data, RULES, office="unrcca", keys=[KEYS["unrcca"]], today=TODAY)
    assert isinstance(found, Arrival)
    assert inbox.keep([found, replace(found)], now=AT) == [True, False]
    inbox.settle_heard(AT + DAY)
    assert inbox.gaps(KID).missing == ()
