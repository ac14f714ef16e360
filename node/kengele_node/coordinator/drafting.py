"""Drafting: how a coordinator's command makes the next version of roster and policy, checks it and signs it first."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from kengele_node import terminal
from kengele_node.member import Member, Session
from kengele_schemas import assertions, disk, drafts, encoding, metadata, signatures, subjects
from kengele_schemas.drafts import Draft
from kengele_schemas.errors import KengeleError, Refused, Untrusted
from kengele_schemas.lint import Finding, lint
from kengele_schemas.regional import area_of
from kengele_schemas.trusted import Trusted, assemble

from . import board, describing
from .effect import Effect, effect, touches_readers

_DRAFT: Final = "draft.json"
_FIRST_ROOT: Final = "metadata/1.root.json"
HUB_RESTORED: Final = "hub-restored"
_CARRY: Final = (
    "Whose home has the newest version renews. The others take it from a directory: "
    "kengele coordinator export --all DIR, then kengele coordinator sign DRAFT --from DIR"
)
action = partial(terminal.action, home="coordinator")
"""A sub-command of ``kengele coordinator``, with what all of them take."""


def add_draft(parser: argparse.ArgumentParser) -> None:
    """Adds where the draft is written to."""
    parser.add_argument("--draft", type=Path, default=Path(_DRAFT), help=f"where the draft goes (default: {_DRAFT})")


def add_region(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds for which area it is."""
    parser.add_argument("--region", default="", metavar="AREA", help=what)


def opened(args: argparse.Namespace) -> Member:
    """The coordinator at home in ``--home``, asked for her passphrase once in a command."""
    member: Member | None = getattr(args, "opened", None)
    if member is None:
        member = args.opened = Member.open(args.home, terminal.lock_of(args), "coordinator")
        member.slow = terminal.tell_slow
        terminal.tell_clock(member.clock.behind())
    return member


async def current(member: Member) -> dict[str, bytes]:
    """All trust files as the hub serves them, verified; as this home has them, if the hub waits for them."""
    async with member.session() as session:
        return await refreshed(session)


async def refreshed(session: Session) -> dict[str, bytes]:
    """The same over a session that there is."""
    try:
        await session.refresh()
    except Untrusted:
        told = await _restored(session)
        if told is None:
            raise
        terminal.note(told.sentence)
        terminal.note(_CARRY)
    return session.member.trust.files()


async def _restored(session: Session) -> Refused | None:
    """What the hub says if it was restored from a copy and may lack what was signed since."""
    try:
        await session.ask(subjects.publish_metadata(session.member.nkey.public), {})
    except Refused as told:
        return told if told.code == HUB_RESTORED else None
    return None


def network_of(files: metadata.Files) -> str:
    """The digest of the network's first root, to which members' word about their keys is bound."""
    return encoding.network_of(files[_FIRST_ROOT])


async def _on_board(member: Member, draft: Draft) -> None:
    async with member.session() as session:
        await board.put(session, draft)


def check(before: Trusted | None, made: Mapping[str, Any], moment: datetime) -> Trusted:
    """The documents ``made`` as one set that follows ``before``, as of ``moment``.

    Raises what any member would find wrong with them, and what breaks an assertion.
    """
    documents = {path: json.dumps(value).encode() for path, value in made.items()}
    trusted = assemble(documents, version=1, fresh=True, expires=moment)
    custodian = trusted.offices.get(trusted.network.custodian)
    if custodian is not None and custodian.status == "revoked":
        raise Refused(
            "is-custodian",
            "This office is the network's custodian: once rules had run out, nobody could read anything.",
            "Make another office the custodian first.",
        )
    assertions.require_all(before, trusted, moment.date())
    return trusted


def what_changes(
    draft: Draft, before: Mapping[str, Any], after: Mapping[str, Any], files: metadata.Files | None = None
) -> list[str]:
    """In plain sentences, what ``draft`` changes: in the documents, and in who signs from then on.

    Args:
        draft: the draft.
        before: all documents in force, by path.
        after: those that change.
        files: what is in force, None for a network's first version.
    """
    seated = signatures.seats(draft)
    who = [f"From then on {seated[1]} signatures count, of: {', '.join(seated[0])}."] if seated else []
    for area, ids, threshold in signatures.handed(draft, files) if files else ():
        who.append(f"From then on {threshold} signatures count for {area}, of: {', '.join(ids)}.")
    return [*who, *describing.describe(before, after, network_of(files) if files else "")]


def weighed(files: metadata.Files, draft: Draft, made: Trusted, today: date) -> Effect | None:
    """Who gains and who loses what.

    Args:
        files: what is in force.
        draft: what is to be.
        made: all documents with those of the draft among them.

    Returns:
        None if no document of the draft decides who reads what, and nobody else comes to read either.
    """
    seen = effect(files, made, draft, network_of(files), today)
    return seen if seen.grounds or touches_readers(draft.documents) else None


class Reviewed(NamedTuple):
    """A draft that may be signed: what it changes, in sentences, and who gains and who loses."""

    changes: list[str]
    effect: Effect | None

    def needed(self, draft: Draft) -> int:
        """How many more have to sign ``draft``."""
        return max([*signatures.missing(draft).values(), self.effect.lacking(draft) if self.effect else 0, 0])


