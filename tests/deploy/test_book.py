"""Kengele installed by the book: the commands of docs/operations.md and the units' own lines, until a report is read.

Once under a directory of this machine, as the user of the tests; and once in a plain Debian, with the users, modes and
paths as they are meant, where the tests run as root and debootstrap can have its packages. systemd itself runs in
neither: the units' lines are run by the tests, under the units' filter of system calls; of the rest of their sandbox
systemd-analyze judges (test_units.py).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from kengele_testing.base import base_files
from kengele_testing.certificates import make_certificate
from kengele_testing.nats import free_port, program
from kengele_testing.units import UNITS, Machine, Unit, missing

ROOT = Path(__file__).parents[2]
BOOK = (ROOT / "docs/operations.md").read_text()
PASSPHRASE = "seven goats and a bell"
HUB = "/var/lib/kengele-hub"
SHARED = "/opt/shared"
"""Where people on this one machine hand each other files."""
pytestmark = [
    pytest.mark.full,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(missing()), reason=f"NOTHING WAS INSTALLED BY THE BOOK: {missing()}"),
]


def lines(after: str) -> list[list[str]]:
    """The commands of the first block behind ``after`` in the book."""
    block = re.search(r"\n\n((?:    .*\n)+)", BOOK[BOOK.index(after) :])
    assert block is not None
    return [shlex.split(line) for line in block[1].splitlines()]


class Installer:
    """Does what the book says on one machine; the addresses are this machine's, the ports free ones."""

    def __init__(self, machine: Machine, wheel: Path, work: Path) -> None:
        self.machine, self.wheel, self.work = machine, wheel, work
        self.ports = {"4222": str(free_port()), "443": str(free_port())}
        self.started: list[str] = []

    def run(self, *words: str, user: str = "", fails: int = 0, **options: Any) -> str:
        """What a command prints there."""
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "KENGELE_PASSPHRASE": PASSPHRASE}
        done = subprocess.run(
            self.machine.command(map(self.machine.mapped, words), user if self.machine.chroot else ""),
            env=environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
            **options,
        )
        assert done.returncode == fails, (words, done.stdout, done.stderr)
        return done.stdout

    def kengele(self, *words: str, user: str = "kengele-node", fails: int = 0) -> str:
        shared = self.machine.outer(SHARED)
        shared.mkdir(exist_ok=True)
        shared.chmod(0o777)
        return self.run("/usr/bin/env", "-C", SHARED, "/opt/kengele/bin/kengele", *words, user=user, fails=fails)

    def do(self, words: list[str]) -> None:
        """One line of the book."""
        if "--url" in words:
            text = "\0".join(words).replace("hub.example.org:4222", f"127.0.0.1:{self.ports['4222']}")
            text = text.replace("wss://hub.example.org", f"wss://127.0.0.1:{self.ports['443']}")
            words = [self.ports.get(word, word) for word in text.split("\0")]
        match words:
            case ["python3", "-m", "venv", place]:
                self._venv(self.machine.outer(place))
            case ["/opt/kengele/bin/pip", "install", _]:
                self._install()
            case ["systemd-sysusers"]:
                if self.machine.chroot:
                    subprocess.run(["systemd-sysusers", f"--root={self.machine.root}"], check=True, timeout=30)
            case ["systemctl", "daemon-reload"]:
                pass
            case ["systemctl", "enable", "--now", name]:
                self.started.append(name)
            case ["install", *_]:
                self._copy(words)
            case ["runuser", "-u", user, "--", *command]:
                # The certificate of the test is of its own making, which the book says to put into the cards.
                own = ["--tls-ca", "/opt/ca.pem"] if "init" in command else []
                self.run(*command, *own, user=user)
            case _:
                raise AssertionError(words)

    def _venv(self, place: Path) -> None:
        if self.machine.chroot:
            self.run("/usr/bin/python3", "-m", "venv", "--without-pip", "/opt/kengele")
        else:
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True, timeout=60)

    def _install(self) -> None:
        """What pip would put there, from what is installed here already: no registry is asked."""
        (site,) = self.machine.outer("/opt/kengele/lib").glob("python3*/site-packages")
        shutil.unpack_archive(self.wheel, site, "zip")
        for files in base_files("hub").values():
            for file in files:
                source = Path(str(file.locate()))
                if ".." not in file.parts and source.is_file():
                    (site / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(source, site / file)
        subprocess.run([sys.executable, "-m", "compileall", "-q", *site.glob("kengele_*")], check=True, timeout=60)
        scripts = self.machine.outer("/opt/kengele/bin")
        shutil.copy(program(), scripts / "nats-server")
        python = "/opt/kengele/bin/python3" if self.machine.chroot else scripts / "python3"
        command = scripts / "kengele"
        command.write_text(f"#!{python}\nimport sys\nfrom kengele_node.cli import main\nsys.exit(main())\n")
        command.chmod(0o755)

    def _copy(self, words: list[str]) -> None:
        *options, last = words[1:]
        last = str(self.machine.outer(last)) + ("/" if last.endswith("/") else "")
        if "-d" in options:
            owner = ["-o", "-g"]
            kept = [
                word
                for number, word in enumerate(options)
                if self.machine.chroot or not {word, options[number - 1]} & {*owner}
            ]
            if self.machine.chroot and "-o" in kept:
                number, group = self.machine.ids(kept[kept.index("-o") + 1])
                kept[kept.index("-o") + 1], kept[kept.index("-g") + 1] = str(number), str(group)
            subprocess.run(["install", *kept, last], check=True, timeout=10)
        else:
            subprocess.run(["install", *options, last], check=True, timeout=10, cwd=self.work)


@contextmanager
def directory() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="kengele-book-") as root:
        for part in ("opt", "etc/systemd/system", "var/lib", "run"):
            (Path(root) / part).mkdir(parents=True)
        yield Machine(Path(root))


