"""What leaves no trace: a canary in every field of a report is looked for wherever a hub could keep it; and what an
office sees is the same in two worlds that differ in what it may not know. Hub, broker and members are real processes.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kengele_node.bus import Delivery
from kengele_node.demo.network import Network
from kengele_node.member import Member
from kengele_schemas import subjects
from kengele_schemas.encoding import dumps
from kengele_testing import forked
from kengele_testing.canary import CANARY, canary, spellings
from kengele_testing.network import draft, fetch_all, sealed, small_network

pytestmark = pytest.mark.full
CONTROL = "KG-O"
"""Stands in every header, which the hub reads: a search that does not find this finds nothing."""


def memory_of(pid: int) -> Iterator[bytes]:
    """What a core of this process would hold: all that it can write to."""
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if found is None or "[vvar" in line:
                continue
            start, end = (int(part, 16) for part in found.groups())
            try:
                memory.seek(start)
                yield memory.read(end - start)
            except (OSError, ValueError, OverflowError):
                continue


def family(pid: int) -> list[int]:
    """This process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


def pages_of(network: Network) -> Iterator[bytes]:
    ops = network.hub.home / "running.json"
    address = re.search(rb'"ops":"([^"]+)"', ops.read_bytes().replace(b" ", b""))
    assert address is not None
    for page in ("livez", "readyz", "metrics", "status"):
        with urllib.request.urlopen(f"{address[1].decode()}/{page}", timeout=10) as answer:
            yield answer.read()


def holds(pieces: Iterator[bytes], wanted: dict[str, bytes]) -> set[str]:
    return {name for piece in pieces for name, spelling in wanted.items() if spelling in piece}


