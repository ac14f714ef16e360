"""The envelope on the wire: parse, verify, strip. What the hub does, without a key to any compartment.

An envelope is an RFC 9901 SD-JWT in JWS flattened JSON serialization whose disclosures travel encrypted (``header.ct``)
and whose compartment keys travel wrapped for each reader (``header.w``):

    {"protected": …, "payload": …, "signature": …, "header": {"ct": {compartment: b64u}, "w": [[office, suite, b64u]]}}

There is exactly one byte string for one envelope: compact, members in the order above, ciphertexts in compartment
order, wraps sorted by office. Another spelling of the same values is refused, so that a digest of the bytes means
something and no byte can be changed unnoticed. The normative text is ``docs/wire-format.md``.

    >>> envelope = parse(data)
    >>> verify(envelope, monitor_key)
    >>> to_unrcca = strip(envelope, "unrcca", bitmap(["handling", "summary"]))
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

from .compartments import REPORT_COMPARTMENTS
from .encoding import b64u, dumps, length_prefixed, loads, unb64u
from .errors import Malformed, Untrusted
from .keys import ENC_LENGTH, verify_signature

MAX_ENVELOPE: Final = 512 * 1024
"""Bytes; leaves room for 200 readers in the hybrid suite and a long account."""
MAX_READERS: Final = 200
BLOCK: Final = 256
"""Bytes; every compartment is padded to a multiple of it."""
MAX_BLOCKS: Final = 256
TAG: Final = 16
KEY: Final = 32
_DIGEST: Final = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]", re.ASCII)
_OFFICE: Final = re.compile(r"[a-z][a-z0-9-]{1,31}", re.ASCII)
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_LAST: Final = (_ALPHABET, "", "AQgw", "AEIMQUYcgkosw048")
"""By a text's length modulo four, the characters it may end in: those whose spare bits are zero."""
_RESERVED: Final = ("_sd", "_sd_alg", "ctr")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of message: its media type and its compartments, in wire order, each with its least padded size.

    A compartment that is absent travels as a dummy of the least size, so up to that size presence tells nothing.
    """

    typ: str
    floors: tuple[tuple[str, int], ...]

    @property
    def compartments(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.floors)

    @property
    def protected(self) -> str:
        """The only protected header there is for this kind, as it stands on the wire."""
        return b64u(dumps({"alg": "Ed25519", "typ": self.typ}))

    @property
    def wrap_plaintext(self) -> int:
        """Bytes under a wrap: bitmap, counter, one key a compartment; the same for every reader."""
        return 1 + 8 + KEY * len(self.floors)


_FLOORS: Final = {"handling": 256, "summary": 512, "account": 1024, "place": 256, "people": 512, "source": 256}
TENSION_REPORT: Final = Kind(
    "tension-report+sd-jwt", tuple((name, _FLOORS.get(name, BLOCK)) for name in REPORT_COMPARTMENTS)
)
KINDS: Final = {kind.protected: kind for kind in (TENSION_REPORT,)}


class Wrap(NamedTuple):
    """One reader's wrapped keys: office id, suite, base64url text."""

    office: str
    suite: str
    text: str


@dataclass(frozen=True)
class Envelope:
    """A parsed envelope. Texts are kept as they stood on the wire; nothing signed is ever serialized again."""

    kind: Kind
    protected: str
    payload: str
    signature: str
    ciphertexts: dict[str, str]
    wraps: tuple[Wrap, ...]
    claims: dict[str, Any]
    """The signed header, without ``_sd``, ``_sd_alg`` and ``ctr``. Not yet checked against a model."""
    sd: tuple[str, ...]
    ctr: str

    @cached_property
    def signed(self) -> bytes:
        """The JWS signing input (RFC 7515 §5.1)."""
        return f"{self.protected}.{self.payload}".encode("ascii")

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of what is signed: the report's identity, whatever was stripped or re-wrapped."""
        return hashlib.sha256(self.signed).digest()

    @cached_property
    def core(self) -> bytes:
        """What ties ciphertexts and wraps to this network, author, report and policy: see :func:`core_of`."""
        return core_of(self.kind, self.claims, self.sd)

    def wrap_for(self, office: str) -> Wrap | None:
        return next((wrap for wrap in self.wraps if wrap.office == office), None)

    def encode(self) -> bytes:
        """The envelope's one byte string."""
        return assemble(self.protected, self.payload, self.signature, self.ciphertexts, self.wraps)


