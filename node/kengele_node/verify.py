"""``kengele verify``: a receipt, a report, a card or a draft checked on this machine alone, without asking the hub."""

from __future__ import annotations

import argparse
import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from kengele_schemas import disk, signatures
from kengele_schemas.cards import CoordinatorCard, HubCard, JoinRequest, NetworkCard, read_card
from kengele_schemas.checkpoint import read_proof
from kengele_schemas.cosignature import cosigner, read_cosignatures
from kengele_schemas.drafts import Draft
from kengele_schemas.encoding import loads, unb64u
from kengele_schemas.envelope import check_whole, parse, verify
from kengele_schemas.errors import Malformed, Untrusted
from kengele_schemas.keys import check_verify_key, monitor_id
from kengele_schemas.presentation import present
from kengele_schemas.receipt import ACCEPTED, read_receipt
from kengele_schemas.report import Header, parse_compartment, parse_header
from kengele_schemas.trust import TrustStore

from . import terminal
from .member import Member
from .vault import Vault

_MAX: Final = 8 * 1024 * 1024
_SD_JWT: Final = re.compile(rb"\s*[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+~[A-Za-z0-9_~-]*\s*")


def build(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to ``parser``."""
    parser.description = "Check a receipt, a report, a card, a join request or a draft, offline."
    parser.epilog = (
        "Example:  kengele verify receipt.json --home node\n"
        "          kengele office show --id ID --sd-jwt > report.txt && kengele verify report.txt --home desk"
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--home", type=Path, metavar="DIR", help="a member's home: its rules name hub and authors")
    parser.add_argument("--hub-card", type=Path, metavar="CARD", help="the hub's card instead")
    parser.add_argument("--author", metavar="KEY", help="the author's verify key, where no roster at hand has it")
    parser.add_argument("--envelope", type=Path, metavar="FILE", help="the report that the receipt must be about")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    terminal.lock_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    data = disk.read(args.file)
    if not data.lstrip().startswith(b"{") and not _SD_JWT.fullmatch(data):
        raise _unknown()
    value = None if _SD_JWT.fullmatch(data) else loads(data, max_bytes=_MAX)
    if value is None:
        found = _shown(args, data)
    elif not isinstance(value, dict):
        raise _unknown()
    elif "protected" in value:
        found = _envelope(args, data)
    elif "code" in value:
        found = _receipt(args, data, value)
    elif value.get("kind") == "draft":
        draft = Draft.decode(data)
        found = {"kind": "draft", "version": draft.version, "missing": signatures.missing(draft)}
    else:
        found = _card(data, value)
    if args.json:
        terminal.emit(found)
    else:
        for name, told in found.items():
            text = f"{max(told.values(), default=0)} signatures" if isinstance(told, dict) else told
            terminal.say(f"{name.replace('_', ' ') + ':':16}{text}")
        terminal.say("It holds.")
    return 0


def _card(data: bytes, value: dict[str, Any]) -> dict[str, Any]:
    if "role" in value:
        request = read_card(data, JoinRequest)
        return {"kind": "join request", "role": request.role, "member": request.member, "digits": request.digits()}
    if "hub_key" in value:
        hub = read_card(data, HubCard)
        return {"kind": "hub's card", "log": hub.log, "urls": ", ".join(hub.urls)}
    if "root" in value:
        network = read_card(data, NetworkCard)
        return {"kind": "network card", "name": network.name, "root_digest": network.root_digest}
    if "id" in value and "key" in value:
        card = read_card(data, CoordinatorCard)
        return {"kind": "coordinator's card", "id": card.id, "digits": card.digits()}
    raise _unknown()


def _receipt(args: argparse.Namespace, data: bytes, value: dict[str, Any]) -> dict[str, Any]:
    key, log, witnesses = _hub(args)
    if args.envelope is not None:
        sent = hashlib.sha256(disk.read(args.envelope)).digest()
    else:
        sent = unb64u(str(value.get("bytes", "")))
    receipt = read_receipt(data, key, log, sent)
    found: dict[str, Any] = {"kind": "receipt", "code": receipt.code}
    if receipt.code == ACCEPTED and receipt.leaf is not None:
        found |= {
            "log": log,
            "entry": receipt.index,
            "at": receipt.leaf.at,
            "policy": receipt.leaf.policy,
            "released_to": ", ".join(office for office, bits, _, _ in receipt.leaf.decisions if bits) or "nobody",
        }
        cosigned = read_cosignatures(read_proof(value["proof"]).checkpoint, witnesses)
        if cosigned:
            found["cosigned_by"] = ", ".join(sorted(name.removeprefix(f"{log}/") for name in cosigned))
    return found


def _shown(args: argparse.Namespace, data: bytes) -> dict[str, Any]:
    shown = present(data.decode("ascii").strip())
    header = parse_header(shown.claims)
    shown.check(_author(args, header.kid, header.net))
    for name, content in shown.contents.items():
        parse_compartment(name, content)
    return {"kind": "report, as an office passes it on", **_told(header), "discloses": ", ".join(shown.contents)}


def _envelope(args: argparse.Namespace, data: bytes) -> dict[str, Any]:
    envelope = parse(data.rstrip(b"\n"))
    header = parse_header(envelope.claims)
    verify(envelope, _author(args, header.kid, header.net))
    whole = tuple(envelope.ciphertexts) == envelope.kind.compartments
    if whole:
        check_whole(envelope)
    return {
        "kind": "sealed report" if whole else "sealed report, stripped",
        **_told(header),
        "sealed_for": ", ".join(wrap.office for wrap in envelope.wraps) or "nobody",
    }


def _told(header: Header) -> dict[str, Any]:
    return {"id": header.id, "author": header.kid, "area": header.area, "day": header.day.isoformat()}


def _author(args: argparse.Namespace, kid: str, net: str) -> bytes:
    """The verify key of ``kid``; as the name follows from the key, no other can be slipped in."""
    if args.author is not None:
        key = check_verify_key(unb64u(args.author))
        if monitor_id(key) != kid:
            raise Untrusted("bad-signature", "This key is not that of the report's author.", "Ask for the right one.")
        return key
    if args.home is None:
        raise Malformed(
            "no-author", "A report is checked against its author's key.", "Give --home of an office, or --author."
        )
    trusted = Member(args.home, Vault.open(args.home, terminal.lock_of(args))).offline()
    if net != trusted.identity:
        raise Untrusted("other-network", "The report is for another network.", "Check it there.")
    author = trusted.monitors.get(kid)
    if author is None:
        raise Untrusted("unknown-monitor", "The roster here does not know the report's author.", "Give --author.")
    return unb64u(author.key)


def _hub(args: argparse.Namespace) -> tuple[bytes, str, dict[str, bytes]]:
    """The hub's key and its log's name, from rules that the coordinators signed or from the hub's own card; from the
    former also whose cosignatures count."""
    if args.hub_card is not None:
        card = read_card(disk.read(args.hub_card), HubCard)
        return unb64u(card.hub_key), card.log, {}
    if args.home is None:
        raise Malformed("no-hub", "A receipt is checked against a hub.", "Give --home of a member, or --hub-card.")
    network = read_card(disk.read(args.home / "network.json"), NetworkCard)
    trusted = TrustStore(args.home / "trust", unb64u(network.root)).offline("monitor", datetime.now(UTC))
    log = trusted.network.log
    offices = (row for row in trusted.offices.document.offices if row.status == "active")
    return unb64u(trusted.network.hub_key), log, {cosigner(log, row.id): unb64u(row.sign) for row in offices}


def _unknown() -> Malformed:
    return Malformed("unknown-file", "This is no receipt, card, join request or draft.", "Give one of those.")
