"""A draft that shows one thing and lists another is signed by no command. The hub and the commands are real."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from kengele_node.cli import main
from kengele_node.coordinator import board
from kengele_node.member import now
from kengele_schemas import drafts, metadata, signatures
from kengele_schemas.drafts import Draft
from kengele_schemas.encoding import canonical
from kengele_testing.network import small_network

pytestmark = pytest.mark.full


def test_no_command_signs_a_draft_that_lists_other_rules_than_it_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            aigul, moussa, _ = network.coordinators.values()
            files = await network.files("aigul")
            policy = metadata.document_of(files, "policy.json")
            listed = {**policy, "version": policy["version"] + 1}
            shown = {**listed, "rules": policy["rules"][:1]}
            honest = signatures.sign(drafts.edit(files, {"policy.json": listed}, now()), aigul.key)
            forged = replace(honest, documents={"policy.json": canonical(shown)})
            words = (
                "coordinator",
                "sign",
                "--yes",
                "--home",
                str(moussa.home),
                "--key-file",
                str(network.home / "key"),
            )
            async with aigul.session() as session:
                name = await board.put(session, forged)
                file = tmp_path / "draft.json"
                file.write_bytes(forged.encode())
                for draft in (name, str(file)):
                    capsys.readouterr()
                    assert await asyncio.to_thread(main, [*words, draft]) == 6, draft
                    assert "(code: not-as-shown)" in capsys.readouterr().err
                assert len(signatures.signed_by(await board.get(session, name))) == 1
                assert len(signatures.signed_by(Draft.decode(file.read_bytes()))) == 1
                file.write_bytes(honest.encode())
                assert await asyncio.to_thread(main, [*words, str(file)]) == 0
                assert len(signatures.signed_by(Draft.decode(file.read_bytes()))) == 2

    asyncio.run(run())
