"""A hypervisor in memory, for tests without a machine. Passes the same contract as the real one.

Guests are scripted: `FakeHypervisor.script(name, ...)` says what the console shows at start and what the
agent answers; `power_off`, `panic`, `die`, `hang`, `io_error` and `lose_connection` make things happen.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Final

from wsklab.deadline import Deadline
from wsklab.domain_mark import DomainMetadata, parse_mark, parse_metadata, render_mark
from wsklab.domain_xml import DomainSpec, NetworkSpec, render_domain_xml, render_network_xml
from wsklab.errors import DomainGone, HypervisorError
from wsklab.hypervisor.bus import EventBus
from wsklab.hypervisor.protocol import Domain, DomainEvent, DomainEventKind, DomainState, EventSubscription

__all__ = ["FakeDomain", "FakeHypervisor", "FakeScript"]

AgentAnswers = Callable[[Mapping[str, object]], object]

# A black picture of 1 x 1 in the format that libvirt 9 gives.
_SCREEN: Final = b"P6\n1 1\n255\n\0\0\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeScript:
    """What a guest does.

    Attributes:
        console: bytes that appear on the console when it starts.
        start_error: why it does not start at all, or "".
        thaw_error: why it does not take a template's device state, or "".
        agent: answers an agent command; None: no agent runs in the guest.
    """

    console: bytes = b""
    start_error: str = ""
    thaw_error: str = ""
    agent: AgentAnswers | None = None


@dataclass(slots=True)
class _Record:
    """The truth about one domain."""

    spec: DomainSpec
    metadata: DomainMetadata
    live: DomainSpec | None = None
    links: dict[str, bool] = field(default_factory=dict)
    state: DomainState = DomainState.OFF
    vcpu_time_ns: int = 0
    running_since: float = 0.0
    hangs: bool = False
    nmis: int = 0
    keys: list[tuple[int, ...]] = field(default_factory=list)
    serials: dict[int, socket.socket] = field(default_factory=dict)
    script: FakeScript = field(default_factory=FakeScript)


class FakeHypervisor:
    """See `wsklab.hypervisor.protocol.Hypervisor`; thread-safe.

    Args:
        script: what guests do that have no script of their own.
    """

    def __init__(self, script: FakeScript | None = None) -> None:
        self._default = script or FakeScript()
        self._lock = threading.RLock()
        self._records: dict[str, _Record] = {}
        self._networks: dict[str, NetworkSpec] = {}
        self._scripts: dict[str, FakeScript] = {}
        self._foreign: set[str] = set()
        self._bus = EventBus(lambda: None)
        self._closed = False

    def __enter__(self) -> FakeHypervisor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the subscriptions; domains stay, as they do in reality."""
        self._closed = True
        self._bus.close()

    # -- the protocol --------------------------------------------------------------------------

    def define(self, spec: DomainSpec) -> Domain:
        """Define; a taken name or UUID is an error."""
        xml = render_domain_xml(spec)
        with self._open("define", spec.name):
            taken = any(record.spec.name == spec.name for record in self._records.values())
            if taken or spec.uuid in self._records:
                raise _error("define", spec.name, "VIR_ERR_DOM_EXIST", "a domain of that name or UUID exists")
            mark = parse_metadata(xml)
            if mark is None:
                raise _error("define", spec.name, "VIR_ERR_XML_ERROR", "it has no mark")
            script = self._scripts.get(spec.name, self._default)
            self._records[spec.uuid] = _Record(spec=spec, metadata=mark, script=script)
        return FakeDomain(self, spec.name, spec.uuid)

    def redefine(self, spec: DomainSpec) -> None:
        """Replace the definition; what runs stays as it is."""
        render_domain_xml(spec)
        self._record("redefine", spec.uuid).spec = spec

    def domains(self, home_id: str) -> Sequence[Domain]:
        """Every domain with this home's mark."""
        with self._open("list domains", ""):
            return [
                FakeDomain(self, record.spec.name, uuid)
                for uuid, record in self._records.items()
                if uuid not in self._foreign and record.metadata.home == home_id
            ]

    def lookup(self, uuid: str) -> Domain | None:
        """The domain with this UUID, or None."""
        with self._open("look up", uuid):
            record = self._records.get(uuid)
            return None if record is None else FakeDomain(self, record.spec.name, uuid)

    def ensure_network(self, spec: NetworkSpec) -> None:
        """Define and start unless it is there; other content is an error."""
        render_network_xml(spec)
        with self._open("ensure the network", spec.name):
            if self._networks.setdefault(spec.name, spec) != spec:
                raise _error("ensure the network", spec.name, "VIR_ERR_OPERATION_FAILED", "it is another one")

    def remove_network(self, name: str) -> None:
        """Forget it; no error when it is gone."""
        with self._open("remove the network", name):
            self._networks.pop(name, None)

    def networks(self, home_id: str) -> Sequence[str]:
        """Names of this home's networks."""
        with self._open("list networks", ""):
            return [name for name, spec in self._networks.items() if spec.home == home_id]

    def subscribe(self) -> EventSubscription:
        """Events from now on."""
        return self._bus.subscribe()

    def qemu_user(self) -> int | None:
        """Nobody's files are ever opened by another user here."""
        return None

    def versions(self) -> Mapping[str, str]:
        """Versions of nothing."""
        return {"libvirt": "0.0.0", "qemu": "0.0.0"}

    # -- what a test makes happen --------------------------------------------------------------

    def script(self, name: str, script: FakeScript) -> None:
        """Say what the guest of this name will do; before it is defined."""
        with self._lock:
            self._scripts[name] = script

    def power_off(self, uuid: str) -> None:
        """The guest powers itself off."""
        self._change(uuid, DomainState.OFF, DomainEventKind.STOPPED, "shutdown")

    def panic(self, uuid: str) -> None:
        """The guest's kernel stops and its panic device says so; the domain is kept (`on_crash` preserve)."""
        self._change(uuid, DomainState.CRASHED, DomainEventKind.PANICKED, "panicked")

    def die(self, uuid: str) -> None:
        """The hypervisor process of the guest ends by itself."""
        self._change(uuid, DomainState.OFF, DomainEventKind.CRASHED, "failed")

    def io_error(self, uuid: str) -> None:
        """A write fails because the host is full: the guest is stopped."""
        self._emit(DomainEventKind.IO_ERROR, uuid, "virtio-disk0: enospc, action 1")
        self._change(uuid, DomainState.PAUSED, DomainEventKind.SUSPENDED, "I/O error")

    def reboot(self, uuid: str) -> None:
        """The guest restarts itself."""
        self._emit(DomainEventKind.REBOOTED, uuid, "")

    def hang(self, uuid: str) -> None:
        """The guest's vCPUs make no progress any more; the state stays `running`."""
        with self._lock:
            record = self._records[uuid]
            record.vcpu_time_ns = _time_of(record)
            record.hangs = True

    def lose_connection(self) -> None:
        """The connection breaks; it is back at the next call."""
        self._emit(DomainEventKind.CONNECTION_LOST, "", "reason 1")

    def add_foreign(self, spec: DomainSpec) -> None:
        """A domain that somebody else defined: it has no mark."""
        with self._lock:
            self._records[spec.uuid] = _Record(spec=spec, metadata=spec.metadata)
            self._foreign.add(spec.uuid)

    def nmis(self, uuid: str) -> int:
        """How many interrupts were injected."""
        return self._records[uuid].nmis

    def serial(self, uuid: str, port: int) -> socket.socket:
        """The guest's end of a serial port that somebody has open."""
        return self._records[uuid].serials[port]

    # -- for FakeDomain ------------------------------------------------------------------------

    def _open(self, operation: str, domain: str) -> threading.RLock:
        if self._closed:
            raise _error(operation, domain, "VIR_ERR_INVALID_CONN", "the connection was closed")
        return self._lock

    def _record(self, operation: str, uuid: str) -> _Record:
        with self._open(operation, uuid):
            try:
                return self._records[uuid]
            except KeyError:
                raise _error(operation, uuid, "VIR_ERR_NO_DOMAIN", "the domain is gone") from None

    def _change(self, uuid: str, state: DomainState, kind: DomainEventKind, detail: str) -> None:
        with self._lock:
            record = self._records[uuid]
            record.vcpu_time_ns = _time_of(record) if state is not DomainState.OFF else 0
            record.running_since = time.monotonic()
            record.state = state
            if state is DomainState.OFF:
                while record.serials:
                    _end(record.serials.popitem()[1])
            self._emit(kind, uuid, detail)

    def _emit(self, kind: DomainEventKind, uuid: str, detail: str) -> None:
        self._bus.publish(DomainEvent(kind=kind, domain=uuid, detail=detail, at=time.monotonic()))

    def _undefine(self, uuid: str) -> None:
        with self._lock:
            record = self._record("undefine", uuid)
            if record.state is not DomainState.OFF:
                raise _error("undefine", record.spec.name, "VIR_ERR_OPERATION_INVALID", "it runs")
            del self._records[uuid]
            self._foreign.discard(uuid)
            self._emit(DomainEventKind.UNDEFINED, uuid, "removed")


