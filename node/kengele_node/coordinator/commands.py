"""``kengele coordinator``: from a network's founding to each change of its members and rules."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from kengele_node import rules, terminal
from kengele_node.member import Member, encode_files, joiner, now
from kengele_node.vault import write_private
from kengele_schemas import metadata, subjects
from kengele_schemas.areas import Areas, AreasFile
from kengele_schemas.cards import CoordinatorCard, HubCard, JoinRequest, NetworkCard, read_card
from kengele_schemas.encoding import b64u
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.fields import read
from kengele_schemas.metadata import Draft
from kengele_schemas.policy_text import from_yaml
from kengele_schemas.trust import assemble

from . import documents as papers

_HUB_CARD: Final = "hub-card.json"
_PAPERS: Final = "papers.json"
_DRAFT: Final = "draft.json"
_MAX: Final = 8 * 1024 * 1024


def build(parser: argparse.ArgumentParser) -> None:
    """Adds the coordinators' sub-commands to ``parser``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    init = _action(
        actions,
        "init",
        "make a coordinator's keys and card",
        "kengele coordinator init --home alice --name Alice",
        _init,
    )
    init.add_argument("--name", help="a name for the card; it does not go into the network")
    init.add_argument("--new-key-file", type=Path, help="make a key file here and lock the home with it")
    found = _action(
        actions,
        "found",
        "draft a network's first version, for the coordinators whose cards are named",
        "kengele coordinator found --hub hub-card.json --name Bell --custodian unrcca --threshold 2 bob.json eve.json",
        _found,
    )
    found.add_argument("cards", nargs="*", type=Path, metavar="CARD", help="the other coordinators' cards")
    found.add_argument("--hub", type=Path, required=True, help="the hub's card")
    found.add_argument("--name", required=True, help="the network's name")
    found.add_argument("--custodian", required=True, help="id of the office that is sealed for when rules ran out")
    found.add_argument("--threshold", type=int, default=2, help="signatures that count (default: 2)")
    found.add_argument("--area", action="append", default=[], help="areas the network uses (default: the world)")
    found.add_argument("--admit", action="append", default=[], type=Path, metavar="REQUEST", help="let in at once")
    _settling(found)
    found.add_argument("--reports-per-hour", type=int, default=600, help="a monitor's quota (default: 600)")
    _drafting(found)
    admit = _action(
        actions,
        "admit",
        "draft the admission of those whose join requests are named",
        "kengele coordinator admit join-request.json",
        _admit,
    )
    admit.add_argument("requests", nargs="+", type=Path, metavar="REQUEST")
    admit.add_argument("--digits", action="append", default=[], help="what the newcomer read out; one for each request")
    _settling(admit)
    _drafting(admit)
    revoke = _action(
        actions, "revoke", "draft the removal of a member", "kengele coordinator revoke m-4jc5xq2f…", _revoke
    )
    revoke.add_argument("member", help="a monitor's or office's id")
    _drafting(revoke)
    suspend = _action(
        actions, "suspend", "draft a member's suspension", "kengele coordinator suspend m-4jc5xq2f…", _suspend
    )
    suspend.add_argument("member", help="a monitor's or office's id")
    _drafting(suspend)
    restore = _action(
        actions, "restore", "draft a suspended member's return", "kengele coordinator restore m-4jc5xq2f…", _restore
    )
    restore.add_argument("member", help="a monitor's or office's id")
    _drafting(restore)
    policy = _action(
        actions,
        "policy",
        "draft new rules, or show those in force",
        "kengele coordinator policy rules.yaml",
        _policy,
    )
    policy.add_argument("rules", nargs="?", type=Path, help="rules as YAML; without it those in force are shown")
    policy.add_argument("--refuse-below", type=int, help="take no report sealed under an older version than this")
    _drafting(policy)
    renew = _action(
        actions, "renew", "draft the same again, for another fortnight", "kengele coordinator renew", _renew
    )
    _drafting(renew)
    sign = _action(actions, "sign", "sign a draft, after it was shown", "kengele coordinator sign draft.json", _sign)
    sign.add_argument("draft", type=Path)
    sign.add_argument("--yes", action="store_true", help="do not ask")
    publish = _action(
        actions, "publish", "bring a signed draft into force", "kengele coordinator publish draft.json", _publish
    )
    publish.add_argument("draft", type=Path)
    publish.add_argument("--card", type=Path, default=Path("network.json"), help="where a new network's card goes")
    export = _action(
        actions,
        "export",
        "write the rules in force into a directory, for a node or a desk without a line",
        "kengele coordinator export /media/stick",
        _export,
    )
    export.add_argument("directory", type=Path)
    export.add_argument("--office", default="", metavar="ID", help="what this office may see (default: a monitor)")
    _action(actions, "members", "list who is in the network", "kengele coordinator members --json", _members)
    join = _action(
        actions, "join", "take the network's card into this home", "kengele coordinator join network.json", _join
    )
    join.add_argument("card", type=Path)


