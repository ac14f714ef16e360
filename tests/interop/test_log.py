"""A log of 50,000 entries, verified from its exported files by a program that shares nothing with Kengele."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kengele_node.audit.archive import Archive
from kengele_node.audit.sources import HubLog
from kengele_node.office.witness import Witness, open_memory
from kengele_schemas import subjects
from kengele_schemas.encoding import b64u, unb64u
from kengele_schemas.merkle import Tree, verify_consistency, verify_inclusion
from kengele_testing import stranger
from kengele_testing.log import AT, WITNESSES, Log, report
from kengele_testing.network import draft, sealed, small_network
from kengele_testing.values import HUB, LOG

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(stranger.NODE is None, reason="NODE.JS IS NOT INSTALLED: the independent auditor was not run"),
]
SIZE = 50_000
PROOFS = 200
KEY = bytes(HUB.verify_key)
NAMES = {f"{LOG}/{office}": b64u(bytes(key.verify_key)) for office, key in WITNESSES.items()}


def exported(directory: Path, log: Log) -> Path:
    directory.mkdir()
    asyncio.run(Archive(directory).fill(log, LOG, KEY, lambda done, total: None))
    return directory


def judged(directory: Path, **said: Any) -> dict[str, Any]:
    return stranger.log(directory, {"log": LOG, "key": b64u(KEY), "witnesses": NAMES, "seed": 7, "proofs": 5, **said})


@pytest.fixture(scope="module")
def log() -> Log:
    made = Log.of(SIZE)
    made.cosigned_by = ("unrcca", "council")
    return made


@pytest.fixture(scope="module")
def whole(log: Log, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("log") / "log", log)


def drawn(tree: Tree, count: int) -> Iterator[tuple[int, int, int]]:
    chance = random.Random(1)
    for _ in range(count):
        size = chance.randint(1, tree.size)
        yield chance.randrange(size), chance.randint(0, size), size


def test_another_implementation_finds_the_same_tree_in_entries_and_hashes_and_the_same_signatures(
    log: Log, whole: Path
) -> None:
    found = judged(whole)
    assert "error" not in found, found
    assert (found["size"], found["witnessed"]) == (SIZE, SIZE)
    assert found["root"] == b64u(log.tree.root())
    assert found["cosigned"] == {f"{LOG}/unrcca": AT, f"{LOG}/council": AT}


def test_its_random_proofs_hold_here(log: Log, whole: Path) -> None:
    found = judged(whole, proofs=PROOFS)
    tree = log.tree
    assert len(found["inclusions"]) == len(found["consistencies"]) == PROOFS
    for one in found["inclusions"]:
        steps = [unb64u(step) for step in one["path"]]
        leaf = tree.hashes(0, one["index"], one["index"] + 1)
        verify_inclusion(leaf, one["index"], one["size"], steps, tree.root(one["size"]))
        assert steps == tree.inclusion(one["index"], one["size"])
    for one in found["consistencies"]:
        steps = [unb64u(step) for step in one["path"]]
        verify_consistency(one["old"], one["size"], steps, tree.root(one["old"]), tree.root(one["size"]))
        assert steps == tree.consistency(one["old"], one["size"])


def test_kengeles_random_proofs_hold_there(log: Log, whole: Path) -> None:
    tree, inclusions, consistencies = log.tree, [], []
    for index, old, size in drawn(log.tree, PROOFS):
        path = [b64u(step) for step in tree.inclusion(index, size)]
        inclusions.append({"index": index, "size": size, "path": path})
        consistencies.append({"old": old, "size": size, "path": [b64u(step) for step in tree.consistency(old, size)]})
    assert "error" not in judged(whole, inclusions=inclusions, consistencies=consistencies)
    wrong = {**inclusions[0], "index": inclusions[0]["index"] ^ 1}
    assert judged(whole, inclusions=[wrong]) == {"error": "an inclusion of Kengele's"}
    wrong = {**consistencies[0], "path": consistencies[0]["path"][:-1]}
    assert judged(whole, consistencies=[wrong]) == {"error": "a consistency of Kengele's"}


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 600])
def test_it_reads_logs_of_every_shape(tmp_path: Path, size: int) -> None:
    log = Log.of(size)
    found = judged(exported(tmp_path / "log", log))
    assert (found.get("size"), found.get("root")) == (size, b64u(log.tree.root())), found


def test_it_refuses_what_was_changed_after_it_was_signed(tmp_path: Path) -> None:
    log = Log.of(600)
    log.cosigned_by = ("unrcca",)
    good = exported(tmp_path / "good", log)
    other = Log.holding([*log.leaves[:300], report(9999), *log.leaves[301:]])
    forged = exported(tmp_path / "forged", other)
    for number, (name, source, told) in enumerate(
        [
            ("tile/entries/001", forged, "root from entries"),
            ("tile/0/001", forged, "hashes of the entries"),
            ("tile/1/000.p/2", forged, "tile of level 1 above other hashes"),
            ("checkpoint", forged, "root from entries"),
            ("tile/0/000", None, "missing tile/0/000"),
        ]
    ):
        directory = tmp_path / str(number)
        shutil.copytree(good, directory)
        if source is None:
            (directory / name).unlink()
        else:
            shutil.copyfile(source / name, directory / name)
        assert judged(directory) == {"error": told}
    assert judged(good, key=b64u(bytes(WITNESSES["council"].verify_key))) == {"error": "no signature of the log"}
    note = (good / "witnessed").read_text("utf-8")
    (good / "witnessed").write_text(note.replace(f"{LOG}/unrcca ", f"{LOG}/council "), "utf-8")
    assert judged(good)["cosigned"] == {}


def test_it_verifies_what_a_hub_that_runs_has_logged(tmp_path: Path) -> None:
    async def claim() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, aigul = network.monitors["osh"], network.coordinators["aigul"]
            unrcca = network.offices["unrcca"]
            async with osh.session() as session:
                trusted = await session.refresh()
                subject = subjects.reports_submit(osh.nkey.public)
                for _ in range(20):
                    await session.link.request(subject, sealed(osh, draft(), trusted))
            async with unrcca.session() as session:
                with closing(open_memory(unrcca.home, unrcca.vault.rows("witness"))) as memory:
                    witness = Witness(session, memory, unrcca.id, unrcca.key, unrcca.nkey.public)
                    await witness.look(await session.refresh())
            async with aigul.session() as session:
                known = (await session.refresh()).network
                source = HubLog(session, aigul.nkey.public)
                archive = Archive(tmp_path / "log")
                archive.directory.mkdir()
                tree = await archive.fill(source, known.log, unb64u(known.hub_key), lambda done, total: None)
            name = f"{known.log}/{unrcca.id}"
            said = {"log": known.log, "key": known.hub_key, "witnesses": {name: b64u(bytes(unrcca.key.verify_key))}}
            found = judged(archive.directory, **said)
            assert (found.get("size"), found.get("root")) == (22, b64u(tree.root())), found
            assert list(found["cosigned"]) == [name]

    asyncio.run(claim())
