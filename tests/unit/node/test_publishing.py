"""Publishing: sent again while the broker does not confirm, and to a restored hub with what its sender holds."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from kengele_node.coordinator import publishing
from kengele_node.member import encode_files
from kengele_schemas import metadata
from kengele_schemas.errors import KengeleError, Refused, Unreachable
from kengele_schemas.nkeys import KeyPair

NKEY = KeyPair.generate("user").public
OWN = {"metadata/3.targets.json": b"new"}
HELD = {"metadata/1.root.json": b"root", "metadata/3.targets.json": b"old"}
PUBLISHED = {"code": "published", "version": 3}
DOES_NOT_CONFIRM = Refused("broker-unavailable", "The broker did not confirm.", "Send it again.")
RESTORED = Refused("hub-restored", "This hub was restored from a copy.")


class Line:
    def __init__(self, *answers: Any) -> None:
        trust = SimpleNamespace(files=lambda: self.served)
        self.member: Any = SimpleNamespace(nkey=SimpleNamespace(public=NKEY), trust=trust)
        self.answers, self.sent = list(answers), list[dict[str, str]]()
        self.served: dict[str, bytes] = dict(HELD)
        self.serving: list[dict[str, bytes]] = [{**HELD, **OWN}]
        """What the hub serves at each refresh from now on; the last for good."""

    async def refresh(self) -> Any:
        self.served = self.serving.pop(0) if len(self.serving) > 1 else self.serving[0]
        return SimpleNamespace(version=max(version for version, _ in metadata.versions(self.served)))

    async def ask(self, subject: str, document: dict[str, str]) -> dict[str, Any]:
        assert subject == f"publish.{NKEY}.metadata"
        self.sent.append(document)
        found = self.answers.pop(0)
        if isinstance(found, KengeleError):
            raise found
        return dict(found)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_PAUSE", 0)


def published(line: Line) -> int:
    draft: Any = SimpleNamespace(files=lambda: OWN)
    return asyncio.run(publishing.publish(line, draft))  # type: ignore[arg-type]


def test_the_hubs_bare_word_that_a_version_is_in_force_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_MOMENT", 0.05)
    for served in (HELD, {**HELD, "metadata/2.targets.json": b"older"}, {"metadata/1.root.json": b"root"}):
        line = Line(PUBLISHED)
        line.serving = [served]
        with pytest.raises(Refused, match="serves members version") as caught:
            published(line)
        assert caught.value.code == "not-in-force"


def test_a_worker_that_is_a_moment_behind_is_waited_for_and_a_later_version_is_as_good() -> None:
    for last in ({**HELD, **OWN}, {**HELD, "metadata/4.targets.json": b"another's"}):
        line = Line(PUBLISHED)
        line.serving = [HELD, HELD, last]
        assert published(line) == max(version for version, _ in metadata.versions(last))


def test_it_is_sent_again_while_the_broker_does_not_confirm() -> None:
    line = Line(DOES_NOT_CONFIRM, DOES_NOT_CONFIRM, PUBLISHED)
    assert published(line) == 3
    assert line.sent == [encode_files(OWN)] * 3


def test_who_waited_long_enough_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_PATIENCE", 0)
    line = Line(*[DOES_NOT_CONFIRM] * 1_000)
    with pytest.raises(Refused, match="did not confirm"):
        published(line)


def test_a_restored_hub_is_given_what_its_sender_holds_and_no_other_is() -> None:
    line = Line(RESTORED, PUBLISHED)
    assert published(line) == 3
    assert line.sent == [encode_files(OWN), encode_files({**HELD, **OWN})]


def test_a_restored_hub_that_did_not_confirm_may_be_in_force_and_is_asked_anew() -> None:
    line = Line(RESTORED, DOES_NOT_CONFIRM, PUBLISHED)
    assert published(line) == 3
    assert line.sent == [encode_files(OWN), encode_files({**HELD, **OWN}), encode_files(OWN)]


@pytest.mark.parametrize("told", [Refused("conflict", "Not that."), Unreachable("no-line", "No line.")])
def test_whatever_else_goes_wrong_is_not_sent_again(told: KengeleError) -> None:
    line = Line(told)
    with pytest.raises(type(told)):
        published(line)


def test_an_answer_that_says_nothing_of_it_is_no_success() -> None:
    with pytest.raises(Refused, match="in force"):
        published(Line({"code": "later"}))
