"""Minted claims: their signatures, their form, and what the templates allow."""

from __future__ import annotations

import hashlib
from base64 import b32encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_hub import credentials
from kengele_hub.credentials import ROLES, Accounts, Role
from kengele_schemas import subjects
from kengele_schemas.encoding import b64u, canonical, unb64u
from kengele_schemas.errors import Malformed
from kengele_schemas.nkeys import KeyPair

ACCOUNTS = Accounts.generate()
NOW = 1_800_000_000
NKEY = KeyPair.generate("user").public


def test_a_claim_names_its_issuer_and_the_digest_of_itself() -> None:
    claims = credentials.decode(credentials.member(ACCOUNTS, NKEY, "monitor", now=NOW))

    assert claims["iss"] == ACCOUNTS.signing["monitor"].public
    assert claims["sub"] == claims["name"] == NKEY
    assert claims["iat"] == NOW
    assert "exp" not in claims
    digest = hashlib.new("sha512_256", canonical({**claims, "jti": ""})).digest()
    assert claims["jti"] == b32encode(digest).decode().rstrip("=")


@pytest.mark.parametrize("role", ROLES)
def test_a_members_claim_carries_no_permission_of_its_own(role: Role) -> None:
    claims = credentials.decode(credentials.member(ACCOUNTS, NKEY, role, now=NOW, expires=NOW + 60))

    assert claims["iss"] == ACCOUNTS.signing[role].public
    assert claims["exp"] == NOW + 60
    assert claims["nats"] == {"type": "user", "issuer_account": ACCOUNTS.nodes.public, "version": 2}


def test_a_changed_claim_is_refused() -> None:
    header, body, signature = credentials.member(ACCOUNTS, NKEY, "monitor", now=NOW).split(".")
    changed = b64u(unb64u(body).replace(b'"iat":1800000000', b'"iat":1800000001'))
    assert changed != body

    for forged in (f"{header}.{changed}.{signature}", f"{header}.{body}", f"{body}.{body}.{signature}", "", "a.b.c"):
        with pytest.raises(Malformed):
            credentials.decode(forged)


def test_an_account_is_no_member() -> None:
    with pytest.raises(Malformed):
        credentials.member(ACCOUNTS, ACCOUNTS.hub.public, "monitor", now=NOW)


def test_only_the_hubs_account_has_storage_and_exports() -> None:
    hub = credentials.decode(credentials.hub_account(ACCOUNTS, now=NOW))["nats"]
    nodes = credentials.decode(credentials.nodes_account(ACCOUNTS, {}, now=NOW))["nats"]
    system = credentials.decode(credentials.system_account(ACCOUNTS, now=NOW))["nats"]

    assert hub["limits"]["disk_storage"] == -1
    for other in (nodes, system):
        assert not {"disk_storage", "mem_storage", "streams", "consumer"} & set(other["limits"])
        assert "exports" not in other


def test_members_import_the_services_and_nothing_else() -> None:
    nodes = credentials.decode(credentials.nodes_account(ACCOUNTS, {}, now=NOW))["nats"]
    hub = credentials.decode(credentials.hub_account(ACCOUNTS, now=NOW))["nats"]

    names = {*subjects.SERVICES, "$JS.API.CONSUMER.MSG.NEXT.*.*", "$JS.ACK.*.*.>"}
    for entries in (nodes["imports"], hub["exports"]):
        assert {entry["subject"] for entry in entries if entry["type"] == "service"} == names
        assert [entry["subject"] for entry in entries if entry["type"] != "service"] == [subjects.NEWS]
    assert {entry["account"] for entry in nodes["imports"]} == {ACCOUNTS.hub.public}


def test_each_role_has_its_own_scope_and_only_allow_lists() -> None:
    scopes = credentials.decode(credentials.nodes_account(ACCOUNTS, {}, now=NOW))["nats"]["signing_keys"]

    assert {scope["key"] for scope in scopes} == {key.public for key in ACCOUNTS.signing.values()}
    for scope in scopes:
        template = scope["template"]
        assert set(template["pub"]) == set(template["sub"]) == {"allow"}
        heard = [] if scope["role"] == "joiner" else [subjects.NEWS_HEARD]
        assert template["sub"]["allow"] == ["_INBOX_{{subject()}}.>", *heard]
        assert template["payload"] == credentials.MAX_PAYLOAD
        assert "resp" not in template
        assert "bearer_token" not in template


