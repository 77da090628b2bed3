"""The holder: first process of the private mode's namespaces. `python -m wsklab.hypervisor.holder FILE`.

Started by `wsklab.hypervisor.daemon` under `unshare --pid --mount --net --fork --kill-child`, so it is
process 1 in there: when it ends, however it ends, the kernel ends every guest and daemon with it and
takes the network namespace away. It

* gives libvirt's fixed directories (`/etc/libvirt`, `/var/lib/libvirt`, `/run`, ...) a private content,
* runs virtlogd and libvirtd and starts each again once when it crashes,
* reaps whatever the daemons leave behind,
* runs one command (`wsklab gc --expired`) at an interval, for leases that end while nobody looks.

The state file says `starting`, `ready` or `failed` with the reason; standard error is the log.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Final

from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import HostError, LabError
from wsklab.hypervisor import mounts
from wsklab.process import Child, run, spawn

__all__ = ["DIRECTORIES", "HolderSettings", "HolderState", "main", "write_json"]

# libvirt's compiled-in directories -> our directory under <home>/private.
DIRECTORIES: Final = MappingProxyType(
    {
        "/etc/libvirt": "etc",
        "/var/lib/libvirt": "lib",
        "/var/cache/libvirt": "cache",
        "/var/log/libvirt": "log",
    }
)

# Definitions and states of guests and networks.
_IN_MEMORY: Final = (Path("/etc/libvirt/qemu"), Path("/run/libvirt/qemu"), Path("/run/libvirt/network"))

_TPM_LOGS: Final = Path("/var/log/swtpm")

_RESTARTS: Final = 1

_TICK_S: Final = 1.0

_SOCKETS_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HolderSettings:
    """What the holder is told; a JSON file.

    Attributes:
        private: `<home>/private`.
        runtime: directory under /run whose `run` becomes libvirt's `/run/libvirt`.
        hide_kvm: whether /dev/kvm is missing inside.
        lock_fd: the descriptor whose lock says that a holder is alive; inherited, not handed on.
        expire_argv: command that ends expired leases; empty: none.
        expire_interval_s: how often.
    """

    private: str
    runtime: str
    hide_kvm: bool
    lock_fd: int
    expire_argv: list[str] = field(default_factory=list)
    expire_interval_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HolderState:
    """What the holder says; `pid` is as seen from outside."""

    pid: int
    state: str
    reason: str = ""
    hide_kvm: bool = False


def write_json(path: Path, content: HolderSettings | HolderState) -> None:
    """Write so that a reader sees the old or the new file, never half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(asdict(content)))
    temporary.replace(path)


