"""Screens as PNG, whatever format the hypervisor takes them in (PPM from a QEMU before 7.1 or built without libpng)."""

from __future__ import annotations

import re
import struct
import zlib
from typing import Final

from wsklab.errors import HypervisorError

__all__ = ["as_png", "png_size"]

_PNG: Final = b"\x89PNG\r\n\x1a\n"

# P6, width, height, largest value, one white space; comments are possible and QEMU writes none.
_PPM: Final = re.compile(rb"P6\s(\d{1,5})\s(\d{1,5})\s255\s")


def as_png(picture: bytes) -> bytes:
    """The same picture as PNG.

    Raises:
        HypervisorError: it is neither PNG nor PPM.
    """
    if picture.startswith(_PNG):
        return picture
    head = _PPM.match(picture)
    if head is None:
        raise HypervisorError("the screen is no picture that we know", why=f"it begins with {picture[:8]!r}")
    width, height = int(head[1]), int(head[2])
    pixels = picture[head.end() :]
    row = 3 * width
    if len(pixels) != row * height or not pixels:
        raise HypervisorError("the picture of the screen is damaged", why=f"{len(pixels)} bytes for {width} x {height}")
    # each row is preceded by its filter: 0, none
    rows = b"".join(b"\0" + pixels[start : start + row] for start in range(0, len(pixels), row))
    # eight bits, RGB, standard compression, filter and no interlace
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return _PNG + _chunk(b"IHDR", size) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def png_size(picture: bytes) -> tuple[int, int]:
    """Width and height of a PNG.

    Raises:
        HypervisorError: it is none.
    """
    if not picture.startswith(_PNG) or picture[12:16] != b"IHDR" or len(picture) < 24:
        raise HypervisorError("not a PNG", why=f"it begins with {picture[:8]!r}")
    width, height = struct.unpack(">II", picture[16:24])
    return width, height


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
