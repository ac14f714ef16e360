"""Sharing: a wrap made later, by whoever may, for an office that the rules have come to give a report.

The report stays as its author signed it; only a wrap of the keys to its compartments is new. Its author signs it, or
the network's custodian, and in it for which office and report of which network it is: so it opens nothing elsewhere.
It travels, as does what the office holds of it, in lines before the envelope:

    >>> made = make_share(reader, keys, report=report_id, core=core, by=kid, network=log, day=today, key=signing_key)
    >>> (share,), envelope = split(join([made], stripped))
    >>> verified(share, parse(envelope), trusted)[1]
    'author'
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Final, Literal, Self

from nacl.signing import SigningKey
from pydantic import Field, model_validator

from .encoding import b64u, canonical, loads, unb64u
from .envelope import TENSION_REPORT, Envelope, Wrap, parse, wrap_length
from .errors import KengeleError, Malformed, Untrusted
from .fields import Bytes32, Day, Exactly1, Model, OfficeId, ReportId, bad, read
from .keys import OpeningKey, verify_signature
from .sealing import Opened, Reader, open_envelope, wrap
from .trusted import Trusted

By = Literal["author", "custodian"]
MAX_SHARE: Final = 4096
_CONTEXT: Final = b"kengele-share-v1\0"
_START: Final = b'{"by":'


class Share(Model):
    """What is signed: ``by`` is a monitor's ``kid`` or an office's id, ``network`` the origin of its log."""

    v: Exactly1 = 1
    by: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,40}$")]
    network: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9./-]{0,63}$")]
    report: ReportId
    core: Bytes32
    office: OfficeId
    day: Day
    suite: Literal["X25519", "MLKEM768_X25519"]
    wrap: Annotated[str, Field(max_length=MAX_SHARE)]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        try:
            whole = len(self.wrap) == wrap_length(TENSION_REPORT, self.suite) and unb64u(self.wrap)
        except KengeleError:
            whole = b""
        if not whole:
            raise bad("holds no wrap of its suite", "Make it anew.")
        return self

    @property
    def later(self) -> tuple[str, Wrap]:
        """As :func:`~kengele_schemas.sealing.open_envelope` takes it."""
        return self.by, Wrap(self.office, self.suite, self.wrap)


def make_share(
    reader: Reader,
    keys: Mapping[str, bytes],
    *,
    report: str,
    core: bytes,
    by: str,
    network: str,
    day: date,
    key: SigningKey,
) -> bytes:
    """A share for ``reader`` of the compartments in its bits that are among ``keys``, signed with ``key``."""
    made = wrap(TENSION_REPORT, reader, core, keys, by=by)
    share = Share(
        by=by,
        network=network,
        report=report,
        core=b64u(core),
        office=made.office,
        day=day,
        suite=made.suite,  # type: ignore[arg-type]
        wrap=made.text,
    )
    said = share.model_dump(mode="json")
    return canonical({**said, "signature": b64u(key.sign(_CONTEXT + canonical(said)).signature)})


def read_share(data: bytes, key: bytes | None = None) -> Share:
    """The share in ``data``, checked by the sharer's verify ``key``; unchecked where none is given.

    Raises:
        Malformed: not a share, or not in its one spelling.
        Untrusted: ``bad-signature``.
    """
    document: Any = loads(data, max_bytes=MAX_SHARE)
    if not isinstance(document, dict) or canonical(document) != data:
        raise _malformed()
    signature = document.pop("signature", None)
    share = read(Share, document)
    if not isinstance(signature, str) or canonical(share.model_dump(mode="json")) != canonical(document):
        raise _malformed()
    if key is not None and not verify_signature(key, _CONTEXT + canonical(document), unb64u(signature)):
        raise Untrusted("bad-signature", "A share is not signed by whom it names.")
    return share


def verified(data: bytes, envelope: Envelope, trusted: Trusted) -> tuple[Share, By]:
    """The share in ``data`` of the report in ``envelope``, and whose it is: nobody's but its author's or the
    custodian's counts.

    Raises:
        Malformed: not a share.
        Untrusted: ``not-as-shared``: for another report or network; ``not-the-sharer``; ``bad-signature``.
    """
    said = read_share(data)
    about = (said.network, said.report, said.core)
    if about != (trusted.network.log, envelope.claims.get("id"), b64u(envelope.core)):
        raise Untrusted("not-as-shared", "A share is of another report, or of another network's.")
    author = trusted.monitors.get(said.by) if said.by == envelope.claims.get("kid") else None
    office = trusted.offices.get(said.by) if said.by == trusted.network.custodian else None
    if author is not None:
        return read_share(data, unb64u(author.key)), "author"
    if office is not None:
        return read_share(data, unb64u(office.sign)), "custodian"
    raise Untrusted("not-the-sharer", "Only its author or the network's custodian shares a report.")


def join(shares: Sequence[bytes], envelope: bytes) -> bytes:
    """``envelope`` behind the ``shares`` that open it."""
    return b"\n".join((*shares, envelope))


def is_shared(data: bytes) -> bool:
    """Whether ``data`` begins as a share does, which neither an envelope nor a marker does."""
    return data.startswith(_START)


def split(data: bytes) -> tuple[list[bytes], bytes]:
    """The shares, if any, and the envelope in ``data``. None of them holds a line break."""
    *shares, envelope = data.split(b"\n")
    return shares, envelope


def open_held(data: bytes, office: str, keys: Iterable[OpeningKey], author: bytes) -> tuple[Envelope, Opened]:
    """What an office holds, opened: an envelope, behind shares or not. Whose the shares are was seen when they came.

    Raises:
        As :func:`~kengele_schemas.sealing.open_envelope`.
    """
    shares, whole = split(data)
    envelope = parse(whole)
    return envelope, open_envelope(envelope, office, keys, author, [read_share(one).later for one in shares])


def _malformed() -> Malformed:
    return Malformed("malformed", "This is no share of a report.")
