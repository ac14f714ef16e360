"""One rogue coordinator cannot have another sign what she was not shown.

A draft carries documents, which people look at, and metadata, which they sign. Each line below is a draft whose
documents look harmless to a second coordinator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey
from securesystemslib.signer import Signature, SSlibKey
from tuf.api._payload import DelegatedRole, Root, TargetFile, Targets
from tuf.api.metadata import Metadata

from kengele_schemas import metadata, publication
from kengele_schemas.cards import CoordinatorCard, coordinator_id
from kengele_schemas.drafts import Draft, edit, found
from kengele_schemas.encoding import b64u, canonical, loads
from kengele_schemas.errors import KengeleError, Refused
from kengele_schemas.keys import new_signing_key
from kengele_schemas.metadata import document_of
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.signatures import check
from kengele_schemas.trust import TrustStore
from kengele_testing.trust import NOW, Paper

Files = Mapping[str, bytes]
POLICY = "policy.json"
LATER = NOW + timedelta(days=1)


@pytest.fixture(scope="module")
def paper() -> Paper:
    return Paper()


@pytest.fixture(scope="module")
def current(paper: Paper) -> Files:
    return paper.founded()


def rules(current: Files, *, compartment: str) -> dict[str, Any]:
    """The next version of the rules, with a grant of this compartment."""
    policy = document_of(current, POLICY)
    return {**policy, "version": policy["version"] + 1, "rules": [{**policy["rules"][0], "grant": [compartment]}]}


def honest(current: Files) -> Draft:
    return edit(current, {POLICY: rules(current, compartment="account")}, LATER)


def first_version(paper: Paper) -> Draft:
    """A network's first version, which names its coordinators."""
    ids = [coordinator_id(bytes(key.verify_key)) for key in paper.coordinators]
    rows = [{"nkey": KeyPair.generate("user").public, "role": "coordinator", "member": id} for id in ids]
    return paper.drafted({**paper.documents(), "connections.json": {"v": 1, "connections": rows, "revoked": []}})


def changed(draft: Draft, role: str, change: Callable[[Any], object]) -> Draft:
    """``draft`` with the signed part of one role changed."""
    signed = Metadata[Any].from_bytes(draft.roles[role]).signed
    change(signed)
    return replace(draft, roles={**draft.roles, role: Metadata(signed).to_bytes()})


def test_honest_drafts_pass(paper: Paper, current: Files) -> None:
    check(first_version(paper), None, NOW)
    check(honest(current), current, LATER)
    check(edit(current, {}, LATER), current, LATER)
    regional = {"policy/KG.json": {"v": 1, "version": 1, "rules": []}}
    listed = {"monitors/KG.json": {"v": 1, "area": "KG", "monitors": []}}
    check(edit(current, {**regional, **listed}, LATER), current, LATER)
    signed = paper.signed(honest(current))
    check(Draft.decode(signed.encode()), current, LATER + timedelta(days=5))
    check(edit(current, {}, NOW + timedelta(days=300)), current, NOW + timedelta(days=300))


def test_without_the_check_a_second_signature_is_had_for_another_rule(paper: Paper, current: Files) -> None:
    """Why it is needed: nothing in the signing itself ties what is shown to what is signed."""
    evil = paper.signed(edit(current, {POLICY: rules(current, compartment="people")}, LATER), by=[0])
    shown = Draft.decode(replace(evil, documents={}).encode())
    back = replace(paper.signed(shown, by=[1]), documents=evil.documents)
    in_force = publication.accept(current, back.files(), paper.snapshot, paper.timestamp, LATER)
    assert document_of(in_force, POLICY)["rules"][0]["grant"] == ["people"]
    with pytest.raises(KengeleError) as caught:
        check(shown, current, LATER)
    assert caught.value.code == "not-as-shown"


def _other_rules(draft: Draft, current: Files) -> Draft:
    data = canonical(rules(current, compartment="people"))
    file = TargetFile.from_data(POLICY, data)
    return changed(draft, "targets", lambda targets: targets.targets.update({POLICY: file}))


def _own_root(draft: Draft, current: Files) -> Draft:
    root: Root = Metadata[Root].from_bytes(current["metadata/1.root.json"]).signed
    root.version = 2
    for name in ("root", "targets"):
        root.roles[name].threshold = 1
    return draft.including("root", Metadata(root).to_bytes())