def reviewed(draft: Draft, files: metadata.Files | None, moment: datetime) -> Reviewed:
    """All that is checked before somebody signs ``draft``, by a command or by a page.

    Args:
        files: what is in force, None for a network's first version.
        moment: aware, UTC; a draft may not outlast one that is made now.

    Raises:
        Untrusted, Refused: as :func:`~kengele_schemas.signatures.check` and :func:`check`.
        Malformed: the documents do not hold together.
    """
    signatures.check(draft, files, moment)
    after = {path: json.loads(data) for path, data in draft.documents.items()}
    before = {path: metadata.document_of(files, path) for path in metadata.document_paths(files)} if files else {}
    made = check(metadata.documents_of(files) if files else None, {**before, **after}, moment)
    changes = what_changes(draft, before, after, files)
    return Reviewed(changes, weighed(files, draft, made, moment.date()) if files else None)


def _linted(made: Trusted, today: date) -> list[Finding]:
    rules = [rule for policy in (made.policy, *made.regional.values()) for rule in policy.rules]
    level = made.network.header_level
    return [
        finding
        for finding in lint(rules, made.offices, made.areas, today, header_level=level)
        if finding.weight != "note"
    ]


def written(
    args: argparse.Namespace,
    draft: Draft,
    changes: Sequence[str],
    seen: Effect | None = None,
    findings: Sequence[Finding] = (),
    *,
    shown: bool = False,
    board: bool = True,
) -> int:
    """Writes the draft, and says what changes and what it still needs."""
    disk.write(args.draft, draft.encode())
    return told(args, draft, str(args.draft), changes, seen, findings, shown=shown, board=board)


def told(
    args: argparse.Namespace,
    draft: Draft,
    where: str,
    changes: Sequence[str],
    seen: Effect | None = None,
    findings: Sequence[Finding] = (),
    *,
    shown: bool = False,
    board: bool = True,
) -> int:
    """Says what ``draft``, to be found at ``where``, changes and what it still needs.

    Args:
        seen: who gains and who loses, where that changes.
        findings: what is odd about its rules.
        shown: the person has seen the changes already.
        board: the draft is on the coordinators' board.
    """
    lacking = signatures.missing(draft)
    more = max(lacking.values(), default=0)
    if seen is not None:
        more = max(more, seen.lacking(draft))
    name = signatures.draft_id(draft)
    if args.json:
        about = {"draft": where, "name": name, "version": draft.version, "missing": lacking, "changes": list(changes)}
        said = [finding.document() for finding in findings]
        terminal.emit(about | {"needs": more, "findings": said, "effect": seen.document() if seen else None})
        return 0
    for line in () if shown else (*changes, *(seen.lines() if seen else ())):
        terminal.say(f"  {line}")
    for finding in findings:
        terminal.note(f"{finding.weight}: {finding.rule}: {finding.sentence} {finding.mend}".rstrip())
    terminal.say(f"Version {draft.version} is in {where} and signed by you.")
    if board and not draft.founding:
        terminal.say(f"On the coordinators' board it is {name}.")
    if more:
        what = "the file, or the name," if board else "the file"
        terminal.say(f"It needs {more} more: give {what} to another coordinator, who runs")
        terminal.say(f"  kengele coordinator sign {where}")
    else:
        terminal.say(f"It can be published:  kengele coordinator publish {where}")
    return 0


Edit = Callable[[metadata.Files, Mapping[str, Any], datetime], Draft]
"""Makes the draft of what changes upon what is in force, in the place of :func:`~kengele_schemas.drafts.edit`."""


def area_for(member: Member, files: metadata.Files, changed: Iterable[str]) -> str:
    """For which area a draft of ``changed`` documents is, if ``member`` signs for that and not for the network: the
    one to which they belong, or if nothing changes her only one. Empty if there is none such.
    """
    if metadata.signs_for(files, member.key, ""):
        return ""
    named = {area_of(path)[1] if "/" in path else "" for path in changed}
    own = [area for area in metadata.regions(files) if metadata.signs_for(files, member.key, area)]
    found = [area for area in own if named <= {area}]
    return found[0] if len(found) == 1 else ""


def propose(
    args: argparse.Namespace, change: Callable[[dict[str, Any]], dict[str, Any]], edit: Edit | None = None
) -> int:
    """Drafts and signs what ``change`` makes of the documents in force: for an area alone where that is named or it
    is a regional coordinator's own.
    """
    member = opened(args)
    files = asyncio.run(current(member))
    before = {path: metadata.document_of(files, path) for path in metadata.document_paths(files)}
    after = change(before)
    moment = member.now()
    made = check(metadata.documents_of(files), {**before, **after}, moment)
    findings = _linted(made, moment.date()) if any(path.startswith("policy") for path in after) else []
    area = getattr(args, "region", None) or area_for(member, files, after)
    draft = edit(files, after, moment) if edit is not None else drafts.edit(files, after, moment, area=area)
    draft = signatures.sign(draft, member.key)
    seen = weighed(files, draft, made, moment.date())
    board = True
    try:
        asyncio.run(_on_board(member, draft))
    except KengeleError as error:
        board = False
        terminal.note(f"It is not on the board ({error.code}); pass the file on.")
    return written(args, draft, what_changes(draft, before, after, files), seen, findings, board=board)
