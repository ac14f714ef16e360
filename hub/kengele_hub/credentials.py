"""Who may connect to the broker and what each may do there: NATS JWTs, version 2, minted here.

Four kinds of claims: the operator's, three accounts', the members'. ``SYS`` is the broker's own account; ``HUB`` owns
JetStream; ``NODES`` owns nothing and only imports the few services that ``HUB`` exports. A publish's reply subject is
not subject to permissions, so members and streams must not share an account: in ``NODES`` a forged reply subject leads
nowhere. What members hear there stands under names that nobody can guess (their inboxes) or that the broker takes from
nobody as a reply subject (``subjects.NEWS_HEARD``).

Each role in ``NODES`` has a scoped signing key whose template holds all permissions; a member's JWT holds none, so what
a role may do changes in one place. Permissions are allow lists; ``{{subject()}}`` stands for the member's own nkey. The
names in them are those of :mod:`kengele_schemas.subjects`.
Sources: github.com/nats-io/jwt (v2), docs.nats.io "Decentralized JWT Authentication", "Scoped Signing Keys".

    >>> jwt = member(accounts, nkey, "office", now=int(time.time()))
"""

from __future__ import annotations

import hashlib
import string
from base64 import b32encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from kengele_schemas import subjects
from kengele_schemas.encoding import b64u, canonical, dumps, loads, unb64u
from kengele_schemas.errors import Malformed
from kengele_schemas.nkeys import KeyPair, verify

Role = Literal["monitor", "office", "coordinator", "joiner"]
ROLES: Final[tuple[Role, ...]] = ("monitor", "office", "coordinator", "joiner")

MAX_PAYLOAD: Final = 1024 * 1024
"""Bytes of one message, headers included."""
MAX_SUBSCRIPTIONS: Final = 32
"""Of one member's connection: its inbox, and one for each feed request under way."""
MAX_JWT: Final = 512 * 1024

_UNLIMITED: Final = -1
FOREVER: Final = 253402300799
"""Seconds: the last of the year 9999. The broker refuses a key's JWTs issued up to its revocation's time; a revoked key
stays revoked however late some worker issues one more, and whoever is admitted again brings a new key. An earlier time
is a pause: until a JWT is issued after it."""
_KEPT: Final = 24 * 3600
"""Seconds for which a pause is remembered after its end; clocks of workers differ."""
_MEMBER: Final = "{{subject()}}"
_HEADER: Final = b64u(dumps({"typ": "JWT", "alg": "ed25519-nkey"}))


@dataclass(frozen=True, slots=True)
class Accounts:
    """The key pairs that broker accounts are made of; seeds stay in the hub's home."""

    operator: KeyPair
    system: KeyPair
    hub: KeyPair
    nodes: KeyPair
    signing: Mapping[Role, KeyPair]

    @classmethod
    def generate(cls) -> Accounts:
        new = KeyPair.generate
        return cls(
            new("operator"), new("account"), new("account"), new("account"), {role: new("account") for role in ROLES}
        )


def encode(claims: Mapping[str, Any], issuer: KeyPair) -> str:
    """``claims`` as a JWT signed by ``issuer``; ``jti`` is the base32 SHA-512/256 of the claims without it."""
    body = {**claims, "iss": issuer.public}
    digest = hashlib.new("sha512_256", canonical({**body, "jti": ""})).digest()
    body["jti"] = b32encode(digest).decode("ascii").rstrip("=")
    signed = f"{_HEADER}.{b64u(canonical(body))}"
    return f"{signed}.{b64u(issuer.sign(signed.encode('ascii')))}"


