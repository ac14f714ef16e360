"""The hub's settings: one JSON file beside its keys, written by ``hub init`` and meant to be edited."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from kengele_schemas.encoding import loads
from kengele_schemas.errors import Damaged, Malformed
from kengele_schemas.fields import Bytes32, Items, Model, bad, read

from .home import write_private

FILE: Final = "hub.json"
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


def _reachable_or_none(url: str) -> str:
    return _reachable(url) if url else url


Url = Annotated[str, Field(max_length=200), AfterValidator(_reachable)]


class Settings(Model):
    """How this hub listens, what it may use, and where members reach it.

    ``urls`` stand in the cards that members are given; ``external`` is a broker to use instead of the embedded one;
    ``ops_port`` serves health and figures on loopback only (-1: the system chooses, 0: not at all).
    """

    v: Literal[1] = 1
    urls: Annotated[tuple[Url, ...], Items, Field(max_length=8)] = ()
    host: Annotated[str, Field(min_length=1, max_length=255)] = "127.0.0.1"
    port: Port = 4222
    websocket_port: Port | None = None
    tls_certificate: Annotated[Path | None, Field(strict=False)] = None
    tls_key: Annotated[Path | None, Field(strict=False)] = None
    external: Annotated[str, Field(max_length=200), AfterValidator(_reachable_or_none)] = ""
    replicas: Literal[1, 3, 5] = 1
    max_store: Annotated[int, Field(ge=1)] | None = None
    ledger_max_bytes: Annotated[int, Field(ge=-1)] = -1
    ops_port: Port = -1
    token_hash: Bytes32

    @model_validator(mode="after")
    def _whole_tls(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise bad("has a TLS certificate without its key, or the reverse", "Give both, or neither.")
        return self

    def save(self, home: Path) -> None:
        """Writes the file into ``home``."""
        write_private(home / FILE, self.model_dump_json(indent=2).encode() + b"\n")

    @classmethod
    def load(cls, home: Path) -> Settings:
        """The settings in ``home``. Raises Damaged or Malformed, naming what to mend."""
        try:
            data = (home / FILE).read_bytes()
        except OSError:
            raise Damaged("no-hub", "There is no hub in this directory.", "Make one with: kengele hub init") from None
        try:
            return read(cls, loads(data, max_bytes=65536))
        except Malformed as error:
            raise Malformed("bad-settings", f"{home / FILE}: {error.sentence}", error.mend) from None
