"""The hub's doctor: each fault by itself gives its own code and no other, with a mend; a hub that is well none."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from kengele_hub import doctor, feeds, symptoms
from kengele_hub.access import Access
from kengele_hub.broker import Broker
from kengele_hub.broker import Settings as BrokerSettings
from kengele_hub.doctor import RESERVED, examine, new_enough
from kengele_hub.home import HubKeys
from kengele_hub.settings import FILE, Settings
from kengele_hub.symptoms import MACHINE, RUNNING, Symptoms, gathered
from kengele_node.cli import main
from kengele_schemas.findings import Certificate
from kengele_testing.certificates import make_certificate
from kengele_testing.hub import running_hub
from kengele_testing.nats import free_port, program

NOW = datetime(2026, 12, 1, tzinfo=UTC)
SERVER: dict[str, Any] = {
    "version": "2.15.1",
    "now": "2026-12-01T00:00:00.123456789Z",
    "jetstream": {"config": {"sync_always": True, "max_storage": 2**36}, "stats": {"storage": 77220}},
}
STATE: dict[str, Any] = {
    "not_ready": [],
    "founded": True,
    "signatures_hold_until": "2026-12-13T00:00:00+00:00",
    "root_holds_until": "2027-11-01T00:00:00+00:00",
    "vouched_until": "2026-12-02T00:00:00+00:00",
    "next_rule_ends": "2027-03-31T23:59:59+00:00",
    "last_cosigned": "2026-11-30T23:45:00+00:00",
    "log_size": 1200,
    "undelivered": 0,
}
HOST = "hub.example.org"
WELL = Symptoms(
    free=2**36,
    size=2**38,
    replicas=1,
    urls=(f"tls://{HOST}:4222", f"wss://{HOST}"),
    version="2.15.1",
    certificate=Certificate(True, NOW - timedelta(days=1), NOW + timedelta(days=60), (HOST,)),
    resolved={HOST: "both"},
    reached=True,
    servers=[SERVER],
    accounts=True,
    skew=0.4,
    state=STATE,
)


def server(**changes: Any) -> list[dict[str, Any]]:
    return [{**SERVER, **changes}]


def jetstream_with(storage: int = 0, **config: Any) -> list[dict[str, Any]]:
    given = {**SERVER["jetstream"]["config"], **config}
    return server(jetstream={"config": given, "stats": {"storage": storage}})


def state(**changes: Any) -> dict[str, Any]:
    return {**STATE, **changes}


def certificate(**changes: Any) -> Certificate:
    assert WELL.certificate is not None
    return replace(WELL.certificate, **changes)


FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("nats-old", {"version": "2.14.9"}),
    ("nats-old", {"servers": server(version="2.11.4")}),
    ("no-broker", {"program": False, "version": None}),
    ("sync-off", {"servers": jetstream_with(sync_always=False)}),
    ("sync-off", {"servers": jetstream_with(sync_always=None)}),
    ("clock-off", {"skew": 6.0}),
    ("clock-off", {"skew": -3600.0}),
    ("certificate-ends", {"certificate": certificate(ends=NOW + timedelta(days=13))}),
    ("certificate-ends", {"certificate": certificate(ends=NOW)}),
    ("certificate-early", {"certificate": certificate(begins=NOW + timedelta(hours=1))}),
    ("certificate-host", {"certificate": certificate(names=("other.example.org", "*.hub.example.org"))}),
    ("bad-certificate", {"certificate": Certificate(usable=False)}),
    ("port-taken", {"taken": [4222]}),
    ("disk-full", {"free": 2**38 // 21}),
    ("disk-full", {"free": 2**27, "size": 2**29}),
    ("disk-read-only", {"writable": False}),
    ("files-exposed", {"exposed": ["hub-card.json"]}),
    ("other-owner", {"foreign": ["keys.json"]}),
    ("broker-left-over", {"held": True, "answers": False, "state": None}),
    ("hub-away", {"answers": False, "state": None}),
    ("another-machine", {"elsewhere": True}),
    ("another-network", {"own_card": False}),
    ("accounts-missing", {"accounts": False}),
    ("jetstream-off", {"servers": server(jetstream={})}),
    ("jetstream-small", {"servers": jetstream_with(max_storage=RESERVED - 1)}),
    ("jetstream-small", {"max_store": RESERVED - 1, "reached": None, "servers": []}),
    ("jetstream-full", {"servers": jetstream_with(int(0.91 * 2**36))}),
    ("too-few-servers", {"replicas": 3, "servers": [SERVER, SERVER]}),
    ("broker-away", {"reached": False, "servers": []}),
    ("plain-address", {"urls": ("nats://hub.example.org:4222",)}),
    ("name-fails", {"resolved": {HOST: "none"}}),
    ("ipv6-only", {"resolved": {HOST: "ipv6"}, "ipv6": False}),
    ("ca-missing", {"no_authorities": ["SSL_CERT_FILE"]}),
    ("feed-full", {"feeds_full": 1}),
    ("feed-waits", {"feeds_waiting": 2}),
    ("hub-restored", {"state": state(founded=False, not_ready=["hub-restored"])}),
    ("not-founded", {"state": state(founded=False)}),
    ("signatures-end", {"state": state(signatures_hold_until="2026-12-03T23:00:00+00:00")}),
    ("root-ends", {"state": state(root_holds_until="2026-12-30T00:00:00+00:00")}),
    ("rules-end", {"state": state(next_rule_ends="2026-12-14T23:59:59+00:00")}),
    ("vouched-ended", {"state": state(vouched_until="2026-11-30T00:00:00+00:00")}),
    ("not-witnessed", {"state": state(last_cosigned="2026-11-23T00:00:00+00:00")}),
    ("not-witnessed", {"state": state(last_cosigned=None)}),
    ("delivery-behind", {"state": state(undelivered=1001)}),
    ("storage-full", {"state": state(not_ready=["storage-full"])}),
]


def test_a_hub_that_is_well_is_told_nothing() -> None:
    assert examine(WELL, NOW) == []


@pytest.mark.parametrize(("code", "changes"), FAULTS, ids=lambda value: value if isinstance(value, str) else "")
def test_each_fault_gives_its_own_code_and_no_other(code: str, changes: dict[str, Any]) -> None:
    (finding,) = examine(replace(WELL, **changes), NOW)
    assert finding.code == code
    assert finding.what.endswith(".")
    assert len(finding.mend) > 20
    assert finding.document() == {"code": code, "what": finding.what, "mend": finding.mend}


@pytest.mark.parametrize(
    "changes",
    [
        {"certificate": certificate(ends=NOW + timedelta(days=14))},
        {"certificate": certificate(names=("*.example.org",))},
        {"certificate": None},
        {"skew": -4.9},
        {"skew": None},
        {"urls": ("nats://127.0.0.1:4222", "ws://localhost")},
        {"resolved": {HOST: "ipv6"}},
        {"held": True},
        {"reached": None, "servers": []},
        {"replicas": 3, "servers": [SERVER] * 3},
        {"state": state(signatures_hold_until="2026-12-04T00:00:00+00:00", undelivered=None)},
        {"state": state(last_cosigned=None, log_size=0)},
        {"state": state(root_holds_until=None, next_rule_ends=None, vouched_until=None)},
    ],
)
def test_what_is_within_bounds_is_not_told(changes: dict[str, Any]) -> None:
    assert examine(replace(WELL, **changes), NOW) == []


def test_one_fault_of_three_servers_is_told_once() -> None:
    three = jetstream_with(sync_always=False) * 3
    assert [found.code for found in examine(replace(WELL, servers=three, replicas=3), NOW)] == ["sync-off"]


@pytest.mark.parametrize(
    ("version", "enough"),
    [("2.15.1", True), ("2.15.10", True), ("3.0.0-beta.1", True), ("2.15.0", False), ("2.9.25", False), ("", False)],
)
def test_versions_are_numbers_and_no_texts(version: str, enough: bool) -> None:
    assert new_enough(version) is enough


# --- what is seen on a real machine -----------------------------------------------------------------------------------


class Clinic:
    """A hub's home, and the doctor in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], home: Path) -> None:
        self._capsys = capsys
        self.home = home
        self.port = free_port()

    def init(self, *words: str) -> None:
        assert main(["hub", "init", "--home", str(self.home), "--port", str(self.port), *words]) == 0
        self._capsys.readouterr()

    def codes(self) -> set[str]:
        return {finding["code"] for finding in self.findings()}

    def findings(self) -> list[dict[str, str]]:
        code = main(["doctor", "--home", str(self.home), "--json"])
        found: list[dict[str, str]] = json.loads(self._capsys.readouterr().out)["findings"]
        assert code == (8 if found else 0)
        return found

    def words(self) -> str:
        main(["doctor", "--home", str(self.home)])
        return self._capsys.readouterr().out

    def edit(self, **members: Any) -> None:
        settings = json.loads((self.home / FILE).read_text())
        (self.home / FILE).write_text(json.dumps({**settings, **members}))


