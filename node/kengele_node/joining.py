"""Joining by invitation, as the newcomer: keys, a commitment, digits to read out, and a wait that can be interrupted.

What was said so far is in the vault, so that the newcomer goes on where it stopped, and never chooses twice.

    >>> newcomer = Newcomer.begin(member, invitation)
    >>> newcomer.take(answer)
    >>> newcomer.digits
    '1234 5678'
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from kengele_schemas import disk, invitations, subjects
from kengele_schemas.cards import Joiner, JoinRequest, read_card
from kengele_schemas.concern import Scope
from kengele_schemas.encoding import b64u, dumps, loads, unb64u
from kengele_schemas.errors import Damaged, Malformed, Refused, Unreachable, Untrusted
from kengele_schemas.fields import read
from kengele_schemas.invitations import Answer, Commitment, Invitation, Reveal
from kengele_schemas.keys import OpeningKey
from kengele_schemas.nkeys import KeyPair

from . import terminal
from .errors import NotAdmitted, said_by_hub
from .link import Link
from .member import Member, now
from .private import link
from .vault import occupied

_BEGUN: Final = "joining"
_MAX_BEGUN: Final = 256 * 1024
_FIRST_LOOK: Final = 0.5
_LONGEST_LOOK: Final = 10.0
"""Seconds between two looks for what the coordinator has done."""
_AGAIN: Final = 15.0
_ASK: Final = 20.0
_Ask = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Newcomer:
    """A member that is not in yet, and the invitation it has."""

    def __init__(self, member: Member) -> None:
        """Takes up what was begun. Raises Refused, ``not-joining``, if nothing was."""
        self.member = member
        secret = member.vault.secrets.get(_BEGUN)
        if secret is None:
            raise Refused("not-joining", "No invitation is under way in this home.", "Give the invitation.")
        try:
            held = loads(secret, max_bytes=_MAX_BEGUN, max_depth=12)
            self.invitation = read(Invitation, held["invitation"])
            self._nonce = unb64u(held["nonce"])
            self.answer = read(Answer, held["answer"]) if held["answer"] else None
        except (KeyError, TypeError, Malformed):
            raise Damaged(
                "damaged", "What was said with the coordinator cannot be read.", "Ask to be invited anew."
            ) from None

    @classmethod
    def begin(cls, member: Member, invitation: Invitation) -> Newcomer:
        """``member`` with ``invitation``; the random bytes it commits to the request with are chosen here, once.

        Raises:
            Refused: ``another-invitation``: this home has begun with another one.
        """
        if _BEGUN not in member.vault.secrets:
            _keep(member, invitation, secrets.token_bytes(32), None)
        newcomer = cls(member)
        if newcomer.invitation.terms != invitation.terms:
            raise Refused(
                "another-invitation", "This home has begun with another invitation.", "Choose an empty directory."
            )
        return newcomer

    @property
    def request(self) -> JoinRequest:
        """What the newcomer asks for: what the invitation offers, with its own keys."""
        member, terms = self.member, self.invitation.terms
        if terms.office is None:
            return JoinRequest.for_monitor(member.key, member.nkey, terms.areas)
        keys = tuple(key.public for key in member.opening_keys)
        office = terms.office
        return JoinRequest.for_office(
            member.key, member.nkey, id=office.id, name=office.name, areas=terms.areas, keys=keys
        )

    @property
    def commitment(self) -> Commitment:
        return Commitment.of(self.invitation.token, self.request, self._nonce)

    def take(self, answer: Answer) -> None:
        """Keeps the inviter's answer; from now on there is no other.

        Raises:
            Untrusted: ``another-answer``.
        """
        answer.check(self.invitation.terms, self.commitment)
        if self.answer not in (None, answer):
            raise Untrusted(
                "another-answer",
                "The coordinator's answer is not the one that came before.",
                "Do not read out any digits; tell the coordinator.",
            )
        if self.answer is None:
            _keep(self.member, self.invitation, self._nonce, answer)
            self.answer = answer

    @property
    def reveal(self) -> Reveal:
        """The request in clear. Raises Refused, ``too-early``, before there is an answer."""
        if self.answer is None:
            raise Refused("too-early", "The coordinator has not answered yet.", "Wait.")
        return Reveal.of(self.invitation.token, self.request, self._nonce)

    @property
    def digits(self) -> str:
        """What is to be read out. Raises as :attr:`reveal`."""
        if self.answer is None:
            raise Refused("too-early", "The coordinator has not answered yet.", "Wait.")
        terms, root = self.invitation.terms, self.invitation.network.root_digest
        return invitations.digits(terms, self.request, self._nonce, unb64u(self.answer.nonce), root)

    def end(self) -> None:
        """Forgets what was said: the newcomer is in."""
        member = self.member
        member.vault.replace({name: value for name, value in member.vault.secrets.items() if name != _BEGUN})


def _keep(member: Member, invitation: Invitation, nonce: bytes, answer: Answer | None) -> None:
    document = {
        "invitation": invitation.model_dump(mode="json", exclude_none=True),
        "nonce": b64u(nonce),
        "answer": answer.model_dump(mode="json", exclude_none=True) if answer else None,
    }
    member.remember(_BEGUN, dumps(document))


@asynccontextmanager
async def _lobby(
    urls: tuple[str, ...], join: Joiner, ca: str | None, invitation: str, wait: float
) -> AsyncIterator[tuple[Link, _Ask]]:
    """A line of one's own to the lobby: no other newcomer hears what is answered. Raises Unreachable, Refused."""
    tls = ssl.create_default_context(cadata=ca) if ca else None
    key = KeyPair.generate("user")

    def asking(link: Link) -> _Ask:
        async def ask(document: dict[str, Any]) -> dict[str, Any]:
            answer = loads(
                await link.request(subjects.join_enter(key.public), dumps(document), timeout=_ASK),
                max_bytes=_MAX_BEGUN,
            )
            if not isinstance(answer, dict) or not isinstance(answer.get("code"), str):
                raise Malformed("malformed", "The hub's answer is not one.", "Try again.")
            if "sentence" in answer:
                raise said_by_hub(answer)
            return answer

        return ask

    async with Link(urls, join.jwt, KeyPair.from_seed(join.seed), tls=tls) as link:
        await link.wait_connected(wait)
        jwt = str((await asking(link)({"do": "line", "invitation": invitation})).get("jwt"))
    async with Link(urls, jwt, key, tls=tls) as link:
        await link.wait_connected(wait)
        yield link, asking(link)


