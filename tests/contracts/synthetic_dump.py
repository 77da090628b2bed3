"""Makes crash dumps in Windows' real formats: a header, page tables, a list of modules, a stack.

Written from the public structure definitions, with real four-level page tables, so that what reads them walks memory
as in a dump of a real machine. They are synthetic all the same: evidence about the reader, not about Windows.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

PAGE = 0x1000
LIST_HEAD = 0xFFFFF800_00010000
ENTRIES = 0xFFFFF800_00020000
NAMES = 0xFFFFF800_00030000
STACK = 0xFFFFF800_00040000


@dataclass
class SyntheticDump:
    """A machine that stopped.

    Attributes:
        code, parameters: its bug check.
        modules: base, size and name of what is loaded.
        stack: values on the stack, from its top.
        rip: where the processor was.
        circle: whether the list of modules runs into itself instead of back to its head.
    """

    code: int
    parameters: tuple[int, int, int, int]
    modules: list[tuple[int, int, str]]
    stack: list[int] = field(default_factory=list)
    rip: int = 0
    build: int = 20348
    circle: bool = False

    def complete(self) -> bytes:
        """A complete dump: physical memory in runs behind the header."""
        memory = self._memory()
        count = len(memory) // PAGE
        header = self._header(1)
        struct.pack_into("<IIQ", header, 0x88, 1, 0, count)
        struct.pack_into("<QQ", header, 0x98, 0, count)
        return bytes(header) + memory

    def bitmap(self) -> bytes:
        """A kernel dump with a bitmap of the pages that are in it: page 0 is left out."""
        memory = self._memory()
        count = len(memory) // PAGE
        bits = bytearray((count + 7) // 8)
        for page in range(1, count):
            bits[page // 8] |= 1 << page % 8
        first = -(-(0x2000 + 0x38 + len(bits)) // PAGE) * PAGE
        head = bytearray(first - 0x2000)
        head[:8] = b"SDMPDUMP"
        struct.pack_into("<QQQ", head, 0x20, first, count - 1, len(bits) * 8)
        head[0x38 : 0x38 + len(bits)] = bits
        return bytes(self._header(5)) + bytes(head) + memory[PAGE:]

    def small(self) -> bytes:
        """A small dump: the header, and nothing of the machine's memory."""
        return bytes(self._header(4)) + b"\x00" * 0x1000

    def _header(self, kind: int) -> bytearray:
        header = bytearray(b"PAGE" * (0x2000 // 4))
        header[0x4:0x8] = b"DU64"
        struct.pack_into("<II", header, 0x08, 15, self.build)
        struct.pack_into("<QQQQ", header, 0x10, PAGE, 0, LIST_HEAD, 0)
        struct.pack_into("<III", header, 0x30, 0x8664, 2, self.code)
        struct.pack_into("<4Q", header, 0x40, *self.parameters)
        struct.pack_into("<Q", header, 0x80, 0)
        context = 0x348
        header[context : context + 0x4D0] = bytes(0x4D0)
        struct.pack_into("<I", header, context + 0x30, 0x10000F)  # ContextFlags: x64, everything
        struct.pack_into("<II", header, context + 0x34, 0x1F80, 0x1F80)
        struct.pack_into("<I", header, context + 0x100, 0x1F80)
        struct.pack_into("<I", header, context + 0x118, 0x1F80)  # FltSave.MxCsr
        struct.pack_into("<Q", header, context + 0x98, STACK)
        struct.pack_into("<Q", header, context + 0xF8, self.rip)
        struct.pack_into("<I", header, 0xF98, kind)
        struct.pack_into("<Q", header, 0xFA0, 0)
        struct.pack_into("<Q", header, 0xFA8, 0x01DA00000000_0000)
        return header

    def _memory(self) -> bytes:
        """Physical memory: the tables from page 1, then the mapped pages."""
        mapped = self._mapped()
        tables: dict[tuple[int, ...], int] = {(): 1}
        pages: dict[int, bytearray] = {0: bytearray(PAGE), 1: bytearray(PAGE)}

        def page() -> int:
            number = len(pages)
            pages[number] = bytearray(PAGE)
            return number

        for address, content in mapped.items():
            indices = tuple(address >> shift & 0x1FF for shift in (39, 30, 21, 12))
            table = 1
            for depth in range(1, 4):
                if indices[:depth] not in tables:
                    tables[indices[:depth]] = page()
                    struct.pack_into("<Q", pages[table], indices[depth - 1] * 8, tables[indices[:depth]] << 12 | 0x63)
                table = tables[indices[:depth]]
            number = page()
            pages[number][: len(content)] = content
            struct.pack_into("<Q", pages[table], indices[3] * 8, number << 12 | 0x63)
        return b"".join(bytes(pages[number]) for number in sorted(pages))

    def _mapped(self) -> dict[int, bytes]:
        """Virtual pages: the list's head, its entries, the names, the stack."""
        entries, names = bytearray(PAGE), bytearray(PAGE)
        addresses = [ENTRIES + 0x100 * number for number in range(len(self.modules))]
        end = addresses[0] if self.circle and addresses else LIST_HEAD
        used = 0
        for number, (base, size, name) in enumerate(self.modules):
            text = name.encode("utf-16-le")
            names[used : used + len(text)] = text
            at = 0x100 * number
            following = addresses[number + 1] if number + 1 < len(addresses) else end
            struct.pack_into("<Q", entries, at, following)
            struct.pack_into("<Q", entries, at + 0x30, base)
            struct.pack_into("<I", entries, at + 0x40, size)
            struct.pack_into("<HHIQ", entries, at + 0x58, len(text), len(text), 0, NAMES + used)
            used += len(text)
        head = struct.pack("<Q", addresses[0] if addresses else LIST_HEAD)
        stack = b"".join(struct.pack("<Q", value) for value in self.stack)
        return {LIST_HEAD: head, ENTRIES: bytes(entries), NAMES: bytes(names), STACK: stack}
