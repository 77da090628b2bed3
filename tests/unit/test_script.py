"""Scripts for event callbacks: what is sent, what comes back."""

from __future__ import annotations

from wsklab import abi
from wsklab.abi import Action, Callback, Dispatch
from wsklab.channel.script import FOR_EVER, Answer, ScriptEnd, encode_script


def test_a_script_is_its_head_and_its_answers() -> None:
    """Fact: socket, callback and count, then one WSKLAB_ANSWER per answer, in order."""
    answers = (
        Answer.take_some(10, then_op=9),
        Answer.keep(7, uses=3),
        Answer.take(uses=FOR_EVER, dispatch=Dispatch.FULL),
    )
    request = encode_script(4, Callback.RECEIVE, answers)
    head = abi.SCRIPT.unpack(request)
    assert (head["socket"], head["callback"], head["count"]) == (4, Callback.RECEIVE, 3)
    sent = [abi.ANSWER.unpack(request, abi.SCRIPT.size + index * abi.ANSWER.size) for index in range(3)]
    assert [one["action"] for one in sent] == [Action.TAKE_SOME, Action.KEEP, Action.TAKE]
    assert (sent[0]["length"], sent[0]["then_op"], sent[0]["uses"]) == (10, 9, 1)
    assert (sent[1]["number"], sent[1]["uses"]) == (7, 3)
    assert (sent[2]["uses"], sent[2]["dispatch"]) == (0, Dispatch.FULL)
    assert len(request) == abi.SCRIPT.size + 3 * abi.ANSWER.size


def test_the_end_of_a_script_tells_what_was_left() -> None:
    """Fact: an endless answer is None, not a number."""
    assert ScriptEnd.decode(abi.SCRIPT_RESULT.pack(used=2, left=3)) == ScriptEnd(used=2, left=3)
    assert ScriptEnd.decode(abi.SCRIPT_RESULT.pack(used=2, left=(1 << 64) - 1)).left is None
