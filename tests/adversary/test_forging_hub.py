"""What the hub, or whoever has taken it over, cannot do to roster and policy. Its server is a dict it fills at will."""

from __future__ import annotations

import hashlib
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api._payload import DelegatedRole, Delegations, Targets

from kengele_node.coordinator import documents as papers
from kengele_schemas import drafts, metadata, publication, signatures
from kengele_schemas.encoding import b64u
from kengele_schemas.errors import KengeleError, Malformed, Refused, Untrusted
from kengele_schemas.keys import X25519, OpeningKey, monitor_id, new_signing_key
from kengele_schemas.orders import RECALLS, mark_of
from kengele_schemas.rotation import OfficeKeys, followed
from kengele_schemas.trust import TrustStore
from kengele_testing.trust import NOW, Paper, read, resigned

ROOT = "metadata/1.root.json"


def widened(files: dict[str, bytes], version: int = 2) -> dict[str, Any]:
    policy = metadata.document_of(files, "policy.json")
    rules = [{**policy["rules"][0], "grant": ["summary", "source"]}]
    return {"policy.json": {**policy, "version": version, "rules": rules}}


def vouched(paper: Paper, files: dict[str, bytes], number: int = 50) -> dict[str, bytes]:
    """``files`` under the hub's own snapshot and timestamp: all that it can sign."""
    return publication.vouched(files, paper.snapshot, paper.timestamp, NOW, number, number)


def test_the_hub_cannot_make_an_office_accept_a_rule_that_nobody_signed(tmp_path: Path) -> None:
    paper = Paper()
    files = paper.founded()
    draft = drafts.edit(files, widened(files), NOW)
    served = vouched(paper, {**files, **draft.files()})
    with pytest.raises(Untrusted) as caught:
        read(tmp_path, served, files[ROOT])
    assert caught.value.code == "too-few-signatures"


def test_the_hub_cannot_make_an_office_accept_a_member_that_nobody_signed(tmp_path: Path) -> None:
    paper = Paper()
    files = paper.founded()
    key = bytes(new_signing_key().verify_key)
    listed = metadata.document_of(files, "monitors/KG.json")
    entry = {**listed["monitors"][0], "kid": monitor_id(key), "key": b64u(key)}
    draft = drafts.edit(files, {"monitors/KG.json": {**listed, "monitors": [entry]}}, NOW)
    for number in range(2):
        path = [name for name in files if name.endswith("monitors-KG.json")][number - 1]
        served = vouched(paper, {**files, **draft.files(), path: files[path]}, 50 + number)
        with pytest.raises(Untrusted):
            read(tmp_path / str(number), served, files[ROOT])


def test_one_rogue_coordinator_cannot_change_a_rule_alone(tmp_path: Path) -> None:
    paper = Paper()
    files = paper.founded()
    draft = paper.signed(drafts.edit(files, widened(files), NOW), by=(2,))
    draft = signatures.sign(draft, paper.coordinators[2])
    assert set(signatures.missing(draft).values()) == {1}
    with pytest.raises(Untrusted) as caught:
        paper.accept(draft, files)
    assert caught.value.code == "too-few-signatures"
    with pytest.raises(Untrusted):
        read(tmp_path, vouched(paper, {**files, **draft.files()}), files[ROOT])


def test_a_stranger_cannot_sign_a_draft() -> None:
    paper = Paper()
    with pytest.raises(Refused) as caught:
        signatures.sign(paper.drafted(), new_signing_key())
    assert caught.value.code == "not-a-coordinator"


def test_the_hub_cannot_roll_policy_or_roster_back(tmp_path: Path) -> None:
    paper = Paper()
    old = paper.founded()
    new = paper.accept(paper.signed(drafts.edit(old, widened(old), NOW)), old)
    assert read(tmp_path, new, old[ROOT]).policy.version == 2
    for served in (old, vouched(paper, old, 60)):
        with pytest.raises(Untrusted) as caught:
            read(tmp_path, served, old[ROOT])
        assert caught.value.code == "rolled-back"
    assert TrustStore(tmp_path, old[ROOT]).offline("office", NOW, "unrcca").policy.version == 2