@contextmanager
def debian() -> Iterator[Machine]:
    """A plain Debian, or a skipped test that says why there is none."""
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        pytest.skip("NOTHING WAS INSTALLED IN A PLAIN DEBIAN: the tests are not root or debootstrap is not installed")
    if sys.version_info[:2] != (3, 11):
        pytest.skip("NOTHING WAS INSTALLED IN A PLAIN DEBIAN: the packages at hand are not for its Python, 3.11")
    with tempfile.TemporaryDirectory(prefix="kengele-debian-") as root:
        Path(root).chmod(0o755)
        done = subprocess.run(
            ["debootstrap", "--variant=minbase", "--include=python3,python3-venv", "bookworm", root],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip(f"NOTHING WAS INSTALLED IN A PLAIN DEBIAN: debootstrap failed: {done.stdout.splitlines()[-1:]}")
        (Path(root) / "etc/systemd/system").mkdir(parents=True, exist_ok=True)
        yield Machine(Path(root), chroot=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(made), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return next(made.glob("kengele-*.whl"))


@contextmanager
def running(machine: Machine, unit: str) -> Iterator[Path]:
    """A unit's process while the block runs, which it must outlast, and end in order; gives what it logs."""
    log = machine.outer(f"/var/{unit}.log")
    with log.open("w") as file:
        process = machine.start(Unit(f"{unit}.service"), stdout=subprocess.DEVNULL, stderr=file)
        try:
            yield log
            assert process.poll() is None, log.read_text()
            process.terminate()
            code = process.wait(60)
            assert code in (0, 130), (code, log.read_text())
        finally:
            process.kill()
            process.wait()
    assert "Traceback" not in log.read_text(), log.read_text()


def until(holds: Any, log: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)


@pytest.mark.parametrize("place", [directory, debian], ids=["directory", "debian"])
def test_from_nothing_to_a_report_read_by_the_book(place: Any, wheel: Path, tmp_path: Path) -> None:
    with ExitStack() as stack:
        machine = stack.enter_context(place())
        tls, _ = make_certificate(tmp_path)
        (tmp_path / "chain.pem").write_bytes(tls.certificate.read_bytes())
        (tmp_path / "key.pem").write_bytes(tls.key.read_bytes()) if tls.key.name != "key.pem" else None
        (tmp_path / "passphrase").write_text(PASSPHRASE + "\n")
        (tmp_path / "deploy").symlink_to(ROOT / "deploy")
        book = Installer(machine, wheel, tmp_path)
        shutil.copy(tls.certificate, machine.outer("/opt/ca.pem"))

        steps = lines("for a hub with its own nats-server")
        for words in steps[:-1]:
            book.do(words)
        assert book.started == ["kengele-hub"]
        log = stack.enter_context(running(machine, "kengele-hub"))
        until(lambda: machine.outer(f"{HUB}/running.json").exists(), log)
        book.do(steps[-1])
        page = json.loads(machine.outer(f"{HUB}/running.json").read_text())
        assert page["key"].endswith("/run/credentials/kengele-hub.service/key.pem")
        with urllib.request.urlopen(f"{page['ops']}/livez", timeout=10) as answer:
            assert answer.status == 200
        found = book.kengele("doctor", "--home", HUB, "--json", user="kengele", fails=8)
        # The test's certificate holds for an hour.
        assert {one["code"] for one in json.loads(found)["findings"]} == {"not-founded", "certificate-ends"}
        home = machine.outer(HUB)
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in home.rglob("*") if path.is_file())

        for words in lines("A node or a desk, where there is no hub")[2:]:
            book.do(words)
        _ = network(book)
        for part in ("node", "desk"):
            shutil.copy(tmp_path / "passphrase", machine.outer(f"/etc/kengele/{part}.passphrase"))
        for part in ("desk", "node"):
            logs = stack.enter_context(running(machine, f"kengele-{part}"))
            until(lambda logs=logs: logs.read_text(), logs)
        report = ("--area", "KG-O", "--category", "rumour", "--severity", "2", "--tlp", "GREEN", "--lang", "en")
        at = ("--home", "/var/lib/kengele-node")
        sent = json.loads(book.kengele("node", "report", *at, *report, "--summary", "Talk of a fight.", "--json"))
        shown = ("office", "show", "--home", "/var/lib/kengele-desk", "--json")
        until(lambda: sent["id"] in book.kengele(*shown, user="kengele-desk"), logs)
        assert "Talk of a fight." in book.kengele(*shown, "--id", sent["id"], user="kengele-desk")
        for path in machine.outer("/var").glob("kengele-*.log"):
            assert "Talk" not in path.read_text()
        assert book.kengele("doctor", "--home", "/var/lib/kengele-node") == "Nothing found.\n"


def network(book: Installer) -> None:
    """Three coordinators found a network and admit a desk and a node, with everybody's files where they may be read."""
    outer = book.machine.outer
    shared = outer(SHARED)
    shutil.copy(outer(f"{HUB}/hub-card.json"), shared)
    (shared / "hub-card.json").chmod(0o644)
    desk = outer("/var/lib/kengele-desk")
    desk.mkdir(mode=0o700, exist_ok=True)
    if book.machine.chroot:
        os.chown(desk, *book.machine.ids("kengele-desk"))
    for name in ("alice", "bob", "carol"):
        book.kengele("coordinator", "init", "--home", f"{SHARED}/{name}")
    at = ("--home", "/opt/shared/alice")
    cards = [f"/opt/shared/{name}/card.json" for name in ("bob", "carol")]
    whose = ("--hub", "/opt/shared/hub-card.json", "--name", "Bell", "--custodian", "unrcca", "--area", "KG")
    book.kengele("coordinator", "found", *at, *whose, *cards)
    book.kengele("coordinator", "sign", "--home", "/opt/shared/bob", "draft.json")
    book.kengele("coordinator", "publish", *at, "draft.json")
    # What a command writes is for its own user; the card is for everyone who joins.
    (shared / "network.json").chmod(0o644)
    book.kengele("coordinator", "join", "--home", "/opt/shared/bob", "/opt/shared/network.json")
    card = ("--network", "/opt/shared/network.json")
    made = book.kengele(
        "office",
        "init",
        "--home",
        "/var/lib/kengele-desk",
        *card,
        "--id",
        "unrcca",
        "--area",
        "KG",
        "--json",
        user="kengele-desk",
    )
    office = json.loads(made)
    node = json.loads(
        book.kengele("node", "init", "--home", "/var/lib/kengele-node", *card, "--area", "KG-O", "--json")
    )
    (shared / "rules.yaml").write_text(
        "- id: unrcca-all\n  grant: [summary, account]\n  to: [office:unrcca]\n  areas: [KG]\n"
        '  categories: ["*"]\n  tlp_up_to: AMBER\n  expires: 2029-12-31\n  reason: book\n'
    )
    requests = []
    for part in ("desk", "node"):
        request = shared / f"{part}-request.json"
        shutil.copy(outer(f"/var/lib/kengele-{part}/join-request.json"), request)
        request.chmod(0o644)
        requests.append(f"/opt/shared/{part}-request.json")
    digits = ("--digits", office["digits"], "--digits", node["digits"], "--policy", "/opt/shared/rules.yaml")
    book.kengele("coordinator", "admit", *at, *requests, *digits)
    book.kengele("coordinator", "sign", "--home", "/opt/shared/bob", "draft.json")
    book.kengele("coordinator", "publish", "--home", "/opt/shared/bob", "draft.json")


def test_the_book_installs_the_units_that_there_are() -> None:
    assert {path.name for path in UNITS.iterdir()} >= set(re.findall(r"deploy/systemd/([\w.-]+)", BOOK))
