"""Facts about the private daemon's life."""

from __future__ import annotations

import os
import signal
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypervisor_contract import spec_maker

from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import HostError
from wsklab.hypervisor.daemon import PrivateDaemon
from wsklab.hypervisor.libvirt import LibvirtHypervisor
from wsklab.process import run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="private mode needs root")


class _Place:
    """A home and a runtime directory, and as many handles on their daemon as wanted."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.home.mkdir(mode=0o700)
        self.runtime = Path("/run/wsklab") / f"t{uuid.uuid4().hex[:7]}"

    def daemon(self, **options: object) -> PrivateDaemon:
        return PrivateDaemon(self.home, self.runtime, True, **options)  # type: ignore[arg-type]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[_Place]:
    made = _Place(tmp_path)
    yield made
    made.daemon().stop(Deadline.after(10))


def _processes_of(place: _Place) -> list[str]:
    """Command lines on this host that mention the home."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(place.home).encode() in line:
                found.append(line.replace(b"\0", b" ").decode())
    return found


def _gone(place: _Place) -> bool | NotYet:
    left = _processes_of(place)
    return NotYet("; ".join(left)) if left else True


def test_start_and_stop_take_no_time_and_leave_nothing(place: _Place) -> None:
    """Start is under 3 s and idempotent, stop under 3 s; afterwards no process and no socket is left."""
    daemon = place.daemon()
    assert daemon.pid is None
    watch = Deadline.after(3)
    daemon.start(Deadline.after(10))
    assert not watch.expired
    first = daemon.pid
    daemon.start(Deadline.after(10))
    assert daemon.pid == first
    assert place.daemon().pid == first
    watch = Deadline.after(3)
    daemon.stop(Deadline.after(10))
    assert not watch.expired
    assert daemon.pid is None
    assert not place.runtime.exists()
    wait_until(lambda: _gone(place), Deadline.after(5), what="the end of every process")
    daemon.stop(Deadline.after(10))


def test_many_starters_make_one_daemon(place: _Place) -> None:
    """Six threads, each with its own handle, start it at once: one holder."""
    pids: list[int | None] = []

    def work() -> None:
        mine = place.daemon()
        mine.start(Deadline.after(20))
        pids.append(mine.pid)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 6
    assert len(set(pids)) == 1
    assert pids[0] is not None


def test_it_outlives_its_starter(place: _Place) -> None:
    """The process that started it ends, with its session; the daemon stays."""
    code = (
        "import sys; from pathlib import Path; from wsklab.deadline import Deadline;"
        "from wsklab.hypervisor.daemon import PrivateDaemon;"
        f"PrivateDaemon(Path({str(place.home)!r}), Path({str(place.runtime)!r}), True).start(Deadline.after(20))"
    )
    run([sys.executable, "-c", code], deadline=Deadline.after(30))
    with LibvirtHypervisor(place.daemon().uri) as hypervisor:
        assert hypervisor.versions()["libvirt"]


