"""What the driver says, decoded: records, ledgers, sockets, events, hello. Pure values, nothing is fetched here."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from wsklab import abi
from wsklab.abi import (
    CallContext,
    CancelOutcome,
    DeviceObjectKind,
    Fault,
    Function,
    HelloFlag,
    InformationKind,
    Invoke,
    IrpSource,
    ObjectKind,
    OwnerFlag,
    RecordFlag,
    SocketState,
    State,
)
from wsklab.decoding import AF_INET, AF_INET6, SocketAddress, enumerated, items
from wsklab.errors import ChannelProtocolError
from wsklab.event_records import Event, EventBatch

__all__ = [
    "AF_INET",
    "AF_INET6",
    "AddressInfo",
    "DrainResult",
    "Event",
    "EventBatch",
    "FaultCounts",
    "Hello",
    "Ledger",
    "Ledgers",
    "ObjectEntry",
    "OwnerEntry",
    "QuiesceResult",
    "Record",
    "SocketAddress",
    "SocketEntry",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Everything observed about one operation.

    `data` are the bytes that a receive delivered; `extra` is what else came out: the output of a control function,
    control information, names, address list entries.

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
    extra_total: int
    local: SocketAddress | None
    remote: SocketAddress | None
    size_returned: int
    control_length: int
    control_flags: int
    object: int
    inspect: int
    count: int
    node_length: int
    service_length: int
    data: bytes
    extra: bytes = b""

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
            raw[name] = enumerated(kind, raw[name], f"record.{name}")
        raw["local"] = SocketAddress.from_slot(raw["local"])
        raw["remote"] = SocketAddress.from_slot(raw["remote"])
        raw["data"] = tail[: raw["data_length"]]
        wanted = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in raw.items() if name in wanted})

    def with_data(self, everything: bytes) -> Record:
        """The record with all of its bytes, `data_total` of them, parted into `data` and `extra`."""
        split = max(0, self.data_total - self.extra_total)
        return replace(self, data=everything[:split], extra=everything[split:], data_offset=0)

    @property
    def number(self) -> int:
        """`extra` as an unsigned little-endian integer: an option's value."""
        return int.from_bytes(self.extra, "little")

    @property
    def node(self) -> str:
        """The node name that WskGetNameInfo gave."""
        return self.extra[: self.node_length].decode("utf-16-le", "replace")

    @property
    def service(self) -> str:
        """The service name that WskGetNameInfo gave."""
        return self.extra[self.node_length : self.node_length + self.service_length].decode("utf-16-le", "replace")

    @property
    def address_infos(self) -> tuple[AddressInfo, ...]:
        """The entries that WskGetAddressInfo gave."""
        return AddressInfo.decode_all(self.extra)

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
class AddressInfo:
    """One entry of an address list; `canonical` is "" where there was none."""

    flags: int
    family: int
    type: int
    protocol: int
    address_length: int
    address: SocketAddress | None
    canonical: str

    @classmethod
    def decode_all(cls, extra: bytes) -> tuple[AddressInfo, ...]:
        """From the extra bytes of GET_ADDRESS_INFO."""
        entries = []
        for raw in items(abi.ADDRESS_INFO, extra, 0, len(extra) // abi.ADDRESS_INFO.size):
            del raw["reserved"]
            name = raw["canonical"][: min(raw.pop("canonical_length"), len(raw["canonical"]))]
            raw["canonical"] = name.decode("utf-16-le", "replace")
            raw["address"] = SocketAddress.from_slot(raw["address"])
            entries.append(cls(**raw))
        return tuple(entries)


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
    callbacks: int
    objects_made: int
    objects_released: int
    irps_kept: int

    @property
    def balanced(self) -> bool:
        """Whether every issued operation is accounted for."""
        return self.issued == self.completed + self.outstanding + self.lost

    @property
    def at_rest(self) -> bool:
        """Balanced, nothing outstanding, no socket open, no object held."""
        closed = self.sockets_opened == self.sockets_closed and self.objects_made == self.objects_released
        return self.balanced and self.outstanding == 0 and closed


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
        for raw in items(abi.SOCKET_ENTRY, answer, abi.SOCKETS_RESULT.size, count):
            del raw["reserved"]
            raw["state"] = enumerated(SocketState, raw["state"], "socket.state")
            entries.append(cls(**raw))
        return tuple(entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectEntry:
    """One object of a client: a cached descriptor, a kept indication, an address list."""

    number: int
    kind: ObjectKind
    socket: int
    count: int
    length: int

    @classmethod
    def decode_all(cls, answer: bytes) -> tuple[ObjectEntry, ...]:
        """From the answer of OBJECTS."""
        count = abi.OBJECTS_RESULT.unpack(answer)["count"]
        entries = []
        for raw in items(abi.OBJECT_ENTRY, answer, abi.OBJECTS_RESULT.size, count):
            raw["kind"] = enumerated(ObjectKind, raw["kind"], "object.kind")
            entries.append(cls(**raw))
        return tuple(entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultCounts:
    """Allocations of this client's operations by kind: how many there were, how many were made to fail."""

    seen: dict[Fault, int]
    denied: dict[Fault, int]

    @classmethod
    def decode(cls, answer: bytes) -> FaultCounts:
        """From the answer of FAULTS."""
        raw = abi.FAULTS_RESULT.unpack(answer)
        return cls(
            seen=dict(zip(Fault, raw["seen"], strict=True)),
            denied=dict(zip(Fault, raw["denied"], strict=True)),
        )


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
        for raw in items(abi.OWNER, answer, abi.QUIESCE_RESULT.size, head["count"]):
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
            "answer_size": abi.ANSWER.size,
            "object_entry_size": abi.OBJECT_ENTRY.size,
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
