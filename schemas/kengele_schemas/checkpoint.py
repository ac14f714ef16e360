"""The hub's signed word on how its log stands, and proofs under it, in the C2SP formats.

Sources: c2sp.org/tlog-checkpoint, c2sp.org/signed-note, c2sp.org/tlog-proof. The key's name is the log's origin.

    >>> text = sign_checkpoint("kengele/1a2b", tree.size, tree.root(), key)
    >>> verify_checkpoint(text, "kengele/1a2b", bytes(key.verify_key)).size
    1
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from nacl.signing import SigningKey

from .errors import Untrusted
from .keys import verify_signature
from .merkle import HASH, MAX_PROOF, verify_inclusion

PROOF: Final = "c2sp.org/tlog-proof@v1"
MAX_TEXT: Final = 64 * 1024
"""Characters of a note or a proof: room for the cosignatures of 200 offices."""
SIGNATURE: Final = "\u2014 "
"""How each line with a signature begins."""
_ED25519: Final = b"\x01"
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)


class Checkpoint(NamedTuple):
    """A log's size and root."""

    origin: str
    size: int
    root: bytes


class Proof(NamedTuple):
    """That one entry is in the log: its index, the audit path, the signed checkpoint's text."""

    at: int
    path: tuple[bytes, ...]
    checkpoint: str


def _bad() -> Untrusted:
    return Untrusted("bad-proof", "A proof from the hub's log does not hold.", "Keep it, and tell the coordinators.")


def key_id(name: str, key: bytes) -> bytes:
    """Four bytes by which a note's signature names its key (signed-note, "Signature types")."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + key).digest()[:4]


def sign_checkpoint(origin: str, size: int, root: bytes, key: SigningKey) -> str:
    """The checkpoint as a signed note."""
    body = f"{origin}\n{size}\n{encode(root)}\n"
    signature = key_id(origin, bytes(key.verify_key)) + key.sign(body.encode()).signature
    return f"{body}\n{SIGNATURE}{origin} {encode(signature)}\n"


def verify_checkpoint(text: str, origin: str, key: bytes) -> Checkpoint:
    """The checkpoint in ``text``, signed by ``key`` for ``origin``; further lines and signatures are passed over.

    Raises:
        Untrusted: ``bad-proof``.
    """
    signed = signed_text(text)
    body, _, signatures = text.partition("\n\n")
    lines = body.split("\n")
    if len(lines) < 3 or lines[0] != origin or not _NUMBER.fullmatch(lines[1]):
        raise _bad()
    root = decode(lines[2])
    if len(root) != HASH:
        raise _bad()
    for line in signatures.split("\n"):
        name, _, encoded = line.removeprefix(SIGNATURE).rpartition(" ")
        if not line.startswith(SIGNATURE) or name != origin:
            continue
        signature = decode(encoded)
        if signature[:4] == key_id(origin, key) and verify_signature(key, signed, signature[4:]):
            return Checkpoint(origin, int(lines[1]), root)
    raise _bad()


def signed_text(text: str) -> bytes:
    """The bytes of a note that its signatures are over, the last newline included. Raises Untrusted, ``bad-proof``."""
    body, found, _ = text.partition("\n\n")
    if len(text) > MAX_TEXT or not found:
        raise _bad()
    try:
        return f"{body}\n".encode()
    except UnicodeEncodeError:
        raise _bad() from None


def write_proof(index: int, path: Sequence[bytes], checkpoint: str) -> str:
    """The proof as text (tlog-proof)."""
    hashes = "".join(f"{encode(step)}\n" for step in path)
    return f"{PROOF}\nindex {index}\n{hashes}\n{checkpoint}"


def read_proof(text: str) -> Proof:
    """The proof in ``text``; nothing of it is checked yet. Raises Untrusted, ``bad-proof``."""
    head, found, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if len(text) > MAX_TEXT or not found or lines[0] != PROOF or len(lines) < 2:
        raise _bad()
    word, _, number = lines[1].partition(" ")
    path = tuple(decode(line) for line in lines[2:])
    if word != "index" or not _NUMBER.fullmatch(number) or len(path) > MAX_PROOF:
        raise _bad()
    if any(len(step) != HASH for step in path):
        raise _bad()
    return Proof(int(number), path, checkpoint)


def verify_proof(text: str, leaf: bytes, origin: str, key: bytes) -> tuple[int, Checkpoint]:
    """Checks that the entry whose leaf hash is ``leaf`` is in the log; gives its index and the checkpoint.

    Raises:
        Untrusted: ``bad-proof``.
    """
    proof = read_proof(text)
    checkpoint = verify_checkpoint(proof.checkpoint, origin, key)
    verify_inclusion(leaf, proof.at, checkpoint.size, proof.path, checkpoint.root)
    return proof.at, checkpoint


def encode(data: bytes) -> str:
    """``data`` in the base64 of signed notes, which has padding (RFC 4648 §4)."""
    return base64.b64encode(data).decode("ascii")


def decode(text: str) -> bytes:
    """What :func:`encode` wrote, in its one spelling. Raises Untrusted, ``bad-proof``."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _bad() from None
    if encode(data) != text:
        raise _bad()
    return data
