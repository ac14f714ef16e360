"""What a member with a valid connection cannot do on the bus, held against the real broker.

Each test first does the harm it can, then shows that nothing came of it, then that the same connection still does what
it may: a test whose attacker is deaf and dumb would prove nothing.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from kengele_hub import broker as broker_module
from kengele_hub import consumers, credentials, feeds, jetstream, streams
from kengele_hub.broker import Broker, Settings
from kengele_hub.credentials import ROLES, Role, account_hash
from kengele_hub.home import HubKeys
from kengele_node.errors import NotAdmitted
from kengele_schemas import subjects
from kengele_schemas.encoding import dumps, loads
from kengele_schemas.nkeys import KeyPair
from kengele_testing.server import Member, member_credentials, running_broker

pytestmark = pytest.mark.full
ALL_OF_HUB = (*subjects.SERVICES, "ledger.>", "trustfile.>", "feed.>", "refused.>")
PULL = dumps({"batch": 10, "no_wait": True})
WORKER = "delivery"


@dataclass
class Intruder:
    """A member's bare connection, without the Link's manners."""

    member: Member
    client: Client
    errors: list[str] = field(default_factory=list)

    async def publish(self, subject: str, data: bytes = b"", reply: str = "", **headers: str) -> None:
        await self.client.publish(subject, data, reply=reply, headers=headers or None)

    async def violations(self) -> list[str]:
        """What the broker objected to since last asked; it answers in order, so nothing is under way after that."""
        await settle(self.client)
        found, self.errors = self.errors, []
        return found


async def settle(client: Client) -> None:
    """Returns when the broker has dealt with all that was published; nats-py's flush alone overtakes what waits."""
    async with asyncio.timeout(60):
        while client._pending:
            await asyncio.sleep(0)
        await client.flush()


async def intrude(url: str, member: Member, jwt: str = "") -> Intruder:
    intruder = Intruder(member, Client())

    async def note(error: Exception) -> None:
        intruder.errors.append(str(error))

    try:
        await intruder.client.connect(
            url,
            user_jwt_cb=lambda: (jwt or member.jwt).encode(),
            signature_cb=lambda nonce: base64.b64encode(member.key.sign(nonce.encode())),
            inbox_prefix=subjects.inbox_prefix(member.nkey),
            error_cb=note,
            allow_reconnect=False,
        )
    except nats.errors.Error:
        await intruder.client.close()
        raise
    return intruder


@dataclass
class Scene:
    """A hub with a ledger, an office with one undelivered message, and everything that reaches the account ``HUB``."""

    broker: Broker
    keys: HubKeys
    hub: Client
    other: Member
    ears: list[Subscription] = field(default_factory=list)

    async def heard(self) -> list[str]:
        """The subjects of what reached the hub since last asked."""
        await settle(self.hub)
        return sorted([(await ear.next_msg(30)).subject for ear in self.ears for _ in range(ear.pending_msgs)])

    async def state(self) -> dict[str, Any]:
        """What there is in all streams and how far all consumers are."""
        found: dict[str, Any] = {}
        feed = subjects.feed_stream(self.other.nkey)
        for stream, consumer in (("LEDGER", WORKER), (feed, self.other.nkey), ("TRUST", ""), ("REFUSED", "")):
            for call in (f"STREAM.INFO.{stream}", f"CONSUMER.INFO.{stream}.{consumer}") if consumer else ():
                reply = loads((await self.hub.request(f"$JS.API.{call}", b"")).data, max_bytes=1 << 20, max_depth=16)
                kept = ("state", "config", "delivered", "ack_floor", "num_ack_pending", "num_waiting", "num_pending")
                found[call] = {name: reply[name] for name in kept if name in reply}
        return found


@asynccontextmanager
async def scene(tmp_path: Path, **settings: Any) -> AsyncIterator[Scene]:
    async with running_broker(tmp_path, **settings) as (broker, keys):
        hub = await broker.access.connect()
        other = member_credentials(keys, "office")
        await streams.ensure_streams(hub)
        await consumers.ensure_consumer(hub, subjects.LEDGER, WORKER)
        await feeds.ensure_feed(hub, other.nkey)
        await jetstream.publish_batch(hub, [(subjects.ledger_report("one"), b"in the ledger", {})])
        await jetstream.publish_batch(hub, [(subjects.feed_subject(other.nkey), b"for the other", {})])
        await jetstream.publish_batch(hub, [(subjects.trust_file("root.json"), b"root", {})])
        setting = Scene(broker, keys, hub, other)
        setting.ears = [await hub.subscribe(subject) for subject in ALL_OF_HUB]
        try:
            yield setting
        finally:
            await hub.close()