def test_the_hub_cannot_freeze_them_beyond_their_life_unnoticed(tmp_path: Path) -> None:
    paper = Paper()
    files = paper.founded()
    read(tmp_path, files, files[ROOT])
    with pytest.raises(Untrusted) as caught:
        read(tmp_path, files, files[ROOT], NOW + timedelta(days=2))
    assert caught.value.code == "frozen"
    later = NOW + timedelta(days=15)
    fresh = publication.vouched(files, paper.snapshot, paper.timestamp, later, 9, 9)
    with pytest.raises(Untrusted) as caught:
        read(tmp_path, fresh, files[ROOT], later)
    assert caught.value.code == "frozen"


def test_the_hub_cannot_mix_files_of_two_versions(tmp_path: Path) -> None:
    paper = Paper()
    old = paper.founded()
    new = paper.accept(paper.signed(drafts.edit(old, widened(old), NOW)), old)
    policy = next(path for path in new if path.endswith(".policy.json"))
    stale = next(path for path in old if path.endswith(".policy.json"))
    with pytest.raises(Untrusted) as caught:
        read(tmp_path, {**new, policy: old[stale]}, old[ROOT])
    assert caught.value.code == "mix-and-match"


def revoked(files: dict[str, bytes]) -> dict[str, Any]:
    """The rules a version further, and the one monitor revoked, in one publication."""
    listed = metadata.document_of(files, "monitors/KG.json")
    monitors = [{**listed["monitors"][0], "status": "revoked"}]
    return {**widened(files), "monitors/KG.json": {**listed, "monitors": monitors}}


def test_the_hub_cannot_put_an_old_list_of_members_beside_new_rules(tmp_path: Path) -> None:
    paper = Paper()
    old = paper.founded()
    new = paper.accept(paper.signed(drafts.edit(old, revoked(old), NOW)), old)
    mixed = {path: data for path, data in new.items() if not path.endswith(".monitors-KG.json")} | {
        path: data for path, data in old.items() if "monitors" in path
    }
    for held in ("nothing", "the old version"):
        directory = tmp_path / held
        if held == "the old version":
            read(directory, old, old[ROOT])
        with pytest.raises(Untrusted) as caught:
            read(directory, vouched(paper, mixed), old[ROOT])
        assert caught.value.code == "mix-and-match"
        assert [one.status for one in read(directory, new, old[ROOT]).monitors.values()] == ["revoked"]


def test_a_later_list_of_an_area_stands_beside_the_same_rules_and_its_floor_rises_with_the_next(tmp_path: Path) -> None:
    paper = Paper()
    files = paper.founded()
    listed = metadata.document_of(files, "monitors/KG.json")
    changed = {"monitors/KG.json": {**listed, "monitors": [{**listed["monitors"][0], "not_after": "2027-06-30"}]}}
    files = paper.accept(paper.signed(drafts.edit(files, changed, NOW, area="KG")), files)
    read(tmp_path, files, files[ROOT])
    floors = []
    for version in (2, 3):
        top = metadata.newest(files, "targets")
        floors.append(metadata.signed_part(files[top], Targets).unrecognized_fields["floors"]["monitors-KG"])
        files = paper.accept(paper.signed(drafts.edit(files, widened(files, version), NOW)), files)
    assert floors == [1, 2]


@pytest.mark.parametrize("floors", [[1], {"monitors-KG": "1"}, {"monitors-KG": True}])
def test_floors_that_are_no_numbers_are_refused(tmp_path: Path, floors: Any) -> None:
    paper = Paper()
    files = paper.founded()
    path = metadata.newest(files, "targets")
    forged = resigned(files[path], *paper.coordinators[:2], unrecognized_fields={"floors": floors})
    with pytest.raises(Untrusted) as caught:
        read(tmp_path, {**files, path: forged}, files[ROOT])
    assert caught.value.code == "overreach"


