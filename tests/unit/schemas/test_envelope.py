"""The envelope: one spelling for one report, and nothing of it read before its type is known.

What is refused here is signed by its author and whole, so that only the rule under test can refuse it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_schemas.compartments import REPORT_COMPARTMENTS
from kengele_schemas.encoding import b64u, unb64u
from kengele_schemas.envelope import (
    MAX_ENVELOPE,
    MAX_READERS,
    TENSION_REPORT,
    Wrap,
    check_whole,
    core_of,
    ctr_of,
    parse,
    read_payload,
    strip,
    verify,
)
from kengele_schemas.errors import KengeleError, Malformed, Untrusted
from kengele_schemas.keys import HYBRID, X25519
from kengele_schemas.report import parse_header
from kengele_testing.forgery import CLAIMS, PUBLIC, absent, disclosed, envelope, signed

RIGHT = {"summary": disclosed("summary"), "account": disclosed("account")}
WHOLE = envelope(RIGHT)
WRAP_TEXT = {X25519: "A" * 375, HYBRID: "A" * 1826}


def admitted(data: bytes) -> dict[str, Any]:
    """What the hub does with a report before it looks at its rules."""
    found = parse(data)
    verify(found, PUBLIC)
    check_whole(found)
    return parse_header(found.claims).claims()


def refused(data: bytes) -> KengeleError:
    with pytest.raises(KengeleError) as caught:
        admitted(data)
    return caught.value


def test_what_keeps_to_the_page_is_admitted() -> None:
    assert admitted(WHOLE) == CLAIMS
    assert parse(WHOLE).encode() == WHOLE


def claim(name: str, value: str) -> Callable[[bytes], bytes]:
    return lambda body: body.replace(b'{"v":2', f'{{"v":2,"{name}":{value}'.encode(), 1)


def member(name: str, value: Any) -> Callable[[bytes], bytes]:
    """The payload with ``value`` for one of its last three members; None leaves it out."""

    def change(body: bytes) -> bytes:
        claims = json.loads(body) | {name: value}
        return json.dumps({key: item for key, item in claims.items() if item is not None}).encode()

    return change


DIGESTS = sorted(absent() for _ in range(8))


@pytest.mark.parametrize(
    ("said", "payload", "code"),
    [
        ("a claim of no name that is known", claim("lat", "40.5"), "bad-field"),
        ("a claim called as an array's digest", claim("...", '"x"'), "malformed"),
        ("digests within a claim", claim("tlp2", '{"_sd":["x"]}'), "bad-field"),
        ("an array's digest within a claim", claim("more", '[{"...":"x"}]'), "bad-field"),
        ("a claim said twice", claim("severity", "5"), "duplicate-key"),
        ("a claim said twice in two spellings", claim("\\u0073everity", "5"), "duplicate-key"),
        ("digests said twice", claim("_sd", "[]"), "duplicate-key"),
        ("an integer that two parsers read differently", claim("x", "9007199254740993"), "malformed"),
        ("no number", claim("x", "NaN"), "malformed"),
        ("half a surrogate pair", claim("x", '"\\ud800"'), "malformed"),
        ("half a surrogate pair as a name", claim("\\udfff", "1"), "malformed"),
        ("nesting without end", claim("x", "[" * 9 + "]" * 9), "malformed"),
        ("a byte order mark", lambda body: b"\xef\xbb\xbf" + body, "malformed"),
        ("another character set", lambda body: body.decode().encode("utf-16"), "malformed"),
        ("an array", lambda body: b"[" + body + b"]", "malformed"),
        ("a second value", lambda body: body + b"{}", "malformed"),
        ("more than the hub reads", claim("x", '"' + "x" * 16384 + '"'), "oversized"),
        ("another digest", member("_sd_alg", "sha-512"), "malformed"),
        ("no digest's name", member("_sd_alg", None), "malformed"),
        ("no digest of the ciphertexts", member("ctr", None), "malformed"),
        ("a digest of the ciphertexts in two spellings", member("ctr", "A" * 42 + "B"), "malformed"),
        ("no digests", member("_sd", None), "malformed"),
        ("a digest too few", member("_sd", DIGESTS[:6]), "malformed"),
        ("a digest too many", member("_sd", DIGESTS), "malformed"),
        ("a digest twice", member("_sd", [DIGESTS[0], *DIGESTS[:6]]), "malformed"),
        ("digests out of order", member("_sd", [*DIGESTS[1:7], DIGESTS[0]]), "malformed"),
        ("a digest in another spelling", member("_sd", [*DIGESTS[:6], "z" * 42 + "B"]), "malformed"),
        ("a digest that is no text", member("_sd", [*DIGESTS[:6], 1]), "malformed"),
    ],
)
def test_a_payload_that_could_be_read_in_two_ways_is_refused(
    said: str, payload: Callable[[bytes], bytes], code: str
) -> None:
    assert refused(envelope(RIGHT, payload=payload)).code == code, said


@pytest.mark.parametrize(
    "head",
    [
        '{"alg":"none","typ":"tension-report+sd-jwt"}',
        '{"alg":"EdDSA","typ":"tension-report+sd-jwt"}',
        '{"alg":"HS256","typ":"tension-report+sd-jwt"}',
        '{"alg":"Ed25519","typ":"tension-report"}',
        '{"typ":"tension-report+sd-jwt","alg":"Ed25519"}',
        '{"alg": "Ed25519","typ":"tension-report+sd-jwt"}',
        '{"alg":"Ed25519","typ":"tension-report+sd-jwt","crit":["exp"]}',
        '{"alg":"Ed25519","typ":"tension-report+sd-jwt","jwk":{}}',
        "",
    ],
)
def test_nothing_is_read_of_a_message_of_another_type_or_algorithm(head: str) -> None:
    data = signed("no payload at all", {}, [], b64u(head.encode()))
    assert refused(data).code == "unknown-type"


def outer(change: Callable[[dict[str, Any]], object]) -> bytes:
    value = json.loads(WHOLE)
    change(value)
    return json.dumps(value, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("said", "data"),
    [
        ("white space", WHOLE.replace(b",", b", ", 1)),
        ("a line's end", WHOLE + b"\n"),
        ("an escape", WHOLE.replace(b'"alpha"', b'"\\u0061lpha"')),
        ("half a surrogate pair, escaped", outer(lambda value: value.update(signature="\ud800"))),
        (
            "half a surrogate pair in a ciphertext",
            outer(lambda value: value["header"]["ct"].update(place="\udfff" * 400)),
        ),
        ("members in another order", outer(lambda value: value.update(payload=value.pop("payload")))),
        ("one member more", outer(lambda value: value.update(kid="x"))),
        ("one member less", outer(lambda value: value.pop("signature"))),
        ("a header with one more", outer(lambda value: value["header"].update(x=1))),
        ("wraps before ciphertexts", outer(lambda value: value["header"].update(ct=value["header"].pop("ct")))),
        ("no text for a signature", outer(lambda value: value.update(signature=1))),
        ("no text for a type", outer(lambda value: value.update(protected=["x"]))),
        ("no object", b"[]"),
        ("one more bracket", b"[" + WHOLE + b"]"),
    ],
)
def test_an_envelope_has_one_spelling(said: str, data: bytes) -> None:
    assert refused(data).code == "malformed", said


def ciphertext(name: str, change: Callable[[str], Any]) -> bytes:
    return envelope(RIGHT, parts=lambda ct, _w: ct.update({name: change(ct[name])}))


def respelt(text: str) -> str:
    """``text`` with its spare bits set: other characters, the same bytes to a careless reader."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) + 1]


