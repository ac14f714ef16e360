"""The lobby: where who is invited waits until coordinators have let them in.

The hub holds of an invitation what its inviter signed, and no token. Each word between newcomer and coordinator is
written once and never again, so that an invitation is used up by the first who comes with it. The hub carries these
words and can change none unnoticed: both ends compute digits from what they have sent and got. An invitation is its
inviter's: nobody else answers or decides, and with her seat it ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from nats.aio.client import Client

from kengele_schemas import subjects
from kengele_schemas.encoding import canonical, dumps, loads
from kengele_schemas.errors import KengeleError, Malformed, Refused
from kengele_schemas.invitations import Answer, Commitment, Reveal, Terms, read_signed

from . import consumers, jetstream
from .errors import Conflict

MAX_REQUEST: Final = 64 * 1024
MAX_VALUES: Final = 1000
"""In one request. Anybody with the network's card sends them, and reading one holds up all others."""
MAX_OPEN: Final = 100
"""Invitations of one inviter that stand open at one time, so that none fills the lobby for the others."""
MAX_KEPT: Final = 400
"""Of one inviter, with those that are over. The stream forgets the oldest of all, whosesoever they are."""
MAX_BYTES: Final = 4 * 1024 * 1024
"""Of all words of one inviter's."""
_LINE: Final = 3600
"""Seconds that a newcomer's own line lasts; then another is asked for."""
_TERMS, _COMMITMENT, _ANSWER, _REVEAL, _DECISION = "terms", "commitment", "answer", "reveal", "decision"
_WORDS: Final = (_TERMS, _COMMITMENT, _ANSWER, _REVEAL, _DECISION)
_DECISIONS: Final = ("approved", "denied")
_Words = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Lobby:
    """What was said about each invitation, kept in the broker."""

    nc: Client

    async def answer(
        self, coordinator: str, request: bytes, coordinators: dict[str, bytes], inside: Callable[[str], bool]
    ) -> dict[str, Any]:
        """The answer to a coordinator: ``invite``, ``list``, ``answer``, ``decide``; ``commit`` and ``reveal`` for who
        has no line.

        Args:
            coordinator: who asks.
            request: what.
            coordinators: all coordinators' keys by id.
            inside: whether the member with an nkey is in the roster.

        Raises:
            Malformed, Refused, Untrusted: what is wrong with the request.
        """
        document = _read(request)
        what = document.get("do")
        if what == "invite":
            return await self._invite(coordinator, read_signed(document.get("card"), Terms), coordinators)
        if what == "list":
            return {
                "code": "listed",
                "invitations": [_told(words, inside) for words in (await self._all(coordinators)).values()],
            }
        if what == "commit":
            await self._commit(read_signed(document.get("card"), Commitment), coordinators, coordinator)
            return {"code": "kept"}
        if what == "reveal":
            await self._reveal(read_signed(document.get("card"), Reveal), coordinators, coordinator)
            return {"code": "kept"}
        if what == "answer":
            return await self._answer(coordinator, read_signed(document.get("card"), Answer), coordinators)
        if what == "decide":
            return await self._decide(coordinator, document, coordinators)
        raise Malformed("malformed", "This is no request to the lobby.")

    async def enter(
        self,
        nkey: str,
        request: bytes,
        network: Mapping[str, str],
        coordinators: Mapping[str, bytes],
        line: Callable[[str, int], str],
        inside: Callable[[str], bool],
    ) -> dict[str, Any]:
        """The answer to who is invited: ``line``, ``open``, ``commit``, ``look``, ``reveal``.

        All who are not in connect under the network's one key and hear each other's answers; so the first answer is
        only the credential of a line of one's own, without worth to others.

        Raises:
            Malformed, Refused, Untrusted: what is wrong with the request.
        """
        document = _read(request)
        what = document.get("do")
        if what == "line":
            await self._words(document.get("invitation"), coordinators)
            return {"code": "line", "jwt": line(nkey, int(time.time()) + _LINE)}
        if what == "open":
            words = await self._words(document.get("invitation"), coordinators)
            return {"code": "open", "terms": words[_TERMS], **network}
        if what == "commit":
            commitment = read_signed(document.get("card"), Commitment)
            await self._commit(commitment, coordinators)
            return {"code": "kept"}
        if what == "look":
            words = await self._words(document.get("invitation"), coordinators)
            if document.get("digest") != words.get(_COMMITMENT, {}).get("digest"):
                raise _used()
            return _seen(words, inside)
        if what == "reveal":
            await self._reveal(read_signed(document.get("card"), Reveal), coordinators)
            return {"code": "kept"}
        raise Malformed("malformed", "This is no request of who is invited.")

    async def _invite(self, coordinator: str, terms: Terms, coordinators: dict[str, bytes]) -> dict[str, Any]:
        terms.check(coordinators)
        if terms.inviter != coordinator:
            raise Refused("not-yours", "Only its inviter can open an invitation.", "Make one of your own.")
        every = await self._all(coordinators)
        own = {name: words for name, words in every.items() if words[_TERMS]["inviter"] == coordinator}
        open_ = {name for name, words in own.items() if _is_open(words)}
        held = sum(len(dumps(words)) for words in own.values())
        for name in [one for one in own if one not in open_]:
            if len(own) < MAX_KEPT and held <= MAX_BYTES:
                break
            # The oldest that is over: without its terms it lets nobody in either.
            for kind in _WORDS:
                await jetstream.purge(self.nc, subjects.LOBBY, subjects.lobby_item(kind, name))
            held -= len(dumps(own.pop(name)))
        if len(open_) >= MAX_OPEN or held > MAX_BYTES:
            raise Refused(
                "lobby-full", "Too many of your invitations are open.", "Deny some: kengele coordinator members deny"
            )
        await self._write(_TERMS, terms.id, _document(terms))
        return {"code": "kept", "invitation": terms.id}

    async def _commit(self, commitment: Commitment, coordinators: Mapping[str, bytes], by: str = "") -> None:
        words = await self._words(commitment.invitation, coordinators)
        if by:
            _check_inviter(words, by)
        terms = read_signed(words[_TERMS], Terms)
        commitment.check(terms)
        if words.get(_COMMITMENT) == _document(commitment):
            return
        if _COMMITMENT in words or _DECISION in words:
            raise _used()
        if time.time() > terms.expires:
            raise Refused("invitation-expired", "This invitation has expired.", "Ask the coordinator for a new one.")
        await self._write(_COMMITMENT, terms.id, _document(commitment))

    async def _answer(self, coordinator: str, answer: Answer, coordinators: Mapping[str, bytes]) -> dict[str, Any]:
        words = await self._words(answer.invitation, coordinators)
        _check_inviter(words, coordinator)
        if words.get(_ANSWER) != _document(answer):
            if answer.coordinator != coordinator or answer.digest != words.get(_COMMITMENT, {}).get("digest"):
                raise Refused("another-request", "This answers nothing that waits in the lobby.", "List what waits.")
            await self._write(_ANSWER, answer.invitation, _document(answer))
        return {"code": "kept"}

    async def _reveal(self, reveal: Reveal, coordinators: Mapping[str, bytes], by: str = "") -> None:
        words = await self._words(reveal.invitation, coordinators)
        if by:
            _check_inviter(words, by)
        if words.get(_REVEAL) == _document(reveal):
            return
        if _ANSWER not in words:
            raise Refused("too-early", "A coordinator has to answer first.", "Wait.")
        reveal.check(read_signed(words[_TERMS], Terms), read_signed(words[_COMMITMENT], Commitment))
        await self._write(_REVEAL, reveal.invitation, _document(reveal))

    async def _decide(
        self, coordinator: str, document: Mapping[str, Any], coordinators: Mapping[str, bytes]
    ) -> dict[str, Any]:
        words = await self._words(document.get("invitation"), coordinators)
        _check_inviter(words, coordinator)
        decision = document.get("decision")
        if decision not in _DECISIONS:
            raise Malformed("malformed", "This is no request to the lobby.")
        terms = read_signed(words[_TERMS], Terms)
        held = words.get(_DECISION, {}).get("decision")
        if held not in (None, decision):
            raise Refused("decided", f"This invitation was {held} before.", "Invite anew.")
        if held is None:
            await self._write(_DECISION, terms.id, {"decision": decision, "by": coordinator})
        return {"code": "kept"}

    async def invited(
        self, coordinators: Mapping[str, bytes], inside: Callable[[str], bool]
    ) -> dict[str, tuple[str, ...]]:
        """For which areas those ask to be let in who are neither in nor denied: by nkey and by ``kid``.

        By their own signed requests alone: a coordinator could make up terms, and a commitment to somebody's keys.
        """
        found: dict[str, tuple[str, ...]] = {}
        for words in (await self._all(coordinators)).values():
            if _REVEAL not in words or words.get(_DECISION, {}).get("decision") == "denied":
                continue
            request = read_signed(words[_REVEAL], Reveal).request
            if not inside(request.nkey):
                found[request.nkey] = found[request.member] = request.areas
        return found

    async def _write(self, kind: str, invitation: str, document: Mapping[str, Any]) -> None:
        try:
            await jetstream.publish_batch(
                self.nc, [(subjects.lobby_item(kind, invitation), dumps(document), jetstream.ONCE)]
            )
        except Conflict:
            raise _used() from None

    async def _words(self, invitation: Any, coordinators: Mapping[str, bytes]) -> _Words:
        """All that was said about one invitation. Raises Refused if there is none, or not any more."""
        if not isinstance(invitation, str):
            raise Malformed("malformed", "This names no invitation.")
        found: _Words = {}
        for kind in _WORDS:
            stored = await jetstream.last(self.nc, subjects.LOBBY, subjects.lobby_item(kind, invitation))
            if stored is not None:
                found[kind] = loads(stored.data, max_bytes=MAX_REQUEST)
            elif kind == _TERMS:
                raise Refused(
                    "no-such-invitation", "The hub knows of no such invitation.", "Ask the coordinator for another."
                )
        return _ended(found, coordinators)

    async def _all(self, coordinators: Mapping[str, bytes]) -> dict[str, _Words]:
        found: dict[str, _Words] = {}
        async for stored in consumers.read_all(self.nc, subjects.LOBBY):
            _, kind, invitation = stored.subject.split(".")
            try:
                found.setdefault(invitation, {})[kind] = loads(stored.data, max_bytes=MAX_REQUEST)
            except KengeleError:
                continue
        return {name: _ended(words, coordinators) for name, words in found.items() if _TERMS in words}


