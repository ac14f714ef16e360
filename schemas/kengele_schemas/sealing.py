"""Seal, open and re-assemble: what happens where people and their keys are.

Each compartment is a salted disclosure (RFC 9901 §4.2.1), encrypted under a key used once; the keys are wrapped with
HPKE (RFC 9180) for each reader. The digests of the *plaintext* disclosures are signed, because ChaCha20-Poly1305 does
not commit to its key: one ciphertext can be made to open to two texts under two keys, but both cannot have the signed
digest.

    >>> data = seal(TENSION_REPORT, header, {"summary": {...}}, [Reader("unrcca", public, bits, counter)], key)
    >>> opened = open_envelope(parse(data), "unrcca", [private], monitor_key)
    >>> opened.contents["summary"]
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl.signing import SigningKey

from .encoding import b64u, dumps, length_prefixed, loads, unb64u
from .envelope import BLOCK, KEY, MAX_BLOCKS, TAG, Envelope, Kind, Wrap, assemble, core_of, ctr_of, verify
from .errors import CannotOpen, Malformed, Untrusted
from .keys import OpeningKey, OpeningPublic

_NONCE: Final = bytes(12)
_SALT: Final = 16
_SALT_TEXT: Final = 22
_LENGTH: Final = 4
_COUNTER: Final = 8
MAX_DISCLOSURE: Final = MAX_BLOCKS * BLOCK - _LENGTH


@dataclass(frozen=True, slots=True)
class Reader:
    """One office for which a report is sealed.

    ``bits`` are the compartments it may open; ``counter`` (from 1) numbers this author's reports to this office, so
    that it notices one that was dropped; None for a wrap that waits and may never be delivered.
    """

    office: str
    key: OpeningPublic
    bits: int
    counter: int | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """What an office holds after opening: header claims, contents by compartment, the disclosures that prove them."""

    claims: dict[str, Any] = field(repr=False)
    contents: dict[str, Any] = field(repr=False)
    disclosures: dict[str, str] = field(repr=False)
    counter: int | None
    withheld: tuple[str, ...]
    """Compartments the author gave this office that the hub, by a newer policy, did not pass on."""
    keys: dict[str, bytes] = field(default_factory=dict, repr=False)
    """The keys of what was opened."""


def disclosure(salt: bytes, name: str, value: Any) -> bytes:
    """The disclosure of claim ``name`` as JSON bytes (RFC 9901 §4.2.1)."""
    return dumps([b64u(salt), name, value])


def digest_of(disclosed: bytes) -> str:
    """The digest of a disclosure, over its base64url text (RFC 9901 §4.2.3)."""
    return b64u(hashlib.sha256(b64u(disclosed).encode("ascii")).digest())


def _pad(data: bytes, floor: int) -> bytes:
    size = max(floor, -(-(_LENGTH + len(data)) // BLOCK) * BLOCK)
    return (len(data).to_bytes(_LENGTH, "big") + data).ljust(size, b"\0")


def _unpad(padded: bytes) -> bytes:
    length = int.from_bytes(padded[:_LENGTH], "big")
    data, rest = padded[_LENGTH : _LENGTH + length], padded[_LENGTH + length :]
    if len(data) != length or rest.strip(b"\0"):
        raise Untrusted("not-as-signed", "A compartment's padding is not as the format demands.")
    return data


def _aad(name: str, core: bytes) -> bytes:
    return length_prefixed(b"kengele-ct-v1", name.encode("ascii"), core)


def _info(office: str, core: bytes, by: str = "") -> bytes:
    if by:
        return length_prefixed(b"kengele-shared-wrap-v1", office.encode("ascii"), core, by.encode("ascii"))
    return length_prefixed(b"kengele-wrap-v1", office.encode("ascii"), core)


def wrap(
    kind: Kind,
    reader: Reader,
    core: bytes,
    keys: Mapping[str, bytes],
    present: Iterable[str] | None = None,
    *,
    by: str = "",
) -> Wrap:
    """``reader``'s wrap: bitmap, counter and one slot a compartment, of one length whatever it grants.

    One that is made later names ``by`` whom, and opens only beside what that one signed: passed off as the author's
    first word it opens nothing.
    """
    held = set(keys if present is None else present)
    bits, slots = 0, b""
    for i, name in enumerate(kind.compartments):
        granted = bool(reader.bits >> i & 1) and name in held
        bits |= granted << i
        slots += keys[name] if granted else bytes(KEY)
    plaintext = bits.to_bytes(1, "big") + (reader.counter or 0).to_bytes(_COUNTER, "big") + slots
    return Wrap(reader.office, reader.key.suite, b64u(reader.key.seal(plaintext, _info(reader.office, core, by))))


def seal(
    kind: Kind,
    claims: Mapping[str, Any],
    contents: Mapping[str, Any],
    readers: Sequence[Reader],
    key: SigningKey,
    *,
    random: Callable[[int], bytes] = os.urandom,
    spare: MutableMapping[str, bytes] | None = None,
) -> bytes:
    """One message, sealed and signed.

    Args:
        kind: which message it is; fixes compartments and padding.
        claims: the header that the hub may read, members in wire order.
        contents: JSON values by compartment; the others travel as dummies wrapped for nobody.
        readers: distinct offices.
        random: source of salts and keys; only test vectors replace it.
        spare: takes up the keys of ``contents``, for who may wrap them again later.

    Raises:
        Malformed: ``unknown-compartment``, or ``oversized`` where one is longer than 65,532 bytes.
    """
    if not set(contents) <= set(kind.compartments):
        raise Malformed("unknown-compartment", "A report names a compartment that does not exist.")
    plain: dict[str, bytes] = {}
    digests: list[str] = []
    for name, _ in kind.floors:
        if name in contents:
            plain[name] = disclosure(random(_SALT), name, contents[name])
            if len(plain[name]) > MAX_DISCLOSURE:
                raise Malformed("oversized", f"The compartment '{name}' is too long.", "Shorten it.")
            digests.append(digest_of(plain[name]))
        else:
            digests.append(b64u(hashlib.sha256(random(32)).digest()))
    sd = tuple(sorted(digests))
    core = core_of(kind, dict(claims), sd)
    keys = {name: random(KEY) for name in kind.compartments}
    if spare is not None:
        spare.update({name: keys[name] for name in plain})
    ciphertexts = {
        name: b64u(ChaCha20Poly1305(keys[name]).encrypt(_NONCE, _pad(plain.get(name, b""), floor), _aad(name, core)))
        for name, floor in kind.floors
    }
    ordered = sorted(readers, key=lambda reader: reader.office)
    wraps = [wrap(kind, reader, core, keys, plain) for reader in ordered]
    payload = b64u(dumps({**claims, "_sd": sd, "_sd_alg": "sha-256", "ctr": ctr_of(ciphertexts, wraps)}))
    signature = b64u(key.sign(f"{kind.protected}.{payload}".encode("ascii")).signature)
    return assemble(kind.protected, payload, signature, ciphertexts, wraps)


def read_disclosure(disclosed: bytes, claims: Mapping[str, Any]) -> tuple[str, Any]:
    """Name and value of a disclosure (RFC 9901 §4.2.1, §7.1).

    Raises:
        Malformed: not strict JSON.
        Untrusted: ``not-as-signed``: not a salt, a name and a value, or the name of one of the ``claims``.
    """
    found = loads(disclosed, max_bytes=MAX_DISCLOSURE, max_depth=10)
    if not isinstance(found, list) or len(found) != 3 or not isinstance(found[1], str) or found[1] in claims:
        raise Untrusted("not-as-signed", "A disclosure does not carry a claim of its own.")
    salt, name, value = found
    if not isinstance(salt, str) or len(salt) != _SALT_TEXT:
        raise Untrusted("not-as-signed", "A disclosure's salt has not its length.")
    unb64u(salt)
    return name, value


def _unwrap(found: Wrap, info: bytes, kind: Kind, keys: Iterable[OpeningKey]) -> tuple[int, dict[str, bytes]]:
    """Counter and keys in a wrap."""
    sealed = unb64u(found.text)
    for key in keys:
        if key.suite != found.suite:
            continue
        try:
            plaintext = key.open(sealed, info)
            break
        except CannotOpen:
            continue
    else:
        raise CannotOpen
    bits, counter = plaintext[0], int.from_bytes(plaintext[1 : 1 + _COUNTER], "big")
    slots = plaintext[1 + _COUNTER :]
    granted = {name: slots[i * KEY : (i + 1) * KEY] for i, name in enumerate(kind.compartments) if bits >> i & 1}
    return counter, granted


def _unwrap_all(
    envelope: Envelope, office: str, keys: Sequence[OpeningKey], shared: Sequence[tuple[str, Wrap]]
) -> tuple[int | None, dict[str, list[bytes]]]:
    """The counter in the author's own wrap, and by compartment the keys that any wrap gives to it."""
    own = envelope.wrap_for(office)
    if own is None and not shared:
        raise CannotOpen
    counter: int | None = None
    granted: dict[str, list[bytes]] = {}
    wraps = [(found, _info(office, envelope.core, by)) for by, found in shared]
    if own is not None:
        wraps.insert(0, (own, _info(office, envelope.core)))
    for found, info in wraps:
        number, slots = _unwrap(found, info, envelope.kind, keys)
        if found is own:
            counter = number or None
        for name, key in slots.items():
            granted.setdefault(name, []).append(key)
    return counter, granted


