"""A guest under plain QEMU, without libvirt: what an image can do by itself.

QEMU runs in a network namespace of its own and its user network is restricted: nothing reaches the outside.
"""

from __future__ import annotations

import time
from pathlib import Path

from wsklab import network, qemu_img
from wsklab.channel.ssh import SshChannel
from wsklab.console import ConsoleLog
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import LabError
from wsklab.image.store import Image
from wsklab.network import Via
from wsklab.process import Child, spawn
from wsklab.profile import GuestProfile

_PORT = 2222


class RawMachine:
    """One booted guest.

    Args:
        profile: its processor, memory.
        image: its disk, kernel, command line.
        key: the lab's private key.
        place: an empty folder for overlay, console and sockets.
        cmdline: words added to the kernel's command line.
    """

    def __init__(self, profile: GuestProfile, image: Image, key: Path, place: Path, *, cmdline: str = "") -> None:
        self.image = image
        self.console = ConsoleLog(place / "console.log")
        self.agent = place / "agent.sock"
        self._key = key
        overlay = place / "overlay.qcow2"
        qemu_img.create_overlay(image.disk, overlay, Deadline.after(30))
        words = [
            "qemu-system-x86_64 -nodefaults -display none -machine q35 -accel tcg,thread=multi",
            f"-cpu {profile.cpu_model} -smp {profile.vcpus} -m {profile.memory_mib}",
            f"-kernel {image.kernel} -initrd {image.initrd} -append '{image.cmdline} {cmdline}'",
            f"-drive file={overlay},if=none,id=d,format=qcow2,cache=unsafe -device virtio-blk-pci,drive=d",
            f"-netdev user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{_PORT}-10.0.2.15:22 -device virtio-net-pci,netdev=n",
            "-device virtio-rng-pci -device virtio-serial-pci",
            f"-chardev socket,path={self.agent},server=on,wait=off,id=a",
            "-device virtserialport,chardev=a,name=org.qemu.guest_agent.0",
            f"-serial file:{place / 'console.log'} -monitor none",
        ]
        self.started = time.monotonic()
        self.process: Child = spawn(
            ["unshare", "-n", "sh", "-c", f"ip link set lo up && exec {' '.join(words)}"],
            stdout=place / "qemu.log",
            stderr=place / "qemu.log",
        )

    def channel(self, deadline: Deadline) -> SshChannel:
        """Log in as soon as the guest lets us."""

        def attempt() -> SshChannel | NotYet:
            try:
                via = Via(netns=Path(f"/proc/{self.process.pid}/ns/net"))
                return SshChannel.connect(
                    socket=network.connect(via, ("127.0.0.1", _PORT), deadline.sooner(2)),
                    user="Administrator",
                    key=self._key,
                    host_key=self.image.manifest.host_key,
                    deadline=deadline.sooner(5),
                )
            except LabError as error:
                return NotYet(f"{error.message}: {error.why}")

        return wait_until(attempt, deadline, what="the login", tick_s=0.05, growth=1.0)

    def says(self, pattern: str, deadline: Deadline) -> None:
        """Wait for a line on the console."""
        wait_until(
            lambda: True if self.console.contains(pattern) else NotYet(self.console.tail(3)), deadline, what=pattern
        )

    def memory_mib(self) -> int:
        """Memory of the QEMU process that is in RAM now, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) >> 10
