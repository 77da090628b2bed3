"""The private mode: a libvirt daemon of the lab's own, in namespaces, one per lab home.

For root on a host where no service manager runs libvirtd: containers, CI, build machines. Nothing of it
reaches the host: its guests' network exists in a network namespace, its processes in a PID namespace that
ends with one process (see `holder`), its files under `<home>/private` and one directory under /run.

QEMU runs as uid 0 there, because a lab home may be 0700 under /root; libvirt drops all of its
capabilities (`clear_emulator_capabilities`), so it is an owner of files, not an administrator.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import DeadlineExceeded, HostError
from wsklab.hypervisor.holder import DIRECTORIES, HolderSettings, HolderState, write_json
from wsklab.process import package_of, run, spawn

__all__ = ["PrivateDaemon"]

# sun_path has 108 bytes with the final zero; libvirt adds names of up to about 40 bytes to its directory.
_RUNTIME_MAX: Final = 60

# struct flock of x86-64 Linux: type, whence, start, length, pid. The lock is one of the open file
# description (F_OFD_*): inherited by children like flock's, but it can also be asked about.
_FLOCK: Final = "hhqqi4x"

# What the holder covers with something of its own: a home in there would vanish from its sight.
_HIDDEN: Final = (*DIRECTORIES, "/run", "/dev", "/proc", "/sys")

_FILES: Final = {
    "libvirtd.conf": """\
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
unix_sock_ro_perms = "0700"
unix_sock_rw_perms = "0700"
max_client_requests = 20
log_level = 3
""",
    "qemu.conf": """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "logd"
""",
    "virtlogd.conf": """\
