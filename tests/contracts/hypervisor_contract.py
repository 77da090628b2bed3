"""What every hypervisor back end must do. Subclass, and give the fixtures `hypervisor`, `make_spec` and `home`."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import socket
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from wsklab.deadline import Deadline, NotYet, pause, wait_until
from wsklab.domain_mark import DomainMetadata
from wsklab.domain_xml import Acceleration, DomainSpec, HostEntry, MemoryFile, NetworkSpec, NicSpec
from wsklab.errors import DomainGone, HypervisorError
from wsklab.hypervisor.protocol import Domain, DomainEventKind, DomainState, EventSubscription, Hypervisor
from wsklab.template import allow_user

MakeSpec = Callable[..., DomainSpec]

# Stops the host's clock tick (10 ms at worst) from hiding progress.
_PROGRESS_S = 0.3


def spec_maker(home: str, directory: Path, kernel: Path | None) -> MakeSpec:
    """Small guests of one home: a kernel without a root file system, one vCPU, no devices to speak of."""

    def make(**changes: object) -> DomainSpec:
        identity = str(uuid.uuid4())
        console = directory / f"{identity}.log"
        console.touch()
        mark = DomainMetadata(home=home, owner="ann", purpose="contract", run="", profile="tiny", slot=10, expires="")
        spec = DomainSpec(
            name=f"wsklab-{identity[:8]}",
            uuid=identity,
            metadata=mark,
            acceleration=Acceleration.TCG,
            vcpus=1,
            memory_mib=192,
            disks=(),
            nics=(),
            kernel=kernel,
            initrd=None,
            # panic=0: after its panic the kernel spins for ever, so the guest keeps running
            cmdline="console=ttyS0 panic=0",
            console_log=console,
        )
        return dataclasses.replace(spec, **changes)  # type: ignore[arg-type]

    return make


def network_spec(home: str) -> NetworkSpec:
    """A network with one fixed address."""
    tag = uuid.uuid4().hex[:8]
    return NetworkSpec(
        name=f"wsklab-{tag}",
        bridge=f"wsk{tag}",
        home=home,
        address="192.168.249.1",
        hosts=(HostEntry(mac="52:54:00:77:00:0a", address="192.168.249.10"),),
    )


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A template: its memory, the state of its devices, and a digest of both."""

    memory: Path
    state: Path

    @property
    def digest(self) -> tuple[str, str, int]:
        """Changes with every byte of either file, and with every write to the memory."""
        found = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (self.memory, self.state)]
        return found[0], found[1], self.memory.stat().st_mtime_ns

    def spec(self, make_spec: MakeSpec, **changes: object) -> DomainSpec:
        """A fork of it."""
        return make_spec(memory_file=MemoryFile(path=self.memory), incoming=True, **changes)


