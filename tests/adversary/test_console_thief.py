"""Others on the machine, and other sites' pages, cannot act through a coordinator's console: real browser, real user.

Some attackers below hold more than they could get: a session's cookie, its secret path and a form's token. What then
still stands in the way is what the test is about.
"""

from __future__ import annotations

import asyncio
import html
import http.client
import json
import os
import pwd
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from nacl.signing import SigningKey
from playwright.sync_api import Browser, Page, expect

from kengele_node.coordinator import board
from kengele_node.demo.network import Network
from kengele_node.member import now
from kengele_node.vault import LIGHT, Lock, Vault
from kengele_schemas import drafts, local_pages, metadata, signatures
from kengele_schemas.drafts import Draft
from kengele_schemas.encoding import canonical
from kengele_testing.browser import CHROMIUM, MISSING, browser, hold, opened
from kengele_testing.console import COMMAND, Console, entered, inside, running, unlock

pytestmark = [
    pytest.mark.full,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason=MISSING),
]
PLACES = ("rules", "draft", "approvals", "members", "invitations", "audit", "draft?edit=new", "audit?ask=1")
PASSPHRASE = "four words that fit"
HOSTILE = "\"'><img data-evil src=x>"


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """The demonstration's network, below directories that any user may walk through."""
    with tempfile.TemporaryDirectory(prefix="kengele-thief-") as folder:
        network = Network.at(Path(folder) / "network")

        async def begin() -> None:
            await network.found()
            await network.admit(("osh",))

        try:
            asyncio.run(begin())
            for directory in (Path(folder), network.home, network.home / "coordinators"):
                directory.chmod(0o755)
            yield network
        finally:
            network.close()


@pytest.fixture(scope="module")
def driven() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture
def console(network: Network, tmp_path: Path) -> Iterator[Console]:
    """A console whose terminal is ``errors`` in the test's directory."""
    with (tmp_path / "errors").open("w") as errors:
        home = network.home / "coordinators" / "aigul"
        with running(home, network.home / "key", errors=errors) as console:
            yield console


@dataclass(frozen=True)
class Stolen:
    """All by which a session is known."""

    place: str
    cookie: str
    form: str


def stolen(page: Page) -> Stolen:
    page.goto(inside(page, "rules"))
    (cookie,) = [one for one in page.context.cookies() if one["name"] == "kengele"]
    token = page.locator("input[name=form]").first.input_value()
    return Stolen(page.url.removesuffix("/rules").partition("/s/")[2], f"kengele={cookie['value']}", token)


def ask(
    console: Console, path: str, *, data: Mapping[str, str] | None = None, **headers: str
) -> tuple[int, Mapping[str, str], str]:
    """Status, headers and text of an answer, without a browser. ``_`` in a header's name stands for a hyphen."""
    line = http.client.HTTPConnection("127.0.0.1", console.port, timeout=30)
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        form = {"Content-Type": "application/x-www-form-urlencoded"} if data is not None else {}
        body = urlencode(data) if data is not None else None
        line.request("GET" if data is None else "POST", path, body, {**form, **sent})
        answer = line.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        line.close()


def test_another_user_cannot_hold_the_consoles_files_with_idle_connections(console: Console) -> None:
    def files() -> int:
        return len(list(Path(f"/proc/{console.process.pid}/fd").iterdir()))

    before = files()
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(socket.create_connection(("127.0.0.1", console.port), timeout=30))
        for _ in range(3):
            assert ask(console, "/")[0] == 403
        assert files() <= before + local_pages.MOST + 2


