"""The sender: takes what is due from the outbox to the hub, again and again, until a receipt that holds is there.

Sending twice does no harm, not sending does; so whatever happens on the way, only a verified receipt ends it. A report
sealed under a policy that the hub takes no more is sealed anew under the one in force, for the readers and parts to
which both its author and the rules agree; where that is less than she was promised, it is held and she is asked
(:mod:`.consent`).

    >>> async with member.session() as session:
    ...     await Sender(session, outbox, member.key, member.nkey.public).run()
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from nacl.signing import SigningKey

from kengele_node.errors import NotAdmitted
from kengele_node.newest import HUB, Newest, Older
from kengele_schemas import subjects
from kengele_schemas.encoding import unb64u
from kengele_schemas.envelope import parse
from kengele_schemas.errors import KengeleError, Malformed, Refused, Unreachable, Untrusted
from kengele_schemas.keys import monitor_id
from kengele_schemas.receipt import CODES, Receipt, read_receipt
from kengele_schemas.report import parse_draft
from kengele_schemas.trusted import Trusted

from . import consent
from .compose import plan_report, seal_report
from .log_memory import LogMemory
from .outbox import Entry, Outbox
from .recalling import is_recall, leaf_of, read_intent, with_strangers

WINDOW: Final = 16
"""Reports under way at once."""
FIRST_WAIT: Final = 1.0
LONGEST_WAIT: Final = 60.0
"""Seconds; the bounds of the random waits between attempts."""
LONGEST_ASKED: Final = 24 * 3600.0
"""Seconds; the hub may ask for no longer wait."""
_POLL: Final = 5.0
"""Seconds until the outbox is looked into again: another process may have put something in."""
_ALL_WAIT: Final = frozenset({"over-quota", "storage-full", "hub-unavailable"})
"""Refusals that speak of the sender or of the hub and not of a report: none is sent before the hub's moment."""
NO_TEXT: Final = "text-dropped"
"""Why a report that was sent again is refused if it would have to be sealed by newer rules."""
_POLICY_CODES: Final = frozenset({"stale-policy", "policy-unknown"})


class Line(Protocol):
    """What the sender needs of a :class:`~kengele_node.bus.Bus`."""

    async def request(self, subject: str, data: bytes, timeout: float = 10) -> bytes: ...


class Session(Protocol):
    """What the sender needs of a :class:`~kengele_node.member.Session`."""

    @property
    def link(self) -> Line: ...

    async def refresh(self) -> Trusted: ...


