"""The log as the hub shows it: one checkpoint a moment for all witnesses, cosignatures kept, leaves to coordinators."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from kengele_hub import jetstream
from kengele_hub.audit import MAX_BYTES, MAX_ENTRIES, MOMENT, Audit
from kengele_hub.errors import StorageFull
from kengele_hub.ledger import Entry
from kengele_schemas import subjects
from kengele_schemas.checkpoint import sign_checkpoint, verify_checkpoint
from kengele_schemas.cosignature import cosign, cosigner, read_cosignatures
from kengele_schemas.encoding import b64u, dumps, unb64u
from kengele_schemas.errors import KengeleError, Malformed, Refused, Untrusted
from kengele_schemas.keys import new_signing_key
from kengele_schemas.leaves import read_entry
from kengele_schemas.merkle import leaf_hash, verify_consistency
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.tiles import Tile, split_hashes
from kengele_testing.hub import LOG, Hub, Roster, running_hub

pytestmark = pytest.mark.full
START = 1_800_000_000


class Clock:
    """Unix seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = float(START)

    def __call__(self) -> float:
        return self.now

    def next_moment(self) -> None:
        self.now += MOMENT


class Scene:
    """A hub whose log is looked at."""

    def __init__(self, hub: Hub) -> None:
        self.hub, self.clock = hub, Clock()
        self.audit = self.one_more(hub)

    def one_more(self, hub: Hub) -> Audit:
        return Audit(hub.nc, hub.ledger, lambda: hub.authority.standing, self.clock)

    async def get(self, who: str, request: Any, audit: Audit | None = None) -> dict[str, Any]:
        return await (audit or self.audit).answer_get(self.hub.roster.nkeys[who], dumps(request))

    async def note(self, who: str = "unrcca", which: Any = "witnessed", audit: Audit | None = None) -> str:
        return str((await self.get(who, {"checkpoint": which}, audit))["note"])

    async def size(self, who: str = "unrcca", which: Any = "witnessed", audit: Audit | None = None) -> int:
        note = await self.note(who, which, audit)
        return verify_checkpoint(note, LOG, bytes(self.hub.keys.hub_key.verify_key)).size

    async def cosign(self, who: str, note: str, key: SigningKey | None = None, **changes: Any) -> dict[str, Any]:
        said = {"name": cosigner(LOG, who), "at": START, **changes}
        line = cosign(note, said["name"], said["at"], key or self.hub.roster.monitor)
        request = {"size": int(note.split("\n")[1]), "line": line}
        return await self.audit.answer_cosign(self.hub.roster.nkeys[who], dumps(request))

    async def grow(self, *reports: str) -> None:
        await self.hub.take(*(("osh", self.hub.roster.sealed()) for _ in reports or ("one",)))


def run(tmp_path: Path, claim: Callable[[Scene], Awaitable[None]], roster: Roster | None = None) -> None:
    async def against_a_hub() -> None:
        async with running_hub(tmp_path, roster) as hub, asyncio.timeout(60):
            await claim(Scene(hub))

    asyncio.run(against_a_hub())


@contextmanager
def refused(code: str, kind: type[KengeleError] = Refused) -> Iterator[None]:
    with pytest.raises(kind) as caught:
        yield
    assert caught.value.code == code


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_all_witnesses_are_shown_one_checkpoint_in_a_moment_however_the_log_grows(tmp_path: Path) -> None:
    async def claim(scene: Scene) -> None:
        first = await scene.note("unrcca")
        await scene.grow()
        assert await scene.note("council") == first
        assert await scene.size("aigul") == 1
        scene.clock.next_moment()
        assert await scene.size("council") == 2
        assert await scene.size("unrcca") == 2

    run(tmp_path, claim)


def test_a_log_that_did_not_grow_keeps_its_checkpoint_and_what_was_signed_under_it(tmp_path: Path) -> None:
    async def claim(scene: Scene) -> None:
        note = await scene.note()
        await scene.cosign("unrcca", note)
        scene.clock.next_moment()
        assert (await scene.note("council")).startswith(note)
        assert cosigner(LOG, "unrcca") in await scene.note("council")
        await scene.grow()
        assert await scene.size() == 1
        scene.clock.next_moment()
        assert await scene.size() == 2

    run(tmp_path, claim)


