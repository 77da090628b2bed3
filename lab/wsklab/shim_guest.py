r"""A guest of kind shim: one process of the host, which is the kernel, the services and the logins of the guest.

No machine, no image: it starts in milliseconds. Its folder has its drive `C:\`, the UNIX socket of its logins and its
console, which is the process' standard error. With root's rights it gets a network of its own, with the two addresses
that every private wire has; else it lives on the host's loopback, at an address that no other guest has.

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
from wsklab.errors import BootError, ChannelLost, DeadlineExceeded, HostCommandError
from wsklab.process import Child, run, spawn
from wsklab.toolchain import ShimBuild

__all__ = ["ShimGuest", "has_own_networks"]

#: What every sanitizer does on a finding: a stack, and the end of the process, which is the guest's.
_SANITIZERS: Final = {
    "ASAN_OPTIONS": "abort_on_error=1:detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "abort_on_error=1:print_stacktrace=1",
}
_NETWORK_S: Final = 10.0
_END_S: Final = 20.0
#: An unanswered connect ends after 15 s; Windows gives up after 21 s, an ordinary Linux after 127 s.
_SYN_RETRIES: Final = "3\n"


def has_own_networks() -> bool:
    """Whether guests get networks of their own here: that takes root's rights, in `setns` too."""
    return os.geteuid() == 0


class ShimGuest:
    """One shim guest that runs. Made by `start`.

    Attributes:
        name: unique among the guests of a run.
        folder: all its files.
        address: its own address.
        host_address: where it reaches its peers.
        via: from where its address is reached.
        console: what it prints.
    """

    def __init__(self, *, name: str, folder: Path, child: Child, lifeline: int, via: network.Via, place: int) -> None:
        """Use `start`."""
        self.name = name
        self.folder = folder
        self.via = via
        self.console = ConsoleLog(folder / "console.log")
        self.address = _address(via, place, 2)
        self.host_address = _address(via, place, 1)
        self._child = child
        self._lifeline: int | None = lifeline

    @classmethod
    def start(
        cls, build: ShimBuild, *, name: str, folder: Path, place: int, os_build: int, deadline: Deadline
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
        own = has_own_networks()
        via = network.Via()
        try:
            child = spawn(
                (
                    *(("unshare", "--net", "--") if own else ()),
                    *(build.program, "listen", "--socket", "control", "--root", "drive"),
                    *("--lifeline", str(reading), "--os-build", str(os_build)),
                ),
                stderr=folder / "console.log",
                cwd=folder,
                env={**_SANITIZERS, "WSKLAB_SHIM_ADDRESS": _address(network.Via(Path()) if own else via, place, 2)},
                pass_fds=(reading,),
            )
        except BaseException:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        if own:
            via = network.Via(Path(f"/proc/{child.pid}/ns/net"))
        guest = cls(name=name, folder=folder, child=child, lifeline=writing, via=via, place=place)
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

    def _bring_up(self, deadline: Deadline) -> None:
        try:
            if self.via.netns is not None:
                self._make_network(self.via.netns, deadline)
            wait_until(self._serves, deadline, what=f"logins of {self.name}", tick_s=0.01)
        except DeadlineExceeded as error:
            raise self._never_ready(error.last or error.message) from error

    def _make_network(self, netns: Path, deadline: Deadline) -> None:
        """The loopback of its namespace, with both addresses of a wire on it."""
        own = Path("/proc/self/ns/net").readlink()

        def separate() -> bool | NotYet:
            with contextlib.suppress(OSError):
                return True if netns.readlink() != own else NotYet("it is in the host's network")
            raise self._never_ready("its process ended")

        wait_until(separate, deadline, what=f"the network of {self.name}", tick_s=0.002)
        lines = [
            "link set dev lo up",
            f"address add {self.address}/32 dev lo",
            f"address add {self.host_address}/32 dev lo",
        ]
        network.inside(
            self.via,
            lambda: run(("ip", "-batch", "-"), deadline=deadline.sooner(_NETWORK_S), input="\n".join(lines) + "\n"),
        )
        # a host that keeps its /proc/sys to itself is no error: a connect that nobody answers then takes two minutes
        with contextlib.suppress(HostCommandError):
            retries = ("tee", "/proc/sys/net/ipv4/tcp_syn_retries")
            network.inside(self.via, lambda: run(retries, deadline=deadline.sooner(_NETWORK_S), input=_SYN_RETRIES))

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