@pytest.mark.parametrize(
    ("said", "data", "sentence"),
    [
        ("a space", ciphertext("summary", lambda text: " " + text[1:]), "not unpadded base64url"),
        ("base64's own letters", ciphertext("media", lambda text: "+/" + text[2:]), "not unpadded base64url"),
        ("padding", ciphertext("place", lambda text: text[:-1] + "="), "not unpadded base64url"),
        ("a letter beyond ASCII", ciphertext("place", lambda text: text[:-1] + "é"), "not unpadded base64url"),
        ("spare bits", ciphertext("place", respelt), "canonical"),
        ("a byte less", ciphertext("summary", lambda text: text[:-1]), "whole blocks"),
        ("a block and a half", ciphertext("place", lambda _: b64u(bytes(400))), "whole blocks"),
        ("nothing", ciphertext("place", lambda _: ""), "whole blocks"),
        ("no text", ciphertext("place", lambda _: None), "whole blocks"),
        ("one block too many", ciphertext("account", lambda _: b64u(bytes(257 * 256 + 16))), "whole blocks"),
        ("less than a summary's least", ciphertext("summary", lambda _: b64u(bytes(272))), "least size"),
        ("less than an account's least", ciphertext("account", lambda _: b64u(bytes(784))), "least size"),
        ("a compartment nobody knows", envelope(RIGHT, parts=lambda ct, _w: ct.update(x="A" * 363)), "unknown"),
        ("another order", envelope(RIGHT, parts=lambda ct, _w: ct.update(place=ct.pop("place"))), "out of order"),
    ],
)
def test_a_ciphertext_is_whole_blocks_in_one_spelling(said: str, data: bytes, sentence: str) -> None:
    error = refused(data)
    assert error.code == "malformed", said
    assert sentence in error.sentence, said


