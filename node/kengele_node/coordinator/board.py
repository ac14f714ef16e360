"""The board at the hub, as a coordinator uses it: proposals of all coordinators, taken and put back signed.

Nothing on it is believed: a draft from the board is checked as one that came on a stick.
"""

from __future__ import annotations

from typing import Any, Final

from kengele_node.member import Session
from kengele_schemas import metadata, signatures, subjects
from kengele_schemas.drafts import Draft
from kengele_schemas.errors import KengeleError, Malformed, Refused, Untrusted
from kengele_schemas.metadata import Files

STILL_VALID: Final = (
    "It is off the board, but enough have signed it: whoever kept it can still publish it, until another version is in"
    " force. To end it, make a version that changes nothing: kengele coordinator renew, then sign and publish it."
)
"""For a person who took such a proposal off the board."""


async def put(session: Session, draft: Draft) -> str:
    """Puts ``draft`` on the board, beside the signatures it may have there already; gives its name."""
    answer = await _ask(session, {"do": "put", "draft": draft.encode().decode("utf-8")})
    return str(answer.get("name"))


async def get(session: Session, name: str) -> Draft:
    """The proposal of this name. Raises Refused if there is none; Malformed if the hub gives something else."""
    answer = await _ask(session, {"do": "get", "name": name})
    draft = Draft.decode(str(answer.get("draft", "")).encode("utf-8"))
    if signatures.draft_id(draft) != name:
        raise Malformed("bad-draft", "The board gave another proposal than the one asked for.", "Ask for it as a file.")
    return draft


async def drop(session: Session, name: str) -> None:
    """Takes the proposal off the board. Raises Refused if there is none."""
    await _ask(session, {"do": "drop", "name": name})


async def withdraw(session: Session, name: str) -> bool:
    """Takes the proposal off the board; gives whether it can be published all the same, as enough have signed it."""
    try:
        still = not signatures.missing(await get(session, name))
    except (Malformed, Untrusted):
        still = False
    await drop(session, name)
    return still


async def proposals(session: Session, current: Files) -> list[dict[str, Any]]:
    """What is on the board, the oldest first, judged by what is in force here and not by what the hub says of it.

    ``state`` is ``open``, ``overtaken`` (another version came into force meanwhile) or the code of what is wrong.
    """
    found = []
    for row in (await _ask(session, {"do": "list"})).get("proposals", []):
        name, at = str(row["name"]), str(row["at"])
        item: dict[str, Any] = {"name": name, "at": at, "version": None, "signed_by": [], "missing": {}}
        try:
            draft = await get(session, name)
            item |= {
                "version": draft.version,
                "signed_by": signatures.signed_by(draft),
                "missing": signatures.missing(draft),
                "state": state(draft, current),
            }
        except KengeleError as error:
            item["state"] = error.code
        found.append(item)
    return found


def state(draft: Draft, current: Files) -> str:
    """``open`` or ``overtaken``: whether ``draft`` follows what is in force."""
    try:
        metadata.check_next(current, draft.files())
    except Refused:
        return "overtaken"
    held = metadata.newest(current, "root"), metadata.newest(current, "targets")
    listing = held[1] if "targets" not in draft.roles else ""
    same = draft.root == current[held[0]] and (not listing or draft.targets == current[listing])
    return "open" if same else "overtaken"


async def _ask(session: Session, document: dict[str, Any]) -> dict[str, Any]:
    return await session.ask(subjects.board_ask(session.member.nkey.public), document)