class Elsewhere(ThreadingHTTPServer):
    """A server at another port of 127.0.0.1: it answers everything with one page, and keeps what it was sent."""

    def __init__(self) -> None:
        self.page = ""
        self.seen: list[tuple[str, str, str]] = []
        super().__init__(("127.0.0.1", 0), _Keeping)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Keeping(BaseHTTPRequestHandler):
    server: Elsewhere

    def do_GET(self) -> None:
        self.server.seen.append((self.command, self.path, self.headers.get("Cookie", "")))
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.server.page.encode())

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    with Elsewhere() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_a_server_at_another_port_cannot_collect_the_consoles_cookie_by_any_request(
    console: Console, driven: Browser, elsewhere: Elsewhere
) -> None:
    page = entered(driven, console)
    assert [one for one in page.context.cookies() if one["name"] == "kengele"]
    elsewhere.page = f"""<img src="/image"><img src="/s/"><img src="/s/guessed/rules"><iframe src="/frame"></iframe>
        <form method="post" action="{elsewhere.base}/form"><button>Go on</button></form>
        <script>fetch("/fetched", {{credentials: "include"}}).then(() => document.title = "done")</script>"""
    # As a link in a page of the console's own site, and as one that came by mail.
    page.evaluate("url => { const a = document.createElement('a'); a.href = url; document.body.append(a); a.click() }",
                  f"{elsewhere.base}/linked")  # fmt: skip
    page.wait_for_function("document.title == 'done'")
    page.get_by_role("button", name="Go on").click()
    page.wait_for_url("**/form")
    page.wait_for_function("document.title == 'done'")
    asked = {(method, path) for method, path, _ in elsewhere.seen}
    assert {("GET", "/linked"), ("GET", "/image"), ("GET", "/s/"), ("GET", "/fetched"), ("POST", "/form")} <= asked
    assert [cookie for _, _, cookie in elsewhere.seen if cookie] == []


def test_a_page_at_another_port_cannot_act_in_a_session_all_of_which_it_knows(
    console: Console, driven: Browser, elsewhere: Elsewhere
) -> None:
    page = entered(driven, console)
    held = stolen(page)
    # It sets the cookie by itself: cookies know no ports in that direction, either.
    inner = f"{console.base}/s/{held.place}"
    elsewhere.page = f"""<form method="post" action="{inner}/draft"><input name="form" value="{held.form}">
        <input name="what" value="begin"><button>Go on</button></form><a href="{inner}/rules">Look</a>"""
    for act, name in (("link", "Look"), ("button", "Go on")):
        page.goto(elsewhere.base)
        page.get_by_role(act, name=name).click()  # type: ignore[arg-type]
        page.wait_for_url(f"{console.base}/**")
        expect(page.locator("body")).to_contain_text("Open this page with a new address")
    page.goto(f"{inner}/draft")
    expect(page.get_by_text("There is no draft.")).to_be_visible()


def test_a_page_of_another_site_cannot_frame_the_console_nor_take_its_cookie_along(
    console: Console, driven: Browser, elsewhere: Elsewhere
) -> None:
    page = entered(driven, console)
    (cookie,) = [one for one in page.context.cookies() if one["name"] == "kengele"]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert re.fullmatch(r"/s/[\w-]{32}", cookie["path"])
    assert page.evaluate("document.cookie") == ""
    stranger = page.context.new_page()
    refused: list[str] = []
    stranger.on("console", lambda said: refused.append(said.text))
    # Sec-Fetch-Site would have it refused as well; a fresh address is for any browser, so what holds is the header.
    elsewhere.page = (
        f'<iframe src="{console.address()}"></iframe><script>onload = () => document.title = "done"</script>'
    )
    stranger.goto(elsewhere.base)
    stranger.wait_for_function("document.title == 'done'")
    assert any("frame-ancestors 'none'" in line for line in refused), refused


def test_every_answer_carries_the_headers_that_bind_a_browser(console: Console, driven: Browser) -> None:
    held = stolen(entered(driven, console))
    inner, cookie = f"/s/{held.place}", held.cookie
    answers = [
        *(ask(console, f"{inner}/{place}", Cookie=cookie) for place in PLACES),
        ask(console, f"{inner}/", Cookie=cookie),
        ask(console, f"{inner}/static/style.css", Cookie=cookie),
        ask(console, f"{inner}/no-such-page", Cookie=cookie),
        ask(console, f"{inner}/approvals", Cookie=cookie, data={"form": held.form, "what": "sign"}),
        ask(console, f"{inner}/draft", Cookie=cookie, data={"what": "begin"}),
        ask(console, "/rules"),
        ask(console, "/start?token=guessed"),
        ask(console, "/rules", Host="evil.example.org"),
    ]
    assert {status for status, _, _ in answers} == {200, 303, 403, 404, 421}
    for _, headers, text in answers:
        policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["form-action"] == "'self'"
        assert (headers["Referrer-Policy"], headers["Cache-Control"]) == ("no-referrer", "no-store")
        assert headers["X-Content-Type-Options"] == "nosniff"
        # What a page shows, somebody may photograph or save: it never says where its session is.
        assert held.place not in text
        assert "<script>" not in text


