"""Two hundred ordinary cases; five of them crash where the run is told so (`CRASHES=5`), each in its own way."""

from __future__ import annotations

import os

import pytest

from wsklab.abi import Function, Switch
from wsklab.channel.operations import Operation
from wsklab.pytest_plugin import Observe, Scene
from wsklab.pytest_plugin.matchers import completed_once

_COUNT = 200
_WAYS = (
    Function.FAIL_NULL,
    Function.FAIL_USE_AFTER_FREE,
    Function.FAIL_DOUBLE_COMPLETION,
    Function.FAIL_STACK_OVERRUN,
    Function.FAIL_BUGCHECK,
)
_STEP = _COUNT // len(_WAYS)


@pytest.mark.rule("WSK-IRP-001")
@pytest.mark.parametrize("number", range(_COUNT))
def test_life(scene: Scene, observe: Observe, number: int) -> None:
    """A listener, a connection, a byte each way, the end; or the driver's."""
    way, is_one = divmod(number, _STEP)
    if is_one == _STEP // 2 and way < int(os.environ.get("CRASHES", "0")):
        scene.wsk.run(Operation(function=_WAYS[way], switches=Switch.HAZARD, flags=0xE2))
    rule = observe.rule("WSK-IRP-001")
    listener = scene.listener(rule)
    pair = scene.accepted(rule, listener)
    pair.peer.send(b"x")
    rule.must("receive", scene.wsk.receive(pair.socket, 1).result(scene.within()), completed_once())
    rule.must("send", scene.wsk.send(pair.socket, b"y"), completed_once())
