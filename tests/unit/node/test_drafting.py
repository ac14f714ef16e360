"""Drafting: a coordinator's home is opened once, however many steps a command has."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

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
