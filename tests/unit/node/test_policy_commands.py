"""``kengele coordinator policy``: questions on plain files, with no deployment, network, home or passphrase at hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kengele_node import cli
from kengele_node.demo import story

OLD = """
- id: one
  grant: [summary, account]
  to: [office:unrcca]
  areas: [KG]
  categories: ["*"]
  tlp_up_to: AMBER
  expires: 2027-06-30
  reason: test
- id: never
  forbid: [source]
  to: [group:government]
  reason: test
"""
NEW = OLD.replace("[summary, account]", "[summary, source]").replace("expires", "min_severity: 2\n  expires")
ASK = ("--day", "2026-11-24")
HEADER = ("--area", "KG-O", "--category", "rumour", "--severity", "2", "--tlp", "amber")


class Ended(Exception):
    """A command ended with another code than it should."""


Kengele = Callable[..., str]


@pytest.fixture
def kengele(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Kengele:
    """Runs ``kengele coordinator policy``; gives stdout, or where it fails as expected, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KENGELE_PASSPHRASE", raising=False)
    bomb = "offices: &a [{id: unrcca}]\ngroups: {un: *a}\n"
    for name, text in (("old.yaml", OLD), ("new.yaml", NEW), ("bomb.yaml", bomb)):
        (tmp_path / name).write_text(text)
    for name in ("offices.yaml", "policy.yaml"):
        (tmp_path / name).write_text(story.data(name).read_text("utf-8"))

    def run(*words: str, fails: int = 0, both: bool = False) -> str:
        code = cli.main(["coordinator", "policy", *words])
        out, err = capsys.readouterr()
        if code != fails:
            raise Ended(f"{code}: {out}{err}")
        return out + err if both else err if fails and not out else out

    return run


def asked(kengele: Kengele, *words: str, fails: int = 0) -> Any:
    return json.loads(kengele(*words, "--json", fails=fails))


def test_two_plain_files_are_compared(kengele: Kengele) -> None:
    found = asked(kengele, "diff", "old.yaml", "new.yaml", *ASK)
    (gained,) = found["gained"]
    assert (gained["office"], gained["compartment"], gained["rules"]) == ("unrcca", "source", ["one"])
    assert (gained["widening"], gained["sensitive"]) == (True, True)
    assert gained["example"] == {
        "area": "KG",
        "categories": gained["example"]["categories"],
        "severity": 2,
        "tlp": "CLEAR",
        "day": "2026-11-24",
    }
    lost = {row["compartment"]: row for row in found["lost"]}
    assert set(lost) == {"summary", "account"}
    assert [row["widening"] for row in lost.values()] == [False, False]
    assert lost["summary"]["example"]["severity"] == 1
    assert (found["widening"], found["groups_resolved"], found["day"]) == (True, False, "2026-11-24")
    assert found["gained"][0]["periods"][-1]["until"] == "2027-06-30"


def test_the_same_files_differ_in_nothing_and_that_is_no_failure(kengele: Kengele) -> None:
    found = asked(kengele, "diff", "old.yaml", "old.yaml", *ASK)
    assert (found["gained"], found["lost"], found["widening"]) == ([], [], False)
    assert "Nobody gains or loses anything." in kengele("diff", "old.yaml", "old.yaml", *ASK)


def test_for_a_person_offices_that_change_alike_stand_together(kengele: Kengele, tmp_path: Path) -> None:
    text = OLD.replace("[office:unrcca]", "[office:unrcca, office:cewarn]").replace("[summary, account]", "[people]")
    (tmp_path / "both.yaml").write_text(text)
    (tmp_path / "none.yaml").write_text("[]")
    told = kengele("diff", "none.yaml", "both.yaml", *ASK)
    assert (
        "WIDER: cewarn, unrcca gains people; it can give a person away.\n    By one; for one, a report from KG" in told
    )
    told = kengele("diff", "both.yaml", "none.yaml", *ASK)
    assert "Narrower: cewarn, unrcca loses people.\n" in told


def test_with_a_list_of_offices_groups_are_their_members(kengele: Kengele, tmp_path: Path) -> None:
    granting = OLD.replace("[office:unrcca]", "[group:un]")
    (tmp_path / "group.yaml").write_text(granting)
    plain = asked(kengele, "diff", "old.yaml", "group.yaml", *ASK)
    assert {row["office"] for row in plain["gained"]} == {"group:un"}
    known = asked(kengele, "diff", "old.yaml", "group.yaml", "--offices", "offices.yaml", *ASK)
    assert {row["office"] for row in known["gained"]} == {"unowas", "un-hq"}
    assert known["lost"] == []
    assert known["groups_resolved"] is True


def test_where_groups_stand_for_themselves_a_person_is_told(kengele: Kengele) -> None:
    note = "Offices and groups are as the rules name them"
    for words in (("diff", "old.yaml", "new.yaml"), ("lint", "old.yaml"), ("who", "old.yaml")):
        assert note in kengele(*words, *ASK, both=True)
        assert note not in kengele(*words, "--offices", "offices.yaml", *ASK, both=True)