@pytest.mark.parametrize(
    ("name", "paths", "terminating"),
    [
        ("monitors-KG", ["monitors/KG.json", "monitors/SD.json"], True),
        ("monitors-KG", ["monitors/*.json"], True),
        ("monitors-KG", ["monitors/KG.json"], False),
        ("monitors-SD", ["monitors/KG.json"], True),
        ("monitors-KG", [], True),
    ],
)
def test_no_list_is_handed_on_but_one_document_to_the_role_of_its_name(
    tmp_path: Path, name: str, paths: list[str], terminating: bool
) -> None:
    paper = Paper()
    files = paper.founded()
    path = metadata.newest(files, "targets")
    listed = metadata.signed_part(files[path], Targets)
    assert listed.delegations is not None
    role = (listed.delegations.roles or {})["monitors-KG"]
    handed = DelegatedRole(name, role.keyids, role.threshold, terminating=terminating, paths=paths)
    roles = {**(listed.delegations.roles or {}), name: handed}
    forged = resigned(files[path], *paper.coordinators[:2], delegations=Delegations(listed.delegations.keys, roles))
    own = next(one for one in files if one.endswith(".monitors-KG.json"))
    beside = {own.replace("monitors-KG", name): files[own]}
    with pytest.raises(Untrusted) as caught:
        read(tmp_path, vouched(paper, {**files, **beside, path: forged}), files[ROOT])
    assert caught.value.code == "overreach"


def test_a_network_whose_lists_name_no_floors_goes_on(tmp_path: Path) -> None:
    paper = Paper()
    files = paper.founded()
    path = metadata.newest(files, "targets")
    before = {**files, path: resigned(files[path], *paper.coordinators[:2], unrecognized_fields={})}
    read(tmp_path, before, files[ROOT])
    after = paper.accept(paper.signed(drafts.edit(before, widened(before), NOW)), before)
    targets = metadata.signed_part(after[metadata.newest(after, "targets")], Targets)
    assert targets.unrecognized_fields["floors"] == {"monitors-KG": 1}


def cautious(paper: Paper) -> dict[str, bytes]:
    """A network that asks three coordinators for whatever widens."""
    papers_ = paper.documents()
    papers_["network.json"]["widening_threshold"] = 3
    return paper.accept(paper.signed(paper.drafted(papers_)))


def test_the_hub_and_two_coordinators_cannot_widen_where_the_network_asks_three(tmp_path: Path) -> None:
    paper = Paper()
    old = cautious(paper)
    draft = paper.signed(drafts.edit(old, widened(old), NOW))
    with pytest.raises(Refused):
        paper.accept(draft, old)
    colluding = vouched(paper, {**old, **draft.files()})
    root = old[ROOT]
    for scope in ("monitor", "office", "coordinator"):
        store = TrustStore(tmp_path / scope, root)
        store.refresh(old.get, scope, NOW, "unrcca" if scope == "office" else "")
        with pytest.raises(Untrusted, match="The network asks for 3 signatures") as caught:
            store.refresh(colluding.get, scope, NOW, "unrcca" if scope == "office" else "")
        assert caught.value.code == "too-few-signatures"
        with pytest.raises(Untrusted):
            store.carried(colluding.get, scope, NOW, "unrcca" if scope == "office" else "")
        third = vouched(paper, {**old, **paper.signed(draft, (2,)).files()}, 60)
        assert store.refresh(third.get, scope, NOW, "unrcca" if scope == "office" else "").version == 2


def test_the_hub_and_two_coordinators_cannot_widen_in_a_version_that_nobody_is_shown_unsaid(tmp_path: Path) -> None:
    """They sign two versions and serve the second. Who missed the first takes it over, and says what it brought."""
    paper = Paper()
    old = cautious(paper)
    first = vouched(paper, {**old, **paper.signed(drafts.edit(old, widened(old), NOW)).files()})
    second = paper.signed(drafts.edit(first, {}, NOW))
    skipped = vouched(paper, {**first, **second.files()}, 60)
    by_three = vouched(paper, {**first, **paper.signed(second, (2,)).files()}, 60)
    said = {"the rules let somebody read more": NOW.date()}
    for scope in ("monitor", "office", "coordinator"):
        whose = (scope, NOW, "unrcca" if scope == "office" else "")
        store, other = (TrustStore(tmp_path / name / scope, old[ROOT]) for name in ("store", "other"))
        for one in (store, other):
            one.refresh(old.get, *whose)
        assert store.refresh(skipped.get, *whose).unseen == said
        assert store.offline(*whose).unseen == said
        later = vouched(paper, {**skipped, **paper.signed(drafts.edit(skipped, {}, NOW)).files()}, 70)
        assert store.refresh(later.get, *whose).unseen == said
        assert store.refresh(later.get, *whose).unseen == said
        assert other.refresh(by_three.get, *whose).unseen == {}


