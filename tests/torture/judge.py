"""The judge: compares what was submitted with what is on the desks, from plain files and nothing else.

It is a program of its own (``python -m torture.judge RUN``), takes nothing from the driver nor from Kengele, and knows
the rules only in the plain form in which the driver wrote them down. A run is a directory:

    journal/*.jsonl        what happened, a line each, written before what it tells of is done
    desks/OFFICE.jsonl     what ``kengele office show --json`` prints in the end
    outboxes/NODE.json     what ``kengele node outbox --json`` prints in the end
    feeds/OFFICE.jsonl     the feed's sequences and the report under each

Times are of the machine's monotonic clock, which no fault moves. Several versions of the rules may have decided on a
report: the one it was sealed under (signed in its header), the one at intake and the one at delivery. A version counts
as possible from the moment its publication began until :data:`GRACE` seconds after the next was answered. What a desk
holds must be what some possible choice of them gives, and a desk may be without an acknowledged report only if some
possible choice gives it nothing. Of a revoked member's reports any may be withheld; such are counted as ``excused``.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GRACE = 5.0
"""Seconds after an answered publication within which the version before it may still be applied: what is promised."""
LEVELS = ("CLEAR", "GREEN", "AMBER", "AMBER+STRICT", "RED")
PARTS = ("handling", "summary", "account", "place", "people", "source", "media")
_ENDLESS = float("inf")
_NOTHING: frozenset[str] = frozenset()


@dataclass
class Version:
    """One version of the rules: what they grant, and from when until when they may have been applied."""

    grants: list[dict[str, Any]]
    begins: float = 0.0
    ends: float = _ENDLESS


@dataclass
class Told:
    """All that the journal says."""

    offices: list[str] = field(default_factory=list)
    monitors: dict[str, str] = field(default_factory=dict)
    """Node by kid."""
    versions: dict[int, Version] = field(default_factory=dict)
    submitted: dict[str, dict[str, Any]] = field(default_factory=dict)
    acknowledged: dict[str, float] = field(default_factory=dict)
    seen: dict[tuple[str, str], float] = field(default_factory=dict)
    """When a desk had told of a report, by office and id."""
    revoking: dict[str, float] = field(default_factory=dict)
    revoked: dict[str, float] = field(default_factory=dict)
    fences: dict[tuple[str, str], int] = field(default_factory=dict)
    """By office and kid the feed's last sequence when nothing more of this member may come into it."""
    forged: dict[str, list[str]] = field(default_factory=dict)
    """Texts of forged reports by id."""
    taken: int = 0
    """Forged reports that the hub's answer called accepted."""
    kills: int = 0