class Holder:
    """Process 1 and what it keeps alive."""

    def __init__(self, settings: HolderSettings, pid_outside: int) -> None:
        self._settings = settings
        self._private = Path(settings.private)
        self._runtime = Path(settings.runtime)
        self._pid_outside = pid_outside
        self._daemons: dict[str, Child] = {}
        self._restarts: dict[str, int] = {}
        self._expiry: Child | None = None
        self._stop = False
        self._wake = -1

    def run(self) -> int:
        """Set up, serve until told to end; the exit status."""
        self._say("starting")
        try:
            self._listen_to_signals()
            self._set_up()
            self._start("virtlogd", self._runtime / "run/virtlogd-sock")
            self._start("libvirtd", self._runtime / "run/libvirt-sock")
        except (LabError, OSError) as error:
            why = error.why if isinstance(error, LabError) else ""
            self._say("failed", f"{error}: {why}" if why else str(error))
            return 1
        self._say("ready")
        reason = self._serve()
        self._tear_down()
        self._say("stopped", reason)
        return 0 if reason == "" else 1

    def _listen_to_signals(self) -> None:
        """A pipe that becomes readable with every signal: a guest that was killed is reaped at once.

        libvirt reports a guest as gone only when its process is, and an orphan's parent is us.
        """
        self._wake, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _set_up(self) -> None:
        os.set_inheritable(self._settings.lock_fd, False)
        stage = self._runtime / "stage"
        stage.mkdir(exist_ok=True)
        # the order matters: /run last of all, because the stage is in it
        mounts.mount_new("proc", Path("/proc"))
        mounts.detach(Path("/sys"))
        mounts.mount_new("sysfs", Path("/sys"))
        mounts.private_dev(stage, hide_kvm=self._settings.hide_kvm)
        for target, name in DIRECTORIES.items():
            mounts.bind(self._private / name, Path(target))
        # A /run of our own hides the host's system bus, service manager and udev, which libvirt would
        # otherwise ask to place our guests in the host's slices.
        mounts.mount_new("tmpfs", stage, "mode=755,size=16m")
        for name in ("libvirt", "lock", self._runtime.parent.name):
            (stage / name).mkdir()
        mounts.bind(self._runtime / "run", stage / "libvirt")
        mounts.bind(self._runtime.parent, stage / self._runtime.parent.name)
        mounts.move(stage, Path("/run"))
        # libvirt waits for the disk at every change of a guest's state; what it writes there ends with us anyway
        for place in _IN_MEMORY:
            place.mkdir(exist_ok=True)
            # as open as the package's: the emulator of a TPM is another user's, and has its socket in there
            mounts.mount_new("tmpfs", place, "mode=711,size=64m")
        self._keep_tpm_logs()
        run(["ip", "link", "set", "lo", "up"], deadline=Deadline.after(5))

    def _keep_tpm_logs(self) -> None:
        """Give the emulator of TPMs, where it is installed, a log folder of our own: libvirt has one for all."""
        if shutil.which("swtpm") is None:
            return
        own = self._private / "log/swtpm"
        own.mkdir(mode=0o711, exist_ok=True)
        _TPM_LOGS.mkdir(mode=0o711, exist_ok=True)
        mounts.bind(own, _TPM_LOGS)

    def _start(self, name: str, ready: Path) -> None:
        """Start a daemon and wait for its socket."""
        log = self._private / "log" / f"{name}.log"
        ready.unlink(missing_ok=True)
        pid_file = Path("/run") / f"{name}.pid"
        pid_file.unlink(missing_ok=True)
        child = spawn([name, "--pid-file", str(pid_file)], stdout=log, stderr=log, env={"NOTIFY_SOCKET": None})
        self._daemons[name] = child

        def there() -> bool | NotYet:
            if child.poll() is not None:
                raise HostError(f"{name} ended with status {child.poll()}", why=_last_line(log))
            return True if ready.exists() else NotYet("no socket yet")

        wait_until(there, Deadline.after(_SOCKETS_S), what=f"{name}'s socket", tick_s=0.01)

    def _serve(self) -> str:
        """Reap, restart, expire; the reason why it ended, or "" when it was told to."""
        next_expiry = time.monotonic() + self._settings.expire_interval_s
        while not self._stop:
            for name in list(self._daemons):
                reason = self._look_after(name)
                if reason:
                    return reason
            self._reap()
            if self._settings.expire_argv and time.monotonic() >= next_expiry:
                next_expiry = time.monotonic() + self._settings.expire_interval_s
                self._expire()
            self._wait_for_signal()
        return ""

    def _look_after(self, name: str) -> str:
        status = self._daemons[name].poll()
        if status is None:
            return ""
        log(f"{name} ended with status {status}")
        if self._restarts.get(name, 0) >= _RESTARTS:
            return f"{name} ended again, with status {status}"
        self._restarts[name] = self._restarts.get(name, 0) + 1
        socket = "virtlogd-sock" if name == "virtlogd" else "libvirt-sock"
        try:
            self._start(name, self._runtime / "run" / socket)
        except LabError as error:
            return f"{error} ({error.why})"
        log(f"{name} was started again")
        return ""

    def _expire(self) -> None:
        if self._expiry is not None and self._expiry.poll() is None:
            log("the expiry command still runs")
            return
        target = self._private / "log" / "expiry.log"
        try:
            self._expiry = spawn(self._settings.expire_argv, stdout=target, stderr=target)
        except LabError as error:
            log(f"cannot run the expiry command: {error}: {error.why}")

    def _reap(self) -> None:
        """Reap orphans: whatever has ended and is not a child that somebody polls."""
        ours = {child.pid for child in self._daemons.values()}
        if self._expiry is not None and self._expiry.poll() is None:
            ours.add(self._expiry.pid)
        with contextlib.suppress(ChildProcessError):
            while True:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None or ended.si_pid in ours:
                    return
                os.waitpid(ended.si_pid, os.WNOHANG)

    def _wait_for_signal(self) -> None:
        """Return when a child has ended, when told to stop, or after a while."""
        readable, _, _ = select.select([self._wake], [], [], _TICK_S)
        if readable:
            os.read(self._wake, 4096)

    def _tear_down(self) -> None:
        """End the daemons in order; the kernel ends the rest when this process returns."""
        for name in ("libvirtd", "virtlogd"):
            child = self._daemons.get(name)
            if child is not None:
                child.terminate(Deadline.after(2))

    def _on_term(self, _number: int, _frame: FrameType | None) -> None:
        self._stop = True

    def _say(self, state: str, reason: str = "") -> None:
        log(f"{state} {reason}".rstrip())
        content = HolderState(pid=self._pid_outside, state=state, reason=reason, hide_kvm=self._settings.hide_kvm)
        write_json(self._runtime / "holder.json", content)


def log(message: str) -> None:
    """One line to standard error, which is the holder's log."""
    sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} holder: {message}\n")
    sys.stderr.flush()


def main(arguments: list[str]) -> int:
    """Entry point."""
    # /proc is still the host's here, so this is our process id as everybody outside knows it
    pid_outside = int(str(Path("/proc/self").readlink()))
    settings = HolderSettings(**json.loads(Path(arguments[0]).read_text()))
    return Holder(settings, pid_outside).run()


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1] if lines else "it printed nothing"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
