"""What a hub that keeps two logs, or rewrites one, cannot do unnoticed. Its two halves are real, under one key.

A hub runs, is copied with all it has, and from then on each half goes its own way: one is shown to UNRCCA and to the
auditor, the other to the council.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kengele_hub import jetstream, streams
from kengele_hub.audit import MOMENT, Audit
from kengele_hub.broker import Broker, Settings
from kengele_hub.home import HubKeys
from kengele_hub.ledger import Entry, Ledger
from kengele_node.audit.archive import Archive
from kengele_node.audit.examination import Examination
from kengele_node.audit.sources import HubLog
from kengele_node.office.witness import Memory, Witness
from kengele_node.rows import RowCipher
from kengele_schemas import subjects
from kengele_schemas.checkpoint import read_proof, verify_checkpoint
from kengele_schemas.cosignature import attach, cosigner, read_cosignatures
from kengele_schemas.encoding import b64u, dumps
from kengele_schemas.errors import KengeleError, Refused, Untrusted
from kengele_schemas.keys import new_signing_key
from kengele_testing.hub import LOG, TOKEN, Hub, Roster
from kengele_testing.network import draft, sealed, small_network

pytestmark = pytest.mark.full
KEYS = {"unrcca": new_signing_key(), "council": new_signing_key()}
START = 1_800_000_000.0


class Witnessed(Roster):
    """Each office signs with a key of its own."""

    def documents(self) -> dict[str, Any]:
        made = super().documents()
        for office in made["offices.json"]["offices"]:
            office["sign"] = b64u(bytes(KEYS[office["id"]].verify_key))
        return made


class Clock:
    """Unix seconds, moved by hand, the same for all."""

    now = START

    def __call__(self) -> float:
        return self.now


class Half:
    """One half of the hub, as members reach it."""

    def __init__(self, hub: Hub, clock: Clock) -> None:
        self.hub = hub
        self.audit = Audit(hub.nc, hub.ledger, lambda: hub.authority.standing, clock)

    async def ask(self, subject: str, document: Any) -> dict[str, Any]:
        """A member's session, without the bus."""
        answer = self.audit.answer_get if subject.endswith(".get") else self.audit.answer_cosign
        try:
            return await answer(subjects.sender(subject), dumps(document))
        except KengeleError as error:
            raise Refused(error.code, error.sentence) from None

    async def report(self) -> dict[str, Any]:
        (receipt,) = await self.hub.take(("osh", self.hub.roster.sealed()))
        assert receipt["code"] == "accepted"
        return receipt

    def auditor(self) -> HubLog:
        return HubLog(self, self.hub.roster.nkeys["aigul"])


class Desk:
    """An office whose line leads to whichever half the hub chooses."""

    def __init__(self, directory: Path, half: Half, office: str, clock: Clock) -> None:
        self.office, self.half, self.clock = office, half, clock
        self.memory = Memory(directory / f"{office}.db", RowCipher(b"k" * 32, "rows/witness"))

    async def look(self, half: Half | None = None) -> dict[str, int]:
        half = half or self.half
        roster = half.hub.roster
        witness = Witness(
            half, self.memory, self.office, KEYS[self.office], roster.nkeys[self.office], clock=self.clock
        )
        return (await witness.look(roster.trusted())).shared


class Scene:
    def __init__(self, directory: Path, one: Half, other: Half, clock: Clock) -> None:
        self.one, self.other, self.clock = one, other, clock
        self.unrcca, self.council = (Desk(directory, one, id, clock) for id in ("unrcca", "council"))

    def later(self) -> None:
        self.clock.now += MOMENT


@asynccontextmanager
async def half(home: Path, roster: Roster, clock: Clock) -> AsyncIterator[Half]:
    keys = HubKeys.load(home)
    async with Broker(keys, Settings(port=-1)) as broker:
        nc = await broker.access.connect()
        await streams.ensure_streams(nc)
        await nc.close()
        hub = await Hub.of(home / "worker", broker, keys, roster)
        try:
            yield Half(hub, clock)
        finally:
            await hub.nc.close()


def run(tmp_path: Path, claim: Callable[[Scene], Awaitable[None]]) -> None:
    """Holds ``claim`` against a hub that was copied after two reports and one look of each office."""

    async def against_a_hub_of_two_minds() -> None:
        roster, clock = Witnessed(), Clock()
        keys = HubKeys.create(tmp_path / "one")
        roster.hub, roster.snapshot, roster.timestamp = keys.hub_key, keys.snapshot_key, keys.timestamp_key
        (tmp_path / "desks").mkdir()
        async with half(tmp_path / "one", roster, clock) as honest:
            await honest.hub.authority.found(b64u(TOKEN), roster.first())
            await honest.report()
            await honest.report()
            for office in KEYS:
                desk = Desk(tmp_path / "desks", honest, office, clock)
                await desk.look()
                desk.memory.close()
        shutil.copytree(tmp_path / "one", tmp_path / "other", symlinks=True)
        async with half(tmp_path / "one", roster, clock) as one, half(tmp_path / "other", roster, clock) as other:
            scene = Scene(tmp_path / "desks", one, other, clock)
            scene.later()
            async with asyncio.timeout(60):
                await claim(scene)
            for desk in (scene.unrcca, scene.council):
                desk.memory.close()

    asyncio.run(against_a_hub_of_two_minds())


