"""``kengele hub``: what each command writes, says and ends with."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from cryptography.hazmat.primitives import serialization

from kengele_hub import credentials
from kengele_hub.home import HubKeys
from kengele_hub.ops import Page
from kengele_hub.service import origin
from kengele_hub.settings import Settings
from kengele_node.cli import main
from kengele_schemas import disk
from kengele_schemas.cards import HubCard, read_card
from kengele_schemas.encoding import b64u, unb64u
from kengele_schemas.nkeys import KeyPair
from kengele_testing.certificates import make_certificate

STATE: dict[str, Any] = {
    "pid": 7,
    "connected": True,
    "founded": True,
    "ready": True,
    "not_ready": [],
    "roster_version": 3,
    "policy_version": 2,
    "signatures_hold_until": "2026-12-09T00:00:00+00:00",
    "areas_hold_until": "2027-11-01T00:00:00+00:00",
    "areas_past_their_date": [],
    "root_holds_until": "2027-12-09T00:00:00+00:00",
    "vouched_until": "2026-12-01T00:00:00+00:00",
    "next_rule_ends": None,
    "certificate_holds_until": None,
    "last_cosigned": "2026-11-30T12:00:00+00:00",
    "log_size": 12,
    "receipts": {"accepted": 10, "id-conflict": 1},
    "paused": 0,
    "delivered": 30,
    "undelivered": 0,
    "storage_bytes": 77220,
    "storage_limit_bytes": None,
    "disk_free_bytes": 75_000_000_000,
    "disk_size_bytes": 252_000_000_000,
}


class Terminal:
    """Runs ``kengele hub`` in this process and keeps what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], home: Path) -> None:
        self._capsys = capsys
        self.home = home

    def run(self, action: str, *words: str, ends: int = 0) -> str:
        code = main(["hub", action, "--home", str(self.home), *words])
        printed = self._capsys.readouterr()
        assert code == ends, printed
        assert "Traceback" not in printed.err
        return printed.err if ends else printed.out


@pytest.fixture
def hub(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Terminal]:
    yield Terminal(capsys, tmp_path / "hub")
    logging.disable(logging.NOTSET)
    structlog.reset_defaults()


# --- init -------------------------------------------------------------------------------------------------------------


def test_init_writes_keys_settings_and_a_card_for_this_users_eyes_only(hub: Terminal) -> None:
    said = hub.run("init", "--port", "4299")

    assert {path.name for path in hub.home.iterdir()} == {"keys.json", "hub.json", "hub-card.json"}
    assert {path.stat().st_mode & 0o777 for path in hub.home.iterdir()} == {0o600}
    assert f"kengele hub run --home {hub.home}" in said
    assert str(hub.home / "hub-card.json") in said


def test_the_card_names_this_hub_and_lets_its_holder_found_a_network_and_no_more(hub: Terminal) -> None:
    hub.run("init", "--port", "4299")
    card = read_card((hub.home / "hub-card.json").read_bytes(), HubCard)
    keys, settings = HubKeys.load(hub.home), Settings.load(hub.home)

    assert card.urls == settings.urls == ("nats://127.0.0.1:4299",)
    assert card.log == origin(keys)
    for name in ("hub_key", "snapshot_key", "timestamp_key"):
        assert getattr(card, name) == b64u(bytes(getattr(keys, name).verify_key))
    assert settings.token_hash == b64u(hashlib.sha256(unb64u(card.token)).digest())
    claims = credentials.decode(card.join.jwt)
    assert claims["iss"] == keys.accounts.signing["joiner"].public
    assert claims["sub"] == KeyPair.from_seed(card.join.seed).public


def test_no_secret_of_the_hub_is_in_the_card_or_on_the_terminal(hub: Terminal) -> None:
    said = hub.run("init", "--port", "4299")
    document = json.loads((hub.home / "keys.json").read_text())
    shown = said + (hub.home / "hub-card.json").read_text() + (hub.home / "hub.json").read_text()

    assert not [name for name, secret in document.items() if name != "v" and secret in shown]
    token = json.loads((hub.home / "hub-card.json").read_text())["token"]
    assert token not in said + (hub.home / "hub.json").read_text()


