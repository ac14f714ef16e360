"""nkeys against published vectors, and every slip of the pen refused."""

from __future__ import annotations

import base64
import binascii

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_schemas import nkeys
from kengele_schemas.errors import Malformed
from kengele_schemas.nkeys import KeyPair, Kind

# github.com/nats-io/nkeys, README of the command nk: seed, public key, signature over the file "Hello World!\n".
SEED = "SUAKYRHVIOREXV7EUZTBHUHL7NUMHPMAS7QMDU3GTIUWEI5LDNOXD43IZY"
PUBLIC = "UD466L6EBCM3YY5HEGHJANNTN4LSKTSUXTH7RILHCKEQMQHTBNLHJJXT"
SIGNATURE = "0CK1XmkxNfUGfudxliWTWeoETgIo23m9qowS9yTfYFSrjR8HgAW63jQ3NxPU_jG38hZPW61IZSun37N690CkDg"
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
KINDS: list[Kind] = ["operator", "account", "user"]


def test_a_published_seed_gives_its_published_public_key_and_signature() -> None:
    key = KeyPair.from_seed(SEED)

    assert key.public == PUBLIC
    assert base64.urlsafe_b64encode(key.sign(b"Hello World!\n")).rstrip(b"=").decode() == SIGNATURE


@pytest.mark.parametrize(("kind", "letter"), [("operator", "O"), ("account", "A"), ("user", "U")])
def test_the_first_letters_say_what_a_key_is_for(kind: Kind, letter: str) -> None:
    key = KeyPair.generate(kind)

    assert key.seed.startswith("S" + letter)
    assert len(key.seed) == 58
    assert key.public.startswith(letter)
    assert len(key.public) == 56
    assert KeyPair.from_seed(key.seed) == key
    assert nkeys.encode_public(kind, nkeys.decode_public(key.public, kind)) == key.public


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wanted", KINDS)
def test_a_key_passes_only_for_its_own_kind(kind: Kind, wanted: Kind) -> None:
    public = KeyPair.generate(kind).public

    if kind == wanted:
        assert len(nkeys.decode_public(public, wanted)) == 32
    else:
        with pytest.raises(Malformed):
            nkeys.decode_public(public, wanted)


@settings(max_examples=60)
@given(st.integers(0, 55), st.sampled_from(ALPHABET))
def test_no_single_wrong_character_goes_unnoticed_in_a_public_key(place: int, character: str) -> None:
    wrong = PUBLIC[:place] + character + PUBLIC[place + 1 :]
    if wrong != PUBLIC:
        with pytest.raises(Malformed):
            nkeys.decode_public(wrong)


@settings(max_examples=60)
@given(st.integers(0, 57), st.sampled_from(ALPHABET))
def test_no_single_wrong_character_goes_unnoticed_in_a_seed(place: int, character: str) -> None:
    # The last character holds three spare bits: there, too, only one spelling is the seed.
    wrong = SEED[:place] + character + SEED[place + 1 :]
    if wrong != SEED:
        with pytest.raises(Malformed):
            KeyPair.from_seed(wrong)


@pytest.mark.parametrize(
    "text",
    ["", "U", PUBLIC[:-1], PUBLIC + "A", PUBLIC.lower(), PUBLIC + "\n", " " + PUBLIC, "N" + PUBLIC[1:], SEED, "Ü" * 56],
)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        nkeys.decode_public(text)


@pytest.mark.parametrize("text", ["", "SU", SEED[:-1], SEED + "A", SEED.lower(), SEED + "\n", "SN" + SEED[2:], PUBLIC])
def test_what_is_no_seed_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        KeyPair.from_seed(text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_of_no_kind_or_with_bits_beside_its_kind_is_refused(kind: Kind) -> None:
    """The text looks like one and its checksum is right: the two bytes before the key are looked at whole."""
    key = KeyPair.generate(kind)
    (first, second, *_), taken = base64.b32decode(key.seed + "=" * 6), []
    for other in range(256):
        data = bytes((first, other)) + key.key
        text = base64.b32encode(data + binascii.crc_hqx(data, 0).to_bytes(2, "little")).decode().rstrip("=")
        if text[1] != key.seed[1]:
            continue
        try:
            taken.append((other, KeyPair.from_seed(text)))
        except Malformed:
            assert other != second
    assert taken == [(second, key)]


def test_a_public_key_that_is_a_point_of_small_order_is_refused() -> None:
    for small in (bytes(32), b"\x01" + bytes(31)):
        with pytest.raises(Malformed, match="not a valid Ed25519 key"):
            nkeys.decode_public(nkeys.encode_public("user", small))


def test_only_its_own_key_verifies_a_signature() -> None:
    key, other = KeyPair.generate("user"), KeyPair.generate("user")
    signature = key.sign(b"a nonce")

    assert nkeys.verify(key.public, b"a nonce", signature)
    assert not nkeys.verify(other.public, b"a nonce", signature)
    assert not nkeys.verify(key.public, b"another", signature)


def test_a_seed_does_not_show_in_the_representation() -> None:
    assert SEED not in repr(KeyPair.from_seed(SEED))


@settings(max_examples=200)
@given(st.text(max_size=80))
def test_no_text_makes_the_decoder_fail_otherwise(text: str) -> None:
    for decode in (nkeys.decode_public, KeyPair.from_seed):
        with pytest.raises(Malformed):
            decode(text)
