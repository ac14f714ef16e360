"""Invitations: how somebody joins over the hub, or by files, whom a coordinator has invited.

The invitation holds a token of 128 bits that is the seed of a key; what the coordinators and the hub keep is that key's
public half, in terms signed by the inviter. The newcomer commits to the join request, a coordinator answers with random
bytes, and only then the request is shown. Both compute eight digits from all of it; the newcomer reads them out.
Whoever stands between must choose before knowing what the digits depend on, and hits them once in 10^8 invitations.
The digits depend on the terms, too, and so on the inviter: nobody else can answer, whatever the hub says.
(S. Vaudenay, "Secure Communications over Insecure Channels Based on Short Authenticated Strings", CRYPTO 2005.)

    >>> commitment = Commitment.of(token, request, nonce)
    >>> reveal = Reveal.of(token, request, nonce)
    >>> reveal.check(terms, commitment)
    >>> digits(terms, request, nonce, answer_nonce, root_digest)
    '1234 5678'
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar

from nacl.signing import SigningKey
from pydantic import Field

from . import links
from .cards import Areas, Card, CoordinatorId, Joiner, JoinRequest, NetworkCard, Urls, coordinator_id, read_card
from .encoding import b64u, canonical, length_prefixed, unb64u
from .errors import KengeleError, Malformed, Refused, Untrusted
from .fields import Bytes32, Exactly1, Line, Model, OfficeId, read
from .keys import fingerprint, verify_signature
from .roster import Signature, SigningPublic

LONGEST: Final = 14 * 24 * 3600
"""Seconds that an invitation may stand open."""
LINK: Final = links.LINK
_SEED: Final = b"kengele-invitation-v1\0"
_COMMIT: Final = b"kengele-commit-v1\0"
_DIGITS: Final = b"kengele-join-digits-v2\0"
_Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{21}[AQgw]$")]
InvitationId = Annotated[str, Field(pattern=r"^i-[a-z2-7]{26}$")]
_S = TypeVar("_S", bound="Signed")


def new_token() -> str:
    """A token for one invitation."""
    return b64u(secrets.token_bytes(16))


def key_of(token: str) -> SigningKey:
    """The key that whoever has ``token`` signs with."""
    return SigningKey(hashlib.sha256(_SEED + unb64u(token)).digest())


def invitation_id(key: str) -> str:
    """An invitation's id, from the public half of its key."""
    return "i-" + fingerprint(unb64u(key))


class Signed(Card):
    """A card with one signature, whose words cannot be taken for another kind's."""

    unsigned: ClassVar[frozenset[str]] = frozenset(("signature",))
    v: Exactly1 = 1
    signature: Signature = ""

    @classmethod
    def sign(cls, said: dict[str, Any], key: SigningKey) -> Self:
        card = read(cls, said)
        return card.model_copy(update={"signature": b64u(key.sign(card._message()).signature)})

    def _message(self) -> bytes:
        document = self.model_dump(mode="json", exclude_none=True, exclude=set(self.unsigned))
        return b"kengele-" + type(self).__name__.lower().encode("ascii") + b"-v1\0" + canonical(document)

    def verify(self, key: bytes) -> None:
        """Raises Untrusted, ``bad-card``."""
        if not verify_signature(key, self._message(), unb64u(self.signature)):
            raise _untrusted()


class OfficeName(Model):
    """Which office is invited."""

    id: OfficeId
    name: Annotated[str, Line(120)]


