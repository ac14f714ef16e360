"""The coordinators' board: proposals find their second signer, and what the hub says of them is not believed."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kengele_node.coordinator import board
from kengele_node.coordinator.publishing import publish
from kengele_node.demo.network import Network
from kengele_node.member import encode_files, now
from kengele_schemas import drafts, metadata, signatures, subjects
from kengele_schemas.drafts import Draft
from kengele_schemas.errors import KengeleError, Malformed, Refused, Untrusted
from kengele_testing.network import small_network

pytestmark = pytest.mark.full


async def drafted(network: Network, by: str, kept: int) -> Draft:
    """A proposal of the coordinator ``by`` to keep only the first rules."""
    files = await network.files(by)
    policy = metadata.document_of(files, "policy.json")
    rules = {**policy, "version": policy["version"] + 1, "rules": policy["rules"][:kept]}
    return signatures.sign(drafts.edit(files, {"policy.json": rules}, now()), network.coordinators[by].key)


def test_a_proposal_is_found_signed_by_two_at_once_and_published(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            aigul, moussa, nyambura = network.coordinators.values()
            draft = await drafted(network, "aigul", 3)
            async with aigul.session() as one, moussa.session() as two, nyambura.session() as three:
                name = await board.put(one, draft)
                (item,) = await board.proposals(two, await network.files("moussa"))
                assert (item["name"], item["state"], item["signed_by"]) == (name, "open", signatures.signed_by(draft))
                assert set(item["missing"].values()) == {1}
                # Both take it as it is and put it back with their own signature.
                taken = [await board.get(session, name) for session in (two, three)]
                await board.put(two, signatures.sign(taken[0], moussa.key))
                await board.put(three, signatures.sign(taken[1], nyambura.key))
                whole = await board.get(one, name)
                assert len(signatures.signed_by(whole)) == 3
                assert signatures.missing(whole) == {}
                other = await drafted(network, "moussa", 2)
                await board.put(two, other)
                subject = subjects.publish_metadata(aigul.nkey.public)
                assert (await one.ask(subject, encode_files(whole.files())))["code"] == "published"
                await board.drop(one, name)
                (left,) = await board.proposals(two, await network.files("moussa"))
                assert (left["name"], left["state"]) == (signatures.draft_id(other), "overtaken")

    asyncio.run(run())


def test_who_drops_what_enough_have_signed_is_told_that_it_still_counts_and_a_renewal_ends_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            aigul, moussa, _ = network.coordinators.values()
            one_signed = await drafted(network, "aigul", 3)
            kept = signatures.sign(one_signed, moussa.key)
            async with aigul.session() as session:
                assert await board.withdraw(session, await board.put(session, one_signed)) is False
                assert await board.withdraw(session, await board.put(session, kept)) is True
                assert await board.proposals(session, await network.files("aigul")) == []
                unchanged = drafts.edit(await network.files("aigul"), {}, now())
                for key in (aigul.key, moussa.key):
                    unchanged = signatures.sign(unchanged, key)
                await publish(session, unchanged)
                with pytest.raises(Refused) as caught:
                    await publish(session, kept)
                assert caught.value.code == "old-version"

    asyncio.run(run())


def test_nobody_but_coordinators_reads_the_board_and_garbage_stops_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, aigul = network.monitors["osh"], network.coordinators["aigul"]
            draft = await drafted(network, "aigul", 3)
            bare = drafts.edit(await network.files("aigul"), {}, now())
            async with osh.session() as session, aigul.session() as one:
                with pytest.raises(KengeleError):
                    await session.link.request(subjects.board_ask(osh.nkey.public), b'{"do":"list"}', timeout=1)
                subject = subjects.board_ask(aigul.nkey.public)
                for data, code in (
                    (b"", "malformed"),
                    (b"[]", "malformed"),
                    (b'{"do":"get"}', "malformed"),
                    (b'{"do":"get","name":"../x"}', "no-such-proposal"),
                    (b'{"do":"drop","name":"*"}', "no-such-proposal"),
                    (b'{"do":"put","draft":"{}"}', "bad-draft"),
                    (json.dumps({"do": "put", "draft": bare.encode().decode()}).encode(), "too-few-signatures"),
                ):
                    assert json.loads(await one.link.request(subject, data))["code"] == code, data
                role = re.sub(rb'"sig": ?"..', lambda found: found[0][:-2] + b"zz", draft.roles["targets"])
                forged = replace(draft, roles={**draft.roles, "targets": role})
                assert role != draft.roles["targets"]
                with pytest.raises(KengeleError):
                    await board.put(one, forged)
                assert await board.proposals(one, await network.files("aigul")) == []

    asyncio.run(run())


class Lying:
    """A session with a hub that answers whatever it likes."""

    def __init__(self, member: Any, answer: dict[str, Any]) -> None:
        self.member = member
        self._answer = answer

    async def ask(self, _: str, __: Any) -> dict[str, Any]:
        return self._answer


def test_the_hub_cannot_slip_in_another_proposal_than_the_one_asked_for(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            one, other = await drafted(network, "aigul", 3), await drafted(network, "aigul", 2)
            lying = Lying(network.coordinators["moussa"], {"code": "found", "draft": other.encode().decode()})
            with pytest.raises(Malformed, match="another proposal"):
                await board.get(lying, signatures.draft_id(one))  # type: ignore[arg-type]
            files = await network.files("moussa")
            signatures.check(one, files, now())
            shown = {**one.documents, "policy.json": other.documents["policy.json"]}
            with pytest.raises(Untrusted):
                signatures.check(replace(one, documents=shown), files, now())

    asyncio.run(run())


def test_signatures_of_different_drafts_are_never_put_together(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            one, other = await drafted(network, "aigul", 3), await drafted(network, "moussa", 2)
            with pytest.raises(Refused) as caught:
                signatures.merge(one, other)
            assert caught.value.code == "another-draft"

    asyncio.run(run())
