"""A marker: the hub's signed word to an office that it withholds one report of an author, and nothing more.

It stands in the office's feed in the place of a report whose wrap a newer policy no longer lets through, so that the
number missing from that author's is explained without a word of what was in it.

    >>> marker = sign_marker("unrcca", kid, policy=3, at=1_780_000_000, key=hub_key)
    >>> read_marker(marker, "unrcca", bytes(hub_key.verify_key)).kid == kid
    True
"""

from __future__ import annotations

import os
from typing import Annotated, Final

from nacl.signing import SigningKey
from pydantic import Field

from .encoding import b64u, canonical, loads, unb64u
from .errors import Malformed, Untrusted
from .fields import Exactly1, Model, MonitorId, OfficeId, ReportId, read
from .keys import verify_signature

_CONTEXT: Final = b"kengele-marker-v1."
_MAX_MARKER: Final = 2048


class Withheld(Model):
    """What a marker says. ``policy`` is the version of the rules that withholds; ``nonce`` (16 random bytes) makes each
    one of its own; ``at`` is in Unix seconds."""

    v: Exactly1 = 1
    office: OfficeId
    kid: MonitorId
    policy: Annotated[int, Field(ge=0, le=2**53)]
    at: Annotated[int, Field(ge=0, le=2**53)]
    nonce: ReportId


def sign_marker(office: str, kid: str, *, policy: int, at: int, key: SigningKey) -> bytes:
    """A marker for ``office`` about a report of ``kid``, signed with the hub's key."""
    said = Withheld(office=office, kid=kid, policy=policy, at=at, nonce=b64u(os.urandom(16)))
    payload = b64u(canonical(said.model_dump(mode="json"))).encode("ascii")
    signature = b64u(key.sign(_CONTEXT + payload).signature)
    return canonical({"payload": payload.decode("ascii"), "signature": signature})


def read_marker(data: bytes, office: str, hub_key: bytes) -> Withheld:
    """The marker in ``data``, checked.

    Raises:
        Malformed: not a marker, or not in its one spelling.
        Untrusted: ``bad-signature``, or ``not-for-us`` where it speaks to another office.
    """
    outer = loads(data, max_bytes=_MAX_MARKER)
    if not isinstance(outer, dict) or set(outer) != {"payload", "signature"} or canonical(outer) != data:
        raise Malformed("malformed", "A message is neither a report nor a marker.")
    payload, signature = outer["payload"], outer["signature"]
    if not isinstance(payload, str) or not isinstance(signature, str) or not payload.isascii():
        raise Malformed("malformed", "A marker's parts are not texts.")
    if not verify_signature(hub_key, _CONTEXT + payload.encode("ascii"), unb64u(signature)):
        raise Untrusted("bad-signature", "A marker is not signed by the network's hub.")
    said = read(Withheld, loads(unb64u(payload), max_bytes=_MAX_MARKER))
    if said.office != office:
        raise Untrusted("not-for-us", "A marker speaks to another office.")
    return said
