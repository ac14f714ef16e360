"""``kengele verify``: says what a file is and that it holds, or that it is nothing of Kengele's."""

from __future__ import annotations

from pathlib import Path

import pytest
from nacl.signing import SigningKey

from kengele_node.cli import main
from kengele_schemas.cards import CoordinatorCard, HubCard, JoinRequest
from kengele_schemas.encoding import b64u
from kengele_schemas.fields import read
from kengele_schemas.nkeys import KeyPair
from kengele_testing.trust import Paper

KEY, NKEY = SigningKey.generate(), KeyPair.generate("user")
PUBLIC = b64u(bytes(KEY.verify_key))
COORDINATOR = CoordinatorCard.of(KEY, NKEY, "Alice")
REQUEST = JoinRequest.for_monitor(KEY, NKEY, ("KG-O",))
HUB = read(
    HubCard,
    {
        "urls": ["tls://hub.example.org"],
        "hub_key": PUBLIC,
        "snapshot_key": PUBLIC,
        "timestamp_key": PUBLIC,
        "log": "kengele/test",
        "join": {"jwt": "header.claims.signature", "seed": NKEY.seed},
        "token": "A" * 22,
    },
)
PAPER = Paper()
DRAFT = PAPER.drafted()


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (COORDINATOR.encode(), ["kind:           coordinator's card", f"digits:         {COORDINATOR.digits()}"]),
        (REQUEST.encode(), ["kind:           join request", f"digits:         {REQUEST.digits()}"]),
        (HUB.encode(), ["kind:           hub's card", "urls:           tls://hub.example.org"]),
        (DRAFT.encode(), ["kind:           draft", "missing:        2 signatures"]),
        (PAPER.signed(DRAFT).encode(), ["kind:           draft", "missing:        0 signatures"]),
    ],
)
def test_what_people_hand_each_other_is_named_and_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes, lines: list[str]
) -> None:
    (tmp_path / "file").write_bytes(data)
    assert main(["verify", str(tmp_path / "file")]) == 0
    told = capsys.readouterr().out.splitlines()
    assert set(lines) <= set(told)
    assert told[-1] == "It holds."
    assert HUB.token not in told


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"- id: rule\n", b"[]", b"7", b"{}", b'{"kind": "other"}', b"\xff\xfe"]
)
def test_what_is_nothing_of_kengeles_is_said_to_be_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes
) -> None:
    (tmp_path / "file").write_bytes(data)
    assert main(["verify", str(tmp_path / "file")]) == 2
    assert "(code: unknown-file)" in capsys.readouterr().err


def test_a_card_with_anothers_digits_does_not_hold(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(COORDINATOR.encode().replace(b"Alice", b"Malik"))
    assert main(["verify", str(tmp_path / "file")]) == 6