def allowed(role: Role, nkey: str) -> str:
    """Something that a member in ``role`` may publish."""
    if role == "joiner":
        return subjects.join_credentials(nkey)
    return subjects.trust_get(nkey)


Name = Callable[[str, str, str], str]
"""From the member's own nkey, another's, and the hash of the account ``HUB``."""
FORBIDDEN: dict[str, Name] = {
    "publish a report as another": lambda me, other, _: subjects.reports_submit(other),
    "ask for trust files as another": lambda me, other, _: subjects.trust_get(other),
    "publish metadata as another": lambda me, other, _: subjects.publish_metadata(other),
    "look at the log as another": lambda me, other, _: subjects.audit_get(other),
    "cosign the log as another": lambda me, other, _: subjects.audit_cosign(other),
    "confirm a recall as another": lambda me, other, _: subjects.recalls_confirm(other),
    "share as another": lambda me, other, _: subjects.shares_ask(other),
    "ask for headers as another": lambda me, other, _: subjects.headers_get(other),
    "ask for another's recalls": lambda me, other, _: subjects.recalls_status(other),
    "publish into the witnessed checkpoints": lambda me, other, _: subjects.audited_checkpoint(1),
    "publish into another's cosignatures": lambda me, other, _: subjects.audited_cosignature(1, "other"),
    "publish reports under a wildcard": lambda me, other, _: "reports.*.submit",
    "publish reports under a full wildcard": lambda me, other, _: "reports.>",
    "publish under a longer subject of its own": lambda me, other, _: subjects.reports_submit(me) + ".x",
    "publish under a shorter subject of its own": lambda me, other, _: f"reports.{me}",
    "publish into the ledger": lambda me, other, _: subjects.ledger_report("forged"),
    "publish into the trust files": lambda me, other, _: subjects.trust_file("root.json"),
    "publish into the refusals": lambda me, other, _: subjects.refused(other),
    "publish into another's feed": lambda me, other, _: subjects.feed_subject(other),
    "publish into a feed of its own": lambda me, other, _: subjects.feed_subject(me),
    "publish into another's inbox": lambda me, other, _: subjects.inbox_prefix(other) + ".x",
    "publish into an inbox of its own": lambda me, other, _: subjects.inbox_prefix(me) + ".x",
    "publish an answer in the hub's place": lambda me, other, _: "_R_.abcdef.ghijkl",
    "pull another's feed": lambda me, other, _: subjects.feed_next(other),
    "pull another's feed by its own consumer's name": lambda me, other, _: subjects.consumer_next(
        subjects.feed_stream(other), me
    ),
    "pull its feed by another consumer's name": lambda me, other, _: subjects.consumer_next(
        subjects.feed_stream(me), "other"
    ),
    "pull the ledger": lambda me, other, _: subjects.consumer_next("LEDGER", WORKER),
    "pull under wildcards": lambda me, other, _: "$JS.API.CONSUMER.MSG.NEXT.*.*",
    "pull under a full wildcard": lambda me, other, _: "$JS.API.CONSUMER.MSG.NEXT.>",
    "acknowledge another's message": lambda me, other, _: f"$JS.ACK.FEED_{other}.{other}.1.1.1.1.0",
    "acknowledge another's message in the long form": lambda me, other, h: (
        f"$JS.ACK._.{h}.FEED_{other}.{other}.1.1.1.1.0"
    ),
    "acknowledge an entry of the ledger": lambda me, other, _: f"$JS.ACK.LEDGER.{WORKER}.1.1.1.1.0",
    "acknowledge the ledger with its own name behind": lambda me, other, _: (
        f"$JS.ACK.LEDGER.{WORKER}.FEED_{me}.{me}.1.2.3"
    ),
    "acknowledge another's feed with its own name behind": lambda me, other, _: (
        f"$JS.ACK.FEED_{other}.{other}.FEED_{me}.{me}.1.2.3"
    ),
    "acknowledge under wildcards": lambda me, other, _: "$JS.ACK.*.*.>",
    "create a consumer of its own feed": lambda me, other, _: f"$JS.API.CONSUMER.CREATE.FEED_{me}",
    "create a named consumer of its own feed": lambda me, other, _: f"$JS.API.CONSUMER.CREATE.FEED_{me}.x",
    "create a filtered consumer of another's feed": lambda me, other, _: (
        f"$JS.API.CONSUMER.CREATE.FEED_{other}.x.feed.{other}"
    ),
    "update its own consumer": lambda me, other, _: f"$JS.API.CONSUMER.DURABLE.CREATE.FEED_{me}.{me}",
    "delete its own consumer": lambda me, other, _: f"$JS.API.CONSUMER.DELETE.FEED_{me}.{me}",
    "delete another's consumer": lambda me, other, _: f"$JS.API.CONSUMER.DELETE.FEED_{other}.{other}",
    "pause another's consumer": lambda me, other, _: f"$JS.API.CONSUMER.PAUSE.FEED_{other}.{other}",
    "reset its own consumer": lambda me, other, _: f"$JS.API.CONSUMER.RESET.FEED_{me}.{me}",
    "read its own consumer's state": lambda me, other, _: f"$JS.API.CONSUMER.INFO.FEED_{me}.{me}",
    "read another's consumer's state": lambda me, other, _: f"$JS.API.CONSUMER.INFO.FEED_{other}.{other}",
    "list another's consumers": lambda me, other, _: f"$JS.API.CONSUMER.NAMES.FEED_{other}",
    "create a stream": lambda me, other, _: "$JS.API.STREAM.CREATE.MINE",
    "update the ledger": lambda me, other, _: "$JS.API.STREAM.UPDATE.LEDGER",
    "delete another's feed": lambda me, other, _: f"$JS.API.STREAM.DELETE.FEED_{other}",
    "purge another's feed": lambda me, other, _: f"$JS.API.STREAM.PURGE.FEED_{other}",
    "take a snapshot of the ledger": lambda me, other, _: "$JS.API.STREAM.SNAPSHOT.LEDGER",
    "read its own stream's state": lambda me, other, _: f"$JS.API.STREAM.INFO.FEED_{me}",
    "read another's stream's state": lambda me, other, _: f"$JS.API.STREAM.INFO.FEED_{other}",
    "list streams": lambda me, other, _: "$JS.API.STREAM.NAMES",
    "list streams with their state": lambda me, other, _: "$JS.API.STREAM.LIST",
    "read the account's state": lambda me, other, _: "$JS.API.INFO",
    "get a message of the ledger": lambda me, other, _: "$JS.API.STREAM.MSG.GET.LEDGER",
    "get a message of another's feed directly": lambda me, other, _: f"$JS.API.DIRECT.GET.FEED_{other}",
    "get a message of the trust files directly": lambda me, other, _: "$JS.API.DIRECT.GET.TRUST.trustfile.x",
    "delete a message of the ledger": lambda me, other, _: "$JS.API.STREAM.MSG.DELETE.LEDGER",
    "push account claims": lambda me, other, _: "$SYS.REQ.CLAIMS.UPDATE",
    "list the servers": lambda me, other, _: "$SYS.REQ.SERVER.PING",
    "list the connections": lambda me, other, _: "$SYS.REQ.SERVER.PING.CONNZ",
    "ask what it may do": lambda me, other, _: "$SYS.REQ.USER.INFO",
}