def _action(
    actions: Any, name: str, what: str, example: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=f"Example:  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--home", type=Path, default=Path("coordinator"), help="directory (default: ./coordinator)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    terminal.lock_options(parser)
    parser.set_defaults(run=run)
    return parser


def _drafting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--draft", type=Path, default=Path(_DRAFT), help=f"where the draft goes (default: {_DRAFT})")


def _settling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--group", action="append", default=[], metavar="OFFICE=GROUP", help="put an office in a group")
    parser.add_argument("--groups", type=Path, help="all groups of offices, as YAML: {groups: {un: [office:unrcca]}}")
    parser.add_argument("--policy", type=Path, help="rules as YAML")


def _open(args: argparse.Namespace) -> Member:
    return Member.open(args.home, terminal.lock_of(args), "coordinator")


def _init(args: argparse.Namespace) -> int:
    member = Member.create(args.home, terminal.new_lock(args), "coordinator", {"name": args.name or ""})
    card = CoordinatorCard.of(member.key, member.nkey, args.name)
    path = args.home / "card.json"
    path.write_bytes(card.encode())
    member.rename(card.id)
    if args.json:
        terminal.emit({"coordinator": card.id, "card": str(path), "digits": card.digits()})
        return 0
    terminal.say(f"Your card is {path}; its digits are {card.digits()}.")
    terminal.say("Give it to the other coordinators, and compare the digits by voice.")
    return 0


def _groups(args: argparse.Namespace) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for text in args.group:
        office, found, group = text.partition("=")
        if not found:
            raise Malformed("malformed", "A group is given as OFFICE=GROUP.", "For example: --group unrcca=un")
        groups.setdefault(office, []).append(group)
    return groups


def _found(args: argparse.Namespace) -> int:
    member = _open(args)
    hub = read_card(args.hub.read_bytes(), HubCard)
    own = CoordinatorCard.of(member.key, member.nkey)
    cards = [own, *(read_card(path.read_bytes(), CoordinatorCard) for path in args.cards)]
    made = papers.first(args.name, hub, cards, args.custodian, args.area, reports_per_hour=args.reports_per_hour)
    requests = [read_card(path.read_bytes(), JoinRequest) for path in args.admit]
    areas = Areas(read(AreasFile, made["areas.json"]))
    made |= papers.admit(made, requests, areas, now().date(), groups=_groups(args))
    made |= _settled(args, made)
    _try(made)
    draft = metadata.found(made, cards, args.threshold, hub.snapshot_key, hub.timestamp_key, now())
    write_private(member.home / _HUB_CARD, hub.encode())
    return _written(args, metadata.sign(draft, member.key), papers.describe({}, made))


def _settled(args: argparse.Namespace, made: Mapping[str, Any]) -> dict[str, Any]:
    """The documents that change by --groups and --policy."""
    changed: dict[str, Any] = {}
    if args.groups:
        changed["offices.json"] = {**made["offices.json"], "groups": read_groups(args.groups.read_bytes())}
    if args.policy:
        changed |= papers.adopt(made, from_yaml(args.policy.read_text("utf-8")))
    return changed


def read_groups(data: bytes) -> dict[str, list[str]]:
    """The groups in a YAML file. Raises Malformed, ``bad-offices``."""
    try:
        found = yaml.safe_load(data)["groups"]
        return {str(name): [str(member) for member in members] for name, members in found.items()}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError):
        raise Malformed(
            "bad-offices", "This is not a file of groups.", "Write {groups: {un: [office:unrcca]}}"
        ) from None


def _try(made: Mapping[str, Any]) -> None:
    """Raises what any member would find wrong with these documents."""
    assemble({path: json.dumps(value).encode() for path, value in made.items()}, version=1, fresh=True, expires=now())


def _written(args: argparse.Namespace, draft: Draft, changes: Sequence[str]) -> int:
    args.draft.write_bytes(draft.encode())
    lacking = metadata.missing(draft)
    if args.json:
        terminal.emit(
            {"draft": str(args.draft), "version": draft.version, "missing": lacking, "changes": list(changes)}
        )
        return 0
    for line in changes:
        terminal.say(f"  {line}")
    terminal.say(f"Version {draft.version} is drafted in {args.draft} and signed by you.")
    if lacking:
        terminal.say(f"It needs {max(lacking.values())} more: give the file to another coordinator, who runs")
        terminal.say(f"  kengele coordinator sign {args.draft}")
    else:
        terminal.say(f"It can be published:  kengele coordinator publish {args.draft}")
    return 0


async def _current(member: Member) -> dict[str, bytes]:
    """All trust files as the hub serves them, verified."""
    async with member.session() as session:
        await session.refresh()
    return member.trust.files()


