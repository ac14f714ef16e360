"""What the coordinators signed, as the hub keeps it, serves it and acts on it. Against a real broker."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self

import pytest
from structlog.testing import capture_logs

from kengele_hub import access as access_module
from kengele_hub import authority as authority_module
from kengele_hub import consumers, credentials, feeds, jetstream
from kengele_hub import versions as versions_module
from kengele_hub.credentials import MAX_PAYLOAD
from kengele_hub.errors import Unavailable
from kengele_hub.ledger import split
from kengele_node.member import encode_files
from kengele_schemas import drafts, metadata, publication, subjects
from kengele_schemas.cards import HubCard, Joiner, JoinRequest
from kengele_schemas.encoding import b64u, canonical, dumps, loads
from kengele_schemas.errors import KengeleError, Refused, Untrusted
from kengele_schemas.leaves import TrustLeaf, members, read_entry, replay
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.packing import pack, unpack
from kengele_schemas.trust import TrustStore
from kengele_testing.hub import LOG, TOKEN, Hub, Roster, running_hub

pytestmark = pytest.mark.full
ROOT = "metadata/1.root.json"
TIMESTAMP = "metadata/timestamp.json"
Files = Mapping[str, bytes]


def run(tmp_path: Path, claim: Callable[[Hub], Awaitable[None]], **options: Any) -> None:
    """Holds ``claim`` against a hub, founded unless it is said otherwise."""

    async def against_a_hub() -> None:
        async with running_hub(tmp_path, **options) as hub, asyncio.timeout(60):
            await claim(hub)

    asyncio.run(against_a_hub())


class Clock(datetime):
    """The hub's clock, ``ahead`` of the machine's."""

    ahead = timedelta(0)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return cls.fromtimestamp((datetime.now(UTC) + cls.ahead).timestamp(), tz)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr(authority_module, "datetime", Clock)
    monkeypatch.setattr(versions_module, "datetime", Clock)
    monkeypatch.setattr(Clock, "ahead", timedelta(0))
    return Clock


def encoded(files: Files) -> bytes:
    """``files`` as a coordinator sends them."""
    return dumps({path: b64u(data) for path, data in files.items()})


async def kept(hub: Hub) -> dict[str, bytes]:
    """The trust files as they stand in the broker."""
    return {subjects.trust_path(stored.subject): stored.data for stored in await hub.stored(subjects.TRUST)}


def seen_by_a_coordinator(files: Files, directory: Path, now: datetime | None = None) -> Any:
    """What a client that starts from nothing makes of ``files``."""
    return TrustStore(directory, files[ROOT]).refresh(files.get, "coordinator", now or datetime.now(UTC))


# --- founding ---------------------------------------------------------------------------------------------------------


def test_a_network_is_founded_once_and_by_who_has_the_token(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        first, other = hub.roster.first(), hub.roster.first(hub.roster.with_rules(version=5))
        for token in ("", "!", b64u(bytes(16)), b64u(TOKEN)[:-1], b64u(hashlib.sha256(TOKEN).digest()), "é"):
            with pytest.raises(Refused) as caught:
                await hub.authority.found(token, first)
            assert caught.value.code == "not-admitted"
        assert hub.authority.standing is None
        assert await hub.stored(subjects.TRUST) == []

        assert await hub.authority.found(b64u(TOKEN), first) == 1
        before = dict(hub.authority.files)
        for again in (first, other):
            with pytest.raises(Refused) as caught:
                await hub.authority.found(b64u(TOKEN), again)
            assert caught.value.code == "not-admitted"
        assert hub.authority.files == before == await kept(hub)

    run(tmp_path, claim, found=False)


@pytest.mark.parametrize("stored", [False, True])
def test_a_founding_is_brought_to_its_end_though_the_broker_did_not_confirm_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    async def claim(hub: Hub) -> None:
        publish, failures = jetstream.publish_batch, [Unavailable("broker-unavailable", "The broker did not confirm.")]

        async def unconfirmed(*args: Any, **options: Any) -> int:
            if failures:
                if stored:
                    await publish(*args, **options)
                raise failures.pop()
            return await publish(*args, **options)

        monkeypatch.setattr(jetstream, "publish_batch", unconfirmed)
        assert await hub.authority.found(b64u(TOKEN), hub.roster.first()) == 1
        assert failures == []
        assert hub.authority.files == await kept(hub)
        assert hub.authority.standing is not None

    run(tmp_path, claim, found=False)


def test_a_joiner_founds_over_the_bus_and_is_answered_like_a_stranger_when_it_is_too_late(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        files = {path: b64u(data) for path, data in hub.roster.first().items()}
        nkey = KeyPair.generate("user").public

        async def ask(document: Any) -> Any:
            answer = await hub.nc.request(subjects.join_credentials(nkey), dumps(document), timeout=10)
            return loads(answer.data, max_bytes=8192)

        async with hub.running("worker"):
            for token in (7, None, "wrong", [b64u(TOKEN)]):
                assert (await ask({"found": token, "files": files}))["code"] == "not-admitted"
            for wrong in (None, [], {"metadata/1.root.json": 7}, {"../x": ""}, {ROOT: "!"}):
                assert (await ask({"found": b64u(TOKEN), "files": wrong}))["code"] == "malformed"
            assert await ask({"found": b64u(TOKEN), "files": files}) == {"code": "published", "version": 1}
            late = await ask({"found": b64u(TOKEN), "files": files})
            assert late == await ask({})
            assert late["code"] == "not-admitted"

    run(tmp_path, claim, found=False)


def test_a_founding_that_does_not_hold_leaves_nothing_and_the_token_good(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        roster = hub.roster
        foreign = roster.changed(
            "network.json", **{**roster.documents()["network.json"], "hub_key": b64u(bytes(roster.monitor.verify_key))}
        )
        good = roster.first()
        lacking = {path: data for path, data in good.items() if not path.endswith("policy.json")}
        cases: list[tuple[Files, str]] = [
            (roster.first(by=(0,)), "too-few-signatures"),
            (roster.first(foreign), "another-hub"),
            (lacking, "bad-draft"),
            ({}, "bad-draft"),
            ({ROOT: b"garbage"}, "bad-signature"),
        ]
        for files, code in cases:
            with pytest.raises(KengeleError) as caught:
                await hub.authority.found(b64u(TOKEN), files)
            assert caught.value.code == code
            assert hub.authority.standing is None
            assert hub.authority.files == {}
            assert await hub.stored(subjects.TRUST) == []
        assert await hub.authority.found(b64u(TOKEN), good) == 1
        assert hub.authority.standing is not None
        assert hub.authority.standing.trusted.network.hub_key == b64u(bytes(hub.keys.hub_key.verify_key))

    run(tmp_path, claim, found=False)


def test_before_the_founding_there_is_nothing_to_publish_to_nor_to_be_served(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        with pytest.raises(Refused):
            await hub.authority.publish(hub.roster.first())
        for answer in (hub.worker.reception.answer_publish, hub.worker.reception.answer_join):
            with pytest.raises(Refused) as caught:
                await answer(hub.roster.nkeys["aigul"], b"{}")
            assert caught.value.code == "not-admitted"
        assert hub.worker.reception.serve(hub.roster.nkeys["aigul"], dumps({"path": ROOT})) == b""

    run(tmp_path, claim, found=False)


def documents_of(roster: Roster) -> dict[str, bytes]:
    return {path: drafts.spelt(path, value) for path, value in roster.documents().items()}


async def replayed(hub: Hub) -> dict[Any, str]:
    """What all leaves of the log come to."""
    standing: dict[Any, str] = {}
    for stored in await hub.stored(subjects.LEDGER):
        leaf = read_entry(split(stored.data)[0])
        if isinstance(leaf, TrustLeaf):
            replay(standing, leaf)
    return standing


def in_force(hub: Hub) -> dict[Any, str]:
    files = hub.authority.files
    return members({path: metadata.document_of(files, path) for path in metadata.document_paths(files)})


# --- publishing -------------------------------------------------------------------------------------------------------


def test_a_new_version_is_stored_holds_at_once_and_is_a_leaf(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        assert await hub.publish(hub.roster.with_rules(without="to-council")) == 2
        standing = hub.authority.standing
        assert standing is not None
        assert (standing.trusted.version, standing.trusted.policy.version) == (2, 2)
        assert [rule.id for rule in standing.trusted.policy.rules] == ["to-unrcca"]
        assert await kept(hub) == {**await kept(hub), **hub.authority.files}
        assert seen_by_a_coordinator(hub.authority.files, tmp_path / "client").policy.version == 2
        entries = await hub.stored(subjects.LEDGER)
        assert [entry.subject for entry in entries] == ["ledger.trust.1", "ledger.trust.2"]
        leaf, body = split(entries[1].data)
        said = read_entry(leaf)
        assert isinstance(said, TrustLeaf)
        assert (said.version, said.policy, said.part, said.parts, body) == (2, 2, 1, 1, b"")
        documents = {path: canonical(value) for path, value in hub.roster.with_rules(without="to-council").items()}
        for path, data in {**documents_of(hub.roster), **documents}.items():
            assert said.documents[path] == b64u(hashlib.sha256(data).digest())
        assert said.root == b64u(hashlib.sha256(hub.authority.files[ROOT]).digest())
        assert said.changes == (("rule", "to-council", "removed"),)

    run(tmp_path, claim)


def test_all_changes_in_the_log_come_to_who_belongs_to_the_network_and_what_holds(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        assert await replayed(hub) == in_force(hub)
        await hub.publish(hub.roster.with_monitor("osh", status="suspended"))
        await hub.publish(hub.roster.with_office("council", status="revoked"))
        async with hub.another() as restarted:
            await restarted.publish(hub.roster.with_rules(without="to-council"))
            assert await replayed(hub) == in_force(restarted)
            assert (await replayed(hub))["monitor", hub.roster.kid("osh")] == "suspended"

    run(tmp_path, claim)


def test_a_version_that_a_crash_kept_out_of_the_log_is_written_there_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(hub: Hub) -> None:
        async def crash(_: object) -> list[int]:
            raise Unavailable("broker-unavailable", "Gone.")

        with monkeypatch.context() as patched:
            patched.setattr(hub.ledger, "append", crash)
            with pytest.raises(Unavailable):
                await hub.publish(hub.roster.with_rules(without="to-council"))
        assert len(await hub.stored(subjects.LEDGER)) == 1
        async with hub.another() as restarted:
            entries = await hub.stored(subjects.LEDGER)
            assert [entry.subject for entry in entries] == ["ledger.trust.1", "ledger.trust.2"]
            assert await replayed(hub) == in_force(restarted)
        async with hub.another("once more"):
            assert len(await hub.stored(subjects.LEDGER)) == 2

    run(tmp_path, claim)


def test_versions_that_were_kept_out_of_the_log_are_all_written_there_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(hub: Hub) -> None:
        async def crash(_: object) -> list[int]:
            raise Unavailable("broker-unavailable", "Gone.")

        changes = [
            hub.roster.with_rules(2, without="to-council"),
            hub.roster.with_monitor("osh", status="suspended"),
            hub.roster.with_office("council", status="suspended"),
        ]
        with monkeypatch.context() as patched:
            patched.setattr(hub.ledger, "append", crash)
            for change in changes[:2]:
                with pytest.raises(Unavailable):
                    await hub.publish(change)
        await hub.publish(changes[2])
        written = [entry.subject for entry in await hub.stored(subjects.LEDGER)]
        assert written == [f"ledger.trust.{version}" for version in (1, 2, 4, 5)]
        assert await replayed(hub) == in_force(hub)

    run(tmp_path, claim)


def test_what_does_not_follow_what_is_in_force_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        roster = hub.roster
        first = dict(hub.authority.files)
        second = roster.next(first, roster.with_rules())
        await hub.authority.publish(second)
        now = dict(hub.authority.files)
        third = roster.next(now, roster.with_rules(version=3))
        policy = next(path for path in third if path.endswith("policy.json"))
        listing = "metadata/3.targets.json"
        longer = json.loads(third[listing])
        longer["signed"]["expires"] = "2099-01-01T00:00:00Z"
        jumped = roster.next({**now, **third}, roster.with_rules(version=4))
        cases: dict[str, tuple[Files, str]] = {
            "the version before": (first, "old-version"),
            "a version too far on": (jumped, "old-version"),
            "nothing": ({}, "old-version"),
            "documents without a list of them": ({policy: third[policy]}, "old-version"),
            "a list without its document": (
                {path: data for path, data in third.items() if path != policy},
                "bad-draft",
            ),
            "a file besides": ({**third, "targets/x.json": b"{}"}, "not-needed"),
            "one signature": (roster.next(now, roster.with_rules(version=3), by=(0,)), "too-few-signatures"),
            "the hub's own part": (
                {**third, TIMESTAMP: now[TIMESTAMP], "metadata/9.snapshot.json": b"{}"},
                "old-version",
            ),
            "a document changed after signing": ({**third, policy: third[policy] + b" "}, "mix-and-match"),
            "a list changed after signing": ({**third, listing: dumps(longer)}, "too-few-signatures"),
            "other rules under the same number": (
                roster.next(now, roster.with_rules(without="to-council")),
                "old-version",
            ),
            "a rule for an area there is not": (
                roster.next(now, roster.with_rules(3, rules=[RULE | {"areas": ["XX"]}])),
                "bad-rule",
            ),
        }
        ledger = hub.ledger.size
        for sentence, (files, code) in cases.items():
            with pytest.raises(KengeleError) as caught:
                await hub.authority.publish(files)
            assert caught.value.code == code, sentence
            assert hub.authority.files == now, sentence
        assert hub.authority.standing is not None
        assert hub.authority.standing.trusted.policy.version == 2
        assert hub.ledger.size == ledger
        assert await hub.authority.publish(third) == 3

    run(tmp_path, claim)


RULE = {
    "id": "one",
    "grant": ["summary"],
    "to": ["office:unrcca"],
    "areas": ["KG"],
    "categories": ["*"],
    "tlp_up_to": "AMBER",
    "expires": "2199-12-31",
    "reason": "test",
}


def test_no_area_locks_out_all_newcomers_by_the_key_under_which_they_come(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        joiner = KeyPair.generate("user")
        keys = (hub.keys.hub_key, hub.keys.snapshot_key, hub.keys.timestamp_key)
        names = ("hub_key", "snapshot_key", "timestamp_key")
        card = HubCard(
            urls=("nats://127.0.0.1:4222",),
            **{name: b64u(bytes(key.verify_key)) for name, key in zip(names, keys, strict=True)},
            log=LOG,
            join=Joiner(jwt=hub.broker.access.member_jwt(joiner.public, "joiner"), seed=joiner.seed),
            token=b64u(TOKEN),
        )
        (hub.keys.home / "hub-card.json").write_bytes(card.encode())
        # Everybody who has the card has that key, and can ask under it.
        asked = JoinRequest.for_monitor(hub.roster.authors["osh"], joiner, ("KG-O",))
        row = {"nkey": joiner.public, "role": "monitor", "member": asked.member, "asked": asked.nkey_signature}
        async with hub.another() as other:
            # It never had that key, so it cannot revoke it; nor can it list the key first and revoke it then.
            for lines, code in (
                ({"connections": [], "revoked": [{"nkey": joiner.public, "at": 1}]}, "not-theirs"),
                ({"connections": [row], "revoked": []}, "another-lists"),
            ):
                listed = hub.roster.documents()["connections.json"]["connections"]
                rest = [one for one in listed if one["member"] != row["member"]]
                changed = {
                    **hub.roster.changed("connections.json", connections=rest),
                    "connections/KG.json": {"v": 1, "area": "KG", **lines},
                }
                made = hub.roster.next(other.authority.files, changed)
                with pytest.raises(KengeleError) as caught:
                    await other.authority.publish(made)
                assert caught.value.code == code

    run(tmp_path, claim)


def test_a_list_longer_than_one_message_is_published_kept_and_served(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        many = [RULE | {"id": f"r-{n}", "reason": "a reason of some length " * 8} for n in range(4000)]
        draft = hub.roster.next(hub.authority.files, hub.roster.with_rules(rules=many))
        request = pack(dumps(encode_files(draft)))
        assert len(request) < MAX_PAYLOAD < max(map(len, draft.values()))
        aigul = hub.roster.nkeys["aigul"]
        assert (await hub.worker.reception.answer_publish(aigul, request))["code"] == "published"
        (path,) = (path for path in draft if path.endswith(".policy.json"))
        served = hub.worker.reception.serve(hub.roster.nkeys["osh"], dumps({"path": path}))
        assert len(served) < MAX_PAYLOAD
        assert unpack(served, max_bytes=1 << 23) == draft[path]
        async with hub.another() as other:
            assert other.authority.files.items() >= hub.authority.files.items()

    run(tmp_path, claim)


def test_of_two_versions_that_come_at_once_one_holds(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        drafts = [
            hub.roster.next(hub.authority.files, hub.roster.with_rules(without=one))
            for one in ("to-council", "to-unrcca")
        ]
        results = await asyncio.gather(*map(hub.authority.publish, drafts), return_exceptions=True)
        assert sorted(str(getattr(result, "code", result)) for result in results) == ["2", "old-version"]
        assert hub.authority.files == {path: (await kept(hub))[path] for path in hub.authority.files}

    run(tmp_path, claim)


def test_of_two_versions_that_two_workers_are_sent_at_once_one_holds_for_both(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        async with hub.another() as other:
            first, second = (
                hub.roster.next(hub.authority.files, hub.roster.with_rules(without=one))
                for one in ("to-council", "to-unrcca")
            )
            assert await hub.authority.publish(first) == 2
            with pytest.raises(Refused) as caught:
                await other.authority.publish(second)
            assert caught.value.code == "old-version"
            assert await other.authority.publish(first) == 2
            assert other.authority.files.items() >= hub.authority.files.items()

    run(tmp_path, claim)


def test_two_regions_that_publish_at_once_by_two_workers_both_hold_in_one_state(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        rules = {f"policy/KG-{unit}.json": {"v": 1, "version": 1, "rules": []} for unit in "OB"}
        await hub.publish(rules)
        async with hub.another() as other:
            before = dict(hub.authority.files)
            made = []
            for path, document in rules.items():
                area = path.removeprefix("policy/").removesuffix(".json")
                draft = drafts.edit(before, {path: {**document, "version": 2}}, datetime.now(UTC), area=area)
                made.append(hub.roster.signed(draft).files())
            known = metadata.state(before)
            assert await hub.authority.publish(made[0]) == known + 1
            assert await other.authority.publish(made[1]) == known + 2
            await hub.authority.heard(dumps(known + 2))
            for one in (hub, other):
                assert one.authority.standing is not None
                assert {area: file.version for area, file in one.authority.standing.trusted.regional.items()} == {
                    "KG-O": 2,
                    "KG-B": 2,
                }

    run(tmp_path, claim)


def test_a_worker_that_missed_a_version_does_not_vouch_for_the_old_one(tmp_path: Path, clock: type[Clock]) -> None:
    async def claim(hub: Hub) -> None:
        async with hub.another() as other:
            await hub.publish(hub.roster.with_rules(without="to-council"))
            clock.ahead = timedelta(hours=23)
            await other.authority._renew()
            files = await kept(hub)
            stamp = json.loads(files[TIMESTAMP])["signed"]["meta"]["snapshot.json"]["version"]
            assert stamp == max(number for number, name in metadata.versions(files) if name == "snapshot")

    run(tmp_path, claim)


def test_a_version_that_was_not_stored_does_not_hold_and_can_be_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(hub: Hub) -> None:
        publish = jetstream.publish_batch
        for number, stored in ((2, False), (3, True)):

            async def unconfirmed(*args: Any, stored: bool = stored, **options: Any) -> int:
                if stored:
                    await publish(*args, **options)
                raise Unavailable("broker-unavailable", "The broker did not confirm.")

            draft = hub.roster.next(hub.authority.files, hub.roster.with_rules(version=number))
            before = hub.authority.standing, dict(hub.authority.files)
            with monkeypatch.context() as patched:
                patched.setattr(jetstream, "publish_batch", unconfirmed)
                with pytest.raises(Unavailable):
                    await hub.authority.publish(draft)
            assert (hub.authority.standing, hub.authority.files) == before
            assert await hub.authority.publish(draft) == number
            async with hub.another(f"after-{number}") as again:
                assert again.authority.files.keys() >= hub.authority.files.keys()
                assert again.authority.standing is not None
                assert again.authority.standing.trusted.version == number

    run(tmp_path, claim)


def test_new_rules_hold_though_the_broker_does_not_take_the_revocations_and_a_repetition_finishes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(hub: Hub) -> None:
        async def away(_: Any) -> None:
            raise Unavailable("broker-unavailable", "The broker does not answer.")

        nkey = hub.roster.nkeys["unrcca"]
        revoked = hub.roster.changed("connections.json", revoked=[{"nkey": nkey, "at": 1}])
        draft = hub.roster.next(hub.authority.files, revoked)
        with monkeypatch.context() as patched:
            patched.setattr(hub.authority.access, "revoke", away)
            with pytest.raises(Unavailable):
                await hub.authority.publish(draft)
        assert hub.authority.standing is not None
        assert nkey not in hub.authority.standing.roles
        assert await hub.authority.publish(draft) == 2
        assert await hub.broker.access.revoked() == {nkey}
        with pytest.raises(Refused):  # its feed is gone
            await hub.feed("unrcca")
        assert [entry.subject for entry in await hub.stored(subjects.LEDGER)] == ["ledger.trust.1", "ledger.trust.2"]
        assert await hub.authority.publish(draft) == 2

    run(tmp_path, claim)


# --- what follows from a version --------------------------------------------------------------------------------------


def test_an_office_that_comes_has_a_feed_and_one_that_goes_has_none_and_no_way_in(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        assert await hub.feed("unrcca") == []
        hub.roster.nkeys["second"] = KeyPair.generate("user").public
        rows = hub.roster.documents()["connections.json"]["connections"]
        more = [*rows, {"nkey": hub.roster.nkeys["second"], "role": "office", "member": "council"}]
        with pytest.raises(Refused):
            await hub.feed("second")
        await hub.publish(hub.roster.changed("connections.json", connections=more))
        assert await hub.feed("second") == []
        gone = [{"nkey": hub.roster.nkeys[name], "at": 1} for name in ("unrcca", "osh")]
        await hub.publish(hub.roster.changed("connections.json", connections=more, revoked=gone))
        with pytest.raises(Refused):
            await hub.feed("unrcca")
        assert await hub.feed("second") == []
        assert await hub.broker.access.revoked() == {row["nkey"] for row in gone}

    run(tmp_path, claim)


def test_what_was_revoked_is_kept_out_again_after_a_restart_on_a_broker_that_forgot(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        nkey = hub.roster.nkeys["osh"]
        await hub.publish(hub.roster.changed("connections.json", revoked=[{"nkey": nkey, "at": 1}]))
        forgetful = hub.broker.access
        async with forgetful.system() as system:
            claims = credentials.nodes_account(hub.keys.accounts, {}, now=int(datetime.now(UTC).timestamp()) + 1)
            await access_module._update(system, claims)
        assert await forgetful.revoked() == set()
        async with hub.another():
            assert await forgetful.revoked() == {nkey}

    run(tmp_path, claim)


def test_a_feed_that_a_dying_hub_left_to_who_was_revoked_is_gone_after_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(hub: Hub) -> None:
        nkey = hub.roster.nkeys["unrcca"]
        with monkeypatch.context() as patched:
            patched.setattr(feeds, "remove_feed", died)
            with pytest.raises(Unavailable):
                await hub.publish(hub.roster.changed("connections.json", revoked=[{"nkey": nkey, "at": 1}]))
        assert await hub.feed("unrcca") == []
        async with hub.another():
            with pytest.raises(Refused):
                await hub.feed("unrcca")

    run(tmp_path, claim)


async def died(*_: Any) -> None:
    raise Unavailable("broker-unavailable", "The broker does not answer.")


def test_files_of_earlier_versions_are_forgotten_once_they_are_in_the_log(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        for number in (2, 3):
            await hub.publish(hub.roster.with_rules(number))
        assert "metadata/1.targets.json" in await kept(hub)
        async with hub.another() as again:
            assert await kept(hub) == hub.authority.files == again.authority.files
            assert again.authority.standing is not None
        assert [entry.subject for entry in await hub.stored(subjects.LEDGER)] == [
            *(f"ledger.trust.{number}" for number in (1, 2, 3))
        ]

    run(tmp_path, claim)


def test_a_timestamp_that_one_worker_signed_is_served_by_all_and_signed_once(
    tmp_path: Path, clock: type[Clock]
) -> None:
    async def claim(hub: Hub) -> None:
        async with hub.another() as other:
            await other.worker.listen()
            await other.nc.flush()
            clock.ahead = timedelta(hours=13)
            await hub.authority.load()
            async with asyncio.timeout(60):
                while other.authority.files[TIMESTAMP] != hub.authority.files[TIMESTAMP]:
                    await asyncio.sleep(0.01)
            await other.authority.load()
            assert metadata.metadata_version(other.authority.files[TIMESTAMP]) == 2

    run(tmp_path, claim)


def test_of_two_that_publish_at_two_workers_in_one_moment_one_is_refused_and_both_serve_the_other(
    tmp_path: Path,
) -> None:
    async def claim(hub: Hub) -> None:
        async with hub.another() as other:
            await other.publish(hub.roster.with_rules(2))
            with pytest.raises(Refused) as caught:
                await hub.publish(hub.roster.with_rules(2, without="to-council"))
            assert caught.value.code == "old-version"
            assert hub.authority.files == other.authority.files

    run(tmp_path, claim)


# --- a hub that was restored from a copy ------------------------------------------------------------------------------


async def restored(hub: Hub, files: Files) -> None:
    """Puts the broker's trust files back to ``files``, and notes that this was done just now."""
    since = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    for path in await kept(hub):
        await jetstream.purge(hub.nc, subjects.TRUST, subjects.trust_file(path))
    await jetstream.publish_batch(
        hub.nc,
        [
            *((subjects.trust_file(path), data, {}) for path, data in files.items()),
            (subjects.TRUST_HELD, since.isoformat().encode("ascii"), {}),
        ],
    )


