"""The conversation with the driver, byte by byte: structures, control codes, numbers.

One table (`STRUCTURES`) describes every structure of `driver-src/include/wsklab_ioctl.h`; packing,
unpacking and the test that compares sizes and offsets with compiled C all read it. Integers are
little-endian (Windows on x64); alignment is natural, and no structure has an implicit hole.

Example::

    request = abi.WAIT.pack(header=abi.WAIT.header(), op_id=7, timeout_ms=1000, flags=abi.RELEASE)
    fields = abi.RECORD.unpack(answer)
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from wsklab.errors import ChannelProtocolError
from wsklab.ntstatus import STATUS, is_success, status_name

__all__ = [
    "ABI_VERSION",
    "RELEASE",
    "STATUS",
    "STRUCTURES",
    "AddressUse",
    "CallContext",
    "CancelOutcome",
    "Category",
    "DeviceObjectKind",
    "Dispatch",
    "EventKind",
    "Field",
    "Fill",
    "Function",
    "HelloFlag",
    "InformationKind",
    "Invoke",
    "Ioctl",
    "IrpSource",
    "MdlShape",
    "OwnerFlag",
    "RecordFlag",
    "SocketState",
    "State",
    "Structure",
    "Switch",
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
MAX_CHUNKS = 8
MAX_TIMEOUT_MS = 600_000
GRACE_MS = 500
MAX_NUMBER = 0xFFFF_FFFE


def limits() -> Mapping[str, int]:
    """The limits by their C names without the prefix, for the comparison with the header."""
    names = (
        *("ABI_VERSION", "RELEASE", "PREFILL", "UNTOUCHED_BYTE", "MAX_DATA", "MAX_BUFFER", "MAX_OPERATIONS"),
        *("MAX_SOCKETS", "MAX_CLIENTS", "EVENT_CAPACITY", "MAX_STACK_COUNT", "MAX_CHUNKS", "MAX_TIMEOUT_MS"),
        *("GRACE_MS", "MAX_NUMBER"),
    )
    return MappingProxyType({name: globals()[name] for name in names})


def _ctl(number: int) -> int:
    """CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800 + number, METHOD_BUFFERED, FILE_READ_DATA | FILE_WRITE_DATA)."""
    return (0x22 << 16) | (3 << 14) | ((0x800 + number) << 2)


class Ioctl(enum.IntEnum):
    """Control codes. SCRIPT, FAULTS and FORWARD are reserved: STATUS_NOT_SUPPORTED."""

    HELLO = _ctl(0)
    SUBMIT = _ctl(1)
    WAIT = _ctl(2)
    CANCEL = _ctl(3)
    FETCH = _ctl(4)
    EVENTS = _ctl(5)
    SCRIPT = _ctl(6)
    SOCKETS = _ctl(7)
    LEDGER = _ctl(8)
    DRAIN = _ctl(9)
    QUIESCE = _ctl(10)
    FAULTS = _ctl(11)
    FORWARD = _ctl(12)
    RUN = _ctl(13)


class Function(enum.IntEnum):
    """What an operation does. From SOCKET_CONNECT on: reserved, STATUS_NOT_IMPLEMENTED before any call."""

    SAMPLE_LISTEN = 1
    SOCKET = 2
    BIND = 3
    ACCEPT = 4
    CONNECT = 5
    SEND = 6
    RECEIVE = 7
    CLOSE = 8
    REGISTER = 16
    CAPTURE = 17
    RELEASE_NPI = 18
    DEREGISTER = 19
    QUERY_CHARACTERISTICS = 20
    PROVIDER_INFO = 21
    SOCKET_INFO = 22
    SOCKET_CONNECT = 32
    CONTROL_CLIENT = 33
    CONTROL_SOCKET = 34
    GET_ADDRESS_INFO = 35
    FREE_ADDRESS_INFO = 36
    GET_NAME_INFO = 37
    LISTEN = 38
    CONNECT_EX = 39
    INSPECT_COMPLETE = 40
    GET_LOCAL_ADDRESS = 41
    GET_REMOTE_ADDRESS = 42
    DISCONNECT = 43
    RELEASE_DATA = 44
    SEND_TO = 45
    SEND_MESSAGES = 46
    RECEIVE_FROM = 47
    RELEASE_DATAGRAM = 48
    NMR_REGISTER = 49

    @property
    def implemented(self) -> bool:
        """Whether the driver calls it."""
        return self < Function.SOCKET_CONNECT


class IrpSource(enum.IntEnum):
    """Where an operation's IRP comes from."""

    ALLOCATED = 0
    CALLER_MEMORY = 1
    REUSED = 2
    FORWARDED = 3


