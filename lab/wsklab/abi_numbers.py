"""The numbers of the conversation with the driver: `driver-src/include/wsklab_numbers.h` in Python.

`wsklab.abi` gives all of them again; import them from there.
"""

from __future__ import annotations

import enum

__all__ = [
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
    "Switch",
    "Use",
]


def _ctl(number: int) -> int:
    """CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800 + number, METHOD_BUFFERED, FILE_READ_DATA | FILE_WRITE_DATA)."""
    return (0x22 << 16) | (3 << 14) | ((0x800 + number) << 2)


class Ioctl(enum.IntEnum):
    """Control codes; the header says what goes in and what comes out."""

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
    OBJECTS = _ctl(14)


class Function(enum.IntEnum):
    """What an operation does: one call to WSK, or one look at what it gave us."""

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
    NMR_DEREGISTER = 50
    INDICATION_INFO = 51
    #: what a test build of the driver does wrong on purpose; no other build offers it
    FAIL_NULL = 240
    FAIL_USE_AFTER_FREE = 241
    FAIL_DOUBLE_COMPLETION = 242
    FAIL_SPIN = 243
    FAIL_DEADLOCK = 244
    FAIL_LEAK = 245
    FAIL_STACK_OVERRUN = 246
    FAIL_BUGCHECK = 247

    @property
    def creates(self) -> bool:
        """Whether it makes a socket."""
        return self in _CREATES


_CREATES = frozenset({Function.SAMPLE_LISTEN, Function.SOCKET, Function.ACCEPT, Function.SOCKET_CONNECT})


class IrpSource(enum.IntEnum):
    """Where an operation's IRP comes from."""

    ALLOCATED = 0
    CALLER_MEMORY = 1
    REUSED = 2
    FORWARDED = 3


class Forward(enum.IntEnum):
    """What FORWARD does with its own IRP."""

    NONE = 0
    BARE = 1
    PASS = 2
    HOLD = 3


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


class Security(enum.IntEnum):
    """The security descriptor of a new socket."""

    NULL = 0
    CACHED = 1


class InputKind(enum.IntEnum):
    """What InputBuffer of a control function points to."""

    NONE = 0
    BYTES = 1
    EVENT_CALLBACK = 2
    DESCRIPTOR = 3
    CACHED = 4
    EXTENSION = 5
    TDI_MAP = 6


class Npi(enum.IntEnum):
    """The NpiId of an input."""

    WSK = 0
    COPY = 1
    OTHER = 2
    NULL = 3


class Descriptor(enum.IntEnum):
    """Access list of a descriptor that the driver makes."""

    EVERYONE = 0
    ADMINISTRATORS = 1


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


class Use(enum.IntFlag):
    """Further pointer arguments that are not NULL."""

    SIZE_RETURNED = 0x1
    CONTROL_LENGTH = 0x2
    CONTROL_INFO = 0x4
    CONTROL_FLAGS = 0x8
    NODE = 0x10
    SERVICE = 0x20
    HINTS = 0x40


class Switch(enum.IntFlag):
    """Deviations from the ordinary call; the header says what each means."""

    NULL_IRP = 0x1
    NULL_CLIENT = 0x2
    HELD = 0x4
    KEEP_IRP = 0x8
    SCRIBBLE_WSK_BUF = 0x10
    AFTER_DEREGISTER = 0x20
    EVEN_IF_RAISING = 0x40
    UNKNOWN_ID = 0x80
    UNTERMINATED = 0x100
    NMR_RETRY = 0x200
    HAZARD = 0x400
    INFINITE = 0x800


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
    INPUT_INTACT = 0x1000000
    SIZE_RETURNED = 0x2000000
    CONTROL_LENGTH = 0x4000000
    CONTROL_FLAGS = 0x8000000
    OBJECT_MADE = 0x10000000
    OBJECT_DIFFERS = 0x20000000
    OUTPUT_HIDDEN = 0x40000000
    FORWARDED = 0x80000000


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


class ObjectKind(enum.IntEnum):
    """What a client owns beside sockets."""

    DESCRIPTOR = 1
    DATA = 2
    DATAGRAM = 3
    ADDRESS_LIST = 4


class Callback(enum.IntEnum):
    """WSK calling the driver."""

    NONE = 0
    ACCEPT = 1
    INSPECT = 2
    ABORT = 3
    RECEIVE_FROM = 4
    RECEIVE = 5
    DISCONNECT = 6
    SEND_BACKLOG = 7
    CLIENT = 8
    NMR_ATTACH = 9
    NMR_DETACH = 10
    NMR_CLEANUP = 11


class Action(enum.IntEnum):
    """What a callback answers; the header says what the default is."""

    DEFAULT = 0
    TAKE = 1
    TAKE_SOME = 2
    KEEP = 3
    REFUSE = 4
    PEND = 5


class Fault(enum.IntEnum):
    """Which of the driver's own allocations an injected failure is for."""

    POOL = 0
    IRP = 1
    MDL = 2
    WORK_ITEM = 3
    THREAD = 4
    COMPLETION = 5


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
    DATAGRAM = 13


class Note(enum.IntFlag):
    """Facts of a callback's event that are true or false."""

    NULL_ARGUMENT = 0x1
    NO_ROOM = 0x2
    UNREADABLE = 0x4
    SCRIPTED = 0x8
    AMBIGUOUS = 0x10
    NO_SOCKET = 0x20


class OwnerFlag(enum.IntFlag):
    """About a client that keeps the driver busy."""

    HANDLE_OPEN = 0x1
    CLOSING = 0x2
    REGISTERED = 0x4
    CALLER = 0x8
