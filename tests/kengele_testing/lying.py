"""A hub that lies: ``kengele`` as it is, but for what it serves to whom, by the file ``lies.json`` in its home.

``frozen`` are the nkeys of members who are served what was in force when the first of them asked since, with ever new
timestamps; ``swallow`` has every publication answered as if it were in force, and dropped.

    await lie(network, frozen=[office.nkey.public])
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kengele_hub.reception import Reception
from kengele_node.cli import main
from kengele_node.demo import network as demo
from kengele_schemas import metadata, publication
from kengele_schemas.encoding import loads
from kengele_schemas.packing import pack

_LIES = "lies.json"


def lying_hubs(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on each hub of a demonstration can be told to lie."""
    tests = str(Path(__file__).resolve().parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((tests, os.environ.get("PYTHONPATH", ""))))
    monkeypatch.setattr(demo, "_kengele", lambda: [sys.executable, "-m", "kengele_testing.lying"])


def lie(hub: demo.Hub, **lies: Any) -> None:
    """Tells ``hub`` how to lie; without any, to be honest."""
    fresh = hub.home / f"{_LIES}.new"
    fresh.write_text(json.dumps(lies))
    fresh.replace(hub.home / _LIES)


def _home() -> Path:
    return Path(sys.argv[sys.argv.index("--home") + 1])


def _lies() -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((_home() / _LIES).read_text())
    except FileNotFoundError:
        return {}
    return found


_honest, _publish = Reception.serve, Reception.answer_publish
_kept: dict[str, bytes] = {}


def _serve(self: Reception, nkey: str, request: bytes) -> bytes:
    global _kept
    lies, authority = _lies(), self._authority
    if "frozen" not in lies:
        _kept = {}
    elif not _kept:
        _kept = dict(authority.files)
    if nkey not in lies.get("frozen", ()):
        return _honest(self, nkey, request)
    path = loads(request, max_bytes=1024)["path"]
    if path == "metadata/timestamp.json":
        # Below what it tells the others, or nobody who was frozen could be told the truth again.
        stamp = metadata.metadata_version(authority.files[path]) - 1
        last = metadata.metadata_version(_kept[metadata.newest(_kept, metadata.SNAPSHOT)])
        keys = authority.keys.snapshot_key, authority.keys.timestamp_key
        _kept = publication.vouched(_kept, *keys, datetime.now(UTC), last, stamp)
    return pack(_kept[path]) if path in _kept else b""


async def _answer_publish(self: Reception, nkey: str, request: bytes) -> dict[str, Any]:
    if _lies().get("swallow"):
        assert self._authority.standing is not None
        return {"code": "published", "version": self._authority.standing.trusted.version + 1}
    return await _publish(self, nkey, request)


if __name__ == "__main__":
    Reception.serve = _serve  # type: ignore[method-assign]
    Reception.answer_publish = _answer_publish  # type: ignore[method-assign]
    sys.exit(main())
