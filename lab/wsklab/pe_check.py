"""What Windows asks of a driver's file, looked up in the file on this host.

Each check gives a `Finding`, good or bad, so that a report shows what was looked at. The reasons (kernel
loader, HVCI, test signing) stand beside each check; `docs` tells where they come from.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pefile
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import pkcs7

from wsklab.errors import ConfigError, UsageError

__all__ = ["AllowedImport", "Finding", "check_pe", "load_imports", "require_deployable"]

_MACHINE_AMD64: Final = 0x8664
_SUBSYSTEM_NATIVE: Final = 1
_RELOCS_STRIPPED: Final = 0x0001
_DYNAMIC_BASE: Final = 0x0040
_NX_COMPAT: Final = 0x0100
_APPCONTAINER: Final = 0x1000
_EXECUTE: Final = 0x20000000
_WRITE: Final = 0x80000000
_DIRECTORY_EXCEPTION: Final = 3
_DIRECTORY_SECURITY: Final = 4
_DIRECTORY_RELOC: Final = 5
_DIRECTORY_TLS: Final = 9

# A driver is some kilobytes; this only keeps somebody's disk image out of memory.
_LARGEST_FILE: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One look at a driver's file.

    Attributes:
        check: its name, stable: `machine`, `subsystem`, `relocations`, `checksum`, `sections`, `debug`,
            `characteristics`, `alignment`, `tls`, `unwind`, `imports`, `signature`, `certificate-table`.
        ok: whether the file passes.
        detail: what was found, and what would be right.
    """

    check: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class AllowedImport:
    """A line of `imports.toml`: an export that the driver may use.

    Attributes:
        module: `ntoskrnl.exe`, `hal.dll`, `netio.sys`.
        function: the exported name.
        minimum: the first Windows that exports it, as its documentation page says.
    """

    module: str
    function: str
    minimum: str


def load_imports(path: Path) -> frozenset[AllowedImport]:
    """Read the allow-list: tables `[[import]]` with `function`, `module`, `minimum`.

    Raises:
        ConfigError: it is absent or of another form.
    """
    try:
        entries = tomllib.loads(path.read_text("utf-8"))["import"]
        return frozenset(
            AllowedImport(module=entry["module"].lower(), function=entry["function"], minimum=entry["minimum"])
            for entry in entries
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"the list of allowed imports cannot be read: {path}",
            why=str(error) or type(error).__name__,
            fix="it holds tables [[import]] with function, module and minimum",
            evidence={"file": str(path)},
        ) from error


def check_pe(path: Path, imports: Path | None) -> list[Finding]:
    """Look at a driver's file after signing.

    Args:
        path: the `.sys`.
        imports: the allow-list, or None for a driver that is not ours: then only the modules are looked at.

    Raises:
        UsageError: it is not a PE file at all. ConfigError: the allow-list is unusable.
    """
    image = _open(path)
    try:
        return [
            *_header(image),
            *_sections(image),
            _imports(image, load_imports(imports) if imports is not None else None),
            *_signature(path, image),
        ]
    finally:
        image.close()


def require_deployable(path: Path) -> None:
    """Whether a file given to `deploy` can be loaded by a test-signed Windows at all; one clear error if not.

    Raises:
        UsageError: it is absent, no PE file, no amd64 kernel driver, damaged, or not signed.
    """
    image = _open(path)
    try:
        findings = {finding.check: finding for finding in (*_header(image), *_signature(path, image))}
    finally:
        image.close()
    fixes = {
        "machine": "give the x64 build of the driver",
        "subsystem": "give the driver's .sys, not a program or a library",
        "checksum": "the file was changed after linking: build it anew, or sign it with: wsklab driver sign",
        "signature": "sign it with: wsklab driver sign FILE",
        "certificate-table": "sign it anew with: wsklab driver sign FILE",
    }
    for check, fix in fixes.items():
        if not findings[check].ok:
            raise UsageError(
                f"{path} cannot be deployed: {check}",
                why=findings[check].detail,
                fix=fix,
                evidence={"file": str(path), "check": check},
            )


