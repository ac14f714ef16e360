"""The monitor's watch over the hub's log."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kengele_node.monitor import log_memory
from kengele_node.monitor.log_memory import KEPT, TWO_LOGS, LogMemory, Taken
from kengele_node.monitor.log_watch import LogWatch
from kengele_node.office.witness import Witness, open_memory
from kengele_node.rows import RowCipher
from kengele_schemas.checkpoint import sign_checkpoint, write_proof
from kengele_schemas.cosignature import cosign, cosigner
from kengele_schemas.encoding import b64u, dumps
from kengele_schemas.errors import KengeleError, Refused, Unreachable, Untrusted
from kengele_schemas.keys import new_signing_key
from kengele_schemas.merkle import Tree, leaf_hash
from kengele_schemas.nkeys import KeyPair
from kengele_testing.values import HUB, LOG, grant, network

KEY = bytes(HUB.verify_key)
RULES = network(grant())
NKEY = KeyPair.generate("user").public
START = 1_800_000_000.0


class Shown:
    """A hub's log: leaves, the size shown to witnesses, and who cosigned which size."""

    def __init__(self, *leaves: str) -> None:
        self.tree = Tree()
        self.size = 0
        self.cosigned: dict[int, list[str]] = {}
        self.proofs = True
        self.grow(*leaves)

    def grow(self, *leaves: str) -> None:
        for leaf in leaves:
            self.tree.append(leaf_hash(leaf.encode()))
        self.size = self.tree.size

    def note(self, size: int) -> str:
        plain = sign_checkpoint(LOG, size, self.tree.root(size), HUB)
        return plain + "".join(self.cosigned.get(size, ()))

    def cosign(self, office: str = "unrcca", size: int | None = None, key: Any = HUB) -> None:
        size = self.size if size is None else size
        line = cosign(self.note(size), cosigner(LOG, office), int(START), key)
        self.cosigned.setdefault(size, []).append(line)

    def receipt(self, leaf: str, size: int | None = None) -> bytes:
        size = self.tree.size if size is None else size
        index = next(at for at in range(size) if self.tree.hashes(0, at, at + 1) == leaf_hash(leaf.encode()))
        note = sign_checkpoint(LOG, size, self.tree.root(size), HUB)
        proof = write_proof(index, self.tree.inclusion(index, size), note)
        return dumps({"leaf": leaf, "proof": proof})

    async def ask(self, _: str, document: Any) -> dict[str, Any]:
        ((what, wanted),) = document.items()
        if what == "checkpoint":
            return {"note": self.note(self.size if wanted == "witnessed" else wanted)}
        if not self.proofs or wanted[1] > self.size:
            raise Refused("not-in-log", "")
        return {"hashes": [b64u(one) for one in self.tree.consistency(*wanted)]}


class Home:
    """A monitor's memory, and the hub that it looks at."""

    def __init__(self, directory: Path, hub: Shown) -> None:
        self.hub, self.now = hub, START
        self.directory = directory

    @property
    def memory(self) -> LogMemory:
        # Another process each time: all is on the disk.
        return LogMemory(self.directory, RowCipher(b"k" * 32, "log"))

    def accepted(self, leaf: str, size: int | None = None) -> None:
        self.memory.take(self.hub.receipt(leaf, size), LOG, KEY, name=leaf, envelope=b"sealed", now=self.now)

    def look(self) -> Any:
        return asyncio.run(LogWatch(self.hub, self.memory, NKEY, clock=lambda: self.now).look(RULES))

    def waiting(self) -> list[str]:
        return [place.name for place in self.memory.unconfirmed()]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, Shown("trust", "a"))


def test_without_an_offices_word_the_envelope_stays(home: Home) -> None:
    home.accepted("a")
    assert home.look() == (2, 0, 1)
    assert home.waiting() == ["a"]


def test_an_office_that_cosigned_what_continues_the_receipt_lets_the_envelope_go(home: Home) -> None:
    home.accepted("a")
    home.hub.grow("b", "c")
    home.hub.cosign()
    assert home.look() == (4, 1, 0)
    place = home.memory.place("a")
    assert place is not None
    assert (place.by, place.envelope, place.until) == (("unrcca",), None, None)


def test_a_cosignature_that_came_after_the_last_look_is_found_under_the_checkpoint_of_that_look(home: Home) -> None:
    home.accepted("a")
    home.look()
    home.hub.cosign()
    home.hub.grow("b")
    assert home.look().confirmed == 1


def test_a_receipt_that_is_newer_than_what_is_cosigned_waits(home: Home) -> None:
    home.hub.cosign()
    home.hub.grow("b")
    home.accepted("b")
    home.hub.size = 2
    assert home.look() == (2, 0, 1)


def test_a_cosignature_of_no_active_office_confirms_nothing(home: Home) -> None:
    home.accepted("a")
    home.hub.cosign("stranger")
    assert home.look().confirmed == 0


