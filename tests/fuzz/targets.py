"""What is fuzzed: each reader of what comes from outside, good inputs for it, and what it must never do with a bad one.

A target is called with bytes. It returns whether they were taken for good; a refusal is a :class:`KengeleError`, and
anything else is a crash.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from kengele_hub.intake import ACCEPTED, Quota, examine, leaf_of
from kengele_node.office.arrivals import Arrival
from kengele_node.office.desk import receive
from kengele_schemas.cards import CoordinatorCard, read_card
from kengele_schemas.checkpoint import sign_checkpoint, verify_checkpoint, verify_proof, write_proof
from kengele_schemas.compartments import ALL_BITS
from kengele_schemas.envelope import parse, strip
from kengele_schemas.errors import Malformed
from kengele_schemas.heartbeat import read_heartbeat, sign_heartbeat
from kengele_schemas.keys import new_signing_key
from kengele_schemas.marker import read_marker, sign_marker
from kengele_schemas.merkle import Tree, leaf_hash
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.packing import pack, unpack
from kengele_schemas.policy_text import policy_from_yaml, to_yaml
from kengele_schemas.recall import read_confirmation, sign_confirmation
from kengele_schemas.receipt import accepted, read_leaf, read_receipt
from kengele_schemas.report import parse_header
from kengele_schemas.sealing import Reader
from kengele_schemas.sharing import make_share, verified
from kengele_schemas.tiles import bundle, read_bundle
from kengele_schemas.trust import TrustStore
from kengele_schemas.trusted import UNNAMED, Trusted
from kengele_testing.hub import LOG, Roster
from kengele_testing.trust import NOW, Paper

ORIGIN = "kengele/fuzz"
_KEY = new_signing_key()
_PUBLIC = bytes(_KEY.verify_key)


@dataclass(frozen=True)
class Target:
    """``seeds`` are taken for good by ``take``; nothing else may be, unless the target is ``free`` and judges itself.

    ``share`` is how many of a thousand executions it gets.
    """

    name: str
    take: Callable[[bytes], bool]
    seeds: tuple[bytes, ...] = field(repr=False)
    share: int
    free: bool = False


def _envelope(data: bytes) -> bool:
    # Whoever is no author can still write an envelope; it must be read in one way only.
    if parse(data).encode() != data:
        raise AssertionError("an envelope has two spellings")
    return True


def _policy(data: bytes) -> bool:
    written = policy_from_yaml(_text(data))
    again = policy_from_yaml(to_yaml(written.rules, written.assertions))
    if again.rules != written.rules:
        raise AssertionError("rules change when they are written down")
    return True


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("malformed", "This is no text.") from None


def _same(found: object, expected: object) -> bool:
    if found != expected:
        raise AssertionError("something was taken that nobody signed")
    return True


def _unpacked(data: bytes) -> bool:
    if len(unpack(data, max_bytes=4096)) > 4096 and data[:1] == b"\x78":
        raise AssertionError("more was unpacked than was asked for")
    return True


def _leaf(data: bytes) -> bool:
    if read_leaf(data).canonical() != data:
        raise AssertionError("a leaf has two spellings")
    return True


@lru_cache(1)
def targets() -> tuple[Target, ...]:
    """All of them, with keys of this process's own."""
    roster, now = Roster(), datetime.now(UTC)
    standing, today = roster.standing(), now.date()
    reports = tuple(roster.sealed(author) for author in ("osh", "osh", "osh"))
    given = tuple(strip(parse(data), "unrcca", ("handling", "summary", "account")) for data in reports)
    quota = Quota(1 << 60)

    def intake(data: bytes) -> bool:
        found = examine(data, roster.nkeys["osh"], standing, quota, now)
        return found.code == ACCEPTED

    def arrived(data: bytes) -> Arrival:
        found = receive(data, standing.trusted, office="unrcca", keys=[roster.opening["unrcca"]], today=today)
        if not isinstance(found, Arrival):
            raise AssertionError("a marker was taken that nobody signed")
        return found

    originals = {found.header.id: found for found in map(arrived, given)}

    def desk(data: bytes) -> bool:
        # The hub may leave compartments out; what is there must be what the author wrote.
        found = arrived(data)
        original = originals[found.header.id]
        same = all(original.contents[name] == content for name, content in found.contents.items())
        return _same((same, found.header, found.digest), (True, original.header, original.digest))

    tree = Tree()
    envelope = parse(reports[0])
    leaf = leaf_of(envelope, parse_header(envelope.claims), bytes(32), standing.trusted, now).canonical()
    for number in range(100):
        tree.append(bytes([number]) * 32)
    place = tree.size
    tree.append(leaf_hash(leaf))
    for number in range(100):
        tree.append(bytes([number]) * 32)
    checkpoint = sign_checkpoint(ORIGIN, tree.size, tree.root(), _KEY)
    stands = verify_checkpoint(checkpoint, ORIGIN, _PUBLIC)
    proof = write_proof(place, tree.inclusion(place, tree.size), checkpoint)
    digest = bytes(32)
    receipt = accepted(envelope.claims["id"], envelope.digest, digest, leaf, proof, repeat=False)

    def proofs(data: bytes) -> bool:
        # Signatures of others may stand under a checkpoint; what it says must be what the hub said.
        return _same(verify_proof(_text(data), leaf_hash(leaf), ORIGIN, _PUBLIC), (place, stands))

    def receipts(data: bytes) -> bool:
        return _same(read_receipt(data, _PUBLIC, ORIGIN, digest).index, place)

    files = Paper().founded()
    root = files["metadata/1.root.json"]

    def taken(bent: Mapping[str, bytes]) -> Trusted:
        with tempfile.TemporaryDirectory() as directory:
            return TrustStore(Path(directory), root).refresh(bent.get, "hub", NOW)

    whole = taken(files)

    def trust(data: bytes) -> bool:
        name, _, file = data.partition(b"\0")
        return _same(taken({**files, name.decode("ascii", "replace"): file}).policy, whole.policy)

    card = CoordinatorCard.of(_KEY, KeyPair.generate("user"))
    rules = to_yaml(standing.trusted.policy.rules)
    said = sign_confirmation("unrcca", "A" * 22, digest, network=UNNAMED, at=now, key=_KEY)
    beat = sign_heartbeat("unrcca", roster.opening["unrcca"].public, 1, network=UNNAMED, at=1, key=_KEY)
    marker = sign_marker("unrcca", roster.kid("osh"), policy=1, at=1, key=_KEY)
    share = make_share(
        Reader("council", roster.opening["council"].public, ALL_BITS),
        {},
        report=envelope.claims["id"],
        core=envelope.core,
        by=roster.kid("osh"),
        network=LOG,
        day=today,
        key=roster.authors["osh"],
    )
    return (
        Target("envelope", _envelope, (*reports, *given), 250, free=True),
        Target("intake", intake, reports, 250),
        Target("desk", desk, given, 150, free=True),
        Target("policy", _policy, (rules.encode(),), 30, free=True),
        Target("trust", trust, tuple(path.encode() + b"\0" + data for path, data in files.items()), 2, free=True),
        Target("proof", proofs, (proof.encode(),), 88, free=True),
        Target("receipt", receipts, (receipt,), 80, free=True),
        Target("leaf", _leaf, (leaf,), 40, free=True),
        Target("marker", lambda data: bool(read_marker(data, "unrcca", _PUBLIC)), (marker,), 30),
        Target("confirmation", lambda data: bool(read_confirmation(data, _PUBLIC, UNNAMED)), (said,), 30),
        Target("heartbeat", lambda data: bool(read_heartbeat(data, _PUBLIC, UNNAMED)), (beat,), 30),
        Target("share", lambda data: bool(verified(data, envelope, standing.trusted)), (share,), 30),
        Target("card", lambda data: _same(read_card(data, CoordinatorCard), card), (card.encode(),), 20, free=True),
        Target("bundle", lambda data: read_bundle(data) is not None, (bundle([leaf, b"x"]),), 20, free=True),
        Target("packed", _unpacked, (pack(b"\x78" + leaf),), 10, free=True),
    )
