"""Discs with what the lab reads of Windows media: the list of editions, the two boot images. No Windows in them."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path

import pycdlib

PROMPT = b"P" * 4096
SILENT = b"N" * 4096

Edition = tuple[str, str, int]
SERVER_2022: Sequence[Edition] = (
    ("ServerStandardEval", "Server Core", 20348),
    ("ServerStandardEval", "Server", 20348),
    ("ServerDatacenterEval", "Server", 20348),
)


def wim(editions: Sequence[Edition], *, language: str = "en-US", count: int | None = None) -> bytes:
    """A Windows image file with these editions: header and list, no data."""
    images = "".join(
        f'<IMAGE INDEX="{index}"><NAME>{edition}</NAME><WINDOWS><ARCH>9</ARCH><EDITIONID>{edition}</EDITIONID>'
        f"<INSTALLATIONTYPE>{kind}</INSTALLATIONTYPE><LANGUAGES><DEFAULT>{language}</DEFAULT></LANGUAGES>"
        f"<VERSION><BUILD>{build}</BUILD><SPBUILD>587</SPBUILD></VERSION></WINDOWS></IMAGE>"
        for index, (edition, kind, build) in enumerate(editions, start=1)
    )
    data = f"\ufeff<WIM>{images}</WIM>".encode("utf-16-le")
    header = bytearray(208)
    header[:8] = b"MSWIM\x00\x00\x00"
    struct.pack_into("<I", header, 0x2C, len(editions) if count is None else count)
    struct.pack_into("<QQQ", header, 0x48, len(data) | 2 << 56, 4096, len(data))
    return bytes(header).ljust(4096, b"\x00") + data


def medium(path: Path, files: dict[str, bytes], *, boot: bytes | None = PROMPT) -> Path:
    """A UDF disc, as Windows media are, with an El Torito entry for EFI."""
    disc = pycdlib.PyCdlib()
    disc.new(interchange_level=3, udf="2.60")
    known = {""}
    for number, (name, content) in enumerate(files.items()):
        parts = name.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            if folder not in known:
                known.add(folder)
                disc.add_directory(
                    "/" + "/".join(f"D{len(f)}{f[0].upper()}" for f in parts[:depth]), udf_path=f"/{folder}"
                )
        short = "/".join(f"D{len(f)}{f[0].upper()}" for f in parts[:-1])
        disc.add_fp(
            io.BytesIO(content),
            len(content),
            f"/{short}/F{number}.;1" if short else f"/F{number}.;1",
            udf_path=f"/{name}",
        )
    if boot is not None:
        disc.add_fp(io.BytesIO(b"bios"), 4, "/BOOT.;1")
        disc.add_fp(io.BytesIO(boot), len(boot), "/EFI.;1")
        disc.add_eltorito("/BOOT.;1", bootcatfile="/BOOT.CAT;1")
        disc.add_eltorito("/EFI.;1", bootcatfile="/BOOT.CAT;1", efi=True)
    disc.write(str(path))
    disc.close()
    return path


def server(path: Path, editions: Sequence[Edition] = SERVER_2022, **extra: bytes) -> Path:
    """A medium of Windows Server."""
    return medium(
        path,
        {
            "sources/install.wim": wim(editions),
            "efi/microsoft/boot/efisys.bin": PROMPT,
            "efi/microsoft/boot/efisys_noprompt.bin": SILENT,
            **extra,
        },
    )
