"""Signing: the second coordinator sees what a draft changes and signs it; who has enough signatures publishes."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from kengele_node import rules, terminal
from kengele_node.errors import NotAdmitted, said_by_hub
from kengele_node.member import CARD, Member, encode_files, joiner
from kengele_schemas import disk, signatures
from kengele_schemas.cards import HubCard, NetworkCard, read_card
from kengele_schemas.drafts import Draft
from kengele_schemas.encoding import b64u, network_of
from kengele_schemas.errors import KengeleError, Refused

from . import board
from .dates import Ending, endings
from .drafting import action, current, opened, reviewed, told, written
from .founding import HUB_CARD
from .publishing import in_force, publish

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{21}[AQgw]")


def add(actions: Any) -> None:
    """Adds ``sign``, ``publish`` and ``board``."""
    add_signing(actions, "kengele coordinator")
    listed = action(
        actions,
        "board",
        "list the proposals that wait for signatures, or take one off",
        "kengele coordinator board --drop 6wCkK0dMs0G9eJxZ1mW2xQ",
        _board,
    )
    listed.add_argument("--drop", metavar="NAME", help="take this proposal off the board")


def add_signing(actions: Any, words: str) -> None:
    """Adds ``sign`` and ``publish`` to the actions that stand behind ``words``."""
    sign = action(actions, "sign", "sign a draft, after it was shown", f"{words} sign draft.json", _sign)
    sign.add_argument("draft", help="its file, or its name on the board")
    sign.add_argument(
        "--from", dest="source", type=Path, metavar="DIR", help="what is in force, where there is no line"
    )
    sign.add_argument("--yes", action="store_true", help="do not ask")
    publish = action(actions, "publish", "bring a signed draft into force", f"{words} publish draft.json", _publish)
    publish.add_argument("draft", help="its file, or its name on the board")
    publish.add_argument("--card", type=Path, default=Path("network.json"), help="where a new network's card goes")


def _sign(args: argparse.Namespace) -> int:
    member = opened(args)
    draft = taken(args, member)
    if draft.founding and disk.present(member.home / CARD):
        raise _in_a_network()
    files = None if draft.founding else _in_force(args, member)
    changes, seen = reviewed(draft, files, member.now())
    if not args.json:
        for line in (*changes, *(seen.lines() if seen else ())):
            terminal.say(f"  {line}")
    if not args.yes and terminal.interactive() and not terminal.confirm(f"Sign version {draft.version}?"):
        terminal.note("Not signed.")
        return 1
    draft = signatures.sign(draft, member.key)
    if _is_file(args):
        args.draft = Path(args.draft)
        return written(args, draft, changes, seen, shown=True, board=args.source is None)
    asyncio.run(_put_back(member, draft))
    return told(args, draft, args.draft, changes, seen, shown=True)


def _in_force(args: argparse.Namespace, member: Member) -> dict[str, bytes]:
    """All trust files: of the hub, or as a coordinator exported them for one who is not in the network yet."""
    if args.source is None:
        try:
            return asyncio.run(current(member))
        except NotAdmitted as error:
            if error.code != "not-admitted":
                raise
            mend = "Sign with --from DIR: what a coordinator wrote with kengele coordinator export --all DIR."
            raise Refused(error.code, "The network does not have this coordinator yet.", mend) from None
    member.trust.carried(rules.from_directory(args.source), member.role, member.now(), member.id)
    return member.trust.files()


def _is_file(args: argparse.Namespace) -> bool:
    return disk.present(Path(args.draft)) or not _NAME.fullmatch(args.draft)


def taken(args: argparse.Namespace, member: Member) -> Draft:
    """The draft in the file that was named, or on the board."""
    if _is_file(args):
        return Draft.decode(disk.read(Path(args.draft)))

    async def get() -> Draft:
        async with member.session() as session:
            return await board.get(session, args.draft)

    return asyncio.run(get())


async def _put_back(member: Member, draft: Draft) -> None:
    async with member.session() as session:
        await board.put(session, draft)


def _publish(args: argparse.Namespace) -> int:
    member = opened(args)
    draft = taken(args, member)
    lacking = signatures.missing(draft)
    if lacking:
        raise Refused(
            "too-few-signatures",
            f"This draft needs {max(lacking.values())} more to sign it.",
            "Give it to another coordinator: kengele coordinator sign FILE",
        )
    version = asyncio.run((_founded if draft.founding else _sent)(args, member, draft))
    if args.json:
        terminal.emit({"version": version})
    else:
        terminal.say(f"Version {version} is in force.")
    return 0


async def _sent(_: argparse.Namespace, member: Member, draft: Draft) -> int:
    async with member.session() as session:
        version = await publish(session, draft)
        with suppress(KengeleError):
            await board.drop(session, signatures.draft_id(draft))
    return version


async def _founded(args: argparse.Namespace, member: Member, draft: Draft) -> int:
    try:
        hub = read_card(disk.read(member.home / HUB_CARD), HubCard)
    except OSError:
        if disk.present(member.home / CARD):
            raise _in_a_network() from None
        raise Refused(
            "no-hub-card", "This home has not got the hub's card.", "Publish from the home that founded the network."
        ) from None
    tls = ssl.create_default_context(cadata=hub.ca) if hub.ca else None
    async with joiner(hub.urls, hub.join, tls=tls) as ask:
        answer = await ask(member.nkey.public, {"found": hub.token, "files": encode_files(draft.files())})
    if answer.get("code") != "published":
        raise said_by_hub(answer)
    root = draft.roles["root"]
    card = NetworkCard(
        name=json.loads(draft.documents["network.json"])["name"],
        urls=hub.urls,
        join=hub.join,
        root=b64u(root),
        root_digest=network_of(root),
        ca=hub.ca,
    )
    disk.write(args.card, card.encode())
    member.join(card)
    async with member.session() as session:
        version = await in_force(session, draft)
    if not args.json:
        terminal.say(f"The network's card is {args.card}: give it to everyone who joins.")
    return version


def _in_a_network() -> Refused:
    return Refused(
        "in-a-network",
        "This draft founds a network, and this home belongs to one already.",
        "If it is that network's, it is in force. Otherwise sign it from a new home.",
    )


def _board(args: argparse.Namespace) -> int:
    member = opened(args)

    async def look() -> tuple[list[dict[str, Any]], list[Ending], bool]:
        async with member.session() as session:
            still = await board.withdraw(session, args.drop) if args.drop else False
            trusted = await session.refresh()
            return await board.proposals(session, member.trust.files()), endings(trusted, member.now()), still

    found, ending, still = asyncio.run(look())
    if args.json:
        about = {"dropped": {"name": args.drop, "can_be_published": still}} if args.drop else {}
        terminal.emit({"proposals": found, "ending": [one.document() for one in ending], **about})
        return 0
    if still:
        terminal.note(board.STILL_VALID)
    for one in ending:
        terminal.note(str(one))
    if not found:
        terminal.say("Nothing waits on the board.")
    for item in found:
        lacking = max(item["missing"].values(), default=0)
        wants = f"needs {lacking} more" if lacking else "can be published"
        terminal.say(f"{item['name']}  version {item['version']}  {item['at']}  {item['state']}, {wants}")
        terminal.say(f"    signed by {', '.join(item['signed_by']) or 'nobody'}")
    return 0
