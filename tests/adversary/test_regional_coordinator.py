"""Regional coordinators cannot reach beyond their area, and nobody else can speak for it.

Each line below is a version that too few, or not the right ones, or people for another area have signed. It is offered
to the hub, and served by a hub that is with them to a member; neither takes it, and what was in force stays so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from nacl.signing import SigningKey
from securesystemslib.signer._key import SSlibKey
from securesystemslib.signer._signature import Signature
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, TargetFile, Targets

from kengele_schemas import drafts, metadata, publication, signatures
from kengele_schemas.drafts import Draft
from kengele_schemas.encoding import b64u, canonical
from kengele_schemas.errors import KengeleError, Malformed, Refused, Untrusted
from kengele_schemas.keys import monitor_id, new_signing_key
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.trust import TrustStore
from kengele_testing.region import Region, rule
from kengele_testing.trust import NOW, ROOT, Files, resigned

SUDAN = Region(area="SD")
REGION = Region(paper=SUDAN.paper, _seats=SUDAN._seats)
FOREIGN_KEY = KeyPair.generate("user").public


@pytest.fixture(scope="module")
def files() -> Files:
    """Kyrgyzstan and the Sudan each have coordinators of their own; each has a rule."""
    rows = REGION.seat([*REGION.paper.coordinators, *REGION.keys, *SUDAN.keys])
    founded = REGION.handed()
    draft = SUDAN.handing(founded, SUDAN.keys)
    changed = {"connections.json": {"v": 1, "connections": rows, "revoked": [{"nkey": FOREIGN_KEY, "at": 1}]}}
    known = [metadata.public_key(bytes(key.verify_key)) for key in SUDAN.keys]
    keys = {key.keyid: key for key in known}
    draft = drafts.hand_over(founded, {**changed, **SUDAN.own(founded)}, "SD", keys, 2, NOW)
    both = REGION.paper.accept(SUDAN.signed(REGION.paper.signed(draft)), founded)
    both = SUDAN.publish(SUDAN.drafted(both, SUDAN.rules(both, rule("sudan", areas=["SD"]))), both)
    return REGION.publish(REGION.drafted(both, REGION.rules(both, rule("ours"))), both)


def ruled(files: Files, **fields: Any) -> Draft:
    return REGION.drafted(files, REGION.rules(files, rule("theirs", **fields)))


def listing(files: Files, role: str, change: Callable[[Targets], object], *keys: SigningKey) -> Files:
    """The next list of ``role`` after ``change``, signed by ``keys``."""
    found = Metadata[Targets].from_bytes(files[metadata.newest(files, role)])
    found.signed.version += 1
    change(found.signed)
    data = resigned(found.to_bytes(), *keys)
    return {metadata.metadata_path(role, data): data}


def ours(files: Files, change: Callable[[Targets], object]) -> Files:
    return listing(files, "policy-KG", change, *REGION.keys[:2])


def added(files: Files, path: str, **fields: Any) -> Files:
    """A member's list of the area with other content, signed as it has to be."""
    changed = {path: {**metadata.document_of(files, path), **fields}}
    return REGION.signed(REGION.drafted(files, changed)).files()


def entry(key: SigningKey, area: str) -> dict[str, Any]:
    public = bytes(key.verify_key)
    return {
        "kid": monitor_id(public),
        "key": b64u(public),
        "areas": [area],
        "not_before": "2026-01-01",
        "not_after": "2027-12-31",
    }


def _signed(draft: Draft, *keys: SigningKey) -> Files:
    """``draft`` under the signatures of ``keys``, whether they count in it or not."""
    roles = {}
    for role, data in draft.roles.items():
        found = Metadata[Any].from_bytes(data)
        for key in keys:
            found.sign(metadata.signer_of(key), append=True)
        roles[role] = found.to_bytes()
    return replace(draft, roles=roles).files()


