"""The wheel installed without extras: a node runs on the base dependencies alone, and nothing of the hub is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kengele_testing.base import base_files

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.full, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that holds what ``pip install kengele`` would put there, and nothing else."""
    made, site = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(made), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (wheel,) = made.glob("kengele-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for files in base_files().values():
        for file in files:
            source, target = Path(str(file.locate())), site / file
            if ".." in file.parts or not source.is_file():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source)
    return site


def kengele(site: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", "-P", "-m", "kengele_node.cli", *words],
        env={**os.environ, "PYTHONPATH": str(site), "KENGELE_PASSPHRASE": "seven goats and a bell"},
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        check=False,
    )


def test_a_node_runs_without_the_extras(installed: Path, tmp_path: Path) -> None:
    assert not list(installed.glob("nats_server*")) + list(installed.glob("rich*")) + list(installed.glob("orjson*"))
    assert "Example:" in kengele(installed, "node", "report", "--help", cwd=tmp_path).stdout
    done = kengele(installed, "coordinator", "init", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = kengele(installed, "node", "status", cwd=tmp_path)
    assert (done.returncode, "no-vault" in done.stderr) == (7, True)


def test_a_hub_without_its_extra_says_what_to_install(installed: Path, tmp_path: Path) -> None:
    assert kengele(installed, "hub", "init", cwd=tmp_path).returncode == 0
    done = kengele(installed, "hub", "run", cwd=tmp_path)
    assert done.returncode == 4
    assert "kengele[hub]" in done.stderr


def test_a_node_loads_nothing_of_the_hub(installed: Path, tmp_path: Path) -> None:
    script = "import kengele_node.monitor.commands, sys; print(*sorted({n.split('.')[0] for n in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-S", "-P", "-c", script],
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.split()
    assert {"kengele_hub", "nats_server", "uvloop", "rich", "structlog"}.isdisjoint(loaded)


def test_the_wheel_holds_the_packages_their_data_and_the_licence(installed: Path) -> None:
    for name in (
        "kengele_schemas/data/areas.json",
        "kengele_node/demo/data/ged_sample.csv",
        "kengele_node/pages/locale/ar/LC_MESSAGES/kengele.mo",
        "kengele_node/demo/data/ATTRIBUTION.md",
        "kengele_node/py.typed",
        "kengele_hub/tether.py",
    ):
        assert (installed / name).is_file(), name
    assert list(installed.glob("kengele-*.dist-info/licenses/LICENSE"))
    assert not (installed / "tests").exists()
