"""The structures that the driver shares with WSK and with user mode: in the shim they lie as on Windows.

Both builds compile one table of sizes and offsets, made from the headers' own structures; it is read out of the object
files, so that nothing has to run on Windows.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from shim_build import MISSING, SOURCE

MINGW = "x86_64-w64-mingw32-gcc"
OBJCOPY = "x86_64-w64-mingw32-objcopy"
ABSENT = MISSING + [name for name in (MINGW, OBJCOPY) if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=f"not on this host: {ABSENT}")

STRUCTURE = re.compile(r"typedef struct (?P<name>\w+) \{\n(?P<body>(?:    .*\n|\n)*?)\}", re.MULTILINE)
MEMBER = re.compile(r"^    [\w ]+?[ *]+(?P<name>\w+)(?:\[\w+\])?;", re.MULTILINE)
#: Of the system, in the headers of the DDK on one side and of the shim on the other: what the driver touches.
SYSTEM = {
    "IRP": (
        "MdlAddress",
        "Flags",
        "AssociatedIrp",
        "IoStatus",
        "StackCount",
        "CurrentLocation",
        "PendingReturned",
        "Cancel",
    ),
    "IO_STACK_LOCATION": (
        "MajorFunction",
        "Flags",
        "Control",
        "Parameters",
        "DeviceObject",
        "CompletionRoutine",
        "Context",
    ),
    "MDL": ("Next", "Size", "MdlFlags", "MappedSystemVa", "StartVa", "ByteCount", "ByteOffset"),
    "FILE_OBJECT": ("DeviceObject", "FsContext", "FsContext2"),
    "DEVICE_OBJECT": ("DriverObject", "Flags", "StackSize"),
    "DRIVER_OBJECT": ("DeviceObject", "DriverUnload", "MajorFunction"),
    "UNICODE_STRING": ("Length", "MaximumLength", "Buffer"),
    "LIST_ENTRY": ("Flink", "Blink"),
    "GUID": ("Data1", "Data4"),
}
#: Nothing of the driver's asks for their size, and the two headers have different ends.
MADE_BY_THE_SYSTEM = {"FILE_OBJECT", "DEVICE_OBJECT", "DRIVER_OBJECT"}


def structures() -> dict[str, list[str]]:
    """Our own: names and members that have an address."""
    found = {}
    for header in ("wsklab_ioctl.h", "wsklab_wsk.h", "wsklab_nmr.h"):
        text = re.sub(r"/\*.*?\*/", "", (SOURCE / "include" / header).read_text(), flags=re.DOTALL)
        for match in STRUCTURE.finditer(text):
            members = MEMBER.findall(match["body"]) if "{" not in match["body"] else []
            found[f"struct {match['name']}"] = members
    return found


def table(tmp_path: Path) -> tuple[Path, list[str]]:
    """A C file with the table, and what each number is."""
    names = []
    numbers = []
    for name, members in {**structures(), **SYSTEM}.items():
        if name not in MADE_BY_THE_SYSTEM:
            names.append(name)
            numbers.append(f"sizeof({name})")
        for member in members:
            names.append(f"{name}.{member}")
            numbers.append(f"offsetof({name}, {member})")
    source = tmp_path / "layout.c"
    rows = ",\n    ".join(numbers)
    source.write_text(
        '#include "platform.h"\n#include "wsklab_ioctl.h"\n#include "wsklab_wsk.h"\n#include "wsklab_nmr.h"\n'
        f'__attribute__((section("layout"), used)) const unsigned int Layout[] = {{\n    {rows}\n}};\n'
    )
    return source, names


def numbers_of(argv: list[str], objcopy: str, tmp_path: Path, source: Path) -> tuple[int, ...]:
    made = tmp_path / "layout.o"
    raw = tmp_path / "layout.bin"
    include = [f"-I{SOURCE / folder}" for folder in ("sys", "include")]
    for command in (
        [*argv, "-std=gnu11", *include, "-c", str(source), "-o", str(made)],
        [objcopy, "--only-section=layout", "-O", "binary", str(made), str(raw)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
    data = raw.read_bytes()
    return struct.unpack(f"<{len(data) // 4}I", data)


def test_both_builds_lay_out_the_same(tmp_path: Path) -> None:
    """Every size and every offset."""
    source, names = table(tmp_path)
    ddk = Path("/usr/x86_64-w64-mingw32/include/ddk")
    if not ddk.is_dir():
        ddk = Path("/usr/share/mingw-w64/include/ddk")
    windows = numbers_of([MINGW, "-isystem", str(ddk)], OBJCOPY, tmp_path, source)
    linux = numbers_of(["clang", "-fshort-wchar", f"-I{SOURCE / 'shim'}"], "objcopy", tmp_path, source)

    assert len(names) > 300
    assert len(windows) >= len(names)
    differing = [
        f"{name}: {there} and {here}" for name, there, here in zip(names, windows, linux, strict=False) if there != here
    ]
    assert differing == []