def core_of(kind: Kind, claims: dict[str, Any], sd: Sequence[str]) -> bytes:
    """SHA-256 over length-prefixed type, network, author, id, policy version and digests.

    It stands in every compartment's associated data and every wrap's info, so that nobody can re-sign another's
    ciphertexts under their own key, and nothing opens in another network in which the same keys stand.
    """
    head = (kind.typ, str(claims.get("net")), str(claims.get("kid")), str(claims.get("id")), str(claims.get("pol")))
    return hashlib.sha256(
        length_prefixed(b"kengele-core-v2", *(part.encode() for part in head), *(digest.encode() for digest in sd))
    ).digest()


def ctr_of(ciphertexts: dict[str, str], wraps: Sequence[Wrap]) -> str:
    """The digest of all that was sent beside the payload, over the base64url texts: checked without decoding them."""
    parts = [text for item in ciphertexts.items() for text in item] + [text for wrap in wraps for text in wrap]
    return b64u(hashlib.sha256(length_prefixed(*(part.encode("ascii") for part in parts))).digest())


def assemble(protected: str, payload: str, signature: str, ciphertexts: dict[str, str], wraps: Sequence[Wrap]) -> bytes:
    # Every text has passed an alphabet that needs no JSON escape; joining is ten times quicker than a serializer.
    ct = ",".join(f'"{name}":"{text}"' for name, text in ciphertexts.items())
    w = ",".join(f'["{wrap.office}","{wrap.suite}","{wrap.text}"]' for wrap in wraps)
    return (
        f'{{"protected":"{protected}","payload":"{payload}","signature":"{signature}",'
        f'"header":{{"ct":{{{ct}}},"w":[{w}]}}}}'
    ).encode("ascii")


def _malformed(sentence: str) -> Malformed:
    return Malformed("malformed", sentence)


def _object(value: Any, names: tuple[str, ...]) -> tuple[Any, ...]:
    if not isinstance(value, dict) or tuple(value) != names:
        raise _malformed("An envelope does not have the members of the format, in its order.")
    return tuple(value.values())


def _b64_length(size: int) -> int:
    return (size * 4 + 2) // 3


def wrap_length(kind: Kind, suite: str) -> int:
    """Characters of a wrap's text; 0 for a suite that there is not."""
    enc = ENC_LENGTH.get(suite)
    return 0 if enc is None else _b64_length(enc + kind.wrap_plaintext + TAG)


_CIPHERTEXT_LENGTHS: Final = {_b64_length(blocks * BLOCK + TAG) for blocks in range(1, MAX_BLOCKS + 1)}


