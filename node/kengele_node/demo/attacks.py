"""What must be refused: each attempt is made for real, against the running hub or a member's own checks."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey

from kengele_node.member import Member, now
from kengele_node.monitor.compose import new_report_id, plan_report, seal_report
from kengele_schemas import disk, drafts, metadata, publication, subjects
from kengele_schemas.encoding import unb64u
from kengele_schemas.errors import KengeleError
from kengele_schemas.keys import new_signing_key
from kengele_schemas.report import Report, parse_draft
from kengele_schemas.trust import TrustStore
from kengele_schemas.trusted import Trusted

from .network import Network


def _sealed(report: Report, trusted: Trusted, kid: str, key: SigningKey, report_id: str = "") -> bytes:
    plan = plan_report(report, trusted, kid=kid, report_id=report_id or new_report_id(), now=now())
    return seal_report(plan, key, {})


def _draft(area: str, day: str, text: str = "An attempt.") -> Report:
    summary = {"text": text, "lang": "en"}
    return parse_draft(
        {"area": area, "categories": ["rumour"], "severity": 2, "day": day, "tlp": "GREEN", "summary": summary}
    )


async def _submitted(link: Any, member: Member, data: bytes) -> str:
    answer = await link.request(subjects.reports_submit(member.nkey.public), data, timeout=20)
    return str(json.loads(answer)["code"])


async def refused_by_hub(network: Network, sent: bytes) -> dict[str, str]:
    """What becomes of each attempt: its name and the code that the hub answers.

    Args:
        sent: an envelope that the monitor ``osh`` has sent and the hub accepted.
    """
    osh, batken = network.monitors["osh"], network.monitors["batken"]
    today = now().date()
    found: dict[str, str] = {}
    async with osh.session() as session, batken.session() as other:
        trusted = await session.refresh()
        link = session.link
        honest = _draft("KG-O", today.isoformat())
        sealed = _sealed(honest, trusted, osh.kid, osh.key)
        at = sealed.index(b'"place":"') + 40
        swapped = b"A" if sealed[at : at + 1] != b"A" else b"B"
        found["a tampered report"] = await _submitted(link, osh, sealed[:at] + swapped + sealed[at + 1 :])
        found["a replay through another's line"] = await _submitted(other.link, batken, sent)
        stranger = new_signing_key()
        found["a stranger's key"] = await _submitted(link, osh, _sealed(honest, trusted, osh.kid, stranger))
        foreign = _draft("SD-KH", today.isoformat())
        found["a report outside the monitor's areas"] = await _submitted(
            link, osh, _sealed(foreign, trusted, osh.kid, osh.key)
        )
        taken = str(_id_of(sent))
        found["another report under a taken id"] = await _submitted(
            link, osh, _sealed(honest, trusted, osh.kid, osh.key, taken)
        )
        found["garbage"] = await _submitted(link, osh, b'{"protected":"' + bytes(range(256)))
        found["a report from the future"] = await _submitted(link, osh, _from_the_future(trusted, osh))
    return found


def _from_the_future(trusted: Trusted, member: Member) -> bytes:
    """A report sealed by a node whose clock runs ahead."""
    ahead = now() + timedelta(days=5)
    report = _draft("KG-O", ahead.date().isoformat())
    plan = plan_report(report, trusted, kid=member.kid, report_id=new_report_id(), now=ahead)
    return seal_report(plan, member.key, {})


def _id_of(envelope: bytes) -> str:
    """The id of the report in an envelope."""
    payload = json.loads(unb64u(json.loads(envelope)["payload"]))
    return str(payload["id"])


async def forged_roster(network: Network, directory: Path) -> str:
    """The code with which a member refuses a roster that the hub made up, vouched for with all keys the hub has."""
    files = await network.files("aigul")
    hub = json.loads(disk.read(network.hub.home / "keys.json"))
    snapshot, timestamp = (SigningKey(unb64u(hub[name])) for name in ("snapshot", "timestamp"))
    offices = metadata.document_of(files, "offices.json")
    everyone = {**offices, "groups": {**offices["groups"], "government": []}}
    draft = drafts.edit(files, {"offices.json": everyone}, now())
    mixed = {**files, **draft.files()}
    served = publication.vouched(mixed, snapshot, timestamp, now(), 1000, 1000)
    try:
        TrustStore(directory, files["metadata/1.root.json"]).refresh(served.get, "office", now(), "unrcca")
    except KengeleError as error:
        return error.code
    return "accepted"