def with_key(files: dict[str, bytes], **fields: Any) -> dict[str, Any]:
    document = metadata.document_of(files, "offices.json")
    office = {**document["offices"][0], "keys": [OpeningKey.generate(X25519).public.document()], **fields}
    return {"offices.json": {**document, "offices": [office]}}


@pytest.mark.parametrize("claims", [{}, {"vouched": b64u(bytes(64))}, {"replaced": "2020-01-01"}])
def test_coordinators_cannot_put_in_their_own_key_for_an_office_unsaid(tmp_path: Path, claims: dict[str, Any]) -> None:
    """Whatever they claim: who held other keys before says so, at this version and for 90 days of later ones."""
    paper = Paper()
    old = paper.founded()
    new = paper.accept(paper.signed(drafts.edit(old, with_key(old, **claims), NOW)), old)
    store = TrustStore(tmp_path, old[ROOT])
    store.refresh(old.get, "monitor", NOW)
    later = paper.accept(paper.signed(drafts.edit(new, widened(new), NOW)), new)
    for files in (new, new, later):
        trusted = store.refresh(files.get, "monitor", NOW)
        office = trusted.offices.get("unrcca")
        assert office is not None
        assert trusted.replaced_since(office, NOW.date()) == NOW.date()
        assert store.offline("monitor", NOW).replaced_since(office, NOW.date()) == NOW.date()
    assert trusted.replaced_since(office, NOW.date() + timedelta(days=91)) is None
    fresh = TrustStore(tmp_path / "new", old[ROOT]).refresh(later.get, "monitor", NOW)
    assert fresh.unvouched == {}


def test_keys_that_the_old_one_vouches_for_are_no_news(tmp_path: Path) -> None:
    paper = Paper()
    sign = new_signing_key()
    documents = paper.documents()
    documents["offices.json"]["offices"][0]["sign"] = b64u(bytes(sign.verify_key))
    old = paper.accept(paper.signed(paper.drafted(documents)))
    office = metadata.documents_of(old).offices.get("unrcca")
    assert office is not None
    network = b64u(hashlib.sha256(old[ROOT]).digest())
    keys = followed(office.keys, [(NOW.date() + timedelta(days=7), OpeningKey.generate(X25519).public)], NOW.date())
    word = OfficeKeys.of(office, keys, network, sign)
    row = {
        **metadata.document_of(old, "offices.json")["offices"][0],
        "keys": [key.model_dump(mode="json", exclude_none=True) for key in keys],
        "vouched": word.signature,
    }
    changed = {"offices.json": {**metadata.document_of(old, "offices.json"), "offices": [row]}}
    new = paper.accept(paper.signed(drafts.edit(old, changed, NOW)), old)
    store = TrustStore(tmp_path, old[ROOT])
    store.refresh(old.get, "monitor", NOW)
    assert store.refresh(new.get, "monitor", NOW).unvouched == {}


def test_another_networks_root_is_not_taken(tmp_path: Path) -> None:
    paper, other = Paper(), Paper()
    with pytest.raises(Untrusted):
        read(tmp_path, other.founded(), paper.founded()[ROOT])


def test_a_regional_list_cannot_speak_of_another_region() -> None:
    paper = Paper()
    documents = paper.documents()
    listed = documents["monitors/KG.json"]
    documents["monitors/KG.json"] = {**listed, "monitors": [{**listed["monitors"][0], "areas": ["SD-KH"]}]}
    with pytest.raises(Malformed) as caught:
        paper.accept(paper.signed(paper.drafted(documents)))
    assert caught.value.code == "foreign-area"


def test_a_draft_that_does_not_follow_the_version_in_force_is_refused() -> None:
    paper = Paper()
    old = paper.founded()
    first = paper.signed(drafts.edit(old, widened(old), NOW))
    second = paper.signed(drafts.edit(old, widened(old, 3), NOW))
    new = paper.accept(first, old)
    for draft in (first, second):
        with pytest.raises(Refused) as caught:
            paper.accept(draft, new)
        assert caught.value.code == "old-version"
    lowered = paper.signed(drafts.edit(new, widened(new, 1), NOW))
    with pytest.raises(Refused) as caught:
        paper.accept(lowered, new)
    assert caught.value.code == "old-version"


