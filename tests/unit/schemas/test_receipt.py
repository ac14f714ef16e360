"""Receipts: a proof or a signed refusal about the very bytes that were sent, or nothing that is believed."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from kengele_schemas.checkpoint import sign_checkpoint, write_proof
from kengele_schemas.compartments import ALL_BITS
from kengele_schemas.encoding import b64u, canonical, dumps, loads
from kengele_schemas.errors import Malformed, Untrusted
from kengele_schemas.merkle import Tree, leaf_hash
from kengele_schemas.receipt import (
    ACCEPTED,
    CODES,
    MAX_DECISIONS,
    MAX_RECEIPT,
    MAX_RETRY,
    RETRY_AFTER,
    Leaf,
    Receipt,
    accepted,
    read_leaf,
    read_receipt,
    refused,
)
from kengele_schemas.tiles import bundle, read_bundle

HUB = SigningKey(bytes(range(32)))
PUBLIC = bytes(HUB.verify_key)
STRANGER = SigningKey(bytes(range(1, 33)))
ORIGIN = "kengele/test"
ID = "A" * 22
DIGEST = hashlib.sha256(b"what is signed").digest()
SENT = hashlib.sha256(b"all that was sent").digest()
OTHER = hashlib.sha256(b"something else").digest()
LEAF = Leaf(
    salt="B" * 21 + "A",
    digest=b64u(DIGEST),
    bytes=b64u(SENT),
    policy=3,
    at="2026-11-01T12:00:00Z",
    decisions=(("unowas", 0b11, 0, ("one", "two")), ("unrcca", 0b111, ALL_BITS & ~0b111, ())),
)


def logged(leaf: bytes, *, key: SigningKey = HUB, origin: str = ORIGIN, entry: bytes | None = None, at: int = 3) -> str:
    """A proof that ``leaf``, or ``entry`` in its stead, is in a log of five."""
    tree = Tree()
    for number in range(5):
        tree.append(leaf_hash((leaf if entry is None else entry) if number == at else bytes([number])))
    return write_proof(at, tree.inclusion(at), sign_checkpoint(origin, tree.size, tree.root(), key))


def receipt(leaf: Leaf = LEAF, *, repeat: bool = False, **how: Any) -> bytes:
    raw = leaf.canonical()
    return accepted(ID, DIGEST, SENT, raw, logged(raw, **how), repeat=repeat)


def refusal(code: str = "over-quota", *, retry_after: int | None = None, key: SigningKey = HUB) -> bytes:
    return refused(code, ID, DIGEST, SENT, retry_after=retry_after, key=key)


def signed(body: dict[str, Any], key: SigningKey = HUB) -> bytes:
    """A refusal with these members, as a hub of another version might write it."""
    return dumps({**body, "signature": b64u(key.sign(b"kengele-refusal-v1\0" + canonical(body)).signature)})


def body_of(data: bytes) -> dict[str, Any]:
    document: dict[str, Any] = loads(data, max_bytes=MAX_RECEIPT)
    document.pop("signature", None)
    return document


def taken(data: bytes, hub: bytes = PUBLIC, origin: str = ORIGIN, sent: bytes = SENT) -> Receipt | None:
    """The receipt, None where it is refused as it must be."""
    try:
        return read_receipt(data, hub, origin, sent)
    except Untrusted as error:
        if error.code != "bad-receipt":
            raise
        return None


@pytest.mark.parametrize("repeat", [False, True])
def test_an_accepted_report_comes_back_with_its_place_in_the_log(repeat: bool) -> None:
    found = read_receipt(receipt(repeat=repeat), PUBLIC, ORIGIN, SENT)
    assert found == Receipt(ACCEPTED, CODES[ACCEPTED].sentence, "", False, None, LEAF, 3, repeat)
    assert found.accepted


def test_an_accepted_receipt_is_written_as_the_wire_format_says() -> None:
    raw = LEAF.canonical()
    assert body_of(receipt()) == {
        "v": 1,
        "code": "accepted",
        "id": ID,
        "digest": b64u(DIGEST),
        "bytes": b64u(SENT),
        "leaf": raw.decode(),
        "proof": logged(raw),
        "repeat": False,
    }
    assert raw == (
        b'{"at":"2026-11-01T12:00:00Z","bytes":"%s","decisions":[["unowas",3,0,["one","two"]],["unrcca",7,120,[]]],'
        b'"digest":"%s","kind":"report","policy":3,"salt":"BBBBBBBBBBBBBBBBBBBBBA","v":1}'
        % (b64u(SENT).encode(), b64u(DIGEST).encode())
    )


@pytest.mark.parametrize("code", [code for code in CODES if code != ACCEPTED])
def test_every_refusal_comes_back_with_its_sentence(code: str) -> None:
    found = read_receipt(refusal(code), PUBLIC, ORIGIN, SENT)
    told = CODES[code]
    assert found == Receipt(code, told.sentence, told.mend, told.retryable, RETRY_AFTER.get(code))
    assert not found.accepted


def test_every_refusal_tells_a_person_what_happened_and_what_to_do() -> None:
    for code, (sentence, mend, _) in CODES.items():
        assert sentence.endswith("."), code
        assert mend.endswith(".") or code == ACCEPTED, code
    assert set(RETRY_AFTER) <= {code for code, told in CODES.items() if told.retryable}


@pytest.mark.parametrize("code", ["", "accepted", "no-such-code"])
def test_a_hub_that_knows_no_such_code_says_malformed(code: str) -> None:
    assert read_receipt(refusal(code), PUBLIC, ORIGIN, SENT).code == "malformed"


@pytest.mark.parametrize(
    ("code", "retry_after", "told"),
    [
        ("over-quota", None, None),
        ("over-quota", 90, 90),
        ("over-quota", 0, 0),
        ("over-quota", 10**9, MAX_RETRY),
        ("storage-full", None, 60),
        ("storage-full", 1, 1),
        ("stale-policy", None, 0),
        ("malformed", None, None),
    ],
)
def test_the_hub_says_when_to_try_again(code: str, retry_after: int | None, told: int | None) -> None:
    assert read_receipt(refusal(code, retry_after=retry_after), PUBLIC, ORIGIN, SENT).retry_after == told


def test_a_report_that_could_not_be_read_is_refused_without_its_id() -> None:
    data = refused("malformed", None, None, SENT, retry_after=None, key=HUB)
    assert (body_of(data)["id"], body_of(data)["digest"]) == (None, None)
    assert read_receipt(data, PUBLIC, ORIGIN, SENT).code == "malformed"


def test_a_code_of_tomorrow_is_told_in_the_hubs_own_words_and_nothing_is_given_up_for_it() -> None:
    body = {**body_of(refusal()), "code": "quarantined", "sentence": "Wait.", "mend": "Nothing.", "retry_after": 7}
    assert read_receipt(signed(body), PUBLIC, ORIGIN, SENT) == Receipt("quarantined", "Wait.", "Nothing.", False, 7)
    assert taken(signed(body, STRANGER)) is None


def test_a_known_code_is_told_in_our_own_words() -> None:
    found = read_receipt(signed({**body_of(refusal()), "sentence": "Send your key."}), PUBLIC, ORIGIN, SENT)
    assert found.sentence == CODES["over-quota"].sentence


FOREIGN: list[tuple[str, bytes]] = [
    ("another hub's proof", receipt(key=STRANGER)),
    ("another log's", receipt(origin="kengele/other")),
    ("a proof of another entry", receipt(entry=b"another")),
    ("no proof", accepted(ID, DIGEST, SENT, LEAF.canonical(), "", repeat=False)),
    ("a leaf about other bytes", receipt(LEAF.model_copy(update={"bytes": b64u(OTHER)}))),
    ("a leaf about another report", receipt(LEAF.model_copy(update={"digest": b64u(OTHER)}))),
    (
        "a leaf in another spelling",
        accepted(ID, DIGEST, SENT, b" " + LEAF.canonical(), logged(b" " + LEAF.canonical()), repeat=False),
    ),
    ("a leaf of another kind", accepted(ID, DIGEST, SENT, b"{}", logged(b"{}"), repeat=False)),
    ("another report's digest", dumps({**body_of(receipt()), "digest": b64u(OTHER)})),
    ("other bytes", dumps({**body_of(receipt()), "bytes": b64u(OTHER)})),
    ("a member more", dumps({**body_of(receipt()), "x": 1})),
    ("a member less", dumps({name: value for name, value in body_of(receipt()).items() if name != "repeat"})),
    ("another version", dumps({**body_of(receipt()), "v": 2})),
    ("another hub's refusal", refusal(key=STRANGER)),
    ("a refusal unsigned", dumps(body_of(refusal()))),
    ("a refusal with no signature in it", dumps({**body_of(refusal()), "signature": ""})),
    ("a refusal signed as something else", dumps({**body_of(refusal()), "signature": b64u(HUB.sign(b"x").signature)})),
    ("a refusal of other bytes", refused("malformed", ID, DIGEST, OTHER, retry_after=None, key=HUB)),
    ("a refusal with a member more", signed({**body_of(refusal()), "x": 1})),
    ("a refusal of another version", signed({**body_of(refusal()), "v": 2})),
    ("a refusal to wait for a year", signed({**body_of(refusal()), "retry_after": 365 * 24 * 3600})),
    ("a refusal to wait for less than nothing", signed({**body_of(refusal()), "retry_after": -1})),
    ("a refusal of endless words", signed({**body_of(refusal()), "code": "new", "sentence": "a" * 501})),
    ("accepted by a signature only", signed({**body_of(refusal()), "code": "accepted"})),
    ("a refusal that holds a proof", signed({**body_of(receipt()), "code": "malformed"})),
    ("nothing", b""),
    ("null", b"null"),
    ("a list", b"[]"),
    ("an empty object", b"{}"),
    ("a code that is none", b'{"code":["accepted"]}'),
    ("two codes", receipt().replace(b'{"v":1,', b'{"v":1,"code":"accepted",', 1)),
    ("too much", receipt() + b" " * MAX_RECEIPT),
]


@pytest.mark.parametrize(("_sentence", "data"), FOREIGN, ids=[sentence for sentence, _ in FOREIGN])
def test_what_is_not_this_hubs_word_on_these_bytes_is_not_believed(_sentence: str, data: bytes) -> None:
    with pytest.raises(Untrusted) as caught:
        read_receipt(data, PUBLIC, ORIGIN, SENT)
    assert caught.value.code == "bad-receipt"


@pytest.mark.parametrize("data", [receipt(), refusal()], ids=["accepted", "refused"])
def test_a_true_receipt_speaks_to_those_who_sent_these_bytes_to_this_hub(data: bytes) -> None:
    assert taken(data) is not None
    assert taken(data, sent=OTHER) is None
    assert taken(data, hub=bytes(STRANGER.verify_key)) is None
    assert taken(data, hub=b"") is None
    assert (taken(data, origin="kengele/other") is None) == (data == receipt())


def proved(found: Receipt) -> tuple[object, ...]:
    """All of a receipt but ``repeat``, which is a courtesy and not proved."""
    return (found.code, found.sentence, found.mend, found.retryable, found.retry_after, found.leaf, found.index)


PIECES = [bytes([code]) for code in range(32, 127)]
PIECES += [b"", b"\xff", b"\\u0041", b"\\ud800", b"null", b"1e9", b"[" * 99]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([receipt(), refusal()]), st.integers(0, 2000), st.sampled_from(PIECES), st.integers(0, 3))
def test_no_change_makes_a_receipt_say_anything_else(data: bytes, at: int, piece: bytes, cut: int) -> None:
    at %= len(data)
    found = taken(data[:at] + piece + data[at + cut :])
    original = taken(data)
    assert original is not None
    assert found is None or proved(found) == proved(original)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([receipt(), refusal()]),
    st.sampled_from(["v", "code", "id", "digest", "bytes", "leaf", "proof", "repeat", "retry_after", "signature"]),
    JSON,
)
@example(receipt(), "proof", "\ud800")
@example(receipt(), "leaf", "\ud800")
@example(refusal(), "code", "\ud800")
@example(refusal(), "code", None)
@example(refusal(), "signature", "é")
def test_no_value_in_any_member_raises_anything_else(data: bytes, name: str, value: Any) -> None:
    document = {**body_of(data), "signature": loads(data, max_bytes=MAX_RECEIPT).get("signature"), name: value}
    if "leaf" in document and name != "signature":
        del document["signature"]
    try:
        changed = dumps(document)
    except ValueError:  # JSON has no NaN, and UTF-8 no half surrogate
        changed = repr(document).encode("utf-8", "surrogatepass")
    found = taken(changed)
    assert found is None or name in ("id", "repeat") or value == loads(data, max_bytes=MAX_RECEIPT)[name]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | JSON.map(repr).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_garbage_is_no_receipt(data: bytes) -> None:
    assert taken(data) is None


def test_the_largest_leaf_there_can_be_fits_a_receipt_and_the_log() -> None:
    # The most of everything, spelt at the greatest length: see the two cases of one more in BAD_LEAVES.
    decisions = tuple(
        (f"{office:a>32}", ALL_BITS, ALL_BITS, tuple(f"{office}-{number:z>28}" for number in range(6)))
        for office in range(100, 100 + MAX_DECISIONS)
    )
    largest = Leaf.model_validate(
        {
            **LEAF.model_dump(),
            "kind": "recall",
            "recalls": b64u(OTHER),
            "policy": 2**53,
            "decisions": decisions,
        }
    )
    raw = largest.canonical()
    assert read_leaf(raw) == largest
    proof = "x" * 4096  # the longest there is has 63 hashes
    assert len(accepted(ID, DIGEST, SENT, raw, proof, repeat=False)) < MAX_RECEIPT
    assert read_bundle(bundle([raw])) == [raw]


BAD_LEAVES: list[tuple[str, dict[str, Any]]] = [
    ("another version", {"v": 2}),
    ("another kind", {"kind": "trust"}),
    ("no salt", {"salt": ""}),
    ("a salt of spare bits", {"salt": "B" * 22}),
    ("a short digest", {"digest": "A" * 42}),
    ("a policy below 0", {"policy": -1}),
    ("a time with another zone", {"at": "2026-11-01T12:00:00+00:00"}),
    ("a time with a line after it", {"at": "2026-11-01T12:00:00Z\n"}),
    ("an office that cannot be", {"decisions": [["UNRCCA", 1, 0, []]]}),
    ("a compartment that cannot be", {"decisions": [["unrcca", ALL_BITS + 1, 0, []]]}),
    ("a decision too short", {"decisions": [["unrcca", 1, 0]]}),
    ("a rule that cannot be", {"decisions": [["unrcca", 1, 0, ["One"]]]}),
    ("a rule of a longer name than there is", {"decisions": [["unrcca", 1, 0, ["a" * 33]]]}),
    ("more rules than compartments", {"decisions": [["unrcca", 1, 0, ["a", "b", "c", "d", "e", "f", "g"]]]}),
    ("more decisions than offices", {"decisions": [["unrcca", 1, 0, []]] * 201}),
    ("a text in it", {"text": "content"}),
]


@pytest.mark.parametrize(("_sentence", "change"), BAD_LEAVES, ids=[sentence for sentence, _ in BAD_LEAVES])
def test_a_leaf_says_what_leaves_say_and_no_more(_sentence: str, change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        read_leaf(canonical({**LEAF.model_dump(mode="json"), **change}))


def test_a_leaf_has_one_spelling() -> None:
    raw = LEAF.canonical()
    assert read_leaf(raw) == LEAF
    document = loads(raw, max_bytes=MAX_RECEIPT)
    for other in (dumps(dict(reversed(document.items()))), raw + b"\n", raw.replace(b"unrcca", b"\\u0075nrcca")):
        with pytest.raises(Malformed):
            read_leaf(other)
