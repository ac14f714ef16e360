"""Cards: what people hand each other holds together, and the digits they read out are of this very card."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from kengele_schemas.cards import (
    MAX_CARD,
    Card,
    CoordinatorCard,
    HubCard,
    Joiner,
    JoinRequest,
    NetworkCard,
    coordinator_id,
    read_card,
)
from kengele_schemas.encoding import b64u, canonical
from kengele_schemas.errors import KengeleError, Malformed, Untrusted
from kengele_schemas.fields import read
from kengele_schemas.keys import HYBRID, X25519, OpeningKey, monitor_id
from kengele_schemas.nkeys import KeyPair

KEY = SigningKey(bytes(range(32)))
OTHER = SigningKey(bytes(range(1, 33)))
NKEY = KeyPair.from_seed("SUAKYRHVIOREXV7EUZTBHUHL7NUMHPMAS7QMDU3GTIUWEI5LDNOXD43IZY")
ANOTHER = KeyPair.generate("user")
KEYS = (OpeningKey.generate(HYBRID).public, OpeningKey.generate(X25519).public)
PUBLIC, STRANGER = (b64u(bytes(key.verify_key)) for key in (KEY, OTHER))
KID = monitor_id(bytes(KEY.verify_key))
SMALL_ORDER = b64u(b"\x01" + bytes(31))
JOIN = {"jwt": "header.claims.signature", "seed": NKEY.seed}
FIRST_ROOT = b'{"signed":{}}'

MONITOR = JoinRequest.for_monitor(KEY, NKEY, ("KG-O", "KG-B"))
OFFICE = JoinRequest.for_office(KEY, NKEY, id="unrcca", name="UN Centre, Ашгабат", areas=("KG", "KZ"), keys=KEYS)
COORDINATOR = CoordinatorCard.of(KEY, NKEY, "Alice")
HUB = read(
    HubCard,
    {
        "urls": ["tls://hub.example:4222", "wss://hub.example:443"],
        "hub_key": PUBLIC,
        "snapshot_key": STRANGER,
        "timestamp_key": STRANGER,
        "log": "kengele/test",
        "join": JOIN,
        "token": "A" * 22,
    },
)
NETWORK = read(
    NetworkCard,
    {
        "name": "Bell",
        "urls": ["nats://127.0.0.1:4222"],
        "join": JOIN,
        "root": b64u(FIRST_ROOT),
        "root_digest": b64u(hashlib.sha256(FIRST_ROOT).digest()),
        "ca": "-----BEGIN CERTIFICATE-----\n…\n",
    },
)
CARDS: list[Card] = [MONITOR, OFFICE, COORDINATOR, HUB, NETWORK]
Signed = JoinRequest | CoordinatorCard
SIGNED: list[Signed] = [MONITOR, OFFICE, COORDINATOR]
NAMES = ["monitor", "office", "coordinator", "hub", "network"]


def document_of(card: Card) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(card.encode())
    return document


def leaves(document: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The places of all texts and numbers in a document."""
    if not isinstance(document, (dict, list)):
        return [path]
    items = document.items() if isinstance(document, dict) else enumerate(document)
    return [place for key, value in items for place in leaves(value, (*path, key))]


def put(document: Any, path: tuple[str | int, ...], value: object) -> bytes:
    copy = json.loads(json.dumps(document))
    at = copy
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return json.dumps(copy).encode()


def resigned(document: dict[str, Any], key: SigningKey = KEY, nkey: KeyPair = NKEY) -> bytes:
    """A join request with these members under true signatures, as a node of another make might write it."""
    said = {name: value for name, value in document.items() if name not in ("signature", "nkey_signature")}
    message = b"kengele-join-v1\0" + canonical(said)
    signatures = {"signature": b64u(key.sign(message).signature), "nkey_signature": b64u(nkey.sign(message))}
    return json.dumps({**said, **signatures}).encode()


@pytest.mark.parametrize("card", CARDS, ids=NAMES)
def test_a_card_comes_back_as_it_was_handed_over(card: Card) -> None:
    data = card.encode()
    assert read_card(data, type(card)) == card
    assert read_card(data, type(card)).encode() == data
    assert data.endswith(b"}\n")


