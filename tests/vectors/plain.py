"""The vectors that need no other program: each function gives the content of one file."""

from __future__ import annotations

import hashlib
from datetime import date
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl.signing import SigningKey

from kengele_schemas import receipt
from kengele_schemas.areas import Areas, AreasFile
from kengele_schemas.cards import CoordinatorCard, JoinRequest, coordinator_id
from kengele_schemas.checkpoint import sign_checkpoint, write_proof
from kengele_schemas.compartments import ALL_BITS, names
from kengele_schemas.encoding import b64u, canonical, length_prefixed, loads
from kengele_schemas.envelope import TENSION_REPORT, Wrap, core_of, ctr_of
from kengele_schemas.fields import read
from kengele_schemas.keys import HYBRID, X25519, OpeningKey, fingerprint, monitor_id
from kengele_schemas.marker import Withheld
from kengele_schemas.merkle import Tree, leaf_hash
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.policy import PolicyFile
from kengele_schemas.release import Compiled, Decision, narrow
from kengele_schemas.report import Caveat
from kengele_schemas.roster import Offices, OfficesFile
from kengele_schemas.sealing import MAX_DISCLOSURE, ciphertext_size, digest_of, disclosure

MONITOR: Final = SigningKey(b"m" * 32)
HUB: Final = SigningKey(b"h" * 32)
LOG: Final = "kengele/vectors"
KID: Final = monitor_id(bytes(MONITOR.verify_key))
ID: Final = "0123456789abcdefghijkg"
SEEDS: Final = (
    "SUADCMJRGEYTCMJRGEYTCMJRGEYTCMJRGEYTCMJRGEYTCMJRGEYTCMNPLI",
    "SUADEMRSGIZDEMRSGIZDEMRSGIZDEMRSGIZDEMRSGIZDEMRSGIZDEMTOLU",
    "SUADGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGM6RL4",
)
NKEYS: Final = tuple(KeyPair.from_seed(seed) for seed in SEEDS)


def stream(label: str, size: int) -> bytes:
    """Bytes that look random and are always the same."""
    return hashlib.shake_256(f"kengele-vectors/{label}".encode()).digest(size)


NETWORK: Final = b64u(stream("network", 32))
OPENING: Final = {
    X25519: OpeningKey(X25519, stream("opening/X25519", 32)),
    HYBRID: OpeningKey(HYBRID, stream("opening/hybrid", 96)),
}


def keys() -> dict[str, Any]:
    signing = []
    for letter in (b"m", b"h", b"\0", b"\xff"):
        public = bytes(SigningKey(letter * 32).verify_key)
        signing.append(
            {
                "seed": b64u(letter * 32),
                "public": b64u(public),
                "fingerprint": fingerprint(public),
                "kid": monitor_id(public),
                "coordinator": coordinator_id(public),
            }
        )
    opening = [
        {"suite": suite, "secret": b64u(key.raw), "public": b64u(key.public.raw)} for suite, key in OPENING.items()
    ]
    nkeys = [
        {"seed": pair.seed, "public": pair.public, "nonce": "AbC", "signature": b64u(pair.sign(b"AbC"))}
        for pair in NKEYS
    ]
    return {"signing": signing, "opening": opening, "nkeys": nkeys}


_DEEP: Final = "[[[[[]]]]]"
JSON: Final[tuple[tuple[str, bytes, str | None], ...]] = (
    ("an object", b'{"a":[1,-2.5,1e3,true,null,"\xc3\xa9"]}', None),
    ("any white space", b' {\t"a" :\r\n1 } ', None),
    ("escapes for any letter, pairs included", b'"\\u0061\\ud83d\\ude00\\/"', None),
    ("the largest integer", b"9007199254740992", None),
    ("the smallest integer", b"-9007199254740992", None),
    ("a large number that is no integer", b"1e300", None),
    ("nesting as deep as is permitted, here 5", _DEEP.encode(), None),
    ("a member that has another meaning elsewhere", b'{"__proto__":1}', None),
    ("nothing", b"", "malformed"),
    ("two values", b"1 2", "malformed"),
    ("a comma too many", b"[1,]", "malformed"),
    ("a comment", b"[1]//", "malformed"),
    ("single quotes", b"'a'", "malformed"),
    ("a name without quotes", b"{a:1}", "malformed"),
    ("a name twice", b'{"a":1,"a":1}', "duplicate-key"),
    ("a name twice, spelt in two ways", b'{"a":1,"\\u0061":2}', "duplicate-key"),
    ("an integer beyond 2^53", b"9007199254740993", "malformed"),
    ("an integer of many digits", b"1" * 400, "malformed"),
    ("a number beyond all", b"1e999", "malformed"),
    ("a leading zero", b"01", "malformed"),
    ("a leading plus", b"+1", "malformed"),
    ("a bare point", b"1.", "malformed"),
    ("no number", b"NaN", "malformed"),
    ("infinity", b"-Infinity", "malformed"),
    ("a byte order mark", b"\xef\xbb\xbf{}", "malformed"),
    ("not UTF-8", b'"\xff"', "malformed"),
    ("a surrogate in UTF-8", b'"\xed\xa0\x80"', "malformed"),
    ("half a surrogate pair", b'"\\ud800"', "malformed"),
    ("half a surrogate pair in a name", b'{"\\udc00":1}', "malformed"),
    ("a control character", b'"\n"', "malformed"),
    ("an unknown escape", b'"\\x41"', "malformed"),
    ("a space that JSON does not know", b"\xc2\xa01", "malformed"),
    ("nesting deeper than is permitted", f"[{_DEEP}]".encode(), "malformed"),
)
DEPTH: Final = 5


