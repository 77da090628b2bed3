"""Random requests to our driver, repeatable by their seed: well-formed but for a field or two, or plain noise."""

from __future__ import annotations

import random

from wsklab import abi
from wsklab.abi import Action, Callback, Function, InputKind, Ioctl, Use
from wsklab.records import SocketAddress
from wsklab.wsk import ClientControl, EventMask, SocketIoctl, SocketOption

__all__ = ["request"]

#: Requests whose structure has another name than their code.
_STRUCTURE = {
    Ioctl.HELLO: "HELLO_REQUEST",
    Ioctl.LEDGER: "LEDGER_REQUEST",
    Ioctl.RUN: "SUBMIT",
    Ioctl.FORWARD: "SUBMIT",
}
#: Few numbers, so that they meet each other.
_OPERATIONS = 12
_SOCKETS = 6
_OBJECTS = 6

_ON_SOCKET = (
    *(Function.BIND, Function.ACCEPT, Function.CONNECT, Function.SEND, Function.RECEIVE, Function.CLOSE),
    *(Function.SOCKET_INFO, Function.CONTROL_SOCKET, Function.LISTEN, Function.CONNECT_EX, Function.INSPECT_COMPLETE),
    *(Function.GET_LOCAL_ADDRESS, Function.GET_REMOTE_ADDRESS, Function.DISCONNECT, Function.RELEASE_DATA),
    *(Function.SEND_TO, Function.SEND_MESSAGES, Function.RECEIVE_FROM, Function.RELEASE_DATAGRAM),
)
_SENDS = (Function.SEND, Function.CONNECT_EX, Function.DISCONNECT, Function.SEND_TO, Function.SEND_MESSAGES)
_RECEIVES = (Function.RECEIVE, Function.RECEIVE_FROM)
#: A client that has deregistered can do little else: these come seldom.
_ENDS = (
    *(Function.REGISTER, Function.RELEASE_NPI, Function.DEREGISTER, Function.NMR_REGISTER, Function.NMR_DEREGISTER),
)
#: What most conversations are about comes more often.
_FUNCTIONS = (
    *(function for function in Function if function not in _ENDS),
    *(Function.SOCKET, Function.SOCKET, Function.BIND, Function.ACCEPT, Function.CONNECT, Function.RECEIVE),
    *(
        Function.SOCKET,
        Function.SOCKET,
        Function.BIND,
        Function.CLOSE,
        Function.CONTROL_SOCKET,
        Function.CONTROL_SOCKET,
    ),
    *(Function.CONTROL_CLIENT, Function.CONNECT, Function.ACCEPT),
)


