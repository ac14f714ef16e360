"""Drafting: a coordinator's home is opened once, however many steps a command has."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kengele_node.coordinator import drafting
from kengele_node.coordinator.drafting import opened
from kengele_node.member import Member
from kengele_node.vault import make_key_file


def test_a_passphrase_is_asked_for_once_in_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = make_key_file(tmp_path / "key")
    Member.create(tmp_path / "alice", lock, "coordinator", {"name": "Alice"})
    asked: list[object] = []
    monkeypatch.setattr("kengele_node.terminal.lock_of", lambda args: asked.append(args) or lock)
    args = argparse.Namespace(home=tmp_path / "alice")
    assert opened(args).kid == opened(args).kid
    assert len(asked) == 1


@pytest.mark.parametrize("board", [True, False])
def test_a_draft_that_is_not_on_the_board_is_not_said_to_be_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], board: bool
) -> None:
    monkeypatch.setattr(drafting.signatures, "missing", lambda _: {"targets": 1})
    monkeypatch.setattr(drafting.signatures, "draft_id", lambda _: "a-name")
    draft: Any = SimpleNamespace(version=3, founding=False)
    assert drafting.told(argparse.Namespace(json=False), draft, "draft.json", [], board=board) == 0
    said = capsys.readouterr().out
    assert ("a-name" in said, "or the name," in said) == (board, board)
