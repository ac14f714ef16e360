"""Composing: what the author is shown is what is sealed, to the letter; she takes readers away and never adds one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_node.monitor import compose
from kengele_node.monitor.compose import Plan, new_report_id, seal_report
from kengele_schemas.compartments import HANDLING, names
from kengele_schemas.encoding import b64u, loads, unb64u
from kengele_schemas.envelope import parse
from kengele_schemas.errors import CannotOpen, KengeleError, Malformed, Refused
from kengele_schemas.report import Report, parse_draft
from kengele_schemas.sealing import Opened, open_envelope
from kengele_schemas.tlp import LEVELS, rank
from kengele_testing.values import (
    CANARY,
    CUSTODIAN,
    EVERYTHING,
    GROUPS,
    KEYS,
    KID,
    MONITOR,
    NOW,
    OFFICES,
    TODAY,
    canaried,
    forbid,
    grant,
    network,
    office,
    planned,
    report,
)

MEMBERS = {f"office:{id}": {id} for id in OFFICES} | {f"group:{name}": set(ids) for name, ids in GROUPS.items()}
EXPIRED = NOW - timedelta(seconds=1)
DRAFT = parse_draft(canaried())


def opened(data: bytes, id: str) -> Opened | None:
    """What the office opens of an envelope with its own key; None if nothing."""
    try:
        return open_envelope(parse(data), id, [KEYS[id]], bytes(MONITOR.verify_key))
    except CannotOpen:
        return None


def read_by(data: bytes) -> dict[str, set[str]]:
    """By office, the compartments it opens with its own key, ``handling`` aside."""
    found = {id: opened(data, id) for id in OFFICES}
    return {id: set(one.contents) - {HANDLING} for id, one in found.items() if one is not None}


def previewed(plan: Plan) -> dict[str, set[str]]:
    return {reading.office: set(reading.compartments) for reading in plan.readers}


def caveat(*audiences: str, compartments: tuple[str, ...] = ("*",)) -> dict[str, Any]:
    return {"not_to": list(audiences), "compartments": list(compartments)}


def cautioned(*caveats: Mapping[str, Any], **changes: Any) -> Report:
    """The report with every compartment filled in and these caveats."""
    return parse_draft({**canaried(), "handling": {"caveats": list(caveats)}, **changes})


_audiences = st.lists(st.sampled_from(sorted(MEMBERS)), min_size=1, max_size=2, unique=True)
_parts = st.lists(st.sampled_from(EVERYTHING), min_size=1, max_size=4, unique=True)
_areas = st.sampled_from([["*"], ["KG"], ["KG-O"], ["KG-B"], ["SD"]])
_caveats = st.lists(
    st.builds(
        lambda audiences, parts: caveat(*audiences, compartments=tuple(parts)),
        _audiences,
        st.one_of(st.just(["*"]), _parts),
    ),
    max_size=3,
)


@st.composite
def _rules(draw: st.DrawFn) -> list[dict[str, Any]]:
    rules = []
    for number in range(draw(st.integers(1, 6))):
        fields: dict[str, Any] = {"to": draw(_audiences), "areas": draw(_areas)}
        fields["min_severity"] = draw(st.sampled_from([1, 2, 3]))
        if draw(st.booleans()) or number == 0:
            days = draw(st.sampled_from([-1, 0, 90]))
            fields |= {"grant": draw(_parts), "expires": (TODAY + timedelta(days=days)).isoformat()}
            rules.append(grant(f"rule-{number}", tlp_up_to=draw(st.sampled_from(LEVELS)), **fields))
        else:
            rules.append(forbid(f"rule-{number}", forbid=draw(_parts), **fields))
    return rules


@st.composite
def _reports(draw: st.DrawFn) -> Report:
    whole = canaried(tlp=draw(st.sampled_from(LEVELS)), severity=draw(st.sampled_from([1, 2, 3])))
    left_out = draw(st.lists(st.sampled_from(EVERYTHING), max_size=5, unique=True))
    return cautioned(
        *draw(_caveats),
        **dict.fromkeys(left_out),
        **{name: whole[name] for name in ("tlp", "severity")},
    )


def oracle(written: Report, rules: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Who reads what, word by word as the rules say it."""

    def speaks(rule: Mapping[str, Any], id: str, part: str) -> bool:
        return (
            part in rule.get("grant", rule.get("forbid", ()))
            and any(id in MEMBERS[audience] for audience in rule["to"])
            and any(area in ("*", "KG", "KG-O") for area in rule["areas"])
            and written.severity >= rule["min_severity"]
            and rank(written.tlp) <= rank(rule.get("tlp_up_to", "RED"))
            and date.fromisoformat(rule.get("expires", "9999-12-31")) >= TODAY
        )

    def reads(id: str, part: str) -> bool:
        speaking = [rule for rule in rules if speaks(rule, id, part)]
        caveats = written.handling.caveats if written.handling else ()
        return (
            getattr(written, part) is not None
            and any("grant" in rule for rule in speaking)
            and not any("forbid" in rule for rule in speaking)
            and not any(
                id in MEMBERS[audience] and ({"*", part} & set(one.compartments))
                for one in caveats
                for audience in one.not_to
            )
        )

    found = {id: {part for part in EVERYTHING if reads(id, part)} for id in OFFICES}
    return {id: parts for id, parts in found.items() if parts}


