"""Keys: libsodium's rule for signatures, RFC 9180 to the letter for wraps, and no key that gives itself away."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.bindings import crypto_core_ed25519_add
from nacl.signing import SigningKey

from kengele_schemas.encoding import b64u
from kengele_schemas.errors import CannotOpen, KengeleError, Malformed
from kengele_schemas.keys import (
    ENC_LENGTH,
    HYBRID,
    SUITES,
    X25519,
    OpeningKey,
    OpeningPublic,
    check_verify_key,
    fingerprint,
    monitor_id,
    new_signing_key,
    verify_signature,
)

KEYS = {suite: OpeningKey(suite, bytes(range(32 if suite == X25519 else 96))) for suite in SUITES}
ORDER = 2**252 + 27742317777372353535851937790883648493
PRIME = 2**255 - 19
SMALL_ORDER_POINTS = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
]
"""The eight points of small order of RFC 8032's curve, the first in a second spelling as well."""
LOW_ORDER_COORDINATES = [
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    PRIME - 1,
    PRIME,
    PRIME + 1,
]
"""The coordinates with which every X25519 exchange gives zeros (RFC 7748 §6.1)."""


def test_signatures_are_those_of_rfc_8032() -> None:
    secret = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    signature = bytes.fromhex(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    assert bytes(SigningKey(secret).verify_key) == public
    assert verify_signature(public, b"", signature)
    assert not verify_signature(public, b"\0", signature)


def test_a_signature_cannot_be_given_a_second_form() -> None:
    key = new_signing_key()
    signature = key.sign(b"report").signature
    s = int.from_bytes(signature[32:], "little") + ORDER
    assert verify_signature(bytes(key.verify_key), b"report", signature)
    assert not verify_signature(bytes(key.verify_key), b"report", signature[:32] + s.to_bytes(32, "little"))


def test_no_letter_can_move_between_key_signature_and_message() -> None:
    key = new_signing_key()
    public, signature = bytes(key.verify_key), key.sign(b"report").signature
    assert not verify_signature(public, signature[60:] + b"report", signature[:60])
    assert not verify_signature(public, b"ort", signature + b"rep")
    assert not verify_signature(public + b"\0", b"report", signature)
    assert not verify_signature(public[:31], b"report", signature)


@pytest.mark.parametrize("point", SMALL_ORDER_POINTS)
def test_a_key_under_which_anything_verifies_is_no_key(point: str) -> None:
    key = bytes.fromhex(point)
    for nonce in (key, bytes.fromhex(SMALL_ORDER_POINTS[0])):
        assert not verify_signature(key, b"report", nonce + bytes(32))
    with pytest.raises(Malformed) as caught:
        check_verify_key(key)
    assert caught.value.code == "weak-key"


def test_a_key_with_a_part_of_small_order_is_no_key() -> None:
    mixed = crypto_core_ed25519_add(bytes(new_signing_key().verify_key), bytes.fromhex(SMALL_ORDER_POINTS[-1]))
    with pytest.raises(Malformed) as caught:
        check_verify_key(mixed)
    assert caught.value.code == "weak-key"


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33), b"\xff" * 32, b"\x02" + bytes(31)])
def test_what_is_no_point_of_the_curve_is_no_key(key: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        check_verify_key(key)
    assert caught.value.code == "weak-key"
    assert not verify_signature(key, b"report", bytes(64))


def test_a_key_that_was_made_here_is_one() -> None:
    key = bytes(new_signing_key().verify_key)
    assert check_verify_key(key) == key
    assert new_signing_key() != new_signing_key()


@settings(deadline=None)
@given(st.binary(max_size=70), st.binary(max_size=130))
def test_no_bytes_stop_the_check_of_a_signature(key: bytes, signature: bytes) -> None:
    assert not verify_signature(key, b"report", signature)


def expand(key: bytes, info: bytes, length: int) -> bytes:
    out, block = b"", b""
    while len(out) < length:
        block = hmac.digest(key, block + info + bytes([len(out) // 32 + 1]), "sha256")
        out += block
    return out[:length]


def labeled_extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")


def labeled_expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    return expand(prk, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, length)


def opened_by_the_rfc(raw: bytes, sealed: bytes, info: bytes) -> bytes:
    """RFC 9180 §4.1, §5.1 and §6.1 as written: DHKEM(X25519), HKDF-SHA256, ChaCha20-Poly1305, base mode, no aad."""
    private, enc = X25519PrivateKey.from_private_bytes(raw), sealed[:32]
    kem, suite = b"KEM\0\x20", b"HPKE\0\x20\0\x01\0\x03"
    context = enc + private.public_key().public_bytes_raw()
    shared = labeled_extract(kem, b"", b"eae_prk", private.exchange(X25519PublicKey.from_public_bytes(enc)))
    secret = labeled_expand(kem, shared, b"shared_secret", context, 32)
    schedule = (
        b"\0" + labeled_extract(suite, b"", b"psk_id_hash", b"") + labeled_extract(suite, b"", b"info_hash", info)
    )
    prk = labeled_extract(suite, secret, b"secret", b"")
    key, nonce = (
        labeled_expand(suite, prk, label, schedule, size) for label, size in ((b"key", 32), (b"base_nonce", 12))
    )
    return ChaCha20Poly1305(key).decrypt(nonce, sealed[32:], b"")


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=100))
def test_a_wrap_opens_by_the_text_of_rfc_9180(plaintext: bytes, info: bytes) -> None:
    key = KEYS[X25519]
    assert opened_by_the_rfc(key.raw, key.public.seal(plaintext, info), info) == plaintext


def test_the_public_half_is_the_one_of_rfc_9180() -> None:
    raw = bytes.fromhex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb")
    public = "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a"
    assert OpeningKey(X25519, raw).public.raw.hex() == public


@pytest.mark.parametrize("suite", SUITES)
def test_what_is_sealed_opens_for_its_key_and_purpose_alone(suite: str) -> None:
    key = KEYS[suite]
    sealed = key.public.seal(b"keys", b"purpose")
    assert len(sealed) == ENC_LENGTH[suite] + len(b"keys") + 16
    assert key.open(sealed, b"purpose") == b"keys"
    assert sealed != key.public.seal(b"keys", b"purpose")
    for other, info in ((key, b"Purpose"), (key, b""), (OpeningKey.generate(suite), b"purpose")):
        with pytest.raises(CannotOpen):
            other.open(sealed, info)


@pytest.mark.parametrize("suite", SUITES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_wrap_that_was_touched_opens_nothing(suite: str, data: st.DataObject) -> None:
    sealed = bytearray(KEYS[suite].public.seal(bytes(100), b"purpose"))
    at, bit = data.draw(st.integers(0, len(sealed) - 1)), data.draw(st.integers(0, 7))
    sealed[at] ^= 1 << bit
    with pytest.raises(CannotOpen):
        KEYS[suite].open(bytes(sealed), b"purpose")


@pytest.mark.parametrize("suite", SUITES)
@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=1300) | st.sampled_from([bytes(size) for size in (32, 48, 64, 1120, 1136, 1200)]))
def test_no_bytes_are_worse_than_a_wrap_that_does_not_open(suite: str, sealed: bytes) -> None:
    with pytest.raises(CannotOpen):
        KEYS[suite].open(sealed, b"")


def hybrid(raw: bytes) -> bytes:
    """A hybrid key whose classical half is ``raw``."""
    return KEYS[HYBRID].public.raw[:1184] + raw


@pytest.mark.parametrize("coordinate", LOW_ORDER_COORDINATES)
def test_an_opening_key_for_which_nothing_can_be_sealed_is_refused_at_enrolment(coordinate: int) -> None:
    raw = coordinate.to_bytes(32, "little")
    for suite, key in ((X25519, raw), (HYBRID, hybrid(raw)), (X25519, raw[:31] + bytes([raw[31] | 0x80]))):
        with pytest.raises(Malformed) as caught:
            OpeningPublic.from_document(suite, b64u(key))
        assert caught.value.code == "malformed"


@pytest.mark.parametrize(
    ("said", "suite", "key", "code"),
    [
        ("a suite nobody knows", "P256", b64u(bytes(32)), "unknown-suite"),
        ("a suite in other letters", "x25519", b64u(KEYS[X25519].public.raw), "unknown-suite"),
        ("a byte less", X25519, b64u(KEYS[X25519].public.raw[1:]), "malformed"),
        ("another suite's key", X25519, b64u(KEYS[HYBRID].public.raw), "malformed"),
        ("the hybrid's classical half alone", HYBRID, b64u(KEYS[HYBRID].public.raw[1184:]), "malformed"),
        ("the hybrid's other half alone", HYBRID, b64u(KEYS[HYBRID].public.raw[:1184]), "malformed"),
        ("a lattice key out of range", HYBRID, b64u(b"\xff" * 1184 + KEYS[X25519].public.raw), "malformed"),
        ("nothing", X25519, "", "malformed"),
        ("no base64url", X25519, "!" * 43, "malformed"),
    ],
)
def test_a_public_key_that_is_none_is_refused(said: str, suite: str, key: str, code: str) -> None:
    with pytest.raises(Malformed) as caught:
        OpeningPublic.from_document(suite, key)
    assert caught.value.code == code, said


@pytest.mark.parametrize(("suite", "length"), [(X25519, 31), (X25519, 96), (HYBRID, 32), (HYBRID, 97), ("P256", 96)])
def test_a_private_key_that_is_none_is_refused(suite: str, length: int) -> None:
    with pytest.raises(KengeleError) as caught:
        OpeningKey(suite, bytes(length))
    assert caught.value.code == "malformed"


@pytest.mark.parametrize("suite", SUITES)
def test_a_key_comes_back_from_its_document_and_from_its_seed(suite: str) -> None:
    key = KEYS[suite]
    document = key.public.document()
    assert OpeningPublic.from_document(document["suite"], document["key"]) == key.public
    assert OpeningKey(suite, key.raw).public == key.public
    assert OpeningKey.generate(suite).raw != OpeningKey.generate(suite).raw


def test_a_new_office_is_safe_from_a_quantum_computer_unless_it_chooses_otherwise() -> None:
    assert OpeningKey.generate().suite == SUITES[0] == HYBRID


def test_a_private_key_is_never_shown_by_accident() -> None:
    for key in KEYS.values():
        shown = f"{key!r}{key}{key.public!r}"
        assert key.raw.hex() not in shown
        assert repr(key.raw) not in shown
        assert b64u(key.raw) not in shown


def test_a_pseudonym_is_the_hash_of_the_key_and_of_nothing_else() -> None:
    key = bytes(new_signing_key().verify_key)
    digest = hashlib.sha256(b"kengele-key-v1" + key).digest()[:16]
    assert monitor_id(key) == "m-" + base64.b32encode(digest).decode().lower().rstrip("=")
    assert fingerprint(key) == monitor_id(key).removeprefix("m-")
    assert len(monitor_id(key)) == 28