async def opened(source: str, wait: float = 15) -> Invitation:
    """The invitation in a file, or behind a link, whose other half the hub has.

    Raises:
        Malformed, Untrusted: it is none, or its parts do not fit each other.
        Unreachable, Refused: the hub does not give the other half.
    """
    if not source.lower().startswith(invitations.LINK):
        found = read_card(await asyncio.to_thread(disk.read, Path(source)), Invitation)
        found.check()
        return found
    link = invitations.Link.parse(source)
    name = invitations.invitation_id(b64u(bytes(invitations.key_of(link.token).verify_key)))
    async with _lobby(link.urls, link.join, link.ca, name, wait) as (_, ask):
        answer = await ask({"do": "open", "invitation": name})
    return link.invitation(str(answer.get("name")), str(answer.get("root")), answer.get("terms"))


async def wait(newcomer: Newcomer, told: Callable[[str], None]) -> None:
    """Says to the hub what is to be said and waits until the newcomer is in; then its credentials are in the vault.

    Args:
        newcomer: who.
        told: is called at each step with ``waiting``, ``answered``, ``approved``.

    Raises:
        Refused: ``invitation-used``, ``invitation-expired``, ``no-such-invitation``, ``denied``.
        Untrusted: ``another-answer``.
    """
    network, commitment = newcomer.invitation.network, newcomer.commitment
    seen = ""
    while True:
        try:
            async with _lobby(network.urls, network.join, network.ca, commitment.invitation, _ASK) as (link, ask):
                await ask({"do": "commit", "card": commitment.model_dump(mode="json")})
                pause = _FIRST_LOOK
                while True:
                    state = await _step(newcomer, ask)
                    if state == "admitted":
                        await _credentials(newcomer, link)
                        newcomer.end()
                        return
                    if state != seen:
                        told(state)
                        seen, pause = state, _FIRST_LOOK
                    await asyncio.sleep(pause)
                    pause = min(_LONGEST_LOOK, pause * 1.2)
        except (Unreachable, NotAdmitted, TimeoutError):
            terminal.note(f"There is no line to the hub. Trying again in {_AGAIN:.0f} s.")
            await asyncio.sleep(_AGAIN)


async def _step(newcomer: Newcomer, ask: _Ask) -> str:
    commitment = newcomer.commitment
    state = await ask({"do": "look", "invitation": commitment.invitation, "digest": commitment.digest})
    code = str(state["code"])
    if code == "denied":
        raise Refused("denied", "A coordinator has denied this request.", "Ask the coordinator who invited you.")
    if state.get("answer") and code != "admitted":
        newcomer.take(invitations.read_signed(state["answer"], Answer))
        if code == "answered":
            await ask({"do": "reveal", "card": newcomer.reveal.model_dump(mode="json", exclude_none=True)})
            code = "revealed"
    return "answered" if code == "revealed" else code