def test_two_workers_show_one_checkpoint_and_never_a_smaller_one(tmp_path: Path) -> None:
    async def claim(scene: Scene) -> None:
        async with scene.hub.another() as other:
            theirs = scene.one_more(other)
            notes = await asyncio.gather(*(scene.note(audit=one) for one in (scene.audit, theirs) * 5))
            assert len(set(notes)) == 1
            scene.clock.next_moment()
            assert await scene.size(audit=theirs) == 1
            await scene.grow()
            # The first worker looks for the first time in this moment, the other did before the log grew.
            assert await scene.size(audit=scene.audit) == 2
            assert await scene.size(audit=theirs) == 2
            await scene.grow("one", "two")
            scene.clock.next_moment()
            assert other.ledger.size < 4
            assert await scene.size(audit=theirs) == 4

    run(tmp_path, claim)


def test_only_coordinators_see_how_far_the_log_is_just_now(tmp_path: Path) -> None:
    async def claim(scene: Scene) -> None:
        await scene.note()
        await scene.grow()
        assert await scene.size("aigul", "newest") == 2
        with refused("malformed", Malformed):
            await scene.note("unrcca", "newest")

    run(tmp_path, claim)


def test_the_proof_between_two_checkpoints_holds_and_an_office_learns_no_size_from_asking(tmp_path: Path) -> None:
    async def claim(scene: Scene) -> None:
        notes = [await scene.note()]
        await scene.grow("one", "two", "three")
        scene.clock.next_moment()
        notes.append(await scene.note())
        answer = await scene.get("unrcca", {"consistency": [1, 4]})
        old, new = (verify_checkpoint(note, LOG, bytes(scene.hub.keys.hub_key.verify_key)) for note in notes)
        verify_consistency(1, 4, [unb64u(one) for one in answer["hashes"]], old.root, new.root)
        await scene.grow()
        with refused("not-in-log"):
            await scene.get("unrcca", {"consistency": [4, 5]})
        with refused("not-in-log"):
            await scene.get("unrcca", {"consistency": [4, 6]})
        assert (await scene.get("aigul", {"consistency": [4, 5]}))["hashes"]
        with refused("not-in-log"):
            await scene.get("aigul", {"consistency": [4, 6]})

    run(tmp_path, claim)


def test_without_room_for_a_checkpoint_nobody_is_shown_one_that_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(scene: Scene) -> None:
        async def full(*_: object) -> int:
            raise StorageFull("storage-full", "Full.")

        with monkeypatch.context() as patched:
            patched.setattr(jetstream, "publish_batch", full)
            with refused("storage-full", StorageFull):
                await scene.note()
        assert await scene.size() == 1

    run(tmp_path, claim)


# --- cosignatures -----------------------------------------------------------------------------------------------------


def test_what_an_office_cosigned_is_served_to_all_and_outlasts_the_worker(tmp_path: Path) -> None:
    async def claim(scene: Scene) -> None:
        note = await scene.note()
        assert await scene.cosign("unrcca", note) == {"code": "kept"}
        await scene.cosign("unrcca", note, at=START + 5)
        await scene.cosign("council", note)
        key = bytes(scene.hub.roster.monitor.verify_key)
        names = {cosigner(LOG, office): key for office in ("unrcca", "council")}
        expected = {cosigner(LOG, "unrcca"): START + 5, cosigner(LOG, "council"): START}
        async with scene.hub.another() as restarted:
            again = scene.one_more(restarted)
            for who in ("unrcca", "council", "aigul"):
                assert read_cosignatures(await scene.note(who, audit=again), names) == expected
            await scene.grow()
            scene.clock.next_moment()
            assert read_cosignatures(await scene.note(), names) == {}
            assert read_cosignatures(await scene.note("council", 1), names) == expected

    run(tmp_path, claim)


def test_a_cosignature_cannot_be_forged(tmp_path: Path) -> None:
    stranger = new_signing_key()

    async def claim(scene: Scene) -> None:
        note = await scene.note()
        other = sign_checkpoint(LOG, 1, bytes(32), scene.hub.keys.hub_key)
        with refused("malformed", Malformed):  # of another key than the roster's
            await scene.cosign("unrcca", note, stranger)
        with refused("malformed", Malformed):  # in another office's name
            await scene.cosign("unrcca", note, name=cosigner(LOG, "council"))
        with refused("bad-cosignature", Untrusted):  # over another tree
            await scene.cosign("unrcca", other)
        with refused("future-dated"):
            await scene.cosign("unrcca", note, at=START + 3700)
        with refused("not-in-log"):  # under a checkpoint that nobody was shown
            await scene.cosign("unrcca", note.replace("\n1\n", "\n2\n"))
        for who in ("aigul", "osh"):
            with refused("not-admitted"):
                await scene.cosign(who, note)
        assert "unrcca" not in await scene.note()

    run(tmp_path, claim)


