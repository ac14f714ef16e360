"""Writes reports into nodes' real outboxes: what ``kengele node report --later`` does, many times in one process.

    python -m torture.writer RUN NAME SEED REPORTS NODE…

Each node gets ``REPORTS``, in turn. A report is in the journal before it is sealed, under the rules that the node
holds at that moment. Killed and started again, it goes on where its journal ends.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from kengele_node.member import Member, now
from kengele_node.monitor.compose import new_report_id, plan_report, seal_report
from kengele_node.monitor.consent import agreed_to
from kengele_node.monitor.home import open_outbox
from kengele_node.vault import Lock
from kengele_schemas.errors import KengeleError
from kengele_schemas.report import parse_draft
from torture import world
from torture.journal import Journal

_AT_ONCE = 20
"""Reports that a node gets before the next has its turn."""
_AGAIN = 0.5
_PASSING = frozenset({"storage-full", "storage-busy", "damaged", "no-trust", "not-writable"})


def written(run: Path, name: str) -> Counter[str]:
    """How many reports this writer's journal has for each node."""
    found: Counter[str] = Counter()
    with suppress(FileNotFoundError):
        for text in (run / "journal" / f"{name}.jsonl").read_text("utf-8").splitlines():
            with suppress(ValueError):
                found[json.loads(text)["node"]] += 1
    return found


def main(run: Path, name: str, seed: str, each: int, nodes: Sequence[str]) -> None:
    done = written(run, name)
    dice = random.Random(f"{seed}/{name}/{sum(done.values())}")
    journal = Journal(run, name)
    members = {node: Member.open(_home(run, node), Lock(key_file=run / "members" / "key"), "monitor") for node in nodes}
    while left := [node for node in nodes if done[node] < each]:
        for node in left:
            count = min(_AT_ONCE, each - done[node])
            try:
                _write(journal, members[node], node, done[node], count, dice)
            except KengeleError as error:
                time.sleep(_AGAIN)
                if error.code in _PASSING:
                    continue
            # Of an outbox that was damaged for good it counts as written what was not.
            done[node] += count


def _write(journal: Journal, member: Member, node: str, start: int, count: int, dice: random.Random) -> None:
    trusted = member.offline()
    with closing(open_outbox(member)) as outbox:
        for number in range(start, start + count):
            value = world.draft(dice, node, number, now().date().isoformat())
            report = parse_draft(value)
            plan = plan_report(report, trusted, kid=member.kid, report_id=new_report_id(), now=now())
            journal.write(
                "submit",
                id=plan.header.id,
                node=node,
                kid=member.kid,
                pol=plan.header.pol,
                draft=report.model_dump(mode="json", exclude_none=True),
            )
            if not plan.readers:
                continue
            outbox.add(
                plan.header.id,
                report.model_dump(mode="json", exclude_none=True),
                plan.offices,
                lambda counters, plan=plan: seal_report(plan, member.key, counters),
                now=now().timestamp(),
                agreed=agreed_to(plan),
            )


def _home(run: Path, node: str) -> Path:
    return run / "members" / "monitors" / node


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5:])
