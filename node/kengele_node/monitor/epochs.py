"""Epochs: a monitor's next signing key, announced by the old one and the new one, and used once it is taken in.

The next key is on the disk before anybody hears of it, and the same is said until the hub answers that the roster has
it; so a crash, or an answer that was lost, changes nothing. The change itself is one write.

    >>> epochs = Epochs(member)
    >>> epochs.begin()
    >>> taken = await epochs.look(session)
"""

from __future__ import annotations

from typing import Final

from nacl.signing import SigningKey

from kengele_node.member import EPOCH, FIRST, Member, Session
from kengele_schemas import subjects
from kengele_schemas.errors import Refused
from kengele_schemas.keys import new_signing_key
from kengele_schemas.rotation import Epoch

_NEXT: Final = "next"


class Epochs:
    """The keys of the monitor at home in ``member``."""

    def __init__(self, member: Member) -> None:
        self._member = member

    @property
    def under_way(self) -> bool:
        """Whether there is a next key that is not used yet."""
        return _NEXT in self._member.vault.secrets

    def begin(self) -> Epoch:
        """The word that the next key follows; the key is made if there is none."""
        if not self.under_way:
            self._member.remember(_NEXT, bytes(new_signing_key()))
        return self.statement

    @property
    def statement(self) -> Epoch:
        """What is said until it is taken in. Raises Refused, ``no-next-key``."""
        secret = self._member.vault.secrets.get(_NEXT)
        if secret is None:
            raise Refused("no-next-key", "No other key is to follow this one.", "Begin: kengele node rotate")
        return Epoch.of(self._member.key, SigningKey(secret), self._member.card.root_digest)

    async def look(self, session: Session) -> bool:
        """Says it to the hub; where the roster has it, the next key is this monitor's from now on.

        Raises:
            Refused: the hub does not take it; the old key stays.
            Unreachable: no line.
        """
        said = self.statement
        card = said.model_dump(mode="json", exclude_none=True)
        answer = await session.ask(subjects.letters_ask(self._member.nkey.public), {"do": "put", "card": card})
        if answer.get("code") != "taken":
            return False
        self._change()
        return True

    def _change(self) -> None:
        member = self._member
        secrets = dict(member.vault.secrets)
        following = SigningKey(secrets.pop(_NEXT))
        secrets.setdefault(FIRST, member.kid.encode("ascii"))
        secrets[f"{EPOCH}{member.kid}"] = bytes(member.key)
        member.change_key(following, secrets)