def _propose(args: argparse.Namespace, change: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
    """Drafts and signs what ``change`` makes of the documents in force."""
    member = _open(args)
    files = asyncio.run(_current(member))
    before = {path: metadata.document_of(files, path) for path in metadata.document_paths(files)}
    after = change(before)
    _try({**before, **after})
    draft = metadata.sign(metadata.edit(files, after, now()), member.key)
    return _written(args, draft, papers.describe(before, after))


def _admit(args: argparse.Namespace) -> int:
    requests = [read_card(path.read_bytes(), JoinRequest) for path in args.requests]
    for request, typed in zip(requests, _digits(args, requests), strict=True):
        if typed.replace(" ", "") != request.digits().replace(" ", ""):
            raise Refused(
                "digits-differ",
                "These are not the digits of this join request.",
                "Do not admit: compare again, by voice, with the one who asks.",
            )

    def change(before: dict[str, Any]) -> dict[str, Any]:
        areas = Areas(read(AreasFile, before["areas.json"]))
        changed = papers.admit(before, requests, areas, now().date(), groups=_groups(args))
        return {**changed, **_settled(args, {**before, **changed})}

    return _propose(args, change)


def _digits(args: argparse.Namespace, requests: Sequence[JoinRequest]) -> list[str]:
    if args.digits or not terminal.interactive():
        if len(args.digits) != len(requests):
            raise Malformed("no-digits", "Each newcomer's digits are needed.", "Give --digits once for each request.")
        return list(args.digits)
    return [terminal.ask(f"The digits that {request.member} reads out", str) for request in requests]


def _revoke(args: argparse.Namespace) -> int:
    return _propose(args, lambda before: papers.remove(before, args.member, int(time.time())))


def _suspend(args: argparse.Namespace) -> int:
    return _propose(args, lambda before: papers.suspend(before, args.member))


def _restore(args: argparse.Namespace) -> int:
    return _propose(args, lambda before: papers.restore(before, args.member))


def _policy(args: argparse.Namespace) -> int:
    if args.rules is None:
        member = _open(args)
        files = asyncio.run(_current(member))
        terminal.say(json.dumps(metadata.document_of(files, "policy.json"), indent=None if args.json else 2))
        return 0
    wanted = from_yaml(args.rules.read_text("utf-8"))
    return _propose(args, lambda before: papers.adopt(before, wanted, refuse_below=args.refuse_below))


def _renew(args: argparse.Namespace) -> int:
    return _propose(args, lambda _: {})


def _sign(args: argparse.Namespace) -> int:
    member = _open(args)
    draft = Draft.decode(args.draft.read_bytes())
    after = {path: json.loads(data) for path, data in draft.documents.items()}
    before: dict[str, Any] = {}
    if draft.version > 1:
        files = asyncio.run(_current(member))
        before = {path: metadata.document_of(files, path) for path in metadata.document_paths(files)}
    changes = papers.describe(before, after)
    if not args.json:
        for line in changes:
            terminal.say(f"  {line}")
    if not args.yes and terminal.interactive() and not terminal.confirm(f"Sign version {draft.version}?"):
        terminal.note("Not signed.")
        return 1
    return _written(args, metadata.sign(draft, member.key), changes if args.json else [])


def _publish(args: argparse.Namespace) -> int:
    member = _open(args)
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
        hub = read_card((member.home / _HUB_CARD).read_bytes(), HubCard)
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


def _join(args: argparse.Namespace) -> int:
    member = _open(args)
    member.join(read_card(args.card.read_bytes(), NetworkCard))
    if not args.json:
        terminal.say("This home belongs to the network now.")
    return 0


def _export(args: argparse.Namespace) -> int:
    member = _open(args)
    trusted = asyncio.run(rules.in_force(member))
    files = rules.visible_to(member.trust.files(), trusted, office=args.office)
    rules.write(args.directory, files)
    if args.json:
        terminal.emit({"directory": str(args.directory), "version": trusted.version, "files": len(files)})
    else:
        terminal.say(f"Version {trusted.version} is in {args.directory}; there it is taken in with")
        terminal.say(f"  kengele {'office' if args.office else 'node'} rules --from {args.directory}")
    return 0


def _members(args: argparse.Namespace) -> int:
    member = _open(args)
    files = asyncio.run(_current(member))
    rows: list[dict[str, Any]] = []
    for path in metadata.document_paths(files):
        document = metadata.document_of(files, path)
        if path == "offices.json":
            rows += [
                {"role": "office", "id": one["id"], "areas": one["areas"], "status": one.get("status", "active")}
                for one in document["offices"]
            ]
        elif path.startswith("monitors/"):
            rows += [
                {"role": "monitor", "id": one["kid"], "areas": one["areas"], "status": one.get("status", "active")}
                for one in document["monitors"]
            ]
    if args.json:
        terminal.emit({"members": rows})
        return 0
    for row in rows:
        terminal.say(f"{row['role']:8}  {row['id']:30}  {row['status']:9}  {' '.join(row['areas'])}")
    return 0