class Terms(Signed):
    """What an invitation lets in, signed by who invites; ``expires`` and ``at`` in Unix seconds.

    ``replaces`` is the member whose keys are lost, in whose place the newcomer comes.
    """

    key: SigningPublic
    role: Literal["monitor", "office"]
    areas: Areas
    office: OfficeName | None = None
    replaces: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,40}$")] | None = None
    inviter: CoordinatorId
    root_digest: Bytes32
    at: Annotated[int, Field(ge=0, le=2**53)]
    expires: Annotated[int, Field(ge=0, le=2**53)]

    @property
    def id(self) -> str:
        return invitation_id(self.key)

    def check(self, coordinators: dict[str, bytes]) -> None:
        """Checks that one of ``coordinators`` (keys by id) has signed these.

        Raises:
            Untrusted: ``bad-card``.
            Malformed: ``bad-card``: they do not fit together.
        """
        key = coordinators.get(self.inviter)
        if key is None:
            raise _untrusted()
        self.verify(key)
        if (self.office is None) != (self.role == "monitor") or not 0 < self.expires - self.at <= LONGEST:
            raise _bad()
        if self.office is not None and self.replaces not in (None, self.office.id):
            raise _bad()

    def fits(self, request: JoinRequest) -> None:
        """Raises Refused, ``another-request``, where ``request`` asks for something else than was offered."""
        office = request.office
        named = OfficeName(id=office.id, name=office.name) if office else None
        if (request.role, request.areas, named) != (self.role, self.areas, self.office):
            raise Refused(
                "another-request",
                "This request asks for another role, areas or name than the invitation offers.",
                "Deny it, and invite anew with what is right.",
            )


class Invitation(Card):
    """What the newcomer is given. Whoever has it can ask to be let in, once, in the newcomer's place."""

    v: Exactly1 = 1
    network: NetworkCard
    terms: Terms
    token: _Token = Field(repr=False)

    def check(self) -> None:
        """Raises Untrusted, ``bad-card``, where the parts do not belong together."""
        key = b64u(bytes(key_of(self.token).verify_key))
        if self.terms.key != key or self.terms.root_digest != self.network.root_digest:
            raise _untrusted()

    def link(self) -> str:
        """The invitation as a text: what must not come from the hub; all else does."""
        network = self.network
        said = {
            "urls": list(network.urls),
            "join": network.join.model_dump(mode="json"),
            "token": self.token,
            "root": network.root_digest,
        }
        return links.pack({**said, **({"ca": network.ca} if network.ca else {})})


class Link(Model):
    """An invitation's link, read."""

    urls: Urls
    join: Joiner
    token: _Token = Field(repr=False)
    root: Bytes32
    ca: Annotated[str, Field(max_length=64 * 1024)] | None = None

    @classmethod
    def parse(cls, text: str) -> Link:
        """The link in ``text``. Raises Malformed, ``bad-invitation``."""
        try:
            return read(cls, links.unpack(text))
        except KengeleError:
            raise links.bad_link() from None

    def invitation(self, name: str, root: str, terms: Any) -> Invitation:
        """The whole of it, with the hub's part. Raises Malformed, Untrusted if that is not what was meant."""
        network = {
            "name": name,
            "urls": list(self.urls),
            "join": self.join.model_dump(mode="json"),
            "root": root,
            "root_digest": self.root,
            **({"ca": self.ca} if self.ca else {}),
        }
        found = read(Invitation, {"network": network, "terms": terms, "token": self.token})
        found.check()
        return found


class Commitment(Signed):
    """The newcomer's first word: a digest of the request and of random bytes, both still hidden.

    It names no key: who learns a newcomer's keys before she has shown her signed request could speak of them first.
    """

    invitation: InvitationId
    digest: Bytes32

    @classmethod
    def of(cls, token: str, request: JoinRequest, nonce: bytes) -> Commitment:
        """The commitment to ``request``, hidden by ``nonce`` (32 random bytes)."""
        return cls.sign({"invitation": _id(token), "digest": b64u(_committed(request, nonce))}, key_of(token))

    def check(self, terms: Terms) -> None:
        """Raises Untrusted, ``bad-card``, if it does not come from who has the token."""
        if self.invitation != terms.id:
            raise _untrusted()
        self.verify(unb64u(terms.key))


