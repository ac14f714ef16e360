"""A monitor that wants two offices to read different things: it knows its own keys and keeps to no rule."""

from __future__ import annotations

import hashlib
import os

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl.signing import SigningKey

from kengele_schemas.encoding import b64u, dumps
from kengele_schemas.envelope import KEY, TENSION_REPORT, assemble, core_of, ctr_of, parse
from kengele_schemas.errors import CannotOpen, KengeleError, Untrusted
from kengele_schemas.keys import X25519, OpeningKey, monitor_id
from kengele_schemas.sealing import Reader, _aad, digest_of, disclosure, open_envelope, seal, wrap
from kengele_schemas.trusted import UNNAMED

PRIME = (1 << 130) - 5
CLAMP = 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
OFFICES = {"first": OpeningKey.generate(X25519), "second": OpeningKey.generate(X25519)}
AUTHOR = SigningKey.generate()
PUBLIC = bytes(AUTHOR.verify_key)
CLAIMS = {"v": 2, "net": UNNAMED, "id": "A" * 22, "kid": monitor_id(PUBLIC), "kind": "report", "pol": 1}


def stream(key: bytes, length: int) -> bytes:
    """ChaCha20's key stream as RFC 8439 §2.8 uses it, nonce zero: the one-time Poly1305 key's block first."""
    return Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(64 + length))


def blocks(aad: bytes, ciphertext: bytes) -> list[int]:
    data = aad + bytes(-len(aad) % 16) + ciphertext + bytes(-len(ciphertext) % 16)
    data += len(aad).to_bytes(8, "little") + len(ciphertext).to_bytes(8, "little")
    return [int.from_bytes(data[at : at + 16] + b"\1", "little") for at in range(0, len(data), 16)]


def tag(key: bytes, parts: list[int]) -> int:
    head = stream(key, 0)
    r, s = int.from_bytes(head[:16], "little") & CLAMP, int.from_bytes(head[16:32], "little")
    total = 0
    for part in parts:
        total = (total + part) * r % PRIME
    return (total + s) % (1 << 128)


