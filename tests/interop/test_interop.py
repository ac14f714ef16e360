"""Reports sealed and opened by programs that share nothing with Kengele but the written format, in both suites."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from nacl.signing import SigningKey

from kengele_hub.intake import Examined, Quota, Standing, examine
from kengele_schemas.compartments import ALL_BITS, names
from kengele_schemas.encoding import b64u, unb64u
from kengele_schemas.envelope import TENSION_REPORT, check_whole, parse, strip, verify
from kengele_schemas.errors import CannotOpen
from kengele_schemas.keys import HYBRID, X25519, OpeningKey, monitor_id
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.report import parse_compartment
from kengele_schemas.sealing import Reader, open_envelope, reassemble, seal
from kengele_testing.values import MONITOR, NOW, TODAY, canaried, draft, grant, monitor, network

NODE = shutil.which("node")
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(NODE is None, reason="NODE.JS IS NOT INSTALLED: the independent sealer and opener were not run"),
]
HERE = Path(__file__).parent
PUBLIC = bytes(MONITOR.verify_key)
KEYS = {suite: OpeningKey.generate(suite) for suite in (X25519, HYBRID)}
CONTENTS: dict[str, Any] = {
    "summary": {"text": "Тынч эмес", "lang": "ky"},
    "account": {"text": 'هدوء "\u2028\\', "lang": "ar"},
    "source": {"a": 1, "b": [1.5, -0.25, 1e300, True, None, {}], "": "𐐷\t"},
}
CLAIMS: dict[str, Any] = {"v": 1, "id": "A" * 22, "kid": monitor_id(PUBLIC), "kind": "report", "pol": 12}
suites = pytest.mark.parametrize("suite", [X25519, HYBRID])


def node(*arguments: str, said: str = "") -> bytes:
    done = subprocess.run([str(NODE), *arguments], input=said.encode(), capture_output=True, timeout=30, check=False)
    assert not done.stderr, done.stderr.decode()
    return done.stdout


def js_opened(envelope: bytes, suite: str, *, key: OpeningKey | None = None, office: str = "unrcca") -> dict[str, Any]:
    said = {
        "envelope": envelope.decode(),
        "author": b64u(PUBLIC),
        "office": office,
        "suite": suite,
        "key": b64u((key or KEYS[suite]).raw),
    }
    found: dict[str, Any] = json.loads(node(str(HERE / "opener.mjs"), said=json.dumps(said)))
    return found


def js_sealed(
    readers: Sequence[Reader],
    contents: Mapping[str, Any] = CONTENTS,
    claims: Mapping[str, Any] = CLAIMS,
    *,
    key: SigningKey = MONITOR,
    random: str | None = None,
) -> bytes:
    said = {
        "author": b64u(bytes(key)),
        "claims": claims,
        "contents": contents,
        "readers": [
            {
                "office": reader.office,
                "suite": reader.key.suite,
                "public": b64u(reader.key.raw),
                "bits": reader.bits,
                "counter": reader.counter or 0,
            }
            for reader in readers
        ],
    }
    return node(str(HERE / "sealer.mjs"), said=json.dumps(said if random is None else {**said, "random": random}))


def sealed(suite: str, bits: int = ALL_BITS) -> bytes:
    return seal(TENSION_REPORT, CLAIMS, CONTENTS, [Reader("unrcca", KEYS[suite].public, bits, 41)], MONITOR)


@suites
@pytest.mark.parametrize("granted", [0, 0b10, 0b110, 0b100100, ALL_BITS])
def test_another_implementation_opens_what_kengele_sealed(suite: str, granted: int) -> None:
    data = sealed(suite, granted)
    found = js_opened(data, suite)
    assert found["contents"] == {name: CONTENTS[name] for name in names(granted) if name in CONTENTS}
    assert found["counter"] == 41
    assert found["claims"] == CLAIMS
    envelope = parse(data)
    assert found["sd_jwt"] == reassemble(envelope, open_envelope(envelope, "unrcca", [KEYS[suite]], PUBLIC))


@suites
@pytest.mark.parametrize("kept", [(), ("summary",), ("summary", "source"), ("media",)])
def test_it_opens_what_the_hub_stripped(suite: str, kept: tuple[str, ...]) -> None:
    found = js_opened(strip(parse(sealed(suite)), "unrcca", kept), suite)
    assert found["contents"] == {name: CONTENTS[name] for name in kept if name in CONTENTS}


@suites
def test_kengele_opens_what_another_implementation_sealed_whatever_it_grants(suite: str) -> None:
    readers = [Reader(f"office-{bits:03}", KEYS[suite].public, bits, bits + 1) for bits in range(ALL_BITS + 1)]
    envelope = parse(js_sealed(readers))
    verify(envelope, PUBLIC)
    check_whole(envelope)
    assert len({len(wrap.text) for wrap in envelope.wraps}) == 1
    for reader in readers:
        opened = open_envelope(envelope, reader.office, [KEYS[suite]], PUBLIC)
        assert opened.contents == {name: CONTENTS[name] for name in names(reader.bits) if name in CONTENTS}
        assert opened.counter == reader.counter
        assert not opened.withheld
        with pytest.raises(CannotOpen):
            open_envelope(envelope, reader.office, [OpeningKey.generate(suite)], PUBLIC)


@suites
def test_kengele_opens_what_was_sealed_elsewhere_and_stripped_by_the_hub(suite: str) -> None:
    data = js_sealed([Reader("unrcca", KEYS[suite].public, ALL_BITS, 7), Reader("cso", KEYS[X25519].public, 0)])
    envelope = parse(strip(parse(data), "unrcca", ("account",)))
    verify(envelope, PUBLIC)
    opened = open_envelope(envelope, "unrcca", [KEYS[suite]], PUBLIC)
    assert opened.contents == {"account": CONTENTS["account"]}
    # An absent compartment has no bit, so that its absence is no withholding.
    assert opened.withheld == ("summary", "source")


def test_absence_shows_in_no_size() -> None:
    reader = [Reader("unrcca", KEYS[HYBRID].public, ALL_BITS, 1)]
    small = {"summary": {"text": "a", "lang": "en"}}
    sizes = {
        tuple(len(text) for text in parse(data).ciphertexts.values())
        for data in (js_sealed(reader, small), js_sealed(reader, {}), sealed_small(small), sealed_small({}))
    }
    assert len(sizes) == 1


def sealed_small(contents: Mapping[str, Any]) -> bytes:
    return seal(TENSION_REPORT, CLAIMS, contents, [Reader("unrcca", KEYS[HYBRID].public, ALL_BITS, 1)], MONITOR)


def test_the_same_randomness_gives_the_same_bytes() -> None:
    readers = [Reader("unrcca", KEYS[HYBRID].public, ALL_BITS, 1), Reader("cso", KEYS[X25519].public, ALL_BITS, 1)]
    first, again, other = (js_sealed(readers, random=f"{seed:02x}" * 2000) for seed in (1, 1, 2))
    assert first == again != other


# What a node sends of itself: all claims, all compartments, as a person may have filled them in.
NKEY = KeyPair.generate("user").public
HEADER: dict[str, Any] = {
    **{name: value for name, value in draft().items() if name not in ("summary", "account")},
    "day_precision": 1,
    "pol": 1,
}
FULL = {name: value for name, value in canaried().items() if name not in HEADER}


def examined(data: bytes) -> Examined:
    trusted = network(grant(), monitors=[monitor(MONITOR, areas=["KG-O"])])
    standing = Standing(trusted, {NKEY: ("monitor", monitor_id(PUBLIC))}, {}, {})
    return examine(data, NKEY, standing, Quota(600), NOW)


@suites
def test_the_hub_takes_a_full_report_sealed_elsewhere(suite: str) -> None:
    data = js_sealed([Reader("unrcca", KEYS[suite].public, ALL_BITS, 1)], FULL, HEADER)
    assert examined(data).code == "accepted"
    opened = open_envelope(parse(data), "unrcca", [KEYS[suite]], PUBLIC)
    assert set(opened.contents) == set(FULL)
    for name, value in opened.contents.items():
        parse_compartment(name, value)


@pytest.mark.parametrize(
    ("sentence", "claims", "code"),
    [
        ("a claim the format does not name", {"recalls": "A" * 22, "kind": "recall"}, "malformed"),
        ("no area", {"area": None}, "malformed"),
        ("a category that is none", {"categories": ["weather"]}, "malformed"),
        ("another author's name", {"kid": "m-" + "a" * 26}, "replayed"),
        ("an area out of the author's", {"area": "SD-KH"}, "out-of-scope"),
        ("a day to come", {"day": (TODAY + timedelta(days=2)).isoformat()}, "future-dated"),
        ("rules that do not exist yet", {"pol": 2}, "policy-unknown"),
    ],
)
def test_the_hub_refuses_from_elsewhere_what_it_refuses_from_its_own(
    sentence: str, claims: dict[str, Any], code: str
) -> None:
    data = js_sealed([Reader("unrcca", KEYS[X25519].public, ALL_BITS, 1)], FULL, {**HEADER, **claims})
    found = json.loads(data).get("error") or examined(data).code
    assert found == code, sentence


def flipped(text: str, at: int = 20) -> str:
    return text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]


def with_summary_changed(data: bytes) -> bytes:
    text = parse(data).ciphertexts["summary"]
    return data.replace(text.encode(), flipped(text).encode())


def with_wrap_changed(data: bytes) -> bytes:
    text = parse(data).wraps[0].text
    return data.replace(text.encode(), flipped(text).encode())


@suites
@pytest.mark.parametrize(
    ("sentence", "change", "code"),
    [
        ("another payload", lambda data: data.replace(b'"payload":"ey', b'"payload":"eY'), "malformed"),
        ("another ciphertext", with_summary_changed, "cannot-open"),
        ("another wrap", with_wrap_changed, "cannot-open"),
        ("another office's wrap", lambda data: data.replace(b'"unrcca"', b'"unoca1"'), "cannot-open"),
        ("a space at the end", lambda data: data + b" ", "malformed"),
        ("an escape for a letter", lambda data: data.replace(b'"unrcca"', b'"\\u0075nrcca"'), "malformed"),
        ("another type", lambda data: data.replace(b"eyJhbG", b"eyJhbH", 1), "unknown-type"),
    ],
)
def test_both_refuse_what_was_changed_on_the_way_in_the_same_words(
    suite: str, sentence: str, change: Callable[[bytes], bytes], code: str
) -> None:
    data = change(sealed(suite))
    assert data != sealed(suite)
    assert js_opened(data, suite) == {"error": code}, sentence


@suites
def test_it_refuses_what_is_for_others(suite: str) -> None:
    data = sealed(suite)
    assert js_opened(data, suite, key=OpeningKey.generate(suite)) == {"error": "cannot-open"}
    assert js_opened(data, suite, office="cso") == {"error": "cannot-open"}


LATTICE = """
import("./mlkem768.mjs").then((m) => {
  const [d, z, message, ...theirs] = process.argv.slice(1).map((text) => Buffer.from(text, "base64url"));
  const { publicKey, secretKey } = m.keygen(d, z);
  const mine = m.encapsulate(publicKey, message);
  const opened = theirs.map((ciphertext) => m.decapsulate(secretKey, ciphertext));
  console.log(JSON.stringify([publicKey, mine.ciphertext, mine.shared, ...opened].map((x) => x.toString("base64url"))));
});
"""


@pytest.mark.parametrize("number", range(3))
def test_its_lattice_is_the_one_of_the_standard(number: int) -> None:
    seed = [bytes([number, at]) * 16 for at in range(3)]
    key = MLKEM768PrivateKey.from_seed_bytes(seed[0] + seed[1])
    shared, ciphertext = key.public_key().encapsulate()
    # A ciphertext of nobody's gives a secret too, and the same one everywhere: implicit rejection.
    strange = bytes([ciphertext[0] ^ 1]) + ciphertext[1:]
    arguments = [base64.urlsafe_b64encode(part).decode() for part in (*seed, ciphertext, strange)]
    done = subprocess.run(
        [str(NODE), "-e", LATTICE, *arguments], cwd=HERE, capture_output=True, text=True, timeout=30, check=True
    )
    public, theirs, secret, opened, rejected = map(unb64u, json.loads(done.stdout))
    assert public == key.public_key().public_bytes_raw()
    assert key.decapsulate(theirs) == secret
    assert opened == shared
    assert rejected == key.decapsulate(strange) != shared
