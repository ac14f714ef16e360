"""A short torture: see docs/torture.md. The long one is ``make torture``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from torture.run import KEYS

pytestmark = [pytest.mark.full, pytest.mark.timeout(420)]
_TESTS = Path(__file__).parent
_KILLS = 4


def test_whatever_is_killed_frozen_cut_off_or_filled_up_what_was_acknowledged_is_on_the_right_desks_once(
    tmp_path: Path,
) -> None:
    asked = ["--kills", str(_KILLS), "--reports", "160", "--nodes", "4", "--json", "--keep", str(tmp_path / "run")]
    path = os.pathsep.join((str(_TESTS), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(
        [sys.executable, "-m", "torture.run", *asked],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    # The seed is in it, and what this machine does not permit.
    print(done.stderr)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert tuple(found) == KEYS
    assert found["kills"] == _KILLS
    assert found["acknowledged"] > 0
    wrong = ("missing", "doubled", "wrongly_delivered", "delivered_after_revocation", "forged_accepted")
    assert {name: found[name] for name in wrong} == dict.fromkeys(wrong, 0)
