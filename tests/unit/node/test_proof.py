"""Before the key signs: what opens the home is asked for again, ten minutes later, and not for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from kengele_node.pages.guard import Guard, below
from kengele_node.pages.proof import PROOF_HOLDS, TRIES, Proof
from kengele_node.pages.sessions import Session, Sessions
from kengele_node.vault import LIGHT, Lock, Vault, make_key_file
from kengele_schemas.errors import KengeleError, Locked

RIGHT = "four words that fit"


class Room:
    """Pages of which one signs and one keeps a draft; the clock is turned by hand."""

    def __init__(self, opens: Callable[[str | bytes], bool]) -> None:
        self.now = 1000.0
        self.signed: list[dict[str, Any]] = []
        self.noted: list[str] = []
        self.guard = Guard(self._told, self.noted.append, Sessions(lambda: self.now), lambda _: True)
        proof = Proof(self.guard, opens, self._asking, lambda name, form: name == "own", self.noted.append)
        self.app = web.Application(middlewares=[self.guard.middleware, proof.middleware])
        for name in ("sign", "own"):
            self.app.router.add_post(below(name), self._sign)
            self.app.router.add_get(below(name), self._sign)

    @staticmethod
    def _told(_: web.Request, error: KengeleError) -> web.Response:
        return web.Response(status=400, text=error.code)

    @staticmethod
    def _asking(_: web.Request, fields: list[tuple[str, str]], left: int | None) -> web.Response:
        return web.json_response({"fields": fields, "left": left}, status=403)

    async def _sign(self, request: web.Request) -> web.Response:
        self.signed.append({name: str(value) for name, value in (await request.post()).items()})
        return web.Response(text="done")


Send = Callable[..., Awaitable[tuple[int, Any]]]


def held(opens: Callable[[str | bytes], bool], claim: Callable[[Room, Session, Send], Awaitable[None]]) -> None:
    """Holds ``claim`` against a room, a session of it, and how a form is sent there."""

    async def run() -> None:
        room = Room(opens)
        async with TestClient(TestServer(room.app)) as client, asyncio.timeout(60):
            assert client.port is not None
            room.guard.bind(client.port)
            session = room.guard.sessions.redeem(room.guard.sessions.ticket().token)
            assert session is not None

            async def send(name: str = "sign", to: Session = session, **fields: Any) -> tuple[int, Any]:
                form = aiohttp.FormData({"form": to.form_token})
                for field, value in fields.items():
                    form.add_field(field, value, **({"filename": "key"} if isinstance(value, bytes) else {}))
                headers = {"Cookie": f"kengele={to.cookie}", "Host": f"127.0.0.1:{client.port}"}
                async with client.post(f"/s/{to.place}/{name}", data=form, headers=headers) as answer:
                    kind = answer.content_type == "application/json"
                    return answer.status, await answer.json() if kind else await answer.text()

            await claim(room, session, send)

    asyncio.run(run())


def test_nothing_is_signed_in_a_new_session_before_the_home_was_unlocked_in_it() -> None:
    async def claim(room: Room, session: Session, send: Send) -> None:
        asked = await send(what="sign", rule="p-1", passphrase="")
        assert asked == (403, {"fields": [["what", "sign"], ["rule", "p-1"]], "left": None})
        assert room.signed == []
        assert await send(what="sign", rule="p-1", passphrase=RIGHT) == (200, "done")
        assert [(one["what"], one["rule"]) for one in room.signed] == [("sign", "p-1")]
        # Another session of the same console has not proved anything.
        other = room.guard.sessions.redeem(room.guard.sessions.ticket().token)
        assert (await send(to=other, what="sign"))[0] == 403

    held(lambda given: given == RIGHT, claim)


def test_it_is_asked_for_again_after_ten_minutes_from_when_it_was_typed() -> None:
    async def claim(room: Room, session: Session, send: Send) -> None:
        assert PROOF_HOLDS == 600
        assert (await send(passphrase=RIGHT))[0] == 200
        room.now += PROOF_HOLDS - 1
        assert (await send())[0] == 200
        # What was signed meanwhile puts nothing off.
        room.now += 2
        assert (await send())[0] == 403
        assert len(room.signed) == 2

    held(lambda given: given == RIGHT, claim)


def test_what_changes_the_draft_alone_is_not_asked_about() -> None:
    async def claim(room: Room, session: Session, send: Send) -> None:
        assert await send("own", what="save") == (200, "done")
        assert session.proved is None

    held(lambda given: False, claim)


def test_guessing_ends_the_session_even_if_all_guesses_are_sent_at_once() -> None:
    tried: list[str | bytes] = []
    lock = threading.Lock()

    def opens(given: str | bytes) -> bool:
        with lock:
            tried.append(given)
        return given == RIGHT

    async def claim(room: Room, session: Session, send: Send) -> None:
        answers = await asyncio.gather(*(send(passphrase=f"guess {number}") for number in range(20)))
        assert len(tried) == TRIES
        assert sorted(left["left"] for status, left in answers if isinstance(left, dict)) == list(range(1, TRIES))
        assert {status for status, _ in answers} == {403}
        assert (await send(passphrase=RIGHT))[0] == 403
        assert (room.signed, len(room.noted)) == ([], 1)

    held(opens, claim)


def test_a_right_one_ends_the_counting_of_wrong_ones() -> None:
    async def claim(room: Room, session: Session, send: Send) -> None:
        for _ in range(3):
            for number in range(TRIES - 1):
                assert (await send(passphrase=f"guess {number}"))[0] == 403
            assert (await send(passphrase=RIGHT))[0] == 200
            room.now += PROOF_HOLDS + 1
        assert session.wrong == 0

    held(lambda given: given == RIGHT, claim)


def test_where_memory_is_short_it_is_said_and_is_no_wrong_try() -> None:
    def opens(_: str | bytes) -> bool:
        raise Locked("no-memory", "There is not enough memory.", "Close other programs.")

    async def claim(room: Room, session: Session, send: Send) -> None:
        assert await send(passphrase=RIGHT) == (400, "no-memory")
        assert (session.wrong, session.proved, room.signed) == (0, None, [])

    held(opens, claim)


def test_a_home_is_unlocked_by_what_opens_it_and_by_nothing_else(tmp_path: Path) -> None:
    typed = Vault.create(tmp_path / "typed", Lock(RIGHT), {}, cost=LIGHT)
    lock = make_key_file(tmp_path / "key")
    filed = Vault.create(tmp_path / "filed", lock, {})
    key = (tmp_path / "key").read_bytes()
    assert (typed.by_key_file, filed.by_key_file) == (False, True)
    for vault in (typed, filed):
        for given in ("", "x", RIGHT, RIGHT.upper(), b"", key, key + b"x", bytes(32)):
            assert vault.opened_by(given) is ((vault, given) in ((typed, RIGHT), (filed, key)))
    typed.relock(Lock("another good one"), cost=LIGHT)
    assert (typed.opened_by(RIGHT), typed.opened_by("another good one")) == (False, True)
    again = Vault.open(tmp_path / "filed", lock)
    assert again.opened_by(key)


@pytest.mark.parametrize("by_file", [False, True])
def test_the_key_file_comes_as_a_file_and_the_passphrase_as_a_field(tmp_path: Path, by_file: bool) -> None:
    lock = make_key_file(tmp_path / "key") if by_file else Lock(RIGHT)
    vault = Vault.create(tmp_path / "home", lock, {}, cost=LIGHT)

    async def claim(room: Room, session: Session, send: Send) -> None:
        key = (tmp_path / "key").read_bytes() if by_file else bytes(32)
        assert (await send(key_file=key))[0] == (200 if by_file else 403)
        session.proved = None
        assert (await send(passphrase=RIGHT))[0] == (403 if by_file else 200)
        assert session.wrong == (1 if by_file else 0)

    held(vault.opened_by, claim)