def decode(jwt: str) -> dict[str, Any]:
    """The claims of a JWT whose issuer signed it. Whether that issuer is the right one is for the caller to say.

    Raises:
        Malformed: not a NATS JWT, or its signature does not hold.
    """
    try:
        header, body, signature = jwt.split(".")
    except ValueError:
        raise Malformed("malformed", "A broker credential is not a JWT.") from None
    claims = loads(unb64u(body), max_bytes=MAX_JWT, max_depth=12)
    issuer = claims.get("iss") if isinstance(claims, dict) else None
    signed = f"{header}.{body}".encode("ascii")
    if header != _HEADER or not isinstance(issuer, str) or not verify(issuer, signed, unb64u(signature)):
        raise Malformed("malformed", "A broker credential's signature does not hold.")
    return dict(claims)


def _claims(subject: str, name: str, now: int, nats: Mapping[str, Any]) -> dict[str, Any]:
    return {"sub": subject, "name": name, "iat": now, "nats": {**nats, "version": 2}}


def operator(accounts: Accounts, *, now: int) -> str:
    """The operator's self-signed JWT, which names the system account.

    Args:
        accounts: the key pairs.
        now: seconds since 1970, as everywhere in this module.
    """
    claims = {"type": "operator", "system_account": accounts.system.public}
    return encode(_claims(accounts.operator.public, "kengele", now, claims), accounts.operator)


_LIMITS: Final = {
    **dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), _UNLIMITED),
    "wildcards": True,
}
_JETSTREAM: Final = {
    "mem_storage": 0,
    **dict.fromkeys(("disk_storage", "streams", "consumer"), _UNLIMITED),
}


def system_account(accounts: Accounts, *, now: int) -> str:
    """The broker's own account: account claims are pushed through it."""
    claims = {"type": "account", "limits": _LIMITS}
    return encode(_claims(accounts.system.public, "SYS", now, claims), accounts.operator)


_PULL: Final = "$JS.API.CONSUMER.MSG.NEXT.*.*"
_ACKNOWLEDGE: Final = "$JS.ACK.*.*.>"
"""Stream and consumer, or domain and account hash, in the place of the asterisks: the broker has two forms."""


def _exchange(**extra: str) -> list[dict[str, Any]]:
    services = [(subject, "Singleton") for subject in subjects.SERVICES]
    services += [(_PULL, "Stream"), (_ACKNOWLEDGE, "Singleton")]
    exchanged = [
        {"name": subject, "subject": subject, "type": "service"} | (extra if extra else {"response_type": response})
        for subject, response in services
    ]
    news = {"name": subjects.NEWS, "subject": subjects.NEWS, "type": "stream", **extra}
    return [*exchanged, news | ({"local_subject": subjects.NEWS_HEARD} if extra else {})]


def hub_account(accounts: Accounts, *, now: int) -> str:
    """The account that owns all streams and answers all requests."""
    claims = {"type": "account", "limits": {**_LIMITS, **_JETSTREAM}, "exports": _exchange()}
    return encode(_claims(accounts.hub.public, "HUB", now, claims), accounts.operator)


def for_ever(nkeys: Iterable[str]) -> dict[str, int]:
    """The revocations that keep ``nkeys`` out for good."""
    return dict.fromkeys(nkeys, FOREVER)


def merged(held: Mapping[str, int], wanted: Mapping[str, int], *, now: int) -> dict[str, int]:
    """Revocations that keep out whomever ``held`` or ``wanted`` keeps out, and each for the longer of the two.

    What ended long before ``now`` is left out: whoever it was comes back with any JWT then.
    """
    both = {nkey: max(held.get(nkey, 0), wanted.get(nkey, 0)) for nkey in {**held, **wanted}}
    return {nkey: until for nkey, until in both.items() if nkey in wanted or until > now - _KEPT}


def nodes_account(accounts: Accounts, revocations: Mapping[str, int], *, now: int) -> str:
    """The members' account.

    Args:
        accounts: the key pairs.
        revocations: nkeys, and until when a JWT must not have been issued to connect; who is connected under an older
            one is dropped when the broker reads this.
        now: seconds since 1970.
    """
    claims = {
        "type": "account",
        "limits": _LIMITS,
        "imports": _exchange(account=accounts.hub.public),
        "signing_keys": [_scope(accounts, role) for role in ROLES],
        "revocations": {subjects.member(nkey): until for nkey, until in sorted(revocations.items())},
    }
    return encode(_claims(accounts.nodes.public, "NODES", now, claims), accounts.operator)


