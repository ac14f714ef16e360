"""A region that speaks first of a key that is not its own, so that no other list can ever let its owner in.

Each version is signed as it has to be. It is offered to the hub; a hub that is with them serves it to a coordinator.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kengele_schemas import drafts, metadata, publication, signatures
from kengele_schemas.cards import JoinRequest, coordinator_id
from kengele_schemas.errors import Malformed, Refused, Untrusted
from kengele_schemas.keys import new_signing_key
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.trust import TrustStore
from kengele_testing.region import Region
from kengele_testing.trust import NOW, ROOT, Files

REGION = Region()
LINES, MONITORS = "connections/KG.json", "monitors/KG.json"
STRANGER = KeyPair.generate("user")
ELSEWHERE = JoinRequest.for_monitor(new_signing_key(), STRANGER, ("SD",))
NETWORKS = KeyPair.generate("user").public


@pytest.fixture(scope="module")
def files() -> Files:
    """Kyrgyzstan has coordinators of its own; the network has a line of its own that is not a coordinator's."""
    handed = REGION.handed()
    listed = metadata.document_of(handed, "connections.json")
    row = {"nkey": NETWORKS, "role": "office", "member": "unrcca"}
    changed = {"connections.json": {**listed, "connections": [*listed["connections"], row]}}
    return REGION.paper.accept(REGION.paper.signed(drafts.edit(handed, changed, NOW)), handed)


def offered(files: Files, **fields: Any) -> Files:
    """The region's next version, signed, with other connections and perhaps other monitors."""
    monitors = fields.pop("monitors", None)
    changed = {LINES: {**metadata.document_of(files, LINES), **fields}}
    if monitors is not None:
        changed[MONITORS] = {**metadata.document_of(files, MONITORS), "monitors": monitors}
    return REGION.signed(REGION.drafted(files, changed)).files()


def as_an_own_monitors(files: Files) -> Files:
    row = {name: value for name, value in REGION.row().items() if name != "asked"}
    return offered(files, connections=[{**row, "nkey": STRANGER.public}])


def with_an_own_keys_word(files: Files) -> Files:
    return offered(files, connections=[{**REGION.row(), "nkey": STRANGER.public}])


def with_her_word_for_another_area(files: Files) -> Files:
    (entry,) = metadata.document_of(files, MONITORS)["monitors"]
    assert ELSEWHERE.monitor is not None
    hers = {**entry, **ELSEWHERE.monitor.model_dump(mode="json")}
    row = {"nkey": ELSEWHERE.nkey, "role": "monitor", "member": hers["kid"], "asked": ELSEWHERE.nkey_signature}
    return offered(files, connections=[row], monitors=[entry, hers])


def with_her_word_as_another_monitors(files: Files) -> Files:
    return offered(files, connections=[{**REGION.row(STRANGER), "asked": ELSEWHERE.nkey_signature}])


def kept_out(files: Files) -> Files:
    return offered(files, revoked=[{"nkey": STRANGER.public, "at": 1}])


SQUATS: dict[str, Callable[[Files], Files]] = {
    "listed as an own monitor's": as_an_own_monitors,
    "listed with the word of an own key": with_an_own_keys_word,
    "listed with her word for another area": with_her_word_for_another_area,
    "listed with her word, as another monitor's": with_her_word_as_another_monitors,
    "kept out though never had": kept_out,
}


def served(files: Files, incoming: Files) -> Files:
    """What a hub serves that passes on whatever it likes, and vouches for it."""
    paper, roles = REGION.paper, (metadata.SNAPSHOT, metadata.TIMESTAMP)
    numbers = (metadata.metadata_version(files[metadata.newest(files, role)]) + 1 for role in roles)
    return publication.vouched({**files, **incoming}, paper.snapshot, paper.timestamp, NOW, *numbers)


@pytest.mark.parametrize("squat", SQUATS)
def test_a_region_cannot_speak_first_of_a_strangers_key(squat: str, files: Files) -> None:
    with pytest.raises(Refused) as caught:
        REGION.paper.accept_files(SQUATS[squat](files), files)
    assert caught.value.code == "not-theirs"