def wraps(*offices: str, suite: str = X25519, text: str | None = None) -> bytes:
    text = WRAP_TEXT.get(suite, "") if text is None else text
    return envelope(RIGHT, parts=lambda _ct, w: w.__setitem__(slice(None), [[name, suite, text] for name in offices]))


@pytest.mark.parametrize(
    ("said", "data", "sentence"),
    [
        ("out of order", wraps("beta", "alpha"), "not sorted"),
        ("one office twice", wraps("alpha", "alpha"), "not sorted"),
        ("no office's name", wraps("Alpha"), "not sorted"),
        ("a line's end in the name", wraps("alpha\n"), "not sorted"),
        ("a name without end", wraps("a" * 33), "not sorted"),
        ("an unknown suite", wraps("alpha", suite="P256", text="A" * 375), "suite"),
        ("another suite's length", wraps("alpha", suite=HYBRID, text="A" * 375), "suite"),
        ("a byte less", wraps("alpha", text="A" * 374), "suite"),
        ("a letter that is none", wraps("alpha", text="A" * 374 + "\x7f"), "not unpadded base64url"),
        ("a wrap of four", envelope(RIGHT, parts=lambda _ct, w: w[0].append("x")), "not a list of"),
        ("a wrap of numbers", envelope(RIGHT, parts=lambda _ct, w: w[0].__setitem__(0, 1)), "not a list of"),
        ("more offices than there is room", wraps(*(f"o{n:03}" for n in range(MAX_READERS + 1))), "more than 200"),
    ],
)
def test_wraps_are_sorted_and_of_one_length(said: str, data: bytes, sentence: str) -> None:
    error = refused(data)
    assert error.code == "malformed", said
    assert sentence in error.sentence, said


def test_two_hundred_offices_and_no_office_are_both_admitted() -> None:
    assert admitted(wraps(*(f"o{n:03}" for n in range(MAX_READERS)), suite=HYBRID)) == CLAIMS
    assert admitted(wraps()) == CLAIMS


def test_more_bytes_than_an_envelope_has_are_not_looked_at() -> None:
    assert refused(WHOLE.ljust(MAX_ENVELOPE + 1, b" ")).code == "oversized"
    assert refused(WHOLE.ljust(MAX_ENVELOPE, b" ")).code == "malformed"


@pytest.mark.parametrize("signature", ["", "A" * 85, "A" * 86, "A" * 87, "A" * 88])
def test_a_signature_of_no_known_length_verifies_nothing(signature: str) -> None:
    assert refused(outer(lambda value: value.update(signature=signature))).code in ("bad-signature", "malformed")


def test_a_report_put_under_anothers_name_does_not_verify() -> None:
    payload = unb64u(parse(WHOLE).payload).replace(CLAIMS["kid"].encode(), b"m-" + b"a" * 26)
    data = outer(lambda value: value.update(payload=b64u(payload)))
    with pytest.raises(Untrusted) as caught:
        verify(parse(data), PUBLIC)
    assert caught.value.code == "bad-signature"


