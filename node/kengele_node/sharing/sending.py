"""Sending what waits in the journal, and checking the hub's word that it is in the log.

>>> for outcome in await send(session, journal, trusted, nkey):
...     print(outcome.share.office, outcome.code)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from kengele_schemas import subjects
from kengele_schemas.checkpoint import verify_proof
from kengele_schemas.encoding import b64u, loads, unb64u
from kengele_schemas.errors import KengeleError, Malformed, Refused, Untrusted
from kengele_schemas.leaves import SharedLeaf, read_entry
from kengele_schemas.merkle import leaf_hash
from kengele_schemas.sharing import MAX_SHARE
from kengele_schemas.trusted import Trusted

from .journal import Journal, Kept

SHARED: Final = "shared"
Compare = Callable[[Mapping[str, Any], Trusted], None]
"""Compares a proven answer with what is known of the log; raises Untrusted."""


class Session(Protocol):
    """What it needs of a :class:`~kengele_node.member.Session`."""

    async def ask(self, subject: str, document: Any) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one share: ``shared``, or a code with a sentence; ``bits`` are the compartments given by it."""

    share: Kept
    code: str
    sentence: str = ""
    mend: str = ""
    bits: int = 0


async def send(
    session: Session, journal: Journal, trusted: Trusted, nkey: str, compare: Compare | None = None
) -> list[Outcome]:
    """Sends all that waits, once.

    Args:
        compare: told of each leaf and proof before it is taken; what it does not take waits on.

    Raises:
        Unreachable: no line; what was not answered waits on.
        Damaged, Refused: the journal's own trouble.
    """
    found = []
    for share in journal.waiting():
        try:
            answer = await session.ask(subjects.shares_ask(nkey), loads(share.data, max_bytes=MAX_SHARE))
            leaf = read_answer(answer, share, trusted)
            if compare is not None:
                compare(answer, trusted)
        except (Refused, Malformed) as error:
            journal.drop(share.name)
            found.append(Outcome(share, error.code, error.sentence, error.mend))
        except Untrusted as error:
            # A proof that does not hold is no answer.
            found.append(Outcome(share, error.code, error.sentence, error.mend))
        else:
            journal.shared(share.name)
            found.append(Outcome(share, SHARED, bits=share.bits & leaf.decisions[0][1]))
    return found


def read_answer(answer: Mapping[str, Any], share: Kept, trusted: Trusted) -> SharedLeaf:
    """The leaf by which the hub's log says that ``share`` was taken. Raises Untrusted, ``bad-receipt``."""
    try:
        raw = str(answer["leaf"]).encode("utf-8")
        leaf = read_entry(raw)
        verify_proof(str(answer["proof"]), leaf_hash(raw), trusted.network.log, unb64u(trusted.network.hub_key))
    except (KengeleError, KeyError):
        raise _bad() from None
    if not isinstance(leaf, SharedLeaf) or (leaf.digest, leaf.decisions[0][0]) != (share.digest, share.office):
        raise _bad()
    # What was shared before, from a journal that is lost, stands there with other bytes.
    if answer.get("repeat") is not True and leaf.bytes != b64u(hashlib.sha256(share.data).digest()):
        raise _bad()
    return leaf


def _bad() -> Untrusted:
    return Untrusted("bad-receipt", "The hub's proof does not hold.", "It waits here and is sent again.")