class FakeDomain:
    """See `wsklab.hypervisor.protocol.Domain`."""

    def __init__(self, hypervisor: FakeHypervisor, name: str, uuid: str) -> None:
        self._hypervisor = hypervisor
        self._name = name
        self._uuid = uuid

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def uuid(self) -> str:
        """Its UUID."""
        return self._uuid

    def start(self, *, paused: bool = False) -> None:
        """Power on and say what the script says."""
        record = self._expect("start", DomainState.OFF)
        if record.script.start_error:
            raise _error("start", self._name, "VIR_ERR_INTERNAL_ERROR", record.script.start_error)
        if record.script.console:
            with record.spec.console_log.open("ab") as console:
                console.write(record.script.console)
        record.hangs = False
        record.live = record.spec
        record.links = {nic.mac: nic.link_up for nic in record.spec.nics}
        state = DomainState.PAUSED if paused else DomainState.RUNNING
        self._hypervisor._change(self._uuid, state, DomainEventKind.STARTED, "booted")

    def resume(self) -> None:
        """Let it run."""
        self._expect("resume", DomainState.PAUSED)
        self._hypervisor._change(self._uuid, DomainState.RUNNING, DomainEventKind.RESUMED, "unpaused")

    def suspend(self) -> None:
        """Stop the vCPUs."""
        self._expect("suspend", DomainState.RUNNING)
        self._hypervisor._change(self._uuid, DomainState.PAUSED, DomainEventKind.SUSPENDED, "paused")

    def shutdown(self) -> None:
        """Press the power button; a guest that hangs does not react."""
        if not self._expect("shut down", DomainState.RUNNING).hangs:
            self._hypervisor.power_off(self._uuid)

    def destroy(self) -> None:
        """Power off; no error when it is off or gone."""
        known = self._hypervisor.lookup(self._uuid)
        if known is not None and self.state() is not DomainState.OFF:
            self._hypervisor._change(self._uuid, DomainState.OFF, DomainEventKind.STOPPED, "destroyed")

    def undefine(self) -> None:
        """Forget it; it must be off."""
        self._hypervisor._undefine(self._uuid)

    def state(self) -> DomainState:
        """Its state."""
        return self._get("look at").state

    def metadata(self) -> DomainMetadata | None:
        """The mark; None for a foreign domain."""
        record = self._get("read the mark of")
        return None if self._uuid in self._hypervisor._foreign else record.metadata

    def set_metadata(self, metadata: DomainMetadata) -> None:
        """Replace the mark."""
        self._get("mark").metadata = parse_mark(render_mark(metadata))

    def xml(self) -> str:
        """The XML that it was started from, or will be."""
        record = self._get("read the XML of")
        running = record.state is not DomainState.OFF
        if not running or record.live is None:
            return render_domain_xml(record.spec)
        nics = tuple(replace(nic, link_up=record.links[nic.mac]) for nic in record.live.nics)
        return render_domain_xml(replace(record.live, nics=nics))

    def vcpu_time_ns(self) -> int:
        """Grows while it runs and does not hang."""
        return _time_of(self._get("look at the vCPUs of"))

    def agent_command(self, command: Mapping[str, object], deadline: Deadline) -> Mapping[str, object]:
        """The script's answer."""
        if deadline.expired:
            raise _error("ask the agent of", self._name, "VIR_ERR_AGENT_COMMAND_TIMEOUT", "the deadline has passed")
        record = self._expect("ask the agent of", DomainState.RUNNING)
        if record.script.agent is None or record.hangs:
            raise _error("ask the agent of", self._name, "VIR_ERR_AGENT_UNRESPONSIVE", "the agent does not answer")
        return {"return": record.script.agent(command)}

    def screenshot(self) -> bytes:
        """A black point."""
        self._get("take a screenshot of")
        return _SCREEN

    def open_serial(self, port: int) -> socket.socket:
        """A pair of sockets; the guest's end is `FakeHypervisor.serial`."""
        record = self._expect("open a serial port of", DomainState.RUNNING)
        held = record.serials.get(port)
        if held is not None and not _is_closed(held):
            raise _error("open a serial port of", self._name, "VIR_ERR_OPERATION_FAILED", "somebody has it open")
        ours, theirs = socket.socketpair()
        if held is not None:
            held.close()
        record.serials[port] = ours
        return theirs

    def dump_memory(self, target: Path, deadline: Deadline, *, windows: bool) -> None:
        """The head of a core; the model runs no Windows that would help with more."""
        del deadline
        if self._get("dump the memory of").state is DomainState.OFF:
            raise _error("dump the memory of", self._name, "VIR_ERR_OPERATION_INVALID", "it is off")
        if windows:
            raise _error("dump the memory of", self._name, "VIR_ERR_INTERNAL_ERROR", "no vmcoreinfo note of Windows")
        target.write_bytes(b"\x7fELF")

    def inject_nmi(self) -> None:
        """Counted."""
        self._expect("interrupt", DomainState.RUNNING).nmis += 1

    def send_keys(self, codes: Sequence[int]) -> None:
        """Kept in `keys`."""
        self._expect("press keys of", DomainState.RUNNING).keys.append(tuple(codes))

    def freeze(self, state: Path, deadline: Deadline) -> None:
        """Write what a template's devices would be: the machine that they are of."""
        spec = self._expect("freeze", DomainState.PAUSED).live
        if spec is None or spec.memory_file is None or not spec.memory_file.shared:
            raise _error("freeze", self._name, "VIR_ERR_OPERATION_INVALID", "its memory is not a shared file")
        if deadline.expired:
            raise _error("freeze", self._name, "VIR_ERR_OPERATION_TIMEOUT", "the deadline has passed")
        try:
            with state.open("x") as file:
                json.dump(_machine(spec), file)
        except OSError as error:
            raise HypervisorError(f"cannot open the device state {state}", why=str(error)) from error

    def thaw(self, state: Path, deadline: Deadline) -> None:
        """Take a state of the same machine; another one ends the domain, as it ends QEMU."""
        record = self._expect("thaw", DomainState.PAUSED)
        spec = record.live
        if spec is None or not spec.incoming:
            raise _error("thaw", self._name, "VIR_ERR_OPERATION_INVALID", "it does not wait for a state")
        if deadline.expired:
            raise _error("thaw", self._name, "VIR_ERR_OPERATION_TIMEOUT", "the deadline has passed")
        try:
            fits = json.loads(state.read_text()) == _machine(spec)
        except OSError as error:
            raise HypervisorError(f"cannot open the device state {state}", why=str(error)) from error
        except ValueError:
            fits = False
        if not fits or record.script.thaw_error:
            self._hypervisor.die(self._uuid)
            why = record.script.thaw_error or "the state is damaged or of another machine"
            raise _error("thaw", self._name, "VIR_ERR_OPERATION_FAILED", why)

    def set_link(self, mac: str, *, up: bool) -> None:
        """Plug the cable in or out."""
        links = self._get("set the link of").links
        if mac not in links:
            raise HypervisorError(f"the domain has no network card {mac}")
        links[mac] = up

    def _get(self, operation: str) -> _Record:
        return self._hypervisor._record(operation, self._uuid)

    def _expect(self, operation: str, state: DomainState) -> _Record:
        record = self._get(operation)
        if record.state is not state:
            raise _error(operation, self._name, "VIR_ERR_OPERATION_INVALID", f"it is {record.state}")
        return record


def _machine(spec: DomainSpec) -> dict[str, object]:
    """What a device state depends on."""
    return {"memory_mib": spec.memory_mib, "cpu": spec.cpu_model, "nics": len(spec.nics), "screen": spec.screen}


def _time_of(record: _Record) -> int:
    if record.state is not DomainState.RUNNING or record.hangs:
        return record.vcpu_time_ns
    return record.vcpu_time_ns + int((time.monotonic() - record.running_since) * 1e9)


def _end(line: socket.socket) -> None:
    """Close the guest's end; what it has not read is lost, and the other end sees the end of the file."""
    line.setblocking(False)
    with contextlib.suppress(OSError):
        while line.recv(65536):
            pass
    line.close()


def _is_closed(end: socket.socket) -> bool:
    """Whether the other end of a pair was closed; nothing is read."""
    try:
        return end.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False


def _error(operation: str, domain: str, code: str, why: str) -> HypervisorError:
    kind = DomainGone if code == "VIR_ERR_NO_DOMAIN" else HypervisorError
    return kind(
        f"cannot {operation} {domain}".rstrip(),
        why=why,
        evidence={"operation": operation, "domain": domain, "code": code},
    )