class HypervisorContract:
    """The shared facts."""

    @pytest.fixture
    def domain(self, hypervisor: Hypervisor, make_spec: MakeSpec) -> Domain:
        """A domain that is defined and off."""
        return hypervisor.define(make_spec())

    @pytest.fixture(autouse=True)
    def _clean(self, hypervisor: Hypervisor, home: str) -> object:
        yield
        for domain in hypervisor.domains(home):
            domain.destroy()
            domain.undefine()
        for name in hypervisor.networks(home):
            hypervisor.remove_network(name)

    # -- life ----------------------------------------------------------------------------------

    def test_a_domain_lives_from_define_to_undefine(self, hypervisor: Hypervisor, domain: Domain, home: str) -> None:
        """Off, running, paused, running, off, gone: each call has its state when it returns."""
        states = [domain.state()]
        for step in (domain.start, domain.suspend, domain.resume, domain.destroy):
            step()
            states.append(domain.state())
        running, paused, off = DomainState.RUNNING, DomainState.PAUSED, DomainState.OFF
        assert states == [off, running, paused, running, off]
        domain.undefine()
        assert hypervisor.lookup(domain.uuid) is None
        assert hypervisor.domains(home) == []

    def test_a_paused_start_runs_nothing(self, domain: Domain) -> None:
        """`start(paused=True)` leaves the vCPUs stopped until `resume`."""
        domain.start(paused=True)
        assert domain.state() is DomainState.PAUSED
        domain.resume()
        assert domain.state() is DomainState.RUNNING

    def test_a_domain_that_runs_cannot_be_started(self, domain: Domain) -> None:
        """A second start is an error with operation and code, and changes nothing."""
        domain.start()
        with pytest.raises(HypervisorError) as caught:
            domain.start()
        assert caught.value.evidence["operation"] == "start"
        assert caught.value.evidence["code"] == "VIR_ERR_OPERATION_INVALID"
        assert domain.state() is DomainState.RUNNING

    def test_destroy_is_idempotent(self, domain: Domain) -> None:
        """Powering off what is off, or gone, is no error."""
        domain.destroy()
        domain.start()
        domain.destroy()
        domain.destroy()
        domain.undefine()
        domain.destroy()

    def test_a_running_domain_is_not_undefined(self, hypervisor: Hypervisor, domain: Domain, home: str) -> None:
        """Nothing runs without a definition that says whose it is."""
        domain.start()
        with pytest.raises(HypervisorError):
            domain.undefine()
        assert [found.uuid for found in hypervisor.domains(home)] == [domain.uuid]

    def test_vcpu_time_is_progress(self, domain: Domain) -> None:
        """It grows while the guest runs, stands while it is paused."""
        domain.start()
        _progress(domain)
        domain.suspend()
        held = domain.vcpu_time_ns()
        pause(_PROGRESS_S)
        assert domain.vcpu_time_ns() == held

    def test_a_screenshot_is_a_picture(self, domain: Domain) -> None:
        """The screen comes as PNG or PPM."""
        domain.start()
        assert domain.screenshot()[:4] in {b"\x89PNG", b"P6\n1", b"P6\n6", b"P6\n7"}

    def test_memory_is_dumped_as_a_core(self, domain: Domain, tmp_path: Path) -> None:
        """An ELF core of a running guest, which we can read; a Windows dump of one that is none is refused."""
        target = tmp_path / "core"
        with pytest.raises(HypervisorError):
            domain.dump_memory(target, Deadline.after(60), windows=False)
        domain.start()
        domain.dump_memory(target, Deadline.after(60), windows=False)
        with target.open("rb") as core:  # in system mode it has become root's, and we are not root
            assert core.read(4) == b"\x7fELF"
        with pytest.raises(HypervisorError):
            domain.dump_memory(tmp_path / "windows", Deadline.after(60), windows=True)
        assert not (tmp_path / "windows").exists()

    def test_keys_are_pressed_in_a_running_guest_only(self, domain: Domain) -> None:
        """Enter reaches a running guest; a guest that is off has no keyboard."""
        with pytest.raises(HypervisorError):
            domain.send_keys([28])
        domain.start()
        domain.send_keys([28])

    def test_a_serial_port_has_one_holder(self, domain: Domain) -> None:
        """A second one is refused; closing gives it back; the end of the guest is the end of the line."""
        with pytest.raises(HypervisorError):
            domain.open_serial(1)
        domain.start()
        line = domain.open_serial(1)
        with pytest.raises(HypervisorError):
            domain.open_serial(1)
        line.close()

        def free() -> socket.socket | NotYet:
            try:
                return domain.open_serial(1)
            except HypervisorError as error:
                return NotYet(error.why)

        with wait_until(free, Deadline.after(10), what="the port's return") as again:
            again.settimeout(10)
            again.sendall(b"nobody reads this")
            domain.destroy()
            assert again.recv(1) == b""

    def test_an_agent_that_does_not_run_is_an_error_in_time(self, domain: Domain) -> None:
        """Without an agent in the guest the command fails within its deadline and a little."""
        domain.start()
        watch = Deadline.after(4)
        with pytest.raises(HypervisorError):
            domain.agent_command({"execute": "guest-ping"}, Deadline.after(2))
        assert not watch.expired

    # -- templates and forks -------------------------------------------------------------------

    @pytest.fixture
    def frozen(self, hypervisor: Hypervisor, make_spec: MakeSpec) -> Frozen:
        """A template of a small guest that had run a little."""
        spec = make_spec()
        memory, state = (spec.console_log.with_suffix(suffix) for suffix in (".memory", ".state"))
        with memory.open("wb") as file:
            os.truncate(file.fileno(), spec.memory_mib << 20)
        user = hypervisor.qemu_user()
        if user not in {None, os.geteuid()}:
            allow_user(memory, user)  # QEMU opens the memory by itself
        domain = hypervisor.define(dataclasses.replace(spec, memory_file=MemoryFile(path=memory, shared=True)))
        domain.start()
        _progress(domain)
        domain.suspend()
        domain.freeze(state, Deadline.after(20))
        domain.destroy()
        domain.undefine()
        return Frozen(memory, state)

    def test_a_fork_continues_and_does_not_boot(
        self, hypervisor: Hypervisor, make_spec: MakeSpec, frozen: Frozen
    ) -> None:
        """It is paused after the state is loaded, runs when resumed, and prints no kernel's first line again."""
        spec = frozen.spec(make_spec)
        fork = hypervisor.define(spec)
        fork.start(paused=True)
        fork.thaw(frozen.state, Deadline.after(20))
        assert fork.state() is DomainState.PAUSED
        fork.resume()
        assert fork.state() is DomainState.RUNNING
        _progress(fork)
        assert "Linux version" not in spec.console_log.read_text(errors="replace")

    def test_forks_never_write_their_template(
        self, hypervisor: Hypervisor, make_spec: MakeSpec, frozen: Frozen
    ) -> None:
        """Two forks run at once; both files stay as they were."""
        before = frozen.digest
        forks = [hypervisor.define(frozen.spec(make_spec)) for _ in range(2)]
        for fork in forks:
            fork.start(paused=True)
            fork.thaw(frozen.state, Deadline.after(20))
            fork.resume()
        for fork in forks:
            _progress(fork)
            fork.destroy()
        assert frozen.digest == before

    @pytest.mark.parametrize("damage", ["cut", "garbage", "missing"])
    def test_a_damaged_state_is_an_error(
        self, hypervisor: Hypervisor, make_spec: MakeSpec, frozen: Frozen, damage: str
    ) -> None:
        """One error in time; the domain can be taken away."""
        if damage == "missing":
            frozen.state.unlink()
        else:
            content = frozen.state.read_bytes()
            frozen.state.write_bytes(content[: len(content) // 2] if damage == "cut" else os.urandom(len(content)))
        fork = hypervisor.define(frozen.spec(make_spec))
        fork.start(paused=True)
        watch = Deadline.after(30)
        with pytest.raises(HypervisorError):
            fork.thaw(frozen.state, Deadline.after(20))
        assert not watch.expired
        fork.destroy()
        fork.undefine()

    def test_a_state_of_another_machine_is_an_error(
        self, hypervisor: Hypervisor, make_spec: MakeSpec, frozen: Frozen
    ) -> None:
        """A device less, and the state does not fit."""
        fork = hypervisor.define(frozen.spec(make_spec, screen=False))
        fork.start(paused=True)
        with pytest.raises(HypervisorError):
            fork.thaw(frozen.state, Deadline.after(20))

    def test_only_a_shared_memory_is_frozen(
        self, hypervisor: Hypervisor, domain: Domain, make_spec: MakeSpec, frozen: Frozen
    ) -> None:
        """Neither ordinary memory nor a fork's: its changes are nowhere but in the process."""
        fork = hypervisor.define(frozen.spec(make_spec))
        fork.start(paused=True)
        fork.thaw(frozen.state, Deadline.after(20))
        domain.start(paused=True)
        for one in (domain, fork):
            target = frozen.state.with_suffix(".second")
            with pytest.raises(HypervisorError):
                one.freeze(target, Deadline.after(20))
            assert not target.exists()

    def test_what_does_not_wait_for_a_state_takes_none(
        self, hypervisor: Hypervisor, make_spec: MakeSpec, frozen: Frozen
    ) -> None:
        """A guest that boots, even one on the template's memory, is left alone."""
        booted = hypervisor.define(make_spec(memory_file=MemoryFile(path=frozen.memory)))
        booted.start(paused=True)
        with pytest.raises(HypervisorError):
            booted.thaw(frozen.state, Deadline.after(20))
        assert booted.state() is DomainState.PAUSED

    def test_a_redefined_fork_boots_next_time(
        self, hypervisor: Hypervisor, make_spec: MakeSpec, frozen: Frozen
    ) -> None:
        """What runs stays as it is; the next start is an ordinary one; the mark is never gone."""
        spec = frozen.spec(make_spec)
        fork = hypervisor.define(spec)
        fork.start(paused=True)
        fork.thaw(frozen.state, Deadline.after(20))
        hypervisor.redefine(dataclasses.replace(spec, memory_file=None, incoming=False))
        assert "defer" in fork.xml()
        assert fork.metadata() == spec.metadata
        fork.resume()
        fork.destroy()
        assert "defer" not in fork.xml()
        assert fork.metadata() == spec.metadata
        fork.start()
        _progress(fork)

    def test_only_what_exists_is_redefined(self, hypervisor: Hypervisor, make_spec: MakeSpec, home: str) -> None:
        """Redefining is not a way to claim."""
        with pytest.raises(HypervisorError):
            hypervisor.redefine(make_spec())
        assert hypervisor.domains(home) == []

    def test_a_cable_is_plugged_in_and_out(self, hypervisor: Hypervisor, make_spec: MakeSpec, home: str) -> None:
        """A card may start without its cable; each change shows at once; an unknown card is an error."""
        network = network_spec(home)
        hypervisor.ensure_network(network)
        mac = network.hosts[0].mac
        domain = hypervisor.define(make_spec(nics=(NicSpec(network=network.name, mac=mac, link_up=False),)))
        domain.start(paused=True)
        seen = [_cable(domain)]
        for up in (True, False):
            domain.set_link(mac, up=up)
            seen.append(_cable(domain))
        assert seen == ["down", "up", "down"]
        with pytest.raises(HypervisorError):
            domain.set_link("52:54:00:77:00:0b", up=True)

    # -- claims --------------------------------------------------------------------------------

    def test_a_taken_name_is_refused(self, hypervisor: Hypervisor, domain: Domain, make_spec: MakeSpec) -> None:
        """Defining claims the name."""
        with pytest.raises(HypervisorError):
            hypervisor.define(make_spec(name=domain.name))

    def test_a_taken_uuid_is_refused(self, hypervisor: Hypervisor, domain: Domain, make_spec: MakeSpec) -> None:
        """The same UUID never replaces what is there: name and mark stay the first owner's."""
        before = domain.metadata()
        for name in (domain.name, "wsklab-another"):
            with pytest.raises(HypervisorError):
                hypervisor.define(make_spec(uuid=domain.uuid, name=name))
        found = hypervisor.lookup(domain.uuid)
        assert found is not None
        assert (found.name, found.metadata()) == (domain.name, before)

    def test_one_of_many_claims_wins(self, hypervisor: Hypervisor, make_spec: MakeSpec) -> None:
        """Eight definitions of one name at once: one winner."""
        name = make_spec().name
        assert _race(8, lambda: hypervisor.define(make_spec(name=name))) == 1

    def test_one_of_many_removals_wins(self, hypervisor: Hypervisor, domain: Domain) -> None:
        """Four undefines at once: one winner, the others are told."""
        assert _race(4, domain.undefine) == 1

    def test_a_domain_that_is_gone_says_so(self, domain: Domain) -> None:
        """Every question about a domain that is gone is an error with its code."""
        domain.undefine()
        for ask in (domain.state, domain.metadata, domain.xml, domain.vcpu_time_ns, domain.start, domain.undefine):
            with pytest.raises(DomainGone) as caught:
                ask()
            assert caught.value.evidence["code"] == "VIR_ERR_NO_DOMAIN"

    # -- marks ---------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "hostile",
        ["", "a\x00b\x1b[31m", "</metadata>&<![CDATA[", "\"'\r\n\t \\{41}", "\ud800\ufffe\U0010ffff", "x" * 4000],
        ids=["empty", "control", "markup", "quotes", "no-characters", "long"],
    )
    @pytest.mark.parametrize("running", [False, True], ids=["off", "running"])
    def test_marks_survive(self, hypervisor: Hypervisor, make_spec: MakeSpec, hostile: str, running: bool) -> None:
        """Whatever text a mark holds comes back, after define and after a change, off and running."""
        spec = make_spec()
        spec = dataclasses.replace(spec, metadata=dataclasses.replace(spec.metadata, owner=hostile))
        domain = hypervisor.define(spec)
        assert domain.metadata() == spec.metadata
        if running:
            domain.start(paused=True)
        changed = dataclasses.replace(spec.metadata, purpose=hostile, expires="2026-11-23T12:00:00Z")
        domain.set_metadata(changed)
        assert domain.metadata() == changed
        domain.destroy()
        assert domain.metadata() == changed

    def test_only_this_home_s_domains_are_listed(
        self, hypervisor: Hypervisor, domain: Domain, make_spec: MakeSpec, home: str
    ) -> None:
        """Another home's domain is not ours, and an unknown home has none."""
        spec = make_spec()
        other_home = str(uuid.uuid4())
        other = hypervisor.define(
            dataclasses.replace(spec, metadata=dataclasses.replace(spec.metadata, home=other_home))
        )
        try:
            assert [found.uuid for found in hypervisor.domains(home)] == [domain.uuid]
            assert [found.uuid for found in hypervisor.domains(other_home)] == [other.uuid]
            assert hypervisor.domains("") == []
        finally:
            other.undefine()

    # -- events --------------------------------------------------------------------------------

    def test_events_tell_a_life_in_order(self, hypervisor: Hypervisor, domain: Domain) -> None:
        """A subscriber hears every step of a domain, in order, and none twice."""
        subscription = hypervisor.subscribe()
        for step in (domain.start, domain.suspend, domain.resume, domain.destroy, domain.undefine):
            step()
        kinds = _until_undefined(subscription, domain.uuid)
        # a real start is reported as resumed, then started; an agent channel comes and goes beside it
        kinds = [kind for kind in kinds if kind is not DomainEventKind.AGENT]
        kinds = kinds[kinds.index(DomainEventKind.STARTED) :]
        assert kinds == [
            DomainEventKind.STARTED,
            DomainEventKind.SUSPENDED,
            DomainEventKind.RESUMED,
            DomainEventKind.STOPPED,
            DomainEventKind.UNDEFINED,
        ]
        subscription.close()

    def test_every_subscriber_hears_everything(self, hypervisor: Hypervisor, domain: Domain) -> None:
        """Two queues have the same events; a closed one gets nothing more and waits for nothing."""
        first, second, closed = (hypervisor.subscribe() for _ in range(3))
        closed.close()
        domain.undefine()
        assert _until_undefined(first, domain.uuid) == _until_undefined(second, domain.uuid)
        watch = Deadline.after(5)
        assert closed.get(Deadline.after(10)) is None
        assert not watch.expired
        first.close()
        second.close()

    def test_a_wait_for_events_ends_at_its_deadline(self, hypervisor: Hypervisor) -> None:
        """No event: None, on time."""
        subscription = hypervisor.subscribe()
        watch = Deadline.after(2)
        assert subscription.get(Deadline.after(0.1)) is None
        assert not watch.expired
        subscription.close()

    # -- networks ------------------------------------------------------------------------------

    def test_a_network_is_made_once(self, hypervisor: Hypervisor, home: str) -> None:
        """`ensure_network` twice is once; other content under the same name is an error."""
        spec = network_spec(home)
        hypervisor.ensure_network(spec)
        hypervisor.ensure_network(spec)
        assert hypervisor.networks(home) == [spec.name]
        with pytest.raises(HypervisorError):
            hypervisor.ensure_network(dataclasses.replace(spec, hosts=()))
        hypervisor.remove_network(spec.name)
        hypervisor.remove_network(spec.name)
        assert hypervisor.networks(home) == []

    def test_another_home_s_network_is_not_ours(self, hypervisor: Hypervisor, home: str) -> None:
        """A network is listed for its home only, and no other home may use its name."""
        spec = network_spec(home)
        hypervisor.ensure_network(spec)
        assert hypervisor.networks("another") == []
        with pytest.raises(HypervisorError):
            hypervisor.ensure_network(dataclasses.replace(spec, home="another"))

    # -- the connection ------------------------------------------------------------------------

    def test_versions_are_named(self, hypervisor: Hypervisor) -> None:
        """Both versions are dotted numbers."""
        versions = hypervisor.versions()
        assert set(versions) == {"libvirt", "qemu"}
        assert all(len(version.split(".")) == 3 for version in versions.values())


def _progress(domain: Domain) -> None:
    """Wait until the guest has used some CPU time."""
    first = domain.vcpu_time_ns()
    wait_until(lambda: True if domain.vcpu_time_ns() > first else NotYet(), Deadline.after(20), what="vCPU progress")


def _cable(domain: Domain) -> str:
    """What the domain's XML says about the cable of its card; `up` where it says nothing."""
    link = etree.fromstring(domain.xml()).find("devices/interface/link")
    return "up" if link is None else str(link.get("state"))


def _race(count: int, action: Callable[[], object]) -> int:
    """How many of `count` threads succeed when all start at once."""
    barrier = threading.Barrier(count)
    wins: list[bool] = []

    def work() -> None:
        barrier.wait()
        try:
            action()
        except HypervisorError:
            wins.append(False)
        else:
            wins.append(True)

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == count
    return sum(wins)


def _until_undefined(subscription: EventSubscription, identity: str) -> list[DomainEventKind]:
    kinds: list[DomainEventKind] = []
    deadline = Deadline.after(10)
    while DomainEventKind.UNDEFINED not in kinds:
        event = subscription.get(deadline)
        assert event is not None, f"no event any more after {kinds}"
        if event.domain == identity:
            kinds.append(event.kind)
    return kinds