def encoding() -> dict[str, Any]:
    values: list[Any] = [
        {"b": 1, "a": [True, None, ""], "A": {"é": "\u2028", "": '"\\/\n\x00\x7f'}},
        {"\U0001f600": 1, "\uff5e": 2},
        ["سلام", -1, 0],
    ]
    good = [b"", b"\0", b"\xfb\xff", b"kengele", bytes(range(32))]
    bad = [
        ("padding", "AA=="),
        ("stray bits", "AB"),
        ("stray bits of three", "AAB"),
        ("another alphabet", "-/+_"),
        ("a length that none has", "A"),
        ("white space", "AAAA\n"),
        ("a letter that is no ASCII", "AAÄA"),
    ]
    parts = [[b""], [b"a", b"bc"], [b"ab", b"c"], []]
    return {
        "base64url": [{"hex": data.hex(), "text": b64u(data)} for data in good],
        "not_base64url": [{"sentence": sentence, "text": text} for sentence, text in bad],
        "json_depth": DEPTH,
        "json": [
            {"sentence": sentence, "data": b64u(data)}
            | ({"value": loads(data, max_bytes=1000, max_depth=DEPTH)} if code is None else {"code": code})
            for sentence, data, code in JSON
        ],
        "canonical": [{"value": value, "text": canonical(value).decode()} for value in values],
        "length_prefixed": [
            {"parts": [part.hex() for part in some], "hex": length_prefixed(*some).hex()} for some in parts
        ],
    }


def sealing() -> dict[str, Any]:
    said = [
        ("summary", {"text": "Talk of a fight at the bazaar.", "lang": "en"}),
        ("account", {"text": "Базарда уруш — «هدوء»", "lang": "ky"}),
        ("place", {"lat": 40.5, "lon": -0.25, "precision": 1}),
    ]
    disclosures = []
    for number, (name, value) in enumerate(said):
        salt = stream(f"salt/{number}", 16)
        made = disclosure(salt, name, value)
        disclosures.append(
            {"salt": b64u(salt), "name": name, "value": value, "text": made.decode(), "digest": digest_of(made)}
        )
    lengths = (0, 1, 251, 252, 253, 507, 508, 509, 1020, 1021, MAX_DISCLOSURE - 1, MAX_DISCLOSURE)
    sd = sorted(b64u(stream(f"digest/{number}", 32)) for number in range(7))
    core = core_of(TENSION_REPORT, {"net": NETWORK, "kid": KID, "id": ID, "pol": 12}, sd)
    ciphertexts = []
    for name, length in (("handling", 0), ("handling", 252), ("handling", 253), ("summary", 100), ("account", 1021)):
        key, text = stream(f"key/{name}/{length}", 32), stream(f"text/{name}/{length}", length)
        floor = dict(TENSION_REPORT.floors)[name]
        padded = (length.to_bytes(4, "big") + text).ljust(ciphertext_size(length, floor) - 16, b"\0")
        sealed = ChaCha20Poly1305(key).encrypt(
            bytes(12), padded, length_prefixed(b"kengele-ct-v1", name.encode(), core)
        )
        ciphertexts.append({"name": name, "key": b64u(key), "disclosure": b64u(text), "ciphertext": b64u(sealed)})
    wraps = [Wrap("cso", X25519, "AAAA"), Wrap("unrcca", HYBRID, "BBBB")]
    ct = {"handling": "CCCC", "media": "DDDD"}
    return {
        "least_sizes": dict(TENSION_REPORT.floors),
        "disclosures": disclosures,
        "padded_sizes": [
            {"length": length, "least": least, "padded": ciphertext_size(length, least) - 16}
            for least in (256, 1024)
            for length in lengths
        ],
        "core": {"net": NETWORK, "kid": KID, "id": ID, "pol": 12, "_sd": sd, "core": b64u(core)},
        "ciphertexts": ciphertexts,
        "ctr": {"ct": ct, "w": [list(wrap) for wrap in wraps], "ctr": ctr_of(ct, wraps)},
    }


