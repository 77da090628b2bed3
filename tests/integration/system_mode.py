"""The system mode on a machine without systemd: the distribution's libvirtd in namespaces, and a user.

Inside: Debian's own /etc/libvirt, QEMU as `libvirt-qemu` with the DAC security driver and private /dev,
`dynamic_ownership`, an own network namespace, and a user `labuser` who is a member of the group `libvirt`
with a HOME of mode 0700. `/var/lib/wsklab` belongs to root:libvirt, mode 2775, as the launcher makes it.

One thing is not Debian's: access to the socket is by the group's file mode instead of polkit, because
polkit needs the system bus. Polkit's Debian rule lets exactly the same group in.

As a program::

    python tests/integration/system_mode.py [--root] -- ARGV...     runs ARGV in there as labuser
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import json
import os
import pwd
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import wsklab
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import HostError
from wsklab.hypervisor import mounts
from wsklab.hypervisor.holder import DIRECTORIES, Holder, HolderSettings, write_json
from wsklab.process import ProcessResult, run, spawn

__all__ = ["URI", "SystemMode", "system_mode"]

URI: Final = "qemu:///system"

_USER: Final = "labuser"
_UID: Final = 61234
_STORE: Final = Path("/var/lib/wsklab")

_LIBVIRTD_CONF: Final = """\
unix_sock_group = "libvirt"
unix_sock_rw_perms = "0770"
auth_unix_ro = "none"
auth_unix_rw = "none"
"""


class SystemHolder(Holder):
    """The holder with the distribution's configuration, two more accounts lines and a lab store."""

    def __init__(self, settings: HolderSettings, pid_outside: int) -> None:
        super().__init__(settings, pid_outside)
        self._place = Path(settings.private).parent

    def _set_up(self) -> None:
        super()._set_up()
        for name in ("passwd", "group"):
            mounts.bind(self._place / name, Path("/etc") / name)
        mounts.bind(self._place / "store", _STORE)
        Path("/run/lock").chmod(0o1777)