async def refused(code: str, work: Awaitable[Any]) -> None:
    with pytest.raises(Untrusted) as caught:
        await work
    assert caught.value.code == code


def test_the_hub_cannot_show_two_offices_different_logs_unnoticed(tmp_path: Path) -> None:
    async def claim(scene: Scene) -> None:
        await scene.one.report()
        await scene.other.report()
        await scene.unrcca.look(scene.one)
        await scene.council.look(scene.other)
        for _ in range(3):
            scene.later()
            await scene.one.report()
            await scene.other.report()
            # It can keep the two apart; then neither sees the other's word under what it signed itself any more.
            for desk, own, stranger in ((scene.unrcca, scene.one, "council"), (scene.council, scene.other, "unrcca")):
                assert (await desk.look(own)).get(stranger, 0) <= START
        # Whenever it lets one of them see the other log, that office has the hub's signature under both.
        scene.later()
        await scene.other.report()
        await refused("log-forked", scene.council.look(scene.one))
        await refused("log-forked", scene.unrcca.look(scene.other))
        hub_key = bytes(scene.one.hub.keys.hub_key.verify_key)
        for desk in (scene.unrcca, scene.council):
            (evidence,) = desk.memory.evidence()
            before, after = (verify_checkpoint(note, LOG, hub_key) for note in (evidence.before, evidence.after))
            assert before.root != after.root
        # And neither cosigned what it refused.
        for side in (scene.one, scene.other):
            keys = {cosigner(LOG, office): bytes(key.verify_key) for office, key in KEYS.items()}
            assert len(read_cosignatures(await side.auditor().witnessed(), keys)) <= 1

    run(tmp_path, claim)


def test_an_honest_hub_has_both_offices_under_one_checkpoint(tmp_path: Path) -> None:
    """Without this, the claims about two logs would prove nothing."""

    async def claim(scene: Scene) -> None:
        await scene.one.report()
        await scene.unrcca.look(scene.one)
        assert (await scene.council.look(scene.one))["unrcca"] == int(START) + MOMENT
        scene.later()
        await scene.one.report()
        assert (await scene.unrcca.look(scene.one))["council"] == int(START) + MOMENT
        keys = {cosigner(LOG, office): bytes(key.verify_key) for office, key in KEYS.items()}
        await scene.council.look(scene.one)
        assert len(read_cosignatures(await scene.one.auditor().witnessed(), keys)) == 2

    run(tmp_path, claim)


def test_the_hub_cannot_graft_a_cosignature_from_one_log_onto_the_other(tmp_path: Path) -> None:
    async def claim(scene: Scene) -> None:
        await scene.one.report()
        await scene.other.report()
        await scene.unrcca.look(scene.one)
        await scene.council.look(scene.other)
        notes = [await side.auditor().witnessed() for side in (scene.one, scene.other)]
        line = next(row for row in notes[1].splitlines(keepends=True) if "council" in row)
        keys = {cosigner(LOG, office): bytes(key.verify_key) for office, key in KEYS.items()}
        assert set(read_cosignatures(notes[0], keys)) == {cosigner(LOG, "unrcca")}
        with pytest.raises(Untrusted) as caught:
            read_cosignatures(attach(notes[0], [line]), keys)
        assert caught.value.code == "bad-cosignature"

    run(tmp_path, claim)


def test_a_receipt_from_one_log_is_not_in_the_other(tmp_path: Path) -> None:
    async def claim(scene: Scene) -> None:
        receipt = await scene.other.report()
        await scene.one.report()
        examined = await examine(scene.one)
        hub_key = bytes(scene.one.hub.keys.hub_key.verify_key)
        with pytest.raises(Untrusted) as caught:
            examined.agree(verify_checkpoint(read_proof(receipt["proof"]).checkpoint, LOG, hub_key))
        assert caught.value.code == "log-forked"

    run(tmp_path, claim)


async def examine(side: Half) -> Examination:
    """What an auditor makes of one half's log."""
    log = side.auditor()
    checkpoint = verify_checkpoint(await log.checkpoint(), LOG, bytes(side.hub.keys.hub_key.verify_key))
    examined = Examination()
    async for leaf in log.entries(0, checkpoint.size):
        examined.take(leaf)
    examined.complete(checkpoint)
    return examined


