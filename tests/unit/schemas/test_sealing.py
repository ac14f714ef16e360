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
from kengele_schemas.encoding import b64u, dumps, length_prefixed, loads, unb64u
from kengele_schemas.envelope import TENSION_REPORT, Envelope, assemble, check_whole, parse, strip, verify
from kengele_schemas.errors import CannotOpen, KengeleError, Malformed, Untrusted
from kengele_schemas.keys import HYBRID, X25519, OpeningKey, monitor_id
from kengele_schemas.sealing import (
    Reader,
    ciphertext_size,
    digest_of,
    disclosure,
    open_envelope,
    reassemble,
    seal,
)
from kengele_schemas.trusted import UNNAMED
from kengele_testing import forgery

AUTHOR = SigningKey(bytes(range(32)))
PUBLIC = bytes(AUTHOR.verify_key)
KEYS = {"alpha": OpeningKey.generate(X25519), "beta": OpeningKey.generate(HYBRID)}
CLAIMS: dict[str, Any] = {"v": 2, "net": UNNAMED, "id": "A" * 22, "kid": monitor_id(PUBLIC), "kind": "report", "pol": 3}
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


@pytest.mark.parametrize("suite", [X25519, HYBRID])
def test_a_sealed_report_opens_in_both_suites_to_one_text(suite: str) -> None:
    envelope = parse(WHOLE)
    office = "alpha" if suite == X25519 else "beta"
    opened = open_envelope(envelope, office, [KEYS[office]], PUBLIC)
    assert opened.contents == CONTENTS


def test_another_office_or_another_key_opens_nothing_and_learns_no_reason() -> None:
    envelope = parse(WHOLE)
    damaged = [
        WHOLE.replace(text.encode(), (text[:-9] + "A" * 8 + text[-1]).encode())
        for text in (envelope.wraps[0].text, envelope.ciphertexts["media"])
    ]
    told = set()
    for data, office, key in (
        (WHOLE, "alpha", OpeningKey.generate(X25519)),
        (WHOLE, "beta", KEYS["alpha"]),
        (WHOLE, "gamma", KEYS["alpha"]),
        (WHOLE, "alpha", KEYS["beta"]),
        *((data, "alpha", KEYS["alpha"]) for data in damaged),
    ):
        with pytest.raises(CannotOpen) as caught:
            open_envelope(parse(data), office, [key], PUBLIC)
        told.add(caught.value.diagnostics())
        assert caught.value.__cause__ is None
    assert len(told) == 1


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


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
STAFF = {f"office-{letter}": OpeningKey(X25519, letter.encode() * 32) for letter in "abcde"}
GRANTS = st.dictionaries(
    st.sampled_from(sorted(STAFF)), st.tuples(st.integers(0, 255), st.none() | st.integers(1, 2**53))
)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.sampled_from(REPORT_COMPARTMENTS), VALUES), GRANTS, st.randoms())
def test_each_office_reads_what_it_was_granted_to_the_letter_and_nobody_else_anything(
    contents: dict[str, Any], grants: dict[str, tuple[int, int | None]], dice: Any
) -> None:
    readers = [Reader(office, STAFF[office].public, bits, number) for office, (bits, number) in grants.items()]
    dice.shuffle(readers)
    envelope = parse(seal(TENSION_REPORT, CLAIMS, contents, readers, AUTHOR))
    check_whole(envelope)
    assert envelope.claims == CLAIMS
    for office, key in STAFF.items():
        if office not in grants:
            with pytest.raises(CannotOpen):
                open_envelope(envelope, office, list(STAFF.values()), PUBLIC)
            continue
        opened = open_envelope(envelope, office, [key], PUBLIC)
        granted = [name for name in names(grants[office][0]) if name in contents]
        assert {name: dumps(value) for name, value in opened.contents.items()} == {
            name: dumps(contents[name]) for name in granted
        }
        assert (list(opened.contents), opened.counter, opened.withheld) == (granted, grants[office][1], ())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 255), st.integers(0, ALL_BITS), st.none() | st.integers(1, 2**64 - 1))
def test_a_wrap_holds_no_key_that_was_not_granted_nor_one_to_nothing(
    bits: int, present: int, number: int | None
) -> None:
    contents = {name: CONTENTS[name] for name in names(present)}
    envelope = parse(
        seal(TENSION_REPORT, CLAIMS, contents, [Reader("alpha", KEYS["alpha"].public, bits, number)], AUTHOR)
    )
    info = length_prefixed(b"kengele-wrap-v1", b"alpha", envelope.core)
    plain = KEYS["alpha"].open(unb64u(envelope.wraps[0].text), info)
    assert plain[:9] == bytes([bits & present]) + (number or 0).to_bytes(8, "big")
    slots = [plain[9 + 32 * place : 41 + 32 * place] for place in range(7)]
    assert b"".join(slots) == plain[9:]
    handed = bits & present
    assert [slot != bytes(32) for slot in slots] == [bool(handed >> place & 1) for place in range(7)]
    assert len({*slots} - {bytes(32)}) == handed.bit_count()