def test_a_second_init_is_refused_and_changes_nothing(hub: Terminal) -> None:
    hub.run("init", "--port", "4299")
    before = {path.name: path.read_bytes() for path in hub.home.iterdir()}

    assert "(code: exists)" in hub.run("init", "--port", "4300", ends=3)
    assert {path.name: path.read_bytes() for path in hub.home.iterdir()} == before


BAD: dict[str, tuple[str, ...]] = {
    "an address of another kind": ("--url", "http://hub.example.org"),
    "an address without a host": ("--url", "nats://"),
    "an address with a name and a secret in it": ("--url", "nats://user:secret@hub.example.org"),
    "an address whose port is none": ("--url", "nats://hub.example.org:port"),
    "one good address and an empty one": ("--url", "nats://a:1", "--url", ""),
    "too many addresses": tuple(word for number in range(9) for word in ("--url", f"nats://a:{number + 1}")),
    "a certificate without its key": ("--tls-certificate", "chain.pem"),
    "a key without its certificate": ("--tls-key", "key.pem"),
    "a port that no card could name": ("--port", "-1"),
    "a port there is not": ("--port", "65536"),
    "a port for WebSocket there is not": ("--websocket-port", "65536"),
    "a port for figures there is not": ("--ops-port", "65536"),
    "a broker that is no address": ("--external", "garbage"),
    "a broker that is no address, beside a good one for members": ("--external", "garbage", "--url", "nats://a:1"),
    "a certificate and a key that are not there": ("--tls-certificate", "no.pem", "--tls-key", "no.pem"),
    "an authority that is no certificate": ("--tls-ca", __file__),
    "no address to listen on": ("--host", "", "--url", "nats://a:1"),
}


@pytest.mark.parametrize("words", BAD.values(), ids=BAD)
def test_what_cannot_be_is_told_before_any_key_is_made(hub: Terminal, words: tuple[str, ...]) -> None:
    error = hub.run("init", *words, ends=2)

    assert "What to do:" in error
    assert "secret" not in error
    assert not hub.home.exists()
    hub.run("init", "--port", "4299")


@pytest.mark.parametrize(
    ("words", "url"),
    [
        (("--port", "4299"), "nats://127.0.0.1:4299"),
        (("--host", "0.0.0.0"), "nats://127.0.0.1:4222"),
        (("--host", "::"), "nats://127.0.0.1:4222"),
        (("--host", "::1"), "nats://[::1]:4222"),
        (("--host", "10.0.0.7"), "nats://10.0.0.7:4222"),
        (("--external", "tls://nats.example.org"), "tls://nats.example.org"),
        (("--external", "nats://10.0.0.7", "--url", "wss://hub.example.org"), "wss://hub.example.org"),
        (("--port", "-1", "--url", "nats://hub.example.org:1"), "nats://hub.example.org:1"),
    ],
)
def test_the_card_names_where_members_reach_the_hub(hub: Terminal, words: tuple[str, ...], url: str) -> None:
    hub.run("init", *words)
    assert read_card((hub.home / "hub-card.json").read_bytes(), HubCard).urls == (url,)


def test_a_card_for_who_gets_through_no_other_port_names_websocket_besides(hub: Terminal) -> None:
    hub.run("init", "--port", "4299", "--websocket-port", "4300")
    card = read_card((hub.home / "hub-card.json").read_bytes(), HubCard)
    assert card.urls == ("nats://127.0.0.1:4299", "ws://127.0.0.1:4300")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--host", "10.0.0.7"), True),
        (("--url", "nats://hub.example.org"), True),
        (("--url", "tls://hub.example.org"), False),
        (("--port", "4299"), False),
    ],
)
def test_who_gives_addresses_that_members_will_refuse_is_told(
    hub: Terminal, words: tuple[str, ...], told: bool
) -> None:
    assert ("refuse addresses without TLS" in hub.run("init", *words)) is told


