"""Envelopes that hold, sealed by the stranger's node from named randomness, so that each byte can be made again."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from kengele_schemas.compartments import ALL_BITS, bitmap
from kengele_schemas.encoding import b64u, length_prefixed
from kengele_schemas.envelope import parse, strip
from kengele_schemas.keys import HYBRID, X25519, OpeningKey
from kengele_schemas.sealing import open_envelope, reassemble
from kengele_schemas.trusted import UNNAMED
from kengele_testing import stranger
from kengele_testing.forgery import KEY, OFFICE, PUBLIC, disclosed, padded

from .hostile import RIGHT, TEXT, envelope
from .plain import ID, KID, MONITOR, NETWORK, OPENING, stream

AUTHOR: Final = bytes(MONITOR.verify_key)
HEADER: Final[dict[str, Any]] = {
    "v": 2,
    "net": NETWORK,
    "id": ID,
    "kid": KID,
    "kind": "report",
    "area": "KG-O",
    "categories": ["market-closed", "rumour"],
    "severity": 2,
    "day": "2026-11-23",
    "day_precision": 1,
    "tlp": "AMBER",
    "pol": 12,
}
CONTENTS: Final[dict[str, Any]] = {
    "handling": {"caveats": [{"not_to": ["group:government"], "compartments": ["source"]}]},
    "summary": {"text": "Базар жабык, ушак көп.", "lang": "ky"},
    "account": {
        "text": "The market has been closed since noon.\nPeople speak of a fight.",
        "lang": "en",
        "local_terms": [{"code": "rumour", "text": "ушак", "lang": "ky"}],
    },
    "place": {"name": "Кара-Суу", "lat": 40.7, "lon": 72.87, "precision": 1},
    "people": {"actors": [{"name": "traders", "role": "other"}], "affected": {"injured": {"best": 2}}},
    "source": {"basis": "witness", "reliability": "B", "credibility": 2},
    "media": {
        "items": [
            {
                "digest": b64u(b"d" * 32),
                "key": b64u(b"k" * 32),
                "type": "image/jpeg",
                "size": 1024,
                "caption": "سوق مغلق",
            }
        ]
    },
}
Grant = tuple[str, str, int, int]
"""Office, suite, bits, counter."""
CASES: Final[tuple[tuple[str, tuple[str, ...], tuple[Grant, ...]], ...]] = (
    ("X25519, one office, two compartments", ("summary", "account"), (("unrcca", X25519, bitmap(["summary"]), 1),)),
    ("the hybrid suite, everything", tuple(CONTENTS), (("unrcca", HYBRID, ALL_BITS, 41),)),
    (
        "three offices, both suites, a wrap that waits and carries no number",
        tuple(CONTENTS),
        (
            ("unrcca", HYBRID, bitmap(["handling", "summary", "account"]), 42),
            ("council", X25519, bitmap(["handling", "summary"]), 7),
            ("cso", X25519, 0, 0),
        ),
    ),
    ("nothing in it and nobody to read it", (), ()),
)
STRIPPED: Final = ((), ("summary",), ("handling", "account"))


def key_of(suite: str, office: str) -> OpeningKey:
    """UNRCCA's keys are those of ``keys.json``; each other office has its own."""
    if office == "unrcca":
        return OPENING[suite]
    return OpeningKey(suite, stream(f"opening/{office}", 32 if suite == X25519 else 96))


def _order(number: int) -> dict[str, Any]:
    _, present, grants = CASES[number]
    readers = []
    for office, suite, bits, counter in grants:
        public = b64u(key_of(suite, office).public.raw)
        readers.append({"office": office, "suite": suite, "public": public, "bits": bits, "counter": counter})
    return {
        "author": b64u(bytes(MONITOR)),
        "claims": HEADER,
        "contents": {name: CONTENTS[name] for name in present},
        "readers": readers,
        "random": stream(f"sealing/{number}", 7 * 32 + 7 * 32 + 64 * len(grants)).hex(),
    }


def _opened(data: bytes, office: str, suite: str) -> dict[str, Any]:
    found = parse(data)
    opened = open_envelope(found, office, [key_of(suite, office)], AUTHOR)
    return {
        "office": office,
        "contents": opened.contents,
        "counter": opened.counter or 0,
        "withheld": opened.withheld,
        "sd_jwt": reassemble(found, opened),
    }


def _case(number: int, order: dict[str, Any], text: str) -> dict[str, Any]:
    sentence, _, grants = CASES[number]
    data = text.encode()
    found = parse(data)
    for reader in order["readers"]:
        reader["secret"] = b64u(key_of(reader["suite"], reader["office"]).raw)
    stripped = []
    for office, suite, _, _ in grants:
        for kept in STRIPPED:
            less = strip(found, office, kept)
            stripped.append({"kept": kept, "envelope": less.decode(), **_opened(less, office, suite)})
    return {
        "sentence": sentence,
        **order,
        "envelope": text,
        "core": b64u(found.core),
        "digest": b64u(found.digest),
        "bytes": b64u(hashlib.sha256(data).digest()),
        "opened": [_opened(data, office, suite) for office, suite, _, _ in grants],
        "stripped": stripped,
    }


def _spaced(payload: bytes) -> bytes:
    return b" " + payload.replace(b'"kind":', b'"\\u006bind" :\n')


def _unusual() -> list[dict[str, Any]]:
    """What no node writes and every reader takes: what is signed as bytes may be spelt in any way JSON can be."""
    loose = b'[ "c2FsdHNhbHRzYWx0c2FsdA" ,"summ\\u0061ry",\n{"lang":"en","text":"\\u00e9"} ]'
    roomy = {"summary": padded(disclosed("summary", TEXT), 2048)}
    made = [
        ("white space and escapes in the payload", envelope("spaced", RIGHT, payload=_spaced)),
        ("white space and escapes in a disclosure", envelope("loose", {"summary": loose})),
        ("more padding than needed", envelope("roomy", RIGHT, plain=roomy)),
    ]
    return [
        {
            "sentence": sentence,
            "envelope": data.decode(),
            "contents": open_envelope(parse(data), OFFICE, [KEY], PUBLIC).contents,
        }
        for sentence, data in made
    ]


def _wraps() -> list[dict[str, Any]]:
    made = []
    for suite, key in OPENING.items():
        info = length_prefixed(b"kengele-wrap-v1", b"unrcca", stream("wrap/core", 32))
        plain = bytes([0b110]) + (9).to_bytes(8, "big") + b"".join(stream(f"wrap/{i}", 32) for i in range(7))
        made.append(
            {
                "suite": suite,
                "public": b64u(key.public.raw),
                "info": b64u(info),
                "plain": b64u(plain),
                "random": b64u(stream(f"wrap/{suite}", 32 if suite == X25519 else 64)),
            }
        )
    return [
        {**one, "secret": b64u(OPENING[one["suite"]].raw), "wrap": text}
        for one, text in zip(made, stranger.wrapped(made), strict=True)
    ]


def envelopes() -> dict[str, Any]:
    orders = [_order(number) for number in range(len(CASES))]
    texts = stranger.sealed(orders)
    return {
        "wraps": _wraps(),
        "author": b64u(AUTHOR),
        "envelopes": [_case(number, *both) for number, both in enumerate(zip(orders, texts, strict=True))],
        "unusual": {
            "network": UNNAMED,
            "author": b64u(PUBLIC),
            "office": OFFICE,
            "suite": X25519,
            "key": b64u(KEY.raw),
            "envelopes": _unusual(),
        },
    }
