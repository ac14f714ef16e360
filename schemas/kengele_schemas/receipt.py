"""Receipts: what the hub answers to a report, and how a node checks it without trusting the hub.

``accepted`` is a proof: the entry of the audit log that speaks of this very report, its place in the log, and the
hub's signed checkpoint over it. Any other code is a refusal, signed by the hub, with a sentence that a person can act
on. Neither holds content.

    >>> receipt = read_receipt(answer, hub_key, origin, hashlib.sha256(envelope).digest())
    >>> receipt.accepted
    True
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from nacl.signing import SigningKey
from pydantic import Field, model_validator

from .checkpoint import verify_proof
from .compartments import ALL_BITS, GRANTABLE
from .encoding import b64u, canonical, dumps, loads, unb64u
from .errors import KengeleError, Malformed, Untrusted
from .fields import Bytes32, Exactly1, Items, Model, OfficeId, ReportId, RuleId, bad, read
from .keys import verify_signature
from .merkle import leaf_hash

ACCEPTED: Final = "accepted"
MAX_RECEIPT: Final = 64 * 1024
MAX_DECISIONS: Final = 200
MAX_RETRY: Final = 24 * 3600
_REFUSAL: Final = b"kengele-refusal-v1\0"


class Code(NamedTuple):
    """What a receipt's code means: for a person, what to do about it, and whether the same report may pass later."""

    sentence: str
    mend: str
    retryable: bool = False


CODES: Final[dict[str, Code]] = {
    ACCEPTED: Code("The hub has the report on disk and in its log.", ""),
    "malformed": Code("The report does not follow the format.", "Update this node, then send the report again."),
    "oversized": Code("The report is larger than the hub takes.", "Shorten it or send it in parts."),
    "unknown-type": Code("The hub does not know this type of message.", "Use a version of the node that fits the hub."),
    "bad-signature": Code(
        "The signature is not that of the monitor named.", "Ask a coordinator which key is enrolled."
    ),
    "other-network": Code("The report is for another network.", "Send it from the home that belongs to that network."),
    "not-whole": Code("The report was changed on the way.", "Send it again."),
    "unknown-monitor": Code("This connection is not a monitor's.", "Ask a coordinator whether you are enrolled."),
    "monitor-suspended": Code("This monitor is suspended.", "Ask a coordinator."),
    "monitor-revoked": Code("This monitor was removed.", "Ask a coordinator."),
    "key-expired": Code("This monitor's key is past its last day.", "Ask a coordinator to renew it."),
    "list-expired": Code(
        "The list in which this monitor stands is past its date.",
        "It is sent later by itself; tell a coordinator of the area.",
        True,
    ),
    "out-of-scope": Code("This monitor does not report from that area.", "Check the area, or ask a coordinator."),
    "area-too-fine": Code(
        "The report names its area more exactly than the hub may know.", "Update this node, then send the report again."
    ),
    "id-conflict": Code("Another report has this id.", "Write the report anew; it gets another id."),
    "nothing-to-recall": Code(
        "The hub has no such report of this monitor's.", "Look in the outbox which reports were accepted."
    ),
    "future-dated": Code("The report's day lies in the future.", "Check the day, and this machine's clock."),
    "stale-policy": Code("The report was sealed under rules that hold no longer.", "Seal it anew.", True),
    "policy-unknown": Code("The report was sealed under rules the hub has not got.", "Try again later.", True),
    "replayed": Code("The report is not of the monitor that sent it.", "Send only reports of your own."),
    "over-quota": Code("Too many reports in too short a time.", "It is sent later by itself.", True),
    "storage-full": Code("The hub's storage is full.", "It is sent later by itself; tell the operator.", True),
    "hub-unavailable": Code("The hub cannot take reports now.", "It is sent later by itself.", True),
}
RETRY_AFTER: Final = {
    "storage-full": 60,
    "hub-unavailable": 5,
    "policy-unknown": 5,
    "stale-policy": 0,
    "list-expired": 600,
}
"""Seconds, where the hub names none."""

_Octets = bytes  # a leaf has a field of that name
Bits = Annotated[int, Field(ge=0, le=ALL_BITS)]
Salt = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{21}[AQgw]$")]
Moment = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")]
"""A second of UTC."""
Decisions = Annotated[
    tuple[
        Annotated[
            tuple[OfficeId, Bits, Bits, Annotated[tuple[RuleId, ...], Items, Field(max_length=len(GRANTABLE))]], Items
        ],
        ...,
    ],
    Items,
    Field(max_length=MAX_DECISIONS),
]
"""An office, the compartments released to it, those withheld, and the ids of the rules that decided; for each.

One rule is named for each compartment, so that whatever the rules are, the largest leaf there can be fits a receipt.
"""


class Leaf(Model):
    """What the audit log says of one report or recall: who is given what, under which rules. Salted; no content.

    ``recalls`` is the digest of what a recall takes back.
    """

    v: Exactly1 = 1
    kind: Literal["report", "recall"] = "report"
    salt: Salt
    digest: Bytes32
    bytes: Bytes32
    policy: Annotated[int, Field(ge=0, le=2**53)]
    at: Moment
    decisions: Decisions
    recalls: Bytes32 | None = None

    @model_validator(mode="after")
    def _recalls_one(self) -> Self:
        if (self.recalls is not None) != (self.kind == "recall"):
            raise bad("names a recalled report without being a recall's, or the reverse", "Update this program.")
        return self

    def canonical(self) -> _Octets:
        """The leaf's one byte string: what is hashed into the log."""
        return canonical(self.model_dump(mode="json", exclude_none=True))