def _hands_on(files: Files) -> Files:
    key = metadata.public_key(bytes(new_signing_key().verify_key))
    role = DelegatedRole("policy-SD", [key.keyid], 1, terminating=True, paths=["policy/SD.json"])
    return ours(
        files, lambda listed: setattr(listed, "delegations", Delegations({key.keyid: key}, {"policy-SD": role}))
    )


def _lists(path: str, value: Any) -> Callable[[Files], Files]:
    data = canonical(value)

    def made(files: Files) -> Files:
        listed = ours(files, lambda one: one.targets.update({path: TargetFile.from_data(path, data)}))
        return {**listed, metadata.target_path(path, data): data}

    return made


def _smuggled(files: Files) -> Files:
    """The coordinators' own list with other rules, signed by regional coordinators."""
    policy = metadata.document_of(files, "policy.json")
    draft = drafts.edit(files, {"policy.json": {**policy, "version": policy["version"] + 1, "rules": []}}, NOW)
    return _signed(draft, *REGION.keys)


def _line(**row: Any) -> Callable[[Files], Files]:
    kid = monitor_id(bytes(REGION.paper.monitor.verify_key))
    made = {"nkey": REGION.nkey, "role": "monitor", "member": kid, **row}
    return lambda files: added(files, "connections/KG.json", connections=[made])


class Attack(NamedTuple):
    made: Callable[[Files], Files]
    code: str


ATTACKS = {
    "a rule for another area": Attack(lambda f: REGION.signed(ruled(f, areas=["SD-KH"])).files(), "foreign-area"),
    "a rule for a group of areas that reaches beyond": Attack(
        lambda f: REGION.signed(ruled(f, areas=["143"])).files(), "foreign-area"
    ),
    "a rule for everywhere": Attack(lambda f: REGION.signed(ruled(f, areas=["*"])).files(), "foreign-area"),
    "a monitor of another area": Attack(
        lambda f: added(f, "monitors/KG.json", monitors=[entry(new_signing_key(), "SD-KH")]), "foreign-area"
    ),
    "what is refused everywhere": Attack(
        lambda f: REGION.signed(REGION.drafted(f, REGION.rules(f, refuse_below=2))).files(), "foreign-area"
    ),
    "a rule under one signature": Attack(lambda f: REGION.signed(ruled(f), [0]).files(), "too-few-signatures"),
    "a rule signed twice by one": Attack(lambda f: REGION.signed(ruled(f), [0, 0]).files(), "too-few-signatures"),
    "a rule signed by another region": Attack(lambda f: _signed(ruled(f), *SUDAN.keys), "too-few-signatures"),
    "a rule signed by the network's coordinators": Attack(
        lambda f: _signed(ruled(f), *REGION.paper.coordinators), "too-few-signatures"
    ),
    "the network's own rules under regional signatures": Attack(_smuggled, "too-few-signatures"),
    "a list that hands on": Attack(_hands_on, "overreach"),
    "a list with the network's rules in it": Attack(
        _lists("policy.json", {"v": 1, "version": 9, "rules": []}), "overreach"
    ),
    "a list with another region's rules in it": Attack(
        _lists("policy/SD.json", {"v": 1, "version": 9, "rules": []}), "overreach"
    ),
    "a connection of another region's key": Attack(_line(nkey=FOREIGN_KEY), "another-lists"),
    "a connection of a coordinator's key": Attack(
        lambda f: _line(nkey=metadata.document_of(f, "connections.json")["connections"][0]["nkey"])(f), "another-lists"
    ),
    "a connection of an office": Attack(_line(role="office", member="unrcca"), "bad-field"),
    "a connection of who is no monitor there": Attack(_line(member="unrcca"), "foreign-area"),
}


def accepted(files: Files, incoming: Files) -> Files:
    return publication.accept(files, incoming, REGION.paper.snapshot, REGION.paper.timestamp, NOW)


def served(files: Files, incoming: Mapping[str, bytes]) -> Files:
    """What a hub serves that passes on whatever it likes, and vouches for it."""
    paper = REGION.paper
    numbers = (metadata.metadata_version(files[metadata.newest(files, role)]) + 1 for role in ("snapshot", "timestamp"))
    return publication.vouched({**files, **incoming}, paper.snapshot, paper.timestamp, NOW, *numbers)


