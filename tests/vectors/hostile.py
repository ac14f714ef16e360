"""Envelopes that do not hold, each wrong in one thing, with the codes that hub and desk give.

Their authors know their own keys and keep to no rule: what is not said to be wrong is right and properly signed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl.signing import SigningKey

from kengele_schemas.encoding import b64u, unb64u
from kengele_schemas.envelope import parse, strip
from kengele_schemas.keys import HYBRID, X25519
from kengele_schemas.trusted import UNNAMED
from kengele_testing import stranger
from kengele_testing.forgery import (
    AUTHOR,
    CLAIMS,
    FLOORS,
    KEY,
    OFFICE,
    PROTECTED,
    PUBLIC,
    core_of,
    ctr_of,
    digest,
    disclosed,
    lp,
    padded,
    signed,
)

from .plain import HUB, NKEYS, OPENING, stream

NOW: Final = "2026-03-01T12:00:00Z"
TEXT: Final = {"text": "Talk of a fight.", "lang": "en"}
RIGHT: Final = {"summary": disclosed("summary", TEXT)}
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
"""Of Ed25519's base point (RFC 8032 §5.1)."""


def envelope(
    label: str,
    disclosures: Mapping[str, bytes] = RIGHT,
    *,
    claims: Mapping[str, Any] = CLAIMS,
    sd: Sequence[Any] | None = None,
    plain: Mapping[str, bytes] | None = None,
    core: bytes | None = None,
    bits: int | None = None,
    counter: int = 7,
    wrapped_for: str = OFFICE,
    parts: Callable[[dict[str, Any], list[Any]], None] = lambda _ct, _w: None,
    payload: Callable[[bytes], bytes] = bytes,
    author: SigningKey = AUTHOR,
) -> bytes:
    """One envelope for :data:`OFFICE`; ``label`` stands in the place of randomness.

    Args:
        disclosures: by compartment, the bytes that stand for ``[salt, name, value]``; the others are absent.
        sd: the digests in place of the right ones.
        plain: by compartment, the padded text in place of the right one.
        core: what ciphertexts and wrap are bound to, in place of the right one.
        bits: what the wrap says that it grants.
        wrapped_for: the office in the wrap's info.
        parts: changes ciphertexts and wraps before they are signed.
        payload: gives the payload that is signed for the right one.
    """
    right = [
        digest(disclosures[name]) if name in disclosures else b64u(stream(f"{label}/{name}", 32)) for name in FLOORS
    ]
    digests = sorted(right) if sd is None else list(sd)
    core = core or core_of(claims, digests)
    keys = {name: stream(f"{label}/key/{name}", 32) for name in FLOORS}
    texts = {name: padded(disclosures.get(name, b""), floor) for name, floor in FLOORS.items()} | dict(plain or {})
    ct: dict[str, Any] = {
        name: b64u(ChaCha20Poly1305(keys[name]).encrypt(bytes(12), text, lp(b"kengele-ct-v1", name.encode(), core)))
        for name, text in texts.items()
    }
    bitmap = sum(1 << i for i, name in enumerate(FLOORS) if name in disclosures) if bits is None else bits
    slots = b"".join(keys[name] if bitmap >> i & 1 else bytes(32) for i, name in enumerate(FLOORS))
    order = {
        "suite": X25519,
        "public": b64u(KEY.public.raw),
        "info": b64u(lp(b"kengele-wrap-v1", wrapped_for.encode(), core)),
        "plain": b64u(bytes([bitmap]) + counter.to_bytes(8, "big") + slots),
        "random": b64u(stream(f"{label}/wrap", 32)),
    }
    w: list[Any] = [[OFFICE, X25519, *stranger.wrapped([order])]]
    parts(ct, w)
    body = {**claims, "_sd": digests, "_sd_alg": "sha-256", "ctr": ctr_of(ct, w)}
    return signed(b64u(payload(json.dumps(body, separators=(",", ":")).encode())), ct, w, author=author)


class Bad(NamedTuple):
    """``receipt`` is what a hub answers; ``code`` what a desk sets it aside with, None where it opens."""

    sentence: str
    data: bytes
    receipt: str
    code: str | None


