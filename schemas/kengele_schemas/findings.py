"""What a doctor finds: a code, what is wrong, and the mend; and what the hub's and the members' doctors judge alike.

Values in, findings out: who looks at disks, clocks and names is elsewhere. No finding holds a member's name, a key or
anything that was written.

    >>> [finding.code for finding in of_disk(10 * MEBI, 100 * MEBI * 1024, writable=True)]
    ['disk-full']
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from .errors import KengeleError

MEBI: Final = 1024**2
FOUND: Final = 8
"""Exit code of a doctor who found something."""
_LEAST_FREE: Final = 256 * MEBI
_LEAST_SHARE: Final = 0.05
_CERTIFICATE: Final = timedelta(days=14)
_CLOCK: Final = 5.0
"""Seconds: more than a network that keeps time is ever apart."""

Resolved = Literal["both", "ipv4", "ipv6", "none"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault. ``code`` is stable and meant for programs."""

    code: str
    what: str
    mend: str

    @classmethod
    def of(cls, error: KengeleError) -> Finding:
        """An error as a finding."""
        return cls(error.code, error.sentence, error.mend or "See docs/operations.md.")

    def document(self) -> dict[str, str]:
        """For ``--json``."""
        return {"code": self.code, "what": self.what, "mend": self.mend}


def of_disk(free: int | None, size: int | None, *, writable: bool) -> Iterator[Finding]:
    """What is wrong with the disk of a home."""
    if not writable:
        yield Finding(
            "disk-read-only",
            "The home cannot be written.",
            "See who owns it, and whether the disk was mounted read-only after an error: dmesg, then fsck.",
        )
    if free is not None and size and (free < _LEAST_FREE or free / size < _LEAST_SHARE):
        yield Finding(
            "disk-full",
            f"The disk has {free // MEBI:,} MB left of {size // MEBI:,}.",
            "Free some or take a larger one: without room nothing is accepted any more.",
        )


def of_modes(exposed: Iterable[str], foreign: Iterable[str]) -> Iterator[Finding]:
    """What is wrong with who may read a home's files, and who owns them; by the files' names."""
    exposed, foreign = sorted(exposed), sorted(foreign)
    if exposed:
        yield Finding(
            "files-exposed",
            f"Others on this machine can read {', '.join(exposed)}.",
            "Take it from them: chmod -R go= on the home, chmod 600 on keys. Who read it may have a copy.",
        )
    if foreign:
        yield Finding(
            "other-owner",
            f"The home and {', '.join(foreign)} belong to different users.",
            "Somebody ran a command as root: chown -R the home to its user.",
        )


def of_clock(seconds: float | None) -> Iterator[Finding]:
    """What is wrong with a clock that is ``seconds`` ahead of others (negative: behind)."""
    if seconds is not None and abs(seconds) > _CLOCK:
        yield Finding(
            "clock-off",
            f"This machine's clock is {abs(seconds):,.0f} s {'ahead of' if seconds > 0 else 'behind'} the others'.",
            "Let it be set from the network: timedatectl set-ntp true. Signatures and certificates are judged by it.",
        )


def of_names(resolved: Mapping[str, Resolved], *, ipv6: bool) -> Iterator[Finding]:
    """What is wrong with how hosts' names resolve here; ``ipv6`` is whether this machine has an IPv6 route."""
    for host, how in sorted(resolved.items()):
        if how == "none":
            yield Finding(
                "name-fails",
                f"The name {host} does not resolve on this machine.",
                "See /etc/resolv.conf and the domain's records; the address in the cards must be one that resolves.",
            )
        elif how == "ipv6" and not ipv6:
            yield Finding(
                "ipv6-only",
                f"The name {host} has IPv6 addresses only, and this machine has no way there.",
                "Give the name an A record; many members' lines have no IPv6.",
            )


def of_authorities(missing: Sequence[str]) -> Iterator[Finding]:
    """What is wrong where ``missing`` environment variables name files that are not there."""
    if missing:
        yield Finding(
            "ca-missing",
            f"{' and '.join(sorted(missing))} names what is not there or cannot be read.",
            "Put the authority's certificate there or unset the variable: as it is, no certificate is trusted.",
        )


@dataclass(frozen=True, slots=True)
class Certificate:
    """What matters of a TLS certificate: its dates in UTC, its names, and whether it can be used at all."""

    usable: bool
    begins: datetime | None = None
    ends: datetime | None = None
    names: tuple[str, ...] = ()


def of_certificate(certificate: Certificate | None, hosts: Iterable[str], now: datetime) -> Iterator[Finding]:
    """What is wrong with the certificate for ``hosts``; nothing if there is none."""
    if certificate is None:
        return
    if not certificate.usable or certificate.ends is None or certificate.begins is None:
        yield Finding(
            "bad-certificate",
            "The certificate and its key cannot be used.",
            "Give PEM files that the hub's user can read, that belong together and have no passphrase.",
        )
        return
    if certificate.begins > now:
        yield Finding("certificate-early", "The certificate does not hold yet.", "See whether the clock is right.")
    if certificate.ends - now < _CERTIFICATE:
        when = "has run out" if certificate.ends <= now else f"runs out on {certificate.ends:%Y-%m-%d}"
        yield Finding("certificate-ends", f"The certificate {when}.", "Renew it, then restart the hub.")
    for host in sorted(set(hosts)):
        if not any(_covers(name, host) for name in certificate.names):
            yield Finding(
                "certificate-host",
                f"The certificate does not name {host}, where members look for the hub.",
                "Have one made that does, with every address in the cards as a subject alternative name.",
            )


def _covers(name: str, host: str) -> bool:
    """RFC 9525 §6.3: a wildcard stands for one whole label, the first."""
    try:
        return ipaddress.ip_address(name) == ipaddress.ip_address(host)
    except ValueError:
        pass
    name, host = name.lower().rstrip("."), host.lower().rstrip(".")
    return name == host or (name.startswith("*.") and name[2:] == host.partition(".")[2])


def told(findings: Sequence[Finding], *, json: bool) -> Iterator[Any]:
    """``findings`` as lines for a person, or as one document."""
    if json:
        yield {"findings": [finding.document() for finding in findings]}
        return
    for finding in findings:
        yield f"! {finding.what}"
        yield f"  What to do: {finding.mend}"
        yield f"  (code: {finding.code})"
    yield f"{len(findings)} found." if findings else "Nothing found."
