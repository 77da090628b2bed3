"""TCP sockets of a guest for a test that runs elsewhere: the client of `wskctl peer`.

The requests and answers have the form of `wsklab.channel.device`, whose conversation this uses; see
`driver-src/ctl/peer.c` for the verbs. A `RemoteSocket` has those methods of `socket.socket` that a peer needs, and
raises what that would raise.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from wsklab.channel.device import DeviceClient, DeviceError
from wsklab.channel.protocol import Channel
from wsklab.deadline import Deadline
from wsklab.decoding import SocketAddress
from wsklab.errors import ChannelLost, ChannelProtocolError, DeadlineExceeded, UsageError

__all__ = ["RemoteSocket", "RemoteSockets"]

_COMMAND: Final = r"C:\wsklab\wskctl.exe peer"

#: A call of a socket without a time limit of its own.
_CALL_S: Final = 30.0

#: What one request carries at most.
_PART: Final = 65536

#: Codes of Winsock, as Python's own errors.
_ERRORS: Final[Mapping[int, int]] = MappingProxyType(
    {10053: errno.ECONNABORTED, 10054: errno.ECONNRESET, 10061: errno.ECONNREFUSED, 10060: errno.ETIMEDOUT}
)


@contextlib.contextmanager
def _as_a_socket_says_it() -> Iterator[None]:
    try:
        yield
    except DeadlineExceeded as error:
        raise TimeoutError(error.message) from error
    except DeviceError as error:
        number = _ERRORS.get(error.win32, errno.EIO)
        raise OSError(number, f"{os.strerror(number)}: {error.message}") from error


class RemoteSockets:
    """One conversation with `wskctl peer`; its end closes all sockets."""

    def __init__(self, client: DeviceClient) -> None:
        """Use `open`."""
        self._client = client

    @classmethod
    def open(cls, channel: Channel, deadline: Deadline) -> RemoteSockets:
        """Start `wskctl peer` in the guest.

        Raises:
            ChannelLost: the path broke.
        """
        return cls(DeviceClient(channel.open_stream(_COMMAND, deadline)))

    def connect(self, address: tuple[str, int], deadline: Deadline) -> RemoteSocket:
        """A connection that the guest makes.

        Raises:
            OSError: as `socket.connect`; TimeoutError: no answer in time.
        """
        return self.request("connect", deadline, address=SocketAddress.of(*address))

    def listen(self, host: str, deadline: Deadline) -> RemoteSocket:
        """A listening socket at an address of the guest, any port.

        Raises:
            OSError: it is not the guest's address.
        """
        return self.request("listen", deadline, address=SocketAddress.of(host))

    def request(
        self, verb: str, deadline: Deadline, *, address: SocketAddress | None = None, number: int | None = None
    ) -> RemoteSocket:
        """A request that is answered with a socket."""
        members = f',"address":"{address.raw.hex()}"' if address is not None else f',"socket":{number}'
        answer = self.call(verb, members, deadline)
        made = answer.get("socket")
        if not isinstance(made, int) or isinstance(made, bool):
            raise ChannelProtocolError(f"wskctl peer gave no socket for {verb}")
        return RemoteSocket(self, made, local=_address(answer, "local"), remote=_address(answer, "remote"))

    def call(self, verb: str, members: str, deadline: Deadline) -> Mapping[str, Any]:
        """A request and its good answer."""
        with _as_a_socket_says_it():
            return self._client.call(f'"verb":"{verb}"{members}', deadline, f"{verb} of the guest's socket")

    def close(self) -> None:
        """End it."""
        self._client.close()


class RemoteSocket:
    """A socket of the guest. Made by `RemoteSockets`."""

    def __init__(self, sockets: RemoteSockets, number: int, *, local: tuple[str, int], remote: tuple[str, int]) -> None:
        self._sockets = sockets
        self._number = number
        self._local = local
        self._remote = remote
        self._timeout: float | None = None
        self._aborts = False
        self._open = True

    def getsockname(self) -> tuple[str, int]:
        """Its own address."""
        return self._local

    def getpeername(self) -> tuple[str, int]:
        """The other end's; a listener has none."""
        if not self._remote[0]:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self._remote

    def gettimeout(self) -> float | None:
        """How long a call may take."""
        return self._timeout

    def settimeout(self, seconds: float | None) -> None:
        """None: as long as anything of the lab takes at most."""
        self._timeout = seconds

    def setsockopt(self, level: int, option: int, value: bytes | int) -> None:
        """SO_LINGER with a time of nothing: closing aborts. Others are the guest's own affair.

        Raises:
            UsageError: another option.
        """
        if (level, option) != (socket.SOL_SOCKET, socket.SO_LINGER) or not isinstance(value, bytes):
            raise UsageError(f"option {option} of a second guest's socket cannot be set", fix="use the fixture peer")
        self._aborts = True

    def accept(self) -> tuple[RemoteSocket, tuple[str, int]]:
        """The next connection and where it comes from."""
        made = self._sockets.request("accept", self._deadline(), number=self._number)
        return made, made.getpeername()

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        for start in range(0, len(data), _PART):
            self._call("send", f',"data":"{data[start : start + _PART].hex()}"')

    def send(self, data: bytes) -> int:
        """Send it; how much was taken."""
        self.sendall(data)
        return len(data)

    def recv(self, limit: int) -> bytes:
        """What is there, at most so much; b"" at the end of the stream."""
        answer = self._call("receive", f',"length":{min(limit, _PART)}')
        try:
            return bytes.fromhex(answer["data"])
        except (KeyError, TypeError, ValueError) as error:
            raise ChannelProtocolError("wskctl peer gave no data for a receive") from error

    def shutdown(self, how: int) -> None:
        """Nothing more is sent (`SHUT_WR`)."""
        if how != socket.SHUT_WR:
            raise UsageError("only the sending half of a second guest's socket can be shut")
        self._call("finish", "")

    def close(self) -> None:
        """Close it, or abort it where SO_LINGER says so; safe to call twice, and after the conversation's end."""
        if self._open:
            self._open = False
            with contextlib.suppress(ChannelLost):  # the end of the conversation has closed it
                self._call("reset" if self._aborts else "close", "")

    def _call(self, verb: str, members: str) -> Mapping[str, Any]:
        return self._sockets.call(verb, f',"socket":{self._number}{members}', self._deadline())

    def _deadline(self) -> Deadline:
        return Deadline.after(_CALL_S if self._timeout is None else max(self._timeout, 0.001))


def _address(answer: Mapping[str, Any], name: str) -> tuple[str, int]:
    """An address of an answer; ("", 0) where it has none."""
    try:
        found = SocketAddress(bytes.fromhex(answer.get(name, "")))
    except (TypeError, ValueError) as error:
        raise ChannelProtocolError(f"wskctl peer gave no address as {name}") from error
    return (found.host, found.port) if found.raw else ("", 0)
