"""What the hub takes of rules: nothing that breaks an assertion, a widening with as many signatures as are asked."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from kengele_node.coordinator import drafting
from kengele_schemas import drafts, metadata
from kengele_schemas.encoding import b64u
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.keys import X25519, OpeningKey, new_signing_key
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.widening import grounds
from kengele_testing.trust import NOW, Paper

Documents = dict[str, Any]
Change = Callable[[Documents], Any]


def founded(paper: Paper, **network: Any) -> dict[str, bytes]:
    documents = paper.documents()
    documents["network.json"] |= network
    first = documents["offices.json"]["offices"][0]
    others = [("ministry", "active"), ("embassy", "suspended")]
    documents["offices.json"] = {
        "v": 1,
        "offices": [first, *({**first, "id": name, "name": name, "status": status} for name, status in others)],
        "groups": {"regional": ["office:unrcca", "office:embassy"]},
    }
    policy = documents["policy.json"]
    policy["rules"][0]["to"] = ["group:regional"]
    policy["rules"].append({"id": "never-people", "forbid": ["people"], "to": ["office:unrcca"], "reason": "test"})
    policy["rules"][1] |= {"areas": ["*"], "categories": ["*"]}
    policy["assertions"] = [{"always": "no office:ministry may open place"}]
    policy["refuse_below"] = 1
    return paper.accept(paper.signed(paper.drafted(documents)))


def changed(files: dict[str, bytes], change: Change) -> Documents:
    """The documents that ``change`` leaves other than they were; a changed policy is a version further."""
    before = {path: metadata.document_of(files, path) for path in metadata.document_paths(files)}
    after = copy.deepcopy(before)
    change(after)
    if after["policy.json"] != before["policy.json"]:
        after["policy.json"]["version"] += 1
    return {path: value for path, value in after.items() if value != before[path]}


def wider(documents: Documents) -> None:
    documents["policy.json"]["rules"][0]["grant"] = ["summary", "account"]


def narrower(documents: Documents) -> None:
    documents["policy.json"]["rules"][0]["tlp_up_to"] = "GREEN"


def longer(documents: Documents) -> None:
    documents["policy.json"]["rules"][0]["expires"] = "2028-01-01"


def asks_less(documents: Documents) -> None:
    documents["network.json"]["widening_threshold"] = 2


def asks_nothing(documents: Documents) -> None:
    del documents["network.json"]["widening_threshold"]


def asks_and_widens(documents: Documents) -> None:
    asks_nothing(documents)
    wider(documents)


def another_custodian(documents: Documents) -> None:
    documents["network.json"]["custodian"] = "embassy"


def own_key(documents: Documents) -> None:
    documents["offices.json"]["offices"][0]["keys"] = [OpeningKey.generate(X25519).public.document()]


def own_key_said_to_be_vouched_for(documents: Documents) -> None:
    own_key(documents)
    documents["offices.json"]["offices"][0]["vouched"] = b64u(bytes(64))


def own_signing_key(documents: Documents) -> None:
    documents["offices.json"]["offices"][0]["sign"] = b64u(bytes(new_signing_key().verify_key))


def into_the_group(documents: Documents) -> None:
    documents["offices.json"]["groups"]["regional"].append("office:ministry")


def restored(documents: Documents) -> None:
    documents["offices.json"]["offices"][2]["status"] = "active"


def suspended(documents: Documents) -> None:
    documents["offices.json"]["offices"][1]["status"] = "suspended"


def another_parent(documents: Documents) -> None:
    (area,) = (one for one in documents["areas.json"]["areas"] if one["code"] == "SD-KH")
    area["parents"] = ["KG"]


def a_replacement(documents: Documents) -> None:
    (area,) = (one for one in documents["areas.json"]["areas"] if one["code"] == "SD-KH")
    area["replaced_by"] = ["KG-O"]


def finer_headers(documents: Documents) -> None:
    documents["network.json"]["header_level"] = 2


def coarser_headers(documents: Documents) -> None:
    documents["network.json"]["header_level"] = 0


def another_hub(documents: Documents) -> None:
    documents["network.json"]["hub_key"] = b64u(bytes(new_signing_key().verify_key))


def another_line(documents: Documents) -> None:
    row = {"nkey": KeyPair.generate("user").public, "role": "office", "member": "unrcca"}
    documents["connections.json"]["connections"] = [row]


def a_monitors_line(documents: Documents) -> None:
    another_line(documents)
    documents["connections.json"]["connections"][0] |= {"role": "monitor", "member": "m-" + "a" * 26}


def a_coordinators_line(documents: Documents) -> None:
    another_line(documents)
    documents["connections.json"]["connections"][0] |= {"role": "coordinator", "member": "c-" + "a" * 26}


def older_rules_again(documents: Documents) -> None:
    documents["policy.json"]["refuse_below"] = 0


def a_day_further(documents: Documents) -> None:
    documents["network.json"] |= {"max_future_days": 14, "reports_per_hour": 1_000_000, "name": "Another"}


def a_promise_dropped(documents: Documents) -> None:
    documents["policy.json"]["assertions"] = []


def a_promise_weakened(documents: Documents) -> None:
    documents["policy.json"]["assertions"][0]["areas"] = ["KG"]


def nothing_kept_from_the_custodian(documents: Documents) -> None:
    del documents["policy.json"]["rules"][1]


CASES: list[tuple[str, Change, bool]] = [
    ("more compartments", wider, True),
    ("a later last day", longer, True),
    ("fewer markings", narrower, False),
    ("fewer signatures asked for", asks_less, True),
    ("none asked for", asks_nothing, True),
    ("none asked for, and wider at once", asks_and_widens, True),
    ("another custodian", another_custodian, True),
    ("a key for an office by the coordinators alone", own_key, True),
    ("a key with a false word of the old one", own_key_said_to_be_vouched_for, True),
    ("another signing key of an office", own_signing_key, True),
    ("an office more in a group", into_the_group, True),
    ("an office restored", restored, True),
    ("an office suspended", suspended, False),
    ("another parent of an area", another_parent, True),
    ("an area replaced by another", a_replacement, True),
    ("finer areas for the hub", finer_headers, True),
    ("coarser areas for the hub", coarser_headers, False),
    ("another hub", another_hub, True),
    ("another line for an office", another_line, True),
    ("another line for a monitor", a_monitors_line, False),
    ("a line for somebody who reads all of the log", a_coordinators_line, True),
    ("reports by older rules taken again", older_rules_again, True),
    ("days that lie ahead, more reports and another name", a_day_further, False),
    ("an assertion dropped", a_promise_dropped, True),
    ("an assertion weakened", a_promise_weakened, True),
    ("a forbid for the custodian that goes", nothing_kept_from_the_custodian, True),
    ("older rules refused", lambda documents: documents["policy.json"].update(refuse_below=2), False),
]


@pytest.mark.parametrize(("sentence", "change", "widening"), CASES, ids=[case[0] for case in CASES])
def test_a_widening_takes_as_many_signatures_as_the_network_in_force_asks_for(
    sentence: str, change: Change, widening: bool
) -> None:
    paper = Paper()
    files = founded(paper, widening_threshold=3)
    draft = drafts.edit(files, changed(files, change), NOW)
    made = paper.signed(draft, (0, 1))
    if not widening:
        paper.accept(made, files)
        return
    with pytest.raises(Refused, match="asks for 3 signatures") as caught:
        paper.accept(made, files)
    assert caught.value.code == "too-few-signatures"
    paper.accept(paper.signed(made, (2,)), files)


def test_one_who_signs_twice_is_no_third() -> None:
    paper = Paper()
    files = founded(paper, widening_threshold=3)
    with pytest.raises(Refused):
        paper.accept(paper.signed(drafts.edit(files, changed(files, wider), NOW), (0, 1, 1)), files)


def test_a_network_that_does_not_ask_takes_what_two_have_signed() -> None:
    paper = Paper()
    files = founded(paper)
    after = paper.accept(paper.signed(drafts.edit(files, changed(files, wider), NOW)), files)
    sets = metadata.documents_of(files), metadata.documents_of(after)
    assert [ground.code for ground in grounds(*sets, "", NOW.date())] == ["rules"]


ALWAYS = {"always": "no office:unrcca may open account"}


def in_anothers_custody(paper: Paper) -> Documents:
    """Documents of a network whose custodian is not the office that its rules speak of."""
    documents = paper.documents()
    first = documents["offices.json"]["offices"][0]
    documents["offices.json"]["offices"].append({**first, "id": "ministry", "name": "Ministry"})
    documents["network.json"]["custodian"] = "ministry"
    return documents


def test_no_office_that_may_open_nothing_becomes_the_custodian() -> None:
    paper = Paper()
    documents = in_anothers_custody(paper)
    documents["policy.json"]["assertions"] = [ALWAYS]
    files = paper.accept(paper.signed(paper.drafted(documents)))
    network = {**metadata.document_of(files, "network.json"), "custodian": "unrcca"}
    draft = paper.signed(drafts.edit(files, {"network.json": network}, NOW), (0, 1, 2))
    with pytest.raises(Refused) as caught:
        paper.accept(draft, files)
    assert caught.value.code == "assertion-broken"
    assert "once-the-rules-have-run-out" in caught.value.mend
    # A coordinator learns it before she signs, and not only from the hub.
    with pytest.raises(Refused) as caught:
        drafting.reviewed(draft, files, NOW)
    assert caught.value.code == "assertion-broken"


def test_the_hub_takes_no_version_that_breaks_what_must_stay_true() -> None:
    paper = Paper()
    documents = in_anothers_custody(paper)
    documents["policy.json"]["assertions"] = [ALWAYS]
    files = paper.accept(paper.signed(paper.drafted(documents)))
    with pytest.raises(Refused) as caught:
        paper.accept(paper.signed(drafts.edit(files, changed(files, wider), NOW)), files)
    assert caught.value.code == "assertion-broken"
    paper.accept(paper.signed(drafts.edit(files, changed(files, narrower), NOW)), files)

    def dropped_and_wider(documents: Documents) -> None:
        del documents["policy.json"]["assertions"]
        wider(documents)

    paper.accept(paper.signed(drafts.edit(files, changed(files, dropped_and_wider), NOW)), files)


def test_no_network_is_founded_on_what_breaks_its_own_assertion() -> None:
    paper = Paper()
    documents = paper.documents()
    documents["policy.json"]["assertions"] = [{"always": "no office:unrcca may open summary"}]
    with pytest.raises(Refused) as caught:
        paper.accept(paper.signed(paper.drafted(documents)))
    assert caught.value.code == "assertion-broken"


def test_a_regional_file_asserts_of_its_own_area_only() -> None:
    paper = Paper()
    files = founded(paper)

    def regional(area: str) -> Documents:
        sentence = {"always": "no office:unrcca may open summary", "areas": [area]}
        return {"policy/KG.json": {"v": 1, "version": 1, "rules": [], "assertions": [sentence]}}

    for area, code in (("SD", "foreign-area"), ("*", "foreign-area"), ("KG-B", "assertion-broken")):
        with pytest.raises(Malformed if code == "foreign-area" else Refused) as caught:
            paper.accept(paper.signed(drafts.edit(files, regional(area), NOW)), files)
        assert caught.value.code == code
