"""What sharing does, and what nobody can do by it: hub, broker and members are real, each with its own keys."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kengele_node.cli import main
from kengele_node.member import now
from kengele_node.monitor.compose import new_report_id
from kengele_node.monitor.recalling import plan_recall
from kengele_node.office.arrivals import Arrival, Item, Tombstone
from kengele_node.office.desk import receive
from kengele_node.office.home import open_inbox
from kengele_node.sharing.plan import Source, gains, made
from kengele_schemas import subjects
from kengele_schemas.compartments import ALL_BITS
from kengele_schemas.encoding import loads, unb64u
from kengele_schemas.envelope import parse, strip
from kengele_schemas.errors import KengeleError, Refused
from kengele_schemas.sealing import Reader
from kengele_schemas.sharing import join, make_share, open_held, split
from kengele_testing.network import draft, small_network
from kengele_testing.recalls import followed, recalled, reported, until_held

pytestmark = [pytest.mark.full, pytest.mark.timeout(240)]

LATER = {
    "grant": ["summary", "account"],
    "areas": ["KG"],
    "categories": ["*"],
    "tlp_up_to": "AMBER",
    "expires": "2199-12-31",
    "reason": "test",
    "id": "later",
    "to": ["office:cewarn", "office:un-hq"],
}


class Town:
    """The small network, and ``kengele`` run in the home of one of its members."""

    def __init__(self, network: Any, capsys: pytest.CaptureFixture[str]) -> None:
        self.network, self._capsys = network, capsys
        self.osh, self.offices = network.monitors["osh"], network.offices

    async def kengele(self, member: Any, *words: str, code: int = 0) -> str:
        home = ["--home", str(member.home), "--key-file", str(self.network.home / "key")]
        self._capsys.readouterr()
        assert await asyncio.to_thread(main, [*words, *home]) == code
        return self._capsys.readouterr().out

    async def json(self, member: Any, *words: str, code: int = 0) -> Any:
        return json.loads(await self.kengele(member, *words, "--json", code=code))

    async def report(self, *options: str) -> str:
        """A report as the command sends it; gives its id."""
        words = ["--area", "KG-O", "--category", "rumour", "--severity", "2", "--tlp", "AMBER", "--lang", "en"]
        text = ["--summary", "Talk of a fight.", "--account", "At the bazaar."]
        sent = await self.json(self.osh, "node", "report", *words, *text, *options)
        assert sent["state"] == "accepted"
        return str(sent["id"])

    async def grant(self, *rules: Any) -> None:
        """Two coordinators adopt the rule by which CEWARN and Headquarters come to read what comes from Kyrgyzstan."""

        def change(before: Any) -> Any:
            policy = before["policy.json"]
            listed = [*policy["rules"], *(rules or [LATER])]
            return {"policy.json": {**policy, "version": policy["version"] + 1, "rules": listed}}

        await self.network.publish(change, ("aigul", "moussa"))

    async def desk(self, office: str) -> list[Any]:
        return await followed(self.offices[office])


def in_town(tmp_path: Path, capsys: pytest.CaptureFixture[str], claim: Callable[[Town], Awaitable[None]]) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            await claim(Town(network, capsys))

    asyncio.run(run())


def test_an_office_granted_later_reads_what_its_author_shares_and_a_recall_reaches_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def claim(town: Town) -> None:
        report_id = await town.report("--keep-keys")
        await until_held(town.offices["un-hq"], 1)
        assert (await town.json(town.osh, "node", "share"))["plan"] == []
        await town.grant()
        # Without a word that it is so nothing is shared, and what would be is shown.
        shown = await town.json(town.osh, "node", "share", "1", code=1)
        assert [(one["office"], one["compartments"], one["rules"]) for one in shown["plan"]] == [
            ("cewarn", ["summary", "account"], ["later"]),
            ("un-hq", ["summary", "account"], ["later"]),
        ]
        assert shown["shares"] == []
        assert not await town.desk("cewarn")
        said = await town.kengele(town.osh, "node", "share", "--yes")
        assert "will read: summary, account (rule later)" in said
        assert f"Shared report {report_id} with cewarn: summary, account." in said

        (item,) = await until_held(town.offices["cewarn"], 1)
        assert item.flags == ("shared-later-by-author",)
        assert set(item.arrival.contents) == {"summary", "account"}
        listed = await town.kengele(town.offices["cewarn"], "office", "show")
        assert "[shared-later-by-author]" in listed
        passed_on = tmp_path / "report.txt"
        shown_id = ("office", "show", "--id", report_id, "--sd-jwt")
        passed_on.write_text(await town.kengele(town.offices["cewarn"], *shown_id))
        await town.kengele(town.offices["cewarn"], "verify", str(passed_on))
        # Who had a part has the whole, in one place.
        async with asyncio.timeout(30):
            while len(found := await town.desk("un-hq")) != 1 or "account" not in found[0].arrival.contents:
                await asyncio.sleep(0.02)
        for office in ("cewarn", "un-hq"):
            inbox = open_inbox(town.offices[office])
            assert not inbox.gaps(town.osh.kid).missing
            inbox.close()

        again = await town.json(town.osh, "node", "share", "--yes")
        assert again == {"plan": [], "new_keys": {}, "shares": []}
        auditor = town.network.coordinators["aigul"]
        assert "shared" in await town.kengele(auditor, "audit", "verify", "--witnesses", "0")
        assert "shared by its author" in await town.kengele(auditor, "audit", "search", "--office", "cewarn")

        await town.kengele(town.osh, "node", "recall", "1", "--reason", "Unsafe.")
        for office in ("cewarn", "un-hq"):
            (stone,) = await until_held(town.offices[office], 1, Tombstone)
            assert (stone.id, stone.reason) == (report_id, "Unsafe.")
            assert not any(isinstance(one, Item) for one in await town.desk(office))
        recalls = await town.json(town.osh, "node", "recalls")
        assert recalls["recalls"][0]["offices"]["cewarn"].endswith("Z")
        await town.kengele(town.osh, "node", "share", "1", "--yes", code=Refused.exit_code)

    in_town(tmp_path, capsys, claim)


def test_where_the_author_kept_no_keys_the_custodian_shares_and_her_recall_reaches_whom_she_did_not_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def claim(town: Town) -> None:
        report_id = await town.report()
        excepted = await town.report("--not-to", "office:cewarn")
        await until_held(town.offices["unrcca"], 2)
        await town.grant()
        await town.kengele(town.osh, "node", "share", "1", code=Refused.exit_code)
        await town.kengele(town.offices["un-hq"], "office", "share", "--yes", code=Refused.exit_code)
        shown = await town.json(town.offices["unrcca"], "office", "share", "--to", "cewarn", "--yes")
        # Not what its author excepted, and the custodian is told of nobody who has it already.
        assert [(one["report"], one["office"]) for one in shown["plan"]] == [(report_id, "cewarn")]
        assert [one["code"] for one in shown["shares"]] == ["shared"]
        (item,) = await until_held(town.offices["cewarn"], 1)
        assert (item.arrival.header.id, item.flags) == (report_id, ("shared-later-by-custodian",))
        assert excepted not in [one.arrival.header.id for one in await town.desk("cewarn")]

        await town.kengele(town.osh, "node", "recall", "1")
        (stone,) = await until_held(town.offices["cewarn"], 1, Tombstone)
        assert stone.id == report_id
        async with asyncio.timeout(30):
            while not (await town.json(town.osh, "node", "recalls"))["recalls"][0]["offices"]["cewarn"]:
                await town.desk("cewarn")
        await until_held(town.offices["unrcca"], 1, Tombstone)
        assert (await town.json(town.offices["unrcca"], "office", "share", "--to", "cewarn"))["plan"] == []

    in_town(tmp_path, capsys, claim)


async def source_of(town: Town, office: str, report_id: str) -> Source:
    """What a desk that asks nobody would have at hand to share a report: the keys that it opened."""
    member = town.offices[office]
    inbox = open_inbox(member)
    (item,) = inbox.find(report_id)
    inbox.close()
    async with member.session() as session:
        trusted = await session.refresh()
    author = unb64u(trusted.monitors[town.osh.kid].key)
    envelope, opened = open_held(item.arrival.data, member.id, member.opening_keys, author)
    return Source(item.arrival.header, envelope.core, "", opened.keys)


async def asked(member: Any, data: bytes) -> str:
    """What the hub says to a share."""
    async with member.session() as session:
        try:
            answer = await session.ask(subjects.shares_ask(member.nkey.public), loads(data, max_bytes=4096))
        except KengeleError as error:
            return error.code
        return str(answer["code"])


def test_an_office_that_is_not_the_custodian_cannot_share_nor_the_custodian_beyond_the_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def claim(town: Town) -> None:
        entry = await reported(town.osh, draft())
        unrcca, hq = town.offices["unrcca"], town.offices["un-hq"]
        for office in (unrcca, hq):
            await until_held(office, 1)
        async with unrcca.session() as session:
            trusted = await session.refresh()
        today = now().date()
        full, part = [await source_of(town, one, entry.report_id) for one in ("unrcca", "un-hq")]

        def forged(source: Source, by: str, key: Any, to: str = "cewarn") -> bytes:
            said = {"report": entry.report_id, "core": source.core, "by": by, "network": trusted.network.log}
            public = trusted.offices.public(to, today)
            assert public is not None
            return make_share(Reader(to, public, ALL_BITS), source.keys, day=today, key=key, **said)

        # Beyond the policy: no rule gives CEWARN anything of it.
        assert gains(full, trusted, today, by="unrcca", only=["cewarn"]) == []
        assert await asked(unrcca, forged(full, "unrcca", unrcca.key)) == "not-granted"
        await town.grant()
        assert await asked(hq, forged(part, "un-hq", hq.key)) == "not-the-custodian"
        assert await asked(hq, forged(part, "unrcca", hq.key)) == "not-the-custodian"
        assert await asked(unrcca, forged(full, "unrcca", hq.key)) == "bad-signature"
        assert await asked(town.osh, forged(full, "unrcca", town.osh.key)) == "not-admitted"

        # And whatever a hub would put into the feed of it is nothing to an honest desk, nor is a good one elsewhere.
        cewarn = town.offices["cewarn"]
        async with cewarn.session() as session:
            known = await session.refresh()
        item = await source_envelope(town, entry.report_id)
        (reading,) = gains(full, known, today, by="unrcca", only=["cewarn"])
        good = made(full, reading, known, today, by="unrcca", key=unrcca.key)
        whole = strip(item, "", ("summary", "account"))

        def held(data: bytes, office: Any = cewarn) -> str:
            options = {"office": office.id, "keys": office.opening_keys, "today": today}
            try:
                return type(receive(data, known, **options)).__name__
            except KengeleError as error:
                return error.code

        assert held(join([good], whole)) == Arrival.__name__
        assert held(join([good], whole), town.offices["unowas"]) == "not-for-us"
        assert held(join([forged(part, "un-hq", hq.key)], whole)) == "not-the-sharer"
        assert held(join([forged(full, "unrcca", hq.key)], whole)) == "bad-signature"
        assert held(whole) == "cannot-open"
        other = await reported(town.osh, draft())
        await until_held(unrcca, 2)
        elsewhere = strip(await source_envelope(town, other.report_id), "", ("summary", "account"))
        assert held(join([good], elsewhere)) == "not-as-shared"

        # What was recalled is shared no more, though the keys are still at hand.
        await recalled(town.osh, entry)
        assert await asked(unrcca, good) == "nothing-to-share"

    in_town(tmp_path, capsys, claim)


async def source_envelope(town: Town, report_id: str) -> Any:
    """The report as the custodian's desk holds it."""
    inbox = open_inbox(town.offices["unrcca"])
    (item,) = inbox.find(report_id)
    inbox.close()
    return parse(split(item.arrival.data)[1])