@pytest.mark.parametrize("squat", SQUATS)
def test_a_region_and_a_hub_that_is_with_it_cannot_have_coordinators_take_it(
    squat: str, files: Files, tmp_path: Path
) -> None:
    store = TrustStore(tmp_path, files[ROOT])
    before = store.refresh(files.get, "coordinator", NOW)
    with pytest.raises(Untrusted) as caught:
        store.refresh(served(files, SQUATS[squat](files)).get, "coordinator", NOW)
    assert caught.value.code == "not-theirs"
    assert store.offline("coordinator", NOW).version == before.version


def test_a_region_cannot_keep_out_a_key_of_the_networks_own_list_nor_one_that_it_had(files: Files) -> None:
    out = [{"nkey": NETWORKS, "at": 1}]
    with pytest.raises(Malformed) as malformed:
        REGION.paper.accept_files(offered(files, revoked=out), files)
    assert malformed.value.code == "another-lists"
    listed = metadata.document_of(files, "connections.json")
    rest = [row for row in listed["connections"] if row["nkey"] != NETWORKS]
    draft = drafts.edit(files, {"connections.json": {**listed, "connections": rest}}, NOW)
    without = REGION.paper.accept(REGION.paper.signed(draft), files)
    with pytest.raises(Refused) as refused:
        REGION.paper.accept_files(offered(without, revoked=out), without)
    assert refused.value.code == "not-theirs"


def test_a_region_lets_in_who_asked_and_keeps_her_out_later(files: Files, tmp_path: Path) -> None:
    store = TrustStore(tmp_path, files[ROOT])
    store.refresh(files.get, "coordinator", NOW)
    let_in = REGION.paper.accept_files(offered(files, connections=[REGION.row()]), files)
    store.refresh(let_in.get, "coordinator", NOW)
    out = offered(let_in, connections=[], revoked=[{"nkey": REGION.nkey, "at": 1}])
    after = store.refresh(REGION.paper.accept_files(out, let_in).get, "coordinator", NOW)
    assert after.connections is not None
    assert [row.nkey for row in after.connections.revoked] == [REGION.nkey]


def test_who_signs_for_an_area_no_more_is_no_coordinator_and_her_invitations_end(files: Files) -> None:
    assert {coordinator_id(bytes(key.verify_key)) for key in REGION.keys} <= metadata.coordinators(files).keys()
    following = [new_signing_key() for _ in range(2)]
    draft = REGION.paper.signed(REGION.handing(files, following))
    for key in following:
        draft = signatures.sign(draft, key)
    after = metadata.coordinators(REGION.paper.accept(draft, files))
    assert {coordinator_id(bytes(key.verify_key)) for key in following} <= after.keys()
    assert not {coordinator_id(bytes(key.verify_key)) for key in REGION.keys} & after.keys()


def test_the_network_gives_a_region_the_line_of_a_monitor_that_it_had_let_in() -> None:
    """Then she asked the network's coordinators, and these sign that the line goes."""
    founded = REGION.founded()
    row = {name: value for name, value in REGION.row().items() if name != "asked"}
    listed = metadata.document_of(founded, "connections.json")
    with_her = {"connections.json": {**listed, "connections": [*listed["connections"], row]}}
    before = REGION.paper.accept(REGION.paper.signed(drafts.edit(founded, with_her, NOW)), founded)
    own = {**REGION.own(before), LINES: {"v": 1, "area": "KG", "connections": [row], "revoked": []}}
    rows = REGION.seat([*REGION.paper.coordinators, *REGION.keys])
    known = [metadata.public_key(bytes(key.verify_key)) for key in REGION.keys]
    changed = {"connections.json": {"v": 1, "connections": rows, "revoked": []}, **own}
    draft = drafts.hand_over(before, changed, "KG", {key.keyid: key for key in known}, 2, NOW)
    after = REGION.paper.accept(REGION.signed(REGION.paper.signed(draft)), before)
    assert metadata.document_of(after, LINES)["connections"] == [row]