def test_no_flipped_byte_in_any_file_is_taken_for_what_was_signed(tmp_path: Path) -> None:
    paper = Paper()
    files = paper.founded()
    whole = read(tmp_path / "whole", files, files[ROOT])
    for number, (path, data) in enumerate(files.items()):
        for at in (0, len(data) // 3, len(data) // 2, len(data) - 2):
            changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            store = tmp_path / f"{number}-{at}"
            try:
                found = read(store, {**files, path: changed}, files[ROOT])
            except KengeleError:
                continue
            assert found.policy == whole.policy
            assert found.offices.document == whole.offices.document
            assert found.monitors == whole.monitors


def test_endless_and_senseless_answers_end_in_an_error(tmp_path: Path) -> None:
    paper = Paper()
    files = paper.founded()
    for number, answer in enumerate((b"", b"{", b"null", b"[" * 5000, os.urandom(900_000), b'{"signed":{}}')):
        with pytest.raises(KengeleError):
            TrustStore(tmp_path / str(number), files[ROOT]).refresh(lambda _, a=answer: a, "office", NOW, "unrcca")


def test_what_was_changed_on_the_disk_is_not_used_offline(tmp_path: Path) -> None:
    paper = Paper()
    files = paper.founded()
    read(tmp_path, files, files[ROOT])
    for path in [path for path in tmp_path.rglob("*.json") if path.is_file() and not path.is_symlink()]:
        if "root" in path.name or "connections" in path.name:
            continue
        data = path.read_bytes()
        path.write_bytes(data.replace(b"unrcca", b"unrccb").replace(b'"sig": "', b'"sig": "00').replace(b"2", b"3", 1))
        with pytest.raises(KengeleError) as caught:
            TrustStore(tmp_path, files[ROOT]).offline("office", NOW, "unrcca")
        assert caught.value.code == "damaged"
        path.write_bytes(data)
    assert TrustStore(tmp_path, files[ROOT]).offline("office", NOW, "unrcca").version == 1


def recalled(paper: Paper, *ids: str) -> dict[str, bytes]:
    """A network's first version and one in which the coordinators recalled the reports with these ids."""
    files = paper.founded()
    for report_id in ids:
        changed = papers.recall({RECALLS: metadata.document_of(files, RECALLS)}, report_id)
        files = paper.accept(paper.signed(drafts.edit(files, changed, NOW)), files)
    return files


def test_the_hub_cannot_make_up_change_or_undo_a_recall_by_the_coordinators(tmp_path: Path) -> None:
    paper, one, two = Paper(), b64u(bytes(16)), b64u(b"2" * 16)
    old = paper.founded()
    new = paper.accept(paper.signed(drafts.edit(old, papers.recall({}, one), NOW)), old)
    assert set(read(tmp_path, new, old[ROOT]).orders) == {mark_of(one)}
    (path,) = [path for path in new if path.endswith(RECALLS)]
    more = drafts.edit(new, papers.recall({RECALLS: metadata.document_of(new, RECALLS)}, two), NOW)
    forgeries = {
        "made up": (vouched(paper, {**new, **more.files()}), "too-few-signatures"),
        "changed": ({**new, path: new[path].replace(mark_of(one).encode(), mark_of(two).encode())}, "mix-and-match"),
        "left out": ({name: data for name, data in new.items() if name != path}, "not-served"),
        "undone": (vouched(paper, old, 60), "rolled-back"),
        "signed by one": (vouched(paper, {**new, **paper.signed(more, by=(0,)).files()}), "too-few-signatures"),
    }
    for name, (served, code) in forgeries.items():
        with pytest.raises(Untrusted) as caught:
            read(tmp_path if name == "undone" else tmp_path / name, served, old[ROOT])
        assert caught.value.code == code, name
    assert set(TrustStore(tmp_path, old[ROOT]).offline("office", NOW, "unrcca").orders) == {mark_of(one)}


def test_a_recall_by_the_coordinators_of_one_network_is_none_in_another(tmp_path: Path) -> None:
    here, there, report_id = Paper(), Paper(), b64u(bytes(16))
    own = here.founded()
    (document,) = [data for path, data in recalled(there, report_id).items() if path.endswith(RECALLS)]
    with pytest.raises(Untrusted):
        read(tmp_path / "whole", recalled(there, report_id), own[ROOT])
    carried = {**own, f"targets/{hashlib.sha256(document).hexdigest()}.{RECALLS}": document}
    assert read(tmp_path / "beside", carried, own[ROOT]).orders == {}
