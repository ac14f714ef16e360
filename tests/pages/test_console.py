"""The coordinators' console in a real browser, before a real hub: by mouse, keyboard, without scripts, by strangers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Response, expect

from kengele_node.demo.network import Network
from kengele_schemas import metadata
from kengele_testing.browser import CHROMIUM, MISSING, browser, hold
from kengele_testing.console import Console, entered, inside, running, unlock

pytestmark = [
    pytest.mark.full,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason=MISSING),
]
PLACES = ("rules", "draft", "approvals", "members", "invitations", "audit")
FIRST_LOAD = 150_000


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """The demonstration's network, its hub running."""
    network = Network.at(tmp_path_factory.mktemp("console") / "network")

    async def begin() -> None:
        await network.found()
        await network.admit(("osh", "khartoum"))

    try:
        asyncio.run(begin())
        yield network
    finally:
        network.close()


@pytest.fixture
def consoles(network: Network) -> Iterator[dict[str, Console]]:
    """Two coordinators' consoles."""
    with ExitStack() as stack:
        coordinators = network.home / "coordinators"
        yield {
            name: stack.enter_context(running(coordinators / name, network.home / "key"))
            for name in ("aigul", "moussa")
        }


@pytest.fixture(scope="module")
def driven() -> Iterator[Browser]:
    with browser() as started:
        yield started


def policy_version(network: Network) -> int:
    # Playwright has a loop of its own in this thread.
    with ThreadPoolExecutor(1) as thread:
        files = thread.submit(lambda: asyncio.run(network.files("nyambura"))).result(60)
    return int(metadata.document_of(files, "policy.json")["version"])


def fill(page: Page, name: str) -> None:
    """A rule that gives CEWARN the summaries of one country until a date."""
    page.get_by_label("Name of the rule").fill(name)
    page.get_by_role("checkbox", name="summary").check()
    page.get_by_role("checkbox", name="office:cewarn").check()
    page.get_by_label("Areas").fill("Kyrgyzstan")
    page.get_by_label("Last day").fill("2027-03-31")
    page.get_by_label("Reason").fill("A trial of three months")


def begin(page: Page) -> None:
    """Goes to the draft, beginning one if there is none."""
    page.get_by_role("link", name="Draft", exact=True).click()
    start = page.get_by_role("button", name="Begin a draft")
    if start.count():
        start.click()


def test_a_first_time_coordinator_grants_one_compartment_sees_who_gains_and_hands_it_to_the_second_signer(
    network: Network, consoles: dict[str, Console], driven: Browser, tmp_path: Path
) -> None:
    before = policy_version(network)
    page = entered(driven, consoles["aigul"])
    begin(page)
    page.get_by_role("link", name="Add a rule").click()
    fill(page, "cewarn-kg")
    page.get_by_label("A report from").fill("KG-O")
    expect(page.locator("#effect .gains").first).to_contain_text("cewarn will read summary")
    hold(page, tmp_path, "draft-edited")
    page.get_by_role("button", name="Keep this rule in the draft").click()
    page.get_by_role("link", name="Draft", exact=True).click()
    page.get_by_role("button", name="Sign it and hand it to the second coordinator").click()
    unlock(page, consoles["aigul"].key)
    expect(page.get_by_role("status").first).to_contain_text("signed by you")
    assert policy_version(network) == before

    other = entered(driven, consoles["moussa"])
    other.get_by_role("link", name="Approvals").click()
    expect(other.get_by_text("Rule cewarn-kg")).to_contain_text("office:cewarn")
    hold(other, tmp_path, "approvals")
    other.get_by_role("button", name="Sign it").click()
    unlock(other, consoles["moussa"].key)
    other.get_by_role("button", name="Bring it into force").click()
    expect(other.get_by_role("status").first).to_contain_text("in force")
    assert policy_version(network) == before + 1
    page.get_by_role("link", name="Rules").click()
    expect(page.get_by_role("row", name="cewarn-kg").first).to_contain_text("Kyrgyzstan")


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("language", ["en", "ar", "ru"])
def test_every_page_is_accessible_at_any_width_in_both_directions(
    consoles: dict[str, Console], driven: Browser, tmp_path: Path, width: int, language: str
) -> None:
    console = consoles["aigul"]
    page = entered(driven, console, width=width, language=language)
    assert page.locator("html").get_attribute("dir") == ("rtl" if language == "ar" else "ltr")
    names = page.get_by_role("navigation").get_by_role("link").all_inner_texts()
    assert ("القواعد" in names, "Rules" in names) == (language == "ar", language == "en")
    for place in (*PLACES, "draft?edit=new", "audit?ask=1", "no-such-page"):
        page.goto(inside(page, place))
        if place != "no-such-page":
            hold(page, tmp_path, f"{place.replace('?', '-')}-{width}-{language}")


def test_a_newcomer_is_invited_reads_digits_out_and_is_proposed(
    network: Network, consoles: dict[str, Console], driven: Browser, tmp_path: Path
) -> None:
    page = entered(driven, consoles["aigul"])
    page.get_by_role("link", name="Invitations").click()
    page.get_by_label("Areas").fill("KG-N")
    page.get_by_role("button", name="Make an invitation").click()
    unlock(page, consoles["aigul"].key)
    link = page.get_by_label("As a link").input_value()
    hold(page, tmp_path, "invited")
    command = [sys.executable, "-m", "kengele_node.cli", "node", "join", link, "--home", str(tmp_path / "node")]
    with subprocess.Popen(
        [*command, "--json", "--key-file", str(network.home / "key")], stdout=subprocess.PIPE, text=True
    ) as newcomer:
        try:
            assert newcomer.stdout is not None
            told: dict[str, str] = {}
            while "digits" not in told:
                told = json.loads(newcomer.stdout.readline())
                page.goto(inside(page, "invitations"))
            page.get_by_label("The digits that the newcomer reads out").fill("0000 0000")
            page.get_by_role("button", name="Compare").click()
            expect(page.get_by_role("alert")).to_contain_text("not the digits")
            page.goto(inside(page, "invitations"))
            page.get_by_label("The digits that the newcomer reads out").fill(told["digits"])
            page.get_by_role("button", name="Compare").click()
            expect(page.get_by_role("status").first).to_contain_text("signed by you")
            expect(page.get_by_text("Monitor in KG").first).to_contain_text("is new")
        finally:
            newcomer.terminate()


