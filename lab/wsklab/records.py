"""What the driver says, decoded: records, ledgers, sockets, events, hello. Pure values, nothing is fetched here."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, fields
from typing import Any

from wsklab import abi
from wsklab.abi import (
    CallContext,
    CancelOutcome,
    DeviceObjectKind,
    EventKind,
    Function,
    HelloFlag,
    InformationKind,
    Invoke,
    IrpSource,
    OwnerFlag,
    RecordFlag,
    SocketState,
    State,
)
from wsklab.errors import ChannelProtocolError

__all__ = [
    "AF_INET",
    "AF_INET6",
    "DrainResult",
    "Event",
    "EventBatch",
    "Hello",
    "Ledger",
    "Ledgers",
    "OwnerEntry",
    "QuiesceResult",
    "Record",
    "SocketAddress",
    "SocketEntry",
]

#: Windows' numbers of the address families (ws2def.h).
AF_INET = 2
AF_INET6 = 23
_IN4_SIZE = 16
_IN6_SIZE = 28


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """A Windows SOCKADDR as bytes, with a readable view.

    Example::

        SocketAddress.of("127.0.0.1", 8080).host
    """

    raw: bytes

    @classmethod
    def of(cls, host: str, port: int = 0, *, scope_id: int = 0) -> SocketAddress:
        """An IPv4 or IPv6 address; `port` in host order, 0 .. 65535.

        Raises:
            ValueError: `host` is no address, or `port` does not fit.
        """
        if not 0 <= port <= 0xFFFF:
            raise ValueError(f"port {port} is not between 0 and 65535")
        address = ipaddress.ip_address(host)
        if isinstance(address, ipaddress.IPv4Address):
            return cls(struct.pack("<H", AF_INET) + struct.pack(">H", port) + address.packed + bytes(8))
        head = struct.pack("<H", AF_INET6) + struct.pack(">HI", port, 0)
        return cls(head + address.packed + struct.pack("<I", scope_id))

    @classmethod
    def from_slot(cls, slot: dict[str, Any]) -> SocketAddress | None:
        """From a decoded WSKLAB_ADDRESS; None when it is empty.

        Raises:
            ChannelProtocolError: the length is beyond the slot.
        """
        length = slot["length"]
        if length > len(slot["bytes"]):
            raise ChannelProtocolError(
                "the driver's answer holds an address that is too long",
                why=f"{length} bytes in a slot of {len(slot['bytes'])}",
                fix="rebuild the driver from this checkout: wsklab driver build",
            )
        return cls(slot["bytes"][:length]) if length else None

    def slot(self) -> dict[str, Any]:
        """For a WSKLAB_ADDRESS."""
        return {"length": len(self.raw), "bytes": self.raw}

    @property
    def family(self) -> int:
        """The address family's number, 0 when there are no bytes for it."""
        return int.from_bytes(self.raw[:2], "little")

    @property
    def port(self) -> int:
        """The port in host order."""
        return int.from_bytes(self.raw[2:4], "big")

    @property
    def host(self) -> str:
        """The address as text, or the bytes in hexadecimal for a family that is not IP."""
        if self.family == AF_INET and len(self.raw) >= _IN4_SIZE:
            return str(ipaddress.IPv4Address(self.raw[4:8]))
        if self.family == AF_INET6 and len(self.raw) >= _IN6_SIZE:
            return str(ipaddress.IPv6Address(self.raw[8:24]))
        return self.raw.hex()

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.family == AF_INET6 else f"{self.host}:{self.port}"