class CallContext(enum.IntEnum):
    """From where the driver calls WSK."""

    CALLER = 0
    WORKER = 1
    RAISED = 2


class Invoke(enum.IntFlag):
    """When the completion routine runs; none set means all three."""

    SUCCESS = 1
    ERROR = 2
    CANCEL = 4


class Dispatch(enum.IntEnum):
    """The client dispatch table handed to WSK."""

    NULL = 0
    FULL = 1
    MASK = 2


class Owner(enum.IntEnum):
    """Owning process, owning thread."""

    NULL = 0
    CURRENT = 1


class MdlShape(enum.IntEnum):
    """How a data buffer is described."""

    NULL = 0
    SINGLE = 1
    CHAIN = 2


class Fill(enum.IntEnum):
    """What a data buffer holds before the call."""

    NONE = 0
    DATA = 1
    PATTERN = 2


class AddressUse(enum.IntFlag):
    """Which address arguments are not NULL."""

    LOCAL = 1
    REMOTE = 2


class Switch(enum.IntFlag):
    """Deviations from the ordinary call; the header says what each means."""

    NULL_IRP = 0x1
    NULL_CLIENT = 0x2
    HELD = 0x4
    KEEP_IRP = 0x8
    SCRIBBLE_WSK_BUF = 0x10
    AFTER_DEREGISTER = 0x20
    EVEN_IF_RAISING = 0x40


class State(enum.IntEnum):
    """Where an operation is in its life."""

    NEW = 0
    CALLING = 1
    OUTSTANDING = 2
    COMPLETED = 3
    LOST = 4
    NOT_STARTED = 5

    @property
    def final(self) -> bool:
        """Whether nothing more is expected."""
        return self >= State.COMPLETED


class InformationKind(enum.IntEnum):
    """What IoStatus.Information held in the completion routine; a pointer never leaves the driver."""

    NONE = 0
    PREFILL = 1
    INTEGER = 2
    SOCKET = 3
    HIDDEN = 4


class DeviceObjectKind(enum.IntEnum):
    """The DeviceObject argument of the completion routine."""

    NONE = 0
    NULL = 1
    OURS = 2
    OTHER = 3


class RecordFlag(enum.IntFlag):
    """Facts of a record that are true or false."""

    RETURNED = 0x1
    IRP_MATCH = 0x2
    CONTEXT_MATCH = 0x4
    PENDING_RETURNED = 0x8
    IRP_CANCEL = 0x10
    IRP_FREED = 0x20
    POISONED = 0x40
    POISON_INTACT = 0x80
    GUARDS_CHECKED = 0x100
    GUARDS_INTACT = 0x200
    REST_INTACT = 0x400
    SOCKET_ALIGNED = 0x800
    SOCKET_DISPATCH = 0x1000
    SOCKET_UNIQUE = 0x2000
    SAME_DISPATCH = 0x4000
    CANCEL_REQUESTED = 0x8000
    RELEASED = 0x10000
    DATA_TRUNCATED = 0x20000
    TIMED_OUT = 0x40000
    CLIENT_SET = 0x80000
    DISPATCH_SET = 0x100000
    SAME_NPI = 0x200000
    LATE = 0x400000
    INFORMATION_CLAMPED = 0x800000


class CancelOutcome(enum.IntEnum):
    """What a cancel came to."""

    NONE = 0
    CALLED = 1
    MARKED = 2
    ABANDONED = 3
    TOO_LATE = 4


