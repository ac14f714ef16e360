"""Reports sealed and opened by programs that share nothing with Kengele but the written format, in both suites."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib.resources import files
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from nacl.signing import SigningKey
from pydantic import BaseModel

from kengele_hub.intake import Examined, Quota, Standing, examine
from kengele_schemas.areas import AreasFile
from kengele_schemas.compartments import ALL_BITS, bitmap, names
from kengele_schemas.encoding import b64u, unb64u
from kengele_schemas.envelope import (
    MAX_ENVELOPE,
    MAX_READERS,
    TENSION_REPORT,
    assemble,
    check_whole,
    parse,
    strip,
    verify,
)
from kengele_schemas.errors import CannotOpen, Malformed
from kengele_schemas.keys import HYBRID, X25519, OpeningKey, monitor_id
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.release import Compiled
from kengele_schemas.report import parse_compartment
from kengele_schemas.sealing import Reader, open_envelope, reassemble, seal
from kengele_schemas.sharing import join, make_share
from kengele_schemas.trusted import UNNAMED
from kengele_testing import stranger
from kengele_testing.values import HUB, LOG, MONITOR, NOW, TODAY, canaried, draft, grant, monitor, network
from oracle import worlds
from vectors import generate

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        stranger.NODE is None, reason="NODE.JS IS NOT INSTALLED: the independent sealer and opener were not run"
    ),
]
PUBLIC = bytes(MONITOR.verify_key)
KEYS = {suite: OpeningKey.generate(suite) for suite in (X25519, HYBRID)}
CONTENTS: dict[str, Any] = {
    "summary": {"text": "Тынч эмес", "lang": "ky"},
    "account": {"text": 'هدوء "\u2028\\', "lang": "ar"},
    "source": {"a": 1, "b": [1.5, -0.25, 1e300, True, None, {}], "": "𐐷\t"},
}
CLAIMS: dict[str, Any] = {
    "v": 2,
    "net": UNNAMED,
    "id": "A" * 22,
    "kid": monitor_id(PUBLIC),
    "kind": "report",
    "pol": 12,
}
suites = pytest.mark.parametrize("suite", [X25519, HYBRID])


def js_opened(
    *envelopes: bytes, suite: str, key: OpeningKey | None = None, office: str = "unrcca"
) -> list[dict[str, Any]]:
    said = {
        "net": UNNAMED,
        "author": b64u(PUBLIC),
        "office": office,
        "suite": suite,
        "key": b64u((key or KEYS[suite]).raw),
    }
    return stranger.opened([{**said, "envelope": envelope.decode()} for envelope in envelopes])


def js_sealed(
    readers: Sequence[Reader],
    contents: Mapping[str, Any] = CONTENTS,
    claims: Mapping[str, Any] = CLAIMS,
    **more: str,
) -> bytes:
    told = [
        {
            "office": reader.office,
            "suite": reader.key.suite,
            "public": b64u(reader.key.raw),
            "bits": reader.bits,
            "counter": reader.counter or 0,
        }
        for reader in readers
    ]
    said = {"author": b64u(bytes(MONITOR)), "claims": claims, "contents": contents, "readers": told, **more}
    (made,) = stranger.sealed([said])
    assert isinstance(made, str), made
    return made.encode()


def sealed(suite: str, bits: int = ALL_BITS) -> bytes:
    return seal(TENSION_REPORT, CLAIMS, CONTENTS, [Reader("unrcca", KEYS[suite].public, bits, 41)], MONITOR)


@suites
def test_another_implementation_opens_what_kengele_sealed_whatever_it_grants(suite: str) -> None:
    grants = [*range(0b1000), 0b100100, ALL_BITS]
    whole = [sealed(suite, granted) for granted in grants]
    for granted, data, found in zip(grants, whole, js_opened(*whole, suite=suite), strict=True):
        envelope = parse(data)
        assert found == {
            "claims": CLAIMS,
            "contents": {name: CONTENTS[name] for name in names(granted) if name in CONTENTS},
            "counter": 41,
            "withheld": [],
            "sd_jwt": reassemble(envelope, open_envelope(envelope, "unrcca", [KEYS[suite]], PUBLIC)),
        }


@suites
def test_it_opens_what_the_hub_stripped(suite: str) -> None:
    kept: list[tuple[str, ...]] = [(), ("summary",), ("summary", "source"), ("media",)]
    whole = parse(sealed(suite))
    stripped = [strip(whole, "unrcca", some) for some in kept]
    for some, found in zip(kept, js_opened(*stripped, suite=suite), strict=True):
        assert found["contents"] == {name: CONTENTS[name] for name in some if name in CONTENTS}
        assert found["withheld"] == [name for name in CONTENTS if name not in some]


@suites
def test_it_opens_what_was_shared_and_refuses_what_is_not_for_it(suite: str) -> None:
    spare: dict[str, bytes] = {}
    envelope = parse(seal(TENSION_REPORT, CLAIMS, CONTENTS, [], MONITOR, spare=spare))
    said = {"report": CLAIMS["id"], "core": envelope.core, "by": CLAIMS["kid"], "network": LOG}

    def shared(key: SigningKey = MONITOR, to: str = "unrcca", **changes: Any) -> str:
        reader = Reader(to, KEYS[suite].public, bitmap(["summary", "source"]))
        made = make_share(reader, spare, day=TODAY, key=key, **{**said, **changes})
        return join([made], strip(envelope, "", ("summary", "account"))).decode()

    asked = {
        "net": UNNAMED,
        "author": b64u(PUBLIC),
        "office": "unrcca",
        "suite": suite,
        "key": b64u(KEYS[suite].raw),
        "network": LOG,
        "sharers": {CLAIMS["kid"]: b64u(PUBLIC), "council": b64u(bytes(HUB.verify_key))},
    }
    cases = [
        shared(),
        shared(by="council", key=HUB),
        shared(by="cso", key=HUB),
        shared(key=HUB),
        shared(to="cso"),
        shared(network="kengele/other"),
        shared(core=bytes(32)),
        shared().split("\n")[1],
    ]
    good, custodian, *bad = stranger.opened([{**asked, "envelope": data} for data in cases])
    assert good == custodian
    assert good["contents"] == {"summary": CONTENTS["summary"]}
    assert (good["counter"], good["withheld"]) == (0, ["source"])
    codes = ["not-the-sharer", "bad-signature", "not-for-us", "not-as-shared", "not-as-shared", "cannot-open"]
    assert [one.get("error") for one in bad] == codes


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
    first, again, other = (js_sealed(readers, random=f"{seed:02x}" * 800) for seed in (1, 1, 2))
    assert first == again != other


# What a node sends of itself: all claims, all compartments, as a person may have filled them in.
NKEY = KeyPair.generate("user").public
HEADER: dict[str, Any] = {
    **{name: value for name, value in draft().items() if name not in ("summary", "account")},
    "net": UNNAMED,
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
        ("another kind", {"kind": "recall"}, "malformed"),
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
    assert examined(data).code == code, sentence


@suites
def test_it_refuses_what_is_for_others(suite: str) -> None:
    data = sealed(suite)
    refused = [{"error": "cannot-open"}]
    assert js_opened(data, suite=suite, key=OpeningKey.generate(suite)) == refused
    assert js_opened(data, suite=suite, office="cso") == refused
    other = next(name for name in KEYS if name != suite)
    assert js_opened(data, suite=other) == refused


@suites
def test_both_refuse_what_is_too_large(suite: str) -> None:
    reader = Reader("a" * 32, KEYS[suite].public, 0)
    (wrap,) = parse(seal(TENSION_REPORT, CLAIMS, {}, [reader], MONITOR)).wraps
    envelope = parse(sealed(suite))
    many = [wrap._replace(office=f"a{number:03}") for number in range(MAX_READERS + 1)]
    crowded = assemble(envelope.protected, envelope.payload, envelope.signature, envelope.ciphertexts, many)
    large = sealed(suite).replace(b'"signature"', b" " * MAX_ENVELOPE + b'"signature"')
    codes = [found["error"] for found in js_opened(crowded, large, suite=suite)]
    assert codes == ["malformed", "oversized"]
    for data, code in zip((crowded, large), codes, strict=True):
        with pytest.raises(Malformed) as caught:
            parse(data)
        assert caught.value.code == code


def test_it_does_not_seal_what_nobody_would_take() -> None:
    asked = {"author": b64u(bytes(MONITOR)), "claims": CLAIMS, "contents": {}, "readers": []}
    reader = {"office": "cso", "suite": X25519, "public": b64u(KEYS[X25519].public.raw), "bits": 1, "counter": 1}
    refused = stranger.sealed(
        [
            {**asked, "contents": {"account": "x" * 65536}},
            {**asked, "contents": {"rumours": {}}},
            {**asked, "claims": {**CLAIMS, "note": ""}},
            {**asked, "readers": [reader, reader]},
            {**asked, "readers": [{**reader, "suite": "X448"}]},
        ]
    )
    assert [one["error"] for one in refused] == ["oversized"] + ["malformed"] * 4


def vectors(name: str) -> Any:
    return json.loads((generate.HERE / name).read_bytes())


@pytest.mark.parametrize("name", ["envelopes.json", "bad-envelopes.json"])
def test_the_generator_still_writes_this_file(name: str) -> None:
    assert (generate.HERE / name).read_bytes() == generate.written(generate.FILES[name]()), "run vectors.generate"


def test_it_opens_the_vectors() -> None:
    about = vectors("envelopes.json")
    asked, expected = [], []
    for case in about["envelopes"]:
        keys = {reader["office"]: reader for reader in case["readers"]}
        for answer in (*case["opened"], *case["stripped"]):
            key = keys[answer["office"]]
            said = {
                "net": case["claims"]["net"],
                "author": about["author"],
                "office": key["office"],
                "suite": key["suite"],
                "key": key["secret"],
            }
            asked.append({**said, "envelope": answer.get("envelope", case["envelope"])})
            expected.append({"claims": case["claims"], **{n: answer[n] for n in ANSWER}})
    assert stranger.opened(asked) == expected
    unusual = about["unusual"]
    said = {"net": unusual["network"]} | {name: unusual[name] for name in ("author", "office", "suite", "key")}
    found = stranger.opened([{**said, "envelope": case["envelope"]} for case in unusual["envelopes"]])
    assert [one["contents"] for one in found] == [case["contents"] for case in unusual["envelopes"]]


ANSWER = ("contents", "counter", "withheld", "sd_jwt")
LEFT_TO_THE_SCHEMAS = ("bad-field", "out-of-scope")
"""Codes of a desk that knows the models and the roster; the opener checks what can be computed."""


def test_it_refuses_the_bad_vectors_with_the_same_codes() -> None:
    about = vectors("bad-envelopes.json")
    cases = [case for case in about["envelopes"] if case["code"] not in LEFT_TO_THE_SCHEMAS]
    said = {"net": about["network"]} | {name: about[name] for name in ("author", "office", "suite", "key")}
    answers = stranger.opened([{**said, "envelope": case["envelope"]} for case in cases])
    found = {case["sentence"]: answer.get("error") for case, answer in zip(cases, answers, strict=True)}
    assert found == {case["sentence"]: case["code"] for case in cases}


READER = """
const modules = ["json", "format", "hpke", "keys"].map((name) => import(`./${name}.mjs`));
Promise.all(modules).then(([json, format, hpke, keys]) => {
  const about = JSON.parse(require("fs").readFileSync(0));
  const code = (attempt) => { try { attempt(); return null; } catch (error) { return error.code ?? String(error); } };
  console.log(JSON.stringify({
    json: about.json.map(({ data }) => code(() => json.strict(format.unb64u(data), about.json_depth))),
    base64url: about.base64url.map(({ text }) => format.unb64u(text).toString("hex")),
    not_base64url: about.not_base64url.map(({ text }) => code(() => format.unb64u(text))),
    length_prefixed: about.length_prefixed.map(({ parts }) =>
      format.lp(...parts.map((part) => Buffer.from(part, "hex"))).toString("hex")),
    kids: about.signing.map(({ seed }) => format.kidOf(keys.publicRaw("ed25519", format.unb64u(seed)))),
    opening: about.opening.map(({ suite, secret }) =>
      format.b64u(hpke.KEMS[suite].publicOf(format.unb64u(secret)))),
    digests: about.disclosures.map(({ text }) => format.digestOf(format.utf8(text))),
    core: format.b64u(format.coreOf(about.core)),
    ctr: format.ctrOf(about.ctr.ct, about.ctr.w),
    nkeys: about.nkeys.map(({ public: key, nonce, signature }) =>
      keys.isSigned(keys.userKey(key), format.utf8(nonce), format.unb64u(signature))),
  }));
});
"""


def test_it_reads_keys_and_encodings_as_the_vectors_say() -> None:
    about = vectors("encoding.json") | vectors("keys.json") | vectors("sealing.json")
    assert stranger.run("-e", READER, said=about) == {
        "json": [case.get("code") for case in about["json"]],
        "base64url": [case["hex"] for case in about["base64url"]],
        "not_base64url": ["malformed"] * len(about["not_base64url"]),
        "length_prefixed": [case["hex"] for case in about["length_prefixed"]],
        "kids": [case["kid"] for case in about["signing"]],
        "opening": [case["public"] for case in about["opening"]],
        "digests": [case["digest"] for case in about["disclosures"]],
        "core": about["core"]["core"],
        "ctr": about["ctr"]["ctr"],
        "nkeys": [True] * len(about["nkeys"]),
    }


def test_it_judges_receipts_markers_and_cards_as_the_vectors_say() -> None:
    receipts, markers, cards = (vectors(name) for name in ("receipts.json", "markers.json", "cards.json"))
    of_hub = {name: receipts[name] for name in ("hub_key", "log", "sent")}
    of_office = {name: markers[name] for name in ("hub_key", "office")}
    good = receipts["accepted"]
    asked: list[tuple[dict[str, Any], Any]] = [
        (
            {"kind": "receipt", "text": good["receipt"], **of_hub},
            {"code": "accepted", "index": good["index"], "leaf": good["leaf"]},
        ),
        ({"kind": "marker", "text": markers["marker"], **of_office}, markers["said"]),
    ]
    for case in receipts["refused"]:
        said = {"code": case["code"], "retry_after": case["retry_after"]}
        asked.append(({"kind": "receipt", "text": case["receipt"], **of_hub}, said))
    for case in receipts["bad"]:
        asked.append(({"kind": "receipt", "text": case["receipt"], **of_hub}, {"error": "bad-receipt"}))
    for case in markers["bad"]:
        asked.append(({"kind": "marker", "text": case["marker"], **of_office}, {"error": case["code"]}))
    for case in cards["cards"]:
        asked.append(({"kind": "card", "of": case["kind"], "text": case["card"]}, {"digits": case["digits"]}))
    for case in cards["bad"]:
        asked.append(({"kind": "card", "of": case["kind"], "text": case["card"]}, {"error": case["code"]}))
    for case in vectors("encoding.json")["canonical"]:
        asked.append(({"kind": "canonical", "value": case["value"]}, case["text"]))
    assert stranger.run("papers.mjs", said=[one for one, _ in asked]) == [answer for _, answer in asked]


TAXONOMY = json.loads((files("kengele_schemas") / "data" / "taxonomy.json").read_text("utf-8"))


def test_it_releases_what_the_policy_vectors_say() -> None:
    about = vectors("policy.json")
    taxonomy = json.loads((files("kengele_schemas") / "data" / "taxonomy.json").read_text("utf-8"))
    network = {
        "taxonomy": taxonomy,
        "areas": about["areas"],
        "offices": about["offices"],
        "policies": [about["policy"]],
    }
    asked = [{**network, **{name: case[name] for name in ("header", "today", "caveats")}} for case in about["cases"]]
    found = stranger.run("policy.mjs", said=asked)
    for case, released in zip(about["cases"], found, strict=True):
        expected = {office: {"bits": one["bits"], "rules": one["rules"]} for office, one in case["release"].items()}
        assert released == expected, case["sentence"]


@pytest.mark.parametrize("seed", range(3))
def test_it_releases_what_kengele_releases_under_rules_at_random(seed: int) -> None:
    rng = random.Random(seed)
    offices, areas = (plain(document) for document in (worlds.OFFICES_FILE, AreasFile(areas=worlds.AREA_ROWS)))
    asked, expected = [], []
    for _ in range(20):
        policy = worlds.policy(*(worlds.random_rule(rng, f"rule-{number}") for number in range(25)))
        compiled = Compiled([policy], worlds.OFFICES, worlds.AREAS)
        for header in (worlds.random_header(rng) for _ in range(10)):
            asked.append(
                {
                    "taxonomy": TAXONOMY,
                    "areas": areas,
                    "offices": offices,
                    "policies": [plain(policy)],
                    "header": header._asdict(),
                    "today": worlds.TODAY.isoformat(),
                    "caveats": [],
                }
            )
            released = compiled.release(header, worlds.TODAY)
            expected.append({office: {"bits": one.bits, "rules": list(one.rules)} for office, one in released.items()})
    assert any(expected)
    assert stranger.run("policy.mjs", said=asked) == expected


def plain(document: BaseModel) -> Any:
    """A document as JSON values."""
    return document.model_dump(mode="json", exclude_none=True)


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
    public, theirs, secret, opened, rejected = map(unb64u, stranger.run("-e", LATTICE, *arguments))
    assert public == key.public_key().public_bytes_raw()
    assert key.decapsulate(theirs) == secret
    assert opened == shared
    assert rejected == key.decapsulate(strange) != shared
