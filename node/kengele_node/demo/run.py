"""The demonstration: a network is founded, reports go through it, things go wrong, and its claims are checked."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import yaml

from kengele_node.member import Member
from kengele_node.monitor.compose import new_report_id, plan_report, seal_report
from kengele_node.monitor.consent import agreed_to
from kengele_node.monitor.home import open_outbox
from kengele_node.monitor.outbox import Entry, Outbox
from kengele_node.monitor.sender import Sender
from kengele_node.office.arrivals import Item
from kengele_node.office.desk import Desk
from kengele_node.office.home import open_inbox
from kengele_node.office.inbox import Inbox
from kengele_schemas import taxonomy
from kengele_schemas.areas import Areas
from kengele_schemas.compartments import GRANTABLE
from kengele_schemas.report import Header, Report

from . import attacks, story
from .network import Network
from .oracle import Oracle
from .story import Told

_PATIENCE: Final = 120.0
"""Seconds for the last report to be on the last desk."""
_EXPECTED_CODES: Final = {
    "a tampered report": "not-whole",
    "a replay through another's line": "replayed",
    "a stranger's key": "bad-signature",
    "a report outside the monitor's areas": "out-of-scope",
    "another report under a taken id": "id-conflict",
    "garbage": "malformed",
    "a report from the future": "future-dated",
    "a roster that the hub made up": "too-few-signatures",
}


@dataclass
class Sent:
    """One report on its way: what was written, where it went out, and whether its receipt came."""

    told: Told
    report_id: str
    envelope: bytes
    accepted: bool = False


@dataclass
class Outcome:
    """What came of it all; ``document`` is what ``--json`` prints."""

    submitted: int = 0
    accepted: int = 0
    expected: int = 0
    verified: int = 0
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    attempts: dict[str, str] = field(default_factory=dict)
    checks: dict[str, bool] = field(default_factory=dict)
    opened: dict[str, Counter[str]] = field(default_factory=dict)
    samples: list[tuple[Told, Header]] = field(default_factory=list)
    seconds: float = 0

    def document(self) -> dict[str, Any]:
        return {
            "submitted": self.submitted,
            "accepted": self.accepted,
            "deliveries_expected": self.expected,
            "deliveries_verified": self.verified,
            "lost": self.lost,
            "duplicated": self.duplicated,
            "wrongly_delivered": self.wrong,
            "refused": dict(sorted(self.refused.items())),
            "checks": self.checks,
            "seconds": round(self.seconds, 1),
        }


class Demonstration:
    """One run. ``progress`` is told what is going on: a sentence, how much of it is done, of how much."""

    def __init__(self, network: Network, progress: Callable[[str, int, int], None]) -> None:
        self.network = network
        self.outcome = Outcome()
        self._progress = progress
        self._sent: dict[str, Sent] = {}
        self._outboxes: dict[str, Outbox] = {}
        self._inboxes: dict[str, Inbox] = {}
        self._kill_when = 0
        self._killed_at: int | None = None
        self._work: list[asyncio.Task[None]] = []

    async def run(self, told: Sequence[Told]) -> Outcome:
        """Sends ``told`` and checks every claim."""
        started = time.monotonic()
        network, outcome = self.network, self.outcome
        self._progress("Starting the hub, founding the network", 0, 1)
        await network.found()
        monitors = list(dict.fromkeys([*story.MONITORS, *(one.monitor for one in told)]))
        await network.admit(monitors)
        self._progress("The network stands", 1, 1)
        async with AsyncExitStack() as stack:
            try:
                await self._desks(stack)
                await self._write(told)
                await self._send(monitors)
                await self._settle()
            finally:
                for task in self._work:
                    task.cancel()
                await asyncio.gather(*self._work, return_exceptions=True)
        self._judge()
        await self._attack()
        outcome.seconds = time.monotonic() - started
        for box in self._outboxes.values():
            box.close()
        for inbox in self._inboxes.values():
            inbox.close()
        return outcome

    async def _desks(self, stack: AsyncExitStack) -> None:
        for name, member in self.network.offices.items():
            inbox = self._inboxes[name] = open_inbox(member)
            session = await stack.enter_async_context(member.session())
            desk = Desk(session, inbox, member.id, member.opening_keys, member.nkey.public)
            self._work.append(asyncio.create_task(desk.follow()))

    async def _write(self, told: Sequence[Told]) -> None:
        """Every report is sealed and put into its monitor's outbox, before any goes out."""
        trusted = {}
        for name, member in self.network.monitors.items():
            self._outboxes[name] = open_outbox(member)
            async with member.session() as session:
                trusted[name] = await session.refresh()
        for number, one in enumerate(told, 1):
            member, box = self.network.monitors[one.monitor], self._outboxes[one.monitor]
            moment = datetime.now(UTC)
            plan = plan_report(one.report, trusted[one.monitor], kid=member.kid, report_id=new_report_id(), now=moment)
            if not plan.readers:
                self.outcome.refused["no-reader"] += 1
                continue
            entry = _add(box, plan, member, moment.timestamp())
            self._sent[entry.report_id] = Sent(one, entry.report_id, entry.envelope or b"")
            if len(self.outcome.samples) < 3 and number % 40 == 7:
                self.outcome.samples.append((one, plan.header))
            if number % 25 == 0 or number == len(told):
                self._progress("Reports are written and sealed", number, len(told))
                await asyncio.sleep(0)
        self.outcome.submitted = len(self._sent)

    async def _send(self, monitors: Sequence[str]) -> None:
        """All but one node send; half-way the hub is killed and started again; then the last node finds its line."""
        online = [name for name in monitors if name != story.OFFLINE]
        first = sum(one.told.monitor != story.OFFLINE for one in self._sent.values())
        self._kill_when = max(1, first // 2)
        self._work += [asyncio.create_task(self._node(name)) for name in online]
        await self._until(lambda: self._killed_at is not None, "Reports are sent")
        killed_at = self._killed_at or 0
        self._progress("The hub is killed (SIGKILL) half-way, and started again", killed_at, first)
        await self.network.hub.start()
        await self._until(lambda: self._accepted() >= first, "Reports are sent")
        self.outcome.checks["hub_was_killed_half_way"] = 0 < killed_at < first
        waiting = self._outboxes[story.OFFLINE].counts().get("waiting", 0)
        own = len(self._sent) - first
        self._progress(f"The node {story.OFFLINE} was without a line; now it has one", 0, own)
        self._work.append(asyncio.create_task(self._node(story.OFFLINE)))
        await self._until(lambda: self._accepted() >= len(self._sent), "Reports are sent")
        self.outcome.checks["offline_node_kept_and_delivered_later"] = waiting == own > 0
        self.outcome.accepted = self._accepted()

    async def _node(self, name: str) -> None:
        member = self.network.monitors[name]
        async with member.session() as session:
            sender = Sender(
                session, self._outboxes[name], member.key, member.nkey.public, network=member.card.root_digest
            )
            sender.told = self._told
            await sender.run()

    def _told(self, entry: Entry) -> None:
        if entry.state in ("accepted", "kept"):
            self._sent[entry.report_id].accepted = True
            if self._killed_at is None and self._accepted() >= self._kill_when:
                # At this very receipt, with others under way.
                self.network.hub.kill()
                self._killed_at = self._accepted()
        elif entry.state == "refused":
            self.outcome.refused[entry.code] += 1

    def _accepted(self) -> int:
        return sum(one.accepted for one in self._sent.values())

    async def _until(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not done() and time.monotonic() < deadline:
            self._progress(what, self._accepted(), len(self._sent))
            self._check_work()
            await asyncio.sleep(0.1)

    def _check_work(self) -> None:
        """Raises what ended a node or a desk: they run for good."""
        for task in self._work:
            if task.done():
                task.result()

    async def _settle(self) -> None:
        """Waits until the hub has nothing more to deliver and the desks nothing more to fetch."""
        expected = sum(len(parts) for parts in self._expected().values())
        deadline = time.monotonic() + _PATIENCE / 2
        quiet, last = 0, -1
        while time.monotonic() < deadline and quiet < 10:
            count = sum(inbox.count() for inbox in self._inboxes.values())
            self._progress("Reports arrive on the desks", min(count, expected), expected)
            # Past the expected number it still waits, for anything that must not come.
            quiet = quiet + 1 if count == last and count >= expected else 0
            last = count
            await asyncio.sleep(0.1)

    def _expected(self) -> dict[str, dict[str, set[str]]]:
        today = datetime.now(UTC).date()
        judge = oracle()
        return {one.report_id: judge.expected(_facts(one.told.report), today) for one in self._sent.values()}

    def _judge(self) -> None:
        """Compares every desk with the oracle: compartment by compartment, text by text."""
        outcome, expected = self.outcome, self._expected()
        outcome.expected = sum(len(offices) for offices in expected.values())
        asides = 0
        for office, inbox in self._inboxes.items():
            seen: Counter[str] = Counter()
            parts: Counter[str] = Counter()
            for item in _items(inbox):
                report_id = item.arrival.header.id
                seen[report_id] += 1
                wanted = expected.get(report_id, {}).get(office)
                got = _contents(item)
                parts.update(got.keys())
                if wanted is None or set(got) - wanted:
                    outcome.wrong += 1
                elif set(got) == wanted and _same(got, self._sent[report_id].told.report):
                    outcome.verified += seen[report_id] == 1
            outcome.duplicated += sum(count - 1 for count in seen.values())
            outcome.lost += sum(office in offices and not seen[report_id] for report_id, offices in expected.items())
            asides += len(inbox.asides())
            outcome.opened[office] = parts + Counter({"reports": sum(seen.values())})
            outcome.checks.setdefault("no_desk_misses_a_number", True)
            outcome.checks["no_desk_misses_a_number"] &= not any(
                inbox.gaps(author).unexplained for author in inbox.authors()
            )
        outcome.checks["every_report_was_accepted"] = outcome.accepted == outcome.submitted > 0
        outcome.checks["every_desk_has_exactly_what_the_rules_say"] = (
            outcome.verified == outcome.expected > 0 and not outcome.lost and not outcome.wrong
        )
        outcome.checks["nothing_twice"] = not outcome.duplicated
        outcome.checks["nothing_had_to_be_set_aside"] = not asides

    async def _attack(self) -> None:
        self._progress("What must be refused is tried", 0, len(_EXPECTED_CODES))
        sent = next(one for one in self._sent.values() if one.told.monitor == "osh" and one.accepted)
        found = await attacks.refused_by_hub(self.network, sent.envelope)
        found["a roster that the hub made up"] = await attacks.forged_roster(self.network, self.network.home / "judge")
        self.outcome.attempts = found
        self.outcome.refused.update(found.values())
        self.outcome.checks["what_must_be_refused_was"] = found == _EXPECTED_CODES
        self._progress("What must be refused was refused", len(found), len(_EXPECTED_CODES))


def _add(box: Outbox, plan: Any, member: Member, moment: float) -> Entry:
    draft = plan.report.model_dump(mode="json", exclude_none=True)
    return box.add(
        plan.header.id,
        draft,
        plan.offices,
        lambda counters: seal_report(plan, member.key, counters),
        now=moment,
        agreed=agreed_to(plan),
    )


def _facts(report: Report) -> dict[str, Any]:
    return report.model_dump(mode="json", exclude_none=True)


def _same(got: Mapping[str, Any], report: Report) -> bool:
    written = report.contents()
    return all(
        written[name] == part or {**part, "area": None} == {**written[name], "area": None} for name, part in got.items()
    )


def _contents(item: Item) -> dict[str, Any]:
    return {name: part.model_dump(mode="json", exclude_none=True) for name, part in item.arrival.contents.items()}


def _items(inbox: Inbox) -> list[Item]:
    return [item for item in inbox.items(1_000_000) if isinstance(item, Item)]


def oracle() -> Oracle:
    """The oracle over the demonstration's own tables."""
    offices = yaml.safe_load(story.data("offices.yaml").read_text("utf-8"))
    rules = yaml.load(story.data("policy.yaml").read_text("utf-8"), Loader=yaml.BaseLoader)  # noqa: S506
    areas = [row.model_dump(mode="json") for row in Areas.world()]
    categories = {code: taxonomy.parent(code) for code in taxonomy.codes()}
    return Oracle(rules, [row["id"] for row in offices["offices"]], offices["groups"], areas, categories)


def table(report: Report, judge: Oracle, offices: Sequence[str]) -> list[tuple[str, list[str]]]:
    """For each office a row: for each compartment the rule that decided, in brackets where it withholds."""
    today = datetime.now(UTC).date()
    facts = _facts(report)
    read = judge.expected(facts, today)
    rows = []
    for office in offices:
        cells = []
        for part in GRANTABLE:
            rules = judge.deciding(office, part, facts, today)
            if part not in facts:
                cells.append("-")
            elif part in read.get(office, ()):
                cells.append(", ".join(rules))
            else:
                cells.append(f"[{', '.join(rules) if rules else 'no rule'}]")
        rows.append((office, cells))
    return rows


def sample_path(path: Path | None) -> Path:
    """The GED file to replay."""
    return path or story.data("ged_sample.csv")
