"""The test vectors hold: what other implementations are held against is what this one does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import pytest
from nacl.signing import SigningKey

from kengele_hub.intake import Quota, Standing, examine
from kengele_node.office.desk import receive
from kengele_schemas.areas import Areas, AreasFile
from kengele_schemas.cards import CoordinatorCard, JoinRequest, coordinator_id, read_card
from kengele_schemas.encoding import b64u, canonical, length_prefixed, loads, unb64u
from kengele_schemas.envelope import TENSION_REPORT, Wrap, check_whole, core_of, ctr_of, parse, strip, verify
from kengele_schemas.errors import KengeleError, Malformed, Untrusted
from kengele_schemas.fields import read
from kengele_schemas.keys import OpeningKey, fingerprint, monitor_id
from kengele_schemas.marker import read_marker
from kengele_schemas.merkle import Tree, leaf_hash
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.nkeys import verify as verify_nkey
from kengele_schemas.policy import PolicyFile
from kengele_schemas.receipt import CODES, RETRY_AFTER, read_leaf, read_receipt
from kengele_schemas.release import Compiled, narrow
from kengele_schemas.report import Caveat, parse_compartment, parse_header
from kengele_schemas.roster import Offices, OfficesFile
from kengele_schemas.sealing import Reader, ciphertext_size, digest_of, disclosure, open_envelope, reassemble, seal
from kengele_schemas.trusted import assemble
from vectors import generate, plain


def vectors(name: str) -> Any:
    return json.loads((generate.HERE / name).read_bytes())


def cases(name: str, *path: str) -> Any:
    """Parametrizes with the cases at ``path`` of a file; each is named by its sentence."""
    found = vectors(name)
    for member in path:
        found = found[member]
    return pytest.mark.parametrize("case", found, ids=[case.get("sentence", str(i)) for i, case in enumerate(found)])


def code_of(attempt: Callable[..., object], *args: object, **named: object) -> str | None:
    try:
        attempt(*args, **named)
    except KengeleError as error:
        return error.code
    return None


@pytest.mark.parametrize("name", plain.FILES)
def test_the_generator_still_writes_this_file(name: str) -> None:
    assert (generate.HERE / name).read_bytes() == generate.written(plain.FILES[name]()), "run vectors.generate"


def test_names_follow_from_keys() -> None:
    found = vectors("keys.json")
    for case in found["signing"]:
        public = bytes(SigningKey(unb64u(case["seed"])).verify_key)
        assert b64u(public) == case["public"]
        assert (fingerprint(public), monitor_id(public), coordinator_id(public)) == (
            case["fingerprint"],
            case["kid"],
            case["coordinator"],
        )
    for case in found["opening"]:
        assert b64u(OpeningKey(case["suite"], unb64u(case["secret"])).public.raw) == case["public"]
    for case in found["nkeys"]:
        pair = KeyPair.from_seed(case["seed"])
        assert pair.public == case["public"]
        assert verify_nkey(pair.public, case["nonce"].encode(), unb64u(case["signature"]))


@cases("encoding.json", "json")
def test_json_is_read_strictly(case: dict[str, Any]) -> None:
    data, depth = unb64u(case["data"]), vectors("encoding.json")["json_depth"]
    if "code" in case:
        assert code_of(loads, data, max_bytes=1000, max_depth=depth) == case["code"]
    else:
        assert loads(data, max_bytes=1000, max_depth=depth) == case["value"]


def test_base64url_has_one_spelling() -> None:
    found = vectors("encoding.json")
    for case in found["base64url"]:
        assert (b64u(bytes.fromhex(case["hex"])), unb64u(case["text"]).hex()) == (case["text"], case["hex"])
    for case in found["not_base64url"]:
        with pytest.raises(Malformed):
            unb64u(case["text"])
    for case in found["canonical"]:
        assert canonical(case["value"]).decode() == case["text"]
    for case in found["length_prefixed"]:
        assert length_prefixed(*map(bytes.fromhex, case["parts"])).hex() == case["hex"]


def test_disclosures_digests_and_what_binds_them() -> None:
    found = vectors("sealing.json")
    for case in found["disclosures"]:
        made = disclosure(unb64u(case["salt"]), case["name"], case["value"])
        assert (made.decode(), digest_of(made)) == (case["text"], case["digest"])
    for case in found["padded_sizes"]:
        assert ciphertext_size(case["length"], case["least"]) == case["padded"] + 16
    core = found["core"]
    assert b64u(core_of(TENSION_REPORT, core, core["_sd"])) == core["core"]
    ctr = found["ctr"]
    assert ctr_of(ctr["ct"], [Wrap(*wrap) for wrap in ctr["w"]]) == ctr["ctr"]


@cases("envelopes.json", "wraps")
def test_wraps_open_under_the_keys_given(case: dict[str, Any]) -> None:
    key = OpeningKey(case["suite"], unb64u(case["secret"]))
    assert b64u(key.open(unb64u(case["wrap"]), unb64u(case["info"]))) == case["plain"]
    # What another hand sealed and what this one seals differ in the ephemeral key only.
    assert len(key.public.seal(unb64u(case["plain"]), b"")) == len(unb64u(case["wrap"]))


@cases("envelopes.json", "envelopes")
def test_a_whole_report_verifies_and_opens_for_each_of_its_offices(case: dict[str, Any]) -> None:
    author, data = bytes(SigningKey(unb64u(case["author"])).verify_key), case["envelope"].encode()
    found = parse(data)
    verify(found, author)
    check_whole(found)
    assert parse_header(found.claims).claims() == case["claims"]
    assert (b64u(found.core), b64u(found.digest), b64u(hashlib.sha256(data).digest())) == (
        case["core"],
        case["digest"],
        case["bytes"],
    )
    keys = {reader["office"]: OpeningKey(reader["suite"], unb64u(reader["secret"])) for reader in case["readers"]}
    for expected in (*case["opened"], *case["stripped"]):
        office = expected["office"]
        one = parse(expected["envelope"].encode()) if "envelope" in expected else found
        opened = open_envelope(one, office, [keys[office]], author)
        assert opened.contents == expected["contents"]
        assert (opened.counter or 0, list(opened.withheld)) == (expected["counter"], expected["withheld"])
        assert reassemble(one, opened) == expected["sd_jwt"]
        for name, value in opened.contents.items():
            parse_compartment(name, value)
        if "kept" in expected:
            assert strip(found, office, expected["kept"]).decode() == expected["envelope"]


class Stream:
    """The randomness that a vector names, used up from its beginning."""

    def __init__(self, data: bytes) -> None:
        self.left = data

    def __call__(self, size: int) -> bytes:
        out, self.left = self.left[:size], self.left[size:]
        return out


@cases("envelopes.json", "envelopes")
def test_the_same_randomness_seals_to_the_same_bytes_but_for_the_wraps(case: dict[str, Any]) -> None:
    readers = [
        Reader(reader["office"], OpeningKey(reader["suite"], unb64u(reader["secret"])).public, reader["bits"], None)
        for reader in case["readers"]
    ]
    random, key = Stream(bytes.fromhex(case["random"])), SigningKey(unb64u(case["author"]))
    made = parse(seal(TENSION_REPORT, case["claims"], case["contents"], readers, key, random=random))
    found = parse(case["envelope"].encode())
    assert (made.sd, made.core, made.ciphertexts) == (found.sd, found.core, found.ciphertexts)
    assert [(*wrap[:2], len(wrap.text)) for wrap in made.wraps] == [(*wrap[:2], len(wrap.text)) for wrap in found.wraps]


@cases("envelopes.json", "unusual", "envelopes")
def test_what_is_signed_as_bytes_may_be_spelt_in_any_way(case: dict[str, Any]) -> None:
    about = vectors("envelopes.json")["unusual"]
    key = OpeningKey(about["suite"], unb64u(about["key"]))
    found = parse(case["envelope"].encode())
    check_whole(found)
    parse_header(found.claims)
    assert open_envelope(found, about["office"], [key], unb64u(about["author"])).contents == case["contents"]


@cases("bad-envelopes.json", "envelopes")
def test_what_does_not_hold_is_refused_with_its_code(case: dict[str, Any]) -> None:
    about = vectors("bad-envelopes.json")
    now = datetime.fromisoformat(about["now"])
    files = {path: json.dumps(value).encode() for path, value in about["documents"].items()}
    trusted = assemble(files, version=1, fresh=True, expires=now, identity=about["network"])
    data = case["envelope"].encode()
    if "receipt" in case:
        standing = Standing(trusted, {about["nkey"]: ("monitor", *trusted.monitors)}, {}, {})
        assert examine(data, about["nkey"], standing, Quota(600), now).code == case["receipt"]
    keys = [OpeningKey(about["suite"], unb64u(about["key"]))]
    assert code_of(receive, data, trusted, office=about["office"], keys=keys, today=now.date()) == case["code"]


def test_an_accepted_receipt_is_a_proof() -> None:
    about = vectors("receipts.json")
    hub, sent, good = unb64u(about["hub_key"]), unb64u(about["sent"]), about["accepted"]
    found = read_receipt(good["receipt"].encode(), hub, about["log"], sent)
    assert found.accepted
    assert found.index == good["index"]
    assert found.leaf is not None
    assert found.leaf.model_dump(mode="json", exclude_none=True) == good["leaf"]
    leaf = json.loads(good["receipt"])["leaf"].encode()
    assert read_leaf(leaf) == found.leaf
    assert b64u(leaf_hash(leaf)) == good["leaf_hash"]
    tree = Tree()
    for entry in about["entries"]:
        tree.append(leaf_hash(unb64u(entry)))
    assert b64u(tree.root()) == about["root"]
    assert unb64u(about["entries"][good["index"]]) == leaf


@cases("receipts.json", "refused")
def test_a_refusal_is_signed(case: dict[str, Any]) -> None:
    about = vectors("receipts.json")
    found = read_receipt(case["receipt"].encode(), unb64u(about["hub_key"]), about["log"], unb64u(about["sent"]))
    assert (found.code, found.retryable, found.retry_after) == (case["code"], case["retryable"], case["retry_after"])


@cases("receipts.json", "bad")
def test_a_receipt_that_proves_nothing_is_not_believed(case: dict[str, Any]) -> None:
    about = vectors("receipts.json")
    with pytest.raises(Untrusted) as caught:
        read_receipt(case["receipt"].encode(), unb64u(about["hub_key"]), about["log"], unb64u(about["sent"]))
    assert caught.value.code == "bad-receipt"


def test_every_code_of_a_receipt_is_in_the_vectors() -> None:
    assert vectors("receipts.json")["codes"] == {
        code: {"retryable": row.retryable, "retry_after": RETRY_AFTER.get(code)} for code, row in CODES.items()
    }


def test_markers() -> None:
    about = vectors("markers.json")
    hub = unb64u(about["hub_key"])
    assert read_marker(about["marker"].encode(), about["office"], hub).model_dump(mode="json") == about["said"]
    for case in about["bad"]:
        assert code_of(read_marker, case["marker"].encode(), about["office"], hub) == case["code"], case


def test_cards_and_the_digits_that_people_read_out() -> None:
    models = {"coordinator": CoordinatorCard, "join-request": JoinRequest}
    about = vectors("cards.json")
    for case in about["cards"]:
        card = read_card(case["card"].encode(), models[case["kind"]])
        assert card.digits() == case["digits"]
    for case in about["bad"]:
        assert code_of(read_card, case["card"].encode(), models[case["kind"]]) == case["code"], case["sentence"]


@cases("policy.json", "cases")
def test_what_is_released_to_whom(case: dict[str, Any]) -> None:
    about = vectors("policy.json")
    offices, areas = Offices(read(OfficesFile, about["offices"])), Areas(read(AreasFile, about["areas"]))
    compiled = Compiled([read(PolicyFile, about["policy"])], offices, areas)
    found = compiled.release(plain.Facts(case["header"]), date.fromisoformat(case["today"]))
    found = narrow(found, [read(Caveat, caveat) for caveat in case["caveats"]], offices)
    assert {office: (bits, list(rules)) for office, (bits, rules) in found.items()} == {
        office: (decision["bits"], decision["rules"]) for office, decision in case["release"].items()
    }
