"""Reading what a Windows image file (WIM, ESD) contains: its header and its XML. Pure Python, no Windows.

The header's layout is that of Microsoft's WIM file format: 208 bytes, `MSWIM\\0\\0\\0`, the number of images at
0x2C, the resource entry of the XML data at 0x48 (project's fact sheet, a.3). The XML is UTF-16LE and never compressed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from lxml import etree

from wsklab.errors import ImageError

__all__ = ["WimImage", "WimStream", "read_wim"]

_MAGIC: Final = b"MSWIM\x00\x00\x00"
_HEADER_SIZE: Final = 208
_XML_ENTRY: Final = 0x48
#: The XML of real media has some hundred KiB; a length above this is a damaged header.
_XML_LIMIT: Final = 64 << 20
_AMD64: Final = "9"


class WimStream(Protocol):
    """What is read from: a file, or a file inside of an ISO image."""

    def seek(self, offset: int, whence: int = 0, /) -> object: ...
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WimImage:
    """One edition in the file.

    Attributes:
        index: its number, from 1.
        name: the technical or human name, as the file has it.
        edition: EDITIONID, e.g. `ServerStandardEval`.
        installation_type: `Client`, `Server` or `Server Core`.
        build: number of the build, e.g. 26100; `revision` what follows it (UBR).
        language: default language, e.g. `en-US`.
        amd64: whether it is for x64 processors.
    """

    index: int
    name: str
    edition: str
    installation_type: str
    build: int
    revision: int
    language: str
    amd64: bool

    @property
    def is_evaluation(self) -> bool:
        """Evaluation editions want no product key, and expire."""
        return self.edition.endswith("Eval")


def read_wim(stream: WimStream, *, what: str) -> Sequence[WimImage]:
    """The editions in an image file.

    Args:
        stream: positioned anywhere.
        what: the file's name, for errors.

    Raises:
        ImageError: it is no WIM, it is cut, or its XML is damaged.
    """
    stream.seek(0)
    header = stream.read(_HEADER_SIZE)
    if len(header) < _HEADER_SIZE or not header.startswith(_MAGIC):
        raise ImageError(f"{what} is no Windows image file", why="it does not start as a WIM does")
    (size_and_flags, offset, _) = struct.unpack_from("<QQQ", header, _XML_ENTRY)
    size = size_and_flags & 0x00FF_FFFF_FFFF_FFFF
    if not 0 < size <= _XML_LIMIT:
        raise ImageError(f"{what} is damaged", why=f"its header says that the list of editions has {size} bytes")
    stream.seek(offset)
    data = stream.read(size)
    if len(data) != size:
        raise ImageError(f"{what} is cut", why=f"the list of editions ends after {len(data)} of {size} bytes")
    count = struct.unpack_from("<I", header, 0x2C)[0]
    images = _images(data, what)
    if len(images) != count:
        raise ImageError(f"{what} is damaged", why=f"its header counts {count} editions, its list {len(images)}")
    return images


def _images(data: bytes, what: str) -> list[WimImage]:
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    try:
        text = data.decode("utf-16-le").removeprefix("\ufeff")
        root = etree.fromstring(text.encode(), parser)
        return [_image(element) for element in root.findall("IMAGE")]
    except (UnicodeDecodeError, etree.XMLSyntaxError, ValueError) as error:
        raise ImageError(f"the list of editions in {what} cannot be read", why=str(error)) from error


def _image(element: etree._Element) -> WimImage:
    def text(path: str) -> str:
        return (element.findtext(path) or "").strip()

    return WimImage(
        index=int(element.get("INDEX") or ""),
        name=text("NAME"),
        edition=text("WINDOWS/EDITIONID"),
        installation_type=text("WINDOWS/INSTALLATIONTYPE"),
        build=int(text("WINDOWS/VERSION/BUILD") or 0),
        revision=int(text("WINDOWS/VERSION/SPBUILD") or 0),
        language=text("WINDOWS/LANGUAGES/DEFAULT"),
        amd64=text("WINDOWS/ARCH") == _AMD64,
    )
