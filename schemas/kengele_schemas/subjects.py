"""The names on the bus. No other module spells a subject, a stream or an inbox.

A name is made of tokens; each token given from outside is checked here, so that no id can hold a dot, a wildcard or a
blank and reach beyond its own subject.

    >>> trust_file("monitors/KE-43.json")
    'trustfile.bW9uaXRvcnMvS0UtNDMuanNvbg'
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from .encoding import b64u, unb64u
from .errors import Malformed
from .nkeys import decode_public

LEDGER: Final = "LEDGER"
TRUST: Final = "TRUST"
REFUSED: Final = "REFUSED"
BOARD: Final = "BOARD"
AUDIT: Final = "AUDIT"
LOBBY: Final = "LOBBY"
LETTERS: Final = "LETTERS"

SUBMISSIONS: Final = "reports.*.submit"
"""What the hub listens on for reports; likewise those below for their requests."""
TRUST_REQUESTS: Final = "trust.*.get"
METADATA_REQUESTS: Final = "publish.*.metadata"
CREDENTIAL_REQUESTS: Final = "join.*.credentials"
BOARD_REQUESTS: Final = "board.*.ask"
AUDIT_REQUESTS: Final = "audit.*.get"
COSIGN_REQUESTS: Final = "audit.*.cosign"
CONFIRMATIONS: Final = "recalls.*.confirm"
STATUS_REQUESTS: Final = "recalls.*.status"
SHARE_REQUESTS: Final = "shares.*.ask"
HEADER_REQUESTS: Final = "headers.*.get"
LOBBY_REQUESTS: Final = "lobby.*.ask"
ENTRY_REQUESTS: Final = "join.*.enter"
LETTER_REQUESTS: Final = "letters.*.ask"
SERVICES: Final = (
    SUBMISSIONS,
    TRUST_REQUESTS,
    METADATA_REQUESTS,
    CREDENTIAL_REQUESTS,
    BOARD_REQUESTS,
    AUDIT_REQUESTS,
    COSIGN_REQUESTS,
    CONFIRMATIONS,
    STATUS_REQUESTS,
    SHARE_REQUESTS,
    HEADER_REQUESTS,
    LOBBY_REQUESTS,
    ENTRY_REQUESTS,
    LETTER_REQUESTS,
)

LEDGER_ALL: Final = "ledger.>"
LEDGER_REPORTS: Final = "ledger.report.*"
LEDGER_RECALLS: Final = "ledger.recall.*"
LEDGER_SHARES: Final = "ledger.share.*.*.*"
TRUST_FILES: Final = "trustfile.*"
TRUST_HELD: Final = "trustheld"
"""Where it stands since when a hub restored from a copy waits for the coordinators; empty when they have spoken."""
REFUSALS: Final = "refused.*"
NEWS: Final = "news.trust"
"""Told by the hub when roster or policy changes; the version and nothing else."""
NEWS_HEARD: Final = "$JS.ACK.news.trust"
"""Where members hear it. The broker takes no reply subject that begins so from anybody: nobody has an answer sent
there, and no answer passes for news."""
LEDGER_GROWN: Final = "hub.ledger"
"""Heard by the hub's workers alone: what one of them has written to the ledger."""
LEDGER_WAITED: Final = "hub.ledger.waits"
"""Heard by the hub's workers alone: one of them came too late to write and waits for its turn."""
TRUST_STORED: Final = "hub.trust"
"""Heard by the hub's workers alone: one of them has stored trust files."""
BOARD_ITEMS: Final = "boarditem.*.*"
LOBBY_ITEMS: Final = "lobbyitem.*.*"
LETTER_ITEMS: Final = "letteritem.*.*"
AUDITED: Final = "audited.>"
AUDITED_CHECKPOINTS: Final = "audited.checkpoint.*"

MAX_PATH: Final = 128
"""Characters of a trust file's path."""