@pytest.mark.parametrize("sentence", ATTACKS)
def test_regional_coordinators_cannot_publish(sentence: str, files: Files, tmp_path: Path) -> None:
    attack = ATTACKS[sentence]
    incoming = attack.made(files)
    with pytest.raises(KengeleError):
        publication.accept(files, incoming, REGION.paper.snapshot, REGION.paper.timestamp, NOW)
    store = TrustStore(tmp_path, files[ROOT])
    before = store.refresh(files.get, "hub", NOW)
    with pytest.raises(KengeleError) as caught:
        store.refresh(served(files, incoming).get, "hub", NOW)
    assert caught.value.code == attack.code
    after = store.offline("hub", NOW)
    assert (after.version, after.regional, after.policy) == (before.version, before.regional, before.policy)


def test_the_hub_cannot_show_an_areas_old_rules_to_who_has_seen_newer_ones(files: Files, tmp_path: Path) -> None:
    old = files
    new = REGION.publish(REGION.drafted(old, REGION.rules(old)), old)
    store = TrustStore(tmp_path, old[ROOT])
    assert store.refresh(new.get, "monitor", NOW).regional["KG"].rules == ()
    newest = metadata.newest(new, "policy-KG")
    stale = {path: data for path, data in {**old, **new}.items() if path != newest}
    with pytest.raises(Untrusted) as caught:
        store.refresh(served(stale, {}).get, "monitor", NOW)
    assert caught.value.code == "rolled-back"
    with pytest.raises(Refused) as refused:
        REGION.paper.accept(REGION.signed(ruled(old)), new)
    assert refused.value.code == "old-version"


def test_an_areas_rules_cannot_go_back_under_a_higher_list(files: Files) -> None:
    path = "policy/KG.json"
    again = {path: {**metadata.document_of(files, path), "rules": []}}
    with pytest.raises(Refused) as caught:
        REGION.publish(REGION.drafted(files, again), files)
    assert caught.value.code == "old-version"


def test_a_region_cannot_break_what_the_network_says_must_stay_true() -> None:
    region = Region()
    papers = region.paper.documents()
    always = [{"always": "no office:unrcca may open people"}]
    papers["offices.json"]["offices"].append({**papers["offices.json"]["offices"][0], "id": "ministry", "name": "M"})
    papers["network.json"]["custodian"] = "ministry"
    papers["policy.json"]["assertions"] = always
    changed = {path: papers[path] for path in ("offices.json", "network.json", "policy.json")}
    files = region.handed(region.founded(**changed))
    with pytest.raises(Refused) as caught:
        region.publish(region.drafted(files, region.rules(files, rule("wider", grant=["people"]))), files)
    assert caught.value.code == "assertion-broken"
    region.publish(region.drafted(files, region.rules(files, rule("wider", grant=["place"]))), files)


def test_a_region_cannot_widen_with_fewer_signatures_than_the_network_asks_for() -> None:
    region = Region()
    network = region.paper.documents()["network.json"]
    founded = region.founded(**{"network.json": {**network, "widening_threshold": 3}})
    with pytest.raises(Refused, match="other people sign for KG"):
        region.handed(founded)
    files = region.handed(founded, by=(0, 1, 2))
    wider = region.drafted(files, region.rules(files, rule("wider")))
    with pytest.raises(Refused) as caught:
        region.publish(wider, files)
    assert caught.value.code == "too-few-signatures"
    files = region.publish(wider, files, by=(0, 1, 2))
    region.publish(region.drafted(files, region.rules(files)), files)


def _own_list(draft: Draft, files: Files) -> Draft:
    """Shown with a coordinators' list by which one key of one's own counts for the area."""
    key = metadata.public_key(bytes(REGION.keys[0].verify_key))
    found = Metadata[Targets].from_bytes(draft.targets)
    assert found.signed.delegations is not None
    role = DelegatedRole("policy-KG", [key.keyid], 1, terminating=True, paths=["policy/KG.json"])
    found.signed.delegations.roles = {**(found.signed.delegations.roles or {}), "policy-KG": role}
    return replace(draft, targets=found.to_bytes())


