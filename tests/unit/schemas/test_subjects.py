"""Names on the bus: nothing that comes from outside can widen one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_schemas import subjects
from kengele_schemas.errors import Malformed
from kengele_schemas.nkeys import KeyPair

NKEY = KeyPair.generate("user").public
OF_A_MEMBER: list[Callable[[str], str]] = [
    subjects.reports_submit,
    subjects.trust_get,
    subjects.publish_metadata,
    subjects.join_credentials,
    subjects.audit_get,
    subjects.audit_cosign,
    subjects.letters_ask,
    subjects.inbox_prefix,
    subjects.feed_stream,
    subjects.feed_consumer,
    subjects.feed_subject,
    subjects.feed_next,
    subjects.refused,
]
OF_A_TOKEN: list[Callable[[str], str]] = [
    subjects.token,
    subjects.ledger_report,
    lambda name: subjects.ledger_entry("report", name),
    lambda name: subjects.ledger_entry(name, "1"),
    lambda name: subjects.feed_subject(NKEY, name or "."),
    lambda name: subjects.audited_cosignature(1, name or "."),
    lambda name: subjects.letter_item(name, "unrcca"),
    lambda name: subjects.letter_item("office", name),
    lambda name: subjects.consumer_next(name, "worker"),
    lambda name: subjects.consumer_next("LEDGER", name),
]
WIDER = ["", "*", ">", "a.b", ".", "a ", " a", "a\tb", "a\r\nPUB x 0", "a\n", "ä", "$JS", "a" * 65, "\x00", "a/b"]


def test_names_are_spelled_as_the_broker_is_configured() -> None:
    assert subjects.reports_submit(NKEY) == f"reports.{NKEY}.submit"
    assert subjects.trust_get(NKEY) == f"trust.{NKEY}.get"
    assert subjects.publish_metadata(NKEY) == f"publish.{NKEY}.metadata"
    assert subjects.join_credentials(NKEY) == f"join.{NKEY}.credentials"
    assert subjects.inbox_prefix(NKEY) == f"_INBOX_{NKEY}"
    assert subjects.feed_next(NKEY) == f"$JS.API.CONSUMER.MSG.NEXT.FEED_{NKEY}.{NKEY}"
    assert subjects.feed_subject(NKEY) == f"feed.{NKEY}"
    assert subjects.feed_subject(NKEY, "abc") == f"feed.{NKEY}.abc"
    assert subjects.ledger_report("abc") == "ledger.report.abc"
    assert (subjects.ledger_trust(7), subjects.ledger_trust(7, 2)) == ("ledger.trust.7", "ledger.trust.7-2")
    assert subjects.audit_get(NKEY) == f"audit.{NKEY}.get"
    assert subjects.audit_cosign(NKEY) == f"audit.{NKEY}.cosign"
    assert subjects.audited_cosignature(9) == "audited.cosignature.9.*"
    assert subjects.audited_cosignature(9, "unrcca") == "audited.cosignature.9.unrcca"


@pytest.mark.parametrize("name", OF_A_MEMBER)
@pytest.mark.parametrize("text", [*WIDER, NKEY + ".x", "*" + NKEY[1:], KeyPair.generate("account").public, NKEY[:-1]])
def test_only_a_users_nkey_stands_in_a_members_name(name: Callable[[str], str], text: str) -> None:
    with pytest.raises(Malformed):
        name(text)


@pytest.mark.parametrize("name", OF_A_TOKEN)
@pytest.mark.parametrize("text", WIDER)
def test_no_token_holds_a_dot_a_wildcard_or_a_blank(name: Callable[[str], str], text: str) -> None:
    with pytest.raises(Malformed):
        name(text)


@settings(max_examples=200)
@given(st.text(max_size=70))
def test_a_token_never_adds_a_level_whatever_the_text(text: str) -> None:
    try:
        subject = subjects.ledger_report(text)
    except Malformed:
        return
    assert subject.count(".") == 2
    assert subject.isascii()
    assert subject.isprintable()
    assert not set(subject) & set("*> ")


@pytest.mark.parametrize(
    "name",
    [
        subjects.reports_submit,
        subjects.trust_get,
        subjects.publish_metadata,
        subjects.join_credentials,
        subjects.audit_get,
        subjects.audit_cosign,
    ],
)
def test_the_sender_is_read_from_the_subject(name: Callable[[str], str]) -> None:
    assert subjects.sender(name(NKEY)) == NKEY


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "reports",
        "reports.*.submit",
        "join.*.credentials",
        "reports.>",
        f"reports.{NKEY}",
        f"reports.{NKEY}.get",
        f"reports.{NKEY}.submit.x",
        f"reports..{NKEY}.submit",
        f"feed.{NKEY}",
        f"*.{NKEY}.submit",
        f"x.reports.{NKEY}.submit",
    ],
)
def test_no_sender_is_read_from_another_subject(subject: str) -> None:
    with pytest.raises(Malformed):
        subjects.sender(subject)


@pytest.mark.parametrize("path", ["root.json", "12.root.json", "monitors/KE-43.json", "policy/UG.json", "a" * 128])
def test_a_trust_files_path_survives_its_subject(path: str) -> None:
    subject = subjects.trust_file(path)

    assert subjects.trust_path(subject) == path
    assert subject.count(".") == 1


@pytest.mark.parametrize(
    "path",
    ["", "/root.json", "../keys.json", "a/../b", "a//b", "a/", ".hidden", "a b", "ä", "a" * 129, "a\n", "a/.b", "*"],
)
def test_what_is_no_trust_files_path_is_refused(path: str) -> None:
    with pytest.raises(Malformed):
        subjects.trust_file(path)


@pytest.mark.parametrize(
    "subject", ["", "trustfile.", "trustfile.*", "trustfile.Li4", "trustfile.w6Q", "x.YQ", "trustfile.YQ.x"]
)
def test_no_path_is_read_from_another_subject(subject: str) -> None:
    with pytest.raises(Malformed):
        subjects.trust_path(subject)
