"""What the driver's event callbacks answer: scripts, given before the event comes.

Example::

    client.script(listener, Callback.ACCEPT, Answer.take(number=50, uses=3, dispatch=Dispatch.FULL))
    client.script(50, Callback.RECEIVE, Answer.take_some(10), Answer.keep(number=7), Answer.take(uses=0))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wsklab import abi
from wsklab.abi import Action, Callback, Dispatch

__all__ = ["FOR_EVER", "Answer", "ScriptEnd", "encode_script"]

#: `uses` of an answer that never is used up.
FOR_EVER = 0
_ENDLESS = 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer of a script.

    Attributes:
        action: what is answered; the class methods choose it.
        uses: how many callbacks it answers; `FOR_EVER` (0) from here on all.
        number: of the accepted socket, or of the object that a kept indication becomes; the next use takes the next.
        then_op: a held operation (`Switch.HELD`) that the first use starts inside the callback, on the same socket or
            another; one that disables an event is not started.
        length: how many bytes of the data `take_some` accepts.
        socket_context: context of the accepted socket; the next use takes the next number.
        dispatch: the accepted socket's callbacks; with `Dispatch.MASK` those of `dispatch_mask`.
        hold_ms: keep the callback busy for so long before it answers (at most 50; it never waits).
    """

    action: Action = Action.DEFAULT
    uses: int = 1
    number: int = 0
    then_op: int = 0
    length: int = 0
    socket_context: int = 0
    dispatch: Dispatch = Dispatch.NULL
    dispatch_mask: int = 0
    hold_ms: int = 0

    @classmethod
    def default(cls, **more: Any) -> Answer:
        """As without a script: refuse, or STATUS_SUCCESS where there is nothing to refuse."""
        return cls(action=Action.DEFAULT, **more)

    @classmethod
    def take(cls, **more: Any) -> Answer:
        """Accept the connection (with `number`), the inspection, all data, all datagrams."""
        return cls(action=Action.TAKE, **more)

    @classmethod
    def take_some(cls, count: int, **more: Any) -> Answer:
        """Accept `count` bytes of the indicated data (WSK-DATA-014)."""
        return cls(action=Action.TAKE_SOME, length=count, **more)

    @classmethod
    def keep(cls, number: int, **more: Any) -> Answer:
        """STATUS_PENDING: the indication becomes the object of that number (WSK-DATA-015, WSK-DGRAM-010)."""
        return cls(action=Action.KEEP, number=number, **more)

    @classmethod
    def refuse(cls, **more: Any) -> Answer:
        """STATUS_REQUEST_NOT_ACCEPTED, reject, or STATUS_DATA_NOT_ACCEPTED."""
        return cls(action=Action.REFUSE, **more)

    @classmethod
    def pend(cls, **more: Any) -> Answer:
        """Decide the inspection later, with WskInspectComplete (WSK-INS-005)."""
        return cls(action=Action.PEND, **more)

    def encode(self) -> bytes:
        """A WSKLAB_ANSWER."""
        return abi.ANSWER.pack(
            action=self.action,
            uses=self.uses,
            number=self.number,
            then_op=self.then_op,
            length=self.length,
            socket_context=self.socket_context,
            dispatch_mask=self.dispatch_mask,
            hold_ms=self.hold_ms,
            dispatch=self.dispatch,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptEnd:
    """About the script that was replaced: callbacks that it answered, and uses that were left (None: endless)."""

    used: int
    left: int | None

    @classmethod
    def decode(cls, answer: bytes) -> ScriptEnd:
        """From the answer of SCRIPT."""
        raw = abi.SCRIPT_RESULT.unpack(answer)
        return cls(used=raw["used"], left=None if raw["left"] == _ENDLESS else raw["left"])


def encode_script(socket: int, callback: Callback, answers: Sequence[Answer]) -> bytes:
    """The SCRIPT request."""
    head = abi.SCRIPT.pack(header=abi.SCRIPT.header(), socket=socket, callback=callback, count=len(answers))
    return head + b"".join(answer.encode() for answer in answers)