def two_faced(aad: bytes, first: bytes, second: bytes) -> tuple[bytes, bytes, bytes]:
    """Two keys and one ciphertext with tag that decrypts to ``first`` under the one and ``second`` under the other.

    Each text holds 256 free bytes in the half where the other has its content; one free block is solved for so that
    Poly1305 gives the same tag under both keys, and keys are tried until the solution is a block there can be.
    """
    assert len(first) == len(second) == 512
    while True:
        keys = os.urandom(32), os.urandom(32)
        streams = [stream(key, 512)[64:] for key in keys]
        # The first half is as `first` needs it, the second as `second` does; the last block of padding is free.
        body = bytearray(a ^ b for a, b in zip(first, streams[0], strict=True))
        body[256:] = bytes(a ^ b for a, b in zip(second[256:], streams[1][256:], strict=True))
        at = 256 - 16
        parts = blocks(aad, bytes(body))
        index = -(-len(aad) // 16) + at // 16
        powers = len(parts) - index
        heads = [stream(key, 0) for key in keys]
        r = [int.from_bytes(head[:16], "little") & CLAMP for head in heads]
        s = [int.from_bytes(head[16:32], "little") for head in heads]
        rest = [0, 0]
        for which in (0, 1):
            for number, part in enumerate(parts):
                if number != index:
                    rest[which] += part * pow(r[which], len(parts) - number, PRIME)
        factor = (pow(r[0], powers, PRIME) - pow(r[1], powers, PRIME)) % PRIME
        difference = (rest[1] + s[1] - rest[0] - s[0]) % PRIME
        block = difference * pow(factor, -1, PRIME) % PRIME
        if block >> 128 != 1:
            continue
        body[at : at + 16] = (block - (1 << 128)).to_bytes(16, "little")
        tags = [tag(key, blocks(aad, bytes(body))) for key in keys]
        if tags[0] == tags[1]:
            return keys[0], keys[1], bytes(body) + tags[0].to_bytes(16, "little")


def test_one_ciphertext_can_be_made_to_open_under_two_keys() -> None:
    one, two, ciphertext = two_faced(b"aad", bytes(512), b"\1" * 512)
    texts = [ChaCha20Poly1305(key).decrypt(bytes(12), ciphertext, b"aad") for key in (one, two)]
    assert texts[0] != texts[1]
    assert texts[0][:240] == bytes(240)
    assert texts[1][256:] == b"\1" * 256


def test_a_monitor_cannot_make_two_offices_read_different_texts() -> None:
    signed = disclosure(os.urandom(16), "summary", {"text": "calm", "lang": "en"})
    padded = (len(signed).to_bytes(4, "big") + signed).ljust(512, b"\0")
    digests = sorted([digest_of(signed), *(b64u(os.urandom(31) + b"\0") for _ in range(6))])
    core = core_of(TENSION_REPORT, CLAIMS, digests)
    one, two, ciphertext = two_faced(_aad("summary", core), padded, b"\1" * 512)
    keys = {name: os.urandom(KEY) for name in TENSION_REPORT.compartments}
    floors = dict(TENSION_REPORT.floors)
    ciphertexts = {
        name: b64u(ChaCha20Poly1305(key).encrypt(bytes(12), bytes(floors[name]), _aad(name, core)))
        for name, key in keys.items()
    }
    ciphertexts["summary"] = b64u(ciphertext)
    readers = [Reader(office, key.public, 0b10) for office, key in OFFICES.items()]
    wraps = [
        wrap(TENSION_REPORT, reader, core, {**keys, "summary": key}, ["summary"])
        for reader, key in zip(readers, (one, two), strict=True)
    ]
    payload = b64u(dumps({**CLAIMS, "_sd": digests, "_sd_alg": "sha-256", "ctr": ctr_of(ciphertexts, wraps)}))
    signature = b64u(AUTHOR.sign(f"{TENSION_REPORT.protected}.{payload}".encode()).signature)
    envelope = parse(assemble(TENSION_REPORT.protected, payload, signature, ciphertexts, wraps))
    for office, own in OFFICES.items():
        # The block that was solved for lies in the first text's padding, so even the honest half does not pass.
        with pytest.raises(Untrusted) as caught:
            open_envelope(envelope, office, [own], PUBLIC)
        assert caught.value.code == "not-as-signed"


def honest(author: SigningKey = AUTHOR, report_id: str = "A" * 22) -> bytes:
    claims = {**CLAIMS, "id": report_id, "kid": monitor_id(bytes(author.verify_key))}
    contents = {"summary": {"text": "calm", "lang": "en"}, "account": {"text": "all is calm", "lang": "en"}}
    return seal(TENSION_REPORT, claims, contents, [Reader("first", OFFICES["first"].public, 0b110)], author)


def resigned(data: bytes, author: SigningKey, **claims: object) -> bytes:
    """Another's envelope under one's own key and name."""
    old = parse(data)
    body = {**old.claims, **claims, "_sd": old.sd, "_sd_alg": "sha-256", "ctr": old.ctr}
    payload = b64u(dumps(body))
    signature = b64u(author.sign(f"{old.protected}.{payload}".encode()).signature)
    return assemble(old.protected, payload, signature, old.ciphertexts, old.wraps)


def test_a_monitor_cannot_pass_anothers_ciphertexts_off_as_its_own() -> None:
    thief = SigningKey.generate()
    public = bytes(thief.verify_key)
    for claims in ({"kid": monitor_id(public)}, {"kid": monitor_id(public), "id": "B" * 21 + "A"}):
        stolen = parse(resigned(honest(), thief, **claims))
        with pytest.raises(CannotOpen):
            open_envelope(stolen, "first", [OFFICES["first"]], public)


def test_compartments_cannot_be_swapped_nor_wraps_taken_from_another_report() -> None:
    data, other = parse(honest()), parse(honest(report_id="B" * 21 + "A"))
    swapped = {**data.ciphertexts, "summary": data.ciphertexts["people"]}
    for ciphertexts, wraps in ((swapped, data.wraps), (data.ciphertexts, other.wraps)):
        mixed = parse(assemble(data.protected, data.payload, data.signature, ciphertexts, wraps))
        with pytest.raises(KengeleError):
            open_envelope(mixed, "first", [OFFICES["first"]], PUBLIC)


def test_the_digest_binds_the_text_and_not_the_ciphertext() -> None:
    data = parse(honest())
    opened = open_envelope(data, "first", [OFFICES["first"]], PUBLIC)
    for name, text in opened.disclosures.items():
        assert b64u(hashlib.sha256(text.encode()).digest()) in data.sd, name
