"""The fake hypervisor keeps the contract, and does what a test tells it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypervisor_contract import HypervisorContract, MakeSpec, spec_maker

from wsklab.deadline import Deadline
from wsklab.errors import HypervisorError
from wsklab.hypervisor.fake import FakeHypervisor, FakeScript
from wsklab.hypervisor.protocol import DomainEventKind, DomainState


@pytest.fixture
def hypervisor() -> Iterator[FakeHypervisor]:
    with FakeHypervisor() as made:
        yield made


@pytest.fixture
def make_spec(home: str, tmp_path: Path) -> MakeSpec:
    return spec_maker(home, tmp_path, None)


@pytest.fixture
def home() -> str:
    return "0123"


class TestFakeContract(HypervisorContract):
    """The fake passes what the real one passes."""


def test_a_foreign_domain_is_seen_but_never_listed(hypervisor: FakeHypervisor, make_spec: MakeSpec, home: str) -> None:
    """A domain without our mark can be looked up, has no metadata, and belongs to no home."""
    spec = make_spec()
    hypervisor.add_foreign(spec)
    found = hypervisor.lookup(spec.uuid)
    assert found is not None
    assert found.metadata() is None
    assert hypervisor.domains(home) == []


@pytest.mark.parametrize(
    ("what", "kind", "state"),
    [
        ("power_off", DomainEventKind.STOPPED, DomainState.OFF),
        ("panic", DomainEventKind.PANICKED, DomainState.CRASHED),
        ("die", DomainEventKind.CRASHED, DomainState.OFF),
        ("io_error", DomainEventKind.IO_ERROR, DomainState.PAUSED),
        ("reboot", DomainEventKind.REBOOTED, DomainState.RUNNING),
    ],
)
def test_what_happens_to_a_guest_is_an_event_and_a_state(
    hypervisor: FakeHypervisor, make_spec: MakeSpec, what: str, kind: DomainEventKind, state: DomainState
) -> None:
    """Each scripted misfortune looks as it does with libvirt."""
    domain = hypervisor.define(make_spec())
    domain.start()
    subscription = hypervisor.subscribe()
    getattr(hypervisor, what)(domain.uuid)
    event = subscription.get(Deadline.after(1))
    assert event is not None
    assert (event.kind, domain.state()) == (kind, state)


def test_a_hanging_guest_runs_without_progress(hypervisor: FakeHypervisor, make_spec: MakeSpec) -> None:
    """The state stays running; vCPU time stands; neither agent nor power button work."""
    spec = make_spec()
    hypervisor.script(spec.name, FakeScript(agent=lambda _command: {}))
    domain = hypervisor.define(spec)
    domain.start()
    assert domain.agent_command({"execute": "guest-ping"}, Deadline.after(1)) == {"return": {}}
    hypervisor.hang(domain.uuid)
    assert domain.vcpu_time_ns() == domain.vcpu_time_ns()
    domain.shutdown()
    assert domain.state() is DomainState.RUNNING
    with pytest.raises(HypervisorError):
        domain.agent_command({"execute": "guest-ping"}, Deadline.after(1))


def test_a_script_speaks_on_the_console_and_can_refuse_to_start(
    hypervisor: FakeHypervisor, make_spec: MakeSpec
) -> None:
    """Console bytes appear at the start; a start error is an error of the hypervisor."""
    talks, refuses = make_spec(), make_spec()
    hypervisor.script(talks.name, FakeScript(console=b"hello\n"))
    hypervisor.script(refuses.name, FakeScript(start_error="no memory"))
    hypervisor.define(talks).start()
    assert talks.console_log.read_bytes() == b"hello\n"
    with pytest.raises(HypervisorError) as caught:
        hypervisor.define(refuses).start()
    assert caught.value.why == "no memory"


def test_a_lost_connection_is_an_event(hypervisor: FakeHypervisor) -> None:
    """Subscribers are told; the next call works again."""
    subscription = hypervisor.subscribe()
    hypervisor.lose_connection()
    event = subscription.get(Deadline.after(1))
    assert event is not None
    assert (event.kind, event.domain) == (DomainEventKind.CONNECTION_LOST, "")
    assert hypervisor.domains("x") == []