def _open(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if size > _LARGEST_FILE:
            raise UsageError(f"{path} is no driver", why=f"it has {size} bytes", fix="give the driver's .sys")
        return pefile.PE(data=path.read_bytes(), fast_load=True)
    except OSError as error:
        raise UsageError(f"cannot read {path}", why=str(error), fix="name an existing file") from error
    except (pefile.PEFormatError, ValueError) as error:
        raise UsageError(f"{path} is no driver", why=f"not a PE file: {error}", fix="give the driver's .sys") from error


def _directory(image: Any, index: int) -> tuple[int, int]:
    """(virtual address or file offset, size) of a data directory; zeros when there is none."""
    directories = image.OPTIONAL_HEADER.DATA_DIRECTORY
    if index >= len(directories):
        return 0, 0
    return directories[index].VirtualAddress, directories[index].Size


def _header(image: Any) -> Iterator[Finding]:
    header, optional = image.FILE_HEADER, image.OPTIONAL_HEADER
    yield Finding("machine", header.Machine == _MACHINE_AMD64, f"machine 0x{header.Machine:04x}, amd64 is 0x8664")
    yield Finding(
        "subsystem", optional.Subsystem == _SUBSYSTEM_NATIVE, f"subsystem {optional.Subsystem}, a driver has 1 (native)"
    )
    # Kernel address randomisation moves every driver.
    stripped = bool(header.Characteristics & _RELOCS_STRIPPED)
    size = _directory(image, _DIRECTORY_RELOC)[1]
    yield Finding(
        "relocations",
        not stripped and size > 0,
        "relocations are stripped" if stripped else f"{size} bytes of relocations",
    )
    # The kernel refuses a driver with a wrong checksum: 0xC0000221, Win32 193.
    want = image.generate_checksum()
    yield Finding("checksum", optional.CheckSum == want, f"0x{optional.CheckSum:08x}, computed 0x{want:08x}")
    flags = optional.DllCharacteristics
    sane = flags & _DYNAMIC_BASE and flags & _NX_COMPAT and not flags & _APPCONTAINER
    yield Finding(
        "characteristics",
        bool(sane),
        f"DllCharacteristics 0x{flags:04x}; dynamic base 0x40 and NX 0x100 are wanted, app container 0x1000 is not",
    )
    # HVCI maps pages by their rights, so sections must not share one.
    yield Finding(
        "alignment",
        optional.SectionAlignment % 0x1000 == 0 and optional.SectionAlignment > 0,
        f"section alignment 0x{optional.SectionAlignment:x}, a multiple of 0x1000 is wanted",
    )
    yield Finding("tls", _directory(image, _DIRECTORY_TLS) == (0, 0), "the kernel runs no thread-local initialisers")
    # Without it the kernel can neither unwind through the driver nor show its frames after a bug check.
    unwind = _directory(image, _DIRECTORY_EXCEPTION)[1]
    yield Finding("unwind", unwind > 0, f"{unwind} bytes of unwind data (.pdata)")


def _sections(image: Any) -> Iterator[Finding]:
    names = {section.Name.rstrip(b"\0").decode("latin-1"): section for section in image.sections}
    bad = sorted(name for name, s in names.items() if s.Characteristics & _WRITE and s.Characteristics & _EXECUTE)
    yield Finding("sections", not bad, f"writable and executable: {bad}" if bad else f"{sorted(names)}")
    # GNU's long names ("/4") are DWARF; they would be mapped into the kernel.
    debug = sorted(name for name in names if name.startswith(("/", ".debug", ".stab")))
    yield Finding("debug", not debug, f"debug sections: {debug}" if debug else "none")


def _imports(image: Any, allowed: frozenset[AllowedImport] | None) -> Finding:
    try:
        image.parse_data_directories(directories=[pefile.DIRECTORY_ENTRY["IMAGE_DIRECTORY_ENTRY_IMPORT"]])
    except (pefile.PEFormatError, ValueError) as error:
        return Finding("imports", False, f"the import table cannot be read: {error}")
    used = {
        (entry.dll.decode("latin-1").lower(), _import_name(symbol))
        for entry in getattr(image, "DIRECTORY_ENTRY_IMPORT", [])
        for symbol in entry.imports
    }
    if allowed is None:
        user = sorted({module for module, _ in used if module.endswith(".dll") and module != "hal.dll"})
        return Finding("imports", not user, f"user-mode modules: {user}" if user else f"{len(used)} functions")
    known = {(entry.module, entry.function) for entry in allowed}
    bad = sorted(f"{module}!{function}" for module, function in used - known)
    return Finding("imports", not bad, f"not in the allow-list: {bad}" if bad else f"{len(used)} functions, all listed")


def _import_name(symbol: Any) -> str:
    return symbol.name.decode("latin-1") if symbol.name else f"#{symbol.ordinal}"


def _signature(path: Path, image: Any) -> Iterator[Finding]:
    offset, size = _directory(image, _DIRECTORY_SECURITY)
    if size == 0:
        yield Finding("signature", False, "the file is not signed")
        yield Finding("certificate-table", False, "the file is not signed")
        return
    length = path.stat().st_size
    placed = offset % 8 == 0 and offset + size == length
    yield Finding(
        "certificate-table", placed, f"{size} bytes at {offset} of {length}; 8-byte aligned and last is wanted"
    )
    data = path.read_bytes()
    algorithm = _signed_digest(data, image, offset, size)
    if algorithm is None:
        yield Finding("signature", False, "the signature is of other content: the file was changed after signing")
        return
    yield Finding(
        "signature", True, f"{algorithm} of the content, signed by {_signers(data[offset + 8 : offset + size])}"
    )


def _signed_digest(data: bytes, image: Any, offset: int, size: int) -> str | None:
    """Which digest of the file stands in its certificate table, if any.

    Authenticode's digest leaves out what signing changes: the checksum, the directory entry of the table,
    and the table (Microsoft's paper "Windows Authenticode Portable Executable Signature Format").
    """
    checksum = image.OPTIONAL_HEADER.get_field_absolute_offset("CheckSum")
    entry = image.OPTIONAL_HEADER.DATA_DIRECTORY[_DIRECTORY_SECURITY].get_file_offset()
    content = data[:checksum] + data[checksum + 4 : entry] + data[entry + 8 : offset]
    content += b"\0" * (-len(data[:offset]) % 8)
    table = data[offset : offset + size]
    for name in ("sha256", "sha384", "sha512", "sha1"):
        if hashlib.new(name, content, usedforsecurity=False).digest() in table:
            return name
    return None


def _signers(pkcs7_der: bytes) -> str:
    try:
        certificates = pkcs7.load_der_pkcs7_certificates(pkcs7_der[: _der_length(pkcs7_der)])
    except (ValueError, UnsupportedAlgorithm) as error:
        return f"certificates that cannot be read ({error})"
    return ", ".join(certificate.subject.rfc4514_string() for certificate in certificates[:3]) or "nobody"


def _der_length(der: bytes) -> int:
    """Length of the first element, so that the padding behind it can be cut off."""
    if len(der) < 2 or der[1] < 0x80:
        return 2 + (der[1] if len(der) > 1 else 0)
    count = der[1] & 0x7F
    return 2 + count + int.from_bytes(der[2 : 2 + count], "big")
