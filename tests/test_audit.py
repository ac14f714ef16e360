"""The auditor's commands and the desk's witness, on a network that runs: what they check, answer and refuse."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from kengele_node import cli
from kengele_node.coordinator import standing
from kengele_node.demo.network import Network
from kengele_node.office.witness import open_memory
from kengele_schemas import subjects
from kengele_schemas.checkpoint import read_proof, sign_checkpoint
from kengele_schemas.compartments import names
from kengele_schemas.cosignature import cosign, cosigner
from kengele_schemas.encoding import unb64u
from kengele_testing.network import draft, sealed, small_network

pytestmark = pytest.mark.full
CANARY = "Zq7CANARYx9"


class Scene:
    """A network with one report in its log, and the commands as a person runs them."""

    def __init__(self, network: Network, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.network, self.home, self.capsys = network, home, capsys
        self.log = home / "log"
        self.receipt = home / "receipt.json"

    async def kengele(self, *words: object, ends: int = 0) -> tuple[str, str]:
        """What a command says on stdout and stderr."""
        self.capsys.readouterr()
        code = await asyncio.to_thread(cli.main, [str(word) for word in words])
        shown = self.capsys.readouterr()
        assert code == ends, shown
        return shown.out, shown.err

    async def audit(self, verb: str, *words: object, home: str = "aigul", ends: int = 0) -> tuple[str, str]:
        where = self.network.home / "coordinators" / home
        return await self.kengele("audit", verb, *words, "--home", where, *self.key, ends=ends)

    async def office(self, verb: str, *words: object, office: str = "unrcca", ends: int = 0) -> tuple[str, str]:
        home = self.network.home / "offices" / office
        return await self.kengele("office", verb, *words, "--home", home, *self.key, ends=ends)

    @property
    def key(self) -> tuple[object, ...]:
        return ("--key-file", self.network.home / "key")

    async def report(self) -> dict[str, Any]:
        osh = self.network.monitors["osh"]
        text = {"text": f"{CANARY} at the bazaar.", "lang": "en"}
        async with osh.session() as session:
            data = sealed(osh, draft(summary=text, account=text), await session.refresh())
            answer = await session.link.request(subjects.reports_submit(osh.nkey.public), data)
        self.receipt.write_bytes(answer)
        return dict(json.loads(answer))


def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], claim: Callable[[Scene], Any]) -> None:
    async def on_a_network() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            scene = Scene(network, tmp_path, capsys)
            await scene.report()
            await claim(scene)

    asyncio.run(on_a_network())


def test_the_hubs_log_is_verified_from_its_first_entry_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def claim(scene: Scene) -> None:
        _, told = await scene.audit("verify", ends=6)
        assert "too-few-cosignatures" in told
        _, told = await scene.audit("verify", "--witnesses", 0)
        assert "No office has cosigned this log" in told
        for office in ("unrcca", "un-hq"):
            told, _ = await scene.office("witness", "--once", office=office)
            assert "cosigned" in told
        await scene.report()
        told, _ = await scene.audit("verify", "--witnesses", 2, "--receipt", scene.receipt, "--json")
        found = json.loads(told)
        assert found["cosigned_by"] == ["un-hq", "unrcca"]
        assert found["kinds"] == {"trust": 2, "report": 2}
        assert found["size"] == 4
        told, _ = await scene.audit("verify", "--witnesses", 3, ends=6)
        told, _ = await scene.audit("verify", home="moussa")
        assert found["root"] in told
        assert told.endswith("It holds.\n")

    run(tmp_path, capsys, claim)


def test_who_was_given_what_under_which_rule_and_version_and_when(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def claim(scene: Scene) -> None:
        receipt = json.loads(scene.receipt.read_bytes())
        decisions = {row[0]: row for row in json.loads(receipt["leaf"])["decisions"]}
        for asked in (receipt["digest"], scene.receipt):
            told, _ = await scene.audit("search", "--report", asked, "--office", "unrcca", "--json")
            (found,) = map(json.loads, told.splitlines())
            assert found["given"][0]["released"] == list(names(decisions["unrcca"][1])) != []
            assert found["given"][0]["rules"] == decisions["unrcca"][3]
            assert (found["entry"], found["policy"]) == (2, 2)
        kid = scene.network.monitors["osh"].kid
        await scene.network.publish(lambda before: standing.suspend(before, kid), ("aigul", "moussa"))
        told, _ = await scene.audit("search", "--member", kid)
        assert told.splitlines()[-1] == f"    monitor {kid}: suspended"
        assert f"    monitor {kid}: added" in told
        rule = found["given"][0]["rules"][0]
        told, _ = await scene.audit("search", "--rule", rule, "--json")
        assert [json.loads(line)["kind"] for line in told.splitlines()] == ["trust", "report"]
        told, _ = await scene.audit("search", "--office", "nobody")
        assert told == "The log says nothing of that.\n"
        told, _ = await scene.audit("search", "--until", "2020-01-01", "--json")
        assert told == ""
        told, err = await scene.audit("search")
        assert CANARY not in told + err
        await scene.audit("search", "--report", "x" * 43, ends=2)

    run(tmp_path, capsys, claim)


def test_an_exported_log_is_verified_without_the_hub(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def claim(scene: Scene) -> None:
        await scene.office("witness", "--once")
        told, progress = await scene.audit("export", scene.log)
        assert "3 of 3 entries" in progress
        await scene.report()
        await scene.audit("export", scene.log)
        scene.network.close()
        told, _ = await scene.audit("verify", scene.log, "--receipt", scene.receipt, "--json")
        assert json.loads(told)["size"] == 4
        assert json.loads(told)["cosigned_by"] == ["unrcca"]
        told, _ = await scene.audit("search", scene.log, "--report", scene.receipt)
        assert "unrcca: " in told
        card = scene.network.hub.home / "hub-card.json"
        _, told = await scene.kengele("audit", "verify", scene.log, "--hub-card", card)
        assert "neither cosignatures nor members" in told
        for path in scene.log.rglob("*"):
            assert path.is_dir() or CANARY.encode() not in path.read_bytes()
        for change, code in (
            (lambda data: data.replace(b'"policy":2', b'"policy":3', 1), "unknown-policy"),
            (lambda data: data.replace(b'"kind":"report"', b'"kind":"rumour"', 1), "not-a-leaf"),
            (lambda data: data.replace(b'Z","bytes"', b'Y","bytes"', 1), "not-a-leaf"),
            (lambda data: data.replace(b':"2', b':"3', 1), "log-forked"),
        ):
            path = scene.log / "tile/entries/000.p/4"
            before = path.read_bytes()
            path.write_bytes(change(before))
            _, told = await scene.audit("verify", scene.log, ends=6)
            assert code in told
            path.write_bytes(before)
        (scene.log / "tile/0/000.p/4").write_bytes(bytes(128))
        _, told = await scene.audit("verify", scene.log, ends=6)
        assert "tile-differs" in told
        await scene.audit("verify", scene.home / "nothing", ends=2)

    run(tmp_path, capsys, claim)


def test_an_older_copy_lacks_a_newer_receipt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def claim(scene: Scene) -> None:
        await scene.audit("export", scene.log)
        await scene.report()
        _, told = await scene.audit("verify", scene.log, "--witnesses", 0, "--receipt", scene.receipt, ends=6)
        assert "receipt-not-in-log" in told
        await scene.network.publish(
            lambda before: standing.suspend(before, scene.network.monitors["osh"].kid), ("aigul", "moussa")
        )
        await scene.network.files("aigul")
        told, _ = await scene.audit("verify", scene.log, "--witnesses", 0)
        assert "newer one" in told

    run(tmp_path, capsys, claim)


def test_a_desk_that_follows_witnesses_and_what_does_not_hold_is_told_loudly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def claim(scene: Scene) -> None:
        _, told = await scene.office("follow", "--once")
        assert told == ""
        told, _ = await scene.audit("verify", "--json")
        assert json.loads(told)["cosigned_by"] == ["unrcca"]
        assert json.loads((await scene.office("show", "--problems", "--json"))[0])["log"]["evidence"] == []
        # The desk has seen a longer log of this hub, which now shows another.
        unrcca = scene.network.offices["unrcca"]
        memory = open_memory(unrcca.home, unrcca.vault.rows("witness"))
        before = memory.last()
        keys = json.loads((scene.network.hub.home / "keys.json").read_bytes())
        memory.keep(before, before._replace(note=forged(keys["hub-key"], unrcca.offline().network.log)))
        memory.close()
        _, told = await scene.office("witness", "--once", ends=6)
        assert "log-rolled-back" in told
        _, told = await scene.office("follow", "--once")
        assert "log-rolled-back" in told
        told, _ = await scene.office("show", "--problems")
        assert "log-rolled-back" in told
        log = json.loads((await scene.office("show", "--problems", "--json"))[0])["log"]
        assert len(log["evidence"]) == 1
        assert log["evidence"][0]["after"].startswith(before.note.partition("\n\n")[0])

    run(tmp_path, capsys, claim)


def test_a_desk_whose_memory_of_the_log_is_damaged_reads_on_and_signs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def claim(scene: Scene) -> None:
        (scene.network.offices["unrcca"].home / "witness.db").write_bytes(b"no store" * 1000)
        told = ""
        async with asyncio.timeout(60):
            while CANARY not in told:
                told, noted = await scene.office("follow", "--once", "--json")
                assert "is not witnessed" in noted
        _, told = await scene.audit("verify", ends=6)
        assert "too-few-cosignatures" in told

    run(tmp_path, capsys, claim)


def test_a_receipt_shows_who_cosigned_its_checkpoint_and_a_forged_cosignature_spoils_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def claim(scene: Scene) -> None:
        unrcca = scene.network.offices["unrcca"]
        async with unrcca.session() as session:
            log = (await session.refresh()).network.log
        receipt = json.loads(scene.receipt.read_bytes())
        note = read_proof(receipt["proof"]).checkpoint
        home = scene.network.monitors["osh"].home
        for key, name, ends in (
            (unrcca.key, "unrcca", 0),
            (unrcca.key, "nobody", 0),
            (scene.network.offices["un-hq"].key, "unrcca", 0),
        ):
            line = cosign(note, cosigner(log, name), 1_800_000_000, key)
            path = tmp_path / "cosigned.json"
            path.write_text(json.dumps({**receipt, "proof": receipt["proof"] + line}), "utf-8")
            told, _ = await scene.kengele("verify", path, "--home", home, ends=ends)
            assert ("cosigned by:" in told) == (key is unrcca.key and name == "unrcca")
        good = cosign(note, cosigner(log, "unrcca"), 1_800_000_000, unrcca.key)
        other = cosign(note.replace("\n3\n", "\n4\n"), cosigner(log, "unrcca"), 1_800_000_000, unrcca.key)
        assert good != other
        path.write_text(json.dumps({**receipt, "proof": receipt["proof"] + other}), "utf-8")
        _, told = await scene.kengele("verify", path, "--home", home, ends=6)
        assert "bad-cosignature" in told

    run(tmp_path, capsys, claim)


def forged(hub_key: str, log: str) -> str:
    """The hub's own word on a log that is longer than the one it shows."""
    return sign_checkpoint(log, 1000, bytes(32), SigningKey(unb64u(hub_key)))
