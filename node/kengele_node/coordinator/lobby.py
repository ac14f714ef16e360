"""The lobby at the hub, as coordinators use it: inviting, answering who comes, comparing digits.

What the hub says of a guest is checked here, by the inviter's and the newcomer's signatures. A coordinator's random
bytes are chosen once for each invitation, when its one commitment is seen, and stay in the vault: whoever stands
between has one try.

    >>> guest = await answered(session, guest)
    >>> guest.compare("1234 5678", root_digest)
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from kengele_node.member import Member, Session
from kengele_schemas import invitations, metadata, subjects
from kengele_schemas.cards import JoinRequest, coordinator_id
from kengele_schemas.domain import Domain, Side
from kengele_schemas.encoding import b64u, dumps, loads, unb64u
from kengele_schemas.errors import Malformed, Refused, Untrusted
from kengele_schemas.invitations import Answer, Commitment, Invitation, OfficeName, Reveal, Terms, read_signed
from kengele_schemas.metadata import Files
from kengele_schemas.sight import Asked, all_of, matrix
from kengele_schemas.trusted import Trusted

_CHOSEN: Final = "guest."
_LOOK: Final = 1.0


@dataclass(frozen=True, slots=True)
class Guest:
    """Somebody who is invited, and what was said so far; all of it verified."""

    terms: Terms
    commitment: Commitment | None = None
    answer: Answer | None = None
    reveal: Reveal | None = None
    decision: str = ""
    admitted: bool = False

    @classmethod
    def read(cls, words: Mapping[str, Any], coordinators: dict[str, bytes]) -> Guest:
        """Raises Malformed, Untrusted where the hub gives what nobody signed."""
        terms = read_signed(words.get("terms"), Terms)
        terms.check(coordinators)
        commitment = read_signed(words["commitment"], Commitment) if "commitment" in words else None
        answer = read_signed(words["answer"], Answer) if "answer" in words else None
        reveal = read_signed(words["reveal"], Reveal) if "reveal" in words else None
        if commitment is not None:
            commitment.check(terms)
        if reveal is not None:
            if commitment is None:
                raise Malformed("bad-card", "The hub gives a request that nobody had announced.")
            reveal.check(terms, commitment)
        decision = words.get("decision", {}).get("decision", "")
        return cls(terms, commitment, answer, reveal, str(decision), words.get("admitted") is True)

    @property
    def member(self) -> str:
        """The newcomer's id in the roster, empty while it is not known."""
        if self.reveal is not None:
            return self.reveal.request.member
        return self.terms.office.id if self.terms.office else ""

    def state(self, now: float) -> str:
        """``open``, ``expired``, ``waiting``, ``answered``, ``ready``, ``approved``, ``denied`` or ``in``."""
        if self.admitted:
            return "in"
        if self.decision:
            return self.decision
        if self.commitment is None:
            return "expired" if now > self.terms.expires else "open"
        return "ready" if self.reveal else "answered" if self.answer else "waiting"


def own_id(member: Member) -> str:
    """The id of the coordinator at home in ``member``."""
    return coordinator_id(bytes(member.key.verify_key))


async def invite(
    session: Session,
    role: str,
    areas: Sequence[str],
    *,
    office: OfficeName | None,
    at: int,
    expires: int,
    replaces: str = "",
) -> Invitation:
    """Opens an invitation at the hub. Raises Refused, Unreachable."""
    member, token = session.member, invitations.new_token()
    said = {
        "key": b64u(bytes(invitations.key_of(token).verify_key)),
        "role": role,
        "areas": list(areas),
        "office": office,
        "inviter": own_id(member),
        "root_digest": member.card.root_digest,
        "at": at,
        "expires": expires,
        **({"replaces": replaces} if replaces else {}),
    }
    terms = Terms.sign(said, member.key)
    await _ask(session, {"do": "invite", "card": _document(terms)})
    return Invitation(network=member.card, terms=terms, token=token)


async def guests(session: Session, files: Files) -> list[Guest]:
    """All who are invited, those invited first first; what does not hold up is left out."""
    coordinators = metadata.coordinators(files)
    found = []
    for words in (await _ask(session, {"do": "list"})).get("invitations", []):
        try:
            found.append(Guest.read(words, coordinators))
        except (Malformed, Untrusted):
            continue
    return sorted(found, key=lambda guest: (guest.terms.at, guest.terms.id))


def find(found: Sequence[Guest], name: str) -> Guest:
    """The one guest whose id in the roster, or whose invitation, is or begins with ``name``.

    Raises:
        Refused: ``no-such-guest``.
    """
    whole = [guest for guest in found if name in (guest.member, guest.terms.id)]
    begun = [guest for guest in found if name and (guest.member.startswith(name) or guest.terms.id.startswith(name))]
    named = [guest for guest in whole or begun if guest.state(0) not in ("approved", "denied", "in")] or whole or begun
    if len(named) != 1:
        raise Refused(
            "no-such-guest",
            "Nobody, or more than one, is invited under that name.",
            "See: kengele coordinator members pending",
        )
    return named[0]


async def carry(session: Session, card: Commitment | Reveal) -> None:
    """Brings to the hub what came from a newcomer as a file."""
    word = "commit" if isinstance(card, Commitment) else "reveal"
    await _ask(session, {"do": word, "card": _document(card)})


