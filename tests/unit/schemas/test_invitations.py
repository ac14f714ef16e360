"""Invitations: what each side can check of the other's words, and digits that nobody in between can steer."""

from __future__ import annotations

import hashlib
from base64 import b32encode
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from kengele_schemas import invitations
from kengele_schemas.cards import JoinRequest, NetworkCard, coordinator_id, read_card
from kengele_schemas.encoding import b64u
from kengele_schemas.errors import KengeleError, Malformed, Refused, Untrusted
from kengele_schemas.fields import read
from kengele_schemas.invitations import LONGEST, Answer, Commitment, Invitation, Link, Reveal, Terms
from kengele_schemas.nkeys import KeyPair

COORDINATOR, STRANGER = SigningKey(bytes(32)), SigningKey(bytes([1] * 32))
KNOWN = {coordinator_id(bytes(COORDINATOR.verify_key)): bytes(COORDINATOR.verify_key)}
TOKEN, OTHER = b64u(bytes(range(16))), b64u(bytes(range(1, 17)))
NKEY = KeyPair.generate("user")
KEY, MALLORY = SigningKey.generate(), SigningKey.generate()
ROOT = b'{"signed":{}}'
NONCE, MINE = bytes([7] * 32), bytes([9] * 32)
NETWORK = read(
    NetworkCard,
    {
        "name": "Bell",
        "urls": ["tls://hub.example:4222"],
        "join": {"jwt": "header.claims.signature", "seed": NKEY.seed},
        "root": b64u(ROOT),
        "root_digest": b64u(hashlib.sha256(ROOT).digest()),
    },
)


def terms(by: SigningKey = COORDINATOR, **changes: Any) -> Terms:
    said = {
        "key": b64u(bytes(invitations.key_of(TOKEN).verify_key)),
        "role": "monitor",
        "areas": ["KG-O"],
        "inviter": next(iter(KNOWN)),
        "root_digest": NETWORK.root_digest,
        "at": 1000,
        "expires": 2000,
        **changes,
    }
    return Terms.sign(said, by)


REQUEST = JoinRequest.for_monitor(KEY, NKEY, ("KG-O",))
SWAPPED = JoinRequest.for_monitor(MALLORY, NKEY, ("KG-O",))
COMMITMENT, REVEAL = Commitment.of(TOKEN, REQUEST, NONCE), Reveal.of(TOKEN, REQUEST, NONCE)


def digits(
    request: JoinRequest = REQUEST,
    nonce: bytes = NONCE,
    mine: bytes = MINE,
    root: str = NETWORK.root_digest,
    **changes: Any,
) -> str:
    return invitations.digits(terms(**changes), request, nonce, mine, root)


def test_both_sides_get_eight_digits_from_all_that_was_said_and_other_digits_from_anything_else() -> None:
    others = [
        digits(request=SWAPPED),
        digits(nonce=MINE),
        digits(mine=NONCE),
        digits(root=b64u(bytes(32))),
        digits(key=b64u(bytes(STRANGER.verify_key))),
        digits(inviter=coordinator_id(bytes(STRANGER.verify_key))),
        digits(areas=["KG-B"]),
        digits(expires=1999),
    ]
    assert len({digits(), *others}) == 9
    assert len(digits()) == 9
    assert digits().replace(" ", "").isdecimal()


def test_a_commitment_tells_nothing_of_the_request_and_binds_to_it() -> None:
    again = Commitment.of(TOKEN, REQUEST, MINE)
    assert COMMITMENT.digest != again.digest
    assert REQUEST.member not in COMMITMENT.encode().decode()
    REVEAL.check(terms(), COMMITMENT)
    for shown, committed in (
        (Reveal.of(TOKEN, SWAPPED, NONCE), COMMITMENT),
        (Reveal.of(TOKEN, REQUEST, MINE), COMMITMENT),
        (REVEAL, again),
    ):
        with pytest.raises(Untrusted) as caught:
            shown.check(terms(), committed)
        assert caught.value.code == "not-as-committed"