@pytest.mark.parametrize("status", ["suspended", "revoked"])
def test_a_cosignature_cannot_be_made_by_an_office_that_is(tmp_path: Path, status: str) -> None:
    async def claim(scene: Scene) -> None:
        note = await scene.note()
        await scene.cosign("unrcca", note)
        await scene.cosign("council", note)
        await scene.hub.publish(scene.hub.roster.with_office("council", status=status))
        with refused("not-admitted"):
            await scene.cosign("council", note)
        with refused("not-admitted"):
            await scene.note("council")
        # What it signed before counts no more, either.
        assert "council" not in await scene.note()
        assert "unrcca" in await scene.note()

    run(tmp_path, claim)


def test_an_office_that_changed_its_key_is_not_served_under_the_old_one(tmp_path: Path) -> None:
    async def claim(scene: Scene) -> None:
        note = await scene.note()
        await scene.cosign("council", note)
        key = new_signing_key()
        await scene.hub.publish(scene.hub.roster.with_office("council", sign=b64u(bytes(key.verify_key))))
        assert await scene.note() == note
        await scene.cosign("council", note, key)
        assert "council" in await scene.note()

    run(tmp_path, claim)


# --- entries and tiles ------------------------------------------------------------------------------------------------


def test_coordinators_get_leaves_and_never_a_body(tmp_path: Path) -> None:
    async def claim(scene: Scene) -> None:
        data = scene.hub.roster.sealed()
        await scene.hub.take(("osh", data))
        answer = await scene.get("aigul", {"entries": [0, 2]})
        leaves = [unb64u(one) for one in answer["entries"]]
        assert [read_entry(leaf).kind for leaf in leaves] == ["trust", "report"]
        assert set(answer) == {"code", "entries"}
        payload = json.loads(data)["payload"]
        assert payload not in json.dumps(answer) + "".join(map(str, leaves))
        tile = await scene.get("aigul", {"tile": str(Tile(0, 0, 2))})
        assert split_hashes(unb64u(tile["data"])) == [leaf_hash(leaf) for leaf in leaves]

    run(tmp_path, claim)


def test_an_office_gets_no_leaf_and_no_tile(tmp_path: Path) -> None:
    async def claim(scene: Scene) -> None:
        await scene.grow()
        scene.clock.next_moment()
        for request in (
            {"entries": [0, 1]},
            {"entries": [0, 2]},
            {"tile": "tile/0/000.p/1"},
            {"entries": []},
            {"x": 1},
        ):
            with refused("not-admitted"):
                await scene.get("unrcca", request)
        assert await scene.size("unrcca") == 2

    run(tmp_path, claim)


def test_strangers_and_those_without_a_network_get_nothing(tmp_path: Path) -> None:
    async def claim(scene: Scene) -> None:
        stranger = KeyPair.generate("user").public
        for request in ({"checkpoint": "witnessed"}, {"consistency": [0, 0]}, {"entries": [0, 1]}):
            with refused("not-admitted"):
                await scene.audit.answer_get(stranger, dumps(request))
        unfounded = Audit(scene.hub.nc, scene.hub.ledger, lambda: None)
        with refused("not-admitted"):
            await unfounded.answer_get(scene.hub.roster.nkeys["aigul"], dumps({"checkpoint": "witnessed"}))

    run(tmp_path, claim)


def test_a_monitor_is_shown_what_offices_cosigned_and_no_entry_and_nothing_newer(tmp_path: Path) -> None:
    async def claim(scene: Scene) -> None:
        note = await scene.note()
        size = await scene.size()
        await scene.cosign("unrcca", note)
        await scene.grow()
        assert await scene.note("osh") == await scene.note()
        assert (await scene.get("osh", {"consistency": [1, size]}))["code"] == "consistency"
        with refused("not-in-log"):
            await scene.get("osh", {"consistency": [1, size + 1]})
        for request in ({"entries": [0, 1]}, {"tile": "tile/0/000.p/1"}):
            with refused("not-admitted"):
                await scene.get("osh", request)
        with pytest.raises(Malformed):
            await scene.note("osh", "newest")
        with refused("not-admitted"):
            await scene.cosign("osh", note)

    run(tmp_path, claim)