def test_a_restored_hub_takes_and_serves_nothing_until_coordinators_have_signed_anew(
    tmp_path: Path, clock: type[Clock]
) -> None:
    async def claim(hub: Hub) -> None:
        old = dict(hub.authority.files)
        nkey = hub.roster.nkeys["osh"]
        await hub.publish(hub.roster.changed("connections.json", revoked=[{"nkey": nkey, "at": 1}]))
        newest = dict(hub.authority.files)
        member = tmp_path / "member"
        seen_by_a_coordinator(newest, member)
        await restored(hub, old)
        aigul = hub.roster.nkeys["aigul"]
        async with hub.another() as again:
            authority = again.authority
            assert (authority.standing, authority.held is None) == (None, False)
            assert again.worker.reception.serve(aigul, dumps({"path": TIMESTAMP})) == b""
            assert (await again.take(("batken", again.roster.sealed("batken"))))[0]["code"] == "hub-unavailable"
            with pytest.raises(Refused) as told:
                await again.worker.reception.answer_publish(aigul, b"{}")
            assert told.value.code == "hub-restored"
            later = datetime.now(UTC) + timedelta(minutes=5)
            for sentence, files in {
                "what was in force": newest,
                "what was in the copy": old,
                "signed by too few": {**newest, **hub.roster.next(newest, {}, by=(0,), now=later)},
                "signed before": {**newest, **hub.roster.next(newest, {}, now=later - timedelta(minutes=6))},
                "with a regional list from before": {
                    **newest,
                    **hub.roster.next(newest, hub.roster.with_rules(2), now=later),
                },
                "without what it rests on": {
                    path: data for path, data in hub.roster.next(newest, {}, now=later).items() if "targets" in path
                },
            }.items():
                with pytest.raises(KengeleError):
                    await authority.publish(files)
                assert authority.held is not None, sentence
            assert (await kept_files(again)) == old
            renewed = hub.roster.next(newest, {}, now=later)
            answer = await again.worker.reception.answer_publish(aigul, encoded({**newest, **renewed}))
            assert answer["code"] == "published"
            assert authority.standing is not None
            assert nkey not in authority.standing.roles
            assert await hub.broker.access.revoked() == {nkey}
            # Whoever saw the newest before takes what is served now for newer still.
            assert seen_by_a_coordinator(authority.files, member, later).version == answer["version"]
        async with hub.another("after") as after:
            assert after.authority.held is None
            assert after.authority.standing is not None

    run(tmp_path, claim)