@pytest.fixture
def clinic(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Clinic]:
    made = Clinic(capsys, tmp_path / "hub")
    made.init()
    yield made
    logging.disable(logging.NOTSET)
    structlog.reset_defaults()


def test_a_new_hub_only_does_not_run_yet(clinic: Clinic) -> None:
    assert clinic.codes() == {"hub-away"}
    words = clinic.words()
    assert "What to do: systemctl start kengele-hub" in words
    assert words.endswith("1 found.\n")


def test_a_home_that_is_none_and_settings_that_are_wrong_are_told(clinic: Clinic, tmp_path: Path) -> None:
    clinic.edit(**{"websocket-port": 443})
    (finding,) = clinic.findings()
    assert finding["code"] == "bad-settings"
    assert "websocket_port" in finding["mend"]
    clinic.home = tmp_path / "none"
    assert clinic.codes() == {"no-vault"}


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda home: (home / "keys.json").chmod(0o640), "keys-exposed"),
        (lambda home: (home / "keys.json").unlink(), "no-keys"),
        (lambda home: (home / "keys.json").write_bytes(b"{}"), "damaged"),
        (lambda home: (home.chmod(0o755), (home / "hub-card.json").chmod(0o644)), "files-exposed"),
        (lambda home: (home / "hub-card.json").write_text("{}"), "another-network"),
        (lambda home: (home / MACHINE).write_text("0" * 32), "another-machine"),
    ],
)
def test_what_was_done_to_a_home_is_seen(clinic: Clinic, spoil: Callable[[Path], Any], code: str) -> None:
    spoil(clinic.home)
    assert clinic.codes() - {"hub-away"} == {code}