def _decrypt(text: str, keys: Iterable[bytes], aad: bytes) -> tuple[bytes, bytes]:
    """The key that opens it, and what is in it."""
    sealed = unb64u(text)
    for key in keys:
        with suppress(InvalidTag):
            return key, ChaCha20Poly1305(key).decrypt(_NONCE, sealed, aad)
    raise CannotOpen


def open_envelope(
    envelope: Envelope,
    office: str,
    keys: Iterable[OpeningKey],
    author: bytes,
    shared: Sequence[tuple[str, Wrap]] = (),
) -> Opened:
    """What ``office`` may read of ``envelope``, checked to the last byte against what ``author`` signed.

    Args:
        keys: the office's private opening keys, newest first; those of another suite are passed over.
        author: the verify key that the roster gives for the report's ``kid``.
        shared: wraps that were made later, each behind the id of who made it.

    Raises:
        Untrusted: ``bad-signature`` or ``not-as-signed``.
        CannotOpen: no wrap for this office, or its keys do not open it.
        Malformed: a disclosure is not strict JSON.
    """
    verify(envelope, author)
    counter, granted = _unwrap_all(envelope, office, tuple(keys), shared)
    contents: dict[str, Any] = {}
    disclosures: dict[str, str] = {}
    opening: dict[str, bytes] = {}
    seen: set[str] = set()
    for name, text in envelope.ciphertexts.items():
        if name not in granted:
            continue
        opening[name], padded = _decrypt(text, granted[name], _aad(name, envelope.core))
        disclosed = _unpad(padded)
        digest = digest_of(disclosed)
        if digest not in envelope.sd or digest in seen:
            raise Untrusted("not-as-signed", "A compartment opens to a text that its author did not sign.")
        seen.add(digest)
        named, contents[name] = read_disclosure(disclosed, envelope.claims)
        if named != name:
            raise Untrusted("not-as-signed", "A disclosure does not carry the claim of its compartment.")
        disclosures[name] = b64u(disclosed)
    order = envelope.kind.compartments
    withheld = tuple(name for name in order if name in granted and name not in envelope.ciphertexts)
    return Opened(envelope.claims, contents, disclosures, counter, withheld, opening)


def reassemble(envelope: Envelope, opened: Opened) -> str:
    """The plain RFC 9901 SD-JWT of what was opened: ``<jwt>~<disclosure>~…~``; any SD-JWT library verifies it."""
    jwt = f"{envelope.protected}.{envelope.payload}.{envelope.signature}"
    return "~".join((jwt, *opened.disclosures.values(), ""))


def ciphertext_size(length: int, floor: int) -> int:
    """Bytes of a compartment's ciphertext for a disclosure of ``length`` bytes."""
    return len(_pad(bytes(length), floor)) + TAG
