"""Shares: who made one, for whom, of what; nobody else's counts, and none opens anything elsewhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from kengele_schemas.compartments import ALL_BITS, bitmap, names
from kengele_schemas.encoding import b64u, canonical, loads
from kengele_schemas.envelope import TENSION_REPORT, Envelope, Wrap, assemble, parse, strip
from kengele_schemas.errors import CannotOpen, KengeleError, Malformed, Untrusted
from kengele_schemas.keys import HYBRID, X25519, OpeningKey
from kengele_schemas.sealing import Reader, open_envelope, seal
from kengele_schemas.sharing import is_shared, join, make_share, open_held, read_share, split, verified
from kengele_schemas.trusted import UNNAMED
from kengele_testing.values import HUB, KEYS, KID, LOG, MONITOR, TODAY, grant, monitor, network, office

CUSTODIAN = SigningKey(b"c" * 32)
OFFICES = [office("unrcca", sign=b64u(bytes(CUSTODIAN.verify_key))), office("council"), office("cso")]
RULES = network(grant(), offices=OFFICES)
AUTHOR = bytes(MONITOR.verify_key)
CONTENTS = {name: {"text": name, "lang": "en"} for name in ("summary", "account")}


def report(report_id: str = "A" * 22) -> tuple[Envelope, dict[str, bytes]]:
    """A report sealed for UNRCCA, and the keys of what is in it."""
    claims = {"v": 2, "net": UNNAMED, "id": report_id, "kid": KID, "kind": "report", "pol": 1}
    spare: dict[str, bytes] = {}
    reader = Reader("unrcca", KEYS["unrcca"].public, ALL_BITS, 1)
    return parse(seal(TENSION_REPORT, claims, CONTENTS, [reader], MONITOR, spare=spare)), spare


WHOLE, SPARE = report()


def share(envelope: Envelope = WHOLE, keys: dict[str, bytes] = SPARE, **changes: Any) -> bytes:
    """A share for the council, as the author makes one."""
    key = changes.pop("key", MONITOR)
    reader = changes.pop("reader", Reader("council", KEYS["council"].public, ALL_BITS))
    said = {
        "report": envelope.claims["id"],
        "core": envelope.core,
        "by": KID,
        "network": LOG,
        "day": TODAY,
        **changes,
    }
    return make_share(reader, keys, key=key, **said)


def bare(envelope: Envelope = WHOLE, compartments: tuple[str, ...] = ("summary", "account")) -> bytes:
    """The envelope as it stands behind a share: without a wrap."""
    return strip(envelope, "", compartments)


@pytest.mark.parametrize("suite", [X25519, HYBRID])
def test_what_is_shared_opens_to_what_its_author_signed(suite: str) -> None:
    key = OpeningKey.generate(suite)
    made = share(reader=Reader("council", key.public, ALL_BITS))
    data = join([made], bare())
    assert is_shared(data)
    assert split(data) == ([made], bare())
    assert verified(made, WHOLE, RULES)[1] == "author"
    envelope, opened = open_held(data, "council", [key], AUTHOR)
    assert envelope.digest == WHOLE.digest
    assert opened.contents == CONTENTS
    assert (opened.counter, opened.withheld, opened.keys) == (None, (), SPARE)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, ALL_BITS), st.integers(0, ALL_BITS))
def test_a_share_opens_no_more_than_is_in_it_and_was_passed_on(granted: int, passed: int) -> None:
    made = share(reader=Reader("council", KEYS["council"].public, granted))
    _, opened = open_held(join([made], bare(compartments=names(passed))), "council", [KEYS["council"]], AUTHOR)
    assert set(opened.contents) == set(names(granted & passed)) & set(CONTENTS)
    assert set(opened.withheld) == set(names(granted & ~passed)) & set(CONTENTS)


def test_only_the_author_and_the_custodian_share() -> None:
    assert verified(share(by="unrcca", key=CUSTODIAN), WHOLE, RULES)[1] == "custodian"
    for by, key, code in (
        ("council", HUB, "not-the-sharer"),
        ("m-" + "b" * 26, MONITOR, "not-the-sharer"),
        (KID, HUB, "bad-signature"),
        (KID, CUSTODIAN, "bad-signature"),
        ("unrcca", HUB, "bad-signature"),
        ("unrcca", MONITOR, "bad-signature"),
    ):
        with pytest.raises(Untrusted) as caught:
            verified(share(by=by, key=key), WHOLE, RULES)
        assert caught.value.code == code


def test_another_monitor_does_not_share_what_is_not_hers() -> None:
    other = SigningKey(b"o" * 32)
    rules = network(grant(), offices=OFFICES, monitors=[monitor(), monitor(other)])
    with pytest.raises(Untrusted) as caught:
        verified(share(by=monitor(other)["kid"], key=other), WHOLE, rules)
    assert caught.value.code == "not-the-sharer"


def test_a_share_speaks_of_one_report_of_one_network() -> None:
    another, _ = report("B" * 21 + "A")
    anew, _ = report()
    for made, envelope in (
        (share(), another),
        (share(), anew),
        (share(report="B" * 21 + "A"), WHOLE),
        (share(core=another.core), WHOLE),
        (share(network="kengele/other"), WHOLE),
    ):
        with pytest.raises(Untrusted) as caught:
            verified(made, envelope, RULES)
        assert caught.value.code == "not-as-shared"


def test_a_shared_wrap_opens_under_nobody_elses_name_nor_as_the_authors_first_word() -> None:
    wrap = Wrap(*read_share(share()).later[1])
    first = parse(assemble(WHOLE.protected, WHOLE.payload, WHOLE.signature, WHOLE.ciphertexts, [wrap]))
    for envelope, reader, shared in (
        (first, "council", []),
        (parse(bare()), "council", [("unrcca", wrap)]),
        (parse(bare()), "cso", [(KID, wrap)]),
        (report()[0], "council", [(KID, wrap)]),
    ):
        with pytest.raises(CannotOpen):
            open_envelope(envelope, reader, [KEYS["council"]], AUTHOR, shared)
    # And one that its author made at first does not pass for one that was shared.
    own = WHOLE.wrap_for("unrcca")
    assert own is not None
    with pytest.raises(CannotOpen):
        open_envelope(parse(bare()), "unrcca", [KEYS["unrcca"]], AUTHOR, [(KID, own)])


def test_a_wrap_with_other_keys_opens_nothing_and_spoils_nothing() -> None:
    lie = share(by="unrcca", key=CUSTODIAN, keys={name: bytes(32) for name in SPARE})
    with pytest.raises(CannotOpen):
        open_held(join([lie], bare()), "council", [KEYS["council"]], AUTHOR)
    _, opened = open_held(join([lie, share()], bare()), "council", [KEYS["council"]], AUTHOR)
    assert opened.contents == CONTENTS
    assert opened.keys == SPARE


def test_keys_kept_are_those_of_what_was_written() -> None:
    assert set(SPARE) == set(CONTENTS)
    made = share(keys={"summary": SPARE["summary"]})
    _, opened = open_held(join([made], bare()), "council", [KEYS["council"]], AUTHOR)
    assert set(opened.contents) == {"summary"}
    assert bitmap(opened.keys) == bitmap(["summary"])


GOOD = loads(share(), max_bytes=4096)


@pytest.mark.parametrize(
    ("sentence", "data"),
    [
        ("nothing", b""),
        ("no object", b"[]"),
        ("another spelling", json.dumps(GOOD).encode()),
        ("no signature", canonical({name: value for name, value in GOOD.items() if name != "signature"})),
        ("a member besides", canonical({**GOOD, "note": "x"})),
        ("a wrap that is none", canonical({**GOOD, "wrap": "A" * 22})),
        ("a wrap of the other suite", canonical({**GOOD, "suite": HYBRID})),
        ("a wrap in other letters", canonical({**GOOD, "wrap": "=" + str(GOOD["wrap"])[1:]})),
        ("a suite that there is not", canonical({**GOOD, "suite": "none"})),
        ("a day that is none", canonical({**GOOD, "day": "today"})),
        ("more than a share has", canonical({**GOOD, "wrap": "A" * 5000})),
    ],
)
def test_what_is_no_share_is_refused(sentence: str, data: bytes) -> None:
    with pytest.raises(Malformed):
        read_share(data)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(share()) - 1), st.integers(1, 255))
def test_no_byte_of_a_share_can_be_changed_unnoticed(at: int, by: int) -> None:
    made = share()
    at %= len(made)
    with pytest.raises(KengeleError):
        verified(made[:at] + bytes([made[at] ^ by]) + made[at + 1 :], WHOLE, RULES)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from(sorted(loads(share(), max_bytes=65536))),
    st.none() | st.booleans() | st.integers(-9, 9) | st.lists(st.text(max_size=4), max_size=2) | st.just({"a": "b"}),
)
def test_garbage_raises_nothing_but_our_errors(data: bytes, name: str, value: Any) -> None:
    # The last gets past the reader of JSON and the one spelling. ``true`` is not 1 there, as it is for Python.
    whole = loads(share(), max_bytes=65536)
    assume((type(whole[name]), whole[name]) != (type(value), value))
    inside = canonical({**whole, name: value})
    for garbage in (data, b'{"by":' + data, share()[:100] + data, inside):
        with pytest.raises(KengeleError):
            read_share(garbage)