@settings(max_examples=150, deadline=None)
@given(_rules(), _reports())
def test_what_is_previewed_is_exactly_what_is_sealed(rules: list[dict[str, Any]], written: Report) -> None:
    plan = planned(written, network(*rules))
    assert previewed(plan) == oracle(written, rules)
    if not plan.readers:
        with pytest.raises(Refused) as caught:
            seal_report(plan, MONITOR, {})
        assert caught.value.code == "no-reader"
        return
    data = seal_report(plan, MONITOR, {})
    assert read_by(data) == previewed(plan)
    for id in plan.offices:
        found = opened(data, id)
        assert found is not None
        assert found.contents == {name: plan.report.contents()[name] for name in found.contents}
    lines = plan.lines()
    for reading in plan.readers:
        (line,) = [line for line in lines if line.startswith(f"{reading.name} will read: ")]
        said = line.removeprefix(f"{reading.name} will read: ").partition(" (")[0].split(", ")
        assert said == [name for name in names(reading.bits) if name != HANDLING]


@settings(max_examples=100, deadline=None)
@given(_rules(), _caveats, _caveats)
def test_caveats_take_away_and_never_give(
    rules: list[dict[str, Any]], some: list[dict[str, Any]], more: list[dict[str, Any]]
) -> None:
    trusted = network(*rules)
    free, fewer, fewest = (previewed(planned(cautioned(*caveats), trusted)) for caveats in ((), some, [*some, *more]))
    for narrower, wider in ((fewer, free), (fewest, fewer)):
        assert all(parts <= wider.get(id, set()) for id, parts in narrower.items())
    named = {id for one in (*some, *more) for audience in one["not_to"] for id in MEMBERS[audience]}
    assert {id: parts for id, parts in fewest.items() if id not in named} == {
        id: parts for id, parts in free.items() if id not in named
    }


def test_the_preview_says_who_reads_what_by_which_rule_and_who_does_not() -> None:
    trusted = network(
        grant("a", to=["office:unrcca"]),
        grant("b", grant=["source"], to=["office:unrcca"]),
        grant("c", to=["office:cso"]),
    )
    assert planned(parse_draft(canaried()), trusted).lines() == [
        "CSO will read: summary, account (rule c)",
        "UNRCCA will read: summary, account, source (rules a, b)",
        "Nobody will read: place, people, media",
        "Will not read any of it: COUNCIL, UNOCA",
    ]


def test_what_was_written_and_nobody_may_open_is_told() -> None:
    trusted = network(grant(to=["office:unrcca"]), grant("c", grant=["place"], to=["office:cso"]))
    told = planned(parse_draft(canaried()), trusted).lines()
    assert "Nobody will read: people, source, media" in told
    assert not [line for line in planned(report(), trusted).lines() if line.startswith("Nobody")]


def test_compartments_that_were_left_empty_are_not_promised() -> None:
    trusted = network(grant(grant=list(EVERYTHING)), grant("place", grant=["place"], to=["office:cso"]))
    plan = planned(report(), trusted)
    assert previewed(plan) == {"unrcca": {"summary", "account"}}
    assert "CSO" in plan.without