async def told_everything(network: Network) -> list[bytes]:
    """The canary on every way, good and bad, by which it could come to the hub; gives all that was answered."""
    osh, batken = network.monitors["osh"], network.monitors["batken"]
    async with osh.session() as session:
        trusted = await session.refresh()
        data = sealed(osh, canary(), trusted)
        submit = subjects.reports_submit(osh.nkey.public)
        answers = [await session.link.request(submit, data) for _ in range(2)]
        for at in range(5, len(data), len(data) // 12):
            answers.append(await session.link.request(submit, data[:at] + b"?" + data[at + 1 :]))
        # Another's, of another time, under no rule, of a place that is not hers.
        answers.append(await session.link.request(submit, sealed(osh, canary(), trusted, key=batken.key)))
        answers.append(await session.link.request(submit, sealed(batken, canary(), trusted)))
        answers.append(await session.link.request(submit, sealed(osh, canary(tlp="RED"), trusted)))
        answers.append(await session.link.request(submit, sealed(osh, canary(area="KG-B"), trusted)))
    return answers


def filed(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file()]


def hub_says(*words: str) -> list[bytes]:
    done = subprocess.run(
        [sys.executable, "-m", "kengele_node.cli", "hub", *words], capture_output=True, check=True, timeout=90
    )
    return [done.stdout, done.stderr]


def test_the_canary_is_nowhere_in_the_hubs_memory_disk_copies_log_figures_or_answers(tmp_path: Path) -> None:
    if not os.access("/proc/self/mem", os.R_OK):
        pytest.skip("NOT TESTED HERE: this system shows no process's memory")

    async def run() -> None:
        async with small_network(tmp_path) as network:
            answers = await told_everything(network)
            items = await fetch_all(network.offices["unrcca"])
            assert CANARY in items[0].arrival.contents["summary"].text
            assert network.hub.state() is not None
            processes = family(int(network.hub.state()["pid"]))
            assert len(processes) > 1
            wanted, control = spellings(CANARY), {"control": CONTROL.encode()}
            for pid in processes:
                assert not holds(memory_of(pid), wanted), f"process {pid}"
            assert holds((piece for pid in processes for piece in memory_of(pid)), control)
            assert not holds(pages_of(network), wanted)
            assert not holds(iter(answers), wanted)
            copy, key, elsewhere = tmp_path / "copy", tmp_path / "copy-key", tmp_path / "elsewhere"
            own = ("--home", str(network.hub.home))
            said = await asyncio.to_thread(hub_says, "backup", str(copy), *own, "--new-key-file", str(key))
            network.close()
            # Streams travel packed: what a copy holds is seen where it is unpacked.
            said += await asyncio.to_thread(
                hub_says, "restore", str(copy), "--home", str(elsewhere), "--key-file", str(key)
            )
            assert not holds(iter(said), wanted)
            assert not holds((path.read_bytes() for path in (copy, *filed(elsewhere))), wanted)
            assert holds((path.read_bytes() for path in filed(elsewhere)), control)
            files = filed(network.hub.home)
            assert not holds((path.read_bytes() for path in files), wanted)
            assert len(files) > 10

    asyncio.run(run())


PEOPLE = {
    "who did it": "Zarlyk Qumoev",
    "her people": "Qyzyl-Zhar Xelq",
    "who told it": "Xasiyat Zumoeva",
    "the village": "Zhanyqaiyr",
}


def test_the_hub_cannot_learn_a_name(tmp_path: Path) -> None:
    """Neither of whom a report speaks, nor who wrote it or governs the network: a monitor is asked for no name, and
    what people call their homes stays on their machines. (What an office is called stands in the roster.)"""
    if not os.access("/proc/self/mem", os.R_OK):
        pytest.skip("NOT TESTED HERE: this system shows no process's memory")

    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh = network.monitors["osh"]
            report = draft(
                account={"text": ", ".join(PEOPLE.values()), "lang": "en"},
                people={"actors": [{"name": PEOPLE["who did it"], "role": "initiator", "group": PEOPLE["her people"]}]},
                source={"basis": "witness", "description": PEOPLE["who told it"]},
                place={"name": PEOPLE["the village"]},
            )
            async with osh.session() as session:
                data = sealed(osh, report, await session.refresh())
                answer = await session.link.request(subjects.reports_submit(osh.nkey.public), data, timeout=20)
            assert json.loads(answer)["code"] == "accepted"
            (item,) = await fetch_all(network.offices["unrcca"])
            assert item.arrival.contents["account"].text == ", ".join(PEOPLE.values())

            wanted = {f"{name}, {how}": text for name in PEOPLE.values() for how, text in spellings(name).items()}
            # Too short for all spellings: what these call themselves is the name of the directory of each one's home.
            wanted |= {name: name.encode() for name in (*network.coordinators, "monitors/osh")}
            status = network.hub.state()
            assert status is not None
            pieces = [piece for pid in family(int(status["pid"])) for piece in memory_of(pid)]
            assert not holds(iter(pieces), wanted)
            # The pseudonym, the search does find, and the office's public name.
            assert len(holds(iter(pieces), {"kid": osh.kid.encode(), "office": b"unrcca"})) == 2
            assert not holds(pages_of(network), wanted)
            network.close()
            assert not holds((path.read_bytes() for path in filed(network.hub.home)), wanted)

    asyncio.run(run())


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    script = (
        f"import sys, time; held = bytes.fromhex('{CANARY.encode().hex()}') * 2; print(len(held), flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert "plain" in holds(memory_of(process.pid), spellings(CANARY))
        process.kill()
    for shift in range(3):
        text = base64.urlsafe_b64encode(b"x" * shift + CANARY.encode() + b"yz")
        assert f"base64, {shift} behind" in holds(iter([text]), spellings(CANARY))


def test_the_canary_is_in_no_file_of_a_members_home_and_in_nothing_that_a_failure_says(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path) as network:
            await told_everything(network)
            await fetch_all(network.offices["unrcca"])
            osh, unrcca = network.monitors["osh"], network.offices["unrcca"]
            report = tmp_path / "report.json"
            said = []
            for changes in ({}, {"area": f"{CANARY}"}, {"categories": [CANARY]}, {"extra": CANARY}, {"tlp": CANARY}):
                value = canary().model_dump(mode="json", exclude_none=True) | changes
                report.write_bytes(dumps(value))
                said.append(await asyncio.to_thread(kengele, network, osh, "node", "report", str(report), "--yes"))
            said.append(await asyncio.to_thread(kengele, network, osh, "node", "status"))
            said.append(await asyncio.to_thread(kengele, network, osh, "node", "run", "--until-sent"))
            said.append(await asyncio.to_thread(kengele, network, unrcca, "office", "rules"))
            wanted = spellings(CANARY)
            assert not holds(iter(said), wanted)
            for member in (osh, unrcca):
                files = [path for path in member.home.rglob("*") if path.is_file()]
                assert len(files) > 3
                assert not holds((path.read_bytes() for path in files), wanted), member.home.name

    asyncio.run(run())


def kengele(network: Network, member: Member, who: str, verb: str, *words: str) -> bytes:
    """All that a command says, wherever it says it."""
    key = ("--home", str(member.home), "--key-file", str(network.home / "key"))
    done = forked.run((who, verb, *key, *words), cwd=network.home)
    return (done.stdout + done.stderr).encode()


Seen = list[tuple[int, int, int, str]]


async def seen_by(network: Network, office: str) -> Seen:
    """All that an office's line shows of what is delivered: size, place, attempt, and the names on the bus."""
    member = network.offices[office]
    nkey = member.nkey.public
    async with member.session() as session:
        found: list[Delivery] = []
        while more := await session.link.fetch(subjects.feed_stream(nkey), subjects.feed_consumer(nkey), 64, 2):
            for one in more:
                await session.link.acknowledge(one, confirm=True)
            found += more
    # A moment stands in the address of an acknowledgement; keys differ from network to network.
    return [
        (len(one.data), one.sequence, one.attempt, re.sub(r"\d{15,}", "TIME", one.receipt).replace(nkey, "SELF"))
        for one in found
    ]


async def world(
    home: Path, more: Callable[[Member, Member, Any], list[tuple[Member, bytes]]]
) -> tuple[Seen, list[str]]:
    """What an office sees of ``more``, and the codes with which it was answered."""
    async with small_network(home) as network:
        osh, batken = network.monitors["osh"], network.monitors["batken"]
        async with osh.session() as session, batken.session() as other:
            trusted = await session.refresh()
            lines = {osh.id: session.link, batken.id: other.link}
            codes = []
            for member, data in more(osh, batken, trusted):
                submit = subjects.reports_submit(member.nkey.public)
                codes.append(json.loads(await lines[member.id].request(submit, data, timeout=20))["code"])
        seen = [
            (size, place, attempt, re.sub(r"^(\$JS\.ACK\.)_\.\w+\.", r"\1", name))
            for size, place, attempt, name in await seen_by(network, "unrcca")
        ]
        return seen, codes


def test_an_office_sees_the_same_in_two_worlds_that_differ_in_what_it_may_not_know(tmp_path: Path) -> None:
    """What it may not know: the texts of what it may not open, whom else a report goes to, what others report and
    that is not for it, what was refused, and that any of this was."""

    def quiet(osh: Member, _: Member, trusted: Any) -> list[tuple[Member, bytes]]:
        return [(osh, sealed(osh, draft(), trusted)) for _ in range(2)]

    def busy(osh: Member, batken: Member, trusted: Any) -> list[tuple[Member, bytes]]:
        hidden = draft(
            source={"basis": "witness", "description": "x" * 200},
            people={"actors": [{"name": "A. B.", "role": "initiator", "group": "C"}]},
        )
        elsewhere = draft(area="KG-B", handling={"caveats": [{"not_to": ["office:unrcca"]}]})
        return [
            (batken, sealed(batken, elsewhere, trusted)),
            (osh, sealed(osh, hidden, trusted)),
            (batken, sealed(batken, elsewhere, trusted)),
            (batken, b"garbage"),
            (osh, sealed(osh, draft(area="KG-B"), trusted)),
            (osh, sealed(osh, draft(), trusted)),
        ]

    async def run() -> None:
        one, codes = await world(tmp_path / "quiet", quiet)
        other, more = await world(tmp_path / "busy", busy)
        assert codes == ["accepted"] * 2
        assert more == [*["accepted"] * 3, "malformed", "out-of-scope", "accepted"]
        assert len(one) == 2
        assert one == other

    asyncio.run(run())