async def kept_files(hub: Hub) -> dict[str, bytes]:
    """The trust files in the broker, without the note that it is held."""
    stored = await hub.stored(subjects.TRUST)
    return {subjects.trust_path(one.subject): one.data for one in stored if one.subject != subjects.TRUST_HELD}


# --- time and restarts ------------------------------------------------------------------------------------------------


def test_after_a_restart_the_same_is_in_force(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        await hub.publish(hub.roster.with_rules(without="to-council"))
        async with hub.another() as again:
            assert again.authority.files.items() >= hub.authority.files.items()
            assert again.authority.standing is not None
            assert hub.authority.standing is not None
            assert again.authority.standing.roles == hub.authority.standing.roles
            assert again.authority.standing.desks == hub.authority.standing.desks
            assert again.authority.standing.trusted.version == 2
            assert await again.publish(hub.roster.with_rules(version=3)) == 3

    run(tmp_path, claim)


def test_a_lost_directory_of_trust_is_made_anew_from_the_broker(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        shutil.rmtree(hub.keys.home / "trust")
        async with hub.another() as again:
            assert again.authority.standing is not None
            assert again.authority.standing.trusted.fresh

    run(tmp_path, claim)


def test_the_hubs_part_is_signed_anew_in_time_and_not_before(tmp_path: Path, clock: type[Clock]) -> None:
    async def claim(hub: Hub) -> None:
        def versions() -> tuple[int, str]:
            stamp = json.loads(hub.authority.files[TIMESTAMP])["signed"]["version"]
            return stamp, metadata.newest(hub.authority.files, "snapshot")

        assert versions() == (1, "metadata/1.snapshot.json")
        for ahead, expected in (
            (timedelta(hours=11), (1, "metadata/1.snapshot.json")),
            (timedelta(hours=13), (2, "metadata/1.snapshot.json")),
            (timedelta(days=5), (3, "metadata/2.snapshot.json")),
        ):
            clock.ahead = ahead
            await hub.authority.load()
            assert versions() == expected
            assert seen_by_a_coordinator(hub.authority.files, tmp_path / f"client-{ahead}", clock.now(UTC)).fresh

    run(tmp_path, claim)


@pytest.mark.parametrize("lost", [False, True])
def test_after_a_long_stop_the_last_word_holds_until_the_coordinators_sign_anew(
    tmp_path: Path, clock: type[Clock], lost: bool
) -> None:
    async def claim(hub: Hub) -> None:
        clock.ahead = timedelta(days=2)
        anew = hub.roster.next(hub.authority.files, hub.roster.with_rules(without="to-council"), now=clock.now(UTC))
        await hub.authority.publish(anew)
        clock.ahead = timedelta(days=40)
        if lost:
            shutil.rmtree(hub.keys.home / "trust")
        with capture_logs() as logs:
            async with hub.another() as again:
                assert again.authority.standing is not None
                assert again.authority.standing.trusted.version == 2
                assert again.authority.standing.trusted.targets_expire < clock.now(UTC)
                assert "trust-expired" in [entry["event"] for entry in logs]
                (answer,) = await again.take(("osh", hub.roster.sealed(pol=2)))
                assert answer["code"] == "accepted"
                with pytest.raises(Untrusted) as caught:
                    seen_by_a_coordinator(again.authority.files, tmp_path / "client", clock.now(UTC))
                assert caught.value.code == "frozen"
                anew = hub.roster.next(again.authority.files, {}, now=clock.now(UTC))
                assert await again.authority.publish(anew) == 4
                assert again.authority.standing.trusted.targets_expire > clock.now(UTC)
                assert seen_by_a_coordinator(again.authority.files, tmp_path / "client", clock.now(UTC)).fresh

    run(tmp_path, claim)


def test_an_areas_list_that_runs_out_while_the_hub_runs_stops_its_monitors_until_it_is_signed_anew(
    tmp_path: Path, clock: type[Clock]
) -> None:
    async def claim(hub: Hub) -> None:
        clock.ahead = timedelta(days=6)
        areas = {"areas.json": metadata.document_of(hub.authority.files, "areas.json")}
        await hub.authority.publish(hub.roster.next(hub.authority.files, areas, now=clock.now(UTC)))
        clock.ahead = timedelta(days=15)
        async with hub.another() as again:
            (answer,) = await again.take(("osh", hub.roster.sealed()))
            assert answer["code"] == "list-expired"
            renewed = drafts.edit(again.authority.files, {}, clock.now(UTC), area="KG")
            await again.authority.publish(hub.roster.signed(renewed).files())
            (answer,) = await again.take(("osh", hub.roster.sealed()))
            assert answer["code"] == "accepted"

    run(tmp_path, claim)


def test_trust_files_without_their_first_root_are_damage(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        await hub.nc.jetstream().purge_stream(subjects.TRUST, subject=subjects.trust_file(ROOT))
        with pytest.raises(KengeleError) as caught:
            async with hub.another():
                pass
        assert caught.value.exit_code == 7

    run(tmp_path, claim)


def test_a_worker_that_missed_the_news_finds_out_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def claims() -> None:
        async with running_hub(tmp_path) as hub, hub.another() as deaf:
            await deaf.authority.look_again()
            await hub.publish(hub.roster.with_rules(without="to-unrcca"))
            assert deaf.authority.standing is not None
            assert deaf.authority.standing.trusted.policy.version == 1
            await deaf.authority.look_again()
            assert deaf.authority.standing.trusted.policy.version == 2
            # Where nothing has changed nothing is read.
            monkeypatch.delattr(versions_module.Versions, "read")
            await deaf.authority.look_again()

    asyncio.run(claims())


def test_a_worker_that_is_behind_deletes_nothing_of_what_another_has_published(tmp_path: Path) -> None:
    async def kept(hub: Hub) -> set[str]:
        stored = consumers.read_all(hub.nc, subjects.TRUST, only=subjects.TRUST_FILES)
        return {subjects.trust_path(one.subject) async for one in stored}

    async def claims() -> None:
        async with running_hub(tmp_path) as hub, hub.another() as behind:
            await hub.publish(hub.roster.with_rules(without="to-unrcca"))
            needed = publication.current_of(hub.authority.files).keys()
            # As when the other publishes while this one starts, and has read what stood before.
            assert behind.authority.standing is not None
            assert behind.authority.standing.trusted.policy.version == 1
            await behind.authority._make_up()
            assert await kept(hub) > needed
            # What is superseded goes once a worker has looked that knows.
            await behind.authority.look_again()
            await behind.authority._make_up()
            assert await kept(hub) == needed

    asyncio.run(claims())
