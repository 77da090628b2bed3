"""The host's network as the lab uses it: namespaces, sockets in them, private wires, subnets, names. Owner of `ip`.

A socket belongs for ever to the namespace in which it was made, so only its making needs `setns`,
which acts on one thread: a short-lived one. Nothing else of the lab ever changes its namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import json
import os
import select
import shlex
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from wsklab.deadline import Deadline
from wsklab.errors import ChannelLost, HostError, UsageError, WireGone
from wsklab.process import ProcessResult, run, spawn

__all__ = [
    "CANDIDATE_SUBNETS",
    "WIRE_GUEST",
    "WIRE_GUEST_MAC",
    "WIRE_HOST",
    "ProcessWire",
    "Via",
    "Wires",
    "add_ipv6",
    "address_of",
    "bind_datagram",
    "connect",
    "free_subnet",
    "inside",
    "interfaces",
    "ipv6_beside",
    "jump_argv",
    "listen",
    "mac_of",
]

T = TypeVar("T")

_CLONE_NEWNET: Final = 0x40000000  # <linux/sched.h>

_IP_TIMEOUT_S: Final = 10.0

_SSH_PORT: Final = 22
_FORK_S: Final = 10.0

# How long a connection through another host may be silent before it is taken for a good one.
_SILENCE_S: Final = 2.0

CANDIDATE_SUBNETS: Final = tuple(f"192.168.{third}" for third in range(213, 253))
"""First three numbers of the /24 networks that the lab may take for itself."""

# Locally administered prefix that QEMU and libvirt use (52:54:00), then the lab's 77, then the slot.
_MAC_PREFIX: Final = "52:54:00:77"

# The two ends of every private wire: the same in each, because a fork keeps what its template knew, the
# neighbour's card address included. Each wire is alone in its namespace, so nothing can collide.
WIRE_GUEST: Final = "192.168.77.2"
WIRE_GUEST_MAC: Final = "52:54:00:77:fe:02"
WIRE_HOST: Final = "192.168.77.1"
_WIRE_HOST_MAC: Final = "52:54:00:77:fe:01"
_WIRE_LENGTH: Final = 24
_WIRE_NET: Final = "192.168.77.0/24"

_WIRE_PREFIX: Final = "wskw"

# A unique local prefix (RFC 4193) for the IPv6 addresses of every wire; the rest of each is the IPv4 address beside it.
_IPV6_PREFIX: Final = ipaddress.IPv6Network("fd5e:77c1:9a40::/64")


@dataclass(frozen=True, slots=True)
class Via:
    """From where an address is reached.

    Attributes:
        netns: path of a network namespace such as `/proc/1234/ns/net`; None: the host's own.
        jump: for an address that only another host reaches: the `ssh` command line to that host, the host last.
        host: that host's name in the settings, or "".
    """

    netns: Path | None = None
    jump: tuple[str, ...] = ()
    host: str = ""

    def is_gone(self) -> bool:
        """Whether the namespace is gone, and with it the lab's daemon that had it."""
        return self.netns is not None and not self.netns.exists()


class _Box(Generic[T]):
    """Carries the answer of a thread back: a value or an error."""

    def __init__(self) -> None:
        self.values: list[T] = []
        self.error: BaseException | None = None


def inside(via: Via, action: Callable[[], T]) -> T:
    """Run `action` in the network namespace of `via` and return its answer.

    The action must be short: the caller waits for it. Commands that it starts are in the namespace.

    Raises:
        HostError: the namespace does not exist or may not be entered; else whatever `action` raises.
    """
    if via.netns is None:
        return action()
    box: _Box[T] = _Box()
    netns = via.netns

    def work() -> None:
        try:
            _enter(netns)
            box.values.append(action())
        except BaseException as error:  # noqa: BLE001 - the top of a thread: handed to the caller, which raises it
            box.error = error

    thread = threading.Thread(target=work, name="wsklab-netns")
    thread.start()
    thread.join()
    if box.error is not None:
        raise box.error
    return box.values[0]