def test_only_active_offices_are_spoken_of() -> None:
    offices = [office(id) for id in ("unrcca", "cso")]
    trusted = network(
        grant(to=["office:unrcca", "office:cso", "office:council", "office:unoca"]),
        offices=[*offices, office("council", status="suspended"), office("unoca", status="revoked")],
    )
    plan = planned(report(), trusted)
    assert plan.offices == ("cso", "unrcca")
    assert plan.without == ()


class TestACaveat:
    def test_keeps_an_office_from_opening_anything(self) -> None:
        plan = planned(cautioned(caveat("group:un")), network(grant(to=["group:un", "office:cso"])))
        assert read_by(seal_report(plan, MONITOR, {})) == {"cso": {"summary", "account"}}

    def test_of_one_compartment_leaves_the_others(self) -> None:
        plan = planned(cautioned(caveat("group:un", compartments=("account",))), network(grant()))
        assert read_by(seal_report(plan, MONITOR, {})) == {"unrcca": {"summary"}}

    def test_stands_nowhere_that_the_hub_can_read(self) -> None:
        data = seal_report(
            planned(cautioned(caveat("office:council")), network(grant(to=["office:unrcca", "office:council"]))),
            MONITOR,
            {},
        )
        envelope = parse(data)
        assert b"council" not in data + unb64u(envelope.payload)
        assert set(envelope.claims) == {
            *("v", "net", "id", "kid", "kind", "area", "categories", "severity", "day", "day_precision", "tlp", "pol")
        }

    @pytest.mark.parametrize("now", [NOW, NOW + timedelta(days=30)])
    @pytest.mark.parametrize(
        ("audience", "near"), [("office:unrca", "office:unrcca"), ("group:goverment", "group:government")]
    )
    def test_that_names_nobody_known_is_refused_rather_than_passed_over(
        self, audience: str, near: str, now: datetime
    ) -> None:
        with pytest.raises(Malformed) as caught:
            planned(cautioned(caveat("office:cso", audience)), network(grant()), now=now)
        assert caught.value.code == "unknown-reader"
        assert near in caught.value.mend

    def test_on_every_reader_leaves_nobody(self) -> None:
        plan = planned(cautioned(caveat("office:unrcca")), network(grant()))
        assert plan.lines() == ["Nobody will read this report.", "Will not read any of it: COUNCIL, CSO, UNOCA, UNRCCA"]
        with pytest.raises(Refused) as caught:
            seal_report(plan, MONITOR, {})
        assert (caught.value.code, caught.value.exit_code) == ("no-reader", 3)


class TestOnceTheRulesRanOut:
    RULES = (grant(grant=["summary"], to=["group:un", "office:cso"]), forbid("sources", forbid=["source"]))

    @pytest.mark.parametrize(
        ("seconds", "mode"), [(-1, "policy"), (0, "policy"), (1, "custodian-only"), (864_000, "custodian-only")]
    )
    def test_is_at_the_very_second(self, seconds: int, mode: str) -> None:
        trusted = network(*self.RULES, expires=NOW)
        assert planned(report(), trusted, now=NOW + timedelta(seconds=seconds)).mode == mode

    def test_the_custodian_alone_reads_whatever_no_rule_forbids_it(self) -> None:
        plan = planned(DRAFT, network(*self.RULES, expires=EXPIRED))
        assert read_by(seal_report(plan, MONITOR, {})) == {CUSTODIAN: set(EVERYTHING) - {"source"}} == previewed(plan)

    @pytest.mark.parametrize(("area", "mode"), [("KG", "custodian-only"), ("KG-B", "policy"), ("SD", "policy")])
    def test_of_one_area_it_is_so_for_reports_from_there_only(self, area: str, mode: str) -> None:
        trusted = replace(network(*self.RULES), ends={f"policy/{area}.json": EXPIRED, "monitors/KG.json": EXPIRED})
        plan = planned(report(), trusted)
        assert plan.mode == mode
        assert (plan.offices == (CUSTODIAN,)) == (mode == "custodian-only")

    def test_the_author_is_told_so(self) -> None:
        lines = planned(DRAFT, network(*self.RULES, expires=EXPIRED)).lines()
        assert lines[0] == "UNRCCA will read: summary, account, place, people, media (as custodian)"
        assert lines[1:3] == ["Nobody will read: source", "Will not read any of it: COUNCIL, CSO, UNOCA"]
        assert lines[3].startswith("The rules known here ran out on 2026-11-24.")

    def test_a_forbid_for_elsewhere_does_not_bind_the_custodian(self) -> None:
        trusted = network(forbid(areas=["SD"]), forbid("grave", min_severity=5), expires=EXPIRED)
        assert previewed(planned(DRAFT, trusted)) == {CUSTODIAN: set(EVERYTHING)}

    def test_caveats_bind_the_custodian_too(self) -> None:
        trusted = network(expires=EXPIRED)
        plan = planned(cautioned(caveat("group:un", compartments=("people", "source"))), trusted)
        assert previewed(plan) == {CUSTODIAN: set(EVERYTHING) - {"people", "source"}}
        assert planned(cautioned(caveat("office:unrcca")), trusted).readers == ()

    @pytest.mark.parametrize("rules", [[forbid()], [forbid(to=["group:un"])]])
    def test_nobody_reads_what_the_custodian_may_not(self, rules: list[dict[str, Any]]) -> None:
        assert planned(DRAFT, network(*rules, expires=EXPIRED)).readers == ()

    def test_a_custodian_that_left_reads_nothing(self) -> None:
        offices = [office("unrcca", status="revoked"), office("cso")]
        plan = planned(DRAFT, network(grant(to=["office:cso"]), offices=offices, expires=EXPIRED))
        assert (plan.readers, plan.without) == ((), ("CSO",))


