"""A plain Debian as anybody would install it, for the cold boot that users know: systemd, udev, cron, ssh, DHCP."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from wsklab.deadline import Deadline
from wsklab.process import run

_PACKAGES = "linux-image-cloud-amd64,initramfs-tools,openssh-server,systemd-sysv,systemd-resolved,dbus,udev"
_NETWORK = "[Match]\nName=e*\n[Network]\nDHCP=ipv4\n"
_WORDS = "root=/dev/vda rw console=ttyS0"


@dataclass(frozen=True, slots=True)
class StockImage:
    """Its files, for a direct kernel boot.

    Attributes:
        disk: qcow2 with one ext4 file system.
        cmdline: what the kernel is told.
    """

    disk: Path
    kernel: Path
    initrd: Path
    cmdline: str = _WORDS


def stock_image(folder: Path, public_key: str, deadline: Deadline, *, suite: str = "bookworm") -> StockImage:
    """Make it (two minutes), or find what was made before.

    Args:
        folder: where it is kept.
        public_key: who may log in as root, a line of authorized_keys(5).

    Raises:
        HostCommandError: a tool failed. DeadlineExceeded: too slow.
    """
    made = StockImage(folder / "disk.qcow2", folder / "vmlinuz", folder / "initrd")
    if made.disk.exists():
        return made
    tree = folder / "tree"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run(["mmdebstrap", "-q", "--variant=important", f"--include={_PACKAGES}", suite, str(tree)], deadline=deadline)
    (tree / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    (tree / "root/.ssh/authorized_keys").write_text(public_key)
    (tree / "etc/systemd/network/lan.network").write_text(_NETWORK)
    run(["systemctl", "-q", f"--root={tree}", "enable", "systemd-networkd", "ssh"], deadline=deadline)
    shutil.copy((tree / "vmlinuz").resolve(), made.kernel)
    shutil.copy((tree / "initrd.img").resolve(), made.initrd)
    raw = folder / "disk.raw"
    run(["mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(raw), "3G"], deadline=deadline)
    part = folder / "disk.part"
    run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(part)], deadline=deadline)
    shutil.rmtree(tree)
    raw.unlink()
    part.rename(made.disk)
    return made
