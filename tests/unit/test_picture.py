"""Screens as PNG: read back by the rules of the PNG specification."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsklab.errors import HypervisorError
from wsklab.picture import as_png, png_size


def _decode(picture: bytes) -> tuple[int, int, bytes]:
    """Width, height and pixels of an unfiltered RGB picture; every checksum is checked."""
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(picture):
        (length,) = struct.unpack(">I", picture[at : at + 4])
        kind, data = picture[at + 4 : at + 8], picture[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack(">I", picture[at + 8 + length : at + 12 + length])
        assert checksum == zlib.crc32(kind + data)
        chunks[kind] = data
        at += 12 + length
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, colour, rest) == (8, 2, [0, 0, 0])
    rows = zlib.decompress(chunks[b"IDAT"])
    row = 3 * width + 1
    assert [rows[start] for start in range(0, len(rows), row)] == [0] * height
    return width, height, b"".join(rows[start + 1 : start + row] for start in range(0, len(rows), row))


@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_a_ppm_keeps_every_pixel(width: int, height: int, data: st.DataObject) -> None:
    """Old QEMUs give PPM; the PNG has the same size and pixels."""
    pixels = data.draw(st.binary(min_size=3 * width * height, max_size=3 * width * height))
    picture = as_png(b"P6\n%d %d\n255\n" % (width, height) + pixels)

    assert _decode(picture) == (width, height, pixels)
    assert png_size(picture) == (width, height)


def test_a_png_is_left_alone() -> None:
    """What newer QEMUs give is written as it is."""
    picture = as_png(b"P6\n1 1\n255\nabc")
    assert as_png(picture) is picture


@pytest.mark.parametrize(
    "picture",
    [b"", b"GIF89a", b"P6\n2 2\n255\nabc", b"P6\n0 0\n255\n", b"P6\n1 1\n65535\n" + b"x" * 6, b"P5\n1 1\n255\na"],
)
def test_what_is_no_picture_is_an_error(picture: bytes) -> None:
    """Cut, empty and unknown pictures are not written to a file."""
    with pytest.raises(HypervisorError):
        as_png(picture)


@pytest.mark.parametrize("picture", [b"", b"\x89PNG\r\n\x1a\n", b"x" * 40])
def test_the_size_of_no_png_is_an_error(picture: bytes) -> None:
    """A picture that ends too early has no size."""
    with pytest.raises(HypervisorError):
        png_size(picture)
