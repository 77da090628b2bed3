"""The Python table and the C header describe the same bytes: compared with what a compiled program prints."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from wsklab import abi

HEADER = Path(__file__).resolve().parents[2] / "driver-src" / "include" / "wsklab_ioctl.h"

#: Python enumeration and the prefix of its C names.
ENUMERATIONS = {
    "FN": abi.Function,
    "IRP": abi.IrpSource,
    "CONTEXT": abi.CallContext,
    "FORWARD": abi.Forward,
    "SECURITY": abi.Security,
    "INPUT": abi.InputKind,
    "NPI": abi.Npi,
    "DESCRIPTOR": abi.Descriptor,
    "USE": abi.Use,
    "OBJECT": abi.ObjectKind,
    "CALLBACK": abi.Callback,
    "ACTION": abi.Action,
    "FAULT": abi.Fault,
    "NOTE": abi.Note,
    "INVOKE": abi.Invoke,
    "DISPATCH": abi.Dispatch,
    "OWNER_": abi.Owner,
    "MDL": abi.MdlShape,
    "FILL": abi.Fill,
    "ADDRESS": abi.AddressUse,
    "SWITCH": abi.Switch,
    "STATE": abi.State,
    "INFORMATION": abi.InformationKind,
    "DEVICE_OBJECT": abi.DeviceObjectKind,
    "RECORD": abi.RecordFlag,
    "CANCEL": abi.CancelOutcome,
    "HELLO": abi.HelloFlag,
    "CATEGORY": abi.Category,
    "SOCKET": abi.SocketState,
    "EVENT": abi.EventKind,
    "OWNER": abi.OwnerFlag,
}


def expected_lines() -> list[str]:
    """What the program has to print, from the Python table."""
    lines = []
    for name, structure in abi.STRUCTURES.items():
        lines.append(f"size {name} {structure.size}")
        lines += [f"field {name}.{item.name} {item.offset} {item.size}" for item in structure.fields]
    lines += [f"ioctl {code.name} {code.value}" for code in abi.Ioctl]
    lines += [f"limit {name} {value}" for name, value in abi.limits().items()]
    for prefix, kind in ENUMERATIONS.items():
        lines += [f"enum {prefix.rstrip('_')}_{item.name} {item.value}" for item in kind]
    return lines


def program() -> str:
    """A C program that prints the same lines from the header; a name that is missing there does not compile."""
    body = []
    for name, structure in abi.STRUCTURES.items():
        kind = f"WSKLAB_{name}"
        body.append(f'printf("size {name} %zu\\n", sizeof({kind}));')
        body += [
            f'printf("field {name}.{item.name} %zu %zu\\n", offsetof({kind}, {item.name}), '
            f"sizeof((({kind} *)0)->{item.name}));"
            for item in structure.fields
        ]
    body += [f'printf("ioctl {code.name} %u\\n", (unsigned)IOCTL_WSKLAB_{code.name});' for code in abi.Ioctl]
    body += [f'printf("limit {name} %u\\n", (unsigned)WSKLAB_{name});' for name in abi.limits()]
    for prefix, kind in ENUMERATIONS.items():
        for item in kind:
            c_name = f"{prefix.rstrip('_')}_{item.name}"
            body.append(f'printf("enum {c_name} %u\\n", (unsigned)WSKLAB_{c_name});')
    return '#include <stdio.h>\n#include "wsklab_ioctl.h"\nint main(void) {\n' + "\n".join(body) + "\nreturn 0;\n}\n"


def test_python_and_c_agree_on_every_size_offset_code_and_number(tmp_path: Path) -> None:
    """Fact: sizes, offsets, control codes, limits and enumeration values are those of the compiled header."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler on this host")
    source = tmp_path / "layout.c"
    source.write_text(program())
    binary = tmp_path / "layout"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{HEADER.parent}"]
    subprocess.run([compiler, *flags, "-o", str(binary), str(source)], check=True, timeout=60)
    printed = subprocess.run([str(binary)], check=True, timeout=10, capture_output=True, text=True)
    assert printed.stdout.splitlines() == expected_lines()


def test_structures_have_no_holes() -> None:
    """Fact: every byte of every structure belongs to a named member, so the driver can check reserved ones."""
    for structure in abi.STRUCTURES.values():
        at = 0
        for item in structure.fields:
            assert item.offset == at, f"hole before {structure.name}.{item.name}"
            at += item.size
        assert at == structure.size, f"hole at the end of {structure.name}"


def test_no_member_of_the_header_is_missing_in_python() -> None:
    """Fact: the header defines no structure that the table lacks (no holes + equal sizes cover the members)."""
    text = HEADER.read_text()
    names = {line.split()[2].removeprefix("WSKLAB_") for line in text.splitlines() if line.startswith("typedef struct")}
    assert names == set(abi.STRUCTURES)