def test_what_is_left_out_or_put_elsewhere_on_the_way_is_noticed() -> None:
    other = parse(envelope(RIGHT))
    for change in (
        lambda header: header["ct"].pop("media"),
        lambda header: header["w"].clear(),
        lambda header: header["w"].append(["beta", X25519, header["w"][0][2]]),
        lambda header: header["w"][0].__setitem__(0, "beta"),
        lambda header: header["w"].__setitem__(0, list(other.wraps[0])),
        lambda header: header["ct"].update(place=header["ct"]["media"], media=header["ct"]["place"]),
        lambda header: header["ct"].update(source=other.ciphertexts["source"]),
    ):
        found = parse(outer(lambda value, change=change: change(value["header"])))
        verify(found, PUBLIC)
        with pytest.raises(Untrusted) as caught:
            check_whole(found)
        assert caught.value.code == "not-whole"


def test_an_author_who_leaves_a_compartment_out_is_refused_so_that_absence_never_shows() -> None:
    assert refused(envelope(RIGHT, parts=lambda ct, _w: ct.pop("media"))).code == "not-whole"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from((*REPORT_COMPARTMENTS, "_sd", "x"))), st.sampled_from(("alpha", "beta", "", "alph")))
def test_whatever_is_stripped_the_rest_is_an_envelope_of_the_same_report(kept: list[str], office: str) -> None:
    whole = parse(WHOLE)
    left = parse(strip(whole, office, kept))
    assert left.ciphertexts == {name: text for name, text in whole.ciphertexts.items() if name in kept}
    assert left.wraps == tuple(wrap for wrap in whole.wraps if wrap.office == office)
    assert (left.digest, left.core, left.claims) == (whole.digest, whole.core, whole.claims)
    verify(left, PUBLIC)
    assert strip(left, office, kept) == left.encode()


PARTS = st.fixed_dictionaries(
    {"net": st.text(max_size=3), "kid": st.text(max_size=3), "id": st.text(max_size=3), "pol": st.integers(0, 300)},
)
SD = st.lists(st.text(max_size=2), max_size=3)


@settings(max_examples=100, deadline=None)
@given(PARTS, SD, PARTS, SD)
def test_two_reports_have_one_core_only_if_all_that_it_binds_is_the_same(
    one: dict[str, Any], one_sd: list[str], two: dict[str, Any], two_sd: list[str]
) -> None:
    same = (one, one_sd) == (two, two_sd)
    assert (core_of(TENSION_REPORT, one, one_sd) == core_of(TENSION_REPORT, two, two_sd)) == same


def test_no_letter_can_move_from_one_part_to_its_neighbour() -> None:
    assert ctr_of({"a": "bc"}, ()) != ctr_of({"ab": "c"}, ())
    assert ctr_of({}, (Wrap("a", "bc", "d"),)) != ctr_of({}, (Wrap("ab", "c", "d"),))
    assert core_of(TENSION_REPORT, {"net": "ab", "kid": "c"}, ()) != core_of(
        TENSION_REPORT, {"net": "a", "kid": "bc"}, ()
    )
    assert core_of(TENSION_REPORT, {"kid": "ab", "id": "c", "pol": 1}, ()) != core_of(
        TENSION_REPORT, {"kid": "a", "id": "bc", "pol": 1}, ()
    )


def test_claims_are_handed_on_without_what_the_format_itself_put_there() -> None:
    claims, sd, ctr = read_payload(TENSION_REPORT, parse(WHOLE).payload)
    assert claims == CLAIMS
    assert (len(sd), len(ctr)) == (7, 43)
    with pytest.raises(Malformed):
        read_payload(TENSION_REPORT, parse(WHOLE).payload + "=")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_an_envelope_with_anything_in_the_place_of_a_part_is_refused(data: st.DataObject) -> None:
    values = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=4), st.just([]), st.just({}))
    value = json.loads(WHOLE)
    at = data.draw(
        st.sampled_from(("protected", "payload", "signature", "header", "ct", "w", "ct/place", "w/0", "w/0/0"))
    )
    place: Any = value if at.partition("/")[0] in value else value["header"]
    *path, last = at.split("/")
    for step in path:
        place = place[int(step) if step.isdigit() else step]
    place[int(last) if last.isdigit() else last] = data.draw(values)
    changed = json.dumps(value, separators=(",", ":")).encode()
    with pytest.raises(KengeleError):
        admitted(changed)
