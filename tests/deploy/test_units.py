"""The units: how much they leave open, by systemd's own judgement, and what they must and must not do."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kengele_testing.units import UNITS, Unit

SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
MOST = 20
"""Tenths: systemd's exposure level of a unit."""
analysed = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="SYSTEMD-ANALYZE IS NOT INSTALLED: no unit was judged"
)


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_there_is_a_unit_for_each_part() -> None:
    parts = ("desk", "doctor", "hub", "node", "relay@")
    assert [f"kengele-{part}.service" for part in parts] == SERVICES


def instance(name: str, directory: Path) -> Path:
    """All units as systemd would find them, with a program that is there; gives ``name``, or its instance."""
    for path in UNITS.iterdir():
        target = directory / path.name.replace("@.", "@4222.")
        target.write_text(path.read_text().replace("/opt/kengele/bin/kengele", "/usr/bin/true"))
    return directory / name.replace("@.", "@4222.")


@analysed
@pytest.mark.parametrize("name", SERVICES)
def test_no_unit_leaves_open_more_than_two(name: str, tmp_path: Path) -> None:
    unit = instance(name, tmp_path)
    done = analyze("security", "--offline=true", "--no-pager", f"--threshold={MOST}", str(unit))
    assert done.returncode == 0, done.stdout.splitlines()[-1]
    level = re.search(r"exposure level for \S+: (\d+\.\d+)", done.stdout)
    assert level is not None
    assert float(level[1]) <= MOST / 10


@analysed
def test_a_unit_without_its_sandbox_would_be_told(tmp_path: Path) -> None:
    sandbox = r"(?m)^(Protect|Private|Restrict|SystemCall|Capability|NoNew|Memory).*\n"
    unit = instance(SERVICES[0], tmp_path)
    unit.write_text(re.sub(sandbox, "", unit.read_text()))
    assert analyze("security", "--offline=true", f"--threshold={MOST}", str(unit)).returncode != 0


@analysed
@pytest.mark.parametrize("name", [*SERVICES, "kengele-doctor.timer", "kengele-relay@.socket"])
def test_systemd_knows_every_setting(name: str, tmp_path: Path) -> None:
    done = analyze("verify", str(instance(name, tmp_path)))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["kengele-node.service", "kengele-desk.service"])
def test_a_members_unit_prints_nothing_into_the_journal_but_remarks(name: str) -> None:
    unit = Unit(name)
    assert unit.setting("StandardOutput") == "null"
    assert unit.settings("CapabilityBoundingSet") == [""]
    assert re.search(r"--passphrase-file %d/passphrase", unit.setting("ExecStart"))
    assert unit.settings("LoadCredential")[0].startswith("passphrase:/etc/kengele/")


@pytest.mark.parametrize("name", ["kengele-desk.service", "kengele-hub.service", "kengele-node.service"])
def test_every_part_starts_after_the_network_and_again_after_whatever_happens(name: str) -> None:
    unit = Unit(name)
    assert "network-online.target" in unit.setting("After")
    assert unit.setting("Wants") == "network-online.target"
    assert (unit.setting("Restart"), unit.setting("StartLimitIntervalSec")) == ("always", "0")
    codes = {int(code) for code in unit.setting("RestartPreventExitStatus").split()}
    # 4: not reachable, 7: damaged or full, 3: a member that is not admitted yet; these mend themselves, or in time.
    assert codes == ({2, 3, 5, 6} if name == "kengele-hub.service" else {2, 5, 6})
    assert unit.setting("StateDirectoryMode") == "0700"
    assert unit.setting("UMask") == "0077"
    assert unit.setting("LimitCORE") == "0"


def test_a_hub_on_a_broker_of_ones_own_holds_no_certificate_and_no_capability() -> None:
    unit = Unit("kengele-hub.service", "external.conf")
    assert unit.settings("LoadCredential") == ["ca.pem:/etc/kengele/ca.pem"]
    assert len(unit.settings("ExecStart")) == 1
    assert "tls" not in unit.setting("ExecStart")
    assert unit.setting("AmbientCapabilities") == unit.setting("CapabilityBoundingSet") == ""


def test_every_user_of_a_unit_is_one_that_is_made() -> None:
    made = set(re.findall(r"(?m)^u (\S+)", (UNITS / "kengele.sysusers").read_text()))
    assert {user for name in SERVICES for user in Unit(name).settings("User")} == made
