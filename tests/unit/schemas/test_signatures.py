"""Signatures: each coordinator counts once, and what is signed stays as it was drafted."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tuf.api.metadata import Metadata

from kengele_schemas import drafts, metadata, signatures
from kengele_schemas.cards import coordinator_id
from kengele_schemas.drafts import Draft
from kengele_schemas.encoding import dumps
from kengele_schemas.errors import Refused, Untrusted
from kengele_testing.trust import DAY, NOW, Files, Paper, keyid, raised, resigned


def test_each_who_signs_a_networks_founding_is_told_who_counts_from_then_on() -> None:
    paper = Paper()
    ids = sorted(coordinator_id(bytes(key.verify_key)) for key in paper.coordinators)
    for signers in ((), (0,), (0, 1)):
        assert signatures.seats(paper.signed(paper.drafted(), signers)) == (ids, 2)


def test_signing_adds_signatures_and_changes_no_byte_of_what_is_signed(paper: Paper, draft: Draft) -> None:
    signed = paper.signed(draft)
    assert signed.documents == draft.documents
    for role, data in draft.roles.items():
        before, after = json.loads(data), json.loads(signed.roles[role])
        assert after["signed"] == before["signed"]
        assert (len(before["signatures"]), len(after["signatures"])) == (0, 2)


def test_each_signature_that_is_there_is_one_less_that_is_missing(paper: Paper, draft: Draft) -> None:
    assert signatures.missing(draft) == {"root": 2, "targets": 2, "monitors-KG": 2}
    one = signatures.sign(draft, paper.coordinators[0])
    assert signatures.missing(one) == {"root": 1, "targets": 1, "monitors-KG": 1}
    assert signatures.missing(signatures.sign(one, paper.coordinators[2])) == {}


def test_one_coordinator_who_signs_twice_counts_once(paper: Paper, draft: Draft, first: Files) -> None:
    twice = paper.signed(draft, by=(1, 1, 1))
    assert signatures.missing(twice) == {"root": 1, "targets": 1, "monitors-KG": 1}
    assert signatures.signers(twice) == {keyid(paper.coordinators[1])}
    with pytest.raises(Untrusted) as caught:
        paper.accept(twice)
    assert caught.value.code == "too-few-signatures"
    with pytest.raises(Untrusted):
        paper.accept(paper.signed(drafts.edit(first, raised(first), NOW), by=(1, 1)), first)


def test_signers_are_those_who_signed_all_of_it(paper: Paper, draft: Draft) -> None:
    assert signatures.signers(draft) == set()
    assert signatures.signers(paper.signed(draft)) == {keyid(key) for key in paper.coordinators[:2]}
    partly = signatures.sign(draft, paper.coordinators[0])
    partly = replace(draft, roles={**draft.roles, "root": partly.roles["root"]})
    assert signatures.signers(partly) == set()
    assert signatures.missing(partly)["targets"] == 2


@pytest.mark.parametrize("whose", ["snapshot", "timestamp", "hub", "monitor"])
def test_a_key_that_counts_for_nothing_signs_nothing(paper: Paper, draft: Draft, whose: str) -> None:
    with pytest.raises(Refused) as caught:
        signatures.sign(draft, getattr(paper, whose))
    assert caught.value.code == "not-a-coordinator"


def test_a_foreign_signature_beside_the_true_ones_is_not_counted(paper: Paper, draft: Draft) -> None:
    signed = signatures.sign(draft, paper.coordinators[0])
    foreign = {role: Metadata[Any].from_bytes(data) for role, data in signed.roles.items()}
    for one in foreign.values():
        one.sign(metadata.signer_of(paper.monitor), append=True)
    padded = replace(signed, roles={role: one.to_bytes() for role, one in foreign.items()})
    assert signatures.missing(padded) == {"root": 1, "targets": 1, "monitors-KG": 1}
    with pytest.raises(Untrusted):
        paper.accept(padded)


def test_a_signature_that_does_not_hold_is_told_and_not_counted(paper: Paper, draft: Draft) -> None:
    signed = paper.signed(draft)
    changed = resigned(signed.roles["targets"], expires=NOW + 3 * DAY)
    document = json.loads(changed)
    document["signatures"] = json.loads(signed.roles["targets"])["signatures"]
    stolen = replace(signed, roles={**signed.roles, "targets": dumps(document)})
    with pytest.raises(Untrusted) as caught:
        signatures.missing(stolen)
    assert caught.value.code == "bad-signature"
    with pytest.raises(Untrusted):
        paper.accept(stolen)