@pytest.mark.parametrize("sentence", FORBIDDEN)
def test_no_member_can(tmp_path: Path, sentence: str) -> None:
    async def run() -> None:
        async with scene(tmp_path) as setting:
            before = await setting.state()
            for role in ROLES:
                me = await intrude(setting.broker.url, member_credentials(setting.keys, role))
                subject = FORBIDDEN[sentence](
                    me.member.nkey, setting.other.nkey, account_hash(setting.keys.accounts.hub.public)
                )
                for data in (b"", PULL, b"+NXT"):
                    await me.publish(subject, data, reply=me.client.new_inbox())
                violations = await me.violations()
                assert len(violations) == 3, (role, violations)
                assert all("permissions violation for publish" in violation for violation in violations)
                assert await setting.heard() == []
                # The same connection is heard with what it may say.
                own = allowed(role, me.member.nkey)
                await me.publish(own)
                assert await me.violations() == []
                assert await setting.heard() == [own]
                await me.client.close()
            assert await setting.state() == before

    asyncio.run(run())


NOT_EVEN_ITS_OWN: dict[Role, list[Name]] = {
    "monitor": [
        lambda me, other, _: subjects.publish_metadata(me),
        lambda me, other, _: subjects.join_credentials(me),
        lambda me, other, _: subjects.feed_next(me),
        lambda me, other, _: f"$JS.ACK.FEED_{me}.{me}.1.1.1.1.0",
        lambda me, other, _: subjects.audit_cosign(me),
        lambda me, other, _: subjects.headers_get(me),
    ],
    "office": [
        lambda me, other, _: subjects.publish_metadata(me),
        lambda me, other, _: subjects.join_credentials(me),
        lambda me, other, _: subjects.headers_get(me),
    ],
    "coordinator": [
        lambda me, other, _: subjects.reports_submit(me),
        lambda me, other, _: subjects.join_credentials(me),
        lambda me, other, _: subjects.feed_next(me),
        lambda me, other, _: f"$JS.ACK.FEED_{me}.{me}.1.1.1.1.0",
        lambda me, other, _: subjects.audit_cosign(me),
    ],
    "joiner": [
        lambda me, other, _: subjects.audit_get(me),
        lambda me, other, _: subjects.audit_cosign(me),
        lambda me, other, _: subjects.headers_get(me),
        lambda me, other, _: subjects.reports_submit(me),
        lambda me, other, _: subjects.trust_get(me),
        lambda me, other, _: subjects.publish_metadata(me),
        lambda me, other, _: subjects.feed_next(me),
        lambda me, other, _: "join.>",
        lambda me, other, _: f"join.{me}",
        lambda me, other, _: f"join.{me}.credentials.x",
    ],
}


