"""Orders: recalls by the coordinators together, as they sign them in ``recalls.json``.

An order names no report. Its mark is a digest of the report's random id, so that who has the report, or was to have it,
finds it, and nobody else learns which it is. An order stays for good and can only be made stricter: nothing gives back.

A **notice** is the hub's word to an office that an order is about a report that was released to it: a desk that was off
while the report was taken out of its feed has no other way to the id. It takes nothing by itself, and explains a
missing number only by what the report's author signed: the hub may name any author.

    >>> order = Order(mark=mark_of(report_id), keep=("summary",))
    >>> said = Notice(id=order_id, report=report_id, kid=kid, keep=order.keep)
    >>> read_notice(sign_notice(said, hub_key), bytes(hub_key.verify_key)).report
    '6wCkK0dMs0G9eJxZ1mW2xQ'
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, get_args

from nacl.signing import SigningKey
from pydantic import AfterValidator, Field

from .encoding import b64u, canonical, loads, unb64u
from .envelope import TENSION_REPORT, Envelope, read_payload
from .errors import Malformed, Refused, Untrusted
from .fields import Bytes32, Exactly1, Items, Model, MonitorId, ReportId, bad, read
from .keys import verify_signature
from .recall import left
from .report import Keep

RECALLS: Final = "recalls.json"
MAX_ORDERS: Final = 4000
"""Of a network, for good; so many fit into one request to the hub."""
_MARK: Final = b"kengele-recall-v1\0"
_ORDER: Final = b"kengele-order-v1\0"
_CONTEXT: Final = b"kengele-notice-v1."
_MAX_NOTICE: Final = 48 * 1024
_MAX_PROOF: Final = 24 * 1024
_FIRST: Final = b'{"notice":'

Reason = Literal["consent", "error", "safety"]
"""Someone whom it speaks of wants it gone; it is wrong; it endangers someone. Every office reads it."""
REASONS: Final[tuple[str, ...]] = get_args(Reason)


class Order(Model):
    """One report is recalled, or all of it but ``keep``."""

    mark: Bytes32
    keep: Keep | None = None
    reason: Reason | None = None

    @property
    def digest(self) -> bytes:
        """What an office confirms."""
        return hashlib.sha256(_ORDER + canonical(self.model_dump(mode="json", exclude_none=True))).digest()


def _in_order(orders: tuple[Order, ...]) -> tuple[Order, ...]:
    # By their marks, so that their places do not tell which came when.
    if [order.mark for order in orders] != sorted({order.mark for order in orders}):
        raise bad("is not sorted by its marks or has one twice", "Sort the recalls and name each report once.")
    return orders


class RecallsFile(Model):
    """``recalls.json``: every recall by the coordinators that ever was. Monitors are not served it."""

    v: Exactly1 = 1
    recalls: Annotated[tuple[Order, ...], Items, Field(max_length=MAX_ORDERS), AfterValidator(_in_order)]

    def by_mark(self) -> dict[str, Order]:
        return {order.mark: order for order in self.recalls}


class Notice(Model):
    """What a notice says: the ``report`` of ``kid`` is recalled; ``id`` is the notice's own, the hub's choice.

    ``numbered`` is false for an office that had the report by a share alone: no number is missing there. Else ``proof``
    is the report's payload and its author's signature, see :func:`proof_of`.
    """

    v: Exactly1 = 1
    id: ReportId
    report: ReportId
    kid: MonitorId
    keep: Keep | None = None
    numbered: bool = True
    proof: Annotated[str, Field(max_length=_MAX_PROOF)] | None = None


def mark_of(report_id: str) -> str:
    """The mark of the report with this id."""
    return b64u(hashlib.sha256(_MARK + report_id.encode("utf-8")).digest())


def narrows(new: Order, old: Order) -> bool:
    """Whether ``new`` takes away all that ``old`` takes, and something besides."""
    before, after = left([old.keep]), left([new.keep])
    return before & after == after != before


def check_follows(after: Mapping[str, Order], before: Mapping[str, Order]) -> None:
    """Checks that of the orders ``before``, by mark, each is in ``after`` as it was, or stricter.

    Raises:
        Refused: ``gives-back``.
    """
    for mark, order in before.items():
        new = after.get(mark)
        if new is None or (new != order and not narrows(new, order)):
            raise Refused(
                "gives-back",
                "A recall by the coordinators is left out, or takes less than before.",
                "A recall holds for good. Make the draft anew from what is in force.",
            )


def sign_notice(said: Notice, key: SigningKey) -> bytes:
    """What ``said`` says, signed with the hub's key."""
    text = b64u(canonical(said.model_dump(mode="json", exclude_none=True)))
    return canonical({"notice": text, "signature": b64u(key.sign(_CONTEXT + text.encode("ascii")).signature)})


def proof_of(envelope: Envelope) -> str:
    """What shows who wrote the report in ``envelope``, without a ciphertext."""
    return f"{envelope.payload}.{envelope.signature}"


def check_proof(said: Notice, author: bytes, network: str) -> None:
    """Checks that the owner of the verify key ``author`` wrote the report of which ``said`` speaks, for ``network``.

    Raises:
        Untrusted: ``bad-signature``.
        Malformed: the proof is not one.
    """
    payload, _, signature = (said.proof or "").partition(".")
    signed = f"{TENSION_REPORT.protected}.{payload}"
    if not signed.isascii() or not verify_signature(author, signed.encode("ascii"), unb64u(signature)):
        raise _unproved()
    claims, _, _ = read_payload(TENSION_REPORT, payload)
    about = tuple(claims.get(name) for name in ("net", "kid", "id", "kind"))
    if about != (network, said.kid, said.report, "report"):
        raise _unproved()


def _unproved() -> Untrusted:
    return Untrusted("bad-signature", "A notice names an author who did not sign the report.")


def is_notice(data: bytes) -> bool:
    """Whether ``data`` can be nothing else than a notice: its one spelling begins as no envelope's or marker's does."""
    return data.startswith(_FIRST)


def read_notice(data: bytes, hub_key: bytes | None = None) -> Notice:
    """The notice in ``data``, checked by ``hub_key``; unchecked where none is given.

    Raises:
        Malformed: not a notice, or not in its one spelling.
        Untrusted: ``bad-signature``.
    """
    outer: Any = loads(data, max_bytes=_MAX_NOTICE)
    if not isinstance(outer, dict) or set(outer) != {"notice", "signature"} or canonical(outer) != data:
        raise Malformed("malformed", "This is no notice of a recall.")
    text, signature = outer["notice"], outer["signature"]
    if not isinstance(text, str) or not isinstance(signature, str) or not text.isascii():
        raise Malformed("malformed", "A notice's parts are not texts.")
    if hub_key is not None and not verify_signature(hub_key, _CONTEXT + text.encode("ascii"), unb64u(signature)):
        raise Untrusted("bad-signature", "A notice is not signed by the network's hub.")
    return read(Notice, loads(unb64u(text), max_bytes=_MAX_NOTICE))
