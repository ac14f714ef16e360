"""The hub's settings: one JSON file beside its keys, written by ``hub init`` and meant to be edited.

What is wrong in it stops the hub at its start, and is told by line and field.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from kengele_schemas import disk
from kengele_schemas.encoding import loads
from kengele_schemas.errors import Damaged, Malformed
from kengele_schemas.fields import BadField, Bytes32, Exactly1, Items, Model, bad, read

from .home import not_yours

FILE: Final = "hub.json"
_VERSION: Final = 1
_MAX_FILE: Final = 65536
_GENERIC: Final = "See the JSON Schema of this document."
_EXAMPLES: Final = {
    "urls": '"urls": ["tls://hub.example.org:4222"]',
    "host": '"host": "0.0.0.0"',
    "port": '"port": 4222',
    "websocket_port": '"websocket_port": 443',
    "tls_certificate": '"tls_certificate": "/etc/kengele/chain.pem"',
    "tls_key": '"tls_key": "/etc/kengele/key.pem"',
    "external": '"external": "tls://nats.example.org:4222"',
    "max_store": '"max_store": 50000000000',
    "ledger_max_bytes": '"ledger_max_bytes": -1',
    "ops_port": '"ops_port": 9090',
    "ops_hosts": '"ops_hosts": ["figures.example.org"]',
}
_SCHEMES: Final = ("nats", "tls", "ws", "wss")
Port = Annotated[int, Field(ge=-1, le=65535)]


def _reachable(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or "@" in url or any(letter.isspace() for letter in url):
        raise bad("is not the address of a NATS server", "It looks like tls://hub.example.org:4222")
    return url


def _all_reachable(urls: str) -> str:
    for url in urls.split(",") if urls else ():
        _reachable(url)
    return urls


Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9.:\[\]-]{1,255}$")]
Url = Annotated[str, Field(max_length=200), AfterValidator(_reachable)]


class Settings(Model):
    """How this hub listens, what it may use, and where members reach it.

    ``urls`` stand in the cards that members are given; ``external`` is a broker to use instead of the embedded one,
    or the servers of a cluster with commas between;
    ``ops_port`` serves health and figures on loopback only (-1: the system chooses, 0: not at all), under the names of
    this machine and the ``ops_hosts``, with their port where it is not 80 or 443: what a proxy before it is asked by.
    """

    v: Exactly1 = 1
    urls: Annotated[tuple[Url, ...], Items, Field(max_length=8)] = ()
    host: Annotated[str, Field(min_length=1, max_length=255)] = "127.0.0.1"
    port: Port = 4222
    websocket_port: Port | None = None
    tls_certificate: Annotated[Path | None, Field(strict=False)] = None
    tls_key: Annotated[Path | None, Field(strict=False)] = None
    external: Annotated[str, Field(max_length=800), AfterValidator(_all_reachable)] = ""
    replicas: Literal[1, 3, 5] = 1
    max_store: Annotated[int, Field(ge=1)] | None = None
    ledger_max_bytes: Annotated[int, Field(ge=-1)] = -1
    ops_port: Port = -1
    ops_hosts: Annotated[tuple[Host, ...], Items, Field(max_length=8)] = ()
    token_hash: Bytes32

    @model_validator(mode="after")
    def _whole_tls(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise bad("has a TLS certificate without its key, or the reverse", "Give both, or neither.")
        return self

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.replicas > 1 and not self.external:
            raise bad("has replicas, which a broker alone cannot keep", "Set replicas to 1, or external to a cluster.")
        ports = [port for port in (self.port, self.websocket_port, self.ops_port) if port is not None and port > 0]
        if len(ports) != len(set(ports)):
            raise bad("gives one port to two services", "Give port, websocket_port and ops_port different numbers.")
        return self

    def save(self, home: Path) -> None:
        """Writes the file into ``home``."""
        disk.write(home / FILE, self.model_dump_json(indent=2).encode() + b"\n")

    @classmethod
    def load(cls, home: Path) -> Settings:
        """The settings in ``home``. Raises Damaged, Refused or Malformed, naming what to mend."""
        try:
            data = disk.read_own(home / FILE)
        except PermissionError:
            raise not_yours(home) from None
        except OSError:
            raise Damaged("no-hub", "There is no hub in this directory.", "Make one with: kengele hub init") from None
        try:
            document = loads(data, max_bytes=_MAX_FILE)
            if isinstance(document, dict) and isinstance(document.get("v"), int) and document["v"] > _VERSION:
                raise Damaged(
                    "newer-home", "A newer Kengele wrote this hub's settings.", "Install that version, or a later one."
                )
            return read(cls, document)
        except Malformed as error:
            line, mend = _told(data, error)
            where = f"{home / FILE}, line {line}" if line else str(home / FILE)
            raise Malformed("bad-settings", f"{where}: {error.sentence}", mend) from None


def _told(data: bytes, error: Malformed) -> tuple[int, str]:
    """The line that ``error`` speaks of, 0 if none, and what to do about it; never what stands there."""
    text = data[:_MAX_FILE].decode("utf-8", "replace")
    lines: dict[str, int] = {}
    try:
        for name, line in _members(text):
            if name in lines and error.code == "duplicate-key":
                return line, "Leave one of the two out."
            lines[name] = line
            if isinstance(error, BadField) and error.paths[0] == "" and name not in Settings.model_fields:
                near = difflib.get_close_matches(name, Settings.model_fields, 1)
                return line, f"Perhaps {near[0]} is meant; if not, remove it." if near else error.mend
    except json.JSONDecodeError as problem:
        return problem.lineno, error.mend or "Look for a comma, a quotation mark or a bracket there."
    if isinstance(error, BadField):
        name = re.split(r"[.\[]", error.paths[0])[0]
        mend = f"Write it as in: {_EXAMPLES[name]}" if error.mend == _GENERIC and name in _EXAMPLES else error.mend
        return lines.get(name, 0), mend
    return 0, error.mend


def _members(text: str) -> Iterator[tuple[str, int]]:
    """The names in the object that ``text`` is, with their lines. Raises JSONDecodeError where it ceases to be one."""
    decoder = json.JSONDecoder()
    at = _past(text, 0, "{")
    while not text.startswith("}", at):
        name, end = decoder.raw_decode(text, at)
        if not isinstance(name, str):
            raise json.JSONDecodeError("no name", text, at)
        yield name, text.count("\n", 0, at) + 1
        _, at = decoder.raw_decode(text, _past(text, end, ":"))
        if text.startswith("}", after := _past(text, at, "")):
            at = after
        elif text.startswith("}", at := _past(text, at, ",")):
            raise json.JSONDecodeError("a comma before the end", text, at)
    if text[at + 1 :].strip():
        raise json.JSONDecodeError("more than an object", text, _past(text, at + 1, ""))


def _past(text: str, at: int, mark: str) -> int:
    """The place behind ``mark``, which must be next, and the blanks round it."""
    found = re.compile(rf"\s*{re.escape(mark)}\s*").match(text, at)
    if found is None:
        raise json.JSONDecodeError("not there", text, at + len(text[at:]) - len(text[at:].lstrip()))
    return found.end()
