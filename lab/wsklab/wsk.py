"""Winsock Kernel's own numbers, and what its control functions give, decoded.

The numbers are those of `driver-src/include/wsklab_wsk.h`; a test compares them. Flags are per function: the same
number means another thing elsewhere.

Example::

    wsk.address_list(record.extra)          # SIO_ADDRESS_LIST_QUERY
    wsk.control_messages(record.extra)      # WskReceiveFrom with control information
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

from wsklab.decoding import SocketAddress
from wsklab.errors import ChannelProtocolError

__all__ = [
    "SOL_SOCKET",
    "ClientControl",
    "ControlMessage",
    "ControlType",
    "DisconnectFlag",
    "EventFlag",
    "EventMask",
    "InspectAction",
    "MessageFlag",
    "ReceiveFlag",
    "SendFlag",
    "SocketIoctl",
    "SocketOption",
    "Transport",
    "address_list",
    "control_messages",
    "pack_control_message",
    "transport_list",
]

#: Level of the socket options of WSK itself; protocols (6, 17, 41 ...) have theirs.
SOL_SOCKET = 0xFFFF


class ControlType(enum.IntEnum):
    """RequestType of WskControlSocket."""

    SET_OPTION = 0
    GET_OPTION = 1
    IOCTL = 2


class SocketOption(enum.IntEnum):
    """Options at level SOL_SOCKET."""

    REUSEADDR = 0x4
    KEEPALIVE = 0x8
    BROADCAST = 0x20
    RCVBUF = 0x1002
    CONDITIONAL_ACCEPT = 0x3002
    WSK_SECURITY = 0x4001
    WSK_EVENT_CALLBACK = 0x4002
    EXCLUSIVEADDRUSE = 0xFFFFFFFB


class SocketIoctl(enum.IntEnum):
    """I/O controls of WskControlSocket."""

    WSK_SET_REMOTE_ADDRESS = 0x8F000001
    WSK_REGISTER_EXTENSION = 0xCF000002
    WSK_QUERY_IDEAL_SEND_BACKLOG = 0x4F000003
    WSK_QUERY_RECEIVE_BACKLOG = 0x4F000004
    WSK_QUERY_INSPECT_ID = 0x4F000005
    WSK_SET_SENDTO_ADDRESS = 0x8F000006
    WSK_SET_TCP_SILENT_MODE = 0x2F000007
    ADDRESS_LIST_QUERY = 0x48000016
    ADDRESS_LIST_CHANGE = 0x28000017


class ClientControl(enum.IntEnum):
    """Control codes of WskControlClient."""

    TRANSPORT_LIST_QUERY = 2
    TRANSPORT_LIST_CHANGE = 3
    CACHE_SD = 4
    RELEASE_SD = 5
    TDI_DEVICENAME_MAPPING = 6
    SET_STATIC_EVENT_CALLBACKS = 7
    TDI_BEHAVIOR = 8


class EventMask(enum.IntFlag):
    """Events to enable or disable."""

    SEND_BACKLOG = 0x10
    RECEIVE = 0x40
    DISCONNECT = 0x80
    RECEIVE_FROM = 0x100
    ACCEPT = 0x200
    DISABLE = 0x80000000


class SendFlag(enum.IntFlag):
    """Flags of WskSend."""

    NODELAY = 2


class ReceiveFlag(enum.IntFlag):
    """Flags of WskReceive."""

    WAITALL = 2
    DRAIN = 4


class DisconnectFlag(enum.IntFlag):
    """Flags of WskDisconnect, and of the disconnect event."""

    ABORTIVE = 1


class EventFlag(enum.IntFlag):
    """The Flags argument of an event callback (of the disconnect event also DisconnectFlag)."""

    RELEASE_ASAP = 2
    ENTIRE_MESSAGE = 4
    AT_DISPATCH_LEVEL = 8


class InspectAction(enum.IntEnum):
    """The answer to an inspection; 3 is out of range."""

    REJECT = 0
    ACCEPT = 1
    PEND = 2


class MessageFlag(enum.IntFlag):
    """ControlFlags of WskReceiveFrom."""

    TRUNC = 0x100
    CTRUNC = 0x200
    BCAST = 0x400
    MCAST = 0x800


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """One entry of the transport list: what WskSocket can be called with. Family 0 stands for both IP families."""

    version: int
    socket_type: int
    protocol: int
    family: int
    provider: bytes


_TRANSPORT = struct.Struct("<HHIHxx16s")


def transport_list(output: bytes) -> tuple[Transport, ...]:
    """WSK_TRANSPORT_LIST_QUERY's output: WSK_TRANSPORT structures in a row.

    Raises:
        ChannelProtocolError: the length is no multiple of the structure's.
    """
    if len(output) % _TRANSPORT.size:
        raise _broken("a transport list", f"{len(output)} bytes are no multiple of {_TRANSPORT.size}")
    return tuple(
        Transport(version=version, socket_type=kind, protocol=protocol, family=family, provider=provider)
        for version, kind, protocol, family, provider in _TRANSPORT.iter_unpack(output)
    )


_LIST_HEAD = 8
_LIST_ENTRY = struct.Struct("<Qi4x")


def address_list(output: bytes) -> tuple[SocketAddress, ...]:
    """SIO_ADDRESS_LIST_QUERY's output: a SOCKET_ADDRESS_LIST whose pointers the driver has made offsets.

    Raises:
        ChannelProtocolError: an entry or its address lies outside of the output.
    """
    if len(output) < 4:
        raise _broken("an address list", f"{len(output)} bytes hold no count")
    count = int.from_bytes(output[:4], "little")
    if count * _LIST_ENTRY.size + _LIST_HEAD > max(len(output), _LIST_HEAD):
        raise _broken("an address list", f"{count} entries in {len(output)} bytes")
    addresses = []
    for index in range(count):
        at, length = _LIST_ENTRY.unpack_from(output, _LIST_HEAD + index * _LIST_ENTRY.size)
        if length < 0 or at + length > len(output):
            raise _broken("an address list", f"entry {index}: {length} bytes at {at:#x}")
        addresses.append(SocketAddress(output[at : at + length]))
    return tuple(addresses)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlMessage:
    """One object of control information."""

    level: int
    type: int
    data: bytes


_CMSG = struct.Struct("<Qii")


def control_messages(control: bytes) -> tuple[ControlMessage, ...]:
    """CMSGHDR structures in a row, 8-byte aligned (the WSA macros).

    Raises:
        ChannelProtocolError: a length does not fit.
    """
    messages = []
    at = 0
    while at + _CMSG.size <= len(control):
        length, level, kind = _CMSG.unpack_from(control, at)
        if length < _CMSG.size or at + length > len(control):
            raise _broken("control information", f"{length} bytes at {at} of {len(control)}")
        messages.append(ControlMessage(level=level, type=kind, data=control[at + _CMSG.size : at + length]))
        at += (length + 7) & ~7
    return tuple(messages)


def pack_control_message(message: ControlMessage) -> bytes:
    """One object of control information for WskSendTo, padded."""
    length = _CMSG.size + len(message.data)
    return (_CMSG.pack(length, message.level, message.type) + message.data).ljust((length + 7) & ~7, b"\0")


def _broken(what: str, why: str) -> ChannelProtocolError:
    return ChannelProtocolError(
        f"the driver's answer holds {what} that does not add up",
        why=why,
        fix="rebuild the driver from this checkout: wsklab driver build",
    )
