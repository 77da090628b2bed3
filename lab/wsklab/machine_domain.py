"""What stands where other guests have a domain, for a machine that no hypervisor of the lab runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from wsklab.deadline import Deadline
from wsklab.domain_mark import DomainMetadata
from wsklab.errors import HypervisorError
from wsklab.hypervisor.protocol import DomainState
from wsklab.machine_claim import MachineClaim

__all__ = ["NoDomain"]


class NoDomain:
    """The claim, and a plain no to everything that needs a hypervisor."""

    def __init__(self, name: str, identity: str, claim: MachineClaim) -> None:
        self.name = name
        self.uuid = identity
        self._claim = claim

    def _no(self, what: str) -> NoReturn:
        raise HypervisorError(
            f"{self.name} is a static machine: {what}",
            why="no hypervisor of the lab runs it",
            fix="see docs/machines.md",
        )

    def start(self, *, paused: bool = False) -> None:
        del paused
        self._no("the lab cannot start it but by its power commands")

    def resume(self) -> None:
        self._no("it cannot be resumed")

    def suspend(self) -> None:
        self._no("it cannot be paused")

    def shutdown(self) -> None:
        self._no("it is not shut down by the lab")

    def destroy(self) -> None:
        self._no("it is not switched off by the lab")

    def undefine(self) -> None:
        self._no("there is nothing to forget")

    def state(self) -> DomainState:
        """Nobody says: absence of news is not death."""
        return DomainState.UNKNOWN

    def metadata(self) -> DomainMetadata | None:
        held = self._claim.current()
        return held.metadata if held is not None else None

    def set_metadata(self, metadata: DomainMetadata) -> None:
        held = self._claim.current()
        if held is None:
            self._no("nobody has it")
        self._claim.take(dataclasses.replace(held, metadata=metadata))

    def xml(self) -> str:
        self._no("it has no definition")

    def vcpu_time_ns(self) -> int:
        self._no("its processors are not counted")

    def agent_command(self, command: Mapping[str, object], deadline: Deadline) -> Mapping[str, object]:
        del command, deadline
        self._no("it has no guest agent")

    def screenshot(self) -> bytes:
        self._no("the lab does not see its screen")

    def dump_memory(self, target: Path, deadline: Deadline, *, windows: bool) -> None:
        del target, deadline, windows
        self._no("the host cannot read its memory")

    def open_serial(self, port: int) -> NoReturn:
        self._no(f"the lab has no line to its serial port {port}")

    def inject_nmi(self) -> None:
        self._no("it gets no NMI")

    def send_keys(self, codes: Sequence[int]) -> None:
        del codes
        self._no("it has no keyboard here")

    def freeze(self, state: Path, deadline: Deadline) -> None:
        del state, deadline
        self._no("it cannot be frozen")

    def thaw(self, state: Path, deadline: Deadline) -> None:
        del state, deadline
        self._no("it cannot be thawed")

    def set_link(self, mac: str, *, up: bool) -> None:
        del mac, up
        self._no("the lab cannot reach its cable")