def _ciphertexts(kind: Kind, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _malformed("Ciphertexts are not an object.")
    order = [name for name in kind.compartments if name in value]
    if list(value) != order:
        raise _malformed("Ciphertexts name an unknown compartment or stand out of order.")
    for name, floor in kind.floors:
        if name not in value:
            continue
        text = value[name]
        if not isinstance(text, str) or len(text) not in _CIPHERTEXT_LENGTHS:
            raise _malformed("A ciphertext is not padded to whole blocks.")
        if len(text) < _b64_length(floor + TAG):
            raise _malformed("A ciphertext is shorter than its compartment's least size.")
    return value


def _wraps(kind: Kind, value: Any) -> tuple[Wrap, ...]:
    if not isinstance(value, list) or len(value) > MAX_READERS:
        raise _malformed(f"An envelope has no list of wraps, or more than {MAX_READERS}.")
    wraps = []
    previous = ""
    for item in value:
        if not isinstance(item, list) or len(item) != 3 or not all(isinstance(part, str) for part in item):
            raise _malformed("A wrap is not a list of office, suite and text.")
        wrap = Wrap(*item)
        if not wrap.text or len(wrap.text) != wrap_length(kind, wrap.suite):
            raise _malformed("A wrap names an unknown suite or has not its length.")
        if wrap.office <= previous or _OFFICE.fullmatch(wrap.office) is None:
            raise _malformed("Wraps are not sorted by office, or one office stands twice.")
        previous = wrap.office
        wraps.append(wrap)
    return tuple(wraps)


def _check_spelling(texts: Sequence[str]) -> None:
    """That all ``texts`` are canonical base64url: ten times quicker than decoding them."""
    if "".join(texts).encode().translate(None, _ALPHABET.encode()):
        raise _malformed("A ciphertext, wrap or signature is not unpadded base64url.")
    if not all(text[-1:] in _LAST[len(text) % 4] for text in texts):
        raise _malformed("A base64url value is not in canonical form.")


def read_payload(kind: Kind, payload: str) -> tuple[dict[str, Any], tuple[str, ...], str]:
    """Header claims, sorted digests and ``ctr`` of a payload's base64url text.

    Raises:
        Malformed: not strict JSON, or ``_sd``, ``_sd_alg`` or ``ctr`` not as RFC 9901 §4.2.4 and this format demand.
    """
    claims = loads(unb64u(payload), max_bytes=16 * 1024, max_depth=4)
    if not isinstance(claims, dict) or "..." in claims:
        raise _malformed("A payload is not an object of claims.")
    sd, algorithm, ctr = (claims.pop(name, None) for name in _RESERVED)
    if algorithm != "sha-256" or not isinstance(ctr, str) or _DIGEST.fullmatch(ctr) is None:
        raise _malformed("A payload lacks its digest algorithm or its ciphertexts' digest.")
    if not isinstance(sd, list) or len(sd) != len(kind.floors):
        raise _malformed("A payload has not one digest for each compartment.")
    if not all(isinstance(digest, str) and _DIGEST.fullmatch(digest) for digest in sd) or sorted(set(sd)) != sd:
        raise _malformed("Digests are not distinct, sorted SHA-256 values.")
    return claims, tuple(sd), ctr


def parse(data: bytes) -> Envelope:
    """The envelope in ``data``, whole or stripped; no signature is checked yet.

    Raises:
        Malformed: any departure from the format, with a stable code; never another error.
    """
    outer = _outer(data)
    protected, payload, signature, header = _object(outer, ("protected", "payload", "signature", "header"))
    if not (isinstance(protected, str) and isinstance(payload, str) and isinstance(signature, str)):
        raise _malformed("An envelope's parts are not texts.")
    kind = KINDS.get(protected)
    if kind is None:
        raise Malformed("unknown-type", "A message is of a type or algorithm that is not known here.")
    ct, w = _object(header, ("ct", "w"))
    ciphertexts, wraps = _ciphertexts(kind, ct), _wraps(kind, w)
    _check_spelling([signature, *ciphertexts.values(), *(wrap.text for wrap in wraps)])
    claims, sd, ctr = read_payload(kind, payload)
    envelope = Envelope(kind, protected, payload, signature, ciphertexts, wraps, claims, sd, ctr)
    if envelope.encode() != data:
        loads(data, max_bytes=MAX_ENVELOPE, max_depth=5)  # says better what is wrong, where it finds anything
        raise _malformed("An envelope is not in its one canonical spelling.")
    return envelope


def _outer(data: bytes) -> Any:
    """The value of ``data``, read leniently where it is plain: the caller spells it anew, and only this very spelling
    passes."""
    if len(data) > MAX_ENVELOPE or not data.isascii() or b"\\" in data:
        return loads(data, max_bytes=MAX_ENVELOPE, max_depth=5)
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return loads(data, max_bytes=MAX_ENVELOPE, max_depth=5)


def verify(envelope: Envelope, key: bytes) -> None:
    """Check ``envelope``'s signature under the author's verify ``key``. Holds for stripped envelopes as well.

    Raises:
        Untrusted: ``bad-signature``.
        Malformed: the signature is not base64url.
    """
    if not verify_signature(key, envelope.signed, unb64u(envelope.signature)):
        raise Untrusted("bad-signature", "The report's signature does not match its author's key.")


def check_whole(envelope: Envelope) -> None:
    """Check that ciphertexts and wraps are all there, as the author sent them.

    Raises:
        Untrusted: ``not-whole``; a byte was changed, or something left out or added, on the way.
    """
    if (
        tuple(envelope.ciphertexts) != envelope.kind.compartments
        or ctr_of(envelope.ciphertexts, envelope.wraps) != envelope.ctr
    ):
        raise Untrusted("not-whole", "The report was changed on the way.", "Send it again.")


def strip(envelope: Envelope, office: str, compartments: Sequence[str]) -> bytes:
    """``envelope`` as ``office`` is given it: only ``compartments``, only its own wrap. The signature still holds."""
    kept = {name: text for name, text in envelope.ciphertexts.items() if name in compartments}
    wrap = envelope.wrap_for(office)
    return assemble(envelope.protected, envelope.payload, envelope.signature, kept, (wrap,) if wrap else ())