def test_a_stranger_or_another_sites_page_is_turned_away_in_the_same_words_whatever_it_asks_for(
    console: Console, driven: Browser
) -> None:
    page = entered(driven, console)
    held = stolen(page)
    inner, other = f"/s/{held.place}", stolen(entered(driven, console))
    said = set()
    for path, headers, data in (
        ("/", {}, None),
        ("/rules", {"Cookie": held.cookie}, None),
        (f"{inner}/rules", {}, None),
        (f"{inner}/rules", {"Cookie": "kengele="}, None),
        (f"{inner}/rules", {"Cookie": other.cookie}, None),
        (f"{inner}/no-such-page", {}, None),
        (f"{inner}/static/style.css", {}, None),
        (f"/s/{held.place}x/rules", {"Cookie": held.cookie}, None),
        (f"/s/{held.place}%2Fdraft/effect", {"Cookie": held.cookie}, {"form": held.form}),
        (f"{inner}/draft", {}, {"form": held.form, "what": "begin"}),
        (f"{inner}/rules", {"Cookie": held.cookie, "Sec-Fetch-Site": "cross-site"}, None),
        (f"{inner}/rules", {"Cookie": held.cookie, "Sec-Fetch-Site": "same-site"}, None),
    ):
        status, _, text = ask(console, path, data=data, **headers)
        assert status == 403, (path, headers)
        said.add(text)
    assert len(said) == 1
    for name in ("evil.example.org", f"evil.example.org:{console.port}", f"localhost:{console.port}", "127.0.0.1", ""):
        assert ask(console, f"{inner}/rules", Cookie=held.cookie, Host=name)[0] == 421
    # The right session, and a form that is another's.
    for form in ({"what": "begin"}, {"what": "begin", "form": other.form}):
        assert ask(console, f"{inner}/draft", data=form, Cookie=held.cookie)[0] == 403
    page.goto(inside(page, "draft"))
    expect(page.get_by_text("There is no draft.")).to_be_visible()


def test_an_address_lets_in_once_and_one_that_comes_twice_ends_what_it_opened(
    console: Console, driven: Browser
) -> None:
    address = console.address()
    path = address.removeprefix(console.base)
    assert ask(console, path, Sec_Purpose="prefetch")[0] == 403
    page = opened(driven, address)
    page.wait_for_url("**/s/*/rules")
    page.goto(inside(page, "members"))
    expect(page.get_by_role("heading", name="Members")).to_be_visible()
    assert ask(console, path)[0] == 403
    page.goto(inside(page, "members"))
    expect(page.locator("body")).to_contain_text("press Enter where the console was started")
    expect(entered(driven, console).get_by_role("heading", name="Rules in force")).to_be_visible()


def test_a_console_listens_on_this_machine_alone(console: Console) -> None:
    for address in {"127.0.0.2", *(row[4][0] for row in socket.getaddrinfo(socket.gethostname(), 0, socket.AF_INET))}:
        if address == "127.0.0.1":
            continue
        with pytest.raises(ConnectionRefusedError), socket.create_connection((address, console.port), timeout=10):
            pass


