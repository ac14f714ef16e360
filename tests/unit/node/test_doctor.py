"""The members' doctor: what is wrong with a home and its way to the hub; without the passphrase, and with it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kengele_node import doctor
from kengele_node.cli import main
from kengele_node.doctor import examine
from kengele_node.member import CARD, Member, now
from kengele_node.vault import Lock, make_key_file
from kengele_schemas import publication
from kengele_schemas.cards import Joiner, NetworkCard
from kengele_schemas.encoding import b64u
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.trust import TrustStore
from kengele_testing.certificates import make_certificate
from kengele_testing.hub import Roster

WAIT = 5.0


def card(root: bytes, *urls: str, ca: str | None = None) -> NetworkCard:
    join = Joiner(jwt="a.b.c", seed=KeyPair.generate("user").seed)
    digest = b64u(hashlib.sha256(root).digest())
    return NetworkCard(name="Bell", urls=urls, join=join, root=b64u(root), root_digest=digest, ca=ca)


class Home:
    """A monitor's home that was online once."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "node"
        self.key = directory / "key"
        self.roster = Roster()
        roster = self.roster
        self.files = publication.accept(None, roster.first(), roster.snapshot, roster.timestamp, now())
        self.root = self.files["metadata/1.root.json"]
        self.member = Member.create(
            self.path, make_key_file(self.key), "monitor", {}, card=card(self.root, "nats://127.0.0.1:1")
        )
        self.verify()

    def verify(self) -> None:
        TrustStore(self.path / "trust", self.root).refresh(self.files.get, "monitor", now())

    def at(self, *urls: str, ca: str | None = None) -> None:
        self.member.join(card(self.root, *urls, ca=ca))

    def codes(self, lock: Lock | None = None) -> list[str]:
        return [finding.code for finding in examine(self.path, lock, wait=WAIT)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("made"))


@pytest.fixture
def home(made: Home, tmp_path: Path) -> Iterator[Home]:
    """A home of the test's own, with a hub that listens."""
    shutil.copytree(made.path, tmp_path / "node", symlinks=True)
    shutil.copy(made.key, tmp_path / "key")
    own = object.__new__(Home)
    own.__dict__.update(made.__dict__, path=tmp_path / "node", key=tmp_path / "key")
    own.member = Member.open(own.path, Lock(key_file=own.key), "monitor")
    with listening(b"INFO {}\r\n") as port:
        own.at(f"nats://127.0.0.1:{port}")
        yield own


@contextmanager
def listening(greeting: bytes = b"", context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server on this machine that greets whoever comes."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)

        def serve() -> None:
            while not ended.is_set():
                with suppress(OSError):
                    line, _ = server.accept()
                    line.settimeout(2)
                    with line, context.wrap_socket(line, server_side=True) if context else line as spoken:
                        spoken.sendall(greeting)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()
            thread.join(60)


def test_a_home_that_is_well_is_told_nothing(home: Home) -> None:
    assert home.codes() == []
    assert home.codes(Lock(key_file=home.key)) == []


def test_a_directory_that_is_nobodys_home_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--home", str(tmp_path)]) == 8
    assert "(code: no-vault)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda home: (home.chmod(0o755), (home / "vault.json").chmod(0o644)), "files-exposed"),
        (lambda home: (home / CARD).unlink(), "no-network"),
        (lambda home: (home / CARD).write_text("{}"), "bad-card"),
        (lambda home: shutil.rmtree(home / "trust"), "never-online"),
    ],
)
def test_what_was_done_to_a_home_is_seen(home: Home, spoil: Callable[[Path], Any], code: str) -> None:
    spoil(home.path)
    assert home.codes() == [code]


def test_a_card_of_another_network_is_seen_by_who_has_the_key(home: Home) -> None:
    with listening(b"INFO {}\r\n") as port:
        foreign = card(Roster().first()["metadata/1.root.json"], f"nats://127.0.0.1:{port}")
        (home.path / CARD).write_bytes(foreign.encode())
        assert home.codes() == []
        assert home.codes(Lock(key_file=home.key)) == ["another-network"]


