"""``kengele audit``: verify, search, export."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from kengele_node import terminal
from kengele_node.member import Member, now
from kengele_node.office.witness import Memory, open_memory
from kengele_node.private import report
from kengele_schemas import disk, metadata
from kengele_schemas.cards import HubCard, NetworkCard, read_card
from kengele_schemas.checkpoint import Checkpoint, read_proof, verify_checkpoint
from kengele_schemas.cosignature import read_cosignatures
from kengele_schemas.encoding import b64u, loads, unb64u
from kengele_schemas.errors import KengeleError, Malformed, Untrusted
from kengele_schemas.leaves import members, read_entry
from kengele_schemas.receipt import MAX_RECEIPT, read_receipt
from kengele_schemas.trust import TrustStore

from .archive import Archive
from .examination import Examination
from .proof import EVERY, Known, examine, remember
from .query import Query, lines
from .sources import HubLog, Source

_MEND: Final = "Keep a copy of the log. Tell the other coordinators, by another way than this hub."
_action = partial(terminal.action, home="coordinator")


def build(parser: argparse.ArgumentParser) -> None:
    """Adds the auditor's sub-commands to ``parser``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    verify = _action(
        actions,
        "verify",
        "verify the log from its first entry on: the hub's, or an exported one",
        "kengele audit verify log --home alice --receipt receipt.json",
        _verify,
    )
    verify.add_argument("directory", nargs="?", type=Path, metavar="DIR", help="an exported log; else the hub's")
    verify.add_argument("--witnesses", type=int, default=1, metavar="K", help="offices that must have cosigned it (1)")
    verify.add_argument(
        "--receipt", action="append", type=Path, default=[], metavar="FILE", help="must be in it; may be repeated"
    )
    search = _action(
        actions,
        "search",
        "say who was given what, under which rule and version, when; and who came, went or changed",
        "kengele audit search --office unrcca --since 2026-11-01 --json",
        _search,
    )
    search.add_argument("directory", nargs="?", type=Path, metavar="DIR", help="an exported log; else the hub's")
    search.add_argument(
        "--report",
        type=report("The report's digest"),
        metavar="DIGEST",
        help="a report's digest, or the file with its receipt; - asks",
    )
    search.add_argument("--office", default="", metavar="ID", help="given to, or changed")
    search.add_argument("--rule", default="", metavar="ID", help="by which something was decided, or that changed")
    search.add_argument("--member", default="", metavar="ID", help="a monitor or coordinator who came, went or changed")
    search.add_argument("--policy", type=int, metavar="N", help="under this version of the rules")
    search.add_argument("--since", type=_day, metavar="DAY", help="from this day on (YYYY-MM-DD, UTC)")
    search.add_argument("--until", type=_day, metavar="DAY", help="up to this day")
    export = _action(
        actions,
        "export",
        "write the log as static files that other tools can verify; goes on where it was cut off",
        "kengele audit export log --home alice",
        _export,
    )
    export.add_argument("directory", type=Path, metavar="DIR")
    for one in (verify, search, export):
        one.add_argument(
            "--hub-card", type=Path, help="for an exported log: the hub's card instead; no roster is at hand"
        )


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("a day is written as YYYY-MM-DD") from None


@asynccontextmanager
async def _opened(
    args: argparse.Namespace, directory: Path | None
) -> AsyncIterator[tuple[Source, Known, Memory | None]]:
    """The log that is asked for, what is known of the network, and for the hub's own log what was seen of it before."""
    if directory is not None:
        yield Archive(directory), _kept(args), None
        return
    if args.hub_card is not None:
        raise Malformed("no-home", "The hub's log is read from a coordinator's home.", "Give --home, not --hub-card.")
    member = Member.open(args.home, terminal.lock_of(args), "coordinator")
    member.slow = terminal.tell_slow
    with closing(open_memory(member.home, member.vault.rows("witness"))) as memory:
        async with member.session() as session:
            trusted = await session.refresh()
            yield HubLog(session, member.nkey.public), Known.of(trusted, member.trust), memory


def _kept(args: argparse.Namespace) -> Known:
    if args.hub_card is not None:
        card = read_card(disk.read(args.hub_card), HubCard)
        return Known(card.log, unb64u(card.hub_key))
    network = read_card(disk.read(args.home / "network.json"), NetworkCard)
    store = TrustStore(args.home / "trust", unb64u(network.root))
    return Known.of(store.offline("coordinator", now()), store)


def _verify(args: argparse.Namespace) -> int:
    return asyncio.run(_verified(args))