async def answer(session: Session, guest: Guest) -> Guest:
    """Answers ``guest``'s commitment with random bytes of this coordinator's own, where she has invited.

    Raises:
        Refused: ``not-there-yet``; ``not-yours``: only the inviter answers and compares digits;
            ``answered-by-another``: the hub shows an answer that is not this one.
        Untrusted: ``another-request``: it is not the commitment that was answered first.
    """
    if guest.commitment is None:
        raise Refused("not-there-yet", "Nobody has come with this invitation yet.", "Wait for the newcomer.")
    member = session.member
    if guest.terms.inviter != own_id(member):
        raise Refused(
            "not-yours", f"{guest.terms.inviter} has invited this newcomer.", "Ask that coordinator, or invite anew."
        )
    mine = Answer.to(guest.commitment, _chosen(member, guest.commitment), member.key)
    if guest.answer is None:
        await _ask(session, {"do": "answer", "card": _document(mine)})
        return _with(guest, mine)
    if guest.answer != mine:
        raise Refused(
            "answered-by-another",
            "In the lobby stands an answer that this home did not give.",
            "Deny it, and invite anew, over another way.",
        )
    return guest


async def revealed(session: Session, guest: Guest, files: Files, wait: float) -> Guest:
    """``guest`` once its request is there. Raises Refused, ``not-there-yet``, after ``wait`` seconds."""
    end = asyncio.get_running_loop().time() + wait
    while guest.reveal is None:
        if asyncio.get_running_loop().time() >= end:
            raise Refused(
                "not-there-yet",
                "The newcomer has been answered, and has not shown its request yet.",
                "Let it run, or ask for its file; then approve again.",
            )
        await asyncio.sleep(min(_LOOK, wait))
        current = find(await guests(session, files), guest.terms.id)
        guest = Guest(guest.terms, guest.commitment, guest.answer, current.reveal, current.decision, current.admitted)
        if guest.reveal is not None and guest.commitment is not None:
            guest.reveal.check(guest.terms, guest.commitment)
    return guest


def compare(member: Member, guest: Guest, typed: str) -> JoinRequest:
    """The request of ``guest``, whose digits were ``typed``.

    Raises:
        Refused: ``digits-differ``; ``another-request``; ``not-there-yet``.
    """
    if guest.reveal is None or guest.commitment is None:
        raise Refused("not-there-yet", "The newcomer has not shown its request yet.", "Wait for it.")
    guest.terms.fits(guest.reveal.request)
    nonces = unb64u(guest.reveal.nonce), _chosen(member, guest.commitment)
    own = invitations.digits(guest.terms, guest.reveal.request, *nonces, member.card.root_digest)
    if "".join(typed.split()) != "".join(own.split()):
        raise Refused(
            "digits-differ",
            "These are not the digits of this newcomer.",
            "Do not let it in: ask for them once more, by voice. If they differ again, deny it and invite anew.",
        )
    return guest.reveal.request


async def decide(session: Session, guest: Guest, decision: str) -> None:
    """Says at the hub that ``guest`` was ``approved`` or ``denied``."""
    await _ask(session, {"do": "decide", "invitation": guest.terms.id, "decision": decision})


def effect(trusted: Trusted, terms: Terms, today: date) -> list[str]:
    """What the newcomer would see by the rules in ``trusted``; of a monitor, who would read her. In plain sentences."""
    policies = trusted.in_force
    side = Side.of((rule for policy in policies for rule in policy.rules), trusted.offices, trusted.areas)
    domain = Domain([side], today)
    if terms.office is not None:
        seen: dict[str, set[str]] = {}
        for sight in all_of(domain, terms.office.id, trusted.areas):
            seen.setdefault(sight.compartment, set()).update((*sight.areas, *sight.only))
        told = [f"would read {name} from {' '.join(sorted(codes))}" for name, codes in seen.items()]
        return told or ["would read nothing: no rule in force names it, nor a group that it is in"]
    below = frozenset[str]().union(*(trusted.areas.below(area) for area in terms.areas))
    readers = matrix(domain, trusted.offices.active, Asked(areas=below))
    told = [
        f"{office} would read {', '.join(f'{name} ({part.share})' for name, part in row.items() if part.opened)}"
        for office, row in readers.items()
        if any(part.opened for part in row.values())
    ]
    return told or ["nobody would read her: no rule in force speaks of these areas"]


def _chosen(member: Member, commitment: Commitment) -> bytes:
    """This coordinator's random bytes for an invitation: chosen for its first commitment, and for no other."""
    name = _CHOSEN + commitment.invitation
    if name not in member.vault.secrets:
        nonce = b64u(secrets.token_bytes(32))
        member.remember(name, dumps({"digest": commitment.digest, "nonce": nonce}))
    held = loads(member.vault.secrets[name], max_bytes=1024)
    if held["digest"] != commitment.digest:
        raise Untrusted(
            "another-request",
            "The hub shows another request than the one that was answered.",
            "Deny it, and invite anew, over another way. Tell the other coordinators.",
        )
    return unb64u(held["nonce"])


def _with(guest: Guest, mine: Answer) -> Guest:
    return Guest(guest.terms, guest.commitment, mine, guest.reveal, guest.decision, guest.admitted)


def _document(card: Terms | Commitment | Reveal | Answer) -> dict[str, Any]:
    return card.model_dump(mode="json", exclude_none=True)


async def _ask(session: Session, document: dict[str, Any]) -> dict[str, Any]:
    return await session.ask(subjects.lobby_ask(session.member.nkey.public), document)