def test_a_custodian_from_whom_the_authors_wishes_are_held_back_shares_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def claim(town: Town) -> None:
        await town.report("--not-to", "office:un-hq")
        (item,) = await until_held(town.offices["unrcca"], 1)
        await town.grant()
        shown = await town.json(town.offices["unrcca"], "office", "share", code=1)
        assert [one["office"] for one in shown["plan"]] == ["cewarn", "kg-peace-council"]
        # A hub that strips them cannot make the custodian share against them.
        envelope = await source_envelope(town, item.arrival.header.id)
        inbox = open_inbox(town.offices["unrcca"])
        inbox._store._connection.execute("DELETE FROM reports")
        async with town.offices["unrcca"].session() as session:
            trusted = await session.refresh()
        stripped = strip(envelope, "unrcca", ("summary", "account"))
        member = town.offices["unrcca"]
        arrival = receive(stripped, trusted, office="unrcca", keys=member.opening_keys, today=now().date())
        inbox.keep([arrival], now=1.0)
        inbox.close()
        assert (await town.json(member, "office", "share"))["plan"] == []

    in_town(tmp_path, capsys, claim)


def test_a_revoked_authors_report_is_not_shared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def claim(town: Town) -> None:
        entry = await reported(town.osh, draft())
        await until_held(town.offices["unrcca"], 1)
        source = await source_of(town, "unrcca", entry.report_id)
        await town.grant()

        def revoke(before: Any) -> Any:
            path = next(path for path in before if path.startswith("monitors/") and before[path]["monitors"])
            rows = [{**row, "status": "revoked"} for row in before[path]["monitors"]]
            return {path: {**before[path], "monitors": rows}}

        await town.network.publish(revoke, ("aigul", "moussa"))
        unrcca = town.offices["unrcca"]
        assert (await town.json(unrcca, "office", "share"))["plan"] == []
        async with unrcca.session() as session:
            trusted = await session.refresh()
        today = now().date()
        (reading,) = gains(source, trusted, today, by="unrcca", only=["cewarn"])
        data = made(source, reading, trusted, today, by="unrcca", key=unrcca.key)
        assert await asked(unrcca, data) == "nothing-to-share"

    in_town(tmp_path, capsys, claim)