@pytest.mark.parametrize("role", ROLES)
def test_a_member_does_nothing_but_what_its_role_is_for(tmp_path: Path, role: Role) -> None:
    async def run() -> None:
        async with scene(tmp_path) as setting:
            me = await intrude(setting.broker.url, member_credentials(setting.keys, role))
            for name in NOT_EVEN_ITS_OWN[role]:
                await me.publish(name(me.member.nkey, setting.other.nkey, ""), reply=me.client.new_inbox())
                assert len(await me.violations()) == 1
            assert await setting.heard() == []
            own = allowed(role, me.member.nkey)
            await me.publish(own)
            assert await me.violations() == []
            assert await setting.heard() == [own]
            await me.client.close()

    asyncio.run(run())


@pytest.mark.parametrize("role", ["monitor", "office"])
def test_a_monitor_or_an_office_cannot_ask_for_the_headers(tmp_path: Path, role: Role) -> None:
    """Nor is it told that there are any: a request to nobody ends in the same words."""

    async def run() -> None:
        async with scene(tmp_path) as setting:
            me = await intrude(setting.broker.url, member_credentials(setting.keys, role))
            told = []
            for room in ("headers", "nothing"):
                for nkey in (me.member.nkey, setting.other.nkey, "*"):
                    ear = await me.client.subscribe(me.client.new_inbox())
                    await me.publish(f"{room}.{nkey}.get", b"{}", reply=ear.subject)
                    told.append([text.replace(room, "") for text in await me.violations()])
                    assert ear.pending_msgs == 0
                    await ear.unsubscribe()
            assert len(told[0]) == 1
            assert told[:3] == told[3:]
            assert await setting.heard() == []
            await me.client.close()

    asyncio.run(run())


def test_each_role_is_heard_with_what_it_is_for(tmp_path: Path) -> None:
    duties: dict[Role, list[Callable[[str], str]]] = {
        "monitor": [
            subjects.reports_submit,
            subjects.trust_get,
            subjects.audit_get,
            subjects.recalls_status,
            subjects.shares_ask,
        ],
        "office": [
            subjects.reports_submit,
            subjects.trust_get,
            subjects.audit_get,
            subjects.audit_cosign,
            subjects.recalls_confirm,
            subjects.shares_ask,
        ],
        "coordinator": [
            subjects.trust_get,
            subjects.publish_metadata,
            subjects.audit_get,
            subjects.recalls_status,
            subjects.headers_get,
        ],
        "joiner": [subjects.join_credentials],
    }

    async def run() -> None:
        async with scene(tmp_path) as setting:
            for role in ROLES:
                me = await intrude(setting.broker.url, member_credentials(setting.keys, role))
                for duty in duties[role]:
                    await me.publish(duty(me.member.nkey))
                assert await me.violations() == []
                assert await setting.heard() == sorted(duty(me.member.nkey) for duty in duties[role])
                await me.client.close()

    asyncio.run(run())