@pytest.mark.parametrize("card", SIGNED, ids=NAMES[:3])
def test_both_sides_read_the_same_sixteen_digits(card: Signed) -> None:
    read = read_card(card.encode(), type(card))
    assert read.digits() == card.digits()
    assert re.fullmatch(r"[0-9]{4}( [0-9]{4}){3}", card.digits())
    said = {name: value for name, value in document_of(card).items() if not name.endswith("signature")}
    stretched = Scrypt(salt=b"kengele-digits-v2\0", length=8, n=65536, r=8, p=1).derive(canonical(said))
    assert card.digits().replace(" ", "") == f"{int.from_bytes(stretched, 'big') % 10**16:016d}"


@cache
def shown() -> set[str]:
    return {card.digits() for card in SIGNED}


@pytest.mark.parametrize("number", [0, 1, 10**16 - 1, 10**16, 10**15 + 7, 400_000_000_008])
def test_digits_that_begin_with_zeros_keep_them(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(hashlib, "scrypt", lambda *_, **__: number.to_bytes(8, "big"))
    digits = SIGNED[0].digits()
    assert digits.replace(" ", "") == str(number % 10**16).rjust(16, "0")
    assert [len(group) for group in digits.split(" ")] == [4, 4, 4, 4]


@pytest.mark.parametrize(
    "other",
    [
        JoinRequest.for_monitor(KEY, NKEY, ("KG-O",)),
        JoinRequest.for_monitor(KEY, NKEY, ("KG-B", "KG-O")),
        JoinRequest.for_monitor(KEY, ANOTHER, ("KG-O", "KG-B")),
        JoinRequest.for_monitor(OTHER, NKEY, ("KG-O", "KG-B")),
        JoinRequest.for_office(KEY, NKEY, id="unrcca", name="UN", areas=("KG", "KZ"), keys=KEYS),
        JoinRequest.for_office(KEY, NKEY, id="unrccb", name="UN Centre, Ашгабат", areas=("KG", "KZ"), keys=KEYS),
        JoinRequest.for_office(KEY, NKEY, id="unrcca", name="UN Centre, Ашгабат", areas=("KG",), keys=KEYS),
        JoinRequest.for_office(
            KEY, NKEY, id="unrcca", name="UN Centre, Ашгабат", areas=("KG", "KZ"), keys=(KEYS[0], KEYS[0])
        ),
        JoinRequest.for_office(OTHER, NKEY, id="unrcca", name="UN Centre, Ашгабат", areas=("KG", "KZ"), keys=KEYS),
        JoinRequest.for_office(KEY, ANOTHER, id="unrcca", name="UN Centre, Ашгабат", areas=("KG", "KZ"), keys=KEYS),
        CoordinatorCard.of(KEY, NKEY),
        CoordinatorCard.of(KEY, NKEY, "Bob"),
        CoordinatorCard.of(KEY, ANOTHER, "Alice"),
        CoordinatorCard.of(OTHER, NKEY, "Alice"),
    ],
)
def test_any_other_card_has_other_digits(other: Signed) -> None:
    assert other.digits() not in shown()


@pytest.mark.parametrize("card", SIGNED, ids=NAMES[:3])
def test_no_field_of_a_signed_card_can_be_changed(card: Signed) -> None:
    document = document_of(card)
    for path in leaves(document):
        value = document
        for key in path:
            value = value[key]  # type: ignore[index]
        for changed in (
            None,
            "",
            7,
            f"{value}A",
            str(value)[:-1],
            str(value).swapcase(),
            STRANGER,
            ANOTHER.public,
            "KZ",
        ):
            if changed == value:
                continue
            with pytest.raises(KengeleError) as caught:
                read_card(put(document, path, changed), type(card))
            assert caught.value.code in ("bad-card", "malformed"), path


@pytest.mark.parametrize("card", CARDS, ids=NAMES)
def test_a_card_holds_no_member_that_is_not_known_and_lacks_none_it_needs(card: Card) -> None:
    document = document_of(card)
    with pytest.raises(Malformed) as caught:
        read_card(json.dumps({**document, "x": 1}).encode(), type(card))
    assert caught.value.code == "bad-card"
    for name in document.keys() - {"v", "ca"}:
        without = {key: value for key, value in document.items() if key != name}
        with pytest.raises(KengeleError) as other:
            read_card(json.dumps(without).encode(), type(card))
        assert other.value.code == "bad-card", name


def test_a_request_with_anothers_key_in_it_is_refused() -> None:
    document = document_of(MONITOR)
    office = document_of(OFFICE)
    theirs = {"kid": monitor_id(bytes(OTHER.verify_key)), "key": STRANGER}
    forged = [
        ("the monitor's key is another's", resigned({**document, "monitor": theirs})),
        ("the nkey is another's", resigned({**document, "nkey": ANOTHER.public})),
        ("the name is another's", resigned({**document, "monitor": {**theirs, "key": PUBLIC}})),
        (
            "the office's key is another's",
            resigned({**office, "office": {**office["office"], "sign": STRANGER}}),
        ),
    ]
    for sentence, data in forged:
        with pytest.raises(Untrusted) as caught:
            read_card(data, JoinRequest)
        assert caught.value.code == "bad-card", sentence
    assert read_card(resigned(document), JoinRequest) == MONITOR


def test_signatures_cannot_be_carried_from_card_to_card() -> None:
    coordinator, request = document_of(COORDINATOR), document_of(MONITOR)
    for data, model in (
        ({**coordinator, "signature": request["signature"]}, CoordinatorCard),
        ({**request, "signature": coordinator["signature"]}, JoinRequest),
        ({**request, "signature": document_of(OFFICE)["signature"]}, JoinRequest),
        ({**request, "nkey_signature": request["signature"]}, JoinRequest),
    ):
        with pytest.raises(Untrusted):
            read_card(json.dumps(data).encode(), model)


def test_a_coordinators_id_follows_from_its_key() -> None:
    assert COORDINATOR.id == coordinator_id(bytes(KEY.verify_key))
    said = {name: value for name, value in document_of(COORDINATOR).items() if name != "signature"}
    said["id"] = coordinator_id(bytes(OTHER.verify_key))
    signature = b64u(KEY.sign(b"kengele-coordinator-v1\0" + canonical(said)).signature)
    with pytest.raises(Untrusted):
        read_card(json.dumps({**said, "signature": signature}).encode(), CoordinatorCard)


def test_who_gives_the_wrong_file_is_told_which_is_wanted() -> None:
    for model, named in ((JoinRequest, "join-request.json"), (NetworkCard, "network.json"), (HubCard, "hub-card.json")):
        with pytest.raises(Malformed) as caught:
            read_card(COORDINATOR.encode(), model)
        assert named in caught.value.sentence


def test_a_request_says_who_asks_once() -> None:
    monitor, office = document_of(MONITOR), document_of(OFFICE)
    for document in (
        {**monitor, "role": "office"},
        {**office, "role": "monitor"},
        {**monitor, "office": office["office"]},
        {name: value for name, value in monitor.items() if name != "monitor"},
    ):
        with pytest.raises(Malformed) as caught:
            read_card(resigned(document), JoinRequest)
        assert caught.value.code == "bad-card"


def test_a_request_names_its_member() -> None:
    assert MONITOR.member == KID
    assert OFFICE.member == "unrcca"
    assert MONITOR.model_copy(update={"monitor": None}).member == ""


WRONG: list[tuple[str, Card, dict[str, Any]]] = [
    ("a key of small order", HUB, {"hub_key": SMALL_ORDER}),
    ("no address", HUB, {"urls": []}),
    ("an address of another kind", HUB, {"urls": ["http://hub.example"]}),
    ("an address with credentials in it", HUB, {"urls": ["tls://user@hub.example"]}),
    ("an address with a space in it", HUB, {"urls": ["tls://hub example"]}),
    ("more addresses than anyone tries", HUB, {"urls": ["tls://hub.example"] * 9}),
    ("a token cut short", HUB, {"token": "A" * 21}),
    ("a seed of another kind", HUB, {"join": {**JOIN, "seed": "SA" + NKEY.seed[2:]}}),
    ("another version", HUB, {"v": 2}),
    ("a root that does not fit its digest", NETWORK, {"root": b64u(FIRST_ROOT + b" ")}),
    ("a digest that does not fit its root", NETWORK, {"root_digest": b64u(hashlib.sha256(b"").digest())}),
    ("a root that is no base64url", NETWORK, {"root": "%"}),
    ("a name of two lines", NETWORK, {"name": "Bell\nand more"}),
    ("another version", NETWORK, {"v": 2}),
    ("an nkey that is an account's", MONITOR, {"nkey": KeyPair.generate("account").public}),
    ("an area that cannot be", MONITOR, {"areas": ["kg"]}),
    ("no area", MONITOR, {"areas": []}),
    ("a role that there is not", MONITOR, {"role": "coordinator"}),
    ("an office that cannot be", OFFICE, {"office": {**document_of(OFFICE)["office"], "id": "UNRCCA"}}),
    ("an office without opening keys", OFFICE, {"office": {**document_of(OFFICE)["office"], "keys": []}}),
    ("an id of another shape", COORDINATOR, {"id": "alice"}),
]


@pytest.mark.parametrize(("_sentence", "card", "change"), WRONG, ids=[sentence for sentence, _, _ in WRONG])
def test_a_card_with_a_wrong_field_is_refused(_sentence: str, card: Card, change: dict[str, Any]) -> None:
    with pytest.raises(Malformed) as caught:
        read_card(json.dumps({**document_of(card), **change}).encode(), type(card))
    assert caught.value.code == "bad-card"


def test_an_nkey_copied_wrongly_is_refused() -> None:
    wrong = NKEY.public[:-1] + ("A" if NKEY.public[-1] != "A" else "B")
    with pytest.raises(KengeleError):
        read_card(resigned({**document_of(MONITOR), "nkey": wrong}), JoinRequest)


def test_one_card_is_not_taken_for_another() -> None:
    for card in CARDS:
        for other in CARDS:
            if type(card) is not type(other):
                with pytest.raises(Malformed) as caught:
                    read_card(card.encode(), type(other))
                assert caught.value.code == "bad-card"


@pytest.mark.parametrize("name", ["Cafe\u0301 du Lac", "Café", "한국", "\u1112\u1161\u11ab", "مرصد ٢"])
def test_a_name_counts_as_it_is_read_however_it_was_typed(name: str) -> None:
    card = CoordinatorCard.of(KEY, NKEY, name)
    request = JoinRequest.for_office(KEY, NKEY, id="unrcca", name=name, areas=("KG",), keys=KEYS)
    assert read_card(card.encode(), CoordinatorCard) == card
    assert read_card(request.encode(), JoinRequest) == request


def test_no_secret_shows_in_a_cards_representation() -> None:
    for card in (HUB, NETWORK):
        assert NKEY.seed in card.encode().decode()
        assert NKEY.seed not in repr(card)
    assert "A" * 22 not in repr(HUB)
    assert NKEY.seed not in repr(Joiner(**JOIN))


def test_a_card_larger_than_any_is_not_read() -> None:
    with pytest.raises(Malformed) as caught:
        read_card(NETWORK.encode() + b" " * MAX_CARD, NetworkCard)
    assert caught.value.code == "bad-card"


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(CARDS),
    st.integers(0, 3000),
    st.one_of(st.binary(max_size=4), st.sampled_from([b'"', b"{", b"\\ud800", b"null", b"\xff"])),
    st.integers(0, 4),
    st.binary(max_size=60),
)
def test_no_bytes_raise_anything_but_our_errors(card: Card, at: int, piece: bytes, cut: int, free: bytes) -> None:
    data = card.encode()
    at %= len(data)
    for text in (data[:at] + piece + data[at + cut :], free):
        try:
            found = read_card(text, type(card))
        except (Malformed, Untrusted):
            continue
        assert found == card or not isinstance(card, JoinRequest | CoordinatorCard)
