"""What may be shared: what the rules of the day give and was not given, less what the author took away."""

from __future__ import annotations

from typing import Any

import pytest

from kengele_node.monitor.compose import new_report_id
from kengele_node.sharing.plan import Source, gains, made
from kengele_schemas.compartments import bitmap
from kengele_schemas.envelope import TENSION_REPORT, parse, strip
from kengele_schemas.errors import Malformed
from kengele_schemas.report import Caveat, parse_header
from kengele_schemas.sealing import Reader, seal
from kengele_schemas.sharing import join, open_held, verified
from kengele_testing.values import KEYS, KID, MONITOR, TODAY, forbid, grant, network, office, planned, report

BEFORE = network(grant())
LATER = grant("later", to=["office:council", "office:unoca"])
AFTER = network(grant(), LATER, version=2)
PLAN = planned(report(), BEFORE)
SPARE: dict[str, bytes] = {}
ENVELOPE = parse(
    seal(
        TENSION_REPORT,
        PLAN.header.claims(),
        report().contents(),
        [Reader("unrcca", KEYS["unrcca"].public, 7, 1)],
        MONITOR,
        spare=SPARE,
    )
)
BOTH = bitmap(["summary", "account"])
SUMMARY = bitmap(["summary"])


def source(**changes: Any) -> Source:
    said = {"header": PLAN.header, "core": ENVELOPE.core, "digest": "", "keys": SPARE, "had": {"unrcca": 7}, **changes}
    return Source(**said)


def found(trusted: Any = AFTER, by: str = KID, only: tuple[str, ...] = (), **changes: Any) -> dict[str, int]:
    return {one.office: one.bits for one in gains(source(**changes), trusted, TODAY, by=by, only=only)}


def test_who_came_to_be_granted_gains_and_who_had_it_does_not() -> None:
    assert found(BEFORE) == {}
    assert found() == {"council": BOTH, "unoca": BOTH}
    assert found(only=("unoca",)) == {"unoca": BOTH}
    assert found(had={}) == {"council": BOTH, "unoca": BOTH, "unrcca": BOTH}
    assert found(had={"council": bitmap(["handling", "summary"]), "unoca": BOTH}) == {"council": BOTH, "unrcca": BOTH}


def test_the_rules_by_which_one_reads_are_told_as_when_a_report_is_sealed() -> None:
    lines = [one.line() for one in gains(source(), AFTER, TODAY, by=KID)]
    assert lines == [f"{name} will read: summary, account (rule later)" for name in ("COUNCIL", "UNOCA")]


def test_a_forbid_and_a_rule_that_ran_out_give_nothing() -> None:
    assert found(network(LATER, forbid(to=["office:council"], forbid=["account"]))) == {
        "council": bitmap(["summary"]),
        "unoca": BOTH,
    }
    assert found(network(grant("later", to=["office:council"], expires="2026-01-01"))) == {}


@pytest.mark.parametrize(
    ("caveat", "left"),
    [
        (Caveat(not_to=("office:council",)), {"unoca": BOTH}),
        (
            Caveat(not_to=("group:government",), compartments=("account",)),
            {"council": bitmap(["summary"]), "unoca": BOTH},
        ),
        (Caveat(not_to=("group:government", "group:un")), {}),
    ],
)
def test_what_the_author_took_away_stays_away(caveat: Caveat, left: dict[str, int]) -> None:
    assert found(caveats=(caveat,)) == left


def test_a_caveat_that_names_nobody_any_more_lets_nothing_be_shared() -> None:
    with pytest.raises(Malformed):
        found(caveats=(Caveat(not_to=("office:gone",)),))


def test_only_what_there_are_keys_to_and_what_no_recall_took_is_shared() -> None:
    assert found(keys={"summary": SPARE["summary"]})["council"] == bitmap(["summary"])
    assert found(left=bitmap(["handling", "account"]))["council"] == bitmap(["account"])
    assert found(keys={}) == found(left=0) == {}


def test_nobody_shares_with_itself_nor_with_who_has_no_key() -> None:
    assert "council" not in found(by="council")
    keyless = office("council", keys=[{**KEYS["council"].public.document(), "not_after": "2020-01-01"}])
    assert found(network(LATER, offices=[keyless, office("unoca")], custodian="unoca")) == {"unoca": BOTH}


def test_what_is_made_of_it_opens_at_the_new_reader_under_the_authors_signature() -> None:
    (reading, _) = gains(source(), AFTER, TODAY, by=KID)
    data = made(source(), reading, AFTER, TODAY, by=KID, key=MONITOR)
    assert verified(data, ENVELOPE, AFTER)[1] == "author"
    whole = strip(ENVELOPE, "", ("summary", "account"))
    _, opened = open_held(join([data], whole), "council", [KEYS["council"]], bytes(MONITOR.verify_key))
    assert opened.contents == report().contents()
    assert parse_header(opened.claims).id == PLAN.header.id != new_report_id()