def test_a_credential_request_under_a_wildcard_names_nobody(tmp_path: Path) -> None:
    """The joiner's permission holds a wildcard, so an asterisk may pass the broker; the hub refuses to read it."""

    async def run() -> None:
        async with scene(tmp_path) as setting:
            me = await intrude(setting.broker.url, member_credentials(setting.keys, "joiner"))
            await me.publish("join.*.credentials")
            await me.violations()
            for subject in await setting.heard():
                with pytest.raises(Exception, match="NATS key"):
                    subjects.sender(subject)
            await me.client.close()

    asyncio.run(run())


SUBSCRIPTIONS: dict[str, Name] = {
    "everything": lambda me, other, _: ">",
    "everything one level deep": lambda me, other, _: "*",
    "everything two levels deep": lambda me, other, _: "*.>",
    "another's inbox": lambda me, other, _: subjects.inbox_prefix(other) + ".>",
    "everyone's inboxes": lambda me, other, _: "*.*",
    "the default inbox": lambda me, other, _: "_INBOX.>",
    "its inbox without a name": lambda me, other, _: subjects.inbox_prefix(me),
    "another's feed": lambda me, other, _: subjects.feed_subject(other),
    "its own feed": lambda me, other, _: subjects.feed_subject(me),
    "others' reports": lambda me, other, _: subjects.SUBMISSIONS,
    "its own reports": lambda me, other, _: subjects.reports_submit(me),
    "requests for credentials": lambda me, other, _: subjects.CREDENTIAL_REQUESTS,
    "the ledger": lambda me, other, _: "ledger.>",
    "answers under way": lambda me, other, _: "_R_.>",
    "acknowledgements": lambda me, other, _: "$JS.ACK.>",
    "the broker's events": lambda me, other, _: "$JS.EVENT.>",
    "the system's events": lambda me, other, _: "$SYS.>",
}


@pytest.mark.parametrize("what", SUBSCRIPTIONS)
def test_no_member_can_listen_to(tmp_path: Path, what: str) -> None:
    async def run() -> None:
        async with scene(tmp_path) as setting:
            for role in ROLES:
                me = await intrude(setting.broker.url, member_credentials(setting.keys, role))
                subject = SUBSCRIPTIONS[what](me.member.nkey, setting.other.nkey, "")
                for queue in ("", "workers"):
                    await me.client.subscribe(subject, queue=queue)
                    violations = await me.violations()
                    assert len(violations) == 1, role
                    assert "permissions violation for subscription" in violations[0]
                # Its own inbox it does hear.
                answer = asyncio.create_task(me.client.request(allowed(role, me.member.nkey), b"?", timeout=30))
                async with asyncio.timeout(60):
                    while not (asked := [ear for ear in setting.ears if ear.pending_msgs]):
                        await asyncio.sleep(0.001)
                await (await asked[0].next_msg(30)).respond(b"!")
                assert (await answer).data == b"!"
                await me.client.close()

    asyncio.run(run())


@pytest.mark.parametrize("long_form", [False, True])
def test_an_office_fetches_and_acknowledges_its_own_feed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long_form: bool
) -> None:
    """The counterpart of all that is forbidden above, in both forms of acknowledgement that the broker may use."""
    plain = broker_module.configuration
    monkeypatch.setattr(
        broker_module,
        "configuration",
        lambda *arguments: {**plain(*arguments), "feature_flags": {"js_ack_fc_v2": long_form}},
    )

    async def run() -> None:
        async with scene(tmp_path) as setting:
            nkey = setting.other.nkey
            async with setting.other.link(setting.broker.url) as link:
                await link.wait_connected(60)
                (delivery,) = await link.fetch(subjects.feed_stream(nkey), subjects.feed_consumer(nkey), 10, 30)
                assert delivery.data == b"for the other"
                assert len(delivery.receipt.split(".")) == (12 if long_form else 9) - long_form
                await link.acknowledge(delivery, confirm=True)
            state = (await setting.state())[f"CONSUMER.INFO.{subjects.feed_stream(nkey)}.{nkey}"]
            assert state["ack_floor"]["stream_seq"] == 1
            assert state["num_ack_pending"] == 0

    asyncio.run(run())


