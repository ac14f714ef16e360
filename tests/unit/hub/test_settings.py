"""The hub's settings: what is wrong in the file is told by its field, and nothing half right starts a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kengele_hub.settings import FILE, Settings
from kengele_schemas import disk
from kengele_schemas.encoding import dumps
from kengele_schemas.errors import Damaged, Malformed, Refused

HASH = "A" * 43
HASHED = f'"token_hash": "{HASH}"}}'
TLS = {"tls_certificate": "/etc/kengele/chain.pem", "tls_key": "/etc/kengele/key.pem"}


def written(tmp_path: Path, **members: Any) -> Path:
    (tmp_path / FILE).write_bytes(dumps({"token_hash": HASH} | members))
    return tmp_path


def refused(home: Path) -> Malformed:
    with pytest.raises(Malformed) as caught:
        Settings.load(home)
    assert caught.value.code == "bad-settings"
    assert str(home / FILE) in caught.value.sentence
    return caught.value


WRONG: list[tuple[str, Any, str]] = [
    ("v", 0, "v"),
    ("urls", "nats://127.0.0.1:4222", "urls"),
    ("urls", ["nats://127.0.0.1:4222", "http://CANARY.example"], "urls[1]"),
    ("urls", ["nats://"], "urls[0]"),
    ("urls", ["nats://user:CANARY@hub.example:4222"], "urls[0]"),
    ("urls", ["nats://hub.example:port"], "urls[0]"),
    ("urls", ["nats://hub.example:0"], "urls[0]"),
    ("urls", ["nats://hub.example:99999"], "urls[0]"),
    ("urls", ["nats://[::1:4222"], "urls[0]"),
    ("urls", ["tls://hub. example:4222"], "urls[0]"),
    ("urls", [f"tls://{'x' * 200}"], "urls[0]"),
    ("urls", [""], "urls[0]"),
    ("urls", ["tls://a"] * 9, "urls"),
    ("host", 7, "host"),
    ("host", "", "host"),
    ("port", "4222", "port"),
    ("port", 65536, "port"),
    ("port", -2, "port"),
    ("port", True, "port"),
    ("port", None, "port"),
    ("websocket_port", 65536, "websocket_port"),
    ("tls_certificate", 7, "tls_certificate"),
    ("tls_key", ["CANARY"], "tls_key"),
    ("external", "CANARY", "external"),
    ("external", "https://nats.example.org", "external"),
    ("external", None, "external"),
    ("replicas", 2, "replicas"),
    ("replicas", "3", "replicas"),
    ("max_store", 0, "max_store"),
    ("max_store", 1.5, "max_store"),
    ("ledger_max_bytes", -2, "ledger_max_bytes"),
    ("ledger_max_bytes", None, "ledger_max_bytes"),
    ("ops_port", 65536, "ops_port"),
    ("ops_port", "none", "ops_port"),
    ("ops_hosts", ["figures.example.org", "a b"], "ops_hosts[1]"),
    ("ops_hosts", "figures.example.org", "ops_hosts"),
    ("ops_hosts", [f"{number}.example.org" for number in range(9)], "ops_hosts"),
    ("token_hash", "CANARY", "token_hash"),
    ("token_hash", None, "token_hash"),
]


@pytest.mark.parametrize(("name", "value", "field"), WRONG)
def test_a_wrong_value_is_told_by_its_field_and_not_repeated(tmp_path: Path, name: str, value: Any, field: str) -> None:
    error = refused(written(tmp_path, **{name: value}))

    assert f", line 1: The field '{field}' " in error.sentence
    assert error.mend
    assert "CANARY" not in error.diagnostics()


def test_every_field_stands_in_the_table_of_wrong_values() -> None:
    assert {name for name, _, _ in WRONG} == set(Settings.model_fields)


def test_a_mistyped_field_is_told_and_its_name_not_repeated(tmp_path: Path) -> None:
    error = refused(written(tmp_path, CANARY=1))

    assert "holds a member that is not known" in error.sentence
    assert "CANARY" not in error.diagnostics()


@pytest.mark.parametrize(
    ("text", "line", "mend"),
    [
        ('{\n  "port": 4222,\n  "websocket-port": 443,\n  ' + HASHED, 3, "Perhaps websocket_port is meant"),
        ('{\n  "CANARY": 1,\n  ' + HASHED, 2, "Remove what the format does not name"),
        ('{\n\n  "port":\n    "4222"}', 3, 'Write it as in: "port": 4222'),
        ('{"urls": [\n"tls://a:1",\n"http://CANARY"]}', 1, "tls://hub.example.org:4222"),
        ('{\n  "port": 1,\n  "port": 2\n}', 3, "Leave one of the two out."),
        ('{\n  "port": 4222\n  "host": "::"\n}', 3, "comma"),
        ('{\n  "port": 4222,\n}', 3, "comma"),
        ('{"port": 4222}\n{}', 2, "comma"),
        ("{\n  port: 4222\n}", 2, "quotation mark"),
    ],
)
def test_what_is_wrong_is_told_by_its_line_with_the_mend(tmp_path: Path, text: str, line: int, mend: str) -> None:
    (tmp_path / FILE).write_text(text)
    error = refused(tmp_path)

    assert f"{FILE}, line {line}: " in error.sentence
    assert mend in error.mend
    assert "CANARY" not in error.diagnostics()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text('{}[]":,\\ \nport1', max_size=40))
def test_whatever_stands_in_the_file_is_refused_with_a_word(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    refused(tmp_path)


@pytest.mark.parametrize(
    "members",
    [{"replicas": 3}, {"port": 443, "websocket_port": 443}, {"port": 9090, "ops_port": 9090}],
)
def test_what_cannot_be_together_is_refused(tmp_path: Path, members: dict[str, Any]) -> None:
    assert refused(written(tmp_path, **members)).mend.startswith(("Set replicas", "Give port"))


@pytest.mark.parametrize("half", TLS)
def test_half_of_tls_is_refused_and_not_taken_for_none(tmp_path: Path, half: str) -> None:
    error = refused(written(tmp_path, **{half: TLS[half]}))
    assert "certificate without its key" in error.sentence


def test_without_the_tokens_hash_nobody_could_found_a_network(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"{}")
    assert "The field 'token_hash' is missing." in refused(tmp_path).sentence


def test_who_may_not_read_the_settings_is_not_told_to_make_another_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> bytes:
        raise PermissionError

    monkeypatch.setattr(disk, "read_own", denied)
    with pytest.raises(Refused) as caught:
        Settings.load(tmp_path)
    assert caught.value.code == "not-yours"
    assert "init" not in caught.value.mend


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b'{"port":1,"port":2}', b" " * 70_000])
def test_a_file_that_is_no_settings_is_told_apart_from_none(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(Damaged) as caught:
        Settings.load(tmp_path)
    assert caught.value.code == "no-hub"

    (tmp_path / FILE).write_bytes(data)
    refused(tmp_path)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"urls": ["tls://hub.example.org:4222", "wss://hub.example.org", "nats://[::1]:4222"]},
        {**TLS, "host": "0.0.0.0", "port": 4222, "websocket_port": 443},
        {"external": "nats://10.0.0.7:4222", "replicas": 3, "ops_port": 0},
        {"max_store": 1, "ledger_max_bytes": 0},
        {"ops_port": 9464, "ops_hosts": ["figures.example.org", "10.0.0.7:9464", "[fd00::7]:9464"]},
    ],
)
def test_what_is_saved_is_read_back_as_it_was(tmp_path: Path, members: dict[str, Any]) -> None:
    first = Settings.load(written(tmp_path, **members))
    first.save(tmp_path)

    assert Settings.load(tmp_path) == first
    assert first.model_dump(mode="json", exclude_unset=True) == {"token_hash": HASH} | members
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


def test_by_default_a_hub_is_on_this_machine_only() -> None:
    settings = Settings(token_hash=HASH)
    assert (settings.host, settings.external, settings.tls_certificate) == ("127.0.0.1", "", None)
