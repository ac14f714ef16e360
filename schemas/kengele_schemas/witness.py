"""What a witness of a log takes: only what continues the log it saw before. Pure.

>>> witness(last, verify_checkpoint(note, log, hub_key), proof)
"""

from __future__ import annotations

from collections.abc import Sequence

from .checkpoint import Checkpoint
from .errors import Untrusted
from .merkle import verify_consistency

FORKED = "log-forked"
ROLLED_BACK = "log-rolled-back"
_MEND = "Keep both checkpoints. Tell the coordinators and other offices, by another way than this hub."


def witness(last: Checkpoint | None, new: Checkpoint, proof: Sequence[bytes]) -> None:
    """Returns if ``new`` continues ``last``, the largest tree seen so far; if None, anything does.

    Args:
        proof: that the leaves of ``last`` begin those of ``new`` (RFC 9162 §2.1.4); empty where none is needed.

    Raises:
        Untrusted: ``log-rolled-back``: the hub shows fewer entries than before; ``log-forked``: it does not prove that
            they are the same ones, continued.
    """
    if last is None:
        return
    if last.origin != new.origin:
        raise _forked()
    if new.size < last.size:
        raise Untrusted(ROLLED_BACK, "The hub shows a log with fewer entries than it showed before.", _MEND)
    try:
        verify_consistency(last.size, new.size, proof, last.root, new.root)
    except Untrusted:
        raise _forked() from None


def _forked() -> Untrusted:
    return Untrusted(FORKED, "The hub shows a log that does not continue the one it showed before.", _MEND)
