"""Cards: the small files that people hand each other when a network is founded or somebody joins.

A join request is signed by every key it names, so nobody can put another's key into it; who hands it over is settled
between people, by the digits that both sides read out.

    >>> request = JoinRequest.for_monitor(key, nkey, ("KG-O",))
    >>> read_card(request.encode(), JoinRequest).digits() == request.digits()
    True
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar

from nacl.signing import SigningKey
from pydantic import Field, model_validator

from . import nkeys
from .encoding import b64u, canonical, loads, network_of, unb64u
from .errors import Malformed, Untrusted
from .fields import AreaCode, Bytes32, Exactly1, Items, Line, Model, MonitorId, OfficeId, bad, read
from .keys import OpeningPublic, fingerprint, monitor_id, verify_signature
from .nkeys import KeyPair
from .roster import MAX_KEYS, Nkey, OfficeKey, Signature, SigningPublic

MAX_CARD: Final = 256 * 1024
_JOIN: Final = b"kengele-join-v1\0"
_COORDINATOR: Final = b"kengele-coordinator-v1\0"
_Url = Annotated[str, Field(pattern=r"^(nats|tls|ws|wss)://[^\s@]{1,200}$")]
Urls = Annotated[tuple[_Url, ...], Items, Field(min_length=1, max_length=8)]
CoordinatorId = Annotated[str, Field(pattern=r"^c-[a-z2-7]{26}$")]
Areas = Annotated[tuple[AreaCode, ...], Items, Field(min_length=1, max_length=100)]


class Card(Model):
    """A file of one JSON object. ``wanted`` is what people call it."""

    wanted: ClassVar[str] = "the card that is needed"

    def encode(self) -> bytes:
        """The card as it is handed over."""
        document = self.model_dump(mode="json", exclude_none=True)
        return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode("utf-8")


class Joiner(Model):
    """The broker credentials of who is not in yet; they let ask for one's own credentials and nothing else."""

    jwt: Annotated[str, Field(max_length=4096)]
    seed: Annotated[str, Field(pattern=r"^SU[A-Z2-7]{56}$")] = Field(repr=False)


class HubCard(Card):
    """From the hub's operator to the coordinators: all they need to found a network on it. ``token`` works once.

    ``ca`` is a PEM certificate, where the hub's is not from a public authority.
    """

    wanted: ClassVar[str] = "a hub's card (hub-card.json)"
    v: Exactly1 = 1
    urls: Urls
    hub_key: SigningPublic
    snapshot_key: SigningPublic
    timestamp_key: SigningPublic
    log: str
    join: Joiner
    token: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{21}[AQgw]$")] = Field(repr=False)
    ca: Annotated[str, Field(max_length=64 * 1024)] | None = None


class NetworkCard(Card):
    """From a coordinator to whoever joins: where the network is, and the root of all trust in it.

    ``root`` is the first root metadata; ``ca`` a PEM certificate, where the hub's is not from a public authority.
    """

    wanted: ClassVar[str] = "a network's card (network.json)"
    v: Exactly1 = 1
    name: Annotated[str, Line(120)]
    urls: Urls
    join: Joiner
    root: Annotated[str, Field(max_length=64 * 1024)]
    root_digest: Bytes32
    ca: Annotated[str, Field(max_length=64 * 1024)] | None = None

    @model_validator(mode="after")
    def _same_root(self) -> Self:
        try:
            digest = network_of(unb64u(self.root))
        except Malformed:
            digest = ""
        if digest != self.root_digest:
            raise bad("does not fit the root's digest", "Ask for the card again.")
        return self


class CoordinatorCard(Card):
    """From one coordinator to the others: the key that will count when the network is founded or changed."""

    wanted: ClassVar[str] = "a coordinator's card (card.json)"
    v: Exactly1 = 1
    id: CoordinatorId
    key: SigningPublic
    nkey: Nkey
    name: Annotated[str, Line(80)] | None = None
    signature: Signature = ""

    @classmethod
    def of(cls, key: SigningKey, nkey: KeyPair, name: str | None = None) -> CoordinatorCard:
        """The card of the owner of ``key`` and ``nkey``."""
        public = bytes(key.verify_key)
        body = {"id": coordinator_id(public), "key": b64u(public), "nkey": nkey.public, "name": name}
        # Read first: a name is signed as it is read, whatever its spelling in Unicode was.
        card = read(cls, body)
        return card.model_copy(update={"signature": b64u(key.sign(_COORDINATOR + _said(card)).signature)})

    def check(self) -> None:
        key = unb64u(self.key)
        if self.id != coordinator_id(key):
            raise _untrusted()
        if not verify_signature(key, _COORDINATOR + _said(self), unb64u(self.signature)):
            raise _untrusted()

    def digits(self) -> str:
        """Sixteen digits by which two people know that they look at the same card."""
        return _digits(_said(self))


