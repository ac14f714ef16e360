"""QR codes: an invitation on a screen or a printed card."""

from __future__ import annotations

import io
from pathlib import Path

import segno

from kengele_schemas import disk
from kengele_schemas.errors import Malformed, Refused

_KINDS = (".svg", ".png")


def drawn(text: str) -> str:
    """``text`` as a QR code of half-block characters, two rows of modules a line."""
    out = io.StringIO()
    _code(text).terminal(out, border=2, compact=True)
    return out.getvalue().rstrip("\n")


def write(text: str, path: Path) -> None:
    """Writes ``text`` as a QR code. Raises Malformed on a name that ends neither in .svg nor in .png."""
    if path.suffix not in _KINDS:
        raise Malformed("malformed", "A picture is written as .svg or .png.", "Name the file so.")
    picture = io.BytesIO()
    _code(text).save(picture, kind=path.suffix[1:], scale=4, border=4)
    disk.write(path, picture.getvalue())


def inline(text: str) -> str:
    """``text`` as a QR code in a ``data:`` address, for a page. Raises Refused as :func:`write`."""
    return str(_code(text).svg_data_uri(scale=4, border=4, dark="black", light="white"))


def size(text: str) -> int:
    """Modules on one side of the QR code of ``text``."""
    return int(_code(text).symbol_size(border=0)[0])


def _code(text: str) -> segno.QRCode:
    try:
        return segno.make_qr(text, error="l", boost_error=False)
    except segno.DataOverflowError:
        raise Refused(
            "too-large", "This is too much for a QR code: the hub's certificate is in it.", "Give it as a file."
        ) from None