def _is_open(words: _Words) -> bool:
    return _DECISION not in words and bool(words[_TERMS]["expires"] > time.time())


def _read(request: bytes) -> dict[str, Any]:
    document = loads(request, max_bytes=MAX_REQUEST, max_values=MAX_VALUES)
    if not isinstance(document, dict):
        raise Malformed("malformed", "This is no request to the lobby.")
    return document


def _document(card: Any) -> dict[str, Any]:
    # As it will be read back.
    found: dict[str, Any] = loads(canonical(card.model_dump(mode="json", exclude_none=True)), max_bytes=MAX_REQUEST)
    return found


def _told(words: _Words, inside: Callable[[str], bool]) -> dict[str, Any]:
    return {**words, "admitted": _in(words, inside)}


def _seen(words: _Words, inside: Callable[[str], bool]) -> dict[str, Any]:
    """What the newcomer is told of how far it is."""
    decision = words.get(_DECISION, {}).get("decision")
    if _in(words, inside):
        code = "admitted"
    elif decision is not None:
        code = str(decision)
    else:
        code = "revealed" if _REVEAL in words else "answered" if _ANSWER in words else "waiting"
    return {"code": code, **({"answer": words[_ANSWER]} if _ANSWER in words else {})}


def _in(words: _Words, inside: Callable[[str], bool]) -> bool:
    return _REVEAL in words and inside(str(words[_REVEAL]["request"]["nkey"]))


def _ended(words: _Words, coordinators: Mapping[str, bytes]) -> _Words:
    """``words`` as denied where the inviter is no coordinator any more: nobody else can answer in her place."""
    if words[_TERMS]["inviter"] in coordinators or _DECISION in words:
        return words
    return {**words, _DECISION: {"decision": "denied", "by": ""}}


def _check_inviter(words: _Words, coordinator: str) -> None:
    """Checks that a coordinator speaks of her own invitation."""
    inviter = words[_TERMS]["inviter"]
    if coordinator != inviter:
        raise Refused("not-yours", f"This invitation is {inviter}'s.", "Ask that coordinator, or invite anew yourself.")


def _used() -> Refused:
    return Refused(
        "invitation-used",
        "This invitation was used before, or was withdrawn.",
        "If it was not you who used it, tell the coordinator at once: somebody else has it.",
    )
