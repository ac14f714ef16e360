"""Recalls: what stays of a report, and an office's signed word that it obeyed.

Several recalls of one report take away what each of them takes; none gives anything back.

    >>> said = sign_confirmation("unrcca", report_id, digest, network=root_digest, at=now, key=office_key)
    >>> read_confirmation(said, bytes(office_key.verify_key), root_digest).office
    'unrcca'
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any, Final

from nacl.signing import SigningKey

from .compartments import ALL_BITS, HANDLING_BIT, bitmap
from .encoding import b64u, canonical, loads, unb64u
from .errors import Malformed, Untrusted
from .fields import Bytes32, Exactly1, Model, OfficeId, ReportId, read
from .keys import verify_signature
from .receipt import Moment

MAX_CONFIRMATION: Final = 2048
_CONTEXT: Final = b"kengele-recalled-v1\0"


class Confirmation(Model):
    """What an office signs once nothing of what was recalled is left with it; ``recall`` is the recall's digest."""

    v: Exactly1 = 1
    net: Bytes32
    office: OfficeId
    report: ReportId
    recall: Bytes32
    at: Moment


def left(keeps: Iterable[Collection[str] | None]) -> int:
    """The compartments, as bits, that stay after recalls with these ``keep`` claims; 0 if one takes everything."""
    bits = ALL_BITS
    for keep in keeps:
        bits &= bitmap(keep) | HANDLING_BIT if keep else 0
    return 0 if bits == HANDLING_BIT else bits


def sign_confirmation(
    office: str, report_id: str, recall: bytes, *, network: str, at: datetime, key: SigningKey
) -> bytes:
    """The office's statement about a report and the digest of its ``recall``, signed with its ``key``."""
    said = Confirmation(
        net=network,
        office=office,
        report=report_id,
        recall=b64u(recall),
        at=at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    ).model_dump(mode="json")
    return canonical({**said, "signature": b64u(key.sign(_CONTEXT + canonical(said)).signature)})


def read_confirmation(data: bytes, key: bytes | None = None, network: str = "") -> Confirmation:
    """The confirmation in ``data``, checked by the office's verify ``key`` and to be of ``network``; unchecked where no
    key is given.

    Raises:
        Malformed: not a confirmation, or not in its one spelling.
        Untrusted: ``bad-signature``, ``other-network``.
    """
    document: Any = loads(data, max_bytes=MAX_CONFIRMATION)
    if not isinstance(document, dict) or canonical(document) != data:
        raise Malformed("malformed", "This is no confirmation of a recall.")
    signature = document.pop("signature", None)
    said = read(Confirmation, document)
    if not isinstance(signature, str) or canonical(said.model_dump(mode="json")) != canonical(document):
        raise Malformed("malformed", "This is no confirmation of a recall.")
    if key is not None and not verify_signature(key, _CONTEXT + canonical(document), unb64u(signature)):
        raise Untrusted("bad-signature", "A confirmation is not signed by the office that it names.")
    if key is not None and said.net != network:
        raise Untrusted("other-network", "A confirmation is of a recall in another network.")
    return said
