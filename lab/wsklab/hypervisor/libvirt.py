"""The real hypervisor: libvirt with QEMU."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, TypeVar

import libvirt
import libvirt_qemu

from wsklab.deadline import Deadline
from wsklab.domain_mark import (
    METADATA_PREFIX,
    METADATA_URI,
    DomainMetadata,
    NetworkMark,
    parse_mark,
    parse_network_mark,
    render_mark,
)
from wsklab.domain_xml import (
    DomainSpec,
    NetworkSpec,
    network_digest,
    parse_qemu_user,
    render_domain_xml,
    render_network_xml,
    with_link,
)
from wsklab.errors import HypervisorError
from wsklab.hypervisor import fork
from wsklab.hypervisor.link import CallTimeoutError, Link
from wsklab.hypervisor.protocol import Domain, DomainState, EventSubscription
from wsklab.hypervisor.serial import carry

__all__ = ["LibvirtDomain", "LibvirtHypervisor"]

T = TypeVar("T")

_STATES: Final[Mapping[int, DomainState]] = MappingProxyType(
    {
        libvirt.VIR_DOMAIN_NOSTATE: DomainState.UNKNOWN,
        libvirt.VIR_DOMAIN_RUNNING: DomainState.RUNNING,
        libvirt.VIR_DOMAIN_BLOCKED: DomainState.RUNNING,
        libvirt.VIR_DOMAIN_PAUSED: DomainState.PAUSED,
        libvirt.VIR_DOMAIN_SHUTDOWN: DomainState.RUNNING,
        libvirt.VIR_DOMAIN_SHUTOFF: DomainState.OFF,
        libvirt.VIR_DOMAIN_CRASHED: DomainState.CRASHED,
        libvirt.VIR_DOMAIN_PMSUSPENDED: DomainState.PAUSED,
    }
)

_UNDEFINE_FLAGS: Final = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    # since libvirt 8.9; an older one removes an emulated TPM's state by itself
    | getattr(libvirt, "VIR_DOMAIN_UNDEFINE_TPM", 0)
)

# A 4K screen as PPM has 25 MB.
_SCREENSHOT_MAX: Final = 1 << 26


class LibvirtHypervisor:
    """A connection to libvirt; see `wsklab.hypervisor.protocol.Hypervisor`.

    Args:
        uri: `qemu:///system`, or the one of a `PrivateDaemon`.
        call_timeout_s: how long any one call may take.

    Raises:
        HypervisorError: the connection cannot be made.
    """

    def __init__(self, uri: str, *, call_timeout_s: float = 20.0) -> None:
        self._link = Link(uri, call_timeout_s)

    def __enter__(self) -> LibvirtHypervisor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; nothing that was started is stopped by it."""
        self._link.close()

    def define(self, spec: DomainSpec) -> Domain:
        """Define a persistent domain; a taken name or UUID is an error.

        libvirt itself replaces a domain of the same UUID without a word, and with it its mark.
        """
        xml = render_domain_xml(spec)
        present = self.lookup(spec.uuid)
        if present is not None:
            raise HypervisorError(
                f"cannot define {spec.name}",
                why=f"a domain with the UUID {spec.uuid} exists",
                evidence={"operation": "define", "domain": spec.name, "code": "VIR_ERR_DOM_EXIST"},
            )
        flags = libvirt.VIR_DOMAIN_DEFINE_VALIDATE
        self._link.call("define", lambda conn: conn.defineXMLFlags(xml, flags), domain=spec.name)
        return LibvirtDomain(self._link, spec.name, spec.uuid)

    def redefine(self, spec: DomainSpec) -> None:
        """Replace the definition under the same UUID; what runs goes on as it is."""
        xml = render_domain_xml(spec)
        if self.lookup(spec.uuid) is None:
            raise HypervisorError(
                f"cannot redefine {spec.name}",
                why="it does not exist",
                evidence={"operation": "redefine", "domain": spec.name, "code": "VIR_ERR_NO_DOMAIN"},
            )
        flags = libvirt.VIR_DOMAIN_DEFINE_VALIDATE
        self._link.call("redefine", lambda conn: conn.defineXMLFlags(xml, flags), domain=spec.name)

    def domains(self, home_id: str) -> Sequence[Domain]:
        """Every domain that carries this home's mark."""

        def read(conn: Any) -> list[Domain]:
            found: list[Domain] = []
            for domain in conn.listAllDomains(0):
                mark = _mark_of(domain)
                if mark is not None and mark.home == home_id:
                    found.append(LibvirtDomain(self._link, domain.name(), domain.UUIDString()))
            return found

        return self._link.call("list domains", read)

    def lookup(self, uuid: str) -> Domain | None:
        """The domain with this UUID, ours or not; None when there is none."""
        name = self._link.call(
            "look up", lambda conn: _optional(conn.lookupByUUIDString(uuid).name()), domain=uuid, accept=_NO_DOMAIN
        )
        return None if name is None else LibvirtDomain(self._link, name, uuid)

    def ensure_network(self, spec: NetworkSpec) -> None:
        """Define and start the network unless it is there; foreign or different content is an error."""
        xml = render_network_xml(spec)
        wanted = NetworkMark(home=spec.home, digest=network_digest(spec))
        mark = self._network_mark(spec.name)
        if mark is None:
            try:
                self._link.call("define the network", lambda conn: conn.networkDefineXML(xml), domain=spec.name)
            except HypervisorError:
                # somebody else of this home may just have made it
                if self._network_mark(spec.name) != wanted:
                    raise
        elif mark != wanted:
            raise HypervisorError(
                f"the network {spec.name} exists and is another one",
                why="it belongs to another home" if mark.home != spec.home else "it was made with other settings",
                fix="remove it when no guest needs it, or choose another name",
                evidence={"operation": "ensure the network", "domain": spec.name, "code": None},
            )
        self._start_network(spec.name)

    def remove_network(self, name: str) -> None:
        """Stop and undefine it; no error when it is gone."""

        def remove(conn: Any) -> None:
            network = conn.networkLookupByName(name)
            if network.isActive():
                network.destroy()
            network.undefine()

        self._link.call("remove the network", remove, domain=name, accept={libvirt.VIR_ERR_NO_NETWORK: None})

    def networks(self, home_id: str) -> Sequence[str]:
        """Names of the networks with this home's mark, active or not."""

        def read(conn: Any) -> list[tuple[str, str]]:
            found: list[tuple[str, str]] = []
            for network in conn.listAllNetworks(0):
                try:
                    found.append((network.name(), network.XMLDesc(0)))
                except libvirt.libvirtError as error:
                    if error.get_error_code() != libvirt.VIR_ERR_NO_NETWORK:
                        raise
            return found

        marks = ((name, parse_network_mark(xml)) for name, xml in self._link.call("list networks", read))
        return [name for name, mark in marks if mark is not None and mark.home == home_id]

    def subscribe(self) -> EventSubscription:
        """Events of every domain from now on; look at `DomainEvent.domain`."""
        return self._link.bus.subscribe()

    def qemu_user(self) -> int | None:
        """The user of QEMU, out of the host's capabilities; None without libvirt's owner changing (DAC)."""
        xml = self._link.call("ask for capabilities", lambda conn: str(conn.getCapabilities()), timeout_s=60.0)
        return parse_qemu_user(xml)

    def versions(self) -> Mapping[str, str]:
        """Versions of libvirt (the daemon's) and QEMU."""
        library, qemu = self._link.call("ask for versions", lambda conn: (conn.getLibVersion(), conn.getVersion()))
        return {"libvirt": _version(library), "qemu": _version(qemu)}

    def capabilities_are_cached(self, *, limit_s: float = 0.5) -> bool:
        """Whether libvirt answers a question about QEMU at once when it is asked again.

        When it does not, it probes QEMU anew for every call: each costs seconds, and a start a minute.
        """

        def ask(conn: Any) -> None:
            conn.getDomainCapabilities(None, "x86_64", "q35", "qemu", 0)

        self._link.call("ask for capabilities", ask)
        again = Deadline.after(limit_s)
        self._link.call("ask for capabilities", ask)
        return not again.expired

    def _network_mark(self, name: str) -> NetworkMark | None:
        """The mark; an empty one for a network that is not the lab's; None when there is no network."""
        xml = self._link.call(
            "look up the network",
            lambda conn: _optional(conn.networkLookupByName(name).XMLDesc(0)),
            domain=name,
            accept={libvirt.VIR_ERR_NO_NETWORK: None},
        )
        if xml is None:
            return None
        return parse_network_mark(xml) or NetworkMark(home="", digest="")

    def _start_network(self, name: str) -> None:
        def start(conn: Any) -> None:
            network = conn.networkLookupByName(name)
            if network.isActive():
                return
            try:
                network.create()
            except libvirt.libvirtError:
                if not network.isActive():  # else: somebody else was faster
                    raise

        self._link.call("start the network", start, domain=name)