def test_files_named_in_the_settings_are_found_from_any_directory(
    hub: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, _ = make_certificate(tmp_path)
    monkeypatch.chdir(tmp_path)
    hub.run("init", "--tls-certificate", tls.certificate.name, "--tls-key", tls.key.name)
    settings = Settings.load(hub.home)
    assert (settings.tls_certificate, settings.tls_key) == (tls.certificate, tls.key)
    card = read_card((hub.home / "hub-card.json").read_bytes(), HubCard)
    assert (card.urls, card.ca) == (("tls://127.0.0.1:4222",), None)


def test_a_link_to_a_certificate_stays_a_link_for_whoever_renews_it_points_it_elsewhere(
    hub: Terminal, tmp_path: Path
) -> None:
    tls, _ = make_certificate(tmp_path)
    live = tmp_path / "live.pem"
    live.symlink_to(tls.certificate)
    hub.run("init", "--tls-certificate", str(live), "--tls-key", str(tls.key))
    assert Settings.load(hub.home).tls_certificate == live


def test_an_authority_of_ones_own_goes_into_the_card(hub: Terminal, tmp_path: Path) -> None:
    tls, _ = make_certificate(tmp_path)
    files = ("--tls-certificate", str(tls.certificate), "--tls-key", str(tls.key), "--tls-ca", str(tls.certificate))
    hub.run("init", *files)
    card = read_card((hub.home / "hub-card.json").read_bytes(), HubCard)
    assert card.ca == tls.certificate.read_text()


def test_a_key_behind_a_passphrase_is_refused_and_nobody_asked_for_it(hub: Terminal, tmp_path: Path) -> None:
    tls, _ = make_certificate(tmp_path)
    key = serialization.load_pem_private_key(tls.key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"seven goats")
    tls.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    files = ("--tls-certificate", str(tls.certificate), "--tls-key", str(tls.key))
    assert "(code: bad-certificate)" in hub.run("init", *files, ends=2)


# --- status -----------------------------------------------------------------------------------------------------------


@contextmanager
def page(state: dict[str, Any], home: Path) -> Iterator[None]:
    """The page of a hub that runs in ``home``."""
    loop = asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with Page(lambda: state).serving(-1) as url:
            home.mkdir(exist_ok=True)
            (home / "running.json").write_text(json.dumps({"ops": url, "url": ""}))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(60)
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
        loop.close()


def test_status_says_how_the_hub_is_in_words_and_as_json(hub: Terminal) -> None:
    with page(STATE, hub.home):
        words = hub.run("status")
        assert json.loads(hub.run("status", "--json")) == STATE

    assert words.startswith("The hub takes reports.\n")
    assert "accepted 10, id-conflict 1" in words


@contextmanager
def listener(answer: bytes) -> Iterator[str]:
    """A program that is no hub and answers whatever it is asked with ``answer``."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(60)


def test_who_may_not_look_at_a_hub_is_not_told_that_it_is_away(hub: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.run("init")

    def denied(*_: object) -> bytes:
        raise PermissionError

    monkeypatch.setattr(disk, "read", denied)
    assert "(code: not-yours)" in hub.run("status", ends=3)


@pytest.mark.parametrize("left", ["", "{", '{"url":""}', '{"ops":"http://127.0.0.1:1"}', '{"ops":""}', "[]"])
def test_status_of_a_hub_that_is_away_ends_with_4(hub: Terminal, left: str) -> None:
    said = hub.run("status", ends=4)
    assert "(code: hub-away)" in said
    assert "kengele hub init" in said

    hub.home.mkdir()
    (hub.home / "running.json").write_text(left)
    assert "(code: hub-away)" in hub.run("status", ends=4)
    assert "(code: hub-away)" in hub.run("status", "--json", ends=4)


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-other\r\n", b"HTTP/1.1 404 No\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nhello", b""]
)
def test_another_program_on_the_port_of_a_hub_that_was_killed_is_not_taken_for_it(hub: Terminal, answer: bytes) -> None:
    hub.home.mkdir()
    with listener(answer) as url:
        (hub.home / "running.json").write_text(json.dumps({"ops": url}))
        assert "(code: hub-away)" in hub.run("status", ends=4)


# --- export -----------------------------------------------------------------------------------------------------------


def test_export_writes_what_a_brokers_operator_needs_and_no_secret(hub: Terminal, tmp_path: Path) -> None:
    hub.run("init", "--port", "4299")
    out = tmp_path / "nats"
    told = hub.run("export", str(out))

    files = sorted(path for path in out.rglob("*") if path.is_file())
    assert sorted(map(Path, told.splitlines())) == files
    accounts = HubKeys.load(hub.home).accounts
    names = {"kengele.conf", "helm-values.yaml", f"{accounts.hub.public}.jwt", f"{accounts.nodes.public}.jwt"}
    assert {path.name for path in files} == names
    document = json.loads((hub.home / "keys.json").read_text())
    text = "".join(path.read_text() for path in files)
    assert not [name for name, secret in document.items() if name != "v" and secret in text]


def test_export_writes_over_nothing(hub: Terminal, tmp_path: Path) -> None:
    hub.run("init", "--port", "4299")
    out = tmp_path / "nats"
    out.mkdir()
    hub.run("export", str(out))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    assert "(code: exists)" in hub.run("export", str(out), ends=3)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    (tmp_path / "file").write_text("kept")
    hub.run("export", str(tmp_path / "file"), ends=1)
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("action", ["run", "export"])
def test_where_there_is_no_hub_nothing_is_run_or_exported(hub: Terminal, tmp_path: Path, action: str) -> None:
    words = () if action == "run" else (str(tmp_path / "out"),)
    assert "kengele hub init" in hub.run(action, *words, ends=7)
    assert not (tmp_path / "out").exists()


# --- run --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["garbage", "https://nats.example.org", "nats://host:port"])
def test_a_broker_that_is_no_address_is_told_at_once(hub: Terminal, url: str) -> None:
    hub.run("init", "--port", "4299")
    error = hub.run("run", "--external", url, ends=2)
    assert "The field 'external' is not the address of a NATS server." in error


@contextmanager
def process(home: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """``kengele hub run`` in a process of its own."""
    command = [sys.executable, "-m", "kengele_node.cli", "hub", "run", "--home", str(home), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def logged(running: subprocess.Popen[str], event: str) -> dict[str, Any]:
    """The first line of the log that speaks of ``event``; the test's own bound ends a wait in vain."""
    assert running.stderr is not None
    for line in running.stderr:
        found: dict[str, Any] = json.loads(line)
        if found["event"] == event:
            return found
    raise AssertionError(f"the hub ended without a word of {event}")


@pytest.mark.full
@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_hub_runs_until_it_is_told_to_stop_and_leaves_no_address_behind(
    hub: Terminal, number: signal.Signals
) -> None:
    hub.run("init", "--port", "4299")
    settings = Settings.load(hub.home).model_copy(update={"port": -1})
    settings.save(hub.home)
    with process(hub.home) as running:
        assert logged(running, "hub-started")["url"].startswith("nats://127.0.0.1:")
        assert json.loads(hub.run("status", "--json"))["pid"] == running.pid
        running.send_signal(number)
        logged(running, "hub-stopped")
        assert running.wait(60) == 0
    assert not (hub.home / "running.json").exists()
    assert "(code: hub-away)" in hub.run("status", ends=4)


@pytest.mark.full
@pytest.mark.timeout(60)
@pytest.mark.parametrize("which", ["port", "ops_port"])
def test_a_port_that_another_program_holds_is_told_by_its_number(hub: Terminal, which: str) -> None:
    hub.run("init", "--port", "4299")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        settings = Settings.load(hub.home).model_copy(update={"port": -1, which: port})
        settings.save(hub.home)
        with process(hub.home) as running:
            _, told = running.communicate(timeout=50)
    assert running.returncode == 4
    assert "(code: port-taken)" in told
    assert f"Port {port} " in told


@pytest.mark.full
@pytest.mark.timeout(60)
def test_a_hub_without_room_for_its_streams_says_which_setting_to_raise(hub: Terminal) -> None:
    hub.run("init", "--port", "4299")
    Settings.load(hub.home).model_copy(update={"port": -1, "max_store": 2**28}).save(hub.home)
    with process(hub.home) as running:
        _, told = running.communicate(timeout=50)
    assert running.returncode == 7
    assert "(code: storage-full)" in told
    assert "max_store" in told


def test_a_certificate_that_was_moved_away_stops_the_hub_at_its_start(hub: Terminal, tmp_path: Path) -> None:
    tls, _ = make_certificate(tmp_path)
    hub.run("init", "--tls-certificate", str(tls.certificate), "--tls-key", str(tls.key))
    tls.key.unlink()
    told = hub.run("run", ends=2)
    assert "(code: bad-certificate)" in told
    assert str(tls.key) in told
