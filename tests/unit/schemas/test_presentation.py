"""What an office passes on: only the author's key and the signed digests count, and RFC 9901's refusals hold."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from kengele_schemas.compartments import ALL_BITS, REPORT_COMPARTMENTS, names
from kengele_schemas.encoding import b64u, dumps
from kengele_schemas.envelope import TENSION_REPORT, parse, strip
from kengele_schemas.errors import KengeleError, Untrusted
from kengele_schemas.keys import X25519, OpeningKey, monitor_id
from kengele_schemas.presentation import present
from kengele_schemas.sealing import Reader, digest_of, open_envelope, reassemble, seal
from kengele_schemas.trusted import UNNAMED

AUTHOR, OTHER = SigningKey(bytes(range(32))), SigningKey(bytes(range(1, 33)))
PUBLIC = bytes(AUTHOR.verify_key)
KEY = OpeningKey.generate(X25519)
CLAIMS: dict[str, Any] = {"v": 2, "net": UNNAMED, "id": "A" * 22, "kid": monitor_id(PUBLIC), "kind": "report", "pol": 3}
CONTENTS = {name: {"text": f"the {name}"} for name in REPORT_COMPARTMENTS}


def passed_on(bits: int = ALL_BITS) -> str:
    data = seal(TENSION_REPORT, CLAIMS, CONTENTS, [Reader("alpha", KEY.public, ALL_BITS, 1)], AUTHOR)
    envelope = parse(strip(parse(data), "alpha", names(bits)))
    return reassemble(envelope, open_envelope(envelope, "alpha", [KEY], PUBLIC))


def signed(payload: dict[str, Any], *disclosures: bytes) -> str:
    """An SD-JWT over any payload, signed by the author, so that only the rule under test can refuse it."""
    head = f"{TENSION_REPORT.protected}.{b64u(dumps(payload))}"
    return "~".join((f"{head}.{b64u(AUTHOR.sign(head.encode()).signature)}", *map(b64u, disclosures), ""))


def payload_for(*disclosures: bytes) -> dict[str, Any]:
    digests = {digest_of(one) for one in disclosures}
    fillers = {digest_of(bytes([n])) for n in range(len(REPORT_COMPARTMENTS) - len(digests))}
    return {**CLAIMS, "_sd": sorted(digests | fillers), "_sd_alg": "sha-256", "ctr": digest_of(b"ctr")}


@given(st.integers(0, ALL_BITS))
@settings(max_examples=64, deadline=None)
def test_what_was_opened_is_shown_and_holds_under_the_authors_key_alone(bits: int) -> None:
    shown = present(passed_on(bits))
    shown.check(PUBLIC)
    assert shown.contents == {name: CONTENTS[name] for name in names(bits)}
    assert shown.claims == CLAIMS
    with pytest.raises(Untrusted):
        shown.check(bytes(OTHER.verify_key))


def test_no_character_can_be_changed_unnoticed() -> None:
    text = passed_on(0b11)
    for at in range(len(text)):
        changed = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
        with pytest.raises(KengeleError):
            present(changed).check(PUBLIC)


SALT = b64u(bytes(16))


@pytest.mark.parametrize(
    ("rule", "disclosure"),
    [
        ("a claim that the payload has already", [SALT, "kid", "x"]),
        ("_sd as a name", [SALT, "_sd", ["x"]]),
        ("... as a name", [SALT, "...", "x"]),
        ("a name that is no compartment", [SALT, "summary2", "x"]),
        ("a name that is no text", [SALT, 7, "x"]),
        ("an array element", [SALT, "x"]),
        ("four parts", [SALT, "summary", "x", "y"]),
        ("no array", {"summary": "x"}),
        ("a short salt", ["AAAA", "summary", "x"]),
        ("a salt that is no text", [7, "summary", "x"]),
    ],
)
def test_a_disclosure_is_refused_though_its_author_signed_it(rule: str, disclosure: Any) -> None:
    raw = dumps(disclosure)
    with pytest.raises(KengeleError) as caught:
        present(signed(payload_for(raw), raw)).check(PUBLIC)
    assert caught.value.code == "not-as-signed", rule


def test_a_disclosure_twice_or_unreferenced_or_a_compartment_twice_is_refused() -> None:
    one, two = (dumps([b64u(bytes([n]) * 16), "summary", n]) for n in (1, 2))
    present(signed(payload_for(one), one)).check(PUBLIC)
    for payload, disclosures in (
        (payload_for(one), (one, one)),
        (payload_for(one), (two,)),
        (payload_for(one, two), (one, two)),
    ):
        with pytest.raises(Untrusted) as caught:
            present(signed(payload, *disclosures))
        assert caught.value.code == "not-as-signed"


def test_duplicate_names_within_a_disclosure_are_refused() -> None:
    raw = f'["{SALT}","summary",{{"text":"a","text":"b"}}]'.encode()
    with pytest.raises(KengeleError) as caught:
        present(signed(payload_for(raw), raw))
    assert caught.value.code == "duplicate-key"


@given(st.one_of(st.text(max_size=200), st.binary(max_size=200).map(lambda raw: raw.decode("latin-1"))))
@settings(max_examples=300, deadline=None)
def test_garbage_raises_nothing_but_our_errors(text: str) -> None:
    for whole in (text, f"{text}~", passed_on(1) + text, passed_on(1).replace("~", f"~{text}~", 1)):
        with suppress(KengeleError):
            assert present(whole).contents.keys() <= set(REPORT_COMPARTMENTS)


def test_another_library_reads_the_same_out_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from jwcrypto.jwk import JWK
    from sd_jwt.verifier import SDJWTVerifier

    key = JWK(kty="OKP", crv="Ed25519", x=b64u(PUBLIC))
    text = passed_on(0b110)
    # The library knows only the older name of the algorithm (RFC 8037); the bytes signed are the same.
    head, rest = text.split(".", 1)
    body = rest.split(".", 1)[0]
    renamed = b64u(dumps({"alg": "EdDSA", "typ": TENSION_REPORT.typ}))
    again = b64u(AUTHOR.sign(f"{renamed}.{body}".encode()).signature)
    legacy = f"{renamed}.{body}.{again}~{text.split('~', 1)[1]}"
    assert head == TENSION_REPORT.protected
    read = SDJWTVerifier(legacy, lambda *_: key, None, None).get_verified_payload()
    assert {name: read[name] for name in names(0b110)} == present(text).contents
    assert json.loads(dumps({name: read[name] for name in CLAIMS})) == CLAIMS
