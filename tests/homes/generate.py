"""Writes the homes of this version: ``PYTHONPATH=tests:… python -m homes.generate tests/homes/2.tar.xz``.

Run it once for a version that changes what stands on a disk, with that version's number, and keep what it made: a home
that was written years ago must still open. All keys in it are made here and used nowhere else.
"""

from __future__ import annotations

import asyncio
import io
import sys
import tarfile
import tempfile
from pathlib import Path

from kengele_hub import backup
from kengele_hub.sealed import Lock
from kengele_node.member import now
from kengele_node.monitor.compose import new_report_id, plan_report, seal_report
from kengele_node.monitor.home import open_outbox
from kengele_node.monitor.sender import Sender
from kengele_testing.network import draft, fetch_all, small_network

HOMES = ("monitors/osh", "offices/unrcca", "coordinators/aigul")


async def made(home: Path) -> Path:
    """A network's homes: a monitor with an accepted report and one that waits, an office that has read the first."""
    async with small_network(home, ("osh",)) as network:
        osh = network.monitors["osh"]
        async with osh.session() as session:
            trusted = await session.refresh()
            box = open_outbox(osh)
            for text in ("The first.", "The second."):
                report = draft(summary={"text": text, "lang": "en"})
                plan = plan_report(report, trusted, kid=osh.kid, report_id=new_report_id(), now=now())
                value = report.model_dump(mode="json", exclude_none=True)
                box.add(
                    plan.header.id,
                    value,
                    plan.offices,
                    lambda counters, plan=plan: seal_report(plan, osh.key, counters),
                    now=now().timestamp(),
                )
                if text == "The first.":
                    await Sender(session, box, osh.key, osh.nkey.public).run(until_empty=True)
            box.close()
        await fetch_all(network.offices["unrcca"])
        await network.files("aigul")
        await backup.take(network.home / "hub.backup", Lock(key_file=network.home / "key"), network.hub.home)
    return network.home


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        home = asyncio.run(made(Path(directory)))
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:xz") as archive:
            for name in (*HOMES, "key", "hub.backup"):
                archive.add(home / name, name)
    target.write_bytes(packed.getvalue())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