class ProcessWire:
    """The wire of a guest that is a process: a pair of veth devices, its end in the process' own namespace.

    The host's end is in a namespace that lives as long as this object and whoever entered it.

    Attributes:
        via: from where the guest is reached, for every process of the lab.
    """

    def __init__(self) -> None:
        """Make the host's namespace.

        Raises:
            HostError: that takes root's rights.
        """
        self._namespace: int | None = inside(Via(Path("/proc/self/ns/net")), _new_namespace)
        self.via = Via(Path(f"/proc/{os.getpid()}/fd/{self._namespace}"))

    def plug(self, pid: int, deadline: Deadline) -> None:
        """Connect it with the namespace of a process, and give both ends the addresses that every wire has.

        Raises:
            HostCommandError: `ip` says why.
        """
        make = f"link add wire type veth peer name wire netns {pid}"
        self._end(self.via, WIRE_HOST, deadline, make)
        self._end(Via(Path(f"/proc/{pid}/ns/net")), WIRE_GUEST, deadline)

    @staticmethod
    def _end(via: Via, address: str, deadline: Deadline, *first: str) -> None:
        lines = (*first, "link set dev lo up", f"address add {address}/{_WIRE_LENGTH} dev wire", "link set dev wire up")
        text = "".join(f"{line}\n" for line in lines)
        inside(via, lambda: run(("ip", "-batch", "-"), deadline=deadline.sooner(_IP_TIMEOUT_S), input=text))

    def close(self) -> None:
        """Let go of the host's end; as often as one likes."""
        namespace, self._namespace = self._namespace, None
        if namespace is not None:
            os.close(namespace)


def _new_namespace() -> int:
    """A new network namespace for the calling thread, which must end soon; a descriptor that keeps it alive."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise HostError("no network namespace can be made", why=os.strerror(ctypes.get_errno()))
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@dataclass(frozen=True, slots=True)
class Wires:
    """Private wires: each a tap device in a network namespace of its own, one per guest.

    They are made inside the namespaces of the private daemon's holder and end with it. libvirt opens the tap where
    it runs itself; after that the device is moved into the wire's namespace, which does not disturb who has it open.

    Attributes:
        holder: process id of the holder.
    """

    holder: int

    @staticmethod
    def name_of(slot: int) -> str:
        """Name of a guest's wire: of the namespace and of the tap device."""
        return f"{_WIRE_PREFIX}{slot}"

    @staticmethod
    def slot_of(name: str) -> int:
        """The slot that a wire's name tells."""
        return int(name.removeprefix(_WIRE_PREFIX))

    def via(self, name: str) -> Via:
        """From where the guest on this wire is reached."""
        return Via(Path(f"/proc/{self.holder}/root/run/netns/{name}"))

    def make(self, name: str) -> None:
        """Make the namespace and the tap, which is still outside of it: where libvirt finds it.

        The slot is the caller's, so a wire of that name that is there already is what somebody killed left.

        Raises:
            HostCommandError: `ip` says why.
        """
        self.remove(name)
        self._batch(f"netns add {name}", f"tuntap add dev {name} mode tap")

    def plug(self, name: str) -> None:
        """Move the tap into its namespace and give the host's end its addresses; the guest has it open by now."""
        self._ip("link", "set", "dev", name, "netns", name)
        self._batch(
            "link set dev lo up",
            f"link set dev {name} address {_WIRE_HOST_MAC}",
            f"address add {WIRE_HOST}/{_WIRE_LENGTH} dev {name}",
            f"link set dev {name} up",
            # a server that writes twice in a row (Nagle's algorithm) would wait 40 ms for the host to acknowledge
            f"route change {_WIRE_NET} dev {name} proto kernel scope link src {WIRE_HOST} quickack 1",
            netns=name,
        )

    def serve_address(self, name: str) -> None:
        """Answer the guest's DHCP requests on a plugged wire for as long as the wire is there.

        For guests whose command line cannot tell them their address. The lease has no end: a fork never asks for it
        again, however old its template is; a fork that restarts asks, and gets the same.

        Raises:
            HostCommandError: `dnsmasq` says why.
        """
        words = ["--conf-file=/dev/null", "--port=0", "--leasefile-ro", f"--interface={name}"]
        words += ["--bind-interfaces", "--except-interface=lo", "--no-ping", "--dhcp-authoritative", "--no-hosts"]
        words += [f"--dhcp-range={WIRE_GUEST},{WIRE_GUEST},255.255.255.0,infinite"]
        words += ["--dhcp-option=option:router", "--dhcp-option=option:dns-server"]  # there is neither
        self._inside("ip", "netns", "exec", name, "dnsmasq", *words, f"--pid-file=/run/{name}.pid")

    def remove(self, name: str) -> None:
        """Take both away, and what serves there; no error when they are gone."""
        if name not in self.names():
            return
        serves = Path(f"/proc/{self.holder}/root/run/{name}.pid")
        if serves.exists():
            # its own word for its number may be an old one: that is asked of the namespace
            servants = self._inside("ip", "netns", "pids", name, check=False).stdout.split()
            self._inside("kill", "--", *servants, check=False)
            serves.unlink(missing_ok=True)
        # the namespace takes the tap with it, unless that was never plugged in
        self._ip("link", "delete", "dev", name, check=False)
        self._ip("netns", "delete", name, check=False)

    def names(self) -> list[str]:
        """The wires that exist, used or not."""
        folder = Path(f"/proc/{self.holder}/root/run/netns")
        try:
            return sorted(path.name for path in folder.iterdir() if path.name.startswith(_WIRE_PREFIX))
        except OSError:
            return []

    def _batch(self, *lines: str, netns: str = "") -> None:
        self._ip(*(("-netns", netns) if netns else ()), "-batch", "-", text="".join(f"{line}\n" for line in lines))

    def _ip(self, *words: str, text: str = "", check: bool = True) -> bool:
        """Run `ip` where the holder is; whether it succeeded."""
        return self._inside("ip", *words, text=text, check=check).exit_code == 0

    def _inside(self, *words: str, text: str = "", check: bool = True) -> ProcessResult:
        """Run a command where the holder is. It needs the holder's /proc for its namespaces and process ids."""
        argv = ["nsenter", f"--target={self.holder}", "--mount", "--net", "--pid", "--", *words]
        return run(argv, deadline=Deadline.after(_IP_TIMEOUT_S), input=text, check=check)


