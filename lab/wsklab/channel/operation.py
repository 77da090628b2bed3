"""One WSK call to make, as a value: the function, its arguments, and the circumstances of the call.

Every class method names the function's page (windows-driver-docs-ddi) and the rules that it is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from wsklab import abi
from wsklab.abi import (
    AddressUse,
    CallContext,
    Category,
    Descriptor,
    Dispatch,
    Fill,
    Forward,
    Function,
    InputKind,
    Invoke,
    IrpSource,
    MdlShape,
    Npi,
    Owner,
    Security,
    Switch,
    Use,
)
from wsklab.records import AF_INET, SocketAddress
from wsklab.wsk import SOL_SOCKET, ClientControl, ControlType, SocketOption

__all__ = ["IPPROTO_TCP", "IPPROTO_UDP", "SOCK_DGRAM", "SOCK_RAW", "SOCK_STREAM", "Operation"]

#: Windows' numbers (winsock2.h), not the host's.
SOCK_STREAM = 1
SOCK_DGRAM = 2
SOCK_RAW = 3
IPPROTO_TCP = 6
IPPROTO_UDP = 17

#: Room for the entries of one WskGetAddressInfo in the first answer.
_ADDRESS_INFO_ROOM = 16 * abi.ADDRESS_INFO.size
#: Room for a look at a kept indication in the first answer; what is longer is fetched.
_INDICATION_ROOM = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One WSK call to make; everything that is not given is the ordinary case.

    Make one with the class methods, and change single points with keyword arguments::

        Operation.bind(3, SocketAddress.of("127.0.0.1", 4711), call_context=CallContext.RAISED)

    Attributes:
        op_id: the operation's number; 0: the client chooses.
        socket: the number of the socket it acts on.
        new_socket: the number that a created or accepted socket gets; 0: the client chooses.
        then_op: number of a held operation (`Switch.HELD`) that the completion routine starts on success.
        reuse_op: whose IRP is reused (`IrpSource.REUSED`); that one was run with `Switch.KEEP_IRP`.
        delay_ms: how long the driver waits before the call, in milliseconds.
        grace_ms: a failing return without completion for so long is lost; 0: the driver's default, which is the most.
        timeout_ms: CAPTURE only: WaitTimeout in milliseconds; 0 is WSK_NO_WAIT.
        address_use: which address arguments are not NULL; None: those that are given.
        flags: the Flags argument of the WSK function; for SOCKET the category.
        completion_cookie: found through the completion routine's context; 0: the client chooses.
        data: bytes to send; `buffer_length` and `fill` follow from it unless given.
        extra: an option's value, control information to send, or names; `input_size` follows from it unless given.
        output_size: bytes of the output buffer of a control function, or for received control information.
        argument_use: further pointer arguments that are not NULL; the class methods set what their call needs.
        object: number of the object that it takes; of the inspection for INSPECT_COMPLETE.
        new_object: number of the object that it makes; 0: the client chooses where one is made.
    """

    function: Function
    op_id: int = 0
    socket: int = 0
    new_socket: int = 0
    then_op: int = 0
    reuse_op: int = 0
    switches: Switch = Switch(0)
    delay_ms: int = 0
    grace_ms: int = 0
    timeout_ms: int = 0
    dispatch_mask: int = 0
    irp_source: IrpSource = IrpSource.ALLOCATED
    stack_count: int = 1
    invoke_flags: Invoke = Invoke(0)
    second_location: bool = False
    call_context: CallContext = CallContext.CALLER
    dispatch: Dispatch = Dispatch.NULL
    owning_process: Owner = Owner.NULL
    owning_thread: Owner = Owner.NULL
    mdl_shape: MdlShape | None = None
    fill: Fill | None = None
    address_use: AddressUse | None = None
    family: int = 0
    type: int = 0
    protocol: int = 0
    flags: int = 0
    version: int = 0
    socket_context: int = 0
    completion_cookie: int = 0
    buffer_length: int | None = None
    buffer_offset: int = 0
    mdl_bytes: int = 0
    pattern_seed: int = 0
    chunks: tuple[int, ...] = ()
    data: bytes = b""
    extra: bytes = b""
    forward: Forward = Forward.NONE
    security: Security = Security.NULL
    control_type: int = 0
    input_kind: InputKind = InputKind.NONE
    npi: Npi = Npi.WSK
    descriptor: Descriptor = Descriptor.EVERYONE
    inspect_action: int = 0
    argument_use: Use = Use(0)
    control_code: int = 0
    control_level: int = 0
    event_mask: int = 0
    input_size: int | None = None
    output_size: int = 0
    object: int = 0
    new_object: int = 0
    index: int = 0
    count: int = 0
    hint_flags: int = 0
    name_space: int = 0
    node_length: int = 0
    service_length: int = 0
    local: SocketAddress | None = None
    remote: SocketAddress | None = None

    @classmethod
    def sample_listen(cls, **more: Any) -> Operation:
        """The published sample: CreateListeningSocket, exactly as the page shows it."""
        return cls(function=Function.SAMPLE_LISTEN, **({"dispatch": Dispatch.FULL} | more))

    @classmethod
    def create(
        cls,
        category: int = Category.LISTEN,
        family: int = AF_INET,
        type: int = SOCK_STREAM,  # noqa: A002 -- the WSK page's own word
        protocol: int = IPPROTO_TCP,
        **more: Any,
    ) -> Operation:
        """WskSocket."""
        values: dict[str, Any] = {"flags": category, "family": family, "type": type, "protocol": protocol}
        return cls(function=Function.SOCKET, **(values | more))

    @classmethod
    def bind(cls, socket: int, address: SocketAddress, **more: Any) -> Operation:
        """WskBind."""
        return cls(function=Function.BIND, socket=socket, local=address, **more)

    @classmethod
    def accept(cls, listener: int, **more: Any) -> Operation:
        """WskAccept with both address buffers."""
        values = {"address_use": AddressUse.LOCAL | AddressUse.REMOTE}
        return cls(function=Function.ACCEPT, socket=listener, **(values | more))

    @classmethod
    def connect(cls, socket: int, address: SocketAddress, **more: Any) -> Operation:
        """WskConnect."""
        return cls(function=Function.CONNECT, socket=socket, remote=address, **more)

    @classmethod
    def send(cls, socket: int, data: bytes, **more: Any) -> Operation:
        """WskSend. For large data give `data=b""`, `fill=Fill.PATTERN` and `buffer_length`."""
        return cls(function=Function.SEND, socket=socket, data=data, **more)

    @classmethod
    def receive(cls, socket: int, length: int, **more: Any) -> Operation:
        """WskReceive of at most `length` bytes."""
        return cls(function=Function.RECEIVE, socket=socket, buffer_length=length, **more)

    @classmethod
    def close(cls, socket: int, **more: Any) -> Operation:
        """WskCloseSocket."""
        return cls(function=Function.CLOSE, socket=socket, **more)

    @classmethod
    def socket_connect(cls, local: SocketAddress, remote: SocketAddress, **more: Any) -> Operation:
        """WskSocketConnect: create, bind and connect in one call (nc-wsk-pfn_wsk_socket_connect, WSK-CONN-008)."""
        values: dict[str, Any] = {"local": local, "remote": remote, "type": SOCK_STREAM, "protocol": IPPROTO_TCP}
        return cls(function=Function.SOCKET_CONNECT, **(values | more))

    @classmethod
    def listen(cls, socket: int, **more: Any) -> Operation:
        """WskListen: a bound stream socket becomes a listener (nc-wsk-pfn_wsk_listen, WSK-ACC-012)."""
        return cls(function=Function.LISTEN, socket=socket, **more)

    @classmethod
    def connect_ex(cls, socket: int, address: SocketAddress, data: bytes = b"", **more: Any) -> Operation:
        """WskConnectEx: connect and send (nc-wsk-pfn_wsk_connect_ex, WSK-CONN-012 and 013)."""
        return cls(function=Function.CONNECT_EX, socket=socket, remote=address, data=data, **more)

    @classmethod
    def inspect_complete(cls, listener: int, inspection: int, action: int, **more: Any) -> Operation:
        """WskInspectComplete for an inspection that was answered PEND (nc-wsk-pfn_wsk_inspect_complete, WSK-INS-005).

        Args:
            listener: the conditional listener.
            inspection: the number from the inspect event (`Event.object`).
            action: an `InspectAction`; any number is passed.
        """
        values: dict[str, Any] = {"object": inspection, "inspect_action": action}
        return cls(function=Function.INSPECT_COMPLETE, socket=listener, **(values | more))

    @classmethod
    def local_address(cls, socket: int, **more: Any) -> Operation:
        """WskGetLocalAddress; the answer is `record.local` (nc-wsk-pfn_wsk_get_local_address, WSK-BIND-002)."""
        return cls(function=Function.GET_LOCAL_ADDRESS, socket=socket, **({"address_use": AddressUse.LOCAL} | more))

    @classmethod
    def remote_address(cls, socket: int, **more: Any) -> Operation:
        """WskGetRemoteAddress; the answer is `record.remote` (nc-wsk-pfn_wsk_get_remote_address, WSK-CONN-004)."""
        return cls(function=Function.GET_REMOTE_ADDRESS, socket=socket, **({"address_use": AddressUse.REMOTE} | more))

    @classmethod
    def disconnect(cls, socket: int, data: bytes = b"", **more: Any) -> Operation:
        """WskDisconnect: graceful, with last data or without; `flags=DisconnectFlag.ABORTIVE` aborts.

        Pages: nc-wsk-pfn_wsk_disconnect. Rules: WSK-DISC-001 to 008.
        """
        return cls(function=Function.DISCONNECT, socket=socket, data=data, **more)

    @classmethod
    def send_to(cls, socket: int, data: bytes, address: SocketAddress | None, **more: Any) -> Operation:
        """WskSendTo; no address means NULL, `extra` is control information (nc-wsk-pfn_wsk_send_to, WSK-DGRAM-001)."""
        more.setdefault("argument_use", Use.CONTROL_INFO if more.get("extra") else Use(0))
        return cls(function=Function.SEND_TO, socket=socket, data=data, remote=address, **more)

    @classmethod
    def send_messages(
        cls, socket: int, messages: Sequence[bytes], address: SocketAddress | None, **more: Any
    ) -> Operation:
        """WskSendMessages: 1 .. 16 datagrams, none empty, one IRP (nc-wsk-pfn_wsk_send_messages, WSK-DGRAM-013)."""
        values: dict[str, Any] = {
            "data": b"".join(messages),
            "chunks": tuple(len(message) for message in messages),
            "argument_use": Use.CONTROL_INFO if more.get("extra") else Use(0),
        }
        return cls(function=Function.SEND_MESSAGES, socket=socket, remote=address, **(values | more))

    @classmethod
    def receive_from(cls, socket: int, length: int, *, control: int = 0, **more: Any) -> Operation:
        """WskReceiveFrom of one datagram; `record.remote` is the sender, `record.extra` its control information.

        Pages: nc-wsk-pfn_wsk_receive_from. Rules: WSK-DGRAM-002, 007, 008.

        Args:
            socket: a bound datagram socket.
            length: bytes of the data buffer.
            control: bytes of the buffer for control information; 0 passes NULL for it and for its length.
        """
        use = Use.CONTROL_FLAGS | (Use.CONTROL_LENGTH | Use.CONTROL_INFO if control else Use(0))
        values: dict[str, Any] = {
            "buffer_length": length,
            "output_size": control,
            "argument_use": use,
            "address_use": AddressUse.REMOTE,
        }
        return cls(function=Function.RECEIVE_FROM, socket=socket, **(values | more))

    @classmethod
    def release_data(cls, socket: int, kept: int, **more: Any) -> Operation:
        """WskRelease of a kept data indication (nc-wsk-pfn_wsk_release_data_indication_list, WSK-DATA-015)."""
        return cls(function=Function.RELEASE_DATA, socket=socket, object=kept, **more)

    @classmethod
    def release_datagrams(cls, socket: int, kept: int, count: int = 0, **more: Any) -> Operation:
        """WskRelease of `count` datagrams (0: all) from the front of a kept list.

        Pages: nc-wsk-pfn_wsk_release_datagram_indication_list. Rules: WSK-DGRAM-010.
        """
        return cls(function=Function.RELEASE_DATAGRAM, socket=socket, object=kept, count=count, **more)

    @classmethod
    def indication(cls, kept: int, index: int = 0, **more: Any) -> Operation:
        """Look at a kept indication: its bytes (one datagram of a list) as they are now; WSK is not called."""
        return cls(function=Function.INDICATION_INFO, object=kept, index=index, **more)

    @classmethod
    def set_option(
        cls, socket: int, option: int, value: int | bytes, *, level: int = SOL_SOCKET, **more: Any
    ) -> Operation:
        """WskControlSocket, WskSetOption; a number is passed as ULONG (nc-wsk-pfn_wsk_control_socket, WSK-OPT-001)."""
        return _control(socket, ControlType.SET_OPTION, option, level, _value(value), **more)

    @classmethod
    def get_option(cls, socket: int, option: int, *, level: int = SOL_SOCKET, size: int = 4, **more: Any) -> Operation:
        """WskControlSocket, WskGetOption; the value is `record.extra` (nc-wsk-pfn_wsk_control_socket, WSK-OPT-001)."""
        return _control(socket, ControlType.GET_OPTION, option, level, b"", **({"output_size": size} | more))

    @classmethod
    def ioctl(
        cls, socket: int, code: int, value: int | bytes = b"", *, output: int = 0, level: int = 0, **more: Any
    ) -> Operation:
        """WskControlSocket, WskIoctl; the output is `record.extra`. `switches=Switch.NULL_IRP` for those without IRP.

        Pages: nc-wsk-pfn_wsk_control_socket, sio-*. Rules: WSK-OPT-006 to 012, WSK-DGRAM-004 to 006, WSK-INS-009.
        """
        return _control(socket, ControlType.IOCTL, code, level, _value(value), **({"output_size": output} | more))

    @classmethod
    def events(cls, socket: int, mask: int, **more: Any) -> Operation:
        """SO_WSK_EVENT_CALLBACK: enable events, or with `EventMask.DISABLE` disable one; without an IRP.

        Pages: so-wsk-event-callback, enabling-and-disabling-event-callback-functions. Rules: WSK-EVT-001 to 010.
        With an IRP (WSK-EVT-005, 006, 010): `switches=Switch(0)`.
        """
        values: dict[str, Any] = {"switches": Switch.NULL_IRP, "event_mask": mask, "input_size": 16}
        values["input_kind"] = InputKind.EVENT_CALLBACK
        option = SocketOption.WSK_EVENT_CALLBACK
        return _control(socket, ControlType.SET_OPTION, option, SOL_SOCKET, b"", **(values | more))

    @classmethod
    def set_security(cls, socket: int, descriptor: int, **more: Any) -> Operation:
        """SO_WSK_SECURITY with the cached descriptor of that number (so-wsk-security, WSK-OPT-013)."""
        values: dict[str, Any] = {"input_kind": InputKind.CACHED, "object": descriptor, "input_size": 8}
        return _control(socket, ControlType.SET_OPTION, SocketOption.WSK_SECURITY, SOL_SOCKET, b"", **(values | more))

    @classmethod
    def get_security(cls, socket: int, **more: Any) -> Operation:
        """SO_WSK_SECURITY: a cached copy, `record.object`, to be released (so-wsk-security, WSK-OPT-013)."""
        return _control(
            socket, ControlType.GET_OPTION, SocketOption.WSK_SECURITY, SOL_SOCKET, b"", **({"output_size": 8} | more)
        )

    @classmethod
    def control_client(cls, code: int, *, output: int = 0, **more: Any) -> Operation:
        """WskControlClient, without an IRP unless `switches=Switch(0)` (nc-wsk-pfn_wsk_control_client, WSK-CTL-*)."""
        values: dict[str, Any] = {
            "control_code": code,
            "output_size": output,
            "switches": Switch.NULL_IRP,
            "argument_use": Use.SIZE_RETURNED,
        }
        return cls(function=Function.CONTROL_CLIENT, **(values | more))

    @classmethod
    def transport_list(cls, size: int = 4096, **more: Any) -> Operation:
        """WSK_TRANSPORT_LIST_QUERY; `wsk.transport_list(record.extra)` (wsk-transport-list-query, WSK-CTL-001)."""
        return cls.control_client(ClientControl.TRANSPORT_LIST_QUERY, output=size, **more)

    @classmethod
    def transport_change(cls, **more: Any) -> Operation:
        """WSK_TRANSPORT_LIST_CHANGE with an IRP, which pends (wsk-transport-list-change, WSK-CTL-003)."""
        return cls.control_client(ClientControl.TRANSPORT_LIST_CHANGE, **({"switches": Switch(0)} | more))

    @classmethod
    def cache_descriptor(cls, descriptor: Descriptor = Descriptor.EVERYONE, **more: Any) -> Operation:
        """WSK_CACHE_SD of a descriptor that the driver makes: `record.object` (wsk-cache-sd, WSK-CTL-004)."""
        values: dict[str, Any] = {"descriptor": descriptor, "input_kind": InputKind.DESCRIPTOR, "input_size": 8}
        return cls.control_client(ClientControl.CACHE_SD, output=8, **(values | more))

    @classmethod
    def release_descriptor(cls, cached: int, **more: Any) -> Operation:
        """WSK_RELEASE_SD of the cached descriptor of that number (wsk-release-sd, WSK-CTL-004)."""
        values: dict[str, Any] = {"object": cached, "input_kind": InputKind.CACHED, "input_size": 8}
        return cls.control_client(ClientControl.RELEASE_SD, **(values | more))

    @classmethod
    def static_events(cls, mask: int, **more: Any) -> Operation:
        """WSK_SET_STATIC_EVENT_CALLBACKS, before the first socket (wsk-set-static-event-callbacks, WSK-CTL-005)."""
        values: dict[str, Any] = {"event_mask": mask, "input_kind": InputKind.EVENT_CALLBACK, "input_size": 16}
        return cls.control_client(ClientControl.SET_STATIC_EVENT_CALLBACKS, **(values | more))

    @classmethod
    def tdi_behavior(cls, value: int = 1, **more: Any) -> Operation:
        """WSK_TDI_BEHAVIOR; 1 bypasses TDI (wsk-tdi-behavior, WSK-CTL-008)."""
        values: dict[str, Any] = {"extra": _value(value), "input_kind": InputKind.BYTES}
        return cls.control_client(ClientControl.TDI_BEHAVIOR, **(values | more))

    @classmethod
    def address_info(cls, node: str | None, service: str | None = None, **more: Any) -> Operation:
        """WskGetAddressInfo; the list is `record.object`, its entries `record.address_infos` (WSK-NAME-001 to 006).

        Pages: nc-wsk-pfn_wsk_get_address_info. None passes NULL. Hints: `argument_use` with `Use.HINTS` added to
        what the names need (`Operation.address_info(...).argument_use | Use.HINTS`), `hint_flags`, `family`, `type`,
        `protocol`.
        """
        names = [(name or "").encode("utf-16-le") for name in (node, service)]
        use = (Use.NODE if node is not None else Use(0)) | (Use.SERVICE if service is not None else Use(0))
        values: dict[str, Any] = {
            "extra": b"".join(names),
            "node_length": len(names[0]),
            "service_length": len(names[1]),
            "argument_use": use,
        }
        return cls(function=Function.GET_ADDRESS_INFO, **(values | more))

    @classmethod
    def free_address_info(cls, address_list: int, **more: Any) -> Operation:
        """WskFreeAddressInfo of the list of that number (nc-wsk-pfn_wsk_free_address_info, WSK-NAME-009)."""
        return cls(function=Function.FREE_ADDRESS_INFO, object=address_list, **more)

    @classmethod
    def name_info(cls, address: SocketAddress, *, node: int = 512, service: int = 64, **more: Any) -> Operation:
        """WskGetNameInfo; `record.node` and `record.service` (nc-wsk-pfn_wsk_get_name_info, WSK-NAME-007 and 008).

        Args:
            address: what to name.
            node: bytes of the buffer for the node name; 0 passes NULL.
            service: bytes of the buffer for the service name; 0 passes NULL.
        """
        use = (Use.NODE if node else Use(0)) | (Use.SERVICE if service else Use(0))
        values: dict[str, Any] = {"node_length": node, "service_length": service, "argument_use": use}
        return cls(function=Function.GET_NAME_INFO, remote=address, **(values | more))

    @classmethod
    def nmr_register(cls, version: int = 0x0100, **more: Any) -> Operation:
        """NmrRegisterClient; attached when NMR_ATTACH was called (initializing-nmr-data-structures, WSK-REG-012)."""
        return cls(function=Function.NMR_REGISTER, version=version, **more)

    @classmethod
    def nmr_deregister(cls, **more: Any) -> Operation:
        """NmrDeregisterClient and NmrWaitForClientDeregisterComplete (unregistering-a-winsock-kernel-application)."""
        return cls(function=Function.NMR_DEREGISTER, **more)

    def encode(self, *, wait_ms: int = 0, wait_flags: int = 0) -> bytes:
        """The SUBMIT request; with the two for the wait, the RUN request."""
        use = self.address_use
        if use is None:
            use = (AddressUse.LOCAL if self.local else AddressUse(0)) | (
                AddressUse.REMOTE if self.remote else AddressUse(0)
            )
        length = len(self.data) if self.buffer_length is None else self.buffer_length
        has_buffer = bool(length or self.buffer_offset or self.mdl_bytes)
        shape = self.mdl_shape
        if shape is None:
            shape = MdlShape.CHAIN if self.chunks else MdlShape.SINGLE if has_buffer else MdlShape.NULL
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        del values["data"], values["extra"]
        values.update(
            header=abi.SUBMIT.header(),
            wait_ms=wait_ms,
            wait_flags=wait_flags,
            second_location=int(self.second_location),
            address_use=use,
            buffer_length=length,
            mdl_shape=shape,
            fill=self.fill if self.fill is not None else Fill.DATA if self.data else Fill.NONE,
            data_length=len(self.data),
            extra_length=len(self.extra),
            input_size=len(self.extra) if self.input_size is None and self.input_kind else self.input_size or 0,
            local=self.local.slot() if self.local else {},
            remote=self.remote.slot() if self.remote else {},
        )
        return abi.SUBMIT.pack(values) + self.data + self.extra

    @property
    def expects(self) -> int:
        """How many bytes of data its record may carry."""
        if self.function in (Function.RECEIVE, Function.RECEIVE_FROM, Function.INDICATION_INFO):
            return (self.buffer_length or _INDICATION_ROOM) + self.output_size
        if self.function is Function.GET_NAME_INFO:
            return self.node_length + self.service_length
        if self.function is Function.GET_ADDRESS_INFO:
            return _ADDRESS_INFO_ROOM
        return self.output_size

    @property
    def creates(self) -> bool:
        """Whether it makes a socket."""
        return self.function.creates

    @property
    def makes_object(self) -> bool:
        """Whether it makes an object: a cached descriptor or an address list."""
        if self.function is Function.GET_ADDRESS_INFO:
            return True
        if self.function is Function.CONTROL_CLIENT:
            return self.control_code == ClientControl.CACHE_SD
        return (
            self.function is Function.CONTROL_SOCKET
            and self.control_type == ControlType.GET_OPTION
            and self.control_code == SocketOption.WSK_SECURITY
        )


def _value(value: int | bytes) -> bytes:
    """A number as ULONG, bytes as they are."""
    return (value & 0xFFFFFFFF).to_bytes(4, "little") if isinstance(value, int) else value


def _control(socket: int, kind: ControlType, code: int, level: int, value: bytes, **more: Any) -> Operation:
    values: dict[str, Any] = {
        "control_type": kind,
        "control_code": code,
        "control_level": level,
        "extra": value,
        "input_kind": InputKind.BYTES if value else InputKind.NONE,
        "argument_use": Use.SIZE_RETURNED if Switch.NULL_IRP in more.get("switches", Switch(0)) else Use(0),
    }
    return Operation(function=Function.CONTROL_SOCKET, socket=socket, **(values | more))