max_size = 2097152
max_backups = 3
""",
}


class PrivateDaemon:
    """The private daemon of one lab home, running or not.

    Args:
        home: the lab home; `private` in it is the daemon's.
        runtime: short directory below /run for sockets, e.g. `/run/wsklab/1a2b3c4d`.
        hide_kvm: whether the guests' host has no /dev/kvm (see `probe`).
        expire_argv: command that the holder runs every `expire_interval_s` to end expired leases.
    """

    def __init__(
        self,
        home: Path,
        runtime: Path,
        hide_kvm: bool,
        *,
        expire_argv: Sequence[str] = (),
        expire_interval_s: float = 60.0,
    ) -> None:
        self._private = home / "private"
        self._runtime = runtime
        self._hide_kvm = hide_kvm
        self._expire_argv = list(expire_argv)
        self._expire_interval_s = expire_interval_s
        if len(os.fsencode(runtime)) > _RUNTIME_MAX:
            raise HostError(f"the runtime directory {runtime} has too long a path", why="sockets have 108 bytes")
        for hidden in _HIDDEN:
            if home.resolve().is_relative_to(hidden):
                raise HostError(
                    f"the lab home {home} cannot be in {hidden}",
                    why="the private daemon has a directory of its own in that place",
                    fix="set WSKLAB_HOME to a directory elsewhere",
                )

    @property
    def uri(self) -> str:
        """libvirt's connection URI of the daemon."""
        return f"qemu+unix:///system?socket={self._runtime}/run/libvirt-sock"

    @property
    def pid(self) -> int | None:
        """The holder's process id as seen here, or None when it does not run."""
        state = self._state()
        return state.pid if state is not None and state.state == "ready" and self._held() else None

    @property
    def netns(self) -> Path:
        """The path of the guests' network namespace.

        Raises:
            HostError: the daemon does not run.
        """
        pid = self.pid
        if pid is None:
            raise HostError("the private libvirt daemon does not run", why=self.reason(), fix="start it")
        return Path(f"/proc/{pid}/ns/net")

    @property
    def log(self) -> Path:
        """The holder's log; libvirtd's and virtlogd's are beside it."""
        return self._private / "log" / "holder.log"

    def reason(self) -> str:
        """Why it does not run, as far as it is known."""
        state = self._state()
        if state is None:
            return "it was never started"
        return state.reason or ("it was killed" if state.state == "ready" else state.state)

    def start(self, deadline: Deadline) -> None:
        """Start it unless it runs. Leftovers of a killed holder are cleaned first.

        Raises:
            HostError: not root, a package is missing, or a daemon did not come up (with its reason).
            DeadlineExceeded: somebody else starts or stops it all the time.
        """
        if os.geteuid() != 0:
            raise HostError(
                "private mode needs root",
                why="only root may make namespaces with a network",
                fix="run as root, or use the system's libvirtd: add yourself to the group libvirt",
            )
        self._private.mkdir(parents=True, exist_ok=True)
        with self._change_lock(deadline):
            with self._holder_lock() as lock:
                if lock is not None:
                    self._start_holder(lock)
            # Without our copy of the lock, only a living holder keeps it.
            self._await_ready(deadline)

    def stop(self, deadline: Deadline) -> None:
        """Stop it and everything in it, guests included; no error when it does not run.

        At the deadline the holder is killed, which ends everything at once.
        """
        if not self._private.exists():
            return
        with self._change_lock(deadline):
            state = self._state()
            if state is not None and self._held():
                _end_process(state.pid, deadline)
                wait_until(
                    lambda: NotYet("locked") if self._held() else True,
                    Deadline.after(5),
                    what="the private daemon's end",
                    tick_s=0.005,
                )
            self._clean()

    def _start_holder(self, lock: int) -> None:
        self._clean()
        self._prepare()
        settings = self._private / "holder-settings.json"
        content = HolderSettings(
            private=str(self._private.absolute()),
            runtime=str(self._runtime),
            hide_kvm=self._hide_kvm,
            lock_fd=lock,
            expire_argv=self._expire_argv,
            expire_interval_s=self._expire_interval_s,
        )
        write_json(settings, content)
        # `setsid --fork` hands it to process 1, so it is nobody's zombie and outlives this process;
        # `unshare` stays as its parent and holds a copy of the lock until the last guest is gone.
        argv = ["setsid", "--fork", "unshare", "--pid", "--mount", "--net", "--propagation", "slave"]
        argv += ["--fork", "--kill-child=KILL", "--"]
        argv += [sys.executable, "-P", "-m", "wsklab.hypervisor.holder", str(settings)]
        package_root = str(Path(__file__).resolve().parents[2])
        child = spawn(argv, stdout=self.log, stderr=self.log, env={"PYTHONPATH": package_root}, pass_fds=(lock,))
        child.wait(Deadline.after(10))

    def _await_ready(self, deadline: Deadline) -> None:
        def ready() -> HolderState | NotYet:
            state = self._state()
            if not self._held():
                raise HostError(
                    "the private libvirt daemon did not start",
                    why=(state.reason if state else "") or _last_line(self.log),
                    fix=f"see {self.log}; missing package? apt install {package_of('libvirtd')}",
                    evidence={"log": str(self.log)},
                )
            return state if state is not None and state.state == "ready" else NotYet(state.state if state else "forked")

        state = wait_until(ready, deadline, what="the private libvirt daemon", tick_s=0.01)
        if state.hide_kvm != self._hide_kvm:
            raise HostError(
                "the private libvirt daemon runs with another acceleration",
                why=f"it was started {'without' if state.hide_kvm else 'with'} /dev/kvm",
                fix="end its guests (`wsklab down '*'`), so that it can be started anew",
            )

    def _prepare(self) -> None:
        """The directories that take the place of libvirt's own, and its configuration."""
        for target in DIRECTORIES:
            # the mount points must exist on the host; the packages make them
            if not Path(target).is_dir():
                raise HostError(
                    f"{target} does not exist", why="libvirt is not installed", fix="apt install libvirt-daemon-system"
                )
        for name in DIRECTORIES.values():
            (self._private / name).mkdir(exist_ok=True)
        for name, text in _FILES.items():
            (self._private / "etc" / name).write_text(text)
        self._runtime.mkdir(parents=True, exist_ok=True)
        self._runtime.chmod(0o700)
        (self._runtime / "run").mkdir(exist_ok=True)

    def _clean(self) -> None:
        """Take away what a holder leaves in /run."""
        if self._runtime.is_dir():
            run(["rm", "-rf", "--one-file-system", str(self._runtime)], deadline=Deadline.after(10))

    def _state(self) -> HolderState | None:
        try:
            return HolderState(**json.loads((self._runtime / "holder.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _held(self) -> bool:
        """Whether a holder is alive: it, or its parent, has the lock. Asks without taking it."""
        try:
            descriptor = os.open(self._private / "holder.lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK))
        finally:
            os.close(descriptor)
        return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)

    @contextlib.contextmanager
    def _holder_lock(self) -> Iterator[int | None]:
        """The descriptor with the holder's lock, or None when a holder has it."""
        descriptor = os.open(self._private / "holder.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK))
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            yield None
            return
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _change_lock(self, deadline: Deadline) -> Iterator[None]:
        """One starter or stopper at a time."""
        descriptor = os.open(self._private / "change.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

        def locked() -> bool | NotYet:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return NotYet("another process starts or stops it")
            return True

        try:
            wait_until(locked, deadline, what="the private daemon's lock")
            yield
        finally:
            os.close(descriptor)


def _flock(kind: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, 0, 0, 0)


def _end_process(pid: int, deadline: Deadline) -> None:
    """Ask the holder to end, kill it at the deadline; returns when the kernel has ended it."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for number, patience in ((signal.SIGTERM, deadline), (signal.SIGKILL, Deadline.after(5))):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
            # a pidfd is readable when the process has ended; for process 1 of a namespace that is
            # after everything else in the namespace has ended
            if select.select([handle], [], [], patience.remaining_s)[0]:
                return
        raise DeadlineExceeded("the private daemon's holder to die", waited_s=deadline.elapsed_s)
    finally:
        os.close(handle)


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1] if lines else "it printed nothing"