def test_a_forged_cosignature_confirms_nothing(home: Home) -> None:
    home.accepted("a")
    home.hub.cosign(key=new_signing_key())
    assert home.look().confirmed == 0
    assert home.waiting() == ["a"]


def test_a_hub_cannot_confirm_a_receipt_of_a_private_log_with_the_log_that_offices_cosign(home: Home) -> None:
    private = Shown("trust", "mine")
    home.memory.take(private.receipt("mine"), LOG, KEY, name="mine", envelope=b"sealed", now=home.now)
    home.hub.grow("b")
    home.hub.cosign()
    with pytest.raises(Untrusted) as caught:
        home.look()
    assert caught.value.code == TWO_LOGS
    place = home.memory.place("mine")
    assert place is not None
    assert (place.doubted, place.envelope) == (True, b64u(b"sealed"))
    (evidence,) = home.memory.evidence()
    assert (set(evidence.before), set(evidence.after)) == ({"leaf", "proof"}, {"checkpoint"})
    # Nor by waiting: what is doubted does not go by its age.
    home.now += 2 * KEPT
    with pytest.raises(Untrusted):
        home.look()
    assert home.waiting() == ["mine"]


def test_a_private_log_does_not_keep_others_from_being_confirmed(home: Home) -> None:
    home.accepted("a")
    private = Shown("trust", "x", "mine")
    home.memory.take(private.receipt("mine"), LOG, KEY, name="mine", envelope=b"sealed", now=home.now)
    home.hub.grow("b")
    home.hub.cosign()
    with pytest.raises(Untrusted):
        home.look()
    assert home.waiting() == ["mine"]


def test_a_hub_cannot_confirm_by_refusing_the_proof(home: Home) -> None:
    home.accepted("a")
    home.hub.grow("b")
    home.hub.cosign()
    home.hub.proofs = False
    with pytest.raises(Untrusted):
        home.look()
    assert home.waiting() == ["a"]


def test_a_hub_cannot_fill_a_node_with_evidence_against_itself(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_memory, "EVIDENCE", 2)
    for number in range(9):
        home.memory.forked("before", f"after {number}", float(number))
    assert [one.at for one in home.memory.evidence()] == [0, 1, 7, 8]


@pytest.mark.parametrize(
    ("other", "code"),
    [(Shown("trust", "z", "y"), "log-forked"), (Shown("trust"), "log-rolled-back"), (Shown("q", "r"), "log-forked")],
    ids=["other entries", "fewer", "other entries, as many"],
)
def test_a_hub_cannot_show_a_node_another_log_than_before(home: Home, other: Shown, code: str) -> None:
    home.look()
    honest, home.hub = home.hub, other
    other.cosign()
    with pytest.raises(Untrusted) as caught:
        home.look()
    assert caught.value.code == code
    assert "--log-restored" in caught.value.mend
    assert len(home.memory.evidence()) == 1
    # The one that it took stands.
    home.hub = honest
    honest.grow("b")
    assert home.look().size == 3


def test_an_envelope_that_nobody_confirms_goes_after_its_time_and_the_entry_says_so(home: Home) -> None:
    home.accepted("a")
    home.now += KEPT - 1
    home.look()
    assert home.waiting() == ["a"]
    home.now += 2
    home.look()
    assert home.waiting() == []
    place = home.memory.place("a")
    assert place is not None
    assert (place.by, place.envelope) == ((), None)


def test_a_clock_that_was_far_ahead_keeps_no_envelope_for_ever(home: Home) -> None:
    home.now += 100 * KEPT
    home.accepted("a")
    home.now = START
    home.look()
    assert home.waiting() == ["a"]
    home.now += KEPT + 1
    home.look()
    assert home.waiting() == []


def test_what_is_confirmed_needs_no_memory_of_its_receipt(home: Home) -> None:
    home.accepted("a")
    home.hub.cosign()
    home.look()
    with home.memory._store() as store, store.reading() as connection:
        assert connection.execute("SELECT count(*) FROM said").fetchone() == (0,)


def test_a_damaged_place_stops_no_other(home: Home) -> None:
    home.hub.grow("b")
    home.accepted("a")
    home.accepted("b")
    with home.memory._store() as store, store.transaction() as connection:
        connection.execute("UPDATE places SET body = x'00' WHERE name = (SELECT min(name) FROM places)")
    home.hub.cosign()
    assert home.look().confirmed == 1


def test_a_restored_hub_begins_anew_and_gives_back_what_nobody_confirmed(home: Home) -> None:
    home.accepted("a")
    home.look()
    (left,) = home.memory.begin_anew()
    assert left.envelope == b64u(b"sealed")
    home.hub = Shown("trust")
    assert home.look().size == 1