def _enum(kind: type[Any], value: int, where: str) -> Any:
    """`kind(value)`; a number that the enumeration does not know is a broken contract, not a crash."""
    try:
        return kind(value)
    except ValueError as error:
        raise ChannelProtocolError(
            f"the driver's answer holds an unknown {kind.__name__}",
            why=f"{where} = {value}",
            fix="rebuild the driver from this checkout: wsklab driver build",
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Everything observed about one operation.

    Sequence numbers come from one counter of the whole driver; 0 means that it did not happen. Times
    are nanoseconds of the guest's performance counter. Statuses are unsigned 32-bit NTSTATUS numbers;
    `returned` and `completed` give them by name.
    """

    op_id: int
    function: Function
    socket: int
    new_socket: int
    flags: RecordFlag
    state: State
    information_kind: InformationKind
    device_object: DeviceObjectKind
    irp_source: IrpSource
    call_irql: int
    completion_irql: int
    call_context: CallContext
    stack_count: int
    completion_location: int
    invoke_flags: Invoke
    category: int
    completion_count: int
    upper_count: int
    returned_status: int
    completion_status: int
    routine_status: int
    driver_status: int
    cancel_outcome: CancelOutcome
    information: int
    enter_sequence: int
    return_sequence: int
    completion_sequence: int
    upper_sequence: int
    submit_ns: int
    enter_ns: int
    return_ns: int
    completion_ns: int
    call_thread: int
    completion_thread: int
    completion_cookie: int
    socket_context: int
    data_digest: int
    members: int
    member_count: int
    captures: int
    version: int
    lowest_version: int
    highest_version: int
    data_total: int
    data_offset: int
    local: SocketAddress | None
    remote: SocketAddress | None
    data: bytes

    @classmethod
    def decode(cls, answer: bytes) -> Record:
        """From the answer of WAIT or FETCH: the structure and the data behind it.

        Raises:
            ChannelProtocolError: the answer is too short, inconsistent, or holds unknown numbers.
        """
        raw = abi.RECORD.unpack(answer)
        tail = answer[abi.RECORD.size :]
        if raw["size"] != abi.RECORD.size or raw["data_length"] > len(tail):
            raise ChannelProtocolError(
                "the driver's record does not add up",
                why=f"size {raw['size']}, {raw['data_length']} data bytes announced, {len(tail)} present",
                fix="rebuild the driver from this checkout: wsklab driver build",
            )
        for name in ("returned_status", "completion_status", "routine_status", "driver_status"):
            raw[name] &= 0xFFFFFFFF
        kinds = {
            "function": Function,
            "flags": RecordFlag,
            "state": State,
            "information_kind": InformationKind,
            "device_object": DeviceObjectKind,
            "irp_source": IrpSource,
            "call_context": CallContext,
            "invoke_flags": Invoke,
            "cancel_outcome": CancelOutcome,
        }
        for name, kind in kinds.items():
            raw[name] = _enum(kind, raw[name], f"record.{name}")
        raw["local"] = SocketAddress.from_slot(raw["local"])
        raw["remote"] = SocketAddress.from_slot(raw["remote"])
        raw["data"] = tail[: raw["data_length"]]
        wanted = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in raw.items() if name in wanted})

    @property
    def returned(self) -> str:
        """The call's status by name, or "" before it returned."""
        return abi.status_name(self.returned_status) if RecordFlag.RETURNED in self.flags else ""

    @property
    def completed(self) -> str:
        """IoStatus.Status in the completion routine by name, or "" without a completion."""
        return abi.status_name(self.completion_status) if self.completion_ns else ""

    @property
    def succeeded(self) -> bool:
        """One completion with success; for functions without an IRP: a successful return."""
        if self.state is not State.COMPLETED:
            return False
        status = self.completion_status if self.completion_ns else self.returned_status
        return abi.is_success(status)

    @property
    def final(self) -> bool:
        """Whether nothing more is expected of the operation."""
        return self.state.final

    @property
    def inline(self) -> bool:
        """Whether the completion came before the call returned."""
        return 0 < self.completion_sequence < self.return_sequence or (
            self.completion_count > 0 and self.return_sequence == 0
        )

    @property
    def call_s(self) -> float:
        """Seconds inside the call; 0.0 before it returned."""
        return (self.return_ns - self.enter_ns) / 1e9 if self.return_ns else 0.0

    @property
    def completion_s(self) -> float:
        """Seconds from the call to the completion; 0.0 without one."""
        return (self.completion_ns - self.enter_ns) / 1e9 if self.completion_ns else 0.0

    def has(self, flag: RecordFlag) -> bool:
        """Whether all bits of `flag` are set."""
        return flag in self.flags

    def describe(self) -> str:
        """One line for a log or an assertion message."""
        parts = [f"{self.function.name} #{self.op_id}", self.state.name]
        if self.returned:
            parts.append(f"returned {self.returned}")
        if self.completion_count:
            parts.append(f"completed {self.completion_count}x {self.completed}")
            parts.append(f"information {self.information_kind.name}:{self.information}")
        if self.state is State.NOT_STARTED:
            parts.append(f"because {abi.status_name(self.driver_status)}")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a results file; numbers stay numbers, names are added, data as hexadecimal."""
        answer: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, RecordFlag | Invoke):
                value = sorted(flag.name or "" for flag in type(value) if flag in value)
            elif isinstance(value, bytes):
                value = value.hex()
            elif isinstance(value, SocketAddress):
                value = str(value)
            elif hasattr(value, "name"):
                value = value.name
            answer[item.name] = value
        answer["returned"] = self.returned
        answer["completed"] = self.completed
        return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Counts of one client or of the whole driver; `issued = completed + outstanding + lost`."""

    issued: int
    completed: int
    outstanding: int
    lost: int
    late: int
    not_started: int
    irps_allocated: int
    irps_freed: int
    mdls_allocated: int
    mdls_freed: int
    pool_allocations: int
    pool_frees: int
    pool_bytes: int
    sockets_opened: int
    sockets_closed: int
    captures: int
    releases: int
    events_recorded: int
    events_dropped: int
    operations_held: int
    waits_pending: int

    @property
    def balanced(self) -> bool:
        """Whether every issued operation is accounted for."""
        return self.issued == self.completed + self.outstanding + self.lost

    @property
    def at_rest(self) -> bool:
        """Balanced, nothing outstanding, no socket open."""
        return self.balanced and self.outstanding == 0 and self.sockets_opened == self.sockets_closed


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledgers:
    """This client's ledger and the driver's."""

    client: Ledger
    driver: Ledger

    @classmethod
    def decode(cls, answer: bytes) -> Ledgers:
        """From the answer of LEDGER."""
        raw = abi.LEDGERS.unpack(answer)
        return cls(client=Ledger(**raw["client"]), driver=Ledger(**raw["driver"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketEntry:
    """One socket of a client's table."""

    number: int
    category: int
    state: SocketState
    protocol: int
    family: int
    type: int
    running: int
    outstanding: int
    context: int

    @classmethod
    def decode_all(cls, answer: bytes) -> tuple[SocketEntry, ...]:
        """From the answer of SOCKETS."""
        count = abi.SOCKETS_RESULT.unpack(answer)["count"]
        entries = []
        for raw in _items(abi.SOCKET_ENTRY, answer, abi.SOCKETS_RESULT.size, count):
            del raw["reserved"]
            raw["state"] = _enum(SocketState, raw["state"], "socket.state")
            entries.append(cls(**raw))
        return tuple(entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One entry of a client's ring."""

    sequence: int
    time_ns: int
    thread: int
    value: int
    value2: int
    kind: EventKind
    op_id: int
    socket: int
    status: int
    irql: int
    function: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventBatch:
    """Events in order of their sequence numbers; `dropped` counts since the handle was opened."""

    events: tuple[Event, ...]
    remaining: int
    dropped: int

    @classmethod
    def decode(cls, answer: bytes) -> EventBatch:
        """From the answer of EVENTS."""
        head = abi.EVENTS_RESULT.unpack(answer)
        events = []
        for raw in _items(abi.EVENT, answer, abi.EVENTS_RESULT.size, head["count"]):
            del raw["reserved0"], raw["reserved1"]
            raw["kind"] = _enum(EventKind, raw["kind"], "event.kind")
            raw["status"] &= 0xFFFFFFFF
            events.append(Event(**raw))
        # Two processors may put theirs into the ring in the other order.
        events.sort(key=lambda event: event.sequence)
        return cls(events=tuple(events), remaining=head["remaining"], dropped=head["dropped"])


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainResult:
    """How many operations were still outstanding when the drain ended; 0 is drained."""

    outstanding: int
    timed_out: bool

    @classmethod
    def decode(cls, answer: bytes) -> DrainResult:
        """From the answer of DRAIN."""
        raw = abi.DRAIN_RESULT.unpack(answer)
        return cls(outstanding=raw["outstanding"], timed_out=bool(raw["timed_out"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerEntry:
    """A client that keeps the driver from being unloaded."""

    client_id: int
    flags: OwnerFlag
    process_id: int
    outstanding: int
    sockets: int
    lost: int

    def __str__(self) -> str:
        return (
            f"client {self.client_id} (process {self.process_id}): {self.flags!r}, {self.outstanding} outstanding, "
            f"{self.sockets} sockets, {self.lost} lost"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class QuiesceResult:
    """What is left after everything was closed; `busy` 0 means that the driver can be unloaded."""

    busy: int
    timed_out: bool
    owners: tuple[OwnerEntry, ...]

    @classmethod
    def decode(cls, answer: bytes) -> QuiesceResult:
        """From the answer of QUIESCE."""
        head = abi.QUIESCE_RESULT.unpack(answer)
        owners = []
        for raw in _items(abi.OWNER, answer, abi.QUIESCE_RESULT.size, head["count"]):
            del raw["reserved"]
            raw["flags"] = OwnerFlag(raw["flags"])
            owners.append(OwnerEntry(**raw))
        return cls(busy=head["busy"], timed_out=bool(head["timed_out"]), owners=tuple(owners))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The driver introduces itself; `os_version` is (major, minor, build)."""

    abi_version: int
    provider_version: int
    os_version: tuple[int, int, int]
    client_id: int
    flags: HelloFlag
    dacl_status: int
    clients: int
    grace_ms: int
    max_data: int
    max_buffer: int
    max_operations: int
    max_sockets: int
    event_capacity: int
    now_ns: int
    counter_frequency: int
    build_digest: str
    build_label: str

    @classmethod
    def decode(cls, answer: bytes) -> Hello:
        """From the answer of HELLO.

        Raises:
            ChannelProtocolError: version or sizes differ from this side's.
        """
        raw = abi.HELLO.unpack(answer)
        mine = {
            "size": abi.HELLO.size,
            "abi": abi.ABI_VERSION,
            "submit_size": abi.SUBMIT.size,
            "record_size": abi.RECORD.size,
            "socket_entry_size": abi.SOCKET_ENTRY.size,
            "event_size": abi.EVENT.size,
            "ledger_size": abi.STRUCTURES["LEDGER"].size,
        }
        different = [f"{name} {raw[name]} instead of {value}" for name, value in mine.items() if raw[name] != value]
        if different:
            raise ChannelProtocolError(
                "the driver speaks another version of the conversation",
                why="; ".join(different),
                fix="rebuild the driver from this checkout: wsklab driver build",
            )
        names = {item.name for item in fields(cls)}
        values = {name: value for name, value in raw.items() if name in names}
        values.update(
            abi_version=raw["abi"],
            os_version=(raw["os_major"], raw["os_minor"], raw["os_build"]),
            flags=HelloFlag(raw["flags"]),
            dacl_status=raw["dacl_status"] & 0xFFFFFFFF,
            build_digest=raw["build_digest"].hex(),
            build_label=raw["build_label"].rstrip(b"\0").decode("ascii", "replace"),
        )
        return cls(**values)


def _items(structure: abi.Structure, answer: bytes, offset: int, count: int) -> list[dict[str, Any]]:
    """`count` structures in a row; a count beyond the answer breaks the contract."""
    room = (len(answer) - offset) // structure.size
    if count > room:
        raise ChannelProtocolError(
            f"the driver announced more {structure.name} entries than it sent",
            why=f"{count} announced, room for {room}",
            fix="rebuild the driver from this checkout: wsklab driver build",
        )
    return [structure.unpack(answer, offset + index * structure.size) for index in range(count)]
