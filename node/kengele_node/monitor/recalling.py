"""Recalling: an author takes back an accepted report, or a part of it, from the offices that were given it.

A recall says in its header what the report's header said, so that it tells the hub nothing new, and carries a reason,
if there is one, sealed for the offices alone.

    >>> intent = plan_recall(entry, keep=["summary"], offices=(), reason="The source is in danger.")
    >>> intent.offices
    ('unrcca',)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any, Final, NamedTuple

from nacl.signing import SigningKey

from kengele_schemas.compartments import GRANTABLE, HANDLING_BIT
from kengele_schemas.encoding import loads, unb64u
from kengele_schemas.envelope import TENSION_REPORT
from kengele_schemas.errors import KengeleError, Malformed, Refused
from kengele_schemas.keys import OpeningPublic
from kengele_schemas.recall import Confirmation, read_confirmation
from kengele_schemas.receipt import MAX_RECEIPT, Leaf, read_leaf
from kengele_schemas.report import Handling, Text, parse_header
from kengele_schemas.sealing import Reader, seal
from kengele_schemas.trusted import Trusted

from .consent import follows, keys_shown
from .outbox import Entry

_REPEATED: Final = ("kid", "area", "categories", "severity", "day", "day_precision", "tlp")
_MAX_REASON: Final = 1000
_STRANGERS: Final = "strangers"


class Intent(NamedTuple):
    """What is to be recalled from whom: what an outbox keeps of a recall, to seal it anew.

    ``header`` is the recalled report's, ``keep`` what may stay; empty for nothing. ``shared`` are those of the offices
    that were given it by a share: no number of theirs went with it, and none goes with the recall.
    """

    recalls: str
    header: Mapping[str, Any]
    offices: tuple[str, ...]
    keep: tuple[str, ...]
    reason: str
    shared: tuple[str, ...] = ()

    def numbered(self, readers: Collection[str]) -> list[str]:
        """Those of the ``readers`` whose wraps carry a number."""
        return [office for office in readers if office not in self.shared]

    def readers(self, trusted: Trusted, today: date) -> dict[str, OpeningPublic]:
        """The offices' keys. One that has no valid key any more is told under the newest that it had."""
        found = {}
        for office in self.offices:
            row = trusted.offices.get(office)
            if row is not None:
                found[office] = trusted.offices.public(office, today) or row.keys[0].public()
        return found

    def agreed(self, trusted: Trusted) -> dict[str, Any]:
        """What there is to keep of the readers' keys, as they were when the recall was made."""
        rows = [row for office in self.offices if (row := trusted.offices.get(office)) is not None]
        return {"mode": "recall", "readers": {row.id: {"name": row.name, **keys_shown(row)} for row in rows}}

    def strangers(
        self, agreed: Mapping[str, Any] | None, readers: Mapping[str, OpeningPublic], trusted: Trusted, network: str
    ) -> list[str]:
        """The offices that would read the reason by a key that its author was not shown.

        While there are any it goes without its reason, and she is told. It does not wait for her: what it has
        destroyed is the same whatever key an office has.
        """
        if not self.reason:
            return []
        said = {} if agreed is None else agreed["readers"]
        rows = {id_: trusted.offices.get(id_) for id_ in readers}
        return [id_ for id_, key in readers.items() if not follows(said.get(id_, {}), rows[id_], key, network)]

    def seal(
        self,
        recall_id: str,
        readers: Mapping[str, OpeningPublic],
        trusted: Trusted,
        key: SigningKey,
        counters: Mapping[str, int],
    ) -> bytes:
        """The recall's envelope. Raises Refused, ``no-reader``: none of the offices is in the roster any more."""
        if not readers:
            raise Refused("no-reader", "The network knows none of the offices that were given this report any more.")
        claims = {
            "v": 2,
            "net": trusted.identity,
            "id": recall_id,
            "kind": "recall",
            **{name: self.header[name] for name in _REPEATED},
            "pol": trusted.rules_version,
            "recalls": self.recalls,
            **({"keep": list(self.keep)} if self.keep else {}),
        }
        handling = Handling(wishes=Text(text=self.reason, lang="und")) if self.reason else Handling()
        sealed_for = [Reader(office, public, HANDLING_BIT, counters.get(office)) for office, public in readers.items()]
        contents = {"handling": handling.model_dump(mode="json", exclude_none=True)}
        return seal(TENSION_REPORT, parse_header(claims).claims(), contents, sealed_for, key)