def test_without_the_token_nobody_speaks_as_the_newcomer() -> None:
    stolen = Commitment.of(OTHER, REQUEST, NONCE).model_copy(update={"invitation": terms().id})
    for word in (lambda: stolen.check(terms()), lambda: Commitment.of(OTHER, REQUEST, NONCE).check(terms())):
        with pytest.raises(Untrusted):
            word()
    shown = Reveal.of(OTHER, REQUEST, NONCE).model_copy(update={"invitation": terms().id})
    with pytest.raises(Untrusted):
        shown.check(terms(), COMMITMENT)


@pytest.mark.parametrize(
    ("what", "made"),
    [
        ("signed by a stranger", lambda: terms(STRANGER)),
        (
            "signed by a stranger in her own name",
            lambda: terms(STRANGER, inviter=coordinator_id(bytes(STRANGER.verify_key))),
        ),
        ("wider than signed", lambda: terms().model_copy(update={"areas": ("KG",)})),
        ("open longer than any may", lambda: terms(expires=1000 + LONGEST + 1)),
        ("expired when it was made", lambda: terms(expires=1000)),
        ("of an office without a name", lambda: terms(role="office")),
        ("of a monitor with an office's name", lambda: terms(office={"id": "unrcca", "name": "x"})),
    ],
)
def test_terms_count_only_as_a_coordinator_signed_them(what: str, made: Any) -> None:
    terms().check(KNOWN)
    with pytest.raises(KengeleError) as caught:
        made().check(KNOWN)
    assert caught.value.code == "bad-card", what


def test_a_request_for_more_than_was_offered_does_not_fit() -> None:
    terms().fits(REQUEST)
    for offered in (terms(areas=["KG-B"]), terms(role="office", office={"id": "unrcca", "name": "x"})):
        with pytest.raises(Refused) as caught:
            offered.fits(REQUEST)
        assert caught.value.code == "another-request"


def test_an_invitation_comes_through_a_file_and_through_a_link_as_it_was() -> None:
    invitation = Invitation(network=NETWORK, terms=terms(), token=TOKEN)
    assert read_card(invitation.encode(), Invitation) == invitation
    link = invitation.link()
    assert link == link.upper()
    for typed in (link, link.lower(), f" {link[:40]}\n{link[40:]} "):
        again = Link.parse(typed).invitation("Bell", b64u(ROOT), terms().model_dump(mode="json", exclude_none=True))
        assert again == invitation
    assert TOKEN not in repr(invitation)


def test_the_hub_cannot_put_another_network_or_other_terms_behind_a_link() -> None:
    link = Link.parse(Invitation(network=NETWORK, terms=terms(), token=TOKEN).link())
    good = terms().model_dump(mode="json", exclude_none=True)
    foreign = terms(root_digest=b64u(bytes(32))).model_dump(mode="json", exclude_none=True)
    another = terms(key=b64u(bytes(STRANGER.verify_key))).model_dump(mode="json", exclude_none=True)
    for root, said in ((b64u(b"{}"), good), (b64u(ROOT), foreign), (b64u(ROOT), another), (b64u(ROOT), None)):
        with pytest.raises(KengeleError):
            link.invitation("Bell", root, said)


@settings(deadline=None, max_examples=60)
@given(st.one_of(st.text(max_size=60), st.binary(max_size=60).map(lambda raw: "kengele:" + b32encode(raw).decode())))
def test_what_is_no_link_is_refused_in_one_way(text: str) -> None:
    with pytest.raises(Malformed) as caught:
        Link.parse(text)
    assert caught.value.code == "bad-invitation"


def test_an_answer_is_to_one_commitment() -> None:
    answer = Answer.to(COMMITMENT, MINE, COORDINATOR)
    assert (answer.digest, answer.coordinator) == (COMMITMENT.digest, next(iter(KNOWN)))
    answer.verify(bytes(COORDINATOR.verify_key))
    with pytest.raises(Untrusted):
        answer.model_copy(update={"nonce": b64u(NONCE)}).verify(bytes(COORDINATOR.verify_key))
