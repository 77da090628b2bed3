"""Facts about errors, time limits and events of the connection to libvirt (no daemon)."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import libvirt
import pytest

from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import DomainGone, HypervisorError
from wsklab.hypervisor.events import lifecycle_event
from wsklab.hypervisor.link import CallTimeoutError, Link, code_name, translate
from wsklab.hypervisor.protocol import DomainEventKind
from wsklab.process import run

_LEVELS = {"VIR_ERR_NONE", "VIR_ERR_WARNING", "VIR_ERR_ERROR"}
_CODES = {name: value for name, value in vars(libvirt).items() if name.startswith("VIR_ERR_") and name not in _LEVELS}


def _error(code: int, message: str = "the reason") -> libvirt.libvirtError:
    error = libvirt.libvirtError("call failed")
    error.err = (code, 10, message, 2, "", "", "", -1, -1)
    return error


@pytest.fixture
def link() -> Iterator[Link]:
    """libvirt's own test driver: a hypervisor in this process, with one running domain."""
    made = Link("test:///default", 0.3)
    yield made
    made.close()


@pytest.mark.parametrize("name", sorted(_CODES))
def test_every_code_of_libvirt_becomes_our_error(name: str) -> None:
    """Operation, domain, reason and the code's name are kept for each of libvirt's codes."""
    made = translate(_error(_CODES[name]), "start", "guest-1")
    assert str(made) == "cannot start guest-1"
    assert "the reason" in made.why
    assert isinstance(made, DomainGone) == (name == "VIR_ERR_NO_DOMAIN")
    assert made.evidence == {"operation": "start", "domain": "guest-1", "code": name}


def test_a_code_that_is_newer_than_the_library_is_kept_as_a_number() -> None:
    """An unknown code loses nothing."""
    assert code_name(9999) == "VIR_ERR_9999"
    assert translate(_error(9999), "start").evidence["code"] == "VIR_ERR_9999"


def test_an_error_without_any_code_is_survived() -> None:
    """libvirt sometimes raises without setting an error."""
    made = translate(libvirt.libvirtError("call failed"), "start", "x")
    assert "call failed" in made.why


@pytest.mark.parametrize(
    ("reason", "fix"),
    [
        ("Failed to connect socket to '/run/libvirt/libvirt-sock': Permission denied", "group libvirt"),
        ("Failed to connect socket to '/run/libvirt/libvirt-sock': No such file or directory", "systemctl start"),
    ],
)
def test_a_socket_that_cannot_be_used_has_a_fix(reason: str, fix: str) -> None:
    """Not in the group, and not running, are told apart."""
    assert fix in translate(_error(libvirt.VIR_ERR_SYSTEM_ERROR, reason), "connect").fix


def test_a_call_that_hangs_ends_at_its_limit(link: Link) -> None:
    """The caller gets an error that says the state is unknown; the thread that hangs is let go when it ends."""
    release = threading.Event()
    watch = Deadline.after(2)
    with pytest.raises(CallTimeoutError) as caught:
        link.call("look at", lambda _conn: release.wait(10), domain="guest-1")
    assert not watch.expired
    assert "unknown" in caught.value.why
    release.set()
    assert link.call("list", lambda conn: len(conn.listAllDomains(0))) == 1


def test_too_many_hanging_calls_refuse_new_ones_until_they_end(link: Link) -> None:
    """A daemon that has gone deaf costs a bounded number of threads."""
    release = threading.Event()
    for _ in range(16):
        with pytest.raises(CallTimeoutError):
            link.call("look at", lambda _conn: release.wait(20), timeout_s=0.01)
    with pytest.raises(CallTimeoutError, match="cannot list") as caught:
        link.call("list", lambda _conn: 1)
    assert "16 earlier calls" in caught.value.why
    release.set()

    def works() -> bool | NotYet:
        try:
            return link.call("list", lambda _conn: True)
        except CallTimeoutError as error:
            return NotYet(error.why)

    assert wait_until(works, Deadline.after(5), what="the calls to come back")


def test_an_accepted_code_is_an_answer(link: Link) -> None:
    """A code that the caller expects does not raise."""
    missing = "00000000-0000-0000-0000-000000000001"

    def look(conn: object) -> str | None:
        return conn.lookupByUUIDString(missing).name()  # type: ignore[attr-defined,no-any-return]

    assert link.call("look up", look, accept={libvirt.VIR_ERR_NO_DOMAIN: None}) is None
    with pytest.raises(HypervisorError) as caught:
        link.call("look up", look, domain=missing)
    assert caught.value.evidence["code"] == "VIR_ERR_NO_DOMAIN"


def test_events_arrive_through_the_loop(link: Link) -> None:
    """A domain that is destroyed is heard of by a subscriber, once."""
    subscription = link.bus.subscribe()
    uuid = link.call("list", lambda conn: str(conn.listAllDomains(0)[0].UUIDString()))
    link.call("destroy", lambda conn: conn.lookupByUUIDString(uuid).destroy())
    event = subscription.get(Deadline.after(5))
    assert event is not None
    assert (event.kind, event.domain, event.detail) == (DomainEventKind.STOPPED, uuid, "destroyed")
    assert subscription.get(Deadline.after(0.2)) is None


def test_a_closed_connection_is_refused(link: Link) -> None:
    """After `close` there is no hidden reconnection, and a waiting subscriber returns."""
    subscription = link.bus.subscribe()
    link.close()
    with pytest.raises(HypervisorError, match="cannot list"):
        link.call("list", lambda _conn: None)
    assert subscription.get(Deadline.after(5)) is None


@pytest.mark.parametrize(
    ("event", "detail", "kind"),
    [
        (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN, DomainEventKind.STOPPED),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED, DomainEventKind.STOPPED),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED, DomainEventKind.CRASHED),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED, DomainEventKind.CRASHED),
        (libvirt.VIR_DOMAIN_EVENT_CRASHED, libvirt.VIR_DOMAIN_EVENT_CRASHED_PANICKED, DomainEventKind.PANICKED),
        (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_IOERROR, DomainEventKind.SUSPENDED),
        (libvirt.VIR_DOMAIN_EVENT_STARTED, 99, DomainEventKind.STARTED),
    ],
)
def test_lifecycle_events_have_a_kind(event: int, detail: int, kind: DomainEventKind) -> None:
    """Asked-for power-offs, processes that died and kernels that panicked are told apart."""
    made = lifecycle_event("u", event, detail)
    assert made is not None
    assert made.kind is kind


def test_events_without_news_are_none() -> None:
    """Definitions and unknown events say nothing to the lab."""
    assert lifecycle_event("u", libvirt.VIR_DOMAIN_EVENT_DEFINED, 0) is None
    assert lifecycle_event("u", 999, 0) is None


def test_the_event_thread_ends_before_the_interpreter() -> None:
    """A heartbeat into an interpreter that is being taken down could end the process by SIGSEGV."""
    code = (
        "import atexit\n"
        "from wsklab.hypervisor.events import event_loop\n"
        "atexit.register(lambda: print(loop.alive))\n"
        "loop = event_loop()\n"
        "assert loop.alive\n"
    )
    # what was registered last is called first: the loop's own end, then the print
    result = run([sys.executable, "-c", code], deadline=Deadline.after(30))
    assert result.stdout == "False\n"