def read_journal(run: Path) -> Told:
    """What the journal of ``run`` says. A line that a killed writer did not finish tells of nothing that was done."""
    told = Told()
    ends: dict[int, float] = {}
    for path in sorted((run / "journal").glob("*.jsonl")):
        for line in _lines(path):
            match line["what"]:
                case "world":
                    told.offices, told.monitors = line["offices"], {kid: name for name, kid in line["monitors"].items()}
                case "publishing":
                    version = told.versions.setdefault(line["version"], Version(line["grants"], line["t"]))
                    version.begins = min(version.begins, line["t"])
                case "published":
                    ends[line["version"] - 1] = line["t"] + GRACE
                case "submit":
                    told.submitted[line["id"]] = line
                case "ack":
                    told.acknowledged.setdefault(line["id"], line["t"])
                case "seen":
                    told.seen.setdefault((line["office"], line["id"]), line["t"])
                case "revoking":
                    told.revoking.setdefault(line["kid"], line["t"])
                case "revoked":
                    told.revoked[line["kid"]] = line["t"]
                case "fence":
                    told.fences[line["office"], line["kid"]] = line["sequence"]
                case "forged":
                    told.forged.setdefault(line["id"], []).append(line["text"])
                case "forged-taken":
                    told.taken += 1
                case "kill":
                    told.kills += 1
    for number, end in ends.items():
        if number in told.versions:
            told.versions[number].ends = end
    return told


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for text in path.read_text("utf-8", "replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            yield line


def granted(grants: list[dict[str, Any]], office: str, draft: Mapping[str, Any]) -> frozenset[str]:
    """The compartments of a report with this ``draft`` that ``grants`` give ``office``, less what its author denies."""
    found: set[str] = set()
    for grant in grants:
        if (
            grant["office"] == office
            and draft["area"] in grant["areas"]
            and draft["severity"] >= grant["min_severity"]
            and LEVELS.index(draft["tlp"]) <= LEVELS.index(grant["tlp_up_to"])
        ):
            found.update(part for part in grant["parts"] if part in draft)
    for caveat in draft.get("handling", {}).get("caveats", ()):
        if f"office:{office}" in caveat["not_to"]:
            return _NOTHING
    if found and "handling" in draft:
        found.add("handling")
    return frozenset(found)


@dataclass
class Verdict:
    """What the judge counts; all but the first two and ``excused`` must be 0."""

    acknowledged: int = 0
    delivered: int = 0
    missing: int = 0
    doubled: int = 0
    wrongly_delivered: int = 0
    delivered_after_revocation: int = 0
    forged_accepted: int = 0
    excused: int = 0
    """Reports of revoked members that an office would have been given."""
    loose: int = 0
    """Deliveries that more than one version of the rules may have decided."""
    told: list[str] = field(default_factory=list)
    """The first of the findings, a sentence each; ids only."""

    def find(self, kind: str, sentence: str, count: int = 1) -> None:
        setattr(self, kind, getattr(self, kind) + count)
        if len(self.told) < 50:
            self.told.append(f"{kind}: {sentence}")

    @property
    def clean(self) -> bool:
        return not (
            self.missing
            or self.doubled
            or self.wrongly_delivered
            or self.delivered_after_revocation
            or self.forged_accepted
        )


class Judge:
    """One run's."""

    def __init__(self, run: Path) -> None:
        self.told = read_journal(run)
        self.desks = {office: list(_lines(run / "desks" / f"{office}.jsonl")) for office in self.told.offices}
        self.feeds = {office: list(_lines(run / "feeds" / f"{office}.jsonl")) for office in self.told.offices}
        self._outboxes(run)

    def _outboxes(self, run: Path) -> None:
        for path in (run / "outboxes").glob("*.json"):
            for document in _lines(path):
                for entry in document["entries"]:
                    if entry["state"] in ("accepted", "kept") and entry["id"]:
                        self.told.acknowledged.setdefault(entry["id"], _ENDLESS)

    def judge(self) -> Verdict:
        told, verdict = self.told, Verdict()
        verdict.acknowledged = sum(report_id in told.submitted for report_id in told.acknowledged)
        verdict.forged_accepted = told.taken
        held: dict[str, dict[str, dict[str, Any]]] = {}
        for office, items in self.desks.items():
            counts = Counter(item["id"] for item in items)
            for report_id, count in counts.items():
                if count > 1:
                    verdict.find("doubled", f"{report_id} at {office}, {count} times", count - 1)
            held[office] = {item["id"]: item for item in items}
            for item in items:
                self._delivered(office, item, verdict)
        for report_id in told.acknowledged:
            submitted = told.submitted.get(report_id)
            if submitted is None:
                verdict.find("wrongly_delivered", f"{report_id} was acknowledged and never submitted")
                continue
            if submitted["t"] > told.revoked.get(submitted["kid"], _ENDLESS):
                verdict.find("delivered_after_revocation", f"{report_id} was acknowledged, submitted after")
            for office in told.offices:
                if report_id not in held[office]:
                    self._absent(office, submitted, verdict)
        self._behind_fences(verdict)
        return verdict

    def _delivered(self, office: str, item: dict[str, Any], verdict: Verdict) -> None:
        told, report_id = self.told, item["id"]
        verdict.delivered += 1
        text = item.get("summary", {}).get("text", "")
        if text in told.forged.get(report_id, ()):
            verdict.find("forged_accepted", f"{report_id} at {office}")
            return
        submitted = told.submitted.get(report_id)
        if submitted is None:
            verdict.find("wrongly_delivered", f"{report_id} at {office}, which nobody submitted")
            return
        draft, kid = submitted["draft"], submitted["kid"]
        if submitted["t"] > told.revoked.get(kid, _ENDLESS):
            verdict.find("delivered_after_revocation", f"{report_id} at {office}, submitted after")
        parts = frozenset(part for part in PARTS if part in item)
        same = all(item.get(name) == draft[name] for name in ("area", "severity", "tlp", "categories", "day"))
        if item["kid"] != kid or not same or any(item[part] != draft[part] for part in parts):
            verdict.find("wrongly_delivered", f"{report_id} at {office} is not as it was written")
            return
        until = told.seen.get((office, report_id), _ENDLESS)
        possible = self._outcomes(office, submitted, [item["pol"]], until)
        verdict.loose += len(possible) > 1
        if parts in possible:
            return
        if item["pol"] in told.versions and any(parts < outcome for outcome in possible):
            verdict.find("missing", f"{report_id} at {office} lacks a part")
        else:
            verdict.find("wrongly_delivered", f"{report_id} at {office} has parts that it ought not to have")

    def _absent(self, office: str, submitted: dict[str, Any], verdict: Verdict) -> None:
        told, pol = self.told, submitted["pol"]
        resealed = [version for version in self._possible(submitted["t"], _ENDLESS) if version > pol]
        if _NOTHING in self._outcomes(office, submitted, [pol, *resealed], _ENDLESS):
            return
        if submitted["kid"] in told.revoking:
            verdict.excused += 1
            return
        verdict.find("missing", f"{submitted['id']} at {office}")

    def _outcomes(self, office: str, submitted: dict[str, Any], sealed: list[int], until: float) -> set[frozenset[str]]:
        """What ``office`` may rightly hold of a report that was sealed under one of these versions."""
        draft, versions = submitted["draft"], self.told.versions
        by = {number: granted(version.grants, office, draft) for number, version in versions.items()}
        windows = self._possible(submitted["t"], until)
        return {
            by[first] & by[intake] & by[delivery]
            for first in sealed
            if first in by
            for intake in windows
            for delivery in windows
            if intake <= delivery
        }

    def _possible(self, since: float, until: float) -> list[int]:
        """The versions that may have been applied at some moment between the two."""
        versions = self.told.versions.items()
        return [number for number, one in versions if one.begins <= until and one.ends >= since]

    def _behind_fences(self, verdict: Verdict) -> None:
        """Reports of revoked members that were put into a feed when nothing of theirs was to come any more."""
        told = self.told
        revoked: dict[str, set[str]] = defaultdict(set)
        for office, kid in told.fences:
            revoked[office].add(kid)
        for office, items in self.feeds.items():
            for item in items:
                submitted = told.submitted.get(item["item"])
                if submitted is None or submitted["kid"] not in revoked[office]:
                    continue
                after = submitted["t"] > told.revoked.get(submitted["kid"], _ENDLESS)
                if item["sequence"] > told.fences[office, submitted["kid"]] and not after:
                    verdict.find("delivered_after_revocation", f"{item['item']} was put into the feed of {office}")


def main() -> int:
    judge = Judge(Path(sys.argv[1]))
    verdict = judge.judge()
    submitted = len(judge.told.submitted)
    print(json.dumps({"kills": judge.told.kills, "submitted": submitted, "clean": verdict.clean, **vars(verdict)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