_ID: Final = 22
"""Characters of a report's id."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_PATH: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*", re.ASCII)


def token(text: str) -> str:
    """``text`` if it is one plain token: 1–64 letters, digits, ``_`` and ``-``. Raises Malformed otherwise."""
    if _TOKEN.fullmatch(text) is None:
        raise Malformed("malformed", "A name on the bus holds a character that it may not.")
    return text


@lru_cache(maxsize=4096)
def member(nkey: str) -> str:
    """``nkey`` if it is the public key of a NATS user. Raises Malformed otherwise."""
    decode_public(nkey, "user")
    return nkey


def reports_submit(nkey: str) -> str:
    """Request: a sealed report; the answer is a receipt."""
    return f"reports.{member(nkey)}.submit"


def trust_get(nkey: str) -> str:
    """Request: ``{"path": …}``; the answer is a trust file's bytes."""
    return f"trust.{member(nkey)}.get"


def publish_metadata(nkey: str) -> str:
    """Request of a coordinator: signed roster and policy metadata."""
    return f"publish.{member(nkey)}.metadata"


def board_ask(nkey: str) -> str:
    """Request of a coordinator: what is on the board, or to put something there."""
    return f"board.{member(nkey)}.ask"


def audit_get(nkey: str) -> str:
    """Request of an office or a coordinator: something of the hub's log."""
    return f"audit.{member(nkey)}.get"


def audit_cosign(nkey: str) -> str:
    """Request of an office: its cosignature under a checkpoint of the hub's log."""
    return f"audit.{member(nkey)}.cosign"


def recalls_confirm(nkey: str) -> str:
    """Request of an office: its signed word that it obeyed a recall."""
    return f"recalls.{member(nkey)}.confirm"


def recalls_status(nkey: str) -> str:
    """Request of a monitor: which offices have confirmed one of its recalls."""
    return f"recalls.{member(nkey)}.status"


def shares_ask(nkey: str) -> str:
    """Request of a monitor or of the custodian's desk: a share of a report; the answer proves that it is logged."""
    return f"shares.{member(nkey)}.ask"


def headers_get(nkey: str) -> str:
    """Request of a coordinator: what past reports' headers said."""
    return f"headers.{member(nkey)}.get"


def join_credentials(nkey: str) -> str:
    """Request of a node that is not in yet: the credentials for its own key ``nkey``."""
    return f"join.{member(nkey)}.credentials"


def lobby_ask(nkey: str) -> str:
    """Request of a coordinator: an invitation, or something of who was invited."""
    return f"lobby.{member(nkey)}.ask"


def letters_ask(nkey: str) -> str:
    """Request of a member: to leave word for the coordinators of new keys; of a coordinator: to read it."""
    return f"letters.{member(nkey)}.ask"


def join_enter(nkey: str) -> str:
    """Request of who is invited and not in yet; ``nkey`` is the line's, which nobody else answers to."""
    return f"join.{member(nkey)}.enter"


def sender(subject: str) -> str:
    """The nkey in the subject of a service request.

    The broker lets a member publish only below its own nkey, so this is who sent the request; for ``join`` requests it
    is merely whom they are about.

    Raises:
        Malformed: not the subject of one of :data:`SERVICES`.
    """
    room, _, rest = subject.partition(".")
    nkey, _, verb = rest.partition(".")
    if f"{room}.*.{verb}" not in SERVICES:
        raise Malformed("malformed", "A request came in under an unknown subject.")
    return member(nkey)


def inbox_prefix(nkey: str) -> str:
    """Under which a member's answers arrive; nobody else may listen there."""
    return f"_INBOX_{member(nkey)}"


def feed_stream(nkey: str) -> str:
    """The stream of one office's deliveries. One a member: sequence numbers tell an office only of its own reports."""
    return f"FEED_{member(nkey)}"


def feed_consumer(nkey: str) -> str:
    """The durable consumer of :func:`feed_stream`."""
    return member(nkey)


def feed_subject(nkey: str, item: str = "") -> str:
    """What the hub publishes to deliver to one office.

    Args:
        nkey: the office's.
        item: what the message is about, such as a report's id; a subject of its own can be written once only.
    """
    return f"feed.{member(nkey)}.{token(item)}" if item else f"feed.{member(nkey)}"


def feed_next(nkey: str) -> str:
    """Request: the next messages of a member's own feed (NATS JetStream wire API, "Fetching from a pull consumer")."""
    return consumer_next(feed_stream(nkey), feed_consumer(nkey))


def consumer_next(stream: str, consumer: str) -> str:
    """Request: the next messages of a pull consumer."""
    return f"$JS.API.CONSUMER.MSG.NEXT.{token(stream)}.{token(consumer)}"


