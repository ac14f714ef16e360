"""QR codes: an invitation on a screen that is not large, on paper, and in a page; too much is told, not cut."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path
from urllib.parse import unquote

import pytest

from kengele_hub import credentials
from kengele_node import qr
from kengele_schemas.encoding import b64u
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.links import pack
from kengele_schemas.nkeys import KeyPair

NKEY = KeyPair.generate("user")
JOIN = {
    "jwt": credentials.member(credentials.Accounts.generate(), NKEY.public, "joiner", now=1_795_591_936),
    "seed": NKEY.seed,
}
LINK = pack(
    {
        "urls": ["tls://hub.example.org:4222"],
        "join": JOIN,
        "token": b64u(bytes(range(16))),
        "root": b64u(bytes(range(32))),
    }
)


def test_an_invitation_fits_a_terminal_of_forty_rows() -> None:
    rows = qr.drawn(LINK).split("\n")
    assert qr.size(LINK) <= 61
    assert len(rows) <= 33
    assert len({len(row) for row in rows if "\x1b" not in row}) <= 1


def test_capitals_keep_it_small() -> None:
    assert qr.size(LINK) < qr.size(LINK.lower())


def test_a_picture_is_written_as_its_name_says(tmp_path: Path) -> None:
    qr.write(LINK, tmp_path / "card.svg")
    qr.write(LINK, tmp_path / "card.png")
    assert b"<svg" in (tmp_path / "card.svg").read_bytes()
    assert (tmp_path / "card.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["card", "card.pdf", "card.svg.txt", "card.SVGZ"])
def test_another_ending_is_refused_and_nothing_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(Malformed, match=r"\.svg or \.png"):
        qr.write(LINK, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_in_a_page_it_needs_no_other_file() -> None:
    address = qr.inline(LINK)
    kind, _, data = address.partition(",")
    assert kind.startswith("data:image/svg+xml")
    picture = b64decode(data).decode() if "base64" in kind else unquote(data)
    assert "<svg" in picture
    assert "href" not in picture


def test_what_is_too_much_is_told_with_what_to_do() -> None:
    for use in (qr.drawn, qr.size, qr.inline):
        with pytest.raises(Refused, match="too much") as caught:
            use("A" * 5000)
        assert caught.value.mend == "Give it as a file."