def read_leaf(data: bytes) -> Leaf:
    """The leaf in ``data``. Raises Malformed, also if it is not spelt as :meth:`Leaf.canonical` spells it."""
    leaf = read(Leaf, loads(data, max_bytes=MAX_RECEIPT))
    if leaf.canonical() != data:
        raise Malformed("malformed", "A leaf of the log is not in its one spelling.")
    return leaf


@dataclass(frozen=True, slots=True)
class Receipt:
    """A verified receipt. ``leaf`` and ``index`` (of the log) stand in those that say ``accepted`` only."""

    code: str
    sentence: str
    mend: str
    retryable: bool
    retry_after: int | None
    leaf: Leaf | None = None
    index: int | None = None
    repeat: bool = False

    @property
    def accepted(self) -> bool:
        return self.code == ACCEPTED


def accepted(report_id: str, digest: bytes, bytes_digest: bytes, leaf: bytes, proof: str, *, repeat: bool) -> bytes:
    """A receipt that is a proof.

    Args:
        report_id: the report's.
        digest: of what is signed in it (:attr:`~kengele_schemas.envelope.Envelope.digest`).
        bytes_digest: SHA-256 of all that was sent.
        leaf: the entry's bytes.
        proof: that it is in the log (:func:`~kengele_schemas.checkpoint.write_proof`).
        repeat: whether the report was there already.
    """
    return dumps(
        {
            "v": 1,
            "code": ACCEPTED,
            "id": report_id,
            "digest": b64u(digest),
            "bytes": b64u(bytes_digest),
            "leaf": leaf.decode("utf-8"),
            "proof": proof,
            "repeat": repeat,
        }
    )


def refused(
    code: str,
    report_id: str | None,
    digest: bytes | None,
    bytes_digest: bytes,
    *,
    retry_after: int | None,
    key: SigningKey,
) -> bytes:
    """A refusal, signed with the hub's ``key``. An unknown ``code`` is told as ``malformed``."""
    code = code if code in CODES and code != ACCEPTED else "malformed"
    after = RETRY_AFTER.get(code) if retry_after is None else min(retry_after, MAX_RETRY)
    body: dict[str, Any] = {
        "v": 1,
        "code": code,
        "sentence": CODES[code].sentence,
        "mend": CODES[code].mend,
        "id": report_id,
        "digest": None if digest is None else b64u(digest),
        "bytes": b64u(bytes_digest),
        "retry_after": after,
    }
    return dumps({**body, "signature": b64u(key.sign(_REFUSAL + canonical(body)).signature)})


class _Accepted(Model):
    v: Exactly1
    code: Literal["accepted"]
    id: ReportId
    digest: Bytes32
    bytes: Bytes32
    leaf: Annotated[str, Field(max_length=MAX_RECEIPT)]
    proof: Annotated[str, Field(max_length=MAX_RECEIPT)]
    repeat: bool


class _Refused(Model):
    v: Exactly1
    code: str
    sentence: Annotated[str, Field(max_length=500)]
    mend: Annotated[str, Field(max_length=500)]
    id: ReportId | None
    digest: Bytes32 | None
    bytes: Bytes32
    retry_after: Annotated[int, Field(ge=0, le=MAX_RETRY)] | None
    signature: Annotated[str, Field(max_length=86)]


def _bad() -> Untrusted:
    return Untrusted("bad-receipt", "The hub's receipt does not hold.", "The report stays here and is sent again.")


def read_receipt(data: bytes, hub_key: bytes, origin: str, bytes_digest: bytes) -> Receipt:
    """The receipt in ``data``, checked against what was sent.

    Args:
        hub_key: the hub's verify key, from the roster.
        origin: the name of the hub's log, from the roster.
        bytes_digest: SHA-256 of the envelope as it was sent.

    Raises:
        Untrusted: ``bad-receipt``: not signed by this hub, about another report, or not in the log.
    """
    try:
        document = loads(data, max_bytes=MAX_RECEIPT)
        if isinstance(document, dict) and document.get("code") == ACCEPTED:
            return _read_accepted(read(_Accepted, document), hub_key, origin, b64u(bytes_digest))
        return _read_refused(document, hub_key, b64u(bytes_digest))
    except KengeleError:
        raise _bad() from None


def _read_accepted(found: _Accepted, hub_key: bytes, origin: str, sent: str) -> Receipt:
    raw = found.leaf.encode("utf-8")
    leaf = read_leaf(raw)
    if found.bytes != sent or leaf.bytes != sent or leaf.digest != found.digest:
        raise _bad()
    index, _ = verify_proof(found.proof, leaf_hash(raw), origin, hub_key)
    code = CODES[ACCEPTED]
    return Receipt(ACCEPTED, code.sentence, code.mend, False, None, leaf, index, found.repeat)


def _read_refused(document: Any, hub_key: bytes, sent: str) -> Receipt:
    found = read(_Refused, document)
    body = {name: value for name, value in document.items() if name != "signature"}
    if found.bytes != sent or not verify_signature(hub_key, _REFUSAL + canonical(body), unb64u(found.signature)):
        raise _bad()
    code = CODES.get(found.code)
    if code is None:
        # A newer hub's code: its own words are shown, and nothing is given up for it.
        return Receipt(found.code, found.sentence, found.mend, False, found.retry_after)
    return Receipt(found.code, code.sentence, code.mend, code.retryable, found.retry_after)
