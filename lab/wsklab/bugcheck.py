"""Stop codes of the Windows kernel: their names, what their parameters mean for us, and how they are grouped.

Names and parameters are those of Microsoft's bug check code reference. Only codes that a network driver or Driver
Verifier can cause are listed; any other is shown as its number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = ["Bugcheck", "bucket_of", "find_on_console", "name_of"]

_NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {
        0x01: "APC_INDEX_MISMATCH",
        0x0A: "IRQL_NOT_LESS_OR_EQUAL",
        0x0D: "MUTEX_LEVEL_NUMBER_VIOLATION",
        0x18: "REFERENCE_BY_POINTER",
        0x19: "BAD_POOL_HEADER",
        0x1A: "MEMORY_MANAGEMENT",
        0x1E: "KMODE_EXCEPTION_NOT_HANDLED",
        0x24: "NTFS_FILE_SYSTEM",
        0x3B: "SYSTEM_SERVICE_EXCEPTION",
        0x3D: "INTERRUPT_EXCEPTION_NOT_HANDLED",
        0x44: "MULTIPLE_IRP_COMPLETE_REQUESTS",
        0x48: "CANCEL_STATE_IN_COMPLETED_IRP",
        0x4A: "IRQL_GT_ZERO_AT_SYSTEM_SERVICE",
        0x4E: "PFN_LIST_CORRUPT",
        0x50: "PAGE_FAULT_IN_NONPAGED_AREA",
        0x51: "REGISTRY_ERROR",
        0x76: "PROCESS_HAS_LOCKED_PAGES",
        0x77: "KERNEL_STACK_INPAGE_ERROR",
        0x7A: "KERNEL_DATA_INPAGE_ERROR",
        0x7B: "INACCESSIBLE_BOOT_DEVICE",
        0x7E: "SYSTEM_THREAD_EXCEPTION_NOT_HANDLED",
        0x7F: "UNEXPECTED_KERNEL_MODE_TRAP",
        0x80: "NMI_HARDWARE_FAILURE",
        0x8E: "KERNEL_MODE_EXCEPTION_NOT_HANDLED",
        0x93: "INVALID_KERNEL_HANDLE",
        0x9F: "DRIVER_POWER_STATE_FAILURE",
        0xA0: "INTERNAL_POWER_ERROR",
        0xB8: "ATTEMPTED_SWITCH_FROM_DPC",
        0xBE: "ATTEMPTED_WRITE_TO_READONLY_MEMORY",
        0xC1: "SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION",
        0xC2: "BAD_POOL_CALLER",
        0xC4: "DRIVER_VERIFIER_DETECTED_VIOLATION",
        0xC5: "DRIVER_CORRUPTED_EXPOOL",
        0xC7: "TIMER_OR_DPC_INVALID",
        0xC8: "IRQL_UNEXPECTED_VALUE",
        0xC9: "DRIVER_VERIFIER_IOMANAGER_VIOLATION",
        0xCC: "PAGE_FAULT_IN_FREED_SPECIAL_POOL",
        0xCD: "PAGE_FAULT_BEYOND_END_OF_ALLOCATION",
        0xCE: "DRIVER_UNLOADED_WITHOUT_CANCELLING_PENDING_OPERATIONS",
        0xD0: "DRIVER_CORRUPTED_MMPOOL",
        0xD1: "DRIVER_IRQL_NOT_LESS_OR_EQUAL",
        0xD3: "DRIVER_PORTION_MUST_BE_NONPAGED",
        0xD4: "SYSTEM_SCAN_AT_RAISED_IRQL_CAUGHT_IMPROPER_DRIVER_UNLOAD",
        0xD5: "DRIVER_PAGE_FAULT_IN_FREED_SPECIAL_POOL",
        0xD6: "DRIVER_PAGE_FAULT_BEYOND_END_OF_ALLOCATION",
        0xD8: "DRIVER_USED_EXCESSIVE_PTES",
        0xDA: "SYSTEM_PTE_MISUSE",
        0xE2: "MANUALLY_INITIATED_CRASH",
        0xE3: "RESOURCE_NOT_OWNED",
        0xE6: "DRIVER_VERIFIER_DMA_VIOLATION",
        0xEF: "CRITICAL_PROCESS_DIED",
        0xF7: "DRIVER_OVERRAN_STACK_BUFFER",
        0xFC: "ATTEMPTED_EXECUTE_OF_NOEXECUTE_MEMORY",
        0x101: "CLOCK_WATCHDOG_TIMEOUT",
        0x10D: "WDF_VIOLATION",
        0x133: "DPC_WATCHDOG_VIOLATION",
        0x139: "KERNEL_SECURITY_CHECK_FAILURE",
        0x13A: "KERNEL_MODE_HEAP_CORRUPTION",
        0x154: "UNEXPECTED_STORE_EXCEPTION",
        0x161: "LIVE_SYSTEM_DUMP",
        0x18B: "SECURE_KERNEL_ERROR",
        0x1C4: "DRIVER_VERIFIER_DETECTED_VIOLATION_LIVEDUMP",
    }
)

#: Which of the four parameters (from 1) is the address of the code that did it.
_CULPRIT: Final[Mapping[int, int]] = MappingProxyType(
    {
        0x0A: 4,
        0x1E: 2,
        0x3B: 2,
        0x50: 3,
        0x7E: 2,
        0x8E: 2,
        0xBE: 4,
        0xCC: 3,
        0xCD: 3,
        0xD1: 4,
        0xD5: 3,
        0xD6: 3,
    }
)

#: The line that Windows writes to a serial debugger and to a serial EMS console.
_STOP_LINE: Final = re.compile(
    r"\*\*\* STOP: 0x([0-9A-Fa-f]{1,8}) \(0x([0-9A-Fa-f]{1,16}),\s*0x([0-9A-Fa-f]{1,16}),"
    r"\s*0x([0-9A-Fa-f]{1,16}),\s*0x([0-9A-Fa-f]{1,16})\)"
)

#: Offsets say nothing beyond one build of a driver: neighbours of this many bytes fall into one bucket.
_OFFSET_GRAIN: Final = 0x40


@dataclass(frozen=True, slots=True)
class Bugcheck:
    """One stop of the kernel: its code and the four parameters."""

    code: int
    parameters: tuple[int, int, int, int]

    @property
    def culprit(self) -> int | None:
        """The address of the code that did it, where the code's parameters tell; None where they do not."""
        number = _CULPRIT.get(self.code)
        return None if number is None else self.parameters[number - 1] or None

    def __str__(self) -> str:
        return f"{name_of(self.code)} ({', '.join(f'0x{value:x}' for value in self.parameters)})"