def test_the_templates_allow_the_names_that_the_subjects_module_spells() -> None:
    def own(role: Role) -> set[str]:
        rules = credentials.publish_permissions(role, ACCOUNTS.hub.public)
        return {rule.replace("{{subject()}}", NKEY) for rule in rules}

    feed = {
        subjects.feed_next(NKEY),
        f"$JS.ACK.{subjects.feed_stream(NKEY)}.{NKEY}.>",
        f"$JS.ACK._.{credentials.account_hash(ACCOUNTS.hub.public)}.{subjects.feed_stream(NKEY)}.{NKEY}.>",
    }
    both = {
        name(NKEY) for name in (subjects.reports_submit, subjects.trust_get, subjects.shares_ask, subjects.letters_ask)
    }
    assert own("monitor") == both | {subjects.audit_get(NKEY), subjects.recalls_status(NKEY)}
    witness = {subjects.audit_get(NKEY), subjects.audit_cosign(NKEY)}
    assert own("office") == both | feed | witness | {subjects.recalls_confirm(NKEY)}
    desk = (
        subjects.trust_get,
        subjects.publish_metadata,
        subjects.board_ask,
        subjects.recalls_status,
        subjects.lobby_ask,
        subjects.audit_get,
        subjects.letters_ask,
        subjects.headers_get,
    )
    assert own("coordinator") == {name(NKEY) for name in desk}
    assert own("joiner") == {subjects.CREDENTIAL_REQUESTS, subjects.ENTRY_REQUESTS}


@pytest.mark.parametrize("role", ROLES)
def test_no_permission_but_the_joiners_has_a_wildcard_before_the_members_own_name(role: Role) -> None:
    for rule in credentials.publish_permissions(role, ACCOUNTS.hub.public):
        before, own, _ = rule.partition("{{subject()}}")
        if role == "joiner":
            assert rule in ("join.*.credentials", "join.*.enter")
        else:
            assert own
            assert "*" not in before
            assert ">" not in before


def test_revocations_are_written_for_ever_and_only_for_members() -> None:
    nodes = credentials.decode(credentials.nodes_account(ACCOUNTS, credentials.for_ever([NKEY]), now=NOW))["nats"]

    assert set(nodes["revocations"]) == {NKEY}
    assert nodes["revocations"][NKEY] > NOW + 1000 * 365 * 86400
    with pytest.raises(Malformed):
        credentials.nodes_account(ACCOUNTS, credentials.for_ever(["*"]), now=NOW)


class TestMergedRevocations:
    MOMENTS = st.one_of(st.just(credentials.FOREVER), st.integers(NOW - 10**6, NOW + 10**4))
    LISTS = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), MOMENTS)

    @settings(deadline=None)
    @given(LISTS, LISTS)
    def test_keep_out_everybody_for_the_longer_of_the_two(self, held: dict[str, int], wanted: dict[str, int]) -> None:
        both = credentials.merged(held, wanted, now=NOW)
        for nkey in {*held, *wanted}:
            until = max(held.get(nkey, 0), wanted.get(nkey, 0))
            assert both.get(nkey) == until or (nkey not in both and until <= NOW - 86400)
        assert set(wanted) <= set(both) <= {*held, *wanted}

    @settings(deadline=None)
    @given(LISTS, LISTS, LISTS)
    def test_are_the_same_in_whatever_order_they_come(
        self, one: dict[str, int], other: dict[str, int], third: dict[str, int]
    ) -> None:
        def kept(*lists: dict[str, int]) -> dict[str, int]:
            found: dict[str, int] = {}
            for some in lists:
                found = credentials.merged(found, some, now=NOW)
            return credentials.merged(found, {}, now=NOW)

        assert kept(one, other, third) == kept(third, other, one) == kept(one, other, third, other)

    def test_neither_shorten_a_revocation_nor_make_a_pause_one(self) -> None:
        revoked = credentials.for_ever(["a"])
        assert credentials.merged(revoked, {"a": NOW + 60, "b": NOW + 60}, now=NOW) == {**revoked, "b": NOW + 60}
        assert credentials.merged({"a": NOW + 60}, revoked, now=NOW) == revoked

    def test_forget_a_pause_a_day_after_its_end_and_a_revocation_never(self) -> None:
        held = {**credentials.for_ever(["a"]), "b": NOW}
        assert credentials.merged(held, {}, now=NOW + 86400 - 1) == held
        assert credentials.merged(held, {}, now=NOW + 86400) == credentials.for_ever(["a"])
        assert credentials.merged(held, {}, now=NOW + 10**9) == credentials.for_ever(["a"])
