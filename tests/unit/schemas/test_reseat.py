"""Coordinators come and go: by the signatures of those who count now and of those who will, and of nobody else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from kengele_schemas import drafts, metadata, publication, signatures
from kengele_schemas.cards import CoordinatorCard, coordinator_id
from kengele_schemas.drafts import Draft
from kengele_schemas.errors import KengeleError, Malformed, Refused, Untrusted
from kengele_schemas.keys import new_signing_key
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.trust import TrustStore
from kengele_testing.trust import NOW, Paper

LATER = NOW + timedelta(days=1)


@pytest.fixture(scope="module")
def paper() -> Paper:
    return Paper()


@pytest.fixture(scope="module")
def nkeys() -> list[str]:
    return [KeyPair.generate("user").public for _ in range(3)]


@pytest.fixture(scope="module")
def first(paper: Paper, nkeys: list[str]) -> dict[str, bytes]:
    rows = [row(key, nkey) for key, nkey in zip(paper.coordinators, nkeys, strict=True)]
    return paper.accept(paper.signed(paper.drafted({**paper.documents(), **connections(rows)})))


def row(key: SigningKey, nkey: str) -> dict[str, str]:
    return {"nkey": nkey, "role": "coordinator", "member": coordinator_id(bytes(key.verify_key))}


def connections(rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    return {"connections.json": {"v": 1, "connections": [dict(one) for one in rows], "revoked": []}}


def reseated(paper: Paper, first: Mapping[str, bytes], new: SigningKey, *, threshold: int | None = None) -> Draft:
    """The third coordinator goes, ``new`` comes."""
    nkey = KeyPair.generate("user")
    old = metadata.document_of(first, "connections.json")["connections"]
    rows = [*old[:2], row(new, nkey.public)]
    gone = coordinator_id(bytes(paper.coordinators[2].verify_key))
    return drafts.reseat(first, connections(rows), [CoordinatorCard.of(new, nkey)], {gone}, threshold, LATER)


def by(draft: Draft, *keys: SigningKey) -> Draft:
    for key in keys:
        draft = signatures.sign(draft, key)
    return draft


def test_a_coordinator_takes_anothers_place_and_signs_the_next_version(
    tmp_path: Path, paper: Paper, first: dict[str, bytes]
) -> None:
    one, two, gone = paper.coordinators
    new = new_signing_key()
    draft = reseated(paper, first, new)
    signatures.check(draft, first, LATER)
    assert signatures.missing(draft) == {"root": 2, "targets": 2, "monitors-KG": 2}
    second = paper.accept(by(draft, one, two), first, LATER)
    store = TrustStore(tmp_path, first["metadata/1.root.json"])
    store.refresh(first.get, "hub", NOW)
    assert store.refresh(second.get, "hub", LATER).version == 3
    third = drafts.edit(second, {}, LATER)
    with pytest.raises(Refused) as caught:
        signatures.sign(third, gone)
    assert caught.value.code == "not-a-coordinator"
    third = by(third, one, new)
    assert store.refresh(paper.accept(third, second, LATER).get, "hub", LATER).version == 5


def test_it_takes_those_who_count_now_as_well_as_those_who_will(paper: Paper, first: dict[str, bytes]) -> None:
    one, _, gone = paper.coordinators
    new = new_signing_key()
    draft = reseated(paper, first, new)
    for signers, lacking in (
        ((one,), {"root": 1, "targets": 1, "monitors-KG": 1}),
        ((one, new), {"root": 1}),
        ((one, gone), {"root": 1, "targets": 1, "monitors-KG": 1}),
        ((one, gone, new), {}),
    ):
        signed = by(draft, *signers)
        assert signatures.missing(signed) == lacking
        if lacking:
            with pytest.raises(KengeleError) as caught:
                paper.accept(signed, first, LATER)
            assert caught.value.code == "too-few-signatures"
        else:
            paper.accept(signed, first, LATER)


def test_a_draft_that_seats_others_than_it_shows_is_not_signed(paper: Paper, first: dict[str, bytes]) -> None:
    new, hidden = new_signing_key(), new_signing_key()
    shown, other = reseated(paper, first, new), reseated(paper, first, hidden)
    for roles in ({**shown.roles, "root": other.roles["root"]}, other.roles):
        with pytest.raises(Untrusted) as caught:
            signatures.check(replace(shown, roles=roles), first, LATER)
        assert caught.value.code == "not-as-shown"
    policy = metadata.document_of(first, "policy.json")
    harmless = drafts.edit(first, {"policy.json": {**policy, "version": 2}}, LATER)
    with pytest.raises(Untrusted):
        signatures.check(harmless.including("root", shown.roles["root"]), first, LATER)
    lower = reseated(paper, first, new, threshold=1)
    with pytest.raises(Untrusted):
        signatures.check(replace(shown, roles={**shown.roles, "root": lower.roles["root"]}), first, LATER)


def test_a_rotated_out_key_counts_for_nothing_though_its_old_signatures_stand(
    tmp_path: Path, paper: Paper, first: dict[str, bytes]
) -> None:
    one, two, gone = paper.coordinators
    second = paper.accept(by(reseated(paper, first, new_signing_key()), one, two), first, LATER)
    # Signed by the removed coordinator and one who counts, as if it followed the first version.
    forged = by(drafts.edit(first, {}, LATER), one, gone)
    served = publication.vouched({**second, **forged.files()}, paper.snapshot, paper.timestamp, LATER, 9, 9)
    store = TrustStore(tmp_path, first["metadata/1.root.json"])
    with pytest.raises(Untrusted) as caught:
        store.refresh(served.get, "hub", LATER)
    assert caught.value.code == "too-few-signatures"
    assert store.refresh(second.get, "hub", LATER).version == 3


@pytest.mark.parametrize("threshold", [0, 4, -1])
def test_a_threshold_that_cannot_be_met_is_refused(paper: Paper, first: dict[str, bytes], threshold: int) -> None:
    with pytest.raises(Malformed) as caught:
        reseated(paper, first, new_signing_key(), threshold=threshold)
    assert caught.value.code == "bad-threshold"
