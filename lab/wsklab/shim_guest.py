r"""A guest of kind shim: one process of the host, which is the kernel, the services and the logins of the guest.

No machine, no image: it starts in milliseconds. Its folder has its drive `C:\`, the UNIX socket of its logins and its
console, which is the process' standard error. With root's rights it gets a network of its own, and a wire to the
lab's end of it, with the two addresses that every private wire has; else it lives on the host's loopback, at an
address that no other guest has.

The process ends when the lab does, whatever the lab died of: it holds one end of a pipe.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

from wsklab import network
from wsklab.channel.shim import ShimChannel
from wsklab.console import ConsoleLog
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import BootError, ChannelLost, DeadlineExceeded
from wsklab.process import Child, spawn
from wsklab.toolchain import ShimBuild

__all__ = ["ShimGuest", "has_own_networks"]

#: What every sanitizer does on a finding: a stack, and the end of the process, which is the guest's.
_SANITIZERS: Final = {
    "ASAN_OPTIONS": "abort_on_error=1:detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "abort_on_error=1:print_stacktrace=1",
}
_END_S: Final = 20.0


def has_own_networks() -> bool:
    """Whether guests get networks of their own here: that takes root's rights, in `setns` too."""
    return os.geteuid() == 0


class ShimGuest:
    """One shim guest that runs. Made by `start`.

    Attributes:
        name: unique among the guests of a run.
        profile: its profile.
        folder: all its files.
        address: its own address.
        host_address: where it reaches its peers.
        via: from where its address is reached.
        console: what it prints.
    """

    def __init__(
        self,
        *,
        name: str,
        profile: str,
        folder: Path,
        child: Child,
        lifeline: int,
        wire: network.ProcessWire | None,
        place: int,
    ) -> None:
        """Use `start`."""
        via = wire.via if wire else network.Via()
        self.name = name
        self.profile = profile
        self.folder = folder
        self.via = via
        self._wire = wire
        self.console = ConsoleLog(folder / "console.log")
        self.address = _address(via, place, 2)
        self.host_address = _address(via, place, 1)
        self._child = child
        self._lifeline: int | None = lifeline

    @classmethod
    def start(
        cls,
        build: ShimBuild,
        *,
        name: str,
        profile: str,
        folder: Path,
        place: int,
        os_build: int,
        deadline: Deadline,
    ) -> ShimGuest:
        """Start the process and see it serve logins.

        Args:
            folder: made here; nothing is in it yet.
            place: a number from 0 to 16383 that no other shim guest of this host has: its addresses on the loopback.
            os_build: the build of Windows that it says it is.

        Raises:
            BootError: it ended, or does not serve in time; the console's end is in the evidence.
        """
        (folder / "drive" / "wsklab").mkdir(parents=True)
        reading, writing = os.pipe()
        wire = network.ProcessWire() if has_own_networks() else None
        via = wire.via if wire else network.Via()
        try:
            child = spawn(
                (
                    *(("unshare", "--net", "--") if wire else ()),
                    *(build.program, "listen", "--socket", "control", "--root", "drive"),
                    *("--lifeline", str(reading), "--os-build", str(os_build)),
                ),
                stderr=folder / "console.log",
                cwd=folder,
                env={**_SANITIZERS, "WSKLAB_SHIM_ADDRESS": _address(via, place, 2)},
                pass_fds=(reading,),
            )
        except BaseException:
            os.close(writing)
            if wire:
                wire.close()
            raise
        finally:
            os.close(reading)
        guest = cls(name=name, profile=profile, folder=folder, child=child, lifeline=writing, wire=wire, place=place)
        try:
            guest._bring_up(deadline)
        except BaseException:
            guest.kill()
            raise
        return guest

    @property
    def control(self) -> Path:
        """The socket of its logins."""
        return self.folder / "control"

    @property
    def drive(self) -> Path:
        r"""The folder that is its drive `C:\`."""
        return self.folder / "drive"

    @property
    def own_netns(self) -> Path | None:
        """Its own network namespace; None where it lives in the host's."""
        return Path(f"/proc/{self._child.pid}/ns/net") if self._wire else None

    @property
    def exit_code(self) -> int | None:
        """How its process ended (negative: the signal); None while it runs."""
        return self._child.poll()

    def open_channel(self) -> ShimChannel:
        """A path into it."""
        return ShimChannel(self.control, self.drive)

    def stop(self) -> int:
        """Power it off: everything is closed, drivers are unloaded, and the shim looks for what is left over.

        Returns:
            its exit code: 0 when nothing was.
        """
        self._let_go()
        return self._child.terminate(Deadline.after(_END_S))

    def kill(self) -> None:
        """End it at once."""
        self._let_go()
        self._child.terminate(Deadline.after(0.01))

    def remove(self) -> None:
        """Delete its files."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _let_go(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        if self._wire is not None:
            self._wire.close()

    def _bring_up(self, deadline: Deadline) -> None:
        try:
            if self._wire is not None:
                self._plug(self._wire, deadline)
            wait_until(self._serves, deadline, what=f"logins of {self.name}", tick_s=0.01)
        except DeadlineExceeded as error:
            raise self._never_ready(error.last or error.message) from error

    def _plug(self, wire: network.ProcessWire, deadline: Deadline) -> None:
        """Its end of the wire, as soon as it has a network of its own."""
        own = Path("/proc/self/ns/net").readlink()
        netns = Path(f"/proc/{self._child.pid}/ns/net")

        def separate() -> bool | NotYet:
            with contextlib.suppress(OSError):
                return True if netns.readlink() != own else NotYet("it is in the host's network")
            raise self._never_ready("its process ended")

        wait_until(separate, deadline, what=f"the network of {self.name}", tick_s=0.002)
        wire.plug(self._child.pid, deadline)

    def _serves(self) -> bool | NotYet:
        if self.exit_code is not None:
            raise self._never_ready(f"its process ended with {self.exit_code}")
        if not self.control.exists():
            return NotYet("no socket yet")
        try:
            with self.open_channel() as channel:
                channel.run("ver", Deadline.after(5.0))
        except ChannelLost as error:
            return NotYet(error.why or error.message)
        return True

    def _never_ready(self, why: str) -> BootError:
        return BootError(
            f"guest {self.name} did not become ready: {why}",
            why=self.console.tail(5) or "it printed nothing",
            fix=f"the console's end is in the evidence; the whole log: {self.console.path}",
            evidence={"console": self.console.tail()},
        )


def _address(via: network.Via, place: int, end: int) -> str:
    """One end of a guest's wire: of its own network, or an address of the host's loopback."""
    if via.netns is not None:
        return network.WIRE_GUEST if end == 2 else network.WIRE_HOST
    return f"127.{64 + place // 256}.{place % 256}.{end}"
