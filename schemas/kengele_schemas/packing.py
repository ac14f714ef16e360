"""Packing: long files made short enough for one message of the bus (zlib, RFC 1950).

What is signed and hashed is the file itself; this is only how it travels. A short one goes as it is, so that who knows
nothing of packing reads it.

    >>> unpack(pack(document), max_bytes=4 << 20) == document
    True
"""

from __future__ import annotations

import zlib
from typing import Final

from .errors import Malformed

LONG: Final = 256 * 1024
"""Bytes up to which a file travels as it is."""
_FIRST: Final = b"\x78"
"""With which every zlib stream begins, and no file of JSON."""


def pack(data: bytes) -> bytes:
    """``data``, shorter if it is long."""
    return data if len(data) <= LONG and data[:1] != _FIRST else zlib.compress(data)


def unpack(data: bytes, *, max_bytes: int) -> bytes:
    """What :func:`pack` was given.

    Raises:
        Malformed: ``oversized``, where it is more than ``max_bytes``; ``malformed``.
    """
    if data[:1] != _FIRST:
        return data
    unpacking = zlib.decompressobj()
    try:
        found = unpacking.decompress(data, max_bytes)
    except zlib.error:
        raise Malformed("malformed", "A packed file cannot be unpacked.") from None
    if unpacking.unconsumed_tail:
        raise Malformed("oversized", f"A packed file is larger than {max_bytes} bytes.")
    if not unpacking.eof or unpacking.unused_data:
        raise Malformed("malformed", "A packed file cannot be unpacked.")
    return found
