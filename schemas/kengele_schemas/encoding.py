"""Strict readings of JSON and base64url, as every byte from the bus is read.

What a lenient parser lets through (a name given twice, NaN, a byte order mark, a lone surrogate, spare bits in the last
base64 character) is two meanings for one signed text; each is refused here, once, for all formats.
Sources: RFC 8259, RFC 7493 (I-JSON), RFC 4648 §3.5 and §5.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from typing import Any, Final, Never

from .errors import Malformed

MAX_INTEGER: Final = 2**53
_B64U: Final = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def b64u(data: bytes) -> str:
    """``data`` as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unb64u(text: str) -> bytes:
    """The bytes of canonical, unpadded base64url ``text``.

    Raises:
        Malformed: another alphabet, padding, an impossible length, or spare bits that are not zero.
    """
    if _B64U.fullmatch(text) is None or len(text) % 4 == 1:
        raise Malformed("malformed", "A value is not unpadded base64url.")
    data = binascii.a2b_base64(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4))
    if len(text) % 4 and b64u(data) != text:
        raise Malformed("malformed", "A base64url value is not in canonical form.")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise Malformed("duplicate-key", "A member name occurs twice in one object.")
    return result


def _no_constant(_: str) -> Never:
    raise Malformed("malformed", "NaN and Infinity are not JSON.")


def _integer(digits: str) -> int:
    if len(digits) > 17 or not -MAX_INTEGER <= (value := int(digits)) <= MAX_INTEGER:
        raise Malformed("malformed", "An integer is outside ±2^53.")
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise Malformed("malformed", "A number is too large.")
    return value


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_integer, parse_float=_float, strict=True
)


def _deeper(value: Any, limit: int) -> bool:
    """Whether arrays and objects nest more than ``limit`` deep."""
    if not isinstance(value, (list, dict)):
        return False
    if limit == 0:
        return True
    items = value.values() if isinstance(value, dict) else value
    return any(_deeper(item, limit - 1) for item in items if isinstance(item, (list, dict)))


def _values(data: bytes | str) -> int:
    """So many values ``data`` has at most; marks within texts count as well. Counting takes a thousandth of reading."""
    text = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return 1 + sum(text.count(mark) for mark in (b",", b"[", b"{"))


def loads(data: bytes | str, *, max_bytes: int, max_depth: int = 8, max_values: int | None = None) -> Any:
    """The value of one JSON text, read strictly.

    Args:
        data: UTF-8 bytes, or text already decoded.
        max_bytes: the most that is looked at, in bytes (characters for text).
        max_depth: how deep arrays and objects may nest.
        max_values: how many values it may have, each comma within a text counted for one more; no bound if None. For
            what a stranger sends to a program that serves others: a value costs as much to read as 100 bytes.

    Raises:
        Malformed: ``oversized``, ``duplicate-key`` or ``malformed``; never anything else.
    """
    if len(data) > max_bytes:
        raise Malformed("oversized", f"A message is larger than {max_bytes} bytes.", "Shorten it or send it in parts.")
    if max_values is not None and _values(data) > max_values:
        raise Malformed("oversized", f"A message has more than {max_values} values.", "Send it in parts.")
    try:
        text = data if isinstance(data, str) else data.decode("utf-8", "strict")
    except UnicodeDecodeError:
        raise Malformed("malformed", "A message is not UTF-8.") from None
    try:
        value = _DECODER.decode(text)
    except Malformed:
        raise
    except (ValueError, RecursionError):
        raise Malformed("malformed", "A message is not JSON.") from None
    if _deeper(value, max_depth):
        raise Malformed("malformed", f"A message nests deeper than {max_depth} levels.")
    if (isinstance(data, str) or "\\u" in text) and _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise Malformed("malformed", "A text holds half a surrogate pair.")
    return value


def dumps(value: Any) -> bytes:
    """``value`` as compact UTF-8 JSON, members in the order given."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")


def canonical(value: Any) -> bytes:
    """``value`` as compact UTF-8 JSON with sorted members: one text for one value."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False).encode("utf-8")


def length_prefixed(*parts: bytes) -> bytes:
    """``parts`` joined, each behind its length as four big-endian bytes: no two lists give the same bytes."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def network_of(root: bytes) -> str:
    """The network whose first root is ``root``: its SHA-256, to which members' word about their keys is bound."""
    return b64u(hashlib.sha256(root).digest())
