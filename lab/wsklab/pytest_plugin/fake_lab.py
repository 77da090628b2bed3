"""Guests that exist in memory only: a provider and a link for tests of everything above them.

Give `run_suite` a `FakeProvider` and `plugins=("wsklab.pytest_plugin.fake_lab",)`: the second makes every worker
connect to the model instead of opening SSH.
"""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from wsklab import network
from wsklab.channel.answers import NetEntry, NetTable
from wsklab.channel.protocol import CommandResult
from wsklab.channel.remote_sockets import RemoteSockets
from wsklab.deadline import Deadline
from wsklab.errors import BootError, ChannelLost, GuestCommandError, HostError, HostFull
from wsklab.lease_protocol import GuestHandle, KeptGuest
from wsklab.pytest_plugin.fake_driver import FakeDriver, Traits
from wsklab.pytest_plugin.links import GuestLink, Reload

__all__ = ["FakeExplanation", "FakeLink", "FakeProvider"]

#: The build that guests of the model claim; no report can be taken for one of a real guest.
BUILD = "model"


@dataclass(frozen=True, slots=True)
class FakeExplanation:
    """What the provider was told to say."""

    fault: str
    reason: str
    signals: Mapping[str, object] = field(default_factory=dict)
    cause: str = ""
    bucket: str = ""


