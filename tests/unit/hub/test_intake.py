"""Intake: what becomes of whatever a connection sends, without a bus."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_hub.intake import ACCEPTED, ONE_REPORT, Examined, Quota, Standing, examine, leaf_of, recall_leaf
from kengele_schemas.compartments import ALL_BITS, bitmap
from kengele_schemas.encoding import b64u, dumps, unb64u
from kengele_schemas.envelope import MAX_ENVELOPE, MAX_READERS, parse, strip
from kengele_schemas.keys import monitor_id, new_signing_key
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.receipt import CODES, MAX_RECEIPT, read_leaf, refused
from kengele_schemas.report import parse_header
from kengele_schemas.rotation import Epoch
from kengele_testing.hub import Roster

ROSTER = Roster()
STANDING = ROSTER.standing()
NOW = datetime(2026, 11, 1, 23, 30, tzinfo=UTC)
DAY = NOW.date()
Changed = Mapping[str, Any]


def report(author: str = "osh", **options: Any) -> bytes:
    return ROSTER.sealed(author, **{"day": DAY.isoformat(), **options})


GOOD = report()


def resigned(payload: Callable[[bytes], bytes], data: bytes = GOOD) -> bytes:
    """``data`` with another payload, signed by its author as he would sign anything."""
    document = json.loads(data)
    document["payload"] = b64u(payload(unb64u(document["payload"])))
    signed = f"{document['protected']}.{document['payload']}".encode()
    document["signature"] = b64u(ROSTER.authors["osh"].sign(signed).signature)
    return dumps(document)


def claims(**changed: Any) -> bytes:
    return resigned(lambda payload: dumps(json.loads(payload) | changed))


def recall(**changed: Any) -> bytes:
    return claims(kind="recall", recalls="A" * 22, **changed)


def outer(**changed: Any) -> bytes:
    return dumps(json.loads(GOOD) | changed)


def header(**changed: Any) -> bytes:
    return outer(header=json.loads(GOOD)["header"] | changed)


def flipped(text: str, at: int = 40) -> str:
    return text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]


def ciphertext_changed() -> bytes:
    ct = json.loads(GOOD)["header"]["ct"]
    return header(ct=ct | {"summary": flipped(ct["summary"])})


def days(count: int) -> str:
    return (DAY + timedelta(days=count)).isoformat()


@dataclass(frozen=True)
class Case:
    """What ``sender`` sends under the roster as it is, but for ``changed``, and the code it gets."""

    code: str
    data: bytes = GOOD
    changed: Changed = field(default_factory=dict)
    sender: str = "osh"


MANY = [f"office-{number:03}" for number in range(MAX_READERS + 1)]
POLICY = ROSTER.with_rules(version=7, refuse_below=4)

CASES = {
    "a report as it should be": Case(ACCEPTED),
    "nothing at all": Case("malformed", b""),
    "half a report": Case("malformed", GOOD[: len(GOOD) // 2]),
    "a report and a blank": Case("malformed", GOOD + b" "),
    "a report in another spelling": Case("malformed", json.dumps(json.loads(GOOD)).encode()),
    "what is not UTF-8": Case("malformed", b"\xff" * 100),
    "what nests without end": Case("malformed", b"[" * 5000),
    "a value that is no envelope": Case("malformed", b"[]"),
    "a member that the format does not name": Case("malformed", outer(more=1)),
    "a signature that is not base64url": Case("malformed", outer(signature="!" * 86)),
    "a name twice in the envelope": Case("malformed", GOOD[:-1] + b',"header":{}}'),
    "a name twice in the payload": Case("malformed", resigned(lambda payload: payload[:-1] + b',"severity":5}')),
    "half a character in a claim": Case("malformed", resigned(lambda p: p[:-1] + rb',"x":"\ud800"}')),
    "a payload that is no object": Case("malformed", resigned(lambda payload: b"[]")),
    "a claim that the format does not name": Case("malformed", claims(place="the bridge")),
    "a severity there is not": Case("malformed", claims(severity=6)),
    "a category there is not": Case("malformed", claims(categories=["gossip"])),
    "a day that is none": Case("malformed", claims(day="2026-02-30")),
    "a recall of nothing": Case("malformed", claims(kind="recall")),
    "a report that says what may stay": Case("malformed", claims(keep=["summary"])),
    "a recall that keeps handling alone": Case("malformed", recall(keep=["handling"])),
    "a recall that keeps one part twice": Case("malformed", recall(keep=["place"] * 2)),
    "a recall that keeps nothing by name": Case("malformed", recall(keep=[])),
    "more readers than the format has": Case("malformed", header(w=[[one, "X25519", "A" * 430] for one in MANY])),
    "the largest there is, and no report": Case("malformed", b"{" + b" " * (MAX_ENVELOPE - 2) + b"}"),
    "one byte more than the largest": Case("oversized", b"{" + b" " * (MAX_ENVELOPE - 1) + b"}"),
    "a type there is not": Case("unknown-type", outer(protected=b64u(b'{"alg":"Ed25519","typ":"gossip+sd-jwt"}'))),
    "another algorithm": Case("unknown-type", outer(protected=b64u(b'{"alg":"EdDSA","typ":"tension-report+sd-jwt"}'))),
    "no algorithm": Case("unknown-type", outer(protected=b64u(b'{"alg":"none","typ":"tension-report+sd-jwt"}'))),
    "another's signature": Case("bad-signature", report(key=new_signing_key())),
    "the signature of another report": Case("bad-signature", outer(signature=json.loads(report())["signature"])),
    "a signature of the wrong length": Case("bad-signature", outer(signature="AAAA")),
    "a ciphertext changed on the way": Case("not-whole", ciphertext_changed()),
    "a compartment left out": Case("not-whole", strip(parse(GOOD), "unrcca", ("handling", "summary"))),
    "a reader left out": Case("not-whole", header(w=json.loads(GOOD)["header"]["w"][:1])),
    "no reader left": Case("not-whole", header(w=[])),
    "a connection that is nobody's": Case("unknown-monitor", sender="stranger"),
    "an office's connection": Case("unknown-monitor", sender="unrcca"),
    "a coordinator's connection": Case("unknown-monitor", sender="aigul"),
    "a connection whose monitor is in no list": Case(
        "unknown-monitor", changed=ROSTER.changed("monitors/KG.json", monitors=[])
    ),
    "a connection that was revoked": Case(
        "unknown-monitor",
        changed=ROSTER.changed("connections.json", revoked=[{"nkey": ROSTER.nkeys["osh"], "at": 1}]),
    ),
    "a suspended monitor": Case("monitor-suspended", changed=ROSTER.with_monitor("osh", status="suspended")),
    "a removed monitor": Case("monitor-revoked", changed=ROSTER.with_monitor("osh", status="revoked")),
    "the day before a key's first": Case("key-expired", changed=ROSTER.with_monitor("osh", not_before=days(1))),
    "a key's first day": Case(ACCEPTED, changed=ROSTER.with_monitor("osh", not_before=days(0))),
    "a key's last day": Case(ACCEPTED, changed=ROSTER.with_monitor("osh", not_after=days(0))),
    "the day after a key's last": Case("key-expired", changed=ROSTER.with_monitor("osh", not_after=days(-1))),
    "the neighbours' district": Case("out-of-scope", report(area="KG-B")),
    "the country around one's own district": Case("out-of-scope", report(area="KG")),
    "a place at the other end of the world": Case("out-of-scope", report(area="SD-KH")),
    "an area that nobody knows": Case("out-of-scope", report(area="XX-1")),
    "a district where the hub may know the country only": Case(
        "area-too-fine", changed=ROSTER.changed("network.json", header_level=0)
    ),
    "an area below one's own": Case(ACCEPTED, report(area="KG-B"), ROSTER.with_monitor("osh", areas=["KG"])),
    "a day long ago": Case(ACCEPTED, report(day="1999-12-31")),
    "tomorrow, as far as it may lie": Case(ACCEPTED, report(day=days(1))),
    "a day further than that": Case("future-dated", report(day=days(2))),
    "the last day there is": Case("future-dated", report(day="9999-12-31")),
    "a day that a patient network permits": Case(
        ACCEPTED, report(day=days(14)), {"network.json": ROSTER.documents()["network.json"] | {"max_future_days": 14}}
    ),
    "rules older than are taken": Case("stale-policy", report(pol=3), POLICY),
    "the oldest rules that are taken": Case(ACCEPTED, report(pol=4), POLICY),
    "the rules in force": Case(ACCEPTED, report(pol=7), POLICY),
    "rules that the hub has not got": Case("policy-unknown", report(pol=8), POLICY),
    "another network's": Case("other-network", report(net="B" * 42 + "A")),
    "another member's report": Case("replayed", report("batken")),
    "a report of nobody": Case("replayed", claims(kid=monitor_id(bytes(32)))),
    "an author that is no name": Case("replayed", claims(kid=["m-"])),
    "no author": Case("replayed", resigned(lambda p: dumps({k: v for k, v in json.loads(p).items() if k != "kid"}))),
    "a report for an office there is not": Case(ACCEPTED, report(readers=("nobody", "unrcca"))),
    "a report for as many as there may be": Case(ACCEPTED, report(readers=MANY[:MAX_READERS])),
}


def examined(data: bytes, standing: Standing = STANDING, sender: str = "osh", quota: Quota | None = None) -> Examined:
    nkey = ROSTER.nkeys.get(sender) or KeyPair.generate("user").public
    return examine(data, nkey, standing, quota or Quota(600), NOW)


@pytest.mark.parametrize("sentence", CASES)
def test_each_input_gets_its_code(sentence: str) -> None:
    case = CASES[sentence]
    found = examined(case.data, ROSTER.standing(case.changed), case.sender)

    assert found.code == case.code
    assert (found.leaf != b"") is (case.code == ACCEPTED)


def test_the_table_has_every_code_that_intake_gives() -> None:
    # The others are the worker's to find out, or, over-quota, in tests of their own.
    elsewhere = {"id-conflict", "nothing-to-recall", "storage-full", "hub-unavailable", "over-quota", "list-expired"}
    assert {case.code for case in CASES.values()} == set(CODES) - elsewhere


def test_whose_list_has_run_out_comes_again_when_it_is_signed_anew() -> None:
    trusted = ROSTER.trusted()
    idle = Standing.of(replace(trusted, idle=frozenset({ROSTER.kid("osh")})))
    assert examined(GOOD, idle).code == "list-expired"
    assert CODES["list-expired"].retryable
    assert examined(report("batken"), idle, "batken").code == ACCEPTED
    assert examined(GOOD, Standing.of(trusted)).code == ACCEPTED


SUSPENDED = ROSTER.with_monitor("osh", status="suspended", not_after="2020-01-02")
EXPIRED = ROSTER.with_monitor("osh", not_after="2020-01-02")

ORDER = {
    "a stranger is told nothing of what he sent": Case("unknown-monitor", b"garbage", sender="stranger"),
    "whose report it is comes before whose signature": Case("replayed", report("batken", key=new_signing_key())),
    "a forger is not told that a monitor is suspended": Case("bad-signature", report(key=new_signing_key()), SUSPENDED),
    "the signature comes before the whole": Case(
        "bad-signature", dumps(json.loads(ciphertext_changed()) | {"signature": json.loads(report())["signature"]})
    ),
    "the whole comes before the header": Case(
        "not-whole", resigned(lambda p: dumps(json.loads(p) | {"severity": 9}), ciphertext_changed())
    ),
    "the header comes before the status": Case("malformed", claims(severity=9), SUSPENDED),
    "the status comes before the days": Case("monitor-suspended", GOOD, SUSPENDED),
    "the days come before the areas": Case("key-expired", report(area="SD-KH"), EXPIRED),
    "the areas come before the day": Case("out-of-scope", report(area="SD-KH", day=days(9))),
    "the day comes before the rules": Case("future-dated", report(day=days(9), pol=3), POLICY),
}


@pytest.mark.parametrize("sentence", ORDER)
def test_of_two_faults_the_first_to_be_looked_for_is_told(sentence: str) -> None:
    case = ORDER[sentence]
    assert examined(case.data, ROSTER.standing(case.changed), case.sender).code == case.code


def test_a_report_of_another_is_answered_alike_whether_that_author_exists_or_not() -> None:
    data = report("batken")
    listed = ROSTER.documents()["monitors/KG.json"]["monitors"]
    others = [row for row in listed if row["kid"] != ROSTER.kid("batken")]
    nobody = ROSTER.changed("monitors/KG.json", monitors=others)
    worlds = [{}, nobody, ROSTER.with_monitor("batken", status="revoked")]

    def answer(found: Examined) -> bytes:
        return refused(found.code, None, None, found.bytes_digest, retry_after=found.retry_after, key=ROSTER.hub)

    found = [examined(data, ROSTER.standing(world)) for world in worlds]
    assert len(ROSTER.standing(nobody).trusted.monitors) == 1
    assert found[0] == found[1] == found[2]
    assert len({answer(one) for one in found}) == 1


def test_a_refusal_before_the_signature_says_nothing_of_what_was_sent() -> None:
    for sender, data in (("stranger", GOOD), ("osh", report("batken")), ("osh", report(key=new_signing_key()))):
        found = examined(data, sender=sender)
        assert found == Examined(found.code, found.bytes_digest)


def test_the_leaf_speaks_of_the_readers_sealed_for_and_of_no_other() -> None:
    found = examined(report(readers=("nobody", "unrcca")))
    leaf = read_leaf(found.leaf)

    summary, account = bitmap(["handling", "summary"]), bitmap(["handling", "summary", "account"])
    assert leaf.decisions == (
        ("nobody", 0, ALL_BITS, ()),
        ("unrcca", account, ALL_BITS & ~account, ("to-unrcca",)),
    )
    both = read_leaf(examined(GOOD).leaf)
    assert [row[:2] for row in both.decisions] == [("council", summary), ("unrcca", account)]


def test_the_leaf_names_the_report_by_digests_the_rules_and_the_second() -> None:
    found = examined(report(pol=1), ROSTER.standing(POLICY | ROSTER.with_rules(version=7)))
    leaf = read_leaf(found.leaf)

    assert found.envelope is not None
    assert (unb64u(leaf.digest), unb64u(leaf.bytes)) == (found.envelope.digest, found.bytes_digest)
    assert (leaf.policy, leaf.at) == (7, "2026-11-01T23:30:00Z")


def test_two_leaves_of_one_report_differ_by_their_salt_alone() -> None:
    first, second = (read_leaf(examined(GOOD).leaf) for _ in range(2))

    assert first.salt != second.salt
    assert first.model_copy(update={"salt": second.salt}) == second


def test_the_leaf_repeats_nothing_of_the_header() -> None:
    found = examined(report(categories=["abduction"], severity=5))
    assert found.header is not None

    text = found.leaf.decode()
    for said in (found.header.id, found.header.kid, found.header.area, "abduction"):
        assert said not in text
    assert set(json.loads(text)) == {"v", "kind", "salt", "digest", "bytes", "policy", "at", "decisions"}


def test_the_leaf_of_a_report_for_as_many_as_there_may_be_fits_a_receipt() -> None:
    data = report(readers=MANY[:MAX_READERS])
    envelope = parse(data)
    leaf = leaf_of(envelope, parse_header(envelope.claims), bytes(32), STANDING.trusted, NOW)
    assert len(dumps(leaf.canonical().decode())) < MAX_RECEIPT // 2


def test_the_rules_of_the_hubs_day_decide_and_not_those_of_the_reports() -> None:
    rules = ROSTER.documents()["policy.json"]["rules"]
    ended = ROSTER.with_rules(version=1, rules=[rule | {"expires": days(-1)} for rule in rules])
    leaf = read_leaf(examined(report(day=days(-5)), ROSTER.standing(ended)).leaf)
    assert {bits for _, bits, _, _ in leaf.decisions} == {0}


# --- whatever is sent -------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.text(max_size=100).map(str.encode), JSON.map(dumps)))
def test_garbage_gets_a_code_and_is_never_accepted(data: bytes) -> None:
    assert examined(data).code in ("malformed", "unknown-type")


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=4), st.integers(0, 4))
def test_a_report_changed_in_any_place_is_not_accepted(at: int, piece: bytes, cut: int) -> None:
    changed = GOOD[:at] + piece + GOOD[at + cut :]
    found = examined(changed)
    assert found.code in CODES
    assert (found.code == ACCEPTED) is (changed == GOOD)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(("ct", "w")), JSON, st.sampled_from(("protected", "payload", "signature")), JSON)
def test_an_envelope_of_whatever_parts_is_answered_and_not_accepted(
    part: str, value: Any, name: str, text: Any
) -> None:
    assert examined(header(**{part: value})).code in CODES.keys() - {ACCEPTED}
    assert examined(outer(**{name: text})).code in CODES.keys() - {ACCEPTED}


NAMES = (
    "v",
    "id",
    "kid",
    "kind",
    "area",
    "categories",
    "severity",
    "day",
    "day_precision",
    "tlp",
    "pol",
    "recalls",
    "keep",
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from((*NAMES, "recalls", "keep", "_sd", "_sd_alg", "ctr", "...", "x")), JSON)
def test_a_member_may_sign_what_he_likes_and_stops_nothing(name: str, value: Any) -> None:
    found = examined(claims(**{name: value}))
    assert found.code in CODES
    if found.code == ACCEPTED:
        assert found.header is not None
        assert parse_header(found.header.claims()) == found.header
        assert found.header.kid == ROSTER.kid("osh")


@settings(max_examples=100, deadline=None)
@given(st.dates())
def test_no_day_is_too_far_off_to_be_answered(day: date) -> None:
    late = day > DAY + timedelta(days=1)
    assert examined(claims(day=day.isoformat())).code == ("future-dated" if late else ACCEPTED)


def test_a_recall_passes_where_a_report_no_longer_would() -> None:
    # Rules that hold no longer, an area that is no longer hers: what takes away only is not held up by either.
    assert examined(recall(keep=["account", "summary"])).code == ACCEPTED
    assert examined(recall(area="SD-KH")).code == ACCEPTED
    assert examined(recall(pol=0)).code == ACCEPTED


def test_a_recall_is_told_to_those_who_were_given_something_and_to_no_one_else() -> None:
    found, leaf = examined(recall()), read_leaf(examined(GOOD).leaf)
    given = [(office, 0b11 if office == "council" else 0, 0, ()) for office, _, _, _ in leaf.decisions]
    recalled = leaf.model_copy(update={"decisions": tuple(given)})
    made = recall_leaf(found, ROSTER.kid("osh"), recalled, ROSTER.trusted(), NOW)
    assert made is not None
    told = read_leaf(made)
    assert (told.kind, told.recalls) == ("recall", leaf.digest)
    assert {office: bits for office, bits, _, _ in told.decisions} == {"council": 1, "unrcca": 0}
    assert recall_leaf(found, ROSTER.kid("batken"), recalled, ROSTER.trusted(), NOW) is None
    assert recall_leaf(found, ROSTER.kid("osh"), told, ROSTER.trusted(), NOW) is None


def test_a_recall_for_as_many_as_there_may_be_reaches_also_with_whom_it_was_shared() -> None:
    leaf = read_leaf(examined(GOOD).leaf)
    full = ROSTER.sealed(kind="recall", recalls="A" * 22, readers=["council", "unrcca", *MANY[: MAX_READERS - 2]])
    made = recall_leaf(examined(full), ROSTER.kid("osh"), leaf, ROSTER.trusted(), NOW, {"later", "new"})
    assert made is not None
    decisions = read_leaf(made).decisions
    assert len(decisions) == MAX_READERS
    assert {office for office, bits, _, _ in decisions if bits} == {"council", "unrcca", "later", "new"}


# --- the quota --------------------------------------------------------------------------------------------------------


def test_who_sends_too_much_is_told_when_to_come_back() -> None:
    quota = Quota(2)
    codes = [examined(GOOD, quota=quota) for _ in range(3)]

    assert [found.code for found in codes] == [ACCEPTED, ACCEPTED, "over-quota"]
    assert codes[2].retry_after is not None
    assert 1795 <= codes[2].retry_after <= 1801


def test_what_is_refused_counts_as_well() -> None:
    quota = Quota(3)
    assert [examined(b"garbage", quota=quota).code for _ in range(4)] == ["malformed"] * 3 + ["over-quota"]


def test_a_long_report_counts_as_several_and_the_longest_still_goes_under_the_smallest_quota() -> None:
    quota = Quota(4)
    assert quota.take("loud", 0, 3 * ONE_REPORT) == 0
    assert quota.take("loud", 0) > 0
    assert Quota(1).take("small", 0, 9 * ONE_REPORT) == 0


def test_one_sender_takes_nothing_from_another() -> None:
    quota = Quota(1)
    assert [quota.take("loud", 0) > 0 for _ in range(3)] == [False, True, True]
    assert quota.take("quiet", 0) == 0


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 5000), st.integers(0, 10_000_000))
def test_who_comes_back_when_told_is_let_in(per_hour: int, start: int) -> None:
    quota = Quota(per_hour)
    now = start
    for _ in range(3):
        while (wait := quota.take("osh", now)) == 0:
            pass
        assert 1 <= wait <= 3600 // per_hour + 1
        now += wait
        assert quota.take("osh", now) == 0


def test_a_bucket_refills_evenly_and_never_runs_over() -> None:
    quota = Quota(60)
    assert sum(quota.take("osh", 0) == 0 for _ in range(100)) == 60
    assert sum(quota.take("osh", 600) == 0 for _ in range(100)) == 10
    assert sum(quota.take("osh", 1_000_000) == 0 for _ in range(100)) == 60


def test_who_is_no_monitor_fills_nothing() -> None:
    roster = Roster()
    quota, data = Quota(60), roster.sealed()
    for _ in range(50):
        stranger = KeyPair.generate("user").public
        assert examine(data, stranger, roster.standing(), quota, datetime.now(UTC)).code == "unknown-monitor"
    for member in ("aigul", "unrcca", "osh"):
        examine(data, roster.nkeys[member], roster.standing(), quota, datetime.now(UTC))
    assert set(quota._left) == {roster.nkeys["osh"]}


def test_a_clock_set_back_gives_nothing_and_locks_nobody_out() -> None:
    quota = Quota(60)
    assert sum(quota.take("osh", 1_000_000) == 0 for _ in range(100)) == 60
    assert quota.take("osh", 0) <= 61
    assert quota.take("osh", 61) == 0


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 50), st.lists(st.integers(-5000, 5000), max_size=12))
def test_however_the_clock_is_set_no_more_pass_than_its_hours_give(per_hour: int, steps: list[int]) -> None:
    quota = Quota(per_hour)
    now, passed, forward = 1_000_000, 0, 0
    for step in (0, *steps):
        now, forward = now + step, forward + max(step, 0)
        passed += sum(quota.take("osh", now) == 0 for _ in range(per_hour + 1))
    assert passed <= per_hour + forward * per_hour / 3600 + 1e-6
    assert quota.take("osh", now + 3601) == 0


def test_who_is_in_no_list_takes_no_memory() -> None:
    quota = Quota(10)
    for _ in range(50):
        examined(GOOD, sender="stranger", quota=quota)
    examined(GOOD, sender="unrcca", quota=quota)
    assert len(quota._left) == 0
    examined(GOOD, quota=quota)
    assert len(quota._left) == 1


# --- who speaks through which connection ------------------------------------------------------------------------------


def test_a_revoked_connection_has_no_role_and_no_desk() -> None:
    rows = [{"nkey": ROSTER.nkeys[name], "at": 1} for name in ("osh", "unrcca")]
    standing = ROSTER.standing(ROSTER.changed("connections.json", revoked=rows))

    assert set(standing.roles) == {ROSTER.nkeys[name] for name in ("aigul", "batken", "council")}
    assert standing.desks == {"council": (ROSTER.nkeys["council"],)}


def test_an_office_may_have_several_desks() -> None:
    more = KeyPair.generate("user").public
    connections = ROSTER.documents()["connections.json"]["connections"]
    rows = [*connections, {"nkey": more, "role": "office", "member": "unrcca"}]
    standing = ROSTER.standing(ROSTER.changed("connections.json", connections=rows))

    assert standing.desks["unrcca"] == tuple(sorted((more, ROSTER.nkeys["unrcca"])))


def test_what_concerns_an_office_is_its_own_area_and_what_rules_grant_it() -> None:
    rule = ROSTER.documents()["policy.json"]["rules"][0] | {"id": "sudan", "areas": ["SD-KH"]}
    assert ROSTER.standing(ROSTER.with_rules(rules=[rule])).concerns == {
        "unrcca": ("KG", "SD-KH"),
        "council": ("KG",),
    }


def test_without_a_list_of_connections_nobody_speaks() -> None:
    standing = Standing.of(replace(STANDING.trusted, connections=None))
    assert (standing.roles, standing.desks) == ({}, {})
    assert examined(GOOD, standing).code == "unknown-monitor"


class TestEpochs:
    """Osh has another name since; its connection is the same."""

    NEXT = new_signing_key()
    NAME = monitor_id(bytes(NEXT.verify_key))

    def standing(self, *, ended: str = "2199-12-31", status: str = "active") -> Standing:
        made = ROSTER.documents()
        rows = [
            row | ({"not_after": ended, "status": status} if row["kid"] == ROSTER.kid("osh") else {})
            for row in made["monitors/KG.json"]["monitors"]
        ]
        said = Epoch.of(ROSTER.authors["osh"], self.NEXT, "A" * 43)
        old = rows[0] | {"not_after": "2199-12-31"}
        rows.append(old | {"kid": self.NAME, "key": said.key, "after": said.after, "handover": said.signature})
        lines = [
            row | ({"member": self.NAME} if row["member"] == ROSTER.kid("osh") else {})
            for row in made["connections.json"]["connections"]
        ]
        changed = ROSTER.changed("monitors/KG.json", monitors=rows) | ROSTER.changed(
            "connections.json", connections=lines
        )
        return ROSTER.standing(changed)

    def code(self, data: bytes, sender: str = "osh", **how: Any) -> str:
        return examine(data, ROSTER.nkeys[sender], self.standing(**how), Quota(600), NOW).code

    def next(self, **claims: Any) -> bytes:
        return report(kid=self.NAME, key=self.NEXT, **claims)

    def test_what_waited_comes_under_the_old_name_and_the_rest_under_the_new(self) -> None:
        assert self.code(GOOD) == ACCEPTED
        assert self.code(self.next()) == ACCEPTED

    def test_nobody_else_sends_under_either(self) -> None:
        assert self.code(GOOD, "batken") == "replayed"
        assert self.code(self.next(), "batken") == "replayed"
        assert self.code(report("batken")) == "replayed"
        assert self.code(report(key=self.NEXT)) == "bad-signature"
        assert self.code(report(kid=self.NAME)) == "bad-signature"
        assert self.code(resigned(lambda payload: dumps(json.loads(payload) | {"kid": [self.NAME]}))) == "replayed"

    def test_the_old_name_ends_with_its_days_but_what_it_reported_is_recalled_under_it(self) -> None:
        assert self.code(GOOD, ended=days(-1)) == "key-expired"
        assert self.code(self.next(), ended=days(-1)) == ACCEPTED
        assert self.code(recall(), ended=days(-1)) == ACCEPTED

    def test_who_is_revoked_is_so_under_both(self) -> None:
        for data in (GOOD, recall(), self.next(), self.next(kind="recall", recalls="A" * 22)):
            assert self.code(data, status="revoked") == "monitor-revoked"
