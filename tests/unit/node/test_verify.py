"""``kengele verify``: says what a file is and that it holds, or that it is nothing of Kengele's."""

from __future__ import annotations

from pathlib import Path

import pytest
from nacl.signing import SigningKey

from kengele_node.cli import main
from kengele_schemas.cards import CoordinatorCard, HubCard, JoinRequest
from kengele_schemas.compartments import ALL_BITS
from kengele_schemas.encoding import b64u
from kengele_schemas.envelope import TENSION_REPORT, parse, strip
from kengele_schemas.fields import read
from kengele_schemas.keys import X25519, OpeningKey, monitor_id
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.sealing import Reader, open_envelope, reassemble, seal
from kengele_testing.trust import Paper
from kengele_testing.values import grant, network, planned, report

AUTHOR = SigningKey.generate()
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


def passed_on(author: SigningKey) -> str:
    """A report as an office passes it on, one compartment disclosed, that says it is of ``AUTHOR``'s."""
    opening = OpeningKey.generate(X25519)
    claims = planned(report(), network(grant())).header.claims()
    kid = monitor_id(bytes(AUTHOR.verify_key))
    readers = [Reader("unrcca", opening.public, ALL_BITS, 1)]
    text = {"text": "Talk of a fight.", "lang": "en"}
    sealed = parse(seal(TENSION_REPORT, {**claims, "kid": kid}, {"summary": text}, readers, author))
    envelope = parse(strip(sealed, "unrcca", ("summary",)))
    return reassemble(envelope, open_envelope(envelope, "unrcca", [opening], bytes(author.verify_key)))


def test_a_report_that_an_office_passes_on_holds_under_its_authors_key_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told, command = tmp_path / "report.txt", ["verify", str(tmp_path / "report.txt"), "--author"]
    told.write_text(passed_on(AUTHOR))
    assert main([*command, b64u(bytes(AUTHOR.verify_key))]) == 0
    assert "discloses:      summary" in capsys.readouterr().out
    # Somebody else signs and puts the author's name.
    told.write_text(passed_on(KEY))
    assert main([*command, b64u(bytes(AUTHOR.verify_key))]) == 6
    found = capsys.readouterr()
    assert "(code: bad-signature)" in found.err
    assert "It holds" not in found.out
    # Nor does it hold by the key that signed it, which is not the author's.
    assert main([*command, PUBLIC]) == 6