async def _credentials(newcomer: Newcomer, link: Link) -> None:
    nkey = newcomer.member.nkey.public
    answer = loads(await link.request(subjects.join_credentials(nkey), dumps({}), timeout=_ASK), max_bytes=65536)
    jwt = answer.get("jwt") if isinstance(answer, dict) else None
    if not isinstance(jwt, str) or not jwt.isascii():
        raise NotAdmitted
    newcomer.member.remember("jwt", jwt.encode("ascii"))


def add_join(parser: argparse.ArgumentParser, role: Scope) -> None:
    """Adds what a newcomer gives."""
    parser.add_argument(
        "invitation",
        type=link,
        nargs="?",
        help="its file, or - to be asked for its link; without it, goes on with the one begun",
    )
    parser.add_argument(
        "--new-key-file", type=Path, metavar="FILE", help="lock the home with a key file, made here, not a passphrase"
    )
    parser.add_argument(
        "--offline", action="store_true", help="say nothing to the hub; write a file for the coordinator"
    )
    parser.add_argument("--answer", type=Path, metavar="FILE", help="the coordinator's answer, where it came as a file")
    parser.set_defaults(joins=role)


def run(args: argparse.Namespace, opening: Callable[[], tuple[OpeningKey, ...]] = tuple) -> int:
    """``join``: makes the home, or goes on in it, until the newcomer is in.

    Args:
        args: of the command.
        opening: makes an office's opening keys.
    """
    newcomer = _newcomer(args, opening)
    member = newcomer.member
    with occupied(args.home, f"kengele {'office' if member.role == 'office' else 'node'} join"):
        if args.answer is not None:
            newcomer.take(read_card(disk.read(args.answer), Answer))
            path = args.home / "reveal.json"
            disk.write(path, newcomer.reveal.encode())
            _say_digits(args, newcomer, f"Give {path} to the coordinator.", file=str(path))
            return 0
        if args.offline:
            path = args.home / "commitment.json"
            disk.write(path, newcomer.commitment.encode())
            if args.json:
                terminal.emit({"state": "waiting", "file": str(path), "member": member.id})
            else:
                terminal.say(f"Give {path} to the coordinator. With the answer:  --answer answer.json")
            return 0
        asyncio.run(wait(newcomer, lambda state: _told(args, newcomer, state)))
        version = asyncio.run(_first_rules(member))
    if args.json:
        terminal.emit({"state": "admitted", "member": member.id, "version": version})
    else:
        terminal.say(f"{member.id} is in the network, and has its rules (version {version}).")
    return 0


async def _first_rules(member: Member) -> int:
    async with member.session() as session:
        return (await session.refresh()).version


def _newcomer(args: argparse.Namespace, opening: Callable[[], tuple[OpeningKey, ...]]) -> Newcomer:
    if disk.present(args.home / "vault.json"):
        member = Member.open(args.home, terminal.lock_of(args), args.joins)
        if "jwt" in member.vault.secrets:
            raise Refused("already-in", f"{member.id} is in the network already.", "There is nothing to be done.")
        if args.invitation is None:
            return Newcomer(member)
        return Newcomer.begin(member, asyncio.run(opened(args.invitation)))
    if args.invitation is None:
        raise Malformed("no-invitation", "An invitation is needed.", "Give its file, or its link.")
    invitation = asyncio.run(opened(args.invitation))
    terms = invitation.terms
    if terms.role != args.joins:
        word = "office" if terms.role == "office" else "node"
        raise Refused("another-role", f"This invitation is for a {terms.role}.", f"Use: kengele {word} join")
    if terms.expires < now().timestamp():
        raise Refused("invitation-expired", "This invitation has expired.", "Ask the coordinator for a new one.")
    profile: dict[str, Any] = {"areas": list(terms.areas)}
    if terms.office is not None:
        profile |= {"id": terms.office.id, "name": terms.office.name}
    lock = terminal.new_lock(args)
    member = Member.create(args.home, lock, args.joins, profile, opening(), card=invitation.network)
    return Newcomer.begin(member, invitation)


def _told(args: argparse.Namespace, newcomer: Newcomer, state: str) -> None:
    if state == "answered":
        _say_digits(args, newcomer, "Waiting to be let in; Ctrl-C interrupts, the same command goes on.")
    elif args.json:
        terminal.emit({"state": state, "member": newcomer.member.id})
    elif state == "waiting":
        terminal.note("The hub has the request. Tell the coordinator that you wait; the digits come with the answer.")
    elif state == "approved":
        terminal.note("A coordinator has approved it; other coordinators have to sign.")


def _say_digits(args: argparse.Namespace, newcomer: Newcomer, then: str, **more: str) -> None:
    if args.json:
        terminal.emit({"state": "answered", "digits": newcomer.digits, "member": newcomer.member.id, **more})
        return
    terminal.say(f"Read out these digits to the coordinator, by voice:  {newcomer.digits}")
    terminal.say(then)