class FakeProvider:
    """Guests that are ready at once.

    Args:
        kinds: the profiles and their kinds.
        baselines: files of known gaps, by profile.
        faults: `Traits.fault` by profile; "boot" is a guest that never becomes ready, "unkeepable" one that
            cannot be left to a user, "leftover" one that finds something at its end, "wires" guests on wires of
            their own, "full" a host without room for a second guest beside a kept one.
        explanation: what `explain` says.
    """

    def __init__(
        self,
        kinds: Mapping[str, str],
        *,
        baselines: Mapping[str, Path] | None = None,
        faults: Mapping[str, str] | None = None,
        explanation: FakeExplanation | None = None,
    ) -> None:
        self._kinds = dict(kinds)
        self._baselines = dict(baselines or {})
        self._faults = dict(faults or {})
        self._explanation = explanation or FakeExplanation("lab_error", "the model explains nothing")
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        #: names of the guests that were replaced, with the reasons
        self.replaced: list[tuple[str, str]] = []
        #: names of the guests that got no successor, with the reasons
        self.dropped: list[tuple[str, str]] = []
        #: profile and way of every guest that was asked for
        self.asked: list[tuple[str, str]] = []
        self.kept: list[KeptGuest] = []
        #: what `conclude` says
        self.final: FakeExplanation | None = None
        self.closed = False

    def provide(self, profile: str, *, boot: bool = False) -> GuestHandle:
        """A guest of the model."""
        self.asked.append((profile, "boot" if boot else "fork"))
        if profile not in self._kinds:
            raise HostError(f"there is no profile {profile}")
        if self._faults.get(profile) == "boot":
            raise BootError(f"{profile} never became ready", why="the model was told so", fix="look at its console")
        if self._faults.get(profile) == "full" and any(kept.profile == profile for kept in self.kept):
            raise HostFull("not enough memory for one more guest", why="the model was told so")
        with self._lock:
            number = next(self._numbers)
        kind = self._kinds[profile]
        wine = kind == "wine"
        return GuestHandle(
            name=f"{profile}-{number}",
            profile=profile,
            kind=kind,
            address="127.0.0.1",
            netns=Path(f"/nonexistent/{number}") if self._faults.get(profile) == "wires" else None,
            ssh_key=Path("/nonexistent"),
            driver_sha256="0" * 64,
            build=BUILD,
            os_version="a model in memory",
            slot=number,
            method="boot" if boot else "fork",
            facts={
                "irql_real": not wine,
                "event_callbacks": not wine,
                "provider_drops_irps": wine,
                "output_clamped": wine,
                "fake_fault": self._fault(profile, number),
            },
            baseline=self._baselines.get(profile),
        )

    def _fault(self, profile: str, number: int) -> str:
        """What is wrong with a guest: the fault of its profile, or of the first guest alone (`first:FAULT`)."""
        fault = self._faults.get(profile, "")
        first = fault.removeprefix("first:")
        return fault if first == fault else (first if number == 1 else "")

    def replace(self, handle: GuestHandle, reason: str, *, boot: bool = False) -> GuestHandle:
        """Another one."""
        self.replaced.append((handle.name, reason))
        return self.provide(handle.profile, boot=boot)

    def drop(self, handle: GuestHandle, reason: str) -> None:
        """Write down that it is gone."""
        self.dropped.append((handle.name, reason))

    def keep(self, handle: GuestHandle, why: str) -> KeptGuest:
        """Write down that it is the user's."""
        if self._faults.get(handle.profile) == "unkeepable":
            raise HostError(f"{handle.name} cannot be kept", why="the model was told so")
        kept = KeptGuest(
            name=handle.name,
            profile=handle.profile,
            kind=handle.kind,
            why=why,
            enter=f"wsklab ssh {handle.name}",
            expires="2026-11-23T16:00:00Z",
        )
        self.kept.append(kept)
        return kept

    def unkeep(self, kept: KeptGuest) -> None:
        """Write down that it is gone after all."""
        self.kept.remove(kept)

    def explain(self, name: str, *, operation: str, channel_lost: bool) -> FakeExplanation:  # noqa: ARG002 - protocol
        """What it was told to say."""
        return self._explanation

    def conclude(self, name: str, folder: Path) -> FakeExplanation | None:
        """Leave one file, so that a test sees where it went."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sources.txt").write_text(f"the model's guest {name}\n")
        return self.final

    def close(self) -> None:
        """Nothing to give back."""
        self.closed = True
        if "leftover" in self._faults.values():
            raise HostError("a guest found something left over at its end", why="the model was told so")


class FakeLink:
    """A link to a guest of the model."""

    host_address = "127.0.0.1"

    def __init__(self, handle: GuestHandle) -> None:
        wine = handle.kind == "wine"
        self._traits = Traits(
            pending_flag=not wine,
            categories=frozenset({1, 2}) if wine else Traits().categories,
            fault=str(handle.facts.get("fake_fault") or ""),
        )
        self._ports: dict[tuple[str, int], int] = {}
        self._devices: list[FakeDriver] = []

    def restart_driver(self) -> None:
        """The model's driver forgets everything."""
        for device in self._devices:
            device.close()
        self._devices.clear()
        self._ports.clear()

    def open_device(self, path: str, deadline: Deadline) -> FakeDriver:
        """A handle of the model."""
        del path, deadline
        made = FakeDriver(self._traits, self._ports)
        self._devices.append(made)
        return made

    def run(self, command: str, deadline: Deadline) -> CommandResult:
        """The model has no commands."""
        del deadline
        raise GuestCommandError("the model runs no commands", command=command, exit_code=1)

    def beside(self, command: str, deadline: Deadline) -> None:
        """The model is no process."""
        del deadline
        raise HostError("the model has no network", why=command)

    def reload(self, times: int, deadline: Deadline) -> tuple[Reload, ...]:
        """The model is loaded at once."""
        del deadline
        return (Reload(stop_s=0.0, start_s=0.0),) * times

    def net(self, deadline: Deadline) -> NetTable:
        """What the model listens on, and what is connected there."""
        del deadline
        rows = [("listening", end) for end in self._ports]
        rows += [("established", end) for end in self._ports if self._is_connected(end)]
        return NetTable(
            entries=tuple(
                NetEntry(protocol="tcp", family=4, state=state, local=end, remote=("127.0.0.1", 0), pid=4)
                for state, end in rows
            )
        )

    def _is_connected(self, end: tuple[str, int]) -> bool:
        real = self._ports[end]
        sockets = [own.real for device in self._devices for own in device.sockets.values() if own.connected]
        return any(one is not None and one.getsockname()[1] == real for one in sockets)

    def connect(self, port: int, deadline: Deadline) -> socket.socket:
        """A real loopback connection to the model's socket."""
        real = next((real for (_, own), real in self._ports.items() if own == port), None)
        if real is None:
            raise ChannelLost(f"cannot connect to port {port}", why="Connection refused") from ConnectionRefusedError()
        return socket.create_connection(("127.0.0.1", real), timeout=max(deadline.remaining_s, 0.01))

    def listen(self) -> socket.socket:
        """A real loopback listener."""
        return socket.create_server(("127.0.0.1", 0))

    def black_hole(self) -> tuple[socket.socket, socket.socket]:
        """A real one on loopback."""
        return network.black_hole(network.Via(), "127.0.0.1")

    def knock(self, port: int) -> Callable[[], None]:
        """The model has no half-open connections."""
        raise HostError(f"the model knows no half-open connections: port {port}")

    def bind_datagram(self) -> socket.socket:
        """A real loopback socket."""
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind(("127.0.0.1", 0))
        return bound

    def over_ipv6(self, deadline: Deadline) -> GuestLink:
        """The model has one address."""
        del deadline
        raise HostError("the model has no IPv6")

    def sockets(self, deadline: Deadline) -> RemoteSockets:
        """The model has no sockets but its driver's."""
        del deadline
        raise HostError("the model has no sockets")

    def close(self) -> None:
        """End the model's handles."""
        for device in self._devices:
            device.close()


def pytest_wsklab_link(config: pytest.Config, handle: GuestHandle, scale: float) -> GuestLink:  # noqa: ARG001 - hook
    """See `hooks.pytest_wsklab_link`."""
    link: GuestLink = FakeLink(handle)
    return link
