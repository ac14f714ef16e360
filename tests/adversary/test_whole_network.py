"""What nobody can do to a network that runs: hub, nats-server and members are real, each with its own keys."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from kengele_node.coordinator import documents as papers
from kengele_node.coordinator import standing
from kengele_node.errors import NotAdmitted
from kengele_node.link import Link
from kengele_node.member import now
from kengele_node.monitor.compose import new_report_id, plan_report, seal_report
from kengele_node.monitor.consent import agreed_to
from kengele_node.office.arrivals import Marker
from kengele_node.office.desk import Desk
from kengele_schemas import subjects
from kengele_schemas.compartments import REPORT_COMPARTMENTS
from kengele_schemas.encoding import unb64u
from kengele_schemas.envelope import parse
from kengele_schemas.errors import CannotOpen, KengeleError, Unreachable
from kengele_schemas.sealing import open_envelope
from kengele_testing.canary import CANARY, canary
from kengele_testing.network import draft, fetch_all, sealed, small_network, until

pytestmark = pytest.mark.full


def test_the_hub_cannot_read_a_compartment_and_never_logs_one(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh = network.monitors["osh"]
            async with osh.session() as session:
                trusted = await session.refresh()
                data = sealed(osh, canary(), trusted)
                subject = subjects.reports_submit(osh.nkey.public)
                answers = [await session.link.request(subject, data)]
                for at in (10, 200, len(data) // 2, len(data) - 5):
                    answers.append(await session.link.request(subject, data[:at] + b"?" + data[at + 1 :]))
            assert json.loads(answers[0])["code"] == "accepted"
            assert not any(CANARY.encode() in answer for answer in answers)
            items = await fetch_all(network.offices["unrcca"])
            assert CANARY in items[0].arrival.contents["summary"].text
            network.close()
            hub_files = [path for path in network.hub.home.rglob("*") if path.is_file()]
            assert len(hub_files) > 10
            for path in hub_files:
                content = path.read_bytes()
                assert CANARY.encode() not in content, path.name

    asyncio.run(run())


def test_the_hub_cannot_tell_which_compartments_a_report_has(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh = network.monitors["osh"]
            async with osh.session() as session:
                trusted = await session.refresh()
        full = parse(sealed(osh, draft(source={"basis": "witness"}, place={"name": "bridge"}), trusted))
        bare = parse(sealed(osh, draft(), trusted))
        assert tuple(full.ciphertexts) == tuple(bare.ciphertexts) == REPORT_COMPARTMENTS
        assert [len(text) for text in full.ciphertexts.values()] == [len(text) for text in bare.ciphertexts.values()]
        assert [(w.office, w.suite, len(w.text)) for w in full.wraps] == [
            (w.office, w.suite, len(w.text)) for w in bare.wraps
        ]

    asyncio.run(run())


def test_an_office_cannot_read_a_compartment_that_was_not_granted(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, insider = network.monitors["osh"], network.offices["un-hq"]
            async with osh.session() as session:
                trusted = await session.refresh()
                data = sealed(osh, canary(), trusted)  # type: ignore[arg-type]
                await session.link.request(subjects.reports_submit(osh.nkey.public), data)
            (item,) = await fetch_all(insider)
            assert {"source", "people"}.isdisjoint(item.arrival.contents)
            assert {"source", "people"}.isdisjoint(parse(item.arrival.data).ciphertexts)
            # Even with all that the monitor sent, its keys open nothing more, and no one else's wrap.
            whole = parse(data)
            opened = open_envelope(whole, "un-hq", insider.opening_keys, bytes(osh.key.verify_key))
            assert {"source", "people"}.isdisjoint(opened.contents)
            for office in ("unrcca", "cewarn"):
                with pytest.raises(CannotOpen):
                    open_envelope(whole, office, insider.opening_keys, bytes(osh.key.verify_key))

    asyncio.run(run())


def test_a_revoked_member_is_disconnected_at_once_and_stays_out_after_a_restart(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path) as network:
            osh, unrcca = network.monitors["osh"], network.offices["unrcca"]
            async with osh.session() as session:
                trusted = await session.refresh()
                subject = subjects.reports_submit(osh.nkey.public)
                first = sealed(osh, draft(), trusted)
                assert json.loads(await session.link.request(subject, first))["code"] == "accepted"
                # What was delivered before stays; what still waits at the hub would go out as a marker.
                assert len(await fetch_all(unrcca)) == 1
                await network.publish(
                    lambda before: standing.remove(before, osh.kid, 1_800_000_000), ("aigul", "moussa")
                )
                await until(lambda: not session.link.connected)
                with pytest.raises((Unreachable, NotAdmitted)):
                    await session.link.request(subject, sealed(osh, draft(), trusted))
            network.hub.kill()
            await network.hub.start()
            jwt = osh.vault.secrets["jwt"].decode()
            async with Link(osh.card.urls, jwt, osh.nkey, first_wait=0.05, longest_wait=0.1) as link:
                with pytest.raises(NotAdmitted):
                    await link.wait_connected(2)
            osh.remember("jwt", b"")
            osh.vault.replace({name: value for name, value in osh.vault.secrets.items() if name != "jwt"})
            with pytest.raises(KengeleError) as caught:
                async with osh.session(2):
                    pass
            assert caught.value.code == "not-admitted"
            assert len(await fetch_all(unrcca)) == 1

    asyncio.run(run())


def test_a_monitor_cannot_replay_nor_take_anothers_id_nor_leave_its_areas(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path) as network:
            osh, batken = network.monitors["osh"], network.monitors["batken"]
            async with osh.session() as session, batken.session() as other:
                trusted = await session.refresh()
                data = sealed(osh, draft(), trusted)
                report_id = parse(data).claims["id"]
                own, foreign = (subjects.reports_submit(one.nkey.public) for one in (osh, batken))

                async def code(link: Link, subject: str, envelope: bytes) -> str:
                    return str(json.loads(await link.request(subject, envelope))["code"])

                assert await code(session.link, own, data) == "accepted"
                again = json.loads(await session.link.request(own, data))
                assert (again["code"], again["repeat"]) == ("accepted", True)
                assert await code(other.link, foreign, data) == "replayed"
                taken = sealed(batken, draft(area="KG-B"), trusted, report_id=report_id)
                assert await code(other.link, foreign, taken) == "id-conflict"
                assert await code(other.link, foreign, sealed(batken, draft(), trusted)) == "out-of-scope"
                with pytest.raises(KengeleError):
                    await session.link.request(foreign, data, timeout=1)
            assert len(await fetch_all(network.offices["unrcca"])) == 1

    asyncio.run(run())


def test_garbage_on_any_subject_stops_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_network(tmp_path, ("osh",)) as network:
            osh, aigul = network.monitors["osh"], network.coordinators["aigul"]
            rubbish = (b"", b"{", b"null", b"[]", b'{"path":7}', b'{"path":"../x"}', b"\xff" * 100, b"[" * 3000)
            async with osh.session() as session, aigul.session() as coordinator:
                for data in rubbish:
                    answer = await session.link.request(subjects.reports_submit(osh.nkey.public), data)
                    assert json.loads(answer)["code"] in ("malformed", "unknown-type")
                    assert await session.link.request(subjects.trust_get(osh.nkey.public), data) == b""
                    answer = await coordinator.link.request(subjects.publish_metadata(aigul.nkey.public), data)
                    assert json.loads(answer)["code"] != "published"
                trusted = await session.refresh()
                answer = await session.link.request(
                    subjects.reports_submit(osh.nkey.public), sealed(osh, draft(), trusted)
                )
                assert json.loads(answer)["code"] == "accepted"

    asyncio.run(run())


def test_a_dropped_report_leaves_a_gap_that_the_office_sees(tmp_path: Path) -> None:
    async def run() -> None:
        from kengele_node.office.home import open_inbox

        async with small_network(tmp_path, ("osh",)) as network:
            osh, unrcca = network.monitors["osh"], network.offices["unrcca"]
            async with osh.session() as session:
                trusted = await session.refresh()
                for number in (1, 2, 4):
                    plan = plan_report(draft(), trusted, kid=osh.kid, report_id=new_report_id(), now=now())
                    data = seal_report(plan, osh.key, dict.fromkeys(plan.offices, number))
                    await session.link.request(subjects.reports_submit(osh.nkey.public), data)
            assert len(await fetch_all(unrcca, 3)) == 3
            inbox = open_inbox(unrcca)
            gaps = inbox.gaps(osh.kid)
            inbox.close()
            assert gaps.missing == ((3, 3),)
            assert gaps.unexplained == 1

    asyncio.run(run())


def test_the_digest_of_a_receipt_is_that_of_what_was_sent(tmp_path: Path) -> None:
    async def run() -> None:
        import hashlib

        from kengele_schemas.errors import Untrusted
        from kengele_schemas.receipt import read_receipt

        async with small_network(tmp_path, ("osh",)) as network:
            osh = network.monitors["osh"]
            async with osh.session() as session:
                trusted = await session.refresh()
                data, other = (sealed(osh, draft(), trusted) for _ in range(2))
                answer = await session.link.request(subjects.reports_submit(osh.nkey.public), data)
        key, log = unb64u(trusted.network.hub_key), trusted.network.log
        assert read_receipt(answer, key, log, hashlib.sha256(data).digest()).accepted
        with pytest.raises(Untrusted):
            read_receipt(answer, key, log, hashlib.sha256(other).digest())
        with pytest.raises(Untrusted):
            read_receipt(answer, bytes(osh.key.verify_key), log, hashlib.sha256(data).digest())

    asyncio.run(run())


def test_a_newer_policy_holds_for_reports_sealed_under_an_older_one_and_the_gap_is_explained(tmp_path: Path) -> None:
    async def run() -> None:
        from kengele_node.office.home import open_inbox

        async with small_network(tmp_path, ("osh",)) as network:
            osh, unrcca, headquarters = (
                network.monitors["osh"],
                network.offices["unrcca"],
                network.offices["un-hq"],
            )
            async with osh.session() as session:
                trusted = await session.refresh()
                plan = plan_report(draft(), trusted, kid=osh.kid, report_id=new_report_id(), now=now())
                first = seal_report(plan, osh.key, dict.fromkeys(plan.offices, 1))
                plan = plan_report(draft(), trusted, kid=osh.kid, report_id=new_report_id(), now=now())
                second = seal_report(plan, osh.key, dict.fromkeys(plan.offices, 2))
                kept = tuple(rule for rule in trusted.policy.rules if "office:unrcca" not in rule.to)
                await network.publish(lambda before: papers.adopt(before, kept), ("aigul", "nyambura"))
                subject = subjects.reports_submit(osh.nkey.public)
                for data in (first, second):
                    receipt = json.loads(await session.link.request(subject, data))
                    assert receipt["code"] == "accepted"
                    leaf = json.loads(receipt["leaf"])
                    assert leaf["policy"] == 3
                    assert {row[0]: row[1] for row in leaf["decisions"]}["unrcca"] == 0
            assert len(await fetch_all(headquarters, 2)) == 2
            inbox = open_inbox(unrcca)
            async with unrcca.session() as session:
                desk = Desk(session, inbox, unrcca.id, unrcca.opening_keys, unrcca.nkey.public)
                told: list[object] = []
                desk.told = told.append
                async with asyncio.timeout(60):
                    while len(told) < 2:
                        await desk.follow(until_empty=True)
            assert all(isinstance(item, Marker) for item in told)
            assert inbox.count() == 0
            assert inbox.gaps(osh.kid).unexplained == 0
            inbox.close()

    asyncio.run(run())


def test_what_is_sealed_under_rules_no_longer_taken_is_sealed_anew(tmp_path: Path) -> None:
    async def run() -> None:
        from kengele_node.monitor.home import open_outbox
        from kengele_node.monitor.sender import Sender

        async with small_network(tmp_path, ("osh",)) as network:
            osh = network.monitors["osh"]
            async with osh.session() as session:
                trusted = await session.refresh()
                report = draft()
                plan = plan_report(report, trusted, kid=osh.kid, report_id=new_report_id(), now=now())
                box = open_outbox(osh)
                value = report.model_dump(mode="json", exclude_none=True)
                moment = now().timestamp()
                box.add(
                    plan.header.id,
                    value,
                    plan.offices,
                    lambda counted: seal_report(plan, osh.key, counted),
                    now=moment,
                    agreed=agreed_to(plan),
                )
                rules = trusted.policy.rules
                await network.publish(lambda before: papers.adopt(before, rules, refuse_below=3), ("aigul", "moussa"))
                sender = Sender(session, box, osh.key, osh.nkey.public, trusted=trusted)
                async with asyncio.timeout(30):
                    await sender.run(until_empty=True)
                assert box.counts() == {"accepted": 1}
                box.close()
            (item,) = await fetch_all(network.offices["unrcca"])
            assert item.arrival.header.pol == 3
            assert item.arrival.header.id == plan.header.id

    asyncio.run(run())