class SystemMode:
    """A running environment; made by `system_mode`."""

    def __init__(self, place: Path, pid: int) -> None:
        self._place = place
        self.pid = pid

    @property
    def user_home(self) -> Path:
        """The user's HOME, 0700."""
        return self._place / "user"

    @property
    def log(self) -> Path:
        """The holder's log."""
        return self._place / "holder.log"

    def run(
        self,
        argv: Sequence[str],
        *,
        deadline: Deadline,
        as_root: bool = False,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> ProcessResult:
        """Run a command inside, as the user or as root, and return its result."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", f"--wd={self.user_home}", "--"]
        variables = {"PYTHONPATH": str(Path(wsklab.__file__).resolve().parents[1]), **dict(env or {})}
        if not as_root:
            group = grp.getgrnam("libvirt").gr_gid
            enter += ["setpriv", f"--reuid={_UID}", f"--regid={_UID}", f"--groups={_UID},{group}", "--"]
            variables = {"HOME": str(self.user_home), "USER": _USER, "LOGNAME": _USER, **variables}
        # the umask of Debian's users in their own group
        return run(
            [*enter, "sh", "-c", 'umask 002; exec "$@"', "sh", *argv], deadline=deadline, check=check, env=variables
        )


@contextlib.contextmanager
def system_mode() -> Iterator[SystemMode]:
    """Make the environment; at the end everything in it is gone.

    Raises:
        HostError: not root, or libvirt is not installed, or a daemon does not start.
    """
    if os.geteuid() != 0:
        raise HostError("the system mode's environment needs root")
    # not under pytest's directories: those are 0700, and neither the user nor QEMU could enter
    place = Path(tempfile.mkdtemp(prefix="wsklab-system-", dir="/var/tmp"))
    runtime = Path("/run/wsklab") / f"s{uuid.uuid4().hex[:7]}"
    made_store = not _STORE.exists()
    lock = -1
    try:
        _prepare(place, runtime)
        lock = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        settings = HolderSettings(private=str(place / "private"), runtime=str(runtime), hide_kvm=True, lock_fd=lock)
        write_json(place / "settings.json", settings)
        _STORE.mkdir(exist_ok=True)
        argv = ["unshare", "--pid", "--mount", "--net", "--propagation", "slave", "--fork", "--kill-child=KILL", "--"]
        argv += [sys.executable, str(Path(__file__).resolve()), "--holder", str(place / "settings.json")]
        source = str(Path(wsklab.__file__).resolve().parents[1])
        log = place / "holder.log"
        with spawn(argv, stdout=log, stderr=log, env={"PYTHONPATH": source}, pass_fds=(lock,)) as parent:

            def ready() -> int | NotYet:
                if parent.poll() is not None:
                    raise HostError("the system mode's environment did not start", why=log.read_text()[-2000:])
                state = runtime / "holder.json"
                content = json.loads(state.read_text()) if state.exists() else {}
                return int(content["pid"]) if content.get("state") == "ready" else NotYet(str(content))

            yield SystemMode(place, wait_until(ready, Deadline.after(20), what="the system mode's libvirtd"))
    finally:
        if lock >= 0:
            os.close(lock)
        shutil.rmtree(runtime, ignore_errors=True)
        shutil.rmtree(place, ignore_errors=True)
        if made_store:
            with contextlib.suppress(OSError):
                _STORE.rmdir()


def _prepare(place: Path, runtime: Path) -> None:
    """Files of the environment: a copy of the installed libvirt's directories, accounts, store, HOME."""
    place.chmod(0o755)
    libvirt, user, group = grp.getgrnam("libvirt"), pwd.getpwnam("libvirt-qemu"), _UID
    (place / "private").mkdir(mode=0o755)
    for target, name in DIRECTORIES.items():
        # `cp -a` keeps the package's owners and modes
        run(["cp", "-a", target, str(place / "private" / name)], deadline=Deadline.after(30))
    shutil.rmtree(place / "private/cache/qemu/capabilities", ignore_errors=True)
    configuration = place / "private/etc/libvirtd.conf"
    configuration.write_text(configuration.read_text() + _LIBVIRTD_CONF)
    os.chown(place / "private/lib/qemu", user.pw_uid, user.pw_gid)
    home = place / "user"
    home.mkdir(mode=0o700)
    os.chown(home, _UID, group)
    passwd = Path("/etc/passwd").read_text() + f"{_USER}:x:{_UID}:{group}:Lab User:{home}:/bin/bash\n"
    (place / "passwd").write_text(passwd)
    groups = (
        Path("/etc/group")
        .read_text()
        .replace(f"\nlibvirt:x:{libvirt.gr_gid}:", f"\nlibvirt:x:{libvirt.gr_gid}:{_USER},", 1)
    )
    (place / "group").write_text(groups.replace(f"{_USER},\n", f"{_USER}\n") + f"{_USER}:x:{group}:\n")
    store = place / "store"
    store.mkdir()
    os.chown(store, 0, libvirt.gr_gid)
    store.chmod(0o2775)
    (runtime / "run").mkdir(parents=True)


def main(arguments: list[str]) -> int:
    """Entry point of the program and of the holder."""
    if arguments[:1] == ["--holder"]:
        pid_outside = int(str(Path("/proc/self").readlink()))
        settings = HolderSettings(**json.loads(Path(arguments[1]).read_text()))
        return SystemHolder(settings, pid_outside).run()
    as_root = "--root" in arguments[: arguments.index("--")]
    with system_mode() as environment:
        result = environment.run(
            arguments[arguments.index("--") + 1 :], deadline=Deadline.after(1800), as_root=as_root, check=False
        )
    sys.stdout.write(result.stdout)
    sys.stderr.write(result.stderr)
    return result.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
