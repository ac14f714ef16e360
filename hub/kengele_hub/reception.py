"""Where members and newcomers are received: who may ask for trust files, publish, and use board, lobby and letterbox.

Whoever is not let in gets one refusal, whatever the reason; a file that is not for a member is as if it
were not there.
"""

from __future__ import annotations

import time
from typing import Any, Final

from kengele_schemas import metadata, subjects
from kengele_schemas.encoding import b64u, loads, network_of, unb64u
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.packing import pack, unpack

from . import newcomers
from .authority import Authority
from .board import Board
from .errors import not_admitted
from .heartbeats import Heartbeats
from .letterbox import Letterbox, letter_in
from .lobby import Lobby
from .pauses import Tally
from .threads import OneByOne
from .versions import MAX_UNPACKED

MAX_REQUEST: Final = 1024 * 1024
MAX_FILES: Final = 4 * MAX_UNPACKED
"""Bytes of all files of a version together: each may be packed, and in what was packed before."""
MAX_SENT: Final = 10_000
"""Files in one publication."""
MAX_JOIN: Final = 1024
MAX_LEFT: Final = 250
"""Letters and heartbeats of one member, and an office's looks at those for it, within a window of :mod:`.pauses`."""


class Reception:
    """The answers to who asks for what the coordinators have signed, or for a way in."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._packed: dict[str, tuple[bytes, bytes]] = {}
        """By path, a file and how it travels; of those files that are served."""
        self._reading = OneByOne()
        self._left = Tally()
        self.board = Board(authority.nc, self._reading)
        self.lobby = Lobby(authority.nc)
        self.letterbox = Letterbox(authority.nc)
        self.heartbeats = Heartbeats(authority.nc)

    def serve(self, nkey: str, request: bytes) -> bytes:
        """The trust file that ``nkey`` asks for, empty if there is none or it is not for this member."""
        standing = self._authority.standing
        if standing is None or nkey not in standing.roles:
            return b""
        role, member = standing.roles[nkey]
        try:
            path = loads(request, max_bytes=1024)["path"]
        except (Malformed, KeyError, TypeError):
            return b""
        if not isinstance(path, str) or not metadata.visible(
            path, role, standing.concerns.get(member, ()), standing.trusted.areas
        ):
            return b""
        files = self._authority.files
        data = files.get(path)
        if data is None:
            return b""
        packed = self._packed.get(path)
        if packed is None or packed[0] is not data:
            # Packing a long file takes many times as long as asking for it.
            self._packed[path] = packed = (data, pack(data))
            # Only what is served is held: never what was asked for, nor what another version brought.
            if len(self._packed) > len(files):
                self._packed = {name: held for name, held in self._packed.items() if files.get(name) is held[0]}
        return packed[1]

    async def answer_publish(self, nkey: str, request: bytes) -> dict[str, Any]:
        """The answer to a coordinator's new version."""
        role = self._authority.standing.roles.get(nkey, ("", ""))[0] if self._authority.standing else ""
        # Only a coordinator's credentials reach here; while the hub is held, who is one is for the signatures to say.
        if role != "coordinator" and self._authority.held is None:
            raise not_admitted()
        files = await self._reading(_sent, request)
        return {"code": "published", "version": await self._authority.publish(files, self._check_newcomers)}

    async def answer_board(self, nkey: str, request: bytes) -> dict[str, Any]:
        """The answer to a coordinator who looks at the board or puts something there."""
        if self._authority.standing is None or self._authority.standing.roles.get(nkey, ("", ""))[0] != "coordinator":
            raise not_admitted()
        return await self.board.answer(request)

    async def _check_newcomers(self, files: metadata.Files) -> None:
        """Checks that no area lists, or keeps out, a newcomer who was invited for another: who is named in one list can
        stand in no other.

        Raises:
            Refused: ``another-invitation``.
        """
        named = await self._reading(newcomers.named, files)
        standing = self._authority.standing
        if not named or standing is None:
            return
        areas = standing.trusted.areas
        for name, invited in (await self.lobby.invited(self._coordinators(), self._inside)).items():
            for area in named.get(name, ()):
                if not any(areas.known(one) and areas.covers(area, one) for one in invited):
                    raise Refused(
                        "another-invitation",
                        f"The lists for {area} name somebody who was invited for another area.",
                        "Leave that key out: its inviter's coordinators decide about it.",
                    )

    async def answer_lobby(self, nkey: str, request: bytes) -> dict[str, Any]:
        """The answer to a coordinator who invites, or deals with who was invited."""
        role, member = self._authority.standing.roles.get(nkey, ("", "")) if self._authority.standing else ("", "")
        if role != "coordinator":
            raise not_admitted()
        return await self.lobby.answer(member, request, self._coordinators(), self._inside)

    async def answer_letters(self, nkey: str, request: bytes) -> dict[str, Any]:
        """The answer to a member who leaves word for the coordinators, or to a coordinator who reads it."""
        standing, root = self._authority.standing, self._authority.files.get("metadata/1.root.json")
        if standing is None or root is None or nkey not in standing.roles:
            raise not_admitted()
        role, member = standing.roles[nkey]
        if role == "coordinator":
            return await self.letterbox.read(request, standing)
        self._charge(nkey, 1)
        document = letter_in(request)
        beats = document.get("beats")
        self._charge(nkey, len(beats) if isinstance(beats, list) else 0)
        heard = await self.heartbeats.answer(role, member, document, standing)
        if heard is not None:
            return heard
        return await self.letterbox.put(role, member, request, standing, network_of(root))

    def _charge(self, nkey: str, weight: int) -> None:
        # To hold one against its signature takes a third of a millisecond, in which nobody else is served.
        if self._left.add(nkey, weight, time.monotonic()) > MAX_LEFT:
            raise Refused("too-often", "This member leaves too much at once.", "Wait for some seconds.")

    async def answer_enter(self, nkey: str, request: bytes) -> dict[str, Any]:
        """The answer to who is invited; ``nkey`` is the line's and nobody's yet."""
        root = self._authority.files.get("metadata/1.root.json")
        if self._authority.standing is None or root is None:
            raise not_admitted()
        network = {"name": self._authority.standing.trusted.network.name, "root": b64u(root)}
        return await self.lobby.enter(nkey, request, network, self._coordinators(), self._line, self._inside)

    def _coordinators(self) -> dict[str, bytes]:
        return metadata.coordinators(self._authority.files)

    def _line(self, nkey: str, until: int) -> str:
        return self._authority.access.member_jwt(nkey, "joiner", expires=until)

    def _inside(self, nkey: str) -> bool:
        return self._authority.standing is not None and nkey in self._authority.standing.roles

    async def answer_join(self, nkey: str, request: bytes) -> dict[str, Any]:
        """The answer to who is not in yet: credentials for a key that the roster names, or the founding."""
        if self._authority.files and len(request) > MAX_JOIN:
            # Anybody with the network's card may ask: what is large can only be a founding, and is not even read.
            raise not_admitted()
        document = loads(request, max_bytes=MAX_REQUEST, max_values=MAX_SENT)
        if isinstance(document, dict) and "found" in document:
            token = document["found"]
            files = await self._reading(_files, document.get("files"))
            version = await self._authority.found(token if isinstance(token, str) else "", files)
            return {"code": "published", "version": version}
        role = self._authority.standing.roles.get(nkey, ("", ""))[0] if self._authority.standing else ""
        if role not in ("monitor", "office", "coordinator"):
            raise not_admitted()
        return {"code": "admitted", "jwt": self._authority.access.member_jwt(nkey, role)}  # type: ignore[arg-type]


def _sent(request: bytes) -> dict[str, bytes]:
    """The files in a publication. Raises Malformed."""
    return _files(loads(unpack(request, max_bytes=MAX_UNPACKED), max_bytes=MAX_UNPACKED, max_values=MAX_SENT))


def _files(document: Any) -> dict[str, bytes]:
    if not isinstance(document, dict) or not all(isinstance(text, str) for text in document.values()):
        raise Malformed("malformed", "The trust files are not a list of paths and their bytes.")
    found: dict[str, bytes] = {}
    room = MAX_FILES
    for path, text in document.items():
        data = unpack(unb64u(text), max_bytes=MAX_UNPACKED)
        room -= len(data)
        if room < 0:
            raise Malformed("oversized", f"The trust files are larger than {MAX_FILES} bytes together.")
        found[subjects.trust_path(subjects.trust_file(path))] = data
    return found