def _own_region(draft: Draft, _: Files) -> Draft:
    def change(targets: Targets) -> None:
        assert targets.delegations is not None
        assert targets.delegations.roles is not None
        (name, role), *_ = targets.delegations.roles.items()
        targets.delegations.roles[name] = DelegatedRole(name, role.keyids[:1], 1, terminating=True, paths=role.paths)

    return changed(draft, "targets", change)


def _more_paths(draft: Draft, _: Files) -> Draft:
    def change(targets: Targets) -> None:
        assert targets.delegations is not None
        assert targets.delegations.roles is not None
        for role in targets.delegations.roles.values():
            role.paths = [*(role.paths or []), POLICY]

    return changed(draft, "targets", change)


ROGUE: list[tuple[str, Callable[[Draft, Files], Draft]]] = [
    ("lists other rules than it shows", _other_rules),
    ("shows nothing of what it lists", lambda draft, _: replace(draft, documents={})),
    (
        "shows another document than it lists",
        lambda draft, current: replace(draft, documents={POLICY: canonical(rules(current, compartment="summary"))}),
    ),
    (
        "shows a document beside those it lists",
        lambda draft, current: replace(draft, documents={**draft.documents, "network.json": b'{"v":1}'}),
    ),
    ("shows what is no JSON", lambda draft, _: replace(draft, documents={POLICY: b"{"})),
    ("shows another spelling", lambda draft, _: replace(draft, documents={POLICY: draft.documents[POLICY] + b" "})),
    ("brings a root with a threshold of one", _own_root),
    ("gives a region to its author alone", _own_region),
    ("lets a region speak for all", _more_paths),
    (
        "takes a document from the list",
        lambda draft, _: changed(draft, "targets", lambda targets: targets.targets.pop("areas.json")),
    ),
    (
        "takes a region from the list",
        lambda draft, _: changed(draft, "targets", lambda targets: targets.delegations.roles.clear()),
    ),
    (
        "lasts for ten years",
        lambda draft, _: changed(
            draft, "targets", lambda targets: setattr(targets, "expires", targets.expires + timedelta(days=3650))
        ),
    ),
    ("has no list", lambda draft, _: replace(draft, roles={})),
    ("counts by a root of its own", lambda draft, _: replace(draft, root=_foreign_root())),
    (
        "puts a list under another name",
        lambda draft, _: replace(draft, roles={**draft.roles, "monitors-SD": draft.roles["targets"]}),
    ),
]


def _foreign_root() -> bytes:
    return Paper().drafted().root


@pytest.mark.parametrize(("what", "change"), ROGUE, ids=[what for what, _ in ROGUE])
def test_a_draft_is_not_signed_that(current: Files, what: str, change: Callable[[Draft, Files], Draft]) -> None:
    with pytest.raises(KengeleError) as caught:
        check(change(honest(current), current), current, LATER)
    assert caught.value.code in ("not-as-shown", "old-version", "bad-draft")


@pytest.mark.parametrize("version", [1, 3])
def test_a_draft_is_not_signed_that_does_not_follow_what_is_in_force(current: Files, version: int) -> None:
    other = changed(honest(current), "targets", lambda targets: setattr(targets, "version", version))
    with pytest.raises(Refused) as caught:
        check(other, current, LATER)
    assert caught.value.code == "old-version"


@pytest.mark.parametrize(("ahead", "passes"), [(timedelta(minutes=59), True), (timedelta(minutes=61), False)])
def test_a_draft_is_not_signed_that_outlasts_one_made_now(current: Files, ahead: timedelta, passes: bool) -> None:
    later = edit(current, {POLICY: rules(current, compartment="account")}, LATER + ahead)
    if passes:
        check(later, current, LATER)
        return
    with pytest.raises(KengeleError) as caught:
        check(later, current, LATER)
    assert caught.value.code == "not-as-shown"


def test_a_first_version_is_not_signed_by_which_another_counts_than_it_names(paper: Paper) -> None:
    others = Paper(coordinators=[*paper.coordinators, new_signing_key()])
    named = {path: loads(data, max_bytes=1 << 20) for path, data in first_version(paper).documents.items()}
    with pytest.raises(KengeleError) as caught:
        check(others.drafted(named), None, NOW)
    assert caught.value.code == "not-as-shown"


