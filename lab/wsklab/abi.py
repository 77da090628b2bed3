"""The conversation with the driver, byte by byte: structures, control codes, numbers.

One table (`STRUCTURES`) describes every structure of `driver-src/include/wsklab_ioctl.h`; packing,
unpacking and the test that compares sizes and offsets with compiled C all read it. Integers are
little-endian (Windows on x64); alignment is natural, and no structure has an implicit hole.

Example::

    request = abi.WAIT.pack(header=abi.WAIT.header(), op_id=7, timeout_ms=1000, flags=abi.RELEASE)
    fields = abi.RECORD.unpack(answer)
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from wsklab.abi_numbers import (
    Action,
    AddressUse,
    Callback,
    CallContext,
    CancelOutcome,
    Category,
    Descriptor,
    DeviceObjectKind,
    Dispatch,
    EventKind,
    Fault,
    Fill,
    Forward,
    Function,
    HelloFlag,
    InformationKind,
    InputKind,
    Invoke,
    Ioctl,
    IrpSource,
    MdlShape,
    Note,
    Npi,
    ObjectKind,
    Owner,
    OwnerFlag,
    RecordFlag,
    Security,
    SocketState,
    State,
    Switch,
    Use,
)
from wsklab.errors import ChannelProtocolError
from wsklab.ntstatus import STATUS, is_success, status_name

__all__ = [
    "ABI_VERSION",
    "RELEASE",
    "STATUS",
    "STRUCTURES",
    "Action",
    "AddressUse",
    "CallContext",
    "Callback",
    "CancelOutcome",
    "Category",
    "Descriptor",
    "DeviceObjectKind",
    "Dispatch",
    "EventKind",
    "Fault",
    "Field",
    "Fill",
    "Forward",
    "Function",
    "HelloFlag",
    "InformationKind",
    "InputKind",
    "Invoke",
    "Ioctl",
    "IrpSource",
    "MdlShape",
    "Note",
    "Npi",
    "ObjectKind",
    "Owner",
    "OwnerFlag",
    "RecordFlag",
    "Security",
    "SocketState",
    "State",
    "Structure",
    "Switch",
    "Use",
    "digest",
    "is_success",
    "limits",
    "pattern",
    "status_name",
]

#: Version of the conversation; both ends refuse another one.
ABI_VERSION = 0
#: Flag of WAIT and FETCH: free the operation when the answer holds all of it.
RELEASE = 1
#: What the driver writes into IoStatus.Status and .Information before a call.
PREFILL = 0xDEADBEEF
#: What a data buffer holds where nobody wrote.
UNTOUCHED_BYTE = 0xCC
DEVICE_PATH = r"\\.\wsklab"

MAX_DATA = 480 * 1024
MAX_BUFFER = 16 * 1024 * 1024
MAX_OPERATIONS = 4096
MAX_SOCKETS = 1024
MAX_CLIENTS = 64
EVENT_CAPACITY = 1024
MAX_STACK_COUNT = 16
MAX_CHUNKS = 16
MAX_EXTRA = 16 * 1024
MAX_OBJECTS = 256
MAX_INSPECTS = 256
MAX_SCRIPTS = 256
MAX_ANSWERS = 16
MAX_HOLD_MS = 50
MAX_TIMEOUT_MS = 600_000
GRACE_MS = 500
MAX_NUMBER = 0xFFFF_FFFE


def limits() -> Mapping[str, int]:
    """The limits by their C names without the prefix, for the comparison with the header."""
    names = (
        *("ABI_VERSION", "RELEASE", "PREFILL", "UNTOUCHED_BYTE", "MAX_DATA", "MAX_BUFFER", "MAX_OPERATIONS"),
        *("MAX_SOCKETS", "MAX_CLIENTS", "EVENT_CAPACITY", "MAX_STACK_COUNT", "MAX_CHUNKS", "MAX_TIMEOUT_MS"),
        *("GRACE_MS", "MAX_NUMBER", "MAX_EXTRA", "MAX_OBJECTS", "MAX_INSPECTS", "MAX_SCRIPTS", "MAX_ANSWERS"),
        "MAX_HOLD_MS",
    )
    return MappingProxyType({name: globals()[name] for name in names})


@dataclass(frozen=True, slots=True)
class Field:
    """One member: its C name, its kind, and where it starts.

    Kinds: `u8 u16 u32 u64 i8 i32`, `bytes:N`, `u32*N`, `u64*N`, or the name of a structure.
    """

    name: str
    kind: str
    offset: int
    size: int


_SCALARS: Mapping[str, str] = MappingProxyType({"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i8": "b", "i32": "i"})


@dataclass(frozen=True, slots=True)
class Structure:
    """A C structure: `pack` makes bytes from fields, `unpack` fields from bytes.

    Fields that `pack` is not given are zero; an unknown field is a TypeError; a value that does not
    fit is a ValueError. Integer arrays are tuples; nested structures are mappings.
    """

    name: str
    fields: tuple[Field, ...]
    size: int
    align: int
    nested: Mapping[str, Structure] = field(repr=False, compare=False)

    def header(self) -> dict[str, int]:
        """The request header for this structure."""
        return {"size": self.size, "abi": ABI_VERSION}

    def pack(self, values: Mapping[str, Any] | None = None, **more: Any) -> bytes:
        """The structure's bytes."""
        given = {**(values or {}), **more}
        unknown = given.keys() - {item.name for item in self.fields}
        if unknown:
            raise TypeError(f"{self.name} has no field {', '.join(sorted(unknown))}")
        buffer = bytearray(self.size)
        for item in self.fields:
            if item.name in given:
                data = self._encode(item, given[item.name])
                buffer[item.offset : item.offset + item.size] = data
        return bytes(buffer)

    def unpack(self, data: bytes, offset: int = 0) -> dict[str, Any]:
        """The fields in `data` at `offset`.

        Raises:
            ChannelProtocolError: `data` is too short; the guest is not trusted.
        """
        if offset < 0 or len(data) < offset + self.size:
            raise ChannelProtocolError(
                f"the driver's answer is too short for {self.name}",
                why=f"{len(data)} bytes at offset {offset}, {self.size} needed",
                fix="rebuild the driver and wskctl from this checkout: wsklab driver build",
            )
        return {item.name: self._decode(item, data, offset + item.offset) for item in self.fields}

    def _encode(self, item: Field, value: Any) -> bytes:
        if item.kind in self.nested:
            return self.nested[item.kind].pack(value)
        if item.kind.startswith("bytes:"):
            data = bytes(value)
            if len(data) > item.size:
                raise ValueError(f"{self.name}.{item.name} takes {item.size} bytes, not {len(data)}")
            return data.ljust(item.size, b"\0")
        base, _, count = item.kind.partition("*")
        code = "<" + _SCALARS[base]
        numbers = list(value) if count else [value]
        if count and len(numbers) > int(count):
            raise ValueError(f"{self.name}.{item.name} takes {count} numbers, not {len(numbers)}")
        try:
            return b"".join(struct.pack(code, int(number)) for number in numbers).ljust(item.size, b"\0")
        except struct.error as error:
            raise ValueError(f"{self.name}.{item.name}: {value!r} does not fit {item.kind}") from error

    def _decode(self, item: Field, data: bytes, at: int) -> Any:
        if item.kind in self.nested:
            return self.nested[item.kind].unpack(data, at)
        if item.kind.startswith("bytes:"):
            return bytes(data[at : at + item.size])
        base, _, count = item.kind.partition("*")
        numbers = struct.unpack_from(f"<{count or 1}{_SCALARS[base]}", data, at)
        return numbers if count else numbers[0]