def _another_list(draft: Draft, files: Files) -> Draft:
    return replace(draft, roles={**draft.roles, "policy-SD": SUDAN.drafted(files, {}).roles["policy-SD"]})


def _top_document(draft: Draft, files: Files) -> Draft:
    return replace(draft, documents={**draft.documents, "policy.json": canonical({"v": 1, "version": 9, "rules": []})})


def _other_rules(draft: Draft, files: Files) -> Draft:
    return replace(draft, documents=ruled(files, grant=["place"]).documents)


@pytest.mark.parametrize("smuggle", [_own_list, _another_list, _top_document, _other_rules])
def test_a_regional_draft_cannot_bring_in_what_it_does_not_show(
    smuggle: Callable[[Draft, Files], Draft], files: Files
) -> None:
    draft = ruled(files)
    signatures.check(draft, files, NOW)
    with pytest.raises(KengeleError) as caught:
        signatures.check(smuggle(draft, files), files, NOW)
    assert caught.value.code == "not-as-shown"


def test_a_draft_cannot_hand_an_area_to_others_than_it_seats(files: Files) -> None:
    shown, hidden = REGION.handing(files, REGION.keys), REGION.handing(files, [*REGION.keys[:2], new_signing_key()])
    with pytest.raises(Untrusted) as caught:
        signatures.check(replace(shown, roles=hidden.roles), files, NOW)
    assert caught.value.code == "not-as-shown"


def test_a_key_by_which_anybody_signs_cannot_be_given_an_area(files: Files) -> None:
    weak = SSlibKey("0" * 64, "ed25519", "ed25519", {"public": (b"\1" + bytes(31)).hex()})
    draft = drafts.hand_over(files, {}, "KG", {weak.keyid: weak}, 1, NOW)
    with pytest.raises(Untrusted):
        signatures.check(draft, files, NOW)
    incoming = _signed(draft, *REGION.paper.coordinators)
    with pytest.raises(KengeleError):
        publication.accept(files, incoming, REGION.paper.snapshot, REGION.paper.timestamp, NOW)


def test_one_coordinator_cannot_count_twice_under_two_names_of_one_key(files: Files, tmp_path: Path) -> None:
    own = metadata.public_key(bytes(REGION.keys[0].verify_key))
    twice = {own.keyid: own, "f" * 64: SSlibKey("f" * 64, own.keytype, own.scheme, own.keyval)}
    rows = REGION.seat([*REGION.paper.coordinators, REGION.keys[0], *SUDAN.keys])
    listed = {**metadata.document_of(files, "connections.json"), "connections": rows}
    draft = drafts.hand_over(files, {"connections.json": listed, **REGION.own(files)}, "KG", twice, 2, NOW)
    with pytest.raises(Untrusted) as caught:
        signatures.check(draft, files, NOW)
    assert caught.value.code == "overreach"
    incoming = {}
    for path, data in REGION.paper.signed(draft).files().items():
        if path.endswith("-KG.json"):
            found = Metadata[Any].from_bytes(data)
            found.sign(metadata.signer_of(REGION.keys[0]), append=True)
            found.signatures["f" * 64] = Signature("f" * 64, found.signatures[own.keyid].signature)
            data = found.to_bytes()
        incoming[path] = data
    store = TrustStore(tmp_path, files[ROOT])
    store.refresh(files.get, "hub", NOW)
    for offered in (lambda: accepted(files, incoming), lambda: store.refresh(served(files, incoming).get, "hub", NOW)):
        with pytest.raises(Untrusted) as caught:
            offered()
        assert caught.value.code == "overreach"