class OfficePart(Model):
    """What a join request says of an office."""

    id: OfficeId
    name: Annotated[str, Line(120)]
    keys: Annotated[tuple[OfficeKey, ...], Items, Field(min_length=1, max_length=MAX_KEYS)]
    sign: SigningPublic


class MonitorPart(Model):
    """What a join request says of a monitor."""

    kid: MonitorId
    key: SigningPublic


class JoinRequest(Card):
    """From who wants in to a coordinator: keys, role and areas. No name of a person."""

    wanted: ClassVar[str] = "a join request (join-request.json)"
    v: Exactly1 = 1
    role: Literal["monitor", "office"]
    nkey: Nkey
    areas: Areas
    monitor: MonitorPart | None = None
    office: OfficePart | None = None
    signature: Signature = ""
    nkey_signature: Signature = ""

    @classmethod
    def for_monitor(cls, key: SigningKey, nkey: KeyPair, areas: tuple[str, ...]) -> JoinRequest:
        """The request of a monitor who signs with ``key`` and connects with ``nkey``."""
        public = bytes(key.verify_key)
        part = {"kid": monitor_id(public), "key": b64u(public)}
        return cls._signed({"role": "monitor", "areas": list(areas), "monitor": part}, key, nkey)

    @classmethod
    def for_office(
        cls,
        key: SigningKey,
        nkey: KeyPair,
        *,
        id: str,
        name: str,
        areas: tuple[str, ...],
        keys: tuple[OpeningPublic, ...],
    ) -> JoinRequest:
        """The request of an office that opens with ``keys``."""
        part = {
            "id": id,
            "name": name,
            "keys": [public.document() for public in keys],
            "sign": b64u(bytes(key.verify_key)),
        }
        return cls._signed({"role": "office", "areas": list(areas), "office": part}, key, nkey)

    @classmethod
    def _signed(cls, said: dict[str, Any], key: SigningKey, nkey: KeyPair) -> JoinRequest:
        request = read(cls, {"nkey": nkey.public, **said})
        message = _JOIN + _said(request)
        signatures = {"signature": b64u(key.sign(message).signature), "nkey_signature": b64u(nkey.sign(message))}
        return request.model_copy(update=signatures)

    @property
    def member(self) -> str:
        """The monitor's kid or the office's id."""
        return self.monitor.kid if self.monitor else self.office.id if self.office else ""

    def check(self) -> None:
        if (self.monitor is None) == (self.office is None) or self.role != ("monitor" if self.monitor else "office"):
            raise Malformed("bad-card", "A join request does not say who asks.", "Ask for it again.")
        key = unb64u(self.monitor.key if self.monitor else self.office.sign if self.office else "")
        if self.monitor is not None and self.monitor.kid != monitor_id(key):
            raise _untrusted()
        if not verify_signature(key, _JOIN + _said(self), unb64u(self.signature)) or not self.by_nkey():
            raise _untrusted()

    def by_nkey(self) -> bool:
        """Whether the key on the bus signed this."""
        return nkeys.verify(self.nkey, _JOIN + _said(self), unb64u(self.nkey_signature))

    def digits(self) -> str:
        """Sixteen digits that the one who asks reads out, and the coordinator types."""
        return _digits(_said(self))


_C = TypeVar("_C", bound=Card)


def read_card(data: bytes, model: type[_C]) -> _C:
    """The card in ``data``, its signatures checked.

    Raises:
        Malformed: not a card of this kind.
        Untrusted: ``bad-card``.
    """
    try:
        card = read(model, loads(data, max_bytes=MAX_CARD))
    except Malformed as error:
        raise Malformed(
            "bad-card", f"This is not {model.wanted}. {error.sentence}", "Look whether it is the right file, and whole."
        ) from None
    if isinstance(card, CoordinatorCard | JoinRequest):
        card.check()
    return card


def coordinator_id(key: bytes) -> str:
    """A coordinator's id, from the key that signs roster and policy."""
    return "c-" + fingerprint(key)


def _document(card: Card) -> dict[str, Any]:
    document = card.model_dump(mode="json", exclude_none=True)
    return {name: value for name, value in document.items() if name not in ("signature", "nkey_signature")}


def _said(card: Card) -> bytes:
    return canonical(_document(card))


def _digits(said: bytes) -> str:
    # Whoever carries a request may look for keys of their own that give the same digits, with all the time there is
    # until it is handed over. So there are many, and each attempt takes 64 MiB and a good part of a second.
    found = hashlib.scrypt(said, salt=b"kengele-digits-v2\0", n=2**16, r=8, p=1, maxmem=2**27, dklen=8)
    digits = f"{int.from_bytes(found, 'big') % 10**16:016d}"
    return " ".join(digits[at : at + 4] for at in range(0, 16, 4))


def _untrusted() -> Untrusted:
    return Untrusted("bad-card", "A card's signature does not hold.", "Ask for it again, from the person in question.")
