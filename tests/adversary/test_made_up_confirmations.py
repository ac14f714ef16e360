"""A hub that makes up confirmations of a recall: what `kengele node recalls` tells the author, by command.

The hub writes into its own ledger, with its own key and in the log's form, and serves that: whatever it can have.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from kengele_hub.access import Access
from kengele_hub.home import HubKeys
from kengele_hub.ledger import Entry, Ledger
from kengele_node.cli import main
from kengele_node.demo.network import Network
from kengele_node.member import now
from kengele_node.monitor.outbox import Entry as Sent
from kengele_node.monitor.recalling import leaf_of
from kengele_node.office.arrivals import Tombstone
from kengele_schemas import subjects
from kengele_schemas.encoding import b64u, unb64u
from kengele_schemas.leaves import ConfirmedLeaf
from kengele_schemas.recall import sign_confirmation
from kengele_testing.network import draft, small_network
from kengele_testing.recalls import recalled, reported, until_held

pytestmark = pytest.mark.full


async def served(network: Network, recall: str, words: list[bytes]) -> None:
    """Has the hub serve ``words`` as what offices said of ``recall``."""
    osh, keys = network.monitors["osh"], HubKeys.load(network.hub.home)
    async with osh.session() as session:
        log = (await session.refresh()).network.log
    nc = await Access(keys, osh.card.urls[0]).connect()
    try:
        ledger = Ledger(nc, keys.hub_key, log, network.home / "cache")
        await ledger.load()
        for number, said in enumerate(words):
            leaf = ConfirmedLeaf(
                salt=b64u(bytes(16)),
                digest=b64u(bytes(32)),
                bytes=b64u(hashlib.sha256(said).digest()),
                office="unrcca",
                at=now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            ).canonical()
            await ledger.append([Entry(subjects.ledger_confirmed(recall, f"made-up-{number}"), leaf, said)])
    finally:
        await nc.close()


def made_up(network: Network, recall: Sent, other: Sent) -> dict[str, bytes]:
    """By the hub's trick, a word that is not UNRCCA's own of ``recall``."""
    offices, net = network.offices, network.monitors["osh"].card.root_digest
    unrcca, council = offices["unrcca"].key, offices["kg-peace-council"].key
    report, digest, elsewhere = recall.header["recalls"], _digest(recall), _digest(other)

    def said(office: str, key: SigningKey, of: str = report, recalled: bytes = digest, within: str = net) -> bytes:
        return sign_confirmation(office, of, recalled, network=within, at=now(), key=key)

    return {
        "signed by another office": said("unrcca", council),
        "of another recall": said("unrcca", unrcca, recalled=elsewhere),
        "of another report": said("unrcca", unrcca, of=other.header["recalls"]),
        "of another network": said("unrcca", unrcca, within=b64u(bytes(32))),
        "of an office that was given nothing": said("kg-peace-council", council),
        "of no office": said("nobody", unrcca),
    }


def _digest(recall: Sent) -> bytes:
    assert recall.receipt is not None
    return unb64u(leaf_of(recall.receipt).digest)


def test_a_hub_cannot_tell_an_author_by_node_recalls_that_an_office_obeyed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def told(network: Network, *words: str) -> str:
        capsys.readouterr()
        where = ["--home", str(network.monitors["osh"].home), "--key-file", str(network.home / "key")]
        assert await asyncio.to_thread(main, ["node", "recalls", *words, *where]) == 0
        return capsys.readouterr().out

    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh = network.monitors["osh"]
            first, second = await reported(osh, draft()), await reported(osh, draft())
            recall = await recalled(osh, first, offices=("unrcca",))
            other = await recalled(osh, second, offices=("unrcca",))
            words = made_up(network, recall, other)
            await served(network, recall.report_id, list(words.values()))
            async with osh.session() as session:
                answer = await session.ask(subjects.recalls_status(osh.nkey.public), {"recall": recall.report_id})
            assert sorted(map(unb64u, answer["confirmations"])) == sorted(words.values())
            found = {one["recalls"]: one["offices"] for one in json.loads(await told(network, "--json"))["recalls"]}
            assert found == {first.report_id: {"unrcca": None}, second.report_id: {"unrcca": None}}
            said = await told(network)
            assert said.count("unrcca: has not confirmed") == 2
            assert "confirmed, " not in said
            await until_held(network.offices["unrcca"], 2, Tombstone)
            found = {one["recalls"]: one["offices"] for one in json.loads(await told(network, "--json"))["recalls"]}
            assert all(list(offices) == ["unrcca"] and offices["unrcca"] for offices in found.values())

    asyncio.run(run())
