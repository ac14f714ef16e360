"""Keys that follow others, through real processes and a real hub: nothing that is on its way is lost."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kengele_node.demo.network import Network
from kengele_node.member import Member, now
from kengele_node.office.commands import open_inbox
from kengele_node.office.keyring import Keyring
from kengele_schemas.envelope import parse
from kengele_schemas.errors import CannotOpen
from kengele_schemas.rotation import GRACE
from kengele_schemas.sealing import open_envelope
from kengele_testing.commands import asked, lines, run, running, says
from kengele_testing.network import small_network

pytestmark = [pytest.mark.full, pytest.mark.timeout(240)]
WORDS = ("--category", "rumour", "--severity", "2", "--tlp", "GREEN", "--area", "KG-O", "--yes")


def whole_network(tmp_path: Path, walk: Any) -> None:
    async def main() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            await asyncio.to_thread(walk, network)

    asyncio.run(main())


def report(network: Network, text: str, *more: str) -> Any:
    return asked(network, "node", "report", *WORDS, "--summary", text, *more, home=network.monitors["osh"].home)


def coordinator(network: Network, name: str) -> Path:
    return network.coordinators[name].home


def published(network: Network, draft: Path) -> str:
    """A second coordinator signs the draft and publishes it; what she was shown."""
    home = coordinator(network, "moussa")
    shown = run(network, "coordinator", "sign", str(draft), "--yes", home=home)
    run(network, "coordinator", "publish", str(draft), home=home)
    return shown


def sent(network: Network) -> None:
    """Runs the node until its outbox holds nothing that waits."""
    home = network.monitors["osh"].home
    waiting = [row for row in asked(network, "node", "outbox", home=home)["entries"] if row["state"] == "waiting"]
    with running(network, "node", "run", home=home) as node:
        for _ in waiting:
            assert says(node)["state"] == "accepted"


def taken(network: Network) -> dict[str, str]:
    """The texts on UNRCCA's desk by report, once its feed is empty."""
    home = network.offices["unrcca"].home
    run(network, "office", "follow", "--once", home=home)
    return {row["id"]: row["summary"]["text"] for row in lines(network, "office", "show", home=home)}


def test_an_offices_keys_change_and_what_was_sealed_before_opens_until_the_grace_is_over(tmp_path: Path) -> None:
    whole_network(tmp_path, office_changes_keys)


def office_changes_keys(network: Network) -> None:
    home, draft = network.offices["unrcca"].home, network.home / "draft.json"
    before = report(network, "Sealed for the first key.", "--later")
    made = asked(network, "office", "keys", "--at-once", "--ahead", "2", home=home)
    assert (len(made["listed"]), len(made["handed_in"])) == (1, 4)
    (letter,) = asked(network, "coordinator", "members", "pending", home=coordinator(network, "aigul"))["letters"]
    assert (letter["member"], letter["trouble"]) == ("unrcca", None)
    told = asked(network, "coordinator", "renew", "--draft", str(draft), home=coordinator(network, "aigul"))
    assert "Office unrcca: its new keys are signed by the office itself." in told["changes"]
    assert "signed by the office itself" in published(network, draft)
    pending = asked(network, "coordinator", "members", "pending", home=coordinator(network, "aigul"))
    assert pending["letters"] == []
    after = report(network, "Sealed for the next one.")
    assert after["state"] == "accepted"
    sent(network)
    member = Member.open(home, network.lock, "office")
    assert taken(network) == {
        before["id"]: "Sealed for the first key.",
        after["id"]: "Sealed for the next one.",
    }
    destroyed_after_the_grace(network, member, before["id"], after["id"])
    proof = run(network, "office", "show", "--id", before["id"], "--sd-jwt", home=home)
    assert len(proof.strip().strip("~").split("~")) > 1, "what was read can be proved without the key"


def destroyed_after_the_grace(network: Network, member: Member, before: str, after: str) -> None:
    """What somebody recorded on the line opens as long as the key is kept, and not with the desk's disk after that."""
    inbox = open_inbox(Member.open(member.home, network.lock, "office"))
    recorded = {item.arrival.header.id: item.arrival.data for item in inbox.items()}  # type: ignore[union-attr]
    inbox.close()
    author = bytes(network.monitors["osh"].key.verify_key)

    def opens(id: str, seized: Member) -> bool:
        try:
            open_envelope(parse(recorded[id]), "unrcca", seized.opening_keys, author)
        except CannotOpen:
            return False
        return True

    member = Member.open(member.home, network.lock, "office")
    assert opens(before, member)
    ring = Keyring(member)
    ring.learn(member.offline().offices.get("unrcca"), now().date())  # type: ignore[arg-type]
    assert ring.destroy(now().date() + GRACE) == 0
    assert ring.destroy(now().date() + GRACE + timedelta(days=2)) == 1
    seized = Member.open(member.home, network.lock, "office")
    assert not opens(before, seized)
    assert opens(after, seized)


def test_keys_travel_as_a_file_and_a_letter_of_garbage_is_refused(tmp_path: Path) -> None:
    whole_network(tmp_path, by_file)


def by_file(network: Network) -> None:
    home, draft, file = network.offices["unrcca"].home, network.home / "draft.json", network.home / "keys.json"
    aigul = coordinator(network, "aigul")
    run(network, "office", "follow", "--once", home=home)  # hands in by itself
    (letter,) = asked(network, "coordinator", "members", "pending", home=aigul)["letters"]
    assert letter["member"] == "unrcca"
    run(network, "office", "keys", "--out", str(file), home=home)
    forged = {**json.loads(file.read_bytes()), "office": "un-hq"}
    bad = network.home / "bad.json"
    bad.write_text(json.dumps(forged))
    keys = ("coordinator", "members", "keys", "--draft", str(draft))
    assert "bad-card" in run(network, *keys, str(bad), home=aigul, fails=6)
    assert "no-such-letter" in run(network, *keys, "un-hq", home=aigul, fails=3)
    run(network, *keys, str(file), home=aigul)
    published(network, draft)
    listed = asked(network, "office", "keys", home=home)
    assert (len(listed["listed"]), listed["handed_in"]) == (5, [])
    assert "overtaken" in run(network, *keys, str(file), home=aigul, fails=3)
    assert "nothing-changed" in run(network, *keys, home=aigul, fails=3)