def test_the_hub_cannot_roll_the_log_back(tmp_path: Path) -> None:
    async def claim(scene: Scene) -> None:
        # The copy is a backup of what it was before this report.
        await scene.one.report()
        await scene.unrcca.look(scene.one)
        hub_key = bytes(scene.one.hub.keys.hub_key.verify_key)
        seen = verify_checkpoint(await scene.one.auditor().checkpoint(), LOG, hub_key)
        scene.later()
        await refused("log-rolled-back", scene.unrcca.look(scene.other))
        with pytest.raises(Untrusted) as caught:
            (await examine(scene.other)).agree(seen)
        assert caught.value.code == "log-rolled-back"
        # Nor by growing it again, with other entries, to the same size and beyond.
        for _ in range(2):
            await scene.other.report()
            scene.later()
            await refused("log-forked", scene.unrcca.look(scene.other))
            with pytest.raises(Untrusted):
                (await examine(scene.other)).agree(seen)

    run(tmp_path, claim)


Change = Callable[[list[bytes]], list[bytes]]
CHANGES: dict[str, Change] = {
    "rewrite an entry": lambda leaves: [leaves[0], leaves[1].replace(b'"v":1', b'"v":2'), *leaves[2:]],
    "drop an entry": lambda leaves: [leaves[0], *leaves[2:]],
    "drop the last entry": lambda leaves: leaves[:-1],
    "put one in between": lambda leaves: [leaves[0], leaves[-1], *leaves[1:]],
    "change the order": lambda leaves: [leaves[0], leaves[2], leaves[1], *leaves[3:]],
}


@pytest.mark.parametrize("sentence", CHANGES)
def test_the_hub_cannot(tmp_path: Path, sentence: str) -> None:
    """It rebuilds its ledger with other entries, under its own key, and shows that one from then on."""

    async def claim(scene: Scene) -> None:
        hub = scene.one.hub
        hub_key = bytes(hub.keys.hub_key.verify_key)
        await scene.one.report()
        await scene.unrcca.look(scene.one)
        archive = Archive(tmp_path / "export")
        await archive.fill(scene.one.auditor(), LOG, hub_key, lambda done, total: None)
        leaves = await hub.ledger.leaves(0, hub.ledger.size, 1 << 20)
        changed = CHANGES[sentence](leaves)
        assert changed != leaves
        await jetstream.call(scene.other.hub.nc, f"STREAM.DELETE.{subjects.LEDGER}", {})
        await streams.ensure_streams(scene.other.hub.nc)
        forged = Ledger(scene.other.hub.nc, hub.keys.hub_key, LOG, tmp_path / "cache")
        await forged.load()
        await forged.append([Entry(subjects.ledger_entry("forged", str(n)), leaf) for n, leaf in enumerate(changed)])
        scene.other.audit._ledger = forged
        scene.later()
        with pytest.raises(Untrusted):
            await scene.unrcca.look(scene.other)
        assert scene.unrcca.memory.evidence()
        with pytest.raises(Untrusted):
            await archive.fill(scene.other.auditor(), LOG, hub_key, lambda done, total: None)
        await forged.append([Entry(subjects.ledger_entry("forged", "more"), leaves[1])])
        scene.later()
        await refused("log-forked", scene.unrcca.look(scene.other))

    run(tmp_path, claim)


def test_an_office_and_a_monitor_cannot_fetch_leaves_and_a_monitor_cannot_cosign(tmp_path: Path) -> None:
    async def claim() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, unrcca, aigul = network.monitors["osh"], network.offices["unrcca"], network.coordinators["aigul"]
            async with osh.session() as session:
                data = sealed(osh, draft(), await session.refresh())
                await session.link.request(subjects.reports_submit(osh.nkey.public), data)
                asked = dumps({"checkpoint": "witnessed"})
                for name in (unrcca.nkey.public, aigul.nkey.public):
                    with pytest.raises(KengeleError):
                        await session.link.request(subjects.audit_get(name), asked, timeout=0.5)
                for name in (osh.nkey.public, unrcca.nkey.public, aigul.nkey.public):
                    with pytest.raises(KengeleError):
                        await session.link.request(subjects.audit_cosign(name), dumps({"size": 3}), timeout=0.5)
            for member in (osh, unrcca):
                async with member.session() as session:
                    own = subjects.audit_get(member.nkey.public)
                    assert (await session.ask(own, {"checkpoint": "witnessed"}))["code"] == "checkpoint"
                    for request in ({"entries": [0, 1]}, {"entries": [0, 3]}, {"tile": "tile/0/000.p/1"}):
                        with pytest.raises(Refused) as caught:
                            await session.ask(own, request)
                        assert caught.value.code == "not-admitted"
            async with aigul.session() as session:
                answer = await session.ask(subjects.audit_get(aigul.nkey.public), {"entries": [0, 3]})
                assert len(answer["entries"]) == 3

    asyncio.run(claim())
