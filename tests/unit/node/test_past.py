"""Past reports under a draft: what the hub gives is asked for page by page, kept, and never taken on trust."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kengele_node import cli
from kengele_node.coordinator import past
from kengele_schemas.errors import Refused, Unreachable, Untrusted
from kengele_schemas.headers import Alike
from kengele_schemas.nkeys import KeyPair

ROW = {"day": "2026-11-20", "area": "KG-O", "categories": ["rumour"], "severity": 2, "tlp": "AMBER", "count": 3}
OTHER = {**ROW, "day": "2026-11-21", "count": 1}
SINCE = date(2026, 11, 1)


def page(*rows: Any, then: Any = None) -> dict[str, Any]:
    return {"code": "headers", "rows": list(rows), "next": then}


class Session:
    """A hub that gives ``answers`` one after the other, the last again and again."""

    def __init__(self, answers: Sequence[Any]) -> None:
        self.member = SimpleNamespace(nkey=KeyPair.generate("user"))
        self.answers, self.asked = list(answers), list[Any]()

    async def ask(self, _: str, document: Any) -> dict[str, Any]:
        self.asked.append(document)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)


def ask(session: Session, since: date | None = SINCE) -> tuple[list[Alike], list[tuple[int, int]]]:
    progress: list[tuple[int, int]] = []
    found = asyncio.run(past.ask(session, since, lambda *far: progress.append(far)))  # type: ignore[arg-type]
    return found, progress


def test_pages_are_put_together_and_progress_is_told_while_the_hub_reads() -> None:
    reading = [{"code": "reading", "read": read, "of": 500} for read in (250, 200, 500)]
    then = {"since": "2026-11-20", "skip": 1}
    session = Session([*reading, page(ROW, then=then), page(OTHER)])
    found, progress = ask(session)
    assert [row.document() for row in found] == [ROW, OTHER]
    assert session.asked == [{"since": "2026-11-01", "skip": 0}] * 4 + [then]
    # Another worker of the hub may not have come so far; nobody is shown a way back.
    assert progress == [(250, 500), (250, 500), (500, 500), (1, 1)]


def test_without_a_day_the_hub_begins_where_it_does() -> None:
    session = Session([page()])
    assert ask(session, None)[0] == []
    assert session.asked == [{"since": None, "skip": 0}]


BAD: list[Any] = [
    page({**ROW, "count": 0}),
    page({**ROW, "kid": "m-a", "area": "kg"}),
    page("row"),
    {"code": "headers"},
    {"code": "headers", "rows": {}, "next": None},
    {"code": "reading", "read": "all"},
    page(then={"since": "2026-11-20", "skip": 1}),
    page(ROW, then={"since": "2026-11-01", "skip": 0}),
]


@pytest.mark.parametrize("answer", BAD)
def test_what_is_no_page_or_leads_nowhere_is_refused(answer: Any) -> None:
    with pytest.raises(Untrusted) as caught:
        ask(Session([answer]))
    assert caught.value.code == "bad-headers"


def test_a_hub_that_gives_no_end_of_pages_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "_MAX_ROWS", 5)
    pages = [page(ROW, then={"since": "2026-11-20", "skip": skip}) for skip in range(10)]
    with pytest.raises(Untrusted):
        ask(Session(pages))


def test_a_hub_that_comes_no_further_is_left() -> None:
    with pytest.raises(Unreachable):
        ask(Session([{"code": "reading", "read": 7, "of": 9}]))


def test_what_the_hub_refuses_is_told_as_it_says_it() -> None:
    with pytest.raises(Refused, match="90 days"):
        ask(Session([Refused("too-far-back", "Headers are given for 90 days.")]))


def test_what_was_kept_is_put_to_a_draft_without_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, rules = tmp_path / "headers.jsonl", tmp_path / "rules.yaml"
    past._write(file, ask(Session([page(ROW, OTHER)]))[0])
    assert [json.loads(line) for line in file.read_text().splitlines()] == [ROW, OTHER]
    rules.write_text("[]")
    # Nothing says what went where: it takes a network's rules to compare with.
    assert cli.main(["coordinator", "policy", "replay", str(rules), "--records", str(file)]) == 2
    assert "(code: no-rules)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("--since", "soon"), ("--since", "2026-13-01"), ("--records", "a", "--export", "b")], ids=" ".join
)
def test_bad_words_are_refused_before_anybody_is_asked(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = cli.main(["coordinator", "policy", "replay", "rules.yaml", *words])
    except SystemExit as ended:
        code = int(str(ended.code))
    assert code == 2
    assert "Traceback" not in capsys.readouterr().err