class LibvirtDomain:
    """One domain; looked up anew for every call, so it survives a reconnection."""

    def __init__(self, link: Link, name: str, uuid: str) -> None:
        self._link = link
        self._name = name
        self._uuid = uuid

    def __repr__(self) -> str:
        return f"LibvirtDomain({self._name!r}, {self._uuid!r})"

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def uuid(self) -> str:
        """Its UUID."""
        return self._uuid

    def start(self, *, paused: bool = False) -> None:
        """Power on."""
        flags = libvirt.VIR_DOMAIN_START_PAUSED if paused else 0
        self._call("start", lambda domain: domain.createWithFlags(flags))

    def resume(self) -> None:
        """Let the vCPUs run."""
        self._call("resume", lambda domain: domain.resume())

    def suspend(self) -> None:
        """Stop the vCPUs."""
        self._call("suspend", lambda domain: domain.suspend())

    def shutdown(self) -> None:
        """Press the power button."""
        self._call("shut down", lambda domain: domain.shutdown())

    def destroy(self) -> None:
        """Power off now; no error when it is off or gone."""

        def destroy(domain: Any) -> None:
            try:
                domain.destroyFlags(0)
            except libvirt.libvirtError:
                if domain.isActive():
                    raise

        self._call("destroy", destroy, accept=_NO_DOMAIN)

    def undefine(self) -> None:
        """Forget it; it must be off (libvirt would leave a running one without a definition)."""

        def undefine(domain: Any) -> bool:
            if domain.isActive():
                return False
            domain.undefineFlags(_UNDEFINE_FLAGS)
            return True

        if not self._call("undefine", undefine):
            raise HypervisorError(
                f"cannot undefine {self._name}",
                why="it runs",
                fix="destroy it first",
                evidence={"operation": "undefine", "domain": self._name, "code": "VIR_ERR_OPERATION_INVALID"},
            )

    def state(self) -> DomainState:
        """Its state; UNKNOWN when libvirt does not answer."""
        try:
            number = self._call("look at", lambda domain: int(domain.state(0)[0]))
        except CallTimeoutError:
            return DomainState.UNKNOWN
        return _STATES.get(number, DomainState.UNKNOWN)

    def metadata(self) -> DomainMetadata | None:
        """The lab's mark, or None."""
        xml = self._call("read the mark of", _mark_xml)
        return None if xml is None else parse_mark(xml)

    def set_metadata(self, metadata: DomainMetadata) -> None:
        """Replace the mark. Blocks up to 30 s, then fails, while another call on the domain hangs."""
        xml = render_mark(metadata)

        def write(domain: Any) -> None:
            flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG
            if domain.isActive():
                flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
            domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, xml, METADATA_PREFIX, METADATA_URI, flags)

        self._call("mark", write)

    def xml(self) -> str:
        """The XML as libvirt has it: the live one while it runs."""
        return self._call("read the XML of", lambda domain: str(domain.XMLDesc(0)))

    def vcpu_time_ns(self) -> int:
        """CPU time of all vCPUs together, in ns, in steps of the host's clock tick; 0 when it is off."""

        def read(domain: Any) -> int:
            if not domain.isActive():
                return 0
            return sum(int(vcpu[2]) for vcpu in domain.vcpus()[0])

        return self._call("look at the vCPUs of", read)

    def agent_command(self, command: Mapping[str, object], deadline: Deadline) -> Mapping[str, object]:
        """One guest agent command, `{"execute": ...}`; the answer is the guest's and not to be trusted."""
        text = json.dumps(command)
        # libvirt counts whole seconds; 0 would mean "do not wait"
        seconds = max(1, math.floor(deadline.remaining_s))
        answer = self._call(
            "ask the agent of",
            lambda domain: str(libvirt_qemu.qemuAgentCommand(domain, text, seconds, 0)),
            timeout_s=seconds + 2.0,
        )
        try:
            parsed = json.loads(answer)
        except ValueError as error:
            raise HypervisorError(f"the agent of {self._name} answered no JSON", why=str(error)) from error
        if not isinstance(parsed, dict) or "return" not in parsed:
            raise HypervisorError(f"the agent of {self._name} answered without a result", why=answer[:200])
        return {"return": parsed["return"]}

    def screenshot(self) -> bytes:
        """The first screen, as PNG (QEMU 7.2 and later; before that PPM)."""

        def shoot(conn: Any) -> bytes:
            stream = conn.newStream(0)
            conn.lookupByUUIDString(self._uuid).screenshot(stream, 0, 0)
            picture = bytearray()

            def more(_stream: Any, chunk: bytes, _opaque: Any) -> int:
                picture.extend(chunk)
                return -1 if len(picture) > _SCREENSHOT_MAX else 0

            stream.recvAll(more, None)
            stream.finish()
            return bytes(picture)

        return self._link.call("take a screenshot of", shoot, domain=self._name)

    def dump_memory(self, target: Path, deadline: Deadline, *, windows: bool) -> None:
        """By libvirt's daemon, into a file that is there: it takes the file for its own user, but leaves its mode."""
        form = libvirt.VIR_DOMAIN_CORE_DUMP_FORMAT_WIN_DMP if windows else libvirt.VIR_DOMAIN_CORE_DUMP_FORMAT_RAW
        target.touch()
        target.chmod(0o644)  # else a dump of system mode is root's alone, and nobody of the lab can read it
        try:
            self._call(
                "dump the memory of",
                lambda domain: domain.coreDumpWithFormat(str(target), form, libvirt.VIR_DUMP_MEMORY_ONLY),
                timeout_s=deadline.remaining_s,
            )
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        if target.stat().st_size == 0:
            target.unlink()
            raise HypervisorError(f"no dump of {self._name} came", why=f"its host has written {target} over there")

    def open_serial(self, port: int) -> socket.socket:
        """A serial port; one holder at a time. It ends when the guest is powered off."""

        def open_console(conn: Any) -> Any:
            stream = conn.newStream(libvirt.VIR_STREAM_NONBLOCK)
            conn.lookupByUUIDString(self._uuid).openConsole(f"serial{port}", stream, 0)
            return stream

        return carry(self._link.call(f"open serial port {port} of", open_console, domain=self._name))

    def inject_nmi(self) -> None:
        """A non-maskable interrupt: a Windows guest that is set up for it writes a dump."""
        self._call("interrupt", lambda domain: domain.injectNMI(0))

    def send_keys(self, codes: Sequence[int]) -> None:
        """Press keys for a tenth of a second, as a hand does."""
        keys = list(codes)
        self._call(
            "press keys of", lambda domain: domain.sendKey(libvirt.VIR_KEYCODE_SET_LINUX, 100, keys, len(keys), 0)
        )

    def freeze(self, state: Path, deadline: Deadline) -> None:
        """Write the device state."""
        self._call("freeze", lambda domain: fork.freeze(domain, state, deadline), timeout_s=deadline.remaining_s + 5)

    def thaw(self, state: Path, deadline: Deadline) -> None:
        """Load a device state."""
        self._call("thaw", lambda domain: fork.thaw(domain, state, deadline), timeout_s=deadline.remaining_s + 5)

    def set_link(self, mac: str, *, up: bool) -> None:
        """Plug the cable in or out; libvirt wants the whole description of the card back."""

        def change(domain: Any) -> None:
            xml = with_link(domain.XMLDesc(0), mac, up=up)
            domain.updateDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)

        self._call("set the link of", change)

    def _call(
        self,
        operation: str,
        action: Callable[[Any], T],
        *,
        accept: Mapping[int, T] | None = None,
        timeout_s: float | None = None,
    ) -> T:
        return self._link.call(
            operation,
            lambda conn: action(conn.lookupByUUIDString(self._uuid)),
            domain=self._name,
            accept=accept,
            timeout_s=timeout_s,
        )


_NO_DOMAIN: Final[Mapping[int, Any]] = MappingProxyType({libvirt.VIR_ERR_NO_DOMAIN: None})


def _mark_xml(domain: Any) -> str | None:
    try:
        return str(domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, METADATA_URI, 0))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            return None
        raise


def _mark_of(domain: Any) -> DomainMetadata | None:
    """The mark of a domain in a list; None for one that vanished meanwhile or that somebody else made."""
    try:
        xml = _mark_xml(domain)
        return None if xml is None else parse_mark(xml)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise
    except HypervisorError:
        return None  # a mark that we cannot read is not one that we wrote


def _optional(text: str) -> str | None:
    return text


def _version(number: int) -> str:
    # libvirt: major * 1000000 + minor * 1000 + release
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"
