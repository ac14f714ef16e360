"""Widening: anything by which somebody comes to read more, or somebody else comes to read.

A network may ask for more signatures under such a version (``widening_threshold``). Two whole states are compared, as
rules are only one of the ways: another custodian, new keys of an office that its old key does not vouch for, another
hub, and whatever takes away what guards against a widening count as well. Otherwise two coordinators could first lower
the number, or seat a third key of their own, and then widen.

Nobody reads more by the rest: a name; how far ahead a report's day may lie and how many come in an hour
(``max_future_days``, ``reports_per_hour``), which bound what is taken; monitors and their connections, as a monitor
is served no report of others; the lists of monitors that an office is served, which all coordinators have anyway.

    >>> [ground.code for ground in grounds(before, after, network, today)]
    ['custodian', 'keys']
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from itertools import chain
from typing import Final, NamedTuple

from .diff import widens
from .domain import Side, in_custody
from .policy import PolicyFile, Rule
from .roster import Office
from .rotation import vouched
from .trusted import Trusted

_WORDS: Final = {
    "rules": "the rules let somebody read more",
    "custodian": "{what} becomes the custodian",
    "custodian-reads": "the custodian {what} reads more once the rules have run out",
    "keys": "{what} has new keys, and its old key has not vouched for them",
    "connection": "another connection is let in for {what}",
    "hub": "another hub or log is named",
    "header-level": "the hub sees areas more finely",
    "assertion": "it need no longer stay true: {what}",
    "refuse-below": "reports are taken again that were sealed by older rules",
    "threshold": "fewer signatures are asked for from then on",
    "coordinators": "other people sign for {what}",
}


class Ground(NamedTuple):
    """One way by which a version widens: a code, and whom or what it is about."""

    code: str
    what: str = ""

    def __str__(self) -> str:
        return _WORDS[self.code].format(what=self.what)


def told(asked: int, why: Ground | None = None) -> str:
    """For a person: that the network asks for ``asked`` signatures, and by which ground."""
    reason = f": {why}" if why else ""
    return (
        f"By this somebody comes to read more, or somebody else does{reason}. The network asks for {asked} signatures"
        " then."
    )


def side(trusted: Trusted, *besides: Rule) -> Side:
    """All rules of a set of documents, and some ``besides``."""
    rules = chain.from_iterable(policy.rules for policy in _policies(trusted))
    return Side.of((*rules, *besides), trusted.offices, trusted.areas)


def without_rules(trusted: Trusted) -> Side:
    """The same once the rules have run out, when the custodian reads whatever none of them forbids it."""
    custodian = trusted.network.custodian
    return side(trusted, *([in_custody(custodian)] if trusted.offices.get(custodian) is not None else ()))


def _policies(trusted: Trusted) -> tuple[PolicyFile, ...]:
    return (trusted.policy, *trusted.regional.values())


def grounds(before: Trusted, after: Trusted, network: str, today: date) -> Iterator[Ground]:
    """All ways by which ``after`` in the place of ``before`` widens, the cheap ones first.

    Args:
        network: the digest of the network's first root, under which an office vouches for its keys.
        today: the first day that is looked at; each later one counts as well.
    """
    old, new = before.network, after.network
    if (new.widening_threshold or 0) < (old.widening_threshold or 0):
        yield Ground("threshold")
    if (new.hub_key, new.log) != (old.hub_key, old.log):
        yield Ground("hub")
    if new.header_level > old.header_level:
        yield Ground("header-level")
    if new.custodian != old.custodian:
        yield Ground("custodian", new.custodian)
    if after.policy.refuse_below < before.policy.refuse_below:
        yield Ground("refuse-below")
    yield from (Ground("keys", office) for office in replaced_keys(before, after, network))
    yield from (Ground("connection", office) for office in _connections(before, after))
    yield from (Ground("assertion", sentence) for sentence in _dropped(before, after))
    if widens(side(before), side(after), today):
        yield Ground("rules")
    if new.custodian == old.custodian and widens(without_rules(before), without_rules(after), today):
        yield Ground("custodian-reads", new.custodian)


def replaced_keys(before: Trusted, after: Trusted, network: str) -> list[str]:
    """Ids of the offices whose keys differ and whose old key does not say so, whatever the documents claim."""
    found = []
    for office in after.offices.document.offices:
        was = before.offices.get(office.id)
        if was is not None and _else(was, office) and not vouched(office, was, network):
            found.append(office.id)
    return sorted(found)


def _else(was: Office, office: Office) -> bool:
    """Whether somebody else may hold a key of ``office``. A key that only ends sooner, or goes, is nobody else's."""
    return office.sign != was.sign or bool({key.key for key in office.keys} - {key.key for key in was.keys})


def _connections(before: Trusted, after: Trusted) -> list[str]:
    """Offices that were there already and are let in by a key that was not, and such coordinators, old and new: they
    read the log and every list. A monitor is served nothing of others."""
    if before.connections is None or after.connections is None:
        return []
    old = {(row.nkey, row.member) for row in before.connections.connections}
    return sorted(
        {
            row.member
            for row in after.connections.connections
            if (row.nkey, row.member) not in old
            and (row.role == "coordinator" or (row.role == "office" and before.offices.get(row.member)))
        }
    )


def _dropped(before: Trusted, after: Trusted) -> list[str]:
    """Assertions that stood and stand no more, in any file of rules."""
    kept = {one for policy in _policies(after) for one in policy.assertions}
    held = (one for policy in _policies(before) for one in policy.assertions)
    return [one.always for one in held if one not in kept]
