"""The QEMU guest agent: a few commands with typed answers, and the second way into a guest when SSH is gone.

Whatever it answers is the guest's and is checked.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from wsklab.channel.protocol import CommandResult
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import ChannelProtocolError, GuestCommandError, HypervisorError

__all__ = ["AgentChannel", "AgentResult", "GuestAgent"]

#: Sends one command and returns {"return": ...}: `Domain.agent_command`.
Send = Callable[[Mapping[str, object], Deadline], Mapping[str, object]]

# Of a program's output so much is kept.
_OUTPUT_MAX: Final = 1 << 16
# A file is read in pieces of so many bytes.
_PIECE: Final = 1 << 17


@dataclass(frozen=True, slots=True)
class AgentResult:
    """What a program in the guest did."""

    exit_code: int
    stdout: str
    stderr: str


class GuestAgent:
    """The agent of one guest."""

    def __init__(self, send: Send) -> None:
        self._send = send

    def wait(self, deadline: Deadline) -> None:
        """Wait until it answers.

        Raises:
            DeadlineExceeded: it never did; says what the hypervisor said last.
        """

        def answers() -> bool | NotYet:
            try:
                self._send({"execute": "guest-ping"}, deadline.sooner(2.0))
            except HypervisorError as error:
                return NotYet(error.why or error.message)
            return True

        wait_until(answers, deadline, what="the guest agent", tick_s=0.002)

    def offset_s(self, deadline: Deadline) -> float:
        """How far the guest's clock is behind the host's, in seconds; the question's own time is halved out."""
        before = time.time()
        answer = self._ask("guest-get-time", {}, deadline)
        after = time.time()
        if not isinstance(answer, int):
            raise ChannelProtocolError("the guest agent told no time", why=repr(answer)[:200])
        return (before + after) / 2 - answer / 1e9

    def run(
        self, path: str, arguments: Sequence[str], deadline: Deadline, *, standard_input: bytes = b""
    ) -> AgentResult:
        """Run a program in the guest to its end.

        Raises:
            GuestCommandError: it ended with another code than 0. DeadlineExceeded: it did not end.
            ChannelProtocolError: the agent answered nonsense. HypervisorError: the agent is gone.
        """
        started = self._ask(
            "guest-exec",
            {
                "path": path,
                "arg": list(arguments),
                "input-data": base64.b64encode(standard_input).decode(),
                "capture-output": True,
            },
            deadline,
        )
        number = started.get("pid") if isinstance(started, dict) else None
        if not isinstance(number, int):
            raise ChannelProtocolError("the guest agent started no program", why=repr(started)[:200])

        def ended() -> Mapping[str, Any] | NotYet:
            status = self._ask("guest-exec-status", {"pid": number}, deadline)
            if not isinstance(status, dict):
                raise ChannelProtocolError("the guest agent told no status", why=repr(status)[:200])
            return status if status.get("exited") is True else NotYet(f"{path} runs")

        status = wait_until(ended, deadline, what=f"{path} in the guest", tick_s=0.01, growth=1.1)
        code = status.get("exitcode")
        result = AgentResult(
            exit_code=code if isinstance(code, int) else -1,
            stdout=_text(status.get("out-data")),
            stderr=_text(status.get("err-data")),
        )
        if result.exit_code != 0:
            raise GuestCommandError(
                f"{path} failed in the guest with code {result.exit_code}",
                command=" ".join((path, *arguments))[:400],
                exit_code=result.exit_code,
                stdout=result.stdout,
                stderr=result.stderr,
            )
        return result

    def read_file(self, path: str, deadline: Deadline, *, limit: int, end: bool = False) -> bytes:
        """The beginning of a file of the guest.

        No program is started in the guest, which takes an emulated one a tenth of a second.

        Args:
            limit: the most bytes that are wanted.
            end: the last ones, not the first.

        Raises:
            GuestCommandError: the guest does not open it. HypervisorError: the agent is gone.
            ChannelProtocolError: the agent answered nonsense. DeadlineExceeded: it took too long.
        """
        try:
            handle = self._ask("guest-file-open", {"path": path, "mode": "r"}, deadline)
        except HypervisorError as error:
            self._ask("guest-ping", {}, deadline)  # who is silent has refused nothing
            why = error.why
            raise GuestCommandError(f"the guest does not open {path}", command=path, exit_code=None, why=why) from error
        if not isinstance(handle, int):
            raise ChannelProtocolError("the guest agent opened no file", why=repr(handle)[:200])
        content = bytearray()
        try:
            if end:
                self._seek(handle, max(self._seek(handle, 0, 2, deadline) - limit, 0), 0, deadline)
            while len(content) < limit:
                piece = self._read_piece(handle, min(_PIECE, limit - len(content)), deadline)
                if not piece:
                    break
                content += piece
                if deadline.expired:
                    raise deadline.exceeded(f"{path} of the guest", last=f"{len(content)} bytes came")
        finally:
            with contextlib.suppress(HypervisorError):
                self._ask("guest-file-close", {"handle": handle}, deadline)
        return bytes(content)

    def _seek(self, handle: int, offset: int, whence: int, deadline: Deadline) -> int:
        """Move to an offset from the beginning (`whence` 0) or the end (2) of an open file; where that is."""
        answer = self._ask("guest-file-seek", {"handle": handle, "offset": offset, "whence": whence}, deadline)
        position = answer.get("position") if isinstance(answer, dict) else None
        if not isinstance(position, int):
            raise ChannelProtocolError("the guest agent is nowhere in a file", why=repr(answer)[:200])
        return position

    def _read_piece(self, handle: int, count: int, deadline: Deadline) -> bytes:
        """The next bytes of an open file; none at its end."""
        answer = self._ask("guest-file-read", {"handle": handle, "count": count}, deadline)
        try:
            return base64.b64decode(answer["buf-b64"], validate=True)[:count]
        except (KeyError, TypeError, ValueError) as error:
            raise ChannelProtocolError("the guest agent read nothing that makes sense", why=repr(error)) from error

    def _ask(self, command: str, arguments: Mapping[str, object], deadline: Deadline) -> Any:
        return self._send({"execute": command, "arguments": dict(arguments)}, deadline)["return"]


class AgentChannel:
    """Commands over the agent, as typed at the guest's prompt: for looking at a guest that SSH does not reach.

    Args:
        agent: the guest's.
        kind: `wine` or `windows`: who reads a command line there.
    """

    def __init__(self, agent: GuestAgent, kind: str) -> None:
        self._agent = agent
        self._shell = ("/usr/local/bin/wsklab-login", "-c") if kind == "wine" else ("cmd.exe", "/s", "/c")

    def run(self, command: str, deadline: Deadline, *, check: bool = True) -> CommandResult:
        """See `Channel.run`; of the output 64 KiB are kept.

        Raises:
            HypervisorError: the agent is gone; else as `Channel.run`.
        """
        program, *switches = self._shell
        try:
            ended = self._agent.run(program, [*switches, command], deadline)
        except GuestCommandError as error:
            if check:
                raise
            code = error.exit_code if error.exit_code is not None else -1
            return CommandResult(command=command, exit_code=code, stdout=error.stdout, stderr=error.stderr)
        return CommandResult(command=command, exit_code=0, stdout=ended.stdout, stderr=ended.stderr)


def _text(data: object) -> str:
    if not isinstance(data, str):
        return ""
    try:
        return base64.b64decode(data[: _OUTPUT_MAX // 3 * 4], validate=True)[:_OUTPUT_MAX].decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""