def plan_recall(
    entry: Entry, *, keep: Collection[str], offices: Sequence[str], reason: str, shared: Collection[str] = ()
) -> Intent:
    """What it takes to recall the report of ``entry``.

    Args:
        keep: the compartments that may stay; empty if all of it goes.
        offices: from which it is recalled; from all that were given any of it if empty.
        reason: told to those offices; empty for none.
        shared: offices to which its author gave it later.

    Raises:
        Refused: ``not-accepted``, ``not-given``.
        Malformed: ``unknown-compartment``, ``oversized``.
    """
    if entry.receipt is None or entry.state not in ("accepted", "kept") or entry.header.get("kind") != "report":
        raise Refused("not-accepted", "No such report was accepted by the hub.", "See: kengele node outbox")
    if not set(keep) <= set(GRANTABLE):
        raise Malformed("unknown-compartment", "No report has such a part.", f"Choose from: {', '.join(GRANTABLE)}.")
    if len(reason) > _MAX_REASON:
        raise Malformed("oversized", "The reason is too long.", f"Use at most {_MAX_REASON} characters.")
    # The leaf is the hub's word: whoever it names beside those for whom the report was sealed has nothing to destroy,
    # and is told no reason.
    sealed_for = None if entry.agreed is None else entry.agreed["readers"]
    decisions = leaf_of(entry.receipt).decisions
    first = [office for office, bits, _, _ in decisions if bits and (sealed_for is None or office in sealed_for)]
    later = tuple(sorted(set(shared) - set(first)))
    given = (*first, *later)
    if not given or not set(offices) <= set(given):
        known = f"It was given to: {', '.join(given)}." if given else "Nobody was given any of it."
        raise Refused("not-given", "An office that is named was given nothing of this report.", known)
    chosen = tuple(sorted(set(offices))) or given
    return Intent(entry.report_id, dict(entry.header), chosen, tuple(sorted(set(keep))), reason, later)


def strangers_of(entry: Entry) -> list[str]:
    """The offices for whose keys a recall's reason was left out when it was sealed last."""
    return [str(office) for office in (entry.agreed or {}).get(_STRANGERS, ())]


def with_strangers(agreed: Mapping[str, Any] | None, strangers: Sequence[str]) -> dict[str, Any]:
    """What a recall keeps of what was agreed to, and for whose keys its reason was left out."""
    kept = {"mode": "recall", "readers": {}} if agreed is None else dict(agreed)
    kept.pop(_STRANGERS, None)
    return {**kept, _STRANGERS: list(strangers)} if strangers else kept


def is_recall(draft: object) -> bool:
    """Whether an outbox's draft is a recall's."""
    return isinstance(draft, dict) and "recalls" in draft


def read_intent(draft: Any) -> Intent:
    """The intent that was kept as a draft: ``intent._asdict()``."""
    offices, keep, shared = (tuple(draft.get(name, ())) for name in ("offices", "keep", "shared"))
    return Intent(draft["recalls"], draft["header"], offices, keep, draft["reason"], shared)


def leaf_of(receipt: bytes) -> Leaf:
    """The leaf in a receipt that was verified when it came."""
    return read_leaf(str(loads(receipt, max_bytes=MAX_RECEIPT)["leaf"]).encode("utf-8"))


def confirmations(answer: Mapping[str, Any], entry: Entry, trusted: Trusted) -> dict[str, Confirmation | None]:
    """Of a recall's ``entry``, by office: its confirmation, None where there is none that holds.

    Whatever the hub says, only an office's own signature counts.
    """
    assert entry.receipt is not None, "an accepted recall has a receipt"
    leaf = leaf_of(entry.receipt)
    found: dict[str, Confirmation | None] = {office: None for office, bits, _, _ in leaf.decisions if bits}
    texts = answer.get("confirmations")
    for text in texts if isinstance(texts, list) else ():
        try:
            data = unb64u(text if isinstance(text, str) else "")
            row = trusted.offices.get(read_confirmation(data).office)
            said = read_confirmation(data, unb64u(row.sign), trusted.identity) if row else None
        except KengeleError:
            continue
        about = (entry.header.get("recalls"), leaf.digest)
        if said is not None and said.office in found and (said.report, said.recall) == about:
            found[said.office] = said
    return found
