"""The proof of a log: all of it taken and held against what was signed, before anything is told of what it says.

>>> examined, notes = await examine(HubLog(session, nkey), Known.of(trusted, store), memory, look, progress)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from kengele_node.member import now
from kengele_node.office.witness import Evidence, Memory, Seen
from kengele_schemas.checkpoint import verify_checkpoint
from kengele_schemas.cosignature import cosigner
from kengele_schemas.encoding import unb64u
from kengele_schemas.errors import Untrusted
from kengele_schemas.trust import TrustStore
from kengele_schemas.trusted import Trusted

from .examination import Examination
from .sources import Source

Progress = Callable[[int, int], None]
EVERY: Final = 5120
"""Entries between two words about how far it is."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the auditor holds by the coordinators' signatures, and not by the hub's word.

    ``files`` are the trust files; empty if only the hub's card is at hand.
    """

    log: str
    hub_key: bytes
    trusted: Trusted | None = None
    files: Mapping[str, bytes] | None = None

    @classmethod
    def of(cls, trusted: Trusted, store: TrustStore) -> Known:
        return cls(trusted.network.log, unb64u(trusted.network.hub_key), trusted, store.files())

    def witnesses(self) -> dict[str, bytes]:
        """Keys of the offices whose cosignatures count, by the names under which they sign."""
        offices = self.trusted.offices.document.offices if self.trusted else ()
        return {cosigner(self.log, row.id): unb64u(row.sign) for row in offices if row.status == "active"}


class Notes(NamedTuple):
    """Two checkpoints as they were signed: over all there is, and the one that offices cosigned last."""

    whole: str
    witnessed: str


async def examine(
    source: Source, known: Known, memory: Memory | None, look: Callable[[int, bytes], None], progress: Progress
) -> tuple[Examination, Notes]:
    """Takes the whole log, and proves it; ``look`` is shown each entry.

    Args:
        memory: what was seen of this log here before; a log that does not continue it is kept there as evidence.
        progress: told how many entries were taken, of how many.

    Raises:
        Untrusted: what does not hold; nothing that ``look`` was shown counts then.
    """
    witnessed = await source.witnessed()
    notes = Notes(await source.checkpoint(), witnessed)
    checkpoint = verify_checkpoint(notes.whole, known.log, known.hub_key)
    examined = Examination(known.trusted.version if known.trusted else 0)
    async for data in source.entries(0, checkpoint.size):
        examined.take(data)
        look(examined.tree.size - 1, data)
        if examined.tree.size % EVERY == 0:
            progress(examined.tree.size, checkpoint.size)
    examined.complete(checkpoint)
    examined.agree(verify_checkpoint(notes.witnessed, known.log, known.hub_key))
    before = memory.last().note if memory is not None else ""
    if memory is not None and before.startswith(f"{known.log}\n"):
        try:
            examined.agree(verify_checkpoint(before, known.log, known.hub_key))
        except Untrusted as error:
            memory.accuse(Evidence(error.code, before, notes.whole, now().timestamp()))
            raise
    return examined, notes


def remember(memory: Memory, note: str) -> None:
    """Keeps the checkpoint that was proved, for the next time."""
    before, at = memory.last(), now().timestamp()
    memory.keep(before, Seen(note, at, before.since or at, {}))
