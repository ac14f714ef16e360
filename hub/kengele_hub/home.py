"""The hub's home directory: the one file with all of its secrets.

Whoever reads it can let anyone connect, sign receipts and log checkpoints, and pass old trust metadata for fresh up to
its expiry. They can open no compartment, admit no member and change no rule: those keys are never here.

    >>> keys = HubKeys.create(Path("/var/lib/kengele/hub"))
    >>> HubKeys.load(Path("/var/lib/kengele/hub")) == keys
    True
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nacl.signing import SigningKey

from kengele_schemas import disk
from kengele_schemas.encoding import b64u, canonical, loads, unb64u
from kengele_schemas.errors import Damaged, Malformed, Refused
from kengele_schemas.fields import is_version
from kengele_schemas.nkeys import KeyPair

from .credentials import ROLES, Accounts

FILE: Final = "keys.json"
_VERSION: Final = 1
_MAX_FILE: Final = 65536
_NKEYS: Final = ("operator", "system", "hub", "nodes", *(f"nodes-{role}" for role in ROLES), "hub-user", "system-user")
_SIGNING: Final = ("hub-key", "snapshot", "timestamp")


@dataclass(frozen=True, slots=True)
class HubKeys:
    """All keys of a hub.

    ``accounts`` mint broker credentials, ``hub_user`` and ``system_user`` are the hub's own connections, ``hub_key``
    signs receipts and log checkpoints, ``snapshot_key`` and ``timestamp_key`` the two TUF roles that are the hub's.
    """

    home: Path
    accounts: Accounts = field(repr=False)
    hub_user: KeyPair
    system_user: KeyPair
    hub_key: SigningKey = field(repr=False)
    snapshot_key: SigningKey = field(repr=False)
    timestamp_key: SigningKey = field(repr=False)

    @classmethod
    def create(cls, home: Path) -> HubKeys:
        """New keys, written to ``home`` (made if missing) for this user's eyes only.

        Raises:
            Refused: ``exists``; keys are never overwritten.
        """
        accounts = Accounts.generate()
        keys = cls(
            home,
            accounts,
            KeyPair.generate("user"),
            KeyPair.generate("user"),
            SigningKey.generate(),
            SigningKey.generate(),
            SigningKey.generate(),
        )
        disk.make_directory(home)
        if disk.present(home / FILE):
            raise Refused("exists", "This directory holds a hub's keys already.", "Choose an empty directory.")
        disk.write(home / FILE, canonical(keys._document()))
        return keys

    @classmethod
    def load(cls, home: Path) -> HubKeys:
        """The keys that :meth:`create` wrote.

        Raises:
            Damaged: ``no-keys`` or ``damaged``: there is no such file, or it cannot be read.
            Refused: ``keys-exposed``: others on this machine can read it; ``not-yours``: this user cannot.
        """
        path = home / FILE
        try:
            data, exposed = disk.read_secret(path, _MAX_FILE)
        except PermissionError:
            raise not_yours(home) from None
        except OSError:
            raise Damaged(
                "no-keys", "There are no hub keys in this directory.", "Make them with: kengele hub init"
            ) from None
        if exposed:
            raise Refused("keys-exposed", "Others on this machine can read the hub's keys.", f"Run: chmod 600 {FILE}")
        return cls.parse(home, data)

    @classmethod
    def parse(cls, home: Path, data: bytes) -> HubKeys:
        """The keys in ``data``, the file's content. Raises Damaged."""
        try:
            document = loads(data, max_bytes=_MAX_FILE)
            if isinstance(document["v"], int) and document["v"] > _VERSION:
                raise Damaged(
                    "newer-home", "A newer Kengele wrote this hub's home.", "Install that version, or a later one."
                )
            return cls._from_document(home, document)
        except (Malformed, KeyError, TypeError, AttributeError, ValueError):
            raise Damaged("damaged", "The hub's keys cannot be read.", "Restore them from the backup.") from None

    def _document(self) -> dict[str, Any]:
        accounts = self.accounts
        roles = (accounts.signing[role] for role in ROLES)
        pairs = (
            accounts.operator,
            accounts.system,
            accounts.hub,
            accounts.nodes,
            *roles,
            self.hub_user,
            self.system_user,
        )
        signing = (self.hub_key, self.snapshot_key, self.timestamp_key)
        return {
            "v": _VERSION,
            **{name: pair.seed for name, pair in zip(_NKEYS, pairs, strict=True)},
            **{name: b64u(bytes(key)) for name, key in zip(_SIGNING, signing, strict=True)},
        }

    @classmethod
    def _from_document(cls, home: Path, document: dict[str, Any]) -> HubKeys:
        if not is_version(document["v"], _VERSION):
            raise Malformed("malformed", "The keys are of another version.")
        pair = {name: KeyPair.from_seed(document[name]) for name in _NKEYS}
        signing = (SigningKey(unb64u(document[name])) for name in _SIGNING)
        accounts = Accounts(
            pair["operator"],
            pair["system"],
            pair["hub"],
            pair["nodes"],
            {role: pair[f"nodes-{role}"] for role in ROLES},
        )
        return cls(home, accounts, pair["hub-user"], pair["system-user"], *signing)


def not_yours(home: Path) -> Refused:
    """What is told to who may not read what is there: to make another hub would be the worst that they could do."""
    return Refused(
        "not-yours",
        f"This user may not read what is in {home}.",
        "Work as the hub's user: runuser -u kengele -- kengele hub …; or give it back what a command run as root took: "
        "chown -R kengele: on the home.",
    )
