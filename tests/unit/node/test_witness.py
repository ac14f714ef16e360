"""An office witnesses the hub's log: it signs what continues what it saw, and keeps what does not as evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from kengele_node.office import witness as witness_module
from kengele_node.office.witness import PACE, Memory, Seen, Witness
from kengele_node.rows import RowCipher
from kengele_schemas import subjects
from kengele_schemas.checkpoint import sign_checkpoint
from kengele_schemas.cosignature import attach, cosign, cosigner, read_cosignatures
from kengele_schemas.encoding import b64u
from kengele_schemas.errors import Damaged, KengeleError, Malformed, Refused, Unreachable, Untrusted
from kengele_schemas.merkle import Tree, leaf_hash
from kengele_schemas.nkeys import KeyPair
from kengele_testing.values import HUB, LOG, grant, network, office

NKEY = KeyPair.generate("user").public
KEY = SigningKey(b"w" * 32)
COUNCIL = SigningKey(b"c" * 32)
OFFICES = [
    office("unrcca", sign=b64u(bytes(KEY.verify_key))),
    office("council", sign=b64u(bytes(COUNCIL.verify_key))),
    office("cso", sign=b64u(bytes(COUNCIL.verify_key)), status="revoked"),
]
TRUSTED = network(grant(), offices=OFFICES)
START = 1_800_000_000.0


def tree_of(*entries: bytes) -> Tree:
    tree = Tree()
    for entry in entries:
        tree.append(leaf_hash(entry))
    return tree


TREE = tree_of(*(b"%d" % number for number in range(30)))
FORK = tree_of(b"other", *(b"%d" % number for number in range(1, 30)))


class Hub:
    """A hub whose log is shown as a test wants it; what offices cosign is kept."""

    def __init__(self, size: int = 3, tree: Tree = TREE) -> None:
        self.tree, self.size = tree, size
        self.cosigned: list[tuple[int, str]] = []
        self.asked: list[Any] = []
        self.fails: dict[str, KengeleError | dict[str, Any]] = {}

    def note(self, size: int | None = None, *lines: str) -> str:
        size = self.size if size is None else size
        return attach(sign_checkpoint(LOG, size, self.tree.root(size), HUB), lines)

    async def ask(self, subject: str, document: Any) -> dict[str, Any]:
        self.asked.append(document)
        what = "cosign" if subject == subjects.audit_cosign(NKEY) else next(iter(document))
        failure = self.fails.get(what)
        if isinstance(failure, KengeleError):
            raise failure
        if failure is not None:
            return failure
        if what == "cosign":
            self.cosigned.append((document["size"], document["line"]))
            return {"code": "kept"}
        assert subject == subjects.audit_get(NKEY)
        if what == "consistency":
            old, new = document["consistency"]
            return {"code": "consistency", "hashes": [b64u(one) for one in self.tree.consistency(old, new)]}
        which = document["checkpoint"]
        size = self.size if which == "witnessed" else which
        return {"code": "checkpoint", "note": self.note(size, *(line for at, line in self.cosigned if at == size))}

    def cosign(self, name: str, size: int, at: float = START, key: SigningKey = COUNCIL) -> None:
        self.cosigned.append((size, cosign(self.note(size), cosigner(LOG, name), int(at), key)))


class Desk:
    """A witness and its clock."""

    def __init__(self, hub: Hub, memory: Memory) -> None:
        self.now = START
        self.memory = memory
        self.told: list[str] = []
        self.witness = Witness(hub, memory, "unrcca", KEY, NKEY, clock=lambda: self.now)
        self.witness.told = lambda error: self.told.append(error.code)

    def look(self) -> Seen:
        return asyncio.run(self.witness.look(TRUSTED))

    def watch(self) -> None:
        asyncio.run(self.witness.watch(TRUSTED))

    def refuses(self, code: str, kind: type[KengeleError] = Untrusted) -> None:
        with pytest.raises(kind) as caught:
            self.look()
        assert caught.value.code == code


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[], Memory]]:
    memories: list[Memory] = []

    def again() -> Memory:
        memories.append(Memory(tmp_path / "witness.db", RowCipher(b"k" * 32, "rows/witness")))
        return memories[-1]

    yield again
    for memory in memories:
        memory.close()


Opened = Callable[[], Memory]


def test_what_continues_the_log_is_kept_and_cosigned_as_it_was_shown(opened: Opened) -> None:
    hub = Hub()
    desk = Desk(hub, opened())
    for size in (3, 3, 4, 17, 30):
        hub.size = size
        desk.now += 60
        assert desk.look().note.startswith(hub.note())
        at, line = hub.cosigned[-1]
        name = cosigner(LOG, "unrcca")
        assert at == size
        assert read_cosignatures(attach(hub.note(), [line]), {name: bytes(KEY.verify_key)}) == {name: int(desk.now)}
        assert desk.memory.last().note.startswith(hub.note())
    assert not desk.memory.evidence()


def test_a_witness_that_starts_anew_remembers(opened: Opened) -> None:
    hub = Hub(9)
    Desk(hub, opened()).look()
    hub.tree = FORK
    Desk(hub, opened()).refuses("log-forked")
    assert len(hub.cosigned) == 1


@pytest.mark.parametrize(
    ("sentence", "size", "tree", "code"),
    [
        ("fewer entries", 8, TREE, "log-rolled-back"),
        ("none", 0, TREE, "log-rolled-back"),
        ("as many, but others", 9, FORK, "log-forked"),
        ("more, after others", 20, FORK, "log-forked"),
    ],
)
def test_another_log_is_refused_kept_as_evidence_and_not_cosigned(
    opened: Opened, sentence: str, size: int, tree: Tree, code: str
) -> None:
    hub = Hub(9)
    desk = Desk(hub, opened())
    desk.look()
    before = hub.note()
    hub.size, hub.tree = size, tree
    desk.refuses(code)
    hub.cosign("council", size)
    desk.refuses(code)
    (found,) = opened().evidence()
    assert (found.code, found.before, found.at) == (code, before, START)
    assert found.after.startswith(hub.note())
    assert [size for size, line in hub.cosigned if "unrcca" in line] == [9]
    # The log as it was is taken again, and what was found stays found.
    hub.size, hub.tree, hub.cosigned = 12, TREE, []
    desk.look()
    assert hub.cosigned[-1][0] == 12
    assert desk.memory.evidence() == [found]


def test_a_hub_cannot_fill_a_desk_with_evidence_against_itself(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness_module, "KEPT", 3)
    hub = Hub(25)
    desk = Desk(hub, opened())
    desk.look()
    for size in range(1, 21):
        hub.size, desk.now = size, START + size
        desk.refuses("log-rolled-back")
    hub.size, hub.tree, desk.now = 26, FORK, START + 9
    desk.refuses("log-forked")
    # The first, as they began it, and the last, as they go on; of each kind by itself.
    found = [(one.code, one.at - START) for one in opened().evidence()]
    assert found == [*(("log-rolled-back", at) for at in (1, 2, 3)), ("log-forked", 9)] + [
        ("log-rolled-back", at) for at in (18, 19, 20)
    ]


@pytest.mark.parametrize("answer", [{"hashes": []}, {"hashes": [b64u(bytes(32))]}, Refused("not-in-log", "No.")])
def test_a_log_that_is_not_proved_to_continue_is_another(opened: Opened, answer: Any) -> None:
    hub = Hub(9)
    desk = Desk(hub, opened())
    desk.look()
    hub.size, hub.fails = 12, {"consistency": answer}
    desk.refuses("log-forked")
    assert len(desk.memory.evidence()) == 1


@pytest.mark.parametrize(
    ("what", "answer", "kind"),
    [
        ("checkpoint", {"code": "checkpoint"}, Malformed),
        ("checkpoint", {"note": 7}, Malformed),
        ("checkpoint", {"note": ""}, Untrusted),
        ("checkpoint", {"note": sign_checkpoint(LOG, 12, bytes(32), KEY)}, Untrusted),
        ("checkpoint", {"note": sign_checkpoint("kengele/other", 12, bytes(32), HUB)}, Untrusted),
        ("checkpoint", Refused("hub-unavailable", "Later."), Refused),
        ("checkpoint", Unreachable("unreachable", "No line."), Unreachable),
        ("consistency", {"hashes": "x"}, Malformed),
        ("consistency", {"hashes": [7]}, Malformed),
        ("consistency", {"hashes": ["%"]}, Malformed),
        ("consistency", Refused("hub-unavailable", "Later."), Refused),
        ("consistency", Unreachable("unreachable", "No line."), Unreachable),
    ],
)
def test_what_is_no_answer_changes_nothing_and_accuses_nobody(
    opened: Opened, what: str, answer: Any, kind: type[KengeleError]
) -> None:
    hub = Hub(9)
    desk = Desk(hub, opened())
    desk.look()
    before = desk.memory.last()
    hub.size, hub.fails = 12, {what: answer}
    with pytest.raises(kind):
        desk.look()
    assert desk.memory.last() == before
    assert not desk.memory.evidence()
    assert len(hub.cosigned) == 1


def test_a_checkpoint_is_on_the_disk_before_it_is_cosigned(opened: Opened) -> None:
    hub = Hub(9)
    hub.fails = {"cosign": Unreachable("unreachable", "No line.")}
    desk = Desk(hub, opened())
    desk.refuses("unreachable", Unreachable)
    assert opened().last().note == hub.note()


def test_a_witness_whose_memory_is_damaged_signs_nothing(opened: Opened, tmp_path: Path) -> None:
    hub = Hub(9)
    Desk(hub, opened()).look()
    stranger = Memory(tmp_path / "witness.db", RowCipher(b"x" * 32, "rows/witness"))
    desk = Desk(hub, stranger)
    with pytest.raises(Damaged):
        desk.look()
    desk.watch()  # and does not keep the desk from reading
    assert desk.told == ["damaged-row"]
    stranger.close()
    assert len(hub.cosigned) == 1


def test_two_programs_of_one_office_do_not_sign_two_logs(opened: Opened) -> None:
    hub = Hub(9)
    one, other = opened(), opened()
    Desk(hub, one).look()
    before = other.last()
    hub.size = 12
    Desk(hub, one).look()
    with pytest.raises(Refused) as caught:
        other.keep(before, before._replace(note=hub.note(11)))
    assert caught.value.code == "storage-busy"


def test_who_else_cosigned_what_this_office_took_is_remembered(opened: Opened) -> None:
    hub = Hub(9)
    desk = Desk(hub, opened())
    assert desk.look().shared == {}
    hub.cosign("council", 9, START + 30)  # after this office had looked
    hub.size = 12
    desk.now += PACE
    seen = desk.look()
    assert seen.shared == {"council": int(START) + 30}
    hub.cosign("council", 15, START + 90)
    assert (seen.since, seen.at) == (START, START + PACE)
    hub.size = 15
    assert desk.look().shared == {"council": int(START) + 90}
    hub.cosign("council", 15, START + 20)
    assert desk.look().shared == {"council": int(START) + 90}


def test_an_office_that_signs_another_log_is_never_seen_beside_this_one(opened: Opened) -> None:
    hub, fork = Hub(9), Hub(9, FORK)
    fork.cosign("council", 9)
    hub.cosigned += fork.cosigned  # a hub that mixes them up is told by the signature
    desk = Desk(hub, opened())
    desk.refuses("bad-cosignature")


@pytest.mark.parametrize("name", ["cso", "unrcca", "stranger"])
def test_nobody_but_another_active_office_counts_as_a_witness(opened: Opened, name: str) -> None:
    hub = Hub(9)
    hub.cosign(name, 9, key=KEY if name == "unrcca" else COUNCIL)
    assert Desk(hub, opened()).look().shared == {}


def test_it_looks_at_a_calm_pace_tells_what_is_wrong_and_stops_nobody(opened: Opened) -> None:
    hub = Hub(9)
    desk = Desk(hub, opened())
    desk.watch()
    desk.watch()
    assert len(hub.cosigned) == 1
    desk.now += PACE - 1
    desk.watch()
    assert len(hub.cosigned) == 1
    desk.now += 1
    hub.tree = FORK
    desk.watch()
    assert desk.told == ["log-forked"]
    hub.fails = {"checkpoint": Unreachable("unreachable", "No line.")}
    desk.now += PACE
    desk.watch()
    assert desk.told == ["log-forked"]
    hub.fails, hub.tree = {}, TREE
    desk.watch()
    assert len(hub.cosigned) == 2


def test_the_memory_tells_whoever_holds_the_disk_nothing(opened: Opened, tmp_path: Path) -> None:
    hub = Hub(9)
    desk = Desk(hub, opened())
    hub.cosign("council", 9)
    desk.look()
    hub.tree = FORK
    desk.refuses("log-forked")
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        assert not [word for word in (b"council", LOG.encode(), b"forked", b"cosig") if word in content]
