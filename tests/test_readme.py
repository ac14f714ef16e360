"""What the README and the operations manual tell people to type is taken by the programs, and what they name exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from kengele_testing.typed import ROOT, Typed, every_flag, examples, flags, helps, links, objection, told

PAGES = ("README.md", "docs/operations.md", "CONTRIBUTING.md")
_ELSEWHERE = {"--user", "--upgrade", "--now"}
"""Options of other programs that the pages name."""

TYPED = [(page, typed) for page in PAGES for typed in told((ROOT / page).read_text("utf-8"))]


@pytest.mark.parametrize(("page", "typed"), TYPED, ids=[f"{page}:{typed}" for page, typed in TYPED])
def test_what_a_page_says_to_type_is_taken(page: str, typed: Typed) -> None:
    assert objection(typed) == ""


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for path in links(text):
        assert (ROOT / page).parent.joinpath(path).exists() or (ROOT / path).exists(), path
    assert flags(text) - every_flag() <= _ELSEWHERE


def test_the_pages_say_enough_to_be_looked_at() -> None:
    found = {page: sum(one == page for one, _ in TYPED) for page in PAGES}
    assert found["README.md"] > 40
    assert found["docs/operations.md"] > 15


HELPS = dict(helps())


@pytest.mark.parametrize("command", HELPS)
def test_every_help_has_an_example_that_is_taken(command: str) -> None:
    said = HELPS[command]
    found = examples(said)
    assert found
    assert [objection(typed) for typed in found if objection(typed)] == []


PAGE = """\
Say `kengele coordinator
board` first, or `kengele hub`, or `make test`; not `kengele hub stop`.

    kengele hub init --port 4222 --url "tls://a.example:4222"    # then: kengele hub status --jsn
    kengele node report --area KG-O \\
        --severty 2 && kengele verify receipt.json; make demo ARGS="--onec"
    runuser -u kengele -- /opt/kengele/bin/kengele hub run --home /var/lib/kengele-hub > log
    VAR=1; cd kengele | make -s nothing
    kengele: what looks like an answer
"""


def test_each_command_is_found_with_its_line_and_judged_by_the_program() -> None:
    found = [(typed.line, " ".join(typed.words), objection(typed) != "") for typed in told(PAGE)]
    assert found == [
        (4, "kengele hub init --port 4222 --url tls://a.example:4222", False),
        (4, "kengele hub status --jsn", True),
        (5, "kengele node report --area KG-O --severty 2", True),
        (5, "kengele verify receipt.json", False),
        (5, "make demo ARGS=--onec", True),
        (7, "kengele hub run --home /var/lib/kengele-hub", False),
        (8, "make -s nothing", True),
        (1, "kengele coordinator board", False),
        (2, "kengele hub", False),
        (2, "make test", False),
        (2, "kengele hub stop", True),
    ]


@pytest.mark.parametrize(
    "words",
    [
        "hub init --prot 4222",
        "hub init --port x",
        "coordinator signn draft.json",
        "coordinator sign",
        "coordinator recall",
        "node report a.json b.json",
        "node report --severity 9",
        "office follow extra",
        "audit verify --witnesses two",
    ],
)
def test_a_mistyped_command_is_objected_to(words: str) -> None:
    assert objection(Typed(1, ("kengele", *words.split())))


def test_files_and_options_that_a_page_names_are_found() -> None:
    text = "See [a](docs/adr/) and [b](https://example.org/x), `deploy/systemd/x.service`; `--json` and `--desk ID`.\n"
    assert links(text) == ["docs/adr/", "deploy/systemd/x.service"]
    assert flags(text) == {"--json", "--desk"}
    assert {"--json", "--desk", "--witnesses", "--port"} <= every_flag()
    assert not Path(ROOT / "deploy/systemd/x.service").exists()
