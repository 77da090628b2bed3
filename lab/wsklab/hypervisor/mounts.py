"""Mounts of a private mount namespace, by the system call itself: twenty of them in a millisecond."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Final

from wsklab.errors import HostError

__all__ = ["bind", "detach", "mount_new", "move", "private_dev"]

# <linux/mount.h>
_MS_BIND: Final = 0x1000
_MS_MOVE: Final = 0x2000
_MS_REC: Final = 0x4000
_MNT_DETACH: Final = 2

# Device nodes that libvirt and QEMU need; kvm only where it works.
_NODES: Final = ("null", "zero", "full", "random", "urandom", "tty", "net/tun", "vhost-net", "userfaultfd", "fuse")

_LINKS: Final = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}


def mount_new(kind: str, target: Path, options: str = "") -> None:
    """Mount a fresh file system of `kind` (tmpfs, proc, sysfs, devpts)."""
    _mount(kind, target, kind, 0, options)


def bind(source: Path, target: Path, *, recursive: bool = False) -> None:
    """Show `source` at `target` too."""
    _mount(str(source), target, None, _MS_BIND | (_MS_REC if recursive else 0), "")


def detach(target: Path) -> None:
    """Take a mount and everything mounted in it away, in this namespace only; no error when there is none.

    Merely mounting over it would leave it in /proc/mounts, where libvirt finds control groups that it can
    then not reach.
    """
    if ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(target), _MNT_DETACH) != 0:
        code = ctypes.get_errno()
        if code != errno.EINVAL:
            raise HostError(f"cannot unmount {target}", why=os.strerror(code), fix="private mode needs CAP_SYS_ADMIN")


def move(source: Path, target: Path) -> None:
    """Move a mount."""
    _mount(str(source), target, None, _MS_MOVE, "")


def private_dev(stage: Path, *, hide_kvm: bool) -> None:
    """Put a /dev of our own over /dev: the usual nodes, new pseudo-terminals, and no kvm with `hide_kvm`.

    Missing, not merely closed: libvirt asks again and again (4 s each time) for the features of a QEMU
    whose `/dev/kvm` looks usable to one question and not to another.

    Args:
        stage: an empty directory where it is put together.
        hide_kvm: whether /dev/kvm is left out.
    """
    mount_new("tmpfs", stage, "mode=755,size=64k,nr_inodes=200")
    nodes = _NODES if hide_kvm else (*_NODES, "kvm")
    for name in nodes:
        source = Path("/dev") / name
        if source.exists():
            (stage / name).parent.mkdir(exist_ok=True)
            (stage / name).touch()
            bind(source, stage / name)
    for name in ("pts", "shm", "mqueue"):
        (stage / name).mkdir()
    for name, target in _LINKS.items():
        (stage / name).symlink_to(target)
    mount_new("devpts", stage / "pts", "newinstance,ptmxmode=0666,mode=0620,gid=5")
    mount_new("tmpfs", stage / "shm", "mode=1777")
    move(stage, Path("/dev"))


def _mount(source: str, target: Path, kind: str | None, flags: int, options: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.mount(
        source.encode(), os.fsencode(target), kind.encode() if kind else None, ctypes.c_ulong(flags), options.encode()
    )
    if result != 0:
        raise HostError(
            f"cannot mount {source} on {target}",
            why=os.strerror(ctypes.get_errno()),
            fix="private mode needs root with CAP_SYS_ADMIN; in a container: --privileged",
        )
