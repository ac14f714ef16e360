"""Envelope and sealing: what is left still verifies, what was changed does not, and nobody opens more than granted."""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from kengele_schemas.compartments import ALL_BITS, REPORT_COMPARTMENTS, bitmap, names
from kengele_schemas.encoding import loads, unb64u
from kengele_schemas.envelope import TENSION_REPORT, check_whole, parse, strip, verify
from kengele_schemas.errors import CannotOpen, KengeleError, Malformed
from kengele_schemas.keys import HYBRID, X25519, OpeningKey, check_verify_key, monitor_id
from kengele_schemas.sealing import Reader, open_envelope, reassemble, seal

AUTHOR = SigningKey(bytes(range(32)))
PUBLIC = bytes(AUTHOR.verify_key)
KEYS = {"alpha": OpeningKey.generate(X25519), "beta": OpeningKey.generate(HYBRID)}
CLAIMS: dict[str, Any] = {"v": 1, "id": "A" * 22, "kid": monitor_id(PUBLIC), "kind": "report", "pol": 3}
CONTENTS = {name: {"text": f"the {name}", "n": number} for number, name in enumerate(REPORT_COMPARTMENTS)}


def sealed(bits: int = ALL_BITS, contents: dict[str, Any] | None = None, suite: str = X25519) -> bytes:
    readers = [Reader("alpha", KEYS["alpha"].public, bits, 7)]
    if suite == HYBRID:
        readers.append(Reader("beta", KEYS["beta"].public, bits))
    return seal(TENSION_REPORT, CLAIMS, CONTENTS if contents is None else contents, readers, AUTHOR)


WHOLE = sealed(suite=HYBRID)
SMALL = sealed()


@settings(max_examples=128, deadline=None)
@given(st.integers(0, ALL_BITS), st.integers(0, ALL_BITS))
def test_any_subset_of_compartments_verifies_and_opens_to_what_was_granted(kept: int, granted: int) -> None:
    envelope = parse(strip(parse(sealed(granted)), "alpha", names(kept)))
    verify(envelope, PUBLIC)
    opened = open_envelope(envelope, "alpha", [KEYS["alpha"]], PUBLIC)
    assert opened.contents == {name: CONTENTS[name] for name in names(kept & granted)}
    assert set(opened.withheld) == set(names(granted & ~kept))
    assert opened.counter == 7


def accepted(data: bytes) -> bool:
    try:
        envelope = parse(data)
        verify(envelope, PUBLIC)
        check_whole(envelope)
    except KengeleError:
        return False
    return True


def test_no_byte_can_be_changed_unnoticed() -> None:
    assert accepted(SMALL)
    for at in range(0, len(SMALL)):
        assert not accepted(SMALL[:at] + bytes([SMALL[at] ^ 1]) + SMALL[at + 1 :]), at


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(SMALL) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_no_piece_can_be_cut_out_or_put_in_unnoticed(at: int, piece: bytes, cut: int) -> None:
    changed = SMALL[:at] + piece + SMALL[at + cut :]
    assert accepted(changed) == (changed == SMALL)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)))
def test_parsers_raise_nothing_but_our_errors(data: bytes) -> None:
    for parser in (parse, lambda raw: loads(raw, max_bytes=1000), lambda raw: unb64u(raw.decode("latin-1"))):
        with suppress(KengeleError):
            parser(data)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b'{"a":9007199254740993}',
        b"\xef\xbb\xbf{}",
        b'{"a":"\\ud800"}',
        b"[" * 50 + b"]" * 50,
        b"{} {}",
        b'{"a":1e400}',
    ],
)
def test_what_json_leaves_open_is_refused(text: bytes) -> None:
    with pytest.raises(Malformed):
        loads(text, max_bytes=1000)


@pytest.mark.parametrize("suite", [X25519, HYBRID])
def test_a_sealed_report_opens_in_both_suites_to_one_text(suite: str) -> None:
    envelope = parse(WHOLE)
    office = "alpha" if suite == X25519 else "beta"
    opened = open_envelope(envelope, office, [KEYS[office]], PUBLIC)
    assert opened.contents == CONTENTS


def test_another_office_or_another_key_opens_nothing() -> None:
    envelope = parse(WHOLE)
    for office, key in (
        ("alpha", OpeningKey.generate(X25519)),
        ("beta", KEYS["alpha"]),
        ("gamma", KEYS["alpha"]),
        ("alpha", KEYS["beta"]),
    ):
        with pytest.raises(CannotOpen):
            open_envelope(envelope, office, [key], PUBLIC)


def test_absent_compartments_and_narrow_grants_cannot_be_told_from_the_outside() -> None:
    def shape(data: bytes) -> list[int]:
        envelope = parse(data)
        return [*map(len, envelope.ciphertexts.values()), *(len(wrap.text) for wrap in envelope.wraps)]

    assert shape(sealed()) == shape(sealed(contents={"summary": "x"})) == shape(sealed(bitmap(["media"])))


def test_what_was_opened_reassembles_to_an_sd_jwt_by_rfc_9901() -> None:
    envelope = parse(strip(parse(WHOLE), "alpha", ("handling", "summary")))
    opened = open_envelope(envelope, "alpha", [KEYS["alpha"]], PUBLIC)
    jwt, *disclosures, end = reassemble(envelope, opened).split("~")
    assert (len(disclosures), end) == (2, "")
    from joserfc import jws
    from joserfc.jwk import OKPKey

    x = base64.urlsafe_b64encode(PUBLIC).rstrip(b"=").decode()
    key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": x})
    payload = json.loads(jws.deserialize_compact(jwt, key, algorithms=["Ed25519", "EdDSA"]).payload)
    digests = {
        base64.urlsafe_b64encode(hashlib.sha256(one.encode()).digest()).rstrip(b"=").decode() for one in disclosures
    }
    assert digests <= set(payload["_sd"])
    assert payload["_sd_alg"] == "sha-256"


def test_small_order_keys_are_refused() -> None:
    for raw in (
        bytes(32),
        b"\x01" + bytes(31),
        bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    ):
        with pytest.raises(Malformed):
            check_verify_key(raw)