class TestAnOfficeWithoutAKey:
    YESTERDAY = (TODAY - timedelta(days=1)).isoformat()

    def key(self, id: str, **changes: Any) -> dict[str, Any]:
        return {**KEYS[id].public.document(), **changes}

    def plan(self, *keys: dict[str, Any], rules: tuple[dict[str, Any], ...] = ()) -> Plan:
        offices = [office("unrcca"), office("cso", keys=list(keys))]
        return planned(report(), network(*(rules or (grant(to=["office:cso", "office:unrcca"]),)), offices=offices))

    def test_is_named_and_not_sealed_for(self) -> None:
        plan = self.plan(self.key("cso", not_after=self.YESTERDAY))
        assert (plan.keyless, plan.without) == (("CSO",), ("CSO",))
        assert plan.lines()[1:] == [
            "Will not read any of it: CSO",
            "CSO has no valid key, so nothing can be sealed for it.",
        ]
        assert read_by(seal_report(plan, MONITOR, {})) == {"unrcca": {"summary", "account"}}

    def test_is_not_named_where_it_would_read_nothing_anyway(self) -> None:
        plan = self.plan(self.key("cso", not_after=self.YESTERDAY), rules=(grant(),))
        assert (plan.keyless, plan.without) == ((), ("CSO",))

    def test_is_sealed_for_by_the_next_of_its_keys_that_holds(self) -> None:
        expired = {**KEYS["unoca"].public.document(), "not_after": self.YESTERDAY}
        plan = self.plan(expired, self.key("cso", not_after=TODAY.isoformat()))
        assert plan.keyless == ()
        assert set(read_by(seal_report(plan, MONITOR, {}))) == {"cso", "unrcca"}


class TestTheArea:
    RULES = (grant(), grant("place", grant=["place"], to=["office:cso"]))

    def sealed(self, level: int = 1, **changes: Any) -> tuple[bytes, Plan]:
        plan = planned(report(**changes), network(*self.RULES, header_level=level))
        return seal_report(plan, MONITOR, {}), plan

    @pytest.mark.parametrize(
        ("level", "area", "header"),
        [
            (2, "KG-O-7", "KG-O-7"),
            (1, "KG-O-7", "KG-O"),
            (0, "KG-O-7", "KG"),
            (0, "KG-O", "KG"),
            (1, "KG", "KG"),
        ],
    )
    def test_is_as_coarse_for_the_hub_as_the_network_says(self, level: int, area: str, header: str) -> None:
        data, plan = self.sealed(level, area=area)
        envelope = parse(data)
        assert plan.header.area == envelope.claims["area"] == header
        assert header == area or area.encode() not in data + unb64u(envelope.payload)

    def test_is_sealed_exactly_for_those_who_may_read_the_place(self) -> None:
        data, plan = self.sealed(area="KG-O-7")
        assert previewed(plan) == {"unrcca": {"summary", "account"}, "cso": {"place"}}
        found = opened(data, "cso")
        assert found is not None
        assert found.contents["place"] == {"area": "KG-O-7"}

    def test_is_added_to_the_place_that_was_written(self) -> None:
        _, plan = self.sealed(area="KG-O-7", place={"name": "By the mill"})
        assert plan.report.contents()["place"] == {"area": "KG-O-7", "name": "By the mill"}

    def test_that_the_author_named_in_the_place_stays(self) -> None:
        _, plan = self.sealed(area="KG-O-7", place={"area": "KG-B"})
        assert plan.report.contents()["place"] == {"area": "KG-B"}

    def test_that_is_coarse_already_makes_no_place(self) -> None:
        _, plan = self.sealed(area="KG-O")
        assert plan.report.place is None
        assert "cso" not in plan.offices

    def test_decides_by_what_the_hub_sees_so_that_hub_and_node_agree(self) -> None:
        district, province = network(grant(areas=["KG-O-7"])), network(grant(areas=["KG-O"]))
        assert planned(report(area="KG-O-7"), district).readers == ()
        assert planned(report(area="KG-O-7"), province).offices == ("unrcca",)

    def test_that_the_network_does_not_know_is_refused_with_the_nearest(self) -> None:
        with pytest.raises(Refused) as caught:
            planned(report(area="KG-OO"), network(grant()))
        assert caught.value.code == "unknown-area"
        assert "KG-O" in caught.value.mend


