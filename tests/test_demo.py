"""``kengele demo`` as a stranger runs it: a process of its own, one JSON object on stdout."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kengele_node.demo import story

pytestmark = [pytest.mark.full, pytest.mark.timeout(200)]


def demonstrate(*options: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "kengele_node.cli", "demo", "--once", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


def checked(stdout: str) -> dict[str, Any]:
    assert stdout.count("\n") == 1
    found: dict[str, Any] = json.loads(stdout)
    assert found["accepted"] == found["submitted"] > 0
    assert found["deliveries_verified"] == found["deliveries_expected"] > 0
    assert (found["lost"], found["duplicated"], found["wrongly_delivered"]) == (0, 0, 0)
    assert all(found["checks"].values())
    return found


def test_the_demonstration_sends_real_events_and_keeps_all_its_claims(tmp_path: Path) -> None:
    code, stdout, stderr = demonstrate("--json", "--home", str(tmp_path / "home"))
    found = checked(stdout)
    assert code == 0
    assert found["submitted"] >= 340
    for refusal in ("not-whole", "replayed", "bad-signature", "out-of-scope", "too-few-signatures"):
        assert found["refused"][refusal] == 1
    assert "killed (SIGKILL)" in stderr
    log = (tmp_path / "home" / "hub" / "hub.log").read_text()
    assert "hub-started" in log
    summary = next(story.events(story.data("ged_sample.csv"), 1, story.Areas.world())[0].__iter__()).report.summary
    assert summary is not None
    assert summary.text not in log
    code, _, stderr = demonstrate("--json", "--home", str(tmp_path / "home"))
    assert code == 3
    assert "exists" in stderr


def test_it_takes_any_other_file_of_that_format(tmp_path: Path) -> None:
    with story.data("ged_sample.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    places = [
        ("Colombia", "Cauca department", "Cali"),
        ("Ukraine", "", ""),
        ("DR Congo (Zaire)", "", ""),
        ("Atlantis", "", ""),
    ]
    path = tmp_path / "other.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for number, row in enumerate(rows[:60]):
            country, first, second = places[number % len(places)]
            writer.writerow({**row, "country": country, "adm_1": first, "adm_2": second})
    code, stdout, _ = demonstrate("--json", "--data", str(path), "--reports", "40")
    found = checked(stdout)
    assert code == 0
    assert found["submitted"] > 60


def test_a_file_that_is_no_ged_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "no.csv"
    path.write_text("a,b\n1,2\n")
    code, stdout, stderr = demonstrate("--json", "--data", str(path))
    assert (code, stdout) == (2, "")
    assert "missing-column" in stderr


def test_however_it_is_ended_no_hub_is_left_behind(tmp_path: Path) -> None:
    home = tmp_path / "home"
    command = [sys.executable, "-m", "kengele_node.cli", "demo", "--home", str(home)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stderr is not None
        for line in demo.stderr:
            if line.startswith("Reports are sent"):
                break
        broker = int((home / "hub" / "broker" / "lock").read_text("ascii").strip("\0"))
        demo.send_signal(signal.SIGTERM)
        demo.stderr.read()
        assert demo.wait(60) == 130
    with pytest.raises(ProcessLookupError):
        os.kill(broker, 0)