def test_a_card_of_another_hub_is_seen(clinic: Clinic, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    other = Clinic(capsys, tmp_path / "other")
    other.init()
    (clinic.home / "hub-card.json").write_bytes((other.home / "hub-card.json").read_bytes())
    assert clinic.codes() == {"another-network", "hub-away"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_that_a_command_run_as_root_left_behind_is_seen(clinic: Clinic) -> None:
    os.chown(clinic.home / "hub-card.json", 12345, 12345)
    assert clinic.codes() == {"other-owner", "hub-away"}


def test_a_port_that_another_program_holds_is_seen(clinic: Clinic) -> None:
    with socket.create_server(("127.0.0.1", clinic.port)):
        (finding,) = [found for found in clinic.findings() if found["code"] != "hub-away"]
    assert finding["code"] == "port-taken"
    assert str(clinic.port) in finding["what"]


@contextmanager
def holding(lock: Path) -> Iterator[None]:
    """Another process that holds ``lock``, as a broker that outlived its hub does."""
    lock.parent.mkdir(mode=0o700)
    script = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.communicate(b"\n", timeout=10)


def test_a_broker_that_outlived_its_hub_is_seen_and_a_lock_that_nobody_holds_is_not(clinic: Clinic) -> None:
    lock = clinic.home / "broker/lock"
    with holding(lock):
        assert clinic.codes() == {"broker-left-over"}
    assert lock.exists()
    assert clinic.codes() == {"hub-away"}
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_certificate_is_looked_at_as_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tls, _ = make_certificate(tmp_path)
    made = Clinic(capsys, tmp_path / "hub")
    tls.key.chmod(0o600)
    made.init("--tls-certificate", str(tls.certificate), "--tls-key", str(tls.key), "--url", "tls://localhost:4222")
    assert made.codes() == {"certificate-ends", "certificate-host", "hub-away"}
    tls.key.chmod(0o644)
    assert "files-exposed" in made.codes()
    tls.key.unlink()
    assert made.codes() == {"bad-certificate", "hub-away"}
    logging.disable(logging.NOTSET)
    structlog.reset_defaults()


def test_an_authority_that_is_not_there_is_seen(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    assert clinic.codes() == {"ca-missing", "hub-away"}


@pytest.mark.parametrize(
    ("kinds", "code"),
    [([], {"name-fails"}), ([socket.AF_INET6], {"ipv6-only"}), ([socket.AF_INET, socket.AF_INET6], set())],
)
def test_how_the_hubs_name_resolves_is_seen(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, kinds: list[int], code: set[str]
) -> None:
    def resolves(*_: Any, **__: Any) -> list[tuple[int]]:
        if not kinds:
            raise socket.gaierror
        return [(kind,) for kind in kinds]

    clinic.edit(urls=["tls://hub.invalid:4222"])
    monkeypatch.setattr(socket, "getaddrinfo", resolves)
    monkeypatch.setattr(symptoms, "routes_ipv6", lambda: False)
    assert clinic.codes() == {"hub-away"} | code


def test_an_old_nats_server_is_seen_by_asking_it(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = tmp_path / "nats-server"
    old.write_text("#!/bin/sh\necho nats-server: v2.10.22\n")
    old.chmod(0o755)
    monkeypatch.setattr(symptoms.sysconfig, "get_path", lambda _: str(tmp_path))
    assert clinic.codes() == {"nats-old", "hub-away"}
    monkeypatch.setenv("PATH", "")
    old.unlink()
    assert clinic.codes() == {"no-broker", "hub-away"}


def test_a_full_disk_and_one_that_cannot_be_written_are_seen(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symptoms, "disk_of", lambda _: (2**20, 2**40, False))
    assert clinic.codes() == {"disk-full", "disk-read-only", "hub-away"}


def test_what_is_told_holds_no_key_and_no_token(clinic: Clinic) -> None:
    (clinic.home / MACHINE).write_text("0" * 32)
    told = clinic.words() + json.dumps(clinic.findings())
    secrets = json.loads((clinic.home / "keys.json").read_text()).values()
    card = json.loads((clinic.home / "hub-card.json").read_text())
    hidden = [*secrets, card["token"], card["hub_key"], card["join"]["seed"], card["join"]["jwt"]]
    assert not [text for text in hidden if isinstance(text, str) and text in told]


# --- with real brokers ------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_an_external_broker_is_asked_what_it_is(clinic: Clinic, tmp_path: Path) -> None:
    url = f"nats://127.0.0.1:{clinic.port}"
    clinic.edit(external=url, urls=[url])
    assert clinic.codes() == {"broker-away", "hub-away"}
    keys = HubKeys.load(clinic.home)

    async def look(broker: Broker | None = None) -> set[str]:
        return {found.code for found in examine(await gathered(clinic.home))} - {"hub-away"}

    async def scenario() -> None:
        other = replace(keys, home=tmp_path / "broker")
        async with Broker(other, BrokerSettings(port=clinic.port)):
            assert await look() == set()
            clinic.edit(external=url, urls=[url], replicas=3)
            assert await look() == {"too-few-servers"}
            clinic.edit(external=url, urls=[url], replicas=1)
        async with Broker(other, BrokerSettings(port=clinic.port, max_store=2**28)):
            assert await look() == {"jetstream-small"}

    asyncio.run(scenario())


@pytest.mark.full
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('jetstream: {store_dir: "js", sync_interval: "2m", max_file_store: 8GB}', {"sync-off", "accounts-missing"}),
        ("jetstream: disabled", {"jetstream-off", "accounts-missing"}),
        ("", {"accounts-missing"}),
    ],
)
def test_a_broker_that_its_operator_set_up_otherwise_is_seen(
    clinic: Clinic, tmp_path: Path, line: str, code: set[str]
) -> None:
    url = f"nats://127.0.0.1:{clinic.port}"
    clinic.edit(external=url, urls=[url])
    directory = tmp_path / "nats"
    Access(HubKeys.load(clinic.home), "").export(directory)
    for path in (directory / "jwt").iterdir():
        path.unlink()
    (directory / "server.conf").write_text(f"listen: 127.0.0.1:{clinic.port}\ninclude kengele.conf\n{line}\n")
    with subprocess.Popen(
        [program(), "-c", "server.conf"], cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            found: set[str] = {"broker-away"}
            while "broker-away" in found:
                found = clinic.codes() - {"hub-away"}
            assert found == code
        finally:
            process.kill()


@pytest.mark.full
def test_feeds_that_are_full_or_not_fetched_are_counted_and_not_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(symptoms, "_MANY", 0)

    async def scenario() -> None:
        async with running_hub(tmp_path) as hub:
            seen = Symptoms()
            await symptoms._look_at_feeds(seen, hub.nc)
            assert (seen.feeds_full, seen.feeds_waiting) == (0, 0)
            await hub.take(("osh", hub.roster.sealed()))
            async with hub.running("delivery"), asyncio.timeout(60):
                while hub.delivery.delivered < 2:
                    await asyncio.sleep(0.02)
            await feeds.ensure_feed(hub.nc, hub.roster.nkeys["council"], max_bytes=1)
            await symptoms._look_at_feeds(seen, hub.nc)
            assert (seen.feeds_full, seen.feeds_waiting) == (1, 2)

    asyncio.run(scenario())


@pytest.mark.full
@pytest.mark.timeout(60)
def test_a_hub_that_runs_is_asked_and_is_only_not_founded_yet(clinic: Clinic) -> None:
    command = [sys.executable, "-m", "kengele_node.cli", "hub", "run", "--home", str(clinic.home)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stderr is not None
            while json.loads(running.stderr.readline())["event"] != "hub-started":
                pass
            assert clinic.codes() == {"not-founded"}
            assert (clinic.home / RUNNING).exists()
            assert Settings.load(clinic.home).port == clinic.port
            (clinic.home / MACHINE).write_text("0" * 32)
            assert clinic.codes() == {"not-founded", "another-machine"}
        finally:
            running.kill()
    assert doctor.OLDEST <= (2, 15, 1)