def guest_cmdline(address: str) -> str:
    """What tells a wine guest its static address: a word of the kernel's command line."""
    return f"wsklab.ip={address}/{_WIRE_LENGTH}"


def connect(via: Via, address: tuple[str, int], deadline: Deadline) -> socket.socket:
    """A TCP connection to `address`, made in the namespace, without Nagle's delay, in blocking mode.

    Raises:
        ChannelLost: nobody answers there (refused, unreachable).
        DeadlineExceeded: no answer at all in time.
        HostError: the namespace cannot be entered.
    """
    if via.jump:
        return _connect_by_ssh(via, address, deadline)
    connection = inside(via, lambda: socket.socket(_family(address), socket.SOCK_STREAM))
    try:
        # 0 would mean non-blocking; a deadline that has just passed still gets one short try
        connection.settimeout(max(deadline.remaining_s, 0.001))
        connection.connect(address)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(None)
    except TimeoutError as error:
        connection.close()
        raise deadline.exceeded(f"{address[0]}:{address[1]} to accept", last="no answer") from error
    except OSError as error:
        connection.close()
        raise ChannelLost(f"cannot connect to {address[0]}:{address[1]}", why=str(error)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def host_address(via: Via, address: tuple[str, int]) -> str:
    """The host's own address on the way to `address`; nothing is sent.

    Raises:
        ChannelLost: no way leads there. HostError: the namespace cannot be entered.
    """
    with inside(via, lambda: socket.socket(_family(address), socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(address)
        except OSError as error:
            raise ChannelLost(f"no way leads to {address[0]}", why=str(error)) from error
        return str(probe.getsockname()[0])


def jump_argv(via: Via, address: str) -> list[str]:
    """The `ssh` command line whose standard streams are a connection to `address` (host:port) beyond that host."""
    *ssh, host = via.jump
    return [*ssh, "-W", address, host]


def _connect_by_ssh(via: Via, address: tuple[str, int], deadline: Deadline) -> socket.socket:
    """A connection that another host makes for us. OpenSSH does not say that it is made, only that it is not."""
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            argv = ["setsid", "--fork", *jump_argv(via, f"{address[0]}:{address[1]}")]
            spawn(argv, connection=theirs).wait(Deadline.after(_FORK_S))
        _await_speech(ours, via, address, deadline)
    except BaseException:
        ours.close()
        raise
    return ours


def _await_speech(connection: socket.socket, via: Via, address: tuple[str, int], deadline: Deadline) -> None:
    """Nothing, when the other side speaks; an SSH server does so first. Others wait for us: silence is their yes.

    Raises:
        ChannelLost: the other side is not there. DeadlineExceeded: an SSH server says nothing.
    """
    first = address[1] == _SSH_PORT
    limit = deadline if first else deadline.sooner(_SILENCE_S)
    readable = select.select([connection], [], [], limit.remaining_s)[0]
    if readable and not connection.recv(1, socket.MSG_PEEK):
        raise ChannelLost(
            f"cannot connect to {address[0]}:{address[1]}",
            why=f"{via.host} refuses, or cannot reach it",
            fix=f"try: {shlex.join(via.jump)} true",
        )
    if first and not readable:
        raise deadline.exceeded(f"{address[0]}:{address[1]} beyond {via.host} to speak", last="no answer")


def listen(via: Via, address: tuple[str, int], *, backlog: int = 16) -> socket.socket:
    """A listening TCP socket in the namespace; port 0 lets the kernel choose (`getsockname`).

    Raises:
        HostError: the address is not the host's, or the port is taken.
    """
    listener = _bound(via, address, socket.SOCK_STREAM)
    listener.listen(backlog)
    return listener


def black_hole(via: Via, host: str) -> tuple[socket.socket, socket.socket]:
    """A TCP port of the host where connection requests vanish: neither answered nor refused.

    A listener whose queue of one is full and that nobody accepts from: Linux drops what comes then (tcp(7),
    tcp_abort_on_overflow off, as it is by default).

    Returns:
        the listener, whose `getsockname` is the address, and the connection that fills it; close both.
    """
    listener = listen(via, (host, 0), backlog=0)
    try:
        filler = inside(via, lambda: socket.create_connection(listener.getsockname()[:2], timeout=5.0))
    except BaseException:
        listener.close()
        raise
    return listener, filler


_SYN, _RST = 0x02, 0x04


def bare_syn(via: Via, source: str, target: tuple[str, int]) -> Callable[[], None]:
    """Ask for a TCP connection with one bare packet, and return how to take it back: a reset from the same port.

    The host's own TCP knows nothing of it, so nothing is repeated, and an answer is reset by the host by itself.

    Raises:
        HostError: raw sockets are for root.
    """
    try:
        raw = inside(via, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP))
    except PermissionError as error:
        raise HostError("no raw socket can be opened", why=str(error), fix="private mode as root has them") from error
    holder = _bound(via, (source, 0), socket.SOCK_STREAM)  # keeps the port for us
    port = int(holder.getsockname()[1])
    sequence = int.from_bytes(os.urandom(4), "big")
    raw.sendto(_tcp_packet((source, port), target, sequence, _SYN), (target[0], 0))

    def leave() -> None:
        with raw, holder:
            raw.sendto(_tcp_packet((source, port), target, sequence + 1, _RST), (target[0], 0))

    return leave


def _tcp_packet(source: tuple[str, int], target: tuple[str, int], sequence: int, flags: int) -> bytes:
    """A TCP header without data; the kernel puts the IP header before it."""
    head = struct.pack(">HHIIBBHHH", source[1], target[1], sequence & 0xFFFFFFFF, 0, 5 << 4, flags, 8192, 0, 0)
    summed = socket.inet_aton(source[0]) + socket.inet_aton(target[0])
    summed += struct.pack(">BBH", 0, socket.IPPROTO_TCP, len(head)) + head
    total = sum(int.from_bytes(summed[at : at + 2], "big") for at in range(0, len(summed), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return head[:16] + struct.pack(">H", ~total & 0xFFFF) + head[18:]


def bind_datagram(via: Via, address: tuple[str, int]) -> socket.socket:
    """A bound UDP socket in the namespace.

    Raises:
        HostError: as `listen`.
    """
    return _bound(via, address, socket.SOCK_DGRAM)


def interfaces(via: Via) -> dict[str, list[str]]:
    """The interfaces of the namespace, each with its addresses as `address/length`."""
    result: dict[str, list[str]] = {}
    for entry in _ip(via, "address"):
        addresses = entry.get("addr_info", [])
        result[str(entry["ifname"])] = [f"{item['local']}/{item['prefixlen']}" for item in addresses]
    return result


def ipv6_beside(address: str) -> str:
    """The IPv6 address that whoever has this IPv4 address on a wire of the lab may take: as unique as that one."""
    return str(_IPV6_PREFIX.network_address + int(ipaddress.IPv4Address(address)))


def add_ipv6(via: Via, address: str, deadline: Deadline) -> str:
    """Give the host's end of a wire its IPv6 address beside the IPv4 one; as often as one likes.

    Raises:
        HostError: that takes root's rights, a network of the lab's own daemon, and a kernel with IPv6.
    """
    wanted = ipv6_beside(address)
    name = next((name for name, own in interfaces(via).items() if any(_is(address, one) for one in own)), None)
    if name is None or via.jump or via.netns is None:
        raise HostError(
            "this wire has no IPv6 address", why="it is no network of the lab's own daemon", fix="private mode as root"
        )

    def add() -> None:
        # libvirt switches IPv6 off on a bridge that it gave none
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("0")
        run(("ip", "address", "replace", f"{wanted}/64", "dev", name, "nodad"), deadline=deadline.sooner(_IP_TIMEOUT_S))

    try:
        inside(via, add)
    except OSError as error:
        raise HostError("this host has no IPv6", why=str(error)) from error
    return wanted


def _is(address: str, interface: str) -> bool:
    return interface.partition("/")[0] == address


def free_subnet(candidates: Iterable[str] = CANDIDATE_SUBNETS, via: Via | None = None) -> str:
    """The first candidate (`a.b.c` of a /24) that overlaps no address and no route of the namespace.

    A default route overlaps everything and counts for nothing.

    Raises:
        HostError: all of them collide.
    """
    place = via or Via()
    taken = [ipaddress.ip_interface(text).network for items in interfaces(place).values() for text in items]
    for route in [*_ip(place, "route", "show", "table", "all"), *_ip(place, "neighbour")]:
        target = str(route.get("dst", "default"))
        with contextlib.suppress(ValueError):  # "default" and what `ip` may invent later
            taken.append(ipaddress.ip_network(target, strict=False))
    used = [item for item in taken if isinstance(item, ipaddress.IPv4Network) and item.prefixlen > 0]
    tried = []
    for candidate in candidates:
        if not any(ipaddress.IPv4Network(f"{candidate}.0/24").overlaps(item) for item in used):
            return candidate
        tried.append(candidate)
    raise HostError(
        "no subnet is free for the lab's network",
        why=f"each of {len(tried)} candidates overlaps an address or a route of this host",
        fix="set `subnet` in wsklab.toml to a /24 that is free here",
        evidence={"tried": tried, "used": [str(item) for item in used]},
    )


def mac_of(slot: int) -> str:
    """The card address of a guest: unique per slot, and slots are unique per host."""
    _check_slot(slot, 0xFFFF)
    return f"{_MAC_PREFIX}:{slot >> 8:02x}:{slot & 0xFF:02x}"


def address_of(subnet: str, slot: int) -> str:
    """The guest's address in the subnet `a.b.c`: the slot is its last number (1 is the host)."""
    _check_slot(slot, 254)
    return str(ipaddress.IPv4Address(f"{subnet}.{slot}"))


def _check_slot(slot: int, last: int) -> None:
    if not 2 <= slot <= last:
        raise UsageError(f"slot {slot} is out of range", why=f"slots go from 2 to {last}")


def _bound(via: Via, address: tuple[str, int], kind: int) -> socket.socket:
    bound = inside(via, lambda: socket.socket(_family(address), kind))
    try:
        if kind == socket.SOCK_STREAM:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise HostError(f"cannot bind to {address[0]}:{address[1]}", why=str(error)) from error
    return bound


def _family(address: tuple[str, int]) -> int:
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def _ip(via: Via, *words: str) -> list[dict[str, Any]]:
    deadline = Deadline.after(_IP_TIMEOUT_S)
    argv = ["ip", "-j", *words]
    if via.jump:
        argv = [*via.jump, shlex.join(argv)]
    result = inside(via, lambda: run(argv, deadline=deadline, output_limit=1 << 24))
    entries = json.loads(result.stdout or "[]")
    return [entry for entry in entries if isinstance(entry, dict) and entry]


def _enter(netns: Path) -> None:
    """Move the calling thread into the namespace. Python 3.11 has no `os.setns`."""
    try:
        descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise WireGone(
            f"the network namespace {netns} is gone", why="the private daemon ended, and its guests with it"
        ) from error
    except OSError as error:
        raise HostError(f"the network namespace {netns} cannot be opened", why=str(error)) from error
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
            raise HostError(
                f"cannot enter the network namespace {netns}",
                why=os.strerror(ctypes.get_errno()),
                fix="private mode needs root",
            )
    finally:
        os.close(descriptor)