def test_the_log_is_proved_before_it_is_searched(consoles: dict[str, Console], driven: Browser) -> None:
    page = entered(driven, consoles["aigul"])
    page.get_by_role("link", name="Audit").click()
    page.get_by_role("button", name="Prove the log").click()
    expect(page.get_by_role("status")).to_contain_text("The log holds")
    expect(page.get_by_text("rule unrcca-central-asia: added")).to_be_visible()
    page.goto(inside(page, "audit?ask=1&since=yesterday"))
    expect(page.get_by_role("alert")).to_contain_text("A day is not one")


def test_all_of_it_works_without_scripts(consoles: dict[str, Console], driven: Browser) -> None:
    page = entered(driven, consoles["aigul"], java_script_enabled=False)
    begin(page)
    page.get_by_role("link", name="Add a rule").click()
    fill(page, "cewarn-kg-plain")
    page.get_by_role("button", name="Keep this rule in the draft").click()
    expect(page.locator("#effect")).to_contain_text("cewarn-kg-plain")
    page.get_by_role("link", name="Draft", exact=True).click()
    page.get_by_role("button", name="Throw the draft away").click()
    expect(page.get_by_role("heading", name="Rules in force")).to_be_visible()


def test_a_rule_can_be_written_with_the_keyboard_alone(consoles: dict[str, Console], driven: Browser) -> None:
    page = entered(driven, consoles["aigul"])
    begin(page)
    page.goto(inside(page, "draft?edit=new"))
    wanted = {"id": "by-keys", "areas": "KG", "reason": "keys"}
    reached: set[str] = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.name || ''")
        value = page.evaluate("document.activeElement.value || ''")
        if name in wanted:
            page.keyboard.press("Control+A")
            page.keyboard.type(wanted[name])
        elif (name, value) in (("compartments", "summary"), ("to", "office:cewarn")):
            page.keyboard.press("Space")
        elif name == "expires":
            page.keyboard.type("03312027")
        elif page.evaluate("document.activeElement.textContent").strip() == "Keep this rule in the draft":
            page.keyboard.press("Enter")
            break
        reached.add(name)
    page.wait_for_url("**/draft?edit=by-keys")
    assert {"id", "kind", "compartments", "to", "areas", "categories", "expires", "reason"} <= reached
    page.get_by_role("link", name="Draft", exact=True).click()
    page.get_by_role("button", name="Throw the draft away").click()


def test_two_windows_lose_nothing_of_each_other_and_the_conflict_is_shown(
    consoles: dict[str, Console], driven: Browser
) -> None:
    one, two = (entered(driven, consoles["aigul"]) for _ in range(2))
    begin(one)
    for page, name in ((one, "first-window"), (two, "second-window")):
        page.goto(inside(page, "draft?edit=new"))
        fill(page, name)
    one.get_by_role("button", name="Keep this rule in the draft").click()
    one.wait_for_url("**/draft?edit=first-window")
    two.get_by_role("button", name="Keep this rule in the draft").click()
    expect(two.get_by_role("alert")).to_contain_text("changed meanwhile")
    assert two.get_by_label("Name of the rule").input_value() == "second-window"
    assert two.get_by_label("Areas").input_value() == "Kyrgyzstan"
    two.get_by_role("button", name="Keep this rule in the draft").click()
    two.wait_for_url("**/draft?edit=second-window")
    two.get_by_role("link", name="Draft", exact=True).click()
    for name in ("first-window", "second-window"):
        expect(two.get_by_role("row", name=name).first).to_be_visible()
    two.get_by_role("button", name="Throw the draft away").click()


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("Areas", "Kyrgistan", "Perhaps"),
        ("Last day", "", "grants without end"),
        ("Reason", "", "reason"),
    ],
)
def test_a_rule_that_is_none_is_told_with_what_to_do_and_keeps_what_was_entered(
    consoles: dict[str, Console], driven: Browser, field: str, value: str, told: str
) -> None:
    page = entered(driven, consoles["aigul"])
    begin(page)
    page.goto(inside(page, "draft?edit=new"))
    fill(page, "wrong-rule")
    page.get_by_label(field).fill(value)
    page.get_by_role("button", name="Keep this rule in the draft").click()
    expect(page.get_by_role("alert")).to_contain_text(told)
    assert page.get_by_label("Name of the rule").input_value() == "wrong-rule"
    assert page.get_by_role("checkbox", name="summary").is_checked()


def test_a_first_page_weighs_little(consoles: dict[str, Console], driven: Browser) -> None:
    page = entered(driven, consoles["aigul"])
    answers: list[Response] = []
    page.on("response", lambda answer: answers.append(answer))
    for place in PLACES:
        answers.clear()
        page.goto(inside(page, place))
        assert 0 < sum(len(answer.body()) for answer in answers) < FIRST_LOAD, place