def ledger_entry(kind: str, name: str) -> str:
    """The subject of one entry of the hub's ledger; an entry is written once."""
    return f"ledger.{token(kind)}.{token(name)}"


def ledger_report(report_id: str) -> str:
    """Where the one report with this id stands in the ledger."""
    return ledger_entry("report", report_id)


def ledger_recall(report_id: str, recall_id: str) -> str:
    """Where a recall stands in the ledger: found by the report that it recalls, without a look into it."""
    if len(report_id) != _ID or len(recall_id) != _ID:
        raise Malformed("malformed", "A report's name on the bus has not its length.")
    return ledger_entry("recall", f"{report_id}_{recall_id}")


def recall_of(subject: str) -> tuple[str, str] | None:
    """The ids of report and recall in a subject of :func:`ledger_recall`; None if it is another."""
    name = subject.removeprefix("ledger.recall.")
    if name == subject or len(name) != 2 * _ID + 1 or name[_ID] != "_":
        return None
    return name[:_ID], name[_ID + 1 :]


def ledger_share(report_id: str, office: str = "", what: str = "") -> str:
    """Where a share stands in the ledger: of a report, for an office, ``what`` by whom; a pattern for what is empty."""
    return f"ledger.share.{token(report_id)}.{token(office) if office else '*'}.{token(what) if what else '*'}"


def shared_with(subject: str) -> str:
    """The office in a subject of :func:`ledger_share`."""
    return subject.split(".")[3]


def is_share(subject: str) -> bool:
    """Whether a subject is one of :func:`ledger_share`."""
    return subject.startswith("ledger.share.")


def ledger_confirmed(recall_id: str, office: str = "") -> str:
    """Where an office's confirmation of a recall stands in the ledger; a pattern for all of them if empty."""
    return f"ledger.confirmed.{token(recall_id)}.{token(office) if office else '*'}"


def ledger_trust(version: int, part: int = 1) -> str:
    """Where a version of the trust metadata stands in the ledger, and its further parts."""
    return ledger_entry("trust", f"{version}-{part}" if part > 1 else str(version))


def refused(nkey: str) -> str:
    """Where what a member sent in vain is kept aside."""
    return f"refused.{member(nkey)}"


def audited_checkpoint(moment: int) -> str:
    """Where the checkpoint that witnesses were shown in a moment is kept."""
    return f"audited.checkpoint.{moment:d}"


def audited_size(size: int) -> str:
    """Where the same checkpoint is found by its size."""
    return f"audited.size.{size:d}"


def audited_cosignature(size: int, office: str = "") -> str:
    """Where an office's cosignature under the checkpoint of ``size`` is kept; a pattern for all of them if empty."""
    return f"audited.cosignature.{size:d}.{token(office) if office else '*'}"


def board_item(kind: str, name: str) -> str:
    """Where one thing on the coordinators' board is kept."""
    return f"boarditem.{token(kind)}.{token(name)}"


def lobby_item(kind: str, invitation: str) -> str:
    """Where one thing of an invitation is kept."""
    return f"lobbyitem.{token(kind)}.{token(invitation)}"


def letter_item(role: str, member_id: str) -> str:
    """Where a member's letter to the coordinators is kept: one a member, the latest."""
    return f"letteritem.{token(role)}.{token(member_id)}"


def letter_items(role: str) -> str:
    """All that is kept in the place of ``role``."""
    return f"letteritem.{token(role)}.*"


def trust_file(path: str) -> str:
    """Where a trust file's bytes are kept, its path encoded because it holds dots. Raises Malformed on a bad path."""
    if len(path) > MAX_PATH or _PATH.fullmatch(path) is None:
        raise Malformed("malformed", "A trust file's path is not one.")
    return f"trustfile.{b64u(path.encode('ascii'))}"


def trust_path(subject: str) -> str:
    """The path that :func:`trust_file` was made from. Raises Malformed on any other subject."""
    try:
        path = unb64u(subject.removeprefix("trustfile.")).decode("ascii")
    except UnicodeDecodeError:
        raise Malformed("malformed", "A trust file's path is not one.") from None
    if trust_file(path) != subject:
        raise Malformed("malformed", "A trust file's path is not one.")
    return path