def receipts() -> dict[str, Any]:
    public = bytes(HUB.verify_key)
    digest, sent = stream("digest", 32), stream("sent", 32)
    leaf = receipt.Leaf(
        salt=b64u(stream("leaf", 16)),
        digest=b64u(digest),
        bytes=b64u(sent),
        policy=12,
        at="2026-11-24T12:00:00Z",
        decisions=(("council", 0, ALL_BITS, ()), ("unrcca", 0b0000111, 0b1111000, ("unrcca-kyrgyzstan",))),
    ).canonical()
    tree = Tree()
    entries = [b"0", b"1", b"2", leaf, b"4", b"5", b"6"]
    for entry in entries:
        tree.append(leaf_hash(entry))
    checkpoint = sign_checkpoint(LOG, tree.size, tree.root(), HUB)
    proof = write_proof(3, tree.inclusion(3), checkpoint)
    good = receipt.accepted(ID, digest, sent, leaf, proof, repeat=False).decode()
    asked = receipt.refused("over-quota", ID, digest, sent, retry_after=90, key=HUB).decode()
    blank = receipt.refused("malformed", None, None, sent, retry_after=None, key=HUB).decode()
    other = SigningKey(b"o" * 32)
    forged = sign_checkpoint(LOG, tree.size, tree.root(), other)
    bad = [
        ("signed by another key", receipt.refused("malformed", None, None, sent, retry_after=None, key=other).decode()),
        ("another word in the refusal", asked.replace("Too many", "So many")),
        ("another code in the refusal", asked.replace("over-quota", "stale-policy")),
        ("about other bytes", receipt.refused("malformed", None, None, digest, retry_after=None, key=HUB).decode()),
        ("a refusal called accepted", blank.replace('"code":"malformed"', '"code":"accepted"')),
        ("a leaf about other bytes", good.replace(f'\\"bytes\\":\\"{b64u(sent)}', f'\\"bytes\\":\\"{b64u(digest)}')),
        ("a leaf with other decisions", good.replace('[[\\"council\\",0,', '[[\\"council\\",1,')),
        ("a leaf with a space", good.replace('"leaf":"{', '"leaf":"{ ')),
        ("another place in the log", good.replace("index 3", "index 2")),
        (
            "no path",
            good.replace(
                proof.replace("\n", "\\n").replace("\u2014", "—"), write_proof(3, [], checkpoint).replace("\n", "\\n")
            ),
        ),
        (
            "a checkpoint of another key",
            receipt.accepted(ID, digest, sent, leaf, write_proof(3, tree.inclusion(3), forged), repeat=False).decode(),
        ),
        ("another log", good.replace("kengele/vectors", "kengele/vector2")),
        ("a member too many", good.replace('"v":1,', '"v":1,"w":1,', 1)),
    ]
    assert all(text not in (good, asked, blank) for _, text in bad)
    return {
        "hub_key": b64u(public),
        "log": LOG,
        "sent": b64u(sent),
        "entries": [b64u(entry) for entry in entries],
        "root": b64u(tree.root()),
        "accepted": {
            "receipt": good,
            "leaf": loads(leaf, max_bytes=10_000),
            "leaf_hash": b64u(leaf_hash(leaf)),
            "index": 3,
        },
        "refused": [
            {"receipt": asked, "code": "over-quota", "retryable": True, "retry_after": 90},
            {"receipt": blank, "code": "malformed", "retryable": False, "retry_after": None},
        ],
        "codes": {
            code: {"retryable": row.retryable, "retry_after": receipt.RETRY_AFTER.get(code)}
            for code, row in receipt.CODES.items()
        },
        "bad": [{"sentence": sentence, "receipt": text} for sentence, text in bad],
    }