def name_of(code: int) -> str:
    """The code's number with its name, as in Microsoft's reference: `0xD1 DRIVER_IRQL_NOT_LESS_OR_EQUAL`."""
    name = _NAMES.get(code)
    return f"0x{code:X} {name}" if name is not None else f"0x{code:X}"


def find_on_console(text: str) -> Bugcheck | None:
    """The first stop that a console tells of, or None."""
    found = _STOP_LINE.search(text)
    if found is None:
        return None
    code, *parameters = (int(group, 16) for group in found.groups())
    return Bugcheck(code, (parameters[0], parameters[1], parameters[2], parameters[3]))


def bucket_of(bugcheck: Bugcheck, *, module: str = "", function: str = "", offset: int | None = None) -> str:
    """The group that a crash belongs to: same code, same module, same function (or place, where it has no name).

    Addresses differ at each boot and are no part of it. Driver Verifier's codes are as different as their first
    parameter, which names the violated rule.
    """
    what = f"0x{bugcheck.code:X}"
    if bugcheck.code in {0xC4, 0xC9, 0xE6, 0x10D}:
        what += f"/0x{bugcheck.parameters[0]:X}"
    if not module:
        return what
    if function:
        return f"{what} {module.lower()}!{function}"
    return f"{what} {module.lower()}" + (
        f"+0x{offset // _OFFSET_GRAIN * _OFFSET_GRAIN:x}" if offset is not None else ""
    )
