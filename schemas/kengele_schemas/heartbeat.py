"""A heartbeat: an author's signed word to one office how many reports she has numbered for it, sealed for that office.

An office sees that a number is missing when a later one comes. Whoever drops all from some day on leaves nothing that
comes later; so an author says it on a schedule that does not follow what she reports.

    >>> said = sign_heartbeat("unrcca", public, 7, network=root_digest, at=1_780_000_000, key=signing_key)
    >>> read_heartbeat(said, bytes(signing_key.verify_key), root_digest).open([opening_key])
    7
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

from nacl.signing import SigningKey
from pydantic import Field

from .encoding import b64u, canonical, length_prefixed, loads, unb64u
from .errors import CannotOpen, Malformed, Untrusted
from .fields import Bytes32, Exactly1, Model, MonitorId, OfficeId, read
from .keys import OpeningKey, OpeningPublic, monitor_id, verify_signature

MAX_HEARTBEAT: Final = 4096
MAX_NUMBER: Final = 2**53
_CONTEXT: Final = b"kengele-heartbeat-v1\0"
_NUMBER: Final = 8


class Heartbeat(Model):
    """What is signed: ``kid`` said ``at`` (Unix seconds) to ``office`` what is ``sealed`` for it."""

    v: Exactly1 = 1
    net: Bytes32
    kid: MonitorId
    office: OfficeId
    at: Annotated[int, Field(ge=0, le=MAX_NUMBER)]
    suite: Literal["X25519", "MLKEM768_X25519"]
    sealed: Annotated[str, Field(max_length=2048)]

    def open(self, keys: Iterable[OpeningKey]) -> int:
        """The highest number that its author has sent to this office. Raises CannotOpen, Malformed."""
        sealed, info = unb64u(self.sealed), _info(self.net, self.kid, self.office, self.at)
        for key in keys:
            if key.suite != self.suite:
                continue
            try:
                number = key.open(sealed, info)
            except CannotOpen:
                continue
            if len(number) != _NUMBER or int.from_bytes(number, "big") > MAX_NUMBER:
                raise _malformed()
            return int.from_bytes(number, "big")
        raise CannotOpen


def _info(network: str, kid: str, office: str, at: int) -> bytes:
    return length_prefixed(b"kengele-beat-v1", *(part.encode() for part in (network, kid, office, str(at))))


def sign_heartbeat(office: str, public: OpeningPublic, number: int, *, network: str, at: int, key: SigningKey) -> bytes:
    """The heartbeat of the owner of ``key`` to ``office``, which opens with the other half of ``public``."""
    kid = monitor_id(bytes(key.verify_key))
    sealed = public.seal(number.to_bytes(_NUMBER, "big"), _info(network, kid, office, at))
    said = {"v": 1, "net": network, "kid": kid, "office": office, "at": at, "suite": public.suite}
    said["sealed"] = b64u(sealed)
    return canonical({**said, "signature": b64u(key.sign(_CONTEXT + canonical(said)).signature)})


def read_heartbeat(data: bytes, author: bytes | None, network: str) -> Heartbeat:
    """The heartbeat in ``data``, checked by the verify key ``author``; unchecked where none is given.

    Raises:
        Malformed: not a heartbeat, or not in its one spelling.
        Untrusted: ``other-network`` or ``bad-signature``.
    """
    document: Any = loads(data, max_bytes=MAX_HEARTBEAT)
    if not isinstance(document, dict) or canonical(document) != data:
        raise _malformed()
    signature = document.pop("signature", None)
    said = read(Heartbeat, document)
    if not isinstance(signature, str) or canonical(said.model_dump(mode="json")) != canonical(document):
        raise _malformed()
    if said.net != network:
        raise Untrusted("other-network", "A heartbeat is for another network.")
    if author is not None:
        signed = _CONTEXT + canonical(document)
        if said.kid != monitor_id(author) or not verify_signature(author, signed, unb64u(signature)):
            raise Untrusted("bad-signature", "A heartbeat is not signed by the author that it names.")
    return said


def _malformed() -> Malformed:
    return Malformed("malformed", "This is no heartbeat.")