BAD: list[tuple[str, str, str, str]] = [
    ("no such compartment", OLD.replace("account", "acount"), "Line 3, column 20", "Perhaps: account."),
    ("no such area", OLD.replace("[KG]", "[KG, KGX]"), "Line 5, column 15", "Perhaps: KG"),
    ("no such category", OLD.replace('["*"]', "[rumor]"), "Line 6, column 16", "Perhaps: rumour."),
    ("no such field", OLD.replace("tlp_up_to", "tlp_upto"), "Line 7, column 3", "Perhaps: tlp_up_to"),
    ("a grant without end", OLD.replace("  expires: 2027-06-30\n", ""), "Line 2, column 3", "expires"),
    ("an assertion that cannot be checked", OLD + "- always: nobody reads\n", "Line 14, column 11", "may open source"),
    ("a name of one letter more", OLD.replace("id: one", f"id: {'a' * 33}"), "Line 2, column 7", "32 at most"),
    ("no YAML", "- [", "Line 1", "quotes, brackets"),
]


@pytest.mark.parametrize(("sentence", "text", "where", "mend"), BAD, ids=[case[0] for case in BAD])
@pytest.mark.parametrize("verb", ["diff", "who", "assert"])
def test_bad_rules_are_told_with_line_column_and_the_nearest(
    kengele: Kengele, tmp_path: Path, verb: str, sentence: str, text: str, where: str, mend: str
) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    words = ("old.yaml", "bad.yaml") if verb == "diff" else ("bad.yaml",)
    error = kengele(verb, *words, *ASK, fails=2)
    assert where in error
    assert mend in error
    assert "(code: bad-rule)" in error


@pytest.mark.parametrize("words", [("lint", "bad.yaml", *ASK), ("propose", "bad.yaml", "--home", "nobody")])
def test_no_rule_of_a_longer_name_than_a_leaf_takes_is_proposed(
    kengele: Kengele, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "bad.yaml").write_text(OLD.replace("id: one", f"id: {'a' * 33}"))
    error = kengele(*words, fails=2)
    assert "Line 2, column 7" in error
    assert "32 at most" in error


