"""A region run by its own coordinators, in separate processes: they alone grant, let in and remove there."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from test_tour import Shell, beside_a_hub, found

pytestmark = [pytest.mark.full, pytest.mark.timeout(400)]
RULE = (
    "- id: {id}\n  grant: [summary]\n  to: [office:unrcca]\n  areas: [{area}]\n"
    '  categories: ["calm"]\n  tlp_up_to: CLEAR\n  expires: 2027-12-31\n  reason: region\n'
)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    yield from beside_a_hub(tmp_path)


def handed_over(shell: Shell) -> None:
    """Dora and Emil sign for Osh, both of them; they take the draft and what is in force as files."""
    for name in ("dora", "emil"):
        shell.run("coordinator", "init", "--home", name)
    cards = ("--add", "dora/card.json", "--add", "emil/card.json")
    shell.run("coordinator", "seats", "--home", "alice", "--region", "KG-O", *cards, "--threshold", "2")
    shell.run("coordinator", "export", "--home", "alice", "--all", "stick")
    for name in ("dora", "emil"):
        shell.run("coordinator", "join", "--home", name, "network.json")
        told = shell.run("coordinator", "sign", "--home", name, "draft.json", "--from", "stick")
        assert "From then on 2 signatures count for KG-O" in told
    assert "too-few-signatures" in shell.run("coordinator", "publish", "--home", "alice", "draft.json", fails=3)
    shell.run("coordinator", "sign", "--home", "bob", "draft.json")
    shell.run("coordinator", "publish", "--home", "bob", "draft.json")


def regional(shell: Shell, *words: str) -> str:
    """Dora drafts, Emil signs what the board has, and publishes it; gives its number."""
    draft = shell.json("coordinator", *words, "--home", "dora")
    assert set(draft["missing"].values()) == {1}
    assert all(role.endswith("-KG-O") for role in draft["missing"])
    shell.run("coordinator", "sign", "--home", "emil", draft["name"], "--yes")
    return str(shell.json("coordinator", "publish", "--home", "emil", draft["name"])["version"])


def test_a_region_grants_admits_and_removes_by_its_own_signatures(shell: Shell) -> None:
    found(shell)
    handed_over(shell)
    before = shell.json("coordinator", "policy", "show", "--home", "alice", "--region", "KG-O")
    assert before["rules"] == []
    (shell.directory / "ours.yaml").write_text(RULE.format(id="osh-calm", area="KG-O"))
    regional(shell, "policy", "propose", "ours.yaml", "--region", "KG-O")

    second = shell.json("node", "init", "--home", "second", "--network", "network.json", "--area", "KG-O")
    digits = ("--digits", second["digits"])
    regional(shell, "admit", second["request"], *digits)
    calm = ("node", "report", "--home", "second", "--area", "KG-O", "--category", "calm", "--severity", "1")
    sent = shell.json(*calm, "--tlp", "CLEAR", "--summary", "Quiet.", "--lang", "en")
    assert (sent["state"], sent["readers"][0]["rules"]) == ("accepted", ["osh-calm", "unrcca-all"])
    lines: list[str] = []
    deadline = time.monotonic() + 30
    while not lines and time.monotonic() < deadline:
        lines = shell.run("office", "follow", "--once", "--json").splitlines()
    assert json.loads(lines[0])["id"] == sent["id"]

    (shell.directory / "theirs.yaml").write_text(RULE.format(id="batken-calm", area="KG-B"))
    propose = ("coordinator", "policy", "propose", "--home", "dora")
    assert "foreign-area" in shell.run(*propose, "theirs.yaml", "--region", "KG-O", fails=2)
    assert "not-delegated" in shell.run(*propose, "theirs.yaml", "--region", "KG-B", fails=3)
    assert "not-a-coordinator" in shell.run(*propose, "theirs.yaml", fails=3)
    top = ("coordinator", "policy", "propose", "--home", "alice", "ours.yaml", "--region", "KG-O")
    assert "not-a-coordinator" in shell.run(*top, fails=3)

    regional(shell, "members", "revoke", second["monitor"])
    rows = shell.json("coordinator", "members", "list", "--home", "emil")["members"]
    assert [row["status"] for row in rows if row["id"] == second["monitor"]] == ["revoked"]
    shell.run("audit", "verify", "--home", "alice", "--witnesses", "0")
    everything = shell.run("audit", "search", "--home", "alice", "--json")
    assert '"region", "id": "kg-o", "how": "added"' in everything.replace('{"what": ', "")
    told = shell.run("audit", "search", "--home", "alice", "--rule", "osh-calm", "--json").splitlines()
    assert {json.loads(line)["kind"] for line in told} == {"trust", "report"}