def _delivered(data: bytes) -> bytes:
    """What a hub would deliver of ``data``: shorter, and as wrong."""
    return strip(parse(data), OFFICE, tuple(RIGHT))


def _swap(data: bytes, old: str, new: str) -> bytes:
    assert old.encode() in data, old
    return data.replace(old.encode(), new.encode(), 1)


_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def _stray(text: str) -> str:
    """``text`` with the lowest of its spare bits set."""
    assert len(text) % 4, "it has none"
    return text[:-1] + _ALPHABET[_ALPHABET.index(text[-1]) + 1]


def spelling() -> list[Bad]:
    """What is no envelope of the format at all."""
    base = _delivered(envelope("base"))
    found = parse(base)
    text, wrap, signature = found.ciphertexts["summary"], found.wraps[0].text, found.signature
    payload = f'"payload":"{found.payload}",'
    tail = f'"signature":"{signature}",'
    own = f'["{OFFICE}","X25519","{wrap}"]'
    swaps = [
        ("a space at the end", "}}", "}} "),
        ("a space within", '"header":', '"header": '),
        ("members in another order", payload + tail, tail + payload),
        ("a member too many", '"header":', '"x":1,"header":'),
        ("a member missing", tail, ""),
        ("a signature that is no text", f'"{signature}"', "1"),
        ("an escape for a letter", '"signature"', '"\\u0073ignature"'),
        ("a member of the unprotected header too many", '"w":', '"x":1,"w":'),
        ("ciphertexts that are a list", '"ct":{', '"ct":[],"_":{'),
        ("an unknown compartment", '"summary":', '"summaries":'),
        ("compartments out of order", f'"summary":"{text}"', f'"account":"{text * 2}","summary":"{text}"'),
        ("a ciphertext that is not whole blocks", text, text[:-4]),
        ("a ciphertext below its compartment's least size", text, b64u(unb64u(text)[:272])),
        ("a ciphertext of another alphabet", text, f"+{text[1:]}"),
        ("an office's id with a capital", f'"{OFFICE}"', '"Alpha"'),
        ("an office twice", own, f"{own},{own}"),
        ("wraps out of order", own, f'["beta","X25519","{wrap}"],{own}'),
        ("a wrap of four", '"X25519",', '"X25519","",'),
        ("an unknown suite", '"X25519"', '"X448"'),
        ("a suite whose wraps have another length", '"X25519"', f'"{HYBRID}"'),
        ("a wrap with stray bits", wrap, _stray(wrap)),
        ("a signature with padding", signature, f"{signature}=="),
        ("a signature with stray bits", signature, _stray(signature)),
        ("a payload with padding", f'"{found.payload}"', f'"{found.payload}="'),
    ]
    made = [Bad(sentence, _swap(base, old, new), "malformed", "malformed") for sentence, old, new in swaps]
    account = strip(parse(envelope("base")), OFFICE, ("account",))
    text = parse(account).ciphertexts["account"]
    made.append(Bad("a ciphertext with stray bits", _swap(account, text, _stray(text)), "malformed", "malformed"))
    twice = _swap(base, tail, tail + tail)
    made.append(Bad("a member twice", twice, "malformed", "duplicate-key"))
    types = [
        ("another type", '{"alg":"Ed25519","typ":"tension-report2+sd-jwt"}'),
        ("another algorithm", '{"alg":"EdDSA","typ":"tension-report+sd-jwt"}'),
        ("no algorithm", '{"alg":"none","typ":"tension-report+sd-jwt"}'),
        ("the right type in another spelling", '{"typ":"tension-report+sd-jwt","alg":"Ed25519"}'),
    ]
    for sentence, header in types:
        made.append(Bad(sentence, _swap(base, PROTECTED, b64u(header.encode())), "unknown-type", "unknown-type"))
    return made


def _said(old: str, new: str) -> Callable[[bytes], bytes]:
    return lambda payload: _swap(payload, old, new)