def _marker(key: SigningKey, *, office: str = "unrcca", kid: str = KID) -> str:
    said = Withheld(office=office, kid=kid, policy=12, at=1_780_000_000, nonce=b64u(stream("nonce", 16)))
    payload = b64u(canonical(said.model_dump(mode="json")))
    signature = b64u(key.sign(f"kengele-marker-v1.{payload}".encode()).signature)
    return canonical({"payload": payload, "signature": signature}).decode()


def markers() -> dict[str, Any]:
    good = _marker(HUB)
    bad = [
        ("of another hub", _marker(MONITOR), "bad-signature"),
        ("for another office", _marker(HUB, office="cso"), "not-for-us"),
        ("with a space", good.replace(":", ": ", 1), "malformed"),
        (
            "its members in another order",
            f'{{"signature":{good.split(":")[2][:-1]},"payload":{good.split(":")[1].split(",")[0]}}}',
            "malformed",
        ),
        ("another payload", good.replace('"payload":"ey', '"payload":"eyJ'), "bad-signature"),
        ("no marker", "{}", "malformed"),
    ]
    return {
        "hub_key": b64u(bytes(HUB.verify_key)),
        "office": "unrcca",
        "marker": good,
        "said": {
            **{"v": 1, "office": "unrcca", "kid": KID, "policy": 12},
            **{"at": 1_780_000_000, "nonce": b64u(stream("nonce", 16))},
        },
        "bad": [{"sentence": sentence, "marker": text, "code": code} for sentence, text, code in bad],
    }


def cards() -> dict[str, Any]:
    coordinator = CoordinatorCard.of(SigningKey(b"c" * 32), NKEYS[0], "Айгүл")
    monitor = JoinRequest.for_monitor(MONITOR, NKEYS[1], ("KG-O",))
    office = JoinRequest.for_office(
        SigningKey(b"s" * 32),
        NKEYS[2],
        id="unrcca",
        name="UNRCCA",
        areas=("KG", "TJ"),
        keys=(OPENING[HYBRID].public, OPENING[X25519].public),
    )
    kid = monitor_id(bytes(HUB.verify_key))
    bad = [
        ("another name", "coordinator", coordinator.encode().decode().replace("Айгүл", "Айгул")),
        ("another area", "join-request", monitor.encode().decode().replace("KG-O", "KG-B")),
        ("another's name from the key", "join-request", monitor.encode().decode().replace(KID, kid)),
        ("another connection", "join-request", monitor.encode().decode().replace(NKEYS[1].public, NKEYS[0].public)),
        (
            "no role that fits",
            "join-request",
            monitor.encode().decode().replace('"role": "monitor"', '"role": "office"'),
        ),
        ("a field too many", "join-request", monitor.encode().decode().replace('"v": 1', '"v": 1, "x": 1')),
    ]
    return {
        "cards": [
            {"kind": "coordinator", "card": coordinator.encode().decode(), "digits": coordinator.digits()},
            {"kind": "join-request", "card": monitor.encode().decode(), "digits": monitor.digits()},
            {"kind": "join-request", "card": office.encode().decode(), "digits": office.digits()},
        ],
        "bad": [{"sentence": sentence, "kind": kind, "card": text, "code": "bad-card"} for sentence, kind, text in bad],
    }


def _area(code: str, kind: str, *parents: str, **more: Any) -> dict[str, Any]:
    return {"code": code, "name": code, "kind": kind, "parents": list(parents), **more}


AREAS: Final = {
    "v": 1,
    "areas": [
        _area("XB-RIVER", "cluster"),
        _area("AA", "country"),
        _area("BB", "country"),
        _area("AA-1", "admin1", "AA", "XB-RIVER"),
        _area("AA-2", "admin1", "AA"),
        _area("AA-OLD", "admin1", "AA", replaced_by=["AA-2"]),
        _area("AA-OLDER", "admin1", "AA", replaced_by=["AA-2"]),
        _area("AA-WHOLE", "admin1", "AA", replaced_by=["AA-1", "AA-2"]),
        _area("BB-1", "admin1", "BB", "XB-RIVER"),
    ],
}


def _grant(id: str, compartment: str, to: str, area: str, **bounds: Any) -> dict[str, Any]:
    least = {"categories": ["*"], "tlp_up_to": "RED", "expires": "2026-12-31", "reason": "test"}
    return {"id": id, "grant": [compartment], "to": [to], "areas": [area], **least, **bounds}


def _forbid(id: str, to: str, *compartments: str, **bounds: Any) -> dict[str, Any]:
    return {"id": id, "forbid": list(compartments), "to": [to], "reason": "test", **bounds}