def test_nothing_but_a_report_is_shared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Her recall stands in the ledger beside her report; nobody has the hub give its reason to whom the rules name."""

    async def claim(town: Town) -> None:
        entry = await reported(town.osh, draft())
        await until_held(town.offices["unrcca"], 1)
        await town.grant()
        intent = plan_recall(entry, keep=["summary"], offices=(), reason="The neighbour is in danger.")
        recall_id = new_report_id()
        async with town.osh.session() as session:
            trusted = await session.refresh()
            readers = intent.readers(trusted, now().date())
            sent = intent.seal(recall_id, readers, trusted, town.osh.key, {})
            answer = await session.link.request(subjects.reports_submit(town.osh.nkey.public), sent)
        assert json.loads(answer)["code"] == "accepted"
        for member, by in ((town.osh, town.osh.kid), (town.offices["unrcca"], "unrcca")):
            public = trusted.offices.public("cewarn", now().date())
            assert public is not None
            data = make_share(
                Reader("cewarn", public, ALL_BITS),
                dict.fromkeys(("handling", "summary"), bytes(32)),
                report=recall_id,
                core=parse(sent).core,
                by=by,
                network=trusted.network.log,
                day=now().date(),
                key=member.key,
            )
            assert await asked(member, data) == "nothing-to-share"

    in_town(tmp_path, capsys, claim)
