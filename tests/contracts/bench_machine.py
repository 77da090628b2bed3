"""A machine that no hypervisor of the lab knows: QEMU by a script, with a wine image, on a tap in a namespace.

The script is what a user's power switch would be; it writes down what it was asked for. The lab's commands run in the
same network namespace, where the machine has an address and nothing else is.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path

from lab_home import LabCommand

from wsklab.deadline import Deadline
from wsklab.domain_xml import NO_TIMER_CHECK
from wsklab.image.store import Image
from wsklab.network import guest_cmdline
from wsklab.process import run
from wsklab.profile import GuestProfile

ADDRESS = "192.168.78.2"
_HOST = "192.168.78.1"

_SWITCH = """\
#!/bin/sh
# switch on|off|cycle
cd {place} || exit 1
echo "$1" >>switch.log
alive() {{ [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }}
off() {{
    touch off
    while alive machine.pid; do alive qemu.pid && kill -9 "$(cat qemu.pid)"; sleep 0.1; done
}}
on() {{
    alive machine.pid && return
    rm -f off qemu.pid
    setsid nsenter --net={netns} ./machine >qemu.log 2>&1 </dev/null &
    until alive qemu.pid; do sleep 0.1; done
}}
case $1 in
on) on ;;
off) off ;;
cycle) off; on ;;
*) echo "switch: no such state: $1" >&2; exit 2 ;;
esac
"""


def _copy_with_journal(image: Path, disk: Path) -> None:
    """The image as a machine's own disk, which has a journal: the power is cut, and the images of guests that are
    thrown away have none. Where the host's cache survives, what was written before the cut is on the disk."""
    tools = ("qemu-img", "convert", "-O", "raw", str(image), str(disk)), ("tune2fs", "-O", "has_journal", str(disk))
    for argv in tools:
        run(argv, deadline=Deadline.after(120))


# A restart is a new QEMU: in an old one, a kernel that is unpacked where code was translated before takes minutes of
# processor time (QEMU 7.2, TCG).
_MACHINE = """\
#!/bin/sh
echo $$ >machine.pid
while [ ! -e off ]; do {qemu} -no-reboot -pidfile qemu.pid; done
"""


class BenchMachine:
    """The machine, off until somebody switches it on; a context manager that leaves nothing.

    Args:
        place: an empty folder for its disk, its console and the switch.
    """

    def __init__(self, profile: GuestProfile, image: Image, place: Path) -> None:
        self.place = place
        self.switch = place / "switch"
        self._holder = subprocess.Popen(["unshare", "-n", "cat"], stdin=subprocess.PIPE)
        own = Path("/proc/self/ns/net").readlink()
        self.netns = Path(f"/proc/{self._holder.pid}/ns/net")
        deadline = Deadline.after(10)
        while self.netns.readlink() == own:
            assert not deadline.expired
        for command in (
            "ip link set lo up",
            "ip tuntap add tap0 mode tap",
            f"ip address add {_HOST}/24 dev tap0",
            "ip link set tap0 up",
        ):
            subprocess.run([*self.inside, *command.split()], check=True, capture_output=True, timeout=20)
        disk = place / "disk.img"
        _copy_with_journal(image.disk, disk)
        qemu = (
            "qemu-system-x86_64 -nodefaults -display none -machine q35 -accel tcg,thread=multi "
            f"-cpu {profile.cpu_model} -smp 1 -m {profile.memory_mib} -kernel {image.kernel} -initrd {image.initrd} "
            f"-append {shlex.quote(f'{image.cmdline} {NO_TIMER_CHECK} {guest_cmdline(ADDRESS)}')} "
            f"-drive file={disk},if=none,id=d,format=raw,cache=unsafe -device virtio-blk-pci,drive=d "
            "-netdev tap,id=n,ifname=tap0,script=no,downscript=no -device virtio-net-pci,netdev=n "
            f"-device virtio-rng-pci -serial file:{place / 'console.log'} -monitor none"
        )
        self.switch.write_text(_SWITCH.format(place=place, netns=self.netns))
        (place / "machine").write_text(_MACHINE.format(qemu=qemu))
        for script in (self.switch, place / "machine"):
            script.chmod(0o755)

    @property
    def inside(self) -> list[str]:
        """What runs a command where the machine can be reached."""
        return ["nsenter", f"--net={self.netns}"]

    @property
    def pid(self) -> int | None:
        """Its process, when it is on."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.place / "qemu.pid").read_text())
            os.kill(pid, 0)
            return pid
        return None

    @property
    def switched(self) -> list[str]:
        """What the switch was asked for."""
        log = self.place / "switch.log"
        return log.read_text().split() if log.exists() else []

    def __enter__(self) -> BenchMachine:
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run([self.switch, "off"], check=True, timeout=20)
        assert self._holder.stdin is not None
        self._holder.stdin.close()
        self._holder.wait(10)
        shutil.rmtree(self.place)


class BenchCommand(LabCommand):
    """`wsklab` in the namespace of the machine."""

    def __init__(self, home: Path, folder: Path, machine: BenchMachine) -> None:
        super().__init__(home, folder)
        self._machine = machine

    def argv(self, *words: str) -> list[str]:
        """The command line."""
        return [*self._machine.inside, *super().argv(*words)]