def request(rng: random.Random) -> tuple[int, bytes, int]:
    """A request that is well-formed but for one or two fields, or plain noise."""
    code = rng.choice(list(Ioctl))
    if rng.random() < 0.05:
        return code ^ (1 << rng.randrange(32)), rng.randbytes(rng.randrange(64)), rng.randrange(512)
    if rng.random() < 0.1:
        return code, rng.randbytes(rng.randrange(600)), rng.randrange(2000)
    if rng.random() < 0.5:
        code = rng.choice((Ioctl.SUBMIT, Ioctl.RUN, Ioctl.FORWARD))
    data = bytearray(_sensible(rng, code))
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        at = rng.randrange(len(data))
        data[at] = rng.choice((0, 1, 2, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    if rng.random() < 0.1:
        data = data[: rng.randrange(len(data))]
    room = rng.choice((0, 1, 8, 319, 320, 400, 4096))
    return code, bytes(data), 0 if code == Ioctl.FORWARD and rng.random() < 0.9 else room


def _sensible(rng: random.Random, code: Ioctl) -> bytes:
    """A request with everything in its place."""
    name = _STRUCTURE.get(code, code.name)
    structure = abi.STRUCTURES[name]
    values: dict[str, object] = {"header": structure.header()}
    tail = b""
    if name == "SUBMIT":
        values, tail = submit(rng)
        if code is Ioctl.RUN:
            values |= {"wait_ms": rng.choice((0, 1, 20)), "wait_flags": rng.randrange(2)}
        elif code is Ioctl.FORWARD:
            values |= forwarded(rng)
    elif name == "SCRIPT":
        values, tail = script(rng)
    elif name == "FAULTS":
        values |= {
            "kind": rng.randrange(8),
            "skip": rng.randrange(4),
            "deny": rng.randrange(3),
            "clear": rng.randrange(2),
        }
    elif "op_id" in (field.name for field in structure.fields):
        values["op_id"] = rng.randrange(_OPERATIONS)
    if "timeout_ms" in (field.name for field in structure.fields) and name != "SUBMIT":
        values["timeout_ms"] = rng.choice((0, 1, 20))
    return structure.pack(values) + tail


def forwarded(rng: random.Random) -> dict[str, object]:
    """What makes most SUBMITs into FORWARDs that can be served."""
    return {
        "irp_source": 3,
        "forward": rng.choice((1, 2, 2, 3, 3)),
        "stack_count": 1,
        "reuse_op": 0,
        "delay_ms": 0,
        "switches": 0,
        "call_context": rng.choice((0, 2)),
    }


def script(rng: random.Random) -> tuple[dict[str, object], bytes]:
    """A script that mostly makes sense."""
    callback = rng.choice((Callback.ACCEPT, Callback.RECEIVE, Callback.RECEIVE_FROM, Callback.INSPECT, *Callback))
    count = rng.choice((0, 1, 1, 2, 16, 17))
    answers = b""
    for _ in range(count):
        action = rng.choice((Action.TAKE, Action.TAKE, *Action))
        named = action == Action.KEEP or (action == Action.TAKE and callback == Callback.ACCEPT)
        answers += abi.ANSWER.pack(
            action=action,
            uses=rng.choice((0, 1, 2)) if count == 1 else rng.choice((1, 2)),
            number=rng.randrange(1, _SOCKETS) if named else 0,
            then_op=rng.choice((0, 0, rng.randrange(_OPERATIONS))),
            length=rng.randrange(10) if action == Action.TAKE_SOME else 0,
            hold_ms=rng.choice((0, 0, 0, 1)),
            dispatch=rng.randrange(3) if named and callback == Callback.ACCEPT else 0,
        )
    socket = 0 if callback == Callback.CLIENT else rng.randrange(_SOCKETS)
    return {"header": abi.SCRIPT.header(), "socket": socket, "callback": callback, "count": count}, answers


def submit(rng: random.Random) -> tuple[dict[str, object], bytes]:
    """Fields and trailing data of a SUBMIT that mostly makes sense."""
    function = rng.choice(_ENDS if rng.random() < 0.003 else _FUNCTIONS)
    data = rng.randbytes(rng.randrange(64)) if function in _SENDS else b""
    length = len(data) or (rng.randrange(1, 64) if function in _RECEIVES else 0)
    values: dict[str, object] = {
        "header": abi.SUBMIT.header(),
        "op_id": rng.randrange(1, _OPERATIONS),
        "function": function,
        "socket": rng.randrange(1, _SOCKETS) if function in _ON_SOCKET else 0,
        "new_socket": rng.randrange(1, _SOCKETS) if function.creates else 0,
        "then_op": rng.choice((0, 0, rng.randrange(_OPERATIONS))),
        "switches": rng.choice((0, 0, 0, 1, 4, 8)),
        "delay_ms": rng.choice((0, 0, 0, 5)),
        "irp_source": rng.choice((0, 0, 1, 2)),
        "reuse_op": 0,
        "stack_count": rng.choice((0, 1, 2, 16)),
        "call_context": rng.randrange(3),
        "dispatch": rng.randrange(3),
        "dispatch_mask": rng.randrange(64),
        "family": rng.choice((2, 2, 23, 99)),
        "type": rng.choice((1, 1, 2)),
        "protocol": rng.choice((6, 6, 17)),
        "flags": rng.choice((0, 1, 1, 2, 2, 4, 8)) if function is Function.SOCKET else rng.choice((0, 0, 0, 1, 2, 4)),
        "socket_context": rng.choice((0, 1, rng.getrandbits(64))),
        "mdl_shape": 1 if length else 0,
        "fill": 1 if data else 0,
        "buffer_length": length,
        "data_length": len(data),
        "version": 0x100,
        "address_use": rng.randrange(4),
        "local": SocketAddress.of("127.0.0.1", rng.choice((0, 4500, 4501))).slot(),
        # No port that a listener may have: on Wine, closing a listener that accepted closes a stranger's handle.
        "remote": SocketAddress.of("127.0.0.1", rng.choice((1, 4600, 4601))).slot(),
        "object": rng.randrange(_OBJECTS),
        "index": rng.randrange(2) if function is Function.INDICATION_INFO else 0,
        "count": rng.randrange(3) if function is Function.RELEASE_DATAGRAM else 0,
        "inspect_action": rng.randrange(5) if function is Function.INSPECT_COMPLETE else 0,
    }
    extra = b""
    if values["irp_source"] == 2:
        values["reuse_op"] = rng.randrange(1, _OPERATIONS)
    if function in (Function.CONTROL_SOCKET, Function.CONTROL_CLIENT):
        extra = _control(rng, function, values)
    elif function is Function.RECEIVE_FROM and rng.random() < 0.5:
        values |= {"output_size": 64, "argument_use": Use.CONTROL_INFO | Use.CONTROL_LENGTH | Use.CONTROL_FLAGS}
    elif function is Function.SEND_MESSAGES and len(data) > 1:
        values |= {"mdl_shape": 2, "chunks": (1, len(data) - 1)}
    elif function in (Function.SEND_TO, Function.SEND_MESSAGES) and rng.random() < 0.3:
        extra = rng.randbytes(rng.randrange(1, 40))
        values["argument_use"] = Use.CONTROL_INFO
    if function not in (Function.CONTROL_SOCKET, Function.CONTROL_CLIENT) and not _takes_object(function):
        values["object"] = 0
    values["extra_length"] = len(extra)
    return values, data + extra


def _takes_object(function: Function) -> bool:
    return function in (
        *(Function.RELEASE_DATA, Function.RELEASE_DATAGRAM, Function.INDICATION_INFO, Function.INSPECT_COMPLETE),
        Function.FREE_ADDRESS_INFO,
    )


def _control(rng: random.Random, function: Function, values: dict[str, object]) -> bytes:
    """A control request: code, input and output that mostly belong together."""
    codes = list(ClientControl) if function is Function.CONTROL_CLIENT else [*SocketOption, *SocketIoctl, 1, 0x4009]
    code = rng.choice(codes)
    kinds = {
        SocketOption.WSK_EVENT_CALLBACK: (InputKind.EVENT_CALLBACK, 16),
        SocketOption.WSK_SECURITY: (InputKind.CACHED, 8),
        SocketIoctl.WSK_REGISTER_EXTENSION: (InputKind.EXTENSION, 24),
        ClientControl.CACHE_SD: (InputKind.DESCRIPTOR, 8),
        ClientControl.RELEASE_SD: (InputKind.CACHED, 8),
        ClientControl.SET_STATIC_EVENT_CALLBACKS: (InputKind.EVENT_CALLBACK, 16),
        ClientControl.TDI_DEVICENAME_MAPPING: (InputKind.TDI_MAP, 16),
    }
    extra = b""
    kind, size = kinds.get(code, (InputKind.NONE, 0)) if rng.random() < 0.9 else (rng.choice(list(InputKind)), 4)
    if kind is InputKind.NONE and rng.random() < 0.5:
        extra = rng.randbytes(rng.choice((1, 4, 16)))
        kind, size = InputKind.BYTES, len(extra)
    output = rng.choice((0, 4, 8, 16, 64, 300))
    makes = code in (SocketOption.WSK_SECURITY, ClientControl.CACHE_SD) and output
    values |= {
        "control_type": rng.choice((0, 0, 1, 1, 2, 3)) if function is Function.CONTROL_SOCKET else 0,
        "control_code": code,
        "control_level": rng.choice((0xFFFF, 0xFFFF, 0, 6)),
        "input_kind": kind,
        "input_size": size,
        "output_size": output,
        "npi": rng.choice((0, 0, 0, 1, 2, 3)),
        "event_mask": rng.choice((*EventMask, 0x250, 0x80000200, 0)),
        "argument_use": rng.choice((0, Use.SIZE_RETURNED)),
        "switches": rng.choice((0, 1, 1, 4)),
        "new_object": rng.randrange(1, _OBJECTS) if makes else 0,
        "object": rng.randrange(1, _OBJECTS) if kind is InputKind.CACHED else 0,
    }
    return extra