def test_what_monitors_ask_is_answered_from_memory_for_a_minute_and_no_longer(tmp_path: Path) -> None:
    async def claim(scene: Scene) -> None:
        note = await scene.note("osh")
        await scene.cosign("unrcca", note)
        assert await scene.note("osh") == note
        assert await scene.note() != note
        scene.clock.now += 61
        assert await scene.note("osh") == await scene.note()

    run(tmp_path, claim)


def test_an_answer_is_bounded_in_entries_and_bytes_and_never_empty(tmp_path: Path) -> None:
    async def claim(scene: Scene) -> None:
        ledger = scene.hub.ledger
        small = [Entry(subjects.ledger_entry("note", str(number)), b"leaf %d" % number) for number in range(400)]
        large = [Entry(subjects.ledger_entry("large", str(number)), bytes([65]) * 60_000) for number in range(6)]
        await ledger.append(small)
        await ledger.append(large)
        first = await scene.get("aigul", {"entries": [1, 401]})
        assert [unb64u(one) for one in first["entries"]] == [entry.leaf for entry in small[:MAX_ENTRIES]]
        second = await scene.get("aigul", {"entries": [401, 407]})
        assert len(second["entries"]) == MAX_BYTES // 60_000
        assert len(dumps(second)) < 512 * 1024
        assert len((await scene.get("aigul", {"entries": [406, 407]}))["entries"]) == 1
        with refused("not-in-log"):
            await scene.get("aigul", {"entries": [407, 408]})

    run(tmp_path, claim)


REQUESTS: list[Any] = [
    None,
    [],
    {},
    {"checkpoint": None},
    {"checkpoint": True},
    {"checkpoint": -1},
    {"checkpoint": 2**60},
    {"checkpoint": "x"},
    {"checkpoint": ["witnessed"]},
    {"consistency": [1]},
    {"consistency": [1, 0]},
    {"consistency": [0.5, 1]},
    {"consistency": [-1, 1]},
    {"consistency": {"0": 1}},
    {"tile": 7},
    {"tile": "tile/0/../000"},
    {"entries": "0-1"},
    {"entries": [False, True]},
    {"checkpoint": "witnessed", "entries": [0, 1]},
    {"leaves": [0, 1]},
]


def test_what_is_no_request_is_refused_and_stops_nothing(tmp_path: Path) -> None:
    async def claim(scene: Scene) -> None:
        nkey = scene.hub.roster.nkeys["aigul"]
        for data in (*(json.dumps(one).encode() for one in REQUESTS), b"", b"{", b"\xff", b"[" * 5000, b" " * 9999):
            with pytest.raises((Malformed, Refused)):
                await scene.audit.answer_get(nkey, data)
        unrcca = scene.hub.roster.nkeys["unrcca"]
        line = cosign(await scene.note(), cosigner(LOG, "unrcca"), START, scene.hub.roster.monitor)
        for request in (
            None,
            {},
            {"size": 1},
            {"size": "1", "line": line},
            {"size": 1, "line": line * 2},
            {"size": 1, "line": ""},
            {"size": 1, "line": "\n"},
            {"size": 1, "line": line[:-1]},
            {"size": True, "line": line},
        ):
            with pytest.raises((Malformed, Refused, Untrusted)):
                await scene.audit.answer_cosign(unrcca, json.dumps(request).encode())
        assert (await scene.audit.answer_cosign(unrcca, dumps({"size": 1, "line": line})))["code"] == "kept"

    run(tmp_path, claim)


def test_requests_come_over_the_bus_and_each_gets_an_answer(tmp_path: Path) -> None:
    async def claim(scene: Scene) -> None:
        hub = scene.hub
        async with hub.running("worker"):
            for name, request, code in (
                (subjects.audit_get(hub.roster.nkeys["unrcca"]), {"checkpoint": "witnessed"}, "checkpoint"),
                (subjects.audit_get(hub.roster.nkeys["unrcca"]), {"entries": [0, 1]}, "not-admitted"),
                (subjects.audit_get(hub.roster.nkeys["aigul"]), {"entries": [0, 1]}, "entries"),
                (subjects.audit_get(hub.roster.nkeys["osh"]), {"checkpoint": "witnessed"}, "checkpoint"),
                (subjects.audit_get(hub.roster.nkeys["osh"]), {"entries": [0, 1]}, "not-admitted"),
                (subjects.audit_cosign(hub.roster.nkeys["council"]), {"size": 5, "line": "x\n"}, "not-in-log"),
            ):
                answer = await hub.nc.request(name, dumps(request), timeout=20)
                assert json.loads(answer.data)["code"] == code

    run(tmp_path, claim)
