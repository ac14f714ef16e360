"""An office's word that it has seen a checkpoint, and that it continues all it saw before (c2sp.org/tlog-cosignature).

A cosignature is one more signature line under a checkpoint. It holds the time at which it was made. The key is the one
with which the office signs everything else; the first line of what is signed sets it apart.

    >>> note = attach(checkpoint, [cosign(checkpoint, cosigner(log, "unrcca"), int(time.time()), key)])
    >>> read_cosignatures(note, {cosigner(log, "unrcca"): public})
    {'kengele/1a2b/unrcca': 1800000000}
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from nacl.signing import SigningKey

from .checkpoint import SIGNATURE, decode, encode, signed_text
from .errors import Untrusted
from .keys import verify_signature

_TYPE: Final = b"\x04"
_TIME: Final = 8
_LAST: Final = 2**63


def cosigner(origin: str, office: str) -> str:
    """The name under which ``office`` cosigns the log ``origin``."""
    return f"{origin}/{office}"


def cosigner_id(name: str, key: bytes) -> bytes:
    """Four bytes by which a line names its key."""
    return hashlib.sha256(name.encode() + b"\n" + _TYPE + key).digest()[:4]


def cosign(checkpoint: str, name: str, at: int, key: SigningKey) -> str:
    """The line that ``name`` adds to ``checkpoint`` (a note) at ``at``, in Unix seconds. Raises Untrusted."""
    signature = key.sign(_message(signed_text(checkpoint), at)).signature
    blob = cosigner_id(name, bytes(key.verify_key)) + at.to_bytes(_TIME, "big") + signature
    return f"{SIGNATURE}{name} {encode(blob)}\n"


def attach(checkpoint: str, lines: Iterable[str]) -> str:
    """``checkpoint`` with ``lines`` below its own signature."""
    return checkpoint + "".join(lines)


def read_cosignatures(checkpoint: str, keys: Mapping[str, bytes]) -> dict[str, int]:
    """Who of those in ``keys`` (public keys by name) cosigned ``checkpoint``, and when.

    Lines under another name or of another key are passed over: they may be of an older key.

    Raises:
        Untrusted: ``bad-cosignature``: a line names one of the keys, and is not that key's.
    """
    body = signed_text(checkpoint)
    found: dict[str, int] = {}
    for line in checkpoint.partition("\n\n")[2].split("\n"):
        name, _, encoded = line.removeprefix(SIGNATURE).rpartition(" ")
        key = keys.get(name) if line.startswith(SIGNATURE) else None
        if key is None:
            continue
        blob = decode(encoded)
        if blob[:4] != cosigner_id(name, key):
            continue
        at = int.from_bytes(blob[4 : 4 + _TIME], "big")
        if at >= _LAST or not verify_signature(key, _message(body, at), blob[4 + _TIME :]):
            raise Untrusted(
                "bad-cosignature", "A cosignature under the hub's log does not hold.", "Keep it; tell the coordinators."
            )
        found[name] = max(at, found.get(name, 0))
    return found


def _message(body: bytes, at: int) -> bytes:
    return b"cosignature/v1\ntime %d\n" % at + body