def test_a_hub_that_does_not_answer_loses_nothing(home: Home) -> None:
    home.accepted("a")

    async def refuse(*_: Any) -> dict[str, Any]:
        raise Refused("hub-unavailable", "")

    home.hub.ask = refuse  # type: ignore[method-assign]
    with pytest.raises(KengeleError):
        home.look()
    assert home.waiting() == ["a"]


class Grafting(Shown):
    """A hub that shows a private log and, for an earlier size, the checkpoint of the log that offices cosigned."""

    public: Shown | None = None

    async def ask(self, subject: str, document: Any) -> dict[str, Any]:
        if self.public is not None and isinstance(document.get("checkpoint"), int):
            return {"note": self.public.note(self.public.size)}
        return await super().ask(subject, document)


@pytest.mark.parametrize("public", [("trust", "another"), ("trust", "another", "b", "c")], ids=["as large", "larger"])
def test_a_hub_cannot_confirm_a_private_log_with_what_offices_cosigned_of_another(
    tmp_path: Path, public: tuple[str, ...]
) -> None:
    hub, cosigned = Grafting("trust", "mine"), Shown(*public)
    cosigned.cosign()
    home = Home(tmp_path, hub)
    home.accepted("mine")
    home.look()
    hub.grow("x")
    hub.public = cosigned
    with pytest.raises(Untrusted) as caught:
        home.look()
    assert caught.value.code == "log-forked"
    assert home.waiting() == ["mine"]
    assert len(home.memory.evidence()) == 1


@pytest.mark.parametrize("how", ["refused", "unreachable", "no note", "rolled back"])
def test_a_hub_cannot_have_an_envelope_lie_here_longer_than_its_time(home: Home, how: str) -> None:
    home.accepted("a")
    home.look()

    async def ask(*_: Any) -> dict[str, Any]:
        if how == "refused":
            raise Refused("hub-unavailable", "")
        if how == "unreachable":
            raise Unreachable("unreachable", "")
        return {"note": Shown("trust").note(1) if how == "rolled back" else "x"}

    home.hub.ask = ask  # type: ignore[method-assign]
    home.now += KEPT + 1
    with pytest.raises(KengeleError):
        home.look()
    assert home.waiting() == []


def test_a_hub_cannot_keep_others_from_being_confirmed_by_many_private_logs(home: Home) -> None:
    private = Shown("trust", *(f"m{number}" for number in range(40)))
    for number in range(40):
        leaf = f"m{number}"
        home.memory.take(private.receipt(leaf), LOG, KEY, name=leaf, envelope=b"sealed", now=home.now)
    home.hub.grow(*(f"p{number}" for number in range(50)), "good")
    home.now += 1
    home.accepted("good")
    home.hub.cosign()
    for _ in range(3):
        with pytest.raises(Untrusted):
            home.look()
    place = home.memory.place("good")
    assert place is not None
    assert place.by == ("unrcca",)
    assert home.memory.last() is not None


def test_a_look_that_ends_late_lets_nothing_go_that_was_sent_again_since(home: Home) -> None:
    home.accepted("a")
    (read,) = home.memory.unconfirmed()
    home.hub.grow("b")
    home.accepted("a")
    home.memory.confirm(read, ["unrcca"])
    home.memory.doubt(read, home.hub.note(3), home.now)
    place = home.memory.place("a")
    assert place is not None
    assert (place.size, place.envelope, place.doubted) == (3, b64u(b"sealed"), False)
    home.memory.keep(Taken(home.hub.note(3), b64u(KEY)))
    home.memory.keep(Taken(home.hub.note(2), b64u(KEY)))
    last = home.memory.last()
    assert last is not None
    assert last.note == home.hub.note(3)


def test_a_hub_cannot_tell_an_office_that_others_cosigned_its_log_by_what_they_cosigned_of_another(
    tmp_path: Path,
) -> None:
    hub, cosigned = Grafting("trust", "mine"), Shown("trust", "another", "b")
    cosigned.cosign("unrcca")
    memory = open_memory(tmp_path, RowCipher(b"k" * 32, "witness"))

    class Line:
        async def ask(self, subject: str, document: Any) -> dict[str, Any]:
            return {"code": "kept"} if "line" in document else await hub.ask(subject, document)

    witness = Witness(Line(), memory, "cewarn", new_signing_key(), NKEY, clock=lambda: START)
    assert asyncio.run(witness.look(RULES)).shared == {}
    hub.grow("x")
    hub.public = cosigned
    with pytest.raises(Untrusted) as caught:
        asyncio.run(witness.look(RULES))
    assert caught.value.code == "log-forked"
    assert memory.last().shared == {}
    assert len(memory.evidence()) == 1
    memory.close()


def test_a_receipt_that_comes_once_more_takes_no_confirmation_back(home: Home) -> None:
    home.accepted("a")
    home.hub.cosign()
    home.look()
    home.accepted("a")
    place = home.memory.place("a")
    assert place is not None
    assert (place.by, place.envelope) == (("unrcca",), None)
