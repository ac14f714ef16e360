"""Replacing: who lost her keys comes back tied to the name that she had, and everybody is told."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from nacl.signing import SigningKey

from kengele_node.coordinator.describing import describe
from kengele_node.coordinator.documents import hand_over
from kengele_node.coordinator.replacing import let_in, offered
from kengele_node.coordinator.standing import remove
from kengele_node.monitor.compose import plan_report
from kengele_schemas.areas import Areas, AreasFile
from kengele_schemas.cards import JoinRequest
from kengele_schemas.encoding import b64u
from kengele_schemas.errors import KengeleError, Malformed
from kengele_schemas.fields import read
from kengele_schemas.invitations import Terms, key_of, new_token
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.rotation import NEWS, Lineage, unvouched
from kengele_schemas.trusted import Trusted, assemble
from kengele_testing.values import AREAS, KID, MONITOR, NOW, TODAY, report
from unit.node.test_rotating import LINED, NETWORK, NEW, NKEY, OTHER, THIRD, kid, monitors, office, rotated
from unit.schemas.test_rotation import PUBLIC

WORLD = Areas(read(AreasFile, AREAS))
LINE = KeyPair.generate("user")


def terms(replaces: str | None, **changes: Any) -> Terms:
    said = {
        "key": b64u(bytes(key_of(new_token()).verify_key)),
        "role": "monitor",
        "areas": ["KG"],
        "inviter": "c-" + "a" * 26,
        "root_digest": NETWORK,
        "at": 1,
        "expires": 2,
        **({"replaces": replaces} if replaces else {}),
        **changes,
    }
    return Terms.sign(said, SigningKey(b"c" * 32))


def monitor_request(key: SigningKey = NEW, line: KeyPair = LINE) -> JoinRequest:
    return JoinRequest.for_monitor(key, line, ("KG",))


def office_request(key: SigningKey = NEW, id: str = "unrcca") -> JoinRequest:
    return JoinRequest.for_office(key, LINE, id=id, name="UNRCCA", areas=("KG",), keys=(PUBLIC[3],))


def replaced(before: dict[str, Any], member: str, request: JoinRequest) -> dict[str, Any]:
    return {**before, **let_in(before, terms(member), request, WORLD, TODAY, 7)}


def trusted(made: dict[str, Any]) -> Trusted:

    files = {path: json.dumps(value).encode() for path, value in made.items()}
    return assemble(files, version=1, fresh=True, expires=NOW + timedelta(days=7))


class TestMonitor:
    def test_of_an_area_with_its_own_coordinators_comes_into_its_list_by_her_own_request(self) -> None:
        before = LINED | hand_over(LINED, "KG")
        request = monitor_request()
        made = let_in(before, terms(KID), request, WORLD, TODAY, 7)
        assert made.keys() == {"monitors/KG.json", "connections/KG.json"}
        row = {"nkey": LINE.public, "role": "monitor", "member": kid(NEW), "asked": request.nkey_signature}
        assert made["connections/KG.json"]["connections"] == [row]
        assert made["connections/KG.json"]["revoked"] == [{"nkey": NKEY, "at": 7}]
        trusted(before | made)

    def test_the_new_key_follows_the_lost_one_which_is_out_with_its_line(self) -> None:
        after = replaced(LINED, KID, monitor_request())
        found = monitors(after)
        assert (found[KID].status, found[kid(NEW)].status) == ("revoked", "active")
        assert (found[kid(NEW)].after, found[kid(NEW)].handover) == (KID, None)
        lines = after["connections.json"]
        assert {row["nkey"]: row["member"] for row in lines["connections"]} == {
            OTHER: "unrcca",
            LINE.public: kid(NEW),
        }
        assert lines["revoked"] == [{"nkey": NKEY, "at": 7}]
        lineage = Lineage(found, NETWORK)
        assert lineage.first(kid(NEW)) == kid(NEW)
        assert lineage.vouched_by_coordinators(kid(NEW), TODAY + NEWS)
        assert not lineage.vouched_by_coordinators(kid(NEW), TODAY + NEWS + timedelta(days=1))

    @pytest.mark.parametrize("named", [0, 1])
    def test_whichever_of_her_names_is_given_the_last_one_is_followed(self, named: int) -> None:
        before = rotated(LINED, MONITOR, THIRD)
        found = monitors(replaced(before, [KID, kid(THIRD)][named], monitor_request()))
        assert found[kid(NEW)].after == kid(THIRD)
        assert {found[KID].status, found[kid(THIRD)].status} == {"revoked"}

    def test_one_who_was_revoked_before_may_come_back_so(self) -> None:
        before = {**LINED, **remove(LINED, KID, 3)}
        after = replaced(before, KID, monitor_request())
        assert monitors(after)[kid(NEW)].after == KID
        assert after["connections.json"]["revoked"] == [{"nkey": NKEY, "at": 3}]

    @pytest.mark.parametrize(
        ("member", "request_", "code"),
        [
            (KID, monitor_request(MONITOR), "already-admitted"),
            ("m-" + "a" * 26, monitor_request(), "no-such-member"),
        ],
    )
    def test_it_is_refused_with_keys_that_are_known_or_for_whom_there_is_not(
        self, member: str, request_: JoinRequest, code: str
    ) -> None:
        with pytest.raises(KengeleError) as caught:
            replaced(LINED, member, request_)
        assert caught.value.code == code

    def test_a_lost_key_is_replaced_once(self) -> None:
        after = replaced(LINED, KID, monitor_request())
        with pytest.raises(KengeleError) as caught:
            replaced(after, KID, monitor_request(THIRD, KeyPair.generate("user")))
        assert caught.value.code == "overtaken"

    def test_a_stolen_old_key_cannot_hand_over_any_more(self) -> None:
        after = replaced(LINED, KID, monitor_request())
        with pytest.raises(KengeleError) as caught:
            rotated(after, MONITOR, THIRD)
        assert caught.value.code in ("not-active", "overtaken")

    def test_who_signs_is_told_loudly(self) -> None:
        said = "\n".join(describe(LINED, let_in(LINED, terms(KID), monitor_request(), WORLD, TODAY, 7), NETWORK))
        assert f"Monitor {kid(NEW)}: TAKES THE PLACE OF {KID}, WHICH HAS NOT SIGNED THAT" in said
        assert f"Key {NKEY}: is kept out for good." in said


class TestOffice:
    def test_it_keeps_its_id_and_has_other_keys_and_another_line(self) -> None:
        after = replaced(LINED, "unrcca", office_request())
        found = office(after)
        assert found.sign == b64u(bytes(NEW.verify_key))
        assert [key.public() for key in found.keys] == [PUBLIC[3]]
        assert (found.status, found.replaced, found.vouched) == ("active", TODAY, None)
        assert found.name == office(LINED).name
        rows = {row["nkey"]: row["member"] for row in after["connections.json"]["connections"]}
        assert rows == {NKEY: KID, LINE.public: "unrcca"}
        assert after["connections.json"]["revoked"] == [{"nkey": OTHER, "at": 7}]
        assert unvouched(found, TODAY + NEWS) == TODAY
        assert unvouched(found, TODAY + NEWS + timedelta(days=1)) is None

    def test_who_signs_and_who_reports_are_told_loudly(self) -> None:
        after = replaced(LINED, "unrcca", office_request())
        assert "Office unrcca: ITS KEYS CHANGE, AND IT HAS NOT SIGNED THAT" in "\n".join(
            describe(LINED, after, NETWORK)
        )
        lines = planned(after).lines()
        assert any("ATTENTION: UNRCCA has new keys since 2026-11-24" in line for line in lines)
        assert not any("ATTENTION" in line for line in planned(LINED).lines())

    def test_an_id_that_is_not_there_is_not_replaced(self) -> None:
        with pytest.raises(KengeleError) as caught:
            replaced(LINED, "nobody", office_request(id="nobody"))
        assert caught.value.code == "no-such-member"

    def test_an_invitation_for_one_office_replaces_no_other(self) -> None:
        made = terms("cso", role="office", office={"id": "unrcca", "name": "UNRCCA"})
        with pytest.raises(Malformed):
            made.check({made.inviter: bytes(SigningKey(b"c" * 32).verify_key)})


def planned(made: dict[str, Any]) -> Any:
    return plan_report(report(), trusted(made), kid=KID, report_id="A" * 22, now=NOW)


def test_an_invitation_offers_what_the_member_had() -> None:
    known = trusted(LINED)
    assert offered(known, KID) == ("monitor", ("KG",), None)
    role, areas, named = offered(known, "unrcca")
    assert (role, areas, named.id if named else "") == ("office", ("KG",), "unrcca")
    with pytest.raises(KengeleError):
        offered(known, "nobody")


def test_who_replaces_nobody_is_let_in_as_ever() -> None:
    after = let_in(LINED, terms(None), monitor_request(), WORLD, TODAY, 7)
    (entry,) = [row for row in after["monitors/KG.json"]["monitors"] if row["kid"] == kid(NEW)]
    assert "after" not in entry