def test_an_office_cannot_acknowledge_what_was_delivered_to_another(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path) as setting:
            nkey = setting.other.nkey
            me = await intrude(setting.broker.url, member_credentials(setting.keys, "office"))
            async with setting.other.link(setting.broker.url) as link:
                await link.wait_connected(60)
                (delivery,) = await link.fetch(subjects.feed_stream(nkey), subjects.feed_consumer(nkey), 10, 30)
                for data in (b"", b"+ACK", b"+TERM", b"-NAK", b"+WPI"):
                    await me.publish(delivery.receipt, data)
                assert len(await me.violations()) == 5
                key = f"CONSUMER.INFO.{subjects.feed_stream(nkey)}.{nkey}"
                assert (await setting.state())[key]["num_ack_pending"] == 1
                await link.acknowledge(delivery, confirm=True)
                assert (await setting.state())[key]["num_ack_pending"] == 0
            await me.client.close()

    asyncio.run(run())


def test_an_office_cannot_see_other_offices_feeds_nor_that_they_exist_beyond_the_roster(tmp_path: Path) -> None:
    """Whatever it tries of another's: it is told the same of an office that has a feed and of one that never was."""

    async def run() -> None:
        async with scene(tmp_path) as setting:
            there, nowhere = setting.other.nkey, KeyPair.generate("user").public
            hub = account_hash(setting.keys.accounts.hub.public)
            told = {}
            for other in (there, nowhere):
                me = await intrude(setting.broker.url, member_credentials(setting.keys, "office"))
                mine, said = me.member.nkey, []
                for sentence, name in FORBIDDEN.items():
                    await me.publish(name(mine, other, hub), PULL, reply=me.client.new_inbox())
                    said += [(sentence, one) for one in await me.violations()]
                for sentence, name in SUBSCRIPTIONS.items():
                    await me.client.subscribe(name(mine, other, ""))
                    said += [(sentence, one) for one in await me.violations()]
                await me.client.close()
                told[other] = [
                    (how, one.lower().replace(other.lower(), "OTHER").replace(mine.lower(), "MINE"))
                    for how, one in said
                ]
            assert told[there] == told[nowhere]
            assert len(told[there]) == len(FORBIDDEN) + len(SUBSCRIPTIONS)
            # To whom it belongs the same feed is there.
            async with setting.other.link(setting.broker.url) as link:
                await link.wait_connected(60)
                (delivery,) = await link.fetch(subjects.feed_stream(there), subjects.feed_consumer(there), 10, 30)
                assert delivery.data == b"for the other"

    asyncio.run(run())


REPLIES: dict[str, Callable[[str], str]] = {
    "another's feed": subjects.feed_subject,
    "the ledger": lambda other: subjects.ledger_report("forged"),
    "the trust files": lambda other: subjects.trust_file("root.json"),
    "the refusals": subjects.refused,
    "another's reports": subjects.reports_submit,
    "another's requests for trust files": subjects.trust_get,
    "a pull of another's feed": subjects.feed_next,
    "an acknowledgement of another's message": lambda other: f"$JS.ACK.FEED_{other}.{other}.1.1.1.1.0",
    "the broker's interface": lambda other: f"$JS.API.STREAM.DELETE.FEED_{other}",
    "the system's interface": lambda other: "$SYS.REQ.CLAIMS.UPDATE",
}


@pytest.mark.parametrize("where", REPLIES)
def test_an_answer_cannot_be_directed_into(tmp_path: Path, where: str) -> None:
    """The broker does not check the reply subject of a publish: what is answered there must reach nobody."""

    async def run() -> None:
        async with scene(tmp_path) as setting:
            before = await setting.state()
            mine = member_credentials(setting.keys, "office")
            await feeds.ensure_feed(setting.hub, mine.nkey)
            await jetstream.publish_batch(setting.hub, [(subjects.feed_subject(mine.nkey), b"poison", {})])
            await setting.heard()
            me = await intrude(setting.broker.url, mine)
            target = REPLIES[where](setting.other.nkey)

            await me.publish(subjects.trust_get(mine.nkey), b"?", reply=target)
            if violations := await me.violations():
                assert "permissions violation for publish with reply" in violations[0]
                assert await setting.heard() == []
            else:
                await settle(setting.hub)
                (ear,) = [ear for ear in setting.ears if ear.pending_msgs]
                await (await ear.next_msg(30)).respond(b"poison")
                await settle(setting.hub)
            await me.publish(subjects.feed_next(mine.nkey), PULL, reply=target)
            await me.violations()
            await me.publish(f"$JS.ACK.FEED_{mine.nkey}.{mine.nkey}.1.1.1.1.0", b"+NXT", reply=target)
            # A consumer serves its requests in order: when this one is answered, those above have been.
            await me.client.request(subjects.feed_next(mine.nkey), PULL, timeout=30)
            await me.violations()
            assert await setting.heard() == []
            assert await setting.state() == before
            await me.client.close()

    asyncio.run(run())