RULES: Final = [
    _grant("aa-summaries", "summary", "group:offices", "AA"),
    _grant("river-accounts", "account", "office:north", "XB-RIVER", tlp_up_to="AMBER", min_severity=2),
    _grant("rumours", "source", "office:south", "*", categories=["provocative-behaviour"]),
    _grant("old-code", "people", "office:south", "AA-OLD"),
    _grant("ends-soon", "place", "office:north", "BB", expires="2026-11-24"),
    _forbid("no-red-to-council", "office:council", "summary", "account", tlp_from="RED"),
    _forbid("no-riots", "office:south", "source", "people", categories=["riot"]),
]


def policy() -> dict[str, Any]:
    office = {"areas": ["AA"], "keys": [OPENING[X25519].public.document()], "sign": b64u(bytes(HUB.verify_key))}
    statuses = {"council": "active", "north": "active", "south": "active", "asleep": "suspended"}
    offices = {
        "v": 1,
        "offices": [{"id": id, "name": id, **office, "status": status} for id, status in statuses.items()],
        "groups": {
            "offices": ["office:council", "group:regional"],
            "regional": ["office:north", "office:south", "office:asleep"],
        },
    }
    document = {"v": 1, "version": 1, "rules": RULES}
    roster, areas = Offices(read(OfficesFile, offices)), Areas(read(AreasFile, AREAS))
    compiled = Compiled([read(PolicyFile, document)], roster, areas)
    plain: dict[str, Any] = {"area": "AA-1", "categories": ["rumour"], "severity": 2, "tlp": "AMBER"}
    cases: list[tuple[str, dict[str, Any], str, list[dict[str, Any]]]] = [
        ("a rule on an area holds for what lies in it; a suspended office is given nothing", plain, "2026-11-24", []),
        ("severity below the rule's", {**plain, "severity": 1}, "2026-11-24", []),
        ("a marking above the rule's", {**plain, "tlp": "AMBER+STRICT"}, "2026-11-24", []),
        ("a forbid takes all that was granted", {**plain, "tlp": "RED"}, "2026-11-24", []),
        ("a grant must cover every category", {**plain, "categories": ["ceasefire", "rumour"]}, "2026-11-24", []),
        ("a forbid need cover only one", {**plain, "categories": ["riot", "rumour"]}, "2026-11-24", []),
        ("a rule on an old code holds for what took its place", {**plain, "area": "AA-2"}, "2026-11-24", []),
        ("but not for another code that was merged into it", {**plain, "area": "AA-OLDER"}, "2026-11-24", []),
        ("a rule above one part does not hold for what was split", {**plain, "area": "AA-WHOLE"}, "2026-11-24", []),
        ("a grant holds on its last day", {**plain, "area": "BB-1"}, "2026-11-24", []),
        ("and not on the day after", {**plain, "area": "BB-1"}, "2026-11-25", []),
        ("no rule holds for ever", plain, "2027-01-01", []),
        ("of an unknown area only * speaks", {**plain, "area": "CC"}, "2026-11-24", []),
        (
            "its author takes the summary from a group",
            plain,
            "2026-11-24",
            [{"not_to": ["group:regional"], "compartments": ["summary"]}],
        ),
        ("its author takes everything from an office", plain, "2026-11-24", [{"not_to": ["office:south"]}]),
    ]
    return {
        "areas": AREAS,
        "offices": offices,
        "policy": document,
        "cases": [
            {
                "sentence": sentence,
                "header": header,
                "today": today,
                "caveats": caveats,
                "release": _released(compiled, roster, header, today, caveats),
            }
            for sentence, header, today, caveats in cases
        ],
    }


class Facts:
    """A header, as far as rules look at it."""

    def __init__(self, header: dict[str, Any]) -> None:
        self.area, self.severity, self.tlp = header["area"], header["severity"], header["tlp"]
        self.categories = tuple(header["categories"])


def _released(
    compiled: Compiled, roster: Offices, header: dict[str, Any], today: str, caveats: list[dict[str, Any]]
) -> dict[str, Any]:
    found: dict[str, Decision] = compiled.release(Facts(header), date.fromisoformat(today))
    found = narrow(found, [read(Caveat, caveat) for caveat in caveats], roster)
    return {
        office: {"bits": bits, "compartments": names(bits), "rules": rules}
        for office, (bits, rules) in sorted(found.items())
    }


FILES: Final = {
    "keys.json": keys,
    "encoding.json": encoding,
    "sealing.json": sealing,
    "receipts.json": receipts,
    "markers.json": markers,
    "cards.json": cards,
    "policy.json": policy,
}