class Answer(Signed):
    """The inviter's random bytes, chosen for one commitment only; ``coordinator`` is the id of her ``key``."""

    invitation: InvitationId
    digest: Bytes32
    nonce: Bytes32
    coordinator: CoordinatorId
    key: SigningPublic

    @classmethod
    def to(cls, commitment: Commitment, nonce: bytes, key: SigningKey) -> Answer:
        """The answer of the coordinator who signs with ``key``."""
        said = {"invitation": commitment.invitation, "digest": commitment.digest, "nonce": b64u(nonce)}
        public = bytes(key.verify_key)
        return cls.sign({**said, "coordinator": coordinator_id(public), "key": b64u(public)}, key)

    def check(self, terms: Terms, commitment: Commitment) -> None:
        """Checks that the inviter herself answers ``commitment``, and that she signed ``terms``.

        A newcomer knows no coordinator's key. Terms that the hub made up, with an inviter of its own, give other
        digits.

        Raises:
            Untrusted: ``another-answer``.
        """
        key = unb64u(self.key)
        try:
            if (self.invitation, self.digest) != (commitment.invitation, commitment.digest):
                raise _untrusted()
            if not self.coordinator == terms.inviter == coordinator_id(key):
                raise _untrusted()
            self.verify(key)
            terms.verify(key)
        except Untrusted:
            raise Untrusted(
                "another-answer",
                "This answer is not to this request, or not by the coordinator who invited.",
                "Do not read out any digits; tell the coordinator.",
            ) from None


class Reveal(Signed):
    """What the newcomer had committed to."""

    invitation: InvitationId
    request: JoinRequest
    nonce: Bytes32

    @classmethod
    def of(cls, token: str, request: JoinRequest, nonce: bytes) -> Reveal:
        """Opens the commitment to ``request`` under ``nonce``."""
        said = {"invitation": _id(token), "request": request.model_dump(mode="json", exclude_none=True)}
        return cls.sign({**said, "nonce": b64u(nonce)}, key_of(token))

    def check(self, terms: Terms, commitment: Commitment) -> None:
        """Checks that this opens ``commitment``, by who has the token, and that its request is well signed.

        Raises:
            Untrusted: ``bad-card`` or ``another-request``.
        """
        if self.invitation != terms.id or commitment.invitation != terms.id:
            raise _untrusted()
        self.verify(unb64u(terms.key))
        if b64u(_committed(self.request, unb64u(self.nonce))) != commitment.digest:
            raise Untrusted(
                "not-as-committed",
                "What is shown now is not what the newcomer had committed to.",
                "Deny it: somebody stands between. Invite anew, over another way.",
            )
        self.request.check()


def digits(terms: Terms, request: JoinRequest, nonce: bytes, answer: bytes, root_digest: str) -> str:
    """Eight digits that the newcomer reads out and the coordinator types.

    Args:
        terms: the invitation's, as each of both has them.
        request: of the newcomer.
        nonce: with which it was committed to.
        answer: the coordinator's random bytes.
        root_digest: of the network that each of both means.
    """
    parts = (terms._message(), _words(request), nonce, answer, unb64u(root_digest))
    number = int.from_bytes(hashlib.sha256(_DIGITS + length_prefixed(*parts)).digest()[:8], "big") % 10**8
    return f"{number // 10**4:04d} {number % 10**4:04d}"


def read_signed(value: Any, model: type[_S]) -> _S:
    """The card in ``value``, which is JSON text or what was read from it. Raises Malformed, ``bad-card``."""
    if isinstance(value, bytes):
        return read_card(value, model)
    try:
        return read(model, value)
    except Malformed as error:
        raise Malformed("bad-card", f"This is not the card that is needed. {error.sentence}", error.mend) from None


def _id(token: str) -> str:
    return invitation_id(b64u(bytes(key_of(token).verify_key)))


def _words(request: JoinRequest) -> bytes:
    return canonical(request.model_dump(mode="json", exclude_none=True))


def _committed(request: JoinRequest, nonce: bytes) -> bytes:
    return hashlib.sha256(_COMMIT + length_prefixed(_words(request), nonce)).digest()


def _untrusted() -> Untrusted:
    return Untrusted("bad-card", "A card's signature does not hold.", "Ask for it again, from the person in question.")


def _bad() -> Malformed:
    return Malformed("bad-card", "This invitation does not say whom it lets in.", "Make it anew.")
