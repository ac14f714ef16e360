"""What is delegated: each area's lists, which its regional coordinators sign, alone and for no other area.

An area has up to three documents: ``monitors/<area>.json``, ``policy/<area>.json`` and ``connections/<area>.json``.
Each stands in a list of its own, which the coordinators' list delegates (TUF 1.0 §4.5). Where nobody else was named,
the coordinators sign these themselves.

    >>> role_of("policy/KG.json")
    'policy-KG'
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.signer._key import Key, SSlibKey
from tuf.api._payload import DelegatedRole, Targets

from .compartments import GRANTABLE
from .errors import Malformed, Refused, Untrusted
from .keys import check_verify_key
from .policy import PolicyFile, Rule
from .roster import Offices

MONITORS: Final = "monitors"
POLICY: Final = "policy"
LINES: Final = "connections"
FOLDERS: Final = (MONITORS, POLICY, LINES)
FLOORS: Final = "floors"
"""The member of the coordinators' list that names, for each regional list, the least version that stands beside it."""
LAPSED: Final = "regional-rules-expired-"
"""How the rule's id begins that holds in the place of an area's own once their signatures have run out."""
_MAX_LISTS: Final = 590
_NAMED: Final = 61
_ROOM: Final = 54_000
"""Regional lists there may be; bytes that one takes in an entry of the log beside its names (a digest, a version of
seven digits), and bytes for all of them: an entry has 65,535, and other documents and 100 changes stand there, too."""
_MEND: Final = "Nothing was changed here. Tell the coordinators."


def area_of(path: str) -> tuple[str, str]:
    """Folder and area of a regional document's path. Raises Malformed on any other path."""
    folder, _, name = path.partition("/")
    if folder not in FOLDERS or not name.endswith(".json") or not name[:-5]:
        raise Malformed("malformed", "The coordinators' list names a document of an unknown kind.")
    return folder, name[:-5]


def role_of(path: str) -> str:
    """The TUF role whose list names the regional document at ``path``. Raises Malformed."""
    return "-".join(area_of(path))


def path_of(role: str) -> str:
    """The one document that a regional role may list."""
    folder, _, area = role.partition("-")
    return f"{folder}/{area}.json"


def paths(area: str) -> tuple[str, ...]:
    """All documents that an area may have."""
    return tuple(f"{folder}/{area}.json" for folder in FOLDERS)


def delegated(targets: Targets) -> Mapping[str, DelegatedRole]:
    """The regional roles by name."""
    found: Mapping[str, DelegatedRole] | None = targets.delegations.roles if targets.delegations else None
    return found or {}


def delegated_paths(targets: Targets) -> list[str]:
    """The documents that regional coordinators sign."""
    return sorted(path for role in delegated(targets).values() for path in role.paths or ())


def revision(versions: Iterable[int]) -> int:
    """The number of a state of roster and policy, from the versions of all lists in it.

    It is 1 when a network is founded and rises with whatever is published, by coordinators or by regional ones, since
    each publication signs some list anew and none is ever dropped.
    """
    return 1 + sum(version - 1 for version in versions)


def check_floors(targets: Targets, versions: Mapping[str, int]) -> None:
    """Checks that no regional list is older than the coordinators' list that stands beside it.

    The hub signs the snapshot, so by the snapshot alone it could serve an old list of members beside new rules. A list
    that was signed before there were floors names none.

    Args:
        versions: of each regional list that is served, by role.

    Raises:
        Untrusted: ``mix-and-match``; ``overreach`` if the floors are not numbers.
    """
    floors = targets.unrecognized_fields.get(FLOORS, {})
    if not isinstance(floors, dict) or not all(type(least) is int for least in floors.values()):
        raise _overreach()
    if any(versions.get(name, 0) < least for name, least in floors.items()):
        raise Untrusted("mix-and-match", "The hub serves a region's list that is older than the others.", _MEND)


def check_delegations(targets: Targets) -> None:
    """Checks that the coordinators' list hands on single documents of areas, one to a role, and signs none of them.

    Raises:
        Untrusted: ``overreach``.
        Malformed: the list names a document of an unknown kind.
        Malformed, Untrusted: as :func:`check_keys`.
    """
    for name, role in delegated(targets).items():
        if role.paths is None or [role_of(path) for path in role.paths] != [name] or not role.terminating:
            raise _overreach()
    if any("/" in path for path in targets.targets):
        raise _overreach()
    check_keys(targets.delegations.keys if targets.delegations else {})


def check_keys(keys: Mapping[str, Key]) -> None:
    """Checks that each key stands under its own id, or one person could count as two.

    Raises:
        Untrusted: ``overreach``.
        Malformed: a key by which anybody could sign.
    """
    for keyid, key in keys.items():
        public = bytes.fromhex(key.keyval["public"])
        check_verify_key(public)
        if SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(public)).keyid != keyid:
            raise Untrusted("overreach", "A key stands in a list of the network's under another one's name.", _MEND)


def check_room(roles: Collection[str]) -> None:
    """Checks that one entry of the log takes the names of all regional lists and their documents.

    A version that no entry takes would hold, and never stand in the log.

    Raises:
        Refused: ``too-many-lists``.
    """
    size = sum(len(path_of(role)) + len(role) + _NAMED for role in roles)
    if len(roles) > _MAX_LISTS or size > _ROOM:
        raise Refused(
            "too-many-lists",
            "These are more lists of areas than one entry of the log takes.",
            "Give an area that holds others one list for all of them.",
        )


def check_list(role: str, listed: Targets) -> None:
    """Checks that a regional list names its own document only and hands nothing on. Raises Untrusted: ``overreach``."""
    if delegated(listed) or set(listed.targets) - {path_of(role)}:
        raise _overreach()


def check_reserved(rules: Iterable[Rule]) -> None:
    """Checks that no rule that was signed is called like one that holds of itself. Raises Malformed: ``bad-rule``."""
    for rule in rules:
        if rule.id.startswith(LAPSED):
            raise Malformed("bad-rule", f"The rule '{rule.id}' has an id that is reserved.", "Call it otherwise.")


def standing_in(area: str, policy: PolicyFile, offices: Offices, custodian: str) -> PolicyFile:
    """What holds in the place of an area's ``policy`` once its signatures have run out: nothing is released any more.

    Its forbids stay, as forgetting them would widen something. To the custodian is released what the network's own
    rules grant, so that nodes can seal for it meanwhile.
    """
    others = tuple(f"office:{office}" for office in offices.active if office != custodian)
    kept = tuple(rule for rule in policy.rules if rule.forbid is not None)
    if not others:
        return policy.model_copy(update={"rules": kept})
    # Not checked as a rule that somebody wrote: its id is longer, and as it leaves nothing to anybody no leaf names it.
    closing = Rule.model_construct(
        id=f"{LAPSED}{area.lower()}",
        forbid=GRANTABLE,
        to=others,
        areas=(area,),
        reason=f"The signatures under the rules for {area} have run out.",
    )
    return policy.model_copy(update={"rules": (*kept, closing)})


def _overreach() -> Untrusted:
    return Untrusted("overreach", "A list of the network's speaks of what is not its own.", _MEND)