#: The table: C name without `WSKLAB_`, then "name kind" per member, in order.
_LAYOUT: tuple[tuple[str, str], ...] = (
    ("HEADER", "size u32, abi u16, reserved u16"),
    ("ADDRESS", "length u16, reserved u16, bytes bytes:28"),
    ("HELLO_REQUEST", "header HEADER"),
    (
        "HELLO",
        "size u32, abi u16, provider_version u16, submit_size u32, record_size u32, socket_entry_size u32,"
        "event_size u32, ledger_size u32, answer_size u32, object_entry_size u32, max_data u32, max_buffer u32,"
        "max_operations u32, max_sockets u32,"
        "event_capacity u32, os_major u32, os_minor u32, os_build u32, client_id u32, flags u32, dacl_status i32,"
        "clients u32, grace_ms u32, now_ns u64, counter_frequency u64, build_digest bytes:32, build_label bytes:32",
    ),
    (
        "SUBMIT",
        "header HEADER, op_id u32, function u32, socket u32, new_socket u32, then_op u32, reuse_op u32, switches u32,"
        "delay_ms u32, timeout_ms u32, dispatch_mask u32, irp_source u8, stack_count u8, invoke_flags u8,"
        "second_location u8, call_context u8, dispatch u8, owning_process u8, owning_thread u8, security u8,"
        "mdl_shape u8, fill u8, address_use u8, family u16, type u16, protocol u32, flags u32, version u16,"
        "reserved0 u16, wait_ms u32, socket_context u64, completion_cookie u64, buffer_length u32,"
        "buffer_offset u32, mdl_bytes u32, pattern_seed u32, chunks u32*16, data_length u32, wait_flags u32,"
        "local ADDRESS, remote ADDRESS, forward u8, control_type u8, input_kind u8, npi u8, descriptor u8,"
        "inspect_action u8, reserved1 u16, argument_use u32, control_code u32, control_level u32, event_mask u32,"
        "input_size u32, output_size u32, extra_length u32, object u32, new_object u32, index u32, count u32,"
        "hint_flags u32, name_space u32, node_length u32, service_length u32, grace_ms u32, reserved3 u64*2",
    ),
    ("WAIT", "header HEADER, op_id u32, timeout_ms u32, flags u32, reserved u32"),
    ("CANCEL", "header HEADER, op_id u32, reserved u32"),
    ("CANCEL_RESULT", "outcome u32, reserved u32"),
    ("FETCH", "header HEADER, op_id u32, flags u32, data_offset u32, data_length u32"),
    (
        "RECORD",
        "size u32, op_id u32, function u32, socket u32, new_socket u32, flags u32, state u8, information_kind u8,"
        "device_object u8, irp_source u8, call_irql u8, completion_irql u8, call_context u8, stack_count u8,"
        "completion_location i8, invoke_flags u8, category u8, reserved0 u8, completion_count u32, upper_count u32,"
        "returned_status i32, completion_status i32, routine_status i32, driver_status i32, cancel_outcome u32,"
        "information u64, enter_sequence u64, return_sequence u64, completion_sequence u64, upper_sequence u64,"
        "submit_ns u64, enter_ns u64, return_ns u64, completion_ns u64, call_thread u64, completion_thread u64,"
        "completion_cookie u64, socket_context u64, data_digest u64, members u64, member_count u32, captures u32,"
        "version u16, lowest_version u16, highest_version u16, reserved1 u16, data_total u32, data_offset u32,"
        "data_length u32, extra_total u32, local ADDRESS, remote ADDRESS, size_returned u64, control_length u32,"
        "control_flags u32, object u32, inspect u32, count u32, node_length u32, service_length u32, reserved2 u32",
    ),
    (
        "ADDRESS_INFO",
        "flags u32, family u32, type u32, protocol u32, address_length u64, address ADDRESS, canonical_length u32,"
        "reserved u32, canonical bytes:128",
    ),
    ("EVENTS", "header HEADER, max_events u32, reserved u32"),
    ("EVENTS_RESULT", "count u32, remaining u32, dropped u64"),
    (
        "EVENT",
        "sequence u64, time_ns u64, thread u64, value u64, kind u32, op_id u32, socket u32, status i32, irql u8,"
        "function u8, callback u8, action u8, notes u32, context u64, length u64, accepted u64, digest u64, listed u64,"
        "flags u32, buffers u32, object u32, new_socket u32, control_length u32, reserved u32, control_digest u64,"
        "local ADDRESS, remote ADDRESS",
    ),
    ("SOCKETS", "header HEADER"),
    ("SOCKETS_RESULT", "count u32, total u32"),
    (
        "SOCKET_ENTRY",
        "number u32, category u32, state u32, protocol u32, family u16, type u16, running u32, outstanding u32,"
        "reserved u32, context u64",
    ),
    ("OBJECTS", "header HEADER"),
    ("OBJECTS_RESULT", "count u32, total u32"),
    ("OBJECT_ENTRY", "number u32, kind u32, socket u32, count u32, length u64"),
    ("SCRIPT", "header HEADER, socket u32, callback u32, count u32, reserved u32"),
    (
        "ANSWER",
        "action u32, uses u32, number u32, then_op u32, length u64, socket_context u64, dispatch_mask u32,"
        "hold_ms u32, dispatch u8, reserved0 u8, reserved1 u16, reserved2 u32",
    ),
    ("SCRIPT_RESULT", "used u64, left u64"),
    ("FAULTS", "header HEADER, kind u32, skip u32, deny u32, clear u32"),
    ("FAULTS_RESULT", "seen u64*6, denied u64*6"),
    ("LEDGER_REQUEST", "header HEADER"),
    (
        "LEDGER",
        "issued u64, completed u64, outstanding u64, lost u64, late u64, not_started u64, irps_allocated u64,"
        "irps_freed u64, mdls_allocated u64, mdls_freed u64, pool_allocations u64, pool_frees u64, pool_bytes u64,"
        "sockets_opened u64, sockets_closed u64, captures u64, releases u64, events_recorded u64, events_dropped u64,"
        "operations_held u64, waits_pending u64, callbacks u64, objects_made u64, objects_released u64,"
        "irps_kept u64",
    ),
    ("LEDGERS", "client LEDGER, driver LEDGER"),
    ("DRAIN", "header HEADER, timeout_ms u32, reserved u32"),
    ("DRAIN_RESULT", "outstanding u32, timed_out u32"),
    ("QUIESCE", "header HEADER, timeout_ms u32, reserved u32"),
    ("QUIESCE_RESULT", "busy u32, count u32, timed_out u32, reserved u32"),
    ("OWNER", "client_id u32, flags u32, process_id u64, outstanding u32, sockets u32, lost u32, reserved u32"),
)