def _edited(edit: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    def change(payload: bytes) -> bytes:
        body = json.loads(payload)
        return json.dumps(edit(body) or body, separators=(",", ":")).encode()

    return change


def payloads() -> list[Bad]:
    """What is properly signed and no payload."""
    deep = '"x":[[[[1]]]],"v":2'
    changes: list[tuple[str, Callable[[bytes], bytes], str]] = [
        ("a claim twice", _said('"v":2', '"v":2,"v":2'), "duplicate-key"),
        ("an integer beyond 2^53", _said('"pol":3', '"pol":9007199254740993'), "malformed"),
        ("no number", _said('"pol":3', '"pol":NaN'), "malformed"),
        ("half a surrogate pair", _said('"KG-O"', '"\\ud800"'), "malformed"),
        ("not UTF-8", lambda payload: payload.replace(b"KG-O", b"KG-\xff"), "malformed"),
        ("nesting too deep", _said('"v":2', deep), "malformed"),
        ("a list", lambda payload: b"[" + payload + b"]", "malformed"),
        ("a claim that SD-JWT keeps for itself", _said('"v":2', '"...":1,"v":2'), "malformed"),
        ("another digest algorithm", _said("sha-256", "sha-512"), "malformed"),
        ("no digest algorithm", _said('"_sd_alg":"sha-256",', ""), "malformed"),
        ("no digest of the ciphertexts", _edited(lambda body: body.pop("ctr") and None), "malformed"),
        ("six digests", _edited(lambda body: body["_sd"].pop() and None), "malformed"),
        ("unsorted digests", _edited(lambda body: body["_sd"].reverse()), "malformed"),
        ("a digest twice", _edited(lambda body: body["_sd"].__setitem__(1, body["_sd"][0])), "malformed"),
        ("a short digest", _edited(lambda body: body["_sd"].__setitem__(0, "AAAA")), "malformed"),
        ("more than 16 KiB", _said('"v":2', f'"x":"{"x" * 16384}","v":2'), "oversized"),
    ]
    return [
        Bad(
            sentence,
            _delivered_raw(envelope("payload", payload=change)),
            "oversized" if code == "oversized" else "malformed",
            code,
        )
        for sentence, change, code in changes
    ]


def _delivered_raw(data: bytes) -> bytes:
    """As :func:`_delivered`, of what the parser refuses."""
    document = json.loads(data)
    document["header"]["ct"] = {name: text for name, text in document["header"]["ct"].items() if name in RIGHT}
    return json.dumps(document, separators=(",", ":")).encode()


def _small_order_signature(message: bytes) -> bytes:
    """A signature with the neutral point as R: its author's own, and yet libsodium refuses it."""
    secret = bytearray(hashlib.sha512(bytes(AUTHOR)).digest()[:32])
    secret[0] &= 248
    secret[31] = secret[31] & 63 | 64
    neutral = (1).to_bytes(32, "little")
    challenge = int.from_bytes(hashlib.sha512(neutral + PUBLIC + message).digest(), "little")
    return neutral + (challenge * int.from_bytes(secret, "little") % _ORDER).to_bytes(32, "little")


def signatures() -> list[Bad]:
    """What its author did not sign, or not by the one rule."""
    base = _delivered(envelope("base"))
    found = parse(base)
    raw = unb64u(found.signature)
    larger = raw[:32] + (int.from_bytes(raw[32:], "little") + _ORDER).to_bytes(32, "little")
    claims = _edited(lambda body: body.update(severity=5))(unb64u(found.payload))
    changed = [
        ("another key's signature", "signature", found.signature, SigningKey(b"x" * 32).sign(found.signed).signature),
        ("another payload than was signed", "payload", found.payload, claims),
        ("a signature cut short", "signature", found.signature, raw[:63]),
        ("no signature", "signature", found.signature, b""),
        ("a signature whose S is not below the group's order", "signature", found.signature, larger),
        ("a signature whose R is of small order", "signature", found.signature, _small_order_signature(found.signed)),
    ]
    return [
        Bad(sentence, _swap(base, f'"{name}":"{old}"', f'"{name}":"{b64u(new)}"'), "bad-signature", "bad-signature")
        for sentence, name, old, new in changed
    ]


def members() -> list[Bad]:
    """What is an envelope, and not one that this hub takes from this monitor today."""
    whole = envelope("base")
    found = parse(whole)
    other = SigningKey(b"x" * 32)
    claims: list[tuple[str, dict[str, Any], str, str | None]] = [
        ("another network", {"net": "B" * 42 + "A"}, "other-network", "other-network"),
        ("no network", {"net": None}, "malformed", "bad-field"),
        ("an earlier version", {"v": 1}, "malformed", "bad-field"),
        ("a version with a point", {"v": 2.0}, "malformed", "bad-field"),
        ("a version that is true", {"v": True}, "malformed", "bad-field"),
        ("a severity beyond five", {"severity": 6}, "malformed", "bad-field"),
        ("a severity that is a text", {"severity": "2"}, "malformed", "bad-field"),
        ("a severity with a point", {"severity": 2.0}, "malformed", "bad-field"),
        ("an unknown claim", {"note": "x"}, "malformed", "bad-field"),
        ("unsorted categories", {"categories": ["rumour", "riot"]}, "malformed", "bad-field"),
        ("a group of categories", {"categories": ["provocative-behaviour"]}, "malformed", "bad-field"),
        ("a day that does not exist", {"day": "2026-02-30"}, "malformed", "bad-field"),
        ("an id of 15 bytes", {"id": "A" * 20}, "malformed", "bad-field"),
        ("another monitor's name", {"kid": "m-" + "a" * 26}, "replayed", "unknown-monitor"),
        ("a recall of nothing", {"kind": "recall"}, "malformed", "bad-field"),
        ("a report that says what may stay", {"keep": ["summary"]}, "malformed", "bad-field"),
        ("an area that is not the author's", {"area": "KG-B"}, "out-of-scope", "out-of-scope"),
        ("a day to come", {"day": "2026-03-03"}, "future-dated", None),
        ("rules that are no longer taken", {"pol": 1}, "stale-policy", None),
        ("rules that the hub has not got", {"pol": 4}, "policy-unknown", None),
    ]  # fmt: skip
    wrapless = _swap(whole, f'["{OFFICE}","X25519","{found.wraps[0].text}"]', "")
    made = [
        Bad("a ciphertext left out", strip(found, OFFICE, tuple(FLOORS)[:-1]), "not-whole", None),
        Bad("the wrap left out", wrapless, "not-whole", "cannot-open"),
        Bad("another author's key", envelope("other", author=other), "bad-signature", "bad-signature"),
    ]
    return made + [
        Bad(sentence, envelope("claims", claims={**CLAIMS, **changed}), receipt, code)
        for sentence, changed, receipt, code in claims
    ]


def _loose(label: str, text: bytes, **more: Any) -> bytes:
    return _delivered(envelope(label, {"summary": text}, **more))


def contents() -> list[Bad]:
    """What a hub takes, because it cannot see what is wrong."""
    right = padded(RIGHT["summary"], 512)
    long_salt, short_salt = b64u(bytes(17)), b64u(bytes(15))
    core = bytes(32)
    texts: list[tuple[str, bytes, str]] = [
        ("a disclosure of another compartment", disclosed("account", TEXT), "not-as-signed"),
        ("a disclosure of two", json.dumps(["c2FsdHNhbHRzYWx0c2FsdA", "summary"]).encode(), "not-as-signed"),
        ("a disclosure of four", json.dumps(["c2FsdHNhbHRzYWx0c2FsdA", "summary", TEXT, 1]).encode(), "not-as-signed"),
        ("a salt too short", disclosed("summary", TEXT, short_salt), "not-as-signed"),
        ("a salt too long", disclosed("summary", TEXT, long_salt), "not-as-signed"),
        ("a salt that is no text", disclosed("summary", TEXT, 1), "not-as-signed"),
        ("a salt with stray bits", disclosed("summary", TEXT, "A" * 21 + "B"), "malformed"),
        ("a disclosure that is no JSON", b"[", "malformed"),
        ("a name twice in a disclosure", disclosed("summary", TEXT).replace(b'"lang"', b'"text"'), "duplicate-key"),
        ("an integer beyond 2^53 in a disclosure", disclosed("summary", {**TEXT, "n": 2**53 + 1}), "malformed"),
        ("a disclosure that nests too deep", disclosed("summary", json.loads("[" * 10 + "]" * 10)), "malformed"),
        ("a compartment that is not of its model", disclosed("summary", {**TEXT, "note": "x"}), "bad-field"),
        ("a summary of 281 letters", disclosed("summary", {**TEXT, "text": "x" * 281}), "bad-field"),
    ]
    made = [(sentence, _loose(f"content/{number}", text), code) for number, (sentence, text, code) in enumerate(texts)]
    both = {"summary": RIGHT["summary"], "account": RIGHT["summary"]}
    again = [b64u(stream(f"again/{number}", 32)) for number in range(6)]
    two = envelope("again", both, sd=sorted([digest(RIGHT["summary"]), *again]))
    odd: list[tuple[str, dict[str, Any], str]] = [
        ("padding that is not zeros", {"plain": {"summary": right[:-1] + b"\1"}}, "not-as-signed"),
        ("a length beyond the text", {"plain": {"summary": b"\xff" + right[1:]}}, "not-as-signed"),
        ("a text without its digest", {"sd": sorted([*again, b64u(core)])}, "not-as-signed"),
        ("a wrap made for another office", {"wrapped_for": "beta"}, "cannot-open"),
        ("ciphertexts and wraps of another report, signed anew", {"core": core}, "cannot-open"),
        ("a number that no author can have reached", {"counter": 2**53 + 1}, "malformed"),
    ]
    made += [(sentence, _delivered(envelope(f"odd/{n}", **how)), code) for n, (sentence, how, code) in enumerate(odd)]
    made.append(("one text in two compartments", strip(parse(two), OFFICE, ("summary", "account")), "not-as-signed"))
    absent = strip(parse(envelope("absent", bits=0b1010)), OFFICE, ("summary", "place"))
    made.append(("a bit for what is absent", absent, "not-as-signed"))
    base = _delivered(envelope("base"))
    text = parse(base).ciphertexts["summary"]
    flipped = text[:9] + ("A" if text[9] != "A" else "B") + text[10:]
    made.append(("a ciphertext changed on the way", _swap(base, text, flipped), "cannot-open"))
    return [Bad(sentence, data, "", code) for sentence, data, code in made]


def documents() -> dict[str, Any]:
    """The network in which these codes hold."""
    days = {"not_before": "2026-01-01", "not_after": "2026-12-31"}
    row = {"code": "KG-O", "name": "Osh", "kind": "admin1", "parents": ["KG"]}
    rule = {"id": "all", "grant": ["summary"], "to": [f"office:{OFFICE}"], "areas": ["*"], "categories": ["*"]}
    return {
        "network.json": {
            "v": 1,
            "name": "Vectors",
            "hub_key": b64u(bytes(HUB.verify_key)),
            "log": "kengele/vectors",
            "custodian": OFFICE,
        },
        "offices.json": {
            "v": 1,
            "offices": [
                {
                    "id": OFFICE,
                    "name": "Alpha",
                    "areas": ["KG"],
                    "keys": [KEY.public.document(), OPENING[HYBRID].public.document()],
                    "sign": b64u(bytes(HUB.verify_key)),
                }
            ],
        },
        "policy.json": {
            "v": 1,
            "version": 3,
            "refuse_below": 2,
            "rules": [{**rule, "tlp_up_to": "RED", "expires": "2026-12-31", "reason": "test"}],
        },
        "areas.json": {
            "v": 1,
            "areas": [
                {"code": "KG", "name": "Kyrgyzstan", "kind": "country"},
                row,
                {**row, "code": "KG-B", "name": "Batken"},
            ],
        },
        "monitors/KG.json": {
            "v": 1,
            "area": "KG",
            "monitors": [{"kid": CLAIMS["kid"], "key": b64u(PUBLIC), "areas": ["KG-O"], **days}],
        },
    }


def bad_envelopes() -> dict[str, Any]:
    made = [*spelling(), *payloads(), *signatures(), *members(), *contents()]
    return {
        "now": NOW,
        "network": UNNAMED,
        "documents": documents(),
        "nkey": NKEYS[1].public,
        "author": b64u(PUBLIC),
        "office": OFFICE,
        "suite": X25519,
        "key": b64u(KEY.raw),
        "envelopes": [
            {"sentence": one.sentence, "envelope": one.data.decode()}
            | ({"receipt": one.receipt} if one.receipt else {})
            | {"code": one.code}
            for one in made
        ],
    }