def test_a_vault_that_does_not_open_is_told(home: Home) -> None:
    assert home.codes(Lock(passphrase="not the one")) == ["wrong-passphrase"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_seen(home: Home) -> None:
    os.chown(home.path / CARD, 12345, 12345)
    assert home.codes() == ["other-owner"]


@pytest.mark.parametrize(
    ("option", "code"), [("--passphrase-file", "passphrase-exposed"), ("--key-file", "key-exposed")]
)
def test_a_key_or_passphrase_that_others_can_read_is_seen(
    home: Home, capsys: pytest.CaptureFixture[str], option: str, code: str
) -> None:
    home.key.chmod(0o640)
    assert main(["doctor", "--home", str(home.path), option, str(home.key), "--json"]) == 8
    found = json.loads(capsys.readouterr().out)["findings"]
    assert code in {finding["code"] for finding in found}
    home.key.unlink()
    assert main(["doctor", "--home", str(home.path), option, str(home.key), "--json"]) == 8
    assert "no-lock" in capsys.readouterr().out


# --- the clock and the rules ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "codes"),
    [
        (0.0, []),
        (-0.5, ["clock-off"]),
        (10.9, []),
        (11.1, ["rules-end"]),
        (340, ["rules-end", "root-ends"]),
    ],
)
def test_the_clock_and_what_runs_out_are_held_against_what_was_signed(
    home: Home, monkeypatch: pytest.MonkeyPatch, days: float, codes: list[str]
) -> None:
    moment = now() + timedelta(days=days)
    monkeypatch.setattr(doctor, "now", lambda: moment)
    assert home.codes() == codes


# --- the way to the hub -----------------------------------------------------------------------------------------------


def test_a_hub_that_does_not_answer_is_told_and_one_address_that_does_is_enough(home: Home) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        closed = f"nats://127.0.0.1:{nobody.getsockname()[1]}"
        home.at(closed)
        assert home.codes() == ["hub-unreached"]
        with listening(b"INFO {}\r\n") as port:
            home.at(closed, f"nats://127.0.0.1:{port}")
            assert home.codes() == []


def test_another_service_on_the_hubs_port_is_not_taken_for_it(home: Home) -> None:
    with listening(b"SSH-2.0-x\r\n") as port:
        home.at(f"nats://127.0.0.1:{port}")
        assert home.codes() == ["not-the-hub"]
        home.at(f"tls://127.0.0.1:{port}")
        assert home.codes() == ["not-the-hub"]


def test_an_address_in_the_clear_is_told(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET,)])
    home.at("ws://hub.example.org:80")
    assert home.codes() == ["plain-connection"]


@pytest.mark.parametrize(("kinds", "code"), [([], "name-fails"), ([socket.AF_INET6], "ipv6-only")])
def test_how_the_hubs_name_resolves_is_seen(
    home: Home, monkeypatch: pytest.MonkeyPatch, kinds: list[int], code: str
) -> None:
    def resolves(*_: Any, **__: Any) -> list[tuple[int]]:
        if not kinds:
            raise socket.gaierror
        return [(kind,) for kind in kinds]

    monkeypatch.setattr(socket, "getaddrinfo", resolves)
    monkeypatch.setattr(socket, "create_connection", lambda *_: socket.socketpair()[0])
    monkeypatch.setattr(doctor, "_routes_ipv6", lambda: False)
    monkeypatch.setattr(doctor, "_line", lambda *_: iter(()))
    home.at("tls://hub.invalid:4222")
    assert home.codes() == [code]


def served(tls: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.key)
    return context


def test_a_certificate_is_judged_by_a_real_handshake(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, _ = make_certificate(tmp_path)
    ca = tls.certificate.read_text()
    with listening(b"INFO {}\r\n", served(tls)) as port:
        for scheme in ("tls", "wss"):
            home.at(f"{scheme}://127.0.0.1:{port}", ca=ca)
            assert home.codes() == []
        home.at(f"tls://127.0.0.1:{port}")
        assert home.codes() == ["certificate-untrusted"]
        monkeypatch.setattr(socket, "getaddrinfo", real_or_loopback(socket.getaddrinfo))
        home.at(f"tls://localhost:{port}", ca=ca)
        assert home.codes() == ["certificate-host"]


def real_or_loopback(real: Callable[..., Any]) -> Callable[..., Any]:
    return lambda host, *rest, **named: real("127.0.0.1" if host == "localhost" else host, *rest, **named)


def test_a_certificate_that_has_run_out_is_told_with_the_clock_as_a_suspect(home: Home, tmp_path: Path) -> None:
    tls, _ = make_certificate(tmp_path, ends=timedelta(minutes=-1))
    with listening(b"", served(tls)) as port:
        home.at(f"tls://127.0.0.1:{port}", ca=tls.certificate.read_text())
        (finding,) = examine(home.path, wait=WAIT)
    assert finding.code == "certificate-ends"
    assert "clock" in finding.mend


def test_an_authority_that_is_not_there_is_seen(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    assert home.codes() == ["ca-missing"]


def test_a_disk_without_room_is_seen(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**40, 2**40, 0))  # type: ignore[attr-defined]
    assert home.codes() == ["disk-full"]


def test_nothing_that_is_told_names_who_lives_here(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    (home.path / "vault.json").chmod(0o644)
    home.path.chmod(0o755)
    main(["doctor", "--home", str(home.path)])
    told = capsys.readouterr().out
    assert home.member.kid not in told
    assert home.member.nkey.public not in told
