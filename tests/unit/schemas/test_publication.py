"""The hub takes the very next version, whole and signed by enough, and vouches for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kengele_schemas import drafts, metadata, publication, signatures
from kengele_schemas.drafts import Draft
from kengele_schemas.encoding import canonical
from kengele_schemas.errors import KengeleError, Malformed, Refused, Untrusted
from kengele_testing.trust import DAY, NOW, ROOT, Files, Paper, raised, read, resigned, versions


def test_a_root_that_too_few_renew_is_not_taken(paper: Paper, first: Files) -> None:
    late = NOW + 200 * DAY
    edited = drafts.edit(first, {}, late)
    signed = paper.signed(edited)
    partly = {**signed.roles, "root": signatures.sign(edited, paper.coordinators[0]).roles["root"]}
    with pytest.raises(Untrusted) as caught:
        paper.accept(replace(signed, roles=partly), first, late)
    assert caught.value.code == "too-few-signatures"


def test_only_the_very_next_version_is_accepted(paper: Paper, first: Files, second: Files) -> None:
    edited = paper.signed(drafts.edit(second, raised(second, 3), NOW))
    coordinators = paper.coordinators[:2]
    third = publication.vouched(second, paper.snapshot, paper.timestamp, NOW, 3, 3)
    offered: list[tuple[str, Files]] = [
        ("the same again", paper.signed(drafts.edit(first, raised(first), NOW)).files()),
        ("the first", paper.signed(paper.drafted()).files()),
        (
            "one skipped",
            {"metadata/4.targets.json": resigned(edited.roles["targets"], *coordinators, version=4)},
        ),
        (
            "a number on the outside only",
            {"metadata/3.targets.json": resigned(edited.roles["targets"], *coordinators, version=4)},
        ),
        (
            "a regional list skipped",
            edited.files()
            | {
                "metadata/3.monitors-KG.json": resigned(second["metadata/1.monitors-KG.json"], *coordinators, version=3)
            },
        ),
        ("no new list, a root alone", {ROOT.replace("1", "2"): resigned(second[ROOT], *coordinators, version=2)}),
        ("nothing", {}),
        ("the hub's part", {**edited.files(), "metadata/3.snapshot.json": third["metadata/3.snapshot.json"]}),
    ]
    for sentence, incoming in offered:
        with pytest.raises(Refused) as caught:
            publication.accept(second, incoming, paper.snapshot, paper.timestamp, NOW)
        assert caught.value.code == "old-version", sentence
    assert versions(paper.accept(edited, second))["targets"] == 3


@pytest.mark.parametrize("role", ["targets", "monitors-KG"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_first_version_is_number_1_in_each_list_outside_and_inside(paper: Paper, role: str, inside: bool) -> None:
    """One that began higher would leave states untold that members could be shown later."""
    files = paper.signed(paper.drafted()).files()
    listed = resigned(files.pop(f"metadata/1.{role}.json"), *paper.coordinators[:2], version=2)
    files[f"metadata/{1 if inside else 2}.{role}.json"] = listed
    with pytest.raises(Refused) as caught:
        publication.accept(None, files, paper.snapshot, paper.timestamp, NOW)
    assert caught.value.code == "old-version"


@pytest.mark.parametrize("version", [1, 2])
def test_a_changed_policy_has_a_higher_version(paper: Paper, second: Files, version: int) -> None:
    policy = metadata.document_of(second, "policy.json")
    edited = drafts.edit(second, {"policy.json": {**policy, "version": version, "rules": []}}, NOW)
    with pytest.raises(Refused) as caught:
        paper.accept(paper.signed(edited), second)
    assert caught.value.code == "old-version"


def test_files_that_are_not_of_the_version_are_not_taken(paper: Paper, first: Files, second: Files) -> None:
    edited = paper.signed(drafts.edit(second, raised(second, 3), NOW)).files()
    stray: list[tuple[str, Files]] = [
        ("an unlisted document", {metadata.target_path("policy.json", b"{}"): b"{}"}),
        (
            "a list that nobody delegated",
            {"metadata/1.monitors-KZ.json": resigned(second["metadata/1.monitors-KG.json"])},
        ),
        ("something else", {"targets/readme.txt": b""}),
    ]
    for sentence, files in stray:
        with pytest.raises(Refused) as caught:
            publication.accept(second, {**edited, **files}, paper.snapshot, paper.timestamp, NOW)
        assert caught.value.code == "not-needed", sentence


def test_a_version_with_a_file_too_few_is_not_taken(paper: Paper, draft: Draft) -> None:
    files = paper.signed(draft).files()
    for path in files:
        with pytest.raises(Malformed) as caught:
            publication.accept(
                None, {name: files[name] for name in files if name != path}, paper.snapshot, paper.timestamp, NOW
            )
        assert caught.value.code == "bad-draft", path


def test_garbage_at_any_path_of_a_version_is_refused(paper: Paper, draft: Draft, first: Files) -> None:
    for current, signed in ((None, paper.signed(draft)), (first, paper.signed(drafts.edit(first, {}, NOW)))):
        for path in signed.files():
            for garbage in (b"", b"{}", b"null", b"\xff", b"[" * 5000, b'{"signed":{"_type":"root"},"signatures":[]}'):
                with pytest.raises(KengeleError):
                    publication.accept(current, {**signed.files(), path: garbage}, paper.snapshot, paper.timestamp, NOW)


def test_a_first_version_is_number_one(paper: Paper, draft: Draft) -> None:
    coordinators = paper.coordinators[:2]
    files = paper.signed(draft).files()
    files["metadata/2.targets.json"] = resigned(files.pop("metadata/1.targets.json"), *coordinators, version=2)
    with pytest.raises(Refused) as caught:
        publication.accept(None, files, paper.snapshot, paper.timestamp, NOW)
    assert caught.value.code == "old-version"


def test_a_network_is_founded_with_one_root(paper: Paper, draft: Draft) -> None:
    files = paper.signed(draft).files()
    with pytest.raises(Refused) as caught:
        publication.accept(None, {**files, "metadata/5.root.json": files[ROOT]}, paper.snapshot, paper.timestamp, NOW)
    assert caught.value.code == "not-needed"


def test_a_first_root_that_too_few_have_signed_founds_nothing(paper: Paper, draft: Draft) -> None:
    signed = paper.signed(draft)
    files = {**signed.files(), ROOT: signatures.sign(draft, paper.coordinators[0]).roles["root"]}
    with pytest.raises(Untrusted) as caught:
        publication.accept(None, files, paper.snapshot, paper.timestamp, NOW)
    assert caught.value.code == "too-few-signatures"


def test_what_is_accepted_holds_what_is_needed_and_nothing_older(first: Files, second: Files) -> None:
    assert set(first) - set(second) == {
        "metadata/1.targets.json",
        "metadata/1.snapshot.json",
        metadata.target_path("policy.json", canonical(metadata.document_of(first, "policy.json"))),
    }


def test_the_hub_signs_anew_what_would_expire_and_nothing_before(paper: Paper, first: Files, tmp_path: Path) -> None:
    keys = (paper.snapshot, paper.timestamp)
    assert publication.refresh_timestamp(first, *keys, NOW, before=NOW + DAY / 2) == first
    later = NOW + 2 * DAY
    stamped = publication.refresh_timestamp(first, *keys, later, before=later + DAY / 2)
    assert versions(stamped) == versions(first) | {"timestamp": 2}
    late = NOW + 6 * DAY
    renewed = publication.refresh_timestamp(stamped, *keys, late, before=late + DAY / 2)
    assert versions(renewed) == versions(first) | {"snapshot": 2, "timestamp": 3}
    for files, now in ((stamped, later), (renewed, late)):
        assert read(tmp_path, files, first[ROOT], now).fresh
        changed = {path for path in files if first.get(path) != files[path]}
        assert all("snapshot" in path or "timestamp" in path for path in changed)