def test_lint_tells_each_name_that_does_not_exist_where_it_stands(kengele: Kengele, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(OLD.replace("[KG]", "[KG, KGX, TJK]").replace("unrcca", "unrca"))
    found = asked(kengele, "lint", "bad.yaml", "--offices", "offices.yaml", *ASK, fails=2)["findings"]
    assert [(row["code"], row["path"], row["line"], row["column"]) for row in found if row["rule"] == "one"] == [
        ("unknown-name", "to[0]", 4, 8),
        ("unknown-name", "areas[1]", 5, 15),
        ("unknown-name", "areas[2]", 5, 20),
    ]
    assert "office:unrcca" in found[0]["mend"]


def test_lint_fails_on_warnings_only_where_it_is_to_be_strict(kengele: Kengele, tmp_path: Path) -> None:
    (tmp_path / "twice.yaml").write_text(OLD + OLD.replace("id: one", "id: two").split("- id: never")[0])
    assert "twice.yaml:2:3: warning: one: All that it grants is granted without it, by two. [shadowed]" in kengele(
        "lint", "twice.yaml", *ASK
    )
    assert kengele("lint", "twice.yaml", "--strict", *ASK, fails=1)
    assert kengele("lint", "old.yaml", "--strict", *ASK) == "Nothing to say.\n"


def test_without_members_of_groups_no_forbid_is_called_idle(kengele: Kengele) -> None:
    codes = {row["code"] for row in asked(kengele, "lint", "old.yaml", *ASK)["findings"]}
    assert "forbid-without-effect" not in codes
    known = asked(kengele, "lint", "old.yaml", "--offices", "offices.yaml", *ASK)["findings"]
    assert [(row["rule"], row["code"]) for row in known] == [("never", "forbid-without-effect")]


def test_one_report_is_explained_for_every_office(kengele: Kengele) -> None:
    found = asked(kengele, "explain", "policy.yaml", *HEADER, "--offices", "offices.yaml", *ASK)
    assert found["offices"]["unrcca"]["people"]["would"] == ["'unrcca-people' would grant it from severity 3 on."]
    assert found["offices"]["kg-peace-council"]["people"] == {
        "allowed": False,
        "rules": ["sources-never-to-governments"],
        "would": ["Without 'sources-never-to-governments' 'kg-peace-council' would grant it."],
    }
    told = kengele("explain", "policy.yaml", *HEADER, "--office", "unrcca", "--offices", "offices.yaml", *ASK)
    assert "may open summary, account, place by unrcca-central-asia" in told
    assert "un-hq" not in told


def test_who_can_see_and_its_inverse(kengele: Kengele) -> None:
    known = ("--offices", "offices.yaml", *ASK)
    found = asked(kengele, "who", "policy.yaml", "--area", "KG", "--tlp", "AMBER", *known)["offices"]
    assert [found["unrcca"][name]["share"] for name in ("summary", "people")] == ["all", "some"]
    assert found["sd-peace-council"]["summary"]["share"] == "none"
    sees = asked(kengele, "who", "policy.yaml", "--office", "unrcca", *known)["sees"]
    own = [row for row in sees if row["areas"] == ["KG", "KZ", "TJ", "TM", "UZ"]]
    assert own[0] == {
        "compartment": "summary",
        "areas": ["KG", "KZ", "TJ", "TM", "UZ"],
        "only": [],
        "but": [],
        "but_only": [],
        "categories": [["*"]],
        "severities": [1, 2, 3, 4, 5],
        "tlp": ["RED", "AMBER+STRICT", "AMBER", "GREEN", "CLEAR"],
        "rules": ["grave-violence", "unrcca-central-asia"],
    }
    assert "\nsummary  KG KZ TJ TM UZ: *; severity 1 2 3 4 5;" in kengele(
        "who", "policy.yaml", "--office", "unrcca", *known
    )
    assert "unrcca            x        x        x      ~       ~       x" in kengele(
        "who", "policy.yaml", "--area", "KG", "--tlp", "AMBER", *known
    )


def test_sentences_that_must_stay_true_are_checked(kengele: Kengele, tmp_path: Path) -> None:
    always = ("--always", "no group:government may open source")
    assert "It holds." in kengele("assert", "policy.yaml", *always, "--offices", "offices.yaml", *ASK)
    (tmp_path / "un.yaml").write_text(OLD + "- always: no group:un may open account\n  areas: [KG]\n")
    words = ("assert", "un.yaml", *always, "--offices", "offices.yaml", *ASK)
    found = asked(kengele, *words, fails=3)
    assert found["assertions"] == 2
    (broken,) = found["broken"]
    assert (broken["assertion"], broken["office"], broken["rules"]) == (
        "no group:un may open account",
        "unrcca",
        ["one"],
    )
    told = kengele(*words, fails=3)
    assert "BROKEN: no group:un may open account\n    unrcca may open account of a report from KG" in told


def test_past_reports_are_put_to_other_rules(kengele: Kengele, tmp_path: Path) -> None:
    header = {"area": "KG-O", "categories": ["rumour"], "severity": 1, "tlp": "AMBER"}
    lines = [
        {"header": header, "at": "2026-11-01T08:00:00Z", "decisions": [["unrcca", 7, 120, ["one"]]]},
        {"header": header | {"severity": 2}, "at": "2026-11-02T08:00:00Z", "decisions": [["unrcca", 7, 120, ["one"]]]},
        {"header": header, "at": "2026-01-01T08:00:00Z", "decisions": [["unrcca", 7, 120, ["one"]]]},
    ]
    (tmp_path / "past.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ("replay", "new.yaml", "--records", "past.jsonl", *ASK)
    found = asked(kengele, *words)
    assert (found["reports"], found["elsewhere"]) == (2, 2)
    assert [(row["line"], row["gained"], row["lost"]) for row in found["moved"]] == [
        (1, [], ["summary", "account"]),
        (2, ["source"], ["account"]),
    ]
    assert "Of 2 reports 2 would have gone elsewhere." in kengele(*words)
    (tmp_path / "past.jsonl").write_text("{}\n")
    assert "(code: bad-record)" in kengele(*words, fails=2)


ERRORS: list[tuple[str, tuple[str, ...], str, int]] = [
    ("no file and no home", ("who",), "no-rules", 2),
    ("a draft and nothing in force", ("diff", "new.yaml"), "no-rules", 2),
    ("three files", ("diff", "old.yaml", "new.yaml", "new.yaml"), "malformed", 2),
    ("a home that is none", ("lint", "old.yaml", "--home", "nowhere"), "no-network", 7),
    ("no list of offices", ("lint", "old.yaml", "--offices", "old.yaml"), "bad-field", 2),
    ("offices with an alias", ("lint", "old.yaml", "--offices", "bomb.yaml"), "bad-offices", 2),
    ("no such area", ("who", "old.yaml", "--area", "KGX"), "unknown-area", 2),
    ("no such category", ("who", "old.yaml", "--category", "rumor"), "bad-field", 2),
    ("a group of categories", ("who", "old.yaml", "--category", "peace"), "bad-field", 2),
    ("no such office", ("who", "old.yaml", "--office", "unrca"), "no-such-office", 2),
    ("an office and a report", ("who", "old.yaml", "--office", "unrcca", "--area", "KG"), "malformed", 2),
    ("nothing to check", ("assert", "old.yaml"), "no-assertions", 2),
    ("no sentence", ("assert", "old.yaml", "--always", "all is well"), "bad-field", 2),
    ("no file of this name", ("diff", "old.yaml", "nowhere.yaml"), "system", 1),
]


@pytest.mark.parametrize(("sentence", "words", "code", "status"), ERRORS, ids=[case[0] for case in ERRORS])
def test_what_cannot_be_answered_says_why(
    kengele: Kengele, sentence: str, words: tuple[str, ...], code: str, status: int
) -> None:
    assert f"(code: {code})" in kengele(*words, *ASK, fails=status)
