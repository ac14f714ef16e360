"""A report as an office passes it on: ``<jwt>~<disclosure>~…~``, checked by whoever has the author's key and no other.

The rules are those of RFC 9901 §7.1 for an SD-JWT without key binding, narrowed to the one form that Kengele writes:
every disclosure is an object property at the top, named after a compartment.

    >>> shown = present(text)
    >>> shown.check(monitor_key)
    >>> shown.contents["summary"]["text"]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from .encoding import unb64u
from .envelope import KINDS, MAX_ENVELOPE, Kind, read_payload
from .errors import Malformed, Untrusted
from .keys import verify_signature
from .sealing import digest_of, read_disclosure

_PARTS: Final = 3


@dataclass(frozen=True, slots=True)
class Shown:
    """What was read; ``claims`` and ``contents`` mean nothing before :meth:`check` has returned."""

    kind: Kind
    claims: dict[str, Any]
    contents: dict[str, Any]
    _signed: bytes
    _signature: str

    def check(self, author: bytes) -> None:
        """Returns if ``author`` (a verify key) signed this. Raises Untrusted, ``bad-signature``."""
        if not verify_signature(author, self._signed, unb64u(self._signature)):
            raise Untrusted("bad-signature", "The report's signature does not match its author's key.")


def present(text: str) -> Shown:
    """The claims and compartments in ``text``, each disclosure held against the digests that stand in the payload.

    Raises:
        Malformed: ``malformed``, ``oversized``, ``unknown-type``.
        Untrusted: ``not-as-signed``: a disclosure that is not referred to, stands twice, or names what it may not.
    """
    if len(text) > MAX_ENVELOPE:
        raise Malformed("oversized", f"An SD-JWT is longer than {MAX_ENVELOPE} characters.")
    jwt, *disclosures = text.split("~")
    parts = jwt.split(".")
    if len(parts) != _PARTS or not disclosures or disclosures.pop() != "":
        raise Malformed("malformed", "This is not an SD-JWT.", "It looks like <jwt>~<disclosure>~…~")
    protected, payload, signature = parts
    kind = KINDS.get(protected)
    if kind is None:
        raise Malformed("unknown-type", "A message is of a type or algorithm that is not known here.")
    claims, sd, _ = read_payload(kind, payload)
    contents: dict[str, Any] = {}
    for disclosure in disclosures:
        disclosed = unb64u(disclosure)
        if digest_of(disclosed) not in sd:
            raise Untrusted("not-as-signed", "A disclosure does not belong to this report.")
        name, value = read_disclosure(disclosed, claims)
        if name not in kind.compartments or name in contents:
            raise Untrusted("not-as-signed", "A disclosure names no compartment, or one that was disclosed already.")
        contents[name] = value
    return Shown(kind, claims, contents, f"{protected}.{payload}".encode("ascii"), signature)