@pytest.mark.parametrize(("ahead", "most", "passes"), [(0, 0, True), (1, 0, False), (1, 1, True), (2, 1, False)])
def test_a_day_in_the_future_is_refused(ahead: int, most: int, passes: bool) -> None:
    written = report(day=(TODAY + timedelta(days=ahead)).isoformat())
    trusted = network(grant(), max_future_days=most)
    if passes:
        assert planned(written, trusted).readers
        return
    with pytest.raises(Refused) as caught:
        planned(written, trusted)
    assert caught.value.code == "future-dated"


def test_each_wrap_carries_its_offices_number_and_others_none() -> None:
    plan = planned(report(), network(grant(to=["group:un", "office:cso"])))
    data = seal_report(plan, MONITOR, {"unrcca": 7, "unoca": 1})
    found = {id: opened(data, id) for id in plan.offices}
    assert {id: one.counter for id, one in found.items() if one} == {"unrcca": 7, "unoca": 1, "cso": None}


def test_the_header_is_the_authors_under_the_policy_of_the_preview() -> None:
    plan = planned(report(), network(grant(), version=5), report_id=b64u(b"i" * 16))
    claims = parse(seal_report(plan, MONITOR, {})).claims
    assert (claims["id"], claims["kid"], claims["pol"]) == (b64u(b"i" * 16), KID, 5)


@pytest.mark.parametrize(("limit", "code"), [("MAX_READERS", "too-many-readers"), ("MAX_ENVELOPE", "oversized")])
def test_what_the_hub_would_not_take_is_refused_here(monkeypatch: pytest.MonkeyPatch, limit: str, code: str) -> None:
    plan = planned(report(), network(grant(to=["group:un"])))
    assert seal_report(plan, MONITOR, {})
    monkeypatch.setattr(compose, limit, 1)
    with pytest.raises(Refused) as caught:
        seal_report(plan, MONITOR, {})
    assert caught.value.code == code


def test_ids_are_random() -> None:
    ids = {new_report_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(unb64u(id)) == 16 for id in ids)


def test_nothing_of_a_report_shows_when_printed_or_refused() -> None:
    plan = planned(DRAFT, network(grant(grant=list(EVERYTHING))))
    assert CANARY in json.dumps(plan.report.contents())
    shown = [repr(plan), str(plan), *plan.lines()]
    for work in (
        lambda: planned(cautioned(caveat("office:nobody")), network(grant())),
        lambda: planned(parse_draft(canaried(area="XX")), network(grant())),
        lambda: planned(parse_draft(canaried(day="2030-01-01")), network(grant())),
        lambda: seal_report(replace(plan, readers=()), MONITOR, {}),
    ):
        with pytest.raises(KengeleError) as caught:
            work()
        shown += [repr(caught.value), caught.value.diagnostics()]
    data = seal_report(plan, MONITOR, {})
    shown.append(data.decode() + json.dumps(loads(unb64u(parse(data).payload), max_bytes=1 << 16)))
    assert CANARY not in " ".join(shown)