def test_what_an_area_forbids_cannot_be_forgotten_by_dropping_its_list(files: Files) -> None:
    def drop(listed: Targets) -> None:
        assert listed.delegations is not None
        assert listed.delegations.roles is not None
        listed.delegations.roles.pop("policy-KG")

    incoming = listing(files, "targets", drop, *REGION.paper.coordinators)
    with pytest.raises(Refused) as caught:
        publication.accept(files, incoming, REGION.paper.snapshot, REGION.paper.timestamp, NOW)
    assert caught.value.code == "old-version"


@pytest.mark.parametrize("dropped", [False, True])
def test_nor_by_dropping_it_at_a_hub_that_was_restored(dropped: bool, files: Files) -> None:
    def change(listed: Targets) -> None:
        assert listed.delegations is not None
        assert listed.delegations.roles is not None
        if dropped:
            listed.delegations.roles.pop("policy-KG")

    paper, since = REGION.paper, NOW - timedelta(days=1)
    incoming = {**files, **listing(files, "targets", change, *paper.coordinators)}
    held = contextlib.nullcontext() if not dropped else pytest.raises(Refused, match="A region's lists would be gone")
    with held:
        made = publication.reinstate(files, incoming, since, paper.snapshot, paper.timestamp, NOW)
        assert metadata.state(made) == metadata.state(files) + 1


def test_a_monitor_cannot_be_taken_over_by_another_region(files: Files) -> None:
    theirs = entry(REGION.paper.monitor, "SD-KH")
    with pytest.raises(Malformed) as caught:
        SUDAN.publish(SUDAN.drafted(files, {"monitors/SD.json": {"v": 1, "area": "SD", "monitors": [theirs]}}), files)
    assert caught.value.code == "bad-monitor"


def test_a_region_cannot_use_up_the_numbers_of_all_rules(files: Files) -> None:
    path = "policy/KG.json"
    leap = {path: {**metadata.document_of(files, path), "version": 2**53}}
    with pytest.raises(Refused) as caught:
        REGION.publish(REGION.drafted(files, leap), files)
    assert caught.value.code == "old-version"


@pytest.mark.parametrize("number", [0, 1], ids=["no checksum", "a letter changed"])
def test_a_region_cannot_have_the_hub_revoke_what_is_no_key_and_stop_by_it(number: int, files: Files) -> None:
    nkey = ("U" * 56, FOREIGN_KEY[:-1] + ("A" if FOREIGN_KEY[-1] != "A" else "E"))[number]
    with pytest.raises(Malformed):
        accepted(files, added(files, "connections/KG.json", revoked=[{"nkey": nkey, "at": 1}]))


def test_a_region_cannot_fill_the_brokers_list_of_revoked_keys(files: Files) -> None:
    own = KeyPair.generate("user")
    strange = (KeyPair.generate("user").public for _ in range(publication.MAX_REVOKED - 1))
    invented = [{"nkey": nkey, "at": 1} for nkey in (own.public, *strange)]
    with pytest.raises(Malformed):
        accepted(files, added(files, "connections/KG.json", revoked=invented))
    with pytest.raises(Refused) as caught:
        accepted(files, added(files, "connections/KG.json", revoked=invented[:1]))
    assert caught.value.code == "not-theirs"
    let_in = accepted(files, added(files, "connections/KG.json", connections=[REGION.row(own)]))
    held = accepted(let_in, added(let_in, "connections/KG.json", connections=[], revoked=invented[:1]))
    with pytest.raises(Refused) as caught:
        accepted(held, added(held, "connections/KG.json", revoked=[]))
    assert caught.value.code == "gives-back"
    listed = metadata.document_of(held, "connections.json")
    room = publication.MAX_REVOKED - len(listed["revoked"])
    changed = {"connections.json": {**listed, "revoked": [*listed["revoked"], *invented[1:room]]}}
    REGION.paper.accept(REGION.paper.signed(drafts.edit(held, changed, NOW)), held)
    changed["connections.json"]["revoked"].append({"nkey": KeyPair.generate("user").public, "at": 1})
    with pytest.raises(Refused) as caught:
        REGION.paper.accept(REGION.paper.signed(drafts.edit(held, changed, NOW)), held)
    assert caught.value.code == "too-many-revoked"