def test_two_seals_of_one_report_share_nothing_that_could_be_compared() -> None:
    one, two = parse(sealed()), parse(sealed())
    assert not set(one.sd) & set(two.sd)
    assert not set(one.ciphertexts.values()) & set(two.ciphertexts.values())
    first, second = (open_envelope(envelope, "alpha", [KEYS["alpha"]], PUBLIC) for envelope in (one, two))
    salts = [
        loads(unb64u(text), max_bytes=1000)[0] for opened in (first, second) for text in opened.disclosures.values()
    ]
    assert len(set(salts)) == len(salts) == 14
    assert all(len(unb64u(salt)) == 16 for salt in salts)


def test_a_digest_is_that_of_rfc_9901() -> None:
    disclosed = unb64u("WyJfMjZiYzRMVC1hYzZxMktJNmNCVzVlcyIsICJmYW1pbHlfbmFtZSIsICJNw7ZiaXVzIl0")
    assert loads(disclosed, max_bytes=100) == ["_26bc4LT-ac6q2KI6cBW5es", "family_name", "Möbius"]
    assert digest_of(disclosed) == "X9yH0Ajrdm1Oij4tWso9UzzKJvPoDxwmuEcO3XAdRC0"


@pytest.mark.parametrize(
    ("name", "length", "padded"),
    [
        ("place", 252, 256),
        ("place", 253, 512),
        ("summary", 100, 512),
        ("summary", 508, 512),
        ("summary", 509, 768),
        ("account", 764, 1024),
        ("account", 765, 1024),
        ("account", 1020, 1024),
        ("account", 1021, 1280),
        ("media", 508, 512),
        ("media", 509, 768),
        ("account", 65_276, 65_280),
        ("account", 65_532, 65_536),
    ],
)
def test_a_compartment_fills_whole_blocks_to_the_last_byte(name: str, length: int, padded: int) -> None:
    text = "x" * (length - len(disclosure(bytes(16), name, "")))
    envelope = parse(sealed(contents={name: text}))
    assert len(unb64u(envelope.ciphertexts[name])) == padded + 16
    assert ciphertext_size(length, dict(TENSION_REPORT.floors)[name]) == padded + 16
    assert open_envelope(envelope, "alpha", [KEYS["alpha"]], PUBLIC).contents == {name: text}


def test_one_byte_more_than_the_blocks_hold_is_refused_before_anything_is_sealed() -> None:
    text = "x" * (65_533 - len(disclosure(bytes(16), "account", "")))
    with pytest.raises(Malformed) as caught:
        sealed(contents={"account": text})
    assert caught.value.code == "oversized"
    with pytest.raises(Malformed) as caught:
        sealed(contents={"summary": "x", "names": "y"})
    assert caught.value.code == "unknown-compartment"


def test_an_office_that_changed_its_key_opens_what_was_sealed_for_the_old_one() -> None:
    keys = [OpeningKey.generate(HYBRID), OpeningKey.generate(X25519), KEYS["alpha"], KEYS["beta"]]
    for office in ("alpha", "beta"):
        assert open_envelope(parse(WHOLE), office, keys, PUBLIC).contents == CONTENTS
        assert open_envelope(parse(WHOLE), office, iter(keys), PUBLIC).contents == CONTENTS
    with pytest.raises(CannotOpen):
        open_envelope(parse(WHOLE), "alpha", [], PUBLIC)


def read_as_alpha(data: bytes) -> dict[str, Any]:
    return open_envelope(parse(data), "alpha", [KEYS["alpha"]], PUBLIC).contents


def test_no_byte_of_what_an_office_is_given_can_be_changed_unnoticed() -> None:
    handed = strip(parse(SMALL), "alpha", ("summary",))
    assert read_as_alpha(handed) == {"summary": CONTENTS["summary"]}
    for at in range(len(handed)):
        changed = handed[:at] + bytes([handed[at] ^ 1]) + handed[at + 1 :]
        with pytest.raises(KengeleError):
            read_as_alpha(changed)


def opened(data: bytes) -> dict[str, Any]:
    """What the office makes of ``data``, with which nothing is wrong that the hub could see."""
    envelope = parse(data)
    verify(envelope, forgery.PUBLIC)
    check_whole(envelope)
    return open_envelope(envelope, forgery.OFFICE, [forgery.KEY], forgery.PUBLIC).contents


def disclosed(text: str) -> bytes:
    """``text`` as it is sealed: ``SALT`` in it stands for a right salt, ``VALUE<…>`` for a right list with a value."""
    text = text.replace("VALUE<", '[SALT,"summary",').replace(">", "]")
    return text.replace("SALT", '"' + "s" * 21 + 'A"').encode("utf-8", "surrogatepass")


