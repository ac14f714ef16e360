"""The hub's log as a member without the entries reads it: checkpoints, and proofs that one continues another.

>>> reader = LogReader(session, member.nkey.public)
>>> new = verify_checkpoint(await reader.note("witnessed"), log, hub_key)
>>> witness(last, new, await reader.consistency(last, new))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

from kengele_schemas import subjects
from kengele_schemas.checkpoint import Checkpoint, verify_checkpoint
from kengele_schemas.cosignature import cosigner, read_cosignatures
from kengele_schemas.encoding import unb64u
from kengele_schemas.errors import Malformed, Refused, Untrusted
from kengele_schemas.trusted import Trusted
from kengele_schemas.witness import FORKED

_NO_PROOF: Final = frozenset({"not-in-log", "malformed"})
"""How a hub says that it has no proof, and not that it cannot answer just now."""


class Session(Protocol):
    """What a reader needs of a :class:`~kengele_node.member.Session`."""

    async def ask(self, subject: str, document: Any) -> dict[str, Any]: ...


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


def cosigned_by(note: str, checkpoint: Checkpoint, trusted: Trusted) -> dict[str, int]:
    """The active offices that cosigned ``checkpoint``, which is what ``note`` must say, and when, in Unix seconds.

    An empty note has no cosignatures.

    Raises:
        Untrusted: ``log-forked``: the note is of another checkpoint, whose cosignatures say nothing of this one;
            ``bad-proof``, ``bad-cosignature``: the note is not the hub's, or a line not the office's.
    """
    if not note:
        return {}
    log, hub_key = trusted.network.log, unb64u(trusted.network.hub_key)
    if verify_checkpoint(note, log, hub_key) != checkpoint:
        raise Untrusted(
            FORKED,
            "The hub shows another checkpoint than the one that it showed before.",
            "Keep both. Tell the coordinators and other offices, by another way than this hub.",
        )
    rows = (row for row in trusted.offices.document.offices if row.status == "active")
    keys = {cosigner(log, row.id): unb64u(row.sign) for row in rows}
    return {name.removeprefix(f"{log}/"): at for name, at in read_cosignatures(note, keys).items()}


def _no_answer() -> Malformed:
    return Malformed("malformed", "The hub's answer about its log is not one.", "Update this program, or the hub.")