def _founding(draft: Draft, change: Callable[[Root], object]) -> Draft:
    made = changed(draft, "root", change)
    return replace(made, root=made.roles["root"])


def _another_counts(root: Root) -> None:
    key = metadata.public_key(bytes(new_signing_key().verify_key))
    root.keys[key.keyid] = key
    for name in ("root", "targets"):
        root.roles[name].keyids.append(key.keyid)


def _threshold_of_root(root: Root) -> None:
    root.roles["root"].threshold = 1


def _ten_years(root: Root) -> None:
    root.expires += timedelta(days=3650)


@pytest.mark.parametrize("change", [_another_counts, _threshold_of_root, _ten_years])
def test_a_first_version_is_not_signed_whose_root_is_not_the_coordinators(
    paper: Paper, change: Callable[[Root], object]
) -> None:
    with pytest.raises(KengeleError) as caught:
        check(_founding(first_version(paper), change), None, NOW)
    assert caught.value.code == "not-as-shown"


def twice(data: bytes, key: SigningKey) -> bytes:
    """Metadata in which a root's key of one coordinator stands under a second name; signed under both."""
    found: Metadata[Any] = Metadata.from_bytes(data)
    own = metadata.public_key(bytes(key.verify_key))
    other = SSlibKey("f" * 64, own.keytype, own.scheme, own.keyval)
    if isinstance(found.signed, Root):
        found.signed.keys = {**found.signed.keys, other.keyid: other}
        for role in ("root", "targets"):
            found.signed.roles[role].keyids = [own.keyid, other.keyid]
    found.signatures.clear()
    found.sign(metadata.signer_of(key), append=True)
    found.signatures[other.keyid] = Signature(other.keyid, found.signatures[own.keyid].signature)
    return found.to_bytes()


def test_one_coordinator_cannot_found_a_network_alone_under_two_names_of_her_key(tmp_path: Path) -> None:
    """No list is delegated here, so that nothing but the root's own keys is in question."""
    paper = Paper()
    documents = {path: value for path, value in paper.documents().items() if "/" not in path}
    draft = paper.drafted(documents)
    forged = replace(draft, roles={name: twice(data, paper.coordinators[0]) for name, data in draft.roles.items()})
    with pytest.raises(KengeleError) as caught:
        publication.accept(None, forged.files(), paper.snapshot, paper.timestamp, NOW)
    assert caught.value.code == "overreach"
    served = publication.vouched(forged.files(), paper.snapshot, paper.timestamp, NOW, 1, 1)
    for scope in ("monitor", "office", "coordinator"):
        with pytest.raises(KengeleError) as caught:
            TrustStore(tmp_path / scope, forged.roles["root"]).refresh(served.get, scope, NOW, "unrcca")
        assert caught.value.code == "overreach"


def test_no_other_coordinator_signs_a_founding_in_which_one_counts_twice() -> None:
    """She counts once by her own name, and a second time by another name of the same key."""
    paper = Paper()
    first, second = paper.coordinators[:2]
    ids = [coordinator_id(bytes(key.verify_key)) for key in (first, second)]
    rows = [{"nkey": KeyPair.generate("user").public, "role": "coordinator", "member": id} for id in ids]
    documents = {path: value for path, value in paper.documents().items() if "/" not in path}
    documents["connections.json"] = {"v": 1, "connections": rows, "revoked": []}
    cards = [CoordinatorCard.of(key, KeyPair.generate("user")) for key in (first, second)]
    hub = (b64u(bytes(key.verify_key)) for key in (paper.snapshot, paper.timestamp))
    draft = found(documents, cards, 2, *hub, NOW)
    check(draft, None, NOW)
    root: Metadata[Any] = Metadata.from_bytes(draft.roles["root"])
    own = metadata.public_key(bytes(first.verify_key))
    other = SSlibKey("f" * 64, own.keytype, own.scheme, own.keyval)
    root.signed.keys = {**root.signed.keys, other.keyid: other}
    for role in ("root", "targets"):
        root.signed.roles[role].keyids = sorted([*root.signed.roles[role].keyids, other.keyid])
    forged = replace(draft, roles={**draft.roles, "root": root.to_bytes()}, root=root.to_bytes())
    with pytest.raises(KengeleError) as caught:
        check(forged, None, NOW)
    assert caught.value.code in ("overreach", "not-as-shown")