def test_what_keeps_to_the_page_opens_however_it_was_spelt() -> None:
    right = {name: forgery.disclosed(name, {"of": name}) for name in REPORT_COMPARTMENTS}
    assert opened(forgery.envelope(right)) == {name: {"of": name} for name in REPORT_COMPARTMENTS}
    for text, value in (
        (' [ SALT ,"summ\\u0061ry", 9007199254740992 ]\n', 2**53),
        ("VALUE<[[[[[[[[[]]]]]]]]]>", [[[[[[[[[]]]]]]]]]),
    ):
        assert opened(forgery.envelope({"summary": disclosed(text)})) == {"summary": value}


@pytest.mark.parametrize(
    ("said", "text", "code", "sentence"),
    [
        ("the name of another compartment", '[SALT,"account",1]', "not-as-signed", "claim of its compartment"),
        ("a name that is not known", '[SALT,"names",1]', "not-as-signed", "claim of its compartment"),
        ("a claim called as the digests", '[SALT,"_sd",["x"]]', "not-as-signed", "claim of its compartment"),
        ("a claim called as an array's digest", '[SALT,"...",1]', "not-as-signed", "claim of its compartment"),
        ("a claim that the header has", '[SALT,"area",1]', "not-as-signed", "claim of its own"),
        ("a name that is no text", "[SALT,1,2]", "not-as-signed", "claim of its own"),
        ("an array's element", "[SALT,1]", "not-as-signed", "claim of its own"),
        ("a list of four", '[SALT,"summary",1,2]', "not-as-signed", "claim of its own"),
        ("no list", '{"summary":1}', "not-as-signed", "claim of its own"),
        ("a salt of 15 bytes", '["AAAAAAAAAAAAAAAAAAAA","summary",1]', "not-as-signed", "salt"),
        ("a salt of 17 bytes", '["AAAAAAAAAAAAAAAAAAAAAAA","summary",1]', "not-as-signed", "salt"),
        ("no salt", '["","summary",1]', "not-as-signed", "salt"),
        ("a salt that is a number", '[1,"summary",1]', "not-as-signed", "salt"),
        ("a salt in a second spelling", '["AAAAAAAAAAAAAAAAAAAAAB","summary",1]', "malformed", "canonical"),
        ("a salt of other letters", '["AAAAAAAAAAAAAAAAAAAA+/","summary",1]', "malformed", "base64url"),
        ("a name twice", 'VALUE<{"a":1,"a":2}>', "duplicate-key", "twice"),
        ("a name twice in two spellings", 'VALUE<{"a":1,"\\u0061":2}>', "duplicate-key", "twice"),
        ("an integer beyond 2^53", "VALUE<9007199254740993>", "malformed", "integer"),
        ("an integer beyond -2^53", "VALUE<-9007199254740993>", "malformed", "integer"),
        ("NaN", "VALUE<NaN>", "malformed", "NaN"),
        ("infinity", "VALUE<-Infinity>", "malformed", "NaN"),
        ("a number too large", "VALUE<1e400>", "malformed", "too large"),
        ("a byte order mark", "\ufeffVALUE<1>", "malformed", "not JSON"),
        ("half a surrogate pair", 'VALUE<"\\ud800">', "malformed", "surrogate"),
        ("half a surrogate pair in UTF-8", 'VALUE<"\ud800">', "malformed", "not UTF-8"),
        ("half a surrogate pair as a name", 'VALUE<{"\\udfff":1}>', "malformed", "surrogate"),
        ("nesting without end", "VALUE<" + "[" * 10 + "]" * 10 + ">", "malformed", "nests deeper"),
        ("nesting beyond any parser", "[" * 20_000, "malformed", "not JSON"),
        ("two values", "VALUE<1>{}", "malformed", "not JSON"),
        ("nothing", "", "malformed", "not JSON"),
    ],
)
def test_a_disclosure_that_could_be_read_in_two_ways_is_refused_though_its_author_signed_it(
    said: str, text: str, code: str, sentence: str
) -> None:
    with pytest.raises(KengeleError) as caught:
        opened(forgery.envelope({"summary": disclosed(text)}))
    assert caught.value.code == code, said
    assert sentence in caught.value.sentence, said


CALM, CLAM = forgery.disclosed("summary", "calm"), forgery.disclosed("summary", "clam")
OTHERS = [forgery.absent() for _ in range(6)]
LENGTH = len(CALM).to_bytes(4, "big")


