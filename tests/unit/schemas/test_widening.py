"""What the hub takes of rules: nothing that breaks an assertion, a widening with as many signatures as are asked."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from kengele_schemas import drafts, metadata
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.widening import signatures
from kengele_testing.trust import NOW, Paper

Documents = dict[str, Any]
Change = Callable[[Documents], Any]


def founded(paper: Paper, **network: Any) -> dict[str, bytes]:
    documents = paper.documents()
    documents["network.json"] |= network
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


CASES: list[tuple[str, Change, bool]] = [
    ("more compartments", wider, True),
    ("a later last day", longer, True),
    ("fewer markings", narrower, False),
    ("fewer signatures asked for", asks_less, True),
    ("none asked for", asks_nothing, True),
    ("none asked for, and wider at once", asks_and_widens, True),
    ("nothing", lambda documents: documents["policy.json"].update(refuse_below=1), False),
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
    assert signatures(*sets, NOW.date()) == 0
    assert signatures(None, sets[1], NOW.date()) == 0


ALWAYS = {"always": "no office:unrcca may open account"}


def test_the_hub_takes_no_version_that_breaks_what_must_stay_true() -> None:
    paper = Paper()
    documents = paper.documents()
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