def asked_for(role: Role, nkey: str, hub: str) -> list[str]:
    """Every subject under which a member in ``role`` may ask, as it is spelled for ``nkey``."""
    rules = credentials.publish_permissions(role, hub)
    return [rule.replace("{{subject()}}", nkey).replace("*", nkey).replace(">", "1.1.1.1.0") for rule in rules]


def answered_at(other: str, inbox: str, hub: str) -> list[str]:
    """Reply subjects that are somebody else's."""
    return [
        *(subjects.NEWS, subjects.NEWS_HEARD, f"{subjects.inbox_prefix(other)}.x", subjects.inbox_prefix(other)),
        *(subject.replace("*", other) for subject in subjects.SERVICES),
        *(reply(other) for reply in REPLIES.values()),
        *("_R_.abcdef.ghijkl", "$JS.API.INFO", "$JS.ACK.x", "$SYS.REQ.SERVER.PING", "hub.trust", "hub.ledger"),
        *(f"$JS.ACK._.{hub}.FEED_{other}.{other}.1.1.1.1.0", inbox.rpartition(".")[0]),
    ]


def test_no_request_that_anybody_may_make_is_answered_where_another_listens(tmp_path: Path) -> None:
    """Every request × every reply subject that is another's, with a hub that answers each with a number."""

    async def run() -> None:
        async with scene(tmp_path) as setting, setting.other.link(setting.broker.url) as victim:
            await victim.wait_connected(60)
            await victim.news()
            client = victim._client
            assert client is not None
            answers = 0

            async def answer(message: Msg) -> None:
                nonlocal answers
                answers += 1
                await message.respond(b"99")

            for subject in subjects.SERVICES:
                await setting.hub.subscribe(subject, cb=answer)
            await settle(setting.hub)
            assert await victim.request(subjects.trust_get(setting.other.nkey), b"") == b"99"
            (inbox,) = [one.subject for one in client._subs.values() if one.subject != subjects.NEWS_HEARD]
            hub = account_hash(setting.keys.accounts.hub.public)
            for role in ROLES:
                mine = member_credentials(setting.keys, role)
                if role == "office":
                    await feeds.ensure_feed(setting.hub, mine.nkey)
                    await jetstream.publish_batch(setting.hub, [(subjects.feed_subject(mine.nkey), b"99", {})])
                me = await intrude(setting.broker.url, mine)
                before = await setting.state()
                await setting.heard()
                heard = client.stats["in_msgs"]
                asked = asked_for(role, mine.nkey, setting.keys.accounts.hub.public)
                for subject in asked:
                    for reply in answered_at(setting.other.nkey, inbox, hub):
                        await me.publish(subject, PULL if ".NEXT." in subject else b"+NXT", reply=reply)
                        refused = await me.violations()
                        assert all("publish with reply" in one.lower() for one in refused), (subject, reply, refused)
                        assert bool(refused) or not reply.startswith("$JS.ACK"), (subject, reply)
                await settle(setting.hub)
                await settle(client)
                assert client.stats["in_msgs"] == heard, role
                assert set(await setting.heard()) <= set(asked), role
                assert await setting.state() == before
                await me.client.close()
            assert answers > 100
            assert not victim._news.is_set()
            # The hub itself is heard.
            await setting.hub.publish(subjects.NEWS, b"99")
            async with asyncio.timeout(30):
                await victim.news()

    asyncio.run(run())


def test_a_member_cannot_trace_where_its_messages_go(tmp_path: Path) -> None:
    """``Nats-Trace-Dest`` makes the broker report every hop of a message, with accounts and connections."""

    async def run() -> None:
        async with scene(tmp_path) as setting:
            for role in ROLES:
                me = await intrude(setting.broker.url, member_credentials(setting.keys, role))
                inbox = me.client.new_inbox()
                ear = await me.client.subscribe(inbox)
                own = allowed(role, me.member.nkey)
                for destination in (inbox, subjects.trust_get(setting.other.nkey), subjects.ledger_report("trace")):
                    await me.publish(own, b"", **{"Nats-Trace-Dest": destination})
                await me.violations()
                # Traces leave the broker in order: once the hub's own has come, the member's would have come, too.
                traces = setting.hub.new_inbox()
                control = await setting.hub.subscribe(traces)
                await setting.hub.publish("nowhere", b"", headers={"Nats-Trace-Dest": traces})
                assert b'"acc":' in (await control.next_msg(30)).data
                await me.violations()
                assert ear.pending_msgs == 0
                assert set(await setting.heard()) <= {own}
                await me.client.close()

    asyncio.run(run())