@pytest.mark.parametrize(
    ("said", "forged", "sentence"),
    [
        ("a text that no digest refers to", {"sd": sorted([forgery.absent(), *OTHERS])}, "did not sign"),
        ("a text other than the signed one", {"plain": {"summary": forgery.padded(CLAM, 512)}}, "did not sign"),
        ("a key to what is absent", {"granted": ["summary", "people"]}, "did not sign"),
        ("a name that is a claim already", {"claims": {**forgery.CLAIMS, "summary": 1}}, "claim of its own"),
        ("a byte at the end", {"plain": {"summary": (LENGTH + CALM).ljust(511, b"\0") + b"x"}}, "padding"),
        ("a byte right behind the text", {"plain": {"summary": (LENGTH + CALM + b" ").ljust(512, b"\0")}}, "padding"),
        ("a length beyond the blocks", {"plain": {"summary": (509).to_bytes(4, "big") + bytes(508)}}, "padding"),
        ("a length beyond all memory", {"plain": {"summary": b"\xff" * 4 + bytes(508)}}, "padding"),
    ],
)
def test_a_compartment_that_is_not_as_it_was_signed_is_refused(
    said: str, forged: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(Untrusted) as caught:
        opened(forgery.envelope({"summary": CALM}, **forged))
    assert caught.value.code == "not-as-signed", said
    assert sentence in caught.value.sentence, said


def test_one_disclosure_does_not_stand_for_two_compartments() -> None:
    twice = {"summary": CALM, "account": CALM}
    with pytest.raises(Untrusted, match="did not sign") as caught:
        opened(forgery.envelope(twice, sd=sorted([forgery.digest(CALM), *OTHERS])))
    assert caught.value.code == "not-as-signed"


def test_an_absent_compartment_opens_to_nothing_even_where_its_digest_is_that_of_nothing() -> None:
    digests = sorted([forgery.digest(b""), forgery.digest(CALM), *OTHERS[:5]])
    forged = forgery.envelope({"summary": CALM}, sd=digests, granted=["summary", "people"])
    with pytest.raises(Malformed):
        opened(forged)


THIEF = SigningKey(b"t" * 32)


def resigned(envelope: Envelope, **claims: Any) -> bytes:
    """``envelope``'s ciphertexts and wraps in a report of the thief's own."""
    body = {**envelope.claims, **claims, "_sd": envelope.sd, "_sd_alg": "sha-256", "ctr": envelope.ctr}
    payload = b64u(dumps(body))
    return forgery.signed(payload, envelope.ciphertexts, [list(wrap) for wrap in envelope.wraps], author=THIEF)


def test_what_another_signs_anew_under_its_own_name_does_not_open() -> None:
    envelope, public = parse(SMALL), bytes(THIEF.verify_key)
    for claims in ({}, {"id": "B" * 21 + "A"}, {"pol": 4}):
        stolen = parse(resigned(envelope, kid=monitor_id(public), **claims))
        verify(stolen, public)
        check_whole(stolen)
        with pytest.raises(CannotOpen):
            open_envelope(stolen, "alpha", [KEYS["alpha"]], public)


def test_what_another_signs_under_the_authors_name_does_not_verify() -> None:
    with pytest.raises(Untrusted) as caught:
        open_envelope(parse(resigned(parse(SMALL))), "alpha", [KEYS["alpha"]], PUBLIC)
    assert caught.value.code == "bad-signature"


@pytest.mark.parametrize("change", [{}, {"id": "B" * 21 + "A"}, {"pol": 4}, {"kid": monitor_id(bytes(32))}])
def test_neither_a_wrap_nor_a_ciphertext_opens_in_another_report(change: dict[str, Any]) -> None:
    readers = [Reader("alpha", KEYS["alpha"].public, ALL_BITS, 7)]
    here, there = (parse(seal(TENSION_REPORT, CLAIMS | other, CONTENTS, readers, AUTHOR)) for other in ({}, change))
    for ciphertexts, wraps in (
        (here.ciphertexts, there.wraps),
        (there.ciphertexts, here.wraps),
        (there.ciphertexts, there.wraps),
        (here.ciphertexts | {"place": there.ciphertexts["place"]}, here.wraps),
        (here.ciphertexts | {"place": here.ciphertexts["media"], "media": here.ciphertexts["place"]}, here.wraps),
    ):
        mixed = parse(assemble(here.protected, here.payload, here.signature, ciphertexts, wraps))
        with pytest.raises(CannotOpen):
            open_envelope(mixed, "alpha", [KEYS["alpha"]], PUBLIC)


def test_a_wrap_handedto_one_office_does_not_open_in_the_name_of_another_with_the_same_key() -> None:
    envelope = parse(SMALL)
    moved = [envelope.wraps[0]._replace(office="gamma")]
    data = assemble(envelope.protected, envelope.payload, envelope.signature, envelope.ciphertexts, moved)
    with pytest.raises(CannotOpen):
        open_envelope(parse(data), "gamma", [KEYS["alpha"]], PUBLIC)
