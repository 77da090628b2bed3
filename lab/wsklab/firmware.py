"""UEFI firmware of this host for guests: found as libvirt finds it, or where distributions put it.

Wanted is one that does not enforce Secure Boot, because test-signed drivers are refused where it is enforced: firmware
without it, else firmware that could but has no keys yet (setup mode), else known files without a description.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from wsklab.domain_xml import UefiChoice

__all__ = ["FIRMWARE_FOLDERS", "KNOWN_FILES", "find_uefi"]

#: Where firmware says what it is (QEMU's docs/interop/firmware.json).
FIRMWARE_FOLDERS: Final = (Path("/etc/qemu/firmware"), Path("/usr/share/qemu/firmware"))

#: Code and empty variables where nothing is described: Debian and Ubuntu, Fedora, Arch, openSUSE.
KNOWN_FILES: Final = (
    (Path("/usr/share/OVMF/OVMF_CODE_4M.fd"), Path("/usr/share/OVMF/OVMF_VARS_4M.fd")),
    (Path("/usr/share/OVMF/OVMF_CODE.fd"), Path("/usr/share/OVMF/OVMF_VARS.fd")),
    (Path("/usr/share/edk2/ovmf/OVMF_CODE.fd"), Path("/usr/share/edk2/ovmf/OVMF_VARS.fd")),
    (Path("/usr/share/edk2/x64/OVMF_CODE.4m.fd"), Path("/usr/share/edk2/x64/OVMF_VARS.4m.fd")),
    (Path("/usr/share/qemu/ovmf-x86_64-code.bin"), Path("/usr/share/qemu/ovmf-x86_64-vars.bin")),
)

_SECURE: Final = "secure-boot"
_ENROLLED: Final = "enrolled-keys"


def find_uefi(
    folders: Iterable[Path] = FIRMWARE_FOLDERS, files: Sequence[tuple[Path, Path]] = KNOWN_FILES
) -> UefiChoice | None:
    """The firmware that guests get; None when there is none.

    Args:
        folders: descriptions; a file in an earlier folder hides its namesake in a later one.
        files: code and variables, the best first.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        for file in sorted(folder.glob("*.json")):
            found.setdefault(file.name, file)
    described = [one for _, file in sorted(found.items()) if (one := _described(file)) is not None]
    for features, code in described:
        if _SECURE not in features:
            return UefiChoice(code=code)
    for features, code in described:
        if _ENROLLED not in features:
            return UefiChoice(code=code, setup_mode=True)
    for code, variables in files:
        if code.is_file() and variables.is_file():
            return UefiChoice(code=code, variables=variables)
    return None


def _described(file: Path) -> tuple[frozenset[str], Path] | None:
    """Features and code of firmware for a q35 guest; None for any other, and for a damaged description."""
    try:
        description: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if "uefi" not in description["interface-types"]:
            return None
        for target in description["targets"]:
            if target["architecture"] == "x86_64" and any("q35" in machine for machine in target["machines"]):
                code = Path(description["mapping"]["executable"]["filename"])
                return (frozenset(description["features"]), code) if code.is_file() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return None
