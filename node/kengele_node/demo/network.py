"""A whole network in one directory: a hub in a process of its own, coordinators, monitors and offices with homes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from kengele_node.coordinator import admission
from kengele_node.coordinator import documents as papers
from kengele_node.coordinator.publishing import publish
from kengele_node.errors import said_by_hub
from kengele_node.member import Member, encode_files, joiner, now
from kengele_node.vault import Lock, make_key_file
from kengele_schemas import disk, drafts, metadata, signatures
from kengele_schemas.areas import Areas
from kengele_schemas.cards import CoordinatorCard, HubCard, JoinRequest, NetworkCard, read_card
from kengele_schemas.encoding import b64u, network_of
from kengele_schemas.errors import Refused, Unreachable
from kengele_schemas.keys import HYBRID, X25519, OpeningKey
from kengele_schemas.policy_text import from_yaml

from . import story

COORDINATORS: Final = ("aigul", "moussa", "nyambura")
THRESHOLD: Final = 2
_START: Final = 60.0
_QUOTA: Final = 100_000


class Hub:
    """The hub's process. It and its nats-server are started, killed and started again like anyone would."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def init(self) -> HubCard:
        """Makes its keys. Gives its card."""
        subprocess.run(
            [*_kengele(), "hub", "init", "--home", str(self.home), "--port", str(self.port)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return read_card(disk.read(self.home / "hub-card.json"), HubCard)

    async def start(self) -> None:
        """Starts it and waits until it answers. Raises Unreachable."""
        disk.remove(self.home / "running.json")
        with os.fdopen(disk.kept(self.home / "hub.log", append=True), "ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220
                [*_kengele(), "hub", "run", "--home", str(self.home)], stdout=log, stderr=log, start_new_session=True
            )
        async with asyncio.timeout(_START):
            while await asyncio.to_thread(self.state) is None:
                if self._process.poll() is not None:
                    raise Unreachable("hub-failed", "The hub ended at once.", f"See {self.home / 'hub.log'}.")
                await asyncio.sleep(0.05)

    def state(self) -> dict[str, Any] | None:
        """What its operator's page says, None while it does not answer."""
        try:
            page = json.loads(disk.read(self.home / "running.json"))["ops"]
            with urllib.request.urlopen(f"{page}/status", timeout=5) as answer:  # noqa: S310
                found: dict[str, Any] = json.loads(answer.read())
                return found
        except (OSError, ValueError, KeyError):
            return None

    def kill(self) -> None:
        """SIGKILL: no farewell."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def stop(self) -> None:
        """Ends it in order."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()


def _kengele() -> list[str]:
    return [sys.executable, "-m", "kengele_node.cli"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Network:
    """The demonstration's parts. ``monitors`` and ``offices`` are opened homes by name."""

    home: Path
    hub: Hub
    lock: Lock
    coordinators: dict[str, Member] = field(default_factory=dict)
    monitors: dict[str, Member] = field(default_factory=dict)
    offices: dict[str, Member] = field(default_factory=dict)

    @classmethod
    def at(cls, home: Path) -> Network:
        """A network in ``home``, which must be new or empty. Raises Refused, ``exists``."""
        disk.make_directory(home)
        if not disk.empty(home):
            raise Refused("exists", "That directory is not empty.", "Choose another --home.")
        return cls(home, Hub(home / "hub"), make_key_file(home / "key"))

    async def found(self) -> None:
        """Three coordinators found it; two of them sign."""
        card = await asyncio.to_thread(self.hub.init)
        await self.hub.start()
        for name in COORDINATORS:
            self.coordinators[name] = Member.create(self.home / "coordinators" / name, self.lock, "coordinator", {})
        cards = [CoordinatorCard.of(member.key, member.nkey) for member in self.coordinators.values()]
        made = papers.first("Demonstration", card, cards, "unrcca", (), reports_per_hour=_QUOTA)
        draft = drafts.found(made, cards, THRESHOLD, card.snapshot_key, card.timestamp_key, now())
        first, second, _ = self.coordinators.values()
        draft = signatures.sign(signatures.sign(draft, first.key), second.key)
        async with joiner(card.urls, card.join) as ask:
            answer = await ask(first.nkey.public, {"found": card.token, "files": encode_files(draft.files())})
        _check(answer)
        root = draft.roles["root"]
        network = NetworkCard(
            name="Demonstration",
            urls=card.urls,
            join=card.join,
            root=b64u(root),
            root_digest=network_of(root),
        )
        disk.write(self.home / "network.json", network.encode())
        for member in self.coordinators.values():
            member.join(network)

    async def admit(self, monitors: Sequence[str]) -> None:
        """Makes homes for offices and ``monitors``, lets them in, and adopts groups and rules: one version."""
        card = read_card(disk.read(self.home / "network.json"), NetworkCard)
        listed = yaml.safe_load(story.data("offices.yaml").read_text("utf-8"))
        requests = []
        for number, row in enumerate(listed["offices"]):
            # One office on a thin line: both suites are at work.
            key = OpeningKey.generate(X25519 if number == 1 else HYBRID)
            areas = tuple(row["areas"])
            member = Member.create(
                *(self.home / "offices" / row["id"], self.lock, "office"),
                {"id": row["id"], "name": row["name"], "areas": list(areas)},
                (key,),
                card=card,
            )
            self.offices[row["id"]] = member
            requests.append(
                JoinRequest.for_office(
                    *(member.key, member.nkey), id=row["id"], name=row["name"], areas=areas, keys=(key.public,)
                )
            )
        for name in monitors:
            areas = story.areas_of(name)
            member = Member.create(
                *(self.home / "monitors" / name, self.lock, "monitor"), {"areas": list(areas)}, card=card
            )
            self.monitors[name] = member
            requests.append(JoinRequest.for_monitor(member.key, member.nkey, areas))
        rules = from_yaml(story.data("policy.yaml").read_text("utf-8"))

        def change(before: Mapping[str, Any]) -> dict[str, Any]:
            after = admission.admit(before, requests, Areas.world(), now().date())
            after["offices.json"] = {**after["offices.json"], "groups": listed["groups"]}
            return {**after, **papers.adopt(before, rules)}

        await self.publish(change, tuple(COORDINATORS[:2]))

    async def files(self, coordinator: str) -> dict[str, bytes]:
        """The trust files as a coordinator has verified them."""
        member = self.coordinators[coordinator]
        async with member.session() as session:
            await session.refresh()
        return member.trust.files()

    async def publish(self, change: Any, signers: Sequence[str]) -> int:
        """Brings into force what ``change`` makes of the documents, signed by ``signers``. Raises Refused."""
        files = await self.files(signers[0])
        before = {path: metadata.document_of(files, path) for path in metadata.document_paths(files)}
        draft = drafts.edit(files, change(before), now())
        for name in signers:
            draft = signatures.sign(draft, self.coordinators[name].key)
        member = self.coordinators[signers[0]]
        async with member.session() as session:
            return await publish(session, draft)

    def close(self) -> None:
        """Ends the hub."""
        with suppress(OSError):
            self.hub.stop()


def _check(answer: dict[str, Any]) -> dict[str, Any]:
    if answer.get("code") != "published":
        raise said_by_hub(answer)
    return answer
