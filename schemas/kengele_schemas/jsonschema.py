"""JSON Schemas (draft 2020-12) of all documents, written from the models: ``python -m kengele_schemas.jsonschema DIR``.

With ``--check`` nothing is written; the command fails if a file differs from its model.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from . import (
    areas,
    cards,
    heartbeat,
    invitations,
    leaves,
    orders,
    policy,
    recall,
    receipt,
    report,
    roster,
    rotation,
    sharing,
)

MODELS: Final[dict[str, type[BaseModel]]] = {
    "header": report.Header,
    "draft": report.Report,
    **{f"compartment-{name}": model for name, model in report.COMPARTMENT_MODELS.items()},
    "network": roster.Network,
    "offices": roster.OfficesFile,
    "monitors": roster.MonitorsFile,
    "connections": roster.ConnectionsFile,
    "area-connections": roster.AreaConnectionsFile,
    "policy": policy.PolicyFile,
    "areas": areas.AreasFile,
    "recalls": orders.RecallsFile,
    "leaf": receipt.Leaf,
    "leaf-narrowed": leaves.NarrowedLeaf,
    "leaf-trust": leaves.TrustLeaf,
    "leaf-confirmed": leaves.ConfirmedLeaf,
    "leaf-shared": leaves.SharedLeaf,
    "confirmation": recall.Confirmation,
    "share": sharing.Share,
    "heartbeat": heartbeat.Heartbeat,
    "notice": orders.Notice,
    "hub-card": cards.HubCard,
    "network-card": cards.NetworkCard,
    "coordinator-card": cards.CoordinatorCard,
    "join-request": cards.JoinRequest,
    "invitation": invitations.Invitation,
    "join-commitment": invitations.Commitment,
    "join-answer": invitations.Answer,
    "join-reveal": invitations.Reveal,
    "office-keys": rotation.OfficeKeys,
    "epoch": rotation.Epoch,
}


def schemas() -> dict[str, bytes]:
    """Each schema as a file's bytes, by the file's name."""
    files = {}
    for name, model in MODELS.items():
        schema = model.model_json_schema()
        schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
        schema["title"] = f"Kengele {name}"
        text = json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False)
        files[f"{name}.schema.json"] = f"{text}\n".encode()
    return files


def main(words: list[str] | None = None) -> int:
    """Writes or checks the files. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Write or check the JSON Schemas.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not current")
    parser.add_argument("directory", type=Path)
    args = parser.parse_args(words)
    stale = []
    for name, data in schemas().items():
        path = args.directory / name
        if path.is_file() and path.read_bytes() == data:
            continue
        stale.append(name)
        if not args.check:
            args.directory.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    if args.check and stale:
        sys.stderr.write(f"Not current: {', '.join(stale)}. Run: make schemas\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