async def _verified(args: argparse.Namespace) -> int:
    checked: list[str] = []
    async with _opened(args, args.directory) as (source, known, memory):
        receipts = [_promise(path, known) for path in args.receipt]
        examined, notes = await examine(
            source, known, memory, lambda index, data: _keep_to(receipts, index, data), _progress
        )
        size, root = examined.tree.size, b64u(examined.tree.root())
        checked.append(f"the hub's signature over {size} entries")
        checked.append(f"the root, from every entry: {root}")
        told = ", ".join(f"{count} of kind {kind}" for kind, count in sorted(examined.counts.items()))
        checked.append(f"every entry's spelling, kind and place: {told or 'none'}")
        if isinstance(source, Archive):
            checked.append(f"{source.check_tiles(examined.tree)} files of hashes")
        for promise in receipts:
            if promise.place >= size:
                raise promise.broken()
            if promise.checkpoint.size <= size:
                examined.agree(promise.checkpoint)
        if receipts:
            checked.append(f"{len(receipts)} receipts, each in its place")
        if known.trusted is not None:
            checked.append(_roster(examined, known, online=memory is not None))
        if memory is not None:
            remember(memory, notes.whole)
            checked.append("that it continues what was seen of it here before")
    names = read_cosignatures(notes.witnessed, known.witnesses())
    cosigned = sorted(name.removeprefix(f"{known.log}/") for name in names)
    if known.trusted is not None:
        if len(cosigned) < args.witnesses:
            raise Untrusted(
                "too-few-cosignatures",
                f"Of {args.witnesses} offices that must have cosigned the log, {len(cosigned)} have.",
                "Desks cosign every quarter of an hour while they follow. To go without: --witnesses 0",
            )
        checked.append(f"cosignatures of {len(cosigned)} offices: {', '.join(cosigned) or 'nobody'}")
    if args.json:
        terminal.emit(
            {"size": size, "root": root, "kinds": examined.counts, "cosigned_by": cosigned, "checked": checked}
        )
        return 0
    for line in checked:
        terminal.say(f"  {line}")
    terminal.say("It holds.")
    if known.trusted is None:
        terminal.note("Without a coordinator's home, neither cosignatures nor members and rules could be checked.")
    elif not cosigned:
        terminal.note("No office has cosigned this log: the hub could show others another one.")
    return 0


def _roster(examined: Examination, known: Known, *, online: bool) -> str:
    """Checks that the log's versions come to the one that the coordinators signed and this home holds."""
    assert known.trusted is not None
    files = known.files or {}
    version = known.trusted.version
    if version > examined.last:
        if online:
            raise Untrusted("not-logged", f"Version {version} is in force and not in the log.", _MEND)
        return f"the changes of {examined.last} versions (this home holds a newer one, {version}, than this log)"
    documents = {path: b64u(digest) for path, digest in metadata.document_digests(files).items()}
    standing = members(metadata.told(files))
    if examined.issues[version].documents != documents or examined.standing != standing:
        raise Untrusted(
            "another-version",
            f"The log tells other members or rules than those that were signed as version {version}.",
            _MEND,
        )
    return f"the changes of {examined.last} versions, which come to the members and rules of version {version}"


class Promise(NamedTuple):
    """What a receipt says must stand in the log, and the checkpoint under which it says so."""

    path: Path
    place: int
    leaf: bytes
    checkpoint: Checkpoint

    def broken(self) -> Untrusted:
        return Untrusted(
            "receipt-not-in-log", f"The log does not hold what the receipt in {self.path} promises.", _MEND
        )


def _promise(path: Path, known: Known) -> Promise:
    data = disk.read(path)
    value = loads(data, max_bytes=MAX_RECEIPT)
    sent = unb64u(str(value.get("bytes", ""))) if isinstance(value, dict) else b""
    receipt = read_receipt(data, known.hub_key, known.log, sent)
    if receipt.leaf is None or receipt.index is None:
        raise Malformed("no-proof", f"The receipt in {path} is a refusal, which is in no log.", "Leave it out.")
    note = read_proof(value["proof"]).checkpoint
    return Promise(path, receipt.index, receipt.leaf.canonical(), verify_checkpoint(note, known.log, known.hub_key))


def _keep_to(promises: Sequence[Promise], index: int, data: bytes) -> None:
    for promise in promises:
        if promise.place == index and promise.leaf != data:
            raise promise.broken()


def _search(args: argparse.Namespace) -> int:
    query = Query(_digest(args.report), args.office, args.rule, args.member, args.policy, args.since, args.until)
    return asyncio.run(_searched(args, query))


async def _searched(args: argparse.Namespace, query: Query) -> int:
    found: list[dict[str, Any]] = []

    def look(index: int, data: bytes) -> None:
        answer = query.answer(index, read_entry(data))
        if answer is not None:
            found.append(answer)

    # Nothing is told before all of it was proved.
    async with _opened(args, args.directory) as (source, known, memory):
        await examine(source, known, memory, look, _progress)
    _tell(args, found)
    return 0


def _tell(args: argparse.Namespace, found: Sequence[dict[str, Any]]) -> None:
    for one in found:
        if args.json:
            terminal.emit(one)
        else:
            for line in lines(one):
                terminal.say(line)
    if not found and not args.json:
        terminal.say("The log says nothing of that.")


def _digest(text: str | None) -> str:
    if not text:
        return ""
    path = Path(text)
    if len(text) != 43 or disk.present(path):
        value = loads(disk.read(path), max_bytes=MAX_RECEIPT)
        text = str(value.get("digest", "")) if isinstance(value, dict) else ""
    try:
        if len(unb64u(text)) == 32:
            return text
    except KengeleError:
        pass
    raise Malformed("malformed", "This is no report's digest, and no receipt that has one.", "See --help.")


def _export(args: argparse.Namespace) -> int:
    return asyncio.run(_exported(args))


async def _exported(args: argparse.Namespace) -> int:
    archive = Archive(args.directory)
    disk.make_directory(args.directory)
    async with _opened(args, None) as (source, known, _):
        tree = await archive.fill(source, known.log, known.hub_key, _progress)
    if args.json:
        terminal.emit({"directory": str(args.directory), "size": tree.size, "root": b64u(tree.root())})
        return 0
    terminal.say(f"The log's {tree.size} entries are in {args.directory}; root {b64u(tree.root())}.")
    terminal.say(f"Verify it anywhere:  kengele audit verify {args.directory} --home {args.home}")
    return 0


def _progress(done: int, total: int) -> None:
    if done % EVERY == 0 or done == total:
        terminal.note(f"{done:,} of {total:,} entries")
