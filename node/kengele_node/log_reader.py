"""The hub's log as a member without the entries reads it: checkpoints, and proofs that one continues another.

Offices and monitors look alike; what each of them makes of it, and where it keeps it, is its own.

>>> shown = await LogReader(session, member.nkey.public).look(last_note, trusted)
>>> shown.cosigned[0].by
{'unrcca': 1800000000}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from kengele_schemas import subjects
from kengele_schemas.checkpoint import Checkpoint, verify_checkpoint
from kengele_schemas.cosignature import cosigner, read_cosignatures
from kengele_schemas.encoding import unb64u
from kengele_schemas.errors import Malformed, Refused, Untrusted
from kengele_schemas.trusted import Trusted
from kengele_schemas.witness import FORKED, witness

_NO_PROOF: Final = frozenset({"not-in-log", "malformed"})
"""How a hub says that it has no proof, and not that it cannot answer just now."""


class Session(Protocol):
    """The part of a :class:`~kengele_node.member.Session` that a reader uses."""

    async def ask(self, subject: str, document: Any) -> dict[str, Any]: ...


class Cosigned(NamedTuple):
    """A checkpoint, its note, and the active offices that cosigned just this one, with the time in Unix seconds."""

    checkpoint: Checkpoint
    note: str
    by: dict[str, int]


class Shown(NamedTuple):
    """The result of a look: the newest checkpoint that witnesses are shown, and the one taken before if it differs."""

    cosigned: tuple[Cosigned, ...]

    @property
    def newest(self) -> Cosigned:
        return self.cosigned[0]


class Contradiction(Untrusted):
    """The notes ``before`` and ``after``, both signed by the hub, cannot be of one log: evidence against it."""

    def __init__(self, error: Untrusted, before: str, after: str) -> None:
        super().__init__(error.code, error.sentence, error.mend)
        self.before, self.after = before, after


@dataclass(frozen=True, slots=True)
class LogReader:
    """The log as the hub shows it to the office or monitor with this nkey.

    Raises, in every method:
        Unreachable: no line.
        Refused: the hub does not answer.
        Malformed: its answer is none.
    """

    session: Session
    nkey: str

    async def look(self, before: str, trusted: Trusted) -> Shown:
        """The log as it is shown now, which continues the checkpoint ``before`` (a note; empty if none was taken).

        Raises:
            Contradiction: ``log-forked``, ``log-rolled-back``.
            Untrusted: ``bad-proof``, ``bad-cosignature``.
        """
        log, hub_key = trusted.network.log, unb64u(trusted.network.hub_key)
        last = verify_checkpoint(before, log, hub_key) if before else None
        note = await self.note("witnessed")
        new = verify_checkpoint(note, log, hub_key)
        try:
            witness(last, new, await self.consistency(last, new))
        except Untrusted as error:
            raise Contradiction(error, before, note) from None
        found = [Cosigned(new, note, _cosigned_by(note, trusted))]
        if last is not None and last.size != new.size:
            # Most offices come after this look: who cosigned the checkpoint before is seen only now.
            earlier = await self.earlier(last.size)
            if earlier and verify_checkpoint(earlier, log, hub_key) != last:
                # What offices cosigned of another log says nothing of this one.
                raise Contradiction(_another(), before, earlier)
            found.append(Cosigned(last, earlier, _cosigned_by(earlier, trusted)))
        return Shown(tuple(found))

    async def note(self, which: str | int) -> str:
        """The checkpoint (a note) with its cosignatures: the one shown to ``witnessed``, or the one of a size."""
        answer = await self.session.ask(subjects.audit_get(self.nkey), {"checkpoint": which})
        note = answer.get("note")
        if not isinstance(note, str):
            raise _no_answer()
        return note

    async def earlier(self, size: int) -> str:
        """The checkpoint of ``size`` with the cosignatures that it has by now; empty where it is kept no longer."""
        try:
            return await self.note(size)
        except Refused:
            return ""

    async def consistency(self, last: Checkpoint | None, new: Checkpoint) -> list[bytes]:
        """The hub's proof that ``new`` continues ``last`` (RFC 9162 §2.1.4); empty where none is needed or given."""
        if last is None or not 0 < last.size < new.size:
            return []
        try:
            answer = await self.session.ask(subjects.audit_get(self.nkey), {"consistency": [last.size, new.size]})
        except Refused as error:
            if error.code in _NO_PROOF:
                return []
            raise
        hashes = answer.get("hashes")
        if not isinstance(hashes, list) or not all(isinstance(one, str) for one in hashes):
            raise _no_answer()
        return [unb64u(one) for one in hashes]


def _cosigned_by(note: str, trusted: Trusted) -> dict[str, int]:
    """The active offices that cosigned ``note``, and when. An empty note has no cosignatures."""
    if not note:
        return {}
    log = trusted.network.log
    rows = (row for row in trusted.offices.document.offices if row.status == "active")
    keys = {cosigner(log, row.id): unb64u(row.sign) for row in rows}
    return {name.removeprefix(f"{log}/"): at for name, at in read_cosignatures(note, keys).items()}


def _another() -> Untrusted:
    return Untrusted(
        FORKED,
        "The hub shows another checkpoint than the one that it showed before.",
        "Keep both. Tell the coordinators and other offices, by another way than this hub.",
    )


def _no_answer() -> Malformed:
    return Malformed("malformed", "The hub's answer about its log is not one.", "Update this program, or the hub.")
