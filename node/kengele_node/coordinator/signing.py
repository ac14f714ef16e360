"""Signing: the second coordinator sees what a draft changes and signs it; who has enough signatures publishes."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

from kengele_node import terminal
from kengele_node.member import Member, encode_files, joiner
from kengele_schemas import metadata, subjects
from kengele_schemas.cards import HubCard, NetworkCard, read_card
from kengele_schemas.encoding import b64u
from kengele_schemas.errors import Refused
from kengele_schemas.metadata import Draft

from . import documents as papers
from .drafting import action, current, opened, written
from .founding import HUB_CARD


def add(actions: Any) -> None:
    """Adds ``sign`` and ``publish``."""
    sign = action(actions, "sign", "sign a draft, after it was shown", "kengele coordinator sign draft.json", _sign)
    sign.add_argument("draft", type=Path)
    sign.add_argument("--yes", action="store_true", help="do not ask")
    publish = action(
        actions, "publish", "bring a signed draft into force", "kengele coordinator publish draft.json", _publish
    )
    publish.add_argument("draft", type=Path)
    publish.add_argument("--card", type=Path, default=Path("network.json"), help="where a new network's card goes")


def _sign(args: argparse.Namespace) -> int:
    member = opened(args)
    draft = Draft.decode(args.draft.read_bytes())
    after = {path: json.loads(data) for path, data in draft.documents.items()}
    before: dict[str, Any] = {}
    if draft.version > 1:
        files = asyncio.run(current(member))
        before = {path: metadata.document_of(files, path) for path in metadata.document_paths(files)}
    changes = papers.describe(before, after)
    if not args.json:
        for line in changes:
            terminal.say(f"  {line}")
    if not args.yes and terminal.interactive() and not terminal.confirm(f"Sign version {draft.version}?"):
        terminal.note("Not signed.")
        return 1
    return written(args, metadata.sign(draft, member.key), changes if args.json else [])


def _publish(args: argparse.Namespace) -> int:
    member = opened(args)
    draft = Draft.decode(args.draft.read_bytes())
    lacking = metadata.missing(draft)
    if lacking:
        raise Refused(
            "too-few-signatures",
            f"This draft lacks {max(lacking.values())} signatures.",
            "Give it to another coordinator: kengele coordinator sign FILE",
        )
    answer = asyncio.run(_sent(args, member, draft))
    if answer.get("code") != "published":
        raise Refused(str(answer["code"]), str(answer.get("sentence", "")), str(answer.get("mend", "")))
    if args.json:
        terminal.emit({"version": answer["version"]})
    else:
        terminal.say(f"Version {answer['version']} is in force.")
    return 0


async def _sent(args: argparse.Namespace, member: Member, draft: Draft) -> dict[str, Any]:
    files = encode_files(draft.files())
    if draft.version > 1:
        async with member.session() as session:
            return await session.ask(subjects.publish_metadata(member.nkey.public), files)
    try:
        hub = read_card((member.home / HUB_CARD).read_bytes(), HubCard)
    except OSError:
        raise Refused(
            "no-hub-card", "This home has not got the hub's card.", "Publish from the home that founded the network."
        ) from None
    async with joiner(hub.urls, hub.join) as ask:
        answer: dict[str, Any] = await ask(member.nkey.public, {"found": hub.token, "files": files})
    if answer.get("code") == "published":
        root = draft.roles["root"]
        card = NetworkCard(
            name=json.loads(draft.documents["network.json"])["name"],
            urls=hub.urls,
            join=hub.join,
            root=b64u(root),
            root_digest=b64u(hashlib.sha256(root).digest()),
        )
        args.card.write_bytes(card.encode())
        member.join(card)
        if not args.json:
            terminal.say(f"The network's card is {args.card}: give it to everyone who joins.")
    return answer
