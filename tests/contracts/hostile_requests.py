"""Random requests to our driver, repeatable by their seed: well-formed but for a field or two, or plain noise."""

from __future__ import annotations

import random

from wsklab import abi
from wsklab.abi import Ioctl
from wsklab.records import SocketAddress

__all__ = ["request"]

#: Requests whose structure has another name than their code.
_STRUCTURE = {
    Ioctl.HELLO: "HELLO_REQUEST",
    Ioctl.LEDGER: "LEDGER_REQUEST",
    Ioctl.RUN: "SUBMIT",
    Ioctl.FORWARD: "SUBMIT",
}


def request(rng: random.Random) -> tuple[int, bytes, int]:
    """A request that is well-formed but for one or two fields, or plain noise."""
    code = rng.choice(list(Ioctl))
    if rng.random() < 0.05:
        return code ^ (1 << rng.randrange(32)), rng.randbytes(rng.randrange(64)), rng.randrange(512)
    if rng.random() < 0.1:
        return code, rng.randbytes(rng.randrange(600)), rng.randrange(2000)
    name = _STRUCTURE.get(code, code.name)
    structure = abi.STRUCTURES.get(name)
    if structure is None:
        return code, b"", 0
    values: dict[str, object] = {"header": structure.header()}
    tail = b""
    if name == "SUBMIT":
        values, tail = submit(rng)
        if code == Ioctl.RUN:
            values |= {"wait_ms": rng.choice((0, 1, 20)), "wait_flags": rng.randrange(2)}
        if code == Ioctl.FORWARD:
            values |= forwarded(rng)
    elif name == "FAULTS":
        values |= {
            "kind": rng.randrange(7),
            "skip": rng.randrange(3),
            "deny": rng.randrange(2),
            "clear": rng.randrange(2),
        }
    elif "op_id" in (field.name for field in structure.fields):
        values["op_id"] = rng.randrange(12)
    if "timeout_ms" in (field.name for field in structure.fields) and name != "SUBMIT":
        values["timeout_ms"] = rng.choice((0, 1, 20))
    data = bytearray(structure.pack(values) + tail)
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        at = rng.randrange(len(data))
        data[at] = rng.choice((0, 1, 2, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    if rng.random() < 0.1:
        data = data[: rng.randrange(len(data))]
    room = rng.choice((0, 1, 8, 319, 320, 400, 4096))
    return code, bytes(data), 0 if code == Ioctl.FORWARD and rng.random() < 0.9 else room


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


def submit(rng: random.Random) -> tuple[dict[str, object], bytes]:
    """Fields and trailing data of a SUBMIT that mostly makes sense: few numbers, so that they meet each other."""
    function = rng.choice((1, 2, 2, 3, 4, 5, 6, 7, 8, 8, 16, 17, 18, 19, 20, 21, 22, 33))
    data = rng.randbytes(rng.randrange(64)) if function == 6 else b""
    length = len(data) or (rng.randrange(1, 64) if function == 7 else 0)
    values: dict[str, object] = {
        "header": abi.SUBMIT.header(),
        "op_id": rng.randrange(1, 12),
        "function": function,
        "socket": rng.randrange(1, 6) if function in (3, 4, 5, 6, 7, 8, 22) else 0,
        "new_socket": rng.randrange(1, 6) if function in (1, 2, 4) else 0,
        "then_op": rng.choice((0, 0, rng.randrange(12))),
        "switches": rng.choice((0, 0, 0, 4, 8)),
        "delay_ms": rng.choice((0, 0, 0, 5)),
        "irp_source": rng.choice((0, 0, 1, 2)),
        "reuse_op": 0,
        "stack_count": rng.choice((0, 1, 2, 16)),
        "call_context": rng.randrange(3),
        "dispatch": rng.randrange(3),
        "family": rng.choice((2, 2, 23, 99)),
        "type": rng.choice((1, 1, 2)),
        "protocol": rng.choice((6, 6, 17)),
        "flags": rng.choice((0, 1, 1, 2, 2, 4, 8)) if function == 2 else 0,
        "socket_context": rng.getrandbits(64),
        "mdl_shape": 1 if length else 0,
        "fill": 1 if data else 0,
        "buffer_length": length,
        "data_length": len(data),
        "version": 0x100,
        "address_use": rng.randrange(4),
        "local": SocketAddress.of("127.0.0.1", rng.choice((0, 4500, 4501))).slot(),
        # No port that a listener may have: on Wine, closing a listener that accepted closes a stranger's handle.
        "remote": SocketAddress.of("127.0.0.1", rng.choice((1, 4600, 4601))).slot(),
    }
    if values["irp_source"] == 2:
        values["reuse_op"] = rng.randrange(1, 12)
    return values, data