def publish_permissions(role: Role, hub_account: str) -> list[str]:
    """What a member of ``role`` may publish, ``{{subject()}}`` for its own nkey.

    Acknowledgements have two forms (ADR-15, "JS.ACK"); the second, with a domain (``_`` for none) and the hash of the
    account ``HUB`` before the stream, must not have wildcards there: they would take the name of any stream and
    consumer, and an acknowledgement with ``+NXT`` makes a consumer hand out its next message.
    """
    feed = [
        f"$JS.API.CONSUMER.MSG.NEXT.FEED_{_MEMBER}.{_MEMBER}",
        f"$JS.ACK.FEED_{_MEMBER}.{_MEMBER}.>",
        f"$JS.ACK._.{account_hash(hub_account)}.FEED_{_MEMBER}.{_MEMBER}.>",
    ]
    report, trust, audit = f"reports.{_MEMBER}.submit", f"trust.{_MEMBER}.get", f"audit.{_MEMBER}.get"
    share, letters = f"shares.{_MEMBER}.ask", f"letters.{_MEMBER}.ask"
    both = [report, trust, share, letters]
    allowed: dict[Role, list[str]] = {
        "monitor": [*both, audit, f"recalls.{_MEMBER}.status"],
        "office": [*both, *feed, audit, f"audit.{_MEMBER}.cosign", f"recalls.{_MEMBER}.confirm"],
        "coordinator": [
            *(trust, letters, audit, f"recalls.{_MEMBER}.status"),
            *(f"publish.{_MEMBER}.metadata", f"board.{_MEMBER}.ask", f"lobby.{_MEMBER}.ask"),
            f"headers.{_MEMBER}.get",
        ],
        "joiner": [subjects.CREDENTIAL_REQUESTS, subjects.ENTRY_REQUESTS],
    }
    return allowed[role]


def account_hash(account: str) -> str:
    """The eight characters by which the broker names an account in acknowledgement subjects."""
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    return "".join(digits[byte % len(digits)] for byte in hashlib.sha256(account.encode("ascii")).digest()[:8])


def _scope(accounts: Accounts, role: Role) -> dict[str, Any]:
    template = {
        "pub": {"allow": publish_permissions(role, accounts.hub.public)},
        "sub": {"allow": [f"_INBOX_{_MEMBER}.>", *([] if role == "joiner" else [subjects.NEWS_HEARD])]},
        "subs": MAX_SUBSCRIPTIONS,
        "data": _UNLIMITED,
        "payload": MAX_PAYLOAD,
        "allowed_connection_types": ["STANDARD", "WEBSOCKET"],
    }
    return {"kind": "user_scope", "key": accounts.signing[role].public, "role": role, "template": template}


def member(accounts: Accounts, nkey: str, role: Role, *, now: int, expires: int | None = None) -> str:
    """The JWT with which the owner of ``nkey`` connects in ``role``.

    Args:
        accounts: the key pairs.
        nkey: a public user nkey. It is also the JWT's name: no person's or place's name belongs in it.
        role: whose template holds.
        now: seconds since 1970.
        expires: when the broker drops the connection, in seconds since 1970; never if None.

    Raises:
        Malformed: ``nkey`` is not the public key of a user.
    """
    claims = {"type": "user", "issuer_account": accounts.nodes.public}
    body = _claims(subjects.member(nkey), nkey, now, claims)
    if expires is not None:
        body["exp"] = expires
    return encode(body, accounts.signing[role])


def insider(account: KeyPair, nkey: str, name: str, *, now: int) -> str:
    """The JWT of the hub's own connection to its ``account``: ``HUB`` or ``SYS``, everything allowed."""
    claims = {"type": "user", **dict.fromkeys(("subs", "data", "payload"), _UNLIMITED)}
    return encode(_claims(subjects.member(nkey), name, now, claims), account)
