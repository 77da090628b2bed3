"""Optical discs: writing the answer disc, reading installation media. The owner of pycdlib.

Windows media are UDF bridge discs: their ISO 9660 view holds a README only. Windows Setup finds
`Autounattend.xml` only through Joliet or UDF, because ISO 9660 has no such long names.
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pycdlib
from pycdlib.pycdlibexception import PyCdlibException

from wsklab.errors import ImageError

__all__ = ["Disc", "EfiBootEntry", "write_disc"]

_SECTOR: Final = 2048
_SYSTEM_AREA: Final = 16 * _SECTOR
#: What pycdlib raises besides its own errors when a disc is damaged.
_DAMAGE: Final = (struct.error, ValueError, IndexError, KeyError, TypeError, AttributeError)
_JOLIET_NAME: Final = 64
_EFI_PLATFORM: Final = 0xEF


def write_disc(path: Path, files: Mapping[str, bytes | Path], *, label: str) -> None:
    """Write a disc with Joliet names.

    Args:
        path: the new image; overwritten.
        files: content, or the file that has it, by path below the root, e.g. `wsklab/first-logon.cmd`.
        label: the volume's name; Windows shows it, nothing depends on it.

    Raises:
        ImageError: a name is too long for Joliet, or a file cannot be read or written.
    """
    disc = pycdlib.PyCdlib()
    try:
        disc.new(interchange_level=3, joliet=3, vol_ident=label.upper()[:32])
        folders: dict[PurePosixPath, str] = {PurePosixPath("."): ""}
        for number, (name, content) in enumerate(sorted(files.items()), start=1):
            target = PurePosixPath(name)
            if any(len(part) > _JOLIET_NAME for part in target.parts):
                raise ImageError(f"{name} cannot be on a disc", why=f"Joliet names have {_JOLIET_NAME} characters")
            for folder in reversed(target.parents[:-1]):
                if folder not in folders:
                    folders[folder] = f"{folders[folder.parent]}/D{len(folders):05}"
                    disc.add_directory(folders[folder], joliet_path=f"/{folder}")
            data = content if isinstance(content, bytes) else content.read_bytes()
            short = f"{folders[target.parent]}/F{number:05}.;1"
            disc.add_fp(io.BytesIO(data), len(data), short, joliet_path=f"/{target}")
        disc.write(str(path))
    except (PyCdlibException, OSError) as error:
        raise ImageError(f"the disc {path.name} cannot be written", why=str(error)) from error
    finally:
        with contextlib.suppress(PyCdlibException):
            disc.close()


def _check_size(path: Path) -> None:
    """Compare the file's size with what the primary volume descriptor (ECMA-119, 8.4) says.

    Raises:
        ImageError: it is no disc image, or it is cut.
    """
    with path.open("rb") as file:
        file.seek(_SYSTEM_AREA)
        descriptor = file.read(_SECTOR)
    if descriptor[1:6] != b"CD001":
        raise ImageError(
            f"{path} is no disc image",
            why="it has no volume descriptor of ISO 9660",
            fix="give an ISO file as Microsoft publishes it",
        )
    wanted = int.from_bytes(descriptor[80:84], "little") * _SECTOR
    actual = path.stat().st_size
    if actual < wanted:
        raise ImageError(
            f"{path} is cut", why=f"it has {actual} bytes and says itself that it has {wanted}", fix="get it again"
        )


class EfiBootEntry:
    """Where the medium's EFI boot image lies.

    Args:
        offset: byte offset in the disc image.
        content: the boot image, as long as the file that it is compared with.
    """

    def __init__(self, offset: int, content: bytes) -> None:
        self.offset = offset
        self.content = content


class Disc:
    """A disc image that is read; a context manager.

    Raises:
        ImageError: the file is missing, is no disc image, or is shorter than it says.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._disc = pycdlib.PyCdlib()
        try:
            _check_size(path)
            self._disc.open(str(path))
        except (PyCdlibException, OSError, *_DAMAGE) as error:
            raise ImageError(
                f"{path} is no disc image that can be read",
                why=str(error),
                fix="give an ISO file as Microsoft publishes it",
            ) from error

    def __enter__(self) -> Disc:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        with contextlib.suppress(PyCdlibException):
            self._disc.close()

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[io.RawIOBase]:
        """A file for reading, by its path below the root; letters' case does not matter.

        Raises:
            ImageError: there is no such file.
        """
        view, found = self._find(name)
        if found is None:
            raise ImageError(
                f"{self._path} has no file {name}",
                why="looked at its UDF, Joliet and ISO 9660 views",
                fix="is it complete?",
            )
        try:
            with self._disc.open_file_from_iso(**{view: found}) as stream:
                yield stream
        except (PyCdlibException, OSError) as error:
            raise ImageError(f"{name} in {self._path} cannot be read", why=str(error)) from error

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return self._find(name)[1] is not None

    def efi_boot_image(self, size: int) -> EfiBootEntry | None:
        """The El Torito boot image for EFI firmware, `size` bytes of it; None when the disc has none."""
        catalogue: Any = self._disc.eltorito_boot_catalog
        if catalogue is None:
            return None
        for section in catalogue.sections:
            if section.platform_id == _EFI_PLATFORM and section.section_entries:
                offset = int(section.section_entries[0].get_rba()) * _SECTOR
                with self._path.open("rb") as file:
                    file.seek(offset)
                    return EfiBootEntry(offset, file.read(size))
        return None

    def _find(self, name: str) -> tuple[str, str | None]:
        """The view of the disc and the exact path in it."""
        views = [("udf_path", self._disc.has_udf()), ("joliet_path", self._disc.has_joliet()), ("iso_path", True)]
        for view, exists in views:
            found = self._walk(view, name) if exists else None
            if found is not None:
                return view, found
        return "", None

    def _walk(self, view: str, name: str) -> str | None:
        current = ""
        for part in PurePosixPath(name).parts:
            try:
                children = list(self._disc.list_children(**{view: current or "/"}))
            except PyCdlibException:
                return None
            for child in children:
                if child is None or child.is_dot() or child.is_dotdot():
                    continue
                raw = child.file_identifier()
                encoding = "utf-16-be" if view == "joliet_path" else "utf-8"
                text = raw.decode(encoding, errors="replace")
                if text.split(";")[0].rstrip(".").lower() == part.lower():
                    current = f"{current}/{text}"
                    break
            else:
                return None
        return current