def _measure(kind: str, known: Mapping[str, Structure]) -> tuple[int, int]:
    """Size and alignment of a kind, in bytes."""
    if kind in known:
        return known[kind].size, known[kind].align
    if kind.startswith("bytes:"):
        return int(kind[6:]), 1
    base, _, count = kind.partition("*")
    size = struct.calcsize("<" + _SCALARS[base])
    return size * int(count or 1), size


def _build(layout: tuple[tuple[str, str], ...]) -> Mapping[str, Structure]:
    """Offsets by the natural-alignment rules of the x64 C compilers."""
    known: dict[str, Structure] = {}
    for name, members in layout:
        fields: list[Field] = []
        at = align = 0
        for member in members.split(","):
            label, kind = member.split()
            size, unit = _measure(kind, known)
            at = (at + unit - 1) // unit * unit
            fields.append(Field(label, kind, at, size))
            at += size
            align = max(align, unit)
        known[name] = Structure(name, tuple(fields), (at + align - 1) // align * align, align, known)
    return MappingProxyType(known)


#: Every structure by its C name without the `WSKLAB_` prefix.
STRUCTURES: Mapping[str, Structure] = _build(_LAYOUT)

ADDRESS = STRUCTURES["ADDRESS"]
ADDRESS_INFO = STRUCTURES["ADDRESS_INFO"]
ANSWER = STRUCTURES["ANSWER"]
CANCEL = STRUCTURES["CANCEL"]
CANCEL_RESULT = STRUCTURES["CANCEL_RESULT"]
DRAIN = STRUCTURES["DRAIN"]
DRAIN_RESULT = STRUCTURES["DRAIN_RESULT"]
EVENT = STRUCTURES["EVENT"]
EVENTS = STRUCTURES["EVENTS"]
EVENTS_RESULT = STRUCTURES["EVENTS_RESULT"]
FAULTS = STRUCTURES["FAULTS"]
FAULTS_RESULT = STRUCTURES["FAULTS_RESULT"]
FETCH = STRUCTURES["FETCH"]
HELLO = STRUCTURES["HELLO"]
HELLO_REQUEST = STRUCTURES["HELLO_REQUEST"]
LEDGER_REQUEST = STRUCTURES["LEDGER_REQUEST"]
LEDGERS = STRUCTURES["LEDGERS"]
OBJECT_ENTRY = STRUCTURES["OBJECT_ENTRY"]
OBJECTS = STRUCTURES["OBJECTS"]
OBJECTS_RESULT = STRUCTURES["OBJECTS_RESULT"]
OWNER = STRUCTURES["OWNER"]
QUIESCE = STRUCTURES["QUIESCE"]
QUIESCE_RESULT = STRUCTURES["QUIESCE_RESULT"]
RECORD = STRUCTURES["RECORD"]
SCRIPT = STRUCTURES["SCRIPT"]
SCRIPT_RESULT = STRUCTURES["SCRIPT_RESULT"]
SOCKET_ENTRY = STRUCTURES["SOCKET_ENTRY"]
SOCKETS = STRUCTURES["SOCKETS"]
SOCKETS_RESULT = STRUCTURES["SOCKETS_RESULT"]
SUBMIT = STRUCTURES["SUBMIT"]
WAIT = STRUCTURES["WAIT"]


def pattern(length: int, seed: int = 0) -> bytes:
    """The bytes that the driver makes for `Fill.PATTERN`: byte i is (seed + 31 i + (i >> 8)) & 0xFF."""
    return bytes((seed + 31 * index + (index >> 8)) & 0xFF for index in range(length))


def digest(data: bytes) -> int:
    """FNV-1a, 64 bit: the driver's digest of delivered data; 0 for none."""
    if not data:
        return 0
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value