class HelloFlag(enum.IntFlag):
    """Facts about the driver's platform and this client."""

    WINE = 0x1
    IRQL_REAL = 0x2
    DACL_SET = 0x4
    ADMIN_CHECKED = 0x8
    COMPLETION_EX = 0x10
    CLOSED = 0x20
    CAPTURED = 0x40


class Category(enum.IntEnum):
    """A socket's category: the Flags argument that created it."""

    BASIC = 0
    LISTEN = 1
    CONNECTION = 2
    DATAGRAM = 4
    STREAM = 8


class SocketState(enum.IntEnum):
    """A socket's state in the driver's table."""

    CREATING = 0
    OPEN = 1
    CLOSING = 2


class EventKind(enum.IntEnum):
    """What an event of the ring tells."""

    CALL_ENTER = 1
    CALL_RETURN = 2
    COMPLETION = 3
    UPPER_COMPLETION = 4
    CALLBACK_ENTER = 5
    CALLBACK_EXIT = 6
    CANCEL = 7
    LOST = 8
    NOT_STARTED = 9
    SOCKET_OPENED = 10
    SOCKET_CLOSED = 11
    CLIENT_CLOSING = 12


class OwnerFlag(enum.IntFlag):
    """About a client that keeps the driver busy."""

    HANDLE_OPEN = 0x1
    CLOSING = 0x2
    REGISTERED = 0x4
    CALLER = 0x8


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
        "event_size u32, ledger_size u32, max_data u32, max_buffer u32, max_operations u32, max_sockets u32,"
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
        "buffer_offset u32, mdl_bytes u32, pattern_seed u32, chunks u32*8, data_length u32, wait_flags u32,"
        "local ADDRESS, remote ADDRESS, reserved3 u64*3",
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
        "data_length u32, reserved2 u32, local ADDRESS, remote ADDRESS",
    ),
    ("EVENTS", "header HEADER, max_events u32, reserved u32"),
    ("EVENTS_RESULT", "count u32, remaining u32, dropped u64"),
    (
        "EVENT",
        "sequence u64, time_ns u64, thread u64, value u64, value2 u64, kind u32, op_id u32, socket u32, status i32,"
        "irql u8, function u8, reserved0 u16, reserved1 u32",
    ),
    ("SOCKETS", "header HEADER"),
    ("SOCKETS_RESULT", "count u32, total u32"),
    (
        "SOCKET_ENTRY",
        "number u32, category u32, state u32, protocol u32, family u16, type u16, running u32, outstanding u32,"
        "reserved u32, context u64",
    ),
    ("LEDGER_REQUEST", "header HEADER"),
    (
        "LEDGER",
        "issued u64, completed u64, outstanding u64, lost u64, late u64, not_started u64, irps_allocated u64,"
        "irps_freed u64, mdls_allocated u64, mdls_freed u64, pool_allocations u64, pool_frees u64, pool_bytes u64,"
        "sockets_opened u64, sockets_closed u64, captures u64, releases u64, events_recorded u64, events_dropped u64,"
        "operations_held u64, waits_pending u64",
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
CANCEL = STRUCTURES["CANCEL"]
CANCEL_RESULT = STRUCTURES["CANCEL_RESULT"]
DRAIN = STRUCTURES["DRAIN"]
DRAIN_RESULT = STRUCTURES["DRAIN_RESULT"]
EVENT = STRUCTURES["EVENT"]
EVENTS = STRUCTURES["EVENTS"]
EVENTS_RESULT = STRUCTURES["EVENTS_RESULT"]
FETCH = STRUCTURES["FETCH"]
HELLO = STRUCTURES["HELLO"]
HELLO_REQUEST = STRUCTURES["HELLO_REQUEST"]
LEDGER_REQUEST = STRUCTURES["LEDGER_REQUEST"]
LEDGERS = STRUCTURES["LEDGERS"]
OWNER = STRUCTURES["OWNER"]
QUIESCE = STRUCTURES["QUIESCE"]
QUIESCE_RESULT = STRUCTURES["QUIESCE_RESULT"]
RECORD = STRUCTURES["RECORD"]
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
