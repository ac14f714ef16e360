"""Cosignatures as c2sp.org/tlog-cosignature writes them, and nothing else taken for one."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from kengele_schemas.checkpoint import sign_checkpoint, verify_checkpoint
from kengele_schemas.cosignature import attach, cosign, cosigner, cosigner_id, read_cosignatures
from kengele_schemas.errors import Untrusted
from kengele_schemas.keys import verify_signature

LOG = "kengele/test"
HUB = SigningKey(bytes(range(32)))
KEY = SigningKey(bytes(range(1, 33)))
OTHER = SigningKey(bytes(range(2, 34)))
PUBLIC = bytes(KEY.verify_key)
NAME = cosigner(LOG, "unrcca")
NOTE = sign_checkpoint(LOG, 7, bytes(32), HUB)
AT = 1_679_315_147
LINE = cosign(NOTE, NAME, AT, KEY)


def line(body: bytes = NOTE.partition("\n\n")[0].encode() + b"\n", **changes: object) -> str:
    """A cosignature put together here by the letter of its specification."""
    said = {"name": NAME, "at": AT, "head": b"cosignature/v1\ntime %d\n" % AT, "key": KEY, "type": b"\x04", **changes}
    key = said["key"]
    assert isinstance(key, SigningKey)
    number = hashlib.sha256(f"{said['name']}\n".encode() + said["type"] + bytes(key.verify_key)).digest()[:4]  # type: ignore[operator]
    blob = number + int(said["at"]).to_bytes(8, "big") + key.sign(said["head"] + body).signature  # type: ignore[call-overload, operator]
    return f"— {said['name']} {base64.b64encode(blob).decode()}\n"


def test_a_cosignature_is_what_the_specification_says() -> None:
    assert line() == LINE
    assert len(base64.b64decode(LINE.split(" ")[2])) == 4 + 8 + 64


def test_a_published_cosignature_is_over_the_text_that_we_would_sign() -> None:
    body = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    published = base64.b64decode(
        "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA=="
    )
    assert int.from_bytes(published[4:12], "big") == AT
    assert len(published) == 76
    message = b"cosignature/v1\ntime %d\n" % AT + body.encode()
    assert KEY.sign(message).signature == base64.b64decode(cosign(f"{body}\n", NAME, AT, KEY).split(" ")[2])[12:]


def test_the_log_and_its_witnesses_sign_one_note() -> None:
    note = attach(NOTE, [LINE, cosign(NOTE, cosigner(LOG, "council"), AT + 1, OTHER)])
    keys = {NAME: PUBLIC, cosigner(LOG, "council"): bytes(OTHER.verify_key)}
    assert read_cosignatures(note, keys) == {NAME: AT, cosigner(LOG, "council"): AT + 1}
    assert verify_checkpoint(note, LOG, bytes(HUB.verify_key)).size == 7


def test_of_two_by_one_office_the_later_counts_and_it_counts_once() -> None:
    note = attach(NOTE, [cosign(NOTE, NAME, AT + 5, KEY), LINE])
    assert read_cosignatures(note, {NAME: PUBLIC}) == {NAME: AT + 5}


@pytest.mark.parametrize(
    ("sentence", "added"),
    [
        ("nobody's", ""),
        ("a stranger's name", line(name=f"{LOG}/stranger")),
        ("another key under the name: an older one", line(key=OTHER)),
        ("the type of a log's own signature", line(type=b"\x01")),
        ("no dash", LINE.removeprefix("— ")),
    ],
)
def test_who_did_not_cosign_is_not_counted(sentence: str, added: str) -> None:
    assert read_cosignatures(attach(NOTE, [added]), {NAME: PUBLIC}) == {}


@pytest.mark.parametrize(
    ("sentence", "added"),
    [
        ("another checkpoint", line(NOTE.replace("\n7", "\n8").partition("\n\n")[0].encode() + b"\n")),
        ("another time", line(at=AT + 1)),
        ("no header line", line(head=b"")),
        ("another version", line(head=b"cosignature/v2\ntime %d\n" % AT)),
        ("a time beyond the last", line(at=2**63, head=b"cosignature/v1\ntime %d\n" % 2**63)),
        ("a signature cut short", f"— {NAME} {base64.b64encode(base64.b64decode(LINE.split(' ')[2])[:-1]).decode()}\n"),
        (
            "the log's own signature under the office's key id",
            f"— {NAME} "
            + base64.b64encode(cosigner_id(NAME, PUBLIC) + base64.b64decode(NOTE.split(" ")[-1])[4:]).decode()
            + "\n",
        ),
    ],
)
def test_what_bears_an_offices_name_and_key_and_is_not_its_word_spoils_the_note(sentence: str, added: str) -> None:
    with pytest.raises(Untrusted) as caught:
        read_cosignatures(attach(NOTE, [added]), {NAME: PUBLIC})
    assert caught.value.code == "bad-cosignature"


def test_a_cosignature_is_no_signature_over_the_bare_checkpoint() -> None:
    body = NOTE.partition("\n\n")[0].encode() + b"\n"
    assert not verify_signature(PUBLIC, body, base64.b64decode(LINE.split(" ")[2])[12:])


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_no_text_makes_an_office_a_cosigner(text: str) -> None:
    try:
        found = read_cosignatures(NOTE + text, {NAME: PUBLIC})
    except Untrusted:
        return
    assert found == {}


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_no_text_crashes_the_reader(text: str) -> None:
    with pytest.raises(Untrusted):
        read_cosignatures(text.replace("\n\n", "\n"), {NAME: PUBLIC})
