"""Keys that follow others, through real processes and a real hub: nothing that is on its way is lost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kengele_node.demo.network import Network
from kengele_node.member import Member, now
from kengele_node.office.home import open_inbox
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
    rows = lines(network, "office", "show", home=home)
    return {row["id"]: row["summary"]["text"] for row in rows if "summary" in row}


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


def test_a_monitor_begins_under_another_name_and_nothing_that_waits_is_lost(tmp_path: Path) -> None:
    whole_network(tmp_path, monitor_changes_its_name)


def monitor_changes_its_name(network: Network) -> None:
    home, draft, aigul = network.monitors["osh"].home, network.home / "draft.json", coordinator(network, "aigul")
    recalled = report(network, "To be taken back.")
    waiting = report(network, "Sealed under the old name.", "--later")
    made = asked(network, "node", "rotate", home=home)
    assert asked(network, "node", "rotate", home=home) == made, "said again, it is the same"
    old, new = made["monitor"], made["next"]
    (letter,) = asked(network, "coordinator", "members", "pending", home=aigul)["letters"]
    assert (letter["member"], letter["says"]) == (old, f"its next key, {new}")
    run(network, "coordinator", "members", "keys", old, "--draft", str(draft), home=aigul)
    # A node that runs sends under the old name, and changes as soon as the roster has the new one.
    with running(network, "node", "run", home=home) as node:
        assert says(node)["id"] == waiting["id"]
        assert f"follows {old}, as {old}'s own key has signed" in published(network, draft)
        wait_until(lambda: asked(network, "node", "status", home=home)["monitor"] == new)
        assert report(network, "Sealed under the new name.", "--later")["state"] == "waiting"
        assert says(node)["state"] == "accepted"
    assert set(taken(network).values()) == {
        "To be taken back.",
        "Sealed under the old name.",
        "Sealed under the new name.",
    }
    rows = lines(network, "office", "show", home=network.offices["unrcca"].home)
    assert {(row["kid"], tuple(row["flags"])) for row in rows} == {(old, ()), (new, ())}
    problems = asked(network, "office", "show", "--problems", home=network.offices["unrcca"].home)
    assert (problems["set_aside"], problems["gaps"]) == ([], {})
    assert asked(network, "node", "recall", recalled["id"], home=home)["state"] == "accepted"
    assert "To be taken back." not in taken(network).values()
    (status,) = asked(network, "node", "recalls", home=home)["recalls"]
    assert status["offices"]["unrcca"] is not None
    # Out under one name is out under both.
    run(network, "coordinator", "members", "revoke", old, "--draft", str(draft), home=aigul)
    published(network, draft)
    members = asked(network, "coordinator", "members", "list", home=aigul)["members"]
    assert {row["status"] for row in members if row["role"] == "monitor"} == {"revoked"}
    late = ("node", "report", *WORDS, "--summary", "Too late.", "--json")
    assert "not-admitted" in run(network, *late, home=home, fails=3)


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end


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


def test_lost_keys_are_replaced_and_everybody_is_told(tmp_path: Path) -> None:
    whole_network(tmp_path, keys_are_lost)


def keys_are_lost(network: Network) -> None:
    members, aigul, draft = ("coordinator", "members"), coordinator(network, "aigul"), network.home / "draft.json"
    old, home, desk = network.monitors["osh"].kid, network.home / "again", network.home / "new-desk"
    for replaced, kind, where in ((old, "node", home), ("unrcca", "office", desk)):
        invited = asked(network, *members, "invite", "--replaces", replaced, home=aigul)
        with running(network, kind, "join", invited["link"], home=where) as newcomer:
            assert says(newcomer)["state"] == "waiting"
            (row,) = asked(network, *members, "pending", home=aigul)["pending"]
            assert row["replaces"] == replaced
            digits = says(newcomer)["digits"]
            approve = (*members, "approve", invited["invitation"], "--digits", digits, "--draft", str(draft))
            run(network, *approve, home=aigul)
            assert says(newcomer)["state"] == "approved"
            assert "HAS NOT SIGNED THAT" in published(network, draft)
            member = says(newcomer)["member"]
    assert member == "unrcca"
    shown = run(network, "node", "report", *WORDS, "--summary", "Back.", home=home)
    assert "ATTENTION: " in shown
    assert "has new keys since" in shown
    assert list(asked(network, "node", "rules", home=home)["new_keys"]) == ["unrcca"]
    (told,) = lines(network, "office", "follow", "--once", home=desk)
    assert (told["summary"]["text"], told["flags"]) == ("Back.", ["new-key"])
    assert "ATTENTION: this monitor lost her key" in run(network, "office", "show", home=desk)
    late = ("node", "report", *WORDS, "--summary", "By whoever found it.", "--json")
    assert "not-admitted" in run(network, *late, home=network.monitors["osh"].home, fails=3)
    assert "overtaken" in run(network, *members, "invite", "--replaces", old, home=aigul, fails=3)