def test_a_stolen_jwt_is_worth_nothing_without_its_key(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path) as setting:
            thief = member_credentials(setting.keys, "monitor")
            with pytest.raises(nats.errors.Error, match="Authorization Violation"):
                await intrude(setting.broker.url, thief, setting.other.jwt)
            await (await intrude(setting.broker.url, thief)).client.close()

    asyncio.run(run())


async def closed(intruder: Intruder) -> None:
    """Returns when the broker has closed the connection."""
    async with asyncio.timeout(60):
        while not intruder.client.is_closed:
            await asyncio.sleep(0.005)


def test_a_member_cannot_give_itself_a_role_or_permissions(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path) as setting:
            accounts, now = setting.keys.accounts, int(time.time())
            me, forger = member_credentials(setting.keys, "monitor"), KeyPair.generate("account")
            claims = credentials.decode(me.jwt)
            everything = {"pub": {"allow": [">"]}, "sub": {"allow": [">"]}}
            for signer, more in (
                (forger, {}),
                (forger, everything),
                (me.key, everything),
                # A scoped key takes permissions from its template only, and refuses a claim that brings its own.
                (accounts.signing["monitor"], everything),
            ):
                forged = credentials.encode({**claims, "iat": now, "nats": {**claims["nats"], **more}}, signer)
                with pytest.raises(nats.errors.Error, match="Authorization Violation"):
                    await intrude(setting.broker.url, me, forged)
            await (await intrude(setting.broker.url, me)).client.close()

    asyncio.run(run())


def test_a_member_cannot_flood_with_large_messages_or_many_subscriptions(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path) as setting:
            me = await intrude(setting.broker.url, member_credentials(setting.keys, "monitor"))
            for _ in range(credentials.MAX_SUBSCRIPTIONS):
                await me.client.subscribe(me.client.new_inbox())
            assert await me.violations() == []
            me.client._max_payload = 1 << 30
            await me.publish(subjects.reports_submit(me.member.nkey), bytes(credentials.MAX_PAYLOAD + 1))
            await closed(me)
            assert await setting.heard() == []

            me = await intrude(setting.broker.url, member_credentials(setting.keys, "monitor"))
            for _ in range(credentials.MAX_SUBSCRIPTIONS + 1):
                await me.client.subscribe(me.client.new_inbox())
            await closed(me)

    asyncio.run(run())


@pytest.mark.parametrize("role", ROLES)
def test_a_revoked_member_is_out_at_once_and_stays_out_after_a_restart(tmp_path: Path, role: Role) -> None:
    async def run() -> None:
        async with scene(tmp_path) as setting:
            gone, stays = member_credentials(setting.keys, role), member_credentials(setting.keys, role)
            me = await intrude(setting.broker.url, gone)
            neighbour = await intrude(setting.broker.url, stays)

            await setting.broker.access.revoke([gone.nkey])
            await closed(me)
            await neighbour.violations()
            assert neighbour.client.is_connected
            await neighbour.client.close()

            await setting.broker.stop()
            await setting.hub.close()
            async with Broker(setting.keys, Settings(port=-1)) as restarted:
                setting.broker = restarted
                again = setting.broker.access.member_jwt(gone.nkey, role)
                for jwt in (gone.jwt, again):
                    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
                        await intrude(restarted.url, gone, jwt)
                async with gone.link(restarted.url) as link:
                    with pytest.raises(NotAdmitted):
                        await link.wait_connected(0.5)
                await (await intrude(restarted.url, stays)).client.close()

    asyncio.run(run())


def test_a_membership_that_ends_on_a_date_ends_the_connection(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path) as setting:
            expires = int(time.time()) + 2
            member = member_credentials(setting.keys, "joiner", expires=expires)
            me = await intrude(setting.broker.url, member)
            await closed(me)
            while time.time() < expires + 1:  # the broker counts in whole seconds
                await asyncio.sleep(0.05)
            with pytest.raises(nats.errors.Error, match="Authorization Violation"):
                await intrude(setting.broker.url, member)

    asyncio.run(run())
