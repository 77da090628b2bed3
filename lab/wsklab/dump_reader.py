"""Reads one Windows kernel crash dump and prints what it says as JSON. A program of its own.

A dump comes from a guest, and the library that walks it is C++: so it is read in a child process with limits
(`wsklab.dump` starts it), and whatever happens here ends there as an error. Formats: complete, kernel and bitmap
dumps through kdmp-parser; the header of small dumps. Layouts: DUMP_HEADER64 and KLDR_DATA_TABLE_ENTRY of the public
symbols (the library's own structures), the list of loaded modules by PsLoadedModuleList.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from kdmp_parser import KernelDumpParser

_PAGE: Final = 0x1000
_MODULE_LIMIT: Final = 1024
_NAME_LIMIT: Final = 520
_STACK_BYTES: Final = 0x4000
_MEMORY_LIMIT: Final = 4 << 30
_CPU_SECONDS: Final = 60
# KLDR_DATA_TABLE_ENTRY, x64
_DLL_BASE, _SIZE, _BASE_NAME = 0x30, 0x40, 0x58

Reader = Callable[[int, int], bytes]


def main(path: str) -> int:
    """Print the document."""
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT, _MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the library prints its complaints to standard output, which is the document's
    dump = KernelDumpParser(Path(path))
    header, context = dump.header, dump.context

    def read(address: int, size: int) -> bytes:
        """Virtual memory; shorter than asked where a page is not in the dump."""
        data = bytearray()
        while len(data) < size:
            page = dump.read_virtual_page((address + len(data)) & ~(_PAGE - 1))
            if page is None:
                break
            start = (address + len(data)) % _PAGE
            data += page[start : start + size - len(data)]
        return bytes(data)

    stack = read(context.Rsp, _STACK_BYTES)
    document = {
        "type": dump.type.name,
        "code": header.BugCheckCode,
        "parameters": [
            header.BugCheckCodeParameter[0],
            header.BugCheckCodeParameter[1],
            header.BugCheckCodeParameter[2],
            header.BugCheckCodeParameter[3],
        ],
        "build": header.MinorVersion,
        "processors": header.NumberProcessors,
        "system_time": header.SystemTime,
        "rip": context.Rip,
        "modules": list(_modules(read, header.PsLoadedModuleList)),
        "stack": [value for (value,) in struct.iter_unpack("<Q", stack[: len(stack) // 8 * 8])],
    }
    with answer:
        json.dump(document, answer)
    return 0


def _modules(read: Reader, head: int) -> Iterator[dict[str, object]]:
    """The loaded modules, as far as the list can be followed; a circle or a hole ends it."""
    seen = {head}
    entry = _pointer(read, head)
    while entry and entry not in seen and len(seen) <= _MODULE_LIMIT:
        seen.add(entry)
        data = read(entry, _BASE_NAME + 16)
        if len(data) < _BASE_NAME + 16:
            return
        (following,) = struct.unpack_from("<Q", data, 0)
        (base,) = struct.unpack_from("<Q", data, _DLL_BASE)
        (size,) = struct.unpack_from("<I", data, _SIZE)
        length, _, _, buffer = struct.unpack_from("<HHIQ", data, _BASE_NAME)
        name = read(buffer, min(length, _NAME_LIMIT)).decode("utf-16-le", errors="replace")
        yield {"base": base, "size": size, "name": name}
        entry = following


def _pointer(read: Reader, address: int) -> int:
    data = read(address, 8)
    return int.from_bytes(data, "little") if len(data) == 8 else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
