"""The README's tour: every role by itself, as separate processes with separate home directories."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kengele_node.demo import story
from kengele_testing import forked
from kengele_testing.certificates import make_certificate

pytestmark = [pytest.mark.full, pytest.mark.timeout(240)]
PASSPHRASE = "seven goats and a bell"


class Shell:
    """A directory in which ``kengele`` is run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {**os.environ, "KENGELE_PASSPHRASE": PASSPHRASE}

    def run(self, *words: str, fails: int = 0, stdin: str = "") -> str:
        done = forked.run(words, cwd=self.directory, env=self.environment, stdin=stdin)
        assert done.returncode == fails, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout if not fails else done.stdout + done.stderr

    @contextmanager
    def locked(self) -> Iterator[None]:
        """No passphrase is at hand while the block runs."""
        passphrase = self.environment.pop("KENGELE_PASSPHRASE")
        yield
        self.environment["KENGELE_PASSPHRASE"] = passphrase

    def json(self, *words: str, **options: Any) -> Any:
        return json.loads(self.run(*words, "--json", **options))


class Person:
    """Somebody at a terminal, in front of one ``kengele``."""

    def __init__(self, shell: Shell, *words: str) -> None:
        self._terminal, theirs = pty.openpty()
        self._seen = b""
        self._command = subprocess.Popen(
            [sys.executable, "-m", "kengele_node.cli", *words],
            cwd=shell.directory,
            env=shell.environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)

    def reads(self, text: str) -> None:
        """Waits until ``text`` is there."""
        deadline = time.monotonic() + 60
        while text.encode() not in self._seen:
            ready, _, _ = select.select([self._terminal], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, self._seen
            self._seen += os.read(self._terminal, 4096)

    def types(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def leaves(self) -> int:
        """How the command ended."""
        try:
            return self._command.wait(60)
        finally:
            self._command.kill()
            self._command.wait()
            os.close(self._terminal)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell beside a hub that runs."""
    yield from beside_a_hub(tmp_path)


def beside_a_hub(tmp_path: Path, *options: str) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    shell.run("hub", "init", "--port", free_port(), *options)
    hub = subprocess.Popen(
        [sys.executable, "-m", "kengele_node.cli", "hub", "run"], cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 30
    while not (tmp_path / "hub" / "running.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    yield shell
    hub.send_signal(signal.SIGTERM)
    assert hub.wait(60) == 0


def found(shell: Shell) -> None:
    """A network with one office and one monitor."""
    for name in ("alice", "bob", "carol"):
        shell.run("coordinator", "init", "--home", name)
    cards = ("bob/card.json", "carol/card.json")
    options = ("--hub", "hub/hub-card.json", "--name", "Bell", "--custodian", "unrcca", "--area", "KG")
    shell.run("coordinator", "found", "--home", "alice", *options, *cards)
    error = shell.run("coordinator", "publish", "--home", "alice", "draft.json", fails=3)
    assert "too-few-signatures" in error
    shell.run("coordinator", "sign", "--home", "bob", "draft.json")
    shell.run("coordinator", "publish", "--home", "alice", "draft.json")
    shell.run("coordinator", "join", "--home", "bob", "network.json")
    for verb in ("sign", "publish"):
        assert "in-a-network" in shell.run("coordinator", verb, "--home", "bob", "draft.json", fails=3)
    office = shell.json("office", "init", "--network", "network.json", "--id", "unrcca", "--area", "KG")
    node = shell.json("node", "init", "--network", "network.json", "--area", "KG-O")
    (shell.directory / "rules.yaml").write_text(
        "- id: unrcca-all\n  grant: [summary, account]\n  to: [office:unrcca]\n  areas: [KG]\n"
        '  categories: ["*"]\n  tlp_up_to: AMBER\n  expires: 2027-12-31\n  reason: tour\n'
    )
    requests = (office["request"], node["request"])
    wrong = ("--digits", office["digits"], "--digits", "0000 0000")
    error = shell.run("coordinator", "admit", "--home", "alice", *requests, *wrong, fails=3)
    assert "digits-differ" in error
    digits = ("--digits", office["digits"], "--digits", node["digits"], "--policy", "rules.yaml")
    error = shell.run("node", "report", "--area", "KG-O", "--category", "rumour", "--severity", "2", fails=3)
    assert "not-admitted" in error
    shell.run("coordinator", "admit", "--home", "alice", *requests, *digits)
    shell.run("coordinator", "sign", "--home", "bob", "draft.json")
    shell.run("coordinator", "publish", "--home", "bob", "draft.json")


REPORT = ("node", "report", "--area", "KG-O", "--category", "rumour", "--severity", "2", "--tlp", "GREEN")


def test_every_role_does_its_part_from_its_own_home(shell: Shell) -> None:
    found(shell)
    preview = shell.run(*REPORT, "--summary", "Talk.", "--preview")
    assert "unrcca will read: summary (rule unrcca-all)" in preview
    rule = "unrcca-all grants summary, account to office:unrcca; areas KG; tlp_up_to AMBER; expires 2027-12-31."
    assert rule in shell.run("node", "rules")
    sent = shell.json(*REPORT, "--summary", "Talk of a fight.", "--account", "At the bazaar.", "--lang", "en")
    assert sent["state"] == "accepted"
    assert sent["readers"] == [{"office": "unrcca", "compartments": ["summary", "account"], "rules": ["unrcca-all"]}]
    value = {
        "area": "KG-O",
        "categories": ["calm"],
        "severity": 1,
        "day": "2026-10-01",
        "tlp": "CLEAR",
        "summary": {"text": "Тынч.", "lang": "ky"},
    }
    (shell.directory / "draft-report.json").write_text(json.dumps(value))
    shell.json("node", "report", "draft-report.json")
    shell.json("node", "report", "-", stdin=json.dumps({**value, "day": "2026-10-02"}))
    lines: list[Any] = []
    deadline = time.monotonic() + 20
    while len(lines) < 3 and time.monotonic() < deadline:
        lines += [json.loads(line) for line in shell.run("office", "follow", "--once", "--json").splitlines()]
    assert sorted(line["day"] for line in lines)[:2] == ["2026-10-01", "2026-10-02"]
    assert next(line for line in lines if line["id"] == sent["id"])["account"]["text"] == "At the bazaar."
    assert "Talk of a fight." in shell.run("office", "show", "--id", sent["id"])
    passed_on = shell.run("office", "show", "--id", sent["id"], "--sd-jwt")
    assert passed_on.count("~") == 3
    (shell.directory / "report.txt").write_text(passed_on)
    shown = shell.json("verify", "report.txt", "--home", "desk")
    assert (shown["id"], shown["discloses"]) == (sent["id"], "summary, account")
    assert "no-author" in shell.run("verify", "report.txt", fails=2)
    (shell.directory / "report.txt").write_text(passed_on.replace("~W", "~X", 1))
    assert "not-as-signed" in shell.run("verify", "report.txt", "--home", "desk", fails=6)
    assert "Nothing was set aside" in shell.run("office", "show", "--problems")
    assert len(shell.json("node", "outbox")["entries"]) == 3
    (shell.directory / "receipt.json").write_text(shell.run("node", "outbox", "--receipt", sent["id"]))
    assert "It holds." in shell.run("verify", "receipt.json", "--home", "node")
    text = (shell.directory / "receipt.json").read_text().replace("unrcca-all", "unrcca-alL")
    (shell.directory / "receipt.json").write_text(text)
    assert "bad-receipt" in shell.run("verify", "receipt.json", "--home", "node", fails=6)
    assert "It holds." in shell.run("verify", "network.json")
    assert shell.json("hub", "status")["receipts"] == {"accepted": 3}
    assert shell.json("node", "status")["outbox"] == {"accepted": 3}
    assert {row["role"] for row in shell.json("coordinator", "members", "list", "--home", "bob")["members"]} == {
        "office",
        "monitor",
    }


def test_bad_input_gets_an_error_that_says_what_to_do_and_a_code(shell: Shell) -> None:
    found(shell)
    for words, code, status in (
        ((*REPORT[:3], "KG-X", *REPORT[4:], "--summary", "x"), "unknown-area", 3),
        ((*REPORT[:5], "rumor", *REPORT[6:], "--summary", "x"), "bad-field", 2),
        (REPORT, "bad-field", 2),
        ((*REPORT, "--summary", "x", "--day", "2031-01-01"), "future-dated", 3),
        ((*REPORT, "--summary", "x", "--not-to", "group:nobody"), "unknown-reader", 2),
        (("node", "report", "no-such-file"), "system", 1),
        (("office", "show", "--id", "AAAAAAAAAAAAAAAAAAAAAA"), "not-here", 3),
        (("office", "show", "--home", "node"), "another-role", 3),
        (("office", "show", "--sd-jwt"), "malformed", 2),
        (("node", "status", "--home", "nowhere"), "no-vault", 7),
        (("hub", "init"), "exists", 3),
    ):
        error = shell.run(*words, fails=status)
        assert f"(code: {code})" in error, error
    shell.environment["KENGELE_PASSPHRASE"] = "something else entirely"
    assert "wrong-passphrase" in shell.run("node", "status", fails=5)


def test_a_report_written_without_a_line_goes_out_when_there_is_one(shell: Shell) -> None:
    found(shell)
    first = shell.json(*REPORT, "--summary", "First.", "--lang", "en")
    assert first["state"] == "accepted"
    card = shell.directory / "node" / "network.json"
    whole = card.read_text()
    port = json.loads(whole)["urls"][0].rpartition(":")[2]
    card.write_text(whole.replace(f":{port}", ":1"))
    kept = shell.json(*REPORT, "--summary", "Second.", "--lang", "en")
    assert kept["state"] == "waiting"
    card.write_text(whole)
    node = subprocess.Popen(
        [sys.executable, "-m", "kengele_node.cli", "node", "run", "--json"],
        cwd=shell.directory,
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert node.stdout is not None
    assert json.loads(node.stdout.readline())["id"] == kept["id"]
    assert "in-use" in shell.run("node", "run", fails=3)
    node.send_signal(signal.SIGTERM)
    assert node.wait(60) == 130
    node.stdout.close()


def test_a_node_without_a_line_takes_the_rules_from_a_stick(shell: Shell) -> None:
    found(shell)
    card = shell.directory / "node" / "network.json"
    whole = card.read_text()
    card.write_text(whole.replace(json.loads(whole)["urls"][0].rpartition(":")[2], "1"))
    assert "no-trust" in shell.run("node", "rules", fails=6)
    assert shell.json("coordinator", "export", "--home", "bob", "stick")["version"] == 2
    assert not list((shell.directory / "stick").rglob("*monitors*"))
    taken = shell.json("node", "rules", "--from", "stick")
    assert (taken["version"], taken["rules"], taken["asked_hub"]) == (2, 1, False)
    kept = shell.json(*REPORT, "--summary", "Written far from any line.", "--lang", "en")
    assert kept["state"] == "waiting"
    assert kept["readers"][0]["office"] == "unrcca"
    # A monitor's stick lacks what a desk needs, and the desk says what to ask for.
    assert "export DIR --office unrcca" in shell.run("office", "rules", "--from", "stick", fails=6)
    shell.run("coordinator", "export", "--home", "bob", "desk-stick", "--office", "unrcca")
    assert list((shell.directory / "desk-stick").rglob("*monitors*"))
    assert shell.json("office", "rules", "--from", "desk-stick")["version"] == 2
    (shell.directory / "stick" / "metadata" / "timestamp.json").write_text("{}")
    assert "not-served" in shell.run("node", "rules", "--from", "stick", fails=6)
    assert "not-served" in shell.run("node", "rules", "--from", "nowhere", fails=6)


def test_a_coordinator_gives_her_seat_to_another(shell: Shell) -> None:
    found(shell)
    shell.run("coordinator", "init", "--home", "dora")
    carol = shell.json("verify", "carol/card.json")["id"]
    drafted = shell.json("coordinator", "seats", "--home", "alice", "--add", "dora/card.json", "--remove", carol)
    dora = shell.json("verify", "dora/card.json")["id"]
    assert drafted["changes"][0].startswith("From then on 2 signatures count, of: ")
    assert dora in drafted["changes"][0]
    assert carol not in drafted["changes"][0]
    shell.run("coordinator", "sign", "--home", "bob", drafted["name"])
    shell.run("coordinator", "publish", "--home", "alice", drafted["name"])
    shell.run("coordinator", "join", "--home", "dora", "network.json")
    shell.run("coordinator", "join", "--home", "carol", "network.json")
    assert "not-admitted" in shell.run("coordinator", "members", "list", "--home", "carol", fails=3)
    renewed = shell.json("coordinator", "renew", "--home", "dora")
    shell.run("coordinator", "sign", "--home", "bob", renewed["name"])
    version = shell.json("coordinator", "publish", "--home", "dora", renewed["name"])["version"]
    assert version > 2
    assert shell.json("node", "rules")["version"] == version


def test_a_refused_report_is_kept_corrected_and_sent_again(shell: Shell) -> None:
    found(shell)
    shell.run(*REPORT, "--summary", "Rules are known now.")
    node = shell.json("node", "status")["monitor"]
    shell.run("coordinator", "members", "suspend", node, "--home", "alice")
    shell.run("coordinator", "sign", "--home", "bob", "draft.json")
    shell.run("coordinator", "publish", "--home", "bob", "draft.json")
    told = shell.run(*REPORT, "--summary", "Written while suspended.", fails=3)
    assert "monitor-suspended" in told
    (entry,) = (row for row in shell.json("node", "outbox")["entries"] if row["state"] == "refused")
    text = shell.run("node", "outbox", "--draft", str(entry["number"]))
    assert json.loads(text)["summary"]["text"] == "Written while suspended."
    shell.run("coordinator", "members", "restore", node, "--home", "alice")
    shell.run("coordinator", "sign", "--home", "bob", "draft.json")
    shell.run("coordinator", "publish", "--home", "bob", "draft.json")
    (shell.directory / "again.json").write_text(text)
    sent = shell.json("node", "report", "again.json", "--replaces", str(entry["number"]))
    assert sent["state"] == "accepted"
    assert [row["state"] for row in shell.json("node", "outbox")["entries"]] == ["accepted", "accepted"]
    assert "not-refused" in shell.run("node", "report", "again.json", "--replaces", str(entry["number"]), fails=3)


def test_who_is_asked_for_a_report_can_leave_at_any_question_and_nothing_is_kept(shell: Shell) -> None:
    found(shell)
    answers = (
        ("Area, code or name (KG-O Osh Region) [KG-O]: ", ""),
        ("? lists them): ", "rumour"),
        ("to 5 (many deaths): ", "2"),
        ("[AMBER+STRICT]: ", "GREEN"),
        ("[und]: ", "ky"),
        ("naming nobody (empty: none): ", "Базарда уруш жөнүндө сөз."),
        ("account (empty: none): ", ""),
        ("place (empty: none): ", ""),
        ("known (empty: leave out): ", ""),
        ("(yes/no) [no]: ", "yes"),
    )
    for last in (0, 3, len(answers) - 1):
        person = Person(shell, "node", "report")
        for question, answer in answers[:last]:
            person.reads(question)
            person.types(f"{answer}\n")
        person.reads(answers[last][0])
        person.types("\x03")
        person.reads("Nothing was kept.")
        assert person.leaves() == 130
    assert shell.json("node", "outbox")["entries"] == []
    person = Person(shell, "node", "report")
    for question, answer in answers:
        person.reads(question)
        person.types(f"{answer}\n")
    person.reads("Accepted: the hub has report 1")
    assert person.leaves() == 0


@pytest.fixture
def shell_behind_tls(tmp_path: Path) -> Iterator[Shell]:
    """A shell beside a hub with a certificate that it made itself."""
    tls, _ = make_certificate(tmp_path)
    files = ("--tls-certificate", str(tls.certificate), "--tls-key", str(tls.key), "--tls-ca", str(tls.certificate))
    yield from beside_a_hub(tmp_path, *files, "--websocket-port", free_port())


def test_a_hubs_own_certificate_travels_in_the_cards_and_websocket_is_a_way_in(shell_behind_tls: Shell) -> None:
    shell = shell_behind_tls
    found(shell)
    assert shell.json(*REPORT, "--summary", "By NATS.", "--lang", "en")["state"] == "accepted"
    card = shell.directory / "node" / "network.json"
    nats, web = json.loads(card.read_text())["urls"]
    assert (nats[:6], web[:6]) == ("tls://", "wss://")
    card.write_text(card.read_text().replace(nats, "tls://127.0.0.1:1"))
    assert shell.json("node", "rules")["asked_hub"]


WIDER = """
- always: no office:unrcca may open source
- id: unrcca-all
  grant: [summary, account]
  to: [office:unrcca]
  areas: [KG]
  categories: ["*"]
  tlp_up_to: AMBER
  expires: 2027-12-31
  reason: tour
- id: unrcca-people
  grant: [people]
  to: [office:unrcca]
  areas: [KG-O]
  categories: ["*"]
  tlp_up_to: AMBER
  expires: 2027-06-30
  reason: tour
"""


def test_rules_go_from_draft_to_effect_and_every_signer_sees_who_gains(shell: Shell) -> None:
    found(shell)
    policy = ("coordinator", "policy")
    with shell.locked():
        # Bob published; Alice has not looked since.
        shell.run(*policy, "lint", "rules.yaml", "--home", "bob")
        assert "In force is taken to be version 1" in shell.run(
            *policy, "diff", "rules.yaml", "--home", "alice", fails=2
        )
    draft = shell.directory / "wider.yaml"
    draft.write_text(WIDER)
    told = shell.run(*policy, "diff", "wider.yaml", "--home", "bob")
    assert "WIDER: unrcca gains people; it can give a person away." in told
    assert "By unrcca-people; for one, a report from KG-O" in told
    assert "widens-sensitive" in shell.run(*policy, "lint", "wider.yaml", "--home", "bob")
    header = ("--area", "KG-O", "--category", "rumour", "--severity", "3", "--tlp", "AMBER")
    asked = shell.json(*policy, "explain", *header, "--home", "bob")
    assert asked["offices"]["unrcca"]["summary"] == {
        "allowed": True,
        "rules": ["unrcca-all"],
        "would": ["It ends after 2027-12-31, with 'unrcca-all'."],
    }
    shown = shell.json(*policy, "who", "wider.yaml", "--area", "KG", "--tlp", "AMBER", "--home", "bob")
    assert [shown["offices"]["unrcca"][name]["share"] for name in ("summary", "people", "source")] == [
        "all",
        "some",
        "none",
    ]
    assert "It holds." in shell.run(*policy, "assert", "wider.yaml", "--home", "bob")

    made = shell.json(*policy, "propose", "wider.yaml", "--home", "alice")
    assert [(row["office"], row["compartment"], row["rules"]) for row in made["effect"]["gained"]] == [
        ("unrcca", "people", ["unrcca-people"])
    ]
    assert made["needs"] == 1
    signed = shell.run(*policy, "sign", made["name"], "--home", "bob")
    assert "WIDER: unrcca gains people" in signed
    assert "It must stay so from now on that no office:unrcca may open source." in signed
    shell.run(*policy, "publish", made["name"], "--home", "bob")
    assert shell.json(*policy, "show", "--home", "bob")["version"] == 3

    draft.write_text(WIDER.replace("grant: [people]", "grant: [people, source]"))
    error = shell.run(*policy, "propose", "wider.yaml", "--home", "alice", fails=3)
    assert "(code: assertion-broken)" in error
    assert "unrcca may open source of a report from KG-O" in error
    draft.write_text(WIDER.replace("office:unrcca]", "office:unrca]"))
    error = shell.run(*policy, "propose", "wider.yaml", "--home", "alice", fails=2)
    assert "Line 5, column 8" in error
    assert "Perhaps: office:unrcca" in error
    assert shell.json(*policy, "show", "--home", "bob")["version"] == 3


def test_every_command_has_help_with_an_example(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    for words in (
        *(("node", action) for action in ("init", "join", "report", "outbox", "share", "run", "status", "rules")),
        *(("office", action) for action in ("init", "join", "follow", "show", "share", "rules")),
        *(("hub", action) for action in ("init", "run", "status")),
        *(("coordinator", action) for action in ("init", "found", "admit", "policy", "sign", "publish")),
        *(
            ("coordinator", "policy", verb)
            for verb in ("lint", "explain", "who", "diff", "replay", "assert", "propose", "show", "sign", "publish")
        ),
        *(
            ("coordinator", "members", action)
            for action in ("list", "invite", "pending", "answer", "approve", "deny", "suspend", "restore", "revoke")
        ),
        ("coordinator", "members"),
        ("verify",),
        ("demo",),
    ):
        assert "Example:  kengele" in shell.run(*words, "--help")
    assert story.data("policy.yaml").exists()
