"""What the decoders of the driver's answers share: addresses, enumerations, structures in a row."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Any

from wsklab import abi
from wsklab.errors import ChannelProtocolError

__all__ = ["AF_INET", "AF_INET6", "SocketAddress", "enumerated", "items"]

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


def enumerated(kind: type[Any], value: int, where: str) -> Any:
    """`kind(value)`; a number that the enumeration does not know is a broken contract, not a crash."""
    try:
        return kind(value)
    except ValueError as error:
        raise ChannelProtocolError(
            f"the driver's answer holds an unknown {kind.__name__}",
            why=f"{where} = {value}",
            fix="rebuild the driver from this checkout: wsklab driver build",
        ) from error


def items(structure: abi.Structure, answer: bytes, offset: int, count: int) -> list[dict[str, Any]]:
    """`count` structures in a row; a count beyond the answer breaks the contract."""
    room = (len(answer) - offset) // structure.size
    if count > room:
        raise ChannelProtocolError(
            f"the driver announced more {structure.name} entries than it sent",
            why=f"{count} announced, room for {room}",
            fix="rebuild the driver from this checkout: wsklab driver build",
        )
    return [structure.unpack(answer, offset + index * structure.size) for index in range(count)]