class Sender:
    """Sends one monitor's outbox.

    Args:
        session: the line, and how the network's rules are fetched anew over it.
        key: the monitor's signing key, to seal anew.
        nkey: the monitor's, under which it submits.
        earlier: the keys that it had before, by ``kid``: what was reported under one is recalled under it.
        network: the digest of the network's first root: an office's word on its keys is bound to it.
        memory: what receipts said of the log; nothing is remembered if None.
        newest: the newest rules that receipts named; nothing is remembered if None.
        trusted: the rules as last verified; fetched when first needed if None.
        clock: Unix seconds; by it is waited.
        moment: the time by which is judged who is sealed for; by ``clock`` if None.
        jitter: a random number between its two arguments.
        window: reports under way at once.
        timeout: seconds for the hub to answer.
    """

    told: Callable[[Entry], None]
    """Called with each entry whose state changed, or that goes on waiting for the reason in its ``code``."""
    saw: Callable[[Trusted, datetime], object]
    """Called with the moment that a receipt which holds names: the hub's word, and no more."""
    shown_older: Callable[[Older], object]
    """Called where the hub goes on to serve older rules than its receipts name."""
    trusted: Trusted | None
    """May be replaced at any time by what was verified since."""

    def __init__(
        self,
        session: Session,
        outbox: Outbox,
        key: SigningKey,
        nkey: str,
        *,
        earlier: Mapping[str, SigningKey] | None = None,
        network: str = "",
        memory: LogMemory | None = None,
        newest: Newest | None = None,
        trusted: Trusted | None = None,
        clock: Callable[[], float] = time.time,
        moment: Callable[[], datetime] | None = None,
        jitter: Callable[[float, float], float] = random.uniform,
        window: int = WINDOW,
        timeout: float = 20,
    ) -> None:
        self.told = lambda _: None
        self.saw = lambda *_: None
        self.shown_older = lambda _: None
        self.trusted = trusted
        self._session = session
        self._outbox = outbox
        self._network = network
        self._memory = memory
        self._newest = newest
        self._keys: dict[str, SigningKey] = dict(earlier or {})
        self.change_key(key)
        self._subject = subjects.reports_submit(nkey)
        self._refreshing = asyncio.Lock()
        self._clock = clock
        self._moment = moment or (lambda: datetime.fromtimestamp(clock(), UTC))
        self._jitter = jitter
        self._window = window
        self._timeout = timeout
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._held: dict[str, tuple[int, float]] = {}
        """By entry: failures in a row, and until when (of the event loop's time) it is not tried."""
        self._line_failures = 0
        self._line_rests_until = 0.0
        self._asked_until = 0.0
        """Unix seconds before which the hub wants to hear nothing."""
        self._stirred = asyncio.Event()

    def take_over(self, trusted: Trusted) -> None:
        """Seals and reads receipts by ``trusted`` from now on."""
        self.trusted = trusted

    def change_key(self, key: SigningKey) -> None:
        """Seals anew under ``key`` from now on. What was sealed before goes out as it is."""
        self._key, self._kid = key, monitor_id(bytes(key.verify_key))
        self._keys[self._kid] = key

    def wake(self) -> None:
        """Something was added, or the line is back: does not wait out the waits."""
        self._held.clear()
        self._line_rests_until = 0.0
        self._stirred.set()

    async def run(self, *, until_empty: bool = False) -> None:
        """Sends until cancelled; with ``until_empty`` until nothing waits any more.

        Raises:
            Damaged: the outbox cannot be read; of what it holds nothing was given up.
        """
        self._outbox.hasten(self._clock(), LONGEST_ASKED)
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._stirred.clear()
                for name in [name for name, task in self._under_way.items() if task.done()]:
                    self._under_way.pop(name).result()
                free = self._window - len(self._under_way)
                if free and loop.time() >= self._line_rests_until and not self._asked():
                    for entry in self._outbox.due(self._clock(), free, besides=self._out_of_turn(loop.time())):
                        self._under_way[entry.name] = loop.create_task(self._attempt(entry))
                if until_empty and not self._under_way and self._outbox.next_due() is None:
                    return
                try:
                    # Not wait_for: before Python 3.12 it loses a cancellation that comes with what it waits for.
                    async with asyncio.timeout(self._rest(loop.time())):
                        await self._stirred.wait()
                except TimeoutError:
                    continue
        finally:
            left = list(self._under_way.values())
            self._under_way.clear()
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def send(self, entry: Entry) -> None:
        """Sends one waiting ``entry`` once, sealed anew if need be, and notes in the outbox what came of it.

        Raises:
            Unreachable: no answer; it goes on waiting. Likewise NotAdmitted, and Untrusted for an answer that is none.
        """
        receipt = await self._submit(entry)
        if receipt is not None and (receipt.code in _POLICY_CODES or self._outlived(entry, receipt.code)):
            renewed = await self._seal_anew(entry, receipt.code)
            if renewed is None:
                return
            if renewed is not entry:
                entry, receipt = renewed, await self._submit(renewed)
        if receipt is None:
            return
        if receipt.accepted or not _temporary(receipt.code):
            self._tell(entry, receipt.code)
            if receipt.leaf is not None:
                await self._learn(receipt.leaf.policy)
            return
        asked = min(float(receipt.retry_after or 0), LONGEST_ASKED)
        if receipt.code in _ALL_WAIT:
            self._asked_until = max(self._asked_until, self._clock() + asked)
        self._outbox.later(entry.name, self._clock() + asked + self._wait(entry.attempts))
        self._tell(entry, receipt.code)

    async def _submit(self, entry: Entry) -> Receipt | None:
        """The receipt for ``entry``, if final already in the outbox; None where the line does not take it."""
        assert entry.envelope is not None, "a waiting report has an envelope"
        try:
            answer = await self._session.link.request(self._subject, entry.envelope, self._timeout)
        except NotAdmitted:
            raise
        except Refused as error:
            self._refuse(entry, error)
            return None
        self._line_failures = 0
        receipt = await self._read(answer, hashlib.sha256(entry.envelope).digest())
        if receipt.accepted:
            if self.trusted is not None:
                if self._memory is not None:
                    # Before anything is given up for it.
                    hub_key = unb64u(self.trusted.network.hub_key)
                    self._memory.take(
                        answer,
                        self.trusted.network.log,
                        hub_key,
                        name=entry.name,
                        envelope=entry.envelope,
                        now=self._clock(),
                    )
                self.saw(self.trusted, datetime.fromisoformat(leaf_of(answer).at))
            self._outbox.accepted(entry.name, answer, parse(entry.envelope).claims)
        elif not _temporary(receipt.code) and not self._outlived(entry, receipt.code):
            self._outbox.refused(entry.name, receipt.code, answer)
        return receipt

    def _outlived(self, entry: Entry, code: str) -> bool:
        """Whether ``entry`` was refused for its key's age, and another follows here: it is sealed anew under that."""
        return code == "key-expired" and not is_recall(entry.draft) and _author(entry) != self._kid

    def _out_of_turn(self, at: float) -> set[str]:
        return set(self._under_way) | {name for name, (_, until) in self._held.items() if until > at}

    def _asked(self) -> float:
        """Seconds for which the hub still wants to hear nothing; a clock that was set back does not make them more."""
        left = self._asked_until - self._clock()
        return left if 0 < left <= LONGEST_ASKED else 0.0

    def _rest(self, at: float) -> float:
        """Seconds until there may be something to do."""
        if asked := self._asked():
            return min(_POLL, asked)
        if self._line_rests_until > at:
            return min(_POLL, self._line_rests_until - at)
        if len(self._under_way) >= self._window:
            return _POLL
        rests = [until - at for name, (_, until) in self._held.items() if until > at and name not in self._under_way]
        due = self._outbox.next_due(besides=self._out_of_turn(at))
        if due is not None:
            rests.append(max(0.0, due - self._clock()))
        return min([_POLL, *rests])

    async def _attempt(self, entry: Entry) -> None:
        try:
            await self.send(entry)
            self._held.pop(entry.name, None)
        except (Unreachable, NotAdmitted) as error:
            self._hold(entry)
            if self._rest_line() and isinstance(error, NotAdmitted):
                self._tell(entry, error.code)
        except KengeleError as error:
            self._hold(entry)
            self._tell(entry, error.code)
        finally:
            self._stirred.set()

    async def _read(self, answer: bytes, digest: bytes) -> Receipt:
        """The verified receipt; one that does not hold is read once more by the hub's key as it may be since."""
        known = self.trusted or await self._renewed(None)
        try:
            return _read_by(known, answer, digest)
        except Untrusted:
            return _read_by(await self._renewed(known), answer, digest)

    async def _renewed(self, known: Trusted | None) -> Trusted:
        """The rules as they stand since ``known``, fetched once for all who ask at the same time."""
        async with self._refreshing:
            if self.trusted is None or self.trusted is known:
                self.trusted = await self._session.refresh()
            return self.trusted

    async def _learn(self, policy: int) -> None:
        """Takes in that the hub has named version ``policy`` of the rules."""
        if self._newest is not None and self.trusted is not None:
            await self._newest.learn(policy, HUB, self.trusted, lambda: self._renewed(self.trusted), self.shown_older)

    async def _seal_anew(self, entry: Entry, code: str) -> Entry | None:
        """``entry`` sealed by newer rules; itself where there are none; None where by them it cannot be sent, or its
        author is to be asked."""
        if entry.draft is None and code == "policy-unknown":
            # The hub may come to know these rules: one that was restored does.
            return entry
        if entry.draft is None:
            # Sent again after its text was dropped: there is nothing to seal anew.
            self._refuse(entry, Refused(NO_TEXT, "The hub asks for newer rules, and the text is not here any more."))
            return None
        sealed_under = parse(entry.envelope or b"").claims.get("pol")
        known = self.trusted
        if known is None or known.rules_version == sealed_under:
            known = await self._renewed(known)
        if code == "stale-policy" and isinstance(sealed_under, int):
            # The hub signed that these rules hold no longer: so there are newer ones.
            await self._learn(sealed_under + 1)
            known = self.trusted or known
        if known.rules_version == sealed_under and (is_recall(entry.draft) or _author(entry) == self._kid):
            return entry
        now = self._moment()
        try:
            if is_recall(entry.draft):
                intent = read_intent(entry.draft)
                readers, id_, key = intent.readers(known, now.date()), entry.report_id, self._keys[_author(entry)]
                strangers = intent.strangers(entry.agreed, readers, known, self._network)
                intent = intent._replace(reason="") if strangers else intent
                return self._outbox.reseal(
                    entry.name,
                    intent.numbered(readers),
                    lambda counters: intent.seal(id_, readers, known, key, counters),
                    agreed=with_strangers(entry.agreed, strangers),
                )
            plan = plan_report(
                parse_draft(entry.draft),
                known,
                kid=self._kid,
                report_id=entry.report_id,
                now=now,
                custodian_only=consent.custodian_only(entry.agreed),
            )
            plan, changes = consent.judged(entry.agreed, plan, self._network, known.areas)
            if self._newest is not None and (older := self._newest.older(known)) is not None:
                changes.append(consent.Change(older.code, older.sentence))
            if changes:
                self._outbox.hold(entry.name, changes[0].code, consent.reconstructed(entry.envelope or b""))
                self._tell(entry, changes[0].code)
                return None
            spare: dict[str, Any] | None = None if entry.spare is None else {}
            return self._outbox.reseal(
                entry.name, plan.offices, lambda counters: seal_report(plan, self._key, counters, spare), spare
            )
        except (Refused, Malformed) as error:
            self._refuse(entry, error)
            return None

    def _refuse(self, entry: Entry, error: KengeleError) -> None:
        self._outbox.refused(entry.name, error.code)
        self._tell(entry, error.code)

    def _tell(self, entry: Entry, code: str) -> None:
        current = self._outbox.get(entry.name)
        if current is not None:
            self.told(replace(current, code=current.code or code))

    def _hold(self, entry: Entry) -> None:
        failures, _ = self._held.get(entry.name, (0, 0.0))
        until = asyncio.get_running_loop().time() + self._wait(failures)
        self._held[entry.name] = (failures + 1, until)

    def _rest_line(self) -> bool:
        """Lets the line rest; of those that failed together only the first counts, and gets True."""
        at = asyncio.get_running_loop().time()
        if at < self._line_rests_until:
            return False
        self._line_rests_until = at + self._wait(self._line_failures)
        self._line_failures += 1
        return True

    def _wait(self, failures: int) -> float:
        """Full jitter: nodes that lost the hub together do not come back together."""
        return self._jitter(0, min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(failures, 16)))


def _read_by(trusted: Trusted, answer: bytes, digest: bytes) -> Receipt:
    return read_receipt(answer, unb64u(trusted.network.hub_key), trusted.network.log, digest)


def _author(entry: Entry) -> str:
    return str(parse(entry.envelope or b"").claims.get("kid"))


def _temporary(code: str) -> bool:
    """Whether to go on trying. A code that only a newer hub knows is no reason to give a report up."""
    return code in _POLICY_CODES or code not in CODES or CODES[code][2]
