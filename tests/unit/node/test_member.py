"""A member's home and its session: keys that stay, a card that is the network's, and answers that are looked at."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Self

import pytest

from kengele_node import member as member_module
from kengele_node.errors import NotAdmitted
from kengele_node.member import Member, Session, encode_files
from kengele_node.vault import Lock, Vault, make_key_file
from kengele_schemas import subjects
from kengele_schemas.cards import Joiner, NetworkCard
from kengele_schemas.concern import Scope
from kengele_schemas.encoding import b64u, dumps
from kengele_schemas.errors import Damaged, KengeleError, Locked, Malformed, Refused, Unreachable, Untrusted
from kengele_schemas.keys import HYBRID, X25519, OpeningKey, monitor_id
from kengele_schemas.nkeys import KeyPair
from kengele_testing.certificates import make_certificate
from kengele_testing.trust import NOW, Paper

CANARY = "canary-7f3a"
JOINER = KeyPair.generate("user")
OPENING = (OpeningKey.generate(X25519), OpeningKey.generate(HYBRID))


@pytest.fixture(scope="module")
def paper() -> Paper:
    return Paper()


@pytest.fixture(scope="module")
def files(paper: Paper) -> Mapping[str, bytes]:
    return paper.founded()


def card_of(files: Mapping[str, bytes], **changes: Any) -> NetworkCard:
    root = files["metadata/1.root.json"]
    return NetworkCard(
        **{
            "name": "Bell",
            "urls": ("tls://hub.example.org:4222",),
            "join": Joiner(jwt="joiner-jwt", seed=JOINER.seed),
            "root": b64u(root),
            "root_digest": b64u(hashlib.sha256(root).digest()),
            **changes,
        }
    )


@pytest.fixture
def lock(tmp_path: Path) -> Lock:
    return make_key_file(tmp_path / "key")


@pytest.fixture
def office(tmp_path: Path, lock: Lock, files: Mapping[str, bytes]) -> Member:
    return Member.create(tmp_path / "desk", lock, "office", {"id": "unrcca"}, OPENING, card=card_of(files))


def refused(work: Callable[[], object]) -> KengeleError:
    with pytest.raises(KengeleError) as caught:
        work()
    assert CANARY not in repr(caught.value) + caught.value.diagnostics()
    return caught.value


class TestAHome:
    @pytest.mark.parametrize("role", ["monitor", "office", "coordinator"])
    def test_is_the_same_when_it_is_opened_again(self, tmp_path: Path, lock: Lock, role: Scope) -> None:
        made = Member.create(tmp_path / "home", lock, role, {"areas": ["KG-O"]}, OPENING)
        found = Member.open(tmp_path / "home", lock, role)
        assert found.key == made.key
        assert found.nkey.seed == made.nkey.seed
        assert (found.role, found.profile["areas"]) == (role, ["KG-O"])
        assert found.kid == made.kid == monitor_id(bytes(made.key.verify_key))

    def test_makes_keys_of_its_own(self, tmp_path: Path, lock: Lock) -> None:
        one, other = (Member.create(tmp_path / name, lock, "monitor", {}) for name in ("one", "other"))
        assert one.key != other.key
        assert one.nkey.seed != other.nkey.seed

    def test_is_opened_for_its_own_role_only(self, tmp_path: Path, lock: Lock) -> None:
        Member.create(tmp_path / "home", lock, "monitor", {})
        error = refused(lambda: Member.open(tmp_path / "home", lock, "office"))
        assert (error.code, error.exit_code) == ("another-role", 3)
        assert "monitor" in error.sentence

    def test_is_opened_by_its_own_key_only(self, tmp_path: Path, lock: Lock) -> None:
        Member.create(tmp_path / "home", lock, "monitor", {})
        other = make_key_file(tmp_path / "other")
        assert isinstance(refused(lambda: Member.open(tmp_path / "home", other, "monitor")), Locked)

    def test_is_never_made_over_another(self, tmp_path: Path, lock: Lock) -> None:
        made = Member.create(tmp_path / "home", lock, "monitor", {})
        assert refused(lambda: Member.create(tmp_path / "home", lock, "monitor", {})).code == "exists"
        assert Member.open(tmp_path / "home", lock, "monitor").key == made.key

    def test_that_is_none_says_so(self, tmp_path: Path, lock: Lock) -> None:
        assert refused(lambda: Member.open(tmp_path, lock, "monitor")).code == "no-vault"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("sign", None),
            ("sign", b"short"),
            ("nkey", None),
            ("nkey", b"SU" + CANARY.encode()),
            ("nkey", b"\xff\xfe"),
            ("profile", None),
            ("profile", b"{}"),
            ("profile", b"[]"),
            ("profile", b"{" + CANARY.encode()),
        ],
    )
    def test_without_its_keys_is_damaged(self, tmp_path: Path, lock: Lock, name: str, value: bytes | None) -> None:
        Member.create(tmp_path / "home", lock, "monitor", {})
        vault = Vault.open(tmp_path / "home", lock)
        secrets = dict(vault.secrets)
        vault.replace({key: text for key, text in {**secrets, name: value}.items() if text is not None})
        error = refused(lambda: Member.open(tmp_path / "home", lock, "monitor"))
        assert (type(error), error.code) == (Damaged, "damaged")

    def test_gives_an_office_its_opening_keys(self, office: Member, lock: Lock) -> None:
        found = Member.open(office.home, lock, "office").opening_keys
        assert {(key.suite, key.raw) for key in found} == {(key.suite, key.raw) for key in OPENING}

    def test_goes_by_its_id_or_by_its_key(self, tmp_path: Path, lock: Lock, office: Member) -> None:
        monitor = Member.create(tmp_path / "node", lock, "monitor", {})
        assert (office.id, monitor.id) == ("unrcca", monitor.kid)
        monitor.rename("c-name")
        assert Member.open(tmp_path / "node", lock, "monitor").id == "c-name"

    def test_keeps_what_it_is_told_to_remember(self, office: Member, lock: Lock) -> None:
        office.remember("jwt", b"eyJ")
        found = Member.open(office.home, lock, "office")
        assert found.vault.secrets["jwt"] == b"eyJ"
        assert found.key == office.key

    def test_shows_no_secret_when_printed(self, office: Member) -> None:
        shown = f"{office!r} {office.vault!r} {office.key!r} {office.nkey!r} {office.opening_keys!r}"
        assert office.nkey.seed not in shown
        assert office.nkey.seed not in repr(office.card)
        assert JOINER.seed not in repr(office.card)


class TestItsNetwork:
    def test_is_the_cards(self, office: Member, files: Mapping[str, bytes], lock: Lock) -> None:
        assert Member.open(office.home, lock, "office").card == card_of(files)

    def test_is_none_until_there_is_a_card(self, tmp_path: Path, lock: Lock) -> None:
        member = Member.create(tmp_path / "home", lock, "monitor", {})
        assert refused(lambda: member.card).code == "no-network"
        assert refused(member.offline).code == "no-network"

    def test_changes_with_the_card(self, office: Member, files: Mapping[str, bytes]) -> None:
        office.join(card_of(files, name="Second"))
        assert office.card.name == "Second"

    @pytest.mark.parametrize("data", [b"", b"{}", CANARY.encode(), b'{"v":1,"name":"canary-7f3a"}'])
    def test_is_not_guessed_from_a_card_that_is_none(self, office: Member, data: bytes) -> None:
        (office.home / "network.json").write_bytes(data)
        assert refused(lambda: office.card).code == "bad-card"

    def test_has_no_rules_until_they_were_seen(self, office: Member) -> None:
        error = refused(office.offline)
        assert (type(error), error.code) == (Untrusted, "no-trust")


Answer = bytes | Exception


class Line:
    """What stands in the place of a Link: ``hub`` answers, whoever connects."""

    hub: Callable[[str, Any], Awaitable[Answer]]
    made: list[Line]

    def __init__(self, urls: list[str], jwt: str, key: KeyPair, *, tls: Any = None, renew: Any = None) -> None:
        self.urls, self.jwt, self.key, self.tls, self.renew = urls, jwt, key, tls, renew
        self.waited: list[float] = []
        self.requests: list[tuple[str, Any]] = []
        self.open = False
        Line.made.append(self)

    async def __aenter__(self) -> Self:
        self.open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.open = False

    async def wait_connected(self, timeout: float) -> None:
        self.waited.append(timeout)

    async def request(self, subject: str, data: bytes, timeout: float = 10) -> bytes:
        assert self.open
        self.requests.append((subject, json.loads(data)))
        answer = await Line.hub(subject, json.loads(data))
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[Line]:
    Line.made = []
    monkeypatch.setattr(member_module, "Link", Line)
    monkeypatch.setattr(member_module, "now", lambda: NOW)
    return Line.made


def hub(answer: Callable[[str, Any], Answer]) -> None:
    async def answering(subject: str, document: Any) -> Answer:
        await asyncio.sleep(0)
        return answer(subject, document)

    Line.hub = staticmethod(answering)


def admitting(_: str, __: Any) -> Answer:
    return dumps({"code": "admitted", "jwt": "own-jwt"})


def serving(files: Mapping[str, bytes]) -> Callable[[str, Any], Answer]:
    return lambda _, document: files.get(document["path"], b"")


def run(work: Callable[[Session], Awaitable[Any]], member: Member, **options: Any) -> Any:
    async def within() -> Any:
        async with asyncio.timeout(60), member.session(**options) as session:
            return await work(session)

    return asyncio.run(within())


async def nothing(_: Session) -> None:
    """Looks only at how the session began."""


class TestASession:
    def test_asks_for_credentials_once_and_keeps_them(self, office: Member, lines: list[Line], lock: Lock) -> None:
        hub(admitting)
        run(nothing, office, wait=7)
        first, second = lines
        assert (first.jwt, first.key.public) == ("joiner-jwt", JOINER.public)
        assert first.requests == [(subjects.join_credentials(office.nkey.public), {})]
        assert (second.jwt, second.key.public) == ("own-jwt", office.nkey.public)
        assert list(second.urls) == ["tls://hub.example.org:4222"]
        assert second.waited == [7]
        assert not any(line.open for line in lines)
        run(nothing, Member.open(office.home, lock, "office"))
        assert [line.jwt for line in lines] == ["joiner-jwt", "own-jwt", "own-jwt"]

    def test_asks_for_other_credentials_when_its_line_is_turned_away(self, office: Member, lines: list[Line]) -> None:
        hub(admitting)
        office.remember("jwt", b"old-jwt")

        async def turned_away(_: Session) -> None:
            assert await lines[0].renew() == "own-jwt"
            hub(lambda _, __: b'{"code":"not-admitted","sentence":"No."}')
            with pytest.raises(NotAdmitted):
                await lines[0].renew()

        run(turned_away, office)
        assert [line.jwt for line in lines] == ["old-jwt", "joiner-jwt", "joiner-jwt"]
        assert lines[1].renew is None
        # What another process keeps in the vault meanwhile is not written over.
        assert office.vault.secrets["jwt"] == b"old-jwt"

    @pytest.mark.parametrize(
        ("what", "answer", "error"),
        [
            ("refuses", dumps({"code": "not-admitted", "sentence": "No."}), NotAdmitted),
            ("gives some and does not admit", dumps({"code": "later", "jwt": "own-jwt"}), NotAdmitted),
            ("gives none", dumps({"code": "admitted"}), NotAdmitted),
            ("gives what is none", dumps({"code": "admitted", "jwt": 7}), NotAdmitted),
            ("gives what cannot be one", dumps({"code": "admitted", "jwt": "\u00e9" + CANARY}), NotAdmitted),
            ("answers garbage", CANARY.encode(), Malformed),
            ("answers no object", b"[]", Malformed),
            ("answers without a code", dumps({"jwt": CANARY}), Malformed),
            ("does not answer", Unreachable("unreachable", ""), Unreachable),
        ],
    )
    def test_does_not_begin_where_the_hub(
        self, office: Member, lines: list[Line], what: str, answer: Answer, error: type[KengeleError]
    ) -> None:
        hub(lambda *_: answer)
        assert type(refused(lambda: run(nothing, office))) is error
        assert "jwt" not in office.vault.secrets
        assert [line.jwt for line in lines] == ["joiner-jwt"]
        hub(admitting)
        run(nothing, office)
        assert office.vault.secrets["jwt"] == b"own-jwt"

    def test_does_not_wait_for_a_line_if_asked_not_to(self, office: Member, lines: list[Line]) -> None:
        office.remember("jwt", b"own-jwt")
        run(nothing, office, wait=0)
        assert lines[0].waited == []

    def test_trusts_the_certificate_that_came_with_the_card(
        self, tmp_path: Path, office: Member, lines: list[Line], files: Mapping[str, bytes]
    ) -> None:
        office.remember("jwt", b"own-jwt")
        run(nothing, office)
        tls, _ = make_certificate(tmp_path)
        office.join(card_of(files, ca=tls.certificate.read_text()))
        run(nothing, office)
        assert lines[0].tls is None
        assert len(lines[1].tls.get_ca_certs()) == 1


class TestRefreshing:
    @pytest.fixture(autouse=True)
    def _admitted(self, office: Member, lines: list[Line]) -> None:
        office.remember("jwt", b"own-jwt")

    def test_gives_what_the_coordinators_signed_and_keeps_it(
        self, office: Member, lines: list[Line], files: Mapping[str, bytes]
    ) -> None:
        hub(serving(files))
        found = run(lambda session: session.refresh(), office)
        assert (found.network.name, found.fresh, len(found.monitors)) == ("Test", True, 1)
        assert {subject for subject, _ in lines[0].requests} == {subjects.trust_get(office.nkey.public)}
        kept = office.offline()
        assert (kept.version, kept.fresh, kept.policy) == (found.version, False, found.policy)

    def test_gives_a_monitor_no_other_monitor(
        self, tmp_path: Path, lock: Lock, lines: list[Line], files: Mapping[str, bytes]
    ) -> None:
        member = Member.create(tmp_path / "node", lock, "monitor", {}, card=card_of(files))
        member.remember("jwt", b"own-jwt")
        hub(serving(files))
        assert run(lambda session: session.refresh(), member).monitors == {}

    def test_takes_no_rules_that_hang_from_another_root(self, office: Member, lines: list[Line]) -> None:
        hub(serving(Paper().founded()))
        assert isinstance(refused(lambda: run(lambda session: session.refresh(), office)), Untrusted)
        assert refused(office.offline).code == "no-trust"

    @pytest.mark.parametrize("answer", [Unreachable("unreachable", ""), NotAdmitted()])
    def test_says_when_the_line_is_away_and_keeps_what_was_seen(
        self, office: Member, lines: list[Line], files: Mapping[str, bytes], answer: KengeleError
    ) -> None:
        hub(serving(files))
        run(lambda session: session.refresh(), office)
        hub(lambda *_: answer)
        with pytest.raises(type(answer)):
            run(lambda session: session.refresh(), office)
        assert office.offline().network.name == "Test"

    def test_gives_up_on_a_hub_that_never_answers(
        self, office: Member, lines: list[Line], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(member_module, "_ANSWER", 0.01)
        never = asyncio.Event

        async def silent(_: str, __: Any) -> Answer:
            await never().wait()
            return b""

        Line.hub = staticmethod(silent)
        assert refused(lambda: run(lambda session: session.refresh(), office)).code == "unreachable"


class TestAsking:
    @pytest.fixture(autouse=True)
    def _admitted(self, office: Member, lines: list[Line]) -> None:
        office.remember("jwt", b"own-jwt")

    def test_gives_the_hubs_answer(self, office: Member, lines: list[Line]) -> None:
        hub(lambda *_: dumps({"code": "published", "version": 2}))
        assert run(lambda session: session.ask("a.subject", {"x": 1}), office) == {"code": "published", "version": 2}
        assert lines[0].requests == [("a.subject", {"x": 1})]

    def test_raises_the_hubs_refusal_in_its_words(self, office: Member, lines: list[Line]) -> None:
        hub(lambda *_: dumps({"code": "old-version", "sentence": "Too old.", "mend": "Draft again."}))
        error = refused(lambda: run(lambda session: session.ask("a.subject", {}), office))
        assert isinstance(error, Refused)
        assert (error.code, error.sentence, error.mend) == ("old-version", "Too old.", "Draft again.")

    @pytest.mark.parametrize("answer", [b"", b"{}", b"[]", b'{"code":7}', CANARY.encode(), b"x" * 600_000])
    def test_takes_no_answer_that_is_none(self, office: Member, lines: list[Line], answer: bytes) -> None:
        hub(lambda *_: answer)
        assert isinstance(refused(lambda: run(lambda session: session.ask("a.subject", {}), office)), Malformed)


def test_files_travel_as_text() -> None:
    assert encode_files({"a": b"\xff\x00", "b/c": b""}) == {"a": "_wA", "b/c": ""}


@pytest.mark.parametrize("admitted", [True, False])
def test_who_waits_for_a_hub_that_does_not_answer_is_told_so(
    tmp_path: Path, lock: Lock, files: Mapping[str, bytes], monkeypatch: pytest.MonkeyPatch, admitted: bool
) -> None:
    monkeypatch.setattr(member_module, "_SLOW", 0.01)
    card = card_of(files, urls=("nats://127.0.0.1:1",))
    member = Member.create(tmp_path / "desk", lock, "office", {"id": "unrcca"}, OPENING, card=card)
    if admitted:
        member.remember("jwt", b"a-jwt")
    told: list[str] = []
    member.slow = lambda: told.append("slow")

    async def run() -> None:
        with pytest.raises(Unreachable):
            async with member.session(0.2):
                pass

    asyncio.run(run())
    assert told == ["slow"]