@pytest.mark.parametrize("victim", ["holder", "its parent"])
def test_killing_it_leaves_nothing(place: _Place, kernel: Path, victim: str) -> None:
    """`kill -9` of the holder, or of its parent: every guest, daemon and the namespace are gone; a start cleans up."""
    daemon = place.daemon()
    daemon.start(Deadline.after(10))
    pid = daemon.pid
    assert pid is not None
    with LibvirtHypervisor(daemon.uri) as hypervisor:
        domain = hypervisor.define(spec_maker("h", place.home, kernel)())
        domain.start()
    if victim == "its parent":
        status = Path(f"/proc/{pid}/status").read_text()
        pid = int(next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:")))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: _gone(place), Deadline.after(5), what="the end of every process")
    wait_until(lambda: NotYet("alive") if daemon.pid else True, Deadline.after(5), what="the holder's end")
    with pytest.raises(HostError):
        _ = daemon.netns
    daemon.start(Deadline.after(10))
    with LibvirtHypervisor(daemon.uri) as hypervisor:
        # the guests died with it: a definition that stayed would keep their names taken
        assert hypervisor.domains("h") == []


def test_what_libvirt_waits_for_is_in_memory(place: _Place, kernel: Path) -> None:
    """Definition and state of a guest are files of a tmpfs: no change of a guest's state waits for a disk."""
    daemon = place.daemon()
    daemon.start(Deadline.after(10))
    with LibvirtHypervisor(daemon.uri) as hypervisor:
        hypervisor.define(spec_maker("h", place.home, kernel)()).start()
    root = Path(f"/proc/{daemon.pid}/root")
    kinds = {
        words[1]: words[2] for words in map(str.split, Path(f"/proc/{daemon.pid}/mounts").read_text().splitlines())
    }
    for place_of in ("/etc/libvirt/qemu", "/run/libvirt/qemu"):
        assert list((root / place_of[1:]).glob("*.xml")) != []
        assert kinds[place_of] == "tmpfs"


def _name_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:  # it has ended since
        return ""


def test_a_daemon_that_keeps_dying_ends_the_holder_with_the_reason(place: _Place) -> None:
    """libvirtd is started again once; the second death ends the holder, and the reason is kept."""
    daemon = place.daemon()
    daemon.start(Deadline.after(10))
    holder = daemon.pid

    def libvirtd() -> int | NotYet:
        children = Path(f"/proc/{holder}/task/{holder}/children").read_text().split()
        found = [int(pid) for pid in children if _name_of(pid) == "libvirtd"]
        return found[0] if found else NotYet("none")

    first = wait_until(libvirtd, Deadline.after(5), what="libvirtd")
    os.kill(first, signal.SIGKILL)

    def another() -> int | NotYet:
        found = libvirtd()
        return NotYet("the same") if found == first else found

    second = wait_until(another, Deadline.after(10), what="the second libvirtd")
    os.kill(second, signal.SIGKILL)
    wait_until(lambda: NotYet("alive") if daemon.pid else True, Deadline.after(10), what="the holder's end")
    assert "libvirtd" in daemon.reason()
    assert "-9" in daemon.reason()


def test_a_failing_start_says_why(place: _Place) -> None:
    """A daemon that cannot read its configuration: the reason is in the error, and the log is named."""
    daemon = place.daemon()
    etc = place.home / "private/etc"
    etc.mkdir(parents=True)
    (etc / "libvirt.conf").write_text("")
    (etc / "virtlockd.conf").mkdir()
    blocker = place.home / "private/log"
    blocker.mkdir()
    (blocker / "virtlogd.log").mkdir()  # its log cannot be opened
    with pytest.raises((HostError, OSError)) as caught:
        daemon.start(Deadline.after(10))
    assert "virtlogd.log" in str(getattr(caught.value, "why", "")) + str(caught.value)
    (blocker / "virtlogd.log").rmdir()


def test_the_expiry_command_runs_at_its_interval(place: _Place) -> None:
    """The holder runs the given command again and again; its failure changes nothing."""
    mark = place.home / "mark"
    argv = ["sh", "-c", f"echo x >> {mark}; exit 3"]
    daemon = place.daemon(expire_argv=argv, expire_interval_s=0.2)
    daemon.start(Deadline.after(10))
    wait_until(
        lambda: True if mark.exists() and mark.stat().st_size >= 4 else NotYet("not twice"),
        Deadline.after(10),
        what="two runs",
    )
    assert daemon.pid is not None


def test_a_runtime_directory_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """UNIX sockets have 108 bytes; it is said before anything is made."""
    with pytest.raises(HostError, match="too long"):
        PrivateDaemon(tmp_path, tmp_path / ("x" * 60), hide_kvm=True)


@pytest.mark.parametrize("home", ["/run/lab", "/dev/shm/lab", "/var/lib/libvirt/lab"])
def test_a_home_that_would_be_hidden_is_refused(home: str) -> None:
    """The daemon covers some directories with its own; a home in one of them is refused at once."""
    with pytest.raises(HostError, match="cannot be in"):
        PrivateDaemon(Path(home), Path("/run/wsklab/t"), hide_kvm=True)


def test_no_kvm_inside(place: _Place) -> None:
    """With `hide_kvm` there is no /dev/kvm in there, and pseudo-terminals of its own."""
    daemon = place.daemon()
    daemon.start(Deadline.after(10))
    dev = Path(f"/proc/{daemon.pid}/root/dev")
    assert not (dev / "kvm").exists()
    assert (dev / "null").is_char_device()
    assert (dev / "net/tun").is_char_device()
    assert [path.name for path in (dev / "pts").iterdir()] == ["ptmx"]