_OWN = b"{inner}/draft HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}"
_FORM = b"POST " + _OWN + b"\r\nContent-Type: application/x-www-form-urlencoded"
_AT = b" HTTP/1.1\r\nHost: {host}\r\n"
GARBAGE: Mapping[str, bytes] = {
    "a cookie beyond ASCII": b"GET {inner}/rules" + _AT + b"Cookie: kengele=CANARY\xc3\xa9\xff\r\n\r\n",
    "a cookie that is none": b"GET {inner}/rules" + _AT + b"Cookie: CANARY;\xff=;;=\"\\\x01\r\n\r\n",
    "a token beyond ASCII": b"GET /start?token=%ff%fe\xc3\xa9CANARY" + _AT + b"\r\n",
    "a host beyond ASCII": b"GET /rules HTTP/1.1\r\nHost: CANARY\xff\r\n\r\n",
    "no host": b"GET /rules HTTP/1.1\r\n\r\n",
    "a path beyond ASCII": b"GET {inner}/%ff\xffCANARY" + _AT + b"Cookie: {cookie}\r\n\r\n",
    "a session beyond ASCII": b"GET /s/%ff\xed\xb0\x80CANARY/rules" + _AT + b"\r\n",
    "a language beyond ASCII": b"GET {inner}/rules?lang=%ff\xff" + _AT
    + b"Cookie: {cookie}; lang=\xffCANARY\r\nAccept-Language: \xff,CANARY\r\n\r\n",
    "a request that is none": b"CANARY\xff\x00\r\n\r\n",
    "a number that is none": b"GET {inner}/draft?severity=\xd9\xa3CANARY&edit=%00" + _AT + b"Cookie: {cookie}\r\n\r\n",
    "a day that is none": b"GET {inner}/audit?ask=1&since=%00CANARY" + _AT + b"Cookie: {cookie}\r\n\r\n",
    "a form in no letters there are": _FORM + b"; charset=CANARY\r\nContent-Length: 6\r\n\r\nCANARY",
    "a form beyond UTF-8": _FORM + b"\r\nContent-Length: 8\r\n\r\nCANARY\xff\xfe",
    "a form without end": _FORM + b"\r\nContent-Length: 1048580\r\n\r\n" + b"CANARY=%ff&" * 95_326,
    "a form in parts that is none": b"POST " + _OWN
    + b"\r\nContent-Length: 6\r\nContent-Type: multipart/form-data; boundary=x\r\n\r\nCANARY",
    "a form of another kind": b"POST " + _OWN
    + b"\r\nContent-Length: 10\r\nContent-Type: application/json\r\n\r\n[\"CANARY\"]",
    "a method there is not": b"CANARY " + _OWN + b"\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("sentence", GARBAGE)
def test_garbage_is_answered_in_constant_words_and_printed_nowhere(
    console: Console, driven: Browser, tmp_path: Path, sentence: str
) -> None:
    held = stolen(entered(driven, console))
    request = GARBAGE[sentence]
    for mark, value in (("inner", f"/s/{held.place}"), ("cookie", held.cookie), ("host", f"127.0.0.1:{console.port}")):
        request = request.replace(f"{{{mark}}}".encode(), value.encode())
    with socket.create_connection(("127.0.0.1", console.port), timeout=60) as line:
        with suppress(ConnectionError):
            line.sendall(request)
        answer = line.recv(1 << 16)
    assert re.match(rb"HTTP/1\.[01] (200|400|403|404|405|413|421) ", answer), answer[:200]
    assert ask(console, f"/s/{held.place}/rules", Cookie=held.cookie)[0] == 200
    printed = (tmp_path / "errors").read_text()
    assert "Traceback" not in printed
    assert "CANARY" not in printed
    assert "failed" not in printed


def test_a_stolen_session_cannot_sign(network: Network, console: Console, driven: Browser, tmp_path: Path) -> None:
    other = network.home / "coordinators" / "moussa"
    with running(other, network.home / "key") as theirs:
        page = entered(driven, theirs)
        page.goto(inside(page, "members"))
        page.get_by_role("button", name="Suspend unowas").click()
        unlock(page, theirs.key)
        expect(page.get_by_role("status").first).to_contain_text("signed by you")
    page = entered(driven, console)
    held = stolen(page)
    page.goto(inside(page, "approvals"))
    (name,) = page.locator("input[name=name]").evaluate_all("all => [...new Set(all.map(one => one.value))]")
    approvals = f"/s/{held.place}/approvals"
    form = {"form": held.form, "name": name}
    for what in ("sign", "publish", "drop"):
        status, _, text = ask(console, approvals, data={**form, "what": what}, Cookie=held.cookie)
        assert (status, "Unlock and go on" in text) == (403, True), what
    for path, data in (
        ("members", {"member": "cewarn", "what": "suspend"}),
        ("invitations", {"what": "invite", "role": "monitor", "areas": "KG-N"}),
        ("invitations", {"what": "deny", "invitation": "x"}),
        ("invitations", {"what": "approve", "invitation": "x"}),
        ("draft", {"what": "propose", "revision": "1"}),
        ("draft", {"what": "Begin"}),
    ):
        status, _, text = ask(console, f"/s/{held.place}/{path}", data={"form": held.form, **data}, Cookie=held.cookie)
        assert (status, "Unlock and go on" in text) == (403, True), path
    for tries in (4, 3, 2, 1):
        guess = {**form, "what": "sign", "passphrase": f"guess {tries}"}
        status, _, text = ask(console, approvals, data=guess, Cookie=held.cookie)
        assert (status, f"<bdi>{tries}</bdi>" in text, "guess" in text) == (403, True, False)
    last = ask(console, approvals, data={**form, "what": "sign", "passphrase": "guess"}, Cookie=held.cookie)
    assert (last[0], last[2]) == (403, "This session is ended.")
    assert ask(console, f"/s/{held.place}/rules", Cookie=held.cookie)[0] == 403
    assert "that session is ended" in (tmp_path / "errors").read_text()
    # The coordinator comes by a new address and sees that nothing was signed; with her key file, she signs.
    page = entered(driven, console)
    page.goto(inside(page, "approvals"))
    expect(page.get_by_role("heading", name="Proposal")).to_have_count(1)
    expect(page.get_by_text("(you)")).to_have_count(0)
    page.get_by_role("button", name="Sign it").click()
    wrong = tmp_path / "wrong-key"
    wrong.write_bytes(bytes(32))
    unlock(page, wrong)
    expect(page.get_by_role("alert")).to_contain_text("That does not unlock this home.")
    unlock(page, console.key)
    expect(page.get_by_text("(you)")).to_have_count(1)
    # Within ten minutes she is not asked again.
    page.get_by_role("button", name="Take it off the board").click()
    expect(page.get_by_text("No proposal waits.")).to_be_visible()


Making = Callable[[dict[str, bytes], SigningKey], Draft]
"""Makes a draft upon what is in force, signed by one coordinator."""


def fewer_rules(files: dict[str, bytes], key: SigningKey) -> Draft:
    policy = metadata.document_of(files, "policy.json")
    shown = {**policy, "version": policy["version"] + 1, "rules": policy["rules"][:1]}
    return signatures.sign(drafts.edit(files, {"policy.json": shown}, now()), key)


def hiding(files: dict[str, bytes], key: SigningKey) -> Draft:
    """It shows fewer rules than it lists."""
    policy = metadata.document_of(files, "policy.json")
    listed = {**policy, "version": policy["version"] + 1}
    made = signatures.sign(drafts.edit(files, {"policy.json": listed}, now()), key)
    return replace(made, documents={"policy.json": canonical({**listed, "rules": policy["rules"][:1]})})


def without_a_custodian(files: dict[str, bytes], key: SigningKey) -> Draft:
    """It shows what it lists; by it nobody could read anything once the rules have run out."""
    document, custodian = (metadata.document_of(files, path) for path in ("offices.json", "network.json"))
    rows = [{**row, "status": "revoked"} if row["id"] == custodian["custodian"] else row for row in document["offices"]]
    return signatures.sign(drafts.edit(files, {"offices.json": {**document, "offices": rows}}, now()), key)


def pressed(network: Network, console: Console, driven: Browser, make: Making) -> tuple[list[int], int, str]:
    """How many have signed an honest draft and the one that is made once she was asked to sign both, and the answer to
    the second: once the page is unlocked, only the draft itself stands in the way."""
    aigul, moussa, _ = network.coordinators.values()

    async def propose() -> list[str]:
        files = await network.files("moussa")
        async with moussa.session() as session:
            return [await board.put(session, one(files, moussa.key)) for one in (fewer_rules, make)]

    async def signed_and_dropped(names: list[str]) -> list[int]:
        async with aigul.session() as session:
            found = [len(signatures.signed_by(await board.get(session, name))) for name in names]
            for name in names:
                await board.drop(session, name)
            return found

    def beside(work: Coroutine[Any, Any, list[Any]]) -> list[Any]:
        with ThreadPoolExecutor(1) as pool:  # the browser's driver has a loop in this thread
            return pool.submit(asyncio.run, work).result(60)

    names = beside(propose())
    page = entered(driven, console)
    held = stolen(page)
    page.goto(inside(page, "approvals"))
    sign = page.get_by_role("button", name="Sign it")
    expect(sign).to_have_count(1)
    sign.click()
    unlock(page, console.key)
    expect(page.get_by_text("(you)")).to_have_count(1)
    form = {"form": held.form, "name": names[1], "what": "sign"}
    status, _, text = ask(console, f"/s/{held.place}/approvals", data=form, Cookie=held.cookie)
    return beside(signed_and_dropped(names)), status, text


def test_a_draft_that_lists_other_rules_than_it_shows_is_signed_by_no_button(
    network: Network, console: Console, driven: Browser
) -> None:
    counts, status, text = pressed(network, console, driven, hiding)
    assert counts == [2, 1]
    assert (status, "not-as-shown" in text) == (400, True), (status, text)


def test_a_draft_that_no_command_signs_is_signed_by_no_button(
    network: Network, console: Console, driven: Browser
) -> None:
    counts, status, text = pressed(network, console, driven, without_a_custodian)
    assert counts == [2, 1]
    assert (status, "is-custodian" in text) == (400, True), (status, text)


def test_a_draft_that_was_changed_after_she_looked_at_it_is_not_signed(console: Console, driven: Browser) -> None:
    page = entered(driven, console)
    held = stolen(page)
    page.get_by_role("button", name="Begin a draft").click()
    page.goto(inside(page, "draft"))
    rule = page.locator("td a").first.get_attribute("href")
    assert rule is not None
    revision = page.locator("input[name=revision]").first.input_value()
    form = {"form": held.form, "what": "remove", "revision": revision, "rule": rule.partition("edit=")[2]}
    assert ask(console, f"/s/{held.place}/draft", data=form, Cookie=held.cookie)[0] == 303
    page.get_by_role("button", name="Sign it and hand it to the second coordinator").click()
    unlock(page, console.key)
    expect(page.get_by_role("alert")).to_contain_text("changed meanwhile")
    page.goto(inside(page, "approvals"))
    expect(page.get_by_text("No proposal waits.")).to_be_visible()
    page.goto(inside(page, "draft"))
    page.get_by_role("button", name="Throw the draft away").click()


def test_a_passphrase_is_asked_for_where_one_opens_the_home(network: Network, driven: Browser, tmp_path: Path) -> None:
    home, typed = tmp_path / "nyambura", tmp_path / "passphrase"
    shutil.copytree(network.home / "coordinators" / "nyambura", home)
    Vault.open(home, network.lock).relock(Lock(PASSPHRASE), cost=LIGHT)
    typed.write_text(PASSPHRASE)
    with running(home, typed, lock="--passphrase-file") as console:
        for width in (390, 1280):
            page = entered(driven, console, width=width, java_script_enabled=width == 1280)
            page.goto(inside(page, "invitations"))
            page.get_by_label("Areas").fill("KG-N")
            page.get_by_role("button", name="Make an invitation").click()
            field = page.get_by_label("Passphrase of this home")
            assert (field.get_attribute("type"), field.get_attribute("autocomplete")) == ("password", "off")
            for entry, what in (("not the one", "That does not unlock this home."), (PASSPHRASE, "The invitation")):
                if width == 1280:
                    hold(page, tmp_path, f"passphrase-{width}-{len(entry)}")
                else:
                    page.screenshot(path=tmp_path / f"passphrase-{width}-{len(entry)}.png", full_page=True)
                field.fill(entry)
                page.get_by_role("button", name="Unlock and go on").click()
                expect(page.locator("main")).to_contain_text(what)
                assert entry not in page.content()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("language", ["en", "ar"])
def test_the_page_that_asks_again_is_accessible(
    console: Console, driven: Browser, tmp_path: Path, width: int, language: str
) -> None:
    page = entered(driven, console, width=width, language=language)
    page.goto(inside(page, "invitations"))
    page.locator("#areas").fill("KG-N")
    page.locator("main button.first").last.click()
    expect(page.locator("input[type=file]")).to_be_visible()
    hold(page, tmp_path, f"proof-{width}-{language}")
    wrong = tmp_path / "wrong-key"
    wrong.write_bytes(bytes(32))
    page.locator("input[type=file]").set_input_files(wrong)
    page.locator("main button.first").click()
    expect(page.get_by_role("alert")).to_be_visible()
    hold(page, tmp_path, f"proof-wrong-{width}-{language}")


def test_no_page_takes_what_others_wrote_for_markup(network: Network, driven: Browser, tmp_path: Path) -> None:
    def change(before: Mapping[str, Any]) -> dict[str, Any]:
        offices, areas, policy = before["offices.json"], before["areas.json"], before["policy.json"]
        shown = {"name": HOSTILE}
        rules = [{**rule, "reason": HOSTILE, "expires": "2026-12-05"} for rule in policy["rules"]]
        rows = [{**row, **shown} if row["code"] in ("KG", "KG-O") else row for row in areas["areas"]]
        return {
            "network.json": {**before["network.json"], **shown},
            "offices.json": {**offices, "offices": [{**one, **shown} for one in offices["offices"]]},
            "areas.json": {**areas, "areas": rows},
            "policy.json": {**policy, "version": policy["version"] + 1, "rules": rules},
        }

    _alone(network.publish(change, ("aigul", "moussa")))
    with running(network.home / "coordinators" / "nyambura", network.home / "key") as console:
        page = entered(driven, console)
        seen = {}
        page.get_by_role("button", name="Begin a draft").click()
        asked = urlencode({"find": HOSTILE, "edit": HOSTILE, "made": HOSTILE, "report": HOSTILE, "area": HOSTILE})
        rule = page.locator("td a").first.get_attribute("href")
        for place in (*PLACES, *(f"{place}?{asked}" for place in PLACES[:6]), str(rule), f"audit?ask=1&{asked}"):
            page.goto(inside(page, place))
            assert page.locator("[data-evil]").count() == 0, place
            seen[place] = HOSTILE in html.unescape(page.content())
        # A page that never shows it would prove nothing.
        assert [place for place in (*PLACES[:4], str(rule)) if not seen[place] and place != "approvals"] == []
        page.goto(inside(page, "draft?edit=new"))
        page.get_by_label("Name of the rule").fill("hostile")
        page.get_by_label("Reason").fill(HOSTILE)
        page.get_by_label("Areas").fill(HOSTILE)
        page.locator("#rule").evaluate("form => form.noValidate = true")
        page.get_by_role("button", name="Keep this rule in the draft").click()
        expect(page.get_by_role("alert")).to_be_visible()
        assert page.get_by_label("Areas").input_value() == HOSTILE
        assert page.locator("[data-evil]").count() == 0
        page.goto(inside(page, "invitations"))
        page.locator("input[name=role][value=office]").check()
        page.get_by_label("Areas").fill("KG-O")
        page.locator("#office").fill("hostile")
        page.locator("#name").fill(HOSTILE)
        page.get_by_role("button", name="Make an invitation").click()
        # The page that asks again carries the form's fields.
        expect(page.locator("input[type=file]")).to_be_visible()
        assert page.locator("input[name=name]").get_attribute("value") == HOSTILE
        assert page.locator("[data-evil]").count() == 0
        unlock(page, console.key)
        expect(page.get_by_label("As a link")).to_be_visible()
        assert HOSTILE in html.unescape(page.content())
        assert page.locator("[data-evil]").count() == 0
        page.goto(inside(page, "members"))
        page.get_by_role("button", name="Suspend cewarn").click()
        expect(page.get_by_role("heading", name="Proposal").first).to_be_visible()
        assert page.locator("[data-evil]").count() == 0


def _alone(work: Any) -> None:
    # Playwright has a loop of its own in this thread.
    thread = threading.Thread(target=lambda: asyncio.run(work))
    thread.start()
    thread.join(120)
    assert not thread.is_alive()


STANDING = """#!{python}
import os, sys
os.mkfifo({wait!r}) if not os.path.exists({wait!r}) else None
with open({told!r}, "w") as told:
    told.write("\\n".join(sys.argv[1:]))
os.rename({told!r}, {told!r} + ".whole")
open({wait!r}).read()
"""
"""A browser that stands in the process table with its arguments until somebody lets it go."""


@contextmanager
def opening(network: Network, folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A console that opened a browser, which stands still: what that one was given, and the console."""
    told, wait, script = folder / "told", folder / "wait", folder / "browser"
    script.write_text(STANDING.format(python=sys.executable, told=str(told), wait=str(wait)))
    script.chmod(0o755)
    os.mkfifo(wait)
    command = [
        *COMMAND,
        "--home",
        str(network.home / "coordinators" / "aigul"),
        "--key-file",
        str(network.home / "key"),
    ]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "BROWSER": f"{script} %s &"},
    ) as process:
        try:
            whole = told.with_name("told.whole")
            until(whole.exists)
            yield whole.read_text(), process
        finally:
            process.terminate()
            # Whoever still waits for a word gets its end.
            os.close(os.open(wait, os.O_RDWR | os.O_NONBLOCK))


def until(holds: Any) -> None:
    """Waits, a minute at the most, until ``holds()``."""
    bell = threading.Event()
    for _ in range(1200):
        if holds():
            return
        bell.wait(0.05)
    raise AssertionError


def command_lines() -> str:
    """The arguments of all processes."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
        except OSError:
            continue
    return "\n".join(found)


def test_the_browser_is_given_a_private_file_that_goes_once_it_was_used(
    network: Network, driven: Browser, tmp_path: Path
) -> None:
    with opening(network, tmp_path) as (given, _):
        file = Path(given.removeprefix("file://"))
        assert given in command_lines()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        (address,) = set(re.findall(r"http://127\.0\.0\.1:\d+/start\?token=[\w-]+", file.read_text()))
        assert address.partition("token=")[2] not in command_lines()
        page = opened(driven, given)
        page.wait_for_url("http://127.0.0.1:*/s/*/rules")
        expect(page.get_by_role("heading", name="Rules in force")).to_be_visible()
        until(lambda: not file.parent.exists())
        assert page.url.partition("/s/")[2].partition("/")[0] not in command_lines()


THIEF = r"""
import glob, http.client, json, os, socket, sys
from urllib.parse import urlencode
asked = json.loads(sys.stdin.readline())
"a".encode("idna"), "a".encode("latin-1")
os.setgroups([]), os.setgid(asked["group"]), os.setuid(asked["user"])
found = {"uid": os.geteuid(), "read": [], "leaked": [], "answers": []}
for entry in glob.glob("/proc/[0-9]*/*"):
    if entry.rpartition("/")[2] not in ("cmdline", "environ"):
        continue
    try:
        text = open(entry, "rb").read()
    except OSError:
        continue
    found["leaked"] += [word for word in asked["secrets"] if word.encode() in text]
for path in asked["files"]:
    try:
        open(path, "rb").read()
        found["read"].append(path)
    except OSError:
        pass
form = {"Content-Type": "application/x-www-form-urlencoded"}
for method, path, cookie, body in asked["requests"]:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::ffff:127.0.0.1")):
        line = http.client.HTTPConnection("127.0.0.1", asked["port"])
        line.sock = socket.socket(family)
        line.sock.settimeout(60)
        line.sock.connect((address, asked["port"]))
        line.request(method, path, urlencode(body) if body else None, {"Cookie": cookie, **(form if body else {})})
        answer = line.getresponse()
        found["answers"].append([answer.status, answer.read().decode()])
        line.close()
# The kernel lists a socket that its owner closed as root's: it is sent, and nobody waits for an answer.
for method, path, cookie, body in asked["requests"]:
    if method == "POST":
        data = urlencode(body)
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", asked["port"])) as line:
                line.sendall((f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{asked['port']}\r\nCookie: {cookie}\r\n"
                    f"Content-Type: {form['Content-Type']}\r\nContent-Length: {len(data)}\r\n\r\n{data}").encode())
print(json.dumps(found))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="ONLY ROOT CAN BE ANOTHER USER: the second user was not tested")
def test_another_user_of_the_machine_cannot_act_through_the_console_with_all_that_can_be_stolen(
    network: Network, console: Console, driven: Browser, tmp_path: Path
) -> None:
    page = entered(driven, console)
    held, ticket = stolen(page), console.address()
    inner, start = f"/s/{held.place}", ticket.removeprefix(console.base)
    with opening(network, tmp_path) as (given, _):
        file = Path(given.removeprefix("file://"))
        theirs = file.read_text().partition("token=")[2].partition('"')[0]
        home = network.home / "coordinators" / "aigul"
        # As in homes that were made by hand: others may walk through, and what is in them is closed by itself.
        home.chmod(0o755)
        nobody = pwd.getpwnam("nobody")
        asked = {
            "user": nobody.pw_uid,
            "group": nobody.pw_gid,
            "port": console.port,
            "secrets": [held.place, held.cookie.partition("=")[2], held.form, ticket.partition("token=")[2], theirs],
            "files": [str(path) for path in home.rglob("*") if path.is_file() and path.name != "network.json"],
            "requests": [
                ("GET", f"{inner}/rules", held.cookie, None),
                ("GET", "/", "", None),
                ("GET", start, "", None),
                ("POST", f"{inner}/draft", held.cookie, {"form": held.form, "what": "begin"}),
                ("POST", f"{inner}/approvals", held.cookie, {"form": held.form, "what": "sign", "name": "x"}),
            ],
        }
        assert any(str(file) == path for path in asked["files"])
        try:
            tried = subprocess.run(
                [sys.executable, "-I", "-c", THIEF],
                input=json.dumps(asked) + "\n",
                capture_output=True,
                text=True,
                timeout=120,
                check=True,
            )
        finally:
            home.chmod(0o700)
    found = json.loads(tried.stdout)
    assert found["uid"] == nobody.pw_uid
    assert found["leaked"] == []
    assert [path for path in found["read"] if "/trust/" not in path] == []
    assert len(found["answers"]) == 10
    assert {(status, text) for status, text in found["answers"]} == {
        (403, "Open this page with a new address: press Enter where the console was started.")
    }
    page.goto(inside(page, "draft"))
    expect(page.get_by_text("There is no draft.")).to_be_visible()
    # Not even the address was used up by him.
    opened(driven, ticket).wait_for_url("**/s/*/rules")
