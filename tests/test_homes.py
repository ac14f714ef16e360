"""Homes that an earlier version wrote are opened and gone on with; those of a newer one are refused, and say so."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from kengele_hub import backup, consumers, streams
from kengele_hub.broker import Broker
from kengele_hub.broker import Settings as BrokerSettings
from kengele_hub.home import HubKeys
from kengele_hub.ledger import Ledger
from kengele_hub.sealed import Lock as Seal
from kengele_hub.service import origin
from kengele_hub.settings import Settings
from kengele_node.member import Member, now
from kengele_node.monitor.compose import new_report_id, plan_report, seal_report
from kengele_node.monitor.home import open_outbox
from kengele_node.office.home import open_inbox
from kengele_node.vault import Lock
from kengele_schemas import subjects
from kengele_schemas.errors import Damaged
from kengele_schemas.report import parse_draft

KEPT = sorted((Path(__file__).parent / "homes").glob("*.tar.xz"))


@pytest.fixture(params=KEPT, ids=[path.name.partition(".")[0] for path in KEPT])
def homes(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def member(homes: Path, name: str, role: str) -> Member:
    return Member.open(homes / name, Lock(key_file=homes / "key"), role)  # type: ignore[arg-type]


def test_a_monitors_outbox_goes_on(homes: Path) -> None:
    osh = member(homes, "monitors/osh", "monitor")
    trusted = osh.offline()
    box = open_outbox(osh)
    assert box.counts() == {"accepted": 1, "waiting": 1}
    value = next(entry for entry in box.entries() if entry.state == "waiting").draft
    assert value["summary"]["text"] == "The second."
    plan = plan_report(parse_draft(value), trusted, kid=osh.kid, report_id=new_report_id(), now=now())
    box.add(plan.header.id, value, plan.offices, lambda counters: seal_report(plan, osh.key, counters), now=0)
    assert box.counts()["waiting"] == 2
    box.close()


def test_an_offices_desk_goes_on(homes: Path) -> None:
    unrcca = member(homes, "offices/unrcca", "office")
    assert unrcca.offline().offices.get("unrcca") is not None
    assert unrcca.opening_keys
    inbox = open_inbox(unrcca)
    (item,) = inbox.items()
    assert item.arrival.contents["summary"].text == "The first."
    assert not inbox.asides()
    inbox.close()


def test_a_coordinators_home_goes_on(homes: Path) -> None:
    aigul = member(homes, "coordinators/aigul", "coordinator")
    trusted = aigul.offline()
    assert (trusted.version, len(trusted.monitors)) == (2, 1)
    assert "metadata/1.root.json" in aigul.trust.files()


@pytest.mark.full
def test_a_hub_goes_on(homes: Path) -> None:
    async def run() -> None:
        keys = HubKeys.load(homes / "hub")
        async with Broker(keys, BrokerSettings(port=-1)) as broker:
            nc = await broker.access.connect()
            await streams.ensure_streams(nc)
            ledger = Ledger(nc, keys.hub_key, origin(keys), homes / "hub" / "ledger.cache")
            await ledger.load()
            kinds = [one.subject.split(".")[1] async for one in consumers.read_all(nc, subjects.LEDGER)]
            assert (sorted(set(kinds)), ledger.size) == (["report", "trust"], len(kinds))
            await nc.close()

    backup.restore(homes / "hub.backup", Seal(key_file=homes / "key"), homes / "hub")
    assert Settings.load(homes / "hub").urls
    asyncio.run(run())


def newer_vault(homes: Path) -> None:
    raised(homes / "monitors/osh/vault.json")
    member(homes, "monitors/osh", "monitor")


def newer_outbox(homes: Path) -> None:
    osh = member(homes, "monitors/osh", "monitor")
    raise_stores(osh.home)
    open_outbox(osh)


def newer_inbox(homes: Path) -> None:
    unrcca = member(homes, "offices/unrcca", "office")
    raise_stores(unrcca.home)
    open_inbox(unrcca)


def newer_keys(homes: Path) -> None:
    HubKeys.create(homes / "hub")
    raised(homes / "hub" / "keys.json")
    HubKeys.load(homes / "hub")


def newer_settings(homes: Path) -> None:
    (homes / "hub").mkdir()
    Settings(token_hash="A" * 43).save(homes / "hub")
    raised(homes / "hub" / "hub.json")
    Settings.load(homes / "hub")


@pytest.mark.parametrize("opening", [newer_vault, newer_outbox, newer_inbox, newer_keys, newer_settings])
def test_a_newer_home_is_refused_and_says_so(tmp_path: Path, opening: Callable[[Path], None]) -> None:
    with tarfile.open(KEPT[-1]) as archive:
        archive.extractall(tmp_path, filter="data")
    with pytest.raises(Damaged) as caught:
        opening(tmp_path)
    assert caught.value.code in ("newer-home", "newer-store")


def raise_stores(home: Path) -> None:
    stores = [path for path in home.iterdir() if path.is_file() and path.read_bytes()[:6] == b"SQLite"]
    assert stores
    for path in stores:
        with closing(sqlite3.connect(path)) as store:
            store.execute("PRAGMA user_version=99")


def raised(path: Path) -> None:
    document = json.loads(path.read_bytes())
    path.write_text(json.dumps({**document, "v": document["v"] + 1}))
