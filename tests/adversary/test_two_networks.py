"""Two networks in which the same people hold the same keys and everything has the same name: what is said in one is
said in that one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pytest
from nacl.signing import SigningKey

from kengele_hub.intake import Quota, Standing, examine
from kengele_node.office.desk import receive
from kengele_schemas.encoding import b64u, loads, unb64u
from kengele_schemas.envelope import Envelope, assemble, parse
from kengele_schemas.errors import KengeleError, Untrusted
from kengele_schemas.heartbeat import read_heartbeat, sign_heartbeat
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.recall import read_confirmation, sign_confirmation
from kengele_schemas.sealing import open_envelope
from kengele_schemas.trusted import Trusted
from kengele_schemas.trusted import assemble as together
from kengele_testing.values import KEYS, KID, MONITOR, NOW, TODAY, documents, grant, report, sealed

NKEY = KeyPair.generate("user").public


def network(root: bytes) -> Trusted:
    """All is the same but the root."""
    made = {path: json.dumps(value).encode() for path, value in documents(grant()).items()}
    identity = b64u(hashlib.sha256(root).digest())
    return together(made, version=1, fresh=True, expires=NOW, identity=identity)


HERE, THERE = network(b"here"), network(b"there")
SENT = sealed(report(), HERE, {"unrcca": 1})


def taken(data: bytes, trusted: Trusted) -> str:
    """The hub's word."""
    standing = Standing(trusted, {NKEY: ("monitor", KID)}, {}, {})
    return examine(data, NKEY, standing, Quota(600), NOW).code


def opened(data: bytes, trusted: Trusted) -> str:
    """The desk's."""
    try:
        receive(data, trusted, office="unrcca", keys=[KEYS["unrcca"]], today=TODAY)
    except KengeleError as error:
        return error.code
    return "opened"


def resigned(envelope: Envelope, claims: Mapping[str, Any]) -> bytes:
    """The same ciphertexts and wraps, under its author's signature, with other claims."""
    said = {**loads(unb64u(envelope.payload), max_bytes=16 * 1024), **claims}
    payload = b64u(json.dumps(said, separators=(",", ":")).encode())
    signature = b64u(MONITOR.sign(f"{envelope.protected}.{payload}".encode()).signature)
    return assemble(envelope.protected, payload, signature, envelope.ciphertexts, envelope.wraps)


def test_an_envelope_of_one_network_cannot_be_opened_or_taken_in_another_with_the_same_keys() -> None:
    assert (taken(SENT, HERE), opened(SENT, HERE)) == ("accepted", "opened")
    assert (taken(SENT, THERE), opened(SENT, THERE)) == ("other-network", "other-network")


def test_nor_by_its_own_author_who_signs_it_for_the_other() -> None:
    moved = resigned(parse(SENT), {"net": THERE.identity})
    assert opened(moved, THERE) == "cannot-open"
    with pytest.raises(KengeleError):
        open_envelope(parse(moved), "unrcca", [KEYS["unrcca"]], bytes(MONITOR.verify_key))


def test_an_envelope_that_names_no_network_is_of_none() -> None:
    envelope = parse(SENT)
    for value in (None, "", "A" * 42, True):
        bare = resigned(envelope, {"net": value})
        assert (taken(bare, HERE), opened(bare, HERE)) == ("malformed", "bad-field")


def test_an_offices_word_that_it_obeyed_in_one_network_is_none_in_the_other() -> None:
    key = SigningKey(b"s" * 32)
    said = sign_confirmation("unrcca", "A" * 22, bytes(32), network=HERE.identity, at=NOW, key=key)
    assert read_confirmation(said, bytes(key.verify_key), HERE.identity).office == "unrcca"
    with pytest.raises(Untrusted) as caught:
        read_confirmation(said, bytes(key.verify_key), THERE.identity)
    assert caught.value.code == "other-network"


def test_nor_is_an_authors_heartbeat() -> None:
    said = sign_heartbeat("unrcca", KEYS["unrcca"].public, 7, network=HERE.identity, at=1, key=MONITOR)
    with pytest.raises(Untrusted) as caught:
        read_heartbeat(said, bytes(MONITOR.verify_key), THERE.identity)
    assert caught.value.code == "other-network"
